"""A process of the reference implementation: run by ``run_process``, it makes the calls that it is given.

``python as_process.py FILE`` is that process: FILE holds the request, and the numbers of the descriptors to be moved.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from values_told import untagged

CHILD = [str(Path(__file__).resolve())]
SECONDS = 8.0
RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_", "OMPI_", "PMI_", "SLURM_")


# ------------------------------------------------------------------------------------------ the testee's side


def run_process(request: dict[str, Any], shared: Path | None = None) -> dict[str, Any]:
    """Run a process, in a folder that it may share with others, and return what it wrote and how it ended."""
    with tempfile.TemporaryDirectory(prefix="xtrack-process-") as name:
        folder = Path(name)
        home = shared or folder / "home"
        work = (shared or folder) / "work"
        for path in (home, work):
            path.mkdir(exist_ok=True)
        baits = set_baits(folder / "baits", work) if request.get("baits") else {}
        ours: dict[str, socket.socket] = {}
        theirs: dict[str, socket.socket | int] = {}
        readers: dict[str, Reader] = {}
        for number, kind in request.get("descriptors", {}).items():
            if kind == "pipe":
                reading, writing = os.pipe()
                theirs[number], readers[number] = writing, Reader(os.fdopen(reading, "rb"))
            elif kind == "socket":
                ours[number], theirs[number] = socket.socketpair()
                ours[number].sendall(base64.b64decode(request.get("send", {}).get(number, "")))
                readers[number] = Reader(ours[number].makefile("rb"))
        numbers = {key: end if isinstance(end, int) else end.fileno() for key, end in theirs.items()}
        (folder / "request.json").write_text(json.dumps({**request, "move": numbers}))
        command = [sys.executable, *CHILD, str(folder / "request.json")]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=tuple(numbers.values()),
            cwd=work,
            env=environment(request.get("env", {}), home) | baits,
        )
        for end in theirs.values():
            os.close(end) if isinstance(end, int) else end.close()
        try:
            output, errors = process.communicate(base64.b64decode(request.get("stdin", "")), timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
        written = {"1": output} | {key: reader.result() for key, reader in readers.items()}
        for connection in ours.values():
            connection.close()
        for number, kind in request.get("descriptors", {}).items():
            if kind == "file":
                written[number] = (work / f"file-{number}").read_bytes()
        results = folder / "results.json"
        return {
            "descriptors": {key: base64.b64encode(data).decode() for key, data in written.items()},
            "files": {path: as_text(work / path) for path in request.get("read", [])},
            "calls": json.loads(results.read_text()) if results.exists() else [],
            "told": errors.decode("utf-8", "replace").splitlines(),
            "status": process.returncode,
        }


class Reader:
    """Reads to the end in a thread."""

    def __init__(self, file: Any) -> None:
        self.data = b""
        self.thread = threading.Thread(target=self.work, args=(file,), daemon=True)
        self.thread.start()

    def work(self, file: Any) -> None:
        """Read."""
        with contextlib.suppress(OSError), file:
            self.data = file.read()

    def result(self) -> bytes:
        """Return what was read."""
        self.thread.join(2.0)
        return self.data


def as_text(path: Path) -> str | None:
    """Return what a file holds, in base64."""
    return base64.b64encode(path.read_bytes()).decode() if path.exists() else None


FRAMEWORKS = ("jax", "jaxlib", "torch", "tensorflow", "horovod", "mpi4py", "paddle", "mxnet", "cupy", "deepspeed")


def set_baits(folder: Path, work: Path) -> dict[str, str]:
    """Put in the process's way what says that it was loaded, under the names of frameworks; return its variables."""
    folder.mkdir()
    for name in FRAMEWORKS:
        (folder / f"{name}.py").write_text(f"open({str(work / 'loaded')!r}, 'a').write({name + ' '!r})")
    return {"PYTHONPATH": str(folder)}


