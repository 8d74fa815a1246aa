"""decode: both command lines, damage, filters, following."""

import base64
import gzip
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from cli_runs import T0, bad_run, capture, good_run, stream

from xtrack_protocol.ir import Metric, Param, RunEnd, RunStart, UnknownEnvelope, UnknownEvent
from xtrack_protocol.ir.envelope import EventMeta
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import StreamWriter, segments
from xtrack_protocol.wire import encode, encode_frame

DECODE = [sys.executable, "-m", "xtrack_protocol.decode"]
WORKED = (
    b'\x00\x00\x00\x66{"v":1,"t":"metric","m":{"seq":1,"ts":1703123456789000},'
    b'"p":{"run_id":"abc","key":"loss","value":0.5}}'
)


@pytest.fixture(params=["xtrack decode", "python -m xtrack_protocol.decode"])
def decode(request, xtrack):
    """Both command lines, which do the same."""

    def by_module(*args):
        done = subprocess.run([*DECODE, *map(str, args)], capture_output=True, check=False, timeout=30)
        return type("Result", (), {"code": done.returncode, "out": done.stdout.decode(), "err": done.stderr.decode()})

    return by_module if request.param.startswith("python") else lambda *args: xtrack("decode", *args)


def objects(done):
    return [json.loads(line) for line in done.out.splitlines()]


def test_the_published_example(decode, tmp_path):
    (tmp_path / "a.bin").write_bytes(WORKED)
    done = decode("--format", "jsonl", "a.bin")
    assert done.out == (
        '{"file":"a.bin","offset":0,"length":102,"event":{"v":1,"t":"metric",'
        '"m":{"seq":1,"ts":1703123456789000},"p":{"run_id":"abc","key":"loss","value":0.5}}}\n'
    )
    assert (done.code, done.err) == (0, "xtrack decode: 1 frames, 0 bad\n")


def test_text(decode, tmp_path):
    (tmp_path / "a.bin").write_bytes(WORKED)
    assert decode("a.bin").out == '0\t2023-12-21T01:50:56.789000Z\tabc\t#1\tmetric\tkey="loss" value=0.5\n'


def test_values_are_written_by_the_codecs_rules(decode, tmp_path):
    events = [
        *stream("r", [RunStart("r"), Metric("r", "x", float("nan")), Metric("r", "y", float("-inf"))]),
        *stream("r", [Param("r", "p", {"a": float("inf")}), Param("r", "b", "\x7f\u202e\U0001f600")], sid="b"),
        UnknownEnvelope(1, EventMeta(3, T0), UnknownEvent('n",\\"v\\":1,"m":', {"run_id": "r", "z": float("nan")})),
    ]
    (tmp_path / "a.bin").write_bytes(capture(events))
    done = decode("--format", "jsonl", "a.bin")
    assert not {"\x7f", "\u202e"} & set(done.out)
    got = [made["event"]["p"] for made in objects(done)]
    assert [payload.get("value", payload.get("z")) for payload in got] == [
        None, "NaN", "-Infinity", {"a": {"$float": "Infinity"}}, "\x7f\u202e\U0001f600", {"$float": "NaN"}
    ]  # fmt: skip
    assert objects(done)[-1]["event"]["t"] == 'n",\\"v\\":1,"m":'


def test_what_is_written_decodes_to_the_same(decode, captured):
    made = objects(decode("--format", "jsonl", captured))
    again = [json.loads(encode(envelope)) for envelope in good_run() + bad_run()]
    assert [item["event"] for item in made] == again
    assert list(made[0]) == ["file", "offset", "length", "event"]
    assert list(made[0]["event"]) == ["v", "t", "m", "p"]


def damage(path, offset, value):
    data = bytearray(path.read_bytes())
    data[offset] = value
    path.write_bytes(data)


def test_a_bad_payload_costs_one_frame(decode, captured):
    offset = len(capture(good_run()[:3]))
    damage(captured, offset + 20, 0xFF)
    done = decode("--format", "jsonl", captured)
    made = objects(done)
    assert done.code == 1
    assert len(made) == 17
    size = len(encode_frame(good_run()[3]))
    assert made[3] | {"reason": ""} == {
        "file": str(captured), "offset": offset, "length": size, "error": "bad_utf8", "reason": ""
    }  # fmt: skip
    assert not any("verified" in item for item in made)
    assert "17 frames, 1 bad" in done.err
    assert f"bytes {offset}-{offset + size - 1} ({size} bytes) lost: bad_utf8" in done.err
    assert "run good-1 session sid-good-1: missing seqs 4" in done.err


