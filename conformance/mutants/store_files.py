"""Mutants of files at rest: how segments and plain files are read and written, and what ids are called in names."""

from __future__ import annotations

from typing import Any

from tools import Json, Mutation
from tools_store import (
    FILES,
    LAYOUT,
    RECORDS,
    TESTEE,
    WRITER,
    data_of,
    edited,
    hearing,
    telling,
    text_of,
)


def _reading(change: Any) -> Mutation:
    """Make a mutant that tells other items: a function of the items and the file."""

    def tell(request: Json, ok: Json) -> None:
        if "items" in ok:
            ok["items"] = change(ok["items"], data_of(request))

    return telling("file_read", "file_follow")(tell)


def _each(change: Any) -> Mutation:
    """Make a mutant that tells each item in another way, or not at all where ``change`` returns None."""
    return _reading(lambda items, data: [told for item in items if (told := change(item, data)) is not None])


def _spot(item: Json, **more: Any) -> Json:
    return {"offset": item["offset"], "length": item["length"], **more}


def _is_record(item: Json) -> bool:
    return "t" in item and "seq" in item


def _as_damage(applies: Any) -> Mutation:
    def tell(item: Json, _data: bytes) -> Json:
        return _spot(item, damage=True, seq=item.get("seq")) if applies(item) else item

    return _each(tell)


def _descending(items: list[Json], _data: bytes) -> list[Json]:
    found, last = [], 0
    for item in items:
        late = _is_record(item) and 0 < item["seq"] < last
        last = max(last, item.get("seq") or 0)
        found.append(_spot(item, damage=True, seq=item["seq"]) if late else item)
    return found


def _up_to_undecodable(items: list[Json], _data: bytes) -> list[Json]:
    bad = next((number for number, item in enumerate(items) if "error" in item), len(items))
    return items[: bad + 1]


def _unverified(items: list[Json], _data: bytes) -> list[Json]:
    damaged = False
    for item in items:
        damaged = damaged or "damage" in item
        if damaged and "t" in item:
            item["verified"] = False
    return items


def _merged(items: list[Json], _data: bytes) -> list[Json]:
    found: list[Json] = []
    for item in items:
        if found and "damage" in item and "damage" in found[-1]:
            found[-1]["length"] += item["length"]
        else:
            found.append(item)
    return found


def _torn_swallowed(items: list[Json], _data: bytes) -> list[Json]:
    if len(items) > 1 and "torn" in items[-1] and "damage" in items[-2]:
        items[-2]["length"] += items[-1]["length"]
        return items[:-1]
    return items


def _zeros_apart(items: list[Json], data: bytes) -> list[Json]:
    zeros = len(data) - len(data.rstrip(b"\0"))
    if items and "damage" in items[-1] and items[-1]["length"] > zeros > 30:
        items[-1]["length"] -= zeros
        items.append({"offset": len(data) - zeros, "length": zeros, "torn": True})
    return items


def _tail_torn(items: list[Json], _data: bytes) -> list[Json]:
    if items and "damage" in items[-1] and items[-1]["length"] < 64:
        items[-1] = _spot(items[-1], torn=True)
    return items


def _short_seq(item: Json, _data: bytes) -> Json:
    return {**item, "seq": item["seq"] & 0xFFFFFFFF} if _is_record(item) else item


def _zeros_torn(item: Json, data: bytes) -> Json:
    return _spot(item, torn=True) if "damage" in item and data[item["offset"]] == 0 else item


def _no_gaps(item: Json, _data: bytes) -> Json | None:
    return None if "damage" in item and item["length"] < 16 else item


def _told_once(items: list[Json], _data: bytes) -> list[Json]:
    first = {item["seq"]: item for item in reversed(items) if _is_record(item)}
    return [item for item in items if not _is_record(item) or first[item["seq"]] is item]


def _known_types(item: Json, _data: bytes) -> Json:
    return item if item.get("t", "log") in _TYPES else _spot(item, seq=item["seq"], error="bad_value")


def _header(change: Any) -> Mutation:
    """Make a mutant that tells another header: a function of it."""

    def tell(_request: Json, ok: Json) -> None:
        if "header" in ok:
            ok["header"] = {**ok["header"], **change(ok["header"])}

    return telling("file_read")(tell)


def _errors_are_others(_request: Json, ok: Json) -> Json | None:
    is_other = ok["kind"] == "plain" and any("error" in item for item in ok["items"])
    return {"kind": "unknown"} if is_other else None


def _empty_is_none(_request: Json, ok: Json) -> Json | None:
    return {"kind": "unknown"} if ok["kind"] == "segment" and not ok["items"] else None


def _class(name: str) -> Mutation:
    return _each(lambda item, _: {**item, "class": "bad_json"} if name in item else item)


