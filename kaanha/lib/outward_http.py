"""POSTs to addresses that customers choose: to the public internet alone, bounded in time and size, believing nothing.

The host is looked up once, every address it has is judged, and the connection goes to a judged address: a name that
points elsewhere a moment later (DNS rebinding) changes nothing. No redirect is followed and no proxy asked.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException

from django.conf import settings
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, LocationParseError
from urllib3.response import BaseHTTPResponse
from urllib3.util import parse_url

from kaanha.lib.errors import Refusal

TOTAL = 10.0  # seconds for everything together
STEP = 3.0  # seconds for each of look-up, connection and TLS handshake
READ = 4096  # bytes of an answer that are read; the rest is left unread
ADDRESSES = 3  # of a host that are tried
LOOKUPS = 32  # names looked up at the same time
URL = 500  # letters of an address
# Names of machines and of local networks. Source: IANA Special-Use Domain Names; .internal, ICANN 2024.
LOCAL = (".localhost", ".local", ".internal", ".home.arpa", ".localdomain")
# What a connection raises, and an answer that is none.
TROUBLE = (OSError, HTTPError, HTTPException, ValueError)

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# Source: IANA IPv4 Special-Purpose Address Registry, with multicast and what is reserved.
_NOT_PUBLIC = [
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",  # a cloud's own services, at an address that looks public
    )
]  # fmt: skip
# Everything public is in 2000::/3. Source: IANA IPv6 Global Unicast Address Assignments, Special-Purpose Registry.
_UNICAST = ipaddress.IPv6Network("2000::/3")
_NOT_UNICAST = [
    ipaddress.IPv6Network(network)
    # protocols and Teredo, documentation, 6to4, documentation
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
]
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits


class Forbidden(Refusal):
    """An address that we don't call; the message says why."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="url_forbidden")


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be called."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a POST: a status, or an `error` in a sentence where nobody answered."""

    status: int | None
    excerpt: str
    error: str
    milliseconds: int

    @property
    def ok(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def post(url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """POST `body` there and say what came of it, after ten seconds at the latest. Raises nothing."""
    started = time.monotonic()
    deadline = started + TOTAL
    status, excerpt, error = None, "", ""
    try:
        with _answered(_target(url), body, headers, deadline) as response:
            status, excerpt = response.status, _excerpt(response)
    except Forbidden as refusal:
        error = str(refusal)
    except TROUBLE as trouble:
        late = isinstance(trouble, TimeoutError) or time.monotonic() >= deadline
        error = _timed_out() if late else _sentence(trouble)
    return Answer(status, excerpt, error, round((time.monotonic() - started) * 1000))


def check(url: str) -> None:
    """Refuse an address that `post` never calls, as far as it tells by itself: Forbidden with the reason.

    Nobody is asked on the network, so that it may be called inside a transaction: a name of the internet is judged by
    where it leads at each POST, and may lead elsewhere tomorrow anyway.
    """
    target = _target(url)
    numbers = _numbers(target)
    for one in numbers:
        _judge(target, one)
    if not numbers and _is_local(target.host.rstrip(".").lower()):
        raise Forbidden(f"The host {target.host} isn't on the public internet.")


def _is_local(name: str) -> bool:
    """Whether the name is one that only networks of ours have."""
    if name == "localhost":
        return not settings.WEBHOOKS_ALLOW_LOOPBACK
    return "." not in name or name.endswith(LOCAL)


def _numbers(target: Target) -> list[str]:
    """The address that the host writes as a number, in any of the spellings that the system takes; none for a name."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return []
    return [str(where_to[0]) for *_, where_to in found]


def is_public(address: IPAddress) -> bool:
    """Whether the address is somebody's on the public internet, and nobody's in a network of ours."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC)
    inner = address.ipv4_mapped or _behind_nat64(address)
    if inner is not None:
        return is_public(inner)
    return address in _UNICAST and not any(address in network for network in _NOT_UNICAST)


def _behind_nat64(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None


def _target(url: str) -> Target:
    """The parts of `url`, where its form is one that we call."""
    try:
        parts = parse_url(url)
    except LocationParseError as error:
        raise Forbidden("That is no address. Give one such as https://example.com/hooks.") from error
    if parts.scheme != "https" and not (parts.scheme == "http" and settings.WEBHOOKS_ALLOW_LOOPBACK):
        raise Forbidden("Only https:// addresses are called.")
    if not parts.host or len(url) > URL:
        raise Forbidden(f"Give an address with a host, such as https://example.com/hooks, of at most {URL} letters.")
    if parts.auth is not None:
        raise Forbidden("An address with a user name or password in it isn't called: the signature proves who we are.")
    port = parts.port if parts.port is not None else 443 if parts.scheme == "https" else 80
    if port != 443 and port <= 1023:
        raise Forbidden(f"Port {port} belongs to another service: use 443, or a port above 1023.")
    return Target(parts.scheme, parts.host.strip("[]"), port, parts.request_uri)


def _addresses(target: Target, *, deadline: float) -> list[str]:
    """Where the host is, when all its addresses may be called. One look-up."""
    patience = min(STEP, deadline - time.monotonic())
    # Nothing ends a look-up but its own patience, which is long: what comes after ours is thrown away.
    lookup = _lookups().submit(socket.getaddrinfo, target.host, target.port, type=socket.SOCK_STREAM)
    try:
        found = [str(where_to[0]) for *_, where_to in lookup.result(timeout=patience)]
    except TimeoutError as error:
        lookup.cancel()
        raise Forbidden(f"The host {target.host} wasn't found within {patience:.0f} seconds.") from error
    except (OSError, UnicodeError) as error:
        raise Forbidden(f"The host {target.host} wasn't found.") from error
    for one in found:
        _judge(target, one)
    return list(dict.fromkeys(found))[:ADDRESSES]


def _judge(target: Target, one: str) -> None:
    address = ipaddress.ip_address(one)
    if settings.WEBHOOKS_ALLOW_LOOPBACK and address.is_loopback:
        return
    if target.scheme != "https":
        raise Forbidden("Only https:// addresses are called, except on this machine in development.")
    if not is_public(address):
        raise Forbidden(f"The host {target.host} isn't on the public internet.")


@contextlib.contextmanager
def _answered(target: Target, body: bytes, headers: Mapping[str, str], deadline: float) -> Iterator[BaseHTTPResponse]:
    """The answer, its body unread. Whatever is still going on at the deadline is cut off."""
    connection = _connected(target, _addresses(target, deadline=deadline), deadline=deadline)
    left = max(deadline - time.monotonic(), 0.01)
    # A timeout of a socket starts anew with each byte, so that drops of an answer could go on for ever.
    scissors = threading.Timer(left, _cut, [connection])
    scissors.daemon = True
    try:
        connection.timeout = left
        connection.sock.settimeout(left)
        scissors.start()
        fixed = {"Host": target.authority, "Accept-Encoding": "identity", "Connection": "close"}
        connection.request("POST", target.path, body, {**headers, **fixed}, preload_content=False, decode_content=False)
        yield connection.getresponse()
    finally:
        scissors.cancel()
        connection.close()


def _connected(target: Target, addresses: list[str], *, deadline: float) -> HTTPConnection:
    """A connection to the first of `addresses` that takes one. They are numbers: nothing is looked up again."""
    trouble: Exception = OSError("no address")
    for address in addresses:
        patience = min(STEP, deadline - time.monotonic())
        if patience <= 0:
            break
        connection = _connection(target, address, patience)
        try:
            connection.connect()
        except TROUBLE as error:
            connection.close()
            trouble = error
        else:
            return connection
    raise trouble


def _connection(target: Target, address: str, patience: float) -> HTTPConnection:
    if target.scheme == "http":
        return HTTPConnection(address, target.port, timeout=patience)
    # Both the name asked for and the name that the certificate must have are the host's.
    return HTTPSConnection(
        address,
        target.port,
        timeout=patience,
        ssl_context=tls(),
        cert_reqs="CERT_REQUIRED",
        server_hostname=target.host,
    )


@cache
def tls() -> ssl.SSLContext:
    """Whose certificates are believed."""
    return ssl.create_default_context(cafile=DEFAULT_CA_BUNDLE_PATH)


@cache
def _lookups() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(LOOKUPS, thread_name_prefix="look-up")


def _cut(connection: HTTPConnection) -> None:
    with contextlib.suppress(OSError, AttributeError):
        # Not the method of an SSLSocket, which takes its encryption away from under the reader.
        socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)


def _excerpt(response: BaseHTTPResponse) -> str:
    """How the answer begins. Its status is known: that the rest comes slowly, or never, changes nothing."""
    said = b""
    with contextlib.suppress(*TROUBLE):
        while len(said) < READ and (part := response.read1(READ - len(said))):
            said += part
    return said.decode(errors="replace").replace("\0", "")


def _timed_out() -> str:
    return f"No answer in time: {TOTAL:.0f} seconds for everything, {STEP:.0f} of them to connect."


def _sentence(trouble: Exception) -> str:
    if isinstance(trouble, ssl.SSLCertVerificationError):
        return f"The certificate isn't valid: {trouble.verify_message}."
    if isinstance(trouble, ssl.SSLError):
        return f"No secure connection: {trouble.reason or trouble}."
    if isinstance(trouble, ConnectionRefusedError | ConnectionResetError | BrokenPipeError):
        return "The connection was refused, or ended before an answer."
    return f"No usable answer: {type(trouble).__name__}."
