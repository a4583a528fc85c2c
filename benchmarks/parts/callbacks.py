"""Callbacks: HTTP in → signature → stored → applied, against a bare view on the same server that only stores the body.

Web server and worker run as `manage.py run` starts them. Each status is news of a message that was sent.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from django.utils import timezone

import kaanha.celery  # noqa: F401 — pokes go to our broker
from benchmarks import meta
from benchmarks.measuring import Cost, cost, in_turns
from benchmarks.poster import NONE, Posted, posted
from benchmarks.reporting import Bound, Row, bounded, compared
from benchmarks.scale import Scale
from benchmarks.store import Store, execute, opened
from kaanha import processes
from kaanha.embedded import free_port
from kaanha.inbound import tasks
from kaanha.inbound.models import Callback
from kaanha.messaging.models import Dispatch, Message

MOST = 1.3
WORKERS, CONNECTIONS = 2, 16  # processes of the web server, and their threads
LOAD, OVERLOAD = 0.7, 10
SLOWEST = 100  # ms
LEAST = {1: 1_800, 50: 25_000}  # statuses a second
LOOK, PATIENCE = 0.03, 120  # seconds


def measure(scale: Scale) -> Iterator[Row]:
    posts = max(scale.sends // 20, 500)
    store = opened(scale.sends)
    secret, key = store.number.account.app.secret, store.number.account.app.callback_key
    with (
        _web("kaanha.settings") as (ours, pids),
        _web("benchmarks.bare_web") as (bare, bare_pids),
        _worker() as worker,
        _beat(),
    ):
        url, bare_url = f"{ours}/callbacks/{key}", f"{bare}/callbacks/{store.number.account.app.pk}"
        bodies = _bodies(store, _sent(store, posts), each=1)
        for warm in (url, bare_url):
            posted(warm, secret, bodies[:200], connections=CONNECTIONS)
        _applied()

        def through() -> Cost:
            _sent(store, posts, again=True)
            return _through(url, secret, bodies, [*pids, worker])

        def stored() -> Cost:
            post = partial(posted, bare_url, secret, bodies, connections=CONNECTIONS)
            return cost(lambda: _all_fine(post()), processes=bare_pids)

        ours_cost, theirs = in_turns(scale.rounds, through, stored)
        yield compared("1 status a POST, until applied", ours_cost, theirs, most=MOST, units=posts, by="own")
        rates = [posts / took.wall for took in ours_cost]
        bound = Bound("≥", LEAST[1], "POST/s")
        yield bounded("1 status a POST: rate until applied", rates, bound, costs=ours_cost, units=posts)
        slowest = min(rates)
        statuses = scale.sends // 2
        many = _bodies(store, _sent(store, statuses), each=50)
        took = []
        for _ in range(scale.rounds):
            _sent(store, statuses, again=True)
            took.append(_through(url, secret, many, [*pids, worker]))
        rates = [statuses / one.wall for one in took]
        bound = Bound("≥", LEAST[50], "statuses/s")
        yield bounded("50 statuses a POST: rate until applied", rates, bound, costs=took, units=statuses)
        bodies = _bodies(store, _sent(store, posts), each=1)
        yield from _under_load(url, secret, bodies, slowest, [*pids, worker])


def _under_load(url: str, secret: str, bodies: Sequence[bytes], rate: float, pids: Sequence[int]) -> Iterator[Row]:
    found: list[Posted] = []
    took = cost(
        lambda: found.append(posted(url, secret, bodies, connections=4 * CONNECTIONS, rate=LOAD * rate)), processes=pids
    )
    slow = found[0].percentile(0.99)
    yield bounded(
        f"{LOAD:.0%} load: p99 of the answer", [slow], Bound("<", SLOWEST, "ms"), costs=[took], units=len(bodies)
    )
    _applied()
    execute("TRUNCATE inbound_callback")
    took = cost(
        lambda: found.append(posted(url, secret, bodies, connections=40 * CONNECTIONS, rate=OVERLOAD * rate)),
        processes=pids,
    )
    flood, kept = found[1].answers, Callback.objects.count()
    lost = flood.get("200", 0) - kept
    again = {f"answered {status}": float(count) for status, count in flood.items()}
    unheard = float(lost + flood.get(NONE, 0))
    yield bounded(
        f"{OVERLOAD} × overload: posts lost", [unheard], Bound("≤", 0, "posts"), costs=[took], units=len(bodies),
        detail={**again, "p99 ms": found[1].percentile(0.99)},
    )  # fmt: skip
    _applied()


@contextmanager
def _web(settings: str) -> Iterator[tuple[str, list[int]]]:
    """The web server with these settings: its address and the ids of its processes."""
    port = free_port()
    environment = {"DJANGO_SETTINGS_MODULE": settings, "LOG_LEVEL": "WARNING"}
    with tempfile.TemporaryDirectory() as logs, processes.Processes(Path(logs), environment=environment) as parts:
        parts.start(processes.web(port, workers=WORKERS))
        pid = parts.children["web"].process.pid
        while len(children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split()) < WORKERS:
            time.sleep(LOOK)
        yield f"http://127.0.0.1:{port}", [pid, *map(int, children)]


@contextmanager
def _worker() -> Iterator[int]:
    with (
        tempfile.TemporaryDirectory() as logs,
        processes.Processes(Path(logs), environment={"LOG_LEVEL": "WARNING"}) as parts,
    ):
        parts.start(processes.worker("work", "callbacks", "default"))
        yield parts.children["worker-work"].process.pid


def _sent(store: Store, count: int, *, again: bool = False) -> list[int]:
    """So many messages that Meta has accepted; with `again` those that are there, with nothing told of them."""
    if again:
        execute("UPDATE messaging_message SET status = 'sent', delivered_at = NULL")
        execute("TRUNCATE inbound_callback")
    else:
        execute("TRUNCATE messaging_message, inbound_callback")
        dispatch = Dispatch.objects.create(
            organization=store.owner,
            kind=Dispatch.Kind.BROADCAST,
            lane=Dispatch.Lane.MARKETING,
            phone_number=store.number,
        )
        execute(_MESSAGES, [store.owner.pk, dispatch.pk, store.template.pk, count])
    execute("VACUUM ANALYZE messaging_message")
    return list(Message.objects.order_by("pk").values_list("pk", flat=True))


def _bodies(store: Store, messages: Sequence[int], *, each: int) -> list[bytes]:
    """Bodies as Meta posts them, with so many statuses in each."""
    return [_body(store, messages[start : start + each]) for start in range(0, len(messages), each)]


def _body(store: Store, messages: Sequence[int]) -> bytes:
    at = timezone.now()
    told = [meta.status(message, "delivered", at=at, known_as=f"wamid.{message}") for message in messages]
    return meta.body(store.number, told)


def _through(url: str, secret: str, bodies: Sequence[bytes], processes: Sequence[int]) -> Cost:
    """Post all, and wait until all is applied. What the process that posts needs for its start isn't counted."""
    start = 0.0

    def act() -> None:
        nonlocal start
        began = time.perf_counter()
        done = posted(url, secret, bodies, connections=CONNECTIONS)
        start = time.perf_counter() - began - done.seconds
        _all_fine(done)
        _applied()

    took = cost(act, processes=processes)
    wrong = Message.objects.exclude(status="delivered").count()
    if wrong:
        raise SystemExit(f"{wrong:,} messages were not told of.")
    return replace(took, wall=took.wall - start)


@contextmanager
def _beat() -> Iterator[None]:
    """Ask for the work once a second, as beat does."""
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            tasks.apply_callbacks.delay()
            ended.wait(1)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        ended.set()
        asking.join()


def _applied() -> None:
    """Wait until every stored body is applied."""
    until = time.monotonic() + PATIENCE
    while Callback.objects.filter(applied_at=None).exists():
        if time.monotonic() > until:
            raise SystemExit("The callbacks are not applied.")
        time.sleep(LOOK)


def _all_fine(done: Posted) -> None:
    if set(done.answers) != {"200"}:
        raise SystemExit(f"The server answered {done.answers}.")


_MESSAGES = """
INSERT INTO messaging_message (organization_id, dispatch_id, contact_id, template_id, status, created_at, accepted_at,
  sent_at, wamid, attempt, skip_reason, error_text, error_in_callback, tries, held_by_meta)
SELECT %s, %s, id, %s, 'sent', now(), now(), now(), 'wamid.' || id, 1, '', '', false, 0, false
FROM contacts_contact ORDER BY id LIMIT %s
"""
