"""Stored callbacks and what follows from them."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from contacts import consent
from contacts.models import AutoTagRule, ConsentChange, Contact, ContactEvent
from kaanha.inbound import applying
from kaanha.inbound.models import Callback
from kaanha.messaging import counting, holding, receipts
from kaanha.messaging.claiming import callback_data
from kaanha.messaging.models import InboundMessage, MarketingCap, Message, UnmatchedReceipt
from tests.factories import (
    ContactFactory,
    DispatchFactory,
    MessageFactory,
    OrganizationFactory,
    PhoneNumberFactory,
    TagFactory,
    TemplateFactory,
)
from tests.inbound.conftest import metadata, status, text

NOW = datetime.fromtimestamp(1795001000, UTC)
FAILED = {"errors": [{"code": 131026, "title": "Message undeliverable", "error_data": {"details": "No WhatsApp"}}]}

pytestmark = pytest.mark.django_db


@pytest.fixture
def message(number):
    """A marketing message that Meta has accepted as wamid.A."""
    dispatch = DispatchFactory(organization=number.organization, phone_number=number)
    row = MessageFactory(
        organization=number.organization,
        dispatch=dispatch,
        status="sent",
        due_at=None,
        wamid="wamid.A",
        attempt=1,
        accepted_at=NOW - timedelta(hours=1),
    )
    counting.recount(dispatch.pk)
    return row


def apply():
    while applying.apply_open(now=NOW):
        pass


def fresh(row):
    return type(row).objects.get(pk=row.pk)


def at(seconds):
    return datetime.fromtimestamp(seconds, UTC)


def test_a_status_moves_its_message_and_the_funnel(stored, message):
    stored(status("wamid.A", "delivered", at=1795000031, data=callback_data(message.pk, 1)))

    apply()

    assert (fresh(message).status, fresh(message).delivered_at) == ("delivered", at(1795000031))
    assert counting.funnel(message.dispatch_id) == counting.Funnel(1, dispatched=1, sent=1, delivered=1)
    callback = Callback.objects.get()
    assert (callback.applied_at, callback.problems) == (NOW, None)


@pytest.mark.parametrize("order", list(permutations(["sent", "delivered", "read"])))
@pytest.mark.parametrize("together", [True, False])
def test_statuses_in_any_order_and_twice_end_the_same(stored, message, order, together):
    values = [
        status("wamid.A", stage, at=1795000000 + len(stage), data=callback_data(message.pk, 1)) for stage in order
    ] * 2
    if together:
        stored(*values)
    else:
        for value in values:
            stored(value)

    apply()

    row = fresh(message)
    assert (row.status, row.delivered_at, row.read_at) == ("read", at(1795000009), at(1795000004))
    assert counting.funnel(message.dispatch_id) == counting.Funnel(1, dispatched=1, sent=1, delivered=1, read=1)
    assert counting.funnel(message.dispatch_id) == counting.counted_from_ledger(message.dispatch_id)


def test_a_failure_keeps_metas_code_and_words_and_frees_the_cap(stored, message):
    MarketingCap.objects.create(contact=message.contact, message=message.pk, until=NOW + timedelta(hours=20))
    stored(status("wamid.A", "failed", data=callback_data(message.pk, 1), **FAILED))

    apply()

    row = fresh(message)
    assert (row.status, row.error_code, row.error_in_callback) == ("failed", 131026, True)
    assert "No WhatsApp" in row.error_text
    assert MarketingCap.objects.get().until == NOW
    # Meta had accepted it: Total Sent never falls.
    assert counting.funnel(message.dispatch_id) == counting.Funnel(1, dispatched=1, failed=1)


def test_metas_own_marketing_limit_keeps_the_cap(stored, message):
    until = NOW + timedelta(hours=20)
    MarketingCap.objects.create(contact=message.contact, message=message.pk, until=until)
    stored(status("wamid.A", "failed", data=callback_data(message.pk, 1), errors=[{"code": 131049}]))

    apply()

    assert (fresh(message).status, MarketingCap.objects.get().until) == ("failed", until)


def test_delivered_after_failed_wins_and_takes_the_cap_again(stored, message):
    MarketingCap.objects.create(contact=message.contact, message=message.pk, until=NOW)
    stored(status("wamid.A", "failed", data=callback_data(message.pk, 1), **FAILED))
    apply()
    stored(status("wamid.A", "delivered", data=callback_data(message.pk, 1)))
    apply()

    assert fresh(message).status == "delivered"
    assert MarketingCap.objects.get().until == fresh(message).accepted_at + timedelta(hours=24)
    assert counting.funnel(message.dispatch_id) == counting.Funnel(1, dispatched=1, sent=1, delivered=1)


def test_a_status_without_our_id_is_matched_by_its_wamid(stored, message):
    stored(status("wamid.A", "read"))

    apply()

    assert fresh(message).status == "read"


def test_a_status_for_a_message_not_known_yet_is_kept_and_applied_later(stored, message):
    Message.objects.filter(pk=message.pk).update(wamid=None)
    stored(status("wamid.A", "delivered"))
    apply()
    assert (fresh(message).status, UnmatchedReceipt.objects.count()) == ("sent", 1)
    Message.objects.filter(pk=message.pk).update(wamid="wamid.A")

    assert receipts.apply_kept(now=NOW) == 0, "not before its time"
    assert receipts.apply_kept(now=NOW + receipts.RETRY) == 1

    assert (fresh(message).status, UnmatchedReceipt.objects.count()) == ("delivered", 0)


def test_a_flood_of_kept_receipts_is_tried_in_one_sweep_up_to_a_bound(stored, number, monkeypatch):
    monkeypatch.setattr(receipts, "RETRY_ROUNDS", 3)
    stored(*(status(f"wamid.{count}", "delivered") for count in range(8)))
    apply()
    due = UnmatchedReceipt.objects.filter(next_try_at__lte=NOW + receipts.RETRY)

    assert receipts.apply_kept(now=NOW + receipts.RETRY, limit=2) == 0
    assert due.count() == 2
    receipts.apply_kept(now=NOW + receipts.RETRY, limit=2)
    assert due.count() == 0


def test_an_unmatched_receipt_is_dropped_after_thirty_days_and_not_by_the_sweep(stored, number):
    stored(status("wamid.unknown", "delivered"))
    apply()

    receipts.apply_kept(now=NOW + timedelta(days=31))
    assert receipts.drop_old(now=NOW + timedelta(days=30)) == 0
    assert UnmatchedReceipt.objects.count() == 1
    assert receipts.drop_old(now=NOW + timedelta(days=30, seconds=1)) == 1
    assert UnmatchedReceipt.objects.count() == 0


@pytest.mark.parametrize("by_id", [True, False])
def test_another_app_cannot_move_our_message(stored, message, by_id):
    stranger = PhoneNumberFactory()
    data = callback_data(message.pk, 1) if by_id else None
    stored(status("wamid.A", "read", data=data, number_id=stranger.phone_number_id), app=stranger.account.app)
    stored(status("wamid.A", "read", data=data), app=stranger.account.app)

    apply()

    assert fresh(message).status == "sent"


def test_good_members_beside_malformed_ones_count_and_the_bad_ones_are_kept_with_their_reason(stored, message):
    good = status("wamid.A", "delivered", data=callback_data(message.pk, 1))
    good["statuses"] = [None, {"id": 7}, *good["statuses"], {"status": "read"}]
    callback = stored("nonsense", good)

    apply()

    assert fresh(message).status == "delivered"
    assert (fresh(callback).applied_at, len(fresh(callback).problems)) == (NOW, 4)


def test_a_body_that_is_no_json_is_marked_with_its_reason(number):
    callback = Callback.objects.create(app=number.account.app, body=b"\xff\x00", received_at=NOW)

    apply()

    assert fresh(callback).problems[0]["reason"].startswith("not JSON")


def test_an_unknown_sender_becomes_a_contact_opted_in_by_the_message(stored, number):
    stored(text("Hello"))

    apply()

    contact = Contact.objects.get()
    assert (contact.organization, contact.phone, contact.name) == (number.organization, "+919800000077", "Zoë Sample")
    assert (contact.opted_in, contact.opt_in_source, contact.opt_in_proof) == (True, "inbound", "wamid.IN1")
    assert ContactEvent.objects.get().kind == "created"
    message = InboundMessage.objects.get()
    assert (message.text, message.kind, message.contact, message.written_at) == (
        "Hello",
        "text",
        contact,
        at(1795000100),
    )


def test_a_message_told_twice_is_stored_once_and_acted_upon_once(stored, number):
    stored(text("STOP"))
    apply()
    Contact.objects.update(opted_in=True)
    stored(text("STOP"))
    apply()

    assert InboundMessage.objects.count() == 1
    assert Contact.objects.get().opted_in is True


@pytest.mark.parametrize("word", ["STOP", " stop ", "Unsubscribe", "QUIT", "adiós"])
def test_stop_words_opt_out_at_once_and_stay_so(stored, number, word):
    number.organization.opt_out_words = ["adiós"]
    number.organization.save()
    contact = ContactFactory(organization=number.organization, phone="+919800000077")
    stored(text(word), text("ok, bye", wamid="wamid.IN2", at=1795000200))

    apply()

    assert fresh(contact).opted_in is False
    change = ConsentChange.objects.get(opted_in=False)
    assert (change.contact, change.source, change.proof) == (contact, "inbound", "wamid.IN1")
    event = ContactEvent.objects.get()
    assert (event.kind, event.contact, event.source, event.at) == ("opted_out", contact, "inbound", change.at)


def test_start_opts_in_again(stored, number):
    ContactFactory(organization=number.organization, phone="+919800000077")
    stored(text("STOP"), text("START", wamid="wamid.IN2", at=1795000200))

    apply()

    assert Contact.objects.get().opted_in is True


def test_a_stop_word_inside_a_sentence_is_no_stop(stored, number):
    contact = ContactFactory(organization=number.organization, phone="+919800000077")
    stored(text("Please don't stop"))

    apply()

    assert fresh(contact).opted_in is True


def test_a_stop_to_one_organization_says_nothing_to_another(stored, number):
    elsewhere = ContactFactory(organization=OrganizationFactory(), phone="+919800000077")
    stored(text("STOP"))

    apply()

    assert fresh(elsewhere).opted_in is True


def test_a_reply_belongs_to_the_message_that_it_quotes(stored, number, message):
    later = MessageFactory(
        organization=number.organization,
        contact=message.contact,
        dispatch__phone_number=number,
        status="sent",
        due_at=None,
        wamid="wamid.B",
        accepted_at=at(1795000000),
    )
    sender = message.contact.phone.removeprefix("+")
    stored(text("Yes", sender=sender, context={"from": "15555550100", "id": "wamid.A"}))
    stored(text("And this?", sender=sender, wamid="wamid.IN2"))

    apply()

    replies = dict(InboundMessage.objects.values_list("text", "reply_to"))
    assert replies == {"Yes": message.pk, "And this?": later.pk}
    assert fresh(message).replied_at == at(1795000100)


def test_a_reply_without_quote_after_three_days_belongs_to_none(stored, number, message):
    Message.objects.filter(pk=message.pk).update(accepted_at=at(1795000100) - timedelta(hours=72, seconds=1))
    stored(text("Hi", sender=message.contact.phone.removeprefix("+")))

    apply()

    assert InboundMessage.objects.get().reply_to_id is None


def test_auto_tag_rules_put_their_tag_on_whoever_writes_a_match(stored, number):
    tag = TagFactory(organization=number.organization, name="price")
    AutoTagRule.objects.create(organization=number.organization, match="contains", text="Price", tag=tag)
    AutoTagRule.objects.create(organization=number.organization, match="exact", text="price", tag=TagFactory())
    stored(text("What is the PRICE?"))

    apply()

    assert list(Contact.objects.get().tags.all()) == [tag]
    assert ContactEvent.objects.filter(kind="tag_added", tag=tag).count() == 1


def switch(value, at, **who):
    """A `user_preferences` value: the person's switch for marketing at WhatsApp."""
    one = {"wa_id": "919800000077", "category": "marketing_messages", "value": value, "timestamp": at} | who
    return metadata() | {"user_preferences": [{key: said for key, said in one.items() if said}]}


