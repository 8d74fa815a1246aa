"""``xtrack serve``."""

from __future__ import annotations

import contextlib
import gc
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xtrack_protocol.cli._app import INTERRUPTED
from xtrack_protocol.cli._runs import examples, store_url

if TYPE_CHECKING:
    import ssl

    from xtrack_protocol.server import CollectorServer
    from xtrack_protocol.server.access import AccessControl
    from xtrack_protocol.storage import Storage

SECTION = "Track"

_DEFAULT_HOST = "127.0.0.1"
_DEFAULT_PORT = 9999
_FILES_WANTED = 4096
"""Descriptors: a connection takes one, and with the local store a stream another."""

_GC_THRESHOLD = (20_000, 20, 50)
"""Events come in thousands and are gone a moment later, without cycles: looking for some all the time costs a fifth."""


@click.command(
    "serve",
    epilog=examples(
        "xtrack serve",
        "xtrack serve --unix /run/user/1000/xtrack.sock",
        "xtrack serve --tcp 0.0.0.0:9999 --keys keys.json --tls-self-signed",
        "xtrack serve --tcp :9999 --keys keys.json --tls-cert server.pem --tls-key server.key --store sqlite:///runs.db",
    ),
)
@click.option(
    "--tcp",
    metavar="HOST:PORT",
    help=f"Listen there; without HOST on all addresses, with port 0 on any free port. Default: "
    f"{_DEFAULT_HOST}:{_DEFAULT_PORT}, unless --unix is given.",
)
@click.option("--unix", metavar="PATH", type=click.Path(), help="Listen on a Unix socket, for this user alone.")
@click.option(
    "--store",
    metavar="URL",
    help="The store: local: (the spools under XTRACK_DIR), local:/DIR, sqlite:///FILE, or memory: to try things out. "
    "Default: XTRACK_STORE, else local:.",
)
@click.option(
    "--keys",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Ask everybody for a key; `xtrack keys` makes them. Without it, everybody who can connect may do everything.",
)
@click.option("--tls-cert", metavar="FILE", type=click.Path(), help="Speak TLS with this certificate, PEM.")
@click.option("--tls-key", metavar="FILE", type=click.Path(), help="Its private key, PEM.")
@click.option(
    "--tls-client-ca", metavar="FILE", type=click.Path(), help="Ask workers for certificates that this CA signed."
)
@click.option(
    "--tls-self-signed",
    is_flag=True,
    help="Speak TLS with a certificate made here and kept under XTRACK_DIR; workers trust its fingerprint.",
)
@click.option("--insecure", is_flag=True, help="Listen beyond this machine without keys or TLS.")
def command(
    tcp: str | None,
    unix: str | None,
    store: str | None,
    keys: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    tls_client_ca: str | None,
    tls_self_signed: bool,
    insecure: bool,
) -> int:
    """Collect what workers send, on this machine and others, into a store.

    Serves until SIGTERM or Ctrl-C; then what was received is stored and acked, and the workers are told to come back.
    A second one ends it at once. Counters are logged to standard error once a minute.
    """
    import asyncio

    from xtrack_protocol.server import CollectorServer

    where = None if tcp is None and unix is not None else parse_address(tcp or f"{_DEFAULT_HOST}:{_DEFAULT_PORT}")
    tls, fingerprint = _tls(where, tls_cert, tls_key, tls_client_ca, self_signed=tls_self_signed)
    _configure_logging()
    gc.set_threshold(*_GC_THRESHOLD)
    _raise_file_limit()
    url = store_url(store)
    with _open_sound(url) as target:
        server = CollectorServer(
            target,
            tcp=where,
            unix=unix,
            access=_access(target, keys),
            tls=tls,
            fingerprint=fingerprint,
            insecure=insecure,
        )
        stopped_by = asyncio.run(_serve(server, target, fingerprint, keyed=keys is not None))
    return INTERRUPTED if stopped_by == signal.SIGINT else 0


