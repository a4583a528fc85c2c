"""The demo's sequence: a message, a wait, “has the tag purchased?”, and a path for either answer.

It runs beside the broadcasts. Who got what is counted at the simulated WhatsApp, person by person.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db.models import Count, QuerySet
from rich.table import Table

from contacts.models import ContactTag
from kaanha.demo_talk import FUNNEL, Talk, differences, of_template, wait
from kaanha.lib.errors import Refusal
from kaanha.messaging.models import Message, Status
from kaanha.servers import CHECKOUT
from sequences import finding, seeing
from sequences.models import Code, EnrollmentStatus, Outcome, Sequence, Step, StepRun

SAMPLES = CHECKOUT / "docs" / "samples"
STEPS, SHOPPERS, PURCHASES = (SAMPLES / name for name in ("basket.json", "shoppers.csv", "purchases.csv"))
TRIGGER, BOUGHT = "cart", "purchased"
GREETING, YES, NO = "cart_saved", "thank_you", "last_chance"
# Of contacts.csv: a broadcast brings her the one marketing message of the day.
GUEST = "+915550022592"
REFUSED = {Code.NOT_OPTED_IN.value: 1, Code.ALREADY_ENROLLED.value: 1}


@dataclass(frozen=True)
class Letters:
    """Who got what, as phone numbers, received at the simulated WhatsApp; who holds the tag, as Kaanha has it.

    `unsent` are those for whom Kaanha has a reason why no message of either path went out.
    """

    greeted: frozenset[str]
    thanked: frozenset[str]
    urged: frozenset[str]
    bought: frozenset[str]
    unsent: frozenset[str]

    def faults(self) -> list[str]:
        """Everybody who didn't take exactly the path that their tag asks for."""
        sides = self.thanked | self.urged
        wrong = {
            f"got both {YES} and {NO}": self.thanked & self.urged,
            f"got {YES} without the tag {BOUGHT}": self.thanked - self.bought,
            f"got {NO} in spite of the tag {BOUGHT}": self.urged & self.bought,
            f"got {GREETING}, then nothing, for no reason": self.greeted - sides - self.unsent,
            f"got {NO} after another marketing message": self.urged & {GUEST},
        }
        return [f"{len(people)} {what}: {_some(people)}" for what, people in wrong.items() if people]


