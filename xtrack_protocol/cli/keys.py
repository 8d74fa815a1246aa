"""``xtrack keys``."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._runs import examples, json_option
from xtrack_protocol.cli._seconds import Seconds

if TYPE_CHECKING:
    from xtrack_protocol.server.keys import KeyInfo, Keyring

SECTION = "Upkeep"

_Callback = TypeVar("_Callback", bound=Callable[..., Any])

COLUMNS = out.columns(("id", "id"), "owner", "experiment", "rights", ("created", "time"), ("old_secret_until", "time"))


@click.group(
    "keys",
    epilog=examples("xtrack keys add --owner ann", "xtrack keys ls", "xtrack keys rotate 1f2e3d4c5b --grace 3600"),
)
def command() -> None:
    """Give out the keys that a collector asks for. Nothing has to be restarted."""


def keys_option(callback: _Callback) -> _Callback:
    """Add --keys."""
    return click.option(
        "--keys",
        "file",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        help="The file of keys, which holds no secret of any. Default: keys.json under XTRACK_DIR.",
    )(callback)


def keyring(file: str | None, *, new: bool = False) -> Keyring:
    """Open the keys that are meant."""
    from xtrack_protocol.server.keys import KEYS_FILE, Keyring
    from xtrack_protocol.settings import load_settings

    folder = load_settings().dir
    return Keyring(file or (folder / KEYS_FILE if folder else None), new=new)


def _row(key: KeyInfo) -> list[object]:
    rights = " ".join(name for name, may in (("read", key.may_read), ("write", key.may_write)) if may)
    return [key.key_id, key.owner, key.experiment, rights, key.created_us, key.grace_until_us]


def _show(ring: Keyring, key: KeyInfo, secret: str, as_json: bool) -> None:
    """Show a new key, for this once: alone on standard output, so that it can go into a file."""
    if as_json:
        out.as_json({**out.objects(COLUMNS, [_row(key)])[0], "key": secret})
        return
    scope = f", for experiment {key.experiment}" if key.experiment is not None else ""
    out.remark(f"key {key.key_id} of {key.owner} ({_row(key)[3]}{scope}). It is shown this once and kept nowhere.")
    out.remark(
        f"A worker shows it by `export XTRACK_KEY=xtk_{key.key_id}_...`, or keeps it in a file of mode 0600 that"
    )
    out.remark("XTRACK_KEY_FILE names.")
    out.remark(f"It opens what is started with `xtrack serve --keys {shlex.quote(str(ring.path))}`. The whole key:")
    out.line(secret)


@command.command(
    "add",
    epilog=examples(
        "xtrack keys add --owner ann",
        "xtrack keys add --owner ci --experiment nightly --write",
        "xtrack keys add --owner dashboard --read --keys /srv/xtrack/keys.json > dashboard.key",
    ),
)
@click.option("--owner", required=True, metavar="NAME", help="Whose key it is: runs that are made with it are theirs.")
@click.option("--experiment", metavar="NAME", help="It covers the runs of this experiment only: its name or id.")
@click.option("--read", is_flag=True, help="It may read. Without --read and --write it may both.")
@click.option("--write", is_flag=True, help="It may write, and send commands.")
@keys_option
@json_option
def add(owner: str, experiment: str | None, read: bool, write: bool, file: str | None, as_json: bool) -> None:
    """Make a key, and show it, this once."""
    both = read == write
    ring = keyring(file, new=True)
    key, secret = ring.add(owner, experiment=experiment, may_read=read or both, may_write=write or both)
    _show(ring, key, secret, as_json)


@command.command("ls", epilog=examples("xtrack keys ls", "xtrack keys ls --keys /srv/xtrack/keys.json --json"))
@keys_option
@json_option
def ls(file: str | None, as_json: bool) -> None:
    """List the keys, the oldest first. Their secrets are kept nowhere."""
    rows = [_row(key) for key in keyring(file).keys()]  # noqa: SIM118 - a keyring is no dict
    if as_json:
        out.as_json(out.objects(COLUMNS, rows))
    else:
        out.table(COLUMNS, rows)


@command.command("rm", epilog=examples("xtrack keys rm 1f2e3d4c5b"))
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@keys_option
@json_option
def rm(ids: tuple[str, ...], file: str | None, as_json: bool) -> None:
    """Take keys away. Connections that were made with them end; runs stay as they are."""
    from xtrack_protocol.server.keys import id_of

    ring = keyring(file)
    removed = [ring.remove(id_of(text)) for text in dict.fromkeys(ids)]
    if as_json:
        out.as_json({"removed": [key.key_id for key in removed]})
    else:
        for key in removed:
            out.remark(f"removed key {key.key_id} of {key.owner}")


@command.command(
    "rotate", epilog=examples("xtrack keys rotate 1f2e3d4c5b", "xtrack keys rotate 1f2e3d4c5b --grace 86400")
)
@click.argument("key_id", metavar="ID")
@click.option(
    "--grace",
    type=Seconds(),
    default=0.0,
    metavar="SECONDS",
    help="How long the old secret holds beside the new one. Default 0: it ends now.",
)
@keys_option
@json_option
def rotate(key_id: str, grace: float, file: str | None, as_json: bool) -> None:
    """Give a key a new secret, and show it, this once. Owner, rights and experiment stay."""
    from xtrack_protocol.server.keys import id_of

    ring = keyring(file)
    _show(ring, *ring.rotate(id_of(key_id), grace_seconds=grace), as_json)
