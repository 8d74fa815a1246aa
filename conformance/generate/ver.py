"""Cases of VER: what a server makes of a hello, and of a connection without one."""

from __future__ import annotations

from generate.dsl import Group, Json
from generate.serving import (
    PING,
    STOP,
    R,
    ack,
    acked,
    closed,
    connect,
    derived,
    event,
    expect,
    flat,
    frame,
    held,
    hello,
    in_time,
    join,
    key,
    nosid,
    octets,
    one,
    open_,
    opens,
    quiet,
    raw,
    send,
    seqs,
    start,
    stream,
    subscribe,
    words,
)

WELCOME = frame("welcome", protocol=1, codec="json")
S = stream(letter="b")


def cases() -> Group:
    """Return the cases."""
    group = Group("ver")
    _versions(group)
    _codecs(group)
    _features(group)
    _plain(group)
    return group


def _answered(group: Group, case_id: str, clauses: str, why: str, said: Json, answer: Json, **more: object) -> None:
    """Add a case: a hello, and its answer; a session that goes on behind a welcome."""
    steps = [start(), connect("w"), send("w", said), expect("w", answer)]
    steps += [open_("w", R), *quiet("w")] if answer["t"] == "welcome" else [closed("w")]
    group.script(case_id, "server", clauses, why, *steps, **more)


def _versions(group: Group) -> None:
    def chosen(case_id: str, why: str, protocols: list[int], **more: object) -> None:
        _answered(
            group, case_id, "VER-2 VER-2.1 VER-2.5 CTL-6 CTL-5.2", why, hello(protocols=protocols), WELCOME, **more
        )

    def none(case_id: str, why: str, protocols: list[int], **more: object) -> None:
        answer = frame("reject", code="unsupported_version")
        members = {"kind": "invalid", **more}
        _answered(group, case_id, "VER-2 VER-2.1 CTL-5.2 CTL-7", why, hello(protocols=protocols), answer, **members)

    chosen("ver-one", "version 1 is all that both speak", [1], kills="hello-not-answered")
    chosen("ver-newer-client", "a client of later versions speaks 1 too", [1, 2, 3], kills="version-highest-of-client")
    chosen("ver-newer-first", "the order of the versions means nothing", [9, 1], kills="version-first-of-client")
    chosen("ver-zero-listed", "a version that nobody speaks is passed over", [0, 1], kind="boundary",
           kills="version-lowest-of-client")  # fmt: skip
    chosen("ver-twice", "a version that is named twice", [1, 1], kind="boundary", kills="version-named-twice-refused")
    chosen("ver-int64", "a version may be any integer", [9223372036854775807, 1, -1], kind="boundary",
           kills="version-highest-of-client")  # fmt: skip
    none("ver-none-common", "2 is no version that is spoken", [2], kills="version-highest-of-client reject-not-closed")
    none("ver-none-at-all", "a client that speaks no version", [], kind="boundary", kills="no-version-is-1")
    none("ver-zero", "there is no version 0", [0], kind="boundary", kills="version-first-of-client")


def _codecs(group: Group) -> None:
    def codec(case_id: str, why: str, codecs: list[str] | None, **more: object) -> None:
        _answered(
            group, case_id, "VER-2.2 VER-2.3 CTL-6", why, hello(codecs=codecs), frame("welcome", codec="json"), **more
        )

    codec("ver-codec-json", "json is spoken by every peer", ["json"], kills="codec-in-capitals")
    codec("ver-codec-absent", "without codecs it is json", None, kind="boundary", kills="codec-must-be-listed")
    codec("ver-codec-none", "no codec listed: json", [], kind="boundary", kills="codec-must-be-listed")
    codec("ver-codec-unknown", "none that is spoken is listed: json", ["cbor", "x"], kills="codec-must-be-listed")
    codec("ver-codec-unknown-first", "the first that it speaks", ["cbor", "json"], kills="codec-first-of-client")
    codec("ver-codec-case", "names of codecs are compared as they are", ["JSON"], kills="codec-first-of-client")
    group.script(
        "ver-codec-msgpack", "server", "VER-2.2 VER-2.6 CTL-6 MSG-1", "msgpack where it is spoken, else json; told in JSON",
        start(), connect("w"), send("w", hello(codecs=["msgpack", "json"])),
        expect("w", frame("welcome", codec={"$in": ["msgpack", "json"]})), kills="codec-in-capitals welcome-in-msgpack",
    )  # fmt: skip
    group.script(
        "ver-codec-json-first", "server", "VER-2.2", "the client's order decides, not the server's",
        start(), connect("w"), send("w", hello(codecs=["json", "msgpack"])), expect("w", WELCOME),
        open_("w", R), send("w", seqs(R, 1, 3)), acked("w", ack(R, 3)), kills="codec-by-the-servers-order",
    )  # fmt: skip


