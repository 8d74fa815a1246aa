"""Scripts of an emitter: the suite is the training that calls it and the collector at the other end, and has the clock.

docs/reference/testee-emitter.md has the requests. ``following.py`` holds the rules for all that is written; the steps
here say what else a case is about. What must come may come within five seconds of the clock.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from xtrack_conformance.cases import build
from xtrack_conformance.judgement import NOTHING_FOUND, Judgement
from xtrack_conformance.protocol import BadAnswer
from xtrack_conformance.scripts.emitter_folders import FOLDER_STEPS
from xtrack_conformance.scripts.emitter_process import PROCESS_STEPS
from xtrack_conformance.scripts.emitting import OWN, Emitter, Script, Talk, steps_of
from xtrack_conformance.scripts.following import Broken, Follower, Written
from xtrack_conformance.scripts.matching import fits, substitute
from xtrack_conformance.values import shown, tag

if TYPE_CHECKING:
    from xtrack_conformance.cases import Case, Step
    from xtrack_conformance.scripts import Begin, Conversation

Json = dict[str, Any]

BRIEF: Final = (0, 20, 80, 400)
"""For what comes before the time-out of a hello."""

CONNECT: Final = (0, 20, 50, 100, *([500] * 100))
"""For a connection to be wanted: the longest pause between attempts, and some more. In small pieces, for an emitter
gives up an attempt of which nothing comes.
"""

WAITING_CALLS: Final = frozenset({"end", "flush"})
# ------------------------------------------------------------------------------------------ steps: the training


def start(script: Script, step: Step) -> Talk:
    """Start an emitter. ``raises``: may, or must, as the configuration is an error."""
    options = {"run_id": "a", **step.get("options", {})}
    name = step.get("of", OWN)
    secure = bool(options.get("key") or options.get("tls"))
    follower = Follower(options["run_id"], options.get("worker_id", ""), secure=secure)
    emitter = Emitter(f"{script.name} {name}", follower, secure=secure, key=options.get("key", ""))
    script.emitters[name] = emitter
    more = {"dir": script.folder(step)} if "dir" in step else {}
    yield from script.ask(emitter, "start", now=0, options=options, **more)
    raises = step.get("raises", "never")
    if emitter.call == "waits":
        raise Broken("the start of a run waits", "EMT-3.6", got="waits")
    if emitter.call == "raised" and raises == "never":
        raise Broken("the start of the run raised an error", "", expected="a run", got=emitter.error)
    if emitter.call == "raised":
        raise Over
    if raises == "must":
        raise Broken("the start of the run raised no error", "EMT-3", expected="an error", got="a run")


class Over(Exception):
    """The script has come to a good end before its last step."""


def call(script: Script, step: Step) -> Talk:
    """Make a call. ``arguments`` are plain JSON, or tagged ones under ``tagged``. ``times``: with ``@n@`` in them."""
    emitter = script.of(step)
    for number in range(step.get("times", 1)):
        script.names["n"] = str(number)
        arguments = tag(substitute(step.get("arguments", {}), script.names))
        arguments["v"] += [[name, value] for name, value in step.get("tagged", {}).items()]
        if "bulk" in step:
            arguments["v"].append([step["bulk"]["into"], tag(bulk(step["bulk"]))])
        emitter.call = ""
        yield from script.ask(emitter, "call", call=step["call"], arguments=arguments)
        if emitter.call == "raised":
            raise Broken(f"{step['call']} raised an error into the training", "EMT-3.1", got=emitter.error)
        if emitter.call == "waits" and step["call"] not in WAITING_CALLS:
            raise Broken(f"{step['call']} waits", "DLV-8", expected="that it returns at once", got="waits")
        if emitter.call not in {"returned", "waits"}:
            raise BadAnswer("the answer to emit.call has no call")


def bulk(wanted: Json) -> Any:
    """Return much of something: ``text`` so many ``times``, or a map of ``count`` ``names``, each with ``value``."""
    if "text" in wanted:
        return wanted["text"] * wanted["times"]
    return {wanted["names"].replace("@n@", str(number)): wanted["value"] for number in range(wanted["count"])}


def call_is(script: Script, step: Step) -> Talk:
    """See whether the last call ``waits`` or has ``returned``, with ``value``. ``within``: milliseconds."""
    emitter = script.of(step)
    if "within" in step:
        yield from script.until(emitter, lambda: emitter.call != "waits", steps_of(step["within"]))
    if emitter.call != step["is"]:
        raise Broken("what became of the call", "", expected=step["is"], got=f"{emitter.call} {emitter.error}".strip())
    if "value" in step and emitter.value is not None and emitter.value != step["value"]:
        raise Broken("what the call returned", "", expected=shown(step["value"]), got=shown(emitter.value))


def full(script: Script, step: Step) -> Talk:
    """The place for events takes no more, or takes them again."""
    yield from script.ask(script.of(step), "full", full=step["full"])


def tick(script: Script, step: Step) -> Talk:
    """Let time pass, in one piece or ``every`` so many milliseconds. ``unwanted``: a connection, all the while."""
    emitter = script.of(step)
    left = step["ms"]
    while left > 0:
        piece = min(left, step.get("every", left))
        yield from script.tick(emitter, piece)
        left -= piece
        if step.get("unwanted") and emitter.connection == "wanted":
            early = f"{left} ms before it should"
            raise Broken(f"it tries to connect {early}", "CTL-7.1", expected="none", got="wanted")


# ------------------------------------------------------------------------------------------ steps: the connection


def connect(script: Script, step: Step) -> Talk:
    """The connection that is wanted comes about. ``if_wanted``: where none is, all is well."""
    emitter = script.of(step)
    yield from script.until(emitter, lambda: emitter.connection == "wanted", CONNECT)
    if step.get("if_wanted") and emitter.connection != "wanted":
        raise Over
    if emitter.connection != "wanted":
        raise Broken("it doesn't try to connect", "DLV-6.3", expected="wanted", got=emitter.connection)
    may_lack = emitter.closings >= 2 and not emitter.secure and not emitter.welcomed
    emitter.follower.connected(hello_may_lack=may_lack)
    emitter.unread.clear()
    yield from script.ask(emitter, "connected", address=step.get("address", "127.0.0.1"))


def refuse(script: Script, step: Step) -> Talk:
    """The connection that is wanted doesn't come about."""
    emitter = script.of(step)
    yield from script.until(emitter, lambda: emitter.connection == "wanted", CONNECT)
    if emitter.connection != "wanted":
        raise Broken("it doesn't try to connect", "DLV-6.3", expected="wanted", got=emitter.connection)
    yield from script.ask(emitter, "refused")


