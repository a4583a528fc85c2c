"""The people of a sequence, one person's way and the acts on it, and who wasn't enrolled."""

from datetime import timedelta

import pytest

from kaanha.messaging.models import Message
from kaanha.organizations.models import Role
from sequences import enrolling, publishing, running
from sequences.enrollment_admin import EnrollmentAdmin
from sequences.models import Enrollment, Source
from tests.factories import ContactFactory, SequenceFactory
from tests.people import said, signed_in, superuser, text
from tests.sequences.conftest import START

LIST = "/admin/sequences/enrollment/"
ACTS = ("pause", "resume", "cancel")
CAPPED = "Had a marketing message in the last 24 hours"


@pytest.fixture(autouse=True)
def frozen(stage, time_machine):
    """Pages and engine see the same moment."""
    time_machine.move_to(START, tick=False)
    stage.organization.timezone = "Asia/Kolkata"
    stage.organization.save()
    return time_machine


@pytest.fixture
def owner(stage):
    return signed_in(stage.organization)


@pytest.fixture
def series(stage):
    """Two messages with two days between them, the second for those who are vip."""
    vip = stage.tag("vip")
    return stage.active(
        stage.message("m1"),
        stage.delay("d1", days=2),
        stage.if_tag("c1", vip, yes=[stage.message("m2", stage.offer)]),
        name="Series",
    )


def page(enrollment, name="change"):
    return f"{LIST}{enrollment.pk}/{name}/"


def listed(browser, sequence, **query):
    """The contacts of the list, by name, as the page shows them."""
    answer = browser.get(LIST, {"sequence": sequence.pk, **query})
    assert answer.status_code == 200
    return [str(row.contact) for row in answer.context["cl"].result_list]


def test_the_list_says_where_each_stands_and_when_it_goes_on(stage, owner, series):
    first, second, third = (stage.contact(name=name) for name in ("Asha", "Bela", "Chandra"))
    stage.enroll(series, first)
    stage.settle()
    stage.enroll(series, second, third)
    Enrollment.objects.filter(contact=third).update(status="paused")

    shown = text(owner.get(f"{LIST}?sequence={series.pk}"))
    assert f"Asha {first.phone} Active Wait 2 days Step 2 4 Mar 2026, 15:30 IST 2 Mar 2026, 15:30 IST The API" in shown
    assert f"Bela {second.phone} Active Send welcome (en_US) Step 1 After its message" in shown
    assert f"Chandra {third.phone} Paused Send welcome (en_US) Step 1 When it is resumed" in shown


def test_the_list_is_narrowed_by_status_reason_step_and_search(stage, owner, series):
    sent, waiting, gone, done = (stage.contact(name=name) for name in ("Sent One", "Waiting", "Gone", "Done"))
    stage.enroll(series, done)
    stage.settle()
    stage.wait(days=2)
    stage.enroll(series, sent, gone)
    stage.settle()
    stage.enroll(series, waiting)
    enrollments = {row.contact_id: row for row in Enrollment.objects.all()}
    owner.post(page(enrollments[gone.pk], "cancel"))

    assert listed(owner, series) == ["Sent One", "Waiting", "Gone", "Done"]
    assert listed(owner, series, status__exact="active") == ["Sent One", "Waiting"]
    assert listed(owner, series, inside="1") == ["Sent One", "Waiting"]
    assert listed(owner, series, inside="0") == ["Gone", "Done"]
    assert listed(owner, series, exit_reason__exact="canceled") == ["Gone"]
    assert listed(owner, series, exit_reason__exact="replied") == []
    assert listed(owner, series, step="d1") == ["Sent One"]
    assert listed(owner, series, step="m1") == ["Waiting"]
    assert listed(owner, series, step="nowhere") == []
    assert listed(owner, series, status__exact="completed") == ["Done"]
    assert listed(owner, series, q="one sent") == ["Sent One"]
    assert listed(owner, series, q=waiting.phone[:9]) == ["Sent One", "Waiting", "Gone", "Done"]
    assert listed(owner, series, q=waiting.phone) == ["Waiting"]


