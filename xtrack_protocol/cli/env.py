"""``xtrack env``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._remote import configured
from xtrack_protocol.cli._runs import examples

if TYPE_CHECKING:
    from xtrack_protocol.settings import Settings

SECTION = "Track"

_HOME: Final = '"$HOME/.xtrack"'
_SLURM_FUNCTIONS: Final = """\
# Start the training in the background, so that this shell hears its signal, and wait for it:
#   srun python train.py & xtrack_wait "$!"
xtrack_wait() {
    local status
    trap "xtrack_heard=1; xtrack_requeue '$1'" USR1
    while :; do xtrack_heard=; status=0; wait "$1" || status=$?; [ "$xtrack_heard" ] || break; done
    trap - USR1; return "$status"
}
# Near the time limit: ask for a checkpoint (srun passes the signal on), and go back into the queue.
xtrack_requeue() {
    local left
    kill -USR1 "$1" || return 0
    for left in $(seq "${XTRACK_CHECKPOINT_SECONDS:-60}"); do
        kill -0 "$1" 2>/dev/null || return 0; sleep 1
    done
    scontrol requeue "$SLURM_JOB_ID"
}
"""

_SECRETS: Final = "/etc/xtrack"
"""Where the manifests of examples/kubernetes mount a worker's Secret."""


@click.command(
    "env",
    epilog=examples(
        'eval "$(xtrack env slurm)"                          # in a batch script',
        "xtrack env slurm --to tls://collector.example:9999",
        "xtrack env k8s --to tls://xtrack:9999 --dir /mnt/work/xtrack",
    ),
)
@click.argument("where", metavar="WHERE", type=click.Choice(["slurm", "k8s", "sagemaker", "torchrun", "mpi"]))
@click.option(
    "--to",
    metavar="URL",
    help="The collector: tcp://HOST:PORT or tls://HOST:PORT. Default: the settings' one, if any.",
)
@click.option(
    "--dir",
    "folder",
    metavar="DIR",
    help="The spool, on a disk that the job can find again. Default: XTRACK_DIR, else a folder by WHERE.",
)
@click.option("--experiment", metavar="NAME", help="The experiment of the runs. Default: XTRACK_EXPERIMENT.")
def command(where: str, to: str | None, folder: str | None, experiment: str | None) -> None:
    """Print the variables that a training needs under a scheduler, to be pasted or evaluated there.

    WHERE is slurm, k8s, sagemaker, torchrun or mpi. One run for a job, all of its workers in it; the same run again
    when the job is requeued or tried again; and preemption told as such. Nothing of that happens unless these
    variables are set.

    A key is never printed: it stays in the file that XTRACK_KEY_FILE names.
    """
    from xtrack_protocol.settings import load_settings

    settings = load_settings()
    url = to or configured(settings)
    if url is not None:
        url = _whole_url(url, settings, name="--to" if to else "XTRACK_TRANSPORT")
    for line in _WRITERS[where](_Common(settings, url, folder, experiment)):
        out.line(line)


def _whole_url(url: str, settings: Settings, name: str) -> str:
    """Return a collector's address with all that the settings add to it. Files that they name may be elsewhere."""
    from xtrack_protocol.net.endpoint import parse_endpoint
    from xtrack_protocol.settings import Settings

    tls = settings.tls or any((settings.tls_ca, settings.tls_fingerprint, settings.tls_cert))
    where = Settings(host=settings.host, port=settings.port, socket=settings.socket, tls=tls)
    return parse_endpoint(url, where, name=name).url


class _Common:
    """What all places need: where events go, and what belongs to it."""

    def __init__(self, settings: Settings, url: str | None, folder: str | None, experiment: str | None) -> None:
        self.settings = settings
        self.url = url
        self.folder = folder or (str(settings.dir.absolute()) if settings.dir else None)
        self.experiment = experiment or settings.experiment

    def pairs(self, folder: str, *, files: Callable[[str, Path], str]) -> Iterator[tuple[str, str]]:
        """Yield variables with their values. ``files``: says where a file of the settings is over there."""
        if self.url:
            yield "XTRACK_TRANSPORT", self.url
            for name in ("key_file", "tls_ca", "tls_cert", "tls_key"):
                path = getattr(self.settings, name)
                if path is not None:
                    yield f"XTRACK_{name.upper()}", files(name, path)
            if self.settings.tls_fingerprint:
                yield "XTRACK_TLS_FINGERPRINT", self.settings.tls_fingerprint
            if self.settings.insecure:
                yield "XTRACK_INSECURE", "1"
        yield "XTRACK_DIR", self.folder or folder
        if self.experiment:
            yield "XTRACK_EXPERIMENT", self.experiment

    def exports(self, folder: str) -> Iterator[str]:
        """Yield lines for a shell. A default folder may have variables in it."""
        for name, value in self.pairs(folder, files=lambda _, path: str(path.absolute())):
            is_ours = name == "XTRACK_DIR" and self.folder is None
            yield f"export {name}={value if is_ours else shlex.quote(value)}"
        yield from self.remarks()

    def remarks(self) -> Iterator[str]:
        """Yield what can't be said by variables."""
        if self.url is None:
            yield "# No collector is named (--to, XTRACK_TRANSPORT): events stay there, until `xtrack sync --to URL`"
        elif self.settings.key and not self.settings.key_file:
            yield "# XTRACK_KEY is not printed. Put the key into a file that only you can read, and name it:"
            yield "# export XTRACK_KEY_FILE=..."


