"""POSTs to addresses that customers choose: where they may go, how long they last, what is believed of an answer."""

import ipaddress
import socket
import ssl
import threading
import time

import pytest

from kaanha.lib import outward_http
from tests import receivers
from tests.receivers import OK, Receiver, answer, certificate

LATE = "No answer in time: 1 seconds for everything, 1 of them to connect."
HEADERS = {"Content-Type": "application/json", "X-Kaanha-Event-Id": "evt_sample"}


@pytest.fixture
def loopback(settings):
    """This machine may be called, as in development."""
    settings.WEBHOOKS_ALLOW_LOOPBACK = True


@pytest.fixture
def names(monkeypatch):
    """A resolver of our own: `names[host]` is the list of answers it gives, one after the other; what was asked."""
    known, asked, real = {}, [], socket.getaddrinfo

    def look_up(host, port, *arguments, **options):
        if host not in known:
            return real(host, port, *arguments, **options)
        asked.append(host)
        answers = known[host]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET6 if ":" in one else socket.AF_INET, 1, 6, "", (one, port)) for one in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    known["asked"] = asked
    return known


@pytest.fixture
def brief(monkeypatch):
    """The patience of ten seconds, in one."""
    monkeypatch.setattr(outward_http, "TOTAL", 1.0)
    monkeypatch.setattr(outward_http, "STEP", 1.0)


def post(url, body=b"{}"):
    return outward_http.post(url, body, HEADERS)


# --- where ---------------------------------------------------------------------------------------------------------

FORBIDDEN = """
0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.100.100.200 100.127.255.254 127.0.0.1 127.255.0.1 168.63.129.16 169.254.169.254
169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.1
198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1
64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b::a00:1 64:ff9b:1::a00:1 100::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2
2001:db8::1 2002:7f00:1:: 2002:a00:1:: 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%1 fec0::1 ff02::1
"""
PUBLIC = """
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.1
100.63.255.255 100.128.0.1 126.255.255.255 128.0.0.1 169.253.255.255 172.15.255.255
172.32.0.1 192.0.1.1 192.167.255.255 192.169.0.1 198.17.255.255 198.20.0.1 223.255.255.255
2606:4700:4700::1111 2a00:1450::1 2400:cb00::1 ::ffff:8.8.8.8 64:ff9b::808:808
"""


@pytest.mark.parametrize("address", FORBIDDEN.split())
def test_an_address_that_is_not_public_is_not_called(names, address):
    names["hooks.example"] = [[address]]

    assert not outward_http.is_public(ipaddress.ip_address(address))
    with pytest.raises(outward_http.Forbidden, match="isn't on the public internet"):
        outward_http.check(f"https://[{address}]/" if ":" in address else f"https://{address}/")
    said = post("https://hooks.example/")
    assert (said.status, said.error) == (None, "The host hooks.example isn't on the public internet.")


@pytest.mark.parametrize("address", PUBLIC.split())
def test_an_address_next_to_the_forbidden_is_public(address):
    assert outward_http.is_public(ipaddress.ip_address(address))
    outward_http.check(f"https://[{address}]/" if ":" in address else f"https://{address}/")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0"],
)
def test_no_spelling_of_this_machine_gets_through(host):
    with Receiver(port=0) as here:
        said = post(f"https://{host}:{here.port}/hooks")

    assert (said.status, here.requests) == (None, [])
    assert "isn't on the public internet" in said.error


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "0", "[::ffff:127.0.0.1]"])
def test_a_number_is_known_in_every_spelling_before_it_is_called(host):
    with pytest.raises(outward_http.Forbidden, match="isn't on the public internet"):
        outward_http.check(f"https://{host}/hooks")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "db", "redis.internal", "metadata.google.internal", "nas.local", "a.localhost"]
)
def test_a_name_of_a_local_network_is_refused_before_it_is_called(monkeypatch, host):
    with pytest.raises(outward_http.Forbidden, match="isn't on the public internet"):
        outward_http.check(f"https://{host}/hooks")


def test_checking_an_address_asks_nobody(monkeypatch):
    asked, real = [], socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *said, **more: (asked.append(more["flags"]), real(*said, **more))[1]
    )

    outward_http.check("https://hooks.example.test/hooks")

    assert asked == [socket.AI_NUMERICHOST]


