"""Webhook endpoints, deliveries and replays in the API."""

import json
from datetime import timedelta

import pytest
from django.db import connection

from kaanha.organizations.models import AuditEntry, Role
from kaanha.webhooks import endpoints
from kaanha.webhooks.models import TEST, Delivery, Endpoint, Event, Status
from tests.callers import Caller, error
from tests.factories import EndpointFactory, OrganizationFactory
from tests.receivers import answer
from tests.webhooks.conftest import NOW, happen, sweep

pytestmark = pytest.mark.django_db(transaction=True)
LIST, LOG = "/api/webhooks", "/api/webhook-deliveries"
UNKNOWN = "whe_aaaaaaaaaaaaaaaaaaaaaaaaaa"


@pytest.fixture
def organization(endpoint):
    return endpoint.organization


@pytest.fixture
def caller(organization):
    return Caller(organization).ready()


def at(row, act=""):
    return f"{LIST if isinstance(row, Endpoint) else LOG}/{row.public_id}{act and '/' + act}"


def ended(organization, status=Status.DELIVERED, **event):
    (delivery,) = happen(organization, **event)
    Delivery.objects.filter(pk=delivery.pk).update(status=status, next_attempt_at=None)
    return delivery


# --- endpoints -------------------------------------------------------------------------------------------------------


def test_a_new_endpoint_shows_its_secret_once_and_gets_a_test_event(receiver):
    shop = OrganizationFactory()
    caller = Caller(shop)

    told = caller.post(LIST, {"url": receiver.url, "events": ["message.read", "message.read", "contact.created"]})

    endpoint = Endpoint.objects.get()
    assert told.status_code == 201
    assert told.headers["ETag"] == endpoint.version
    assert told.json() == {
        "id": endpoint.public_id,
        "url": receiver.url,
        "events": ["message.read", "contact.created"],
        "sources": [],
        "description": "",
        "batched": False,
        "active": True,
        "state": "listening",
        "failingSince": None,
        "disabledAt": None,
        "disabledReason": None,
        "createdAt": told.json()["createdAt"],
        "secret": endpoint.secret,
    }
    assert receiver.requests == []  # not while somebody waits
    assert sweep() == {"delivered": 1}
    assert json.loads(receiver.requests[0].body)["event"] == "test"
    for address in (LIST, at(endpoint), LOG):
        assert endpoint.secret not in caller.get(address).content.decode()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://127.0.0.1/hooks", "isn't on the public internet"),
        ("https://10.0.0.1/", "isn't on the public internet"),
        ("https://169.254.169.254/latest", "isn't on the public internet"),
        ("https://metadata.google.internal/", "isn't on the public internet"),
        ("https://localhost/", "isn't on the public internet"),
        ("https://2130706433/", "isn't on the public internet"),
        ("http://example.com/", "Only https://"),
        ("https://me:secret@example.com/", "user name"),
        ("https://example.com:22/", "Port 22"),
        ("nonsense", "Only https://"),
        ("https://example.com/" + "a" * 500, "500"),
    ],
)
@pytest.mark.parametrize("change", [False, True])
def test_an_address_that_is_never_called_is_refused_where_it_stands(caller, endpoint, settings, url, why, change):
    settings.WEBHOOKS_ALLOW_LOOPBACK = False
    said = {"url": url, "events": ["message.read"]}

    told = caller.patch(at(endpoint), said) if change else caller.post(LIST, said)

    assert error(told) == (422, "invalid")
    assert why in told.json()["error"]["fields"]["url"][0]
    assert list(Endpoint.objects.values_list("url", flat=True)) == [endpoint.url]


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"events": ["message.read"]}, "url"),
        ({"url": "https://example.com/"}, "events"),
        ({"url": "https://example.com/", "events": []}, "events"),
        ({"url": "https://example.com/", "events": ["message.eaten"]}, "events.0"),
        ({"url": "https://example.com/", "events": "message.read"}, "events"),
        ({"url": "https://example.com/", "events": [7]}, "events.0"),
        ({"url": "https://example.com/", "events": ["test"]}, "events.0"),
        ({"url": "https://example.com/", "events": ["message.read"], "sources": ["mail"]}, "sources.0"),
        ({"url": "https://example.com/", "events": ["message.read"], "batched": 1}, "batched"),
        ({"url": "https://example.com/", "events": ["message.read"], "secret": "mine"}, "secret"),
    ],
)
def test_what_cannot_be_understood_is_said_where_it_stands(caller, said, field):
    told = caller.post(LIST, said)

    assert error(told) == (422, "invalid")
    assert list(told.json()["error"]["fields"]) == [field]


