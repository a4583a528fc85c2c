"""Closing an organization: nobody works in it, nothing is sent for it, nothing is lost; and only staff reopen it."""

from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from broadcasts import audience, launch, preflight
from broadcasts.models import Broadcast
from broadcasts.models import Status as BroadcastStatus
from contacts.models import AutoTagRule, Contact
from kaanha import closing
from kaanha.lib.errors import Refusal
from kaanha.messaging import claiming, inbox, sweeping
from kaanha.messaging.models import InboundMessage, Message
from kaanha.organizations import closing as of_organizations
from kaanha.organizations import invitations
from kaanha.organizations.models import APIKey, AuditEntry, Invitation, Membership, Organization, Role
from kaanha.webhooks.models import Endpoint
from kaanha.whatsapp.cloud_api.events import Inbound
from sequences import publishing, running
from sequences.models import Enrollment, Sequence
from tests.callers import Caller
from tests.factories import (
    BroadcastFactory,
    DispatchFactory,
    EndpointFactory,
    MembershipFactory,
    MessageFactory,
    OrganizationFactory,
)
from tests.people import browser_of, said, signed_in, superuser, text
from tests.sequences.conftest import START, Stage

pytestmark = pytest.mark.django_db
NOW = START + timedelta(hours=1)
LATER = START + timedelta(days=3)
PAGE = "/admin/organizations/organization/"


@pytest.fixture
def stage():
    return Stage()


def broadcast(stage, status, **fields):
    tag = stage.tag(f"tag of {fields.get('name', status)}")
    stage.contact().tags.set([tag], through_defaults={"added_at": START})
    times = {"scheduled": {"scheduled_at": LATER}, "queued": {"queued_at": START}, "paused": {"paused_at": START}}
    told = {"template": stage.welcome, "tags": [tag], **times.get(status, {}), **fields}
    return BroadcastFactory(organization=stage.organization, phone_number=stage.number, status=status, **told)


def due(stage):
    """A message that is due."""
    dispatch = DispatchFactory(organization=stage.organization, phone_number=stage.number, kind="api")
    named = {"dispatch": dispatch, "template": stage.welcome, "contact": stage.contact()}
    return MessageFactory(organization=stage.organization, due_at=START, **named)


def fresh(row):
    return type(row).objects.get(pk=row.pk)


def audited():
    return list(AuditEntry.objects.order_by("pk").values_list("action", flat=True))


def test_everything_stops_at_once_and_nothing_is_lost(stage):
    scheduled, queued, draft = (broadcast(stage, status) for status in ("scheduled", "queued", "draft"))
    paused = broadcast(stage, "paused", resume_at=NOW)
    endpoint, elsewhere = EndpointFactory(organization=stage.organization), EndpointFactory()
    caller, other_caller = Caller(stage.organization), Caller(OrganizationFactory())
    told = {"by_role": Role.OWNER, "by": None, "now": timezone.now()}
    _, token = invitations.invite(stage.organization, "asha@example.test", Role.AGENT, **told)
    sequence = stage.active(stage.delay(hours=1), stage.message())
    [enrollment] = stage.enroll(sequence, stage.contact())
    message, other = due(stage), MessageFactory(due_at=START, dispatch__kind="api")
    stale = claiming.live(stage.number.pk, now=NOW)
    contacts = Contact.objects.count()

    closing.close(stage.organization, now=NOW)

    assert fresh(stage.organization).closed_at == NOW
    assert [fresh(one).status for one in (scheduled, queued, draft, paused)] == ["draft", "paused", "draft", "paused"]
    assert (fresh(scheduled).scheduled_at, fresh(paused).resume_at) == (None, None)
    assert fresh(queued).status_detail == "The organization was closed."
    assert (fresh(endpoint).active, fresh(elsewhere).active) == (False, True)
    assert [caller.get("/api/tags").status_code, other_caller.get("/api/tags").status_code] == [401, 200]
    assert APIKey.objects.get(pk=caller.key.pk).revoked_at == NOW
    assert invitations.opened(token, now=timezone.now()) is None
    entry = AuditEntry.objects.get(action="organization.closed")
    assert (entry.organization, entry.details) == (
        stage.organization,
        {"broadcasts": 2, "sequences": 1, "messages": 1, "endpoints": 1, "keys": 1, "invitations": 1},
    )

    launch.sweep(now=LATER)
    stage.wait(days=3)
    assert [fresh(one).status for one in (scheduled, queued, draft, paused)] == ["draft", "paused", "draft", "paused"]
    assert (fresh(sequence).status, fresh(enrollment).ended_at) == ("paused", None)
    # also for whoever had looked before it was closed
    assert [one.id for one in stale] == [message.dispatch_id]
    assert claiming.claim(stale, limit=10, now=LATER).empty
    assert claiming.live(stage.number.pk, now=LATER) == []
    assert claiming.numbers_with_work(now=LATER) == [other.dispatch.phone_number_id]
    assert (fresh(message).status, Message.objects.count(), Contact.objects.count()) == ("queued", 2, contacts)
    of_organizations.reopen(stage.organization)
    assert claiming.live(stage.number.pk, now=LATER) == []
    assert [one.id for one in claiming.live(other.dispatch.phone_number_id, now=LATER)] == [other.dispatch_id]
    sweeping.skip_canceled(now=LATER)
    assert (fresh(message).status, fresh(message).skip_reason, fresh(other).status) == ("skipped", "canceled", "queued")


