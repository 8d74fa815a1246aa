"""``xtrack env``: lines that a shell, YAML or a Dockerfile takes, with all that is needed and no secret."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from xtrack_protocol.settings import load_settings

needs_bash = pytest.mark.skipif(sys.platform == "win32" or not shutil.which("bash"), reason="needs bash")

SHELLS = ("slurm", "torchrun", "mpi")
PLACES = (*SHELLS, "k8s", "sagemaker")


def env(where, *options, **variables):
    done = subprocess.run(
        [sys.executable, "-m", "xtrack_protocol.cli", "env", where, *options],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]} | variables,
    )
    return done.returncode, done.stdout, done.stderr


def evaluated(text, *, shell="set -eu", **variables):
    """Return the variables of ours that a bash has after ``eval "$text"``."""
    done = subprocess.run(
        ["bash", "-c", f'{shell}; eval "$1"; env -0', "bash", text],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "HOME": "/home/ann"} | variables,
    )
    found = dict(item.split("=", 1) for item in done.stdout.split("\0") if "=" in item)
    return {name: value for name, value in found.items() if name.startswith("XTRACK_")}


@needs_bash
def test_slurm():
    code, text, errors = env("slurm", "--to", "tls://collector.example:9999", "--experiment", "it's mine")
    assert (code, errors) == (0, "")
    variables = evaluated(text, SLURM_JOB_ID="7", SLURM_CLUSTER_NAME="alpha")
    assert variables == {
        "XTRACK_TRANSPORT": "tls://collector.example:9999",
        "XTRACK_DIR": "/home/ann/.xtrack",
        "XTRACK_EXPERIMENT": "it's mine",
        "XTRACK_RUN_ID": "alpha-7",
        "XTRACK_RESUME": "auto",
        "XTRACK_SIGNALS": "TERM=end,USR1=checkpoint_now",
    }
    assert evaluated(text, SLURM_JOB_ID="7")["XTRACK_RUN_ID"] == "slurm-7"
    assert load_settings(variables).signals == (("TERM", "end"), ("USR1", "checkpoint_now"))


@needs_bash
@pytest.mark.parametrize("where", SHELLS)
def test_shells_take_what_is_printed(where, tmp_path):
    """Also where the settings have everything, in folders with blanks."""
    folder = tmp_path / "a folder's"
    folder.mkdir()
    given = {
        "XTRACK_TRANSPORT": "tcp",
        "XTRACK_HOST": "collector.example",
        "XTRACK_PORT": "1234",
        "XTRACK_KEY_FILE": str(folder / "key"),
        "XTRACK_TLS_CA": str(folder / "ca.pem"),
        "XTRACK_TLS_FINGERPRINT": "ab" * 32,
        "XTRACK_DIR": str(folder / "spool $HOME"),
        "XTRACK_EXPERIMENT": "$(touch hacked)",
    }
    code, text, errors = env(where, **given)
    assert (code, errors) == (0, "")
    variables = evaluated(text, SLURM_JOB_ID="7")
    expected = {name: value for name, value in given.items() if name not in {"XTRACK_HOST", "XTRACK_PORT"}}
    assert variables | expected | {"XTRACK_TRANSPORT": "tls://collector.example:1234"} == variables
    assert load_settings(variables).signals


@needs_bash
def test_mpi_names_what_open_mpi_hands_over():
    _, text, _ = env("mpi", "--to", "tcp://collector.example:9999")
    flags = subprocess.run(
        ["bash", "-c", f"{text}\necho $xtrack_mpi_flags"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "HOME": "/home/ann", "XTRACK_QUIET": "1"},
    ).stdout.split()
    assert flags[::2] == ["-x"] * 4
    assert sorted(flags[1::2]) == ["XTRACK_DIR", "XTRACK_QUIET", "XTRACK_SIGNALS", "XTRACK_TRANSPORT"]


def test_k8s():
    yaml = pytest.importorskip("yaml")
    code, text, _ = env("k8s", "--to", "tls://xtrack:9999", "--dir", "/mnt/work/on", XTRACK_EXPERIMENT="1e3")
    assert code == 0
    found = {
        item["name"]: item.get("value") or item["valueFrom"]["fieldRef"]["fieldPath"]
        for item in yaml.safe_load(text)["env"]
    }
    assert found == {
        "XTRACK_TRANSPORT": "tls://xtrack:9999",
        "XTRACK_DIR": "/mnt/work/on",
        "XTRACK_EXPERIMENT": "1e3",
        "XTRACK_RUN_ID": "metadata.labels['batch.kubernetes.io/job-name']",
        "XTRACK_WORKER_ID": "metadata.annotations['batch.kubernetes.io/job-completion-index']",
        "XTRACK_RESUME": "auto",
        "XTRACK_SIGNALS": "TERM=end",
    }


def test_sagemaker():
    code, text, _ = env(
        "sagemaker", XTRACK_TRANSPORT="tls://collector.example:9999", XTRACK_KEY_FILE="/home/ann/my.key"
    )
    assert code == 0
    lines = re.findall(r"^ENV (\w+)=(.*)$", text, re.MULTILINE)
    assert {name: shlex.split(value)[0] for name, value in lines} == {
        "XTRACK_TRANSPORT": "tls://collector.example:9999",
        "XTRACK_KEY_FILE": "/etc/xtrack/my.key",
        "XTRACK_DIR": "/opt/ml/checkpoints/xtrack",
        "XTRACK_RESUME": "auto",
        "XTRACK_SIGNALS": "TERM=end",
    }


@pytest.mark.parametrize("name", ["\u00fcben \U0001f600", 'a "$HOME" \\ b'])
def test_names_of_any_letters(name):
    yaml = pytest.importorskip("yaml")
    (_, k8s, _), (_, docker, _) = (env(where, "--experiment", name) for where in ("k8s", "sagemaker"))
    assert {"name": "XTRACK_EXPERIMENT", "value": name} in yaml.safe_load(k8s)["env"]
    (value,) = re.findall(r"^ENV XTRACK_EXPERIMENT=(.*)$", docker, re.MULTILINE)
    # A shell reads such a text as Docker does: within double quotes only these are escaped.
    assert subprocess.run(["sh", "-c", f"printf %s {value}"], capture_output=True, check=True).stdout.decode() == name


@pytest.mark.parametrize("where", PLACES)
def test_a_key_is_never_printed(where):
    for variables in ({"XTRACK_TRANSPORT": "tls://collector.example"}, {"XTRACK_HOST": "collector.example"}, {}):
        code, text, errors = env(where, XTRACK_KEY="xtk_k1_secret", **variables)
        assert (code, errors) == (0, "")
        assert "secret" not in text
        assert ("XTRACK_KEY is not printed" in text) == bool(variables)
        assert ("No collector is named" in text) == (not variables)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["nowhere"], "'nowhere' is not one of 'slurm', 'k8s'"),
        (["slurm", "--to", "collector"], "--to='collector'"),
        (["slurm", "--to", "ftp://collector"], "--to='ftp://collector'"),
        ([], "Missing argument 'WHERE'"),
    ],
)
def test_wrong_usage(argv, says):
    code, text, errors = env(*argv) if argv else env("--experiment=x")
    assert (code, text) == (2, "")
    assert says in errors


def test_a_wrong_setting():
    code, text, errors = env("slurm", XTRACK_TRANSPORT="tcp://:99999")
    assert (code, text) == (2, "")
    assert "XTRACK_TRANSPORT" in errors
