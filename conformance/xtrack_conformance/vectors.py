"""The cases as vectors for test suites that read files. ``vectors.md``, which is copied there, tells what they mean."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import attrs

from xtrack_conformance import PROTOCOL
from xtrack_conformance.cases import Case, Expect, Item
from xtrack_conformance.report import clause_key, clause_texts
from xtrack_conformance.sets import Requirements
from xtrack_conformance.slots import read_event
from xtrack_conformance.values import tag

INLINE_MAX: Final = 64 * 1024
"""Bytes of an input that stand in a vector as hexadecimal."""

SCHEMA: Final = "xtrack-conformance-vectors/1"
MANIFEST: Final = "manifest.json"

Json = dict[str, Any]


class ExportError(ValueError):
    """A folder that can't be exported to."""


def vector(case: Case, file: str | None = None) -> Json:
    """Return the vector of a case. ``file``: where its bytes stand, if they stand in one."""
    found: Json = {name: getattr(case, name) for name in ("id", "role", "level", "kind", "since", "why")}
    found |= {"clauses": list(case.clauses), "needs": list(case.needs)}
    if case.script:
        return found | {"script": list(case.script)}
    given = case.input
    found |= {"codec": given.codec} if given.codec != "json" else {}
    if case.role == "encoder":
        found |= {"limit": given.limit} if given.limit is not None else {}
        found |= {"event": given.event} if given.event is not None else {}
        found["value"] = tag(given.encoded_value())
    else:
        found |= _bytes(case, file)
    if case.role == "decoder":
        found["readers"] = [given.reader] if given.reader else ["strict", "lenient"]
    if case.role == "framer":
        options: Json = {"source": given.source, "end": not given.follow, "stop_at_damage": given.stop_at_damage}
        found["options"] = options | ({"limit": given.limit} if given.limit is not None else {})
    return found | {"any_of": [_outcome(expect) for expect in (case.expect, *case.also_allowed)]}


def _bytes(case: Case, file: str | None) -> Json:
    data = case.input.data()
    found: Json = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if file is not None:
        return {"file": file, **found}
    if len(data) <= INLINE_MAX:
        return {"input": data.hex(), **found}
    return {"parts": case.input.payload if case.input.payload is not None else case.input.feed, **found}


def _outcome(expect: Expect) -> Json:
    if expect.event is not None:
        told: Json = {"event": expect.event, "value": tag(read_event(expect.event))}
        return told | ({"codec": expect.codec} if expect.codec else {})
    if expect.not_event is not None:
        return {"not_value": expect.not_event}
    if expect.rejected is not None:
        return {"rejected": {"class": expect.rejected.class_} if expect.rejected.class_ else {}}
    return {"frames": [_item(item) for item in expect.frames or ()]}


def _item(item: Item) -> Json:
    told = {"offset": item.offset, "length": item.length, "rejected": item.rejected, "due": item.due}
    found: Json = {name: value for name, value in told.items() if value is not None}
    if item.rejected is not None:
        found["fatal"] = item.fatal
    return found | ({} if item.verified else {"verified": False})


def export_files(requirements: Requirements, cases: Sequence[Case], form: str) -> dict[str, bytes]:
    """Return what an export consists of, by path. ``form``: json, or files for the bytes in files of their own."""
    vectors, found = [], {}
    for case in cases:
        has_bytes = form == "files" and not case.script and case.role != "encoder"
        file = f"{case.role}/{case.id}.bin" if has_bytes else None
        told = vector(case, file)
        vectors.append(told)
        if file:
            found[file] = case.input.data()
        if form == "files":
            found[f"{case.role}/{case.id}.json"] = _text(told)
    roles = list(dict.fromkeys(case.role for case in cases))
    if form == "json":
        for role in roles:
            found[f"{role}.json"] = _lines([told for told in vectors if told["role"] == role])
    named = sorted({clause for case in cases for clause in case.clauses}, key=clause_key)
    found["clauses.json"] = _text({name: clause_texts()[name] for name in named})
    found["vectors.jsonl"] = b"".join(json.dumps(told).encode() + b"\n" for told in vectors)
    package = resources.files("xtrack_conformance")
    found["README.md"] = (package / "vectors.md").read_bytes()
    for name in ["vector", *(role for role in roles if any(case.script for case in cases if case.role == role))]:
        schema = package / "schemas" / f"{name}.schema.json"
        if schema.is_file():
            found[f"{name}.schema.json"] = schema.read_bytes()
    manifest = {
        "schema": SCHEMA,
        "protocol": PROTOCOL,
        "requirements": attrs.asdict(requirements) | {"cases": len(requirements.cases), "sha256": requirements.sha256},
        "vectors": dict(Counter(case.role for case in cases)),
        "files": {name: hashlib.sha256(found[name]).hexdigest() for name in sorted(found)},
    }
    return found | {MANIFEST: _text(manifest)}


def _text(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def _lines(vectors: Iterable[Json]) -> bytes:
    """Return a list with an entry a line, so that a difference between two exports can be read."""
    return ("[\n" + ",\n".join(json.dumps(told) for told in vectors) + "\n]\n").encode()


def write_export(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write an export into a folder that is new or empty, or in place of an earlier export.

    Raises ExportError for a folder that holds anything else.
    """
    if folder.exists() and any(folder.iterdir()):
        for name in _earlier(folder):
            path = folder / name
            if path.resolve().is_relative_to(folder.resolve()):
                path.unlink(missing_ok=True)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _earlier(folder: Path) -> list[str]:
    """Return the files of the export that a folder holds."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["schema"] != SCHEMA:
            raise ExportError(f"{folder} holds an export of another version")
        return [*map(str, manifest["files"]), MANIFEST]
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, ExportError):
            raise
        raise ExportError(f"{folder} is not empty, and what is in it is no export") from error
