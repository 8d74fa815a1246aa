"""The reference implementation as an emitter: docs/reference/testee-emitter.md tells what is asked.

``Tracker.start_run`` with the transport for collectors, as a training has it: its spool lies in a folder of its own,
its sender runs in a thread of a virtual world (``virtual.py``), and its connection is one end of a socket pair.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import functools
import io
import math
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from as_process import run_process
from calls import RUN_OPTIONS, make_call
from folders import Folders
from values_told import to_tagged, untagged
from virtual import World

from xtrack_protocol.emitter import Run, Tracker, ending, exits, tracker
from xtrack_protocol.errors import TransportError
from xtrack_protocol.net.channel import Channel
from xtrack_protocol.net.connect import check_peer
from xtrack_protocol.net.endpoint import Endpoint, parse_endpoint
from xtrack_protocol.sender.sync import Syncer
from xtrack_protocol.settings import Settings
from xtrack_protocol.spool import SpoolDir, room, syncing
from xtrack_protocol.spool import writer as spool_writer
from xtrack_protocol.transport import LocalTransport
from xtrack_protocol.transport.remote import TcpTransport

find_source = functools.cache(tracker.find_source)  # asks git, which takes its time


class Part:
    """Answers what begins with ``emit.``."""

    def __init__(self) -> None:
        self.sessions: dict[str, Emitter] = {}
        self.folders = Folders()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a request."""
        op, name = request["op"], request["session"]
        shared = self.folders.of(request["dir"]) if "dir" in request else None
        if op == "emit.process":
            return {"ok": run_process(request, shared)}
        if op == "emit.files":
            return {"ok": self.folders.answer(request)}
        if op in {"emit.start", "emit.ship"}:
            self.sessions[name] = Emitter(shared)
        elif op == "emit.forget":
            session = self.sessions.pop(name, None)
            if session is not None:
                session.forget()
            if shared is not None:
                self.folders.forget(request["dir"])
            return {"ok": {}}
        return {"ok": self.sessions[name].answer(op, request)}