def test_what_would_begin_is_refused(stage):
    draft, paused = broadcast(stage, "draft"), broadcast(stage, "paused", name="Half")
    new, running_one = stage.draft(stage.message()), stage.active(stage.message())
    closing.close(stage.organization, now=NOW)

    for act in (
        lambda: launch.send(draft, now=NOW),
        lambda: launch.schedule(draft, at=LATER, now=NOW),
        lambda: launch.resume(paused, now=NOW),
        lambda: publishing.activate(new, now=NOW),
        lambda: running.resume(fresh(running_one), now=NOW),
        lambda: closing.close(stage.organization, now=NOW),
    ):
        with pytest.raises(Refusal) as refused:
            act()
        assert refused.value.code == "organization_closed"
    assert set(Broadcast.objects.values_list("status", flat=True)) == {"draft", "paused"}
    assert set(Sequence.objects.values_list("status", flat=True)) == {"draft", "paused"}


def test_what_was_queued_past_the_acts_does_not_start(stage):
    closing.close(stage.organization, now=NOW)
    queued, scheduled = broadcast(stage, "queued"), broadcast(stage, "scheduled")
    launch.sweep(now=LATER + timedelta(minutes=1))

    assert [fresh(one).status for one in (queued, scheduled)] == ["queued", "scheduled"]
    of_organizations.reopen(stage.organization)
    launch.sweep(now=LATER + timedelta(minutes=1))
    assert [fresh(one).status for one in (queued, scheduled)] == ["sending", "queued"]


def test_while_a_broadcast_is_sending_it_is_not_closed(stage):
    sending = broadcast(stage, "draft", name="Diwali")
    launch.send(sending, now=NOW)
    launch.start_queued(now=NOW)
    scheduled, endpoint = broadcast(stage, "scheduled"), EndpointFactory(organization=stage.organization)
    sequence = stage.active(stage.message())

    with pytest.raises(Refusal, match=r"Broadcast 'Diwali' is sending\. Wait until it has completed"):
        closing.close(stage.organization, now=NOW)
    assert fresh(stage.organization).closed_at is None
    assert (fresh(scheduled).status, fresh(sequence).status, fresh(endpoint).active) == ("scheduled", "active", True)

    launch.cancel(fresh(sending), now=NOW)
    closing.close(stage.organization, now=NOW)
    assert fresh(stage.organization).closed_at == NOW


