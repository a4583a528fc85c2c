"""What is wrong with this installation, in sentences: for `manage.py doctor` and the admin.

Each check looks at one thing, costs little on a large database, and says nothing where all is well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, models
from django.db.migrations.executor import MigrationExecutor
from redis import Redis
from redis.exceptions import RedisError

from broadcasts import lock
from broadcasts.models import Broadcast, PauseReason
from broadcasts.models import Status as BroadcastStatus
from contacts.models import ContactEvent
from kaanha import secret_rotation
from kaanha.inbound.models import Callback
from kaanha.messaging import counting
from kaanha.messaging.models import Dispatch, DispatchCount, Message, SendSlot, Status, UnmatchedReceipt
from kaanha.messaging.sweeping import LISTED_AFTER
from kaanha.operations.models import Heartbeat
from kaanha.webhooks.models import Delivery, Endpoint
from kaanha.whatsapp.cloud_api.errors import ErrorClass
from sequences import seeing
from sequences.models import Enrollment, Sequence, Step
from sequences.models import Status as SequenceStatus
from templates_app.models import MessageTemplate

STUCK = timedelta(seconds=60)  # past the end of a lease, or of any other second's work
STALLED = timedelta(minutes=2)  # with something due and nobody at it
UNMATCHED = timedelta(hours=1)  # receipts for messages that other systems sent stay unmatched for good
RECENT = timedelta(days=7)  # what is older is history, and nobody's task
COUNTED = timedelta(days=3)  # dispatches whose counters are compared
LISTED = 20  # broadcasts named in one check
LOOKED_AT = 10_000  # ledger rows whose contact and template are looked for

ERROR, WARNING, NOTICE = "error", "warning", "notice"  # a notice needs nobody
OPEN = (BroadcastStatus.SCHEDULED, BroadcastStatus.QUEUED, BroadcastStatus.SENDING, BroadcastStatus.PAUSED)
LANES = frozenset({settings.CELERY_TASK_DEFAULT_QUEUE, *(r["queue"] for r in settings.CELERY_TASK_ROUTES.values())})
BY_ITSELF = frozenset({PauseReason.OPERATOR, PauseReason.NOTHING_TO_DO})


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that isn't as it should be: what, how often, and what to do."""

    code: str
    severity: str
    count: int
    message: str
    action: str

    @property
    def needs_somebody(self) -> bool:
        return self.severity != NOTICE


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, the worst first."""

    findings: list[Finding]

    @property
    def ok(self) -> bool:
        return not any(finding.needs_somebody for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        return {"ok": self.ok, "findings": [asdict(finding) for finding in self.findings]}


Check = Callable[[datetime], Iterable[Finding]]


def examine(*, now: datetime) -> Diagnosis:
    """Look at everything. Raises a database error when PostgreSQL can't be asked."""
    found = list(migrations(now))
    if not found:  # on other tables than ours the rest would only stumble
        found = [finding for check in CHECKS for finding in check(now)]
    return Diagnosis(sorted(found, key=lambda finding: (ERROR, WARNING, NOTICE).index(finding.severity)))


def migrations(_now: datetime) -> Iterator[Finding]:
    executor = MigrationExecutor(connection)
    missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    if missing:
        yield Finding(
            "migrations_missing", ERROR, missing,
            f"{_count(missing, 'migration')} not applied: the tables are not those of this version.",
            "Run: python manage.py migrate",
        )  # fmt: skip


def redis_server(_now: datetime) -> Iterator[Finding]:
    try:
        with _redis() as client:
            client.ping()
    except (RedisError, OSError) as error:
        yield Finding(
            "redis_unreachable", ERROR, 1,
            f"Redis can't be reached ({error}). Beat sends meanwhile, alone and slowly.",
            "Start Redis, or correct REDIS_URL. Nothing is lost: work goes on by itself.",
        )  # fmt: skip


def processes(now: datetime) -> Iterator[Finding]:
    alive = list(Heartbeat.objects.alive(now))
    if not any(process.kind == Heartbeat.Kind.BEAT for process in alive):
        yield Finding(
            "beat_missing", ERROR, 1,
            f"Beat doesn't run: {_last_heard(Heartbeat.objects.filter(kind=Heartbeat.Kind.BEAT), now)}. "
            "Nothing that is due begins.",
            "Start it: celery -A kaanha.celery beat. Meanwhile: python manage.py run_due",
        )  # fmt: skip
    served = {lane for process in alive for lane in process.lanes}
    for lane in sorted(LANES - served):
        yield Finding(
            "lane_unserved", ERROR, 1,
            f"No worker serves the lane {lane!r}.",
            f"Start one: celery -A kaanha.celery worker -P threads -Q {lane}",
        )  # fmt: skip
    for process in Heartbeat.objects.silent(now).filter(kind=Heartbeat.Kind.WORKER):
        yield Finding(
            "worker_silent", WARNING, 1,
            f"Worker {process.name} has been silent for {_age(process.at, now)}: it hangs, or was killed.",
            "Look at its log and start it again. One that was removed for good is forgotten after a day.",
        )  # fmt: skip


