"""A full installation: one organization with a million contacts and ten million messages, and a small one beside it.

Few rows are made as the product makes them, the many by INSERT … SELECT, without the checks of foreign keys (which
takes a superuser, as `kaanha.servers` has) and before their indexes. All shares are drawn with a fixed seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from broadcasts.models import Broadcast
    from contacts.models import Tag
    from kaanha.messaging.models import Dispatch
    from kaanha.organizations.models import Organization
    from kaanha.webhooks.models import Endpoint
    from kaanha.whatsapp.models import PhoneNumber
    from sequences.models import Sequence
    from templates_app.models import MessageTemplate

BROADCASTS = 50
NEIGHBOR = 100  # times smaller than the organization beside it
ADDRESS = "https://shop.example/webhooks"
# What share of the contacts holds each tag.
TAGS = {"Everybody": 1.0, "Half": 0.5, "Tenth": 0.1, "Hundredth": 0.01, "Rare": 0.000_02}
SMALL_TAGS, SMALL_TAG = 100, 0.000_2


@dataclass
class Size:
    contacts: int
    messages: int
    deliveries: int

    def smaller(self) -> Size:
        return Size(self.contacts // NEIGHBOR, self.messages // NEIGHBOR, self.deliveries // NEIGHBOR)


@dataclass
class Subjects:
    """What the lists of the organization are about."""

    organization: Organization
    template: MessageTemplate
    broadcast: Broadcast
    sequence: Sequence
    endpoint: Endpoint
    common: Tag
    rare: Tag


def fill(size: Size) -> Subjects:
    """Both organizations, the small one first: its rows lie where a scan from the newest comes last."""
    from contacts import counting

    _execute("SELECT setseed(0.5)")
    _execute("SET session_replication_role = replica")
    with indexed_afterward():
        _fill("Neighbor", size.smaller())
        subjects = _fill("Benchmark", size)
    _execute("RESET session_replication_role")
    counting.recount(subjects.organization.pk)
    for table in ("contacts_contact", "messaging_message"):
        _execute(f"VACUUM {table}")
    _execute("ANALYZE")
    return subjects


def _fill(name: str, size: Size) -> Subjects:
    """One organization. Messages in the order of their times, as they come to be: their ids rise with them."""
    from kaanha.messaging.models import Dispatch

    owner, number, template = _account(name)
    tags = _contacts(owner, size)
    sequence = _sequence(owner, number, template, tags["Half"])
    others = (size.messages - size.contacts - size.contacts // 2 - size.contacts // 10) / (BROADCASTS - 1)
    shares = [1.0, *[others / size.contacts] * (BROADCASTS - 1)]
    *broadcasts, last = [_broadcast(owner, number, template, place) for place in range(BROADCASTS)]
    for broadcast, share in zip(broadcasts, shares, strict=False):
        _recipients(broadcast, share)
    step = Dispatch.objects.get(steps__revision__sequence=sequence)
    _enrollments(owner, sequence, step, template)
    told = {"owner": owner.pk, "number": number.pk, "template": template.pk}
    _execute(_SINGLE, {**told, "rows": size.contacts // 10})
    _recipients(last, shares[-1], queued=0.6)
    _execute(_COUNTS, [owner.pk])
    endpoint = _deliveries(owner, size)
    _execute(_INBOUND, [number.pk, owner.pk, size.contacts // 5])
    _execute(_AUDIT, [owner.pk, size.contacts // 10])
    return Subjects(owner, template, broadcasts[0], sequence, endpoint, tags["Half"], tags["Rare"])


def found() -> Subjects:
    """What an earlier run has left."""
    from broadcasts.models import Broadcast
    from contacts.models import Tag
    from kaanha.organizations.models import Organization
    from kaanha.webhooks.models import Endpoint
    from sequences.models import Sequence

    owner = Organization.objects.get(slug="benchmark")
    broadcast = Broadcast.objects.of(owner).order_by("pk")[0]
    tags = {tag.name: tag for tag in Tag.objects.of(owner)}
    return Subjects(
        owner,
        broadcast.template,
        broadcast,
        Sequence.objects.of(owner).order_by("pk")[0],
        Endpoint.objects.of(owner).order_by("pk")[0],
        tags["Half"],
        tags["Rare"],
    )


def _account(name: str) -> tuple[Organization, PhoneNumber, MessageTemplate]:
    from kaanha.organizations.models import Organization
    from kaanha.whatsapp.models import BusinessAccount, MetaApp, PhoneNumber, Portfolio
    from templates_app.models import MessageTemplate

    slug = name.lower()
    owner = Organization.objects.create(name=name, slug=slug)
    app = MetaApp.objects.create(app_id=slug, secret="secret")  # noqa: S106
    portfolio = Portfolio.objects.create(organization=owner, meta_id=slug)
    within: dict[str, Any] = {"organization": owner, "app": app, "portfolio": portfolio}
    account = BusinessAccount.objects.create(**within, waba_id=slug, access_token="token")  # noqa: S106
    number = PhoneNumber.objects.create(organization=owner, account=account, phone_number_id=slug)
    template = MessageTemplate.objects.create(
        organization=owner, account=account, name="news", language="en_US", category="MARKETING", status="APPROVED",
        components=[{"type": "BODY", "text": "There is news."}],
    )  # fmt: skip
    return owner, number, template


def _contacts(owner: Organization, size: Size) -> dict[str, Tag]:
    """The contacts with their tags; the tags by name."""
    from contacts.models import Tag

    shares = {**TAGS, **{f"Batch {n:03}": SMALL_TAG for n in range(SMALL_TAGS)}}
    _execute(_CONTACTS, {"owner": owner.pk, "contacts": size.contacts})
    _execute("ANALYZE contacts_contact")
    tags = {name: Tag.objects.create(organization=owner, name=name) for name in shares}
    for name, tag in tags.items():
        told = {"tag": tag.pk, "owner": owner.pk, "share": shares[name]}
        _execute(_HOLD if shares[name] > SMALL_TAG else _HOLD_FEW, told)
    _execute(_CREATED, [owner.pk])
    return tags


def _broadcast(owner: Organization, number: PhoneNumber, template: MessageTemplate, place: int) -> Broadcast:
    """A completed broadcast, every sixth day; the last one is being sent."""
    from django.utils import timezone

    from broadcasts.models import Broadcast, Status

    ends = place == BROADCASTS - 1
    at = timezone.now() - (timedelta(0) if ends else timedelta(days=25 + (BROADCASTS - 1 - place) * 6))
    times = {"queued_at": at, "started_at": at, "completed_at": None if ends else at + timedelta(hours=1)}
    broadcast: Broadcast = Broadcast.objects.create(
        organization=owner,
        name=f"News {place + 1}",
        template=template,
        phone_number=number,
        dispatch=_dispatch(owner, number, "broadcast", at),
        status=Status.SENDING if ends else Status.COMPLETED,
        **times,
    )
    return broadcast


def _recipients(broadcast: Broadcast, share: float, queued: float = 0) -> None:
    told = {"owner": broadcast.organization_id, "dispatch": broadcast.dispatch_id, "template": broadcast.template_id}
    _execute(_MESSAGES, {**told, "at": broadcast.queued_at, "share": share, "queued": queued})


def _dispatch(owner: Organization, number: PhoneNumber, kind: str, at: Any) -> Dispatch:
    from kaanha.messaging.models import Dispatch

    dispatch: Dispatch = Dispatch.objects.create(
        organization=owner, phone_number=number, kind=kind, lane=Dispatch.Lane.MARKETING
    )
    Dispatch.objects.filter(pk=dispatch.pk).update(created_at=at)
    return dispatch


def _sequence(owner: Organization, number: PhoneNumber, template: MessageTemplate, tag: Tag) -> Sequence:
    from django.utils import timezone

    from sequences import publishing
    from sequences.models import Sequence

    message = {"type": "message", "template": template.public_id}
    sequence: Sequence = Sequence.objects.create(
        organization=owner,
        name="Welcome",
        phone_number=number,
        trigger="tag_added",
        trigger_tag=tag,
        draft=[{"id": "hello", **message}, {"id": "wait", "type": "delay", "delay": {"days": 30}}],
    )
    publishing.activate(sequence, now=timezone.now())
    return sequence


def _enrollments(owner: Organization, sequence: Sequence, step: Dispatch, template: MessageTemplate) -> None:
    """Everybody who holds the trigger's tag, with the message of the first step and the wait after it."""
    from django.utils import timezone

    from sequences import recounting
    from sequences.models import Revision, Step

    at = timezone.now() - timedelta(days=20)
    told = {"owner": owner.pk, "dispatch": step.pk, "template": template.pk, "at": at}
    _execute(_STEP_MESSAGES, {**told, "tag": sequence.trigger_tag_id})
    revision = Revision.objects.get(sequence=sequence)
    first, second = Step.objects.filter(revision=revision).order_by("position")
    where = {"sequence": sequence.pk, "revision": revision.pk, "first": first.pk, "second": second.pk}
    _execute(_ENROLLMENTS, {**told, **where})
    _execute(_RUNS, {**where, "dispatch": step.pk})
    recounting.recount(sequence.pk)