def test_metas_marketing_switch_is_remembered_and_lifted_by_meta_only(stored, number):
    contact = ContactFactory(organization=number.organization, phone="+919800000077")

    stored(switch("stop", 1795000000), field="user_preferences")
    apply()
    assert (fresh(contact).marketing_opted_out_at, fresh(contact).opted_in) == (at(1795000000), True)
    stored(switch("resume", 1795000010), field="user_preferences")
    apply()
    assert fresh(contact).marketing_opted_out_at is None


@pytest.mark.parametrize(
    ("stored_as", "told_as"),
    [
        ({"phone": "+5511987654321"}, {"wa_id": "551187654321"}),
        ({"phone": "+525512345678"}, {"wa_id": "5215512345678"}),
        ({"phone": "+541123456789"}, {"wa_id": "5491123456789"}),
        ({"phone": "+919800000077"}, {"wa_id": "919800000077"}),
        ({"phone": "+919800000077", "wa_id": "911800000077"}, {"wa_id": "911800000077"}),
        ({"phone": None, "user_id": "IN.1"}, {"wa_id": None, "user_id": "IN.1"}),
        ({"phone": None, "user_id": "IN.1"}, {"wa_id": "919800000077", "user_id": "IN.1"}),
    ],
)
def test_metas_marketing_switch_finds_people_however_whatsapp_spells_them(stored, number, stored_as, told_as):
    contact = ContactFactory(organization=number.organization, **stored_as)
    others = [ContactFactory(organization=number.organization), ContactFactory(**stored_as)]
    stored(switch("stop", 1795000000, **told_as), field="user_preferences")

    apply()

    assert fresh(contact).marketing_opted_out_at == at(1795000000)
    assert [fresh(other).marketing_opted_out_at for other in others] == [None, None]


