"""What all integrations share: which process logs, the run that several ranks share, and values as they can be logged.

No framework is imported here, and no accelerator asked: a process group is looked at only where the script has
initialised one.
"""

from __future__ import annotations

import enum
import functools
import importlib
import inspect
import os
import re
import sys
import types
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final, NamedTuple

from xtrack_protocol.emitter import tracker
from xtrack_protocol.emitter.current import start_run
from xtrack_protocol.emitter.ranks import find_rank
from xtrack_protocol.emitter.run import Run
from xtrack_protocol.emitter.values import as_mapping, brief, shown_in_error, to_text
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.settings import Settings, load_settings

_START_OPTIONS: Final = frozenset(inspect.signature(tracker.Tracker.start_run).parameters) - {"name"}

_LEVELS_MAX: Final = 16
_TEXT_MAX: Final = 200
"""Characters of what stands for an object."""


class Place(NamedTuple):
    """Which process of how many this one is."""

    rank: int
    size: int


_later_starts: dict[tuple[int, str], int] = {}
"""By process and the id that its launch shares, how many more runs of all ranks it has started under it."""


def start(
    name: str | None = None,
    *,
    run: Run | None = None,
    all_ranks: bool = False,
    place: Place | None = None,
    **start_options: Any,
) -> Run | None:
    """Return the run that this process logs to; None where another rank logs.

    Rank 0 logs, or with ``all_ranks`` every rank, each as a worker of one run. ``run``: one that the script has
    started, which is returned where this rank logs; else one is started with ``start_options``, as by
    ``Tracker.start_run``. ``place``: as the framework tells; by default see :func:`find_place`.

    With ``all_ranks`` the run's id is ``run_id`` where given, else XTRACK_RUN_ID, else the launcher's job, else
    TORCHELASTIC_RUN_ID, else one that rank 0 makes and torch.distributed broadcasts: then every rank must call this at
    the same time, and NCCL sends it by way of each rank's current device. Raises ConfigurationError where there is
    none of these: never does each rank get a run of its own. spec: EMT-7.2
    """
    place = place or find_place()
    if not all_ranks and place.rank > 0:
        return None
    if run is not None:
        return run
    options = dict(start_options)
    if place.size > 1:
        settings = options.get("settings") or load_settings()
        if all_ranks:
            _share(options, place, settings)
        elif options.get("run_id") is None and _launch_id(place, settings) is None:
            # Else start_run warns that each rank will make a run of its own; they don't.
            options["run_id"] = tracker.new_run_id()
    return start_run(name, **options)


def check_start(what: str, name: str | None, run: Run | None, start_options: Mapping[str, Any]) -> None:
    """Check what somebody gave to start a run with later: when the training begins, it would be told of late.

    Raises ConfigurationError for a ``run`` that is none, and for options that it leaves without effect; TypeError for
    options that ``Tracker.start_run`` doesn't have, in the name of ``what``.
    """
    if run is not None and not isinstance(run, Run):
        raise ConfigurationError("run", shown_in_error(run), "must be a Run, as Tracker.start_run returns it")
    if run is not None and (name is not None or start_options):
        given = ", ".join([*(["name"] if name is not None else []), *start_options])
        raise ConfigurationError("run", run.run_id, f"is started already, so {given} would have no effect")
    unknown = next((option for option in start_options if option not in _START_OPTIONS), None)
    if unknown is not None:
        raise TypeError(f"{what}() got an unexpected keyword argument {unknown!r}")


def is_main_process() -> bool:
    """Whether this is rank 0, or the only process."""
    return find_place().rank == 0


def find_place() -> Place:
    """Return this process's place: of torch.distributed where the script has initialised it, else by the launcher."""
    group = _process_group()
    if group is not None:
        return group
    rank = find_rank()
    return Place(0, 1) if rank is None else Place(rank.index, rank.size)


def _process_group() -> Place | None:
    """Return the place in torch's default process group. Neither call talks to a device or to another process."""
    dist = sys.modules.get("torch.distributed")
    if dist is None or not dist.is_available() or not dist.is_initialized():
        return None
    return Place(dist.get_rank(), dist.get_world_size())


# ------------------------------------------------------------------------------------------ one run for all ranks


def _share(options: dict[str, Any], place: Place, settings: Settings) -> None:
    """Set the worker's id, the number of workers, and the run's id where start_run doesn't find it by itself."""
    if options.get("worker_id") is None and settings.worker_id is None:
        options["worker_id"] = str(place.rank)
    if options.get("world_size") is None and settings.world_size is None:
        options["world_size"] = place.size
    if options.get("run_id") is not None:
        return
    if _launch_id(place, settings) is not None:
        first = tracker.run_of_launch()
        if first is not None:  # start_run would give each rank a child of its own
            options["run_id"] = _later_id(first)
            options["parent_run_id"] = options.get("parent_run_id") or first
        return
    elastic = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    if elastic not in {"", "none"}:
        options["run_id"] = f"torch-{elastic}"
    elif _process_group() == place:
        options["run_id"] = _broadcast(tracker.new_run_id())
    else:
        raise ConfigurationError(
            "all_ranks",
            True,
            f"this is worker {place.rank} of {place.size}, and they share nothing that names their job, so each would "
            "get a run of its own",
            "Set XTRACK_RUN_ID to the same text for all of them, or initialise torch.distributed before",
        )


