"""Every list of the API and of the admin in a full installation, as the server sees it.

Beside each page: its median, how many times as long it takes as its statements by hand, and how many they are. Lists of
the API are taken from its OpenAPI document, so that a new one can't be forgotten: say in samples() what its parameters
may be. With EXPLAIN=1 in the environment the plan of what misses the goal is printed.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from benchmarks.big_installation import Size, Subjects, fill
from benchmarks.doors import person, program, require_answer
from benchmarks.measuring import Cost, cost
from benchmarks.reporting import Bound, Row, bounded
from benchmarks.scale import Scale
from contacts.models import Contact
from kaanha import api_docs
from kaanha.lib import garbage
from kaanha.messaging.models import SkipReason, Status
from sequences.models import EnrollmentStatus
from sequences.models import ExitReason as Left

GOAL = Bound("<", 150, "ms p95")
REQUESTS = 10  # and as many again where one of them was too slow
DEEP = 1_000  # the page by number that is asked for
FAR = 150  # the same in the admin
WARM = 10  # pages that are asked for before
FOLLOWED = 5  # cursors, where there are no pages by number
# What is no list, and is counted from one.
ALSO = {
    "broadcasts_stats": "/api/broadcasts/{broadcast}/stats",
    "sequences_stats": "/api/sequences/{sequence}/stats",
}
ASKS_ALWAYS = {"limit", "page", "cursor"}


@dataclass
class Page:
    """A page to measure: what it is called, and its address."""

    name: str
    address: str
    query: dict[str, Any]

    @property
    def url(self) -> str:
        return f"{self.address}?{urlencode(self.query)}" if self.query else self.address


# --- what is asked -----------------------------------------------------------------------------------------------


def samples(about: Subjects) -> dict[str, dict[str, str]]:
    """What a parameter may be, by its name or by operation and name: each sample with what it is called."""
    names = {
        "phone": "+919000012",
        "one phone": "+919000000077",
        "common": "kumar",
        "rare": "zephyrine",
        "letters": "as",
    }
    return {
        "contacts_list.search": {**names, "two words": "asha kumar", "देवनागरी": "वर्मा", "nobody": "qqqqqq"},
        "search": {"one": "1", "nothing": "qqqqqq"},
        "tag": {"common": about.common.public_id, "rare": about.rare.public_id},
        "contact": {"one": _contact(about)},
        "template": {"one": about.template.public_id},
        "broadcast": {"one": about.broadcast.public_id},
        "sequence": {"one": about.sequence.public_id},
        "endpoint": {"one": about.endpoint.public_id},
        "event": {"common": "message.sent", "none": "broadcast.completed"},
        "category": {"one": "MARKETING"},
        "templates_list.status": {"one": "APPROVED"},
        "language": {"one": "en_US"},
        "since": {"today": f"{timezone.now():%Y-%m-%d}"},
    }


def subjects(about: Subjects) -> dict[str, str]:
    """Whose list it is, by the parameter in the address."""
    return {
        "contact": _contact(about),
        "broadcast": about.broadcast.public_id,
        "sequence": about.sequence.public_id,
        "endpoint": about.endpoint.public_id,
    }


def api_pages(about: Subjects, ask: Callable[[Page], dict[str, Any]]) -> Iterator[Page]:
    """Every list of the API: its first page, one far in by number and by cursor, and with each of its parameters."""
    for name, path in ALSO.items():
        yield Page(name, path.format(**subjects(about)), {})
    for path, methods in sorted(api_docs.document()["paths"].items()):
        told = methods.get("get")
        if not told or not _is_list(told):
            continue
        address = path.format(**subjects(about))
        name, parameters = (
            told["operationId"],
            {one["name"]: one for one in told.get("parameters", []) if one["in"] == "query"},
        )
        yield Page(name, address, {})
        if "limit" in parameters:
            yield from _far_in(name, address, parameters, ask)
        for parameter in sorted(parameters.keys() - ASKS_ALWAYS):
            for words, value in _choices(about, name, parameters[parameter]).items():
                yield Page(f"{name} {parameter}={words}", address, {parameter: value, "limit": 100})


def _is_list(operation: dict[str, Any]) -> bool:
    content = operation["responses"].get("200", {}).get("content", {}).get("application/json", {})
    shape = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    schemas = api_docs.document()["components"]["schemas"]
    return "data" in schemas.get(shape, {}).get("properties", {})


def _choices(about: Subjects, operation: str, parameter: dict[str, Any]) -> dict[str, str]:
    known = samples(about)
    for name in (f"{operation}.{parameter['name']}", parameter["name"]):
        if name in known:
            return known[name]
    if "enum" in parameter["schema"]:
        return {value: value for value in parameter["schema"]["enum"]}
    raise SystemExit(f"Say in samples() what {operation} may be asked for as {parameter['name']}.")


def _far_in(
    name: str, address: str, parameters: dict[str, Any], ask: Callable[[Page], dict[str, Any]]
) -> Iterator[Page]:
    page = Page(f"{name} limit=100", address, {"limit": 100})
    yield page
    answer = ask(page)
    if "page" in parameters:
        last = math.ceil(answer["total"] / 100)
        if last > 1:
            page = Page(f"{name} page {min(DEEP, last):,}", address, {"limit": 100, "page": min(DEEP, last)})
            yield page
            if last > DEEP:
                yield Page(f"{name} last page", address, {"limit": 100, "page": last})
            answer = ask(Page("", address, {"limit": 100, "page": max(1, min(DEEP, last) - 1)}))
    else:
        for _ in range(FOLLOWED):
            if answer["nextCursor"]:
                cursor = answer["nextCursor"]
                answer = ask(Page("", address, {"limit": 100, "cursor": cursor}))
                answer["nextCursor"] = answer["nextCursor"] or cursor
    if answer["nextCursor"]:
        yield Page(f"{name} cursor", address, {"limit": 100, "cursor": answer["nextCursor"]})


def admin_pages(about: Subjects) -> Iterator[Page]:
    """The lists of the admin, with what people choose there, and the pages that are made of lists."""

    def page(name: str, route: str, *args: Any, **query: Any) -> Page:
        return Page(f"admin {name}", reverse(f"admin:{route}", args=args), query)

    dispatch, contact = about.broadcast.dispatch_id, Contact.objects.of(about.organization).order_by("pk")[0].pk
    far = min(FAR, Contact.objects.of(about.organization).count() // 100)
    sequence = about.sequence.pk
    yield page("home", "index")
    people = "contacts_contact_changelist"
    yield page("contacts", people)
    yield page(f"contacts page {far}", people, p=far)
    for column, what in (("1", "name"), ("2", "phone")):
        yield page(f"contacts by {what}", people, o=column)
    for words, term in samples(about)["contacts_list.search"].items():
        yield page(f"contacts search {words}", people, q=term)
    for consent in ("in", "out", "never"):
        yield page(f"contacts consent={consent}", people, consent=consent)
    for words, tag in (("common", about.common), ("rare", about.rare)):
        yield page(f"contacts tag={words}", people, tag=tag.pk)
    yield page("contacts deleted", people, deleted="yes")
    yield page("contact", "contacts_contact_change", contact)
    yield page("tags", "contacts_tag_changelist")
    yield page("broadcasts", "broadcasts_broadcast_changelist")
    yield page("broadcasts search", "broadcasts_broadcast_changelist", q="news 1")
    yield page("broadcasts status=completed", "broadcasts_broadcast_changelist", status__exact="completed")
    yield page("broadcast", "broadcasts_broadcast_change", about.broadcast.pk)
    messages = "messaging_message_changelist"
    yield page("recipients", messages, dispatch=dispatch)
    yield page(f"recipients page {far}", messages, dispatch=dispatch, p=far)
    for status in Status.values:
        yield page(f"recipients status={status}", messages, dispatch=dispatch, status__exact=status)
    for reason in (SkipReason.OPTED_OUT, SkipReason.COUNTRY_BLOCKED, SkipReason.CANCELED):
        chosen = {"status__exact": "skipped", "skip_reason__exact": reason}
        yield page(f"recipients reason={reason}", messages, dispatch=dispatch, **chosen)
        yield page(f"recipients reason={reason} alone", messages, dispatch=dispatch, skip_reason__exact=reason)
    for code in (131026, 131000, 1):
        yield page(f"recipients code={code}", messages, dispatch=dispatch, code=code)
    yield page("messages of a contact", messages, contact=contact)
    yield page("sequences", "sequences_sequence_changelist")
    yield page("sequence", "sequences_sequence_change", sequence)
    enrollments = "sequences_enrollment_changelist"
    yield page("enrollments", enrollments, sequence=sequence)
    for standing in EnrollmentStatus.values:
        yield page(f"enrollments status={standing}", enrollments, sequence=sequence, status__exact=standing)
    for left in (Left.OPTED_OUT, Left.REPLIED):
        yield page(f"enrollments exit={left}", enrollments, sequence=sequence, exit_reason__exact=left)
    for words in ("common", "rare", "phone"):
        term = samples(about)["contacts_list.search"][words]
        yield page(f"enrollments search {words}", enrollments, sequence=sequence, q=term)
    log = "webhooks_delivery_changelist"
    yield page("deliveries", log)
    for fate in ("pending", "failed", "delivered"):
        yield page(f"deliveries status={fate}", log, status__exact=fate)
        yield page(f"deliveries status={fate} of an endpoint", log, status__exact=fate, endpoint=about.endpoint.pk)
    yield page("events", "webhooks_event_changelist")
    yield page("audit log", "organizations_auditentry_changelist")
    yield page("audit log search", "organizations_auditentry_changelist", q="sample 77")


def _contact(about: Subjects) -> str:
    first: Contact = Contact.objects.of(about.organization).active().order_by("pk")[0]
    return first.public_id


# --- how it is measured ------------------------------------------------------------------------------------------


def measure(scale: Scale) -> Iterator[Row]:
    about = fill(Size(scale.contacts, scale.messages, deliveries=scale.people))
    api, admin = program(about.organization), person(about.organization)
    pages = [(api, page) for page in api_pages(about, lambda page: api.get(page.url).json())]
    pages += [(admin, page) for page in admin_pages(about)]
    for client, page in pages[:: len(pages) // WARM]:
        require_answer(client, page.url)
    garbage.spare_what_is_loaded()  # as the web process does
    for client, page in pages:
        yield _measured(client, page)


def _measured(client: Client, page: Page) -> Row:
    """Ask for the page so many times, and for the statements of one of them by hand."""
    require_answer(client, page.url)
    with CaptureQueriesContext(connection) as captured:
        client.get(page.url)
    statements = [query["sql"] for query in captured.captured_queries]
    reading = [statement for statement in statements if statement.lstrip().startswith(("SELECT", "WITH"))]
    costs = [cost(lambda: client.get(page.url)) for _ in range(REQUESTS)]
    if not GOAL.holds(_p95(costs)):
        costs += [cost(lambda: client.get(page.url)) for _ in range(REQUESTS)]
    bare = min(_milliseconds(lambda: _by_hand(reading)) for _ in range(2))
    median = statistics.median(one.wall for one in costs) * 1000
    if not GOAL.holds(_p95(costs)) and os.environ.get("EXPLAIN"):
        _explain(page, reading)
    detail: dict[str, float | str] = {"median ms": median, "ratio to SQL": median / bare, "queries": len(statements)}
    return bounded(page.name, [_p95(costs)], GOAL, costs=costs, units=1, detail=detail)


def _p95(costs: list[Cost]) -> float:
    return sorted(one.wall for one in costs)[math.ceil(0.95 * len(costs)) - 1] * 1000


def _milliseconds(act: Callable[[], Any]) -> float:
    started = time.perf_counter()
    act()
    return (time.perf_counter() - started) * 1000


def _by_hand(statements: list[str]) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
            cursor.fetchall()


def _explain(page: Page, statements: list[str]) -> None:
    """Print how the slowest statement of a page is run."""
    slowest = max(statements, key=lambda statement: _milliseconds(lambda: _by_hand([statement])))
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS) {slowest}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    sys.stdout.write(f"\n--- {page.name}\n{slowest}\n{plan}\n\n")
