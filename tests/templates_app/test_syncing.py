"""Templates follow Meta's list and callbacks; a walk that breaks off changes nothing."""

import json
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from kaanha.lib.errors import Refusal
from kaanha.webhooks.models import Event
from kaanha.whatsapp.cloud_api.events import TemplateCategory, TemplateQuality, TemplateStatus
from kaanha.whatsapp.cloud_api.graph import Graph, Unreachable
from templates_app.models import MessageTemplate
from templates_app.syncing import Outcome, apply_category, apply_quality, apply_status, sync
from tests.factories import BusinessAccountFactory, OrganizationFactory, TemplateFactory

pytestmark = pytest.mark.django_db
Status = MessageTemplate.Status
BODY = {"type": "BODY", "text": "Hi {{1}}, welcome."}


@pytest.fixture
def account(cloud_api):
    return BusinessAccountFactory(
        waba_id=cloud_api.options.waba_id, access_token=cloud_api.options.access_token, organization__slug="shop"
    )


def row(name="sale", language="en_US", **more):
    """A template as Meta lists it."""
    return {
        "id": "600000000000001",
        "name": name,
        "language": language,
        "status": "APPROVED",
        "category": "MARKETING",
        "parameter_format": "POSITIONAL",
        "components": [BODY],
        "quality_score": {"score": "GREEN", "date": 1795000000},
        "rejected_reason": "NONE",
    } | more


@pytest.fixture
def listing(monkeypatch):
    """Meta's list, to be set by the test; an exception in it breaks the walk off there."""
    rows: list[Any] = []

    def templates(self, waba_id, *, name=None, told=None):
        for each in rows:
            if isinstance(each, Exception):
                raise each
            if name is None or name in str(each.get("name")):
                yield each

    monkeypatch.setattr(Graph, "templates", templates)
    return rows


def sync_now(account, **more):
    return sync(account, now=timezone.now(), **more)


# --- the walk ----------------------------------------------------------------------------------------------------


def test_the_simulated_account_is_imported_and_imported_again(account):
    first = sync_now(account)
    second = sync_now(account)

    count = MessageTemplate.objects.of(account.organization).count()
    assert first == Outcome(created=count, problems=first.problems)
    assert second == Outcome(unchanged=count, problems=first.problems)
    template = MessageTemplate.objects.get(name="autumn_sale", language="en_US")
    assert (template.category, template.status, template.quality, template.organization) == (
        "MARKETING",
        "APPROVED",
        "GREEN",
        account.organization,
    )
    assert template.components[0]["text"] == "Hi {{1}}, our autumn sale ends on {{2}}. Come and have a look."


def test_a_listed_template_is_stored_with_all_it_has(account, listing):
    listing.append(row(parameter_format="NAMED", status="REJECTED", rejected_reason="INVALID_FORMAT"))

    assert sync_now(account) == Outcome(created=1)

    template = MessageTemplate.objects.get()
    assert (template.meta_id, template.name, template.language) == ("600000000000001", "sale", "en_US")
    assert (template.parameter_format, template.status, template.rejected_reason) == (
        "NAMED",
        "REJECTED",
        "INVALID_FORMAT",
    )
    assert (template.quality, template.components) == ("GREEN", [BODY])


@pytest.mark.parametrize(
    "change",
    [
        {"id": "600000000000002"},
        {"status": "PAUSED"},
        {"category": "UTILITY"},
        {"parameter_format": "NAMED"},
        {"components": [{"type": "BODY", "text": "Other words."}]},
        {"quality_score": {"score": "RED"}},
        {"rejected_reason": "SCAM"},
    ],
)
def test_what_has_changed_is_updated(account, listing, change):
    listing.append(row())
    sync_now(account)
    listing[0] = row(**change)

    assert sync_now(account) == Outcome(updated=1)
    assert sync_now(account) == Outcome(unchanged=1)


def test_what_a_complete_walk_does_not_show_is_deleted_and_comes_back_when_it_does(account, listing):
    listing += [row(), row(language="hi", id="600000000000002")]
    sync_now(account)
    gone = listing.pop()

    assert sync_now(account) == Outcome(unchanged=1, deleted=1)
    assert MessageTemplate.objects.get(language="hi").status == Status.DELETED
    assert sync_now(account) == Outcome(unchanged=1)
    listing.append(gone)
    assert sync_now(account) == Outcome(unchanged=1, updated=1)
    assert MessageTemplate.objects.get(language="hi").status == Status.APPROVED


def test_a_walk_that_breaks_off_changes_nothing(account, listing):
    listing += [row(), row(language="hi", id="600000000000002")]
    sync_now(account)
    listing[:] = [row(status="PAUSED"), Unreachable("reset")]

    with pytest.raises(Refusal, match="Meta can't be reached") as refusal:
        sync_now(account)

    assert refusal.value.code == "meta_unreachable"
    assert set(MessageTemplate.objects.values_list("status", flat=True)) == {"APPROVED"}


