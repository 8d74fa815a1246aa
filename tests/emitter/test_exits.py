"""How processes end, told by what the run says afterwards. spec: EMT-4"""

from __future__ import annotations

import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from xtrack_protocol.emitter import Tracker, exits
from xtrack_protocol.transport import MemoryTransport

START = """
import atexit, os, sys, threading, time, signal, asyncio
import xtrack_protocol as xtrack
run = xtrack.start_run(run_id="r")
run.log_metric("k", 1.0)
"""

BUSY_THREAD = """
def go():
    for number in range(300):
        run.log_metric("t", 1.0)
        time.sleep(0.001)
threading.Thread(target=go).start()
"""

ENDS = {
    "normal": ("", 0, "completed", None),
    "exception": ("raise ValueError('bang')", 1, "failed", "ValueError"),
    "exit 0": ("sys.exit(0)", 0, "completed", None),
    "exit None": ("sys.exit()", 0, "completed", None),
    "exit False": ("sys.exit(False)", 0, "completed", None),
    "exit 3": ("sys.exit(3)", 3, "failed", "SystemExit"),
    "exit text": ("sys.exit('out of luck')", 1, "failed", "SystemExit"),
    "exit list": ("sys.exit([1])", 1, "failed", "SystemExit"),
    "exit in a function": ("def f():\n    sys.exit(4)\nf()", 4, "failed", "SystemExit"),
    "exit in a finally": ("try:\n    1 / 0\nfinally:\n    sys.exit(5)", 5, "failed", "SystemExit"),
    "exit passed on": ("try:\n    sys.exit(3)\nexcept SystemExit:\n    raise", 3, "failed", "SystemExit"),
    "exit after logging": ("run.log('x')\nsys.exit(3)", 3, "failed", "SystemExit"),
    "exit caught": ("try:\n    sys.exit(3)\nexcept SystemExit:\n    pass", 0, "completed", None),
    "exit caught and kept": (
        "try:\n    sys.exit(3)\nexcept SystemExit as e:\n    kept = e\nrun.log('on')",
        0,
        "completed",
        None,
    ),
    "exit caught, then another": (
        "try:\n    sys.exit(3)\nexcept SystemExit:\n    pass\nrun.log('on')\nsys.exit(7)",
        7,
        "failed",
        "SystemExit",
    ),
    "exit in a thread": ("t = threading.Thread(target=sys.exit, args=(3,))\nt.start(); t.join()", 0, "completed", None),
    "exit while threads log": (
        f"{BUSY_THREAD}time.sleep(0.05)\nsys.exit(3)",
        3,
        "failed",
        "SystemExit",
    ),
    "exit in asyncio": ("async def main():\n    sys.exit(3)\nasyncio.run(main())", 3, "failed", "SystemExit"),
    "exception in a thread": (
        "threading.excepthook = lambda *_: None\nt = threading.Thread(target=int, args=('x',))\nt.start(); t.join()",
        0,
        "completed",
        None,
    ),
    "exception while threads log": (
        f"{BUSY_THREAD}raise ValueError('bang')",
        1,
        "failed",
        "ValueError",
    ),
    "ctrl-c": ("os.kill(os.getpid(), signal.SIGINT); time.sleep(5)", -2, "killed", "KeyboardInterrupt"),
    "ctrl-c caught": (
        "try:\n    os.kill(os.getpid(), signal.SIGINT); time.sleep(5)\nexcept KeyboardInterrupt:\n    run.log('ok')",
        0,
        "completed",
        None,
    ),
    "os._exit": ("os._exit(0)", 0, None, None),
    "kill -9": ("os.kill(os.getpid(), signal.SIGKILL)", -9, None, None),
    "block": ("with run:\n    run.log('x')", 0, "completed", None),
    "block with an exception": ("with run:\n    raise KeyError('k')", 1, "failed", "KeyError"),
    "block with an exit": ("with run:\n    raise SystemExit(3)", 3, "failed", "SystemExit"),
    "block with exit 0": ("with run:\n    sys.exit(0)", 0, "completed", None),
    "block with ctrl-c": ("with run:\n    raise KeyboardInterrupt", -2, "killed", "KeyboardInterrupt"),
    "end, then an exception": ("run.end()\nraise ValueError('bang')", 1, "completed", None),
    "handlers at exit": ("atexit.register(lambda: run.log('last words'))", 0, "completed", None),
}


@pytest.mark.parametrize(("code", "returncode", "status", "error"), ENDS.values(), ids=ENDS)
def test_ends(spool: Any, script: Any, code: str, returncode: int, status: str | None, error: str | None) -> None:
    done = script(START + code)
    assert done.returncode == returncode, done.stderr
    assert "xtrack" not in done.stderr or "Traceback" in done.stderr
    events = spool.events()
    ends = [event.payload for event in events if event.event_type == "run_end"]
    if status is None:
        assert ends == []
        return
    (end,) = ends
    assert events[-1].payload is end
    assert end.status == status
    assert (end.error.type if end.error else None) == error
    if error and error != "SystemExit":
        assert "Traceback" in end.error.traceback
        assert "script.py" in end.error.traceback
    if code.startswith("atexit"):
        assert events[-2].payload.message == "last words"
    if "luck" in code:
        assert end.error.message == "out of luck"


