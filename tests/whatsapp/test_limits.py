"""Messaging limits come as tiers, numbers and nothing at all."""

import pytest

from kaanha.whatsapp.cloud_api.limits import UNLIMITED, messaging_limit


@pytest.mark.parametrize(
    ("said", "people"),
    [
        ("TIER_50", 50),
        ("TIER_250", 250),
        ("TIER_1K", 1000),
        ("TIER_2K", 2000),
        ("TIER_10K", 10_000),
        ("TIER_100K", 100_000),
        ("TIER_UNLIMITED", UNLIMITED),
        (-1, UNLIMITED),
        (2000, 2000),
        ("TIER_NOT_SET", None),
        ("tier_250", None),
        ("TIER_9999999999", None),
        (0, None),
        (-2, None),
        (10**12, None),
        (True, None),
        (None, None),
        ([], None),
    ],
)
def test_what_a_limit_means(said, people):
    assert messaging_limit(said) == people
