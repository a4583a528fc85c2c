"""A sequence in the machine: started by an import, walked by everybody, and judged when nobody is inside any more.

drip = drips.start(machine, people=200)
drips.go_on(machine, drip)
drips.finish(machine, drip)
assert drips.verdict(machine, drip).faults == []
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tests.scenarios import verdict as judging
from tests.scenarios.machine import HERE, MARKETING, NUMBERS, UTILITY, Machine, OutOfPatienceError
from tests.scenarios.verdict import Verdict

BUYERS, LEAVERS = 3, 20  # one in so many buys, and one in so many opts out on the way
OUTCOMES = ("sent", "failed", "skipped", "unconfirmed", "waited", "yes", "no")


@dataclass(slots=True)
class Drip:
    """A sequence on its way, with the people whom it must take to an end."""

    id: int
    name: str
    numbers: list[str]
    people: frozenset[int]
    # What happens to its people while they are inside, each act with its arguments; taken off once it is done.
    to_come: list[tuple[Any, ...]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"sequence {self.id} of {len(self.people):,} people"


def start(machine: Machine, people: int, *, organization: str = HERE, endings: Sequence[int] | None = None) -> Drip:
    """Activate a sequence that a tag starts, and import new contacts with that tag."""
    machine.do("listen", organization, "sequence.enrolled", "sequence.completed")
    numbers = machine.numbers(people, endings=endings)
    name = f"drip {numbers[0]}"
    bought = f"bought {numbers[0]}"
    steps = machine.folder / "steps.json"
    steps.write_text(json.dumps(_steps(bought)))
    made = machine.do(
        "command", "sequence", "create", organization, "--name", name, "--steps", str(steps), "--trigger", "tag_added",
        "--tag", name, "--new-tag", name, "--new-tag", bought, "--phone-number-id", NUMBERS[organization][0],
    )  # fmt: skip
    machine.do("command", "sequence", "activate", made["id"])
    machine.do(*_import(machine, organization, numbers, name))
    key = machine.value("SELECT id FROM sequences_sequence WHERE name = %s", name)
    held = machine.holders(name)
    leavers = sorted(held)[::LEAVERS]
    purchase = _import(machine, organization, numbers[::BUYERS], bought)
    return Drip(key, name, numbers, held, [purchase, ("opt_out", leavers)])


def go_on(machine: Machine, drip: Drip) -> None:
    """Let the next thing happen to its people once they are inside. A machine that is being killed may refuse it."""
    if drip.to_come and machine.value(_ENROLLED, drip.id) == len(drip.people):
        with suppress(RuntimeError):
            machine.do(*drip.to_come[0])
            del drip.to_come[0]


def everybody_ended(machine: Machine, drip: Drip) -> bool:
    """Whether all of its people are enrolled, nobody is inside, and nothing more is to come."""
    return not drip.to_come and bool(machine.value(_ENDED, len(drip.people), drip.id))


def finish(machine: Machine, drip: Drip, *, seconds: float) -> None:
    """Wait until everybody has come to an end and all that Meta has to tell is told and applied."""

    def ended() -> bool:
        go_on(machine, drip)
        return everybody_ended(machine, drip)

    try:
        machine.until(ended, f"{drip} has ended", seconds=seconds)
    except OutOfPatienceError as error:
        raise OutOfPatienceError(f"{error}\n{machine.rows(_STUCK, drip.id)}") from error
    machine.until(machine.is_settled, "everything is told and applied", seconds=seconds)


def verdict(machine: Machine, drip: Drip) -> Verdict:
    """Judge a sequence of which nothing moves any more."""
    found = Verdict()
    accepted = judging.accepted_by_message(machine)
    for (dispatch,) in machine.rows(_DISPATCHES, drip.id):
        judging.judge(machine, found, dispatch, accepted)
    found.faults += judging.left_over(machine)
    ended = dict(machine.rows("SELECT contact_id, status FROM sequences_enrollment WHERE sequence_id = %s", drip.id))
    lost = [person for person in drip.people if ended.get(person) not in ("completed", "exited")]
    found.lost += len(lost)
    if lost or ended.keys() - drip.people:
        found.faults.append(f"{len(lost)} are lost, {len(ended.keys() - drip.people)} weren't meant")
    found.faults += _sums(machine, drip, Counter(ended.values()))
    found.faults += _passages(machine, drip)
    for name, statement in _NEVER.items():
        if rows := machine.rows(statement, drip.id):
            found.faults.append(f"{len(rows)} {name}, such as {rows[0]}")
    return found


def _sums(machine: Machine, drip: Drip, ended: Counter[str]) -> Iterator[str]:
    """What was counted and told of its people, against the people themselves."""
    counted = machine.rows(_PEOPLE, drip.id)[0]
    true = (len(drip.people), ended["completed"], ended["exited"])
    if counted != true:
        yield f"the counters say {counted}, the enrollments {true}: enrolled, completed, exited"
    told = dict(machine.rows(_TOLD, drip.name))
    if told != {"sequence.enrolled": true[0], "sequence.completed": true[1]}:
        yield f"told were {told}, the enrollments say {true}"


def _passages(machine: Machine, drip: Drip) -> Iterator[str]:
    """What was counted at each step, against the runs and those who left it before it was run."""
    for key, *values in machine.rows(_STEPS, drip.id):
        arrived, left, *counted, runs, runs_left, unrun = values[: 2 + len(OUTCOMES) + 3]
        by_outcome = values[2 + len(OUTCOMES) + 3 :]
        if counted != by_outcome or left != runs_left + unrun or arrived != runs + unrun:
            yield f"step {key}: counted {arrived, left, counted}, taken {runs + unrun, runs_left + unrun, by_outcome}"
        if arrived != left + sum(counted):
            yield f"step {key}: {arrived} arrived, {left + sum(counted)} went on or left"


def _import(machine: Machine, organization: str, numbers: Sequence[str], tag: str) -> tuple[Any, ...]:
    """The act that imports these people with this tag; safe to repeat."""
    file = machine.folder / f"{tag}.csv"
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([("phone", "tags", "optedIn"), *((number, tag, "true") for number in numbers)])
    return "command", "import_contacts", organization, str(file)


def _steps(bought: str) -> list[dict[str, Any]]:
    """Message, short delay, has bought?, has read?, and a last message: every kind of step, on every way."""
    seen = {
        "id": "seen", "type": "condition", "if": {"step": "hello", "reached": "read"}, "waitFor": {"seconds": 4},
        "yes": [_message("ask", UTILITY)], "no": [_message("remind", MARKETING)],
    }  # fmt: skip
    return [
        _message("hello", UTILITY),
        {"id": "pause", "type": "delay", "delay": {"seconds": 2}},
        {
            "id": "bought", "type": "condition", "if": {"tag": bought}, "waitFor": {"seconds": 3},
            "yes": [_message("thank", UTILITY)], "no": [seen],
        },
        _message("bye", UTILITY),
    ]  # fmt: skip


def _message(key: str, template: tuple[str, tuple[str, ...]]) -> dict[str, Any]:
    name, variables = template
    filled = {f"body.{place}": {"text": "Asha"} for place in range(1, len(variables) + 1)}
    return {"id": key, "type": "message", "template": {"name": name, "language": "en_US"}, "variables": filled}


_ENROLLED = "SELECT count(*) FROM sequences_enrollment WHERE sequence_id = %s"
_ENDED = """
SELECT count(*) FILTER (WHERE ended_at IS NOT NULL) = %s FROM sequences_enrollment WHERE sequence_id = %s
"""
_STUCK = """
SELECT e.id, st.key, e.status, e.entered_at, e.next_run_at, m.status, m.due_at, m.error_text, now()
FROM sequences_enrollment e JOIN sequences_step st ON st.id = e.step_id
LEFT JOIN messaging_message m ON m.id = e.message
WHERE e.sequence_id = %s AND e.ended_at IS NULL LIMIT 20
"""
_DISPATCHES = """
SELECT DISTINCT st.dispatch_id FROM sequences_step st JOIN sequences_revision r ON r.id = st.revision_id
WHERE r.sequence_id = %s AND st.dispatch_id IS NOT NULL ORDER BY 1
"""
_PEOPLE = """
SELECT coalesce(sum(enrolled), 0)::int, coalesce(sum(completed), 0)::int, coalesce(sum(exited), 0)::int
FROM sequences_sequencecount WHERE sequence_id = %s
"""
_TOLD = "SELECT kind, count(*)::int FROM webhooks_event WHERE data ->> 'sequence' = %s GROUP BY kind"
_STEPS = """
SELECT st.key, {counted}, runs.all, runs.left, (
    SELECT count(*)::int FROM sequences_enrollment e WHERE e.step_id = st.id AND e.status = 'exited'
    AND NOT EXISTS (SELECT FROM sequences_steprun r WHERE r.enrollment_id = e.id AND r.key = st.key)), {runs}
