"""Secrets that must show nowhere: what looks like a key is put wherever users put keys, and searched for everywhere.

A worker is started with canaries in XTRACK_KEY, in a file of keys, in variables of its environment, on its command line
and in URLs that it logs as settings; it talks to a collector that asks for that key, is refused with another one, and
runs into errors whose messages are tempted to quote. Then every file below XTRACK_DIR and of the collector, every line
that either has written, and every repr and message of settings, endpoints and errors is searched for the canaries.

``python tests/faults/canaries.py`` prints the table.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults.kill9_network import free_port

WORKER = """
import os, sys
from xtrack_protocol import start_run
from xtrack_protocol.errors import XTrackError
from xtrack_protocol.settings import load_settings
print(load_settings(), file=sys.stderr)
run = start_run(run_id=sys.argv[1])
print(repr(run), run.stats(), file=sys.stderr)
run.log_metric("loss", 1.0, step=1)
run.log_metric("loss", object(), step=2)
print(run.flush("acked", 10.0), run.stats(), file=sys.stderr)
if "fails" in sys.argv:
    raise RuntimeError("the training fails")
run.end()
"""

REPRS = """
import os, sys, traceback
from xtrack_protocol.settings import load_settings
from xtrack_protocol.net.endpoint import parse_endpoint
from xtrack_protocol.ir import Auth, Hello
key = os.environ["CANARY"]
things = [load_settings({"XTRACK_KEY": key}), Auth("key", key), Hello([1], auth=Auth("key", key))]
for spec in ("tcp", "tls://example.org:99", "unix:/tmp/x"):
    things.append(parse_endpoint(spec, load_settings({"XTRACK_KEY": key})))
tries = [
    ("tcp", {"XTRACK_KEY": key, "XTRACK_HOST": "example.org"}),
    ("tcp", {"XTRACK_KEY": key + "\\n"}),
    ("tcp", {"XTRACK_KEY": key, "XTRACK_PORT": "x"}),
    ("tcp", {"XTRACK_KEY": key + "\\u00e9 "}),
    ("tcp", {"XTRACK_KEY": key, "XTRACK_KEY_FILE": "/nowhere"}),
    ("tcp://user:" + key + "@localhost:99", {}),
    ("tls://" + key + "@localhost", {}),
]
for spec, environment in tries:
    try:
        things.append(parse_endpoint(spec, load_settings(environment)))
    except Exception:
        things.append(traceback.format_exc())
for thing in things:
    print(repr(thing), thing, [str(one) for one in getattr(thing, "__dict__", {})])
"""


@dataclass
class Outcome:
    """What was searched, and what was found."""

    canaries: dict[str, str] = field(default_factory=dict)
    files: int = 0
    size: int = 0
    runs_seen: int = 0
    """Where a run's id was found: the search does find what is there."""
    problems: list[str] = field(default_factory=list)

    def search(self, where: str, data: bytes) -> None:
        """Look for each canary in ``data``."""
        self.files += 1
        self.runs_seen += b"failing" in data
        self.size += len(data)
        for name, canary in self.canaries.items():
            if canary.encode() in data or canary[4:].encode() in data:
                at = max(data.find(canary.encode()), data.find(canary[4:].encode()))
                self.problems.append(f"the canary of {name} is in {where}: {data[max(0, at - 80) : at + 20]!r}")


