"""A worker and its collector with one XTRACK_DIR: what the worker has written stays. spec: RST-9.7, RST-9.8"""

import os
import subprocess
import sys

import pytest

from xtrack_protocol import Tracker
from xtrack_protocol.server import CollectorServer
from xtrack_protocol.settings import Settings
from xtrack_protocol.spool import SpoolDir
from xtrack_protocol.spool.shipping import read_note, trim
from xtrack_protocol.storage import LocalStore

DAY = 86_400 * 1_000_000


def test_what_a_worker_has_logged_is_there_once_and_is_never_trimmed(tmp_path):
    with LocalStore(tmp_path) as store:
        server = CollectorServer(store, tcp=("127.0.0.1", 0))
        with server.run_in_thread():
            settings = Settings(dir=tmp_path, transport=f"tcp://127.0.0.1:{server.port}", quiet=True)
            run = Tracker.start_run(run_id="r", settings=settings)
            for step in range(200):
                run.log_metric("loss", 1 / (step + 1), step=step)
            run.end(timeout=30)
            delivery = run.stats().delivery
        assert delivery is not None
        assert (delivery.waiting, delivery.rejected) == (0, {})
        state = store.get_run("r")
        assert (state.status, state.metrics["loss"].count) == ("completed", 200)
        assert store.conflicts("r") == []
        (summary,) = state.streams
        run_dir = SpoolDir(tmp_path).run_dir("r")
        note = read_note(run_dir, summary.stream)
        assert note is not None
        assert note.acked == summary.last_seq
        note.buffer = True
        for day in range(1, 4):
            assert trim(run_dir, summary.stream, note, 2**52 + day * DAY) == 0
        assert [event.envelope.meta.seq for event in store.events("r")] == list(range(1, summary.last_seq + 1))


@pytest.mark.skipif(not os.path.exists("/usr/bin/strace"), reason="strace isn't there to look")
def test_what_is_acked_was_forced_to_the_disk(tmp_path):
    """The collector syncs the worker's own segment before it acks what stands in it."""
    script = """
import sys
from xtrack_protocol.session import StreamId
from xtrack_protocol.storage import LocalStore
with LocalStore(sys.argv[1]) as store:
    assert store.cursor(StreamId("r", "", sys.argv[2])).contiguous_to == 6
"""
    run = Tracker.start_run(run_id="r", settings=Settings(dir=tmp_path, quiet=True))
    for step in range(4):
        run.log_metric("loss", 0.5, step=step)
    trace = tmp_path / "trace"
    subprocess.run(
        ["strace", "-f", "-y", "-e", "trace=fsync,fdatasync", "-o", str(trace), sys.executable, "-c", script,
         str(tmp_path), run.session_id], check=True, timeout=120,
    )  # fmt: skip
    run.end()
    assert ".000001.xseg" in trace.read_text()