FROM sequences_step st JOIN sequences_revision v ON v.id = st.revision_id
CROSS JOIN LATERAL (
  SELECT count(*)::int AS all, {each} FROM sequences_steprun WHERE step_id = st.id) runs
CROSS JOIN LATERAL (
  SELECT {sums} FROM sequences_stepcount WHERE step_id = st.id) c
WHERE v.sequence_id = %s ORDER BY st.position
""".format(
    counted=", ".join(f'c."{name}"' for name in ("arrived", "left", *OUTCOMES)),
    runs=", ".join(f'runs."{name}"' for name in OUTCOMES),
    each=", ".join(f"""count(*) FILTER (WHERE outcome = '{name}')::int AS "{name}\"""" for name in ("left", *OUTCOMES)),
    sums=", ".join(f'coalesce(sum("{name}"), 0)::int AS "{name}"' for name in ("arrived", "left", *OUTCOMES)),
)
# What there must be none of.
_NEVER = {
    "messages belong to no step that was taken": """
SELECT m.id FROM messaging_message m JOIN sequences_step st ON st.dispatch_id = m.dispatch_id
JOIN sequences_revision v ON v.id = st.revision_id
WHERE v.sequence_id = %s AND NOT EXISTS (SELECT FROM sequences_steprun r WHERE r.message = m.id)
""",
    "messages are those of several steps": """
SELECT r.message FROM sequences_steprun r JOIN sequences_enrollment e ON e.id = r.enrollment_id
WHERE e.sequence_id = %s AND r.message IS NOT NULL GROUP BY r.message HAVING count(*) > 1
""",
    "steps were begun before the one before had ended": """
SELECT enrollment_id, key FROM (
  SELECT r.enrollment_id, r.key, r.at, lag(r.ended_at) OVER (PARTITION BY r.enrollment_id ORDER BY r.id) AS before
  FROM sequences_steprun r JOIN sequences_enrollment e ON e.id = r.enrollment_id WHERE e.sequence_id = %s) runs
WHERE before > at
""",
    "steps were never ended": """
SELECT r.enrollment_id, r.key FROM sequences_steprun r JOIN sequences_enrollment e ON e.id = r.enrollment_id
WHERE e.sequence_id = %s AND r.ended_at IS NULL
""",
    "people left for another reason than their opt-out": """
SELECT id, exit_reason FROM sequences_enrollment WHERE sequence_id = %s AND status = 'exited'
AND exit_reason <> 'opted_out'
""",
    "people went through after they had opted out": """
SELECT e.id FROM sequences_enrollment e JOIN contacts_contact c ON c.id = e.contact_id
WHERE e.sequence_id = %s AND e.status = 'completed' AND c.opted_out_at < e.ended_at - interval '1 minute'
""",
}
