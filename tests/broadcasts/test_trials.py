"""A test by hand: to whom it goes, as they would read it, and that it counts nowhere."""

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from broadcasts import launch
from broadcasts.models import Broadcast, Trial
from kaanha.messaging import counting
from kaanha.messaging.models import MarketingCap, Message
from kaanha.organizations.models import AuditEntry, Role
from tests.factories import ContactFactory
from tests.people import said, signed_in, text


@pytest.fixture
def owner(organization):
    return signed_in(organization)


@pytest.fixture
def asha(organization):
    return ContactFactory(organization=organization, name="Asha Example", phone="+919811000001")


@pytest.fixture
def broadcast(draft):
    return draft(name="Sale", variables={"body.first_name": {"field": "first_name", "fallback": "there"}})


def page(broadcast, name="test"):
    return f"/admin/broadcasts/broadcast/{broadcast.pk}/{name}/"


@pytest.mark.parametrize(
    "typed", ["+919811000001", "00919811000001", "+91 98110 00001", "Asha Example", "asha", " Asha  "]
)
def test_a_test_goes_to_one_contact(owner, broadcast, asha, typed):
    answer = owner.post(page(broadcast), {"to": typed, "_test": "1"})

    assert answer.url == page(broadcast, "review")
    message = Message.objects.get()
    assert (message.contact, message.dispatch.kind, message.status) == (asha, "test", "queued")
    assert Trial.objects.get().broadcast == broadcast
    [told] = said(owner.get(answer.url))
    assert told.startswith("The test to Asha Example is on its way. <a href=")
    assert f"/admin/messaging/message/{message.pk}/change/" in told
    assert LogEntry.objects.get().change_message == "Test sent to Asha Example."
    assert AuditEntry.objects.get(action="broadcast.tested").details == {"contact": asha.public_id}


def test_looking_at_it_sends_nothing(owner, broadcast, asha):
    shown = text(owner.post(page(broadcast), {"to": "Asha", "_look": "1"}))

    assert "Hi Asha, new things are in." in shown
    assert "As Asha Example would read it." in shown
    assert not Message.objects.exists()


def test_a_test_counts_nowhere(owner, broadcast, asha, people):
    [reached] = people(1)
    owner.post(page(broadcast), {"to": asha.phone, "_test": "1"})
    launch.send(broadcast, now=timezone.now())
    launch.sweep(now=timezone.now())

    broadcast.refresh_from_db()
    assert counting.funnel(broadcast.dispatch_id).total == 1
    assert [one.contact for one in Message.objects.filter(dispatch=broadcast.dispatch_id)] == [reached]
    assert not MarketingCap.objects.exists()
    assert "Test" in text(owner.get(f"/admin/messaging/message/?contact={asha.pk}"))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"opted_in": False}, "The contact has not opted in, or has opted out."),
        ({"country": "US"}, "Meta delivers no marketing to the contact's country."),
        ({"marketing_opted_out_at": timezone.now()}, "The contact told WhatsApp to stop your marketing."),
    ],
)
def test_who_may_not_get_it_gets_no_test(owner, broadcast, organization, fields, sentence):
    ContactFactory(organization=organization, name="Nia", **fields)

    shown = text(owner.post(page(broadcast), {"to": "Nia", "_test": "1"}))

    assert sentence in shown
    assert not Message.objects.exists()
    assert not Trial.objects.exists()


def test_whom_it_means_is_asked_where_that_is_unclear(owner, broadcast, asha, organization):
    ContactFactory(organization=organization, name="Asha Other", phone="+919811000002")
    ContactFactory(name="Asha Foreign", phone="+919811000003")
    ContactFactory(organization=organization, name="Asha Gone", deleted_at=timezone.now(), phone="+919811000004")

    shown = text(owner.post(page(broadcast), {"to": "asha", "_test": "1"}))
    assert "Several contacts begin so: Asha Example (+919811000001), Asha Other (+919811000002)." in shown
    for nobody in ("Asha Foreign", "+919811000003", "Asha Gone", "%", "zz"):
        shown = text(owner.post(page(broadcast), {"to": nobody, "_test": "1"}))
        assert "None of your contacts begins so." in shown
    assert not Message.objects.exists()


def test_those_tested_last_are_offered_first(owner, broadcast, asha, people):
    [reached] = people(1, phone="+919811000009")
    owner.post(page(broadcast), {"to": asha.phone, "_test": "1"})
    owner.post(page(broadcast), {"to": asha.phone, "_test": "1"})

    content = owner.get(page(broadcast)).content.decode()

    assert content.count("<option value=") == 2
    assert content.index(asha.phone) < content.index(reached.phone)


def test_the_page_costs_the_same_however_many(owner, broadcast, people, django_assert_max_num_queries):
    people(1)
    with django_assert_max_num_queries(30) as one:
        owner.get(page(broadcast))
    people(8)
    with django_assert_max_num_queries(len(one)):
        owner.get(page(broadcast))


def test_viewers_send_no_tests(organization, broadcast, asha):
    viewer = signed_in(organization, Role.VIEWER)

    assert viewer.get(page(broadcast)).status_code == 403
    assert viewer.post(page(broadcast), {"to": asha.phone}).status_code == 403


def test_the_form_saves_the_draft_before_its_test(owner, broadcast, template, number, tag):
    answer = owner.post(
        page(broadcast, "change"),
        {
            "name": "Renamed", "template": template.pk, "phone_number": number.pk, "tags": [tag.pk],
            "scheduled_at_0": "", "scheduled_at_1": "", "body.first_name:source": "first_name", "_test": "1",
        },
    )  # fmt: skip

    assert answer.url == page(broadcast)
    assert Broadcast.objects.get().name == "Renamed"