def leases(now: datetime) -> Iterator[Finding]:
    stuck = Message.objects.filter(lease_until__lt=now - STUCK).count()
    if stuck:
        yield Finding(
            "claims_stuck", ERROR, stuck,
            f"{_count(stuck, 'message')} claimed for sending by a process that has died; nobody has swept up.",
            "Beat and a worker of the lane 'default' do that within seconds. Or run: python manage.py run_due",
        )  # fmt: skip


def unconfirmed(now: datetime) -> Iterator[Finding]:
    suspects = Dispatch.objects.filter(
        pk__in=DispatchCount.objects.filter(unconfirmed__gt=0).values("dispatch"), created_at__gt=now - 4 * RECENT
    )
    for dispatch in suspects.select_related("broadcast").order_by("-pk")[:LISTED]:
        closed_at = (now - RECENT, now - LISTED_AFTER)
        count = dispatch.messages.filter(status=Status.UNCONFIRMED, closed_at__range=closed_at).count()
        if count:
            broadcast = getattr(dispatch, "broadcast", None)
            yield Finding(
                "unconfirmed", WARNING, count,
                f"{_named(broadcast) if broadcast else str(dispatch)}: of {_count(count, 'message')} nobody knows "
                "whether Meta has them. They are not sent again by themselves.",
                "Open the broadcast's recipients with status Unconfirmed, and decide.",
            )  # fmt: skip


def unmatched_receipts(now: datetime) -> Iterator[Finding]:
    kept = UnmatchedReceipt.objects.filter(received_at__lt=now - UNMATCHED).count()
    if kept:
        yield Finding(
            "receipts_unmatched", WARNING, kept,
            f"{_count(kept, 'receipt')} for messages that are not in the ledger.",
            "Does another system send from these numbers? Then nothing is wrong: they are dropped after 30 days.",
        )  # fmt: skip


def callbacks(now: datetime) -> Iterator[Finding]:
    waiting = Callback.objects.filter(applied_at=None)
    oldest = waiting.order_by("pk").values_list("received_at", flat=True).first()
    if oldest is not None and now - oldest > STUCK:
        yield Finding(
            "callbacks_waiting", ERROR, waiting.count(),
            f"{_count(waiting.count(), 'callback')} of Meta not applied yet, the oldest for {_age(oldest, now)}.",
            "Start a worker of the lane 'callbacks'. Or run: python manage.py run_due",
        )  # fmt: skip
    troubled = Callback.objects.filter(problems__isnull=False).count()
    if troubled:
        yield Finding(
            "callbacks_with_problems", WARNING, troubled,
            f"{_count(troubled, 'callback')} with something that could not be used.",
            "Read the reasons in the admin under Callbacks. After a repair: python manage.py replay_callbacks",
        )  # fmt: skip


def paused_broadcasts(_now: datetime) -> Iterator[Finding]:
    paused = Broadcast.objects.filter(status=BroadcastStatus.PAUSED).order_by("-pk")
    for broadcast in paused.select_related("organization")[:LISTED]:
        why = broadcast.status_detail or broadcast.get_pause_reason_display()
        yield Finding(
            "broadcast_paused", NOTICE if broadcast.pause_reason in BY_ITSELF else WARNING, 1,
            f"{_named(broadcast)} is paused. {why}",
            "It goes on by itself." if broadcast.resume_at else "Repair the cause, then resume it in the admin.",
        )  # fmt: skip


def stalled_broadcasts(now: datetime) -> Iterator[Finding]:
    for broadcast in Broadcast.objects.filter(status=BroadcastStatus.SENDING).select_related("dispatch"):
        if broadcast.dispatch is not None and _stands_still(broadcast.dispatch, now):
            yield Finding(
                "broadcast_stalled", ERROR, 1,
                f"{_named(broadcast)} has messages due for more than two minutes, and nobody sends them.",
                "Look at the workers of the lane 'send'. Or run: python manage.py run_due",
            )  # fmt: skip
    overdue = Broadcast.objects.due(now - STALLED).count()
    if overdue:
        yield Finding(
            "broadcasts_overdue", ERROR, overdue,
            f"{_count(overdue, 'broadcast')} past their scheduled time and not begun.",
            "Look at beat and the workers of the lane 'default'. Or run: python manage.py run_due",
        )  # fmt: skip