def test_a_damaged_length_is_passed_over(decode, captured):
    offset = len(capture(good_run()[:3]))
    damage(captured, offset + 1, 0x40)
    done = decode("--format", "jsonl", captured)
    made = objects(done)
    assert done.code == 1
    assert [item.get("verified") for item in made] == [None] * 4 + [False] * 13
    assert "13 unverified" in done.err
    assert "missing seqs 4" in done.err


def test_a_damaged_beginning(decode, captured):
    damage(captured, 0, 0x77)
    done = decode("--format", "jsonl", captured)
    assert [item.get("error") for item in objects(done)] == ["frame_too_large"] + [None] * 16
    assert "run good-1 session sid-good-1: missing seqs 1" in done.err


def test_strict_stops(decode, captured):
    damage(captured, len(capture(good_run()[:3])) + 20, 0xFF)
    done = decode("--format", "jsonl", "--strict", captured)
    assert (len(objects(done)), done.code) == (4, 1)


def test_hex_and_raw(decode, captured):
    offset = len(capture(good_run()[:3]))
    damage(captured, offset + 20, 0xFF)
    made = objects(decode("--format", "jsonl", "--hex", "--raw", captured))
    good = good_run()[0]
    assert base64.b64decode(made[0]["raw"]) == encode(good)
    assert made[0]["raw_text"] == encode(good).decode()
    size = made[3]["length"]
    assert base64.b64decode(made[3]["raw"]) == captured.read_bytes()[offset : offset + size]
    assert "raw_text" not in made[3]
    assert made[3]["hex"][0].startswith(f"{offset:08x}  00 00 00 ")
    text = decode("--hex", "--raw", captured).out
    assert f"    {made[3]['hex'][0]}" in text
    assert "raw base64" in text


@pytest.mark.parametrize(
    ("flags", "count"),
    [
        (["--run", "good-1"], 11),
        (["--run", "good-1", "--run", "bad-1"], 17),
        (["--type", "metric"], 3),
        (["--type", "metric", "--type", "metric_batch", "--run", "good-1"], 2),
        (["--since", "2023-11-14T22:14:00Z"], 6),
        (["--since", "2023-11-14T22:14:00+00:00"], 6),
        (["--since", "1h"], 0),
        (["--since", "99999d"], 17),
    ],
)
def test_filters(decode, captured, flags, count):
    done = decode("--format", "jsonl", *flags, captured)
    assert len(objects(done)) == count
    assert "17 frames, 0 bad" in done.err


def test_a_type_that_nobody_knows_is_told_of(decode, captured):
    done = decode("--type", "metrc", "--type", "param", captured)
    assert (done.code, done.out.count("\n")) == (0, 3)
    assert done.err == (
        "xtrack decode: --type 'metrc' is no type that the protocol knows, and there is no event of it."
        " Did you mean 'metric'?\nxtrack decode: 17 frames, 0 bad\n"
    )
    assert "There are 'ack', 'alert', 'artifact', " in decode("--type", "xyzzy\u202e", captured).err
    assert "xyzzy\\u202e" in decode("--type", "xyzzy\u202e", captured).err


def test_a_type_that_only_the_file_knows_is_shown(decode, captured):
    unknown = UnknownEnvelope(1, EventMeta(1, T0), UnknownEvent("metrc", {"run_id": "r"}))
    captured.write_bytes(captured.read_bytes() + encode_frame(unknown))
    done = decode("--format", "jsonl", "--type", "metrc", captured)
    assert [made["event"]["t"] for made in objects(done)] == ["metrc"]
    assert done.err == "xtrack decode: 18 frames, 0 bad\n"


def test_a_type_that_is_known_and_not_there_is_nothing_special(decode, captured):
    done = decode("--type", "pong", captured)
    assert (done.out, done.err) == ("", "xtrack decode: 17 frames, 0 bad\n")


