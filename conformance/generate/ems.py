"""What an emitter keeps in its spool, and what is shipped from there: DLV-8, DLV-9, RST-6, RST-7."""

from __future__ import annotations

from typing import Any

from generate import ems_disk
from generate.dsl import Json
from generate.emitting import (
    CONNECT,
    DISCONNECT,
    HELLO,
    PLAIN,
    Emitting,
    ack,
    call,
    do,
    expect,
    metric,
    never,
    saw,
    session,
    tick,
)
from generate.shipping import (
    DONE,
    FORGET,
    LOCAL,
    NO_SUCCESS,
    SIDS,
    SUCCESS,
    WELCOME,
    acked,
    add,
    begin,
    held,
    noted,
    of,
    put,
    see,
    ship,
    spool,
)


def cases() -> Emitting:
    """Return the group."""
    g = Emitting("ems")
    keeping_cases(g)
    lock_cases(g)
    looking_cases(g)
    mailbox_cases(g)
    note_cases(g)
    orphan_cases(g)
    later_cases(g)
    left_alone_cases(g)
    ems_disk.add_to(g)
    return g


def keeping_cases(g: Emitting) -> None:
    """DLV-8.1."""
    lost = saw("skip", **{"from": 3, "to": 3})
    add(
        g, "kept-in-the-spool", "DLV-8.1 DLV-8", "all of it lies there before anything is sent",
        begin(), {**metric("m@n@"), "times": 50}, spool(saw("metric", 3, key="m0"), saw("metric", 52, key="m49")),
        kills="emitter-spools-a-part",
    )  # fmt: skip
    add(
        g, "read-from-the-spool", "DLV-8.1 DLV-8.2", "what is damaged there can't be sent: nobody has it any more",
        begin(), metric("m3"), metric("m4"), do("damage", dir="d", seq=3), session(),
        {**expect(lost, saw("metric", 4)), "without": [saw("metric", 3)]}, kind="invalid",
        kills="emitter-keeps-events-in-memory",
    )  # fmt: skip
    add(
        g, "read-from-the-spool-from-the-first-on", "DLV-8.1 DLV-8.2", "its very first event included",
        begin(), metric("m3"), do("damage", dir="d", seq=1), session(),
        {**expect(saw("skip", **{"from": 1, "to": 1}), saw("metric", 3)), "without": [saw("run_start")]},
        kind="boundary", kills="emitter-keeps-events-in-memory",
    )  # fmt: skip


def lock_cases(g: Emitting) -> None:
    """RST-6.5, DLV-8.4."""
    for name, options in (("with-a-collector", {}), ("without-a-collector", LOCAL)):
        add(
            g, f"alive-{name}", "RST-6.5 RST-6.6 RST-6.15", "its lock is held from before its first record",
            begin(**options), SIDS, held("lock"), metric(), held("lock"), needs="locks",
            kills="emitter-holds-no-lock emitter-locks-otherwise",
        )  # fmt: skip
    add(
        g, "alive-to-the-end", "RST-6.5", "and until its end",
        begin(**LOCAL), SIDS, call("end"), held("lock", locked=False), needs="locks", kind="boundary",
        kills="emitter-never-lets-go",
    )  # fmt: skip
    add(
        g, "locked-while-it-ships", "DLV-8.4", "nobody else ships the stream meanwhile",
        begin(), session(), metric(), expect(saw("metric")), held("shipping"), needs="locks",
        kills="emitter-ships-without-a-lock",
    )  # fmt: skip
    add(
        g, "locked-while-it-is-shipped-later", "DLV-8.4 RST-6.15", "whoever does it",
        begin(**LOCAL), metric(), FORGET, ship(), session(), expect(saw("metric")), held("shipping"),
        ack("all"), DONE, held("shipping", locked=False), needs="locks shipping", kind="boundary",
        kills="emitter-ships-without-a-lock",
    )  # fmt: skip
    add(
        g, "locked-by-another", "DLV-8.4 DLV-9.1 DLV-9.2 RST-6.15 RST-6.17", "another process ships it: it is left alone",
        begin(**LOCAL), metric(), SIDS, FORGET, put({"path": "spool/a/@sid@.shipping", "locked": True}), ship(),
        do("offered"), NO_SUCCESS, never(saw("open"), saw("metric")), needs="locks shipping", kind="invalid",
        kills="emitter-ships-what-is-locked emitter-locks-otherwise",
    )  # fmt: skip
    add(
        g, "not-locked-any-more", "DLV-8.4 DLV-9 RST-6.17", "the other one is gone",
        begin(**LOCAL), metric(), SIDS, FORGET, put({"path": "spool/a/@sid@.shipping", "locked": True}),
        put({"path": "spool/a/@sid@.shipping", "locked": False}), ship(), session(), expect(saw("metric")),
        ack("all"), DONE, needs="locks shipping", kind="boundary", kills="emitter-ships-nothing-later",
    )  # fmt: skip


