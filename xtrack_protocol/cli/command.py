"""``xtrack command``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._remote import client_to, configured, to_option, whole_id
from xtrack_protocol.cli._runs import examples, local_root, opened, parse_pairs, reading
from xtrack_protocol.cli._seconds import Seconds
from xtrack_protocol.errors import ConfigurationError, RunNotFound

if TYPE_CHECKING:
    from xtrack_protocol.ir import CommandResult

SECTION = "Change"

ANSWERS = out.columns("worker", ("status", "status"), "message")


def parse_value(text: str) -> Any:
    """Return an argument's value: JSON where it is some, else the text itself."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text


@click.command(
    "command",
    epilog=examples(
        "xtrack command latest stop",
        "xtrack command latest adjust_lr lr=0.001",
        "xtrack command baseline checkpoint_now --worker rank0 --timeout 30",
        "xtrack command 8fb885314862 stop --to tls://collector:9999",
        "xtrack command latest custom action=dump_weights layers='[1, 2]'",
    ),
)
@click.argument("run")
@click.argument("type_", metavar="TYPE")
@click.argument("arguments", nargs=-1, metavar="[K=V]...")
@click.option("--worker", metavar="ID", help="Only this worker. Default: every live one.")
@click.option(
    "--timeout",
    type=Seconds(),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for answers.",
)
@to_option
@reading
def command(
    run: str,
    type_: str,
    arguments: tuple[str, ...],
    worker: str | None,
    timeout: float,
    to: str | None,
    store: str | None,
    as_json: bool,
) -> int:
    """Send a command to the workers of a live run and show their answers.

    Without --to it goes to the run's live workers on this machine, and where there are none, to the collector that the
    settings name (XTRACK_TRANSPORT, XTRACK_HOST), which passes it on. With --to, RUN is the run's whole id: a collector
    isn't asked for its runs.

    TYPE is pause, resume, stop, checkpoint_now, update_params, adjust_lr, custom, or any other the script knows. A
    value that is JSON is sent as such, any other as text. It reaches scripts that ask run.commands() or
    run.should_stop, or have set run.on_command(). Exit status 1 when nobody answers, or an answer is an error.
    """
    payload = {key: parse_value(text) for key, text in parse_pairs(arguments, "argument").items()}
    if to is not None:
        if store is not None:
            raise click.UsageError("--to and --store exclude each other")
        answers = client_to(to).send_command(whole_id(run), type_, payload, worker_id=worker, timeout=timeout)
    else:
        answers = _send(run, type_, payload, worker, timeout, store)
    rows = [[answer.worker_id, answer.status, answer.message] for answer in answers]
    if as_json:
        out.as_json(out.objects(ANSWERS, rows))
    else:
        out.table(ANSWERS, rows)
    return int(any(answer.status != "ok" for answer in answers))


def _send(
    run: str, type_: str, payload: dict[str, Any], worker: str | None, timeout: float, store: str | None
) -> list[CommandResult]:
    """Send a command to live workers here, else to the collector of the settings."""
    from xtrack_protocol.collector.commands import send_command
    from xtrack_protocol.collector.localruns import live_workers
    from xtrack_protocol.settings import load_settings
    from xtrack_protocol.spool import SpoolDir

    collector = configured(load_settings())
    with opened(store) as source:
        root = local_root(source)
        if root is None and collector is None:
            raise ConfigurationError(
                "store", source.url, "commands go through the spool of a local run", "Use --store local:, or --to URL"
            )
        try:
            run_id = source.find_run(run)
        except RunNotFound:
            if collector is None:
                raise
            run_id = whole_id(run)  # known to the collector alone, perhaps
    if root is not None:
        live = [local.stream.worker_id for local in live_workers(SpoolDir(root).run_dir(run_id))]
        if collector is None or (worker in live if worker is not None else live):
            return send_command(root, run_id, type_, payload, worker_id=worker, timeout=timeout)
    assert collector is not None
    client = client_to(collector, "XTRACK_TRANSPORT")
    return client.send_command(run_id, type_, payload, worker_id=worker, timeout=timeout)
