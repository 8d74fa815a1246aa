"""Which collector a verb asks, where it may be one on another machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from xtrack_protocol.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from xtrack_protocol.client import CollectorClient

    _Callback = TypeVar("_Callback", bound=Callable[..., Any])


def to_option(callback: _Callback) -> _Callback:
    """Add --to."""
    return click.option(
        "--to",
        metavar="URL",
        help="The collector: tcp://HOST:PORT, tls://HOST:PORT or unix:/PATH. Its key and certificates are settings.",
    )(callback)


def configured(settings: Settings) -> str | None:
    """Return the collector that the settings name; None where they name none."""
    if settings.transport.partition(":")[0] in {"tcp", "tls", "unix"}:
        return settings.transport
    return "tcp" if os.environ.get("XTRACK_HOST") or settings.host != Settings().host else None


def whole_id(run: str) -> str:
    """Return ``run``, which is asked of a collector. Raises UsageError for ``latest``, which it would wait for."""
    if run == "latest":
        raise click.UsageError(
            "latest: a collector isn't asked for its runs. Give the run's whole id, as it stood in "
            "the line that the training began with"
        )
    return run


def client_to(url: str, name: str = "--to") -> CollectorClient:
    """Return the client of a collector. Raises ConfigurationError that names ``name``."""
    from xtrack_protocol.client import CollectorClient
    from xtrack_protocol.net.endpoint import parse_endpoint
    from xtrack_protocol.settings import load_settings

    return CollectorClient(parse_endpoint(url, load_settings(), name=name))
