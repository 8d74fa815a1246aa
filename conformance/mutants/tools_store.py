"""What mutants of the role store are made of.

Most change a line of the reference's source: the changed copy stands in for the original while the testee answers, and
not a moment longer. Others answer in another way than the reference does.
"""

from __future__ import annotations

import base64
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from tools import Json, Mutation

from xtrack_conformance.segments import Item, header_of, items_of, kind_of

Swap = tuple[ModuleType, str, Any, Any]

RECORDS = "xtrack_protocol.wire.records"
FILES = "xtrack_protocol.wire.files"
LAYOUT = "xtrack_protocol.spool.layout"
WRITER = "xtrack_protocol.spool.writer"
SHIPPING = "xtrack_protocol.spool.shipping"
READER = "xtrack_protocol.spool.reader"
MAILBOX = "xtrack_protocol.spool.mailbox"
LOCAL_READER = "xtrack_protocol.storage.local_reader"
LOCAL_NOTES = "xtrack_protocol.storage.local_notes"
TESTEE = "as_store"


def edited(name: str, *changes: tuple[str, str]) -> Mutation:
    """Make a mutant in whose module ``name`` texts are replaced: pairs of an old and a new one."""

    def mutate(module: ModuleType) -> None:
        swaps: list[Swap] = []

        def answering(honest: Callable[[Json], Json], request: Json) -> Json:
            if not swaps:
                swaps.extend(_swaps(name, changes))
            with _swapped(name, swaps):
                return honest(request)

        _answer(module, answering)

    return mutate


def _swaps(name: str, changes: tuple[tuple[str, str], ...]) -> list[Swap]:
    """Return what is to be put in whose place in all modules that have it."""
    original = importlib.import_module(name)
    importlib.import_module(TESTEE)
    source = Path(str(original.__file__)).read_text(encoding="utf-8")
    for old, new in changes:
        assert old in source, f"{name} has no {old!r} any more: mend the mutant"
        source = source.replace(old, new)
    copy = ModuleType(name)
    copy.__file__, copy.__package__ = original.__file__, original.__package__
    with _swapped(name, [], copy):
        exec(compile(source, str(original.__file__), "exec"), copy.__dict__)  # noqa: S102
    replaced = {
        id(value): vars(copy)[attribute]
        for attribute, value in vars(original).items()
        if isinstance(value, (type, FunctionType)) and value.__module__ == name and attribute in vars(copy)
    }
    found: list[Swap] = [
        (user, attribute, value, replaced[id(value)])
        for user in list(sys.modules.values())
        if user is not None and getattr(user, "__name__", "").startswith(("xtrack_protocol", TESTEE))
        for attribute, value in list(vars(user).items())
        if id(value) in replaced
    ]
    return [(copy, "__name__", name, name), *found]


@contextmanager
def _swapped(name: str, swaps: list[Swap], copy: ModuleType | None = None) -> Iterator[None]:
    here = copy or swaps[0][0]
    original = sys.modules[name]
    sys.modules[name] = here
    for user, attribute, _, changed in swaps:
        setattr(user, attribute, changed)
    try:
        yield
    finally:
        for user, attribute, value, _ in swaps:
            setattr(user, attribute, value)
        sys.modules[name] = original


def _answer(module: ModuleType, change: Callable[[Callable[[Json], Json], Json], Json]) -> None:
    original = module.Testee.answer

    def answer(self: Any, request: Json) -> Json:
        if not request["op"].startswith("store."):
            honest: Json = original(self, request)
            return honest
        return change(lambda other: original(self, other), request)

    module.Testee.answer = answer


def telling(*ops: str) -> Callable[[Callable[[Json, Json], Json | None]], Mutation]:
    """Make a mutant that tells other things than it has found: a function of the request and the honest ``ok``."""

    def make(change: Callable[[Json, Json], Json | None]) -> Mutation:
        def mutate(module: ModuleType) -> None:
            def answering(honest: Callable[[Json], Json], request: Json) -> Json:
                answer = honest(request)
                if request["op"].partition(".")[2] not in ops or "ok" not in answer:
                    return answer
                ok = json.loads(json.dumps(answer["ok"]))
                changed = change(request, ok)
                return {"ok": ok if changed is None else changed}

            _answer(module, answering)

        return mutate

    return make


def hearing(*ops: str) -> Callable[[Callable[[Json], Json]], Mutation]:
    """Make a mutant that understands other requests than come: a function of the request."""

    def make(change: Callable[[Json], Json]) -> Mutation:
        def mutate(module: ModuleType) -> None:
            def answering(honest: Callable[[Json], Json], request: Json) -> Json:
                return honest(change(request) if request["op"].partition(".")[2] in ops else request)

            _answer(module, answering)

        return mutate

    return make


def behaving(make: Callable[[type], type]) -> Mutation:
    """Make a mutant whose part for the role is a class made from the reference's."""

    def mutate(module: ModuleType) -> None:
        parts: dict[int, Any] = {}

        def answering(_honest: Callable[[Json], Json], request: Json) -> Json:
            if not parts:
                parts[0] = make(importlib.import_module(TESTEE).Part)()
            answer: Json = parts[0].answer(request)
            return answer

        _answer(module, answering)

    return mutate


def several(*mutations: Mutation) -> Mutation:
    """Return a mutant that is several."""

    def mutate(module: ModuleType) -> None:
        for mutation in mutations:
            mutation(module)

    return mutate


# ------------------------------------------------------------------------------------------ helpers


def data_of(entry: Json, name: str = "bytes") -> bytes:
    """Return bytes of a line."""
    return base64.b64decode(entry.get(name, ""))


def text_of(data: bytes) -> str:
    """Return bytes as they stand in a line."""
    return base64.b64encode(data).decode("ascii")


def segments_in(request: Json) -> Iterator[tuple[Json, list[Item]]]:
    """Yield the segments among the files of a request, and what stands in them."""
    for entry in request["files"]:
        data = data_of(entry)
        if entry["path"].endswith(".xseg") and kind_of(data) == "segment":
            header = header_of(data)
            if header is not None:
                yield entry, items_of(data, int(header["salt"], 16))


def payloads_in(frames: str) -> list[bytes]:
    """Return the payloads of a batch."""
    data, found, position = base64.b64decode(frames), [], 0
    while position < len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        found.append(data[position + 4 : position + 4 + size])
        position += 4 + size
    return found


def frames_of(payloads: list[bytes]) -> str:
    """Return a batch of payloads."""
    return text_of(b"".join(len(payload).to_bytes(4, "big") + payload for payload in payloads))


def tree_of(payload: bytes) -> Json:
    """Return the JSON of a payload; an empty object where it has none."""
    try:
        found = json.loads(payload)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
