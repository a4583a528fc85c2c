"""Messages in the API: one template to one contact, and what became of all of them."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from kaanha.lib import pagination
from kaanha.messaging import api, claiming, counting, holding, single, sweeping
from kaanha.messaging.models import Dispatch, MarketingCap, Message
from kaanha.organizations.models import AuditEntry, Role
from kaanha.webhooks.models import Event
from sequences.models import Revision, Step
from tests.callers import Caller, error
from tests.factories import (
    BroadcastFactory,
    ContactFactory,
    DispatchFactory,
    EndpointFactory,
    MessageFactory,
    OrganizationFactory,
    PhoneNumberFactory,
    SequenceFactory,
    TemplateFactory,
)

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PHONE = "+919876543210"


@pytest.fixture
def organization():
    return OrganizationFactory(timezone="Asia/Kolkata")


@pytest.fixture
def number(organization):
    return PhoneNumberFactory(organization=organization)


@pytest.fixture
def update(organization, number):
    return TemplateFactory(
        organization=organization,
        account=number.account,
        name="order_update",
        category="UTILITY",
        components=[{"type": "BODY", "text": "Hi {{1}}, your order {{2}} is on its way."}],
    )


@pytest.fixture
def sale(organization, number):
    return TemplateFactory(organization=organization, account=number.account, name="sale")


@pytest.fixture
def asha(organization):
    return ContactFactory(organization=organization, name="Asha Rao", phone=PHONE)


@pytest.fixture
def caller(organization):
    return Caller(organization).ready()


@pytest.fixture
def put(organization, number):
    """put("sent", …) is a message of the organization in that status."""

    def make(status="queued", **more):
        basis = {"organization": organization, "dispatch__phone_number": number, "dispatch__kind": "api"}
        return MessageFactory(**basis | {"status": status, "due_at": NOW if status == "queued" else None} | more)

    return make


def fields(response):
    assert error(response) == (422, "invalid")
    return set(response.json()["error"]["fields"])


def ids(response):
    assert response.status_code == 200, response.json()
    return [row["id"] for row in response.json()["data"]]


def public(*messages):
    return [one.public_id for one in messages]


FILLED = {"body.1": {"field": "first_name", "fallback": "there"}, "body.2": "A-1"}


def send(caller, **said):
    return caller.post("/api/messages", said)


# --- send --------------------------------------------------------------------------------------------------------


@time_machine.travel(NOW, tick=False)
def test_a_message_is_queued_and_told(caller, asha, update, number):
    answer = send(caller, phone="+91 98765 43210", template={"name": "order_update"}, variables=FILLED)

    message = Message.objects.get()
    assert answer.status_code == 202
    assert answer.json() == {
        "id": message.public_id,
        "contact": {"id": asha.public_id, "phone": PHONE, "name": "Asha Rao"},
        "template": {
            "id": update.public_id,
            "name": "order_update",
            "language": "en_US",
            "category": "UTILITY",
            "status": "APPROVED",
        },
        "phoneNumber": {"id": number.public_id, "number": number.display_number},
        "origin": {"type": "api", "broadcastId": None, "sequenceId": None, "name": None},
        "status": "queued",
        "skipReason": None,
        "error": None,
        "attempts": 0,
        "heldByMeta": False,
        "wamid": None,
        "dueAt": "2026-03-01T09:30:00Z",
        "createdAt": "2026-03-01T09:30:00Z",
        **dict.fromkeys(
            ("acceptedAt", "sentAt", "deliveredAt", "readAt", "failedAt", "closedAt", "repliedAt"),
        ),
    }
    dispatch = message.dispatch
    assert (dispatch.kind, dispatch.lane, dispatch.phone_number) == ("api", "utility", number)
    assert dispatch.variables == {**FILLED, "body.2": {"text": "A-1"}}
    assert counting.funnel(dispatch.pk) == counting.Funnel(total=1)
    [envelope] = claiming.claim(claiming.live(number.pk, now=NOW), limit=10, now=NOW).envelopes
    assert b"Asha" in envelope.body
    assert b"A-1" in envelope.body


def test_a_request_sent_twice_sends_once_with_a_key_and_twice_without(caller, asha, sale):
    said = {"contactId": asha.public_id, "templateId": sale.public_id}
    once = {"Idempotency-Key": "order-1"}

    same = [caller.post("/api/messages", said, headers=once).json()["id"] for _ in range(2)]
    other = send(caller, **said).json()["id"]

    assert same[0] == same[1] != other
    assert Message.objects.count() == 2


@time_machine.travel(NOW, tick=False)
def test_who_had_marketing_is_skipped_in_the_claim_and_the_message_says_so(caller, asha, sale, number):
    MarketingCap.objects.create(contact=asha, message=0, until=NOW + MINUTE)

    answer = send(caller, contactId=asha.public_id, templateId=sale.public_id)
    assert answer.status_code == 202
    claiming.claim(claiming.live(number.pk, now=NOW), limit=10, now=NOW)

    told = caller.get(f"/api/messages/{answer.json()['id']}").json()
    assert (told["status"], told["skipReason"]) == ("skipped", "frequency_cap")
    assert (told["closedAt"], told["dueAt"]) == ("2026-03-01T09:30:00Z", None)


@pytest.mark.parametrize(
    ("contact", "expected"),
    [
        ({"opted_in": False}, (422, "not_opted_in")),
        ({"phone": None, "user_id": "US.1"}, (422, "no_phone")),
        ({"deleted_at": NOW}, (404, "contact_not_found")),
        ({"marketing_opted_out_at": NOW}, (422, "marketing_opted_out")),
        ({"country": "US"}, (422, "country_blocked")),
    ],
)
def test_to_whom_nothing_is_sent(caller, organization, sale, contact, expected):
    someone = ContactFactory(organization=organization, **contact)

    assert error(send(caller, contactId=someone.public_id, templateId=sale.public_id)) == expected
    assert not Dispatch.objects.exists()


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({}, "variables_unmapped"),
        ({"body.1": "x"}, "variables_unmapped"),
        ({"body.1": "x", "body.2": "y", "body.3": "z"}, "variables_unmapped"),
        ({"body.1": "x", "body.2": {"field": "order"}}, "missing_variable"),
    ],
)
def test_what_is_not_filled_is_not_sent(caller, asha, update, variables, code):
    answer = send(caller, contactId=asha.public_id, templateId=update.public_id, variables=variables)

    assert error(answer) == (422, code)
    assert not Dispatch.objects.exists()


@pytest.mark.parametrize("status", ["PENDING", "REJECTED", "PAUSED", "DELETED"])
def test_what_meta_does_not_let_us_send(caller, asha, sale, status):
    sale.status = status
    sale.save()

    answer = send(caller, contactId=asha.public_id, templateId=sale.public_id)

    assert error(answer) == (409, "template_not_approved")


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"contactId": "ct_x"},
        {"templateId": "tpl_x"},
        {"contactId": "ct_x", "phone": PHONE, "templateId": "tpl_x"},
        {"phone": "12", "templateId": "tpl_x"},
        {"phone": PHONE, "templateId": "tpl_x", "template": {"name": "sale"}},
        {"phone": PHONE, "templateId": "tpl_x", "variables": []},
        {"phone": PHONE, "templateId": "tpl_x", "at": "now"},
        {"phone": PHONE, "templateId": None},
    ],
)
def test_what_no_message_is_made_of(caller, said):
    assert error(send(caller, **said)) == (422, "invalid")


def test_what_is_foreign_is_missing(caller, asha, sale):
    for said, code in (
        ({"contactId": ContactFactory().public_id, "templateId": sale.public_id}, "contact_not_found"),
        ({"phone": ContactFactory().phone, "templateId": sale.public_id}, "contact_not_found"),
        ({"contactId": asha.public_id, "templateId": TemplateFactory().public_id}, "template_not_found"),
        (
            {
                "contactId": asha.public_id,
                "templateId": sale.public_id,
                "phoneNumberId": PhoneNumberFactory().public_id,
            },
            "phone_number_not_found",
        ),
    ):
        assert error(send(caller, **said)) == (404, code)
    assert not Dispatch.objects.exists()


def test_the_audit_log_says_which_key_sent_it_to_whom(caller, asha, sale):
    message = send(caller, contactId=asha.public_id, templateId=sale.public_id).json()["id"]
    assert send(caller, contactId=asha.public_id, templateId=TemplateFactory().public_id).status_code == 404

    entry = AuditEntry.objects.get()
    assert (entry.action, entry.object_id, entry.actor_kind) == ("message.sent", message, AuditEntry.ActorKind.KEY)
    assert entry.details == {"contact": asha.public_id, "template": sale.public_id}


def test_sending_costs_the_same_whatever_is_sent(caller, asha, update, django_assert_num_queries):
    # the key; the numbers, the template, the contact, what it is filled with; in a transaction in a transaction the
    # dispatch, the message and the counters; the message, and the line of the audit log
    with django_assert_num_queries(16):
        assert send(caller, phone=PHONE, template={"name": "order_update"}, variables=FILLED).status_code == 202


def test_viewers_read_and_agents_do_not(organization, asha, sale):
    said = {"contactId": asha.public_id, "templateId": sale.public_id}

    for role, reading, sending in ((Role.VIEWER, 200, 403), (Role.AGENT, 403, 403), (Role.OWNER, 200, 202)):
        other = Caller(organization, role)
        assert (other.get("/api/messages").status_code, send(other, **said).status_code) == (reading, sending)


# --- what nobody resumes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Dispatch.SINGLE)
def test_a_held_request_fails_with_the_reason_of_the_hold(asha, sale, number, organization, kind):
    EndpointFactory(organization=organization)
    message = single.send(asha, kind=kind, template=sale, number=number, variables={}, now=NOW)
    holding.hold(message.dispatch_id, reason="account", detail="The token has expired.", now=NOW)

    assert sweeping.give_up_held(now=NOW) == 1

    message.refresh_from_db()
    assert (message.status, message.error_text, message.failed_at) == ("failed", "The token has expired.", NOW)
    assert (message.due_at, message.error_in_callback) == (None, False)
    assert counting.funnel(message.dispatch_id) == counting.Funnel(total=1, failed=1)
    assert Event.objects.get(kind="message.failed").data["errorText"] == "The token has expired."
    assert sweeping.give_up_held(now=NOW) == 0


@pytest.mark.parametrize("kind", ["broadcast", "step"])
def test_what_somebody_resumes_waits_in_its_hold(put, kind):
    message = put(dispatch__kind=kind, dispatch__held_at=NOW)

    assert sweeping.give_up_held(now=NOW) == 0
    message.refresh_from_db()
    assert message.status == "queued"


# --- list and get ------------------------------------------------------------------------------------------------


def test_the_list_has_the_newest_first_without_the_foreign(caller, put):
    a, b, c = put(), put("read"), put("failed")
    MessageFactory()

    answer = caller.get("/api/messages?limit=2")

    assert ids(answer) == public(c, b)
    assert answer.json().keys() == {"data", "limit", "nextCursor"}
    rest = caller.get(f"/api/messages?limit=2&cursor={answer.json()['nextCursor']}")
    assert (ids(rest), rest.json()["nextCursor"]) == (public(a), None)


def test_the_list_by_contact_status_template_and_time(caller, put, asha, sale):
    old = put("read", created_at=NOW)
    Message.objects.filter(pk=old.pk).update(created_at=NOW)
    failed = put("failed", contact=asha)
    read = put("read", template=sale, contact=asha)

    assert ids(caller.get(f"/api/messages?contact={asha.public_id}")) == public(read, failed)
    assert ids(caller.get("/api/messages?status=read")) == public(read, old)
    assert ids(caller.get(f"/api/messages?contact={asha.public_id}&status=read")) == public(read)
    assert ids(caller.get(f"/api/messages?template={sale.public_id}")) == public(read)
    assert ids(caller.get(f"/api/messages?template={sale.public_id}&status=failed")) == []
    assert ids(caller.get("/api/messages?since=2026-03-01T09:30:01Z")) == public(read, failed)
    assert ids(caller.get("/api/messages?since=2026-03-01T15:00:00")) == public(read, failed, old)  # Asia/Kolkata
    assert ids(caller.get("/api/messages?since=2026-03-01T15:00:01&status=read")) == public(read)
    assert ids(caller.get("/api/messages?since=2099-01-01T00:00Z")) == []


def test_what_messages_can_not_be_asked_for(caller):
    for query in ("status=waiting", "page=1", "limit=0", "cursor=x", "q=x", "status="):
        assert fields(caller.get(f"/api/messages?{query}")) == {query.partition("=")[0]}
    assert error(caller.get("/api/messages?since=yesterday")) == (422, "bad_time")
    elsewhere = pagination.sealed(("2026-03-01T09:30:00+00:00", "message", 1))
    assert fields(caller.get(f"/api/messages?cursor={elsewhere}")) == {"cursor"}


def test_foreign_contacts_and_templates_are_missing(caller):
    contact, template = ContactFactory(), TemplateFactory()

    assert error(caller.get(f"/api/messages?contact={contact.public_id}")) == (404, "contact_not_found")
    assert error(caller.get(f"/api/messages?template={template.public_id}")) == (404, "template_not_found")
    for public_id in (MessageFactory().public_id, "msg_x", "x"):
        assert error(caller.get(f"/api/messages/{public_id}")) == (404, "message_not_found")


def test_of_what_is_rare_an_answer_looks_at_so_many_and_its_cursor_leads_on(caller, put, monkeypatch):
    monkeypatch.setattr(api, "LOOKED_AT", 3)
    failed = put("failed")
    for _ in range(4):
        put("read")
    newest = put("failed")

    first = caller.get("/api/messages?status=failed").json()
    second = caller.get(f"/api/messages?status=failed&cursor={first['nextCursor']}").json()
    third = caller.get(f"/api/messages?status=failed&cursor={second['nextCursor']}").json()

    assert [one["id"] for one in first["data"]] == public(newest)
    assert [one["id"] for one in second["data"]] == public(failed)
    assert (third["data"], third["nextCursor"]) == ([], None)
    full = caller.get("/api/messages?status=read&limit=1").json()
    assert len(full["data"]) == 1
    after = caller.get(f"/api/messages?status=read&limit=100&cursor={full['nextCursor']}").json()
    assert len(after["data"]) == 3


@pytest.mark.parametrize("written", [range(9), range(8, -1, -1)])
def test_since_a_time_however_the_ids_lie(organization, put, written):
    """Ids that were given side by side may lie against the time by a few minutes."""
    made = [put() for _ in written]
    for one, minutes in zip(made, written, strict=True):
        Message.objects.filter(pk=one.pk).update(created_at=NOW + minutes * MINUTE)

    for minutes in (-1, 0, 4, 8, 9):
        found = Message.objects.all().since(organization, NOW + minutes * MINUTE)
        assert sorted(found.values_list("created_at", flat=True)) == [
            NOW + minute * MINUTE for minute in range(max(minutes, 0), 9)
        ]


def test_since_a_time_of_nobody(organization):
    MessageFactory()

    assert list(Message.objects.all().since(organization, NOW)) == []


def test_everything_says_what_asked_for_it(caller, organization, number, put, django_assert_max_num_queries):
    broadcast = BroadcastFactory(
        organization=organization, dispatch=DispatchFactory(organization=organization, phone_number=number)
    )
    asked = {"broadcast": put(dispatch=broadcast.dispatch), "api": put(), "test": put(dispatch__kind="test")}

    # the key, the messages, the broadcasts, the tests
    with django_assert_max_num_queries(4):
        told = {one["id"]: one["origin"] for one in caller.get("/api/messages").json()["data"]}

    nothing = {"broadcastId": None, "sequenceId": None, "name": None}
    assert told == {
        asked["broadcast"].public_id: {
            "type": "broadcast",
            "broadcastId": broadcast.public_id,
            "sequenceId": None,
            "name": broadcast.name,
        },
        asked["api"].public_id: {"type": "api", **nothing},
        asked["test"].public_id: {"type": "test", **nothing},
    }


def test_a_step_says_its_sequence_once_though_several_revisions_share_it(caller, put, organization):
    sequence, message = SequenceFactory(organization=organization), put(dispatch__kind="step")
    for n in (1, 2):
        revision = Revision.objects.create(
            organization=organization,
            sequence=sequence,
            number=n,
            tree=[],
            phone_number=sequence.phone_number,
            published_at=NOW,
            superseded_at=NOW,
        )
        step = {"key": "a", "place": "1", "position": 1, "kind": "message", "spec": {}}
        Step.objects.create(revision=revision, dispatch=message.dispatch, **step)

    told = caller.get(f"/api/messages/{message.public_id}").json()

    assert told["origin"] == {
        "type": "sequence",
        "broadcastId": None,
        "sequenceId": sequence.public_id,
        "name": sequence.name,
    }


def test_the_list_costs_the_same_however_many(caller, put, django_assert_num_queries):
    for _ in range(3):
        message = put("failed")

    # the key, the messages
    with django_assert_num_queries(2):
        caller.get("/api/messages")
    # where the part ends that is looked at
    with django_assert_num_queries(3):
        caller.get("/api/messages?status=failed")
    # where the time begins
    with django_assert_num_queries(3):
        caller.get("/api/messages?since=2026-03-01T09:30Z")
    with django_assert_num_queries(2):
        caller.get(f"/api/messages/{message.public_id}")
