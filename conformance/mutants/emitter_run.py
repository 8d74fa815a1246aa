"""Mutants of the emitter: identity, values, sizes, ends, losses, and what a process shows."""

from __future__ import annotations

from swapped import Edit

SESSION = "session/emitter.py"
STREAM = "emitter/stream.py"
TRACKER = "emitter/tracker.py"
RUN = "emitter/run.py"
ENDING = "emitter/ending.py"
EXITS = "emitter/exits.py"
SHRINK = "emitter/shrink.py"
RANKS = "emitter/ranks.py"
REMOTE = "transport/remote.py"
STDIO = "transport/stdio.py"
OPEN = "transport/open.py"
SETTINGS = "settings.py"

SESSION_ID = "    return os.urandom(16).hex()\n"
TAKEN = "        self._seq = seq\n        try:\n"
RUN_END = "        return RunEnd(self._run_id, chosen, info, "
DESCRIPTOR = "        fd = self._fd\n        if fd is None:\n"
VARIABLE = "        if environ.get(variable):\n"
SKIP = "        if self._state is _S.ACTIVE:\n            if self._out_size"
LEAVES = "        for key, below, value in leaves:\n"
LAST = "                    self._emit(last, now_us())\n"
AND_LOST = "                if self._lost and"
LATE = '                self._emit(Metric(self.stream.run_id, "late", 1.0), now_us())\n'
NUMBER = "            if (\n                type(value) is not float\n"
NAN = "            if type(value) is float and value - value != 0.0:\n                return\n"
BATCH = "        if isinstance(payload, MetricBatch):\n            parts"
ALLOWED = """        if any(fnmatch.fnmatchcase(name, pattern) for pattern in allowed)
        and not _SECRET_NAME.search(name)
        and not _SECRET_VARIABLE.search(name)
        and not _SECRET_VALUE.search(value)
"""
TOO_LARGE = '            return self.refuse("size", f"{type(payload).__name__} is larger'


def without(name: str) -> tuple[Edit, ...]:
    """Return the edit by which a variable of the environment isn't read."""
    return ((SETTINGS, VARIABLE, f'        if environ.get(variable) and name != "{name}":\n'),)


