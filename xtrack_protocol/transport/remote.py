"""To a collector elsewhere, over TCP, TLS or a Unix socket: the spool first, and a sender behind it. spec: DLV-8

What is logged goes to the local spool exactly as with ``local``, and no call waits for anything else. A thread ships it
from there. So a collector that is slow, stopped or gone costs nothing but disk, and what it hasn't got when the process
ends is shipped by ``xtrack sync``.
"""

from __future__ import annotations

import shlex
import socket
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from xtrack_protocol.errors import ConfigurationError, DecodeError
from xtrack_protocol.ir import Command, CommandResult, Envelope
from xtrack_protocol.sender.lane import Lane
from xtrack_protocol.sender.sender import Sender
from xtrack_protocol.session import FEATURE_COMMANDS, StreamId
from xtrack_protocol.spool import SpoolDir, is_alive, is_locked, lock_path, streams_of
from xtrack_protocol.spool.layout import SHIP_SUFFIX
from xtrack_protocol.spool.shipping import read_note, trim
from xtrack_protocol.transport.base import Delivery, Promise, StreamInfo
from xtrack_protocol.transport.local import LocalTransport
from xtrack_protocol.wire import decode, encode

if TYPE_CHECKING:
    from xtrack_protocol.net.endpoint import Endpoint

COMMANDS_MAX: Final = 1000
"""Commands that wait for a training which doesn't look at them; the oldest ones go first when there are more."""

ASKED_MAX: Final = 10_000
"""Commands of which it is known that their answers go to the collector, and not to the mailbox."""


