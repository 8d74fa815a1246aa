"""``init``: write the skeleton of a testee."""

from __future__ import annotations

import argparse
import os
from importlib import resources
from pathlib import Path
from typing import Final

import attrs

from xtrack_conformance.report import command_line
from xtrack_conformance.verbs import Context, UsageError, Verb
from xtrack_conformance.verbs.report import show


@attrs.frozen
class Skeleton:
    """``files``: the testee, what is to be replaced by the implementation that it answers for, and helpers.

    ``build``: what must be done first. ``start``: the command that starts the testee; ``@`` in both is the folder.
    """

    files: tuple[str, ...]
    start: tuple[str, ...]
    build: tuple[str, ...] = ()


SKELETONS: Final[dict[str, Skeleton]] = {
    "python": Skeleton(("testee.py", "implementation.py"), ("python", "@/testee.py")),
    "javascript": Skeleton(("testee.mjs", "implementation.mjs"), ("node", "@/testee.mjs")),
    "elixir": Skeleton(("testee.exs", "implementation.exs", "json.exs"), ("elixir", "@/testee.exs")),
    "rust": Skeleton(
        ("Cargo.toml", "src/main.rs", "src/implementation.rs", "src/json.rs"),
        ("@/target/release/testee",),
        ("cargo", "build", "--release", "--manifest-path", "@/Cargo.toml"),
    ),
}
"""By language, which is also the folder of the templates."""


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lang", required=True, choices=SKELETONS, help="the language that it is written in")
    parser.add_argument("folder", type=Path, nargs="?", default=Path(), metavar="DIR", help="where (here)")


def _init(context: Context) -> int:
    folder: Path = context.arguments.folder
    skeleton = SKELETONS[context.arguments.lang]
    if there := [name for name in skeleton.files if os.path.lexists(folder / name)]:
        raise UsageError(f"{folder / there[0]} is there already; nothing was written")
    templates = resources.files("xtrack_conformance") / "templates" / context.arguments.lang
    for name in skeleton.files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("x", encoding="utf-8", newline="\n") as file:
            file.write(templates.joinpath(*name.split("/")).read_text(encoding="utf-8"))
    show(iter(_told(folder, skeleton, context.program)))
    return 0


def _told(folder: Path, skeleton: Skeleton, program: str) -> list[str]:
    def typed(words: tuple[str, ...]) -> str:
        return command_line([_placed(word, folder) for word in words])

    asked = [f"  {program} {verb} -- {typed(skeleton.start)}" for verb in ("smoke", "run")]
    return [
        f"written: {', '.join(str(folder / name) for name in skeleton.files)}",
        "",
        *([f"  {typed(skeleton.build)}"] if skeleton.build else []),
        asked[0],
        "",
        "It answers the ten cases of smoke by itself. Put your implementation in where it says PLUG IN, and then:",
        "",
        asked[1],
    ]


def _placed(word: str, folder: Path) -> str:
    """Return a word of a command with the folder in the place of ``@``."""
    return str(folder / word[2:]) if word.startswith("@/") else word


VERBS = (Verb("init", "write the skeleton of a testee, which passes smoke", _options, _init, "--lang LANGUAGE [DIR]"),)
