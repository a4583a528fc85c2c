"""Sequences by hand: set up, activated, watched, paused, resumed, moved, canceled, archived."""

import re
from datetime import timedelta
from functools import partial

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext

from kaanha.messaging import holding
from kaanha.messaging.models import Message
from kaanha.organizations.models import Role
from sequences import exiting, live_page, moving, publishing, running, seeing
from sequences.models import EnrollmentStatus, Intake, Sequence, Source, Status, Trigger
from tests.factories import PhoneNumberFactory, TagFactory
from tests.people import said, signed_in, text

pytestmark = pytest.mark.django_db
LIST = "/admin/sequences/sequence/"
ACTS = ("pause", "resume", "archive", "cancel-all", "move", "try-again", "activate", "publish")


def page(sequence, name="change"):
    return f"{LIST}{sequence.pk}/{name}/"


def settings_of(stage, **fields):
    return {
        "name": "Cart",
        "trigger": "manual",
        "trigger_tag": "",
        "phone_number": stage.number.pk,
        "exit_tag": "",
        "late_limit_0": "",
        "late_limit_1": "days",
        "when_late": "send",
        "spread_per_minute": "600",
        **fields,
    }


def publish(browser, sequence, name="publish", **fields):
    """Open the page and say yes to what it shows."""
    form = browser.get(page(sequence, name)).context["form"]
    return browser.post(page(sequence, name), {"seen": form["seen"].value(), **fields})


def edited(sequence, *steps):
    sequence.draft = list(steps)
    sequence.save()
    return sequence


@pytest.fixture
def owner(stage):
    return signed_in(stage.organization)


# --- settings ----------------------------------------------------------------------------------------------------


def test_a_new_sequence_leads_to_its_steps(owner, stage):
    tag = stage.tag("cart")
    assert owner.get(f"{LIST}add/").context["adminform"].form.initial["phone_number"] == stage.number.pk

    fields = {"trigger": "tag_added", "trigger_tag": tag.pk, "exit_on_reply": "on", "late_limit_0": "2"}
    saved = owner.post(f"{LIST}add/", settings_of(stage, **fields))

    sequence = Sequence.objects.get()
    assert saved.url == page(sequence)
    assert (sequence.organization, sequence.name, sequence.status) == (stage.organization, "Cart", Status.DRAFT)
    assert (sequence.trigger, sequence.trigger_tag, sequence.exit_on_reply) == (Trigger.TAG_ADDED, tag, True)
    assert (sequence.late_limit, sequence.draft) == (timedelta(days=2), [])
    assert sequence.created_by is not None


def test_what_starts_it_must_be_whole(owner, stage):
    tag = stage.tag("cart")
    none = owner.post(f"{LIST}add/", settings_of(stage, trigger="tag_added"))
    same = owner.post(f"{LIST}add/", settings_of(stage, trigger="tag_added", trigger_tag=tag.pk, exit_tag=tag.pk))
    long = owner.post(f"{LIST}add/", settings_of(stage, late_limit_0="366"))

    assert "Choose the tag that starts it." in text(none)
    assert "The tag that starts it can't also end it" in text(same)
    assert "Give a time from 1 minute to 365 days, or none." in text(long)
    assert not Sequence.objects.exists()


def test_another_trigger_drops_the_tag(owner, stage):
    tag = stage.tag("cart")
    sequence = stage.draft(trigger=Trigger.TAG_ADDED, trigger_tag=tag)

    saved = owner.post(page(sequence, "settings"), settings_of(stage, trigger="manual", trigger_tag=tag.pk))

    sequence.refresh_from_db()
    assert saved.url == page(sequence)
    assert (sequence.trigger, sequence.trigger_tag) == (Trigger.MANUAL, None)


def test_the_settings_leave_the_steps_alone(owner, stage):
    sequence = stage.draft(stage.message())
    shown = owner.get(page(sequence, "settings"))
    assert shown.status_code == 200
    edited(sequence, stage.message("other"))

    owner.post(page(sequence, "settings"), settings_of(stage, name="Renamed"))

    sequence.refresh_from_db()
    assert (sequence.name, sequence.draft) == ("Renamed", [stage.message("other")])


