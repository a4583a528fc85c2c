"""Broadcasts in the API: drafts, acts, numbers and recipients."""

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import connection, transaction

from broadcasts import launch, recipients
from broadcasts.models import Broadcast, PauseReason, Status
from contacts.models import Contact
from kaanha.messaging import claiming, counting, receipts, settling
from kaanha.messaging.models import Dispatch, MarketingCap, Message, SkipReason
from kaanha.messaging.settling import Result
from kaanha.organizations.models import Role
from kaanha.whatsapp.cloud_api.client import Accepted
from kaanha.whatsapp.cloud_api.events import Receipt
from tests.callers import Caller, error
from tests.contacts.threads import at_once
from tests.factories import (
    BroadcastFactory,
    ContactFactory,
    DispatchFactory,
    MessageFactory,
    PhoneNumberFactory,
    TagFactory,
    TemplateFactory,
)

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
PHONE = "+919876543210"
MAPPED = {"body.first_name": {"field": "first_name", "fallback": "there"}}
ACTS = ("send", "unschedule", "pause", "resume", "cancel")


@pytest.fixture
def number(organization):
    return PhoneNumberFactory(organization=organization)


@pytest.fixture
def caller(organization):
    return Caller(organization).ready()


def of(broadcast, more=""):
    return f"/api/broadcasts/{broadcast.public_id}{more}"


def fresh(broadcast):
    return Broadcast.objects.get(pk=broadcast.pk)


def fields(response):
    assert error(response) == (422, "invalid")
    return set(response.json()["error"]["fields"])


def names(response):
    assert response.status_code == 200, response.json()
    return [row["name"] for row in response.json()["data"]]


# --- list and get ------------------------------------------------------------------------------------------------


def test_the_list_has_the_newest_first_without_the_foreign(organization, caller, draft):
    for name in ("A", "B", "C"):
        draft(name=name)
    BroadcastFactory()

    answer = caller.get("/api/broadcasts?limit=2")

    assert names(answer) == ["C", "B"]
    assert answer.json()["total"] == 3
    assert names(caller.get("/api/broadcasts?limit=2&page=2")) == ["A"]
    assert names(caller.get(f"/api/broadcasts?limit=2&cursor={answer.json()['nextCursor']}")) == ["A"]


def test_the_list_by_status_and_name(caller, draft):
    draft(name="Spring sale")
    draft(name="Autumn sale", status=Status.CANCELED)

    assert names(caller.get("/api/broadcasts?status=draft")) == ["Spring sale"]
    assert names(caller.get("/api/broadcasts?search=AUTUMN")) == ["Autumn sale"]
    assert names(caller.get("/api/broadcasts?search=sale&status=sending")) == []
    assert fields(caller.get("/api/broadcasts?status=sent")) == {"status"}


def test_a_broadcast_is_told_whole(caller, draft, template, number, tag):
    broadcast = draft(name="Spring sale", dispatch=DispatchFactory(organization=tag.organization))
    counting_rows(broadcast, read=1, failed=2, queued=1)

    answer = caller.get(of(broadcast))

    told = answer.json()
    assert answer.headers["ETag"] == broadcast.version
    assert told.pop("createdAt")
    assert told.pop("updatedAt")
    assert told == {
        "id": broadcast.public_id,
        "name": "Spring sale",
        "status": "draft",
        "statusDetail": None,
        "pauseReason": None,
        "scheduledAt": None,
        "queuedAt": None,
        "startedAt": None,
        "pausedAt": None,
        "resumeAt": None,
        "completedAt": None,
        "funnel": {
            "total": 4,
            "waiting": 1,
            "dispatched": 1,
            "sent": 1,
            "delivered": 1,
            "read": 1,
            "failed": 2,
            "skipped": 0,
            "unconfirmed": 0,
        },
        "template": {
            "id": template.public_id,
            "name": "new_arrivals",
            "language": "en_US",
            "category": "MARKETING",
            "status": "APPROVED",
        },
        "phoneNumber": {"id": number.public_id, "number": number.display_number},
        "tags": [{"id": tag.public_id, "name": "newsletter"}],
        "excludedTags": [],
        "variables": MAPPED,
    }


def counting_rows(broadcast, **statuses):
    """So many messages of each status, as they stand in the ledger, counted."""
    for status, count in statuses.items():
        for _ in range(count):
            MessageFactory(
                organization=broadcast.organization,
                dispatch=broadcast.dispatch,
                status=status,
                due_at=NOW if status == "queued" else None,
                accepted_at=NOW if status in ("sent", "delivered", "read") else None,
            )
    counting.recount(broadcast.dispatch_id)


def test_the_list_and_one_cost_the_same_however_many(organization, caller, draft, django_assert_num_queries):
    for _ in range(3):
        broadcast = draft(dispatch=DispatchFactory(organization=organization))

    # the key, the number, the broadcasts, their tags, their excluded tags, their funnels
    with django_assert_num_queries(6):
        caller.get("/api/broadcasts?status=draft&search=b")
    # without the number
    with django_assert_num_queries(5):
        caller.get(of(broadcast))


# --- create ------------------------------------------------------------------------------------------------------


def create(caller, **said):
    return caller.post("/api/broadcasts", {"name": "Spring sale", **said})


