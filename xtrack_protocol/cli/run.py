"""``xtrack run``."""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import click

from xtrack_protocol.cli._output import cell_text, remark, value_text
from xtrack_protocol.cli._runs import examples, parse_pairs
from xtrack_protocol.cli._seconds import Seconds
from xtrack_protocol.decode.text import duration_text
from xtrack_protocol.errors import (
    CommandNotExecutable,
    CommandNotFound,
    XTrackError,
)
from xtrack_protocol.runs import NAME_TAG, RunState
from xtrack_protocol.views.cells import error_text

if TYPE_CHECKING:
    from xtrack_protocol.collector import LaunchedRun, RunManager
    from xtrack_protocol.settings import Settings

SECTION = "Track"

TIMED_OUT: Final = 124
OWN_FAILURE: Final = 125
NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127

_LOOK_SECONDS: Final = 0.1
_SHOWN: Final = 12


class _RunCommand(click.Command):
    """Its own failures need a status that a worker's rarely is."""

    usage_status = OWN_FAILURE


@click.command(
    "run",
    cls=_RunCommand,
    context_settings={"allow_interspersed_args": False},
    epilog=examples(
        "xtrack run -- python train.py --lr 0.1",
        "xtrack run --name baseline --experiment mnist --tag seed=1 -- python train.py",
        "xtrack run --timeout 3600 -- bash -c 'source env.sh && python train.py'",
        "xtrack run --transport stdio -- ./worker-in-any-language",
        "xtrack run --run-id latest --resume -- python train.py",
    )
    + "\n\n\b\nExit status: the command's; 128 + n where signal n ended it; 124 after --timeout; 125 where xtrack\n"
    "itself fails before the start; 126 where the command can't be executed; 127 where it isn't there.",
)
@click.argument("cmd", nargs=-1, required=True, type=click.UNPROCESSED, metavar="CMD...")
@click.option("--name", help="The run's name.")
@click.option("--experiment", metavar="NAME", help="The experiment it belongs to. Default: XTRACK_EXPERIMENT.")
@click.option("--tag", "tags", multiple=True, metavar="K=V", help="A tag. May be given several times.")
@click.option("--run-id", metavar="ID", help="The run's id. Default: a new one.")
@click.option(
    "--resume", is_flag=True, help="Go on with the run of --run-id, which may be any RUN; its sessions are superseded."
)
@click.option("--timeout", type=Seconds(above=True), metavar="SECONDS", help="Stop the command after so long.")
@click.option(
    "--transport",
    metavar="HOW",
    help="How events come. local: the command writes to the spool. stdio: it sends frames to its descriptor 3. tcp, "
    "tls or unix, with an address or without (tcp://HOST:PORT): to the spool, and from there to a collector. Default: "
    "XTRACK_TRANSPORT where that names a collector, else local.",
)
@click.option("-q", "--quiet", is_flag=True, help="No live line and no summary.")
def command(
    cmd: tuple[str, ...],
    name: str | None,
    experiment: str | None,
    tags: tuple[str, ...],
    run_id: str | None,
    resume: bool,
    timeout: float | None,
    transport: str | None,
    quiet: bool,
) -> int:
    """Run a command and track it. What goes wrong with tracking after the start never stops the command."""
    asked = parse_pairs(tags, "tag")
    if name is not None:
        asked[NAME_TAG] = name  # wins over the name that the script has in its code. spec: EVT-TAGS-2
    if resume and run_id is None:
        raise click.UsageError("--resume needs --run-id, which may be `latest`.")
    try:
        from xtrack_protocol.collector import RunManager
        from xtrack_protocol.settings import load_settings

        settings = load_settings()
        manager = RunManager()
        signals = _Signals()
        checkpoint = None
        if resume and run_id is not None:
            run_id, checkpoint = _find_earlier(manager, run_id)
        launched = manager.start_run(
            cmd[0],
            cmd[1:],
            name=name,
            run_id=run_id,
            experiment_id=experiment,
            tags=asked,
            transport=transport,
            resume=resume,
            resume_checkpoint=checkpoint,
        )
    except CommandNotFound as error:
        return _refuse(error, NOT_FOUND)
    except CommandNotExecutable as error:
        return _refuse(error, NOT_EXECUTABLE)
    except (XTrackError, OSError) as error:
        return _refuse(error, OWN_FAILURE)
    with signals.passed_on_to(launched):
        return _Watch(launched, settings, quiet=quiet or settings.quiet, timeout=timeout).watch()


def _refuse(error: Exception, status: int) -> int:
    remark(f"xtrack: error: {error}")
    return status


def _find_earlier(manager: RunManager, ref: str) -> tuple[str, str | None]:
    """Return the id of the run to go on with, and the path of its last checkpoint."""
    store = manager.local_store()
    state = store.get_run(store.find_run(ref))
    held = [stored.checkpoint for stored in state.checkpoints if not stored.hidden]
    last = max(held, key=lambda checkpoint: checkpoint.step, default=None)
    return state.run_id, last.path if last else None


