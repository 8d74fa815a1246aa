"""``matrix``: every encoder against every decoder."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from xtrack_conformance.matrix import make_matrix
from xtrack_conformance.reports.table import as_markdown, as_text
from xtrack_conformance.shipped import SHIPPED, command_of
from xtrack_conformance.verbs import FAILED, INCOMPLETE, Context, UsageError, Verb, add_asking, add_selection, selection
from xtrack_conformance.verbs.report import show

EXAMPLE = '{"testees": {"mine": ["./my-testee"], "js": ["node", "testee.mjs"]}}'


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help=f"the testees as JSON, like {EXAMPLE}")
    parser.add_argument(
        "--name", action="append", default=[], metavar="N", help="of the next command behind --; may be repeated"
    )
    parser.add_argument(
        "--testee",
        dest="shipped",
        action="append",
        default=[],
        choices=tuple(SHIPPED),
        help="one of the testees that come with the suite as well; may be repeated",
    )
    add_selection(parser)
    add_asking(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write table and differences as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write them as Markdown")
    parser.add_argument("--differences", type=int, default=20, metavar="N", help="differences shown in full (20)")


def _matrix(context: Context) -> int:
    arguments = context.arguments
    listed = _read(arguments.file) if arguments.file else {}
    listed |= {name: command_of(name) for name in arguments.shipped}
    behind = _split(context.command)
    if not all(behind) or not (listed or behind):
        raise UsageError("matrix needs testees: a FILE, --testee, or their commands, each after a -- of its own")
    if len(arguments.name) > len(behind):
        raise UsageError(f"{len(arguments.name)} names for {len(behind)} commands behind --")
    matrix = make_matrix(
        [*listed.values(), *behind],
        selection(arguments).cases,
        names=[*listed, *arguments.name],
        timeout=arguments.timeout,
        in_flight=arguments.in_flight,
    )
    if arguments.json:
        arguments.json.write_text(matrix.as_json(), encoding="utf-8")
    if arguments.markdown:
        arguments.markdown.write_text(as_markdown(matrix), encoding="utf-8", newline="\n")
    show(as_text(matrix, arguments.differences))
    if matrix.differences:
        return FAILED
    return INCOMPLETE if not matrix.pairs or not matrix.events or matrix.problems else 0


def _split(words: Sequence[str]) -> list[list[str]]:
    """Return the commands, which ``--`` separates."""
    commands: list[list[str]] = [[]] if words else []
    for word in words:
        if word == "--":
            commands.append([])
        else:
            commands[-1].append(word)
    return commands


def _read(path: Path) -> dict[str, list[str]]:
    try:
        testees = json.loads(path.read_text(encoding="utf-8"))["testees"]
        found = {str(name): command for name, command in testees.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: no list of testees, which is JSON like {EXAMPLE}") from error
    for name, command in found.items():
        if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
            raise UsageError(f"{path}: the command of {name} must be a list of words")
    return found


VERBS = (
    Verb(
        "matrix",
        "have every encoder's frames read by every decoder",
        _options,
        _matrix,
        "[OPTIONS] [FILE] [-- COMMAND [ARGUMENT ...] [-- COMMAND ...]]",
    ),
)
