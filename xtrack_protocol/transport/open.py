"""Finds a transport by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.settings import Settings
from xtrack_protocol.transport.base import Transport
from xtrack_protocol.transport.local import LocalTransport

if TYPE_CHECKING:
    from xtrack_protocol.transport.remote import RemoteTransport


REMOTE: Final = ("tcp", "tls", "unix")
"""The transports that lead to a collector elsewhere, with a spool here."""


def _remote(spec: str, settings: Settings, *, takes_commands: bool = True) -> RemoteTransport:
    import attrs

    from xtrack_protocol.net.endpoint import parse_endpoint
    from xtrack_protocol.transport.remote import TcpTransport, UnixTransport

    endpoint = parse_endpoint(spec, settings)
    kind: type[RemoteTransport] = TcpTransport
    if endpoint.path is not None:
        # The script may change its working directory, and the sender connects later.
        endpoint = attrs.evolve(endpoint, path=endpoint.path.absolute())
        kind = UnixTransport
    return kind(endpoint, settings.dir, on_full=settings.on_full, takes_commands=takes_commands)


def open_observer(spec: str, settings: Settings) -> LocalTransport:
    """Return a transport with a spool for a stream that takes no commands, such as a launcher's; as open_transport.

    ``spec``: ``local``, or one of ``REMOTE``.
    """
    if spec == LocalTransport.name:
        return LocalTransport(settings.dir)
    return _remote(spec, settings, takes_commands=False)


def _file(argument: str, settings: Settings) -> Transport:
    from xtrack_protocol.transport.file import FileTransport

    return FileTransport(argument or settings.file)


def _stdio(argument: str, settings: Settings) -> Transport:
    from xtrack_protocol.transport.stdio import StdioTransport

    return StdioTransport(_descriptor(argument) if argument else settings.fd)


def _memory(_argument: str, _settings: Settings) -> Transport:
    from xtrack_protocol.transport.memory import MemoryTransport

    return MemoryTransport()


def _null(_argument: str, _settings: Settings) -> Transport:
    from xtrack_protocol.transport.null import NullTransport

    return NullTransport()


def _spec(name: str, argument: str) -> str:
    return f"{name}:{argument}" if argument else name


TRANSPORTS: Final[dict[str, Callable[[str, Settings], Transport]]] = {
    "local": lambda argument, settings: LocalTransport(argument or settings.dir, on_full=settings.on_full),
    "tcp": lambda argument, settings: _remote(_spec("tcp", argument), settings),
    "tls": lambda argument, settings: _remote(_spec("tls", argument), settings),
    "unix": lambda argument, settings: _remote(_spec("unix", argument), settings),
    "file": _file,
    "stdio": _stdio,
    "memory": _memory,
    "null": _null,
}


def open_transport(spec: str, settings: Settings, *, where: str = "XTRACK_TRANSPORT") -> Transport:
    """Return the transport that ``spec`` names, not opened yet: a name, or ``name:argument`` (``file:run.bin``,
    ``tcp://host:9999``).

    ``where``: it was said, for the error. Raises ConfigurationError for an unknown name, and an address or a key that
    can't be used.
    """
    name, _, argument = spec.partition(":")
    make = TRANSPORTS.get(name)
    if make is None:
        raise ConfigurationError(where, spec, "no such transport", f"Known: {', '.join(TRANSPORTS)}")
    return make(argument, settings)


def _descriptor(argument: str) -> int:
    if not argument.isascii() or not argument.isdigit():
        raise ConfigurationError("XTRACK_TRANSPORT", f"stdio:{argument}", "the descriptor must be a number")
    return int(argument)
