"""``xtrack serve``: addresses, options that don't go together, what it prints and logs."""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import pytest
from event_builders import a_run, capture
from server_peers import SECONDS, Peer, ServeProcess, address_of, connect, eventually, quick, serving, stream

from xtrack_protocol.cli.serve import parse_address
from xtrack_protocol.server.counters import Counters
from xtrack_protocol.storage import MemoryStore, open_store
from xtrack_protocol.storage.sqlite_schema import APPLICATION_ID, MIGRATIONS

A = stream("r", "w1", "a")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9999", ("127.0.0.1", 9999)),
        ("localhost:0", ("localhost", 0)),
        (":80", ("", 80)),
        ("80", ("", 80)),
        ("gpu1", ("gpu1", 9999)),
        ("[::1]:7", ("::1", 7)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["a:b", "a:70000", "::1", "a:-1", "a:", "a:\u0661"])
def test_no_addresses(text: str) -> None:
    with pytest.raises(click.BadParameter, match="--tcp"):
        parse_address(text)


def test_a_unix_socket_with_keys_says_that_a_key_is_wanted(tmp_path: Path) -> None:
    from xtrack_protocol.server.keys import Keyring

    Keyring(tmp_path / "keys.json", new=True).add("ann")
    with ServeProcess(
        "--unix", f"{tmp_path}/s.sock", "--keys", f"{tmp_path}/keys.json", "--store", "memory:", folder=tmp_path
    ) as server:
        assert server.process.stdout is not None
        assert "export XTRACK_KEY='<a key of yours>'" in server.process.stdout.readline()
        assert (tmp_path / "s.sock").stat().st_mode & 0o777 == 0o600


def refused(folder: Path, *argv: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "xtrack_protocol.cli", "serve", *argv],
        cwd=folder,
        env=os.environ | {"XTRACK_DIR": str(folder / "x")},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode in {1, 2}
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--tls-cert", "c.pem"], "TLS takes a certificate and its key"),
        (["--tls-client-ca", "c.pem"], "TLS takes a certificate and its key"),
        (["--tls-self-signed", "--tls-cert", "c", "--tls-key", "k"], "leave --tls-cert and --tls-key out"),
        (["--unix", "s", "--tls-self-signed"], "TLS is for --tcp"),
        (["--tls-cert", "c", "--tls-key", "k"], "--tls-cert='c': can't be read"),
        (["--keys", "none.json"], "there is no such file"),
        (["--store", "nothing:"], "no known kind of store"),
        (["--store", "sqlite:////dev/null/a.db"], "Name a file in a folder that can be written"),
        (["--store", "local:/dev/null/a"], "can't be written: Not a directory. Name a folder that can be"),
        (["--unix", "no/such/folder/s"], "can't be made: No such file or directory"),
    ],
)
def test_what_does_not_go_together(argv: list[str], says: str, tmp_path: Path) -> None:
    assert says in refused(tmp_path, *argv)


def damaged_store(path: Path) -> None:
    """A store that opens, and into which nothing can be stored."""
    with open_store(f"sqlite:///{path}"):
        pass
    with closing(sqlite3.connect(path)) as connection:
        [(root,)] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'events'")
        [(size,)] = connection.execute("PRAGMA page_size")
    content = bytearray(path.read_bytes())
    content[(root - 1) * size : root * size] = bytes(size)
    path.write_bytes(content)


def store_without_tables(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {MIGRATIONS[-1].version}")


def other_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")


def cut_store(path: Path) -> None:
    damaged_store(path)
    os.truncate(path, 3 * 4096)


CURE = "`xtrack store check --store sqlite:///s.db` tells more. Serve a copy"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (damaged_store, ["/s.db: is damaged: database disk image is malformed. ", CURE]),
        (cut_store, ["/s.db: is damaged: database disk image is malformed. ", CURE]),
        (store_without_tables, ["/s.db: is damaged: it has no access; it has no access_grants; ", CURE]),
        (
            other_database,
            ["/s.db: is a SQLite database, but no store of XTrack. Give the path of a store, or of a new"],
        ),
        (lambda path: path.write_bytes(b"xtrack" * 1000), ["/s.db: is no SQLite database. Give the path of a store"]),
        (Path.mkdir, ["/s.db: is a directory"]),
    ],
)
def test_no_store_and_a_damaged_one_are_not_served(make: Any, says: list[str], tmp_path: Path) -> None:
    make(tmp_path / "s.db")
    said = refused(tmp_path, "--tcp", "127.0.0.1:0", "--store", "sqlite:///s.db")
    assert said.count("\n") == 1
    for text in says:
        assert text in said


def test_what_it_prints_is_what_a_worker_needs(tmp_path: Path) -> None:
    """The printed line, pasted into a shell, makes a training log to it."""
    pytest.importorskip("cryptography")
    with ServeProcess("--tcp", "127.0.0.1:0", "--tls-self-signed", folder=tmp_path) as server:
        exported = re.search(r"export (XTRACK_TRANSPORT=tcp .*)", server.said)
        assert exported
        variables = dict(pair.split("=", 1) for pair in shlex.split(exported[1]))
        assert set(variables) == {"XTRACK_TRANSPORT", "XTRACK_HOST", "XTRACK_PORT", "XTRACK_TLS_FINGERPRINT"}
        code = "import xtrack_protocol as x\nwith x.start_run(name='pasted') as run: run.log_metric('loss', 0.5)"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | variables | {"XTRACK_DIR": str(tmp_path / "worker")},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert server.stop(signal.SIGTERM) == 0
    with open_store(f"local:{tmp_path / 'xtrack'}") as store:
        [run] = store.list_runs()
        assert (run.name, run.status) == ("pasted", "completed")


def test_the_fingerprint_stays_the_same(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    found = []
    for _ in range(2):
        with ServeProcess("--tcp", "127.0.0.1:0", "--tls-self-signed", folder=tmp_path) as server:
            found += re.findall(r"XTRACK_TLS_FINGERPRINT=(\w{64})", server.said)
    assert len(found) == 2
    assert len(set(found)) == 1


def test_tcp_and_unix_at_once(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with ServeProcess("--tcp", "127.0.0.1:0", "--unix", str(path), folder=tmp_path) as server:
        for address in (server.address, path):
            with Peer(address) as peer:
                one = stream("r", str(address), "a" if address == path else "b")
                peer.open(one)
                peer.send(one, 3)
                peer.wait_acked(one, 3)
        assert server.stop(signal.SIGTERM) == 0
    assert not path.exists()


def test_counters_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="xtrack.server")
    with MemoryStore() as store, serving(store, limits=quick(report_seconds=0.5)) as server:
        peer, plain = Peer(address_of(server)), connect(address_of(server))
        plain.sendall(capture(a_run(10, run="plain")))
        peer.open(A)
        peer.send(A, 100)
        peer.wait_acked(A, 100)
        eventually(lambda: "2 connections (1 sessions, 1 plain), 1 streams" in caplog.text)
        eventually(lambda: "112 events, 0 duplicates" in caplog.text)
        peer.close()
        plain.close()


def test_a_line_of_counters() -> None:
    before, now = Counters(events=100), Counters(events=1_100, duplicates=3, connections=2)
    now.refused_peers["unauthorized"] += 2
    now.refused_events["seq_conflict"] += 1
    line = now.line(before, 10.0)
    assert "100 events/s" in line
    assert "refused peers: unauthorized 2, refused events: seq_conflict 1" in line
    copy = now.copy()
    now.refused_peers["unauthorized"] += 1
    assert copy.refused_peers["unauthorized"] == 2
