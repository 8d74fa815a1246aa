"""Commands to the workers of a local run, through the mailbox in its folder. spec: CTL-2, CTL-4, RST-7"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path

from xtrack_protocol.collector.localruns import live_workers
from xtrack_protocol.errors import LaunchError
from xtrack_protocol.ir import Command, CommandResult, Json
from xtrack_protocol.spool import SpoolDir
from xtrack_protocol.spool.mailbox import post, wait_for_answers


def new_command(
    run_id: str, kind: str, payload: Mapping[str, Json] | None = None, worker_id: str | None = None
) -> Command:
    """Return a command with an id of its own."""
    return Command(uuid.uuid4().hex, kind, dict(payload or {}), run_id, worker_id)


def send_command(
    root: str | Path | None,
    run_id: str,
    type: str,  # noqa: A002 - the wire's name
    payload: Mapping[str, Json] | None = None,
    *,
    worker_id: str | None = None,
    timeout: float = 5.0,
) -> list[CommandResult]:
    """Send a command to the live workers of a local run, and return their answers.

    ``root``: the folder that XTRACK_DIR names. ``type``: pause, resume, stop, checkpoint_now, update_params, adjust_lr,
    custom, or any other text. ``worker_id``: only this worker. Waits until every live worker has answered, at most
    ``timeout`` seconds, and returns the answers there are; forked children answer if they listen, and aren't waited
    for. Raises LaunchError when no worker is alive, when nobody answers, and when the mailbox can't be written.
    """
    spool = SpoolDir(root)
    workers = [
        local
        for local in live_workers(spool.run_dir(run_id))
        if worker_id is None or local.stream.worker_id == worker_id
    ]
    if not workers:
        who = f"no worker {worker_id!r}" if worker_id is not None else "no worker"
        raise LaunchError(f"{type}: {who} of run {run_id!r} is alive on this machine to take a command")
    command = new_command(run_id, type, payload, worker_id)
    mailbox = spool.mailbox(run_id)
    try:
        post(mailbox, command)
        answers = wait_for_answers(mailbox, command.command_id, expected=len(workers), timeout=timeout)
    except OSError as error:
        raise LaunchError(f"{type}: the mailbox {mailbox} can't be used: {error.strerror or error}") from error
    if not answers:
        raise LaunchError(
            f"{type}: no worker of run {run_id!r} answered within {timeout:g} s. Commands reach a script that calls "
            "run.commands() or run.should_stop() in its loop, or has set run.on_command()"
        )
    return answers
