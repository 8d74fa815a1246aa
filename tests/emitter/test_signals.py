"""Signals that a script asks for: they end the run truthfully at any moment, or come as commands. spec: EMT-3.4"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from xtrack_protocol.emitter import Tracker
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.ir import LogEntry, RunEnd
from xtrack_protocol.settings import load_settings
from xtrack_protocol.transport import MemoryTransport

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of another kind")

CHILDREN = """
import os, random, signal, sys, threading, time
import xtrack_protocol as xtrack

def child(number, body):
    \"\"\"Run body(run) in a forked child, which is the first to log; return how it ended.\"\"\"
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            run = xtrack.start_run(run_id=f"r{number:05}")
            run.on_signal("SIGTERM")
            body(run, lambda: os.write(writing, b"x"))
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(99)
        os._exit(0)
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    return pid

def by_term(status):
    by_itself = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM
    return by_itself or os.waitstatus_to_exitcode(status) == 128 + signal.SIGTERM  # of a machine that is very busy
"""

MOMENTS = (
    CHILDREN
    + """
moments, threads = int(sys.argv[1]), int(sys.argv[2])
random.seed(int(sys.argv[3]))

def log(run, name):
    step = 0
    while True:
        step += 1
        run.log_metric(name, float(step), step=step)
        if step % 50 == 0:
            run.log_metrics({"a": 1, "b": 2.0}, step=step, phase="val")
            run.log("message", step=step)
            run.log_param("p", {"q": step})
        if step % 400 == 0:
            run.log_checkpoint("model.pt", step)
        for _ in run.commands():
            pass

def body(run, tell):
    others = [threading.Thread(target=log, args=(run, f"t{n}"), daemon=True) for n in range(1, threads)]
    for thread in others:
        thread.start()
    tell()
    log(run, "t0")

for number in range(moments):
    pid = child(number, body)
    time.sleep(random.random() * 0.02)
    for _ in range(random.choice((1, 1, 2, 3))):  # launchers repeat it
        os.kill(pid, signal.SIGTERM)
    _, status = os.waitpid(pid, 0)
    assert by_term(status), (number, status)
"""
)

LINES = (
    CHILDREN
    + """
first, stride = int(sys.argv[1]), int(sys.argv[2])
ours = os.path.dirname(xtrack.__file__)

def body_at(line):
    def body(run, tell):
        left = line
        def look(frame, event, argument):
            nonlocal left
            if event == "line":
                left -= 1
                if left == 0:
                    sys.settrace(None)
                    signal.raise_signal(signal.SIGTERM)
                    return None
            return look
        tell()
        sys.settrace(lambda frame, event, argument: look if frame.f_code.co_filename.startswith(ours) else None)
        run.log_metric("k", 1.0, step=1)
        run.log_metrics({"a": 1, "b": 2.0}, step=2)
        run.log("message")
        run.log_checkpoint("model.pt", 3)
        list(run.commands())
        run.end()
        sys.settrace(None)
    return body

line = first
while True:
    pid = child(line, body_at(line))
    _, status = os.waitpid(pid, 0)
    if status == 0:  # the end came before the line
        break
    assert by_term(status), (line, status)
    line += stride
