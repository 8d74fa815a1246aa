"""Connects to a collector: every address in turn, TLS where it is wanted, one time-out for all of it."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import socket
import threading
import time
from pathlib import Path
from typing import Any, Final

import attrs

from xtrack_protocol.errors import ConfigurationError, TransportError
from xtrack_protocol.net.channel import POLLOUT, Channel
from xtrack_protocol.net.endpoint import Endpoint, is_this_machine, refuse_in_clear

__all__ = ["Channel", "connect"]

HEAD_START: Final = 0.25
"""Seconds that an address has before the next one is tried beside it (RFC 8305)."""
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPALIVE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
"""Seconds of silence before the system asks whether the peer is there, seconds between, and how often."""


def connect(endpoint: Endpoint, timeout: float) -> Channel:
    """Return a connection to ``endpoint``, TLS and its proofs included, in ``timeout`` seconds at most.

    Raises TransportError (nobody there, no such name, timed out), CollectorRefused (TLS doesn't come about; its code
    begins with ``tls``), ConfigurationError (a file can't be used; or the key would go in clear to an address beyond
    this machine, of which no byte was sent then. spec: CTL-16.2).
    """
    deadline = time.monotonic() + timeout
    try:
        connecting = _connect_unix if endpoint.scheme == "unix" else _connect_tcp
        return connecting(endpoint, deadline, timeout)
    except TransportError:
        raise
    except OSError as error:  # too many open files, at whatever place
        raise TransportError(endpoint.url, f"can't connect: {error.strerror or error}") from error


def check_peer(endpoint: Endpoint, peer: str) -> None:
    """Raise ConfigurationError where the key would go in clear to the IP address ``peer``. spec: CTL-16.1, CTL-16.2"""
    if endpoint.key_in_clear and not is_this_machine(peer):
        raise refuse_in_clear(endpoint, f"{endpoint.host} ({peer})")


def _connect_tcp(endpoint: Endpoint, deadline: float, timeout: float) -> Channel:
    addresses = _look_up(endpoint, deadline, timeout)
    if endpoint.key_in_clear:
        near = [address for address in addresses if is_this_machine(address.host)]
        if not near:
            raise refuse_in_clear(endpoint, f"{endpoint.host} ({addresses[0].host})")
        addresses = near
    connection, address = _race(endpoint, addresses, deadline, timeout)
    try:
        peer = str(connection.getpeername()[0])
        check_peer(endpoint, peer)
        _tune(connection)
    except BaseException:
        connection.close()
        raise
    if endpoint.tls is None:
        return Channel(connection, str(address), endpoint.url)
    from xtrack_protocol.net.tls_channel import start_tls

    return start_tls(connection, endpoint, str(address), deadline)


def _connect_unix(endpoint: Endpoint, deadline: float, timeout: float) -> Channel:
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigurationError("XTRACK_TRANSPORT", "unix", "there are no Unix sockets on this system", "Use tcp")
    path = endpoint.path
    assert path is not None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        while True:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                connection.connect(os.fspath(path))
                return Channel(connection, str(path), endpoint.url)
            except BlockingIOError:  # many workers at once: the collector's queue is full for a moment
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.01)
    except (OSError, ValueError) as error:
        connection.close()
        raise _unix_failed(endpoint, path, error, timeout) from error
    except BaseException:
        connection.close()
        raise


def _unix_failed(endpoint: Endpoint, path: Path, error: Exception, timeout: float) -> TransportError:
    number = getattr(error, "errno", None)
    start = f"Start the collector: `xtrack serve --unix {path}`; or correct XTRACK_SOCKET"
    if number in {errno.ENOENT, errno.ENOTDIR}:
        return TransportError(endpoint.url, "no collector listens there: there is no such socket", start)
    if number == errno.ECONNREFUSED:
        return TransportError(endpoint.url, "no collector listens there any more", start)
    if number in {errno.EACCES, errno.EPERM}:
        return TransportError(endpoint.url, "this user may not connect to the socket", "Its owner can permit it")
    if number in {errno.ENOTSOCK, errno.EPROTOTYPE}:
        return TransportError(endpoint.url, "is no socket of a collector", start)
    if isinstance(error, (BlockingIOError, TimeoutError)):
        return TransportError(endpoint.url, f"timed out: the collector takes no connection in {timeout:g} s")
    return TransportError(endpoint.url, f"can't connect: {getattr(error, 'strerror', None) or error}")


@attrs.frozen
class _Address:
    family: int
    sockaddr: tuple[Any, ...]

    @property
    def host(self) -> str:
        return str(self.sockaddr[0])

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.sockaddr[1]}"


def _look_up(endpoint: Endpoint, deadline: float, timeout: float) -> list[_Address]:
    """Return the addresses of a host, one family and the other by turns as RFC 8305 has it. Never none."""
    try:
        found = _ask(endpoint.host, endpoint.port, socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        found = _ask_in_time(endpoint, deadline, timeout)
    addresses = list(dict.fromkeys(_Address(int(family), tuple(sockaddr)) for family, _, _, _, sockaddr in found))
    first = [address for address in addresses if address.family == addresses[0].family]
    other = [address for address in addresses if address.family != addresses[0].family]
    mixed = [address for pair in zip(first, other, strict=False) for address in pair]
    shorter = min(len(first), len(other))
    return mixed + first[shorter:] + other[shorter:]


def _ask(host: str, port: int, flags: int = 0) -> list[Any]:
    name = host.encode("ascii")  # a text would go through a codec, whose import may fail in a full process
    return socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=flags)


def _ask_in_time(endpoint: Endpoint, deadline: float, timeout: float) -> list[Any]:
    """Look a name up in a thread: the system's call has no time-out, and takes half a minute if no server answers."""
    answer: list[Any] = []

    def ask() -> None:
        try:
            answer.append(_ask(endpoint.host, endpoint.port))
        except (OSError, UnicodeError) as error:
            answer.append(error)

    thread = threading.Thread(target=ask, name="xtrack-lookup", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # too many threads, or the interpreter is ending
        raise TransportError(endpoint.url, f"{endpoint.host!r} can't be looked up now: {error}") from error
    thread.join(max(0.0, deadline - time.monotonic()))
    if not answer:
        raise TransportError(endpoint.url, f"timed out: the name server gave no answer in {timeout:g} s")
    failure = answer[0]
    if isinstance(failure, OSError) and failure.errno == socket.EAI_AGAIN:
        problem = f"{endpoint.host!r} can't be looked up now: no name server answers"
        raise TransportError(endpoint.url, problem) from failure
    if isinstance(failure, Exception):
        problem = f"no host goes by the name {endpoint.host!r}"
        raise TransportError(endpoint.url, problem, "Correct XTRACK_HOST, or the address") from failure
    found: list[Any] = answer[0]
    return found


def _race(
    endpoint: Endpoint, addresses: list[_Address], deadline: float, timeout: float
) -> tuple[socket.socket, _Address]:
    """Return the first connection that comes about. Each address has a head start before the one after it."""
    waiting = list(reversed(addresses))
    running: dict[int, tuple[socket.socket, _Address]] = {}
    failures: list[tuple[_Address, OSError]] = []
    try:
        while waiting or running:
            now = time.monotonic()
            if now >= deadline:
                raise TransportError(
                    endpoint.url,
                    f"timed out: no answer from {', '.join(str(where) for _, where in running.values())} "
                    f"in {timeout:g} s",
                    "Is the address right, and does a firewall let it through?",
                )
            if waiting:
                _begin(waiting.pop(), running, failures)
            next_start = min(deadline, now + HEAD_START) if waiting else deadline
            for fd in _ready(list(running), next_start):
                connection, address = running[fd]
                error = _outcome(connection)
                del running[fd]
                if error is None:
                    return connection, address
                connection.close()
                failures.append((address, error))
    finally:
        for connection, _ in running.values():
            connection.close()
    raise _all_failed(endpoint, failures)


def _begin(
    address: _Address, running: dict[int, tuple[socket.socket, _Address]], failures: list[tuple[_Address, OSError]]
) -> None:
    connection = None
    try:
        connection = socket.socket(address.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        connection.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            connection.connect(address.sockaddr)
        running[connection.fileno()] = connection, address
    except OSError as error:
        if connection is not None:
            connection.close()
        failures.append((address, error))


def _ready(fds: list[int], deadline: float) -> list[int]:
    """Return the descriptors that have connected or failed, when there is one, or at the deadline."""
    if not fds:
        return []
    left = max(0.0, deadline - time.monotonic())
    if hasattr(select, "poll"):
        poll = select.poll()
        for fd in fds:
            poll.register(fd, POLLOUT)
        return [fd for fd, _ in poll.poll(math.ceil(left * 1000))]
    _, writable, broken = select.select([], fds, fds, left)
    return list({*writable, *broken})


def _outcome(connection: socket.socket) -> OSError | None:
    try:
        code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        # To a free port of this machine a socket may connect itself, when the system gives it that very port.
        if not code and connection.getsockname() == connection.getpeername():
            code = errno.ECONNREFUSED
    except OSError as error:
        return error
    return OSError(code, os.strerror(code)) if code else None


def _tune(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # acks and small batches are not held back
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


_UNREACHABLE: Final = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})


def _problem(error: OSError) -> str:
    if error.errno == errno.ECONNREFUSED:
        return "nobody listens there (connection refused)"
    if error.errno in _UNREACHABLE:
        return f"can't be reached ({os.strerror(error.errno).lower()})"
    if error.errno == errno.ETIMEDOUT:
        return "timed out"
    return f"can't connect ({error.strerror or error})"


def _all_failed(endpoint: Endpoint, failures: list[tuple[_Address, OSError]]) -> TransportError:
    problems = list(dict.fromkeys(_problem(error) for _, error in failures))
    if len(problems) == 1:
        text = problems[0]
    else:
        text = "; ".join(f"{address} {_problem(error)}" for address, error in failures)
    return TransportError(
        endpoint.url, text, "Start the collector with `xtrack serve`, or correct XTRACK_HOST and XTRACK_PORT"
    )
