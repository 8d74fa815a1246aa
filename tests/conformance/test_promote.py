"""A finding becomes the draft of a case, whose author has the last word."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from conformance_suite import MUTANT

from xtrack_conformance import cli
from xtrack_conformance.cases import CONVERTER, Case, load_cases
from xtrack_conformance.fuzz.findings import Finding

PAYLOAD = '{"t":"ping","v":1,"m":{"seq":0,"ts":0},"p":{}}'
EVENT = {"t": "log", "v": 1, "m": {"seq": 1, "ts": 1, "sid": "s"}, "p": {"run_id": "a", "level": "info", "msg": "x"}}
FINDINGS = {
    "decoder": Finding("decoder", "refused", "x (JSN-7.1)", input={"payload": [{"text": PAYLOAD}], "reader": "strict"}),
    "encoder": Finding("encoder", "legal", "x (ENV-1)", input={"value": {"t": "obj", "v": [["a", {"t": "null"}]]}}),
    "framer": Finding("framer", "tiling", "x (ERR-3.3)", input={"feed": [{"hex": "00"}], "source": "recording"}),
    "collector": Finding("collector", "gaps", "x", script=[{"do": "feed", "source": "x", "events": [EVENT]}]),
    "store": Finding("store", "events", "x", script=[{"do": "put", "source": "x", "events": [EVENT]}]),
}


def promoted(path: Path, *words: str, capsys: Any) -> tuple[str, dict[str, Any]]:
    """What is printed, and the case."""
    out = path.with_name("case.json")
    assert cli.main(["promote", str(path), "--json", str(out), *words]) == 0, capsys.readouterr().err
    [case] = json.loads(out.read_text(encoding="utf-8"))["cases"]
    return capsys.readouterr().out, case


@pytest.mark.parametrize("role", sorted(FINDINGS))
def test_a_draft(role: str, tmp_path: Path, capsys: Any) -> None:
    told, case = promoted(FINDINGS[role].save(tmp_path), capsys=capsys)
    assert case["role"] == role
    assert case["clauses"] == ["TODO"]
    assert (case["why"], case["kind"]) == ("TODO", "TODO")
    assert FINDINGS[role].digest in case["id"]
    assert f"observed: {FINDINGS[role].message}" in told
    call = "\n".join(line for line in told.splitlines() if not line.startswith("#"))
    compile(call, "draft", "exec")
    assert "TODO" in call


@pytest.mark.parametrize("role", ["decoder", "encoder", "framer"])
def test_filled_in_it_is_a_case(role: str, tmp_path: Path, capsys: Any) -> None:
    words = ["--id", "jsn-new-one", "--clause", "JSN-7.1", "--clause", "ERR-4.2"]
    told, case = promoted(FINDINGS[role].save(tmp_path), *words, capsys=capsys)
    assert "JSN-7.1 A strict reader MUST refuse them (`bad_json`)." in told
    frames = [{"offset": 0, "length": 1, "rejected": "truncated"}]
    case |= {
        "kind": "invalid",
        "why": "because",
        "expect": {"frames": frames} if role == "framer" else {"rejected": {}},
    }
    read = CONVERTER.structure(case, Case)
    assert read.id == "jsn-new-one"
    assert read.clauses == ("JSN-7.1", "ERR-4.2")
    assert role == "encoder" or read.input.data() in {PAYLOAD.encode(), b"\0"}


def test_from_a_search_to_a_draft(tmp_path: Path, capsys: Any) -> None:
    command = [sys.executable, str(MUTANT), "numbers-are-floats"]
    words = ["fuzz", "--out", str(tmp_path), "--seed", "1", "--examples", "600", "--role", "decoder", "--", *command]
    assert cli.main(words) == cli.FAILED
    out = capsys.readouterr().out
    path, *_ = found = list(tmp_path.glob("finding-*.json"))
    assert all(f"promote {one}" in out for one in found)
    told, case = promoted(path, "--clause", "VAL-2.1", capsys=capsys)
    assert "expected the integer" in told
    assert case["input"]["payload"]


@pytest.mark.parametrize(
    ("text", "words", "reason"),
    [
        ("[]", [], "no finding of this version"),
        ("{", [], "it is no JSON"),
        ('{"schema": "xtrack-conformance-finding/1"}', [], "no finding: "),
        (None, ["--id", "Not An Id"], "is no id"),
        (None, ["--id", load_cases()[0].id], "an id is never given twice"),
    ],
)
def test_wrong_usage(text: str | None, words: list[str], reason: str, tmp_path: Path, capsys: Any) -> None:
    path = FINDINGS["framer"].save(tmp_path)
    if text is not None:
        path.write_text(text)
    assert cli.main(["promote", str(path), *words]) == cli.USAGE
    assert reason in capsys.readouterr().err
