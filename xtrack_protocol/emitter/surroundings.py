"""What is recorded of where a run was started: code, machine, and allowed environment variables; never secrets."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from xtrack_protocol.emitter.values import to_text
from xtrack_protocol.ir.lifecycle import EnvironmentInfo, SourceInfo

_GIT_SECONDS: Final = 2.0


class _Pattern:
    """A regular expression that is compiled when it is asked first: most starts have nothing to look through."""

    def __init__(self, text: str) -> None:
        self._text = text

    def search(self, text: str) -> object:
        return re.search(self._text, text)

    def sub(self, replacement: str, text: str) -> str:
        return re.sub(self._text, replacement, text)


_SECRET_NAME: Final = _Pattern(
    r"(?i)((?<![a-z])pass(?![a-z])|passw(or)?d|passphrase|passcode|secret|token(?![a-z])|(api|access|private)[-_]?key"
    r"|credential|xtrack[-_]key(?![a-z_-])|^-*key$)"
)
"""Not ``--tokenizer``, ``--max-tokens``, ``--passes`` or ``--metric-key``, of which machine learning is full."""
_SECRET_VARIABLE: Final = _Pattern(r"(?i)((?<![a-z])key(?![a-z])|auth(?!or)|cookie|_pwd|dsn(?![a-z]))")
"""Of the environment nothing is lost by being strict: even ``MY_KEY`` and ``SSH_AUTH_SOCK`` stay out."""
_OUR_KEY: Final = _Pattern(r"xtk_[\w-]+")
_SECRET_VALUE: Final = _Pattern(
    r"xtk_|PRIVATE KEY-----|\b(AKIA|ASIA)[0-9A-Z]{16}\b|\b(gh[a-z]_|github_pat_|glpat-|hf_|sk-|xox[a-z]-)[\w-]{16}"
    r"|\beyJ[\w-]{8,}\.[\w-]+\.|(?i:(passw(or)?d|passphrase|secret|token|key)[\"']?\s*[=:])"
)
"""The beginnings of the commonest keys, and texts of settings that hold one."""
_USER_BEFORE_HOST: Final = _Pattern(r"^(?!git@)[^/\\]*@(?=[^/\\@]+:)")
"""In ``user@host:path``, which is no URL."""
_USER_IN_URL: Final = _Pattern(r"(\b\w[\w+.-]*://)[^/?#\s]*@")


def find_source() -> SourceInfo:
    """Return the entry point, and the git commit, branch and repository (without credentials) of its folder."""
    script = sys.argv[0] if sys.argv and sys.argv[0] not in {"", "-c", "-m"} else None
    folder = Path(script).parent if script else Path()
    commit, branch, repo = _git(folder)
    return SourceInfo(
        git_commit=commit,
        git_branch=branch,
        git_repo=strip_credentials(repo) if repo else None,
        entrypoint=to_text(script) if script else None,
    )


def _git(folder: Path) -> tuple[str | None, str | None, str | None]:
    try:
        folder = folder.absolute()
        if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
            return None, None, None  # spares most scripts outside a repository the processes
    except (OSError, ValueError):  # no working directory any more, or a name that no file can have
        return None, None, None
    import shutil
    import subprocess

    if shutil.which("git") is None:
        return None, None, None

    def ask(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=folder,
                capture_output=True,
                timeout=_GIT_SECONDS,
                check=False,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"},
            )
        except (OSError, subprocess.TimeoutExpired):
            return None  # a run without its commit is better than no run
        answer = done.stdout.decode("utf-8", "replace").strip()
        return answer if done.returncode == 0 and answer else None

    head = ask("rev-parse", "HEAD", "--abbrev-ref", "HEAD")
    commit, branch = [*head.splitlines(), "", ""][:2] if head else ("", "")
    return commit or None, branch or None, ask("config", "--get", "remote.origin.url")


def strip_credentials(url: str) -> str:
    """Return a repository's URL without user, password and query. ``git@host:path`` stays: that user says nothing."""
    without = re.sub(r"^(\w[\w+.-]*://)[^/?#]*@", r"\1", url).split("?")[0].split("#")[0]
    return to_text(_USER_BEFORE_HOST.sub("", without))


def redact_arguments(arguments: Sequence[str]) -> list[str]:
    """Return a command line with the values of options that look like secrets replaced by ***."""
    shown: list[str] = []
    hide_next = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if hide_next:
            shown.append("***")
            hide_next = False
        elif equals and _SECRET_NAME.search(name):
            shown.append(f"{name}=***")
        else:
            text = strip_credentials(argument) if "://" in argument else to_text(argument)
            shown.append(_OUR_KEY.sub("xtk_***", text))
            hide_next = not equals and argument.startswith("-") and bool(_SECRET_NAME.search(argument))
    return shown


def without_user(text: str) -> str:
    """Return a text without the user and password of the URLs in it."""
    return to_text(_USER_IN_URL.sub(r"\1", text))


def is_secret(name: str, value: object = None) -> bool:
    """Whether a name is that of a secret, or a text looks like one."""
    return bool(_SECRET_NAME.search(name)) or (isinstance(value, str) and bool(_SECRET_VALUE.search(value)))


def find_environment(allowed: Sequence[str], environ: Mapping[str, str] | None = None) -> EnvironmentInfo:
    """Return Python, platform, host, and the environment variables whose names ``allowed`` lists (``*`` allowed).

    A variable whose name or value looks like a secret is left out, whatever ``allowed`` says; of URLs, user and
    password are. No accelerator is asked: that could start a driver, or a framework, behind the script's back.
    """
    import fnmatch
    import platform

    environ = os.environ if environ is None else environ
    variables = {
        name: without_user(value)
        for name, value in sorted(environ.items())
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in allowed)
        and not _SECRET_NAME.search(name)
        and not _SECRET_VARIABLE.search(name)
        and not _SECRET_VALUE.search(value)
    }
    return EnvironmentInfo(
        python_version=platform.python_version(),
        platform=_platform(),
        hostname=platform.node() or None,
        env_vars=variables,
    )


def _platform() -> str:
    """Return what ``platform.platform()`` does, which would start a process on Linux for a part that it leaves out."""
    import platform

    system = platform.uname()
    libc = "".join(platform.libc_ver())
    if system.system != "Linux" or not libc:
        return platform.platform()
    return f"Linux-{system.release}-{system.machine}-with-{libc}".replace(" ", "_").replace("/", "-")
