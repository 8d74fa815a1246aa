"""``python matrix.py`` asks every mutant every case, and writes ``matrix.json``: which cases kill it.

Takes a quarter of an hour on two cores. The cases that name a mutant must be among those that kill it; others often
are, too. Mutants of the server are asked the cases that name them, and no others: each that finds one waits for what
never comes. So are those of the store, each case of which opens some stores. Those of the emitter are asked what stands
in the files of the cases that name them, without the slow ones.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parents[1] / "tests"))

import emitter  # noqa: E402
import server  # noqa: E402
import store  # noqa: E402
from conformance_suite import ask  # noqa: E402
from run import MUTANTS  # noqa: E402
from tools import load_testee  # noqa: E402

from xtrack_conformance.cases import Case, load_cases  # noqa: E402
from xtrack_conformance.runner import CaseResult  # noqa: E402
from xtrack_conformance.scripts import peer  # noqa: E402

SECONDS = 0.5
"""How long a server's mutant is waited for."""


def is_kill(result: CaseResult) -> bool:
    """Whether a case has found a mutant: failed, or where it says SHOULD and no more, nonstrict. A crash is no kill."""
    wanted = "nonstrict" if result.case.level == "SHOULD" else "fail"
    return result.verdict == wanted and "internal error" not in result.reason


def is_slow(case: Case) -> bool:
    """Whether an emitter takes long for a case: it runs processes, has much to send, or waits for hours."""
    return "processes" in case.needs or any(step.get("bulk") or step.get("ms", 0) > 1_000_000 for step in case.script)


def killers(name: str) -> tuple[str, list[str]]:
    """Return the cases that kill a mutant."""
    module = load_testee()
    MUTANTS[name](module)
    if name in server.MUTANTS:
        peer.SECONDS = SECONDS
        cases = [case for case in load_cases() if name in case.kills]
    elif name in store.MUTANTS:
        cases = [case for case in load_cases() if name in case.kills]
    elif name in emitter.MUTANTS:
        groups = {case.id[:3] for case in load_cases() if name in case.kills}
        cases = [case for case in load_cases() if name in case.kills or (case.id[:3] in groups and not is_slow(case))]
    else:
        roles = {case.role for case in load_cases() if name in case.kills}
        cases = [case for case in load_cases() if case.role in roles]
    return name, [result.case.id for result in ask(module, cases) if is_kill(result)]


def matrix() -> dict[str, list[str]]:
    """Return the cases that kill each mutant."""
    with multiprocessing.Pool() as pool:
        return dict(sorted(pool.imap_unordered(killers, MUTANTS)))


def as_text(found: dict[str, list[str]]) -> str:
    """Return the matrix as JSON, with a mutant a line."""
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(cases)}" for name, cases in found.items())
    return f'{{"mutants": {{\n{lines}\n}}}}\n'


if __name__ == "__main__":
    (HERE / "matrix.json").write_text(as_text(matrix()), encoding="utf-8")
