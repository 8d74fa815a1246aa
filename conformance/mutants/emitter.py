"""Mutants of the emitter: what it says to a collector, and makes of what that says.

Each is the reference with a line or two of its source changed. :mod:`emitter_run` has those of a run and its values,
:mod:`emitter_process` those of what a process shows.
"""

from __future__ import annotations

import emitter_edges
import emitter_process
import emitter_run
import emitter_shipping
from swapped import Edit, swapping
from tools import Mutation

SESSION = "session/emitter.py"
CONNECTION = "session/_connection.py"
OUTGOING = "session/_outgoing.py"
BACKOFF = "session/backoff.py"
PUBLISHED = "session/published.py"
LANE = "sender/lane.py"
LINK = "sender/link.py"
SHIPPER = "sender/shipper.py"
COMMANDS = "emitter/commands.py"
CONNECT = "net/connect.py"
ENDPOINT = "net/endpoint.py"
REMOTE = "transport/remote.py"

OPENED = "                        lane.open_at(cursor)\n"
TIMEOUT = "hello_timeout=0.0 if plain else seconds"
DELAY = "        return ceiling * random + sane_retry_after(retry_after)\n"
PLAIN = "plain = self._closed_at_hello >= CLOSED_AT_HELLO and not endpoint.requires_session and not self._known"
CURSOR = "            entry.acked = entry.sent = ack.seq  # spec: CTL-8.2\n"
ACKED = "        self._tell(Acked(entry.stream, ack.seq, tuple(ack.rejected)))\n"
FINAL = "        if code in FINAL_CODES:\n"
ANSWER = "        self._answers[command.command_id] = answer\n        self._out.answer(answer)\n"
OPEN_FRAME = (
    "            self._control(OpenStream(stream.run_id, stream.session_id, stream.worker_id or None, entry.passive))\n"
)
OUT_OF_PLACE = "        elif not self._step(what):\n"
JUDGED = "        fault = entry.fault_of(ack)\n"
LATE = "        if Input.WELCOME not in CLIENT[self._state]:\n"
CODEC = 'if codec is None or (codec != "json" and codec not in self._hello.codecs):'
CHOSEN = "        self._max_payload = min(FRAME_MAX_EMIT, max_frame)\n"
FOR_US = "return run_matches and (command.worker_id is None or command.worker_id == stream.worker_id)"
NAMED = "run_matches = command.run_id is None or run_id_text(command.run_id) == stream.run_id"


def goes_on_at(seq: str) -> Edit:
    """Return the edit by which a stream goes on behind ``seq``, where that is above the cursor."""
    before = f"                        seq = max(cursor, {seq})\n"
    return LINK, OPENED, f"{before}{OPENED}                        self._session._entry('x', stream).moved_to(seq)\n"