def counters(now: datetime) -> Iterator[Finding]:
    """Compares without a lock; where that differs, once more with it, for messages settle while we read."""
    recent = Dispatch.objects.filter(created_at__gt=now - COUNTED).order_by("-pk")
    for dispatch in recent.select_related("broadcast")[:LISTED]:
        if counting.funnel(dispatch.pk) == counting.counted_from_ledger(dispatch.pk):
            continue
        if counting.recount(dispatch.pk, repair=False):
            broadcast = getattr(dispatch, "broadcast", None)
            which = broadcast.public_id if broadcast else "--all"
            yield Finding(
                "counters_drifted", ERROR, 1,
                f"The numbers of {_named(broadcast) if broadcast else str(dispatch)} are not those of its messages.",
                f"Run: python manage.py recount {which}",
            )  # fmt: skip


def orphans(_now: datetime) -> Iterator[Finding]:
    with connection.cursor() as cursor:
        cursor.execute(_ORPHANS, [LOOKED_AT])
        dispatches, contacts, templates = cursor.fetchone() or (0, 0, 0)
    for what, count in (("dispatch", dispatches), ("contact", contacts), ("template", templates)):
        if count:
            yield Finding(
                f"ledger_without_{what}", ERROR, count,
                f"The ledger names {_count(count, what)} that don't exist. There is no door for that in Kaanha.",
                "Somebody deleted rows by hand: restore them from a backup.",
            )  # fmt: skip


def locks(_now: datetime) -> Iterator[Finding]:
    try:
        with _redis() as client:
            keys = list(client.scan_iter(lock.name("*"), count=1000))  # type: ignore[arg-type]
            held = [value.decode() for value in client.mget(keys) if value] if keys else []
    except (RedisError, OSError):
        return  # said elsewhere
    known = {str(key) for key in Broadcast.objects.filter(status__in=OPEN).values_list("pk", flat=True)}
    stale = len([value for value in held if value not in known])
    if stale:
        yield Finding(
            "locks_stale", NOTICE, stale,
            f"{_count(stale, 'lock')} in Redis for a broadcast that has ended.",
            "Nothing: the organization's next broadcast replaces it.",
        )  # fmt: skip


def secrets(_now: datetime) -> Iterator[Finding]:
    for count in secret_rotation.rotate(write=False, limit=LOOKED_AT):
        if count.unreadable:
            yield Finding(
                "secrets_unreadable", ERROR, count.unreadable,
                f"{_count(count.unreadable, 'row')} of {count.model} with a secret that can't be decrypted.",
                "Add the key that encrypted it to ENCRYPTION_KEYS, or enter it anew. Which: python manage.py "
                "rotate_secrets --check",
            )  # fmt: skip
        if count.old:
            yield Finding(
                "secrets_under_old_keys", WARNING, count.old,
                f"{_count(count.old, 'row')} of {count.model} with a secret under an old key.",
                "Run: python manage.py rotate_secrets. Until then no key may be removed from ENCRYPTION_KEYS.",
            )  # fmt: skip


def templates(_now: datetime) -> Iterator[Finding]:
    planned = Broadcast.objects.filter(status__in=OPEN).exclude(template__status__in=MessageTemplate.SENDABLE)
    for broadcast in planned.select_related("template", "organization").order_by("-pk")[:LISTED]:
        template = broadcast.template
        yield Finding(
            "template_unsendable", WARNING, 1,
            f"{_named(broadcast)} can't be sent: {template.standing}.",
            template.rejected_reason or "Repair the template at Meta; its new status comes by itself.",
        )  # fmt: skip


def sequences_behind(now: datetime) -> Iterator[Finding]:
    undecided = ContactEvent.objects.filter(handled_at=None)
    oldest = undecided.order_by("pk").values_list("at", flat=True).first()
    if oldest is not None and now - oldest > STALLED:
        count = undecided[:LOOKED_AT].count()
        yield Finding(
            "contact_events_undecided", ERROR, count,
            f"{_count(count, 'event')} of contacts that no sequence has looked at, the oldest for {_age(oldest, now)}.",
            "Look at beat and the workers of the lane 'default'. Or run: python manage.py run_due",
        )  # fmt: skip
    moving = Sequence.objects.filter(status=SequenceStatus.ACTIVE, spread_asked_at=None, exit_up_to=None)
    for sequence in moving:
        late = Enrollment.objects.filter(sequence=sequence, status="active", next_run_at__lt=now - STALLED)
        if count := late[:LOOKED_AT].count():
            yield Finding(
                "sequence_stalled", ERROR, count,
                f"Sequence {sequence.name!r} ({sequence.public_id}): {_count(count, 'step')} due for more than two "
                "minutes, and nobody takes them.",
                "Look at beat and the workers of the lane 'default'. Or run: python manage.py run_due",
            )  # fmt: skip


