"""Cases of CTL about connections: hello and welcome, limits, deadlines, strangers, many peers, the end."""

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
    end,
    event,
    expect,
    flat,
    frame,
    held,
    hello,
    in_time,
    join,
    key,
    octets,
    one,
    open_,
    quiet,
    raw,
    send,
    seqs,
    start,
    stored,
    stream,
    words,
)

S = stream("s", letter="b")
_SUITES = "c0 0a c0 14 c0 09 c0 13 c0 2b c0 2f 00 2f 00 35"
_CURVES = "00 0a 00 06 00 04 00 17 00 1d 00 0b 00 02 01 00"
_HELLO = f"01 00 00 49 03 @@ 00*32 00 00 10 {_SUITES} 01 00 00 10 {_CURVES}"
TLS_1_1 = f"16 03 01 00 4d {_HELLO.replace('@@', '02')}"
"""A ClientHello of TLS 1.1, with suites for every kind of certificate."""
EVERYWHERE = "0.0.0.0"  # noqa: S104 - to see that it is refused
TLS_1_2 = f"16 03 01 00 4d {_HELLO.replace('@@', '03')}"


def add_to(group: Group) -> None:
    """Add the cases."""
    _greeting(group)
    _limits(group)
    _framing(group)
    _deadlines(group)
    _strangers(group)
    _many(group)
    _stopping(group)


def _greeting(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: object) -> None:
        group.script(case_id, "server", clauses, why, *steps, **more)

    add("ctl-welcome", "CTL-5.2 CTL-6 CTL-6.1 CTL-1", "a hello is answered by a welcome that is true", start(), join("w"),
        *quiet("w"), kills="hello-not-answered durability-untrue welcome-with-seq")  # fmt: skip
    add("ctl-welcome-all-members", "CTL-5.2 CTL-6", "a hello with every member there is", start(), connect("w"),
        send("w", hello(codecs=["json"], features=["x"], agent="a 1", auth={"scheme": "key", "key": "xtk_a_b"})),
        expect("w", frame("welcome", protocol=1)), kills="hello-not-answered")  # fmt: skip
    add("ctl-welcome-unknown-members", "CTL-5.2 ENV-6", "members of later texts are passed over", start(), connect("w"),
        send("w", hello(colour="red", auth=None)), expect("w", frame("welcome", protocol=1)), kind="boundary", kills="unknown-members-of-frames-refused")  # fmt: skip
    add("ctl-welcome-bytewise", "CTL-5.2 FRM-1.5", "a hello that comes byte by byte", start(), connect("w"),
        send("w", hello(), pieces=1), expect("w", frame("welcome")), kind="boundary", kills="hello-not-answered")  # fmt: skip
    add("ctl-hello-no-protocols", "CTL-5.2 CTL-7", "a hello that can't be read is answered, by a reject", start(),
        connect("w"), send("w", one("hello", {"codecs": ["json"]})), closed("w", "*"), kind="invalid",
        kills="bad-hello-plain reject-not-closed")  # fmt: skip
    add("ctl-hello-bad-protocols", "CTL-5.2 CTL-7", "nor are its members of any type", start(), connect("w"),
        send("w", one("hello", {"protocols": "1"})), closed("w", "*"), kind="invalid", kills="bad-hello-plain")  # fmt: skip
    add("ctl-two-at-once", "CTL-5.2 CTL-17", "peers are welcomed in any order", start(), connect("a"), connect("b"),
        send("b", hello()), expect("b", frame("welcome")), send("a", hello()), expect("a", frame("welcome")), kills="handshakes-one-by-one")  # fmt: skip
    add("ctl-reject-closes", "CTL-7 CTL-1.2", "behind a reject nothing more comes, and what comes is not read", start(),
        connect("w"), send("w", hello(protocols=[2])), closed("w", "unsupported_version"), join("v"), kind="invalid",
        kills="reject-not-closed")  # fmt: skip


