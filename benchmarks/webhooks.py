"""Events to customers, one by one and in batches, to a receiver on this machine that answers at once.

python -m kaanha.servers -- python -m benchmarks.webhooks [--events 5000] [--rounds 3] [--pending 0]

`--pending` events more wait for an endpoint of another organization that nobody reaches. Works in a database of its
own, which it drops at the end.
"""

from __future__ import annotations

import argparse
import os
import resource
import socketserver
import statistics
import time
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from benchmarks.databases import of_its_own

if TYPE_CHECKING:
    from collections.abc import Iterator


class Receiver(BaseHTTPRequestHandler):
    """Takes the body and says that it is fine."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def receiver() -> Iterator[str]:
    server = socketserver.TCPServer(("127.0.0.1", 0), Receiver, bind_and_activate=False)
    server.request_queue_size = 128
    server.server_bind()
    server.server_activate()
    child = os.fork()
    if child == 0:
        server.serve_forever()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        os.kill(child, 15)
        os.waitpid(child, 0)
        server.server_close()


@contextmanager
def pooled() -> Iterator[None]:
    """Connections as a worker has them: a thread that settles finds one open."""
    from django.db import connection as known

    connection: Any = known  # PostgreSQL's, which has a pool
    connection.close()
    connection.settings_dict["OPTIONS"]["pool"] = {"min_size": 0, "max_size": 20, "timeout": 10}
    try:
        yield
    finally:
        connection.close()
        connection.close_pool()
        del connection.settings_dict["OPTIONS"]["pool"]


def prepare(url: str, events: int, pending: int) -> None:
    """Two endpoints, one of which takes batches, and the events that wait for both; others that wait elsewhere."""
    from django.db import connection
    from django.utils import timezone

    from kaanha.organizations.models import Organization
    from kaanha.webhooks.models import Endpoint, Event

    owner = Organization.objects.create(name="Benchmark", slug="benchmark")
    other = Organization.objects.create(name="Other", slug="other")
    for organization, batched in ((owner, False), (owner, True), (other, False)):
        address = url if organization == owner else "https://192.0.2.1/"
        Endpoint.objects.create(
            organization=organization, url=address, kinds=["message.sent"], secret="secret", batched=batched  # noqa: S106
        )  # fmt: skip
    told = {
        "messageId": "msg_" + "a" * 26,
        "contactId": "ct_" + "a" * 26,
        "phone": "+919876543210",
        "source": "broadcast",
    }
    for organization, count in ((owner, events), (other, pending)):
        for start in range(0, count, 500):
            part = min(500, count - start)
            at = timezone.now() - timedelta(minutes=1)
            Event.record_many([(organization.pk, "message.sent", told)] * part, at=at)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE webhooks_delivery")


def measured(*, batched: bool) -> dict[str, float]:
    """Deliver what is due to the endpoint of that kind, and nothing else."""
    from django.utils import timezone

    from kaanha.webhooks import delivering
    from kaanha.webhooks.models import Delivery, Endpoint, Status

    name = "batched" if batched else "single"
    mine = Endpoint.objects.filter(organization__slug="benchmark", batched=batched)
    started, cpu = time.perf_counter(), _cpu()
    while Delivery.objects.filter(endpoint__in=mine, status=Status.PENDING).exists():
        delivering.sweep(until=timezone.now() + timedelta(seconds=10))
    seconds = time.perf_counter() - started
    done = Delivery.objects.filter(endpoint__in=mine, status=Status.DELIVERED).count()
    return {f"{name}/s": done / seconds, f"{name} cpu ms": (_cpu() - cpu) / done * 1000}


def round_of(events: int, pending: int) -> dict[str, float]:
    with receiver() as url, pooled():
        prepare(url, events, pending)
        result: dict[str, float] = {}
        for batched in (False, True):
            _hold(batched)
            result |= measured(batched=batched)
    return result | {"ratio": result["batched/s"] / result["single/s"]}


def _hold(batched: bool) -> None:
    """Let the events of the other endpoint wait."""
    from django.utils import timezone

    from kaanha.webhooks.models import Delivery, Status

    now = timezone.now()
    waiting = Delivery.objects.filter(endpoint__organization__slug="benchmark", status=Status.PENDING)
    waiting.filter(endpoint__batched=batched).update(next_attempt_at=now)
    waiting.exclude(endpoint__batched=batched).update(next_attempt_at=now + timedelta(days=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pending", type=int, default=0)
    asked = parser.parse_args()
    os.environ["WEBHOOKS_ALLOW_LOOPBACK"] = "true"
    rounds = []
    for _ in range(asked.rounds):
        with of_its_own():
            rounds.append(round_of(asked.events, asked.pending))
    # ruff: noqa: T201
    print(f"{asked.events:,} events each way, {asked.pending:,} pending elsewhere; {asked.rounds} rounds")
    for name in rounds[0]:
        values = [one[name] for one in rounds]
        print(f"{name:>16}: {statistics.median(values):>10,.2f}  ({min(values):,.2f} to {max(values):,.2f})")


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
