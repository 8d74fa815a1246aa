"""Python code in a process of its own, as a script."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

Script = Callable[..., "subprocess.CompletedProcess[str]"]


def scripts_in(folder: Path) -> Script:
    """Return what runs code as a script in ``folder``, with arguments and variables; it may take 60 s."""

    def run(code: str, *arguments: str, timeout: float = 60, **env: str) -> subprocess.CompletedProcess[str]:
        path = folder / "script.py"
        path.write_text(textwrap.dedent(code))
        return subprocess.run(
            [sys.executable, "-W", "error", str(path), *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, **env},
        )

    return run
