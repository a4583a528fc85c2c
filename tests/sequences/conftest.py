"""A controlled clock around the whole engine: months of a sequence without sleeping."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from contacts import tagging
from contacts.models import ContactEvent
from kaanha.messaging import fates, ledger, step_news
from kaanha.messaging.models import Message, SkipReason, Status
from kaanha.whatsapp.cloud_api.errors import ErrorClass, Verdict
from sequences import advancing, enrolling, publishing, recounting, triggers, waking
from sequences.models import Enrollment, Sequence, Source
from tests.factories import ContactFactory, PhoneNumberFactory, SequenceFactory, TagFactory, TemplateFactory

START = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)  # a Monday
REFUSED = Verdict(
    error_class=ErrorClass.RECIPIENT, code=131026, text="Message undeliverable", words="", follow_up_after=None
)
TRANSIENT = Verdict(
    error_class=ErrorClass.TRANSIENT, code=131016, text="Service unavailable", words="", follow_up_after=None
)


class Stage:
    """An organization with a number, two templates and a clock. `now` moves only by `wait`."""

    def __init__(self):
        self.now = START
        self.number = PhoneNumberFactory()
        self.organization = self.number.organization
        self.welcome = self.template("welcome")
        self.offer = self.template("offer")

    def template(self, name, **fields):
        return TemplateFactory(organization=self.organization, account=self.number.account, name=name, **fields)

    def contact(self, **fields):
        return ContactFactory(organization=self.organization, **fields)

    def tag(self, name):
        return TagFactory(organization=self.organization, name=name)

    def message(self, key="m", template=None, **fields):
        return {"id": key, "type": "message", "template": (template or self.welcome).public_id} | fields

    def delay(self, key="d", **span):
        return {"id": key, "type": "delay", "delay": span}

    def if_tag(self, key, tag, yes=None, no=None, **fields):
        return _paths({"id": key, "type": "condition", "if": {"tag": tag.public_id}} | fields, yes, no)

    def if_reached(self, key, step, reached, yes=None, no=None, **fields):
        return _paths({"id": key, "type": "condition", "if": {"step": step, "reached": reached}} | fields, yes, no)

    def if_field(self, key, field, op, value=None, yes=None, no=None, **fields):
        test = {"field": field, "is": op} | ({} if value is None else {"value": value})
        return _paths({"id": key, "type": "condition", "if": test} | fields, yes, no)

    def draft(self, *steps, **fields):
        return SequenceFactory(organization=self.organization, phone_number=self.number, draft=list(steps), **fields)

    def active(self, *steps, **fields):
        sequence = self.draft(*steps, **fields)
        publishing.activate(sequence, now=self.now)
        return sequence

    def enroll(self, sequence, *contacts):
        outcomes = enrolling.enroll(sequence, [c.pk for c in contacts], source=Source.API, now=self.now)
        assert [one.code for one in outcomes] == [""] * len(contacts)
        self.run()
        return [Enrollment.objects.get(pk=one.enrollment_id) for one in outcomes]

    def put_on(self, tag, *contacts):
        pairs = [(contact.pk, tag.pk) for contact in contacts]
        tagging.add_pairs(self.organization, pairs, source="operator", at=self.now)

    def created(self, *contacts):
        """What adding a contact appends beside it."""
        for contact in contacts:
            ContactEvent.objects.create(
                organization=self.organization, kind="created", contact=contact, source="api", at=self.now
            )

    def wait(self, **span):
        self.now += timedelta(**span)
        self.run()

    def run(self):
        """What the sweep does, without its look for downtime: a clock that jumps is no pause."""
        for act in (triggers.handle, enrolling.take_in, waking.wake, advancing.advance):
            while act(now=self.now):
                pass

    def settle(self, messages=None, status="sent", **options):
        """Let Meta decide about messages that are still open; all of them if none are named."""
        rows = list(Message.objects.waiting().order_by("pk") if messages is None else messages)
        with ledger.changing([row.pk for row in rows], now=self.now) as changing:
            for row in changing.values():
                _fate(row, status, now=self.now, **options)
        self.run()
        return rows

    def reply(self, contact):
        """The contact answers the last message that it got."""
        last = Message.objects.filter(contact=contact, accepted_at__isnull=False).latest("pk")
        Message.objects.filter(pk=last.pk).update(replied_at=self.now)
        step_news.tell([last.pk])
        self.run()

    def sent(self, contact):
        """The templates that went out to a contact, or are about to, in order."""
        rows = Message.objects.filter(contact=contact).select_related("template").order_by("pk")
        return [row.template.name for row in rows]

    def path(self, contact):
        """(step, what became of it) of everything that the contact took."""
        return list(Enrollment.objects.get(contact=contact).runs.order_by("at", "pk").values_list("key", "outcome"))


def _paths(step, yes, no):
    return step | {name: path for name, path in (("yes", yes), ("no", no)) if path is not None}


def _fate(row, status, *, now, reason=SkipReason.FREQUENCY_CAP):
    if status == "failed":
        row.status, row.lease_until = Status.SENDING, None
        fates.refuse(row, REFUSED, now=now)
    elif status == "skipped":
        fates.skip(row, reason, now=now)
    elif status == "unconfirmed":
        row.status = Status.SENDING
        fates.lose_sight(row, "Nobody knows.", now=now)
    else:
        fates.receive(row, status, at=now, wamid=f"wamid.{row.id}", attempt=None, verdict=None)


@pytest.fixture
def stage(db):
    """At the end of each test the counters say what the rows say, whatever it was about."""
    stage = Stage()
    yield stage
    for sequence in Sequence.objects.all():
        assert not recounting.recount(sequence.pk, repair=False), sequence
