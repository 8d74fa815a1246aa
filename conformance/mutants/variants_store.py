"""Legal but unusual stores. None of them may fail."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

from tools import Json, Mutation
from tools_store import SHIPPING, TESTEE, WRITER, data_of, edited, several, telling, text_of

from xtrack_protocol.wire import decode, encode

SPOOL = ("reindex", "spool", "notes", "trim", "locks", "posix")
"""Capabilities that nobody has without a spool."""


def _without(*capabilities: str) -> Mutation:
    """Make a variant that lacks what an implementation may lack."""

    def mutate(module: ModuleType) -> None:
        has = {name: value and name not in capabilities for name, value in module.HELLO["capabilities"].items()}
        module.HELLO = {**module.HELLO, "capabilities": has}

    return mutate


def _single_seqs(_request: Json, ok: Json) -> None:
    """Ranges that aren't merged, in any order."""
    for name, where in (("ranges", [ok]), *(("missing", run["streams"]) for run in ok.get("runs", ()))):
        for entry in where:
            if name in entry:
                entry[name] = [[seq, seq] for first, last in entry[name] for seq in range(last, first - 1, -1)]


def _backwards(_request: Json, ok: Json) -> None:
    """What has no order comes in another one."""
    for name in ("events", "aside", "values", "files", "runs"):
        if name in ok:
            ok[name].reverse()
    for run in ok.get("runs", ()):
        run["streams"].reverse()


def _written_anew(_request: Json, ok: Json) -> None:
    """The payload of an event is its writer's form (FRM-8.1 says SHOULD)."""
    for event in ok.get("events", ()):
        event["payload"] = text_of(encode(decode(data_of(event, "payload"))))


def _one_more_member(_request: Json, ok: Json) -> None:
    """What nobody asked for is told, too, and what may be left out is left out."""
    ok["took_us"] = 5
    for name in ("events", "points", "values", "items", "files", "runs"):
        for entry in ok.get(name, ()):
            entry["note"] = "\u00e9"
            entry.pop("class", None)
            entry.pop("verified", None)
    if "header" in ok:
        ok["header"]["salt"] = ok["header"]["salt"].upper()
        ok["header"]["host"] = "h"


def _padded_header(_request: Json, ok: Json) -> None:
    """Headers whose members stand in another order, with one that nobody knows (RST-2.3)."""
    from xtrack_conformance.segments import BLOCK, block

    data = data_of(ok) if "bytes" in ok else b""
    if data.startswith(b"XTRKSEG1"):
        body = json.loads(data[12 : 12 + int.from_bytes(data[8:12], "big")])
        fields = {"host": "h", **dict(reversed(body.items())), "salt": body["salt"].upper()}
        head = block(fields)
        if len(head) == BLOCK:
            ok["bytes"] = text_of(head * 2 + data[2 * BLOCK :])


def _only_float_integers(_request: Json, ok: Json) -> None:
    """Integers in number slots are told as binary64 where that is the same number."""
    for point in ok.get("points", ()):
        value: Any = point["value"]
        if value["t"] == "int" and abs(int(value["v"])) < 2**53:
            import struct

            point["value"] = {"t": "float", "v": struct.pack(">d", int(value["v"])).hex()}


_OF_ONE_FILE = """
        self.root.mkdir(parents=True, exist_ok=True)
        self.store = __import__("xtrack_protocol.storage").storage.SQLiteStore(self.root / "store.db")
"""

VARIANTS: dict[str, Mutation] = {
    "store-of-one-file": several(
        edited(
            TESTEE,
            (
                "        self.store = open_at(self.root)",
                _OF_ONE_FILE,
            ),
        ),
        _without(*SPOOL),
    ),
    "store-without-segments": _without("segments", "crash", *SPOOL),
    "store-without-locks": _without("locks", "posix", "trim", "notes"),
    "store-tells-seqs-one-by-one": telling("cursor", "spool_read")(_single_seqs),
    "store-tells-backwards": telling("events", "history", "spool_read", "spool_write", "spool_trim")(_backwards),
    "store-writes-payloads-anew": telling("events")(_written_anew),
    "store-tells-more-and-less": telling("events", "points", "history", "file_read", "spool_read")(_one_more_member),
    "store-has-other-headers": telling("file_write")(_padded_header),
    "store-has-binary64-alone": telling("points")(_only_float_integers),
    "store-begins-segments-early": edited(WRITER, ("segment_max: int = SEGMENT_MAX", "segment_max: int = 2_000_000")),
    "store-never-trims": edited(SHIPPING, ("    if not note.buffer or", "    if True or not note.buffer or")),
}
"""By name."""
