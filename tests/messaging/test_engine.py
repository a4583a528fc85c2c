"""What one process remembers while things go wrong: nothing stays counted as open, nobody stops the others."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from django.db import InternalError, OperationalError
from django.utils import timezone

from kaanha.messaging import claiming, holding, safety, sending, settling, tasks
from kaanha.messaging.models import Dispatch, Message
from kaanha.messaging.safety import Watch
from kaanha.messaging.settling import Result
from kaanha.whatsapp.cloud_api import answers
from kaanha.whatsapp.cloud_api.client import Accepted, Refused
from kaanha.whatsapp.cloud_api.errors import classify
from tests.factories import DispatchFactory, MessageFactory

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ACCEPTED = Accepted("wamid.1", None, None, held=False)
ACCOUNT_TROUBLE = Refused(classify({"code": 131042}))
TRANSIENT = Refused(classify({"code": 131016}))

pytestmark = pytest.mark.django_db(transaction=True)


def envelope(key=1):
    return claiming.Envelope(key, key, key, 1, 7, "+919800000001", "[]", b"")


def claim(number, now=NOW):
    return claiming.claim(claiming.live(number.pk, now=now), limit=10, now=now).envelopes


def send(number, seconds=5):
    return sending.send_slice(number.pk, until=timezone.now() + timedelta(seconds=seconds))


class Process:
    """As much of the engine as a slice asks for: room for so many rows, of which one number may have `share`."""

    def __init__(self, room=sending.UNSETTLED, share=270):
        self.room, self.share = lambda: room, lambda: share


class Rate:
    def __init__(self, rate):
        self.rate = rate


@pytest.mark.parametrize(
    ("rate", "opened", "room", "share", "worth"),
    [
        (1000, 0, 300, 270, 60),  # all the room there is
        (1000, 160, 140, 270, 55),  # half of what is left
        (1000, 200, 100, 270, 50),  # less isn't worth it, but …
        (1000, 0, 30, 270, 50),
        (1000, 0, 300, 10, 5),  # … of a small share a part is
        (80, 0, 300, 270, 4),
        (1, 0, 300, 270, 1),
        (1, 5, 0, 0, 1),  # more open than its share, since others came
    ],
)
def test_how_many_rows_are_worth_a_claim(rate, opened, room, share, worth):
    turn = sending._Slice("number", "token", Rate(rate), None, Process(room, share), open=opened)

    assert turn._worth_while(share) == worth


@pytest.mark.parametrize(
    ("out", "opened", "room", "share", "rows"),
    [
        (40, 90, 210, 270, 100),
        (1, 90, 210, 270, 50),  # nothing else is out: no more come by waiting
        (40, 200, 99, 270, 50),  # the process has no room for a claim
        (40, 60, 240, 90, 50),  # nor has this number, of which it has three
    ],
)
def test_more_results_are_settled_together_while_waiting_costs_nothing(out, opened, room, share, rows):
    turn = sending._Slice("number", "token", Rate(1000), None, Process(room, share), open=opened)
    turn.posting = set(range(out))

    turn.results = [None] * (rows - 1)
    assert not turn._settles_now()
    turn.results += [None]
    assert turn._settles_now()


def test_a_settle_that_fails_does_not_change_how_much_is_open():
    """Answers that came in meanwhile were counted a second time, until the process had no room left for ever."""

    class Engine:
        unsettled = 0

        async def settling(self, *_):
            turn.results += [Result(envelope(key), ACCEPTED, timezone.now()) for key in range(10)]
            raise OperationalError("away")

    async def scenario():
        turn._opened(11)
        turn.results = [Result(envelope(99), ACCEPTED, timezone.now())]
        await turn._settle()

    engine = Engine()
    turn = sending._Slice("number", "token", None, None, engine)
    asyncio.run(scenario())

    assert (len(turn.results), engine.unsettled) == (11, 11)


def test_an_error_of_the_database_costs_neither_answers_nor_room(cloud_api, number, queue, monkeypatch):
    queue(30)
    settle, failed = settling.settle_and_hold, []

    def fail_once(results):
        if not failed:
            failed.append(len(results))
            raise InternalError("cannot execute UPDATE in a read-only transaction")
        return settle(results)

    monkeypatch.setattr(settling, "settle_and_hold", fail_once)

    send(number)

    assert failed
    assert sending._engine().unsettled == 0
    assert set(Message.objects.values_list("status", flat=True)) == {"sent"}


def test_an_answer_that_breaks_the_reader_leaves_its_message_unconfirmed(cloud_api, number, queue, monkeypatch):
    async def break_off(*_):
        raise TypeError("unhashable")

    monkeypatch.setattr(sending.Sender, "send", break_off)
    queue(3)

    send(number, seconds=2)

    assert sending._engine().unsettled == 0
    assert set(Message.objects.values_list("status", flat=True)) == {"unconfirmed"}


def test_an_answer_of_an_unheard_of_shape_is_read():
    answer = answers.read(200, b'{"messages":[{"id":"wamid.X","message_status":{}}]}')

    assert (answer.wamid, answer.held) == ("wamid.X", False)


def test_an_old_refusal_that_is_written_again_does_not_undo_a_later_acceptance(number, queue):
    queue(1)
    (first,) = claim(number)
    settling.settle([Result(first, TRANSIENT, NOW)], now=NOW)
    later = NOW + timedelta(minutes=1)
    (second,) = claim(number, now=later)
    settling.settle([Result(second, ACCEPTED, later)], now=later)

    settling.settle([Result(first, TRANSIENT, NOW)], now=later)

    assert Message.objects.get().status == "sent"


def test_a_hold_that_fails_after_the_commit_is_made_good_and_keeps_the_recipients(
    cloud_api, number, queue, monkeypatch
):
    hold, failed = holding.hold, []

    def fail_once(*args, **options):
        if not failed:
            failed.append(1)
            raise OperationalError("the server closed the connection")
        return hold(*args, **options)

    async def refuse(*_):
        return ACCOUNT_TROUBLE

    monkeypatch.setattr(holding, "hold", fail_once)
    monkeypatch.setattr(sending.Sender, "send", refuse)
    queue(5)

    send(number, seconds=2)

    assert set(Message.objects.values_list("status", flat=True)) == {"queued"}
    assert Dispatch.objects.get().hold_reason == "account"


def test_the_watch_forgets_dispatches_that_have_been_quiet():
    watch = Watch()
    for key in range(safety.REMEMBERED + 500):
        watch.see([Result(envelope(key), ACCEPTED, NOW)])

    assert len(watch._seen) == safety.REMEMBERED


def test_with_more_numbers_than_threads_another_one_comes_first_each_second(monkeypatch):
    for _ in range(8):
        MessageFactory(dispatch=DispatchFactory())
    orders = []
    for _ in range(8):
        order = []
        monkeypatch.setattr(tasks.send_slice, "delay", order.append)
        tasks.wake_senders()
        orders.append(tuple(order))

    assert {len(order) for order in orders} == {8}
    assert len(set(orders)) > 1


def test_a_request_that_hangs_does_not_keep_the_number_from_its_next_turn(cloud_api, settings, number, queue):
    settings.WHATSAPP_TIMEOUT = timedelta(seconds=2)
    cloud_api.settings(force={"fault": "hang", "count": 1})
    queue(3)

    send(number, seconds=0.6)

    assert Message.objects.filter(status="sending").count() == 1
    queue(2)
    assert send(number, seconds=0.6)["sent"] == 2
