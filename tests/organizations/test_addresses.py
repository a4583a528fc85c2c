"""Whose address a request has: a browser can't write its own."""

import pytest
from django.test import RequestFactory

from kaanha.lib import doors
from kaanha.organizations import lockout


def asked(direct, forwarded=None, by=doors.address_of):
    headers = {} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded}
    return by(RequestFactory().get("/", REMOTE_ADDR=direct, **headers))


def test_without_a_proxy_the_header_is_not_read(settings):
    settings.BEHIND_PROXY = False
    assert asked("198.51.100.7", "203.0.113.9") == "198.51.100.7"


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("1.2.3.4, 203.0.113.9", "203.0.113.9"),  # what the browser wrote stands to the left
        ("203.0.113.9:51234", "203.0.113.9"),
        ("[2001:db8:1:2:3:4:5:6]:443", "2001:db8:1:2:3:4:5:6"),
        ("1.2.3.4, unknown", None),
        (" , ", "10.0.0.1"),
        ("", "10.0.0.1"),
        (None, "10.0.0.1"),
    ],
)
def test_behind_a_proxy_it_is_what_the_proxy_saw(settings, forwarded, address):
    settings.BEHIND_PROXY = True
    assert asked("10.0.0.1", forwarded) == address


def test_behind_two_proxies_it_is_what_the_outer_one_saw(settings):
    settings.BEHIND_PROXY, settings.PROXY_COUNT = True, 2

    assert asked("10.0.0.1", "1.2.3.4, 203.0.113.9, 10.0.0.2") == "203.0.113.9"
    assert asked("10.0.0.1", "203.0.113.9") == "203.0.113.9"


@pytest.mark.parametrize(
    ("direct", "address"),
    [
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::"),  # a customer has all of a /64
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("198.51.100.7", "198.51.100.7"),
        ("", None),  # a socket
    ],
)
def test_failures_of_one_customer_are_counted_as_of_one_address(settings, direct, address):
    settings.BEHIND_PROXY = False
    assert asked(direct, by=lockout.address_of) == address
