"""Connecting asks Meta first and writes everything or nothing."""

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from kaanha.lib.errors import Refusal
from kaanha.whatsapp import connecting
from kaanha.whatsapp.cloud_api.graph import Graph
from kaanha.whatsapp.connecting import Credentials, connect
from kaanha.whatsapp.models import BusinessAccount, MetaApp, PhoneNumber, Portfolio
from tests.contacts.threads import at_once, meet_after
from tests.factories import BusinessAccountFactory, MetaAppFactory, OrganizationFactory, PhoneNumberFactory

pytestmark = pytest.mark.django_db
WABA, FIRST, SECOND = "300000000000001", "200000000000001", "200000000000002"


@pytest.fixture
def organization():
    return OrganizationFactory(slug="shop")


def credentials(**more):
    given = {
        "waba_id": WABA,
        "access_token": "sim-access-token",
        "app_id": "400000000000001",
        "app_secret": "sim_secret",
    }
    return Credentials(**given | more)


def rows():
    return [model.objects.count() for model in (MetaApp, Portfolio, BusinessAccount, PhoneNumber)]


def test_everything_that_meta_says_is_stored(organization, cloud_api, settings):
    settings.PUBLIC_URL = "https://kaanha.example.test"
    cloud_api.settings(throughput=80, messaging_limit=2000)

    connection = connect(organization, credentials())

    app = MetaApp.objects.get()
    assert connection.as_json() == {
        "organization": "shop",
        "appId": "400000000000001",
        "callbackUrl": f"https://kaanha.example.test/callbacks/{app.callback_key}",
        "verifyToken": app.verify_token,
        "wabaId": WABA,
        "phoneNumbers": [
            {"id": FIRST, "displayNumber": number(FIRST).display_number, "throughput": 80, "quality": "GREEN"},
            {"id": SECOND, "displayNumber": number(SECOND).display_number, "throughput": 80, "quality": "GREEN"},
        ],
        "messagingLimit": 2000,
        "warnings": [],
    }
    account = BusinessAccount.objects.get()
    assert (account.organization, account.name, account.access_token) == (
        organization,
        "Sample Business",
        "sim-access-token",
    )
    assert (account.portfolio.meta_id, account.portfolio.messaging_limit) == ("100000000000001", 2000)
    assert number(FIRST).verified_name == "Sample Business"
    assert number(FIRST).display_number.startswith("+")


def number(phone_number_id):
    return PhoneNumber.objects.get(phone_number_id=phone_number_id)


def test_the_app_is_subscribed(organization, cloud_api, monkeypatch):
    subscribed = []
    monkeypatch.setattr(Graph, "subscribe", lambda self, waba_id: subscribed.append(waba_id))

    connect(organization, credentials())

    assert subscribed == [WABA]


def test_only_the_numbers_asked_for_are_connected(organization, cloud_api):
    connect(organization, credentials(), phone_number_ids=[SECOND])

    assert [each.phone_number_id for each in PhoneNumber.objects.all()] == [SECOND]


@pytest.mark.parametrize(("switch", "expected"), [(80, 80), (1000, 1000), (None, 1000)])
def test_the_throughput_is_metas_level(organization, cloud_api, switch, expected):
    cloud_api.settings(throughput=switch)

    connect(organization, credentials())

    assert number(FIRST).throughput == expected


def test_a_throughput_of_ones_own_wins(organization, cloud_api):
    connect(organization, credentials(), throughput=20)

    assert number(FIRST).throughput == 20


def test_connecting_again_renews_the_token_and_duplicates_nothing(organization, cloud_api, monkeypatch):
    connect(organization, credentials())
    before = rows()
    cloud_api.options.access_token, old = "renewed-token", cloud_api.options.access_token
    try:
        connect(organization, credentials(access_token="renewed-token"))
    finally:
        cloud_api.options.access_token = old

    assert rows() == before == [1, 1, 1, 2]
    assert BusinessAccount.objects.get().access_token == "renewed-token"


def test_a_new_secret_keeps_the_old_one_beside_it(organization, cloud_api):
    first = connect(organization, credentials()).app
    second = connect(organization, credentials(app_secret="new_secret")).app
    third = connect(organization, credentials(app_secret="new_secret")).app

    assert (second.secret, second.previous_secret) == ("new_secret", "sim_secret")
    assert (third.secret, third.previous_secret) == ("new_secret", "sim_secret")
    assert third.callback_key == first.callback_key
    assert third.verify_token == first.verify_token


