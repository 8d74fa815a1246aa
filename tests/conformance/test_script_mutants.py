"""Every case with MUST of a role with a memory names a mutant that it kills: the thorough tests see it happen."""

from __future__ import annotations

import pytest

from xtrack_conformance.cases import load_cases

ROLES = ("server", "emitter", "store", "collector")

WITHOUT_MUTANT: dict[str, str] = {}
"""Of cases that name none, why."""


@pytest.mark.parametrize("role", ROLES)
def test_each_case_with_must_names_a_mutant(role: str) -> None:
    musts = [case for case in load_cases() if case.role == role and case.level == "MUST"]
    assert len(musts) > 200
    assert [case.id for case in musts if not case.kills and case.id not in WITHOUT_MUTANT] == []


def test_the_exceptions_are_cases_without_mutants_and_have_a_reason() -> None:
    without = {case.id for case in load_cases() if case.role in ROLES and case.level == "MUST" and not case.kills}
    assert WITHOUT_MUTANT.keys() <= without
    assert all(WITHOUT_MUTANT.values())
