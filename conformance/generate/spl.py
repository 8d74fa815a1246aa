"""Spools: names, what lies beside the segments, what was shipped. docs/spec/at-rest.md, RST-5 to RST-9"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from generate.dsl import Json, Parts, dump, event, log, metric
from generate.resting import Resting, changed, events_of, head, header, hexed, rec, zeros

# A case a line, as in a table:
# fmt: off

NOW = 1_800_000_000_000_000
DAY = 86_400_000_000
URL = "tcp://collector.example:7777"
STREAM: Json = {"run_id": "a", "wid": "", "sid": "s"}
START = event("run_start", {"run_id": "a"}, seq=1, sid="s")
END = event("run_end", {"run_id": "a", "status": "completed"}, seq=9, sid="s")


NO_DIGEST = {
    "120": "name-length-one-less",
    "quoted-120": "name-length-one-less",
    "con-more": "name-device-as-prefix",
    "com-more": "name-device-as-prefix",
    "device-extension": "name-device-as-prefix",
    "device-at-end": "name-device-as-suffix",
    "device-after-mark": "name-device-as-suffix",
    "capital-umlaut": "name-any-capital",
    "hex-capitals": "name-hex-counts-as-capitals",
}
"""Mutants, by the id that needs no digest in its name."""


class Spools(Resting):
    """Cases of spools."""

    def name_of(self, case_id: str, clauses: str, why: str, text: str, name: str, **more: Any) -> None:
        """Add an id and its name."""
        step: Json = {"do": "name", "text": text, "is": name}
        self.script(case_id, "store", clauses, why, step, needs=["spool"], **more)

    def read(self, case_id: str, clauses: str, why: str, files: list[Json], told: Json, **more: Any) -> None:
        """Add a spool that is read. ``absent``: runs that aren't told of."""
        step: Json = {"do": "spool_read", "files": files, "is": told}
        if "absent" in more:
            step["absent"] = more.pop("absent")
        self.script(case_id, "store", clauses, why, step, **{"needs": ["spool"], **more})

    def write(self, case_id: str, clauses: str, why: str, files: list[Json], **more: Any) -> None:
        """Add a spool that is written to."""
        step: Json = {"do": "spool_write"} | ({"files": files} if files else {})
        for name in ("append", "lost", "command", "access", "delete", "refused", "may_refuse", "unchanged", "untouched", "modes"):
            if name in more:
                step[name] = more.pop(name)
        self.script(case_id, "store", clauses, why, step, **{"needs": ["spool"], **more})

    def trim(self, case_id: str, clauses: str, why: str, files: list[Json], **more: Any) -> None:
        """Add a spool that is trimmed."""
        step: Json = {"do": "spool_trim", "files": files, "now": more.pop("now", NOW), "keeps": more.pop("keeps", [])}
        for name in ("may_go", "ends"):
            if name in more:
                step[name] = more.pop(name)
        step["note"] = "spool/a/s.ship"
        self.script(case_id, "store", clauses, why, step, **{"needs": ["spool", "trim"], **more})


def file(path: str, content: Parts | Json | str | bytes = b"", **more: Any) -> Json:
    """Return a file of a spool: an object is its JSON."""
    if isinstance(content, dict):
        content = dump(content)
    if isinstance(content, str):
        content = [{"text": content}]
    elif isinstance(content, bytes):
        content = hexed(content.hex(" ")) if content else []
    return {"path": f"spool/{path}", "bytes": content, **more}


def part(*seqs: int, number: int = 1, path: str = "", **changes: Any) -> Json:
    """Return a segment of the stream s of the run a."""
    return file(path or f"a/s.{number:06d}.xseg", events_of(*seqs, number=number, **changes))


def stream(*seqs: int, **more: Any) -> Json:
    """Return what is told of a run a with the one stream s."""
    return {"a": {"streams": {"|s": {"events": list(seqs), **more}}}}


def cases() -> Spools:
    """Return the cases."""
    g = Spools("spl")
    _names(g)
    _identity(g)
    _tails(g)
    _beside(g)
    _access(g)
    _shipped(g)
    _write(g)
    _trim(g)
    return g