def disconnect(script: Script, step: Step) -> Talk:
    """The collector closes the connection."""
    emitter = script.of(step)
    line = emitter.follower.line
    emitter.closings = emitter.closings + 1 if line is not None and line.mode == "waiting" else 0
    emitter.follower.line = None
    emitter.connection = "none"
    yield from script.ask(emitter, "disconnected")


def hello(script: Script, step: Step) -> Talk:
    """See the hello of the connection, whose body fits ``body``. ``feature``: without it the rest isn't asked."""
    emitter = script.of(step)
    yield from script.until(emitter, lambda: bool(emitter.unread), BRIEF)
    if not emitter.unread or emitter.unread[0].type != "hello":
        raise Broken("no hello came on the new connection", "CTL-5", expected="hello", got=told_of(emitter.unread))
    frame = emitter.unread.pop(0)
    problem = fits(frame.body, step.get("body", {}), script.names, "hello")
    if problem:
        raise Broken(problem, "", expected=shown(step["body"]), got=frame.told())
    if 1 not in frame.body["protocols"]:
        raise Broken("the hello doesn't name version 1", "CTL-5", got=frame.told())
    if "feature" in step and step["feature"] not in frame.body.get("features", ()):
        raise Over


def welcome(script: Script, step: Step) -> Talk:
    """Welcome it; ``body`` changes members of the welcome."""
    body = {"protocol": 1, "codec": "json", "durability": "power", **step.get("body", {})}
    yield from script.send_events(script.of(step), [{"t": "welcome", "p": body}])


def opened(script: Script, step: Step) -> Talk:
    """See that the stream is opened."""
    found = {"do": "expect", "events": [{"t": "open", "p": step.get("body", {})}]}
    yield from expect(script, {**step, **found})


def session(script: Script, step: Step) -> Talk:
    """All of it: connection, hello, welcome, open, and the ack with the cursor."""
    yield from connect(script, step)
    yield from hello(script, {"do": "hello", "of": step.get("of", OWN)})
    yield from welcome(script, {"of": step.get("of", OWN), "body": step.get("welcome", {})})
    yield from opened(script, {"of": step.get("of", OWN)})
    yield from ack(script, {"of": step.get("of", OWN), "seq": step.get("cursor", 0)})


def offered(script: Script, step: Step) -> Talk:
    """Where it wants a connection, it gets one, to a collector that welcomes it."""
    emitter = script.of(step)
    yield from script.until(emitter, lambda: emitter.connection == "wanted" or emitter.call == "returned")
    if emitter.connection == "wanted":
        yield from connect(script, step)
        yield from hello(script, {"of": step.get("of", OWN)})
        yield from welcome(script, {"of": step.get("of", OWN)})


def plain(script: Script, step: Step) -> Talk:
    """A connection to a peer that never answers hello."""
    yield from connect(script, step)
    yield from hello(script, {"of": step.get("of", OWN)})
    yield from script.tick(script.of(step), 2100)


