"""Starts a worker's process and ends it: command look-up, descriptors, process groups, signals.

The worker gets our standard input, output and error as they are. It is not tied to us: when the launcher dies, it goes
on. So that stopping it reaches what it has started itself, it leads a group of its own, except at a terminal: there it
stays in ours, for Ctrl-C and job control to work, and its descendants are found by their parents.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from xtrack_protocol.errors import CommandNotExecutable, CommandNotFound, ConfigurationError, LaunchError

FRAMES_FD: Final = 3
"""The published descriptor for frames."""

_HELPER: Final = """
import os, signal, sys
sock, report, drop = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
os.dup2(sock, 3, inheritable=True)
os.close(sock)
os.set_inheritable(report, False)
for name in ("SIGPIPE", "SIGXFSZ"):
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
if drop:
    os.environ.pop(drop, None)
try:
    os.execvp(sys.argv[4], sys.argv[4:])
except OSError as error:
    os.write(report, str(error.errno).encode())
os._exit(127)
"""
"""Moves the socket to descriptor 3 in the child and becomes the command, so that nothing else stays open.

A small interpreter and not a preexec function, which isn't safe in a process with threads. It undoes what Python does
to its own process on start: ignored signals, and LC_CTYPE in the C locale.
"""


@attrs.frozen
class Spawned:
    """A started worker. ``frames``: our end of its descriptor for frames; ``own_group``: whether it leads a group."""

    process: subprocess.Popen[bytes]
    own_group: bool
    frames: socket.socket | None = None


def check_command(command: str, cwd: str | Path | None, env: Mapping[str, str]) -> None:
    """Raise CommandNotFound or CommandNotExecutable where ``command`` can't be started; exactly as execvp looks it up.

    A name with a slash is a path, relative to ``cwd``; any other is searched in ``env``'s PATH.
    """
    if not command:
        raise CommandNotFound(command)
    if cwd is not None and not Path(cwd).is_dir():
        raise LaunchError(f"{cwd}: no such folder to start the command in")
    if os.sep in command or (os.altsep and os.altsep in command):
        _check_file(command, Path(cwd or ".") / command)
        return
    if sys.platform == "win32":
        if shutil.which(command, path=env.get("PATH")) is None:
            raise CommandNotFound(command)
        return
    candidates = [Path(cwd or ".") / folder / command for folder in os.get_exec_path(dict(env))]
    present = [path for path in candidates if path.is_file()]
    if not present:
        raise CommandNotFound(command)
    if not any(os.access(path, os.X_OK) for path in present):
        raise CommandNotExecutable(command, f"{present[0]} has no permission to be executed. `chmod +x` gives it")


def _check_file(command: str, path: Path) -> None:
    if not path.exists():
        raise CommandNotFound(command)
    if path.is_dir():
        raise CommandNotExecutable(command, "it is a folder")
    if not os.access(path, os.X_OK):
        raise CommandNotExecutable(command, "it has no permission to be executed. `chmod +x` gives it")


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str | Path | None,
    frames: bool = False,
    capture_stdout: bool = False,
) -> Spawned:
    """Start ``argv``. ``frames``: hand down a socket as descriptor 3. ``capture_stdout``: its output comes to us.

    Raises LaunchError, and as one CommandNotFound or CommandNotExecutable, when it can't be started.
    """
    own_group = not _shares_terminal()
    stdout = subprocess.PIPE if capture_stdout else None
    if not frames:
        try:
            process = subprocess.Popen(list(argv), env=dict(env), cwd=cwd, start_new_session=own_group, stdout=stdout)
        except OSError as error:
            raise _refusal(argv[0], error.errno or 0, error.strerror or str(error)) from error
        return Spawned(process, own_group)
    if sys.platform == "win32":
        raise ConfigurationError("transport", "stdio", "descriptors can't be handed down on Windows", "Use local")
    return _spawn_with_frames(argv, env, cwd, own_group=own_group, stdout=stdout)


def _spawn_with_frames(
    argv: Sequence[str], env: Mapping[str, str], cwd: str | Path | None, *, own_group: bool, stdout: int | None
) -> Spawned:
    ours, theirs = socket.socketpair()
    report_read, report_write = os.pipe()
    # Numbers above 3, so that moving one there can't close another.
    low = [theirs.detach(), report_write]
    high = [_move_up(fd) for fd in low]
    drop = "" if "LC_CTYPE" in env else "LC_CTYPE"
    helper = [sys.executable, "-I", "-S", "-c", _HELPER, str(high[0]), str(high[1]), drop, *argv]
    try:
        process = subprocess.Popen(
            helper, env=dict(env), cwd=cwd, start_new_session=own_group, stdout=stdout, pass_fds=high
        )
    except OSError as error:
        ours.close()
        os.close(report_read)
        raise _refusal(argv[0], error.errno or 0, error.strerror or str(error)) from error
    finally:
        for fd in high:
            os.close(fd)
    with os.fdopen(report_read, "rb") as report:
        failure = report.read()  # ends when the helper has become the command
    if failure:
        process.wait()
        ours.close()
        if process.stdout:
            process.stdout.close()
        raise _refusal(argv[0], int(failure), os.strerror(int(failure)))
    return Spawned(process, own_group, ours)


def _move_up(fd: int) -> int:
    import fcntl

    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FRAMES_FD + 7)
    os.close(fd)
    return moved


def _refusal(command: str, code: int, text: str) -> LaunchError:
    if code == errno.ENOENT:  # the command itself was found before: so it is what its first line names
        return CommandNotExecutable(command, "the interpreter that its first line names isn't there")
    if code == errno.ENOEXEC:
        return CommandNotExecutable(command, "it is no program, and has no first line that names an interpreter")
    if code in {errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR}:
        return CommandNotExecutable(command, text)
    return LaunchError(f"{command}: can't be started: {text}")


def _shares_terminal() -> bool:
    """Whether we run in the foreground of a terminal, where Ctrl-C has to reach the worker."""
    if not hasattr(os, "tcgetpgrp"):
        return True
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


# ------------------------------------------------------------------------------------------ how it ended


def signal_name(number: int) -> str:
    """Return a signal's name, such as SIGKILL."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def signal_of(returncode: int) -> str | None:
    """Return the signal that ended a process: its own end, or, as shells tell of a child's, 128 + n."""
    if returncode < 0:
        return signal_name(-returncode)
    if 128 < returncode <= 128 + 64 and (returncode - 128) in {int(known) for known in signal.Signals}:
        return signal_name(returncode - 128)
    return None