def test_a_draft_is_written(organization, caller, template, number, tag):
    other = TagFactory(organization=organization, name="Staff")

    answer = create(
        caller,
        template={"name": "new_arrivals"},
        tags=["NEWSLETTER", tag.public_id],
        excludedTags=[other.public_id],
        variables={"body.first_name": {"field": "first_name", "fallback": "there"}, "body.2": "30 November"},
    )

    assert answer.status_code == 201
    draft = Broadcast.objects.get()
    assert answer.json()["id"] == draft.public_id
    assert answer.headers["ETag"] == draft.version
    assert (draft.organization, draft.name, draft.status) == (organization, "Spring sale", Status.DRAFT)
    assert (draft.template, draft.phone_number) == (template, number)
    assert draft.variables == {**MAPPED, "body.2": {"text": "30 November"}}
    assert (list(draft.tags.all()), list(draft.excluded_tags.all())) == ([tag], [other])
    assert not Dispatch.objects.exists()


def test_a_name_and_a_template_are_enough(caller, template):
    told = create(caller, templateId=template.public_id).json()

    assert (told["tags"], told["variables"], told["status"]) == ([], {}, "draft")


def test_texts_for_a_header_are_links_or_ids(caller, template):
    for text, source in (("https://example.com/a.jpg", "link"), ("123456", "id")):
        told = create(caller, templateId=template.public_id, variables={"header": text}).json()
        assert told["variables"] == {"header": {source: text}}


@pytest.mark.parametrize(
    ("said", "faulty"),
    [
        ({"name": ""}, {"name"}),
        ({"name": "a\nb"}, {"name"}),
        ({"name": "x" * 201}, {"name"}),
        ({"name": 5}, {"name"}),
        ({"tags": "VIP"}, {"tags"}),
        ({"tags": [5]}, {"tags.0"}),
        ({"tags": ["x"] * 101}, {"tags"}),
        ({"variables": []}, {"variables"}),
        ({"variables": {"body.1": 5}}, {"variables"}),
        ({"variables": {"body.1": {}}}, {"variables"}),
        ({"variables": {"body.1": {"text": 5}}}, {"variables"}),
        ({"variables": {"body.1": {"text": "a", "field": "b"}}}, {"variables"}),
        ({"variables": {"body.1": {"text": "a", "more": "b"}}}, {"variables"}),
        ({"variables": {"body.1": "x" * 1025}}, {"variables"}),
        ({"variables": {f"body.{n}": "x" for n in range(101)}}, {"variables"}),
        ({"template": {}}, {"template.name"}),
        ({"template": "sale"}, {"template"}),
        ({"scheduledAt": "2036-12-24T09:30"}, {"scheduledAt"}),
        ({"status": "sending"}, {"status"}),
    ],
)
def test_what_no_draft_can_be_written_from(caller, template, said, faulty):
    by_id = {} if "template" in said else {"templateId": template.public_id}

    assert fields(create(caller, **by_id, **said)) == faulty
    assert not Broadcast.objects.exists()


def test_the_template_is_named_once(caller, template):
    for said in ({}, {"templateId": template.public_id, "template": {"name": "new_arrivals"}}):
        assert error(create(caller, **said)) == (422, "invalid")


def test_what_is_not_there_is_missing_and_so_is_what_is_foreign(caller, template):
    foreign = TemplateFactory(name="theirs")
    named = {"templateId": template.public_id}

    for said, code in (
        ({"templateId": foreign.public_id}, "template_not_found"),
        ({"templateId": "tpl_x"}, "template_not_found"),
        ({"template": {"name": "theirs"}}, "template_not_found"),
        ({"template": {"name": "new_arrivals", "language": "hi"}}, "template_not_found"),
        ({**named, "tags": ["nothing"]}, "tag_not_found"),
        ({**named, "tags": [TagFactory().public_id]}, "tag_not_found"),
        ({**named, "excludedTags": [TagFactory(name="theirs").name]}, "tag_not_found"),
        ({**named, "phoneNumberId": PhoneNumberFactory().public_id}, "phone_number_not_found"),
        ({**named, "phoneNumberId": PhoneNumberFactory().phone_number_id}, "phone_number_not_found"),
    ):
        assert error(create(caller, **said)) == (404, code), said
    assert not Broadcast.objects.exists()


def test_a_template_in_several_languages_needs_one(organization, caller, template, number):
    hindi = TemplateFactory(organization=organization, account=number.account, name="new_arrivals", language="hi")

    assert error(create(caller, template={"name": "new_arrivals"})) == (422, "template_language_needed")
    told = create(caller, template={"name": "new_arrivals", "language": "hi"}).json()
    assert told["template"]["id"] == hindi.public_id


def test_with_several_numbers_one_is_chosen_by_our_id_or_by_metas(organization, caller, template, number):
    second = PhoneNumberFactory(organization=organization, account=number.account)
    PhoneNumberFactory(organization=organization, account=number.account, disconnected_at=NOW)
    named = {"templateId": template.public_id}

    refused = create(caller, **named)

    assert error(refused) == (422, "phone_number_needed")
    assert second.public_id in refused.json()["error"]["message"]
    for text in (second.public_id, second.phone_number_id):
        assert create(caller, **named, phoneNumberId=text).json()["phoneNumber"]["id"] == second.public_id