def _deliveries(owner: Organization, size: Size) -> Endpoint:
    from kaanha.webhooks.models import Endpoint

    endpoints = [
        Endpoint.objects.create(organization=owner, url=f"{ADDRESS}/{n}", kinds=["message.sent"], secret="secret")  # noqa: S106
        for n in range(3)
    ]
    _execute(_EVENTS, [owner.pk, size.deliveries])
    _execute(_DELIVERIES, [[endpoint.pk for endpoint in endpoints], owner.pk])
    _execute(_ATTEMPTS, [owner.pk])
    return endpoints[0]


@contextmanager
def indexed_afterward() -> Iterator[None]:
    """Without the ledger's indexes but those of its constraints, which come back at the end."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(_INDEXES, ["messaging_message"])
        indexes = cursor.fetchall()
    for name, _ in indexes:
        _execute(f"DROP INDEX {name}")
    yield
    for _, definition in indexes:
        _execute(definition)


def _execute(statement: str, values: Any = None) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statement, values)


_INDEXES = """
SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
WHERE indrelid = %s::regclass AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
"""
# One in ten thousand is called Zephyrine; one in fifty is written in Devanagari.
_CONTACTS = """
INSERT INTO contacts_contact (organization_id, phone, country, name, email, attributes, opted_in, opt_in_source,
  opt_in_proof, opted_out_at, opt_out_source, created_at, updated_at, deleted_at)
