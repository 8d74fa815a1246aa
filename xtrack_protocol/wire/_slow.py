"""The codec's slow half: what the fast pass refuses is read here, or gets its error class and its place.

Parsing is the standard library's, which knows the bare NaN tokens of legacy workers and calls back for every
number; a table of slots made from the IR then walks the tree. Of all faults the one that stands first in the
order of precedence is reported (spec: ERR-2). Of a name that stands twice in an object the last one counts, as in
the fast pass (spec: JSN-1, JSN-5).
"""

from __future__ import annotations

import json
import re
from functools import cache
from math import isfinite, isinf, isnan
from typing import Any, Final, TypeAlias

import attrs
import msgspec
from msgspec import inspect

from xtrack_protocol.errors import ERROR_CLASSES, DecodeError, EncodeError, ErrorClass
from xtrack_protocol.ir import CONTROL_TYPES, ENVELOPES, Envelope, EventMeta, UnknownEnvelope, UnknownEvent
from xtrack_protocol.limits import DEPTH_MAX, INT64_MAX, INT64_MIN
from xtrack_protocol.wire.codec import Codec

_NON_FINITE: Final = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class _OutOfRange:
    """Stands in the tree for a number that is no int64 and no finite binary64, until its slot is known."""


_OUT_OF_RANGE: Final = _OutOfRange()
_ABSENT: Final = object()


def decode(payload: bytes, *, codec: Codec, lenient: bool, max_depth: int) -> Envelope:
    """Decode ``payload`` with every legacy form, or raise the DecodeError that says what is wrong with it."""
    if codec == "json":
        tree = _parse_json(payload, lenient=lenient, max_depth=max_depth)
    else:
        tree = _parse_msgpack(payload, max_depth)
    event_type = _check_envelope(tree)
    faults = _Faults(lenient)
    meta = _slot_of(EventMeta).read(tree["m"], (None, "m"), faults)
    cls = ENVELOPES.get(event_type)
    if cls is not None and event_type not in CONTROL_TYPES and type(meta.get("seq")) is int and meta["seq"] < 1:
        faults.add("out_of_range", ((None, "m"), "seq"), f"must be at least 1, not {meta['seq']}")  # spec: ENV-4
    slot = _FREE_OBJECT if cls is None else _slot_of(_payload_type(cls))
    body = slot.read(tree["p"], (None, "p"), faults)
    faults.raise_first()
    try:
        if cls is None:
            return UnknownEnvelope(1, msgspec.convert(meta, EventMeta), UnknownEvent(event_type, body))
        return msgspec.convert({"t": event_type, "v": 1, "m": meta, "p": body}, cls)
    except msgspec.ValidationError as error:  # pragma: no cover - the slots above are meant to leave nothing
        raise DecodeError("bad_type", str(error)) from error


def encode(envelope: Envelope, codec: Codec) -> bytes:
    """Encode ``envelope`` with its non-finite numbers, or raise the EncodeError that names the field."""
    try:
        tree: dict[str, Any] = {"t": envelope.event_type, "v": 1}
        tree["m"] = msgspec.to_builtins(envelope.meta)
        if isinstance(envelope, UnknownEnvelope):
            tree["p"] = _FREE_OBJECT.write(envelope.payload.payload, (None, "p"), 2)
        else:
            tree["p"] = _slot_of(_payload_type(type(envelope))).write(envelope.payload, (None, "p"), 2)
        return msgspec.json.encode(tree) if codec == "json" else msgspec.msgpack.encode(tree)
    except UnicodeEncodeError as error:
        raise EncodeError(f"a lone surrogate ({error.object[error.start]!r}) has no UTF-8") from error
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        if isinstance(error, EncodeError):
            raise
        raise EncodeError(str(error) or type(error).__name__) from error


# ---------------------------------------------------------------------------------------------- parsing