def test_the_number_has_the_template(organization, caller, template):
    elsewhere = PhoneNumberFactory(organization=organization)

    answer = create(caller, templateId=template.public_id, phoneNumberId=elsewhere.public_id)

    assert error(answer) == (422, "phone_number_of_another_account")


def test_a_name_that_stands_in_two_accounts_is_the_one_of_the_number(organization, caller, template):
    elsewhere = PhoneNumberFactory(organization=organization)
    twin = TemplateFactory(organization=organization, account=elsewhere.account, name="new_arrivals")

    assert error(create(caller, template={"name": "new_arrivals"})) == (422, "template_account_needed")
    told = create(caller, template={"name": "new_arrivals"}, phoneNumberId=elsewhere.public_id).json()
    assert told["template"]["id"] == twin.public_id


def test_without_a_connected_number_there_is_no_draft(caller, template, number):
    number.disconnected_at = NOW
    number.save()

    assert error(create(caller, templateId=template.public_id)) == (409, "not_connected")


def test_creating_costs_the_same_however_many_tags(organization, caller, template, django_assert_max_num_queries):
    tags = [TagFactory(organization=organization).public_id for _ in range(20)]

    with django_assert_max_num_queries(22):
        answer = create(caller, templateId=template.public_id, tags=tags, excludedTags=[])
    assert answer.status_code == 201


# --- change and delete -------------------------------------------------------------------------------------------


def test_a_change_leaves_what_is_not_sent(organization, caller, draft, tag):
    other = TagFactory(organization=organization, name="Staff")
    broadcast = draft()
    before = broadcast.version

    answer = caller.patch(of(broadcast), {"name": "New", "excludedTags": ["staff"]})

    told = answer.json()
    assert (answer.status_code, told["name"]) == (200, "New")
    assert [one["id"] for one in told["tags"]] == [tag.public_id]
    assert [one["id"] for one in told["excludedTags"]] == [other.public_id]
    assert told["variables"] == MAPPED
    assert answer.headers["ETag"] == fresh(broadcast).version != before


def test_a_template_of_another_account_brings_its_number(organization, caller, draft, number):
    elsewhere = PhoneNumberFactory(organization=organization)
    twin = TemplateFactory(organization=organization, account=elsewhere.account)
    broadcast = draft()

    told = caller.patch(of(broadcast), {"templateId": twin.public_id}).json()

    assert (told["template"]["id"], told["phoneNumber"]["id"]) == (twin.public_id, elsewhere.public_id)


def test_the_number_stays_while_there_are_others(organization, caller, draft, number):
    PhoneNumberFactory(organization=organization, account=number.account)
    broadcast = draft()

    assert caller.patch(of(broadcast), {"name": "New"}).json()["phoneNumber"]["id"] == number.public_id


@time_machine.travel(NOW, tick=False)
def test_of_two_who_change_the_same_version_the_second_is_told(caller, draft):
    broadcast = draft(name="Old")
    read = caller.get(of(broadcast)).headers["ETag"]

    first = caller.patch(of(broadcast), {"name": "First"}, headers={"If-Match": read})
    second = caller.patch(of(broadcast), {"name": "Second"}, headers={"If-Match": read})

    assert first.status_code == 200
    assert error(second) == (412, "edited_meanwhile")
    assert fresh(broadcast).name == "First"
    assert (
        caller.patch(of(broadcast), {"name": "Third"}, headers={"If-Match": first.headers["ETag"]}).status_code == 200
    )


@pytest.mark.parametrize("status", [one for one in Status if one not in (Status.DRAFT, Status.SENDING)])
def test_only_drafts_are_changed_and_deleted(caller, draft, status):
    broadcast = draft(status=status, scheduled_at=NOW, name="Old")

    assert error(caller.patch(of(broadcast), {"name": "New"})) == (409, "wrong_status")
    assert error(caller.delete(of(broadcast))) == (409, "wrong_status")
    assert fresh(broadcast).name == "Old"


def test_a_draft_is_deleted(caller, draft):
    broadcast, other = draft(), draft()

    assert error(caller.delete(of(broadcast), headers={"If-Match": '"x"'})) == (412, "edited_meanwhile")
    assert caller.delete(of(broadcast)).status_code == 204
    assert list(Broadcast.objects.all()) == [other]
    assert error(caller.get(of(broadcast))) == (404, "broadcast_not_found")


@pytest.mark.django_db(transaction=True)
def test_a_draft_that_is_changed_while_it_is_sent_loses_neither(caller, draft, people, organization, monkeypatch):
    """Whoever comes second sees the other: an edit is refused, or what is sent is the edited one, judged anew."""
    people(1)
    broadcast = draft(name="Old")
    missing = TemplateFactory(organization=organization, account=broadcast.template.account, status="PAUSED")

    edited, sent = at_once(
        lambda: caller.patch(of(broadcast), {"templateId": missing.public_id, "variables": {}}),
        lambda: Caller(organization).post(of(broadcast, "/send"), {}),
    )

    now = fresh(broadcast)
    if edited.status_code == 200:
        assert error(sent) == (422, "not_ready")
        assert (now.status, now.template) == (Status.DRAFT, missing)
    else:
        assert error(edited) == (409, "wrong_status")
        assert sent.status_code == 200
        assert (now.status, now.template) == (Status.QUEUED, broadcast.template)


