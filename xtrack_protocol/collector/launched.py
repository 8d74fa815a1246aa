"""One started worker: waits for it, commands it, stops it, and says truthfully how it ended. spec: FLD-6"""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from xtrack_protocol.collector.channel import FrameChannel
from xtrack_protocol.collector.commands import new_command, send_command
from xtrack_protocol.collector.localruns import last_words, live_workers, local_streams
from xtrack_protocol.collector.process import (
    Spawned,
    group_lives,
    send_signal,
    signal_of,
    wait_unreaped,
    wait_until,
)
from xtrack_protocol.emitter.ending import STRANGER_SECONDS, left_text, wait_for_collector_unless
from xtrack_protocol.emitter.stream import StreamEmitter, say
from xtrack_protocol.errors import LaunchError, RunNotFound, SpoolError, XTrackError
from xtrack_protocol.ir import Command, CommandResult, EndStatus, ErrorInfo, Json, RunEnd
from xtrack_protocol.runs import RunState, StreamLost
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import FileLock, is_alive, write_lost
from xtrack_protocol.spool.mailbox import post, wait_for_answers
from xtrack_protocol.storage import Storage

SETTLE_SECONDS: Final = 1.0
"""How long after the worker's end its own children may take to end theirs, before anybody is called dead."""


class WorkerLink(Protocol):
    """What differs between the ways in which a worker's events travel."""

    def send(
        self, kind: str, payload: Mapping[str, Json], worker_id: str | None, timeout: float
    ) -> list[CommandResult]:
        """Send a command and return the answers."""

    def ask_to_stop(self) -> bool:
        """Send the command stop, and wait for nothing; return whether there was anybody to send it to."""

    def settle(self, fate: str) -> None:
        """The worker has ended: find out what became of its streams, and record it."""


