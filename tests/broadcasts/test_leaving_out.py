"""What the preview promises is what a launch and the claims make of it, reason by reason."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from broadcasts import audience, launch, portions
from broadcasts.leaving_out import LeftOut
from broadcasts.models import Broadcast
from contacts.models import Contact
from kaanha.messaging import claiming
from kaanha.messaging.models import MarketingCap, Message
from tests.factories import ContactFactory, TagFactory, TemplateFactory

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SKIPPED = (LeftOut.MARKETING_OPTED_OUT, LeftOut.COUNTRY_BLOCKED, LeftOut.FREQUENCY_CAP, LeftOut.MISSING_VARIABLE)
# As a shop's column may hold it: what is empty for people, what isn't, and what the two languages write differently.
EMPTY = ["", " ", "\u3000\u2028", "\t\n", None]
FULL = ["x", " x ", 0, 1.5, False, [], "\u200b"]


def count_in_portions(monkeypatch):
    monkeypatch.setattr(audience, "LARGE", 2)
    monkeypatch.setattr(portions, "SAMPLED", 100)


def capped(contact, until):
    MarketingCap.objects.create(contact=contact, message=1, until=until)


def dispatched(broadcast, number):
    """Launch the broadcast and claim all of it: how many were skipped for each reason, and to whom it goes."""
    launch.send(broadcast, now=NOW)
    launch.start_queued(now=NOW)
    claiming.claim(claiming.live(number.pk, now=NOW), limit=500, now=NOW)
    rows = Message.objects.filter(dispatch=Broadcast.objects.get(pk=broadcast.pk).dispatch)
    going = set(rows.filter(status="sending").values_list("contact_id", flat=True))
    assert not rows.filter(status="queued").exists()
    return Counter(rows.exclude(skip_reason="").values_list("skip_reason", flat=True)), going


def promised(seen):
    return {reason.value: seen.left_out[reason] for reason in SKIPPED if seen.left_out[reason]}


@pytest.mark.parametrize("large", [False, True])
def test_the_preview_promises_what_is_dispatched_for_each_reason(
    organization, tag, people, draft, number, monkeypatch, large
):
    if large:
        count_in_portions(monkeypatch)
    excluded = TagFactory(organization=organization)
    reached = people(2, attributes={"city": "Pune"})
    people(1, tags=[tag, excluded], opted_in=False)
    people(2, opted_in=False)
    people(1, phone=None, user_id="IN.1")
    people(3, marketing_opted_out_at=NOW, country="US")
    people(2, country="US")
    for contact in people(3):
        capped(contact, NOW + timedelta(seconds=1))
    for contact in people(1, attributes={"city": "Delhi"}):
        capped(contact, NOW)
        reached.append(contact)
    people(1, deleted_at=NOW)
    people(5, tags=[excluded])
    template = TemplateFactory(
        organization=organization,
        account=number.account,
        components=[{"type": "BODY", "text": "Hi {{1}}, come to {{2}}."}],
    )
    for name in ("", " ", ",", ", Asha", "\u3000"):
        people(1, name=name, attributes={"city": "Pune"})
    for name in ("Asha,", ",a", "\u3000Asha"):
        reached += people(1, name=name, attributes={"city": "Pune"})
    for city in EMPTY:
        people(1, attributes={"city": city})
    people(1)
    for city in FULL:
        reached += people(1, attributes={"city": city})
    variables = {"body.1": {"field": "first_name"}, "body.2": {"field": "attributes.city"}}
    broadcast = draft(template=template, variables=variables)
    broadcast.excluded_tags.add(excluded)

    seen = audience.preview(broadcast, now=NOW)

    assert {reason.value: count for reason, count in seen.left_out.items()} == {
        "excluded_tag": 1,
        "opted_out": 2,
        "without_phone": 1,
        "marketing_opted_out": 3,
        "country_blocked": 2,
        "frequency_cap": 3,
        "missing_variable": 11,
    }
    assert seen.total == len(reached)
    assert seen.first == sorted(reached, key=lambda contact: contact.pk)[:10]
    skipped, going = dispatched(broadcast, number)
    assert going == {contact.pk for contact in reached}
    assert skipped == promised(seen)


LINK, LONG = "https://example.com/a.jpg", "x" * 1000


@pytest.mark.parametrize(
    ("components", "variables", "inside", "outside"),
    [
        pytest.param(
            [{"type": "HEADER", "format": "IMAGE"}, {"type": "BODY", "text": "Look."}],
            {"header": {"field": "value"}},
            [LINK, f" {LINK} ", "http://xy"],
            ["", "ftp://x", "https://", "http://x", "https://a b", "https://a\u2028b", "see https://x"],
            id="links",
        ),
        pytest.param(
            [
                {"type": "BODY", "text": "Save."},
                {"type": "BUTTONS", "buttons": [{"type": "COPY_CODE", "text": "Copy"}]},
            ],
            {"button.0": {"field": "value"}},
            ["SAVE", f" {'x' * 20} ", f"{'x' * 10}\n\n{'x' * 9}"],
            ["", "x" * 21, f"{'x' * 10}\n{'x' * 10}"],
            id="codes",
        ),
        pytest.param(
            [{"type": "BODY", "text": "1234 {{1}} {{1}} {{2}} {{3}}."}],
            {
                "body.1": {"field": "value", "fallback": "y" * 300},
                "body.2": {"text": "z" * 10},
                "body.3": {"field": "email"},
            },
            ["", " ", "x" * 499, f"{'x' * 400}{' ' * 100}x", f"{'x' * 495} \n \n x"],
            ["x" * 500, LONG],
            id="bodies",
        ),
    ],
)
def test_values_are_measured_as_the_claim_measures_them(
    organization, people, draft, number, components, variables, inside, outside
):
    template = TemplateFactory(organization=organization, account=number.account, components=components)
    reached = [people(1, email="a@x.co", attributes={"value": value})[0] for value in inside]
    for value in outside:
        people(1, email="a@x.co", attributes={"value": value})
    broadcast = draft(template=template, variables=variables)

    seen = audience.preview(broadcast, now=NOW)

    assert (seen.total, seen.left_out[LeftOut.MISSING_VARIABLE]) == (len(inside), len(outside))
    assert seen.first == reached
    skipped, going = dispatched(broadcast, number)
    assert going == {contact.pk for contact in reached}
    assert skipped == promised(seen)


def test_utility_is_held_back_by_consent_and_values_alone(organization, people, draft, number):
    template = TemplateFactory(organization=organization, account=number.account, category="UTILITY")
    people(1, country="US", marketing_opted_out_at=NOW)
    [contact] = people(1)
    capped(contact, NOW + timedelta(hours=1))
    people(1, opted_in=False)
    broadcast = draft(template=template, variables={})

    seen = audience.preview(broadcast, now=NOW)

    assert seen.total == 2
    assert seen.reasons == [("not opted in, or opted out", 1)]
    skipped, going = dispatched(broadcast, number)
    assert (skipped, len(going)) == ({}, 2)


def test_the_cap_is_judged_for_the_time_at_which_it_goes_out(people, draft):
    [contact] = people(1)
    capped(contact, NOW + timedelta(hours=5))
    broadcast = draft(scheduled_at=NOW + timedelta(hours=5))

    assert audience.preview(broadcast, now=NOW).total == 1
    broadcast.scheduled_at = NOW + timedelta(hours=4)
    seen = audience.preview(broadcast, now=NOW)
    assert (seen.at, seen.total, seen.left_out[LeftOut.FREQUENCY_CAP]) == (broadcast.scheduled_at, 0, 1)
    broadcast.scheduled_at = NOW - timedelta(hours=1)
    assert audience.preview(broadcast, now=NOW).at == NOW


def test_a_template_that_cannot_be_filled_yet_leaves_nobody_out_for_it(people, draft):
    people(2, name="")
    broadcast = draft(variables={})

    assert audience.preview(broadcast, now=timezone.now()).total == 2


def test_nobody_of_another_organization_is_counted(people, draft):
    people(1)
    ContactFactory(opted_in=False)

    seen = audience.preview(draft(), now=NOW)

    assert (seen.total, seen.reasons) == (1, [])


def test_the_preview_costs_the_same_however_many(people, draft, django_assert_num_queries):
    people(3)
    broadcast = draft()
    for _ in range(2):
        # its tags and its excluded tags; whether it is large; everybody by reason; the first of them
        with django_assert_num_queries(5):
            audience.preview(broadcast, now=NOW)
        people(9, opted_in=False)


@pytest.mark.parametrize("large", [False, True])
def test_where_no_country_is_blocked_nobody_is_left_out_for_it(people, draft, settings, monkeypatch, large):
    if large:
        count_in_portions(monkeypatch)
    settings.MARKETING_BLOCKED_COUNTRIES = []
    people(2, country="US")
    people(1, opted_in=False)

    seen = audience.preview(draft(), now=NOW)

    assert (seen.total, seen.reasons) == (2, [("not opted in, or opted out", 1)])


# --- large audiences are counted in portions ----------------------------------------------------------------------


def test_portions_have_every_contact_once_and_about_as_many_each(organization, monkeypatch):
    monkeypatch.setattr(portions, "SAMPLED", 100)
    contacts = ContactFactory.create_batch(30, organization=organization)
    ContactFactory.create_batch(30)

    found = portions.of_organization(organization.pk)

    held = [set(Contact.objects.of(organization).filter(portion.of("pk"))) for portion in found]
    assert [len(one) for one in held] == [4, 5, 5, 5, 5, 6]
    assert set.union(*held) == set(contacts)
    assert (found[0].since, found[-1].before) == (None, None)


def test_where_the_sample_has_nobody_there_is_one_portion(organization):
    assert portions.of_organization(organization.pk) == [portions.EVERYBODY]


def test_counting_in_portions_asks_as_often_however_many(
    organization, tag, people, draft, monkeypatch, django_assert_num_queries
):
    count_in_portions(monkeypatch)
    broadcast = draft()
    excluded = TagFactory(organization=organization)
    broadcast.excluded_tags.add(excluded)
    people(2, tags=[tag, excluded])
    for _ in range(2):
        people(9)
        # besides: the bounds, and who is excluded
        with django_assert_num_queries(7):
            audience.preview(broadcast, now=NOW)
