"""Subscriptions: who wants to hear of a run, and how they are woken.

The hub carries no events. It wakes subscribers, and each reads what is new from the store, from its own cursor, in
batches of bounded size. So a subscriber misses nothing and sees nothing twice however slow it is, a position is all it
takes to go on later, and a collector never waits for any of them. Events that others put into the store (another
process, a worker's spool) are found by looking every ``poll`` seconds.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import attrs
from typing_extensions import Self

from xtrack_protocol.errors import RunNotFound
from xtrack_protocol.storage import Storage, StoredEvent

if TYPE_CHECKING:
    import asyncio

BATCH: Final = 256
"""Events that a subscriber holds at most; the others wait in the store."""

POLL_SECONDS: Final = 0.2
"""Seconds between two looks at the store for what others put there."""

_REMEMBERED: Final = 4096
"""Runs of which the last position is kept."""

_ENDED: Final = frozenset({"completed", "failed", "killed", "lost"})


class Hub:
    """Wakes those who wait for events of a run. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Callable[[], None]]] = {}
        self._last: OrderedDict[str, int] = OrderedDict()

    def add(self, run_id: str, wake: Callable[[], None]) -> None:
        """Call ``wake``, which must not block or raise, whenever the run has new events."""
        with self._lock:
            self._waiting.setdefault(run_id, []).append(wake)

    def remove(self, run_id: str, wake: Callable[[], None]) -> None:
        """No longer do."""
        with self._lock:
            waiting = self._waiting.get(run_id, [])
            if wake in waiting:
                waiting.remove(wake)
            if not waiting:
                self._waiting.pop(run_id, None)

    def notify(self, positions: Iterable[tuple[str, int]]) -> None:
        """Say that events were stored: pairs of a run's id and the position of one of its new events."""
        last = dict(positions)  # positions ascend, so that each run's last one stays
        with self._lock:
            for run_id, position in last.items():
                self._last[run_id] = position
                self._last.move_to_end(run_id)
            self._forget()
            woken = [wake for run_id in last for wake in self._waiting.get(run_id, ())]
        for wake in woken:
            wake()

    def _forget(self) -> None:
        """Drop the runs of which nothing has come for long; not those that somebody waits for."""
        for _ in range(len(self._last) - _REMEMBERED):
            run_id, position = self._last.popitem(last=False)
            if run_id in self._waiting:
                self._last[run_id] = position

    def last_position(self, run_id: str) -> int:
        """Return the position of the last event announced for the run; 0 for none, or where that was long ago."""
        with self._lock:
            return self._last.get(run_id, 0)


@attrs.frozen
class Missed:
    """What a subscriber passed over: the events with positions above ``after``, up to and with ``through``.

    ``store.events(run_id, after=after)`` still has them.
    """

    after: int
    through: int


class _Reader:
    """What both kinds of subscription share: a cursor into a run's events, and a bounded buffer before it."""

    def __init__(self, store: Storage, hub: Hub, run_id: str, after: int | None, *, until_end: bool) -> None:
        self.run_id = run_id
        self._store = store
        self._hub = hub
        self._until_end = until_end
        self._buffer: deque[StoredEvent] = deque()
        self._known = False  # whether the store has had the run
        self._deleted = False
        self._closed = False
        self._position = self._newest() if after is None else after
        self._read_to = self._position

    @property
    def position(self) -> int:
        """The position of the last event that was given out: what ``after`` takes to go on from here."""
        return self._position

    @property
    def behind(self) -> bool:
        """Whether the collector has stored events that this subscriber hasn't been given yet."""
        return bool(self._buffer) or self._hub.last_position(self.run_id) > self._position

    def skip_to_latest(self) -> Missed | None:
        """Pass over everything up to the newest event, and return what was passed over; None where nothing was.

        For displays that would rather be up to date than complete. Nobody else may be reading at the same time.
        """
        newest = self._newest()
        if newest <= self._position:
            return None
        missed = Missed(self._position, newest)
        self._buffer.clear()
        self._position = self._read_to = newest
        return missed

    def _newest(self) -> int:
        try:
            events = deque(self._store.events(self.run_id), maxlen=1)
        except RunNotFound:
            return 0
        return events[0].position if events else 0

    def _take(self) -> StoredEvent | None:
        if not self._buffer:
            return None
        event = self._buffer.popleft()
        self._position = event.position
        return event

    def _fill(self) -> bool:
        """Read the next batch; return whether there was one."""
        try:
            events = list(self._store.events(self.run_id, after=self._read_to, limit=BATCH))
        except RunNotFound:
            self._deleted = self._known  # one that isn't known yet is waited for
            return False
        self._known = True
        if events:
            self._read_to = events[-1].position
            self._buffer.extend(events)
        return bool(events)

    def _fill_or_end(self) -> bool | None:
        """Read the next batch. True: there was one. False: not now. None: there will be none."""
        if self._fill():
            return True
        if self._deleted or self._closed:
            return None
        if self._until_end and self._known and self._has_ended():
            return True if self._fill() else None  # what came between the two questions belongs to the run too
        return False

    def _has_ended(self) -> bool:
        try:
            return self._store.get_run(self.run_id).status in _ENDED
        except RunNotFound:
            return True


