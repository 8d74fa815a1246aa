"""What can be read of an event that was refused: which one it was to be. spec: CTL-3.12"""

from __future__ import annotations

import json
from typing import Final

import attrs

from xtrack_protocol.ir import CONTROL_TYPES
from xtrack_protocol.limits import INT64_MAX
from xtrack_protocol.session.streams import StreamId

_READ_MAX: Final = 64 * 1024
"""Bytes of a bad payload that are looked into: what is larger is hardly worth the time."""


@attrs.frozen
class Identity:
    """What a payload says of itself, as far as that can be read."""

    event_type: str | None = None
    run_id: str | None = None
    worker_id: str = ""
    session_id: str | None = None
    seq: int | None = None

    @property
    def is_control(self) -> bool:
        """Whether it was to be a control event, which takes no seq."""
        return self.event_type in CONTROL_TYPES

    @property
    def names_stream(self) -> bool:
        """Whether it says which stream it is of."""
        return self.run_id is not None and self.session_id is not None

    def matches(self, stream: StreamId) -> bool:
        """Whether it says that it is of ``stream``."""
        return (self.run_id, self.worker_id, self.session_id) == (stream.run_id, stream.worker_id, stream.session_id)


def identity_of(payload: bytes) -> Identity:
    """Read what can be read; an empty Identity where that is nothing."""
    if len(payload) > _READ_MAX:
        return Identity()
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return Identity()
    if not isinstance(value, dict):
        return Identity()
    meta, body = value.get("m"), value.get("p")
    meta = meta if isinstance(meta, dict) else {}
    body = body if isinstance(body, dict) else {}
    run_id = body.get("run_id")
    if isinstance(run_id, dict):
        run_id = run_id.get("id")
    seq = meta.get("seq")
    return Identity(
        event_type=_text(value.get("t")),
        run_id=_text(run_id),
        worker_id=_text(meta.get("wid")) or "",
        session_id=_text(meta.get("sid")),
        seq=seq if type(seq) is int and 1 <= seq <= INT64_MAX else None,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