def _limits(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: object) -> None:
        group.script(case_id, "server", clauses, why, *steps, **more)

    log = {"level": "info", "msg": "%pad%"}
    begun = [start(), join("w"), open_("w", R), send("w", seqs(R, 1))]
    full = event("log", R, 2, **log)
    add("ctl-frame-of-the-limit", "CTL-6.2 FRM-3.5 CTL-3", "a payload of as many bytes as the welcome allows", *begun,
        send("w", {**full, "pad": 0}), acked("w", ack(R, 2)), kind="boundary", kills="limit-off-by-one")  # fmt: skip
    add("ctl-frame-above", "CTL-6.2 FRM-5.1 FRM-3.4 FRM-5.3", "one byte more is fatal, and what came before stands", *begun,
        send("w", {**full, "pad": 1}), closed("w", may_reject=["frame_too_large"], acks=True),
        in_time("r", held(R, seqs(R, 1), lost="any")), kind="boundary", kills="takes-one-byte-more")  # fmt: skip
    add("ctl-limit-65536", "CTL-6.4 FRM-3.5", "the smallest limit that may be", start(max_frame=65536), join("w"),
        open_("w", R), send("w", seqs(R, 1), {**full, "pad": 0}), acked("w", ack(R, 2)), kind="boundary",
        needs=["limits"], kills="limit-off-by-one")  # fmt: skip
    add("ctl-limit-65536-above", "CTL-6.4 FRM-5.1 FRM-3.4", "and one byte above it", start(max_frame=65536), join("w"),
        open_("w", R), send("w", seqs(R, 1), {**full, "pad": 1}),
        closed("w", may_reject=["frame_too_large"], acks=True), kind="invalid", needs=["limits"], kills="takes-one-byte-more")  # fmt: skip
    for size in (1024, 65535):
        steps = [
            {"do": "start", "options": {"max_frame": size}, "may_refuse": True},
            connect("w"), send("w", hello()),
            expect("w", frame("welcome", limits={"$optional": {"max_frame": {"$optional": {"$min": 65536}}}})),
        ]  # fmt: skip
        add(f"ctl-limit-{size}", "CTL-6.4", f"a limit of {size} is refused, or not followed", *steps, kind="invalid",
            needs=["limits"], kills="limit-below-the-least")  # fmt: skip


def _framing(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, data: Json, *, code: str, **more: object) -> None:
        group.script(
            case_id, "server", f"FRM-5.1 FRM-5.3 {clauses}", why,
            start(), join("w"), open_("w", R), join("n"), open_("n", S), send("w", seqs(R, 1, 2), data),
            closed("w", may_reject=[code], acks=True), in_time("r", held(R, seqs(R, 1, 2), lost="any")),
            send("n", seqs(S, 1, 2)), acked("n", ack(S, 2)), **{"kind": "invalid", **more},
        )  # fmt: skip

    add("ctl-fatal-length-0", "FRM-2", "a length of 0", octets("00 00 00 00"), code="empty_frame",
        kills="fatal-not-closed")  # fmt: skip
    add("ctl-fatal-length-max", "FRM-3.6", "the greatest length there is, and not a byte of it", octets("ff ff ff ff"),
        code="frame_too_large", kills="fatal-not-closed")  # fmt: skip
    add("ctl-fatal-length-2-24", "FRM-3.6", "the smallest that no limit allows", octets("01 00 00 00"),
        code="frame_too_large", kind="boundary", kills="fatal-not-closed")  # fmt: skip
    add("ctl-fatal-http", "FRM-3.6", "text in place of a frame", words("GET / HTTP/1.1\r\n\r\n"), code="frame_too_large",
        kills="fatal-not-closed")  # fmt: skip
    begun = [start(), join("w"), open_("w", R), join("n"), open_("n", S)]
    bad = [("", "{"), ("-utf8", "\u00e9"), ("-array", "[1]"), ("-version", '{"t":"log","v":2,"m":{"seq":2,"ts":1},"p":{}}'),
           ("-deep", "[" * 70 + "]" * 70)]  # fmt: skip
    for name, text in bad:
        group.script(
            f"ctl-bad-frame{name}", "server", "ERR-4 ERR-4.3 FRM-5.4",
            "a bad frame costs itself alone; it is counted, and the neighbours are unharmed",
            *begun, send("w", seqs(R, 1), raw(text), seqs(R, 3)), send("n", seqs(S, 1)), acked("n", ack(S, 1)),
            in_time("r", held(R, seqs(R, 1), seqs(R, 3), lost="any")), {"do": "counts", "frames": {"$min": 1}},
            {"do": "quiet", "conn": "w", "ignore": [frame("ack")]}, kind="invalid",
            kills="bad-frame-closes frames-uncounted",
        )  # fmt: skip
    group.script(
        "ctl-no-bad-frame", "server", "ERR-4.3", "frames that are taken are no refused ones", *begun,
        send("w", seqs(R, 1, 3)), acked("w", ack(R, 3)), {"do": "counts", "frames": 0}, kills="frames-counted-when-taken",
    )  # fmt: skip
    group.script(
        "ctl-half-closed", "server", "CTL-17 DLV-6.2 FRM-5.6", "what came before a half-close counts", start(),
        connect("p"), send("p", seqs(R, 1, 30)), {"do": "half_close", "conn": "p"}, in_time("r", held(R, seqs(R, 1, 30))),
        kind="boundary", kills="half-close-drops",
    )  # fmt: skip
    group.script(
        "ctl-half-frame", "server", "ERR-4.3 FRM-5.5 DLV-6.2 FRM-5.3", "a frame that was cut off costs itself alone", start(),
        connect("p"), send("p", seqs(R, 1, 3), octets("00 00 00 50 7b 22")), {"do": "half_close", "conn": "p"},
        in_time("r", held(R, seqs(R, 1, 3))), {"do": "counts", "frames": {"$min": 1}}, kind="boundary",
        kills="frames-uncounted",
    )  # fmt: skip
    group.script(
        "ctl-reset-inside", "server", "FRM-5.3 CTL-17", "a connection that breaks inside a frame harms no other", *begun,
        send("w", seqs(R, 1, 2)), acked("w", ack(R, 2)), send("w", octets("00 00 00 50 7b 22")),
        {"do": "reset", "conn": "w"}, send("n", seqs(S, 1, 3)), acked("n", ack(S, 3)), join("v"), open_("v", R, 2),
        kind="invalid", kills="reset-ends-the-server",
    )  # fmt: skip
    group.script(
        "ctl-reset-before-hello", "server", "CTL-17 CTL-5.2", "nor do connections that break before they have said a word",
        start(), *flat(*[[connect(f"c{n}"), {"do": "reset", "conn": f"c{n}"}] for n in range(5)]), join("w"), kind="invalid", kills="reset-ends-the-server",
    )  # fmt: skip


