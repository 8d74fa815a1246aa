"""Exports: the same each time, complete, as their schema says, and enough to judge a decoder by files alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from conformance_suite import FOLDER, TESTEE, mutants

from xtrack_conformance import cli
from xtrack_conformance.cases import build, load_cases
from xtrack_conformance.sets import load_set
from xtrack_conformance.slots import normal
from xtrack_conformance.values import difference, untag
from xtrack_conformance.vectors import INLINE_MAX, vector

CASES = {case.id: case for case in load_cases()}
CODEC = [word for role in ("encoder", "decoder", "framer") for word in ("--role", role)]


def export(folder: Path, *words: str) -> dict[str, bytes]:
    assert cli.main(["export", "--out", str(folder), *words]) == 0
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return export(tmp_path_factory.mktemp("export") / "new" / "folder")


@pytest.fixture(scope="module")
def vectors(exported: dict[str, bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in exported["vectors.jsonl"].splitlines()]


def test_it_holds_every_case_once(exported: dict[str, bytes], vectors: list[dict[str, Any]]) -> None:
    assert [entry["id"] for entry in vectors] == list(CASES)
    by_role = [
        entry for role in {case.role for case in CASES.values()} for entry in json.loads(exported[f"{role}.json"])
    ]
    assert sorted(map(json.dumps, by_role)) == sorted(map(json.dumps, vectors))
    clauses = json.loads(exported["clauses.json"])
    assert {clause for entry in vectors for clause in entry["clauses"]} == clauses.keys()


def test_the_manifest_names_the_set_and_every_file(exported: dict[str, bytes]) -> None:
    manifest = json.loads(exported["manifest.json"])
    assert manifest["requirements"] == {
        "number": load_set().number,
        "status": load_set().status,
        "cases": len(CASES),
        "sha256": load_set().sha256,
    }
    assert manifest["files"] == {
        name: hashlib.sha256(data).hexdigest() for name, data in exported.items() if name != "manifest.json"
    }
    assert sum(manifest["vectors"].values()) == len(CASES)


def test_it_follows_its_schema(exported: dict[str, bytes], vectors: list[dict[str, Any]]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(exported["vector.schema.json"])
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for entry in vectors:
        assert [error.message for error in validator.iter_errors(entry)] == [], entry["id"]


def test_bytes_and_values_are_those_of_the_cases(vectors: list[dict[str, Any]]) -> None:
    for entry in vectors:
        case = CASES[entry["id"]]
        if case.script:
            assert entry["script"] == list(case.script)
            continue
        if case.role == "encoder":
            assert difference(case.input.encoded_value(), untag(entry["value"])) is None
        else:
            data = bytes.fromhex(entry["input"]) if "input" in entry else build(entry["parts"])
            assert data == case.input.data()
            assert (entry["size"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
            assert ("input" in entry) == (len(data) <= INLINE_MAX)
        assert len(entry["any_of"]) == 1 + len(case.also_allowed)


def test_it_is_the_same_each_time_and_replaces_itself(exported: dict[str, bytes], tmp_path: Path) -> None:
    first = export(tmp_path, *CODEC, "--format", "files")
    assert export(tmp_path, "--role", "decoder", "--case", "err-*").keys() >= {"decoder.json"}
    assert not (tmp_path / "framer" / "frm-tiny.bin").exists()
    assert export(tmp_path, *CODEC, "--format", "files") == first
    assert export(tmp_path) == exported


def test_files_hold_the_bytes(tmp_path: Path) -> None:
    files = export(tmp_path, "--role", "framer", "--role", "encoder", "--format", "files")
    for case in CASES.values():
        if case.role == "framer":
            entry = json.loads(files[f"framer/{case.id}.json"])
            assert entry["file"] == f"framer/{case.id}.bin"
            assert files[entry["file"]] == case.input.data()
            assert not {"input", "parts"} & entry.keys()
        elif case.role == "encoder":
            assert f"encoder/{case.id}.bin" not in files
    assert not any(name.startswith("decoder/") for name in files)


def test_what_is_in_the_way_stays(tmp_path: Path, capsys: Any) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("x")
    assert cli.main(["export", "--out", str(tmp_path)]) == cli.USAGE
    assert "is no export" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
    folder = tmp_path / "export"
    export(folder, "--case", "FRM-2")
    (folder / "mine.txt").write_text("y")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["../precious.txt"] = "0"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    export(folder, "--case", "FRM-2")
    assert precious.exists(), "a manifest deletes nothing outside of its folder"
    assert (folder / "mine.txt").exists()
    assert cli.main(["export", "--out", str(precious)]) == cli.USAGE


def test_the_readme_names_every_member(exported: dict[str, bytes], vectors: list[dict[str, Any]]) -> None:
    text = exported["README.md"].decode()
    for name in {name for entry in vectors for name in entry} - {"readers"}:
        assert f"`{name}`" in text, name
    for name in ("readers", "options", "source", "limit", "stop_at_damage", "end", "due", "not_value"):
        assert f"`{name}`" in text, name


def test_a_decoder_is_judged_by_the_files_alone(vectors: list[dict[str, Any]]) -> None:
    """As somebody would who has read README.md there: the reference passes, and a mutant doesn't."""

    def wrong(module: Any) -> list[str]:
        testee = module.Testee()
        found = []
        for entry in vectors:
            if entry["role"] != "decoder" or "input" not in entry or entry["level"] != "MUST" or entry["needs"]:
                continue
            for reader in entry["readers"]:
                payload = module.to_base64(bytes.fromhex(entry["input"]))
                answer = testee.answer({"op": "decode", "reader": reader, "payload": payload})
                if not any(_fits(answer, outcome) for outcome in entry["any_of"]):
                    found.append(entry["id"])
        return found

    run = mutants()
    assert wrong(run.load_testee()) == []
    changed = run.load_testee()
    run.MUTANTS["seq-zero-accepted"](changed)
    assert "env-seq-zero" in wrong(changed)


def _fits(answer: dict[str, Any], outcome: dict[str, Any]) -> bool:
    if "rejected" in outcome:
        return "rejected" in answer
    return "event" in answer and difference(normal(untag(outcome["value"])), normal(untag(answer["event"]))) is None


def test_the_role_that_has_a_schema_of_steps_brings_it(exported: dict[str, bytes]) -> None:
    schemas = FOLDER / "xtrack_conformance" / "schemas"
    for role in {case.role for case in CASES.values() if case.script}:
        if (schemas / f"{role}.schema.json").exists():
            assert f"{role}.schema.json" in exported


def test_a_vector_does_not_say_how_the_suite_asks() -> None:
    told = vector(CASES["frm-tiny"])
    assert not {"axes", "kills", "expect", "also_allowed"} & told.keys()
    assert TESTEE.exists()
