"""Events of a run's life: it starts, tells how it is, is tagged, and ends."""

from typing import Literal, TypeAlias

from msgspec import field

from xtrack_protocol.ir._slots import Int64, Number, WireStruct
from xtrack_protocol.ir.identity import RunId

EndStatus: TypeAlias = Literal["completed", "failed", "killed"]
"""How a run ended. Closed. spec: EVT-RUN_END-2, VAL-6"""

ActivityStatus: TypeAlias = Literal[
    "initializing",
    "running",
    "training",
    "evaluating",
    "checkpointing",
    "paused",
    "resuming",
    "finishing",
    "completed",
    "failed",
    "killed",
]
"""What a worker says it is doing. Closed. It never decides a run's status. spec: EVT-STATUS-2, VAL-6"""


class SourceInfo(WireStruct, frozen=True):
    """Where the code came from. spec: EVT-RUN_START-4

    ``git_commit``: full hash; ``git_branch``; ``git_repo``: URL, without credentials; ``entrypoint``: the script
    or module that was started; ``code_hash``: a digest of the code, as ``sha256:<hex>``.
    """

    git_commit: str | None = None
    git_branch: str | None = None
    git_repo: str | None = None
    entrypoint: str | None = None
    code_hash: str | None = None


class GpuInfo(WireStruct, frozen=True):
    """One accelerator: its ``name`` and ``memory`` in bytes (legacy workers also send a text). spec: EVT-RUN_START-5"""

    name: str | None = None
    memory: Number | str | None = None


class EnvironmentInfo(WireStruct, frozen=True):
    """What the worker runs on. ``env_vars`` holds allowed names only, never all. spec: EVT-RUN_START-5"""

    python_version: str | None = None
    platform: str | None = None
    hostname: str | None = None
    gpu_info: list[GpuInfo] = field(default_factory=list)
    env_vars: dict[str, str] = field(default_factory=dict)


class Resume(WireStruct, frozen=True):
    """Which sessions a new one continues. spec: EVT-RUN_START-6, FLD-8

    ``session_ids`` (``sids``): the sessions it takes over from; they vote no more. ``rewind_to``: the last step
    that still holds; their points and checkpoints of later steps are hidden, not deleted.
    """

    session_ids: list[str] = field(name="sids", default_factory=list)
    rewind_to: Int64 | None = None


class RunStart(WireStruct, frozen=True):
    """A worker starts, or resumes, a run. The first event of a stream. spec: EVT-RUN_START-1

    ``name``: for people, not unique. ``tags``: text by name. ``source``, ``environment`` (``env``).
    Additive: ``resume``; ``world_size``: workers the run needs to be complete; ``sub``: a forked child, which
    never votes on the run's status; ``observer``: a launcher that watches from outside. spec: EVT-RUN_START-7
    """

    run_id: str | RunId
    name: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    source: SourceInfo | None = None
    environment: EnvironmentInfo | None = field(name="env", default=None)
    resume: Resume | None = None
    world_size: Int64 | None = None
    sub: bool = False
    observer: bool = False


class ErrorInfo(WireStruct, frozen=True):
    """Why a run failed: the exception's ``type``, its ``message``, its ``traceback`` as text. spec: EVT-RUN_END-3"""

    type: str = ""
    message: str = ""
    traceback: str | None = None


class RunEnd(WireStruct, frozen=True):
    """A worker's last event. spec: EVT-RUN_END-1

    ``status``; ``error``: written whenever the status is failed; ``final_metrics``: number by name;
    ``duration_ms``: milliseconds from run_start by the worker's monotonic clock.
    """

    run_id: str | RunId
    status: EndStatus
    error: ErrorInfo | None = None
    final_metrics: dict[str, Number] = field(default_factory=dict)
    duration_ms: Int64 | None = None


class Progress(WireStruct, frozen=True):
    """How far a worker is: ``current`` (``cur``) of ``total``, in ``unit`` (epoch, step, ...). spec: EVT-STATUS-3"""

    current: Int64 | None = field(name="cur", default=None)
    total: Int64 | None = None
    unit: str | None = None


class StatusUpdate(WireStruct, frozen=True):
    """What a worker is doing now; ``message`` (``msg``) is for people. spec: EVT-STATUS-1"""

    run_id: str | RunId
    status: ActivityStatus
    message: str | None = field(name="msg", default=None)
    progress: Progress | None = None


class Tags(WireStruct, frozen=True):
    """Sets tags of a run; others stay. Additive. spec: EVT-TAGS-1

    Reserved: ``xtrack.name`` renames the run, ``xtrack.note`` is its note. spec: EVT-TAGS-2
    """

    run_id: str | RunId
    tags: dict[str, str]
