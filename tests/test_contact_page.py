"""Enrolling from a contact's page and from the list, and what the page tells about sequences."""

from datetime import timedelta

import pytest

from contacts import bulk
from contacts.models import ConsentChange, Contact
from kaanha.organizations.models import Role
from sequences import enrolling, live_page, running
from sequences.models import Enrollment, EnrollmentRefusal, IntakeContact, Source, Status
from tests.factories import BroadcastFactory, ContactFactory, SequenceFactory, TagFactory
from tests.people import said, signed_in, superuser, text
from tests.sequences.conftest import START, stage

LIST = "/admin/contacts/contact/"
__all__ = ["stage"]


@pytest.fixture(autouse=True)
def frozen(stage, time_machine):
    time_machine.move_to(START, tick=False)


@pytest.fixture
def owner(stage):
    return signed_in(stage.organization)


@pytest.fixture
def series(stage):
    return stage.active(stage.message("m1"), stage.delay("d1", days=2), stage.message("m2", stage.offer), name="Series")


def page(contact, name="change"):
    return f"{LIST}{contact.pk}/{name}/"


def offered(answer):
    return [str(sequence) for sequence in answer.context["form"].fields["sequence"].queryset]


def section(browser, contact):
    (found,) = (one for one in browser.get(page(contact)).context["history"] if one.title == "Sequences")
    return found


def as_text(row):
    return [text_of(cell) for cell in row]


def text_of(cell):
    class Answer:
        content = str(cell).encode()

    return text(Answer)


def test_a_contact_is_enrolled_by_hand(stage, owner, series):
    asha = stage.contact(name="Asha")
    assert "Enroll in a sequence …" in text(owner.get(page(asha)))
    assert offered(owner.get(page(asha, "enroll"))) == ["Series"]
    assert not Enrollment.objects.exists()

    answer = owner.post(page(asha, "enroll"), {"sequence": series.pk})
    assert answer.url == page(asha)
    assert said(answer) == ["Asha is enrolled in Series: the first step is on its way."]
    enrollment = Enrollment.objects.get()
    assert (enrollment.contact, enrollment.source) == (asha, Source.OPERATOR)


def test_only_active_sequences_of_the_organization_that_it_is_not_in_are_offered(stage, owner, series):
    asha = stage.contact(name="Asha")
    stage.draft(stage.message("x"), name="Draft")
    running.pause(stage.active(stage.message("x"), name="Paused"), now=stage.now)
    running.archive(stage.active(stage.message("x"), name="Archived"), now=stage.now)
    other = stage.active(stage.message("x"), name="Other")
    foreign = SequenceFactory(name="Foreign", status=Status.ACTIVE)
    stage.enroll(other, asha)

    assert offered(owner.get(page(asha, "enroll"))) == ["Series"]
    for no_choice in (other, foreign):
        answer = owner.post(page(asha, "enroll"), {"sequence": no_choice.pk})
        assert "Select a valid choice" in text(answer)
    assert Enrollment.objects.get().sequence == other


def test_where_nothing_can_be_chosen_it_says_why(stage, owner, series):
    out, gone = stage.contact(opted_in=False), stage.contact(deleted_at=START)
    inside = stage.contact(name="Asha")
    stage.enroll(series, inside)

    told = {contact: said(owner.get(page(contact, "enroll")))[-1] for contact in (out, gone, inside)}
    assert told == {
        out: enrolling.SENTENCES["not_opted_in"],
        gone: enrolling.SENTENCES["contact_deleted"],
        inside: "There is no active sequence that Asha hasn't been in already.",
    }
    assert "Enroll in a sequence …" not in text(owner.get(page(gone)))


def test_a_refusal_is_said_in_words_and_recorded(stage, owner):
    leave = stage.tag("leave")
    sequence = stage.active(stage.message("m1"), exit_tag=leave)
    asha = stage.contact(name="Asha")
    stage.put_on(leave, asha)

    answer = owner.post(page(asha, "enroll"), {"sequence": sequence.pk})
    assert said(answer) == ["The contact holds the sequence's exit tag: take it off first."]
    assert EnrollmentRefusal.objects.get().code == "exit_tag"
    assert not Enrollment.objects.exists()


