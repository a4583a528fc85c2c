"""*Test connection*: each fault is told as what it is, and the page that shows it."""

from datetime import UTC, datetime

import pytest
from django.utils import timezone

from kaanha.inbound.models import Callback
from kaanha.organizations.models import Role
from kaanha.whatsapp import checking
from kaanha.whatsapp.cloud_api.graph import Graph
from tests.factories import BusinessAccountFactory, MetaAppFactory, PhoneNumberFactory
from tests.people import signed_in, text

pytestmark = pytest.mark.django_db
TITLES = ["Access token", "WhatsApp account and app secret", "Phone numbers", "Subscription", "Callbacks"]


@pytest.fixture
def account():
    """The account that the simulator plays, with its first number."""
    app = MetaAppFactory(app_id="400000000000001")
    account = BusinessAccountFactory(waba_id="300000000000001", access_token="sim-access-token", app=app)
    PhoneNumberFactory(organization=account.organization, account=account, phone_number_id="200000000000001")
    return account


def wrong(account):
    return {answer.title: answer.sentence for answer in checking.check(account) if not answer.ok}


def test_what_works_is_said_to(account, cloud_api, monkeypatch):
    monkeypatch.setattr(
        Graph, "subscribed_apps", lambda *_: [{"whatsapp_business_api_data": {"id": "400000000000001"}}]
    )
    Callback.objects.create(app=account.app, body=b"{}", received_at=timezone.now())

    answers = checking.check(account)
    assert [(answer.title, answer.ok) for answer in answers] == [(title, True) for title in TITLES]


def test_the_last_callback_is_told_in_the_time_of_whoever_reads(account):
    at = datetime(2026, 3, 1, 20, 0, tzinfo=UTC)
    Callback.objects.create(app=account.app, body=b"{}", received_at=at)

    with timezone.override("Asia/Kolkata"):
        assert checking.callbacks(account).sentence == "The last one of the app came on 2 Mar 2026, 01:30 IST."


def test_each_fault_is_told_as_what_it_is(account, cloud_api, monkeypatch, settings):
    assert wrong(account)["Callbacks"].startswith("None has come in the last seven days.")

    monkeypatch.setattr(Graph, "subscribed_apps", lambda *_: [])
    assert "isn't subscribed" in wrong(account)["Subscription"]

    number = account.numbers.get()
    type(number).objects.filter(pk=number.pk).update(phone_number_id="200000000000999")
    assert f"Not of this account at Meta: {number}" in wrong(account)["Phone numbers"]

    valid = {"is_valid": True, "app_id": "400000000000001", "scopes": ["whatsapp_business_management"]}
    for said, words in (
        (valid, "lacks the permission whatsapp_business_messaging"),
        (valid | {"app_id": "7"}, "belongs to app 7"),
        (valid | {"is_valid": False}, "isn't valid"),
    ):
        monkeypatch.setattr(Graph, "token", lambda *_, said=said: said)
        found = wrong(account)
        assert words in found["Access token"]
        assert list(found) == ["Access token", "Callbacks"]
    monkeypatch.undo()

    account.access_token = "another"
    assert "doesn't accept the access token" in wrong(account)["Access token"]

    settings.WHATSAPP_API_URL = "http://127.0.0.1:1/v25.0"
    assert wrong(account)["Meta"].startswith("Meta can't be reached at http://127.0.0.1:1/v25.0")
    assert list(wrong(account)) == ["Meta", "Callbacks"]


def test_the_page_shows_what_to_enter_again_and_what_is_wrong(account, cloud_api):
    address = f"/admin/whatsapp/businessaccount/{account.pk}/set-up/"
    owner = signed_in(account.organization)

    page = owner.get(address)
    assert account.app.callback_url in text(page)
    assert account.app.verify_token in text(page)
    assert account.access_token not in page.content.decode()
    assert "None has come in the last seven days." in text(owner.post(address))
    for role in (Role.VIEWER, Role.AGENT):
        assert signed_in(account.organization, role).get(address).status_code == 403
