"""``report``: show a report again, in other forms; and the options by which ``run`` does so at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from xtrack_conformance.report import Report, ReportError, read_report
from xtrack_conformance.reports.badge import as_endpoint, as_svg
from xtrack_conformance.reports.html import as_html
from xtrack_conformance.reports.junit import as_junit
from xtrack_conformance.reports.markdown import as_markdown
from xtrack_conformance.reports.text import summary
from xtrack_conformance.verbs import Context, UsageError, Verb


def check_files(arguments: argparse.Namespace) -> None:
    """Raise UsageError for a file to write that has no folder, before minutes are spent on what is to stand in it."""
    for name in ("report", "html", "markdown", "junit", "badge"):
        path: Path | None = getattr(arguments, name)
        if path and not path.parent.is_dir():
            raise UsageError(f"--{name} {path}: there is no folder {path.parent}")


def add_forms(parser: argparse.ArgumentParser) -> None:
    """Add the options that name files to write."""
    for name, what in (
        ("html", "write one page for people, which needs nothing beside itself"),
        ("markdown", "write a summary as Markdown"),
        ("junit", "write JUnit XML for a CI system"),
        ("badge", "write a badge as SVG, or for a name that ends in .json what shields.io makes one of"),
    ):
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=what)


def write_forms(report: Report, arguments: argparse.Namespace) -> None:
    """Write the files that the options name."""
    badge = as_endpoint if arguments.badge and arguments.badge.suffix == ".json" else as_svg
    forms: dict[str, Callable[[Report], str]] = {
        "html": as_html, "markdown": as_markdown, "junit": as_junit, "badge": badge,
    }  # fmt: skip
    for name, form in forms.items():
        path: Path | None = getattr(arguments, name)
        if path:
            path.write_text(form(report), encoding="utf-8", newline="\n")


def show(lines: Iterator[str]) -> None:
    """Write lines to stdout; what its encoding doesn't have, as escapes."""
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines:
        sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stdout.flush()


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="REPORT", help="what run --report has written")
    add_forms(parser)
    parser.add_argument("--failures", type=int, default=20, metavar="N", help="failures shown in full (20)")


def _report(context: Context) -> int:
    arguments = context.arguments
    try:
        report = read_report(arguments.file.read_text(encoding="utf-8"))
    except (ReportError, UnicodeDecodeError) as error:
        raise UsageError(f"{arguments.file}: {error}") from error
    write_forms(report, arguments)
    show(summary(report, arguments.failures))
    return 0


VERBS = (Verb("report", "show a report again, and write it in other forms", _options, _report, "REPORT [OPTIONS]"),)