def test_a_disconnected_number_does_not_keep_the_settings_from_being_saved(owner, stage):
    sequence = stage.draft(stage.message())
    stage.number.disconnected_at = stage.now
    stage.number.save()

    owner.post(page(sequence, "settings"), settings_of(stage, name="Renamed"))

    assert Sequence.objects.get().name == "Renamed"


def test_nothing_of_another_organization_can_be_chosen(owner, stage):
    tag, number = TagFactory(), PhoneNumberFactory()

    refused = owner.post(f"{LIST}add/", settings_of(stage, exit_tag=tag.pk, phone_number=number.pk))

    assert set(refused.context["adminform"].form.errors) == {"exit_tag", "phone_number"}
    assert not Sequence.objects.exists()


def test_the_settings_of_an_archived_sequence_stay(owner, stage):
    sequence = stage.draft(stage.message(), name="Old")
    running.archive(sequence, now=stage.now)

    assert owner.get(page(sequence, "settings")).status_code == 200
    assert owner.post(page(sequence, "settings"), settings_of(stage)).status_code == 403
    assert Sequence.objects.get().name == "Old"


# --- publishing --------------------------------------------------------------------------------------------------


def test_a_draft_with_problems_shows_them_all_and_has_no_button(owner, stage):
    sequence = stage.draft({"id": "x", "type": "message", "template": "nowhere"}, stage.delay("d", days=400))

    shown = owner.get(page(sequence, "activate"))
    assert "2 things to settle first" in text(shown)
    assert f'href="{page(sequence, "step")}?step=d"' in shown.content.decode()
    assert "Activate it" not in text(shown)

    refused = publish(owner, sequence, "activate")
    assert (refused.url, Sequence.objects.get().status) == (page(sequence, "activate"), Status.DRAFT)
    assert "Step 2: The wait of 400 days is too long" in said(refused)[0]


def test_a_draft_is_activated(owner, stage):
    sequence = stage.draft(stage.message(), stage.delay(days=2), name="Cart")
    shown = text(owner.get(page(sequence, "activate")))
    assert "Step 1 · message · skipped at the frequency cap Send welcome (en_US)" in shown
    assert "Step 2 · delay Wait 2 days" in shown
    assert "Add a step" not in shown

    done = publish(owner, sequence, "activate")

    sequence.refresh_from_db()
    assert (done.url, said(done)) == (page(sequence), ["Cart is active."])
    assert sequence.status == Status.ACTIVE
    assert sequence.revision.published_by is not None
    assert LogEntry.objects.get().get_change_message() == "Cart is active."


@pytest.mark.parametrize("ticked", [True, False])
def test_holders_of_the_tag_are_enrolled_on_request_only(owner, stage, ticked):
    tag, left = stage.tag("cart"), stage.tag("left")
    stage.put_on(tag, stage.contact(), stage.contact(), stage.contact(opted_in=False), leaver := stage.contact())
    stage.put_on(left, leaver)
    sequence = stage.draft(stage.message(), trigger=Trigger.TAG_ADDED, trigger_tag=tag, exit_tag=left)
    assert "Also enroll the 2 contacts who hold the tag cart now" in text(owner.get(page(sequence, "activate")))

    publish(owner, sequence, "activate", **({"enroll_existing": "on"} if ticked else {}))

    assert list(Intake.objects.values_list("tag__name", "source")) == ([("cart", Source.EXISTING)] if ticked else [])


def test_nobody_is_offered_where_no_tag_starts_it(owner, stage):
    sequence = stage.draft(stage.message())

    assert list(owner.get(page(sequence, "activate")).context["form"].fields) == ["seen"]


