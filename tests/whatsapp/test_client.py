"""What each way of answering, and of not answering, proves; and that a message never leaves twice."""

import asyncio
import contextlib
import json
import socket
import struct
from datetime import timedelta

import pytest
import uvloop

from kaanha.simulator import Simulator
from kaanha.whatsapp.cloud_api.client import Accepted, NotMeta, Refused, Sender, Undelivered, Unknown
from kaanha.whatsapp.cloud_api.errors import ErrorClass
from kaanha.whatsapp.cloud_api.payloads import encode, template_message

TOKEN = "token"
BODY = b'{"to":"+15555550142"}'
SUCCESS = {
    "messaging_product": "whatsapp",
    "contacts": [{"input": "+15555550142", "wa_id": "15555550142", "user_id": "US.42"}],
    "messages": [{"id": "wamid.A", "message_status": "accepted"}],
}
GRAPH_ERROR = {"error": {"message": "(#131016) Down", "type": "OAuthException", "code": 131016, "fbtrace_id": "x"}}


def answer(status, body, *, headers=""):
    """A complete HTTP answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n{headers}\r\n".encode() + content


RESET, HANG, CLOSE = object(), object(), object()


class Server:
    """A server that plays one act per request (bytes to write, RESET, HANG, CLOSE) and counts what it was sent."""

    def __init__(self, *acts):
        self.acts, self.requests, self.connections, self.serving = list(acts), [], 0, set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/v25.0"
        self.waiting = asyncio.Event()
        return self

    async def __aexit__(self, *_):
        self.waiting.set()
        self.server.close()
        await asyncio.gather(*self.serving)

    async def serve(self, reader, writer):
        self.connections += 1
        self.serving.add(asyncio.current_task())
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
                self.requests.append(head + await reader.readexactly(length))
                act = self.acts.pop(0)
                for each in act if isinstance(act, tuple) else (act,):
                    await self.play(writer, each)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def play(self, writer, act):
        if act is HANG:
            await self.waiting.wait()
        elif act is RESET:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            raise ConnectionError
        elif act is CLOSE:
            writer.close()
            raise ConnectionError
        else:
            writer.write(act)
            await writer.drain()


def play(*acts, messages=1, timeout=5.0, token=TOKEN):
    """Send messages one after the other to a server that plays these acts: their answers, and the server."""

    async def run():
        async with (
            Server(*acts) as server,
            Sender(server.url, timeout=timedelta(seconds=timeout), connections=2) as sender,
        ):
            answers = [await sender.send("2000", token, BODY) for _ in range(messages)]
            return answers if messages > 1 else answers[0], server

    return uvloop.run(run())


def test_an_accepted_message():
    found, server = play(answer(200, SUCCESS))

    assert found == Accepted("wamid.A", "15555550142", "US.42", held=False)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v25.0/2000/messages HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer token\r\n" in head
    assert b"\r\nContent-Type: application/json\r\n" in head
    assert b"\r\nAccept-Encoding: identity\r\n" in head
    assert body == BODY


@pytest.mark.parametrize(
    ("status", "held"),
    [("accepted", False), ("held_for_quality_assessment", True), ("paused", True), (None, False), ("tomorrow", False)],
)
def test_a_message_that_meta_holds_is_accepted_and_held(status, held):
    success = {"messages": [{"id": "wamid.A", "message_status": status}]}

    assert play(answer(200, success))[0] == Accepted("wamid.A", None, None, held=held)


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500, 502, 503])
def test_a_graph_error_is_a_refusal_at_any_status(status):
    found, _ = play(answer(status, GRAPH_ERROR))

    assert isinstance(found, Refused)
    assert (found.verdict.error_class, found.verdict.code) == (ErrorClass.TRANSIENT, 131016)


@pytest.mark.parametrize("body", [b"", b"<html>busy</html>", b'{"error":{"code":503,"message":"upstream"}}', b"{"])
@pytest.mark.parametrize("status", [429, 503])
def test_429_and_503_prove_that_nothing_was_delivered(status, body):
    assert isinstance(play(answer(status, body))[0], Undelivered)


@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b'{"error":"no"}', b'{"error":{"message":"no"}}', b"[]"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 407, 499])
def test_another_4xx_without_a_graph_error_is_not_meta(status, body):
    found, _ = play(answer(status, body))

    assert isinstance(found, NotMeta)
    assert found.status == status


@pytest.mark.parametrize(
    "act",
    [
        answer(200, b""),
        answer(200, b"<html>ok</html>"),
        answer(200, b"{"),
        answer(200, {"messages": []}),
        answer(200, {"messages": [{}]}),
        answer(200, {"messages": [{"id": ""}]}),
        answer(200, {"messages": [{"id": 7}]}),
        answer(200, {"messages": {"id": "wamid.A"}}),
        answer(200, []),
        answer(200, b"[" * 100_000),
        answer(202, {"success": True}),
        answer(204, b""),
        answer(302, b"", headers="Location: /v25.0/2001/messages\r\n"),
        answer(307, b"", headers="Location: /v25.0/2001/messages\r\n"),
        answer(408, b""),
        (answer(408, b"late")[:-1], CLOSE),
        answer(500, b""),
        answer(500, b"<html>oops</html>"),
        answer(502, b'{"error":{"code":502,"message":"Bad gateway"}}'),
        answer(504, b""),
        answer(200, b"x" * (2**20 + 1)),
        (answer(200, SUCCESS)[:-10], CLOSE),
        (answer(200, SUCCESS)[:-10], RESET),
        (answer(500, b"oops")[:-1], CLOSE),
        b"garbage\r\n\r\n",
        (b"HTTP/1.1 200 OK\r\n", CLOSE),
        CLOSE,
        RESET,
    ],
)
def test_everything_else_after_the_first_byte_left_is_unknown(act):
    # The second act would be played if anything were repeated or followed.
    found, server = play(act, answer(200, SUCCESS))

    assert isinstance(found, Unknown)
    assert len(server.requests) == 1


@pytest.mark.parametrize("act", [(answer(400, GRAPH_ERROR)[:-10], CLOSE), (answer(503, b"busy")[:-1], RESET)])
def test_a_refusal_that_breaks_off_is_still_undelivered(act):
    assert isinstance(play(act)[0], Undelivered)


@pytest.mark.parametrize("act", [HANG, (answer(200, SUCCESS)[:20], HANG), (answer(200, SUCCESS)[:-10], HANG)])
def test_no_answer_in_time_is_unknown(act):
    found, server = play(act, timeout=0.2)

    assert isinstance(found, Unknown)
    assert len(server.requests) == 1


def test_connections_stay_open():
    found, server = play(answer(200, SUCCESS), answer(200, SUCCESS), messages=2)

    assert [type(each) for each in found] == [Accepted, Accepted]
    assert server.connections == 1


@pytest.mark.parametrize("act", [RESET, CLOSE])
def test_a_kept_connection_that_breaks_under_the_next_message_leaves_it_unknown_and_does_not_repeat_it(act):
    found, server = play(answer(200, SUCCESS), act, answer(200, SUCCESS), messages=2)

    assert [type(each) for each in found] == [Accepted, Unknown]
    assert (len(server.requests), server.connections) == (2, 1)


def test_after_a_broken_connection_the_next_message_takes_a_new_one():
    found, server = play(RESET, answer(200, SUCCESS), messages=2)

    assert [type(each) for each in found] == [Unknown, Accepted]
    assert server.connections == 2


def send_to(url, *, timeout=5.0):
    async def run():
        async with Sender(url, timeout=timedelta(seconds=timeout), connections=1) as sender:
            return await sender.send("2000", TOKEN, BODY)

    return uvloop.run(run())


def test_a_refused_connection_is_undelivered():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]

    assert isinstance(send_to(f"http://127.0.0.1:{port}"), Undelivered)


def test_an_unknown_host_is_undelivered():
    assert isinstance(send_to("http://nowhere.invalid/v25.0"), Undelivered)


def test_a_failed_tls_handshake_is_undelivered():
    async def run():
        async with Server() as server:
            secure = server.url.replace("http:", "https:")
            async with Sender(secure, timeout=timedelta(seconds=1), connections=1) as sender:
                return await sender.send("2000", TOKEN, BODY)

    assert isinstance(uvloop.run(run()), Undelivered)


def test_a_connection_that_never_comes_to_be_is_undelivered():
    with socket.socket() as full:  # its backlog is full, and the kernel lets the next one wait
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)

        assert isinstance(send_to(f"http://127.0.0.1:{address[1]}", timeout=0.6), Undelivered)

        for each in waiting:
            each.close()


def test_no_free_connection_in_time_is_undelivered():
    async def run():
        async with (
            Server(HANG) as server,
            Sender(server.url, timeout=timedelta(seconds=0.6), connections=1) as sender,
        ):
            first = asyncio.create_task(sender.send("2000", TOKEN, BODY))
            while not server.requests:
                await asyncio.sleep(0.01)
            return await sender.send("2000", TOKEN, BODY), await first, len(server.requests)

    second, first, requests = uvloop.run(run())

    assert (type(second), type(first), requests) == (Undelivered, Unknown, 1)


@pytest.mark.parametrize("token", ["to\nken", "tokén", "to\0ken"])
def test_a_token_that_cannot_be_sent_is_an_account_error(token):
    found, server = play(token=token)

    assert found.verdict.error_class == ErrorClass.ACCOUNT
    assert server.requests == []


def test_no_proxy_is_taken_from_the_environment(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert isinstance(play(answer(200, SUCCESS))[0], Accepted)


@pytest.fixture(scope="module")
def meta():
    with Simulator(speed=100) as simulator:
        yield simulator


def send_sample(meta, to, *, token=None, template="order_update"):
    parameters = [{"type": "text", "text": "Asha"}, {"type": "text", "text": "A-1001"}]
    body = template_message(
        to=to,
        name=template,
        language="en_US",
        components=encode([{"type": "body", "parameters": parameters}]),
        callback_data=f"test:{to}",
    )

    async def run():
        async with Sender(meta.url, timeout=timedelta(seconds=1), connections=1) as sender:
            return await sender.send(meta.options.phone_number_ids[0], token or meta.options.access_token, body)

    return uvloop.run(run())


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        *((card, Accepted) for card in ("01", "65", "90")),
        *((card, Refused) for card in ("29", "56", "70", "73")),
        *((card, Unknown) for card in ("71", "74", "75", "76", "77", "78", "79")),
    ],
)
def test_each_test_card_of_the_simulator(meta, card, expected):
    assert isinstance(send_sample(meta, f"+4930231250{card}"), expected)


@pytest.mark.parametrize(
    ("more", "code", "error_class"),
    [
        ({"token": "another"}, 190, ErrorClass.ACCOUNT),
        ({"template": "no_such_template"}, 132001, ErrorClass.TEMPLATE),
        ({"template": "autumn_sale_image"}, 132012, ErrorClass.TEMPLATE),
    ],
)
def test_refusals_of_the_simulator(meta, more, code, error_class):
    found = send_sample(meta, "+493023125001", **more)

    assert (found.verdict.code, found.verdict.error_class) == (code, error_class)