class Emitter:
    """One emitter, its run, and both ends of its connection."""

    def __init__(self, shared: Path | None) -> None:
        self.world = World()
        self.disk = Disk(self.world, is_looked_at=shared is not None)
        self.is_shared = shared is not None
        self.folder = shared or Path(tempfile.mkdtemp(prefix="xtrack-emitter-"))
        self.lines = io.StringIO()
        self.written = bytearray()
        self.run: Run | None = None
        self.transport: LocalTransport | None = None
        self.commands: list[dict[str, Any]] = []
        self.wanted = self.stalled = False
        self.outcome: str | None = None
        self.peer: socket.socket | None = None
        self.call: dict[str, Any] | None = None
        self.called = False

    # ------------------------------------------------------------------------------------------ requests

    def answer(self, op: str, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a request says, and return the facts."""
        told: dict[str, Any] = {}
        self.lines.seek(0)
        self.lines.truncate()
        with self.surroundings():
            match op:
                case "emit.start":
                    self.begin_call(lambda: self.start(request["options"]))
                case "emit.ship":
                    self.begin_call(lambda: self.ship(again=request.get("again", False)))
                case "emit.call":
                    arguments = untagged(request["arguments"])
                    self.begin_call(lambda: make_call(self, request["call"], arguments))
                case "emit.connected":
                    self.outcome = request["address"]
                case "emit.refused":
                    self.outcome = ""
                case "emit.receive":
                    self.receive(base64.b64decode(request["bytes"]))
                case "emit.disconnected":
                    self.disconnect()
                case "emit.stall":
                    self.stalled = True
                case "emit.tick":
                    self.world.advance(request["now"] / 1000)
                case "emit.full":
                    self.disk.is_full = request["full"]
                case "emit.disk":
                    self.disk.forces = request["forces"]
                case "emit.room":
                    self.disk.size = request["total"], request["free"]
            self.settle()
            if self.called:
                told |= self.call or {"call": "waits"}
                self.called = self.call is None
            counts = self.counts()
        written, self.written = bytes(self.written), bytearray()
        commands, self.commands = self.commands, []
        forced, self.disk.forced = self.disk.forced, 0
        return told | {
            "written": base64.b64encode(written).decode(),
            "connection": "open" if self.peer else "wanted" if self.wanted else "none",
            "commands": commands,
            "told": self.lines.getvalue().splitlines(),
            "forced": forced,
            "counts": counts,
        }

    @contextlib.contextmanager
    def surroundings(self) -> Iterator[None]:
        """Have the run look at this world's clock, and tell people here."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stderr(self.lines))
            stack.enter_context(mock.patch.object(ending, "time", SimpleNamespace(monotonic=self.world.clock)))
            stack.enter_context(mock.patch.object(tracker, "find_source", find_source))
            self.disk.enter(stack)
            yield

    def begin_call(self, what: Callable[[], Any]) -> None:
        """Make a call of the training's, in a thread that may wait."""

        def work() -> None:
            try:
                value = what()
            except BaseException as error:  # noqa: BLE001 - told
                self.call = {"call": "raised", "error": f"{type(error).__name__}: {error}"}
            else:
                self.call = {"call": "returned", "value": to_tagged(value)}

        self.called, self.call = True, None
        self.world.thread(work, daemon=True).start()

    def start(self, options: dict[str, Any]) -> None:
        """Start the run."""
        settings = Settings(dir=self.folder, key=options.get("key"), tls=options.get("tls", False))
        scheme = "tls" if settings.tls else "tcp"
        endpoint = parse_endpoint(f"{scheme}://{options.get('host', 'localhost')}:9999", settings)
        world = self.world
        sender = {"connect": self.connect, "clock": world.clock, "wake": world.wake}
        sender |= {"thread": world.thread, "condition": world.condition}
        if options.get("collector", True):
            self.transport = TcpTransport(endpoint, self.folder, sender=sender)
        else:
            self.transport = LocalTransport(self.folder)
        given = {ours: options[name] for name, ours in RUN_OPTIONS.items() if name in options}
        self.run = Tracker.start_run(transport=self.transport, settings=settings, **given)
        exits.unwatch(self.run)  # the testee may end in the middle of a session, and its clock stands still then

    def ship(self, *, again: bool) -> bool:
        """Ship what lies in the folder, and return whether that is told as a success."""
        settings = Settings(dir=self.folder)
        endpoint = parse_endpoint("tcp://localhost:9999", settings)
        world = self.world
        options = {"connect": self.connect, "clock": world.clock, "wake": world.wake}
        report = Syncer(SpoolDir(self.folder), endpoint, again=again, **options).sync()
        for text in report.remarks(0):
            self.lines.write(f"{text}\n")
        return report.is_complete

    # ------------------------------------------------------------------------------------------ the connection

    def connect(self, endpoint: Endpoint, timeout: float) -> Channel:
        """Wait for the suite to say what comes of it, and return our end of the connection."""
        self.wanted = True
        self.world.wait(timeout, lambda: self.outcome is not None)
        outcome, self.outcome, self.wanted = self.outcome, None, False
        if not outcome:
            raise TransportError(endpoint.url, "timed out" if outcome is None else "nobody listens there")
        check_peer(endpoint, outcome)
        ours, self.peer = socket.socketpair()
        self.stalled = False
        self.peer.setblocking(False)
        return Channel(ours, outcome, endpoint.url)

    def receive(self, data: bytes) -> None:
        """Let the emitter read bytes of the collector."""
        while data and self.peer is not None:
            with contextlib.suppress(BlockingIOError):
                data = data[self.peer.send(data) :]
            self.settle()

    def disconnect(self) -> None:
        """Close the collector's end."""
        if self.peer is not None:
            self.peer.close()
            self.peer = None

    def settle(self) -> None:
        """Let the threads do what they can, and take what is written, until nothing more comes."""
        self.world.settle()
        while self.peer is not None and not self.stalled:
            try:
                data = self.peer.recv(1 << 20)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data = b""
            if data:
                self.written += data
            else:
                self.disconnect()
            self.world.settle()

    # ------------------------------------------------------------------------------------------ facts

    def counts(self) -> dict[str, int]:
        """Return what the run tells of its events."""
        if self.run is None:
            return {}
        stats = self.run.stats()
        found = {"accepted": stats.accepted, "dropped": stats.dropped, "refused": stats.refused}
        delivery = stats.delivery
        if delivery is not None:
            found |= {"acked": delivery.acked, "unconfirmed": delivery.unconfirmed, "waiting": delivery.waiting}
        return found

    def forget(self) -> None:
        """Let go of everything."""
        self.disconnect()
        with self.surroundings():
            self.disk.forces = True
            self.world.settle()  # whoever waits for the disk holds locks
            if self.transport is not None:
                self.begin_call(self.transport.close)
            self.world.advance(self.world.now + 100.0)  # longer than anything waits for a collector
        self.disconnect()
        if not self.is_shared:
            shutil.rmtree(self.folder, ignore_errors=True)


class Disk:
    """The disk that an emitter sees: whether it is full, how large it is, and whether it can be forced."""

    def __init__(self, world: World, *, is_looked_at: bool) -> None:
        self.world = world
        self.is_looked_at = is_looked_at
        self.clock = SimpleNamespace(monotonic=world.clock)
        self.threading = SimpleNamespace(Thread=world.thread, Condition=world.condition)
        self.syncers: dict[int, Any] = {}
        self.is_full = False
        self.forces: bool | str = True
        self.forced = 0
        self.freed = 0
        self.size: tuple[int, int] | None = None
        self.write, self.truncate, self.force = os.write, os.ftruncate, spool_writer.sync_file

    def enter(self, stack: contextlib.ExitStack) -> None:
        """Have the emitter see it."""
        stack.enter_context(mock.patch.object(room, "time", self.clock))
        if self.is_full:
            stack.enter_context(mock.patch.object(os, "write", self.write_where_room_is))
            stack.enter_context(mock.patch.object(os, "ftruncate", self.make_room))
        if self.is_looked_at:  # what is forced every second is so by this world's clock
            stack.enter_context(mock.patch.multiple(syncing, threading=self.threading, time=self.clock))
            stack.enter_context(mock.patch.object(syncing, "_syncers", self.syncers))
            stack.enter_context(mock.patch.object(spool_writer, "sync_file", self.sync_file))
        if self.size is not None:
            total, free = self.size
            usage = SimpleNamespace(total=total, used=total - free, free=free)
            stack.enter_context(mock.patch.object(shutil, "disk_usage", return_value=usage))

    def write_where_room_is(self, fd: int, data: Any) -> int:
        """Stand in for ``os.write`` on a disk that is full but for what the emitter has given up."""
        if len(data) > self.freed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.freed -= len(data)
        return self.write(fd, data)

    def make_room(self, fd: int, length: int) -> None:
        """Stand in for ``os.ftruncate`` on such a disk."""
        self.freed += max(0, os.fstat(fd).st_size - length)
        self.truncate(fd, length)

    def sync_file(self, fd: int) -> None:
        """Stand in for what forces a file to the disk."""
        if self.forces == "slowly":
            self.world.wait(math.inf, lambda: self.forces != "slowly")
        if not self.forces:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.force(fd)
        self.forced += 1