class Basket:
    """The sequence from its creation to its check."""

    def __init__(self, talk: Talk, organization: str) -> None:
        self.talk = talk
        self.organization = organization
        self.id = ""
        self.faults: list[str] = []
        self.imported = 0

    # --- what people do

    def start(self) -> None:
        """Activate it, then let two imports do the rest: one starts it for the shoppers, one tells who bought."""
        self.talk.title(f"A sequence from {STEPS.relative_to(CHECKOUT)}, started by the tag {TRIGGER!r}")
        words = ("--name", "Cart", "--trigger", "tag_added", "--tag", TRIGGER, "--steps", str(STEPS))
        made = self.talk.ask("sequence", "create", self.organization, *words, "--new-tag", TRIGGER, "--new-tag", BOUGHT)
        self.id = made["id"]
        active = self.talk.ask("sequence", "activate", self.id)
        self.talk.say(f"{active['name']} is {active['status']}, revision {active['revision']}")
        self.imported = self._import(SHOPPERS, TRIGGER)
        wait(lambda: self._runs(Step.Kind.DELAY), else_say="Nobody came as far as the wait.")
        self.talk.say(f"{self.progress()[1]:,} of them were enrolled by it, got {GREETING}, and wait")
        self._import(PURCHASES, BOUGHT)
        if decided := self._runs(Step.Kind.CONDITION):
            self.faults.append(f"The wait of {decided} people was over before the purchases were imported")

    def enroll_by_hand(self) -> None:
        """One more person, once a broadcast has reached her: the last chance must not. She isn't enrolled twice."""
        hers = Message.objects.filter(contact__phone=GUEST, contact__organization__slug=self.organization)
        wait(hers.filter(accepted_at__isnull=False).exists, else_say=f"No broadcast reached {GUEST} in time.")
        self.talk.ask("enroll", self.id, "--phone", GUEST)
        self.talk.say(f"\n{GUEST} has just got a broadcast, and is enrolled by hand")
        try:
            self.talk.ask("enroll", self.id, "--phone", GUEST)
        except Refusal as refusal:
            self.talk.say(f"… and a second time: {refusal.code}: {refusal}")
            if refusal.code == Code.ALREADY_ENROLLED:
                return
        self.faults.append(f"{GUEST} was not refused as {Code.ALREADY_ENROLLED} when enrolled a second time")

    def progress(self) -> tuple[int, int]:
        """(who is through, everybody)."""
        people = seeing.people(self.sequence)
        return people.completed + people.exited, people.enrolled

    # --- what became of it

    def compare(self, received: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """The sequence in numbers; every difference from what was received is added to `faults`."""
        received, summary = list(received), seeing.summary(self.sequence)
        names = dict(self._messages().values_list("key", "template__name"))
        messages = {names[step["id"]]: step for step in summary["steps"] if step["id"] in names}
        self.faults += _sums(summary, self.imported + 1)
        for name, step in messages.items():
            self.faults += differences(name, step["funnel"], of_template(received, name))
        self.faults += self._letters(received).faults()
        condition = next(step for step in summary["steps"] if step["type"] == Step.Kind.CONDITION)
        if not summary["completed"] <= condition["yes"] + condition["no"] <= summary["enrolled"]:
            self.faults.append(
                f"{summary['completed']} completed, but {condition['yes']} + {condition['no']} took a path"
            )
        return {
            **{key: summary[key] for key in ("name", "enrolled", "completed", "exited", "refused")},
            **{path: condition[path] for path in ("yes", "no")},
            "steps": [
                {"template": name}
                | {key: step["funnel"][key] for key in FUNNEL}
                | {"skipped": self._skipped(step["id"])}
                for name, step in messages.items()
            ],
        }

    def show(self, result: Mapping[str, Any]) -> None:
        """Where the sequence and the guest stand, as the command prints it, and the funnels as a table."""
        self.talk.title("What became of the sequence")
        self.talk.tell("sequence_status", self.id)
        self.talk.title(f"The way of {GUEST}")
        self.talk.tell("sequence_status", self.id, "--phone", GUEST)
        table = Table("", *FUNNEL, title=f"{result['name']}: {result['yes']} bought, {result['no']} did not")
        for step in result["steps"]:
            counts = step | {"skipped": sum(step["skipped"].values())}
            table.add_row(step["template"], *(f"{counts[name]:,}" for name in FUNNEL))
        self.talk.console.print(table)
        for step in result["steps"]:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in step["skipped"].items()) or "nobody"
            self.talk.say(f"{step['template']}: skipped {reasons}")

    @property
    def sequence(self) -> Sequence:
        return finding.sequence(self.id)

    def _import(self, file: Path, tag: str) -> int:
        """Import the file; on how many contacts it put the tag."""
        put_on: int = self.talk.ask("import_contacts", self.organization, str(file))["tags"][tag]
        self.talk.say(f"{file.relative_to(CHECKOUT)}: {put_on:,} contacts got the tag {tag!r}")
        return put_on

    def _messages(self) -> QuerySet[Step]:
        return Step.objects.filter(revision__sequence=self.sequence, kind=Step.Kind.MESSAGE)

    def _runs(self, kind: str) -> int:
        """How many have come to a step of this kind."""
        return StepRun.objects.filter(step__revision__sequence=self.sequence, step__kind=kind).count()

    def _letters(self, received: Iterable[Mapping[str, Any]]) -> Letters:
        got = {
            name: frozenset(f"+{row['waId']}" for row in of_template(received, name)) for name in (GREETING, YES, NO)
        }
        inside = self.sequence.enrollments.values("contact")
        holders = ContactTag.objects.filter(tag__organization__slug=self.organization, tag__name=BOUGHT)
        bought = holders.filter(contact__in=inside).values_list("contact__phone", flat=True)
        return Letters(got[GREETING], got[YES], got[NO], frozenset(filter(None, bought)), self._unsent())

    def _unsent(self) -> frozenset[str]:
        """Who left before the end, and whose message of either path was skipped or failed."""
        left = self.sequence.enrollments.filter(status=EnrollmentStatus.EXITED)
        runs = StepRun.objects.filter(
            step__in=self._messages().filter(template__name__in=(YES, NO)),
            outcome__in=(Outcome.SKIPPED, Outcome.FAILED),
        )
        phones = (
            left.values_list("contact__phone", flat=True),
            runs.values_list("enrollment__contact__phone", flat=True),
        )
        return frozenset(phone for found in phones for phone in found if phone)

    def _skipped(self, key: str) -> dict[str, int]:
        """How many of a step's messages were skipped for each reason, the most frequent first."""
        dispatches = self._messages().filter(key=key).values("dispatch")
        rows = Message.objects.filter(dispatch__in=dispatches, status=Status.SKIPPED)
        return dict(rows.values_list("skip_reason").annotate(rows=Count("pk")).order_by("-rows", "skip_reason"))


def _sums(summary: Mapping[str, Any], asked: int) -> list[str]:
    """Where the people don't add up; `asked` is how many were to be enrolled, each once."""
    name, refused, inside = summary["name"], summary["refused"], summary["inside"]
    ended = summary["completed"] + sum(summary["exited"].values())
    faults = []
    if inside or summary["enrolled"] != ended:
        faults.append(f"{name}: {summary['enrolled']} enrolled, {ended} completed or exited, {inside} inside")
    if refused != REFUSED:
        faults.append(f"{name}: refused are {refused}, not {REFUSED}")
    if summary["enrolled"] + refused.get(Code.NOT_OPTED_IN, 0) != asked:
        faults.append(f"{name}: of {asked} people {summary['enrolled']} were enrolled, and refused {refused}")
    return faults


def _some(people: Iterable[str]) -> str:
    return ", ".join(sorted(people)[:5])
