from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import attrs
import pytest

from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.settings import Settings, load_settings, settings_table

ROOT = Path(__file__).parents[1]


def toml(folder, text, name="xtrack.toml"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path


@pytest.fixture(autouse=True)
def _toml_reader():
    if sys.version_info < (3, 11):
        pytest.importorskip("tomli")


# Each setting: as a variable, as a value in the file, and what both give. Paths in the file are relative to it.
EACH = {
    "transport": ("file:x", '"file:x"', "file:x"),
    "dir": ("/a/b", '"/a/b"', Path("/a/b")),
    "file": ("/a.bin", '"/a.bin"', Path("/a.bin")),
    "socket": ("/a.sock", '"/a.sock"', Path("/a.sock")),
    "host": ("collector.example", '"collector.example"', "collector.example"),
    "port": ("4000", "4000", 4000),
    "key": ("xtk_k1_abc", '"xtk_k1_abc"', "xtk_k1_abc"),
    "key_file": ("/a.key", '"/a.key"', Path("/a.key")),
    "tls": ("1", "true", True),
    "tls_ca": ("/ca.pem", '"/ca.pem"', Path("/ca.pem")),
    "tls_fingerprint": ("ab:cd", '"ab:cd"', "ab:cd"),
    "tls_cert": ("/c.pem", '"/c.pem"', Path("/c.pem")),
    "tls_key": ("/k.pem", '"/k.pem"', Path("/k.pem")),
    "insecure": ("1", "true", True),
    "on_full": ("block", '"block"', "block"),
    "end_timeout": ("2.5", "2.5", 2.5),
    "fd": ("7", "7", 7),
    "run_id": ("r/1", '"r/1"', "r/1"),
    "experiment": ("iris", '"iris"', "iris"),
    "worker_id": ("0", '"0"', "0"),
    "world_size": ("4", "4", 4),
    "resume_run_id": ("r", '"r"', "r"),
    "resume_checkpoint": ("c.pt", '"c.pt"', "c.pt"),
    "resume": ("auto", '"auto"', "auto"),
    "signals": ("TERM=end, USR1 = stop,", '["TERM=end", "USR1=stop"]', (("TERM", "end"), ("USR1", "stop"))),
    "store": ("memory:", '"memory:"', "memory:"),
    "additive": ("1", "true", True),
    "quiet": ("yes", "1", True),
    "strict": ("on", '"true"', True),
    "env_vars": ("A, B_*,,", '["A", "B_*"]', ("A", "B_*")),
}


def test_each_setting_is_tested():
    assert set(EACH) == {field.name for field in attrs.fields(Settings)}


@pytest.mark.parametrize("name", EACH)
def test_from_the_environment_from_the_file_and_by_default(tmp_path, name):
    variable, in_file, expected = EACH[name]
    default = getattr(Settings(), name)
    assert getattr(load_settings({}, tmp_path), name) == default
    assert getattr(load_settings({f"XTRACK_{name.upper()}": variable}, tmp_path), name) == expected
    toml(tmp_path, f"{name} = {in_file}\n")
    assert getattr(load_settings({}, tmp_path), name) == expected
    assert load_settings({}, tmp_path) == attrs.evolve(Settings(), **{name: expected})


def test_the_environment_wins_over_the_file_and_empty_counts_as_unset(tmp_path):
    toml(tmp_path, 'experiment = "file"\nquiet = true\n')
    assert load_settings({"XTRACK_EXPERIMENT": "variable"}, tmp_path).experiment == "variable"
    assert load_settings({"XTRACK_EXPERIMENT": ""}, tmp_path).experiment == "file"
    assert load_settings({"XTRACK_QUIET": "0"}, tmp_path).quiet is False


def test_the_process_is_the_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XTRACK_EXPERIMENT", "here")
    toml(tmp_path, 'worker_id = "w"\n')
    settings = load_settings()
    assert (settings.experiment, settings.worker_id) == ("here", "w")


def test_the_nearest_file_above_is_read_and_no_other(tmp_path):
    toml(tmp_path, 'experiment = "top"\nworker_id = "top"\n')
    toml(tmp_path / "a" / "b", 'experiment = "near"\n')
    (tmp_path / "a" / "b" / "c" / "d").mkdir(parents=True)
    settings = load_settings({}, tmp_path / "a" / "b" / "c" / "d")
    assert (settings.experiment, settings.worker_id) == ("near", None)
    assert load_settings({}, tmp_path / "a").experiment == "top"
    (tmp_path / "a" / "xtrack.toml").mkdir()  # a folder is no file
    assert load_settings({}, tmp_path / "a").experiment == "top"


def test_paths_in_the_file_are_relative_to_it_and_in_the_environment_to_the_working_directory(tmp_path, monkeypatch):
    toml(tmp_path, 'dir = "tracking"\nfile = "../x.bin"\nsocket = "~/s"\n')
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    monkeypatch.setenv("HOME", "/somewhere")
    settings = load_settings({})
    assert settings.dir == tmp_path / "tracking"
    assert settings.file == tmp_path / ".." / "x.bin"
    assert settings.socket == Path("/somewhere/s")
    assert load_settings({"XTRACK_DIR": "tracking"}).dir == Path("tracking")


def test_xtrack_config_names_the_file(tmp_path, monkeypatch):
    toml(tmp_path, 'experiment = "found"\n')
    other = toml(tmp_path / "etc", 'experiment = "named"\ndir = "d"\n', "other.toml")
    settings = load_settings({"XTRACK_CONFIG": str(other)}, tmp_path)
    assert (settings.experiment, settings.dir) == ("named", tmp_path / "etc" / "d")
    monkeypatch.chdir(tmp_path)
    assert load_settings({"XTRACK_CONFIG": "etc/other.toml"}).dir == tmp_path / "etc" / "d"
    for missing in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigurationError, match=r"XTRACK_CONFIG=.*no such file"):
            load_settings({"XTRACK_CONFIG": str(missing)}, tmp_path)


