"""decode --jobs: several processes give what one gives, byte for byte, whatever the files hold."""

import io
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import Future

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from xtrack_protocol.decode import decode_files, parallel, parse_arguments
from xtrack_protocol.decode.worker import decode_part
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.ir import Envelope, LogEntry, Metric, Param, RunStart, Skip, UnknownEnvelope, UnknownEvent
from xtrack_protocol.ir.envelope import EventMeta
from xtrack_protocol.wire import SegmentHeader, encode, encode_frame, encode_header, encode_record, frame_payload

DECODE = [sys.executable, "-m", "xtrack_protocol.decode"]


def events(count, session_id="s"):
    """Events of several streams, those of legacy workers among them, which run_start tells apart."""
    for seq in range(1, count + 1):
        yield Envelope.of(Metric(f"run-{seq % 3}", "loss", seq / 7, step=seq), seq=seq, timestamp_us=seq)
        yield Envelope.of(LogEntry("own", "info", "m" * (seq % 50)), seq=seq, timestamp_us=seq, session_id=session_id)
        if seq % 40 == 0:
            yield Envelope.of(RunStart(f"run-{seq % 3}"), seq=seq + 1, timestamp_us=10**9 + seq)
            yield Envelope.of(Skip("own", "s", seq * 1000, seq * 1000 + 5), seq=0, timestamp_us=seq)


def plain(count=300):
    return b"".join(map(encode_frame, events(count)))


def segment(count=300, first_seq=1):
    header = SegmentHeader("own", "s", first_seq=first_seq)
    payloads = [encode(event) for event in events(count)]
    return encode_header(header) + b"".join(
        encode_record(seq, payload, header.salt_value) for seq, payload in enumerate(payloads, first_seq)
    )


class AtOnce:
    """Decodes parts here, as a process of its own would: what goes there and comes back is pickled."""

    def __init__(self, setup, jobs):
        self.setup = pickle.loads(pickle.dumps(setup))
        self.asked = 0

    def decode(self, part):
        self.asked += 1
        future = Future()
        try:
            future.set_result(pickle.loads(pickle.dumps(decode_part(pickle.loads(pickle.dumps(part)), self.setup))))
        except OSError as error:
            future.set_result(error)
        return future

    def close(self):
        pass


def outcome(options):
    """What is written, what is said, and the exit status."""
    out, err = io.StringIO(), io.StringIO()
    code = decode_files(options, stdout=out, stderr=err)
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of half a page, decoded in this process."""
    monkeypatch.setattr(parallel, "PART", 500)
    monkeypatch.setattr(parallel, "_WORTH_IT", 1)
    monkeypatch.setattr(parallel, "_Team", AtOnce)


FLAGS = (
    [],
    ["--format", "jsonl"],
    ["--format", "jsonl", "--raw", "--hex"],
    ["--raw", "--hex"],
    ["--strict"],
    ["--strict", "--format", "jsonl"],
    ["--run", "run-1"],
    ["--type", "log", "--format", "jsonl"],
    ["--type", "lgo"],
    ["--max-frame", "100"],
    ["--since", "1970-01-01T00:00:00.000100Z"],
)


def check(files, flags):
    alone = outcome(parse_arguments([*flags, *map(str, files)]))
    for jobs in ("2", "3"):
        assert outcome(parse_arguments([*flags, "--jobs", jobs, *map(str, files)])) == alone
    return alone


@pytest.mark.parametrize("flags", FLAGS, ids=" ".join)
@pytest.mark.parametrize("make", [plain, segment])
def test_whole_files(small_parts, tmp_path, flags, make):
    (tmp_path / "a").write_bytes(make())
    (tmp_path / "b").write_bytes(make(100))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "other").write_bytes(b"GET / HTTP/1.1\r\n")
    check([tmp_path / "a"], flags)
    check([tmp_path / name for name in ("a", "empty", "nothing", "b", "other", "a")] + [tmp_path], flags)


damage = st.lists(
    st.tuples(st.sampled_from(("flip", "zeros", "remove", "insert", "cut")), st.floats(0, 1), st.integers(1, 700)),
    min_size=1,
    max_size=6,
)


def damaged(data, changes):
    data = bytearray(data)
    for kind, where, size in changes:
        place = int(where * max(0, len(data) - 1))
        if kind == "flip" and data:
            data[place] ^= 1 << (size % 8)
        elif kind == "zeros":
            data[place : place + size] = bytes(len(data[place : place + size]))
        elif kind == "remove":
            del data[place : place + size]
        elif kind == "insert":
            data[place:place] = bytes(byte * 7 % 256 for byte in range(size))
        elif kind == "cut" and where > 0.7:
            del data[place:]
    return bytes(data)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from((plain, segment)), damage, st.sampled_from(FLAGS), st.integers(1, 5))
@example(plain, [("flip", 0.5, 8)], [], 1)
@example(plain, [("zeros", place / 20, 3) for place in range(20)], ["--hex", "--raw"], 1)
@example(segment, [("zeros", place / 20, 3) for place in range(20)], ["--hex", "--raw"], 1)
def test_damaged_files(small_parts, tmp_path, make, changes, flags, files):
    names = []
    for number in range(files):
        names.append(tmp_path / str(number))
        names[-1].write_bytes(damaged(make(60 + 20 * number), changes[number:]))
    check(names, flags)


def test_strict_says_no_more_than_it_has_shown(small_parts, tmp_path):
    """Which seqs are lost doesn't depend on how much of the file was read at once."""
    content = bytearray(segment(100))
    for place in (8192 + 300, 8192 + 3000, 8192 + 9000):
        content[place] ^= 0xFF
    (tmp_path / "a").write_bytes(content)
    _, _, said = check([tmp_path / "a"], ["--strict"])
    assert "missing seqs 2-3" in said


