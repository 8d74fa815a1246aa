"""Which run it is, and what is recorded of where it was started. spec: EMT-1"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import xtrack_protocol as xtrack
from xtrack_protocol.emitter import Tracker, new_run_id, redact_arguments, strip_credentials, tracker
from xtrack_protocol.emitter.surroundings import find_environment, find_source
from xtrack_protocol.errors import ConfigurationError, TransportError
from xtrack_protocol.ir import RunId, RunStart, run_id_text
from xtrack_protocol.transport import FileTransport, LocalTransport, MemoryTransport, NullTransport
from xtrack_protocol.wire import stream_file


@pytest.fixture(autouse=True)
def unbound(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this process had started no run yet."""
    monkeypatch.setattr(tracker, "_bound", {})


def start(**options: Any) -> RunStart:
    """Start a run, end it, and return its run_start."""
    transport = MemoryTransport()
    run = Tracker.start_run(transport=transport, **options)
    run.end()
    event = transport.events[0].payload
    assert isinstance(event, RunStart)
    return event


def test_ids() -> None:
    assert len({new_run_id() for _ in range(100)}) == 100
    assert start().run_id != start().run_id


def test_the_first_events(memory: Any) -> None:
    first, second = memory.transport.events[:2]
    assert (first.event_type, first.meta.seq) == ("run_start", 1)
    assert (second.event_type, second.meta.seq, second.payload.status) == ("status", 2, "running")
    assert len(first.meta.session_id) == 32


