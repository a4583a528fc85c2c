"""Callbacks at their limits: thousands in one body, another account's, too large, unsigned."""

from datetime import UTC, datetime

import pytest
from django.db import DataError, InterfaceError, OperationalError, connection
from django.test.utils import CaptureQueriesContext

from kaanha.inbound import applying
from kaanha.inbound.models import Callback
from kaanha.messaging import counting, inbox, receipts
from kaanha.messaging.claiming import callback_data
from kaanha.messaging.models import InboundMessage, Message, UnmatchedReceipt
from tests.factories import ContactFactory, DispatchFactory, MessageFactory, PhoneNumberFactory, TemplateFactory
from tests.inbound.conftest import metadata, text

NOW = datetime.fromtimestamp(1795001000, UTC)

pytestmark = pytest.mark.django_db


@pytest.fixture
def sent(number):
    """sent(3) are messages that Meta has accepted."""

    def make(count):
        owner = number.organization
        dispatch = DispatchFactory(organization=owner, phone_number=number)
        template = TemplateFactory(organization=owner, account=number.account)
        contacts = ContactFactory.create_batch(count, organization=owner)
        rows = [
            MessageFactory.build(
                organization=owner,
                dispatch=dispatch,
                template=template,
                contact=contact,
                status="sent",
                due_at=None,
                wamid=f"wamid.{contact.pk}",
                attempt=1,
                accepted_at=NOW,
            )
            for contact in contacts
        ]
        Message.objects.bulk_create(rows)
        counting.recount(dispatch.pk)
        return rows

    return make


@pytest.fixture
def choking(monkeypatch):
    """choking(error): the text "poison" can't be stored."""

    def make(error):
        store = inbox.store

        def choke(messages, number, *, now):
            if any(message.text == "poison" for message in messages):
                raise error
            return store(messages, number, now=now)

        monkeypatch.setattr(inbox, "store", choke)

    return make


def statuses(rows, stage="delivered"):
    """One `messages` value with a status for each of these."""
    told = [
        {
            "id": row.wamid,
            "status": stage,
            "timestamp": "1795000031",
            "recipient_id": "919800000001",
            "biz_opaque_callback_data": callback_data(row.pk, 1),
        }
        for row in rows
    ]
    return metadata() | {"statuses": told}


def apply():
    while applying.apply_open(now=NOW):
        pass


def test_thousands_of_statuses_in_one_body_all_count(stored, sent):
    rows = sent(2000)
    callback = stored(statuses(rows))
    assert len(callback.body) > 300_000

    apply()

    assert Message.objects.filter(status="delivered").count() == 2000
    assert counting.funnel(rows[0].dispatch_id) == counting.Funnel(2000, dispatched=2000, sent=2000, delivered=2000)


def test_a_large_body_costs_as_many_queries_as_a_small_one(stored, sent):
    def queries(count):
        stored(statuses(sent(count)))
        with CaptureQueriesContext(connection) as captured:
            apply()
        return len(captured)

    assert queries(2) == queries(200)


def test_more_receipts_than_one_transaction_takes_all_count(stored, sent, monkeypatch):
    monkeypatch.setattr(receipts, "BATCH", 3)
    rows = sent(7)
    stored(statuses(rows))
    transactions, keep = [], receipts._keep
    monkeypatch.setattr(receipts, "_keep", lambda *args, **named: transactions.append(keep(*args, **named)))

    apply()

    assert counting.funnel(rows[0].dispatch_id) == counting.Funnel(7, dispatched=7, sent=7, delivered=7)
    assert len(transactions) == 3


@pytest.mark.parametrize(("sizes", "taken"), [([3, 3, 3, 1], [2, 2]), ([3, 9, 1], [1, 1, 1]), ([9, 9], [1, 1])])
def test_a_batch_is_bounded_by_its_bytes_and_takes_at_least_one_body(number, monkeypatch, sizes, taken):
    monkeypatch.setattr(applying, "BATCH_BYTES", 8_000)
    for size in sizes:
        Callback.objects.create(app=number.account.app, body=b" " * size * 1000, received_at=NOW)

    assert [applying.apply_open(now=NOW) for _ in taken] == taken
    assert applying.apply_open(now=NOW) == 0