def test_a_step_is_found_by_its_key_in_every_revision(stage, owner, series):
    old, new = stage.contact(name="Old"), stage.contact(name="New")
    stage.enroll(series, old)
    series.draft = [stage.delay("first", days=1), *series.draft]
    series.save()
    publishing.publish(series, now=stage.now)
    stage.enroll(series, new)
    stage.settle()

    assert listed(owner, series, step="d1") == ["Old"]
    assert listed(owner, series, step="first") == ["New"]
    # by its latest place
    choices = text(owner.get(f"{LIST}?sequence={series.pk}"))
    assert "1: Wait 1 day" in choices
    assert "2: Send welcome (en_US)" in choices
    assert "1: Send welcome (en_US)" not in choices


def test_pages_follow_each_other_and_each_row_stands_on_one(stage, owner, series, monkeypatch):
    monkeypatch.setattr(EnrollmentAdmin, "list_per_page", 2)
    people = [stage.contact(name=f"Person {number}") for number in range(5)]
    stage.enroll(series, *people)

    pages = [listed(owner, series, p=number) for number in (1, 2, 3)]
    assert pages == [["Person 0", "Person 1"], ["Person 2", "Person 3"], ["Person 4"]]
    assert listed(owner, series, p=2, q="Person 4") == ["Person 4"]  # a page that isn't there any more


def test_the_list_of_a_contact_names_its_sequences(stage, owner, series):
    asha = stage.contact(name="Asha")
    stage.enroll(series, asha)
    stage.enroll(stage.active(stage.message("n1"), name="Notes"), asha)
    stage.enroll(series, stage.contact(name="Bela"))

    rows = owner.get(f"{LIST}?contact={asha.pk}").context["cl"].result_list
    assert [str(row.sequence) for row in rows] == ["Notes", "Series"]


def test_without_a_subject_there_is_no_list(stage, owner):
    answer = owner.get(LIST)

    assert answer.url == "/admin/sequences/sequence/"
    assert said(answer) == ["Choose a sequence to see the people in it."]


@pytest.mark.parametrize("named", ["sequence", "contact"])
def test_another_organizations_subject_is_nowhere(stage, owner, named):
    foreign = {"sequence": SequenceFactory, "contact": ContactFactory}[named]()

    assert owner.get(f"{LIST}?{named}={foreign.pk}").status_code == 404
    assert owner.get(f"{LIST}?{named}={foreign.pk}&refused=1").status_code == 404
    assert owner.get(f"{LIST}?{named}=nonsense").status_code == 404
    assert owner.get(f"{LIST}?{named}={'9' * 30}").status_code == 404


def test_a_subject_of_ours_opens_no_door_to_another_one(stage, owner, series):
    foreign = ContactFactory()

    assert owner.get(f"{LIST}?sequence={series.pk}&contact={foreign.pk}").status_code == 404


def test_a_superuser_without_an_organization_sees_each_list(stage, series):
    stage.enroll(series, stage.contact(name="Asha"))
    SequenceFactory()  # of another one, so that none is chosen by itself

    assert listed(superuser(), series, q="asha") == ["Asha"]


def test_the_list_costs_the_same_however_many_people(stage, owner, series, django_assert_num_queries):
    def fill(how_many):
        for _ in range(2):  # some wait for the delay, some for their message
            stage.settle()
            stage.enroll(series, *(stage.contact() for _ in range(how_many)))

    fill(1)
    # session, user, membership; the sequence and its owner; the steps to filter by, with
    # tags and templates; keys and rows; tags and templates of their steps, and until when they wait
    with django_assert_num_queries(13):
        owner.get(f"{LIST}?sequence={series.pk}")
    fill(6)
    series.draft = [stage.delay("first", days=1), *series.draft]
    series.save()
    publishing.publish(series, now=stage.now)
    fill(6)
    with django_assert_num_queries(13):
        owner.get(f"{LIST}?sequence={series.pk}")


