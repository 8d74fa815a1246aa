"""The options that the harnesses here share."""

from __future__ import annotations

import argparse
import random


def parser(description: str | None, *, jobs: int | None = 2) -> argparse.ArgumentParser:
    """Return a parser with ``--seed``, by which a run can be repeated, and ``--jobs`` unless that is None."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32), help="of an earlier run")
    if jobs is not None:
        made.add_argument("--jobs", type=int, default=jobs, help=f"at a time ({jobs})")
    return made
