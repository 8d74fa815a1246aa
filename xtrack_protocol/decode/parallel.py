"""Decodes files in several processes, with the result, in the order and with the verdicts of a single one.

A file is cut where its lengths, which are hopped along without a look at what they enclose, say that a frame begins;
segments where the head of a record passes its check. That is a guess until the part before has been decoded: its
decoder must stand just there, not lost and with nothing in its hands, and then a decoder that begins there goes on as
that one would. Where it stands elsewhere there is damage: what was decoded of later parts is thrown away, this process
reads on through the damage, and then the file is cut anew from there.

Memory: a few parts of :data:`PART` bytes, and their text, for each process.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import stat
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from struct import Struct
from typing import Final, TypeAlias
from zlib import crc32

import attrs

from xtrack_protocol.decode.options import Options
from xtrack_protocol.decode.report import Report
from xtrack_protocol.decode.source import Batch, Input
from xtrack_protocol.decode.worker import START, Decoded, Part, Reading, Setup, read_chunks
from xtrack_protocol.errors import XTrackError
from xtrack_protocol.wire import RECORDS_START, decode_header, sniff
from xtrack_protocol.wire.records import RECORD_MAGIC, RECORD_OVERHEAD

PART: Final = 1024 * 1024
"""Bytes of a part: some tens of milliseconds of work."""

_WORTH_IT: Final = 64 * 1024
"""Bytes from which on a file is worth the way to another process."""

_AHEAD: Final = 3
"""Parts under way for each process: one that it decodes, one that waits for it, one that waits to be written."""

_frame_head = Struct(">I")
_unpack_length = _frame_head.unpack_from
_record_head = Struct(">4sIqI")


@attrs.frozen
class Parts:
    """What one or several parts of an input add up to, in order. ``stopped``: nothing more is to be read."""

    input: Input
    text: bytes
    report: Report
    stopped: bool


@attrs.frozen
class Trouble:
    """What stops an input."""

    name: str
    error: XTrackError | OSError


Step: TypeAlias = Parts | Batch | Trouble | str
"""A str names an input that is to be read by this process."""


def decode_parts(
    options: Options, width: int | None, encoding: str, say: Callable[[str], None]
) -> Generator[Step, None, None]:
    """Decode the files of ``options`` in its ``jobs``; yield what comes out, in order.

    ``say`` takes remarks for people. Closing the generator ends the processes.
    """
    team = _Team(Setup(options=options, width=width, encoding=encoding), options.jobs)
    try:
        yield from _Order(options, team, say).steps()
    finally:
        team.close()


class _Team:
    """Processes that decode, each with a thread that talks to it. They are started when there is work for them."""

    def __init__(self, setup: Setup, jobs: int) -> None:
        self._setup = setup
        self._threads = ThreadPoolExecutor(jobs, thread_name_prefix="xtrack-decode")
        self._local = threading.local()
        self._lock = threading.Lock()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._closed = False

    def decode(self, part: Part) -> Future[Decoded | Exception]:
        """Let one of them decode ``part``. What goes wrong is the result."""
        return self._threads.submit(self._ask, part)

    def close(self) -> None:
        """End all of them, whatever they are doing."""
        with self._lock:
            self._closed = True
            for process in self._processes:
                process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in self._processes:
            with contextlib.suppress(BrokenPipeError):
                process.__exit__(None, None, None)  # closes the pipes and waits

    def _ask(self, part: Part) -> Decoded | Exception:
        try:
            process: subprocess.Popen[bytes] | None = getattr(self._local, "process", None)
            if process is None:
                process = self._local.process = self._start()
            assert process.stdin is not None
            assert process.stdout is not None
            pickle.dump(part, process.stdin)
            process.stdin.flush()
            answer: Decoded | Exception = pickle.load(process.stdout)  # noqa: S301 - from a process of our own
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            self._local.process = None  # the next part is for a new one
            return error
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise EOFError
            process = subprocess.Popen(
                [sys.executable, "-I", "-c", START],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for this process, which ends them
            )
            self._processes.append(process)
        assert process.stdin is not None
        pickle.dump(sys.path, process.stdin)
        pickle.dump(self._setup, process.stdin)
        return process


@attrs.frozen
class _State:
    """Where a decoder stands. ``is_guess``: it isn't known to read on without damage from there."""

    offset: int
    verified: bool
    is_guess: bool = False


@attrs.frozen(eq=False)
class _Task:
    """A part of a file; or, without one, where its lengths are no longer legal."""

    file: _File
    part: Part | None
    state: _State


