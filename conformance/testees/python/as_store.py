"""The reference as a store: what it keeps, and how that lies at rest. docs/reference/testee-store.md"""

from __future__ import annotations

import base64
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from testee import to_base64
from values_told import to_tagged

from xtrack_protocol.collector import Collector
from xtrack_protocol.errors import (
    DecodeError,
    NotASegment,
    RunNotFound,
    SpoolError,
    StorageError,
    StoreCorrupt,
    TransportError,
)
from xtrack_protocol.ir import Command, Skip
from xtrack_protocol.limits import FILE_LIMITS
from xtrack_protocol.runs import StreamLost
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import FileLock, SpoolDir, StreamWriter, is_alive, open_segment, read_segment, safe_name
from xtrack_protocol.spool.mailbox import post
from xtrack_protocol.spool.shipping import find_streams, read_note, trim
from xtrack_protocol.storage import Incoming, RunAccess, RunQuery
from xtrack_protocol.storage.local import LocalStore
from xtrack_protocol.transport.base import StreamInfo
from xtrack_protocol.transport.file import FileTransport
from xtrack_protocol.wire import (
    RECORDS_START,
    Damage,
    Record,
    SalvageDecoder,
    decode,
    decode_header,
    read_frames,
    sniff,
)
from xtrack_protocol.wire.files import item_frame, read_items

Json = dict[str, Any]

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a folder of our own is made in it
"""Where there is such a file system, nobody waits for a disk: what is asked of it is forced to it all the same."""