def test_what_people_write_is_kept_and_stop_is_obeyed(stage):
    customer, new = stage.contact(phone="+919811000001", opted_in=True), "919811000002"
    tag = stage.tag("asked")
    AutoTagRule.objects.create(organization=stage.organization, match="contains", text="price", tag=tag)
    closing.close(stage.organization, now=NOW)
    number = type(stage.number).objects.get(pk=stage.number.pk)
    told = {"user_id": None, "name": "Asha", "kind": "text", "choice": None, "quoted": None, "payload": {}, "at": NOW}
    told["phone_number_id"] = number.phone_number_id
    written = [
        Inbound(wamid="wamid.1", wa_id="919811000001", text="STOP", **told),
        Inbound(wamid="wamid.2", wa_id=new, text="What is the price?", **told),
    ]

    assert inbox.store(written, number, now=NOW) == 2
    assert not fresh(customer).opted_in
    assert InboundMessage.objects.of(stage.organization).count() == 2
    assert not Contact.objects.get(phone=f"+{new}").tags.exists()


# --- at the same moment ------------------------------------------------------------------------------------------


def meanwhile(monkeypatch, module, name, act):
    """While `name` runs for the first time, `act` begins in another thread, and isn't done before; its future."""
    pool, begun, real = ThreadPoolExecutor(1), [], getattr(module, name)

    def apart():
        try:
            return act()
        except Refusal as refusal:
            return refusal.code
        finally:
            connection.close()

    def while_it_runs(*args, **kwargs):
        if not begun:
            begun.append(pool.submit(apart))
            assert not wait(begun, 0.5).done  # it waits for us
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, while_it_runs)
    return begun


@pytest.mark.django_db(transaction=True)
def test_a_broadcast_that_is_just_starting_is_waited_for(stage, monkeypatch):
    starting = broadcast(stage, "queued")
    closed = meanwhile(monkeypatch, audience, "freeze", lambda: closing.close(stage.organization, now=NOW))

    assert launch.start_queued(now=NOW) == [starting.pk]
    assert closed[0].result(10) == "broadcast_sending"
    assert (fresh(starting).status, fresh(stage.organization).closed_at) == (BroadcastStatus.SENDING, None)


@pytest.mark.django_db(transaction=True)
def test_a_broadcast_that_is_just_being_sent_off_is_waited_for_and_paused(stage, monkeypatch):
    draft = broadcast(stage, "draft")
    closed = meanwhile(monkeypatch, preflight, "check", lambda: closing.close(stage.organization, now=NOW))
    launch.send(draft, now=NOW)

    assert closed[0].result(10) is None
    assert (fresh(draft).status, fresh(stage.organization).closed_at) == (BroadcastStatus.PAUSED, NOW)


@pytest.mark.django_db(transaction=True)
def test_a_broadcast_does_not_start_while_it_is_being_closed(stage, monkeypatch):
    queued = broadcast(stage, "queued")
    real, seen = of_organizations.note, []

    def note(*args, **kwargs):
        with ThreadPoolExecutor(1) as pool:
            seen.append(pool.submit(lambda: (launch.start_queued(now=NOW), connection.close())[0]).result(10))
        real(*args, **kwargs)

    monkeypatch.setattr(of_organizations, "note", note)
    closing.close(stage.organization, now=NOW)

    assert seen == [[]]
    assert (fresh(queued).status, Message.objects.count()) == (BroadcastStatus.PAUSED, 0)


# --- in the admin ------------------------------------------------------------------------------------------------


