"""Plays a scene through the engine and through the reference at once, and compares everything after every step."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NamedTuple

from django.db import connection

from contacts import consent, tagging
from contacts.models import Contact, ContactEvent, ContactTag, Tag
from kaanha.lib.errors import Refusal
from kaanha.messaging import fates, ledger, step_news
from kaanha.messaging.models import Message, Status
from kaanha.whatsapp.cloud_api.errors import ErrorClass, Verdict
from sequences import advancing, counting, enrolling, enrollments, publishing, running, spreading, triggers, waking
from sequences.models import Enrollment, EnrollmentRefusal, ExitReason, Pulse, Sequence, Source, Step, StepRun
from tests.factories import ContactFactory, PhoneNumberFactory, SequenceFactory, TagFactory, TemplateFactory
from tests.sequences import reference
from tests.sequences.reference import LONG_AGO, Person, Rules, Stands, Walk
from tests.sequences.scenes import EXIT_TAG, START_TAGS, TAGS, Scene

REFUSED = Verdict(
    error_class=ErrorClass.RECIPIENT, code=131026, text="Message undeliverable", words="", follow_up_after=None
)
SECOND = timedelta(seconds=1)
DOWNTIME = 120 * SECOND
FOREVER = datetime.max.replace(tzinfo=UTC)
WATCHED = 3  # looks of a waiting condition that are really taken before the clock hops over the next ones
# What may come in between while somebody waits, one after the other.
TROUBLES = (
    ("tag",),
    ("tag", "untag"),
    ("out",),
    ("out", "in"),
    ("delete", "revive"),
    ("cancel one",),
    ("pause one", "resume one"),
    ("pause one", "resume one"),
    ("pause one", "tag", "resume one"),
    ("pause", "resume"),
    ("pause", "resume"),
    ("pause", "out", "resume"),
    ("pause", "pause one", "resume", "resume one"),
)


class Disagreement(AssertionError):
    """The engine and the reference say different things, or the engine breaks its own law."""


def play(scene: Scene) -> int:
    """Play a scene to its end; how many steps people took. Raises Disagreement."""
    stage = Stage(scene)
    stage.play()
    return sum(len(walk.path) for walk in stage.walks.values())


class Row(NamedTuple):
    """An enrollment, as the engine has it."""

    id: int
    step: str | None
    status: str
    exit_reason: str
    ended_at: datetime | None
    since: datetime
    next_run_at: datetime | None


@dataclass
class Course:
    """A sequence on both sides."""

    sequence: Sequence
    rules: Rules
    trigger: str
    organization: int
    per_minute: int
    keys: dict[str, int]  # step's key: its id
    status: str = "active"
    archived_at: datetime | None = None
    spreads: bool = False


@dataclass
class Human:
    """A contact on both sides."""

    contact: Contact
    person: Person
    organization: int
    letters: list[dict[str, Any]]
    nudges: list[float]
    # What may end an enrollment: (when, "out", "deleted" or a tag's name).
    log: list[tuple[datetime, str]] = field(default_factory=list)
    got: int = 0


class Stage:
    """Two organizations, a clock that jumps, and the two tellings of one story."""

    def __init__(self, scene: Scene) -> None:
        _wipe()
        self.scene = scene
        self.now: datetime = scene["start"]
        self.end = self.now + timedelta(days=scene["days"])
        self.random = Random(scene["order"])
        self.numbers = [PhoneNumberFactory(), PhoneNumberFactory()]
        self.tags: list[dict[str, Tag]] = [self._tags(place) for place in (0, 1)]
        self.courses: list[Course] = [self._course(one) for one in scene["sequences"]]
        self.humans: list[Human] = [self._human(one) for one in scene["people"]]
        self.walks: dict[tuple[int, int], Walk] = {}  # by sequence and contact
        self.causes: list[tuple[datetime, int, str]] = []  # not yet decided: when, who, trigger
        self.refused: set[tuple[int, int, str]] = set()
        self.looks: Counter[tuple[int, int]] = Counter()
        self.frozen: dict[int, Any] = {}
        self.met: set[tuple[tuple[int, int], str]] = set()
        self.posted: set[tuple[tuple[int, int], str]] = set()
        self.todo: list[tuple[datetime, int, dict[str, Any]]] = []
        self.run_at: datetime | None = None  # something has happened, and is looked at then
        self.blind_since = self.now
        self.timers: dict[tuple[int, int], datetime] = {}
        for event in scene["events"]:
            self.plan(self.now + timedelta(seconds=event["at"]), event)

    # Setting up

    def _tags(self, place):
        organization = self.numbers[place].organization
        organization.timezone = self.scene["zones"][place]
        organization.save()
        return {name: TagFactory(organization=organization, name=name) for name in (*TAGS, *START_TAGS, EXIT_TAG)}

    def _course(self, one):
        place = one["organization"]
        number, tags = self.numbers[place], self.tags[place]
        template = TemplateFactory(organization=number.organization, account=number.account)
        trigger = "tag_added" if one["trigger"] in START_TAGS else one["trigger"]
        limit = None if one["late_limit"] is None else timedelta(seconds=one["late_limit"])
        sequence = SequenceFactory(
            organization=number.organization,
            phone_number=number,
            draft=_with_template(one["tree"], template.public_id),
            trigger=trigger,
            trigger_tag=tags.get(one["trigger"]),
            exit_tag=tags[one["exit_tag"]] if one["exit_tag"] else None,
            exit_on_reply=one["exit_on_reply"],
            late_limit=limit,
            when_late=one["when_late"],
            spread_per_minute=one["spread_per_minute"],
        )
        publishing.activate(sequence, now=self.now)
        rules = Rules(
            one["tree"], self.scene["zones"][place], one["exit_tag"], one["exit_on_reply"], limit, one["when_late"]
        )
        keys = dict(Step.objects.filter(revision__sequence=sequence).values_list("key", "pk"))
        return Course(sequence, rules, one["trigger"], place, one["spread_per_minute"], keys)

    def _human(self, one):
        place = one["organization"]
        contact = ContactFactory(
            organization=self.numbers[place].organization,
            opted_in=one["opted_in"],
            attributes=dict(one["attributes"]),
            **one["fields"],
        )
        for tag in one["tags"]:
            ContactTag.objects.create(contact=contact, tag=self.tags[place][tag], added_at=self.now)
        person = Person(one["opted_in"], False, set(one["tags"]), dict(one["fields"]), dict(one["attributes"]))
        return Human(contact, person, place, one["letters"], one["nudges"])

    # The clock

    def plan(self, at: datetime, event: dict[str, Any]) -> None:
        heapq.heappush(self.todo, (at, len(self.todo) + self.random.randrange(10**9), event))

    def play(self) -> None:
        while (moment := self._next()) <= self.end:
            self.now = max(self.now, moment)
            if self.todo and self.todo[0][0] <= self.now and self.todo[0][0] <= (self.run_at or FOREVER):
                self._happen(heapq.heappop(self.todo)[2])
            else:
                self._look()

    def _next(self) -> datetime:
        event = self.todo[0][0] if self.todo else FOREVER
        if self.run_at is not None:
            return min(event, self.run_at)
        self._hop(min(event, self.end))
        return min([event, *self.timers.values()])

    def _hop(self, limit: datetime) -> None:
        """Put off the looks of those who wait in a condition while nothing happens, as so many looks would."""
        idle = {key for key, looks in self.looks.items() if looks >= WATCHED and key in self.timers}
        limit = min([limit, *(at for key, at in self.timers.items() if key not in idle)])
        for key in idle:
            walk = self.walks[key]
            until = min(limit, walk.stands.due) if walk.stands and walk.stands.due else limit
            if (hops := (until - self.timers[key]) // walk.every) > 0:
                walk.planned = walk.look_at = self.timers[key] = self.timers[key] + hops * walk.every
                Enrollment.objects.filter(sequence_id=key[0], contact_id=key[1]).update(next_run_at=walk.planned)

    def _happen(self, event: dict[str, Any]) -> None:
        lag = event.get("lag", 0.0) if self.scene["style"] != "shuffled" else 0.0
        if self.run_at is None:
            self.run_at = self.blind_since = self.now
        self.run_at = max(self.run_at, self.now + timedelta(seconds=lag))
        human = self.humans[event["who"]]
        for key in self.looks:
            self.looks[key] = 0 if key[1] == human.contact.pk else self.looks[key]
        getattr(self, "do_" + event["do"].replace(" ", "_"))(event, human)

    # What happens to contacts

    def do_tag(self, event: dict[str, Any], human: Human) -> None:
        tag = self.tags[human.organization][event["tag"]]
        new = tagging.add_pairs(tag.organization, [(human.contact.pk, tag.pk)], source="operator", at=self.now)
        _same("tag newly put on", bool(new), event["tag"] not in human.person.tags)
        if not new:
            return
        human.person.tags.add(event["tag"])
        human.log.append((self.now, event["tag"]))
        self.causes.append((self.now, event["who"], event["tag"]))
        for walk in self._of(human):
            walk.tagged(event["tag"])

    def do_untag(self, event: dict[str, Any], human: Human) -> None:
        tag = self.tags[human.organization][event["tag"]]
        tagging.remove(tag.organization, [human.contact.pk], [tag.pk], at=self.now)
        human.person.tags.discard(event["tag"])

    def do_field(self, event: dict[str, Any], human: Human) -> None:
        if event["field"] in ("name", "email"):
            human.person.fields[event["field"]] = event["value"]
        else:
            human.person.attributes[event["field"]] = event["value"]
        Contact.objects.filter(pk=human.contact.pk).update(
            **human.person.fields, attributes=dict(human.person.attributes)
        )

    def do_created(self, event: dict[str, Any], human: Human) -> None:
        contact = human.contact
        ContactEvent.objects.create(
            organization=contact.organization, kind="created", contact=contact, source="api", at=self.now
        )
        self.causes.append((self.now, event["who"], "contact_created"))

    def do_out(self, event: dict[str, Any], human: Human) -> None:
        if human.person.opted_in:
            consent.opt_out([human.contact.pk], source="operator", proof="x", at=self.now)
            human.person.opted_in = False
            self._leave(human, "opted_out")

    def do_in(self, event: dict[str, Any], human: Human) -> None:
        consent.opt_in([human.contact.pk], source="operator", proof="x", at=self.now, against_their_word=True)
        human.person.opted_in = True

    def do_delete(self, event: dict[str, Any], human: Human) -> None:
        if not human.person.deleted:
            consent.delete([human.contact.pk], at=self.now)
            human.person.deleted = True
            self._leave(human, "deleted")

    def do_revive(self, event: dict[str, Any], human: Human) -> None:
        consent.revive([human.contact.pk], at=self.now)
        human.person.deleted = False

    def _leave(self, human: Human, reason: str) -> None:
        human.log.append((self.now, reason))
        for walk in self._of(human):
            walk.leave(reason)

    def _of(self, human: Human) -> Iterator[Walk]:
        return (walk for (_, contact), walk in self.walks.items() if contact == human.contact.pk)

    # What becomes of messages

    def do_fly(self, event: dict[str, Any], human: Human) -> None:
        letter = self.walks[event["walk"]].letters[event["key"]]
        if letter.status == "queued":
            letter.status = "sending"
            leased = {"due_at": None, "lease_until": self.now + 60 * SECOND}
            Message.objects.filter(pk=self._message(event)).update(status="sending", **leased)

    def do_news(self, event: dict[str, Any], human: Human) -> None:
        walk, key, status = self.walks[event["walk"]], event["key"], event["status"]
        letter, message = walk.letters[key], self._message(event)
        if status == "replied":
            if letter.status in reference.AT_LEAST["sent"]:
                Message.objects.filter(pk=message).update(replied_at=self.now)
                step_news.tell([message])
                walk.replied(key)
        elif _possible(letter.status, status):
            at = max(walk.put[key], self.now - timedelta(seconds=event["early"]))
            with ledger.changing([message], now=self.now) as rows:
                told = _settle(rows[message], status, event["reason"], at=at, now=self.now)
            walk.heard(key, status, told, reason=event["reason"] if status == "skipped" else "")

    def _message(self, event: dict[str, Any]) -> int:
        sequence, contact = event["walk"]
        run = StepRun.objects.get(
            enrollment__sequence=sequence, enrollment__contact=contact, key=event["key"], message__isnull=False
        )
        return int(run.message or 0)

    def _post(self, key: tuple[int, int], step: str, at: datetime) -> None:
        """A message was put into the ledger: plan what becomes of it."""
        who = next(n for n, human in enumerate(self.humans) if human.contact.pk == key[1])
        human = self.humans[who]
        letter = human.letters[human.got % len(human.letters)]
        human.got += 1
        event = {"who": who, "walk": key, "key": step, "reason": letter["reason"]}
        if letter["flies"]:
            self.plan(at + 0.25 * SECOND, event | {"do": "fly"})
        for soon, status, early in letter["news"]:
            if status is not None:
                self.plan(at + soon * SECOND, event | {"do": "news", "status": status, "early": early})

    def _nudge(self, key: tuple[int, int], test: dict[str, Any]) -> None:
        """Somebody waits in a condition: plan what may meet it."""
        who = next(n for n, human in enumerate(self.humans) if human.contact.pk == key[1])
        soon = self.random.choice(self.humans[who].nudges)
        event = {"who": who, "lag": self.random.choice((0.0, 0.0, 5.0))}
        if "tag" in test:
            self.plan(self.now + soon * SECOND, event | {"do": "tag", "tag": test["tag"]})
        elif "field" in test:
            name = test["field"].removeprefix("attributes.").replace("first_name", "name")
            value = self.random.choice((test.get("value", "Pune"), "Pune", "asha sample", "31", ""))
            self.plan(self.now + soon * SECOND, event | {"do": "field", "field": name, "value": value})

    def _trouble(self, key: tuple[int, int], stands: Stands) -> None:
        """Somebody has begun to wait: sometimes plan what comes in between."""
        if self.random.random() >= self.scene["trouble"]:
            return
        who = next(n for n, human in enumerate(self.humans) if human.contact.pk == key[1])
        sequence = next(n for n, course in enumerate(self.courses) if course.sequence.pk == key[0])
        length = stands.due - self.now if stands.due else timedelta(hours=1)
        at = self.now + self.random.random() * length
        for kind in self.random.choice(TROUBLES):
            event = {"who": who, "sequence": sequence, "lag": self.random.choice((0.0, 3.0)), "tag": EXIT_TAG}
            self.plan(at, event | {"do": kind})
            at += self.random.random() * 2 * length + SECOND

    # What operators do

    def do_enroll(self, event: dict[str, Any], human: Human) -> None:
        course = self.courses[event["sequence"]]
        here = course.organization == human.organization
        code = self._refusal(course, human) if here else "contact_not_found"
        code = code if course.status == "active" else "sequence_not_active"
        try:
            (one,) = enrolling.enroll(course.sequence, [human.contact.pk], source=Source.API, now=self.now)
            _same("enrolled", one.code, code)
        except Refusal as refusal:
            _same("refused", refusal.code, code)
            return
        if not code:
            self._enter(course, human, self.now)
        elif here:
            self.refused.add((course.sequence.pk, human.contact.pk, code))

    def do_pause_one(self, event: dict[str, Any], human: Human) -> None:
        if (walk := self._walk(event, human)) and not walk.paused:
            enrollments.pause(self._enrollment(event, human), now=self.now)
            walk.paused = True

    def do_resume_one(self, event: dict[str, Any], human: Human) -> None:
        if (walk := self._walk(event, human)) and walk.paused:
            enrollments.resume(self._enrollment(event, human), now=self.now)
            walk.paused = False

    def do_cancel_one(self, event: dict[str, Any], human: Human) -> None:
        if walk := self._walk(event, human):
            enrollments.cancel(self._enrollment(event, human), now=self.now)
            walk.cancel("canceled", self.now)

    def _walk(self, event: dict[str, Any], human: Human) -> Walk | None:
        walk = self.walks.get((self.courses[event["sequence"]].sequence.pk, human.contact.pk))
        return walk if walk and walk.ended is None else None

    def _enrollment(self, event: dict[str, Any], human: Human) -> Enrollment:
        return Enrollment.objects.get(sequence=self.courses[event["sequence"]].sequence, contact=human.contact)

    def do_pause(self, event: dict[str, Any], human: Human) -> None:
        course = self.courses[event["sequence"]]
        if course.status == "active":
            running.pause(self._fresh(course), now=self.now)
            course.status, course.spreads = "paused", False
            self._halt(course, halted=True)

    def do_resume(self, event: dict[str, Any], human: Human) -> None:
        course = self.courses[event["sequence"]]
        if course.status == "paused":
            running.resume(self._fresh(course), now=self.now)
            course.status, course.spreads = "active", True
            self._halt(course, halted=False)

    def do_archive(self, event: dict[str, Any], human: Human) -> None:
        course = self.courses[event["sequence"]]
        if course.status != "archived":
            running.archive(self._fresh(course), now=self.now)
            course.status, course.archived_at, course.spreads = "archived", self.now, False
            for walk in self._in(course):
                walk.cancel("archived", self.now)

    def do_cancel_everybody(self, event: dict[str, Any], human: Human) -> None:
        course = self.courses[event["sequence"]]
        if course.status != "archived":
            running.cancel_everybody(self._fresh(course), now=self.now)
            for walk in self._in(course):
                walk.cancel("canceled", self.now)

    def _fresh(self, course: Course) -> Sequence:
        course.sequence.refresh_from_db()
        return course.sequence

    def _in(self, course: Course) -> list[Walk]:
        return [walk for (sequence, _), walk in self.walks.items() if sequence == course.sequence.pk]

    def _halt(self, course: Course, *, halted: bool) -> None:
        for walk in self._in(course):
            walk.halted = halted

    # Who is enrolled

    def _refusal(self, course: Course, human: Human) -> str:
        already = (course.sequence.pk, human.contact.pk) in self.walks
        return reference.refusal(human.person, course.rules, already=already, archived=course.status == "archived")

    def _enter(self, course: Course, human: Human, at: datetime) -> None:
        walk = Walk(course.rules, human.person, at=at)
        walk.halted = course.status == "paused"
        self.walks[course.sequence.pk, human.contact.pk] = walk
        for happened, what in human.log:
            if happened >= at and what in ("opted_out", "deleted"):
                walk.leave(what)
            elif happened >= at:
                walk.tagged(what)

    def _decide(self) -> None:
        for at, who, trigger in self.causes:
            human = self.humans[who]
            for course in self.courses:
                here = course.organization == human.organization and course.trigger == trigger
                if here and (course.archived_at is None or at < course.archived_at):
                    code = self._refusal(course, human)
                    if code:
                        self.refused.add((course.sequence.pk, human.contact.pk, code))
                    else:
                        self._enter(course, human, at)
        self.causes = []

    # The sweep, on both sides

    def _look(self) -> None:
        if self.run_at is not None and self.now - self.blind_since > DOWNTIME:
            self._after_downtime()
        self.run_at = None
        self._decide()
        for walk in self.walks.values():
            walk.notice(self.now)
        self._sweep()
        for walk in self.walks.values():
            walk.go_on(self.now)
        self._compare()

    def _after_downtime(self) -> None:
        Pulse.objects.update_or_create(name=spreading.NAME, defaults={"at": self.blind_since})
        _same("downtime noticed", spreading.notice_downtime(now=self.now), True)
        for course in self.courses:
            course.spreads = course.spreads or course.status == "active"

    def _sweep(self) -> None:
        acts: list[Callable[..., int]] = [triggers.handle, waking.wake, self._spread, advancing.advance]
        match self.scene["style"]:
            case "sweep":
                self._do_all(acts)
            case "twice":
                self._do_all([act for act in acts for _ in "ab"])
            case "one by one":
                for act in acts:
                    while act(now=self.now) if act == self._spread else act(now=self.now, limit=1):
                        pass
            case "shuffled":
                while sum(act(now=self.now) for act in self.random.sample(acts, len(acts))):
                    pass

    def _do_all(self, acts: list[Callable[..., int]]) -> None:
        for act in acts:
            while act(now=self.now):
                pass

    def _spread(self, *, now: datetime) -> int:
        """Spread, and see that everybody has a turn of their own, at the sequence's rate."""
        if not any(course.spreads for course in self.courses):
            return 0
        rows = Sequence.objects.values_list("pk", "spread_asked_at")
        asked = {key: at for key, at in rows if at is not None}
        count = spreading.spread(now=now)
        _same("sequences spread", count, sum(course.spreads for course in self.courses))
        for course in self.courses:
            if course.spreads:
                self._follow_spread(course, asked[course.sequence.pk])
            course.spreads = False
        return count

    def _follow_spread(self, course: Course, asked: datetime) -> None:
        rows = Enrollment.objects.filter(sequence=course.sequence, status="active", next_run_at__isnull=False)
        turns = []
        for contact, turn in rows.order_by("next_run_at", "pk").values_list("contact_id", "next_run_at"):
            walk = self.walks[course.sequence.pk, contact]
            if walk.ended or walk.planned is None or walk.planned >= asked or _too_late(walk, asked):
                continue
            turns.append(turn)
            walk.spread_to(turn)
        pause = timedelta(minutes=1) / course.per_minute
        _same("turns", turns, [asked + number * pause for number in range(len(turns))])

    # Comparing

    def _compare(self) -> None:
        rows = {(sequence, contact): Row(*rest) for sequence, contact, *rest in _read(_ENROLLMENTS)}
        _same("enrolled", set(rows), set(self.walks))
        runs = _runs()
        messages = self._messages()
        for key, row in rows.items():
            walk = self.walks[key]
            self._catch_up(walk, row)
            self._compare_one(key, walk, row, runs.get(row.id, []))
            self._compare_letters(key, walk, messages)
            self._freeze(row, runs.get(row.id, []))
        _same("no other messages", messages, {})
        self._compare_refusals()
        self._compare_counters()

    def _catch_up(self, walk: Walk, row: Row) -> None:
        """A waiting condition may be looked at sooner than it must be."""
        waits = walk.stands and walk.look_at and row.step != walk.stands.key
        if waits and not walk.paused and not walk.halted:
            walk.planned = LONG_AGO
            walk.go_on(self.now)

    def _compare_one(self, key: tuple[int, int], walk: Walk, row: Row, runs: list[tuple[Any, ...]]) -> None:
        expected: list[tuple[Any, ...]] = [(one.key, one.outcome, one.at, one.ended_at) for one in walk.path]
        if walk.stands:
            expected.append((walk.stands.key, "", walk.stands.at, None))
        _same("path", [run[:4] for run in runs], expected)
        late = [one.key for one in walk.path if one.reason == "late"]
        _same("late", [run[0] for run in runs if run[4] == ExitReason.LATE.label], late)
        how, reason, at = walk.ended or ("paused" if walk.paused else "active", "", None)
        _same("status", (row.status, row.exit_reason, row.ended_at), (how, reason, at))
        self.timers.pop(key, None)
        if walk.ended is None:
            _same("stands", row.step, walk.todo[0]["id"])
            _same("until", runs[-1][5] if walk.stands else None, walk.stands and walk.stands.due)
            self._compare_timer(key, walk, row)
            if walk.stands and walk.stands.at == self.now and (key, walk.stands.key) not in self.met:
                self.met.add((key, walk.stands.key))
                self._trouble(key, walk.stands)

    def _compare_timer(self, key: tuple[int, int], walk: Walk, row: Row) -> None:
        held = walk.paused or walk.halted
        if walk.look_at and not held:
            self.looks[key] += 1
            if row.next_run_at is None or not self.now < row.next_run_at <= walk.look_at:
                raise Disagreement(f"next look: {row.next_run_at}, at the latest {walk.look_at}")
            walk.planned = walk.look_at = row.next_run_at
            if walk.stands and walk.stands.at == self.now:
                self._nudge(key, walk.todo[0]["if"])
        elif walk.look_at is None:
            self.looks[key] = 0
            _same("timer", row.next_run_at, walk.planned)
        if not held and row.next_run_at is not None:
            if row.next_run_at <= self.now:
                raise Disagreement(f"left behind at {row.step}")
            self.timers[key] = row.next_run_at

    def _messages(self) -> dict[tuple[int, int], tuple[Any, ...]]:
        """Every message of a step, by step and contact."""
        return {(step, contact): tuple(rest) for step, contact, *rest in _read(_MESSAGES)}

    def _compare_letters(self, key: tuple[int, int], walk: Walk, messages: dict[Any, Any]) -> None:
        course = next(course for course in self.courses if course.sequence.pk == key[0])
        for step, letter in walk.letters.items():
            row = messages.pop((course.keys[step], key[1]), None)
            _same("message", row, (walk.put[step], letter.status, letter.reason))
            if (key, step) not in self.posted:
                self.posted.add((key, step))
                if not walk.person.opted_in or walk.person.deleted:
                    raise Disagreement("a message for somebody who may not get one")
                self._post(key, step, self.now)

    def _freeze(self, row: Row, runs: list[tuple[Any, ...]]) -> None:
        if row.ended_at is not None:
            now = (row.status, row.exit_reason, row.ended_at, row.step, row.since, row.next_run_at, tuple(runs))
            _same("ended for good", now, self.frozen.setdefault(row.id, now))

    def _compare_refusals(self) -> None:
        rows = EnrollmentRefusal.objects.filter(sequence__in=[course.sequence for course in self.courses])
        found = set(rows.values_list("sequence_id", "contact_id", "code"))
        # Two causes in one batch are one; in two batches the second finds somebody enrolled.
        expected = {one for one in self.refused if one[2] != "already_enrolled"}
        _same("refusals", {one for one in found if one[2] != "already_enrolled"}, expected)

    def _compare_counters(self) -> None:
        people = counting.people([course.sequence.pk for course in self.courses])
        passages = counting.passages([step for course in self.courses for step in course.keys.values()])
        for course in self.courses:
            walks = self._in(course)
            ends = Counter(walk.ended.how for walk in walks if walk.ended)
            found = people[course.sequence.pk]
            _same("people", found, counting.People(len(walks), ends["completed"], ends["exited"]))
            _same("inside", found.inside, sum(walk.ended is None for walk in walks))
            self._compare_passages(course, walks, passages)

    def _compare_passages(self, course: Course, walks: list[Walk], passages: dict[int, counting.Passage]) -> None:
        seen: Counter[tuple[str, str]] = Counter()
        for walk in walks:
            outcomes = [(one.key, one.outcome) for one in walk.path]
            if walk.ended is None:
                outcomes.append((walk.todo[0]["id"], "waiting"))
            elif not walk.path and walk.ended.how == "exited":
                outcomes.append((walk.todo[0]["id"], "left"))
            seen.update(outcomes)
        for key, step in course.keys.items():
            found = passages[step]
            told = {name: getattr(found, name) for name in (*counting.ENDINGS, "waiting")}
            expected = {name: seen[key, name] for name in told}
            _same(f"passages of {key}", (told, found.arrived), (expected, sum(expected.values())))