class Kept:
    """A store and its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.generation = 0
        self.open()

    @property
    def root(self) -> Path:
        """The folder that XTRACK_DIR would name."""
        return self.folder / str(self.generation)

    def open(self) -> None:
        """Open the store from what is at rest."""
        self.store = open_at(self.root)
        self.collector = Collector(self.store)

    def reopen(self, how: str) -> None:
        """Close the store, or leave it as it is, and open what is at rest."""
        if how == "crash":
            before, abandoned = self.root, self.store
            self.generation += 1
            shutil.copytree(before, self.root)  # what a process that is killed at this moment leaves behind
            abandoned.close()
            shutil.rmtree(before)
        else:
            self.store.close()
        if how == "reindex":
            drop_index(self.root)
        self.open()


def open_at(root: Path) -> LocalStore:
    """Return the store in a folder."""
    root.mkdir(parents=True, exist_ok=True)
    return LocalStore(root, index=root / "index.db")


def drop_index(root: Path) -> None:
    """Delete what can be made again."""
    for path in root.glob("index.db*"):
        path.unlink()


class Part:
    """Answers the requests of the role store."""

    def __init__(self) -> None:
        memory = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="xtrack-testee-", dir=memory))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.stores: dict[str, Kept] = {}
        self.followed: dict[str, Followed] = {}
        self.made = 0

    def answer(self, request: Json) -> Json:
        """Return the answer to a request."""
        op: Callable[[Json], Json] = getattr(self, f"do_{request['op'].partition('.')[2]}")
        try:
            return {"ok": op(request)}
        except RunNotFound:
            return {"ok": {"unknown": True}}

    def new_folder(self) -> Path:
        """Return an empty folder."""
        self.made += 1
        path = self.folder / str(self.made)
        path.mkdir()
        return path

    # ------------------------------------------------------------------------------------------ a store

    def do_open(self, request: Json) -> Json:
        """Open a new store."""
        self.stores[request["session"]] = Kept(self.new_folder())
        return {}

    def do_close(self, request: Json) -> Json:
        """Throw a store away."""
        kept = self.stores.pop(request["session"])
        kept.store.close()
        shutil.rmtree(kept.folder)
        return {}

    def do_put(self, request: Json) -> Json:
        """Commit a batch of a source."""
        decoder = SalvageDecoder(FILE_LIMITS)
        frames = decoder.feed(base64.b64decode(request["frames"])) + decoder.finish()
        self.stores[request["session"]].collector.push_frames(frames, source=request["source"])
        return {}

    def do_reopen(self, request: Json) -> Json:
        """Open what is at rest."""
        self.stores[request["session"]].reopen(request["how"])
        return {}

    def do_delete(self, request: Json) -> Json:
        """Delete a run."""
        self.stores[request["session"]].store.delete_run(request["run_id"])
        return {}

    def do_events(self, request: Json) -> Json:
        """Return all events of a run."""
        store = self.stores[request["session"]].store
        events, aside = store.events(request["run_id"]), store.conflicts(request["run_id"])
        return {"events": list(map(event_told, events)), "aside": list(map(event_told, aside))}

    def do_cursor(self, request: Json) -> Json:
        """Return which seqs a stream has."""
        return {"ranges": [list(pair) for pair in self.stores[request["session"]].store.cursor(stream_of(request))]}

    def do_points(self, request: Json) -> Json:
        """Return a series."""
        points = self.stores[request["session"]].store.get_metrics(request["run_id"], request["key"])
        return {"points": [point_told(point) for point in points]}

    def do_history(self, request: Json) -> Json:
        """Return all writes of a parameter."""
        params = self.stores[request["session"]].store.get_params(request["run_id"])
        return {
            "values": [
                {"value": to_tagged(value.value), "seq": value.seq, "current": value.current}
                for value in params.get(request["name"], ())
            ]
        }

    # ------------------------------------------------------------------------------------------ files

    def do_file_read(self, request: Json) -> Json:
        """Read a file at rest."""
        path = self.new_folder() / "file"
        data = base64.b64decode(request["bytes"])
        path.write_bytes(data)
        kind = sniff(data[:RECORDS_START])
        with path.open("rb") as file:
            if kind != "segment":
                if kind == "other":
                    return {"kind": "unknown"}
                return {"kind": "plain", "items": [frame_told(frame) for frame in read_frames(file)]}
            try:
                header = decode_header(file.read(RECORDS_START))
            except NotASegment:
                return {"kind": "segment", "refused": True}
            told = {
                "run_id": header.run_id,
                "wid": header.worker_id,
                "sid": header.session_id,
                "number": header.number,
                "first_seq": header.first_seq,
                "created": header.created_us,
                "salt": header.salt,
            }
            return {"kind": "segment", "header": told, "items": [item_told(item) for item in read_items(file, header)]}

    def do_file_follow(self, request: Json) -> Json:
        """Read what is new in a segment that grows."""
        followed = self.followed.get(request["session"])
        if followed is None:
            followed = self.followed[request["session"]] = Followed(self.new_folder() / "file")
        return {"items": followed.grow(base64.b64decode(request["bytes"]))}

    def do_file_write(self, request: Json) -> Json:
        """Write a file."""
        folder = self.new_folder()
        payloads = [base64.b64decode(payload) for payload in request["payloads"]]
        stream = stream_of(request)
        try:
            write = write_plain if request["form"] == "plain" else write_segment
            data = write(folder, stream, [(seq_of(payload), payload) for payload in payloads])
        except (DecodeError, SpoolError, TransportError):
            return {"refused": True}
        return {"bytes": to_base64(data)}

    # ------------------------------------------------------------------------------------------ spools

    def do_name(self, request: Json) -> Json:
        """Return what stands for an id in names."""
        return {"name": safe_name(request["text"])}

    def do_spool_read(self, request: Json) -> Json:
        """Read a spool."""
        with self.laid_out(request["files"]) as root, open_at(root) as store:
            return {"runs": [run_told(store, root, state) for state in store.search_runs(RunQuery())]}

    def do_spool_write(self, request: Json) -> Json:
        """Write to a spool."""
        with self.laid_out(request["files"]) as root:
            try:
                write_to(root, request)
            except (DecodeError, SpoolError, StorageError):
                return {"refused": True}
            drop_index(root)
            return {"files": files_told(root)}

    def do_spool_trim(self, request: Json) -> Json:
        """Remove what may be removed of a spool."""
        with self.laid_out(request["files"]) as root:
            for found in find_streams(SpoolDir(root)):
                if found.note is not None:
                    trim(found.run_dir, found.stream, found.note, request["now"])
            return {"files": files_told(root)}

    @contextmanager
    def laid_out(self, files: list[Json]) -> Iterator[Path]:
        """Lend a folder that holds ``files``."""
        root = self.new_folder()
        with ExitStack() as locks:
            for entry in files:
                path = root / entry["path"]
                if not path.parent.exists():
                    path.parent.mkdir(parents=True, mode=0o700)
                if "link" in entry:
                    path.symlink_to(entry["link"])
                elif entry.get("folder"):
                    path.mkdir()
                else:
                    path.write_bytes(base64.b64decode(entry["bytes"]))
                    path.chmod(0o600)
                if entry.get("locked"):
                    lock = FileLock(path)
                    lock.acquire()
                    locks.callback(lock.release)
            yield root
        shutil.rmtree(root)


class Followed:
    """A segment that is still being written, and how far it was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = RECORDS_START

    def grow(self, data: bytes) -> list[Json]:
        """Let the file grow, and return what is new in it."""
        with self.path.open("ab") as file:
            file.write(data)
        segment = open_segment(self.path)
        told = []
        if segment is not None:
            for item, after in read_segment(segment, self.offset, finished=False):
                told.append(item_told(item))
                self.offset = after
        return told