def test_a_way_shows_what_was_taken_where_it_stands_and_what_may_come(stage, owner, series, frozen):
    asha = stage.contact(name="Asha")
    (enrollment,) = stage.enroll(series, asha)
    stage.settle(status="delivered")

    context = owner.get(page(enrollment)).context
    (first,) = context["past"]
    assert (first.place, first.words, first.facts) == (
        "1",
        "Send welcome (en_US)",
        "accepted by Meta 2 Mar 2026, 15:30 IST · delivered 2 Mar 2026, 15:30 IST",
    )
    assert "Delivered" in first.chip
    assert (context["here"].place, context["here"].words) == ("2", "Wait 2 days")
    assert context["goes_on"] == "It goes on 4 Mar 2026, 15:30 IST, with: Has the tag vip?."
    (condition,) = context["ahead"]
    assert (condition.words, condition.when) == ("Has the tag vip?", "expected 4 Mar 2026, 15:30 IST")
    assert [(label, [line.words for line in lines]) for label, lines in condition.paths] == [
        ("Yes", ["Send offer (en_US)"]),
        ("No", []),
    ]

    stage.wait(days=2)
    frozen.move_to(stage.now)
    context = signed_in(stage.organization).get(page(enrollment)).context
    assert [(line.place, line.why) for line in context["past"]] == [
        ("1", ""),
        ("2", ""),
        ("3", "doesn't hold the tag"),
    ]
    assert (context["here"], context["ahead"], context["end"]) == (None, [], "Completed 4 Mar 2026, 15:30 IST")


def test_a_way_says_why_something_was_not_sent_and_what_it_waits_for(stage, owner, series):
    skipped, failed = (stage.enroll(series, stage.contact())[0] for _ in range(2))
    waiting = owner.get(page(skipped)).context
    assert waiting["goes_on"] == "Its message is waiting to be sent, or for Meta's answer."
    assert "Queued" in waiting["waiting"].chip

    rows = {row.contact_id: row for row in Message.objects.all()}
    stage.settle([rows[skipped.contact_id]], "skipped")
    stage.settle([rows[failed.contact_id]], "failed")
    told = [owner.get(page(enrollment)).context["past"][0] for enrollment in (skipped, failed)]
    assert ["Skipped" in told[0].chip, "Failed" in told[1].chip] == [True, True]
    assert told[0].why == CAPPED
    assert told[1].why == "131026: Message undeliverable"


def test_nobody_moves_while_the_sequence_is_paused_and_the_pages_say_so(stage, owner, series):
    (enrollment,) = stage.enroll(series, stage.contact())
    running.pause(series, now=stage.now)

    assert "The sequence is paused: resume it to let everybody go on." in text(owner.get(page(enrollment)))
    shown = text(owner.get(f"{LIST}?sequence={series.pk}"))
    assert "Series is paused: nobody in it moves." in shown
    assert "When the sequence is resumed" in shown


def test_an_undecided_condition_lies_ahead_with_both_paths(stage, owner):
    vip = stage.tag("vip")
    paths = {"yes": [stage.message("m1")], "no": [stage.message("m2", stage.offer)]}
    sequence = stage.active(stage.if_tag("c1", vip, waitFor={"hours": 24}, **paths), stage.message("m3"))
    (enrollment,) = stage.enroll(sequence, stage.contact())

    context = owner.get(page(enrollment)).context
    assert context["goes_on"] == "It goes on at the latest 3 Mar 2026, 15:30 IST."
    assert [(line.place, line.when, len(line.paths)) for line in context["ahead"]] == [("1", "", 2), ("2", "", 0)]
    assert [line.words for _, lines in context["ahead"][0].paths for line in lines] == [
        "Send welcome (en_US)",
        "Send offer (en_US)",
    ]


def test_steps_ahead_on_a_path_go_on_after_its_condition(stage, owner):
    vip = stage.tag("vip")
    contact = stage.contact()
    stage.put_on(vip, contact)
    sequence = stage.active(
        stage.if_tag("c1", vip, yes=[stage.delay("d1", hours=1), stage.message("m1")], no=[stage.message("m2")]),
        stage.delay("d2", hours=2),
        stage.message("m3", stage.offer),
    )
    (enrollment,) = stage.enroll(sequence, contact)

    ahead = owner.get(page(enrollment)).context["ahead"]
    assert [(line.place, line.when) for line in ahead] == [
        ("1 yes 2", "expected 2 Mar 2026, 16:30 IST"),
        ("2", "until 2 Mar 2026, 18:30 IST"),
        ("3", "expected 2 Mar 2026, 18:30 IST"),
    ]


