"""One stream on its way out: numbers events, encodes them and hands them to the transport, from any thread or fork.

The whole of it happens in the calling thread, under a lock: the order in the file is the order of seqs, and when a call
returns, the event is where the transport promises. An event that can't be encoded takes no seq; one that the transport
couldn't take has its seq declared lost (``skip``) as soon as something can be sent again. spec: ENV-4, STR-3, STR-7
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Final

import attrs
import msgspec

from xtrack_protocol.emitter.shrink import shrink, split_batch
from xtrack_protocol.emitter.values import to_text
from xtrack_protocol.errors import EncodeError, TransportError, XTrackError
from xtrack_protocol.ir import (
    Alert,
    CommandResult,
    Envelope,
    EventMeta,
    LogEntry,
    Metric,
    MetricBatch,
    Payload,
    RunStart,
    Skip,
    Summary,
    Tags,
)
from xtrack_protocol.limits import FRAME_MAX_EMIT
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import make_private_dir, write_private
from xtrack_protocol.transport import Promise, StreamInfo, Transport
from xtrack_protocol.wire import encode

_WARN_SECONDS: Final = 60.0

_METRIC = type(Envelope.of(Metric("", "", 0), seq=1, timestamp_us=0))


@attrs.frozen(kw_only=True)
class RunStats:
    """What an emitter has done so far.

    ``accepted``: events that the transport took. ``dropped``: events that it couldn't take, their seqs declared lost.
    ``refused``: calls with values that are no event. ``cut``: events whose text was too long. ``warnings``: by kind.
    """

    accepted: int
    accepted_bytes: int
    dropped: int
    refused: int
    cut: int
    warnings: dict[str, int]


def new_session_id() -> str:
    """Return 128 random bits in hex. spec: STR-1"""
    return os.urandom(16).hex()


def now_us() -> int:
    """Return microseconds since the Unix epoch."""
    return time.time_ns() // 1000


class StreamEmitter:
    """Emits one stream; in a forked child, at its first event, that child's own stream."""

    def __init__(
        self,
        transport: Transport,
        stream: StreamId,
        *,
        additive: bool,
        strict: bool,
        attachments: Path | None,
    ) -> None:
        self._transport = transport
        self._additive = additive
        self._strict = strict
        self._attachments = attachments
        self._pid = os.getpid()
        self._forks: dict[int, threading.RLock] = {}
        self._begin(stream)
        transport.open(StreamInfo(stream=stream))

    def _begin(self, stream: StreamId) -> None:
        self.stream = stream
        self._worker_id = stream.worker_id or None
        self._session_id = stream.session_id
        self._lock = threading.RLock()
        self._seq = 0
        self._lost: tuple[int, int] | None = None
        self._accepted = self._accepted_bytes = self._dropped = self._refused = self._cut = 0
        self._warned: dict[str, tuple[int, float]] = {}

    # ------------------------------------------------------------------------------------------ what is asked

    @property
    def transport(self) -> Transport:
        """The transport of this process."""
        return self._transport

    @property
    def seq(self) -> int:
        """The last seq given out."""
        return self._seq

    @property
    def is_child(self) -> bool:
        """Whether this process is a fork of the one that opened the stream."""
        return os.getpid() != self._pid

    def stats(self) -> RunStats:
        """Return the counts so far, of this process."""
        return RunStats(
            accepted=self._accepted,
            accepted_bytes=self._accepted_bytes,
            dropped=self._dropped,
            refused=self._refused,
            cut=self._cut,
            warnings={kind: count for kind, (count, _) in self._warned.items()},
        )

    # ------------------------------------------------------------------------------------------ emitting

    def emit_metric(self, metric: Metric, timestamp_us: int | None) -> bool:
        """Emit a metric: :meth:`emit` without what a metric never needs, for it is what a training emits most."""
        if os.getpid() != self._pid:
            self._enter_child()
        with self._lock:
            seq = self._seq + 1
            if timestamp_us is None:
                timestamp_us = time.time_ns() // 1000
            try:
                payload = encode(_METRIC(1, EventMeta(seq, timestamp_us, self._worker_id, self._session_id), metric))
            except EncodeError as error:
                return self.refuse("value", f"metric {metric.key!r} can't be sent: {error}", error)
            if len(payload) > FRAME_MAX_EMIT:
                return self.refuse("size", f"a metric's name has {len(metric.key)} characters: not sent")
            return self._send(seq, payload)

    def emit(self, payload: Payload, timestamp_us: int | None = None) -> bool:
        """Emit one event; return whether the transport took it. Raises nothing, but in strict mode."""
        if os.getpid() != self._pid:
            self._enter_child()
        if not self._additive:
            payload = as_published(payload)
        with self._lock:
            when = now_us() if timestamp_us is None else timestamp_us
            try:
                encoded = self._encode(payload, self._seq + 1, when)
                if len(encoded) > FRAME_MAX_EMIT:
                    return self._emit_too_large(payload, when)
            except EncodeError as error:
                return self.refuse("value", f"{type(payload).__name__} can't be sent: {error}", error)
            return self._send(self._seq + 1, encoded)

    def _encode(self, payload: Payload, seq: int, timestamp_us: int) -> bytes:
        return encode(
            Envelope.of(
                payload,
                seq=seq,
                timestamp_us=timestamp_us,
                worker_id=self._worker_id,
                session_id=self._session_id,
            )
        )

    def _emit_too_large(self, payload: Payload, timestamp_us: int) -> bool:
        """Split or cut an event that no receiver would take. spec: FRM-3"""
        if isinstance(payload, MetricBatch):
            parts = split_batch(payload)
            if len(parts) > 1:
                first, second = (self.emit(part, timestamp_us) for part in parts)
                return first and second
        short = shrink(payload, self._save_text)
        encoded = None if short is None else self._encode(short, self._seq + 1, timestamp_us)
        if encoded is None or len(encoded) > FRAME_MAX_EMIT:
            return self.refuse("size", f"{type(payload).__name__} is larger than a frame can be: not sent")
        self._cut += 1
        self.warn("cut", f"a {type(payload).__name__} was too long and has been cut; its full text is kept as a file")
        return self._send(self._seq + 1, encoded)

    def _save_text(self, kind: str, text: str) -> str | None:
        if self._attachments is None:
            return None
        path = self._attachments / f"{kind}-{self._session_id[:8]}-{self._seq + 1}.txt"
        try:
            make_private_dir(self._attachments)
            write_private(path, text.encode("utf-8", "backslashreplace"))
        except OSError as error:
            self.warn("attachment", f"the full text of a {kind} could not be kept: {error}")
            return None
        return to_text(str(path))

    def _send(self, seq: int, payload: bytes) -> bool:
        try:
            if self._lost:
                self._declare_lost()
            self._transport.send(seq, payload)
        except TransportError as error:
            self._seq = seq
            self._lost = (self._lost[0] if self._lost else seq, seq)
            self._dropped += 1
            if self._strict:
                raise
            self.warn("dropped", f"events are being lost: {error}")
            return False
        self._seq = seq
        self._accepted += 1
        self._accepted_bytes += len(payload)
        return True

    def _declare_lost(self) -> None:
        """Say which seqs will never come, before anything else is sent. spec: STR-7"""
        assert self._lost is not None
        first, last = self._lost
        if self._additive:
            skip = Skip(self.stream.run_id, self._session_id, first, last, "the transport failed", self._worker_id)
            self._transport.send(0, self._encode(skip, 0, now_us()))
        self._lost = None

    def answer(self, result: CommandResult) -> bool:
        """Send the answer to a command. It has no seq; a peer of the published protocol gets it as a log event."""
        if not self._additive:
            return self.emit(result)
        with self._lock:
            try:
                return self._transport.send_control(self._encode(result, 0, now_us()))
            except TransportError as error:
                self.warn("command", f"the answer to a command could not be sent: {error}")
                return False

    def flush(self, until: Promise, timeout: float) -> bool:
        """Wait until all that was emitted is kept as ``until`` says; return whether it is."""
        with self._lock:
            try:
                if self._lost:
                    self._declare_lost()
                return self._transport.flush(until, timeout) and not self._lost
            except TransportError as error:
                if self._strict:
                    raise
                self.warn("flush", f"what was logged may not be on disk: {error}")
                return False

    def close(self) -> None:
        """Release the transport."""
        with self._lock:
            try:
                self._transport.close()
            except TransportError as error:
                if self._strict:
                    raise
                self.warn("close", f"what was logged may not be on disk: {error}")

    # ------------------------------------------------------------------------------------------ complaints

    def refuse(self, kind: str, text: str, error: XTrackError | TypeError | ValueError | None = None) -> bool:
        """Count a call that can't become an event, and warn; raise in strict mode. Returns False."""
        self._refused += 1
        if self._strict:
            raise error or ValueError(text)
        self.warn(kind, text)
        return False

    def warn(self, kind: str, text: str) -> None:
        """Write one line on stderr, at most one a minute of each kind; count them all."""
        count, last = self._warned.get(kind, (0, 0.0))
        now = time.monotonic()
        due = count == 0 or now - last >= _WARN_SECONDS
        self._warned[kind] = (count + 1, now if due else last)
        if due:
            say(f"warning: {text}" + (f" ({count + 1} so far)" if count else ""))

    # ------------------------------------------------------------------------------------------ forks

    def _enter_child(self) -> None:
        """Open this process's own stream: the parent's belongs to the parent. spec: STR-3"""
        pid = os.getpid()
        # The parent's lock may have been held by a thread that doesn't exist here. setdefault is atomic.
        with self._forks.setdefault(pid, threading.RLock()):
            if self._pid == pid:
                return
            parent = self._transport
            self._begin(StreamId(self.stream.run_id, self.stream.worker_id, new_session_id()))
            self._transport = parent.for_child()
            self._pid = pid
            try:
                self._transport.open(StreamInfo(stream=self.stream))
            except XTrackError as error:
                if self._strict:
                    raise
                self.warn("child", f"a forked child's events are lost: {error}")
                return
            self.emit(RunStart(self.stream.run_id, sub=True))


