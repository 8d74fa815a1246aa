"""Cases of CTL about commands that a collector passes on."""

from __future__ import annotations

from typing import Any

from generate.dsl import Group, Json
from generate.serving import (
    ack,
    acked,
    command,
    connect,
    end,
    event,
    expect,
    frame,
    held,
    in_time,
    join,
    key,
    open_,
    quiet,
    result,
    send,
    seqs,
    start,
    stored,
    stream,
)

W1, W2 = stream(wid="w1", letter="c"), stream(wid="w2", letter="d")


def add_to(group: Group) -> None:
    """Add the cases."""
    _passing(group)
    _answering(group)
    _refusing(group)


def commanded(conn: str = "w", bind: str = "inner", **body: Any) -> Json:
    """A worker gets the command of run r."""
    return expect(conn, frame("command", cmd_id={"$bind": bind}, type="pause", run_id="r", **body))


def answered(conn: str = "c", cmd_id: str = "c1", status: str = "ok", left: int = 0, **body: Any) -> Json:
    """A client gets an answer."""
    return expect(conn, frame("command_result", cmd_id=cmd_id, status=status, left=left, run_id="r", **body))


TAKES = {"features": ["commands"]}
SERVED = [start(), join("w", **TAKES), open_("w", W1), join("c", **TAKES)]
REFUSED = answered(status="error", msg={"$not": ""})


