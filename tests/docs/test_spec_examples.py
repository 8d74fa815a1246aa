"""Every worked example of the specification is run against the package. docs/spec/README.md tells the tags."""

from __future__ import annotations

import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from xtrack_protocol.errors import ERROR_CLASSES, DecodeError
from xtrack_protocol.ir import UnknownEvent
from xtrack_protocol.ir.schema import json_schema
from xtrack_protocol.limits import FILE_LIMITS
from xtrack_protocol.spool import safe_name
from xtrack_protocol.wire import (
    RECORDS_START,
    Damage,
    Decoded,
    FrameDecoder,
    Record,
    RecordDecoder,
    SalvageDecoder,
    TornTail,
    decode,
    decode_frame,
    decode_header,
    encode,
    read_frames,
)

SPEC = Path(__file__).parents[2] / "docs" / "spec"
PREFIX = 4


class Example(NamedTuple):
    where: str
    tag: str
    options: dict[str, str]
    data: bytes
    json_text: str

    @property
    def json(self) -> Any:
        return json.loads(self.json_text)


def parse_hex(block: str) -> bytes:
    data = b""
    for line in block.splitlines():
        for token in line.partition("|")[0].split():
            digits, _, count = token.partition("*")
            data += bytes.fromhex(digits) * int(count or 1)
    return data


_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TAGS = {"frame", "frame-error", "messagepack", "messagepack-error", "connection", "recording", "segment"}


