"""The examples of the specification: each block of bytes in its pages is asked, as docs/spec/README.md says what must come of it.

Those of segments stand with the cases of segments (``rst.py``).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from generate.dsl import Group, Json, Piece
from xtrack_conformance.cases import build

SPEC = Path(__file__).parents[2] / "docs" / "spec"
PREFIX = 4
_LINE = re.compile(r"^## ([A-Z]+(?:-[A-Z_0-9]+)?)\b|^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of bytes: ``name``, its page, the section that it stands in, and which of its blocks it is.

    ``tag`` and ``options``: what stands behind its fence. ``tokens``: its bytes in hexadecimal. ``told``: the JSON behind
    it, or None.
    """

    name: str
    tag: str
    options: dict[str, str]
    tokens: list[str]
    told: Any

    @property
    def data(self) -> bytes:
        """The bytes."""
        return build([{"hex": " ".join(self.tokens)}])


TAGS = ("frame", "frame-error", "messagepack", "messagepack-error", "connection", "recording")


def blocks() -> list[Block]:
    """Return the blocks of all pages."""
    found: list[Block] = []
    for path in sorted(SPEC.glob("*.md")):
        matches = list(_LINE.finditer(path.read_text("utf-8")))
        section, counts = "", Counter[str]()
        for index, match in enumerate(matches):
            if match[1]:
                section = f"{path.stem}-{match[1].lower().replace('_', '-')}"
                continue
            tag, *words = match[2].split() or [""]
            if tag not in TAGS:
                continue
            counts[section] += 1
            options = {word.partition("=")[0]: word.partition("=")[2] for word in words}
            tokens = [token for line in match[3].splitlines() for token in line.partition("|")[0].split()]
            after = matches[index + 1] if index + 1 < len(matches) else None
            told = json.loads(after[3]) if after is not None and after[2] == "json" else None
            found.append(Block(f"{section}-{counts[section]}", tag, options, tokens, told))
    return found


class Asked(NamedTuple):
    """What a block is asked for. ``same``: the case that asks the same bytes already, in place of one of its own."""

    clauses: str
    why: str
    kills: str = ""
    kind: str = ""
    same: str = ""


