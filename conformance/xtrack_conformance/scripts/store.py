"""Scripts of the role store: what is kept, how it lies at rest, and what is read from there.

docs/reference/testee-store.md has the requests. A case's axes multiply its runs: *reopen* does the step ``reopen`` in
each way there is, or not at all; *cut* ends a file at each place; *flip* turns a bit in each of its bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final

from xtrack_conformance.judgement import NOTHING_FOUND, Judgement
from xtrack_conformance.scripts.store_common import Step, Steps, Talk, Wrong, ask
from xtrack_conformance.scripts.store_events import STEPS as EVENT_STEPS
from xtrack_conformance.scripts.store_files import STEPS as FILE_STEPS
from xtrack_conformance.scripts.store_files import damaged_variants
from xtrack_conformance.scripts.store_spool import STEPS as SPOOL_STEPS

if TYPE_CHECKING:
    from xtrack_conformance.cases import Case
    from xtrack_conformance.scripts import Begin, Conversation

STEPS: Final[Steps] = EVENT_STEPS | FILE_STEPS | SPOOL_STEPS

ENDINGS: Final = {"closed": None, "crash": "crash", "reindex": "reindex"}
"""Ways to open a store again, and the capability that each needs."""


def runs(case: Case, capabilities: frozenset[str]) -> list[tuple[str, Begin]]:
    """Return the variants of a case, and how the conversation of each begins."""
    if "reopen" in case.axes:
        ways = ["kept open", *(how for how, needed in ENDINGS.items() if needed is None or needed in capabilities)]
        return [(how, _begin(case, how, case.script, capabilities)) for how in ways]
    found: list[tuple[str, Begin]] = [("", _begin(case, "", case.script, capabilities))]
    if {"cut", "flip"} & set(case.axes):
        (step,) = case.script
        found += [
            (name, _begin(case, name, [changed], capabilities)) for name, changed in damaged_variants(step, case.axes)
        ]
    return found


def _begin(case: Case, variant: str, script: Any, capabilities: frozenset[str]) -> Callable[[], Conversation]:
    return lambda: _converse(Talk(f"{case.id} {variant}".strip(), variant, capabilities), script)


def _converse(talk: Talk, script: list[Step]) -> Generator[dict[str, Any], dict[str, Any], Judgement]:
    is_open = any(step["do"] in EVENT_STEPS for step in script)
    if is_open:
        yield from ask(talk, "store.open")
    result = NOTHING_FOUND
    for number, step in enumerate(script, 1):
        try:
            yield from STEPS[step["do"]](talk, step)
        except Wrong as wrong:
            text = f"step {number} ({step['do']}): {wrong}"
            judgement = Judgement(wrong.verdict, text, wrong.expected, wrong.got, wrong.offset, input=wrong.input)
            result = judgement
            break
        if talk.notes and result is NOTHING_FOUND:
            note = talk.notes[0]
            result = Judgement("nonstrict", f"step {number} ({step['do']}): {note}", note.expected, note.got)
    if is_open:
        yield from ask(talk, "store.close")
    return result
