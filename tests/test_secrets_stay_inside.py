"""Tokens, secrets and keys: in no page, no answer of the API and no line of a log, whatever is done with them."""

import logging
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.utils import timezone
from django.views.debug import ExceptionReporter

from kaanha.lib.errors import Refusal
from kaanha.messaging import sending
from kaanha.messaging.models import Message, Status
from kaanha.organizations.models import APIKey, Membership
from kaanha.webhooks import delivering
from kaanha.webhooks.models import Delivery, Endpoint, Event
from kaanha.whatsapp.asking import graph
from kaanha.whatsapp.cloud_api.graph import GraphError, Unreachable
from kaanha.whatsapp.connecting import Credentials
from kaanha.whatsapp.models import BusinessAccount, MetaApp, PhoneNumber
from templates_app import syncing
from tests.admin_pages import pages
from tests.callers import Caller
from tests.factories import (
    DispatchFactory,
    EndpointFactory,
    MessageFactory,
    OrganizationFactory,
    PhoneNumberFactory,
    TemplateFactory,
    UserFactory,
)
from tests.people import signed_in, superuser
from tests.receivers import Receiver, answer
from tests.test_admin import OWNED, row_of
from tests.test_settings import check

TOKEN, APP, PREVIOUS, VERIFY, HOOK, PASSWORD = (
    f"hush-{name}" for name in ("token", "app-secret", "previous", "verify", "whsec", "password")
)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
NOWHERE = "http://127.0.0.1:1/v25.0"
WABA, NUMBER = "300000000000001", "200000000000001"
LISTS = ("status", "contacts", "tags", "sequences", "enrollments", "broadcasts", "templates", "messages", "webhooks")


