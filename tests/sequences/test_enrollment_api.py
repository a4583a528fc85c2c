"""`/api/enrollments`: who is inside, where everybody stands, and pausing, resuming and canceling one person."""

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from kaanha.lib import public_ids
from kaanha.messaging.models import Message
from kaanha.organizations.models import AuditEntry, Role
from sequences import enrollments, exiting, moving, publishing, running
from sequences.models import Enrollment
from tests.callers import Caller, error
from tests.contacts.threads import at_once, meet_after
from tests.factories import ContactFactory, OrganizationFactory
from tests.sequences.conftest import START

ADDRESS = "/api/enrollments"
NEVER = 10**12

pytestmark = pytest.mark.django_db


@pytest.fixture
def api(stage):
    return Caller(stage.organization).ready()


@pytest.fixture
def series(stage):
    return stage.active(stage.message("a"), stage.delay("d", days=2), stage.message("b", stage.offer))


def at(enrollment, act=""):
    return f"{ADDRESS}/{enrollment.public_id}{act and f'/{act}'}"


def listed(api, query=""):
    response = api.get(f"{ADDRESS}{query}")
    assert response.status_code == 200, response.json()
    return [one["id"] for one in response.json()["data"]]


# --- one ---------------------------------------------------------------------------------------------------------


def test_somebody_who_waits(stage, api, series):
    asha = stage.contact()
    [enrollment] = stage.enroll(series, asha)
    stage.settle()

    told = api.get(at(enrollment)).json()

    message = Message.objects.get()
    assert told == {
        "id": enrollment.public_id,
        "sequenceId": series.public_id,
        "contactId": asha.public_id,
        "phone": asha.phone,
        "status": "active",
        "exitReason": None,
        "source": "api",
        "revision": 1,
        "step": {"id": "d", "place": "2", "words": "Wait 2 days"},
        "goesOnAt": "2026-03-04T10:00:00Z",
        "waitsFor": None,
        "enrolledAt": "2026-03-02T10:00:00Z",
        "endedAt": None,
        "path": [
            {
                "step": "a",
                "place": "1",
                "words": "Send welcome (en_US)",
                "at": "2026-03-02T10:00:00Z",
                "until": None,
                "endedAt": "2026-03-02T10:00:00Z",
                "outcome": "sent",
                "reason": None,
                "messageId": message.public_id,
                "messageStatus": "sent",
            },
            {
                "step": "d",
                "place": "2",
                "words": "Wait 2 days",
                "at": "2026-03-02T10:00:00Z",
                "until": "2026-03-04T10:00:00Z",
                "endedAt": None,
                "outcome": "waiting",
                "reason": None,
                "messageId": None,
                "messageStatus": None,
            },
        ],
    }


def test_somebody_who_waits_for_a_message_has_no_time(stage, api, series):
    [enrollment] = stage.enroll(series, stage.contact())

    told = api.get(at(enrollment)).json()

    assert (told["step"]["id"], told["goesOnAt"]) == ("a", None)
    assert told["waitsFor"] == "Its message is waiting to be sent, or for Meta's answer."


def test_somebody_who_has_left(stage, api, series):
    [enrollment] = stage.enroll(series, stage.contact())
    assert api.post(at(enrollment, "cancel"), {}).status_code == 200

    told = api.get(at(enrollment)).json()

    assert (told["status"], told["exitReason"], told["step"], told["goesOnAt"], told["waitsFor"]) == (
        "exited", "canceled", None, None, None,
    )  # fmt: skip
    assert told["endedAt"] is not None
    assert [(one["step"], one["outcome"], one["messageStatus"]) for one in told["path"]] == [("a", "left", "skipped")]


def test_nobody_moves_while_the_sequence_is_paused_and_the_answer_says_so(stage, api, series):
    [enrollment] = stage.enroll(series, stage.contact())
    running.pause(series, now=stage.now)

    assert api.get(at(enrollment)).json()["waitsFor"] == ("The sequence is paused: resume it to let everybody go on.")


# --- lists -------------------------------------------------------------------------------------------------------


def test_the_list_is_narrowed_by_sequence_contact_and_status(stage, api, series):
    other = stage.active(stage.message("x"))
    asha, ravi = stage.contact(), stage.contact()
    first, second = stage.enroll(series, asha, ravi)
    [third] = stage.enroll(other, asha)
    api.post(at(second, "cancel"), {})

    def ids(*rows):
        return [row.public_id for row in rows]

    assert listed(api) == ids(third, second, first)
    assert listed(api, f"?sequence={series.public_id}") == ids(first, second)
    assert listed(api, f"?contact={asha.public_id}") == ids(third, first)
    assert listed(api, f"?contact={asha.public_id}&sequence={series.public_id}") == ids(first)
    assert listed(api, f"?sequence={series.public_id}&status=exited") == ids(second)
    assert listed(api, "?status=active") == ids(third, first)
    assert listed(api, "?status=completed") == []
    line = api.get(f"{ADDRESS}?status=exited").json()["data"][0]
    assert ("path" in line, line["exitReason"], line["contactId"]) == (False, "canceled", ravi.public_id)
    for wrong in ("?status=gone", "?limit=101", "?page=0", "?cursor=x", "?step=a", "?sequence=a&sequence=b"):
        assert error(api.get(f"{ADDRESS}{wrong}")) == (422, "invalid")