def find_examples() -> list[Example]:
    examples = []
    for path in sorted(SPEC.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        blocks = list(_FENCE.finditer(text))
        for block, after in zip(blocks, [*blocks[1:], None], strict=False):  # one None too many without blocks
            tag, *words = block[1].split() or [""]
            if tag not in _TAGS:
                continue
            options = dict(word.split("=") if "=" in word else (word, "") for word in words)
            json_text = after[2] if after and after[1] == "json" else ""
            line = text.count("\n", 0, block.start()) + 1
            examples.append(Example(f"{path.name}:{line}", tag, options, parse_hex(block[2]), json_text))
    return examples


EXAMPLES = find_examples()


def tagged(*tags: str) -> Any:
    found = [example for example in EXAMPLES if example.tag in tags]
    return pytest.mark.parametrize("example", found, ids=[example.where for example in found])


def codec_of(example: Example) -> Any:
    return "msgpack" if example.tag.startswith("messagepack") else "json"


def one_frame(example: Example, *, lenient: bool) -> Any:
    result = decode_frame(example.data, lenient=lenient, codec=codec_of(example))
    assert isinstance(result, Decoded), result
    return result.frame


def test_all_kinds_are_there() -> None:
    assert {example.tag for example in EXAMPLES} == _TAGS
    assert len(EXAMPLES) >= 60
    refused = {example.options["class"] for example in EXAMPLES if example.tag == "frame-error"}
    elsewhere = {"truncated", "frame_too_large", "bad_checksum"}  # not faults of one whole frame
    assert refused | elsewhere == set(ERROR_CLASSES)


def test_the_first_example_of_framing_has_a_payload_of_102_bytes() -> None:
    first = next(example for example in EXAMPLES if example.where.startswith("framing.md"))
    assert first.tag == "frame"
    assert first.data[:PREFIX] == b"\0\0\0\x66"
    assert len(first.data) == PREFIX + 102


@tagged("frame", "messagepack")
def test_accepted(example: Example) -> None:
    envelope = one_frame(example, lenient=True).envelope
    assert envelope is not None
    written = decode(example.json_text.encode(), lenient=False)
    assert encode(envelope) == encode(written)  # by bytes, because NaN equals nothing
    assert json.loads(encode(envelope)) == example.json, "the json block isn't in the writer's form"
    assert encode(decode(encode(envelope))) == encode(envelope)
    strict = one_frame(example, lenient=False)
    if "lenient" in example.options:
        assert strict.error is not None
    else:
        assert encode(strict.envelope) == encode(envelope)


@tagged("frame-error", "messagepack-error")
def test_refused(example: Example) -> None:
    for lenient in (False, True):
        frame = one_frame(example, lenient=lenient)
        if lenient and example.options.get("reader") == "strict":
            assert frame.envelope is not None
            continue
        assert frame.error is not None, frame.envelope
        assert frame.error.kind == example.options["class"]
        assert frame.error.offset == 0


def told(frames: list[Any], **extra: str) -> list[dict[str, Any]]:
    """Tell frames as the json blocks do; ``extra`` maps a member's name to the attribute of an error or a frame."""
    listed: list[dict[str, Any]] = []
    for frame in frames:
        if frame.error:
            entry = {"offset": frame.error.offset, "length": frame.error.length, "error": frame.error.kind}
        else:
            entry = {"offset": frame.offset, "length": PREFIX + frame.length, "t": frame.envelope.event_type}
        if "fatal" in extra and frame.error:
            entry["fatal"] = frame.error.fatal
            if frame.error.fatal:
                del entry["length"]
        if "verified" in extra and not frame.error:
            entry["verified"] = frame.verified
        listed.append(entry)
    return listed


def chunkings(data: bytes) -> list[list[bytes]]:
    return [[data], [data[i : i + 1] for i in range(len(data))], [data[i : i + 7] for i in range(0, len(data), 7)]]


@tagged("connection")
def test_connection(example: Example) -> None:
    for chunks in chunkings(example.data):
        decoder = FrameDecoder()
        frames: list[Any] = []
        try:
            for chunk in chunks:
                frames += decoder.feed(chunk)
            frames += decoder.finish()
        except DecodeError:
            assert frames[-1].error.fatal  # it stays refused
        assert told(frames, fatal="") == example.json


@tagged("recording")
def test_recording(example: Example) -> None:
    frames = list(read_frames(io.BytesIO(example.data)))
    assert told(frames, verified="") == example.json
    for chunks in chunkings(example.data):
        decoder = SalvageDecoder(FILE_LIMITS)
        found = [frame for chunk in chunks for frame in decoder.feed(chunk)] + decoder.finish()
        assert told(found, verified="") == example.json


@tagged("segment")
def test_segment(example: Example) -> None:
    expected = example.json
    header = decode_header(example.data)
    assert msgspec.to_builtins(header).items() <= expected["header"].items()
    for chunks in chunkings(example.data[RECORDS_START:]):
        decoder = RecordDecoder(header.salt_value)
        items = [item for chunk in chunks for item in decoder.feed(chunk)] + decoder.finish()
        listed = []
        for item in items:
            entry: dict[str, Any] = {"offset": item.offset, "length": item.size}
            match item:
                case Record():
                    entry |= {"seq": item.seq, "t": decode(item.payload).event_type}
                case Damage():
                    entry |= {"damage": True, "seq": item.seq}
                case TornTail():
                    entry |= {"torn": True}
            listed.append(entry)
        assert listed == expected["items"]


def test_other_json_blocks_are_json() -> None:
    for path in sorted(SPEC.glob("*.md")):
        for block in _FENCE.finditer(path.read_text(encoding="utf-8")):
            if block[1] == "json":
                json.loads(block[2])


# ------------------------------------------------------------------------------------------ the schema


def test_the_schema_is_up_to_date() -> None:
    stored = json.loads((SPEC / "events.schema.json").read_text(encoding="utf-8"))
    assert stored == json_schema(), "write it again: its module's docstring says how"


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((SPEC / "events.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@tagged("frame")
def test_accepted_examples_satisfy_the_schema(example: Example, validator: Any) -> None:
    validator.validate(example.json)
    if "lenient" not in example.options:
        validator.validate(json.loads(example.data[PREFIX:]))


OF_THE_TEXT = {"bad_utf8", "bad_json", "too_deep", "empty_frame", "out_of_range"}
"""Classes of faults that a schema doesn't see: JSON values have no bytes, no depth limit and no limit of size."""


@tagged("frame-error")
def test_refused_examples_violate_the_schema(example: Example, validator: Any) -> None:
    if example.options["class"] in OF_THE_TEXT:
        pytest.skip("a fault of the text, not of its structure")
    assert not validator.is_valid(json.loads(example.data[PREFIX:]))


def test_schema_and_decoder_agree_on_each_member(validator: Any) -> None:
    """Each member of each example, replaced by a value of each kind, is refused by both or by neither."""
    replacements = [None, True, 0, -1, 2**63, 1.5, 1.0, "x", "NaN", [], ["x"], [1], {}, {"x": 1}, {"id": "r"}]
    checked = 0
    for example in EXAMPLES:
        if example.tag != "frame" or isinstance(decode(example.json_text.encode()).payload, UnknownEvent):
            continue
        event = example.json
        for part in ("m", "p"):
            for name in event[part]:
                for value in replacements:
                    changed = {**event, part: {**event[part], name: value}}
                    try:
                        decode(json.dumps(changed).encode(), lenient=False)
                    except DecodeError:
                        accepted = False
                    else:
                        accepted = True
                    assert validator.is_valid(changed) == accepted, (example.where, part, name, value)
                    checked += 1
    assert checked > 1000


# ------------------------------------------------------------------------------------------ names in a spool


def test_names_in_the_spool() -> None:
    section = (SPEC / "at-rest.md").read_text(encoding="utf-8").partition("| Id | Name |")[2].partition("##")[0]
    rows = re.findall(r"^\| `(.+)` \| `(.+)` \|$", section, re.MULTILINE)
    assert len(rows) >= 4
    assert [(text, safe_name(text)) for text, _ in rows] == rows
    for text in ("con", "CON", "com1", "a" * 120, "a" * 121, "", "é" * 30):
        quoted = re.sub(rb"[^A-Za-z0-9\-_+=@]", lambda byte: b"%%%02X" % byte[0][0], text.encode()).decode()
        name = quoted or "%00empty"
        device = re.fullmatch(r"con|prn|aux|nul|(com|lpt)[0-9]", text)
        if len(name) > 120 or device or re.search("[A-Z]", text):
            name = f"{name[:79]}~{hashlib.sha256(text.encode()).hexdigest()[:40]}"
        assert safe_name(text) == name
