"""``run`` and ``smoke``: ask a testee, and judge it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import attrs

from xtrack_conformance.cases import SMOKE, load_cases
from xtrack_conformance.report import make_report, read_baseline
from xtrack_conformance.reports.text import summary
from xtrack_conformance.runner import Runner
from xtrack_conformance.verbs import Context, Verb, add_asking, add_selection, add_testee, selection
from xtrack_conformance.verbs.report import add_forms, check_files, show, write_forms


def _options(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)
    add_asking(parser)
    add_testee(parser)
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="failures that are known, each with its reason")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the report as JSON")
    add_forms(parser)
    parser.add_argument("--failures", type=int, default=20, metavar="N", help="failures shown in full (20)")


def _run(context: Context) -> int:
    arguments = context.arguments
    chosen = selection(arguments)
    if arguments.verb == "smoke":
        cases = tuple(case for case in chosen.cases if case.id in SMOKE)
        chosen = attrs.evolve(chosen, cases=cases, only=("smoke", *chosen.only))
    baseline = None
    if arguments.baseline:
        baseline = read_baseline(arguments.baseline.read_text(encoding="utf-8"), load_cases())
    check_files(arguments)
    started = time.monotonic()
    runner = Runner(context.command, timeout=arguments.timeout, in_flight=arguments.in_flight)
    try:
        hello = runner.start()
        results = runner.run(chosen.cases)
    finally:
        runner.kill()
    report = make_report(
        hello=hello,
        command=context.command,
        cases=chosen.cases,
        results=results,
        problems=runner.problems,
        seconds=time.monotonic() - started,
        baseline=baseline,
        replay=[*context.program.split(), "run"],
        requirements=chosen.requirements,
        only=chosen.only,
    )
    show(summary(report, arguments.failures))  # first: where a file can't be written, the verdict isn't lost
    if arguments.report:
        arguments.report.write_text(report.as_json(), encoding="utf-8")
    write_forms(report, arguments)
    return report.exit_status


_WORDS = "[OPTIONS] -- COMMAND [ARGUMENT ...]"
VERBS = (
    Verb("run", "ask a testee all cases of its roles, and judge it", _options, _run, _WORDS, needs_command=True),
    Verb(
        "smoke",
        "ask ten trivial cases: is it the testee or the implementation?",
        _options,
        _run,
        _WORDS,
        needs_command=True,
    ),
)