EDITS: dict[str, tuple[Edit, ...]] = {
    # -------------------------------------------------------------------------------------- hello, welcome
    "emitter-no-hello": ((LINK, 'self._send(b"" if self._skip_hello else first)', 'self._send(b"")'),),
    "emitter-hello-with-seq": (
        (SESSION, '        self._control(self._hello, "json")\n',
         """        self._control(self._hello, "json")
        self._out[-1] = self._out[-1].replace(b'"seq":0', b'"seq":7')
"""),
    ),
    "emitter-hello-once": ((SHIPPER, PLAIN, "plain = self.connections > 0"),),
    "emitter-hello-again": (
        (SESSION, "        self._step(Input.WELCOME)\n",
        "        self._step(Input.WELCOME)\n        self._control(self._hello)\n"),
    ),
    "emitter-speaks-too-early": ((SHIPPER, TIMEOUT, "hello_timeout=0.0"),),
    "emitter-falls-back-early": ((SHIPPER, TIMEOUT, "hello_timeout=1.0"),),
    "emitter-falls-back-at-once": ((SHIPPER, "plain = self._closed_at_hello >= CLOSED_AT_HELLO",
    "plain = self._closed_at_hello >= 1"),),
    "emitter-never-falls-back": ((SESSION, "            if self._require_session:  # spec: VER-4\n",
    "            if True:\n"),),
    "emitter-falls-back-with-a-key": (
        (SHIPPER, "require_session=endpoint.requires_session or known", "require_session=False"),
    ),
    "emitter-forgets-who-welcomed-it": (
        (SHIPPER, "known = self._known and self._unanswered < GIVE_UP_KNOWN", "known = False"),
    ),
    "emitter-no-hello-to-known-peers": ((SHIPPER, PLAIN, "plain = self._closed_at_hello >= CLOSED_AT_HELLO"),),
    "emitter-never-says-hello-again": (
        (SHIPPER, "self._closed_at_hello = CLOSED_AT_HELLO - 1", "self._closed_at_hello = CLOSED_AT_HELLO"),
    ),
    "emitter-takes-any-version": (
        (SESSION, "if welcome.protocol not in self._hello.protocols or welcome.protocol not in SUPPORTED_VERSIONS:",
        "if False:"),
    ),
    "emitter-takes-small-frames": ((SESSION, "if max_frame < SESSION_FRAME_MIN:", "if max_frame < 0:"),),
    "emitter-takes-a-second-welcome": ((SESSION, LATE, "        if False:\n"),),
    "emitter-ignores-a-late-welcome": ((SESSION, LATE,
    "        if late or Input.WELCOME not in CLIENT[self._state]:\n"),),
    "emitter-ignores-max-frame": (
        (SESSION, "self._max_payload = min(FRAME_MAX_EMIT, max_frame)", "self._max_payload = FRAME_MAX_EMIT"),
    ),
    "emitter-takes-half-of-max-frame": (
        (SESSION, "self._max_payload = min(FRAME_MAX_EMIT, max_frame)", "self._max_payload = max_frame // 2"),
    ),
    "emitter-ignores-windows": ((SESSION, "Window(limits.window_events, limits.window_bytes)", "Window()"),),
    "emitter-stops-at-window-0": (
        (OUTGOING, "        if not self.events and events == 1:\n", "        if self.events < 0:\n"),
    ),
    "emitter-other-auth-scheme": ((ENDPOINT, "Auth(AUTH_SCHEME, self.key)", 'Auth("bearer", self.key)'),),
    "emitter-shows-the-key": (
        (SHIPPER, 'f"the key was not accepted: {reason}"', 'f"the key {self.endpoint.key} was not accepted: {reason}"'),
    ),
    "emitter-key-in-clear": ((CONNECT, "if endpoint.key_in_clear and not is_this_machine(peer):", "if False:"),),
    "emitter-only-one-loopback": (
        (CONNECT, "if endpoint.key_in_clear and not is_this_machine(peer):",
        'if endpoint.key_in_clear and peer != "127.0.0.1":'),
    ),
    "emitter-empty-auth": (
        (ENDPOINT, "auth=None if self.key is None else Auth(AUTH_SCHEME, self.key)",
        'auth=Auth(AUTH_SCHEME, self.key or "")'),
    ),
    "emitter-takes-any-codec": (
        (SESSION, CODEC, f"""if codec is None:
            codec = "json"
        {CODEC}"""),
    ),
    "emitter-wants-larger-frames": ((SESSION, "if max_frame < SESSION_FRAME_MIN:",
    "if max_frame <= SESSION_FRAME_MIN:"),),
    "emitter-msgpack-unasked": (
        (SESSION, "transcode(payload, self._codec, self._max_payload)",
        'transcode(payload, "msgpack", self._max_payload)'),
    ),
    "emitter-wants-known-features": (
        (SESSION, CHOSEN, f"""{CHOSEN}        if set(welcome.features) - set(self._hello.features):
            self._fail("protocol_error", "features that hello didn't name")
            return
"""),
    ),
    "emitter-window-of-its-own": ((SESSION, CHOSEN, f"{CHOSEN}        self._window = Window(100)\n"),),
    "emitter-key-in-the-ship-command": (
        (REMOTE, 'return f"xtrack sync{folder}', 'return f"XTRACK_KEY={self._endpoint.key} xtrack sync{folder}'),
    ),
    "emitter-key-anywhere": (
        (ENDPOINT, "self.tls is None and not self.insecure", "self.tls is None and not self.insecure and False"),
    ),
    "emitter-key-in-clear-nowhere": ((CONNECT, "if endpoint.key_in_clear and not is_this_machine(peer):",
    "if endpoint.key_in_clear:"),),
    "emitter-takes-tls-for-clear": ((ENDPOINT, "self.tls is None and not self.insecure", "not self.insecure"),),
    "emitter-refuses-far-hosts": ((ENDPOINT, "self.key is not None and self.tls is None and",
    "self.tls is None and"),),
    # -------------------------------------------------------------------------------------- streams
    "emitter-no-open": (
        (SESSION,
        OPEN_FRAME, "            pass\n"),
    ),
    "emitter-object-in-open": (
        (SESSION, "OpenStream(stream.run_id, stream.session_id, stream",
        'OpenStream(__import__("xtrack_protocol.ir").ir.RunId(stream.run_id, "e"), stream.session_id, stream'),
    ),
    "emitter-opens-another-session": (
        (SESSION, "OpenStream(stream.run_id, stream.session_id, stream",
        'OpenStream(stream.run_id, f"{id(self):032x}", stream'),
    ),
    "emitter-events-before-the-cursor": (
        (SESSION, "            entry.told_cursor = False\n",
        "            entry.told_cursor = entry.step(StreamInput.ACCEPT)\n"),
    ),
    "emitter-opens-twice": (
        (SESSION, ACKED, f"{ACKED}        self._control(OpenStream(entry.stream.run_id, entry.stream.session_id))\n"),
    ),
    "emitter-ignores-the-cursor": ((SESSION, CURSOR, "            entry.acked = entry.sent = 0\n"),),
    "emitter-cursor-off-by-one": ((SESSION, CURSOR, "            entry.acked = entry.sent = max(0, ack.seq - 1)\n"),),
    "emitter-goes-on-behind-its-own-note": (goes_on_at("lane.note.acked, lane.note.unconfirmed"),),
    "emitter-forgets-what-it-sent": (goes_on_at("lane._sent"),),
    "emitter-doubts-the-cursor": (
        (LINK, OPENED, f"""                        if cursor > lane._sent:
                            self._session._fail("protocol_error", "more than was sent")
{OPENED}"""),
    ),
    "emitter-sends-what-comes-alone": (goes_on_at("lane.end_seq"),),
    "emitter-out-of-order": (
        (CONNECTION, "        self._out.append(frame)\n",
        "        self._out.insert(max(0, len(self._out) - 1), frame)\n"),
        (SESSION, "self._out += map(frame_payload, payloads)", "self._out += map(frame_payload, reversed(payloads))"),
    ),
    "emitter-resend-changes-events": (
        (
            LANE,
            "return session.offer(self.stream, event.seq, event.payload)",
            """return session.offer(self.stream, event.seq,
                event.payload.replace(b'"ts":1', b'"ts":9') if event.seq <= self._sent else event.payload)""",
        ),
    ),
    # -------------------------------------------------------------------------------------- acks
    "emitter-needs-sid-in-acks": ((SESSION, "            if len(entries) == 1:\n",
    "            if len(entries) == 99:\n"),),
    "emitter-takes-any-ack": (
        (
            SESSION,
            'self._streams.get(StreamId(run_id_text(ack.run_id), ack.worker_id or "", ack.session_id))',
            "next(iter(self._streams.values()))",
        ),
    ),
    "emitter-acked-when-sent": (
        (LANE, "            self._sent = max(self._sent, last)\n",
        "            self._sent = self.note.acked = max(self._sent, last)\n"),
        (LANE, "        self._sent = max(self._sent, self._next - 1)\n",
        "        self._sent = self.note.acked = max(self._sent, self._next - 1)\n"),
    ),
    "emitter-refuses-lower-acks": (
        (SESSION, "            self._tell(Rewound(entry.stream, ack.seq))\n",
        '            self._fail("protocol_error", "lower")\n'),
    ),
    "emitter-takes-impossible-acks": ((OUTGOING, "        if ack.seq > self.highest:  # spec: CTL-3.10\n",
    "        if False:\n"),),
    "emitter-takes-negative-acks": (
        (SESSION, JUDGED, f"        ack = __import__('msgspec').structs.replace(ack, seq=max(0, ack.seq))\n{JUDGED}"),
    ),
    "emitter-matches-acks-by-sid": (
        (
            SESSION,
            'self._streams.get(StreamId(run_id_text(ack.run_id), ack.worker_id or "", ack.session_id))',
            "next((one for one in self._streams.values() if one.stream.session_id == ack.session_id), None)",
        ),
    ),
    "emitter-last-ack-off-by-one": ((OUTGOING, "        if ack.seq > self.highest:  # spec: CTL-3.10\n",
    "        if ack.seq >= self.highest:\n"),),
    "emitter-repeated-ack-is-a-fault": (
        (OUTGOING, "        if ack.seq > self.highest:  # spec: CTL-3.10\n",
        "        if ack.seq > self.highest or ack.seq == self.acked:\n"),
    ),
    "emitter-refused-is-acked": (
        (LANE, "return max(0, self.note.acked - self.note.rejected_count)", "return self.note.acked"),
    ),
    "emitter-closes-on-error-acks": (
        (SESSION, "            self._take_hold(ack, entry)\n",
        '            self._fail("protocol_error", "an error")\n'),
    ),
    "emitter-goes-on-where-it-was": (
        (SESSION, CURSOR, "            entry.acked, entry.sent = ack.seq, max(ack.seq, entry.highest)\n"),
    ),
    "emitter-error-acks-nothing": (
        (SESSION, "if entry.state is _T.OPEN and (ack.seq != entry.acked or ack.rejected):", "if False:"),
        (LINK, "                        lane.move_to(cursor)\n                        lane.held",
        "                        lane.held"),
    ),
    "emitter-sends-refused-again": (
        (LANE, "        if event.seq in self.refused:  # spec: CTL-3.8\n", "        if False:\n"),
        (SESSION, "        if seq in entry.refused:\n", "        if False:\n"),
    ),
    "emitter-ignores-fenced": ((SESSION, FINAL, '        if code == "forbidden":\n'),),
    "emitter-ignores-forbidden": ((SESSION, FINAL, '        if code == "fenced":\n'),),
    "emitter-final-by-prefix": (
        (SESSION, FINAL, f'        code = reason[:6] if reason.startswith("fenced") else reason[:9]\n{FINAL}'),
    ),
    "emitter-comes-back-after-fenced": (
        (LINK, '                        lane.fenced = lane.fenced or code == "fenced"\n',
        "                        lane.fenced = False\n"),
    ),
    # -------------------------------------------------------------------------------------- pauses
    "emitter-ignores-retry-after": ((BACKOFF, DELAY, "        return ceiling * random\n"),),
    "emitter-retry-after-in-whole-seconds": (
        (BACKOFF, DELAY, "        return ceiling * random + int(sane_retry_after(retry_after))\n"),
    ),
    "emitter-no-pauses": ((BACKOFF, DELAY, "        return sane_retry_after(retry_after)\n"),),
    "emitter-pauses-too-long": ((BACKOFF, DELAY, "        return 3 * ceiling * random\n"),),
    "emitter-pauses-never-grow": ((BACKOFF, DELAY, "        return self.first * random\n"),),
    "emitter-pauses-never-reset": (
        (BACKOFF, DELAY, "        return ceiling * 0.5\n"),
        (SHIPPER, "        self._backoff.reset()\n        self.is_plain", "        self.is_plain"),
    ),
    "emitter-gives-up": ((BACKOFF, DELAY, "        return ceiling * random + (1e6 if self.attempts > 20 else 0)\n"),),
    # -------------------------------------------------------------------------------------- plain peers
    "emitter-pings-a-plain-peer": (
        (CONNECTION, "        if self._state not in _SESSION:\n",
        "        if self._state not in (*_SESSION, _S.PLAIN):\n"),
        (CONNECTION, "if self._now >= self._silence_due() and self._step(Input.SILENCE):",
        "if self._now >= self._silence_due():"),
    ),
    "emitter-tags-to-a-plain-peer": (
        (SESSION, "                self._put(frame_payload(instead))\n",
        "                self._put(frame_payload(payload))\n"),
    ),
    "emitter-other-logger": tuple(
        (PUBLISHED, f'"{name}", "xtrack"', f'"{name}", "root"') for name in ("tags", "summary", "command_result")
    ),
    "emitter-alert-without-text": ((PUBLISHED, 'f"{title}: {text}" if text else title', "title"),),
    "emitter-skip-to-a-plain-peer": (
        (SESSION, "        if self._state is _S.ACTIVE:\n            if self._out_size",
        "        if True:\n            if self._out_size"),
    ),
    "emitter-plain-is-acked": (
        (LANE, "                note.unconfirmed, self.unsaved = seq, True\n",
        "                note.acked = note.unconfirmed = seq\n"),
    ),
    "emitter-plain-begins-again": (
        (LANE, "return 0 if self.resend else max(self.note.acked, self.note.unconfirmed)", "return 0"),
    ),
    # -------------------------------------------------------------------------------------- commands, silence
    "emitter-drops-commands": ((SESSION, "                self._tell(CommandReceived(payload))\n",
    "                pass\n"),),
    "emitter-ignores-named-runs": ((COMMANDS, NAMED, "run_matches = command.run_id is None"),),
    "emitter-compares-run-objects": (
        (COMMANDS, NAMED, "run_matches = command.run_id is None or command.run_id == stream.run_id"),
    ),
    "emitter-commands-need-a-wid": (
        (COMMANDS, FOR_US, 'return run_matches and (command.worker_id or "") == stream.worker_id'),
    ),
    "emitter-newest-command-first": ((COMMANDS, "command = self._polled.popleft()", "command = self._polled.pop()"),),
    "emitter-alike-commands-are-one": (
        (COMMANDS, " or self._is_repeated(command):\n", """ or self._is_repeated(command):
            return
        if any((one.type, one.payload) == (command.type, command.payload) for one in self._polled):
"""),
    ),
    "emitter-no-answers": ((COMMANDS, ANSWER, "        self._answers[command.command_id] = answer\n"),),
    "emitter-answers-twice": ((COMMANDS, ANSWER, f"{ANSWER}        self._out.answer(answer)\n"),),
    "emitter-answers-once": (
        (COMMANDS, "            if answer is not None:\n                self._out.answer(answer)\n",
        "            pass\n"),
    ),
    "emitter-leaves-commands-unanswered": (
        (COMMANDS, 'self._answer(waiting.popleft(), "error", "the run ended before the command was carried out")',
        "waiting.popleft()"),
    ),
    "emitter-takes-others-commands": (
        (COMMANDS, "return run_matches and (command.worker_id is None or command.worker_id == stream.worker_id)",
        "return True"),
    ),
    "emitter-repeats-commands": ((COMMANDS, "        if command.command_id in self._answers:\n",
    "        if False:\n"),),
    "emitter-no-pong": ((CONNECTION, "        if not self._pong_waits:\n", "        if False:\n"),),
    "emitter-answers-pongs": (
        (SESSION, "            case Ping():\n", '            case _ if type(payload).__name__ in {"Ping", "Pong"}:\n'),
    ),
    "emitter-no-ping": ((CONNECTION, "            self._control(Ping())\n", "            pass\n"),),
    "emitter-never-gives-up-a-peer": (
        (CONNECTION, "return self._heard_at + self._idle_after if self._state in _SESSION else math.inf",
        "return math.inf"),
    ),
    "emitter-counts-from-the-start": (
        (CONNECTION, "            self._heard_at = self._now\n            self._pinged_at",
        "            self._pinged_at"),
    ),
    "emitter-closes-on-strange-frames": (
        (SESSION, OUT_OF_PLACE, f'{OUT_OF_PLACE}            self._fail("protocol_error", "out of place")\n'),
    ),
    "emitter-closes-on-answers-to-nothing": (
        (SESSION, "        match payload:\n            case CommandResult():\n",
        """        if type(payload).__name__ in {"CommandResult", "Subscribe", "Unsubscribe"}:
            self._fail("protocol_error", "nobody has asked for that")
            return
        match payload:
            case CommandResult():
"""),
    ),
    "emitter-ignores-fatal-frames": (
        (SESSION, "                self._fail_framing(frame.error)\n", "                pass\n"),
    ),
    "emitter-closes-on-bad-frames": (
        (SESSION, "            elif self._step(what):\n                self._refused(frame)\n",
        "            else:\n                self._fail_framing(frame.error)\n"),
    ),
    **emitter_edges.EDITS,
    **emitter_run.EDITS,
    **emitter_shipping.EDITS,
    **emitter_process.EDITS,
}  # fmt: skip
"""The edits of each mutant."""

MUTANTS: dict[str, Mutation] = {name: swapping(name, edits) for name, edits in EDITS.items()}
