"""Events too large for a frame: what every receiver takes is sent, the full text goes into a file. spec: FRM-3"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from xtrack_protocol.ir import (
    Alert,
    Artifact,
    Checkpoint,
    ErrorInfo,
    LogEntry,
    MetricBatch,
    Param,
    Payload,
    RunEnd,
    RunStart,
    StatusUpdate,
    Summary,
    Tags,
)

TEXT_MAX: Final = 64 * 1024
"""Characters that stay of a text that is too long."""

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
    """Return ``payload`` with what is too long cut and marked; None where it has nothing that could be cut."""
    cut = _Cutter(save)
    result: Payload | None
    match payload:
        case Param(value=value):
            result = msgspec.structs.replace(payload, value=cut.value("param", value))
        case LogEntry(message=message, fields=fields):
            result = msgspec.structs.replace(
                payload, message=cut.text("log", message), fields=cut.mapping("log", fields)
            )
        case RunEnd(error=ErrorInfo() as error):
            short = msgspec.structs.replace(
                error,
                message=cut.text("error", error.message),
                traceback=cut.text("traceback", error.traceback) if error.traceback else None,
            )
            result = msgspec.structs.replace(payload, error=short, final_metrics={})
        case RunEnd():
            result = msgspec.structs.replace(payload, final_metrics={})
        case RunStart(tags=tags):
            result = msgspec.structs.replace(payload, tags=cut.mapping("tags", tags))
        case Tags(tags=tags):
            result = msgspec.structs.replace(payload, tags=cut.mapping("tags", tags))
        case Artifact(metadata=metadata) | Checkpoint(metadata=metadata):
            result = msgspec.structs.replace(payload, metadata=cut.mapping("metadata", metadata))
        case StatusUpdate(message=str() as message):
            result = msgspec.structs.replace(payload, message=cut.text("status", message))
        case Alert(text=str() as text):
            result = msgspec.structs.replace(payload, text=cut.text("alert", text))
        case Summary(values=values):
            result = msgspec.structs.replace(payload, values=dict(list(values.items())[:1000]))
        case _:
            result = None
    return result


class _Cutter:
    def __init__(self, save: Save) -> None:
        self._save = save

    def text(self, kind: str, text: str) -> str:
        """Return ``text``, or its beginning with a note of where the rest is."""
        if len(text) <= TEXT_MAX:
            return text
        where = self._save(kind, text)
        return (
            f"{text[:TEXT_MAX]}... [cut: {len(text)} characters, {f'all in {where}' if where else 'the rest is lost'}]"
        )

    def value(self, kind: str, value: Any) -> Any:
        """Return ``value``, or its JSON text, cut."""
        return self.text(kind, value if isinstance(value, str) else _json(value))

    def mapping(self, kind: str, mapping: dict[str, Any]) -> dict[str, Any]:
        """Return ``mapping`` with values cut that are too long; of very many, the first ones."""
        short = {
            key[:1024]: value if len(_json(value)) <= TEXT_MAX else self.value(kind, value)
            for key, value in list(mapping.items())[:1000]
        }
        if len(_json(short)) <= 8 * TEXT_MAX and len(short) == len(mapping):
            return short
        where = self._save(kind, _json(mapping))
        return {"xtrack.cut": f"{len(mapping)} entries, {f'all in {where}' if where else 'lost'}"}


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
