"""Scenes made by chance: sequences, people, and what happens to them over weeks. Plain data, so that it can be cut."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from random import Random
from typing import Any

Scene = dict[str, Any]
Step = dict[str, Any]

TAGS = ("bronze", "silver", "gold")  # conditions ask for them
START_TAGS, EXIT_TAG = ("start one", "start two"), "leave"
ZONES = ("UTC", "Asia/Kolkata", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago")
# Weeks before clocks change somewhere of these, and one in the middle of the year.
STARTS = (
    datetime(2026, 2, 20, 10, tzinfo=UTC),
    datetime(2026, 3, 20, 23, 17, tzinfo=UTC),
    datetime(2026, 6, 10, 4, tzinfo=UTC),
    datetime(2026, 9, 25, 7, 3, tzinfo=UTC),
)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
CLOCKS = ("00:00", "01:30", "02:00", "02:15", "02:30", "03:00", "09:00", "18:45", "23:59")
CITIES = ("Pune", " pune ", "PUNE", "Pu", "Köln", "Straße", "STRASSE", "", " ")
NAMES = ("Asha Example", "asha", "Ravi  Sample", "")
EMAILS = ("", "asha@example.com", "Ravi@Example.org")
NUMBERS = ("7", "30", " 30.5 ", "-2", "9", "many", "")
STYLES = ("sweep", "sweep", "twice", "shuffled", "one by one")
HOUR, DAY = 3600.0, 86400.0


def scene(seed: int) -> Scene:
    """Everything about a run, the same for the same seed."""
    return _Chance(Random(seed)).scene()


class _Chance:
    def __init__(self, random: Random) -> None:
        self.random = random
        self.keys = 0

    def often(self, share: float) -> bool:
        return self.random.random() < share

    def scene(self) -> Scene:
        days = self.random.choice((10, 30, 60))
        people = [self.person(number) for number in range(self.random.randint(3, 7))]
        sequences = [self.sequence() for _ in range(self.random.randint(1, 3))]
        sequences.append(copy.deepcopy(sequences[0]) | {"organization": 1})
        return {
            "start": self.random.choice(STARTS),
            "style": self.random.choice(STYLES),
            "order": self.random.randrange(10**6),
            "days": days,
            "trouble": self.random.choice((0.1, 0.3, 0.5)),  # how often something comes between while somebody waits
            "zones": [self.random.choice(ZONES), self.random.choice(ZONES)],
            "sequences": sequences,
            "people": people,
            "events": self.events(people, sequences, days * DAY),
        }

    def person(self, number: int) -> dict[str, Any]:
        return {
            "organization": 1 if number and self.often(0.2) else 0,
            "opted_in": self.often(0.95),
            "fields": {"name": self.random.choice(NAMES), "email": self.random.choice(EMAILS)},
            "attributes": {"city": self.random.choice(CITIES), "age": self.random.choice(NUMBERS)},
            "tags": [tag for tag in TAGS if self.often(0.2)],
            "letters": [self.letter() for _ in range(self.random.randint(3, 8))],
            # Seconds after which something may meet a condition in which it waits.
            "nudges": [self.soon() for _ in range(3)],
        }

    def letter(self) -> dict[str, Any]:
        """What becomes of a message, told after so many seconds; `early`: it happened so long before it was told."""
        kind = self.random.choices(("sent", "failed", "skipped", "unconfirmed", None), (70, 10, 10, 6, 4))[0]
        reason = self.random.choices(("frequency_cap", "opted_out", "deleted", "canceled"), (5, 2, 1, 1))[0]
        news: list[tuple[float, str | None, float]] = [(self.soon(), kind, self.early())]
        for stage in ("delivered", "read", "replied", "failed"):
            if self.often({"replied": 0.3, "failed": 0.05}.get(stage, 0.6)):
                news.append((news[-1][0] + self.soon(), stage, self.early()))
        return {"flies": self.often(0.3), "reason": reason, "news": news}

    def soon(self) -> float:
        return self.random.choice((0.0, 1.5, 40.0, 7 * 60.0, self.random.uniform(0, 5 * HOUR), 1.5 * DAY))

    def early(self) -> float:
        return self.random.choice((0.0, 0.0, 3.25, 90.0))

    # Sequences

    def sequence(self) -> dict[str, Any]:
        trigger = self.random.choice(("manual", "contact_created", *START_TAGS))
        return {
            "organization": 0,
            "trigger": trigger,
            "tree": self.tree(),
            "exit_tag": EXIT_TAG if self.often(0.5) else None,
            "exit_on_reply": self.often(0.3),
            "late_limit": self.random.choice((None, 120.0, HOUR, DAY)),
            "when_late": self.random.choice(("send", "skip", "end")),
            "spread_per_minute": self.random.choice((1, 4, 600)),
        }

    def tree(self) -> list[Step]:
        tree = self.path(0, [])
        if not any(step["type"] == "message" for step in steps(tree)):
            tree.append(self.message([]))
        return tree

    def path(self, depth: int, seen: list[str]) -> list[Step]:
        """Steps one after the other; `seen` are the messages before, those on finished paths included."""
        path = []
        for _ in range(self.random.randint(*((2, 6) if depth == 0 else (1, 3)))):
            kind = self.random.choice("mmddcc" if depth < 3 else "md")
            if kind == "c":
                path.append(self.condition(depth, seen))
            else:
                path.append(self.message(seen) if kind == "m" else self.delay())
        return path

    def key(self) -> str:
        self.keys += 1
        return f"s{self.keys}"

    def message(self, seen: list[str]) -> Step:
        key = self.key()
        seen.append(key)
        return {"id": key, "type": "message", "whenCapped": self.random.choice(("skip", "wait"))}

    def delay(self) -> Step:
        step: Step = {"id": self.key(), "type": "delay"}
        if self.often(0.6):
            return step | {"delay": self.span()}
        until: dict[str, Any] = {"time": self.random.choice(CLOCKS)}
        if self.often(0.5):
            until["weekdays"] = self.random.sample(DAYS, self.random.randint(1, 6))
        if self.often(0.6):
            until["timezone"] = self.random.choice(ZONES)
        return step | {"until": until}

    def span(self) -> dict[str, int]:
        unit, most = self.random.choice((("seconds", 5000), ("minutes", 300), ("hours", 60), ("days", 9)))
        return {unit: self.random.randint(60 if unit == "seconds" else 1, most)}

    def condition(self, depth: int, seen: list[str]) -> Step:
        step: Step = {"id": self.key(), "type": "condition", "if": self.test(seen)}
        if self.often(0.6):
            step["waitFor"] = self.span()
        sides = self.random.choice((("yes",), ("no",), ("yes", "no")))
        before = list(seen)
        for side in sides:
            inside = list(before)
            step[side] = self.path(depth + 1, inside)
            seen.extend(inside[len(before) :])
        return step

    def test(self, seen: list[str]) -> dict[str, Any]:
        if seen and self.often(0.5):
            stages = ("sent", "delivered", "read", "failed", "replied")
            return {"step": self.random.choice(seen), "reached": self.random.choice(stages)}
        if self.often(0.5):
            return {"tag": self.random.choice(TAGS)}
        return self.comparison()

    def comparison(self) -> dict[str, Any]:
        name = self.random.choice(("city", "attributes.city", "name", "first_name", "email", "attributes.age", "age"))
        op = self.random.choice(("equals", "notEquals", "contains", "startsWith", "isSet", "isNotSet"))
        if name.endswith("age"):
            op = self.random.choice((op, "greaterThan", "lessThan"))
        if op in ("isSet", "isNotSet"):
            return {"field": name, "is": op}
        values = NUMBERS[:5] if name.endswith("age") else ("Pune", "pu", "strasse", "KÖLN", "asha", "example")
        return {"field": name, "is": op, "value": self.random.choice(values)}

    # What happens

    def events(self, people: list[Any], sequences: list[Any], length: float) -> list[dict[str, Any]]:
        events = [self.entry(people, sequences, number, length) for number in range(len(people)) for _ in range(2)]
        for _ in range(self.random.randint(2, 12)):
            at = self.random.uniform(0, length)
            for _ in range(self.random.choice((1, 1, 1, 2, 4))):
                events.append({"at": at} | self.event(people, sequences))
                at += self.random.choice((0.0, 0.75, 200.0, 4 * HOUR))
        # A moment of their own, so that no timer ends in the very same one.
        spaced = [event | {"at": event["at"] // 1 + 1e-6 * number} for number, event in enumerate(events, 1)]
        return sorted(spaced, key=lambda event: event["at"])

    def entry(self, people: list[Any], sequences: list[Any], number: int, length: float) -> dict[str, Any]:
        chosen = self.random.randrange(len(sequences))
        trigger = sequences[chosen]["trigger"]
        event = {"at": self.random.uniform(0, length / 3), "who": number, "sequence": chosen, "lag": self.lag()}
        if trigger == "manual":
            return event | {"do": "enroll"}
        return event | ({"do": "created"} if trigger == "contact_created" else {"do": "tag", "tag": trigger})

    def lag(self) -> float:
        """Seconds until something looks at it; longer than two minutes is downtime."""
        return self.random.choices((0.0, 4.0, 20.0, 3 * HOUR, 2 * DAY), (60, 15, 15, 6, 4))[0]

    def event(self, people: list[Any], sequences: list[Any]) -> dict[str, Any]:
        who, sequence = self.random.randrange(len(people)), self.random.randrange(len(sequences))
        kind = self.random.choices(
            ("tag", "untag", "field", "out", "in", "delete", "revive", "one", "all", "enroll", "end all"),
            (30, 10, 25, 3, 3, 2, 3, 25, 12, 6, 2),
        )[0]
        event: dict[str, Any] = {"do": kind, "who": who, "sequence": sequence, "lag": self.lag()}
        if kind in ("tag", "untag"):
            event["tag"] = self.random.choices((*TAGS, *START_TAGS, EXIT_TAG), (6, 6, 6, 3, 3, 3))[0]
        elif kind == "field":
            event["field"], values = self.random.choice(
                (("name", NAMES), ("email", EMAILS), ("city", CITIES), ("age", NUMBERS))
            )
            event["value"] = self.random.choice(values)
        elif kind == "one":
            event["do"] = self.random.choices(("pause one", "resume one", "cancel one"), (4, 6, 1))[0]
        elif kind == "all":
            event["do"] = self.random.choices(("pause", "resume"), (4, 6))[0]
        elif kind == "end all":
            event["do"] = self.random.choice(("archive", "cancel everybody"))
        return event


def steps(path: list[Step]) -> Iterator[Step]:
    """All steps of a tree, in the order of reading."""
    for step in path:
        yield step
        for side in ("yes", "no"):
            yield from steps(step.get(side) or [])


# --- making it smaller ----------------------------------------------------------------------------------------------


def smaller(scene: Scene, fails: Callable[[Scene], bool], *, tries: int) -> Scene:
    """A scene that still fails, with as much left out as can be found in so many tries."""
    shrunk = True
    while shrunk and tries > 0:
        shrunk = False
        for cut in _cuts(scene):
            tries -= 1
            if fails(cut):
                scene, shrunk = cut, True
                break
            if tries <= 0:
                break
    return scene


def _cuts(scene: Scene) -> Iterator[Scene]:
    """Scenes with something left out, the greatest pieces first."""
    events = scene["events"]
    size = len(events)
    while size := size // 2:
        for start in range(0, len(events), size):
            yield scene | {"events": events[:start] + events[start + size :]}
    if len(events) == 1:
        yield scene | {"events": []}
    for number in range(len(scene["sequences"])):
        if scene["sequences"][number]["tree"]:
            for tree in _pruned(scene["sequences"][number]["tree"]):
                yield _with(scene, "sequences", number, tree=tree)
    for number in range(len(scene["people"])):
        yield _with(scene, "people", number, letters=[{"flies": False, "reason": "", "news": [(1.5, "sent", 0.0)]}])
    yield scene | {"trouble": 0.0}
    if scene["style"] != "sweep":
        yield scene | {"style": "sweep"}
    yield scene | {"events": [event | {"lag": 0.0} for event in events]}


def _with(scene: Scene, what: str, number: int, **change: Any) -> Scene:
    return scene | {what: [one | change if n == number else one for n, one in enumerate(scene[what])]}


def _pruned(path: list[Step]) -> Iterator[list[Step]]:
    """The path without one of its steps, or with one instead of a condition."""
    for number, step in enumerate(path):
        before, after = path[:number], path[number + 1 :]
        yield before + after
        for side in ("yes", "no"):
            if inside := step.get(side):
                yield before + inside + after
                for less in _pruned(inside):
                    yield [*before, step | {side: less or None}, *after]
