"""Settings for all tests."""

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# No deadline: a busy machine is no bug. Time is judged by counts and ratios where it matters.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=5000)
settings.load_profile("default")

# Started in the background of a shell, or by nohup, these are ignored, which all that the tests start would inherit.
for name, handler in (("SIGINT", signal.default_int_handler), ("SIGQUIT", signal.SIG_DFL), ("SIGHUP", signal.SIG_DFL)):
    number = getattr(signal, name, None)
    if number is not None and signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _no_run_is_left_open() -> Iterator[None]:
    """A run that a test leaves open keeps its hooks in place, and a thread: the next test would find them."""
    before = _open_runs()
    yield
    for run in _open_runs():
        if run not in before:
            sys.modules["xtrack_protocol.emitter.exits"].unwatch(run)
            if hasattr(run, "end"):
                run.end(timeout=0)


def _open_runs() -> list[Any]:
    exits = sys.modules.get("xtrack_protocol.emitter.exits")
    return list(exits._open) if exits else []


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two a core: most of the tests that take their time wait for processes, sockets and deadlines."""
    return 2 * (os.cpu_count() or 1)
