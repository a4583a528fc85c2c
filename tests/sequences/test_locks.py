"""An act that has a sequence alone isn't overtaken by newcomers who only share it."""

import threading
import time

import pytest
from django.db import connection, transaction

from sequences import advancing, locks, running

pytestmark = pytest.mark.django_db(transaction=True)


def wait_for_somebody_who_waits():
    with connection.cursor() as cursor:
        for _ in range(500):
            cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            if cursor.fetchone()[0]:
                return
            time.sleep(0.01)
    raise AssertionError("nobody waits")


def test_a_pause_comes_before_the_next_batch_however_many_are_due(stage):
    """With share locks on the row instead, the newcomer advances, and so would every one after it."""
    sequence = stage.active(stage.message("a"))
    contact = stage.contact()
    with transaction.atomic():
        locks.share([sequence.pk])  # a batch that is being written
        pausing = threading.Thread(target=in_a_connection_of_its_own, args=[running.pause, sequence, stage.now])
        pausing.start()
        wait_for_somebody_who_waits()

        assert in_another_thread(lambda: locks.share_free([sequence.pk])) == []
    pausing.join(timeout=30)

    sequence.refresh_from_db()
    assert sequence.status == "paused"
    assert advancing.advance(now=stage.now) == 0
    assert stage.sent(contact) == []


def test_what_nobody_wants_alone_is_shared_by_all(stage):
    first, second = stage.active(stage.message("a")), stage.active(stage.message("a"))
    with transaction.atomic():
        assert sorted(locks.share_free([second.pk, first.pk])) == [first.pk, second.pk]
        assert in_another_thread(lambda: locks.share_free([first.pk])) == [first.pk]


def in_a_connection_of_its_own(act, sequence, now):
    try:
        act(sequence, now=now)
    finally:
        connection.close()


def in_another_thread(act):
    results = []

    def run():
        try:
            with transaction.atomic():
                results.append(act())
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(timeout=30)
    return results[0]