def test_publishing_shows_what_it_changes(owner, stage):
    sequence = stage.active(stage.message("m"), stage.delay("d", days=1), stage.message("gone", stage.offer))
    stage.enroll(sequence, stage.contact())
    sequence.trigger, sequence.trigger_tag = Trigger.TAG_ADDED, stage.tag("vip")
    edited(sequence, stage.message("m"), stage.delay("d", days=2), stage.message("new", stage.offer))

    shown = owner.get(page(sequence, "publish"))
    assert [change[1:] for change in shown.context["changes"]] == [
        ("changed", "What starts it", "“By hand, by command or by the API” becomes “The tag vip is put on a contact”."),
        ("changed", "Step 2", "“Wait 1 day” becomes “Wait 2 days”."),
        ("added", "Step 3", "“Send offer (en_US)” is added."),
        ("removed", "Step 3", "“Send offer (en_US)” is removed."),
    ]
    assert "1 person inside finishes on the revision that this person began with." in text(shown)

    assert said(publish(owner, sequence)) == [f"Revision 2 of {sequence} is published: new people take it."]
    assert sequence.revision.number == 2
    assert "Nothing has changed since revision 2" in text(owner.get(page(sequence, "publish")))


def test_what_changed_since_it_was_looked_at_is_not_published(owner, stage):
    sequence = edited(stage.active(stage.message("m")), stage.message("m", stage.offer))
    form = owner.get(page(sequence, "publish")).context["form"]
    edited(sequence, stage.message("m"), stage.message("n"))

    refused = owner.post(page(sequence, "publish"), {"seen": form["seen"].value()})

    assert said(refused) == ["Somebody else has changed this sequence. Read it again, then decide."]
    assert refused.url == page(sequence, "publish")
    assert sequence.revision.number == 1


def test_what_is_no_draft_can_not_be_activated_and_a_draft_not_published(owner, stage):
    draft, active = stage.draft(stage.message()), stage.active(stage.message())

    answers = [owner.post(page(*one), {"seen": "x"}) for one in ((active, "activate"), (draft, "publish"))]
    assert [answer.url for answer in answers] == [page(active), page(draft)]
    assert said(answers[1]) == [f"{active} is active.", f"{draft} is a draft."]
    assert draft.revision is None


# --- watching ----------------------------------------------------------------------------------------------------


def branching(stage, tag):
    return [
        stage.message("m"),
        stage.delay("d", days=1),
        stage.if_tag("c", tag, yes=[stage.message("y", stage.offer)]),
        stage.delay("e", days=1),
    ]


def numbers(step):
    return [(number.count, number.words) for number in step.counts.numbers]


def test_its_page_says_where_everybody_is(owner, stage):
    tag = stage.tag("bought")
    sequence = stage.active(*branching(stage, tag))
    first, second, third = stage.contact(), stage.contact(), stage.contact()
    stage.put_on(tag, first)
    stage.enroll(sequence, first, second)
    stage.settle(status="read")
    stage.wait(days=1)
    stage.enroll(sequence, third)

    context = owner.get(page(sequence)).context
    assert [(label, count) for label, count, _ in context["tiles"]] == [
        ("Enrolled", 3),
        ("Inside", 3),
        ("Completed", 0),
        ("Left early", 0),
    ]
    message, delay, condition, last = context["path"].lines
    assert numbers(message) == [(1, "waiting"), (2, "passed"), (0, "skipped"), (0, "failed")]
    assert [number.count for number in message.counts.funnel] == [2, 2, 2, 0]
    assert numbers(delay) == [(0, "waiting"), (2, "passed")]
    assert numbers(condition) == [(0, "waiting"), (1, "took Yes"), (1, "took No")]
    assert numbers(last) == [(1, "waiting"), (0, "passed")]
    yes, no = condition.branches
    assert [(line.flat.place, line.words) for line in yes.path.lines] == [("3 yes 1", "Send offer (en_US)")]
    assert (no.path.lines, no.then) == ([], "On to step 4")


def test_its_numbers_lead_to_the_people_behind_them(owner, stage):
    sequence = stage.active(stage.message("m"), name="Cart")
    contact = stage.contact(name="Asha Rao")
    stage.enroll(sequence, contact)
    context = owner.get(page(sequence)).context

    step, links = context["path"].lines[0], [link for _, _, link in context["tiles"]]
    for link in [*links[:2], step.counts.numbers[0].link, step.counts.funnel[0].link]:
        assert "Asha Rao" in text(owner.get(link)), link
    for link in [*links[2:], context["refusals_url"]]:
        shown = owner.get(link)
        assert shown.status_code == 200
        assert "Asha Rao" not in text(shown), link


