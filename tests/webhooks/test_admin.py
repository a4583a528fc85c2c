"""Webhooks by hand: endpoints, their secrets, the log of deliveries, replays."""

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from kaanha.lib.errors import Refusal
from kaanha.organizations.models import Role
from kaanha.webhooks import endpoints
from kaanha.webhooks.models import Delivery, Endpoint, Status
from tests.factories import EndpointFactory, OrganizationFactory
from tests.people import said, signed_in, text
from tests.receivers import answer
from tests.webhooks.conftest import happen, sweep

pytestmark = pytest.mark.django_db(transaction=True)
LIST = "/admin/webhooks/endpoint/"
LOG = "/admin/webhooks/delivery/"


@pytest.fixture
def owner(endpoint):
    return signed_in(endpoint.organization)


def page(row, name="change"):
    return f"{LIST if isinstance(row, Endpoint) else LOG}{row.pk}/{name}/"


def typed(url, **fields):
    return {"url": url, "description": "Shop", "kinds": ["contact.created", "message.read"], "active": "on", **fields}


def test_a_new_endpoint_shows_its_secret_once_and_gets_a_test_event(receiver):
    shop = OrganizationFactory()
    owner = signed_in(shop)

    shown = owner.post(f"{LIST}add/", typed(receiver.url))

    endpoint = Endpoint.objects.get()
    assert (endpoint.organization, endpoint.kinds) == (shop, ["contact.created", "message.read"])
    assert endpoint.secret.startswith("whsec_")
    assert len(endpoint.secret) > 40
    assert endpoint.secret in text(shown)
    (request,) = receiver.requests
    assert json.loads(request.body)["event"] == "test"
    assert request.headers["X-Kaanha-Signature"] == endpoint.signature(request.body)
    assert "The test event was delivered" in text(shown)
    for later in (owner.get(LIST), owner.get(page(endpoint)), owner.get(LOG)):
        assert endpoint.secret not in later.content.decode()


def test_a_test_event_that_fails_is_said_and_the_endpoint_stays(receiver):
    receiver.says = answer(500)
    shown = signed_in(OrganizationFactory()).post(f"{LIST}add/", typed(receiver.url))

    assert "The test event was not delivered. The answer was 500" in text(shown)
    assert Endpoint.objects.count() == 1


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://127.0.0.1/hooks", "isn't on the public internet"),
        ("https://169.254.169.254/latest", "isn't on the public internet"),
        ("http://192.0.2.1:8000/", "Only https://"),
        ("https://me:secret@192.0.2.1/", "user name"),
    ],
)
def test_an_address_that_is_not_called_is_refused_with_its_reason(settings, url, why):
    settings.WEBHOOKS_ALLOW_LOOPBACK = False

    assert why in text(signed_in(OrganizationFactory()).post(f"{LIST}add/", typed(url)))
    assert not Endpoint.objects.exists()


def test_saving_sends_a_test_event_and_keeps_the_secret(owner, endpoint, receiver):
    answered = owner.post(page(endpoint), typed(receiver.url, description="Renamed"))

    endpoint.refresh_from_db()
    assert (endpoint.description, endpoint.secret) == ("Renamed", "whsec_sample")
    assert [json.loads(request.body)["event"] for request in receiver.requests] == ["test"]
    assert any("The test event was delivered" in message for message in said(answered))


def test_a_replaced_secret_is_shown_once_and_signs_from_then_on(owner, endpoint, receiver):
    shown = owner.post(page(endpoint, "rotate-secret"))

    endpoint.refresh_from_db()
    assert endpoint.secret != "whsec_sample"
    assert endpoint.secret in text(shown)
    happen(endpoint.organization)
    sweep()
    assert receiver.requests[0].headers["X-Kaanha-Signature"] == endpoint.signature(receiver.requests[0].body)


def test_a_disabled_endpoint_says_why_and_is_turned_on_again(owner, endpoint):
    Endpoint.objects.update(disabled_at=timezone.now(), disabled_reason="It answered 410 Gone.")
    assert "It answered 410 Gone." in text(owner.get(LIST))

    owner.post(page(endpoint, "turn-on"))

    endpoint.refresh_from_db()
    assert endpoint.listening


def test_the_log_tells_what_became_of_a_delivery(owner, endpoint, receiver):
    receiver.says = answer(503, b"<b>down</b>")
    (delivery,) = happen(endpoint.organization)
    sweep()

    line, whole = text(owner.get(LOG)), text(owner.get(page(delivery)))
    for word in ("broadcast.completed", "Pending", "503"):
        assert word in line
    assert delivery.event.public_id in whole
    assert "It answered 503." in whole
    assert "<b>down</b>" not in owner.get(page(delivery)).content.decode()


