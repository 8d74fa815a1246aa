"""Capture of stdout and stderr: lines, streams, descriptors, processes, real kills."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripts import Script, scripts_in

import xtrack_protocol as xtrack
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.integrations._lines import LINE_MAX, Budget, Lines
from xtrack_protocol.integrations.capture import DROPPED, OutputCapture, capture_output
from xtrack_protocol.ir import LogEntry
from xtrack_protocol.storage.local import LocalStore
from xtrack_protocol.transport import MemoryTransport

posix = pytest.mark.skipif(os.name != "posix", reason="descriptors of POSIX")


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return scripts_in(tmp_path)


def logged(memory: MemoryTransport) -> list[tuple[str | None, str]]:
    return [
        (event.payload.logger_name, event.payload.message)
        for event in memory.events
        if isinstance(event.payload, LogEntry)
    ]


def kept(root: Path, logger: str | None = None) -> list[str]:
    """Return the lines that the only run's store has, of one logger."""
    with LocalStore(root) as store:
        (state,) = store.list_runs()
        entries = [event.envelope.payload for event in store.events(state.run_id)]
    return [one.message for one in entries if isinstance(one, LogEntry) and logger in {None, one.logger_name}]


# ------------------------------------------------------------------------------------------ lines


@pytest.mark.parametrize(
    ("text", "lines", "rest"),
    [
        ("a\nb\n", ["a", "b"], []),
        ("a", [], ["a"]),
        ("a\r\nb\r\n", ["a", "b"], []),
        ("\n\n  \na\n", ["a"], []),
        ("  indented  \n", ["  indented"], []),
        ("\r 10%\r 50%\r100%\n", ["100%"], []),
        ("10%\r50%\r", [], ["50%"]),
        ("working\r       \rdone\n", ["done"], []),
        ("working\r       \r\n", [], []),
        ("\x1b[31mred\x1b[0m\n", ["red"], []),
        ("\r\x1b[2Knew\n", ["new"], []),
        ("\x1b]0;title\x07text\n", ["text"], []),
        ("é\u2028x\x0bz\n", ["é\u2028x\x0bz"], []),
    ],
)  # fmt: skip
def test_lines(text: str, lines: list[str], rest: list[str]) -> None:
    found = Lines()
    assert found.feed(text) == lines
    assert found.finish() == rest
    assert found.finish() == []


@given(st.text(alphabet="ab \n\r\x1b[A1m%", max_size=60), st.data())
def test_lines_are_the_same_however_the_text_is_cut(text: str, data: Any) -> None:
    whole = Lines()
    expected = [*whole.feed(text), *whole.finish()]
    cut = Lines()
    found: list[str] = []
    while text:
        size = data.draw(st.integers(1, len(text)))
        found += cut.feed(text[:size])
        text = text[size:]
    assert [*found, *cut.finish()] == expected


def test_nested_progress_bars_are_a_few_lines() -> None:
    tqdm = pytest.importorskip("tqdm")
    text = io.StringIO()
    for _ in tqdm.tqdm(range(20), desc="outer", file=text, mininterval=0, ascii=True):
        for _ in tqdm.tqdm(range(20), desc="inner", file=text, mininterval=0, ascii=True, leave=False):
            pass
    lines = Lines()
    found = [*lines.feed(text.getvalue()), *lines.finish()]
    assert len(found) <= 4
    assert "20/20" in found[-1]
    assert text.getvalue().count("\r") > 400


def test_a_long_line_is_cut() -> None:
    lines = Lines()
    for _ in range(3):
        assert lines.feed("x" * LINE_MAX) == []
    (line,) = lines.feed("\n")
    assert line.startswith("xxx")
    assert line.endswith(f"... [cut: {3 * LINE_MAX} characters, the rest is lost]")
    assert len(line) < LINE_MAX + 100


def test_going_up_for_ever_costs_no_memory() -> None:
    lines = Lines()
    for _ in range(1000):
        assert lines.feed("\x1b[999999Ax") == []
    assert len(lines.finish()) <= 64


def test_going_up_by_a_number_too_long_for_one() -> None:
    assert Lines().feed(f"a\x1b[{'9' * 5000}Ab\n") == ["ab"]


