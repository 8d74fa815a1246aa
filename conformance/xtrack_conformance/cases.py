"""Cases: what is asked, what must come of it, which clauses say so, and why.

They stand as JSON in ``cases/``, one file a group of clauses, checked against ``schemas/case.schema.json``. A case's
id is never given to another question: ``cases/lock.json`` pins what each asks and expects by its SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final, Literal

import attrs
import cattrs

from xtrack_conformance.data import json_files
from xtrack_conformance.slots import read_event
from xtrack_conformance.values import Tagged, Value, untag

Role = Literal["encoder", "decoder", "framer", "collector", "store", "emitter", "server"]
Level = Literal["MUST", "SHOULD", "MAY", "INFO"]
Kind = Literal["valid", "invalid", "boundary"]
Reader = Literal["strict", "lenient"]
Source = Literal["connection", "recording"]
Codec = Literal["json", "msgpack"]

CLASSES: Final = (
    "truncated", "frame_too_large", "empty_frame", "bad_utf8", "bad_json", "too_deep", "bad_envelope",
    "unsupported_version", "missing_field", "bad_type", "bad_value", "out_of_range",
)  # fmt: skip
"""The classes of errors in frames, in their order of precedence. spec: ERR-1, ERR-2"""

Part = dict[str, Any]
Step = dict[str, Any]


class CaseError(ValueError):
    """The cases that came with this package are damaged or contradict each other."""


@attrs.frozen
class Refused:
    """A refusal that is expected. ``class_``: the class a reader should give; any, where it is None."""

    class_: str | None = None


@attrs.frozen
class Item:
    """What a framer must yield at one place.

    ``offset``: of the first byte of its length. ``length``: bytes in all, the length's four included; None for a fatal
    error. ``rejected``: the class of the error; None for a frame that is accepted. ``due``: once this many bytes were
    fed it must have come; None: at the end at the latest.
    """

    offset: int
    length: int | None = None
    rejected: str | None = None
    fatal: bool = False
    verified: bool = True
    due: int | None = None


@attrs.frozen
class Expect:
    """What must come of a case: one of these.

    ``event``: this event, in the writer's form; of an encoder in this ``codec``, where it isn't in that which was
    chosen. ``not_event``: any legal frame that doesn't stand for this value. ``rejected``: a refusal. ``frames``: these
    frames and errors, in this order.
    """

    event: dict[str, Any] | None = None
    codec: Codec | None = None
    not_event: Tagged | None = None
    rejected: Refused | None = None
    frames: tuple[Item, ...] | None = None


@attrs.frozen
class Input:
    """What a testee is given.

    For a decoder ``payload`` and, unless that is an axis, ``reader``. For an encoder ``event`` in the writer's form, or
    the tagged ``value`` where that has none. For a framer ``feed`` and its ``source``; ``limit``: the configured
    limit of a payload, an encoder's too; ``stop_at_damage``; ``follow``: the file is still being written, and no end is
    told. ``codec``: as on a connection whose ``welcome`` chose it.
    """

    payload: list[Part] | None = None
    reader: Reader | None = None
    event: dict[str, Any] | None = None
    value: Tagged | None = None
    feed: list[Part] | None = None
    source: Source = "connection"
    limit: int | None = None
    stop_at_damage: bool = False
    follow: bool = False
    codec: Codec = "json"

    def data(self) -> bytes:
        """Return the bytes that are decoded or fed."""
        return build(self.payload if self.payload is not None else self.feed or [])

    def encoded_value(self) -> Value:
        """Return the event an encoder is given."""
        return read_event(self.event) if self.event is not None else untag(self.value)


@attrs.frozen
class Case:
    """One question: an ``input`` and what to ``expect``, or for a role that has a memory the steps of a ``script``.

    ``kills``: the mutants of the reference that this case is there to find.
    """

    id: str
    since: int
    role: Role
    level: Level
    kind: Kind
    why: str
    clauses: tuple[str, ...]
    input: Input = Input()
    expect: Expect = Expect()
    script: tuple[Step, ...] = ()
    also_allowed: tuple[Expect, ...] = ()
    needs: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    kills: tuple[str, ...] = ()


def build(parts: Iterable[Part]) -> bytes:
    """Return the bytes that parts stand for, one after the other.

    ``{"text": T}`` in UTF-8; ``{"hex": "00 ff*16"}``; ``{"u32be": N}``; ``{"repeat": PARTS, "times": N}``;
    ``{"frame": PARTS}``: their length before them.
    """
    return b"".join(map(_build_part, parts))


def _build_part(part: Part) -> bytes:
    if "text" in part:
        return str(part["text"]).encode("utf-8")
    if "hex" in part:
        tokens = (token.partition("*") for token in str(part["hex"]).split())
        return b"".join(bytes.fromhex(digits) * int(times or 1) for digits, _, times in tokens)
    if "u32be" in part:
        return int(part["u32be"]).to_bytes(4, "big")
    if "repeat" in part:
        return build(part["repeat"]) * int(part["times"])
    payload = build(part["frame"])
    return len(payload).to_bytes(4, "big") + payload


# ------------------------------------------------------------------------------------------ files


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, prefer_attrib_converters=True)
    renamed = cattrs.gen.override(rename="class")
    converter.register_structure_hook(
        Refused, cattrs.gen.make_dict_structure_fn(Refused, converter, _cattrs_forbid_extra_keys=True, class_=renamed)
    )
    return converter


CONVERTER: Final = _converter()

LOCK: Final = "lock.json"
"""Beside the cases: the digest of each."""


def case_files() -> dict[str, list[dict[str, Any]]]:
    """Return the cases as they stand in their files, by the file's name."""
    return {name: json.loads(text)["cases"] for name, text in json_files("cases").items() if name != LOCK}


