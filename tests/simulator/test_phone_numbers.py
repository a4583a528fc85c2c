from __future__ import annotations

import pytest

from kaanha.simulator.phone_numbers import digits_of, in_united_states, user_id_of, wa_id_of_user


@pytest.mark.parametrize(
    ("written", "digits"),
    [
        ("+44 7700 900001", "447700900001"),
        ("44-7700.900(001)", "447700900001"),
        ("447700900001", "447700900001"),
        ("+4477009", "4477009"),
        ("+447700", None),
        ("+1234567890123456", None),
        ("0044 7700 900001", None),
        ("+44 7700 9OOOO1", None),
        ("", None),
        ("++447700900001", None),
        ("٤٤٧٧٠٠٩٠٠٠٠١", None),
    ],
)
def test_digits_of(written, digits):
    assert digits_of(written) == digits


@pytest.mark.parametrize(
    ("digits", "american"),
    [
        ("12025550142", True),
        ("14155550142", True),
        ("14165550142", False),
        ("18765550142", False),
        ("15555550142", False),
        ("18005550142", False),
        ("447700900001", False),
        ("1202555014", False),
    ],
)
def test_the_area_code_tells_the_united_states(digits, american):
    assert in_united_states(digits) is american


@pytest.mark.parametrize(
    ("wa_id", "user_id"),
    [
        ("447700900001", "GB.1000000447700900001"),
        ("915555555526", "IN.1000000915555555526"),
        ("3530000000", "IE.1000000003530000000"),
        ("999000000001", "XX.1000000999000000001"),
    ],
)
def test_a_user_id_leads_back_to_the_person(wa_id, user_id):
    assert user_id_of(wa_id) == user_id
    assert wa_id_of_user(user_id) == wa_id


@pytest.mark.parametrize("written", ["", "US.2000000000000000042", "US.1", "447700900001"])
def test_a_user_id_of_somebody_else_leads_nowhere(written):
    assert wa_id_of_user(written) is None