def _parse_json(payload: bytes, *, lenient: bool, max_depth: int) -> Any:
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DecodeError("bad_utf8", f"{error.reason} at byte {error.start} of the payload") from error
    depth = _depth(text) if text.count("{") + text.count("[") > max_depth else 0
    try:
        tree = json.loads(
            text,
            parse_int=_parse_int,
            parse_float=_parse_float,
            parse_constant=_NON_FINITE.__getitem__ if lenient else _refuse_constant,
        )
    except RecursionError as error:
        raise DecodeError("too_deep", f"more than {max_depth} levels of nesting") from error
    except ValueError as error:
        raise DecodeError("bad_json", f"no JSON text: {error}") from error
    _refuse_lone_surrogates(text)
    if depth > max_depth:
        raise DecodeError("too_deep", f"{depth} levels of nesting, more than {max_depth}")
    return tree


def _parse_int(digits: str) -> int | _OutOfRange:
    # 2**1024, the end of binary64, has 309 digits. Converting many more takes time that grows with their square.
    return int(digits) if len(digits) <= 310 else _OUT_OF_RANGE


def _parse_float(text: str) -> float | _OutOfRange:
    value = float(text)
    return _OUT_OF_RANGE if isinf(value) else value


def _refuse_constant(token: str) -> float:
    raise ValueError(f"{token} is no JSON")


_BRACKETS: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL)
"""Strings, to be passed over, and brackets. The closing quote is optional so that a match never backtracks."""


def _depth(text: str) -> int:
    deepest = level = 0
    for match in _BRACKETS.finditer(text):
        first = match[0][0]
        if first in "[{":
            level += 1
            deepest = max(deepest, level)
        elif first in "]}":
            level -= 1
    return deepest


_ESCAPES: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)


def _refuse_lone_surrogates(text: str) -> None:
    """Raise for an escaped UTF-16 surrogate that is half of nothing. spec: JSN-3"""
    if "\\u" not in text:
        return
    high_end = -1  # where an escaped high half, which must be followed at once by a low one, has ended
    for match in _ESCAPES.finditer(text):
        unit = int(match[1], 16) if match[1] else 0
        is_low = 0xDC00 <= unit <= 0xDFFF
        if is_low != (high_end == match.start()) or (high_end not in {-1, match.start()}):
            break
        high_end = match.end() if 0xD800 <= unit <= 0xDBFF else -1
    else:
        if high_end == -1:
            return
    raise DecodeError("bad_json", "an escaped UTF-16 surrogate without its other half")


def _parse_msgpack(payload: bytes, max_depth: int) -> Any:
    try:
        tree = msgspec.msgpack.decode(payload)
    except UnicodeDecodeError as error:
        raise DecodeError("bad_utf8", str(error)) from error
    except RecursionError as error:
        raise DecodeError("too_deep", f"more than {max_depth} levels of nesting") from error
    except (ValueError, TypeError, BytesWarning) as error:  # an unhashable key; bytes beside the same text, under -bb
        raise DecodeError("bad_json", f"no MessagePack: {error}") from error
    _check_msgpack(tree, 1, max_depth)
    return tree


def _check_msgpack(value: Any, level: int, max_depth: int) -> None:
    if isinstance(value, (dict, list)):
        if level > max_depth:
            raise DecodeError("too_deep", f"more than {max_depth} levels of nesting")
        if isinstance(value, dict):
            for key in value:
                if type(key) is not str:
                    raise DecodeError("bad_json", f"a MessagePack key must be a string, not {type(key).__name__}")
        for item in value.values() if isinstance(value, dict) else value:
            _check_msgpack(item, level + 1, max_depth)
    elif not (value is None or isinstance(value, (str, int, float))):
        raise DecodeError("bad_json", f"MessagePack {type(value).__name__} has no JSON counterpart")


