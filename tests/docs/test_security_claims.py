"""What SECURITY.md says of files and secrets, tried. Limits and decoders have tests of their own."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from xtrack_protocol import Tracker
from xtrack_protocol.collector import Collector, describe_command
from xtrack_protocol.emitter.surroundings import find_environment, strip_credentials
from xtrack_protocol.errors import ConfigurationError, SpoolError, TransportError
from xtrack_protocol.ir import Artifact, Envelope
from xtrack_protocol.net.endpoint import parse_endpoint
from xtrack_protocol.session import StreamId
from xtrack_protocol.settings import Settings
from xtrack_protocol.spool import SpoolDir, StreamWriter
from xtrack_protocol.storage import MemoryStore, SQLiteStore
from xtrack_protocol.storage.local import LocalStore
from xtrack_protocol.transport import FileTransport

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")


def modes_below(folder: Path) -> dict[str, int]:
    return {str(path): stat.S_IMODE(path.lstat().st_mode) for path in [folder, *folder.rglob("*")]}


def test_only_the_owner_reads_what_is_written(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        settings = Settings(dir=tmp_path / "xtrack", quiet=True)
        with Tracker.start_run(run_id="run-1", settings=settings) as run:
            run.log("x" * 2_000_000)  # leaves an attachment
        with LocalStore(tmp_path / "xtrack") as store:
            store.create_experiment("e")
            store.expect_run("run-2")
            store.get_run("run-1")
            store.backup(tmp_path / "xtrack" / "backup.db")
        with Tracker.start_run(transport=FileTransport(tmp_path / "capture.bin"), settings=settings):
            pass
        SQLiteStore(tmp_path / "store.db").close()
    finally:
        os.umask(before)
    for path, mode in modes_below(tmp_path / "xtrack").items():
        assert mode == (0o700 if Path(path).is_dir() else 0o600), f"{path}: {mode:o}"
    for name in ("capture.bin", "store.db"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600, name


def test_the_spool_follows_no_symbolic_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    spool = SpoolDir(tmp_path / "xtrack")
    spool.runs.mkdir(parents=True)
    spool.run_dir("run-1").symlink_to(elsewhere)
    with pytest.raises(SpoolError):
        StreamWriter(spool.run_dir("run-1"), StreamId("run-1", "", "s")).append(1, b"{}")
    with pytest.raises(TransportError):
        Tracker.start_run(run_id="run-1", settings=Settings(dir=tmp_path / "xtrack", quiet=True))
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("run_id", ["../../escaped", "/etc/escaped", "..", ".", "a/b", "", "a\0b", "con", "~root"])
def test_no_id_leads_out_of_its_folder(tmp_path: Path, run_id: str) -> None:
    folder = SpoolDir(tmp_path).run_dir(run_id)
    assert folder.resolve().parent == (tmp_path / "spool").resolve()


def test_of_the_environment_what_is_listed_and_no_secret() -> None:
    environ = {"RANK": "3", "HOME": "/h", "MY_API_KEY": "k", "MY_TOKEN": "t", "MY_SIZE": "1"}
    assert find_environment(("RANK", "MY_*"), environ).env_vars == {"RANK": "3", "MY_SIZE": "1"}
    assert Settings().env_vars == ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "WORLD_SIZE", "RANK", "LOCAL_RANK")


def test_credentials_are_taken_out() -> None:
    assert strip_credentials("https://me:secret@host/repo.git?token=x") == "https://host/repo.git"
    assert "hunter2" not in describe_command(
        ["train", "--password", "hunter2", "--api-key=hunter2", "https://u:hunter2@h/"]
    )


def test_a_key_stays_where_it_belongs(tmp_path: Path) -> None:
    """The handshakes are tried in ``tests/net``."""
    elsewhere = Settings(host="192.0.2.1", key="xtk_k1_canary")
    with pytest.raises(ConfigurationError, match="in clear text") as caught:
        parse_endpoint("tcp", elsewhere)
    assert parse_endpoint("tcp", attrs.evolve(elsewhere, insecure=True)).requires_session  # no fallback, all the same
    said = f"{caught.value} {elsewhere} {parse_endpoint('tls', elsewhere)!r} {parse_endpoint('tls', elsewhere).hello()}"
    (tmp_path / "key").write_text("xtk_k1_canary")
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(ConfigurationError, match="others may read it") as caught:
        parse_endpoint("tcp", Settings(key_file=tmp_path / "key"))
    said += str(caught.value)
    with pytest.raises(ConfigurationError, match="no user and no key") as caught:
        parse_endpoint("tcp://xtk_k1_canary@localhost", Settings())
    said += str(caught.value)
    environ = {"XTRACK_KEY": "xtk_k1_canary", "NOTE": "xtk_k1_canary", "RANK": "0"}
    said += str(find_environment(("*",), environ))
    assert "canary" not in said
    assert "RANK" in said


def test_the_repositorys_url_is_recorded_without_its_password(tmp_path: Path) -> None:
    script = "import xtrack_protocol\nwith xtrack_protocol.start_run(transport='file:capture.bin', quiet=True): pass\n"
    (tmp_path / "train.py").write_text(script)
    for arguments in (["init", "-q"], ["config", "remote.origin.url", "https://me:hunter2@example.org/repo.git"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    environ = {**os.environ, "XTRACK_DIR": str(tmp_path / "xtrack")}
    subprocess.run([sys.executable, "train.py"], cwd=tmp_path, env=environ, check=True)
    written = (tmp_path / "capture.bin").read_bytes()
    assert b"https://example.org/repo.git" in written
    assert b"hunter2" not in written


def test_a_collector_opens_no_artifact(tmp_path: Path) -> None:
    trap = tmp_path / "fifo"
    os.mkfifo(trap)  # to open it would wait for ever
    collector = Collector(MemoryStore())
    assert collector.push_event(Envelope.of(Artifact("run-1", str(trap)), seq=1, timestamp_us=1)).outcome == "stored"
    assert collector.store.get_artifacts("run-1")[0].artifact.path == str(trap)