@pytest.mark.django_db(transaction=True)
def test_an_edit_that_comes_between_the_check_and_the_sending_waits(draft, people, caller, monkeypatch):
    """Without the lock in `launch._draft_to_be` the edit passed, and what nobody had checked was sent."""
    people(1)
    broadcast, other = draft(name="Checked"), []

    def edit():
        try:
            # LOCAL: the connection goes back to a pool, and who takes it next is patient
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '300ms'")
                return Broadcast.objects.filter(pk=broadcast.pk).update(name="Unchecked")
        except Exception as error:  # noqa: BLE001 — told to the test below
            return type(error).__name__
        finally:
            connection.close()

    def check(found):
        other.extend(at_once(edit))

    monkeypatch.setattr(launch.preflight, "check", check)
    assert caller.post(of(broadcast, "/send"), {}).status_code == 200

    assert other == ["OperationalError"]
    assert (fresh(broadcast).name, fresh(broadcast).status) == ("Checked", Status.QUEUED)


def test_a_broadcast_is_duplicated(caller, draft, tag):
    broadcast = draft(name="Sale")
    Broadcast.objects.filter(pk=broadcast.pk).update(status=Status.COMPLETED)

    answer = caller.post(of(broadcast, "/duplicate"), {})
    named = caller.post(of(broadcast, "/duplicate"), {"name": "Spring"})

    assert (answer.status_code, named.status_code) == (201, 201)
    told = answer.json()
    assert (told["name"], told["status"], told["tags"]) == (
        "Sale (copy)", "draft", [{"id": tag.public_id, "name": tag.name}],
    )  # fmt: skip
    assert (named.json()["name"], named.json()["variables"]) == ("Spring", broadcast.variables)
    assert error(caller.post(of(broadcast, "/duplicate"), {"name": "a\nb"}))[0] == 422


# --- preview and test --------------------------------------------------------------------------------------------


def test_the_preview_has_the_first_ten_and_who_is_left_out(caller, draft, people):
    reached = people(11)
    people(2, opted_in=False)
    for name in ("a", "b", "c"):
        people(1, phone=None, user_id=f"US.{name}")
    broadcast = draft()

    told = caller.get(of(broadcast, "/preview")).json()

    assert told["total"] == 11
    assert told["recipients"] == [{"id": one.public_id, "phone": one.phone, "name": one.name} for one in reached[:10]]
    assert told["leftOut"] == {
        "excludedTag": 0,
        "optedOut": 2,
        "withoutPhone": 3,
        "marketingOptedOut": 0,
        "countryBlocked": 0,
        "frequencyCap": 0,
        "missingVariable": 0,
    }
    assert told["problems"] == []


def test_the_preview_tells_every_problem(caller, draft):
    broadcast = draft(tags=[], variables={})

    told = caller.get(of(broadcast, "/preview")).json()

    assert (told["total"], told["recipients"]) == (0, [])
    assert told["problems"] == [
        "{{first_name}} in the body (body.first_name) has no value: map it to a contact's field or a text.",
        "It has no tags: choose at least one tag whose holders receive it.",
    ]


def test_what_has_begun_has_no_preview(organization, caller, draft):
    broadcast = draft(status=Status.SENDING, dispatch=DispatchFactory(organization=organization))

    assert error(caller.get(of(broadcast, "/preview"))) == (409, "wrong_status")


def test_the_preview_costs_the_same_however_many(caller, draft, people, django_assert_num_queries):
    people(3)
    broadcast = draft()
    # the key, the broadcast; how many have the tags, who is left out, the first of the others; the problems
    with django_assert_num_queries(11):
        caller.get(of(broadcast, "/preview"))


def test_a_test_goes_to_one_contact_and_counts_nowhere(caller, draft, people, number, organization):
    [asha] = people(1, phone=PHONE, name="Asha Rao")
    broadcast = draft()

    answer = caller.post(of(broadcast, "/test"), {"phone": "+91 98765 43210"})

    told = answer.json()
    assert answer.status_code == 202
    assert (told["status"], told["contact"]["id"], told["template"]["name"]) == (
        "queued",
        asha.public_id,
        "new_arrivals",
    )
    assert told["origin"] == {
        "type": "test",
        "broadcastId": broadcast.public_id,
        "sequenceId": None,
        "name": broadcast.name,
    }
    assert caller.get(f"/api/messages/{told['id']}").json() == told
    message = Message.objects.get()
    assert (message.dispatch.kind, message.dispatch.variables) == (Dispatch.Kind.TEST, MAPPED)
    assert (fresh(broadcast).status, fresh(broadcast).dispatch) == (Status.DRAFT, None)
    assert caller.get(of(broadcast)).json()["funnel"]["total"] == 0


def claim(number, now=NOW):
    return claiming.claim(claiming.live(number.pk, now=now), limit=10, now=now)


def accept(claimed, now=NOW):
    settling.settle(
        [Result(one, Accepted(f"wamid.{one.id}", None, None, held=False), now) for one in claimed.envelopes], now=now
    )


