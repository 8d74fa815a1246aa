"""Mutants of the encoder: each writes one thing otherwise than the specification says."""

from __future__ import annotations

import json
import math
import re
from types import ModuleType
from typing import Any

import encoder_slots
from tools import Json, Mutation, dump, everywhere, member, refuses_to_write, writes_anyway, writing


def _length(change: Any) -> Mutation:
    """Make a mutant that writes another length."""

    def mutate(module: ModuleType) -> None:
        original = module.encode_frame

        def encode_frame(envelope: Any, codec: Any = "json") -> bytes:
            payload = original(envelope, codec)[4:]
            length: bytes = change(len(payload))
            return length + payload

        module.encode_frame = encode_frame

    return mutate


def _replaced(pattern: bytes, replacement: bytes) -> Mutation:
    return writing(lambda payload, _: re.sub(pattern, replacement, payload))


def _non_finite(as_text: Any) -> Mutation:
    def text(event: Json) -> str | None:
        value = member(event, "p", "value")
        if not (isinstance(value, float) and not math.isfinite(value)):
            return None
        return str(as_text(event))

    return writes_anyway(text)


def _nan_text(event: Json) -> str | None:
    found: list[float] = []
    everywhere(lambda leaf: found.append(leaf) if isinstance(leaf, float) and leaf != leaf else None)(event["p"])
    if not found or event["t"] != "param":
        return None
    return dump(everywhere(lambda leaf: "NaN" if isinstance(leaf, float) and leaf != leaf else leaf)(event))


def _through_binary64(payload: bytes, _event: Json) -> bytes:
    return re.sub(rb":(-?\d{16,})(?=[,}])", lambda found: b":" + repr(float(found[1])).encode(), payload)


def _is_deep(event: Json) -> bool:
    return dump(event).count("[") > 60


def _is_control(event: Json) -> bool:
    return event["t"] in {"ping", "ack"}


