"""What callbacks tell of numbers and portfolios."""

from __future__ import annotations

from kaanha.whatsapp.cloud_api.events import NumberUpdate, Parsed
from kaanha.whatsapp.cloud_api.limits import UNLIMITED
from kaanha.whatsapp.models import PhoneNumber, Portfolio

UPGRADED = 1_000  # messages per second after THROUGHPUT_UPGRADE; Cloud API, "Throughput"


def apply_updates(facts: Parsed, *, app: int) -> None:
    """Write down new throughput and messaging limits, for accounts of this app only."""
    for update in facts.number_updates:
        if update.limit is not None:
            _limit(update, app=app)
        if update.event == "THROUGHPUT_UPGRADE":
            numbers = PhoneNumber.objects.filter(account__waba_id=update.waba_id, account__app=app)
            for number in numbers:
                if "".join(filter(str.isdigit, number.display_number)) == update.display_number:
                    PhoneNumber.objects.filter(pk=number.pk).update(throughput=UPGRADED)


def _limit(update: NumberUpdate, *, app: int) -> None:
    limit = None if update.limit == UNLIMITED else update.limit
    portfolios = Portfolio.objects.filter(accounts__waba_id=update.waba_id, accounts__app=app)
    Portfolio.objects.filter(pk__in=portfolios.values("pk")).update(messaging_limit=limit)
