"""Which rank logs, and one run for all ranks: every branch of the precedence, in real processes."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import functools
import json
import re
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.integrations import _ranks

SCRIPT = """
import json, os
from xtrack_protocol import XTrackError
from xtrack_protocol.integrations import _ranks

said = {"main": _ranks.is_main_process()}
try:
    every = bool(os.environ.get("ALL"))
    runs = [_ranks.start("t", all_ranks=every, **options) for options in json.loads(os.environ["STARTS"])]
    said["runs"] = [run and [run.run_id, run.worker_id] for run in runs]
    for run in runs:
        if run is not None:
            run.log_metric("loss", 0.5, step=1)
            run.end()
except XTrackError as error:
    said["error"] = str(error)
print(json.dumps(said))
"""

PLACES = ({"RANK": "0", "WORLD_SIZE": "2"}, {"RANK": "1", "WORLD_SIZE": "2"})
LOCAL = {"LOCAL_WORLD_SIZE": "2"}
ELASTIC = {"TORCHELASTIC_RUN_ID": "my-job", "GROUP_WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1"}


def launch(workshop: Any, variables: dict[str, str] | None = None, *starts: dict[str, Any]) -> list[dict[str, Any]]:
    common = {**(variables or {}), "STARTS": json.dumps(starts or [{}])}
    script = workshop.write(SCRIPT)
    return [json.loads(out) for out in workshop.together(script, *({**common, **place} for place in PLACES))]


def test_alone(workshop: Any) -> None:
    script = workshop.write(SCRIPT)
    for variables in ({}, {"ALL": "1"}):
        said = json.loads(workshop.python(script, STARTS="[{}]", XTRACK_QUIET="1", **variables))
        assert said["main"]
        assert said["runs"][0][1] is None
    assert [state.status for state in workshop.runs()] == ["completed", "completed"]


def test_rank_0_logs_and_warns_of_nothing(workshop: Any) -> None:
    zero, one = launch(workshop)
    assert (zero["main"], one["main"], one["runs"]) == (True, False, [None])
    state = workshop.state()
    assert (state.run_id, state.status, state.workers) == (zero["runs"][0][0], "completed", ("0",))
    alone = workshop.python(workshop.folder / "script.py", STARTS="[{}]", **PLACES[0])
    assert "warning" not in alone


@pytest.mark.parametrize(
    ("variables", "options", "run_id"),
    [
        ({"XTRACK_RUN_ID": "theirs", **LOCAL, **ELASTIC}, {"run_id": "given"}, "given"),
        ({"XTRACK_RUN_ID": "theirs", **LOCAL}, {}, "theirs"),
        ({"XTRACK_RUN_ID": "theirs", **ELASTIC}, {}, "theirs"),
        (LOCAL, {}, "ranks-.+"),
        (ELASTIC, {}, "torch-my-job"),
    ],
)
def test_all_ranks_come_to_one_run(workshop: Any, variables: dict[str, str], options: Any, run_id: str) -> None:
    ((zero,), (one,)) = (said["runs"] for said in launch(workshop, {"ALL": "1", **variables}, options))
    assert zero[0] == one[0]
    assert re.fullmatch(run_id, zero[0])
    assert (zero[1], one[1]) == ("0", "1")
    state = workshop.state()
    assert (state.status, state.world_size, state.workers) == ("completed", 2, ("0", "1"))


@pytest.mark.parametrize("variables", [{}, {**ELASTIC, "TORCHELASTIC_RUN_ID": "none"}])
def test_ranks_that_share_nothing_get_no_runs(workshop: Any, variables: dict[str, str]) -> None:
    for said in launch(workshop, {"ALL": "1", **variables}):
        assert "XTRACK_RUN_ID" in said["error"]
        assert "of 2" in said["error"]
    assert workshop.runs() == []


def test_more_runs_of_one_launch_are_shared_as_well(workshop: Any) -> None:
    zero, one = (said["runs"] for said in launch(workshop, {"ALL": "1", "XTRACK_RUN_ID": "first"}, {}, {}, {}))
    assert [run_id for run_id, _ in zero] == [run_id for run_id, _ in one] == ["first", "first.2", "first.3"]
    later = {state.run_id: state for state in workshop.runs()}["first.3"]
    assert (later.parent_run_id, later.workers, later.status) == ("first", ("0", "1"), "completed")


def test_the_scripts_own_run_and_settings(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run: Any = object()
    monkeypatch.setattr(_ranks, "find_rank", lambda: None)
    assert _ranks.start(run=run) is run
    other = _ranks.Place(1, 2)
    assert _ranks.start(run=run, place=other) is None
    assert _ranks.start(run=run, place=other, all_ranks=True) is run
    options: dict[str, Any] = {"worker_id": "mine", "world_size": 7, "run_id": "r"}
    _ranks._share(options, other, _ranks.load_settings())
    assert options == {"worker_id": "mine", "world_size": 7, "run_id": "r"}


# ------------------------------------------------------------------------------------------ a framework's values


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Config:
    size: int
    inner: Any = None


class Opaque:
    def __repr__(self) -> str:
        raise AssertionError("nobody may ask: it could read from a device")


class Tensor:
    shape = (3, 4)
    dtype = "float32"

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"nobody may read {name}")


def test_plain_values() -> None:
    values = {
        "lr": 0.1,
        "colour": Colour.RED,
        "config": Config(1, Namespace(path=Path("a/b"))),
        "set": {2, 1},
        "pair": (1, [None, True]),
        "kind": Opaque,
        "function": test_plain_values,
        "partial": functools.partial(json.dumps, indent=1),
        "object": Opaque(),
        "tensor": Tensor(),
        "when": dt.timedelta(days=1),
        "pattern": re.compile("x"),
        "lock": SimpleNamespace(generator=(item for item in ())),
        1: b"bytes",
    }
    here = __name__
    assert _ranks.plain(values) == {
        "lr": 0.1,
        "colour": "red",
        "config": {"size": 1, "inner": {"path": "a/b"}},
        "set": [1, 2],
        "pair": [1, [None, True]],
        "kind": f"{here}.Opaque",
        "function": f"{here}.test_plain_values",
        "partial": "partial(json.dumps)",
        "object": f"{here}.Opaque",
        "tensor": "Tensor(3, 4) float32",
        "when": "1 day, 0:00:00",
        "pattern": "re.compile('x')",
        "lock": {"generator": "<generator object test_plain_values.<locals>.<genexpr>>"},
        "1": "b'bytes'",
    }


def test_plain_values_come_to_an_end() -> None:
    endless: list[Any] = []
    endless += [endless, endless]
    assert _ranks.plain(endless) == ["list", "list"]
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    assert "list" in json.dumps(_ranks.plain(deep))


def test_what_is_not_installed() -> None:
    with pytest.raises(ConfigurationError, match=r"no_such_framework.*not installed.*Run `pip install its-name`"):
        _ranks.require("no_such_framework.trainer", "its-name")
    assert _ranks.require("json.decoder").__name__ == "json.decoder"