EXAMPLES: dict[str, Asked] = {
    "control-ctl-2-1": Asked("CTL-1.2", "a command with arguments", "control-needs-a-seq"),
    "control-ctl-3-1": Asked("CTL-1.2", "an ack that names refused seqs", "loses-ack.rejected control-needs-a-seq"),
    "control-ctl-9-1": Asked("CTL-1.2", "a skip of lost events", "control-needs-a-seq"),
    "envelope-env-1-1": Asked("ENV-1 ENV-1.1", "an array is no envelope", "meta-may-be-absent"),
    "envelope-env-1-2": Asked("", "", same="err-class-bad-envelope"),
    "envelope-env-2-1": Asked("ENV-2", "a version that nobody knows", "later-versions-taken"),
    "envelope-env-4-1": Asked("ENV-4.3", "seq 0 in an event of a run", "seq-zero-accepted", kind="boundary"),
    "envelope-env-5-1": Asked("ENV-5 ENV-5.2 ENV-5.4", "an event of a later text", "unknown-type-is-an-error unknown-body-lost"),
    "envelope-env-6-1": Asked("ENV-6", "members that nobody knows, in every object", "unknown-numbers-bounded"),
    "envelope-env-7-1": Asked("ENV-1.2 ENV-7.1", "the first example in the writer's order", "integers-in-32-bits"),
    "errors-err-2-1": Asked("ENV-2 ERR-1.1 ERR-2", "three faults: the version is told", "later-versions-taken"),
    "errors-err-2-2": Asked("EVT-1.1 ERR-1.1 ERR-2", "two faults: the missing member is told", "metric-without-key"),
    "events-evt-run-start-1": Asked("EVT-RUN_START-1 EVT-1.3", "a start with an experiment", "experiment-dropped worker-id-dropped"),
    "events-evt-run-start-2": Asked("EVT-RUN_START-5.1 JSN-6.7 EVT-1.4", "a start as a worker of before writes it", "memory-must-be-a-number run-id-objects-refused", kind="boundary"),
    "events-evt-run-end-1": Asked("EVT-RUN_END-1 VAL-3.1", "a run that failed", "final-metrics-dropped nan-is-null"),
    "events-evt-param-1": Asked("EVT-PARAM-1", "a part of a nested name", "loses-param.nested_key"),
    "events-evt-metric-batch-1": Asked("EVT-METRIC_BATCH-1 VAL-3.1", "several metrics, one of them not a number", "context-dropped nan-is-null"),
    "events-evt-artifact-1": Asked("EVT-ARTIFACT-1 EVT-ARTIFACT-2", "an artifact of a type that nobody has listed", "open-sets-are-closed"),
    "events-evt-checkpoint-1": Asked("EVT-CHECKPOINT-1", "a checkpoint, the best", "booleans-are-false"),
    "events-evt-status-1": Asked("EVT-STATUS-1", "what the worker does", "loses-status.progress"),
    "events-evt-log-1": Asked("EVT-LOG-1 VAL-4.3 JSN-6.2", "a line with fields, infinity and null among them", "float-form-unread null-dropped-in-free-slots"),
    "events-evt-tags-1": Asked("EVT-TAGS-1", "the tags of a run", "loses-tags.tags"),
    "events-evt-alert-1": Asked("EVT-ALERT-1", "an alert of the run", "loses-alert.key"),
    "events-evt-summary-1": Asked("EVT-SUMMARY-1", "a summary of the run", "loses-summary.values"),
    "framing-frm-1-1": Asked("FRM-1.3 ENV-1.2", "the smallest useful example", "writers-order-required"),
    "framing-frm-2-1": Asked("", "", same="frm-empty-frame"),
    "framing-frm-3-1": Asked("FRM-3.4 FRM-5", "a browser speaks to a collector", "first-byte-waits fatal-length-by-pieces"),
    "framing-frm-5-1": Asked("FRM-5.4 ERR-3.2 ERR-4", "a bad payload between two good ones", "bad-payload-is-fatal skips-bad-frames-silently"),
    "framing-frm-6-1": Asked("FRM-6.1 FRM-6.5 FRM-6.8 FRM-6.10 FRM-7", "a flipped bit in a length", "forgets-unverified gives-up-at-damage"),
    "framing-frm-6-2": Asked("FRM-6.1 FRM-6.2 FRM-6.3", "a flipped bit in a text", "always-unverified-after-damage gives-up-at-damage"),
    "framing-frm-6-3": Asked("FRM-6.8 FRM-2.2", "a tail that was never written", "each-four-zeros-an-error accepts-empty-frames", kind="boundary"),
    "values-jsn-1-1": Asked("JSN-1.1", "no UTF-8 in a member that nobody knows", "unknown-members-unchecked", kind="boundary"),
    "values-jsn-1-2": Asked("JSN-1.2", "an overlong form", "overlong-utf8"),
    "values-jsn-1-3": Asked("JSN-1.5", "something behind the text", "trailing-text-ignored"),
    "values-jsn-1-4": Asked("JSN-1.6", "a byte order mark", "byte-order-mark-skipped"),
    "values-jsn-1-5": Asked("JSN-1.4 JSN-1.8", "white space, an escaped zero, a pair of surrogates", "white-space-around-refused escaped-pairs-refused"),
    "values-jsn-2-1": Asked("", "", same="err-class-too-deep"),
    "values-jsn-2-2": Asked("JSN-2.1", "one level less", "depth-one-less", kind="boundary"),
    "values-jsn-3-1": Asked("JSN-3", "half of a surrogate pair", "lone-surrogates-accepted"),
    "values-jsn-4-1": Asked("JSN-4", "integers with a fraction or an exponent", "integers-in-digits-only exponents-refused"),
    "values-jsn-4-2": Asked("JSN-4 VAL-1.3", "a step of one and a half", "integers-truncated"),
    "values-jsn-6-1": Asked("JSN-6 JSN-6.5", "null in place of absence", "null-is-no-absence"),
    "values-jsn-6-2": Asked("JSN-6.1", "null in a required member", "null-for-required"),
    "values-jsn-6-3": Asked("EVT-1.1 JSN-6.1", "and the same member absent", "absent-numbers-are-zero", kind="boundary"),
    "values-jsn-7-1": Asked("JSN-7 JSN-7.2", "a bare NaN, to a lenient reader", "nan-is-null"),
    "values-jsn-7-2": Asked("JSN-7.4", "another spelling of it", "numbers-by-python"),
    "values-msg-1": Asked("MSG-3 MSG-2", "a metric in MessagePack", "msgpack-only-json"),
    "values-msg-2": Asked("MSG-3.2", "bin in a free slot", "msgpack-foreign-types-taken"),
    "values-val-1-1": Asked("VAL-1.4 VAL-1.5", "the ends of int64, and 2^53 + 1", "numbers-are-floats least-integer-refused", kind="boundary"),
    "values-val-1-2": Asked("VAL-1.1", "an integer beyond int64", "integers-wrap", kind="boundary"),
    "values-val-1-3": Asked("VAL-1.2", "a boolean in an integer slot", "booleans-are-integers"),
    "values-val-2-1": Asked("VAL-2.2 VAL-2.3 VAL-2.5", "numbers of every size", "sign-of-zero-lost underflow-refused", kind="boundary"),
    "values-val-2-2": Asked("VAL-2.4", "a number beyond binary64", "overflow-is-infinity"),
    "values-val-2-3": Asked("VAL-2.9", "true in a number slot, to a lenient reader", "lenient-refuses-booleans"),
    "values-val-2-4": Asked("VAL-2.8", "true in a number slot, to a strict reader", "strict-takes-booleans"),
    "values-val-3-1": Asked("VAL-3.1 VAL-3.3", "not a number, and the infinities", "nan-is-null infinities-are-one"),
    "values-val-3-2": Asked("VAL-3.2", "digits in a string", "digits-in-strings"),
    "values-val-4-1": Asked("VAL-4.3 VAL-4.4 VAL-4.6 VAL-4.8", "a form, a string, true, null, and no form", "float-form-unread strings-become-numbers-in-free-slots"),
    "values-val-6-1": Asked("VAL-6", "a status that isn't in the set", "closed-sets-are-open"),
}  # fmt: skip
"""Each block, by its name."""


