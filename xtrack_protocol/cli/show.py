"""``xtrack show``."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import click
import msgspec

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._runs import age_ms, brief_json, examples, find, metric_json, numbers_json, opened, reading
from xtrack_protocol.cli.metrics import NAMES, name_rows
from xtrack_protocol.decode.text import duration_text, escape, free_as_json, ranges_text
from xtrack_protocol.runs import RunState, StreamSummary
from xtrack_protocol.views.cells import error_text

SECTION = "Look"

_LOGS_SHOWN = 10
_LISTED = 20


@click.command(
    "show",
    epilog=examples("xtrack show latest", "xtrack show baseline --json | jq .params", "xtrack show 20240501"),
)
@click.argument("run")
@click.option(
    "--logs", type=click.IntRange(min=0), default=_LOGS_SHOWN, show_default=True, help="Lines of log to show."
)
@reading
def command(run: str, logs: int, store: str | None, as_json: bool) -> None:
    """Show a run: status, params, metrics, artifacts, checkpoints, alerts and the end of its log."""
    with opened(store) as source:
        state = find(source, run)
    if as_json:
        out.as_json(state_json(state, logs))
    elif out.on_terminal():
        _show(state, logs)
    else:
        out.tabbed(out.columns("section", "name", ("value", "json"), ("more", "json")), _flat(state, logs))


def state_json(state: RunState, logs: int = _LOGS_SHOWN) -> dict[str, Any]:
    """Return all of a run's state, as JSON."""
    activity = state.activity
    return {
        **brief_json(state),
        "activity": None
        if activity is None
        else {
            "status": activity.status,
            "message": activity.message,
            "progress": msgspec.to_builtins(activity.progress),
            "at": out.cell_json(activity.timestamp_us, "time"),
            "worker_id": activity.worker_id,
        },
        "error": msgspec.to_builtins(state.error),
        "params": {key: free_as_json(value) for key, value in state.params.items()},
        "metrics": {key: metric_json(metric) for key, metric in state.metrics.items()},
        "summary": numbers_json(state.summary),
        "final_metrics": numbers_json(state.final_metrics),
        "artifacts": [
            {**_event_json(stored.artifact, "meta"), "at": out.cell_json(stored.timestamp_us, "time")}
            for stored in state.artifacts
        ],
        "checkpoints": [
            {
                **_event_json(stored.checkpoint, "meta"),
                "metrics": numbers_json(stored.checkpoint.metrics_snapshot),
                "at": out.cell_json(stored.timestamp_us, "time"),
                "hidden": stored.hidden,
            }
            for stored in state.checkpoints
        ],
        "alerts": [
            {**_event_json(stored.alert), "at": out.cell_json(stored.timestamp_us, "time")} for stored in state.alerts
        ],
        "logs": [
            {**_event_json(record.entry, "fields"), "at": out.cell_json(record.timestamp_us, "time")}
            for record in state.logs[len(state.logs) - min(logs, len(state.logs)) :]
        ],
        "source": msgspec.to_builtins(state.source),
        "environment": msgspec.to_builtins(state.environment),
        "world_size": state.world_size,
        "streams": [_stream_json(stream) for stream in state.streams],
    }


def _event_json(event: msgspec.Struct, free: str | None = None) -> dict[str, Any]:
    """Return an event in wire names without its run id. ``free``: its free slot, if it has one."""
    made: dict[str, Any] = msgspec.to_builtins(event)
    made.pop("run_id", None)
    if free in made:
        made[free] = free_as_json(made[free])
    return made


def _stream_json(stream: StreamSummary) -> dict[str, Any]:
    return {
        "worker_id": stream.stream.worker_id,
        "session_id": stream.stream.session_id,
        "status": stream.status,
        "votes": stream.votes,
        "superseded": stream.superseded,
        "sub": stream.sub,
        "observer": stream.observer,
        "started_at": out.cell_json(stream.started_at_us, "time"),
        "ended_at": out.cell_json(stream.ended_at_us, "time"),
        "events": stream.events,
        "last_seq": stream.last_seq,
        "gaps": [list(gap) for gap in stream.gaps],
        "skipped": [list(gap) for gap in stream.skipped],
        "shipped": [list(gap) for gap in stream.shipped],
        "shipped_to": stream.shipped_to or None,
        "late": stream.late,
        "lost": None if stream.lost is None else {"reason": stream.lost.reason, "detail": stream.lost.detail},
    }