def test_run_id_binds_the_first_run(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """EMT-1.2."""
    monkeypatch.setenv("XTRACK_RUN_ID", "bound")
    assert start().run_id == "bound"
    later = start().run_id
    assert isinstance(later, RunId)
    assert later.parent_run_id == "bound"
    assert start(parent_run_id="other").run_id.parent_run_id == "other"  # type: ignore[union-attr]


def test_an_explicit_id_wins(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """EMT-1.1."""
    monkeypatch.setenv("XTRACK_RUN_ID", "bound")
    assert start(run_id="mine").run_id == "mine"
    assert start(run_id="bound").run_id == "bound"
    assert start().run_id.parent_run_id == "bound"  # type: ignore[union-attr]


def test_other_variables(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTRACK_EXPERIMENT", "exp")
    monkeypatch.setenv("XTRACK_WORKER_ID", "3")
    monkeypatch.setenv("XTRACK_WORLD_SIZE", "8")
    monkeypatch.setenv("XTRACK_RESUME_CHECKPOINT", "/ckpt/7.pt")
    monkeypatch.setenv("XTRACK_ENV_VARS", "MY_*,OTHER")
    monkeypatch.setenv("MY_SETTING", "1")
    monkeypatch.setenv("MY_SECRET_TOKEN", "hush")
    transport = MemoryTransport()
    run = Tracker.start_run(transport=transport, run_id="r")
    event = transport.events[0]
    assert event.payload.run_id == RunId("r", "exp")
    assert (event.meta.worker_id, run.worker_id) == ("3", "3")
    assert event.payload.world_size == 8
    assert event.payload.environment.env_vars == {"MY_SETTING": "1"}
    assert run.resume_checkpoint == "/ckpt/7.pt"
    run.end()
    assert start(run_id="r", experiment_id="mine", world_size=2).world_size == 2


@pytest.mark.parametrize(
    ("spec", "kind"), [("local", LocalTransport), ("file:x.bin", FileTransport), ("null", NullTransport)]
)
def test_transports_by_name(spool: Any, monkeypatch: pytest.MonkeyPatch, spec: str, kind: type) -> None:
    monkeypatch.setenv("XTRACK_TRANSPORT", spec)
    run = Tracker.start_run()
    assert isinstance(run._out.transport, kind)
    run.log_metric("k", 1.0)
    run.end()


def test_file(spool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTRACK_TRANSPORT", "file")
    monkeypatch.setenv("XTRACK_FILE", "run.bin")
    run = Tracker.start_run()
    run.log_metric("k", 1.0)
    run.end()
    kinds = [frame.envelope.event_type for frame in stream_file(tmp_path / "run.bin") if frame.envelope]
    assert kinds == ["run_start", "status", "metric", "run_end"]
    assert not spool.root.exists()


def test_a_descriptor(spool: Any) -> None:
    """XTRACK_FD, in a process of its own."""
    reading, writing = os.pipe()
    code = "import xtrack_protocol as x; r = x.start_run(run_id='r'); r.log_metric('k', 1.0)"
    env = {**os.environ, "XTRACK_TRANSPORT": "stdio", "XTRACK_FD": str(writing)}
    done = subprocess.run([sys.executable, "-c", code], env=env, pass_fds=[writing], check=True, capture_output=True)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    assert done.stdout == b""
    assert data.count(b'"t":"metric"') == 1
    assert data.count(b'"status":"completed"') == 1


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("XTRACK_TRANSPORT", "carrier-pigeon"),
        ("XTRACK_FD", "three"),
        ("XTRACK_STRICT", "maybe"),
        ("XTRACK_QUIET", "maybe"),
        ("XTRACK_WORLD_SIZE", "many"),
        ("XTRACK_WORLD_SIZE", "0"),
        ("XTRACK_CONFIG", "/no/such/file.toml"),
        ("XTRACK_RUN_ID", "x" * 2000),
        ("XTRACK_RUN_ID", os.fsdecode(b"\xff")),
        ("XTRACK_WORKER_ID", "x" * 2000),
        ("XTRACK_RESUME_RUN_ID", os.fsdecode(b"\xff")),
        ("XTRACK_EXPERIMENT", os.fsdecode(b"\xff")),
    ],
)
def test_wrong_variables(spool: Any, monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """EMT-1.3: an error when the run is started, which names what is wrong."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        Tracker.start_run()
    assert variable.removeprefix("XTRACK_").lower() in str(caught.value).lower()


@pytest.mark.parametrize(
    "options",
    [
        {"run_id": ""},
        {"run_id": 5},
        {"run_id": "\ud800"},
        {"run_id": "x" * 1025},
        {"worker_id": 5},
        {"worker_id": "\ud800"},
        {"parent_run_id": 5},
        {"parent_run_id": ""},
        {"experiment_id": 5},
        {"tags": 5},
        {"world_size": "x"},
        {"world_size": 0},
        {"rewind_to": 1.5},
        {"transport": "carrier-pigeon"},
        {"transport": "stdio:x"},
    ],
    ids=lambda options: ascii(options)[:30],
)
def test_wrong_arguments_of_start_run(spool: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Tracker.start_run(**options)
    assert not spool.root.exists()


def test_an_unwritable_directory(spool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XTRACK_DIR", str(tmp_path / "file" / "home"))
    with pytest.raises(TransportError, match="XTRACK_DIR"):
        Tracker.start_run()


def test_a_first_event_that_is_not_taken(spool: Any) -> None:
    class Full(MemoryTransport):
        def send(self, seq: int, payload: bytes) -> None:
            raise TransportError("memory:", "full")

    with pytest.raises(TransportError, match="first event"):
        Tracker.start_run(transport=Full())


def test_names_and_tags_of_all_kinds(spool: Any) -> None:
    event = start(name="a\ud800", tags={1: None, "\ud800": 0.5}, params=None)
    assert event.name == "a\\ud800"
    assert event.tags == {"1": "None", "\\ud800": "0.5"}


@pytest.mark.parametrize(("tags", "shown"), [("a", "'a'"), ([1], "[1]"), (5, "5")])
def test_tags_that_are_none_are_shown_as_they_are(spool: Any, tags: Any, shown: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        start(tags=tags)
    assert str(caught.value) == f"tags={shown}: must be names with texts"


def test_a_call_without_a_run(spool: Any, script: Any) -> None:
    done = script("import xtrack_protocol; xtrack_protocol.log_metric('loss', 1)")
    assert done.stderr.splitlines()[-1].endswith(
        "ConfigurationError: run=None: log_metric: no run has been started. Call start_run() first"
    )


def test_lines_on_stderr(spool: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """EMT-3.5: one at the start and one at the end, of the first worker."""
    monkeypatch.delenv("XTRACK_QUIET")
    run = Tracker.start_run("my run", run_id="r")
    assert capsys.readouterr().err == f"xtrack: tracking run r (my run) to {spool.root}\n"
    run.end()
    err = capsys.readouterr().err
    assert err.startswith("xtrack: run r completed after ")
    assert err.endswith("3 events. See it: xtrack show r\n")
    for options in ({"worker_id": "1"}, {"quiet": True}):
        Tracker.start_run(**options).end()
        assert capsys.readouterr().err == ""
    Tracker.start_run(worker_id="0").end()
    assert capsys.readouterr().err.count("\n") == 2


def test_module_level_calls(spool: Any) -> None:
    run = xtrack.start_run(run_id="r", strict=True)
    assert xtrack.current_run() is run
    xtrack.log_metric("k", 1.0, step=1, phase="val")
    xtrack.log_metrics({"a": 1.0}, 2)
    xtrack.log_param("p", 1)
    xtrack.log_params({"q": {"r": 2}})
    xtrack.log_artifact("s3://x", "model")
    xtrack.log_checkpoint("s3://y", 3)
    xtrack.log("m", level="warning", f=1)
    xtrack.set_status("training", "going", progress=(1, 2))
    xtrack.set_tags({"t": "u"})
    xtrack.alert("title", "text")
    xtrack.summary({"best": 1.0})
    assert xtrack.flush(until="durable")
    xtrack.end("failed", error="x")
    assert xtrack.current_run() is not run
    kinds = [event.event_type for event in spool.events()[2:]]
    assert kinds == [
        *("metric", "metric_batch", "param", "param", "artifact", "checkpoint", "log", "status", "tags", "alert"),
        *("summary", "run_end"),
    ]


def test_the_current_run_is_the_last_open_one(spool: Any, capsys: pytest.CaptureFixture[str]) -> None:
    outer = xtrack.start_run()
    inner = xtrack.start_run()
    assert xtrack.current_run() is inner
    inner.end()
    assert xtrack.current_run() is outer
    outer.end()
    xtrack.log_metric("late", 1.0)  # a late callback: told, not raised
    assert "has ended" in capsys.readouterr().err


def test_no_run_at_all(script: Any) -> None:
    done = script("import xtrack_protocol as x\nx.log_metric('k', 1.0)")
    assert "Call start_run() first" in done.stderr


@pytest.mark.parametrize(
    ("url", "stripped"),
    [
        ("https://user:secret@host/repo.git", "https://host/repo.git"),
        ("https://token@host/repo", "https://host/repo"),
        ("https://user:p@ss@host/repo", "https://host/repo"),
        ("https://host/repo?token=x#y", "https://host/repo"),
        ("https://host/a@b", "https://host/a@b"),
        ("ssh://git@host:22/repo", "ssh://host:22/repo"),
        ("git@host:org/repo.git", "git@host:org/repo.git"),
        ("ann@host:org/repo.git", "host:org/repo.git"),
        ("ann:p@ss@host:org/repo.git", "host:org/repo.git"),
        ("C:\\code@home\\repo", "C:\\code@home\\repo"),
        ("/local/path", "/local/path"),
    ],
)
def test_credentials_are_stripped(url: str, stripped: str) -> None:
    assert strip_credentials(url) == stripped


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--api-key", "abc", "--lr", "0.1"], ["--api-key", "***", "--lr", "0.1"]),
        (["--password=abc"], ["--password=***"]),
        (["HF_TOKEN=abc"], ["HF_TOKEN=***"]),
        (["--hf-token", "abc"], ["--hf-token", "***"]),
        (["--pass", "abc", "--aws-secret-access-key=x"], ["--pass", "***", "--aws-secret-access-key=***"]),
        (["--tokenizer", "gpt2", "--max-tokens=512"], ["--tokenizer", "gpt2", "--max-tokens=512"]),
        (["--passes", "3", "--bypass"], ["--passes", "3", "--bypass"]),
        (["https://u:p@host/x"], ["https://host/x"]),
        (["--key", "abc", "--metric-key", "loss"], ["--key", "***", "--metric-key", "loss"]),
        (["XTRACK_KEY=abc", "--xtrack-key", "abc"], ["XTRACK_KEY=***", "--xtrack-key", "***"]),
        (["--xtrack-key-file", "a.key", "a=xtk_k1_abc-d"], ["--xtrack-key-file", "a.key", "a=xtk_***"]),
    ],
)
def test_secrets_in_arguments(arguments: list[str], shown: list[str]) -> None:
    assert redact_arguments(arguments) == shown


def test_environment_by_allow_list() -> None:
    environ = {"RANK": "0", "HOME": "/root", "WANDB_API_KEY": "x", "SLURM_JOB_ID": "7", "AWS_SECRET": "x"}
    found = find_environment(("RANK", "SLURM_*", "*KEY", "*SECRET"), environ)
    assert found.env_vars == {"RANK": "0", "SLURM_JOB_ID": "7"}
    assert found.python_version
    assert found.platform == platform.platform()
    assert found.hostname


def test_no_secret_of_the_environment_is_recorded_even_where_all_of_it_is_asked_for() -> None:
    secrets = {
        "XTRACK_KEY": "canary",
        "xtrack_key": "canary",
        "MY_KEY": "canary",
        "KEY": "canary",
        "MYSQL_PWD": "canary",
        "SENTRY_DSN": "canary",
        "HTTP_COOKIE": "canary",
        "REGISTRY_AUTH": "canary",
        "NOTE": "use xtk_k1_canary",
        "PEM": "-----BEGIN EC PRIVATE KEY-----\ncanary",
        "A": "AKIAABCDEFGHIJKLMNOP",
        "B": "ghp_canarycanarycanarycanary",
        "C": "hf_canarycanarycanarycanary",
        "D": "sk-proj-canarycanarycanary",
        "E": "eyJhbGciOiJI.eyJzdWIiOiJj.canary",
        "F": "host=db password=canary",
        "G": '{"api_key": "canary", "token": "canary"}',
    }
    harmless = {
        "PWD": "/work",
        "OLDPWD": "/",
        "AUTHOR": "ada",
        "KEYBOARD": "us",
        "MONKEY": "see",
        "RANK": "0",
        "XTRACK_KEY_FILES": "",
        "TASK": "sk-learn",
    }
    urls = {"PROXY": "http://me:canary@proxy:80/", "DB": "postgres://me:can@ary@db/x and tcp://canary@h"}
    found = find_environment(("*",), {**secrets, **harmless, **urls}).env_vars
    assert found == {
        **{name: value for name, value in harmless.items() if name != "XTRACK_KEY_FILES"},
        "PROXY": "http://proxy:80/",
        "DB": "postgres://db/x and tcp://h",
    }


def test_source(spool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=x", "-c", "user.email=x@y"]
        done = subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    script = tmp_path / "train.py"
    script.write_text("")
    monkeypatch.setattr(sys, "argv", [str(script), "--password", "x"])
    assert find_source().git_commit is None
    git("init", "-q", "-b", "main")
    assert find_source().git_commit is None  # no commit yet
    git("commit", "-q", "--allow-empty", "-m", "x")
    git("remote", "add", "origin", "https://user:secret@host/repo.git")
    source = find_source()
    assert source.git_commit == git("rev-parse", "HEAD")
    assert (source.git_branch, source.git_repo) == ("main", "https://host/repo.git")
    assert source.entrypoint == str(script)
    monkeypatch.setenv("PATH", "")
    assert find_source().git_commit is None


def test_run_ids_in_all_forms(spool: Any) -> None:
    assert run_id_text(start(run_id="r", experiment_id="e", parent_run_id="p").run_id) == "r"
