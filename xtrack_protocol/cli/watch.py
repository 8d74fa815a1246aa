"""``xtrack watch``."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

import click

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._follow import Following, following
from xtrack_protocol.cli._live import Estimate, Pace, status_line
from xtrack_protocol.cli._remote import to_option
from xtrack_protocol.cli._runs import LIVE, examples, find_all, opened, seconds_between, store_option
from xtrack_protocol.cli._screen import Screen, can_take_the_screen, scrolled
from xtrack_protocol.cli._seconds import Seconds
from xtrack_protocol.cli._watch_page import Moment, Page, page, progress_of, trend_of
from xtrack_protocol.cli._watch_runs import Moments, counts_text, runs_page
from xtrack_protocol.cli.run import summary_lines
from xtrack_protocol.limits import SERIES_TAIL
from xtrack_protocol.runs import RunState

if TYPE_CHECKING:
    from xtrack_protocol.storage import Storage

SECTION = "Look"

_SECONDS: Final = 10.0
"""Between two lines where there is no terminal."""
_LOOK: Final = 0.5
_WAIT: Final = 0.1


@click.command(
    "watch",
    epilog=examples(
        "xtrack watch",
        "xtrack watch baseline",
        "xtrack watch 'sweep-*'",
        "xtrack watch 8fb885314862 --to tls://collector:9999",
        "xtrack watch latest --exit-status && python evaluate.py",
    ),
)
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option("--once", is_flag=True, help="Show how the run is now, and end.")
@click.option(
    "--interval", type=Seconds(0.2), metavar="SECONDS",
    help="Look so often. Default: at a terminal twice a second, elsewhere every 10 s.",
)  # fmt: skip
@click.option("--exit-status", "truthful", is_flag=True, help="Exit status 1 unless the run is completed.")
@to_option
@store_option
def command(
    runs: tuple[str, ...], once: bool, interval: float | None, truthful: bool, to: str | None, store: str | None
) -> int:
    """Watch a run until it has ended: what it is doing, how far it is, its metrics, checkpoints, alerts and log.

    RUN (default: the latest) is one of this machine; where it isn't there and the settings name a collector
    (XTRACK_TRANSPORT, XTRACK_HOST), one of that collector. With --to, or there, it is the run's whole id, also of a run
    that is yet to begin. Several RUNs, or a pattern of names (quote it), are runs of this machine with a line each;
    those that begin meanwhile and match come along.

    At a terminal it takes the whole screen: q or Ctrl-C leaves it, and the run goes on. Elsewhere it writes a line
    every 10 seconds.
    """
    if to is not None and store is not None:
        raise click.UsageError("--to and --store exclude each other")
    if to is not None and len(runs) > 1:
        raise click.UsageError("--to takes one RUN, by its whole id.")
    with _watching(runs or ("latest",), to, store) as watching:
        watching.look()
        if once:
            watching.catch_up()
            out.picture_rows(watching.page(out.terminal_width(), None).rows)
        elif can_take_the_screen():
            _on_screen(watching, interval)
        else:
            _in_lines(watching, interval or _SECONDS)
        if not once:
            for text in watching.outcome():
                out.line(text)
    return int(truthful and not watching.is_completed)


@contextmanager
def _watching(runs: Sequence[str], to: str | None, store: str | None) -> Iterator[_Watching]:
    if to is None and (len(runs) > 1 or "*" in runs[0] or "?" in runs[0]):
        with opened(store) as source:
            yield _Several(source, runs)
    else:
        with following(runs[0], to, store) as followed:
            yield _One(followed)


def _now_us() -> int:
    return time.time_ns() // 1000


class _Watching(Protocol):
    """What is watched, and what is remembered of it from one look to the next."""

    offset: int
    keys: bool

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to come."""

    @property
    def is_completed(self) -> bool:
        """Whether all has gone well."""

    def look(self) -> None:
        """See how it is now."""

    def catch_up(self) -> None:
        """Wait a little for what is elsewhere."""

    def page(self, width: int, height: int | None) -> Page:
        """Return what is to be seen; without a height, all of it."""

    def line(self) -> str:
        """Return it on one line."""

    def outcome(self) -> list[str]:
        """Return what came of it."""


