"""Workers of any language, that know the published protocol and nothing of this package."""

import sys
import time

import pytest

from xtrack_protocol.collector import RunManager, send_command
from xtrack_protocol.collector.localruns import is_running
from xtrack_protocol.errors import LaunchError
from xtrack_protocol.spool import SpoolDir, is_alive, streams_of
from xtrack_protocol.storage.memory import MemoryStore

RAW = """
import json, os, struct, sys, time
FD = int(sys.argv[1])
seq = 0
def send(kind, **payload):
    global seq
    seq += 1
    meta = {"seq": seq, "ts": time.time_ns() // 1000}
    data = json.dumps({"v": 1, "t": kind, "m": meta, "p": {"run_id": "made-up", **payload}}).encode()
    data = struct.pack(">I", len(data)) + data
    while data:
        data = data[os.write(FD, data):]
"""

A_RUN = (
    RAW
    + """
send("run_start", name=None, tags={})
send("status", status="running")
for step in range(int(sys.argv[2])):
    send("metric", key="loss", value=float("nan") if step == 3 else 1 / (step + 1), step=step)
"""
)

ENDS = A_RUN + "send('run_end', status='completed')\n"


def worker_of(state):
    (found,) = [summary for summary in state.streams if not summary.observer]
    return found


@pytest.fixture(params=["local", "memory"])
def launcher(request, manager):
    if request.param == "local":
        return manager
    return RunManager(MemoryStore(), root=manager.root)


def start(launcher, code, *args, **options):
    return launcher.start_run(sys.executable, ["-I", "-c", code, *args], transport="stdio", **options)


def test_a_raw_worker(launcher):
    run = start(launcher, ENDS, "3", "5000", name="raw")
    state = run.wait(60)
    assert (state.status, state.name, state.metrics["loss"].count, state.metrics["loss"].nan_count) == (
        "completed",
        "raw",
        5000,
        1,
    )
    assert run.problems == []
    assert worker_of(state).stream.is_derived


@pytest.mark.parametrize(
    ("last", "status", "detail"),
    [("os.kill(os.getpid(), 9)", "killed", "killed by SIGKILL"), ("os._exit(3)", "failed", "exited with code 3")],
)
def test_a_raw_worker_that_dies(launcher, last, status, detail):
    state = start(launcher, A_RUN + last, "3", "50").wait(30)
    assert (state.status, state.metrics["loss"].count) == (status, 50)
    assert (worker_of(state).status, worker_of(state).lost.reason) == ("killed", "died")
    assert detail in worker_of(state).lost.detail


def test_an_untracked_worker(launcher):
    assert start(launcher, "import sys; sys.exit(2)").wait(30).status == "failed"


def test_frames_on_standard_output_when_asked(launcher):
    code = A_RUN.replace("for step", 'os.write(1, b"some text\\n")\nfor step') + "send('run_end', status='completed')\n"
    run = start(launcher, code, "1", "100", stdio_frames="stdout")
    state = run.wait(30)
    assert (state.status, state.metrics["loss"].count) == ("completed", 100)
    with pytest.raises(LaunchError):
        run.send_command("pause")


def test_broken_framing_does_not_stop_the_worker(launcher, tmp_path):
    proof = tmp_path / "proof"
    code = (
        A_RUN
        + f"""
os.write(3, b"GET / HTTP/1.1\\r\\n" * 10)
for _ in range(200): os.write(3, b"x" * 65536)
open({str(proof)!r}, "w").close()
send("run_end", status="completed")
"""
    )
    run = start(launcher, code, "3", "10")
    state = run.wait(30)
    assert proof.exists()
    assert run.returncode == 0
    assert state.metrics["loss"].count == 10
    assert any("can't be told apart" in problem for problem in run.problems)


def test_descriptors_and_signals_of_the_worker(launcher, tmp_path):
    out = tmp_path / "out"
    code = f"""
import os, signal
fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))
ignored = [line.split()[1] for line in open("/proc/self/status") if line.startswith("SigIgn")][0]
with open({str(out)!r}, "w") as file:
    print(fds[:4], len(fds), int(ignored, 16) & (1 << (signal.SIGXFSZ - 1)), os.environ.get("LC_CTYPE"), file=file)
"""
    # Python itself ignores SIGPIPE and SIGXFSZ when it starts, so a shell is asked.
    shell = f"grep SigIgn /proc/self/status > {out}; cd /proc/$$/fd; echo * >> {out}"
    launcher.start_run("sh", ["-c", shell], transport="stdio").wait(30)
    ignored, fds = out.read_text().split("\n")[:2]
    assert int(ignored.split()[1], 16) & 0x7FFF_FFFF == 0  # above are the C library's own
    assert {"0", "1", "2", "3"} <= set(fds.split())
    assert len(fds.split()) <= 5
    launcher.start_run(sys.executable, ["-I", "-c", code], transport="stdio").wait(30)
    assert out.read_text().startswith("[0, 1, 2, 3] 5 ")  # and the one that lists them


