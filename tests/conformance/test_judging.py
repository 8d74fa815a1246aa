"""What the suite judges by, judged itself: its tables, its reader of frames, its values, its reports."""

# ruff: noqa: E501

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conformance_suite import FOLDER, HARNESSES, TESTEE
from hypothesis import given
from hypothesis import strategies as st

from xtrack_conformance import cli
from xtrack_conformance.payloads import read_frame, read_payload
from xtrack_conformance.protocol import BadAnswer, read_answer
from xtrack_conformance.slots import CONTROL, EVENTS, Fault, Member, Slot, normal, read_event
from xtrack_conformance.values import BadValue, difference, tag, untag

SPEC = FOLDER.parent / "docs" / "spec"
SCHEMAS = FOLDER / "xtrack_conformance" / "schemas"

# ------------------------------------------------------------------------------------------ the tables


def tables(path: Path) -> dict[str, dict[str, tuple[str, bool]]]:
    """Return the rows of each table of members: slot and whether required, by heading or by the name before it."""
    found: dict[str, dict[str, tuple[str, bool]]] = {}
    heading = name = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"## (?:EVT-([A-Z_]+)|CTL-\d+ ([a-z_]+)(?: and ([a-z_]+))?)", line):
            heading = name = (match[1] or match[2] or "").lower()
        elif match := re.match(r"`(\w+)`:$", line):
            name = f"{heading}.{match[1]}"
        elif match := re.match(r"\| `(\w+)` \| `\w+` \| (.*?) \| (yes|no) \|", line):
            found.setdefault(name, {})[match[1]] = (match[2].partition(":")[0].strip(), match[3] == "yes")
    return found


def told(slot: Slot) -> str:
    """Return a slot in the words of the specification."""
    if slot.kind in {"list", "map"} and slot.item:
        return f"{slot.kind} of {told(slot.item).replace('pair', 'pairs [integer, string]')}"
    return {"run_id": "run id", "closed": "closed set", "checksum": "string", "id": "string"}.get(slot.kind, slot.kind)


def rows(members: dict[str, Member] | Any) -> dict[str, tuple[str, bool]]:
    return {name: (told(member.slot), member.required) for name, member in members.items()}


@pytest.mark.parametrize("event_type", sorted(EVENTS))
def test_tables_of_events_are_those_of_the_specification(event_type: str) -> None:
    written = tables(SPEC / "events.md")
    as_open = {name: (slot.replace("open", "string"), need) for name, (slot, need) in written[event_type].items()}
    assert rows(EVENTS[event_type]) == as_open
    for name, member in EVENTS[event_type].items():
        inner = written.get(f"{event_type}.{name}") or (written["metric.ctx"] if name == "ctx" else None)
        if member.slot.kind == "object":
            assert inner is not None
            assert rows(member.slot.members) == {
                key: (slot.replace("open", "string"), need) for key, (slot, need) in inner.items()
            }


@pytest.mark.parametrize("event_type", sorted(CONTROL.keys() - {"ping", "pong", "subscribe", "unsubscribe"}))
def test_tables_of_control_events_are_those_of_the_specification(event_type: str) -> None:
    text = (SPEC / "control.md").read_text(encoding="utf-8")
    section = re.search(rf"^## CTL-\d+ {event_type}\b.*?(?=^## )", text, re.MULTILINE | re.DOTALL)
    assert section
    written = {
        match[1]: (match[2].partition(":")[0].replace("open", "string").strip(), match[3] == "yes")
        for match in re.finditer(r"^\| `(\w+)` \| `\w+` \| (.*?) \| (yes|no) \|", section[0], re.MULTILINE)
    }
    assert rows(CONTROL[event_type]) == written


