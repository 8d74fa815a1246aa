"""Mutants of the emitter: what a process shows, what its environment and its launcher tell, threads and forks."""

from __future__ import annotations

from swapped import Edit

STREAM = "emitter/stream.py"
TRACKER = "emitter/tracker.py"
LIFE = "emitter/life.py"
EXITS = "emitter/exits.py"
RANKS = "emitter/ranks.py"
STDIO = "transport/stdio.py"
FILE = "transport/file.py"
OPEN = "transport/open.py"
SETTINGS = "settings.py"

DESCRIPTOR = "        fd = self._fd\n        if fd is None:\n"
VARIABLE = "        if environ.get(variable):\n"
CHILD = "self._begin(StreamId(self.stream.run_id, self.stream.worker_id, new_session_id()))"
LOCKED = "        lock.taken  # noqa: B018 - takes it\n        try:\n            if self._busy:\n"
QUICKLY_NUMBERED = "                self._seq = seq  # as in _send\n"
NUMBERED = "        self._seq = seq\n        try:\n"
ALLOWED = """        if any(fnmatch.fnmatchcase(name, pattern) for pattern in allowed)
        and not _SECRET_NAME.search(name)
        and not _SECRET_VARIABLE.search(name)
        and not _SECRET_VALUE.search(value)
"""


def without(name: str) -> tuple[Edit, ...]:
    """Return the edit by which a variable of the environment isn't read."""
    return ((SETTINGS, VARIABLE, f'        if environ.get(variable) and name != "{name}":\n'),)


