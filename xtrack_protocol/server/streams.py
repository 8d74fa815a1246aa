"""Which connection has which stream: opening, fencing, holding; and workers whose connection is gone."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from xtrack_protocol.errors import RunNotFound, StorageError
from xtrack_protocol.runs import StreamLost
from xtrack_protocol.server.committer import Task
from xtrack_protocol.session import RangeSet, Refusal, StreamId

if TYPE_CHECKING:
    from xtrack_protocol.server.connection import Connection
    from xtrack_protocol.server.server import CollectorServer

_RETRY_SECONDS = 5.0


class Streams:
    """The streams of all connections. Everything happens in the server's loop, except for what tasks do."""

    def __init__(self, server: CollectorServer) -> None:
        self._server = server
        self._owners: dict[StreamId, Connection] = {}
        self._gone: dict[StreamId, float] = {}
        """When the connection of a worker that hasn't ended went away."""
        self._ended: dict[Connection, set[StreamId]] = {}
        self._plain: set[Connection] = set()
        self._asking: Counter[StreamId] = Counter()
        """Streams that somebody has asked for and hasn't been answered."""
        self._waiting: dict[Connection, set[StreamId]] = {}
        """Those of them that wait for the store to take events again."""
        self._retrying: set[tuple[Connection, StreamId]] = set()
        self._marking: set[StreamId] = set()
        self._opens = 0
        self.trouble = ""
        """Why the store takes nothing now."""

    @property
    def open_count(self) -> int:
        """Streams that sessions have open."""
        return len(self._owners)

    def owner(self, stream: StreamId) -> Connection | None:
        """Return the connection that has ``stream`` open."""
        return self._owners.get(stream)

    def awaited(self) -> frozenset[StreamId]:
        """Return the streams that have a connection or had one a while ago, and haven't ended their run."""
        found = {stream for stream, owner in self._owners.items() if stream not in self._ended.get(owner, ())}
        for connection in self._plain:
            found |= connection.streams - self._ended.get(connection, set())
        return frozenset(found | self._gone.keys())

    # ------------------------------------------------------------------------------------------ opening

    def open(self, connection: Connection, stream: StreamId) -> None:
        """Answer an ``open``: may the peer, then who else has the stream, then where it goes on. spec: CTL-17.5"""
        self._opens += 1
        connection.asked[stream] = self._opens
        self._ask(connection, stream)

    def _ask(self, connection: Connection, stream: StreamId) -> None:
        if self.trouble:
            waiting = self._waiting.setdefault(connection, set())
            if stream not in waiting:
                waiting.add(stream)
                self._asking[stream] += 1
            connection.hold(stream, self.trouble)
            return
        self._asking[stream] += 1
        access, principal = self._server.access, connection.principal
        if access is None:
            self._permitted(connection, stream, None)
            return
        self._server.committer.put(
            Task(
                lambda: access.open_for_write(principal, stream),
                lambda refusal: self._permitted(connection, stream, refusal),
            )
        )

    def _permitted(self, connection: Connection, stream: StreamId, answer: Refusal | Exception | None) -> None:
        self._answered(stream)
        if connection.session.is_over:
            return
        if isinstance(answer, Exception):
            self._failed(connection, stream, answer)
            return
        if answer is not None:
            connection.refuse(stream, answer)
            return
        older = self._owners.get(stream)
        if older is not None and older is not connection:
            self._server.counters.fenced += 1
            if older.asked[stream] > connection.asked[stream]:  # we had to ask the store again in the meantime
                connection.fence(stream)
                return
            if stream in older.brought:
                connection.brought.add(stream)
            older.fence(stream)
        self._owners[stream] = connection
        connection.streams.add(stream)
        if self._gone.pop(stream, None) is not None:
            connection.brought.add(stream)
        self._read_cursor(connection, stream)

    def _read_cursor(self, connection: Connection, stream: StreamId) -> None:
        """Accept the stream from its cursor on, once all that came of it before is committed. spec: CTL-13.3"""

        def read() -> RangeSet:
            self._server.locks.hold(stream)
            return self._server.store.cursor(stream)

        def accept(cursor: RangeSet | Exception) -> None:
            if self._owners.get(stream) is not connection or connection.session.is_over:
                return
            if isinstance(cursor, Exception):
                self._failed(connection, stream, cursor)
            else:
                if cursor:
                    connection.brought.add(stream)
                connection.accept(stream, cursor.contiguous_to)

        self._server.committer.put(Task(read, accept))

    def _failed(self, connection: Connection, stream: StreamId, error: Exception) -> None:
        """The store doesn't answer: the peer waits, and we ask again."""
        if not isinstance(error, StorageError):
            self._server.complain(f"a stream of run {stream.run_id!r} can't be opened: {type(error).__name__}: {error}")
        self._server.counters.store_errors += 1
        self.hold_and_retry(connection, stream, str(error))

    def _try_again(self, connection: Connection, stream: StreamId) -> None:
        self._retrying.discard((connection, stream))
        if not connection.session.is_over and stream in connection.held:
            self._ask(connection, stream)

    def _answered(self, stream: StreamId) -> None:
        self._asking[stream] -= 1
        if self._asking[stream] <= 0:
            del self._asking[stream]

    # ------------------------------------------------------------------------------------------ holding

    def hold_all(self, reason: str) -> None:
        """The store takes nothing: no peer need send what we can't put away. spec: CTL-17.6"""
        self.trouble = reason
        for stream, connection in list(self._owners.items()):
            connection.hold(stream, reason)

    def go_on(self) -> None:
        """It does again."""
        self.trouble = ""
        waiting, self._waiting = self._waiting, {}
        for stream, connection in list(self._owners.items()):
            if stream in connection.held and stream not in waiting.get(connection, ()):
                self._read_cursor(connection, stream)
        for connection, streams in waiting.items():
            for stream in streams:
                self._answered(stream)
                if not connection.session.is_over:
                    self._ask(connection, stream)

    def hold_and_retry(self, connection: Connection, stream: StreamId, reason: str) -> None:
        """This one run can't be written now."""
        connection.hold(stream, reason)
        if (connection, stream) not in self._retrying:
            self._retrying.add((connection, stream))
            self._server.loop.call_later(_RETRY_SECONDS, self._try_again, connection, stream)

    # ------------------------------------------------------------------------------------------ leaving

    def plain(self, connection: Connection, stream: StreamId) -> None:
        """Note a stream of a plain connection, which is never opened."""
        self._plain.add(connection)
        self._gone.pop(stream, None)
        self._server.committer.put(Task(lambda: self._server.locks.hold(stream), _nothing))

    def note_end(self, connection: Connection, stream: StreamId) -> None:
        """Note that the worker has ended its run: that its connection goes away means nothing."""
        if not connection.is_plain:
            self._ended.setdefault(connection, set()).add(stream)
        elif connection.ended(stream):
            self._server.committer.put(Task(lambda: self._server.locks.let_go(stream), _nothing))
        self._server.router.ended(connection, stream.run_id, stream.worker_id, stream.session_id)
        self._gone.pop(stream, None)

    def left(self, connection: Connection) -> None:
        """A connection is gone: its workers have some time to come back. spec: FLD-6.1, CTL-17.10"""
        now = self._server.loop.time()
        self._plain.discard(connection)
        if connection.is_plain:
            self._close_source(connection, now)
            self._let_go(list(connection.streams))
        else:
            for stream in self._waiting.pop(connection, ()):
                self._answered(stream)
            mine = [stream for stream in connection.streams if self._owners.get(stream) is connection]
            for stream in mine:
                del self._owners[stream]
                if stream in connection.brought:  # nobody waits for a stream of which nothing is known
                    self._gone[stream] = now
            self._let_go(mine)
            # What it has sent may still wait to be stored; whether it has ended is known behind that.
            self._server.committer.put(Task(_nothing_to_do, lambda _: self._forget_ended(connection)))

    def _let_go(self, streams: list[StreamId]) -> None:
        def let_go() -> None:
            for stream in streams:
                self._server.locks.let_go(stream)

        if streams:
            self._server.committer.put(Task(let_go, _nothing))

    def _close_source(self, connection: Connection, since: float) -> None:
        """Ask which workers of a plain connection that is over haven't ended, once all that it sent is stored."""
        self._server.committer.put(
            Task(
                lambda: self._server.collector.close_source(connection),
                lambda news: self._plain_left(connection, news, since),
            )
        )

    def _forget_ended(self, connection: Connection) -> None:
        for stream in self._ended.pop(connection, ()):
            self._gone.pop(stream, None)

    def _plain_left(self, connection: Connection, unended: list[StreamId] | Exception, since: float) -> None:
        if isinstance(unended, Exception):
            self._server.complain(f"how a plain worker ended can't be stored yet: {unended}")
            self._server.loop.call_later(_RETRY_SECONDS, self._close_source, connection, since)
            return
        for stream in unended:
            self._gone[stream] = since

    def expect(self, stream: StreamId) -> None:
        """A worker that an earlier server had a connection to: it has from now on the time to come back."""
        if stream not in self._owners:
            self._gone.setdefault(stream, self._server.loop.time())

    def report_lost(self) -> None:
        """Tell the store of the workers that have been gone for too long."""
        due = self._server.loop.time() - self._server.limits.lost_seconds
        if self.trouble:
            return
        for stream in [stream for stream, since in self._gone.items() if since <= due and stream not in self._marking]:
            self._marking.add(stream)
            self._server.committer.put(
                Task(lambda one=stream: self._mark_lost(one), lambda told, one=stream: self._marked(one, told))  # type: ignore[misc]
            )

    def _mark_lost(self, stream: StreamId) -> bool | None:
        """Record that a worker vanished; return whether it had not ended. In the committer's thread.

        None: somebody asks for the stream, and whether that is its worker will be known in a moment.
        """
        if stream not in self._gone:
            return False  # it is back: this may have waited for the store for long
        if stream in self._asking:
            return None
        try:
            state = self._server.store.get_run(stream.run_id)
        except RunNotFound:
            return False  # it has sent nothing, or the run was deleted
        summary = next((one for one in state.streams if one.stream == stream), None)
        if summary is None or not summary.votes or summary.end_status is not None or summary.lost is not None:
            return False
        seconds = self._server.limits.lost_seconds
        lost = StreamLost(
            stream,
            time.time_ns() // 1000,
            "vanished",
            summary.last_seq,
            f"its connection to the collector has been gone for {seconds:g} s",
        )
        self._server.store.mark_lost(lost)
        return True

    def _marked(self, stream: StreamId, told: bool | Exception | None) -> None:
        self._marking.discard(stream)
        if told is None:
            return
        if isinstance(told, Exception):
            self._server.complain(f"a lost worker can't be recorded yet: run {stream.run_id!r}: {told}")
            if stream in self._gone:  # it stays due, and is tried again in a while
                self._gone[stream] = self._server.loop.time() - self._server.limits.lost_seconds + _RETRY_SECONDS
            return
        self._gone.pop(stream, None)
        if told:
            self._server.counters.lost_streams += 1
            self._server.inform(
                f"run {stream.run_id!r}: worker {stream.worker_id!r} counts as lost: its connection has been gone for "
                f"{self._server.limits.lost_seconds:g} s without a run_end"
            )


def _nothing(_: object) -> None:
    pass


def _nothing_to_do() -> None:
    pass