# ------------------------------------------------------------------------------------------ for programs


def _flat(state: RunState, logs: int) -> list[list[Any]]:
    """Return a run as rows of section, name, value and, for metrics, what more there is to say."""
    told = {key: value for key, value in brief_json(state).items() if key != "tags" and value is not None}
    rows: list[list[Any]] = [["run", key, value, ""] for key, value in told.items()]
    if state.error:
        rows.append(["error", state.error.type, state.error.message, ""])
    rows += [["tag", key, value, ""] for key, value in state.tags.items()]
    rows += [["param", key, value, ""] for key, value in state.params.items()]
    for key, metric in state.metrics.items():
        more = f"count={metric.count} step={metric.last.step} min={_exact(metric.min)} max={_exact(metric.max)}"
        if metric.workers:
            last = metric.workers
            more += f" workers={last.count} mean={_exact(last.mean)} low={_exact(last.min)} high={_exact(last.max)}"
        rows.append(["metric", key, metric.last.value, more])
    rows += [["summary", key, value, ""] for key, value in state.summary.items()]
    rows += [["final_metric", key, value, ""] for key, value in state.final_metrics.items()]
    rows += [["artifact", stored.artifact.path, stored.artifact.artifact_type or "", ""] for stored in state.artifacts]
    for stored in state.checkpoints:
        best = "best" if stored.checkpoint.is_best else ""
        rows.append(["checkpoint", stored.checkpoint.path, stored.checkpoint.step, "hidden" if stored.hidden else best])
    rows += [["alert", stored.alert.level, stored.alert.title, stored.alert.text or ""] for stored in state.alerts]
    if logs:
        rows += [["log", record.entry.level, record.entry.message, ""] for record in state.logs[-logs:]]
    for stream in state.streams:
        name = stream.stream.worker_id or stream.stream.session_id
        parts = [_missing("missing", stream.gaps), _missing("dropped", stream.skipped), _shipped(stream)]
        missing = " ".join(filter(None, parts))
        rows.append(["stream", name, stream.status, missing])
    return rows


def _exact(value: float | None) -> str:
    return "" if value is None else out.cell_text(value, "number", exact=True)


def _missing(word: str, ranges: tuple[tuple[int, int], ...]) -> str:
    return f"{word}: {ranges_text(list(ranges))}" if ranges else ""


def _shipped(stream: StreamSummary) -> str:
    return _missing(f"kept by {stream.shipped_to} alone", stream.shipped)


# ------------------------------------------------------------------------------------------ for people


def _show(state: RunState, logs: int) -> None:
    _facts(state)
    if state.error:
        out.line(f"\nError: {escape(error_text(state.error))}")
        for text in (state.error.traceback or "").rstrip().splitlines()[-_LISTED:]:
            out.line(f"  {escape(text)}")
    if state.params:
        out.table(out.columns("param", ("value", "json")), list(state.params.items()))
    if state.metrics:
        out.table(NAMES, name_rows(state))
        rows = _last_of_workers(state)
        if rows:
            out.table(_LAST_OF_WORKERS, rows)
    for title, numbers in (("summary", state.summary), ("final metric", state.final_metrics)):
        if numbers:
            out.table(out.columns(title, ("value", "number")), list(numbers.items()))
    _files(state)
    if state.alerts:
        rows = [
            [stored.timestamp_us, stored.alert.level, stored.alert.title, stored.alert.text] for stored in state.alerts
        ]
        out.table(out.columns(("alert at", "time"), ("level", "status"), "title", "text"), rows[-_LISTED:])
    if logs and state.logs:
        entries = [(record.timestamp_us, record.entry.level, record.entry.message) for record in state.logs[-logs:]]
        out.table(out.columns(("log at", "time"), ("level", "status"), "message"), entries)


_LAST_OF_WORKERS = out.columns(
    "last of each worker", ("workers", "number"), ("mean", "number"), ("lowest", "number"), ("highest", "number")
)


def _last_of_workers(state: RunState) -> list[list[Any]]:
    """Return a row for each metric that several workers log: what the last values of all of them add up to."""
    found = [(key, metric.workers) for key, metric in state.metrics.items() if metric.workers]
    return [[key, last.count + last.nan_count, last.mean, last.min, last.max] for key, last in found]


