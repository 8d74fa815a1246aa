"""verify, stats, replay, export, store, doctor."""

import contextlib
import csv
import io
import json
import os
import sqlite3
import sys

import net_peers
import pytest
from cli_runs import bad_run, capture, good_run, stream

from xtrack_protocol.ir import LogEntry, Metric, RunStart
from xtrack_protocol.net.tls import fingerprint_of, keep_self_signed, server_context
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import StreamWriter, segments
from xtrack_protocol.wire import encode


def damage(path, offset, value=0xFF):
    data = bytearray(path.read_bytes())
    data[offset] = value
    path.write_bytes(data)


def a_segment(tmp_path):
    writer = StreamWriter(tmp_path / "run", StreamId("r", "", "s"))
    for envelope in stream("r", [RunStart("r"), Metric("r", "x", 2), Metric("r", "x", 3)], sid="s"):
        writer.append(envelope.meta.seq, encode(envelope))
    writer.close()
    (path,) = segments(tmp_path / "run")
    return path


# ------------------------------------------------------------------------------------------ verify


def test_verify(xtrack, captured, tmp_path):
    segment = a_segment(tmp_path)
    done = xtrack("verify", captured, segment)
    assert done.out == (
        f"file\tkind\tframes\tbad\tmissing\tresult\n{captured}\tframes\t17\t0\t0\tok\n{segment}\tsegment\t3\t0\t0\tok\n"
    )
    assert (done.code, done.err) == (0, "")


def test_verify_finds_damage(xtrack, captured, tmp_path):
    segment = a_segment(tmp_path)
    damage(captured, 30)
    damage(segment, segment.read_bytes().index(b'"value":2') + 8, ord("7"))
    done = xtrack("verify", "--json", captured, segment)
    plain, checked = json.loads(done.out)
    assert done.code == 1
    assert [plain["result"], checked["result"]] == ["damaged", "damaged"]
    assert checked["damage"][0]["error"] == "bad_checksum"
    assert checked["missing"] == [{"run_id": "r", "worker_id": "", "session_id": "s", "seqs": [[2, 2]]}]
    assert "bad_checksum" in xtrack("verify", segment).err


def test_verify_tells_a_torn_tail_from_damage(xtrack, tmp_path):
    segment = a_segment(tmp_path)
    segment.write_bytes(segment.read_bytes()[:-5])
    done = xtrack("verify", "--json", segment)
    assert (done.code, json.loads(done.out)[0]["result"]) == (0, "torn")


def test_verify_of_a_segment_without_its_header(xtrack, tmp_path):
    segment = a_segment(tmp_path)
    damage(segment, 20)
    assert xtrack("verify", segment).code == 0  # there is another copy
    damage(segment, 4096 + 20)
    done = xtrack("verify", segment)
    assert done.code == 1
    assert "\tdamaged\n" in done.out
    assert "both copies" in done.err


def test_verify_finds_missing_seqs(xtrack, tmp_path):
    events = good_run()
    (tmp_path / "gap.bin").write_bytes(capture(events[:3] + events[5:]))
    done = xtrack("verify", "gap.bin")
    assert done.code == 1
    assert "\tincomplete\n" in done.out
    assert "missing seqs 4-5" in done.err


def test_verify_of_other_files(xtrack, tmp_path):
    (tmp_path / "a.json").write_text("{}")
    done = xtrack("verify", "a.json", "nope")
    assert done.code == 2
    assert done.out.count("unreadable") == 2


# ------------------------------------------------------------------------------------------ stats