@pytest.mark.parametrize("role", [Role.AGENT, Role.VIEWER])
def test_enrolling_takes_the_right_to_change_campaigns(stage, series, role):
    browser, asha = signed_in(stage.organization, role), stage.contact(name="Asha")
    selected = {"action": "enroll_selected", "_selected_action": [asha.pk], "apply": "1", "sequence": series.pk}

    assert "Enroll in a sequence" not in text(browser.get(page(asha)))
    assert "Enroll in a sequence" not in text(browser.get(LIST))
    assert browser.get(page(asha, "enroll")).status_code == 403
    assert browser.post(page(asha, "enroll"), {"sequence": series.pk}).status_code == 403
    browser.post(LIST, selected)
    assert not Enrollment.objects.exists()


def test_another_organizations_contact_is_nowhere(stage, owner, series):
    foreign = ContactFactory()

    assert owner.get(page(foreign, "enroll")).status_code == 404
    assert owner.post(page(foreign, "enroll"), {"sequence": series.pk}).status_code == 404
    assert not Enrollment.objects.exists()


def test_a_superuser_enrolls_into_sequences_of_the_contacts_organization_only(stage, series):
    ContactFactory()
    SequenceFactory(name="Foreign", status=Status.ACTIVE)

    assert offered(superuser().get(page(stage.contact(), "enroll"))) == ["Series"]


# --- the list ----------------------------------------------------------------------------------------------------


def test_the_selected_contacts_are_enrolled_and_counted_by_outcome(stage, owner, series):
    willing = [stage.contact() for _ in range(3)]
    twice, out = stage.contact(), [stage.contact(opted_in=False) for _ in range(2)]
    other, foreign = stage.contact(), ContactFactory()
    stage.enroll(series, twice)
    keys = [contact.pk for contact in (*willing, twice, *out, foreign)]
    selected = {"action": "enroll_selected", "_selected_action": keys}

    assert "7 contacts are selected." in text(owner.post(LIST, selected))
    assert Enrollment.objects.count() == 1

    answer = owner.post(LIST, {**selected, "apply": "1", "sequence": series.pk})
    assert said(answer) == ["3 enrolled in Series; not: 2 not opted in, 1 enrolled before."]
    assert set(Enrollment.objects.values_list("contact", flat=True)) == {twice.pk, *(one.pk for one in willing)}
    assert not Enrollment.objects.filter(contact__in=[other.pk, foreign.pk]).exists()
    assert EnrollmentRefusal.objects.count() == 3


def test_many_of_a_filtered_list_are_enrolled_in_the_background(stage, owner, series, monkeypatch):
    monkeypatch.setattr(bulk, "AT_ONCE", 2)
    people = [stage.contact(name="Asha") for _ in range(5)]
    out, other = stage.contact(name="Asha", opted_in=False), stage.contact(name="Bela")
    everybody = {"action": "enroll_selected", "_selected_action": [people[0].pk], "select_across": "1"}

    assert "6 contacts are selected." in text(owner.post(f"{LIST}?q=Asha", everybody))
    answer = owner.post(f"{LIST}?q=Asha", {**everybody, "apply": "1", "sequence": series.pk})
    assert said(answer) == [
        "6 contacts are being enrolled in Series: its page shows how far that is, and who can't be."
    ]
    assert not Enrollment.objects.exists()
    Contact.objects.filter(pk=other.pk).update(name="Asha")  # chosen is who was found then

    assert enrolling.take_in(now=stage.now, limit=4) == 4
    assert live_page.situation(series) == ["The contacts that were chosen are being enrolled: 4 so far."]
    stage.run()

    assert set(Enrollment.objects.values_list("contact", "source")) == {(one.pk, "operator") for one in people}
    assert EnrollmentRefusal.objects.values_list("contact", "code").get() == (out.pk, "not_opted_in")
    intake = series.intakes.get()
    assert (intake.enrolled, intake.refused, intake.finished_at) == (5, 1, stage.now)
    assert (IntakeContact.objects.count(), live_page.situation(series)) == (0, [])