def _features(group: Group) -> None:
    def features(case_id: str, why: str, *names: str, **more: object) -> None:
        group.script(
            case_id, "server", "VER-2.4 CTL-6", why, start(), join("w", features=list(names)), *quiet("w"), **more
        )

    features("ver-features-none", "what the client doesn't name isn't agreed on", kind="boundary",
             kills="features-of-server")  # fmt: skip
    features("ver-features-unknown", "a name that the server doesn't know isn't agreed on", "telepathy",
             kills="features-of-client")  # fmt: skip
    features(
        "ver-features-both", "those that both name", "commands", "follow", "telepathy", "", kills="features-of-client"
    )
    features("ver-features-one", "one of those that the server knows", "follow", kills="features-of-server")
    for name in ("codecs", "features"):
        clause = "VER-2.2" if name == "codecs" else "VER-2.4"
        group.script(
            f"ver-{name}-no-list", "server", f"{clause} CTL-5.2 CTL-7", "a text is no list of texts, and nothing is chosen",
            start(), connect("w"), send("w", hello(**{name: "json"})), closed("w", "*"), join("v"), kind="invalid",
            kills="bad-hello-plain",
        )  # fmt: skip
    group.script(
        "ver-refused-each-time", "server", "VER-2.5 VER-2.1", "a hello that was refused is refused again, and no other",
        start(),
        *flat(*[[connect(name), send(name, hello(protocols=[2])), closed(name, "unsupported_version")] for name in "abc"]),
        join("d"), kind="invalid", kills="refusal-depends-on-the-last",
    )  # fmt: skip
    group.script(
        "ver-same-each-time", "server", "VER-2.5", "the same hello has the same answer, whatever came before",
        start(),
        *flat(*[[join(name, features=["follow", "x"]), *quiet(name)] for name in "abc"]),
        connect("n"), send("n", hello(protocols=[7])), closed("n", "unsupported_version"),
        join("d", features=["follow", "x"]), kills="features-for-the-first",
    )  # fmt: skip


