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


PARTS = (decoder, encoder, framer, messagepack, collector, store, emitter, server)
MUTANTS: dict[str, Mutation] = {}
for part in PARTS:
    for name, mutation in part.MUTANTS.items():
        MUTANTS[name] = both(MUTANTS[name], mutation) if name in MUTANTS else mutation

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
