"""Meta's management calls: lists are walked to their end, trouble is told by its kind."""

import json
import threading
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from requests import Response

from kaanha.simulator import Simulator
from kaanha.whatsapp.cloud_api import graph as module
from kaanha.whatsapp.cloud_api.errors import ErrorClass
from kaanha.whatsapp.cloud_api.graph import ForeignAnswer, Graph, GraphError, Unreachable

WABA = "300000000000001"
TRANSIENT = (500, {"error": {"message": "(#131016) Down", "type": "OAuthException", "code": 131016}})
INVALID_TOKEN = (401, {"error": {"message": "Expired", "type": "OAuthException", "code": 190}})


@contextmanager
def serving(*answers):
    """A server that gives these answers, (status, body), one after the other; yields its address and the requests."""
    left, requests = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            length = int(self.headers.get("Content-Length") or 0)
            requests.append(f"{self.command} {self.path} {self.rfile.read(length).decode()}".strip())
            status, body = left.pop(0)
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v25.0", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def graph(url, token="token"):
    return Graph(url, token, pause=lambda seconds: None)


def page(*names, after=None, **paging):
    following = {"paging": {"cursors": {"after": after}, "next": "http://127.0.0.1:1/elsewhere"}} if after else {}
    return 200, {"data": [{"name": name} for name in names], **following, **paging}


def test_a_list_goes_on_over_short_and_empty_pages_until_there_is_no_next():
    with serving(page("a", after="X"), page(after="Y"), page("b", "c")) as (url, requests):
        assert [row["name"] for row in graph(url).templates(WABA)] == ["a", "b", "c"]

    # The cursor is followed at our own address, not at the one that the page names.
    assert [request.rpartition("limit=100")[2] for request in requests] == ["", "&after=X", "&after=Y"]
    assert all(request.startswith(f"GET /v25.0/{WABA}/message_templates?") for request in requests)


def test_a_cursor_without_a_next_is_the_end():
    with serving((200, {"data": [{"name": "a"}], "paging": {"cursors": {"after": "X"}}})) as (url, _):
        assert len(list(graph(url).templates(WABA))) == 1


@pytest.mark.parametrize(
    "answer",
    [
        (200, {"paging": {}}),
        (200, {"data": {}}),
        (200, {"data": [], "paging": {"next": "http://x"}}),
        (200, {"data": [], "paging": {"next": "http://x", "cursors": {"after": 7}}}),
    ],
)
def test_a_list_that_cannot_be_followed_breaks_off(answer):
    with serving(page("a", after="X"), answer) as (url, _), pytest.raises(Unreachable):
        list(graph(url).templates(WABA))


def test_a_list_that_turns_in_a_circle_breaks_off():
    with (
        serving(page("a", after="X"), page("b", after="X")) as (url, _),
        pytest.raises(Unreachable, match="doesn't end"),
    ):
        list(graph(url).templates(WABA))


def test_reading_is_tried_again_while_trouble_may_pass():
    with serving(TRANSIENT, (503, b"busy"), (200, {"id": "1"})) as (url, requests):
        assert graph(url).get_phone_number("1") == {"id": "1"}

    assert len(requests) == 3


def test_reading_is_tried_three_times_at_most():
    with serving(TRANSIENT, TRANSIENT, TRANSIENT) as (url, requests), pytest.raises(GraphError) as error:
        graph(url).get_phone_number("1")

    assert (error.value.verdict.code, error.value.http_status, len(requests)) == (131016, 500, 3)


@pytest.mark.parametrize("answer", [TRANSIENT, (500, b"<html>oops</html>"), (503, b"busy")])
def test_what_changes_something_is_asked_for_once(answer):
    with serving(answer) as (url, requests), pytest.raises((GraphError, Unreachable)):
        graph(url).create_template(WABA, {"name": "x"})

    assert len(requests) == 1


def test_a_refusal_is_not_repeated():
    with serving(INVALID_TOKEN) as (url, requests), pytest.raises(GraphError, match="Meta says: Expired") as error:
        graph(url).get_phone_number("1")

    assert (error.value.verdict.error_class, len(requests)) == (ErrorClass.ACCOUNT, 1)


@pytest.mark.parametrize(
    "answer",
    [(404, b"<html>Not Found</html>"), (401, b""), (302, b""), (200, b"<html>hi</html>"), (200, []), (501, b"oops")],
)
def test_what_is_not_metas_answer_is_told_apart(answer):
    with serving(answer) as (url, _), pytest.raises(ForeignAnswer) as error:
        graph(url).get_phone_number("1")

    assert error.value.status == answer[0]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v25.0", "http://nowhere.invalid", "nonsense", "http://[bad"])
