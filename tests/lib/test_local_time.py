"""Times as people type them, on ordinary days and on those when the clocks change."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from kaanha.lib import local_time
from kaanha.lib.errors import Refusal

MADRID = ZoneInfo("Europe/Madrid")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-12-24 09:30", datetime(2026, 12, 24, 8, 30, tzinfo=UTC)),
        ("2026-07-01T09:30", datetime(2026, 7, 1, 7, 30, tzinfo=UTC)),
        (" 2026-07-01T09:30:15Z ", datetime(2026, 7, 1, 9, 30, 15, tzinfo=UTC)),
        ("2026-10-25T02:30+01:00", datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),
        ("2026-10-25 03:00", datetime(2026, 10, 25, 2, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_in_its_zone(text, moment):
    assert local_time.parse(text, MADRID) == moment


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("2026-03-29 02:30", "nonexistent_time", "doesn't exist in Europe/Madrid"),
        ("2026-10-25 02:30", "ambiguous_time", "2026-10-25T02:30+0200 or 2026-10-25T02:30+0100"),
        ("tomorrow", "bad_time", "Write it like"),
        ("", "bad_time", "Write it like"),
        ("0001-01-01 00:00+14:00", "bad_time", "Write it like"),
        ("9999-12-31 23:59-12:00", "bad_time", "Write it like"),
        ("24.12.2026 9:30", "bad_time", "Write it like"),
    ],
)
def test_what_is_no_time_or_not_exactly_one_is_refused(text, code, words):
    with pytest.raises(Refusal) as refusal:
        local_time.parse(text, MADRID)

    assert (refusal.value.code, words in str(refusal.value)) == (code, True)
