"""The role server: the reference is conformant, mutants of it are found, and servers that are unusual are not."""

from __future__ import annotations

import copy
import json
import socket
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from conformance_suite import FOLDER, TESTEE, ask, mutants

from xtrack_conformance import CAPABILITIES, cli
from xtrack_conformance.cases import case_files, load_cases
from xtrack_conformance.scripts import peer, server
from xtrack_conformance.scripts.matching import fits, substitute
from xtrack_conformance.scripts.peer import Frame, Mismatch, check_control

RUN = mutants()
CASES = [case for case in load_cases() if case.role == "server"]
MUTANTS, VARIANTS = RUN.server.MUTANTS, RUN.variants_server.VARIANTS
PATIENCE = 4
"""How often a mutant is asked again that has passed."""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less for what a mutant doesn't say."""
    monkeypatch.setattr(peer, "SECONDS", 0.5)


def test_there_are_cases_of_each_kind() -> None:
    assert len(CASES) > 300
    assert {case.kind for case in CASES} == {"valid", "invalid", "boundary"}
    assert {step["do"] for case in CASES for step in case.script} == server.STEPS


def test_the_steps_follow_their_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    path = FOLDER / "xtrack_conformance" / "schemas" / "server.schema.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema["$defs"]["steps"] | {"$defs": schema["$defs"]})
    for entries in case_files().values():
        for entry in entries:
            if entry["role"] == "server":
                found = [error.message for error in validator.iter_errors(entry["script"])]
                assert found == [], (entry["id"], found[:3])


@pytest.mark.slow  # CI asks it as it stands in the wheel
@pytest.mark.timeout(300)
def test_the_reference_is_conformant(capsys: Any) -> None:
    words = ["run", "--role", "server", "--", sys.executable, str(TESTEE)]
    assert cli.main(words) == 0, capsys.readouterr().out


def test_cases_name_the_mutants_there_are() -> None:
    assert {name for case in CASES for name in case.kills} == MUTANTS.keys()
    assert len(MUTANTS) >= 120


@pytest.mark.thorough
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", sorted(MUTANTS))
@pytest.mark.usefixtures("impatient")
def test_a_mutant_is_killed_by_each_case_that_names_it(name: str) -> None:
    module = RUN.load_testee()
    MUTANTS[name](module)
    for result in ask(module, [case for case in CASES if name in case.kills]):
        assert "internal error" not in result.reason, result.reason  # a crash is no kill
        wanted = "fail" if result.case.level == "MUST" else "nonstrict"
        for _ in range(PATIENCE):  # on a busy machine, what the mutant does may come when the case is over
            if result.verdict == "pass":
                (result,) = ask(module, [result.case])
        assert result.verdict == wanted, (result.case.id, result.verdict)


@pytest.mark.thorough
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", range(len(VARIANTS)))
def test_no_legal_variant_fails(number: int) -> None:
    """Each is asked some of the cases; all together they are asked all."""
    name = sorted(VARIANTS)[number]
    module = RUN.load_testee()
    VARIANTS[name](module)
    results = ask(module, CASES[number :: len(VARIANTS)])
    assert len(results) > 50
    assert [(r.case.id, r.reason) for r in results if r.verdict not in {"pass", "nonstrict", "not-applicable"}] == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_no_legal_variant_fails_at_anything(name: str) -> None:
    module = RUN.load_testee()
    VARIANTS[name](module)
    bad = [r for r in ask(module, CASES) if r.verdict not in {"pass", "nonstrict", "not-applicable"}]
    assert [(r.case.id, r.reason) for r in bad] == []


# ---------------------------------------------------------------------------------------------- servers that are none


class Dummy:
    """A testee whose server accepts everybody, and then ``does`` what it likes."""

    def __init__(self, does: str) -> None:
        self.does = does
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.held: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        try:
            while True:
                connection, _ = self.listener.accept()
                if self.does == "closes":
                    connection.close()
                    continue
                self.held.append(connection)
                if self.does == "babbles":
                    connection.sendall(b"\0\0\0\2{}" * 3)
        except OSError:
            return

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        ok: dict[str, Any] = {}
        if request["op"] == "hello":
            return {**RUN.load_testee().HELLO, "capabilities": dict.fromkeys(CAPABILITIES, True)}
        if request["op"] == "server.start":
            names = [key["name"] for key in request["options"].get("keys", ())]
            ok = {"host": "127.0.0.1", "port": self.listener.getsockname()[1], "durability": "none", "features": []}
            ok["keys"] = dict.fromkeys(names, "k" * 60)
        elif request["op"] == "server.events":
            ok = {"events": [], "streams": [], "status": "pending"}
        elif request["op"] == "server.counts":
            ok = {"refused": {}, "frames": 0, "log": ""}
        elif request["op"] == "server.keys":
            ok = {"key": "k" * 60, "kept": "", "refused": "no"} if "add" not in request["change"] else {"key": "k" * 60}
        return {"ok": ok}

    def close(self) -> None:
        self.listener.close()
        for connection in self.held:
            connection.close()


