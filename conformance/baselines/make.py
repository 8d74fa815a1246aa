"""``python make.py`` writes ``original-1.0.json``: which cases the original fails, and of which fault each comes.

Each fault is tried alone. A failure that none brings about alone comes of several.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import original

from xtrack_conformance.cases import load_cases
from xtrack_conformance.report import BAD, UNFINISHED
from xtrack_conformance.runner import Runner

HERE = Path(__file__).parent


def failing(faults: Iterable[str], ids: frozenset[str] | None = None) -> frozenset[str]:
    """Return the cases that the original fails with these faults, of all or of some."""
    runner = Runner([sys.executable, str(HERE / "original.py"), *faults])
    try:
        runner.start()
        results = runner.run([case for case in load_cases() if ids is None or case.id in ids])
    finally:
        runner.kill()
    return frozenset(result.case.id for result in results if result.verdict in BAD | UNFINISHED)


def reasons() -> dict[str, str]:
    """Return why each case fails, in the order of the cases."""
    bad = failing(())
    alone = {fault: failing([fault], bad) for fault in original.FAULTS}
    found = {}
    for case in load_cases():
        if case.id in bad and case.level != "INFO":
            of = [text for fault, text in original.FAULTS.items() if case.id in alone[fault]]
            found[case.id] = "; and ".join(of) or "several of its faults together"
    return found


if __name__ == "__main__":
    text = json.dumps({"cases": reasons()}, indent=1) + "\n"
    (HERE / "original-1.0.json").write_text(text, encoding="utf-8", newline="\n")