def _without_wid(_request: Json, ok: Json) -> None:
    if "header" in ok:
        ok["header"]["wid"] = ""


def _plain_headed(_request: Json, ok: Json) -> None:
    if ok["kind"] == "plain":
        ok["items"] = ok["items"][1:]


def _write_plain(change: Any) -> Mutation:
    def tell(request: Json, ok: Json) -> None:
        if request["form"] == "plain" and "bytes" in ok:
            payloads = [data_of({"bytes": payload}) for payload in request["payloads"]]
            ok["bytes"] = text_of(change(payloads, data_of(ok)))

    return telling("file_write")(tell)


def _cut_ids(request: Json) -> Json:
    return {**request, **{name: request[name][:100] for name in ("run_id", "wid", "sid")}}


def _written_empty(_request: Json, ok: Json) -> Json:
    return {"bytes": ""} if ok.get("refused") else ok


_TYPES = frozenset({"run_start", "run_end", "metric", "metric_batch", "param", "log", "status", "tags", "skip"})
_GUESS = "return SegmentHeader('?', '?')"
_BOTH_DAMAGED = 'raise NotASegment(path, "both copies of the segment\'s header are damaged")'
_SAME = "    if head[:HEADER_BLOCK] != head[HEADER_BLOCK:]: raise NotASegment(path, path)"
_ANNOUNCED = """
    1 if found.seq is None
    else min(len(data) - position, _U32.unpack_from(data, position + 4)[0] + RECORD_OVERHEAD)
"""
_BY_NAME = """{
    "xseg": "segment", "file": sniff(data[:RECORDS_START])
}.get(request["name"].rpartition(".")[2], "frames")"""

