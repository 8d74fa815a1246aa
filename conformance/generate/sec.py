"""Cases of SEC: keys, owners of runs, and who may do what."""

from __future__ import annotations

from typing import Any

from generate import sec_edges
from generate.dsl import Group, Json
from generate.serving import (
    STOP,
    R,
    ack,
    acked,
    closed,
    connect,
    end,
    event,
    expect,
    flat,
    frame,
    held,
    hello,
    join,
    key,
    one,
    open_,
    opens,
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

S = stream("s", letter="b")
FORBIDDEN = {"$in": ["forbidden"]}
ALICE, BOB = key("a", "alice"), key("b", "bob")
KEYS = {"needs": ["keys"]}
FOLLOW = {"needs": ["keys", "follow"]}
BOTH = start(keys=[ALICE, BOB])


def cases() -> Group:
    """Return the cases."""
    group = Group("sec")
    _keys(group)
    _changes(group)
    _rights(group)
    _owners(group)
    _readers(group)
    sec_edges.add_to(group)
    return group


def _keys(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        group.script(case_id, "server", clauses, why, *steps, **{**KEYS, **more})

    def unauthorized(case_id: str, clauses: str, why: str, said: Json, **more: Any) -> None:
        add(case_id, f"{clauses} CTL-7", why, start(keys=[ALICE]), connect("w"), send("w", said),
            closed("w", "unauthorized"), **{"kind": "invalid", **more})  # fmt: skip

    add("sec-key", "SEC-2.3 SEC-2.4 SEC-2.5 SEC-2.8 SEC-3 VER-4.1", "a key that is known opens the door", BOTH, join("w", key="@a@"), open_("w", R),
        send("w", seqs(R, 1)), acked("w", ack(R, 1)), kills="only-the-newest-key")  # fmt: skip
    add("sec-key-form", "SEC-2", "a key is xtk_, an id, and 256 bits in base64url", start(keys=[ALICE, BOB]),
        {"do": "look", "text": "@a@", "pattern": "xtk_[0-9a-z]{1,32}_[A-Za-z0-9_-]{43}"},
        {"do": "look", "text": "@b@", "pattern": "xtk_[0-9a-z]{1,32}_[A-Za-z0-9_-]{43}"},
        {"do": "look", "text": "@a@", "not": "@b@"}, kills="keys-of-another-form")  # fmt: skip
    unauthorized("sec-no-key", "SEC-2.4", "a hello without a key", hello(), kills="keyless-welcomed")
    unauthorized("sec-wrong-secret", "SEC-2 SEC-2.4 SEC-2.5", "the right id with a wrong secret", says({"scheme": "key", "key": "@a@x"}),
                 kills="key-by-id-only")  # fmt: skip
    unauthorized("sec-key-cut", "SEC-2 SEC-2.4", "a key without its last letter", says({"scheme": "key", "key": "@a:cut@"}), kind="boundary",
                 kills="key-by-id-only")  # fmt: skip
    unauthorized("sec-other-secret", "SEC-2.4 SEC-2.5", "one key's id with another's form of a secret",
                 says({"scheme": "key", "key": "@a:id@" + "A" * 43}), kills="key-by-id-only")  # fmt: skip
    unauthorized("sec-unknown-id", "SEC-2.4 SEC-2.5", "an id that nobody has", says({"scheme": "key", "key": f"xtk_0_{'A' * 43}"}),
                 kills="any-key-welcomed")  # fmt: skip
    unauthorized(
        "sec-empty-key",
        "SEC-2.4",
        "an empty key",
        says({"scheme": "key", "key": ""}),
        kind="boundary",
        kills="any-key-welcomed",
    )
    unauthorized(
        "sec-auth-without-key",
        "SEC-2.4",
        "a scheme alone",
        says({"scheme": "key"}),
        kind="boundary",
        kills="any-key-welcomed",
    )
    unauthorized("sec-scheme", "SEC-2.3 CTL-5.2", "another scheme, whatever comes with it", says({"scheme": "bearer", "key": "@a@"}),
                 kills="scheme-ignored")  # fmt: skip
    unauthorized("sec-scheme-case", "SEC-2.3", "schemes are compared as they are", says({"scheme": "KEY", "key": "@a@"}),
                 kind="boundary", kills="scheme-ignored")  # fmt: skip
    unauthorized("sec-key-spaces", "SEC-2.4", "a key with a space behind it", says({"scheme": "key", "key": "@a@ "}), kind="boundary",
                 kills="any-key-welcomed")  # fmt: skip
    same = [connect("x"), send("x", says({"scheme": "key", "key": f"xtk_0_{'A' * 43}"})),
            expect("x", frame("reject", code="unauthorized", msg={"$optional": {"$bind": "said"}}, retry_after={"$absent": True}))]  # fmt: skip
    add("sec-same-answer", "SEC-2.5", "an unknown id and a wrong secret get the same answer", start(keys=[ALICE]),
        *same, connect("y"), send("y", says({"scheme": "key", "key": "@a:id@" + "A" * 43})),
        expect("y", frame("reject", code="unauthorized", msg={"$optional": "@said@"}, retry_after={"$absent": True})),
        kind="boundary", kills="unknown-id-told")  # fmt: skip
    add("sec-kept", "SEC-2.1 SEC-5.1", "nothing of a secret is kept", start(keys=[ALICE]), join("w", key="@a@"),
        {"do": "keys", "change": {"show": True}, "hides": ["@a@"]}, kills="secret-kept")  # fmt: skip
    add("sec-kept-replaced", "SEC-2.1", "nor of one that replaced it", start(keys=[ALICE]),
        {"do": "keys", "change": {"replace": "a", "grace": 60}, "bind": "a2"},
        {"do": "keys", "change": {"show": True}, "hides": ["@a@", "@a2@"]}, kind="boundary", kills="secret-kept")  # fmt: skip
    wrong = [connect("x"), send("x", says({"scheme": "key", "key": "@a@x"})), closed("x", "unauthorized")]
    add("sec-counted", "SEC-5 SEC-5.1 CTL-5.4", "refusals are counted by their code, and no secret is logged",
        start(keys=[ALICE]), *wrong, join("w", key="@a@"),
        {"do": "counts", "refused": {"unauthorized": {"$min": 1}}, "hides": ["@a@"]}, kind="invalid",
        kills="refusals-uncounted key-logged")  # fmt: skip
    add("sec-counted-forbidden", "SEC-5 SEC-5.1 CTL-5.4", "those of streams, too", BOTH, join("w", key="@a@"), open_("w", R),
        join("v", key="@b@"), *refused("v", R), {"do": "counts", "refused": {"forbidden": {"$min": 1}}, "hides": ["@a@", "@b@"]},
        kind="invalid", kills="refusals-uncounted key-logged")  # fmt: skip
    add("sec-guessing", "CTL-17.4", "an address with wrong keys again and again has to wait", start(keys=[ALICE]),
        *flat(*[[connect(f"x{n}"), send(f"x{n}", says({"scheme": "key", "key": "@a@x"})), closed(f"x{n}", "unauthorized", "busy")]
                for n in range(40)]),
        connect("w"), send("w", says({"scheme": "key", "key": "@a@"})),
        expect("w", frame("reject", code="busy", retry_after={"$min": 0})), kind="invalid", level="SHOULD",
        kills="guesses-free")  # fmt: skip
    add("sec-keyless-server", "SEC-2.4", "where no key is required, one that is shown is no harm", start(),
        join("w", key=f"xtk_0_{'A' * 43}"), open_("w", R), kind="boundary", needs=[], kills="unneeded-key-refused")  # fmt: skip


def _changes(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        group.script(case_id, "server", clauses, why, *steps, **{**KEYS, **more})

    def keys(bind: str | None = None, **change: Any) -> Json:
        return {"do": "keys", "change": change} | ({"bind": bind} if bind else {})

    gone = [connect("x"), send("x", says({"scheme": "key", "key": "@a@"})), closed("x", "unauthorized")]
    add("sec-add", "SEC-2.6 SEC-2.4 SEC-2.7", "a key that is added holds at once, and those there are go on", start(keys=[ALICE]),
        join("v", key="@a@"), keys("n", add=key("n", "carol")), join("w", key="@n@"), *quiet("v"), join("u", key="@a@"),
        kills="keys-read-once changes-end-sessions")  # fmt: skip
    add("sec-remove", "SEC-2.6", "a key that was removed is refused", start(keys=[ALICE, BOB]), join("w", key="@a@"),
        keys(remove="a"), *gone, join("v", key="@b@"), kind="invalid", kills="keys-read-once")  # fmt: skip
    add("sec-remove-session", "SEC-2.7 CTL-7.4", "and its sessions end", start(keys=[ALICE, BOB]), join("w", key="@a@"),
        join("v", key="@b@"), keys(remove="a"), closed("w", may_reject=["unauthorized"]), *quiet("v"),
        kind="invalid", kills="sessions-outlive-keys")  # fmt: skip
    add("sec-replace", "SEC-2.6", "a secret that was replaced is refused", start(keys=[ALICE]),
        keys("n", replace="a", grace=0), *gone, join("w", key="@n@"), kind="invalid", kills="keys-read-once")  # fmt: skip
    add("sec-replace-session", "SEC-2.7", "and what was begun with it ends", start(keys=[ALICE]), join("w", key="@a@"),
        keys("n", replace="a", grace=0), closed("w", may_reject=["unauthorized"]), join("v", key="@n@"), kind="boundary",
        kills="sessions-outlive-keys")  # fmt: skip
    add("sec-replace-grace", "SEC-2.6", "but for as long as was said", start(keys=[ALICE]), join("w", key="@a@"),
        keys("n", replace="a", grace=600), join("v", key="@a@"), join("u", key="@n@"), *quiet("w"), kind="boundary",
        kills="grace-ignored")  # fmt: skip
    add("sec-unreadable", "SEC-2.8", "keys that can't be read are not no keys", start(keys=[ALICE]), keys(unreadable=True),
        connect("x"), send("x", says({"scheme": "key", "key": "@a@"})), closed("x", "busy"), connect("y"), send("y", hello()),
        closed("y", "busy", "unauthorized"), keys(unreadable=False), join("w", key="@a@"), kind="invalid",
        kills="unreadable-keys-are-none unreadable-is-unauthorized")  # fmt: skip
    add("sec-unreadable-plain", "SEC-2.8 VER-4.1", "nor for plain peers", start(keys=[ALICE]), keys(unreadable=True),
        connect("x"), send("x", seqs(R, 1)), closed("x", may_reject=["busy", "unauthorized"]), keys(unreadable=False),
        join("w", key="@a@"), open_("w", S), stored("r"), kind="boundary", kills="unreadable-keys-are-none")  # fmt: skip
    add("sec-at-once", "SEC-2.2", "changes one after the other all hold", start(keys=[ALICE]),
        *[keys(f"n{n}", add=key(f"n{n}", f"owner {n}")) for n in range(5)], keys(remove="n2"),
        *[join(f"w{n}", key=f"@n{n}@") for n in (0, 1, 3, 4)], join("v", key="@a@"), kills="keys-read-once")  # fmt: skip
    for name, owner in (
        ("one-letter", "a"), ("200-bytes", "o" * 200), ("200-bytes-utf8", "\u00e9" * 100), ("inner-space", "team a"),
        ("other-script", "\u8bad\u7ec3"),
    ):  # fmt: skip
        add(f"sec-owner-{name}", "SEC-1 SEC-1.1" if name in {"inner-space", "other-script"} else "SEC-1", "a name of 1 to 200 bytes is one", start(keys=[ALICE]),
            keys("n", add=key("n", owner)), join("w", key="@n@"), kind="boundary" if "200" in name else "valid",
            kills="owner-limit-100" if "200" in name else "owners-are-identifiers")  # fmt: skip
    for name, owner in (
        ("empty", ""), ("201-bytes", "o" * 201), ("202-bytes-utf8", "\u00e9" * 101), ("control", "a\u0007"), ("nul", "a\u0000b"),
        ("newline", "a\nb"), ("line-separator", "a\u2028b"), ("paragraph-separator", "a\u2029b"), ("direction", "a\u202eb"),
        ("isolate", "a\u2066b"), ("leading-space", " a"), ("trailing-space", "a "), ("no-break-space", "\u00a0a"), ("c1", "a\u0085b"),
    ):  # fmt: skip
        is_length = name in {"empty", "201-bytes", "202-bytes-utf8"}
        add(f"sec-owner-{name}", "SEC-1" if is_length else "SEC-1.1", "this names nobody", start(keys=[ALICE]),
            {**keys("n", add=key("n", owner)), "refused": True}, join("w", key="@a@"),
            kind="boundary" if "20" in name else "invalid", kills="any-owner-named")  # fmt: skip
    add("sec-owner-bytes", "SEC-1.2 SEC-4.4", "two spellings of one letter are two owners",
        start(keys=[key("a", "\u00e9"), key("b", "e\u0301")]), join("w", key="@a@"), open_("w", R), join("v", key="@b@"),
        *refused("v", R), *quiet("w"), kind="boundary", kills="owners-normalised")  # fmt: skip
    add("sec-owner-case", "SEC-1.2 SEC-4.4", "so are capitals", start(keys=[key("a", "alice"), key("b", "Alice")]),
        join("w", key="@a@"), open_("w", R), join("v", key="@b@"), *refused("v", R), kind="boundary",
        kills="owners-normalised")  # fmt: skip


def _rights(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        group.script(case_id, "server", clauses, why, *steps, **{**KEYS, **more})

    reader = [
        start(keys=[ALICE, key("r", "alice", "read"), key("w", "alice", "write")]),
        join("r", key="@r@", features=["follow"]),
    ]
    begun = [join("w", key="@a@"), open_("w", R), send("w", seqs(R, 1)), acked("w", ack(R, 1))]
    add("sec-read-only", "SEC-3 SEC-3.1 CTL-7.2 CTL-3.11", "a key for reading opens no stream", *reader, *refused("r", R),
        send("r", seqs(R, 1)), *quiet("r"), stored("r"), kind="invalid", kills="rights-ignored")  # fmt: skip
    add("sec-read-only-reads", "SEC-3.1 SEC-3", "it reads", *reader, *begun, send("r", subscribe("r", 0)),
        expect("r", frame("subscribe", from_=0)), published("r", seqs(R, 1)), **FOLLOW, kills="rights-need-both")  # fmt: skip
    add("sec-write-only", "SEC-3.1 SEC-3", "a key for writing writes", *reader, join("w", key="@w@"), open_("w", R),
        send("w", seqs(R, 1)), acked("w", ack(R, 1)), kills="rights-need-both")  # fmt: skip
    add("sec-write-only-reads", "SEC-3.1 CTL-11.6 SEC-4.3", "and doesn't read, not even what it wrote", *reader,
        join("w", key="@w@", features=["follow"]), open_("w", R), send("w", seqs(R, 1)), acked("w", ack(R, 1)),
        send("w", subscribe("r", 0)), expect("w", frame("unsubscribe", run_id="r", code="forbidden")), *quiet("w"), **FOLLOW,
        kind="invalid", kills="rights-ignored")  # fmt: skip
    e1 = [start(keys=[ALICE, key("e", "alice", experiment="e1")]), join("e", key="@e@"), join("w", key="@a@")]

    def begins(of: list[str], experiment: str | None) -> Json:
        run: Any = {"id": of[0], "exp_id": experiment} if experiment else of[0]
        return one("run_start", {"run_id": run}, seq=1, of=of)

    add("sec-experiment", "SEC-3.2", "a key for one experiment begins runs of it", *e1, open_("e", R),
        send("e", begins(R, "e1"), seqs(R, 2, 3)), acked("e", ack(R, 3)),
        stored("r", held(R, begins(R, "e1"), seqs(R, 2, 3))), kills="experiment-keys-read-alone")  # fmt: skip
    late = one("run_start", {"run_id": {"id": "r", "exp_id": "e1"}}, seq=2, of=R)
    final = {"t": "ack", "p": {"status": "error", "error": {"$begins": "forbidden"}}}
    for name, experiment in (("other", "e2"), ("none", None), ("case", "E1")):
        add(f"sec-experiment-{name}", "SEC-3.2 CTL-7.2", "and no other", *e1, open_("e", R),
            send("e", begins(R, experiment), seqs(R, 2)), expect("e", final), *quiet("e"), stored("r"), kind="invalid",
            kills="experiment-ignored")  # fmt: skip
    add("sec-experiment-first-event", "SEC-3.2", "a run that begins with anything else is of no experiment", *e1, open_("e", R),
        send("e", event("metric", R, 1, key="k", value=1), late), expect("e", final), *quiet("e"), stored("r"),
        kind="boundary", kills="experiment-ignored")  # fmt: skip
    add("sec-experiment-there", "SEC-3.2", "a run that is there, of another experiment", *e1, open_("w", R),
        send("w", begins(R, "e2")), acked("w", ack(R, 1)), *refused("e", stream(letter="c")), kind="invalid",
        kills="experiment-ignored")  # fmt: skip
    add("sec-experiment-there-mine", "SEC-3.2", "or of its own", *e1, open_("w", R), send("w", begins(R, "e1")),
        acked("w", ack(R, 1)), open_("e", stream(letter="c")), send("e", begins(stream(letter="c"), "e1")),
        acked("e", ack(stream(letter="c"), 1)), kind="valid", kills="experiment-keys-read-alone")  # fmt: skip


def _owners(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        group.script(case_id, "server", clauses, why, *steps, **{**KEYS, "kind": "invalid", **more})

    alices = [BOTH, join("w", key="@a@"), open_("w", R), send("w", seqs(R, 1)), acked("w", ack(R, 1))]
    add("sec-owner-writes", "SEC-4 SEC-1.2 SEC-4.1 SEC-4.4 CTL-7.2", "a run is its first writer's, and nobody else writes to it", *alices,
        join("v", key="@b@"), *refused("v", stream(letter="c")), send("v", seqs(stream(letter="c"), 1)), *quiet("v"),
        stored("r", held(R, seqs(R, 1))), kills="owners-ignored")  # fmt: skip
    add("sec-owner-fence", "SEC-4.4 CTL-17.5 CTL-13 CTL-13.1", "who may not write to a stream can't take it from its worker", *alices,
        join("v", key="@b@"), *refused("v", R), send("w", seqs(R, 2)), acked("w", ack(R, 2)),
        kills="fences-before-it-asks owners-ignored")  # fmt: skip
    add("sec-owner-other-key", "SEC-4 SEC-1.2 SEC-4.1 SEC-4.2 SEC-4.4 CTL-7.2", "another key of the owner is as good",
        start(keys=[ALICE, key("a2", "alice")]), join("w", key="@a@"), open_("w", R), join("v", key="@a2@"),
        open_("v", stream(letter="c")), send("v", seqs(stream(letter="c"), 1)), acked("v", ack(stream(letter="c"), 1)),
        kind="valid", kills="owner-is-the-key")  # fmt: skip
    add("sec-owner-by-open", "SEC-4 SEC-4.1", "to open a stream is enough, without any event", BOTH, join("w", key="@a@"),
        open_("w", R), join("v", key="@b@"), *refused("v", stream(letter="c")), *quiet("w"), kind="boundary",
        kills="owners-ignored")  # fmt: skip
    add("sec-owner-restart", "SEC-4.1 SEC-4", "and stays so when the server is started again", *alices, STOP,
        {**start(store="kept", keys=[key("a2", "alice"), key("b2", "bob")])}, join("v", key="@b2@"), *refused("v", S2),
        join("u", key="@a2@"), open_("u", R, 1), kind="boundary", kills="owners-ignored")  # fmt: skip
    both = [BOTH, join("w", key="@a@"), join("v", key="@b@"), send("w", opens(R)), send("v", opens(stream(letter="c")))]
    add("sec-owner-race", "SEC-4.1 SEC-4.4", "of two who open a run at once one becomes its owner", *both,
        {"do": "race", "conns": ["w", "v"]}, kind="boundary", kills="owners-ignored")  # fmt: skip
    kept = [start(), join("w"), open_("w", R), send("w", seqs(R, 1)), acked("w", ack(R, 1)), STOP,
            start(store="kept", keys=[ALICE, BOB]), join("v", key="@a@")]  # fmt: skip
    add("sec-unowned", "SEC-4.2 CTL-7.2", "a run that was made without keys is nobody's, whoever opens it", *kept,
        *refused("v", R), *refused("v", stream(letter="c")), *quiet("v"), stored("r", held(R, seqs(R, 1))),
        kills="unowned-claimed")  # fmt: skip
    add("sec-unowned-named", "SEC-4.2", "until the store's keeper has named an owner", *kept, *refused("v", stream(letter="c")),
        {"do": "access", "run_id": "r", "owner": "alice"}, join("u", key="@a@"), open_("u", R, 1), join("t", key="@b@"),
        *refused("t", stream(letter="d")), kind="boundary", kills="unowned-claimed")  # fmt: skip
    add("sec-granted-write", "SEC-4.4 SEC-4.3", "whom writing was granted may write", *alices,
        {"do": "access", "run_id": "r", "grant": "bob", "rights": ["write"]}, join("v", key="@b@"),
        open_("v", stream(letter="c")), send("v", seqs(stream(letter="c"), 1)), acked("v", ack(stream(letter="c"), 1)),
        kind="valid", kills="grants-forgotten")  # fmt: skip
    add("sec-granted-read", "SEC-4.4 CTL-7.2", "whom reading was granted may not", *alices,
        {"do": "access", "run_id": "r", "grant": "bob", "rights": ["read"]}, join("v", key="@b@"),
        *refused("v", stream(letter="c")), kind="boundary", kills="owners-ignored readers-write")  # fmt: skip
    add("sec-public-write", "SEC-4.4", "a run that is public isn't written to by all", *alices,
        {"do": "access", "run_id": "r", "public": True}, join("v", key="@b@"), *refused("v", stream(letter="c")),
        kind="boundary", kills="owners-ignored readers-write")  # fmt: skip
    add("sec-revoked", "SEC-4.4", "what was granted can be taken back", *alices,
        {"do": "access", "run_id": "r", "grant": "bob", "rights": ["write"]}, {"do": "access", "run_id": "r", "revoke": "bob"},
        join("v", key="@b@"), *refused("v", stream(letter="c")), kills="owners-ignored")  # fmt: skip
    gone = [*alices, {"do": "access", "run_id": "r", "public": True}, {"do": "delete", "run_id": "r"}]
    add("sec-deleted", "SEC-4.6 FLD-9", "nobody becomes the owner of a deleted run's id", *gone, join("v", key="@b@"),
        open_("v", S), send("v", opens(stream(letter="c")), seqs(stream(letter="c"), 1), seqs(S, 1)),
        {"do": "acked", "conn": "v", "acks": [ack(S, 1)], "ignore": [frame("ack", run_id="r")]}, stored("r"),
        kind="boundary", kills="deleted-run-closes")  # fmt: skip


S2 = stream(letter="c")


def _readers(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        group.script(case_id, "server", clauses, why, *steps, **{**FOLLOW, "kind": "invalid", **more})

    alices = [BOTH, join("w", key="@a@"), open_("w", R), send("w", seqs(R, 1, 2)), acked("w", ack(R, 2)),
              join("v", key="@b@", features=["follow"])]  # fmt: skip
    ask = send("v", subscribe("r", 0))
    no = expect("v", frame("unsubscribe", run_id="r", code="forbidden", msg={"$optional": {"$any": True}}))
    yes = [expect("v", frame("subscribe", from_=0)), published("v", seqs(R, 1, 2))]
    add("sec-read", "SEC-4.3 SEC-4.7 SEC-4.8 CTL-11 CTL-11.6 SEC-3.1", "a run isn't read by somebody else", *alices, ask, no, *quiet("v"),
        send("w", seqs(R, 3)), acked("w", ack(R, 3)), *quiet("v"), kills="readers-ignored")  # fmt: skip
    add("sec-read-owner", "SEC-4.3 SEC-4.7 SEC-4.8", "its owner reads it", *alices, join("u", key="@a@", features=["follow"]),
        send("u", subscribe("r", 0)), expect("u", frame("subscribe", from_=0)), published("u", seqs(R, 1, 2)), kind="valid", kills="owner-needs-a-grant")  # fmt: skip
    for rights in ("read", "write"):
        add(f"sec-read-granted-{rights}", "SEC-4.3", f"so does whom {rights} was granted", *alices,
            {"do": "access", "run_id": "r", "grant": "bob", "rights": [rights]}, ask, *yes, kind="valid",
            kills="grants-forgotten")  # fmt: skip
    add("sec-read-public", "SEC-4.3", "and where it is public, everybody", *alices,
        {"do": "access", "run_id": "r", "public": True}, ask, *yes, kind="valid", kills="public-ignored")  # fmt: skip
    add("sec-read-unpublic", "SEC-4.3 SEC-4.8 CTL-11.11", "until it isn't any more", *alices, {"do": "access", "run_id": "r", "public": True},
        {"do": "access", "run_id": "r", "public": False}, ask, no, kind="boundary", kills="readers-ignored")  # fmt: skip
    add("sec-read-public-write-key", "SEC-4.3 SEC-3 SEC-3.1", "but with a key that may read",
        start(keys=[ALICE, key("b", "bob", "write")]), *alices[1:], {"do": "access", "run_id": "r", "public": True}, ask, no,
        kind="boundary", kills="rights-ignored")  # fmt: skip
    add("sec-read-revoked", "CTL-11.9 SEC-4.3", "a subscription ends when the right does", *alices,
        {"do": "access", "run_id": "r", "grant": "bob", "rights": ["read"]}, ask, *yes,
        {"do": "access", "run_id": "r", "revoke": "bob"}, {**no, "patience": 15}, *quiet("v"), kills="revoked-goes-on")  # fmt: skip
    add("sec-read-nothing", "SEC-4.7 SEC-4.8 SEC-4.3", "a run that isn't there is answered like one that may not be read", *alices,
        send("v", subscribe("zzz", 0)),
        expect("v", {"t": "unsubscribe", "p": {"run_id": "zzz", "code": {"$bind": "code"}}}), ask,
        expect("v", {"t": "unsubscribe", "p": {"run_id": "r", "code": "@code@"}}), kind="boundary",
        kills="readers-ignored hidden-runs-told")  # fmt: skip
    add("sec-command-nothing", "SEC-4.7 SEC-4.5", "so is a command to it", BOTH, join("w", key="@a@", features=["commands"]),
        open_("w", ["rrr", "", R[2]]), join("v", key="@b@", features=["commands"]),
        send("v", one("command", {"cmd_id": "c1", "type": "stop", "run_id": "rrr"})),
        expect("v", frame("command_result", status="error", left=0, msg={"$bind": "msg"})), *quiet("w"), kind="boundary",
        needs=["keys", "commands"], kills="commands-of-all")  # fmt: skip
    add("sec-read-many", "SEC-4.3 SEC-4.8 CTL-11", "of two runs, the one that may be read", *alices, open_("v", S),
        send("v", seqs(S, 1)), acked("v", ack(S, 1)), ask, no, send("v", subscribe("s", 0)),
        expect("v", frame("subscribe", run_id="s", from_=0)), published("v", seqs(S, 1)), kind="boundary",
        kills="readers-ignored")  # fmt: skip
    _ = end
