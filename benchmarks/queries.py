"""The statements on which the speed of everything rests, with their plans in a full installation.

python -m kaanha.servers -- python -m benchmarks.queries [--contacts 1000000] [--messages 10000000] [--to FILE]

Nothing is listed by hand but the acts: each is done as the product does it, and every statement of it that reads a
table of many rows is explained on the way, in the very state in which it runs.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.big_installation import Size, Subjects, fill, found
from benchmarks.databases import of_its_own

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kaanha.messaging.claiming import Claim

# Tables that grow with contacts and messages; of the others a few pages are read whole.
BIG = (
    "contacts_contact",
    "contacts_contacttag",
    "contacts_contactevent",
    "contacts_consentchange",
    "messaging_message",
    "messaging_inboundmessage",
    "messaging_marketingcap",
    "sequences_enrollment",
    "sequences_steprun",
    "webhooks_delivery",
    "webhooks_event",
    "organizations_auditentry",
)
EXPLAINED = {"SELECT", "INSERT", "UPDATE", "DELETE", "WITH"}
TOLD = 2  # plans of an act in the document, those that take longest


@dataclass
class Plan:
    """A statement, and how PostgreSQL goes about it. Milliseconds where it was tried."""

    statement: str
    lines: list[str]

    @property
    def milliseconds(self) -> float:
        took = re.search(r"Execution Time: ([\d.]+) ms", self.lines[-1])
        return float(took.group(1)) if took else 0.0

    @property
    def whole(self) -> set[str]:
        """The big tables that are read from the first row to the last."""
        return {table for table in BIG for line in self.lines if re.search(rf"Seq Scan on {table}\b", line)}


@dataclass
class Act:
    """Something that the product does. `whole`: tables that it may read whole, since it is about most of their rows."""

    name: str
    often: str
    do: Callable[[Subjects, dict[str, Any]], object]
    whole: frozenset[str] = frozenset()
    plans: list[Plan] = field(default_factory=list)


# --- the acts, in an order in which each finds what it needs ------------------------------------------------------


def _numbers(about: Subjects, kept: dict[str, Any]) -> None:
    from django.utils import timezone

    from kaanha.messaging import claiming

    kept["numbers"] = claiming.numbers_with_work(now=timezone.now())


def _claim(about: Subjects, kept: dict[str, Any]) -> None:
    from django.utils import timezone

    from kaanha.messaging import claiming
    from kaanha.whatsapp.models import PhoneNumber

    number = PhoneNumber.objects.get(organization=about.organization).pk
    kept["claim"] = claiming.claim(claiming.live(number, now=timezone.now()), limit=100, now=timezone.now())


def _settle(about: Subjects, kept: dict[str, Any]) -> None:
    from django.utils import timezone

    from benchmarks import meta
    from kaanha.messaging import settling

    claim: Claim = kept["claim"]
    now = timezone.now()
    settling.settle(meta.accepted(claim.envelopes, at=now), now=now)


def _callbacks(about: Subjects, kept: dict[str, Any]) -> None:
    from django.utils import timezone

    from benchmarks import meta
    from kaanha.inbound import applying
    from kaanha.inbound.models import Callback
    from kaanha.whatsapp.models import PhoneNumber

    number = PhoneNumber.objects.select_related("account").get(organization=about.organization)
    claim: Claim = kept["claim"]
    now = timezone.now()
    told = [meta.status(one.id, "delivered", at=now, attempt=one.attempt) for one in claim.envelopes]
    Callback.store(number.account.app_id, meta.body(number, told), at=now)
    applying.apply_open(now=now)


def _sweep_ledger(about: Subjects, kept: dict[str, Any]) -> None:
    from django.utils import timezone

    from kaanha.messaging import receipts, sweeping

    now = timezone.now()
    sweeping.expire_leases(now=now)
    sweeping.skip_canceled(now=now)
    sweeping.give_up_held(now=now)
    receipts.apply_kept(now=now)


def _sweep_broadcasts(about: Subjects, kept: dict[str, Any]) -> None:
    from django.utils import timezone

    from broadcasts import launch

    launch.sweep(now=timezone.now())


def _trigger(about: Subjects, kept: dict[str, Any]) -> None:
    from django.utils import timezone

    from contacts import tagging
    from contacts.models import Contact
    from sequences import triggers

    untagged = Contact.objects.of(about.organization).tagged_none([about.common]).order_by("-pk")[:100]
    keys = list(untagged.values_list("pk", flat=True))
    tagging.add(about.organization, keys, [about.common.pk], source="api", at=timezone.now())
    triggers.handle(now=timezone.now())


def _advance(about: Subjects, kept: dict[str, Any]) -> None:
    from django.utils import timezone

    from sequences import advancing, waking

    now = timezone.now()
    waking.wake(now=now)
    advancing.advance(now=now)


def _watch(about: Subjects, kept: dict[str, Any]) -> None:
    from kaanha.messaging import counting

    counting.funnel(about.broadcast.dispatch_id)


def _reasons(about: Subjects, kept: dict[str, Any]) -> None:
    from broadcasts import report

    report.by_reason(about.broadcast)
    report.by_code(about.broadcast)


def _recipients(about: Subjects, kept: dict[str, Any]) -> None:
    from broadcasts import recipients

    list(recipients.of(about.broadcast).order_by("contact_id")[:50])
    list(recipients.of(about.broadcast, status="failed").order_by("contact_id")[:50])


def _contacts(about: Subjects, kept: dict[str, Any]) -> None:
    from contacts.models import Contact

    contacts = Contact.objects.of(about.organization).active()
    list(contacts.order_by("-pk")[:50])
    list(contacts.matching("+9190000120").order_by("-pk")[:50])
    list(contacts.matching("zephyrine").order_by("-pk")[:50])
    list(contacts.matching("kumar", common=contacts.is_common("kumar")).order_by("-pk")[:50])
    list(contacts.tagged_any([about.rare]).order_by("-pk")[:50])


def _timeline(about: Subjects, kept: dict[str, Any]) -> None:
    from contacts.models import Contact
    from kaanha import timeline

    contact = Contact.objects.of(about.organization).tagged_any([about.common]).order_by("-pk")[0]
    timeline.page(contact, limit=20, after=None)


def _home(about: Subjects, kept: dict[str, Any]) -> None:
    from zoneinfo import ZoneInfo

    from django.utils import timezone

    from kaanha import home_numbers

    zone = ZoneInfo(about.organization.timezone)
    home_numbers.numbers(about.organization, days=30, zone=zone, now=timezone.now())


def _webhooks(about: Subjects, kept: dict[str, Any]) -> None:
    from django.utils import timezone

    from kaanha.webhooks import delivering

    delivering.claim(16, now=timezone.now())


def _glance(about: Subjects, kept: dict[str, Any]) -> None:
    from django.utils import timezone

    from broadcasts import audience

    about.broadcast.tags.set([about.common])
    audience.is_large(about.broadcast)
    audience.glance(about.broadcast, now=timezone.now())


def _count(about: Subjects, kept: dict[str, Any]) -> None:
    from django.utils import timezone

    from broadcasts import audience

    audience.preview(about.broadcast, now=timezone.now())


def _launch(about: Subjects, kept: dict[str, Any]) -> None:
    from django.utils import timezone

    from broadcasts import audience
    from kaanha.messaging.models import Dispatch

    older: Any = about.broadcast.dispatch
    fresh = Dispatch.objects.create(
        organization=about.organization, phone_number=older.phone_number, kind=older.kind, lane=older.lane
    )
    audience.freeze(about.broadcast, fresh, now=timezone.now())


AUDIENCE = frozenset({"contacts_contact", "contacts_contacttag", "messaging_marketingcap"})


def acts() -> list[Act]:
    return [
        Act("Which numbers have something to send", "once a second", _numbers),
        Act("Claim a batch of 100 messages", "up to ten times a second for each number", _claim),
        Act("Settle the batch", "as often", _settle),
        Act("Apply a callback with 100 statuses", "once for each body that Meta posts", _callbacks),
        Act("Sweep the ledger: leases, cancellations, held requests", "every two seconds", _sweep_ledger),
        Act("Sweep the broadcasts", "once a second", _sweep_broadcasts),
        Act("Tag 100 contacts and enroll them by it", "as it happens", _trigger),
        Act("Advance whoever is due in a sequence", "once a second", _advance),
        Act("Watch a broadcast: its funnel", "every two seconds for each open page", _watch),
        Act("Why messages were skipped or failed", "every ten seconds for each open page", _reasons),
        Act("A page of a broadcast's recipients", "by hand", _recipients),
        Act("A page of contacts: all, by number, by name, by tag", "by hand", _contacts),
        Act("A contact's timeline", "by hand", _timeline),
        Act("Home's numbers of thirty days", "by hand", _home),
        Act("Claim webhook deliveries", "once a second", _webhooks),
        Act("The first ten recipients of a draft", "by hand", _glance),
        Act("Count a draft's recipients, and who stays out for which reason", "by hand", _count, AUDIENCE),
        Act("Start a broadcast: a row in the ledger for each recipient", "once a broadcast", _launch, AUDIENCE),
    ]


# --- explaining ---------------------------------------------------------------------------------------------------


def explained(about: Subjects, *, analyze: bool) -> list[Act]:
    """Every act, done once, with the plans of its statements; with `analyze` each is tried for its time before that."""
    known, kept = acts(), dict[str, Any]()
    for act in known:
        with _explaining(act.plans, analyze=analyze):
            act.do(about, kept)
    return known


@contextmanager
def _explaining(plans: list[Plan], *, analyze: bool) -> Iterator[None]:
    from django.db import connection, transaction

    how = "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) " if analyze else "EXPLAIN (COSTS OFF) "

    def explain(execute: Any, statement: str, values: Any, many: bool, context: Any) -> Any:
        words = statement.split()
        verb = words[0].lstrip("(").upper() if words else ""  # unions begin with a bracket
        if verb in EXPLAINED and not many and any(table in statement for table in BIG):
            with transaction.atomic(), connection.cursor() as cursor:
                for _ in range(2 if verb == "SELECT" else 1):  # the second time its pages are in memory
                    cursor.execute(how + statement, values)
                plans.append(Plan(" ".join(words), [line for (line,) in cursor.fetchall()]))
                transaction.set_rollback(True)
        return execute(statement, values, many, context)

    with connection.execute_wrapper(explain):
        yield


# --- the document -------------------------------------------------------------------------------------------------


def document(known: list[Act], size: Size) -> str:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        (version,) = cursor.fetchone()
    return "\n".join([HEAD.format(version=version.split()[0], size=size), *(_section(act) for act in known)])


def _section(act: Act) -> str:
    slowest = sorted(act.plans, key=lambda plan: -plan.milliseconds)
    rest = len(slowest) - TOLD
    lines = [f"## {act.name}", "", f"{act.often[0].upper()}{act.often[1:]}. Statements on big tables: {len(slowest)}."]
    for plan in slowest[:TOLD]:
        lines += ["", f"`{_short(plan.statement)}`", "", "```", *plan.lines, "```"]
    if rest > 0:
        lines += ["", f"The other {rest} took {sum(plan.milliseconds for plan in slowest[TOLD:]):.1f} ms together."]
    return "\n".join([*lines, ""])


def _short(statement: str) -> str:
    return statement if len(statement) <= 200 else f"{statement[:200]} …"


HEAD = """# The hot queries

Made by `python -m kaanha.servers -- python -m benchmarks.queries`, on PostgreSQL {version}, with {size.contacts:,}
contacts and {size.messages:,} messages of one organization, and a hundredth of that of another one beside it. Every act
is done as the product does it; of its statements those are shown that took longest. Milliseconds are of one run with
everything in memory, and mean less than what is read: `Buffers` counts pages of 8 kB, `rows` what was looked at.

`tests/test_query_plans.py` does the same acts on a smaller installation with every run of the tests: no statement may
read a table of contacts, messages, enrollments or deliveries from end to end. Two acts are about most of the contacts,
and may: counting an audience and freezing it.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contacts", type=int, default=1_000_000)
    parser.add_argument("--messages", type=int, default=10_000_000)
    parser.add_argument("--to", type=Path, default=Path("docs/queries.md"), help="where the plans are written")
    parser.add_argument("--keep", action="store_true", help="keep the database, and use what an earlier run has left")
    asked = parser.parse_args()
    size = Size(asked.contacts, asked.messages, asked.contacts)
    with of_its_own(keep=asked.keep) as new:
        about = fill(size) if new else found()
        asked.to.write_text(document(explained(about, analyze=True), size))


if __name__ == "__main__":
    main()
