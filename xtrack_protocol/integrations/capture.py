"""Capture of standard output and error: what the training prints becomes log events of its run.

::

    with xtrack.start_run("train") as run:
        capture_output(run)
        print("epoch 1")        # on the terminal as before, and a log event of logger "stdout"

The terminal gets everything as without it.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Any, Final, get_args

from typing_extensions import Self

from xtrack_protocol.emitter.run import Run
from xtrack_protocol.emitter.values import describe
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.integrations._output import DROPPED, Output
from xtrack_protocol.integrations._run import guard, run_or_current, warn
from xtrack_protocol.ir.messages import LogLevel

LINES_PER_SECOND: Final = 100.0
"""Lines of each output that are logged a second in the long run; ten times as many at once."""


class OutputCapture:
    """Logs what is printed, as ``log`` events of logger ``stdout`` or ``stderr``, from ``start()`` to ``stop()``.

    As a context manager it starts and stops with the block; the run's end stops it too. ``run``: by default the
    current one. ``stdout``, ``stderr``: which. ``stderr_level``: the level of the lines of stderr, where progress bars
    go as well.

    By default it sees what Python code writes to the two streams, in this process and in forked children, which log it
    to streams of their own. ``descriptors=True`` takes the descriptors 1 and 2: also what C code and started programs
    write. A process of its own then stands between them and the terminal (POSIX only).

    Of a line that is written again and again, a progress bar, the last state is logged; of a line of more than 65,536
    characters the beginning; of more than ``lines_per_second`` the first ones, with a line that says how many were left
    out. Empty lines, colours, and the emitter's own lines are left out.

    Raises ConfigurationError for arguments that are wrong, and without a run. After that nothing raises.
    """

    def __init__(
        self,
        run: Run | None = None,
        *,
        stdout: bool = True,
        stderr: bool = True,
        descriptors: bool = False,
        stderr_level: LogLevel = "info",
        lines_per_second: float = LINES_PER_SECOND,
    ) -> None:
        if stderr_level not in get_args(LogLevel):
            raise ConfigurationError("stderr_level", stderr_level, f"must be one of {', '.join(get_args(LogLevel))}")
        if not _is_rate(lines_per_second):
            raise ConfigurationError("lines_per_second", lines_per_second, "must be a number above 0")
        if descriptors and os.name != "posix":
            raise ConfigurationError("descriptors", True, "can be captured on POSIX systems only", "Leave it out")
        self._run = run_or_current(run)
        self._descriptors_wanted = descriptors
        levels: dict[str, LogLevel] = {}
        if stdout:
            levels["stdout"] = "info"
        if stderr:
            levels["stderr"] = stderr_level
        self._outputs = {name: Output(self._run, name, level, lines_per_second) for name, level in levels.items()}
        self._hooks: list[_Hook] = []
        self._descriptors: Any = None
        self._pid = 0
        self._tells = False

    def start(self) -> Self:
        """Begin, where it hasn't begun. A run that has ended gets nothing."""
        if self._pid or self._run.ended:
            return self
        self._pid = os.getpid()
        with guard(self._run, "capture_output"):
            if self._descriptors_wanted:
                self._capture_descriptors()
            self._hook_streams()
            if not self._tells:
                self._tells = True
                self._run.call_at_end(self.stop)
        return self

    def stop(self) -> None:
        """Give the streams back, and log what has no line's end yet. May be called again, and in any order with other
        captures. A forked child leaves its parent's capture as it is.
        """
        if self._pid != os.getpid():
            return
        with guard(self._run, "capture_output"):
            while self._hooks:
                self._hooks.pop().remove()
            descriptors, self._descriptors = self._descriptors, None
            if descriptors is not None and not descriptors.close():
                warn(self._run, "capture", "the last of what was printed could not be logged in time")
            for output in self._outputs.values():
                output.finish()
        self._pid = 0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _capture_descriptors(self) -> None:
        from xtrack_protocol.integrations._descriptors import Descriptors

        numbers = {"stdout": 1, "stderr": 2}
        try:
            self._descriptors = Descriptors({numbers[name]: output for name, output in self._outputs.items()})
        except OSError as error:
            text = f"stdout and stderr can't be captured below Python, only what Python writes: {describe(error)}"
            warn(self._run, "capture", text)

    def _hook_streams(self) -> None:
        """Hook into the streams of Python whose text doesn't come by a captured descriptor."""
        seen: list[object] = []
        for name, output in self._outputs.items():
            stream = getattr(sys, name)
            if stream is None or any(stream is other for other in seen):
                continue  # none, as in pythonw; or both are one, and its text would come twice
            seen.append(stream)
            if self._descriptors is not None and _descriptor_of(stream) in {1, 2}:
                continue
            try:
                self._hooks.append(_Hook(stream, output))
            except (AttributeError, TypeError) as error:
                warn(self._run, "capture", f"{name} can't be captured: {describe(error)}")


class _Hook:
    """In the place of a stream's ``write``, which it calls: the stream stays itself, terminal, encoding and all.

    Others may have hooked in after it when it is removed. Then it stays, and only passes on.
    """

    def __init__(self, stream: Any, output: Output) -> None:
        self._stream = stream
        self._before = stream.write
        self._was_own = "write" in vars(stream)
        self._output: Output | None = output
        self._write = self._pass_on  # one bound method, which is found again
        stream.write = self._write

    def _pass_on(self, text: Any, *arguments: Any) -> Any:
        result = self._before(text, *arguments)
        output = self._output
        if output is not None and isinstance(text, str):
            output.write(text)
        return result

    def remove(self) -> None:
        """Put back what was there before, as far as this is still in its place."""
        self._output = None
        if vars(self._stream).get("write") is not self._write:
            return
        if self._was_own:
            self._stream.write = self._before
        else:
            del self._stream.write


def _descriptor_of(stream: Any) -> int | None:
    try:
        return int(stream.fileno())
    except Exception:  # noqa: BLE001 - notebooks and tests have streams of all kinds
        return None


def _is_rate(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")


def capture_output(
    run: Run | None = None,
    *,
    stdout: bool = True,
    stderr: bool = True,
    descriptors: bool = False,
    stderr_level: LogLevel = "info",
    lines_per_second: float = LINES_PER_SECOND,
) -> OutputCapture:
    """Log what is printed from now to the run's end: :class:`OutputCapture`, started."""
    return OutputCapture(
        run,
        stdout=stdout,
        stderr=stderr,
        descriptors=descriptors,
        stderr_level=stderr_level,
        lines_per_second=lines_per_second,
    ).start()


__all__ = ["DROPPED", "LINES_PER_SECOND", "OutputCapture", "capture_output"]
