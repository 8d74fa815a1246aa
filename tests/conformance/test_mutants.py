"""Every mutant is killed by the cases that name it, and no legal variant fails."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from conformance_suite import ask, mutants

from xtrack_conformance.cases import Case, load_cases

RUN = mutants()
CASES = load_cases()
CODEC = [case for case in CASES if not case.script]
NAMED = Counter(name for case in CASES for name in case.kills)
IN_PROCESS = sorted({name for case in CASES if case.role != "server" for name in case.kills})
QUICK = [case for case in CASES if case.role != "server" and not case.id.startswith("emp-")]
"""Those of the server have real sockets, and a module of tests for themselves; those that begin with emp- have
processes of their own, which are no variants. The reference is asked them all where it is judged whole."""


def test_cases_name_the_mutants_there_are() -> None:
    assert sorted(NAMED) == sorted(RUN.MUTANTS)
    assert len(NAMED) >= 150


def test_each_case_of_a_codec_that_says_must_names_a_mutant() -> None:
    assert [case.id for case in CODEC if case.level == "MUST" and not case.kills] == []


@pytest.mark.thorough
@pytest.mark.parametrize("name", IN_PROCESS)
def test_a_mutant_is_killed_by_each_case_that_names_it(name: str) -> None:
    module = RUN.load_testee()
    RUN.MUTANTS[name](module)
    for result in ask(module, [case for case in CASES if name in case.kills and case.role != "server"]):
        assert "internal error" not in result.reason, result.reason  # a crash is no kill
        wanted = "fail" if result.case.level == "MUST" else "nonstrict"
        assert result.verdict == wanted, (result.case.id, result.verdict)


@pytest.mark.slow  # CI asks it as it stands in the wheel
def test_the_reference_kills_nothing() -> None:
    named = [case for case in QUICK if case.kills]
    assert [r.case.id for r in ask(RUN.load_testee(), named) if r.verdict != "pass"] == []


class Contrarian:
    """A testee that gives one answer, whatever it is asked."""

    def __init__(self, *, accepts: bool) -> None:
        self.accepts = accepts
        self.hello = RUN.load_testee().HELLO

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["op"] == "hello":
            return dict(self.hello)
        if request["op"].startswith("frame."):
            frame = {"offset": 0, "length": 5, "payload": "AA=="}
            return {"frames": [frame] if self.accepts and request["op"] == "frame.finish" else [], "state": "between"}
        if not self.accepts:
            return {"rejected": {}}
        return {"event": {"t": "null"}} if request["op"] == "decode" else {"frame": "AAAAAA=="}


@pytest.mark.thorough
def test_every_case_with_must_can_fail() -> None:
    failed: set[str] = set()
    for accepts in (True, False):
        module = SimpleNamespace(Testee=lambda accepts=accepts: Contrarian(accepts=accepts))
        failed |= {result.case.id for result in ask(module, CODEC) if result.verdict == "fail"}  # type: ignore[arg-type]
    assert sorted(case.id for case in CODEC if case.level == "MUST" and case.id not in failed) == []


def cases_of(variant: str) -> list[Case]:
    """Return what a variant is asked: it is the same as the reference in the other roles."""
    role = variant.partition("-")[0]
    return [case for case in QUICK if case.role == role] if role in {"collector", "store", "emitter"} else CODEC


OWN_VARIANTS = sorted(RUN.VARIANTS.keys() - RUN.variants_server.VARIANTS.keys())
OF_EMITTERS = [name for name in OWN_VARIANTS if name.startswith("emitter-")]


def failures_of(variant: str, cases: list[Case]) -> list[tuple[str, str]]:
    assert cases
    module = RUN.load_testee()
    RUN.VARIANTS[variant](module)
    results = ask(module, cases)
    return [(r.case.id, r.reason) for r in results if r.verdict not in {"pass", "nonstrict", "not-applicable"}]


@pytest.mark.thorough
@pytest.mark.parametrize("name", OWN_VARIANTS)
def test_no_legal_variant_fails(name: str) -> None:
    """Those of emitters are asked a third each, as it takes them long; each case is asked of several."""
    cases = cases_of(name)
    assert failures_of(name, cases[OF_EMITTERS.index(name) % 3 :: 3] if name in OF_EMITTERS else cases) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_EMITTERS)
def test_no_legal_variant_of_an_emitter_fails_at_anything(name: str) -> None:
    assert failures_of(name, cases_of(name)) == []
