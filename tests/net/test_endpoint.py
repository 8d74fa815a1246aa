"""Addresses of collectors: what they may say, and each thing that is refused."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import xtrack_protocol
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.ir import Auth
from xtrack_protocol.net.endpoint import Endpoint, TLSOptions, is_this_machine, parse_endpoint, parse_fingerprint
from xtrack_protocol.settings import Settings

PIN = "ab" * 32


def parse(spec: str, **settings: Any) -> Endpoint:
    return parse_endpoint(spec, Settings(**settings))


def refused(spec: str, **settings: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        parse(spec, **settings)
    return caught.value


# ---------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("spec", "url"),
    [
        ("tcp", "tcp://localhost:9999"),
        ("tcp:collector", "tcp://collector:9999"),
        ("tcp:collector:80", "tcp://collector:80"),
        ("tcp://collector", "tcp://collector:9999"),
        ("tcp://collector/", "tcp://collector:9999"),
        ("tcp://collector.example.org.:65535", "tcp://collector.example.org.:65535"),
        ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1"),
        ("tcp:[::1]", "tcp://[::1]:9999"),
        ("tcp://[2001:db8::7]:80", "tcp://[2001:db8::7]:80"),
        ("tcp://[fe80::1%eth0]:80", "tcp://[fe80::1%eth0]:80"),
        ("tcp://under_score:80", "tcp://under_score:80"),
        ("tcp://bücher.example", "tcp://xn--bcher-kva.example:9999"),
        ("tls", "tls://localhost:9999"),
        ("tls:collector", "tls://collector:9999"),
        ("tls://collector:80", "tls://collector:80"),
        ("unix", "unix:/tmp/xtrack.sock"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
        ("unix:///run/x@y.sock", "unix:/run/x@y.sock"),
        ("unix:x.sock", "unix:x.sock"),
    ],
)
def test_addresses(spec: str, url: str) -> None:
    endpoint = parse(spec)
    assert endpoint.url == url
    assert parse(endpoint.url) == endpoint


def test_what_is_left_out_comes_from_the_settings() -> None:
    assert parse("tcp", host="h", port=7).url == "tcp://h:7"
    assert parse("tcp:other", host="h", port=7).url == "tcp://other:7"
    assert parse("tcp:other:8", host="h", port=7).url == "tcp://other:8"
    assert parse("tcp", host="::1", port=7).url == "tcp://[::1]:7"
    assert parse("tcp", host="[::1]", port=7).url == "tcp://[::1]:7"
    assert parse("tls", host="h", port=7).url == "tls://h:7"
    assert parse("tcp://h", tls=True).url == "tls://h:9999"
    assert parse("tcp://h", tls_fingerprint=PIN).tls == TLSOptions(fingerprint=PIN)
    assert parse("unix", socket=Path("/run/s")).path == Path("/run/s")


def test_a_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert parse("unix:~/x.sock").path == Path("/home/ada/x.sock")
    assert "home" in str(refused("unix:~no-such-user/x.sock"))


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("", "is no address of a collector"),
        ("collector", "is no address of a collector. Write tcp://HOST:PORT, tls://HOST:PORT or unix:/PATH"),
        ("collector:9999", "is no address of a collector"),
        ("http://collector", "is no address of a collector"),
        ("TCP://collector", "is no address of a collector"),
        ("local", "is no address of a collector"),
        ("tcp:", "the address is missing"),
        ("tls:", "the address is missing"),
        ("unix:", "the address is missing"),
        ("tcp://", "the host is missing"),
        ("tcp:///", "the host is missing"),
        ("tcp://:80", "the host is missing"),
        ("tcp::80", "the host is missing"),
        ("tcp://h:", "'' is no port: 1 to 65535"),
        ("tcp://h:0", "'0' is no port"),
        ("tcp://h:65536", "'65536' is no port"),
        ("tcp://h:99999999999", "is no port"),
        ("tcp://h:http", "'http' is no port"),
        ("tcp://h:-1", "'-1' is no port"),
        ("tcp://h:+1", "'+1' is no port"),
        ("tcp://h: 1", "' 1' is no port"),
        ("tcp://h:٣", "is no port"),
        ("tcp://h/path", "has no path"),
        ("tcp://h:1/path", "has no path"),
        ("tcp://h?x=1", "has no query"),
        ("tcp://h#x", "has no fragment"),
        ("tcp://::1", "stands in brackets: [::1]:9999"),
        ("tcp://::1:80", "stands in brackets: [::1]:9999"),
        ("tcp://[::1", "is no IPv6 address in brackets"),
        ("tcp://[::1]80", "is no IPv6 address in brackets"),
        ("tcp://[h]:80", "is no IPv6 address in brackets"),
        ("tcp://[127.0.0.1]:80", "is no IPv6 address in brackets"),
        ("tcp://[]:80", "is no IPv6 address in brackets"),
        ("tcp://[1::2::3]:80", "is no IPv6 address"),
        ("tcp://a b", "is no name or address of a host"),
        ("tcp://-h", "is no name or address of a host"),
        ("tcp://h..i", "is no name or address of a host"),
        ("tcp://.", "is no name or address of a host"),
        ("tcp://h\n", "is no name or address of a host"),
        ("tcp://h\0", "is no name or address of a host"),
        ("tcp://" + "a" * 64, "is no name or address of a host"),
        ("tcp://" + "a." * 130, "is no name or address of a host"),
        ("tcp://\udcff", "is no name or address of a host"),
        ("unix://host/path", "names a host"),
        ("unix:/a\0b", "must be a path"),
        ("unix:/" + "a" * 103, "has 104 bytes, and the name of a Unix socket at most 103"),
    ],
)
def test_what_is_no_address(spec: str, problem: str) -> None:
    error = refused(spec)
    assert problem in str(error)
    assert error.setting == "XTRACK_TRANSPORT"
    with pytest.raises(ConfigurationError, match=r"^--to="):
        parse_endpoint(spec, Settings(), name="--to")


@pytest.mark.parametrize(
    ("host", "problem"),
    [
        ("", "is no name or address"),
        ("h:80", "is no IPv6 address. The port goes into XTRACK_PORT"),
        ("tcp://h", "is no IPv6 address"),
        ("a b", "is no name or address"),
    ],
)
def test_what_is_no_host_in_the_settings(host: str, problem: str) -> None:
    error = refused("tcp", host=host)
    assert error.setting == "XTRACK_HOST"
    assert problem in str(error)


def test_a_long_socket_in_the_settings_is_named() -> None:
    assert refused("unix", socket=Path("/" + "a" * 200)).setting == "XTRACK_SOCKET"


@given(st.text(max_size=40), st.sampled_from(["", "tcp:", "tcp://", "tls://", "unix:", "unix:///", "tcp://["]))
def test_any_text_is_an_address_or_refused(text: str, start: str) -> None:
    try:
        endpoint = parse(start + text)
    except ConfigurationError:
        return
    if "~" not in text:  # which stands for a home directory
        assert parse(endpoint.url) == endpoint


# ---------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize(
    "spec",
    [
        "tcp://ada:canary@collector",
        "tcp://canary@collector:80",
        "tls://ada:can@ary@collector",
        "tcp:ada:canary@collector",
        "ada:canary@collector",
        "canary@collector",
        "https://ada:canary@collector/",
        "tcp://ada:canary/x@collector",
        "tcp://ada:\ncanary@collector",
    ],
)
def test_a_user_or_key_in_the_address_is_refused_and_not_shown(spec: str) -> None:
    error = refused(spec)
    assert "Put the key into XTRACK_KEY or XTRACK_KEY_FILE" in str(error)
    assert "canary" not in f"{error} {error!r} {error.value}"


@pytest.mark.parametrize(
    "spec",
    [
        "tcp://h?key=canary",
        "tcp://h#canary",
        "https://h/?key=canary",
        "xtk_k1_canary",
        "tcp://h:xtk_k1_canary",
        "tcp://h:80/xtk_k1_canary",
        "tcp://h h/xtk_k1_canary",
    ],
)
def test_a_key_elsewhere_in_the_address_is_not_shown(spec: str) -> None:
    error = refused(spec)
    assert "canary" not in f"{error} {error!r} {error.value}"


def test_a_key_in_the_host_is_not_shown() -> None:
    for host in ("ada:canary@h", "canary@h", "xtk_k1_canary!", "h?canary"):
        error = refused("tcp", host=host)
        assert "canary" not in f"{error} {error!r} {error.value}"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]
)
def test_a_key_goes_in_clear_on_this_machine(host: str) -> None:
    assert is_this_machine(host)
    endpoint = parse("tcp", host=host, key="canary")
    assert endpoint.key == "canary"
    assert endpoint.requires_session


@pytest.mark.parametrize(
    "host",
    [
        "collector",
        "localhost.example.org",
        "mylocalhost",
        "192.168.0.1",
        "10.0.0.1",
        "0.0.0.0",
        "127.1",  # the system reads it as 127.0.0.1; we aren't sure
        "128.0.0.1",
        "::",
        "::2",
        "::ffff:192.0.2.1",
        "fe80::1%lo",
    ],
)
def test_a_key_does_not_go_in_clear_beyond_it(host: str) -> None:
    assert not is_this_machine(host)
    error = refused("tcp", host=host, key="canary")
    assert error.setting == "XTRACK_KEY"
    assert "in clear text, where anybody on the way can read it" in str(error)
    assert "XTRACK_INSECURE=1 sends it in spite of that" in str(error)
    assert "tls://" in error.cure
    assert "canary" not in f"{error} {error!r}"
    assert parse("tcp", host=host, key="canary", insecure=True).key == "canary"
    assert parse("tls", host=host, key="canary").key == "canary"
    assert parse("tcp", host=host).key is None  # without a key there is nothing to protect


def test_a_key_on_a_unix_socket() -> None:
    endpoint = parse("unix", key="canary")
    assert endpoint.requires_session
    assert not endpoint.key_in_clear


def test_a_key_is_shown_nowhere() -> None:
    endpoint = parse("tcp", key="canary")
    for shown in (repr(endpoint), str(endpoint), endpoint.url, f"{endpoint}", repr(endpoint.hello())):
        assert "canary" not in shown
    assert "key='***'" in repr(endpoint)
    assert "key=None" in repr(parse("tcp"))
    assert pickle.loads(pickle.dumps(endpoint)) == endpoint == copy.deepcopy(endpoint)


def test_hello() -> None:
    hello = parse("tcp", key="canary").hello(["commands"], ["msgpack", "json"])
    assert hello.auth == Auth("key", "canary")
    assert (hello.protocols, hello.codecs, hello.features) == ([1], ["msgpack", "json"], ["commands"])
    assert hello.agent == f"xtrack-protocol/{xtrack_protocol.__version__}"
    assert parse("tcp").hello().auth is None
    assert parse("tcp").hello().codecs == ["json"]


def test_when_there_is_no_fallback() -> None:
    assert not parse("tcp").requires_session
    assert not parse("unix").requires_session
    assert parse("tls").requires_session
    assert parse("tcp", tls_fingerprint=PIN).requires_session


# ---------------------------------------------------------------------------------------------- TLS


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"tls": True}, "XTRACK_TLS"),
        ({"tls_ca": Path("ca.pem")}, "XTRACK_TLS_CA"),
        ({"tls_fingerprint": PIN}, "XTRACK_TLS_FINGERPRINT"),
        ({"tls_cert": Path("c.pem"), "tls_key": Path("k.pem")}, "XTRACK_TLS_CERT"),
        ({"tls_key": Path("k.pem")}, "XTRACK_TLS_KEY"),
    ],
)
def test_no_tls_on_unix_sockets(settings: dict[str, Any], setting: str) -> None:
    error = refused("unix", **settings)
    assert error.setting == setting
    assert "there is no TLS on a Unix socket" in str(error)


@pytest.mark.parametrize(
    "text",
    [
        PIN,
        PIN.upper(),
        ":".join(["ab"] * 32),
        ":".join(["AB"] * 32),
        " ".join(["ab"] * 32),
        f"sha256:{PIN}",
        f"SHA256:{PIN}\n",
        "sha256 Fingerprint=" + ":".join(["AB"] * 32),
        f"SHA-256 {':'}{PIN}",
    ],
)
def test_a_fingerprint_however_it_is_written(text: str) -> None:
    assert parse_fingerprint(text) == PIN
    assert parse("tcp", tls_fingerprint=text).tls == TLSOptions(fingerprint=PIN)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ab" * 31, "64 hex digits"),
        ("ab" * 33, "64 hex digits"),
        ("xy" * 32, "64 hex digits"),
        ("", "64 hex digits"),
        ("md5:" + PIN, "64 hex digits"),
        ("ab" * 20, "is a SHA-1"),
        (":".join(["AB"] * 20), "is a SHA-1"),
        ("٣" * 64, "64 hex digits"),
    ],
)
def test_what_is_no_fingerprint(text: str, problem: str) -> None:
    error = refused("tls", tls_fingerprint=text)
    assert error.setting == "XTRACK_TLS_FINGERPRINT"
    assert problem in str(error)
    assert "`xtrack serve` prints it" in error.cure
    with pytest.raises(ConfigurationError, match=r"^--pin="):
        parse_fingerprint(text, "--pin")


def test_settings_of_tls_that_do_not_go_together() -> None:
    error = refused("tls", tls_ca=Path("ca.pem"), tls_fingerprint=PIN)
    assert error.setting == "XTRACK_TLS_FINGERPRINT"
    assert "XTRACK_TLS_CA='ca.pem' too. Unset one of them" in str(error)
    assert "needs XTRACK_TLS_KEY too" in str(refused("tls", tls_cert=Path("c.pem")))
    assert "needs XTRACK_TLS_CERT too" in str(refused("tls", tls_key=Path("k.pem")))


# ---------------------------------------------------------------------------------------------- imports


def test_tls_is_imported_where_it_is_used_only() -> None:
    code = (
        "import sys, xtrack_protocol.net.connect, xtrack_protocol.net.explain\n"
        "from xtrack_protocol.net.endpoint import parse_endpoint\n"
        "from xtrack_protocol.settings import Settings\n"
        "parse_endpoint('tls://h', Settings())\n"
        "assert not {'ssl', 'asyncio', 'cryptography', 'cattrs', 'sqlite3'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-I", "-c", code], check=True)