def _check_envelope(tree: Any) -> str:
    """Return the event's type, or raise what is wrong with the four members. spec: ENV-1, ENV-2"""
    if not isinstance(tree, dict):
        raise DecodeError("bad_envelope", "the payload is no object")
    missing = [name for name in ("v", "t", "m", "p") if name not in tree]
    if missing:
        raise DecodeError("bad_envelope", f"without {', '.join(missing)}", path=missing[0])
    version, event_type = tree["v"], tree["t"]
    if isinstance(version, float) and version.is_integer():
        version = int(version)
    if type(version) is not int or not INT64_MIN <= version <= INT64_MAX:
        raise DecodeError("bad_envelope", "the version is no signed 64-bit integer", path="v")
    if type(event_type) is not str:
        raise DecodeError("bad_envelope", "the type is no text", path="t")
    for name in ("m", "p"):
        if not isinstance(tree[name], dict):
            raise DecodeError("bad_envelope", "is no object", path=name)
    if version != 1:
        raise DecodeError("unsupported_version", f"version {version}; this reader knows version 1", path="v")
    return event_type


# ---------------------------------------------------------------------------------------------- slots


_Path: TypeAlias = "tuple[_Path | None, str | int]"
"""Where a value stands: in what, and its name or index there. It becomes a text only for an error: the texts of all
values of a payload can be far longer than the payload."""


def _text_of(path: _Path | None) -> str:
    """Return ``p.value[3].key``, the names cut that are too long to read."""
    parts: list[str] = []
    while path is not None:
        path, name = path
        parts.append(f"[{name}]" if isinstance(name, int) else f".{name}" if len(name) <= 80 else f".{name[:80]}...")
    return "".join(reversed(parts))[1:]


class _Faults:
    """What was found wrong: the first by precedence, and then by place, is the verdict. spec: ERR-2"""

    def __init__(self, lenient: bool) -> None:
        self.lenient = lenient
        self._first: tuple[int, _Path, str] | None = None

    def add(self, kind: ErrorClass, path: _Path, reason: str) -> Any:
        rank = ERROR_CLASSES.index(kind)
        if self._first is None or rank < self._first[0]:
            self._first = rank, path, reason

    def raise_first(self) -> None:
        if self._first:
            rank, path, reason = self._first
            raise DecodeError(ERROR_CLASSES[rank], reason, path=_text_of(path))


def _name_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    names = {dict: "an object", list: "an array", str: "a text", int: "an integer", float: "a number"}
    return names.get(type(value), "a number")


def _shown(value: str) -> str:
    """Return a text of the payload for a message, which mustn't grow with it."""
    return repr(value) if len(value) <= 80 else f"{value[:80]!r}..."


class _Slot:
    """A kind of slot. ``read`` turns the wire's tree into the IR's, ``write`` the other way round."""

    def read(self, value: Any, path: _Path, faults: _Faults) -> Any:
        raise NotImplementedError

    def write(self, value: Any, path: _Path, level: int) -> Any:  # noqa: ARG002 - path and level are for containers
        return value


class _IntSlot(_Slot):
    def read(self, value: Any, path: _Path, faults: _Faults) -> Any:
        if value is _OUT_OF_RANGE:
            return faults.add("out_of_range", path, "beyond a signed 64-bit integer")
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # spec: JSN-4
        if type(value) is not int:
            return faults.add("bad_type", path, f"must be an integer, not {_name_of(value)}")
        if not INT64_MIN <= value <= INT64_MAX:
            return faults.add("out_of_range", path, f"{value} is beyond a signed 64-bit integer")
        return value

    def write(self, value: Any, path: _Path, level: int) -> Any:  # noqa: ARG002
        if type(value) is not int or not INT64_MIN <= value <= INT64_MAX:
            raise EncodeError(f"must be a signed 64-bit integer, not {value!r}", _text_of(path))
        return value