def _names(g: Spools) -> None:
    dev = "41d5f4fc35d8b3a5b7e5f0f0c4cdf1d1"  # a session id
    for case, text, name, kills in (
        ("plain", "abc-1", "abc-1", "name-letters-alone"),
        ("session", dev, dev, "name-letters-alone"),
        ("marks", "a-b_c+d=e@f", "a-b_c+d=e@f", "name-marks-quoted"),
        ("slash", "sweep/3.5", "sweep%2F3%2E5", "name-dot-kept"),
        ("dots", "..", "%2E%2E", "name-dot-kept"),
        ("dot", ".", "%2E", "name-dot-kept"),
        ("umlaut", "\u00fcber", "%C3%BCber", "name-quoted-by-letters name-lower-hex"),
        ("emoji", "\U0001f600", "%F0%9F%98%80", "name-quoted-by-letters name-lower-hex"),
        ("percent", "a%2eb", "a%252eb", "name-percent-kept"),
        ("space", "a b", "a%20b", "name-space-as-plus"),
        ("empty", "", "%00empty", "name-empty"),
        ("nul", "\0empty", "%00empty", ""),
        ("tilde", "a~b", "a%7Eb", "name-odd-marks-kept"),
        ("colon", 'c:\\x*?"<>|', "c%3A%5Cx%2A%3F%22%3C%3E%7C", "name-odd-marks-kept"),
        ("controls", "\n\x7f", "%0A%7F", "name-lower-hex"),
        ("decomposed", "u\u0308", "u%CC%88", "name-normalised"),
    ):
        kind = "valid" if case in {"plain", "session", "marks", "slash", "umlaut"} else "boundary"
        if case != "nul":
            g.name_of(f"spl-name-{case}", "RST-6.13", f"the name of the id {text!a}", text, name, kind=kind, kills=kills)
    for case, text in (
        ("capital", "Run"),
        ("capital-last", "runX"),
        ("capital-quoted", "\u00fc/R"),
        ("con", "con"),
        ("prn", "prn"),
        ("aux", "aux"),
        ("nul", "nul"),
        ("com1", "com1"),
        ("com0", "com0"),
        ("lpt9", "lpt9"),
        ("121", "a" * 121),
        ("quoted-123", "." * 41),
        ("long", "\u00fc/" * 300),
    ):
        kills = "name-capitals-kept" if "capital" in case else "name-devices-kept" if len(text) < 5 else ""
        kills += "" if "capital" in case else " name-length-kept" if len(text) > 40 else ""
        g.name_of(f"spl-name-digest-{case}", "RST-6.14", f"the id {text[:12]!a} needs a digest in its name", text, _digested(text), kind="valid" if case in {"capital", "con", "long"} else "boundary", kills=kills + " name-digest-sha1")
    for case, text, name in (
        ("120", "a" * 120, "a" * 120),
        ("quoted-120", "." * 40, "%2E" * 40),
        ("con-more", "con1", "con1"),
        ("com-more", "com12", "com12"),
        ("device-at-end", "falcon", "falcon"),
        ("device-after-mark", "a-nul", "a-nul"),
        ("device-extension", "nul.txt", "nul%2Etxt"),
        ("hex-capitals", "\u00fc", "%C3%BC"),
        ("capital-umlaut", "\u00dc", "%C3%9C"),
    ):
        g.name_of(f"spl-name-no-digest-{case}", "RST-6.13 RST-6.14", f"the id {text[:12]!a} needs none", text, name, kind="boundary", kills=NO_DIGEST.get(case, ""))


def _digested(text: str) -> str:
    plain = b"-_+=@"
    quoted = "".join(
        chr(byte) if (chr(byte).isalnum() and byte < 128) or byte in plain else f"%{byte:02X}" for byte in text.encode()
    )
    return f"{quoted[:79]}~{sha256(text.encode()).hexdigest()[:40]}"


