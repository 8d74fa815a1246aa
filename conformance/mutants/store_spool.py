"""Mutants of spools: what is read from one, written to one and removed from one."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any

from tools import Json, Mutation
from tools_store import (
    LAYOUT,
    LOCAL_NOTES,
    LOCAL_READER,
    READER,
    SHIPPING,
    TESTEE,
    WRITER,
    data_of,
    edited,
    segments_in,
    telling,
    text_of,
    tree_of,
)

_reading = telling("spool_read")
_writing = telling("spool_write")
_trimming = telling("spool_trim")


def _streams(change: Any) -> Mutation:
    """Make a mutant that tells each stream in another way: a function of the stream, its run and the request."""

    def tell(request: Json, ok: Json) -> None:
        for run in ok["runs"]:
            for stream in run["streams"]:
                change(stream, run, request)

    return _reading(tell)


def _phantom(_request: Json, ok: Json) -> None:
    if not any(run["run_id"] == "a" for run in ok["runs"]):
        ok["runs"].append({"run_id": "a", "access": None, "streams": []})


def _sid_from_name(stream: Json, _run: Json, request: Json) -> None:
    names = [PurePosixPath(entry["path"]).name for entry in request["files"] if entry["path"].endswith(".xseg")]
    stream["sid"] = names[0].partition(".")[0]


def _run_from_folder(request: Json, ok: Json) -> None:
    for run in ok["runs"]:
        run["run_id"] = request["files"][0]["path"].split("/")[1]


def _run_from_payload(request: Json, ok: Json) -> None:
    for run in ok["runs"]:
        for stream in run["streams"]:
            for event in stream["events"]:
                run["run_id"] = tree_of(data_of(event, "payload")).get("p", {}).get("run_id", run["run_id"])


def _merged(_request: Json, ok: Json) -> None:
    for run in ok["runs"]:
        for stream in run["streams"]:
            stream["wid"] = ""


def _derived(stream: Json, _run: Json, _request: Json) -> None:
    if any("sid" not in tree_of(data_of(event, "payload"))["m"] for event in stream["events"]):
        stream["sid"] = "legacy-0"


def _twice(stream: Json, _run: Json, _request: Json) -> None:
    stream["events"] *= 2


def _control_kept(stream: Json, _run: Json, request: Json) -> None:
    for _, items in segments_in(request):
        stream["events"] += [{"seq": 0, "payload": text_of(item.payload or b"")} for item in items if item.seq == 0]


def _torn_lost(stream: Json, _run: Json, request: Json) -> None:
    if any(item.kind == "torn" for _, items in segments_in(request) for item in items):
        stream["missing"].append([99, 99])


def _lost_of_all(_request: Json, ok: Json) -> None:
    for run in ok["runs"]:
        lost = next((stream["lost"] for stream in run["streams"] if stream["lost"]), None)
        for stream in run["streams"]:
            stream["lost"] = lost


def _bad_notes(request: Json, ok: Json) -> None:
    for entry in request["files"]:
        found = tree_of(data_of(entry))
        note = found.get("note")
        if entry["path"].endswith(".lost") and not {"at", "reason"} <= found.keys():
            ok["runs"] = []
        whole = isinstance(note, dict) and note.get("to") and isinstance(note.get("acked", 0), int)
        if entry["path"].endswith(".ship") and not whole:
            ok["runs"] = []


def _trimmed_lost(stream: Json, _run: Json, _request: Json) -> None:
    stream["missing"] += stream["kept"]
    stream["kept"], stream["kept_by"] = [], None


def _trimmed_hidden(stream: Json, _run: Json, _request: Json) -> None:
    last = (stream["shipped"] or {}).get("trimmed", 0)
    stream["events"] = [event for event in stream["events"] if event["seq"] > last]


def _no_readers(_request: Json, ok: Json) -> None:
    for run in ok["runs"]:
        if run["access"]:
            run["access"]["readers"] = []


def _set(name: str, value: Any) -> Mutation:
    return _streams(lambda stream, _run, _request: stream.update({name: value}))


# ------------------------------------------------------------------------------------------ written


def _files(change: Any) -> Any:
    """Return what tells each file in another way, or not at all: a function of the file and the request."""

    def tell(request: Json, ok: Json) -> None:
        if "files" in ok:
            ok["files"] = [told for entry in ok["files"] if (told := change(entry, request)) is not None]

    return tell


def _given(entry: Json, request: Json) -> bool:
    return entry["path"].endswith(".xseg") and any(entry["path"] == other["path"] for other in request["files"])


def _appended(entry: Json, request: Json) -> Json:
    return {**entry, "bytes": text_of(data_of(entry) + b"\xf5XR1")} if _given(entry, request) else entry


def _tail_cut(entry: Json, request: Json) -> Json:
    for other, items in segments_in(request):
        if other["path"] == entry["path"] and items and items[-1].kind == "torn":
            return {**entry, "bytes": text_of(data_of(entry)[: items[-1].offset])}
    return entry


def _mended(entry: Json, request: Json) -> Json:
    data = data_of(entry)
    if _given(entry, request) and data[:4096] != data[4096:8192]:
        return {**entry, "bytes": text_of(data[4096:8192] + data[4096:])}
    return entry


def _through_links(request: Json, ok: Json) -> Json:
    if any("link" in entry for entry in request["files"]):
        return {"files": [{"path": "outside.bin", "bytes": text_of(b"ABC and more")}]}
    return ok


def _command_bare(entry: Json, _request: Json) -> Json:
    if "/commands/" not in entry["path"] or "bytes" not in entry:
        return entry
    return {**entry, "bytes": text_of(json.dumps(tree_of(data_of(entry))["p"]).encode())}


def _command_counted(entry: Json, _request: Json) -> Json:
    if "/commands/" not in entry["path"] or "bytes" not in entry:
        return entry
    tree = tree_of(data_of(entry))
    return {**entry, "bytes": text_of(json.dumps({**tree, "m": {**tree["m"], "seq": 1}}).encode())}


def _tombstone(content: Any) -> Mutation:
    """Make a mutant whose tombstone holds something else: a function of the file."""

    def tell(entry: Json, _request: Json) -> Json:
        is_one = entry["path"].endswith("/DELETED")
        return {**entry, "bytes": text_of(content(entry))} if is_one else entry

    return _writing(_files(tell))


def _folder_gone(entry: Json, request: Json) -> Json | None:
    return None if "delete" in request and entry["path"].startswith("spool/a") else entry


def _all_gone(entry: Json, _request: Json) -> Json | None:
    return None if entry["path"].endswith(".xseg") else entry


def _partly_gone(entry: Json, request: Json) -> Json | None:
    notes = [tree_of(data_of(other)) for other in request["files"] if other["path"].endswith(".ship")]
    acked = notes[0]["note"]["acked"]
    for other, items in segments_in(request):
        if other["path"] == entry["path"] and (items[0].seq or 0) <= acked:
            return None
    return entry


MUTANTS: dict[str, Mutation] = {
    # ---- reading
    "only-first-segment": edited(
        LAYOUT, ("in sorted(names, key=_stream_and_number):", "in sorted(names, key=_stream_and_number)[:1]:")
    ),
    "segment-number-of-six-digits": edited(
        LAYOUT,
        ("entry.name.endswith(SEGMENT_SUFFIX)", 'entry.name.endswith(SEGMENT_SUFFIX) and entry.name[-12:-11] == "."'),
    ),
    "only-first-run": _reading(lambda _, ok: {"runs": ok["runs"][:1]}),
    "phantom-run": _reading(_phantom),
    "stream-from-name": _streams(_sid_from_name),
    "run-from-folder": _reading(_run_from_folder),
    "run-from-payload": _reading(_run_from_payload),
    "workers-merged": _reading(_merged),
    "session-derived-in-segment": _streams(_derived),
    "first-seq-hides": edited(
        LOCAL_READER,
        (
            "        try:\n            envelope = decode(record.payload)",
            """        if record.seq < segment.header.first_seq:
            return
        try:
            envelope = decode(record.payload)""",
        ),
    ),
    "seqs-must-agree": edited(
        LOCAL_READER,
        (
            "batch.add(segment.stream, envelope",
            "if envelope.meta.seq == record.seq: batch.add(segment.stream, envelope",
        ),
    ),
    "runless-in-segment-dropped": edited(
        LOCAL_READER,
        ("batch.add(segment.stream, envelope", "if envelope.run_id is not None: batch.add(segment.stream, envelope"),
    ),
    "duplicates-in-spool": _streams(_twice),
    "bad-segment-stops-run": edited(
        LOCAL_READER, ("if opened is None:\n                continue", "if opened is None:\n                break")
    ),
    "any-file-is-a-segment": edited(LAYOUT, ("entry.name.endswith(SEGMENT_SUFFIX)", "SEGMENT_SUFFIX in entry.name")),
    "undecodable-stops-run": edited(
        LOCAL_READER,
        (
            'is no event: {error}")\n            return',
            "\")\n            raise SpoolError(segment.path, 'x') from error",
        ),
    ),
    "control-in-spool-kept": _streams(_control_kept),
    "torn-counted-as-lost": _streams(_torn_lost),
    "gaps-not-told": _set("missing", []),
    "locks-ignored": _set("alive", False),
    "lock-file-means-alive": edited(
        TESTEE,
        ('"alive": is_alive(folder, stream)', '"alive": (folder / f"{safe_name(stream.session_id)}.lock").exists()'),
    ),
    # ---- files beside the segments
    "lost-ignored": _set("lost", None),
    "lost-needs-detail": edited(
        READER, ('after_seq: Int64 | None = None\n    detail: str = ""', "after_seq: Int64\n    detail: str")
    ),
    "lost-null-refused": edited(READER, ("read_object(_decode_lost, ", "_decode_lost(")),
    "lost-of-no-seq-is-of-0": edited(
        READER,
        ("after_seq = last_seq if note.after_seq is None else note.after_seq", "after_seq = note.after_seq or 0"),
    ),
    "lost-of-all": _reading(_lost_of_all),
    "bad-note-stops-run": _reading(_bad_notes),
    "deleted-ignored": edited(LOCAL_READER, ("if (self.folder / TOMBSTONE).exists():", "if False:")),
    "deleted-by-any-name": edited(
        LOCAL_READER, ("if (self.folder / TOMBSTONE).exists():", 'if [*self.folder.glob(f"{TOMBSTONE}*")]:')
    ),
    "tombstone-by-content": edited(
        LOCAL_READER,
        (
            "if (self.folder / TOMBSTONE).exists():",
            "if (tomb := self.folder / TOMBSTONE).exists() and tomb.read_bytes() == self.folder.name.encode():",
        ),
    ),
    "access-null-refused": edited(
        LOCAL_NOTES, ("read_object(_decode_access, path.read_bytes())", "_decode_access(path.read_bytes())")
    ),
    "access-ignored": edited(TESTEE, ('"access": access_told(store, state.run_id)', '"access": None')),
    "no-access-is-public": edited(
        TESTEE, ('"public": access.public,', '"public": access.public or access.owner is None,')
    ),
    "access-readers-dropped": _reading(_no_readers),
    "bad-access-is-nobodys": edited(TESTEE, ('return {"unreadable": True}', "return None")),
    "access-of-another-taken": edited(LOCAL_NOTES, ("if safe_name(kept.run_id) != folder.name:", "if False:")),
    "ship-ignored": _set("shipped", None),
    "ship-null-refused": edited(
        SHIPPING, ("read_object(_decode_note, path.read_bytes())", "_decode_note(path.read_bytes())")
    ),
    "misnamed-notes-taken": edited(SHIPPING, (" and path == ship_path(run_dir, kept[0].session_id)", "")),
    "ship-of-another-taken": edited(SHIPPING, ("if found and found[0] == stream else None", "if found else None")),
    "trimmed-is-lost": _streams(_trimmed_lost),
    "trimmed-hides": _streams(_trimmed_hidden),
    # ---- writing
    "spool-modes-open": edited(LAYOUT, ("folder.mkdir(mode=0o700", "folder.mkdir(mode=0o755")),
    "notes-modes-open": edited(LOCAL_NOTES, ("flags, 0o600)", "flags, 0o644)")),
    "segment-name-short": edited(LAYOUT, ("{number:06d}", "{number:04d}")),
    "segment-name-raw": edited(LAYOUT, ('f"{safe_name(session_id)}.{number', 'f"{session_id}.{number')),
    "appends-to-segment": _writing(_files(_appended)),
    "torn-tail-cut-off": _writing(_files(_tail_cut)),
    "header-mended": _writing(_files(_mended)),
    "follows-links": _writing(_through_links),
    "segments-without-end": edited(WRITER, ("segment_max: int = SEGMENT_MAX", "segment_max: int = 1 << 40")),
    "lost-written-otherwise": edited(READER, ('msgspec.field(name="at")', 'msgspec.field(name="at_us")')),
    "command-body-alone": _writing(_files(_command_bare)),
    "command-has-a-seq": _writing(_files(_command_counted)),
    "access-written-otherwise": edited(
        LOCAL_NOTES,
        ("owner: str | None = None\n", 'owner: str | None = msgspec.field(name="by", default=None)\n'),
    ),
    "delete-removes-folder": _writing(_files(_folder_gone)),
    "tombstone-empty": _tombstone(lambda _: b""),
    "tombstone-with-a-line-feed": _tombstone(lambda entry: data_of(entry) + b"\n"),
    "tombstone-named-like-its-folder": _tombstone(lambda entry: PurePosixPath(entry["path"]).parts[1].encode()),
    # ---- trimming
    "trims-unacked": _trimming(_files(_all_gone)),
    "trims-partly-acked": _trimming(_files(_partly_gone)),
    "trims-any-spool": edited(SHIPPING, ("if not note.buffer or", "if")),
    "trims-any-durability": edited(SHIPPING, ('if note.durability != "power":', "if False:")),
    "trims-at-once": edited(SHIPPING, ("keep_us: int = KEEP_ACKED_US", "keep_us: int = 0")),
    "trims-served": edited(SHIPPING, (" or (run_dir.parent.parent / SERVED).exists()", "")),
    "trims-live-segment": edited(SHIPPING, ("is_locked(lock_path(run_dir, stream.session_id)) is False", "True")),
    "trim-untold": edited(SHIPPING, ("    write_note(run_dir, stream, note, durable=True)\n", "")),
    "ends-one-byte-less": edited(SHIPPING, ("_ENDS_MAX: Final = 64 * 1024", "_ENDS_MAX: Final = 64 * 1024 - 1")),
    "trim-without-ends": edited(SHIPPING, ("    _keep_ends(note, [", "    len([")),
}
