"""What a process reads from a file of settings, and what a checkpoint to go on from means: EMT-1.1, EMT-1.5 to EMT-1.8."""

from __future__ import annotations

from generate.dsl import Json
from generate.emitting import Emitting, do, metric, saw
from generate.processes import STDIO, add, begin, process

WITH_FILE = "folders settings_file"


def add_to(g: Emitting) -> None:
    """Add the cases."""
    _read(g)
    _found(g)
    _paths(g)
    _checkpoint(g)


def put(**files: str) -> Json:
    """Put files into the folder; ``here``, ``above`` and ``other`` stand for names, as seen from the process."""
    names = {"here": "work/xtrack.toml", "above": "xtrack.toml", "other": "work/other.conf"}
    return do("files", dir="d", put=[{"path": names[name], "parts": [{"text": text}]} for name, text in files.items()])


def started(wid: str, **body: Json | int | str) -> Json:
    """Return the run_start of a worker."""
    return {"t": "run_start", "m": {"wid": wid}, "p": body}


def _read(g: Emitting) -> None:
    text = (
        "# settings\nexperiment = \"e7\" # of this file\nworker_id='w7'\n\n  world_size = 4\nquiet = true\n"
        'run_id = "a # b"\n'
    )
    add(
        g, "settings", "EMT-1.5 EMT-1", "names in lower case, with strings of both kinds, an integer, a boolean", put(here=text),
        process(begin(), dir="d", outputs={"3": [started("w7", run_id={"id": "a # b", "exp_id": "e7"}, world_size=4)]},
                max_lines=0), needs=WITH_FILE, kills="emitter-no-settings",
    )  # fmt: skip
    add(
        g, "settings-as-texts", "EMT-1.5", "a number and a switch may be strings, as in the environment",
        put(here='world_size = "4"\nquiet = "1"\nworker_id = "w7"\n'),
        process(begin(run_id="a"), dir="d", outputs={"3": [started("w7", world_size=4)]}, max_lines=0),
        needs=WITH_FILE, kind="boundary", kills="emitter-no-settings",
    )  # fmt: skip
    add(
        g, "settings-escapes", "EMT-1.5", "strings are TOML's: escapes in double quotes, and none in single ones",
        put(here='worker_id = "a\\"\\\\b\\u00e9\\t"\nexperiment = \'c\\n"d\'\n'),
        process(begin(run_id="a"), dir="d", outputs={"3": [started('a"\\b\u00e9\t', run_id={"exp_id": 'c\\n"d'})]}),
        needs=WITH_FILE, kind="boundary", kills="emitter-no-settings",
    )  # fmt: skip
    add(
        g, "settings-wrong", "EMT-1.5 EMT-3 EMT-1.3", "what can't be used is said when the run is started",
        put(here='world_size = "all"\n'), process(begin(), dir="d", calls=["raised"], outputs={"3": []}),
        needs=WITH_FILE, kind="invalid", kills="emitter-no-settings emitter-swallows-configuration-errors",
    )  # fmt: skip
    add(
        g, "settings-and-the-environment", "EMT-1.1 EMT-1.4", "the environment outweighs the file, and an empty variable doesn't",
        put(here='worker_id = "file"\nexperiment = "file"\n'),
        process(begin(run_id="a"), dir="d", env={**STDIO, "XTRACK_WORKER_ID": "7", "XTRACK_EXPERIMENT": ""},
                outputs={"3": [started("7", run_id={"exp_id": "file"})]}),
        needs=WITH_FILE, kind="boundary", kills="emitter-file-outweighs emitter-no-settings",
    )  # fmt: skip


def _found(g: Emitting) -> None:
    add(
        g, "settings-above", "EMT-1 EMT-1.5", "where the working directory has none, the nearest folder above that has one",
        put(above='worker_id = "above"\n'), process(begin(run_id="a"), dir="d", outputs={"3": [started("above")]}),
        needs=WITH_FILE, kills="emitter-settings-here-alone",
    )  # fmt: skip
    add(
        g, "settings-nearest", "EMT-1 EMT-1.5", "one file is read, and not the one above it as well",
        put(here='worker_id = "here"\n', above='worker_id = "above"\nexperiment = "above"\n'),
        process(begin(run_id="a"), dir="d", outputs={"3": [started("here", run_id={"$in": ["a", {"id": "a"}]})]}),
        needs=WITH_FILE, kind="boundary", kills="emitter-settings-from-above",
    )  # fmt: skip
    add(
        g, "settings-named", "EMT-1 EMT-1.5", "XTRACK_CONFIG names another file, whatever it is called",
        put(here='worker_id = "here"\nexperiment = "here"\n', other='worker_id = "other"\n'),
        process(begin(run_id="a"), dir="d", env={**STDIO, "XTRACK_CONFIG": "other.conf"},
                outputs={"3": [started("other", run_id={"$in": ["a", {"id": "a"}]})]}),
        needs=WITH_FILE, kills="emitter-ignores-XTRACK_CONFIG",
    )  # fmt: skip


def _paths(g: Emitting) -> None:
    whole = [saw("run_start", 1), saw("metric", 3), saw("run_end", 4)]
    add(
        g, "settings-relative-path", "EMT-1.6", "a relative path begins at the file's folder, wherever the process is",
        put(above='transport = "file"\nfile = "out.bin"\n'),
        process(begin(run_id="a"), metric(), env={}, dir="d", descriptors={}, read=["../out.bin"],
                outputs={"../out.bin": whole}, recording=True),
        needs=WITH_FILE, kind="boundary", kills="emitter-paths-from-here",
    )  # fmt: skip
    add(
        g, "variable-relative-path", "EMT-1 EMT-1.6", "one in a variable begins where the process is",
        put(above='transport = "file"\n'),
        process(begin(run_id="a"), metric(), env={"XTRACK_FILE": "out.bin"}, dir="d", descriptors={}, read=["out.bin"],
                outputs={"out.bin": whole}, recording=True),
        needs=WITH_FILE, kills="emitter-ignores-XTRACK_FILE",
    )  # fmt: skip


def _checkpoint(g: Emitting) -> None:
    local = {"XTRACK_TRANSPORT": "local"}
    add(
        g, "resume-checkpoint", "EMT-1.8", "a checkpoint to go on from is the script's: nothing is hidden for it",
        process(begin(run_id="a"), {"do": "call", "call": "checkpoint", "arguments": {"path": "s3://b/c", "step": 3}},
                env=local, dir="d", descriptors={}, ending="exit 3"),
        process(begin(), metric("two"), dir="d", descriptors={},
                env={**local, "XTRACK_RESUME_RUN_ID": "a", "XTRACK_RESUME_CHECKPOINT": "s3://b/c"}),
        do("spool", dir="d", streams=2, events=[
            saw("checkpoint"), {"$rewind": True},
            saw("run_start", run_id="a", resume={"sids": [{"$any": True}], "rewind_to": {"$absent": True}}),
        ]), needs="folders", kills="emitter-rewinds-to-the-checkpoint",
    )  # fmt: skip
    add(
        g, "resume-checkpoint-of-nothing", "EMT-1.8", "a text that names no file is the script's to understand: the run begins",
        process(begin(), metric(), calls=["returned", "returned"], outputs={"3": [saw("run_start", 1, run_id="a"), saw("metric", 3)]},
                env={**STDIO, "XTRACK_RESUME_RUN_ID": "a", "XTRACK_RESUME_CHECKPOINT": "no/such file?"}),
        kind="boundary", kills="emitter-opens-the-checkpoint",
    )  # fmt: skip
