"""The manifests are valid, say what `xtrack env k8s` says, and their commands do what they promise, as processes here.

No cluster is here: what Kubernetes itself does with them is not tested.
"""

from __future__ import annotations

import copy
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from server_peers import SECONDS, eventually

import xtrack_protocol
from xtrack_protocol.storage import open_store

FOLDER = Path(__file__).parents[2] / "examples" / "kubernetes"
MANIFESTS = sorted(path.name for path in FOLDER.glob("*.yaml"))
XTRACK = [sys.executable, "-m", "xtrack_protocol.cli"]

yaml = pytest.importorskip("yaml")


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def of_kind(name: str, kind: str) -> dict[str, Any]:
    (found,) = [document for document in documents(name) if document["kind"] == kind]
    return found


def pod_of(document: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = document["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("version", ["1.31", "1.34", "1.37"])
@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_are_valid(name: str, version: str) -> None:
    """Strictly: a member that the schema doesn't know is an error."""
    validator = pytest.importorskip("kubernetes_validate")
    for document in documents(name):
        validator.validate(document, version, strict=True)
        broken = copy.deepcopy(document)
        broken["spec"]["nosuch"] = 1
        with pytest.raises(validator.ValidationError):
            validator.validate(broken, version, strict=True)


@pytest.mark.parametrize("name", MANIFESTS)
def test_pods_may_do_little(name: str) -> None:
    for document in documents(name):
        if "template" not in document["spec"]:
            continue
        pod = pod_of(document)
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        mounted = {volume["name"] for volume in pod["volumes"]}
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            context = container["securityContext"]
            assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert {mount["name"] for mount in container["volumeMounts"]} <= mounted


@pytest.mark.parametrize("name", ["job.yaml", "indexed-job.yaml"])
def test_the_variables_are_those_that_the_command_prints(name: str, tmp_path: Path) -> None:
    (tmp_path / "xtrack.toml").write_text('key_file = "my.key"\ntls_ca = "collector.pem"\n')
    done = subprocess.run(
        [*XTRACK, "env", "k8s", "--to", "tls://xtrack:9999"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    printed = yaml.safe_load(done.stdout)["env"]
    (container,) = pod_of(of_kind(name, "Job"))["containers"]
    more = [{"name": "XTRACK_WORLD_SIZE", "value": "4"}] if name.startswith("indexed") else []
    assert container["env"] == printed + more
    if more:
        assert of_kind(name, "Job")["spec"]["completions"] == int(more[0]["value"])


def test_images_have_this_version() -> None:
    for name in ("Dockerfile", "Dockerfile.training"):
        text = (FOLDER / name).read_text()
        assert re.findall(r"xtrack-protocol\S*?==([\w.]+)'", text) == [xtrack_protocol.__version__]
        assert "USER 10001" in text
        assert all((FOLDER.parent / file).is_file() for file in re.findall(r"^COPY (\S+)", text, re.MULTILINE))


# ------------------------------------------------------------------------------------------ as processes


class Pod:
    """Runs the containers of a pod here: its paths below ``root``, its names as a cluster would resolve them."""

    def __init__(self, document: dict[str, Any], root: Path, **replaced: str) -> None:
        self.document = document
        self.spec = pod_of(document)
        self.root = root
        self.replaced = replaced

    def _here(self, text: str) -> str:
        for path in ("/etc/xtrack", "/run/xtrack", "/data", "/mnt/work"):
            text = text.replace(path, str(self.root / path[1:].replace("/", "-")))
        for there, here in self.replaced.items():
            text = text.replace(there, here)
        return text

    def _environ(self, container: dict[str, Any], index: str) -> dict[str, str]:
        fields = {
            "metadata.labels['batch.kubernetes.io/job-name']": self.document["metadata"]["name"],
            "metadata.annotations['batch.kubernetes.io/job-completion-index']": index,
        }
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.root)}
        for variable in container.get("env", []):
            if "valueFrom" in variable:
                environ[variable["name"]] = fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
            else:
                environ[variable["name"]] = self._here(variable["value"])
        return environ

    def start(self, *more: str, index: str = "", **options: Any) -> subprocess.Popen[str]:
        for container in self.spec.get("initContainers", []):
            subprocess.run([self._here(part) for part in container["command"]], check=True)
        (container,) = self.spec["containers"]
        command = [self._here(part) for part in [*container["command"], *container.get("args", []), *more]]
        programs = {"xtrack": XTRACK, "python": [sys.executable]}
        return subprocess.Popen(
            [*programs[command[0]], *command[1:]],
            env=self._environ(container, index),
            cwd=FOLDER.parent,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Any:
    """A collector as its manifest has it; yields how to make pods of jobs, and the path of its store."""
    pytest.importorskip("cryptography")
    from xtrack_protocol.net.tls import keep_self_signed

    names = {path: tmp_path / path for path in ("etc-xtrack", "run-xtrack", "data", "work", "worker")}
    for folder in names.values():
        folder.mkdir()
    certificate, key = keep_self_signed(tmp_path / "tls", ["localhost", "127.0.0.1"])
    etc, worker = names["etc-xtrack"], names["worker"]
    (etc / "tls.crt").write_bytes(certificate.read_bytes())
    (etc / "tls.key").write_bytes(key.read_bytes())
    (etc / "tls.key").chmod(0o400)
    added = subprocess.run(
        [*XTRACK, "keys", "add", "--owner", "training", "--keys", str(etc / "keys.json")],
        capture_output=True,
        text=True,
        check=True,
    )
    (worker / "key").write_text(added.stdout)
    (worker / "key").chmod(0o400)
    (worker / "ca.crt").write_bytes(certificate.read_bytes())
    pod = Pod(of_kind("collector.yaml", "Deployment"), tmp_path, **{"0.0.0.0:9999": "127.0.0.1:0"})
    server = pod.start(stdout=subprocess.PIPE)
    assert server.stdout
    try:
        said = ""
        while "XTRACK_KEY" not in said:
            line = server.stdout.readline()
            assert line, server.stderr.read() if server.stderr else ""
            said += line
        found = re.search(r"listening on tls://127.0.0.1:(\d+)", said)
        assert found
        port = found[1]

        def probe() -> None:
            """As a kubelet's tcpSocket: connect, and close."""
            socket.create_connection(("127.0.0.1", int(port)), timeout=5).close()

        def job(name: str) -> Pod:
            return Pod(
                of_kind(name, "Job"),
                tmp_path,
                **{"xtrack:9999": f"127.0.0.1:{port}", str(etc): str(worker)},
            )

        yield probe, job, f"sqlite:///{tmp_path}/data/runs.db"
        server.send_signal(signal.SIGTERM)
        _, errors = server.communicate(timeout=SECONDS)
        assert server.returncode == 0
        assert "ERROR" not in errors
    finally:
        if server.poll() is None:
            server.kill()
            server.communicate()


def progress(store: Any, run_id: str) -> int:
    try:
        return int(store.get_run(run_id).metrics["loss"].count)
    except (KeyError, xtrack_protocol.XTrackError):
        return 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another kind")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_is_tried_again(cluster: Any, number: int) -> None:
    """Out of memory, or evicted; then another pod of the same job: one run, its history in order, completed."""
    probe, job, url = cluster
    for _ in range(5):
        probe()
    with open_store(url) as store:
        pod = job("job.yaml").start("--pause", "0.005", "--every", "20")
        eventually(lambda: progress(store, "resumable-1") > 50)
        pod.send_signal(number)
        assert pod.wait(SECONDS) == -number
        if number == signal.SIGTERM:
            state = store.get_run("resumable-1")
            assert (state.status, state.error.type) == ("killed", "Preempted")
        pod.communicate()
        again = job("job.yaml").start("--every", "20")
        _, errors = again.communicate(timeout=SECONDS)
        assert again.returncode == 0, errors
        assert ", resumed" in errors
        state = store.get_run("resumable-1")
        assert (state.status, state.lost_events) == ("completed", 0)
        assert [point.step for point in store.get_metrics("resumable-1", "loss")] == list(range(1, 201))
        assert sorted(summary.superseded for summary in state.streams) == [False, True]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another kind")
def test_a_worker_of_an_indexed_job_is_tried_again(cluster: Any) -> None:
    """By itself, while others have completed, whose word stays."""
    _, job, url = cluster
    with open_store(url) as store:
        pods = [
            job("indexed-job.yaml").start("--steps", "60", "--pause", "0" if index else "0.05", index=str(index))
            for index in range(4)
        ]
        eventually(lambda: progress(store, "distributed-1") > 20)
        pods[0].kill()
        for pod in pods:
            pod.communicate(timeout=SECONDS)
        assert [pod.returncode for pod in pods] == [-signal.SIGKILL, 0, 0, 0]
        assert store.get_run("distributed-1").status == "running"
        again = job("indexed-job.yaml").start("--steps", "60", index="0")
        again.communicate(timeout=SECONDS)
        state = store.get_run("distributed-1")
        assert (state.status, state.world_size) == ("completed", 4)
        assert {summary.stream.worker_id for summary in state.streams if not summary.superseded} == {"0", "1", "2", "3"}
        for index in range(4):
            steps = [point.step for point in store.get_metrics("distributed-1", "loss", worker_id=str(index))]
            assert steps == list(range(1, 61)), index
