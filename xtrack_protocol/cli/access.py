"""``xtrack access``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs
import click

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._runs import examples, opened, reading
from xtrack_protocol.errors import RunNotFound

if TYPE_CHECKING:
    from xtrack_protocol.storage import RunAccess, Storage

SECTION = "Change"

COLUMNS = out.columns(("run", "id"), "owner", ("public", "json"), "readers", "writers")


@click.command(
    "access",
    epilog=examples(
        "xtrack access latest",
        "xtrack access baseline --owner ann",
        "xtrack access baseline --grant bob --grant ci:write --revoke eve",
        "xtrack access baseline --public",
    ),
)
@click.argument("run")
@click.option("--owner", metavar="NAME", help="Make NAME the owner.")
@click.option("--public/--private", default=None, help="Whether every key that may read may read it.")
@click.option(
    "--grant", "grants", multiple=True, metavar="NAME[:write]", help="Let NAME read it, with :write also write to it."
)
@click.option("--revoke", "revoked", multiple=True, metavar="NAME", help="Take back what NAME was granted.")
@reading
def command(
    run: str,
    owner: str | None,
    public: bool | None,
    grants: tuple[str, ...],
    revoked: tuple[str, ...],
    store: str | None,
    as_json: bool,
) -> None:
    """Show who may do what with a run, or change it. A collector obeys at the next connection.

    It counts where a collector asks for keys (`xtrack keys`); who may read a store's files may read all of its runs.
    After `--grant NAME` somebody who could write may only read. NAME:read is the same, for names that end in :write.
    """
    changes = owner is not None or public is not None or bool(grants or revoked)
    change = _changes(owner, public, grants, revoked)
    with opened(store, writing=changes) as source:
        run_id = _find(source, run)
        access = source.change_access(run_id, change) if changes else source.get_access(run_id)
    readers, writers = sorted(access.readers), sorted(access.writers)
    if as_json:
        out.as_json(
            {"run_id": run_id, "owner": access.owner, "public": access.public, "readers": readers, "writers": writers}
        )
    else:
        out.table(COLUMNS, [[run_id, access.owner, access.public, ", ".join(readers), ", ".join(writers)]])


def _find(source: Storage, ref: str) -> str:
    """Return the run that is meant: also one that was claimed, or given away, and has no events yet."""
    from xtrack_protocol.storage.access import NOBODYS

    try:
        return source.find_run(ref)
    except RunNotFound:
        if source.get_access(ref) == NOBODYS:
            raise
        return ref


def _changes(
    owner: str | None, public: bool | None, grants: Sequence[str], revoked: Sequence[str]
) -> Callable[[RunAccess], RunAccess]:
    """Return what makes the access that was asked for out of the one there is."""
    from xtrack_protocol.storage.access import unfit_name

    readers: set[str] = set()
    writers: set[str] = set()
    for grant in grants:
        name, colon, right = grant.rpartition(":")
        if not colon or right not in {"read", "write"}:
            name, right = grant, "read"
        (writers if right == "write" else readers).add(name)
    both = sorted((readers & writers) | ((readers | writers) & set(revoked)))
    if both:
        raise click.BadParameter(f"what becomes of {both[0]!r}? It is named twice, for different things")
    for name in (*readers, *writers, *revoked, *([owner] if owner is not None else [])):
        problem = unfit_name(name)
        if problem:
            raise click.BadParameter(f"the name {name!r} {problem}")

    def change(access: RunAccess) -> RunAccess:
        changed = attrs.evolve(
            access,
            readers=(access.readers - writers - set(revoked)) | readers,
            writers=(access.writers - readers - set(revoked)) | writers,
        )
        if owner is not None:
            changed = attrs.evolve(changed, owner=owner)
        return changed if public is None else attrs.evolve(changed, public=public)

    return change
