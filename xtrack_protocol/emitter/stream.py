"""One stream on its way out: numbers events, encodes them and hands them to the transport, from any thread or fork.

The whole of it happens in the calling thread, under a lock: the order in the file is the order of seqs, and when a call
returns, the event is where the transport promises. An event that can't be encoded takes no seq; one that the transport
couldn't take has its seq declared lost (``skip``) as soon as something can be sent again.
spec: ENV-4, STR-3, STR-7, DLV-7, EMT-6
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from xtrack_protocol._terminal import escape
from xtrack_protocol._value import Value
from xtrack_protocol.emitter.quick import NOWHERE, TurnLock, new_mark
from xtrack_protocol.emitter.shrink import shrink, split_batch
from xtrack_protocol.emitter.values import describe, to_text
from xtrack_protocol.errors import EncodeError, TransportError, XTrackError
from xtrack_protocol.ir.control import CommandResult, Skip
from xtrack_protocol.ir.envelope import Envelope, EventMeta, Payload
from xtrack_protocol.ir.files import Artifact
from xtrack_protocol.ir.lifecycle import RunStart
from xtrack_protocol.ir.values import Metric, MetricBatch
from xtrack_protocol.limits import FRAME_MAX_EMIT
from xtrack_protocol.session.published import as_published
from xtrack_protocol.session.streams import StreamId
from xtrack_protocol.spool.layout import make_private_dir, write_private
from xtrack_protocol.transport.base import Delivery, Promise, StreamInfo, Transport
from xtrack_protocol.wire.codec import encode

_WARN_SECONDS: Final = 60.0
_SUBJECTS_MAX: Final = 16

_encode_json: Final = msgspec.json.Encoder().encode


class RunStats(Value, frozen=True, kw_only=True):
    """What an emitter has done so far.

    ``accepted``: events that the transport took. ``dropped``: events that it couldn't take, their seqs declared lost.
    ``refused``: calls with values that are no event. ``cut``: events whose text was too long. ``warnings``: by kind.
    ``delivery``: how far a collector elsewhere has got; None where events go to none.
    """

    accepted: int
    accepted_bytes: int
    dropped: int
    refused: int
    cut: int
    warnings: dict[str, int]
    delivery: Delivery | None = None


def new_session_id() -> str:
    """Return 128 random bits in hex. spec: STR-1"""
    return os.urandom(16).hex()


def now_us() -> int:
    """Return microseconds since the Unix epoch."""
    return time.time_ns() // 1000


class StreamEmitter:
    """Emits one stream; in a forked child, at its first event, that child's own stream.

    Nothing here raises but what strict mode wants raised, and what a signal handler of the script's raises.
    """

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
        self._forks: dict[int, threading.RLock] = {}
        self.dated_us: int | None = None
        """The time of events that are told no other, where they belong to the past; None: now."""
        self._pid = os.getpid()
        self._begin(stream)
        transport.open(StreamInfo(stream=stream, warn=self.warn, lock=self._lock))
        self._here = new_mark()

    def _begin(self, stream: StreamId) -> None:
        """Be new, in this process. The locks too: a forked child's may be held by threads that don't exist there."""
        self.stream = stream
        self._worker_id = stream.worker_id or None
        self._session_id = stream.session_id
        self._lock = TurnLock()
        self._put: Callable[[int, bytes], bool] | None = None
        """A shorter way than the transport's ``send``."""
        self._busy = False
        """Whether an event is on its way out; for good, once the last one is."""
        self._is_finished = False
        self._deferred: list[tuple[Payload | None, int]] = []
        """What this thread logged in the middle of an event, and when; None: one of the calls below has its turn."""
        self._calls: list[Callable[[], None]] = []
        self._seq = 0
        self._lost: tuple[int, int] | None = None
        self._accepted_bytes = self._dropped = self._doubtful = self._refused = self._cut = self._texts = 0
        self._warned: dict[str, dict[str, tuple[int, float]]] = {}
        """By kind and subject: how often, and when it was last told."""
        self._untold = 0
        self._warning = threading.RLock()
        self._raised: BaseException | None = None
        self._here = NOWHERE
        """The process whose stream is open; none in a forked child that hasn't logged yet."""
        self._pid = os.getpid()

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
    def is_open(self) -> bool:
        """Whether this process has opened a stream: a forked child hasn't before its first event."""
        return self._here[0] != 0

    def stats(self) -> RunStats:
        """Return the counts so far, of this process."""
        self._forget_parent()
        return RunStats(
            accepted=self._seq - self._dropped - self._doubtful,  # every seq is one or the other
            accepted_bytes=self._accepted_bytes,
            dropped=self._dropped,
            refused=self._refused,
            cut=self._cut,
            warnings={kind: sum(count for count, _ in about.values()) for kind, about in tuple(self._warned.items())},
            delivery=self._transport.delivery(),
        )

    # ------------------------------------------------------------------------------------------ emitting

    def emit_numbers(self, kind: type[Envelope], payload: Metric | MetricBatch) -> bool | None:
        """Emit finite numbers, now; return as ``emit``, or None where they turn out to be no event as they are.

        It is :meth:`emit` without what such an event never needs, in one piece, for it is what a training emits most.
        """
        if not self._here[0]:
            self._enter_child()
        lock = self._lock
        lock.taken  # noqa: B018 - takes it
        try:
            if self._busy:
                return self.emit(payload)
            try:
                self._busy = True
                seq = self._seq + 1
                when = time.time_ns() // 1000
                try:
                    encoded = _encode_json(kind(1, EventMeta(seq, when, self._worker_id, self._session_id), payload))
                except (ValueError, TypeError):  # a lone surrogate in a name, as a rule
                    return None
                self._seq = seq  # as in _send
                try:
                    put = self._put
                    if put is None or not put(seq, encoded):
                        if len(encoded) > FRAME_MAX_EMIT:
                            self._seq = seq - 1  # nothing was taken
                            return self._emit_too_large(payload, when)
                        if self._lost:
                            self._declare_lost()
                        self._transport.send(seq, encoded)
                        self._put = self._transport.shortcut()
                except BaseException as error:  # noqa: BLE001 - as in _send
                    return self._not_taken(seq, error)
                self._accepted_bytes += len(encoded)
                return True
            finally:
                self._busy = self._is_finished
                if self._deferred:
                    self._emit_deferred()
        finally:
            lock.release()

    def emit(self, payload: Payload, timestamp_us: int | None = None) -> bool:
        """Emit one event; return whether the transport took it.

        A signal handler, or a finalizer, may log in the middle of this thread's logging. Its event waits until the
        one that it interrupted is out; True then says that it is in line.
        """
        if not self._here[0]:
            self._enter_child()
        with self._lock:
            if timestamp_us is None:
                timestamp_us = self.dated_us
            when = now_us() if timestamp_us is None else timestamp_us
            if self._is_finished:
                return self.refuse("ended", f"events of run {self.stream.run_id!r} came after its end")
            if self._busy:
                self._deferred.append((payload, when))
                return True
            try:
                self._busy = True
                return self._emit(payload, when)
            finally:
                self._busy = self._is_finished
                if self._deferred:
                    self._emit_deferred()

    def finish(self, last: Payload | None, timestamp_us: int | None = None) -> None:
        """Emit the last event, and let no other thread's come after it. spec: EVT-RUN_END-2.1"""
        self._forget_parent()
        with self._lock:
            if self._is_finished:
                return
            try:
                if self._busy:  # a signal handler ends the run inside of an event; whether that is out can't be known
                    self._seq += 1
                    self._doubtful += 1
                    self._lost = (self._lost[0] if self._lost else self._seq, self._seq)
                self._busy = True
                while self._deferred:
                    self._emit_next()
                when = now_us() if timestamp_us is None else timestamp_us
                if last is not None:
                    self._emit(last, when)
                if self._lost and self._transport.make_room():  # spec: DLV-7.2
                    if last is None:
                        self._declare_lost()
                    else:
                        self._emit(last, when)
            finally:
                self._is_finished = True
                self._make_calls()

    def when_idle(self, call: Callable[[], None]) -> bool:
        """Have ``call`` made once the event is out that this thread is in the middle of; return False if it is in none.

        For signal handlers: what they interrupt is never left half done.
        """
        in_the_middle = self._lock._is_owned() and self._busy and not self._is_finished  # type: ignore[attr-defined]  # noqa: SLF001 - as threading does
        if in_the_middle:
            self._calls.append(call)
            self._deferred.append((None, 0))
        return in_the_middle

    def hurry(self) -> None:
        """Have the transport wait for nothing any more: the process ends in seconds, other threads in their loops."""
        self._transport.hurry()
        self._warned["ended"] = {"": (1, time.monotonic())}  # not worth a line to these threads

    def _emit_next(self) -> None:
        """Emit what was deferred first; a call that has its turn is left to ``_make_calls``."""
        payload, when = self._deferred.pop(0)
        if payload is not None:
            self._emit(payload, when)

    def _make_calls(self) -> None:
        while self._calls:
            self._calls.pop(0)()

    def _emit_deferred(self) -> None:
        """Emit what was logged in the meantime, by this thread itself; nobody else gets in between.

        A signal handler that comes before the stream is busy emits by itself, what was deferred included; one that
        comes later defers once more. So both loops ask anew.
        """
        while self._deferred:
            try:
                self._busy = True
                while self._deferred:
                    is_call = self._deferred[0][0] is None
                    self._emit_next()
                    if is_call:
                        break
            finally:
                self._busy = self._is_finished
            self._make_calls()

    def _emit(self, payload: Payload, when: int) -> bool:
        if not self._additive:
            payload = as_published(payload)
        try:
            encoded = self._encode(payload, self._seq + 1, when)
        except EncodeError as error:
            return self.refuse("value", f"{type(payload).__name__} can't be sent: {error}", error)
        if len(encoded) > FRAME_MAX_EMIT:
            return self._emit_too_large(payload, when)
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

    def _emit_too_large(self, payload: Payload, when: int) -> bool:
        """Split or cut an event that no receiver would take. spec: FRM-3.10, FRM-3.11"""
        if isinstance(payload, MetricBatch):
            parts = split_batch(payload)
            if len(parts) > 1:
                sent = [self._emit(part, when) for part in parts]  # every one, whatever became of another
                return all(sent)
        texts: list[Path] = []
        short = shrink(payload, lambda kind, text: self._save_text(kind, text, texts))
        if short is None or len(self._encode(short, self._seq + 1, when)) > FRAME_MAX_EMIT:
            return self.refuse("size", f"{type(payload).__name__} is larger than a frame can be: not sent")
        self._cut += 1
        kept = "its full text is kept as a file" if texts else "the rest of its text is lost"
        self.warn("cut", f"an event ({type(payload).__name__}) was too long and has been cut; {kept}")
        for path in texts:  # before the event itself, which may be the last one of the stream
            self._emit(Artifact(self.stream.run_id, to_text(path), "log", path.name, {"xtrack.full_text": True}), when)
        return self._send(self._seq + 1, self._encode(short, self._seq + 1, when))

    def _save_text(self, kind: str, text: str, saved: list[Path]) -> str | None:
        if self._attachments is None:
            return None
        self._texts += 1
        path = self._attachments / f"{kind}-{self._session_id[:8]}-{self._texts}.txt"
        try:
            make_private_dir(self._attachments)
            write_private(path, text.encode("utf-8", "backslashreplace"))
        except OSError as error:
            self.warn("attachment", f"the full text of a {kind} could not be kept: {error}")
            return None
        saved.append(path)
        return to_text(path)

    def _send(self, seq: int, payload: bytes) -> bool:
        # Taken from here on, whatever happens: when a signal handler raises, the event may be out all the same, and
        # another one of its seq would be dropped by every reader.
        self._seq = seq
        try:
            if self._lost:
                self._declare_lost()
            self._transport.send(seq, payload)
        except BaseException as error:  # noqa: BLE001 - counted, and raised where it is no error of the transport
            return self._not_taken(seq, error)
        self._accepted_bytes += len(payload)
        return True

    def _not_taken(self, seq: int, error: BaseException) -> bool:
        """Remember that an event is lost, to declare it; return False, or raise what must be raised."""
        self._lost = (self._lost[0] if self._lost else seq, seq)
        self._put = None  # which declares no losses
        if not isinstance(error, Exception):
            self._doubtful += 1
            raise error  # Ctrl-C; if the event did go out, its declared loss does no harm. spec: STR-7
        self._dropped += 1
        if self._strict:
            self._raised = error
            raise error
        self.warn("dropped", f"events are being lost: {describe(error)}")
        return False

    def _declare_lost(self) -> None:
        """Say which seqs will never come, before anything else is sent. spec: STR-7"""
        assert self._lost is not None
        problem = self._transport.no_room()
        if problem is not None:
            raise problem
        first, last = self._lost
        if self._additive:
            skip = Skip(self.stream.run_id, self._session_id, first, last, "the transport failed", self._worker_id)
            self._transport.send(0, self._encode(skip, 0, now_us()))
        self._lost = None

    def answer(self, result: CommandResult) -> bool:
        """Send the answer to a command. It has no seq; a peer of the published protocol gets it as a log event."""
        if not self.is_open:
            return False
        if not self._additive:
            return self.emit(result)
        try:
            sent = self._transport.send_control(self._encode(result, 0, now_us()))
        except (EncodeError, TransportError) as error:
            self.warn("command", f"the answer to a command could not be sent: {error}")
            return False
        if not sent and self._transport.answers_as_events(result.command_id):
            return self.emit(as_published(result))
        if not sent:  # whoever asked has given up: nothing that a line on stderr could help
            self.warn("unheard", "", quietly=True)
        return sent

    def flush(self, until: Promise, timeout: float) -> bool:
        """Wait until all that was emitted is kept as ``until`` says; return whether it is."""
        if not self.is_open:
            return True  # this process has emitted nothing
        try:
            with self._lock:
                if self._lost and (self._is_finished or not self._busy):
                    self._declare_lost()
            # Without the lock: to wait for a disk must not stop the other threads.
            return self._transport.flush(until, timeout) and not self._lost
        except TransportError as error:
            if self._strict:
                self._raised = error
                raise
            self.warn("flush", f"what was logged may not be on disk: {error}")
            return False

    def close(self) -> None:
        """Release the transport."""
        if not self.is_open:
            return
        with self._lock:
            try:
                self._transport.close()
            except TransportError as error:
                if self._strict:
                    self._raised = error
                    raise
                self.warn("close", f"what was logged may not be on disk: {error}")

    # ------------------------------------------------------------------------------------------ complaints

    @property
    def untold(self) -> int:
        """How many calls were refused without a line about it, as one like it had been written."""
        return self._untold

    def refuse(self, kind: str, text: str, error: Exception | None = None, *, about: str = "") -> bool:
        """Count a call that can't become an event as it is, and warn; raise in strict mode. Returns False."""
        self._forget_parent()
        with self._warning:
            self._refused += 1
        if self._strict:
            self._raised = error or ValueError(text)
            raise self._raised
        if not self._tell(kind, text, about) and kind != "ended":  # threads may go on for a while after the end
            with self._warning:
                self._untold += 1
        return False

    def failed(self, call: str, error: Exception) -> bool:
        """Count an error that came out of a call where none should; return whether it must not go further."""
        if error is self._raised:  # strict mode's own
            self._raised = None
            return False
        self._forget_parent()
        with self._warning:
            self._refused += 1
        if not self._strict:
            self.warn("call", f"{call} failed: {describe(error)}")
        return not self._strict

    def warn(self, kind: str, text: str, *, quietly: bool = False) -> None:
        """Write one line on stderr, at most one a minute of each kind; count them all, the quiet ones too."""
        self._tell(kind, text, quietly=quietly)

    def _tell(self, kind: str, text: str, about: str = "", *, quietly: bool = False) -> bool:
        """Warn, and return whether there was a line.

        ``about``: the metric or argument that is wrong. The first ones of a kind have a line each: that one of them is
        wrong tells nobody of another.
        """
        self._forget_parent()
        with self._warning:
            subjects = self._warned.setdefault(kind, {})
            subject = about if about in subjects or len(subjects) < _SUBJECTS_MAX else ""
            count, last = subjects.get(subject, (0, 0.0))
            now = time.monotonic()
            due = count == 0 or now - last >= _WARN_SECONDS
            subjects[subject] = (count + 1, now if due else last)
        told = due and not quietly
        if told:
            say(f"warning: {text}" + (f" ({count + 1} so far)" if count else ""))
        return told

    # ------------------------------------------------------------------------------------------ forks

    def _forget_parent(self) -> None:
        """In a forked child, begin a stream of its own: the parent's belongs to the parent. spec: STR-3"""
        pid = os.getpid()
        if self._pid == pid:
            return
        # Several threads of the child may come here at once, and the parent's lock may have been held by a thread that
        # doesn't exist here. setdefault is atomic.
        with self._forks.setdefault(pid, threading.RLock()):
            if self._pid == pid:
                return
            parent = self._transport
            self._transport = parent.for_child()
            self._begin(StreamId(self.stream.run_id, self.stream.worker_id, new_session_id()))

    def _enter_child(self) -> None:
        """Open the stream of a forked child, with a run_start that says what it is. spec: STR-3"""
        self._forget_parent()
        with self._lock:
            if self.is_open:
                return  # another thread of this child was quicker
            try:
                self._transport.open(StreamInfo(stream=self.stream, warn=self.warn, lock=self._lock))
            except XTrackError as error:
                self._here = new_mark()  # once is enough: its events are dropped, and counted
                if self._strict:
                    self._raised = error
                    raise
                self.warn("child", f"a forked child's events are lost: {error}")
                return
            self._here = new_mark()
            self.emit(RunStart(self.stream.run_id, sub=True))


def say(text: str) -> None:
    """Write a line on stderr, if there is one; a single line, whatever was logged."""
    stream = sys.stderr
    if stream is None:  # pythonw, or a daemon that closed it
        return
    try:
        stream.write(f"xtrack: {escape(text)}\n")
        stream.flush()
    except (OSError, ValueError, RuntimeError):  # the last one in a signal handler that has interrupted a write to it
        return  # a closed or broken stderr must not stop the training, and there is nobody to tell