SELECT %(owner)s, '+9190' || lpad(n::text, 8, '0'), 'IN',
  CASE WHEN n %% 10000 = 77 THEN 'Zephyrine ' || last
       WHEN n %% 50 = 7 THEN 'आशा ' || (ARRAY['शर्मा','वर्मा','गुप्ता','सिंह'])[1 + n %% 4]
       ELSE first || ' ' || last END,
  '', jsonb_build_object('city', (ARRAY['Pune','Mumbai','Delhi','Chennai'])[1 + n %% 4]),
  drawn < 0.6, CASE WHEN drawn < 0.9 THEN 'import' ELSE '' END,
  CASE WHEN drawn < 0.9 THEN 'import, row ' || n ELSE '' END,
  CASE WHEN drawn >= 0.6 AND drawn < 0.9 THEN at + interval '1 day' END,
  CASE WHEN drawn >= 0.6 AND drawn < 0.9 THEN 'inbound' ELSE '' END,
  at, at, CASE WHEN random() < 0.01 THEN now() END
FROM (
  SELECT n, random() AS drawn, now() - interval '400 days' + n * interval '20 seconds' AS at,
    (ARRAY['Asha','Arjun','Diya','Kabir','Meera','Rohan','Priya','Vikram','Sara','Omar','Lucía','José','Fatima','Wei'])
      [1 + (random() * 13)::int] AS first,
    (ARRAY['Kumar','Sharma','Singh','Patel','Example','García','Okafor','Chen'])[1 + (random() * 7)::int]
      || CASE WHEN random() < 0.5 THEN ' ' || substr(md5(n::text), 1, 6) ELSE '' END AS last
  FROM generate_series(1, %(contacts)s) AS n
) AS people
"""
_HOLD = """
INSERT INTO contacts_contacttag (contact_id, tag_id, added_at)
SELECT id, %(tag)s, created_at FROM contacts_contact WHERE organization_id = %(owner)s AND random() < %(share)s
"""
# So many draws, rather than one for every contact.
_HOLD_FEW = """
INSERT INTO contacts_contacttag (contact_id, tag_id, added_at)
SELECT DISTINCT id, %(tag)s::bigint, now()
FROM (SELECT min(id) AS first, count(*) AS rows FROM contacts_contact WHERE organization_id = %(owner)s) AS people,
  LATERAL (
    SELECT first + floor(random() * rows)::bigint AS id FROM generate_series(1, ceil(rows * %(share)s)::int)) AS drawn
