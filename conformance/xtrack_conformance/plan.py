"""Cases into runs: a case is asked once for each value of its axes, and judged by all the answers."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import attrs

from xtrack_conformance import scripts
from xtrack_conformance.cases import Case, Reader
from xtrack_conformance.protocol import Request, bytes_text
from xtrack_conformance.values import Value, tag

SMALL: Final = 72
"""Bytes of an input that is split at each place. Longer ones are split near the ends of frames."""

BYTEWISE_MAX: Final = 600
"""Bytes of an input that is also fed byte by byte."""

NEAR: Final = 5

AXES: Final = {
    "reader": "by a strict and by a lenient reader",
    "chunking": "whole, byte by byte, in two pieces (every place of a small input), in blocks of 7, in random pieces",
    "again": "the same event once more, after another",
    "order": "what a collector is told: as it stands, backwards, shuffled, and twice over",
    "reopen": "a store kept open, closed and opened again, after a crash, and with its index made anew",
    "cut": "a segment that ends at each of its bytes",
    "flip": "a segment of which each third byte has a bit turned",
}


@attrs.frozen
class Run:
    """A case at one place of its axes: what is sent, in this order.

    ``variant`` names the place (``strict``, ``split 17``). ``chunks``: of a framer's input. ``converse``: begins the
    conversation of a script, whose requests depend on the answers.
    """

    case: Case
    variant: str
    requests: tuple[Request, ...]
    chunks: tuple[bytes, ...] = ()
    converse: Callable[[], scripts.Conversation] | None = None

    @property
    def id(self) -> str:
        """The case's id and the place."""
        return f"{self.case.id}@{self.variant}" if self.variant else self.case.id


def missing_capability(case: Case, capabilities: frozenset[str]) -> str | None:
    """Return a capability that the case needs and the testee doesn't have."""
    needs = list(case.needs)
    if case.input.reader:
        needs.append(case.input.reader)
    if case.input.source == "recording":
        needs.append("recording")
    if case.input.limit is not None:
        needs.append("limits")
    if case.input.stop_at_damage:
        needs.append("stop_at_damage")
    if case.input.codec == "msgpack":
        needs.append("messagepack")
    return next((name for name in needs if name not in capabilities), None)


def plan(case: Case, capabilities: frozenset[str]) -> list[Run]:
    """Return the runs of a case that is applicable to a testee with these capabilities."""
    if case.script:
        return [Run(case, name, (), converse=begin) for name, begin in scripts.runs(case, capabilities)]
    chosen = {} if case.input.codec == "json" else {"codec": case.input.codec}
    if case.role == "encoder":
        options = chosen if case.input.limit is None else {**chosen, "limit": case.input.limit}
        request = {"op": "encode", "event": tag(case.input.encoded_value()), **options}
        if "again" not in case.axes:
            return [Run(case, "", (request,))]
        between = {"op": "encode", "event": tag(_OTHER), **options}
        return [Run(case, "", (request, between, request))]
    if case.role == "decoder":
        payload = bytes_text(case.input.data())
        return [
            Run(case, reader, ({"op": "decode", "reader": reader, "payload": payload, **chosen},))
            for reader in _readers(case, capabilities)
        ]
    reader = _readers(case, capabilities)[0]
    return [_framer_run(case, reader, name, chunks) for name, chunks in chunkings(case)]


_OTHER: Final[Value] = {
    "t": "metric",
    "v": 1,
    "m": {"seq": 7, "ts": 7},
    "p": {"run_id": "other", "key": "other", "value": 0.25},
}


def _readers(case: Case, capabilities: frozenset[str]) -> list[Reader]:
    if case.input.reader:
        return [case.input.reader]
    here: list[Reader] = [name for name in _BOTH if name in capabilities]
    return here if "reader" in case.axes else here[-1:]  # lenient, the default for reading, where there is a choice


_BOTH: Final[tuple[Reader, Reader]] = ("strict", "lenient")


def _framer_run(case: Case, reader: Reader, name: str, chunks: Sequence[bytes]) -> Run:
    options: Request = {"session": f"{case.id} {name}", "source": case.input.source, "reader": reader}
    if case.input.codec != "json":
        options["codec"] = case.input.codec
    if case.input.limit is not None:
        options["limit"] = case.input.limit
    if case.input.stop_at_damage:
        options["stop_at_damage"] = True
    requests = [{"op": "frame.feed", **options, "bytes": bytes_text(chunk)} for chunk in chunks]
    if not case.input.follow:
        requests.append({"op": "frame.finish", **options})
    return Run(case, name, tuple(requests), tuple(chunks))


def chunkings(case: Case) -> Iterator[tuple[str, list[bytes]]]:
    """Yield the name of each way to divide the input, and the pieces."""
    data = case.input.data()
    yield "whole", [data] if data else []
    if "chunking" not in case.axes or len(data) < 2:
        return
    if len(data) <= BYTEWISE_MAX:
        yield "bytes", [data[i : i + 1] for i in range(len(data))]
    for at in _splits(case, len(data)):
        yield f"split {at}", [data[:at], data[at:]]
    if len(data) <= 64 * BYTEWISE_MAX:
        yield "blocks", [data[i : i + 7] for i in range(0, len(data), 7)]
    yield "random", list(_random_pieces(case.id, data))


def _splits(case: Case, size: int) -> list[int]:
    if size <= SMALL:
        return list(range(1, size))
    marks = {0, size}
    for item in case.expect.frames or ():
        marks |= {item.offset, item.offset + (item.length or 0)}
    return sorted({at for mark in marks for at in range(mark - 1, mark + NEAR + 1) if 0 < at < size})


def _random_pieces(seed: str, data: bytes) -> Iterator[bytes]:
    generator = random.Random(zlib.crc32(seed.encode()))  # noqa: S311 - the same pieces each time
    longest = max(2, len(data) // 6)
    start = 0
    while start < len(data):
        size = generator.randint(1, longest)
        yield data[start : start + size]
        start += size
