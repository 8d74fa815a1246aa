"""``list``: the cases there are, and the testees."""

from __future__ import annotations

import argparse
import json
import sys

import attrs
import cattrs

from xtrack_conformance.report import command_line
from xtrack_conformance.shipped import SHIPPED, TesteeMissing, command_of
from xtrack_conformance.verbs import Context, Verb, add_selection, selection


def _options(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)
    parser.add_argument("--testees", action="store_true", help="the testees that come with the suite, and no cases")
    parser.add_argument("--json", action="store_true", help="as JSON, with all that is asked and expected")


def _list(context: Context) -> int:
    if context.arguments.testees:
        for name in SHIPPED:
            try:
                sys.stdout.write(f"{name}\t{command_line(command_of(name))}\n")
            except TesteeMissing as error:
                sys.stdout.write(f"{name}\t{error}\n")
        return 0
    cases = selection(context.arguments).cases
    if context.arguments.json:
        told = [cattrs.unstructure(attrs.asdict(case)) for case in cases]
        sys.stdout.write(json.dumps(told, indent=1) + "\n")
        return 0
    for case in cases:
        sys.stdout.write(f"{case.id}\t{case.role}\t{case.level}\t{','.join(case.clauses)}\t{case.why}\n")
    return 0


VERBS = (Verb("list", "list the cases, or the testees that come with the suite", _options, _list),)
