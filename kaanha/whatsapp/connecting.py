"""Connecting an organization with its WhatsApp account and numbers: ask Meta first, then write, all or nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import IntegrityError, transaction

from kaanha.lib.errors import Refusal
from kaanha.organizations import audit
from kaanha.organizations.models import Organization
from kaanha.whatsapp.asking import asking, graph
from kaanha.whatsapp.cloud_api.graph import ForeignAnswer, Graph, GraphError
from kaanha.whatsapp.cloud_api.limits import THROUGHPUT, UNLIMITED, messaging_limit
from kaanha.whatsapp.cloud_api.text import clean
from kaanha.whatsapp.models import BusinessAccount, MetaApp, PhoneNumber, Portfolio

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
MISSING_ENDPOINT = (404, 405, 501)
LONGEST = 256  # characters of an app secret or a verify token; Meta's own are far shorter
HIGHEST_THROUGHPUT = 1000  # Cloud API, "Throughput"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What Meta gave for one account of one app."""

    waba_id: str
    access_token: str = field(repr=False)
    app_id: str
    app_secret: str = field(repr=False)
    verify_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name, value in (("WABA id", self.waba_id), ("app id", self.app_id)):
            if not ID.fullmatch(value):
                raise Refusal(f"{value!r} is no {name}: it has digits only. Copy it from the app's dashboard at Meta.")
        for name, value in (("access token", self.access_token), ("app secret", self.app_secret)):
            if not value or not value.isascii() or not value.isprintable() or " " in value:
                raise Refusal(f"The {name} is empty or holds characters that none has. Copy it again from Meta.")
        for name, value in (("app secret", self.app_secret), ("verify token", self.verify_token or "")):
            if len(value) > LONGEST:
                raise Refusal(f"The {name} has {len(value):,} characters: more than {LONGEST} can't be right.")


@dataclass(slots=True)
class Found:
    """What Meta says of an account: itself, its numbers by id, and what couldn't be learned."""

    account: Mapping[str, Any] = field(default_factory=dict)
    numbers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Connection:
    """What stands in the database now."""

    app: MetaApp
    account: BusinessAccount
    numbers: list[PhoneNumber]
    warnings: list[str]

    def as_json(self) -> dict[str, Any]:
        return {
            "organization": self.account.organization.slug,
            "appId": self.app.app_id,
            "callbackUrl": self.app.callback_url,
            "verifyToken": self.app.verify_token,
            "wabaId": self.account.waba_id,
            "phoneNumbers": [
                {
                    "id": number.phone_number_id,
                    "displayNumber": number.display_number,
                    "throughput": number.throughput,
                    "quality": number.quality,
                }
                for number in self.numbers
            ],
            "messagingLimit": self.account.portfolio.messaging_limit,
            "warnings": self.warnings,
        }


def connect(
    organization: Organization,
    credentials: Credentials,
    *,
    phone_number_ids: Sequence[str] = (),
    throughput: int | None = None,
    check: bool = True,
) -> Connection:
    """Connect an account with these numbers, or with all it has; connecting again renews what has changed.

    Asks Meta first and writes nothing unless the token, the account and the numbers are right. With `check=False`
    Meta isn't asked at all. Refusal for everything that doesn't fit.
    """
    if throughput is not None and not 0 < throughput <= HIGHEST_THROUGHPUT:
        raise Refusal(
            f"The throughput is {throughput}: it has to be between 1 and {HIGHEST_THROUGHPUT} messages a second."
        )
    for number in phone_number_ids:
        if not ID.fullmatch(number):
            raise Refusal(f"{number!r} is no phone number id: it has digits only, and isn't the number itself.")
    _refuse_foreign(organization, credentials.waba_id, phone_number_ids)
    found = _ask(credentials, phone_number_ids) if check else Found(numbers={id_: {} for id_ in phone_number_ids})
    if not found.numbers:
        raise Refusal("No phone number to connect: name one with --phone-number-id.", code="phone_number_not_found")
    try:
        with transaction.atomic():
            written = _write(organization, credentials, found, throughput=throughput)
            numbers = [number.phone_number_id for number in written.numbers]
            audit.record("credentials.changed", written.account, fields=["access_token"], numbers=numbers)
            return written
    except IntegrityError as error:  # somebody was a moment faster, and the database let only one of us have it
        _refuse_foreign(organization, credentials.waba_id, list(found.numbers))
        raise Refusal(
            f"WhatsApp account {credentials.waba_id} was being connected twice at once. Look whether it is connected "
            "now, and try again if it isn't.",
            code="account_taken",
        ) from error


def _refuse_foreign(organization: Organization, waba_id: str, phone_number_ids: Sequence[str]) -> None:
    """Refuse what another organization has, without saying which."""
    if BusinessAccount.objects.filter(waba_id=waba_id).exclude(organization=organization).exists():
        raise Refusal(f"WhatsApp account {waba_id} is connected to another organization.", code="account_taken")
    taken = PhoneNumber.objects.filter(phone_number_id__in=phone_number_ids).exclude(organization=organization).first()
    if taken is not None:
        raise Refusal(
            f"Phone number {taken.phone_number_id} is connected to another organization.", code="phone_number_taken"
        )


# --- asking Meta -------------------------------------------------------------------------------------------------


def _ask(credentials: Credentials, wanted: Sequence[str]) -> Found:
    meta, found, waba_id = graph(credentials.access_token), Found(), credentials.waba_id
    with asking(f"WhatsApp account {waba_id}"):
        found.account = _or_warn(found, "the account's name", lambda: meta.account(waba_id), {})
        listed = _or_warn(found, "the account's numbers", lambda: meta.phone_numbers(waba_id), [])
    by_id = {str(number.get("id")): number for number in listed}
    if by_id and (strange := [number for number in wanted if number not in by_id]):
        raise Refusal(
            f"Account {waba_id} has no phone number {strange[0]}; it has: {', '.join(by_id)}.",
            code="phone_number_not_found",
        )
    found.numbers = {number: by_id.get(number) or _ask_number(meta, found, number) for number in wanted or by_id}
    _subscribe(meta, found, waba_id)
    return found


