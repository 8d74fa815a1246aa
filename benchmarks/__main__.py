"""``python -m benchmarks``, from the project's root.

Exit status: 0 when every case ran, whatever its figures; 1 when one has failed; 2 for wrong usage. ``--strict``: 1 also
where a goal is not met.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import machine, report
from benchmarks.harness import CaseResult, chosen, load_cases
from benchmarks.running import run_case


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure the library beside bare loops that do the same work."
    )
    add = options.add_argument
    add("--quick", action="store_true", help="fewer events: less than two minutes")
    add("--only", metavar="CASES", default="", help="some cases, or groups of them: P1,P4.ingest")
    add("--list", action="store_true", help="list the cases, and do nothing")
    add("--module", action="append", default=[], metavar="NAME", help="a module with cases of your own, on sys.path")
    add(
        "--peers",
        nargs="?",
        const="all",
        metavar="NAMES",
        help="measure other trackers, all or these; the cases, too, only where --only names them",
    )
    add("--envs", type=Path, metavar="DIR", help="where the environments of the other trackers are kept")
    add(
        "--dir", type=Path, metavar="DIR", help="where files are written meanwhile; default: the system's temporary one"
    )
    add("--json", type=Path, metavar="FILE", help="write the figures, and what they were measured on, as JSON")
    add("--markdown", type=Path, metavar="FILE", help="write them as tables")
    add("--strict", action="store_true", help="exit with 1 where a goal isn't met, too")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = _options()
    given = options.parse_args(arguments)
    if given.list:
        for name, case in load_cases(given.module).items():
            print(f"{name}{'  (only by name)' if case.optional else ''}")
        return 0
    try:
        cases = chosen([name.strip() for name in given.only.split(",") if name.strip()], given.module)
    except ValueError as error:
        options.error(str(error))
    if given.peers and not given.only:
        cases = []
    begin = time.monotonic()
    results: list[CaseResult] = []
    peers = []
    with tempfile.TemporaryDirectory(prefix="xtrack-bench-", dir=given.dir) as name:
        folder = Path(name)
        conditions = machine.conditions(folder, quick=given.quick)
        print(report.conditions_text(conditions), flush=True)
        for case in cases:
            results.append(run_case(case, folder, quick=given.quick, modules=given.module))
            print("\n".join(report.lines(results[-1])), flush=True)
        if given.peers:
            from benchmarks.peers import run_peers

            names = None if given.peers == "all" else given.peers.split(",")
            try:
                peers = run_peers(names, folder, given.envs, quick=given.quick)
            except ValueError as error:
                options.error(str(error))
            print("\n".join(report.peers_table(peers)))
    if given.json:
        given.json.write_text(report.as_json(conditions, results, peers), encoding="utf-8")
    if given.markdown:
        given.markdown.write_text(report.as_markdown(conditions, results, peers), encoding="utf-8")
    figures = [one for result in results for one in result.figures if one.goal]
    met = sum(one.verdict == "met" for one in figures)
    failed = [result.case for result in results if result.error]
    print(
        f"{met} of {len(figures)} goals met, {len(failed)} of {len(results)} cases failed, "
        f"in {time.monotonic() - begin:.0f} s"
    )
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed or (given.strict and met < len(figures)) else 0


if __name__ == "__main__":
    sys.exit(main())