@pytest.fixture
def dummies() -> Iterator[list[Dummy]]:
    made = [Dummy(does) for does in ("closes", "babbles", "is silent")]
    yield made
    for one in made:
        one.close()


@pytest.mark.thorough
@pytest.mark.timeout(300)
def test_every_case_with_must_can_fail(dummies: list[Dummy], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "SECONDS", 0.03)
    left = [case for case in CASES if case.level == "MUST"]
    for dummy in dummies:
        results = ask(SimpleNamespace(Testee=lambda dummy=dummy: dummy), left)  # type: ignore[arg-type]
        passed = {result.case.id for result in results if result.verdict != "fail"}
        left = [case for case in left if case.id in passed]
    assert [case.id for case in left] == []


# ---------------------------------------------------------------------------------------------- the judge's own parts


@pytest.mark.parametrize(
    ("found", "wanted", "fit"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"b": {"$absent": True}}, True),
        ({"b": None}, {"b": {"$absent": True}}, False),
        ({}, {"b": {"$optional": 1}}, True),
        ({"b": 2}, {"b": {"$optional": 1}}, False),
        ({"a": 5}, {"a": {"$min": 5}}, True),
        ({"a": 4}, {"a": {"$min": 5}}, False),
        ({"a": True}, {"a": {"$min": 0}}, False),
        ({"a": "x"}, {"a": {"$in": ["x", "y"]}}, True),
        ({"a": "x"}, {"a": {"$not": "x"}}, False),
        ({"a": "forbidden: x"}, {"a": {"$begins": "forbidden"}}, True),
        ({"a": [1, 2]}, {"a": [1, {"$any": True}]}, True),
        ({"a": [1, 2]}, {"a": [1]}, False),
    ],
)
def test_matchers(found: Any, wanted: Any, fit: bool) -> None:
    assert (fits(found, wanted, {}) == "") == fit


def test_an_ack_that_is_said_twice_is_not_the_first_that_covers_a_refusal() -> None:
    frame = Frame({"t": "ack", "p": {"seq": 2, "status": "ok"}}, b"")
    wanted = {"stream": ["r", "", "s"], "seq": 3, "rejected": [[2, "seq_conflict"]]}
    script = server._Script("a-case")
    assert not script._take_ack(frame, wanted, {}, again=True)
    with pytest.raises(Mismatch, match=r"CTL-3\.5"):
        script._take_ack(frame, wanted, {}, again=False)


def test_what_is_bound_stands_for_itself() -> None:
    names: dict[str, str] = {}
    assert fits({"id": "abc", "n": 1}, {"id": {"$bind": "x"}, "n": 2}, names)
    assert names == {}
    assert not fits({"id": "abc"}, {"id": {"$bind": "x", "$not": "abd"}}, names)
    assert substitute({"p": ["@x@", "-@x@-", 1]}, names) == {"p": ["abc", "-abc-", 1]}


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        ({"t": "pong", "v": 1, "m": {"seq": 0, "ts": 1}, "p": {}}, ""),
        ({"t": "pong", "v": 1, "m": {"seq": 1, "ts": 1}, "p": {}}, "CTL-1"),
        ({"t": "pong", "v": 1, "m": {"seq": 0, "ts": 1, "sid": "a"}, "p": {}}, "CTL-1"),
        ({"t": "ack", "v": 1, "m": {"seq": 0, "ts": 1}, "p": {"seq": 1}}, "EVT-1"),
        ({"t": "ack", "v": 1, "m": {"seq": 0, "ts": 1}, "p": {"seq": 1, "status": "fine"}}, "VAL-6"),
        ({"t": "ack", "v": 1, "m": {"seq": 0, "ts": 1}, "p": {"seq": 1, "status": "ok", "error": None}}, "JSN-6.4"),
    ],
)
def test_control_events_are_looked_at_strictly(event: dict[str, Any], problem: str) -> None:
    frame = Frame(copy.deepcopy(event), json.dumps(event).encode())
    if not problem:
        check_control(frame)
        return
    with pytest.raises(Mismatch, match=problem):
        check_control(frame)
