"""Mutants of the emitter: its spool, what is shipped from there, its disk, and what processes leave for each other."""

from __future__ import annotations

from swapped import Edit

COMMANDS = "emitter/commands.py"
ENDPOINT = "net/endpoint.py"
FILE = "transport/file.py"
LANE = "sender/lane.py"
LAUNCH = "emitter/launch.py"
LINK = "sender/link.py"
LOCAL = "transport/local.py"
LOCKS = "spool/locks.py"
MAILBOX = "spool/mailbox.py"
RANKS = "emitter/ranks.py"
REMOTE = "transport/remote.py"
ROOM = "spool/room.py"
STREAM = "emitter/stream.py"
SURROUNDINGS = "emitter/surroundings.py"
SYNC = "sender/sync.py"
SYNCING = "spool/syncing.py"
TLS = "net/tls.py"
TLS_CHANNEL = "net/tls_channel.py"
TRACKER = "emitter/tracker.py"
VALUES = "emitter/values.py"
WRITER = "spool/writer.py"

RESUME = "resume=Resume(resumed, rewind) if resumed else None,"
ACQUIRED = "            if not lock.acquire_soon():\n                return False\n        except OSError:\n"
ORPHAN = "                lane.passive = True\n                self._seen.add(stream)\n"
OWN = "        lane.take()  # the session id is new: nobody else can have it\n"
NEXT = "            if item is None:\n                item = self._peeked = self.feed.next()\n"
REMEMBERED = """\
            kept = __import__("builtins").__dict__.get("_kept", {}).get((self.stream.session_id, position + 1))
            if isinstance(item, Hole) and kept:
                item = self._peeked = Event(position + 1, kept)
"""
KEPT = """\
        __import__("builtins").__dict__.setdefault("_kept", {})[self._lane.stream.session_id, seq] = payload
"""
BARE_RESULT = """\
            inbox.answer(payload)
            folder = inbox._folder
            for path in folder.glob("*.result"):
                path.write_bytes(b'{"cmd_id":"c1","status":"ok"}')
            return True
"""
SENT = "        sender = self._sender\n        assert sender is not None\n"
NO_SHORTCUT = (REMOTE, "        return put if reserve.has_room else None\n", "        return None\n")
HOOKED = """\
import os as _os
from types import SimpleNamespace

_pid = [_os.getpid()]
_os.register_at_fork(after_in_child=lambda: _pid.__setitem__(0, _os.getpid()))
os = SimpleNamespace(getpid=lambda: _pid[0], urandom=_os.urandom)
"""
TRUSTED = '        _load_ca(context, options.ca, "XTRACK_TLS_CA")\n'
ALONE = "    environ = os.environ if environ is None else environ\n    alone: Rank"
LOADED = '    with __import__("contextlib").suppress(ImportError):\n        __import__("jax")\n'

