"""Fuzzes every reader of bytes for a while, and prints what it cost.

::

    python -m fuzz --seconds 60 --seed 7            # every target its share of a minute
    python -m fuzz --seconds 3600 --jobs 2          # an hour of two processes
    python -m fuzz --target records --seconds 600   # one target
    python -m fuzz --replay input.bin --target records
    python -m fuzz --atheris --target payload       # with coverage, where atheris is installed

A finding is an exception that the target doesn't allow, more than a second of work for an input, or a memory that
grows. Its input is written to a file that ``--replay`` takes. The same seed makes the same inputs.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

if "--atheris" in sys.argv:  # it instruments what is imported while it looks on
    import atheris

    with atheris.instrument_imports(include=["xtrack_protocol"]):
        from fuzz.loop import run, table, verdict
        from fuzz.targets import TARGETS, Target
else:
    from fuzz.loop import run, table, verdict
    from fuzz.targets import TARGETS, Target


def _with_atheris(target: Target, arguments: list[str]) -> None:
    seeds = Path(tempfile.mkdtemp(prefix=f"fuzz-{target.name}-"))
    for number, data in enumerate(target.seeds()):
        (seeds / str(number)).write_bytes(data)
    atheris.Setup([sys.argv[0], *arguments, str(seeds)], lambda data: verdict(target, data))
    atheris.Fuzz()


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="in all, shared by the targets")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--target", action="append", choices=[target.name for target in TARGETS])
    parser.add_argument("--inputs", type=int, help="stop each target after so many")
    parser.add_argument("--replay", type=Path, help="check the input in this file, and nothing else")
    parser.add_argument("--atheris", action="store_true", help="let atheris choose the inputs of one target")
    options, rest = parser.parse_known_args()
    if rest and not options.atheris:
        parser.error(f"unknown: {' '.join(rest)}")
    names = options.target or [target.name for target in TARGETS]
    if options.replay or options.atheris:
        (target,) = [target for target in TARGETS if target.name == names[0]]
        if options.atheris:
            _with_atheris(target, rest)
        else:
            print(verdict(target, options.replay.read_bytes()))
        return 0
    print(f"{len(names)} targets, {options.seconds:g} s of {options.jobs} processes, seed {options.seed}\n", flush=True)
    results = run(names, options.seconds, options.seed, options.jobs, options.inputs)
    print(table(results))
    return 1 if any(one.findings for one in results) else 0


if __name__ == "__main__":
    sys.exit(main())
