"""What integrations need of a run."""

from __future__ import annotations

from xtrack_protocol.emitter.checks import Guard
from xtrack_protocol.emitter.current import current_run
from xtrack_protocol.emitter.run import Run
from xtrack_protocol.emitter.values import shown_in_error
from xtrack_protocol.errors import ConfigurationError


def run_or_current(run: Run | None) -> Run:
    """Return ``run``, or for None the run that was started last. Raises ConfigurationError where that is none."""
    run = run if run is not None else current_run()
    if not isinstance(run, Run):
        raise ConfigurationError("run", shown_in_error(run), "is no run", "Start one, or pass the one to log to")
    return run


def warn(run: Run, kind: str, text: str) -> None:
    """Write one line on stderr, at most one a minute of each kind, and count them all in ``run.stats()``."""
    run._out.warn(kind, text)  # noqa: SLF001 - of this package


def guard(run: Run, call: str) -> Guard:
    """Return what to do ``call`` in: what goes wrong in it is counted and warned of, and never reaches the training.
    spec: EMT-3.1
    """
    return Guard(run._out, call)  # noqa: SLF001 - of this package
