"""Mutants of the collector: the reference with a line of its source changed. ``*.edits`` here have the lines."""

from __future__ import annotations

from edited import edited, read_edits
from tools import Mutation

_STORE = ("storage.answers", "storage.memory", "storage")
_FOLD = ("runs.resolve", "runs.reducer", "runs", *_STORE)

DEPENDENTS = {
    "collector/collector.py": ("collector.collector", "collector"),
    "session/streams.py": ("session.streams", "session", "collector.collector", "collector"),
    "runs/resolve.py": _FOLD,
    "runs/reducer.py": _FOLD,
    "runs/facts.py": ("runs.facts", *_FOLD),
    "runs/aggregate.py": ("runs.aggregate", *_FOLD, "storage.base"),
    "storage/base.py": (*_FOLD, "storage.base"),
    "storage/memory.py": _STORE,
    "storage/answers.py": _STORE,
}
"""Of each file that is edited the modules that are loaded anew: itself, and who uses what is in it."""

MUTANTS: dict[str, Mutation] = {
    name: edited("collect", "as_collector", DEPENDENTS, edits)
    for file in ("collector_streams", "collector_fold", "collector_votes", "collector_meanings")
    for name, edits in read_edits(file).items()
}
"""What a collector makes of events."""
