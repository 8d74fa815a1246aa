"""Testees that break down: each has its exact verdict, none stops the run, none passes, and others are not blamed."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conformance_suite import HARNESSES, MUTANT, TESTEE

from xtrack_conformance import cli, process, runner
from xtrack_conformance.cases import load_cases, select
from xtrack_conformance.process import StartFailed
from xtrack_conformance.report import make_report
from xtrack_conformance.runner import CaseResult, HelloFailed, Runner

TRIGGER = "val-number-int64-max"
BYSTANDERS = ["val-zero", "val-2-53-plus-1", "env-unknown-type", "frm-two-frames", "val-number-zero", "jsn-null-free"]
WANTED = [*BYSTANDERS[:3], TRIGGER, *BYSTANDERS[3:]]


def run(command: list[str], wanted: list[str], timeout: float = 20.0) -> tuple[Runner, dict[str, CaseResult]]:
    asked = Runner(command, timeout=timeout)
    try:
        asked.start()
        results = asked.run(select(load_cases(), wanted))
    finally:
        asked.kill()
    return asked, {result.case.id: result for result in results}


def harness(name: str, *more: str) -> list[str]:
    return [sys.executable, str(HARNESSES), name, *more]


@pytest.mark.parametrize(
    ("name", "verdict", "reason"),
    [
        ("crash", "crash", "its output has ended, exit status 7"),
        pytest.param(
            "abort",
            "crash",
            "killed by SIGABRT",
            marks=pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to end by"),
        ),
        ("hang", "timeout", "no answer for"),
        pytest.param("silent", "timeout", "no answer for", marks=pytest.mark.thorough),
        ("closes-stdout", "crash", "its output has ended"),
        ("noisy", "harness-error", "a line that is no JSON: .*decoding an event"),
        ("wrong-id", "harness-error", "an answer with the id 1000000"),
        ("twice", "harness-error", "a request was answered twice"),
        ("half-a-line", "harness-error", "its output ends with half a line"),
        pytest.param(
            "half-a-line-and-hang", "harness-error", "half a line, and nothing more", marks=pytest.mark.thorough
        ),
        ("no-result", "harness-error", "this one has none of them"),
        ("two-results", "harness-error", "this one has event, rejected"),
        ("unknown-class", "harness-error", "unknown class 'ugly'"),
        ("untagged", "harness-error", "event is no metric as the testee protocol writes it"),
        ("no-utf8", "harness-error", "a line that is no JSON"),
        ("internal-error", "fail", "internal error, which is no refusal"),
        ("unsupported", "fail", "has declared what this needs"),
    ],
)
def test_misbehaviour_has_its_verdict_and_costs_nobody_else(name: str, verdict: str, reason: str) -> None:
    is_quiet = name in {"hang", "silent", "half-a-line-and-hang"}
    asked, results = run(harness(name), WANTED, timeout=6.0 if is_quiet else 30.0)
    assert results[TRIGGER].verdict == verdict, results[TRIGGER]
    assert re.search(reason, results[TRIGGER].reason), results[TRIGGER].reason
    assert {case_id: results[case_id].verdict for case_id in BYSTANDERS} == dict.fromkeys(BYSTANDERS, "pass")
    assert asked.problems == []


def test_a_huge_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LINE_MAX", 8_000_000)
    _, results = run(harness("huge-answer"), WANTED)
    assert results[TRIGGER].verdict == "harness-error"
    assert results[TRIGGER].reason == "a line longer than any answer"
    assert {results[case_id].verdict for case_id in BYSTANDERS} == {"pass"}


@pytest.mark.parametrize("name", ["crash", "hang", "noisy", "half-a-line"])
def test_what_happens_once_is_flaky_and_no_pass(name: str, tmp_path: Path) -> None:
    _, results = run(harness(name, str(tmp_path / "marker")), [TRIGGER], timeout=6.0 if name == "hang" else 30.0)
    assert results[TRIGGER].verdict == "flaky"
    assert "once (" in results[TRIGGER].reason
    assert "alone: pass" in results[TRIGGER].reason


def test_noise_behind_the_last_answer_is_a_problem() -> None:
    asked, results = run(harness("noise-at-the-end"), BYSTANDERS)
    assert {result.verdict for result in results.values()} == {"pass"}
    assert asked.problems == ["a line that answers nothing, after the last request: b'goodbye'"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ends-at-once", "its output has ended, exit status 0"),
        ("hello-no-json", "a line that is no JSON"),
        ("hello-wrong-id", "has the id 1, not 0"),
        ("hello-unknown-role", "unknown roles cook"),
        ("hello-protocol-2", "protocol must list 1"),
        ("hello-no-reader", "capabilities name neither"),
    ],
)
def test_a_testee_that_does_not_introduce_itself(name: str, reason: str, capsys: Any) -> None:
    assert cli.main(["run", "--", *harness(name)]) == cli.USAGE
    assert reason in capsys.readouterr().err


def test_no_answer_to_hello(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "HELLO_SECONDS", 0.5)
    asked = Runner(harness("no-answer-to-hello"))
    with pytest.raises(HelloFailed, match=r"no answer to hello after 0\.5 s"):
        asked.start()


def test_a_command_that_is_not_there(capsys: Any) -> None:
    with pytest.raises(StartFailed, match="can't be started"):
        Runner(["/nonexistent/testee"]).start()
    assert cli.main(["run", "--", "/nonexistent/testee"]) == cli.USAGE


def test_no_role_is_incomplete(capsys: Any) -> None:
    assert cli.main(["run", "--", *harness("hello-no-roles")]) == cli.INCOMPLETE
    assert "no case was run" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["accepts-all", "refuses-all", "inverted"])
def test_contrarians_are_nonconformant(name: str, capsys: Any) -> None:
    words = [word for case_id in WANTED for word in ("--case", case_id)] + [
        "--case",
        "JSN-3",
        "--case",
        "enc-surrogate-*",
    ]
    assert cli.main(["run", *words, "--", *harness(name)]) == cli.FAILED
    assert "verdict: nonconformant" in capsys.readouterr().out


def test_a_testee_that_always_hangs_does_not_take_hours() -> None:
    begun = time.monotonic()
    asked = Runner([sys.executable, "-c", HANGS], timeout=0.3)
    try:
        hello = asked.start()
        results = asked.run(select(load_cases(), ["VAL-6"]))
    finally:
        asked.kill()
    assert {result.verdict for result in results} == {"timeout", "could-not-run"}
    assert sum(result.verdict == "timeout" for result in results) <= runner.TIMEOUTS_MAX
    assert time.monotonic() - begun < 60
    report = make_report(
        hello=hello, command=["x"], cases=[r.case for r in results], results=results, problems=[], seconds=1
    )
    assert report.verdict == "nonconformant"


HANGS = """
import sys, time
sys.stdin.readline()
print('{"id":0,"impl":{"name":"n","version":"1","language":"x"},"protocol":[1],"roles":["decoder"],'
      '"capabilities":{"strict":true},"max_in_flight":8}', flush=True)