class Subscription(_Reader):
    """A run's events as an iterator: first what the store has after the cursor, then what comes, each once.

    Iteration ends when the subscription is closed, when the run is deleted, when no event came for ``timeout`` seconds
    (``timed_out`` tells it of the last wait; one that timed out may be asked again), or, with ``until_end``, when the
    run has ended and everything has been given out. ``close`` may be called from any thread; everything else belongs
    to one.
    """

    def __init__(
        self,
        store: Storage,
        hub: Hub,
        run_id: str,
        *,
        after: int | None = 0,
        timeout: float | None = None,
        until_end: bool = False,
        poll: float = POLL_SECONDS,
    ) -> None:
        super().__init__(store, hub, run_id, after, until_end=until_end)
        self.timed_out = False
        self._timeout = timeout
        self._poll = poll
        self._wake = threading.Event()
        self._wake_up = self._wake.set
        hub.add(run_id, self._wake_up)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> StoredEvent:
        self.timed_out = False
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        while not self._closed:
            event = self._take()
            if event:
                return event
            self._wake.clear()  # before reading, so that nothing comes between the two unnoticed
            filled = self._fill_or_end()
            if filled:
                continue
            if filled is None:
                break
            left = self._poll if deadline is None else min(self._poll, deadline - time.monotonic())
            if left <= 0:
                self.timed_out = True
                break
            self._wake.wait(left)
        raise StopIteration

    def close(self) -> None:
        """End the iteration, whoever is in it."""
        self._closed = True
        self._hub.remove(self.run_id, self._wake_up)
        self._wake.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncSubscription(_Reader):
    """As :class:`Subscription`, for ``async for``; the store is read in a worker thread, never in the event loop."""

    def __init__(
        self,
        store: Storage,
        hub: Hub,
        run_id: str,
        *,
        after: int = 0,
        timeout: float | None = None,
        until_end: bool = False,
        poll: float = POLL_SECONDS,
    ) -> None:
        super().__init__(store, hub, run_id, after, until_end=until_end)
        self.timed_out = False
        self._timeout = timeout
        self._poll = poll
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._wake_up = self._wake_from_thread
        hub.add(run_id, self._wake_up)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StoredEvent:
        import asyncio

        if self._wake is None:
            self._wake = asyncio.Event()
            self._loop = asyncio.get_running_loop()
        self.timed_out = False
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        while not self._closed:
            event = self._take()
            if event:
                return event
            self._wake.clear()
            filled = await asyncio.to_thread(self._fill_or_end)
            if filled:
                continue
            if filled is None:
                break
            left = self._poll if deadline is None else min(self._poll, deadline - time.monotonic())
            if left <= 0:
                self.timed_out = True
                break
            try:
                await asyncio.wait_for(self._wake.wait(), left)
            except asyncio.TimeoutError:
                continue
        raise StopAsyncIteration

    def close(self) -> None:
        """End the iteration, whoever is in it. May be called from any thread."""
        self._closed = True
        self._hub.remove(self.run_id, self._wake_up)
        self._wake_from_thread()

    async def aclose(self) -> None:
        """As ``close``."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def _wake_from_thread(self) -> None:
        loop, wake = self._loop, self._wake
        if loop is None or wake is None:
            return
        try:
            loop.call_soon_threadsafe(wake.set)
        except RuntimeError:  # the loop is closed: nobody is waiting any more
            self._hub.remove(self.run_id, self._wake_up)
