"""Cases of SEC: what stands at the edge of a rule, just within it, or against it, where sec.py has one of these."""

from __future__ import annotations

from typing import Any

from generate.dsl import Group, Json
from generate.serving import (
    R,
    ack,
    acked,
    closed,
    connect,
    expect,
    flat,
    frame,
    held,
    join,
    key,
    one,
    open_,
    published,
    quiet,
    refused,
    says,
    send,
    seqs,
    start,
    stored,
    stream,
    subscribe,
)

S, S2 = stream("s", letter="b"), stream(letter="c")
ALICE = key("a", "alice")
KEYS = {"needs": ["keys"]}
FOLLOW = {"needs": ["keys", "follow"]}
UNKNOWN = "xtk_0_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
NEVER = {"$optional": {"$max": 0}}


def add_to(group: Group) -> None:
    """Add the cases."""
    _keys(group)
    _runs(group)


def _keys(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        group.script(case_id, "server", clauses, why, *steps, **{**KEYS, **more})

    def keys(bind: str | None = None, **change: Any) -> Json:
        return {"do": "keys", "change": change} | ({"bind": bind} if bind else {})

    def wrong(conn: str, text: str) -> list[Json]:
        said = says({"scheme": "key", "key": text})
        return [connect(conn), send(conn, said), closed(conn, "unauthorized")]

    worked = [join("w", key="@a@"), open_("w", R), send("w", seqs(R, 1)), acked("w", ack(R, 1))]
    add("sec-counted-none", "SEC-5 SEC-5.1 CTL-5.4", "where nothing is refused nothing is counted, and no key is logged",
        start(keys=[ALICE]), *worked,
        {"do": "counts", "refused": {"unauthorized": NEVER, "forbidden": NEVER, "busy": NEVER}, "hides": ["@a@"]},
        kills="key-logged everybody-counted")  # fmt: skip
    add("sec-counted-each", "SEC-5", "each refusal counts", start(keys=[ALICE]),
        *flat(*[wrong(f"x{n}", "@a@x") for n in range(3)]), {"do": "counts", "refused": {"unauthorized": {"$min": 3}}},
        kind="boundary", kills="refusals-uncounted counted-once")  # fmt: skip
    add("sec-key-in-bad-hello", "SEC-5.1 CTL-5.4", "a hello that can't be read holds a key all the same", start(keys=[ALICE]),
        connect("x"), send("x", one("hello", {"protocols": "1", "auth": {"scheme": "key", "key": "@a@"}})),
        closed("x", "*"), join("w", key="@a@"), {"do": "counts", "hides": ["@a@"]}, kind="boundary",
        kills="bad-frames-logged")  # fmt: skip
    add("sec-kept-shown", "SEC-2.1", "nor is a key kept that somebody has shown, right or wrong", start(keys=[ALICE]),
        *wrong("x", UNKNOWN), join("w", key="@a@"), {"do": "keys", "change": {"show": True}, "hides": ["@a@", UNKNOWN]},
        kind="invalid", kills="shown-keys-kept")  # fmt: skip
    add("sec-at-once-refused", "SEC-2.2", "a change that is refused undoes none", start(keys=[ALICE]),
        keys("n0", add=key("n0", "carol")), {**keys("n1", add=key("n1", "")), "refused": True},
        keys("n2", add=key("n2", "dave")), *[join(f"w{n}", key=f"@n{n}@") for n in (0, 2)], join("v", key="@a@"),
        kind="invalid", kills="refused-change-undoes")  # fmt: skip
    add("sec-guess-once", "CTL-17.4", "one wrong key makes nobody wait", start(keys=[ALICE]), *wrong("x", "@a@x"),
        join("w", key="@a@"), level="SHOULD", kills="one-guess-waits")  # fmt: skip
    add("sec-owner-next-to-marks", "SEC-1.1", "what stands next to them in Unicode is no such mark", start(keys=[ALICE]),
        keys("n", add=key("n", "~\u00a1\u2027\u2070")), join("w", key="@n@"), kind="boundary",
        kills="owners-of-ascii")  # fmt: skip
    for name, owner in (
        ("delete", "a\u007fb"),
        ("last-c0", "a\u001fb"),
        ("last-c1", "a\u009fb"),
        ("last-isolate", "a\u2069b"),
    ):
        add(f"sec-owner-{name}", "SEC-1.1", "the last of its kind names nobody, either", start(keys=[ALICE]),
            {**keys("n", add=key("n", owner)), "refused": True}, join("w", key="@a@"), kind="boundary",
            kills="any-owner-named")  # fmt: skip


def _runs(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        group.script(case_id, "server", clauses, why, *steps, **{**KEYS, **more})

    def access(run: str = "r", **change: Any) -> Json:
        return {"do": "access", "run_id": run, **change}

    alices = [
        start(keys=[ALICE, key("b", "bob")]),
        join("w", key="@a@"),
        open_("w", R),
        send("w", seqs(R, 1, 2)),
        acked("w", ack(R, 2)),
    ]
    add("sec-owner-takes-over", "CTL-17.5 CTL-13 SEC-4.4", "who may write to a stream takes it from an older connection",
        start(keys=[ALICE, key("a2", "alice")]), *alices[1:], join("v", key="@a2@"), open_("v", R, 2),
        send("v", seqs(R, 3)), acked("v", ack(R, 3)), stored("r", held(R, seqs(R, 1, 3))), kills="newer-fenced")  # fmt: skip
    add("sec-reader-fence", "CTL-17.5 CTL-13.1 SEC-4.4", "who may read it doesn't, and its worker isn't told anything", *alices,
        access(grant="bob", rights=["read"]), join("v", key="@b@"), *refused("v", R), *quiet("w"), send("w", seqs(R, 3)),
        acked("w", ack(R, 3)), kind="boundary", kills="fences-before-it-asks readers-write")  # fmt: skip
    reader = join("v", key="@b@", features=["follow"])
    ask = send("v", subscribe("r", 0))
    yes = [expect("v", frame("subscribe", from_=0)), published("v", seqs(R, 1, 2))]
    more = [send("w", seqs(R, 3)), acked("w", ack(R, 3)), published("v", seqs(R, 3))]
    add("sec-read-other-revoked", "CTL-11.9 SEC-4.3", "what is taken back from one isn't from another", *alices,
        access(grant="bob", rights=["read"]), access(grant="carol", rights=["read"]), reader, ask, *yes,
        access(revoke="carol"), *more, **FOLLOW, kills="revoked-for-all")  # fmt: skip
    add("sec-read-revoked-but-public", "CTL-11.9 SEC-4.3", "who loses one right and has another may still read", *alices,
        access(grant="bob", rights=["read"]), access(public=True), reader, ask, *yes, access(revoke="bob"), *more,
        **FOLLOW, kind="boundary", kills="revoked-though-public")  # fmt: skip
    opened = alices[:3]
    add("sec-read-before-events", "SEC-4.9 SEC-4.3 CTL-11", "a run is there when it has an owner: who opened it may wait for its events",
        *opened, join("u", key="@a@", features=["follow"]), send("u", subscribe("r", 0)),
        expect("u", frame("subscribe", from_=0)), send("w", seqs(R, 1)), acked("w", ack(R, 1)), published("u", seqs(R, 1)),
        **FOLLOW, kind="valid", kills="runs-begin-with-an-event")  # fmt: skip
    add("sec-read-before-events-of-another", "SEC-4.9 SEC-4.8 SEC-4.3", "and nobody else's before its first event, no more than later",
        *opened, reader, ask, expect("v", frame("unsubscribe", run_id="r", code="forbidden")), *quiet("v"),
        **FOLLOW, kind="invalid", kills="readers-ignored")  # fmt: skip
    add("sec-read-unsaid", "CTL-11.11 SEC-4.3", "without follow a refusal is told by a reject or not at all, and nothing is sent of the run",
        *alices, join("v", key="@b@"), open_("v", S), send("v", seqs(S, 1)), acked("v", ack(S, 1)), ask,
        send("w", seqs(R, 3)), acked("w", ack(R, 3)), send("v", subscribe("s", 0)),
        {**published("v", seqs(S, 1)), "ignore": [frame("ack", status="ok")], "or_closed": True}, kind="invalid",
        kills="readers-ignored")  # fmt: skip
    add("sec-deleted-other", "SEC-4.6 SEC-4.4", "the deletion of another run ends nothing here", *alices, open_("w", S),
        send("w", seqs(S, 1)), acked("w", ack(S, 1)), access(grant="bob", rights=["write"]),
        {"do": "delete", "run_id": "s"}, join("v", key="@b@"), open_("v", S2), send("v", seqs(S2, 1)),
        acked("v", ack(S2, 1)), kills="deletion-ends-all-grants")  # fmt: skip
    add("sec-deleted-granted", "SEC-4.6 SEC-4.8", "who might read a run that was deleted has nothing to read", *alices,
        access(grant="bob", rights=["read"]), {"do": "delete", "run_id": "r"}, reader, ask,
        expect("v", frame("unsubscribe", run_id="r", code="forbidden")), *quiet("v"), **FOLLOW, kind="invalid",
        kills="grants-outlive-runs")  # fmt: skip