def test_a_verify_token_of_ones_own(organization, cloud_api):
    assert connect(organization, credentials(verify_token="mine")).app.verify_token == "mine"
    assert connect(organization, credentials()).app.verify_token == "mine"


def test_an_app_carries_accounts_of_two_organizations(organization, cloud_api):
    BusinessAccountFactory(app__app_id="400000000000001", app__secret="sim_secret")

    connect(organization, credentials())

    assert MetaApp.objects.get().accounts.count() == 2


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "options", "sentence"),
    [
        ({"access_token": "another"}, {}, "Meta doesn't accept the access token"),
        (
            {"waba_id": "300000000000009"},
            {},
            "WhatsApp account 300000000000009: Meta says that the phone number, account",
        ),
        (
            {},
            {"phone_number_ids": ["200000000000009"]},
            "Account 300000000000001 has no phone number 200000000000009; it has",
        ),
        ({}, {"phone_number_ids": ["+15555550100"]}, "is no phone number id"),
        ({}, {"throughput": 0}, "between 1 and 1000"),
        ({}, {"throughput": 5000}, "between 1 and 1000"),
        ({}, {"check": False}, "name one with --phone-number-id"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(organization, cloud_api, more, options, sentence):
    with pytest.raises(Refusal, match=sentence):
        connect(organization, credentials(**more), **options)

    assert rows() == [0, 0, 0, 0]


@pytest.mark.parametrize("name", ["waba_id", "app_id", "access_token", "app_secret"])
@pytest.mark.parametrize("value", ["", "a b", "a\nb", "tokén", "a/../b c"])
def test_credentials_that_are_none_are_refused(name, value):
    with pytest.raises(Refusal):
        credentials(**{name: value})


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("app_secret", "The app secret has 257 characters"), ("verify_token", "The verify token has 257 characters")],
)
def test_what_is_too_long_for_a_secret_is_refused(name, sentence):
    credentials(**{name: "x" * 256})

    with pytest.raises(Refusal, match=sentence):
        credentials(**{name: "x" * 257})


def test_meta_out_of_reach_is_a_sentence(organization, settings):
    settings.WHATSAPP_API_URL = "http://127.0.0.1:1/v25.0"

    with pytest.raises(Refusal, match=r"Meta can't be reached at http://127\.0\.0\.1:1/v25\.0") as refusal:
        connect(organization, credentials())

    assert (refusal.value.code, rows()) == ("meta_unreachable", [0, 0, 0, 0])


def test_an_account_of_another_organization_is_refused(organization, cloud_api):
    BusinessAccountFactory(waba_id=WABA, access_token="theirs")

    with pytest.raises(Refusal, match="connected to another organization") as refusal:
        connect(organization, credentials())

    assert refusal.value.code == "account_taken"
    assert BusinessAccount.objects.get().access_token == "theirs"


@pytest.mark.parametrize("known", [True, False], ids=["app known", "app new"])
@pytest.mark.django_db(transaction=True)
def test_of_two_organizations_that_connect_one_account_at_once_one_gets_it(monkeypatch, known):
    """The other gets a sentence. Without the second look under the lock, it took the account from the first."""
    if known:
        MetaAppFactory(app_id="400000000000001", secret="sim_secret")
    shops = [OrganizationFactory(), OrganizationFactory()]
    found = connecting.Found(numbers={FIRST: {}})
    monkeypatch.setattr(connecting, "_ask", lambda *_: found)
    meet_after(monkeypatch, (connecting, "_refuse_foreign"))

    def take(shop):
        try:
            return connect(shop, credentials()).account.organization_id
        except Refusal as refusal:
            return str(refusal)

    results = at_once(*(lambda shop=shop: take(shop) for shop in shops))
    account = BusinessAccount.objects.get()
    assert sorted(map(str, results)) == sorted(
        [str(account.organization_id), f"WhatsApp account {WABA} is connected to another organization."]
    )
    assert PhoneNumber.objects.get().organization_id == account.organization_id


@pytest.mark.parametrize("wanted", [[], [SECOND]])
def test_a_number_of_another_organization_is_refused(organization, cloud_api, wanted):
    PhoneNumberFactory(phone_number_id=SECOND)
    before = rows()

    with pytest.raises(Refusal, match=f"Phone number {SECOND} is connected to another organization"):
        connect(organization, credentials(), phone_number_ids=wanted)

    assert rows() == before


# --- a stand-in for Meta that knows less -------------------------------------------------------------------------


