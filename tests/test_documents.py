"""The documents say what is there: links lead somewhere, commands parse, generated pages are up to date."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from pipeline.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()
    if not name.startswith((".github/", "deploy/templates/", "tests/"))
)  # fmt: skip
LINES_ON_TWO_SCREENS = 150


def shown(page: Path) -> Iterator[str]:
    """Yield the commands of a page: lines of its sh blocks, and code that begins with a command's name."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S):
        yield from (line.partition(" #")[0].strip() for line in block.replace("\\\n", " ").splitlines())
    yield from re.findall(r"`((?:python benchmarks/|pipeline [a-z])[^`]*)`", re.sub(r"\n> ?|\n", " ", text))


def commands(start: str) -> list[str]:
    return sorted({line for page in PAGES for line in shown(page) if line.startswith(start)})


def test_the_readme_fits_on_two_screens() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= LINES_ON_TWO_SCREENS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = page.parent / file if file else page
        assert there.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.M)
            assert anchor in {slug(title) for title in titles}, target


def slug(title: str) -> str:
    """Return the anchor that a heading gets on GitHub."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("line", commands("pipeline "))
def test_a_command_that_is_shown_parses(line: str) -> None:
    words = shlex.split(line.replace("...", "").replace("…", ""))[1:]
    command: Any = typer.main.get_command(app)
    context = command.context_class(command, info_name="pipeline")
    while hasattr(command, "resolve_command") and words and not words[0].startswith("-"):
        name, found, words = command.resolve_command(context, words)
        assert found is not None, line
        command, context = found, found.context_class(found, parent=context, info_name=name)
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known | {"--help"}, line


@pytest.mark.parametrize("line", commands("python benchmarks/"))
def test_a_benchmark_that_is_shown_is_there_with_its_options(line: str) -> None:
    _, script, *words = shlex.split(line)
    text = (ROOT / script).read_text(encoding="utf-8") + (ROOT / "benchmarks/_common/testbed.py").read_text(
        encoding="utf-8"
    )
    for word in words:
        if word.startswith("--"):
            assert f'"{word}"' in text, line


def test_the_page_of_settings_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate_configuration.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run: python docs/generate_configuration.py"


def test_every_benchmark_stands_in_the_list() -> None:
    scripts = {path.name for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text("utf-8")}
    listed = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+\.py)`", listed, re.M)) == scripts