@time_machine.travel(NOW, tick=False)
def test_a_test_neither_needs_the_cap_nor_takes_it_and_its_contact_gets_the_broadcast(caller, draft, people, number):
    [asha] = people(1)
    MarketingCap.objects.create(contact=asha, message=1, until=NOW + timedelta(hours=1))
    broadcast = draft()
    test = caller.post(of(broadcast, "/test"), {"contactId": asha.public_id}).json()["id"]

    claimed = claim(number)
    accept(claimed)
    sent = caller.get(f"/api/messages/{test}").json()

    assert (sent["status"], sent["acceptedAt"], sent["attempts"]) == ("sent", "2026-03-01T09:30:00Z", 1)
    cap = MarketingCap.objects.get()
    assert (cap.message, cap.until) == (1, NOW + timedelta(hours=1))

    cap.delete()
    launch.send(fresh(broadcast), now=NOW)
    launch.sweep(now=NOW)
    accept(claim(number))
    real = Message.objects.get(dispatch=fresh(broadcast).dispatch)
    assert (real.status, real.contact) == ("sent", asha)
    assert MarketingCap.objects.get().message == real.pk
    assert caller.get(of(broadcast)).json()["funnel"] | {"x": 0} == {
        **dict.fromkeys(("waiting", "delivered", "read", "failed", "skipped", "unconfirmed", "x"), 0),
        **dict.fromkeys(("total", "dispatched", "sent"), 1),
    }


@time_machine.travel(NOW, tick=False)
def test_a_receipt_settles_a_test_and_leaves_the_cap_alone(caller, draft, people, number):
    [asha] = people(1)
    test = caller.post(of(draft(), "/test"), {"contactId": asha.public_id}).json()["id"]
    [envelope] = claim(number).envelopes
    receipt = Receipt(
        phone_number_id=number.phone_number_id,
        wamid="wamid.1",
        status="delivered",
        at=NOW,
        callback_data=claiming.callback_data(envelope.id, 1),
    )

    receipts.apply([receipt], app=number.account.app_id, now=NOW)

    assert caller.get(f"/api/messages/{test}").json()["status"] == "delivered"
    assert not MarketingCap.objects.exists()


def test_two_tests_to_the_same_contact_both_go(caller, draft, people, number):
    [asha] = people(1)
    broadcast = draft()
    for _ in range(2):
        assert caller.post(of(broadcast, "/test"), {"contactId": asha.public_id}).status_code == 202

    assert len(claim(number, now=datetime.now(UTC)).envelopes) == 2


def test_whom_no_test_goes_to(organization, caller, draft, people):
    broadcast = draft()
    [out], [bare] = people(1, opted_in=False), people(1, phone=None, user_id="US.1")
    [stopped], [gone] = people(1, marketing_opted_out_at=NOW), people(1, deleted_at=NOW)

    for said, expected in (
        ({"contactId": out.public_id}, (422, "not_opted_in")),
        ({"contactId": bare.public_id}, (422, "no_phone")),
        ({"contactId": stopped.public_id}, (422, "marketing_opted_out")),
        ({"contactId": gone.public_id}, (404, "contact_not_found")),
        ({"contactId": ContactFactory().public_id}, (404, "contact_not_found")),
        ({"phone": PHONE}, (404, "contact_not_found")),
        ({"phone": "12"}, (422, "invalid")),
        ({}, (422, "invalid")),
        ({"contactId": out.public_id, "phone": PHONE}, (422, "invalid")),
    ):
        assert error(caller.post(of(broadcast, "/test"), said)) == expected, said
    assert not Dispatch.objects.exists()


def test_a_test_needs_a_template_that_can_be_sent_and_filled(caller, draft, people, template):
    [asha] = people(1, name="")
    said = {"contactId": asha.public_id}

    assert error(caller.post(of(draft(variables={}), "/test"), said)) == (422, "variables_unmapped")
    nothing = draft(variables={"body.first_name": {"field": "first_name"}})
    assert error(caller.post(of(nothing, "/test"), said)) == (422, "missing_variable")
    template.status = "PAUSED"
    template.save()
    assert error(caller.post(of(draft(), "/test"), said)) == (409, "template_not_approved")
    assert not Message.objects.exists()


# --- acts --------------------------------------------------------------------------------------------------------


def test_sending_scheduling_pausing_resuming_canceling(caller, draft, people):
    people(1)
    broadcast = draft()

    def act(name, body=None):
        answer = caller.post(of(broadcast, f"/{name}"), body or {})
        assert answer.status_code == 200, answer.json()
        return answer.json()["status"]

    assert act("schedule", {"at": "2036-12-24T09:30"}) == "scheduled"
    assert fresh(broadcast).scheduled_at == datetime(2036, 12, 24, 4, 0, tzinfo=UTC)  # Asia/Kolkata
    assert act("unschedule") == "draft"
    assert act("schedule", {"at": "2036-12-24T09:30:00+01:00"}) == "scheduled"
    assert fresh(broadcast).scheduled_at == datetime(2036, 12, 24, 8, 30, tzinfo=UTC)
    assert act("pause") == "paused"
    assert act("resume") == "scheduled"
    assert fresh(broadcast).scheduled_at == datetime(2036, 12, 24, 8, 30, tzinfo=UTC)
    assert act("pause") == "paused"
    assert fields(caller.post(of(broadcast, "/resume"), {"atOnce": "yes"})) == {"atOnce"}
    assert act("resume", {"atOnce": True}) == "queued"
    assert fresh(broadcast).scheduled_at is None
    Broadcast.objects.filter(pk=broadcast.pk).update(status=Status.DRAFT)
    assert act("send") == "queued"
    assert act("pause") == "paused"
    assert fresh(broadcast).pause_reason == PauseReason.OPERATOR
    assert act("resume") == "queued"
    assert act("cancel") == "canceled"