def looking_cases(g: Emitting) -> None:
    """RST-6.16, RST-6.17."""
    gone = [*of("gone", begin(), metric("before")), spool({"t": "run_start", "m": {"sid": {"$bind": "old"}}}),
            *of("gone", FORGET)]  # fmt: skip
    lock = "spool/a/@old@.lock"
    adopted = [begin(), CONNECT, HELLO, WELCOME,
               {**expect({"t": "open", "p": {"sid": {"$not": "@old@", "$bind": "own"}}}), "anywhere": True},
               acked("own", 0)]  # fmt: skip
    add(
        g, "somebody-looks-as-well", "RST-6.16 DLV-8.8", "two who only look don't take each other for the emitter",
        *gone, put({"path": lock, "locked": "shared"}), *adopted,
        {**expect({"t": "open", "p": {"sid": "@old@"}}), "anywhere": True}, needs="locks", level="SHOULD",
        kills="emitter-looks-exclusively",
    )  # fmt: skip
    add(
        g, "it-looked-and-let-go", "RST-6.16", "the lock is there for who takes it next",
        *gone, *adopted, tick(12_000, 1000), put({"path": lock, "locked": True}), see({"path": lock, "locked": True}),
        needs="locks", kind="boundary", kills="emitter-looks-and-keeps-it",
    )  # fmt: skip
    add(
        g, "somebody-has-only-looked", "RST-6.17 DLV-8.4", "for a moment, which is no reason to leave it alone",
        begin(**LOCAL), metric(), SIDS, FORGET, put({"path": "spool/a/@sid@.shipping", "locked": "briefly"}), ship(),
        session(), expect(saw("metric")), ack("all"), DONE, needs="locks shipping", level="SHOULD",
        kills="emitter-doesnt-try-again",
    )  # fmt: skip


