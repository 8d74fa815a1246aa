"""``xtrack command``."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._runs import examples, local_root, opened, parse_pairs, reading
from xtrack_protocol.errors import ConfigurationError

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
        "xtrack command latest custom action=dump_weights layers='[1, 2]'",
    ),
)
@click.argument("run")
@click.argument("type_", metavar="TYPE")
@click.argument("arguments", nargs=-1, metavar="[K=V]...")
@click.option("--worker", metavar="ID", help="Only this worker. Default: every live one.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for answers.",
)
@reading
def command(
    run: str,
    type_: str,
    arguments: tuple[str, ...],
    worker: str | None,
    timeout: float,
    store: str | None,
    as_json: bool,
) -> int:
    """Send a command to a live run on this machine and show its workers' answers.

    TYPE is pause, resume, stop, checkpoint_now, update_params, adjust_lr, custom, or any other the script knows. A
    value that is JSON is sent as such, any other as text. It reaches scripts that ask run.commands() or
    run.should_stop, or have set run.on_command(). Exit status 1 when nobody answers, or an answer is an error.
    """
    payload = {key: parse_value(text) for key, text in parse_pairs(arguments, "argument").items()}
    with opened(store) as source:
        root = local_root(source)
        if root is None:
            raise ConfigurationError(
                "store", source.url, "commands go through the spool of a local run", "Use --store local:"
            )
        run_id = source.find_run(run)
    from xtrack_protocol.collector.commands import send_command

    answers = send_command(root, run_id, type_, payload, worker_id=worker, timeout=timeout)
    rows = [[answer.worker_id, answer.status, answer.message] for answer in answers]
    if as_json:
        out.as_json(out.objects(ANSWERS, rows))
    else:
        out.table(ANSWERS, rows)
    return int(any(answer.status != "ok" for answer in answers))
