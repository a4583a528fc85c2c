"""What Meta gets for an answer."""

import pytest

from kaanha.inbound.models import Callback
from kaanha.whatsapp.cloud_api import signature
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


def test_a_body_that_is_no_json_is_stored_and_answered_200(post):
    assert post(b"not json").status_code == 200
    assert Callback.objects.count() == 1


def test_metas_largest_body_is_taken_and_a_larger_one_refused(post):
    assert post(b" " * (3 * 1024 * 1024)).status_code == 200
    assert post(b" " * (3 * 1024 * 1024 + 1)).status_code == 413
    assert Callback.objects.count() == 1


def test_other_methods_are_refused(client, number):
    assert client.put(f"/callbacks/{number.account.app.callback_key}", b"{}").status_code == 405