def mailbox_cases(g: Emitting) -> None:
    """RST-7.4, RST-7.5."""

    def posted(ts_plus: int, name: str = "c1", cmd_id: str = "c1", **body: Any) -> Json:
        event = {"t": "command", "v": 1, "m": {"seq": 0, "ts": 1}, "p": {"cmd_id": cmd_id, "type": "pause", **body}}
        return put({"path": f"spool/a/commands/{name}.json", "event": event, "ts_plus": ts_plus})

    def look(*ids: str) -> Json:
        return do("commands", ids=list(ids))

    def result(name: str = "c1", if_there: bool = False, **body: Any) -> Json:
        told = {"t": "command_result", "v": 1, "m": {"seq": 0, "sid": {"$absent": True}},
                "p": {"run_id": "a", "cmd_id": "c1", "status": "ok", **body}}  # fmt: skip
        more = {"if_there": True} if if_there else {}
        return see({"path": f"spool/a/commands/{name}.@sid@.result", "event": told, **more})

    none = see({"path": "spool/a/commands/*.result", "absent": True})
    second, day = 1_000_000, 86_400_000_000
    add(
        g, "command-of-the-mailbox", "CTL-2 CTL-4 RST-7.4", "it is carried out once, and answered there",
        begin(**LOCAL), SIDS, posted(second), look("c1"), look(), result(), level="SHOULD",
        kills="emitter-ignores-the-mailbox emitter-answers-nobody-in-the-mailbox",
    )  # fmt: skip
    for name, file, cmd_id, kind in (("", "c1", "c1", "valid"), ("-of-a-long-name", "a%2Fb", "a/b", "boundary")):
        add(
            g, f"result-in-the-mailbox{name}", "RST-7.4 RST-6.13", "where there is one, it is a command_result",
            begin(**LOCAL), SIDS, posted(second, file, cmd_id), call("commands"), result(file, True, cmd_id=cmd_id),
            kind=kind, kills="emitter-results-without-an-envelope",
        )  # fmt: skip
    add(
        g, "what-is-no-command", "RST-7.4 RST-7.3 EMT-3.1", "a mailbox may hold anything: no call raises",
        begin(**LOCAL), SIDS,
        put({"path": "spool/a/commands/c0.json", "parts": [{"text": "{"}]}), look(), metric(), none, kind="invalid",
        kills="emitter-raises-on-bad-commands",
    )  # fmt: skip
    for name, before in (("yesterday", day), ("a-minute-before", 60 * second)):
        add(
            g, f"command-of-{name}", "RST-7.5", "it was meant for an earlier session",
            begin(**LOCAL), SIDS, posted(-before), look(), none, kind="boundary" if before < day else "invalid",
            kills="emitter-takes-old-commands",
        )  # fmt: skip
    add(
        g, "command-that-lay-there", "RST-7.5", "the session before has left it",
        begin(**LOCAL), SIDS, FORGET, posted(-1), begin(**LOCAL), look(), none, kind="invalid",
        kills="emitter-takes-old-commands",
    )  # fmt: skip
    add(
        g, "command-since-its-start", "RST-7.5 CTL-2", "that one is for this session",
        begin(**LOCAL), SIDS, posted(-day, "c0", "c0"), posted(second), look("c1"), level="SHOULD",
        kills="emitter-ignores-the-mailbox emitter-takes-old-commands",
    )  # fmt: skip


def note_cases(g: Emitting) -> None:
    """DLV-8.6, DLV-8.9."""
    for name, cursor, kind in (("all-and-more", 40, "invalid"), ("one-event", 1, "boundary")):
        add(
            g, f"a-cursor-above-what-was-sent-{name}", "DLV-8.6 RST-9",
            "the collector has it from elsewhere, from this very folder perhaps: this may be the only copy",
            begin(), metric(), session(cursor), tick(3000), noted(buffer={"$optional": False}), kind=kind,
            kills="emitter-trims-the-only-copy",
        )  # fmt: skip
    add(
        g, "a-cursor-of-what-was-sent", "DLV-8.6 RST-9", "the usual one, of whose stream a note is kept",
        begin(), metric(), session(), expect(saw("metric", 3)), ack(2), tick(3000),
        noted(to={"$any": True}, acked=2), kills="emitter-keeps-no-notes",
    )  # fmt: skip
    add(
        g, "sent-to-a-plain-peer-long-ago", "DLV-8.9 VER-3.3 RST-9", "a second and more: it has probably come",
        begin(), metric(), PLAIN, expect(saw("metric", 3)), tick(5000), DISCONNECT, tick(3000),
        noted(unconfirmed={"$max": 3}, acked={"$optional": 0}), level="SHOULD",
        kills="emitter-plain-is-acked",
    )  # fmt: skip
    add(
        g, "sent-to-a-plain-peer-just-now", "DLV-8.9", "nobody knows whether the last words have come",
        begin(), metric(), PLAIN, expect(saw("metric", 3)), tick(300), DISCONNECT, tick(3000),
        noted(unconfirmed={"$optional": 0}), level="SHOULD", kind="invalid", kills="emitter-notes-last-words",
    )  # fmt: skip
    add(
        g, "not-taken-by-a-plain-peer", "DLV-8.9 VER-3.3", "bytes that wait on this side have come to nobody",
        begin(), SIDS, {**call("log"), "bulk": {"into": "msg", "text": "m", "times": 20_000}, "times": 40}, CONNECT,
        HELLO, do("stall"), tick(10_000, 250), DISCONNECT, tick(3000),
        noted(unconfirmed={"$optional": 0}, acked={"$optional": 0}), kind="invalid", needs="stalls",
        kills="emitter-notes-what-was-not-taken",
    )  # fmt: skip
    add(
        g, "sent-to-a-plain-peer-before-and-after", "DLV-8.9 DLV-8.3", "what is older counts, what is newer comes again",
        begin(), metric("m3"), PLAIN, expect(saw("metric", 3)), tick(5000), metric("m4"), expect(saw("metric", 4)),
        tick(300), DISCONNECT, tick(3000), noted(unconfirmed={"$max": 3}), PLAIN, expect(saw("metric", 4)),
        level="SHOULD", kind="boundary", kills="emitter-notes-last-words",
    )  # fmt: skip


