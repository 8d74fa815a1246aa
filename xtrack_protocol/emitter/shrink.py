"""Events too large for a frame: what every receiver takes is sent, the full text goes into a file. spec: FRM-3"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from xtrack_protocol.ir._slots import Number
from xtrack_protocol.ir.envelope import Payload
from xtrack_protocol.ir.files import Artifact, Checkpoint
from xtrack_protocol.ir.lifecycle import ErrorInfo, RunEnd, RunStart, StatusUpdate, Tags
from xtrack_protocol.ir.messages import Alert, LogEntry
from xtrack_protocol.ir.values import MetricBatch, Param, Summary

TEXT_MAX: Final = 64 * 1024
"""Characters that stay of a text that is too long. JSON writes each with at most six bytes, so that two such texts
leave room in a frame for the rest."""

MAPPING_MAX: Final = 512 * 1024
"""Bytes of JSON that stay of a mapping that is too large."""

CUT_MARK: Final = "xtrack.cut"
"""The entry of a mapping which says that others were left out. spec: FRM-3.15"""

_KEY_MAX: Final = 1024

Save = Callable[[str, str], str | None]
"""Takes a kind of text and the text; files it away and returns where, or None where that failed."""


def split_batch(batch: MetricBatch) -> list[MetricBatch]:
    """Return two batches of half the metrics each; a batch of one can't be split and is returned as it is."""
    items = list(batch.metrics.items())
    if len(items) < 2:
        return [batch]
    middle = len(items) // 2
    return [msgspec.structs.replace(batch, metrics=dict(part)) for part in (items[:middle], items[middle:])]


def shrink(payload: Payload, save: Save) -> Payload | None:
    """Return ``payload`` with what is too long cut and marked, and the rest as it was; None where nothing can be cut.

    What comes back may still be too large: an event with many long texts, or with a long name or path.
    """
    cut = _Cutter(save)
    changes: dict[str, Any]
    match payload:
        case Param(value=value):
            changes = {"value": cut.value("param", value)}
        case LogEntry(message=message, fields=fields):
            changes = {"message": cut.text("log", message), "fields": cut.mapping("fields", fields)}
        case RunEnd(error=error, final_metrics=numbers):
            changes = {"error": error and cut.error(error), "final_metrics": cut.numbers("final_metrics", numbers)}
        case RunStart(name=name, tags=tags):
            changes = {"name": name and cut.text("name", name), "tags": cut.mapping("tags", tags)}
        case Tags(tags=tags):
            changes = {"tags": cut.mapping("tags", tags)}
        case Artifact(metadata=metadata):
            changes = {"metadata": cut.mapping("metadata", metadata)}
        case Checkpoint(metadata=metadata, metrics_snapshot=numbers):
            changes = {
                "metadata": cut.mapping("metadata", metadata),
                "metrics_snapshot": cut.numbers("metrics", numbers),
            }
        case StatusUpdate(message=str() as message):
            changes = {"message": cut.text("status", message)}
        case Alert(title=title, text=text):
            changes = {"title": cut.text("alert", title), "text": text and cut.text("alert", text)}
        case Summary(values=values):
            changes = {"values": cut.numbers("summary", values)}
        case _:
            return None
    return msgspec.structs.replace(payload, **changes)


class _Cutter:
    def __init__(self, save: Save) -> None:
        self._save = save

    def text(self, kind: str, text: str) -> str:
        """Return ``text``, or its beginning with a note of where the rest is. spec: FRM-3.12"""
        if len(text) <= TEXT_MAX:
            return text
        where = self._save(kind, text)
        rest = f"all in {where}" if where else "the rest is lost"
        return f"{text[:TEXT_MAX]}... [cut: {len(text)} characters, {rest}]"

    def value(self, kind: str, value: Any) -> Any:
        """Return ``value``, or what its JSON begins with."""
        if isinstance(value, str):
            return self.text(kind, value)
        return value if _size(value) <= TEXT_MAX else self.text(kind, _json(value))

    def error(self, error: ErrorInfo) -> ErrorInfo:
        """Return an error with its texts cut."""
        traceback = error.traceback and self.text("traceback", error.traceback)
        return ErrorInfo(error.type[:_KEY_MAX], self.text("error", error.message), traceback)

    def mapping(self, kind: str, mapping: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``mapping`` with long values cut, and without the last ones where that isn't enough."""
        if _size(mapping) <= MAPPING_MAX:
            return dict(mapping)
        where = self._save(kind, _json(mapping))
        rest = f"all in {where}" if where else "the rest is lost"
        no_file = _Cutter(lambda _kind, _text: where)  # one file holds them all
        short = {key[:_KEY_MAX]: no_file.value(kind, value) for key, value in mapping.items()}
        kept = _first_entries(short)
        if len(kept) < len(mapping):
            kept[CUT_MARK] = f"{len(mapping) - len(kept)} of {len(mapping)} entries left out, {rest}"
        return kept

    def numbers(self, kind: str, numbers: Mapping[str, Number]) -> dict[str, Number]:
        """Return ``numbers`` without the last ones of too many; the mark is then how many were left out."""
        if _size(numbers) <= MAPPING_MAX:
            return dict(numbers)
        self._save(kind, _json(numbers))
        kept: dict[str, Number] = _first_entries(numbers)
        kept[CUT_MARK] = len(numbers) - len(kept)
        return kept


def _first_entries(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return the first entries, as many as there is room for."""
    kept: dict[str, Any] = {}
    left = MAPPING_MAX
    for key, value in mapping.items():
        left -= _size(key) + _size(value) + 2
        if left < 0:
            break
        kept[key] = value
    return kept


def _size(value: Any) -> int:
    return len(msgspec.json.encode(value))


def _json(value: Any) -> str:
    """Return the JSON of a value for the file that people read, NaN and infinities as bare words."""
    import json

    return json.dumps(value, ensure_ascii=False)