def wait_unreaped(pid: int) -> None:
    """Wait for a process to end, and leave it a zombie, so that its id and its group's stay its own for a while."""
    if hasattr(os, "waitid"):
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:  # somebody else has reaped it; waiting for it will tell
            return


# ------------------------------------------------------------------------------------------ ending it


def send_signal(spawned: Spawned, number: int) -> None:
    """Send a signal to the worker and what it has started. What is gone already is no error."""
    pid = spawned.process.pid
    if spawned.own_group and hasattr(os, "killpg"):
        _signal_group(pid, number)
        return
    for target in (*descendants(pid), pid):
        _signal_one(target, number)


def group_lives(spawned: Spawned) -> bool:
    """Whether a process of the worker's group lives, the worker itself, which may be a zombie, left out."""
    pid = spawned.process.pid
    return spawned.own_group and any(group == pid and other != pid for other, _, group in _processes())


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS: a group of zombies only may not be signalled
        return


def _signal_one(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def descendants(pid: int) -> list[int]:
    """Return the processes that ``pid`` has started, and those that they have; none where there is no /proc."""
    children: dict[int, list[int]] = {}
    for other, parent, _ in _processes():
        children.setdefault(parent, []).append(other)
    found: list[int] = []
    pending = [pid]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def _processes() -> list[tuple[int, int, int]]:
    """Return pid, parent and group of every live process, where /proc tells; zombies are left out."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name may hold anything, so the fields are counted from its closing parenthesis.
            fields = entry.read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        if len(fields) > 2 and fields[0] not in {"Z", "X"}:
            found.append((int(entry.parent.name), int(fields[1]), int(fields[2])))
    return found


def wait_until(condition: object, seconds: float, step: float = 0.02) -> bool:
    """Wait until calling ``condition`` gives true, at most ``seconds``; return whether it did."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(step)
    return True
