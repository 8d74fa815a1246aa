"""Follow a run, and keep the data of its charts up to date in a JSON file, for a page or a plot to show.

    python examples/live_chart.py RUN_ID --out chart.json                          # a run on this machine
    python examples/live_chart.py RUN_ID --out chart.json --to tcp://collector:9999

The file is written at most every --every seconds, however fast the training logs, and whole each time. A series keeps
at most --points points: where there are more, every other one is left out, again and again, so that the whole of it
stays to be seen. A collector that goes away and comes back is followed on from the last event that came. It ends with
the run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

from xtrack_protocol import Envelope, Metric, MetricBatch, RunEnd, RunStart, StatusUpdate
from xtrack_protocol.client import CollectorClient
from xtrack_protocol.collector import Collector
from xtrack_protocol.errors import CollectorRefused, TransportError, XTrackError
from xtrack_protocol.storage import open_store

RETRY_SECONDS = 1.0


class Series:
    """Points of one metric, at most `limit` of them, evenly thinned out; and the last one, always."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.points: list[tuple[int | None, float]] = []
        self.last: tuple[int | None, float] | None = None
        self.count = 0
        self.every = 1

    def add(self, step: int | None, value: float) -> None:
        self.last = (step, value)
        if self.count % self.every == 0:
            self.points.append(self.last)
            if len(self.points) > self.limit:
                self.points = self.points[::2]
                self.every *= 2
        self.count += 1

    def data(self) -> dict[str, Any]:
        shown = self.points if self.last is None or self.points[-1] == self.last else [*self.points, self.last]
        return {
            "count": self.count,
            "steps": [step for step, _ in shown],
            "values": [value if math.isfinite(value) else None for _, value in shown],  # JSON has no NaN
        }


class Chart:
    """What is to be shown of a run."""

    def __init__(self, run_id: str, limit: int) -> None:
        self.run_id = run_id
        self.limit = limit
        self.name: str | None = None
        self.status = "pending"
        self.progress: tuple[int | None, int | None] | None = None
        self.events = 0
        self.series: dict[str, Series] = {}
        self.changed = asyncio.Event()

    def take(self, event: Envelope | None) -> None:
        """Take in one event; None is one that can't be read."""
        self.events += 1
        self.changed.set()
        match event.payload if event else None:
            case RunStart(name=name):
                self.name = name or self.name
                self.status = "running"
            case Metric(key=key, value=value, step=step):
                self.add(key, step, value)
            case MetricBatch(metrics=metrics, step=step):
                for key, value in metrics.items():
                    self.add(key, step, value)
            case StatusUpdate(progress=progress) if progress is not None:
                self.progress = (progress.current, progress.total)
            case RunEnd(status=status):
                self.status = status

    def add(self, key: str, step: int | None, value: float) -> None:
        if key not in self.series:
            self.series[key] = Series(self.limit)
        self.series[key].add(step, value)

    def data(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "name": self.name,
            "status": self.status,
            "progress": self.progress,
            "events": self.events,
            "series": {key: series.data() for key, series in sorted(self.series.items())},
        }


async def local_events(run_id: str, store_url: str) -> AsyncIterator[Envelope | None]:
    """The events of a run in a store, first those that are there, then those that come."""
    with open_store(store_url) as store:
        async with Collector(store).subscribe_async(run_id, until_end=True) as events:
            async for event in events:
                yield event.envelope


async def remote_events(run_id: str, url: str) -> AsyncIterator[Envelope | None]:
    """The events of a run at a collector. The client waits in a thread; it mends a connection that breaks."""

    def tell(error: TransportError) -> None:
        print(f"trying again: {error}", file=sys.stderr, flush=True)

    with CollectorClient(url) as client:
        events = client.subscribe(run_id, until_end=True, trouble=tell)
        while True:
            try:
                event = await asyncio.to_thread(next, events, None)
            except CollectorRefused:
                raise
            except TransportError as error:  # there was no connection yet
                tell(error)
                await asyncio.sleep(RETRY_SECONDS)
                events = client.subscribe(run_id, events.position, until_end=True, trouble=tell)
                continue
            if event is None:
                return
            yield event.envelope


async def keep_written(chart: Chart, out: Path, every: float) -> None:
    """Write the file after each change, though not too often."""
    while True:
        await chart.changed.wait()
        chart.changed.clear()
        await asyncio.to_thread(write, chart.data(), out)
        await asyncio.sleep(every)


def write(data: dict[str, Any], out: Path) -> None:
    unfinished = out.with_name(f"{out.name}.tmp")
    unfinished.write_text(json.dumps(data) + "\n", encoding="utf-8")
    unfinished.replace(out)  # whoever reads it finds all of it or nothing


async def follow(options: argparse.Namespace) -> None:
    chart = Chart(options.run_id, options.points)
    source = remote_events(options.run_id, options.to) if options.to else local_events(options.run_id, options.store)
    writer = asyncio.create_task(keep_written(chart, options.out, options.every))
    try:
        async with aclosing(source) as events:
            async for event in events:
                chart.take(event)
                if writer.done():
                    break  # the file can't be written
                await asyncio.sleep(0)  # others have their turn, too, while a long history comes
    finally:
        writer.cancel()
        with suppress(asyncio.CancelledError):
            await writer
        write(chart.data(), options.out)


def main() -> int:
    parser = argparse.ArgumentParser(description="Keep the data of a run's charts up to date in a JSON file.")
    parser.add_argument("run_id")
    parser.add_argument("--out", type=Path, default=Path("chart.json"))
    parser.add_argument("--store", default="local:", help="where the run is: local: (the default) or sqlite:///runs.db")
    parser.add_argument("--to", metavar="URL", help="the collector that has it: tcp://host:port, tls://..., unix:/path")
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="between two writes")
    parser.add_argument("--points", type=int, default=1000, help="the most points of a series")
    options = parser.parse_args()
    if options.points < 2:
        parser.error("--points must be at least 2")
    try:
        asyncio.run(follow(options))
    except KeyboardInterrupt:
        return 130
    except (XTrackError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