def test_in_development_this_machine_has_a_name(loopback):
    outward_http.check("http://localhost:8000/hooks")
    with pytest.raises(outward_http.Forbidden):
        outward_http.check("http://10.0.0.1:8000/hooks")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1.", "localhost.", "LOCALHOST", "%31%32%37.0.0.1", "１２７.0.0.1", "127。0。0。1", "①27.0.0.1",
        "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[64:ff9b::127.0.0.1]", "[fe80::1%25lo]", "017700000001", "*",
    ],
)  # fmt: skip
def test_no_odd_spelling_of_this_machine_is_called(host):
    with Receiver() as here:
        said = post(f"https://{host}:{here.port}/hooks")

    assert (said.status, here.requests) == (None, [])
    assert said.error.endswith(".")


def test_an_address_adds_nothing_to_the_request(loopback):
    with Receiver() as here:
        said = post(f"{here.url}/a\r\nX-Evil: 1\r\n\r\n?b=\r\nX-Evil: 2")

    assert said.ok
    (request,) = here.requests
    assert request.line == "POST /hooks/a%0D%0AX-Evil:%201%0D%0A%0D%0A?b=%0D%0AX-Evil:%202 HTTP/1.1"
    assert "X-Evil" not in request.headers


def test_one_forbidden_address_among_public_ones_is_enough(names):
    names["hooks.example"] = [["1.1.1.1", "10.0.0.1"]]

    assert post("https://hooks.example/").error == "The host hooks.example isn't on the public internet."


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://hooks.example/", "Only https://"),
        ("ftp://hooks.example/", "Only https://"),
        ("hooks.example/path", "Only https://"),
        ("", "Only https://"),
        ("https://", "with a host"),
        ("https:///path", "with a host"),
        ("https://me:secret@hooks.example/", "user name"),
        ("https://me@hooks.example/", "user name"),
        ("https://hooks.example:80/", "Port 80 "),
        ("https://hooks.example:22/", "Port 22 "),
        ("https://hooks.example:1023/", "Port 1023 "),
        ("https://hooks.example:0/", "Port 0 "),
        ("https://hooks.example:99999/", "no address"),
        ("https://hooks.example:port/", "no address"),
        ("https://[::1/", "no address"),
        ("https://hooks.example/" + "a" * 500, "at most 500 letters"),
    ],
)
def test_an_address_of_another_form_is_refused_before_anything_is_looked_up(names, url, why):
    names["hooks.example"] = [["1.1.1.1"]]

    with pytest.raises(outward_http.Forbidden, match=why):
        outward_http.check(url)
    assert why in post(url).error
    assert names["asked"] == []


def test_a_name_that_does_not_exist_is_an_error_in_a_sentence(monkeypatch):
    def nobody(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)

    assert post("https://hooks.example/").error == "The host hooks.example wasn't found."


def test_a_look_up_that_never_ends_is_left(monkeypatch, brief):
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(5))
    began = time.monotonic()

    said = post("https://hooks.example/")

    over.set()
    assert "wasn't found within" in said.error
    assert time.monotonic() - began < 2


def test_a_name_that_points_elsewhere_a_moment_later_changes_nothing(loopback, names):
    with Receiver() as first, Receiver(host="127.0.0.2", port=first.port) as second:
        names["hooks.example"] = [["127.0.0.1"], ["127.0.0.2"]]

        said = post(f"http://hooks.example:{first.port}/hooks")

    assert said.ok
    assert (len(first.requests), second.requests, names["asked"]) == (1, [], ["hooks.example"])


def test_plain_http_goes_to_this_machine_alone(loopback, names):
    names["hooks.example"] = [["1.1.1.1"]]

    assert "Only https:// addresses are called, except on this machine" in post("http://hooks.example:8000/").error


def test_the_development_setting_opens_no_other_network(loopback, names):
    names["hooks.example"] = [["10.0.0.1"]]

    assert "isn't on the public internet" in post("https://hooks.example/").error


def test_a_second_address_is_tried_when_the_first_takes_no_connection(loopback, names):
    with Receiver(host="127.0.0.2") as second:
        names["hooks.example"] = [["127.0.0.1", "127.0.0.2"]]

        assert post(f"http://hooks.example:{second.port}/").ok


