"""``xtrack tag``."""

from __future__ import annotations

import click

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._runs import annotated, examples, find, opened, parse_pairs, reading

SECTION = "Change"


@click.command(
    "tag",
    epilog=examples(
        "xtrack tag latest stage=production", "xtrack tag baseline reviewed=yes by=ann", "xtrack tag latest"
    ),
)
@click.argument("run")
@click.argument("tags", nargs=-1, metavar="[K=V]...")
@reading
def command(run: str, tags: tuple[str, ...], store: str | None, as_json: bool) -> None:
    """Set tags of a run, finished or not; the others stay. Without K=V, show its tags."""
    asked = parse_pairs(tags, "tag")
    with opened(store, writing=bool(asked)) as source:
        state = annotated(source, run, tags=asked) if asked else find(source, run)
    if as_json:
        out.as_json(dict(state.tags))
    else:
        out.table(out.columns("tag", "value"), list(state.tags.items()))