def _open_sound(url: str) -> Storage:
    """Open the store. Raises StorageError for one of which can be seen at once that it is damaged.

    A server that found out only when events come would take connections, and tell every worker to wait, for ever.
    """
    from xtrack_protocol.errors import StorageError, StoreCorrupt
    from xtrack_protocol.storage import open_store
    from xtrack_protocol.storage.sqlite import SQLiteStore

    with contextlib.ExitStack() as opened:
        try:
            store = opened.enter_context(open_store(url))
            if isinstance(store, SQLiteStore):
                store.probe()
        except StoreCorrupt as error:
            check = f"xtrack store check --store {shlex.quote(url)}"
            cure = f"`{check}` tells more. Serve a copy that `xtrack store backup` has made of it, or a new file"
            again = "`xtrack sync --again` ships what is still in the spools of the workers"
            raise StorageError(f"{error}. {cure}: {again}") from error
        opened.pop_all()
        return store


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``, ``[HOST]:PORT``, ``:PORT``, ``HOST`` or ``PORT``."""
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = ("", text) if text.isdigit() else (text, str(_DEFAULT_PORT))
    elif host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise click.BadParameter(f"--tcp {text!r}: an IPv6 address stands in brackets: [::1]:{_DEFAULT_PORT}")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise click.BadParameter(f"--tcp {text!r}: {port!r} is no port: 0 to 65535")
    return host, int(port)


def _tls(
    where: tuple[str, int] | None, cert: str | None, key: str | None, client_ca: str | None, *, self_signed: bool
) -> tuple[ssl.SSLContext | None, str | None]:
    """Return what to speak TLS with, and the certificate's fingerprint; nothing where it isn't wanted."""
    if not (cert or key or client_ca or self_signed):
        return None, None
    if where is None:
        raise click.UsageError("TLS is for --tcp; a Unix socket has none")
    if self_signed and (cert or key):
        raise click.UsageError("--tls-self-signed makes its own certificate: leave --tls-cert and --tls-key out")
    if not self_signed and not (cert and key):
        raise click.UsageError("TLS takes a certificate and its key: --tls-cert and --tls-key, or --tls-self-signed")
    import socket

    from xtrack_protocol.net.tls import fingerprint_of, keep_self_signed, server_context
    from xtrack_protocol.settings import load_settings
    from xtrack_protocol.spool import SpoolDir

    if self_signed:
        names = dict.fromkeys((socket.gethostname(), where[0] or "localhost", "localhost", "127.0.0.1"))
        files = keep_self_signed(SpoolDir(load_settings().dir).root / "tls", [name for name in names if name])
    else:
        assert cert
        assert key
        files = Path(cert), Path(key)
    return server_context(*files, Path(client_ca) if client_ca else None), fingerprint_of(files[0])


def _access(store: Storage, keys: str | None) -> AccessControl | None:
    if keys is None:
        return None
    from xtrack_protocol.server.access import AccessControl
    from xtrack_protocol.server.keys import Keyring

    return AccessControl(store, Keyring(Path(keys)))


async def _serve(server: CollectorServer, store: Storage, fingerprint: str | None, *, keyed: bool) -> int:
    """Serve until a signal comes; return which."""
    import asyncio

    loop = asyncio.get_running_loop()
    came: list[int] = []
    stop = asyncio.Event()

    def on_signal(number: int) -> None:
        came.append(number)
        if len(came) > 1:
            os._exit(128 + number)
        print("xtrack: stopping: what was received is being stored (again to stop at once)", file=sys.stderr)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, on_signal, number)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda caught, _: loop.call_soon_threadsafe(on_signal, caught))
    async with server:
        _announce(server, store, fingerprint, keyed=keyed)
        await stop.wait()
    return came[0]


def _announce(server: CollectorServer, store: Storage, fingerprint: str | None, *, keyed: bool) -> None:
    """Say where the server listens, and what a worker needs to know."""
    import socket

    print(f"collecting into {store.url}, where an ack means: {_PROMISES[store.durability]}")
    if store.durability == "none":
        print(
            "xtrack: warning: the store is in memory: acks promise nothing, and all is gone when the server ends",
            file=sys.stderr,
        )
    for address in server.addresses:
        if isinstance(address, Path):
            print(f"listening on unix:{address}")
            print(f"  export XTRACK_TRANSPORT=unix XTRACK_SOCKET={shlex.quote(str(address))}")
            _announce_key(keyed=keyed)
            continue
        host, port = address
        print(f"listening on {'tls' if fingerprint else 'tcp'}://{f'[{host}]' if ':' in host else host}:{port}")
        reach = socket.gethostname() if host in {"0.0.0.0", "::"} else host  # noqa: S104 - a comparison
        line = f"  export XTRACK_TRANSPORT=tcp XTRACK_HOST={shlex.quote(reach)} XTRACK_PORT={port}"
        print(line if fingerprint is None else f"{line} XTRACK_TLS_FINGERPRINT={fingerprint}")
        _announce_key(keyed=keyed)
    sys.stdout.flush()


def _announce_key(*, keyed: bool) -> None:
    if keyed:
        print("  export XTRACK_KEY='<a key of yours>'")


_PROMISES = {
    "none": "nothing",
    "process": "the event survives the end of this process",
    "power": "the event survives a loss of power",
}


def _configure_logging() -> None:
    import logging

    logger = logging.getLogger("xtrack")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
    logger.setLevel(logging.INFO)


def _raise_file_limit() -> None:
    """Have room for as many connections as we take, where the system allows it."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_WANTED if hard == resource.RLIM_INFINITY else min(_FILES_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
