"""Each example of the specification is asked of every testee, as its page has it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from typing import Any

import pytest
from conformance_suite import FOLDER

from xtrack_conformance.cases import Case, build, load_cases

SPEC = FOLDER.parent / "docs" / "spec"
PREFIX = 4
BLOCK = re.compile(r"^```(frame|messagepack|connection|recording|segment)(-error)?( [^\n]*)?\n(.*?)^```$(?:\n\n```json\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)  # fmt: skip  # noqa: E501


def examples() -> list[tuple[str, str, str, bytes, Any]]:
    """Return of each block its place, tag and options, bytes, and the JSON behind it."""
    found = []
    for path in sorted(SPEC.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        for block in BLOCK.finditer(text):
            tokens = " ".join(line.partition("|")[0] for line in block[4].splitlines())
            where = f"{path.name}:{text.count(chr(10), 0, block.start()) + 1}"
            is_error = bool(block[2])
            told = None if is_error or not block[5] else json.loads(block[5])
            found.append((where, block[1], block[3] or "", build([{"hex": tokens}]), told))
    return found


EXAMPLES = examples()


def by_bytes() -> dict[tuple[str, str, bytes], list[Case]]:
    found = defaultdict(list)
    for case in load_cases():
        if case.role in {"decoder", "framer"} and case.level == "MUST":
            source = case.input.source if case.role == "framer" else case.input.codec
            found[case.role, source, case.input.data()].append(case)
    return found


ASKED = by_bytes()


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 60
    assert {tag for _, tag, *_ in EXAMPLES} == {"frame", "messagepack", "connection", "recording", "segment"}


def listed(case: Case) -> list[dict[str, Any]]:
    """Return what a case expects, as the pages tell it."""
    found = []
    for item in case.expect.frames or ():
        entry: dict[str, Any] = {"offset": item.offset} | ({} if item.length is None else {"length": item.length})
        if item.rejected:
            entry |= {"error": item.rejected} | ({"fatal": item.fatal} if case.input.source == "connection" else {})
        elif case.input.source == "recording":
            entry["verified"] = item.verified
        found.append(entry)
    return found


@pytest.mark.parametrize(("where", "tag", "options", "data", "told"), EXAMPLES, ids=[entry[0] for entry in EXAMPLES])
def test_each_is_asked(where: str, tag: str, options: str, data: bytes, told: Any) -> None:
    if tag == "segment":
        files = [step for case in load_cases() for step in case.script if step["do"] == "file_read"]
        plain = [step for step in files if not any(part.keys() - {"hex", "text"} for part in step["bytes"])]
        [step] = [step for step in plain if build(step["bytes"]) == data]
        assert step["is"] == {"kind": "segment", **told}
        return
    if tag in {"connection", "recording"}:
        [case] = ASKED["framer", tag, data]
        wanted = [{name: value for name, value in item.items() if name != "t"} for item in told]
        assert listed(case) == wanted
        return
    words = dict(re.findall(r"([a-z]+)=(\w+)", options))
    if len(data) == PREFIX:
        [case] = ASKED["framer", "connection", data]
        assert listed(case) == [{"offset": 0, "error": words["class"], "fatal": True}]
        return
    codec = "msgpack" if tag == "messagepack" else "json"
    reader = "lenient" if "lenient" in options.split() else words.get("reader")
    [case] = [case for case in ASKED["decoder", codec, data[PREFIX:]] if case.input.reader == reader]
    if "class" in words:
        assert case.expect.rejected is not None
        assert case.expect.rejected.class_ == words["class"]
    else:
        assert case.expect.event == told, where
    assert not case.also_allowed


def test_the_frames_of_a_page_are_asked_one_behind_the_other() -> None:
    frames = [data for where, tag, options, data, _ in EXAMPLES if where.startswith("events.md") and tag == "frame"]
    [case] = ASKED["framer", "connection", b"".join(frames)]
    assert len(case.expect.frames or ()) == len(frames) >= 12


def test_an_example_that_nobody_has_entered_stops_the_generator() -> None:
    script = (
        "from generate import examples; examples.EXAMPLES.pop('framing-frm-1-1')\n"
        "try: examples.cases()\n"
        "except SystemExit as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=FOLDER, capture_output=True, text=True, check=True)
    assert done.stdout == "examples.py and the pages differ: ['framing-frm-1-1']\n"
