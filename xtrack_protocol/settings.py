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

import msgspec

from xtrack_protocol._value import Value
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


def signal_number(given: object) -> int:
    """Return the number of a signal that can be caught, given by that or by its name. Raises ValueError for others."""
    import signal  # only those who want one need it

    try:
        name = given.strip().upper() if isinstance(given, str) else signal.Signals(given).name  # type: ignore[arg-type]
        number = signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    except (KeyError, ValueError):
        raise ValueError(f"there is no signal {given!r} on this system") from None
    if number.name in {"SIGKILL", "SIGSTOP"}:
        raise ValueError(f"{number.name} can't be caught by any process")
    return number


def _signals(value: object) -> tuple[tuple[str, str], ...]:
    pairs = []
    for item in _names(value):
        name, _, action = (part.strip() for part in item.partition("="))
        if not (name and action):
            raise ValueError("must be signals, each with what it does, as in TERM=end,USR1=checkpoint_now")
        signal_number(name)
        pairs.append((name, action))
    return tuple(pairs)


def _port(value: object) -> int:
    number = _whole_number(value, least=1)
    if number > 65535:
        raise ValueError("must be a port: 1 to 65535")
    return number


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError("must be a number of seconds")
    try:
        number = float(value)
    except ValueError:
        raise ValueError("must be a number of seconds") from None
    if not 0 <= number < float("inf"):
        raise ValueError("must be a number of seconds, 0 or more")
    return number


def _one_of(*choices: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if value not in choices:
            raise ValueError(f"must be one of: {', '.join(choices)}")
        return str(value)

    return parse


class _Setting(msgspec.Struct, frozen=True):
    """What is to be known of a setting beside its name and type."""

    doc: str
    parse: Callable[[object], Any]
    default: Any
    secret: bool


_settings: Final[list[_Setting]] = []
"""In the order of the fields of Settings."""


def _setting(doc: str, parse: Callable[[object], Any], default: Any, *, secret: bool = False) -> Any:
    _settings.append(_Setting(doc, parse, default, secret))
    return default


class Settings(Value, frozen=True, kw_only=True):
    """Every setting, resolved. ``XTRACK_`` and a field's name in capitals is its environment variable.

    Its repr never shows the key.
    """

    transport: str = _setting("how events leave: local, tcp, unix, file, stdio, memory, null", _text, "local")
    dir: Path | None = _setting("the spool and the local index (default `~/.xtrack`)", _path, None)
    file: Path = _setting("where the file transport writes", _path, Path("xtrack_events.bin"))
    socket: Path = _setting("the Unix socket of a collector", _path, Path("/tmp/xtrack.sock"))  # noqa: S108 - published
    host: str = _setting("the collector of the tcp transport", _text, "localhost")
    port: int = _setting("its port", _port, 9999)
    key: str | None = _setting("the key that a collector asks for", _text, None, secret=True)
    key_file: Path | None = _setting(
        "a file that holds the key, in its stead; nobody but its owner may read it", _path, None
    )
    tls: bool = _setting("1: speak TLS with the collector; the settings below imply it", _flag, False)
    tls_ca: Path | None = _setting("certificates to trust instead of the system's, PEM", _path, None)
    tls_fingerprint: str | None = _setting(
        "the SHA-256 of the one certificate to trust, in hex, as `xtrack serve` prints it", _text, None
    )
    tls_cert: Path | None = _setting("this side's certificate, for a collector that asks for one, PEM", _path, None)
    tls_key: Path | None = _setting(
        "its private key, PEM, without a passphrase; nobody but its owner may read it", _path, None
    )
    insecure: bool = _setting(
        "1: send the key in clear text beyond this machine, where anybody on the way can read it", _flag, False
    )
    on_full: str = _setting(
        "what to do when the disk is full: drop the newest events and say so, or block the training",
        _one_of("drop", "block"),
        "drop",
    )
    end_timeout: float = _setting(
        "seconds that the end of a run waits for the collector; what is left stays in the spool", _seconds, 30.0
    )
    fd: int | None = _setting("the descriptor for frames of the stdio transport", _whole_number, None)
    run_id: str | None = _setting("the id of the process's first run; later ones are its children", _text, None)
    experiment: str | None = _setting("the experiment that runs belong to", _text, None)
    worker_id: str | None = _setting(
        "this worker's id in a run of several (default: the rank that its launcher tells)", _text, None
    )
    world_size: int | None = _setting(
        "how many workers the run needs to be complete (default: what their launcher says)", _count, None
    )
    resume_run_id: str | None = _setting("the run to go on with", _text, None)
    resume_checkpoint: str | None = _setting("the checkpoint to go on from, for the training script", _text, None)
    resume: str = _setting(
        "auto: go on with earlier sessions of this worker under XTRACK_RUN_ID, if there are any, as a job does that is "
        "requeued or tried again",
        _one_of("never", "auto"),
        "never",
    )
    signals: tuple[tuple[str, str], ...] = _setting(
        "what signals do, comma-separated: `TERM=end` ends the run as preempted, `USR1=checkpoint_now` makes it that "
        "command, or any other",
        _signals,
        (),
    )
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

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        values = ((name, setting, getattr(self, name)) for name, setting in _SETTINGS.items())
        return [(name, "***" if setting.secret and value is not None else value) for name, setting, value in values]

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


_SETTINGS: Final = dict(zip(Settings.__struct_fields__, _settings, strict=True))
"""The table: every setting by its name."""


class SettingRow(Value, frozen=True):
    """A row of the documented table."""

    name: str
    variable: str
    default: object
    doc: str
    secret: bool = False


def settings_table() -> list[SettingRow]:
    """Return the documented table, a row a setting."""
    return [
        SettingRow(name, _variable(name), setting.default, setting.doc, setting.secret)
        for name, setting in _SETTINGS.items()
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
    for name in in_file:
        if name not in _SETTINGS:
            shown = "***" if _may_be_secret(name, in_file[name]) else in_file[name]
            raise ConfigurationError(f"{path}: {name}", shown, "no such setting", f"Known: {', '.join(_SETTINGS)}")
    values: dict[str, Any] = {}
    for name, setting in _SETTINGS.items():
        variable = _variable(name)
        if environ.get(variable):
            values[name] = _parse(variable, environ[variable], setting)
        elif path and name in in_file:
            value = _parse(f"{path}: {name}", in_file[name], setting)
            values[name] = path.absolute().parent / value if isinstance(value, Path) else value
    return Settings(**values)


def _parse(where: str, value: object, setting: _Setting) -> Any:
    try:
        return setting.parse(value)
    except (TypeError, ValueError) as error:
        shown = "***" if setting.secret else value
        raise ConfigurationError(where, shown, str(error)) from error


def _may_be_secret(name: str, value: object) -> bool:
    """Tell whether what stands under an unknown name could be a key that was put there by mistake."""
    return any(word in name.lower() for word in ("key", "token", "secret", "pass")) or "xtk_" in str(value)


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