def test_reasons_are_counted(owner, stage):
    tag = stage.tag("stop")
    sequence = stage.active(stage.message("m"), exit_tag=tag)
    leaver = stage.contact()
    stage.enroll(sequence, leaver)
    stage.put_on(tag, leaver)
    stage.run()
    publishing.enrolling.enroll(sequence, [stage.contact(opted_in=False).pk], source=Source.API, now=stage.now)

    shown = owner.get(page(sequence, "reasons"))
    assert [line[:2] for line in shown.context["exits"]] == [("Got the exit tag", 1)]
    assert shown.context["refusals"] == [("Not opted in", 1)]


def test_a_held_step_says_why_and_can_try_again(owner, stage):
    sequence = stage.active(stage.message("m"), name="Cart")
    stage.enroll(sequence, stage.contact())
    dispatch = sequence.revision.steps.get().dispatch
    holding.hold(dispatch.pk, reason="template", detail="The template is paused at Meta.", now=stage.now)

    shown = text(owner.get(page(sequence)))
    assert "is held since 2 Mar 2026, 10:00 UTC: The template is paused at Meta. It goes on by itself once" in shown
    assert "step held" in text(owner.get(LIST))
    assert [need.link for need in owner.get("/admin/").context["needs"] if need.title == "Cart"] == [page(sequence)]

    viewer, leads = signed_in(stage.organization, Role.VIEWER), f'href="{page(sequence, "try-again")}"'
    for name in ("change", "step-numbers"):
        told = owner.get(page(sequence, name))
        assert "Held: The template is paused at Meta." in text(told), name
        assert leads in told.content.decode(), name
        assert leads not in viewer.get(page(sequence, name)).content.decode(), name

    assert "Step 1, welcome (en_US), is held" in text(owner.get(page(sequence, "try-again")))
    assert said(owner.post(page(sequence, "try-again"))) == ["1 step tries again."]
    dispatch.refresh_from_db()
    assert dispatch.held_at is None
    assert "Cart" not in [need.title for need in owner.get("/admin/").context["needs"]]


def test_trouble_that_no_template_makes_waits_for_a_person(stage):
    sequence = stage.active(stage.message("m"))
    holding.hold(sequence.revision.steps.get().dispatch_id, reason="account", detail="Blocked.", now=stage.now)

    [step] = seeing.held_steps([sequence.pk])
    assert live_page.held_words(step).endswith("Blocked. When the trouble is over, let it try again.")


def test_a_paused_sequence_is_no_trouble(owner, stage):
    sequence = stage.active(stage.message("m"))
    running.pause(sequence, now=stage.now)

    context = owner.get(page(sequence)).context
    assert context["held_steps"] == []
    assert context["sentences"] == [
        "Nobody has moved since 2 Mar 2026, 10:00 UTC. Nobody can be enrolled until you resume it."
    ]


def test_a_revision_shows_what_it_changed(owner, stage):
    sequence = stage.active(stage.message("m"))
    stage.enroll(sequence, stage.contact())
    publishing.publish(edited(sequence, stage.message("m"), stage.delay("d", days=1)), now=stage.now)

    newest = owner.get(page(sequence)).context
    assert [(one.number, one.inside, one.newest) for one in newest["revisions"]] == [(2, 0, True), (1, 1, False)]
    assert "changes" not in newest
    assert text(owner.get(page(sequence))).count("Edit") == 2

    second, first = (owner.get(page(sequence) + f"?revision={number}") for number in (2, 1))
    assert [change[1:] for change in second.context["changes"]] == [("added", "Step 2", "“Wait 1 day” is added.")]
    [step] = first.context["path"].lines
    assert [number.count for number in step.counts.numbers] == [1, 0, 0, 0]
    assert "changes" not in first.context
    for shown in (first, second):
        assert "Back to the steps to edit" in text(shown)
        assert not re.search(r'data-opens|name="act"|hx-post', shown.content.decode())
    asked = f"{page(sequence, 'step-numbers')}?revision=2&amp;status=active&amp;of=1"
    assert asked in first.content.decode()
    numbers = owner.get(asked.replace("&amp;", "&")).content.decode()
    assert re.findall(r'id="(counts-[^"]+|acts-now|republished)"', numbers) == ["counts-m"]
    for nonsense in ("3", "0", "-1", "x", "9" * 30):
        assert owner.get(page(sequence) + f"?revision={nonsense}").status_code == 404
        assert owner.get(page(sequence, "step-numbers") + f"?of={nonsense}").status_code == 404


