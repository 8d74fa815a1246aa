"""Listeners: code of this process that runs when a run starts, ends, or logs numbers.

They are called in a thread of their own, in the order of the events, so that a slow or failing one costs a training
nothing but the price of a queue. Where nobody listens, nothing of this is loaded: a run that starts while somebody does
has a stream of the class below instead of the ordinary one.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from typing_extensions import Self

from xtrack_protocol._value import Value
from xtrack_protocol.emitter import exits, tracker
from xtrack_protocol.emitter.stream import StreamEmitter, say
from xtrack_protocol.emitter.values import describe, shown_in_error
from xtrack_protocol.emitter.within import stand_apart
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.ir.envelope import Payload
from xtrack_protocol.ir.lifecycle import EndStatus, RunEnd, RunStart
from xtrack_protocol.ir.values import Metric, MetricBatch

_QUEUE_MAX: Final = 10_000
"""Events that wait at most; of what comes then all but starts and ends is dropped, and counted."""

_EXIT_SECONDS: Final = 5.0
"""How long the end of the process waits for listeners."""

_WARN_SECONDS: Final = 60.0


class HeardEvent(Value, frozen=True, kw_only=True):
    """An event that was logged: of which run and worker, when (microseconds since the Unix epoch), and the payload."""

    run_id: str
    worker_id: str | None
    session_id: str
    timestamp_us: int
    payload: Payload

    @property
    def metrics(self) -> Mapping[str, int | float]:
        """The numbers of a metric or a batch of them, by name; of a run_end its final metrics; else none."""
        if isinstance(self.payload, Metric):
            return {self.payload.key: self.payload.value}
        if isinstance(self.payload, MetricBatch):
            return self.payload.metrics
        return self.payload.final_metrics if isinstance(self.payload, RunEnd) else {}

    @property
    def step(self) -> int | None:
        """The step of a metric or a batch of them."""
        return self.payload.step if isinstance(self.payload, (Metric, MetricBatch)) else None

    @property
    def status(self) -> EndStatus | None:
        """How the run ended, of a run_end."""
        return self.payload.status if isinstance(self.payload, RunEnd) else None


Callback: TypeAlias = Callable[[HeardEvent], object]


class Listener:
    """What ``listen`` returns: ``close()`` ends it, and so does the end of its ``with`` block.

    ``called``: calls that returned. ``failed``: calls that raised. ``dropped``: events that came too fast for it.
    """

    def __init__(self, callbacks: Mapping[str, Callback | None]) -> None:
        self._callbacks = callbacks
        self.called = self.failed = self.dropped = 0
        self._warned = -_WARN_SECONDS

    def close(self) -> None:
        """Be called of nothing that is logged from now on; what is waiting still is."""
        _turns.remove(self)

    def wait(self, timeout: float = 5.0) -> bool:
        """Wait at most ``timeout`` seconds until what was logged so far has been heard; return whether it has."""
        return _turns.drain(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wants(self, kind: str) -> bool:
        """Whether anything is to be called for events of a kind."""
        return self._callbacks["event"] is not None or self._callbacks.get(kind) is not None

    def hear(self, kind: str, event: HeardEvent) -> None:
        """Call what is to be called. Never raises."""
        for callback in (self._callbacks.get(kind), self._callbacks["event"]):
            if callback is None:
                continue
            try:
                callback(event)
                self.called += 1
            except BaseException as error:  # noqa: BLE001 - the user's code: neither the training nor others may fail
                self.failed += 1
                now = time.monotonic()
                if now - self._warned >= _WARN_SECONDS:
                    self._warned = now
                    say(f"warning: a listener failed: {describe(error)} ({self.failed} so far)")


def listen(
    *,
    on_start: Callback | None = None,
    on_end: Callback | None = None,
    on_metric: Callback | None = None,
    on_event: Callback | None = None,
) -> Listener:
    """Have functions called with each HeardEvent of runs that this process starts or attaches to from now on.

    ``on_start``, ``on_end``: run_start, run_end. ``on_metric``: metrics, a batch as one. ``on_event``: all of them.
    They are called one after the other in a thread, whose own events nobody hears of. One that raises is told of on
    stderr, at most once a minute, and goes on. What comes faster than it is heard is dropped beyond 10,000 events,
    but for starts and ends. The end of the process waits 5 s at most for what is waiting.
    A forked child calls listeners of its own, the ones that its parent had. Raises ConfigurationError.
    """
    callbacks = {"start": on_start, "end": on_end, "metric": on_metric, "event": on_event}
    for name, callback in callbacks.items():
        if callback is not None and not callable(callback):
            raise ConfigurationError(f"listen: on_{name}", shown_in_error(callback), "must be something to call")
    if all(callback is None for callback in callbacks.values()):
        raise ConfigurationError("listen", None, "has nothing to call", "Give on_start, on_end, on_metric or on_event")
    listener = Listener(callbacks)
    _turns.add(listener)
    return listener


def _kind_of(payload: Payload) -> str:
    if isinstance(payload, (Metric, MetricBatch)):
        return "metric"
    if isinstance(payload, RunStart):
        return "" if payload.sub else "start"
    return "end" if isinstance(payload, RunEnd) else ""


class HeardStream(StreamEmitter):
    """A stream whose events listeners hear of, once the transport has taken them."""

    _depth = 0

    def emit_numbers(self, kind: Any, payload: Any) -> bool | None:  # noqa: ARG002 - as in StreamEmitter
        """Leave numbers to the longer way, on which they are heard."""
        return None

    def _emit(self, payload: Payload, when: int) -> bool:
        self._depth += 1  # a batch that has to be split comes here again, in parts
        try:
            sent = super()._emit(payload, when)
        finally:
            self._depth -= 1
        # A signal handler may end the run inside of an event.
        if sent and (not self._depth or isinstance(payload, RunEnd)):
            _turns.put(self, payload, when)
        return sent


class _Turns:
    """The queue of what was logged, and the thread that calls listeners of it."""

    def __init__(self) -> None:
        self._listeners: tuple[Listener, ...] = ()
        self._begin()

    def _begin(self) -> None:
        self._queue: deque[tuple[tuple[Listener, ...], str, HeardEvent] | threading.Event] = deque()
        self._wake = threading.Event()
        self._starting = threading.RLock()  # a signal handler may log while this is held
        self._thread: threading.Thread | None = None

    def add(self, listener: Listener) -> None:
        self._listeners = (*self._listeners, listener)
        tracker.stream_class = HeardStream

    def remove(self, listener: Listener) -> None:
        self._listeners = tuple(other for other in self._listeners if other is not listener)
        if not self._listeners:
            tracker.stream_class = StreamEmitter

    def put(self, out: StreamEmitter, payload: Payload, when: int) -> None:
        """Leave word of an event. Never waits for a listener."""
        thread = self._thread
        if thread is not None and threading.get_ident() == thread.ident:
            return  # or a listener that logs would call itself for ever
        kind = _kind_of(payload)
        wanting = tuple(listener for listener in self._listeners if listener.wants(kind))
        if not wanting:
            return
        if kind not in {"start", "end"} and len(self._queue) >= _QUEUE_MAX:
            for listener in wanting:
                if not listener.dropped:
                    out.warn("listener", f"a listener is too slow; of more than {_QUEUE_MAX} events it hears no more")
                listener.dropped += 1
            return
        stream = out.stream
        event = HeardEvent(
            run_id=stream.run_id,
            worker_id=stream.worker_id or None,
            session_id=stream.session_id,
            timestamp_us=when,
            payload=payload,
        )
        self._queue.append((wanting, kind, event))
        self._wake.set()
        if thread is None:
            self._start()

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._run, name="xtrack-listeners", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the process ends: see drain
                return
            self._thread = thread

    def _run(self) -> None:
        stand_apart()
        while True:
            self._wake.wait()
            self._wake.clear()
            self._call_all()

    def _call_all(self) -> None:
        while self._queue:  # which nobody else takes from
            turn = self._queue.popleft()
            if isinstance(turn, threading.Event):
                turn.set()
                continue
            wanting, kind, event = turn
            for listener in wanting:
                listener.hear(kind, event)

    def drain(self, seconds: float = _EXIT_SECONDS) -> bool:
        """Let listeners hear what is waiting; return whether they have."""
        thread = self._thread
        if thread is None:
            self._call_all()
            return True
        all_heard = threading.Event()
        self._queue.append(all_heard)
        self._wake.set()
        return threading.get_ident() == thread.ident or all_heard.wait(seconds)

    def end(self) -> None:
        """At the end of the process."""
        if not self.drain():
            say(f"warning: listeners were too slow: {len(self._queue)} events at the end were not heard")

    def forget_parent(self) -> None:
        """In a forked child: the thread is its parent's, and so is what waits."""
        self._begin()


_turns: Final = _Turns()
exits.after_runs.append(_turns.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_turns.forget_parent)

__all__ = ["HeardEvent", "HeardStream", "Listener", "listen"]
