"""Runs ``decode``: the same for both of its command lines."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Final, TextIO

from xtrack_protocol.decode.options import Options
from xtrack_protocol.decode.report import Report
from xtrack_protocol.decode.show import Writer
from xtrack_protocol.decode.source import Batch, Source
from xtrack_protocol.decode.streams import BROKEN_PIPE, silence, write_text
from xtrack_protocol.decode.text import escape
from xtrack_protocol.errors import NotASegment, XTrackError
from xtrack_protocol.ir import ENVELOPES

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
        self._report = Report(sought=options.unknown_types)
        self._unreadable = False
        self._no_header = False
        self._width = shutil.get_terminal_size().columns if options.format == "text" and stdout.isatty() else None
        self._writer = Writer(options, width=self._width)

    def run(self) -> int:
        try:
            if self._options.follow:  # it may never end, and what is misspelt shows nothing meanwhile
                self._tell_unknown(self._options.unknown_types, "events of it are shown when they come")
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
            if not self._options.follow:
                self._tell_unknown(self._report.absent, "and there is no event of it")
            self._say("xtrack decode: " + "\n".join(self._report.lines()))
        if self._unreadable:
            return USAGE
        return BAD if self._report.bad or self._no_header else GOOD

    def _decode_all(self) -> None:
        if self._options.jobs > 1:
            self._decode_in_parallel()
            return
        inputs = [self._batches(name) for name in self._options.files]
        if not self._options.follow:
            for batches in inputs:
                if not self._write_all(batches):
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

    def _decode_in_parallel(self) -> None:
        from xtrack_protocol.decode.parallel import Parts, Trouble, decode_parts

        buffer = getattr(self._out, "buffer", None)
        encoding = self._encoding or self._out.encoding or "utf-8" if buffer is not None else "utf-8"
        with contextlib.closing(decode_parts(self._options, self._width, encoding, self._complain)) as steps:
            for step in steps:
                if isinstance(step, Parts):
                    self._report.take_part(step.input, step.report)
                    if step.text:
                        heading = self._writer.heading(step.input).encode(encoding, "backslashreplace")
                        if buffer is None:
                            self._out.write((heading + step.text).decode())
                        else:
                            self._out.flush()
                            buffer.write(heading)
                            buffer.write(step.text)
                    go_on = not step.stopped
                elif isinstance(step, Trouble):
                    self._tell_trouble(step.name, step.error)
                    go_on = True
                else:
                    go_on = self._write_all((step,) if isinstance(step, Batch) else self._batches(step))
                if not go_on:
                    return

    def _write_all(self, batches: Iterable[Batch | None]) -> bool:
        """Write batches; return whether to go on."""
        return all(batch is None or self._write(batch) for batch in batches)

    def _batches(self, name: str) -> Iterator[Batch | None]:
        """Yield an input's batches, and say what stops them; the other inputs go on."""
        source = Source(name, limits=self._options.limits, follow=self._options.follow, say=self._complain)
        try:
            yield from source.batches()
        except (XTrackError, OSError) as error:
            self._tell_trouble(name, error)

    def _tell_trouble(self, name: str, error: XTrackError | OSError) -> None:
        """Say what stops an input."""
        if isinstance(error, NotASegment):
            self._no_header = True
            self._complain(str(error))
            return
        self._unreadable = True
        if isinstance(error, XTrackError):
            self._complain(str(error))
            return
        cure = ". Name the files in it" if isinstance(error, IsADirectoryError) else ""
        self._complain(f"{name}: {error.strerror or error}{cure}")

    def _write(self, batch: Batch) -> bool:
        """Write a batch; return whether to go on."""
        until = batch.until_error() if self._options.strict else None
        if until is not None:
            batch = until
        self._report.take(batch)
        text = self._writer.text(batch.input, batch.frames)
        if text:
            write_text(self._out, self._writer.heading(batch.input) + text, self._encoding)
            if self._options.follow or not batch.input.is_regular():
                self._out.flush()
        return until is None

    def _tell_unknown(self, types: Iterable[str], otherwise: str) -> None:
        """Say which types may be misspelt, in which case nothing would be shown, unnoticed."""
        for name in sorted(types):
            from xtrack_protocol.decode.meant import near_or_some

            known = near_or_some(name, sorted(ENVELOPES))
            self._complain(f"--type {name!r} is no type that the protocol knows, {otherwise}. {known}")

    def _say(self, text: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            write_text(self._err, f"{text}\n")
            self._err.flush()

    def _complain(self, text: str) -> None:
        self._out.flush()
        self._say(f"xtrack decode: {escape(text)}")
