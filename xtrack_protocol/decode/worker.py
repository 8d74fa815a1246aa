"""One of several processes that decode: reads parts of files, and answers with the text to write and what to report.

It talks to the process that started it, and to nobody else, through its standard streams, with pickles.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Final

import attrs

from xtrack_protocol.decode.options import Options
from xtrack_protocol.decode.report import Report
from xtrack_protocol.decode.show import Writer
from xtrack_protocol.decode.source import Batch, Input, segment_batch
from xtrack_protocol.limits import DecodeLimits
from xtrack_protocol.wire import RecordDecoder, SalvageDecoder, SegmentHeader
from xtrack_protocol.wire.files import CHUNK

START: Final = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from xtrack_protocol.decode.worker import main; main()"
)
"""The program of a worker, for ``python -I -c``: it imports from where the process that starts it does, and from
nowhere before it knows that."""


@attrs.frozen(kw_only=True)
class Setup:
    """How all parts are to be decoded. ``width``: of the terminal. ``encoding``: of the output."""

    options: Options
    width: int | None
    encoding: str


@attrs.frozen(kw_only=True)
class Part:
    """Bytes of a file, at least one, from a place where a frame or a record begins, or seems to.

    ``end``: None for the file's.
    """

    name: str
    path: bytes
    header: SegmentHeader | None
    begin: int
    end: int | None
    verified: bool


@attrs.frozen(kw_only=True)
class Decoded:
    """What became of a part. ``offset`` and ``verified``: how a decoder stands that is to go on; ``offset`` is None at
    the end of the file. ``stopped``: at a frame that isn't good, as was asked for.
    """

    text: bytes = b""
    report: Report
    offset: int | None
    verified: bool
    stopped: bool = False


class Reading:
    """Decodes a file from ``begin`` on. Plain frames: ``verified`` as the ones before them were."""

    def __init__(self, opened: Input, limits: DecodeLimits, begin: int, *, verified: bool) -> None:
        self._input = opened
        self._limits = limits
        self._decoder: SalvageDecoder | RecordDecoder
        if opened.header is None:
            self._decoder = SalvageDecoder(limits, offset=begin, verified=verified)
        else:
            self._decoder = RecordDecoder(opened.header.salt_value, begin, limits.max_frame)

    @property
    def offset(self) -> int:
        """Where another one would have to begin to go on as this one does."""
        return self._decoder.offset

    @property
    def verified(self) -> bool:
        """What that other one would have to be told."""
        return not isinstance(self._decoder, SalvageDecoder) or self._decoder.verified

    @property
    def is_lost(self) -> bool:
        """Whether damage is being passed over."""
        return self._decoder.is_lost

    def feed(self, chunk: bytes) -> Batch:
        """Take the next bytes; none: the file has ended."""
        decoder = self._decoder
        if isinstance(decoder, RecordDecoder):
            return segment_batch(self._input, decoder.feed(chunk) if chunk else decoder.finish(), self._limits)
        return Batch(self._input, decoder.feed(chunk) if chunk else decoder.finish())


def decode_part(part: Part, setup: Setup) -> Decoded:
    """Decode a part of a file. Raises OSError."""
    options = setup.options
    writer = Writer(options, width=setup.width)
    report = Report(is_part=True, sought=options.unknown_types)
    texts: list[bytes] = []
    until = None
    with Path(os.fsdecode(part.path)).open("rb", buffering=0) as file:
        opened = Input(part.name, file, part.header)
        reading = Reading(opened, options.limits, part.begin, verified=part.verified)
        has_ended = False
        for chunk in read_chunks(file, part.begin, part.end):
            batch = reading.feed(chunk)
            until = batch.until_error() if options.strict else None
            if until is not None:
                batch = until
            report.take(batch)
            texts.append(writer.text(opened, batch.frames).encode(setup.encoding, "backslashreplace"))
            has_ended = not chunk
            if until is not None:
                break
    return Decoded(
        text=b"".join(texts),
        report=report.detached(),
        offset=None if has_ended else reading.offset,
        verified=reading.verified,
        stopped=until is not None,
    )


def read_chunks(file: FileIO, begin: int, end: int | None = None) -> Iterator[bytes]:
    """Yield the bytes ``[begin, end)`` of a file, and none where it ends before. Between two it stands at its start,
    as a file of which nothing was read: that is how an input knows where to read back what was damaged.
    """
    place, chunk = begin, b"-"
    while chunk and place != end:
        file.seek(place)
        chunk = file.read(CHUNK if end is None else min(CHUNK, end - place))
        file.seek(0)
        place += len(chunk)
        yield chunk


def main() -> None:
    """Decode what is asked for, until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    setup: Setup = pickle.load(asked)  # noqa: S301 - from the process that has started this one
    while True:
        try:
            part: Part = pickle.load(asked)  # noqa: S301
        except EOFError:
            return
        answer: Decoded | OSError
        try:
            answer = decode_part(part, setup)
        except OSError as error:
            answer = error
        try:
            pickle.dump(answer, answers)
            answers.flush()
        except BrokenPipeError:
            os._exit(0)  # nobody waits for it; what is buffered can't be written at the end either
