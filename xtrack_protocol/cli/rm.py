"""``xtrack rm``."""

from __future__ import annotations

import sys

import click

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._runs import examples, find, is_live, opened, reading

SECTION = "Change"


@click.command("rm", epilog=examples("xtrack rm 20240501-101500-1f2e3d4c", "xtrack rm --yes old-1 old-2"))
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@click.option("--force", is_flag=True, help="Delete live runs, too. What they still log is dropped.")
@reading
def command(runs: tuple[str, ...], yes: bool, force: bool, store: str | None, as_json: bool) -> int:
    """Delete runs for good. Files that their artifacts and checkpoints name stay."""
    with opened(store, writing=True) as source:
        states = {state.run_id: state for state in (find(source, run) for run in runs)}
        live = [run_id for run_id, state in states.items() if is_live(source, state)]
        if live and not force:
            out.remark(f"xtrack: error: still running: {', '.join(live)}. Stop them first, or add --force")
            return 1
        if not yes:
            if not sys.stdin.isatty():
                raise click.UsageError("nobody can be asked here: add --yes.")
            for state in states.values():
                name = f" ({state.name})" if state.name else ""
                out.remark(f"run {state.run_id}{name}: {state.status}, {state.events} events")
            click.confirm(f"Delete {len(states)} run{'s' if len(states) > 1 else ''} for good?", abort=True, err=True)
        for run_id in states:
            source.delete_run(run_id)
            if not as_json:
                out.remark(f"deleted run {run_id}")
    if as_json:
        out.as_json({"deleted": list(states)})
    return 0