def _slurm(common: _Common) -> Iterator[str]:
    yield "# XTrack under Slurm: behind the #SBATCH lines of the batch script, in which these belong:"
    yield "#   #SBATCH --requeue               a job that is preempted goes back into the queue under its id"
    yield "#   #SBATCH --open-mode=append      and its output behind that of the last attempt"
    yield "#   #SBATCH --signal=B:USR1@120     120 s before the time limit this script gets SIGUSR1"
    yield from common.exports(_HOME)
    yield 'export XTRACK_RUN_ID="${SLURM_CLUSTER_NAME:-slurm}-${SLURM_JOB_ID:?this is no job of Slurm}"'
    yield "export XTRACK_RESUME=auto           # requeued: the same run again"
    yield "export XTRACK_SIGNALS=TERM=end,USR1=checkpoint_now"
    yield from _SLURM_FUNCTIONS.splitlines()


def _by_launcher(common: _Common, launcher: str) -> Iterator[str]:
    yield f"# XTrack under {launcher}: the workers' ranks and their common run are found without a variable."
    yield from common.exports(_HOME)
    yield "export XTRACK_SIGNALS=TERM=end"
    yield "# A launch that is begun again by somebody else is the same run where it has the same name:"
    yield "# export XTRACK_RUN_ID=... XTRACK_RESUME=auto"


def _torchrun(common: _Common) -> Iterator[str]:
    yield from _by_launcher(common, "torchrun")
    yield "# On several hosts: torchrun --rdzv-id of its own for each job."


def _mpi(common: _Common) -> Iterator[str]:
    yield from _by_launcher(common, "mpirun")
    yield "# Open MPI hands variables to other hosts where it is told to; MPICH and Intel MPI hand over all of them:"
    yield "#   mpirun $xtrack_mpi_flags -n 8 python train.py"
    yield "xtrack_mpi_flags=$(compgen -e XTRACK_ | sed 's/^/-x /')"


def _k8s(common: _Common) -> Iterator[str]:
    def files(name: str, _: Path) -> str:
        return f"{_SECRETS}/{_SECRET_NAMES[name]}"

    yield "# XTrack in a Job of Kubernetes 1.27 or later: of a container in spec.template.spec.containers."
    yield f"# {_SECRETS} is a mounted Secret; XTRACK_DIR is on the volume of the checkpoints, which outlives the pod."
    yield "env:"
    for name, value in common.pairs("/mnt/work/xtrack", files=files):
        yield f"  - name: {name}"
        yield f"    value: {_yaml_text(value)}"
    for line in common.remarks():
        yield f"  {line}"
    yield "  # The job's name, not the pod's: a retry is another pod, and the same run."
    yield "  - name: XTRACK_RUN_ID"
    yield "    valueFrom:"
    yield "      fieldRef:"
    yield "        fieldPath: metadata.labels['batch.kubernetes.io/job-name']"
    yield "  # Of an indexed job, the index; of others nothing."
    yield "  - name: XTRACK_WORKER_ID"
    yield "    valueFrom:"
    yield "      fieldRef:"
    yield "        fieldPath: metadata.annotations['batch.kubernetes.io/job-completion-index']"
    yield "  - name: XTRACK_RESUME"
    yield "    value: auto"
    yield "  - name: XTRACK_SIGNALS"
    yield "    value: TERM=end"


_SECRET_NAMES: Final = {"key_file": "key", "tls_ca": "ca.crt", "tls_cert": "tls.crt", "tls_key": "tls.key"}


def _yaml_text(value: str) -> str:
    """Return a scalar that is a text in YAML, whatever it looks like: JSON's strings are YAML's, but for surrogates."""
    import json

    return json.dumps(value, ensure_ascii=False)


def _docker_text(value: str) -> str:
    """Return a value of a Dockerfile's ENV, in which a dollar would begin a variable's name."""
    return '"' + re.sub(r'([\\"$])', r"\\\1", value) + '"'


def _sagemaker(common: _Common) -> Iterator[str]:
    yield "# XTrack in a training container of SageMaker. In its Dockerfile:"
    for name, value in common.pairs("/opt/ml/checkpoints/xtrack", files=lambda _, path: f"{_SECRETS}/{path.name}"):
        yield f"ENV {name}={_docker_text(value)}"
    yield "ENV XTRACK_RESUME=auto"
    yield "ENV XTRACK_SIGNALS=TERM=end"
    yield from common.remarks()
    yield "# /opt/ml/checkpoints is kept where the job has a checkpoint_s3_uri. The run id is known there only:"
    yield "# xtrack_protocol.integrations.sagemaker.start_run() finds it, or the script that starts the training:"
    yield '#   export XTRACK_RUN_ID="$TRAINING_JOB_NAME"'


_WRITERS: Final[dict[str, Callable[[_Common], Iterator[str]]]] = {
    "slurm": _slurm,
    "k8s": _k8s,
    "sagemaker": _sagemaker,
    "torchrun": _torchrun,
    "mpi": _mpi,
}
