"""The words that cases of the role collector are written in: workers that say something, and what is asked then."""

from __future__ import annotations

from typing import Any

from generate.dsl import Group, Json, event

NAN: Json = {"$float": "NaN"}
INFINITE: Json = {"$float": "Infinity"}


class Worker:
    """One session of a worker: each call returns an event, with the next seq and a later time.

    ``sid`` None: a worker of before, which sends none. ``at``: the time of seq 0; seq ``n`` is ``10 n`` later.
    """

    def __init__(self, sid: str | None = "s", *, wid: str = "", at: int = 1000, run: str = "a") -> None:
        self.sid = sid
        self.wid = wid
        self.at = at
        self.run = run
        self.seq = 0

    def event(self, event_type: str, body: Json, *, seq: int | None = None, ts: int | None = None) -> Json:
        """Return an event of any type."""
        self.seq = self.seq + 1 if seq is None else seq
        meta: Json = {"wid": self.wid} if self.wid else {}
        if self.sid is not None:
            meta["sid"] = self.sid
        when = self.at + 10 * self.seq if ts is None else ts
        return event(event_type, {"run_id": self.run, **body}, seq=self.seq, ts=when, **meta)

    def start(self, *, seq: int | None = None, ts: int | None = None, **body: Any) -> Json:
        """Return a run_start. Its run id may be given as ``run_id``."""
        return self.event("run_start", body, seq=seq, ts=ts)

    def end(self, status: str = "completed", *, seq: int | None = None, ts: int | None = None, **body: Any) -> Json:
        """Return a run_end."""
        return self.event("run_end", {"status": status, **body}, seq=seq, ts=ts)

    def metric(
        self, value: Any = 0.5, *, key: str = "k", seq: int | None = None, ts: int | None = None, **body: Any
    ) -> Json:
        """Return a metric."""
        return self.event("metric", {"key": key, "value": value, **body}, seq=seq, ts=ts)

    def param(self, value: Any, *, key: str = "p", seq: int | None = None, ts: int | None = None, **body: Any) -> Json:
        """Return a param."""
        return self.event("param", {"key": key, "value": value, **body}, seq=seq, ts=ts)

    def tags(self, *, seq: int | None = None, ts: int | None = None, **tags: str) -> Json:
        """Return a tags."""
        return self.event("tags", {"tags": tags}, seq=seq, ts=ts)

    def summary(self, *, seq: int | None = None, ts: int | None = None, **values: Any) -> Json:
        """Return a summary."""
        return self.event("summary", {"values": values}, seq=seq, ts=ts)

    def log(self, msg: str = "x", *, seq: int | None = None, ts: int | None = None, **body: Any) -> Json:
        """Return a log line."""
        return self.event("log", {"level": "info", "msg": msg, **body}, seq=seq, ts=ts)

    def checkpoint(self, step: int, *, seq: int | None = None, ts: int | None = None, **body: Any) -> Json:
        """Return a checkpoint."""
        return self.event("checkpoint", {"step": step, "path": f"{step}.pt", **body}, seq=seq, ts=ts)

    def says(self, status: str, *, seq: int | None = None, ts: int | None = None, **body: Any) -> Json:
        """Return a status."""
        return self.event("status", {"status": status, **body}, seq=seq, ts=ts)

    def lost(self, reason: str, at: int, after_seq: int) -> Json:
        """Return the step that reports this session as lost."""
        sid = f"legacy-{self.at + 10}" if self.sid is None else self.sid
        names = {"run_id": self.run, "wid": self.wid, "sid": sid}
        return {"do": "lost", **names, "at": at, "reason": reason, "after_seq": after_seq}


def skip(first: int, last: int, sid: str = "s", *, run: str = "a", **more: Any) -> Json:
    """Return the control event that declares a loss."""
    return event("skip", {"run_id": run, "sid": sid, "from": first, "to": last, **more}, seq=0, ts=5)


def feed(*events: Json, source: str = "", kind: str = "") -> Json:
    """Return a step that feeds events."""
    more = {name: value for name, value in (("source", source), ("kind", kind)) if value}
    return {"do": "feed", **more, "events": list(events)}


def text(payload: str) -> Json:
    """Return an event of which the text counts."""
    return {"text": payload}


def expect(run: str = "a") -> Json:
    """Return the step that tells a collector to expect a run."""
    return {"do": "expect", "run_id": run}


def delete(run: str = "a") -> Json:
    """Return the step that deletes a run."""
    return {"do": "delete", "run_id": run}


def run(of: str = "a", **state: Any) -> Json:
    """Return a question about a run, and what of its state is expected."""
    return {"do": "run", "run_id": of, "is": state}


def points(*are: Json, key: str = "k", of: str = "a", hidden: list[Json] | None = None) -> Json:
    """Return a question about a series, and the points that are expected."""
    more = {} if hidden is None else {"hidden": hidden}
    return {"do": "points", "run_id": of, "key": key, "are": list(are), **more}


def values(*expected: Any, key: str = "k", of: str = "a") -> Json:
    """Return a question about a series, and the values that are expected in this order."""
    return points(*({"value": value} for value in expected), key=key, of=of)


def aggregate(*are: Json, key: str = "k", of: str = "a") -> Json:
    """Return a question about a series over all workers, and what is expected of each step."""
    return {"do": "aggregate", "run_id": of, "key": key, "are": list(are)}


def unknown(do: str = "run", of: str = "a", **more: Any) -> Json:
    """Return a question about a run that nobody knows."""
    return {"do": do, "run_id": of, "unknown": True, **more}


def stream(sid: str = "s", wid: str = "", **members: Any) -> Json:
    """Return what is expected of a stream."""
    return {"wid": wid, "sid": sid, **members}


class Collecting(Group):
    """A group of cases of the role collector."""

    def tells(self, case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        """Add a case whose blocks must be told in the order in which they stand: who comes first counts."""
        self.script(case_id, "collector", clauses, why, *steps, **more)

    def folds(self, case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        """Add a case whose blocks may be told in any order, any number of times."""
        self.tells(case_id, f"{clauses} FLD-1", why, *steps, **{"axes": ["order"], **more})