def test_an_intake_in_progress_is_told(owner, stage):
    tag = stage.tag("vip")
    sequence = stage.active(stage.message("m"), trigger=Trigger.TAG_ADDED, trigger_tag=tag)
    fields = {"organization": stage.organization, "source": Source.EXISTING, "asked_at": stage.now}
    Intake.objects.create(sequence=sequence, tag=tag, enrolled=40_000, refused=3, **fields)

    assert owner.get(page(sequence, "step-numbers")).context["sentences"] == [
        "The holders of the tag vip are being enrolled: 40,000 so far, and 3 who can't be."
    ]


def test_the_list_tells_each_sequences_state(owner, stage):
    stage.draft(name="Draft")
    sequence = stage.active(stage.message("m"), name="Running")
    stage.enroll(sequence, stage.contact())
    stage.settle(status="delivered")
    sequence.trigger, sequence.trigger_tag = Trigger.TAG_ADDED, stage.tag("vip")
    sequence.save()

    shown = text(owner.get(LIST))
    # what starts it is what is in force, not what is planned
    assert "Running By hand, by command or by the API Active unpublished changes 0 1 1 · 1 · 0 · 0" in shown
    assert "Draft By hand, by command or by the API Draft – – –" in shown
    lines = owner.get("/admin/").context["open_sequences"]
    assert [(line["sequence"], line["people"].completed) for line in lines] == [(sequence, 1)]


def cost(browser, address):
    """How many queries a page takes."""
    with CaptureQueriesContext(connection) as queries:
        assert browser.get(address).status_code == 200
    return len(queries)


def test_pages_cost_the_same_whatever_there_is(owner, stage):
    small = stage.active(stage.message("m"), stage.if_tag("c", tag := stage.tag("bought"), yes=[stage.message("y")]))
    stage.enroll(small, stage.contact())
    costs = [cost(owner, address) for address in (LIST, page(small), page(small, "step-numbers"), "/admin/")]

    messages = [stage.message(f"m{n}") for n in range(10)]
    big = stage.active(*messages, *[stage.if_tag(f"c{n}", tag, yes=[stage.message(f"y{n}")]) for n in range(10)])
    stage.enroll(big, *[stage.contact() for _ in range(5)])
    for _ in range(3):
        stage.settle(status="delivered")
    stage.active(stage.message("m"))

    assert [cost(owner, address) for address in (LIST, page(big), page(big, "step-numbers"), "/admin/")] == costs


def test_what_can_be_done_follows_a_status_that_changed_elsewhere(owner, stage):
    sequence = stage.active(stage.message("m"))
    shown = owner.get(page(sequence)).content.decode()
    for act in ("pause", "cancel-all", "archive", "settings"):
        assert f'href="{page(sequence, act)}"' in shown, act
    assert page(sequence, "resume") not in shown
    asked = page(sequence, "step-numbers") + "?revision=1&status="
    assert asked.replace("&", "&amp;") + "active" in shown
    assert 'id="acts-now"' not in owner.get(asked + "active").content.decode()

    running.pause(sequence, now=stage.now)

    swapped = owner.get(asked + "active").content.decode()
    assert 'id="acts-now" hx-swap-oob="true"' in swapped
    assert f'href="{page(sequence, "resume")}"' in swapped
    assert asked.replace("&", "&amp;") + "paused" in swapped
    assert 'id="acts-now"' not in owner.get(asked + "paused").content.decode()