def test_closed_sets_are_those_of_the_specification() -> None:
    for path, known in (("events.md", EVENTS), ("control.md", CONTROL)):
        text = (SPEC / path).read_text(encoding="utf-8")
        written = [frozenset(re.findall(r"`(\w+)`", row)) for row in re.findall(r"\| closed set: ([^|]*) \|", text)]
        ours = [member.slot.values for members in known.values() for member in members.values() if member.slot.values]
        assert sorted(map(sorted, written)) == sorted(map(sorted, ours))


# ------------------------------------------------------------------------------------------ values

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_tagged_values_lose_nothing(value: Any) -> None:
    assert difference(value, untag(json.loads(json.dumps(tag(value))))) is None


@given(VALUES, VALUES)
def test_values_differ_where_their_tagged_forms_do(one: Any, other: Any) -> None:
    def ordered(value: Any) -> Any:
        return {k: ordered(value[k]) for k in sorted(value)} if isinstance(value, dict) else (
            [ordered(v) for v in value] if isinstance(value, list) else value)  # fmt: skip

    assert (difference(one, other) is None) == (tag(ordered(one)) == tag(ordered(other)))


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), (1, True), (0, False), (0.0, -0.0), (None, 0), ("", None), ([], {}), (2**53 + 1, 2**53)],
)
def test_what_python_takes_for_equal_is_told_apart(one: Any, other: Any) -> None:
    assert difference(one, other)
    assert difference([{"a": one}], [{"a": other}])
    assert difference(math.nan, -math.nan) is None


@pytest.mark.parametrize(
    "tagged",
    [
        1, None, [], {}, {"t": "int", "v": 1}, {"t": "int", "v": "01"}, {"t": "int", "v": "1.0"}, {"t": "float", "v": "NaN"},
        {"t": "float", "v": "3FF0000000000000"}, {"t": "bool", "v": 1}, {"t": "null", "v": 0}, {"t": "obj", "v": {"a": 1}},
        {"t": "obj", "v": [["a", {"t": "null"}], ["a", {"t": "null"}]]}, {"t": "list", "v": [1]}, {"t": "str"}, {"t": "x", "v": 1},
        {"t": "int", "v": "1", "w": 2}, {"t": "utf16", "v": "d8"}, {"t": "int", "v": "9" * 401},
    ],
)  # fmt: skip
def test_no_tagged_value(tagged: Any) -> None:
    with pytest.raises(BadValue):
        untag(tagged)


def test_a_value_nested_beyond_measure_is_refused() -> None:
    deep: Any = {"t": "null"}
    for _ in range(500):
        deep = {"t": "list", "v": [deep]}
    with pytest.raises(BadValue, match="nested more than"):
        untag(deep)


# ------------------------------------------------------------------------------------------ what writers write

BODY = '{"t":"metric","v":1,"m":{"seq":1,"ts":1},"p":{"run_id":"a","key":"k","value":0.5}}'