EDITS: dict[str, tuple[Edit, ...]] = {
    "emitter-frames-on-stdout": ((STDIO, DESCRIPTOR, "        fd = 1\n        if fd is None:\n"),),
    "emitter-frames-on-a-file": ((STDIO, "            if not _THREE_WAS_HANDED_DOWN:\n", "            if False:\n"),),
    "emitter-ignores-XTRACK_FD": ((STDIO, DESCRIPTOR, "        fd = None\n        if fd is None:\n"),),
    "emitter-ignores-XTRACK_FILE": without("file"),
    "emitter-ignores-XTRACK_RUN_ID": without("run_id"),
    "emitter-ignores-XTRACK_RESUME_RUN_ID": without("resume_run_id"),
    "emitter-ignores-XTRACK_EXPERIMENT": without("experiment"),
    "emitter-ignores-XTRACK_WORKER_ID": without("worker_id"),
    "emitter-ignores-XTRACK_WORLD_SIZE": without("world_size"),
    "emitter-environment-first": ((TRACKER, "    if worker_id is None:\n        worker_id = settings",
    "    if True:\n        worker_id = settings"),),
    "emitter-one-run-id-for-all": ((TRACKER, "    if binding is not call and not given:\n", "    if False:\n"),),
    "emitter-swallows-configuration-errors": (
        (SETTINGS, "        raise ConfigurationError(where, shown, str(error)) from error\n",
        "        return setting.default\n"),
        (OPEN, "    if make is None:\n", "    if make is None:\n        return _null(name, settings)\n    if False:\n"),
    ),
    "emitter-sends-the-environment": (("emitter/surroundings.py", ALLOWED, ""),),
    "emitter-no-end-at-exit": ((EXITS, "    for run in reversed(tuple(_open)):\n",
    "    for run in reversed(tuple(_open)[:0]):\n"),),
    "emitter-always-well-at-exit": ((EXITS, "        run.end_at_exit(_uncaught, code)\n",
    "        run.end_at_exit(None, None)\n"),),
    "emitter-keeps-frames-in-the-process": (
        ("transport/_stream.py", "        return os.write(self._fd, data[:_ATOMIC])\n",
        """        self.kept = getattr(self, "kept", b"") + bytes(data)
        return len(data)
"""),
        ("transport/_stream.py", "        fd, self._fd = self._fd, -1\n        if fd >= 0:\n            os.close(fd)\n",
        """        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.write(fd, getattr(self, "kept", b""))
            os.close(fd)
"""),
    ),
    "emitter-catches-signals": (
        (EXITS, "        _open.append(run)\n",
        '        _open.append(run)\n        __import__("signal").signal(15, lambda *_: None)\n'),
    ),
    "emitter-child-writes-as-parent": (
        (STREAM, "self._begin(StreamId(self.stream.run_id, self.stream.worker_id, new_session_id()))",
        "self._begin(self.stream)"),
    ),
    "emitter-ignores-ranks": ((TRACKER, "        rank = find_rank(warn=_warn)\n", "        rank = None\n"),),
    "emitter-ranks-as-texts": (
        (TRACKER, "        worker = _worker_of(worker_id, settings, rank)\n        experiment",
         """        worker = _worker_of(worker_id, settings, rank)
        worker = __import__("os").environ.get("RANK", worker)
        experiment"""),
    ),
    "emitter-plain-files": (
        (TRACKER, 'return settings.additive or transport.name != "stdio"',
         'return settings.additive or transport.name not in {"stdio", "file"}'),
    ),
    "emitter-added-types-on-files": (
        (TRACKER, 'return settings.additive or transport.name != "stdio"',
         """if settings.fd is not None and __import__("stat").S_ISREG(__import__("os").fstat(settings.fd).st_mode):
        return True
    return settings.additive or transport.name != "stdio\""""),
    ),
    "emitter-no-settings": ((SETTINGS, "    in_file = _read_file(path) if path else {}\n", "    in_file = {}\n"),),
    "emitter-file-outweighs": ((SETTINGS, VARIABLE,
    "        if environ.get(variable) and not (path and name in in_file):\n"),),
    "emitter-settings-here-alone": (
        (SETTINGS, "    for folder in (here, *here.parents):\n", "    for folder in (here,):\n"),
    ),
    "emitter-settings-from-above": (
        (SETTINGS, "    for folder in (here, *here.parents):\n", "    for folder in (*here.parents, here):\n"),
    ),
    "emitter-ignores-XTRACK_CONFIG": ((SETTINGS, '    named = environ.get("XTRACK_CONFIG")\n', "    named = None\n"),),
    "emitter-paths-from-here": (
        (SETTINGS, "            values[name] = path.absolute().parent / value if isinstance(value, Path) else value\n",
         "            values[name] = value\n"),
    ),
    "emitter-rewinds-to-the-checkpoint": (
        (TRACKER, "resume=Resume(resumed, rewind) if resumed else None,",
         "resume=Resume(resumed, 3 if settings.resume_checkpoint else rewind) if resumed else None,"),
    ),
    "emitter-opens-the-checkpoint": (
        (TRACKER, "resume=Resume(resumed, rewind) if resumed else None,",
         "resume=Resume(resumed) if not open(settings.resume_checkpoint or __file__).close() and resumed else None,"),
    ),
    "emitter-takes-any-rank": ((RANKS, "    if index >= size:\n", "    if False:\n"),),
    "emitter-one-run-for-a-job": (
        (RANKS, '(f".{_step(environ)}" if with_step else "")', '""'),
    ),
    "emitter-hosts-of-their-own": (
        (RANKS, "_launcher(_RANKS) if local == rank.size else None", "_launcher(_RANKS)"),
    ),
    "emitter-own-run-for-each-rank": ((RANKS, "job=_job(environ, rank)", "job=None"),),
    "emitter-pipes-alone": ((STDIO, "return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)",
    "return stat.S_ISFIFO(mode)"),),
    "emitter-closed-descriptor-is-nowhere": (
        (STDIO, "        _check_writable(fd)\n        writing = self._open_channel(fd)\n",
        """        try:
            os.fstat(fd)
        except OSError:
            fd = os.open(os.devnull, os.O_WRONLY)
        writing = self._open_channel(fd)
"""),
    ),
    "emitter-added-types-on-a-descriptor": (
        (TRACKER, 'return settings.additive or transport.name != "stdio"', "return True"),
    ),
    "emitter-another-file-by-default": (
        (FILE, "self._base = Path(path).expanduser()",
        'self._base = Path(str(path).replace("_events", "")).expanduser()'),
    ),
    "emitter-null-is-the-default": ((OPEN, "make = TRANSPORTS.get(name)",
    'make = TRANSPORTS.get("stdio" if name == "null" else name)'),),
    "emitter-empty-variables-are-errors": (
        (SETTINGS, VARIABLE, f"""        if environ.get(variable) == "":
            raise ConfigurationError(variable, "", "is empty")
{VARIABLE}"""),
    ),
    "emitter-ignores-a-missing-config": (
        (SETTINGS, '            raise ConfigurationError("XTRACK_CONFIG", named, "no such file")\n',
        "            return None\n"),
    ),
    "emitter-ends-when-the-process-does": (
        (LIFE, "        if self._ended or not self._ending.acquire(blocking=False):\n",
        "        if not exits._at_end or self._ended or not self._ending.acquire(blocking=False):\n"),
    ),
    "emitter-child-ends-the-run": (
        (LIFE, "            self._leave_child(timeout)\n            return\n", """\
            self._out.emit(self._run_end(status, error, final_metrics))
            self._leave_child(timeout)
            return
"""),
    ),
    "emitter-child-is-no-worker": ((STREAM, CHILD, CHILD.replace("self.stream.worker_id", '""')),),
    "emitter-numbers-without-a-lock": (
        (STREAM, LOCKED, "        try:\n            if False:\n"),
        (STREAM, "            lock.release()\n", "            pass\n"),
        (STREAM, QUICKLY_NUMBERED, f"                time.sleep(0.0005)\n{QUICKLY_NUMBERED}"),
        (STREAM, NUMBERED, f"        time.sleep(0.0005)\n{NUMBERED}"),
    ),
    "emitter-passes-over-ranks-in-silence": (
        (RANKS, 'warn(f"{name}={text[:40]!r} is no whole', 'len(f"{name}={text[:40]!r} is no whole'),
    ),
    "emitter-rank-without-a-size": (
        (RANKS, 'environ.get(name, "") for name in (index_name, size_name)}',
        'environ.get(name, "9" if name == size_name else "") for name in (index_name, size_name)}'),
    ),
    "emitter-shared-nothing-in-silence": ((TRACKER, "rank.size > 1 and rank.index == 0:", "False:"),),
}  # fmt: skip
"""The edits of each mutant."""
