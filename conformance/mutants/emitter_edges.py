"""Mutants of the emitter: what it makes of the edges of CTL and VER."""

from __future__ import annotations

from swapped import Edit

SESSION = "session/emitter.py"
CONNECTION = "session/_connection.py"
OUTGOING = "session/_outgoing.py"
COMMANDS = "emitter/commands.py"
SHIPPER = "sender/shipper.py"

PING = "            self._control(Ping())\n"
ONCE = """            if not self.__dict__.get("has_pinged"):
                self._control(Ping())
            self.has_pinged = True
"""
OUT_OF_PLACE = "        elif not self._step(what):\n"
PONGS = """        elif what is Input.PING and self._state is _S.PLAIN:
            self._answer_ping()
"""
HELD = "            self._take_hold(ack, entry)\n"
OPENED = "            self._control(OpenStream(entry.stream.run_id, entry.stream.session_id))\n"
KEYLESS = """            __import__("attrs").evolve(
                endpoint, key=None if self.connections else endpoint.key
            ).hello(self._features),
"""

EDITS: dict[str, tuple[Edit, ...]] = {
    "emitter-absent-wid-is-any-run": (
        (COMMANDS, "return run_matches and (command.worker_id is None or command.worker_id == stream.worker_id)",
        "return command.worker_id is None or (run_matches and command.worker_id == stream.worker_id)"),
    ),
    "emitter-window-never-freed": (
        (OUTGOING, "            self.events -= len(gone)\n", "            self.events -= 0\n"),
    ),
    "emitter-opens-again-after-a-hold": ((SESSION, HELD, f"{HELD}{OPENED}"),),
    "emitter-takes-busy-for-fenced": (
        (SESSION, '        if reject.code == "fenced":\n', '        if reject.code in {"fenced", "busy"}:\n'),
    ),
    "emitter-gives-up-a-plain-peer": (
        (
            CONNECTION,
            "return self._heard_at + self._idle_after if self._state in _SESSION else math.inf",
            "return self._heard_at + self._idle_after if self._state in (*_SESSION, _S.PLAIN) else math.inf",
        ),
        (CONNECTION, "            self._step(Input.IDLE)\n", "            self._step(Input.CLOSE)\n"),
    ),
    "emitter-pings-once": ((CONNECTION, PING, ONCE),),
    "emitter-pongs-to-a-plain-peer": ((SESSION, OUT_OF_PLACE, f"{PONGS}{OUT_OF_PLACE}"),),
    "emitter-key-once": ((SHIPPER, "            endpoint.hello(self._features),\n", KEYLESS),),
}  # fmt: skip
"""The edits of each mutant."""