def test_a_stop_of_marketing_that_comes_after_a_newer_resume_changes_nothing(stored, number):
    contact = ContactFactory(organization=number.organization, phone="+919800000077")
    stored(switch("resume", 1795000010), field="user_preferences")
    apply()
    stored(switch("stop", 1795000000), field="user_preferences")
    apply()

    assert fresh(contact).marketing_opted_out_at is None


def test_a_template_status_is_followed_only_for_accounts_of_the_app(stored, number):
    template = TemplateFactory(organization=number.organization, account=number.account, meta_id="600000000000001")
    event = {
        "event": "PAUSED",
        "message_template_id": 600000000000001,
        "message_template_name": template.name,
        "message_template_language": "en-US",
        "reason": "NONE",
    }
    stored(event, field="message_template_status_update", app=PhoneNumberFactory().account.app)
    apply()
    assert fresh(template).status == "APPROVED"
    stored(event, field="message_template_status_update")
    apply()
    assert fresh(template).status == "PAUSED"


def restriction(kind):
    return {"event": "ACCOUNT_RESTRICTION", "restriction_info": [{"restriction_type": kind, "expiration": 1795259200}]}


@pytest.mark.parametrize(
    ("update", "held"),
    [
        (restriction("RESTRICTED_BIZ_INITIATED_MESSAGING"), True),
        (restriction("RESTRICTED_ADD_PHONE_NUMBER_ACTION"), False),
        ({"event": "ACCOUNT_DELETED"}, True),
        ({"event": "PARTNER_ADDED"}, False),
    ],
)
def test_an_account_that_meta_stops_holds_what_it_has_to_send(stored, number, update, held):
    waiting = MessageFactory(organization=number.organization, dispatch__phone_number=number)
    elsewhere = MessageFactory()
    stored(update, field="account_update")

    apply()

    assert (fresh(waiting.dispatch).held_at == NOW, fresh(elsewhere.dispatch).held_at) == (held, None)