print(line)
"""
)


def check_ends(spool: Any, expected: int, statuses: set[str]) -> None:
    """Every stream is whole, and its last event is what its state says."""
    streams = spool.streams()
    assert len(streams) == expected
    for stream, events in streams.items():
        numbered = [event for event in events if event.meta.seq]
        assert [event.meta.seq for event in numbered] == list(range(1, len(numbered) + 1)), stream
        assert [event for event in events if isinstance(event.payload, RunEnd)] == [events[-1]], stream
        end = events[-1].payload
        assert end.status in statuses
        if end.status == "killed":
            assert (end.error.type, end.error.message) == ("Preempted", "SIGTERM told the process to end")


@pytest.mark.parametrize("threads", [1, 8])
def test_at_random_moments(spool: Any, script: Any, threads: int) -> None:
    done = script(MOMENTS, "12", str(threads), "0")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    check_ends(spool, 12, {"killed"})


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("moments", "threads", "seed"),
    [
        (100, 1, 1),
        (50, 8, 3),
        pytest.param(300, 1, 2, marks=pytest.mark.slow),
        pytest.param(150, 8, 4, marks=pytest.mark.slow),
    ],
)
def test_at_hundreds_of_random_moments(spool: Any, script: Any, moments: int, threads: int, seed: int) -> None:
    done = script(MOMENTS, str(moments), str(threads), str(seed), timeout=110)
    assert done.returncode == 0, done.stderr
    check_ends(spool, moments, {"killed"})


def test_in_some_lines(spool: Any, script: Any) -> None:
    done = script(LINES, "41", "41")
    assert done.returncode == 0, done.stderr
    check_ends(spool, int(done.stdout) // 41, {"killed", "completed"})


@pytest.mark.thorough
@pytest.mark.parametrize("first", [1, *(pytest.param(number, marks=pytest.mark.slow) for number in (2, 3, 4))])
def test_in_every_line(spool: Any, script: Any, first: int) -> None:
    """Of the emitter, from a metric to the end of ``end()``: whatever it interrupts is whole."""
    done = script(LINES, str(first), "4", timeout=110)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 500
    check_ends(spool, len(range(first, int(done.stdout) + 1, 4)), {"killed", "completed"})


def test_by_the_environment(spool: Any, script: Any) -> None:
    done = script(
        """
        import os, signal, sys
        import xtrack_protocol as xtrack
        run = xtrack.start_run(run_id="r", quiet=False)
        run.log_metric("k", 1.0)
        os.kill(os.getpid(), signal.SIGUSR1)
        commands = list(run.commands())
        print([(command.type, command.payload) for command in commands], run.should_stop)
        os.kill(os.getpid(), signal.SIGUSR2)
        print(run.should_stop)
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGTERM)
        print("never")
        """,
        XTRACK_SIGNALS="TERM=end, USR1=checkpoint_now, SIGUSR2=stop",
    )
    assert done.returncode == -signal.SIGTERM
    assert done.stdout == "[('checkpoint_now', {'signal': 'SIGUSR1'})] False\nTrue\n"
    assert "run r killed (SIGTERM) after" in done.stderr
    state = spool.state("r")
    assert (state.status, state.error.type) == ("killed", "Preempted")
    said = [event.payload.message for event in spool.events() if isinstance(event.payload, LogEntry)]
    assert said == ["SIGUSR1 came: checkpoint_now", "SIGUSR2 came: stop"]


def test_wrong_variables(spool: Any) -> None:
    for value in ("TERM", "TERM=", "=end", "NOSUCH=end", "KILL=end", "STOP=end"):
        with pytest.raises(ConfigurationError, match="XTRACK_SIGNALS"):
            load_settings({"XTRACK_SIGNALS": value})
    assert load_settings({"XTRACK_SIGNALS": "TERM=end,"}).signals == (("TERM", "end"),)


def test_by_the_environment_in_other_threads(spool: Any, script: Any) -> None:
    """A server starts a run for each request, each in a thread: it is told once, and each run counts it."""
    done = script(
        """
        import signal, threading
        import xtrack_protocol as xtrack
        before = signal.getsignal(signal.SIGTERM)
        def serve(number):
            with xtrack.start_run(run_id=f"r{number}") as run:
                counted.append(run.stats().warnings)
        counted = []
        threads = [threading.Thread(target=serve, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counted == [{"signals": 1}] * 8, counted
        assert signal.getsignal(signal.SIGTERM) is before
        with xtrack.start_run(run_id="main") as run:
            assert signal.getsignal(signal.SIGTERM) is not before
            assert run.stats().warnings == {}
        """,
        XTRACK_SIGNALS="TERM=end,USR1=stop",
    )
    assert done.returncode == 0, done.stderr
    (said,) = done.stderr.splitlines()
    assert said.startswith("xtrack: warning: XTRACK_SIGNALS is not obeyed by runs that are started outside of the main")


def test_by_the_environment_in_another_thread_in_strict_mode(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTRACK_SIGNALS", "TERM=end")
    with ThreadPoolExecutor(1) as pool, pytest.raises(ConfigurationError, match="only the main thread"):
        pool.submit(Tracker.start_run, run_id="r", strict=True).result()


def test_a_command_for_a_callback(spool: Any) -> None:
    transport = MemoryTransport()
    run = Tracker.start_run(transport=transport, run_id="r")
    came = threading.Event()
    run.on_command(lambda command: came.set(), "checkpoint_now")
    run.on_signal(signal.SIGUSR1, "checkpoint_now")
    signal.raise_signal(signal.SIGUSR1)
    assert came.wait(20)
    run.end()
    assert [event.payload for event in transport.events if event.event_type == "command_result"] == []
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_a_handler_of_before_is_called(spool: Any) -> None:
    """For a command, and behind the end, where it decides what becomes of the process."""
    called: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: called.append(number))
    try:
        ours = signal.getsignal(signal.SIGUSR1)
        run = Tracker.start_run(run_id="r", strict=True)
        run.on_signal("SIGUSR1", "checkpoint_now")
        signal.raise_signal(signal.SIGUSR1)
        assert called == [signal.SIGUSR1]
        assert [command.type for command in run.commands()] == ["checkpoint_now"]
        run.on_signal("usr1")  # the last word counts
        signal.raise_signal(signal.SIGUSR1)
        assert called == [signal.SIGUSR1] * 2
        assert run.ended
        assert spool.state("r").status == "killed"
        assert signal.getsignal(signal.SIGUSR1) is ours
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_several_runs_end_before_any_is_waited_for(spool: Any, script: Any) -> None:
    done = script(
        """
        import os, signal
        import xtrack_protocol as xtrack
        from xtrack_protocol.emitter import Tracker
        runs = [xtrack.start_run(run_id=f"r{number}") for number in range(3)]
        other = xtrack.start_run(run_id="untouched")
        for run in runs:
            run.on_signal(signal.SIGTERM)
        runs[1].end()
        os.kill(os.getpid(), signal.SIGTERM)
        """
    )
    assert done.returncode == -signal.SIGTERM
    assert [spool.state(f"r{number}").status for number in range(3)] == ["killed", "completed", "killed"]
    assert spool.state("untouched").status == "running"


def test_a_run_that_another_thread_ends(spool: Any, script: Any) -> None:
    """It can't put the handler back: the signal does what it did before all the same, and can be asked for anew."""
    done = script(
        """
        import os, signal, threading
        import xtrack_protocol as xtrack
        run = xtrack.start_run(run_id="r")
        run.on_signal("SIGTERM")
        run.on_signal("SIGUSR1", "stop")
        thread = threading.Thread(target=run.end)
        thread.start()
        thread.join()
        print(run.ended, signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, flush=True)
        again = xtrack.start_run(run_id="s")
        again.on_signal("SIGUSR1", "stop")
        signal.raise_signal(signal.SIGUSR1)
        print(again.should_stop, flush=True)
        again.end()
        signal.raise_signal(signal.SIGTERM)
        print("never")
        """
    )
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "True False\nTrue\n"), done.stderr
    assert (spool.state("r").status, spool.state("s").status) == ("completed", "completed")


def test_while_the_end_is_waited_for(spool: Any, script: Any) -> None:
    """The run has completed, and stays so; the process ends."""
    done = script(
        """
        import os, signal, threading, time
        import xtrack_protocol as xtrack
        from xtrack_protocol.transport import LocalTransport
        class Slow(LocalTransport):
            is_first = True
            def flush(self, until, timeout):
                if self.is_first:
                    self.is_first = False
                    os.kill(os.getpid(), signal.SIGTERM)
                    time.sleep(60)
                return True
        run = xtrack.start_run(run_id="r", transport=Slow())
        run.on_signal("SIGTERM")
        run.end()
        """,
        timeout=30,
    )
    assert done.returncode == -signal.SIGTERM
    assert spool.state("r").status == "completed"


def test_what_cannot_be_asked_for(spool: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = Tracker.start_run(run_id="r")
    before = [signal.getsignal(number) for number in signal.valid_signals()]
    run.on_signal("SIGNOSUCH")
    run.on_signal(signal.SIGKILL)
    run.on_signal(4711)
    run.on_signal([])  # type: ignore[arg-type]
    thread = threading.Thread(target=run.on_signal, args=("SIGTERM",))
    thread.start()
    thread.join()
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    run.on_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    signal.signal(signal.SIGHUP, ignored)
    assert [signal.getsignal(number) for number in signal.valid_signals()] == before
    assert run.stats().refused == 6
    assert "there is no signal 'SIGNOSUCH'" in capsys.readouterr().err
    run.end()
    run.on_signal("SIGTERM")
    assert [signal.getsignal(number) for number in signal.valid_signals()] == before
    strict = Tracker.start_run(run_id="s", strict=True)
    with pytest.raises(ConfigurationError, match="there is no signal"):
        strict.on_signal("SIGNOSUCH")
    strict.end()


def test_a_forked_child(spool: Any, script: Any) -> None:
    """SIGTERM ends it, as it would have, and not its parent's run; what is a command to its parent doesn't end it."""
    done = script(
        """
        import os, signal, time, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # os.fork with threads, from 3.12 on
        import xtrack_protocol as xtrack
        run = xtrack.start_run(run_id="r")
        run.on_signal("SIGTERM")
        run.on_signal("SIGUSR1", "checkpoint_now")
        pids = []
        for number in (signal.SIGTERM, signal.SIGUSR1):
            pid = os.fork()
            if pid == 0:
                run.log_metric("child", 1.0)
                os.kill(os.getpid(), number)
                os._exit(5)
            print(os.waitpid(pid, 0)[1])
        time.sleep(1.3)  # in which the parent would end, had it heard of its children's signals
        run.log_metric("parent", 1.0)
        run.end()
        """
    )
    assert done.stdout.split() == [str(int(signal.SIGTERM)), str(5 << 8)], done.stderr
    assert spool.state("r").status == "completed"


def test_a_run_that_was_started_after_the_signal(spool: Any, script: Any) -> None:
    """A handler of the script's goes on. What it starts then isn't ended, as late as the main thread got to it."""
    done = script(
        """
        import hashlib, signal, threading, time
        import xtrack_protocol as xtrack
        signal.signal(signal.SIGTERM, lambda *_: None)
        first, other = (xtrack.start_run(transport="null") for _ in range(2))
        first.on_signal("SIGTERM")
        other.on_signal("SIGTERM", "checkpoint_now")
        threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGTERM)).start()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 1_000_000)  # in C, where no signal interrupts it
        later = xtrack.start_run(transport="null")
        later.on_signal("SIGTERM")
        time.sleep(1.5)
        print(first.ended, later.ended)
        """
    )
    assert done.stdout.split() == ["True", "False"], done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="counted in /proc")
def test_a_forked_child_keeps_nothing_of_it(spool: Any, script: Any) -> None:
    """A data loader's workers outlive a run; a training of many runs must not collect threads and pipes."""
    done = script(
        """
        import os, signal, time, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        import xtrack_protocol as xtrack

        def held():
            return [len(os.listdir(f"/proc/self/{what}")) for what in ("task", "fd")]

        run = xtrack.start_run(transport="null")
        before = held()
        run.on_signal("SIGTERM")
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
        run.end()
        os.close(reading)
        deadline = time.monotonic() + 10
        while held() != [before[0], before[1] + 1] and time.monotonic() < deadline:
            time.sleep(0.01)
        print(held() == [before[0], before[1] + 1])
        os.close(writing)
        os.waitpid(pid, 0)
        """
    )
    assert done.stdout.split() == ["True"], done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="a mutex of zeros")