def _facts(state: RunState) -> None:
    from rich.console import Console
    from rich.text import Text

    now_us = time.time_ns() // 1000
    console = Console(highlight=False)
    style = out.COLOURS.get(state.status, "")
    head = Text.assemble((escape(state.name or state.run_id), "bold"), "  ", (state.status, style))
    console.print(head)
    activity = state.activity
    facts: list[tuple[str, str]] = [("run", state.run_id)]
    if state.experiment_id:
        facts.append(("experiment", state.experiment_id))
    if state.parent_run_id:
        facts.append(("parent", state.parent_run_id))
    if state.started_at_us is not None:
        facts.append(("started", out.cell_text(state.started_at_us, "time", exact=False)))
    took = age_ms(state, now_us)
    if took is not None:
        facts.append(("duration", duration_text(took)))
    if activity and state.status == "running":
        facts.append(("doing", activity.status + (f": {activity.message}" if activity.message else "")))
        if activity.progress and activity.progress.current is not None:
            total = "" if activity.progress.total is None else f" of {activity.progress.total}"
            facts.append(("progress", f"{activity.progress.current}{total} {activity.progress.unit or ''}"))
    facts += [("tag", f"{key} = {value}") for key, value in state.tags.items()]
    if state.note:
        facts.append(("note", state.note))
    if state.source and state.source.entrypoint:
        facts.append(("command", state.source.entrypoint))
    if state.source and state.source.git_commit:
        facts.append(
            (
                "commit",
                state.source.git_commit[:12] + (f" on {state.source.git_branch}" if state.source.git_branch else ""),
            )
        )
    if state.environment and state.environment.hostname:
        python = state.environment.python_version
        facts.append(("machine", state.environment.hostname + (f", Python {python}" if python else "")))
    facts.append(("events", str(state.events)))
    facts += _stream_facts(state)
    for name, value in facts:
        console.print(Text(f"  {name:<11}{escape(value)}"), no_wrap=True, overflow="ellipsis", crop=True)


def _stream_facts(state: RunState) -> list[tuple[str, str]]:
    facts = []
    if state.lost_events:
        facts.append(("LOST", f"{state.lost_events} events"))
    workers = [stream for stream in state.streams if not stream.observer and stream.votes]
    if len(workers) > 1 or state.world_size:
        size = f" of {state.world_size}" if state.world_size else ""
        told = Counter(stream.status for stream in workers)
        statuses = ", ".join(f"{count} {status}" for status, count in told.most_common())
        facts.append(("workers", f"{len({stream.stream.worker_id for stream in workers})}{size}: {statuses}"))
    troubled = []
    for stream in state.streams:
        name = stream.stream.worker_id or f"session {stream.stream.session_id[:12]}"
        parts = [_missing("missing seqs", stream.gaps), _missing("dropped seqs", stream.skipped), _shipped(stream)]
        parts.append(f"{stream.late} events after its end" if stream.late else "")
        parts.append(f"{stream.lost.reason}: {stream.lost.detail}" if stream.lost else "")
        if any(parts):
            troubled.append(("  worker", f"{name}: {'; '.join(filter(None, parts))}"))
    facts += troubled[:_LISTED]
    if len(troubled) > _LISTED:
        facts.append(("", f"and {len(troubled) - _LISTED} more workers like these: --json has them all"))
    return facts


def _files(state: RunState) -> None:
    if state.checkpoints:
        rows = [
            [
                stored.checkpoint.step,
                stored.checkpoint.epoch,
                "best" if stored.checkpoint.is_best else ("hidden" if stored.hidden else ""),
                stored.checkpoint.path,
            ]
            for stored in state.checkpoints[-_LISTED:]
        ]
        out.table(out.columns(("checkpoint at", "number"), ("epoch", "number"), "", "path"), rows)
    if state.artifacts:
        rows = [
            [stored.artifact.name, stored.artifact.artifact_type, stored.artifact.size_bytes, stored.artifact.path]
            for stored in state.artifacts[-_LISTED:]
        ]
        out.table(out.columns("artifact", "type", ("bytes", "number"), "path"), rows)
