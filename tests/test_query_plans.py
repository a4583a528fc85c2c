"""No statement of the product's hot paths reads a big table from end to end.

A plan that is fine with a hundred rows may be the end at ten million: PostgreSQL is asked with so many rows that it
means its answer, and with the shares of tags and states that an installation has.
"""

import pytest
from django.db import connection

from benchmarks import queries
from benchmarks.big_installation import Size, fill
from benchmarks.queries import BIG, Plan
from broadcasts import audience

SMALL = Size(contacts=20_000, messages=150_000, deliveries=20_000)
FEW = 1_000  # rows: a table that an installation without customers' answers hardly has


def rows_of_tables():
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname, reltuples FROM pg_class WHERE relname = ANY(%s)", [list(BIG)])
        return dict(cursor.fetchall())


@pytest.mark.django_db(transaction=True)
def test_no_hot_statement_reads_a_big_table_whole(monkeypatch):
    monkeypatch.setattr(audience, "LARGE", 1_000)
    about = fill(SMALL)
    large = {table for table, rows in rows_of_tables().items() if rows >= FEW}
    assert {"contacts_contact", "contacts_contacttag", "messaging_message", "sequences_enrollment"} <= large

    acts = queries.explained(about, analyze=False)

    wrong = [
        f"{act.name} reads {table} whole: {plan.statement[:200]}"
        for act in acts
        for plan in act.plans
        for table in plan.whole & large - act.whole
    ]
    assert wrong == []
    idle = {act.name for act in acts if not act.plans}
    assert idle == {"Watch a broadcast: its funnel"}  # of counters alone


def test_a_scan_from_end_to_end_is_seen():
    plan = Plan("SELECT …", ["Aggregate", "  ->  Parallel Seq Scan on messaging_message m", "Planning Time: 1 ms"])

    assert plan.whole == {"messaging_message"}
    assert Plan("SELECT …", ["Index Scan using message_due on messaging_message"]).whole == set()
    assert Plan("SELECT …", ["Seq Scan on contacts_contacttag"]).whole == {"contacts_contacttag"}