def test_the_budget_fills_up_again() -> None:
    now = [0.0]
    budget = Budget(10, 5, lambda: now[0])
    assert [budget.take() for _ in range(7)] == [True] * 5 + [False] * 2
    now[0] = 0.25
    assert [budget.take() for _ in range(4)] == [True, True, False, False]
    now[0] = 1000
    assert sum(budget.take() for _ in range(50)) == 5


# ------------------------------------------------------------------------------------------ streams


def test_what_is_printed_is_printed_and_logged(
    run: xtrack.Run, memory: MemoryTransport, capsys: pytest.CaptureFixture[str]
) -> None:
    with capture_output(run, stderr_level="warning"):
        print("one", "two", sep=", ")
        print("err", file=sys.stderr)
        sys.stdout.writelines(["three\n", "fo"])
        print("ur", end="")
    print("after")
    assert logged(memory) == [("stdout", "one, two"), ("stderr", "err"), ("stdout", "three"), ("stdout", "four")]
    assert [event.payload.level for event in memory.events if isinstance(event.payload, LogEntry)] == [
        "info", "warning", "info", "info",
    ]  # fmt: skip
    assert capsys.readouterr() == ("one, two\nthree\nfourafter\n", "err\n")


def test_the_stream_stays_itself(run: xtrack.Run) -> None:
    before = sys.stdout
    facts = (before.encoding, before.errors, before.isatty(), before.fileno() if hasattr(before, "fileno") else None)
    had = "write" in vars(before)
    with capture_output(run):
        assert sys.stdout is before
        assert facts == (
            sys.stdout.encoding, sys.stdout.errors, sys.stdout.isatty(), sys.stdout.fileno(),
        )  # fmt: skip
        assert print("x", file=sys.stdout) is None
        assert sys.stdout.write("abc\n") == 4
    assert ("write" in vars(before)) is had


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]])
def test_captures_end_in_any_order(run: xtrack.Run, memory: MemoryTransport, order: list[int]) -> None:
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        captures = [OutputCapture(run, stderr=False).start() for _ in range(3)]
        print("all")
        for place in order:
            captures[place].stop()
            captures[place].stop()
        print("none")
    assert logged(memory) == [("stdout", "all")] * 3
    assert text.getvalue() == "all\nnone\n"


def test_the_end_of_the_run_logs_the_last_words(memory: MemoryTransport) -> None:
    run = xtrack.Tracker.start_run(transport=memory, quiet=True)
    capture_output(run)
    print("no line's end", end="")
    run.end()
    print("after")
    assert logged(memory) == [("stdout", "no line's end")]
    assert memory.events[-1].event_type == "run_end"
    assert run.stats().refused == 0
    assert "write" not in vars(sys.stdout)
    capture_output(run).stop()  # of a run that has ended: nothing


def test_it_can_be_started_again(run: xtrack.Run, memory: MemoryTransport) -> None:
    capture = OutputCapture(run)
    for text in ("a", "b"):
        with capture:
            capture.start()
            print(text)
        print("between")
    assert logged(memory) == [("stdout", "a"), ("stdout", "b")]


def test_a_flood_is_bounded_and_says_so(run: xtrack.Run, memory: MemoryTransport) -> None:
    with contextlib.redirect_stdout(io.StringIO()), capture_output(run, lines_per_second=1e-6):
        for number in range(500):
            print(number)
    entries = [event.payload for event in memory.events if isinstance(event.payload, LogEntry)]
    assert [entry.message for entry in entries[:-1]] == ["0"]
    assert entries[-1].fields == {DROPPED: 499}
    assert entries[-1].level == "warning"
    assert "499 lines were not logged" in entries[-1].message


def test_the_emitters_own_lines_are_not_logged(run: xtrack.Run, memory: MemoryTransport) -> None:
    with capture_output(run):
        run.log_metric("k", "no number")  # type: ignore[arg-type]  # warns on stderr
    assert logged(memory) == []


