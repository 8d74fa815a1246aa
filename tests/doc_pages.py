"""The blocks of a documentation page, and the machinery that runs them.

A page's blocks are run in their order, in one empty folder with a copy of the examples and testees, and a capture:

- ``python`` blocks all in one fresh process, so that later ones see the names of earlier ones;
- ``bash`` blocks each in a bash that stops at the first failing command;
- ``console`` blocks command by command (lines after ``$``): what stands below a command is what it must print. A
  command must succeed unless ``$ echo $?`` comes next, which shows what its exit status must be.

- ``toml`` blocks are an ``xtrack.toml``, and must be good settings.

A ``text`` block after ``<!-- output -->`` is what the python or bash block before it must print. In expected output
``...`` stands for any text, and the amount of white space doesn't count.

``<!-- file: NAME -->`` before a block of any language: the block is a file, which a later block uses.
``<!-- needs: PROGRAM -->`` before a block: it is run where there is such a program.
``<!-- needs: FRAMEWORK -->``, one of ``FRAMEWORKS``: it is run by ``pytest -m frameworks``, as is the rest of its page.
``<!-- not run: REASON -->`` before a block: it isn't run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

LANGUAGES = frozenset({"python", "bash", "console", "toml", "text", "mermaid"})
FRAMEWORKS = frozenset({"keras", "lightning", "pytorch_lightning", "torch", "transformers"})
SECONDS = 100
"""For one block."""

_FENCE = re.compile(
    r"^(?:<!-- (?P<marker>[^\n]*?) -->\n)?^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block. ``marker``: the comment in the line before it."""

    page: Path
    line: int
    language: str
    marker: str
    code: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str | None:
        return self.marker.removeprefix("file:").strip() if self.marker.startswith("file:") else None

    @property
    def not_run(self) -> str | None:
        return self.marker.removeprefix("not run:").strip() if self.marker.startswith("not run:") else None

    @property
    def needs(self) -> str | None:
        return self.marker.removeprefix("needs:").strip() if self.marker.startswith("needs:") else None

    @property
    def framework(self) -> str | None:
        return self.needs if self.needs in FRAMEWORKS else None

    @property
    def is_generated(self) -> bool:
        return self.marker.startswith("generated:") and self.language == "text"

    @property
    def is_output(self) -> bool:
        return self.marker == "output"


def pages() -> list[Path]:
    """Return README and all pages but the specification's, which has tests of its own."""
    found = [path for path in sorted(DOCS.rglob("*.md")) if (DOCS / "spec") not in path.parents]
    return [ROOT / "README.md", *found]


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"^ *```", text, re.MULTILINE)) % 2 == 0, f"{page}: a fence is left open"
    found = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("language")) + 1
        code = textwrap.dedent(match["code"])
        found.append(Block(page, line, match["language"].strip(), (match["marker"] or "").strip(), code))
    return found


def agrees(expected: str, printed: str) -> bool:
    """Whether ``printed`` is ``expected``, in which ... is any text; white space counts only as such."""
    return re.fullmatch(rf"\s*{_pattern(expected)}\s*", printed, re.DOTALL) is not None


def says(message: str, printed: str) -> bool:
    """Whether ``message``, in which ... is any text, stands somewhere in ``printed``."""
    return re.search(_pattern(message), printed, re.DOTALL) is not None


def _pattern(text: str) -> str:
    return r"\s*.*?\s*".join(r"\s+".join(map(re.escape, part.split())) for part in text.split("..."))


# ------------------------------------------------------------------------------------------ running

_DRIVER = r"""
import os, sys, traceback
words, report = os.fdopen(int(sys.argv[1]), "rb"), os.fdopen(int(sys.argv[2]), "wb")
sys.argv = ["page.py"]
sys.path.insert(0, "")
names = {"__name__": "__main__"}
while line := words.readline():
    where, size = line.decode().rsplit(" ", 1)
    code = words.read(int(size)).decode()
    try:
        exec(compile(code, where, "exec"), names)
    except BaseException:
        traceback.print_exc()
        verdict = b"failed\n"
    else:
        verdict = b"passed\n"
    sys.stdout.flush()
    report.write(verdict)
    report.flush()
"""