def test_a_sequence_that_is_not_active_any_more_takes_nobody_of_many_in(stage, owner, series, monkeypatch):
    monkeypatch.setattr(bulk, "AT_ONCE", 0)
    keys, foreign = [stage.contact().pk], ContactFactory()
    selected = {"action": "enroll_selected", "_selected_action": [*keys, foreign.pk], "apply": "1"}
    require = enrolling._require_active

    def pause(sequence):
        running.pause(series, now=stage.now)
        require(sequence)

    with monkeypatch.context() as patched:
        patched.setattr(enrolling, "_require_active", pause)
        answer = owner.post(LIST, {**selected, "sequence": series.pk})
    assert said(answer) == [
        "Sequence 'Series' is paused: only an active one takes people in. Activate or resume it first."
    ]
    assert not IntakeContact.objects.exists()
    assert not series.intakes.exists()


@pytest.mark.parametrize("act", [running.archive, running.cancel_everybody])
def test_whoever_was_chosen_and_is_not_decided_stays_outside_when_everybody_leaves(stage, series, act):
    people = [stage.contact() for _ in range(3)]
    assert enrolling.ask_for(series, Contact.objects.filter(name=people[0].name), source="operator", now=stage.now) == 3
    enrolling.take_in(now=stage.now, limit=2)

    act(series, now=stage.now)
    stage.run()

    assert list(Enrollment.objects.values_list("contact", "status")) == [(one.pk, "exited") for one in people[:2]]
    assert (IntakeContact.objects.count(), series.intakes.get().finished_at) == (0, stage.now)


def test_another_organizations_sequence_takes_nobody_in(stage, owner, series):
    foreign = SequenceFactory(status=Status.ACTIVE)
    keys = [stage.contact().pk]
    selected = {"action": "enroll_selected", "_selected_action": keys, "apply": "1", "sequence": foreign.pk}

    assert "Select a valid choice" in text(owner.post(LIST, selected))
    assert not EnrollmentRefusal.objects.exists()


# --- the section -------------------------------------------------------------------------------------------------


def test_the_page_tells_what_was_sent_what_was_not_and_why_and_what_comes(stage, owner, series):
    asha = stage.contact(name="Asha")
    stage.enroll(series, asha)
    stage.settle(status="skipped")
    enrolling.enroll(series, [asha.pk], source=Source.API, now=stage.now)

    enrollment, refusal = section(owner, asha).rows
    assert as_text(enrollment) == [
        "Series 2 Mar 2026, 10:00 UTC",
        "Active",
        "Skipped welcome: Had a marketing message in the last 24 hours",
        "Wait 2 days, then: Send offer (en_US) 4 Mar 2026, 10:00 UTC",
    ]
    assert as_text(refusal) == ["Series 2 Mar 2026, 10:00 UTC", "Not enrolled", "Enrolled before", "–"]


def test_what_goes_on_stands_before_what_has_ended(stage, owner, series):
    asha = stage.contact(name="Asha")
    stage.enroll(series, asha)
    stage.wait(hours=1)
    later = stage.active(stage.message("x"), name="Later")
    stage.enroll(later, asha)
    running.archive(later, now=stage.now)

    rows = [as_text(row) for row in section(owner, asha).rows]
    assert [(row[0].split()[0], row[1]) for row in rows] == [
        ("Series", "Active"),
        ("Later", "Left: the sequence was archived"),
    ]
    assert rows[0][3] == "Send welcome (en_US) Its message is waiting to be sent, or for Meta's answer."
    assert rows[1][3] == "–"


def test_an_agent_sees_the_section_without_the_pages_of_campaigns(stage, series):
    asha = stage.contact(name="Asha")
    stage.enroll(series, asha)

    for role, linked in ((Role.OWNER, True), (Role.VIEWER, True), (Role.AGENT, False)):
        found = section(signed_in(stage.organization, role), asha)
        assert as_text(found.rows[0])[0] == "Series 2 Mar 2026, 10:00 UTC"
        assert (bool(found.link), "<a " in str(found.rows[0][0])) == (linked, linked)


