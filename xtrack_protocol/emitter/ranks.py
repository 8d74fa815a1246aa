"""Which of a launch's processes this one is, and which job they share, by what its launcher tells it. spec: EMT-7

No framework is imported and no accelerator asked: only the environment, the ancestors of the process, and JAX's state
where the script has initialised it already.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from xtrack_protocol._value import Value

_LOADED_NS: Final = time.time_ns()
_WHOLE: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_STEPS_MAX: Final = 0xFFFF_FFF0
"""Slurm's step ids from here on are no steps of srun's: batch script, interactive shell, external processes."""

_VARIABLES: Final = (
    ("RANK", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("PMIX_RANK", "OMPI_COMM_WORLD_SIZE"),
)
"""Of torchrun and its kin, Open MPI, Hydra (MPICH, Intel MPI), and Open MPI where its own rank is not set."""

_RANKS: Final = tuple(index_name for index_name, _ in _VARIABLES)


class Rank(Value, frozen=True):
    """A process's place in its launch. ``source``: the variable that tells it.

    ``job``: a run id that all ranks of the launch come to, and no other launch does; None where they share nothing
    that would do. ``is_again``: the launcher says that this is not its first attempt.
    """

    index: int
    size: int
    source: str
    job: str | None = None
    is_again: bool = False


def find_rank(environ: Mapping[str, str] | None = None, warn: Callable[[str], None] = lambda _: None) -> Rank | None:
    """Return this process's rank; None for one that stands alone. spec: EMT-7.1

    The launcher nearest to the process counts, and one that knows of several processes before one that knows of this
    one only. A value that can't be a rank is passed over with a warning.
    """
    environ = os.environ if environ is None else environ
    alone: Rank | None = None
    for rank in _told(environ, warn):
        if rank.size > 1:
            break
        alone = alone or rank
    else:
        if alone is None or "TORCHELASTIC_RUN_ID" not in environ:
            return None
        rank = alone  # a world of one, which may be restarted, or be larger then
    return msgspec.structs.replace(rank, job=_job(environ, rank), is_again=_is_again(environ))


# ------------------------------------------------------------------------------------------ who


def _told(environ: Mapping[str, str], warn: Callable[[str], None]) -> Iterator[Rank]:
    """Yield what each launcher tells, the nearest one first."""
    # Before Slurm's: under mpirun, SLURM_PROCID is that of the daemon which started several ranks.
    for index_name, size_name in _VARIABLES:
        rank = _by_variables(environ, index_name, size_name, warn)
        if rank is not None:
            yield rank
    rank = _by_slurm(environ, warn) or _by_jax()
    if rank is not None:
        yield rank


def _by_variables(
    environ: Mapping[str, str], index_name: str, size_name: str, warn: Callable[[str], None]
) -> Rank | None:
    """Return what two variables tell. One of them alone tells nothing: other programs use such names too."""
    texts = {name: environ.get(name, "") for name in (index_name, size_name)}
    if not all(texts.values()):
        return None
    for name, text in texts.items():
        if not _WHOLE.fullmatch(text):
            warn(f"{name}={text[:40]!r} is no whole number, so it is not taken for a worker's place")
            return None
    index, size = int(texts[index_name]), int(texts[size_name])
    if index >= size:
        warn(f"{index_name}={index} is no place among {size_name}={size} workers, so it is not taken for one")
        return None
    return Rank(index, size, index_name)


def _by_slurm(environ: Mapping[str, str], warn: Callable[[str], None]) -> Rank | None:
    """Return the rank of a task that srun started. A batch script's shell has SLURM_PROCID=0 as well, and no step."""
    if _step(environ) is None:
        return None
    return _by_variables(environ, "SLURM_PROCID", _tasks_name(environ), warn)


def _tasks_name(environ: Mapping[str, str]) -> str:
    """Return the variable with the number of the step's tasks; in an interactive shell the other one is the job's."""
    return "SLURM_STEP_NUM_TASKS" if environ.get("SLURM_STEP_NUM_TASKS") else "SLURM_NTASKS"


def _by_jax() -> Rank | None:
    """Return JAX's process index, if the script has initialised jax.distributed.

    ``jax.process_index()`` would start a backend, behind the script's back.
    """
    state = getattr(sys.modules.get("jax._src.distributed"), "global_state", None)
    if getattr(state, "client", None) is None:
        return None
    index, size = getattr(state, "process_id", None), getattr(state, "num_processes", None)
    if type(index) is not int or type(size) is not int or not 0 <= index < size:
        return None  # another release of JAX, whose state looks different
    return Rank(index, size, "jax.distributed")


# ------------------------------------------------------------------------------------------ which job


def _is_again(environ: Mapping[str, str]) -> bool:
    counts = (environ.get("TORCHELASTIC_RESTART_COUNT", ""), environ.get("SLURM_RESTART_COUNT", ""))
    return any(_WHOLE.fullmatch(text) and int(text) > 0 for text in counts)


def _job(environ: Mapping[str, str], rank: Rank) -> str | None:
    """Return an id of the launch that all of its ranks come to by themselves, and no later launch. spec: EMT-7.2

    An address with a port is no such id: the next job may use it again.
    """
    if "TORCHELASTIC_RUN_ID" in environ:
        return _torch_job(environ, rank)
    if "OMPI_COMM_WORLD_SIZE" in environ:
        return _open_mpi_job(environ)
    tasks = _number(environ, _tasks_name(environ))
    is_own_step = _step(environ) is not None and tasks == rank.size and "MPI_LOCALNRANKS" not in environ
    if is_own_step:
        return _slurm_id(environ)
    local = next(filter(None, (_number(environ, name) for name in _LOCAL_SIZES)), None)
    launcher = _launcher(_RANKS) if local == rank.size else None
    if launcher is not None:
        return f"{'mpi' if rank.source.startswith('PMI') else 'ranks'}-{launcher}"
    if rank.source.startswith("PMI") and _step(environ) is not None:
        return _slurm_id(environ)  # Hydra starts its proxies by srun, on all nodes at once
    return None