class _NumberSlot(_Slot):
    def read(self, value: Any, path: _Path, faults: _Faults) -> Any:
        if type(value) is float:
            return value
        if type(value) is int or value is _OUT_OF_RANGE:
            return _read_integer(value, path, faults)
        if isinstance(value, bool) and faults.lenient:
            return int(value)  # spec: VAL-5
        if isinstance(value, str) and value in _NON_FINITE:
            return _NON_FINITE[value]  # spec: VAL-3
        return faults.add("bad_type", path, f"must be a number, not {_name_of(value)}")

    def write(self, value: Any, path: _Path, level: int) -> Any:  # noqa: ARG002
        if type(value) is float:
            return value if isfinite(value) else _non_finite_name(value)
        if type(value) is not int:
            raise EncodeError(f"must be a number, not {value!r}", _text_of(path))
        return value if INT64_MIN <= value <= INT64_MAX else _as_float(value, path)


def _read_integer(value: int | _OutOfRange, path: _Path, faults: _Faults) -> Any:
    """Return the integer, or beyond int64 the binary64 nearest to it. spec: VAL-2, VAL-4"""
    if isinstance(value, int):
        if INT64_MIN <= value <= INT64_MAX:
            return value
        try:
            return float(value)
        except OverflowError:
            pass
    return faults.add("out_of_range", path, "a number beyond binary64")


def _as_float(value: int, path: _Path) -> float:
    try:
        return float(value)
    except OverflowError:
        raise EncodeError("an integer beyond binary64", _text_of(path)) from None


class _StrSlot(_Slot):  # spec: VAL-9
    def read(self, value: Any, path: _Path, faults: _Faults) -> Any:
        return (
            value if isinstance(value, str) else faults.add("bad_type", path, f"must be a text, not {_name_of(value)}")
        )

    def write(self, value: Any, path: _Path, level: int) -> Any:  # noqa: ARG002
        if not isinstance(value, str):
            raise EncodeError(f"must be a text, not {value!r}", _text_of(path))
        return value


class _IdSlot(_StrSlot):
    """A worker or session id that may be absent; "" is as good as absent. spec: JSN-6"""

    def read(self, value: Any, path: _Path, faults: _Faults) -> Any:
        return super().read(value, path, faults) or None


class _BoolSlot(_Slot):
    def read(self, value: Any, path: _Path, faults: _Faults) -> Any:
        if isinstance(value, bool):
            return value
        return faults.add("bad_type", path, f"must be true or false, not {_name_of(value)}")

    def write(self, value: Any, path: _Path, level: int) -> Any:  # noqa: ARG002
        if not isinstance(value, bool):
            raise EncodeError(f"must be True or False, not {value!r}", _text_of(path))
        return value


@attrs.frozen
class _EnumSlot(_Slot):
    values: frozenset[str]

    def read(self, value: Any, path: _Path, faults: _Faults) -> Any:
        if not isinstance(value, str):
            return faults.add("bad_type", path, f"must be a text, not {_name_of(value)}")
        if value not in self.values:
            return faults.add(
                "bad_value", path, f"{_shown(value)} is none of {', '.join(sorted(self.values))}"
            )  # spec: VAL-6
        return value

    def write(self, value: Any, path: _Path, level: int) -> Any:  # noqa: ARG002
        if value not in self.values:
            raise EncodeError(f"{value!r} is none of {', '.join(sorted(self.values))}", _text_of(path))
        return value


