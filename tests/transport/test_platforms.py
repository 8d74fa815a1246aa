"""Macs and Windows: what can be seen from here. Modules that are missing there must not be needed to import ours."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import xtrack_protocol

POSIX_ONLY = {"fcntl", "pwd", "grp", "resource", "termios", "tty", "pty", "syslog"}
PACKAGE = Path(xtrack_protocol.__file__).parent


def eager_imports(body):
    """Yield the modules that are imported whenever a module is, outside functions and platform checks."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").split(".")[0]
        elif isinstance(node, ast.ClassDef | ast.With):
            yield from eager_imports(node.body)
        elif isinstance(node, ast.If) and "platform" not in ast.unparse(node.test):
            yield from eager_imports([*node.body, *node.orelse])


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_needs_posix_to_be_imported(path):
    assert not POSIX_ONLY & set(eager_imports(ast.parse(path.read_text()).body))


ELSEWHERE = """
import os, sys, types, importlib
platform = sys.argv[1]
import encodings.idna, threading, socket, select, subprocess, tempfile, attrs, msgspec, zlib, struct, shutil, pathlib
import concurrent.futures, sqlite3, asyncio, dataclasses, inspect, selectors, random, platform as _, importlib.metadata
import cattrs
sys.platform = platform
gone = ["register_at_fork", "fork", "fdatasync", "O_CLOEXEC", "O_NOFOLLOW", "O_DIRECTORY", "getuid", "geteuid"]
if platform == "win32":
    gone += ["set_blocking", "get_blocking", "waitstatus_to_exitcode", "WIFSIGNALED", "killpg", "setsid", "getpgid"]
    for name in ("poll", "epoll", "PIPE_BUF"):
        if hasattr(select, name):
            delattr(select, name)
    for name in ("AF_UNIX", "MSG_DONTWAIT", "MSG_NOSIGNAL"):
        if hasattr(socket, name):
            delattr(socket, name)
    for name in ("fcntl", "pwd", "grp", "resource", "termios", "pty", "tty"):
        sys.modules[name] = None
    locked = set()
    def locking(fd, mode, size):
        where = os.fstat(fd).st_ino
        if where in locked:
            raise OSError(13, "locked")
        locked.add(where)
    sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2, LK_UNLCK=0)
for name in gone[2 if platform == "darwin" else 0:]:
    if hasattr(os, name) and not (platform == "darwin" and name not in ("fdatasync",)):
        delattr(os, name)
for name in ("xtrack_protocol", "xtrack_protocol.ir", "xtrack_protocol.wire", "xtrack_protocol.spool",
             "xtrack_protocol.transport", "xtrack_protocol.transport.remote", "xtrack_protocol.settings"):
    importlib.import_module(name)

from pathlib import Path
from xtrack_protocol.errors import XTrackError
from xtrack_protocol.session import StreamId
from xtrack_protocol.transport import *
from xtrack_protocol.net.endpoint import Endpoint
from xtrack_protocol.transport.remote import UnixTransport
from xtrack_protocol.wire import frame_payload
here = Path(sys.argv[2])
info = StreamInfo(stream=StreamId("r", "", "s"))
for transport in (LocalTransport(here / "home"), FileTransport(here / "events.bin"), MemoryTransport()):
    transport.open(info)
    transport.send(1, b"{}")
    transport.receive()
    transport.flush("durable", 1)
    transport.close()
assert (here / "events.bin").read_bytes() == frame_payload(b"{}")
if platform == "win32":
    try:
        UnixTransport(Endpoint(scheme="unix", path=here / "s"), here / "home").open(info)
    except XTrackError as error:
        assert "no Unix sockets" in str(error), error
    else:
        raise AssertionError("a Unix socket on Windows")
print("fine")
"""


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_the_files_work_where_these_calls_are_missing(tmp_path, platform):
    if platform == "darwin":
        script = ELSEWHERE.replace("import cattrs", "import cattrs, fcntl; fcntl.F_FULLFSYNC = 51")
    else:
        script = ELSEWHERE
    done = subprocess.run(
        [sys.executable, "-c", script, platform, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "fine\n", done.stderr