def framed(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return len(data).to_bytes(4, "big") + data


def test_a_good_frame() -> None:
    written = read_frame(framed(BODY))
    assert written.event["p"] == {"run_id": "a", "key": "k", "value": 0.5}
    assert written.notes == ()


@pytest.mark.parametrize(
    ("frame", "clause"),
    [
        (b"", "FRM-1"), (b"\0\0\0\0", "FRM-2.1"), (b"\0\0\0\x7f" + BODY.encode(), "FRM-1.1"), (framed(BODY + "\n"), "FRM-1.4"),
        (framed(" " + BODY), "FRM-1.4"), (framed("\ufeff" + BODY), "FRM-1.4"), (framed(BODY.encode()[:-3] + b"\xff}}"), "JSN-1"),
        (framed(BODY[:-1] + ",}"), "JSN-1"), (framed(BODY.replace("0.5", "NaN")), "JSN-7.5"), (framed(BODY.replace('"k"', '"\t"')), "JSN-1"),
        (framed(BODY.replace('"key":"k"', '"key":"k","key":"k"')), "JSN-5.3"), (framed(BODY.replace('"k"', '"\\ud800"')), "JSN-3.1"),
        (framed(BODY.replace('"v":1', '"v":1.0')), "ENV-2.1"), (framed(BODY.replace('"seq":1', '"seq":1.0')), "JSN-4.2"),
        (framed(BODY.replace('"seq":1', '"seq":0')), "ENV-4.3"), (framed(BODY.replace('"ts":1', '"ts":1,"wid":null')), "JSN-6.4"),
        (framed(BODY.replace("0.5", "true")), "VAL-2"), (framed(BODY.replace("0.5", "1e999")), "VAL-2"),
        (framed(BODY.replace("0.5", '"nan"')), "VAL-2"), (framed(BODY.replace('"k"', "5")), "VAL-9"), (framed(BODY.replace('"key":"k",', "")), "EVT-1"),
        (framed(BODY.replace("0.5", '{"$float":"NaN"}')), "VAL-2"), (framed("{" + '"a":' + "[" * 70 + "]" * 70 + "}"), "JSN-2"),
    ],
)  # fmt: skip
def test_a_writers_fault_is_found_and_has_its_clause(frame: bytes, clause: str) -> None:
    with pytest.raises(Fault) as caught:
        read_frame(frame)
    assert caught.value.clause == clause, caught.value


def test_what_a_writer_should_not_is_a_note_and_no_fault() -> None:
    assert {clause for clause, _ in read_payload(json.dumps(json.loads(BODY), sort_keys=True).encode()).notes} == {
        "ENV-7"
    }
    spaced = BODY.replace('"k"', r'"a \" b\\ : , "')
    assert read_payload(spaced.encode()).notes == ()
    assert len(read_payload(spaced.replace('"p":', '"p": ').encode()).notes) == 1


def test_examples_of_the_specification_read_as_they_say() -> None:
    """The suite's reader and the json blocks of docs/spec agree on what is the same event."""
    found = 0
    for path in (SPEC / "events.md", SPEC / "envelope.md", SPEC / "control.md"):
        for block in re.findall(r"^```json\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            event = read_event(json.loads(block))
            assert difference(normal(event), normal(json.loads(json.dumps(normal(event))))) is None
            found += 1
    assert found >= 18


# ------------------------------------------------------------------------------------------ answers and reports


@pytest.mark.parametrize(
    ("answer", "op", "reason"),
    [
        ({}, "decode", "none of them"), ({"frame": "AA=="}, "decode", "none of them"), ({"event": 1}, "decode", "must be an object"),
        ({"frame": "?"}, "encode", "no base64"), ({"frame": 1}, "encode", "must be a string"), ({"frames": []}, "frame.feed", "state must be"),
        ({"frames": {}, "state": "between"}, "frame.feed", "must be a list"), ({"rejected": {}}, "frame.feed", "stands in frames"),
        ({"rejected": "bad_json"}, "decode", "must be an object"), ({"rejected": {"fatal": 1}}, "decode", "fatal must be"),
        ({"frames": [{"offset": 0, "payload": "", "rejected": {}}], "state": "between"}, "frame.feed", "either payload or rejected"),
        ({"frames": [{"offset": "0", "length": 1, "payload": ""}], "state": "between"}, "frame.feed", "integer offset"),
        ({"frames": [{"offset": 0, "payload": ""}], "state": "between"}, "frame.feed", "a frame has a length"),
        ({"frames": [{"offset": 0, "length": 4, "payload": "", "verified": 1}], "state": "between"}, "frame.feed", "verified"),
    ],
)  # fmt: skip
def test_no_answer(answer: dict[str, Any], op: str, reason: str) -> None:
    with pytest.raises(BadAnswer, match=reason):
        read_answer({"id": 1, **answer}, op)


def validator(name: str) -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((SCHEMAS / name).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


RELAY = """
import subprocess, sys, threading
log = open(sys.argv[1], "wb")
child = subprocess.Popen([sys.executable, sys.argv[2]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
def back():
    for line in child.stdout:
        log.write(line)
        sys.stdout.buffer.write(line); sys.stdout.buffer.flush()
thread = threading.Thread(target=back); thread.start()
for line in sys.stdin.buffer:
    log.write(line)
    child.stdin.write(line); child.stdin.flush()
child.stdin.close(); thread.join(); log.close()
"""


def test_all_lines_follow_the_schema(tmp_path: Path, capsys: Any) -> None:
    script, log = tmp_path / "relay.py", tmp_path / "lines"
    script.write_text(RELAY)
    words = [
        word
        for name in ("VAL-4", "FRM-3", "FRM-3.3", "FRM-6.12", "JSN-3.1", "FRM-5", "ENV-2")
        for word in ("--case", name)
    ]
    assert cli.main(["run", *words, "--", sys.executable, str(script), str(log), str(TESTEE)]) == 0
    check = validator("testee.schema.json")
    lines = [json.loads(line) for line in log.read_bytes().splitlines()]
    assert len(lines) > 500
    ops = {line.get("op") for line in lines}
    assert {op for op in ops if "." not in str(op) or str(op).startswith("frame.")} == {
        None,
        "hello",
        "encode",
        "decode",
        "frame.feed",
        "frame.finish",
    }
    assert {"emit.start", "emit.call"} < ops
    for line in lines:
        assert [error.message for error in check.iter_errors(line)] == [], line


def run_with_report(tmp_path: Path, *words: str) -> tuple[int, dict[str, Any]]:
    path = tmp_path / "report.json"
    options, command = words[: words.index("--")], words[words.index("--") :]
    status = cli.main(["run", *options, "--report", str(path), *command])
    report = json.loads(path.read_text(encoding="utf-8"))
    assert [error.message for error in validator("report.schema.json").iter_errors(report)] == []
    return status, report


def test_the_reference_is_conformant(tmp_path: Path, capsys: Any) -> None:
    roles = [word for role in ("encoder", "decoder", "framer") for word in ("--role", role)]
    status, report = run_with_report(tmp_path, *roles, "--", sys.executable, str(TESTEE))
    assert status == 0, capsys.readouterr().out
    assert report["verdict"] == "conformant"
    assert {role: entry["verdict"] for role, entry in report["roles"].items()} == dict.fromkeys(
        ["encoder", "decoder", "framer"], "conformant"
    )
    assert report["problems"] == []
    assert {case["verdict"] for case in report["cases"]} == {"pass"}
    assert all(entry["expected"] == entry["executed"] > 0 == entry["failed"] for entry in report["clauses"].values())


def test_a_report_tells_the_byte_the_clause_and_the_replay(tmp_path: Path, capsys: Any) -> None:
    mutant = FOLDER / "mutants" / "run.py"
    command = ["--", sys.executable, str(mutant), "offset-of-payload"]
    status, report = run_with_report(tmp_path, "--case", "frm-bad-type-between", "--case", "frm-tiny", *command)
    assert status == 1
    failed = [case for case in report["cases"] if case["verdict"] == "fail"]
    assert [case["id"] for case in failed] == ["frm-bad-type-between"]
    failure = failed[0]["failure"]
    assert failure["offset"] == 86
    assert failure["message"] == "its offset is 90, not 86 (ERR-3)"
    assert (
        "ERR-3 The offset of an error MUST be that of the first byte of its frame, the first byte of its length."
        in failure["clauses"]
    )
    assert f"--case frm-bad-type-between -- {sys.executable} {mutant} offset-of-payload" in failure["replay"]
    printed = capsys.readouterr().out
    assert "^^ offset 86" in printed
    replayed = subprocess.run(
        failure["replay"].replace("python", sys.executable, 1), shell=True, capture_output=True, check=False
    )
    assert replayed.returncode == 1
    assert b"FAIL frm-bad-type-between" in replayed.stdout


def test_a_baseline_excuses_what_it_names_and_goes_stale(tmp_path: Path, capsys: Any) -> None:
    baseline = tmp_path / "baseline.json"
    command = ["--", sys.executable, str(FOLDER / "mutants" / "run.py"), "seq-zero-accepted"]
    baseline.write_text('{"cases": {"env-seq-zero": "they count from zero"}}')
    status, report = run_with_report(tmp_path, "--case", "env-seq-*", "--baseline", str(baseline), *command)
    assert (status, report["verdict"]) == (0, "conformant-with-exceptions")
    assert [case["excused"] for case in report["cases"] if case["excused"]] == ["they count from zero"]
    baseline.write_text('{"cases": {"env-seq-zero": "they count from zero", "env-seq-first": "a guess"}}')
    status, report = run_with_report(tmp_path, "--case", "env-seq-*", "--baseline", str(baseline), *command)
    assert (status, report["stale"]) == (1, ["env-seq-first"])
    for text, reason in (("[]", "a baseline is JSON like"), ('{"cases": {"x": "y"}}', "aren't there: x"),
                         ('{"cases": {"env-seq-zero": " "}}', "no reason for env-seq-zero")):  # fmt: skip
        baseline.write_text(text)
        assert cli.main(["run", "--baseline", str(baseline), *command]) == cli.USAGE
        assert reason in capsys.readouterr().err


def test_what_should_be_otherwise_is_nonstrict_and_conformant(tmp_path: Path, capsys: Any) -> None:
    mutant = FOLDER / "mutants" / "run.py"
    words = ["--case", "frm-http-first-byte", "--case", "err-*", "--", sys.executable, str(mutant)]
    status, report = run_with_report(tmp_path, *words, "first-byte-waits")
    assert (status, report["verdict"]) == (0, "conformant")
    assert report["roles"]["framer"]["counts"] == {"nonstrict": 1}
    assert "nonstrict frm-http-first-byte (FRM-3.7)" in capsys.readouterr().out
    status, report = run_with_report(tmp_path, *words, "has-one-class")
    assert (status, report["verdict"]) == (0, "conformant")
    assert report["roles"]["decoder"]["counts"]["nonstrict"] >= 20


def test_a_testee_that_breaks_down_has_a_report_too(tmp_path: Path, capsys: Any) -> None:
    words = ["--case", "val-number-int64-max", "--", sys.executable, str(HARNESSES)]
    status, report = run_with_report(tmp_path, *words, "noisy")
    assert (status, report["verdict"]) == (2, "incomplete")
    status, report = run_with_report(tmp_path, *words, "crash")
    assert (status, report["verdict"]) == (1, "nonconformant")
    assert "CRASH val-number-int64-max" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["run"], ["run", "--role", "cook", "--", "x"], ["run", "--case", "nonsense", "--", "x"], ["run", "--timeout", "0", "--", "x"], []]
)  # fmt: skip
def test_wrong_usage(words: list[str], capsys: Any) -> None:
    assert cli.main(words) == cli.USAGE
    assert capsys.readouterr().err


def test_list(capsys: Any) -> None:
    assert cli.main(["list", "--case", "FRM-2", "--json"]) == 0
    told_cases = json.loads(capsys.readouterr().out)
    assert "frm-empty-frame" in [case["id"] for case in told_cases]
    assert cli.main(["run", "--help"]) == 0
    assert cli.main(["--version"]) == 0


def test_xtrack_conformance(capsys: Any) -> None:
    pytest.importorskip("click")
    from xtrack_protocol.cli import main

    assert main(["conformance", "list", "--role", "framer", "--case", "FRM-2"]) == 0
    assert "frm-empty-frame\t" in capsys.readouterr().out
    assert main(["conformance", "run", "--", "/nonexistent"]) == cli.USAGE
    assert "xtrack conformance: '/nonexistent' can't be started" in capsys.readouterr().err
