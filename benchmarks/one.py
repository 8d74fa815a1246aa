"""One case in a process of its own, which ``python -m benchmarks`` starts for each."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

from benchmarks import machine
from benchmarks.harness import Bench, load_cases


def main(name: str, result: str, folder: str, *flags: str) -> int:
    """Run a case; write what it found to the file ``result`` as JSON. The exit status is that of the case."""
    for variable in [one for one in os.environ if one.startswith("XTRACK_")]:
        del os.environ[variable]
    chosen = load_cases([flag.removeprefix("--module=") for flag in flags if flag.startswith("--module=")])[name]
    machine.pin(chosen.core)
    found: dict[str, object] = {"figures": [], "error": ""}
    with tempfile.TemporaryDirectory(dir=folder) as work:
        os.environ["XTRACK_DIR"] = f"{work}/home"
        bench = Bench(Path(work), quick="--quick" in flags, tracing="--tracing" in flags)
        try:
            found["figures"] = [
                {
                    "name": one.name,
                    "value": one.value,
                    "unit": one.unit,
                    "goal": one.goal and [one.goal.relation, one.goal.bound],
                    "note": one.note,
                }
                for one in chosen.function(bench)
            ]
        except Exception as error:  # noqa: BLE001 - the report names it, and the exit status tells
            traceback.print_exc()
            found["error"] = f"{type(error).__name__}: {error}"
    found["peak_mib"] = machine.peak_mib()
    Path(result).write_text(json.dumps(found))
    return 1 if found["error"] else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
