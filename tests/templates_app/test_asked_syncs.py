"""Syncs that somebody asked for: done once, by one worker, told page by page, and never lost with a worker."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from kaanha.lib.errors import Refusal
from kaanha.organizations.models import Role
from kaanha.whatsapp.cloud_api import graph
from templates_app import asked_syncs, syncing
from templates_app.models import MessageTemplate, TemplateSync
from tests.factories import BusinessAccountFactory, OrganizationFactory, TemplateFactory
from tests.people import said, signed_in, text

pytestmark = pytest.mark.django_db
PAGE = "/admin/templates_app/messagetemplate/syncing/"
START = "/admin/templates_app/messagetemplate/sync-from-meta/"
BEFORE = timedelta(hours=1)


@pytest.fixture
def account(cloud_api):
    options = cloud_api.options
    return BusinessAccountFactory(waba_id=options.waba_id, access_token=options.access_token, name="Shop")


@pytest.fixture
def listing(monkeypatch):
    """Meta's list, page by page, to be set by the test; an exception in it breaks the walk off there."""
    pages = []

    def templates(self, waba_id, *, name=None, told=None):
        for page in pages:
            if isinstance(page, Exception):
                raise page
            told(len(page))
            yield from page

    monkeypatch.setattr(graph.Graph, "templates", templates)
    return pages


def row(name="sale", status="APPROVED"):
    body = [{"type": "BODY", "text": "Hello."}]
    return {"id": "6", "name": name, "language": "en_US", "status": status, "category": "UTILITY", "components": body}


def ask(*accounts):
    return asked_syncs.ask(accounts, now=timezone.now())


def lose_worker():
    """The lease of whoever works runs out."""
    TemplateSync.objects.update(leased_until=timezone.now() - timedelta(seconds=1))


def together(act):
    """Do it in two threads at the same moment; both answers."""
    gate = threading.Barrier(2)

    def one(_):
        try:
            gate.wait(10)
            return act()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(one, range(2)))


# --- what a sync does --------------------------------------------------------------------------------------------


def test_a_sync_ends_with_what_it_changed_and_is_done_once(account, listing):
    for name, status in (("gone", "APPROVED"), ("kept", "APPROVED"), ("sale", "PENDING")):
        TemplateFactory(account=account, organization=account.organization, name=name, status=status)
    TemplateFactory(name="gone")
    listing += [[row("kept"), row("sale")], [], [row("fresh", "PONDERED"), {}]]

    assert ask(account) == 1
    assert (asked_syncs.sweep(), asked_syncs.sweep()) == (1, 0)

    sync = TemplateSync.objects.get()
    assert (sync.pages, sync.templates, sync.attempts, sync.refusal, sync.leased_until) == (3, 4, 1, "", None)
    assert (sync.created, sync.updated, sync.unchanged, sync.deleted) == (1, 2, 0, 1)
    assert sync.finished_at is not None
    assert sync.changes == [
        "fresh (en_US): new → PONDERED",
        "gone (en_US): Approved → Deleted",
        "sale (en_US): In review → Approved",
    ]
    assert sync.problems == ["Template ? has no name: left out."]
    assert MessageTemplate.objects.exclude(account=account).get().status == "APPROVED"


