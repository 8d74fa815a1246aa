"""A handler of Python's ``logging``: its records become log events of a run.

::

    logging.getLogger().addHandler(XTrackHandler())
    with xtrack.start_run("train"):
        logging.getLogger("train").warning("learning rate halved", extra={"step": 100, "lr": 0.05})
"""

from __future__ import annotations

import logging
import operator
import threading
from typing import Any, Final

from xtrack_protocol.emitter.current import current_run
from xtrack_protocol.emitter.run import Run
from xtrack_protocol.emitter.values import shown_in_error
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.ir.messages import LogLevel

_OWN: Final = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
"""What every record has; what else it has, the call has given as ``extra``."""

_ARGUMENTS: Final = frozenset({"self", "message", "level", "logger", "step"})
"""Arguments of ``run.log``, which a field can't be named as."""


class XTrackHandler(logging.Handler):
    """Logs records to ``run``; None: to the run that was started last and hasn't ended, at each record.

    Records without a run, and those after its end, are dropped without a word: a handler is often there before the run
    and after it. ``level``: the least level, as of any handler.

    The event has the record's message and logger; ``debug``, ``info``, ``warning`` or ``error`` as its level (critical
    is error, levels between go down); ``extra={...}`` as its fields, of which a whole number called ``step`` becomes
    the event's step; and an exception as the fields ``exception`` (its last line) and ``traceback``. A formatter, where
    one is set that isn't ``basicConfig``'s own, makes the message, traceback included.

    Thread-safe. Never raises into the code that logs: see ``logging.Handler.handleError``.
    """

    def __init__(self, run: Run | None = None, level: int | str = logging.NOTSET) -> None:
        super().__init__(level)
        if run is not None and not isinstance(run, Run):
            raise ConfigurationError("run", shown_in_error(run), "is no run", "Leave it out to log to the current one")
        self._run = run
        self._inside = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record. What is logged by logging it (by who listens to a run) isn't logged again."""
        if getattr(self._inside, "is_logging", False):
            return
        self._inside.is_logging = True
        try:
            run = self._run if self._run is not None else current_run()
            if run is None or run.ended:
                return
            fields = self._fields(record)
            step = fields.pop("step") if _is_whole(fields.get("step")) else None
            if self._is_formatted():
                message = self.format(record)
            else:
                message = record.getMessage()
                fields |= _exception(record)
            named = {f"{key}_" if key in _ARGUMENTS else key: value for key, value in fields.items()}
            run.log(message, level=level_of(record.levelno), logger=record.name, step=step, **named)
        except Exception:  # noqa: BLE001 - as every handler does
            self.handleError(record)
        finally:
            self._inside.is_logging = False

    def _is_formatted(self) -> bool:
        """Whether somebody has set a formatter. ``logging.basicConfig`` sets one unasked: level, logger, message."""
        return self.formatter is not None and getattr(self.formatter, "_fmt", None) != logging.BASIC_FORMAT

    @staticmethod
    def _fields(record: logging.LogRecord) -> dict[str, Any]:
        return {str(key): value for key, value in vars(record).items() if key not in _OWN}


def level_of(number: int) -> LogLevel:
    """Return the protocol's level for one of ``logging``."""
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warning"
    return "info" if number >= logging.INFO else "debug"


def _is_whole(value: object) -> bool:
    try:
        operator.index(value)  # type: ignore[arg-type]  # that it may be anything is the point
    except TypeError:
        return False
    return not isinstance(value, bool)


_FORMATTER: Final = logging.Formatter()


def _exception(record: logging.LogRecord) -> dict[str, str]:
    """Return what a formatter would put under the message, as fields."""
    found: dict[str, str] = {}
    if record.exc_info and record.exc_info[0] is not None:
        found["traceback"] = _FORMATTER.formatException(record.exc_info)
    elif record.exc_text and not record.exc_info:  # it has come from another process
        found["traceback"] = record.exc_text
    if found:
        found["exception"] = found["traceback"].rstrip().rpartition("\n")[2]
    if record.stack_info:
        found["stack"] = record.stack_info
    return found


__all__ = ["XTrackHandler", "level_of"]
