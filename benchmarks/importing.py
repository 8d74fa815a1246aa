"""P6: what it costs to begin: the import, a short run, and the size of an installation."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Bench, Figure, at_most, by_turns, case, median, seconds_of
from benchmarks.machine import ROOT

RUN = """
import xtrack_protocol as xtrack
with xtrack.start_run("bench", quiet=True) as run:
    run.log_metric("loss", 0.5, step=1)
"""


NEEDED = "import xtrack_protocol\nxtrack_protocol.start_run"
"""All that an emitter needs: the package alone imports what is asked for, and no more."""


def _script(code: str) -> float:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", code]
    return seconds_of(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environ))()


@case("P6.import")
def imported(bench: Bench) -> Iterator[Figure]:
    """Whole processes by turns; their bytecode is there. The least of all is what other programs disturb least."""
    codes = ("pass", "import xtrack_protocol", NEEDED, "import msgspec", RUN)
    rounds = bench.pick(11, 41)
    for code in codes:  # writes what is compiled
        _script(code)
    bare, *found = by_turns(rounds, *(lambda code=code: _script(code) for code in codes))
    yield Figure("Python that does nothing", 1000 * median(bare), "ms")
    whats = (
        "import xtrack_protocol",
        "and what an emitter needs",
        "import msgspec",
        "import, start a run, log, end it",
    )
    for what, seconds in zip(whats, found, strict=True):
        over = [1000 * (one - other) for one, other in zip(seconds, bare, strict=True)]
        goal = at_most(60) if what.startswith("and") else None
        least = 1000 * (min(seconds) - min(bare))
        yield Figure(f"{what}, over that", median(over), "ms", goal, f"median of the differences; least {least:.1f}")


@case("P6.installed")
def installed(bench: Bench) -> Iterator[Figure]:
    """The wheel without extras in an environment of its own, with all bytecode; bytes of files, of 1,000,000."""
    wheels = bench.folder / "wheels"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(ROOT)], check=True)
    (wheel,) = wheels.glob("*.whl")
    home = bench.folder / "env"
    venv.create(home, with_pip=False)
    (site,) = [*home.glob("lib/python*/site-packages"), *home.glob("Lib/site-packages")]
    subprocess.run([*pip, "--python", str(_python(home)), "install", "--compile", str(wheel)], check=True)
    total = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    names = sorted(path.name.split("-")[0] for path in site.glob("*.dist-info"))
    yield Figure("installed with its dependencies", total / 1e6, "MB", at_most(6), ", ".join(names))
    own = [path for name in ("xtrack_protocol", "xtrack_conformance") for path in (site / name).rglob("*")]
    yield Figure("of these, our own", sum(path.stat().st_size for path in own if path.is_file()) / 1e6, "MB")


def _python(home: Path) -> Path:
    return next(path for path in (home / "bin" / "python", home / "Scripts" / "python.exe") if path.exists())
