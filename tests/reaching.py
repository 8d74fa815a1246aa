"""Provokes the rows of the troubleshooting page on reaching a collector. See ``docs/test_troubleshooting.py``."""

from __future__ import annotations

import logging
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from doc_pages import environment
from net_peers import Authority, serving

from xtrack_protocol.errors import XTrackError
from xtrack_protocol.net.connect import connect
from xtrack_protocol.net.endpoint import Endpoint, parse_endpoint
from xtrack_protocol.net.tls import keep_self_signed, server_context
from xtrack_protocol.server import CollectorServer
from xtrack_protocol.settings import Settings
from xtrack_protocol.storage import MemoryStore

REACHING: dict[str, Callable[[Path], str]] = {}


def row(message: str) -> Callable[[Callable[[Path], str]], Callable[[Path], str]]:
    def register(provoke: Callable[[Path], str]) -> Callable[[Path], str]:
        REACHING[message] = provoke
        return provoke

    return register


def starting(folder: Path, **variables: str) -> str:
    """Start a run in a process of its own, with these variables; return what it said."""
    return running(folder, "import xtrack_protocol\nxtrack_protocol.start_run(run_id='run-1')", **variables)


def running(folder: Path, code: str, **variables: str) -> str:
    """Run Python code; return what it said."""
    return command(folder, sys.executable, "-c", code, **variables)


