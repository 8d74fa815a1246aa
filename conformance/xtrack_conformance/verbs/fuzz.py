"""``fuzz``: look for inputs at which a testee does what it must not."""

from __future__ import annotations

import argparse
import importlib.util
import math
import random
import shlex
from pathlib import Path
from typing import Final

import attrs

from xtrack_conformance.fuzz.asking import Asker
from xtrack_conformance.fuzz.findings import Finding
from xtrack_conformance.report import command_line
from xtrack_conformance.reports import shortened
from xtrack_conformance.verbs import FAILED, Context, UsageError, Verb, add_testee, seconds
from xtrack_conformance.verbs.report import show

ROLES: Final = ("encoder", "decoder", "framer", "collector", "store")

MISSING: Final = "fuzz needs Hypothesis: pip install hypothesis"


def _options(parser: argparse.ArgumentParser) -> None:
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--seconds", type=duration, default=60.0, metavar="S", help="how long (60)")
    budget.add_argument("--examples", type=int, metavar="N", help="how many of each kind, instead")
    parser.add_argument("--seed", type=int, metavar="N", help="search where an earlier run did")
    parser.add_argument("--role", action="append", default=[], choices=ROLES, help="only this role; may be repeated")
    parser.add_argument("--against", metavar="COMMAND", help="a second testee, in quotes: both must come to the same")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where findings are saved (here)")
    parser.add_argument("--timeout", type=seconds, default=10.0, metavar="S", help="seconds for an answer (10)")
    add_testee(parser)


def duration(text: str) -> float:
    """Return for how many seconds to search: as many as one likes, but some end. Raises ValueError."""
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value


def _fuzz(context: Context) -> int:
    if importlib.util.find_spec("hypothesis") is None:
        raise UsageError(MISSING)
    from xtrack_conformance.fuzz.search import search, trials

    arguments = context.arguments
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed  # noqa: S311 - no secret
    against = shlex.split(arguments.against) if arguments.against else []
    found = 0
    asker = Asker(context.command, arguments.timeout)
    other = Asker(against, arguments.timeout) if against else None
    try:
        roles = [role for role in ROLES if role in asker.hello.roles and role in (arguments.role or ROLES)]
        if not roles:
            raise UsageError(f"the testee has no role that can be tried: {', '.join(arguments.role or ROLES)}")
        show(iter([f"fuzzing {_name(asker)}{f' against {_name(other)}' if other else ''}, seed {seed}"]))
        chosen = list(trials(asker, other, roles))
        for name, tried, finding in search(chosen, seed, examples=arguments.examples, seconds=arguments.seconds):
            if finding is None:
                show(iter([f"{name}: {tried} tried"]))
                continue
            found += 1
            told = attrs.evolve(finding, testee=_name(asker), against=_name(other) if other else "")
            show(iter(_told(told, told.save(arguments.out), context)))
    finally:
        asker.close()
        if other:
            other.close()
    show(iter([f"{found} found" if found else "nothing found"]))
    return FAILED if found else 0


def _name(asker: Asker) -> str:
    return f"{asker.hello.name} {asker.hello.version} ({asker.hello.language})"


def _told(finding: Finding, path: Path, context: Context) -> list[str]:
    lines = ["", f"FOUND {finding.rule} ({finding.role}): {finding.message}"]
    if finding.expected:
        lines.append(f"    expected {finding.expected}")
    if finding.got:
        lines.append(f"    got      {finding.got}")
    lines += [f"    input    {shortened(finding.input, 400)}"] if finding.input else []
    lines += [f"    step {number}: {shortened(step)}" for number, step in enumerate(finding.script, 1)]
    again = f"{context.program} fuzz --seed {finding.seed} --role {finding.role} -- {command_line(context.command)}"
    return [
        *lines,
        f"    saved    {path}",
        f"    again    {again}",
        f"    a case   {context.program} promote {path}",
        "",
    ]


VERBS = (
    Verb(
        "fuzz",
        "look for inputs at which a testee does what it must not",
        _options,
        _fuzz,
        "[OPTIONS] -- COMMAND [ARGUMENT ...]",
        needs_command=True,
    ),
)