def test_a_main_thread_that_is_stuck_in_c(spool: Any, script: Any) -> None:
    """As in a collective operation whose other ranks are gone: no handler of Python's runs there."""
    done = script(
        """
        import ctypes, os, signal, sys, threading
        import xtrack_protocol as xtrack
        if len(sys.argv) > 1:
            signal.signal(signal.SIGTERM, lambda *_: None)
        run = xtrack.start_run(run_id=f"r{len(sys.argv)}", quiet=False)
        run.on_signal("SIGTERM")
        run.log_metric("k", 1.0)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        threading.Timer(4.5, os._exit, (5,)).start()
        libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(128)
        libc.pthread_mutex_lock(mutex)
        libc.pthread_mutex_lock(mutex)  # for ever
        """
    )
    assert done.returncode == 143, done.stderr
    assert "run r1 killed (SIGTERM) after" in done.stderr
    assert (spool.state("r1").status, spool.state("r1").error.type) == ("killed", "Preempted")


def test_a_handler_of_before_when_the_main_thread_is_stuck(spool: Any, script: Any) -> None:
    """The run ends, and the handler is called when that thread comes back."""
    done = script(
        """
        import os, signal, threading, time
        import xtrack_protocol as xtrack
        called = []
        signal.signal(signal.SIGTERM, lambda *_: called.append(1))
        run = xtrack.start_run(run_id="r")
        run.on_signal("SIGTERM")
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        sum(range(2 * 10**7))
        while not run.ended:
            pass
        print(called, flush=True)
        """
    )
    assert (done.returncode, done.stdout) == (0, "[1]\n"), done.stderr
    assert spool.state("r").status == "killed"


