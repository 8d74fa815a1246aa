"""The testees that come with the suite: in the wheel beside it, in the source tree one folder above."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Final

SHIPPED: Final[dict[str, str]] = {"javascript": "testee.mjs", "python": "testee.py"}
"""The file that is started, by the testee's name, which is that of its folder."""


class TesteeMissing(Exception):
    """The testee isn't here, or what runs it: says what."""


def command_of(name: str) -> list[str]:
    """Return the command that starts a testee of the suite. Raises TesteeMissing."""
    here = Path(__file__).parent
    places = [folder / "testees" / name / SHIPPED[name] for folder in (here, here.parent)]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise TesteeMissing(f"the testee {name} did not come with this installation ({places[0]})")
    if name == "javascript":
        node = shutil.which("node")
        if node is None:
            raise TesteeMissing("the testee javascript needs node, and there is none on the PATH")
        return [node, str(path)]
    if importlib.util.find_spec("xtrack_protocol") is None:
        raise TesteeMissing("the testee python needs xtrack_protocol: pip install xtrack-protocol")
    return [sys.executable, str(path)]
