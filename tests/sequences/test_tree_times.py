from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sequences.trees import EVERY_DAY, Delay, Until, due

BERLIN, NEW_YORK, KOLKATA = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), ZoneInfo("Asia/Kolkata")
LORD_HOWE, APIA, NUUK = ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Pacific/Apia"), ZoneInfo("America/Nuuk")
MON, TUE, FRI, SAT, SUN = 0, 1, 4, 5, 6


def at(clock, *weekdays, timezone=None):
    return Delay("wait", until=Until(time.fromisoformat(clock), frozenset(weekdays) or EVERY_DAY, timezone))


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_a_span_counts_hours_across_a_clock_change():
    since = datetime(2026, 3, 28, 12, tzinfo=BERLIN)  # the night to the 29th has an hour less

    assert due(Delay("wait", span=timedelta(days=1)), since, BERLIN) == utc("2026-03-29T11:00")
    assert due(Delay("wait", span=timedelta(seconds=1)), since, BERLIN) == utc("2026-03-28T11:00:01")


def test_the_answer_is_in_utc():
    assert due(at("09:00"), datetime(2026, 5, 1, tzinfo=BERLIN), BERLIN).tzinfo is UTC
    assert due(Delay("wait", span=timedelta(days=1)), datetime(2026, 5, 1, tzinfo=BERLIN), BERLIN).tzinfo is UTC


@pytest.mark.parametrize(
    ("delay", "since", "zone", "expected"),
    [
        # 2026-05-04 is a Monday
        (at("09:00"), "2026-05-04T03:29:59.999999", KOLKATA, "2026-05-04T03:30"),
        (at("09:00"), "2026-05-04T03:30", KOLKATA, "2026-05-05T03:30"),  # strictly after
        (at("09:00"), "2026-05-04T03:30:00.000001", KOLKATA, "2026-05-05T03:30"),
        (at("00:00"), "2026-05-03T18:29", KOLKATA, "2026-05-03T18:30"),
        (at("09:00", MON), "2026-05-04T03:29", KOLKATA, "2026-05-04T03:30"),
        (at("09:00", MON), "2026-05-04T03:30", KOLKATA, "2026-05-11T03:30"),
        (at("09:00", MON, TUE), "2026-05-04T03:30", KOLKATA, "2026-05-05T03:30"),
        (at("09:00", SAT), "2026-05-04T12:00", KOLKATA, "2026-05-09T03:30"),
        # Sunday evening in UTC is Monday in India
        (at("01:00", MON), "2026-05-03T19:00", KOLKATA, "2026-05-03T19:30"),
        # the step's own timezone, not the organization's
        (at("09:00", timezone="Asia/Kolkata"), "2026-05-04T00:00", NEW_YORK, "2026-05-04T03:30"),
        (at("09:00"), "2026-05-04T00:00", NEW_YORK, "2026-05-04T13:00"),
        # the same time of day, an hour nearer or farther
        (at("09:00"), "2026-03-28T08:00", BERLIN, "2026-03-29T07:00"),
        (at("09:00"), "2026-10-24T07:00", BERLIN, "2026-10-25T08:00"),
        (at("09:00"), "2026-03-07T14:00", NEW_YORK, "2026-03-08T13:00"),
    ],
)
def test_a_time_of_day_is_the_next_moment_at_which_clocks_show_it(delay, since, zone, expected):
    assert due(delay, utc(since), zone) == utc(expected)


@pytest.mark.parametrize(
    ("delay", "since", "zone", "expected"),
    [
        (at("02:30"), "2026-03-28T23:00", BERLIN, "2026-03-29T01:00"),  # 03:00
        (at("02:00"), "2026-03-28T23:00", BERLIN, "2026-03-29T01:00"),
        (at("02:59"), "2026-03-28T23:00", BERLIN, "2026-03-29T01:00"),
        (at("03:00"), "2026-03-28T23:00", BERLIN, "2026-03-29T01:00"),
        (at("01:59"), "2026-03-28T23:00", BERLIN, "2026-03-29T00:59"),
        (at("02:30"), "2026-03-29T00:59:59", BERLIN, "2026-03-29T01:00"),
        (at("02:30"), "2026-03-29T01:00", BERLIN, "2026-03-30T00:30"),
        (at("02:30", SUN), "2026-03-29T01:00", BERLIN, "2026-04-05T00:30"),
        (at("02:30"), "2026-03-08T05:00", NEW_YORK, "2026-03-08T07:00"),
        # half an hour at Lord Howe: 02:00 becomes 02:30 on 4 October 2026
        (at("02:15"), "2026-10-03T12:00", LORD_HOWE, "2026-10-03T15:30"),
        (at("02:30"), "2026-10-03T12:00", LORD_HOWE, "2026-10-03T15:30"),
        (at("02:45"), "2026-10-03T12:00", LORD_HOWE, "2026-10-03T15:45"),
        # Saturday's 23:30 in Nuuk, where 23:00 became Sunday: still that Saturday's
        (at("23:30", SAT), "2024-03-30T12:00", NUUK, "2024-03-31T01:00"),
        # Samoa skipped the 30th of December 2011, a Friday, at midnight
        (at("09:00"), "2011-12-29T19:00", APIA, "2011-12-30T10:00"),
        (at("09:00", FRI), "2011-12-29T19:00", APIA, "2011-12-30T10:00"),
        (at("09:00", SAT), "2011-12-29T19:00", APIA, "2011-12-30T19:00"),
        (at("09:00"), "2011-12-30T10:00", APIA, "2011-12-30T19:00"),
        (at("00:00"), "2011-12-30T09:59:59", APIA, "2011-12-30T10:00"),
    ],
)
def test_a_time_that_the_clocks_skip_is_the_moment_after_the_gap(delay, since, zone, expected):
    assert due(delay, utc(since), zone) == utc(expected)


