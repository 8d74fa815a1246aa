"""The line that says how a run is doing, at the bottom of the terminal while the worker writes above it.

The terminal scrolls all but its last row, as apt does it; that row is ours. A worker that takes the whole screen draws
over it, and we over the worker once a second, which does no harm.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType
from typing import Final

from xtrack_protocol.cli._runs import latest_metrics, seconds_between
from xtrack_protocol.decode.text import duration_text, escape, short_number
from xtrack_protocol.ir import Progress
from xtrack_protocol.runs import RunState

_SAVE: Final = "\x1b7"
_RESTORE: Final = "\x1b8"
_ROWS_MIN: Final = 4


class Estimate:
    """How long it will still take, from how far the worker says that it is."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None
        self._unit: str | None = None

    def left(self, progress: Progress, seconds: float) -> float | None:
        """Return the seconds left. ``seconds``: how long the run has been going on."""
        current, total = progress.current, progress.total
        if current is None or total is None or total <= 0:
            return None
        if self._first is None or progress.unit != self._unit or current < self._first[0]:
            self._first, self._unit = (current, seconds), progress.unit
            if current > 0 and seconds > 0:  # the first we hear of it: reckon from the start
                return max(0, total - current) * seconds / current
            return None
        done, took = current - self._first[0], seconds - self._first[1]
        if done > 0 and took > 0:
            return max(0, total - current) * took / done
        return max(0, total - current) * seconds / current if current > 0 else None


def status_line(state: RunState, estimate: Estimate, now_us: int) -> str:
    """Return how a run is doing, on one line."""
    parts = [escape(state.name or state.run_id)]
    activity = state.activity
    parts.append(activity.status if activity and state.status == "running" else state.status)
    metrics = latest_metrics(state)
    step = max((metric.last.step for _, metric in metrics if metric.last.step is not None), default=None)
    if step is not None:
        parts.append(f"step {step}")
    parts += [f"{escape(key)} {short_number(metric.last.value)}" for key, metric in metrics]
    seconds = seconds_between(state, now_us) or 0.0
    if activity and activity.progress and activity.progress.current is not None:
        progress = activity.progress
        total = f"/{progress.total}" if progress.total is not None else ""
        parts.append(f"{escape(progress.unit or 'done')} {progress.current}{total}")
        left = estimate.left(progress, seconds)
        if left is not None:
            parts.append(f"{duration_text(int(left * 1000))} left")
    if state.lost_events:
        parts.append(f"{state.lost_events} events LOST")
    parts.append(duration_text(int(seconds) * 1000) if seconds >= 1 else "0s")
    return " | ".join(parts)


class LiveLine:
    """The bottom row of the terminal behind standard error. Does nothing where there is none."""

    def __init__(self) -> None:
        self.is_shown = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb" and sys.platform != "win32"
        self._size: os.terminal_size | None = None

    def show(self, text: str) -> None:
        """Show ``text`` in the bottom row."""
        size = _terminal_size()
        if not self.is_shown or size is None or size.lines < _ROWS_MIN:
            return
        commands = ""
        if size != self._size:
            commands = self._reserve(size)
            self._size = size
        cut = text if len(text) < size.columns else text[: size.columns - 2] + "…"
        self._write(f"{commands}{_SAVE}\x1b[{size.lines};1H\x1b[2K\x1b[7m{cut}\x1b[0m{_RESTORE}")

    def _reserve(self, size: os.terminal_size) -> str:
        """Return what lets all rows but the last one scroll."""
        first = "\n" + _SAVE if self._size is None else _SAVE
        last = "\x1b[1A" if self._size is None else ""
        return f"{first}\x1b[1;{size.lines - 1}r{_RESTORE}{last}"

    def give_back_when_stopped(self) -> None:
        """See to it that Ctrl-Z leaves the shell a whole terminal; the line comes back with the command."""
        if self.is_shown and signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
            signal.signal(signal.SIGTSTP, self._stop)

    def _stop(self, number: int, _: FrameType | None) -> None:
        self.close()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # returns when we are continued
        signal.signal(number, self._stop)

    def close(self) -> None:
        """Give the row back."""
        if self._size is not None:
            size = _terminal_size() or self._size
            self._size = None
            self._write(f"{_SAVE}\x1b[r\x1b[{size.lines};1H\x1b[2K{_RESTORE}")

    @staticmethod
    def _write(text: str) -> None:
        """Write all at once, so that nothing of the worker's comes in between."""
        try:
            os.write(sys.stderr.fileno(), text.encode(sys.stderr.encoding or "ascii", "replace"))
        except OSError:
            return  # the terminal is gone; the worker's affair is not


def _terminal_size() -> os.terminal_size | None:
    try:
        return os.get_terminal_size(sys.stderr.fileno())
    except OSError:
        return None


class Pace:
    """Says when it is time to look again: twice a second, and less often where looking takes long."""

    def __init__(self) -> None:
        self._next = 0.0

    def is_due(self) -> bool:
        """Whether it is time."""
        return time.monotonic() >= self._next

    def looked(self, seconds: float) -> None:
        """Take note of a look that took so long."""
        self._next = time.monotonic() + max(0.5, 10 * seconds)
