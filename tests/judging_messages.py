"""What the conformance suite says of testees that don't do as they should: rows of the troubleshooting page."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from conformance_suite import HARNESSES, MUTANT


def suite(*words: str) -> str:
    """Run the suite and return what it said."""
    command = [sys.executable, "-m", "xtrack_conformance", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode != 0
    return done.stdout + done.stderr


def broken(name: str, *options: str) -> str:
    return suite("run", *options, "--", sys.executable, str(HARNESSES), name)


def with_stale_baseline(folder: Path) -> str:
    baseline = folder / "baseline.json"
    baseline.write_text('{"cases": {"frm-tiny": "we lose the first byte"}}', encoding="utf-8")
    words = ["--case", "frm-tiny", "--baseline", str(baseline)]
    return suite("run", *words, "--", sys.executable, str(MUTANT), "one-in-flight")


JUDGING: dict[str, Callable[[Path], str]] = {
    "...: '...' can't be started: ...": lambda _: suite("run", "--", "/nonexistent/testee"),
    "... needs the command that starts the testee, after --": lambda _: suite("run", "--role", "decoder"),
    "...: the testee doesn't introduce itself: no answer to hello: its output has ended, ...": lambda _: broken(
        "ends-at-once"
    ),
    "...: the testee doesn't introduce itself: a line that is no JSON: ...": lambda _: broken("hello-no-json"),
    "no case was run: the testee declares none of the roles that were asked for": lambda _: broken("hello-no-roles"),
    "HARNESS-ERROR ...: a line that is no JSON: ...": lambda _: broken("noisy", "--case", "val-number-int64-max"),
    "problem: a line that answers nothing, after the last request: ...": lambda _: broken(
        "noise-at-the-end", "--case", "frm-tiny"
    ),
    "stale: ... stands in the baseline, and passes. Take it out.": with_stale_baseline,
}
