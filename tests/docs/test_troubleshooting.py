"""Each row of the troubleshooting page: the condition is provoked for real, and its message compared with the page's.

A provocation gets an empty folder and returns all that was said: on both streams by a process, or by an exception.
"""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from collecting_messages import COLLECTING
from doc_pages import DOCS, environment, says
from judging_messages import JUDGING
from legacy_collector import LegacyCollector
from looking_messages import LOOKING
from reaching import REACHING, command
from remote_workers import serving, stranger, until, working
from small_collector import SmallCollector
from tracking_messages import TRACKING

from xtrack_protocol import Envelope, Metric, RunEnd, RunStart, Tracker, encode_frame, stream_file
from xtrack_protocol.collector import RunManager, send_command
from xtrack_protocol.errors import XTrackError
from xtrack_protocol.runs import StreamLost
from xtrack_protocol.server.access import AccessControl
from xtrack_protocol.server.keys import Keyring
from xtrack_protocol.session import StreamId
from xtrack_protocol.settings import Settings
from xtrack_protocol.spool import SpoolDir, StreamWriter
from xtrack_protocol.storage import MemoryStore, SQLiteStore, open_store
from xtrack_protocol.testing import Worker

PAGE = DOCS / "troubleshooting.md"

posix = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")


def rows() -> list[str]:
    """Return the messages of the page: the first cells of its tables, code spans taken off."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            cell = re.match(r"\| (`+) ?(.+?) ?\1 \|", line)
            assert cell, line
            found.append(cell[2].replace("\\|", "|"))
    return found


TRAINING = """\
from xtrack_protocol.collector import send_command
from xtrack_protocol.integrations._training import Requests, RunOwner
owner = RunOwner("training", None, False, {"run_id": "run-1"})
"""
COMMANDED = """\
requests = Requests({{"stop": "it stops"}})
requests.listen(owner._begin_training(0))
{}
print(send_command(None, "run-1", "stop", timeout=20))
"""

PROVOCATIONS: dict[str, Callable[[Path], str]] = dict(COLLECTING)


def row(message: str) -> Callable[[Callable[[Path], str]], Callable[[Path], str]]:
    """Say which row of the page a provocation is for."""

    def register(provoke: Callable[[Path], str]) -> Callable[[Path], str]:
        assert message not in PROVOCATIONS
        PROVOCATIONS[message] = provoke
        return provoke

    return register


PROVOCATIONS.update(REACHING)
PROVOCATIONS.update(JUDGING)
PROVOCATIONS.update(LOOKING)
PROVOCATIONS.update(TRACKING)


def test_every_row_is_provoked() -> None:
    found = rows()
    assert len(found) == len(set(found))
    assert set(found) == set(PROVOCATIONS)


@posix
@pytest.mark.thorough
@pytest.mark.parametrize("message", PROVOCATIONS)
def test_message(message: str, tmp_path: Path) -> None:
    said = PROVOCATIONS[message](tmp_path)
    assert says(message, said), f"expected: {message}\nsaid: {said}"


# ------------------------------------------------------------------------------------------ how to provoke


@contextmanager
def raises() -> Iterator[list[str]]:
    """Put into the list what an error of ours, or a TypeError, says."""
    said: list[str] = []
    with pytest.raises((XTrackError, TypeError)) as caught:
        yield said
    said.append(str(caught.value))


def python(folder: Path, code: str, **variables: str) -> str:
    """Run a script and return what it said."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(code), encoding="utf-8")
    return command(folder, sys.executable, str(script), **variables)


def starting(folder: Path, **variables: str) -> str:
    """Start a run in a process of its own, with these variables."""
    return python(folder, "import xtrack_protocol\nxtrack_protocol.start_run(run_id='run-1')", **variables)


def logging(folder: Path, call: str) -> str:
    """Start a run and do something with it."""
    code = f"import xtrack_protocol\nwith xtrack_protocol.start_run(run_id='run-1') as run:\n    {call}\n"
    return python(folder, code)


def ending_without_collector(folder: Path, **variables: str) -> str:
    """Log to a collector that isn't there, until the sender has noticed."""
    code = """
import time, xtrack_protocol
run = xtrack_protocol.start_run(run_id='run-1')
while not run.stats().warnings:
    time.sleep(0.01)
run.end(timeout=0)
"""
    return python(folder, code, **variables)


def free_port() -> int:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port: int = closed.getsockname()[1]
        return port