def _deadlines(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: object) -> None:
        group.script(case_id, "server", clauses, why, *steps, **{"needs": ["deadlines"], **more})

    first = start(deadlines={"first_frame": 0.3})
    add("ctl-late-hello", "CTL-14 VER-3.7", "who says nothing is closed", first, connect("w"),
        closed("w", may_reject=["timeout"]), level="SHOULD", kills="first-frame-waits")  # fmt: skip
    add("ctl-late-hello-drips", "CTL-14 VER-3.7", "bytes that drip in don't move the deadline", first, connect("w"),
        send("w", hello(), cut=5), {"do": "wait", "seconds": 0.2}, send("w", octets("20")),
        closed("w", may_reject=["timeout"]), level="SHOULD", kind="boundary", kills="first-frame-waits")  # fmt: skip
    late = [start(deadlines={"frame": 0.3}), join("w"), open_("w", R)]
    add("ctl-late-frame", "CTL-14.1", "a frame that was begun has to be ended", *late,
        send("w", seqs(R, 1), cut=20), closed("w", may_reject=["timeout"]), level="SHOULD", kind="invalid",
        kills="frame-waits")  # fmt: skip
    add("ctl-late-frame-plain", "CTL-14.1 VER-3.5", "also on a plain connection, which is told nothing",
        start(deadlines={"frame": 0.3}), connect("p"), send("p", seqs(R, 1), octets("00 00 00 50 7b")), closed("p"),
        in_time("r", held(R, seqs(R, 1))), level="SHOULD", kind="boundary", kills="frame-waits plain-rejected")  # fmt: skip
    quick = {"ping": 0.15, "idle": 0.5}
    add("ctl-idle-ping", "CTL-10.1", "a silent peer is pinged", start(deadlines=quick), join("w"),
        expect("w", frame("ping")), level="SHOULD", kills="idle-unpinged")  # fmt: skip
    add("ctl-idle-close", "CTL-10.2", "and closed when it stays silent", start(deadlines=quick), join("w"),
        closed("w", may_reject=["timeout"]), level="SHOULD", kills="idle-waits")  # fmt: skip
    add("ctl-idle-plain", "CTL-14.2 VER-3.5", "silence is no reason to close a plain connection", start(deadlines=quick),
        connect("p"), send("p", seqs(R, 1)), in_time("r", held(R, seqs(R, 1))), {"do": "wait", "seconds": 1.2},
        send("p", seqs(R, 2)), in_time("r", held(R, seqs(R, 1, 2))), STOP, closed("p"),
        kills="plain-idle-closed")  # fmt: skip
    gone = [start(deadlines={"gone": 0.3}), join("w"), open_("w", R), send("w", seqs(R, 1, 2)), acked("w", ack(R, 2))]
    add("ctl-gone", "CTL-17.10", "a worker whose connection stays away is lost", *gone,
        stored("r", held(R, seqs(R, 1, 2)), status="running"), {"do": "close", "conn": "w"},
        in_time("r", held(R, seqs(R, 1, 2)), status="lost"), kills="never-lost")  # fmt: skip
    add("ctl-gone-not-yet", "CTL-17.10", "silence on a connection that is there is none", *gone,
        {"do": "wait", "seconds": 1.5}, *quiet("w"), stored("r", held(R, seqs(R, 1, 2)), status="running"),
        kind="boundary", kills="lost-while-connected")  # fmt: skip
    add("ctl-gone-ended", "CTL-17.10 FLD-6.3", "a worker that has ended its run isn't lost", *gone, send("w", end(R, 3)),
        acked("w", ack(R, 3)), {"do": "close", "conn": "w"}, {"do": "wait", "seconds": 1.5},
        stored("r", held(R, seqs(R, 1, 2), end(R, 3)), status="completed"), kind="boundary", kills="end-is-a-farewell")  # fmt: skip
    add("ctl-gone-plain", "CTL-17.10", "a plain worker, too", start(deadlines={"gone": 0.3}), connect("p"),
        send("p", seqs(R, 1, 2)), in_time("r", held(R, seqs(R, 1, 2)), status="running"), {"do": "close", "conn": "p"},
        in_time("r", held(R, seqs(R, 1, 2)), status="lost"), kills="never-lost")  # fmt: skip
    add("ctl-gone-back", "CTL-17.10 FLD-6.6", "one that is back runs again", *gone, {"do": "close", "conn": "w"},
        in_time("r", held(R, seqs(R, 1, 2)), status="lost"), join("v"), open_("v", R, 2), send("v", seqs(R, 3)),
        acked("v", ack(R, 3)), stored("r", held(R, seqs(R, 1, 3)), status="running"), kind="boundary",
        kills="never-lost")  # fmt: skip


