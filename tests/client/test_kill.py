"""A collector that is killed again and again, while a training logs and somebody follows."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from remote_workers import PATIENCE

from xtrack_protocol.client import CollectorClient, PublishedEvent
from xtrack_protocol.ir import Metric
from xtrack_protocol.settings import Settings
from xtrack_protocol.storage import open_store

TRAINING = """
import time
import xtrack_protocol as xtrack

with xtrack.start_run(run_id="run-1") as run:
    step = 0
    while not run.should_stop:
        run.log_metric("loss", 1.0, step=step)
        step += 1
        time.sleep(0.002)
"""


def test_kill_9(tmp_path: Path) -> None:
    """Each event comes once and in order, and the command that ends the training is answered."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    where, store = f"tcp://127.0.0.1:{port}", f"sqlite:///{tmp_path / 'runs.db'}"
    serve = [sys.executable, "-m", "xtrack_protocol.cli", "serve", "--tcp", f"127.0.0.1:{port}", "--store", store]
    quiet = {"XTRACK_QUIET": "1", "XTRACK_TRANSPORT": where, "XTRACK_DIR": str(tmp_path / "far")}
    env = {name: value for name, value in os.environ.items() if not name.startswith("XTRACK_")}

    def start() -> subprocess.Popen[bytes]:
        server = subprocess.Popen(serve, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert server.stdout is not None
        assert server.stdout.readline()
        return server

    server = start()
    training = subprocess.Popen([sys.executable, "-c", TRAINING], env={**env, **quiet})
    client = CollectorClient(where, Settings(), connect_timeout=PATIENCE)
    subscription = client.subscribe("run-1", timeout=PATIENCE, until_end=True)
    try:
        events: list[PublishedEvent] = []
        for _ in range(4):
            begun = time.monotonic()
            while len(events) < 50 or time.monotonic() < begun + 0.3:
                events.append(next(subscription))
            server.kill()
            server.communicate()
            server = start()
        events.append(next(subscription))
        deadline = time.monotonic() + PATIENCE
        while client.send_command("run-1", "stop", timeout=PATIENCE)[0].status != "ok":
            assert time.monotonic() < deadline, "the worker hasn't connected again"
            time.sleep(0.1)
        events += list(subscription)
        assert not subscription.timed_out
        assert training.wait(PATIENCE) == 0
    finally:
        subscription.close()
        for process in (training, server):
            process.kill()
            process.communicate()
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    with open_store(store, read_only=True) as opened:
        assert [event.raw for event in events] == [event.raw for event in opened.events("run-1")]
    payloads = [event.envelope.payload for event in events if event.envelope]
    steps = [payload.step for payload in payloads if isinstance(payload, Metric)]
    assert steps == list(range(len(steps)))
    assert subscription.connections == 5