"""
_CREATED = """
INSERT INTO contacts_contactevent (organization_id, kind, contact_id, source, at, handled_at)
SELECT organization_id, 'created', id, 'import', created_at, created_at FROM contacts_contact WHERE organization_id = %s
"""
# Skipped 3 %, failed 2 %, unconfirmed one in ten thousand, the rarest reason and code one in a hundred thousand.
_FATES = """
  CASE WHEN queued THEN 'queued' WHEN drawn < 0.03 THEN 'skipped' WHEN drawn < 0.05 THEN 'failed'
       WHEN drawn < 0.0501 THEN 'unconfirmed' WHEN drawn < 0.12 THEN 'sent' WHEN drawn < 0.5 THEN 'delivered'
       ELSE 'read' END,
  CASE WHEN queued OR drawn >= 0.03 THEN '' WHEN drawn < 0.00001 THEN 'country_blocked'
       WHEN drawn < 0.001 THEN 'missing_variable' WHEN drawn < 0.012 THEN 'frequency_cap' ELSE 'opted_out' END,
  CASE WHEN queued OR drawn < 0.03 OR drawn >= 0.05 THEN NULL WHEN drawn < 0.03001 THEN 131000
       WHEN drawn < 0.035 THEN 131049 ELSE 131026 END,
  CASE WHEN queued OR drawn < 0.03 OR drawn >= 0.05 THEN '' ELSE 'Message undeliverable' END,
  CASE WHEN queued THEN at END,
  CASE WHEN queued OR drawn < 0.03 THEN 0 ELSE 1 END,
  CASE WHEN queued OR drawn < 0.0501 THEN NULL ELSE 'wamid.' || md5(contact::text || at::text) END,
  CASE WHEN queued OR drawn < 0.03 THEN NULL ELSE '[]'::jsonb END,
  at,
  CASE WHEN queued OR drawn < 0.0501 THEN NULL ELSE at + interval '1 minute' END,
  CASE WHEN queued OR drawn < 0.0501 THEN NULL ELSE at + interval '2 minutes' END,
  CASE WHEN queued OR drawn < 0.12 THEN NULL ELSE at + interval '3 minutes' END,
  CASE WHEN queued OR drawn < 0.5 THEN NULL ELSE at + interval '1 hour' END,
  CASE WHEN NOT queued AND drawn >= 0.03 AND drawn < 0.05 THEN at + interval '2 minutes' END,
  CASE WHEN NOT queued AND (drawn < 0.03 OR drawn >= 0.05 AND drawn < 0.0501) THEN at + interval '1 minute' END
