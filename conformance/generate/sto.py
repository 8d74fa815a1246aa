"""What a store keeps, through closing and opening again. docs/spec/fold.md, FLD-9 and FLD-12; streams.md; control.md"""

from __future__ import annotations

from typing import Any

from generate.dsl import Json, as_parts, dump, event, log, metric, param
from generate.resting import Resting

# A case a line, as in a table:
# fmt: off

SID = "5f0c9d1e2b3a48576a7b8c9d0e1f2a3b"
ALL = {"do": "reopen"}


class Stores(Resting):
    """Cases of stores."""

    def kept(self, case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        """Add a case that is done without opening the store again, and with each way to do so."""
        self.script(case_id, "store", clauses, why, *steps, axes=["reopen"], **more)


def put(*events: Json, source: str = "x") -> Json:
    """Put in a batch."""
    step: Json = {"do": "put", "events": list(events)}
    return step if source == "x" else {**step, "source": source}


def put_raw(*payloads: str, source: str = "x") -> Json:
    """Put in a batch of payloads as they stand."""
    frames = [{"frame": as_parts(payload)} for payload in payloads]
    return {"do": "put", "frames": frames, "source": source}


def there(*events: Json, run: str = "a", **more: Any) -> Json:
    """All events of a run are these, of which each has a sid."""
    return {"do": "events", "run_id": run, "is": [_identity(one) for one in events], **more}


def _identity(one: Json) -> Json:
    meta = one["m"]
    told: Json = {"sid": meta.get("sid", "legacy-0"), "seq": meta["seq"], "event": one}
    return told | ({"wid": meta["wid"]} if "wid" in meta else {})


def mine(of: Json, **meta: Any) -> Json:
    """Return an event of a stream with a session id."""
    return {**of, "m": {**of["m"], "sid": SID, **meta}}


def point(step: int | None, value: Any, seq: int, **more: Any) -> Json:
    """Return a point that is expected."""
    return {"step": step, "value": value, "seq": seq, **more}


def cases() -> Stores:
    """Return the cases."""
    g = Stores("sto")
    _events(g)
    _duplicates(g)
    _control(g)
    _unknown(g)
    _values(g)
    _series(g)
    _history(g)
    _deleted(g)
    return g


def _events(g: Stores) -> None:
    start = mine(event("run_start", {"run_id": "a"}, seq=1))
    one, two, three = mine(metric(seq=2)), mine(log(seq=3)), mine(metric(1.5, seq=4))
    g.kept("sto-events", "FLD-12.1 FLD-12.4", "what was put in is there", put(start, one), put(two), ALL, put(three), there(start, one, two, three), kills="last-batch-lost first-batch-lost")
    g.kept("sto-events-one", "FLD-12.1", "one event", put(start), ALL, there(start), kind="boundary", kills="last-batch-lost")
    g.kept("sto-events-stream", "FLD-12.1 STR-1", "of each event its run, worker and session", put(mine(metric(seq=1), wid="r0"), mine(metric(seq=1), wid="r1"), mine(metric(seq=1, run_id="b"))), ALL, there(mine(metric(seq=1), wid="r0"), mine(metric(seq=1), wid="r1")), there(mine(metric(seq=1, run_id="b")), run="b"), kills="wid-dropped")
    g.kept("sto-events-order", "FLD-12.1 ENV-4.7", "events come in any order of seq", put(mine(log(seq=3))), put(mine(log(seq=1))), ALL, put(mine(log(seq=2))), there(mine(log(seq=1)), mine(log(seq=2)), mine(log(seq=3))), kind="boundary", kills="only-ascending-seqs")
    g.kept("sto-events-none", "FLD-9.2", "a run that never was is unknown", put(mine(log(seq=1))), ALL, {"do": "unknown", "run_id": "b"}, kind="boundary", kills="unknown-is-known")
    g.kept("sto-batch-with-error", "FLD-12 FLD-12.3 ERR-4 FLD-12.1", "a payload that is refused costs itself alone", put_raw(dump(mine(log(seq=1))), "{]", dump(mine(log(seq=3)))), ALL, there(mine(log(seq=1)), mine(log(seq=3))), kind="invalid", kills="error-drops-batch")
    g.kept("sto-batch-with-missing", "FLD-12.3 FLD-12.2", "so does one without a required member", put_raw(dump(mine(log(seq=1))), '{"t":"metric","v":1,"m":{"seq":2,"ts":1},"p":{"run_id":"a"}}', dump(mine(log(seq=3)))), ALL, there(mine(log(seq=1)), mine(log(seq=3))), {"do": "cursor", "run_id": "a", "sid": SID, "is": [[1, 1], [3, 3]]}, kind="invalid", kills="error-drops-batch")
    g.kept("sto-cursor", "FLD-12.2 DLV-6.1", "the cursor of a stream", put(start, one, two), ALL, {"do": "cursor", "run_id": "a", "sid": SID, "is": [[1, 3]]}, kills="cursor-forgotten")
    g.kept("sto-cursor-gap", "FLD-12.2 DLV-6.1 STR-6.1", "with its gaps", put(start), put(three), ALL, {"do": "cursor", "run_id": "a", "sid": SID, "is": [[1, 1], [4, 4]]}, kind="boundary", kills="cursor-forgotten cursor-without-gaps")
    g.kept("sto-cursor-filled", "FLD-12.2 STR-6.2", "a late event narrows a gap", put(start, three), ALL, put(one), {"do": "cursor", "run_id": "a", "sid": SID, "is": [[1, 2], [4, 4]]}, kind="boundary", kills="cursor-without-gaps")
    g.kept("sto-cursor-unknown", "FLD-12.2", "a stream that nobody knows has nothing", put(start), ALL, {"do": "cursor", "run_id": "a", "wid": "w", "sid": SID, "is": []}, {"do": "cursor", "run_id": "b", "sid": SID, "is": []}, kind="boundary", kills="wid-dropped")
    many = {"many": {"event": mine(log()), "first": 1, "last": 40}}
    g.kept("sto-batch", "FLD-12 DLV-6.1", "a batch is there as a whole, its cursor with it", {"do": "put", **many}, ALL, {**there(), **many}, {"do": "cursor", "run_id": "a", "sid": SID, "is": [[1, 40]]}, kills="batch-cut")
    g.kept("sto-batch-runs", "FLD-12", "also where it is of several runs and streams", put(*(mine(log(seq=seq, run_id=run), wid=wid) for run in "ab" for wid in ("u", "v") for seq in (1, 2))), ALL, *(there(*(mine(log(seq=seq, run_id=run), wid=wid) for wid in ("u", "v") for seq in (1, 2)), run=run) for run in "ab"), kind="boundary", kills="wid-dropped batch-cut")
    g.kept("sto-reopen-twice", "FLD-12.1 DLV-6.1", "opened again and again", put(start), ALL, put(one), ALL, put(two), ALL, there(start, one, two), {"do": "cursor", "run_id": "a", "sid": SID, "is": [[1, 3]]}, kind="boundary", kills="first-batch-lost last-batch-lost")
    again = {"do": "reopen", "how": "reindex"}
    one_cursor = {"do": "cursor", "run_id": "a", "sid": SID, "is": [[1, 4]]}
    skip = event("skip", {"run_id": "a", "sid": SID, "from": 3, "to": 3}, seq=0)
    g.script("sto-index-made-again", "store", "RST-6.9 FLD-12.4", "without its index the store has all that it had", put(start, one, skip, three), again, there(start, one, three), one_cursor, needs=["reindex"], kills="first-batch-lost")
    second = {"do": "events", "run_id": "a", "is": [_identity(start)]}
    other = mine(log(seq=1))
    g.script("sto-index-made-again-conflict", "store", "RST-6.9 STR-5", "of two events of one identity the first stands, also then", put(start), put(other), again, second, needs=["reindex"], kind="boundary", kills="last-write-wins")
    g.script("sto-index-made-again-deleted", "store", "RST-6.9 FLD-9", "what was deleted stays deleted", put(start), {"do": "delete", "run_id": "a"}, again, put(start), {"do": "unknown", "run_id": "a"}, needs=["reindex"], kind="boundary", kills="deletion-forgotten")
    # ---- derived ids
    bare = event("run_start", {"run_id": "a"}, seq=1, ts=1000)
    told = {"do": "events", "run_id": "a", "is": [{"sid": "legacy-1000", "seq": 1, "event": bare}, {"sid": "legacy-1000", "seq": 2, "event": log()}], "exact": True}
    g.kept("sto-derived-id-not-in-payload", "STR-2.7", "a derived session id stands in no payload that is given back", put(bare, log()), ALL, told, kills="derived-id-in-payload")
    zero = {"do": "events", "run_id": "a", "is": [{"sid": "legacy-0", "seq": 2, "event": log()}], "exact": True}
    g.kept("sto-derived-id-0-not-in-payload", "STR-2.7 STR-2.2", "nor does that of an event before any run_start", put(log()), ALL, zero, kind="boundary", kills="derived-id-in-payload")
    # ---- bytes
    odd = '{ "v":1,"t":"log","m":{"ts":1,"seq":1,"sid":"s","host":"h"},"p":{"msg":"\\u00fc","level":"info","run_id":{"id":"a"},"c":1.50} }'
    same = {"do": "events", "run_id": "a", "is": [{"sid": "s", "seq": 1, "payload": as_parts(odd)}]}
    g.kept("sto-bytes", "FRM-8.1", "a payload is given back as it came, with its white space and its unknown members", put_raw(odd), ALL, {**same, "exact": True}, level="SHOULD", kills="payload-re-encoded")
    number = '{"t":"metric","v":1,"m":{"seq":1,"ts":1,"sid":"s"},"p":{"run_id":"a","key":"k","value":1.5000e0}}'
    g.kept("sto-bytes-number", "FRM-8.1", "and its numbers as they were written", put_raw(number), ALL, {"do": "events", "run_id": "a", "is": [{"sid": "s", "seq": 1, "payload": as_parts(number)}], "exact": True}, kind="boundary", level="SHOULD", kills="payload-re-encoded")
    g.kept("sto-event-of-bytes", "FLD-12.1", "however it is written, it is that event", put_raw(odd), ALL, same, kills="payload-of-another")


def _duplicates(g: Stores) -> None:
    one, two = mine(metric(0.5, seq=1)), mine(metric(0.5, seq=2))
    points = {"do": "points", "run_id": "a", "key": "k", "is": [point(None, 0.5, 1), point(None, 0.5, 2)]}
    g.kept("sto-duplicate", "DLV-6.1 DLV-6.2 STR-4", "events that come again after it was opened again change nothing", put(one, two), ALL, put(one, two), there(one, two), points, kills="duplicates-after-reopen")
    g.kept("sto-duplicate-in-part", "DLV-6.1 STR-4.1 FLD-12.4", "of a batch only what is new is taken", put(one), ALL, put(one, two), ALL, there(one, two), points, kind="boundary", kills="duplicates-after-reopen")
    again = '{"v":1,"t":"metric","m":{"ts":1,"seq":1,"sid":"' + SID + '"},"p":{"value":5e-1,"key":"k","run_id":"a"}}'
    g.kept("sto-duplicate-written-otherwise", "STR-4.2 DLV-6.1", "the same event in another writing is a duplicate", put(one), ALL, put_raw(again), there(one), kind="boundary", kills="duplicates-after-reopen")
    other = mine(metric(7.0, seq=1))
    g.kept("sto-conflict", "STR-5 DLV-6.1 DLV-6.2 FLD-12.4", "another event of the same identity: the first stands", put(one), ALL, put(other), there(one), {"do": "points", "run_id": "a", "key": "k", "is": [point(None, 0.5, 1)]}, kind="invalid", kills="last-write-wins duplicates-after-reopen")
    g.kept("sto-conflict-after", "STR-5", "also after it was opened again behind it", put(one), put(other), ALL, there(one), kind="boundary", kills="last-write-wins")
    bare, second = log("x", seq=1), log("y", seq=1)
    both: Json = {"do": "events", "run_id": "a", "is": [{"sid": "legacy-0", "seq": 1, "event": bare}], "aside": [{"event": second}]}
    g.kept("sto-ambiguous", "STR-8.1 STR-5", "of two events of one derived identity both payloads are kept, and the first stands", put(bare), put(second), ALL, both, kind="invalid", kills="aside-dropped aside-forgotten")
    g.kept("sto-ambiguous-not", "STR-8.1 STR-4.1", "the same payload twice is one event, and no other is kept", put(bare), put(bare), ALL, put(bare), {"do": "events", "run_id": "a", "is": [{"sid": "legacy-0", "seq": 1, "event": bare}]}, kills="duplicates-after-reopen")
    g.kept("sto-ambiguous-one-batch", "STR-8.1", "also where they come at once", put(bare, second), ALL, both, kind="boundary", kills="aside-dropped aside-forgotten")


def _control(g: Stores) -> None:
    one, five = mine(log(seq=1)), mine(log(seq=5))
    cursor = {"do": "cursor", "run_id": "a", "sid": SID, "is": [[1, 5]]}
    skip = event("skip", {"run_id": "a", "sid": SID, "from": 2, "to": 4}, seq=0)
    g.kept("sto-skip", "CTL-1.3 CTL-1.5 STR-7", "a declared loss is no event of the run, and closes its gap", put(one, skip, five), ALL, there(one, five), cursor, kills="control-events-kept skip-forgotten")
    g.kept("sto-skip-alone", "CTL-1.3 STR-7", "a loss that is declared alone", put(one), put(skip), ALL, put(five), there(one, five), cursor, kind="boundary", kills="control-events-kept skip-forgotten")
    back = mine(log(seq=3))
    g.kept("sto-skip-comes-after-all", "STR-7.1", "an event that comes in spite of it is taken", put(one, skip, five), ALL, put(back), there(one, back, five), cursor, kind="boundary", kills="skipped-stays-out")
    for name, body in (
        ("ack", {"seq": 1, "status": "ok", "run_id": "a", "sid": SID}),
        ("command", {"cmd_id": "c", "type": "stop", "run_id": "a"}),
        ("command_result", {"run_id": "a", "cmd_id": "c", "status": "ok"}),
        ("hello", {"protocols": [1]}),
        ("welcome", {"protocol": 1, "codec": "json", "durability": "power"}),
        ("reject", {"code": "busy"}),
        ("open", {"run_id": "a", "sid": SID}),
        ("ping", {}),
        ("pong", {}),
        ("subscribe", {"run_id": "a"}),
        ("unsubscribe", {"run_id": "a"}),
    ):
        control = event(name, body, seq=0)
        told = [{"do": "cursor", "run_id": "a", "sid": SID, "is": [[1, 1], [5, 5]]}]
        g.kept(f"sto-control-{name.replace('_', '-')}", "CTL-1.1 CTL-1.3 CTL-1.5", f"a {name} in a recording is no event of a run", put(one, control, five), ALL, there(one, five), *told, kind="invalid", kills="control-events-kept")
    g.kept("sto-control-seq", "CTL-1.3 CTL-1.1 ENV-4.4", "whatever seq it has", put(one, event("ack", {"seq": 1, "status": "ok", "run_id": "a"}, seq=3), five), ALL, there(one, five), kind="boundary", kills="control-events-kept")
    g.kept("sto-control-alone", "CTL-1.3", "it makes no run known", put(event("open", {"run_id": "b", "sid": SID}, seq=0)), ALL, {"do": "unknown", "run_id": "b"}, kind="boundary", kills="control-events-kept")


def _unknown(g: Stores) -> None:
    odd = mine(event("energy", {"run_id": "a", "joules": 12.5, "of": {"gpu": [1, 2.5, None]}}, seq=2))
    g.kept("sto-unknown-type", "ENV-5.3 ENV-5.9", "an event of a type that nobody knows is kept", put(mine(log(seq=1)), odd), ALL, there(mine(log(seq=1)), odd), {"do": "cursor", "run_id": "a", "sid": SID, "is": [[1, 2]]}, kills="unknown-types-dropped")
    obj = mine(event("energy", {"run_id": {"id": "a"}, "joules": 1}, seq=1))
    g.kept("sto-unknown-type-object", "ENV-5.3 ENV-5.4", "its run is named as an object", put(obj), ALL, there(obj), kind="boundary", kills="unknown-types-dropped")
    g.kept("sto-unknown-type-no-run", "ENV-5.3 ENV-5.4 ENV-5.9", "one that names no run is no event of any", put(mine(log(seq=1)), mine(event("energy", {"joules": 1}, seq=2))), ALL, there(mine(log(seq=1))), kind="invalid", kills="no-run-filed-somewhere")
    g.kept("sto-unknown-type-seq-0", "ENV-5.5 ENV-5.3 CTL-1.3", "one with a seq below 1 is a control event", put(mine(log(seq=1)), mine(event("energy", {"run_id": "a"}, seq=0))), ALL, there(mine(log(seq=1))), kind="invalid", kills="control-events-kept")
    known = dump(mine(metric(seq=1, colour="red")))
    g.kept("sto-unknown-member", "FRM-8.1 ENV-6", "members that nobody knows are given back", put_raw(known), ALL, {"do": "events", "run_id": "a", "is": [{"sid": SID, "seq": 1, "payload": as_parts(known)}], "exact": True}, level="SHOULD", kills="payload-re-encoded")


def _values(g: Stores) -> None:
    def value(case: str, why: str, written: Any, read: Any = None, **more: Any) -> None:
        told = {"do": "points", "run_id": "a", "key": "k", "is": [point(3, written if read is None else read, 1)]}
        g.kept(f"sto-value-{case}", "FLD-12.3", why, put(mine(metric(written, seq=1, step=3))), ALL, told, **more)

    value("half", "a value is kept exactly", 0.5, kills="fractions-cut")
    value("tenth", "all 53 bits of it", 0.1, kills="values-as-binary32")
    value("nan", "not-a-number is a value", "NaN", kind="boundary", kills="nan-dropped nan-is-null")
    value("infinity", "so is infinity", "Infinity", kind="boundary", kills="infinity-is-largest")
    value("minus-infinity", "and minus infinity", "-Infinity", kind="boundary", kills="infinity-is-largest")
    value("minus-zero", "the sign of zero is kept", -0.0, kind="boundary", kills="minus-zero-lost")
    value("least", "the least binary64 above 0", 5e-324, kind="boundary", kills="values-as-binary32")
    value("most", "the greatest binary64", 1.7976931348623157e308, kind="boundary", kills="values-as-binary32")
    value("2-53", "an integer above 2^53", 2**53 + 1, kind="boundary", kills="integers-as-floats")
    value("int64", "the greatest int64", 2**63 - 1, kind="boundary", kills="integers-as-floats")
    for case, step in (("0", 0), ("minus", -1), ("int64", 2**63 - 1), ("int64-min", -(2**63))):
        told = {"do": "points", "run_id": "a", "key": "k", "is": [point(step, 0.5, 1)]}
        g.kept(f"sto-step-{case}", "FLD-12.3", f"the step {step} is kept exactly", put(mine(metric(seq=1, step=step))), ALL, told, kind="boundary", kills="step-0-is-none" if step == 0 else "steps-as-floats" if case == "int64" else "negative-steps-are-none")
    neighbours = put(mine(metric("NaN", seq=1, step=1)), mine(metric(1.0, seq=2, step=2)))
    told = {"do": "points", "run_id": "a", "key": "k", "is": [point(1, "NaN", 1), point(2, 1.0, 2)]}
    g.kept("sto-value-neighbours", "FLD-12.3", "what stands beside an odd value is kept", neighbours, ALL, told, kind="boundary", kills="nan-dropped")
    text = mine(log("\u0000\u2028\U0001f600\n", seq=1))
    g.kept("sto-text", "FLD-12.3 FLD-12.1", "any text is kept, U+0000 included", put(text), ALL, there(text), kind="boundary", kills="nul-cuts-text")


def _series(g: Stores) -> None:
    def series(*points: Json) -> Json:
        return {"do": "points", "run_id": "a", "key": "k", "is": list(points)}

    def many(of: Json, first: int, last: int) -> Json:
        return {"many": {"event": mine(of), "first": first, "last": last}}

    def put_many(of: Json, first: int, last: int) -> Json:
        return {"do": "put", **many(of, first, last)}

    g.kept("sto-points-all", "FLD-3.6", "a store holds all points, whatever a state holds", put_many(metric(), 1, 700), put_many(metric(), 701, 1500), ALL, {**series(), **many(metric(), 1, 1500)}, kind="boundary", kills="points-bounded")
    g.kept("sto-lines-all", "FLD-3.6 FLD-12.1", "and all log lines", put_many(log(), 1, 1101), ALL, {**there(), **many(log(), 1, 1101)}, kind="boundary", kills="lines-bounded")
    g.kept("sto-points-same-step", "FLD-3.2 FLD-3.6", "points with the same step are all kept", put(mine(metric(1.0, seq=1, step=5)), mine(metric(2.0, seq=2, step=5))), ALL, series(point(5, 1.0, 1), point(5, 2.0, 2)), kills="one-point-a-step")
    g.kept("sto-points-order", "FLD-3 FLD-3.1", "by step and seq, those without a step behind", put(mine(metric(1.0, seq=1)), mine(metric(2.0, seq=2, step=9)), mine(metric(3.0, seq=3, step=-2))), ALL, put(mine(metric(4.0, seq=4, step=9))), series(point(-2, 3.0, 3), point(9, 2.0, 2), point(9, 4.0, 4), point(None, 1.0, 1)), kills="points-in-order-of-arrival no-step-first")
    g.kept("sto-points-workers", "FLD-3 FLD-12.1", "of each point the worker", put(mine(metric(1.0, seq=1, step=1), wid="u"), mine(metric(2.0, seq=2, step=2), wid="v")), ALL, series(point(1, 1.0, 1, wid="u", sid=SID), point(2, 2.0, 2, wid="v", sid=SID)), kills="wid-dropped")
    batch = mine(event("metric_batch", {"run_id": "a", "step": 4, "metrics": {"k": 0.25, "l": "NaN"}}, seq=1))
    g.kept("sto-points-batch", "FLD-3.6 EVT-METRIC_BATCH-1.1", "a batch of metrics is a point in each of its series", put(batch), ALL, series(point(4, 0.25, 1)), {"do": "points", "run_id": "a", "key": "l", "is": [point(4, "NaN", 1)]}, kills="nan-dropped")
    context = {"phase": "val", "batch_size": 32, "dataset_size": 50_000, "agg": "mean"}
    g.kept("sto-context", "EVT-METRIC-3", "a point's context is kept and given back", put(mine(metric(seq=1, step=1, ctx=context))), ALL, series(point(1, 0.5, 1, ctx=context)), kills="context-dropped")
    g.kept("sto-context-part", "EVT-METRIC-3", "a context with one member", put(mine(metric(seq=1, step=1, ctx={"phase": "warm-up"}))), ALL, series(point(1, 0.5, 1, ctx={"phase": "warm-up"})), kind="boundary", kills="context-dropped")
    phases = [mine(metric(1.0, seq=1, step=1, ctx={"phase": "train"})), mine(metric(2.0, seq=2, step=1, ctx={"phase": "val"})), mine(metric(3.0, seq=3, step=2))]
    g.kept("sto-context-one-series", "EVT-METRIC-3.1 EVT-METRIC-3", "points of different contexts stay in one series", put(*phases), ALL, series(point(1, 1.0, 1, ctx={"phase": "train"}), point(1, 2.0, 2, ctx={"phase": "val"}), point(2, 3.0, 3)), kind="boundary", kills="context-dropped")


def _history(g: Stores) -> None:
    def setting(value: Any, seq: int, **more: Any) -> Json:
        return mine(event("param", {"run_id": "a", "key": "k", "value": value, **more}, seq=seq))

    def history(*values: tuple[Any, int], name: str = "k") -> Json:
        told = [{"value": value, "seq": seq} for value, seq in values]
        told[-1]["current"] = True
        return {"do": "history", "run_id": "a", "name": name, "is": told}

    g.kept("sto-history", "FLD-2.9 FLD-2 EVT-PARAM-1.4", "earlier writes of a parameter stay as its history", put(setting(1, 1)), put(setting(2, 2)), ALL, put(setting(3, 3)), history((1, 1), (2, 2), (3, 3)), kills="history-dropped history-forgotten")
    g.kept("sto-history-one", "FLD-2.9", "one write", put(setting("x", 1)), ALL, history(("x", 1)), kind="boundary", kills="history-forgotten")
    g.kept("sto-history-late", "FLD-2.9 FLD-2 EVT-PARAM-1.4", "an earlier write that comes late is history", put(setting(2, 2)), ALL, put(setting(1, 1)), history((1, 1), (2, 2)), kind="boundary", kills="history-dropped current-is-last-to-come")
    g.kept("sto-history-same", "FLD-2.9", "the same value written again is a write", put(setting(1, 1), setting(1, 2)), ALL, history((1, 1), (1, 2)), kind="boundary", kills="history-dropped")
    g.kept("sto-history-kinds", "FLD-2.9 FLD-12.3", "values of any kind", put(setting(None, 1), setting(True, 2), setting([1, {"a": "b"}], 3), setting({"$float": "NaN"}, 4), setting("NaN", 5), setting(1.0, 6)), ALL, history((None, 1), (True, 2), ([1, {"a": "b"}], 3), ({"$float": "NaN"}, 4), ("NaN", 5), (1.0, 6)), kind="boundary", kills="history-dropped")
    g.kept("sto-history-refused", "FLD-2.9 ENV-2", "a write in an event that is refused is none of its history", put(setting(1, 1), {**setting(2, 2), "v": 9}), ALL, put(setting(3, 3)), history((1, 1), (3, 3)), kind="invalid", kills="history-dropped history-forgotten")
    g.kept("sto-history-nested", "FLD-2.9 EVT-PARAM-1.2", "by its flat name", put(setting(1, 1, nested_key=["opt", "lr"]), setting(2, 2, nested_key=["opt", "lr"])), ALL, history((1, 1), (2, 2), name="k.opt.lr"), kind="boundary", kills="history-dropped")


def _deleted(g: Stores) -> None:
    gone: Json = {"do": "unknown", "run_id": "a"}
    delete: Json = {"do": "delete", "run_id": "a"}
    one, two = mine(metric(seq=1)), mine(param(5))
    g.kept("sto-deleted", "FLD-9 FLD-9.2", "a run that was deleted is as if it were unknown", put(one, two), delete, ALL, gone, kills="deletion-ignored deletion-forgotten")
    g.kept("sto-deleted-comes-again", "FLD-9 FLD-9.1", "its events are dropped when they come again", put(one, two), delete, ALL, put(one, two), gone, kind="boundary", kills="tombstone-not-kept deletion-forgotten")
    g.kept("sto-deleted-goes-on", "FLD-9 FLD-9.1", "so are those that it didn't have", put(one), delete, ALL, put(mine(log(seq=3))), put(mine(log(seq=1), wid="w")), ALL, gone, kind="boundary", kills="tombstone-not-kept deletion-forgotten")
    other = mine(log(seq=1, run_id="b"))
    g.kept("sto-deleted-alone", "FLD-9", "other runs stay", put(one, other), delete, ALL, gone, there(other, run="b"), kind="boundary", kills="deletion-of-all deletion-ignored")
    g.kept("sto-deleted-in-batch", "FLD-9.1 FLD-12", "a batch in which it has a part is taken without that", put(one), delete, ALL, put(mine(log(seq=2)), other), gone, there(other, run="b"), kind="invalid", kills="tombstone-not-kept")
    g.kept("sto-deleted-prefix", "FLD-9", "a run whose id begins like that of a deleted one is another", put(one, mine(log(seq=1, run_id="a1"))), delete, ALL, there(mine(log(seq=1, run_id="a1")), run="a1"), kind="boundary", kills="deletion-of-all")