class _FreeSlot(_Slot):
    """Any JSON; floats that JSON can't write are objects of one member, ``$float``. spec: VAL-4"""

    def read(self, value: Any, path: _Path, faults: _Faults) -> Any:
        if isinstance(value, dict):
            if _is_float_form(value):
                return _NON_FINITE[value["$float"]]
            return {key: self.read(item, (path, key), faults) for key, item in value.items()}
        if isinstance(value, list):
            return [self.read(item, (path, index), faults) for index, item in enumerate(value)]
        if type(value) is int or value is _OUT_OF_RANGE:
            return _read_integer(value, path, faults)
        return value

    def write(self, value: Any, path: _Path, level: int) -> Any:
        if value is None or type(value) in {str, bool}:
            return value
        if type(value) is int:
            if not INT64_MIN <= value <= INT64_MAX:
                raise EncodeError(
                    "an integer beyond a signed 64-bit one; write it as a text or a float", _text_of(path)
                )
            return value
        if type(value) is float and isfinite(value):
            return value
        if not isinstance(value, (dict, list, tuple, float)):
            raise EncodeError(f"{type(value).__name__} is no JSON type", _text_of(path))
        if level > DEPTH_MAX:  # the object of a float counts as well. spec: JSN-2
            raise EncodeError(f"more than {DEPTH_MAX} levels of nesting", _text_of(path))
        if isinstance(value, float):
            return {"$float": _non_finite_name(value)}
        if not isinstance(value, dict):
            return [self.write(item, (path, index), level + 1) for index, item in enumerate(value)]
        if _is_float_form(value):
            raise EncodeError(f"the object {value} would be read as a number", _text_of(path))
        _check_keys(value, path)
        return {key: self.write(item, (path, key), level + 1) for key, item in value.items()}


def _is_float_form(value: dict[Any, Any]) -> bool:
    """Whether an object stands for a non-finite number. spec: VAL-4"""
    return len(value) == 1 and isinstance(value.get("$float"), str) and value["$float"] in _NON_FINITE


def _check_keys(value: dict[Any, Any], path: _Path) -> None:
    for key in value:
        if type(key) is not str:
            raise EncodeError(f"a key must be a text, not {key!r}", _text_of(path))


def _check_type(value: Any, expected: type | tuple[type, ...], path: _Path) -> None:
    if not isinstance(value, expected):
        raise EncodeError(f"{type(value).__name__} has no place here", _text_of(path))


def _non_finite_name(value: float) -> str:
    return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"


@attrs.frozen
class _ListSlot(_Slot):
    item: _Slot

    def read(self, value: Any, path: _Path, faults: _Faults) -> Any:
        if not isinstance(value, list):
            return faults.add("bad_type", path, f"must be an array, not {_name_of(value)}")
        return [self.item.read(item, (path, index), faults) for index, item in enumerate(value)]

    def write(self, value: Any, path: _Path, level: int) -> Any:
        _check_type(value, (list, tuple), path)
        return [self.item.write(item, (path, index), level + 1) for index, item in enumerate(value)]


@attrs.frozen
class _TupleSlot(_Slot):
    items: tuple[_Slot, ...]

    def read(self, value: Any, path: _Path, faults: _Faults) -> Any:
        if not isinstance(value, list) or len(value) != len(self.items):
            return faults.add("bad_type", path, f"must be an array of {len(self.items)}")
        return [
            slot.read(item, (path, n), faults) for n, (slot, item) in enumerate(zip(self.items, value, strict=True))
        ]

    def write(self, value: Any, path: _Path, level: int) -> Any:
        _check_type(value, (list, tuple), path)
        return [
            slot.write(item, (path, n), level + 1) for n, (slot, item) in enumerate(zip(self.items, value, strict=True))
        ]


@attrs.frozen
class _DictSlot(_Slot):
    item: _Slot

    def read(self, value: Any, path: _Path, faults: _Faults) -> Any:
        if not isinstance(value, dict):
            return faults.add("bad_type", path, f"must be an object, not {_name_of(value)}")
        return {key: self.item.read(item, (path, key), faults) for key, item in value.items()}

    def write(self, value: Any, path: _Path, level: int) -> Any:
        _check_type(value, dict, path)
        _check_keys(value, path)
        return {key: self.item.write(item, (path, key), level + 1) for key, item in value.items()}


@attrs.frozen
class _EitherSlot(_Slot):
    """A text, or something that is no text: a run id or its object, a size or its spelling."""

    other: _Slot

    def read(self, value: Any, path: _Path, faults: _Faults) -> Any:
        return value if isinstance(value, str) else self.other.read(value, path, faults)

    def write(self, value: Any, path: _Path, level: int) -> Any:
        return value if isinstance(value, str) else self.other.write(value, path, level)


