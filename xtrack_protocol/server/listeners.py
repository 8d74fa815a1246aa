"""Sockets that listen: made with errors that say what to do, and left as they were found."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat
from pathlib import Path
from typing import Final

from xtrack_protocol.errors import ConfigurationError, TransportError

BACKLOG: Final = 512
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
"""A peer whose machine is gone is found out within two minutes. spec: CTL-14.2"""


def listen_tcp(host: str, port: int) -> list[socket.socket]:
    """Return a listening socket for each address of ``host``; port 0: any free one, the same for all.

    Raises TransportError.
    """
    shown = f"{host}:{port}"
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise TransportError(shown, f"no such address: {error}", "Give --tcp an address of this machine") from error
    sockets: list[socket.socket] = []
    problem: OSError | None = None
    for family, kind, protocol, _, given in dict.fromkeys(found):
        address = given
        if port == 0 and sockets:
            address = (given[0], sockets[0].getsockname()[1], *given[2:])
        try:
            sockets.append(_listen(family, kind, protocol, address))
        except OSError as error:
            if error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:  # ::1 on a machine without IPv6
                problem = error
                continue
            for one in sockets:
                one.close()
            raise _listen_error(shown, error) from error
    if not sockets:
        assert problem is not None
        raise _listen_error(shown, problem) from problem
    return sockets


def _listen(family: int, kind: int, protocol: int, address: object) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(address)  # type: ignore[arg-type]
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _listen_error(shown: str, error: OSError) -> TransportError:
    if error.errno == errno.EADDRINUSE:
        return TransportError(
            shown, "somebody listens there already", "Stop it (`ss -ltnp` shows who it is), or choose another port"
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return TransportError(shown, "may not be listened on", "Choose a port above 1023")
    if error.errno == errno.EADDRNOTAVAIL:
        return TransportError(shown, "is no address of this machine", "`ip address` shows those that are")
    return TransportError(shown, f"can't be listened on: {error.strerror or error}")


def listen_unix(path: Path) -> socket.socket:
    """Return a socket that listens at ``path``, for its owner alone.

    The file of a server that is gone is removed; nothing else ever is. Raises TransportError.
    """
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(str(path))
        path.chmod(0o600)  # before anybody can connect, which listen() allows
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise TransportError(f"unix:{path}", "somebody listens there already", "Choose another path") from error
        if "too long" in str(error):
            raise TransportError(f"unix:{path}", "the path is too long for a socket", "Choose a shorter one") from error
        raise TransportError(
            f"unix:{path}", f"can't be made: {error.strerror or error}", "Choose a path in a folder that can be written"
        ) from error
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise TransportError(f"unix:{path}", f"can't be looked at: {error.strerror}") from error
    if not stat.S_ISSOCK(mode):
        raise TransportError(f"unix:{path}", "is there already, and no socket", "Choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            return
        except OSError as error:
            raise TransportError(
                f"unix:{path}", f"it can't be told whether somebody listens there: {error.strerror or error}"
            ) from error
    raise TransportError(f"unix:{path}", "somebody listens there already", "Stop it, or choose another path")


def remove_unix(path: Path, inode: int) -> None:
    """Remove the socket's file when the server ends, unless it is another server's by now."""
    with contextlib.suppress(OSError):
        if path.lstat().st_ino == inode:
            path.unlink()


def prepare_accepted(sock: socket.socket) -> None:
    """Set what every connection has."""
    sock.setblocking(False)
    if sock.family in {socket.AF_INET, socket.AF_INET6}:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def is_loopback(host: str) -> bool:
    """Whether nobody beyond this machine can reach ``host``."""
    try:
        found = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return False
    return all(plain_address(str(entry[4][0])).is_loopback for entry in found)


def plain_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address; an IPv4 one also where it came in the dress of an IPv6 one."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def check_exposure(host: str, *, keyed: bool, tls: bool, insecure: bool) -> None:
    """Refuse to listen beyond this machine without a key and TLS, unless asked in so many words. spec: CTL-14.3"""
    if insecure or (keyed and tls) or is_loopback(host):
        return
    lacks = " and ".join(
        name for name, there in (("--keys", keyed), ("--tls-self-signed or --tls-cert", tls)) if not there
    )
    raise ConfigurationError(
        "tcp",
        host or "all addresses",
        "listening beyond this machine takes a key and TLS, or anybody on the network can read and write",
        f"Add {lacks}; or, in a network where everybody may, --insecure",
    )
