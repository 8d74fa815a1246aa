"""``xtrack decode``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from xtrack_protocol.decode.options import DESCRIPTION, EXAMPLES, FLAGS, SUMMARY, make_options

SECTION = "Files"


def _with_flags(callback: Callable[..., Any]) -> Callable[..., Any]:
    for flag in reversed(FLAGS):
        if flag.kind == "switch":
            callback = click.option(flag.name, flag.key, is_flag=True, help=flag.doc)(callback)
        else:
            kind = click.Choice(flag.choices) if flag.choices else click.STRING
            callback = click.option(
                flag.name,
                flag.key,
                type=kind,
                metavar=flag.metavar,
                multiple=flag.kind == "values",
                default=None if flag.kind == "values" else flag.default,
                show_default=flag.default is not None,
                help=flag.doc,
            )(callback)
    return callback


@click.command(
    "decode", help=f"{SUMMARY}\n\n{DESCRIPTION}", short_help=SUMMARY, epilog="\b\n" + EXAMPLES.replace("\n\n", "\n")
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@_with_flags
def command(files: tuple[str, ...], **values: Any) -> int:
    """Decode files: the same program as ``python -m xtrack_protocol.decode``."""
    from xtrack_protocol.decode.engine import decode_files

    return decode_files(make_options(files, values))
