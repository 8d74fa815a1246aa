"""Without the framework there is one error, which says what to install."""

from __future__ import annotations

from typing import Any

import pytest

SCRIPT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
__import__("xtrack_protocol.integrations." + sys.argv[1])
"""


@pytest.mark.parametrize(
    ("module", "absent", "named"),
    [
        ("torch", "torch", "torch"),
        ("lightning", "lightning,pytorch_lightning,torch", "lightning"),
        ("transformers", "transformers", "transformers"),
        ("keras", "keras", "keras"),
    ],
)
def test_an_absent_framework(workshop: Any, module: str, absent: str, named: str) -> None:
    printed = workshop.python(workshop.write(SCRIPT), module, absent, status=1)
    last = printed.strip().splitlines()[-1]
    assert "ConfigurationError" in last
    assert "not installed" in last
    assert f"`pip install {named}`" in last