def test_the_pages_are_those_of_the_list(account, monkeypatch):
    monkeypatch.setattr(graph, "PAGE", 2)
    ask(account)
    asked_syncs.sweep()

    sync, count = TemplateSync.objects.get(), MessageTemplate.objects.count()
    assert (sync.templates, sync.pages, sync.created) == (count, -(-count // 2), count)
    assert count > 2


def test_many_changes_are_told_in_part(account, listing, monkeypatch):
    monkeypatch.setattr(asked_syncs, "SHOWN", 1)
    listing.append([row("a"), row("b"), row("c")])
    ask(account)
    asked_syncs.sweep()

    assert TemplateSync.objects.get().changes == ["a (en_US): new → Approved", "… and 2 more."]


def test_a_refusal_ends_the_sync_with_its_sentence_and_changes_nothing(account, listing):
    TemplateFactory(account=account, organization=account.organization)
    listing += [[row()], graph.Unreachable("reset")]
    ask(account)

    assert asked_syncs.sweep() == 1

    sync = TemplateSync.objects.get()
    assert sync.refusal.startswith("Meta can't be reached at ")
    assert "Check the network" in sync.refusal
    assert (sync.pages, sync.created, sync.deleted, sync.changes) == (1, 0, 0, [])
    assert MessageTemplate.objects.get().status == "APPROVED"

    listing[:] = [[]]
    assert (ask(account), asked_syncs.sweep()) == (1, 1)
    sync.refresh_from_db()
    assert (sync.refusal, sync.deleted, sync.attempts) == ("", 1, 1)


def test_one_account_in_trouble_keeps_no_other_from_its_sync(account, cloud_api):
    other = BusinessAccountFactory(waba_id="1", access_token="wrong", organization=account.organization)
    assert ask(other, account) == 2

    assert asked_syncs.sweep() == 2

    refusals = dict(TemplateSync.objects.values_list("account", "refusal"))
    assert (refusals[account.pk], "access token" in refusals[other.pk]) == ("", True)


def test_with_nothing_asked_for_a_sweep_costs_one_query(django_assert_num_queries):
    with django_assert_num_queries(1):
        assert asked_syncs.sweep() == 0


# --- one at a time, and never lost -------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_two_clicks_ask_once_two_workers_walk_once_and_meta_is_waited_for_in_no_transaction(account, monkeypatch):
    within = []
    walk = syncing.walk

    def watched(account, **more):
        within.append(connection.in_atomic_block)
        return walk(account, **more)

    monkeypatch.setattr(syncing, "walk", watched)

    for _ in range(2):
        assert sorted(together(lambda: ask(account))) == [0, 1]
        assert sorted(together(asked_syncs.sweep)) == [0, 1]

    assert within == [False, False]
    assert TemplateSync.objects.get().unchanged == MessageTemplate.objects.count()


def test_a_dead_workers_sync_is_begun_anew_and_what_it_still_does_counts_no_more(account, listing):
    listing.append([row()])
    ask(account)
    dead = asked_syncs.claim(now=timezone.now())
    asked_syncs.note_page(dead, 1)
    assert (asked_syncs.sweep(), TemplateSync.objects.get().pages) == (0, 1)

    lose_worker()
    taken = asked_syncs.claim(now=timezone.now())

    assert (taken.pk, taken.attempts, taken.pages) == (dead.pk, 2, 0)
    asked_syncs.perform(dead)
    assert TemplateSync.objects.get().finished_at is None
    assert not MessageTemplate.objects.exists()
    with pytest.raises(asked_syncs.Superseded):
        asked_syncs.note_page(dead, 1)
    asked_syncs.perform(taken)
    assert (TemplateSync.objects.get().created, MessageTemplate.objects.count()) == (1, 1)


def test_what_was_found_is_written_with_the_end_or_not_at_all(account, listing, monkeypatch):
    listing.append([row()])
    ask(account)
    sync = asked_syncs.claim(now=timezone.now())
    monkeypatch.setattr(asked_syncs, "_changes", lambda before, after: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        asked_syncs.perform(sync)

    assert not MessageTemplate.objects.exists()
    assert TemplateSync.objects.get().finished_at is None


def test_a_sync_whose_workers_die_each_time_is_told_as_ended(account, listing):
    ask(account)
    for _ in range(asked_syncs.TRIES):
        assert asked_syncs.claim(now=timezone.now()) is not None
        assert ask(account) == 0
        lose_worker()

    assert asked_syncs.sweep() == 0

    sync = TemplateSync.objects.get()
    assert (sync.refusal, sync.attempts) == (asked_syncs.BROKEN_OFF, 3)
    assert sync.finished_at is not None
    assert (ask(account), asked_syncs.sweep()) == (1, 1)


def test_slow_walks_leave_workers_for_everything_else(cloud_api, monkeypatch):
    monkeypatch.setattr(asked_syncs, "AT_ONCE", 2)
    ask(*BusinessAccountFactory.create_batch(3))

    claimed = [asked_syncs.claim(now=timezone.now()) for _ in range(3)]

    assert [sync is None for sync in claimed] == [False, False, True]


# --- its page ----------------------------------------------------------------------------------------------------


def polls(response):
    return f'hx-get="{PAGE}"' in response.content.decode()


def test_the_page_follows_a_sync_to_its_end(account, listing):
    owner, viewer = signed_in(account.organization), signed_in(account.organization, Role.VIEWER)
    theirs = BusinessAccountFactory(name="Theirs")
    ask(theirs)
    TemplateSync.objects.update(finished_at=timezone.now())
    listing.append([row(), {}])
    assert "No sync has been asked for yet." in text(owner.get(PAGE))

    started = owner.post(START)
    assert (started.status_code, started.headers["Location"], said(started)[-1]) == (302, PAGE, "The sync begins.")
    again = owner.post(START)
    assert said(again)[-1] == "A sync is under way already: this is how far it is."
    assert owner.get(START).headers["Location"] == PAGE
    assert viewer.post(START).status_code == 403
    waiting = owner.get(PAGE)
    assert polls(waiting)
    assert "Waiting A worker takes it up in a moment." in text(waiting)
    assert "Sync again" not in text(waiting)
    TemplateSync.objects.filter(account=account).update(asked_at=timezone.now() - BEFORE)
    assert "No worker has taken it up since " in text(owner.get(PAGE))

    asked_syncs.note_page(asked_syncs.claim(now=timezone.now()), 100)
    part = viewer.get(PAGE, headers={"HX-Request": "true"})
    assert part.content.decode().startswith('<div id="sync"')
    assert polls(part)
    assert "Syncing Meta's list is read" in text(part)
    assert "1 Page read 100 Templates seen" in text(part)
    lose_worker()
    sync = asked_syncs.claim(now=timezone.now())
    assert "A worker was killed over it: begun anew, time 2 of 3." in text(owner.get(PAGE))

    asked_syncs.perform(sync)
    ended = owner.get(PAGE)
    assert not polls(ended)
    assert re.search(r"Synced Templates synced: 1 created, 0 updated, 0 unchanged, 0 deleted\.", text(ended))
    assert "What changed sale (en_US): new → Approved" in text(ended)
    assert "What to look at Template ? has no name: left out." in text(ended)
    assert "Sync again" in text(ended)
    assert "Sync again" not in text(viewer.get(PAGE))
    assert "Theirs" not in text(ended)
    assert "Meta is asked for every template of Shop" in text(owner.get(START))

    TemplateSync.objects.filter(account=account).update(refusal="Meta says no. Ask it.", changes=[], problems=[])
    assert "Not synced Meta says no. Ask it." in text(owner.get(PAGE))


def test_without_an_account_nothing_is_asked_for():
    owner = signed_in(OrganizationFactory())

    refused = owner.post(START)

    assert said(refused)[-1].startswith("No WhatsApp account is connected yet")
    assert refused.headers["Location"] == "/admin/templates_app/messagetemplate/"
    assert not TemplateSync.objects.exists()


def test_the_page_costs_the_same_however_many_accounts():
    shop = OrganizationFactory()
    owner = signed_in(shop)
    counts = []
    for more in (1, 3):
        ask(*BusinessAccountFactory.create_batch(more, organization=shop))
        owner.get(PAGE)
        with CaptureQueriesContext(connection) as queries:
            owner.get(PAGE, headers={"HX-Request": "true"})
        counts.append((len(queries), sum("templatesync" in one["sql"] for one in queries.captured_queries)))

    assert counts[0] == counts[1]
    assert counts[1][1] == 1


def test_a_refused_walk_is_a_refusal_for_whoever_waits(account, listing):
    listing.append(graph.Unreachable("reset"))

    with pytest.raises(Refusal, match="Meta can't be reached"):
        syncing.sync(account, now=timezone.now())
