"""Runs a process under strace: to see each of its calls, to make one of them fail, or to kill it there.

The traced script says ``begin`` on the descriptor named in TOLD_FD when it is ready, and from then on what its calls
have returned. ``calls_of`` counts what comes after that; ``Fault`` counts from the process's start, as strace does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from socket import socketpair

import pytest

CHANGING = (
    *("write", "pwrite64", "writev", "pwritev", "fsync", "fdatasync", "sync_file_range", "ftruncate", "fallocate"),
    *("openat", "mkdir", "rename", "renameat2", "link", "unlink", "unlinkat", "rmdir"),
)
"""Calls by which a process changes what is on a disk."""

_LINE = re.compile(r"^(\d+) +(.*)$")
_CALL = re.compile(r"^(\w+)\((.*)\) += (-?\d+|\?)(?:<([^>]*)>)?")
_PATH = re.compile(r"<((?:\\x[0-9a-f]{2})*)>")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclass(frozen=True)
class Call:
    """A system call that has come back. ``paths``: of its descriptors; ``texts``: its strings; ``arguments``: all."""

    thread: int
    name: str
    result: int
    arguments: str
    paths: tuple[str, ...]
    texts: tuple[bytes, ...]
    returned_path: str


@dataclass
class Traced:
    """What became of a traced process."""

    returncode: int
    told: list[str]
    stderr: str
    calls: list[Call] = field(default_factory=list)

    @property
    def killed(self) -> bool:
        """Whether it died of SIGKILL: strace dies as its tracee did."""
        return self.returncode in {-9, 137}


def needs_strace() -> pytest.MarkDecorator:
    """Return the mark of tests that can't run without strace."""
    return pytest.mark.skipif(not can_trace(), reason="strace isn't installed, or may not trace here")


def can_trace() -> bool:
    """Whether strace is here and may trace."""
    if sys.platform != "linux" or not shutil.which("strace"):
        return False
    done = subprocess.run(["strace", "-f", "-qq", "-o", os.devnull, "true"], capture_output=True)
    return done.returncode == 0


def run_traced(
    script: str,
    *arguments: str,
    trace: tuple[str, ...] = (),
    inject: tuple[str, ...] = (),
    environment: dict[str, str],
    socket: bool = False,
) -> Traced:
    """Run a Python script under strace. ``trace``: the calls to record; ``inject``: expressions for -e inject;
    ``socket``: TOLD_FD is one end of a socket, and not a pipe, so that what is told is no write.
    """
    reading, writing = (end.detach() for end in socketpair()) if socket else os.pipe()
    with tempfile.TemporaryDirectory(prefix="xtrack-strace-") as folder:
        log = Path(folder, "log")
        command = ["strace", "-f", "-qq", "-o", str(log) if trace else os.devnull]
        if trace:
            command += ["-y", "-xx", "-s", "20000000", "-e", f"trace={','.join(f'?{name}' for name in trace)}"]
        else:
            command += ["-e", f"trace={','.join(sorted({one.partition(':')[0] for one in inject}))}"]
        for one in inject:
            command += ["-e", f"inject={one}"]
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("XTRACK_")},
            "XTRACK_QUIET": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
            "TOLD_FD": str(writing),
        }
        process = subprocess.Popen(
            [*command, sys.executable, "-c", script, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            pass_fds=[writing],
        )
        os.close(writing)
        try:
            with os.fdopen(reading, "rb") as pipe:
                told = pipe.read().decode().splitlines()
            stderr = process.communicate(timeout=60)[1].decode("utf-8", "replace")
        finally:
            process.kill()
            process.wait()
        calls = parse(log.read_text()) if trace else []
    return Traced(process.returncode, told, stderr, calls)


def parse(log: str) -> list[Call]:
    """Return the calls of a log, each where it came back."""
    unfinished: dict[str, str] = {}
    calls = []
    for line in log.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        thread, text = found.groups()
        if text.endswith("<unfinished ...>"):
            unfinished[thread] = text[: -len("<unfinished ...>")].rstrip()
            continue
        if text.startswith("<... "):
            text = unfinished.pop(thread, "") + text.partition(" resumed>")[2]
        call = _CALL.match(text)
        if call is None or call[3] == "?":
            continue
        paths = tuple(_plain(path).decode("utf-8", "surrogateescape") for path in _PATH.findall(call[2]))
        texts = tuple(_plain(text) for text in _TEXT.findall(call[2]))
        returned = _plain(call[4] or "").decode("utf-8", "surrogateescape")
        rest = _TEXT.sub('""', call[2])
        calls.append(Call(int(thread), call[1], int(call[3]), rest, paths, texts, returned))
    return calls


def _plain(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", "")) if text.startswith("\\x") else text.encode()


def points(calls: list[Call], folder: Path, names: tuple[str, ...] = CHANGING) -> list[tuple[str, int]]:
    """Return each call after ``begin`` that is about ``folder``, and each word told, as strace counts them: its name,
    and the how manieth of its thread it is.
    """
    counts: dict[int, Counter[str]] = {}
    begun = False
    found: dict[tuple[str, int], None] = {}
    for call in calls:
        counted = counts.setdefault(call.thread, Counter())
        counted[call.name] += 1
        if call.name == "write" and call.texts[:1] == (b"begin\n",):
            begun = True
        elif begun and call.name in names and is_about(call, folder):
            found[call.name, counted[call.name]] = None
    return list(found)


def is_about(call: Call, folder: Path) -> bool:
    """Whether a call touches what is below ``folder``, or tells something."""
    if call.name == "openat":
        return bool(call.texts) and call.texts[0].startswith(os.fsencode(folder)) and "O_CREAT" in call.arguments
    if call.paths:
        return any(path.startswith(str(folder)) or (call.name == "write" and "pipe:" in path) for path in call.paths)
    return any(text.startswith(os.fsencode(folder)) for text in call.texts)
