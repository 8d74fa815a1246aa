"""``xtrack note``."""

from __future__ import annotations

import click

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._runs import annotated, brief_json, examples, opened, reading

SECTION = "Change"


@click.command("note", epilog=examples("xtrack note latest 'the one with the fixed loader'", "xtrack note latest ''"))
@click.argument("run")
@click.argument("text")
@reading
def command(run: str, text: str, store: str | None, as_json: bool) -> None:
    """Write a run's note, in place of the one it has."""
    with opened(store, writing=True) as source:
        state = annotated(source, run, note=text)
    if as_json:
        out.as_json(brief_json(state))
    else:
        out.remark(f"noted run {state.run_id}")