def test_other_accounts_are_left_alone(account, listing):
    TemplateFactory(name="sale", language="en_US")

    assert sync_now(account) == Outcome()
    listing.append(row())
    assert sync_now(account) == Outcome(created=1)

    assert MessageTemplate.objects.exclude(account=account).get().status == Status.APPROVED


def test_one_name_is_brought_in_line_in_all_its_languages_and_nothing_else(account, listing):
    listing += [row(), row(language="hi"), row(name="sale_two")]
    sync_now(account)
    listing[:] = [row(status="PAUSED"), row(name="sale_two", status="PAUSED")]

    assert sync_now(account, name="sale") == Outcome(updated=1, deleted=1)

    found = dict(MessageTemplate.objects.values_list("name", "status").exclude(language="hi"))
    assert found == {"sale": "PAUSED", "sale_two": "APPROVED"}


def test_a_status_of_tomorrow_is_kept_and_is_not_sendable(account, listing):
    listing.append(row(status="PONDERED"))
    sync_now(account)

    template = MessageTemplate.objects.get()
    assert (template.status, template.sendable) == ("PONDERED", False)


@pytest.mark.parametrize(
    ("weird", "sentence"),
    [
        (row(language=None), "Template sale has no language: left out."),
        (row(name=7.5), "Template 600000000000001 has no name: left out."),
        ({}, "Template ? has no name: left out."),
    ],
)
def test_what_cannot_be_stored_is_told_and_costs_nothing_else(account, listing, weird, sentence):
    listing += [weird, row(name="other")]

    assert sync_now(account) == Outcome(created=1, problems=[sentence])


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"components": [BODY, {"type": "CAROUSEL", "cards": []}]}, "CAROUSEL"),
        ({"components": "none"}, "no body"),
        ({"components": [7, None]}, "no body"),
        ({"category": "CHITCHAT"}, "a category that Kaanha doesn't know: CHITCHAT"),
        ({"category": None}, "a category that Kaanha doesn't know: empty"),
    ],
)
def test_what_cannot_be_sent_is_stored_and_told(account, listing, more, problem):
    listing.append(row(**more))

    outcome = sync_now(account)

    assert outcome.created == 1
    assert problem in outcome.problems[0]


def test_text_that_a_database_refuses_is_stored_replaced(account, listing):
    listing.append(row(components=[{"type": "BODY", "text": "a\0b\ud800"}], rejected_reason="\0"))

    sync_now(account)

    assert MessageTemplate.objects.get().components[0]["text"] == "a\ufffdb\ufffd"


def test_a_status_that_a_callback_told_after_the_walk_began_stays(account, listing):
    listing.append(row())
    sync_now(account)
    began = timezone.now()
    apply_status(event("PAUSED", at=began + timedelta(seconds=5)))

    sync(account, now=began)

    assert MessageTemplate.objects.get().status == Status.PAUSED


# --- callbacks ---------------------------------------------------------------------------------------------------

NOON = timezone.now().replace(hour=12, minute=0, second=0, microsecond=0)


def event(name, *, at=NOON, meta_id="600000000000001", template="sale", language="en_US", waba_id=None, **said):
    waba_id = waba_id or "300000000000001"
    words = {"reason": "", "title": "", "detail": ""} | said
    return TemplateStatus(
        waba_id=waba_id, meta_id=meta_id, name=template, language=language, event=name, at=at, **words
    )


def test_a_language_is_kept_as_listed_for_messages_have_to_name_it_so(account, listing):
    listing.append(row(language="en-US"))
    sync_now(account)

    template = MessageTemplate.named(account.organization, "sale", "en_US")
    assert template.language == "en-US"

    apply_status(event("PAUSED", at=timezone.now() + timedelta(minutes=1), meta_id=""))
    assert status_of(template) == Status.PAUSED


@pytest.fixture
def template(account):
    return TemplateFactory(account=account, organization=account.organization, name="sale", meta_id="600000000000001")


def status_of(template):
    template.refresh_from_db()
    return template.status


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("PAUSED", "PAUSED"),
        ("DISABLED", "DISABLED"),
        ("REINSTATED", "APPROVED"),
        ("FLAGGED", "FLAGGED"),
        ("PONDERED", "PONDERED"),
    ],
)
def test_metas_decision_is_noted(template, name, status):
    MessageTemplate.objects.update(status="PENDING")

    assert apply_status(event(name)) == template
    assert status_of(template) == status


def told():
    """What customers' webhooks are told: name, status and status before."""
    events = Event.objects.filter(kind="template.status_changed").order_by("pk")
    return [(one.data["name"], one.data["previousStatus"], one.data["status"]) for one in events]


def test_customers_are_told_what_a_walk_has_changed_and_not_what_it_found(account, listing):
    listing.extend([row(name="kept"), row(name="paused"), row(name="gone")])
    sync(account, now=timezone.now())
    assert told() == []
    listing[:] = [row(name="kept"), row(name="paused", status="PAUSED"), row(name="new")]

    sync(account, now=timezone.now())

    assert sorted(told()) == [("gone", "APPROVED", "DELETED"), ("paused", "APPROVED", "PAUSED")]


