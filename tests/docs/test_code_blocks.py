"""Every block of code in README and the documentation is run, and every link leads somewhere: doc_pages.py has how."""

from __future__ import annotations

import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from doc_pages import DOCS, LANGUAGES, ROOT, Block, PageRunner, agrees, blocks_of, console_commands, pages, prepare

NOT_RUN = {
    "docs/tutorial/first-run.md": 1,
    "docs/how-to/run-on-kubernetes.md": 1,  # tests/examples/test_kubernetes.py does what can be done without a cluster
    "docs/how-to/run-on-sagemaker.md": 1,
    "docs/how-to/run-on-slurm.md": 1,  # as tests/examples/test_slurm.py without Slurm
}
"""Blocks that are not run, by page. A new one has to be entered here, and says in its comment why."""

SHOWN = frozenset({"text", "mermaid"})
"""Languages of blocks that are only looked at."""

RUN_BY_CI = frozenset({"first command", "second command"})
"""README's two commands, which install the package: .ci/run runs them from a clean copy."""

GENERATED = frozenset({ROOT / "docs" / "reference" / "cli.md"})
"""Made from the command's help, and compared with it by a test of its own; its examples speak of the reader's files."""

PAGES = [page for page in pages() if page not in GENERATED]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def usual_or_thorough(found: list[Path]) -> list[Any]:
    """What a newcomer reads first is run each time; so many pages take minutes."""
    first = {ROOT, ROOT / "docs" / "tutorial"}
    return [page if page.parent in first else pytest.param(page, marks=pytest.mark.thorough) for page in found]


OF_FRAMEWORKS = [page for page in PAGES if any(block.framework for block in blocks_of(page))]


@pytest.mark.parametrize("page", usual_or_thorough(PAGES), ids=name_of)
def test_blocks_run(page: Path, tmp_path: Path) -> None:
    run_blocks(page, [block for block in blocks_of(page) if not block.framework], tmp_path)


@pytest.mark.frameworks
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", OF_FRAMEWORKS, ids=name_of)
def test_blocks_run_on_frameworks(page: Path, tmp_path: Path) -> None:
    blocks = blocks_of(page)
    missing = sorted({block.framework for block in blocks if block.framework and find_spec(block.framework) is None})
    if missing:
        assert os.environ.get("XTRACK_FRAMEWORKS") != "all", f"not installed: {', '.join(missing)}"
        pytest.skip(f"not installed: {', '.join(missing)}")
    run_blocks(page, blocks, tmp_path)


def run_blocks(page: Path, blocks: list[Block], tmp_path: Path) -> None:
    if any(block.language in {"bash", "console"} for block in blocks) and shutil.which("bash") is None:
        pytest.skip("there is no bash")
    prepare(tmp_path)
    runner = PageRunner(tmp_path)
    if page.name == "README.md" and page.parent == ROOT:
        prepare_readme(runner)
    printed = ""
    try:
        for block in blocks:
            if block.is_output:
                assert agrees(block.code, printed), f"{block.where}: expected:\n{block.code}\nprinted:\n{printed}"
            elif (
                (block.needs and not block.framework and shutil.which(block.needs) is None)
                or block.not_run
                or block.marker in RUN_BY_CI
                or (block.language in SHOWN and not block.file)
            ):
                continue
            else:
                printed = runner.run(block)
    finally:
        runner.close()