class _Signals:
    """Passes signals on to the worker: those that came before it was there, too."""

    def __init__(self) -> None:
        self._run: LaunchedRun | None = None
        self._early: list[int] = []
        self._before: dict[int, Any] = {}
        self._interrupts = 0
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup, background jobs
                self._before[number] = signal.signal(number, self._take)

    def passed_on_to(self, run: LaunchedRun) -> _Signals:
        """Pass them on from now on."""
        self._run = run
        for number in self._early:
            self._pass_on(number)
        return self

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, _: FrameType | None) -> None:
        if self._run is None:
            self._early.append(number)
        else:
            self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        """Pass a signal on; who presses Ctrl-C a third time means it."""
        assert self._run is not None
        self._interrupts += number == signal.SIGINT
        if number == signal.SIGINT and self._interrupts >= 3:
            number = getattr(signal, "SIGKILL", signal.SIGTERM)
        self._run.pass_on(number)


class _Watch:
    """Watches a launched run. Nothing that goes wrong here touches the worker."""

    def __init__(self, run: LaunchedRun, settings: Settings, *, quiet: bool, timeout: float | None) -> None:
        self._run = run
        self._settings = settings
        self._quiet = quiet
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._complained = False

    def watch(self) -> int:
        """Wait for the worker's end; return the exit status."""
        from xtrack_protocol.cli._live import Estimate, LiveLine, Pace, status_line

        live, pace, estimate = LiveLine(), Pace(), Estimate()
        if not self._quiet:
            live.give_back_when_stopped()
        state: RunState | None = None
        timed_out = False
        try:
            while True:
                try:
                    state = self._run.wait(_LOOK_SECONDS)
                except (XTrackError, OSError) as error:
                    self._complain(error)
                if self._run.poll() is not None:
                    break
                if self._deadline is not None and time.monotonic() >= self._deadline:
                    timed_out = True
                    self._deadline = None
                    live.close()
                    remark(f"xtrack: the time-out is over; stopping run {self._run.run_id}")
                    self._run.stop()
                elif live.is_shown and not self._quiet and not self._complained and pace.is_due():
                    begun = time.monotonic()
                    text = self._look(lambda now: status_line(self._run.state(), estimate, now))
                    if text is not None:
                        live.show(text)
                    pace.looked(time.monotonic() - begun)
        finally:
            live.close()
        code = self._run.exit_code
        assert code is not None
        if state is not None and not self._quiet:
            self._look(lambda _: _print_summary(state, self._run, self._settings))
        return TIMED_OUT if timed_out else code

    def _look(self, action: Any) -> Any:
        """Do what only shows something; what goes wrong with it is told once."""
        try:
            return action(time.time_ns() // 1000)
        except Exception as error:  # noqa: BLE001 - recorded; the command goes on whatever happens to its watcher
            self._complain(error)
            return None

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            remark(
                f"xtrack: warning: the run can't be shown: {str(error) or type(error).__name__}. The command goes on"
            )


def _print_summary(state: RunState, run: LaunchedRun, settings: Settings) -> None:
    for text in summary_lines(state, run.exit_code, run.signal, other_store=settings.store is not None):
        remark(text)
    sys.stderr.flush()


def summary_lines(
    state: RunState, code: int | None, signal_name: str | None, *, other_store: bool = False
) -> list[str]:
    """Return what came of a run, for people. ``other_store``: readers would look elsewhere by default."""
    how = f" (killed by {signal_name})" if signal_name else f" (exit status {code})" if code else ""
    took = "" if state.duration_ms is None else f" in {duration_text(state.duration_ms)}"
    named = f" {value_text(state.name)}" if state.name else ""
    lines = [f"xtrack: run{named} {state.status}{took}{how}"]
    if state.error and state.error.type not in {"Signal", "ExitCode"}:
        lines.append(f"  error        {error_text(state.error)}")
    params = [f"{key}={cell_text(value, 'json', exact=False)}" for key, value in state.params.items()]
    lines += _listed("params", [" ".join(params[at : at + 4]) for at in range(0, len(params), 4)])
    width = min(30, max((len(key) for key in state.metrics), default=0))
    metrics = []
    for key, metric in state.metrics.items():
        step = "" if metric.last.step is None else f" at step {metric.last.step}"
        low, high = cell_text(metric.min, "number", exact=False), cell_text(metric.max, "number", exact=False)
        span = f", min {low}, max {high}" if metric.count > 1 and metric.min is not None else ""
        metrics.append(f"{key:<{width}}  last {cell_text(metric.last.value, 'number', exact=False)}{step}{span}")
    lines += _listed("metrics", metrics)
    lines += _listed(
        "summary", [f"{key} = {cell_text(value, 'number', exact=False)}" for key, value in state.summary.items()]
    )
    best = state.best_checkpoint
    if state.checkpoints:
        at_best = f", the best at step {best.checkpoint.step}: {best.checkpoint.path}" if best else ""
        lines.append(f"  checkpoints  {len(state.checkpoints)}{at_best}")
    if state.artifacts:
        lines.append(f"  artifacts    {len(state.artifacts)}")
    lines.append(f"  events       {state.events}" + (f", {state.lost_events} LOST" if state.lost_events else ""))
    lines.append(f"  look at it   xtrack show {state.run_id}" + (" --store local:" if other_store else ""))
    return lines


def _listed(title: str, items: list[str]) -> list[str]:
    """Return items under each other, the first beside the title; of many, the first ones."""
    shown = items[:_SHOWN]
    lines = [f"  {title if place == 0 else '':<13}{item}" for place, item in enumerate(shown)]
    return [*lines, f"  {'':<13}and {len(items) - _SHOWN} more"] if len(items) > _SHOWN else lines
