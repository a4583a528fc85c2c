"""`/api/sequences`: drafts with their tree of steps, what publishes and stops them, and what became of them."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from contacts.models import Tag
from kaanha.lib import public_ids
from kaanha.messaging.models import Message
from kaanha.organizations.models import Role
from kaanha.whatsapp.models import PhoneNumber
from sequences import editing, publishing, running
from sequences.models import Enrollment, Sequence, Status
from tests.callers import Caller, error
from tests.contacts.threads import at_once, meet_after
from tests.factories import (
    OrganizationFactory,
    PhoneNumberFactory,
    SequenceFactory,
    TagFactory,
    TemplateFactory,
)

ADDRESS = "/api/sequences"
NEVER = 10**12
DELAY = {"id": "d", "type": "delay", "delay": {"days": 1}}

pytestmark = pytest.mark.django_db


@pytest.fixture
def api(stage):
    return Caller(stage.organization).ready()


def at(sequence, act=""):
    return f"{ADDRESS}/{sequence.public_id}{act and f'/{act}'}"


def created(api, **said):
    response = api.post(ADDRESS, {"name": "Basket", **said})
    assert response.status_code == 201, response.json()
    return response.json()


def fields(response):
    status, code = error(response)
    return status, code, response.json()["error"].get("fields", {})


# --- drafts ------------------------------------------------------------------------------------------------------


def test_a_draft_is_created_with_what_is_said_and_usual_settings(stage, api):
    told = created(api)

    sequence = Sequence.objects.get()
    assert told == {
        "id": sequence.public_id,
        "name": "Basket",
        "status": "draft",
        "trigger": "manual",
        "tag": None,
        "phoneNumber": {"id": stage.number.public_id, "number": stage.number.display_number},
        "exitTag": None,
        "exitOnReply": False,
        "lateLimit": None,
        "whenLate": "send",
        "spreadPerMinute": 600,
        "revision": None,
        "unpublishedChanges": True,
        "people": {"inside": 0, "enrolled": 0, "completed": 0, "exited": 0},
        "activatedAt": None,
        "pausedAt": None,
        "archivedAt": None,
        "createdAt": told["createdAt"],
        "updatedAt": told["updatedAt"],
        "steps": [],
        "problems": [
            {
                "step": None,
                "place": None,
                "field": "steps",
                "message": "There is no message step: add one that sends a template.",
            }
        ],
    }
    assert sequence.organization == stage.organization


def test_everything_that_can_be_said_of_it_is_kept(stage, api):
    basket, purchased = stage.tag("basket"), stage.tag("purchased")
    number = PhoneNumberFactory(organization=stage.organization, account=stage.number.account)
    told = created(
        api,
        name="  Basket ",
        trigger="tag_added",
        tag="Basket",
        phoneNumberId=number.public_id,
        exitTag=purchased.public_id,
        exitOnReply=True,
        lateLimit={"minutes": 120},
        whenLate="skip",
        spreadPerMinute=60,
        steps=[
            {"id": "saved", "type": "message", "template": {"name": "welcome", "language": "en_US"}},
            {"type": "delay", "delay": {"hours": 48}},
            {
                "id": "bought",
                "type": "condition",
                "if": {"tag": "PURCHASED"},
                "no": [stage.message("last", stage.offer)],
            },
        ],
    )

    given = told["steps"][1]["id"]
    assert told["steps"] == [
        {"id": "saved", "type": "message", "template": stage.welcome.public_id, "variables": {}, "whenCapped": "skip"},
        {"id": given, "type": "delay", "delay": {"days": 2}},
        {
            "id": "bought",
            "type": "condition",
            "if": {"tag": purchased.public_id},
            "no": [
                {
                    "id": "last",
                    "type": "message",
                    "template": stage.offer.public_id,
                    "variables": {},
                    "whenCapped": "skip",
                }
            ],
        },
    ]
    assert told["problems"] == []
    assert (told["name"], told["trigger"], told["tag"]) == (
        "Basket", "tag_added", {"id": basket.public_id, "name": "basket"},
    )  # fmt: skip
    assert (told["exitTag"]["name"], told["exitOnReply"]) == ("purchased", True)
    assert (told["lateLimit"], told["whenLate"], told["spreadPerMinute"]) == ({"hours": 2}, "skip", 60)
    assert told["phoneNumber"]["id"] == number.public_id
    assert api.get(f"{ADDRESS}/{told['id']}").json() == told


def test_a_draft_that_is_sent_back_as_it_was_read_is_the_same(stage, api):
    steps = [stage.message("m"), stage.if_reached("c", "m", "read", yes=[DELAY], no=[])]
    told = created(api, steps=steps)
    version = api.get(f"{ADDRESS}/{told['id']}").headers["ETag"]

    again = api.patch(f"{ADDRESS}/{told['id']}", {"steps": told["steps"]})

    assert (again.json(), again.headers["ETag"]) == (told, version)


def test_a_draft_is_told_what_keeps_it_from_being_published(stage, api):
    told = created(
        api,
        trigger="tag_added",
        steps=[
            {"id": "a", "type": "message", "template": "nowhere"},
            {
                "id": "c",
                "type": "condition",
                "if": {"step": "z", "reached": "read"},
                "yes": [{**DELAY, "delay": {"seconds": 1}}],
            },
        ],
    )

    assert [(one["step"], one["place"], one["field"]) for one in told["problems"]] == [
        (None, None, "tag"),
        ("a", "1", "steps.0"),
        ("c", "2", "steps.1"),
        ("d", "2 yes 1", "steps.1.yes.0"),
    ]
    assert told["problems"][0]["message"] == "No tag starts it: choose the tag, or another trigger."


def test_what_is_not_sent_stays(stage, api):
    stage.tag("basket")
    told = created(api, trigger="tag_added", tag="basket", steps=[stage.message("m")], lateLimit={"hours": 1})

    changed = api.patch(f"{ADDRESS}/{told['id']}", {"exitOnReply": True, "lateLimit": None}).json()

    assert changed == {**told, "exitOnReply": True, "lateLimit": None, "updatedAt": changed["updatedAt"]}


def test_another_trigger_drops_the_tag(stage, api):
    stage.tag("basket")
    told = created(api, trigger="tag_added", tag="basket")

    assert api.patch(f"{ADDRESS}/{told['id']}", {"trigger": "manual"}).json()["tag"] is None
    assert fields(api.patch(f"{ADDRESS}/{told['id']}", {"tag": "basket"})) == (
        422, "invalid", {"tag": ["Only the trigger tag_added has a tag. Choose that trigger, or leave the tag out."]},
    )  # fmt: skip


def test_the_tag_that_starts_it_can_not_end_it(stage, api):
    stage.tag("basket")
    response = api.post(ADDRESS, {"name": "x", "trigger": "tag_added", "tag": "basket", "exitTag": "basket"})

    assert fields(response)[:2] == (422, "invalid")
    assert list(fields(response)[2]) == ["exitTag"]
    assert not Sequence.objects.exists()


def test_an_organization_without_a_number_is_told_so(stage):
    other = Caller(OrganizationFactory())

    assert error(other.post(ADDRESS, {"name": "x"})) == (409, "not_connected")
    PhoneNumber.objects.filter(pk=stage.number.pk).update(disconnected_at=stage.now)
    told = Caller(stage.organization).post(ADDRESS, {"name": "x", "phoneNumberId": stage.number.public_id}).json()
    assert [one["field"] for one in told["problems"]] == ["phoneNumberId", "steps"]


@pytest.mark.parametrize(
    ("said", "places"),
    [
        ({}, ["name"]),
        ({"name": ""}, ["name"]),
        ({"name": "a\nb"}, ["name"]),
        ({"name": "x" * 201}, ["name"]),
        ({"name": 7}, ["name"]),
        ({"name": "x", "trigger": "birthday"}, ["trigger"]),
        ({"name": "x", "trigger": ["manual"]}, ["trigger"]),
        ({"name": "x", "trigger": None}, ["trigger"]),
        ({"name": "x", "tag": 7, "exitTag": {}, "phoneNumberId": None}, ["tag", "phoneNumberId", "exitTag"]),
        ({"name": "x", "exitOnReply": "yes"}, ["exitOnReply"]),
        ({"name": "x", "lateLimit": 7}, ["lateLimit"]),
        ({"name": "x", "lateLimit": {"seconds": 59}}, ["lateLimit"]),
        ({"name": "x", "lateLimit": {"days": 366}}, ["lateLimit"]),
        ({"name": "x", "lateLimit": {"days": 10**300}}, ["lateLimit"]),
        ({"name": "x", "lateLimit": {"hours": 1, "days": 1}}, ["lateLimit"]),
        ({"name": "x", "lateLimit": {"hours": True}}, ["lateLimit"]),
        ({"name": "x", "spreadPerMinute": 0}, ["spreadPerMinute"]),
        ({"name": "x", "spreadPerMinute": 60_001}, ["spreadPerMinute"]),
        ({"name": "x", "spreadPerMinute": "60"}, ["spreadPerMinute"]),
        ({"name": "x", "whenLate": 1}, ["whenLate"]),
        ({"name": "x", "steps": None}, ["steps"]),
        ({"name": "x", "exit_tag": "y", "status": "active"}, ["exit_tag", "status"]),
    ],
)
def test_members_that_do_not_fit_are_named(api, said, places):
    assert (fields(api.post(ADDRESS, said))[0], list(fields(api.post(ADDRESS, said))[2])) == (422, places)
    assert not Sequence.objects.exists()


# --- bad trees ---------------------------------------------------------------------------------------------------


def nested(depth):
    tree = [DELAY]
    for _ in range(depth):
        tree = [{"type": "condition", "if": {"tag": "x"}, "yes": tree}]
    return tree


@pytest.mark.parametrize(
    ("steps", "place"),
    [
        ({}, "steps"),
        ("steps", "steps"),
        ([None, 7, "x", []], "steps.0"),
        ([DELAY] * 10_000, "steps"),
        (nested(100), "steps" + ".0.yes" * 20 + ".0"),
        ([{"id": "a", **DELAY, "next": "a"}], "steps.0"),
        ([{"type": "condition", "if": {"tag": "x"}, "yes": [DELAY], "no": [DELAY]}], "steps.0.no.0.id"),
        ([{"type": "delay", "delay": {"days": 10**300}}], "steps.0.delay"),
        ([{"type": "delay", "delay": {"days": -1}}], "steps.0.delay"),
        ([{"type": "delay", "delay": {"days": 1e300}}], "steps.0.delay"),
        ([{"type": "delay", "delay": [{}]}], "steps.0.delay"),
        ([DELAY, {"type": "condition", "if": [], "yes": [{"type": "delay", "delay": 1}]}], "steps.1.yes.0.delay"),
        ([{"type": ["message"], "template": []}], "steps.0"),
        ([{"type": "message", "template": {"name": ["x"]}, "variables": [1]}], "steps.0.template.name"),
        ([{"type": "message", "template": "x" * 541}], "steps.0.template"),
    ],
)
def test_a_tree_that_can_not_be_read_says_where(api, steps, place):
    status, code, found = fields(api.post(ADDRESS, {"name": "x", "steps": steps}))

    assert (status, code) == (422, "tree_invalid")
    assert place in found
    assert not Sequence.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "x", "steps": ' + b'[{"yes": ' * 1_000 + b"[]" + b"}]" * 1_000 + b"}",
        b'{"name": "x", "steps": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"name": "x", "steps": [{"type": "delay", "delay": {"days": 1' + b"0" * 5_000 + b"}}]}",
        b'{"name": "x", "steps": [{"type": "delay", "delay": {"days": 1e999}}]}',
        b'{"name": "x", "steps": [{"type": "message", "template": "a\\u0000b"}]}',
        b'{"name": "x", "steps": [{"type": "message", "template": "\\ud800"}]}',
        b'{"name": "x", "steps": [{"type": "delay", "type": "delay"}]}',
    ],
)
def test_what_is_no_tree_at_all_is_refused(api, body):
    status, _ = error(api.post(ADDRESS, body))

    assert status in (400, 422)
    assert not Sequence.objects.exists()


# --- versions ----------------------------------------------------------------------------------------------------


def test_nothing_is_changed_where_somebody_else_was_faster(stage, api):
    sequence = stage.draft(stage.message("m"))
    version = api.get(at(sequence)).headers["ETag"]
    assert api.patch(at(sequence), {"name": "Theirs"}, headers={"If-Match": version}).status_code == 200

    late = [
        api.patch(at(sequence), {"name": "Mine"}, headers={"If-Match": version}),
        api.delete(at(sequence), headers={"If-Match": version}),
        api.post(at(sequence, "activate"), {}, headers={"If-Match": version}),
    ]

    assert {error(one) for one in late} == {(412, "edited_meanwhile")}
    sequence.refresh_from_db()
    assert (sequence.name, sequence.status) == ("Theirs", "draft")
    current = api.get(at(sequence)).headers["ETag"]
    assert current != version
    assert api.post(at(sequence, "activate"), {}, headers={"If-Match": current}).status_code == 200
    assert error(api.post(at(sequence, "publish"), {}, headers={"If-Match": version})) == (412, "edited_meanwhile")


@pytest.mark.django_db(transaction=True)
def test_of_two_changes_at_once_one_wins(stage, monkeypatch):
    """Without the lock both found the version that they had read."""
    meet_after(monkeypatch, (editing, "_held"))
    sequence, callers = stage.draft(stage.message("m")), [Caller(stage.organization).ready() for _ in range(2)]
    version = callers[0].get(at(sequence)).headers["ETag"]

    told = at_once(
        *[
            lambda caller=caller, name=name: (
                caller.patch(at(sequence), {"name": name}, headers={"If-Match": version}).status_code
            )
            for caller, name in zip(callers, ("One", "Two"), strict=True)
        ]
    )

    assert sorted(told) == [200, 412]
    assert Sequence.objects.get().name == ("One", "Two")[told.index(200)]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("_", range(3))
def test_a_draft_that_is_deleted_while_it_is_activated_is_one_of_both(stage, _):
    sequence, callers = stage.draft(stage.message("m")), [Caller(stage.organization).ready() for _ in range(2)]

    activated, deleted = at_once(
        lambda: callers[0].post(at(sequence, "activate"), {}).status_code,
        lambda: callers[1].delete(at(sequence)).status_code,
    )

    assert (activated, deleted) in {(200, 409), (404, 204)}
    assert Sequence.objects.count() == (deleted == 409)


# --- lists -------------------------------------------------------------------------------------------------------


def test_the_list_is_narrowed_by_name_and_status(stage, api):
    basket, other = stage.active(stage.message("m"), name="Basket"), stage.draft(name="Welcome")
    SequenceFactory(name="Basket of somebody else")

    def ids(query):
        return [one["id"] for one in api.get(f"{ADDRESS}{query}").json()["data"]]

    assert ids("") == [other.public_id, basket.public_id]
    assert ids("?search=BASK") == ids("?status=active") == [basket.public_id]
    assert ids("?search=ask&status=draft") == []
    page = api.get(f"{ADDRESS}?limit=1").json()
    assert (page["total"], "steps" in page["data"][0]) == (2, False)
    assert ids(f"?limit=1&cursor={page['nextCursor']}") == [basket.public_id]
    for wrong in ("?status=gone", "?limit=0", "?limit=101", "?page=-1", "?cursor=x", "?sort=name", "?page=1&page=2"):
        assert error(api.get(f"{ADDRESS}{wrong}")) == (422, "invalid")


# --- acts --------------------------------------------------------------------------------------------------------


def test_a_draft_is_deleted_and_what_was_activated_is_not(stage, api):
    draft, active = stage.draft(), stage.active(stage.message("m"))

    assert api.delete(at(draft)).status_code == 204
    assert error(api.get(at(draft))) == (404, "sequence_not_found")
    refused = api.delete(at(active))
    assert error(refused) == (409, "wrong_status")
    assert refused.json()["error"]["message"].endswith("Archive it instead.")
    assert Sequence.objects.get() == active


def test_activation_tells_every_problem_with_its_place(stage, api):
    sequence = stage.draft(stage.delay("d", seconds=1), stage.message("a", TemplateFactory()), trigger="tag_added")

    status, code, found = fields(api.post(at(sequence, "activate"), {}))

    assert (status, code, list(found)) == (422, "not_ready", ["tag", "steps.0", "steps.1"])
    assert found["steps.0"] == ["The wait of 1 second is too short: make it 1 minute or longer."]
    sequence.refresh_from_db()
    assert sequence.status == Status.DRAFT


def test_it_is_activated_edited_published_paused_resumed_and_archived(stage, api):
    sequence = stage.draft(stage.message("m"))

    def act(name, body=b""):
        told = api.post(at(sequence, name), body)
        assert told.status_code == 200, told.json()
        told = told.json()
        return told["status"], told["revision"], told["unpublishedChanges"]

    assert act("activate") == ("active", 1, False)
    assert error(api.post(at(sequence, "activate"), {})) == (409, "wrong_status")
    assert error(api.post(at(sequence, "publish"), {})) == (409, "nothing_changed")
    changed = api.patch(at(sequence), {"steps": [stage.message("m"), DELAY]}).json()
    assert (changed["revision"], changed["unpublishedChanges"]) == (1, True)
    assert act("publish", {}) == ("active", 2, False)
    assert act("pause") == ("paused", 2, False)
    assert error(api.post(at(sequence, "pause"), {})) == (409, "wrong_status")
    assert act("resume") == ("active", 2, False)
    assert error(api.post(at(sequence, "resume"), {})) == (409, "wrong_status")
    assert act("archive") == ("archived", 2, False)
    for name in ("activate", "publish", "pause", "resume", "archive", "move"):
        assert error(api.post(at(sequence, name), {})) == (409, "wrong_status")
    assert error(api.patch(at(sequence), {"name": "x"})) == (409, "wrong_status")
    assert error(api.delete(at(sequence))) == (409, "wrong_status")
    assert api.get(at(sequence)).json()["problems"] == []


def test_an_act_that_is_repeated_with_its_key_is_done_once_and_answered_as_before(stage, api):
    sequence, asha = stage.draft(stage.message("m")), stage.contact()

    def twice(act):
        told = [api.post(at(sequence, act), {}, headers={"Idempotency-Key": act}) for _ in range(2)]
        assert {one.status_code for one in told} == {200}
        assert told[0].json() == told[1].json()

    twice("activate")
    stage.enroll(sequence, asha)
    for act in ("pause", "resume", "archive"):
        twice(act)
    assert sequence.revisions.count() == 1
    assert Enrollment.objects.values_list("status", "exit_reason").get() == ("exited", "archived")


@pytest.mark.parametrize("act", ["activate", "publish", "pause", "resume", "archive", "move"])
def test_an_act_takes_no_members_that_it_does_not_know(stage, api, act):
    sequence = stage.draft(stage.message("m"))

    for body in ({"now": True}, [], 7):
        assert error(api.post(at(sequence, act), body)) == (422, "invalid")
    assert Sequence.objects.get().status == Status.DRAFT


def test_holders_of_the_tag_are_enrolled_on_request_only(stage, api):
    basket, asha = stage.tag("basket"), stage.contact()
    stage.put_on(basket, asha)
    stage.run()
    quiet, eager = [stage.draft(stage.message("m"), trigger="tag_added", trigger_tag=basket) for _ in range(2)]

    assert api.post(at(quiet, "activate"), {"enrollHolders": False}).status_code == 200
    assert api.post(at(eager, "activate"), {"enrollHolders": True}).status_code == 200
    stage.now += timedelta(days=365 * 10)  # after the request, whose time is the real one
    stage.run()

    assert list(Enrollment.objects.values_list("sequence", "contact", "source")) == [(eager.pk, asha.pk, "existing")]
    manual = stage.draft(stage.message("m"))
    assert error(api.post(at(manual, "activate"), {"enrollHolders": True})) == (422, "no_trigger_tag")


def test_people_are_moved_to_the_newest_revision(stage, api):
    sequence = stage.active(stage.message("a"), stage.delay("d", days=1), stage.message("b"))
    stage.enroll(sequence, stage.contact())
    sequence.draft = [stage.message("a"), stage.message("c", stage.offer)]
    sequence.save()
    publishing.publish(sequence, now=stage.now)

    assert api.post(at(sequence, "move"), {}).json() == {"moved": 1, "stayed": 0, "moving": 0}
    assert api.post(at(sequence, "move"), {}).json() == {"moved": 0, "stayed": 0, "moving": 0}
    assert Enrollment.objects.get().revision.number == 2


def test_of_very_many_people_some_leave_an_archived_sequence_shortly_after(stage, api, monkeypatch):
    monkeypatch.setattr("sequences.exiting.everybody.__kwdefaults__", {"limit": 1})
    monkeypatch.setattr("sequences.running.AT_ONCE", 2)
    sequence = stage.active(stage.message("a"))
    stage.enroll(sequence, *[stage.contact() for _ in range(3)])

    assert api.post(at(sequence, "archive"), {}).json()["people"]["inside"] == 1
    running.finish_exits(now=stage.now)

    assert api.get(at(sequence)).json()["people"] == {"inside": 0, "enrolled": 3, "completed": 0, "exited": 3}


# --- numbers -----------------------------------------------------------------------------------------------------


def test_what_became_of_it_in_numbers(stage, api):
    sequence = stage.active(
        stage.message("a"),
        stage.if_reached("r", "a", "read", yes=[stage.delay("d", days=1)], no=[stage.message("b", stage.offer)]),
        exit_on_reply=True,
    )
    read, capped, failed, gone, late = people = [stage.contact() for _ in range(5)]
    stage.enroll(sequence, *people)
    messages = {one.contact: one for one in Message.objects.waiting().select_related("contact")}
    stage.settle([messages[read]], "read")
    stage.settle([messages[capped]], "skipped")
    stage.settle([messages[failed]], "failed")
    stage.settle([messages[gone]], "delivered")
    stage.reply(gone)
    publishing.enrolling.enroll(sequence, [stage.contact(opted_in=False).pk], source="api", now=stage.now)

    told = api.get(at(sequence, "stats")).json()

    assert {name: told[name] for name in told if name != "steps"} == {
        "sequenceId": sequence.public_id,
        "revision": 1,
        "inside": 4,
        "enrolled": 5,
        "completed": 0,
        "exited": 1,
        "exitedByReason": [{"reason": "replied", "count": 1}],
        "refusedByReason": [{"reason": "not_opted_in", "count": 1}],
    }
    first, asks, waits, last = told["steps"]
    assert first == {
        "id": "a", "place": "1", "type": "message", "words": "Send welcome (en_US)",
        "arrived": 5, "waiting": 1, "passed": 4, "left": 0, "yes": None, "no": None,
        "funnel": {"total": 5, "waiting": 1, "dispatched": 2, "sent": 2, "delivered": 2, "read": 1, "failed": 1,
                   "skipped": 1, "unconfirmed": 0},
        "skippedByReason": [{"reason": "frequency_cap", "count": 1}], "held": None,
    }  # fmt: skip
    assert (asks["arrived"], asks["yes"], asks["no"], asks["funnel"]) == (4, 1, 3, None)
    assert (waits["place"], waits["waiting"], waits["words"]) == ("2 yes 1", 1, "Wait 1 day")
    assert (last["arrived"], last["left"], last["funnel"]["waiting"]) == (3, 1, 2)
    assert stage.sent(late) == ["welcome"]  # still on its way


def test_a_draft_has_no_numbers_yet(stage, api):
    told = api.get(at(stage.draft(), "stats")).json()

    assert (told["revision"], told["inside"], told["steps"], told["refusedByReason"]) == (None, 0, [], [])


def test_what_was_published_stays_to_be_read(stage, api):
    basket = stage.tag("basket")
    sequence = stage.active(stage.message("a"), trigger="tag_added", trigger_tag=basket)
    first = sequence.draft
    api.patch(at(sequence), {"steps": [stage.message("b", stage.offer)], "trigger": "manual"})
    api.post(at(sequence, "publish"), {})

    listed = api.get(at(sequence, "revisions")).json()

    assert [(one["number"], one["trigger"], one["tag"]) for one in listed["data"]] == [
        (2, "manual", None),
        (1, "tag_added", {"id": basket.public_id, "name": "basket"}),
    ]
    assert (listed["total"], listed["data"][0]["supersededAt"], "steps" in listed["data"][0]) == (2, None, False)
    assert listed["data"][1]["supersededAt"] is not None
    assert api.get(at(sequence, "revisions/1")).json() == {**listed["data"][1], "steps": first}
    for number in ("3", "0", "-1", "x", "9" * 10, "9" * 30, "1.0", "²"):
        assert error(api.get(at(sequence, f"revisions/{number}"))) == (404, "revision_not_found")
    [older] = api.get(
        at(sequence, f"revisions?limit=1&cursor={api.get(at(sequence, 'revisions?limit=1')).json()['nextCursor']}")
    ).json()["data"]
    assert older["number"] == 1


# --- cost --------------------------------------------------------------------------------------------------------


def test_every_address_costs_the_same_however_many_steps_and_people(stage, api):
    small, large = _course(stage, 1), _course(stage, 20)
    stage.enroll(small, stage.contact())
    stage.enroll(large, *[stage.contact() for _ in range(5)])
    stage.settle(status="skipped")

    def cost(address):
        with CaptureQueriesContext(connection) as queries:
            assert api.get(address).status_code == 200
        return len(queries)

    # the key and the sequence are two of each
    for act, queries in (("", 6), ("stats", 14), ("revisions", 4), ("revisions/1", 3)):
        assert cost(at(small, act)) == cost(at(large, act)) == queries
    assert cost(f"{ADDRESS}?limit=1") == cost(ADDRESS) == 5


def _course(stage, size):
    tag = stage.tag(f"tag {size}")
    steps = [
        stage.if_tag(f"c{n}", tag, yes=[stage.message(f"m{n}"), stage.delay(f"d{n}", days=1)]) for n in range(size)
    ]
    return stage.active(stage.message("first"), *steps)


def test_a_change_costs_the_same_however_many_steps(stage, api):
    def cost(steps):
        sequence = stage.draft()
        with CaptureQueriesContext(connection) as queries:
            assert api.patch(at(sequence), {"steps": steps}).status_code == 200
        return len(queries)

    assert cost(_course(stage, 1).draft) == cost(_course(stage, 20).draft) == 11


# --- whose -------------------------------------------------------------------------------------------------------

ACTS = ("activate", "publish", "pause", "resume", "archive", "move")


def test_another_organizations_sequence_is_as_unknown_as_one_that_never_was(stage, api):
    foreign = stage.active(stage.message("m"))
    stranger = Caller(OrganizationFactory())
    answers = []
    for public_id in (
        foreign.public_id,
        public_ids.encode("seq", NEVER),
        stage.welcome.public_id,
        str(foreign.pk),
        "seq_x",
    ):
        address = f"{ADDRESS}/{public_id}"
        answers += [stranger.get(address), stranger.patch(address, {"name": "x"}), stranger.delete(address)]
        answers += [stranger.post(f"{address}/{act}", {}) for act in ACTS]
        answers += [stranger.get(f"{address}/{part}") for part in ("stats", "revisions", "revisions/1")]

    assert {error(answer) for answer in answers} == {(404, "sequence_not_found")}
    assert len({answer.content for answer in answers}) == 1
    assert stranger.get(ADDRESS).json()["total"] == 0
    assert Sequence.objects.get().status == Status.ACTIVE


@pytest.mark.parametrize(
    ("member", "code"),
    [("tag", "tag_not_found"), ("exitTag", "tag_not_found"), ("phoneNumberId", "phone_number_not_found")],
)
def test_what_belongs_to_another_organization_can_not_be_named(stage, api, member, code):
    foreign = PhoneNumberFactory() if member == "phoneNumberId" else TagFactory()
    never = public_ids.encode(foreign.PUBLIC_KIND, NEVER)
    mine = stage.draft(trigger="tag_added")
    answers = [
        answer
        for named in (foreign.public_id, never)
        for answer in (
            api.post(ADDRESS, {"name": "x", "trigger": "tag_added", member: named}),
            api.patch(at(mine), {member: named}),
        )
    ]

    assert {error(answer) for answer in answers} == {(404, code)}
    assert len({answer.content for answer in answers}) == 1


def test_what_a_tree_names_of_another_organization_is_as_unknown_as_what_never_was(stage, api):
    tag, template = TagFactory(name="theirs"), TemplateFactory(name="theirs")
    foreign = SequenceFactory(draft=[{"id": "theirs", "type": "message", "template": template.public_id}])
    assert foreign.organization != stage.organization

    def problems(tag, template):
        told = created(
            api,
            steps=[
                {"id": "m", "type": "message", "template": template},
                {"id": "t", "type": "condition", "if": {"tag": tag}, "yes": [DELAY]},
                {
                    "id": "r",
                    "type": "condition",
                    "if": {"step": "theirs", "reached": "read"},
                    "yes": [{**DELAY, "id": "e"}],
                },
            ],
        )
        words = [one["message"] for one in told["problems"]]
        assert [one["step"] for one in told["problems"]] == ["m", "t", "r"]
        assert error(api.post(f"{ADDRESS}/{told['id']}/activate", {})) == (422, "not_ready")
        return [word.replace(f"tag {tag}", "…").replace(f"template {template}", "…") for word in words]

    never = problems(public_ids.encode("tag", NEVER), public_ids.encode("tpl", NEVER))
    assert problems(tag.public_id, template.public_id) == never
    assert problems("theirs", "theirs") == never
    assert Tag.objects.count() == 1


@pytest.mark.parametrize(
    ("role", "reads", "changes"),
    [(Role.OWNER, 200, 200), (Role.ADMIN, 200, 200), (Role.AGENT, 403, 403), (Role.VIEWER, 200, 403)],
)
def test_roles(stage, role, reads, changes):
    sequence = stage.active(stage.message("m"))
    caller = Caller(stage.organization, role)

    for part in ("", "stats", "revisions", "revisions/1"):
        assert caller.get(at(sequence, part)).status_code == reads
    assert caller.get(ADDRESS).status_code == reads
    assert caller.patch(at(sequence), {"name": "x"}).status_code == changes
    assert caller.post(at(sequence, "pause"), {}).status_code == changes
    if changes == 403:
        assert caller.post(ADDRESS, {"name": "x"}).status_code == caller.delete(at(sequence)).status_code == 403
        assert Sequence.objects.get().status == Status.ACTIVE