# ---------------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("fd", "three", "whole number, 0 or more"),
        ("fd", "-1", "whole number, 0 or more"),
        ("fd", "1.0", "whole number"),
        ("fd", "9" * 5000, "whole number"),
        ("world_size", "0", "whole number, 1 or more"),
        ("quiet", "maybe", "must be 1 or 0"),
        ("port", "0", "whole number, 1 or more"),
        ("port", "65536", "must be a port: 1 to 65535"),
        ("port", "http", "whole number"),
        ("insecure", "perhaps", "must be 1 or 0"),
        ("on_full", "wait", "must be one of: drop, block"),
        ("end_timeout", "soon", "must be a number of seconds"),
        ("end_timeout", "-1", "seconds, 0 or more"),
        ("end_timeout", "inf", "seconds, 0 or more"),
        ("end_timeout", "nan", "seconds, 0 or more"),
        ("dir", "~no-such-user/x", "home"),
        ("dir", "a\0b", "must be a path"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path, name, value, problem):
    with pytest.raises(ConfigurationError, match=problem) as caught:
        load_settings({f"XTRACK_{name.upper()}": value}, tmp_path)
    assert caught.value.setting == f"XTRACK_{name.upper()}"
    assert caught.value.value == value


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("transport = 1", "must be a text"),
        ("experiment = true", "must be a text"),
        ('dir = ""', "must be a path"),
        ("dir = []", "must be a text"),
        ("fd = true", "must be a whole number"),
        ("fd = 1.5", "must be a whole number"),
        ("world_size = -1", "must be a whole number, 1 or more"),
        ("port = true", "must be a whole number"),
        ("port = 1.0", "must be a whole number"),
        ("end_timeout = true", "must be a number of seconds"),
        ("end_timeout = []", "must be a number of seconds"),
        ("on_full = true", "must be one of"),
        ("on_full = []", "must be one of"),
        ("tls = 2", "must be 1 or 0"),
        ("key = 1", "must be a text"),
        ("quiet = 2", "must be 1 or 0"),
        ("quiet = []", "must be 1 or 0"),
        ("quiet = 1.0", "must be 1 or 0"),
        ("env_vars = [1]", "must be a text"),
        ("env_vars = 1", "must be a text"),
        ("worker_id = 2020-01-01", "must be a text"),
    ],
)
def test_a_wrong_value_in_the_file_names_the_file_and_the_key(tmp_path, line, problem):
    path = toml(tmp_path, line)
    with pytest.raises(ConfigurationError, match=problem) as caught:
        load_settings({}, tmp_path)
    assert caught.value.setting == f"{path}: {line.split()[0]}"
    assert str(path) in str(caught.value)