def _ask_number(meta: Graph, found: Found, phone_number_id: str) -> Mapping[str, Any]:
    with asking(f"Phone number {phone_number_id}"):
        subject = f"phone number {phone_number_id}"
        return dict(_or_warn(found, subject, lambda: meta.get_phone_number(phone_number_id), {}))


def _subscribe(meta: Graph, found: Found, waba_id: str) -> None:
    """Have Meta send the account's callbacks to the app. A missing permission is a warning: sending works without."""
    with asking(f"WhatsApp account {waba_id}"):
        try:
            _or_warn(found, "the subscription to callbacks", lambda: meta.subscribe(waba_id), None)
        except GraphError as error:
            found.warnings.append(f"Meta doesn't subscribe the app to this account, so no callback will come: {error}")


def _or_warn(found: Found, subject: str, ask: Any, otherwise: Any) -> Any:
    """The answer; where a stand-in for Meta has no such endpoint, `otherwise` and a warning."""
    try:
        return ask()
    except ForeignAnswer as error:
        if error.status not in MISSING_ENDPOINT:
            raise
        found.warnings.append(f"Nothing learned about {subject}: {error}")
        return otherwise


# --- writing -----------------------------------------------------------------------------------------------------


def _write(organization: Organization, credentials: Credentials, found: Found, *, throughput: int | None) -> Connection:
    app = _write_app(credentials)
    # Again, the app locked: while Meta was asked another organization may have connected it.
    _refuse_foreign(organization, credentials.waba_id, list(found.numbers))
    account = _write_account(organization, app, credentials, found)
    numbers = [_write_number(account, number, said, throughput) for number, said in found.numbers.items()]
    for number, said in found.numbers.items():
        status = _text(said.get("status"), 40)
        if status and status != "CONNECTED":
            found.warnings.append(f"Phone number {number} is {status} at Meta: it may not be able to send.")
    return Connection(app, account, numbers, found.warnings)


def _write_app(credentials: Credentials) -> MetaApp:
    # Its callbacks go on being stored meanwhile.
    app = MetaApp.objects.select_for_update(no_key=True).filter(app_id=credentials.app_id).first()
    if app is None:
        token = {"verify_token": credentials.verify_token} if credentials.verify_token else {}
        return MetaApp.objects.create(app_id=credentials.app_id, secret=credentials.app_secret, **token)
    if app.secret != credentials.app_secret:
        app.previous_secret, app.secret = app.secret, credentials.app_secret
    app.verify_token = credentials.verify_token or app.verify_token
    app.save()
    return app


def _write_account(organization: Organization, app: MetaApp, credentials: Credentials, found: Found) -> BusinessAccount:
    known = BusinessAccount.objects.select_for_update().filter(waba_id=credentials.waba_id).first()
    portfolio = _write_portfolio(organization, known, found)
    account, _ = BusinessAccount.objects.update_or_create(
        waba_id=credentials.waba_id,
        defaults={
            "organization": organization,
            "app": app,
            "portfolio": portfolio,
            "access_token": credentials.access_token,
            "name": _text(found.account.get("name"), 200) or (known.name if known else ""),
        },
    )
    return account


def _write_portfolio(organization: Organization, known: BusinessAccount | None, found: Found) -> Portfolio:
    owner = found.account.get("owner_business_info")
    owner = owner if isinstance(owner, dict) else {}
    meta_id = _text(owner.get("id"), 64) or (known.portfolio.meta_id if known else "")
    portfolio, _ = Portfolio.objects.get_or_create(organization=organization, meta_id=meta_id)
    portfolio.name = _text(owner.get("name"), 200) or portfolio.name
    limit = _limit(found)
    if limit is not None:
        portfolio.messaging_limit = None if limit == UNLIMITED else limit
    elif portfolio.messaging_limit is None:
        found.warnings.append("The messaging limit is unknown and isn't watched: connect again once Meta has set it.")
    portfolio.save()
    return portfolio


def _limit(found: Found) -> int | None:
    """The portfolio's messaging limit, which every number repeats."""
    names = ("whatsapp_business_manager_messaging_limit", "messaging_limit_tier")
    limits = (messaging_limit(said.get(name)) for said in found.numbers.values() for name in names)
    return next((limit for limit in limits if limit is not None), None)


def _write_number(
    account: BusinessAccount, phone_number_id: str, said: Mapping[str, Any], throughput: int | None
) -> PhoneNumber:
    known = PhoneNumber.objects.filter(phone_number_id=phone_number_id).first()
    number = known or PhoneNumber(phone_number_id=phone_number_id, display_number=phone_number_id)
    level = said.get("throughput")
    level = level.get("level") if isinstance(level, dict) else None
    quality = _text(said.get("quality_rating"), 10).upper()
    number.organization, number.account, number.disconnected_at = account.organization, account, None
    number.display_number = _text(said.get("display_phone_number"), 32) or number.display_number
    number.verified_name = _text(said.get("verified_name"), 200) or number.verified_name
    number.throughput = throughput or THROUGHPUT.get(str(level)) or number.throughput
    number.quality = quality if quality in PhoneNumber.Quality.values else number.quality
    number.save()
    return number


def _text(value: Any, limit: int) -> str:
    return clean(str(value), limit) if isinstance(value, str | int) else ""