@row("warning: tcp://...: nobody listens there (connection refused). ... Events are kept in the spool ...")
def _(folder: Path) -> str:
    return ending_without_collector(folder, XTRACK_TRANSPORT=f"tcp://127.0.0.1:{free_port()}")


@row("warning: unix:...: no collector listens there: there is no such socket. ...")
def _(folder: Path) -> str:
    return ending_without_collector(folder, XTRACK_TRANSPORT="unix", XTRACK_SOCKET=str(folder / "nobody.sock"))


@row("... events of ... have not reached tcp://... They are kept in the spool; ship them with: xtrack sync ...")
def _(folder: Path) -> str:
    return ending_without_collector(folder, XTRACK_TRANSPORT=f"tcp://127.0.0.1:{free_port()}")


def syncing(folder: Path, spec: str, *options: str) -> str:
    """Ship a run that was only logged locally."""
    spool_with(folder, "run-1")
    return xtrack(folder, "sync", str(folder / "xtrack"), "--to", spec, *options)


@row(
    "tcp://... speaks plain version 1, which confirms nothing: what was sent stays in the spool as sent and "
    "unconfirmed, ..."
)
def _(folder: Path) -> str:
    with LegacyCollector() as collector:
        return syncing(folder, collector.spec)


@row(
    "..., ... sent to tcp://..., which confirms nothing (if it is `xtrack serve`, it was too slow to answer: "
    "`xtrack sync ...` makes sure)"
)
def _(folder: Path) -> str:
    with LegacyCollector() as collector:
        return python(
            folder,
            "import xtrack_protocol\nwith xtrack_protocol.start_run(run_id='run-1') as run:\n    pass",
            XTRACK_TRANSPORT=collector.spec,
        )


@row("gave up: nothing has been acked for ... s. ...")
def _(folder: Path) -> str:
    with SmallCollector() as collector:
        collector.acks = False
        return syncing(folder, collector.spec, "--timeout", "0.3")


@row("warning: tcp://...: another sender has taken over this stream (fenced). ...")
def _(folder: Path) -> str:
    code = """
import sys, time, xtrack_protocol
run = xtrack_protocol.start_run(run_id='run-1')
assert run.flush("acked")
print("ready", flush=True)
sys.stdin.readline()
while not run.stats().warnings:
    time.sleep(0.01)
run.end(timeout=0)
"""
    with SmallCollector() as collector:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(folder) | {"XTRACK_TRANSPORT": collector.spec},
        )
        assert process.stdout is not None
        process.stdout.readline()
        (stream,) = collector.events
        collector.on_each(lambda session: session.fence(stream))
        return "".join(process.communicate("go on\n", timeout=60))


def settings(folder: Path) -> Settings:
    return Settings(dir=folder / "xtrack", quiet=True)


def spool_with(folder: Path, *run_ids: str) -> SpoolDir:
    for run_id in run_ids:
        with Tracker.start_run(run_id=run_id, settings=settings(folder)) as run:
            run.log_metric("loss", 0.5, step=1)
    return SpoolDir(folder / "xtrack")


def xtrack(folder: Path, *argv: str) -> str:
    return command(folder, sys.executable, "-m", "xtrack_protocol.cli", *argv)


def capture(folder: Path, change: Callable[[bytes], bytes] = lambda data: data) -> str:
    frames = [
        encode_frame(Envelope.of(payload, seq=seq, timestamp_us=seq))
        for seq, payload in enumerate([RunStart("run-1"), *(Metric("run-1", "loss", 0.5, n) for n in range(9))], 1)
    ]
    path = folder / "capture.bin"
    path.write_bytes(change(b"".join(frames)))
    return str(path)


def decode(folder: Path, *argv: str) -> str:
    return command(folder, sys.executable, "-m", "xtrack_protocol.decode", *argv)


# ------------------------------------------------------------------------------------------ starting


@row("XTRACK_TRANSPORT='...': no such transport. Known: ...")
def _(folder: Path) -> str:
    return starting(folder, XTRACK_TRANSPORT="tpc")


@row("...: can't be written: .... Make room or set XTRACK_DIR to a folder that can be written")
def _(folder: Path) -> str:
    (folder / "file").write_text("")
    return starting(folder, XTRACK_DIR=str(folder / "file"))


@row(".../xtrack.toml: ...: no such setting. Known: ...")
def _(folder: Path) -> str:
    if sys.version_info < (3, 11):
        pytest.skip("this Python reads no TOML by itself")
    (folder / "xtrack.toml").write_text("expermient = 'iris'\n")
    return starting(folder)


