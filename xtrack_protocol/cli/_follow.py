"""A run's state as it grows: of a store here, or, folded event by event, of a collector elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from xtrack_protocol.cli._remote import located
from xtrack_protocol.cli._runs import LIVE
from xtrack_protocol.errors import RunNotFound
from xtrack_protocol.runs import RunReducer, RunState
from xtrack_protocol.session import StreamResolver

if TYPE_CHECKING:
    from xtrack_protocol.client import CollectorClient, PublishedEvent, RemoteSubscription
    from xtrack_protocol.errors import TransportError
    from xtrack_protocol.storage import Storage

_CLOSE_SECONDS: Final = 5.0
_LONE: Final = 3
"""So many events one by one are what comes now, and not what was there."""
_QUIET_SECONDS: Final = 0.5
_FIRST_SECONDS: Final = 5.0
"""How long nothing comes of a run that is up to date, or isn't there."""


class Following(Protocol):
    """A run that is followed."""

    def state(self) -> RunState:
        """Return the run's state. Raises XTrackError where it can't be known, and never will."""

    @property
    def ended(self) -> bool:
        """Whether the state that was returned last is the final one."""

    @property
    def trouble(self) -> str:
        """What keeps it from being up to date, for people; empty for nothing."""

    @property
    def is_current(self) -> bool:
        """Whether what was there when it began has come, as far as one can tell."""


class _Here:
    """Of a store: what is new is folded by the store, and nothing is read twice."""

    trouble = ""
    is_current = True

    def __init__(self, store: Storage, run_id: str) -> None:
        self._store = store
        self._run_id = run_id
        self.ended = False

    def state(self) -> RunState:
        found = self._store.get_run(self._run_id)
        self.ended = found.status not in LIVE
        return found


class _Elsewhere:
    """Of a collector: a thread takes the events of a subscription, and folds them."""

    def __init__(self, client: CollectorClient, run_id: str) -> None:
        self._client = client
        self._run_id = run_id
        self._lock = threading.Lock()
        self._reducer = RunReducer(run_id)
        self._trouble = ("", 0)  # and during which connection it came
        self._failure: BaseException | None = None
        self._lone = 0
        self._last = time.monotonic()
        self._is_over = False
        self._is_deleted = False
        self._closed = False
        self._subscription: RemoteSubscription | None = None
        self._thread = threading.Thread(target=self._run, name="xtrack-watch", daemon=True)
        self.ended = False
        self._thread.start()

    @property
    def trouble(self) -> str:
        text, connection = self._trouble
        made = 0 if self._subscription is None else self._subscription.connections
        if text and connection == made:
            return text
        return "" if made else "connecting ..."

    @property
    def is_current(self) -> bool:
        """Events of long ago come many at a time; then one by one, or none."""
        patience = _QUIET_SECONDS if self._lone else _FIRST_SECONDS
        return self._is_over or self._lone >= _LONE or time.monotonic() - self._last >= patience

    def state(self) -> RunState:
        with self._lock:
            over, failure = self._is_over, self._failure
            found = self._reducer.state()
        if failure is not None:
            raise failure
        if self._is_deleted:
            raise RunNotFound(self._run_id)
        self.ended = over
        # That a worker is gone is no event: a collector that has nothing more to send knows it all the same.
        return attrs.evolve(found, status="lost") if over and found.status in LIVE else found

    def close(self) -> None:
        """End it."""
        self._closed = True
        self._client.close()
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        try:
            while not self._closed and not self._take_all():
                pass
        except Exception as error:  # noqa: BLE001 - handed to the thread that asks for the state
            with self._lock:
                self._failure = error

    def _take_all(self) -> bool:
        """Fold events until there are no more; False where they must be folded anew, because of a rewind."""
        streams = StreamResolver()
        with self._client.subscribe(self._run_id, until_end=True, trouble=self._tell) as events:
            self._subscription = events
            for event in events:
                if not self._fold(event, streams):
                    return False
                self._lone = 0 if events.behind else self._lone + 1
                self._last = time.monotonic()
            with self._lock:
                self._is_over, self._is_deleted = not self._closed, events.is_deleted
        return True

    def _fold(self, event: PublishedEvent, streams: StreamResolver) -> bool:
        if event.envelope is None:
            return True  # it counts for nothing in a store's fold either
        stream = streams.resolve(event.envelope, self._run_id)
        if stream is None:
            return True
        with self._lock:
            self._reducer.apply(stream, event.envelope)
            if not self._reducer.needs_refold:
                return True
            self._reducer = self._reducer.restarted()
        return False

    def _tell(self, trouble: TransportError) -> None:
        made = 0 if self._subscription is None else self._subscription.connections
        self._trouble = (f"connecting again: {trouble}", made)  # its beginning may be all that fits


@contextmanager
def following(run: str, to: str | None, store: str | None) -> Iterator[Following]:
    """Follow a run that is here, or at a collector: see ``located``."""
    with located(run, to, store) as found:
        if found.store is not None:
            yield _Here(found.store, found.run_id)
            return
        assert found.client is not None
        elsewhere = _Elsewhere(found.client, found.run_id)
        try:
            yield elsewhere
        finally:
            elsewhere.close()