@pytest.mark.parametrize("narrowed", [False, True])
def test_pages_and_cursors_lead_through_all(stage, api, series, narrowed):
    stage.enroll(series, *[stage.contact() for _ in range(5)])
    query = f"?sequence={series.public_id}" if narrowed else "?"
    everything = listed(api, query)

    seen, cursor = [], ""
    while cursor is not None:
        page = api.get(f"{ADDRESS}{query}&limit=2{cursor and f'&cursor={cursor}'}").json()
        seen += [one["id"] for one in page["data"]]
        cursor = page["nextCursor"]

    assert seen == everything
    assert len(set(everything)) == 5
    assert listed(api, f"{query}&limit=2&page=2") == everything[2:4]
    assert api.get(f"{ADDRESS}{query}&limit=2&page=3").json()["total"] == 5


def test_totals_are_the_counters_and_those_that_they_do_not_know_are_counted(stage, api, series):
    first, second, *_ = stage.enroll(series, *[stage.contact() for _ in range(4)])
    enrollments.cancel(first, now=stage.now)
    enrollments.pause(second, now=stage.now)

    def total(query):
        return api.get(f"{ADDRESS}?{query}").json()["total"]

    for where in ("", f"&sequence={series.public_id}"):
        totals = {status: total(f"status={status}{where}") for status in ("active", "paused", "completed", "exited")}
        assert totals == {"active": 2, "paused": 1, "completed": 0, "exited": 1}
        assert total(where.lstrip("&")) == 4
    assert total(f"contact={first.contact.public_id}") == 1
    assert total(f"contact={first.contact.public_id}&status=active") == 0


def test_the_list_costs_the_same_however_many(stage, api, series):
    def cost(query):
        with CaptureQueriesContext(connection) as captured:
            api.get(f"{ADDRESS}{query}")
        return len(captured)

    queries = ("", f"?sequence={series.public_id}", "?status=active", "?limit=1&page=1")
    stage.enroll(series, stage.contact())
    few = [cost(query) for query in queries]
    stage.enroll(series, *[stage.contact() for _ in range(6)])

    assert [cost(query) for query in queries] == few


# --- acts --------------------------------------------------------------------------------------------------------


def test_one_person_is_paused_and_goes_on_where_it_stood(stage, api, series):
    held, free = stage.enroll(series, stage.contact(), stage.contact())
    stage.settle()

    with time_machine.travel(START, tick=False):
        told = api.post(at(held, "pause"), b"").json()
    stage.wait(days=3)

    assert (told["status"], told["step"]["id"]) == ("paused", "d")
    assert told["waitsFor"] == "The enrollment is paused: resume it to let it go on."
    assert Message.objects.filter(template=stage.offer).values_list("contact", flat=True).get() == free.contact_id
    with time_machine.travel(stage.now, tick=False):
        assert api.post(at(held, "resume"), {}).json()["status"] == "active"
    stage.run()
    assert Message.objects.filter(template=stage.offer).count() == 2


@pytest.mark.parametrize(
    ("act", "status"), [("resume", "active"), ("pause", "exited"), ("resume", "exited"), ("cancel", "exited")]
)
def test_what_can_no_longer_be_done_is_a_conflict(stage, api, series, act, status):
    [enrollment] = stage.enroll(series, stage.contact())
    if status == "exited":
        api.post(at(enrollment, "cancel"), {})

    assert error(api.post(at(enrollment, act), {})) == (409, "wrong_status")
    assert Enrollment.objects.get().status == status


@pytest.mark.parametrize("act", ["pause", "resume", "cancel"])
@pytest.mark.parametrize("body", [{"reason": "x"}, [], "now", 7])
def test_an_act_takes_no_members(stage, api, series, act, body):
    [enrollment] = stage.enroll(series, stage.contact())

    assert error(api.post(at(enrollment, act), body)) == (422, "invalid")
    assert Enrollment.objects.get().status == "active"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("act", ["pause", "cancel"])
def test_of_two_at_once_one_is_told_that_it_was_done_already(stage, series, act, monkeypatch):
    """Without the lock both found the person on its way."""
    meet_after(monkeypatch, (enrollments, "_locked"), (exiting, "_locked"))
    [enrollment] = stage.enroll(series, stage.contact())
    callers = [Caller(stage.organization).ready() for _ in range(2)]

    told = at_once(*[lambda caller=caller: caller.post(at(enrollment, act), {}).status_code for caller in callers])

    assert sorted(told) == [200, 409]
    assert AuditEntry.objects.filter(action__startswith="enrollment.").count() == 1


