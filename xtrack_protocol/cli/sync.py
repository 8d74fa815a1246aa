"""``xtrack sync``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final

import click

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._app import INTERRUPTED
from xtrack_protocol.cli._runs import examples, json_option
from xtrack_protocol.cli._seconds import Seconds
from xtrack_protocol.errors import TransportError

if TYPE_CHECKING:
    from xtrack_protocol.net.endpoint import Endpoint
    from xtrack_protocol.sender.sync import StreamReport, Syncer, SyncReport
    from xtrack_protocol.spool import SpoolDir

SECTION = "Track"

STREAMS: Final = out.columns(
    ("run_id", "id"),
    "worker",
    "session",
    ("state", "status"),
    ("events", "number"),
    ("acked", "number"),
    ("new", "number"),
    ("unconfirmed", "number"),
    ("refused", "number"),
    "problem",
)
WATCH_SECONDS: Final = 10.0
_SHOWN_WHOLE: Final = 20


@click.command(
    "sync",
    epilog=examples(
        "xtrack sync --to tcp://collector.example:9999",
        "xtrack sync /scratch/xtrack --to tls://collector.example:9999",
        "xtrack sync --watch",
    ),
)
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(file_okay=False))
@click.option(
    "--to",
    "to",
    metavar="URL",
    help="The collector: tcp://HOST:PORT, tls://HOST:PORT or unix:/PATH. Default: what XTRACK_TRANSPORT, XTRACK_HOST "
    "and XTRACK_PORT name.",
)
@click.option("--again", is_flag=True, help="Offer once more what is acked, or was sent without being confirmed.")
@click.option("--watch", is_flag=True, help=f"Go on, and look for more every {WATCH_SECONDS:g} s, until interrupted.")
@click.option(
    "--timeout",
    type=Seconds(0.1),
    default=30.0,
    metavar="SECONDS",
    help="Give up after so many seconds without progress. Default: 30.",
)
@json_option
def command(
    directory: str | None, to: str | None, again: bool, watch: bool, timeout: float, as_json: bool
) -> int:  # fmt: skip
    """Ship what lies in a spool to a collector: runs whose collector wasn't there, or that were only logged here.

    DIR is what XTRACK_DIR names by default. Nothing is removed, and to do it twice does no harm. Runs of processes that
    are still alive are shipped as far as they are, but for those that ship themselves.

    Exit status 0 where the collector has acked everything, 1 where it has not, 130 when interrupted.
    """
    from xtrack_protocol.settings import load_settings
    from xtrack_protocol.spool import SpoolDir

    settings = load_settings()
    spool = SpoolDir(directory or settings.dir)
    if directory and not spool.root.is_dir():
        raise click.BadParameter(f"{directory!r}: there is no such folder", param_hint="DIR")
    endpoint = _endpoint(to, settings)
    if watch:
        return _watch(spool, endpoint, timeout, as_json)
    return _sync_once(spool, endpoint, again, timeout, as_json)


def _endpoint(to: str | None, settings: Any) -> Endpoint:
    from xtrack_protocol.net.endpoint import parse_endpoint

    if to is not None:
        return parse_endpoint(to, settings, name="--to")
    is_remote = settings.transport.partition(":")[0] in {"tcp", "tls", "unix"}
    return parse_endpoint(settings.transport if is_remote else "tcp", settings)


def _sync_once(spool: SpoolDir, endpoint: Endpoint, again: bool, timeout: float, as_json: bool) -> int:
    from xtrack_protocol.sender.sync import Syncer

    syncer = Syncer(spool, endpoint, again=again, patience=timeout, on_progress=_show_progress)
    try:
        report = syncer.sync()
    except KeyboardInterrupt:
        _clear_progress()
        _tell(syncer.report(), as_json)
        out.remark("interrupted. What is acked stays acked; `xtrack sync` goes on from there")
        return INTERRUPTED
    finally:
        _clear_progress()
    _tell(report, as_json)
    return 0 if report.is_complete else 1


def _watch(spool: SpoolDir, endpoint: Endpoint, timeout: float, as_json: bool) -> int:
    """Sync again and again; tell only of what has changed, and of a problem once."""
    from xtrack_protocol.sender.sync import Syncer

    told = ""
    report = None
    try:
        while True:
            try:
                report = Syncer(spool, endpoint, patience=timeout).sync()
                problem = report.problem
            except TransportError as error:
                problem = str(error)
            if report is not None and not problem and any(stream.new for stream in report.streams):
                _tell(report, as_json)
            if problem and problem != told:
                out.remark(problem)
            told = problem
            time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        return 0 if report is not None and report.is_complete and not told else INTERRUPTED


def _show_progress(syncer: Syncer) -> None:
    if sys.stderr.isatty():
        text = f"{syncer.done} of {syncer.total} streams done, {syncer.events_acked} events acked"
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def _clear_progress() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def _tell(report: SyncReport, as_json: bool) -> None:
    rows = [_row(stream) for stream in report.streams]
    new = sum(stream.new for stream in report.streams)
    if as_json:
        made = {
            "to": report.address,
            "complete": report.is_complete,
            "plain": report.is_plain,
            "problem": report.problem or None,
            "acked_now": new,
            "streams": [
                row | {"refused": dict(stream.refused)}
                for row, stream in zip(out.objects(STREAMS, rows), report.streams, strict=True)
            ],
        }
        out.as_json(made)
    elif rows:
        unfinished = [row for row, stream in zip(rows, report.streams, strict=True) if _is_news(stream)]
        shown = rows if len(rows) <= _SHOWN_WHOLE or not out.on_terminal() else unfinished
        out.table(STREAMS, shown)
    for text in report.remarks(new):
        out.remark(text)


def _is_news(stream: StreamReport) -> bool:
    return stream.state != "acked" or stream.new > 0


def _row(stream: StreamReport) -> list[Any]:
    identity = stream.stream
    return [
        identity.run_id,
        identity.worker_id,
        identity.session_id,
        stream.state,
        stream.events,
        stream.acked,
        stream.new,
        stream.unconfirmed,
        sum(stream.refused.values()),
        stream.problem,
    ]
