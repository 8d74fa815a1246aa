"""Being inside of a run: what a thread or a task, and what it calls, takes for the current one."""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar, Token
from typing import Final

from xtrack_protocol.emitter import current
from xtrack_protocol.emitter.run import Run

_runs: Final[ContextVar[tuple[Run, ...] | None]] = ContextVar("xtrack_runs", default=None)
current.context = _runs


class Within:
    """Makes a run the current one of the thread or task that is in its ``with`` block.

    The block may be entered again, for the next step of a generator: it is then as it was left. Other threads and
    tasks see nothing of it, but for tasks that are started in it.
    """

    __slots__ = ("_inside", "_token")

    def __init__(self, run: Run) -> None:
        self._inside: tuple[Run, ...] | None = (*(other for other in _runs.get() or () if not other.ended), run)
        self._token: Token[tuple[Run, ...] | None] | None = None

    def __enter__(self) -> None:
        self._token = _runs.set(self._inside)

    def __exit__(self, *_: object) -> None:
        self._inside = _runs.get()
        token, self._token = self._token, None
        if token is not None:
            with suppress(ValueError):  # closed elsewhere, as an abandoned coroutine is: there is nothing to put back
                _runs.reset(token)


def stand_apart() -> None:
    """Keep the runs that this thread starts to itself: they are the current ones of no other."""
    _runs.set(())


__all__ = ["Within", "stand_apart"]