def test_an_act_takes_no_body_at_all_too(caller, draft, people):
    people(1)
    broadcast = draft()

    assert fields(caller.post(of(broadcast, "/send"), {"now": True})) == {"now"}
    assert caller.post(of(broadcast, "/send"), b"").status_code == 200


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2020-01-01T09:30", (422, "past_time")),
        ("2020-01-01T09:30:00Z", (422, "past_time")),
        ("tomorrow", (422, "bad_time")),
        ("", (422, "invalid")),
        (None, (422, "invalid")),
        (5, (422, "invalid")),
    ],
)
def test_times_that_nothing_is_scheduled_for(caller, draft, people, at, expected):
    people(1)
    broadcast = draft()

    assert error(caller.post(of(broadcast, "/schedule"), {"at": at})) == expected
    assert fresh(broadcast).status == Status.DRAFT


def test_a_local_time_that_comes_twice_or_never_is_asked_about(caller, draft, people, organization):
    organization.timezone = "Europe/Madrid"
    organization.save()
    people(1)
    broadcast = draft()

    for at, code in (("2036-10-26T02:30", "ambiguous_time"), ("2036-03-30T02:30", "nonexistent_time")):
        assert error(caller.post(of(broadcast, "/schedule"), {"at": at})) == (422, code)


def test_what_can_not_work_is_not_sent(caller, draft):
    broadcast = draft()

    for name, body in (("send", {}), ("schedule", {"at": "2036-12-24T09:30"})):
        answer = caller.post(of(broadcast, f"/{name}"), body)
        assert error(answer) == (422, "not_ready")
        assert "There is nobody to send to" in answer.json()["error"]["message"]
    assert fresh(broadcast).status == Status.DRAFT


def test_only_the_version_that_was_read_is_sent(caller, draft, people):
    people(1)
    broadcast = draft()
    read = caller.get(of(broadcast)).headers["ETag"]
    newer = caller.patch(of(broadcast), {"name": "New"}).headers["ETag"]

    assert error(caller.post(of(broadcast, "/send"), {}, headers={"If-Match": read})) == (412, "edited_meanwhile")
    assert fresh(broadcast).status == Status.DRAFT
    assert caller.post(of(broadcast, "/send"), {}, headers={"If-Match": newer}).status_code == 200
    assert error(caller.post(of(broadcast, "/send"), {}, headers={"If-Match": newer})) == (409, "wrong_status")


@pytest.mark.parametrize("name", ACTS)
def test_what_has_ended_is_acted_on_no_more(caller, draft, name):
    broadcast = draft(status=Status.COMPLETED)

    assert error(caller.post(of(broadcast, f"/{name}"), {})) == (409, "wrong_status")
    assert fresh(broadcast).status == Status.COMPLETED


def test_a_request_to_send_is_done_once(caller, draft, people):
    people(1)
    broadcast = draft()
    once = {"Idempotency-Key": "send-1"}

    first = caller.post(of(broadcast, "/send"), {}, headers=once)
    second = caller.post(of(broadcast, "/send"), {}, headers=once)

    assert first.json() == second.json()
    assert (first.status_code, second.status_code) == (200, 200)


def every_address(broadcast):
    reads = ["", "/preview", "/stats", "/recipients", "/recipients.csv"]
    acts = [*(f"/{name}" for name in ACTS), "/duplicate", "/schedule", "/test"]
    return [("get", of(broadcast, one)) for one in reads] + [("post", of(broadcast, one)) for one in acts]


BODIES = {"schedule": {"at": "2036-12-24T09:30"}, "test": {"phone": PHONE}}


def test_every_address_of_a_foreign_broadcast_is_missing(caller):
    foreign = BroadcastFactory()

    for method, address in every_address(foreign):
        body = BODIES.get(address.rpartition("/")[2], {})
        answer = caller.get(address) if method == "get" else caller.post(address, body)
        assert error(answer) == (404, "broadcast_not_found"), address
    assert error(caller.patch(of(foreign), {"name": "x"})) == (404, "broadcast_not_found")
    assert error(caller.delete(of(foreign))) == (404, "broadcast_not_found")
    assert fresh(foreign).status == Status.DRAFT


def test_viewers_read_agents_do_not_and_neither_acts(organization, draft):
    broadcast = draft()
    viewer, agent = Caller(organization, Role.VIEWER), Caller(organization, Role.AGENT)

    for method, address in every_address(broadcast):
        body = BODIES.get(address.rpartition("/")[2], {})
        if method == "get":
            assert viewer.get(address).status_code == 200, address
            assert error(agent.get(address)) == (403, "forbidden")
        else:
            assert error(viewer.post(address, body)) == (403, "forbidden")
            assert error(agent.post(address, body)) == (403, "forbidden")
    assert error(viewer.post("/api/broadcasts", {})) == (403, "forbidden")
    assert fresh(broadcast).status == Status.DRAFT