def test_stats(xtrack, captured):
    done = xtrack("stats", captured)
    assert done.code == 0
    assert "\nmetric\t3\t" in done.out
    assert "\ngood-1\t11\t" in done.out
    made = json.loads(xtrack("stats", "--json", captured).out)
    assert (made["frames"], made["bad"], made["events"]) == (17, 0, 17)
    assert made["first"] == "2023-11-14T22:13:20.000000Z"
    assert made["last"] == "2023-11-14T22:14:25.000000Z"
    assert {row["type"]: row["events"] for row in made["types"]}["param"] == 3
    assert [row["events"] for row in made["streams"]] == [6, 11]
    assert made["files"][0]["bytes"] == captured.stat().st_size
    assert made["bytes"] + 4 * 17 == captured.stat().st_size


def test_stats_of_a_damaged_file(xtrack, captured, tmp_path):
    damage(captured, 30)
    assert xtrack("stats", captured).code == 1
    assert xtrack("stats", tmp_path / "nope").code == 2


# ------------------------------------------------------------------------------------------ replay


def test_replay(xtrack, captured, tmp_path):
    url = f"sqlite:///{tmp_path}/new.db"
    first = json.loads(xtrack("replay", captured, "--store", url, "--json").out)[0]
    again = json.loads(xtrack("replay", captured, "--store", url, "--json").out)[0]
    assert (first["stored"], first["duplicates"], first["runs"]) == (17, 0, ["good-1", "bad-1"])
    assert (again["stored"], again["duplicates"]) == (0, 17)
    assert [run["run_id"] for run in json.loads(xtrack("ls", "--json", "--store", url).out)] == ["bad-1", "good-1"]


def test_replay_of_standard_input(xtrack, process, captured, tmp_path):
    content = captured.read_bytes()
    done = process("replay", "-", "--json", input=content)
    assert done.code == 0, done.err
    [report] = json.loads(done.out)
    assert (report["file"], report["stored"], report["runs"]) == ("<stdin>", 17, ["good-1", "bad-1"])
    assert xtrack("ls").out.count("\n") == 3
    done = process("replay", captured, "-", "--run-id", "again", input=capture(good_run()))
    assert "holds several runs" in done.err
    done = process("replay", "-", "--run-id", "again", "--json", input=capture(good_run()))
    assert json.loads(done.out)[0]["runs"] == ["again"]
    done = process("replay", "-", input=content[:100] + b"\xff" + content[101:])
    assert done.code == 1
    assert "\n<stdin>: bytes " in f"\n{done.err}"
    done = process("replay", "-", input=b"\x1f\x8b" + bytes(100))
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("xtrack: error: <stdin>: ")
    done = process("replay", "-", "-", input=content)
    assert (done.code, "standard input can be read once" in done.err) == (2, True)


def test_replay_into_another_run(xtrack, tmp_path, captured):
    (tmp_path / "one.bin").write_bytes(capture(good_run()))
    done = xtrack("replay", "one.bin", "--run-id", "other", "--speed", "1000000")
    assert done.out.startswith("file\tframes\tstored\t")
    assert "\tother\n" in done.out
    assert xtrack("show", "other").code == 0
    assert xtrack("replay", captured, "--run-id", "other").code == 2


@pytest.mark.parametrize("speed", ["fast", "0", "-1", "nan", "inf"])
def test_speeds_that_are_none(xtrack, captured, speed):
    assert xtrack("replay", captured, f"--speed={speed}").code == 2


def test_replay_of_bad_files(xtrack, captured, tmp_path):
    damage(captured, 30)
    done = xtrack("replay", captured)
    assert done.code == 1
    assert "bad_utf8" in done.err
    (tmp_path / "a.json").write_text("{}")
    assert xtrack("replay", "a.json").code == 1
    assert xtrack("replay", "nope").code == 2


def test_a_folder_is_no_file(xtrack, tmp_path):
    (tmp_path / "folder").mkdir()
    for verb in ("verify", "stats"):
        done = xtrack(verb, "folder")
        assert done.code == 2
        assert "folder: Is a directory. Name the files in it\n" in done.err