EDITS: dict[str, tuple[Edit, ...]] = {
    # -------------------------------------------------------------------------------------- identity
    "emitter-reuses-session-ids": ((STREAM, SESSION_ID, '    return "5f0c9d1e2b3a48576a7b8c9d0e1f2a3b"\n'),),
    "emitter-session-ids-in-capitals": ((STREAM, SESSION_ID, '    return os.urandom(15).hex().upper() + "AB"\n'),),
    "emitter-legacy-session-ids": ((STREAM, SESSION_ID, '    return f"legacy-{now_us()}"\n'),),
    "emitter-forgets-the-worker": ((STREAM, "self._worker_id = stream.worker_id or None", "self._worker_id = None"),),
    "emitter-no-run-start": (
        (TRACKER, "        _send_start(\n            out,\n", "        (lambda *_: None)(\n            out,\n"),
    ),
    "emitter-no-running": ((TRACKER, 'StatusUpdate(identity.run_id, "running")',
    'StatusUpdate(identity.run_id, "initializing")'),),
    "emitter-seq-from-0": ((STREAM, "        self._seq = 0\n", "        self._seq = -1\n"),),
    "emitter-seq-gap": ((STREAM, TAKEN, "        self._seq = seq + (seq == 10)\n        try:\n"),),
    "emitter-forgets-the-experiment": (
        (TRACKER, "    if experiment is None and identity.parent_run_id is None:\n", "    if True:\n"),
    ),
    "emitter-object-in-every-event": (
        (RUN, "Metric(self._run_id, key, value, step), timestamp_us",
         'Metric(__import__("xtrack_protocol.ir").ir.RunId(self._run_id), key, value, step), timestamp_us'),
    ),
    "emitter-takes-any-id": (
        (TRACKER, "    if not text and not may_be_empty:\n", "    if False:\n"),
        (TRACKER, "    if size > RUN_ID_MAX:\n", "    if False:\n"),
    ),
    # -------------------------------------------------------------------------------------- values
    "emitter-loses-the-step": (
        (RUN, "Metric(self._run_id, key, value, step), timestamp_us",
        "Metric(self._run_id, key, value, None), timestamp_us"),
    ),
    "emitter-nested-params-whole": (
        (RUN, "            leaves = flatten_params(params)\n",
        "            leaves = [(key, [], value) for key, value in params.items()]\n"),
    ),
    "emitter-drops-opaque-values": (
        (RUN, LEAVES, f'{LEAVES}            if "Opaque" in repr(value):\n                continue\n'),
    ),
    "emitter-any-log-level": ((RUN, 'check.choice("level", level, _LEVELS, "info"),', "level,"),),
    "emitter-inline-artifacts": (
        (RUN, 'None if upload is None else check.choice("upload", upload, _UPLOADS, "reference"),', '"inline",'),
    ),
    "emitter-zero-for-text": (
        (RUN, "                    value = to_number(value)\n                except NotANumber as error:\n",
         """                    value = to_number(value) if type(value) is not str else 0.0
                except NotANumber as error:
"""),
    ),
    "emitter-no-nan": (
        (RUN, f"        try:\n{NUMBER}", f"        try:\n{NAN}{NUMBER}"),
    ),
    "emitter-refused-takes-a-seq": (
        (STREAM, "        if self._strict:\n            self._raised = error or ValueError(text)\n",
         "        self._seq += 1\n        if self._strict:\n            self._raised = error or ValueError(text)\n"),
    ),
    "emitter-refuses-in-silence": ((STREAM, "        self.warn(kind, text)\n        return False\n",
    "        return False\n"),),
    "emitter-warns-each-time": ((STREAM, "due = count == 0 or now - last >= _WARN_SECONDS", "due = True"),),
    "emitter-raises-on-nonsense": (
        (STREAM, "        if self._strict:\n            self._raised = error or ValueError(text)\n",
         "        if True:\n            self._raised = error or ValueError(text)\n"),
    ),
    # -------------------------------------------------------------------------------------- sizes
    "emitter-cuts-too-early": ((STREAM, "        if len(encoded) > FRAME_MAX_EMIT:\n",
    "        if len(encoded) > 900_000:\n"),),
    "emitter-drops-long-events": ((STREAM, BATCH, f'        return self.refuse("size", "too large")\n{BATCH}'),),
    "emitter-split-loses-metrics": ((STREAM, "parts = split_batch(payload)", "parts = split_batch(payload)[:-1]"),),
    "emitter-split-without-step": (
        (STREAM, "[self._emit(part, when) for part in parts]",
        "[self._emit(msgspec.structs.replace(part, step=None), when) for part in parts]"),
    ),
    "emitter-throws-texts-away": ((STREAM, "        if self._attachments is None:\n", "        if True:\n"),),
    "emitter-too-large-takes-a-seq": ((STREAM, TOO_LARGE, f"            self._seq += 1\n{TOO_LARGE}"),),
    "emitter-cut-without-a-note": (
        (SHRINK, 'return f"{text[:TEXT_MAX]}... [cut: {len(text)} characters, {rest}]"', "return text[:TEXT_MAX]"),
    ),
    "emitter-map-cut-in-silence": ((SHRINK, "        if len(kept) < len(mapping):\n", "        if False:\n"),),
    # -------------------------------------------------------------------------------------- losses
    "emitter-declares-no-loss": ((SESSION, SKIP, "        if False:\n            if self._out_size"),),
    "emitter-skip-off-by-one": (
        (SESSION, "Skip(stream.run_id, stream.session_id, first, last, reason",
        "Skip(stream.run_id, stream.session_id, first, last - 1, reason"),
    ),
    "emitter-loss-without-seq": (
        (STREAM, "        self._dropped += 1\n",
        "        self._dropped += 1\n        self._seq -= 1\n        self._lost = None\n"),
    ),
    "emitter-drops-in-silence": (
        (STREAM, '        self.warn("dropped", f"events are being lost: {describe(error)}")\n', ""),
        (STREAM, "        self._dropped += 1\n", ""),
    ),
    "emitter-raises-when-full": (
        (STREAM, "        self._dropped += 1\n        if self._strict:\n",
        "        self._dropped += 1\n        if True:\n"),
    ),
    # -------------------------------------------------------------------------------------- waiting, ending
    "emitter-flush-doesnt-wait": (
        (REMOTE, "sender.wait_acked(lane, lane.end_seq, timeout)", "lane.note.acked >= lane.end_seq"),
    ),
    "emitter-no-run-end": (
        (RUN, "self._run_end(status, error, final_metrics) if self._owner else None", "None"),
    ),
    "emitter-always-completed": ((RUN, RUN_END, '        return RunEnd(self._run_id, "completed", info, '),),
    "emitter-always-failed": (
        (RUN, RUN_END, '        return RunEnd(self._run_id, "failed", info or ErrorInfo("", "?"), '),
    ),
    "emitter-failed-without-error": ((RUN, RUN_END, "        return RunEnd(self._run_id, chosen, None, "),),
    "emitter-raises-after-the-end": (
        (RUN, '        self._out.refuse("ended", str(error), error)\n', "        raise error\n"),
    ),
    "emitter-events-after-the-end": ((STREAM, f"{LAST}{AND_LOST}", f"{LAST}{LATE}{AND_LOST}"),),
    "emitter-end-waits-for-ever": (
        (ENDING, "    if timeout is None:\n        return default\n", "    if timeout is None:\n        return 1e6\n"),
        (ENDING, "    if not delivery.connections:\n", "    if False:\n"),
    ),
    "emitter-end-says-nothing": (
        (RUN, "    def _say_end(self, status: object) -> None:\n",
        "    def _say_end(self, status: object) -> None:\n        return\n"),
        (ENDING, "    if quiet:\n", "    if True:\n"),
    ),
    # -------------------------------------------------------------------------------------- processes
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
        "        return field.default\n"),
        (OPEN, "    if make is None:\n", "    if make is None:\n        return NullTransport()\n    if False:\n"),
    ),
    "emitter-sends-the-environment": (("emitter/surroundings.py", ALLOWED, ""),),
    "emitter-no-end-at-exit": ((EXITS, "    for run in reversed(tuple(_open)):\n",
    "    for run in reversed(tuple(_open)[:0]):\n"),),
    "emitter-always-well-at-exit": ((EXITS, "        run.end_at_exit(_uncaught, code)\n",
    "        run.end_at_exit(None, None)\n"),),
    "emitter-catches-signals": (
        (EXITS, "    _open.append(run)\n",
        '    _open.append(run)\n    __import__("signal").signal(15, lambda *_: None)\n'),
    ),
    "emitter-child-writes-as-parent": (
        (STREAM, "self._begin(StreamId(self.stream.run_id, self.stream.worker_id, new_session_id()))",
        "self._begin(self.stream)"),
    ),
    "emitter-ignores-ranks": ((TRACKER, "        rank = find_rank(warn=_warn)\n", "        rank = None\n"),),
    "emitter-takes-any-rank": ((RANKS, "    if index >= size:\n", "    if False:\n"),),
    "emitter-own-run-for-each-rank": ((RANKS, "job=_job(environ, rank)", "job=None"),),
}  # fmt: skip
"""The edits of each mutant."""