@pytest.fixture
def stand_in(settings):
    """A server that answers every management call as the test sets it."""
    answers: dict[str, Any] = {"status": 404, "body": b"Not Found"}

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            self.send_response(answers["status"])
            self.send_header("Content-Length", str(len(answers["body"])))
            self.end_headers()
            self.wfile.write(answers["body"])

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    settings.WHATSAPP_API_URL = f"http://127.0.0.1:{server.server_port}"
    yield answers
    server.shutdown()
    thread.join()
    server.server_close()


def test_missing_endpoints_are_warnings(organization, stand_in):
    connection = connect(organization, credentials(), phone_number_ids=[FIRST])

    assert len(connection.warnings) == 5
    assert connection.warnings[0].startswith("Nothing learned about the account's name: HTTP 404")
    assert connection.warnings[-1].startswith("The messaging limit is unknown")
    assert (number(FIRST).display_number, number(FIRST).throughput, number(FIRST).quality) == (FIRST, 80, "UNKNOWN")


def test_without_a_list_the_numbers_have_to_be_named(organization, stand_in):
    with pytest.raises(Refusal, match="name one with --phone-number-id"):
        connect(organization, credentials())

    assert rows() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (401, b"no", "token_invalid"),
        (401, b'{"error":{"code":190,"type":"OAuthException","message":"Expired"}}', "token_invalid"),
        (403, b"<html>Forbidden</html>", "not_meta"),
        (200, b"<html>Welcome</html>", "not_meta"),
        (302, b"", "not_meta"),
        (400, b'{"error":{"code":10,"type":"OAuthException","message":"No permission"}}', "refused_by_meta"),
    ],
)
def test_other_answers_are_refusals(organization, stand_in, status, body, code):
    stand_in |= {"status": status, "body": body}

    with pytest.raises(Refusal) as refusal:
        connect(organization, credentials(), phone_number_ids=[FIRST])

    assert (refusal.value.code, rows()) == (code, [0, 0, 0, 0])


def test_unchecked_meta_is_not_asked(organization, settings):
    settings.WHATSAPP_API_URL = "http://127.0.0.1:1"

    connection = connect(organization, credentials(), phone_number_ids=[FIRST], check=False)

    assert [each.phone_number_id for each in connection.numbers] == [FIRST]


def test_a_subscription_that_meta_refuses_is_a_warning(organization, cloud_api, monkeypatch):
    cloud_api.settings(messaging_limit=250)
    from kaanha.whatsapp.cloud_api.errors import classify
    from kaanha.whatsapp.cloud_api.graph import GraphError

    def refuse(self, waba_id):
        raise GraphError(classify({"code": 200, "message": "No"}), http_status=403)

    monkeypatch.setattr(Graph, "subscribe", refuse)

    [warning] = connect(organization, credentials()).warnings

    assert warning.startswith("Meta doesn't subscribe the app to this account, so no callback will come: ")


# --- the command -------------------------------------------------------------------------------------------------

ARGUMENTS = ["shop", "--waba-id", WABA, "--app-id", "400000000000001"]


def command(*argv):
    out, err = StringIO(), StringIO()
    call_command("connect_whatsapp", *argv, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_the_command_prints_what_meta_wants_to_know(organization, cloud_api):
    out, err = command(*ARGUMENTS, "--access-token", "sim-access-token", "--app-secret", "s")

    app = MetaApp.objects.get()
    assert f"Callback URL: {app.callback_url}\n" in out
    assert f"Verify token: {app.verify_token}\n" in out
    assert ("sim-access-token" in out + err) is False


def test_secrets_come_from_stdin_or_the_environment(organization, cloud_api, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("sim-access-token\n"))
    monkeypatch.setenv("WHATSAPP_APP_SECRET", "from-the-environment")

    answer = json.loads(command(*ARGUMENTS, "--access-token", "-", "--json")[0])

    assert [each["id"] for each in answer["phoneNumbers"]] == [FIRST, SECOND]
    assert MetaApp.objects.get().secret == "from-the-environment"


def test_a_missing_token_is_told(organization, monkeypatch):
    monkeypatch.delenv("WHATSAPP_ACCESS_TOKEN", raising=False)

    with pytest.raises(
        Refusal, match="There is no access token: give it with --access-token or in WHATSAPP_ACCESS_TOKEN"
    ):
        command(*ARGUMENTS, "--app-secret", "s")


def test_an_unknown_organization_is_told_with_the_known_ones(organization):
    with pytest.raises(Refusal, match=r"no organization 'shoop' \(there are: shop\)"):
        command("shoop", *ARGUMENTS[1:], "--access-token", "x", "--app-secret", "s")