time.sleep(3600)
"""


def test_a_testee_that_cannot_be_started_again(tmp_path: Path) -> None:
    script = tmp_path / "once.py"
    once = f"import pathlib, sys\nmark = pathlib.Path({str(tmp_path / 'mark')!r})\nif mark.exists(): sys.exit(3)\n"
    script.write_text(f"{once}mark.touch()\n" + HANGS.replace("time.sleep(3600)", "sys.exit(4)"))
    _, results = run([sys.executable, str(script)], ["VAL-5"])
    assert {result.verdict for result in results.values()} <= {"harness-error", "could-not-run", "not-applicable"}
    assert any("could not be started again" in result.reason for result in results.values())


@pytest.mark.parametrize(
    "name", ["answers-out-of-order", "one-byte-a-write", "spacious-and-talkative", "one-in-flight"]
)
def test_unusual_lines_are_read(name: str) -> None:
    asked, results = run([sys.executable, str(MUTANT), name], ["FRM-2", "FRM-5.4", "FRM-1.5", "JSN-6", "ENV-7.4"])
    assert len(results) > 60
    assert {result.verdict for result in results.values()} == {"pass"}
    assert (asked.restarts, asked.problems) == (0, [])


@pytest.mark.skipif(sys.platform == "win32", reason="processes are looked up as POSIX has it")
def test_what_a_testee_has_started_ends_with_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    command = ["sh", "-c", f"sleep 600 & echo $! > {pid_file}; exec {sys.executable} {HARNESSES} hang"]
    _, results = run(command, [TRIGGER], timeout=3.0)
    assert results[TRIGGER].verdict == "timeout"
    pid = int(pid_file.read_text())
    deadline = time.monotonic() + 20
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child there")
def test_interrupted_leaves_no_testee(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    words = [sys.executable, "-m", "xtrack_conformance", "run", "--role", "decoder", "--timeout", "600"]
    suite = subprocess.Popen(
        [*words, "--", *harness("hang", str(marker))], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not marker.exists() and time.monotonic() < deadline:  # made where it begins to hang
        time.sleep(0.05)
    suite.send_signal(signal.SIGINT)
    _, err = suite.communicate(timeout=60)
    assert suite.returncode == cli.INTERRUPTED
    assert err.strip().endswith("interrupted")


def test_the_reference_in_its_own_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "xtrack_conformance", "smoke", "--", sys.executable, str(TESTEE)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 cases" in done.stdout
    assert done.stdout.endswith("verdict: conformant\n")
