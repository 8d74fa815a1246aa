"""Writes the reference of the command line from the verbs themselves::

    python -m xtrack_protocol.cli._reference > docs/reference/cli.md

A test compares the two, so no verb and no flag goes undocumented. The text is made from click's parameters and not from
its help, whose layout differs from version to version.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator

import click

from xtrack_protocol.cli._app import SECTIONS, _module_of, app

_INTRODUCTION = """\
# The `xtrack` command

Install it with `pip install 'xtrack-protocol[cli]'`. `python -m xtrack_protocol.decode` does the same as
`xtrack decode` without that extra.

RUN is a run's id, the start of one that no other id has, its name (the newest run so named), or `latest`.

At a terminal tables are aligned and cut to its width, times are local and numbers rounded. Anywhere else rows are
tab-separated and whole, times are ISO 8601 in UTC and numbers exact; `--json` gives the same as JSON, where numbers
that JSON can't write are the texts "NaN", "Infinity" and "-Infinity". Control characters in data, and others that can't
be seen, become escapes; CSV that isn't written to a terminal has them as they are.

Results go to standard output, remarks and errors to standard error. Exit status: 0; 1 when something went wrong; 2 for
wrong usage or settings; 130 after Ctrl-C; 141 when nobody reads the output any more. Verbs that have others say so.
`XTRACK_DEBUG=1` shows where an error comes from.

This page is made from the command's own help.
"""


def reference() -> str:
    """Return the page."""
    context = click.Context(app, info_name="xtrack")
    verbs = {name: app.get_command(context, name) for name in app.list_commands(context)}
    by_section: dict[str, list[str]] = {section: [] for section in SECTIONS}
    for name in verbs:
        by_section.setdefault(str(getattr(_module_of(name), "SECTION", "More")), []).append(name)
    parts = [_INTRODUCTION]
    for section, names in by_section.items():
        if names:
            parts.append(f"## {section}\n")
        for name in names:
            verb = verbs[name]
            assert verb is not None
            parts.extend(_verb(verb, f"xtrack {name}", 3))
    return "\n".join(parts).rstrip() + "\n"


def _verb(command: click.Command, path: str, level: int) -> Iterator[str]:
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    options = [param for param in command.params if isinstance(param, click.Option) and not param.hidden]
    usage = " ".join([path, *(["[OPTIONS]"] if options else []), *(_argument(argument) for argument in arguments)])
    if isinstance(command, click.Group):
        usage += " VERB"
    yield f"{'#' * level} {path}\n\n```\n{usage}\n```\n"
    yield _paragraphs(command.help or "") + "\n"
    if options:
        rows = [f"| {_names(option)} | {_meaning(option)} |" for option in options]
        yield "\n".join(["| Option | Meaning |", "|---|---|", *rows]) + "\n"
    if command.epilog:
        yield _epilog(command.epilog) + "\n"
    if isinstance(command, click.Group):
        for name, verb in sorted(command.commands.items()):
            yield from _verb(verb, f"{path} {name}", level + 1)


def _argument(argument: click.Argument) -> str:
    name = argument.metavar or (argument.name or "").upper()
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _names(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    if option.is_flag:
        return names
    if isinstance(option.type, click.Choice):
        return f"{names} " + "\\|".join(str(choice) for choice in option.type.choices)
    return f"{names} {option.metavar or option.type.name.upper().split()[0]}"


def _meaning(option: click.Option) -> str:
    text = (option.help or "").replace("|", "\\|")
    if option.multiple and "several times" not in text:
        text += " May be given several times."
    return f"{text} Default: {option.default}." if option.show_default else text


def _paragraphs(text: str) -> str:
    return inspect.cleandoc(text).replace("\n\b\n", "\n")


def _epilog(text: str) -> str:
    """Return the examples as a block of code, and what follows them as text."""
    blocks = []
    for block in text.split("\b\n"):
        lines = block.strip("\n").splitlines()
        if lines and lines[0] == "Examples:":
            blocks.append("\n".join(["```sh", *(line[2:] for line in lines[1:]), "```"]))
        elif lines:
            blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


if __name__ == "__main__":
    sys.stdout.write(reference())
