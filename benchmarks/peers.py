"""Other trackers beside ours, in one run: each in an environment of its own, made once and kept."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import by_turns, median, seconds_of
from benchmarks.machine import ROOT
from benchmarks.peer_work import TRACKERS, WARM_UP

WORK = Path(__file__).with_name("peer_work.py")
SECONDS = 600
KILLED_AFTER = 200


def load_peers() -> dict[str, dict[str, Any]]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(Path(__file__).with_name("peers.toml").read_text(encoding="utf-8"))


def run_peers(names: Sequence[str] | None, folder: Path, envs: Path | None, *, quick: bool) -> list[dict[str, Any]]:
    """Measure ours and those ``names``, all for None, one after the other; one that fails says so in its row.

    Raises ValueError for a name that means none.
    """
    peers = load_peers()
    for name in names or ():
        if name not in peers:
            raise ValueError(f"no tracker is called {name!r}; there are {', '.join(peers)}")
    base = envs or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xtrack-benchmarks"
    found = []
    for name, about in peers.items():
        if names and name not in {"xtrack", *names}:
            continue
        row = measure(name, about, folder / f"peer-{name}", base, quick=quick)
        found.append(row)
        print(f"{name}: {json.dumps(row)}", flush=True)
    return found


# ------------------------------------------------------------------------------------------ environments


def python_of(home: Path) -> Path:
    return home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def site_of(home: Path) -> Path:
    (site,) = [*home.glob("lib/python*/site-packages"), *home.glob("Lib/site-packages")]
    return site


def environment(name: str, requires: Sequence[str], base: Path) -> Path:
    """Return an environment that has what ``requires`` says and nothing else, making it where it isn't there."""
    mark = hashlib.sha256(json.dumps([list(requires), sys.version]).encode()).hexdigest()[:10]
    home = base / f"{name}-{mark}"
    local = "." in requires
    if (home / "complete").exists() and not local:
        return home
    shutil.rmtree(home, ignore_errors=True)
    venv.create(home, with_pip=False)
    gently = ["nice", "-n", "19"] if shutil.which("nice") else []
    pip = [*gently, sys.executable, "-m", "pip", "--python", str(python_of(home)), "install", "--quiet"]
    wanted = [str(ROOT) if one == "." else one for one in requires]
    done = subprocess.run(
        [*pip, "--disable-pip-version-check", *wanted], capture_output=True, text=True, timeout=1800, check=False
    )
    if done.returncode:
        raise RuntimeError(f"can't be installed: {_last_line(done.stderr)}")
    (home / "complete").touch()
    return home


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1][:300]


# ------------------------------------------------------------------------------------------ measuring


def measure(name: str, about: dict[str, Any], folder: Path, base: Path, *, quick: bool) -> dict[str, Any]:
    """Return a tracker's row. ``error`` says what couldn't be measured, and why; the rest is there all the same."""
    row: dict[str, Any] = {"name": name, "version": "", "error": ""}
    folder.mkdir()
    try:
        home = environment(name, about["requires"], base)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return row | {"error": f"{type(error).__name__}: {error}"}
    site = site_of(home)
    row["version"] = _version(site, name)
    row["megabytes"] = sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) / 1e6
    row["distributions"] = len(list(site.glob("*.dist-info")))
    scalars = min(about.get("scalars", 10_000), 1000 if quick else 10_000)
    steps: list[Callable[[], dict[str, Any]]] = [
        lambda: {"import_ms": _import_ms(python_of(home), TRACKERS[name][1], 5 if quick else 15)},
        lambda: _calls(home, name, folder, 300 if quick else 2000),
        lambda: _rate(home, name, folder, scalars),
        lambda: _kept(home, name, folder),
    ]
    errors = []
    for step in steps:
        try:
            row |= step()
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            errors.append(f"{type(error).__name__}: {error}")
    return row | {"error": "; ".join(errors)}


def _calls(home: Path, name: str, folder: Path, number: int) -> dict[str, Any]:
    turns = [_work(home, name, "calls", folder / f"calls-{turn}", number) for turn in range(5)]
    return {key: median([one[key] for one in turns]) for key in ("p50_us", "p99_us", "ten_us")}


def _rate(home: Path, name: str, folder: Path, number: int) -> dict[str, Any]:
    """Return values a second, and what they take on disk beyond what a run of a hundred does."""
    few = _work(home, name, "few", folder / "few", WARM_UP)
    turns = [_work(home, name, "rate", folder / f"rate-{turn}", number) for turn in range(3)]
    taken = median([one["size"] for one in turns]) - few["size"]
    return {"rate": median([one["rate"] for one in turns]), "bytes": taken / number}


def _kept(home: Path, name: str, folder: Path) -> dict[str, Any]:
    _work(home, name, "kill", folder / "killed", KILLED_AFTER, killed=True)
    return {"kept": _work(home, name, "count", folder / "killed", KILLED_AFTER)["kept"]}


def _version(site: Path, name: str) -> str:
    wanted = {"xtrack": "xtrack_protocol"}.get(name, name).replace("-", "_").lower()
    for path in site.glob("*.dist-info"):
        distribution, _, version = path.name.removesuffix(".dist-info").partition("-")
        if distribution.lower() == wanted:
            return version
    return ""


def _environ(folder: Path) -> dict[str, str]:
    kept = {
        key: value for key, value in os.environ.items() if key in {"PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT"}
    }
    return {**kept, "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "", "DO_NOT_TRACK": "1"}


def _import_ms(python: Path, code: str, rounds: int) -> float:
    """Return what the import takes over Python that does nothing, by turns."""

    def script(text: str) -> float:
        return seconds_of(lambda: subprocess.run([str(python), "-c", text], check=True, capture_output=True))()

    bare, ours = by_turns(rounds, lambda: script("pass"), lambda: script(code))
    return 1000 * median([one - other for one, other in zip(ours, bare, strict=True)])


def _work(home: Path, name: str, what: str, folder: Path, number: int, *, killed: bool = False) -> dict[str, Any]:
    """Let the tracker work in a process of its own; return what that has found. ``killed``: it ends by SIGKILL."""
    result = folder.parent / f"{folder.name}-{what}.json"
    done = subprocess.run(
        [str(python_of(home)), str(WORK), name, what, str(folder), str(number)],
        env={**_environ(folder.parent), "BENCH_RESULT": str(result)},
        cwd=folder.parent,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS,
        check=False,
    )
    if killed:
        if done.returncode >= 0:
            raise RuntimeError(f"{what}: exit status {done.returncode} instead of a kill: {_last_line(done.stderr)}")
        return {}
    if done.returncode or not result.exists():
        raise RuntimeError(f"{what}: exit status {done.returncode}: {_last_line(done.stderr)}")
    return json.loads(result.read_text())
