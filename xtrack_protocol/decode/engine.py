"""Runs ``decode``: the same for both of its command lines."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator
from typing import Final, TextIO

from xtrack_protocol.decode.options import Options
from xtrack_protocol.decode.report import Report
from xtrack_protocol.decode.show import Writer
from xtrack_protocol.decode.source import Batch, Source
from xtrack_protocol.decode.streams import BROKEN_PIPE, silence, write_text
from xtrack_protocol.decode.text import escape
from xtrack_protocol.errors import NotASegment, XTrackError
from xtrack_protocol.wire import Frame

GOOD: Final = 0
BAD: Final = 1
USAGE: Final = 2

_POLL_SECONDS: Final = 0.1


def decode_files(options: Options, *, stdout: TextIO | None = None, stderr: TextIO | None = None) -> int:
    """Decode what ``options`` ask for; return the exit status."""
    return _Decoding(options, stdout or sys.stdout, stderr or sys.stderr).run()


class _Decoding:
    def __init__(self, options: Options, stdout: TextIO, stderr: TextIO) -> None:
        self._options = options
        self._out = stdout
        self._err = stderr
        self._encoding = "utf-8" if options.format == "jsonl" else None
        self._report = Report()
        self._unreadable = False
        self._no_header = False
        width = shutil.get_terminal_size().columns if options.format == "text" and stdout.isatty() else None
        self._writer = Writer(options, width=width)

    def run(self) -> int:
        try:
            self._decode_all()
            self._out.flush()
        except BrokenPipeError:
            silence(self._out)
            return BROKEN_PIPE
        except OSError as error:  # of the output: those of an input are told where it is read
            silence(self._out)
            self._say(f"xtrack decode: the output can't be written: {error.strerror or error}")
            return USAGE
        if self._report.frames or not (self._unreadable or self._no_header):
            self._say("xtrack decode: " + "\n".join(self._report.lines()))
        if self._unreadable:
            return USAGE
        return BAD if self._report.bad or self._no_header else GOOD

    def _decode_all(self) -> None:
        inputs = [self._batches(name) for name in self._options.files]
        if not self._options.follow:
            for batches in inputs:
                for batch in batches:
                    if batch is not None and not self._write(batch):
                        return
            return
        with contextlib.suppress(KeyboardInterrupt):  # that is how following ends
            while inputs:
                before = self._report.frames
                for batches in list(inputs):
                    try:
                        batch = next(batches)
                    except StopIteration:
                        inputs.remove(batches)
                        continue
                    if batch is not None and not self._write(batch):
                        return
                self._out.flush()
                if self._report.frames == before:
                    time.sleep(_POLL_SECONDS)

    def _batches(self, name: str) -> Iterator[Batch | None]:
        """Yield an input's batches, and say what stops them; the other inputs go on."""
        source = Source(name, limits=self._options.limits, follow=self._options.follow, say=self._complain)
        try:
            yield from source.batches()
        except NotASegment as error:
            self._no_header = True
            self._complain(str(error))
        except XTrackError as error:
            self._unreadable = True
            self._complain(str(error))
        except OSError as error:
            self._unreadable = True
            cure = ". Name the files in it" if isinstance(error, IsADirectoryError) else ""
            self._complain(f"{name}: {error.strerror or error}{cure}")

    def _write(self, batch: Batch) -> bool:
        """Write a batch; return whether to go on."""
        if not self._options.strict:
            self._report.take(batch)
            self._write_frames(batch, batch.frames)
            return True
        for place, frame in enumerate(batch.frames):
            if frame.error:
                until = Batch(batch.input, batch.frames[: place + 1], batch.lost_seqs)
                self._report.take(until)
                self._write_frames(until, until.frames)
                return False
        self._report.take(batch)
        self._write_frames(batch, batch.frames)
        return True

    def _write_frames(self, batch: Batch, frames: list[Frame]) -> None:
        lines = []
        for frame in frames:
            if self._is_wanted(frame):
                lines += self._writer.lines(batch.input, frame)
        if lines:
            lines.append("")
            write_text(self._out, "\n".join(lines), self._encoding)
            if self._options.follow or not batch.input.is_regular():
                self._out.flush()

    def _is_wanted(self, frame: Frame) -> bool:
        """Whether the filters let a frame pass; what holds no good frame always passes."""
        envelope, options = frame.envelope, self._options
        if envelope is None or not options.filters:
            return True
        return (
            (not options.runs or envelope.run_id in options.runs)
            and (not options.types or envelope.event_type in options.types)
            and (options.since_us is None or envelope.meta.timestamp_us >= options.since_us)
        )

    def _say(self, text: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            write_text(self._err, f"{text}\n")
            self._err.flush()

    def _complain(self, text: str) -> None:
        self._out.flush()
        self._say(f"xtrack decode: {escape(text)}")
