"""Scripts of an emitter: the step that runs a whole process, and looks at what it left."""

from __future__ import annotations

import base64
from collections.abc import Callable, Generator
from typing import Any, Final

from xtrack_conformance.cases import Step, build
from xtrack_conformance.protocol import BadAnswer
from xtrack_conformance.scripts.emitter_tls import SecureCollector, names_for
from xtrack_conformance.scripts.following import Broken, Follower, Line, Written
from xtrack_conformance.scripts.matching import fits, substitute
from xtrack_conformance.values import shown, tag

Json = dict[str, Any]
Talk = Generator[Json, Json, None]


def process(script: Any, step: Step) -> Talk:
    """Run a process, and see how it ended, what stood on which descriptor or file, and what it told."""
    script.processes += 1
    collector = SecureCollector(step["collector"]["certificate"]) if "collector" in step else None
    if collector is not None:
        script.names |= names_for(step["collector"]["certificate"]) | {"port": str(collector.port)}
    try:
        yield from _run(script, step)
    finally:
        if collector is not None:
            collector.close()
    if collector is not None:
        _check_heard(collector.heard, step["collector"])


def _check_heard(heard: list[str], wanted: Json) -> None:
    if wanted["hears"] and "run_end" not in heard:
        raise Broken("the run didn't come through TLS", "", expected="hello to run_end", got=shown(heard))
    if not wanted["hears"] and heard:
        raise Broken("it was sent to whoever has another certificate", "", expected="nothing", got=shown(heard))


def _run(script: Any, step: Step) -> Talk:
    request = {"op": "emit.process", "session": f"{script.name} {script.processes}", "env": {}, "descriptors": {}}
    request |= {"stdin": "", "ending": "return", **substitute(step["request"], script.names)}
    calls: list[Json] = substitute(step["request"]["calls"], script.names)
    asked: dict[str, Any] = {**request, "calls": [_call(entry) for entry in calls]}
    if "dir" in step:
        asked["dir"] = script.folder(step)
    for name in ("stdin", "send"):
        if name in step:
            parts = step[name]
            held = parts if name == "send" else {"": parts}
            texts = {key: base64.b64encode(build(value)).decode() for key, value in held.items()}
            asked[name] = texts if name == "send" else texts[""]
    ok = yield asked
    _check(script, step, ok)


def _call(entry: Json) -> Json:
    entry = dict(entry)
    entry["arguments"] = tag(entry.get("arguments", {}))
    if "calls" in entry:
        entry["calls"] = [_call(inner) for inner in entry["calls"]]
    if "request" in entry:
        inner = entry["request"]
        entry["request"] = {"stdin": "", **inner, "calls": [_call(one) for one in inner["calls"]]}
    return entry


def _check(script: Any, step: Step, ok: Json) -> None:
    try:
        outputs = {name: base64.b64decode(text, validate=True) for name, text in ok["descriptors"].items()}
        files = {name: None if text is None else base64.b64decode(text) for name, text in ok["files"].items()}
        told, status, calls = list(ok["told"]), int(ok["status"]), list(ok["calls"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadAnswer(f"the answer to emit.process lacks something: {shown(error)}") from error
    if "status" in step and status not in step["status"]:
        raise Broken("the exit status", "", expected=shown(step["status"]), got=f"{status}; {shown(told, 400)}")
    if "calls" in step and calls != step["calls"]:
        raise Broken("what became of the calls", "", expected=shown(step["calls"]), got=f"{calls}; {shown(told, 400)}")
    if "max_lines" in step and len(told) > step["max_lines"]:
        raise Broken("lines on standard error", "", expected=f"{step['max_lines']} at most", got=shown(told, 400))
    if "min_lines" in step and len(told) < step["min_lines"]:
        raise Broken("lines on standard error", "", expected=f"{step['min_lines']} at least", got=shown(told, 400))
    lacking = next((text for text in step.get("told", ()) if not any(text in line for line in told)), None)
    if lacking is not None:
        raise Broken("lines on standard error", "", expected=f"one with {lacking!r}", got=shown(told, 400))
    for name, wanted in step.get("outputs", {}).items():
        found = outputs.get(name, b"") if name.isdigit() else files.get(name)
        _check_output(script, name, found, wanted, step)


def _check_output(script: Any, name: str, data: bytes | None, wanted: list[Json], step: Step) -> None:
    if not wanted:
        if data:
            raise Broken(f"something was written to {name}", "", expected="nothing", got=shown(data))
        return
    if not data:
        raise Broken(f"nothing was written to {name}", "", expected=shown(wanted, 300), got="nothing")
    frames = read_all(data, step)
    match_events(script, name, frames, {"events": wanted, "never": step.get("never", [])})
    _check_streams(frames, step)


def match_events(script: Any, name: str, frames: list[Written], step: Json) -> None:
    """See the ``events`` of a step in their order; ``{"$rewind": true}`` begins anew. ``never``: none of these."""
    where = 0
    for wanted_here in step.get("events", ()):
        wish = substitute(wanted_here, script.names)
        if wish.get("$rewind"):
            where = 0
            continue
        at = next((i for i in range(where, len(frames)) if not fits(frames[i].tree, wish, dict(script.names))), None)
        if at is None:
            got = "; ".join(frame.told() for frame in frames[where:]) or "nothing more"
            raise Broken(f"what must stand on {name} doesn't", "", expected=shown(wish, 300), got=got[:1500])
        fits(frames[at].tree, wish, script.names)
        where = at + 1
    for unwanted in step.get("never", []):
        wish = substitute(unwanted, script.names)
        for frame in frames:
            if not fits(frame.tree, wish, dict(script.names)):
                raise Broken(f"what mustn't stand on {name} does", "", expected=f"no {shown(wish)}", got=frame.told())


def read_all(data: bytes, step: Step) -> list[Written]:
    """Return the frames of an output, each as a writer may write it. A peer behind a descriptor is a plain one."""
    follower = Follower("", step.get("worker", ""), secure=False)
    line = Line(1, secure=False, hello_may_lack=True)
    follower.line = line
    if step.get("recording"):
        line.mode = "recording"
    follower.any_worker = True
    frames = follower.take(data, 0)
    if line.data:
        raise Broken("the last frame isn't complete", "FRM-1", got=shown(bytes(line.data[:80])))
    return frames


def _check_streams(frames: list[Written], step: Step) -> None:
    """Check that each stream is whole: seqs from 1 on without a gap, in their order."""
    last: dict[Any, int] = {}
    for frame in frames:
        meta = frame.tree["m"]
        if frame.seq < 1:
            continue
        stream = (frame.run, meta.get("wid", ""), meta["sid"])
        if frame.seq != last.get(stream, 0) + 1:
            raise Broken(f"seq {frame.seq} after {last.get(stream, 0)}", "ENV-4.1", got=frame.told())
        last[stream] = frame.seq
    if "streams" in step and len(last) != step["streams"]:
        raise Broken("streams", "", expected=str(step["streams"]), got=str(len(last)))


PROCESS_STEPS: Final[dict[str, Callable[[Any, Step], Talk]]] = {"process": process}
