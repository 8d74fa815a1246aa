"""Where a collector is, and how it is spoken to: address, TLS, key."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import attrs

from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.ir import Auth, Hello
from xtrack_protocol.net.credentials import find_key
from xtrack_protocol.settings import Settings
from xtrack_protocol.wire import SUPPORTED_VERSIONS

AUTH_SCHEME: Final = "key"
"""The only scheme of ``hello.auth``. spec: CTL-16"""

_SOCKET_PATH_MAX: Final = 103
"""Bytes that every system with Unix sockets has room for; Linux has it for four more."""
_FORMS: Final = "tcp://HOST:PORT, tls://HOST:PORT or unix:/PATH"


@attrs.frozen(kw_only=True)
class TLSOptions:
    """How the other side proves who it is, and how this side does. spec: CTL-16

    ``ca``: PEM file of certificates to trust instead of the system's. ``fingerprint``: SHA-256 of the one certificate
    to trust, 64 hex digits in lower case; neither its issuer nor its host name is looked at then. ``cert``, ``key``:
    PEM files of this side's certificate and its private key, for a collector that asks for one.
    """

    ca: Path | None = None
    fingerprint: str | None = None
    cert: Path | None = None
    key: Path | None = None


def _masked(value: object) -> str:
    return "None" if value is None else "'***'"


@attrs.frozen(kw_only=True)
class Endpoint:
    """A collector's address, and what is needed to speak with it. Its repr shows no key.

    ``tls``: None for plain TCP and Unix sockets. ``key_file``: where the key came from, for ``renewed``.
    """

    scheme: Literal["tcp", "unix"]
    host: str = ""
    port: int = 0
    path: Path | None = None
    tls: TLSOptions | None = None
    key: str | None = attrs.field(default=None, repr=_masked)
    key_file: Path | None = None
    insecure: bool = False

    @property
    def url(self) -> str:
        """The address without the key: ``tcp://host:port``, ``tls://host:port`` or ``unix:/path``."""
        if self.scheme == "unix":
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.tls else 'tcp'}://{host}:{self.port}"

    @property
    def requires_session(self) -> bool:
        """Whether a peer that doesn't answer ``hello`` must not be spoken to. spec: VER-4"""
        return self.key is not None or self.tls is not None

    @property
    def key_in_clear(self) -> bool:
        """Whether the key would be readable on the way, and nobody has allowed that. spec: CTL-16.1"""
        return self.scheme == "tcp" and self.key is not None and self.tls is None and not self.insecure

    def hello(self, features: Sequence[str] = (), codecs: Sequence[str] = ("json",)) -> Hello:
        """Return the first frame of a connection to this endpoint. spec: CTL-5"""
        version = getattr(sys.modules.get("xtrack_protocol"), "__version__", "?")  # no layer imports the whole package
        return Hello(
            protocols=list(SUPPORTED_VERSIONS),
            codecs=list(codecs),
            features=list(features),
            agent=f"xtrack-protocol/{version}",
            auth=None if self.key is None else Auth(AUTH_SCHEME, self.key),
        )

    def renewed(self) -> Endpoint:
        """Return the endpoint with the key that its file holds now: keys are rotated while a training runs.

        Raises ConfigurationError as ``parse_endpoint`` does.
        """
        return self if self.key_file is None else attrs.evolve(self, key=find_key(None, self.key_file))


def parse_endpoint(spec: str, settings: Settings, *, name: str = "XTRACK_TRANSPORT") -> Endpoint:
    """Return the endpoint that ``spec`` names; what it leaves out comes from ``settings``.

    ``tcp``, ``tcp:HOST[:PORT]``, ``tcp://HOST[:PORT]``, the same with ``tls``, ``unix``, ``unix:PATH`` or
    ``unix:///PATH``; IPv6 addresses in brackets. ``name``: the setting or option that ``spec`` came from. Raises
    ConfigurationError, also for files that can't be used and for a key that would go in clear (spec: CTL-16.1).
    """
    scheme, colon, rest = spec.partition(":")
    if "@" in spec and scheme != "unix":
        raise ConfigurationError(
            name, _shown(spec), "an address holds no user and no key", "Put the key into XTRACK_KEY or XTRACK_KEY_FILE"
        )
    if colon and not rest:
        raise ConfigurationError(name, _shown(spec), "the address is missing", f"Write {_FORMS}")
    if scheme == "unix":
        return _unix(spec, rest, settings, name)
    if scheme in {"tcp", "tls"}:
        return _tcp(spec, scheme, rest, settings, name)
    raise ConfigurationError(name, _shown(spec), "is no address of a collector", f"Write {_FORMS}")


