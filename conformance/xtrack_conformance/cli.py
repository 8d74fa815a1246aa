"""``python -m xtrack_conformance``: each verb has its module in :mod:`xtrack_conformance.verbs`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from xtrack_conformance import HARNESS, PROTOCOL
from xtrack_conformance.cases import CaseError
from xtrack_conformance.process import StartFailed
from xtrack_conformance.report import BaselineError
from xtrack_conformance.runner import HelloFailed
from xtrack_conformance.shipped import TesteeMissing, command_of
from xtrack_conformance.verbs import (
    FAILED,
    INCOMPLETE,
    INTERRUPTED,
    USAGE,
    Context,
    UsageError,
    Verb,
    export,
    fuzz,
    init,
    matrix,
    promote,
    report,
    run,
    show,
)

__all__ = ["FAILED", "INCOMPLETE", "INTERRUPTED", "USAGE", "main"]

PROGRAM: Final = "python -m xtrack_conformance"

EXAMPLES: Final = """\
exit status: 0 as expected, 1 not conformant or a stale baseline, 2 wrong usage or a testee that breaks the testee
protocol, 3 incomplete: no case was run, or not all could be

examples:
  {program} init --lang python my-testee
  {program} smoke -- ./my-testee
  {program} run -- ./my-testee
  {program} run --role decoder --report report.json -- node testee.mjs
  {program} run --case val-int64-max -- ./my-testee
  {program} run --html report.html --junit report.xml -- ./my-testee
  {program} report report.json --html report.html
  {program} matrix --name mine --name js -- ./my-testee -- node testee.mjs
  {program} export --out vectors --role decoder
  {program} run --testee javascript
  {program} fuzz --seconds 60 -- ./my-testee
  {program} list --role framer
"""

VERBS: Final[dict[str, Verb]] = {
    verb.name: verb
    for verb in (
        *init.VERBS,
        *run.VERBS,
        *show.VERBS,
        *report.VERBS,
        *matrix.VERBS,
        *export.VERBS,
        *fuzz.VERBS,
        *promote.VERBS,
    )
}


def main(argv: Sequence[str] | None = None, program: str = PROGRAM) -> int:
    """Run the command line ``argv`` (default: the process's); return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    words, command = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    parser = _parser(program)
    try:
        arguments = parser.parse_args(words)
        named = getattr(arguments, "testee", None)
        if named and command:
            parser.error("--testee and a command after -- are two testees")
        if VERBS[arguments.verb].needs_command and not command and not named:
            parser.error(f"{arguments.verb} needs the command that starts the testee, after --")
    except SystemExit as end:  # argparse has said why
        return end.code if isinstance(end.code, int) else USAGE
    try:
        return VERBS[arguments.verb].run(Context(arguments, command_of(named) if named else command, program))
    except (CaseError, BaselineError, UsageError, TesteeMissing, StartFailed) as error:
        _complain(f"{program}: {error}")
        return USAGE
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        _complain(f"{program}: {where}{error.strerror or error}")
        return USAGE
    except HelloFailed as error:
        _complain(f"{program}: the testee doesn't introduce itself: {error}")
        for line in error.stderr[-20:]:
            _complain(f"  stderr: {line}")
        return USAGE
    except KeyboardInterrupt:
        _complain(f"{program}: interrupted")
        return INTERRUPTED


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Judge an implementation of the XTrack protocol, clause by clause.",
        epilog=EXAMPLES.format(program=program),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"harness {HARNESS}, XTrack protocol {PROTOCOL}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS.values():
        description = f"{verb.help[0].upper()}{verb.help[1:]}."
        usage = f"{program} {verb.name} {verb.words}"
        verb.options(verbs.add_parser(verb.name, usage=usage, help=verb.help, description=description))
    return parser


def _complain(text: str) -> None:
    sys.stderr.write(f"{text}\n")
