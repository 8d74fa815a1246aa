"""Events for people to read."""

from typing import Literal, TypeAlias

from msgspec import field

from xtrack_protocol.ir._slots import Int64, Json, WireStruct
from xtrack_protocol.ir.identity import RunId

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
"""Closed. spec: EVT-LOG-2, VAL-6"""


class LogEntry(WireStruct, frozen=True):
    """A line of log with fields. ``message`` (``msg``), ``logger_name`` (``logger``). spec: EVT-LOG-1"""

    run_id: str | RunId
    level: LogLevel
    message: str = field(name="msg")
    logger_name: str | None = field(name="logger", default=None)
    step: Int64 | None = None
    fields: dict[str, Json] = field(default_factory=dict)


class Alert(WireStruct, frozen=True):
    """Something a person should see now. Additive. spec: EVT-ALERT-1

    ``key``: alerts of one key are the same matter told again; notifiers may merge them.
    """

    run_id: str | RunId
    title: str
    text: str | None = None
    level: LogLevel = "warning"
    key: str | None = None