class _File:
    """One regular file that is decoded in parts."""

    def __init__(self, name: str, file: FileIO, options: Options) -> None:
        """Raise OSError, and NotASegment; ValueError where the file isn't one for several processes."""
        self.path = Path(name)
        self.span = PART
        """Bytes that one process reads alone where it finds the next damage."""
        self.size = os.fstat(file.fileno()).st_size
        self._max_frame = options.limits.max_frame
        self._round = 0
        head = file.read(RECORDS_START)
        kind = sniff(head)
        if kind == "other" or self.size < _WORTH_IT:
            raise ValueError(kind)
        self.input = Input(name, file, decode_header(head, name) if kind == "segment" else None)
        self.begin = RECORDS_START if kind == "segment" else 0

    def tasks(self, state: _State) -> Iterator[_Task]:
        """Cut the file from ``state`` on, until this is called again or :meth:`stop` is."""
        self.stop()
        this_round = self._round
        begin = state.offset
        hop = self._hop if self.input.header is None else self._hop_records
        with self.path.open("rb", buffering=0) as file:
            while this_round == self._round:
                file.seek(begin)
                window = file.read(PART)
                end, is_legal = hop(window)
                end += begin
                if len(window) < PART or end > self.size:
                    yield self._task(begin, None, state)
                    return
                if end > begin:
                    yield self._task(begin, end, state)
                if not is_legal and this_round == self._round:
                    yield _Task(self, None, _State(end, state.verified, is_guess=True))
                begin = end

    def stop(self) -> None:
        """Let nobody cut the file any further."""
        self._round += 1

    def _task(self, begin: int, end: int | None, state: _State) -> _Task:
        part = Part(
            name=self.input.name,
            path=os.fsencode(self.path),
            header=self.input.header,
            begin=begin,
            end=end,
            verified=state.verified,
        )
        return _Task(self, part, _State(begin, state.verified, is_guess=True))

    def _hop(self, window: bytes) -> tuple[int, bool]:
        """Return where in the file, from the window's start, the first frame begins that doesn't begin in the window,
        or doesn't show its length there; or the first length that can't be, and False.
        """
        position, last, most = 0, len(window) - _frame_head.size, self._max_frame
        while position <= last:
            (length,) = _unpack_length(window, position)
            if not 1 <= length <= most:
                return position, False
            position += 4 + length
        return position, True

    def _hop_records(self, window: bytes) -> tuple[int, bool]:
        """Do the same in a segment, with records whose head passes its check."""
        assert self.input.header is not None
        salt = self.input.header.salt_value
        position, last = 0, len(window) - _record_head.size
        while position <= last:
            magic, length, _, check = _record_head.unpack_from(window, position)
            if (
                magic != RECORD_MAGIC
                or not 1 <= length <= self._max_frame
                or crc32(window[position : position + 16], salt) != check
            ):
                return position, False
            position += length + RECORD_OVERHEAD
        return position, True


def _open(name: str, options: Options) -> _File | None:
    """Return a file that several processes may decode; None for any other input, and for what can't be read."""
    try:
        if not stat.S_ISREG(os.stat(name).st_mode):  # noqa: PTH116 - a pipe mustn't be opened twice
            return None
        with Path(name).open("rb", buffering=0) as file:
            return _File(name, file, options)
    except (OSError, ValueError):  # NotASegment is one of the former
        return None


class _Level:
    """Tasks to come, and those that were handed out."""

    def __init__(self, tasks: Iterator[_Task | str]) -> None:
        self.tasks = tasks
        self.pending: deque[tuple[_Task | str, Future[Decoded | Exception] | None]] = deque()

    def drop(self, file: _File) -> None:
        """Forget what is under way of a file."""
        file.stop()
        kept = [(task, future) for task, future in self.pending if isinstance(task, str) or task.file is not file]
        for task, future in self.pending:
            if future is not None and not isinstance(task, str) and task.file is file:
                future.cancel()
        self.pending = deque(kept)


class _Order:
    """Hands out parts ahead of time, and takes them in order."""

    def __init__(self, options: Options, team: _Team, say: Callable[[str], None]) -> None:
        self._options = options
        self._team = team
        self._say = say
        self._most = _AHEAD * options.jobs

    def steps(self) -> Iterator[Step]:
        """Yield what comes out."""
        # At the bottom stand all files; on top of them, where there is damage, what follows it in that file.
        levels = [_Level(self._all_tasks())]
        while levels:
            level = levels[-1]
            self._hand_out(level)
            if not level.pending:
                levels.pop()
                continue
            task, future = level.pending.popleft()
            if isinstance(task, str):
                yield task
                continue
            state = yield from self._take(task, future)
            if state is None:
                continue
            level.drop(task.file)
            if state.is_guess:
                state = yield from self._read_through(task.file, state)
            del levels[1:]
            if state is not None:
                levels.append(_Level(task.file.tasks(state)))

    def _all_tasks(self) -> Iterator[_Task | str]:
        for name in self._options.files:
            file = _open(name, self._options)
            if file is None:
                yield name
            else:
                yield from file.tasks(_State(file.begin, verified=True))

    def _hand_out(self, level: _Level) -> None:
        while len(level.pending) < self._most and (task := next(level.tasks, None)) is not None:
            part = None if isinstance(task, str) else task.part
            level.pending.append((task, self._team.decode(part) if part is not None else None))

    def _take(self, task: _Task, future: Future[Decoded | Exception] | None) -> Generator[Step, None, _State | None]:
        """Yield what became of a task; return how to go on, unless it is as was guessed."""
        part = task.part
        if part is None or future is None:
            return task.state
        done = future.result()
        if isinstance(done, Exception):
            if not isinstance(done, OSError) or isinstance(done, BrokenPipeError):
                self._say(f"{part.name}: a process that decodes has ended early; this one goes on")
            return task.state
        yield Parts(task.file.input, done.text, done.report, done.stopped)
        if done.offset is None or (done.offset, done.verified) == (part.end, part.verified):
            return None
        return _State(done.offset, done.verified, is_guess=done.offset != part.end)

    def _read_through(self, file: _File, state: _State) -> Generator[Step, None, _State | None]:
        """Read on in this process, through damage and some way behind it; return how to go on, unless it has ended."""
        reading = Reading(file.input, self._options.limits, state.offset, verified=state.verified)
        until = state.offset + file.span
        file.span *= 2  # where there is much damage, less is guessed
        place = state.offset
        try:
            with file.path.open("rb", buffering=0) as again:
                file.input.file = again
                for chunk in read_chunks(again, place):
                    place += len(chunk)
                    yield reading.feed(chunk)
                    if chunk and place >= until and not reading.is_lost:
                        return _State(reading.offset, reading.verified)
        except OSError as error:
            yield Trouble(file.input.name, error)
        return None
