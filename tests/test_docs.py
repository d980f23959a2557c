"""Documentation runs.

Every page is read from top to bottom in an empty directory, and its blocks are executed in order: `python` blocks
share one module, `yaml` must parse, `inferencesched …` lines in `console` and `sh` blocks must exit 0. An HTML
comment on the line before a block says more about it:

    <!-- file: fleet.yaml -->    the block is also written to that file
    <!-- output -->              the block is what the one before it printed, or, with `$` lines of its own, shows
                                 exactly what they print; `...` stands for anything
    <!-- not run: why -->        the block is left alone, for that reason
"""

import doctest
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType

import attrs
import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from inferencesched import Registry

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "plugins/*.md", "plugins/*/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
)
MARKER = re.compile(r"<!--\s*(file|output|not run)(?::\s*(\S.*?))?\s*-->\s*")
MODULES_WITH_DOCTESTS = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "inferencesched").rglob("*.py"))
    if ">>> " in path.read_text()
]
LOOSELY = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@attrs.frozen
class Block:
    """A fenced block, the line it starts on, and what the marker before it says."""

    language: str
    text: str
    line: int
    markers: dict[str, str | None]


def blocks(markdown: str) -> Iterator[Block]:
    markers: dict[str, str | None] = {}
    for token in MarkdownIt().parse(markdown):
        if token.type == "html_block" and (match := MARKER.fullmatch(token.content)):
            markers[match[1]] = match[2]
        elif token.type == "fence":
            assert token.map is not None
            yield Block((token.info.split() or [""])[0], token.content, token.map[0] + 1, markers)
            markers = {}


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command line of ours in a block, and the output shown under it."""
    lines = text.replace("\\\n", "").splitlines(keepends=True)
    prompted = any(line.startswith("$ ") for line in lines)
    for command, *output in split_at_prompts(lines) if prompted else ([line] for line in lines):
        if (bare := command.removeprefix("$ ").strip()).startswith("inferencesched "):
            yield bare, "".join(output)


def split_at_prompts(lines: list[str]) -> Iterator[list[str]]:
    starts = [index for index, line in enumerate(lines) if line.startswith("$ ")]
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        yield lines[start:end]


class Reader:
    """Reads one page as a user would: types what it shows, in order, and keeps what was printed last."""

    def __init__(self, page: str, module: ModuleType) -> None:
        self.page = page
        self.module = module
        self.printed = ""

    def read_all(self, markdown: str) -> None:
        for block in blocks(markdown):
            self.read(block)

    def read(self, block: Block) -> None:
        if "not run" in block.markers:
            assert block.markers["not run"], f"{self.page}:{block.line}: 'not run' needs a reason"
            return
        if name := block.markers.get("file"):
            Path(name).write_text(block.text)
        compared = "output" in block.markers
        if block.language in {"python", "pycon"}:
            self.run_python(block)
        elif block.language == "yaml":
            list(yaml.safe_load_all(block.text))
        elif block.language in {"console", "sh"}:
            self.run_commands(block, compared)
        elif compared:
            self.compare(block, block.text, self.printed)

    def run_python(self, block: Block) -> None:
        if block.text.startswith(">>> "):
            test = doctest.DocTestParser().get_doctest(block.text, vars(self.module), self.page, self.page, block.line)
            result = doctest.DocTestRunner(optionflags=LOOSELY).run(test, clear_globs=False)
            assert result.failed == 0, f"{self.page}:{block.line}: the example prints something else"
            vars(self.module).update(test.globs)
            return
        source = "\n" * block.line + block.text  # so that a traceback shows the line of the page
        code = compile(source, self.page, "exec", dont_inherit=True)
        with redirect_stdout(StringIO()) as stdout:
            exec(code, vars(self.module))  # noqa: S102 - running the documentation is the point
        self.printed = stdout.getvalue()

    def run_commands(self, block: Block, compared: bool) -> None:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.printed = ""
        for command, shown in commands(block.text):
            run = subprocess.run(  # noqa: S602 - a reader pastes the line into a shell, pipes and all
                command,
                shell=True,
                check=False,
                capture_output=True,
                text=True,
                env={**os.environ, "PATH": path},
                timeout=300,
            )
            assert run.returncode == 0, f"{self.page}:{block.line}: {command}\n{run.stdout}{run.stderr}"
            self.printed += run.stdout
            if compared:
                self.compare(block, shown, run.stdout)

    def compare(self, block: Block, shown: str, printed: str) -> None:
        assert doctest.OutputChecker().check_output(shown, printed, LOOSELY), (
            f"{self.page}:{block.line}: shows\n{shown}\nbut the output is\n{printed}"
        )


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The module that a page's Python is executed in, with an empty current directory."""
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    monkeypatch.chdir(tmp_path)
    return module


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$ inferencesched plugins\na\nb\n$ ls\nc\n", [("inferencesched plugins", "a\nb\n")]),
        (
            "inferencesched a\nmake demo\ninferencesched b \\\n  --json\n",
            [("inferencesched a", ""), ("inferencesched b   --json", "")],
        ),
    ],
)
def test_commands_are_found_with_and_without_prompts(text: str, expected: list[tuple[str, str]]) -> None:
    assert list(commands(text)) == expected


@pytest.mark.parametrize(
    ("markdown", "problem"),
    [
        ("```python\nassert 1 == 2\n```", None),
        ("```pycon\n>>> 1 + 1\n3\n```", "page.md:1: the example prints something else"),
        ("```python\nprint(1)\n```\n<!-- output -->\n```text\n2\n```", "page.md:5: shows"),
        ("```sh\ninferencesched no-such-command\n```", "page.md:1: inferencesched no-such-command"),
        ("<!-- not run -->\n```python\n1 / 0\n```", "needs a reason"),
    ],
)
def test_a_page_that_lies_is_caught(markdown: str, problem: str | None, module: ModuleType) -> None:
    reader = Reader("page.md", module)

    with pytest.raises(AssertionError, match=problem):
        reader.read_all(markdown)


def page_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_what_a_page_shows_runs(page: Path, module: ModuleType) -> None:
    Reader(page_id(page), module).read_all(page.read_text())


def links(markdown: str) -> Iterator[str]:
    def walk(tokens: list[Token]) -> Iterator[str]:
        for token in tokens:
            yield from (str(token.attrs[name]) for name in ("href", "src") if name in token.attrs)
            yield from walk(token.children or [])

    return walk(MarkdownIt().parse(markdown))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_relative_links_lead_somewhere(page: Path) -> None:
    targets = {link.split("#")[0] for link in links(page.read_text()) if not re.match(r"\w+:", link)}

    assert not [target for target in targets if not (page.parent / target).exists()]


def test_the_reference_has_a_place_for_the_role_of_every_plugin() -> None:
    shown = re.findall(r"^<!-- plugins: (\S+) -->$", (ROOT / "docs/reference/plugins.md").read_text(), re.MULTILINE)
    registry = Registry()

    assert {next(iter(registry.type(name).roles), "other") for name in registry.types} <= set(shown)


@pytest.mark.parametrize("name", MODULES_WITH_DOCTESTS)
def test_examples_in_docstrings_are_true(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name), optionflags=LOOSELY).failed == 0