@pytest.mark.parametrize(
    "flags", [["--since", "yesterday"], ["--max-frame", "0"], ["--max-frame", "x"], ["--bogus"], ["--format", "xml"]]
)
def test_wrong_usage(decode, captured, flags):
    done = decode(*flags, captured)
    assert (done.code, done.out) == (2, "")
    assert done.err


def test_max_frame(decode, captured):
    done = decode("--format", "jsonl", "--max-frame", "100", captured)
    assert done.code == 1
    assert objects(done)[0]["error"] == "frame_too_large"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (gzip.compress(b"x" * 100, mtime=0), "gzip"),
        (b'{"v":1}\n', "JSON text"),
        (b"SQLite format 3\x00" + b"\x00" * 100, "SQLite"),
        (b"HTTP/1.1 200 OK\r\n", "HTTP"),
        (b"GET / HTTP/1.1\r\n", "HTTP"),
        (b"\x16\x03\x01\x02\x00", "TLS"),
        (b"SSH-2.0-OpenSSH", "SSH"),
        (b"\xf5XR1\x00\x00\x00\x02", "a segment without its header"),
        (b"\x02\x00\x00\x00{}\x02\x00\x00\x00{}", "little-endian. Write them big-endian (spec: FRM-1)"),
        (b"just some words\n", "text"),
        (bytes(range(200, 256)), "begins with c8 c9"),
    ],
    ids=["gzip", "json", "sqlite", "http-answer", "http", "tls", "ssh", "record", "little-endian", "text", "other"],
)
def test_other_files(decode, tmp_path, content, told):
    (tmp_path / "other").write_bytes(content)
    done = decode("other")
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert done.err.startswith("xtrack decode: other: not an XTrack file: ")
    assert told in done.err


def test_files_that_can_not_be_read(decode, tmp_path, captured):
    done = decode("--format", "jsonl", "nope", tmp_path, captured)
    assert done.code == 2
    assert len(objects(done)) == 17
    assert "nope: No such file" in done.err
    assert "Is a directory" in done.err


def test_an_empty_file_is_good(decode, tmp_path):
    (tmp_path / "empty").touch()
    assert decode("empty").code == 0


# ------------------------------------------------------------------------------------------ segments


def write_segments(folder, count, *, segment_max=1 << 20):
    writer = StreamWriter(folder, StreamId("r", "", "s"), segment_max=segment_max)
    for envelope in stream("r", [RunStart("r"), *(Metric("r", "x", n, step=n) for n in range(2, count + 1))], sid="s"):
        writer.append(envelope.meta.seq, encode(envelope))
    return writer


def test_segments(decode, tmp_path):
    write_segments(tmp_path / "run", 40, segment_max=9000).close()
    paths = list(segments(tmp_path / "run"))
    assert len(paths) > 2
    done = decode("--format", "jsonl", *paths)
    assert [item["event"]["m"]["seq"] for item in objects(done)] == list(range(1, 41))
    assert (done.code, done.err) == (0, "xtrack decode: 40 frames, 0 bad\n")


def test_a_damaged_record(decode, tmp_path):
    write_segments(tmp_path / "run", 10).close()
    (path,) = segments(tmp_path / "run")
    data = path.read_bytes()
    damage(path, data.index(b'"value":10') + 8, ord("9"))  # the last one, so that no later seq tells of it
    done = decode("--format", "jsonl", path)
    assert done.code == 1
    assert objects(done)[-1]["error"] == "bad_checksum"
    assert "missing seqs 10" in done.err


def test_a_segment_without_its_header(decode, tmp_path):
    write_segments(tmp_path / "run", 3).close()
    (path,) = segments(tmp_path / "run")
    damage(path, 20, 0xFF)
    assert decode(path).code == 0  # there is another copy
    damage(path, 4096 + 20, 0xFF)
    done = decode(path)
    assert (done.code, done.out) == (1, "")
    assert "both copies" in done.err


# ------------------------------------------------------------------------------------------ pipes and following


