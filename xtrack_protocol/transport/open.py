"""Finds a transport by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.settings import Settings
from xtrack_protocol.transport.base import Transport
from xtrack_protocol.transport.file import FileTransport
from xtrack_protocol.transport.local import LocalTransport
from xtrack_protocol.transport.memory import MemoryTransport
from xtrack_protocol.transport.null import NullTransport
from xtrack_protocol.transport.stdio import StdioTransport


def _unix(argument: str, settings: Settings) -> Transport:
    from xtrack_protocol.transport.unix import UnixTransport

    return UnixTransport(argument or settings.socket)


TRANSPORTS: Final[dict[str, Callable[[str, Settings], Transport]]] = {
    "local": lambda argument, settings: LocalTransport(argument or settings.dir),
    "file": lambda argument, settings: FileTransport(argument or settings.file),
    "stdio": lambda argument, settings: StdioTransport(_descriptor(argument) if argument else settings.fd),
    "unix": _unix,
    "memory": lambda _argument, _settings: MemoryTransport(),
    "null": lambda _argument, _settings: NullTransport(),
}


def open_transport(spec: str, settings: Settings) -> Transport:
    """Return the transport that ``spec`` names, not opened yet: a name, or ``name:argument`` (``file:run.bin``).

    Raises ConfigurationError for an unknown name.
    """
    name, _, argument = spec.partition(":")
    make = TRANSPORTS.get(name)
    if make is None:
        raise ConfigurationError("XTRACK_TRANSPORT", spec, "no such transport", f"Known: {', '.join(TRANSPORTS)}")
    return make(argument, settings)


def _descriptor(argument: str) -> int:
    if not argument.isascii() or not argument.isdigit():
        raise ConfigurationError("XTRACK_TRANSPORT", f"stdio:{argument}", "the descriptor must be a number")
    return int(argument)
