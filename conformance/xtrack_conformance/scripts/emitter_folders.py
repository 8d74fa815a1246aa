"""Scripts of an emitter: steps about the folder that its spool lies in, and about what is shipped from there later."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Generator
from fnmatch import fnmatchcase
from typing import Any, Final

from xtrack_conformance.cases import Step
from xtrack_conformance.payloads import read_payload
from xtrack_conformance.protocol import BadAnswer
from xtrack_conformance.scripts.emitter_process import match_events
from xtrack_conformance.scripts.emitting import OWN, Emitter, Script, steps_of
from xtrack_conformance.scripts.following import Broken, Follower, Written, as_tree
from xtrack_conformance.scripts.matching import fits, substitute
from xtrack_conformance.scripts.store_common import compact, make
from xtrack_conformance.segments import HEAD, START, header_of, items_of
from xtrack_conformance.slots import Fault
from xtrack_conformance.values import shown

Json = dict[str, Any]
Talk = Generator[Json, Json, None]
Entries = dict[str, Json]


def ship(script: Script, step: Step) -> Talk:
    """A process ships what lies in the folder ``dir``. ``again``: also what was sent to a plain peer before."""
    name = step.get("of", OWN)
    follower = Follower("", "", secure=False)
    follower.any_worker = True
    emitter = Emitter(f"{script.name} {name}", follower)
    script.emitters[name] = emitter
    more = {"again": True} if step.get("again") else {}
    yield from script.ask(emitter, "ship", now=0, dir=script.folder(step), **more)


def no_success(script: Script, step: Step) -> Talk:
    """See that shipping is not told as a success ``within`` so many milliseconds."""
    emitter = script.of(step)
    yield from script.until(emitter, lambda: emitter.call != "waits", steps_of(step["within"]))
    if emitter.call == "returned" and emitter.value is True:
        raise Broken("it reports success", "DLV-9.2", expected="none", got="success")


def opened_as(script: Script, step: Step) -> Talk:
    """Where a stream that fits ``body`` is opened in 15 s, see what else its open ``has``."""
    emitter = script.of(step)
    wish = {"t": "open", "p": substitute(step["body"], script.names)}

    def found() -> list[Written]:
        return [frame for frame in emitter.unread if not fits(frame.tree, wish, dict(script.names))]

    yield from script.until(emitter, lambda: bool(found()), steps_of(15_000))
    for frame in found():
        problem = fits(frame.body, step["has"], dict(script.names))
        if problem:
            raise Broken(problem, "CTL-8.6", expected=shown(step["has"]), got=frame.told())


def forget(script: Script, step: Step) -> Talk:
    """The emitter's process is gone, without another word."""
    emitter = script.emitters.pop(step.get("of", OWN))
    yield {"op": "emit.forget", "session": emitter.session}


def disk(script: Script, step: Step) -> Talk:
    """From now on bytes can't be forced to the disk, can again, or only slowly."""
    yield from script.ask(script.of(step), "disk", forces=step["forces"])


def forced(script: Script, step: Step) -> Talk:
    """See that bytes were forced to the disk, ``min`` times at least, since the last look."""
    yield from ()
    emitter = script.of(step)
    got, emitter.forced = emitter.forced, 0
    if got < step.get("min", 0):
        raise Broken("files were forced to the disk", "", expected=f"{step['min']} at least", got=str(got))


def stall(script: Script, step: Step) -> Talk:
    """The other machine takes nothing more on this connection."""
    yield from script.ask(script.of(step), "stall")


def room(script: Script, step: Step) -> Talk:
    """The disk has ``total`` bytes, ``free`` of them free."""
    yield from script.ask(script.of(step), "room", total=step["total"], free=step["free"])


# ------------------------------------------------------------------------------------------ files


def files(script: Script, step: Step) -> Talk:
    """Put files into the folder, and ``see`` what lies there."""
    found = yield from _look(script, step, [_entry(script, entry) for entry in step.get("put", ())])
    for wanted in step.get("see", ()):
        _see(script, wanted, found)


def _look(script: Script, step: Step, put: list[Json]) -> Generator[Json, Json, Entries]:
    folder = script.folder(step)
    ok = yield {"op": "emit.files", "session": folder, "dir": folder, "put": put}
    try:
        return {
            entry["path"]: {
                "data": base64.b64decode(entry["bytes"], validate=True),
                "locked": bool(entry.get("locked")),
            }
            for entry in ok["files"]
        }
    except (KeyError, TypeError, ValueError) as error:
        raise BadAnswer(f"the answer to emit.files lacks something: {shown(error)}") from error


def _entry(script: Script, entry: Json) -> Json:
    """Return a file as it is put. Of an ``event``, ``ts_plus`` counts from the first event of the spool."""
    entry = substitute(entry, script.names)
    made: Json = {"path": entry["path"]} | {name: entry[name] for name in ("locked",) if name in entry}
    data = None
    if "event" in entry:
        event = entry["event"]
        meta = {**event["m"], "ts": int(script.names["began"]) + entry["ts_plus"]} if "ts_plus" in entry else event["m"]
        data = compact({**event, "m": meta})
    elif "parts" in entry:
        data = make(entry["parts"])
    return made if data is None else made | {"bytes": base64.b64encode(data).decode()}