def _later_id(first: str) -> str:
    """Return the id of one more run of this process: ranks of one script count alike."""
    key = (os.getpid(), first)
    _later_starts[key] = _later_starts.get(key, 1) + 1
    return f"{first}.{_later_starts[key]}"


def _launch_id(place: Place, settings: Settings) -> str | None:
    """Return what all ranks know of their launch: the settings' run id, or the launcher's job.

    A process group of another size may join several launches. Ranks aren't compared: all must come to the same answer.
    """
    if settings.resume_run_id or settings.run_id:
        return settings.resume_run_id or settings.run_id
    rank = find_rank()
    return rank.job if rank is not None and rank.size == place.size else None


def _broadcast(text: str) -> str:
    """Return rank 0's text on every rank, which must all call this."""
    box = [text]
    sys.modules["torch.distributed"].broadcast_object_list(box, src=0)
    return box[0]


# ------------------------------------------------------------------------------------------ a framework's values

_ADDRESS: Final = re.compile(r" (?:at )?0x[0-9a-fA-F]+")
_OF_TORCH: Final = frozenset({"device", "dtype", "layout", "memory_format"})
"""Torch's own kinds whose text is short and holds no values."""


def plain(value: Any) -> Any:
    """Return a framework's config value as JSON, or as a short text that is the same in every process.

    Mappings, lists, sets, dataclasses and namespaces are taken apart. Classes and functions become their qualified
    names, tensors and arrays their type, shape and kind, other objects the name of their class: nothing is fetched
    from a device.
    """
    return _plain(value, 0, set())


def _plain(value: Any, level: int, above: set[int]) -> Any:
    if value is None or type(value) in {bool, int, float}:
        return value
    if isinstance(value, enum.Enum):
        return _plain(value.value, level, above)
    if isinstance(value, str):
        return to_text(value)
    if isinstance(value, (int, float)):  # subclasses, numpy's float64 among them
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType)):
        return _qualified(value)
    if isinstance(value, functools.partial):
        return f"partial({_plain(value.func, level, above)})"
    if level >= _LEVELS_MAX or id(value) in above:
        return _qualified(type(value))
    above.add(id(value))
    try:
        return _plain_object(value, level + 1, above)
    except Exception:  # noqa: BLE001 - the user's code, whatever it raises: its class can be told
        return _qualified(type(value))
    finally:
        above.discard(id(value))


def _plain_object(value: Any, level: int, above: set[int]) -> Any:
    kind = type(value)
    mapping = as_mapping(value)
    if mapping is not None:
        return {to_text(key): _plain(item, level, above) for key, item in mapping.items()}
    if isinstance(value, os.PathLike):
        return to_text(os.fsdecode(value))
    if isinstance(value, AbstractSet):
        return sorted((_plain(item, level, above) for item in value), key=brief)
    if isinstance(value, (bytes, bytearray)):
        return brief(value, _TEXT_MAX)
    if isinstance(value, Sequence) and not isinstance(value, (memoryview, range)):
        return [_plain(item, level, above) for item in value]
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        if kind.__module__ == "numpy" and value.shape == ():
            return _plain(value.item(), level, above)  # in this process's memory
        return f"{kind.__name__}({', '.join(map(str, value.shape))}) {value.dtype}"
    module = kind.__module__.partition(".")[0]
    if module in sys.stdlib_module_names or (module == "torch" and kind.__name__ in _OF_TORCH):
        return brief(_Said(_ADDRESS.sub("", str(value))), _TEXT_MAX)
    return _qualified(kind)


class _Said(str):
    """A text whose repr it is itself."""

    __slots__ = ()
    __repr__ = str.__str__


def _qualified(value: Any) -> str:
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    module = getattr(value, "__module__", None)
    return to_text(name if module in {None, "builtins"} else f"{module}.{name}")


# ------------------------------------------------------------------------------------------ what isn't installed


def require(module: str, package: str | None = None) -> Any:
    """Return a framework's module. Raises ConfigurationError with the command that installs it, where it is absent.

    ``package``: what pip calls it, where that isn't the module's own name.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise  # it is there, and something that it needs isn't
        name = module.partition(".")[0]
        raise ConfigurationError(
            "import", name, "this integration needs it, and it is not installed", f"Run `pip install {package or name}`"
        ) from error


__all__ = ["Place", "check_start", "find_place", "is_main_process", "plain", "require", "start"]
