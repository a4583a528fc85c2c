"""One of everything that an organization may own, for tests that go through the whole API."""

from __future__ import annotations

import re
from datetime import timedelta

from django.utils import timezone

from broadcasts import launch
from contacts import tagging
from kaanha.webhooks.models import Delivery, Event, Kind
from sequences import enrolling, publishing
from sequences.models import Enrollment, Source
from tests import factories

# Whose id stands at a place of an address.
PLACES = {
    "contact": "ct",
    "tag": "tag",
    "template": "tpl",
    "broadcast": "bc",
    "message": "msg",
    "sequence": "seq",
    "number": "number",
    "enrollment": "enr",
    "endpoint": "whe",
    "delivery": "whd",
}
PLACEHOLDER = re.compile(r"\b([a-z]+)_…")


class World:
    """Rows of an organization, and their public ids by kind: `ids["ct"]` is a contact's."""

    def __init__(self, organization):
        now, owned = timezone.now(), {"organization": organization}
        self.organization = organization
        number = factories.PhoneNumberFactory(**owned)
        template = factories.TemplateFactory(**owned, account=number.account)
        sending = {**owned, "phone_number": number}
        tag, contact = factories.TagFactory(**owned, name="VIP"), factories.ContactFactory(**owned)
        tagging.add(organization, [contact.pk], [tag.pk], source="operator", at=now)
        broadcast = factories.BroadcastFactory(**sending, template=template, tags=[tag])
        message = factories.MessageFactory(
            **owned, dispatch=factories.DispatchFactory(**sending), contact=contact, template=template
        )
        step = {"id": "hello", "type": "message", "template": template.public_id, "variables": {}}
        sequence = factories.SequenceFactory(**sending, draft=[step])
        endpoint = factories.EndpointFactory(**owned)
        Event.record(organization, Kind.CONTACT_UPDATED, {"id": contact.public_id}, at=now)
        rows = [number, template, tag, contact, broadcast, message, sequence, endpoint, Delivery.objects.get()]
        self.rows = {row.PUBLIC_KIND: row for row in rows}

    @property
    def ids(self):
        # Revisions are known by their numbers.
        return {kind: row.public_id for kind, row in self.rows.items()} | {"number": "1"}

    def enroll(self):
        """Activate the sequence, and enroll somebody in it."""
        sequence, person = self.rows["seq"], factories.ContactFactory(organization=self.organization)
        self.rows["rev"] = publishing.activate(sequence, now=timezone.now())
        enrolling.enroll(sequence, [person.pk], source=Source.API, now=timezone.now())
        self.rows["enr"] = Enrollment.objects.get(contact=person)

    def schedule(self):
        """Schedule the broadcast."""
        launch.schedule(self.rows["bc"], at=timezone.now() + timedelta(days=1), now=timezone.now())

    def pause(self):
        """Pause the broadcast, which was scheduled."""
        self.schedule()
        launch.pause(self.rows["bc"], now=timezone.now())

    def meet_the_simulator(self):
        """Let the account be the one that the simulator plays."""
        account = self.rows["pn"].account
        account.waba_id = "300000000000001"
        account.save()

    def address(self, path):
        """The documented address of rows of this world."""
        return re.sub(r"{(\w+)}", lambda found: self.ids[PLACES[found[1]]], path)

    def real(self, told):
        """The example with ids of this world in place of `ct_…` and its kin."""
        if isinstance(told, dict):
            return {name: self.real(value) for name, value in told.items()}
        if isinstance(told, list):
            return [self.real(value) for value in told]
        return PLACEHOLDER.sub(self._id, told) if isinstance(told, str) else told

    def _id(self, found):
        return self.ids.get(found[1], found[0])
