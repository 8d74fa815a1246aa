"""MessagePack: the judge's own reader of it, and what the suite makes of those that have it and those that don't."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conformance_suite import FOLDER, ask, mutants
from hypothesis import given
from hypothesis import strategies as st

from xtrack_conformance import cli, msgpack
from xtrack_conformance.cases import load_cases
from xtrack_conformance.payloads import read_frame
from xtrack_conformance.scripts import peer, server
from xtrack_conformance.slots import Fault

CASES = [case for case in load_cases() if "messagepack" in case.needs]
METRIC = {"t": "metric", "v": 1, "m": {"seq": 2, "ts": 1}, "p": {"run_id": "a", "key": "k", "value": 0.5}}


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=40),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner, max_size=20),
    max_leaves=40,
)


@given(st.dictionaries(st.text(max_size=40), TREES, max_size=20))
def test_it_reads_what_another_writer_has_written(tree: dict[str, Any]) -> None:
    packed = msgspec.msgpack.encode(tree)
    assert json.dumps(msgpack.read_tree(packed)) == json.dumps(tree)


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("cc07", 7), ("cd0007", 7), ("ce00000007", 7), ("cf0000000000000007", 7), ("d0f9", -7), ("d1fff9", -7),
        ("d2fffffff9", -7), ("d3fffffffffffffff9", -7), ("cfffffffffffffffff", 2**64 - 1), ("7f", 127), ("e0", -32),
        ("ca3f000000", 0.5), ("ca3dcccccd", 0.10000000149011612), ("cb8000000000000000", -0.0),
        ("d90178", "x"), ("da000178", "x"), ("db0000000178", "x"), ("dc000107", [7]), ("dd0000000107", [7]),
        ("de0001a16107", {"a": 7}), ("df00000001a16107", {"a": 7}), ("c0", None), ("c2", False), ("c3", True),
    ],
)  # fmt: skip
def test_every_form_of_a_value(form: str, value: Any) -> None:
    found = msgpack.read_tree(bytes.fromhex(f"81a178{form}"))["x"]
    assert (type(found), json.dumps(found)) == (type(value), json.dumps(value))


@pytest.mark.parametrize(
    ("digits", "clause", "says"),
    [
        ("", "MSG-2", "begins with nothing"), ("90", "MSG-2", "begins with 90"), ("c1", "MSG-2", "begins with c1"),
        ("8000", "MSG-3", "goes on behind its map, at byte 1"), ("81a178", "MSG-3", "payload.x: the payload ends"),
        ("81a2", "MSG-3", "payload, a name: the payload ends"), ("81a178cb00", "MSG-3", "payload.x: the payload ends"),
        ("de00", "MSG-3", "ends inside"), ("81a178dbffffffff", "MSG-3", "ends inside"),
        ("81a178ddffffffff", "MSG-3", "ends inside"),
        ("810100", "MSG-3.1", "no string: the integer 1"), ("81c000", "MSG-3.1", "no string: null"),
        ("81a178c40161", "MSG-3.2", r"payload.x: bin \(byte c4\)"), ("81a178d40161", "MSG-3.2", "ext"),
        ("81a178d7ff", "MSG-3.2", "ext"),
        ("81a17891c1", "MSG-3.2", r"payload.x\[0\]: the unused type C1"), ("81a178a1ff", "MSG-3.4", "no UTF-8"),
        ("81a178a3eda080", "MSG-3.4", "no UTF-8"), ("82a17800a17800", "JSN-5.3", "stands twice"),
        ("81a178cb7ff8000000000000", "MSG-5", "the float nan"), ("81a178caff800000", "MSG-5", "the float -inf"),
        ("81a178" + "91" * 64, "JSN-2.4", "more than 64"),
    ],
)  # fmt: skip
def test_what_no_writer_may_write(digits: str, clause: str, says: str) -> None:
    with pytest.raises(Fault, match=says) as raised:
        msgpack.read_tree(bytes.fromhex(digits))
    assert raised.value.clause == clause


def test_depth() -> None:
    deepest = bytes.fromhex("81a178" + "91" * 62 + "90")
    assert str(msgpack.read_tree(deepest)).count("[") == 63
    with pytest.raises(Fault, match="more than 64"):
        msgpack.read_tree(bytes.fromhex("81a178" + "91" * 63 + "90"))


def test_a_frame_is_messagepack_where_that_was_chosen_alone() -> None:
    packed = framed(msgspec.msgpack.encode(METRIC))
    written = read_frame(packed, "msgpack")
    assert (written.codec, written.event, written.notes) == ("msgpack", METRIC, ())
    assert read_frame(framed(json.dumps(METRIC).encode()), "msgpack").codec == "json"
    with pytest.raises(Fault) as raised:
        read_frame(packed)
    assert raised.value.clause == "FRM-1.4"
    [(clause, _)] = read_frame(framed(msgspec.msgpack.encode(dict(reversed(METRIC.items())))), "msgpack").notes
    assert clause == "ENV-7"


def test_slots_are_looked_at_as_in_json() -> None:
    for body, clause in (
        ({**METRIC["p"], "step": 1.0}, "JSN-4.2"),  # type: ignore[dict-item]
        ({**METRIC["p"], "step": None}, "JSN-6.4"),  # type: ignore[dict-item]
        ({"run_id": "a", "key": "k"}, "EVT-1"),
    ):
        with pytest.raises(Fault) as raised:
            read_frame(framed(msgspec.msgpack.encode({**METRIC, "p": body})), "msgpack")
        assert raised.value.clause == clause


def test_each_case_says_what_it_needs() -> None:
    assert len(CASES) > 300
    for case in load_cases():
        if case.input.codec == "msgpack":
            assert "messagepack" in case.needs, case.id
    assert {case.role for case in CASES} == {"encoder", "decoder", "framer"}


def test_who_has_no_messagepack_is_asked_none_of_it() -> None:
    module = mutants().load_testee()
    module.HELLO = {**module.HELLO, "capabilities": {**module.HELLO["capabilities"], "messagepack": False}}
    assert {result.verdict for result in ask(module, CASES)} == {"not-applicable"}


@pytest.mark.parametrize("name", ["rust", "elixir"])
def test_those_that_come_with_the_suite_and_have_none_say_so(name: str) -> None:
    files = [*(FOLDER / "testees" / name).rglob("*.rs"), *(FOLDER / "testees" / name).rglob("*.ex*")]
    assert files
    assert not any("messagepack" in path.read_text(encoding="utf-8").lower() for path in files)


def test_a_writer_of_the_other_codec_is_told_which_it_was(tmp_path: Path, capsys: Any) -> None:
    mutant = [sys.executable, str(FOLDER / "mutants" / "run.py"), "msgpack-writes-json"]
    report = tmp_path / "report.json"
    assert cli.main(["run", "--case", "msg-write-simplest", "--report", str(report), "--", *mutant]) == 1
    printed = capsys.readouterr().out
    assert "wrote json, and not msgpack (VER-2.6, VER-2.7)" in printed
    assert '"value": 0.5}} in msgpack\n' in printed


def peer_with(codec: str) -> peer.Peer:
    """Return a connection of the suite's whose welcome has chosen a codec."""
    made = peer.Peer.__new__(peer.Peer)
    made.codec = codec
    return made


