"""What was found, for people on a terminal, for programs, and for the documentation."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from benchmarks.harness import CaseResult, Figure, at_least


def number(value: float | None) -> str:
    """Return a value with three digits that count, or all that stand before the point."""
    if value is None:
        return "-"
    if isinstance(value, int) or value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}" if abs(value) >= 0.01 else f"{value:.2g}"


def line(figure: Figure) -> str:
    goal = f"{figure.goal}" if figure.goal else ""
    note = f"  ({figure.note})" if figure.note else ""
    told = f"  {figure.name:<76} {number(figure.value):>12} {figure.unit:<9} {goal:>8}  {figure.verdict}"
    return told.rstrip() + note


def lines(result: CaseResult) -> Iterable[str]:
    peak = f", at most {result.peak_mib:.0f} MiB" if result.peak_mib else ""
    yield f"{result.case}  ({result.seconds:.1f} s{peak})"
    yield from map(line, result.figures)
    if result.error:
        yield f"  FAILED: {result.error}"


def as_json(conditions: dict[str, Any], results: list[CaseResult], peers: list[dict[str, Any]]) -> str:
    cases = [
        {
            "case": result.case,
            "seconds": round(result.seconds, 3),
            "peak_mib": result.peak_mib,
            "error": result.error,
            "figures": [
                {
                    "name": one.name,
                    "value": one.value,
                    "unit": one.unit,
                    "goal": str(one.goal) if one.goal else None,
                    "verdict": one.verdict or None,
                    "note": one.note,
                }
                for one in result.figures
            ],
        }
        for result in results
    ]
    return json.dumps({"conditions": conditions, "cases": cases, "peers": peers}, indent=1) + "\n"


def conditions_text(conditions: dict[str, Any]) -> str:
    return (
        f"{conditions['cpu']}, {conditions['cores']} cores; {conditions['system']}, {conditions['file_system']}; "
        f"{conditions['implementation']} {conditions['python']}, msgspec {conditions['msgspec']}, "
        f"SQLite {conditions['sqlite']}; {conditions['date']}{', a quick run' if conditions['quick'] else ''}"
    )


def as_markdown(conditions: dict[str, Any], results: list[CaseResult], peers: list[dict[str, Any]]) -> str:
    """Return tables for a page. Absolute figures without a goal are in them as well."""
    made = [f"{conditions_text(conditions)}.", ""]
    if results:
        made += ["| Case | Figure | Measured | Goal | |", "|---|---|---|---|---|"]
    for result in results:
        for one in result.figures:
            name = one.name + (f" ({one.note})" if one.note else "")
            goal = f"{one.goal}" if one.goal else ""
            cells = (result.case, name, f"{number(one.value)} {one.unit}".strip(), goal, one.verdict)
            made.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        if result.error:
            made.append(f"| {result.case} | failed: {result.error.replace('|', ' ')} | | | |")
    if peers:
        made += ["", *peers_table(peers)]
    return "\n".join(made) + "\n"


PEER_COLUMNS = {
    "p50_us": "p50 us a scalar",
    "p99_us": "p99 us",
    "ten_us": "10 values, p50 us",
    "rate": "scalars/s until close",
    "bytes": "bytes a scalar",
    "import_ms": "import ms",
    "megabytes": "site-packages MB",
    "distributions": "distributions",
    "kept": "kept of 200 after SIGKILL",
}


def fastest_peer(peers: list[dict[str, Any]]) -> Figure | None:
    """Return how much longer a call of the fastest other tracker takes than ours; None without both."""
    calls = {peer["name"]: peer["p50_us"] for peer in peers if peer.get("p50_us")}
    ours = calls.pop("xtrack", None)
    if ours is None or not calls:
        return None
    name = min(calls, key=lambda one: calls[one])
    return Figure("p50 of the fastest other tracker / ours", calls[name] / ours, "x", at_least(3), name)


def peers_table(peers: list[dict[str, Any]]) -> Iterable[str]:
    yield "| | " + " | ".join(PEER_COLUMNS.values()) + " |"
    yield "|---|" + "---|" * len(PEER_COLUMNS)
    for peer in peers:
        name = f"{peer['name']} {peer['version']}".strip()
        cells = [number(peer.get(key)) for key in PEER_COLUMNS]
        yield f"| {name} | " + " | ".join(cells) + " |"
    fastest = fastest_peer(peers)
    if fastest:
        yield f"\n{fastest.name} ({fastest.note}): {number(fastest.value)}, goal {fastest.goal}: {fastest.verdict}"
    for peer in peers:
        if peer["error"]:
            yield f"\n{peer['name']}: {peer['error']}"
