"""What a peer of plain version 1 is sent: events of the published types only. Pure functions. spec: VER-3"""

from __future__ import annotations

from typing import Final

import msgspec

from xtrack_protocol.ir.control import CommandResult
from xtrack_protocol.ir.envelope import Envelope, Payload, UnknownEvent
from xtrack_protocol.ir.lifecycle import Tags
from xtrack_protocol.ir.messages import Alert, LogEntry
from xtrack_protocol.ir.values import Summary
from xtrack_protocol.limits import FRAME_MAX_EMIT
from xtrack_protocol.wire.codec import decode, encode

_ADDED: Final = (Tags, Summary, Alert, CommandResult, UnknownEvent)
_TEXT_KEPT: Final = 64 * 1024


def as_published(payload: Payload) -> Payload:
    """Return the event that stands for an additive one with a peer that knows the published types alone. spec: VER-3.1

    A payload of the published types is returned as it is, added members included, which older readers ignore. So is an
    event of unknown type that names no run: nothing can stand for it.
    """
    match payload:
        case Tags(run_id=run_id, tags=tags):
            return LogEntry(run_id, "info", "tags", "xtrack", fields=dict(tags))
        case Summary(run_id=run_id, values=values):
            return LogEntry(run_id, "info", "summary", "xtrack", fields=dict(values))
        case Alert(run_id=run_id, title=title, text=text, level=level):
            return LogEntry(run_id, level, f"{title}: {text}" if text else title, "xtrack")
        case CommandResult(run_id=run_id, command_id=command_id, status=status, message=message):
            fields = {"cmd_id": command_id, "status": status, "msg": message}
            return LogEntry(run_id, "info", "command_result", "xtrack", fields=fields)
        case UnknownEvent(event_type=event_type, payload=dict() as body):
            named = body.get("run_id")
            if isinstance(named, dict):
                named = named.get("id")
            if isinstance(named, str):
                return LogEntry(named, "info", event_type, "xtrack", fields=body)
    return payload


def published_payload(payload: bytes) -> bytes | None:
    """Return the bytes that a plain peer is sent for an event that was kept as ``payload``, with the same seq.

    Events of the published types stay as they are, to the byte (spec: FRM-8.2). None: nothing can stand for the event,
    which is then a gap there (spec: VER-3.2). Raises DecodeError where ``payload`` is no event.
    """
    envelope = decode(payload)
    if not isinstance(envelope.payload, _ADDED):
        return payload
    instead = as_published(envelope.payload)
    if instead is envelope.payload:
        return None
    encoded = _encode_like(envelope, instead)
    if len(encoded) > FRAME_MAX_EMIT and isinstance(instead, LogEntry):  # a few bytes too long: it was just below
        message = instead.message
        if len(message) > _TEXT_KEPT:
            message = f"{message[:_TEXT_KEPT]}... [cut: {len(message)} characters in all]"
        cut = {"xtrack.cut": f"{len(payload)} bytes in all"}  # spec: FRM-3.12, FRM-3.15
        encoded = _encode_like(envelope, msgspec.structs.replace(instead, message=message, fields=cut))
    return encoded if len(encoded) <= FRAME_MAX_EMIT else None


def _encode_like(envelope: Envelope, payload: Payload) -> bytes:
    meta = envelope.meta
    return encode(
        Envelope.of(
            payload,
            seq=meta.seq,
            timestamp_us=meta.timestamp_us,
            worker_id=meta.worker_id,
            session_id=meta.session_id,
        )
    )
