"""The token bucket, on a real Redis and with none."""

import asyncio
import time

import pytest
from redis.asyncio import Redis

from kaanha.lib import pacing
from kaanha.lib.pacing import Pace


@pytest.fixture
def run(settings):
    """run(act) gives `act` a function that makes paces named alike, and answers what it answers."""

    def go(act):
        async def inside():
            async with Redis.from_url(settings.REDIS_URL) as redis:
                await redis.delete("pace:test")
                return await act(lambda rate, **more: Pace(redis, "test", rate, **{"fallback_rate": 1.0} | more))

        return asyncio.run(inside())

    return go


def test_a_full_bucket_holds_a_tenth_of_a_second(run):
    async def act(pace):
        return [await pace(50).take(100), (await pace(50).take(100))[0]]

    assert run(act) == [(5, 0.0), 0]


def test_two_users_share_one_bucket_and_never_exceed_rate_and_burst(run):
    async def act(pace):
        granted, until = [0, 0], time.monotonic() + 1

        async def use(place):
            one = pace(100)
            while time.monotonic() < until:
                permits, wait = await one.take(7)
                granted[place] += permits
                await asyncio.sleep(wait)

        await asyncio.gather(use(0), use(1))
        return granted

    granted = run(act)

    assert min(granted) > 0
    assert sum(granted) <= 100 + 10 + 1


def test_it_waits_to_give_enough_at_once(run):
    async def act(pace):
        one = pace(100)
        await one.take(10)
        return await one.take(100, least=5)

    granted, wait = run(act)

    assert granted == 0
    assert 0.02 < wait <= 0.05


def test_unused_permits_can_be_given_back(run):
    async def act(pace):
        one = pace(50)
        await one.take(5)
        await one.give_back(5)
        return await one.take(5)

    assert run(act) == (5, 0.0)


def test_slowing_down_halves_the_rate_for_everybody_once_a_second_and_recovers(run, monkeypatch):
    async def act(pace):
        first, second = pace(100), pace(100)
        await first.slow_down()
        await first.slow_down()
        _, wait = await second.take(1)
        factor = float(await first.redis.hget("pace:test", "factor"))
        await first.redis.hincrbyfloat("pace:test", "slowed_at", -20)
        await first.slow_down()
        return wait, factor, float(await first.redis.hget("pace:test", "factor"))

    wait, factor, later = run(act)

    assert factor == 0.5
    assert 0 < wait <= 1 / 50
    # 20 s at 2 % a second regain 0.4, of which the next slow-down leaves half
    assert later == pytest.approx(0.45, abs=0.01)


def test_it_never_slows_below_a_twentieth(run):
    async def act(pace):
        one = pace(100)
        for _ in range(10):
            await one.slow_down()
            await one.redis.hincrbyfloat("pace:test", "slowed_at", -1)
        return float(await one.redis.hget("pace:test", "factor"))

    assert run(act) == pytest.approx(pacing.SLOWEST, abs=0.02)


def test_with_redis_away_it_goes_on_slowly():
    async def act():
        async with Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=1) as redis:
            one = Pace(redis, "test", 1000, fallback_rate=20)
            first = await one.take(100)
            second = await one.take(100)
            await one.give_back(1)
            await one.slow_down()
            return first, second, one._local.rate

    (granted, _), (none, wait), rate = asyncio.run(act())

    assert (granted, none) == (1, 0)
    assert 0 < wait <= 0.05
    assert rate == 10
