"""The role store: our own reader of segments, the scripts' judgements, and that every case can fail."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from conformance_suite import FOLDER, ask, mutants

from xtrack_conformance.cases import Case, load_cases
from xtrack_conformance.plan import plan
from xtrack_conformance.protocol import BadAnswer
from xtrack_conformance.runner import CaseResult
from xtrack_conformance.scripts import store
from xtrack_conformance.scripts.store_common import make, merged, same_event
from xtrack_conformance.scripts.store_files import expectation
from xtrack_conformance.segments import (
    BLOCK,
    START,
    BadSegment,
    block,
    check_written,
    header_of,
    items_of,
    kind_of,
    name_of,
    record,
)

CASES = [case for case in load_cases() if case.role == "store"]
EVERYTHING = frozenset(mutants().load_testee().HELLO["capabilities"])
PAYLOAD = b'{"t":"log","v":1,"m":{"seq":1,"ts":1},"p":{"run_id":"a","level":"info","msg":"x"}}'
BODY = {"run_id": "a", "wid": "", "sid": "s", "salt": "00000007"}
SOUND = block(BODY) * 2 + record(1, PAYLOAD, 7)


def test_there_are_cases_of_each_kind_and_step() -> None:
    assert len(CASES) > 350
    assert {step["do"] for case in CASES for step in case.script} == set(store.STEPS)
    assert {axis for case in CASES for axis in case.axes} == {"reopen", "cut", "flip"}


def test_the_scripts_follow_their_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((FOLDER / "xtrack_conformance" / "schemas" / "store.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator({**schema, "$ref": "#/$defs/script"})
    for case in CASES:
        script = json.loads(json.dumps(list(case.script)))
        assert [error.message for error in validator.iter_errors(script)][:2] == [], case.id


def reads() -> Iterator[tuple[Case, dict[str, Any], bytes]]:
    for case in CASES:
        for step in case.script:
            if step["do"] == "file_read":
                yield case, step, make(step["bytes"])


def test_our_own_reader_agrees_with_what_the_cases_expect() -> None:
    compared = 0
    for case, step, data in reads():
        expected = step["is"]
        assert kind_of(data) == expected["kind"], case.id
        if expected["kind"] != "segment":
            continue
        header = header_of(data)
        assert (header is None) == expected.get("refused", False), case.id
        if header is None:
            continue
        assert expected.get("header", {}).items() <= header.items(), case.id
        told = [(item.kind, item.offset, item.length, item.seq) for item in items_of(data, int(header["salt"], 16))]
        kinds = [
            ("damage" if "damage" in one else "torn" if "torn" in one else "record", one) for one in expected["items"]
        ]
        assert told == [(kind, one["offset"], one["length"], one.get("seq")) for kind, one in kinds], case.id
        compared += 1
    assert compared > 80


def test_items_cover_a_segment_without_a_gap_whatever_is_damaged() -> None:
    for case in CASES:
        for run in plan(case, EVERYTHING) if {"cut", "flip"} & set(case.axes) else ():
            assert run.converse is not None
            request = next(run.converse())
            data = base64.b64decode(request["bytes"])
            told = expectation(data)
            end = START
            for item in told.get("items", ()):
                assert item["offset"] == end
                end += item["length"]
            assert end == max(START, len(data)) or "items" not in told or len(data) < START


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (SOUND[:START], ""),
        (SOUND, ""),
        (SOUND[:100], "begins with 8192 bytes"),
        (block(BODY) + block({**BODY, "number": 2}) + SOUND[START:], "two blocks of the header differ"),
        (block(b"[]") * 2, "no such object"),
        ((block(BODY)[:-1] + b"\1") * 2, "other bytes than zeros"),
        ((b"Y" + block(BODY)[1:]) * 2, "no magic"),
        ((block(BODY)[:20] + b"#" + block(BODY)[21:]) * 2, "CRC is another"),
        ((block(BODY)[:8] + b"\0\1\0\0" + block(BODY)[12:]) * 2, "doesn't fit"),
        (block({**BODY, "run_id": "b"}) * 2, "run_id is 'b'"),
        (SOUND + record(2, PAYLOAD, 8), "damage"),
        (SOUND + b"\xf5X", "torn"),
    ],
)
def test_what_a_writer_must_leave_behind(data: bytes, said: str) -> None:
    if not said:
        assert len(check_written(data, "a", "", "s")[1]) == (len(data) > START)
        return
    with pytest.raises(BadSegment, match=said):
        check_written(data, "a", "", "s")


def test_names_of_the_specification() -> None:
    table = {"abc-1": "abc-1", "sweep/3.5": "sweep%2F3%2E5", "..": "%2E%2E", "über": "%C3%BCber", "": "%00empty"}
    assert {text: name_of(text) for text in table} == table
    assert name_of("Run") == "Run~00d60e31a4e6b8344d4201f25a6a7dee77071310"
    assert len(block({"run_id": "a", "sid": "s"})) == BLOCK


def test_ranges_and_events_have_one_form_of_many() -> None:
    assert merged([[3, 4], [1, 2], [7, 7], [7, 9]]) == [(1, 4), (7, 9)]
    assert same_event(PAYLOAD, PAYLOAD.replace(b'"seq":1,"ts":1', b' "ts":1, "seq":1'))
    assert not same_event(PAYLOAD, PAYLOAD.replace(b'"x"', b'"y"'))
    assert not same_event(PAYLOAD, b"{")


# ------------------------------------------------------------------------------------------ judging


class Contrarian:
    """A store that has nothing, or one that has too much, whatever it is asked."""

    def __init__(self, *, generous: bool) -> None:
        self.generous = generous
        self.hello = mutants().load_testee().HELLO

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["op"] == "hello":
            return dict(self.hello)
        event = {"wid": "w", "sid": "t", "seq": 77, "payload": base64.b64encode(PAYLOAD).decode()}
        much: dict[str, Any] = {
            "events": [event],
            "aside": [],
            "ranges": [[70, 77]],
            "points": [{**event, "step": {"t": "null"}, "value": {"t": "null"}}],
            "values": [{"value": {"t": "null"}, "seq": 77, "current": True}],
            "kind": "segment",
            "refused": True,
            "items": [{"offset": 1, "length": 1, "torn": True}],
            "name": "~",
            "runs": [{"run_id": name, "access": None, "streams": []} for name in ("b", "a", "note.txt", "elsewhere")],
            "files": [{"path": "spool", "folder": True, "mode": "0777"}],
        }
        if self.generous:
            return {"ok": much}
        little = {name: [] for name, value in much.items() if isinstance(value, list)} | {"files": much["files"]}
        return {"ok": {**little, "unknown": True, "kind": "unknown", "bytes": "", "name": ""}}


def test_every_case_can_fail() -> None:
    """For one of two that give always the same answer; or else a mutant has shown it."""
    failed: set[str] = set()
    for generous in (True, False):
        module = SimpleNamespace(Testee=lambda generous=generous: Contrarian(generous=generous))
        failed |= {result.case.id for result in ask(module, CASES) if result.verdict != "pass"}  # type: ignore[arg-type]
    assert sorted(case.id for case in CASES if case.id not in failed and not case.kills) == []
    assert len(failed) > 0.9 * len(CASES)


class Odd:
    """The reference with one answer replaced."""

    def __init__(self, op: str, ok: dict[str, Any]) -> None:
        self.op, self.ok = op, ok
        self.honest = mutants().load_testee().Testee()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {"ok": self.ok} if request["op"] == self.op else self.honest.answer(request)
        return found


def judged(case_id: str, op: str, ok: dict[str, Any]) -> CaseResult:
    odd = Odd(op, ok)
    module = SimpleNamespace(Testee=lambda: odd)
    try:
        [result] = ask(module, [case for case in CASES if case.id == case_id])  # type: ignore[arg-type]
    finally:
        for part in odd.honest.parts.values():
            for kept in part.stores.values():
                kept.store.close()
    return result


@pytest.mark.parametrize(
    ("case_id", "op", "ok"),
    [
        ("sto-events-one", "store.events", {}),
        ("sto-events-one", "store.events", {"events": [5], "aside": []}),
        ("sto-events-one", "store.events", {"events": [{"wid": "", "sid": "s", "seq": "1"}], "aside": []}),
        (
            "sto-events-one",
            "store.events",
            {"events": [{"wid": "", "sid": "s", "seq": 1, "payload": "?"}], "aside": []},
        ),
        ("sto-cursor", "store.cursor", {"ranges": [[1]]}),
        ("sto-cursor", "store.cursor", {"ranges": "1-4"}),
        ("sto-value-half", "store.points", {"points": [{"step": 3, "value": 0.5, "seq": 1}]}),
        ("sto-value-half", "store.points", {"points": [{"step": {"t": "str", "v": "3"}, "seq": 1}]}),
        ("rst-header", "store.file_read", {"kind": "file"}),
        ("rst-header", "store.file_read", {"kind": "segment", "header": 5}),
        ("rst-write", "store.file_write", {"bytes": 5}),
        ("spl-name-plain", "store.name", {"name": None}),
        ("spl-read", "store.spool_read", {"runs": {}}),
        ("spl-write", "store.spool_write", {"files": [{"path": "spool/x", "bytes": ""}]}),
    ],
)
def test_an_answer_without_the_shape_is_the_testees_fault(case_id: str, op: str, ok: dict[str, Any]) -> None:
    with pytest.raises(BadAnswer):
        judged(case_id, op, ok)


def test_a_failure_names_the_step_and_what_was_expected() -> None:
    result = judged("sto-cursor-gap", "store.cursor", {"ranges": [[1, 4]]})
    assert result.verdict == "fail"
    assert result.reason == "step 4 (cursor): the cursor of the stream is another"
    assert (result.judgement.expected, result.judgement.got) == ("[[1, 1], [4, 4]]", "[[1, 4]]")


def test_a_failure_in_a_file_names_the_byte() -> None:
    result = judged("rst-torn-length", "store.file_read", {"kind": "segment", "items": []})
    assert result.judgement.offset == START
    assert len(result.judgement.input) > START


@pytest.mark.slow  # CI asks it as it stands in the wheel
def test_the_reference_is_conformant() -> None:
    results = ask(mutants().load_testee(), CASES)
    assert [(result.case.id, result.reason) for result in results if result.verdict != "pass"] == []
    assert {result.case.id for result in results} == {case.id for case in CASES}