def _strangers(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: object) -> None:
        group.script(case_id, "server", clauses, why, *steps, **{"kind": "invalid", **more})

    http = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    add("ctl-http", "CTL-17.8", "a browser gets an answer that it understands", start(), connect("w"),
        send("w", words(http)), closed("w", answer=[{"text": "HTTP/1."}]), level="SHOULD", kind="valid",
        kills="http-unanswered")  # fmt: skip
    add("ctl-http-post", "CTL-17.8", "also one that posts", start(), connect("w"),
        send("w", words("POST /x HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")), closed("w", answer=[{"text": "HTTP/1."}]),
        level="SHOULD", kind="valid", kills="http-unanswered")  # fmt: skip
    add("ctl-http-closed", "FRM-5.1 FRM-3.6", "it is closed, and the others don't notice", start(), join("n"),
        open_("n", R), connect("w"), send("w", words(http)), closed("w", answer=[]), send("n", seqs(R, 1)),
        acked("n", ack(R, 1)), kills="fatal-not-closed")  # fmt: skip
    add("ctl-tls-on-plain", "FRM-5.1", "so is a peer that speaks TLS where nobody does", start(), connect("w"),
        send("w", octets(TLS_1_2)), closed("w", never=[{"hex": "16 03"}]), join("n"), kills="fatal-not-closed")  # fmt: skip
    add("ctl-tls", "CTL-16.7 CTL-16.3", "over TLS it is all the same", start(tls=True), join("w", tls=True),
        open_("w", R), send("w", seqs(R, 1, 3)), acked("w", ack(R, 3)), kind="valid", needs=["tls"], kills="peek-takes-the-bytes")  # fmt: skip
    add("ctl-tls-plain-peer", "CTL-16.7", "a hello without TLS isn't welcomed where TLS is spoken", start(tls=True),
        connect("w"), send("w", hello()), closed("w", lacks='"welcome"'), join("n", tls=True), needs=["tls"],
        kills="tls-or-not")  # fmt: skip
    add("ctl-tls-plain-event", "CTL-16.7", "nor is an event taken", start(tls=True), connect("w"),
        send("w", seqs(R, 1)), closed("w", answer=[]), join("n", tls=True), open_("n", S),
        stored("r"), needs=["tls"], kind="boundary", kills="tls-or-not")  # fmt: skip
    add("ctl-tls-1.1", "CTL-16.3", "a client of TLS 1.1 gets no handshake", start(tls=True), connect("w"),
        send("w", octets(TLS_1_1)), closed("w", never=[{"hex": "16"}]), join("n", tls=True), needs=["tls"],
        kills="tls-1.1")  # fmt: skip
    add("ctl-tls-1.0", "CTL-16.3", "nor one of 1.0", start(tls=True), connect("w"),
        send("w", octets(TLS_1_1.replace("03 02 00*32", "03 01 00*32"))), closed("w", never=[{"hex": "16"}]), needs=["tls"],
        kind="boundary", kills="tls-1.1")  # fmt: skip
    add("ctl-listen-everywhere", "CTL-14.3", "beyond the machine it doesn't listen without keys and TLS",
        {**start(host=EVERYWHERE), "refused": True}, kills="listens-everywhere")  # fmt: skip
    add("ctl-listen-keyed", "CTL-14.3", "nor with keys alone",
        {**start(host=EVERYWHERE, keys=[key("k", "alice")]), "refused": True}, needs=["keys"], kind="boundary",
        kills="listens-everywhere")  # fmt: skip


