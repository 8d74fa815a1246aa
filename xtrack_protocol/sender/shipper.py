"""Connects, ships, and connects again: what senders and ``xtrack sync`` have in common. spec: DLV-6, DLV-8"""

from __future__ import annotations

import hashlib  # noqa: F401 - for its thread: see below
import random as random_module
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from xtrack_protocol.errors import CollectorRefused, ConfigurationError, TransportError
from xtrack_protocol.ir import Command, CommandResult
from xtrack_protocol.limits import HELLO_SECONDS
from xtrack_protocol.net.connect import connect as net_connect
from xtrack_protocol.net.explain import explain_first_bytes
from xtrack_protocol.sender.lane import Lane
from xtrack_protocol.sender.link import RENEW, Ending, Link
from xtrack_protocol.sender.wake import Wake
from xtrack_protocol.session import Backoff, EmitterSession, StreamId, Welcomed

# Whatever the thread of a sender may need is imported before it begins: a child that is forked while that thread
# imports something waits for ever for the import to end.
from xtrack_protocol.wire import _slow  # noqa: F401

if TYPE_CHECKING:
    from xtrack_protocol.net.channel import Channel
    from xtrack_protocol.net.endpoint import Endpoint

CONNECT_SECONDS: Final = 5.0
"""Seconds that a connection has to come about, TLS included."""
KNOWN_HELLO_SECONDS: Final = 10.0
"""Seconds for the answer of a collector that has welcomed us before: it is busy then, and not of plain version 1."""
GIVE_UP_KNOWN: Final = 3
"""Unanswered hellos in a row after which such a collector may be taken for another one, of plain version 1."""
CLOSED_AT_HELLO: Final = 3
"""Connections in a row that were closed at the hello, after which one is tried without it. spec: VER-3.8"""
SLOW_SECONDS: Final = (5.0, 60.0)
"""The shortest and the longest wait where somebody has to mend something before it can go on."""
WAITED_FOR_SECONDS: Final = 1.0
"""The longest wait between attempts while somebody waits for acks."""
SAVE_SECONDS: Final = 1.0
"""How often notes are written."""
_SLOW_CODES: Final = frozenset({"unauthorized", "forbidden", "unsupported_version"})
RESULTS_MAX: Final = 64
"""Answers to commands that wait for a connection; the oldest ones go first when there are more."""


@attrs.frozen
class Problem:
    """Why nothing is shipped at the moment.

    ``reason`` and ``cure``: for people. ``code``: of a reject, or of TLS; empty where there is none. ``slow``: somebody
    has to mend something. ``retry_after``: as the collector named it. ``brief``: it may well be over in a moment.
    """

    reason: str
    cure: str = ""
    code: str = ""
    slow: bool = False
    retry_after: float | None = None
    brief: bool = False


