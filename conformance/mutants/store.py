"""Mutants of the role store: what is kept, and what is forgotten when it is opened again."""

from __future__ import annotations

import json
import math
import struct
from collections import defaultdict
from typing import Any

import store_files
import store_spool
from tools import Json, Mutation
from tools_store import behaving, data_of, frames_of, hearing, payloads_in, telling, text_of, tree_of

from xtrack_conformance.values import tag, untag
from xtrack_protocol.errors import DecodeError
from xtrack_protocol.wire import decode, encode

Identity = tuple[str, str, int]


def _identity(tree: Json) -> Identity:
    meta = tree.get("m", {})
    return meta.get("wid") or "", meta.get("sid") or "legacy-0", meta.get("seq", 0)


def _run_of(tree: Json) -> str | None:
    run = tree.get("p", {}).get("run_id")
    return run.get("id") if isinstance(run, dict) else run


def _entry(payload: bytes) -> Json:
    wid, sid, seq = _identity(tree_of(payload))
    return {"wid": wid, "sid": sid, "seq": seq, "payload": text_of(payload)}


_CONTROL = frozenset({
    "command", "ack", "command_result", "hello", "welcome", "reject", "open", "skip", "ping", "pong", "subscribe",
    "unsubscribe",
})  # fmt: skip


class _Noted:
    """What a mutant remembers of one store. ``again``: how often it was opened again."""

    def __init__(self) -> None:
        self.again = 0
        self.payloads: list[bytes] = []
        self.first: set[Identity] = set()
        self.extra: list[bytes] = []
        self.held: Json | None = None
        self.runs: set[str] = set()
        self.top = 0
        self.skipped: set[int] = set()


def _remembering(**changes: Any) -> Mutation:
    """Make a mutant that remembers. ``changes``: by op a function of the honest answer, what was noted and the
    request; that of ``put`` is asked before, and may change the request.
    """

    def make(part: type) -> type:
        class Mutant(part):  # type: ignore[misc, valid-type]
            def __init__(self) -> None:
                super().__init__()
                self.noted: defaultdict[str, _Noted] = defaultdict(_Noted)

            def answer(self, request: Json) -> Json:
                op = request["op"].partition(".")[2]
                noted = self.noted[request["session"]]
                change = changes.get(op)
                if op == "put" and change:
                    request = change(noted, request)
                elif op == "delete" and change:
                    changed: Json | None = change(noted, request)
                    if changed is not None:
                        return changed
                if op == "put":
                    payloads = payloads_in(request["frames"])
                    noted.first = noted.first or {_identity(tree_of(payload)) for payload in payloads}
                    noted.payloads += payloads
                noted.again += op == "reopen"
                answer: Json = super().answer(request)
                if change and op not in {"put", "delete"}:
                    return {"ok": change(answer["ok"], noted, request)}
                return answer

        return Mutant

    return behaving(make)


def _events(change: Any) -> Mutation:
    """Make a mutant that tells other events: a function of the event, which may return None."""

    def tell(_request: Json, ok: Json) -> None:
        if "events" in ok:
            ok["events"] = [told for event in ok["events"] if (told := change(event)) is not None]

    return telling("events")(tell)


def _points(change: Any) -> Mutation:
    """Make a mutant that tells other points: a function of the value and step, which may return None."""

    def tell(_request: Json, ok: Json) -> None:
        found = []
        for point in ok.get("points", ()):
            told = change(untag(point["value"]), untag(point["step"]))
            if told is not None:
                found.append({**point, "value": tag(told[0]), "step": tag(told[1])})
        if "points" in ok:
            ok["points"] = found

    return telling("points")(tell)


def _series(change: Any) -> Mutation:
    def tell(_request: Json, ok: Json) -> None:
        if "points" in ok:
            ok["points"] = change(ok["points"])

    return telling("points")(tell)