def _identity(g: Spools) -> None:
    g.read("spl-read", "RST-6 RST-6.1 RST-2.8 RST-3.9", "a run, a stream, two segments in order", [part(1, 2), part(3, number=2)], stream(1, 2, 3), kills="only-first-segment")
    g.read("spl-read-empty", "RST-6", "a spool without runs", [{"path": "spool", "folder": True}], {}, kind="boundary", absent=["a"], kills="phantom-run")
    g.read("spl-read-name-of-segment", "RST-6.1", "the stream is that of the header, not of the file's name", [part(1, path="a/other.000007.xseg")], stream(1), kind="boundary", kills="stream-from-name")
    g.read("spl-read-name-of-folder", "RST-6.1", "the run is that of the header, not of the folder's name", [part(1, path="elsewhere/s.000001.xseg")], stream(1), kind="boundary", absent=["elsewhere"], kills="run-from-folder")
    two = {"a": {"streams": {"|s": {"events": [1]}, "w|s": {"events": [1, 2]}}}}
    g.read("spl-read-two-workers-one-session", "RST-6.1", "two workers with one session id are two streams", [part(1), part(1, 2, path="a/s.000002.xseg", wid="w", number=1)], two, kind="boundary", kills="workers-merged")
    bare = log(seq=1)
    g.read("spl-read-stream-of-header", "RST-3.8", "a payload without wid and sid is an event of the header's stream", [file("a/s.000001.xseg", [*head(header(wid="w", sid="5f0c")), *rec(1, bare)])], {"a": {"streams": {"w|5f0c": {"events": [{"seq": 1, "event": bare}]}}}}, kills="session-derived-in-segment")
    g.read("spl-read-stream-of-header-start", "RST-3.8 STR-2", "nor does a run_start without sid get a derived session id there", [file("a/s.000001.xseg", [*head(), *rec(1, event("run_start", {"run_id": "a"}, seq=1, ts=9000)), *rec(2)])], stream(1, 2), kind="boundary", kills="session-derived-in-segment")
    other = log(seq=1, run_id="b")
    g.read("spl-read-run-of-header", "RST-3.8", "a payload that names another run is an event of the header's run", [file("a/s.000001.xseg", [*head(), *rec(1, other)])], stream(1), kind="invalid", absent=["b"], kills="run-from-payload")
    lower = [file("a/s.000001.xseg", [*head(header(first_seq=5)), *rec(5), *rec(3)])]
    g.read("spl-read-below-first-seq", "RST-2.8 RST-3.3", "a record below first_seq is an event as any", lower, stream(3, 5, missing=[[1, 2], [4, 4]]), kind="boundary", kills="first-seq-hides")
    g.read("spl-read-seq-0-of-an-event", "RST-3.9", "also where the record's seq is 0, which is that of a skip", [file("a/s.000001.xseg", [*head(), *rec(1), *rec(0, log(seq=2)), *rec(3)])], stream(1, 2, 3, missing=[]), kind="boundary", kills="seqs-must-agree")
    g.read("spl-read-seqs-differ", "RST-3.9 RST-3.2", "the seq of a record is another than that of its payload: the payload's counts", [file("a/s.000001.xseg", [*head(), *rec(1), *rec(7, log(seq=2))])], stream(1, 2, missing=[]), kind="invalid", kills="seqs-must-agree")
    nobodys = event("energy", {"joules": 1.5}, seq=2)
    g.read("spl-read-no-run", "RST-3.8 ENV-5.9 ENV-5.4", "an event that names no run is one of the header's run", [file("a/s.000001.xseg", [*head(), *rec(1), *rec(2, nobodys)])], stream(1, 2, missing=[]), kind="boundary", kills="runless-in-segment-dropped")
    g.read("spl-read-again", "RST-3.7 STR-4", "a record that stands in two segments is one event", [part(1, 2), part(2, 3, number=2)], stream(1, 2, 3, missing=[]), kills="duplicates-in-spool")
    g.read("spl-read-again-whole", "RST-3.7 STR-4", "a segment that stands there twice adds nothing", [part(1, 2), part(1, 2, number=2)], stream(1, 2, missing=[]), kind="boundary", kills="duplicates-in-spool")
    other_two = file("a/s.000002.xseg", [*head(header(number=2, first_seq=2)), *rec(2, log("other", seq=2)), *rec(3)])
    g.read("spl-read-again-otherwise", "RST-3.7 STR-5", "a seq that stands there twice with different content is one event, too", [part(1, 2), other_two], stream(1, 2, 3, missing=[]), kind="invalid", kills="duplicates-in-spool")
    g.read("spl-read-million", "RST-6 RST-6.3", "the millionth segment has seven digits, and the order of numbers holds", [part(1, number=999_999), part(2, number=1_000_000)], stream(1, 2), kind="boundary", kills="segment-number-of-six-digits")
    g.read("spl-read-no-segment", "RST-2.2 RST-6", "a file that is no segment costs itself alone", [part(1), file("a/s.000002.xseg", "no segment"), part(3, number=3)], stream(1, 3, missing=[[2, 2]]), kind="invalid", kills="bad-segment-stops-run")
    g.read("spl-read-both-headers-bad", "RST-2.2 RST-6.1", "a segment without a header that holds costs itself alone", [part(1), file("a/s.000002.xseg", [*changed(head(), (20, 1), (4116, 1)), *rec(2)]), part(3, number=3)], stream(1, 3), kind="invalid", kills="bad-segment-stops-run")
    g.read("spl-read-second-header", "RST-2.1", "a segment whose first block is lost is read all the same", [file("a/s.000001.xseg", changed(events_of(1, 2), *((at, 0xFF) for at in range(8))))], stream(1, 2), kind="boundary", kills="second-header-unused")
    g.read("spl-read-unknown-files", "RST-7.7", "files whose names nobody knows are ignored", [part(1), file("a/README.txt", "x"), file("a/.s.part", "x"), file("a/s.000001.xseg.bak", events_of(8)), file("a/commands/x.tmp", "x"), {"path": "spool/note.txt", "bytes": hexed("00")}], stream(1), kind="boundary", absent=["note.txt"], kills="any-file-is-a-segment")
    g.read("spl-read-undecodable", "RST-3.6", "a record that is no event costs itself alone", [file("a/s.000001.xseg", [*head(), *rec(1), *rec(2, "[1]"), *rec(3)])], stream(1, 3), kind="invalid", kills="undecodable-stops-run")
    skip = event("skip", {"run_id": "a", "sid": "s", "from": 2, "to": 4}, seq=0)
    g.read("spl-read-skip", "CTL-1.5 RST-3.2", "a declared loss in a segment: no event, and missing", [file("a/s.000001.xseg", [*head(), *rec(1), *rec(0, skip), *rec(5)])], stream(1, 5, missing=[[2, 4]]), kind="boundary", kills="control-in-spool-kept")
    ping = event("ping", {}, seq=0)
    g.read("spl-read-control", "CTL-1.3 CTL-1.5", "another control event in a segment is ignored", [file("a/s.000001.xseg", [*head(), *rec(1), *rec(0, ping), *rec(2)])], stream(1, 2, missing=[]), kind="invalid", kills="control-in-spool-kept")
    g.read("spl-read-runs", "RST-6", "two runs in two folders", [part(1), part(1, 2, path="b/s.000001.xseg", run_id="b")], {**stream(1), "b": {"streams": {"|s": {"events": [1, 2]}}}}, kills="only-first-run")


