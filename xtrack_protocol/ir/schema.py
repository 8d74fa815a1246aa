"""JSON Schema of the wire, made from the IR: what a strict reader takes, so it can't drift from the Structs.

Free of I/O like all of ``ir``, and not imported by it: only who wants the schema pays for making it. The copy in the
specification is written by ``python -c "import json; from xtrack_protocol.ir.schema import json_schema;
print(json.dumps(json_schema(), indent=2))"`` and compared by a test.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import inspect

from xtrack_protocol.ir.envelope import CONTROL_TYPES, ENVELOPES, EventMeta
from xtrack_protocol.limits import INT64_MAX, INT64_MIN

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_SLOTS: Final[dict[str, Schema]] = {
    "int64": {"type": "integer", "minimum": INT64_MIN, "maximum": INT64_MAX},
    "number": {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]},
}
"""The slots that JSON Schema has no word for. spec: VAL-1, VAL-2, VAL-3"""


def json_schema() -> Schema:
    """Return the JSON Schema (2020-12) of an event as it stands in a frame. spec: ENV-1, EVT-1, CTL-1.2

    Unknown event types and unknown members pass (spec: ENV-5, ENV-6), null passes in optional members (spec: JSN-6),
    number slots take the three strings of non-finite numbers (spec: VAL-3). What a schema can't say (depth, doubled
    names, the bytes themselves) is left to the decoder.
    """
    makers = _Schemas()
    meta = makers.of(inspect.type_info(EventMeta))
    bodies = [_rule(event_type, makers) for event_type in ENVELOPES]
    first_seq = {"properties": {"m": {"properties": {"seq": {"minimum": 1}}}}}  # spec: ENV-4
    stream_types = sorted(ENVELOPES.keys() - CONTROL_TYPES)
    return {
        "$schema": DIALECT,
        "title": "An event of the XTrack protocol, version 1",
        "type": "object",
        "required": ["v", "t", "m", "p"],
        "properties": {"v": {"const": 1}, "t": {"type": "string"}, "m": meta, "p": {"type": "object"}},
        "allOf": [*bodies, {"if": {"properties": {"t": {"enum": stream_types}}}, "then": first_seq}],
        "$defs": dict(sorted(makers.defs.items())),
    }


def _rule(event_type: str, makers: _Schemas) -> Schema:
    payload_type = ENVELOPES[event_type].__annotations__["payload"]
    body = makers.of(inspect.type_info(payload_type))
    return {"if": {"properties": {"t": {"const": event_type}}}, "then": {"properties": {"p": body}}}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


class _Schemas:
    """Makes the schema of each slot, and collects those of the structs as ``$defs``."""

    def __init__(self) -> None:
        self.defs: dict[str, Schema] = dict(_SLOTS)

    def of(self, slot: inspect.Type) -> Schema:
        match slot:
            case inspect.StructType(cls=cls):
                return self._struct(cls, slot)
            case inspect.AnyType():
                return {}
            case inspect.IntType():
                return _reference("int64")
            case inspect.StrType():
                return {"type": "string"}
            case inspect.BoolType():
                return {"type": "boolean"}
            case inspect.NoneType():
                return {"type": "null"}
            case inspect.LiteralType(values=values):
                return {"enum": list(values)}
            case inspect.DictType(value_type=item):
                return {"type": "object", "additionalProperties": self.of(item)}
            case inspect.ListType(item_type=item):
                return {"type": "array", "items": self.of(item)}
            case inspect.TupleType(item_types=items):
                length = {"minItems": len(items), "maxItems": len(items)}
                return {"type": "array", "prefixItems": [self.of(item) for item in items], **length}
            case inspect.UnionType(types=types):
                return self._union(types)
        raise TypeError(f"no schema for {slot}")

    def _union(self, types: tuple[inspect.Type, ...]) -> Schema:
        is_number = any(isinstance(item, inspect.FloatType) for item in types)
        rest = [item for item in types if not (is_number and isinstance(item, (inspect.IntType, inspect.FloatType)))]
        options = [_reference("number")] if is_number else []
        options += [self.of(item) for item in rest]
        return {"anyOf": options} if len(options) > 1 else options[0]

    def _struct(self, cls: type, struct: inspect.StructType) -> Schema:
        name = cls.__name__
        if name not in self.defs:
            self.defs[name] = {}  # stands in while the fields are looked at
            properties = {field.encode_name: self._field(field) for field in struct.fields}
            required = [field.encode_name for field in struct.fields if field.required]
            summary = (cls.__doc__ or "").partition("\n")[0]
            schema: Schema = {"description": summary, "type": "object", "properties": properties}
            if required:
                schema["required"] = required
            self.defs[name] = schema
        return _reference(name)

    def _field(self, field: inspect.Field) -> Schema:
        schema = self.of(field.type)
        if field.required or not schema:
            return schema
        if "anyOf" in schema:
            return schema if {"type": "null"} in schema["anyOf"] else {"anyOf": [*schema["anyOf"], {"type": "null"}]}
        return {"anyOf": [schema, {"type": "null"}]}