def _many(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: object) -> None:
        group.script(case_id, "server", clauses, why, *steps, **more)

    peers = [f"c{n}" for n in range(12)]
    runs = {name: stream(f"run-{name}", letter="abcdef"[n % 6]) for n, name in enumerate(peers)}
    add("ctl-many-peers", "CTL-17 CTL-17.1 CTL-17.2 CTL-3", "twelve peers at once, each with a stream", start(),
        *flat(*[[join(name), open_(name, runs[name])] for name in peers]),
        *[send(name, seqs(runs[name], 1, 50)) for name in peers], *[acked(name, ack(runs[name], 50)) for name in peers],
        *[stored(runs[name][0], held(runs[name], seqs(runs[name], 1, 50))) for name in peers[::5]], kills="ten-at-most")  # fmt: skip
    add("ctl-many-workers", "CTL-17 STR-1.3", "twelve workers of one run, each with a connection", start(),
        *flat(*[[join(name), open_(name, stream("r", name))] for name in peers]),
        *[send(name, seqs(stream("r", name), 1, 20)) for name in reversed(peers)],
        *[acked(name, ack(stream("r", name), 20)) for name in peers],
        stored("r", *[held(stream("r", name), seqs(stream("r", name), 1, 20)) for name in peers]), kills="ten-at-most")  # fmt: skip
    add("ctl-in-order", "CTL-17 CTL-12.2", "a stream's events are committed in the order in which they came", start(),
        connect("p"), send("p", seqs(R, 2), seqs(R, 1), seqs(R, 5), seqs(R, 3, 4)),
        in_time("r", held(R, seqs(R, 2), seqs(R, 1), seqs(R, 5), seqs(R, 3, 4))), kind="boundary",
        kills="plain-order-kept")  # fmt: skip
    few = [start(bounds={"connections": 3}), join("a"), join("b"), join("c"), connect("d")]
    add("ctl-too-many", "CTL-17.1", "a peer above the bound is turned away, and told when to come back", *few,
        closed("d", "busy", body={"retry_after": {"$min": 0}}), *quiet("a", "b", "c"), needs=["bounds"], level="SHOULD",
        kind="boundary", kills="unbounded")  # fmt: skip
    add("ctl-too-many-over", "CTL-17.1", "when one has left, another may come", *few, closed("d", "busy"),
        {"do": "close", "conn": "a"}, {"do": "wait", "seconds": 0.3}, join("e"), needs=["bounds"], level="SHOULD",
        kind="boundary")  # fmt: skip
    half = [send(f"h{n}", octets("00 08 00 00 7b 20*60000")) for n in range(4)]
    add("ctl-unfinished", "CTL-17.3", "what is kept of incomplete frames is bounded: the first of them is given up",
        start(bounds={"unfinished": 150000}), join("w"), open_("w", R), *[join(f"h{n}") for n in range(4)],
        *flat(*[[step, {"do": "wait", "seconds": 0.05}] for step in half]),
        send("w", seqs(R, 1)), acked("w", ack(R, 1)), closed("h0", may_reject=["busy"]),
        needs=["bounds"], level="MAY", kind="invalid")  # fmt: skip
    add("ctl-silent-neighbours", "CTL-17 CTL-17.1", "peers that say nothing don't keep others out", start(),
        *[connect(f"s{n}") for n in range(30)], join("w"), open_("w", R), send("w", seqs(R, 1)), acked("w", ack(R, 1)),
        kind="boundary", kills="handshakes-one-by-one ten-at-most")  # fmt: skip
    add("ctl-neighbour-reads-nothing", "CTL-17.11 CTL-11.4",
        "a subscriber that doesn't read stops nobody; it gets all in the end, or is closed", start(), join("w"),
        open_("w", R), join("s", features=["follow"]), send("s", one("subscribe", {"run_id": "r", "from": 0})),
        send("w", seqs(R, 1, 500, text=16000)), acked("w", ack(R, 500)),
        {**PUBLISHED, "items": [seqs(R, 1, 500, text=16000)], "or_closed": True}, kind="invalid", kills="slow-reader-stops-all")  # fmt: skip
    add("ctl-poison", "CTL-17.7 CTL-3 ERR-4", "events with texts that are hard to keep cost nobody else anything",
        start(), join("w"), open_("w", R),
        send("w", seqs(R, 1), event("log", R, 2, level="info", msg="\u0000\ufffe\U0001f600"), event("tags", R, 3, tags={"": "\u0000"}),
             seqs(R, 4)),
        acked("w", ack(R, 4)), kind="boundary", kills="nul-holds-the-stream")  # fmt: skip


