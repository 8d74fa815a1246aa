"""What an emitter brings along, module by module, and that names which are imported late are found as all others."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import xtrack_protocol

LIBRARY = Path(xtrack_protocol.__file__).parent

OURS = """
_lazy _terminal _value errors limits settings
ir ir._slots ir.control ir.envelope ir.files ir.identity ir.lifecycle ir.messages ir.values
wire wire.codec wire.records
session session.published session.streams
spool spool.durable spool.layout spool.locks spool.mailbox spool.pen spool.room spool.segment spool.syncing spool.writer
transport transport.base transport.local transport.open
emitter emitter.checks emitter.commands emitter.current emitter.ending emitter.exits emitter.files emitter.ranks
emitter.life emitter.numbers emitter.quick emitter.run emitter.shrink emitter.stream emitter.surroundings
emitter.tracker emitter.values
"""
"""All that a run needs on the default transport. What comes in addition is paid for by each start of each training:
it belongs to where it is needed first, in the thread that calls."""

OTHERS = {"_weakrefset", "atexit", "fcntl", "math", "mmap", "msvcrt", "struct", "_struct", "weakref", "zlib"}
"""What it needs beside msgspec and pathlib, and what these bring."""

RUN = """
import json, sys
import msgspec, pathlib, threading, typing_extensions  # bring what they bring in this version of Python
import fnmatch, platform
before = set(sys.modules)
import xtrack_protocol as xtrack
imported = set(sys.modules) - before
run = xtrack.start_run("a run", quiet=True)
run.log_params({"lr": 0.1})
run.log_metric("loss", 0.5, step=1)
run.log_metrics({"a": 1, "b": 2.0}, step=1)
xtrack.log_metric("loss", 0.25, step=2)
run.end()
assert run.stats().accepted == 7, run.stats()
print(json.dumps([sorted(imported), sorted(set(sys.modules) - before)]))
"""

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def run_script(text: str, folder: Path, said: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-c", text],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "XTRACK_DIR": str(folder / "x"), "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == said
    return done.stdout


def test_a_run_brings_what_it_needs_and_no_more(tmp_path):
    """By name, for times can't be held to: each module costs every start of every training."""
    ours = {"xtrack_protocol", *(f"xtrack_protocol.{name}" for name in OURS.split())}
    at_import, in_all = map(set, json.loads(run_script(RUN, tmp_path)))
    assert not in_all - ours - OTHERS, f"brought by a run: {sorted(in_all - ours - OTHERS)}"
    assert not ours - in_all, f"no longer brought by a run, so off with its name: {sorted(ours - in_all)}"
    needed = {f"xtrack_protocol{name}" for name in ("", "._lazy", ".emitter", ".emitter.exits")}
    assert not at_import - needed - OTHERS, f"brought by the import alone: {sorted(at_import - needed - OTHERS)}"


POST = """
import sys, time
from pathlib import Path
from xtrack_protocol.spool.layout import make_private_dir, safe_name, write_private
folder = Path(sys.argv[1])
make_private_dir(folder)
# A capital letter takes a digest in the name, and an unknown member the slow half of the decoder.
payload = b'{"t":"command","v":1,"m":{"seq":0,"ts":%d},"p":{"cmd_id":"C","type":"custom","more":1}}'
write_private(folder / f"{safe_name('C')}.json", payload % (time.time_ns() // 1000))
"""

THREADS = f"""
import subprocess, sys, threading, time
seen = []
def hook(event, arguments):
    if event == "import" and threading.current_thread() is not threading.main_thread():
        seen.append(arguments[0])
sys.addaudithook(hook)
import xtrack_protocol as xtrack
run = xtrack.start_run(run_id="r", quiet=True)
def callback(command):
    run.log_metric("loss", 0.5)
    run.log_params({{"by": {{"command": command.type, "text": "a" * 2_000_000}}}})
    return "done"
run.on_command(callback)
folder = run._out.transport.root / "spool" / "r" / "commands"
subprocess.run([sys.executable, "-c", {POST!r}, str(folder)], check=True)
for _ in range(200):
    answers = list(folder.glob("*.result"))
    if answers:
        break
    time.sleep(0.1)
time.sleep(1.3)  # a turn of the thread that syncs
run.end()
print(len(answers), run.stats().accepted, seen)
"""


CUT = "xtrack: warning: an event (Param) was too long and has been cut; its full text is kept as a file\n"


@posix
def test_threads_of_a_local_run_import_nothing(tmp_path):
    """Or a child that is forked in the middle of it waits for ever for the module. tests/sender has the other's."""
    assert run_script(THREADS, tmp_path, said=CUT) == "1 7 []\n"