def prepare_readme(runner: PageRunner) -> None:
    """Do what README's first command does after installing, and lay out the capture that it speaks of."""
    first = next(block for block in blocks_of(ROOT / "README.md") if block.marker == "first command")
    command = first.code.strip().splitlines()[-1].replace(".venv/bin/", "")
    done = runner.bash(f"{command} && XTRACK_TRANSPORT=file:capture.bin python examples/train_iris.py --epochs 2")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_are_well_formed(page: Path) -> None:
    blocks = blocks_of(page)
    not_run = [block for block in blocks if block.not_run is not None]
    assert all(block.not_run for block in not_run), "a block that isn't run says why"
    assert len(not_run) == NOT_RUN.get(name_of(page), 0)
    for number, block in enumerate(blocks):
        known = block.language in LANGUAGES or block.file or block.not_run
        assert known, f"{block.where}: nobody knows how to run {block.language or 'a block without a language'!r}"
        if block.file:
            later = "\n".join(other.code for other in blocks[number + 1 :])
            assert Path(block.file).stem in later, f"{block.where}: nothing uses {block.file}"
        if block.is_output:
            assert block.language == "text"
            assert blocks[number - 1].language in {"python", "bash"}, f"{block.where}: the output of what?"
        meant = (block.file, block.not_run, block.needs, block.is_output, block.is_generated, block.marker in RUN_BY_CI)
        assert not block.marker or any(meant), f"{block.where}: <!-- {block.marker} --> means nothing"
        if block.language == "console" and not block.not_run:
            assert console_commands(block), block.where


def test_expected_output() -> None:
    assert agrees("run ... completed\n", "run 20240101-1 (x)  completed")
    assert agrees("a\n...\nb\n", "a\n1\n2\nb\n")
    assert agrees("a  b\nc", "a\tb\r\nc\n\n")
    assert not agrees("a b", "a b c")
    assert not agrees("a ... c", "a b")
    block = Block(ROOT / "README.md", 1, "console", "", "$ one \\\n  two\n$ three\nfour\nfive\n")
    assert console_commands(block) == [("one \\\n  two", ""), ("three", "four\nfive\n")]


def test_a_failing_block_fails(tmp_path: Path) -> None:
    def block(language: str, code: str) -> Block:
        return Block(ROOT / "README.md", 1, language, "", code)

    runner = PageRunner(tmp_path)
    try:
        for language, code in (
            ("python", "assert False"),
            ("python", "raise SystemExit(1)"),
            ("bash", "false\ntrue"),
            ("bash", "echo $NO_SUCH_VARIABLE"),
            ("console", "$ false"),
            ("console", "$ echo one\ntwo"),
            ("console", "$ exit 3"),
        ):
            with pytest.raises(AssertionError):
                runner.run(block(language, code))
        assert runner.run(block("python", "x = 1")) == ""
        assert runner.run(block("python", "print(x)")) == "1\n"
        runner.run(block("console", "$ false\n$ echo $?\n1\n$ echo end\nend"))
    finally:
        runner.close()


# ------------------------------------------------------------------------------------------ links

LINKING = sorted({*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "examples").rglob("*.md")})

_LINK = re.compile(r"(?<!!)\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]*(?:\([^()]*\)[^()\s]*)?)\)")
_CODE = re.compile(r"^ *```.*?^ *```|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def links_of(page: Path) -> list[str]:
    return _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8")))


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while (candidate := f"{anchor}-{number}" if number else anchor) in found:
            number += 1
        found.add(candidate)
    return found


@pytest.mark.parametrize("page", LINKING, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links_of(page):
        if re.match(r"[a-z]+:", link):
            assert link.startswith(("https://", "mailto:")), f"{name_of(page)}: {link}"
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{name_of(page)}: {link} leads nowhere"
        assert path.is_relative_to(ROOT.resolve()), f"{name_of(page)}: {link} leads out of the repository"
        if anchor:
            assert anchor in anchors_of(path), f"{name_of(page)}: {link} names no heading"


def test_every_page_can_be_found() -> None:
    """From README, by links alone."""
    reached: set[Path] = set()
    pending = [ROOT / "README.md"]
    while pending:
        page = pending.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        for link in links_of(page):
            if not re.match(r"[a-z]+:", link) and link.partition("#")[0]:
                pending.append((page.parent / link.partition("#")[0]).resolve())
    assert set(pages()) <= reached
