"""Module-level convenience: ``xtrack_protocol.start_run(...)``, ``xtrack_protocol.log_metric(...)`` and so on.

They speak to the run that this process started last and that hasn't ended. Scripts that have several runs at once hold
on to their Run objects instead. What runs inside of a run (a tracked function, a tracked request) has that one, in its
own thread and its own task: see ``within``.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from xtrack_protocol.emitter.run import Run
from xtrack_protocol.emitter.tracker import Tracker
from xtrack_protocol.errors import ConfigurationError

if TYPE_CHECKING:
    from contextvars import ContextVar

_runs: list[Run] = []
"""Runs of this process in the order of their starts. Without a lock: one that a thread holds while another one forks
would be held for ever in the child. Each step on the list is atomic by itself."""

context: ContextVar[tuple[Run, ...] | None] | None = None
"""The runs that this thread or task is inside of, the innermost last; None: it has none of its own. Made by ``within``,
where something needs it."""


def start_run(name: str | None = None, **options: Any) -> Run:
    """Start a run and make it the current one; as :meth:`Tracker.start_run`."""
    run = Tracker.start_run(name, **options)
    around = context.get() if context is not None else None
    if context is not None and around is not None:
        context.set((*(other for other in around if not other.ended), run))
        return run
    for other in tuple(_runs):
        if other.ended:
            with suppress(ValueError):  # another thread was quicker
                _runs.remove(other)
    _runs.append(run)
    return run


def current_run() -> Run | None:
    """Return the run that this thread or task is inside of, else the one that was started last by :func:`start_run`.

    None where none of them is open.
    """
    if context is not None:
        for run in reversed(context.get() or ()):
            if not run.ended:
                return run
    return next((run for run in reversed(_runs) if not run.ended), None)


def _current(call: str) -> Run:
    """Return the current run, or else the last one, which says that it has ended."""
    run = current_run() or next(reversed(_runs), None)
    if run is None:
        raise ConfigurationError("run", None, f"{call}: no run has been started", "Call start_run() first")
    return run


def log_metric(key: str, value: Any, step: int | None = None, **options: Any) -> None:
    """Log to the current run; as :meth:`Run.log_metric`."""
    _current("log_metric").log_metric(key, value, step, **options)


def log_metrics(metrics: Any, step: int | None = None, **options: Any) -> None:
    """Log to the current run; as :meth:`Run.log_metrics`."""
    _current("log_metrics").log_metrics(metrics, step, **options)


def log_param(key: str, value: Any) -> None:
    """Log to the current run; as :meth:`Run.log_param`."""
    _current("log_param").log_param(key, value)


def log_params(params: Any) -> None:
    """Log to the current run; as :meth:`Run.log_params`."""
    _current("log_params").log_params(params)


def log_artifact(path: Any, type: str | None = None, **options: Any) -> None:  # noqa: A002
    """Log to the current run; as :meth:`Run.log_artifact`."""
    _current("log_artifact").log_artifact(path, type, **options)


def log_checkpoint(path: Any, step: int, **options: Any) -> None:
    """Log to the current run; as :meth:`Run.log_checkpoint`."""
    _current("log_checkpoint").log_checkpoint(path, step, **options)


def log(message: str, **options: Any) -> None:
    """Log to the current run; as :meth:`Run.log`."""
    _current("log").log(message, **options)


def set_status(status: Any, message: str | None = None, **options: Any) -> None:
    """Log to the current run; as :meth:`Run.set_status`."""
    _current("set_status").set_status(status, message, **options)


def set_tags(tags: Any) -> None:
    """Tag the current run; as :meth:`Run.set_tags`."""
    _current("set_tags").set_tags(tags)


def alert(title: str, text: str | None = None, **options: Any) -> None:
    """Alert by the current run; as :meth:`Run.alert`."""
    _current("alert").alert(title, text, **options)


def summary(values: Any) -> None:
    """Set values of the current run's summary; as :meth:`Run.summary`."""
    _current("summary").summary(values)


def flush(**options: Any) -> bool:
    """Flush the current run; as :meth:`Run.flush`."""
    return _current("flush").flush(**options)


def end(status: Any = "completed", **options: Any) -> None:
    """End the current run; as :meth:`Run.end`."""
    _current("end").end(status, **options)