@pytest.fixture
def heard(caplog):
    """heard() is everything that was logged until now, at the lowest level."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, logger="factory")  # the tests' own
    for name in ("aiohttp", "urllib3", "requests", "celery", "django", "kaanha"):
        caplog.set_level(logging.DEBUG, logger=name)
    return lambda: caplog.text


def told(text, *secrets):
    """Which of the secrets are in it."""
    return [one for one in (TOKEN, APP, PREVIOUS, VERIFY, HOOK, PASSWORD, *secrets) if one in text]


def shop(**number_columns):
    """An organization whose every secret is known to the test, and its number."""
    number = PhoneNumberFactory(
        **number_columns,
        account__access_token=TOKEN,
        account__app__secret=APP,
        account__app__previous_secret=PREVIOUS,
        account__app__verify_token=VERIFY,
    )
    return number.organization, number


def greet(number):
    """A message that the simulated Meta takes."""
    owner = number.organization
    template = TemplateFactory(
        organization=owner,
        account=number.account,
        name="new_arrivals",
        language=f"en_US{Message.objects.count() or ''}",
        parameter_format="NAMED",
        components=[{"type": "BODY", "text": "Hi {{first_name}}, new things are in."}],
    )
    variables = {"body.first_name": {"field": "first_name"}}
    dispatch = DispatchFactory(organization=owner, phone_number=number, variables=variables)
    MessageFactory(organization=owner, dispatch=dispatch, template=template)


def said_by(act):
    """How it ended, in words."""
    try:
        return act()
    except (GraphError, Unreachable, Refusal) as error:
        return f"{error!r} {error}"


@pytest.mark.django_db
def test_no_page_and_no_answer_shows_a_secret():
    organization, _ = shop()
    EndpointFactory(organization=organization, secret=HOOK)
    caller = Caller(organization, role="owner")
    rows = {
        model: row_of(model, organization) for model in set(OWNED) - {BusinessAccount, PhoneNumber, Endpoint, APIKey}
    }
    rows |= {model: model.objects.first() for model in (BusinessAccount, PhoneNumber, Endpoint, APIKey, MetaApp)}
    named = {f"{model._meta.app_label}_{model._meta.model_name}": row for model, row in rows.items()}

    root, seen = superuser(), 0
    for address in pages(named).values():
        if "logout" not in address:
            page = root.get(address, follow=True)
            seen += page.status_code == 200
            shown = page.getvalue().decode()
            if "/set-up" in address:  # what has to be entered at Meta, and nothing else
                shown = shown.replace(VERIFY, "")
            assert told(shown, caller.text, caller.key.digest) == [], address
    for name in LISTS:
        assert told(caller.get(f"/api/{name}").content.decode(), caller.text, caller.key.digest) == [], name
    assert seen > 120
    assert Membership.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_no_line_of_a_log_has_the_token_of_a_send_or_of_a_question_to_meta(cloud_api, settings, heard, monkeypatch):
    _, number = shop(phone_number_id=NUMBER, account__waba_id=WABA)
    for token, url in ((TOKEN, cloud_api.url), ("another", cloud_api.url), (TOKEN, NOWHERE)):
        # Put back at the end: the simulator is there for all tests of the run.
        monkeypatch.setattr(cloud_api.options, "access_token", token)
        settings.WHATSAPP_API_URL = url
        greet(number)
        sending.send_slice(number.pk, until=timezone.now() + timedelta(seconds=5))
        sending.stop()
        asked = [said_by(lambda: graph(TOKEN).account(WABA)), said_by(lambda: syncing.sync(number.account, now=NOW))]
        assert told(str(asked)) == []
    assert [row.status for row in Message.objects.order_by("pk")] == [Status.SENT, Status.QUEUED, Status.QUEUED]
    assert told(str(list(Message.objects.values()))) == []

    assert "127.0.0.1" in heard()
    assert told(heard()) == []


@pytest.mark.django_db
def test_no_line_of_a_log_has_what_somebody_typed_or_sent(cloud_api, heard):
    organization, number = shop()
    owner, caller = signed_in(organization), Caller(organization)
    user = UserFactory(is_staff=True)
    typed = {"waba_id": WABA, "app_id": number.account.app.app_id, "app_secret": APP, "access_token": TOKEN}

    refused = owner.post("/admin/whatsapp/businessaccount/add/", typed)
    Client().post("/admin/login/", {"username": user.email, "password": PASSWORD})
    APIKey.objects.filter(pk=caller.key.pk).update(revoked_at=timezone.now())
    unauthorized = caller.get("/api/status")
    address = f"/callbacks/{number.account.app.callback_key}"
    Client().get(address, {"hub.mode": "subscribe", "hub.verify_token": f"{VERIFY}x", "hub.challenge": "1"})
    forged = Client().post(address, b"{}", content_type="application/json", headers={"X-Hub-Signature-256": "sha256=0"})

    assert told(refused.content.decode()) == []
    assert (unauthorized.status_code, forged.status_code) == (401, 401)
    assert "bad signature" in heard()
    assert told(heard(), caller.text) == []


@pytest.mark.django_db(transaction=True)
def test_no_line_of_a_log_and_no_attempt_has_the_secret_of_a_webhook(settings, heard):
    settings.WEBHOOKS_ALLOW_LOOPBACK = True
    organization = OrganizationFactory()
    now = timezone.now()
    with Receiver([answer(200), answer(500), b"nonsense"]) as here:
        EndpointFactory(organization=organization, secret=HOOK, url=here.url)
        EndpointFactory(organization=organization, secret=HOOK, url="http://127.0.0.1:1/hooks")
        for name in "abc":
            Event.record(organization, "broadcast.completed", {"name": name}, at=now)
            delivering.sweep(until=timezone.now() + delivering.SLICE, drain=True)
        bodies = b"".join(request.body for request in here.requests).decode()
        headers = str([request.headers for request in here.requests])

    assert here.requests
    assert told(bodies + headers) == []
    assert told(str([*Delivery.objects.values(), *Event.objects.values()])) == []
    assert told(heard()) == []


def test_what_is_printed_of_credentials_has_no_secret():
    said = repr(Credentials(waba_id="1", access_token=TOKEN, app_id="2", app_secret=APP, verify_token=VERIFY))

    assert told(said) == []
    assert "app_id='2'" in said


def test_error_pages_of_development_show_no_password(settings, rf):
    settings.DEBUG = True
    settings.REDIS_URL = settings.CELERY_BROKER_URL = f"redis://:{PASSWORD}@127.0.0.1/0"
    settings.DATABASES["default"] = {**settings.DATABASES["default"], "PASSWORD": PASSWORD}
    settings.ENCRYPTION_KEYS, settings.SECRET_KEY = [APP], TOKEN
    request = rf.get("/", DATABASE_URL=f"postgresql://kaanha:{PASSWORD}@127.0.0.1/kaanha")
    try:
        raise ValueError("sample")
    except ValueError as error:
        reporter = ExceptionReporter(request, ValueError, error, error.__traceback__.tb_next)
        page = reporter.get_traceback_html() + reporter.get_traceback_text()

    assert "REDIS_URL" in page
    assert told(page) == []


def test_production_has_no_such_pages():
    assert check(DEBUG="true").stderr.startswith("DEBUG shows everybody who meets an error")
