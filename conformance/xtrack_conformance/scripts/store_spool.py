"""Steps of spools: folders of files are read, written to and trimmed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import attrs

from xtrack_conformance.cases import Part
from xtrack_conformance.protocol import BadAnswer, bytes_text
from xtrack_conformance.scripts.store_common import (
    Exchange,
    Step,
    Steps,
    Talk,
    Wrong,
    ask,
    compact,
    listed,
    make,
    member,
    merged,
    plain,
    ranges_of,
    raw,
    same_event,
)
from xtrack_conformance.scripts.store_files import judge_record, payloads_of, seq_of
from xtrack_conformance.segments import SEGMENT_FULL, BadSegment, Item, check_written, kind_of, name_of
from xtrack_conformance.values import shown


def _name(talk: Talk, step: Step) -> Exchange:
    """``text`` and what it ``is`` in names."""
    answer = yield from ask(talk, "store.name", text=step["text"])
    got = member(answer, "name", str)
    if got != step["is"]:
        raise Wrong(f"the name of the id {shown(step['text'])}", step["is"], got)


def _laid_out(files: Sequence[Part]) -> list[dict[str, Any]]:
    return [
        {name: bytes_text(make(value)) if name == "bytes" else value for name, value in entry.items()}
        for entry in files
    ]


# ------------------------------------------------------------------------------------------ reading


def _spool_read(talk: Talk, step: Step) -> Exchange:
    """``is``: of each run, by its id, what is judged: ``access``, and ``streams`` by ``wid|sid``. ``absent``: runs
    that must not be told of.
    """
    answer = yield from ask(talk, "store.spool_read", files=_laid_out(step["files"]))
    runs = {member(run, "run_id", str, where="runs"): run for run in listed(answer, "runs")}
    for run_id in step.get("absent", ()):
        if run_id in runs:
            raise Wrong(f"the run {run_id!r} is told of", "no such run", runs[run_id])
    for run_id, expected in step["is"].items():
        if run_id not in runs:
            raise Wrong(f"the run {run_id!r} is missing", run_id, sorted(runs))
        _judge_run(run_id, expected, runs[run_id])


def _judge_run(run_id: str, expected: dict[str, Any], run: dict[str, Any]) -> None:
    if "access" in expected:
        _judge_access(run_id, expected["access"], member(run, "access", dict, type(None), where="runs"))
    if "streams" not in expected:
        return
    streams = {}
    for entry in listed(run, "streams", "runs"):
        where = "streams"
        streams[f"{member(entry, 'wid', str, where=where)}|{member(entry, 'sid', str, where=where)}"] = entry
    if streams.keys() != expected["streams"].keys():
        raise Wrong(f"the run {run_id!r} has other streams (wid|sid)", sorted(expected["streams"]), sorted(streams))
    for name, wanted in expected["streams"].items():
        for about, value in wanted.items():
            _ABOUT[about](f"of the stream {name!r}", value, streams[name])


def _judge_access(run_id: str, expected: dict[str, Any] | None, got: dict[str, Any] | None) -> None:
    wanted, told = _access_of(expected), _access_of(got)
    if wanted != told:
        raise Wrong(f"who may do what with the run {run_id!r}", wanted, told)


def _access_of(access: dict[str, Any] | None) -> Any:
    """Return one form of the many that mean the same."""
    if access is None or access.get("unreadable") is True:
        return "nobody's" if access is None else "unreadable"
    lists = {name: sorted(access.get(name) or []) for name in ("readers", "writers")}
    found = {"owner": access.get("owner"), "public": access.get("public") is True, **lists}
    return found if any(found.values()) else "nobody's"


def _judge_events(what: str, expected: Any, stream: dict[str, Any]) -> None:
    """``expected``: seqs, or objects with ``seq`` and the ``event``."""
    entries = listed(stream, "events", "streams")
    got = [member(entry, "seq", int, where="events") for entry in entries]
    wanted = [entry["seq"] if isinstance(entry, dict) else entry for entry in expected]
    if sorted(got) != sorted(wanted):
        raise Wrong(f"the seqs {what}", sorted(wanted), sorted(got))
    payloads = dict(zip(got, (raw(entry, "payload", "events") for entry in entries), strict=True))
    for entry in expected:
        if isinstance(entry, dict) and "event" in entry:
            payload = make([{"event": entry["event"]}])
            if not same_event(payload, payloads[entry["seq"]]):
                raise Wrong(
                    f"seq {entry['seq']} {what} is another event", shown(payload), shown(payloads[entry["seq"]])
                )


def _judge_ranges(name: str) -> Any:
    def judge(what: str, expected: Any, stream: dict[str, Any]) -> None:
        got, wanted = ranges_of(stream, name, "streams"), merged(expected)
        if got != wanted:
            raise Wrong(f"{name} {what}", wanted, got)

    return judge


def _judge_value(name: str, *kinds: type) -> Any:
    def judge(what: str, expected: Any, stream: dict[str, Any]) -> None:
        got = member(stream, name, *kinds, type(None), where="streams")
        if got != expected:
            raise Wrong(f"{name} {what}", plain(expected), plain(got))

    return judge


def _judge_members(name: str) -> Any:
    """``expected``: null, or the members that are judged; one that is told as null or not at all is absent."""

    def judge(what: str, expected: Any, stream: dict[str, Any]) -> None:
        got = member(stream, name, dict, type(None), where="streams")
        if (expected is None) != (got is None):
            raise Wrong(f"{name} {what}", plain(expected), plain(got))
        for about, value in (expected or {}).items():
            told = got.get(about)
            if (_NOTE_DEFAULTS.get(about) if told is None else told) != value:
                raise Wrong(f"{about} in {name} {what}", plain(value), plain(told))

    return judge


_NOTE_DEFAULTS: Final[dict[str, Any]] = {
    "buffer": False, "durability": "none", "fenced": False, "acked": 0, "unconfirmed": 0, "rejected_count": 0,
    "trimmed": 0, "rejected": [], "marks": [], "ends": [],
}  # fmt: skip
"""What absent members of a note read as. spec: RST-9"""

_ABOUT: Final[dict[str, Any]] = {
    "events": _judge_events,
    "missing": _judge_ranges("missing"),
    "kept": _judge_ranges("kept"),
    "kept_by": _judge_value("kept_by", str),
    "alive": _judge_value("alive", bool),
    "lost": _judge_members("lost"),
    "shipped": _judge_members("shipped"),
}


# ------------------------------------------------------------------------------------------ writing


@attrs.frozen
class _File:
    """A file of an answer."""

    path: str
    data: bytes
    mode: str | None


def _read_files(answer: dict[str, Any]) -> tuple[dict[str, _File], dict[str, str | None]]:
    """Return the files of an answer and the modes of its folders, by their paths. Links are left out."""
    files: dict[str, _File] = {}
    folders: dict[str, str | None] = {}
    for entry in listed(answer, "files"):
        path = member(entry, "path", str, where="files").rstrip("/")
        mode = member(entry, "mode", str, type(None), where="files")
        if entry.get("folder") is True:
            folders[path] = mode
        elif "link" not in entry:
            files[path] = _File(path, raw(entry, "bytes", "files"), mode)
    return files, folders


def _spool_write(talk: Talk, step: Step) -> Exchange:
    """``files``, what is to be written (``append``, ``lost``, ``command``, ``access``, ``delete``), and ``refused`` or
    ``may_refuse``. ``unchanged``: paths. ``untouched``: beginnings of paths at which nothing new may stand. ``modes``:
    those of what is new are judged.
    """
    wanted = {name: step[name] for name in _WRITERS if name in step}
    ((name, told),) = wanted.items()
    answer = yield from ask(
        talk, "store.spool_write", files=_laid_out(step.get("files", ())), **{name: _request(name, told)}
    )
    if answer.get("refused") is True:
        if step.get("refused") or step.get("may_refuse"):
            return
        raise Wrong("it is refused", f"{name} is done", "a refusal")
    if step.get("refused"):
        raise Wrong("it is written", "a refusal", "")
    files, folders = _read_files(answer)
    before = {entry["path"]: make(entry["bytes"]) for entry in step.get("files", ()) if "bytes" in entry}
    kept = [path for path in before if path.endswith(".xseg") and name != "delete"]
    for path in [*kept, *step.get("unchanged", ())]:
        _judge_unchanged(path, before[path], files)
    for path in files.keys() - before.keys():
        if path.startswith(tuple(step.get("untouched", ()))):
            raise Wrong(f"{path} was written through a symbolic link (RST-6.8)", "nothing new there", sorted(files))
    if step.get("modes"):
        _judge_modes(before, files, folders)
    _WRITERS[name](told, files, before)


def _request(name: str, told: dict[str, Any]) -> dict[str, Any]:
    if name == "append":
        stream = {"run_id": told.get("run_id", "a"), "wid": told.get("wid", ""), "sid": told.get("sid", "s")}
        return stream | {"payloads": [bytes_text(payload) for payload in payloads_of(told)]}
    if name == "command":
        return {"run_id": told["run_id"], "payload": bytes_text(make([{"event": told["event"]}]))}
    return told


def _judge_unchanged(path: str, data: bytes, files: dict[str, _File]) -> None:
    if path not in files:
        raise Wrong(f"{path} is gone", path, sorted(files))
    got = files[path].data
    if got != data:
        offset = next(
            (i for i, (one, other) in enumerate(zip(data, got, strict=False)) if one != other), min(len(data), len(got))
        )
        raise Wrong(
            f"{path} was changed, from byte {offset} on",
            f"{len(data)} bytes",
            f"{len(got)} bytes",
            offset=offset,
            data=got,
        )


def _judge_modes(before: dict[str, bytes], files: dict[str, _File], folders: dict[str, str | None]) -> None:
    new = [(path, file.mode, "0600") for path, file in files.items() if path not in before]
    new += [(path, mode, "0700") for path, mode in folders.items()]
    if not any(wanted == "0700" for *_, wanted in new):
        raise BadAnswer("files must tell folders, too, with the capability posix")
    for path, mode, wanted in new:
        if path != "spool" and not path.startswith("spool/"):
            continue
        if mode is None:
            raise BadAnswer(f"{path} has no mode")
        if int(mode, 8) & 0o777 != int(wanted, 8):
            raise Wrong(f"the mode of {path} (RST-6.7)", wanted, mode)


def _judge_append(told: dict[str, Any], files: dict[str, _File], before: dict[str, bytes]) -> None:
    stream = (told.get("run_id", "a"), told.get("wid", ""), told.get("sid", "s"))
    folder = f"spool/{name_of(stream[0])}"
    new = [file for path, file in files.items() if path not in before and kind_of(file.data) == "segment"]
    if not new:
        raise Wrong("no new segment is there", f"a segment in {folder}/", sorted(files))
    records: list[tuple[_File, Item]] = []
    for file in new:
        try:
            header, items = check_written(file.data, *stream)
        except BadSegment as bad:
            raise Wrong(f"{file.path}: {bad}", "", "", offset=bad.offset, data=file.data) from bad
        wanted = f"{folder}/{name_of(stream[2])}.{header['number']:06d}.xseg"
        if file.path != wanted:
            raise Wrong("a segment has another name (RST-6.3, RST-6.13)", wanted, file.path)
        late = next((item for item in items if item.offset >= SEGMENT_FULL), None)
        if late is not None:
            text = f"{file.path}: a record begins although the segment has reached 8 MiB (RST-6.4)"
            raise Wrong(text, "", f"{len(file.data)} bytes", offset=late.offset)
        records += [(file, item) for item in items]
    payloads = payloads_of(told)
    found: dict[int, tuple[_File, Item]] = {item.seq or 0: (file, item) for file, item in records}
    expected = [seq_of(payload) or 0 for payload in payloads]
    if sorted(found) != sorted(set(expected)):
        raise Wrong("the new segments hold other seqs", sorted(expected), sorted(found))
    for payload, seq in zip(payloads, expected, strict=True):
        file, item = found[seq]
        judge_record(item, payload, file.data, exact=False)


def _judge_object(path: str, expected: dict[str, Any], files: dict[str, _File]) -> None:
    """A file holds one JSON object with these members; null and false stand for what is absent."""
    if path not in files:
        raise Wrong(f"{path} is not there", path, sorted(files))
    found = _object_in(files[path])
    for name, value in expected.items():
        told = found.get(name)
        if isinstance(value, list) and isinstance(told, list):
            same = sorted(told) == sorted(value)
        else:
            same = told == value or (not told and value in (None, False, [], ""))
        if not same or (isinstance(told, bool) != isinstance(value, bool) and told is not None):
            raise Wrong(f"{name} in {path}", plain(value), plain(told), data=files[path].data)


def _object_in(file: _File) -> dict[str, Any]:
    try:
        found = json.loads(file.data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Wrong(f"{file.path} holds no JSON object", "an object", shown(file.data), data=file.data)
    return found


def _judge_lost(told: dict[str, Any], files: dict[str, _File], _before: dict[str, bytes]) -> None:
    path = f"spool/{name_of(told['run_id'])}/{name_of(told['sid'])}.lost"
    _judge_object(path, {name: told[name] for name in ("at", "reason", "after_seq", "detail") if name in told}, files)


def _judge_command(told: dict[str, Any], files: dict[str, _File], _before: dict[str, bytes]) -> None:
    path = f"spool/{name_of(told['run_id'])}/commands/{name_of(told['event']['p']['cmd_id'])}.json"
    if path not in files:
        raise Wrong("the command's file is not there (RST-6, RST-7.3)", path, sorted(files))
    wanted, data = told["event"], files[path].data
    found = _object_in(files[path])
    meta = found.get("m")
    if not isinstance(meta, dict) or meta.get("seq") != 0 or type(meta.get("ts")) is not int:
        raise Wrong(
            f"{path} holds no envelope with seq 0 and a time (RST-7.3, CTL-1)", plain(wanted), plain(found), data=data
        )
    if not same_event(compact(wanted), compact({**found, "m": wanted["m"]})):  # the time is that of who posts it
        raise Wrong(f"{path} holds something else", plain(wanted), plain(found), data=data)


def _judge_written_access(told: dict[str, Any], files: dict[str, _File], _before: dict[str, bytes]) -> None:
    names = ("run_id", "owner", "public", "readers", "writers")
    _judge_object(
        f"spool/{name_of(told['run_id'])}/ACCESS", {name: told[name] for name in names if name in told}, files
    )


def _judge_deleted(told: dict[str, Any], files: dict[str, _File], _before: dict[str, bytes]) -> None:
    path = f"spool/{name_of(told['run_id'])}/DELETED"
    if path not in files:
        raise Wrong("the run's folder holds no DELETED (RST-7.6)", path, sorted(files))
    if files[path].data != told["run_id"].encode():
        raise Wrong("DELETED doesn't hold the run id alone (RST-7.10)", told["run_id"], str(files[path].data[:200]))


_WRITERS: Final[dict[str, Any]] = {
    "append": _judge_append,
    "lost": _judge_lost,
    "command": _judge_command,
    "access": _judge_written_access,
    "delete": _judge_deleted,
}


# ------------------------------------------------------------------------------------------ trimming


def _spool_trim(talk: Talk, step: Step) -> Exchange:
    """``files`` and ``now``. ``keeps``: paths that must stay. ``may_go``: others, each with its last seq; where one is
    gone, the stream's ``note`` must tell it as trimmed, and keep the ``ends``.
    """
    answer = yield from ask(talk, "store.spool_trim", files=_laid_out(step["files"]), now=step["now"])
    files, _ = _read_files(answer)
    before = {entry["path"]: make(entry["bytes"]) for entry in step["files"] if "bytes" in entry}
    for path in step["keeps"]:
        _judge_unchanged(path, before[path], files)
    gone = [last for path, last in step.get("may_go", {}).items() if path not in files]
    for path in step.get("may_go", {}):
        if path in files:
            _judge_unchanged(path, before[path], files)
    if not gone:
        return
    path = step["note"]
    if path not in files:
        raise Wrong("segments are gone, and no note tells of it (RST-9.4)", path, sorted(files))
    file = _object_in(files[path])
    for name, value in json.loads(before[path]).items():
        if name != "note" and file.get(name) != value:
            raise Wrong(f"{name} in {path} (RST-9.1)", plain(value), plain(file.get(name)), data=files[path].data)
    note = file.get("note")
    trimmed = note.get("trimmed") if isinstance(note, dict) else None
    if not isinstance(note, dict) or type(trimmed) is not int or trimmed < max(gone):
        raise Wrong(f"trimmed in {path} (RST-9.4)", f"at least {max(gone)}", plain(trimmed), data=files[path].data)
    ends = note.get("ends") or []
    for event in step.get("ends", ()):
        payload = make([{"event": event}])
        if not any(isinstance(end, str) and same_event(payload, end.encode()) for end in ends):
            raise Wrong(f"an event that must be kept is not in ends of {path} (RST-9.4)", shown(payload), plain(ends))


STEPS: Final[Steps] = {
    "name": _name,
    "spool_read": _spool_read,
    "spool_write": _spool_write,
    "spool_trim": _spool_trim,
}
