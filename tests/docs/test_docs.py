"""The examples of README.md and docs/ run, and what they show is what comes.

How a page is read (CONTRIBUTING.md tells it to writers):
- a block with file=NAME, in any language, is written to NAME in the page's own folder;
- ```console runs its `$ ` lines there; the lines below one must occur in its output, in order;
- ```python blocks without a name make up one script, which runs when the page has been read;
- a block after the comment <!-- not run: WHY --> is left alone.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from taskproc import hookspecs

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"^(?P<skip><!-- not run: .+? -->\n)?```(?P<info>\w+.*)\n(?P<text>(?:.*\n)*?)```$", re.MULTILINE
)
SECONDS = 120


@dataclass
class Block:
    """One fenced block: its language, the file it is to be written to, its text, its line."""

    language: str
    file: str
    text: str
    line: int


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page that are to be run, in order."""
    found: list[Block] = []
    for match in FENCE.finditer(page):
        language, *rest = match["info"].split()
        file = next((word.removeprefix("file=") for word in rest if word.startswith("file=")), "")
        if match["skip"] is None and (file or language in ("python", "console")):
            found.append(Block(language, file, match["text"], page.count("\n", 0, match.start("text"))))
    return found


class Folder:
    """The folder of one page: its files, and the commands that run in it."""

    def __init__(self, path: Path) -> None:
        self.path = path / "folder"
        self.path.mkdir()
        commands = path / "bin"
        commands.mkdir()
        # `python` and `taskproc` are those under test, installed or not.
        for name, words in (("python", [sys.executable]), ("taskproc", [sys.executable, "-m", "taskproc"])):
            command = commands / name
            command.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
            command.chmod(0o755)
        path_variable = os.pathsep.join([str(commands), os.environ["PATH"]])
        self.environment = {
            **os.environ, "PATH": path_variable, "PYTHONPATH": str(ROOT), "COLUMNS": "110", "NO_COLOR": "1"
        }  # fmt: skip

    def run(self, command: list[str], where: str) -> str:
        """Run a command to its good end; returns what it printed on both streams."""
        done = subprocess.run(
            command,
            cwd=self.path,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            text=True,
            check=False,
        )
        # A plan says by 3 that there is something to do.
        good = (0, 3) if re.search(r"taskproc plan|--dry-run", where) else (0,)
        assert done.returncode in good, f"{where} exited with {done.returncode}:\n{done.stdout}"
        return done.stdout


def without_measures(text: str) -> str:
    """A line as it is whenever it is run: seconds and blanks do not count."""
    return " ".join(re.sub(r"\d+\.\d+", "#", text).split())


def missing_line(expected: list[str], output: str) -> str | None:
    """The first of the expected lines that does not occur in the output behind the one before."""
    lines = iter([without_measures(line) for line in output.splitlines()])
    return next((line for line in expected if without_measures(line) not in lines), None)


def run_console(folder: Folder, block: Block, where: str) -> None:
    """Run each `$ ` line of a block, and compare what stands below it."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, *expected = part.replace("\\\n", "").splitlines()
        output = folder.run(["sh", "-c", command], f"{where}: {command}")
        shown = [line for line in expected if line.strip() not in ("", "...")]
        missing = missing_line(shown, output)
        assert missing is None, f"{where}: {command}\ndid not print {missing!r}, but\n{output}"


def run_page(page: str, name: str, tmp_path: Path) -> int:
    """Run a whole page; returns how many blocks it had."""
    folder = Folder(tmp_path)
    if name == "README.md":  # its commands are those of somebody who has cloned the repository
        (folder.path / "examples").symlink_to(ROOT / "examples")
    blocks = blocks_of(page)
    script = ""
    for block in blocks:
        where = f"{name}:{block.line + 1}"
        if block.file:
            (folder.path / block.file).parent.mkdir(exist_ok=True)
            (folder.path / block.file).write_text(block.text)
        elif block.language == "console":
            run_console(folder, block, where)
        else:
            script += "\n" * (block.line - script.count("\n")) + block.text
    if script:
        (folder.path / "page.py").write_text(script)
        folder.run([sys.executable, "-W", "error", "page.py"], f"{name} (page.py: its lines are the page's)")
    return len(blocks)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_of_a_page_run(page, tmp_path):
    run_page(page.read_text(encoding="utf-8"), page.name, tmp_path)


def test_the_pages_with_examples_are_not_overlooked():
    counts = {page.name: len(blocks_of(page.read_text(encoding="utf-8"))) for page in PAGES}
    assert counts["README.md"] >= 5
    assert counts["tour.md"] >= 10
    assert counts["hooks.md"] >= 9


def test_an_example_that_fails_is_reported_with_its_line(tmp_path):
    page = "# Page\n\n```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n"
    with pytest.raises(AssertionError, match=r'page.py", line 8') as caught:
        run_page(page, "page.md", tmp_path)
    assert "exited with 1" in str(caught.value)


def test_a_command_that_prints_something_else_is_reported(tmp_path):
    with pytest.raises(AssertionError, match="did not print 'two'"):
        run_page(
            "```console\n$ echo one; echo 0.52 s\none\n0.7 s\n$ echo one\ntwo\n```\n", "page.md", tmp_path
        )


def test_each_hook_has_its_heading_and_a_plugin_that_runs():
    hooks = [name for name in vars(hookspecs) if name.startswith("taskproc_")]
    page = (ROOT / "docs/hooks.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## `(\w+)\(.*\)`\n((?:(?!^## ).*\n?)*)", page, re.MULTILINE))
    assert sorted(sections) == sorted(hooks)
    for name, text in sections.items():
        blocks = blocks_of(text)
        assert any(block.file and f"def {name}(" in block.text for block in blocks), f"no plugin under {name}"
        assert any(block.language == "console" for block in blocks), f"nothing runs the plugin under {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)", text)
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []
