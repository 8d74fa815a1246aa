"""Steps of files at rest: plain files and segments are read, followed while they grow, and written."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

from xtrack_conformance.protocol import BadAnswer, bytes_text
from xtrack_conformance.scripts.store_common import (
    Exchange,
    Step,
    Steps,
    Talk,
    Wrong,
    ask,
    compact,
    listed,
    make,
    member,
    raw,
    same_event,
)
from xtrack_conformance.segments import (
    BLOCK,
    START,
    BadSegment,
    Item,
    check_written,
    header_of,
    items_of,
    kind_of,
)
from xtrack_conformance.values import shown

FLIP_EVERY: Final = 3
"""Of so many bytes of a file's records one has a bit turned."""

HEADER_CUTS: Final = (0, 1, 7, 8, 12, 15, 100, BLOCK - 1, BLOCK, BLOCK + 7, START - 1)
"""Places in a header at which a file is ended, too. At the last block's end begin the records."""

HEADER_FLIPS: Final = (0, 7, 8, 11, 12, 40, 200)


def damaged_variants(step: Step, axes: Collection[str]) -> Iterator[tuple[str, Step]]:
    """Yield the name of each way to damage the step's file, and the step that reads what is left of it.

    What must come of it is what our own reader says, which follows the clauses to the letter.
    """
    data = make(step["bytes"])
    if "cut" in axes:
        for size in [*HEADER_CUTS, *range(START, len(data))]:
            yield f"cut {size}", _read_step(step, data[:size])
    if "flip" in axes:
        for number, at in enumerate([*HEADER_FLIPS, *range(START, len(data), FLIP_EVERY)]):
            changed = bytearray(data)
            changed[at] ^= 1 << number % 8
            yield f"flip {at}", _read_step(step, bytes(changed))


def _read_step(step: Step, data: bytes) -> Step:
    return {"do": "file_read", "name": step.get("name", "file"), "bytes": data, "is": expectation(data)}


def expectation(data: bytes) -> dict[str, Any]:
    """Return what a reader must make of a file whose records' payloads are all events."""
    kind = kind_of(data)
    if kind != "segment":
        return {"kind": kind, "items": []} if kind == "plain" else {"kind": kind}
    header = header_of(data)
    if header is None:
        return {"kind": kind, "refused": True}
    return {
        "kind": kind,
        "header": header,
        "items": [_expected(item) for item in items_of(data, int(header["salt"], 16))],
    }


def _expected(item: Item) -> dict[str, Any]:
    told: dict[str, Any] = {"offset": item.offset, "length": item.length}
    if item.kind == "record":
        assert item.payload is not None
        return told | {"seq": item.seq, "t": json.loads(item.payload)["t"]}
    return told | ({"torn": True} if item.kind == "torn" else {"damage": True, "seq": item.seq})


# ------------------------------------------------------------------------------------------ reading


def _file_read(talk: Talk, step: Step) -> Exchange:
    """``is``: ``kind``, and of a segment ``header`` with the members that are judged, ``items`` or ``refused``."""
    data = step["bytes"] if isinstance(step["bytes"], bytes) else make(step["bytes"])
    answer = yield from ask(talk, "store.file_read", name=step.get("name", "file"), bytes=bytes_text(data))
    expected = step["is"]
    kind = member(answer, "kind", str)
    if kind not in {"plain", "segment", "unknown"}:
        raise BadAnswer(f"ok.kind must be plain, segment or unknown, not {shown(kind)}")
    if kind != expected["kind"]:
        raise Wrong("the file is taken for something else", expected["kind"], kind, offset=0, data=data)
    refused = answer.get("refused") is True
    if refused != expected.get("refused", False):
        wanted = "no block of the header holds" if not refused else "the header holds"
        raise Wrong(f"{wanted}, and the file is {'refused' if refused else 'read'}", "", "", offset=0, data=data)
    if refused:
        return
    if "header" in expected:
        _judge_header(expected["header"], member(answer, "header", dict), data)
    if "items" in expected:
        judge_items(talk, expected["items"], listed(answer, "items"), data)


def _judge_header(expected: dict[str, Any], got: dict[str, Any], data: bytes) -> None:
    for name, value in expected.items():
        told = member(got, name, type(value), where="header")
        same = told.lower() == value.lower() if name == "salt" else told == value
        if not same:
            raise Wrong(f"the header's {name} is another", shown(value), shown(told), offset=12, data=data)


_CLASSES: Final = {"damage": "bad_checksum", "torn": "truncated"}


def _place(entry: dict[str, Any], where: str) -> tuple[int, int]:
    return member(entry, "offset", int, where=where), member(entry, "length", int, where=where)


def _what(entry: dict[str, Any]) -> str:
    for name in ("damage", "torn"):
        if entry.get(name) is True:
            return name
    return "error" if "error" in entry else "event"


def judge_items(talk: Talk, expected: Sequence[dict[str, Any]], got: Sequence[dict[str, Any]], data: bytes) -> None:
    """Judge what a reader has told of a file's content."""
    for wanted, entry in zip(expected, got, strict=False):
        _judge_item(talk, wanted, entry, data)
    if len(expected) != len(got):
        place = (expected if len(expected) > len(got) else got)[min(len(expected), len(got))]
        raise Wrong(f"{len(got)} items", f"{len(expected)} items", place, offset=_place(place, "items")[0], data=data)


def _judge_item(talk: Talk, wanted: dict[str, Any], entry: dict[str, Any], data: bytes) -> None:
    offset = wanted["offset"]
    if (_what(wanted), *_place(wanted, "items")) != (_what(entry), *_place(entry, "items")):
        raise Wrong(f"at byte {offset} stands another item", wanted, entry, offset=offset, data=data)
    what = _what(wanted)
    if "seq" in wanted and wanted["seq"] != member(entry, "seq", int, type(None), where="items"):
        raise Wrong(f"the seq of what stands at byte {offset} is another", wanted, entry, offset=offset, data=data)
    if what == "event" and "t" in wanted and wanted["t"] != member(entry, "t", str, where="items"):
        raise Wrong(f"at byte {offset} stands another event", wanted, entry, offset=offset, data=data)
    if what == "error" and entry.get("error") not in {None, wanted["error"]}:
        talk.notes.append(Wrong(f"the error at byte {offset} has another class", wanted, entry))
    if what in _CLASSES and entry.get("class") not in {None, _CLASSES[what]}:
        talk.notes.append(Wrong(f"{what} at byte {offset} has another class (RST-5.8)", _CLASSES[what], entry))
    if what == "event" and "seq" in wanted and entry.get("verified") is False:
        raise Wrong(
            f"the record at byte {offset} is marked as unverified (RST-5.7)", wanted, entry, offset=offset, data=data
        )


def _file_follow(talk: Talk, step: Step) -> Exchange:
    """``at``: where the file ends between two looks at it. ``is``: the records that must have been told in the end."""
    data = make(step["bytes"])
    ends = [*step["at"], len(data)]
    told: list[tuple[int, int, int]] = []
    damaged: list[tuple[int, int]] = []
    for begin, end in zip([0, *ends[:-1]], ends, strict=True):
        answer = yield from ask(talk, "store.file_follow", bytes=bytes_text(data[begin:end]))
        for entry in listed(answer, "items"):
            what, place = _what(entry), _place(entry, "items")
            if what == "torn":
                raise Wrong(
                    f"a torn tail at byte {place[0]} is told, of a file that still grows",
                    "",
                    entry,
                    offset=end,
                    data=data,
                )
            if what == "damage":
                damaged.append(place)
            else:
                told.append((*place, member(entry, "seq", int, where="items")))
    expected = [(*_place(entry, "is"), entry["seq"]) for entry in step["is"]]
    if told != expected:
        raise Wrong("the records that were told (offset, length, seq)", expected, told, data=data)
    for offset, length, seq in expected:
        if any(first < offset + length and first + size > offset for first, size in damaged):
            raise Wrong(
                f"bytes of the record with seq {seq} are told as damage, too", "", damaged, offset=offset, data=data
            )


# ------------------------------------------------------------------------------------------ writing


def payloads_of(step: Step) -> list[bytes]:
    """Return the payloads of ``events``, or those of ``payloads``."""
    return [compact(event) for event in step.get("events", ())] + [make(parts) for parts in step.get("payloads", ())]


def _file_write(talk: Talk, step: Step) -> Exchange:
    """``form``; the stream; ``events`` or ``payloads``. ``refused``: it can't be written. ``times``: so often, each
    time with another salt. ``exact``: the payloads are the same bytes.
    """
    run_id, wid, sid = step.get("run_id", "a"), step.get("wid", ""), step.get("sid", "s")
    payloads = payloads_of(step)
    salts: list[str] = []
    for _ in range(step.get("times", 1)):
        answer = yield from ask(
            talk,
            "store.file_write",
            form=step["form"],
            run_id=run_id,
            wid=wid,
            sid=sid,
            payloads=[bytes_text(payload) for payload in payloads],
        )
        refused = answer.get("refused") is True
        if refused != step.get("refused", False):
            raise Wrong("it is refused" if refused else "it is written", "" if refused else "a refusal", "")
        if refused:
            continue
        data = raw(answer, "bytes")
        if step["form"] == "plain":
            _judge_plain(payloads, data, exact=step.get("exact", False))
        else:
            salts.append(_judge_segment((run_id, wid, sid), payloads, data, exact=step.get("exact", False)))
    if len(salts) > 1 and len(set(salts)) < len(salts):
        raise Wrong("segments have the same salt (RST-4)", f"{len(salts)} salts", salts)


def _judge_plain(payloads: Sequence[bytes], data: bytes, *, exact: bool) -> None:
    position = 0
    for number, payload in enumerate(payloads):
        size = int.from_bytes(data[position : position + 4], "big")
        got = data[position + 4 : position + 4 + size]
        if len(data) < position + 4 or len(got) < size:
            raise Wrong(
                f"the file has {number} whole frames", f"{len(payloads)} frames", "", offset=position, data=data
            )
        judge_payload(f"frame {number + 1}", payload, got, exact=exact)
        position += 4 + size
    if position != len(data):
        raise Wrong("behind the last frame stands more", "nothing", shown(data[position:]), offset=position, data=data)


def _judge_segment(stream: tuple[str, str, str], payloads: Sequence[bytes], data: bytes, *, exact: bool) -> str:
    try:
        header, items = check_written(data, *stream)
    except BadSegment as bad:
        raise Wrong(str(bad), "", "", offset=bad.offset, data=data) from bad
    if len(items) != len(payloads):
        raise Wrong("the segment has other records", f"{len(payloads)} records", f"{len(items)} records", data=data)
    for item, payload in zip(items, payloads, strict=True):
        judge_record(item, payload, data, exact=exact)
    first = items[0].seq or None if items else None
    if first is not None and header["first_seq"] != first:
        raise Wrong(
            "first_seq is not the seq of the first record (RST-2.7)", str(first), str(header["first_seq"]), data=data
        )
    return str(header["salt"]).lower()


def judge_record(item: Item, payload: bytes, data: bytes, *, exact: bool) -> None:
    """Judge a record that must hold ``payload``. spec: RST-3.1, RST-3.2"""
    assert item.payload is not None
    judge_payload(f"the record at byte {item.offset}", payload, item.payload, exact=exact)
    seq = seq_of(payload)
    if seq is not None and item.seq != seq:
        raise Wrong(
            f"the seq of the record at byte {item.offset} is not its event's (RST-3.2)",
            str(seq), str(item.seq), offset=item.offset + 8, data=data,
        )  # fmt: skip


def seq_of(payload: bytes) -> int | None:
    """Return the seq that a record of this payload must have; None where nothing says so."""
    try:
        event = json.loads(payload)
        return 0 if event["t"] == "skip" else int(event["m"]["seq"])
    except (ValueError, KeyError, TypeError):
        return None


def judge_payload(what: str, expected: bytes, got: bytes, *, exact: bool) -> None:
    """Judge the payload of a record or a frame."""
    if not same_event(expected, got):
        raise Wrong(f"{what} holds another event", shown(expected), shown(got), data=got)
    if exact and expected != got:
        raise Wrong(f"{what} holds the event written anew", shown(expected), shown(got), data=got)


STEPS: Final[Steps] = {"file_read": _file_read, "file_follow": _file_follow, "file_write": _file_write}
