"""Peers for tests of connections: servers in threads, and a small certificate authority."""

from __future__ import annotations

import datetime as dt
import ipaddress
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from xtrack_protocol.errors import TransportClosed
from xtrack_protocol.net.channel import POLLIN, Channel

DEADLINE = 20.0
"""Seconds that anything may take on a loaded machine."""


class Authority:
    """Signs certificates, and writes them into ``folder``."""

    def __init__(self, folder: Path, name: str = "Test CA") -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.path = self._write(f"{name}.pem", self._sign(self._name, self._key, [], ca=True))

    def issue(self, *hosts: str, name: str = "server", days: tuple[int, int] = (-1, 30)) -> tuple[Path, Path]:
        """Return the files of a certificate for ``hosts`` and its key. ``days``: valid from and to, from today."""
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        cert = self._write(f"{name}.pem", self._sign(subject, key, list(hosts), days=days))
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return cert, self._write(f"{name}.key", secret)

    def _write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        path.chmod(0o600)
        return path

    def _sign(
        self, subject: Any, key: Any, hosts: list[str], *, ca: bool = False, days: tuple[int, int] = (-1, 30)
    ) -> bytes:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization

        now = dt.datetime.now(dt.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + dt.timedelta(days=days[0]))
            .not_valid_after(now + dt.timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        names: list[x509.GeneralName] = []
        for host in hosts:
            with suppress(ValueError):
                names.append(x509.IPAddress(ipaddress.ip_address(host)))
                continue
            names.append(x509.DNSName(host))
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class Server:
    """What a server in a thread saw: ``errors`` of handshakes, ``heard`` bytes, connections ``accepted``."""

    def __init__(self, address: Any) -> None:
        self.address = address
        self.port: int = address[1] if isinstance(address, tuple) else 0
        self.errors: list[OSError] = []
        self.heard: list[bytes] = []
        self.accepted = 0

    def wait_for(self, what: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE
        while not what():
            assert time.monotonic() < deadline, (self.errors, self.heard, self.accepted)
            time.sleep(0.01)


def echo(connection: socket.socket, server: Server) -> None:
    """Send back in capitals what comes, until nothing more does; then close with TLS's goodbye."""
    while data := connection.recv(65536):
        server.heard.append(data)
        connection.sendall(data.upper())
    if isinstance(connection, ssl.SSLSocket):
        with suppress(OSError):
            connection.unwrap()


@contextmanager
def serving(
    talk: Callable[[Any, Server], None] = echo,
    *,
    context: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    path: Path | None = None,
    port: int = 0,
) -> Iterator[Server]:
    """Serve connections, each in a thread, over TLS where there is a context."""
    if path is None:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
    server = Server(listener.getsockname())
    opened: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve_one(connection: socket.socket) -> None:
        connection.settimeout(DEADLINE)
        if path is None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as servers do: last words leave at once
        try:
            if context:
                connection = context.wrap_socket(connection, server_side=True)
                opened.append(connection)
            talk(connection, server)
        except OSError as error:
            server.errors.append(error)
        finally:
            connection.close()

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            server.accepted += 1
            opened.append(connection)
            thread = threading.Thread(target=serve_one, args=(connection,))
            threads.append(thread)
            thread.start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield server
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(DEADLINE)
        for connection in opened:
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)  # TLS's own would take it away from its thread
        for thread in threads:
            thread.join(DEADLINE)
        for connection in opened:
            connection.close()
        assert not acceptor.is_alive()
        assert not any(thread.is_alive() for thread in threads)


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port on which nobody listens just now."""
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        return int(listener.getsockname()[1])


def poll(channel: Channel) -> int:
    """Wait until the channel has something to do; return what ``poll`` saw."""
    waiter = select.poll()
    waiter.register(channel.fileno(), channel.events())
    ready = waiter.poll(DEADLINE * 1000)
    assert ready, "nothing happened"
    return ready[0][1]


def read_some(channel: Channel) -> bytes:
    """Return what comes next; nothing where the peer closes."""
    while True:
        data = channel.read()
        if data is not None:
            return data
        if not channel.has_pending():
            poll(channel)


def read_exactly(channel: Channel, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = read_some(channel)
        assert part, data
        data += part
    return data


def write_all(channel: Channel, data: bytes) -> None:
    while data:
        data = data[channel.write(data) :]
        if data:
            poll(channel)


def hear_last_words(channel: Channel, words: bytes) -> None:
    """Write until it fails, and see that ``words`` are heard nevertheless."""
    deadline = time.monotonic() + DEADLINE
    while channel._lost is None:
        assert time.monotonic() < deadline
        if not channel.write(b"x" * 1000):
            time.sleep(0.001)
    assert channel.write(b"x") == 0
    assert channel.events() == POLLIN  # no spinning on a socket that seems to have room
    assert read_exactly(channel, len(words)) == words
    with suppress(TransportClosed):
        assert read_some(channel) == b""
