"""Text for terminals, files and spreadsheets, made from data that nobody vouches for."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from math import isfinite, isinf, isnan
from typing import Any, Final, TypeAlias

import msgspec

from xtrack_protocol._terminal import UNSAFE_IN_JSON
from xtrack_protocol._terminal import escape as escape  # noqa: PLC0414 - who writes text finds it here

_UNSAFE_IN_JSON: Final = re.compile(f"[{UNSAFE_IN_JSON}]")

_FORMULA_START: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a spreadsheet may take for a formula, as OWASP lists it."""


def escape_json(text: str) -> str:
    """Return JSON text, and the same value, without what a terminal would obey."""
    return _UNSAFE_IN_JSON.sub(_escaped_in_json, text)


def _escaped_in_json(match: re.Match[str]) -> str:
    return "\\u" + match.group().encode("utf-16-be").hex("-", 2).replace("-", "\\u")


def csv_text(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula: a quote before = + - @, as OWASP recommends."""
    return f"'{text}" if text.startswith(_FORMULA_START) else text


Plain: TypeAlias = "dict[str, Plain] | list[Plain] | str | int | float | bool | None"


def number_as_json(value: int | float) -> int | float | str:  # noqa: PYI041 - a reader should see both
    """Return a number of a number slot as JSON has it: what isn't finite by its name. spec: VAL-3"""
    if isinstance(value, float) and not isfinite(value):
        return "NaN" if isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value


def free_as_json(value: Any) -> Any:
    """Return any value of a free slot as JSON has it: what isn't finite as ``{"$float": name}``. spec: VAL-4"""
    if isinstance(value, float):
        return value if isfinite(value) else {"$float": number_as_json(value)}
    if isinstance(value, dict):
        return {key: free_as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [free_as_json(item) for item in value]
    return value


def json_line(value: Any) -> str:
    """Return ``value``, free of non-finite numbers, as JSON on one line, safe to show."""
    return escape_json(msgspec.json.encode(value).decode())


def exact_number(value: int | float) -> str:  # noqa: PYI041
    """Return a number so that reading it gives the same: for files and pipes. NaN is nan."""
    return "nan" if isinstance(value, float) and isnan(value) else repr(value)


def short_number(value: int | float) -> str:  # noqa: PYI041
    """Return a number for people, in six digits."""
    if isinstance(value, int):
        return str(value)
    if isnan(value):
        return "nan"
    if isinf(value):
        return "inf" if value > 0 else "-inf"
    return f"{value:.6g}"


def iso_utc(timestamp_us: int) -> str:
    """Return a time as ISO 8601 in UTC, microseconds included; one that no calendar has, as the number it is."""
    moment = _moment(timestamp_us)
    return f"{timestamp_us}us" if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def local_time(timestamp_us: int) -> str:
    """Return a time for people, on this machine's clock, in seconds."""
    moment = _moment(timestamp_us)
    if moment is None:
        return f"{timestamp_us}us"
    try:
        return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):  # the edges of the calendar
        return iso_utc(timestamp_us)


def duration_text(milliseconds: int) -> str:
    """Return a duration for people."""
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h {minutes:02}m" if hours else f"{minutes}m {rest:02}s"
    days, hours = divmod(hours, 24)
    return f"{days}d {hours:02}h"


def _moment(timestamp_us: int) -> datetime | None:
    try:
        seconds, micros = divmod(timestamp_us, 1_000_000)
        return datetime.fromtimestamp(seconds, timezone.utc).replace(microsecond=micros)
    except (OverflowError, OSError, ValueError):
        return None


_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_since(text: str, now: float) -> int:
    """Return microseconds since the Unix epoch for an ISO 8601 time, or for how long before ``now`` (``90s``, ``2h``).

    A time without an offset is this machine's. Raises ValueError.
    """
    relative = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhdw])", text.strip())
    if relative:
        return int((now - float(relative[1]) * _UNITS[relative[2]]) * 1_000_000)
    stamp = text.strip()
    if stamp.endswith(("Z", "z")):  # which Python 3.10 doesn't read
        stamp = stamp[:-1] + "+00:00"
    moment = datetime.fromisoformat(stamp)
    aware = moment.astimezone() if moment.tzinfo is None else moment
    return round(aware.timestamp() * 1_000_000)


def ranges_text(ranges: list[tuple[int, int]], limit: int = 10) -> str:
    """Return ranges of integers, both ends included: ``3, 5-7``; of many, the first ones."""
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in ranges[:limit]]
    more = len(ranges) - limit
    return ", ".join(shown) + (f" and {more} more ranges" if more > 0 else "")


def hexdump(data: bytes, offset: int) -> list[str]:
    """Return lines of sixteen bytes: the offset, the bytes in hexadecimal, and as ASCII."""
    lines = []
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        digits = " ".join(f"{byte:02x}" for byte in row[:8]) + "  " + " ".join(f"{byte:02x}" for byte in row[8:])
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{offset + start:08x}  {digits:<48}  |{letters}|")
    return lines