def test_a_failure_that_concerns_everybody_holds_the_dispatch(stored, message):
    stored(status("wamid.A", "failed", data=callback_data(message.pk, 1), errors=[{"code": 131042}]))

    apply()

    assert (fresh(message).status, fresh(message.dispatch).hold_reason) == ("failed", "account")


def test_a_failure_that_meta_repeats_does_not_hold_again_what_was_repaired_and_resumed(stored, message):
    failure = status("wamid.A", "failed", data=callback_data(message.pk, 1), errors=[{"code": 131042}])
    stored(failure)
    apply()
    assert holding.release(message.dispatch_id, now=NOW)
    stored(failure)
    apply()

    assert (fresh(message).status, fresh(message.dispatch).held_at) == ("failed", None)


def test_a_refusal_of_marketing_counts_from_its_own_time_and_once(stored, message):
    def refuse(at, wamid, data=None):
        stored(status(wamid, "failed", at=at, data=data, errors=[{"code": 131050}]))
        apply()

    refuse(1795000031, "wamid.A", callback_data(message.pk, 1))
    assert fresh(message.contact).marketing_opted_out_at == at(1795000031)

    consent.resume_marketing([message.contact_id], at=at(1795000100))
    refuse(1795000031, "wamid.A", callback_data(message.pk, 1))
    assert fresh(message.contact).marketing_opted_out_at is None, "Meta repeats itself"

    later = MessageFactory(
        organization=message.organization,
        contact=message.contact,
        dispatch__phone_number=message.dispatch.phone_number,
        status="sent",
        due_at=None,
        wamid="wamid.B",
        attempt=1,
        accepted_at=at(1795000000),
    )
    refuse(1795000099, "wamid.B")
    assert (fresh(later).status, fresh(message.contact).marketing_opted_out_at) == ("failed", None), "said before"