def test_one_key_for_two_requests_adds_one_endpoint(caller, receiver):
    said = {"url": receiver.url, "events": ["message.read"]}
    first, second = (caller.post(LIST, said, headers={"Idempotency-Key": "a-1"}) for _ in range(2))

    assert first.json() == second.json()
    assert Endpoint.objects.filter(kinds=["message.read"]).count() == 1


def test_there_are_twenty_endpoints_at_most_and_room_again_when_one_is_deleted(caller, organization):
    rows = EndpointFactory.create_batch(endpoints.MOST - 1, organization=organization)
    said = {"url": "https://example.com/hooks", "events": ["message.read"]}

    assert error(caller.post(LIST, said)) == (409, "too_many_endpoints")
    caller.delete(at(rows[0]))
    assert caller.post(LIST, said).status_code == 201


def test_what_is_sent_is_changed_and_tested_and_the_rest_stays(caller, endpoint, receiver):
    told = caller.patch(at(endpoint), {"events": ["contact.opted_out"], "sources": ["api"], "batched": True})

    endpoint.refresh_from_db()
    assert (told.status_code, told.json()["events"], told.headers["ETag"]) == (
        200,
        ["contact.opted_out"],
        endpoint.version,
    )
    assert (endpoint.url, endpoint.sources, endpoint.batched) == (receiver.url, ["api"], True)
    assert Event.objects.get().kind == TEST
    caller.patch(at(endpoint), {"batched": True})  # nothing new
    caller.patch(at(endpoint), {"active": False})  # nobody there to hear it
    assert Event.objects.count() == 1
    assert caller.get(at(endpoint)).json()["state"] == "off"


def test_nothing_is_changed_where_somebody_else_was_faster(caller, endpoint):
    old = caller.get(at(endpoint)).headers["ETag"]
    current = caller.patch(at(endpoint), {"description": "First"}).headers["ETag"]

    assert error(caller.patch(at(endpoint), {"description": "Second"}, headers={"If-Match": old})) == (
        412,
        "edited_meanwhile",
    )
    assert error(caller.delete(at(endpoint), headers={"If-Match": old})) == (412, "edited_meanwhile")
    assert caller.patch(at(endpoint), {"description": "Third"}, headers={"If-Match": current}).status_code == 200
    Endpoint.objects.update(failing_since=NOW, slow=True)  # the engine's columns are no edit
    assert caller.get(at(endpoint)).headers["ETag"] == Endpoint.objects.get().version


def test_a_deleted_endpoint_is_missing_and_its_log_stays(caller, endpoint, organization):
    delivery = ended(organization)

    assert caller.delete(at(endpoint)).status_code == 204

    assert error(caller.get(at(endpoint))) == (404, "endpoint_not_found")
    assert caller.get(LIST).json() == {"data": []}
    assert [one["id"] for one in caller.get(LOG).json()["data"]] == [delivery.public_id]
    assert error(caller.post(at(delivery, "replay"), b"")) == (409, "endpoint_off")


def test_a_new_secret_is_shown_once_and_signs_from_now_on(caller, endpoint, organization, receiver):
    happen(organization)

    secret = caller.post(at(endpoint, "rotate-secret"), b"").json()["secret"]

    endpoint.refresh_from_db()
    assert endpoint.secret == secret != "whsec_sample"
    sweep()
    assert receiver.requests[0].headers["X-Kaanha-Signature"] == endpoint.signature(receiver.requests[0].body)
    assert secret not in caller.get(at(endpoint)).content.decode()


def test_a_test_is_sent_with_the_next_sweep_and_told_of(caller, endpoint, receiver):
    receiver.says = answer(500, b"not yet")

    told = caller.post(at(endpoint, "test"), b"")
    assert (told.status_code, told.json()["event"], told.json()["status"]) == (202, "test", "pending")
    assert sweep() == {"failed": 1}

    after = caller.get(f"{LOG}/{told.json()['id']}").json()
    assert (after["status"], after["reason"], after["attempts"]) == ("failed", "It answered 500.", 1)
    assert error(caller.post(f"{LOG}/{told.json()['id']}/replay", b"")) == (409, "delivery_is_test")


def test_an_endpoint_that_is_off_is_not_tested_and_is_turned_on(caller, endpoint):
    Endpoint.objects.update(disabled_at=NOW, disabled_reason="It answered 410 Gone.", failing_since=NOW)
    shown = caller.get(at(endpoint)).json()
    assert (shown["state"], shown["disabledReason"]) == ("disabled", "It answered 410 Gone.")
    assert error(caller.post(at(endpoint, "test"), b"")) == (409, "endpoint_off")

    told = caller.post(at(endpoint, "enable"), b"").json()

    assert (told["state"], told["disabledAt"], told["failingSince"]) == ("listening", None, None)