@row("xtrack.toml='...': can't be read: ...")
def _(folder: Path) -> str:
    if sys.version_info < (3, 11):
        pytest.skip("this Python reads no TOML by itself")
    (folder / "xtrack.toml").write_text("experiment = iris\n")
    return starting(folder)


@row("XTRACK_WORLD_SIZE='...': must be a whole number, 1 or more")
def _(folder: Path) -> str:
    return starting(folder, XTRACK_WORLD_SIZE="many")


@row("XTRACK_SIGNALS='...': there is no signal '...' on this system")
def _(folder: Path) -> str:
    return starting(folder, XTRACK_SIGNALS="TREM=end")


@row("SLURM_JOB_ID: this is no job of Slurm")
def _(folder: Path) -> str:
    xtrack = f"{sys.executable} -m xtrack_protocol.cli"
    return command(folder, "bash", "-c", f'eval "$({xtrack} env slurm)"', SLURM_JOB_ID="")


@row(
    "warning: on_signal failed: ConfigurationError: signal='...': only the main thread can ask for signals. ...",
)
def _(folder: Path) -> str:
    code = "import threading as t, xtrack_protocol as x\nt = t.Thread(target=x.start_run().on_signal, args=(15,))"
    return python(folder, f"{code}\nt.start()\nt.join()")


@row("warning: XTRACK_SIGNALS is not obeyed by runs that are started outside of the main thread, ...")
def _(folder: Path) -> str:
    code = "import threading, xtrack_protocol as x\nt = threading.Thread(target=x.start_run)\nt.start()\nt.join()"
    return python(folder, code, XTRACK_SIGNALS="TERM=end")


@row(
    "warning: on_signal failed: ConfigurationError: signal='...': this process ignores it (under nohup, say), so it "
    "ends nothing. ...",
)
def _(folder: Path) -> str:
    code = "import signal, xtrack_protocol as x\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nx.start_run()"
    return python(folder, code, XTRACK_SIGNALS="TERM=end")


@row("warning: this is worker 0 of ..., and they share nothing that names their job, ...")
def _(folder: Path) -> str:
    return python(folder, "import xtrack_protocol\nxtrack_protocol.start_run()", RANK="0", WORLD_SIZE="2")


@row("all_ranks=True: this is worker ... of ..., and they share nothing ... Set XTRACK_RUN_ID ...")
def _(folder: Path) -> str:
    code = "from xtrack_protocol.integrations import _ranks\n_ranks.start(all_ranks=True)"
    return python(folder, code, RANK="1", WORLD_SIZE="2")


@row("import='...': this integration needs it, and it is not installed. Run ...")
def _(folder: Path) -> str:
    return python(folder, "import sys\nsys.modules['torch'] = None\nimport xtrack_protocol.integrations.torch")


@row("warning: RANK='...' is no whole number, so it is not taken for a worker's place")
def _(folder: Path) -> str:
    return starting(folder, RANK="first", WORLD_SIZE="2")


@row("XTRACK_CONFIG='...': no such file")
def _(folder: Path) -> str:
    return starting(folder, XTRACK_CONFIG="nowhere.toml")


@row("XTRACK_TRANSPORT='stdio': no descriptor was handed down")
def _(folder: Path) -> str:
    return starting(folder, XTRACK_TRANSPORT="stdio")


@row("XTRACK_FD=...: is not open")
def _(folder: Path) -> str:
    return starting(folder, XTRACK_TRANSPORT="stdio", XTRACK_FD="77")


@row("...: holds something else than frames. Set XTRACK_FILE to another path")
def _(folder: Path) -> str:
    (folder / "notes.txt").write_text("not frames")
    return starting(folder, XTRACK_TRANSPORT="file", XTRACK_FILE="notes.txt")


@row("run '...' was deleted here. Choose another run id")
def _(folder: Path) -> str:
    spool_with(folder, "run-1")
    with open_store(f"local:{folder / 'xtrack'}") as store:
        store.delete_run("run-1")
    return starting(folder)


@row("run_id='...': has ... bytes of UTF-8, more than 1024")
def _(folder: Path) -> str:
    with raises() as said:
        Tracker.start_run(run_id="x" * 1025, settings=settings(folder))
    return said[0]


# ------------------------------------------------------------------------------------------ logging


@row("warning: ... can't be opened again: a training from step ... goes on in run ...")
def _(folder: Path) -> str:
    training = TRAINING.replace("}", ", 'transport': 'memory'}")
    return python(folder, training + "owner._begin_training(0); owner._end_training(); owner._begin_training(0)")


