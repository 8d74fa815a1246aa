"""``python run.py NAME`` is the reference's testee with the mutant or variant of that name."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).parent))

import collector
import decoder
import emitter
import encoder
import framer
import messagepack
import server
import store
import variants
import variants_collector
import variants_emitter
import variants_server
import variants_store
from tools import Mutation, load_testee


def both(*mutations: Mutation) -> Mutation:
    """Return a mutant that is several, for a behaviour that shows in several roles."""

    def mutate(module: ModuleType) -> None:
        for mutation in mutations:
            mutation(module)

    return mutate


MUTANTS: dict[str, Mutation] = (
    decoder.MUTANTS
    | encoder.MUTANTS
    | framer.MUTANTS
    | messagepack.MUTANTS
    | collector.MUTANTS
    | store.MUTANTS
    | emitter.MUTANTS
    | server.MUTANTS
)
for name in decoder.MUTANTS.keys() & framer.MUTANTS.keys():
    MUTANTS[name] = both(decoder.MUTANTS[name], framer.MUTANTS[name])

VARIANTS = (
    variants.VARIANTS
    | messagepack.VARIANTS
    | variants_collector.VARIANTS
    | variants_store.VARIANTS
    | variants_emitter.VARIANTS
    | variants_server.VARIANTS
)


def main(name: str) -> None:
    """Be the testee of that name."""
    module = load_testee()
    found = {**MUTANTS, **VARIANTS}.get(name)
    if found is None:
        raise SystemExit(f"no mutant or variant {name!r}; there are {', '.join([*MUTANTS, *VARIANTS])}")
    found(module)
    module.main(module.Testee())


if __name__ == "__main__":
    main(sys.argv[1])
