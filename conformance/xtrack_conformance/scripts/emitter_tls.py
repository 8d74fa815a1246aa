"""The suite's own collector behind TLS, for the processes of an emitter: what a client sends it, if anything."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import ssl
import threading
from importlib import resources
from typing import Any, Final

from xtrack_conformance.payloads import PREFIX

Json = dict[str, Any]

SECONDS: Final = 5.0
"""How long one read may take: as long as a process lives."""
LOOK_SECONDS: Final = 0.05
"""How often it is looked whether it is over."""
FRAME_MAX: Final = 1_048_576


def certificate(name: str) -> bytes:
    """Return a certificate of the suite's in PEM, with its private key behind it."""
    return (resources.files("xtrack_conformance") / "certificates" / f"{name}.pem").read_bytes()


def names_for(name: str) -> dict[str, str]:
    """Return what a case may say of the certificate ``name``: its fingerprint in all its forms, and the authority."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    text = certificate(name).decode()
    der = ssl.PEM_cert_to_DER_cert(f"{begin}{text.partition(begin)[2].partition(end)[0]}{end}")
    digits = hashlib.sha256(der).hexdigest()
    pairs = [digits[i : i + 2] for i in range(0, len(digits), 2)]
    return {
        "authority": certificate("authority").decode(),
        "fingerprint": digits,
        "fingerprint in capitals": digits.upper(),
        "fingerprint with colons": ":".join(pairs).upper(),
        "fingerprint with spaces": " ".join(pairs),
        "fingerprint but for a digit": digits[:-1] + ("0" if digits[-1] != "0" else "1"),
        "fingerprint cut off": digits[:40],
    }


class SecureCollector:
    """Listens on 127.0.0.1, and acks whatever comes. ``heard``: the types of the frames that came inside of TLS."""

    def __init__(self, name: str) -> None:
        self.heard: list[str] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with resources.as_file(resources.files("xtrack_conformance") / "certificates" / f"{name}.pem") as path:
            context.load_cert_chain(path)
        self._context = context
        self._is_over = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(LOOK_SECONDS)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more connections; what came is heard."""
        self._is_over = True
        self._thread.join(SECONDS)
        self._listener.close()

    def _work(self) -> None:
        while not self._is_over:
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            with contextlib.suppress(OSError, ValueError, KeyError), connection:  # a client may be gone at any time
                connection.settimeout(SECONDS)
                with self._context.wrap_socket(connection, server_side=True) as secure:
                    self._serve(secure)

    def _serve(self, secure: ssl.SSLSocket) -> None:
        data = bytearray()
        while True:
            came = secure.recv(65536)
            if not came:
                return
            data += came
            while len(data) >= PREFIX:
                size = int.from_bytes(data[:PREFIX], "big")
                if size > FRAME_MAX:
                    self.heard.append("no frame")
                    return
                if len(data) < PREFIX + size:
                    break
                event = json.loads(data[PREFIX : PREFIX + size])
                del data[: PREFIX + size]
                self.heard.append(str(event["t"]))
                answer = _answer(event)
                if answer is not None:
                    secure.sendall(answer)


def _answer(event: Json) -> bytes | None:
    """Return what a collector says to a frame."""
    body, meta = event["p"], event["m"]
    if event["t"] == "hello":
        return _frame("welcome", {"protocol": 1, "codec": "json", "durability": "power"})
    if event["t"] == "ping":
        return _frame("pong", {})
    if event["t"] == "open":
        return _frame("ack", {"seq": 0, "status": "ok", **body} | {"passive": None})
    if meta["seq"] > 0:
        run = body["run_id"]
        stream = {"run_id": run["id"] if isinstance(run, dict) else run, "sid": meta["sid"]}
        return _frame("ack", {"seq": meta["seq"], "status": "ok", **stream})
    return None


def _frame(t: str, body: Json) -> bytes:
    p = {name: value for name, value in body.items() if value is not None}
    payload = json.dumps({"t": t, "v": 1, "m": {"seq": 0, "ts": 1700000000000000}, "p": p}).encode()
    return len(payload).to_bytes(PREFIX, "big") + payload
