"""``xtrack rename``."""

from __future__ import annotations

import click

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._runs import annotated, brief_json, examples, opened, reading

SECTION = "Change"


@click.command("rename", epilog=examples("xtrack rename latest baseline"))
@click.argument("run")
@click.argument("name")
@reading
def command(run: str, name: str, store: str | None, as_json: bool) -> None:
    """Give a run another name. Its id stays."""
    with opened(store, writing=True) as source:
        state = annotated(source, run, name=name)
    if as_json:
        out.as_json(brief_json(state))
    else:
        out.remark(f"run {state.run_id} is now named {name}")
