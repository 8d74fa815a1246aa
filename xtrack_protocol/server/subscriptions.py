"""Subscriptions over the wire: each reads from the store at its own pace, a page at a time, and waits for its peer.

A run is never held as a whole (spec: CTL-17.11). The store is read in threads of their own; the hub wakes who waits for
new events, and a look now and then finds what other processes have stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from xtrack_protocol.errors import RunNotFound, StorageError
from xtrack_protocol.limits import RUN_ID_MAX
from xtrack_protocol.server.limits import RIGHTS_SECONDS
from xtrack_protocol.session import Refusal, SubscribeRequested
from xtrack_protocol.storage import Storage, StoredEvent

if TYPE_CHECKING:
    from xtrack_protocol.server.connection import Connection
    from xtrack_protocol.server.server import CollectorServer

_PAGE_BYTES: Final = 256 * 1024
"""Bytes of events that a subscription holds at a time, more or less."""
_PAGE_EVENTS: Final = (8, 512)
_WAITING_MAX: Final = 256 * 1024
"""Bytes for the peer above which no more is put there."""
_LOOK_SECONDS: Final = 1.0
"""Between two looks for what others have stored."""
_RETRY_SECONDS: Final = 5.0
_Answer = TypeVar("_Answer")
_READERS: Final = 4
_LIVE: Final = frozenset({"pending", "running"})


class Subscriptions:
    """Those of all connections."""

    def __init__(self, server: CollectorServer) -> None:
        self._server = server
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="xtrack-subscriptions")
        self._tasks: dict[Connection, dict[str, asyncio.Task[None]]] = {}
        self._count = 0

    def begin(self, connection: Connection, wanted: SubscribeRequested) -> None:
        """Serve a ``subscribe``; one to the same run is replaced. spec: CTL-11.7"""
        self.end(connection, wanted.run_id)
        limits, mine = self._server.limits, self._tasks.get(connection, {})
        if len(mine) >= limits.subscriptions_per_connection or self._count >= limits.subscriptions:
            self._refuse(connection, wanted.run_id, "busy", f"{self._count} subscriptions are served, {len(mine)} here")
            return
        if len(wanted.run_id.encode()) > RUN_ID_MAX:
            self._refuse(connection, wanted.run_id, "forbidden", f"a run's id has at most {RUN_ID_MAX} bytes")
            return
        task = self._server.loop.create_task(_Subscription(self._server, self._pool, connection, wanted).serve())
        self._tasks.setdefault(connection, {})[wanted.run_id] = task
        self._changed(1)
        task.add_done_callback(lambda done: self._done(connection, wanted.run_id, done))

    def end(self, connection: Connection, run_id: str) -> None:
        """Send no more of that run. spec: CTL-11.3"""
        task = self._take(connection, run_id)
        if task is not None:
            task.cancel()

    def left(self, connection: Connection) -> None:
        """A connection is over."""
        for run_id in list(self._tasks.get(connection, ())):
            self.end(connection, run_id)

    async def close(self) -> None:
        """End them all."""
        tasks = [task for mine in self._tasks.values() for task in mine.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _refuse(self, connection: Connection, run_id: str, code: str, why: str) -> None:
        """Say that a subscription isn't served. spec: CTL-11.6, CTL-11.8"""
        self._server.refused(code, connection.peer, f"a subscription: {why}")
        if not connection.session.end_subscription(run_id, code, why):
            connection.session.reject(code, why, self._server.limits.retry_after)

    def _take(self, connection: Connection, run_id: str) -> asyncio.Task[None] | None:
        mine = self._tasks.get(connection, {})
        task = mine.pop(run_id, None)
        if task is not None:
            self._changed(-1)
            if not mine:
                del self._tasks[connection]
        return task

    def _changed(self, by: int) -> None:
        self._count += by
        self._server.counters.subscriptions = self._count

    def _done(self, connection: Connection, run_id: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(connection, {}).get(run_id) is task:
            self._take(connection, run_id)
        if not task.cancelled() and task.exception() is not None:
            self._server.complain(f"a subscription ended: of '{connection.peer}', {task.exception()!r}")
            connection.reject("busy", "the subscription can't be served", self._server.limits.retry_after)


class _Subscription:
    """One peer's, to one run."""

    def __init__(
        self, server: CollectorServer, pool: ThreadPoolExecutor, connection: Connection, wanted: SubscribeRequested
    ) -> None:
        self._server = server
        self._pool = pool
        self._connection = connection
        self._run_id = wanted.run_id
        self._cursor = wanted.cursor
        self._until_end = wanted.until_end
        self._position = 0
        self._page = 32
        self._known = False
        self._allowed_at = 0.0
        self._wake = asyncio.Event()

    async def serve(self) -> None:
        """Send what is there, then what comes."""
        if not await self._is_allowed():
            return
        loop = self._server.loop

        def wake() -> None:
            loop.call_soon_threadsafe(self._wake.set)

        self._server.collector.hub.add(self._run_id, wake)
        try:
            await self._find_begin()
            while await self._send_page():
                pass
        finally:
            self._server.collector.hub.remove(self._run_id, wake)

    async def _is_allowed(self) -> bool:
        access, connection = self._server.access, self._connection
        self._allowed_at = self._server.loop.time()
        if access is None:
            return True
        refusal = await self._ask(lambda: access.may_read(connection.principal, self._run_id))
        if not isinstance(refusal, Refusal):
            return True
        self._server.refused(refusal.code, connection.peer, f"may not read run {self._run_id!r}: {refusal.message}")
        if not connection.session.end_subscription(self._run_id, "forbidden", refusal.message):
            connection.session.reject("forbidden", refusal.message)
        connection.flush()
        return False

    async def _find_begin(self) -> None:
        """Find the position to begin behind, and say which number that is. spec: CTL-11, CTL-11.1, CTL-11.5"""
        store, run_id, cursor = self._server.store, self._run_id, self._cursor
        if cursor is None:
            count, self._position = await self._ask(lambda: newest(store, run_id))
            self._known = count > 0
        else:
            count = max(0, cursor)
            passed, self._position = 0, 0
            while passed < count:  # in steps, so that nobody else waits long for a thread
                step = min(count - passed, 4096)
                found = await self._ask(lambda step=step: _pass_over(store, run_id, self._position, step))  # type: ignore[misc]
                if not found[0]:
                    self._wake.clear()
                    await self._wait()
                    continue
                passed, self._position = passed + found[0], found[1]
                self._known = True
        self._connection.session.begin_subscription(run_id, count)
        self._connection.flush()

    async def _send_page(self) -> bool:
        """Send the next events, or wait for some; return whether the subscription goes on."""
        if self._server.loop.time() - self._allowed_at >= RIGHTS_SECONDS and not await self._is_allowed():
            return False
        self._wake.clear()  # before reading, so that nothing comes between the two unnoticed
        store, run_id, after, limit = self._server.store, self._run_id, self._position, self._page
        events = await self._ask(lambda: _read(store, run_id, after, limit))
        if events:
            self._known = True
            return await self._send(events)
        if events is None:
            if self._known:  # spec: FLD-9.2
                return self._over("deleted", f"run {run_id!r} was deleted")
        elif self._until_end and await self._ask(lambda: _has_ended(store, run_id, after)):
            return self._over("ended", "")
        else:
            self._known = True
        await self._wait()
        return not self._connection.session.is_over

    async def _send(self, events: list[StoredEvent]) -> bool:
        connection, session = self._connection, self._connection.session
        size = 0
        for event in events:
            if session.output_size > _WAITING_MAX and not await connection.room():
                return False
            if not session.send_event(event.raw):
                connection.flush()
                return False
            self._position = event.position
            size += len(event.raw)
            self._server.counters.sent += 1
            if session.output_size > _WAITING_MAX // 4:
                connection.flush()
        connection.flush()
        least, most = _PAGE_EVENTS
        self._page = max(least, min(most, _PAGE_BYTES * len(events) // max(1, size)))
        return True

    def _over(self, code: str, message: str) -> bool:
        if self._connection.session.end_subscription(self._run_id, code, message):
            self._connection.flush()
        return False

    async def _wait(self) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), _LOOK_SECONDS)
        except asyncio.TimeoutError:
            return

    async def _ask(self, question: Callable[[], _Answer]) -> _Answer:
        """Ask the store in a thread, again and again where it is locked or full."""
        while True:
            try:
                return await self._server.loop.run_in_executor(self._pool, question)
            except StorageError as error:
                self._server.complain(f"a subscription to run {self._run_id!r} waits for the store: {error}")
                await asyncio.sleep(_RETRY_SECONDS)


def _read(store: Storage, run_id: str, after: int, limit: int) -> list[StoredEvent] | None:
    """Return the next events; None where there is no such run."""
    try:
        return list(store.events(run_id, after=after, limit=limit))
    except RunNotFound:
        return None


def _pass_over(store: Storage, run_id: str, after: int, most: int) -> tuple[int, int]:
    """Return how many events there are, at most ``most``, and the last one's position."""
    count, position = 0, after
    try:
        for event in store.events(run_id, after=after, limit=most):
            count, position = count + 1, event.position
    except RunNotFound:
        pass
    return count, position


def newest(store: Storage, run_id: str) -> tuple[int, int]:
    """Return how many events a run has, and the position of the last one; both of the same moment, more or less.

    Positions grow, so the last one is found by halving, without reading what stands before it.
    """
    try:
        for _ in range(5):
            count = store.get_run(run_id).events
            position = _last_position(store, run_id)
            if store.get_run(run_id).events == count:
                return count, position
        return _pass_over(store, run_id, 0, 2**62)
    except RunNotFound:
        return 0, 0


def _last_position(store: Storage, run_id: str) -> int:
    def first_after(position: int) -> int | None:
        return next((event.position for event in store.events(run_id, after=position, limit=1)), None)

    low = first_after(0)
    if low is None:
        return 0
    step = 1
    while (found := first_after(low + step)) is not None:
        low, step = found, step * 2
    high = low + step  # nothing stands behind it, and something at ``low``
    while high - low > 1:
        middle = (low + high) // 2
        found = first_after(middle)
        if found is None:
            high = middle
        else:
            low = found
    following = first_after(low)
    return low if following is None else following


def _has_ended(store: Storage, run_id: str, after: int) -> bool:
    """Whether the run has ended and nothing of it stands above ``after``."""
    try:
        if store.get_run(run_id).status in _LIVE:
            return False
    except RunNotFound:
        return False
    return not _read(store, run_id, after, 1)