def test_a_contact_in_no_sequence_says_so(stage, owner):
    assert "This contact has been in no sequence." in text(owner.get(page(stage.contact())))


def test_the_page_costs_the_same_however_many_sequences(stage, owner, django_assert_num_queries):
    asha = stage.contact(name="Asha")

    def fill(how_many):
        for _ in range(how_many):
            stage.enroll(stage.active(stage.message("m1"), stage.delay("d1", days=2), stage.message("m2")), asha)
            stage.settle()
            stage.enroll(stage.active(stage.message("m1")), asha)
            enrolling.enroll(Enrollment.objects.first().sequence, [asha.pk], source=Source.API, now=stage.now)

    fill(1)
    owner.get(page(asha))  # Django keeps the kinds of its log from here on
    # session, user, membership; the contact twice, its organization; tags (3);
    # enrollments, templates of their steps, until when they wait, steps that sent, their messages; refusals; planned
    # broadcasts, consent, and each of the timeline's eight kinds
    with django_assert_num_queries(26):
        owner.get(page(asha))
    fill(4)
    with django_assert_num_queries(26):
        owner.get(page(asha))
    with django_assert_num_queries(12):
        owner.get(page(asha, "timeline"))


def test_the_timeline_tells_everything_in_one_order(stage, owner, series, time_machine):
    asha = stage.contact(name="Asha")
    stage.enroll(series, asha)
    stage.settle()
    enrolling.enroll(series, [asha.pk], source=Source.API, now=stage.now)

    shown = text(owner.get(page(asha, "timeline")))

    assert "Began Series" in shown
    assert "Not enrolled in Series Enrolled before" in shown
    assert ", for a sequence" in shown
    assert "step 1 (message)" not in shown  # told by its message
    told = owner.get(page(asha)).context["timeline_lines"]
    assert "step 2 (delay): waiting" in " ".join(line.words for line in told)


def test_older_entries_follow_page_by_page_and_none_is_told_twice(stage, owner):
    asha = stage.contact(name="Asha")
    moments = [START - timedelta(days=day) for day in range(70)]
    ConsentChange.objects.bulk_create(
        ConsentChange(organization=asha.organization, contact=asha, opted_in=True, source="api", at=at, proof=f"p{n}")
        for n, at in enumerate(moments)
    )
    seen, cursor = [], None
    while True:
        answer = owner.get(page(asha, "timeline"), {"cursor": cursor} if cursor else {})
        seen += [line.why for line in answer.context["timeline_lines"] if line.why]
        cursor = answer.context["next_cursor"]
        if not cursor:
            break
        assert "Show older" in text(answer)

    assert seen == [f"p{n}" for n in range(70)]
    for odd in ("x", "", "9" * 3_000):
        assert "p0" in text(owner.get(page(asha, "timeline"), {"cursor": odd}))


def test_a_scheduled_broadcast_that_reaches_the_contact_is_planned(stage, owner):
    asha = stage.contact(name="Asha")
    vip, out = (TagFactory(organization=stage.organization) for _ in range(2))
    asha.tags.add(vip, through_defaults={"added_at": START})
    later = START + timedelta(days=1)
    reaching, excluding, draft = (
        BroadcastFactory(
            organization=stage.organization, name=name, status=status, scheduled_at=later, template=stage.offer
        )
        for name, status in (("Sale", "scheduled"), ("Not for her", "scheduled"), ("A draft", "draft"))
    )
    for broadcast in (reaching, excluding, draft):
        broadcast.tags.set([vip])
    excluding.excluded_tags.set([out, vip])

    def planned():
        found = [one for one in owner.get(page(asha)).context["history"] if one.title == "Planned broadcasts"]
        return [row[1] for one in found for row in one.rows]

    assert planned() == ["Sale"]
    Contact.objects.filter(pk=asha.pk).update(opted_in=False)
    assert planned() == []
