"""Mutants of the decoder that read the text aright, and take what it says for something else."""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Callable
from typing import Any

from tools import Json, Mutation, always_misreads, distorts, everywhere, member, refuses, refuses_text, takes
from tools_slots import refuses_in_slots

from xtrack_conformance.slots import CONTROL, EVENTS


def _strings(change: Callable[[str], str]) -> Mutation:
    """Make a mutant that hands on other strings than stand in a body."""

    def apply(event: Json) -> Json:
        return {**event, "p": everywhere(lambda leaf: change(leaf) if isinstance(leaf, str) else leaf)(event["p"])}

    return distorts(apply)


def _names(change: Callable[[str], str]) -> Mutation:
    """Make a mutant that hands on other names of tags, and other keys of params and metrics."""

    def apply(event: Json) -> None:
        body = event["p"]
        if event["t"] == "tags":
            body["tags"] = {change(name): value for name, value in body["tags"].items()}
        if event["t"] in {"param", "metric"}:
            body["key"] = change(body["key"])

    return distorts(apply)


def _tags(change: Callable[[dict[str, str]], Any]) -> Mutation:
    def apply(event: Json) -> None:
        if event["t"] == "tags":
            event["p"]["tags"] = change(event["p"]["tags"])

    return distorts(apply)


def _nested(tags: dict[str, str]) -> Any:
    """Take dots in names for levels."""
    found: Json = {}
    for name, value in tags.items():
        first, dot, rest = name.partition(".")
        found[first] = {rest: value} if dot else value
    return found


def _maps(applies: Callable[[Any], bool]) -> Mutation:
    return refuses(lambda event: any(isinstance(item, dict) and applies(item) for item in event["p"].values()))


def _checksums(applies: Callable[[str], bool]) -> Mutation:
    return refuses_in_slots("checksum", lambda _, value: isinstance(value, str) and applies(value), "bad_value")


def _order(*orders: str) -> Mutation:
    """Make a mutant that takes the members of an envelope in these orders only."""

    def applies(payload: bytes) -> bool:
        try:
            tree = json.loads(payload)
        except (ValueError, RecursionError):
            return False
        return isinstance(tree, dict) and tree.keys() == set("tvmp") and "".join(tree) not in orders

    return refuses_text(applies, "bad_envelope")


def _run_first(payload: bytes) -> bool:
    try:
        body = member(json.loads(payload), "p")
    except (ValueError, RecursionError):
        return False
    return isinstance(body, dict) and "run_id" in body and next(iter(body)) != "run_id"


def _envelope(applies: Callable[[Json], bool]) -> Mutation:
    """Make a mutant that accepts an object that is no envelope of version 1."""
    return takes(lambda tree: isinstance(tree, dict) and applies(tree), "bad_envelope", "unsupported_version")


def _loosely_one(tree: Json) -> bool:
    """Say whether JavaScript's == takes a version for 1."""
    version = tree.get("v")
    return version is True or version in ("1", [1], ["1"])


def _number(value: Any) -> bool:
    return type(value) in {int, float}


def _error(event: Json) -> Any:
    return event["p"].get("error") if event["t"] == "run_end" else None


def _seq(types: Any, applies: Callable[[int], bool]) -> Mutation:
    return refuses(lambda event: event["t"] in types and applies(event["m"]["seq"]), "out_of_range")


def _unknown(applies: Callable[[Json], bool]) -> Mutation:
    """Make a mutant that refuses events of unknown types for what is in their bodies."""
    return refuses(lambda event: event["t"] not in EVENTS and event["t"] not in CONTROL and applies(event["p"]))


def _type(change: Callable[[str], str]) -> Mutation:
    """Make a mutant that takes types for others."""

    def swap(payload: bytes) -> bytes:
        found = re.match(rb'\{"t":"([\x20-\x7e]*?)"', payload)
        return b'{"t":"%s"' % change(found[1].decode()).encode() + payload[found.end() :] if found else payload

    return always_misreads(swap)


def _by_prefix(name: str) -> str:
    """Return the known type that an unknown one begins with."""
    known = {**EVENTS, **CONTROL}
    return name if name in known else next((other for other in known if name.startswith(other)), name)