def test_several_runs_at_once(spool: Any, script: Any) -> None:
    """All end with the process, the last one first; one that was ended stays as it was."""
    done = script(
        """
        import xtrack_protocol as xtrack
        runs = [xtrack.start_run(run_id=f"r{number}") for number in range(3)]
        runs[1].end()
        raise ValueError("bang")
        """
    )
    assert done.returncode == 1
    assert [spool.state(f"r{number}").status for number in range(3)] == ["failed", "completed", "failed"]


def test_nested_runs(spool: Any) -> None:
    with Tracker.start_run(run_id="outer") as outer:
        outer.log("before")
        with pytest.raises(ValueError, match="inner"), Tracker.start_run(run_id="inner"):
            raise ValueError("inner")
        outer.log("after")
    assert spool.state("outer").status == "completed"
    assert spool.state("inner").status == "failed"


def test_an_end_without_an_error(spool: Any) -> None:
    run = Tracker.start_run(run_id="r")
    run.end("failed", final_metrics={"acc": 0.5})
    state = spool.state("r")
    assert state.status == "failed"
    assert state.error is not None
    assert state.final_metrics == {"acc": 0.5}
    assert state.duration_ms is not None


def test_the_hook_of_another_is_called(spool: Any, script: Any) -> None:
    """One that was there before us, and one that came after."""
    done = script(
        """
        import sys
        def before(kind, error, traceback): print("before", error)
        sys.excepthook = before
        import xtrack_protocol as xtrack
        run = xtrack.start_run(run_id="r")
        ours = sys.excepthook
        def after(kind, error, traceback):
            print("after", error)
            ours(kind, error, traceback)
        sys.excepthook = after
        raise ValueError("bang")
        """
    )
    assert done.stdout == "after bang\nbefore bang\n"
    assert spool.state("r").status == "failed"


def test_hooks_are_put_back(spool: Any) -> None:
    before = (sys.excepthook, sys.exit)
    first = Tracker.start_run(transport=MemoryTransport())
    second = Tracker.start_run(transport=MemoryTransport())
    assert sys.excepthook is not before[0]
    first.end()
    assert sys.excepthook is not before[0]
    second.end()
    assert (sys.excepthook, sys.exit) == before


def test_hooks_of_those_who_came_after_us_stay(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And hooks that were left in their chain do nothing more, also when ours are put in again."""
    called: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda _kind, error, _traceback: called.append(error))
    run = Tracker.start_run(transport=MemoryTransport())
    ours = sys.excepthook

    def theirs(kind: Any, error: Any, traceback: Any) -> None:
        ours(kind, error, traceback)

    sys.excepthook = theirs
    run.end()
    assert sys.excepthook is theirs
    again = Tracker.start_run(transport=MemoryTransport())
    error = ValueError("once")
    sys.excepthook(ValueError, error, None)
    assert called == [error]
    again.end()
    assert sys.excepthook is theirs
    monkeypatch.setattr(exits, "_uncaught", None)


def test_at_a_prompt_an_exception_ends_nothing(spool: Any, script: Any) -> None:
    done = script(
        """
        import sys
        sys.ps1 = ">>> "
        import xtrack_protocol as xtrack
        run = xtrack.start_run(run_id="r")
        sys.excepthook(ValueError, ValueError("typed wrong"), None)
        run.log("on we go")
        """
    )
    assert done.returncode == 0
    assert spool.state("r").status == "completed"


def test_no_signal_handler_is_installed(spool: Any) -> None:
    """EMT-3.4."""
    before = [signal.getsignal(number) for number in signal.valid_signals()]
    run = Tracker.start_run()
    run.on_command(lambda command: None)
    assert [signal.getsignal(number) for number in signal.valid_signals()] == before
    run.end()


def test_threads_do_not_hold_the_process(spool: Any, script: Any) -> None:
    done = script(
        """
        import xtrack_protocol as xtrack
        run = xtrack.start_run(run_id="r")
        run.on_command(print)
        """,
        timeout=20,
    )
    assert done.returncode == 0
    assert not [thread for thread in threading.enumerate() if thread.name == "xtrack-commands"]


def test_a_closed_stderr(spool: Any, script: Any) -> None:
    """EMT-3.1: nobody to tell is no reason to fail."""
    for close in ("sys.stderr.close()", "sys.stderr = None", "os.close(2)"):
        done = script(
            f"""
            import os, sys
            {close}
            import xtrack_protocol as xtrack
            run = xtrack.start_run(run_id="r{len(close)}", quiet=False)
            run.log_metric("k", "x")
            run.end()
            """
        )
        assert done.returncode == 0, close
        assert spool.state(f"r{len(close)}").status == "completed"


def test_runs_of_many_threads_come_and_go(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a job queue: each start and end may be the first or the last one of all."""

    class Run:
        events_logged = 0

        def end_at_exit(self, error: BaseException | None, code: object) -> None: ...

    def jobs() -> None:
        for _ in range(2000):
            run = Run()
            exits.watch(run)
            exits.unwatch(run)

    before = sys.excepthook, sys.exit
    switches = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(jobs) for _ in range(4)]:
                done.result()
    finally:
        sys.setswitchinterval(switches)
    kept = Run()
    exits.watch(kept)
    assert sys.exit is not before[1]
    exits.unwatch(kept)
    assert (sys.excepthook, sys.exit) == before