def _plain(group: Group) -> None:
    plain = derived()

    def silent(case_id: str, clauses: str, why: str, *items: Json, keeps: list[Json], **more: object) -> None:
        """Add a case: what a plain peer sends is kept, and nothing is said to it, to the end."""
        group.script(
            case_id, "server", f"VER-3.4 VER-3.5 {clauses}", why,
            start(), connect("w"), send("w", *items), in_time("r", *keeps), STOP, closed("w"), **more,
        )  # fmt: skip

    silent("ver-plain", "", "events without a hello are taken, and not acked", seqs(R, 1, 20),
           keeps=[held(R, seqs(R, 1, 20))], kills="plain-acked plain-rejected")  # fmt: skip
    silent("ver-plain-without-sid", "", "a worker of before sends no sid", nosid(R, 1, 5),
           keeps=[held(plain, nosid(R, 1, 5))], kills="plain-acked plain-rejected")  # fmt: skip
    silent("ver-plain-disorder", "CTL-12.2", "a plain peer needn't keep the order",
           seqs(R, 1), seqs(R, 3), seqs(R, 2), keeps=[held(R, seqs(R, 1), seqs(R, 3), seqs(R, 2))],
           kills="plain-order-kept")  # fmt: skip
    silent("ver-plain-seq-0", "CTL-12.2 ENV-4.3", "in any order, but there is no seq below 1",
           seqs(R, 1), event("metric", R, 0, key="k", value=1), seqs(R, 3), seqs(R, 2),
           keeps=[held(R, seqs(R, 1), seqs(R, 3), seqs(R, 2), lost="any")], kind="invalid",
           kills="bad-frame-closes plain-order-kept")  # fmt: skip
    silent("ver-plain-gap", "CTL-12.2", "what went missing on the way to a plain peer is a gap, and no more",
           seqs(R, 1, 2), seqs(R, 7, 9), keeps=[held(R, seqs(R, 1, 2), seqs(R, 7, 9))], kind="boundary",
           kills="plain-order-kept")  # fmt: skip
    silent("ver-plain-late-hello", "CTL-5 CTL-1.4", "a hello that isn't the first frame is none",
           seqs(R, 1), hello(), seqs(R, 2), keeps=[held(R, seqs(R, 1, 2))], kind="invalid",
           kills="late-hello-answered")  # fmt: skip
    silent("ver-plain-ping", "CTL-1.4 VER-3.12", "a plain peer gets no pong: it wouldn't know what that is",
           seqs(R, 1), PING, seqs(R, 2), keeps=[held(R, seqs(R, 1, 2))], kind="boundary", kills="plain-pong")  # fmt: skip
    silent("ver-plain-first-ping", "CTL-1.4", "a ping as the first frame makes the connection plain", PING, seqs(R, 1, 2),
           keeps=[held(R, seqs(R, 1, 2))], kind="boundary", kills="plain-pong")  # fmt: skip
    silent("ver-plain-open", "CTL-1.4 VER-3.12", "an open without a hello isn't answered", opens(R), seqs(R, 1, 2),
           keeps=[held(R, seqs(R, 1, 2))], kind="invalid", kills="plain-acked plain-opened")  # fmt: skip
    silent("ver-plain-subscribe", "CTL-1.4", "nor does a plain peer get events", subscribe("r", 0), seqs(R, 1, 2),
           keeps=[held(R, seqs(R, 1, 2))], kind="invalid", kills="plain-subscribes")  # fmt: skip
    silent("ver-plain-bad-frame", "ERR-4 FRM-5.4", "a bad frame costs itself alone, without a word",
           seqs(R, 1), raw("{"), raw("[1]"), seqs(R, 3), keeps=[held(R, seqs(R, 1), seqs(R, 3), lost="any")],
           kind="invalid", kills="bad-frame-closes")  # fmt: skip
    silent("ver-plain-first-bad", "ERR-4", "a bad frame that comes first makes the connection plain, as it is no hello",
           raw('{"t":"metric"}'), seqs(R, 1, 2), keeps=[held(R, seqs(R, 1, 2), lost="any")], kind="boundary",
           kills="bad-frame-closes")  # fmt: skip
    silent("ver-plain-two-runs", "", "events of several workers on one plain connection",
           seqs(R, 1, 3), seqs(stream(wid="w2", letter="c"), 1, 3), seqs(R, 4),
           keeps=[held(R, seqs(R, 1, 4)), held(stream(wid="w2", letter="c"), seqs(stream(wid="w2", letter="c"), 1, 3))],
           kills="plain-acked")  # fmt: skip
    silent("ver-plain-duplicate", "DLV-6.2 STR-4.1", "an event that comes twice is there once", seqs(R, 1, 3), seqs(R, 2, 4),
           keeps=[held(R, seqs(R, 1, 4))], kills="plain-duplicate-closes")  # fmt: skip
    group.script(
        "ver-plain-fatal", "server", "VER-3.5 FRM-5.1 FRM-5.3",
        "a plain peer is closed without a word, and what came before stands",
        start(), connect("w"), send("w", seqs(R, 1, 3), octets("ff ff ff ff")), closed("w"),
        in_time("r", held(R, seqs(R, 1, 3))), kind="invalid", kills="fatal-not-closed plain-rejected",
    )  # fmt: skip
    group.script(
        "ver-plain-keyed", "server", "VER-4.1 VER-3.7 SEC-2.4", "where a key is required, a plain peer is refused",
        start(keys=[key("k", "alice")]), connect("w"), send("w", seqs(R, 1, 3)),
        closed("w", may_reject=["unauthorized"]), join("s", key="@k@"), open_("s", R), {"do": "stored", "run": "r"},
        kind="invalid", needs=["keys"], kills="plain-in-spite-of-keys",
    )  # fmt: skip
    group.script(
        "ver-keyed-ping-first", "server", "VER-4.1", "whatever comes first, if it is no hello",
        start(keys=[key("k", "alice")]), connect("w"), send("w", PING, opens(R), seqs(R, 1)),
        closed("w", may_reject=["unauthorized"]), join("s", key="@k@"), open_("s", R), {"do": "stored", "run": "r"},
        kind="invalid", needs=["keys"], kills="plain-in-spite-of-keys",
    )  # fmt: skip
    group.script(
        "ver-keyed-hello-late", "server", "VER-4.1 CTL-5", "a hello behind an event is too late",
        start(keys=[key("k", "alice")]), connect("w"),
        send("w", seqs(R, 1), hello(auth={"scheme": "key", "key": "@k@"})), closed("w", may_reject=["unauthorized"]),
        kind="invalid", needs=["keys"], kills="plain-in-spite-of-keys",
    )  # fmt: skip
    group.script(
        "ver-plain-beside-sessions", "server", "VER-3.4 VER-3.5 CTL-3.10",
        "what came by a plain connection isn't acked on a session that has not sent it",
        start(), join("s"), open_("s", R), connect("p"), send("p", seqs(R, 1, 9)), in_time("r", held(R, seqs(R, 1, 9))),
        send("s", seqs(R, 1, 2)), acked("s", ack(R, 2)), *quiet("s"), STOP, closed("p"), kills="acks-what-it-has",
    )  # fmt: skip
    group.script(
        "ver-plain-unnamed-run", "server", "VER-3.4 ENV-5.4",
        "an unknown event that names no run is nobody's, and no harm",
        start(), connect("w"), send("w", one("vision", {"x": 1}, seq=1), seqs(R, 1, 2)),
        in_time("r", held(R, seqs(R, 1, 2))), STOP, closed("w"), kind="boundary", kills="unknown-type-closes",
    )  # fmt: skip
    group.script(
        "ver-plain-words", "server", "VER-3.5 FRM-5.1 CTL-17.8", "no frame and no protocol that anybody knows: it is closed",
        start(), connect("w"), send("w", words("\u007f\u007f\u007f\u007f\u007f")),
        {"do": "closed", "conn": "w", "answer": []}, kind="invalid", kills="fatal-not-closed",
    )  # fmt: skip
    _ = S