@row("warning: log_metric('...'): ... is no single number ... The value was not logged")
def _(folder: Path) -> str:
    return logging(folder, "run.log_metric('loss', [0.5, 0.4])")


@row("log_metrics takes names with values, not ...")
def _(folder: Path) -> str:
    return logging(folder, "run.log_metrics(0.5)")


@row("log_params takes names with values, not ...")
def _(folder: Path) -> str:
    return logging(folder, "run.log_params('lr')")


@row("log() takes a message; for numbers by name there is log_metrics(mapping, step=...)")
def _(folder: Path) -> str:
    return logging(folder, "run.log({'loss': 0.5})")


@row("warning: param '...': JSON has no form for ...; its repr was logged")
def _(folder: Path) -> str:
    return logging(folder, "run.log_param('model', object())")


@row("warning: ... is not there (yet); it was logged without size and checksum")
def _(folder: Path) -> str:
    return logging(folder, "run.log_artifact('nowhere.bin')")


@row("warning: resume: no run_id says which run to go on with; ... starts anew")
def _(folder: Path) -> str:
    return python(folder, "import xtrack_protocol\nxtrack_protocol.start_run('baseline', resume=True).end()")


@row("warning: there is nothing of run ... here to resume; it starts anew")
def _(folder: Path) -> str:
    return python(folder, "import xtrack_protocol\nxtrack_protocol.start_run(run_id='run-1', resume=True).end()")


@row("warning: run ... hasn't ended: a session of this worker is open still, and the new one goes beside it")
def _(folder: Path) -> str:
    script = "import xtrack_protocol as xtrack\n" + "run = xtrack.start_run(run_id='run-1', resume=True)\n" * 2
    return python(folder, script)


@row("warning: a ... was too long and has been cut; its full text is kept as a file")
def _(folder: Path) -> str:
    return logging(folder, "run.log('x' * 2_000_000)")


@row("warning: ... on run '...', which has ended. ...")
def _(folder: Path) -> str:
    return logging(folder, "run.end(); run.log_metric('loss', 0.5)")


@row("no run has been started. Call start_run() first")
def _(folder: Path) -> str:
    return python(folder, "import xtrack_protocol\nxtrack_protocol.log_metric('loss', 0.5)")


FULL_DISK = """
    import resource
    import xtrack_protocol
    run = xtrack_protocol.start_run(run_id="run-1")
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, resource.RLIM_INFINITY))   # no file may grow beyond it
    for step in range(5000):
        run.log_metric("loss", 0.5, step=step)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    run.end()
"""


@row("warning: events are being lost: ...: can't be written: ...")
def _(folder: Path) -> str:
    return python(folder, FULL_DISK)


@row("warning: waiting until there is room, as XTRACK_ON_FULL=block says: ...")
def _(folder: Path) -> str:
    full_for_a_while = """
        import errno, os
        import xtrack_protocol as xtrack
        run = xtrack.start_run("r")
        real, refusals = os.write, [1, 2]
        def write(fd, data):
            if refusals and refusals.pop():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(fd, data)
        os.write = write
        assert run.log_metric("loss", 1.0)
        assert run.stats().dropped == 0
    """
    return python(folder, full_for_a_while, XTRACK_ON_FULL="block")


@row(
    "warning: events are being lost: ...: less than ... of the disk is free, which a spool that only waits for its "
    "collector leaves to others. ..."
)
def _(folder: Path) -> str:
    little_room = """
        import shutil
        import xtrack_protocol as xtrack
        usage = shutil.disk_usage(".")
        shutil.disk_usage = lambda folder: usage._replace(free=0)
        xtrack.start_run("r").log_metric("loss", 1.0)
    """
    return python(folder, little_room, XTRACK_TRANSPORT=f"unix:{folder / 'nobody.sock'}", XTRACK_END_TIMEOUT="0")


@row("warning: what was logged would not survive a power loss now, which is tried again: ...")
def _(folder: Path) -> str:
    bad_disk = """
        import errno, os, time
        import xtrack_protocol as xtrack
        from xtrack_protocol.spool import writer
        run = xtrack.start_run("r")
        real, failures = writer.sync_file, []
        def sync_file(fd):
            if not failures:
                failures.append(fd)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(fd)
        writer.sync_file = sync_file
        while not failures:
            time.sleep(0.01)
        time.sleep(0.1)
    """
    return python(folder, bad_disk)