def _tails(g: Spools) -> None:
    tail = changed(rec(3), to=40)
    g.read("spl-torn-not-lost", "RST-5.9", "a torn tail held no event, and nothing is lost for it", [file("a/s.000001.xseg", [*events_of(1, 2), *tail])], stream(1, 2, missing=[]), kills="torn-counted-as-lost")
    g.read("spl-torn-zeros-not-lost", "RST-5.9 RST-5.1", "zeros at the end held none either", [file("a/s.000001.xseg", [*events_of(1, 2), *zeros(512)])], stream(1, 2, missing=[]), kind="boundary", kills="torn-counted-as-lost")
    g.read("spl-torn-then-segment", "RST-5.9 RST-5.11", "behind a torn tail the stream goes on in the next segment", [file("a/s.000001.xseg", [*events_of(1, 2), *tail]), part(3, 4, number=2)], stream(1, 2, 3, 4, missing=[]), kind="boundary", kills="torn-counted-as-lost only-first-segment")
    g.read("spl-damage-is-missing", "RST-5.2 RST-5.3 RST-5.9", "a damaged record costs its event, and is missing", [file("a/s.000001.xseg", [*head(), *rec(1), *changed(rec(2), (40, 1)), *rec(3)])], stream(1, 3, missing=[[2, 2]]), kind="invalid", kills="gaps-not-told")
    live = [file("a/s.000001.xseg", [*events_of(1, 2), *tail]), file("a/s.lock", locked=True)]
    g.read("spl-live", "RST-6.6 RST-5.10", "a lock that is held: the emitter lives, and its last record may still come", live, stream(1, 2, alive=True, lost=None, missing=[]), kind="valid", needs=["spool", "locks"], kills="locks-ignored")
    missed = file("a/s.lost", {"at": 5, "reason": "vanished", "after_seq": 1})
    g.read("spl-live-and-lost", "RST-6.6", "whatever somebody has left word of, it lives", [part(1, 2), file("a/s.lock", locked=True), missed], stream(1, 2, alive=True), kind="invalid", needs=["spool", "locks"], kills="locks-ignored")
    g.read("spl-dead", "RST-6.6", "a lock file that nobody holds says that nobody lives", [part(1), file("a/s.lock")], stream(1, alive=False), kind="boundary", needs=["spool", "locks"], kills="lock-file-means-alive")


def _beside(g: Spools) -> None:
    lost = {"at": 1703123456000000, "reason": "died", "after_seq": 2, "detail": "signal 9"}
    g.read("spl-lost", "RST-7.1 RST-7.2 FLD-6", "a .lost file is the loss of its stream", [part(1, 2), file("a/s.lost", lost)], stream(1, 2, lost=lost), kills="lost-ignored")
    g.read("spl-lost-least", "RST-7.1 RST-7.2 FLD-6.7", "after_seq and detail are there where they are known", [part(1, 2), file("a/s.lost", {"at": 5, "reason": "vanished"})], stream(1, 2, lost={"at": 5, "reason": "vanished"}), kind="boundary", kills="lost-ignored lost-needs-detail lost-of-no-seq-is-of-0")
    named = {"at": 5, "reason": "died", "after_seq": 1}
    g.read("spl-lost-named-seq", "FLD-6.7 RST-7.2", "a seq that is named is told as it stands, though there are greater ones", [part(1, 2), file("a/s.lost", named)], stream(1, 2, lost=named), kills="lost-ignored")
    g.read("spl-lost-null", "RST-7.11 FLD-6.7", "null is absence", [part(1, 2), file("a/s.lost", {"at": 5, "reason": "vanished", "after_seq": None, "detail": None})], stream(1, 2, lost={"at": 5, "reason": "vanished"}), kind="boundary", kills="lost-ignored lost-null-refused lost-of-no-seq-is-of-0")
    g.read("spl-lost-unknown-member", "RST-7.7", "members that nobody knows are ignored", [part(1), file("a/s.lost", {**lost, "host": "h"})], stream(1, lost={"at": lost["at"], "reason": "died"}), kills="lost-ignored")
    g.read("spl-lost-of-another", "RST-7.2", "it is the loss of that stream and of no other", [part(1), part(1, path="a/t.000001.xseg", sid="t"), file("a/t.lost", lost)], {"a": {"streams": {"|s": {"events": [1], "lost": None}, "|t": {"lost": {"at": lost["at"], "reason": "died"}}}}}, kind="boundary", kills="lost-of-all")
    digest = _digested("S1")
    g.read("spl-lost-name", "RST-6.14 RST-7.1", "its name is made from the session id as all names are", [part(1, path=f"a/{digest}.000001.xseg", sid="S1"), file(f"a/{digest}.lost", lost)], {"a": {"streams": {"|S1": {"lost": {"at": lost["at"], "reason": "died"}}}}}, kind="boundary", kills="lost-ignored")
    for case, text in (("no-json", "{"), ("list", "[]"), ("no-reason", '{"at":5}')):
        g.read(f"spl-lost-{case}", "RST-7.1 RST-7.7", "a .lost file that can't be read is no loss, and costs no event", [part(1, 2), file("a/s.lost", text)], stream(1, 2), kind="invalid", kills="bad-note-stops-run")
    g.read("spl-deleted", "RST-7.6 FLD-9 FLD-9.2", "a folder with a file DELETED: the run is as if it were unknown", [part(1), file("a/DELETED", "a"), part(1, path="b/s.000001.xseg", run_id="b")], {"b": {"streams": {"|s": {"events": [1]}}}}, absent=["a"], kills="deleted-ignored")
    g.read("spl-deleted-other-name", "RST-7.6 RST-7.7", "a file whose name only begins like that deletes nothing", [part(1, 2), file("a/DELETED.bak"), file("a/DELETED.part", "a")], stream(1, 2, missing=[]), kind="invalid", kills="deleted-by-any-name")
    for case, content in (("empty", ""), ("another", "b"), ("no-text", [{"hex": "ff fe"}])):
        g.read(f"spl-deleted-{case}", "RST-7.6", "whatever the tombstone itself holds", [part(1), file("a/DELETED", content), part(1, path="b/s.000001.xseg", run_id="b")], {"b": {"streams": {"|s": {"events": [1]}}}}, absent=["a"], kind="invalid", kills="tombstone-by-content")
    g.read("spl-deleted-with-all", "RST-7.6", "whatever else the folder holds", [part(1), part(2, number=2), file("a/s.ship", _ship()), file("a/ACCESS", {"run_id": "a", "owner": "ann"}), file("a/DELETED", "a")], {}, kind="boundary", absent=["a"], kills="deleted-ignored")
    g.read("spl-deleted-alone", "RST-7.6", "nothing but the tombstone is left", [file("a/DELETED", "a"), part(1, path="b/s.000001.xseg", run_id="b")], {"b": {}}, kind="boundary", absent=["a"], kills="phantom-run")


