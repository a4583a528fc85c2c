"""Storing callbacks alone, without applying them: ours and the bare view, on granian or on gunicorn's threads.

python -m kaanha.servers -- python -m benchmarks.stored [granian gunicorn] [--posts 6000] [--rounds 4] [--each 1]

gunicorn is no dependency of ours: pip install gunicorn. Works in a database of its own, which it drops at the end.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from functools import partial

from benchmarks.databases import of_its_own
from kaanha import processes

SERVERS = ("granian", "gunicorn")


def on_gunicorn(port: int, *, workers: int = 2, threads: int = 8) -> processes.Program:
    sizes = ("--workers", str(workers), "--threads", str(threads), "--no-control-socket")
    command = ("gunicorn", "kaanha.wsgi", "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread", *sizes)
    return processes.Program(
        "web", (sys.executable, "-m", *command), lambda _: processes.answers_http(port), port=port
    )  # fmt: skip


def compare(web: Callable[..., processes.Program], posts: int, rounds: int, each: int) -> None:
    from benchmarks.measuring import Cost, cost, in_turns
    from benchmarks.parts import callbacks
    from benchmarks.poster import posted
    from benchmarks.store import execute, opened

    processes.web = web
    store = opened(posts * each)
    app = store.number.account.app
    with callbacks._web("kaanha.settings") as (ours, pids), callbacks._web("benchmarks.bare_web") as (bare, bare_pids):
        bodies = callbacks._bodies(store, callbacks._sent(store, posts * each), each=each)
        ways = {f"{ours}/callbacks/{app.callback_key}": pids, f"{bare}/callbacks/{app.pk}": bare_pids}

        def through(url: str, of: list[int]) -> Cost:
            execute("TRUNCATE inbound_callback")
            post = partial(posted, url, app.secret, bodies, connections=callbacks.CONNECTIONS)
            return cost(lambda: callbacks._all_fine(post()), processes=of)

        for url in ways:
            posted(url, app.secret, bodies[:300], connections=callbacks.CONNECTIONS)
        costs = in_turns(rounds, *[partial(through, *way) for way in ways.items()])
    for name, took in zip(("ours", "bare"), costs, strict=True):
        own, rates = [one.own / posts * 1000 for one in took], [posts / one.wall for one in took]
        spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
        print(f"  {name}: {statistics.median(own):.2f} ms of CPU, {statistics.median(rates):,.0f} POSTs/s ({spread})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("servers", nargs="*", default=["granian"], choices=SERVERS)
    parser.add_argument("--posts", type=int, default=6_000)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--each", type=int, default=1, help="statuses in a body")
    asked = parser.parse_args()
    granian = processes.web
    for name in asked.servers:
        print(f"{name}, {asked.each} a body", flush=True)
        with of_its_own():
            compare(granian if name == "granian" else on_gunicorn, asked.posts, asked.rounds, asked.each)


if __name__ == "__main__":
    main()