def test_damage_names_the_member(xtrack, tmp_path):
    (tmp_path / "a.bin").write_bytes(capture(good_run()).replace(b'"step":', b'"stop":'))
    said = "missing_field: p.step: is required"  # of the checkpoint
    assert said in xtrack("replay", "a.bin").err
    for verb in ("replay", "verify"):
        found = json.loads(xtrack(verb, "a.bin", "--json").out)[0]["damage"]
        assert [f"{error['error']}: {error['reason']}" for error in found] == [said]


# ------------------------------------------------------------------------------------------ export


def test_export_jsonl(xtrack, store, tmp_path):
    done = xtrack("export", "good-1", "--jsonl", "-", "--store", store)
    events = [json.loads(line) for line in done.out.splitlines()]
    assert [event["event"] for event in events] == [json.loads(encode(envelope)) for envelope in good_run()]
    assert events[0]["stream"] == {"worker_id": "", "session_id": "sid-good-1"}
    made = json.loads(xtrack("export", "good-1", "--jsonl", "a.jsonl", "--json", "--store", store).out)
    assert made == {"run_id": "good-1", "written": {"a.jsonl": 11}}
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 11


def test_export_csv_holds_no_formula(xtrack, tmp_path):
    events = stream("r", [RunStart("r"), *(Metric("r", key, -1.5, step=1) for key in ("=1+1", "+a", "-b", "@c", "d"))])
    (tmp_path / "f.bin").write_bytes(capture(events))
    xtrack("replay", "f.bin")
    rows = list(csv.DictReader(xtrack("export", "r", "--csv", "-").out.splitlines()))
    assert [row["key"] for row in rows] == ["'+a", "'-b", "'=1+1", "'@c", "d"]
    assert {row["value"] for row in rows} == {"-1.5"}  # numbers stay numbers


def test_csv_has_texts_as_they_are(xtrack, tmp_path):
    keys = ["a\u202eb", "a\u200bb", 'cr\rlf\n, and "quotes"', "\n=1+1", "\x1b[31m"]
    events = stream("r", [RunStart("r"), *(Metric("r", key, 1, step=1) for key in keys)])
    (tmp_path / "f.bin").write_bytes(capture(events))
    xtrack("replay", "f.bin")
    assert xtrack("export", "r", "--csv", "f.csv").code == 0
    written = (tmp_path / "f.csv").read_bytes().decode()
    assert written.endswith("\n")
    assert not written.endswith("\r\n")
    rows = list(csv.DictReader(io.StringIO(written, newline="")))
    assert {row["key"] for row in rows} == {*keys} - {"\n=1+1"} | {"'\n=1+1"}
    listed = xtrack("metrics", "r", "--format", "csv").out
    assert "a\u202eb" in listed
    assert "a\\u202eb" in xtrack("metrics", "r").out