def test_beside_an_event_loop(spool: Any, script: Any) -> None:
    """Which has the descriptor that tells of signals, and keeps it; or takes it later."""
    done = script(
        """
        import asyncio, os, signal
        import xtrack_protocol as xtrack
        async def main(early):
            came = asyncio.Event()
            run = xtrack.start_run(run_id=f"r{early}")
            if early:
                run.on_signal("SIGTERM")
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, came.set)
            if not early:
                run.on_signal("SIGTERM")
            os.kill(os.getpid(), signal.SIGUSR2)
            await came.wait()
            print("came", flush=True)
            if early:
                run.end()
            came.clear()
            os.kill(os.getpid(), signal.SIGUSR2)
            await came.wait()
            os.kill(os.getpid(), signal.SIGTERM)
        import sys
        if not os.fork():
            asyncio.run(main(False))
        os.wait()
        asyncio.run(main(True))
        """,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "came\ncame\n"), done.stderr
    assert (spool.state("rFalse").status, spool.state("rTrue").status) == ("killed", "completed")


def test_the_first_process_of_a_container(spool: Any, tmp_path: Path) -> None:
    """The kernel doesn't end that one by a signal for which it has no handler."""
    path = tmp_path / "first.py"
    path.write_text(
        "import os, signal, sys, xtrack_protocol as x\nassert os.getpid() == 1\nrun = x.start_run(run_id='r')\n"
        "run.on_signal('SIGTERM')\nos.kill(1, signal.SIGTERM)\nsys.exit('still there')\n"
    )
    done = subprocess.run(
        ["unshare", "-r", "--pid", "--fork", sys.executable, str(path)], capture_output=True, text=True, check=False
    )
    if "unshare" in done.stderr:
        pytest.skip(f"no namespaces here: {done.stderr}")
    assert done.returncode == 143, done.stderr
    assert spool.state("r").status == "killed"


