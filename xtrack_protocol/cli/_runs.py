"""What verbs about runs have in common: the store they read, the run that is meant, and how a run is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from xtrack_protocol.cli._output import Kind, cell_json, value_text
from xtrack_protocol.decode.meant import did_you_mean, near
from xtrack_protocol.errors import ConfigurationError, RunNotFound
from xtrack_protocol.runs import MetricSummary, RunState

if TYPE_CHECKING:
    from pathlib import Path

    from xtrack_protocol.storage import Storage

_Callback = TypeVar("_Callback", bound=Callable[..., Any])

LIVE: Final = frozenset({"pending", "running"})
_LOOKED_AT: Final = 1000
"""Newest runs among whose names one is looked for that was meant."""


def examples(*commands: str) -> str:
    """Return the end of a verb's help."""
    return "\b\nExamples:\n" + "\n".join(f"  {command}" for command in commands)


def store_option(callback: _Callback) -> _Callback:
    """Add --store."""
    return click.option(
        "--store",
        metavar="URL",
        help="The store: local: (the spools under XTRACK_DIR), local:/DIR, or sqlite:///FILE. Default: XTRACK_STORE, "
        "else local:.",
    )(callback)


def json_option(callback: _Callback) -> _Callback:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON.")(callback)


def reading(callback: _Callback) -> _Callback:
    """Add what every verb takes that reads a store."""
    return store_option(json_option(callback))


def store_url(given: str | None) -> str:
    """Return the URL of the store that is meant."""
    from xtrack_protocol.settings import load_settings
    from xtrack_protocol.storage.open import default_store_url

    default = default_store_url(load_settings())
    return given or default


@contextmanager
def opened(given: str | None, *, writing: bool = False, new: bool = False) -> Iterator[Storage]:
    """Open the store that is meant, for a block: one that is there, or, with ``new``, make it.

    ``writing``: not for reading only. A RunNotFound of the block tells which run may have been meant.
    """
    from xtrack_protocol.storage import open_store

    url = store_url(given)
    if url.startswith("memory:"):
        raise ConfigurationError("store", url, "a store in memory is gone with its process", "Name one that is kept")
    if not new:
        with open_store(url, read_only=True) as store:
            root = local_root(store)
            if not writing or (root is not None and not root.exists()):  # no run to write to, no folder to make for it
                with _suggesting(store):
                    yield store
                return
    with open_store(url) as store, _suggesting(store):
        yield store


@contextmanager
def _suggesting(store: Storage) -> Iterator[None]:
    try:
        yield
    except RunNotFound as error:
        states = store.list_runs(_LOOKED_AT)
        if not states:
            raise RunNotFound(error.run, f"There are no runs yet in {store.url}") from None
        names = [*dict.fromkeys(name for state in states for name in (state.name, state.run_id) if name)]
        close = near(error.run, names)
        if not close:
            raise
        raise RunNotFound(error.run, f"{did_you_mean(close)} {error.cure}") from None


def local_root(store: Storage) -> Path | None:
    """Return the folder of a local store; None for any other."""
    from xtrack_protocol.storage.local import LocalStore

    return store.root if isinstance(store, LocalStore) else None


def is_live(store: Storage, state: RunState) -> bool:
    """Whether somebody may still write to the run: a process holds one of its locks, or else, by its status."""
    root = local_root(store)
    if root is None:
        return state.status in LIVE
    from xtrack_protocol.collector.localruns import LAUNCH_LOCK, is_running
    from xtrack_protocol.spool import SpoolDir, is_locked

    run_dir = SpoolDir(root).run_dir(state.run_id)
    return is_running(run_dir) or is_locked(run_dir / LAUNCH_LOCK) is True


def find(store: Storage, ref: str) -> RunState:
    """Return the run that ``ref`` means. Raises RunNotFound or AmbiguousRun."""
    return store.get_run(store.find_run(ref))


def find_all(store: Storage, refs: Sequence[str]) -> list[RunState]:
    """Return the runs that ``refs`` mean; ``*`` and ``?`` in one that is no run's are any text of a name.

    Raises RunNotFound or AmbiguousRun.
    """
    from xtrack_protocol.storage.base import RunQuery

    states: list[RunState] = []
    for ref in refs:
        try:
            states.append(find(store, ref))
        except RunNotFound:
            found = store.search_runs(RunQuery(name=ref, order="started")) if "*" in ref or "?" in ref else []
            if not found:
                raise
            known = {state.run_id for state in states}
            states += [state for state in found if state.run_id not in known]
    return states