def test_a_delivery_is_replayed_from_its_page_and_from_the_list(owner, endpoint, receiver):
    (delivery,) = happen(endpoint.organization)
    sweep()

    owner.post(page(delivery, "replay"))
    sweep()
    owner.post(LOG, {"action": "replay_selected", "_selected_action": [delivery.pk]})
    sweep()

    assert len(receiver.requests) == 3
    assert len({request.headers["X-Kaanha-Event-Id"] for request in receiver.requests}) == 1


def test_what_is_on_its_way_is_not_offered_to_be_replayed(owner, endpoint, receiver):
    (delivery,) = happen(endpoint.organization)

    assert "Delivery of broadcast.completed" in text(owner.get(page(delivery)))
    assert "replay-button" not in owner.get(page(delivery)).content.decode()
    for answered in (
        owner.get(page(delivery, "replay"), follow=True),
        owner.post(page(delivery, "replay"), follow=True),
    ):
        assert said(answered) == ["This delivery is pending: it is tried without a replay."]
    # In the log it stands in each row, and the page behind it says why not.
    answered = owner.get(page(delivery, "replay-row-button"), follow=True)
    assert said(answered) == ["This delivery is pending: it is tried without a replay."]
    sweep()
    assert len(receiver.requests) == 1
    assert "replay-button" in owner.get(page(delivery)).content.decode()


@pytest.mark.parametrize(
    ("meanwhile", "sentence"),
    [
        (lambda delivery: Endpoint.objects.update(active=False), "The endpoint is off, or deleted."),
        (lambda delivery: Delivery.objects.filter(pk=delivery.pk).delete(), "This delivery is gone"),
    ],
)
def test_what_changes_while_a_delivery_is_replayed_is_said(owner, endpoint, receiver, meanwhile, sentence):
    (delivery,) = happen(endpoint.organization)
    sweep()
    delivery.refresh_from_db()
    meanwhile(delivery)

    with pytest.raises(Refusal, match=sentence):
        endpoints.replay_one(delivery, now=timezone.now())


def test_a_range_of_time_is_replayed(owner, endpoint, receiver):
    now = timezone.now().replace(second=0, microsecond=0)
    for hours, status in ((3, Status.FAILED), (2, Status.FAILED), (2, Status.DELIVERED), (1, Status.FAILED)):
        (delivery,) = happen(endpoint.organization, at=now - timedelta(hours=hours))
        Delivery.objects.filter(pk=delivery.pk).update(status=status, next_attempt_at=None)
    since, until = now - timedelta(hours=2, minutes=5), now - timedelta(hours=1, minutes=30)
    span = {
        "since_0": f"{since:%Y-%m-%d}",
        "since_1": f"{since:%H:%M}",
        "until_0": f"{until:%Y-%m-%d}",
        "until_1": f"{until:%H:%M}",
    }

    answered = owner.post(page(endpoint, "replay"), {**span, "which": "failed"})
    assert said(answered)[0].startswith("Replayed: 1.")
    sweep()
    assert len(receiver.requests) == 1
    assert said(owner.post(page(endpoint, "replay"), {**span, "which": "all"}))[-1].startswith("Replayed: 2.")


@pytest.mark.parametrize("role", [Role.AGENT, Role.VIEWER])
def test_only_who_may_change_settings_sees_webhooks(endpoint, role):
    member = signed_in(endpoint.organization, role)
    for address in (LIST, LOG, page(endpoint), page(endpoint, "rotate-secret"), page(endpoint, "test")):
        assert member.get(address).status_code == 403
        assert member.post(address).status_code == 403
    assert Endpoint.objects.get().secret == "whsec_sample"


def test_another_organizations_endpoint_is_neither_tested_nor_offered(owner, receiver):
    theirs = EndpointFactory(url=receiver.url, description="Theirs")
    for name in ("test", "rotate-secret", "turn-on", "replay"):
        assert owner.post(page(theirs, name)).status_code == 404

    assert receiver.requests == []
    assert "Theirs" not in text(owner.get(LOG))
    assert "Theirs" not in text(owner.get(LIST))


def test_the_log_costs_the_same_however_many_deliveries(owner, endpoint):
    def cost():
        with CaptureQueriesContext(connection) as captured:
            owner.get(LOG)
        return len(captured)

    happen(endpoint.organization)
    owner.get(LOG)
    one = cost()
    for _ in range(10):
        happen(endpoint.organization)
    assert cost() == one
