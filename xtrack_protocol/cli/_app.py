"""The group that finds the verbs, and what becomes of their errors."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from xtrack_protocol.decode.streams import BROKEN_PIPE, silence
from xtrack_protocol.decode.text import escape
from xtrack_protocol.errors import ConfigurationError, XTrackError

FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130
"""128 + SIGINT, as shells have it."""

SECTIONS: Final = ("Track", "Look", "Change", "Files", "Upkeep")
"""The parts of the help, in order. A verb of any other stands after them."""


class VerbGroup(click.Group):
    """Finds its verbs among the modules of a package. An error is one line on stderr, and never a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        import xtrack_protocol.cli as package

        names = (module.name for module in pkgutil.iter_modules(package.__path__))
        return sorted(name.replace("_", "-") for name in names if not name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        return _command_of(_module_of(cmd_name))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        verbs = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in verbs:
            from difflib import get_close_matches

            near = get_close_matches(args[0], verbs, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"no verb {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {name: [] for name in SECTIONS}
        for name in self.list_commands(ctx):
            module = _module_of(name)
            row = (name, _command_of(module).get_short_help_str(limit=80))
            sections.setdefault(str(getattr(module, "SECTION", "More")), []).append(row)
        for title, rows in sections.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            silence(sys.stdout)
            raise click.exceptions.Exit(BROKEN_PIPE) from None
        return result

    def main(  # type: ignore[override]  # click's overloads say which values of standalone_mode return
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> Any:
        extra["standalone_mode"] = False
        try:
            result = super().main(args, prog_name=prog_name or "xtrack", **extra)
        except KeyboardInterrupt:
            raise SystemExit(INTERRUPTED) from None
        except Exception as error:
            if os.environ.get("XTRACK_DEBUG") == "1":
                raise
            raise SystemExit(_tell(error)) from None
        raise SystemExit(result if isinstance(result, int) else 0)


def _module_of(verb: str) -> Any:
    return importlib.import_module(f"xtrack_protocol.cli.{verb.replace('-', '_')}")


def _command_of(module: Any) -> click.Command:
    command: click.Command = module.command
    return command


def _tell(error: Exception) -> int:
    """Say in one line what went wrong and what to do; return the exit status."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, click.Abort):
        _say("xtrack: interrupted")
        return INTERRUPTED
    if isinstance(error, click.UsageError):
        if error.ctx and type(error).__name__ == "NoArgsIsHelpError":  # which click has from 8.2 on
            click.echo(error.ctx.get_help())
            return 0
        path = error.ctx.command_path if error.ctx else "xtrack"
        message = escape(error.format_message())
        _say(f"{path}: {message if message.endswith(('.', '?')) else f'{message}.'} `{path} --help` shows the usage")
        status = getattr(error.ctx.command, "usage_status", USAGE) if error.ctx else USAGE
        return int(status)
    if isinstance(error, click.ClickException):
        _say(f"xtrack: error: {escape(error.format_message())}")
        return error.exit_code
    if isinstance(error, XTrackError):
        _say(f"xtrack: error: {escape(str(error))}")
        return USAGE if isinstance(error, ConfigurationError) else FAILED
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        _say(f"xtrack: error: {escape(where + error.strerror)}")
        return FAILED
    _say(f"xtrack: internal error: {escape(f'{type(error).__name__}: {error}')}. XTRACK_DEBUG=1 shows where")
    return FAILED


def _say(text: str) -> None:
    sys.stdout.flush()
    click.echo(text, err=True)


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from xtrack_protocol import PROTOCOL_VERSION, __version__

        click.echo(f"xtrack {__version__}, protocol {PROTOCOL_VERSION}, Python {sys.version.split()[0]}")
        ctx.exit()


@click.group(
    "xtrack",
    cls=VerbGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="RUN is a run's id, the start of one, its name (the newest so named), or `latest`. `xtrack VERB --help` has "
    "examples. XTRACK_DEBUG=1 shows where an error comes from.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit."
)
def app() -> None:
    """Track training runs, and look at what was tracked."""


def run(argv: Sequence[str] | None = None) -> int:
    """Run a command line; return the exit status."""
    try:
        app.main(argv)
    except SystemExit as done:
        code = done.code
        return code if isinstance(code, int) else 0
    return 0