def _unix(spec: str, rest: str, settings: Settings, name: str) -> Endpoint:
    for given, setting in (
        (settings.tls, "XTRACK_TLS"),
        (settings.tls_ca, "XTRACK_TLS_CA"),
        (settings.tls_fingerprint, "XTRACK_TLS_FINGERPRINT"),
        (settings.tls_cert, "XTRACK_TLS_CERT"),
        (settings.tls_key, "XTRACK_TLS_KEY"),
    ):
        if given:
            shown = "1" if given is True else str(given)
            raise ConfigurationError(
                setting,
                shown,
                "there is no TLS on a Unix socket: what it carries doesn't leave this machine",
                "Unset it",
            )
    if rest.startswith("//"):
        if not rest.startswith("///"):
            raise ConfigurationError(name, spec, "names a host", f"Write unix:/{rest.lstrip('/')} or unix:PATH")
        rest = f"/{rest.lstrip('/')}"
    if "\0" in rest:
        raise ConfigurationError(name, spec, "must be a path")
    try:
        path = Path(rest).expanduser() if rest else settings.socket
    except RuntimeError as error:  # ~ without a home directory
        raise ConfigurationError(name, spec, str(error)) from None
    length = len(os.fsencode(path))
    if length > _SOCKET_PATH_MAX:
        raise ConfigurationError(
            name if rest else "XTRACK_SOCKET",
            str(path),
            f"has {length} bytes, and the name of a Unix socket at most {_SOCKET_PATH_MAX}",
            "Choose a shorter path",
        )
    key = find_key(settings.key, settings.key_file)
    return Endpoint(scheme="unix", path=path, key=key, key_file=settings.key_file, insecure=settings.insecure)


def _tcp(spec: str, scheme: str, rest: str, settings: Settings, name: str) -> Endpoint:
    if rest.startswith("//"):
        rest = rest[2:].removesuffix("/")
        if not rest:
            raise ConfigurationError(name, _shown(spec), "the host is missing", f"Write {scheme}://HOST:PORT")
    host, port = _split(spec, rest, name) if rest else ("", None)
    endpoint = Endpoint(
        scheme="tcp",
        host=_check_host(host, name) if host else _check_host(settings.host, "XTRACK_HOST"),
        port=settings.port if port is None else port,
        tls=_tls(settings, wanted=scheme == "tls"),
        key=find_key(settings.key, settings.key_file),
        key_file=settings.key_file,
        insecure=settings.insecure,
    )
    if endpoint.key_in_clear and not is_this_machine(endpoint.host):
        raise refuse_in_clear(endpoint, endpoint.host)
    return endpoint


def _split(spec: str, rest: str, name: str) -> tuple[str, int | None]:
    """Return host and port of ``HOST``, ``HOST:PORT`` or ``[IPV6]:PORT``; a host is not empty, a port may be None."""
    for mark, what in (("/", "path"), ("?", "query"), ("#", "fragment")):
        if mark in rest:
            raise ConfigurationError(name, _shown(spec), f"the address of a collector has no {what}", f"Write {_FORMS}")
    if rest.startswith("["):
        host, bracket, port = rest[1:].partition("]")
        if not bracket or (port and not port.startswith(":")) or ":" not in host:
            raise ConfigurationError(name, _shown(spec), "is no IPv6 address in brackets", "Write [ADDRESS]:PORT")
        colon, port = port[:1], port[1:]
    else:
        if rest.count(":") > 1:
            raise ConfigurationError(
                name, _shown(spec), "has several colons", "An IPv6 address stands in brackets: [::1]:9999"
            )
        host, colon, port = rest.partition(":")
        if not host:
            raise ConfigurationError(name, _shown(spec), "the host is missing", f"Write {_FORMS}")
    if not colon:
        return host, None
    if not port.isascii() or not port.isdigit() or len(port) > 5 or not 1 <= int(port) <= 65535:
        raise ConfigurationError(name, _shown(spec), f"{_shown(port)!r} is no port: 1 to 65535")
    return host, int(port)


