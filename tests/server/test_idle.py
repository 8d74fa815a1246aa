"""Connections that do nothing: a thousand of them fit into 32 MiB. spec: CTL-17.1"""

from __future__ import annotations

import re
import socket
import ssl
import sys
from pathlib import Path

import pytest
from server_peers import ServeProcess, connect

from xtrack_protocol.ir import Envelope, Hello
from xtrack_protocol.wire import encode_frame

HELLO = encode_frame(Envelope.of(Hello([1]), seq=0, timestamp_us=1))
COUNT = 200
KIB_EACH = 32.0


def rss_kib(pid: int) -> int:
    return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0])


def greeted(address: tuple[str, int], context: ssl.SSLContext | None) -> socket.socket:
    sock = connect(address)
    if context is not None:
        sock = context.wrap_socket(sock)
    sock.sendall(HELLO)
    assert b'"t":"welcome"' in sock.recv(4096)
    return sock


TLS = pytest.param(
    ("--tls-self-signed",),
    marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="its asyncio keeps what it reads with TLS elsewhere"),
)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("options", [(), TLS])
def test_connections_that_do_nothing_hold_next_to_nothing(options: tuple[str, ...], tmp_path: Path) -> None:
    context = None
    if options:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    environ = {"XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)}
    with ServeProcess("--tcp", "127.0.0.1:0", "--store", "memory:", *options, folder=tmp_path, **environ) as server:
        socks = [greeted(server.address, context) for _ in range(8)]  # what is loaded at the first time costs once
        before = rss_kib(server.process.pid)
        socks += [greeted(server.address, context) for _ in range(COUNT)]
        grown = rss_kib(server.process.pid) - before
        for sock in socks:
            sock.close()
    assert grown / COUNT < KIB_EACH
