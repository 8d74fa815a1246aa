"""Certificates and keys in files: made, kept, loaded, and each thing that is wrong with them."""

from __future__ import annotations

import os
import shutil
import ssl
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from net_peers import Authority

pytest.importorskip("cryptography")

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.net.endpoint import TLSOptions, parse_endpoint
from xtrack_protocol.net.tls import (
    client_context,
    fingerprint,
    fingerprint_of,
    keep_self_signed,
    matches,
    self_signed,
    server_context,
)
from xtrack_protocol.settings import Settings

posix = pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def put(path: Path, content: bytes | str, mode: int = 0o600) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def refused(**settings: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        parse_endpoint("tls", Settings(**settings))
    return caught.value


# ---------------------------------------------------------------------------------------------- contexts


def test_contexts_take_nothing_old(authority: Authority) -> None:
    pair = authority.issue("localhost", name="context")
    for context in (
        client_context(TLSOptions()),
        client_context(TLSOptions(ca=authority.path, cert=pair[0], key=pair[1])),
        client_context(TLSOptions(fingerprint="ab" * 32)),
        server_context(*pair),
        server_context(*pair, client_ca=authority.path),
    ):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_COMPRESSION
        assert context.options & getattr(ssl, "OP_NO_RENEGOTIATION", 0) == getattr(ssl, "OP_NO_RENEGOTIATION", 0)
    assert server_context(*pair, client_ca=authority.path).verify_mode == ssl.CERT_REQUIRED
    assert server_context(*pair).verify_mode == ssl.CERT_NONE


def test_a_client_checks_the_host_unless_it_compares_the_certificate(authority: Authority) -> None:
    for options in (TLSOptions(), TLSOptions(ca=authority.path)):
        context = client_context(options)
        assert context.check_hostname
        assert context.verify_mode == ssl.CERT_REQUIRED
    assert client_context(TLSOptions()).cert_store_stats() == ssl.create_default_context().cert_store_stats()
    assert client_context(TLSOptions(ca=authority.path)).cert_store_stats()["x509"] == 1  # and none of the system's
    assert not client_context(TLSOptions(fingerprint="ab" * 32)).check_hostname


def test_a_file_that_holds_certificate_and_key(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.issue("localhost", name="both")
    both = put(tmp_path / "both.pem", key.read_text() + cert.read_text())
    server_context(both, both)
    assert fingerprint_of(both) == fingerprint_of(cert)
    assert parse_endpoint("tls", Settings(tls_cert=both, tls_key=both)).tls == TLSOptions(cert=both, key=both)


@pytest.mark.parametrize("content", ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_ca_that_is_none(tmp_path: Path, content: str) -> None:
    path = put(tmp_path / "ca.pem", content)
    error = refused(tls_ca=path)
    assert (error.setting, error.value) == ("XTRACK_TLS_CA", str(path))
    assert ("is empty" if not content else "holds no certificates in PEM") in str(error)


def test_files_that_are_not_there(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.issue("localhost", name="there")
    none = tmp_path / "none.pem"
    assert "can't be read: No such file or directory" in str(refused(tls_ca=none))
    assert "can't be read: Is a directory" in str(refused(tls_ca=tmp_path))
    assert refused(tls_cert=none, tls_key=key).setting == "XTRACK_TLS_CERT"
    assert refused(tls_cert=cert, tls_key=none).setting == "XTRACK_TLS_KEY"
    for pair, setting in (((none, key), "--tls-cert"), ((cert, none), "--tls-key")):
        with pytest.raises(ConfigurationError, match=rf"^{setting}=.*No such file"):
            server_context(*pair)
    with pytest.raises(ConfigurationError, match=r"^--tls-client-ca=.*No such file"):
        server_context(cert, key, none)
    with pytest.raises(ConfigurationError, match=r"^--tls-cert=.*No such file"):
        fingerprint_of(none)


def test_files_that_hold_something_else(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.issue("localhost", name="mine")
    other = authority.issue("localhost", name="other")
    junk = put(tmp_path / "junk.pem", "junk")
    damaged = put(tmp_path / "damaged.pem", cert.read_text().replace("\nMII", "\nAAA", 1))
    for pair, setting, problem in (
        ((junk, key), "XTRACK_TLS_CERT", "holds no certificate in PEM"),
        ((damaged, key), "XTRACK_TLS_CERT", "holds no certificate in PEM"),
        ((cert, junk), "XTRACK_TLS_KEY", "holds no private key in PEM"),
        ((cert, cert), "XTRACK_TLS_KEY", "holds no private key in PEM"),
        ((key, cert), "XTRACK_TLS_CERT", "holds no certificate in PEM"),
        ((cert, other[1]), "XTRACK_TLS_KEY", f"is not the private key of {cert}"),
    ):
        error = refused(tls_cert=pair[0], tls_key=pair[1])
        assert error.setting == setting, error
        assert problem in str(error)
        assert "_ssl.c" not in str(error)
    with pytest.raises(ConfigurationError, match="holds no certificate in PEM"):
        fingerprint_of(junk)


def test_a_key_behind_a_passphrase_is_not_asked_for(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.issue("localhost", name="locked")
    secret = serialization.load_pem_private_key(key.read_bytes(), None)
    locked = put(
        tmp_path / "locked.pem",
        secret.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"canary"),
        ),
    )
    error = refused(tls_cert=cert, tls_key=locked)
    assert "is locked with a passphrase, which nobody is there to type. `openssl pkey -in" in str(error)


@posix
def test_a_private_key_that_others_may_read(authority: Authority) -> None:
    cert, key = authority.issue("localhost", name="open")
    key.chmod(0o644)
    error = refused(tls_cert=cert, tls_key=key)
    assert f"others may read it (its mode is 0644). Run `chmod 600 {key}`" in str(error)
    with pytest.raises(ConfigurationError, match=r"^--tls-key=.*others may read it"):
        server_context(cert, key)


def test_fingerprints(authority: Authority) -> None:
    cert, _ = authority.issue("localhost", name="print")
    der = ssl.PEM_cert_to_DER_cert(cert.read_text())
    assert fingerprint_of(cert) == fingerprint(der)
    assert len(fingerprint(der)) == 64
    assert matches(der, fingerprint(der))
    assert not matches(der, "ab" * 32)
    assert not matches(b"", fingerprint(der))


# ---------------------------------------------------------------------------------------------- self-signed


def test_self_signed() -> None:
    pem, key = self_signed(["localhost", "127.0.0.1", "::1", "fe80::1%eth0", "bücher.example", "localhost"])
    certificate = x509.load_pem_x509_certificate(pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "xn--bcher-kva.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1", "fe80::1"]
    assert b"BEGIN PRIVATE KEY" in key
    lasts = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert lasts.days > 3650
    assert self_signed(["localhost"])[0] != self_signed(["localhost"])[0]
    with pytest.raises(ValueError, match="needs a host"):
        self_signed([])


@posix
def test_a_pair_is_kept(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = tmp_path / "state" / "tls"
        cert, key = keep_self_signed(folder, ["localhost"])
    finally:
        os.umask(before)
    pin = fingerprint_of(cert)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder.parent, folder, cert, key)] == [
        0o700,
        0o700,
        0o600,
        0o600,
    ]
    assert list(folder.parent.iterdir()) == [folder]
    assert keep_self_signed(folder, ["another.host"]) == (cert, key)
    assert fingerprint_of(cert) == pin


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    cert, _ = keep_self_signed(tmp_path, ["localhost"])
    assert cert.parent == tmp_path


def test_half_a_pair_or_a_damaged_one_is_not_replaced_in_silence(tmp_path: Path) -> None:
    cert, key = keep_self_signed(tmp_path / "tls", ["localhost"])
    key.unlink()
    with pytest.raises(ConfigurationError, match="No such file") as caught:
        keep_self_signed(tmp_path / "tls", ["localhost"])
    assert caught.value.setting == "--tls-self-signed"
    assert f"Remove {tmp_path / 'tls'} to have a new pair made; workers need its new fingerprint then" in str(
        caught.value
    )
    put(key, "junk")
    with pytest.raises(ConfigurationError, match="holds no private key"):
        keep_self_signed(tmp_path / "tls", ["localhost"])
    key.unlink()
    cert.unlink()
    keep_self_signed(tmp_path / "tls", ["localhost"])


@posix
def test_a_kept_key_that_others_may_read(tmp_path: Path) -> None:
    _, key = keep_self_signed(tmp_path / "tls", ["localhost"])
    key.chmod(0o644)
    with pytest.raises(ConfigurationError) as caught:
        keep_self_signed(tmp_path / "tls", ["localhost"])
    assert str(caught.value).count("chmod 600") == 1
    assert str(caught.value).startswith("--tls-self-signed=True: --tls-key=")


def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    put(tmp_path / "file", "")
    with pytest.raises(ConfigurationError, match=r"^--tls-self-signed=True: can't be made in .*file/tls: "):
        keep_self_signed(tmp_path / "file" / "tls", ["localhost"])


def test_many_servers_that_start_at_once_have_one_pair(tmp_path: Path) -> None:
    found: list[str] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait(20)
        cert, _ = keep_self_signed(tmp_path / "tls", ["localhost"])
        found.append(fingerprint_of(cert))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["tls"]


def test_without_the_package_cryptography(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
sys.modules["cryptography"] = None
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.net.tls import keep_self_signed
try:
    keep_self_signed(Path({str(tmp_path / "tls")!r}), ["localhost"])
except ConfigurationError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "--tls-self-signed=True: needs the package cryptography. Run `pip install 'xtrack-protocol[tls]'`, "
        "or give --tls-cert and --tls-key\n"
    )
    assert not (tmp_path / "tls").exists()


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl command")
def test_openssl_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    cert, _ = keep_self_signed(tmp_path / "tls", ["localhost"])
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", str(cert), str(cert)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
