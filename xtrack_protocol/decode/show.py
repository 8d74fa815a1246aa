"""Writes frames: one line of text, or one JSON object, each."""

from __future__ import annotations

from base64 import b64encode
from functools import lru_cache
from typing import Any, Final

import msgspec

from xtrack_protocol.decode.options import Options
from xtrack_protocol.decode.source import Input
from xtrack_protocol.decode.text import escape, escape_json, hexdump, iso_utc, local_time
from xtrack_protocol.errors import DecodeError, EncodeError
from xtrack_protocol.ir import Envelope
from xtrack_protocol.wire import Frame, encode

RAW_MAX: Final = 64 * 1024
"""Bytes of a bad range that --raw shows."""
HEX_MAX: Final = 4 * 1024
"""Bytes of a bad range that --hex shows."""

_ORDER: Final = b',"v":1,"m":'
"""What stands between t and m as our codec writes them, and nowhere before: a quote inside of t is escaped."""


class Writer:
    """Makes the lines of frames. ``width``: of the terminal, to cut lines to; None: never cut."""

    def __init__(self, options: Options, *, width: int | None = None) -> None:
        self._options = options
        self._width = width
        self._last_name: str | None = None

    def text(self, source: Input, frames: list[Frame]) -> str:
        """Return the lines of those frames that are wanted, each with its end."""
        lines = []
        for frame in frames:
            if self._is_wanted(frame):
                lines += self.lines(source, frame)
        if not lines:
            return ""
        lines.append("")
        return "\n".join(lines)

    def heading(self, source: Input) -> str:
        """Return the line that names the input, where it isn't the one of the last line and names are shown so."""
        several = len(self._options.files) > 1 or self._options.follow
        if self._options.format != "text" or self._width is None or not several or source.name == self._last_name:
            return ""
        self._last_name = source.name
        return f"==> {escape(source.name)} <==\n"

    def _is_wanted(self, frame: Frame) -> bool:
        """Whether the filters let a frame pass; what holds no good frame always passes."""
        envelope, options = frame.envelope, self._options
        if envelope is None or not options.filters:
            return True
        return (
            (not options.runs or envelope.run_id in options.runs)
            and (not options.types or envelope.event_type in options.types)
            and (options.since_us is None or envelope.meta.timestamp_us >= options.since_us)
        )

    def lines(self, source: Input, frame: Frame) -> list[str]:
        """Return what to write for a frame."""
        if self._options.format == "jsonl":
            return [self._json(source, frame)]
        return self._text(source, frame)

    # ------------------------------------------------------------------------------------------ JSON

    def _json(self, source: Input, frame: Frame) -> str:
        name = _name_as_json(source.name)
        length = frame.error.length if frame.error else frame.length
        parts = [f'{{"file":{name},"offset":{frame.offset},"length":{length}']
        if frame.error:
            parts.append(f',"error":"{frame.error.kind}","reason":{_json_text(reason_of(frame.error))}')
        elif frame.envelope:
            parts.append(f',"event":{event_json(frame.envelope)}')
        if not frame.verified:
            parts.append(',"verified":false')
        if self._options.raw:
            raw = self._raw(source, frame)
            if raw is not None:
                parts.append(f',"raw":"{b64encode(raw).decode()}"')
                text = _utf8(raw)
                if text is not None:
                    parts.append(f',"raw_text":{_json_text(text)}')
                if frame.error and frame.error.length > RAW_MAX:
                    parts.append(',"raw_cut":true')
        if self._options.hex and frame.error:
            parts.append(f',"hex":{msgspec.json.encode(self._hex(source, frame.error)).decode()}')
        parts.append("}")
        return escape_json("".join(parts))

    def _raw(self, source: Input, frame: Frame) -> bytes | None:
        if frame.error is None:
            return frame.raw
        back = source.read_back(frame.error.offset, min(frame.error.length, RAW_MAX))
        if back is not None:
            return back
        return frame.raw or None  # a pipe: the payload of a frame that was delimited is all there is

    def _hex(self, source: Input, error: DecodeError) -> list[str]:
        back = source.read_back(error.offset, min(error.length, HEX_MAX))
        if back is None:
            return ["(a pipe can't be read again)"]
        lines = hexdump(back, error.offset)
        more = error.length - len(back)
        return [*lines, f"({more} bytes more)"] if more > 0 else lines

    # ------------------------------------------------------------------------------------------ text

    def _text(self, source: Input, frame: Frame) -> list[str]:
        lines = []
        mark = "" if frame.verified else "?"
        if frame.error:
            fields = [f"{frame.offset}{mark}", "BAD", f"{frame.error.kind}, {frame.error.length} bytes"]
            fields.append(escape(reason_of(frame.error)))
        else:
            assert frame.envelope is not None
            fields = [f"{frame.offset}{mark}", *self._event_fields(frame.envelope)]
        if self._width is None:
            if len(self._options.files) > 1:
                fields.insert(0, escape(source.name))
            lines.append("\t".join(fields))
        else:
            lines.append(_columns(fields)[: self._width])
        if self._options.raw:
            raw = self._raw(source, frame)
            if raw is not None:
                text = _utf8(raw)
                lines.append(f"    raw text: {escape(text)}" if text is not None else "    raw text: (not UTF-8)")
                lines.append(f"    raw base64: {b64encode(raw).decode()}")
        if self._options.hex and frame.error:
            lines += [f"    {line}" for line in self._hex(source, frame.error)]
        return lines

    def _event_fields(self, envelope: Envelope) -> list[str]:
        meta = envelope.meta
        time = iso_utc(meta.timestamp_us) if self._width is None else local_time(meta.timestamp_us)
        who = escape(envelope.run_id or "-") + (f"/{escape(meta.worker_id)}" if meta.worker_id else "")
        return [time, who, f"#{meta.seq}", escape(envelope.event_type), payload_text(envelope)]