PONG = {"t": "pong", "v": 1, "m": {"seq": 0, "ts": 1}, "p": {}}
BEYOND = {**METRIC, "later": [10**24]}
LARGE = {**METRIC, "x": "x" * 1_048_576}


@pytest.mark.parametrize(
    ("codec", "payload", "clause"),
    [
        ("json", json.dumps(PONG).encode(), ""),
        ("json", msgspec.msgpack.encode(PONG), "MSG-1.1"),
        ("msgpack", msgspec.msgpack.encode(PONG), ""),
        ("msgpack", json.dumps(PONG).encode(), "VER-2.6"),
        ("msgpack", json.dumps(METRIC).encode(), "VER-2.6"),
        ("msgpack", json.dumps(BEYOND).encode(), ""),
        ("msgpack", json.dumps({**METRIC, "later": float("inf")}).encode(), ""),
        ("msgpack", json.dumps(LARGE).encode(), ""),
        ("msgpack", msgspec.msgpack.encode(LARGE), "VER-2.7"),
        ("msgpack", json.dumps({**PONG, "t": "reject"}).encode(), ""),
        ("msgpack", msgspec.msgpack.encode({**PONG, "t": "reject"}), "VER-2.6"),
        ("msgpack", b"\x81\xa1t\xc1", "MSG-3.2"),
    ],
    ids=range(12),
)
def test_a_server_is_read_in_what_it_chose(codec: str, payload: bytes, clause: str) -> None:
    if not clause:
        assert peer_with(codec)._read(payload)["t"] in {"pong", "metric", "reject"}
        return
    with pytest.raises(peer.Mismatch, match=rf"\({re.escape(clause)}\)$"):
        peer_with(codec)._read(payload)


def test_an_event_that_is_published_is_the_same_in_both_codecs() -> None:
    sent = json.dumps({**METRIC, "later": [1.0, None]}).encode()
    for tree, same in (
        ({**METRIC, "later": [1.0, None]}, True),
        (METRIC, False),
        ({**METRIC, "later": [1, None]}, False),
    ):
        assert server._is_event(peer.Frame(tree, msgspec.msgpack.encode(tree)), sent) == same
    assert server._is_event(peer.Frame(METRIC, sent), sent)