# --- what is sent ---------------------------------------------------------------------------------------------------


def test_the_request_is_one_post_with_the_body_as_given(loopback):
    with Receiver() as here:
        said = outward_http.post(here.url + "?a=b", b'{"n": 1}', HEADERS)

    (request,) = here.requests
    assert (request.line, request.body) == ("POST /hooks?a=b HTTP/1.1", b'{"n": 1}')
    assert request.headers["Host"] == f"127.0.0.1:{here.port}"
    assert request.headers["X-Kaanha-Event-Id"] == "evt_sample"
    assert (said.status, said.excerpt, said.error, said.ok) == (200, "fine", "", True)
    assert 0 <= said.milliseconds < 5000


def test_no_proxy_of_the_environment_is_asked(loopback, monkeypatch):
    with Receiver() as proxy, Receiver() as here:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert post(here.url).ok

    assert (proxy.requests, len(here.requests)) == ([], 1)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_is_not_followed(loopback, status):
    with Receiver() as elsewhere:
        moved = answer(status, headers=b"Location: %s\r\n" % elsewhere.url.encode())
        here = Receiver(moved)
        with here:
            said = post(here.url)

    assert (said.status, said.ok, elsewhere.requests, len(here.requests)) == (status, False, [], 1)


# --- answers of every kind ------------------------------------------------------------------------------------------


def drip(connection):
    for letter in b"HTTP/1.1 200 OK\r\n" + b"X-Slow: yes\r\n" * 100:
        connection.sendall(bytes([letter]))
        time.sleep(0.1)


def drip_a_body(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(100):
        connection.sendall(b"x")
        time.sleep(0.1)


def never(connection):
    connection.recv(1)


def flood(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
    for _ in range(1000):
        connection.sendall(b"x" * 100_000)


def continue_for_ever(connection):
    for _ in range(1000):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.05)


@pytest.mark.parametrize("behavior", [never, drip, continue_for_ever])
def test_who_never_comes_to_an_answer_is_left_in_time(loopback, brief, behavior):
    began = time.monotonic()
    with Receiver(behavior) as here:
        said = post(here.url)
        took = time.monotonic() - began

    assert (said.status, said.error, said.ok) == (None, LATE, False)
    assert took < 3


def test_a_status_counts_though_its_body_never_ends(loopback, brief):
    began = time.monotonic()
    with Receiver(drip_a_body) as here:
        said = post(here.url)
        took = time.monotonic() - began

    assert (said.status, said.error) == (200, "")
    assert said.excerpt.strip("x") == ""
    assert took < 3


def test_of_a_huge_answer_only_the_beginning_is_read(loopback):
    with Receiver(flood) as here:
        said = post(here.url)

    assert (said.status, said.excerpt) == (200, "x" * outward_http.READ)


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\x00\xff" * 1000,
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX" + b"y" * 99_999,
    ],
    ids=["nothing", "noise", "another protocol", "no status", "endless header"],
)
def test_what_is_no_answer_is_an_error(loopback, garbage):
    with Receiver(garbage) as here:
        said = post(here.url)

    assert (said.status, said.ok) == (None, False)
    assert said.error.endswith(".")


def test_bytes_that_are_no_text_do_not_stop_an_answer(loopback):
    with Receiver(answer(500, b"\xff\x00no")) as here:
        said = post(here.url)

    assert (said.status, said.excerpt) == (500, "\ufffdno")


def test_a_compressed_answer_is_not_unpacked(loopback):
    with Receiver(answer(200, b"\x1f\x8bbomb", headers=b"Content-Encoding: gzip\r\n")) as here:
        assert post(here.url).excerpt.endswith("bomb")


def test_a_port_where_nobody_listens_is_an_error(loopback):
    with Receiver() as here:
        pass

    assert post(here.url).error.endswith(".")
    assert post(here.url).status is None