"""
_INTO = """
INSERT INTO messaging_message (organization_id, dispatch_id, contact_id, template_id, error_in_callback, tries,
  held_by_meta, status, skip_reason, error_code, error_text, due_at, attempt, wamid, parameters, created_at,
  accepted_at, sent_at, delivered_at, read_at, failed_at, closed_at)
"""
_MESSAGES = f"""{_INTO}
SELECT %(owner)s, %(dispatch)s, contact, %(template)s, false, 0, false, {_FATES}
FROM (
  SELECT id AS contact, random() AS drawn, random() < %(queued)s AS queued, %(at)s AS at
  FROM contacts_contact WHERE organization_id = %(owner)s AND random() < %(share)s ORDER BY id
) AS people
"""
_STEP_MESSAGES = f"""{_INTO}
SELECT %(owner)s, %(dispatch)s, contact, %(template)s, false, 0, false, {_FATES}
FROM (
  SELECT contact_id AS contact, random() AS drawn, false AS queued,
    %(at)s + place * interval '1 second' / 10 AS at
  FROM (
    SELECT contact_id, row_number() OVER (ORDER BY contact_id) AS place FROM contacts_contacttag
    WHERE tag_id = %(tag)s ORDER BY contact_id) AS holders
) AS people
"""
_SINGLE = f"""
WITH dispatched AS (
  INSERT INTO messaging_dispatch (organization_id, phone_number_id, kind, lane, when_capped, variables, hold_reason,
    hold_detail, created_at)
  SELECT %(owner)s, %(number)s, 'api', 'utility', 'skip', '{{}}', '', '',
    now() - interval '12 days' + n * interval '11 days' / %(rows)s
  FROM generate_series(1, %(rows)s) AS n
  RETURNING id, created_at
), numbered AS (
  SELECT id, created_at, row_number() OVER (ORDER BY id) AS place FROM dispatched
), people AS (
  SELECT id, row_number() OVER (ORDER BY id) AS place FROM contacts_contact WHERE organization_id = %(owner)s
)
{_INTO}
SELECT %(owner)s, dispatch, contact, %(template)s, false, 0, false, {_FATES}
FROM (
  SELECT n.id AS dispatch, p.id AS contact, random() AS drawn, false AS queued, n.created_at AS at
  FROM numbered n JOIN people p USING (place) ORDER BY n.id
) AS asked
"""
_COUNTS = """
INSERT INTO messaging_dispatchcount (dispatch_id, slot, total, dispatched, sent, delivered, read, failed, skipped,
  unconfirmed)
SELECT dispatch_id, 0, count(*), count(accepted_at), count(*) FILTER (WHERE status IN ('sent', 'delivered', 'read')),
  count(*) FILTER (WHERE status IN ('delivered', 'read')), count(*) FILTER (WHERE status = 'read'),
  count(*) FILTER (WHERE status = 'failed'), count(*) FILTER (WHERE status = 'skipped'),
  count(*) FILTER (WHERE status = 'unconfirmed')
FROM messaging_message WHERE organization_id = %s GROUP BY dispatch_id ORDER BY dispatch_id
"""
# Most have ended, one in ten waits, one in a thousand is paused; one in a hundred thousand ended by a reply.
_ENROLLMENTS = """
INSERT INTO sequences_enrollment (organization_id, sequence_id, contact_id, revision_id, step_id, status, exit_reason,
  source, enrolled_at, since, entered_at, next_run_at, ended_at)