def _with_payload(change: Any) -> Any:
    return lambda event: {**event, "payload": text_of(change(data_of(event, "payload"), event))}


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _binary32(value: Any, step: Any) -> Any:
    if not isinstance(value, float):
        return value, step
    try:
        return struct.unpack(">f", struct.pack(">f", value))[0], step
    except OverflowError:
        return math.copysign(math.inf, value), step


def _largest(value: Any, step: Any) -> Any:
    if isinstance(value, float) and math.isinf(value):
        return math.copysign(1.7976931348623157e308, value), step
    return value, step


def _float_step(value: Any, step: Any) -> Any:
    return value, None if step is None else int(float(step))


def _one_a_step(points: list[Json]) -> list[Json]:
    return list({json.dumps(point["step"]): point for point in points}.values())


def _no_step_first(points: list[Json]) -> list[Json]:
    return sorted(points, key=lambda point: point["step"]["t"] != "null")


def _no_context(point: Json) -> Json:
    return {name: value for name, value in point.items() if name != "ctx"}


def _with_sid(payload: bytes, event: Json) -> bytes:
    tree = tree_of(payload)
    tree["m"].setdefault("sid", event["sid"])
    return json.dumps(tree).encode()


def _written_anew(payload: bytes, _event: Json) -> bytes:
    return encode(decode(payload))


def _without_text_behind_nul(payload: bytes, _event: Json) -> bytes:
    tree = tree_of(payload)
    if "msg" in tree["p"]:
        tree["p"]["msg"] = tree["p"]["msg"].partition("\0")[0]
    return json.dumps(tree).encode()


# ------------------------------------------------------------------------------------------ with a memory


def _last_lost(ok: Json, noted: _Noted, _request: Json) -> Json:
    """Of what was put in since it was opened last, the last batch is in memory alone."""
    lost = noted.held
    if noted.again and lost and "events" in ok:
        gone = {_identity(tree_of(payload)) for payload in payloads_in(lost["frames"])}
        ok["events"] = [one for one in ok["events"] if (one["wid"], one["sid"], one["seq"]) not in gone]
    return ok


def _holding(noted: _Noted, request: Json) -> Json:
    if not noted.again:
        noted.held = request
    return request


def _first_lost(ok: Json, noted: _Noted, _request: Json) -> Json:
    if noted.again and "events" in ok:
        ok["events"] = [one for one in ok["events"] if (one["wid"], one["sid"], one["seq"]) not in noted.first]
    return ok


def _filtered(keep: Any) -> Any:
    """Return a change of ``put`` that leaves out payloads: ``keep`` is a function of what was noted and the tree."""

    def change(noted: _Noted, request: Json) -> Json:
        payloads = [payload for payload in payloads_in(request["frames"]) if keep(noted, tree_of(payload))]
        return {**request, "frames": frames_of(payloads)}

    return change


def _ascending(noted: _Noted, tree: Json) -> bool:
    seq = _identity(tree)[2]
    late, noted.top = seq < noted.top, max(noted.top, seq)
    return not late


def _not_skipped(noted: _Noted, tree: Json) -> bool:
    if tree.get("t") == "skip":
        noted.skipped |= set(range(tree["p"]["from"], tree["p"]["to"] + 1))
    return _identity(tree)[2] not in noted.skipped


def _whole(_noted: _Noted, request: Json) -> Json:
    for payload in payloads_in(request["frames"]):
        try:
            decode(payload)
        except DecodeError:
            return {**request, "frames": ""}
    return request


def _cut_batch(_noted: _Noted, request: Json) -> Json:
    return {**request, "frames": frames_of(payloads_in(request["frames"])[:7])}


def _keeping(applies: Any) -> Mutation:
    """Make a mutant that has payloads among the events, where ``applies`` says so of what was noted and a tree."""

    def put(noted: _Noted, request: Json) -> Json:
        noted.extra += [one for one in payloads_in(request["frames"]) if applies(noted, tree_of(one))]
        return request

    def events(ok: Json, noted: _Noted, request: Json) -> Json:
        mine = [_entry(one) for one in noted.extra if (_run_of(tree_of(one)) or request["run_id"]) == request["run_id"]]
        if not mine or len(request["run_id"]) > 8:
            return ok
        return {"events": [*ok.get("events", ()), *mine], "aside": ok.get("aside", [])}

    return _remembering(put=put, events=events)