def test_what_was_skipped_leads_to_the_messages_that_say_why(owner, stage):
    sequence = stage.active(stage.message("m"))
    stage.enroll(sequence, stage.contact(name="Asha Rao"))
    stage.settle(status="skipped")

    [step] = owner.get(page(sequence)).context["path"].lines
    [skipped] = [number for number in step.counts.numbers if number.words == "skipped"]
    shown = text(owner.get(skipped.link))
    assert skipped.count == 1
    assert "Asha Rao" in shown
    assert Message.objects.get().get_skip_reason_display() in shown


# --- acts --------------------------------------------------------------------------------------------------------


def test_pause_and_resume_tell_how_many(owner, stage):
    sequence = stage.active(stage.message("m"), stage.delay("d", hours=1), name="Cart", spread_per_minute=1)
    stage.enroll(sequence, *[stage.contact() for _ in range(3)])
    stage.settle()
    assert "3 people inside: nobody moves" in text(owner.get(page(sequence, "pause")))

    assert said(owner.post(page(sequence, "pause"))) == ["Cart is paused."]
    assert Sequence.objects.get().status == Status.PAUSED
    # long past on the clock of the page
    shown = text(owner.get(page(sequence, "resume")))
    assert (
        "3 people fell due meanwhile. They go on one after the other, 1 a minute: that takes about 3 minutes." in shown
    )

    resumed = owner.post(page(sequence, "resume"))
    assert (resumed.url, said(resumed)) == (page(sequence), ["Cart goes on."])
    assert Sequence.objects.get().status == Status.ACTIVE
    assert "being lined up" in text(owner.get(page(sequence)))


def test_resume_tells_who_is_too_late(owner, stage):
    limit = {"late_limit": timedelta(days=1), "when_late": "skip"}
    sequence = stage.active(stage.delay("d", hours=1), stage.message("m"), **limit)
    stage.enroll(sequence, stage.contact())
    running.pause(sequence, now=stage.now)

    sentences = live_page.overdue(sequence, now=stage.now + timedelta(days=3))
    assert sentences[1:] == ["Late by more than 1 day: 1 of them, and their late messages are skipped."]
    assert live_page.overdue(sequence, now=stage.now) == [
        "Nobody fell due meanwhile: everybody goes on at the planned time."
    ]


def test_an_act_at_the_wrong_time_is_refused_in_words(owner, stage):
    sequence = stage.active(stage.message("m"), name="Cart")

    assert said(owner.post(page(sequence, "resume"))) == [
        "Sequence 'Cart' is active: only a paused one can be resumed."
    ]
    assert Sequence.objects.get().status == Status.ACTIVE


def test_asking_changes_nothing(owner, stage):
    sequence = stage.active(stage.message("m"))
    stage.enroll(sequence, stage.contact())

    for name in ("pause", "archive", "cancel-all", "move", "try-again"):
        assert owner.get(page(sequence, name)).status_code == 200
    sequence.refresh_from_db()
    assert (sequence.status, sequence.enrollments.inside().count()) == (Status.ACTIVE, 1)


def test_archive_ends_it_for_everybody(owner, stage):
    sequence = stage.active(stage.message("m"), name="Cart")
    stage.enroll(sequence, stage.contact(), stage.contact())
    assert "2 people inside leave it now." in text(owner.get(page(sequence, "archive")))

    assert said(owner.post(page(sequence, "archive"))) == ["Cart is archived. 2 people left it."]

    assert set(sequence.enrollments.values_list("status", "exit_reason")) == {(EnrollmentStatus.EXITED, "archived")}
    shown = owner.get(page(sequence))
    assert not re.search(rf'href="[^"]*/({"|".join(ACTS)})/"', shown.content.decode())
    assert "Add a step" not in text(shown)


