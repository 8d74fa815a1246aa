"""``xtrack tail``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._remote import located, to_option
from xtrack_protocol.cli._runs import examples, reading
from xtrack_protocol.cli._seconds import Seconds
from xtrack_protocol.decode.show import event_json, payload_text, reason_of
from xtrack_protocol.decode.text import escape, escape_json, iso_utc, json_line, local_time
from xtrack_protocol.wire import Frame

if TYPE_CHECKING:
    from xtrack_protocol.errors import TransportError

SECTION = "Look"

_WIDTHS: Final = (7, 19, 8, 12)


def parse_beginning(_: click.Context, __: click.Parameter, text: str) -> int | None:
    """Return how many events to pass over; None for all there are."""
    if text == "now":
        return None
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number < 2**63:
        raise click.BadParameter(f"{text!r} is neither a number of events nor 'now'")
    return number


@click.command(
    "tail",
    epilog=examples(
        "xtrack tail latest",
        "xtrack tail baseline --from now",
        "xtrack tail latest -n 20",
        "xtrack tail 8fb885314862 --to tls://collector:9999 --json",
    ),
)
@click.argument("run")
@click.option(
    "--from",
    "beginning",
    default="0",
    callback=parse_beginning,
    show_default=True,
    metavar="N|now",
    help="Begin behind the run's Nth event, or with what comes from now on.",
)
@click.option(
    "-n",
    "--last",
    type=click.IntRange(min=0),
    metavar="N",
    help="Begin with the last N events there are, and go on with what comes. For runs of this machine.",
)
@click.option(
    "--timeout",
    type=Seconds(),
    metavar="SECONDS",
    help="Give up when nothing has come for so long, with exit status 1. Default: wait for ever.",
)
@to_option
@reading
@click.pass_context
def command(
    context: click.Context,
    run: str,
    beginning: int | None,
    last: int | None,
    timeout: float | None,
    to: str | None,
    store: str | None,
    as_json: bool,
) -> int:
    """Show the events of a run as they come, one a line, until the run has ended.

    RUN is one of this machine; where it isn't there and the settings name a collector (XTRACK_TRANSPORT, XTRACK_HOST),
    one of that collector. With --to, or there, it is the run's whole id, also of a run that is yet to begin. A
    connection that breaks is made again, and no event is left out or shown twice.

    Each line has the event's number, its time, worker, seq, type and members; with --json it is a JSON object.
    """
    if to is not None and store is not None:
        raise click.UsageError("--to and --store exclude each other")
    if last is not None and context.get_parameter_source("beginning") is not ParameterSource.DEFAULT:
        raise click.UsageError("--last and --from exclude each other")
    show = _show_json if as_json else _show_columns if out.on_terminal() else _show_tabbed
    with _events(run, beginning, last, timeout, to, store) as events:
        for position, frame in events:
            show(position, frame)
            if not events.behind:
                sys.stdout.flush()
        timed_out = events.timed_out
    if timed_out:
        out.remark(f"xtrack: nothing has come for {timeout:g} s")
    return int(timed_out)


class _Events:
    """Numbered events of a subscription of either kind."""

    def __init__(self, subscription: Any, numbered: Iterator[tuple[int, Frame]]) -> None:
        self._subscription = subscription
        self._numbered = numbered

    def __iter__(self) -> Iterator[tuple[int, Frame]]:
        return self._numbered

    @property
    def behind(self) -> bool:
        """Whether the next event is here already."""
        return bool(self._subscription.behind)

    @property
    def timed_out(self) -> bool:
        """Whether the iteration has ended because nothing came."""
        return bool(self._subscription.timed_out)


@contextmanager
def _events(
    run: str, beginning: int | None, last: int | None, timeout: float | None, to: str | None, store: str | None
) -> Iterator[_Events]:
    with located(run, to, store) as found:
        if found.store is not None:
            from xtrack_protocol.collector import Collector

            passed = beginning
            if passed is None or last is not None:
                passed = max(0, found.store.get_run(found.run_id).events - (last or 0))
            with Collector(found.store).subscribe(found.run_id, timeout=timeout, until_end=True) as local:
                yield _Events(local, _numbered_here(local, passed))
            return
        assert found.client is not None
        if last is not None:
            raise click.UsageError(
                "--last is for runs of this machine: a collector doesn't say how many events a run has. Use --from"
            )
        client = found.client
        with client.subscribe(found.run_id, beginning, timeout=timeout, until_end=True, trouble=_tell) as remote:
            yield _Events(remote, ((event.position, event.frame) for event in remote))


def _numbered_here(events: Any, passed: int) -> Iterator[tuple[int, Frame]]:
    for number, event in enumerate(events, 1):
        if number > passed:
            yield number, Frame(event.envelope, None, 0, len(event.raw), event.raw)


def _tell(trouble: TransportError) -> None:
    out.remark(f"xtrack: {trouble}. Connecting again ...")


def _show_json(position: int, frame: Frame) -> None:
    if frame.envelope is not None:
        out.line(escape_json(f'{{"position":{position},"event":{event_json(frame.envelope)}}}'))
    elif frame.error is not None:
        out.line(json_line({"position": position, "error": frame.error.kind, "reason": reason_of(frame.error)}))


def _fields(position: int, frame: Frame, *, exact: bool) -> list[str]:
    envelope = frame.envelope
    if envelope is None:
        assert frame.error is not None
        return [str(position), "BAD", frame.error.kind, escape(reason_of(frame.error))]
    meta = envelope.meta
    time = iso_utc(meta.timestamp_us) if exact else local_time(meta.timestamp_us)
    who = escape(meta.worker_id or "-")
    return [str(position), time, who, f"#{meta.seq}", escape(envelope.event_type), payload_text(envelope)]


def _show_tabbed(position: int, frame: Frame) -> None:
    out.line("\t".join(_fields(position, frame, exact=True)))


def _show_columns(position: int, frame: Frame) -> None:
    number, *fields = _fields(position, frame, exact=False)
    padded = [number.rjust(_WIDTHS[0])]
    padded += [field.ljust(width) for field, width in zip(fields, (*_WIDTHS[1:3], 6, *_WIDTHS[3:]), strict=False)]
    out.line("  ".join([*padded, *fields[len(padded) - 1 :]])[: out.terminal_width()])