def _see(script: Script, wanted: Json, found: Entries) -> None:
    wish = substitute(wanted, script.names)
    paths = [path for path in found if fnmatchcase(path, wish["path"])]
    if wish.get("absent"):
        if paths:
            raise Broken(f"{paths[0]} is there", "", expected="no such file", got=shown(found[paths[0]]["data"], 200))
        return
    if wish.get("if_there") and not paths:
        return
    if len(paths) != 1:
        raise Broken(f"{wish['path']} is there {len(paths)} times", "RST-6", expected="one", got=shown(sorted(found)))
    entry = found[paths[0]]
    if "locked" in wish and entry["locked"] != wish["locked"]:
        raise Broken(f"the lock on {paths[0]}", "", expected=_lock(wish["locked"]), got=_lock(entry["locked"]))
    if "event" in wish:
        try:
            read_payload(entry["data"])
        except Fault as fault:
            raise Broken(f"{paths[0]} holds no event: {fault}", fault.clause, got=shown(entry["data"], 300)) from fault
    pattern = wish.get("event", wish.get("json"))
    if pattern is not None:
        try:
            tree = json.loads(entry["data"])
        except ValueError as error:
            raise Broken(f"{paths[0]} holds no JSON", "RST-7", got=shown(entry["data"], 300)) from error
        problem = fits(tree, pattern, script.names)
        if problem:
            raise Broken(f"{paths[0]}: {problem}", "", expected=shown(pattern, 300), got=shown(entry["data"], 600))


def _lock(held: bool) -> str:
    return "held" if held else "not held"


# ------------------------------------------------------------------------------------------ the spool


def spool(script: Script, step: Step) -> Talk:
    """See these ``events`` in the spool of the folder, as in the outputs of a process; ``streams``: how many."""
    found = yield from _look(script, step, [])
    frames = _events(found)
    if frames:
        script.names["began"] = str(min(frame.tree["m"]["ts"] for frame in frames))
    match_events(script, "the spool", frames, step)
    _check_whole(frames)
    streams = {(frame.run, frame.tree["m"].get("wid", ""), frame.tree["m"]["sid"]) for frame in frames if frame.seq}
    if "streams" in step and len(streams) != step["streams"]:
        raise Broken("streams in the spool", "", expected=str(step["streams"]), got=shown(sorted(streams)))
    script.places = {(path, seq) for path, _, seq, _ in _records(found)}


def durable_means(script: Script, step: Step) -> Talk:
    """Where the last call has said that all is durable: see ``seqs`` in files that didn't have them before."""
    found = yield from _look(script, step, [])
    if script.of(step).value is not True:
        return
    anew = {seq for path, _, seq, _ in _records(found) if (path, seq) not in script.places}
    lacking = sorted(set(step["seqs"]) - anew)
    if lacking:
        raise Broken(
            f"seq {lacking[0]} is durable, they say, and was not written again", "DLV-2.1", got=shown(sorted(anew))
        )


def _records(found: Entries) -> Generator[tuple[str, int, int, bytes], None, None]:
    """Yield path, offset, seq and payload of each record of the segments, in their order."""
    segments = []
    for path, entry in found.items():
        if path.startswith("spool/") and path.endswith(".xseg"):
            header = header_of(entry["data"])
            if header is None:
                raise Broken(f"{path} is no segment", "RST-2", got=shown(entry["data"][:40]))
            segments.append(((header["created"], header["sid"], header["number"]), path, header))
    for _, path, header in sorted(segments, key=lambda one: one[0]):
        data = found[path]["data"]
        for item in items_of(data, int(header["salt"], 16)) if len(data) >= START else ():
            if item.payload is not None and item.seq is not None:
                yield path, item.offset, item.seq, item.payload


def _events(found: Entries) -> list[Written]:
    frames = []
    for _, _, _, payload in _records(found):
        try:
            read_payload(payload)
        except Fault as fault:
            raise Broken(f"what no writer may write: {fault}", fault.clause, got=shown(payload, 300)) from fault
        frames.append(Written(as_tree(payload), payload, 0, 0))
    return frames


def _check_whole(frames: list[Written]) -> None:
    """Check that what each stream lacks was declared."""
    known: dict[Any, set[int]] = {}
    for frame in frames:
        stream = (frame.run, frame.body.get("sid") if frame.type == "skip" else frame.tree["m"]["sid"])
        first, last = (frame.body["from"], frame.body["to"]) if frame.type == "skip" else (frame.seq, frame.seq)
        known.setdefault(stream, set()).update(range(first, last + 1))
    for stream, seqs in known.items():
        lacking = sorted(set(range(1, max(seqs) + 1)) - seqs)
        if lacking:
            raise Broken(f"seq {lacking[0]} is neither there nor declared as lost", "STR-7.2", got=shown(stream))


def damage(script: Script, step: Step) -> Talk:
    """Something overwrites the payload of the event ``seq`` where it lies."""
    found = yield from _look(script, step, [])
    for path, offset, seq, payload in _records(found):
        if seq == step["seq"]:
            data = base64.b64encode(bytes(len(payload))).decode()
            yield from _look(script, step, [{"path": path, "at": offset + HEAD, "bytes": data}])
            return
    raise Broken(f"seq {step['seq']} isn't in the spool", "DLV-8", got=shown(sorted(found)))


FOLDER_STEPS: Final[dict[str, Callable[[Script, Step], Talk]]] = {
    "ship": ship,
    "no_success": no_success,
    "opened_as": opened_as,
    "durable_means": durable_means,
    "forget": forget,
    "disk": disk,
    "forced": forced,
    "room": room,
    "stall": stall,
    "files": files,
    "spool": spool,
    "damage": damage,
}