def _is_control(_noted: _Noted, tree: Json) -> bool:
    return tree.get("t") in _CONTROL or tree.get("m", {}).get("seq", 1) < 1


def _is_back(noted: _Noted, tree: Json) -> bool:
    return noted.again > 0 and _identity(tree) in {_identity(tree_of(payload)) for payload in noted.payloads}


def _names_no_run(_noted: _Noted, tree: Json) -> bool:
    return bool(tree) and _run_of(tree) is None


def _last_written(ok: Json, noted: _Noted, _request: Json) -> Json:
    last = {_identity(tree_of(payload)): payload for payload in noted.payloads}
    for event in ok.get("events", ()):
        event["payload"] = text_of(last[event["wid"], event["sid"], event["seq"]])
    return ok


def _when_again(change: Any) -> Any:
    return lambda ok, noted, _request: change(ok) if noted.again and "unknown" not in ok else ok


def _own_seqs(ok: Json, noted: _Noted, request: Json) -> Json:
    if not noted.again or not ok["ranges"]:
        return ok
    trees = [tree_of(payload) for payload in noted.payloads]
    seqs = {_identity(tree)[2] for tree in trees if _run_of(tree) == request["run_id"] and tree["t"] not in _CONTROL}
    return {"ranges": [[seq, seq] for seq in sorted(seqs)]}


def _last_is_current(ok: Json, noted: _Noted, _request: Json) -> Json:
    for value in ok.get("values", ()):
        value["current"] = value["seq"] == _identity(tree_of(noted.payloads[-1]))[2]
    return ok


# ------------------------------------------------------------------------------------------ deletion


def _hide(noted: _Noted, request: Json) -> Json:
    noted.runs.add(request["run_id"])
    return {"ok": {}}


def _hidden(ok: Json, noted: _Noted, request: Json) -> Json:
    return {"unknown": True} if request["run_id"] in noted.runs and not noted.again else ok


def _note_deleted(noted: _Noted, request: Json) -> None:
    noted.runs.add(request["run_id"])


def _after_deletion(ok: Json, noted: _Noted, _request: Json) -> Json:
    return {"unknown": True} if noted.runs else ok


def _buried(noted: _Noted, tree: Json) -> bool:
    return _run_of(tree) in noted.runs


def _keeping_deleted() -> Mutation:
    def put(noted: _Noted, request: Json) -> Json:
        noted.extra += [one for one in payloads_in(request["frames"]) if _buried(noted, tree_of(one))]
        return request

    def events(ok: Json, noted: _Noted, request: Json) -> Json:
        mine = [_entry(one) for one in noted.extra if _run_of(tree_of(one)) == request["run_id"]]
        return {"events": mine, "aside": []} if mine else ok

    return _remembering(put=put, events=events, delete=_note_deleted)


def _known(request: Json, ok: Json) -> Json:
    return {"events": [], "aside": []} if "unknown" in ok and len(request["run_id"]) < 8 else ok


def _nobodys(request: Json) -> Json:
    return {**request, "wid": ""}


def _without_workers(_request: Json, ok: Json) -> None:
    for entry in [*ok.get("events", ()), *ok.get("points", ())]:
        entry["wid"] = ""


def _both(*mutations: Mutation) -> Mutation:
    def mutate(module: Any) -> None:
        for mutation in mutations:
            mutation(module)

    return mutate


_OTHER = b'{"t":"log","v":1,"m":{"seq":1,"ts":2,"sid":"s"},"p":{"run_id":"a","level":"info","msg":"other"}}'

