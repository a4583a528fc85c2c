"""What became of a broadcast, compared with what the simulated WhatsApp has seen: the one judge of every scenario."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from kaanha.lib import public_ids
from tests.scenarios.machine import Launched, Machine

RECEIVED = {"sent", "delivered", "read"}
ENDED = RECEIVED | {"failed", "skipped", "unconfirmed"}
COLUMNS = ("total", "dispatched", "sent", "delivered", "read", "failed", "skipped", "unconfirmed")
CAP = timedelta(hours=24)


@dataclass(slots=True)
class Verdict:
    """How it ended. `faults` are sentences, empty when everything is as it must be."""

    faults: list[str] = field(default_factory=list)
    duplicates: int = 0
    lost: int = 0
    unconfirmed: int = 0
    statuses: Counter[str] = field(default_factory=Counter)

    def add(self, other: Verdict) -> None:
        """Count another one in."""
        self.faults += other.faults
        self.duplicates += other.duplicates
        self.lost += other.lost
        self.unconfirmed += other.unconfirmed
        self.statuses.update(other.statuses)


@dataclass(frozen=True, slots=True)
class Row:
    """A message as the ledger has it."""

    id: int
    contact: int
    status: str
    skip_reason: str
    error_code: int | None
    error_text: str
    error_in_callback: bool
    leased: bool
    accepted_at: datetime | None
    category: str
    capped_until: datetime | None


def of(machine: Machine, *broadcasts: Launched, status: str = "completed") -> Verdict:
    """Judge these broadcasts, once nothing about them moves any more."""
    verdict = Verdict()
    accepted = accepted_by_message(machine)
    for broadcast in broadcasts:
        dispatch, now = machine.rows(
            "SELECT dispatch_id, status FROM broadcasts_broadcast WHERE id = %s", broadcast.id
        )[0]
        if now != status:
            verdict.faults.append(f"broadcast {broadcast.id} is {now}")
        rows = judge(machine, verdict, dispatch, accepted)
        _nobody_lost(verdict, broadcast, rows)
    verdict.faults += left_over(machine)
    return verdict


def judge(
    machine: Machine, verdict: Verdict, dispatch: int, accepted: Mapping[int, Sequence[Mapping[str, Any]]]
) -> list[Row]:
    """Judge all messages of a dispatch, whatever asked for them; the messages."""
    rows = [Row(*values) for values in machine.rows(_ROWS, dispatch)]
    statuses = Counter(row.status for row in rows)
    verdict.statuses.update(statuses)
    verdict.unconfirmed += statuses["unconfirmed"]
    verdict.faults += _count(machine, dispatch, rows)
    _nobody_twice(verdict, rows, accepted)
    for row in rows:
        verdict.faults += _judge(row, accepted.get(row.id, []))
    return rows


def accepted_by_message(machine: Machine) -> dict[int, list[Mapping[str, Any]]]:
    """What the simulator accepted, by the ledger row that the callback data names."""
    return _by_message(machine.received())


def _by_message(seen: Sequence[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    found: dict[int, list[Mapping[str, Any]]] = {}
    for message in seen:
        key = public_ids.decode("msg", (message["opaque"] or "").partition(".")[0])
        assert key is not None, f"accepted without our id: {message}"
        found.setdefault(key, []).append(message)
    return found


def _count(machine: Machine, dispatch: int, rows: Sequence[Row]) -> Iterator[str]:
    """The counters against the rows themselves, and the sum that always holds."""
    columns = ", ".join(f"sum({name})::int" for name in COLUMNS)
    told = machine.rows(f"SELECT {columns} FROM messaging_dispatchcount WHERE dispatch_id = %s", dispatch)[0]
    by_status = Counter(row.status for row in rows)
    true = {
        "total": len(rows),
        "dispatched": sum(row.accepted_at is not None for row in rows),
        "sent": sum(by_status[status] for status in RECEIVED),
        "delivered": by_status["delivered"] + by_status["read"],
        **{name: by_status[name] for name in ("read", "failed", "skipped", "unconfirmed")},
    }
    for name, value in zip(COLUMNS, told, strict=True):
        if value != true[name]:
            yield f"the counter says {name} {value}, the ledger {true[name]}"
    if true["total"] != true["sent"] + true["failed"] + true["skipped"] + true["unconfirmed"]:
        yield f"the sum does not hold: {true}"


def _nobody_lost(verdict: Verdict, broadcast: Launched, rows: Sequence[Row]) -> None:
    """Everybody of the audience has exactly one row, and each row has come to an end."""
    contacts = Counter(row.contact for row in rows)
    missing, strangers = broadcast.people - contacts.keys(), contacts.keys() - broadcast.people
    several = [contact for contact, count in contacts.items() if count > 1]
    waiting = [row for row in rows if row.status not in ENDED or row.leased]
    verdict.lost += len(missing) + len(waiting)
    if missing or strangers or several:
        verdict.faults.append(
            f"{len(missing)} have no row, {len(strangers)} weren't meant, {len(several)} have several"
        )
    if waiting:
        verdict.faults.append(f"{len(waiting)} are still waiting, such as {waiting[0]}")


def _nobody_twice(verdict: Verdict, rows: Sequence[Row], accepted: Mapping[int, Sequence[Mapping[str, Any]]]) -> None:
    """No ledger row and no person of a broadcast was accepted by the simulator more than once."""
    twice = [row for row in rows if len(accepted.get(row.id, [])) > 1]
    people = Counter(message["waId"] for row in rows for message in accepted.get(row.id, []))
    several = [person for person, count in people.items() if count > 1]
    verdict.duplicates += max(len(twice), len(several))
    for row in twice[:5]:
        times = [(message["opaque"], message["acceptedAt"]) for message in accepted[row.id]]
        verdict.faults.append(f"message {row.id} was accepted {len(times)} times: {times}")
    if len(several) > len(twice):
        verdict.faults.append(f"{len(several)} people got the broadcast twice, such as {several[0]}")


def _judge(row: Row, accepted: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One row against what the simulator says of it."""
    told = {status["status"] for message in accepted for status in message["statuses"]}
    expected = _expected(told)
    if expected and row.status != expected:
        yield f"{row} was told {sorted(told)}"
    if row.status in RECEIVED and not accepted:
        yield f"{row} never reached the simulator"
    if row.status in {"skipped", "queued"} and accepted:
        yield f"{row} did reach the simulator"
    reason = {"skipped": row.skip_reason, "failed": row.error_code or row.error_text, "unconfirmed": row.error_text}
    if not reason.get(row.status, "none needed"):
        yield f"{row} has no reason"
    if row.category == "MARKETING" and row.status in RECEIVED:
        assert row.accepted_at
        if row.capped_until is None or row.capped_until < row.accepted_at + CAP:
            yield f"{row} doesn't keep the cap for 24 hours"


