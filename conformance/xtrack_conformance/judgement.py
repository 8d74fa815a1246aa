"""What judging says of a run."""

from __future__ import annotations

from typing import Final

import attrs

RANK: Final = {"pass": 0, "nonstrict": 1, "fail": 2}


@attrs.frozen
class Judgement:
    """``verdict``: pass, nonstrict or fail. ``offset``: the byte of the input where it shows, if it does.

    ``outcome`` is what came of the run in short; it must be the same for all chunkings of a case (FRM-1.5, JSN-5.1).
    ``input``: the bytes that are meant, where they aren't the whole input of the case.
    """

    verdict: str
    message: str = ""
    expected: str = ""
    got: str = ""
    offset: int | None = None
    outcome: str = ""
    input: bytes = b""


NOTHING_FOUND: Final = Judgement("pass")


def weigh(judgement: Judgement, level: str) -> Judgement:
    """Return a judgement as heavy as the case's level lets it be: only what a MUST forbids is a failure."""
    if judgement.verdict != "fail" or level == "MUST":
        return judgement
    return attrs.evolve(judgement, verdict="pass" if level == "INFO" else "nonstrict")