class _MemorySlot(_EitherSlot):
    """The memory of an accelerator: a text as it is, or a number, which must be finite. spec: EVT-RUN_START-5"""

    def write(self, value: Any, path: _Path, level: int) -> Any:
        if isinstance(value, float) and not isfinite(value):
            raise EncodeError(f"{value!r} has no form here: as a text it would be read as that text", _text_of(path))
        return super().write(value, path, level)


@attrs.frozen
class _StructSlot(_Slot):
    of: type
    fields: tuple[tuple[str, str, _Slot, bool, Any], ...]
    """Of each field: wire name, Python name, slot, whether it is required, and what absence means."""

    def read(self, value: Any, path: _Path, faults: _Faults) -> Any:
        if not isinstance(value, dict):
            return faults.add("bad_type", path, f"must be an object, not {_name_of(value)}")
        result = {}
        for name, _, slot, required, _ in self.fields:
            item = value.get(name, _ABSENT)
            if item is _ABSENT:
                if required:
                    faults.add("missing_field", (path, name), "is required")
            elif item is not None or required:  # null equals absent where a field is optional. spec: JSN-6
                result[name] = slot.read(item, (path, name), faults)
        return result

    def write(self, value: Any, path: _Path, level: int) -> Any:
        _check_type(value, self.of, path)
        result = {}
        for name, python_name, slot, required, default in self.fields:
            item = getattr(value, python_name)
            if required or (item is not None and item != default):
                result[name] = slot.write(item, (path, name), level + 1)
        return result


_FREE: Final = _FreeSlot()
_FREE_OBJECT: Final = _DictSlot(_FREE)
"""The body of an unknown event."""


def _payload_type(cls: type[Envelope]) -> type:
    payload_type: type = cls.__annotations__["payload"]
    return payload_type


@cache
def _slot_of(cls: type) -> _Slot:
    return _make_slot(inspect.type_info(cls))


def _make_slot(info: inspect.Type) -> _Slot:
    match info:
        case inspect.StructType(cls=cls, fields=fields):
            return _StructSlot(cls, tuple(_make_field(field) for field in fields))
        case inspect.AnyType():
            return _FREE
        case inspect.IntType():
            return _IntSlot()
        case inspect.StrType(min_length=min_length):
            return _StrSlot() if min_length is None else _IdSlot()
        case inspect.BoolType():
            return _BoolSlot()
        case inspect.LiteralType(values=values):
            return _EnumSlot(frozenset(str(value) for value in values))
        case inspect.DictType(value_type=item):
            return _DictSlot(_make_slot(item))
        case inspect.ListType(item_type=item):
            return _ListSlot(_make_slot(item))
        case inspect.TupleType(item_types=items):
            return _TupleSlot(tuple(_make_slot(item) for item in items))
        case inspect.UnionType(types=types):
            return _make_union(types)
    raise AssertionError(f"no slot for {info}")


def _make_field(field: inspect.Field) -> tuple[str, str, _Slot, bool, Any]:
    default = field.default if field.default is not msgspec.NODEFAULT else None
    if field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    return field.encode_name, field.name, _make_slot(field.type), field.required, default


def _make_union(types: tuple[inspect.Type, ...]) -> _Slot:
    rest = [info for info in types if not isinstance(info, inspect.NoneType)]
    if any(isinstance(info, inspect.FloatType) for info in rest):
        others = [info for info in rest if not isinstance(info, (inspect.IntType, inspect.FloatType))]
        number = _NumberSlot()
        return _MemorySlot(number) if others else number
    if len(rest) > 1:
        return _EitherSlot(_make_slot(next(info for info in rest if not isinstance(info, inspect.StrType))))
    return _make_slot(rest[0])