_LOCAL_SIZES: Final = ("MPI_LOCALNRANKS", "LOCAL_WORLD_SIZE", "LOCAL_SIZE")
"""How many ranks are on this host: of Hydra (MPICH, Intel MPI), of torch's kin, of DeepSpeed's launcher."""


def _torch_job(environ: Mapping[str, str], rank: Rank) -> str | None:
    """Return the id of a torchrun: restarts by its agents keep it."""
    given = environ["TORCHELASTIC_RUN_ID"]
    is_given = given not in {"", "none"}
    if _number(environ, "LOCAL_WORLD_SIZE") == rank.size and _number(environ, "GROUP_WORLD_SIZE") in {1, None}:
        # Of one agent, which is a better name than --rdzv-id: scripts give the same one to each job.
        launcher = _launcher(("TORCHELASTIC_RUN_ID",))
        if launcher is not None:
            return f"torch-{launcher}"
    agents = _number(environ, "GROUP_WORLD_SIZE") or 0
    address = _digest(environ.get("MASTER_ADDR", ""), environ.get("MASTER_PORT", ""))
    tasks = _number(environ, _tasks_name(environ))
    if _step(environ) is not None and tasks is not None and tasks >= agents:
        if is_given:
            return f"{_slurm_id(environ)}-{given}"
        return _slurm_id(environ) if tasks == agents else f"{_slurm_id(environ)}-{address}"
    if environ.get("SLURM_JOB_ID"):  # a step for each node
        return f"{_slurm_id(environ, with_step=False)}-{given if is_given else address}"
    return f"torch-{given}" if is_given else None


def _open_mpi_job(environ: Mapping[str, str]) -> str | None:
    """Return the id of an mpirun, from what it gives all ranks: its random key, its job id, its own address."""
    names = ("OMPI_MCA_orte_precondition_transports", "PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid")
    shared = [environ.get(name, "") for name in (*names, "OMPI_MCA_orte_hnp_uri")]
    if _number(environ, "OMPI_COMM_WORLD_LOCAL_SIZE") == _number(environ, "OMPI_COMM_WORLD_SIZE"):
        shared.append(_launcher(_RANKS) or "")
    return f"mpi-{_digest(*shared)}" if any(shared) else None


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "")
    return int(text) if _WHOLE.fullmatch(text) else None


def _step(environ: Mapping[str, str]) -> int | None:
    """Return the step of srun's that this process belongs to."""
    text = environ.get("SLURM_STEP_ID") or environ.get("SLURM_STEPID") or ""
    is_step = environ.get("SLURM_JOB_ID") and text.isascii() and text.isdigit() and int(text) < _STEPS_MAX
    return int(text) if is_step else None


def _slurm_id(environ: Mapping[str, str], *, with_step: bool = True) -> str:
    """Return the job's id, and the step's. Clusters that log to one collector count their jobs alike."""
    parts = ["slurm", environ.get("SLURM_CLUSTER_NAME", ""), environ["SLURM_JOB_ID"]]
    return "-".join(filter(None, parts)) + (f".{_step(environ)}" if with_step else "")


def _digest(*texts: str) -> str:
    import hashlib  # only a launch needs it, and it brings OpenSSL

    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _launcher(names: tuple[str, ...]) -> str | None:
    """Return an id of the process that launched the ranks of this host; None where the system doesn't tell.

    It is the nearest ancestor that was not itself started with one of the variables ``names``: between it and us there
    may be shells. Its pid may come again, but not with the same time of start in the same boot.
    """
    pid = os.getppid()
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        while pid > 1 and _has_any(pid, names):
            pid = parent_of(pid)
        started = _stat(pid)[19]
    except (OSError, ValueError, IndexError):
        return None
    host = os.uname().nodename
    return f"{host.split('.')[0]}-{_digest(host, boot, str(pid), started)}"


def parent_of(pid: int) -> int:
    """Return the process that started another, or has it now; 0 above the first one. Raises OSError where no system
    tells, and ValueError or IndexError where it tells something else.
    """
    return int(_stat(pid)[1])


def began_ns() -> int:
    """Return when this process began, in nanoseconds since the Unix epoch; where no system tells, or it was forked
    later, when the package was imported, which may be long after its launch: another package is imported first.
    """
    try:
        second = os.sysconf("SC_CLK_TCK")
        ticks = int(_stat(os.getpid())[19]) + 1  # it began within that one
        age_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - ticks * 1_000_000_000 // second
    except (AttributeError, OSError, ValueError, IndexError):
        return _LOADED_NS
    return min(_LOADED_NS, time.time_ns() - age_ns)


def _stat(pid: int) -> list[str]:
    """Return /proc/PID/stat from the state on; the name before it may hold anything, brackets and blanks included."""
    text = Path(f"/proc/{pid}/stat").read_bytes().decode("utf-8", "replace")
    return text[text.rindex(")") + 2 :].split()


def _has_any(pid: int, names: tuple[str, ...]) -> bool:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except PermissionError:
        return False  # another user's, so no process of the launch: Slurm's daemon, say
    return any(variable.partition(b"=")[0].decode("utf-8", "replace") in names for variable in variables)