def _access(g: Spools) -> None:
    least: Json = {"owner": "ann", "public": False, "readers": [], "writers": []}
    def told(access: Json | None) -> Json:
        return {"a": {"access": access}}

    g.read("spl-access", "RST-7.8 RST-7.9", "who owns the run", [part(1), file("a/ACCESS", {"run_id": "a", "owner": "ann"})], told(least), kills="access-ignored")
    full = {"owner": "ann", "public": True, "readers": ["bob", "eve"], "writers": ["dan"]}
    g.read("spl-access-full", "RST-7.8", "whom it was opened to", [part(1), file("a/ACCESS", {"run_id": "a", **full})], told(full), kills="access-ignored access-readers-dropped")
    g.read("spl-access-public", "RST-7.8", "a public run without an owner", [part(1), file("a/ACCESS", {"run_id": "a", "public": True})], told({"owner": None, "public": True}), kind="boundary", kills="access-ignored")
    g.read("spl-access-none", "RST-7.8 RST-7.9", "no ACCESS: the run is nobody's", [part(1)], told(None), kind="boundary", kills="no-access-is-public")
    g.read("spl-access-unknown-member", "RST-7.7 RST-7.8", "members that nobody knows are ignored", [part(1), file("a/ACCESS", {"run_id": "a", "owner": "ann", "since": 5})], told(least), kind="boundary", kills="access-ignored")
    nulls = {"run_id": "a", "owner": "ann", "public": None, "readers": None, "writers": None}
    g.read("spl-access-null", "RST-7.11 RST-7.8", "null is absence", [part(1), file("a/ACCESS", nulls)], told(least), kind="boundary", kills="access-ignored access-null-refused")
    unreadable = told({"unreadable": True})
    for case, text in (
        ("no-json", '{"run_id":"a","owner":'),
        ("empty", ""),
        ("list", '["ann"]'),
        ("no-run", '{"owner":"ann"}'),
        ("owner-number", '{"run_id":"a","owner":5}'),
        ("readers-string", '{"run_id":"a","readers":"bob"}'),
    ):
        g.read(f"spl-access-{case}", "RST-7.9 RST-7.8", "an ACCESS that can't be read is no run without an owner", [part(1), file("a/ACCESS", text)], unreadable, kind="invalid", kills="bad-access-is-nobodys")
    g.read("spl-access-other-run", "RST-7.9", "nor is one that names another run", [part(1), file("a/ACCESS", {"run_id": "b", "owner": "eve"})], unreadable, kind="invalid", kills="access-of-another-taken")


def _ship(**note: Any) -> Json:
    return {"run_id": "a", "sid": "s", "note": {"to": URL, **note}}


