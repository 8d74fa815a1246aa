"""What fuzzing has found, as a file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import attrs
import cattrs

SCHEMA: Final = "xtrack-conformance-finding/1"


class FindingError(ValueError):
    """No finding, or one of another version."""


@attrs.frozen
class Finding:
    """A smallest input at which something doesn't hold that must.

    ``message``: what. ``rule``: its short name. ``expected``, ``got``: what must come and what came. ``input``: as
    a case has it (``payload``, ``value``, ``feed``, ``source``, ``reader``). ``bytes``: the same in hexadecimal; of an
    encoder, what it wrote. ``script``: of a role with a memory, as a case has it. ``steps``: the requests, each with
    its answer. ``seed``: of the search that came upon it. ``testee``, ``against``: who was asked.
    """

    role: str
    rule: str
    message: str
    seed: int = 0
    expected: str = ""
    got: str = ""
    input: dict[str, Any] = attrs.field(factory=dict)
    bytes: str = ""
    script: list[dict[str, Any]] = attrs.field(factory=list)
    steps: list[dict[str, Any]] = attrs.field(factory=list)
    testee: str = ""
    against: str = ""
    schema: str = SCHEMA

    @property
    def digest(self) -> str:
        """Twelve digits by which findings of the same input are known."""
        said = [self.role, self.rule, self.input, self.script]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]

    def save(self, folder: Path) -> Path:
        """Write the finding into ``folder``, and return the path."""
        path = folder / f"finding-{self.digest}.json"
        path.write_text(json.dumps(cattrs.unstructure(self), indent=1) + "\n", encoding="utf-8", newline="\n")
        return path


class Found(AssertionError):
    """Raised in a search where something doesn't hold."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding
        super().__init__(finding.message)


def read_finding(text: str) -> Finding:
    """Return the finding of a JSON text; raise FindingError where it is none."""
    try:
        found = json.loads(text)
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            raise FindingError(f"no finding of this version, which has the schema {SCHEMA}")
        return cattrs.Converter(forbid_extra_keys=True).structure(found, Finding)
    except cattrs.BaseValidationError as error:
        raise FindingError(f"no finding: {'; '.join(cattrs.transform_error(error)[:3])}") from error
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, FindingError) else FindingError("no finding: it is no JSON") from error