FORK = """
import importlib.machinery, os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import xtrack_protocol as xtrack

slow = threading.Event()

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "xtrack_protocol.wire.records" and not slow.is_set():
            slow.set()
            time.sleep(1)
        return super().find_spec(name, path, target)

sys.meta_path.insert(0, Finder)
thread = threading.Thread(target=lambda: xtrack.start_run(run_id="parent", quiet=True).end())
thread.start()
slow.wait()
pid = os.fork()  # while the thread imports what start_run needs
if pid == 0:
    signal.alarm(20)
    xtrack.start_run(run_id="child", quiet=True).end()
    os._exit(0)
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@posix
def test_a_fork_waits_for_an_import_of_another_thread(tmp_path):
    """The child would wait for it in vain."""
    assert run_script(FORK, tmp_path) == "0\n"


ORDER = """
import atexit
import xtrack_protocol as xtrack
atexit.register(lambda: run.log_metric("last", 1.0))
run = xtrack.start_run(run_id="r", quiet=True)
atexit.register(lambda: run.log_metric("last but one", 1.0))
"""


def test_what_is_logged_at_the_exit_still_counts(tmp_path):
    """A run that nobody ended ends after all that the script asked for, which came after the import."""
    from xtrack_protocol.wire import stream_file

    run_script(ORDER, tmp_path)
    (segment,) = (tmp_path / "x" / "spool" / "r").glob("*.xseg")
    types = [frame.envelope.event_type for frame in stream_file(segment)]
    assert types == ["run_start", "status", "metric", "metric", "run_end"]


# ------------------------------------------------------------------------------------------ the tables


def lazy_modules() -> list[str]:
    found = []
    for path in sorted(LIBRARY.rglob("*.py")):
        if "lazily(" in path.read_text(encoding="utf-8") and path.name != "_lazy.py":
            parts = path.relative_to(LIBRARY.parent).with_suffix("").parts
            found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


LAZY = lazy_modules()


def tables_of(name: str) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """The names that a type checker is told of, and those of the table, each by module."""
    module = importlib.import_module(name)
    package = name if hasattr(module, "__path__") else name.rpartition(".")[0]
    (fork,) = (
        node
        for node in ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    told = {node.module: {alias.name for alias in node.names} for node in fork.body if isinstance(node, ast.ImportFrom)}
    (call,) = (node for node in ast.walk(ast.Module(fork.orelse, [])) if isinstance(node, ast.Call))
    table = ast.literal_eval(call.args[1])
    return told, {f"{package}.{place}": set(names) for place, names in table.items()}


def test_packages_are_lazy():
    assert {"xtrack_protocol", "xtrack_protocol.emitter", "xtrack_protocol.wire", "xtrack_protocol.limits"} <= {*LAZY}


@pytest.mark.parametrize("name", LAZY)
def test_a_type_checker_is_told_what_is_found(name):
    told, table = tables_of(name)
    assert told == table
    module = importlib.import_module(name)
    for place, names in table.items():
        for item in names:
            assert getattr(module, item) is getattr(importlib.import_module(place), item)
            if hasattr(module, "__path__"):  # a module of that name would come instead, once somebody imports it
                assert not (Path(module.__file__).parent / f"{item}.py").exists(), item


STAR = """
import json, sys
import {name} as module
assert {{*module.__all__}} <= {{*dir(module)}}, {{*module.__all__}} - {{*dir(module)}}
found = {{}}
exec("from {name} import *", found)
del found["__builtins__"]
assert sorted(found) == sorted(module.__all__), set(found) ^ set(module.__all__)
for missing in ("nonsense", "__wrapped__"):
    try:
        getattr(module, missing)
    except AttributeError as error:
        assert str(error) == f"module '{name}' has no attribute {{missing!r}}", error
    else:
        raise AssertionError(missing)
try:
    from {name} import nonsense
except ImportError:
    print("well")
"""


@pytest.mark.parametrize("name", LAZY)
def test_names_are_found_as_all_others(name, tmp_path):
    assert run_script(STAR.format(name=name), tmp_path) == "well\n"


ATTRIBUTES = """
import xtrack_protocol
from xtrack_protocol import Metric, wire
import xtrack_protocol.wire.framing
assert xtrack_protocol.wire.framing.encode_frame is xtrack_protocol.encode_frame is wire.encode_frame
assert xtrack_protocol.ir.Metric is Metric
assert xtrack_protocol.runs.fold and xtrack_protocol.settings.Settings and xtrack_protocol.limits.FILE_LIMITS
assert xtrack_protocol.runs.aggregate is not None and callable(xtrack_protocol.runs.aggregate)
print("well")
"""


def test_packages_below_are_attributes(tmp_path):
    assert run_script(ATTRIBUTES, tmp_path) == "well\n"
