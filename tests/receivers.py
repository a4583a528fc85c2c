"""Customers' servers on loopback, well-behaved and otherwise, for tests. Nothing is looked up on the network."""

import contextlib
import gzip
import ipaddress
import socket
import ssl
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"


def answer(status, body=b"", *, headers=b""):
    """The bytes of an answer."""
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), headers, body)


@dataclass
class Received:
    """One request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """A server that gives `says`: bytes, or a function of the connection that does what it wants with it.

    With several, one after the other, and the last for ever.
    """

    says: object = OK
    host: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None
    port: int = 0
    greets: bytes = b""  # said before anything is asked
    requests: list[Received] = field(default_factory=list)

    def __enter__(self):
        self.closing = threading.Event()
        self.listener = socket.create_server((self.host, self.port))
        self.port = self.listener.getsockname()[1]
        self.threads = [threading.Thread(target=self._listen)]
        self.threads[0].start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(20)

    @property
    def url(self):
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}/hooks"

    def _listen(self):
        while not self.closing.is_set():
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=[connection])
            self.threads.append(thread)
            thread.start()

    def _serve(self, connection):
        connection.settimeout(15)
        with contextlib.suppress(OSError), connection:
            connection.sendall(self.greets)
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            received = self._read(connection)
            if received is None:
                return
            says = self.says
            if isinstance(says, list):
                says = says[min(len(self.requests), len(says) - 1)]
            self.requests.append(received)
            connection.sendall(says) if isinstance(says, bytes) else says(connection)
            connection.close()

    def _read(self, connection):
        read = b""
        while b"\r\n\r\n" not in read:
            part = connection.recv(65536)
            if not part:
                return None
            read += part
        head, _, body = read.partition(b"\r\n\r\n")
        line, *rest = head.decode().split("\r\n")
        headers = dict(one.split(": ", 1) for one in rest)
        while len(body) < int(headers.get("Content-Length", 0)):
            body += connection.recv(65536)
        return Received(line, headers, body)


def certificate(directory, name):
    """A certificate for the host `name` that signs itself: its file, and the context of a server that has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    try:
        alternative = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return path, context


# --- misbehaviour: functions of the connection, once the request is read --------------------------------------------


def hang_after_the_headers(connection):
    """The status and headers, and then nothing."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
    connection.recv(1)


def reset(connection):
    """The connection is torn down before anything is said."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def reset_in_the_body(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
    reset(connection)


def endless_chunks(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(10_000):
        connection.sendall(b"2710\r\n" + b"x" * 10_000 + b"\r\n")


MANY_HEADERS = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(10_000)) + b"\r\n"
TOO_LITTLE = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort"
TOO_MUCH = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nmore than two"
NEGATIVE = b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nfine"
BROKEN_CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nfine\r\n"
# Ten megabytes of zeros in ten kilobytes.
BOMB = answer(200, gzip.compress(bytes(10_000_000)), headers=b"Content-Encoding: gzip\r\n")