@pytest.mark.parametrize(
    ("delay", "since", "zone", "expected"),
    [
        (at("02:30"), "2026-10-24T23:00", BERLIN, "2026-10-25T00:30"),
        (at("02:30"), "2026-10-25T00:30", BERLIN, "2026-10-26T01:30"),  # not the second time, an hour later
        (at("02:30"), "2026-10-25T01:15", BERLIN, "2026-10-26T01:30"),
        (at("02:00"), "2026-10-24T23:59:59", BERLIN, "2026-10-25T00:00"),
        (at("03:00"), "2026-10-25T00:30", BERLIN, "2026-10-25T02:00"),
        (at("02:30", SUN), "2026-10-25T00:45", BERLIN, "2026-11-01T01:30"),
        (at("01:30"), "2026-11-01T04:00", NEW_YORK, "2026-11-01T05:30"),
        (at("01:30"), "2026-11-01T05:45", NEW_YORK, "2026-11-02T06:30"),
        (at("01:45"), "2026-04-04T12:00", LORD_HOWE, "2026-04-04T14:45"),
        (at("01:45"), "2026-04-04T14:45", LORD_HOWE, "2026-04-05T15:15"),
        (at("02:00"), "2026-04-04T14:45", LORD_HOWE, "2026-04-04T15:30"),
    ],
)
def test_a_time_that_comes_twice_is_the_first(delay, since, zone, expected):
    assert due(delay, utc(since), zone) == utc(expected)


def walked(until, since, zone):
    """The same by watching a clock minute by minute: when it reaches or passes the time for the first time."""
    moment = since.replace(second=0, microsecond=0) - timedelta(hours=26)
    shown, past = moment.astimezone(zone).replace(tzinfo=None), set()
    while True:
        moment += timedelta(minutes=1)
        before, shown = shown, moment.astimezone(zone).replace(tzinfo=None)
        day = before.date()
        while day <= shown.date():
            target = datetime.combine(day, until.time)
            if before < target <= shown and target not in past:
                past.add(target)
                if moment > since and day.weekday() in until.weekdays:
                    return moment
            day += timedelta(days=1)


CHANGES = [
    ("Europe/Berlin", date(2026, 3, 29)),
    ("Europe/Berlin", date(2026, 10, 25)),
    ("America/New_York", date(2026, 3, 8)),
    ("America/New_York", date(2026, 11, 1)),
    ("Australia/Lord_Howe", date(2026, 10, 4)),
    ("Australia/Lord_Howe", date(2026, 4, 5)),
    ("America/St_Johns", date(2006, 10, 29)),  # went back at 00:01, to the day before
    ("America/Nuuk", date(2024, 3, 30)),
    ("Pacific/Apia", date(2011, 12, 30)),
    ("Asia/Kolkata", date(2026, 5, 4)),
]


@given(
    change=st.sampled_from(CHANGES),
    seconds=st.integers(-2 * 86_400, 2 * 86_400),
    clock=st.times().map(lambda clock: clock.replace(second=0, microsecond=0)),
    weekdays=st.frozensets(st.integers(0, 6), min_size=1),
)
@settings(max_examples=60, deadline=None)
def test_it_is_what_somebody_watching_the_clocks_would_say(change, seconds, clock, weekdays):
    zone, until = ZoneInfo(change[0]), Until(clock, weekdays)
    since = datetime.combine(change[1], time(), UTC) + timedelta(seconds=seconds)

    assert due(Delay("wait", until=until), since, zone) == walked(until, since, zone)