# ------------------------------------------------------------------------------------------ telling


def stream_of(request: Json) -> StreamId:
    """Return the stream that a request names."""
    return StreamId(request["run_id"], request["wid"], request["sid"])


def event_told(event: Any) -> Json:
    """Return a stored event as the protocol has it."""
    stream = event.stream
    seq = event.envelope.meta.seq
    return {"wid": stream.worker_id, "sid": stream.session_id, "seq": seq, "payload": to_base64(event.raw)}


def point_told(point: Any) -> Json:
    """Return a point as the protocol has it."""
    told = {"step": to_tagged(point.step), "value": to_tagged(point.value), "seq": point.seq}
    told |= {"wid": point.worker_id, "sid": point.session_id}
    if point.context is not None:
        told["ctx"] = to_tagged(msgspec.to_builtins(point.context))
    return told


def frame_told(frame: Any) -> Json:
    """Return a frame of a plain file as the protocol has it."""
    if frame.error is not None:
        return {"offset": frame.error.offset, "length": frame.error.length, "error": frame.error.kind}
    return {
        "offset": frame.offset,
        "length": 4 + frame.length,
        "t": frame.envelope.event_type,
        "verified": frame.verified,
    }


def item_told(item: Any) -> Json:
    """Return what stands in a segment as the protocol has it."""
    told: Json = {"offset": item.offset, "length": item.size}
    frame = item_frame(item, FILE_LIMITS, lenient=True)
    if isinstance(item, Record):
        told |= {"seq": item.seq, "verified": frame.verified}
        return told | ({"t": frame.envelope.event_type} if frame.envelope else {"error": frame.error.kind})
    told["class"] = frame.error.kind
    return told | ({"damage": True, "seq": item.seq} if isinstance(item, Damage) else {"torn": True})


def run_told(store: LocalStore, root: Path, state: Any) -> Json:
    """Return a run of a spool as the protocol has it."""
    events: dict[StreamId, list[Json]] = {}
    for event in store.events(state.run_id):
        entry = {"seq": event.envelope.meta.seq, "payload": to_base64(event.raw)}
        events.setdefault(event.stream, []).append(entry)
    folder = SpoolDir(root).run_dir(state.run_id)
    return {
        "run_id": state.run_id,
        "access": access_told(store, state.run_id),
        "streams": [stream_told(folder, one, events.get(one.stream, [])) for one in state.streams],
    }


