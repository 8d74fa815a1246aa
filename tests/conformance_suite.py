"""The conformance suite's cases asked in this process: thousands of runs a second, without the lines between."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from xtrack_conformance.cases import Case, load_cases
from xtrack_conformance.judge import judge, no_answer
from xtrack_conformance.judgement import Judgement, weigh
from xtrack_conformance.plan import Run, missing_capability, plan
from xtrack_conformance.protocol import read_answer, read_hello
from xtrack_conformance.runner import CaseResult, Result, sum_up

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "conformance"
TESTEE = FOLDER / "testees" / "python" / "testee.py"
HARNESSES = FOLDER / "mutants" / "harnesses.py"
MUTANT = FOLDER / "mutants" / "run.py"


def mutants() -> ModuleType:
    """Return the module of mutants and variants."""
    sys.path.insert(0, str(FOLDER / "mutants"))
    try:
        import run
    finally:
        sys.path.remove(str(FOLDER / "mutants"))
    return run


def ask(module: ModuleType, cases: Iterable[Case]) -> list[CaseResult]:
    """Ask a testee's module each case, and judge the answers."""
    testee = module.Testee()
    hello = read_hello(testee.answer({"op": "hello"}))
    results = []
    for case in cases:
        if case.role not in hello.roles:
            continue
        if missing_capability(case, hello.capabilities):
            results.append(CaseResult(case, "not-applicable", 0))
            continue
        runs = _plan(case.id, hello.capabilities)
        judged = []
        for run in runs:
            judgement = _converse(testee, run) if run.converse else judge(run, _answers(testee, run.requests))
            judged.append(Result(judgement.verdict, judgement, judgement.message))  # type: ignore[arg-type]
        results.append(sum_up(case, runs, judged))
    return results


@cache
def _plan(case_id: str, capabilities: frozenset[str]) -> list[Run]:
    return plan(next(case for case in load_cases() if case.id == case_id), capabilities)


def _answers(testee: Any, requests: Sequence[dict[str, Any]]) -> list[Any]:
    answers = []
    for request in requests:
        try:
            told = testee.answer(copy.deepcopy(request))
        except Exception as error:  # as the testee's own loop tells it
            told = {"internal_error": f"{type(error).__name__}: {error}"}
        answer = json.loads(json.dumps({"id": 1, **told}))
        answers.append(read_answer(answer, request["op"]))
    return answers


def _converse(testee: Any, run: Run) -> Judgement:
    """Return what comes of a script."""
    assert run.converse is not None
    conversation = run.converse()
    try:
        request = next(conversation)
        while True:
            [answer] = _answers(testee, [request])
            failure = no_answer(answer)
            if failure:
                conversation.close()
                return failure
            request = conversation.send(answer.ok)
    except StopIteration as end:
        return weigh(end.value, run.case.level)
