"""Where peers come in: listens, lets in or turns away, and looks at their keys. spec: CTL-17.1"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from xtrack_protocol.ir import Auth, Envelope, Reject
from xtrack_protocol.server.admission import LOCAL, Doorkeeper, KeyGuesses
from xtrack_protocol.server.connection import Connection
from xtrack_protocol.server.listeners import listen_tcp, listen_unix, plain_address, prepare_accepted, remove_unix
from xtrack_protocol.server.strangers import recognise
from xtrack_protocol.session import Refusal
from xtrack_protocol.wire import encode_frame

if TYPE_CHECKING:
    from xtrack_protocol.server.server import CollectorServer

_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_NO_ROOM_SECONDS: Final = 0.5
_READS_MAX: Final = 4
"""Reads of what a peer still sends that is turned away: who sends for ever must not be listened to for ever."""
_UNIX: Final = getattr(socket, "AF_UNIX", None)


class Reception:
    """The listening sockets of a server, and who comes in by them. Everything happens in the server's loop."""

    def __init__(self, server: CollectorServer, tcp: tuple[str, int] | None, unix: Path | None) -> None:
        self._server = server
        self._tcp = tcp
        self._unix = unix
        self._doorkeeper = Doorkeeper(server.limits)
        self._guesses = KeyGuesses(server.limits)
        self._listening: list[socket.socket] = []
        self._unix_inode = 0
        self._closed = False

    @property
    def addresses(self) -> list[tuple[str, int] | Path]:
        """Where it listens: hosts with ports, and the path of a Unix socket."""
        found: list[tuple[str, int] | Path] = []
        for sock in self._listening:
            if sock.family == _UNIX:
                assert self._unix is not None
                found.append(self._unix)
            else:
                host, port = sock.getsockname()[:2]
                found.append((host, port))
        return found

    def listen(self) -> None:
        """Listen, and let nobody in yet. Raises TransportError."""
        try:
            if self._tcp is not None:
                self._listening += listen_tcp(*self._tcp)
            if self._unix is not None:
                self._listening.append(listen_unix(self._unix))
                self._unix_inode = self._unix.lstat().st_ino
        except BaseException:
            self.close()
            raise

    def begin(self) -> None:
        """Let peers in."""
        for sock in self._listening:
            self._server.spawn(self._accept(sock))

    def close(self) -> None:
        """Listen no more."""
        self._closed = True
        for sock in self._listening:
            with contextlib.suppress(ValueError, AttributeError, OSError):
                self._server.loop.remove_reader(sock.fileno())
            sock.close()
        self._listening = []
        if self._unix is not None and self._unix_inode:
            remove_unix(self._unix, self._unix_inode)

    # ------------------------------------------------------------------------------------------ coming in

    async def _accept(self, listening: socket.socket) -> None:
        loop, server = self._server.loop, self._server
        while not self._closed:
            try:
                sock, address = await loop.sock_accept(listening)
            except OSError as error:
                if self._closed:
                    return
                if error.errno in _NO_ROOM:  # others must close first: don't ask again at once
                    server.complain(f"a connection can't be accepted: {error.strerror}. `ulimit -n` tells how many can")
                    await asyncio.sleep(_NO_ROOM_SECONDS)
                else:
                    await asyncio.sleep(0)
                continue
            try:
                self._admit(sock, address)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one peer, the next one is let in
                sock.close()
                server.complain(f"a connection can't be taken: {type(error).__name__}: {error}")
            await asyncio.sleep(0)  # while many wait, sock_accept() returns at once: the loop has other things to do

    def _admit(self, sock: socket.socket, peer: Any) -> None:
        """Let a connection in, or turn it away at hardly any cost. spec: CTL-17.1"""
        server = self._server
        server.counters.accepted += 1
        if isinstance(peer, tuple):
            address = str(plain_address(peer[0]))
            shown = f"{address}:{peer[1]}"
        else:
            address = shown = LOCAL
        problem = self._doorkeeper.refusal(address)
        if problem:
            server.refused("busy", shown, problem)
            self.turn_away(sock, problem)
            return
        try:
            prepare_accepted(sock)
        except OSError:  # it is gone already
            sock.close()
            return
        self._doorkeeper.enter(address)
        server.spawn(self._let_in(sock, address, shown))

    def turn_away(self, sock: socket.socket, problem: str) -> None:
        """Say that we are busy, and close; over TLS nothing could be said so cheaply."""
        server = self._server
        try:
            sock.setblocking(False)
            if server.tls is None or sock.family == _UNIX:
                envelope = Envelope.of(
                    Reject("busy", problem, server.limits.retry_after), seq=0, timestamp_us=server.wall_us()
                )
                sock.send(encode_frame(envelope))
                sock.shutdown(socket.SHUT_WR)
                self._throw_away(sock)
        except OSError:
            pass
        finally:
            sock.close()

    def _throw_away(self, sock: socket.socket) -> None:
        """Read what is there: a socket that is closed with bytes unread takes our words back. Raises OSError."""
        for _ in range(_READS_MAX):
            if not sock.recv_into(self._server.buffer):
                return

    async def _let_in(self, sock: socket.socket, address: str, shown: str) -> None:
        server = self._server
        connection = Connection(server, address, shown)
        tls = server.tls if sock.family != _UNIX else None
        try:
            if tls is not None and not await self._expect_tls(sock, shown):
                return
            seconds = server.session_limits.first_frame_seconds
            connection.is_tls = tls is not None
            await server.loop.connect_accepted_socket(
                lambda: connection,
                sock,
                ssl=tls,
                ssl_handshake_timeout=seconds if tls else None,
            )
        except OSError as error:  # ssl's errors too
            if tls is not None:
                from xtrack_protocol.net.tls import explain_client

                server.refused("tls", shown, f"the peer {explain_client(error)}")
        finally:
            if not connection.was_made:
                sock.close()
                self._doorkeeper.leave(address, known=False)

    async def _expect_tls(self, sock: socket.socket, shown: str) -> bool:
        """Look at the first bytes: who doesn't speak TLS is told so in words it understands. spec: CTL-17.8"""
        server = self._server
        first = await self._peek(sock)
        if first is None:
            server.refused("timeout", shown, "no TLS handshake was begun in time")
            return False
        if not first or first[0] == 0x16:
            return bool(first)
        stranger = recognise(first)
        text = "this port speaks TLS"
        reject = Reject("protocol_error", f"{text}: set XTRACK_TLS=1, or the fingerprint or the CA to trust")
        answer = encode_frame(Envelope.of(reject, seq=0, timestamp_us=server.wall_us()))
        speaks = "no TLS" if stranger is None else stranger.speaks
        if stranger is not None and stranger.answer:
            answer = stranger.answer
        server.refused("wrong_protocol", shown, f"the peer speaks {speaks}; {text}")
        with contextlib.suppress(OSError):
            sock.send(answer)
            sock.shutdown(socket.SHUT_WR)
            await asyncio.sleep(0.05)
            self._throw_away(sock)
        return False

    async def _peek(self, sock: socket.socket) -> bytes | None:
        """Return the first bytes without taking them; None where none came in time."""
        loop = self._server.loop
        ready = loop.create_future()
        loop.add_reader(sock.fileno(), _settle, ready)
        try:
            await asyncio.wait_for(ready, self._server.session_limits.first_frame_seconds)
            return sock.recv(16, socket.MSG_PEEK)
        except asyncio.TimeoutError:
            return None
        except OSError:
            return b""
        finally:
            loop.remove_reader(sock.fileno())

    def introduced(self, connection: Connection) -> None:
        """A connection has said what it is."""
        self._doorkeeper.known(connection.address)

    def left(self, connection: Connection) -> None:
        """It is over."""
        self._doorkeeper.leave(connection.address, known=connection.is_known)

    # ------------------------------------------------------------------------------------------ keys

    def authenticate(self, address: str, auth: Auth | None) -> object:
        """Return who a peer is, or a Refusal; who guesses keys has to wait. spec: CTL-17.4"""
        access = self._server.access
        if access is None:
            return None
        now = self._server.loop.time()
        wait = self._guesses.wait(address, now)
        if auth is not None and wait > 0:
            return Refusal("busy", "too many wrong keys came from this address", round(wait, 1) + 0.1)
        owner = access.authenticate(auth)
        if address != LOCAL and auth is not None:
            if isinstance(owner, Refusal) and owner.code == "unauthorized":
                self._guesses.wrong(address, now)
            elif not isinstance(owner, Refusal):
                self._guesses.right(address)
        return owner


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


__all__ = ["Reception"]