def test_an_address_at_which_nobody_answers(url):
    with pytest.raises(Unreachable):
        graph(url).get_phone_number("1")


def test_a_token_that_cannot_be_sent():
    with pytest.raises(Unreachable, match="the access token holds characters") as error:
        graph("http://127.0.0.1:1", "to\nken").get_phone_number("1")

    assert "ken" not in str(error.value).replace("token", "")


def test_no_proxy_is_taken_from_the_environment(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    with serving((200, {"id": "1"})) as (url, _):
        assert graph(url).get_phone_number("1") == {"id": "1"}


def test_an_account_whose_owner_the_token_may_not_see():
    refused = (400, {"error": {"message": "(#100) Tried accessing nonexisting field", "type": "X", "code": 100}})

    with serving(refused, (200, {"id": WABA, "name": "Sample"})) as (url, _):
        assert graph(url).account(WABA) == {"id": WABA, "name": "Sample"}


def test_deleting_one_language_and_all():
    with serving((200, {"success": True}), (200, {"success": True})) as (url, requests):
        graph(url).delete_template(WABA, "x")
        graph(url).delete_template(WABA, "x", template_id="6")

    assert requests == [
        f"DELETE /v25.0/{WABA}/message_templates?name=x",
        f"DELETE /v25.0/{WABA}/message_templates?name=x&hsm_id=6",
    ]


@pytest.fixture(scope="module")
def meta():
    with Simulator(empty_page=True) as simulator:
        yield simulator


def test_the_simulated_account(meta):
    client = graph(meta.url, meta.options.access_token)

    assert client.account(WABA)["owner_business_info"]["id"] == "100000000000001"
    assert [number["id"] for number in client.phone_numbers(WABA)] == ["200000000000001", "200000000000002"]
    assert client.get_phone_number("200000000000001")["throughput"] == {"level": "HIGH"}
    client.subscribe(WABA)


def test_the_simulated_templates_over_an_empty_page(meta):
    client = graph(meta.url, meta.options.access_token)
    listed = list(client.templates(WABA))

    assert {"autumn_sale", "order_update"} <= {row["name"] for row in listed}
    assert client.template(listed[0]["id"])["name"] == listed[0]["name"]
    assert {row["name"] for row in client.templates(WABA, name="autumn_sale_image")} == {"autumn_sale_image"}


def test_a_simulated_template_comes_and_goes(meta):
    client = graph(meta.url, meta.options.access_token)
    body = {"type": "BODY", "text": "We are open on Sunday."}

    made = client.create_template(
        WABA, {"name": "open_sunday", "language": "en_US", "category": "MARKETING", "components": [body]}
    )
    assert made["category"] == "MARKETING"
    client.delete_template(WABA, "open_sunday")
    assert [row["name"] for row in client.templates(WABA, name="open_sunday")] == []


def test_simulated_media(meta):
    client = graph(meta.url, meta.options.access_token)

    assert client.upload_media(
        "200000000000001", b"\xff\xd8\xff\xe0", mime_type="image/jpeg", file_name="a.jpg"
    ).isdigit()


def test_a_wrong_token_at_the_simulator(meta):
    with pytest.raises(GraphError) as error:
        graph(meta.url, "another").account(WABA)

    assert (error.value.verdict.code, error.value.http_status) == (190, 401)


def test_all_calls_together_end_when_the_time_for_them_is_over(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    with serving(page("a", after="X"), page("b")) as (url, requests):
        rows = Graph(url, "token", at_most=timedelta(seconds=20)).templates(WABA)
        assert next(rows)["name"] == "a"
        clock[0] = 20.0
        with pytest.raises(Unreachable, match="no answer in time"):
            next(rows)

    assert len(requests) == 1


def test_an_answer_that_drips_ends_with_the_time_for_all_calls(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])

    def drip(response, size):
        for _ in range(100):
            clock[0] += 1.0
            yield b" "

    monkeypatch.setattr(Response, "iter_content", drip)
    with serving(page("a"), page("a"), page("a")) as (url, _), pytest.raises(Unreachable, match="no answer in time"):
        Graph(url, "token", at_most=timedelta(seconds=5), pause=lambda seconds: None).account(WABA)

    assert clock[0] == 5.0