def test_a_key_that_there_is_not(tmp_path):
    path = toml(tmp_path, 'experimnet = "x"\n')
    with pytest.raises(ConfigurationError, match=r"no such setting.*Known: transport, dir") as caught:
        load_settings({}, tmp_path)
    assert caught.value.setting == f"{path}: experimnet"
    toml(tmp_path, "[xtrack]\nquiet = 1\n")
    with pytest.raises(ConfigurationError, match="no such setting"):
        load_settings({}, tmp_path)


def test_a_key_is_shown_nowhere(tmp_path):
    settings = load_settings({"XTRACK_KEY": "xtk_k1_canary"}, tmp_path)
    assert settings.key == "xtk_k1_canary"
    assert "canary" not in repr(settings) + str(settings)
    assert ", key='***', " in repr(settings)
    assert "key=None" in repr(Settings())


@pytest.mark.parametrize(
    "line",
    ['key = ["canary"]', 'Key = "canary"', 'api_key = "canary"', 'token = "canary"', 'colector = "xtk_k1_canary"'],
)
def test_a_key_that_is_misspelt_in_the_file_is_not_shown(tmp_path, line):
    toml(tmp_path, line)
    with pytest.raises(ConfigurationError) as caught:
        load_settings({}, tmp_path)
    assert "canary" not in f"{caught.value} {caught.value!r} {caught.value.value}"


@pytest.mark.parametrize("content", [b"= 1", b"quiet = ", b"\xff\xfe", b"a = 1\na = 2", b"x = " + b"[" * 100_000])
def test_a_file_that_is_no_toml(tmp_path, content):
    (tmp_path / "xtrack.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match="can't be read") as caught:
        load_settings({}, tmp_path)
    assert str(tmp_path / "xtrack.toml") in str(caught.value)


def test_a_file_that_can_not_be_opened(tmp_path, monkeypatch):
    toml(tmp_path, "")
    real = Path.open

    def refuses(self, *args, **options):
        if self.name == "xtrack.toml":
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **options)

    monkeypatch.setattr(Path, "open", refuses)
    with pytest.raises(ConfigurationError, match="Permission denied"):
        load_settings({}, tmp_path)


def test_a_folder_above_that_can_not_be_entered_is_passed_over(tmp_path, monkeypatch):
    toml(tmp_path, 'experiment = "top"\n')
    (tmp_path / "closed" / "here").mkdir(parents=True)
    real = Path.is_file

    def refuses(self, *args, **options):
        if self.parent.name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **options)

    monkeypatch.setattr(Path, "is_file", refuses)
    assert load_settings({}, tmp_path / "closed" / "here").experiment == "top"


def test_a_working_directory_that_was_removed(monkeypatch):
    def gone():
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(Path, "cwd", gone)
    assert load_settings({}) == Settings()


def test_python_3_10_without_tomli(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 0))
    monkeypatch.setitem(sys.modules, "tomli", None)
    assert load_settings({}, tmp_path) == Settings()  # no file, nothing to read
    path = toml(tmp_path, "quiet = true\n")
    with pytest.raises(ConfigurationError, match="pip install tomli") as caught:
        load_settings({}, tmp_path)
    assert str(path) in str(caught.value)


# ---------------------------------------------------------------------------------------------- the table


def test_every_setting_is_documented():
    for row in settings_table():
        assert row.doc
        assert row.variable == f"XTRACK_{row.name.upper()}"
        assert row.default == getattr(Settings(), row.name)


@pytest.mark.skipif(not (ROOT / "docs" / "_generate.py").exists(), reason="the documents aren't here")
def test_the_reference_is_the_table():
    spec = importlib.util.spec_from_file_location("_generate", ROOT / "docs" / "_generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.SETTINGS.read_text() == module.settings_page(), "run `python docs/_generate.py`"


def test_the_published_variables_are_all_there():
    published = {
        "TRANSPORT",
        "HOST",
        "PORT",
        "SOCKET",
        "FILE",
        "EXPERIMENT",
        "WORKER_ID",
        "RUN_ID",
        "RESUME_RUN_ID",
        "RESUME_CHECKPOINT",
    }
    assert {f"XTRACK_{name}" for name in published} <= {row.variable for row in settings_table()}