FULL = """
import os, sys, signal, threading, time
import xtrack_protocol as xtrack
run = xtrack.start_run(run_id="r")
run.on_signal("SIGTERM")
filler = os.open(os.environ["XTRACK_DIR"] + "/../filler", os.O_WRONLY | os.O_CREAT)
try:
    while True:
        os.write(filler, bytes(4096))
except OSError:
    pass
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
step = 0
while True:
    step += 1
    run.log_metric("k", float(step), step=step)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mount namespaces")
@pytest.mark.parametrize("on_full", ["drop", "block"])
def test_on_a_full_disk(spool: Any, tmp_path: Path, on_full: str) -> None:
    """Also where the training waits for room: its last words have theirs, and nothing waits any more."""
    mount, copy = tmp_path / "small", tmp_path / "home"
    mount.mkdir()
    script = tmp_path / "full.py"
    script.write_text(FULL)
    inside = (
        f'mount -t tmpfs -o size=1M none "{mount}" && {{ "{sys.executable}" "{script}"; status=$?; '
        f'cp -r "{mount}/home" "{copy}"; exit $status; }}'
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", inside],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XTRACK_DIR": f"{mount}/home", "XTRACK_ON_FULL": on_full},
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount namespaces here: {done.stderr}")
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    state = spool.state("r")
    assert (state.status, state.error.type, state.lost_events > 0) == ("killed", "Preempted", True)


@pytest.mark.thorough
def test_a_reader_that_takes_nothing(spool: Any, tmp_path: Path) -> None:
    """A pipe that is full, in the middle of an event: the process ends all the same, after five seconds."""
    code = """
        import os, xtrack_protocol as x
        run = x.start_run(run_id='r', transport='stdio')
        run.on_signal('SIGTERM')
        os.write(1, b'ready')
        while True:
            run.log_metric('k', 1.0)
        """
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        pass_fds=(writing,),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "XTRACK_FD": str(writing)},
    )
    assert process.stdout
    assert process.stdout.read(5) == b"ready"
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    os.close(reading)
    os.close(writing)
    assert process.returncode in {143, -signal.SIGTERM}
