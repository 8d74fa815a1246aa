"""A shipper in a thread of its own, which a training never waits for. spec: DLV-8, EMT-3"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from xtrack_protocol.ir import Command, CommandResult
from xtrack_protocol.sender.lane import Lane
from xtrack_protocol.sender.shipper import Problem, Shipper

if TYPE_CHECKING:
    from xtrack_protocol.net.endpoint import Endpoint

PATIENCE_SECONDS: Final = 10.0
"""Seconds that a connection which was there may be gone before anybody is told: collectors are restarted."""
ADOPT_SECONDS: Final = 10.0
"""How often a sender looks for streams of its run that nobody ships any more."""
UPKEEP_SECONDS: Final = 3600.0
"""How often spools are trimmed."""
JOIN_SECONDS: Final = 2.0
"""Seconds that ``close`` waits for the thread, which may be looking up a name."""
_LOOK_SECONDS: Final = 0.5


def _nothing() -> None:
    """Do nothing."""


class Sender(Shipper):
    """Ships lanes in the background, from the first ``notify`` on, until it is closed.

    Nothing here raises into a caller. ``warn``: takes a kind and a text. ``on_command``: takes a command of the
    collector; called in the sender's thread. ``upkeep``: called in it at the start, and every hour. ``orphans``:
    returns lanes of streams that have lost their sender, which this one then ships too; called in it every 10 s, and
    when somebody waits for acks. ``thread`` and ``condition``: what its thread is, and what callers wait with for it.

    A forked child has no use for its parent's: what it inherits is closed when Python forks, else by ``abandon``.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        warn: Callable[[str, str], None],
        on_command: Callable[[Command], None],
        upkeep: Callable[[], None] = _nothing,
        orphans: Callable[[], Sequence[Lane]] = tuple,
        thread: Callable[..., threading.Thread] = threading.Thread,
        condition: Callable[[], threading.Condition] = threading.Condition,
        **options: Any,
    ) -> None:
        super().__init__(endpoint, **options)
        self._warn = warn
        self._on_command = on_command
        self._upkeep = upkeep
        self._upkeep_due = 0.0
        self._orphans = orphans
        self._adopt_due = 0.0
        self._changed = condition()
        self._waiters = 0
        self._starting = threading.RLock()
        self._make_thread = thread
        self._thread: threading.Thread | None = None
        self._closing = False
        self._down_since: float | None = None
        self._warned = False
        self._pid = os.getpid()
        self.asleep = True
        """Whether ``notify`` is of use. Looked at by whoever logs, before each call of it."""
        _senders.add(self)

    # ------------------------------------------------------------------------------------------ any thread

    def notify(self) -> None:
        """Say that something is in the spool, where ``asleep`` is set: one system call, or the thread's start."""
        self.asleep = False
        if self._thread is None:
            self._start()
        else:
            self._wake.set()

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None or self._closing:
                return
            thread = self._make_thread(target=self._work, name="xtrack-sender", daemon=True)
            self._thread = thread
            try:
                thread.start()
            except RuntimeError as error:  # the interpreter is shutting down, or the system has no thread left
                self._thread = None
                self.problem = f"no thread can be started: {error}"
                self._warn("sender", f"{self.problem}; events stay in the spool")

    def wait_acked(self, lane: Lane, seq: int, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds until the collector has acked all to ``seq``; return whether it has.

        Returns False early where that can't come: the peer acks nothing and was sent all, or another sender has it.
        Waits for adopted streams as well, whose fate doesn't change the answer.
        """
        deadline = self._clock() + timeout
        with self._changed:
            self._waiters += 1
        try:
            self._adopt_due = 0.0
            if self._thread is None:
                self._start()
            self._wake.set()
            with self._changed:
                while lane.note.acked < seq or self._has_orphans(lane):
                    left = deadline - self._clock()
                    if left <= 0 or self._is_hopeless(lane, seq):
                        break
                    self._changed.wait(min(left, _LOOK_SECONDS))
            return lane.note.acked >= seq
        finally:
            with self._changed:
                self._waiters -= 1

    def _has_orphans(self, own: Lane) -> bool:
        """Whether adopted streams are on their way, or may yet be found."""
        if not self.connected or self.is_plain:
            return False
        others = [lane for lane in tuple(self.lanes.values()) if lane is not own and not lane.is_out]
        return self._adopt_due == 0.0 or any(lane.waiting or not lane.is_read for lane in others)

    def _is_hopeless(self, lane: Lane, seq: int) -> bool:
        thread = self._thread
        sent = self.is_plain and lane.note.unconfirmed >= seq
        return sent or lane.fenced or thread is None or not thread.is_alive()

    def post(self, result: CommandResult) -> None:
        """Send the answer to a command, now or on the next connection."""
        self._results.append(result)
        self._wake.set()

    def close(self, timeout: float = JOIN_SECONDS) -> None:
        """Stop, and wait at most ``timeout`` seconds for the thread. What isn't acked stays in the spool."""
        with self._starting:
            self._closing = True
            thread = self._thread
        self._wake.set()
        if thread is None:
            self._release()
        elif thread is not threading.current_thread():
            thread.join(timeout)

    def abandon(self) -> None:
        """In a forked child: close what was inherited, without a word to the collector."""
        self._closing = True
        self.asleep = False
        self._thread = None
        channel, self._channel = self._channel, None
        with contextlib.suppress(OSError):
            if channel is not None:
                channel.abandon()
        self._wake.close()
        # A thread that doesn't exist in this child may hold them.
        self._changed, self._starting = threading.Condition(), threading.RLock()

    # ------------------------------------------------------------------------------------------ its thread

    def _work(self) -> None:
        try:
            while not self._closing:
                try:
                    self.run()
                except Exception as error:  # noqa: BLE001 - told, and tried again: a training must not lose its sender
                    self.problem = f"the sender failed: {type(error).__name__}: {error}"
                    self._warn("sender", f"{self.problem}. It goes on; events are kept in the spool")
                    self._back_off(Problem(self.problem, slow=True))
        finally:
            self._release()

    def _release(self) -> None:
        self.asleep = False
        for lane in self.lanes.values():
            lane.close()
        self._wake.close()
        self.progressed()

    def is_leaving(self) -> bool:
        return self._closing or self._pid != os.getpid()

    def is_waited_for(self) -> bool:
        return self._waiters > 0

    def progressed(self) -> None:
        if self._waiters:
            with self._changed:
                self._changed.notify_all()

    def commanded(self, command: Command) -> None:
        self._on_command(command)

    def complain(self, kind: str, text: str) -> None:
        self._warn(kind, text)

    def succeeded(self) -> None:
        self._down_since = None
        self._warned = False

    def failed(self, problem: Problem) -> None:
        """Warn once of what keeps the events here, but not of what may be over in a moment."""
        now = self._clock()
        if self._down_since is None:
            self._down_since = now
        was_there = self.connections > 0
        patient = (problem.brief or (was_there and not problem.slow)) and now - self._down_since < PATIENCE_SECONDS
        if not self._warned and not patient:
            self._warned = True
            cure = f". {problem.cure}" if problem.cure else ""
            kept = "Events are kept in the spool, and sent when it can be done"
            self._warn("collector", f"{self.endpoint.url}: {problem.reason}{cure}. {kept}")

    def tick(self) -> float:
        now = self._clock()
        if self.connected and now >= self._upkeep_due:
            self._upkeep_due = now + UPKEEP_SECONDS
            self._upkeep()
        if self.connected and now >= self._adopt_due:
            for lane in self._orphans():
                self.add(lane)
            self._adopt_due = now + ADOPT_SECONDS
            self.progressed()
        due = min(self._upkeep_due, self._adopt_due) if self.connected else now + UPKEEP_SECONDS
        return min(super().tick(), max(0.0, due - now))


_senders: weakref.WeakSet[Sender] = weakref.WeakSet()


def _abandon_in_child() -> None:
    for sender in list(_senders):
        sender.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_in_child)