def environment(given: dict[str, str], home: Path) -> dict[str, str]:
    """Return the environment of a process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XTRACK_", *RANKS))}
    return kept | {"XTRACK_DIR": str(home)} | given


# ------------------------------------------------------------------------------------------ the process


class Program:
    """Makes the calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results: list[str] = []
        self.run: Any = None

    def make(self, calls: list[dict[str, Any]]) -> None:
        """Make calls, and note what came of each."""
        for call in calls:
            try:
                self.one(call)
                self.results.append("returned")
            except Exception as error:  # noqa: BLE001 - told
                sys.stderr.write(f"{type(error).__name__}: {error}\n")
                self.results.append("raised")
            self.note()

    def note(self) -> None:
        """Write down what came of the calls so far."""
        if self.folder.name:
            (self.folder / "results.json").write_text(json.dumps(self.results))

    def one(self, call: dict[str, Any]) -> None:
        """Make a call."""
        from calls import RUN_OPTIONS, make_call

        from xtrack_protocol.emitter import Tracker

        given = untagged(call.get("arguments", {"t": "obj", "v": []}))
        if call["call"] == "start":
            trust(given)
            self.run = Tracker.start_run(**{ours: given[name] for name, ours in RUN_OPTIONS.items() if name in given})
        elif call["call"] == "annotate":
            run = Tracker.attach(given["run_id"])
            run.set_tags(given["tags"])
            run.end()
        elif call["call"] == "process":
            further = run_process(call["request"], Path.cwd().parent)
            sys.stderr.write("".join(f"{line}\n" for line in further["told"]))
        elif call["call"] == "fork":
            fork = os.fork if call.get("hooks", True) else ctypes.PyDLL(None).fork  # the latter runs no hook
            if fork() == 0:
                self.folder = Path()
                self.make(call["calls"])
                sys.exit(0)
            os.wait()
        elif call["call"] == "threads":
            threads = [threading.Thread(target=self.quietly, args=(call["calls"],)) for _ in range(call["count"])]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        else:
            self.commands: list[Any] = []
            make_call(self, call["call"], given)

    def quietly(self, calls: list[dict[str, Any]]) -> None:
        """Make calls in a thread."""
        for call in calls:
            self.one(call)


def trust(given: dict[str, Any]) -> None:
    """Have the emitter speak TLS, and trust whom it is told to."""
    if given.get("tls"):
        os.environ["XTRACK_TLS"] = "1"
    if "authority" in given:
        Path("authority.pem").write_text(given["authority"])
        os.environ["XTRACK_TLS_CA"] = str(Path("authority.pem").absolute())
    if "fingerprint" in given:
        os.environ["XTRACK_TLS_FINGERPRINT"] = given["fingerprint"]


def move(request: dict[str, Any]) -> None:
    """Give the descriptors their numbers, before the emitter is loaded."""
    import fcntl

    moved = {}
    for number, held in request["move"].items():
        moved[int(number)] = fcntl.fcntl(held, fcntl.F_DUPFD, 60)
        os.close(held)
    for number, held in moved.items():
        os.dup2(held, number)
        os.close(held)
    for number, kind in request.get("descriptors", {}).items():
        if kind == "file":
            opened = os.open(f"file-{number}", os.O_RDWR | os.O_CREAT, 0o600)
            if opened != int(number):
                os.dup2(opened, int(number))
                os.close(opened)


if __name__ == "__main__":
    CHILD = sys.orig_argv[1:-1]  # a process that this one runs is of the same kind
    file = Path(sys.argv[1])
    asked = json.loads(file.read_text())
    move(asked)
    sys.argv = [str(Path("train.py").absolute())]  # the script that a training would be
    program = Program(file.parent)
    program.make(asked["calls"])
    match asked["ending"].split():
        case ["exit", status]:
            sys.exit(int(status))
        case ["exception"]:
            raise RuntimeError("nobody catches this")
        case ["interrupt"]:
            signal.raise_signal(signal.SIGINT)
        case ["terminate"]:
            os.kill(os.getpid(), signal.SIGTERM)
        case ["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)