READS = (
    RAW
    + """
send("run_start")
def receive():
    data = b""
    while len(data) < 4: data += os.read(FD, 4 - len(data))
    (length,) = struct.unpack(">I", data)
    data = b""
    while len(data) < length: data += os.read(FD, length - len(data))
    return json.loads(data)
while True:
    command = receive()["p"]
    send("command_result", cmd_id=command["cmd_id"], status="ok", msg=command["type"])
    if command["type"] == "stop":
        break
send("run_end", status="completed")
"""
)


def test_commands_come_back_on_the_socket(launcher):
    run = start(launcher, READS, "3")
    (answer,) = run.send_command("adjust_lr", {"lr": 0.1}, timeout=20)
    assert (answer.status, answer.message) == ("ok", "adjust_lr")
    assert run.stop(grace=20).status == "completed"
    assert run.returncode == 0
    with pytest.raises(LaunchError, match="has ended"):
        run.send_command("pause")


def test_commands_of_other_processes_are_passed_on(manager):
    run = start(manager, READS, "3")
    folder = SpoolDir(manager.root).run_dir(run.run_id)
    deadline = time.monotonic() + 20
    while not is_running(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    (answer,) = send_command(manager.root, run.run_id, "pause", timeout=20)
    assert (answer.status, answer.message) == ("ok", "pause")
    assert run.stop(grace=20).status == "completed"


def test_a_worker_that_never_answers(launcher):
    run = start(launcher, A_RUN + "time.sleep(30)", "3", "5")
    with pytest.raises(LaunchError, match="published protocol"):
        run.send_command("pause", timeout=0.3)
    assert run.stop(grace=0.3).status == "killed"
    assert run.signal == "SIGTERM"


def test_subscribers_see_it_live(launcher):
    run = start(launcher, ENDS, "3", "300")
    with launcher.collector.subscribe(run.run_id, until_end=True, timeout=30) as subscription:
        events = [stored.envelope for stored in subscription if stored.stream.worker_id == ""]
    assert [envelope.meta.seq for envelope in events] == list(range(1, 304))
    run.wait(30)


def test_a_connected_worker_is_alive_however_silent(manager):
    run = start(manager, A_RUN + "time.sleep(30)", "3", "5")
    folder = SpoolDir(manager.root).run_dir(run.run_id)
    deadline = time.monotonic() + 20
    while len(streams_of(folder)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)
    assert all(is_alive(folder, stream) for stream in streams_of(folder))
    assert is_running(folder)
    run.stop(grace=0)
    assert not is_running(folder)
    assert start(manager, ENDS, "3", "5", run_id=run.run_id, resume=True).wait(30).status == "completed"


def test_a_grandchild_with_the_descriptor(launcher, tmp_path):
    go = tmp_path / "go"
    code = (
        A_RUN
        + f"""
if os.fork() == 0:
    while not os.path.exists({str(go)!r}): time.sleep(0.01)
    send("metric", key="late", value=1)
    send("run_end", status="completed")
"""
    )
    run = start(launcher, code, "3", "5")
    state = run.wait(30)
    assert (run.returncode, state.status) == (0, "running")
    go.touch()
    deadline = time.monotonic() + 20
    while (state := run.state()).status != "completed" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (state.status, state.metrics["late"].count) == ("completed", 1)


def test_never_twice_in_a_store_without_a_spool(manager):
    store = MemoryStore()
    launcher = RunManager(store, root=manager.root)
    assert start(launcher, ENDS, "3", "3", run_id="r").wait(30).status == "completed"
    with pytest.raises(LaunchError, match="is completed already"):
        RunManager(store, root=manager.root).start_run("true", run_id="r", transport="stdio")
    assert start(launcher, ENDS, "3", "3", run_id="r", resume=True).wait(30).status == "completed"
    assert not manager.root.joinpath("spool").exists()