def test_a_batch_by_bytes_takes_the_oldest_and_leases_no_other(number):
    bodies = [Callback(app=number.account.app, body=b" " * 900_000, received_at=NOW) for _ in range(3)]
    Callback.objects.bulk_create(bodies)

    assert [body.id for body in applying._claim(now=NOW, limit=500)] == [bodies[0].pk, bodies[1].pk]
    assert [body.id for body in applying._claim(now=NOW, limit=500)] == [bodies[2].pk]


def test_one_bad_among_thousands_is_named_and_the_others_count(stored, sent):
    rows = sent(500)
    value = statuses(rows)
    value["statuses"].insert(250, {"id": None, "status": "read"})

    callback = stored(value)
    apply()

    assert Message.objects.filter(status="delivered").count() == 500
    (problem,) = Callback.objects.get(pk=callback.pk).problems
    assert "250" in problem["where"]


def test_the_same_status_a_hundred_times_in_one_body_counts_once(stored, sent):
    (row,) = sent(1)
    stored(statuses([row] * 100))

    apply()

    assert counting.funnel(row.dispatch_id) == counting.Funnel(1, dispatched=1, sent=1, delivered=1)


def test_hundreds_of_texts_of_one_person_are_all_kept_in_order(stored, number):
    stored(*(text(f"line {n}", wamid=f"wamid.IN{n}", at=1795000000 + n) for n in range(300)))

    apply()

    kept = list(InboundMessage.objects.order_by("written_at").values_list("text", flat=True))
    assert kept == [f"line {n}" for n in range(300)]
    assert InboundMessage.objects.values("contact").distinct().count() == 1


def test_a_body_about_another_apps_number_moves_nothing_and_says_why(stored, sent):
    (row,) = sent(1)
    stranger = PhoneNumberFactory()
    callback = stored(statuses([row]), text("STOP", sender=row.contact.phone[1:]), app=stranger.account.app)

    apply()

    row.refresh_from_db()
    row.contact.refresh_from_db()
    assert (row.status, row.contact.opted_in, InboundMessage.objects.count()) == ("sent", True, 0)
    assert Callback.objects.get(pk=callback.pk).problems == [
        {
            "where": "metadata.phone_number_id",
            "reason": "phone number 200000000000001 is not connected under the app that signed this",
        }
    ]
    assert UnmatchedReceipt.objects.count() == 1


def test_a_body_for_two_accounts_is_used_where_it_is_ours(stored, sent):
    (row,) = sent(1)
    elsewhere = text("Hello", number_id=PhoneNumberFactory().phone_number_id)

    stored(elsewhere, statuses([row]))
    apply()

    row.refresh_from_db()
    assert (row.status, InboundMessage.objects.count()) == ("delivered", 0)


@pytest.mark.parametrize(("length", "status"), [("", 413), ("3145729", 413), ("abc", 401), ("-1", 401)])
def test_a_length_that_lies_lets_nothing_too_large_in(client, number, length, status):
    """A length that is no number counts as none by WSGI's rules: the empty body isn't signed."""
    body = b" " * (3 * 1024 * 1024 + 1)
    headers = {"CONTENT_LENGTH": length} if length else {}

    answer = client.generic(
        "POST", f"/callbacks/{number.account.app.callback_key}", body, content_type="application/json", **headers
    )

    assert answer.status_code == status
    assert not Callback.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"null",
        b'"entry"',
        b"{}",
        b'{"entry": {}}',
        b'{"entry": [[], {"changes": 7}]}',
        b'{"entry":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"a": "\\ud800"}',
        b'{"entry": [{"changes": [{"field": "messages", "value": {"statuses": [{"id": "a\\u0000b"}]}}]}]}',
        b"\x00",
        b"1e400",
    ],
)
def test_whatever_is_signed_is_stored_and_applied_without_a_crash(post, number, body):
    assert post(body).status_code == 200

    apply()

    assert Callback.objects.get().applied_at == NOW