def _shipped(g: Spools) -> None:
    note = {"to": URL, "buffer": True, "acked": 2, "durability": "power"}
    g.read("spl-ship", "RST-9 RST-9.1 RST-9.2", "how far the shipping has got", [part(1, 2, 3), file("a/s.ship", {"run_id": "a", "sid": "s", "note": note})], stream(1, 2, 3, shipped=note, missing=[], kept=[]), kills="ship-ignored")
    least = {"to": URL, "buffer": False, "acked": 0, "durability": "none", "trimmed": 0, "fenced": False, "unconfirmed": 0, "rejected": [], "ends": []}
    g.read("spl-ship-least", "RST-9.1 RST-9 RST-9.2", "absent members read as what the table says", [part(1), file("a/s.ship", _ship())], stream(1, shipped=least), kind="boundary", kills="ship-ignored")
    nulls = {"to": URL, "buffer": None, "acked": None, "durability": None, "rejected": None, "marks": None, "ends": None}
    g.read("spl-ship-null", "RST-7.11 RST-9.1", "null is absence", [part(1), file("a/s.ship", {"run_id": "a", "wid": None, "sid": "s", "note": nulls})], stream(1, shipped=least), kills="ship-ignored ship-null-refused")
    misnamed = {"run_id": "a", "sid": "s", "note": {**note, "acked": 4, "trimmed": 3, "ends": [dump(START)]}}
    g.read("spl-ship-misnamed", "RST-9.2 RST-9", "a note that stands in the file of another session is none", [part(4, 5, number=2), file("a/t.ship", misnamed)], stream(4, 5, missing=[[1, 3]], kept=[], shipped=None), kind="invalid", kills="misnamed-notes-taken")
    full = {**note, "unconfirmed": 5, "rejected": [[2, "gap"]], "rejected_count": 1, "fenced": True, "marks": [[1, 1703123456000000]]}
    g.read("spl-ship-full", "RST-9.1", "all members", [part(1, 2, 3), file("a/s.ship", {"run_id": "a", "sid": "s", "note": full})], stream(1, 2, 3, shipped=full), kind="boundary", kills="ship-ignored")
    g.read("spl-ship-unknown-members", "RST-7.7 RST-9.1", "members that nobody knows are ignored", [part(1), file("a/s.ship", {"run_id": "a", "sid": "s", "x": 1, "note": {**note, "y": []}})], stream(1, shipped=note), kind="boundary", kills="ship-ignored")
    workers = [part(1, wid="w"), file("a/s.ship", {"run_id": "a", "wid": "w", "sid": "s", "note": note})]
    g.read("spl-ship-worker", "RST-9.1", "the note of a worker's stream names it", workers, {"a": {"streams": {"w|s": {"shipped": note}}}}, kills="ship-ignored")
    for case, content in (
        ("no-json", "{"),
        ("empty", ""),
        ("no-to", {"run_id": "a", "sid": "s", "note": {"acked": 1}}),
        ("no-note", {"run_id": "a", "sid": "s"}),
        ("to-null", {"run_id": "a", "sid": "s", "note": {"to": None, "acked": 1}}),
        ("list", "[]"),
        ("other-run", {"run_id": "b", "sid": "s", "note": note}),
        ("other-sid", {"run_id": "a", "sid": "t", "note": note}),
        ("other-wid", {"run_id": "a", "wid": "w", "sid": "s", "note": note}),
        ("acked-string", {"run_id": "a", "sid": "s", "note": {**note, "acked": "2"}}),
    ):
        g.read(f"spl-ship-{case}", "RST-9.2 RST-9.1" + (" RST-7.11" if case == "to-null" else ""), "a note that can't be read, or is another stream's, is none", [part(1), file("a/s.ship", content)], {"a": {"streams": {"|s": {"events": [1], "shipped": None}}}}, kind="invalid", kills="ship-of-another-taken" if case.startswith("other") else "bad-note-stops-run")
    trimmed = {**note, "acked": 4, "trimmed": 3}
    rest = stream(4, 5, missing=[], kept=[[1, 3]], kept_by=URL)
    g.read("spl-trimmed", "RST-9.5", "what was trimmed is neither lost nor damaged, but kept by the collector", [part(4, 5, number=2), file("a/s.ship", _ship(**{k: v for k, v in trimmed.items() if k != "to"}))], rest, kills="trimmed-is-lost")
    some = stream(3, 4, 5, missing=[], kept=[[1, 2]], kept_by=URL)
    g.read("spl-trimmed-may-be-here", "RST-9.5 RST-9.1", "up to trimmed all may be gone; what is here is here", [part(3, 4, 5, number=2), file("a/s.ship", _ship(acked=4, trimmed=3))], some, kind="boundary", kills="trimmed-is-lost trimmed-hides")
    gap = stream(4, 6, missing=[[5, 5]], kept=[[1, 3]], kept_by=URL)
    g.read("spl-trimmed-and-gap", "RST-9.5", "what is missing behind that is missing", [part(4, 6, number=2), file("a/s.ship", _ship(acked=4, trimmed=3))], gap, kind="boundary", kills="trimmed-is-lost gaps-not-told")
    ends = _ship(acked=9, trimmed=3, ends=[dump(START)])
    g.read("spl-trimmed-ends", "RST-9.4 RST-9.5", "a run_start that was trimmed stands in the note", [part(4, 5, number=2), file("a/s.ship", ends)], {"a": {"streams": {"|s": {"missing": [], "kept_by": URL}}}}, kind="boundary", kills="trimmed-is-lost")
    untrimmed = stream(4, 5, missing=[[1, 3]], kept=[])
    g.read("spl-acked-not-trimmed", "RST-9.5", "what is acked, not trimmed and not here is missing", [part(4, 5, number=2), file("a/s.ship", _ship(acked=5))], untrimmed, kind="invalid", kills="gaps-not-told")


