"""What Meta gets for an answer."""

import time

import pytest

from kaanha.inbound import addresses
from kaanha.inbound.models import Callback
from kaanha.whatsapp.cloud_api import signature
from kaanha.whatsapp.models import MetaApp
from tests.factories import MetaAppFactory


@pytest.fixture
def verify(client, number):
    def act(token, *, mode="subscribe", key=None):
        asked = {"hub.mode": mode, "hub.challenge": "1158201444", "hub.verify_token": token}
        return client.get(f"/callbacks/{key or number.account.app.callback_key}", asked)

    return act


def test_the_handshake_answers_the_bare_challenge(verify, number):
    answer = verify(number.account.app.verify_token)

    assert (answer.status_code, answer.content, answer["Content-Type"]) == (200, b"1158201444", "text/plain")


@pytest.mark.parametrize(("token", "mode"), [("wrong", "subscribe"), ("", "subscribe"), ("ü", "subscribe")])
def test_a_wrong_verify_token_is_refused(verify, token, mode):
    assert verify(token, mode=mode).status_code == 403


def test_the_handshake_of_another_mode_is_refused(verify, number):
    assert verify(number.account.app.verify_token, mode="unsubscribe").status_code == 403


def test_another_apps_verify_token_is_refused(verify):
    assert verify(MetaAppFactory().verify_token).status_code == 403


def test_an_unknown_address_is_not_found(verify, post):
    assert verify("x", key="nobody").status_code == 404
    assert post(b"{}", key="nobody").status_code == 404


def test_a_signed_body_is_stored_byte_for_byte(post, number):
    body = b'{"entry":[{"changes":[{"value":{"note":"Caf\\u00e9 a\\/b"}}]}]}'

    assert (post(body).status_code, post(body).status_code) == (200, 200)

    rows = Callback.objects.all()
    assert [(bytes(row.body), row.app_id, row.applied_at) for row in rows] == [(body, number.account.app_id, None)] * 2


@pytest.mark.parametrize("header", ["sha256=" + "0" * 64, "", "sha256=", "ü", "sha1=abc"])
def test_a_wrong_signature_is_refused_and_nothing_is_stored(post, header):
    assert post(b"{}", **{"x-hub-signature-256": header}).status_code == 401
    assert not Callback.objects.exists()


def test_a_signature_over_the_same_json_written_otherwise_is_refused(post):
    signed = signature.sign("sim_app_secret_0001", b'{"note": "Caf\xc3\xa9"}')

    assert post(b'{"note": "Caf\\u00e9"}', **{"x-hub-signature-256": signed}).status_code == 401


def test_another_apps_secret_is_refused(post):
    assert post(b"{}", secret="another").status_code == 401


def test_the_previous_secret_is_accepted_while_it_is_being_rotated(post, number):
    app = number.account.app
    app.secret, app.previous_secret = "new", "old"
    app.save()

    assert [post(b"{}", secret=secret).status_code for secret in ("new", "old")] == [200, 200]


def test_a_secret_that_is_new_counts_at_once_and_one_that_is_gone_five_seconds_later(post, number, monkeypatch):
    app = number.account.app
    post(b"{}")  # from now on the app is remembered
    MetaApp.objects.filter(pk=app.pk).update(secret="new")

    assert [post(b"{}", secret=secret).status_code for secret in ("new", "sim_app_secret_0001")] == [200, 401]

    MetaApp.objects.filter(pk=app.pk).update(secret="newest")
    assert post(b"{}", secret="new").status_code == 200
    clock = time.monotonic() + addresses.KEPT
    monkeypatch.setattr(addresses.time, "monotonic", lambda: clock)
    assert post(b"{}", secret="new").status_code == 401


def test_an_app_that_is_remembered_costs_one_statement(post, django_assert_num_queries):
    post(b"{}")

    with django_assert_num_queries(1):
        assert post(b"{}").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_an_app_that_is_gone_is_not_found(post, number):
    app = MetaAppFactory(secret="gone")
    assert post(b"{}", secret="gone", key=app.callback_key).status_code == 200
    Callback.objects.all().delete()
    app.delete()

    assert post(b"{}", secret="gone", key=app.callback_key).status_code == 404
    assert not Callback.objects.exists()


def test_the_short_way_says_what_every_answer_says(post, client, settings):
    answer = post(b"{}")

    assert (answer["Content-Length"], answer["X-Frame-Options"], answer["Cache-Control"]) == ("0", "DENY", "no-store")
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["X-Request-Id"]
    assert post(b"{}", host="elsewhere.example").status_code == 400
    assert [client.post(address).status_code for address in ("/callbacks/", "/callbacks/a/b")] == [404, 404]


def test_a_body_that_is_no_json_is_stored_and_answered_200(post):
    assert post(b"not json").status_code == 200
    assert Callback.objects.count() == 1


def test_metas_largest_body_is_taken_and_a_larger_one_refused(post):
    assert post(b" " * (3 * 1024 * 1024)).status_code == 200
    assert post(b" " * (3 * 1024 * 1024 + 1)).status_code == 413
    assert Callback.objects.count() == 1


def test_other_methods_are_refused(client, number):
    assert client.put(f"/callbacks/{number.account.app.callback_key}", b"{}").status_code == 405