def test_bad_events_that_are_no_damage(small_parts, tmp_path):
    """They cost nothing but themselves, and a stream that begins behind one may have lost its first events."""
    bad = frame_payload(b'{"v":1,"t":"metric","m":{"seq":1,"ts":1},"p":{}}')
    late = b"".join(
        encode_frame(Envelope.of(Metric("late", "k", 1.0), seq=seq, timestamp_us=1, session_id="x"))
        for seq in range(500, 600)
    )
    cases = (
        (plain() + bad + plain(), False),
        (plain() + bad + late + plain(), True),
        (bad + plain() + late, True),
        (late + bad + late, False),
    )
    for content, may_have_lost in cases:
        (tmp_path / "a").write_bytes(content)
        code, _, said = check([tmp_path / "a"], [])
        assert code == 1
        assert ("run late session x: missing seqs 1-499" in said) == may_have_lost


def test_types_that_nobody_knows(small_parts, tmp_path):
    """Whether a part somewhere has an event of them is told at the end."""
    rare = UnknownEnvelope(1, EventMeta(1, 1), UnknownEvent("rare", {"run_id": "r"}))
    (tmp_path / "a").write_bytes(plain(60) + encode_frame(rare) + plain(60))
    _, shown, said = check([tmp_path / "a"], ["--type", "rare", "--type", "lgo", "--format", "jsonl"])
    assert shown.count("\n") == 1
    assert "'lgo' is no type that the protocol knows, and there is no event of it. Did you mean 'log'" in said
    assert "'rare'" not in said


def test_a_frame_larger_than_many_parts(small_parts, tmp_path):
    large = encode_frame(Envelope.of(Param("r", "k", "v" * 20_000), seq=1, timestamp_us=1))
    (tmp_path / "a").write_bytes(plain(30) + large + plain(30) + large)
    check([tmp_path / "a"], ["--format", "jsonl"])
    (tmp_path / "a").write_bytes((plain(30) + large + plain(30) + large)[:-1])
    check([tmp_path / "a"], ["--format", "jsonl"])


def test_parts_are_what_is_decoded_elsewhere(small_parts, tmp_path, monkeypatch):
    """Damage costs the parts around it, not the whole rest of the file."""
    asked = []
    decode = AtOnce.decode
    monkeypatch.setattr(AtOnce, "decode", lambda self, part: asked.append(part) or decode(self, part))
    content = bytearray(plain(1000))
    (tmp_path / "a").write_bytes(content)
    check([tmp_path / "a"], [])
    whole = len(asked)
    assert whole > 2 * len(content) / 1000
    content[len(content) // 2] ^= 0xFF
    asked.clear()
    (tmp_path / "a").write_bytes(content)
    check([tmp_path / "a"], [])
    assert whole * 0.8 < len(asked) < whole * 1.2


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--jobs", "0", "x"], "1 to 256"),
        (["--jobs", "257", "x"], "1 to 256"),
        (["--jobs", "-1", "x"], "1 to 256"),
        (["--jobs", "two", "x"], "1 to 256"),
        (["--jobs", "9" * 5000, "x"], "1 to 256"),
        (["--jobs", "2", "-"], "standard input"),
        (["--jobs", "2", "--follow", "x"], "one process"),
    ],
)
def test_wrong_usage(argv, told):
    with pytest.raises(ConfigurationError, match=told):
        parse_arguments(argv)