def test_a_character_that_postgresql_cannot_store_is_replaced(stored, number):
    stored(text("a\x00b"))

    apply()

    assert InboundMessage.objects.get().text == "a\N{REPLACEMENT CHARACTER}b"


def test_a_body_that_spoils_the_batch_leaves_its_neighbors_whole(stored, sent, choking):
    """Without taking the batch apart all three stayed open, and failed again whenever their lease had ended."""
    choking(DataError("value out of range"))
    first, second = sent(2)
    bodies = [stored(statuses([first])), stored(text("poison")), stored(statuses([second]), text("Hello"))]

    apply()

    assert Message.objects.filter(status="delivered").count() == 2
    assert InboundMessage.objects.get().text == "Hello"
    problems = [Callback.objects.get(pk=body.pk, applied_at=NOW).problems for body in bodies]
    assert problems == [None, [{"where": "body", "reason": "DataError: value out of range"}], None]


@pytest.mark.parametrize("error", [KeyError("nobody thought of it"), RecursionError("too deep"), ValueError("no")])
def test_an_error_that_nobody_thought_of_costs_its_own_body_only(stored, number, choking, error):
    choking(error)
    contact = ContactFactory(organization=number.organization)
    poison = stored(text("poison", wamid="wamid.P"))
    stored(text("STOP", sender=contact.phone[1:], wamid="wamid.S"))

    assert applying.apply_open(now=NOW) == 2

    contact.refresh_from_db()
    assert contact.opted_in is False
    (problem,) = Callback.objects.get(pk=poison.pk, applied_at=NOW).problems
    assert (problem["where"], problem["reason"]) == ("body", f"{type(error).__name__}: {error}")
    assert not Callback.objects.filter(applied_at=None).exists()


def a_deadlock():
    raise OperationalError("deadlock detected")


def a_broken_connection():
    raise InterfaceError("connection is closed")


def a_restart_of_postgresql():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("trouble", [a_deadlock, a_broken_connection, a_restart_of_postgresql])
def test_trouble_of_the_database_is_no_problem_of_the_body_which_waits_for_the_next_sweep(
    stored, number, monkeypatch, trouble
):
    """Their lease of a minute stayed, and a STOP with it."""
    store, troubles = inbox.store, [trouble]

    def meet_trouble(messages, number, *, now):
        if troubles:
            troubles.pop()()
        return store(messages, number, now=now)

    monkeypatch.setattr(inbox, "store", meet_trouble)
    callback = stored(text("Hello"))

    with pytest.raises((OperationalError, InterfaceError)):
        applying.apply_open(now=NOW)
    callback.refresh_from_db()
    assert (callback.applied_at, callback.leased_until, callback.problems) == (None, None, None)

    assert applying.apply_open(now=NOW) == 1
    assert InboundMessage.objects.get().text == "Hello"


def test_a_stop_is_heard_though_the_receipts_beside_it_cannot_be_applied(stored, sent, number, monkeypatch):
    def choke(*args, **kwargs):
        raise KeyError("nobody thought of it")

    monkeypatch.setattr(receipts, "apply", choke)
    (row,) = sent(1)
    stored(statuses([row]), text("STOP", sender=row.contact.phone[1:]))

    apply()

    row.contact.refresh_from_db()
    assert row.contact.opted_in is False


def test_a_reply_that_comes_with_the_first_receipt_of_its_message_belongs_to_it(stored, sent):
    (row,) = sent(1)
    Message.objects.filter(pk=row.pk).update(status="unconfirmed", wamid=None, accepted_at=None)
    answer = text("Yes", sender=row.contact.phone[1:], context={"from": "15555550100", "id": row.wamid})
    stored(answer, statuses([row]))

    apply()

    assert InboundMessage.objects.get().reply_to_id == row.pk