def ack(script: Script, step: Step) -> Talk:
    """Ack ``seq``: a number, or ``all`` that was sent. ``bare``: without the stream's names. ``more``: members.

    ``if_open``: where the emitter may have closed the connection.
    """
    emitter = script.of(step)
    if step.get("if_open") and emitter.connection != "open":
        return
    seq = step["seq"]
    if seq == "all":
        line = emitter.follower.line
        sent = [max([entry.cursor or 0, entry.ascent, *(to for _, to in entry.skips)])
                for entry in (line.streams.values() if line else ())]  # fmt: skip
        seq = max(sent, default=0)
    body = {"seq": seq, "status": "ok", **step.get("more", {})}
    if not step.get("bare"):
        body |= {"run_id": script.names["run"], "sid": script.names["sid"]}
        body |= {"wid": script.names["wid"]} if script.names["wid"] else {}
    yield from script.send_events(emitter, [{"t": "ack", "p": body}])


def send(script: Script, step: Step) -> Talk:
    """Send ``events`` of a collector, or ``bytes`` (parts)."""
    emitter = script.of(step)
    if "events" in step:
        yield from script.send_events(emitter, step["events"])
    else:
        yield from script.send(emitter, build(step["bytes"]))


# ------------------------------------------------------------------------------------------ steps: what is seen


def expect(script: Script, step: Step) -> Talk:
    """See these events come, in this order; others may stand between, but for those ``without`` which they come.

    ``anywhere``: in any order, and what stands before them is still to be seen.
    """
    emitter = script.of(step)
    for wanted in step["events"]:
        wish = substitute(wanted, script.names)
        found: list[int] = []

        def come(wish: Json = wish, found: list[int] = found) -> bool:
            found[:] = [i for i, frame in enumerate(emitter.unread) if not fits(frame.tree, wish, dict(script.names))]
            return bool(found)

        yield from script.until(emitter, come)
        if not come():
            raise Broken("what must come didn't", "", expected=shown(wish, 300), got=told_of(emitter.unread))
        fits(emitter.unread[found[0]].tree, wish, script.names)
        if step.get("anywhere"):
            del emitter.unread[found[0]]
            continue
        for unwanted in step.get("without", ()):
            wrong = [f for f in emitter.unread[: found[0]] if not fits(f.tree, unwanted, dict(script.names))]
            if wrong:
                raise Broken("what mustn't come did", "", expected=f"no {shown(unwanted)}", got=told_of(wrong))
        del emitter.unread[: found[0] + 1]


def never(script: Script, step: Step) -> Talk:
    """See that none of ``events`` comes in ``ms`` milliseconds, nor has come since the last thing that was expected."""
    emitter = script.of(step)
    if step.get("ms"):
        yield from tick(script, {**step, "every": 250})
    for wanted in step["events"]:
        wish = substitute(wanted, script.names)
        for frame in emitter.unread:
            if not fits(frame.tree, wish, dict(script.names)):
                raise Broken("what mustn't come did", "", expected=f"no {shown(wish, 300)}", got=frame.told())


def connection(script: Script, step: Step) -> Talk:
    """See how the connection is: one of ``is``, at once or ``within`` so many milliseconds."""
    emitter = script.of(step)
    if "within" in step:
        yield from script.until(emitter, lambda: emitter.connection in step["is"], steps_of(step["within"]))
    if emitter.connection not in step["is"]:
        raise Broken("the connection", "", expected=" or ".join(step["is"]), got=emitter.connection)


def commands(script: Script, step: Step) -> Talk:
    """The training looks for commands; see that it was handed ``ids``, and no others, since the last look."""
    emitter = script.of(step)
    yield from call(script, {"of": step.get("of", OWN), "call": "commands"})
    got, emitter.commands = emitter.commands, []
    if got != step["ids"]:
        raise Broken("the commands that were handed to the training", "", expected=shown(step["ids"]), got=shown(got))


def lines(script: Script, step: Step) -> Talk:
    """See that between ``min`` and ``max`` lines for people came since the last look; none holds ``without``.

    ``has``: a regular expression that one of them fits.
    """
    yield from ()
    emitter = script.of(step)
    got, emitter.told = emitter.told, []
    least, most = step.get("min", 0), step.get("max", len(got))
    if not least <= len(got) <= most:
        raise Broken("lines for people", "", expected=f"{least} to {most}", got=shown(got, 300))
    if "has" in step and not any(re.search(step["has"], line, re.IGNORECASE) for line in got):
        raise Broken("lines for people", "", expected=f"one with {step['has']}", got=shown(got, 300))
    if "without" in step and any(step["without"] in line for line in got):
        raise Broken(f"a line for people shows {step['without']!r}", "CTL-5.4", got=shown(got, 300))