def _shown(spec: str) -> str:
    """Return an address as errors show it: without what could be a password or a key."""
    masked = re.sub(r"^(\w+://)?.*@", r"\1***@", spec, flags=re.DOTALL)
    return re.sub(r"xtk_[\w-]*", "xtk_***", re.sub(r"[?#].*", "?***", masked, flags=re.DOTALL))


def _check_host(host: str, name: str) -> str:
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if ":" in bare:
        try:
            ipaddress.IPv6Address(bare)
        except ValueError:
            cure = "The port goes into XTRACK_PORT" if name == "XTRACK_HOST" else "Write [ADDRESS]:PORT"
            raise ConfigurationError(name, _shown(host), "is no IPv6 address", cure) from None
        return bare
    try:
        ascii_name = bare if bare.isascii() else bare.encode("idna").decode("ascii")
    except UnicodeError:
        ascii_name = ""
    if not re.fullmatch(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?", ascii_name) or len(ascii_name) > 254:
        raise ConfigurationError(name, _shown(host), "is no name or address of a host")
    return ascii_name


def _tls(settings: Settings, *, wanted: bool) -> TLSOptions | None:
    options = TLSOptions(
        ca=settings.tls_ca,
        fingerprint=None if settings.tls_fingerprint is None else parse_fingerprint(settings.tls_fingerprint),
        cert=settings.tls_cert,
        key=settings.tls_key,
    )
    if options.ca and options.fingerprint:
        raise ConfigurationError(
            "XTRACK_TLS_FINGERPRINT",
            options.fingerprint,
            f"the one certificate to trust is named, and XTRACK_TLS_CA={str(options.ca)!r} too",
            "Unset one of them",
        )
    for given, missing, first, second in (
        (options.cert, options.key, "XTRACK_TLS_CERT", "XTRACK_TLS_KEY"),
        (options.key, options.cert, "XTRACK_TLS_KEY", "XTRACK_TLS_CERT"),
    ):
        if given and not missing:
            raise ConfigurationError(first, str(given), f"needs {second} too", "A PEM file that holds both may be both")
    if options.ca or options.cert:
        from xtrack_protocol.net.tls import client_context

        client_context(options)  # what is wrong with the files is said now, and not by a thread in the middle of a run
    return options if wanted or settings.tls or options != TLSOptions() else None


def parse_fingerprint(text: str, name: str = "XTRACK_TLS_FINGERPRINT") -> str:
    """Return a SHA-256 fingerprint as 64 hex digits in lower case, however it was written. spec: CTL-16.5

    Taken are colons and spaces between the digits, capitals, and what ``openssl x509 -fingerprint -sha256`` writes
    before them. Raises ConfigurationError that names ``name``.
    """
    digits = re.sub(r"(?i)^\s*sha-?256(\s+fingerprint)?\s*[:=]", "", text)
    digits = re.sub(r"[:\s]", "", digits).lower()
    if re.fullmatch(r"[0-9a-f]{64}", digits):
        return digits
    problem = "is no SHA-256 of a certificate: 64 hex digits, with or without colons"
    if re.fullmatch(r"[0-9a-f]{40}", digits):
        problem = "is a SHA-1; what is needed is the SHA-256 of the certificate"
    raise ConfigurationError(
        name, text, problem, "`xtrack serve` prints it, and so does `openssl x509 -in CERT -noout -fingerprint -sha256`"
    )


def is_this_machine(host: str) -> bool:
    """Return whether ``host`` is a loopback address, or ``localhost``. Other names may be anything. spec: CTL-16.2"""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def refuse_in_clear(endpoint: Endpoint, where: str) -> ConfigurationError:
    """Return the refusal to send the key of ``endpoint`` in clear to ``where``. spec: CTL-16.1"""
    secured = attrs.evolve(endpoint, tls=TLSOptions()).url
    return ConfigurationError(
        "XTRACK_KEY" if endpoint.key_file is None else "XTRACK_KEY_FILE",
        "***" if endpoint.key_file is None else str(endpoint.key_file),
        f"the key would go to {where} in clear text, where anybody on the way can read it",
        f"Use {secured} or XTRACK_TLS=1; XTRACK_INSECURE=1 sends it in spite of that",
    )