@row("... of ... events of ... were lost; see above")
def _(folder: Path) -> str:
    said = python(folder, FULL_DISK)
    with open_store(f"local:{folder / 'xtrack'}") as store:
        assert store.get_run("run-1").lost_events > 0
        assert store.get_run("run-1").status == "completed"
    return said


# ------------------------------------------------------------------------------------------ asking


@row("error ... the training began and did not end: the script caught the exception that ended it, and went on")
def _(folder: Path) -> str:
    code = TRAINING + "owner._begin_training(0)"
    return python(folder, code) + xtrack(folder, "show", "run-1")


@row("no run '...'. `xtrack ls` lists the runs there are")
def _(folder: Path) -> str:
    spool_with(folder, "abc")
    return xtrack(folder, "show", "run-1")


@row("no run '...'. There are no runs yet in ...")
def _(folder: Path) -> str:
    return xtrack(folder, "show", "latest")


@row("'...' is the start of ... run ids: .... Give more of the id")
def _(folder: Path) -> str:
    spool_with(folder, "run-1", "run-2")
    return xtrack(folder, "show", "run-")


@row("store='...': no known kind of store. ...")
def _(folder: Path) -> str:
    return xtrack(folder, "ls", "--store", "runs.db")


@row("...: is no SQLite database")
def _(folder: Path) -> str:
    (folder / "runs.db").write_text("not a database, and long enough to be looked at")
    return xtrack(folder, "ls", "--store", "sqlite:///runs.db")


@row("...: is a SQLite database, but no store of XTrack")
def _(folder: Path) -> str:
    with closing(sqlite3.connect(folder / "runs.db")) as database:
        database.execute("CREATE TABLE runs (id TEXT)")
        database.commit()
    return xtrack(folder, "ls", "--store", "sqlite:///runs.db")


@row("...: was written by a newer version of xtrack-protocol ... Upgrade with `pip install -U xtrack-protocol`")
def _(folder: Path) -> str:
    SQLiteStore(folder / "runs.db").close()
    with closing(sqlite3.connect(folder / "runs.db")) as database:
        database.execute("PRAGMA user_version = 999")
        database.commit()
    return xtrack(folder, "ls", "--store", "sqlite:///runs.db")