class PageRunner:
    """Runs the blocks of one page in ``folder``."""

    def __init__(self, folder: Path, environ: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.environ = environ or environment(folder)
        self._python: subprocess.Popen[bytes] | None = None
        self._output = folder / ".python-output"

    def run(self, block: Block) -> str:
        """Run a block and return what it printed, on both streams."""
        if block.file:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code, encoding="utf-8")
            return ""
        if block.language == "python":
            return self._run_python(block)
        if block.language == "bash":
            return self._run_bash(block)
        if block.language == "toml":
            self._load_settings(block)
            return ""
        assert block.language == "console", block.where
        self._run_console(block)
        return ""

    def _load_settings(self, block: Block) -> None:
        from xtrack_protocol.settings import load_settings

        if sys.version_info < (3, 11):
            return  # reads no TOML by itself
        folder = self.folder / f"toml-{block.line}"
        folder.mkdir()
        (folder / "xtrack.toml").write_text(block.code, encoding="utf-8")
        load_settings({}, folder)

    def _run_python(self, block: Block) -> str:
        if self._python is None:
            self._start_python()
        process = self._python
        assert process is not None
        begin = self._output.stat().st_size
        code = "\n" * block.line + block.code  # so that tracebacks name the page's lines
        data = code.encode()
        self._words.write(f"{block.where} {len(data)}\n".encode() + data)
        self._words.flush()
        verdict = self._report.readline()
        printed = self._output.read_bytes()[begin:].decode()
        assert verdict == b"passed\n", f"{block.where}\n{printed}"
        return printed

    def _start_python(self) -> None:
        words_read, words_write = os.pipe()
        report_read, report_write = os.pipe()
        with self._output.open("wb") as output:
            self._python = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", _DRIVER, str(words_read), str(report_write)],
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(words_read, report_write),
            )
        os.close(words_read)
        os.close(report_write)
        self._words, self._report = os.fdopen(words_write, "wb"), os.fdopen(report_read, "rb")

    def close(self) -> None:
        """End the page's Python process, which must end well."""
        if self._python is None:
            return
        self._words.close()
        try:
            code = self._python.wait(SECONDS)
        finally:
            self._python.kill()
            self._python.wait()
            self._report.close()
        assert code == 0, self._output.read_text(encoding="utf-8")[-2000:]

    def bash(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script; its errors are in its output."""
        return subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )

    def _run_bash(self, block: Block) -> str:
        done = self.bash(f"set -euo pipefail\n{block.code}")
        assert done.returncode == 0, f"{block.where}: exit status {done.returncode}\n{done.stdout}"
        return done.stdout

    def _run_console(self, block: Block) -> None:
        commands = console_commands(block)
        script = "status=0\n"
        for command, _ in commands:
            # The status goes on to the next command, for `echo $?`.
            script += f"( exit $status )\n{command}\nstatus=$?; printf '\\036%s\\036' $status\n"
        done = self.bash(script)
        fields = done.stdout.split("\036")
        assert len(fields) == 2 * len(commands) + 1, f"{block.where}: the shell ended early\n{done.stdout}"
        for number, (command, expected) in enumerate(commands):
            printed, status = fields[2 * number], fields[2 * number + 1]
            excused = number + 1 < len(commands) and commands[number + 1][0] == "echo $?"
            assert status == "0" or excused, f"{block.where}: $ {command}\nexit status {status}\n{printed}"
            if expected.strip():
                assert agrees(expected, printed), (
                    f"{block.where}: $ {command}\nexpected:\n{expected}\nprinted:\n{printed}"
                )


def console_commands(block: Block) -> list[tuple[str, str]]:
    """Return the commands of a console block, each with what it must print; nothing where that isn't shown."""
    commands: list[tuple[str, str]] = []
    for line in block.code.splitlines():
        if line.startswith("$ "):
            commands.append((line[2:].strip(), ""))
        elif commands and commands[-1][0].endswith("\\") and not commands[-1][1]:
            commands[-1] = (f"{commands[-1][0]}\n{line}", "")
        else:
            assert commands, f"{block.where}: a console block begins with a command"
            command, expected = commands[-1]
            commands[-1] = (command, f"{expected}{line}\n")
    return commands


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a page: nothing of XTrack set but a spool of its own, our Python first on PATH."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("XTRACK_", "PYTEST_", "COV_"))}
    binaries = Path(sys.executable).parent
    home = folder / ".home"
    home.mkdir(exist_ok=True)
    return environ | {
        "PATH": f"{binaries}{os.pathsep}{environ.get('PATH', os.defpath)}",
        "HOME": str(home),
        "TMPDIR": str(folder),
        "XTRACK_DIR": str(folder / "xtrack"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "120",
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }


def prepare(folder: Path) -> None:
    """Put into a page's folder what every page may use: the examples, and the testees."""
    for name in ("examples", "conformance/testees"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "iris-runs", "target"))
