"""Packs the conformance suite's cases for the wheel: four megabytes of JSON that most installations never read."""

from __future__ import annotations

import gzip
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SUITE = "xtrack_conformance"
FOLDERS = ("cases", "requirements")
"""Of the suite, those whose JSON files are packed; the plain ones are left out by pyproject.toml."""


class PackedCases(BuildHookInterface):  # type: ignore[type-arg] # takes the builder's configuration, of which we read none
    """Puts ``NAME.json.gz`` in the place of each ``NAME.json``; ``xtrack_conformance.data`` reads both."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the wheel is built."""
        if version == "editable":  # the source tree itself
            return
        self._packed = TemporaryDirectory()
        for folder in FOLDERS:
            for path in sorted((Path(self.root) / "conformance" / SUITE / folder).glob("*.json")):
                packed = Path(self._packed.name) / f"{folder}-{path.name}.gz"
                packed.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
                build_data["force_include"][str(packed)] = f"{SUITE}/{folder}/{path.name}.gz"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Called when it is built."""
        if version != "editable":
            self._packed.cleanup()