@pytest.mark.parametrize("name", ["send", "schedule", "cancel"])
def test_acts_cost_the_same_however_many_people(caller, draft, people, name, django_assert_max_num_queries):
    people(5)

    with django_assert_max_num_queries(26):
        caller.post(of(draft(), f"/{name}"), BODIES.get(name, {}))


# --- numbers -----------------------------------------------------------------------------------------------------


@pytest.fixture
def running(organization, draft):
    """A sending broadcast with messages in every state."""
    dispatch = DispatchFactory(organization=organization)
    broadcast = draft(status=Status.SENDING, dispatch=dispatch, started_at=NOW, tags=[])

    def put(status, count=1, **more):
        for _ in range(count):
            MessageFactory(
                organization=organization, dispatch=dispatch, status=status, **{"due_at": None, **more},
            )  # fmt: skip

    accepted = {"accepted_at": NOW}
    put("queued", 2, due_at=NOW)
    put("sent", **accepted, held_by_meta=True)
    put("delivered", 2, **accepted)
    put("read", 3, **accepted, replied_at=NOW)
    put("failed", 2, error_code=131026, error_text="said Meta")
    put("failed", error_code=999_999, error_text="a code of tomorrow")
    put("skipped", 2, skip_reason=SkipReason.OPTED_OUT)
    put("skipped", skip_reason=SkipReason.FREQUENCY_CAP)
    put("unconfirmed", error_text="no answer")
    counting.recount(dispatch.pk)
    return broadcast


def test_the_stats_have_the_funnel_and_every_reason(caller, running):
    told = caller.get(of(running, "/stats")).json()

    assert told["funnel"] == {
        "total": 15,
        "waiting": 2,
        "dispatched": 6,
        "sent": 6,
        "delivered": 5,
        "read": 3,
        "failed": 3,
        "skipped": 3,
        "unconfirmed": 1,
    }
    assert told["rates"] == {"delivered": 5 / 6, "read": 0.6, "failed": 0.2}
    assert told["skippedByReason"] == [{"reason": "opted_out", "count": 2}, {"reason": "frequency_cap", "count": 1}]
    [known, new] = told["failedByCode"]
    assert (known["code"], known["count"]) == (131026, 2)
    assert known["text"] not in ("", "said Meta")
    assert new == {"code": 999_999, "text": "a code of tomorrow", "count": 1}
    assert (told["heldByMeta"], told["replied"], told["waitsFor"]) == (1, 3, None)
    assert (told["status"], told["startedAt"]) == ("sending", "2026-03-01T09:30:00Z")


def test_a_draft_has_stats_without_rates(caller, draft):
    told = caller.get(of(draft(), "/stats")).json()

    assert told["funnel"]["total"] == 0
    assert told["rates"] == {"delivered": None, "read": None, "failed": None}
    assert (told["skippedByReason"], told["failedByCode"], told["heldByMeta"]) == ([], [], 0)


def test_a_queued_one_says_what_it_waits_for_and_a_paused_one_why_and_until_when(caller, running, draft):
    queued = draft(status=Status.QUEUED, queued_at=NOW)
    paused = draft(
        status=Status.PAUSED, pause_reason=PauseReason.NOTHING_TO_DO, status_detail="Its messages wait.", resume_at=NOW
    )

    assert caller.get(of(queued, "/stats")).json()["waitsFor"] == {"id": running.public_id, "name": running.name}
    told = caller.get(of(paused, "/stats")).json()
    assert (told["pauseReason"], told["statusDetail"]) == ("nothing_to_do", "Its messages wait.")
    assert told["resumeAt"] == "2026-03-01T09:30:00Z"


def test_the_stats_cost_the_same_however_many(caller, running, draft, django_assert_num_queries):
    # the key, the broadcast, the counters, by reason, by code, what Meta said without one, held, replied
    with django_assert_num_queries(8):
        caller.get(of(running, "/stats"))
    # without messages of its own, but with what it waits for
    queued = draft(status=Status.QUEUED, queued_at=NOW)
    with django_assert_num_queries(3):
        caller.get(of(queued, "/stats"))


# --- recipients --------------------------------------------------------------------------------------------------


def statuses(response):
    assert response.status_code == 200, response.json()
    return [row["status"] for row in response.json()["data"]]