def test_everybody_can_be_canceled_and_the_sequence_stays(owner, stage):
    sequence = stage.active(stage.message("m"), name="Cart")
    stage.enroll(sequence, stage.contact())

    assert "Cancel 1 person" in text(owner.get(page(sequence, "cancel-all")))
    assert said(owner.post(page(sequence, "cancel-all"))) == ["1 person left Cart."]

    assert list(sequence.enrollments.values_list("exit_reason", flat=True)) == ["canceled"]
    assert Message.objects.get().status == "skipped"
    assert Sequence.objects.get().status == Status.ACTIVE


def test_people_are_moved_and_told_who_stays(owner, stage):
    sequence = stage.active(
        stage.delay("same", days=9), stage.delay("gone", days=9), stage.delay("left", days=1), stage.message("last")
    )
    at_same, at_gone, at_last = (stage.contact() for _ in range(3))
    stage.enroll(sequence, at_last)
    stage.wait(days=9)
    stage.wait(days=9)
    stage.wait(days=1)
    stage.enroll(sequence, at_gone)
    stage.wait(days=9)
    stage.enroll(sequence, at_same)
    publishing.publish(
        edited(sequence, stage.delay("same", days=9), stage.delay("left", days=1), stage.message("new")), now=stage.now
    )

    shown = text(owner.get(page(sequence, "move")))
    assert "1 person at a step that the newest revision has: moved" in shown
    assert "1 person at a step that is gone: moved" in shown
    assert "1 person at a step that is gone, with nothing left after it: not moved" in shown

    assert said(owner.post(page(sequence, "move"))) == ["2 people moved to revision 2. Not moved: 1."]
    assert [(one.number, one.inside) for one in live_page.revisions(sequence, None)] == [(2, 2), (1, 1)]


@pytest.mark.parametrize(
    ("act", "done"),
    [
        ("move", "1 person moved to revision 2."),
        ("cancel-all", "1 person left Welcome."),
        ("archive", "Welcome is archived. 1 person left it."),
    ],
)
def test_of_many_people_the_others_follow_in_the_background(owner, stage, monkeypatch, act, done):
    monkeypatch.setattr(running, "AT_ONCE", 1)
    monkeypatch.setattr(moving, "BATCH", 1)
    monkeypatch.setattr(exiting, "everybody", partial(exiting.everybody, limit=1))
    sequence = stage.active(stage.delay("d", days=9), stage.message("a"), name="Welcome")
    stage.enroll(sequence, *[stage.contact() for _ in range(3)])
    publishing.publish(edited(sequence, stage.delay("d", days=8), stage.message("a")), now=stage.now)

    answer = owner.post(page(sequence, act))

    assert said(answer) == [f"{done} The other 2 follow in the background: the sequence's page shows how far that is."]


# --- roles -------------------------------------------------------------------------------------------------------


def test_viewers_see_every_page_without_buttons(stage):
    sequence = stage.active(stage.message("m"))
    draft = stage.draft(stage.message("m"))
    viewer = signed_in(stage.organization, Role.VIEWER)

    for address in (
        LIST,
        page(sequence),
        page(sequence, "settings"),
        page(sequence) + "?revision=1",
        page(sequence, "step-numbers"),
        page(sequence, "reasons"),
    ):
        shown = viewer.get(address)
        assert shown.status_code == 200
        assert not re.search(rf'href="[^"]*/({"|".join(ACTS)})/"', shown.content.decode()), address
        assert 'name="_save"' not in shown.content.decode()
    assert viewer.get(page(draft), follow=True).status_code == 200
    for name in (*ACTS, "settings"):
        assert viewer.post(page(sequence, name)).status_code == 403
    for name in ACTS:
        assert viewer.get(page(sequence, name)).status_code == 403
    assert viewer.get(f"{LIST}add/").status_code == 403


def test_agents_see_nothing_of_sequences(stage):
    sequence = stage.active(stage.message("m"))
    agent = signed_in(stage.organization, Role.AGENT)

    for address in (LIST, page(sequence), page(sequence, "step-numbers")):
        assert agent.get(address).status_code == 403
    assert LIST not in agent.get("/admin/").content.decode()