def _expected(told: set[str]) -> str | None:
    """The status that these told statuses, in whatever order they came, leave behind; None when nothing was told."""
    order = ("read", "delivered", "failed", "sent")
    return next((status for status in order if status in told), None)


def left_over(machine: Machine) -> Iterator[str]:
    """What was told and fits nothing."""
    unmatched = machine.value("SELECT count(*) FROM messaging_unmatchedreceipt")
    if unmatched:
        yield f"{unmatched} receipts found no message"
    troubled = machine.rows("SELECT problems FROM inbound_callback WHERE problems IS NOT NULL LIMIT 3")
    if troubled:
        yield f"callbacks could not be used: {troubled}"
    told, true = machine.rows(_QUARTERS), machine.rows(_BY_CODE)
    if told != true:
        yield f"Home says (code, sent, delivered, read, replied, failed) {told}, the ledger {true}"


_ROWS = """
SELECT m.id, m.contact_id, m.status, m.skip_reason, m.error_code, m.error_text, m.error_in_callback,
  m.lease_until IS NOT NULL, m.accepted_at, t.category, cap.until
FROM messaging_message m JOIN templates_app_messagetemplate t ON t.id = m.template_id
LEFT JOIN messaging_marketingcap cap ON cap.contact_id = m.contact_id
WHERE m.dispatch_id = %s ORDER BY m.id
"""
_QUARTERS = """
SELECT error_code, sum(sent)::int, sum(delivered)::int, sum(read)::int, sum(replied)::int, sum(failed)::int
FROM messaging_quartercount GROUP BY 1 HAVING sum(sent + failed) <> 0 ORDER BY 1
"""
_BY_CODE = """
SELECT CASE m.status WHEN 'failed' THEN coalesce(m.error_code, -1) ELSE -1 END, count(m.accepted_at)::int,
  (count(*) FILTER (WHERE m.status IN ('delivered', 'read')))::int, (count(*) FILTER (WHERE m.status = 'read'))::int,
  count(m.replied_at)::int, (count(*) FILTER (WHERE m.status = 'failed'))::int
FROM messaging_message m JOIN messaging_dispatch d ON d.id = m.dispatch_id
WHERE d.kind <> 'test' AND (m.accepted_at IS NOT NULL OR m.status = 'failed') GROUP BY 1 ORDER BY 1
"""