PUBLISHED: Json = {"do": "published", "conn": "s", "ignore": [frame("subscribe")]}


def _stopping(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: object) -> None:
        group.script(case_id, "server", clauses, why, *steps, **more)

    add("ctl-stop", "CTL-17.9 CTL-7.4 CTL-7", "a server that stops says so", start(), join("w"), open_("w", R),
        send("w", seqs(R, 1, 3)), acked("w", ack(R, 3)), STOP, closed("w", "busy"), level="SHOULD",
        kills="stops-without-a-word")  # fmt: skip
    add("ctl-stop-kept", "CTL-6.1 CTL-3 DLV-6.1", "what was acked is there when it is started again", start(), join("w"),
        open_("w", R), send("w", seqs(R, 1, 200)), acked("w", ack(R, 200)), STOP, start(store="kept"),
        stored("r", held(R, seqs(R, 1, 200))), join("v"), open_("v", R, 200), kills="cursor-always-0")  # fmt: skip
    add("ctl-stop-plain", "CTL-17.9 VER-3.5", "what a plain peer sent is committed, and it is told nothing", start(),
        connect("p"), send("p", seqs(R, 1, 100)), in_time("r", held(R, seqs(R, 1, 100))), STOP, closed("p"),
        start(store="kept"), stored("r", held(R, seqs(R, 1, 100))), level="SHOULD", kills="plain-rejected")  # fmt: skip
    add("ctl-stop-open-stream", "CTL-17.9 CTL-7.4 CTL-3.1", "an ack that still comes tells the truth", start(), join("w"), open_("w", R),
        send("w", seqs(R, 1, 500)), STOP, closed("w", may_reject=["busy"], acks=True), start(store="kept"), join("v"),
        open_("v", R, {"$any": True}), send("v", {"stream": R, "seqs": ["next", 501]}), acked("v", ack(R, 501)),
        stored("r", held(R, seqs(R, 1, 501))), kind="boundary", kills="ack-behind-the-reject")  # fmt: skip
    _ = PING
