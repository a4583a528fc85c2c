"""The main job, shown: contacts from a CSV, three broadcasts and a sequence through the real processes.

Every number is compared with what the simulated WhatsApp received.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.utils import timezone
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from broadcasts import report
from broadcasts.models import Broadcast, Status
from kaanha import sample
from kaanha.demo_sequence import Basket
from kaanha.demo_talk import FUNNEL, Talk, Witness, differences, of_template, wait
from kaanha.inbound.models import Callback
from kaanha.lib.errors import Refusal
from kaanha.messaging.models import UnmatchedReceipt
from kaanha.servers import CHECKOUT

CONTACTS = CHECKOUT / "docs" / "samples" / "contacts.csv"
THROUGHPUT = 200  # messages per second: quick, and slow enough to be watched


@dataclass(frozen=True)
class Identity:
    """Ids of a sample business at Meta, new for every run."""

    waba_id: str = field(default_factory=lambda: f"3{secrets.randbelow(10**14):014}")
    phone_number_id: str = field(default_factory=lambda: f"2{secrets.randbelow(10**14):014}")
    app_id: str = field(default_factory=lambda: f"4{secrets.randbelow(10**14):014}")
    app_secret: str = field(default_factory=lambda: secrets.token_hex(16))
    access_token: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    def simulator_options(self) -> list[str]:
        return [
            *("--waba-id", self.waba_id, "--phone-number-id", self.phone_number_id),
            *("--app-id", self.app_id, "--app-secret", self.app_secret, "--access-token", self.access_token),
        ]


@dataclass(frozen=True)
class Plan:
    """One broadcast of the demo."""

    name: str
    template: str
    tag: str
    variables: tuple[str, ...]
    # Seconds until it is due; None sends at once.
    due_in: int | None = None


PLANS = (
    Plan(
        "Autumn sale",
        "autumn_sale",
        "newsletter",
        ("1=contact.first_name|there", "2=30 November"),
    ),
    Plan("New arrivals", "new_arrivals", "customer", ("first_name=contact.first_name|friend",), due_in=4),
    Plan(
        "Order update", "order_update", "customer", ("1=contact.first_name|there", "2=contact.order_number|your order")
    ),
)


class Demo:
    """The steps of the demo; `simulator` is the address of the simulated WhatsApp."""

    def __init__(self, simulator: str, identity: Identity, console: Console) -> None:
        self.witness = Witness(simulator)
        self.identity = identity
        self.talk = Talk(console)
        self.organization = f"sample-store-{secrets.token_hex(3)}"
        self.basket = Basket(self.talk, self.organization)

    def run(self) -> dict[str, Any]:
        """The whole story; `ok` is true when every number is right."""
        self.prepare()
        self.basket.start()
        broadcasts = self.launch()
        self.basket.enroll_by_hand()
        self.watch(broadcasts)
        self.settle()
        result, faults = self.compare(broadcasts)
        self.show(result)
        self.basket.show(result["sequence"])
        for fault in faults:
            self.talk.say(f"[red]Off: {fault}[/red]")
        return result

    def prepare(self) -> None:
        """An organization, connected to the simulated WhatsApp, with contacts and templates."""
        self.talk.title("An organization, connected to the simulated WhatsApp")
        self.talk.tell("create_organization", "Sample Store", "--slug", self.organization, "--timezone", "Asia/Kolkata")
        connected = self.talk.ask("connect_whatsapp", self.organization, *self._connection())
        self.talk.say(f"connected {connected['wabaId']}, callbacks come to {connected['callbackUrl']}")
        sample.enter_callback(self.witness.address, connected["callbackUrl"], connected["verifyToken"])
        self.talk.title(f"Contacts from {CONTACTS.relative_to(CHECKOUT)}")
        self.talk.tell("import_contacts", self.organization, str(CONTACTS))
        self.talk.title("Templates that Meta approved")
        self.talk.tell("sync_templates", self.organization)

    def launch(self) -> list[Broadcast]:
        """The broadcasts: one now, one scheduled a few seconds ahead, one that waits for its turn."""
        broadcasts = []
        for plan in PLANS:
            made = self.talk.ask("broadcast", "create", self.organization, *_options(plan))
            self.talk.title(f"Broadcast “{plan.name}” to {plan.tag!r}")
            seen = self.talk.ask("broadcast", "preview", made["id"])
            people = ", ".join(row["name"] or row["phone"] for row in seen["recipients"][:4])
            self.talk.say(f"{seen['total']:,} recipients: {people}, … ({seen['leftOut']['opted_out']:,} opted out)")
            if plan.due_in is None:
                self.talk.ask("broadcast", "send", made["id"])
            else:
                at = timezone.now() + timedelta(seconds=plan.due_in)
                self.talk.ask("broadcast", "schedule", made["id"], "--at", at.isoformat())
                self.talk.say(f"scheduled in {plan.due_in} seconds; beat fires it")
            broadcasts.append(Broadcast.objects.by_public_id(made["id"]).get())
        return broadcasts

    def watch(self, broadcasts: list[Broadcast]) -> None:
        """Progress bars until every broadcast and the sequence are through. Refusal when that takes too long."""
        self.talk.title("Sending")
        columns = (
            TextColumn("{task.description:<14}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
        )
        with Progress(*columns, console=self.talk.console) as progress:
            bars = {one.pk: progress.add_task(one.name, total=None, state=one.status) for one in broadcasts}
            sequence = progress.add_task("Cart", total=None, state="sequence")
            wait(
                lambda: all((self._advance(progress, bars), self._advance_sequence(progress, sequence))),
                else_say="The broadcasts and the sequence did not finish in time.",
            )

    def settle(self) -> None:
        """Wait until the simulated WhatsApp has told everything and everything is applied."""
        wait(
            lambda: self.witness.get("idle")["idle"] and not Callback.objects.filter(applied_at=None).exists(),
            else_say="The receipts did not all arrive in time.",
        )

    def compare(self, broadcasts: list[Broadcast]) -> tuple[dict[str, Any], list[str]]:
        """What became of all of them, and every difference from what the simulated WhatsApp received."""
        summaries = [report.summary(Broadcast.objects.get(pk=broadcast.pk)) for broadcast in broadcasts]
        received = list(self.witness.received())
        told = self.witness.get("summary")
        sequence = self.basket.compare(received)
        faults = [fault for summary in summaries for fault in _faults(summary, received)] + self.basket.faults
        if told["twice"]:
            faults.append(f"{told['twice']} people received the same message twice")
        if unmatched := UnmatchedReceipt.objects.count():
            faults.append(f"{unmatched} receipts found no message")
        result = {
            "ok": not faults,
            "broadcasts": [{key: summary[key] for key in ("name", "category", *FUNNEL)} for summary in summaries],
            "sequence": sequence,
            "simulator": {key: told[key] for key in ("accepted", "recipients", "twice")},
        }
        return result, faults

    def show(self, result: Mapping[str, Any]) -> None:
        """The funnels as a table."""
        table = Table("", *FUNNEL, title="What became of them")
        for broadcast in result["broadcasts"]:
            skipped = broadcast["skipped"]
            counts = {name: broadcast[name] for name in FUNNEL} | {"skipped": sum(skipped.values())}
            table.add_row(broadcast["name"], *(f"{counts[name]:,}" for name in FUNNEL))
        self.talk.console.print(table)
        for broadcast in result["broadcasts"]:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in broadcast["skipped"].items()) or "nobody"
            self.talk.say(f"{broadcast['name']}: skipped {reasons}")

    def _advance(self, progress: Progress, bars: Mapping[int, TaskID]) -> bool:
        current = Broadcast.objects.filter(pk__in=bars).select_related("template")
        for broadcast in current:
            summary = report.summary(broadcast)
            total = summary["total"] or None
            progress.update(
                bars[broadcast.pk], total=total, completed=summary["total"] - summary["waiting"], state=broadcast.status
            )
        ended = (Status.COMPLETED, Status.CANCELED, Status.FAILED)
        if stopped := [broadcast for broadcast in current if broadcast.status == Status.PAUSED]:
            raise Refusal(f"{stopped[0].name} was paused: {stopped[0].status_detail}")
        return all(broadcast.status in ended for broadcast in current)

    def _advance_sequence(self, progress: Progress, bar: TaskID) -> bool:
        done, everybody = self.basket.progress()
        progress.update(bar, total=everybody, completed=done)
        return done == everybody

    def _connection(self) -> list[str]:
        identity = self.identity
        return [
            *("--waba-id", identity.waba_id, "--phone-number-id", identity.phone_number_id),
            *("--app-id", identity.app_id, "--app-secret", identity.app_secret),
            *("--access-token", identity.access_token, "--throughput", str(THROUGHPUT)),
        ]


def _options(plan: Plan) -> list[str]:
    variables = [word for variable in plan.variables for word in ("--variable", variable)]
    return ["--name", plan.name, "--template", plan.template, "--language", "en_US", "--tag", plan.tag, *variables]


def _faults(summary: Mapping[str, Any], received: Iterable[Mapping[str, Any]]) -> list[str]:
    """Where a broadcast's numbers don't add up, or aren't those of the simulated WhatsApp."""
    name, skipped = summary["name"], sum(summary["skipped"].values())
    parts = summary["sent"] + summary["failed"] + skipped + summary["unconfirmed"]
    faults = []
    if summary["status"] != Status.COMPLETED:
        faults.append(f"{name} is {summary['status']}")
    if summary["total"] != parts or summary["waiting"]:
        faults.append(f"{name}: total {summary['total']} is not the sum of its parts, {parts}")
    return faults + differences(name, summary, of_template(received, summary["template"]))