def test_an_owner_reads_what_it_does_and_types_the_name(stage):
    for status in ("scheduled", "queued"):
        broadcast(stage, status)
    stage.active(stage.message())
    EndpointFactory(organization=stage.organization)
    Caller(stage.organization)
    Organization.objects.filter(pk=stage.organization.pk).update(name="Sari  Palace")
    membership = MembershipFactory(organization=stage.organization, role=Role.OWNER, user__is_staff=True)
    elsewhere = MembershipFactory(user=membership.user, organization__name="Zoo").organization
    owner = browser_of(membership.user)
    address = f"{PAGE}{stage.organization.pk}/close/"

    page = text(owner.get(address))
    for sentence in (
        "One member stops working in it",
        "Nothing is sent to its contacts (2) any more.",
        "1 scheduled broadcast back to draft, 1 queued broadcast paused, 1 running sequence paused.",
        "1 API key revoked, 1 webhook endpoint turned off.",
        "whoever writes STOP is opted out",
    ):
        assert sentence in page
    for typed in ("", "Sari", "sari palace"):
        assert owner.post(address, {"name": typed}).status_code == 200
    assert fresh(stage.organization).closed_at is None

    answer = owner.post(address, {"name": " Sari Palace "})
    assert (answer.url, said(answer)) == ("/admin/", ["Sari  Palace is closed."])
    assert fresh(stage.organization).closed_at is not None
    owner.get("/admin/")  # shows the message
    choices = text(owner.get(f"{PAGE}choose/"))
    assert "Zoo" in choices
    assert "Sari" not in choices
    assert owner.post(f"{PAGE}choose/", {"organization": stage.organization.pk}).status_code == 404
    assert owner.get(address).status_code == 404
    assert str(elsewhere) in text(owner.get("/admin/"))
    assert audited()[-1] == "organization.closed"


def test_a_broadcast_that_is_sending_is_named_on_the_page(stage):
    launch.send(broadcast(stage, "draft", name="Diwali"), now=NOW)
    launch.start_queued(now=NOW)
    owner, address = signed_in(stage.organization), f"{PAGE}{stage.organization.pk}/close/"

    assert "Broadcast 'Diwali' is sending" in text(owner.get(address))
    answer = owner.post(address, {"name": stage.organization.name})
    assert answer.url == address
    assert "Broadcast 'Diwali' is sending." in said(answer)[-1]


@pytest.mark.parametrize("role", [Role.ADMIN, Role.AGENT, Role.VIEWER])
def test_nobody_but_owners_closes_it_and_nobody_of_them_reopens_it(stage, role):
    address = f"{PAGE}{stage.organization.pk}/"
    for where, forbidden in ((stage.organization, 403), (OrganizationFactory(), 404)):
        browser = signed_in(where, role)
        for ask in (browser.get, browser.post):
            assert ask(f"{address}close/", {"name": stage.organization.name}).status_code == 403
            assert ask(f"{address}reopen/").status_code == forbidden
    owner = signed_in(stage.organization)
    assert owner.post(f"{address}reopen/").status_code == 403
    assert "Close the organization" in text(owner.get(f"{address}change/"))
    admin = text(signed_in(stage.organization, Role.ADMIN).get(f"{address}change/"))
    assert "Close the organization" not in admin
    assert "Reopen" not in admin
    assert fresh(stage.organization).closed_at is None


def test_platform_staff_reopens_it_and_nothing_goes_on_by_itself(stage):
    paused, sequence = broadcast(stage, "queued"), stage.active(stage.message())
    endpoint, caller = EndpointFactory(organization=stage.organization), Caller(stage.organization)
    due(stage)
    owner = signed_in(stage.organization)
    closing.close(stage.organization, now=NOW)
    assert "You don't belong to an organization yet" in text(owner.get(f"{PAGE}choose/"))
    root = superuser()
    assert "closed" in text(root.get(PAGE)).lower()
    assert "Reopen" in text(root.get(f"{PAGE}{stage.organization.pk}/change/"))
    root.post(f"{PAGE}{stage.organization.pk}/reopen/")

    assert fresh(stage.organization).closed_at is None
    assert stage.organization.name in text(owner.get("/admin/"))
    assert (fresh(paused).status, fresh(sequence).status) == ("paused", "paused")
    assert (fresh(endpoint).active, caller.get("/api/tags").status_code) == (False, 401)
    assert Endpoint.objects.listening().count() == 0
    assert Invitation.objects.open().count() == 0
    assert claiming.live(stage.number.pk, now=LATER) == []
    assert audited()[-1] == "organization.reopened"
    assert said(root.post(f"{PAGE}{stage.organization.pk}/reopen/"))[-1].endswith("is open.")
    assert Membership.objects.of(stage.organization).count() == 1
    assert Enrollment.objects.count() == 0