STRINGS: dict[str, Mutation] = {
    "invisible-characters-dropped": _strings(
        lambda text: "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    ),
    "line-separators-are-newlines": _strings(lambda text: "\n".join(text.splitlines()) if text else text),
    "noncharacters-replaced": _strings(lambda text: re.sub("[\ufffe\uffff\U0010fffe\U0010ffff]", "\ufffd", text)),
    "strings-cut": _strings(lambda text: text[:4096]),
    "html-unescaped": _strings(html.unescape),
    "escapes-resolved-twice": _strings(
        lambda text: re.sub(r"\\u([0-7][0-9a-f]{3})", lambda found: chr(int(found[1], 16)), text)
    ),
    "params-become-json-text": distorts(
        lambda event: event["p"].update(value=json.dumps(event["p"]["value"])) if event["t"] == "param" else None
    ),
    "names-cleaned": _names(lambda name: re.sub(r"[^A-Za-z0-9_]", "_", name)),
    "names-with-dots-nested": _tags(_nested),
    "names-of-digits-are-places": _tags(lambda tags: list(tags.values()) if tags and set(tags) == {"0"} else tags),
    "names-of-prototypes-dropped": _tags(
        lambda tags: {name: item for name, item in tags.items() if name not in {"__proto__", "constructor"}}
    ),
    "names-of-their-own-dropped": _tags(
        lambda tags: {name: item for name, item in tags.items() if not name.startswith("xtrack.")}
    ),
    "maps-of-256": _maps(lambda item: len(item) > 256),
    "digests-in-capitals-refused": _checksums(lambda text: re.search("[A-F]{2}", text) is not None),
    "digests-need-a-prefix": _checksums(lambda text: ":" not in text),
    "digests-are-hexadecimal": _checksums(lambda text: re.fullmatch("[0-9a-fA-F]+", text) is None),
}
"""What strings and names become."""

ENVELOPES: dict[str, Mutation] = {
    "writers-order-required": _order("tvmp"),
    "runs-come-first": refuses_text(_run_first, "bad_envelope"),
    "any-json-is-an-event": takes(lambda tree: not isinstance(tree, dict), "bad_envelope"),
    "type-may-be-absent": _envelope(lambda tree: tree.get("t") is None),
    "body-may-be-absent": _envelope(lambda tree: tree.get("p") is None and "t" in tree),
    "meta-may-be-null": _envelope(lambda tree: "m" in tree and tree["m"] is None),
    "version-may-be-null": _envelope(lambda tree: "v" in tree and tree["v"] is None),
    "types-of-anything": _envelope(lambda tree: tree.get("t") is not None and not isinstance(tree["t"], str)),
    "meta-of-anything": _envelope(lambda tree: tree.get("m") is not None and not isinstance(tree["m"], dict)),
    "body-of-anything": _envelope(lambda tree: tree.get("p") is not None and not isinstance(tree["p"], dict)),
    "version-compared-loosely": _envelope(_loosely_one),
    "version-cut": _envelope(lambda tree: isinstance(tree.get("v"), float) and 1 < tree["v"] < 2),
    "later-versions-taken": _envelope(lambda tree: _number(tree.get("v")) and tree["v"] >= 2),
    "earlier-versions-taken": _envelope(lambda tree: _number(tree.get("v")) and tree["v"] < 1),
    "time-may-be-absent": takes(lambda tree: "ts" not in (member(tree, "m") or {"ts": 1}), "missing_field"),
    "seq-of-anything": takes(lambda tree: not _number((member(tree, "m") or {}).get("seq", 1)), "bad_type"),
    "time-zero-is-absence": refuses(lambda event: event["m"]["ts"] == 0, "missing_field"),
    "first-must-be-run-start": _seq(EVENTS.keys() - {"run_start"}, lambda seq: seq == 1),
    "control-seq-must-be-zero": _seq(CONTROL, lambda seq: seq != 0),
    "negative-seq-accepted": takes(lambda tree: (member(tree, "m", "seq") or 0) < 0, "out_of_range"),
    "types-trimmed": _type(str.strip),
    "types-by-prefix": _type(_by_prefix),
    "types-are-identifiers": refuses(lambda event: re.fullmatch("[a-z][a-z_]*", event["t"]) is None),
    "types-found-in-prototypes": refuses(lambda event: event["t"] in {"__proto__", "constructor"}),
    "types-of-255-bytes": refuses(lambda event: len(event["t"]) > 255),
    "unknown-types-need-a-run": _unknown(lambda body: "run_id" not in body),
    "runs-of-unknown-types-checked": _unknown(lambda body: not isinstance(body.get("run_id", ""), (str, dict))),
    "empty-bodies-refused": refuses(lambda event: event["p"] == {}, "bad_envelope"),
}
"""What stands around an event."""

EVENTS_: dict[str, Mutation] = {
    "sizes-of-a-world-checked": refuses(
        lambda event: (
            event["t"] == "run_start" and _number(event["p"].get("world_size")) and event["p"]["world_size"] < 1
        ),
        "out_of_range",
    ),
    "statuses-of-a-run-only": refuses(
        lambda event: (
            event["t"] == "status" and event["p"]["status"] not in {"running", "completed", "failed", "killed"}
        )
    ),
    "completed-takes-no-error": refuses(
        lambda event: _error(event) is not None and event["p"]["status"] == "completed"
    ),
    "errors-need-a-type": refuses(lambda event: _error(event) is not None and not _error(event).get("type")),
    "errors-need-a-message": refuses(lambda event: _error(event) is not None and not _error(event).get("message")),
    "paths-outside-refused": refuses(lambda event: ".." in str(member(event, "p", "path"))),
    "progress-needs-a-total": refuses(
        lambda event: member(event, "p", "progress") is not None and member(event, "p", "progress", "total") is None
    ),
}
"""What events mean."""

MUTANTS: dict[str, Mutation] = STRINGS | ENVELOPES | EVENTS_