@pytest.mark.django_db(transaction=True)
def test_who_is_canceled_while_it_is_resumed_has_left(stage, series):
    [enrollment] = stage.enroll(series, stage.contact())
    one, two = [Caller(stage.organization).ready() for _ in range(2)]
    one.post(at(enrollment, "pause"), {})

    resumed, canceled = at_once(
        lambda: one.post(at(enrollment, "resume"), {}).status_code,
        lambda: two.post(at(enrollment, "cancel"), {}).status_code,
    )

    assert (resumed in (200, 409), canceled) == (True, 200)
    assert Enrollment.objects.values_list("status", "exit_reason").get() == ("exited", "canceled")
    assert not Message.objects.waiting().exists()


# --- cost --------------------------------------------------------------------------------------------------------


def cost(api, address):
    with CaptureQueriesContext(connection) as queries:
        assert api.get(address).status_code == 200
    return len(queries)


def test_the_list_costs_the_same_however_many_people_and_sequences(stage, api, series):
    tag = stage.tag("x")

    def fill(people):
        sequence = stage.active(stage.if_tag("c", tag, waitFor={"days": 1}, yes=[stage.message("m")]))
        stage.enroll(sequence, *[stage.contact() for _ in range(people)])

    stage.enroll(series, stage.contact())
    fill(1)
    few = cost(api, ADDRESS)
    for _ in range(3):
        fill(3)

    # the key, how many, a page of them; until when they wait, the tags and the templates that their steps name
    assert cost(api, ADDRESS) == few == 6
    assert (
        cost(api, f"{ADDRESS}?sequence={series.public_id}&contact={Enrollment.objects.first().contact.public_id}") == 7
    )


def test_one_costs_the_same_however_many_revisions_it_has_come_through(stage, api):
    tag = stage.tag("x")

    def steps(number):
        asks = stage.if_tag(f"c{number}", tag, yes=[stage.message(f"m{number}")])
        return [stage.message("a"), asks, stage.delay(f"d{number}", hours=1), stage.delay("last", days=100)]

    sequence = stage.active(*steps(0))
    [enrollment] = stage.enroll(sequence, stage.contact())
    stage.settle()
    few = cost(api, at(enrollment))
    for number in range(1, 4):
        sequence.draft = [*steps(0)[:-1], *(one for before in range(1, number + 1) for one in steps(before)[1:-1])]
        sequence.save()
        publishing.publish(sequence, now=stage.now)
        moving.move(sequence, now=stage.now)
        stage.wait(hours=1)

    assert Enrollment.objects.get().runs.values("step__revision").distinct().count() > 2
    # the key, the enrollment; until when it waits; its runs, their messages, the tags and the templates that they name
    assert cost(api, at(enrollment)) == few == 7


# --- whose -------------------------------------------------------------------------------------------------------


def test_another_organizations_enrollment_is_as_unknown_as_one_that_never_was(stage, series):
    [foreign] = stage.enroll(series, stage.contact())
    stranger = Caller(OrganizationFactory())
    answers = []
    for public_id in (foreign.public_id, public_ids.encode("enr", NEVER), series.public_id, str(foreign.pk), "enr_x"):
        answers.append(stranger.get(f"{ADDRESS}/{public_id}"))
        answers += [stranger.post(f"{ADDRESS}/{public_id}/{act}", {}) for act in ("pause", "resume", "cancel")]

    assert {error(answer) for answer in answers} == {(404, "enrollment_not_found")}
    assert len({answer.content for answer in answers}) == 1
    assert (listed(stranger), Enrollment.objects.get().status) == ([], "active")


@pytest.mark.parametrize("kind", ["sequence", "contact"])
def test_a_filter_by_what_belongs_to_another_organization_finds_nothing(stage, api, series, kind):
    asha = stage.contact()
    stage.enroll(series, asha)
    stranger = Caller(OrganizationFactory())
    foreign, prefix = (series, "seq") if kind == "sequence" else (asha, "ct")
    answers = [
        stranger.get(f"{ADDRESS}?{kind}={named}")
        for named in (foreign.public_id, public_ids.encode(prefix, NEVER), "x", ContactFactory().public_id)
    ]

    assert {error(answer) for answer in answers} == {(404, f"{kind}_not_found")}
    assert len({answer.content for answer in answers}) == 1


@pytest.mark.parametrize(
    ("role", "reads", "changes"),
    [(Role.OWNER, 200, 200), (Role.ADMIN, 200, 200), (Role.AGENT, 403, 403), (Role.VIEWER, 200, 403)],
)
def test_roles(stage, series, role, reads, changes):
    [enrollment] = stage.enroll(series, stage.contact())
    caller = Caller(stage.organization, role)

    assert caller.get(ADDRESS).status_code == caller.get(at(enrollment)).status_code == reads
    assert caller.post(at(enrollment, "pause"), {}).status_code == changes
    assert Enrollment.objects.get().status == ("paused" if changes == 200 else "active")