OWN: dict[str, Mutation] = {
    # ---- events
    "last-batch-lost": _remembering(put=_holding, events=_last_lost),
    "first-batch-lost": _remembering(events=_first_lost),
    "wid-dropped": _both(telling("events", "points")(_without_workers), hearing("cursor")(_nobodys)),
    "only-ascending-seqs": _remembering(put=_filtered(_ascending)),
    "unknown-is-known": telling("events")(_known),
    "error-drops-batch": _remembering(put=_whole),
    "batch-cut": _remembering(put=_cut_batch),
    "cursor-forgotten": _remembering(cursor=_when_again(lambda _: {"ranges": []})),
    "cursor-without-gaps": telling("cursor")(
        lambda _, ok: {"ranges": [[1, ok["ranges"][-1][1]]]} if ok["ranges"] else ok
    ),
    "derived-id-in-payload": _events(_with_payload(_with_sid)),
    "payload-re-encoded": _events(_with_payload(_written_anew)),
    "payload-of-another": _events(_with_payload(lambda _payload, _event: _OTHER)),
    "nul-cuts-text": _events(_with_payload(_without_text_behind_nul)),
    "lines-bounded": telling("events")(lambda _, ok: {**ok, "events": ok["events"][-1000:]} if "events" in ok else ok),
    # ---- duplicates
    "duplicates-after-reopen": _keeping(_is_back),
    "last-write-wins": _remembering(events=_last_written),
    "aside-dropped": telling("events")(lambda _, ok: {**ok, "aside": []}),
    "aside-forgotten": _remembering(events=_when_again(lambda ok: {**ok, "aside": []})),
    # ---- control events, unknown ones
    "control-events-kept": _keeping(_is_control),
    "skip-forgotten": _remembering(cursor=_own_seqs),
    "skipped-stays-out": _remembering(put=_filtered(_not_skipped)),
    "unknown-types-dropped": _remembering(put=_filtered(lambda _noted, tree: tree.get("t") != "energy")),
    "no-run-filed-somewhere": _keeping(_names_no_run),
    # ---- values
    "values-as-binary32": _points(_binary32),
    "nan-dropped": _points(lambda value, step: None if _is_nan(value) else (value, step)),
    "nan-is-null": _points(lambda value, step: (None if _is_nan(value) else value, step)),
    "infinity-is-largest": _points(_largest),
    "minus-zero-lost": _points(lambda value, step: (0.0 if value == 0 else value, step)),
    "integers-as-floats": _points(lambda value, step: (float(value), step)),
    "step-0-is-none": _points(lambda value, step: (value, step or None)),
    "fractions-cut": _points(lambda value, step: (int(value), step)),
    "negative-steps-are-none": _points(lambda value, step: (value, None if step is not None and step < 0 else step)),
    "steps-as-floats": _points(_float_step),
    # ---- series
    "points-bounded": _series(lambda points: points[-1000:]),
    "one-point-a-step": _series(_one_a_step),
    "points-in-order-of-arrival": _series(lambda points: sorted(points, key=lambda point: point["seq"])),
    "no-step-first": _series(_no_step_first),
    "context-dropped": _series(lambda points: list(map(_no_context, points))),
    # ---- history
    "history-dropped": telling("history")(
        lambda _, ok: {"values": [one for one in ok["values"] if one["current"]]} if "values" in ok else ok
    ),
    "history-forgotten": _remembering(history=_when_again(lambda _: {"values": []})),
    "current-is-last-to-come": _remembering(history=_last_is_current),
    # ---- deletion
    "deletion-ignored": hearing("delete")(lambda request: {**request, "op": "store.cursor", "wid": "", "sid": ""}),
    "deletion-forgotten": _remembering(delete=_hide, events=_hidden, points=_hidden, history=_hidden),
    "tombstone-not-kept": _keeping_deleted(),
    "deletion-of-all": _remembering(delete=_note_deleted, events=_after_deletion),
}

MUTANTS: dict[str, Mutation] = {
    f"store-{name}": mutation for name, mutation in {**OWN, **store_files.MUTANTS, **store_spool.MUTANTS}.items()
}