def test_customers_are_told_metas_decision_once(template):
    for _ in range(2):
        apply_status(event("REJECTED"))

    noted = Event.objects.get()
    assert (noted.kind, noted.organization_id) == ("template.status_changed", template.organization_id)
    assert noted.data == {
        "templateId": template.public_id,
        "name": template.name,
        "language": "en_US",
        "category": "MARKETING",
        "status": "REJECTED",
        "previousStatus": template.status,
        "reason": MessageTemplate.objects.get().rejected_reason,
    }


def test_a_decision_told_twice_changes_something_once(template):
    assert apply_status(event("PAUSED")) == template
    assert apply_status(event("PAUSED")) is None


def test_an_older_decision_that_comes_later_changes_nothing(template):
    apply_status(event("APPROVED", at=NOON))

    assert apply_status(event("PAUSED", at=NOON - timedelta(seconds=2))) is None
    assert status_of(template) == Status.APPROVED


def test_the_reason_is_kept_in_metas_words_and_forgotten_afterward(template):
    apply_status(event("REJECTED", reason="INVALID_FORMAT", detail="Mend it."))
    template.refresh_from_db()
    assert template.rejected_reason == "INVALID_FORMAT · Mend it."

    apply_status(event("APPROVED", at=NOON + timedelta(hours=1)))
    template.refresh_from_db()
    assert template.rejected_reason == ""


def test_without_a_known_id_name_and_language_decide_and_the_id_is_learned(template):
    MessageTemplate.objects.update(meta_id="")

    assert apply_status(event("PAUSED", meta_id="600000000000009")) == template
    assert apply_status(event("PAUSED", meta_id="600000000000009", language="hi")) is None

    template.refresh_from_db()
    assert template.meta_id == "600000000000009"


def test_the_deletion_of_a_predecessor_does_not_touch_its_successor(template):
    assert apply_status(event("DELETED", meta_id="600000000000000")) is None
    assert status_of(template) == Status.APPROVED


def test_another_accounts_event_touches_nothing(template):
    assert apply_status(event("PAUSED", waba_id="300000000000002")) is None
    assert status_of(template) == Status.APPROVED


def category(current, *, coming=None, at=NOON):
    return TemplateCategory("300000000000001", "600000000000001", "sale", "en_US", current, coming, None, at)


def test_a_category_that_has_changed_is_noted_and_a_warning_is_not(template):
    assert apply_category(category("MARKETING", coming="UTILITY")) is None
    assert apply_category(category("UTILITY")) == template

    template.refresh_from_db()
    assert template.category == "UTILITY"


def test_quality_is_noted(template):
    quality = TemplateQuality("300000000000001", "600000000000001", "sale", "en_US", "RED", "GREEN", NOON)

    assert apply_quality(quality) == template
    assert apply_quality(quality) is None


@pytest.mark.parametrize(
    "apply", [lambda at: apply_category(category("UTILITY", at=at)), lambda at: apply_status(event("PAUSED", at=at))]
)
def test_what_happened_before_the_last_walk_changes_nothing(template, apply):
    MessageTemplate.objects.update(synced_at=NOON)

    assert apply(NOON - timedelta(seconds=1)) is None
    assert apply(NOON) == template


# --- the command -------------------------------------------------------------------------------------------------


def command(*argv):
    out = StringIO()
    call_command("sync_templates", *argv, stdout=out)
    return out.getvalue()


def test_the_command_answers_with_json(account, listing):
    listing += [row(), row(name="other", status="PAUSED"), {}]

    assert json.loads(command("shop", "--json")) == {
        "organization": "shop",
        "created": 2,
        "updated": 0,
        "unchanged": 0,
        "deleted": 0,
        "problems": ["Template ? has no name: left out."],
        "approved": 1,
    }


def test_the_command_tells_people(account, listing):
    listing.append(row())

    assert command("shop") == "1 created, 0 updated, 0 unchanged, 0 deleted. 1 can be sent.\n"


def test_a_name_that_meta_does_not_have_is_refused(account, listing):
    with pytest.raises(Refusal, match="Meta has no template 'spring'"):
        command("shop", "--name", "spring")


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_refused_rather_than_taken_for_all(account, listing, name):
    listing.append(row())

    with pytest.raises(Refusal, match="--name is empty"):
        command("shop", "--name", name)

    assert not MessageTemplate.objects.exists()


def test_an_organization_without_an_account_is_told_how_to_connect_one():
    OrganizationFactory(slug="empty")

    with pytest.raises(Refusal, match="connect_whatsapp empty"):
        command("empty")


def test_a_wrong_token_is_a_sentence(account):
    account.access_token = "another"
    account.save()

    with pytest.raises(Refusal, match="doesn't accept the access token") as refusal:
        command("shop")

    assert refusal.value.code == "token_invalid"