def command(folder: Path, *argv: str, **variables: str) -> str:
    """Run a command with these variables; return what it said, on both outputs."""
    done = subprocess.run(
        argv,
        cwd=folder,
        env={**environment(folder), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


@row("XTRACK_KEY='***': the key would go to ... in clear text, where anybody on the way can read it. ...")
def _(folder: Path) -> str:
    return starting(folder, XTRACK_TRANSPORT="tcp", XTRACK_HOST="192.0.2.1", XTRACK_KEY="xtk_k1_abc")


@row("XTRACK_KEY_FILE='...': others may read it (its mode is ...). Run `chmod 600 ...`")
def _(folder: Path) -> str:
    (folder / "key").write_text("xtk_k1_abc")
    (folder / "key").chmod(0o644)
    return starting(folder, XTRACK_TRANSPORT="tcp", XTRACK_KEY_FILE=str(folder / "key"))


@row(
    "XTRACK_TRANSPORT='tcp://***@...': an address holds no user and no key. Put the key into XTRACK_KEY or "
    "XTRACK_KEY_FILE"
)
def _(folder: Path) -> str:
    return starting(folder, XTRACK_TRANSPORT="tcp://xtk_k1_abc@collector")


@row("XTRACK_TLS_FINGERPRINT='...': is no SHA-256 of a certificate: 64 hex digits, with or without colons. ...")
def _(folder: Path) -> str:
    return starting(folder, XTRACK_TRANSPORT="tcp", XTRACK_TLS_FINGERPRINT="ab:cd")


def reaching(port: int, **values: Any) -> str:
    """Return why the collector at ``port`` of this machine can't be connected to."""
    endpoint = parse_endpoint("tcp", Settings(host="127.0.0.1", port=port, **values))
    with pytest.raises(XTrackError) as caught:
        say_hello(endpoint)
    return str(caught.value)


def say_hello(endpoint: Endpoint) -> None:
    """Connect and wait for an answer: a verdict on this side's certificate comes after the handshake."""
    channel = connect(endpoint, 20)
    try:
        channel.write(b"hello")
        while channel.read() is None:
            select.select([channel.fileno()], [], [], 20)
    finally:
        channel.close()


def certificate(folder: Path, *hosts: str, days: tuple[int, int] = (-1, 30)) -> tuple[Path, Path]:
    return Authority(folder).issue(*hosts, days=days)


@row("tcp://...: timed out: no answer from ... in ... s. Is the address right, and does a firewall let it through?")
def _(folder: Path) -> str:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as clients:
        for _ in range(5):
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        endpoint = parse_endpoint("tcp", Settings(host="127.0.0.1", port=full.getsockname()[1]))
        with pytest.raises(XTrackError) as caught:
            connect(endpoint, 0.5)
    return str(caught.value)


@row("this port speaks TLS: set XTRACK_TLS=1, or the fingerprint or the CA to trust")
def _(folder: Path) -> str:
    tls = server_context(*keep_self_signed(folder / "tls", ["localhost"]))
    with CollectorServer(MemoryStore(), tcp=("127.0.0.1", 0), tls=tls).run_in_thread() as server:
        return starting(
            folder, XTRACK_TRANSPORT=f"tcp://127.0.0.1:{server.port}", XTRACK_END_TIMEOUT="3", XTRACK_KEY="xtk_k1_abc"
        )


@row("...: does not speak TLS (tls_not_spoken). ...")
def _(folder: Path) -> str:
    with CollectorServer(MemoryStore(), tcp=("127.0.0.1", 0)).run_in_thread() as server:
        return reaching(server.port, tls=True)


@row("...: does not speak TLS, but ... (tls_not_spoken). Is the port right?")
def _(folder: Path) -> str:
    def answer(connection: socket.socket, _: Any) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with serving(answer) as server:
        return reaching(server.port, tls=True)


@row("...: its certificate is signed by nobody who is trusted here: ... (tls_untrusted). ...")
def _(folder: Path) -> str:
    with serving(context=server_context(*keep_self_signed(folder / "tls", ["localhost"]))) as server:
        return reaching(server.port, tls=True)


@row("...: its certificate is another one than was pinned: the SHA-256 is ..., not ... (tls_fingerprint). ...")
def _(folder: Path) -> str:
    with serving(context=server_context(*keep_self_signed(folder / "tls", ["localhost"]))) as server:
        return reaching(server.port, tls_fingerprint="ab" * 32)


@row("...: its certificate is for another host: ... (tls_wrong_host). ...")
def _(folder: Path) -> str:
    pair = certificate(folder, "collector.example")
    with serving(context=server_context(*pair)) as server:
        return reaching(server.port, tls_ca=pair[0])


@row("...: its certificate has expired: ... (tls_expired). ...")
def _(folder: Path) -> str:
    pair = certificate(folder, "127.0.0.1", days=(-20, -10))
    with serving(context=server_context(*pair)) as server:
        return reaching(server.port, tls_ca=pair[0])


def without_a_certificate(folder: Path, *, trusting: bool) -> tuple[str, str]:
    """Return what a worker that has none, and a collector that wants one, say; or what they say of the collector's."""
    authority = Authority(folder)
    tls = server_context(*authority.issue("127.0.0.1"), client_ca=authority.path)
    said = StringIO()
    handler = logging.StreamHandler(said)
    logger = logging.getLogger("xtrack.server")
    logger.addHandler(handler)
    try:
        with CollectorServer(MemoryStore(), tcp=("127.0.0.1", 0), tls=tls).run_in_thread() as server:
            worker = reaching(server.port, **({"tls_ca": authority.path} if trusting else {"tls": True}))
            deadline = time.monotonic() + 20
            while not said.getvalue() and time.monotonic() < deadline:
                time.sleep(0.01)
    finally:
        logger.removeHandler(handler)
    return worker, said.getvalue()


@row("...: ... wants a certificate of this side... (tls_client_certificate). ...")
def _(folder: Path) -> str:
    return without_a_certificate(folder, trusting=True)[0]


@row("refused ...: the peer does not trust this server's certificate: ...")
def _(folder: Path) -> str:
    return without_a_certificate(folder, trusting=False)[1]


@row("refused ...: the peer gave no certificate, and --tls-client-ca asks for one ...")
def _(folder: Path) -> str:
    return without_a_certificate(folder, trusting=True)[1]


@row("--tls-self-signed=True: needs the package cryptography. ...")
def _(folder: Path) -> str:
    code = """
import sys
sys.modules["cryptography"] = None      # as where it isn't installed
from xtrack_protocol.cli import main
main(["serve", "--tcp", "127.0.0.1:0", "--tls-self-signed"])
"""
    return running(folder, code)