def access_told(store: LocalStore, run_id: str) -> Json | None:
    """Return who owns a run as the protocol has it."""
    try:
        access = store.get_access(run_id)
    except StoreCorrupt:
        return {"unreadable": True}
    lists = {"readers": sorted(access.readers), "writers": sorted(access.writers)}
    told = {"owner": access.owner, "public": access.public, **lists}
    return told if any(told.values()) else None


def stream_told(folder: Path, summary: Any, events: list[Json]) -> Json:
    """Return a stream of a spool as the protocol has it."""
    stream, lost = summary.stream, summary.lost
    note = read_note(folder, stream)
    told_lost = None
    if lost is not None:
        told_lost = {"at": lost.at_us, "reason": lost.reason, "after_seq": lost.after_seq, "detail": lost.detail}
    return {
        "wid": stream.worker_id,
        "sid": stream.session_id,
        "events": events,
        "missing": [*map(list, summary.gaps), *map(list, summary.skipped)],
        "kept": list(map(list, summary.shipped)),
        "kept_by": summary.shipped_to or None,
        "alive": is_alive(folder, stream),
        "lost": told_lost,
        "shipped": None if note is None else msgspec.to_builtins(note),
    }


def files_told(root: Path) -> list[Json]:
    """Return all files and folders below ``root`` as the protocol has them."""
    told: list[Json] = []
    for path in sorted(root.rglob("*")):
        entry: Json = {"path": path.relative_to(root).as_posix()}
        if path.is_symlink():
            told.append(entry | {"link": str(path.readlink())})
            continue
        mode = f"{path.stat().st_mode & 0o777:04o}"
        told.append(
            entry | {"mode": mode} | ({"folder": True} if path.is_dir() else {"bytes": to_base64(path.read_bytes())})
        )
    return told


# ------------------------------------------------------------------------------------------ writing


def seq_of(payload: bytes) -> int:
    """Return the seq under which a payload is filed. Raises DecodeError for what is no event."""
    envelope = decode(payload)
    return 0 if isinstance(envelope.payload, Skip) else envelope.meta.seq


def write_segment(folder: Path, stream: StreamId, payloads: list[tuple[int, bytes]]) -> bytes:
    """Return a segment with ``payloads``."""
    run_dir = SpoolDir(folder).run_dir(stream.run_id)
    writer = StreamWriter(run_dir, stream)
    for seq, payload in payloads:
        writer.append(seq, payload)
    writer.close()
    return writer.path.read_bytes()


def write_plain(folder: Path, stream: StreamId, payloads: list[tuple[int, bytes]]) -> bytes:
    """Return a plain file with ``payloads``."""
    transport = FileTransport(folder / "plain")
    transport.open(StreamInfo(stream=stream))
    for seq, payload in payloads:
        transport.send(seq, payload)
    transport.close()
    return (folder / "plain").read_bytes()


def write_to(root: Path, request: Json) -> None:
    """Do what a request asks to be written to the spool below ``root``."""
    if "append" in request:
        told = request["append"]
        stream = stream_of(told)
        payloads = [base64.b64decode(payload) for payload in told["payloads"]]
        with open_at(root) as store:
            store.append([Incoming(stream, decode(payload), payload, 0) for payload in payloads])
    elif "lost" in request:
        told = request["lost"]
        lost = StreamLost(stream_of(told), told["at"], told["reason"], told.get("after_seq", 0), told.get("detail", ""))
        with open_at(root) as store:
            store.mark_lost(lost)
    elif "command" in request:
        told = request["command"]
        command = decode(base64.b64decode(told["payload"])).payload
        assert isinstance(command, Command)
        post(SpoolDir(root).mailbox(told["run_id"]), command)
    elif "access" in request:
        told = request["access"]
        lists = {"readers": told.get("readers", []), "writers": told.get("writers", [])}
        access = RunAccess(owner=told.get("owner"), public=told.get("public", False), **lists)
        with open_at(root) as store:
            store.set_access(told["run_id"], access)
    else:
        with open_at(root) as store:
            store.delete_run(request["delete"]["run_id"])