def orphan_cases(g: Emitting) -> None:
    """DLV-8.8, CTL-8.6."""
    gone = [*of("gone", begin(), metric("before")), spool({"t": "run_start", "m": {"sid": {"$bind": "old"}}}),
            *of("gone", FORGET)]  # fmt: skip

    def opened(sid: Json | str, **body: Any) -> Json:
        return {**expect({"t": "open", "p": {"run_id": "a", "sid": sid, **body}}), "anywhere": True}

    own = opened({"$not": "@old@", "$bind": "own"}, passive={"$optional": False})
    add(
        g, "what-a-killed-session-left", "DLV-8.8 DLV-9", "the next session of the run ships it too",
        *gone, begin(), CONNECT, HELLO, WELCOME, own, acked("own", 0), opened("@old@"), acked("old", 0),
        {**expect({"t": "metric", "m": {"seq": 3, "sid": "@old@"}, "p": {"key": "before"}}), "anywhere": True},
        level="SHOULD", kills="emitter-leaves-orphans",
    )  # fmt: skip
    add(
        g, "what-is-left-is-passive", "CTL-8.6", "no worker takes commands for it, and this one does for its own",
        *gone, begin(), CONNECT, {**HELLO, "feature": "commands"}, WELCOME, own, acked("own", 0),
        do("opened_as", body={"run_id": "a", "sid": "@old@"}, has={"passive": True}),
        kills="emitter-opens-orphans-as-its-own",
    )  # fmt: skip
    add(
        g, "all-that-is-left-is-passive", "CTL-8.6", "of two sessions that were killed as of one",
        *of("older", begin(), metric()), spool({"t": "run_start", "m": {"sid": {"$bind": "older"}}}),
        *of("older", FORGET), *of("gone", begin(), metric()),
        spool({"t": "run_start", "m": {"sid": {"$not": "@older@", "$bind": "old"}}}), *of("gone", FORGET),
        begin(), CONNECT, {**HELLO, "feature": "commands"}, WELCOME,
        opened({"$not": "@old@", "$bind": "own"}, passive={"$optional": False}), acked("own", 0),
        *(do("opened_as", body={"run_id": "a", "sid": f"@{name}@"}, has={"passive": True}) for name in ("older", "old")),
        kind="boundary", kills="emitter-opens-orphans-as-its-own",
    )  # fmt: skip
    add(
        g, "its-own-stream-is-not-passive", "CTL-8.6 CTL-8", "it does take commands",
        begin(), CONNECT, {**HELLO, "feature": "commands"}, WELCOME,
        expect({"t": "open", "p": {"passive": {"$optional": False}}}), kind="invalid",
        kills="emitter-opens-its-own-as-passive",
    )  # fmt: skip
    add(
        g, "what-a-living-session-ships", "DLV-8.8 DLV-9.1", "its sender is alive, and may not be fenced",
        *of("other", begin(worker_id="w"), metric()), spool({"t": "run_start", "m": {"sid": {"$bind": "old"}}}),
        begin(), session(), never({"t": "open", "p": {"sid": "@old@"}}, ms=15_000), kind="invalid", needs="locks",
        kills="emitter-ships-for-the-living",
    )  # fmt: skip
    add(
        g, "what-another-run-left", "DLV-8.8", "only streams of its own run concern it",
        *of("gone", begin(), metric()), *of("gone", FORGET), begin(run_id="b"), session(),
        never({"t": "open", "p": {"run_id": "a"}}, ms=15_000), kind="boundary", level="SHOULD",
    )  # fmt: skip


