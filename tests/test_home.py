"""The home page: numbers, charts, what needs a person, and what it costs."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from broadcasts.models import Status
from contacts.models import ConsentChange
from kaanha import charts, home_numbers
from kaanha.messaging.models import QuarterCount
from kaanha.messaging.quarters import Period, Sums
from kaanha.operations.models import Heartbeat
from kaanha.organizations.models import Role
from templates_app.models import MessageTemplate
from tests.factories import (
    BroadcastFactory,
    ContactFactory,
    DispatchFactory,
    EndpointFactory,
    OrganizationFactory,
    PhoneNumberFactory,
    SequenceFactory,
    TemplateFactory,
)
from tests.people import signed_in, superuser, text

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 28, 20, 0, tzinfo=UTC)  # 1:30 on the 29th in India
INDIA = ZoneInfo("Asia/Kolkata")


@pytest.fixture
def shop():
    return OrganizationFactory(timezone="Asia/Kolkata")


@pytest.fixture
def alive():
    """Everything runs."""
    now = timezone.now()
    lanes = ["send", "callbacks", "default"]
    Heartbeat.objects.create(kind="worker", name="w", started_at=now, at=now + timedelta(hours=1), lanes=lanes)
    Heartbeat.objects.create(kind="beat", name="b", started_at=now, at=now + timedelta(hours=1))


def count(organization, at, code=QuarterCount.NO_CODE, slot=0, **columns):
    QuarterCount.objects.create(organization=organization, at=at, error_code=code, slot=slot, **columns)


def numbers(organization, days=30):
    return home_numbers.numbers(organization, days=days, zone=INDIA, now=NOW)


def needed(browser):
    return [(need.title, need.sentence) for need in browser.get("/admin/").context["needs"]]


def test_numbers_are_of_whole_days_in_the_organizations_zone(shop):
    midnight = datetime(2026, 11, 22, 18, 30, tzinfo=UTC)  # the 23rd begins in India
    count(shop, midnight - timedelta(minutes=15), sent=1)
    for slot in (0, 3):
        count(shop, midnight, slot=slot, sent=1000, delivered=900, read=450, replied=9)
    count(shop, NOW, code=131026, sent=10, failed=10)
    count(shop, NOW, code=QuarterCount.NO_CODE, failed=2, refused=2)
    count(OrganizationFactory(), midnight, sent=5)
    twice, earlier, never = (ContactFactory(organization=shop) for _ in range(3))
    before = midnight - timedelta(seconds=1)
    for person, at, opted_in in (
        *((twice, before, True), (twice, midnight, False), (twice, midnight, True), (twice, midnight, False)),
        *((earlier, before, True), (earlier, before, False)),
        (never, midnight, False),
    ):
        ConsentChange.objects.create(organization=shop, contact=person, opted_in=opted_in, source="inbound", at=at)

    found = numbers(shop, days=7)
    assert [(tile.label, tile.count, tile.share) for tile in found["tiles"]] == [
        ("Total sent", 2010, ""),
        ("Delivered", 1800, "90% of those sent"),
        ("Read", 900, "50% of those delivered"),
        ("Replied", 18, "1.0% of those delivered"),
        ("Failed", 12, "0.6% of those tried"),
        ("Opted out", 1, "0.056% of those delivered"),
    ]
    assert found["since"] == "23 Nov 2026"
    assert found["by_day"].rows == [
        ["Mon 23 Nov", "2,000", "1,800", "900", "18", "0"],
        ["Sun 29 Nov", "10", "0", "0", "0", "12"],
    ]
    assert len(found["by_day"].bars) == 7
    assert found["by_day"].bars[0].title == "23 Nov: 2,000 sent, 1,800 delivered, 900 read"
    assert found["by_hour"].rows == [["00:00–01:00", "1,800", "900", "50%"]]
    assert [(reason.code, reason.count, reason.share) for reason in found["reasons"]] == [
        (131026, 10, 83),
        (None, 2, 17),
    ]
    assert numbers(shop, days=30)["tiles"][0].count == 2011


def test_where_nothing_was_sent_there_are_words_and_no_chart(shop, alive):
    found = numbers(shop)
    assert (found["by_day"], found["by_hour"], found["reasons"], found["best_hour"]) == (None, None, [], "")

    page = text(signed_in(shop).get("/admin/"))
    assert "Nothing was sent in these days." in page
    assert "No number is connected yet" in page
    assert "Needs a person" not in page


@pytest.mark.parametrize(
    ("asked", "days"), [({}, 30), ({"days": "7"}, 7), ({"days": "90"}, 90), ({"days": "31"}, 30), ({"days": "x"}, 30)]
)
def test_the_range_stands_in_the_address(asked, days):
    assert home_numbers.chosen_days(asked) == days


def test_the_best_hour_is_told_only_where_enough_was_sent_in_two():
    def period(**hours):
        return Period(Sums(), {}, {int(hour[1:]): Sums(n, n, read) for hour, (n, read) in hours.items()}, {})

    assert home_numbers.best_hour(period(h9=(100, 40), h23=(200, 90), h12=(99, 99))) == (
        "What was sent between 23:00–00:00 was read most: 45%."
    )
    assert home_numbers.best_hour(period(h9=(100, 40), h12=(99, 99))) == ""


def test_seldom_reasons_are_told_together():
    failures = {code: 10 - code for code in range(9)}
    found = home_numbers.reasons(Period(Sums(), {}, {}, failures))

    assert [reason.count for reason in found] == [10, 9, 8, 7, 6, 5, 4 + 3 + 2]
    assert found[-1].words == "3 other reasons"


@pytest.mark.parametrize(
    ("highest", "scale"),
    [
        (0, [0, 1]),
        (1, [0, 1]),
        (3, [0, 1, 2, 3]),
        (7, [0, 2, 4, 6, 8]),
        (730, [0, 200, 400, 600, 800]),
        (800, [0, 200, 400, 600, 800]),
        (1_234_567, [0, 500_000, 1_000_000, 1_500_000]),
    ],
)
def test_axes_have_round_numbers(highest, scale):
    assert charts.ticks(highest) == scale


@pytest.mark.parametrize("days", home_numbers.RANGES)
def test_a_chart_has_few_labels_the_last_of_them_near_today(days):
    some = [date(2026, 11, 29) - timedelta(days=day) for day in reversed(range(days))]
    chart = home_numbers.by_day(Period(Sums(), {some[0].isoformat(): Sums(1000, 900, 450)}, {}, {}), some)

    assert 6 <= len(chart.marks) <= 7
    assert [(rect.css, rect.y, rect.height) for rect in chart.bars[0].rects] == [
        ("k-sent", "0.000%", "100.000%"),
        ("k-delivered", "10.000%", "90.000%"),
        ("k-read", "55.000%", "45.000%"),
    ]
    assert [line.label for line in chart.lines] == ["0", "500", "1k"]


def test_home_lists_what_runs_and_what_needs_a_person(alive):
    shop = OrganizationFactory()
    now = timezone.now()
    later = now + timedelta(days=1)
    BroadcastFactory(organization=shop, name="Tomorrow", status=Status.SCHEDULED, scheduled_at=later)
    held = {"pause_reason": "template", "status_detail": "It is paused.", "paused_at": now}
    BroadcastFactory(organization=shop, name="Held", status=Status.PAUSED, **held)
    BroadcastFactory(organization=shop, name="By itself", status=Status.PAUSED, paused_at=now, resume_at=now)
    BroadcastFactory(organization=shop, name="Done", status=Status.COMPLETED, completed_at=now)
    BroadcastFactory(name="Foreign", status=Status.PAUSED, paused_at=now)
    rejected = TemplateFactory(organization=shop, name="bad", status="REJECTED", rejected_reason="ABUSIVE_CONTENT")
    BroadcastFactory(organization=shop, name="Draft", template=rejected)
    TemplateFactory(organization=shop, name="new", status="REJECTED")
    TemplateFactory(organization=shop, name="rested", status="PAUSED")
    old = TemplateFactory(organization=shop, name="unused", status="DISABLED")
    MessageTemplate.objects.exclude(name="new").update(created_at=now - timedelta(days=15))
    PhoneNumberFactory(organization=shop, display_number="+91 1", quality="RED")
    PhoneNumberFactory(organization=shop, display_number="+91 2", disconnected_at=now)
    PhoneNumberFactory(organization=shop, display_number="+91 3", quality="GREEN")
    EndpointFactory(organization=shop, url="https://a.example.test/", disabled_at=now, disabled_reason="It failed.")

    context = signed_in(shop).get("/admin/").context
    assert {line["broadcast"].name for line in context["open_broadcasts"]} == {"Held", "By itself", "Tomorrow"}
    assert [need.title for need in context["needs"]] == [
        "+91 1", "+91 2", "Held", "bad (en_US)", "new (en_US)", "rested (en_US)", "https://a.example.test/",
    ]  # fmt: skip
    assert old.name not in str(context["needs"])
    assert context["needs"][2].sentence == "Trouble with the template. It is paused."
    assert context["needs"][3].sentence == "Rejected. ABUSIVE_CONTENT"
    owner = signed_in(shop)
    assert [owner.get(need.link).status_code for need in context["needs"]] == [200] * 7
    assert {line["number"].display_number for line in context["numbers"]} >= {"+91 1", "+91 3"}
    assert "+91 2" not in {line["number"].display_number for line in context["numbers"]}

    viewer = signed_in(shop, Role.VIEWER).get("/admin/").context["needs"]
    assert [(need.title, need.link) for need in viewer][:2] == [("+91 1", ""), ("+91 2", "")]
    assert "https://a.example.test/" not in {need.title for need in viewer}


def test_everybody_is_told_in_plain_words_when_nothing_works(shop):
    now = timezone.now()
    Heartbeat.objects.create(kind="beat", name="b", started_at=now, at=now - timedelta(minutes=1))
    Heartbeat.objects.create(kind="worker", name="w", started_at=now, at=now + timedelta(hours=1), lanes=["default"])

    for role in (Role.OWNER, Role.VIEWER):
        clock, work = needed(signed_in(shop, role))
        assert clock[0] == "Nothing starts by itself"
        assert work[1].startswith(
            "No message is sent. Deliveries, reads and replies aren't taken up: no worker serves that."
        )
    links = [need.link for need in superuser().get("/admin/").context["needs"]]
    assert links == ["/admin/system/"] * 2


def test_a_queued_broadcast_says_what_it_waits_for(shop, alive):
    dispatch = DispatchFactory(organization=shop)
    BroadcastFactory(organization=shop, name="Third", status=Status.QUEUED, queued_at=NOW + timedelta(minutes=2))
    BroadcastFactory(organization=shop, name="Second", status=Status.QUEUED, queued_at=NOW)
    BroadcastFactory(organization=shop, name="First", status=Status.SENDING, dispatch=dispatch)
    BroadcastFactory(name="Foreign", status=Status.QUEUED, queued_at=NOW)

    lines = signed_in(shop).get("/admin/").context["open_broadcasts"]
    assert [(line["broadcast"].name, line["sentence"]) for line in lines] == [
        ("First", ""),
        ("Second", "It waits until “First” is done."),
        ("Third", "It waits until “First” is done."),
    ]


def test_home_costs_the_same_however_much_there_is(shop, alive):
    def fill(rows):
        for row in range(rows):
            count(shop, timezone.now() - timedelta(hours=row + 1), sent=5, slot=row % 4)
            number = PhoneNumberFactory(organization=shop, quality="RED")
            TemplateFactory(organization=shop, account=number.account, name=f"t{row}", status="PAUSED")
            BroadcastFactory(organization=shop, status=Status.QUEUED, queued_at=NOW + timedelta(minutes=row))
            BroadcastFactory(organization=shop, status=Status.PAUSED, pause_reason="operator", paused_at=NOW)
            SequenceFactory(organization=shop, status="active")
            EndpointFactory(organization=shop, disabled_at=NOW)

    def queries():
        with CaptureQueriesContext(connection) as caught:
            assert browser.get("/admin/?days=90").status_code == 200
        return len(caught)

    browser = signed_in(shop)
    fill(1)
    browser.get("/admin/")
    one = queries()
    fill(6)
    assert queries() == one