def test_what_was_done_is_in_the_audit_log_without_the_secret(caller, endpoint, organization):
    ended(organization, Status.FAILED, at=NOW)
    caller.patch(at(endpoint), {"description": "Shop"})
    caller.post(at(endpoint, "rotate-secret"), b"")
    caller.post(at(endpoint, "replay"), {"from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:00:00Z"})
    caller.delete(at(endpoint))

    log = AuditEntry.objects.order_by("pk").values_list("action", "details")
    assert list(log) == [
        ("webhook.changed", {"fields": ["description"]}),
        ("webhook.changed", {"fields": ["secret"]}),
        ("webhook.replayed", {"deliveries": 1}),
        ("webhook.changed", {"deleted": True}),
    ]


# --- deliveries ------------------------------------------------------------------------------------------------------


def test_a_delivery_tells_each_attempt_and_what_was_sent(caller, endpoint, organization, receiver):
    receiver.says = [answer(503, b"down"), answer(200, b"fine")]
    (delivery,) = happen(organization, name="Sale", at=NOW)
    sweep()
    Delivery.objects.update(next_attempt_at=NOW)
    sweep()

    told = caller.get(at(delivery)).json()

    assert [(one["number"], one["responseCode"], one["answer"], one["events"]) for one in told["tried"]] == [
        (1, 503, "down", 1),
        (2, 200, "fine", 1),
    ]
    assert told["body"] == json.loads(receiver.requests[0].body)
    assert (told["eventId"], told["endpointId"]) == (delivery.event.public_id, endpoint.public_id)
    assert (told["status"], told["attempts"], told["responseCode"], told["reason"]) == ("delivered", 2, 200, None)
    assert (told["occurredAt"], told["nextAttemptAt"]) == ("2026-03-01T12:00:00Z", None)


def test_the_log_is_filtered_and_read_by_cursor_the_latest_first(caller, endpoint, organization):
    other = EndpointFactory(organization=organization, kinds=["contact.created"])
    rows = [ended(organization, Status.FAILED), ended(organization), *happen(organization, kind="contact.created")]
    first, second, third, fourth = [row.public_id for row in rows]
    others = next(row.public_id for row in rows if row.endpoint_id == other.pk)

    def listed(query=""):
        return [one["id"] for one in caller.get(f"{LOG}{query}").json()["data"]]

    assert listed() == [fourth, third, second, first]
    assert listed(f"?endpoint={other.public_id}") == [others]
    assert listed("?status=failed") == [first]
    assert listed("?status=pending&event=contact.created") == [fourth, third]
    assert listed("?event=test") == []
    page = caller.get(f"{LOG}?limit=3").json()
    assert (len(page["data"]), page["limit"]) == (3, 3)
    assert listed(f"?limit=3&cursor={page['nextCursor']}") == [first]
    assert error(caller.get(f"{LOG}?endpoint={UNKNOWN}")) == (404, "endpoint_not_found")
    assert error(caller.get(f"{LOG}?status=lost")) == (422, "invalid")
    assert error(caller.get(f"{LOG}?page=2")) == (422, "invalid")


def test_a_delivery_is_replayed_once_at_a_time(caller, organization, receiver):
    (delivery,) = happen(organization)
    assert error(caller.post(at(delivery, "replay"), b"")) == (409, "delivery_pending")
    sweep()

    told = caller.post(at(delivery, "replay"), b"")

    assert (told.status_code, told.json()["status"]) == (202, "pending")
    assert sweep() == {"delivered": 1}
    assert len({request.headers["X-Kaanha-Event-Id"] for request in receiver.requests}) == 1


def test_a_time_is_replayed_its_end_left_out(caller, endpoint, organization):
    for minutes, status in ((0, Status.FAILED), (1, Status.DELIVERED), (59, Status.FAILED), (60, Status.FAILED)):
        ended(organization, status, at=NOW + timedelta(minutes=minutes))
    span = {"from": "2026-03-01T12:00:00Z", "to": "2026-03-01T18:30:00+05:30"}

    assert caller.post(at(endpoint, "replay"), span).json() == {"replayed": 2, "more": False}
    assert Delivery.objects.filter(status=Status.PENDING).count() == 2
    assert caller.post(at(endpoint, "replay"), span | {"status": "all"}).json() == {"replayed": 1, "more": False}
    assert caller.post(at(endpoint, "replay"), span).json() == {"replayed": 0, "more": False}


