"""Callbacks past Django: what goes this way, what goes on to the view, and what is written together."""

import threading

import pytest
from django.db import OperationalError
from django.test import RequestFactory
from django.test.client import ClientHandler

from kaanha.inbound import short_way, waking
from kaanha.inbound.models import Callback
from kaanha.inbound.short_way import ShortWay, Storing
from kaanha.whatsapp.cloud_api import signature
from kaanha.whatsapp.models import MetaApp

pytestmark = pytest.mark.django_db(transaction=True)  # each group of bodies is committed


class Server:
    """Asks the short way, and counts what it leaves to Django."""

    def __init__(self):
        self.application = ShortWay(self._long)
        self.long = 0

    def _long(self, environ, start_response):
        self.long += 1
        response = ClientHandler()(environ)
        start_response(f"{response.status_code} {response.reason_phrase}", list(response.headers.items()))
        return [response.content]

    def post(self, key, body, *, secret="sim_app_secret_0001", **environ):
        signed = {"HTTP_X_HUB_SIGNATURE_256": signature.sign(secret, body)}
        request = RequestFactory().post(f"/callbacks/{key}", body, "application/json", **signed | environ)
        said = []
        answer = self.application(request.environ, lambda status, headers: said.append((status, dict(headers))))
        ((status, self.headers),) = said
        return status, b"".join(answer)


@pytest.fixture
def key(number):
    return number.account.app.callback_key


@pytest.fixture
def server(key):
    """One that has been asked before and remembers the app."""
    server = Server()
    assert server.post(key, b"{}") == ("200 OK", b"")
    assert server.long == 1
    Callback.objects.all().delete()
    return server


def test_a_signed_body_is_stored_byte_for_byte_without_django(server, key, number, monkeypatch):
    body = b'{"entry":[{"changes":[{"value":{"note":"Caf\\u00e9 \xf0\x9f\x99\x82 a\\/b"}}]}]}'

    woken = []
    monkeypatch.setattr(waking, "wake", lambda: woken.append(True))

    assert server.post(key, body) == ("200 OK", b"")

    assert woken == [True]
    assert (server.long, server.headers) == (1, {"Content-Type": "text/plain", "Content-Length": "0"})
    stored = Callback.objects.get()
    assert (bytes(stored.body), stored.app_id, stored.applied_at) == (body, number.account.app_id, None)


def test_it_costs_one_statement(server, key, django_assert_num_queries):
    with django_assert_num_queries(1):
        server.post(key, b"{}")


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({"HTTP_X_HUB_SIGNATURE_256": "sha256=" + "0" * 64}, "401 Unauthorized"),
        ({"HTTP_X_HUB_SIGNATURE_256": "ü"}, "401 Unauthorized"),
        ({"HTTP_X_HUB_SIGNATURE_256": ""}, "401 Unauthorized"),
        ({"CONTENT_LENGTH": str(3 * 1024 * 1024 + 1)}, "413 Request Entity Too Large"),
        ({"CONTENT_LENGTH": ""}, "401 Unauthorized"),
        ({"CONTENT_LENGTH": "-1"}, "401 Unauthorized"),
        ({"REQUEST_METHOD": "PUT"}, "405 Method Not Allowed"),
        ({"PATH_INFO": "/callbacks/nobody"}, "404 Not Found"),
        ({"PATH_INFO": "/callbacks/"}, "404 Not Found"),
        ({"HTTP_HOST": "elsewhere.example", "PATH_INFO": "/callbacks/nobody"}, "400 Bad Request"),
    ],
)
def test_what_is_wrong_is_said_by_the_view(server, key, environ, status):
    assert server.post(key, b"{}", **environ)[0] == status
    assert server.long == 2
    assert not Callback.objects.exists()


def test_a_new_secret_counts_at_once_by_the_long_way(server, key, number):
    MetaApp.objects.filter(pk=number.account.app_id).update(secret="new")

    assert server.post(key, b'{"a": 1}', secret="new") == ("200 OK", b"")
    assert (server.long, bytes(Callback.objects.get().body)) == (2, b'{"a": 1}')
    assert server.post(key, b"{}", secret="new") == ("200 OK", b"")
    assert server.long == 2


def test_where_the_database_is_in_trouble_the_long_way_is_tried_with_the_same_body(server, key, monkeypatch):
    def fail(_):
        monkeypatch.undo()
        raise OperationalError("terminating connection due to administrator command")

    monkeypatch.setattr(Callback, "store_many", fail)

    assert server.post(key, b'{"a": 1}') == ("200 OK", b"")
    assert (server.long, bytes(Callback.objects.get().body)) == (2, b'{"a": 1}')


def in_threads(storing, bodies):
    """Begin to store each body in a thread of its own; returns them, and where their results will be."""
    results = {}

    def store(body):
        results[body] = storing.store(1, body)

    threads = [threading.Thread(target=store, args=[body]) for body in bodies]
    for thread in threads:
        thread.start()
    return threads, results


def test_what_comes_while_others_are_written_is_written_together(monkeypatch):
    storing, written, go_on = Storing(), [], threading.Semaphore(0)

    def write(bodies):
        written.append(sorted(body for _, body, _ in bodies))
        go_on.acquire()

    monkeypatch.setattr(Callback, "store_many", write)
    first, results = in_threads(storing, [b"first"])
    while not written:
        pass
    rest, more = in_threads(storing, [b"1", b"2", b"3"])
    while len(storing._waiting) < 3:
        pass
    go_on.release(2)
    for thread in (*first, *rest):
        thread.join()

    assert written == [[b"first"], [b"1", b"2", b"3"]]
    assert results | more == dict.fromkeys([b"first", b"1", b"2", b"3"], True)


def test_nobody_is_told_of_a_commit_that_failed(monkeypatch):
    storing, go_on = Storing(), threading.Event()

    def fail(bodies):
        go_on.wait()
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(Callback, "store_many", fail)
    threads, results = in_threads(storing, [b"1", b"2", b"3"])
    go_on.set()
    for thread in threads:
        thread.join()

    assert results == dict.fromkeys([b"1", b"2", b"3"], False)


def test_nobody_waits_for_long_behind_others(monkeypatch):
    """Their app may be locked, and their bodies wait for it: whoever goes the long way meets it alone."""
    storing, go_on, written = Storing(), threading.Event(), []

    def write(bodies):
        written.append([body for _, body, _ in bodies])
        go_on.wait()

    monkeypatch.setattr(Callback, "store_many", write)
    monkeypatch.setattr(short_way, "PATIENCE", 0.05)
    threads, results = in_threads(storing, [b"first"])
    while not written:
        pass

    assert storing.store(1, b"second") is False
    go_on.set()
    for thread in threads:
        thread.join()
    assert storing.store(1, b"third") is True
    assert (written, results) == ([[b"first"], [b"third"]], {b"first": True})
