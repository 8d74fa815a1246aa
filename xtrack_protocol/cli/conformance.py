"""``xtrack conformance``: the suite of the package ``xtrack_conformance``, which parses its own command line."""

from __future__ import annotations

import click

from xtrack_protocol.cli._runs import examples

SECTION = "Upkeep"


@click.command(
    "conformance",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []},
    epilog=examples(
        "xtrack conformance smoke -- ./my-testee",
        "xtrack conformance run --report report.json --html report.html -- node testee.mjs",
        "xtrack conformance matrix -- ./my-testee -- node testee.mjs",
        "xtrack conformance list --role decoder",
    ),
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="VERB [OPTIONS] [-- COMMAND...]")
@click.pass_context
def command(ctx: click.Context, words: tuple[str, ...]) -> int:
    """Judge an implementation of the protocol, in any language, clause by clause.

    VERB is one of these; each has a --help. COMMAND starts a testee, which answers for the implementation.

    \b
    init     write the skeleton of a testee
    smoke    ask ten trivial cases
    run      ask all cases of its roles, and judge it
    report   show a report again, as a page, Markdown, JUnit or a badge
    matrix   have every encoder's frames read by every decoder
    list     list the cases
    export   write the cases as vectors for other test suites
    fuzz     look for inputs at which a testee does what it must not
    promote  draft a case from what fuzz has found

    Exit status 0 as expected, 1 not conformant, 2 wrong usage or a broken testee, 3 incomplete.
    """
    if not words or words[0] in {"--help", "-h"}:
        click.echo(ctx.get_help())
        return 0
    from xtrack_conformance.cli import main

    return main(words, program="xtrack conformance")