SELECT %(owner)s, %(sequence)s, contact, %(revision)s, CASE WHEN drawn >= 0.89 THEN %(second)s END,
  CASE WHEN drawn < 0.8 THEN 'completed' WHEN drawn < 0.89 THEN 'exited' WHEN drawn < 0.891 THEN 'paused'
       ELSE 'active' END,
  CASE WHEN drawn < 0.8 OR drawn >= 0.89 THEN '' WHEN drawn < 0.80001 THEN 'replied' ELSE 'opted_out' END,
  'tag_added', at, at, at, CASE WHEN drawn >= 0.89 THEN at + interval '30 days' END,
  CASE WHEN drawn < 0.89 THEN at + interval '1 day' END
FROM (
  SELECT contact_id AS contact, created_at AS at, random() AS drawn FROM messaging_message
  WHERE dispatch_id = %(dispatch)s ORDER BY contact_id
) AS people
"""
_RUNS = """
INSERT INTO sequences_steprun (enrollment_id, step_id, key, at, ended_at, outcome, reason, message)
SELECT e.id, %(first)s, 'hello', e.enrolled_at, e.enrolled_at, 'sent', '', m.id
FROM sequences_enrollment e JOIN messaging_message m ON m.dispatch_id = %(dispatch)s AND m.contact_id = e.contact_id
WHERE e.sequence_id = %(sequence)s
UNION ALL
SELECT id, %(second)s, 'wait', enrolled_at, ended_at, CASE WHEN ended_at IS NULL THEN '' ELSE 'waited' END, '', NULL
FROM sequences_enrollment WHERE sequence_id = %(sequence)s
"""
_EVENTS = """
INSERT INTO webhooks_event (organization_id, kind, data, occurred_at)
SELECT %s, (ARRAY['message.sent', 'message.delivered', 'message.read', 'message.failed'])[1 + n %% 4],
  jsonb_build_object('messageId', md5(n::text)), now() - n * interval '3 seconds'
FROM generate_series(%s, 1, -1) AS n
"""
# Failed 2 %, and 1 in 10,000 on its way.
_DELIVERIES = """
INSERT INTO webhooks_delivery (organization_id, event_id, endpoint_id, status, reason, tries, attempts,
  next_attempt_at, response_code, milliseconds)
SELECT organization_id, id, (%s::bigint[])[1 + id %% 3],
  CASE WHEN drawn < 0.0001 THEN 'pending' WHEN drawn < 0.02 THEN 'failed' ELSE 'delivered' END,
  CASE WHEN drawn < 0.02 THEN 'It answered 503.' ELSE '' END, 1, 1,
  CASE WHEN drawn < 0.0001 THEN now() END, CASE WHEN drawn < 0.02 THEN 503 ELSE 200 END, 40
FROM (SELECT id, organization_id, random() AS drawn FROM webhooks_event WHERE organization_id = %s ORDER BY id) AS e
"""
_ATTEMPTS = """
INSERT INTO webhooks_attempt (delivery_id, number, at, response_code, milliseconds, error, excerpt, events)
SELECT id, 1, now(), response_code, 40, '', 'ok', 1 FROM webhooks_delivery WHERE organization_id = %s
"""
_INBOUND = """
INSERT INTO messaging_inboundmessage (organization_id, phone_number_id, contact_id, wamid, kind, text, payload,
  written_at, received_at)
SELECT organization_id, %s, id, 'wamid.in' || id, 'text', 'Hello', '{}', created_at, created_at
FROM contacts_contact WHERE organization_id = %s ORDER BY id LIMIT %s
"""
_AUDIT = """
INSERT INTO organizations_auditentry (organization_id, at, action, actor_kind, actor_name, object_kind, object_id,
  object_label, details, request_id)
SELECT %s, now() - interval '100 days' + n * interval '1 minute',
  (ARRAY['contact.opted_out', 'contact.updated', 'broadcast.sent', 'key.created'])[1 + n %% 4], 'person',
  'owner@example.com', 'contact', 'ct_' || md5(n::text), 'Sample ' || n, '{}', md5(n::text)
FROM generate_series(1, %s) AS n
"""