def test_one_process_reads_anything():
    for argv in (["--jobs", "1", "-"], ["--jobs", "1", "--follow", "x"]):
        assert parse_arguments(argv).jobs == 1


# ---------------------------------------------------------------------------------------------- real processes


def run(*args, **options):
    return subprocess.run([*DECODE, *map(str, args)], capture_output=True, check=False, timeout=100, **options)


@pytest.fixture
def large(tmp_path):
    """A file of several parts."""
    path = tmp_path / "large.bin"
    path.write_bytes(plain(8000))
    assert path.stat().st_size > 2 * parallel.PART - 500_000
    return path


@pytest.mark.parametrize("flags", [["--format", "jsonl"], []])
def test_processes_write_what_one_writes(large, tmp_path, flags):
    broken = bytearray(large.read_bytes())
    broken[len(broken) // 2] ^= 0xFF
    (tmp_path / "broken").write_bytes(broken)
    (tmp_path / "segment").write_bytes(segment(2000))
    (tmp_path / "\udcff").write_bytes(plain(1000)) if os.name == "posix" else None
    names = [large.name, "broken", "segment", *(["\udcff"] if os.name == "posix" else [])]
    alone = run(*flags, *names, cwd=tmp_path)
    several = run("--jobs", 2, *flags, *names, cwd=tmp_path)
    assert several.stdout == alone.stdout
    assert several.stderr == alone.stderr
    assert several.returncode == alone.returncode == 1


def test_both_command_lines_have_it(large, xtrack):
    done = xtrack("decode", "--jobs", "2", large)
    assert done.code == 0
    assert done.out == run(large).stdout.decode()
    assert xtrack("decode", "--jobs", "2", "-").code == 2


def test_nothing_is_imported_from_the_current_folder(large, tmp_path):
    """A folder of captures may hold a pickle.py, and nobody meant to run it."""
    for name in ("pickle.py", "signal.py", "xtrack_protocol.py"):
        (tmp_path / name).write_text("raise SystemExit('was run')\n")
    program = "import sys; sys.path.remove(''); from xtrack_protocol.decode.__main__ import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, "--jobs", "2", "large.bin"],
        capture_output=True, check=False, timeout=100, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_closed_pipe_ends_all(large):
    with subprocess.Popen(
        [*DECODE, "--jobs", "2", *[str(large)] * 20], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(60) == 141
    assert said == b""


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_an_interrupt_ends_all(large):
    with subprocess.Popen(
        [*DECODE, "--jobs", "2", *[str(large)] * 40],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline()
        children = _children(process.pid)
        assert len(children) == 2
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130
    assert said == b""
    assert not any(map(_is_there, children))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_when_it_is_killed_the_others_end(large):
    with subprocess.Popen(
        [*DECODE, "--jobs", "2", *[str(large)] * 40], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout.readline()
        children = _children(process.pid)
        process.kill()
    until = time.monotonic() + 60
    while any(map(_is_there, children)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(_is_there, children))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
@pytest.mark.thorough
def test_a_process_that_dies_costs_nothing_but_time(large, tmp_path):
    many = [large.name] * 12
    alone = run(*many, cwd=tmp_path)
    with (
        (tmp_path / "out").open("wb") as out,
        subprocess.Popen([*DECODE, "--jobs", "2", *many], stdout=out, stderr=subprocess.PIPE, cwd=tmp_path) as process,
    ):
        until = time.monotonic() + 60
        while not _children(process.pid) and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(_children(process.pid)[0], signal.SIGKILL)
        said = process.stderr.read()
    assert (tmp_path / "out").read_bytes() == alone.stdout
    assert process.returncode == alone.returncode
    assert said.endswith(alone.stderr)
    assert b"has ended early" in said


def _children(pid):
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as file:
            found += map(int, file.read().split())
    return found


def _is_there(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