@row("...: another process has held it locked for more than ... s. Wait for that process, or end it")
def _(folder: Path) -> str:
    with SQLiteStore(folder / "runs.db") as store, closing(sqlite3.connect(folder / "runs.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        with raises() as said:
            store.expect_run("run-1")
    return said[0]


@row("...: it can only be read. ...")
def _(folder: Path) -> str:
    SQLiteStore(folder / "runs.db").close()
    with open_store("sqlite:///" + str(folder / "runs.db"), read_only=True) as store, raises() as said:
        store.expect_run("run-1")
    return said[0]


# ------------------------------------------------------------------------------------------ files


@row("...: not an XTrack file: it looks like ...")
def _(folder: Path) -> str:
    (folder / "notes.txt").write_text("these are notes\n")
    return decode(folder, "notes.txt")


@row("unsupported_version at v: ...")
def _(folder: Path) -> str:
    return decode(folder, capture(folder, lambda data: data.replace(b'"v":1', b'"v":2', 1)))


@row("bad_json: ...")
def _(folder: Path) -> str:
    return decode(folder, capture(folder, lambda data: data.replace(b'{"t"', b'["t"', 1)))


@row("truncated: ...")
def _(folder: Path) -> str:
    return decode(folder, capture(folder, lambda data: data[:-10]))


@row("frame_too_large: ...")
def _(folder: Path) -> str:
    return decode(folder, "--max-frame", "90", capture(folder))


@row("... unverified (recovered behind damage)")
def _(folder: Path) -> str:
    return decode(folder, capture(folder, lambda data: data[:2] + b"\xff" + data[3:]))


@row("missing seqs ...")
def _(folder: Path) -> str:
    return decode(folder, capture(folder, lambda data: data.replace(b'"seq":5', b'"seq":x', 1)))


def damaged_spool(folder: Path, *positions: int) -> str:
    (path,) = spool_with(folder, "run-1").run_dir("run-1").glob("*.xseg")
    data = bytearray(path.read_bytes())
    for position in positions:
        data[position] ^= 1
    path.write_bytes(data)
    return str(path)


@row("...: both copies of the segment's header are damaged")
def _(folder: Path) -> str:
    path = damaged_spool(folder, 20, 4096 + 20)
    with raises() as said:
        list(stream_file(path))
    return said[0]


@row("bad_checksum: ...")
def _(folder: Path) -> str:
    return decode(folder, damaged_spool(folder, 8192 + 40))


@row("xtrack: warning: ...: ... bytes from byte ... on are damaged: ...")
def _(folder: Path) -> str:
    damaged_spool(folder, 8192 + 40)
    return xtrack(folder, "ls")


@row("xtrack: warning: ...: the record at byte ... is no event: ...")
def _(folder: Path) -> str:
    spool = spool_with(folder, "run-1")
    writer = StreamWriter(spool.run_dir("run-2"), StreamId("run-2", "", "session"))
    writer.append(1, b"no event")
    writer.close()
    return xtrack(folder, "show", "run-1")


# ------------------------------------------------------------------------------------------ launching


@row("...: command not found. Check the spelling and PATH")
def _(folder: Path) -> str:
    return xtrack(folder, "run", "--", "no-such-command")


@row("...: can't be executed: it has no permission to be executed. `chmod +x` gives it")
def _(folder: Path) -> str:
    (folder / "train.sh").write_text("echo training\n")
    return xtrack(folder, "run", "--", "./train.sh")


@row("run '...' is there already. Resume it, or start the command under another id")
def _(folder: Path) -> str:
    spool = spool_with(folder, "run-1")
    with raises() as said:
        RunManager(root=spool.root).start_run(sys.executable, run_id="run-1")
    return said[0]


@row("run '...' is running already: ...")
def _(folder: Path) -> str:
    spool = SpoolDir(folder / "xtrack")
    writer = StreamWriter(spool.run_dir("run-1"), StreamId("run-1", "", "session"))
    try:
        with raises() as said:
            RunManager(root=spool.root).start_run(sys.executable, run_id="run-1")
    finally:
        writer.close()
    return said[0]


@row("...: no worker of run '...' is alive on this machine to take a command")
def _(folder: Path) -> str:
    spool = spool_with(folder, "run-1")
    with raises() as said:
        send_command(spool.root, "run-1", "stop")
    return said[0]


@row("...: no worker of run '...' answered within ... s. ...")
def _(folder: Path) -> str:
    with Tracker.start_run(run_id="run-1", settings=settings(folder)), raises() as said:
        send_command(folder / "xtrack", "run-1", "stop", timeout=0.1)
    return said[0]


def at_collector(folder: Path, *argv: str, **options: Any) -> str:
    """Ask a collector that has no worker with a session connected."""
    with serving(MemoryStore(), **options) as server:
        return xtrack(folder, *argv, "--to", f"tcp://127.0.0.1:{server.port}")


@row("RuntimeError: ... processes train here, and would have to do it at the same step")
def _(folder: Path) -> str:
    return python(folder, TRAINING + COMMANDED.format("requests.begin(2)"))


@row("RuntimeError: nothing is being trained now")
def _(folder: Path) -> str:
    return python(folder, TRAINING + COMMANDED.format("requests.begin(1); requests.end()"))


@row("error no worker of run '...' is connected to this collector to take a command")
def _(folder: Path) -> str:
    return at_collector(folder, "command", "run-1", "stop")


@row("worker '...' lost its connection before it answered")
def _(folder: Path) -> str:
    with serving(MemoryStore()) as server, working(server, "run-1", "w0", answer=lambda _: None) as worker:
        threading.Thread(target=lambda: (until(lambda: worker.commands), worker.close())).start()
        return xtrack(folder, "command", "run-1", "stop", "--timeout", "30", "--to", f"tcp://127.0.0.1:{server.port}")


@row("delivered; a plain worker does not answer")
def _(folder: Path) -> str:
    with serving(MemoryStore()) as server, socket.create_connection(("127.0.0.1", server.port)) as worker:
        worker.sendall(encode_frame(Envelope.of(RunStart("run-1"), seq=1, timestamp_us=1)))
        until(lambda: server.router.workers("run-1"))
        return xtrack(folder, "command", "run-1", "stop", "--to", f"tcp://127.0.0.1:{server.port}")


@row("...: this collector passes no commands on (unsupported). Upgrade the collector")
def _(folder: Path) -> str:
    with serving(MemoryStore()) as server:
        server.features = ()
        return xtrack(folder, "command", "run-1", "stop", "--to", f"tcp://127.0.0.1:{server.port}")


@row(
    "...: who listens there is no collector that can be asked: ... (no_session). Subscriptions and commands need "
    "`xtrack serve`"
)
def _(folder: Path) -> str:
    with stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n", closes=True) as where:
        return xtrack(folder, "tail", "run-1", "--to", where)


@row("...: the collector refuses: there is no run '...' that '...' may read. ... (forbidden)...")
def _(folder: Path) -> str:
    store = MemoryStore()
    keyring = Keyring(folder / "keys.json", new=True)
    _, key = keyring.add("ann")
    store.claim_run("run-1", "bob")
    with serving(store, access=AccessControl(store, keyring)) as server:
        where = f"tcp://127.0.0.1:{server.port}"
        return command(folder, "xtrack", "tail", "run-1", "--to", where, XTRACK_KEY=key)


@row("xtrack: ...: .... Connecting again ...")
def _(folder: Path) -> str:
    store = MemoryStore()
    with ExitStack() as first:
        server = first.enter_context(serving(store))
        port = server.port
        worker = first.enter_context(working(server))
        until(lambda: server.router.workers("run-1"))
        argv = ["xtrack", "tail", "run-1", "--to", f"tcp://127.0.0.1:{port}"]
        tail = subprocess.Popen(
            argv, cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        first.callback(worker.close)
        assert tail.stdout is not None
        said = tail.stdout.readline()
    with serving(store, port) as server, working(server, "run-1", "w1") as worker:
        worker.log(RunEnd("run-1", "completed"))
        store.mark_lost(StreamLost(StreamId("run-1", "", "sid".ljust(32, "0")), 2, "vanished", 1, "gone"))
        return said + tail.communicate(timeout=60)[0]


@row("latest: a collector isn't asked for its runs. Give the run's whole id, ...")
def _(folder: Path) -> str:
    return at_collector(folder, "tail", "latest")


@row("xtrack: nothing has come for ... s")
def _(folder: Path) -> str:
    return at_collector(folder, "tail", "run-1", "--timeout", "0.2")


@row("xtrack rm: nobody can be asked here: add --yes.")
def _(folder: Path) -> str:
    spool_with(folder, "run-1")
    return xtrack(folder, "rm", "run-1")


# ------------------------------------------------------------------------------------------ keys


def key(folder: Path, *options: str) -> str:
    """Make a key of ann's on the collector's side; return it."""
    done = xtrack(folder, "keys", "add", "--owner", "ann", "--keys", "keys.json", *options)
    return done.split()[-1]


def collecting(folder: Path, key: str, *, run_id: str = "run-1", experiment: str = "") -> str:
    """Let a worker log to a collector that asks for keys, both in processes of their own; return what both said."""
    log = folder / "serve.log"
    serve = [sys.executable, "-m", "xtrack_protocol.cli", "serve", "--unix", "s", "--keys", "keys.json"]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*serve, "--store", "sqlite:///runs.db"], cwd=folder, env=environment(folder), stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + 30
        while not (folder / "s").exists():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        said = python(
            folder,
            f"import xtrack_protocol\nwith xtrack_protocol.start_run(run_id={run_id!r}):\n    pass\n",
            XTRACK_DIR=str(folder / f"worker-{time.monotonic_ns()}"),
            XTRACK_TRANSPORT="unix",
            XTRACK_SOCKET=str(folder / "s"),
            XTRACK_END_TIMEOUT="1",
            XTRACK_KEY=key,
            XTRACK_EXPERIMENT=experiment,
        )
    finally:
        server.terminate()
        server.wait(30)
    return said + log.read_text()


@row("this collector wants a key: `xtrack keys add --owner NAME` on its machine makes one for XTRACK_KEY")
def _(folder: Path) -> str:
    key(folder)
    return collecting(folder, "")


@row("this key isn't known here, or no longer: `xtrack keys ls` on the collector's machine lists those that are")
def _(folder: Path) -> str:
    return collecting(folder, key(folder)[:-1])


@row("key ... is for experiment '...', and run '...' is of .... Start it with XTRACK_EXPERIMENT=...")
def _(folder: Path) -> str:
    return collecting(folder, key(folder, "--experiment", "vision"), experiment="speech")


@row("key ... may only read, and this would write run '...'. Use one that may: ...")
def _(folder: Path) -> str:
    return collecting(folder, key(folder, "--read"))


@row(
    "run '...' has no owner: it was made without a key. Whoever runs the collector gives it one with "
    "`xtrack access ...`"
)
def _(folder: Path) -> str:
    with SQLiteStore(folder / "runs.db") as store:
        store.append([Worker("run-1").start()])
    return collecting(folder, key(folder))


@row("run '...' is somebody else's. Choose another run id, or have it opened to you: `xtrack access ...`")
def _(folder: Path) -> str:
    with SQLiteStore(folder / "runs.db") as store:
        store.claim_run("run-1", "bob")
    return collecting(folder, key(folder))


@row("keys='...': there is no such file. `xtrack keys add --owner NAME` makes it, with a first key")
def _(folder: Path) -> str:
    assert "no such file" in xtrack(folder, "serve", "--unix", "s", "--keys", "keys.json")
    return xtrack(folder, "keys", "ls", "--keys", "keys.json")


def _spoilt_keys(folder: Path, spoil: Callable[[Path], object]) -> str:
    key(folder)
    spoil(folder / "keys.json")
    return xtrack(folder, "serve", "--unix", "s", "--keys", "keys.json")


@row("keys='...': is open to other users (mode ...). `chmod 600 ...` closes it")
def _(folder: Path) -> str:
    return _spoilt_keys(folder, lambda path: path.chmod(0o644))


@row("keys='...': is a symbolic link, which is not followed. ...")
def _(folder: Path) -> str:
    return _spoilt_keys(folder, lambda path: path.rename(folder / "real") and path.symlink_to("real"))


@row("keys='...': is damaged: .... Restore it from a backup; ...")
def _(folder: Path) -> str:
    return _spoilt_keys(folder, lambda path: path.write_bytes(path.read_bytes()[:-9]))


@row("...: is damaged: it can't be read (...). `xtrack access RUN --owner NAME` writes it anew")
def _(folder: Path) -> str:
    spool_with(folder, "run-1")
    assert "ann" in xtrack(folder, "access", "run-1", "--owner", "ann")
    (folder / "xtrack" / "spool" / "run-1" / "ACCESS").write_text("{")
    return xtrack(folder, "access", "run-1")


# ------------------------------------------------------------------------------------------ installing


@row("xtrack: the command line needs click and rich, which aren't installed. Install them with ...")
def _(folder: Path) -> str:
    return python(
        folder,
        """
        import sys
        sys.modules["click"] = sys.modules["rich"] = None      # as where they aren't installed
        from xtrack_protocol.cli import main
        assert main(["ls"]) == 2
        """,
    )


# ------------------------------------------------------------------------------------------ system metrics and output


def with_run(folder: Path, *lines: str) -> str:
    code = ["import sys", "import xtrack_protocol as xtrack", "run = xtrack.start_run(transport='memory', quiet=True)"]
    return python(folder, "\n".join([*code, *lines, "run.end()"]))


SYSTEM = "from xtrack_protocol.integrations.system import track_system"
CAPTURE = "from xtrack_protocol.integrations.capture import capture_output"


@row("xtrack_protocol.integrations.system='psutil': it needs psutil, which can't be imported: ...")
def _(folder: Path) -> str:
    return with_run(folder, SYSTEM, "sys.modules['psutil'] = None", "track_system(run)")


@row("every=...: must be a number of seconds, 0.1 or more")
def _(folder: Path) -> str:
    return with_run(folder, SYSTEM, "track_system(run, every=0)")


@row("run=None: is no run. Start one, or pass the one to log to")
def _(folder: Path) -> str:
    return python(folder, f"{CAPTURE}\ncapture_output()")


@row("warning: system metrics: ... They go on without")
def _(folder: Path) -> str:
    broken = "import psutil\npsutil.virtual_memory = lambda: 1 / 0"
    return with_run(folder, SYSTEM, broken, "track_system(run).stop()")


@row("warning: system metrics: GPUs can't be read: ...")
def _(folder: Path) -> str:
    return with_run(folder, SYSTEM, "sys.modules['pynvml'] = None", "track_system(run, gpus=[0]).stop()")


@row("warning: stdout can't be captured: ...")
def _(folder: Path) -> str:
    odd = "class Odd:\n    __slots__ = ()\n    def write(self, text): ...\n    def flush(self): ...\nsys.stdout = Odd()"
    return with_run(folder, CAPTURE, odd, "capture_output(run)")


@row("warning: stdout and stderr can't be captured below Python, only what Python writes: ...")
def _(folder: Path) -> str:
    return with_run(folder, CAPTURE, "sys.executable = ''", "capture_output(run, descriptors=True)")


@row("descriptors=True: can be captured on POSIX systems only. Leave it out")
def _(folder: Path) -> str:
    return with_run(folder, CAPTURE, "import os", "os.name = 'nt'", "capture_output(run, descriptors=True)")