def held_steps(_now: datetime) -> Iterator[Finding]:
    """Steps of active sequences that are held for trouble, by the newest revision that has them."""
    for step in seeing.held_steps(Sequence.objects.all())[:LISTED]:
        sequence, reason, detail = step.revision.sequence, *_hold(step)
        yield Finding(
            "step_held", WARNING, 1,
            f"Step {step.place} of sequence {sequence.name!r} is held. {detail}",
            "Repair the template, or publish another one and move the people who wait."
            if reason == ErrorClass.TEMPLATE
            else f"Repair the cause, then run: python manage.py sequence retry {sequence.public_id}",
        )  # fmt: skip


def webhooks(now: datetime) -> Iterator[Finding]:
    late = Delivery.objects.filter(next_attempt_at__lt=now - STALLED)
    if count := late[:LOOKED_AT].count():
        worst = late.values("endpoint__url").annotate(late=models.Count("pk")).order_by("-late")[0]
        yield Finding(
            "webhooks_waiting", WARNING, count,
            f"{_count(count, 'webhook delivery')} due for more than two minutes, most of them to "
            f"{worst['endpoint__url']}.",
            "An endpoint that answers slowly gets few at a time. If all wait, look at beat and the workers of the lane "
            "'default'. Or run: python manage.py run_due",
        )  # fmt: skip
    disabled = Endpoint.objects.filter(active=True, disabled_at__gt=now - RECENT)
    for endpoint in disabled.select_related("organization").order_by("-disabled_at")[:LISTED]:
        yield Finding(
            "webhook_disabled", NOTICE, 1,
            f"The webhook endpoint {endpoint.url} of {endpoint.organization} is disabled. {endpoint.disabled_reason}",
            "Its organization turns it on again in the admin under Webhooks, once the receiver works.",
        )  # fmt: skip


def _hold(step: Step) -> tuple[str, str]:
    return (step.dispatch.hold_reason, step.dispatch.hold_detail) if step.dispatch else ("", "")


CHECKS: tuple[Check, ...] = (
    redis_server,
    processes,
    leases,
    stalled_broadcasts,
    sequences_behind,
    callbacks,
    counters,
    orphans,
    secrets,
    unconfirmed,
    unmatched_receipts,
    paused_broadcasts,
    held_steps,
    webhooks,
    templates,
    locks,
)


def _stands_still(dispatch: Dispatch, now: datetime) -> bool:
    """Whether rows have been due for long while no process holds one of them, or a slot of the number."""
    if dispatch.held_at is not None or not dispatch.messages.filter(due_at__lt=now - STALLED).exists():
        return False
    busy = SendSlot.objects.filter(phone_number=dispatch.phone_number_id, leased_until__gt=now).exists()
    return not busy and not dispatch.messages.filter(lease_until__isnull=False).exists()


def _redis() -> Redis:
    return Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1)


def _named(broadcast: Broadcast) -> str:
    return f"Broadcast {broadcast.name!r} ({broadcast.public_id})"


def _last_heard(processes: models.QuerySet[Heartbeat], now: datetime) -> str:
    last = processes.order_by("-at").first()
    return f"last heard of {_age(last.at, now)} ago" if last else "never heard of"


def _age(at: datetime, now: datetime) -> str:
    seconds = int((now - at).total_seconds())
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            return _count(seconds // length, unit)
    return _count(seconds, "second")


def _count(number: int, noun: str) -> str:
    plural = noun[:-1] + "ies" if noun.endswith("ry") else noun + ("es" if noun.endswith("ch") else "s")
    return f"{number:,} {noun if number == 1 else plural}"


# Dispatches by leaps through the index on (dispatch, contact); contacts and templates of the newest rows only.
_ORPHANS = """
WITH RECURSIVE named AS (
  (SELECT dispatch_id FROM messaging_message ORDER BY dispatch_id LIMIT 1)
  UNION ALL
  SELECT next.dispatch_id FROM named, LATERAL (
    SELECT dispatch_id FROM messaging_message m WHERE m.dispatch_id > named.dispatch_id
    ORDER BY dispatch_id LIMIT 1) next
), newest AS MATERIALIZED (SELECT contact_id, template_id FROM messaging_message ORDER BY id DESC LIMIT %s)
SELECT
  (SELECT count(*) FROM named n WHERE NOT EXISTS (SELECT FROM messaging_dispatch d WHERE d.id = n.dispatch_id)),
  (SELECT count(DISTINCT contact_id) FROM newest n
   WHERE NOT EXISTS (SELECT FROM contacts_contact c WHERE c.id = n.contact_id)),
  (SELECT count(DISTINCT template_id) FROM newest n
   WHERE NOT EXISTS (SELECT FROM templates_app_messagetemplate t WHERE t.id = n.template_id))
"""