class RemoteTransport(LocalTransport):
    """Accepted means: in this machine's kernel, as for ``local``. Acked: committed by the collector at ``endpoint``.

    ``root``: the folder that XTRACK_DIR names. ``sender``: options of the sender, for tests. ``takes_commands``: say
    to the collector that this process takes them, and answers each (spec: CTL-15.1). Commands come from the
    collector, and through the mailbox in the run's folder; answers go back the same way.
    """

    is_buffer = True

    def __init__(
        self,
        endpoint: Endpoint,
        root: str | Path | None = None,
        *,
        sender: dict[str, Any] | None = None,
        takes_commands: bool = True,
        **local: Any,
    ) -> None:
        super().__init__(root, **local)
        self._endpoint = endpoint
        self._sender_options = sender or {}
        self._local_options = local
        self._takes_commands = takes_commands
        self._sender: Sender | None = None
        self._lane: Lane | None = None
        self._commands: deque[bytes] = deque(maxlen=COMMANDS_MAX)
        self._asked_from_afar: dict[str, None] = {}

    @property
    def address(self) -> str:
        return self._endpoint.url

    @property
    def ship_command(self) -> str:
        """The command that ships what is left in the spool."""
        default = Path("~/.xtrack").expanduser()
        folder = "" if self.root == default else f" {shlex.quote(str(self.root))}"
        return f"xtrack sync{folder} --to {shlex.quote(self._endpoint.url)}"

    def open(self, info: StreamInfo) -> None:
        super().open(info)
        try:
            self._begin(info)
        except BaseException:
            super().close()
            raise

    def _begin(self, info: StreamInfo) -> None:
        stream = info.stream
        lane = Lane.of(self._dir.run_dir(stream.run_id), stream, None, self._endpoint.url, buffer=True)
        writer = self._writer
        assert writer is not None
        lane.spooled = lambda: max(writer.last_seq, info.first_seq - 1)
        lane.unsaved = True
        lane.take()  # the session id is new: nobody else can have it
        try:
            lane.save()
        except OSError as error:
            info.warn("note", f"{lane.run_dir}: can't note where the run is shipped to: {error}")
        sender = Sender(
            self._endpoint,
            warn=info.warn,
            on_command=self._take_command,
            features=(FEATURE_COMMANDS,) if self._takes_commands else (),
            upkeep=lambda: _trim_all(self._dir, lane, info),
            orphans=_Orphans(lane),
            **self._sender_options,
        )
        sender.add(lane)
        self._sender, self._lane = sender, lane

    def send(self, seq: int, payload: bytes) -> None:
        super().send(seq, payload)
        sender = self._sender
        assert sender is not None
        if sender.asleep:
            sender.notify()

    def shortcut(self) -> Callable[[int, bytes], bool] | None:
        """The segment itself, until the disk has to be asked again for what it leaves to others."""
        sender, reserve = self._sender, self._reserve
        pen = self._writer.pen() if self._writer else None
        if sender is None or reserve is None or pen is None or type(self).send is not RemoteTransport.send:
            return None
        due, now, write = reserve.due, time.monotonic, pen.put

        def put(seq: int, payload: bytes) -> bool:
            if now() >= due or not write(seq, payload):
                return False
            if sender.asleep:
                sender.notify()
            return True

        return put if reserve.has_room else None

    def flush(self, until: Promise, timeout: float) -> bool:
        """As for ``local``; until ``acked``, wait for a collector, but not for one that acks nothing. spec: VER-3.3"""
        if until != "acked":
            return super().flush(until, timeout)
        lane, sender = self._lane, self._sender
        if lane is None or sender is None or self._writer is None:
            return False
        return sender.wait_acked(lane, lane.end_seq, timeout) and not lane.note.rejected_count

    def delivery(self) -> Delivery | None:
        lane, sender = self._lane, self._sender
        if lane is None or sender is None:
            return Delivery(address=self.address, ship_with=self.ship_command)
        return Delivery(
            address=self.address,
            connected=sender.connected,
            acked=lane.committed,
            unconfirmed=lane.unconfirmed,
            waiting=lane.waiting,
            rejected=dict(lane.refused_counts),
            connections=sender.connections,
            problem=lane.held or sender.problem,
            ship_with=self.ship_command,
        )

    # ------------------------------------------------------------------------------------------ commands

    def _take_command(self, command: Command) -> None:
        """Keep a command for the training to look at. Called in the sender's thread."""
        self._asked_from_afar[command.command_id] = None
        if len(self._asked_from_afar) > ASKED_MAX:
            self._asked_from_afar.pop(next(iter(self._asked_from_afar)))
        self._commands.append(encode(Envelope.of(command, seq=0, timestamp_us=time.time_ns() // 1000)))

    def receive(self) -> list[bytes]:
        found = super().receive()
        while self._commands:
            found.append(self._commands.popleft())
        return found

    def send_control(self, payload: bytes) -> bool:
        sender = self._sender
        if sender is None or self._writer is None:
            return False
        try:
            result = decode(payload).payload
        except DecodeError:
            return False
        if not isinstance(result, CommandResult) or result.command_id not in self._asked_from_afar:
            return super().send_control(payload)
        if sender.is_plain:
            return False
        sender.post(result)
        return True

    def answers_as_events(self, command_id: str) -> bool:
        sender = self._sender
        return sender is not None and sender.is_plain and command_id in self._asked_from_afar

    # ------------------------------------------------------------------------------------------ the end, and forks

    def close(self) -> None:
        if self._sender is not None:
            self._sender.close()
        super().close()

    def for_child(self) -> RemoteTransport:
        if self._sender is not None:
            self._sender.abandon()
        super().for_child()
        return type(self)(
            self._endpoint, self.root, sender=self._sender_options, takes_commands=False, **self._local_options
        )


class TcpTransport(RemoteTransport):
    """A collector's TCP port, with TLS or without."""

    name = "tcp"


class UnixTransport(RemoteTransport):
    """A collector's Unix socket, on this machine."""

    name = "unix"

    def open(self, info: StreamInfo) -> None:
        if not hasattr(socket, "AF_UNIX"):
            raise ConfigurationError("XTRACK_TRANSPORT", "unix", "there are no Unix sockets on this system", "Use tcp")
        super().open(info)


class _Orphans:
    """Finds streams of a run whose sender is gone: of forked children, and of an earlier session that was killed."""

    def __init__(self, own: Lane) -> None:
        self._own = own
        self._seen = {own.stream}

    def __call__(self) -> list[Lane]:
        """Return those that weren't returned before, each taken."""
        run_dir, url = self._own.run_dir, self._own.note.to
        found = []
        for stream in streams_of(run_dir):
            if stream in self._seen or is_locked(lock_path(run_dir, stream.session_id)) is not False:
                continue
            note = read_note(run_dir, stream)
            if note is None or note.to != url or not note.buffer:
                self._seen.add(stream)
                continue
            lane = Lane.of(run_dir, stream, note, url, buffer=True)
            if lane.take():
                lane.passive = True
                self._seen.add(stream)
                found.append(lane)
        return found


def _trim_all(spool: SpoolDir, own: Lane, info: StreamInfo) -> None:
    """Remove what a collector has kept for a day, of this stream and of others that nobody ships now."""
    now_us = time.time_ns() // 1000
    for run_dir in spool.run_dirs():
        if not any(run_dir.glob(f"*{SHIP_SUFFIX}")):
            continue
        for stream in streams_of(run_dir):
            try:
                if stream == own.stream:
                    trim(run_dir, stream, own.note, now_us)
                else:
                    _trim_other(run_dir, stream, now_us)
            except OSError as error:
                info.warn("trim", f"{run_dir}: what a collector has can't be removed: {error}")
        time.sleep(0.001)  # a spool may be large, and the training wants the interpreter


def _trim_other(run_dir: Path, stream: StreamId, now_us: int) -> None:
    note = read_note(run_dir, stream)
    if note is None or not note.buffer or is_alive(run_dir, stream):
        return
    lane = Lane.of(run_dir, stream, note, note.to, buffer=True)
    if lane.take():
        try:
            trim(run_dir, stream, note, now_us)
        finally:
            lane.close()


__all__ = ["RemoteTransport", "TcpTransport", "UnixTransport"]
