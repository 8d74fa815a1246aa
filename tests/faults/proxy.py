"""A TCP proxy that cuts, delays and tears: real sockets, one thread, and a plan for each connection."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from typing_extensions import Self

End = Literal["rst", "fin", "silence"]
"""How a connection is cut: torn down, closed, or left open with nothing passed on any more."""


@dataclass(frozen=True)
class Plan:
    """What happens to one connection. ``up``: bytes from the client after which it is cut; ``down``: from the server.

    ``silent_seconds``: how long a silence lasts, before the connection is torn down. ``piece``: bytes passed on at a
    time; ``pause``: seconds after each piece.
    """

    up: int | None = None
    down: int | None = None
    end: End = "rst"
    silent_seconds: float = 0.3
    piece: int = 65536
    pause: float = 0.0


@dataclass
class Link:
    """A connection through the proxy."""

    client: socket.socket
    server: socket.socket
    plan: Plan
    opened_at: float
    passed: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    """Bytes from the client (True) and from the server (False)."""
    waiting: dict[bool, bytearray] = field(default_factory=lambda: {True: bytearray(), False: bytearray()})
    closed: set[bool] = field(default_factory=set)
    not_before: float = 0.0
    silent_until: float | None = None


class Proxy:
    """Listens on ``port`` for a server on ``target``. ``plans``: for the connections to come; later ones just pass."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.plans: deque[Plan] = deque()
        self.links: list[Link] = []
        """All connections so far."""
        self.refusing = False
        """Whether new connections are torn down at once: a partition."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._open: list[Link] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Tear everything down."""
        self._stopping = True
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cut_all(self) -> None:
        """Tear down what is open now."""
        for link in list(self._open):
            link.silent_until = 0.0

    # ------------------------------------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turn()
        finally:
            self._listener.close()
            for link in self._open:
                _tear(link.client)
                _tear(link.server)

    def _turn(self) -> None:
        now = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            wait = 0.02
            for link in self._open:
                if link.silent_until is not None:
                    continue
                if link.not_before > now:
                    wait = min(wait, link.not_before - now)
                    continue
                for up in (True, False):
                    source = link.client if up else link.server
                    if link.waiting[up]:
                        wait = 0.0
                    elif up not in link.closed:
                        selector.register(source, selectors.EVENT_READ, (link, up))
            ready = selector.select(wait)
        for key, _ in ready:
            if key.data is None:
                self._accept()
            else:
                _read(*key.data)
        for link in list(self._open):
            self._pass_on(link)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            client, _ = self._listener.accept()
            if self.refusing:
                _tear(client)
                return
            try:
                server = socket.create_connection(self.target, 5)
            except OSError:
                _tear(client)
                return
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plan = self.plans.popleft() if self.plans else Plan()
            link = Link(client, server, plan, time.monotonic())
            self.links.append(link)
            self._open.append(link)

    def _pass_on(self, link: Link) -> None:
        now = time.monotonic()
        if link.silent_until is not None:
            if now >= link.silent_until:
                self._cut(link, "rst")
            return
        if link.not_before > now:
            return
        plan = link.plan
        for up in (True, False):
            limit = plan.up if up else plan.down
            piece = link.waiting[up][: plan.piece]
            if limit is not None:
                piece = piece[: limit - link.passed[up]]
            try:
                if piece:
                    (link.server if up else link.client).sendall(piece)
            except OSError:
                self._cut(link, "rst")
                return
            del link.waiting[up][: len(piece)]
            link.passed[up] += len(piece)
            if piece and plan.pause:
                link.not_before = now + plan.pause
            if limit is not None and link.passed[up] >= limit:
                self._cut(link, plan.end)
                return
        if any(up in link.closed and not link.waiting[up] for up in (True, False)):
            self._cut(link, "fin")

    def _cut(self, link: Link, end: End) -> None:
        if end == "silence":
            link.silent_until = time.monotonic() + link.plan.silent_seconds
            return
        self._open.remove(link)
        for one in (link.client, link.server):
            if end == "rst":
                _tear(one)
            else:
                one.close()


def _read(link: Link, up: bool) -> None:
    try:
        data = (link.client if up else link.server).recv(65536)
    except OSError:
        data = b""
    if data:
        link.waiting[up] += data
    else:
        link.closed.add(up)


def _tear(one: socket.socket) -> None:
    """Close with a reset: what was sent and not received is gone."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()
