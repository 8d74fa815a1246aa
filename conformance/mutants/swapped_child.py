"""``python swapped_child.py MUTANT FILE`` is a process of the reference's testee, with a mutant's edits."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent
TESTEES = HERE.parent / "testees" / "python"

if __name__ == "__main__":
    sys.path[0:1] = [str(TESTEES), str(HERE)]
    import emitter
    from swapped import load_edited

    load_edited(emitter.EDITS[sys.argv[1]])
    sys.argv = [str(TESTEES / "as_process.py"), sys.argv[2]]
    runpy.run_path(sys.argv[0], run_name="__main__")
