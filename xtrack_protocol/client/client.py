"""The client of a collector: follows runs, and commands their workers. Everything waits, nothing runs in between."""

from __future__ import annotations

import threading
import time
import uuid
import weakref
from collections.abc import Callable, Mapping
from typing import Final

import attrs
from typing_extensions import Self

from xtrack_protocol.client.line import TRANSIENT, Line
from xtrack_protocol.client.subscription import RemoteSubscription
from xtrack_protocol.errors import CollectorRefused, LaunchError, TransportError
from xtrack_protocol.ir import Command, CommandResult, Json
from xtrack_protocol.net.endpoint import Endpoint, parse_endpoint
from xtrack_protocol.session import CommandResultReceived
from xtrack_protocol.settings import Settings, load_settings

CONNECT_SECONDS: Final = 10.0
"""Seconds for a connection."""
_AGAIN_SECONDS: Final = 0.2
"""Between two connections for one command."""


@attrs.define
class _Asking:
    """A command, and what has come of it."""

    command: Command
    answers: list[CommandResult] = attrs.field(factory=list)
    was_sent: bool = False
    is_answered: bool = False
    """Whether the last answer has come."""


class CollectorClient:
    """Asks a collector. Each subscription and each command has a connection of its own, so that any thread may call.

    ``endpoint``: an Endpoint, or its address as XTRACK_TRANSPORT takes it (``tcp://host:port``, ``tls://host:port``,
    ``unix:/path``); None: the one that the settings name. What an address leaves out, and the key, come from
    ``settings`` (default: the environment's). ``connect_timeout``: seconds for each connection. Raises
    ConfigurationError for an address that is none, and for a key that would go in clear.
    """

    def __init__(
        self,
        endpoint: Endpoint | str | None = None,
        settings: Settings | None = None,
        *,
        connect_timeout: float = CONNECT_SECONDS,
    ) -> None:
        if not isinstance(endpoint, Endpoint):
            settings = settings or load_settings()
            if endpoint is None:
                spec = settings.transport
                endpoint = spec if spec.partition(":")[0] in {"tcp", "tls", "unix"} else "tcp"
            endpoint = parse_endpoint(endpoint, settings, name="endpoint")
        self.endpoint: Final = endpoint
        self._connect_timeout = connect_timeout
        self._subscriptions: weakref.WeakSet[RemoteSubscription] = weakref.WeakSet()
        self._lock = threading.Lock()

    def subscribe(
        self,
        run_id: str,
        cursor: int | None = 0,
        *,
        timeout: float | None = None,
        until_end: bool = False,
        trouble: Callable[[TransportError], None] | None = None,
    ) -> RemoteSubscription:
        """Return an iterator over a run's events behind number ``cursor`` (None: from now on), each of them once.

        Also for a run that isn't there yet. ``timeout``: seconds without an event after which the iteration ends;
        ``until_end``: end it when the run has ended; ``trouble``: called with what broke a connection, which is made
        again. See RemoteSubscription for what it raises.
        """
        subscription = RemoteSubscription(
            self.endpoint,
            run_id,
            cursor=cursor,
            timeout=timeout,
            until_end=until_end,
            connect_timeout=self._connect_timeout,
            trouble=trouble,
        )
        with self._lock:
            self._subscriptions.add(subscription)
        return subscription

    def send_command(
        self,
        run_id: str,
        type: str,  # noqa: A002 - the wire's name
        payload: Mapping[str, Json] | None = None,
        *,
        worker_id: str | None = None,
        timeout: float = 5.0,
    ) -> list[CommandResult]:
        """Send a command to the workers of a run that are connected to the collector, and return their answers.

        Arguments as ``collector.send_command`` has them; ``run_id`` is the whole id. Waits until every worker has
        answered, at most ``timeout`` seconds, and returns the answers there are. Where the collector itself answers (no
        worker is connected, the key may not), that is the only result, and its status is ``error``. Raises LaunchError
        when nobody answers in time, TransportError where no collector answers, CollectorRefused where it won't.

        A connection that breaks in between is made again, and the command sent again under the same id: each worker
        carries it out once. spec: CTL-15, CTL-2.3
        """
        command = Command(uuid.uuid4().hex, type, dict(payload or {}), run_id, worker_id)
        deadline = time.monotonic() + timeout
        asking = _Asking(command)
        while not asking.is_answered:
            try:
                self._ask(asking, deadline)
                break
            except TransportError as error:
                final = isinstance(error, CollectorRefused) and error.code not in TRANSIENT
                if final or not asking.was_sent or time.monotonic() + _AGAIN_SECONDS >= deadline:
                    if asking.answers:
                        break
                    raise
                time.sleep(_AGAIN_SECONDS)
        if not asking.answers:
            raise LaunchError(
                f"{type}: no worker of run {run_id!r} answered within {timeout:g} s. Commands reach a script that "
                "calls run.commands() or run.should_stop() in its loop, or has set run.on_command()"
            )
        return asking.answers

    def _ask(self, asking: _Asking, deadline: float) -> None:
        """Send a command, and collect the answers until it is the last, or time is over."""
        line = Line(self.endpoint, self._connect_timeout)
        answers: list[CommandResult] = []
        try:
            line.send_command(asking.command)
            asking.was_sent = True
            while not asking.is_answered and (news := line.exchange(deadline)):
                for item in news:
                    if isinstance(item, CommandResultReceived) and item.result.command_id == asking.command.command_id:
                        answers.append(item.result)
                        asking.is_answered = not item.result.left
        finally:
            asking.answers = max(asking.answers, answers, key=len)  # a connection before may have brought more
            line.close()

    def close(self) -> None:
        """End all subscriptions. The client can be used again."""
        with self._lock:
            subscriptions = list(self._subscriptions)
        for subscription in subscriptions:
            subscription.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


__all__ = ["CollectorClient"]