def _write(g: Spools) -> None:
    three = {**STREAM, "events": [START, metric(seq=2), log(seq=3)]}
    g.write("spl-write", "RST-6 RST-6.3 RST-6.7 RST-6.8", "three events: a folder, a segment, their names and their modes", [], append=three, modes=True, needs=["spool", "posix"], kills="spool-modes-open segment-name-short")
    g.write("spl-write-names", "RST-6 RST-6.3 RST-6.13", "three events: a folder and a segment, and their names", [], append=three, kills="segment-name-short")
    odd = {"run_id": "sweep/3.5", "wid": "w", "sid": "\u00fc", "events": [log(seq=1, run_id="sweep/3.5")]}
    g.write("spl-write-names-quoted", "RST-6.13 RST-6.3", "names are made from the ids", [], append=odd, kind="boundary", kills="segment-name-raw segment-name-short")
    capital = {"run_id": "Run", "wid": "", "sid": "CON", "events": [log(seq=1, run_id="Run")]}
    g.write("spl-write-names-digest", "RST-6.14 RST-6.3", "names of ids with capital letters have digests", [], append=capital, kind="boundary", kills="segment-name-raw name-capitals-kept")
    more = {**STREAM, "events": [log(seq=3), log(seq=4)]}
    g.write("spl-append", "RST-5.11 RST-2.6 RST-6.2", "a segment of another process is not appended to", [part(1, 2)], append=more, kills="appends-to-segment")
    torn = file("a/s.000001.xseg", [*events_of(1, 2), *changed(rec(3), to=50)])
    g.write("spl-append-torn", "RST-5.11 RST-6.2", "nothing is written behind a torn tail", [torn], append=more, kind="boundary", kills="appends-to-segment torn-tail-cut-off")
    damaged = file("a/s.000001.xseg", [*head(), *rec(1), *changed(rec(2), (40, 1))])
    g.write("spl-append-damaged", "RST-5.11 RST-2.6 RST-6.2", "nor into a damaged segment", [damaged], append=more, kind="invalid", kills="appends-to-segment")
    lost_header = file("a/s.000001.xseg", [*changed(head(), (20, 1)), *rec(1), *rec(2)])
    g.write("spl-append-header", "RST-2.6", "the header of a segment that holds records isn't mended", [lost_header], append=more, kind="boundary", kills="header-mended")
    outside: Json = {"path": "outside.bin", "bytes": hexed("41 42 43")}
    posix = ["spool", "posix"]
    link = {"path": "spool/a/s.000001.xseg", "link": "../../outside.bin"}
    g.write("spl-link-segment", "RST-6.8", "the segment's name is a symbolic link: what it leads to stays as it is", [outside, link], append=more, may_refuse=True, unchanged=["outside.bin"], kind="invalid", needs=posix, kills="follows-links")
    folder = [{"path": "elsewhere/x.bin", "bytes": hexed("41")}, {"path": "spool/a", "link": "../elsewhere"}]
    dangling = {"path": "spool/a/s.000001.xseg", "link": "../../nowhere.bin"}
    g.write("spl-link-dangling", "RST-6.8", "it leads to nothing: nothing comes to stand there", [outside, dangling], append=more, may_refuse=True, untouched=["nowhere.bin"], kind="boundary", needs=posix, kills="follows-links")
    g.write("spl-link-folder", "RST-6.8", "the run's folder is a symbolic link: nothing is written there", folder, append=more, may_refuse=True, unchanged=["elsewhere/x.bin"], untouched=["elsewhere/"], kind="invalid", needs=posix, kills="follows-links")
    big = [log("x" * 1_000_000, seq=seq) for seq in range(1, 11)]
    g.write("spl-write-8-mib", "RST-6.4", "ten events of a megabyte: at 8 MiB a new segment begins", [], append={**STREAM, "payloads": [[{"text": dump(one).replace("x" * 1_000_000, "")[:-3]}, {"repeat": [{"text": "x"}], "times": 1_000_000}, {"text": '"}}'}] for one in big]}, kills="segments-without-end")
    huge = [{"text": dump(log("x", seq=1))[:-4]}, {"repeat": [{"text": "x"}], "times": 8_500_000}, {"text": '"}}'}]
    g.write("spl-write-8-mib-at-once", "RST-6.4", "one record takes a segment beyond 8 MiB: the next stands in a new one", [], append={**STREAM, "payloads": [huge, [{"event": log(seq=2)}]]}, kind="boundary", kills="segments-without-end")
    # ---- files beside the segments
    notes = ["spool", "notes"]
    lost = {**STREAM, "at": 1703123456000000, "reason": "died", "after_seq": 2, "detail": "signal 9"}
    g.write("spl-write-lost", "RST-7 RST-7.1", "who saw an emitter die leaves word", [part(1, 2)], lost=lost, needs=notes, kills="lost-written-otherwise")
    g.write("spl-write-lost-vanished", "RST-7.1 RST-7", "or that it vanished", [part(1, 2)], lost={**STREAM, "at": 5, "reason": "vanished"}, kind="boundary", needs=notes, kills="lost-written-otherwise")
    command = event("command", {"cmd_id": "c1", "type": "pause", "run_id": "a"}, seq=0, ts=1703123460000000)
    g.write("spl-write-command", "RST-7.3 RST-6", "a command is a file with its payload", [part(1)], command={"run_id": "a", "event": command}, needs=notes, kills="command-body-alone command-has-a-seq")
    slashed = event("command", {"cmd_id": "../X", "type": "custom", "payload": {"lr": 0.1}, "run_id": "a"}, seq=0, ts=1703123460000000)
    g.write("spl-write-command-name", "RST-7.3 RST-6.13 RST-6.14", "its name is made from its id", [part(1)], command={"run_id": "a", "event": slashed}, kind="boundary", needs=notes, kills="command-body-alone command-has-a-seq")
    owned = {"run_id": "a", "owner": "ann", "public": True, "readers": ["bob"], "writers": ["dan", "eve"]}
    g.write("spl-write-access", "RST-7.8", "who owns a run", [part(1)], access=owned, needs=notes, kills="access-written-otherwise")
    g.write("spl-write-access-owner", "RST-7.8", "public, readers and writers are there where they are so", [part(1)], access={"run_id": "a", "owner": "ann"}, kind="boundary", needs=notes, kills="access-written-otherwise")
    g.write("spl-write-access-modes", "RST-6.7 RST-7.8", "a file beside the segments has the mode of all files, and a folder without segments that of all", [], access=owned, modes=True, may_refuse=True, kind="boundary", needs=[*notes, "posix"], kills="notes-modes-open spool-modes-open")
    g.write("spl-write-delete", "RST-7.6 RST-7.10 FLD-9", "a deleted run has its tombstone, which names it", [part(1), part(2, number=2)], delete={"run_id": "a"}, kills="delete-removes-folder tombstone-empty tombstone-with-a-line-feed")
    digest = _digested("Run \u00fc")
    g.write("spl-write-delete-digest", "RST-7.10 RST-6.14", "nothing else would tell which run it was, where the folder's name doesn't", [part(1, path=f"{digest}/s.000001.xseg", run_id="Run \u00fc")], delete={"run_id": "Run \u00fc"}, kind="boundary", kills="tombstone-empty tombstone-named-like-its-folder")


