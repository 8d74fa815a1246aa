"""Which collector a verb asks, where it may be one on another machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs
import click

from xtrack_protocol.cli._runs import opened
from xtrack_protocol.errors import RunNotFound
from xtrack_protocol.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from xtrack_protocol.client import CollectorClient
    from xtrack_protocol.storage import Storage

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


@attrs.frozen
class Located:
    """A run and where it is: in a store here, or at the collector of a client."""

    run_id: str
    store: Storage | None = None
    client: CollectorClient | None = None


@contextmanager
def located(run: str, to: str | None, store: str | None) -> Iterator[Located]:
    """Find a run: with ``to`` at that collector, else here, else at the collector that the settings name.

    Raises RunNotFound; of a run at a collector nobody is asked yet.
    """
    from xtrack_protocol.settings import load_settings

    if to is not None:
        yield Located(whole_id(run), client=client_to(to))
        return
    settings = load_settings()
    collector = None if store is not None or settings.store is not None else configured(settings)
    with opened(store) as source:
        try:
            run_id = source.find_run(run)
        except RunNotFound:
            if collector is None:
                raise
        else:
            yield Located(run_id, store=source)
            return
    assert collector is not None
    yield Located(whole_id(run), client=client_to(collector, "XTRACK_TRANSPORT"))