class LocalLink:
    """Over the spool: each worker writes its own segments, commands go through the mailbox."""

    def __init__(self, root: Path, run_dir: Path, mailbox: Path, run_id: str, known: set[StreamId]) -> None:
        self._root = root
        self._run_dir = run_dir
        self._mailbox = mailbox
        self._run_id = run_id
        self._known = known
        self._stop: Command | None = None

    def send(
        self, kind: str, payload: Mapping[str, Json], worker_id: str | None, timeout: float
    ) -> list[CommandResult]:
        return send_command(self._root, self._run_id, kind, payload, worker_id=worker_id, timeout=timeout)

    def ask_to_stop(self) -> bool:
        if not live_workers(self._run_dir):
            return False
        self._stop = new_command(self._run_id, "stop")
        post(self._mailbox, self._stop)
        return True

    def settle(self, fate: str) -> None:
        if self._stop is not None:
            wait_for_answers(self._mailbox, self._stop.command_id, expected=0, timeout=0)  # clears up
        here = socket.gethostname()
        ours = {
            local.stream: local
            for local in local_streams(self._run_dir)
            if local.is_worker and local.stream not in self._known and local.hostname in {None, here}
        }
        # What the worker has started may be ending just now; what is meant to live on costs us this second.
        wait_until(lambda: not any(is_alive(self._run_dir, stream) for stream in ours), SETTLE_SECONDS)
        for stream, local in ours.items():
            if is_alive(self._run_dir, stream):
                continue
            latest = next((other for other in local_streams(self._run_dir) if other.stream == stream), local)
            ended, last_seq = last_words(latest)
            if not ended:
                write_lost(self._run_dir, StreamLost(stream, time.time_ns() // 1000, "died", last_seq, fate))


class ChannelLink:
    """Over a descriptor: the launcher's collector stores what comes, commands go back the same way."""

    def __init__(self, channel: FrameChannel, run_id: str) -> None:
        self._channel = channel
        self._run_id = run_id

    def send(
        self, kind: str, payload: Mapping[str, Json], worker_id: str | None, timeout: float
    ) -> list[CommandResult]:
        command = new_command(self._run_id, kind, payload, worker_id)
        self._channel.send(command)
        answers = self._channel.wait_for_answers(command, 1, timeout)
        if not answers:
            raise LaunchError(
                f"{kind}: sent, and not answered within {timeout:g} s. Workers that speak the published protocol "
                "alone never answer; a script that uses this package answers when it looks for commands"
            )
        return answers

    def ask_to_stop(self) -> bool:
        try:
            self._channel.send(new_command(self._run_id, "stop"))
        except LaunchError:
            return False
        return True

    def settle(self, fate: str) -> None:
        self._channel.conclude(fate, SETTLE_SECONDS)


class LaunchedRun:
    """A worker that was started for a run. Thread-safe.

    It lives on when this object, or the whole launcher, is gone; then nobody tells how it ended but itself.
    """

    def __init__(
        self,
        run_id: str,
        spawned: Spawned,
        link: WorkerLink,
        observer: StreamEmitter,
        store: Callable[[], Storage],
        lock: FileLock | None,
        started: float,
        *,
        end_timeout: float = 0.0,
    ) -> None:
        self.run_id = run_id
        self.pid: int = spawned.process.pid
        self._spawned = spawned
        self._process: subprocess.Popen[bytes] = spawned.process
        self._link = link
        self._observer = observer
        self._store = store
        self._lock = lock
        self._started = started
        self._end_timeout = end_timeout  # seconds that a collector elsewhere is waited for
        self._hurry = threading.Event()
        self._state_lock = threading.Lock()
        self._stopping = False
        self._exited = threading.Event()
        self._may_reap = threading.Event()
        self._done = threading.Event()
        self._returncode: int | None = None
        self._problems: list[str] = []
        threading.Thread(target=self._watch, name=f"xtrack-launcher-{self.pid}", daemon=True).start()

    # ------------------------------------------------------------------------------------------ what is asked

    @property
    def returncode(self) -> int | None:
        """The worker's exit code, as subprocess has it: minus n where signal n ended it; None while it runs."""
        return self._returncode

    @property
    def signal(self) -> str | None:
        """The name of the signal that ended the worker, also where a shell tells of it as 128 + n."""
        return None if self._returncode is None else signal_of(self._returncode)

    @property
    def exit_code(self) -> int | None:
        """The exit code as a shell has it: 128 + n where signal n ended the worker."""
        code = self._returncode
        return code if code is None or code >= 0 else 128 - code

    @property
    def problems(self) -> list[str]:
        """What went wrong in tracking since the start, the first ten. None of it has stopped the worker."""
        return list(self._problems)

    def poll(self) -> int | None:
        """Return the return code where the worker has ended and its end is recorded; None before that."""
        return self._returncode if self._done.is_set() else None

    def wait(self, timeout: float | None = None) -> RunState | None:
        """Wait until the worker has ended and its end is recorded; return the run's state.

        Returns None when that takes more than ``timeout`` seconds; the worker goes on. Raises StorageError where the
        state can't be read; ``returncode`` is there all the same.
        """
        if not self._done.wait(timeout):
            return None
        return self.state()

    def state(self) -> RunState:
        """Return the run's state as it is now. Raises StorageError."""
        return self._store().get_run(self.run_id)

    def send_command(
        self,
        type: str,  # noqa: A002 - the wire's name
        payload: Mapping[str, Json] | None = None,
        *,
        worker_id: str | None = None,
        timeout: float = 5.0,
    ) -> list[CommandResult]:
        """Send a command to the run's workers and return their answers. Raises LaunchError where nobody answers."""
        if self._exited.is_set() and isinstance(self._link, ChannelLink):
            raise LaunchError(f"{type}: the worker of run {self.run_id!r} has ended")
        return self._link.send(type, payload or {}, worker_id, timeout)

    # ------------------------------------------------------------------------------------------ stopping

    def stop(self, grace: float = 10.0) -> RunState | None:
        """Ask the worker to stop, then terminate it, then kill it, with what it has started; return the run's state.

        The command ``stop`` comes first, where a worker listens; ``grace`` seconds later SIGTERM, and after as many
        again SIGKILL. A worker that has ended already is left as it ended. Returns None where the state can't be read.
        """
        with self._state_lock:
            running = not self._exited.is_set()
            self._stopping = self._stopping or running
        if running:
            try:
                self._end_worker(grace)
            finally:
                self._may_reap.set()
        self._done.wait()
        try:
            return self.state()
        except RunNotFound:
            return None

    def pass_on(self, number: int) -> None:
        """Send the worker, and what it has started, a signal that its launcher got.

        A SIGINT that came from the keyboard of a shared terminal has reached it already, and isn't sent twice. Once the
        worker has ended, it stops the waiting for a collector.
        """
        if self._exited.is_set():
            self._hurry.set()
        if number == signal.SIGINT and not self._spawned.own_group:
            return
        if not self._exited.is_set():
            send_signal(self._spawned, number)

    def _end_worker(self, grace: float) -> None:
        def is_gone() -> bool:
            return self._exited.is_set() and not group_lives(self._spawned)

        try:
            asked = self._link.ask_to_stop()
        except OSError as error:
            asked = False
            self.complain(f"the command stop could not be posted: {error}")
        if asked and wait_until(is_gone, grace):
            return
        send_signal(self._spawned, signal.SIGTERM)
        if wait_until(is_gone, grace):
            return
        send_signal(self._spawned, getattr(signal, "SIGKILL", signal.SIGTERM))
        self._exited.wait()

    # ------------------------------------------------------------------------------------------ the watch

    def complain(self, text: str) -> None:
        """Remember, and say on stderr, what of the tracking doesn't work: the first ten times, for it may be many."""
        if len(self._problems) < 10:
            self._problems.append(text)
            say(f"warning: run {self.run_id}: {text}")

    def _watch(self) -> None:
        wait_unreaped(self.pid)
        with self._state_lock:
            stopping = self._stopping
            self._exited.set()
        if stopping:
            self._may_reap.wait()  # until then the group's id can't become another's
        self._returncode = self._process.wait()
        try:
            self._record_end(self._returncode)
        except (XTrackError, OSError) as error:
            self.complain(f"how the worker ended could not be recorded: {error}")
        finally:
            if self._lock:
                self._lock.release()
            self._done.set()

    def _record_end(self, returncode: int) -> None:
        name = signal_of(returncode)
        status: EndStatus
        error: ErrorInfo | None
        fate = f"the command exited with code {returncode}, and the worker never ended its run"
        if returncode == 0:
            status, error = "completed", None
        elif name is not None:
            fate = f"killed by {name}"
            status, error = "killed", ErrorInfo("Signal", fate)
        else:
            status, error = "failed", ErrorInfo("ExitCode", f"exit code {returncode}")
        duration_ms = int((time.monotonic() - self._started) * 1000)
        try:
            self._link.settle(fate)
        except SpoolError as problem:
            self.complain(f"what became of the workers could not be read: {problem}")
        finally:
            self._observer.emit(RunEnd(self.run_id, status, error, duration_ms=duration_ms))
            self._deliver()
            self._observer.close()

    def _deliver(self) -> None:
        """Wait for a collector elsewhere, if there is one, also for what a worker that was killed has left."""
        delivery = self._observer.transport.delivery()
        if delivery is None:
            return
        seconds = self._end_timeout
        if not delivery.connections:  # it had the whole run to come
            seconds = min(seconds, max(0.0, STRANGER_SECONDS - (time.monotonic() - self._started)))
        wait_for_collector_unless(self._observer, seconds, self._hurry.is_set)
        left = left_text(self.run_id, self._observer.transport.delivery(), self._observer.stats().dropped)
        if left:
            self.complain(left)
