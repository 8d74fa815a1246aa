"""Process the events of a captured log with several workers at once, and take up again after a crash.

    python examples/batch_process.py examples/data/iris-run.xtrack --results results.db
    python examples/batch_process.py run.xtrack --results results.db --store sqlite:///runs.db

A batch is acknowledged when it has been handled: its results and the place in the log behind it are committed in one
transaction. A process that is killed has committed whole batches, and the next one goes on behind the last of them, so
that each event counts once. At most --workers batches are being handled and as many wait, however long the log is.

Replace `handle` by what you want to do with an event.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from xtrack_protocol import Envelope, Frame, Metric, MetricBatch, stream_file
from xtrack_protocol.collector import Collector
from xtrack_protocol.storage import open_store

ATTEMPTS = 3


class Result(NamedTuple):
    """What has become of one event. `offset` says where in the log it is, and so names it."""

    offset: int
    event_type: str
    text: str
    error: str | None


def handle(event: Envelope) -> str:
    """Return what is to be kept of an event. It runs in a thread of its own; what it raises is tried again."""
    payload = event.payload
    if isinstance(payload, Metric):
        return f"{payload.key}={payload.value}"
    if isinstance(payload, MetricBatch):
        return " ".join(f"{key}={value}" for key, value in payload.metrics.items())
    return ""


def handle_batch(frames: list[Frame], slow: float) -> list[Result]:
    """Handle a batch. An event that can't be read, or can't be handled in three attempts, has its error as a result."""
    time.sleep(slow)
    return [handle_frame(frame) for frame in frames]


def handle_frame(frame: Frame) -> Result:
    if frame.envelope is None:
        return Result(frame.offset, "", "", f"unreadable: {frame.error}")
    problem = ""
    for _ in range(ATTEMPTS):
        try:
            return Result(frame.offset, frame.envelope.event_type, handle(frame.envelope), None)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is kept with the event
            problem = f"{type(error).__name__}: {error}"
    return Result(frame.offset, frame.envelope.event_type, "", problem)


class Results:
    """The results, and how far each log has been processed, in one database."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path)
        self.db.executescript("""
            PRAGMA journal_mode = WAL;
            CREATE TABLE IF NOT EXISTS results (
                log TEXT, offset INTEGER, event_type TEXT, text TEXT, error TEXT, PRIMARY KEY (log, offset)
            );
            CREATE TABLE IF NOT EXISTS cursors (log TEXT PRIMARY KEY, offset INTEGER);
        """)

    def cursor(self, log: str) -> int:
        """The offset of the last event that was acknowledged; -1 before the first."""
        row = self.db.execute("SELECT offset FROM cursors WHERE log = ?", (log,)).fetchone()
        return row[0] if row else -1

    def acknowledge(self, log: str, results: list[Result]) -> None:
        """Commit results together with the place behind them: both are there after a crash, or neither is."""
        with self.db:
            self.db.executemany("INSERT INTO results VALUES (?, ?, ?, ?, ?)", [(log, *result) for result in results])
            self.db.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (log, results[-1].offset))

    def close(self) -> None:
        self.db.close()


def batches(log: Path, after: int, size: int) -> Iterator[list[Frame]]:
    """The events behind a place, some at a time. A frame that its writer hasn't finished is left for the next start."""
    frames = (frame for frame in stream_file(log) if frame.offset > after)
    whole = (frame for frame in frames if frame.error is None or frame.error.kind != "truncated")
    while batch := list(islice(whole, size)):
        yield batch


def process(log: Path, results: Results, collector: Collector | None, options: argparse.Namespace) -> int:
    """Process what is new in a log; return how many events that were."""
    name = str(log.resolve())
    done = 0
    waiting: deque[tuple[list[Frame], Future[list[Result]]]] = deque()
    with ThreadPoolExecutor(options.workers) as workers:
        source = batches(log, results.cursor(name), options.batch)
        while True:
            for batch in islice(source, 2 * options.workers - len(waiting)):  # no further ahead than that
                waiting.append((batch, workers.submit(handle_batch, batch, options.slow)))
            if not waiting:
                return done
            batch, future = waiting.popleft()  # acknowledged in the order of the log, whichever is ready first
            found = future.result()
            if collector is not None:
                # Not in our transaction. It needn't be: what the store has already it takes no second time.
                collector.push_frames(batch, source=name)
            results.acknowledge(name, found)
            done += len(batch)
            print(f"{done} events", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Process the events of a captured log.")
    parser.add_argument("log", type=Path, help="plain frames, or a segment of the spool")
    parser.add_argument("--results", type=Path, default=Path("results.db"), help="where the results go")
    parser.add_argument("--store", help="put the events into this store as well: sqlite:///runs.db, local:")
    parser.add_argument("--workers", type=int, default=4, help="batches that are handled at once")
    parser.add_argument("--batch", type=int, default=100, help="events of a batch")
    parser.add_argument("--slow", type=float, default=0.0, metavar="SECONDS", help="sleep this long before each batch")
    options = parser.parse_args()
    if options.workers < 1 or options.batch < 1:
        parser.error("--workers and --batch must be at least 1")
    if not options.log.is_file():
        parser.error(f"{options.log} is no file")
    with ExitStack() as stack:
        collector = None
        if options.store:
            collector = Collector(stack.enter_context(open_store(options.store)))
        results = stack.enter_context(closing(Results(options.results)))
        process(options.log, results, collector, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
