"""``xtrack export``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._runs import examples, opened, reading
from xtrack_protocol.decode.show import event_json
from xtrack_protocol.decode.text import escape_json, iso_utc, json_line
from xtrack_protocol.errors import StorageError
from xtrack_protocol.views.files import replaced

if TYPE_CHECKING:
    from xtrack_protocol.storage import Storage

SECTION = "Files"

CSV_COLUMNS = out.columns(
    "key", ("step", "number"), ("value", "number"), ("epoch", "number"), ("time", "time"), "worker", "phase"
)


@click.command(
    "export",
    epilog=examples(
        "xtrack export latest --jsonl run.jsonl",
        "xtrack export latest --csv - | head",
        "xtrack export baseline --sqlite run.db && sqlite3 run.db 'SELECT max(value) FROM metrics'",
        "xtrack export baseline --parquet run.parquet",
    ),
)
@click.argument("run")
@click.option("--jsonl", metavar="FILE", help="Every event in wire names, one object a line. - is standard output.")
@click.option("--csv", "csv_file", metavar="FILE", help="Every point of every metric. - is standard output.")
@click.option(
    "--sqlite",
    metavar="FILE",
    help="A database with the tables run, tags, params, metrics, artifacts, checkpoints, logs.",
)
@click.option(
    "--parquet", metavar="FILE", help="Every point of every metric, for pandas, DuckDB, Spark. Needs pyarrow."
)
@click.option("--force", is_flag=True, help="Write over files that are there.")
@reading
def command(
    run: str,
    jsonl: str | None,
    csv_file: str | None,
    sqlite: str | None,
    parquet: str | None,
    force: bool,
    store: str | None,
    as_json: bool,
) -> None:
    """Write a run to files that other programs read. In a spreadsheet no cell of it is a formula."""
    given = {"jsonl": jsonl, "csv": csv_file, "sqlite": sqlite, "parquet": parquet}
    asked = {kind: path for kind, path in given.items() if path is not None}
    if not asked:
        raise click.UsageError("say what to write: --jsonl, --csv, --sqlite or --parquet.")
    if "-" in (asked.get("sqlite"), asked.get("parquet")):
        raise click.UsageError("a database or Parquet file can't be written to standard output.")
    if as_json and "-" in asked.values():
        raise click.UsageError("--json and the export can't both go to standard output.")
    if len({Path(path).resolve() for path in asked.values()}) < len(asked):
        raise click.UsageError("two exports can't go to the same place.")
    written: dict[str, int] = {}
    with opened(store) as source:
        _refuse_store(source, asked.values())
        run_id = source.find_run(run)
        for kind, path in asked.items():
            if kind in _BINARY:
                with replaced(path, force=force, cure="add --force") as temporary:
                    written[path] = _BINARY[kind](source, run_id, temporary)
            else:
                written[path] = _write_lines(path, source, run_id, _EXPORTS[kind], force=force)
    if as_json:
        out.as_json({"run_id": run_id, "written": written})
    else:
        for path, count in written.items():
            if path != "-":
                out.remark(f"run {run_id}: {count} rows written to {path}")


def _refuse_store(source: Storage, paths: Iterable[str]) -> None:
    """Raise StorageError for a path that is the store itself: with --force, all of its runs would be gone."""
    store = Path(source.url.removeprefix("sqlite:///"))
    for path in paths:
        if Path(path).exists() and store.exists() and store.samefile(path):
            raise StorageError(f"{path}: is the store that is exported from. Choose another name")


def _write_lines(
    path: str, source: Storage, run_id: str, export: Callable[[Storage, str, IO[str]], int], *, force: bool
) -> int:
    if path == "-":
        count = export(source, run_id, sys.stdout)
        sys.stdout.flush()
        return count
    with (
        replaced(path, force=force, cure="add --force") as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        return export(source, run_id, file)


def _export_jsonl(source: Storage, run_id: str, file: IO[str]) -> int:
    count = 0
    for stored in source.events(run_id):
        stream = json_line({"worker_id": stored.stream.worker_id, "session_id": stored.stream.session_id})
        received = iso_utc(stored.received_at_us)
        event = escape_json(event_json(stored.envelope))
        file.write(f'{{"position":{stored.position},"received_at":"{received}","stream":{stream},"event":{event}}}\n')
        count += 1
    return count


def _export_csv(source: Storage, run_id: str, file: IO[str]) -> int:
    count = 0

    def rows() -> Iterator[list[object]]:
        nonlocal count
        for key in source.metric_keys(run_id):
            for point in source.get_metrics(run_id, key):
                phase = point.context.phase if point.context else None
                count += 1
                where = [point.timestamp_us, point.worker_id or None, phase]
                yield [key, point.step, point.value, point.epoch, *where]

    out.write_csv(file, CSV_COLUMNS, rows())
    return count


def _export_sqlite(source: Storage, run_id: str, path: Path) -> int:
    from xtrack_protocol.cli._export_sqlite import write_sqlite

    return write_sqlite(source, run_id, path)


def _export_parquet(source: Storage, run_id: str, path: Path) -> int:
    from xtrack_protocol.views.parquet import write_parquet

    return write_parquet(source, [run_id], path)


_EXPORTS = {"jsonl": _export_jsonl, "csv": _export_csv}
_BINARY = {"sqlite": _export_sqlite, "parquet": _export_parquet}
