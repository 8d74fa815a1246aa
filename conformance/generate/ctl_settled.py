"""Cases of CTL about what is settled: gaps and acks, deleted runs, events of no run, commands that come again."""

from __future__ import annotations

from typing import Any

from generate.ctl_commands import TAKES, W1, W2, answered, commanded
from generate.dsl import Group, Json
from generate.serving import (
    STOP,
    R,
    ack,
    acked,
    closed,
    command,
    connect,
    expect,
    frame,
    held,
    in_time,
    join,
    key,
    one,
    open_,
    quiet,
    result,
    send,
    seqs,
    skip,
    start,
    stored,
    stream,
    subscribe,
)

BARE = stream(letter="e")
"""The stream of a worker of run r without an id."""


def add_to(group: Group) -> None:
    """Add the cases."""
    _acks(group)
    _deleted(group)
    _commands(group)


def _acks(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        group.script(case_id, "server", clauses, why, *steps, **{"kind": "boundary", **more})

    session = [start(), join("w"), open_("w", R)]
    add("ctl-ack-above-a-gap", "CTL-3.16 CTL-8.1 STR-6", "an ack goes on above a gap, and the next open is answered with what stands below it",
        *session, send("w", seqs(R, 1, 2), seqs(R, 4)), acked("w", ack(R, 4)), {"do": "close", "conn": "w"}, join("v"),
        open_("v", R, 2), send("v", seqs(R, 3, 5)), acked("v", ack(R, 5)),
        stored("r", held(R, seqs(R, 1, 2), seqs(R, 4), seqs(R, 3), seqs(R, 5))), kind="valid",
        kills="gap-holds-acks cursor-is-highest")  # fmt: skip
    add("ctl-ack-above-a-gap-below-a-skip", "CTL-3.16 CTL-8.1 CTL-9", "and so does one for a declared loss above a gap",
        *session, send("w", seqs(R, 1), skip(R, 4, 5)), acked("w", ack(R, 5)), {"do": "close", "conn": "w"}, join("v"),
        open_("v", R, 1), stored("r", held(R, seqs(R, 1), lost=[[4, 5]])), kills="gap-holds-acks cursor-is-highest")  # fmt: skip
    nobodys = one("energy", {"joules": 1.5}, seq=2, of=R)
    add("ctl-event-of-no-run", "ENV-5.9 CTL-8.3 ENV-5.4", "an event that names no run belongs to no stream: neither acked nor kept",
        *session, send("w", seqs(R, 1)), acked("w", ack(R, 1)), send("w", nobodys), *quiet("w"), send("w", seqs(R, 2)),
        acked("w", ack(R, 2)), stored("r", held(R, seqs(R, 1, 2))), kills="runless-taken")  # fmt: skip
    add("ctl-plain-skip", "VER-3.12 STR-7", "a skip on a plain connection is a declared loss all the same",
        start(), connect("p"), send("p", seqs(R, 1), skip(R, 2, 4), seqs(R, 5)),
        in_time("r", held(R, seqs(R, 1), seqs(R, 5), lost=[[2, 4]])), STOP, closed("p"), kind="valid",
        kills="skip-ignored")  # fmt: skip


def _deleted(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        group.script(case_id, "server", clauses, why, *steps, **{"kind": "invalid", **more})

    begun = [start(), join("w"), open_("w", R), send("w", seqs(R, 1, 3)), acked("w", ack(R, 3))]
    gone = {"do": "delete", "run_id": "r"}
    refused = [[seq, "run_deleted"] for seq in (1, 2)]
    add("ctl-open-deleted", "CTL-8.1 FLD-9.1 FLD-9.2", "the cursor of a stream whose run was deleted is 0, as of one that was never seen",
        *begun, {"do": "close", "conn": "w"}, gone, join("v"), open_("v", R, 0), send("v", seqs(R, 1, 2)),
        acked("v", ack(R, 2, *refused)), stored("r"), kills="cursor-outlives-the-run")  # fmt: skip
    late = [send("w", seqs(R, 4)), acked("w", ack(R, 4, [4, "run_deleted"]))]
    add("ctl-sub-deleted-before", "CTL-11.10 FLD-9.2", "a run that was deleted before is watched like one that is still to come: nothing comes",
        *begun, gone, join("s", features=["follow"]), send("s", subscribe("r", 0)),
        expect("s", frame("subscribe", run_id="r", from_=0)), *late, *quiet("s"), needs=["follow"],
        kills="deleted-unsubscribed")  # fmt: skip
    add("ctl-sub-deleted-before-plain", "CTL-11.10 FLD-9.2", "also without follow", *begun, gone, join("s"),
        send("s", subscribe("r", 0)), *late, *quiet("s"), kills="deleted-unsubscribed")  # fmt: skip


def _commands(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        group.script(case_id, "server", clauses, why, *steps, **{"kind": "boundary", "needs": ["commands"], **more})

    served = [start(), join("w", **TAKES), open_("w", W1), join("c", **TAKES)]
    again = {"do": "quiet", "conn": "w", "ignore": [frame("command", cmd_id="@inner@")]}
    mine = send("w", result("r", "@inner@", wid="w1", msg="mine"))
    add("ctl-cmd-again-elsewhere", "CTL-15.8", "a command that comes again on another connection is the same one", *served,
        send("c", command("r", "c1")), commanded(), {"do": "close", "conn": "c"}, join("d", **TAKES),
        send("d", command("r", "c1")), *quiet("d"), again, mine, answered("d", msg="mine"), *quiet("d"),
        kills="repeated-anew repeated-elsewhere-anew")  # fmt: skip
    first, second = {"lr": 0.5, "at": {"x": 1, "y": 2}}, {"at": {"y": 2, "x": 1}, "lr": 0.5}
    add("ctl-cmd-again-in-another-order", "CTL-15.8 VAL-9.7", "the names of its payload in another order make no other command",
        *served, send("c", command("r", "c1", payload=first)), commanded(), send("c", command("r", "c1", payload=second)),
        *quiet("c"), again, mine, answered(msg="mine"), *quiet("c"), kills="repeated-anew repeated-by-bytes")  # fmt: skip
    add("ctl-cmd-other-owner", "CTL-15.8 CTL-15.2", "the same command of another owner is another one",
        start(keys=[key("a", "alice"), key("b", "bob")]), join("w", key="@a@", **TAKES), open_("w", W1),
        {"do": "access", "run_id": "r", "grant": "bob", "rights": ["write"]}, join("c", key="@a@", **TAKES),
        join("d", key="@b@", **TAKES), send("c", command("r", "c1")), commanded(), send("d", command("r", "c1")),
        expect("w", frame("command", cmd_id={"$bind": "other", "$not": "@inner@"})),
        send("w", result("r", "@other@", wid="w1", msg="for d")), answered("d", msg="for d"), mine, answered(msg="mine"),
        *quiet("c", "d"), needs=["commands", "keys"], kind="invalid", kills="owners-share-commands")  # fmt: skip
    add("ctl-cmd-same-id-elsewhere", "CTL-15.11 CTL-15.2", "the id of a command on another connection is no reason to refuse one",
        *served, join("d", **TAKES), send("c", command("r", "c1")), commanded(),
        send("d", command("r", "c1", payload={"of": "d"})), commanded(bind="other", payload={"of": "d"}), *quiet("d"),
        send("w", result("r", "@other@", wid="w1", msg="for d")), answered("d", msg="for d"), mine, answered(msg="mine"),
        kills="ids-of-all-connections")  # fmt: skip
    both = [*served[:2], open_("w", BARE), open_("w", W2), served[3], send("c", command("r", "c1")), commanded()]
    add("ctl-cmd-no-wid-of-two", "CTL-15.12 CTL-15.4", "of a worker without an id and one with, a result without wid is that of the former, however often it comes",
        *both, send("w", result("r", "@inner@", msg="bare"), result("r", "@inner@", msg="again")),
        expect("c", frame("command_result", wid={"$absent": True}, msg="bare", left=1)), *quiet("w", "c"),
        send("w", result("r", "@inner@", wid="w2", msg="w2")), answered(wid="w2", msg="w2", left=0),
        kills="no-wid-is-whoever-waits")  # fmt: skip
    add("ctl-cmd-no-wid-of-two-named", "CTL-15.12", "of two with ids it is nobody's", *served[:3], open_("w", W2), served[3],
        send("c", command("r", "c1")), commanded(), send("w", result("r", "@inner@", msg="whose?")), *quiet("w", "c"),
        mine, answered(wid="w1", msg="mine", left=1), send("w", result("r", "@inner@", msg="whose?")), *quiet("w", "c"),
        send("w", result("r", "@inner@", wid="w2")), answered(wid="w2", left=0), kind="invalid",
        kills="results-of-any-worker no-wid-is-whoever-waits")  # fmt: skip