MUTANTS: dict[str, Mutation] = {
    # ---- headers
    "records-begin-at-4096": edited(TESTEE, ("file.read(RECORDS_START)", "file.read(4096)")),
    "second-header-unused": edited(RECORDS, ("for start in (0, HEADER_BLOCK):", "for start in (0,):")),
    "both-headers-needed": edited(
        RECORDS,
        (
            "    for start in (0, HEADER_BLOCK):",
            f"{_SAME}\n    for start in (0, HEADER_BLOCK):",
        ),
    ),
    "last-header-wins": edited(RECORDS, ("for start in (0, HEADER_BLOCK):", "for start in (HEADER_BLOCK, 0):")),
    "magic-at-0-only": edited(FILES, (" or head.startswith(SEGMENT_MAGIC, HEADER_BLOCK)", "")),
    "header-crc-unchecked": edited(RECORDS, ("_U32.unpack_from(block, end)[0] != crc32(block[:end])", "False")),
    "header-body-unchecked": edited(
        RECORDS,
        (
            "block[12:end])\n    except (ValueError, RecursionError):\n        return None",
            f"block[12:end])\n    except (ValueError, RecursionError):\n        {_GUESS}",
        ),
    ),
    "unheld-header-guessed": edited(RECORDS, (_BOTH_DAMAGED, _GUESS)),
    "header-body-max": edited(RECORDS, ("if end + 4 > len(block)", "if end + 4 >= len(block)")),
    "unknown-header-member-refused": edited(
        RECORDS,
        (
            "class SegmentHeader(msgspec.Struct, frozen=True,",
            "class SegmentHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True,",
        ),
    ),
    "header-null-refused": edited(
        RECORDS, ("read_object(_decode_header, block[12:end])", "_decode_header(block[12:end])")
    ),
    "absent-salt-refused": edited(RECORDS, ("if len(block) < 16 or", "if b'salt' not in block or")),
    "upper-salt-refused": edited(RECORDS, ("^[0-9a-fA-F]{8}$", "^[0-9a-f]{8}$")),
    "salt-of-31-bits": edited(RECORDS, ("return int(self.salt, 16)", "return int(self.salt, 16) & 0x7FFFFFFF")),
    "header-padding-checked": edited(
        RECORDS, ("if end + 4 > len(block)", "if block[end + 4:].strip(b'\\0') or end + 4 > len(block)")
    ),
    "header-number-of-six-digits": _header(lambda header: {"number": header["number"] % 1_000_000}),
    "header-first-seq-at-least-1": _header(lambda header: {"first_seq": max(1, header["first_seq"])}),
    "header-ids-in-ascii": _header(lambda header: {"run_id": header["run_id"].encode("ascii", "replace").decode()}),
    "segment-without-records-is-none": telling("file_read")(_empty_is_none),
    "header-wid-dropped": telling("file_read")(_without_wid),
    # ---- records
    "only-first-record": edited(FILES, ("yield from decoder.feed(chunk)", "yield from decoder.feed(chunk)[:1]")),
    "descending-seq-is-damage": _reading(_descending),
    "control-in-segment-is-damage": _as_damage(lambda item: item.get("t") == "skip"),
    "seq-of-32-bits": _each(_short_seq),
    "repeated-record-told-once": _reading(_told_once),
    "unknown-type-is-an-error": _each(_known_types),
    "short-record-is-damage": edited(RECORDS, ("not 1 <= length <=", "not 2 <= length <=")),
    "empty-record-taken": edited(RECORDS, ("not 1 <= length <=", "not 0 <= length <=")),
    "limit-one-less": edited(RECORDS, ("<= length <= self._max_payload:", "<= length < self._max_payload:")),
    "limit-one-more": edited(RECORDS, ("<= length <= self._max_payload:", "<= length <= self._max_payload + 1:")),
    "huge-length-ends-file": edited(RECORDS, ("not 1 <= length <= self._max_payload", "length < 1")),
    "undecodable-is-damage": _as_damage(lambda item: "error" in item and "seq" in item),
    "undecodable-stops-file": _reading(_up_to_undecodable),
    "payload-crc-unchecked": edited(RECORDS, ("if crc32(payload, head_crc) != ", "if False and ")),
    "payload-crc-from-zero": edited(RECORDS, ("if crc32(payload, head_crc) != ", "if crc32(payload) != ")),
    "header-crc-of-record-unchecked": edited(
        RECORDS,
        (
            "        if head_crc != _U32.unpack_from(data, position + 16)[0]:",
            "        head_crc = _U32.unpack_from(data, position + 16)[0]\n        if False:",
        ),
    ),
    # ---- tails and damage
    "torn-is-damage": _as_damage(lambda item: "torn" in item),
    "torn-not-told": _each(lambda item, _: None if "torn" in item else item),
    "torn-behind-damage-lost": _reading(_torn_swallowed),
    "any-tail-is-torn": _reading(_tail_torn),
    "torn-length-is-damage": edited(
        RECORDS,
        (
            "        if available < _HEAD_SIZE:\n",
            """        if 8 <= available < _HEAD_SIZE and not 1 <= _U32.unpack_from(data, position + 4)[0] < 1 << 24:
            return _Bad(offset, None, 'mutant')
        if available < _HEAD_SIZE:
""",
        ),
    ),
    "zeros-are-damage": edited(
        RECORDS, ("found.torn = found.torn or (found.seq is None and data[position] == 0)", "pass")
    ),
    "damage-at-the-end-is-torn": edited(
        RECORDS, ("if self._bad.torn else", "if self._bad.torn or self._bad.seq is None else")
    ),
    "half-magic-is-torn": edited(RECORDS, ("if found.is_header and self._bad:", "if False:")),
    "zeros-skipped": _each(_zeros_torn),
    "zeros-behind-damage-apart": _reading(_zeros_apart),
    "damage-without-seq": _each(lambda item, _: {**item, "seq": None} if "damage" in item else item),
    "damage-stops": edited(RECORDS, ("found = data.find(RECORD_MAGIC, position)", "found = len(data)")),
    "damage-merged": _reading(_merged),
    "damage-skips-announced-length": edited(
        RECORDS,
        (
            "self._next_magic(data, position + 1)",
            f"self._next_magic(data, position + ({_ANNOUNCED}))",
        ),
    ),
    "resync-at-magic-alone": edited(RECORDS, ("or found.seq is not None or found.torn):", "or True):")),
    "behind-damage-unverified": _reading(_unverified),
    "gap-between-records-skipped": _each(_no_gaps),
    "damage-class": _class("damage"),
    "torn-class": _class("torn"),
    # ---- growing files
    "follow-tells-torn": edited(TESTEE, ("self.offset, finished=False", "self.offset, finished=True")),
    "follow-tells-twice": edited(TESTEE, ("self.offset = after", "pass")),
    # ---- telling files apart
    "kind-by-name": edited(
        TESTEE,
        (
            "kind = sniff(data[:RECORDS_START])",
            f"kind = {_BY_NAME}",
        ),
    ),
    "empty-file-unknown": edited(FILES, ("if not head or head[0] == 0", "if head and head[0] == 0")),
    "zeros-are-unknown": edited(FILES, ("if not head or head[0] == 0", "if not head or head.strip(b'\\0')")),
    "anything-is-plain": edited(FILES, ('else "other"', 'else "frames"')),
    "plain-with-errors-is-none": telling("file_read")(_errors_are_others),
    "plain-has-a-header": telling("file_read")(_plain_headed),
    # ---- writing
    "plain-written-with-header": _write_plain(lambda _, data: b"XTRKPLN1" + data),
    "plain-little-endian": _write_plain(lambda _, data: data[3::-1] + data[4:]),
    "plain-written-as-lines": _write_plain(lambda payloads, _: b"".join(payload + b"\n" for payload in payloads)),
    "empty-payload-written": telling("file_write")(_written_empty),
    "long-ids-cut": hearing("file_write")(_cut_ids),
    "ids-of-1024-refused": edited(RECORDS, ("> RUN_ID_MAX", ">= RUN_ID_MAX")),
    "written-without-second-header": edited(
        RECORDS, ('return block.ljust(HEADER_BLOCK, b"\\0") * 2', 'return block.ljust(2 * HEADER_BLOCK, b"\\0")')
    ),
    "written-salt-not-used": edited(RECORDS, ("head_crc = crc32(head, salt)", "head_crc = crc32(head)")),
    "written-crc-of-payload-from-zero": edited(
        RECORDS,
        (
            "return pack(head, head_crc, payload, crc32(payload, head_crc))",
            "return pack(head, head_crc, payload, crc32(payload))",
        ),
    ),
    "written-first-seq-always-1": edited(WRITER, ("first_seq=first_seq,", "first_seq=1,")),
    "written-first-seq-off": edited(WRITER, ("first_seq=first_seq,", "first_seq=first_seq - 1,")),
    "written-seq-counts": edited(
        TESTEE,
        (
            "for seq, payload in payloads:\n        writer",
            "for seq, (_, payload) in enumerate(payloads, 1):\n        writer",
        ),
    ),
    "written-seq-counts-from-0": edited(
        TESTEE,
        (
            "for seq, payload in payloads:\n        writer",
            "for seq, (_, payload) in enumerate(payloads):\n        writer",
        ),
    ),
    "written-without-wid": edited(WRITER, ("worker_id=self._stream.worker_id,", 'worker_id="",')),
    "written-skip-has-a-seq": edited(TESTEE, ("return 0 if isinstance", "return envelope.payload.first if isinstance")),
    "written-salt-constant": edited(WRITER, ("salt=os.urandom(4).hex(),", 'salt="5eed0001",')),
    "written-anew": edited(
        TESTEE,
        (
            "[(seq_of(payload), payload) for payload in payloads]",
            "[(seq_of(payload), __import__('msgspec').json.format(payload, indent=0)) for payload in payloads]",
        ),
    ),
    # ---- names
    "name-marks-quoted": edited(LAYOUT, ("0123456789-_+=@", "0123456789-_")),
    "name-letters-alone": edited(LAYOUT, ("0123456789-_+=@", "_+=@")),
    "name-odd-marks-kept": edited(LAYOUT, ("0123456789-_+=@", "0123456789-_+=@~:")),
    "name-hex-counts-as-capitals": edited(LAYOUT, ("_NEEDS_DIGEST.search(text)", "_NEEDS_DIGEST.search(quoted)")),
    "name-dot-kept": edited(LAYOUT, ("0123456789-_+=@", "0123456789-_+=@.")),
    "name-percent-kept": edited(LAYOUT, ("0123456789-_+=@", "0123456789-_+=@%")),
    "name-quoted-by-letters": edited(
        LAYOUT, ('f"%{byte:02X}" for byte in text.encode()', 'f"%{byte:02X}" for byte in map(ord, text)')
    ),
    "name-lower-hex": edited(LAYOUT, ("%{byte:02X}", "%{byte:02x}")),
    "name-space-as-plus": edited(
        LAYOUT, ("for byte in text.encode())", "for byte in text.encode()).replace('%20', '+')")
    ),
    "name-empty": edited(LAYOUT, ('or "%00empty"', 'or "empty"')),
    "name-normalised": hearing("name")(
        lambda request: {**request, "text": __import__("unicodedata").normalize("NFC", request["text"])}
    ),
    "name-capitals-kept": edited(LAYOUT, ('r"[A-Z]|', 'r"')),
    "name-any-capital": edited(LAYOUT, ("_NEEDS_DIGEST.search(text)", "text != text.lower()")),
    "name-devices-kept": edited(LAYOUT, (r"|\A(con|prn|aux|nul|com[0-9]|lpt[0-9])\Z", "")),
    "name-device-as-suffix": edited(LAYOUT, (r"|\A(con", "|(con")),
    "name-device-as-prefix": edited(LAYOUT, (r"lpt[0-9])\Z", "lpt[0-9])")),
    "name-length-kept": edited(LAYOUT, ("len(quoted) <= _NAME_MAX and ", "")),
    "name-length-one-less": edited(LAYOUT, ("len(quoted) <= _NAME_MAX", "len(quoted) < _NAME_MAX")),
    "name-digest-sha1": edited(LAYOUT, ("hashlib.sha256", "hashlib.sha1")),
}