def digest(case: dict[str, Any]) -> str:
    """Return the SHA-256 of what a case asks and expects; its texts and mutants may be mended."""
    judged = {name: value for name, value in case.items() if name not in {"why", "kills", "clauses", "kind"}}
    return hashlib.sha256(json.dumps(judged, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_lock() -> dict[str, str]:
    """Return the digest of each case by its id."""
    found: dict[str, str] = json.loads(json_files("cases")[LOCK])["cases"]
    return found


@cache
def load_cases() -> tuple[Case, ...]:
    """Return all cases, in the order of their files. Raises CaseError when they aren't those of the lock."""
    lock = read_lock()
    cases: list[Case] = []
    for name, entries in case_files().items():
        for entry in entries:
            case_id = str(entry.get("id"))
            if lock.pop(case_id, None) != digest(entry):
                raise CaseError(f"{name}: the case {case_id!r} is twice there, or not the one that lock.json pins")
            try:
                cases.append(CONVERTER.structure(entry, Case))
            except Exception as error:
                lines = "; ".join(cattrs.transform_error(error))
                raise CaseError(f"{name}: the case {case_id!r}: {lines}") from error
    if lock:
        raise CaseError(f"lock.json pins cases that aren't there: {', '.join(sorted(lock))}")
    return tuple(cases)


SMOKE: Final = (
    "frm-first-example",
    "frm-two-frames",
    "frm-empty-frame",
    "jsn-white-space-around",
    "jsn-trailing-text",
    "env-unknown-type",
    "env-without-m",
    "val-int64-max",
    "enc-metric",
    "enc-nan",
)
"""Ten cases that fail for a testee rather than for an implementation."""


def select(cases: Sequence[Case], wanted: Sequence[str] = (), roles: Sequence[str] = ()) -> list[Case]:
    """Return the cases that are wanted, by id, by the beginning of an id that ends in ``*``, or by clause.

    Raises CaseError for one that nothing answers to.
    """
    for name in wanted:
        if not any(_answers_to(case, name) for case in cases):
            raise CaseError(f"no case or clause {name!r}. The verb `list` shows them")
    return [
        case
        for case in cases
        if (not wanted or any(_answers_to(case, name) for name in wanted)) and (not roles or case.role in roles)
    ]


def _answers_to(case: Case, name: str) -> bool:
    if name.endswith("*"):
        return case.id.startswith(name[:-1])
    return name == case.id or name in case.clauses
