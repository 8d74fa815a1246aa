"""The role emitter: its scripts, what follows an emitter's bytes, and the virtual world of the reference's testee."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections import Counter
from types import ModuleType
from typing import Any

import pytest
from conformance_suite import FOLDER, ask, mutants

from xtrack_conformance.cases import load_cases
from xtrack_conformance.protocol import BadAnswer
from xtrack_conformance.scripts import emitter as scripts
from xtrack_conformance.scripts.emitter_folders import FOLDER_STEPS
from xtrack_conformance.scripts.emitting import Script, read_facts
from xtrack_conformance.scripts.following import Broken, Follower
from xtrack_conformance.segments import block, record

CASES = [case for case in load_cases() if case.role == "emitter"]
SCHEMA = json.loads((FOLDER / "xtrack_conformance" / "schemas" / "emitter.schema.json").read_text(encoding="utf-8"))
SID = "5f0c9d1e2b3a48576a7b8c9d0e1f2a3b"
FACTS = {"written": "", "connection": "none", "commands": [], "told": [], "counts": {}}


@pytest.fixture(scope="module")
def testee() -> ModuleType:
    return mutants().load_testee()


def test_the_scripts_follow_their_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for case in CASES:
        assert [error.message[:300] for error in validator.iter_errors(list(case.script))] == [], case.id


def test_the_schema_has_every_step_and_cases_use_it() -> None:
    known = [step["properties"]["do"]["const"] for step in SCHEMA["$defs"]["steps"]["items"]["oneOf"]]
    assert sorted(known) == sorted(scripts.STEPS)
    used = Counter(step["do"] for case in CASES for step in case.script)
    assert set(used) == set(known)


def test_there_are_many_and_of_each_kind() -> None:
    assert len(CASES) > 300
    assert {case.kind for case in CASES} == {"valid", "invalid", "boundary"}
    assert {case.level for case in CASES} >= {"MUST", "SHOULD"}


@pytest.mark.slow  # CI asks it as it stands in the wheel
def test_the_reference_passes_them(testee: ModuleType) -> None:
    cases = [case for case in CASES if "processes" not in case.needs]
    bad = [(result.case.id, result.judgement.message) for result in ask(testee, cases) if result.verdict != "pass"]
    assert bad == []


# ------------------------------------------------------------------------------------------ answers


def test_the_facts_of_the_reference_follow_the_schema(testee: ModuleType) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator({"$ref": "#/$defs/facts", "$defs": SCHEMA["$defs"]})
    one = testee.Testee()
    for op, more in (
        ("start", {"now": 0, "options": {"run_id": "a"}}),
        ("connected", {"address": "127.0.0.1"}),
        ("call", {"call": "metric", "arguments": {"t": "obj", "v": []}}),
        ("tick", {"now": 2500}),
    ):
        answer = one.answer({"op": f"emit.{op}", "session": "s", **more})
        assert [error.message for error in validator.iter_errors(answer["ok"])] == []
    assert one.answer({"op": "emit.forget", "session": "s"}) == {"ok": {}}


@pytest.mark.parametrize(
    "change",
    [
        {"written": None}, {"written": "="}, {"connection": "maybe"}, {"commands": [1]}, {"commands": [{"cmd_id": 3}]},
        {"told": None}, {"told": [5]}, {"call": "perhaps"}, {"value": 7},
    ],
    ids=str,
)  # fmt: skip
def test_facts_of_another_shape_are_no_answer(change: dict[str, Any]) -> None:
    read_facts(FACTS)
    with pytest.raises(BadAnswer):
        read_facts({**FACTS, **change})


# ------------------------------------------------------------------------------------------ following


def frame(t: str, body: dict[str, Any], seq: int = 0, **meta: Any) -> bytes:
    payload = json.dumps(
        {"t": t, "v": 1, "m": {"seq": seq, "ts": 1, **meta}, "p": body}, separators=(",", ":")
    ).encode()
    return len(payload).to_bytes(4, "big") + payload


def event(t: str, seq: int, sid: str | None = SID, **body: Any) -> bytes:
    return frame(t, {"run_id": "a", **body}, seq, **({} if sid is None else {"sid": sid}))


HELLO = frame("hello", {"protocols": [1]})
OPEN = frame("open", {"run_id": "a", "sid": SID})
START = event("run_start", 1)
RUNNING = event("status", 2, status="running")


def metric(seq: int, sid: str | None = SID) -> bytes:
    return event("metric", seq, sid, key="k", value=1.0)


def skip(first: int, last: int) -> bytes:
    return frame("skip", {"run_id": "a", "sid": SID, "from": first, "to": last})


def ack(seq: int, **more: Any) -> dict[str, Any]:
    return {"t": "ack", "p": {"seq": seq, "status": "ok", **more}}


WELCOME = {"t": "welcome", "p": {"protocol": 1, "codec": "json", "durability": "power", "limits": {"window_events": 3}}}
SESSION = (HELLO, WELCOME, OPEN, ack(0))


def follow(*steps: bytes | dict[str, Any] | int, secure: bool = False) -> list[str]:
    """Follow what is written (bytes), what the suite sends (objects), and time (milliseconds); return the types."""
    follower = Follower("a", "", secure=secure)
    follower.connected(hello_may_lack=False)
    seen, now = [], 0
    for step in steps:
        if isinstance(step, int):
            now = step
        elif isinstance(step, bytes):
            seen += [written.type for written in follower.take(step, now)]
        else:
            follower.sent(step)
    return seen


@pytest.mark.parametrize(
    "steps",
    [
        (HELLO, 2000, START, RUNNING, metric(3), metric(7)),
        (*SESSION, START, RUNNING, metric(3), ack(2), metric(4), metric(5)),
        (*SESSION, START, RUNNING, skip(3, 5), metric(6)),
        (*SESSION, START, RUNNING, ack(2, status="error", error="wait"), ack(1), RUNNING, metric(3)),
        (*SESSION, START, RUNNING, metric(3), ack(3), ack(1), RUNNING, metric(3)),
        (*SESSION, START, RUNNING, metric(3), ack(3), ack(1), metric(4)),
        (HELLO, WELCOME, OPEN, ack(5), metric(6)),
        (HELLO, 2500, START, RUNNING, WELCOME, OPEN, ack(0), START, RUNNING, frame("ping", {})),
        (HELLO[:3], HELLO[3:9], HELLO[9:]),
    ],
    ids=range(9),
)  # fmt: skip
def test_what_may_be_written(steps: tuple[Any, ...]) -> None:
    assert follow(*steps)[0] == "hello"


@pytest.mark.parametrize(
    ("clause", "steps"),
    [
        ("CTL-5", (START,)),
        ("CTL-5", (HELLO, WELCOME, HELLO)),
        ("CTL-5.1", (HELLO, 1999, START)),
        ("CTL-1", (frame("hello", {"protocols": [1]}, 1),)),
        ("CTL-8", (HELLO, WELCOME, START)),
        ("CTL-8.2", (HELLO, WELCOME, OPEN, START)),
        ("CTL-8.2", (HELLO, WELCOME, OPEN, ack(1), START)),
        ("CTL-8.5", (*SESSION, OPEN)),
        ("CTL-12", (*SESSION, START, RUNNING, metric(3), metric(3))),
        ("CTL-12.1", (*SESSION, START, RUNNING, metric(4))),
        ("CTL-12.1", (*SESSION, START, RUNNING, skip(3, 4), metric(6))),
        ("CTL-9.1", (*SESSION, skip(3, 2))),
        ("CTL-6.3", (*SESSION, START, RUNNING, metric(3), metric(4))),
        ("CTL-3.8", (*SESSION, START, RUNNING, ack(2, rejected=[[2, "gap"]]), ack(1), RUNNING)),
        ("CTL-3.11", (*SESSION, START, ack(1, status="error", error="forbidden"), RUNNING)),
        ("CTL-13.2", (*SESSION, START, ack(1, status="error", error="fenced"), OPEN)),
        ("VER-3.1", (HELLO, 2000, START, RUNNING, event("tags", 3, tags={"a": "b"}))),
        ("VER-3.2", (HELLO, 2000, START, skip(2, 2))),
        ("CTL-12", (HELLO, 2000, START, RUNNING, RUNNING)),
        ("ENV-3.4", (*SESSION, event("run_start", 1, None))),
        ("STR-1.1", (HELLO, WELCOME, frame("open", {"run_id": "a", "sid": "legacy-1"}))),
        ("ENV-4", (*SESSION, metric(1))),
        ("EVT-RUN_START-3", (*SESSION, START, metric(2))),
        ("EVT-RUN_END-2.1", (*SESSION, START, RUNNING, ack(2), event("run_end", 3, status="completed"), metric(4))),
        ("STR-1", (*SESSION, START, RUNNING, metric(3), ack(0, status="error", error="x"), ack(2),
                   event("metric", 3, key="k", value=2.0))),
        ("EVT-1.2", (HELLO, WELCOME, frame("open", {"run_id": "b", "sid": SID}))),
        ("ENV-3", (HELLO, WELCOME, frame("open", {"run_id": "a", "sid": SID, "wid": "1"}))),
        ("FRM-2.1", (b"\0\0\0\0",)),
        ("FRM-3.8", (b"\0\x10\0\x01{",)),
        ("FRM-1.4", (b"\0\0\0\1\x80",)),
    ],
)  # fmt: skip
def test_what_may_not(clause: str, steps: tuple[Any, ...]) -> None:
    secure_too = follow if clause != "CTL-13.2" else follow_twice
    with pytest.raises(Broken) as caught:
        secure_too(*steps)
    assert caught.value.clause == clause


def follow_twice(*steps: Any) -> None:
    """As follow, with a second connection for the last step."""
    follower = Follower("a", "", secure=False)
    follower.connected(hello_may_lack=False)
    for step in steps[:-1]:
        follower.take(step, 0) if isinstance(step, bytes) else follower.sent(step)
    follower.connected(hello_may_lack=False)
    follower.take(HELLO, 0)
    follower.sent(WELCOME)
    follower.take(steps[-1], 0)


def test_nobody_falls_back_with_a_key() -> None:
    with pytest.raises(Broken) as caught:
        follow(HELLO, 90_000, START, secure=True)
    assert caught.value.clause == "VER-4"


# ------------------------------------------------------------------------------------------ the virtual world


def test_a_virtual_world() -> None:
    sys.path.insert(0, str(FOLDER / "testees" / "python"))
    try:
        from virtual import World
    finally:
        sys.path.pop(0)
    world, seen = World(), []

    def work(name: str, pause: float) -> None:
        for _ in range(3):
            world.wait(pause, lambda: False)
            seen.append((name, world.now))

    for name, pause in (("slow", 2.0), ("quick", 0.5)):
        world.thread(lambda name=name, pause=pause: work(name, pause), daemon=True).start()  # type: ignore[misc]
    world.advance(1.0)
    assert seen == [("quick", 0.5), ("quick", 1.0)]
    world.advance(10.0)
    assert seen[2:] == [("quick", 1.5), ("slow", 2.0), ("slow", 4.0), ("slow", 6.0)]
    assert world.now == 10.0
    last = world.thread(lambda: seen.clear(), daemon=True)
    last.start()
    world.settle()
    assert seen == []
    assert not last.is_alive()


# ------------------------------------------------------------------------------------------ folders


def look(files: Any, **step: Any) -> Script:
    """Do a step about a folder in which these files lie."""
    script = Script("c", "")
    name = step.pop("do", "files")
    talk = FOLDER_STEPS[name](script, {"dir": "d", **step})
    assert next(talk)["op"] == "emit.files"
    with pytest.raises(StopIteration):
        talk.send({"files": files})
    return script


def lying(path: str, data: bytes = b"", **more: Any) -> dict[str, Any]:
    return {"path": path, "bytes": base64.b64encode(data).decode(), **more}


def segment(*payloads: bytes) -> dict[str, Any]:
    header = block({"run_id": "a", "sid": SID, "salt": "00000000"})
    records = [record(json.loads(payload)["m"]["seq"], payload, 0) for payload in payloads]
    return lying(f"spool/a/{SID}.000001.xseg", header * 2 + b"".join(records))


@pytest.mark.parametrize("files", [None, [{}], [{"path": "a", "bytes": "="}], [{"path": "a"}]], ids=str)
def test_files_of_another_shape_are_no_answer(files: Any) -> None:
    with pytest.raises(BadAnswer):
        look(files)


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ({"path": "a", "absent": True}, "a is there"),
        ({"path": "b"}, "b is there 0 times"),
        ({"path": "*"}, "is there 2 times"),
        ({"path": "a", "locked": False}, "the lock on a"),
        ({"path": "a", "json": {"x": 2}}, "it.x is the integer 1"),
        ({"path": "a", "event": {}}, "a holds no event"),
    ],
)
def test_what_is_seen_of_files(wanted: dict[str, Any], problem: str) -> None:
    files = [lying("a", b'{"x":1}', locked=True), lying("c/d")]
    with pytest.raises(Broken, match=re.escape(problem)):
        look(files, see=[wanted])
    right = [{"path": "a", "locked": True, "json": {"x": 1}}, {"path": "x", "absent": True}]
    look(files, see=[*right, {"path": "x", "json": {"x": 2}, "if_there": True}])


def test_what_is_seen_of_a_spool() -> None:
    payloads = [frame[4:] for frame in (START, RUNNING, metric(3), skip(4, 5), metric(6))]
    look([segment(*payloads)], do="spool", events=[{"t": "metric", "m": {"seq": 6}}], streams=1)
    for wanted in ({"events": [{"t": "alert"}]}, {"never": [{"t": "metric"}]}, {"streams": 2}):
        with pytest.raises(Broken):
            look([segment(*payloads)], do="spool", **wanted)
    with pytest.raises(Broken, match="seq 4 is neither there nor declared as lost"):
        look([segment(*payloads[:3], payloads[4])], do="spool")
    with pytest.raises(Broken, match="what no writer may write"):
        look([segment(b'{"m":{"seq":1}}')], do="spool")