def _passing(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        group.script(case_id, "server", clauses, why, *steps, **{"needs": ["commands"], **more})

    add("ctl-cmd", "CTL-15.1 CTL-15.3 CTL-15.4 CTL-15.2 CTL-15.9", "a command goes to the worker, and its answer back", *SERVED,
        send("c", command("r", "c1", payload={"lr": 0.5, "x": [None, {"y": 1}]})),
        commanded(payload={"lr": 0.5, "x": [None, {"y": 1}]}), send("w", result("r", "@inner@", wid="w1", msg="done")),
        answered(wid="w1", msg="done"), *quiet("c", "w"),
        kills="commands-kept left-off-by-one results-under-inner-id command-to-asker")  # fmt: skip
    add("ctl-cmd-error", "CTL-15.3 CTL-15.4", "also where it failed", *SERVED, send("c", command("r", "c1")), commanded(),
        send("w", result("r", "@inner@", wid="w1", status="error", msg="no")), answered(status="error", msg="no", wid="w1"),
        kills="commands-kept results-under-inner-id")  # fmt: skip
    add("ctl-cmd-no-wid-in-answer", "CTL-15.3 CTL-15.12", "the answer has the worker's id, also where the worker has left it out",
        *SERVED, send("c", command("r", "c1")), commanded(), send("w", result("r", "@inner@")), answered(wid="w1"),
        kills="results-without-wid")  # fmt: skip
    add("ctl-cmd-ids", "CTL-15.2 CTL-15.8", "two clients' commands of the same id are two commands", *SERVED, join("d", **TAKES),
        send("c", command("r", "same")), commanded(), send("d", command("r", "same", payload={"of": "d"})),
        expect("w", frame("command", cmd_id={"$bind": "other", "$not": "@inner@"}, payload={"of": "d"})),
        send("w", result("r", "@other@", wid="w1", msg="for d")), answered("d", "same", msg="for d"),
        send("w", result("r", "@inner@", wid="w1", msg="for c")), answered("c", "same", msg="for c"),
        *quiet("c", "d"), kills="inner-id-is-the-clients")  # fmt: skip
    add("ctl-cmd-one-worker", "CTL-15 CTL-15.1", "a command for one worker goes to it alone", *SERVED,
        join("v", **TAKES), open_("v", W2), send("c", command("r", "c1", wid="w2")), commanded("v"), *quiet("w"),
        send("v", result("r", "@inner@", wid="w2")), answered(wid="w2"), kills="command-to-all")  # fmt: skip
    add("ctl-cmd-all-workers", "CTL-15 CTL-15.4", "without wid it goes to all, and left counts down", *SERVED,
        join("v", **TAKES), open_("v", W2), send("c", command("r", "c1")), commanded("v"), commanded("w"),
        send("v", result("r", "@inner@", wid="w2")), answered(wid="w2", left=1),
        send("w", result("r", "@inner@", wid="w1")), answered(wid="w1", left=0), *quiet("c"),
        kills="left-off-by-one left-always-0")  # fmt: skip
    add("ctl-cmd-two-on-one", "CTL-15.1 CTL-15.4", "two workers on one connection get one command, and answer twice",
        *SERVED, open_("w", W2), send("c", command("r", "c1")), commanded(), *quiet("w"),
        send("w", result("r", "@inner@", wid="w1"), result("r", "@inner@", wid="w2")),
        answered(wid="w1", left=1), answered(wid="w2", left=0), kind="boundary", kills="left-always-0")  # fmt: skip
    add("ctl-cmd-passive", "CTL-15.1 CTL-15.5", "a stream that is shipped for somebody else takes none", start(),
        join("w", **TAKES), open_("w", W1, passive=True), join("c", **TAKES), send("c", command("r", "c1")), REFUSED,
        *quiet("w"), kills="command-to-passive")  # fmt: skip
    add("ctl-cmd-passive-beside", "CTL-15.1", "the worker itself does", *SERVED, join("v", **TAKES),
        open_("v", W2, passive=True), send("c", command("r", "c1")), commanded(), *quiet("v"),
        send("w", result("r", "@inner@", wid="w1")), answered(), kind="boundary",
        kills="command-to-passive")  # fmt: skip
    add("ctl-cmd-no-feature", "CTL-15.1 CTL-15.5", "nor does one who has not said that it takes commands", start(),
        join("w"), open_("w", W1), join("c", **TAKES), send("c", command("r", "c1")), REFUSED, *quiet("w"),
        kills="command-to-all-sessions")  # fmt: skip
    add("ctl-cmd-other-run", "CTL-15.1", "nor the worker of another run", *SERVED, join("v", **TAKES),
        open_("v", stream("s")), send("c", command("r", "c1")), commanded(), *quiet("v"), kind="boundary",
        kills="command-to-all-runs")  # fmt: skip
    add("ctl-cmd-fenced", "CTL-15.1 CTL-13", "it goes to the connection that has the stream now", *SERVED,
        open_("w", stream("s")), join("v", **TAKES), open_("v", W1), send("c", command("r", "c1")), commanded("v"),
        {"do": "quiet", "conn": "w", "ignore": [frame("ack", status="error")]}, kind="boundary", kills="fenced-commanded")  # fmt: skip
    add("ctl-cmd-plain", "CTL-15.1 CTL-15.7 VER-3.5", "a plain worker gets it, and doesn't answer", start(), connect("p"),
        send("p", seqs(W1, 1, 2)), in_time("r", held(W1, seqs(W1, 1, 2))), join("c", **TAKES),
        send("c", command("r", "c1")), answered(wid="w1", msg={"$not": ""}), expect("p", frame("command", type="pause")),
        kills="plain-uncommanded plain-awaited")  # fmt: skip
    add("ctl-cmd-plain-other", "CTL-15.1 CTL-15.5", "a plain worker of another run doesn't", start(), connect("p"),
        send("p", seqs(stream("s"), 1, 2)), in_time("s", held(stream("s"), seqs(stream("s"), 1, 2))), join("c", **TAKES),
        send("c", command("r", "c1")), REFUSED, {"do": "stop"}, {"do": "closed", "conn": "p"}, kind="boundary",
        kills="command-to-all-runs")  # fmt: skip
    add("ctl-cmd-not-stored", "CTL-1.3 CTL-15.1", "neither commands nor results become part of a run", *SERVED,
        send("c", command("r", "c1")), commanded(), send("w", result("r", "@inner@", wid="w1"), seqs(W1, 1)), answered(),
        acked("w", ack(W1, 1)), stored("r", held(W1, seqs(W1, 1))), kills="controls-stored")  # fmt: skip
    add("ctl-cmd-of-a-plain-peer", "CTL-15 VER-3.5 CTL-1.4", "a plain peer can't send one", *SERVED, connect("p"),
        send("p", command("r", "c1"), seqs(stream(letter="e"), 1)),
        in_time("r", held(stream(letter="e"), seqs(stream(letter="e"), 1))), *quiet("w"), kind="invalid", kills="plain-commands")  # fmt: skip


def _answering(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        group.script(case_id, "server", clauses, why, *steps, **{"needs": ["commands"], **more})

    begun = [*SERVED, send("c", command("r", "c1")), commanded()]
    mine = [send("w", result("r", "@inner@", wid="w1", msg="mine")), answered(msg="mine")]
    add("ctl-cmd-first-answer", "CTL-15.3", "of two answers the first counts", *begun,
        send("w", result("r", "@inner@", wid="w1", msg="mine"), result("r", "@inner@", wid="w1", msg="again")),
        answered(msg="mine"), *quiet("w", "c"), kind="boundary", kills="every-answer-passed")  # fmt: skip
    add("ctl-cmd-stranger", "CTL-15.3", "an answer of a connection that wasn't asked is ignored", *begun,
        join("x", **TAKES), open_("x", W2), send("x", result("r", "@inner@", wid="w1", msg="stolen")), *quiet("x"), *mine,
        kind="invalid", kills="results-of-strangers")  # fmt: skip
    add("ctl-cmd-other-worker", "CTL-15.3", "so is one in the name of a worker that wasn't meant", *SERVED,
        open_("w", W2), send("c", command("r", "c1", wid="w1")), commanded(),
        send("w", result("r", "@inner@", wid="w2", msg="wrong")), *quiet("w"), *mine, kind="invalid",
        kills="results-of-any-worker")  # fmt: skip
    add("ctl-cmd-other-run-answer", "CTL-15.3", "and one that names another run", *begun,
        send("w", result("zzz", "@inner@", wid="w1", msg="wrong")), *quiet("w"), *mine, kind="boundary",
        kills="results-of-any-run")  # fmt: skip
    add("ctl-cmd-unknown-answer", "CTL-15.3", "and one to a command that nobody gave", *begun,
        send("w", result("r", "nothing", wid="w1", msg="wrong")), *quiet("w"), *mine, kind="invalid",
        kills="stray-closes")  # fmt: skip
    add("ctl-cmd-gone", "CTL-15.6 CTL-15.4", "a worker whose connection ends before its answer", *begun,
        {"do": "close", "conn": "w"}, answered(status="error", wid="w1"), kind="invalid", kills="gone-unanswered")  # fmt: skip
    add("ctl-cmd-gone-of-two", "CTL-15.6 CTL-15.4", "of two, the other's answer still comes", *SERVED, join("v", **TAKES),
        open_("v", W2), send("c", command("r", "c1")), commanded("v"), commanded("w"), {"do": "reset", "conn": "w"},
        answered(status="error", wid="w1", left=1), send("v", result("r", "@inner@", wid="w2")), answered(wid="w2"),
        kind="boundary", kills="gone-unanswered left-always-0")  # fmt: skip
    add("ctl-cmd-late", "CTL-15.6", "a worker that takes too long", start(deadlines={"command": 0.3}),
        join("w", **TAKES), open_("w", W1), join("c", **TAKES), send("c", command("r", "c1")), commanded(),
        answered(status="error", wid="w1"), *quiet("c"), needs=["commands", "deadlines"],
        kind="invalid", kills="late-unanswered")  # fmt: skip
    add("ctl-cmd-after-late", "CTL-15.6 CTL-15.3", "what it says later is ignored", start(deadlines={"command": 0.3}),
        join("w", **TAKES), open_("w", W1), join("c", **TAKES), send("c", command("r", "c1")), commanded(),
        answered(status="error"), send("w", result("r", "@inner@", wid="w1")), *quiet("w", "c"), kind="boundary",
        needs=["commands", "deadlines"], kills="late-unanswered")  # fmt: skip
    add("ctl-cmd-repeated", "CTL-15.8", "a command that is repeated has the same id for the worker", *begun,
        send("c", command("r", "c1")), *quiet("c"),
        {"do": "quiet", "conn": "w", "ignore": [frame("command", cmd_id="@inner@")]}, *mine, kind="boundary",
        kills="repeated-anew")  # fmt: skip
    add("ctl-cmd-repeated-after", "CTL-15.8", "and after the answer, is answered alike", *begun, *mine,
        send("c", command("r", "c1")),
        expect("c", frame("command_result", cmd_id="c1", status="ok", msg="mine", left=0)),
        {"do": "quiet", "conn": "w", "ignore": [frame("command", cmd_id="@inner@")]}, kind="boundary", level="INFO")  # fmt: skip
    add("ctl-cmd-same-id", "CTL-15.11", "another command under an id that is under way is refused", *begun,
        send("c", command("r", "c1", payload={"another": True})), answered(status="error", msg={"$not": ""}),
        *quiet("w"), kind="invalid", kills="same-id-taken")  # fmt: skip
    add("ctl-cmd-after-end", "CTL-15.1 CTL-15.5", "a worker that has ended its run and is gone takes none", *SERVED,
        send("w", seqs(W1, 1), end(W1, 2)), acked("w", ack(W1, 2)), {"do": "close", "conn": "w"}, *quiet("c"),
        {"do": "wait", "seconds": 0.2}, send("c", command("r", "c1")), REFUSED, kind="boundary", kills="no-worker-unsaid")  # fmt: skip
    _ = event


def _refusing(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        group.script(case_id, "server", clauses, why, *steps, **{"needs": ["commands"], "kind": "invalid", **more})

    alone = [start(), join("c", **TAKES)]
    add("ctl-cmd-no-worker", "CTL-15.5", "where no worker is, an error says so", *alone, send("c", command("r", "c1")),
        REFUSED, *quiet("c"), kills="no-worker-unsaid")  # fmt: skip
    add("ctl-cmd-no-such-worker", "CTL-15.5 CTL-15.1", "or not the one that is meant", *SERVED,
        send("c", command("r", "c1", wid="w9")), REFUSED, *quiet("w"), kills="no-worker-unsaid command-to-all")  # fmt: skip
    add("ctl-cmd-no-run", "CTL-15.1 CTL-15", "a command without a run is passed to nobody", *SERVED,
        send("c", {"event": {"t": "command", "v": 1, "m": {"seq": 0, "ts": 1}, "p": {"cmd_id": "c1", "type": "stop"}}}),
        *quiet("w"), kind="boundary", kills="commands-for-anybody")  # fmt: skip
    for name, cmd_id in (("empty", ""), ("129", "x" * 129), ("long", "\u00e9" * 65)):
        add(f"ctl-cmd-id-{name}", "CTL-15.9 CTL-15.5", "an id that is empty or above 128 bytes is refused", *SERVED,
            send("c", command("r", cmd_id)),
            expect("c", frame("command_result", cmd_id=cmd_id, status="error", left=0)), *quiet("w"), kind="boundary",
            level="SHOULD", kills="any-id-taken")  # fmt: skip
    add("ctl-cmd-id-128", "CTL-15.9 CTL-15.1 CTL-15.2", "one of 128 bytes isn't", *SERVED, send("c", command("r", "x" * 128)),
        commanded(), send("w", result("r", "@inner@", wid="w1")), answered(cmd_id="x" * 128), kind="boundary",
        kills="commands-kept")  # fmt: skip
    add("ctl-cmd-huge", "CTL-15.9 CTL-15.5", "nor is a command passed on of more than 65,536 bytes", *SERVED,
        send("c", command("r", "c1", payload={"x": "y" * 70000})), REFUSED, *quiet("w"), level="SHOULD",
        kills="any-id-taken")  # fmt: skip
    keyed = [
        start(keys=[key("a", "alice"), key("b", "bob"), key("r", "alice", "read")]),
        join("w", key="@a@", **TAKES), open_("w", W1),
    ]  # fmt: skip
    more = {"needs": ["commands", "keys"]}
    add("ctl-cmd-forbidden", "CTL-15.5 CTL-7.2 SEC-4.5", "somebody else's run takes none of your commands", *keyed,
        join("c", key="@b@", **TAKES), send("c", command("r", "c1")), REFUSED, *quiet("w"), **more,
        kills="commands-of-all")  # fmt: skip
    add("ctl-cmd-read-only", "CTL-15.5 SEC-3.1 SEC-4.5", "nor with a key that may only read", *keyed,
        join("c", key="@r@", **TAKES), send("c", command("r", "c1")), REFUSED, *quiet("w"), **more,
        kills="commands-of-all rights-ignored")  # fmt: skip
    add("ctl-cmd-of-a-reader", "SEC-4.5 SEC-4.3", "who may read a run may not command it", *keyed,
        {"do": "access", "run_id": "r", "grant": "bob", "rights": ["read"]}, join("c", key="@b@", **TAKES),
        send("c", command("r", "c1")), REFUSED, *quiet("w"), **more, kind="boundary", kills="commands-of-all")  # fmt: skip
    add("ctl-cmd-of-a-writer", "SEC-4.5 SEC-4.4 CTL-15.1", "who may write to it may", *keyed,
        {"do": "access", "run_id": "r", "grant": "bob", "rights": ["read", "write"]}, join("c", key="@b@", **TAKES),
        send("c", command("r", "c1")), commanded(), send("w", result("r", "@inner@", wid="w1")), answered(), **more,
        kind="valid", kills="grants-forgotten")  # fmt: skip
