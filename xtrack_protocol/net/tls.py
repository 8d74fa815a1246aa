"""TLS on both sides: contexts, fingerprints, and certificates that sign themselves. Imported where TLS is used only."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import ssl
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.net.credentials import check_private
from xtrack_protocol.net.endpoint import TLSOptions

CERT_FILE: Final = "cert.pem"
KEY_FILE: Final = "key.pem"
_YEARS: Final = 10
"""How long a certificate of ours lasts. A pinned one is trusted for its fingerprint, whatever its dates."""


def client_context(options: TLSOptions) -> ssl.SSLContext:
    """Return the context of a client. The caller compares the fingerprint, where there is one. spec: CTL-16.4

    Raises ConfigurationError: a file can't be read or used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    if options.fingerprint:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the certificate itself is compared: see matches()
    elif options.ca:
        _load_ca(context, options.ca, "XTRACK_TLS_CA")
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if options.cert and options.key:
        _load_pair(context, options.cert, options.key, "XTRACK_TLS_CERT", "XTRACK_TLS_KEY")
    return context


def server_context(cert: Path, key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """Return the context of a server; with ``client_ca``, one that takes only clients whose certificate that signed.

    Raises ConfigurationError: a file can't be read or used. spec: CTL-16.8
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    _load_pair(context, cert, key, "--tls-cert", "--tls-key")
    if client_ca:
        _load_ca(context, client_ca, "--tls-client-ca")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # spec: CTL-16.3
    context.options |= ssl.OP_NO_COMPRESSION | getattr(ssl, "OP_NO_RENEGOTIATION", 0)


def _load_ca(context: ssl.SSLContext, path: Path, setting: str) -> None:
    _check_readable(path, setting)
    try:
        context.load_verify_locations(cafile=str(path))
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError(setting, str(path), f"holds no certificates in PEM: {_reason(error)}") from error
    # Whoever names a certificate trusts it, be it a root, one between, or the server's own.
    context.verify_flags |= getattr(ssl, "VERIFY_X509_PARTIAL_CHAIN", 0)


def _load_pair(context: ssl.SSLContext, cert: Path, key: Path, cert_setting: str, key_setting: str) -> None:
    _check_readable(cert, cert_setting)
    _check_readable(key, key_setting)
    check_private(key.stat(), key, key_setting)
    asked = False

    def passphrase() -> str:
        nonlocal asked
        asked = True
        return ""  # else OpenSSL asks at the terminal, and a training waits there

    try:
        context.load_cert_chain(str(cert), str(key), password=passphrase)
    except (ssl.SSLError, OSError) as error:
        if asked:
            raise ConfigurationError(
                key_setting,
                str(key),
                "is locked with a passphrase, which nobody is there to type",
                f"`openssl pkey -in {key} -out unlocked.pem` takes it off",
            ) from error
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            raise ConfigurationError(key_setting, str(key), f"is not the private key of {cert}") from error
        _blame(cert, key, cert_setting, key_setting, error)


def _blame(cert: Path, key: Path, cert_setting: str, key_setting: str, error: OSError) -> NoReturn:
    """Say which of two files is at fault: OpenSSL doesn't."""
    try:
        held = ssl.PEM_cert_to_DER_cert(_first_certificate(cert))
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=held)
    except (ssl.SSLError, ValueError):
        raise ConfigurationError(cert_setting, str(cert), "holds no certificate in PEM") from error
    problem = f"holds no private key in PEM that goes with {cert}"
    raise ConfigurationError(key_setting, str(key), problem) from error


def _check_readable(path: Path, setting: str) -> None:
    try:
        with path.open("rb") as file:
            if file.read(1):
                return
    except OSError as error:
        raise ConfigurationError(setting, str(path), f"can't be read: {error.strerror or error}") from error
    raise ConfigurationError(setting, str(path), "is empty")


def _first_certificate(path: Path) -> str:
    text = path.read_text(encoding="ascii", errors="replace")
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    _, found, rest = text.partition(begin)
    if not found or end not in rest:
        raise ValueError("no certificate in PEM")
    return begin + rest.partition(end)[0] + end


