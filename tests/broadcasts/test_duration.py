"""How long a broadcast takes, in words, and the pace that a page measures by its own marks."""

from datetime import timedelta

import pytest

from broadcasts import duration
from broadcasts.duration import Mark
from kaanha.whatsapp.models import BusinessAccount, PhoneNumber, Portfolio


def number(throughput=80, limit=None):
    portfolio = Portfolio(messaging_limit=limit)
    return PhoneNumber(throughput=throughput, account=BusinessAccount(portfolio=portfolio))


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(0), "less than a minute"),
        (timedelta(seconds=59), "less than a minute"),
        (timedelta(seconds=60), "about 1 minute"),
        (timedelta(seconds=209), "about 3 minutes"),
        (timedelta(minutes=89), "about 89 minutes"),
        (timedelta(minutes=90), "about 1.5 hours"),
        (timedelta(hours=2), "about 2 hours"),
        (timedelta(hours=47), "about 47 hours"),
        (timedelta(hours=48), "about 2 days"),
        (timedelta(days=20), "about 20 days"),
    ],
)
def test_a_duration_is_said_as_people_say_it(span, words):
    assert duration.words(span) == words


def test_what_to_expect_follows_from_the_numbers_throughput():
    assert duration.expected(160, number()) == timedelta(seconds=2)
    assert duration.sentence(24_000, number()) == "It takes about 5 minutes, at up to 80 messages a second."
    assert duration.sentence(24_000, number(1_000)) == "It takes less than a minute, at up to 1,000 messages a second."
    assert duration.sentence(0, number(limit=250)) == ""


def test_a_portfolio_that_may_not_write_to_so_many_is_told():
    assert duration.sentence(950, number(limit=1_000)) == "It takes less than a minute, at up to 80 messages a second."
    assert duration.sentence(9_500, number(limit=1_000)) == (
        "It takes about 2 minutes, at up to 80 messages a second. Your portfolio may write to 1,000 different people "
        "in 24 hours, so that it takes about 10 days or more: the others wait until Meta lets them go."
    )


def test_the_pace_is_what_was_settled_between_two_looks():
    first = duration.pace("", settled=100, at=1_000.0)
    assert (first.rate, first.marks) == (None, (Mark(1_000.0, 100),))

    second = duration.pace(first.asked, settled=260, at=1_002.0)
    assert (second.rate, second.marks) == (80.0, first.marks)


def test_the_marks_move_on_with_the_time():
    """So that the pace is that of the last ten to twenty seconds."""
    looked = duration.pace("", settled=0, at=0.5)
    rates = []
    for turn in range(1, 31):
        settled = 160 * min(turn, 15)
        looked = duration.pace(looked.asked, settled=settled, at=0.5 + 2 * turn)
        rates.append(looked.rate)

    assert rates[:15] == [80.0] * 15
    assert rates[-1] == 0.0


@pytest.mark.parametrize(
    "asked",
    [
        "x",
        "1000.0",
        "1000.0:y",
        "nan:5",
        "inf:5",
        "2000.0:5",
        "900.0:5",
        "1000.0:-5",
        "1000.0:261",
        ":,:",
        "1" * 5_000 + ":1",
    ],
)
def test_marks_that_cannot_be_true_are_none(asked):
    assert duration.pace(asked, settled=260, at=1_002.0).marks == (Mark(1_002.0, 260),)


def test_a_look_too_soon_tells_no_pace():
    assert duration.pace("1000.0:0", settled=260, at=1_001.0).rate is None