def test_pausing_resuming_and_canceling_ask_first_and_are_noted(stage, owner, series):
    asha = stage.contact(name="Asha")
    (enrollment,) = stage.enroll(series, asha)

    def status():
        return Enrollment.objects.get(pk=enrollment.pk).status

    for act, after, done in (
        ("pause", "paused", "Asha in Series: paused."),
        ("resume", "active", "Asha in Series: resumed."),
        ("cancel", "exited", "Asha in Series: canceled."),
    ):
        before = status()
        assert owner.get(page(enrollment, act)).status_code == 200
        assert status() == before
        answer = owner.post(page(enrollment, act))
        assert (answer.url, status()) == (page(enrollment), after)
        assert said(answer)[-1] == done
        assert done in text(owner.get(page(enrollment, "history")))
    assert Message.objects.get().skip_reason == "canceled"


def test_what_can_no_longer_be_done_is_refused_in_words(stage, owner, series):
    (enrollment,) = stage.enroll(series, stage.contact())
    owner.post(page(enrollment, "cancel"))

    for act, done in (("pause", "paused"), ("resume", "resumed"), ("cancel", "canceled")):
        answer = owner.post(page(enrollment, act))
        assert said(answer)[-1] == f"The enrollment is exited for good: it can't be {done}."
    assert "Pause …" not in text(owner.get(page(enrollment)))


def test_a_viewer_reads_everything_and_changes_nothing(stage, series):
    viewer = signed_in(stage.organization, Role.VIEWER)
    (enrollment,) = stage.enroll(series, stage.contact(name="Asha"))

    assert listed(viewer, series) == ["Asha"]
    shown = text(viewer.get(page(enrollment)))
    assert "Send welcome (en_US)" in shown
    assert "Pause …" not in shown
    for act in ACTS:
        assert viewer.get(page(enrollment, act)).status_code == 403
        assert viewer.post(page(enrollment, act)).status_code == 403
    assert Enrollment.objects.get().status == "active"


def test_an_agent_sees_no_enrollments(stage, series):
    agent = signed_in(stage.organization, Role.AGENT)
    (enrollment,) = stage.enroll(series, stage.contact())

    for address in (f"{LIST}?sequence={series.pk}", page(enrollment), *(page(enrollment, act) for act in ACTS)):
        assert agent.get(address).status_code == 403


def test_who_was_not_enrolled_is_listed_with_the_reason(stage, owner, series):
    out = stage.contact(name="Outsider", opted_in=False)
    twice = stage.contact(name="Twice")
    stage.enroll(series, twice)
    enrolling.enroll(series, [out.pk], source=Source.OPERATOR, now=stage.now)
    enrolling.enroll(series, [twice.pk], source=Source.API, now=stage.now + timedelta(hours=1))
    other = stage.active(stage.message("x"), name="Other")
    enrolling.enroll(other, [out.pk], source=Source.API, now=stage.now)

    address = f"{LIST}?sequence={series.pk}&refused=1"
    answer = owner.get(address)
    assert [str(row.contact) for row, _ in answer.context["rows"]] == ["Twice", "Outsider"]
    assert "Twice" in text(answer)
    assert "Enrolled before The API 2 Mar 2026, 16:30 IST" in text(answer)
    assert "Page 1 of 1: 2 in all." in text(answer)

    narrowed = owner.get(f"{address}&code=not_opted_in")
    assert [str(row.contact) for row, _ in narrowed.context["rows"]] == ["Outsider"]
    assert "only opted-in contacts can be enrolled" in text(narrowed)
    assert list(owner.get(f"{address}&code=nonsense").context["rows"]) == []


def test_refusals_cost_the_same_however_many(stage, owner, series, django_assert_num_queries):
    def fill(how_many):
        people = [stage.contact(opted_in=False).pk for _ in range(how_many)]
        enrolling.enroll(series, people, source=Source.API, now=stage.now)

    address = f"{LIST}?sequence={series.pk}&refused=1"
    fill(1)
    # session, user, membership; the sequence; counted, read, by reason
    with django_assert_num_queries(7):
        owner.get(address)
    fill(5)
    with django_assert_num_queries(7):
        owner.get(address)


def test_a_way_costs_the_same_however_long_it_is(stage, owner, django_assert_num_queries):
    steps = [stage.message(f"m{number}", whenCapped="skip") for number in range(6)]
    (enrollment,) = stage.enroll(stage.active(*steps), stage.contact())
    with django_assert_num_queries(11):
        owner.get(page(enrollment))
    for _ in range(5):
        stage.settle()
    assert len(owner.get(page(enrollment)).context["past"]) == 5
    with django_assert_num_queries(11):
        owner.get(page(enrollment))
