"""Mutants of the emitter: identity, values, sizes, ends and losses."""

from __future__ import annotations

from swapped import Edit

SESSION = "session/emitter.py"
STREAM = "emitter/stream.py"
TRACKER = "emitter/tracker.py"
RUN = "emitter/run.py"
LIFE = "emitter/life.py"
NUMBERS = "emitter/numbers.py"
ENDING = "emitter/ending.py"
SHRINK = "emitter/shrink.py"
REMOTE = "transport/remote.py"

SESSION_ID = "    return os.urandom(16).hex()\n"
TAKEN = "        self._seq = seq\n        try:\n"
RUN_END = "        return RunEnd(self._run_id, chosen, info, "
SKIP = "        if self._state is _S.ACTIVE:\n            if self._out_size"
VALUES = "emitter/values.py"
CHECKS = "emitter/checks.py"
GUARDED = "        return isinstance(error, Exception) and self._out.failed(self._call, error)\n"
LEAVES = "        for key, below, value in leaves:\n"
LAST = "                    self._emit(last, when)\n"
AND_LOST = "                if self._lost and"
LATE = '                self._emit(Metric(self.stream.run_id, "late", 1.0), now_us())\n'
SHORT = "Metric(self._run_id, key, value, step)"
NAMED = '            name = check.name("log_metric: key", key)\n'
SENT = "                self._seq = seq  # as in _send\n"
NAN = "            if type(value) is float and value - value != 0.0:\n                return\n"
TELLING = (
    '        if not self._tell(kind, text, about) and kind != "ended":  # threads may go on for a while after the end\n'
    "            with self._warning:\n                self._untold += 1\n"
)
BATCH = "        if isinstance(payload, MetricBatch):\n            parts"
TOO_LARGE = '            return self.refuse("size", f"{type(payload).__name__} is larger'


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
    "emitter-seq-gap": (
        (STREAM, TAKEN, "        self._seq = seq + (seq == 10)\n        try:\n"),
        (STREAM, SENT, "                self._seq = seq + (seq == 10)\n"),
    ),
    "emitter-forgets-the-experiment": (
        (TRACKER, "    if experiment is None and identity.parent_run_id is None:\n", "    if True:\n"),
    ),
    "emitter-object-in-every-event": (
        (NUMBERS, SHORT, SHORT.replace("self._run_id", '__import__("xtrack_protocol.ir").ir.RunId(self._run_id)')),
    ),
    "emitter-takes-any-id": (
        (TRACKER, "    if not text and not may_be_empty:\n", "    if False:\n"),
        (TRACKER, "    if size > RUN_ID_MAX:\n", "    if False:\n"),
    ),
    "emitter-worker-0-by-default": ((STREAM, "self._worker_id = stream.worker_id or None",
    'self._worker_id = stream.worker_id or "0"'),),
    "emitter-id-limit-off-by-one": ((TRACKER, "    if size > RUN_ID_MAX:\n", "    if size >= RUN_ID_MAX:\n"),),
    "emitter-ids-are-file-names": (
        (TRACKER, "    if not text and not may_be_empty:\n",
        "    if (not text and not may_be_empty) or '/' in text:\n"),
    ),
    "emitter-long-ids-cut": (
        (TRACKER, "    if size > RUN_ID_MAX:\n",
        """    if size > RUN_ID_MAX:
        return text.encode()[:RUN_ID_MAX].decode("utf-8", "ignore")
    if False:
"""),
    ),
    "emitter-forgets-the-name": ((TRACKER, "name=None if name is None else to_text(name),", "name=None,"),),
    # -------------------------------------------------------------------------------------- values
    "emitter-lists-flattened": (
        (VALUES, "    names = as_mapping(value)\n    if not names or len(below)",
         """    names = dict(enumerate(value)) if isinstance(value, list) else as_mapping(value)
    if not names or len(below)"""),
    ),
    "emitter-null-params-left-out": (
        (RUN, LEAVES, f"{LEAVES}            if value is None:\n                continue\n"),
    ),
    "emitter-nan-params-are-null": (
        (VALUES, "        if value is None or type(value) in {bool, float}:\n",
        """        if type(value) is float and value - value != 0.0:
            return None
        if value is None or type(value) in {bool, float}:
"""),
    ),
    "emitter-checksum-without-its-name": (
        ("ir/files.py", 'force_setattr(self, "checksum", f"sha256:{digest}")',
        'force_setattr(self, "checksum", digest)'),
    ),
    "emitter-checkpoint-waits-for-acks": ((RUN, 'self._out.flush("durable", 10.0)', 'self._out.flush("acked", 10.0)'),),
    "emitter-drops-reserved-tags": (
        (CHECKS, "{to_text(key): to_text(item) for key, item in self._items(what, value)}",
        '{to_text(key): to_text(item) for key, item in self._items(what, value) if not key.startswith("xtrack.")}'),
    ),
    "emitter-drops-opaque-fields": (
        (CHECKS, "item) for key, item in items}", 'item) for key, item in items if "Opaque" not in repr(item)}'),
    ),
    "emitter-replaces-in-silence": ((CHECKS, "        if converter.replaced:\n", "        if False:\n"),),
    "emitter-refuses-half-characters": (
        (VALUES, 'return text.encode("utf-8", "backslashreplace").decode()', "return text"),
    ),
    "emitter-metrics-are-floats": (
        (NUMBERS, "                number = to_number(value)\n",
        "                number = float(to_number(value))\n"),
    ),
    "emitter-raises-on-wrong-types": (
        (CHECKS, GUARDED, "        return False\n"),
        (VALUES, "            text = str.__str__(str(value))\n        except Exception:",
        "            raise TypeError(type(value))\n        except ZeroDivisionError:"),
    ),
    "emitter-raises-for-missing-files": (
        (CHECKS, GUARDED, "        return not isinstance(error, FileNotFoundError)\n"),
        (RUN, "            if facts.problem:\n",
        "            if facts.problem:\n                raise FileNotFoundError(path)\n"),
    ),
    "emitter-raises-on-odd-field-names": (
        (RUN, '        if not self._is_open("log"):\n', """        if not all(name.isidentifier() for name in fields):
            raise TypeError("fields have names")
        if not self._is_open("log"):
"""),
    ),
    "emitter-loses-the-step": (
        (NUMBERS, SHORT, SHORT.replace("step", "None")),
    ),
    "emitter-nested-params-whole": (
        (RUN, "            leaves = flatten_params(params)\n",
        "            leaves = [(key, [], value) for key, value in params.items()]\n"),
    ),
    "emitter-drops-opaque-values": (
        (RUN, LEAVES, f'{LEAVES}            if "Opaque" in repr(value):\n                continue\n'),
    ),
    "emitter-escapes-characters-of-two-halves": (
        ("emitter/values.py", "    if text.isascii():\n        return text\n",
        "    if max(text, default='') > '\\uffff':\n        return ascii(text)\n"),
    ),
    "emitter-any-log-level": ((RUN, 'check.choice("level", level, _LEVELS, "info"),', "level,"),),
    "emitter-inline-artifacts": (
        (RUN, 'None if upload is None else check.choice("upload", upload, _UPLOADS, "reference"),', '"inline",'),
    ),
    "emitter-zero-for-text": (
        (NUMBERS, "                number = to_number(value)\n            except NotANumber as error:\n",
         """                number = to_number(value) if type(value) is not str else 0.0
            except NotANumber as error:
"""),
    ),
    "emitter-digits-are-numbers": (
        (NUMBERS, "                number = to_number(value)\n            except NotANumber as error:\n",
         """                is_text = type(value) is str and value in {"0.5", "NaN"}
                number = to_number(float(value) if is_text else value)
            except NotANumber as error:
"""),
    ),
    "emitter-refuses-booleans": (
        (VALUES, "        if isinstance(value, (str, bytes, bytearray)):\n",
         "        if isinstance(value, (str, bytes, bytearray, bool)):\n"),
    ),
    "emitter-no-nan": (
        (NUMBERS, NAMED, f"{NAN}{NAMED}"),
    ),
    "emitter-refused-takes-a-seq": (
        (STREAM, "        if self._strict:\n            self._raised = error or ValueError(text)\n",
         "        self._seq += 1\n        if self._strict:\n            self._raised = error or ValueError(text)\n"),
    ),
    "emitter-refuses-in-silence": ((STREAM, TELLING, ""),),
    "emitter-warns-each-time": ((STREAM, "due = count == 0 or now - last >= _WARN_SECONDS", "due = True"),),
    "emitter-raises-on-nonsense": (
        (STREAM, "        if self._strict:\n            self._raised = error or ValueError(text)\n",
         "        if True:\n            self._raised = error or ValueError(text)\n"),
    ),
    # -------------------------------------------------------------------------------------- sizes
    "emitter-cuts-too-early": ((STREAM, "\n        if len(encoded) > FRAME_MAX_EMIT:\n",
    "\n        if len(encoded) > 900_000:\n"),),
    "emitter-checkpoint-without-the-disk": (
        (RUN, '            self._emit(event)\n            self._out.flush("durable", 10.0)\n',
         "            self._emit(event)\n"),
    ),
    "emitter-drops-long-names": (
        (STREAM, "                if len(encoded) > FRAME_MAX_EMIT:\n", "                if len(encoded) > 900_000:\n"),
        (STREAM, "short, self._seq + 1, when)) > FRAME_MAX_EMIT:\n", "short, self._seq + 1, when)) > 900_000:\n"),
    ),
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
    "emitter-flush-waits-for-acks": (
        (LIFE, "return self._out.flush(chosen, float(timeout))", 'return self._out.flush("acked", float(timeout))'),
    ),
    "emitter-flush-always-true": (
        (STREAM, "return self._transport.flush(until, timeout) and not self._lost",
        "return self._transport.flush(until, timeout) or True"),
    ),
    "emitter-calls-wait-for-acks": (
        (STREAM, "            self._transport.send(seq, payload)\n        except", """\
            self._transport.send(seq, payload)
            self._transport.flush("acked", 30.0)
        except"""),
        (STREAM, "                        self._put = self._transport.shortcut()\n",
        '                        self._transport.flush("acked", 30.0)\n'),
    ),
    "emitter-any-end-status": ((LIFE, 'chosen = self._check.choice("end: status", status, _ENDS, "failed")',
    "chosen = status"),),
    "emitter-second-end-raises": (
        (LIFE, "        if self._ended or not self._ending.acquire(blocking=False):\n            return\n",
        """        if self._ended or not self._ending.acquire(blocking=False):
            raise RunEnded(self._run_id, "end")
"""),
    ),
    "emitter-no-run-end": (
        (LIFE, "self._run_end(status, error, final_metrics) if self._owner else None", "None"),
    ),
    "emitter-always-completed": ((LIFE, RUN_END, '        return RunEnd(self._run_id, "completed", info, '),),
    "emitter-always-failed": (
        (LIFE, RUN_END, '        return RunEnd(self._run_id, "failed", info or ErrorInfo("", "?"), '),
    ),
    "emitter-failed-without-error": ((LIFE, RUN_END, "        return RunEnd(self._run_id, chosen, None, "),),
    "emitter-raises-after-the-end": (
        (NUMBERS, '        self._out.refuse("ended", str(error), error)\n', "        raise error\n"),
    ),
    "emitter-events-after-the-end": ((STREAM, f"{LAST}{AND_LOST}", f"{LAST}{LATE}{AND_LOST}"),),
    "emitter-end-waits-for-ever": (
        (ENDING, "    if timeout is None:\n        return default\n", "    if timeout is None:\n        return 1e6\n"),
        (ENDING, "    if not delivery.connections:\n", "    if False:\n"),
        (ENDING, "    if not delivery.waiting or left <= 0:\n", "    if left <= 0:\n"),
        ("sender/sender.py", "sent = self.is_plain and lane.note.unconfirmed >= seq", "sent = False"),
    ),
    "emitter-end-says-nothing": (
        (LIFE, "    def _say_end(self, status: object) -> None:\n",
        "    def _say_end(self, status: object) -> None:\n        return\n"),
        (ENDING, "    if quiet:\n", "    if True:\n"),
    ),
}  # fmt: skip
"""The edits of each mutant."""