def run_titles(states: Sequence[RunState]) -> list[str]:
    """Return what runs are called beside one another: the name, or where others have the same, or none, the id."""
    names = Counter(state.name or state.run_id for state in states)
    return [state.name if state.name and names[state.name] == 1 else state.run_id for state in states]


def parse_pairs(pairs: tuple[str, ...], what: str) -> dict[str, str]:
    """Return ``k=v`` arguments as a dict. Raises click.BadParameter."""
    result = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{pair!r} is no {what}: write name=value")
        result[key] = value
    return result


# ------------------------------------------------------------------------------------------ how a run is told


def brief_json(state: RunState) -> dict[str, Any]:
    """Return what lists tell of a run, as JSON."""
    return {
        "run_id": state.run_id,
        "name": state.name,
        "status": state.status,
        "experiment_id": state.experiment_id,
        "parent_run_id": state.parent_run_id,
        "started_at": cell_json(state.started_at_us, "time"),
        "ended_at": cell_json(state.ended_at_us, "time"),
        "updated_at": cell_json(state.updated_at_us, "time"),
        "duration_ms": state.duration_ms,
        "events": state.events,
        "lost_events": state.lost_events,
        "tags": dict(state.tags),
        "note": state.note,
    }


def metric_json(metric: MetricSummary) -> dict[str, Any]:
    """Return a metric in short, as JSON."""
    made: dict[str, Any] = {
        "count": metric.count,
        "nan_count": metric.nan_count,
        "last": cell_json(metric.last.value, "number"),
        "last_step": metric.last.step,
        "min": cell_json(metric.min, "number"),
        "max": cell_json(metric.max, "number"),
    }
    if metric.workers is not None:
        made["workers"] = {
            "count": metric.workers.count,
            "nan_count": metric.workers.nan_count,
            **numbers_json({"mean": metric.workers.mean, "min": metric.workers.min, "max": metric.workers.max}),
        }
    return made


def metric_order(keys: Iterable[str]) -> list[str]:
    """Return names of metrics, each once, by the alphabet; those of the system last."""
    return sorted({*keys}, key=lambda key: (key.startswith("system/"), key))


def value_kind(values: Sequence[object]) -> Kind:
    """Return how a column of values is written in which an empty text stands for none: numbers are aligned."""
    told = [value for value in values if value != ""]
    are_numbers = told and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in told)
    return "number" if are_numbers else "json"


def numbers_json(values: Any) -> dict[str, Any]:
    """Return numbers by name, as JSON."""
    return {key: cell_json(value, "number") for key, value in values.items()}


def tags_text(state: RunState) -> str:
    """Return a run's tags on one line."""
    return " ".join(f"{value_text(key)}={value_text(value)}" for key, value in state.tags.items())


def latest_metrics(state: RunState, most: int = 2) -> list[tuple[str, MetricSummary]]:
    """Return the metrics written last, the latest first."""
    return sorted(state.metrics.items(), key=lambda item: (-item[1].last.timestamp_us, item[0]))[:most]


def seconds_between(state: RunState, now_us: int) -> float | None:
    """Return how long a run has been going on, or took."""
    if state.duration_ms is not None:
        return state.duration_ms / 1000
    if state.started_at_us is None:
        return None
    return max(0, (state.ended_at_us or now_us) - state.started_at_us) / 1e6


def age_ms(state: RunState, now_us: int) -> int | None:
    """Return a run's duration so far in milliseconds."""
    seconds = seconds_between(state, now_us)
    return None if seconds is None else int(seconds * 1000)


def annotated(
    store: Storage, ref: str, *, tags: dict[str, str] | None = None, name: str | None = None, note: str | None = None
) -> RunState:
    """Tag, rename or note the run that ``ref`` means; return its state."""
    for text in (*(tags or {}), *(tags or {}).values(), name or "", note or ""):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise click.BadParameter(f"{text!r} is no valid UTF-8") from None
    return store.annotate(store.find_run(ref), tags=tags, name=name, note=note)