def _left(estimate: Estimate, state: RunState) -> float | None:
    progress, seconds = progress_of(state), seconds_between(state, _now_us())
    return None if progress is None or seconds is None else estimate.left(progress, seconds)


class _One:
    """A run."""

    def __init__(self, followed: Following) -> None:
        self._followed = followed
        self._estimate = Estimate()
        self._state = RunState(run_id="", status="pending")
        self._left: float | None = None
        self._trends: dict[str, deque[float]] = {}
        self.offset = 0
        self.keys = False

    @property
    def ended(self) -> bool:
        return self._followed.ended

    @property
    def is_completed(self) -> bool:
        return self._state.status == "completed"

    def look(self) -> None:
        self._state = state = self._followed.state()
        self._left = _left(self._estimate, state)
        for key, metric in state.metrics.items():
            if metric.workers is not None:
                seen = self._trends.setdefault(key, deque(maxlen=SERIES_TAIL))
                mean = math.nan if metric.workers.mean is None else metric.workers.mean
                if not seen:
                    seen.extend(trend_of(metric))
                elif seen[-1] != mean and not math.isnan(seen[-1] - mean):
                    seen.append(mean)

    def catch_up(self) -> None:
        while not self._followed.is_current and not self.ended:
            time.sleep(_WAIT)
            self.look()
        self.look()

    def page(self, width: int, height: int | None) -> Page:
        moment = Moment(
            state=self._state, now_us=_now_us(), left=self._left, trends=self._trends, offset=self.offset,
            trouble=self._followed.trouble, keys=self.keys, unicode=out.shows_unicode(),
        )  # fmt: skip
        return page(moment, width, len(self._state.metrics) + 30 if height is None else height)

    def line(self) -> str:
        return self._followed.trouble or status_line(self._state, self._estimate, _now_us())

    def outcome(self) -> list[str]:
        if self._state.status in LIVE:
            return [f"xtrack: {status_line(self._state, self._estimate, _now_us())}"]
        return summary_lines(self._state, None, None)


class _Several:
    """Runs of a store."""

    def __init__(self, store: Storage, refs: Sequence[str]) -> None:
        self._store = store
        self._refs = refs
        self._estimates: dict[str, Estimate] = {}
        self._states: list[RunState] = []
        self._lefts: list[float | None] = []
        self.offset = 0
        self.keys = False

    @property
    def ended(self) -> bool:
        return all(state.status not in LIVE for state in self._states)

    @property
    def is_completed(self) -> bool:
        return all(state.status == "completed" for state in self._states)

    def look(self) -> None:
        self._states = find_all(self._store, self._refs)
        self._lefts = [_left(self._estimates.setdefault(one.run_id, Estimate()), one) for one in self._states]

    def catch_up(self) -> None:
        """They are here."""

    def page(self, width: int, height: int | None) -> Page:
        moments = Moments(
            states=self._states, now_us=_now_us(), left=self._lefts, offset=self.offset, keys=self.keys,
            unicode=out.shows_unicode(),
        )  # fmt: skip
        return runs_page(moments, width, len(self._states) + 10 if height is None else height)

    def line(self) -> str:
        return counts_text(self._states)

    def outcome(self) -> list[str]:
        return [f"xtrack: {counts_text(self._states)}"]


def _on_screen(watching: _Watching, interval: float | None) -> None:
    watching.keys = True
    pace = Pace()
    with Screen() as screen:
        while True:
            if interval is not None or pace.is_due():
                begun = time.monotonic()
                watching.look()
                pace.looked(time.monotonic() - begun)
            shown = watching.page(*screen.size())
            screen.show(shown.rows)
            if watching.ended:
                return
            for key in screen.wait(interval or _LOOK):
                if key == "quit":
                    return
                watching.offset = scrolled(watching.offset, key, max(1, shown.shown), shown.listed - shown.shown)


def _in_lines(watching: _Watching, interval: float) -> None:
    told = ""
    due = 0.0
    while not watching.ended:
        if time.monotonic() >= due:
            text = watching.line()
            if text != told:
                out.line(text)
                sys.stdout.flush()
            told, due = text, time.monotonic() + interval
        time.sleep(min(interval, 1.0))
        watching.look()