def _reason(error: OSError) -> str:
    """Return what OpenSSL says, without the number of a line in its source."""
    reason = getattr(error, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else re.sub(r" ?\(_ssl\.c:\d+\)", "", str(error))


def fingerprint(der: bytes) -> str:
    """Return the SHA-256 of a certificate in DER: 64 hex digits in lower case. spec: CTL-16.5"""
    return hashlib.sha256(der).hexdigest()


def fingerprint_of(cert: Path) -> str:
    """Return the fingerprint of the first certificate in a PEM file. Raises ConfigurationError."""
    _check_readable(cert, "--tls-cert")
    try:
        return fingerprint(ssl.PEM_cert_to_DER_cert(_first_certificate(cert)))
    except ValueError as error:
        raise ConfigurationError("--tls-cert", str(cert), "holds no certificate in PEM") from error


def matches(der: bytes, pinned: str) -> bool:
    """Return whether a certificate has the fingerprint ``pinned``. The time it takes tells nothing. spec: CTL-16.6"""
    return hmac.compare_digest(fingerprint(der), pinned)


def self_signed(hosts: Sequence[str]) -> tuple[bytes, bytes]:
    """Return a new certificate and its private key, both in PEM, for the names and addresses ``hosts``.

    The key is on the curve P-256. Raises ConfigurationError where the package ``cryptography`` is missing.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError:
        raise ConfigurationError(
            "--tls-self-signed",
            True,
            "needs the package cryptography",
            "Run `pip install 'xtrack-protocol[tls]'`, or give --tls-cert and --tls-key",
        ) from None
    import datetime as dt
    import ipaddress

    if not hosts:
        raise ValueError("a certificate needs a host")
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host.partition("%")[0])))
        except ValueError:
            names.append(x509.DNSName(host if host.isascii() else host.encode("idna").decode("ascii")))
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "XTrack collector")])
    now = dt.datetime.now(dt.timezone.utc)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))  # for clocks that are behind
        .not_valid_after(now + dt.timedelta(days=365 * _YEARS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def keep_self_signed(folder: Path, hosts: Sequence[str]) -> tuple[Path, Path]:
    """Return the files of the self-signed certificate and private key in ``folder``; make both where it has none.

    What is there is kept, whatever ``hosts`` says, so that a server that is started again has the same fingerprint.
    The folder gets the mode 0700, the files 0600. Raises ConfigurationError: they can't be made, read or used.
    """
    cert, key = folder / CERT_FILE, folder / KEY_FILE
    if not (cert.exists() or key.exists()):
        try:
            _make_pair(folder, self_signed(hosts))
        except OSError as error:
            problem = f"can't be made in {folder}: {error.strerror or error}"
            raise ConfigurationError("--tls-self-signed", True, problem) from error
    try:
        server_context(cert, key)
    except ConfigurationError as error:
        cure = error.cure or f"Remove {folder} to have a new pair made; workers need its new fingerprint then"
        raise ConfigurationError("--tls-self-signed", True, str(error).removesuffix(f". {error.cure}"), cure) from error
    return cert, key


def _make_pair(folder: Path, pair: tuple[bytes, bytes]) -> None:
    """Put both files into ``folder`` at once: a server that is killed, or started twice, leaves no half of a pair."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))  # 0700
    try:
        for name, content in zip((CERT_FILE, KEY_FILE), pair, strict=True):
            fd = os.open(made / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(fd)
        try:
            made.rename(folder)  # onto an empty folder too
        except OSError:
            if not (folder / KEY_FILE).exists():  # else another server was quicker, and its pair is as good
                raise
    finally:
        for name in (CERT_FILE, KEY_FILE):
            (made / name).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            made.rmdir()


_CLIENTS_FAULTS: Final = (
    ("HTTP_REQUEST", "speaks HTTP, and no TLS"),
    ("WRONG_VERSION_NUMBER", "speaks no TLS: is XTRACK_TLS=1 missing there?"),
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "gave no certificate, and --tls-client-ca asks for one"),
    (
        "ALERT_UNKNOWN_CA",
        "does not trust this server's certificate: XTRACK_TLS_CA or XTRACK_TLS_FINGERPRINT is wrong there",
    ),
    ("ALERT_BAD_CERTIFICATE", "does not take this server's certificate: most often, it is for another host name"),
    ("ALERT_CERTIFICATE_EXPIRED", "finds this server's certificate expired"),
    ("UNSUPPORTED_PROTOCOL", "speaks no TLS of version 1.2 or later"),
    ("NO_SHARED_CIPHER", "has no cipher in common with this server"),
)


def explain_client(error: OSError) -> str:
    """Return, for a server's log, what a client did that made the handshake fail: ``the peer`` goes before it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"gave a certificate that --tls-client-ca does not vouch for: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError) or not isinstance(error, ssl.SSLError):
        return "closed the connection in the middle of the TLS handshake"
    said = (error.reason or str(error)).upper().replace(" ", "_")
    for reason, text in _CLIENTS_FAULTS:
        if reason in said:
            return text
    return f"did not get through the TLS handshake: {_reason(error)}"