def later_cases(g: Emitting) -> None:
    """DLV-9, DLV-9.2 to DLV-9.4."""

    def later(case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        more["needs"] = f"shipping {more.get('needs', '')}"
        add(g, case_id, clauses, why, *steps, **more)

    events = [saw("run_start", 1), saw("status", 2), saw("metric", 3)]
    run = (begin(), metric("m3"), FORGET)
    later(
        "shipped-later", "DLV-9 DLV-9.2", "from the spool alone",
        *run, ship(), session(), expect(*events), ack("all"), SUCCESS,
        kills="emitter-ships-nothing-later",
    )  # fmt: skip
    later(
        "shipped-later-of-a-run-that-ended", "DLV-9 EMT-3.3", "to its very end",
        begin(), metric("m3"), call("end", timeout=1), tick(2000), FORGET, ship(), session(),
        expect(*events, saw("run_end", 4)), ack("all"), DONE, kind="boundary",
        kills="emitter-ships-nothing-later",
    )  # fmt: skip
    later(
        "shipped-twice", "DLV-9 DLV-8.2", "from the collector's cursor: nothing changes",
        *run, ship(), session(), expect(*events), ack("all"), DONE, FORGET, ship(),
        do("connect", if_wanted=True), HELLO, WELCOME, do("opened"), ack(3), DONE, never(saw("metric")),
        kind="boundary", kills="emitter-ships-nothing-later",
    )  # fmt: skip
    later(
        "shipped-in-part-before", "DLV-9 DLV-8.2", "what the collector has, it isn't sent again",
        begin(), metric("m3"), metric("m4"), session(), expect(saw("metric", 4)), ack(3), tick(1500), FORGET, ship(),
        session(3), {**expect(saw("metric", 4)), "without": [saw("metric", 3)]}, ack("all"), DONE, kind="invalid",
        kills="emitter-ignores-the-cursor",
    )  # fmt: skip
    later(
        "shipped-and-not-acked", "DLV-9.2", "sent is not acked: that is no success",
        *run, ship(), session(), expect(*events), ack(2), NO_SUCCESS, kind="invalid",
        kills="emitter-reports-success-when-sent",
    )  # fmt: skip
    later(
        "shipped-to-nobody", "DLV-9.2 DLV-9", "no collector, no success",
        *run, ship(), do("refuse"), NO_SUCCESS, kind="invalid", kills="emitter-reports-success-without-a-collector",
    )  # fmt: skip
    later(
        "shipped-and-refused", "DLV-9.2", "what was refused is told",
        *run, ship(), session(), expect(*events), do("lines"),
        ack("all", rejected=[[3, "seq_conflict"]]), do("call_is", **{"is": "returned", "within": 20_000}),
        do("lines", min=1, has=r"seq_conflict|refus|reject|\b3\b"), kind="boundary", kills="emitter-hides-refusals",
    )  # fmt: skip
    later(
        "shipped-to-a-plain-peer", "DLV-9.2 VER-3.3", "it confirms nothing: no success, and that is told",
        *run, ship(), PLAIN, expect(*events), do("lines"), NO_SUCCESS, do("lines", min=1), kind="invalid",
        kills="emitter-reports-success-when-sent",
    )  # fmt: skip
    sent = (begin(), metric("m3"), PLAIN, expect(*events), tick(5000), DISCONNECT, tick(2000), FORGET)
    later(
        "not-sent-again-to-a-plain-peer", "DLV-9.3", "it would have each event twice",
        *sent, ship(), do("connect", if_wanted=True), HELLO, never(*events, ms=6000), kind="invalid", kills="emitter-plain-begins-again",
    )  # fmt: skip
    later(
        "the-rest-for-a-plain-peer", "DLV-9.3 DLV-9", "what it was not sent comes",
        *sent[:-1], metric("m4"), FORGET, ship(), PLAIN, {**expect(saw("metric", 4)), "without": [saw("metric", 3)]},
        kills="emitter-plain-begins-again",
    )  # fmt: skip
    later(
        "sent-again-when-told-to", "DLV-9.3", "somebody knows that it never came",
        *sent, ship(again=True), PLAIN, expect(*events), kind="boundary",
        kills="emitter-never-sends-again",
    )  # fmt: skip
    later(
        "of-a-living-local-run", "DLV-9.4 DLV-9.2", "it logs for no collector: what there is now is shipped",
        *of("run", begin(**LOCAL), metric("m3")), ship(), session(), expect(*events), ack("all"), DONE,
        kills="emitter-leaves-living-runs",
    )  # fmt: skip
    later(
        "of-a-local-run-that-goes-on", "DLV-9.4", "and what has come since, the next time",
        *of("run", begin(**LOCAL), metric("m3")), ship(), session(), expect(*events), ack("all"), DONE, FORGET,
        *of("run", metric("m4")), ship(), session(3), expect(saw("metric", 4)), ack("all"), DONE, kind="boundary",
        kills="emitter-leaves-living-runs",
    )  # fmt: skip
    later(
        "of-a-local-run-without-events-since", "DLV-9.4 DLV-9", "its lock is no reason to wait for its end",
        *of("run", begin(**LOCAL)), ship(), session(), expect(saw("status", 2)), ack("all"), DONE, kind="boundary",
        kills="emitter-leaves-living-runs",
    )  # fmt: skip


def left_alone_cases(g: Emitting) -> None:
    """DLV-9.1."""

    def apart(case_id: str, why: str, *steps: Json, also: str = "", **more: Any) -> None:
        add(g, case_id, f"DLV-9.1 DLV-8.4 {also}", why, *steps, needs="locks shipping", **more)

    mine = [spool({"t": "run_start", "m": {"sid": {"$bind": "old"}}})]
    no_open = never({"t": "open", "p": {"sid": "@old@"}}, {"t": "metric", "m": {"sid": "@old@"}})
    apart(
        "its-own-sender-is-alive", "to open it would fence that one for good",
        *of("run", begin(), session(), metric("m3")), *mine, ship(), do("offered"), NO_SUCCESS, no_open, kind="invalid",
        kills="emitter-ships-what-is-locked", also="DLV-9.4",
    )  # fmt: skip
    apart(
        "its-own-sender-has-no-connection", "it is alive all the same",
        *of("run", begin(), metric("m3")), *mine, ship(), do("offered"), NO_SUCCESS, no_open, kind="boundary",
        kills="emitter-ships-what-is-locked",
    )  # fmt: skip
    apart(
        "its-own-sender-is-gone", "and so is its right",
        *of("run", begin(), metric("m3"), FORGET), ship(), session(), expect(saw("metric", 3)), ack("all"), DONE,
        kills="emitter-ships-nothing-later",
    )  # fmt: skip