def as_published(payload: Payload) -> Payload:
    """Return the event that stands for an additive one with a peer that knows the published types alone. spec: VER-3"""
    match payload:
        case Tags(run_id=run_id, tags=tags):
            return LogEntry(run_id, "info", "tags", "xtrack", fields=dict(tags))
        case Summary(run_id=run_id, values=values):
            return LogEntry(run_id, "info", "summary", "xtrack", fields=dict(values))
        case Alert(run_id=run_id, title=title, text=text, level=level):
            return LogEntry(run_id, level, f"{title}: {text}" if text else title, "xtrack")
        case CommandResult(run_id=run_id, command_id=command_id, status=status, message=message):
            fields = {"cmd_id": command_id, "status": status, "msg": message}
            return LogEntry(run_id, "info", "command_result", "xtrack", fields=fields)
        case RunStart():
            return msgspec.structs.replace(payload, resume=None, world_size=None, sub=False, observer=False)
    return payload


def say(text: str) -> None:
    """Write a line on stderr, if there is one."""
    stream = sys.stderr
    if stream is None:  # pythonw, or a daemon that closed it
        return
    try:
        stream.write(f"xtrack: {text}\n")
        stream.flush()
    except (OSError, ValueError):
        return  # a closed or broken stderr must not stop the training, and there is nobody to tell
