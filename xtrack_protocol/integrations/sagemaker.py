"""SageMaker's training containers: hyperparameters, hosts, the job's name, and the file that tells why it failed.

Only what SageMaker puts into a container is read: its variables (``SM_HPS``, ``SM_HOSTS``, ``TRAINING_JOB_NAME``), and
the files below ``/opt/ml``, which are there in every container, with its toolkit or without. AWS is never called.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from xtrack_protocol.emitter import Run, Tracker
from xtrack_protocol.emitter.exits import is_good
from xtrack_protocol.emitter.ranks import find_rank
from xtrack_protocol.emitter.stream import say
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.settings import Settings, load_settings

ROOT: Final = Path("/opt/ml")
"""Where SageMaker's files are."""

_FAILURE_MAX: Final = 64 * 1024
_OWN: Final = ("sagemaker_", "SAGEMAKER_")
"""How the names of hyperparameters begin that are the toolkit's, and not the training's."""


def hyperparameters(environ: Mapping[str, str] | None = None, root: Path = ROOT) -> dict[str, Any]:
    """Return the job's hyperparameters with their types: of ``SM_HPS``, else of the file, else of ``SM_HP_...``.

    In the file and in ``SM_HP_...`` all values are texts: what is JSON is taken as such, the rest as it is. The names
    of the variables are taken in lower case, for what they were is not told there.
    Raises ConfigurationError where ``SM_HPS`` or the file can't be read.
    """
    environ = os.environ if environ is None else environ
    if environ.get("SM_HPS"):
        return _own_out(_object("SM_HPS", environ["SM_HPS"]))
    path = root / "input" / "config" / "hyperparameters.json"
    if path.is_file():
        return _own_out({name: _typed(text) for name, text in _read(path).items()})
    prefix = "SM_HP_"
    return {
        name.removeprefix(prefix).lower(): _typed(text)
        for name, text in sorted(environ.items())
        if name.startswith(prefix) and name != prefix
    }


def worker(environ: Mapping[str, str] | None = None, root: Path = ROOT) -> tuple[int, int]:
    """Return this host's place among the job's, and how many there are; (0, 1) outside of SageMaker.

    Raises ConfigurationError where what SageMaker says of them can't be read.
    """
    environ = os.environ if environ is None else environ
    path = root / "input" / "config" / "resourceconfig.json"
    hosts: Any
    current: Any
    if environ.get("SM_HOSTS") and environ.get("SM_CURRENT_HOST"):
        where = "SM_HOSTS"
        hosts, current = _decoded(where, environ["SM_HOSTS"]), environ["SM_CURRENT_HOST"]
    elif path.is_file():
        config = _read(path)
        where = f"{path}: hosts"
        hosts, current = config.get("hosts"), config.get("current_host")
    else:
        return 0, 1
    if not isinstance(hosts, list) or current not in hosts:
        raise ConfigurationError(where, hosts, f"doesn't name this host, {current!r}")
    return hosts.index(current), len(hosts)


def start_run(name: str | None = None, *, root: Path = ROOT, **options: Any) -> Run:
    """Start the run of this training job, as ``Tracker.start_run`` does, with what SageMaker tells of it.

    The run id is the job's name, so that a job which goes on after an interruption of its spot instance goes on with
    its run. Each host is a worker, unless a launcher (torchrun, mpirun) names the workers. ``params`` are the
    hyperparameters. The spool is ``checkpoints/xtrack`` below ``root``, where that folder is there, for SageMaker keeps
    it. What is given, as an argument or by a variable of XTRACK's, wins over all of that.
    """
    settings: Settings = options.pop("settings", None) or load_settings()
    checkpoints = root / "checkpoints"
    if settings.dir is None and checkpoints.is_dir():
        settings = msgspec.structs.replace(settings, dir=checkpoints / "xtrack")
    if options.get("run_id") is None and not (settings.run_id or settings.resume_run_id):
        settings = msgspec.structs.replace(settings, run_id=os.environ.get("TRAINING_JOB_NAME") or None, resume="auto")
    index, count = worker(root=root)
    if count > 1 and settings.worker_id is None and find_rank() is None:
        options.setdefault("worker_id", str(index))
        options.setdefault("world_size", settings.world_size or count)
    options.setdefault("params", hyperparameters(root=root) or None)
    return Tracker.start_run(name, settings=settings, **options)


def write_failure(error: BaseException | str, root: Path = ROOT) -> bool:
    """Write why the training failed to ``output/failure``, from where SageMaker shows it; return whether that worked.

    It shows the beginning, so the error comes first, then its traceback.
    """
    if isinstance(error, BaseException):
        lines = traceback.format_exception_only(type(error), error)
        text = "".join([*lines, "\n", *traceback.format_exception(type(error), error, error.__traceback__)])
    else:
        text = error
    try:
        (root / "output").mkdir(parents=True, exist_ok=True)
        data = text.encode("utf-8", "backslashreplace")[:_FAILURE_MAX]
        (root / "output" / "failure").write_bytes(data)
    except OSError:
        return False  # the training's own error is what counts
    return True


@contextmanager
def failure_file(root: Path = ROOT) -> Iterator[None]:
    """Around a training: what it raises is written by ``write_failure``, and goes on. An exit with 0 is no failure."""
    try:
        yield
    except BaseException as error:
        is_failure = not (isinstance(error, SystemExit) and is_good(error.code))
        if is_failure and not write_failure(error, root):
            say(f"warning: {root / 'output' / 'failure'} can't be written, so SageMaker won't show the failure")
        raise


def _own_out(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not name.startswith(_OWN)}


def _typed(text: Any) -> Any:
    """Return a value that was handed over as a text."""
    if not isinstance(text, str):
        return text
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text


def _read(path: Path) -> dict[str, Any]:
    try:
        return _object(str(path), path.read_bytes())
    except OSError as error:
        raise ConfigurationError(str(path), "", f"can't be read: {error.strerror or error}") from error


def _decoded(where: str, text: str | bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ConfigurationError(where, text[:80], f"is no JSON: {error}") from error


def _object(where: str, text: str | bytes) -> dict[str, Any]:
    found = _decoded(where, text)
    if not isinstance(found, dict):
        raise ConfigurationError(where, text[:80], "is no JSON object")
    return found


__all__ = ["ROOT", "failure_file", "hyperparameters", "start_run", "worker", "write_failure"]