class Examples(Group):
    """The cases, of which those with MessagePack need it."""

    def add(self, case_id: str, role: str, clauses: str, why: str, **members: Any) -> None:
        """Add a case."""
        if members["input"].get("codec"):
            members["needs"] = ["messagepack"]
        super().add(case_id, role, clauses, why, **members)


def cases() -> Examples:
    """Return the cases."""
    g = Examples("exa")
    found = blocks()
    names = [block.name for block in found]
    if names != list(dict.fromkeys(names)) or set(names) != EXAMPLES.keys():
        raise SystemExit(f"examples.py and the pages differ: {sorted(set(names) ^ EXAMPLES.keys())}")
    for block in found:
        asked = EXAMPLES[block.name]
        if not asked.same:
            is_stream = block.tag in {"connection", "recording"} or len(block.tokens) == PREFIX
            (_stream if is_stream else _one)(g, block, asked)
    for page in dict.fromkeys(name.partition("-")[0] for name in names):
        _page(g, page, [block for block in found if block.name.startswith(f"{page}-")])
    return g


def _one(g: Examples, block: Block, asked: Asked) -> None:
    """Add the payload of one frame."""
    given: Json = {"payload": [{"hex": " ".join(block.tokens[PREFIX:])}]}
    if block.tag.startswith("messagepack"):
        given["codec"] = "msgpack"
    reader = block.options.get("reader", "lenient" if "lenient" in block.options else "")
    if reader:
        given["reader"] = reader
    is_error = "class" in block.options
    expect: Json = {"rejected": {"class": block.options["class"]}} if is_error else {"event": block.told}
    kind = asked.kind or ("invalid" if is_error else "valid")
    axes = [] if reader else ["reader"]
    more = {"kind": kind, "axes": axes, "kills": asked.kills}
    g.add(f"exa-{block.name}", "decoder", asked.clauses, asked.why, input=given, expect=expect, **more)


def _stream(g: Examples, block: Block, asked: Asked) -> None:
    """Add the bytes of a connection or recording."""
    source = "recording" if block.tag == "recording" else "connection"
    told = block.told or [{"offset": 0, "error": block.options["class"], "fatal": True}]
    ends = [*(item["offset"] for item in told[1:]), len(block.data)]
    pieces = []
    for item, end in zip(told, ends, strict=True):
        piece = Piece([{"hex": block.data[item["offset"] : end].hex(" ")}], _says(item))
        if item.get("fatal"):
            piece.due = None
        assert item.get("length", piece.size) == piece.size, block.name
        pieces.append(piece)
    kind = asked.kind or ("invalid" if any("error" in item for item in told) else "valid")
    add = g.recording if source == "recording" else g.feed
    add(f"exa-{block.name}", asked.clauses, asked.why, pieces, kind=kind, kills=asked.kills)


def _says(item: Json) -> Json:
    """Return what a framer must tell of an item of a list."""
    if "error" in item:
        return {"rejected": item["error"]} | ({"fatal": True} if item.get("fatal") else {})
    return {} if item.get("verified", True) else {"verified": False}


def _page(g: Examples, page: str, found: list[Block]) -> None:
    """Add the frames of a page on one connection, apart from those that readers differ about."""
    for tag, codec in (("frame", None), ("messagepack", "msgpack")):
        here = [block for block in found if block.tag in {tag, f"{tag}-error"} and len(block.tokens) > PREFIX]
        pieces = [
            Piece(
                [{"hex": " ".join(block.tokens)}],
                {"rejected": block.options["class"]} if "class" in block.options else {},
            )
            for block in here
            if not block.options.keys() & {"lenient", "reader"}
        ]
        if len(pieces) < 2:
            continue
        clauses = "FRM-1.2 FRM-1.5" + (" FRM-5.4" if any(piece.says for piece in pieces) else "")
        more = {"codec": codec, "kills": "msgpack-only-json"} if codec else {"kills": "length-counts-itself"}
        g.feed(f"exa-{page}-{tag}s", clauses, "the frames of the page, one behind the other", pieces, **more)