def test_one_who_prints_what_is_logged_makes_no_loop(
    run: xtrack.Run, memory: MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = xtrack.Run.log

    def log(self: xtrack.Run, message: str, **options: Any) -> None:
        print("heard:", message)
        original(self, message, **options)

    monkeypatch.setattr(xtrack.Run, "log", log)
    with contextlib.redirect_stdout(io.StringIO()), capture_output(run):
        print("x")
    assert logged(memory) == [("stdout", "x")]


def test_many_threads_and_a_stuck_emitter_do_not_wait_for_each_other(run: xtrack.Run, memory: MemoryTransport) -> None:
    """One that holds the emitter's lock prints, while another that prints waits for that lock."""
    lock = run._out._lock
    with contextlib.redirect_stdout(io.StringIO()), capture_output(run, lines_per_second=1e6):
        with lock:
            others = [
                threading.Thread(target=lambda: [print("x" * 40 + "\n", end="") for _ in range(200)]) for _ in range(4)
            ]
            for other in others:
                other.start()
            time.sleep(0.05)
            print("while I hold it\n", end="")  # in one piece, or two threads share a line
        for other in others:
            other.join(30)
            assert not other.is_alive()
    lines = [line for _, line in logged(memory)]
    assert "while I hold it" in lines
    assert len(lines) == 801


def test_a_writer_that_fails_fails_as_before(run: xtrack.Run, memory: MemoryTransport) -> None:
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream), capture_output(run, stderr=False):
        stream.close()
        with pytest.raises(ValueError, match="closed"):
            print("x")
        with pytest.raises(TypeError):
            sys.stdout.write(3)  # type: ignore[arg-type]
    assert logged(memory) == []