def test_a_replay_takes_ten_thousand_and_says_that_there_are_more(caller, endpoint, organization, monkeypatch):
    monkeypatch.setattr(endpoints, "REPLAYED", 2)
    rows = [ended(organization, Status.FAILED, at=NOW) for _ in range(3)]
    span = {"from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:00:00Z"}

    assert caller.post(at(endpoint, "replay"), span).json() == {"replayed": 2, "more": True}
    assert Delivery.objects.get(status=Status.FAILED) == rows[2]
    assert caller.post(at(endpoint, "replay"), span).json() == {"replayed": 1, "more": False}


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"from": "2026-03-01T00:00:00", "to": "2026-03-02T00:00:00Z"}, "from"),
        ({"from": "0001-01-01T00:00:00+18:00", "to": "2026-03-02T00:00:00Z"}, "from"),
        ({"from": "yesterday", "to": "2026-03-02T00:00:00Z"}, "from"),
        ({"from": "2026-03-02T00:00:00Z", "to": "2026-03-02T00:00:00Z"}, "to"),
        ({"from": "2026-03-01T00:00:00Z"}, "to"),
        ({"from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:00:00Z", "status": "pending"}, "status"),
    ],
)
def test_a_time_that_is_none_is_refused(caller, endpoint, said, field):
    told = caller.post(at(endpoint, "replay"), said)

    assert error(told) == (422, "invalid")
    assert list(told.json()["error"]["fields"]) == [field]


# --- whose, and at what cost -----------------------------------------------------------------------------------------


def test_what_belongs_to_others_is_not_there(endpoint, organization, receiver):
    delivery = ended(organization)
    stranger = Caller(OrganizationFactory())
    span = {"from": "2026-03-01T00:00:00Z", "to": "2036-03-02T00:00:00Z"}

    for address, code in ((at(endpoint), "endpoint_not_found"), (at(delivery), "delivery_not_found")):
        assert error(stranger.get(address)) == (404, code)
    assert error(stranger.patch(at(endpoint), {"active": False})) == (404, "endpoint_not_found")
    assert error(stranger.delete(at(endpoint))) == (404, "endpoint_not_found")
    for act in ("rotate-secret", "test", "enable"):
        assert error(stranger.post(at(endpoint, act), b"")) == (404, "endpoint_not_found")
    assert error(stranger.post(at(endpoint, "replay"), span)) == (404, "endpoint_not_found")
    assert error(stranger.post(at(delivery, "replay"), b"")) == (404, "delivery_not_found")
    assert error(stranger.get(f"{LOG}?endpoint={endpoint.public_id}")) == (404, "endpoint_not_found")
    assert (stranger.get(LIST).json()["data"], stranger.get(LOG).json()["data"]) == ([], [])
    endpoint.refresh_from_db()
    assert (endpoint.active, endpoint.secret, Event.objects.count()) == (True, "whsec_sample", 1)


@pytest.mark.parametrize("role", [Role.AGENT, Role.VIEWER])
def test_only_who_may_change_settings_comes_in(endpoint, organization, role):
    member = Caller(organization, role)

    assert error(member.get(LIST)) == (403, "forbidden")
    assert error(member.get(LOG)) == (403, "forbidden")
    assert error(member.post(at(endpoint, "rotate-secret"), b"")) == (403, "forbidden")


@pytest.mark.parametrize("count", [1, 7])
def test_lists_cost_the_same_however_long(caller, endpoint, organization, count, django_assert_num_queries):
    EndpointFactory.create_batch(count, organization=organization, kinds=["contact.created"])
    for _ in range(count):
        happen(organization)

    # the key with its organization; the rows
    with django_assert_num_queries(2):
        caller.get(LIST)
    with django_assert_num_queries(2):
        caller.get(LOG)
    # the endpoint
    with django_assert_num_queries(3):
        caller.get(f"{LOG}?endpoint={endpoint.public_id}&status=pending&event=broadcast.completed")


@pytest.mark.parametrize(
    ("condition", "index"),
    [
        ("organization_id = 1", "delivery_latest"),
        ("organization_id = 1 AND status = 'failed'", "delivery_failed"),
        ("endpoint_id = 1", "delivery_of_endpoint"),
        ("endpoint_id = 1 AND status = 'failed'", "delivery_failed_of_endpoint"),
    ],
)
def test_the_log_is_read_by_an_index(condition, index):
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off")
        cursor.execute(f"EXPLAIN SELECT * FROM webhooks_delivery WHERE {condition} ORDER BY id DESC LIMIT 21")
        plan = "\n".join(line for (line,) in cursor.fetchall())
        cursor.execute("ROLLBACK")

    assert f"using {index} " in plan
    assert "Sort" not in plan
