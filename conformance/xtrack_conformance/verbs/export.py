"""``export``: the cases as vectors for test suites that read files."""

from __future__ import annotations

import argparse
from pathlib import Path

from xtrack_conformance.vectors import ExportError, export_files, write_export
from xtrack_conformance.verbs import Context, UsageError, Verb, add_selection, selection
from xtrack_conformance.verbs.report import show


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder, or an earlier export")
    add_selection(parser)
    parser.add_argument(
        "--format",
        choices=("json", "files"),
        default="json",
        help="json: a file for each role. files: two for each case, its bytes and what is expected",
    )


def _export(context: Context) -> int:
    arguments = context.arguments
    chosen = selection(arguments)
    files = export_files(chosen.requirements, chosen.cases, arguments.format)
    try:
        write_export(arguments.out, files)
    except ExportError as error:
        raise UsageError(str(error)) from error
    show(iter([f"{len(chosen.cases)} vectors, {len(files)} files in {arguments.out}; README.md there explains them"]))
    return 0


VERBS = (Verb("export", "write the cases as vectors for other test suites", _options, _export, "--out DIR [OPTIONS]"),)