def _same(what: str, found: Any, expected: Any) -> None:
    if found != expected:
        raise Disagreement(f"{what}: the engine says {found!r}, the reference {expected!r}")


def _too_late(walk: Walk, now: datetime) -> bool:
    """Whether it keeps its time when others are spread, since nothing is sent to it any more."""
    rules = walk.rules
    if rules.late_limit is None or rules.when_late == "send":
        return False
    planned = walk.stands.due if walk.stands and walk.look_at else walk.planned
    return planned is not None and now - planned > rules.late_limit


def _possible(status: str, news: str) -> bool:
    """Whether such news of a message in this state can come at all."""
    if news in ("skipped", "unconfirmed"):
        return status in ("queued", "sending")
    if news == "failed":
        return status in ("queued", "sending", "sent", "unconfirmed")
    return not (news == "sent" and status == "failed")


def _settle(row: fates.Row, status: str, reason: str, *, at: datetime, now: datetime) -> datetime:
    """What Meta and we do with a message; the moment that counts."""
    opened = row.status in (Status.QUEUED, Status.SENDING)
    if opened and status in ("failed", "unconfirmed"):
        row.status = Status.SENDING
    if status == "skipped":
        fates.skip(row, reason, now=now)
    elif status == "unconfirmed":
        fates.lose_sight(row, "Nobody knows.", now=now)
    elif status == "failed" and opened:
        row.lease_until = None
        fates.refuse(row, REFUSED, now=now)
    else:
        fates.receive(row, status, at=at, wamid=f"wamid.{row.id}", attempt=None, verdict=REFUSED)
        return at
    return now