def counts(script: Script, step: Step) -> Talk:
    """See what it tells of its events, as far as it tells that."""
    yield from ()
    emitter = script.of(step)
    for name, wanted in step["are"].items():
        got = emitter.counts.get(name)
        problem = fits(got, wanted, {}, name)
        if got is not None and problem:
            raise Broken(problem, "", expected=shown(step["are"]), got=shown(emitter.counts, 300))


def pauses(script: Script, step: Step) -> Talk:
    """Refuse many attempts, and look at the pauses between: random parts of bounds that double up to 30 s.

    ``before``: attempts that failed before. The limits leave room for chance: none is passed once in a million times.
    """
    emitter = script.of(step)
    at_once = late = long = 0
    for number in range(step["attempts"]):
        yield from refuse(script, step)
        bound = min(30_000, 100 * 2 ** (number + step.get("before", 0)))
        since = emitter.now
        while emitter.connection != "wanted" and emitter.now < since + bound + 50:
            yield from script.tick(emitter, min(500, bound // 8))
        at_once += emitter.now == since
        late += emitter.connection != "wanted"
        long += emitter.now - since > bound // 4
    if at_once > 4:
        raise Broken(f"{at_once} of {step['attempts']} attempts came at once after the one before", "DLV-6.3")
    if late:
        raise Broken(f"{late} of {step['attempts']} pauses were longer than they should be", "DLV-6.3")
    if long * 4 < step["attempts"]:
        raise Broken(f"only {long} of {step['attempts']} pauses were above a quarter of their bound", "DLV-6.3")


def distinct(script: Script, step: Step) -> Talk:
    """See that these emitters have session ids of their own."""
    yield from ()
    streams = [script.emitters[name].follower.stream for name in step["all"]]
    ids = [stream[2] for stream in streams if stream]
    if len(set(ids)) < len(step["all"]):
        raise Broken("session ids", "STR-1.1", expected="a new one for each start", got=shown(ids))


def batches(script: Script, step: Step) -> Talk:
    """See that ``count`` metrics, of one call, come in several batches: each once, all at ``step``."""
    emitter = script.of(step)

    def found() -> list[Json]:
        return [frame.body for frame in emitter.unread if frame.type == "metric_batch"]

    yield from script.until(emitter, lambda: sum(len(body["metrics"]) for body in found()) >= step["count"])
    names = [name for body in found() for name in body["metrics"]]
    if len(names) != step["count"] or len(set(names)) != len(names):
        got = f"{len(names)}, {len(set(names))} of them different"
        raise Broken("metrics in the batches", "FRM-3.10", expected=str(step["count"]), got=got)
    if any(body.get("step") != step["step"] for body in found()):
        raise Broken("a batch has another step than the call", "FRM-3.10", expected=str(step["step"]))


STEPS: Final[dict[str, Callable[[Script, Step], Talk]]] = {
    "start": start,
    "call": call,
    "call_is": call_is,
    "full": full,
    "tick": tick,
    "connect": connect,
    "refuse": refuse,
    "disconnect": disconnect,
    "hello": hello,
    "welcome": welcome,
    "opened": opened,
    "session": session,
    "offered": offered,
    "plain": plain,
    "ack": ack,
    "send": send,
    "expect": expect,
    "never": never,
    "connection": connection,
    "commands": commands,
    "lines": lines,
    "counts": counts,
    "pauses": pauses,
    "distinct": distinct,
    "batches": batches,
    **PROCESS_STEPS,
    **FOLDER_STEPS,
}


def told_of(frames: list[Written]) -> str:
    """Return frames for people."""
    return "; ".join(frame.told() for frame in frames[:4]) or "nothing"


# ------------------------------------------------------------------------------------------ the conversation


def runs(case: Case, capabilities: frozenset[str]) -> list[tuple[str, Begin]]:  # noqa: ARG001 - none makes variants
    """Return the variants of a case, and how the conversation of each begins."""
    names = ["", "bytes"] if "chunking" in case.axes else [""]
    return [(name, lambda name=name: _converse(case, Script(case.id, name))) for name in names]  # type: ignore[misc]


def _converse(case: Case, script: Script) -> Conversation:
    result = NOTHING_FOUND
    for number, step in enumerate(case.script, 1):
        try:
            yield from STEPS[step["do"]](script, step)
        except Over:
            break
        except Broken as broken:
            clause = f" ({broken.clause})" if broken.clause else ""
            text = f"step {number} ({step['do']}): {broken}{clause}"
            result = Judgement("fail", text, broken.expected, broken.got)
            break
    for emitter in script.emitters.values():
        yield {"op": "emit.forget", "session": emitter.session}
    for folder in script.folders.values():
        yield {"op": "emit.forget", "session": folder, "dir": folder}
    return result
