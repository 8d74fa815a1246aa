"""The settings: one table for arguments, environment variables and ``xtrack.toml``.

An argument wins over the environment, the environment over the file, the file over the default. The file is
``xtrack.toml`` in the working directory or the nearest folder above it; XTRACK_CONFIG names another. Its keys are the
settings' names; relative paths in it start from its own folder. A variable that is empty counts as unset.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from xtrack_protocol.errors import ConfigurationError

CONFIG_FILE: Final = "xtrack.toml"


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("must be a text")
    return value


def _path(value: object) -> Path:
    text = _text(value)
    if not text or "\0" in text:
        raise ValueError("must be a path")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # ~ without a home directory
        raise ValueError(str(error)) from None


def _flag(value: object) -> bool:
    text = str(value).strip().lower() if isinstance(value, (bool, int, str)) else "?"
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off", ""}:
        return False
    raise ValueError("must be 1 or 0")


def _whole_number(value: object, least: int = 0) -> int:
    problem = f"must be a whole number, {least} or more"
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise TypeError(problem)
    try:
        number = int(value)
    except ValueError:
        raise ValueError(problem) from None
    if not least <= number < 2**31:
        raise ValueError(problem)
    return number


def _count(value: object) -> int:
    return _whole_number(value, least=1)


def _names(value: object) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(_text(item) for item in value)
    return tuple(name.strip() for name in _text(value).split(",") if name.strip())


def _setting(doc: str, parse: Callable[[object], Any], default: Any) -> Any:
    return attrs.field(default=default, metadata={"doc": doc, "parse": parse})


@attrs.frozen(kw_only=True)
class Settings:
    """Every setting, resolved. ``XTRACK_`` and a field's name in capitals is its environment variable."""

    transport: str = _setting("how events leave: local, file, stdio, unix, memory, null", _text, "local")
    dir: Path | None = _setting("the spool and the local index (default `~/.xtrack`)", _path, None)
    file: Path = _setting("where the file transport writes", _path, Path("xtrack_events.bin"))
    socket: Path = _setting("the Unix socket of a collector", _path, Path("/tmp/xtrack.sock"))  # noqa: S108 - published
    fd: int | None = _setting("the descriptor for frames of the stdio transport", _whole_number, None)
    run_id: str | None = _setting("the id of the process's first run; later ones are its children", _text, None)
    experiment: str | None = _setting("the experiment that runs belong to", _text, None)
    worker_id: str | None = _setting("this worker's id in a run of several", _text, None)
    world_size: int | None = _setting("how many workers the run needs to be complete", _count, None)
    resume_run_id: str | None = _setting("the run to go on with", _text, None)
    resume_checkpoint: str | None = _setting("the checkpoint to go on from, for the training script", _text, None)
    store: str | None = _setting("the store that readers open (default: the local one)", _text, None)
    additive: bool = _setting(
        "1: the peer of a stdio or unix transport knows tags, alerts and other additive events", _flag, False
    )
    quiet: bool = _setting("1: no lines on stderr at start and end", _flag, False)
    strict: bool = _setting("1: errors of use raise instead of warning; for tests", _flag, False)
    env_vars: tuple[str, ...] = _setting(
        "names of environment variables to record with the run, `*` allowed, comma-separated",
        _names,
        ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "WORLD_SIZE", "RANK", "LOCAL_RANK"),
    )


@attrs.frozen
class SettingRow:
    """A row of the documented table."""

    name: str
    variable: str
    default: object
    doc: str


def settings_table() -> list[SettingRow]:
    """Return the documented table, a row a setting."""
    return [
        SettingRow(field.name, _variable(field.name), field.default, field.metadata["doc"])
        for field in attrs.fields(Settings)
    ]


def _variable(name: str) -> str:
    return f"XTRACK_{name.upper()}"


def load_settings(environ: Mapping[str, str] | None = None, start: Path | None = None) -> Settings:
    """Return the settings of ``environ`` (default: the process's) and the file found from ``start`` upwards.

    Raises ConfigurationError that names the variable, or the file and the key.
    """
    environ = os.environ if environ is None else environ
    path = _find_file(environ, start)
    in_file = _read_file(path) if path else {}
    fields = {field.name: field for field in attrs.fields(Settings)}
    for name in in_file:
        if name not in fields:
            raise ConfigurationError(f"{path}: {name}", in_file[name], "no such setting", f"Known: {', '.join(fields)}")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        variable = _variable(name)
        if environ.get(variable):
            values[name] = _parse(variable, environ[variable], field)
        elif path and name in in_file:
            value = _parse(f"{path}: {name}", in_file[name], field)
            values[name] = path.absolute().parent / value if isinstance(value, Path) else value
    return Settings(**values)


def _parse(where: str, value: object, field: attrs.Attribute[Any]) -> Any:
    try:
        return field.metadata["parse"](value)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(where, value, str(error)) from error


def _find_file(environ: Mapping[str, str], start: Path | None) -> Path | None:
    named = environ.get("XTRACK_CONFIG")
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            raise ConfigurationError("XTRACK_CONFIG", named, "no such file")
        return path
    try:
        here = (start or Path.cwd()).absolute()
    except FileNotFoundError:  # the working directory was removed under us
        return None
    for folder in (here, *here.parents):
        path = folder / CONFIG_FILE
        with contextlib.suppress(PermissionError):  # a folder above that we may not enter holds no settings of ours
            if path.is_file():
                return path
    return None


def _read_file(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError:
            raise ConfigurationError(
                "xtrack.toml", str(path), "Python 3.10 reads no TOML by itself", "Run `pip install tomli`"
            ) from None
    try:
        with path.open("rb") as file:
            content: dict[str, Any] = tomllib.load(file)
            return content
    except (OSError, ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise ConfigurationError("xtrack.toml", str(path), f"can't be read: {error}") from error