class Shipper:
    """Ships lanes over one connection at a time, in the thread that calls ``run``. Subclasses say when it is over.

    ``features``: named in hello. ``random``: uniform in [0, 1). ``connect``: as ``net.connect``. ``clock`` and
    ``wake``: what it knows of time, and waits with.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        features: Sequence[str] = (),
        random: Callable[[], float] = random_module.random,
        connect: Callable[[Endpoint, float], Channel] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wake: Callable[[], Wake] = Wake,
    ) -> None:
        self.endpoint = endpoint
        self.lanes: dict[StreamId, Lane] = {}
        self.asleep = False
        self.connected = False
        self.is_plain = False
        """Whether the peer was one of plain version 1 when it was last spoken to."""
        self.connections = 0
        self.problem = ""
        self._features = features
        self._random = random
        self._connect = connect or net_connect
        if endpoint.tls is not None:  # not in the thread that ships, as above
            import xtrack_protocol.net.tls_channel  # noqa: F401
        self._clock = clock
        self._wake = wake()
        self._channel: Channel | None = None
        self._results: deque[CommandResult] = deque(maxlen=RESULTS_MAX)
        self._backoff = Backoff()
        self._slow_backoff = Backoff(*SLOW_SECONDS)
        self._known = False
        self._unanswered = 0
        self._closed_at_hello = 0
        self._save_due = 0.0

    def add(self, lane: Lane) -> None:
        """Ship ``lane`` too. The caller is the shipping thread, or there is none yet."""
        self.lanes[lane.stream] = lane
        note = lane.note
        self._known = self._known or (note.acked > 0 and note.to == self.endpoint.url)

    # ------------------------------------------------------------------------------------------ for subclasses

    def is_leaving(self) -> bool:
        """Whether to stop."""
        raise NotImplementedError

    def is_waited_for(self) -> bool:
        """Whether somebody waits for acks, so that nothing else counts."""
        raise NotImplementedError

    def failed(self, problem: Problem) -> None:
        """Note that nothing is shipped at the moment. What this raises ends ``run``."""

    def complain(self, kind: str, text: str) -> None:
        """Tell people."""

    def commanded(self, command: Command) -> None:
        """Take a command."""

    def progressed(self) -> None:
        """Note that some lane has got further, or is stuck."""

    def pumped(self, session: EmitterSession) -> None:
        """Note that all lanes have had their turn."""

    def succeeded(self) -> None:
        """Note that there is a connection of use."""

    def tick(self) -> float:
        """Save the notes that have changed, at most once a second; return the seconds until the next time."""
        now = self._clock()
        if not any(lane.unsaved for lane in self.lanes.values()):
            return 3600.0
        if now < self._save_due:
            return self._save_due - now
        self._save_due = now + SAVE_SECONDS
        self.save_notes()
        return SAVE_SECONDS

    # ------------------------------------------------------------------------------------------ the loop

    def run(self) -> None:
        """Ship until it is over. Whatever ends it, notes are saved and the connection closed."""
        try:
            while not self.is_leaving():
                problem = self._ship_once()
                if self.is_leaving():
                    return
                if problem.code == RENEW:
                    continue
                self.problem = problem.reason
                self.failed(problem)
                self.progressed()
                self._back_off(problem)
        finally:
            self.connected = False
            self.save_notes()

    def _ship_once(self) -> Problem:
        """Connect, and ship until the connection is over; return why it is."""
        if self.lanes and all(lane.fenced for lane in self.lanes.values()):
            return self._fenced()
        channel: Channel | None = None
        try:
            endpoint = self.endpoint.renewed()
            channel = self._channel = self._connect(endpoint, CONNECT_SECONDS)
            plain = self._closed_at_hello >= CLOSED_AT_HELLO and not endpoint.requires_session and not self._known
            link = Link(
                channel, self._session(endpoint, plain=plain), self.lanes, self, self._wake, skip_hello=plain,
                clock=self._clock,
            )  # fmt: skip
            used_before = self.connections
            ending = link.run()
            problem = self._after(ending, plain=plain)
            if self.connections > used_before:
                return problem
            if ending.code == "protocol_error":  # the port speaks TLS, or something else that won't change by itself
                return attrs.evolve(problem, slow=True, brief=False)
            return problem if ending.code else _explained(endpoint, channel, problem)
        except CollectorRefused as error:
            return Problem(error.problem, error.cure, error.code, slow=True, retry_after=error.retry_after)
        except ConfigurationError as error:
            return Problem(str(error), "", "configuration", slow=True)
        except TransportError as error:
            return Problem(error.problem, error.cure)
        finally:
            self.connected = False
            self.asleep = False
            if channel is not None:
                self._channel = None
                channel.close()

    def _session(self, endpoint: Endpoint, *, plain: bool) -> EmitterSession:
        now = self._clock()
        known = self._known and self._unanswered < GIVE_UP_KNOWN
        seconds = KNOWN_HELLO_SECONDS if known else HELLO_SECONDS
        return EmitterSession(
            endpoint.hello(self._features),
            require_session=endpoint.requires_session or known,
            epoch_us=time.time_ns() // 1000 - int(now * 1_000_000),
            hello_timeout=0.0 if plain else seconds,
        )

    def _after(self, ending: Ending, *, plain: bool) -> Problem:
        """Return what the end of a connection means for the next one."""
        reason = ending.reason
        if ending.at_hello:
            self._closed_at_hello += 1
        elif plain:
            self._closed_at_hello = CLOSED_AT_HELLO - 1  # say hello once more: it may have been replaced. spec: VER-3.9
        elif not ending.unanswered:
            self._closed_at_hello = 0
        if ending.unanswered and not ending.at_hello:
            self._unanswered += 1
        code, after = ending.code, ending.retry_after
        if code == "unauthorized":
            cure = "Set XTRACK_KEY or XTRACK_KEY_FILE to a key that `xtrack keys ls` lists there"
            return Problem(f"the key was not accepted: {reason}", cure, code, slow=True, retry_after=after)
        if code == "forbidden":
            lane = next((lane for lane in self.lanes.values() if lane.forbidden), None)
            if lane is not None and lane.why_not:  # which names its cure
                return Problem(f"{lane.why_not} (forbidden)", "", code, slow=True, retry_after=after)
            what = reason or f"this key may not write to run {lane.stream.run_id if lane else ''!r}"
            cure = "Use a key of the run's owner and experiment: `xtrack keys add` on the collector makes one"
            return Problem(f"{what} (forbidden)", cure, code, slow=True, retry_after=after)
        if code == "fenced":
            return self._fenced()
        slow = code in _SLOW_CODES
        if not slow:
            self._slow_backoff.reset()
        what = reason if code in reason else f"{reason} ({code})"
        return Problem(what, "", code, slow=slow, retry_after=after, brief=not slow)

    def _fenced(self) -> Problem:
        what = "another sender has taken over this stream (fenced)"
        return Problem(what, "`xtrack sync` ships what that one leaves", "fenced", slow=True)

    def _back_off(self, problem: Problem) -> None:
        """Wait for the next attempt. Somebody who waits for acks shortens it, but for what the collector asked for."""
        backoff = self._slow_backoff if problem.slow else self._backoff
        delay = backoff.next_delay(self._random(), problem.retry_after)
        due = self._clock() + delay
        may_hurry = not problem.slow and not problem.retry_after
        while not self.is_leaving():
            now = self._clock()
            if may_hurry and self.is_waited_for():
                due = min(due, now + WAITED_FOR_SECONDS)
                may_hurry = False
            if now >= due:
                return
            self._wake.wait(min(due - now, self.tick()))

    # ------------------------------------------------------------------------------------------ what a link tells

    def welcomed(self, news: Welcomed) -> None:  # noqa: ARG002
        self._known, self._unanswered, self._closed_at_hello = True, 0, 0
        self._in_use(plain=False)

    def fell_back(self) -> None:
        self._in_use(plain=True)

    def _in_use(self, *, plain: bool) -> None:
        self._backoff.reset()
        self.is_plain = plain
        self.connected = True
        self.connections += 1
        self.problem = ""
        self.succeeded()

    def next_result(self) -> CommandResult | None:
        return self._results.popleft() if self._results and self.connected and not self.is_plain else None

    def save_notes(self) -> None:
        """Write the notes that have changed."""
        for lane in list(self.lanes.values()):
            try:
                lane.save()
            except OSError as error:
                self.complain("note", f"how far run {lane.stream.run_id} was shipped can't be kept: {error}")


def _explained(endpoint: Endpoint, channel: Channel, problem: Problem) -> Problem:
    """Return ``problem`` with what the first bytes of a peer say that has never spoken as a collector does."""
    if not channel.first:
        return problem
    found = explain_first_bytes(endpoint, channel.first)
    return problem if found is None else Problem(found.problem, found.cure, found.code, slow=True)
