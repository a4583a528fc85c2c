"""A broadcast by hand: written, previewed, confirmed, sent, watched, paused, resumed, canceled."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from broadcasts import audience, launch
from broadcasts.models import Broadcast, Status
from contacts import tagging
from kaanha.messaging import counting
from kaanha.messaging.models import Dispatch, MarketingCap, Message
from kaanha.messaging.models import Status as MessageStatus
from kaanha.organizations.models import AuditEntry, Role
from tests.factories import (
    BroadcastFactory,
    ContactFactory,
    DispatchFactory,
    MessageFactory,
    OrganizationFactory,
    PhoneNumberFactory,
    TagFactory,
    TemplateFactory,
)
from tests.people import said, signed_in, text

pytestmark = pytest.mark.django_db
LIST = "/admin/broadcasts/broadcast/"
GREETING = [{"type": "BODY", "text": "Hi {{1}}, our sale ends on {{2}}."}]


@pytest.fixture
def shop():
    return OrganizationFactory(name="Shop", timezone="Europe/Madrid")


@pytest.fixture
def number(shop):
    return PhoneNumberFactory(organization=shop)


@pytest.fixture
def template(shop, number):
    return TemplateFactory(organization=shop, account=number.account, name="sale", components=GREETING)


@pytest.fixture
def tag(shop):
    return TagFactory(organization=shop, name="vip")


@pytest.fixture
def owner(shop):
    return signed_in(shop)


def holder(tag, **fields):
    contact = ContactFactory(organization=tag.organization, **fields)
    tagging.add(tag.organization, [contact.pk], [tag.pk], source="operator", at=timezone.now())
    return contact


def form(template, number, tag, /, **fields):
    return {
        "name": "Sale",
        "template": template.pk,
        "phone_number": number.pk,
        "tags": [tag.pk],
        "scheduled_at_0": "",
        "scheduled_at_1": "",
        "body.1:source": "first_name",
        "body.1:fallback": "there",
        "body.2:source": "=",
        "body.2:value": "30 November",
        **fields,
    }


def draft_of(tag, template, number, **fields):
    variables = {"body.1": {"field": "first_name", "fallback": "there"}, "body.2": {"text": "30 November"}}
    fields = {"variables": variables, "tags": [tag], **fields}
    return BroadcastFactory(organization=tag.organization, template=template, phone_number=number, **fields)


def page(broadcast, name="change"):
    return f"{LIST}{broadcast.pk}/{name}/"


def sending(broadcast, waiting=0, **fields):
    dispatch = DispatchFactory(organization=broadcast.organization, phone_number=broadcast.phone_number)
    MessageFactory.create_batch(waiting, organization=broadcast.organization, dispatch=dispatch)
    counting.recount(dispatch.pk)
    Broadcast.objects.filter(pk=broadcast.pk).update(status=Status.SENDING, dispatch=dispatch, **fields)
    broadcast.refresh_from_db()
    return broadcast


def test_a_draft_becomes_a_queued_broadcast_in_three_steps(owner, shop, template, number, tag):
    holder(tag, name="Asha Rao", phone="+919800000101")

    saved = owner.post(f"{LIST}add/", form(template, number, tag, _review="1"))
    broadcast = Broadcast.objects.get()
    assert saved.url == page(broadcast, "review")
    assert (broadcast.organization, broadcast.status, broadcast.name) == (shop, Status.DRAFT, "Sale")
    assert broadcast.variables == {
        "body.1": {"field": "first_name", "fallback": "there"},
        "body.2": {"text": "30 November"},
    }
    assert list(broadcast.tags.all()) == [tag]

    preview = text(owner.get(saved.url))
    assert "1 person receives it" in preview
    assert "Asha Rao +919800000101" in preview
    assert "Hi Asha, our sale ends on 30 November." in preview

    confirmation = text(owner.get(page(broadcast, "confirm")))
    assert "Send now to 1 person" in confirmation
    assert "sale (en_US), marketing" in confirmation
    assert Broadcast.objects.get().status == Status.DRAFT

    sent = owner.post(page(broadcast, "confirm"), {"_send": "1"})
    broadcast.refresh_from_db()
    assert (sent.url, broadcast.status) == (page(broadcast), Status.QUEUED)
    assert said(sent) == ["Sale is on its way."]
    assert broadcast.created_by.email == LogEntry.objects.latest("pk").user.email


def test_the_form_shows_the_rows_of_the_chosen_template_and_nothing_is_saved(owner, template, number, tag):
    answer = owner.post(f"{LIST}message/", form(template, number, tag, name=""))

    assert 'name="body.1:source"' in answer.content.decode()
    assert "Hi there, our sale ends on 30 November." in text(answer)
    assert not Broadcast.objects.exists()


def test_a_variable_that_is_named_like_a_field_is_filled_with_it_unless_told_otherwise(owner, number, tag):
    body = [{"type": "BODY", "text": "Hi {{first_name}}, see {{place}}."}]
    template = TemplateFactory(
        organization=tag.organization, account=number.account, components=body, parameter_format="NAMED"
    )
    broadcast = draft_of(tag, template, number, variables={})

    form = owner.get(page(broadcast)).context["adminform"].form
    assert [row.source.value() for row in form.rows()] == ["first_name", "="]


def test_only_sendable_templates_of_the_organization_can_be_chosen(owner, template, number, tag):
    pending = TemplateFactory(organization=tag.organization, account=number.account, status="PENDING")
    foreign = TemplateFactory()

    shown = owner.get(f"{LIST}add/").context["adminform"].form.fields["template"].queryset
    assert list(shown) == [template]
    for other in (pending, foreign):
        answer = owner.post(f"{LIST}add/", form(template, number, tag, template=other.pk))
        assert "Select a valid choice" in text(answer)
    assert not Broadcast.objects.exists()


def test_tags_and_numbers_of_another_organization_are_refused(owner, template, number, tag):
    for fields in ({"tags": [TagFactory().pk]}, {"phone_number": PhoneNumberFactory().pk}):
        assert "Select a valid choice" in text(owner.post(f"{LIST}add/", form(template, number, tag, **fields)))
    assert not Broadcast.objects.exists()


def test_the_only_number_is_chosen_already(owner, number):
    assert owner.get(f"{LIST}add/").context["adminform"].form.initial["phone_number"] == number.pk


def test_a_draft_may_be_incomplete_and_says_what_keeps_it_from_being_sent(owner, template, number, tag):
    owner.post(f"{LIST}add/", form(template, number, tag, **{"tags": [], "body.2:value": ""}))
    broadcast = Broadcast.objects.get()

    shown = text(owner.get(page(broadcast, "review")))
    assert "It can't be sent yet:" in shown
    assert "It has no tags" in shown
    assert "{{2}} in the body (body.2) has no value" in shown

    refused = owner.post(page(broadcast, "confirm"), {"_send": "1"})
    assert said(refused)[0].startswith("{{2}} in the body (body.2) has no value")
    assert Broadcast.objects.get().status == Status.DRAFT


def test_who_holds_the_tag_and_stays_out_is_counted_by_reason(owner, template, number, tag):
    holder(tag, opted_in=False)
    holder(tag, phone=None, user_id="IN.1")
    broadcast = draft_of(tag, template, number)

    shown = text(owner.get(page(broadcast, "review")))
    assert "1 not opted in, or opted out" in shown
    assert "1 without a phone number" in shown


@time_machine.travel("2026-11-23T12:00:00Z", tick=False)
def test_the_confirmation_states_how_many_really_get_it(owner, template, number, tag):
    for contact in (holder(tag), holder(tag)):
        MarketingCap.objects.create(contact=contact, message=1, until=timezone.now() + timedelta(hours=1))
    broadcast = draft_of(tag, template, number)

    shown = text(owner.get(page(broadcast, "confirm")))
    assert "0 people get it, if it went out now" in shown
    assert "2 had a marketing message in the 24 hours before" in shown
    assert "Nobody would get it." in shown
    assert "Send now" not in shown

    holder(tag)
    assert "Send now to 1 person" in text(owner.get(page(broadcast, "confirm")))
    later = timezone.now() + timedelta(hours=2)
    Broadcast.objects.update(scheduled_at=later)
    assert "3 people get it, if it goes out on 23 Nov 2026, 15:00 CET" in text(owner.get(page(broadcast, "confirm")))


def test_a_time_is_typed_and_shown_in_the_organizations_timezone(owner, template, number, tag):
    holder(tag)
    year = timezone.now().year + 1
    when = {"scheduled_at_0": f"{year}-12-24", "scheduled_at_1": "09:30", "_review": "1"}
    owner.post(f"{LIST}add/", form(template, number, tag, **when))
    broadcast = Broadcast.objects.get()
    assert broadcast.scheduled_at == datetime(year, 12, 24, 8, 30, tzinfo=UTC)

    assert f"Schedule for 24 Dec {year}, 09:30 CET" in text(owner.get(page(broadcast, "confirm")))
    owner.post(page(broadcast, "confirm"), {"_schedule": "1"})
    broadcast.refresh_from_db()
    assert broadcast.status == Status.SCHEDULED
    assert f"It goes out on 24 Dec {year}, 09:30 CET (Europe/Madrid)." in text(owner.get(page(broadcast)))


@pytest.mark.parametrize(
    ("day", "time", "sentence"),
    [
        ("2027-03-28", "02:30", "doesn't exist in Europe/Madrid"),
        ("2027-10-31", "02:30", "comes twice in Europe/Madrid"),
        ("2027-10-31", "", "Give both a date and a time."),
        ("2027-10-31", "half past two", "is not a date and time"),
    ],
)
def test_a_time_that_says_no_moment_is_refused_with_a_sentence(owner, template, number, tag, day, time, sentence):
    when = {"scheduled_at_0": day, "scheduled_at_1": time}
    assert sentence in text(owner.post(f"{LIST}add/", form(template, number, tag, **when)))
    assert not Broadcast.objects.exists()


def test_a_time_that_comes_twice_is_taken_with_its_offset(owner, template, number, tag):
    when = {"scheduled_at_0": "2027-10-31", "scheduled_at_1": "02:30+0200"}
    owner.post(f"{LIST}add/", form(template, number, tag, **when))

    broadcast = Broadcast.objects.get()
    assert broadcast.scheduled_at == datetime(2027, 10, 31, 0, 30, tzinfo=UTC)
    shown = owner.get(page(broadcast)).content.decode()
    assert 'value="02:30+0200"' in shown


def test_a_time_that_has_passed_is_refused_where_it_is_typed_and_kept_where_it_was_typed_before(
    owner, template, number, tag
):
    when = {"scheduled_at_0": "2020-01-01", "scheduled_at_1": "09:30"}
    assert "This time has passed already." in text(owner.post(f"{LIST}add/", form(template, number, tag, **when)))
    assert not Broadcast.objects.exists()

    at = datetime(2020, 1, 1, 8, 30, tzinfo=UTC)  # 09:30 in Madrid
    broadcast = draft_of(tag, template, number, scheduled_at=at)
    owner.post(page(broadcast), form(template, number, tag, **when, name="Another name"))
    broadcast.refresh_from_db()
    assert (broadcast.name, broadcast.scheduled_at) == ("Another name", at)


def test_a_time_in_the_past_is_refused_as_a_message(owner, template, number, tag):
    holder(tag)
    broadcast = draft_of(tag, template, number, scheduled_at=timezone.now() - timedelta(minutes=1))

    assert "has passed already" in said(owner.post(page(broadcast, "confirm"), {"_schedule": "1"}))[0]
    broadcast.refresh_from_db()
    assert broadcast.status == Status.DRAFT


def test_a_draft_that_was_sent_in_another_window_is_not_overwritten(owner, template, number, tag):
    broadcast = draft_of(tag, template, number, name="Old")
    Broadcast.objects.filter(pk=broadcast.pk).update(status=Status.QUEUED, queued_at=timezone.now())

    owner.post(page(broadcast), form(template, number, tag, name="New"))
    broadcast.refresh_from_db()
    assert (broadcast.name, broadcast.status) == ("Old", Status.QUEUED)
    again = owner.get(page(broadcast, "confirm"))
    assert again.url == page(broadcast)


def test_a_draft_that_was_saved_in_another_window_is_not_overwritten(owner, template, number, tag):
    broadcast = draft_of(tag, template, number, name="Old")
    seen = broadcast.updated_at.isoformat()
    assert f'name="seen" value="{seen}"' in owner.get(page(broadcast)).content.decode()

    owner.post(page(broadcast), form(template, number, tag, name="First", seen=seen))
    second = owner.post(page(broadcast), form(template, number, tag, name="Second", seen=seen))

    assert "saved in another window" in text(second)
    assert 'value="Second"' in second.content.decode()  # nothing typed is lost
    assert f'name="seen" value="{seen}"' in second.content.decode()
    broadcast.refresh_from_db()
    assert broadcast.name == "First"


def test_saving_a_draft_writes_its_own_columns_only(owner, template, number, tag, monkeypatch):
    broadcast = draft_of(tag, template, number)
    owner.post(page(broadcast), form(template, number, tag, name="Renamed"))

    broadcast.refresh_from_db()
    assert (broadcast.name, broadcast.status, broadcast.created_by) == ("Renamed", Status.DRAFT, None)


def test_pausing_says_how_many_wait_and_resuming_queues_it_again(owner, template, number, tag):
    broadcast = sending(draft_of(tag, template, number, name="Sale"), waiting=3)

    assert "3 people who wait for their message go on waiting" in text(owner.get(page(broadcast, "pause")))
    assert Broadcast.objects.get().status == Status.SENDING

    assert said(owner.post(page(broadcast, "pause"))) == ["Sale is paused."]
    broadcast.refresh_from_db()
    assert (broadcast.status, broadcast.pause_reason) == (Status.PAUSED, "operator")
    assert Dispatch.objects.get(pk=broadcast.dispatch_id).hold_reason == "operator"
    assert "Paused by an operator." in text(owner.get(page(broadcast)))

    assert "The remaining 3 people get their message" in text(owner.get(page(broadcast, "resume")))
    owner.post(page(broadcast, "resume"))
    broadcast.refresh_from_db()
    assert broadcast.status == Status.QUEUED


def test_resuming_before_its_time_asks_whether_it_keeps_it(owner, template, number, tag):
    holder(tag)
    at = timezone.now() + timedelta(days=1)
    broadcast = draft_of(tag, template, number, name="Sale", status=Status.PAUSED, scheduled_at=at)

    shown = owner.get(page(broadcast, "resume"))
    assert shown.context["form"]["start"].value() == "keep"
    assert "Keep its time: " in text(shown)
    assert "It starts at once." not in text(shown)
    said_later = said(owner.post(page(broadcast, "resume"), {"start": "keep"}))
    broadcast.refresh_from_db()
    assert (broadcast.status, broadcast.scheduled_at) == (Status.SCHEDULED, at)
    assert said_later[0].startswith("Sale goes out on ")

    launch.pause(broadcast, now=timezone.now())
    owner.post(page(broadcast, "resume"), {"start": "now"})
    broadcast.refresh_from_db()
    assert (broadcast.status, broadcast.scheduled_at) == (Status.QUEUED, None)


def test_who_wants_to_keep_a_time_that_passed_meanwhile_is_asked_again(owner, template, number, tag):
    holder(tag)
    past = timezone.now() - timedelta(hours=2)
    broadcast = draft_of(tag, template, number, status=Status.PAUSED, scheduled_at=past)

    asked_again = owner.post(page(broadcast, "resume"), {"start": "keep"})
    assert "It starts at once." in text(asked_again)
    assert Broadcast.objects.get().status == Status.PAUSED
    owner.post(page(broadcast, "resume"), {"start": "now"})
    assert Broadcast.objects.get().status == Status.QUEUED


def test_canceling_needs_a_confirmation_and_ends_it(owner, template, number, tag):
    broadcast = sending(draft_of(tag, template, number), waiting=2)

    assert "2 people who wait for their message won't get it." in text(owner.get(page(broadcast, "cancel")))
    assert Broadcast.objects.get().status == Status.SENDING

    owner.post(page(broadcast, "cancel"))
    broadcast.refresh_from_db()
    assert broadcast.status == Status.CANCELED
    assert Dispatch.objects.get(pk=broadcast.dispatch_id).canceled_at is not None


def test_an_act_that_comes_too_late_is_refused_as_a_message(owner, template, number, tag):
    broadcast = draft_of(tag, template, number, name="Sale", status=Status.COMPLETED)

    assert said(owner.post(page(broadcast, "pause"))) == ["Broadcast 'Sale' is completed: it can't become paused."]
    assert said(owner.post(page(broadcast, "cancel")))[-1] == "Broadcast 'Sale' is completed: it can't become canceled."
    assert Broadcast.objects.get().status == Status.COMPLETED


def test_a_scheduled_broadcast_becomes_a_draft_again(owner, template, number, tag):
    later = timezone.now() + timedelta(days=1)
    broadcast = draft_of(tag, template, number, status=Status.SCHEDULED, scheduled_at=later)

    owner.post(page(broadcast, "unschedule"))
    broadcast.refresh_from_db()
    assert broadcast.status == Status.DRAFT


def test_the_page_of_a_running_broadcast_shows_its_funnel_and_refreshes_it(owner, template, number, tag):
    broadcast = sending(draft_of(tag, template, number), waiting=1)
    now = timezone.now()
    for status in (MessageStatus.READ, MessageStatus.DELIVERED, MessageStatus.SENT):
        MessageFactory(
            organization=broadcast.organization,
            dispatch=broadcast.dispatch,
            status=status,
            due_at=None,
            accepted_at=now,
        )
    MessageFactory(
        organization=broadcast.organization,
        dispatch=broadcast.dispatch,
        status="failed",
        error_code=131026,
        due_at=None,
    )
    MessageFactory(
        organization=broadcast.organization,
        dispatch=broadcast.dispatch,
        status="skipped",
        skip_reason="opted_out",
        due_at=None,
    )
    counting.recount(broadcast.dispatch_id)

    whole = owner.get(page(broadcast))
    assert 'hx-trigger="every 2s"' in whole.content.decode()
    for shown in (text(whole), text(owner.get(page(broadcast, "funnel")))):
        assert "Recipients 6 " in shown
        assert "Total Sent 3 50.0 % of the recipients" in shown
        assert "Delivered 2 66.7 % of those sent" in shown
        assert "Read 1 50.0 % of those delivered" in shown
        assert "1 Failed 1 Skipped 0 Unconfirmed 6 All recipients" in shown
        assert "1 waiting" in shown
    reasons = text(owner.get(page(broadcast, "reasons")))
    assert "Opted out 1" in reasons
    assert "131026" in reasons


def test_a_queued_broadcast_names_the_one_that_it_waits_for(owner, template, number, tag):
    sending(draft_of(tag, template, number, name="First"))
    second = draft_of(tag, template, number, status=Status.QUEUED, queued_at=timezone.now())

    assert "It waits until “First” is done, and starts by itself." in text(owner.get(page(second)))


def test_an_ended_broadcast_stops_asking_for_numbers(owner, template, number, tag):
    long_ago = timezone.now() - timedelta(days=2)
    broadcast = sending(draft_of(tag, template, number))
    Broadcast.objects.filter(pk=broadcast.pk).update(status=Status.COMPLETED, completed_at=long_ago)

    assert "hx-trigger" not in owner.get(page(broadcast, "funnel")).content.decode()


def test_the_list_costs_the_same_however_many_broadcasts(
    owner, template, number, tag, django_assert_num_queries, django_assert_max_num_queries
):
    def rows(how_many):
        for _ in range(how_many):
            broadcast = draft_of(tag, template, number)
            dispatch = DispatchFactory(organization=tag.organization, phone_number=number)
            Broadcast.objects.filter(pk=broadcast.pk).update(status=Status.COMPLETED, dispatch=dispatch)

    rows(1)
    # session, user, membership; the broadcasts counted and read; their funnels
    with django_assert_num_queries(6) as one:
        owner.get(LIST)
    rows(5)
    with django_assert_max_num_queries(len(one)):
        assert owner.get(LIST).content.decode().count("k-mini") == 6


def test_the_form_counts_whom_its_tags_reach_before_anything_is_saved(owner, shop, template, number, tag):
    other, excluded = TagFactory(organization=shop), TagFactory(organization=shop)
    both = holder(tag)
    tagging.add(shop, [both.pk], [other.pk], source="operator", at=timezone.now())
    holder(other)
    out = holder(tag)
    tagging.add(shop, [out.pk], [excluded.pk], source="operator", at=timezone.now())
    holder(tag, opted_in=False)
    foreign = TagFactory()
    holder(foreign)

    def count(tags, without=()):
        return text(owner.post(f"{LIST}audience/", {"tags": tags, "excluded_tags": without}))

    assert "2 contacts with these tags have opted in." in count([tag.pk, other.pk], [excluded.pk])
    assert "1 contact with these tags has opted in." in count([tag.pk], [excluded.pk])
    assert "Choose a tag to see how many people it reaches." in count([])
    assert "0 contacts" in count([foreign.pk, "x", "9" * 30])
    assert "1 contact " in text(
        owner.post(page(draft_of(other, template, number), "audience"), {"tags": [excluded.pk]})
    )


def test_the_form_shows_the_message_as_people_of_its_tags_read_it(owner, template, number, tag):
    holder(tag, name="Asha Example")
    holder(tag, name="")
    typed = form(template, number, tag, **{"body.2:value": ""})

    first = text(owner.post(f"{LIST}message/", typed))
    assert "Hi Asha, our sale ends on" in first
    assert "As Asha Example would read it." in first
    assert "Hi there, our sale" in text(owner.post(f"{LIST}message/", {**typed, "reader": "1"}))
    for nonsense in ("-1", "x", "7", "9" * 30):
        assert "Hi Asha, our sale" in text(owner.post(f"{LIST}message/", {**typed, "reader": nonsense}))
    nobody = text(owner.post(f"{LIST}message/", {**typed, "tags": []}))
    assert "would read it" not in nobody
    assert "Hi Asha" not in nobody
    saved = draft_of(tag, template, number)
    assert "As Asha Example would read it." in text(owner.get(page(saved)))


def test_a_broadcast_that_skipped_everybody_does_not_look_sent(owner, template, number, tag):
    broadcast = sending(draft_of(tag, template, number))
    MessageFactory.create_batch(
        1_100,
        organization=tag.organization,
        dispatch=broadcast.dispatch,
        status="skipped",
        skip_reason="frequency_cap",
        due_at=None,
    )
    counting.recount(broadcast.dispatch_id)

    shown = owner.get(LIST)

    assert 'class="k-part-skipped" style="width: 100.00%"' in shown.content.decode()
    assert "0 sent · 0 delivered · 0 read · 1,100 skipped" in text(shown)
    assert "failed" not in text(shown).partition("1,100 skipped")[2][:40]


def test_a_broadcast_is_duplicated_under_a_name(owner, template, number, tag):
    broadcast = sending(draft_of(tag, template, number), waiting=1)
    Broadcast.objects.update(name="Sale")
    assert 'value="Sale (copy)"' in owner.get(page(broadcast, "duplicate")).content.decode()
    assert Broadcast.objects.count() == 1

    answer = owner.post(page(broadcast, "duplicate"), {"name": "Autumn"})

    copy = Broadcast.objects.exclude(pk=broadcast.pk).get()
    assert answer.url == page(copy)
    assert (copy.name, copy.status, list(copy.tags.all())) == ("Autumn", Status.DRAFT, [tag])
    assert said(owner.get(answer.url)) == ["Draft 'Autumn' is made. Nothing has been sent."]
    assert LogEntry.objects.get(object_id=str(copy.pk)).change_message == "Copied from 'Sale'."
    assert "Duplicate …" in text(owner.get(LIST))


def test_a_copy_without_a_name_is_asked_for_one(owner, template, number, tag):
    broadcast = draft_of(tag, template, number)

    assert "This field is required." in text(owner.post(page(broadcast, "duplicate"), {"name": " "}))
    assert Broadcast.objects.count() == 1


def test_viewers_do_not_duplicate_but_take_recipients_along(shop, template, number, tag):
    broadcast = sending(draft_of(tag, template, number), waiting=2)
    viewer = signed_in(shop, Role.VIEWER)

    assert viewer.post(page(broadcast, "duplicate"), {"name": "x"}).status_code == 403
    assert "Duplicate" not in text(viewer.get(page(broadcast)))
    assert len(viewer.get(page(broadcast, "export")).getvalue().splitlines()) == 3


def test_the_recipients_file_follows_the_filters_of_their_list(owner, template, number, tag):
    broadcast = sending(draft_of(tag, template, number), waiting=3)
    of = {"organization": tag.organization, "dispatch": broadcast.dispatch}
    over = {**of, "due_at": None}
    MessageFactory(**over, contact__name="=cmd()", status="failed", error_code=131026)
    MessageFactory(**over, status="failed")
    MessageFactory(**over, status="skipped", skip_reason="opted_out")
    shown = owner.get(f"/admin/messaging/message/?dispatch={broadcast.dispatch_id}&code=131026").content.decode()
    assert (
        f"/admin/broadcasts/broadcast/{broadcast.pk}/export/?dispatch={broadcast.dispatch_id}&amp;code=131026" in shown
    )

    def rows(query):
        return owner.get(f"{page(broadcast, 'export')}?{query}").getvalue().decode().splitlines()[1:]

    assert len(rows("")) == 6
    assert len(rows("status__exact=failed")) == 2
    assert len(rows("status__exact=waiting")) == 3
    assert len(rows("skip_reason__exact=opted_out")) == 1
    [row] = rows("code=131026")
    assert ",'=cmd(),failed," in row
    assert len(rows("code=none")) == 1
    entries = AuditEntry.objects.filter(action="broadcast.exported").order_by("pk")
    assert [entry.details for entry in entries][-2:] == [{"code": "131026"}, {"code": "none"}]
    for unknown in ("status__exact=x", "skip_reason__exact=x"):
        assert owner.get(f"{page(broadcast, 'export')}?{unknown}").status_code == 404


def test_the_live_page_tells_how_fast_it_goes_and_how_long_it_takes(owner, template, number, tag):
    broadcast = sending(draft_of(tag, template, number), waiting=240)
    with time_machine.travel(datetime(2026, 3, 1, 9, tzinfo=UTC), tick=False) as clock:
        first = owner.get(page(broadcast))
        assert "240 waiting · Less than a minute at best" in text(first)
        marks = "1772355600.0:0"
        assert f"?marks={marks}" in first.content.decode()
        Message.objects.filter(pk__in=Message.objects.values("pk")[:120]).update(status="failed", due_at=None)
        counting.recount(broadcast.dispatch_id)
        clock.shift(2)
        assert "120 waiting · 60 messages a second, less than a minute to go" in text(
            owner.get(f"{page(broadcast, 'funnel')}?marks={marks}")
        )
        clock.shift(28)
        assert "· 4 messages a second" in text(owner.get(f"{page(broadcast, 'funnel')}?marks={marks}"))
        assert "Nothing went in the last seconds." in text(
            owner.get(f"{page(broadcast, 'funnel')}?marks=1772355625.0:120")
        )
    launch.pause(Broadcast.objects.get(pk=broadcast.pk), now=timezone.now())
    assert "to go" not in text(owner.get(page(broadcast)))


def test_review_and_confirmation_say_how_long_it_takes(owner, template, number, tag):
    holder(tag)
    broadcast = draft_of(tag, template, number)

    for name in ("review", "confirm"):
        assert "It takes less than a minute, at up to 80 messages a second." in text(owner.get(page(broadcast, name)))


def test_recipients_are_listed_by_dispatch_with_filters(owner, template, number, tag):
    broadcast = sending(draft_of(tag, template, number))
    failed = MessageFactory(
        organization=tag.organization,
        dispatch=broadcast.dispatch,
        contact__name="Failed Fred",
        status="failed",
        error_code=131026,
        error_text="Undeliverable",
        due_at=None,
    )
    MessageFactory(
        organization=tag.organization,
        dispatch=broadcast.dispatch,
        contact__name="Skipped Sue",
        status="skipped",
        skip_reason="opted_out",
        due_at=None,
    )
    MessageFactory(organization=tag.organization, contact__name="Elsewhere Eva")
    everybody = f"/admin/messaging/message/?dispatch={broadcast.dispatch_id}"

    def listed(query=""):
        shown = text(owner.get(everybody + query))
        return [name for name in ("Failed Fred", "Skipped Sue", "Elsewhere Eva") if name in shown]

    assert listed() == ["Failed Fred", "Skipped Sue"]
    assert listed("&status__exact=failed") == ["Failed Fred"]
    assert listed("&status__exact=skipped") == ["Skipped Sue"]
    assert listed("&status__exact=queued") == []
    assert listed("&status__exact=nonsense") == []
    assert listed("&skip_reason__exact=opted_out") == ["Skipped Sue"]
    assert listed("&skip_reason__exact=canceled") == []
    assert listed("&code=131026") == ["Failed Fred"]
    assert listed("&code=1") == []
    assert listed("&code=none") == []
    assert "131026: Undeliverable" in text(owner.get(f"/admin/messaging/message/{failed.pk}/change/"))


def test_recipients_of_another_organization_are_not_found(owner):
    message = MessageFactory()

    for query in (f"dispatch={message.dispatch_id}", f"contact={message.contact_id}", "dispatch=no", "dispatch=9" * 20):
        assert owner.get(f"/admin/messaging/message/?{query}").status_code == 404
    assert owner.get(f"/admin/messaging/message/{message.pk}/change/").status_code == 404
    assert owner.get("/admin/messaging/message/").status_code == 302


def test_recipients_are_never_counted_to_the_end(owner, template, number, tag, monkeypatch):
    monkeypatch.setattr("kaanha.organizations.owned_admin.CappedPaginator.CAP", 2)
    broadcast = sending(draft_of(tag, template, number), waiting=3)

    shown = text(owner.get(f"/admin/messaging/message/?dispatch={broadcast.dispatch_id}"))
    assert "2+ messages" in shown
    assert Message.objects.count() == 3


@pytest.mark.parametrize("name", ["review", "confirm", "pause", "resume", "cancel", "unschedule"])
def test_a_viewer_watches_and_does_nothing_else(shop, template, number, tag, name):
    broadcast = sending(draft_of(tag, template, number))
    viewer = signed_in(shop, Role.VIEWER)

    shown = viewer.get(page(broadcast))
    assert shown.status_code == 200
    assert "Pause" not in text(shown)
    assert viewer.get(page(broadcast, "funnel")).status_code == 200
    assert viewer.post(page(broadcast, name)).status_code == 403
    assert viewer.get(f"{LIST}add/").status_code == 403
    broadcast.refresh_from_db()
    assert broadcast.status == Status.SENDING


def test_an_agent_sees_no_broadcast(shop, template, number, tag):
    broadcast = draft_of(tag, template, number)
    agent = signed_in(shop, Role.AGENT)

    for address in (LIST, page(broadcast), page(broadcast, "funnel"), page(broadcast, "confirm")):
        assert agent.get(address).status_code == 403


@pytest.mark.parametrize(
    "name",
    [
        "change",
        "history",
        "delete",
        "review",
        "confirm",
        "funnel",
        "reasons",
        "pause",
        "resume",
        "cancel",
        "unschedule",
        "duplicate",
        "test",
        "message",
        "audience",
    ],
)
def test_another_organizations_broadcast_is_not_found_on_any_page(owner, name):
    foreign = BroadcastFactory(name="Secret")

    for answer in (owner.get(page(foreign, name)), owner.post(page(foreign, name), {"_send": "1", "post": "yes"})):
        # nobody may delete a broadcast, so that page is forbidden before anything is looked up
        assert answer.status_code == (403 if name == "delete" else 404)
        assert "Secret" not in answer.content.decode()
    foreign.refresh_from_db()
    assert foreign.status == Status.DRAFT
    assert "Secret" not in text(owner.get(LIST))


def test_watching_goes_through_the_same_life_as_the_sweep(owner, template, number, tag):
    holder(tag)
    broadcast = draft_of(tag, template, number)
    owner.post(page(broadcast, "confirm"), {"_send": "1"})
    launch.sweep(now=timezone.now())

    broadcast.refresh_from_db()
    assert broadcast.status == Status.SENDING
    assert "Recipients 1 " in text(owner.get(page(broadcast)))


# --- large audiences ---------------------------------------------------------------------------------------------


def test_a_large_audience_is_shown_at_once_and_counted_when_the_page_asks(owner, tag, template, number, monkeypatch):
    monkeypatch.setattr(audience, "LARGE", 2)
    broadcast = draft_of(tag, template, number)
    holder(tag, name="Asha Rao"), holder(tag, name="Bela Rao")

    shown = owner.get(page(broadcast, "review"))
    assert 'hx-get="?counted=1"' in shown.content.decode()
    assert "Asha Rao" in text(shown)
    assert "people receive it" not in text(shown)

    counted = owner.get(page(broadcast, "review") + "?counted=1")
    assert 'hx-get="?counted=1"' not in counted.content.decode()
    assert "2 people receive it" in text(counted)

    assert "Send now to" not in text(owner.get(page(broadcast, "confirm")))
    assert "Send now to 2 people" in text(owner.get(page(broadcast, "confirm") + "?counted=1"))


def test_a_small_audience_is_counted_with_its_page(owner, tag, template, number, monkeypatch):
    monkeypatch.setattr(audience, "LARGE", 3)
    holder(tag), holder(tag)

    assert "2 people receive it" in text(owner.get(page(draft_of(tag, template, number), "review")))
