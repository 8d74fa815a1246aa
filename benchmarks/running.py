"""Starts the process of each case, and reads what it found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Case, CaseResult, Figure, Goal
from benchmarks.machine import ROOT

SECONDS = {True: 300.0, False: 3600.0}
"""That a case may take, in a quick run and in a full one."""


def run_case(case: Case, folder: Path, *, quick: bool, modules: Sequence[str] = ()) -> CaseResult:
    """Run a case, and once more for its memory where it has a pass for that; a failure is part of the result."""
    others = [f"--module={module}" for module in modules]
    result = _run(case.name, folder, ["--quick", *others] if quick else others, SECONDS[quick])
    if not case.traced or result.error:
        return result
    traced = _run(case.name, folder, ["--quick", "--tracing", *others], SECONDS[quick])
    return CaseResult(
        case.name,
        [*result.figures, *traced.figures],
        result.seconds + traced.seconds,
        result.peak_mib,
        f"in the pass for memory: {traced.error}" if traced.error else "",
    )


def _run(name: str, folder: Path, flags: list[str], seconds: float) -> CaseResult:
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=folder) as work:
        result = Path(work) / "result.json"
        command = [sys.executable, "-m", "benchmarks.one", name, str(result), work, *flags]
        with subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=os.name == "posix",  # so that servers it has started can be ended with it
        ) as process:
            try:
                told, _ = process.communicate(timeout=seconds)
                error = ""
            except subprocess.TimeoutExpired:
                error = f"took more than {seconds:.0f} s"
                if os.name == "posix":
                    os.killpg(process.pid, signal.SIGKILL)
                else:
                    process.kill()
                told, _ = process.communicate()
        took = time.perf_counter() - begin
        if not result.exists():
            last = told.strip().splitlines()[-1:] or ["it said nothing"]
            return CaseResult(name, [], took, error=error or f"exit status {process.returncode}: {last[0]}")
        found = json.loads(result.read_text())
    if found["error"]:
        sys.stderr.write(told)
    figures = [
        Figure(one["name"], one["value"], one["unit"], Goal(*one["goal"]) if one["goal"] else None, one["note"])
        for one in found["figures"]
    ]
    return CaseResult(name, figures, took, found["peak_mib"], found["error"])