EDITS: dict[str, tuple[Edit, ...]] = {
    # -------------------------------------------------------------------------------------- between processes
    "emitter-sends-git-credentials": (
        (SURROUNDINGS, "git_repo=strip_credentials(repo) if repo else None,", "git_repo=repo,"),
    ),
    "emitter-keeps-git-users": (
        (SURROUNDINGS, 'return to_text(_USER_BEFORE_HOST.sub("", without))', "return to_text(without)"),
    ),
    "emitter-resumes-in-silence": ((TRACKER, RESUME, "resume=None,"),),
    "emitter-resumes-every-run": ((TRACKER, RESUME, 'resume=Resume(resumed or ["0" * 32], rewind),'),),
    "emitter-next-run-after-a-failure": (
        (LAUNCH, "    return first.meta.timestamp_us, is_completed\n", "    return first.meta.timestamp_us, True\n"),
    ),
    "emitter-one-run-a-launch": ((LAUNCH, "    if spool is None:\n        return job\n", "    return job\n"),),
    "emitter-annotates-in-a-stream-of-the-run": (
        (TRACKER, "StreamId(run_id, worker, new_session_id())", "streams_of(spool.run_dir(run_id))[0]"),
    ),
    "emitter-shares-a-file": (
        (FILE, "        if not lock.acquire():\n            return False\n", "        lock.acquire()\n"),
    ),
    "emitter-forks-by-hooks-alone": (
        (STREAM, "import os\n", HOOKED),
        ("emitter/quick.py", "import os\n", HOOKED),
        ("emitter/quick.py", "_wiped_page() or _ByPid()", "_ByPid()"),
    ),
    "emitter-imports-a-framework": ((RANKS, ALONE, f"{LOADED}{ALONE}"),),
    "emitter-trusts-anybody": (
        (TLS, TRUSTED, f"{TRUSTED}        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE\n"),
    ),
    "emitter-trusts-nobody": ((TLS, TRUSTED, "        pass\n"),),
    "emitter-checks-signers-of-pinned-certificates": (
        (TLS, "    if options.fingerprint:\n        context.ch", "    if False:\n        context.ch"),
    ),
    "emitter-one-form-of-fingerprints": ((ENDPOINT, 'digits = re.sub(r"[:\\s]", "", digits).lower()\n', "pass\n"),),
    "emitter-takes-short-fingerprints": (
        (ENDPOINT, '    if re.fullmatch(r"[0-9a-f]{64}", digits):\n', "    if True:\n"),
        (TLS, "return hmac.compare_digest(fingerprint(der), pinned)", "return fingerprint(der).startswith(pinned)"),
    ),
    "emitter-authority-before-fingerprint": (
        (ENDPOINT, "fingerprint=None if settings.tls_fingerprint is None else",
         "fingerprint=None if settings.tls_fingerprint is None or settings.tls_ca else"),
    ),
    "emitter-trusts-any-fingerprint": (
        (TLS_CHANNEL, "        if tls.fingerprint and not matches(der, tls.fingerprint):\n", "        if False:\n"),
    ),
    # -------------------------------------------------------------------------------------- the spool
    "emitter-keeps-events-in-memory": (
        (REMOTE, SENT, f"{KEPT}{SENT}"),
        NO_SHORTCUT,
        (LANE, NEXT, NEXT + REMEMBERED),
    ),
    "emitter-spools-a-part": (
        (REMOTE, "        super().send(seq, payload)\n", "        _ = seq < 40 and super().send(seq, payload)\n"),
        NO_SHORTCUT,
    ),
    "emitter-never-lets-go": ((WRITER, "            self._lock.release()\n", "            pass\n"),),
    "emitter-keeps-no-notes": (
        (LANE, "                write_note(self.run_dir, self.stream, self.note)\n", "                pass\n"),
    ),
    "emitter-raises-on-bad-commands": (
        (MAILBOX, "except (OSError, DecodeError):\n            return  #", "except OSError:\n            return  #"),
        (COMMANDS, "except Exception as error:  # noqa: BLE001 - a transport of", "except OSError as error:  #"),
    ),
    "emitter-locks-otherwise": ((LOCKS, "            fcntl.flock(fd, (", "            fcntl.lockf(fd, ("),),
    "emitter-looks-exclusively": (
        (LOCKS, "        return not _try_lock(fd, shared=True)\n", "        return not _try_lock(fd, shared=False)\n"),
    ),
    "emitter-looks-and-keeps-it": (
        (LOCKS, "        return None\n    finally:\n        os.close(fd)\n", "        return None\n"),
    ),
    "emitter-doesnt-try-again": ((LANE, "lock.acquire_soon()", "lock.acquire()"),),
    "emitter-holds-no-lock": (
        (WRITER, "                self._take_lock(self._lock)\n", "                self._lock = None\n"),
    ),
    "emitter-ships-without-a-lock": ((LANE, ACQUIRED, "            pass\n        except OSError:\n"),),
    "emitter-ships-what-is-locked": ((LANE, ACQUIRED, "            lock.acquire()\n        except OSError:\n"),),
    "emitter-ignores-the-mailbox": ((LOCAL, "return inbox.receive() if inbox else []", "return []"),),
    "emitter-answers-nobody-in-the-mailbox": (
        (LOCAL, "            return inbox.answer(payload)\n", "            return True\n"),
    ),
    "emitter-results-without-an-envelope": (
        (LOCAL, "            return inbox.answer(payload)\n", BARE_RESULT),
    ),
    "emitter-takes-old-commands": ((MAILBOX, " and when >= self._since_us:\n", ":\n"),),
    "emitter-trims-the-only-copy": (
        (LANE, "            self.note.buffer, self.unsaved = False, True\n", "            self.unsaved = True\n"),
    ),
    "emitter-notes-last-words": (
        (LINK, "self._settling.append((now + SETTLE_SECONDS, taken))", "self._settling.append((now, taken))"),
    ),
    "emitter-notes-what-was-not-taken": (
        (LINK, "taken = self._queued - len(self._out) - unsent_bytes(self._channel.fileno())", "taken = self._queued"),
    ),
    # -------------------------------------------------------------------------------------- shipping for others, later
    "emitter-leaves-orphans": ((REMOTE, "            orphans=_Orphans(lane),\n", "            orphans=list,\n"),),
    "emitter-opens-orphans-as-its-own": ((REMOTE, ORPHAN, "                self._seen.add(stream)\n"),),
    "emitter-opens-its-own-as-passive": ((REMOTE, OWN, f"{OWN}        lane.passive = True\n"),),
    "emitter-ships-for-the-living": (
        (REMOTE, " or is_locked(lock_path(run_dir, stream.session_id)) is not False:\n", ":\n"),
        (REMOTE, f"            if lane.take():\n{ORPHAN}", f"            if lane.take() or True:\n{ORPHAN}"),
    ),
    "emitter-ships-nothing-later": (
        (SYNC, "self._waiting.extend(find_streams(self._spool))", "self._waiting.extend([])"),
    ),
    "emitter-reports-success-when-sent": (
        (SYNC, "max(lane.note.acked, lane.note.unconfirmed if self.is_plain else 0) >= target", "target >= 0"),
    ),
    "emitter-reports-success-without-a-collector": (
        (SYNC, "            raise TransportError(url, problem.reason, problem.cure)\n",
         "            self.lanes.clear()\n            self._waiting.clear()\n"),
    ),
    "emitter-hides-refusals": (
        (SYNC, 'f"run {stream.stream.run_id}: refused for good: {code}, {number} events"', '""'),
    ),
    "emitter-never-sends-again": (
        (SYNC, "            lane.resend, lane.note.unconfirmed = True, 0\n", "            pass\n"),
    ),
    "emitter-leaves-living-runs": (
        (SYNC, "        if not lane.take():\n", "        if found.is_live or not lane.take():\n"),
    ),
    # -------------------------------------------------------------------------------------- the disk
    "emitter-durable-without-the-disk": ((LOCAL, "            writer.sync()\n", "            pass\n"),),
    "emitter-forces-at-the-end": ((SYNCING, "    _syncer().watch(writer, warn)\n", "    pass\n"),),
    "emitter-forces-in-each-call": (
        (LOCAL, "            self._writer.append(seq, payload)\n        except",
         "            self._writer.append(seq, payload)\n            self._writer.sync()\n        except"),
        (LOCAL, "        return pen.put if pen else None\n", "        return None\n"),
    ),
    "emitter-forces-full-segments-in-calls": (
        (LOCAL, "stream, background=True, lock", "stream, background=False, lock"),
    ),
    "emitter-never-durable": (
        (LOCAL, "        return True\n\n    def make_room", "        return False\n\n    def make_room"),
    ),
    "emitter-stops-after-a-failed-disk": (
        (WRITER, "                if segment is self._current:\n                    segment.withdraw()",
         """                segment.withdraw()
                self._retire()
                self._closed = True
                if segment is self._current:
                    segment.withdraw()"""),
    ),
    "emitter-leaves-room-always": (
        (LOCAL, "Reserve(self._dir.root) if self.is_buffer else None", "Reserve(self._dir.root)"),
    ),
    "emitter-trusts-a-failed-disk": (
        (WRITER, "            self._rescue_all()\n            while True:\n",
         "            self._doubtful.clear()\n            while True:\n"),
    ),
    "emitter-leaves-no-room": ((LOCAL, "Reserve(self._dir.root) if self.is_buffer else None", "None"),),
    "emitter-leaves-too-much-room": (
        (ROOM, "return reserve if usage.free < reserve else 0", "return reserve if usage.free < 2 * reserve else 0"),
    ),
    "emitter-keeps-no-room-for-the-end": (
        (LOCAL, "        self._ballast = Ballast(self._dir.root)\n", "        self._ballast = None\n"),
    ),
    "emitter-takes-no-scalars": (
        (VALUES, 'item = value.item() if hasattr(value, "item") else value', "item = value"),
    ),
}  # fmt: skip
"""The edits of each mutant."""