def test_stops_of_one_person_in_one_batch_count_from_the_last(stored, message):
    MessageFactory(
        organization=message.organization,
        contact=message.contact,
        dispatch__phone_number=message.dispatch.phone_number,
        status="sent",
        due_at=None,
        wamid="wamid.B",
        attempt=1,
        accepted_at=at(1795000000),
    )
    stored(
        status("wamid.B", "failed", at=1795000090, errors=[{"code": 131050}]),
        status("wamid.A", "failed", at=1795000031, errors=[{"code": 131050}]),
    )

    apply()

    assert fresh(message.contact).marketing_opted_out_at == at(1795000090)


def test_applied_bodies_are_dropped_after_seven_days_and_troubled_ones_after_thirty(stored, number):
    stored(text("Hi"))
    Callback.objects.create(app=number.account.app, body=b"?", received_at=NOW)
    apply()
    waiting = stored(text("Not applied yet"))

    assert applying.drop_old(now=NOW + timedelta(days=7)) == 0
    assert applying.drop_old(now=NOW + timedelta(days=7, seconds=1)) == 1
    assert Callback.objects.exclude(pk=waiting.pk).get().problems is not None
    assert applying.drop_old(now=NOW + timedelta(days=30)) == 0
    assert applying.drop_old(now=NOW + timedelta(days=30, seconds=1)) == 1
    assert Callback.objects.get() == waiting


def test_the_clean_up_finds_what_is_old_by_its_indexes(db):
    """An index on problems=None held nothing: it asked for JSON's null."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {applying._DROP}", [NOW, 10, NOW, 10])
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "using callback_applied" in plan
    assert "using callback_troubled" in plan


def test_the_clean_up_finds_old_receipts_by_an_index(db):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        with CaptureQueriesContext(connection) as captured:
            receipts.drop_old(now=NOW)
        cursor.execute(f"EXPLAIN {captured[0]['sql']}")
        assert "unmatched_receipt_old" in "\n".join(line for (line,) in cursor.fetchall())


def test_no_partial_index_of_ours_asks_for_the_null_of_json(db):
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexname FROM pg_indexes WHERE schemaname = 'public' AND indexdef LIKE '%''null''%'")
        assert cursor.fetchall() == []


def test_a_callback_whose_process_died_is_applied_by_another(stored, message):
    stored(status("wamid.A", "read", data=callback_data(message.pk, 1)))
    Callback.objects.update(leased_until=NOW + timedelta(seconds=1))

    assert applying.apply_open(now=NOW) == 0
    assert applying.apply_open(now=NOW + timedelta(seconds=2)) == 1
    assert fresh(message).status == "read"


def test_thousands_of_statuses_cost_a_bounded_number_of_queries(stored, message, django_assert_max_num_queries):
    rows = [
        MessageFactory(
            organization=message.organization,
            dispatch=message.dispatch,
            template=message.template,
            due_at=None,
            status="sent",
        )
        for _ in range(60)
    ]
    for row in rows:
        stored(status(f"wamid.{row.pk}", "delivered", data=callback_data(row.pk, 0)))

    with django_assert_max_num_queries(20):
        applying.apply_open(now=NOW)

    assert Message.objects.filter(status="delivered").count() == 60