def _runs() -> dict[int, list[tuple[Any, ...]]]:
    found: dict[int, list[tuple[Any, ...]]] = {}
    for enrollment, *run in _read(_RUNS):
        found.setdefault(enrollment, []).append(tuple(run))
    return found


def _read(statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


_ENROLLMENTS = """
SELECT e.sequence_id, e.contact_id, e.id, st.key, e.status, e.exit_reason, e.ended_at, e.since, e.next_run_at
FROM sequences_enrollment e LEFT JOIN sequences_step st ON st.id = e.step_id
"""
_RUNS = "SELECT enrollment_id, key, outcome, at, ended_at, reason, until FROM sequences_steprun ORDER BY id"
_MESSAGES = """
SELECT st.id, m.contact_id, m.created_at, m.status, m.skip_reason
FROM messaging_message m JOIN sequences_step st ON st.dispatch_id = m.dispatch_id
"""


def _with_template(path: list[dict[str, Any]], template: str) -> list[dict[str, Any]]:
    changed = []
    for step in path:
        sides = {side: _with_template(step[side], template) for side in ("yes", "no") if step.get(side)}
        content = {"template": template} if step["type"] == "message" else {}
        changed.append(step | sides | content)
    return changed


def _wipe() -> None:
    """Nothing of an earlier play may move in this one."""
    for model in (StepRun, Enrollment, Message, ContactEvent):
        model.objects.all().delete()
    Sequence.objects.update(status="archived", spread_asked_at=None, exit_up_to=None)
