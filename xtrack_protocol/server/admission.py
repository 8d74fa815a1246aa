"""Who may come in: how many connections there may be, who guesses keys, and how much of it is told to the log."""

from __future__ import annotations

import logging
import re
from collections import Counter, OrderedDict
from typing import Final

import attrs

from xtrack_protocol.server.limits import ServerLimits

LOCAL: Final = "unix"
"""The address of peers on a Unix socket, who have none."""

_LINES_A_MINUTE: Final = 10
_TEXT_MAX: Final = 400
_KINDS_MAX: Final = 1000
"""Kinds of lines that are told apart."""


class Doorkeeper:
    """Counts connections by address. spec: CTL-17.1"""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._all = 0
        self._by_address: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()

    def refusal(self, address: str) -> str:
        """Return why no more connections of ``address`` are taken; "" where they are."""
        limits = self._limits
        if self._all >= limits.connections:
            return f"{self._all} connections are open, and more are not taken"
        if address == LOCAL:
            return ""
        if self._unknown[address] >= limits.unknown_per_address:
            return f"{self._unknown[address]} connections of this address have not said yet what they are"
        if self._by_address[address] >= limits.per_address:
            return f"{self._by_address[address]} connections of this address are open"
        return ""

    def enter(self, address: str) -> None:
        """A connection was accepted."""
        self._all += 1
        self._by_address[address] += 1
        self._unknown[address] += 1

    def known(self, address: str) -> None:
        """It has said what it is."""
        self._less(self._unknown, address)

    def leave(self, address: str, *, known: bool) -> None:
        """It is over."""
        self._all -= 1
        self._less(self._by_address, address)
        if not known:
            self._less(self._unknown, address)

    @staticmethod
    def _less(counts: Counter[str], address: str) -> None:
        counts[address] -= 1
        if counts[address] <= 0:
            del counts[address]


@attrs.define
class _Guesses:
    failures: int = 0
    until: float = 0.0


class KeyGuesses:
    """Makes those wait who come with wrong keys again and again. spec: CTL-17.4"""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._addresses: OrderedDict[str, _Guesses] = OrderedDict()

    def wait(self, address: str, now: float) -> float:
        """Return for how many seconds no key of ``address`` is looked at."""
        guesses = self._addresses.get(address)
        return 0.0 if guesses is None else max(0.0, guesses.until - now)

    def wrong(self, address: str, now: float) -> None:
        """A key was wrong."""
        guesses = self._addresses.pop(address, None) or _Guesses()
        guesses.failures += 1
        beyond = guesses.failures - self._limits.key_failures
        if beyond >= 0:
            first, longest = self._limits.key_wait
            guesses.until = now + min(first * 2 ** min(beyond, 30), longest)
        self._addresses[address] = guesses
        if len(self._addresses) > self._limits.addresses:
            self._addresses.popitem(last=False)

    def right(self, address: str) -> None:
        """A key was right."""
        self._addresses.pop(address, None)


class Journal:
    """The log, in which nobody can make us write more than some lines a minute of each kind."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._written: dict[str, tuple[float, int]] = {}

    def note(self, kind: str, text: str, now: float, level: int = logging.INFO) -> None:
        """Write a line, unless there were too many of its kind; what comes from peers is escaped and cut."""
        if kind not in self._written and len(self._written) >= _KINDS_MAX:
            kind = "other"
        begun, count = self._written.get(kind, (now, 0))
        if now - begun >= 60.0:
            if count > _LINES_A_MINUTE:
                self._logger.log(level, "%s: %d more in the last minute", printable(kind), count - _LINES_A_MINUTE)
            begun, count = now, 0
        self._written[kind] = begun, count + 1
        if count < _LINES_A_MINUTE:
            line = printable(text)
            self._logger.log(level, "%s", line if len(line) <= _TEXT_MAX else line[: _TEXT_MAX - 3] + "...")

    def flush(self, now: float) -> None:
        """Write how many lines were left out, of kinds that have been silent since."""
        for kind, (begun, count) in list(self._written.items()):
            if now - begun >= 60.0:
                del self._written[kind]
                if count > _LINES_A_MINUTE:
                    self._logger.info("%s: %d more in a minute", printable(kind), count - _LINES_A_MINUTE)


def kind_of(text: str) -> str:
    """Return how ``text`` begins, to where a name or number stands: lines that differ in these alone are of a kind."""
    return re.split(r"['\"\d/]", text, maxsplit=1)[0][:60].strip(" :")


def printable(text: str) -> str:
    """Return ``text`` with escapes for what a terminal would obey. spec: ERR-1.3"""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