_WIDTHS: Final = (9, 19, 24, 7, 12)


def _columns(fields: list[str]) -> str:
    """Put fields under each other, as far as they fit, for a terminal."""
    if fields[1] == "BAD":
        return f"{fields[0]:>{_WIDTHS[0]}}  {'  '.join(fields[1:])}"
    fields = [fields[0].rjust(_WIDTHS[0]), *fields[1:]]
    padded = [field.ljust(width) for field, width in zip(fields, _WIDTHS, strict=False)]
    return "  ".join([*padded, *fields[len(_WIDTHS) :]])


def reason_of(error: DecodeError) -> str:
    """Return what is wrong, and in which member."""
    return f"{error.path}: {error.reason}" if error.path else error.reason


def event_json(envelope: Envelope) -> str:
    """Return an event in wire names with its members in the published order: v, t, m, p. spec: ENV-1"""
    try:
        payload = encode(envelope)
    except EncodeError as error:  # pragma: no cover - what was decoded can be encoded
        raise AssertionError(f"a decoded event can't be encoded: {error}") from error
    head, found, rest = payload.partition(_ORDER)
    if not found:
        return payload.decode()
    return f'{{"v":1,{head[1:].decode()},"m":{rest.decode()}'


def payload_text(envelope: Envelope) -> str:
    """Return an event's members as name=value, without the run id, which stands in a column of its own."""
    members: Any = msgspec.json.decode(encode(envelope))["p"]
    if not isinstance(members, dict):
        return escape_json(msgspec.json.encode(members).decode())
    shown = []
    for name, value in members.items():
        if name != "run_id" or isinstance(value, dict):
            shown.append(f"{escape(name)}={escape_json(msgspec.json.encode(value).decode())}")
    return " ".join(shown)


def _utf8(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def _json_text(text: str) -> str:
    return msgspec.json.encode(text.encode("utf-8", "backslashreplace").decode()).decode()


@lru_cache(maxsize=64)
def _name_as_json(name: str) -> str:
    return _json_text(name)
