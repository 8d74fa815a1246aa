"""What the end of a run waits for where a collector is elsewhere, and what it tells of it. spec: EMT-3.3"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from xtrack_protocol.emitter.stream import StreamEmitter, say
from xtrack_protocol.emitter.values import brief, to_text
from xtrack_protocol.ir.lifecycle import EndStatus
from xtrack_protocol.transport.base import Delivery

STRANGER_SECONDS: Final = 5.0
"""Seconds that are waited at most for a collector that this run has never had a connection with."""
_TELL_SECONDS: Final = 2.0
_SLICE_SECONDS: Final = 0.2


_ENDS: Final[Mapping[str, EndStatus]] = {
    "completed": "completed",
    "finished": "completed",
    "failed": "failed",
    "killed": "killed",
}


def end_status(status: Any) -> EndStatus | None:
    """Return the status that a run's end has by our name or MLflow's, in any case; None where it is no end's."""
    return _ENDS.get(to_text(getattr(status, "value", status)).lower())


def end_seconds(out: StreamEmitter, timeout: object, default: float) -> float:
    """Return how long to wait: ``timeout`` where it is a number of seconds, else ``default``."""
    if timeout is None:
        return default
    try:
        seconds = float(timeout)  # type: ignore[arg-type]  # that it may be anything is the point
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if math.isnan(seconds) or seconds < 0:
        out.refuse("value", f"end: timeout={brief(timeout)} is no number of seconds; {default:g} is taken")
        return default
    return seconds


def wait_for_collector(out: StreamEmitter, seconds: float, *, quiet: bool) -> bool:
    """Wait at most ``seconds`` until a collector elsewhere has acked all; return whether it has.

    Returns False at once where there is none. Somebody at a terminal is told what is waited for; Ctrl-C then stops the
    waiting, and nothing else.
    """
    delivery = out.transport.delivery()
    if delivery is None or not out.is_open:
        return False
    deadline = time.monotonic() + seconds
    if out.flush("acked", min(seconds, _TELL_SECONDS)):
        return True
    delivery = out.transport.delivery() or delivery
    if not delivery.connections:
        deadline = min(deadline, time.monotonic() + STRANGER_SECONDS - _TELL_SECONDS)
    left = deadline - time.monotonic()
    if not delivery.waiting or left <= 0:
        return False
    if quiet:
        return out.flush("acked", left)
    try:
        say(
            f"waiting up to {left:.0f} s for {delivery.address}: {delivery.waiting} events to go. They are safe in the "
            f"spool; Ctrl-C stops the waiting"
        )
        return out.flush("acked", left)
    except KeyboardInterrupt:
        say("not waiting any longer")
        return False


def delivered_text(delivery: Delivery | None) -> str:
    """Return what the line at the end says of a collector; empty where there is none."""
    if delivery is None:
        return ""
    parts = []
    if delivery.acked or not (delivery.waiting or delivery.unconfirmed):
        whole = not (delivery.waiting or delivery.unconfirmed or delivery.rejected)
        parts.append(f"{'all' if whole else delivery.acked} acked by {delivery.address}")
    if delivery.unconfirmed:
        parts.append(
            f"{delivery.unconfirmed} sent to {delivery.address}, which confirms nothing (if it is `xtrack serve`, it "
            f"was too slow to answer: `{delivery.ship_with}` makes sure)"
        )
    if delivery.rejected:
        codes = ", ".join(f"{count} {code}" for code, count in sorted(delivery.rejected.items()))
        parts.append(f"refused: {codes}")
    return "".join(f", {part}" for part in parts)


def wait_for_collector_unless(out: StreamEmitter, seconds: float, given_up: Callable[[], bool]) -> bool:
    """As ``wait_for_collector``, without a word, until ``given_up()``: for threads, which no Ctrl-C reaches."""
    acked = False
    deadline = time.monotonic() + seconds
    while not given_up() and (left := deadline - time.monotonic()) > 0:
        begun, piece = time.monotonic(), min(left, _SLICE_SECONDS)
        acked = out.flush("acked", piece)
        if time.monotonic() - begun < piece / 2:
            break  # all is there, or can't come
    return acked


def left_text(run_id: str, delivery: Delivery | None, dropped: int) -> str:
    """Return what to tell of events that are in the spool only, with the command that ships them; empty: none are.

    ``dropped``: how many have been lost; what waits may be the declarations of those.
    """
    if delivery is None or not delivery.waiting:
        return ""
    kept = "Those that are not lost" if dropped else "They"
    problem = f" ({delivery.problem})" if delivery.problem else ""
    return (
        f"{delivery.waiting} events of {run_id} have not reached {delivery.address}{problem}. {kept} are kept "
        f"in the spool; ship them with: {delivery.ship_with}"
    )
