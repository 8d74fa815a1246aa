"""P2: events from bytes, beside one pass of msgspec over the same bytes, and beside json.loads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import bare, data
from benchmarks.harness import Bench, Figure, at_least, by_turns, case, median, ratio_of_pairs, seconds_of
from xtrack_protocol import FrameDecoder, stream_file
from xtrack_protocol.wire import SegmentHeader, encode_header, encode_record

CHUNK = 64 * 1024
"""Bytes that a decoder is fed at a time, as they come from a socket or a pipe."""


def _stdlib(path: Path) -> Callable[[], None]:
    def work() -> None:
        raw, position, loads, unpack = path.read_bytes(), 0, json.loads, bare.PREFIX.unpack_from
        while position < len(raw):
            (length,) = unpack(raw, position)
            position += 4 + length
            loads(raw[position - length : position])

    return work


def _streamed(path: Path, expected: int) -> Callable[[], None]:
    def work() -> None:
        count = 0
        for frame in stream_file(path):
            if frame.error is None:
                count += 1
        assert count == expected, f"{count} of {expected} events"

    return work


@case("P2.stream_file", traced=True)
def streamed(bench: Bench) -> Iterator[Figure]:
    path, count = bench.folder / "frames.bin", bench.pick(60_000, 1_000_000)
    data.write_metrics(path, count)
    others = {
        "bare one-pass loop": (lambda: bare.decode_file(path), at_least(0.9)),
        "json.loads": (_stdlib(path), at_least(4)),
    }
    yield from bench.compare("stream_file, metrics", count, _streamed(path, count), others)


@case("P2.mixed")
def mixed(bench: Bench) -> Iterator[Figure]:
    path, count = bench.folder / "frames.bin", bench.pick(40_000, 500_000)
    path.write_bytes(b"".join(map(data.frame, data.mixed(count))))
    others = {"bare one-pass loop": (lambda: bare.decode_file(path), at_least(0.9))}
    yield from bench.compare("stream_file, events of all kinds", count, _streamed(path, count), others)


@case("P2.feed", traced=True)
def fed(bench: Bench) -> Iterator[Figure]:
    path, count = bench.folder / "frames.bin", bench.pick(60_000, 1_000_000)
    data.write_metrics(path, count)
    raw = path.read_bytes()
    chunks = [raw[place : place + CHUNK] for place in range(0, len(raw), CHUNK)]

    def work() -> None:
        decoder, done = FrameDecoder(), 0
        for chunk in chunks:
            for frame in decoder.feed(chunk):
                if frame.error is None:
                    done += 1
        assert done == count, f"{done} of {count} events"

    others = {
        "bare one-pass loop": (lambda: bare.decode_bytes(raw), at_least(0.9)),
        "json.loads": (_stdlib(path), at_least(4)),
    }
    yield from bench.compare(f"FrameDecoder.feed, {CHUNK // 1024} KiB at a time", count, work, others)


@case("P2.segment")
def segment(bench: Bench) -> Iterator[Figure]:
    """A segment's records have two checksums each, which the bare loop over plain frames doesn't look at."""
    path, plain, count = bench.folder / "one.xseg", bench.folder / "frames.bin", bench.pick(40_000, 500_000)
    header = SegmentHeader(data.RUN, data.SID, salt="12345678")
    with path.open("wb") as file, plain.open("wb") as frames:
        file.write(encode_header(header))
        for event in data.metrics(count):
            payload = data.canonical(event)
            file.write(encode_record(event.m.seq, payload, header.salt_value))
            frames.write(data.frame(payload))
    others = {"bare one-pass loop over plain frames": (lambda: bare.decode_file(plain), None)}
    yield from bench.compare("stream_file of a segment", count, _streamed(path, count), others)


@case("P2.jobs", core=None)
def jobs(bench: Bench) -> Iterator[Figure]:
    """The whole command, on all cores; what it prints goes nowhere."""
    command = [sys.executable, "-m", "xtrack_protocol.decode"]
    path, count = bench.folder / "frames.bin", bench.pick(100_000, 1_500_000)
    data.write_metrics(path, count)

    def decode(number: str) -> Callable[[], float]:
        full = [*command, "--format", "jsonl", "--jobs", number, str(path)]
        return seconds_of(
            lambda: subprocess.run(full, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        )

    one, two = by_turns(bench.repetitions, decode("1"), decode("2"))
    yield Figure("decode --jobs 1", count / median(one), "events/s")
    yield Figure("decode --jobs 2", count / median(two), "events/s")
    yield Figure("decode --jobs 2 / --jobs 1", ratio_of_pairs(one, two), "x", at_least(1.8))
