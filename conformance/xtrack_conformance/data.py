"""The suite's data: as they stand in the source tree, or packed as in the wheel, where they take a seventh of it."""

from __future__ import annotations

import gzip
from importlib import resources
from typing import Final

PACKED: Final = ".gz"
"""What the name of a file ends with that the wheel has packed: see ``hatch_build.py``."""


def json_files(folder: str) -> dict[str, str]:
    """Return the texts of the JSON files in a folder of the suite, by their names, in the order of these."""
    found = {}
    for file in (resources.files("xtrack_conformance") / folder).iterdir():
        name = file.name.removesuffix(PACKED)
        if name.endswith(".json"):
            data = file.read_bytes()
            found[name] = (data if name == file.name else gzip.decompress(data)).decode()
    return dict(sorted(found.items()))