def test_streams_that_cannot_be_hooked_into(
    run: xtrack.Run, memory: MemoryTransport, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Bare:
        __slots__ = ()

        def write(self, text: str) -> int:
            return len(text)

        def flush(self) -> None: ...

    monkeypatch.setattr(sys, "stdout", Bare())
    with capture_output(run):
        print("x")
        print("y", file=sys.stderr)
    assert logged(memory) == [("stderr", "y")]
    assert "stdout can't be captured" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with capture_output(run):
        print("x")


def test_both_streams_may_be_one(run: xtrack.Run, memory: MemoryTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", sys.stdout)
    with capture_output(run):
        print("once", file=sys.stderr)
    assert logged(memory) == [("stdout", "once")]


def test_wrong_arguments(run: xtrack.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for options, word in (
        ({"stderr_level": "loud"}, "stderr_level"),
        ({"lines_per_second": 0}, "above 0"),
        ({"lines_per_second": "x"}, "above 0"),
    ):
        with pytest.raises(ConfigurationError, match=word):
            capture_output(run, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="is no run"):
        capture_output("run-1")  # type: ignore[arg-type]
    monkeypatch.setattr("xtrack_protocol.emitter.current._runs", [])
    with pytest.raises(ConfigurationError, match="Start one"):
        capture_output()


def test_a_failed_script_has_its_traceback_in_the_log(script: Script, tmp_path: Path) -> None:
    done = script(
        """
        import xtrack_protocol as xtrack
        from xtrack_protocol.integrations.capture import capture_output
        capture_output(xtrack.start_run())
        print("begun", end="")
        raise RuntimeError("the end")
        """,
        XTRACK_DIR=str(tmp_path / "home"),
    )
    assert done.stdout == "begun"
    lines = kept(tmp_path / "home")
    assert "begun" in lines
    assert "RuntimeError: the end" in lines
    assert "RuntimeError: the end" in done.stderr


@posix
def test_forked_children_log_what_they_print_to_their_own_streams(script: Script, tmp_path: Path) -> None:
    done = script(
        """
        import multiprocessing
        import xtrack_protocol as xtrack
        from xtrack_protocol.integrations.capture import capture_output

        def work(number):
            print("child", number)

        with xtrack.start_run(run_id="r") as run:
            capture_output(run)
            print("parent, without an end,", end="")
            context = multiprocessing.get_context("fork")
            children = [context.Process(target=work, args=(number,)) for number in range(2)]
            for child in children:
                child.start()
            for child in children:
                child.join()
            print(" goes on")
        """,
        XTRACK_DIR=str(tmp_path / "home"),
    )
    assert done.returncode == 0, done.stderr
    assert sorted(kept(tmp_path / "home", "stdout")) == ["child 0", "child 1", "parent, without an end, goes on"]
    with LocalStore(tmp_path / "home") as store:
        assert len(store.get_run("r").streams) == 3


# ------------------------------------------------------------------------------------------ descriptors


DESCRIPTORS = """
import ctypes, os, subprocess, sys, time
import xtrack_protocol as xtrack
from xtrack_protocol.integrations.capture import capture_output
run = xtrack.start_run(run_id="r", quiet=True)
capture = capture_output(run, descriptors=True, lines_per_second=1e6)
"""


def with_descriptors(code: str) -> str:
    return DESCRIPTORS + textwrap.dedent(code)


@posix
def test_c_code_and_started_programs_are_captured(script: Script, tmp_path: Path) -> None:
    code = with_descriptors(
        """
        print("python")
        sys.stdout.flush()
        ctypes.CDLL(None).puts(b"from C")
        ctypes.CDLL(None).fflush(None)
        subprocess.run(["sh", "-c", "echo started; echo complained >&2"], check=True)
        os.write(1, "é".encode()[:1])
        os.write(1, "é".encode()[1:] + b" \\xff\\n")
        run.end()
        print("after")
        """
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        env={**os.environ, "XTRACK_DIR": str(tmp_path / "home")},
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"python\nfrom C\nstarted\n\xc3\xa9 \xff\nafter\n"
    assert done.stderr == b"complained\n"
    assert kept(tmp_path / "home", "stdout") == ["python", "from C", "started", "é \ufffd"]
    assert kept(tmp_path / "home", "stderr") == ["complained"]


@posix
def test_c_code_that_holds_pythons_lock_is_not_held_up(script: Script, tmp_path: Path) -> None:
    """10 MB at once: more than any pipe holds, while no other thread of Python can run."""
    done = script(
        with_descriptors(
            """
            capture.stop()
            capture_output(run, descriptors=True)
            line = b"x" * 99 + b"\\n"
            text = line * 100_000
            written = 0
            write = ctypes.PyDLL(None).write        # unlike CDLL, it keeps the lock
            write.restype = ctypes.c_ssize_t
            while written < len(text):
                written += write(1, ctypes.c_char_p(text[written:]), ctypes.c_size_t(len(text) - written))
            run.end()
            """
        ),
        XTRACK_DIR=str(tmp_path / "home"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("x" * 99 + "\n") * 100_000
    lines = kept(tmp_path / "home", "stdout")
    dropped = [int(line.split()[0]) for line in lines if "lines were not logged" in line]
    assert 1000 <= len(lines) < 50_000
    if not any("bytes of" in line for line in lines) and "in time" not in done.stderr:
        assert len(lines) - len(dropped) + sum(dropped) == 100_000


@posix
@pytest.mark.parametrize("how", ["SIGKILL", "SIGSEGV", "os._exit"])
def test_what_was_written_before_a_kill_gets_to_the_terminal(script: Script, tmp_path: Path, how: str) -> None:
    last = "os._exit(0)" if how == "os._exit" else f"os.kill(os.getpid(), signal.{how})"
    done = script(
        with_descriptors(
            f"""
            import signal
            for number in range(1000):
                print(number)
            sys.stdout.flush()
            {last}
            """
        ),
        XTRACK_DIR=str(tmp_path / "home"),
    )
    assert done.returncode == (0 if how == "os._exit" else -getattr(signal, how))
    assert done.stdout.split() == [str(number) for number in range(1000)]
    lines = kept(tmp_path / "home", "stdout")
    assert lines == [str(number) for number in range(len(lines))]  # what was in the pipe is missing, nothing else


@posix
def test_descriptors_are_given_back(script: Script, tmp_path: Path) -> None:
    done = script(
        with_descriptors(
            """
            inner = capture_output(run, descriptors=True, stderr=False)
            print("both")
            sys.stdout.flush()
            capture.stop()                  # the outer one first
            print("inner")
            sys.stdout.flush()
            inner.stop()
            print("none")
            sys.stdout.flush()
            opened = len(os.listdir("/dev/fd"))
            for _ in range(3):
                with capture_output(run, descriptors=True):
                    print("again")
            assert len(os.listdir("/dev/fd")) == opened
            run.end()
            """
        ),
        XTRACK_DIR=str(tmp_path / "home"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["both", "inner", "none", "again", "again", "again"]
    lines = kept(tmp_path / "home", "stdout")
    # To the outer capture it comes by way of the inner one, and may be on its way yet when that is stopped first.
    assert lines.count("both") in {1, 2}
    assert sorted(line for line in lines if line != "both") == ["again"] * 3 + ["inner"]


@posix
def test_a_program_that_lives_on_keeps_its_output(script: Script, tmp_path: Path) -> None:
    done = script(
        with_descriptors(
            """
            left = subprocess.Popen(["sh", "-c", "sleep 0.3; echo later"])
            run.end()
            left.wait()
            """
        ),
        XTRACK_DIR=str(tmp_path / "home"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "later\n"
    assert kept(tmp_path / "home", "stdout") == []


@posix
def test_a_terminal_stays_one(tmp_path: Path) -> None:
    code = with_descriptors(
        """
        size = os.get_terminal_size(1)
        print(sys.stdout.isatty(), os.isatty(1), size.columns, flush=True)
        subprocess.run(["sh", "-c", "test -t 1 && echo a terminal"])
        run.end()
        """
    )
    import fcntl
    import struct
    import termios

    main, other = os.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 77, 0, 0))
    env = {**os.environ, "XTRACK_DIR": str(tmp_path / "home")}
    with subprocess.Popen([sys.executable, "-c", code], stdout=other, stderr=subprocess.PIPE, env=env) as process:
        os.close(other)
        seen = b""
        with contextlib.suppress(OSError):  # what a terminal's end is on Linux
            while chunk := os.read(main, 4096):
                seen += chunk
        os.close(main)
        assert process.stderr is not None
        assert process.wait(60) == 0, process.stderr.read()
    assert seen == b"True True 77\r\na terminal\r\n"
    assert kept(tmp_path / "home", "stdout") == ["True True 77", "a terminal"]


@posix
def test_where_no_process_can_be_started_python_alone_is_captured(script: Script, tmp_path: Path) -> None:
    done = script(
        """
        import sys
        sys.executable = ""
        import xtrack_protocol as xtrack
        from xtrack_protocol.integrations.capture import capture_output
        with xtrack.start_run(quiet=True) as run:
            capture_output(run, descriptors=True)
            print("still")
        """,
        XTRACK_DIR=str(tmp_path / "home"),
    )
    assert done.returncode == 0
    assert done.stdout == "still\n"
    assert "only what Python writes" in done.stderr
    assert kept(tmp_path / "home") == ["still"]


@posix
def test_where_no_thread_can_be_started_python_alone_is_captured(script: Script, tmp_path: Path) -> None:
    """As at a limit of processes. The descriptors are what they were, and nothing of the attempt is left open."""
    done = script(
        """
        import os, threading
        import xtrack_protocol as xtrack
        from xtrack_protocol.integrations.capture import capture_output
        start = threading.Thread.start
        def refuse(thread):
            if thread.name == "xtrack-output":
                raise RuntimeError("can't start new thread")
            start(thread)
        threading.Thread.start = refuse
        def opened():
            return os.fstat(1).st_ino, os.fstat(2).st_ino, len(os.listdir("/dev/fd"))
        with xtrack.start_run(quiet=True) as run:
            before = opened()
            capture = capture_output(run, descriptors=True)
            assert opened() == before
            os.system("echo below")
            print("still")
            capture.stop()
        """,
        XTRACK_DIR=str(tmp_path / "home"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "below\nstill\n"
    assert "warning: stdout and stderr can't be captured below Python, only what Python writes: " in done.stderr
    assert "can't start new thread" in done.stderr
    assert kept(tmp_path / "home") == ["still"]


@posix
def test_a_closed_pipe_is_told_to_who_writes(script: Script, tmp_path: Path) -> None:
    """As ``python train.py | head -1``: the writer gets its BrokenPipeError, and is not left writing into nothing."""
    code = with_descriptors(
        """
        try:
            for _ in range(10_000_000):
                print("line", flush=True)
        except BrokenPipeError:
            sys.stderr.write("broken\\n")
        """
    )
    env = {**os.environ, "XTRACK_DIR": str(tmp_path / "home"), "XTRACK_QUIET": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        assert process.stderr is not None
        assert b"broken\n" in process.stderr.read()
        process.wait(60)