def test_recipients_are_listed_in_one_order_by_page_and_by_cursor(caller, running):
    everybody = caller.get(of(running, "/recipients?limit=100")).json()

    assert (everybody["total"], everybody["nextCursor"]) == (15, None)
    ids = [row["contact"]["id"] for row in everybody["data"]]
    of_pages = [caller.get(of(running, f"/recipients?limit=6&page={page}")).json() for page in (1, 2, 3, 4)]
    assert [row["contact"]["id"] for page in of_pages for row in page["data"]] == ids
    assert [page["total"] for page in of_pages] == [15] * 4
    followed, address = [], of(running, "/recipients?limit=4")
    while address:
        page = caller.get(address).json()
        followed += [row["contact"]["id"] for row in page["data"]]
        address = page["nextCursor"] and of(running, f"/recipients?limit=4&cursor={page['nextCursor']}")
    assert followed == ids


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("status=waiting", ["queued"] * 2),
        ("status=queued", ["queued"] * 2),
        ("status=sending", []),
        ("status=sent", ["sent"]),
        ("status=delivered", ["delivered"] * 2),
        ("status=read", ["read"] * 3),
        ("status=failed", ["failed"] * 3),
        ("status=skipped", ["skipped"] * 3),
        ("status=unconfirmed", ["unconfirmed"]),
        ("reason=opted_out", ["skipped"] * 2),
        ("status=skipped&reason=frequency_cap", ["skipped"]),
        ("status=failed&reason=opted_out", []),
        ("reason=deleted", []),
    ],
)
def test_recipients_by_status_and_reason_with_their_total(caller, running, query, found):
    answer = caller.get(of(running, f"/recipients?{query}"))

    assert statuses(answer) == found
    assert answer.json()["total"] == len(found)
    assert len(caller.get(of(running, f"/recipients.csv?{query}")).getvalue().splitlines()) == 1 + len(found)


def test_a_recipient_is_told_with_what_became_of_it(caller, running):
    message = Message.objects.filter(error_code=131026).order_by("contact").first()

    told = caller.get(of(running, "/recipients?status=failed")).json()["data"][0]

    assert told.pop("createdAt")
    assert told == {
        "id": message.public_id,
        "contact": {
            "id": message.contact.public_id,
            "phone": message.contact.phone,
            "name": "Asha Example",
        },
        "status": "failed",
        "skipReason": None,
        "error": {"code": 131026, "text": "said Meta"},
        "attempts": 0,
        "heldByMeta": False,
        "wamid": None,
        "dueAt": None,
        "acceptedAt": None,
        "sentAt": None,
        "deliveredAt": None,
        "readAt": None,
        "failedAt": "2026-01-01T00:00:00Z",
        "closedAt": None,
        "repliedAt": None,
    }


@pytest.mark.parametrize("query", ["status=draft", "reason=none", "status=", "page=0", "cursor=x", "q=x"])
def test_what_recipients_can_not_be_asked_for(caller, running, query):
    assert fields(caller.get(of(running, f"/recipients?{query}"))) == {query.partition("=")[0]}


def test_a_draft_has_no_recipients(caller, draft):
    broadcast = draft()

    told = caller.get(of(broadcast, "/recipients")).json()
    assert (told["data"], told["total"], told["nextCursor"]) == ([], 0, None)
    assert len(caller.get(of(broadcast, "/recipients.csv")).getvalue().splitlines()) == 1


def test_recipients_cost_the_same_however_many(caller, running, django_assert_num_queries):
    # the key, the broadcast, the counters, the messages, their contacts
    with django_assert_num_queries(5):
        page = caller.get(of(running, "/recipients?status=failed&limit=1")).json()
    with django_assert_num_queries(4):
        caller.get(of(running, f"/recipients?status=failed&limit=1&cursor={page['nextCursor']}"))
    # what no counter knows is counted
    with django_assert_num_queries(6):
        caller.get(of(running, "/recipients?reason=opted_out"))


def table(response):
    assert response.status_code == 200
    return list(csv.DictReader(io.StringIO(response.getvalue().decode("utf-8-sig"))))


def test_the_table_has_everybody_once_whatever_the_size_of_its_parts(caller, running, monkeypatch):
    monkeypatch.setattr(recipients, "AT_ONCE", 4)

    answer = caller.get(of(running, "/recipients.csv"))

    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{running.public_id}.csv"'
    rows = table(answer)
    assert [row["messageId"] for row in rows] == [
        one.public_id for one in Message.objects.filter(dispatch=running.dispatch).order_by("contact")
    ]
    assert rows[0]["phone"].startswith("+91")
    assert {row["failedAt"] for row in rows if row["status"] == "failed"} == {"2026-01-01T00:00:00.000000Z"}


def test_nothing_in_the_table_is_a_formula(organization, caller, running):
    for sign in "=+-@\t\r":
        contact = ContactFactory(organization=organization, name=f"{sign}cmd|' /C calc'!A0")
        MessageFactory(
            organization=organization,
            dispatch=running.dispatch,
            contact=contact,
            status="failed",
            error_text=f"{sign}HYPERLINK()",
            due_at=None,
        )

    rows = [row for row in table(caller.get(of(running, "/recipients.csv?status=failed"))) if "cmd" in row["name"]]

    assert len(rows) == 6
    assert all(row["name"].startswith("'") and row["errorText"].startswith("'") for row in rows)
    assert [row["phone"] for row in rows] == list(
        Contact.objects.filter(name__contains="cmd").order_by("pk").values_list("phone", flat=True)
    )


def test_the_table_is_read_in_parts_and_never_whole(caller, running, monkeypatch, django_assert_num_queries):
    monkeypatch.setattr(recipients, "AT_ONCE", 5)
    answer = caller.get(of(running, "/recipients.csv"))

    # three full parts of five with their contacts, and the one that is empty
    with django_assert_num_queries(7):
        answer.getvalue()