def _without_empty(member_of: Any) -> Mutation:
    """Make a mutant that leaves out what ``member_of`` an event's value is."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: cut(item) for name, item in value.items() if not member_of(item)}
        return value

    return writing(lambda payload, event: dump({**json.loads(payload), "p": cut(event["p"])}).encode())


def _any_seq(event: Json) -> str | None:
    seq = event["m"]["seq"]
    return dump(event) if (seq != 0 if _is_control(event) else event["t"] == "metric" and seq < 1) else None


def _any_memory(event: Json) -> str | None:
    found = (member(event, "p", "env", "gpu_info") or [{}])[0].get("memory")
    return dump(event).replace("NaN", '"NaN"') if isinstance(found, float) and found != found else None


def _forms_beyond(event: Json) -> str | None:
    if event["t"] != "param" or not _is_deep(event) or "NaN" not in dump(event):
        return None
    return dump(event).replace("NaN", '{"$float":"NaN"}')


def _lists_for_maps(event: Json) -> str | None:
    return dump(event) if isinstance(member(event, "p", "fields"), list) else None


def _checksum(change: Any) -> Mutation:
    """Make a mutant that writes checksums otherwise: ``change`` has the one it was given and the one to be written."""

    def write(payload: bytes, event: Json) -> bytes:
        given = member(event, "p", "checksum")
        tree = json.loads(payload)
        if given is None:
            return payload
        tree["p"]["checksum"] = change(given, tree["p"]["checksum"])
        return dump(tree).encode()

    return writing(write)


def _has_surrogates(event: Json) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in dump(event))


def _changing(module: ModuleType) -> None:
    """Write the members of an event in another order each second time."""
    count = 0

    def change(payload: bytes, _event: Json) -> bytes:
        nonlocal count
        count += 1
        tree = json.loads(payload)
        return dump(dict(sorted(tree.items(), reverse=count % 4 > 1))).encode()

    writing(change)(module)


WRITTEN: dict[str, Mutation] = {
    "writes-in-changing-order": _changing,
    "writes-a-name-twice": _replaced(rb'"level":', b'"level":"info","level":'),
    "writes-length-little-endian": _length(lambda size: size.to_bytes(4, "little")),
    "writes-length-of-itself": _length(lambda size: (size + 4).to_bytes(4, "big")),
    "writes-a-newline": writing(lambda payload, _: payload + b"\n"),
    "writes-v-first": writing(lambda payload, _: re.sub(rb'^\{("t":"[^"]*"),"v":1,', rb'{"v":1,\1,', payload)),
    "writes-spaces": writing(lambda payload, _: json.dumps(json.loads(payload)).encode()),
    "writes-null-for-absence": writing(
        lambda payload, event: (
            payload.replace(b'"p":{', b'"p":{"step":null,').replace(b'"ts":1', b'"ts":1,"wid":null')
            if event["t"] == "metric" and event["p"].get("step") is None
            else payload
        )
    ),
    "writes-names-of-python": _replaced(rb'"metrics":(?=.*"is_best")', b'"metrics_snapshot":'),
    "writes-no-context": _replaced(rb',"ctx":\{[^}]*\}', b""),
    "writes-bare-tokens": _non_finite(dump),
    "writes-nan-as-null": _non_finite(lambda event: dump(event).replace("NaN", "null")),
    "writes-nan-as-string-in-free-slots": writes_anyway(_nan_text),
    "writes-six-digits": writing(
        lambda payload, _: re.sub(rb"\d\.\d{7,}", lambda found: b"%.6g" % float(found[0]), payload)
    ),
    "writes-whole-floats-as-integers": _replaced(rb'("value":\d+)\.0(?=[,}])', rb"\1"),
    "writes-integers-by-way-of-binary64": writing(_through_binary64),
    "writes-bare-controls": writing(lambda payload, _: payload.replace(b"\\t", b"\t")),
    "writes-latin-1": writing(lambda payload, _: payload.replace("\u00e9".encode(), b"\xe9")),
    "drops-null-params": _replaced(rb',"value":null', b""),
    "writes-any-depth": writes_anyway(lambda event: dump(event) if _is_deep(event) else None),
    "writes-lone-surrogates": writes_anyway(
        lambda event: json.dumps(event, separators=(",", ":")) if _has_surrogates(event) else None
    ),
    "writes-big-integers": writes_anyway(
        lambda event: dump(event) if member(event, "p", "value") in (2**63, [{"a": -(10**30)}]) else None
    ),
    "writes-fake-float-forms": writes_anyway(
        lambda event: dump(event) if member(event, "p", "value", "$float") == "NaN" else None
    ),
    "writes-any-seq": writes_anyway(_any_seq),
    "writes-any-version": writes_anyway(lambda event: dump(event) if event["v"] != 1 else None),
    "writes-nothing-for-an-empty-event": writes_anyway(
        lambda event: "" if (event["t"], event["p"]) == ("", {}) else None
    ),
    "writes-32-levels-at-most": refuses_to_write(lambda event: dump(event).count("[") > 32),
    "writes-steps-with-a-fraction": _replaced(rb'("step":-\d+)(?=[,}])', rb"\1.0"),
    "refuses-memory-named-nan": refuses_to_write(
        lambda event: [device.get("memory") for device in member(event, "p", "env", "gpu_info") or []] == ["NaN"]
    ),
    "writes-sid-of-control-events": writes_anyway(
        lambda event: dump(event) if _is_control(event) and "sid" in event["m"] else None
    ),
    "writes-any-memory": writes_anyway(_any_memory),
    "cuts-big-integers": writes_anyway(
        lambda event: (
            dump(everywhere(lambda leaf: 2**63 - 1 if leaf == 2**63 else leaf)(event))
            if member(event, "p", "values", "a") == 2**63
            else None
        )
    ),
    "writes-endless-integers": writes_anyway(
        lambda event: dump(event) if event["t"] == "metric" and event["p"]["value"] == 10**399 else None
    ),
    "writes-fractions-in-integer-slots": writes_anyway(
        lambda event: dump(event) if member(event, "p", "step") == 1.5 else None
    ),
    "writes-strings-in-unknown-types": writes_anyway(
        lambda event: (
            dump(event).replace("NaN", '"NaN"', 1).replace("-Infinity", '"-Infinity"')
            if event["t"] == "energy" and isinstance(event["p"].get("a"), float)
            else None
        )
    ),
    "needs-an-error-to-write": refuses_to_write(
        lambda event: event["t"] == "run_end" and event["p"]["status"] == "failed" and "error" not in event["p"]
    ),
    "cuts-users-out-of-urls": _replaced(rb'("git_repo":"\w+://)[^/"]*@', rb"\1"),
    "forms-take-no-level": writes_anyway(_forms_beyond),
    "writes-bare-checksums": _checksum(lambda given, _: given),
    "writes-checksums-in-capitals": _checksum(
        lambda _, right: f"sha256:{right[7:].upper()}" if right.startswith("sha256:") else right
    ),
    "writes-any-64-letters-as-sha256": _checksum(lambda given, right: f"sha256:{given}" if len(given) == 64 else right),
    "writes-all-checksums-small": _checksum(lambda _, right: right.lower()),
    "writes-lists-for-maps": writes_anyway(_lists_for_maps),
    "writes-no-empty-objects": _without_empty(lambda item: item == {}),
    "writes-no-empty-strings": _without_empty(lambda item: item == ""),
    "writes-booleans-as-numbers": writes_anyway(
        lambda event: (
            dump(event)
            if any(value is True for value in (member(event, "p", "value"), member(event, "p", "values", "a")))
            and event["t"] in {"metric", "summary"}
            else None
        )
    ),
}
"""What is written."""

MUTANTS: dict[str, Mutation] = WRITTEN | encoder_slots.MUTANTS