def test_standard_input(captured):
    done = subprocess.run(
        [*DECODE, "--format", "jsonl", "-"], input=captured.read_bytes(), capture_output=True, check=True
    )
    assert [json.loads(line)["file"] for line in done.stdout.splitlines()] == ["<stdin>"] * 17
    with captured.open("rb") as file:
        done = subprocess.run([*DECODE, "--raw", "-"], stdin=file, capture_output=True, check=True)
    assert done.stdout.count(b"raw base64") == 17


def test_a_pipe_is_shown_as_it_comes(captured):
    with subprocess.Popen(
        [*DECODE, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as done:
        done.stdin.write(WORKED)
        done.stdin.flush()
        assert b"loss" in done.stdout.readline()
        done.stdin.close()
        assert done.wait(10) == 0


def test_a_closed_pipe_is_no_error(tmp_path):
    (tmp_path / "many.bin").write_bytes(WORKED * 20_000)
    for command in (DECODE, [sys.executable, "-m", "xtrack_protocol.cli", "decode"]):
        with subprocess.Popen([*command, "many.bin"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as done:
            done.stdout.readline()
            done.stdout.close()
            assert done.stderr.read() == b""
            assert done.wait(10) == 141


def follow(path, *flags):
    return subprocess.Popen(
        [*DECODE, "--follow", "--format", "jsonl", *flags, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def seq_of(line):
    return json.loads(line)["event"]["m"]["seq"]


def test_follow_a_plain_file(tmp_path):
    events = good_run()
    path = tmp_path / "growing.bin"
    with follow(path) as done:
        assert "waiting" in done.stderr.readline()
        with path.open("wb", buffering=0) as file:
            for envelope in events:
                frame = encode_frame(envelope)
                file.write(frame[:30])
                time.sleep(0.01)
                file.write(frame[30:])
                assert seq_of(done.stdout.readline()) == envelope.meta.seq
        done.send_signal(signal.SIGINT)
        assert done.stdout.read() == ""
        assert done.stderr.read() == "xtrack decode: 11 frames, 0 bad\n"
        assert done.wait(10) == 0


def test_follow_tells_of_a_type_that_nobody_knows_at_once(tmp_path):
    path = tmp_path / "growing.bin"
    with follow(path, "--type", "metrc") as done:
        said = done.stderr.readline()
        assert "'metrc' is no type that the protocol knows, events of it are shown when they come. Did you mean" in said
        path.write_bytes(encode_frame(UnknownEnvelope(1, EventMeta(7, T0), UnknownEvent("metrc", {"run_id": "r"}))))
        assert seq_of(done.stdout.readline()) == 7
        done.send_signal(signal.SIGINT)
        assert "metrc" not in done.stderr.read()
        assert done.wait(10) == 0


def test_follow_segments_into_the_next_ones(tmp_path):
    writer = write_segments(tmp_path / "run", 3, segment_max=9000)
    (path,) = segments(tmp_path / "run")
    with follow(path) as done:
        assert [seq_of(done.stdout.readline()) for _ in range(3)] == [1, 2, 3]
        for seq in range(4, 40):
            envelope = stream("r", [Metric("r", "x", seq)], sid="s")[0]
            envelope = type(envelope)(1, EventMeta(seq, T0, None, "s"), envelope.payload)
            writer.append(seq, encode(envelope))
            assert seq_of(done.stdout.readline()) == seq
        assert len(list(segments(tmp_path / "run"))) > 2
        end = stream("r", [RunEnd("r", "completed")], sid="s")[0]
        writer.append(40, encode(type(end)(1, EventMeta(40, T0, None, "s"), end.payload)))
        writer.close()  # its lock is free now: nothing more can come
        assert seq_of(done.stdout.readline()) == 40
        assert done.wait(10) == 0
        assert done.stderr.read() == "xtrack decode: 40 frames, 0 bad\n"


def test_a_large_file_takes_bounded_memory(tmp_path):
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        for _ in range(20):
            file.write(WORKED * 5_000)
    code = (
        "import re, sys; from pathlib import Path; from xtrack_protocol.decode.__main__ import main;"
        "sys.argv = ['x', '--type', 'no', 'large.bin']; main();"
        # The process's own peak: ru_maxrss would count that of the one it was forked from.
        "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=tmp_path)
    assert b"100000 frames" in done.stderr
    assert int(done.stdout) < 80 * 1024  # KiB
    assert os.path.getsize(path) > 10_000_000