def _trim(g: Spools) -> None:
    first, second, third = part(1, 2), part(3, 4, number=2), part(5, number=3)
    names = [one["path"] for one in (first, second, third)]
    old = NOW - 30 * DAY

    def note(**changes: Any) -> Json:
        told = {"buffer": True, "acked": 4, "durability": "power", "marks": [[1, old], [2, old]], **changes}
        return file("a/s.ship", _ship(**{name: value for name, value in told.items() if value is not None}))

    may = {names[0]: 2, names[1]: 4}
    everything = [first, second, third]
    g.trim("spl-trim", "RST-9.3 RST-9.4 RST-9.1", "what may go are whole segments of which each seq is acked", [*everything, note()], keeps=[names[2]], may_go=may, kills="trims-unacked trim-untold")
    g.trim("spl-trim-partly", "RST-9.3", "a segment of which one seq is not acked stays", [*everything, note(acked=3, marks=[[1, old]])], keeps=names[1:], may_go={names[0]: 2}, kind="boundary", kills="trims-unacked trims-partly-acked")
    g.trim("spl-trim-nothing-acked", "RST-9.3", "nothing is acked", [*everything, note(acked=0, marks=[])], keeps=names, kind="boundary", kills="trims-unacked")
    g.trim("spl-trim-no-buffer", "RST-9.6", "a run that was logged for no collector is not trimmed", [*everything, note(buffer=False)], keeps=names, kind="invalid", kills="trims-any-spool")
    g.trim("spl-trim-buffer-absent", "RST-9.6 RST-9.1", "absent buffer reads as false", [*everything, note(buffer=None)], keeps=names, kind="boundary", kills="trims-any-spool")
    for durability in ("none", "process", None):
        g.trim(f"spl-trim-durability-{durability or 'absent'}", "RST-9.3 DLV-5", f"acks of the durability {durability or 'none'} remove nothing", [*everything, note(durability=durability)], keeps=names, kind="invalid" if durability else "boundary", kills="trims-any-durability")
    for case, age, kind in (("just-now", 0, "invalid"), ("a-second-less-than-a-day-ago", DAY - 1_000_000, "boundary")):
        g.trim(f"spl-trim-acked-{case}", "DLV-5.1", "what was acked in the last 24 h stays: the collector may be restored from a backup", [*everything, note(marks=[[1, NOW - age], [2, NOW - age]])], keeps=names, kind=kind, level="SHOULD", kills="trims-at-once")
    served: Json = {"path": "SERVED", "bytes": [{"text": "x"}]}
    g.trim("spl-trim-served", "RST-9.7", "beside a file SERVED nobody removes segments", [*everything, note(), served], keeps=names, kind="invalid", kills="trims-served")
    g.trim("spl-trim-served-empty", "RST-9.7", "whatever SERVED holds", [*everything, note(), {"path": "SERVED", "bytes": []}], keeps=names, kind="boundary", kills="trims-served")
    lock = file("a/s.lock", locked=True)
    g.trim("spl-trim-live", "RST-9.3", "the last segment of a stream whose lock is held stays, all acked as it is", [*everything, note(acked=5, marks=[[1, old], [2, old], [3, old]]), lock], keeps=[names[2]], may_go=may, kind="boundary", needs=["spool", "trim", "locks"], kills="trims-live-segment")
    start = file("a/s.000001.xseg", [*head(), *rec(1, START), *rec(2)])
    end = file("a/s.000003.xseg", [*head(header(number=3, first_seq=5)), *rec(5, {**END, "m": {**END["m"], "seq": 5}})])
    ended = {**END, "m": {**END["m"], "seq": 5}}
    g.trim("spl-trim-ends", "RST-9.4", "run_start and run_end of what goes are kept in the note", [start, second, end, note(acked=5, marks=[[1, old], [2, old], [3, old]])], may_go={**may, names[2]: 5}, ends=[START, ended], kind="boundary", kills="trim-without-ends trim-untold")
    g.trim("spl-trim-start", "RST-9.4", "a run_start that goes is kept in the note", [start, second, third, note()], keeps=[names[2]], may_go=may, ends=[START], kind="boundary", kills="trim-without-ends trim-untold")
    longest = {**START, "p": {"run_id": "a", "name": "n" * (65_536 - len(dump({**START, "p": {"run_id": "a", "name": ""}})))}}
    g.trim("spl-trim-start-of-64-kib", "RST-9.4", "also one of 64 KiB", [file("a/s.000001.xseg", [*head(), *rec(1, longest), *rec(2)]), second, third, note()], keeps=[names[2]], may_go=may, ends=[longest], kind="boundary", kills="trim-without-ends ends-one-byte-less")
    g.trim("spl-trim-other-stream", "RST-9.2 RST-9.3", "a note that names another stream allows nothing", [*everything, file("a/s.ship", {**_ship(buffer=True, acked=4, durability="power", marks=[[1, old], [2, old]]), "sid": "t"})], keeps=names, kind="invalid", kills="ship-of-another-taken")
    g.trim("spl-trim-gap", "RST-9.3", "a seq that was skipped counts as acked with the cursor", [part(1), part(4, number=2), third, note(acked=4)], keeps=[names[2]], may_go={names[0]: 1, names[1]: 4}, kind="boundary", kills="trim-untold")