@pytest.mark.parametrize(
    "where", ["http://169.254.169.254/latest/meta-data", "https://10.0.0.1/", "file:///etc/passwd", "//"]
)
def test_a_redirect_into_a_private_network_leads_nowhere(loopback, monkeypatch, where):
    with Receiver(answer(302, headers=b"Location: %s\r\n" % where.encode())) as here:
        reached, real = [], outward_http._connected
        monkeypatch.setattr(
            outward_http,
            "_connected",
            lambda target, *given, **more: (reached.append(target.host), real(target, *given, **more))[1],
        )
        said = post(here.url)

    assert (said.status, said.ok, reached) == (302, False, ["127.0.0.1"])


@pytest.mark.parametrize(
    ("says", "excerpt"),
    [
        (receivers.hang_after_the_headers, ""),
        (receivers.reset_in_the_body, None),
        (receivers.TOO_LITTLE, "short"),
        (receivers.TOO_MUCH, "mo"),
        (receivers.NEGATIVE, None),
        (receivers.BROKEN_CHUNKS, ""),
    ],
    ids=["hangs", "reset", "too little", "too much", "negative length", "broken chunks"],
)
def test_a_status_counts_whatever_comes_of_its_body(loopback, brief, says, excerpt):
    with Receiver(says) as here:
        said = post(here.url)

    assert (said.status, said.error, said.ok) == (200, "", True)
    assert excerpt is None or said.excerpt == excerpt


@pytest.mark.parametrize("says", [receivers.reset, receivers.MANY_HEADERS], ids=["reset", "ten thousand headers"])
def test_a_connection_without_a_usable_answer_is_an_error(loopback, says):
    with Receiver(says) as here:
        said = post(here.url)

    assert (said.status, said.ok) == (None, False)
    assert said.error.endswith(".")


def test_of_endless_chunks_only_the_beginning_is_read(loopback):
    with Receiver(receivers.endless_chunks) as here:
        assert post(here.url).excerpt == "x" * outward_http.READ


def test_a_gzip_bomb_stays_packed(loopback):
    with Receiver(receivers.BOMB) as here:
        said = post(here.url)

    assert said.status == 200
    assert len(said.excerpt) <= outward_http.READ


# --- TLS ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def trusted(monkeypatch, tmp_path):
    """A server's context for a host name whose certificate is believed."""

    def make(name):
        path, context = certificate(tmp_path, name)
        monkeypatch.setattr(outward_http, "tls", lambda: ssl.create_default_context(cafile=str(path)))
        return context

    return make


def test_a_certificate_of_the_host_is_believed(loopback, names, trusted):
    names["hooks.example"] = [["127.0.0.1"]]
    with Receiver(OK, tls=trusted("hooks.example")) as here:
        said = post(f"https://hooks.example:{here.port}/hooks")

    assert (said.error, said.status) == ("", 200)
    assert here.requests[0].headers["Host"] == f"hooks.example:{here.port}"


def test_a_certificate_of_another_host_is_refused(loopback, names, trusted):
    names["hooks.example"] = [["127.0.0.1"]]
    with Receiver(tls=trusted("other.example")) as here:
        said = post(f"https://hooks.example:{here.port}/hooks")

    assert (said.status, here.requests) == (None, [])
    assert said.error.startswith("The certificate isn't valid: Hostname mismatch")


def test_a_certificate_of_the_address_does_not_do_for_the_name(loopback, names, trusted):
    names["hooks.example"] = [["127.0.0.1"]]
    with Receiver(tls=trusted("127.0.0.1")) as here:
        assert post(f"https://hooks.example:{here.port}/hooks").error.startswith("The certificate isn't valid")


def test_a_certificate_that_signs_itself_is_refused(loopback, tmp_path):
    with Receiver(tls=certificate(tmp_path, "127.0.0.1")[1]) as here:
        said = post(here.url)

    assert (said.status, here.requests) == (None, [])
    assert said.error == "The certificate isn't valid: self-signed certificate."


def test_plain_http_behind_an_https_address_is_refused(loopback):
    with Receiver(greets=OK) as here:
        assert post(here.url.replace("http:", "https:")).error.startswith("No secure connection")


def test_a_handshake_that_never_ends_is_left(loopback, brief):
    listener = socket.create_server(("127.0.0.1", 0))
    began = time.monotonic()

    said = post(f"https://127.0.0.1:{listener.getsockname()[1]}/")

    listener.close()
    assert (said.status, said.error) == (None, LATE)
    assert time.monotonic() - began < 3
