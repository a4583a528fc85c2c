"""Stored callbacks applied again."""

import json
from datetime import UTC, datetime

import pytest
from django.core.management import call_command

from contacts.models import Contact
from kaanha.inbound import applying
from kaanha.inbound.models import Callback
from kaanha.lib.errors import Refusal
from kaanha.messaging.models import InboundMessage
from tests.factories import ContactFactory, PhoneNumberFactory
from tests.inbound.conftest import metadata, status, text

NOW = datetime.fromtimestamp(1795001000, UTC)

pytestmark = pytest.mark.django_db


@pytest.fixture
def replay(capsys):
    """replay("--problems") runs the command and answers what it says in JSON."""

    def act(*arguments):
        capsys.readouterr()
        call_command("replay_callbacks", *arguments, "--json")
        return json.loads(capsys.readouterr().out)

    return act


def apply():
    while applying.apply_open(now=NOW):
        pass


def problems(callback):
    return Callback.objects.get(pk=callback.pk).problems


def test_a_callback_for_a_number_that_was_connected_later_is_used_and_cleared(stored, number, replay):
    callback = stored(text("Hello", number_id="200000000000009"))
    apply()
    assert (len(problems(callback)), InboundMessage.objects.count()) == (1, 0)
    PhoneNumberFactory(organization=number.organization, account=number.account, phone_number_id="200000000000009")

    assert replay() == {"applied": 1, "cleared": [callback.pk], "troubled": {}}

    assert (problems(callback), InboundMessage.objects.get().text) == (None, "Hello")


def test_what_still_cannot_be_used_keeps_its_reason(stored, number, replay):
    callback = stored("nonsense")
    stored(text("Hello"))
    apply()
    reasons = problems(callback)

    assert replay() == {"applied": 1, "cleared": [], "troubled": {str(callback.pk): reasons}}
    assert problems(callback) == reasons


def test_a_replay_repeats_nothing_that_was_heard_before(stored, number, replay):
    callback = stored(text("STOP"), "nonsense")
    apply()
    Contact.objects.update(opted_in=True)

    replay("--id", str(callback.pk))

    assert InboundMessage.objects.count() == 1
    assert Contact.objects.get().opted_in is True


def test_an_old_wish_does_not_undo_a_newer_one(stored, number, replay):
    contact = ContactFactory(organization=number.organization, phone="+919800000077")

    def switch(value, at):
        one = {"wa_id": "919800000077", "category": "marketing_messages", "value": value, "timestamp": at}
        return metadata() | {"user_preferences": [one]}

    callback = stored(switch("stop", 1795000000), "nonsense", field="user_preferences")
    stored(switch("resume", 1795000010), field="user_preferences")
    apply()
    assert problems(callback)

    replay()

    contact.refresh_from_db()
    assert contact.marketing_opted_out_at is None


def test_a_wish_of_somebody_who_became_a_contact_later_is_heard_by_a_replay(stored, number, replay):
    one = {"wa_id": "919800000077", "category": "marketing_messages", "value": "stop", "timestamp": 1795000000}
    stored(metadata() | {"user_preferences": [one]}, "nonsense", field="user_preferences")
    apply()
    contact = ContactFactory(organization=number.organization, phone="+919800000077")

    replay()

    contact.refresh_from_db()
    assert contact.marketing_opted_out_at == datetime.fromtimestamp(1795000000, UTC)


def test_since_chooses_all_of_that_time_and_with_problems_only_the_troubled(stored, number, replay):
    stored(text("a"), received_at="2026-11-20T12:00Z")
    stored(text("b", wamid="wamid.IN2"), received_at="2026-11-23T12:00Z")
    stored("nonsense", received_at="2026-11-23T12:00Z")
    apply()

    assert replay("--since", "2026-11-23")["applied"] == 2
    assert replay("--since", "2026-11-23T12:01")["applied"] == 0
    assert replay("--since", "2026-11-20", "--problems")["applied"] == 1


def test_more_callbacks_than_one_batch_are_all_replayed(stored, number, replay, monkeypatch):
    monkeypatch.setattr("kaanha.inbound.replaying.BATCH", 2)
    for _ in range(5):
        stored("nonsense")
    apply()

    answer = replay()

    assert (answer["applied"], len(answer["troubled"])) == (5, 5)


@pytest.mark.parametrize(
    ("arguments", "words"), [(["--since", "soon"], "is no date"), (["--id", "7"], "no callback 7")]
)
def test_what_cannot_be_meant_is_refused(number, replay, arguments, words):
    with pytest.raises(Refusal, match=words):
        replay(*arguments)


def test_it_says_in_words_what_came_of_it(stored, number, capsys):
    callback = stored("nonsense", "more")
    apply()
    capsys.readouterr()

    call_command("replay_callbacks")

    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"Callback {callback.pk}: ")
    assert first.endswith("(and 1 more)")
    assert last == "Applied again: 1. Cleared: 0. Still with problems: 1."


def test_a_status_that_is_told_again_changes_no_number(stored, number, replay):
    stored(status("wamid.unknown", "sent"), "nonsense")
    apply()

    assert replay()["applied"] == 1
    assert replay()["applied"] == 1
