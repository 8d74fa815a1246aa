"""The verbs of the command line, a module each. Every module has ``VERBS``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Final

import attrs

from xtrack_conformance import ROLES
from xtrack_conformance.cases import Case, load_cases, select
from xtrack_conformance.sets import Requirements, load_set
from xtrack_conformance.shipped import SHIPPED

FAILED: Final = 1
USAGE: Final = 2
INCOMPLETE: Final = 3
INTERRUPTED: Final = 130


class UsageError(ValueError):
    """What was asked for can't be done: says why."""


@attrs.frozen
class Context:
    """What a verb works with. ``command``: the words behind ``--``. ``program``: how this program was called."""

    arguments: argparse.Namespace
    command: Sequence[str]
    program: str


@attrs.frozen
class Verb:
    """``words``: what follows the verb, for the usage line. ``needs_command``: whether a testee is started.

    ``options`` adds its options to a parser; ``run`` does it and returns the exit status.
    """

    name: str
    help: str
    options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Context], int]
    words: str = "[OPTIONS]"
    needs_command: bool = False


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose cases."""
    parser.add_argument(
        "--requirements", type=_count, metavar="N", help="the set of requirements (default: the newest)"
    )
    parser.add_argument("--role", action="append", default=[], choices=ROLES, help="only this role; may be repeated")
    parser.add_argument(
        "--case",
        action="append",
        default=[],
        metavar="ID",
        help="only this case, those that begin so (ID*), or those of a clause (FRM-3.5); may be repeated",
    )


@attrs.frozen
class Selection:
    """The cases that were chosen, of which set, and by which options, if they are only a part of it."""

    requirements: Requirements
    cases: tuple[Case, ...]
    only: tuple[str, ...]


def selection(arguments: argparse.Namespace) -> Selection:
    """Return what the options of :func:`add_selection` choose. Raises CaseError for what isn't there."""
    requirements = load_set(arguments.requirements)
    cases = select(requirements.select(load_cases()), arguments.case, arguments.role)
    only = [f"--role {role}" for role in arguments.role] + [f"--case {name}" for name in arguments.case]
    return Selection(requirements, tuple(cases), tuple(only))


def add_asking(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a testee is asked."""
    parser.add_argument("--timeout", type=seconds, default=10.0, metavar="S", help="seconds for an answer (10)")
    parser.add_argument("--in-flight", type=_count, default=64, metavar="N", help="requests under way at most (64)")


def add_testee(parser: argparse.ArgumentParser) -> None:
    """Add the option that names a testee in place of its command."""
    parser.add_argument(
        "--testee",
        choices=tuple(SHIPPED),
        help="one of the testees that come with the suite, in place of a command (list --testees)",
    )


def seconds(text: str) -> float:
    """Return an option's number of seconds, a day's at most. Raises ValueError."""
    value = float(text)
    if not 0 < value < 86_400:
        raise ValueError(text)
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value
