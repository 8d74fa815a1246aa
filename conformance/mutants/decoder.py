"""Mutants of the decoder: each reads one thing otherwise than the specification says."""

from __future__ import annotations

import json
import math
import re
import struct
import unicodedata
from typing import Any

import decoder_meanings
import decoder_numbers
import decoder_slots
import decoder_text
from tools import (
    Json,
    Mutation,
    always_misreads,
    decoding,
    distorts,
    everywhere,
    member,
    misreads,
    refusal,
    refuses,
    refuses_text,
    takes,
)

INT64_MAX = 2**63 - 1


def _text(pattern: str, replacement: str) -> Any:
    """Return a function that replaces in the text of a payload."""
    compiled = re.compile(pattern, re.DOTALL)

    def change(payload: bytes) -> bytes:
        return compiled.sub(replacement, payload.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")

    return change


def _numbers(change: Any) -> Any:
    """Return a function that changes the numbers of an event's body."""

    def apply(event: Json) -> Json:
        return {**event, "p": everywhere(lambda leaf: change(leaf) if type(leaf) in {int, float} else leaf)(event["p"])}

    return apply


def _strings(change: Any) -> Any:
    def apply(event: Json) -> Json:
        return {**event, "p": everywhere(lambda leaf: change(leaf) if isinstance(leaf, str) else leaf)(event["p"])}

    return apply


def _names(change: Any) -> Any:
    """Return a function that changes the names of tags."""

    def apply(event: Json) -> None:
        tags = member(event, "p", "tags")
        if isinstance(tags, dict):
            event["p"]["tags"] = {change(name): value for name, value in tags.items() if change(name) is not None}

    return apply


def _without(*path: str) -> Any:
    """Return a function that drops a member."""

    def apply(event: Json) -> None:
        holder = member(event, *path[:-1])
        if isinstance(holder, dict):
            holder.pop(path[-1], None)

    return apply


def _first_of_two(payload: bytes) -> bytes:
    """Return the text without the later ones of names that stand twice; the same text where none does."""
    doubled = False

    def first(pairs: list[tuple[str, Any]]) -> Json:
        nonlocal doubled
        doubled = doubled or len(dict(pairs)) < len(pairs)
        return dict(reversed(pairs))

    try:
        tree = json.loads(payload, object_pairs_hook=first)
    except (ValueError, RecursionError):
        return payload
    return json.dumps(tree).encode() if doubled else payload


def _single(value: Any) -> Any:
    return struct.unpack(">f", struct.pack(">f", value))[0] if isinstance(value, float) and abs(value) < 1e38 else value


def _round(value: Any) -> Any:
    return int(float(value)) if type(value) is int else value


def _wrapped(payload: bytes) -> bytes:
    return re.sub(rb'"step":(\d{19,})', lambda found: b'"step":%d' % ((int(found[1]) + 2**63) % 2**64 - 2**63), payload)


def _unchecked(honest: Any, payload: bytes, reader: str, _module: Any) -> Json:
    """Leave out unknown members before anybody has looked at them."""
    answer: Json = honest(payload, reader)
    if "rejected" not in answer:
        return answer
    return honest(re.sub(rb',"unknown":.*?(?=\}\}$)', b"", payload, flags=re.DOTALL), reader)


def _is_unknown(tree: Any) -> bool:
    return member(tree, "t") == "energy"


def _by_place(honest: Any, payload: bytes, reader: str, _module: Any) -> Json:
    """Tell the fault that stands first in the text."""
    answer: Json = honest(payload, reader)
    return refusal("out_of_range") if b"1e400" in payload and "rejected" in answer else answer


def _lenient(honest: Any, payload: bytes, reader: str, _module: Any) -> Json:
    answer: Json = honest(payload, "lenient" if re.search(rb":(NaN|-?Infinity)", payload) else reader)
    return answer


def _booleans(honest: Any, payload: bytes, reader: str, _module: Any) -> Json:
    answer: Json = honest(payload, "lenient" if re.search(rb":(true|false)", payload) else reader)
    return answer


def _no_booleans(honest: Any, payload: bytes, reader: str, _module: Any) -> Json:
    answer: Json = honest(payload, "strict" if re.search(rb":(true|false)", payload) else reader)
    return answer


def _no_tokens(honest: Any, payload: bytes, reader: str, _module: Any) -> Json:
    answer: Json = honest(payload, "strict" if re.search(rb"[:\[](NaN|-?Infinity)", payload) else reader)
    return answer


def _depth(limit: int) -> Mutation:
    def read(honest: Any, payload: bytes, reader: str, module: Any) -> Json:
        try:
            envelope = module.decode(payload, lenient=reader == "lenient", max_depth=limit)
        except module.DecodeError:
            answer: Json = honest(payload, reader)
            return refusal("too_deep") if "event" in answer else answer
        return {"event": module.to_tagged(module.from_envelope(envelope))}

    return decoding(read)


def _flattened(event: Json) -> None:
    value = member(event, "p", "value")
    if event["t"] == "param" and isinstance(value, dict) and value:
        key, inner = next(iter(value.items()))
        event["p"] |= {"value": inner, "nested_key": [key]}


def _eager_forms(value: Any) -> Any:
    if isinstance(value, dict):
        if isinstance(value.get("$float"), (str, float)):
            return float(value["$float"])
        return {name: _eager_forms(item) for name, item in value.items()}
    return [_eager_forms(item) for item in value] if isinstance(value, list) else value


def _unread_forms(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _unread_forms(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_unread_forms(item) for item in value]
    return {"$float": str(value)} if isinstance(value, float) and not math.isfinite(value) else value


def _no_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _no_nulls(item) for name, item in value.items() if item is not None}
    return [_no_nulls(item) for item in value if item is not None] if isinstance(value, list) else value


def _in_free_slots(change: Any) -> Any:
    def apply(event: Json) -> None:
        for name in ("value", "fields", "meta"):
            if event["t"] in {"param", "log", "artifact"} and name in event["p"]:
                event["p"][name] = change(event["p"][name])
        if event["t"] == "energy":
            event["p"] = {name: change(item) for name, item in event["p"].items()}

    return apply


def _is_number(value: Any) -> bool:
    return type(value) in {int, float}


def _memory(change: Any) -> Any:
    """Return a function that changes the memory of an accelerator."""

    def apply(event: Json) -> None:
        for device in member(event, "p", "env", "gpu_info") or []:
            if _is_number(device.get("memory")):
                device["memory"] = change(device["memory"])

    return apply


def _free_form(*path: str) -> Any:
    """Return a function that takes the form of a float at a path for a number."""

    def apply(event: Json) -> None:
        holder = member(event, *path[:-1]) if path[1:] else event
        form = holder.get(path[-1]) if isinstance(holder, dict) else None
        if isinstance(form, dict) and form.keys() == {"$float"} and isinstance(form["$float"], str):
            holder[path[-1]] = float(form["$float"])

    return apply


def _free_maps(event: Json) -> None:
    """Take maps of free for free slots."""
    for name in ("fields", "meta", "payload"):
        _free_form("p", name)(event)


def _form_level(honest: Any, payload: bytes, reader: str, module: Any) -> Json:
    """Count the objects of floats for no level."""
    answer: Json = honest(payload, reader)
    if answer.get("rejected", {}).get("class") != "too_deep" or b'{"$float":"NaN"}' not in payload:
        return answer
    shallow: Json = honest(payload.replace(b'{"$float":"NaN"}', b"1"), reader)
    return shallow


TEXT: dict[str, Mutation] = {
    "unknown-members-unchecked": decoding(_unchecked),
    "leading-zeros": misreads(_text(r'("value":-?)0+(?=\d)', r"\1")),
    "white-space-around-refused": refuses_text(lambda data: data != data.strip(b" \t\r\n"), "bad_json"),
    "strings-end-at-nul": distorts(_strings(lambda text: text.partition("\0")[0])),
    "escaped-names-unknown": refuses_text(lambda data: b'"\\u0076"' in data, "bad_envelope"),
    "names-normalised": distorts(_names(lambda name: unicodedata.normalize("NFC", name))),
    "names-without-case": misreads(lambda data: data.replace(b'"V"', b'"v"')),
    "depth-one-less": _depth(63),
    "depth-one-more": _depth(65),
    "brackets-counted-not-nested": refuses_text(lambda data: len(re.findall(rb"[\[{]", data)) > 64, "too_deep"),
    "integers-truncated": misreads(_text(r'("step":\d+)\.\d+', r"\1")),
    "first-of-two-names": always_misreads(_first_of_two),
    "null-is-no-absence": refuses_text(
        lambda data: re.search(rb'"(step|ctx|logger|name)":null', data) is not None, "bad_type"
    ),
    "null-for-required": takes(lambda tree: member(tree, "p", "value") is None and "value" in tree["p"], "bad_type"),
    "null-param-is-missing": refuses(
        lambda event: event["t"] == "param" and event["p"]["value"] is None, "missing_field"
    ),
    "null-dropped-in-free-slots": distorts(_in_free_slots(_no_nulls)),
    "null-in-maps": misreads(lambda data: data.replace(b'"a":null', b'"a":""')),
    "forms-take-no-level-to-read": decoding(_form_level),
    "empty-key-is-absence": distorts(
        lambda event: event["p"]["auth"].pop("key") and None if member(event, "p", "auth", "key") == "" else None
    ),
    "empty-sid-refused": refuses(lambda event: event["t"] == "open" and event["p"]["sid"] == "", "bad_value"),
    "falsy-is-absence": misreads(
        lambda data: re.sub(rb',"(logger|nested_key|wid|ctx)":(false|0|"")(?=[,}])', b"", data)
    ),
    "any-emptiness-is-absence": misreads(
        lambda data: data.replace(b',"fields":[]', b"").replace(b',"nested_key":{}', b"")
    ),
    "empty-ids-kept": decoding(
        lambda honest, data, reader, module: (
            honest(data.replace(b'"wid":""', b'"wid":" "'), reader) if b'"wid":""' in data else honest(data, reader)
        )
    ),
    "tokens-refused": decoding(_no_tokens),
    "tokens-accepted": decoding(_lenient),
    "byte-order-marks-refused-anywhere": refuses_text(lambda data: b"\xef\xbb\xbf" in data[1:], "bad_json"),
    "depth-of-32": _depth(32),
    "tokens-as-names": misreads(lambda data: data.replace(b"{NaN:", b'{"NaN":')),
    "nan-strings-refused": refuses_text(lambda data: b'"msg":"NaN"' in data, "bad_type"),
    "infinity-strings-refused": refuses_text(lambda data: b'"what":"-Infinity"' in data, "bad_json"),
    "any-spelling-of-nan": misreads(_text(r':"?(nan|inf)"?', ':"NaN"')),
}
"""How text is read."""

VALUES: dict[str, Mutation] = {
    "integers-by-way-of-binary64": distorts(
        lambda event: {
            **event,
            "p": {name: _round(item) if name == "step" else item for name, item in event["p"].items()},
        }
    ),
    "integers-wrap": misreads(_wrapped),
    "numbers-beyond-binary32-refused": refuses(
        lambda event: event["t"] == "metric" and 3.5e38 < event["p"]["value"] < math.inf, "out_of_range"
    ),
    "nan-compared-before-escapes": refuses_text(lambda data: rb'"\u004eaN"' in data, "bad_type"),
    "digits-become-numbers": distorts(
        lambda event: (
            event["p"].update(msg=int(event["p"]["msg"])) if str(member(event, "p", "msg")).isdigit() else None
        )
    ),
    "empty-lists-are-empty-strings": misreads(lambda data: data.replace(b'"msg":[]', b'"msg":""')),
    "lists-cut-to-one": distorts(
        lambda event: event["p"].update(nested_key=event["p"]["nested_key"][:1]) if "nested_key" in event["p"] else None
    ),
    "zero-is-absence": distorts(
        lambda event: event["p"].pop("step", None) and None if event["p"].get("step") == 0 else None
    ),
    "booleans-are-integers": misreads(lambda data: data.replace(b'"step":true', b'"step":1')),
    "digits-in-strings": misreads(_text(r'("step"|"value"):"([\d.]+)"', r"\1:\2")),
    "negative-steps-refused": refuses(lambda event: (member(event, "p", "step") or 0) < 0, "out_of_range"),
    "numbers-are-floats": distorts(
        lambda event: {
            **event,
            "p": {
                name: float(item) if name == "value" and type(item) is int and event["t"] == "metric" else item
                for name, item in event["p"].items()
            },
        }
    ),
    "big-integers-refused": refuses_text(lambda data: re.search(rb'"value":\d{19,}', data) is not None, "out_of_range"),
    "whole-floats-are-integers": distorts(
        _numbers(lambda value: int(value) if isinstance(value, float) and value == 1.0 else value)
    ),
    "sign-of-zero-lost": distorts(_numbers(lambda value: abs(value) if value == 0 else value)),
    "floats-by-way-of-binary32": distorts(_numbers(_single)),
    "strict-takes-booleans": decoding(_booleans),
    "booleans-in-quotes": misreads(_text(r'"value":"(true|false)"', r'"value":\1')),
    "lenient-refuses-booleans": decoding(_no_booleans),
    "float-form-anywhere": decoding(
        lambda honest, data, reader, module: honest(
            data.replace(b'{"$float":"NaN"}', b'"NaN"') if b'"t":"metric"' in data or b'"t":"log"' in data else data,
            reader,
        )
    ),
    "nan-is-null": distorts(_numbers(lambda value: None if value != value else value)),
    "infinities-are-one": distorts(_numbers(lambda value: abs(value) if value in {math.inf, -math.inf} else value)),
    "booleans-become-numbers-in-free-slots": distorts(
        _in_free_slots(everywhere(lambda leaf: int(leaf) if isinstance(leaf, bool) else leaf))
    ),
    "free-integers-by-way-of-binary64": distorts(_in_free_slots(everywhere(_round))),
    "float-form-unread": distorts(_in_free_slots(_unread_forms)),
    "strings-become-numbers-in-free-slots": distorts(
        _in_free_slots(everywhere(lambda leaf: float(leaf) if leaf in ("NaN", "Infinity", "-Infinity") else leaf))
    ),
    "float-forms-without-case": always_misreads(
        lambda data: data.replace(b'"$float":"-infinity"', b'"$float":"-Infinity"')
    ),
    "float-form-too-eager": distorts(_in_free_slots(_eager_forms)),
    "maps-of-free-are-free": distorts(_free_maps),
    "memory-by-way-of-binary64": distorts(_memory(_round)),
    "memory-unbounded": misreads(lambda data: data.replace(b'"memory":1e400', b'"memory":"1e400"')),
    "memory-takes-no-boolean": refuses_text(lambda data: b'"memory":true' in data, "bad_type"),
    "passive-dropped": distorts(_without("p", "passive")),
    "checksums-small": distorts(
        lambda event: (
            event["p"].update(checksum=event["p"]["checksum"].lower()) if member(event, "p", "checksum") else None
        )
    ),
    "one-status-missing": refuses(lambda event: event["t"] == "status" and event["p"]["status"] == "resuming"),
    "open-sets-are-closed": refuses(lambda event: member(event, "p", "type") in {"something else", "onnx"}),
    "numbers-are-booleans": misreads(lambda data: data.replace(b'"is_best":1}', b'"is_best":true}')),
    "any-64-letters-are-sha256": always_misreads(
        lambda data: data.replace(b'"checksum":"GGGG', b'"checksum":"sha256:GGGG')
    ),
    "checksum-must-be-sha256": refuses(lambda event: " " in (member(event, "p", "checksum") or "")),
    "strings-normalised": distorts(_strings(lambda text: unicodedata.normalize("NFC", text))),
    "empty-names-dropped": distorts(_names(lambda name: name or None)),
    "names-trimmed": distorts(_names(lambda name: name.strip())),
    "numbers-become-strings": misreads(_text(r'("msg"|"tags":\{"a"):(\d+)', r'\1:"\2"')),
    "lists-of-anything": takes(
        lambda tree: any(_is_number(item) for item in member(tree, "p", "nested_key") or []), "bad_type"
    ),
}
"""What values are."""

ENVELOPES: dict[str, Mutation] = {
    "type-must-come-first": refuses_text(lambda data: data.startswith(b'{"p"'), "bad_envelope"),
    "meta-may-be-absent": takes(
        lambda tree: isinstance(tree, dict) and "m" not in tree and "v" in tree, "bad_envelope"
    ),
    "version-may-be-absent": takes(
        lambda tree: isinstance(tree, dict) and "v" not in tree and "m" in tree, "bad_envelope"
    ),
    "version-in-a-string": misreads(lambda data: data.replace(b'"v":"1"', b'"v":1')),
    "envelope-in-a-list": misreads(lambda data: data[1:-1] if data[:2] == b"[{" else data),
    "version-2-taken": misreads(lambda data: data.replace(b'"v":2,"m":{"seq":2', b'"v":1,"m":{"seq":2')),
    "version-wraps": misreads(_text(r'"v":18446744073709551617', '"v":1')),
    "body-of-unknown-type-is-free": distorts(_free_form("p")),
    "unknown-bodies-unbounded": misreads(
        lambda data: re.sub(rb"(?<=[\[:])-?1e(400|999)", b"1", data) if b'"t":"energy"' in data else data
    ),
    "envelopes-of-unknown-types-bounded": refuses_text(lambda data: b'"load":1e400' in data, "out_of_range"),
    "unknown-type-unchecked": takes(_is_unknown, "unsupported_version", "missing_field", "bad_type", "bad_envelope"),
    "session-id-dropped": distorts(_without("m", "sid")),
    "worker-id-dropped": distorts(_without("m", "wid")),
    "seq-may-be-absent": takes(lambda tree: "seq" not in (member(tree, "m") or {"seq": 1}), "missing_field"),
    "time-before-1970-refused": refuses(lambda event: event["m"]["ts"] < 0, "out_of_range"),
    "time-in-the-future-refused": refuses(lambda event: event["m"]["ts"] > 2**61, "out_of_range"),
    "seq-zero-accepted": takes(lambda tree: member(tree, "m", "seq") == 0, "out_of_range"),
    "control-seqs-unbounded": takes(
        lambda tree: member(tree, "t") == "command" and tree["m"]["seq"] >= 2**63, "out_of_range"
    ),
    "control-needs-a-seq": refuses(lambda event: event["m"]["seq"] < 1, "out_of_range"),
    "unknown-type-is-an-error": refuses(lambda event: event["t"] == "energy"),
    "unknown-body-lost": distorts(lambda event: event.update(p={}) if event["t"] == "energy" else None),
    "types-without-case": decoding(
        lambda honest, data, reader, module: honest(data.replace(b'"t":"Metric"', b'"t":"metric"'), reader)
    ),
    "unknown-members-refused": refuses_text(
        lambda data: (
            re.search(rb'"(x|host|colour|owner|received_at|unknown)":', data) is not None
            and b'"t":"energy"' not in data
        ),
        "bad_type",
    ),
    "unknown-numbers-bounded": refuses_text(
        lambda data: re.search(rb":-?(1e999|9{300})", data) is not None and b'"t":"energy"' not in data, "out_of_range"
    ),
    "precedence-by-place": decoding(_by_place),
}
"""What stands around an event."""

EVENTS: dict[str, Mutation] = {
    "best-key-required": refuses(
        lambda event: event["t"] == "checkpoint" and "best_key" not in event["p"], "missing_field"
    ),
    "final-metrics-dropped": distorts(_without("p", "final_metrics")),
    "context-dropped": distorts(_without("p", "ctx")),
    "param-without-value": takes(
        lambda tree: member(tree, "t") == "param" and "value" not in tree["p"], "missing_field"
    ),
    "metric-without-key": takes(lambda tree: member(tree, "t") == "metric" and "key" not in tree["p"], "missing_field"),
    "run-id-object-in-run-start-only": refuses_text(
        lambda data: b'"run_id":{' in data and b'"t":"log"' in data, "bad_type"
    ),
    "experiment-dropped": distorts(_without("p", "run_id", "exp_id")),
    "run-id-without-id": takes(
        lambda tree: isinstance(member(tree, "p", "run_id"), dict) and "id" not in tree["p"]["run_id"], "missing_field"
    ),
    "empty-run-id-refused": refuses(lambda event: member(event, "p", "run_id") == ""),
    "long-run-id-refused": refuses(
        lambda event: isinstance(member(event, "p", "run_id"), str) and len(event["p"]["run_id"]) > 1000
    ),
    "memory-must-be-a-number": refuses_text(lambda data: b'"80 GB"' in data, "bad_type"),
    "sub-dropped": distorts(_without("p", "sub")),
    "failed-needs-an-error": refuses(
        lambda event: (
            member(event, "p", "status") == "failed" and event["t"] == "run_end" and "error" not in event["p"]
        ),
        "missing_field",
    ),
    "params-flattened": distorts(_flattened),
    "empty-batch-refused": refuses(lambda event: event["t"] == "metric_batch" and not event["p"]["metrics"]),
    "progress-beyond-total-refused": refuses(
        lambda event: (member(event, "p", "progress", "cur") or 0) > (member(event, "p", "progress", "total") or 1e9),
        "out_of_range",
    ),
}
"""The members of events."""

MUTANTS: dict[str, Mutation] = (
    TEXT
    | VALUES
    | ENVELOPES
    | EVENTS
    | decoder_text.MUTANTS
    | decoder_numbers.MUTANTS
    | decoder_slots.MUTANTS
    | decoder_meanings.MUTANTS
)