def run() -> Outcome:
    """Put them out, let everything run, and search."""
    outcome = Outcome()
    folder = Path(tempfile.mkdtemp(prefix="xtrack-canaries-"))
    try:
        _run(outcome, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


def _xtrack(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XTRACK_")}
    environment["XTRACK_DIR"] = str(folder / "collector")
    command = [sys.executable, "-m", "xtrack_protocol.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


def _run(outcome: Outcome, folder: Path) -> None:
    made = _xtrack(folder, "keys", "add", "--owner", "somebody", "--keys", str(folder / "keys.json"))
    key = next((word for word in made.stdout.split() if word.startswith("xtk_")), "")
    assert key, made
    wrong = f"xtk_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"
    canaries = {name: f"xtk_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}" for name in ("argv", "variable", "url")}
    outcome.canaries = {"XTRACK_KEY": key.split("_", 2)[2], "a wrong key": wrong.split("_", 2)[2], **canaries}
    port = free_port()
    log = folder / "serve.log"
    with log.open("wb") as written:
        arguments = ["--tcp", f"127.0.0.1:{port}", "--keys", str(folder / "keys.json")]
        arguments += ["--store", f"sqlite:///{folder}/collector/store.db"]
        (folder / "collector").mkdir(exist_ok=True)
        server = subprocess.Popen(
            [sys.executable, "-X", "dev", "-m", "xtrack_protocol.cli", "serve", *arguments],
            stdout=written,
            stderr=written,
            env={**os.environ, "XTRACK_DIR": str(folder / "collector"), "PYTHONASYNCIODEBUG": "1"},
        )
        try:
            _await(port)
            _run_workers(outcome, folder, port, key, wrong, canaries)
            _ask(outcome, folder, port, key)
        finally:
            server.terminate()
            server.wait(30)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            outcome.search(str(path.relative_to(folder)), path.read_bytes())
    for run_id in ("right", "failing"):
        shown = _xtrack(folder, "show", run_id, "--store", f"sqlite:///{folder}/collector/store.db")
        outcome.search(f"xtrack show {run_id}", shown.stdout.encode() + shown.stderr.encode())
    if outcome.runs_seen < 3:
        outcome.problems.append("not even the run's id was found")
    reprs = subprocess.run(
        [sys.executable, "-c", REPRS],
        capture_output=True,
        timeout=60,
        env={**os.environ, "CANARY": canaries["url"]},
        check=False,
    )
    outcome.search("reprs and messages", reprs.stdout + reprs.stderr)
    if reprs.returncode:
        outcome.problems.append(f"the reprs ended with {reprs.returncode}: {reprs.stderr[-500:]!r}")


def _run_workers(outcome: Outcome, folder: Path, port: int, key: str, wrong: str, canaries: dict[str, str]) -> None:
    for run_id, given, more in (("right", key, []), ("failing", key, ["fails"]), ("refused", wrong, [])):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("XTRACK_")}
        environment |= {
            "XTRACK_DIR": str(folder / "worker"),
            "XTRACK_TRANSPORT": f"tcp://127.0.0.1:{port}",
            "XTRACK_KEY": given,
            "XTRACK_END_TIMEOUT": "5",
            "XTRACK_ENV_VARS": "WANDB_API_KEY,DATABASE_URL,MY_*",
            "WANDB_API_KEY": canaries["variable"],
            "MY_TOKEN": canaries["variable"],
            "DATABASE_URL": f"postgres://user:{canaries['url']}@db/x",
        }
        argv = ["--api-key", canaries["argv"], f"--token={canaries['argv']}", f"https://u:{canaries['url']}@host/"]
        worker = subprocess.run(
            [sys.executable, "-X", "dev", "-c", WORKER, run_id, *more, *argv],
            capture_output=True,
            timeout=90,
            env=environment,
            check=False,
        )
        outcome.search(f"what the worker {run_id} printed", worker.stdout + worker.stderr)
        if run_id == "right" and b"True RunStats" not in worker.stderr:
            outcome.problems.append(f"the right key brought nothing across: {worker.stderr[-600:]!r}")
        if run_id == "refused" and b"False RunStats" not in worker.stderr:
            outcome.problems.append(f"the wrong key was let in: {worker.stderr[-600:]!r}")


def _ask(outcome: Outcome, folder: Path, port: int, key: str) -> None:
    """Ship what the refused worker left, with the right key, and look at what the commands say."""
    environment = {**os.environ, "XTRACK_KEY": key, "XTRACK_DIR": str(folder / "worker")}
    for arguments in (["sync", "--to", f"tcp://127.0.0.1:{port}"], ["doctor"], ["ls"], ["show", "right"]):
        done = subprocess.run(
            [sys.executable, "-m", "xtrack_protocol.cli", *arguments],
            capture_output=True,
            timeout=60,
            env=environment,
            check=False,
        )
        outcome.search(f"xtrack {arguments[0]}", done.stdout + done.stderr)


def _await(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("the collector doesn't listen")


def table(outcome: Outcome) -> str:
    """Return the figures as text."""
    names = ", ".join(outcome.canaries)
    lines = [f"{len(outcome.canaries)} canaries ({names}) searched for in {outcome.files} files and outputs,"]
    lines.append(f"{outcome.size:,} bytes: found {len(outcome.problems)} times")
    return "\n".join([*lines, *(f"UNSOUND: {problem}" for problem in outcome.problems)])


def main() -> int:
    """Run from the command line."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    outcome = run()
    print(table(outcome))
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
