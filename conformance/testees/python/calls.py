"""The calls of a training, by the names that the suite has for them."""

from __future__ import annotations

from typing import Any

from values_told import to_tagged

RUN_OPTIONS = {
    "run_id": "run_id",
    "worker_id": "worker_id",
    "name": "name",
    "tags": "tags",
    "experiment_id": "experiment_id",
    "parent_id": "parent_run_id",
    "world_size": "world_size",
}


def make_call(here: Any, call: str, given: dict[str, Any]) -> Any:  # noqa: C901 - a table
    """Make one call of the training's; return what it returns."""
    run = here.run
    assert run is not None
    match call:
        case "param":
            run.log_param(given["key"], given["value"])
        case "metric":
            run.log_metric(given.pop("key"), given.pop("value"), **given)
        case "metrics":
            run.log_metrics(given.pop("values"), **given)
        case "log":
            run.log(
                given["msg"], **{name: given[name] for name in ("level",) if name in given}, **given.get("fields", {})
            )
        case "tags":
            run.set_tags(given["tags"])
        case "status":
            run.set_status(given["status"], given.get("msg"))
        case "artifact":
            meta = given.pop("meta", None)
            run.log_artifact(given.pop("path"), metadata=meta, **given)
        case "checkpoint":
            run.log_checkpoint(**given)
        case "alert":
            run.alert(**given)
        case "summary":
            run.summary(given["values"])
        case "commands":
            for command in run.commands():
                here.commands.append(
                    {"cmd_id": command.command_id, "type": command.type, "payload": to_tagged(command.payload or {})}
                )
        case "flush":
            return run.flush(given["until"], **{name: given[name] for name in ("timeout",) if name in given})
        case "end":
            run.end(**given)
        case _:
            raise ValueError(f"no call {call!r}")
    return None
