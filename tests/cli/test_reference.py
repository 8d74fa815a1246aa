"""Every verb and flag is documented, and the group finds its verbs."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

import xtrack_protocol.cli as package
from xtrack_protocol.cli._app import app
from xtrack_protocol.cli._reference import reference
from xtrack_protocol.decode.options import FLAGS, make_parser

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
CONTEXT = click.Context(app, info_name="xtrack")
VERBS = app.list_commands(CONTEXT)


def commands():
    for name in VERBS:
        command = app.get_command(CONTEXT, name)
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {verb}", sub) for verb, sub in command.commands.items())


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == reference(), "python -m xtrack_protocol.cli._reference > docs/reference/cli.md"


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_every_verb_has_help_examples_and_documented_flags(name, command):
    assert command.help
    assert command.epilog
    assert f"xtrack {name}" in command.epilog
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.help, param.opts
            assert param.opts[-1] in PAGE.read_text()


def test_every_flag_is_tested():
    texts = "".join(path.read_text() for path in Path(__file__).parents[1].rglob("*.py"))
    missing = [
        f"{name} {param.opts}"
        for name, command in commands()
        for param in command.params
        if isinstance(param, click.Option) and not any(f'"{opt}' in texts for opt in param.opts)
    ]
    assert missing == []


def test_both_command_lines_of_decode_have_the_same_flags():
    command = app.get_command(CONTEXT, "decode")
    ours = {param.opts[0] for param in command.params if isinstance(param, click.Option)}
    theirs = {action.option_strings[-1] for action in make_parser()._actions if action.option_strings} - {"--help"}
    assert ours == theirs == {flag.name for flag in FLAGS}


def test_help(xtrack):
    done = xtrack("--help")
    assert done.code == 0
    assert all(f"  {verb}  " in done.out for verb in VERBS)
    assert xtrack().out == done.out
    assert "Examples:" in xtrack("ls", "-h").out


def test_version(xtrack):
    from xtrack_protocol import __version__

    assert xtrack("--version").out.startswith(f"xtrack {__version__}, protocol 1, Python 3.")


def test_wrong_usage(xtrack):
    done = xtrack("lss")
    assert (done.code, done.err) == (2, "xtrack: no verb 'lss'. Did you mean 'ls'? `xtrack --help` shows the usage\n")
    done = xtrack("ls", "--bogus")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert xtrack("store", "nope").code == 2


def test_a_verb_imports_only_what_it_needs():
    code = """
import json, sys
from xtrack_protocol.cli import main
code = main(["ls", "--store", "sqlite:///none.db"])
print(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert "xtrack_protocol.cli.ls" in loaded
    assert not {"xtrack_protocol.cli.run", "xtrack_protocol.collector", "asyncio", "rich.table"} & loaded


def test_the_package_itself_imports_no_click():
    tree = ast.parse(Path(package.__file__).read_text())
    names = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert all("click" not in ast.dump(node) for node in names)


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"click", "rich"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
"""


def test_without_the_extra(captured):
    code = f"{BLOCKED}\nfrom xtrack_protocol.cli import main\nsys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"pip install 'xtrack-protocol[cli]'" in done.stderr
    assert b"python -m xtrack_protocol.decode" in done.stderr
    code = f"{BLOCKED}\nimport runpy; sys.argv = ['decode', {str(captured)!r}]\n"
    code += "runpy.run_module('xtrack_protocol.decode', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0
    assert done.stdout.count(b"\n") == 17


def test_errors_have_no_traceback_unless_asked_for(process, tmp_path):
    (tmp_path / "xtrack.toml").write_text("nonsense = 1\n")
    done = process("ls")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "Traceback" in process("ls", XTRACK_DEBUG="1").err


def test_an_error_of_ours_is_one_line(xtrack, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("oh\x1b[31m no")

    monkeypatch.setattr("xtrack_protocol.cli._runs.store_url", fail)
    done = xtrack("ls")
    assert done.code == 1
    assert done.err == "xtrack: internal error: RuntimeError: oh\\x1b[31m no. XTRACK_DEBUG=1 shows where\n"
