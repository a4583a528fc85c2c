"""How often a key may ask."""

import pytest

from kaanha.lib import rate_limits
from kaanha.lib.pacing import Outage
from tests.callers import Caller, error
from tests.factories import OrganizationFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def caller(settings):
    settings.API_RATE_LIMIT = "3/minute"
    return Caller(OrganizationFactory())


@pytest.fixture(autouse=True)
def _counted_anew():
    for cached in (rate_limits._shared, rate_limits._own, rate_limits._outage):
        cached.cache_clear()


def test_every_answer_tells_where_the_key_stands_and_the_fourth_is_refused(caller):
    told = [caller.get("/api/status") for _ in range(3)]

    assert [answer.headers["RateLimit-Limit"] for answer in told] == ["3"] * 3
    assert [answer.headers["RateLimit-Remaining"] for answer in told] == ["2", "1", "0"]
    assert told[0].headers["RateLimit-Policy"] == "3;w=60"
    refused = caller.get("/api/status")
    assert error(refused) == (429, "too_many_requests")
    assert 1 <= int(refused.headers["Retry-After"]) <= 120
    assert refused.headers["RateLimit-Remaining"] == "0"


def test_each_key_has_a_count_of_its_own(caller):
    for _ in range(4):
        caller.get("/api/status")

    assert Caller(caller.key.organization).get("/api/status").status_code == 200


def test_what_is_refused_does_nothing(caller):
    for name in ("a", "b", "c"):
        assert caller.post("/api/tags", {"name": name}).status_code == 201

    assert error(caller.post("/api/tags", {"name": "d"})) == (429, "too_many_requests")
    assert error(caller.get("/api/tags")) == (429, "too_many_requests")


def test_while_redis_is_away_a_process_counts_for_itself(caller, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    statuses = [caller.get("/api/status").status_code for _ in range(4)]

    assert statuses == [200, 200, 200, 429]
    assert rate_limits._outage().lasts


def test_redis_is_asked_again_after_a_while(caller):
    rate_limits._outage().note()
    for _ in range(3):
        caller.get("/api/status")
    rate_limits._outage().until = Outage().until

    assert caller.get("/api/status").headers["RateLimit-Remaining"] == "2"