@pytest.fixture
def connect():
    """SQLite connections that are closed at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda path: stack.enter_context(contextlib.closing(sqlite3.connect(path)))


def test_export_sqlite(xtrack, tmp_path, connect):
    hostile = [Metric("x", "big", 2**63), LogEntry("x", "info", "a\x00b", fields={"k": float("nan")})]
    (tmp_path / "f.bin").write_bytes(capture(good_run() + bad_run() + stream("x", [RunStart("x"), *hostile])))
    xtrack("replay", "f.bin")
    for run in ("good-1", "bad-1", "x"):
        assert xtrack("export", run, "--sqlite", f"{run}.db").code == 0
    good = connect(tmp_path / "good-1.db")
    assert good.execute("SELECT key, step, value FROM metrics ORDER BY 1, 2").fetchall() == [
        ("acc", 2, 1.0), ("loss", 1, 0.75), ("loss", 2, 0.5)
    ]  # fmt: skip
    assert good.execute("SELECT key, value, json FROM params").fetchall() == [
        ("lr", 0.1, "0.1"), ("model.kind", "mlp", '"mlp"')
    ]  # fmt: skip
    assert good.execute("SELECT status, name, events FROM run").fetchall() == [("completed", "base", 11)]
    for table in ("tags", "artifacts", "checkpoints", "logs"):
        assert good.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,)
    bad = connect(tmp_path / "bad-1.db")
    assert bad.execute("SELECT value, text FROM metrics ORDER BY step").fetchall() == [
        (None, "nan"),
        (float("inf"), None),
    ]
    other = connect(tmp_path / "x.db")
    assert other.execute("SELECT message, fields FROM logs").fetchall() == [("a\x00b", '{"k":{"$float":"NaN"}}')]
    assert other.execute("SELECT value FROM metrics").fetchall() == [(float(2**63),)]


def test_export_writes_over_nothing(xtrack, store, tmp_path):
    (tmp_path / "there").write_text("mine")
    assert xtrack("export", "good-1", "--csv", "there", "--store", store).code == 1
    assert (tmp_path / "there").read_text() == "mine"
    assert xtrack("export", "good-1", "--csv", "there", "--force", "--store", store).code == 0
    assert not list(tmp_path.glob(".*.part"))
    assert xtrack("export", "good-1", "--store", store).code == 2
    assert xtrack("export", "good-1", "--sqlite", "-", "--store", store).code == 2
    assert xtrack("export", "good-1", "--csv", "-", "--json", "--store", store).code == 2


@pytest.mark.skipif(sys.platform == "win32", reason="pipes")
def test_export_never_writes_over_the_store_or_what_is_no_file(xtrack, store, tmp_path):
    before = (tmp_path / "runs.db").read_bytes()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "runs.db")
    os.mkfifo(tmp_path / "pipe")
    for kind, path, said in (
        ("--sqlite", "runs.db", "runs.db: is the store that is exported from. Choose another name"),
        ("--csv", "link.db", "link.db: is the store that is exported from. Choose another name"),
        ("--csv", "folder", "folder: is a folder. Name a file in it"),
        ("--sqlite", "", ".: is a folder. Name a file in it"),
        ("--jsonl", "pipe", "pipe: is no file that can be replaced. Choose another name"),
        ("--csv", "none/a.csv", "none/a.csv: there is no folder none"),
        ("--sqlite", "none/a.db", "none/a.db: there is no folder none"),
    ):
        done = xtrack("export", "good-1", kind, path, "--force", "--store", store)
        assert (done.code, done.err) == (1, f"xtrack: error: {said}\n")
    assert (tmp_path / "runs.db").read_bytes() == before
    for path in ("-", "a"):
        done = xtrack("export", "good-1", "--csv", path, "--jsonl", path, "--store", store)
        assert done.code == 2
        assert "two exports can't go to the same place" in done.err
    assert not list(tmp_path.glob("a*")) + list(tmp_path.glob(".*.part"))


# ------------------------------------------------------------------------------------------ store


def test_store_info(xtrack, store, local, tmp_path):
    made = json.loads(xtrack("store", "info", "--json", "--store", store).out)
    assert (made["runs"], made["runs_failed"], made["events"], made["url"]) == (2, 1, 17, store)
    assert made["bytes"] > 0
    made = json.loads(xtrack("store", "info", "--json").out)
    assert made["index"] == str(tmp_path / "xd" / "index.db")
    assert "\nruns\t2\n" in xtrack("store", "info").out


def test_store_backup(xtrack, local, tmp_path):
    made = json.loads(xtrack("store", "backup", "copy.db", "--json").out)
    assert made["url"] == "sqlite:///copy.db"
    assert xtrack("ls", "--store", "sqlite:///copy.db").out == xtrack("ls").out
    assert xtrack("store", "backup", "copy.db").code == 1


def test_store_check(xtrack, local, tmp_path):
    assert json.loads(xtrack("store", "check", "--json").out) == {"sound": True, "problems": []}
    assert xtrack("store", "check").out == "result\tproblem\nok\t\n"
    (path, *_) = sorted((tmp_path / "xd" / "spool").glob("*/*.xseg"))
    damage(path, 8192 + 60)
    done = xtrack("store", "check", "--json")
    assert done.code == 1
    assert json.loads(done.out)["problems"]


# ------------------------------------------------------------------------------------------ doctor


def findings(done):
    return {row["check"]: row for row in json.loads(done.out)}


def test_doctor(xtrack, local, tmp_path):
    done = xtrack("doctor", "--json")
    assert done.code == 0
    found = findings(done)
    assert found["locks"]["state"] == "ok"
    assert found["store"]["finding"].startswith(f"local:{tmp_path / 'xd'}: 2 runs")
    assert "xtrack-protocol 0." in found["version"]["finding"]
    extra = found.get("extra cli") or found["extras"]  # the latter where the package is only on the path
    assert extra["finding"].startswith(("click ", "the package isn't installed"))
    assert xtrack("doctor").out.startswith("check\tstate\tfinding\npython\tok\t")
    assert not list((tmp_path / "xd").glob(".doctor*"))


def test_doctor_makes_no_folder(xtrack, tmp_path):
    assert xtrack("doctor").code == 0


def test_doctor_shows_no_key(xtrack, tmp_path, monkeypatch):
    monkeypatch.setenv("XTRACK_KEY", "xtk_k1_canary")
    done = xtrack("doctor")
    assert "key = *** (environment: XTRACK_KEY)" in done.out
    assert "canary" not in done.out + done.err


def test_doctor_finds_what_is_wrong(xtrack, tmp_path, monkeypatch):
    monkeypatch.setenv("XTRACK_TRANSPORT", "unix")
    monkeypatch.setenv("XTRACK_SOCKET", str(tmp_path / "sock"))
    monkeypatch.setenv("XTRACK_RUNID", "typo")
    done = xtrack("doctor", "--json")
    assert done.code == 1
    assert "Start the collector" in findings(done)["transport"]["finding"]
    assert "XTRACK_RUNID" in done.out
    monkeypatch.setenv("XTRACK_TRANSPORT", "carrier-pigeon")
    assert "Known: local" in findings(xtrack("doctor", "--json"))["transport"]["finding"]
    monkeypatch.setenv("XTRACK_FD", "x")
    assert findings(xtrack("doctor", "--json"))["settings"]["state"] == "error"


def test_doctor_connects_to_the_collector(xtrack, tmp_path, monkeypatch):
    pytest.importorskip("cryptography")
    cert, key = keep_self_signed(tmp_path / "tls", ["127.0.0.1"])
    with net_peers.serving(context=server_context(cert, key)) as server:
        monkeypatch.setenv("XTRACK_TRANSPORT", f"tls://127.0.0.1:{server.port}")
        found = findings(xtrack("doctor", "--json"))["transport"]
        assert found["state"] == "error"
        assert "signed by nobody who is trusted here" in found["finding"]
        monkeypatch.setenv("XTRACK_TLS_FINGERPRINT", fingerprint_of(cert))
        found = findings(xtrack("doctor", "--json"))["transport"]
        assert found["state"] == "ok"
        assert found["finding"].endswith(f"tls://127.0.0.1:{server.port}, with a certificate that is trusted")
    monkeypatch.setenv("XTRACK_TRANSPORT", f"tcp://127.0.0.1:{server.port}")
    monkeypatch.delenv("XTRACK_TLS_FINGERPRINT")
    assert "nobody listens there" in findings(xtrack("doctor", "--json"))["transport"]["finding"]


def test_doctor_says_where_settings_come_from(xtrack, tmp_path):
    (tmp_path / "xtrack.toml").write_text('experiment = "from-file"\n')
    found = xtrack("doctor", "--json").out
    assert f"experiment = from-file ({tmp_path}/xtrack.toml)" in found
    assert "(environment: XTRACK_DIR)" in found
