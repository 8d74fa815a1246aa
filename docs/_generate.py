# ruff: noqa: INP001
"""Writes the parts of the reference that are tables in the code: ``python docs/_generate.py``."""

from __future__ import annotations

from pathlib import Path

from xtrack_protocol.settings import SettingRow, settings_table

SETTINGS = Path(__file__).parent / "reference" / "settings.md"

_HEAD = """\
# Settings

An argument of `Tracker.start_run` wins over the environment, the environment over `xtrack.toml`, the file over the
default. The file is the `xtrack.toml` in the working directory, or in the nearest folder above it that has one;
`XTRACK_CONFIG` names another. A variable that is empty counts as unset. Relative paths in the file start from the
file's own folder.

```toml
# xtrack.toml
dir = "tracking"
experiment = "iris"
env_vars = ["CUDA_VISIBLE_DEVICES", "SLURM_*"]
quiet = true
```

A key that there is not, or a value of the wrong type, is an error when the run is started; it names the variable, or
the file and the key. Python 3.10 reads the file only where `tomli` is installed.

| Environment variable | In `xtrack.toml` | Meaning | Default |
|---|---|---|---|
"""


def settings_page() -> str:
    """Return the page of the settings."""
    return _HEAD + "".join(_row(row) for row in settings_table())


def _row(row: SettingRow) -> str:
    return f"| `{row.variable}` | `{row.name}` | {row.doc.replace('|', chr(92) + '|')} | {_default(row.default)} |\n"


def _default(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"`{int(value)}`"
    if isinstance(value, tuple):
        return " ".join(f"`{item}`" for item in value)
    return f"`{value}`"


if __name__ == "__main__":
    SETTINGS.write_text(settings_page())
