"""The documents say what is there: links lead somewhere, commands parse, generated pages are up to date."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.devices.inventory.load import load_inventory
from tests import forked
from tests.command_line import PATIENCE_S
from tests.shown_commands import (
    BY_TEST_EXTENDING,
    NOT_RUN,
    PAGES,
    PYTHON,
    ROOT,
    blocks,
    command_of,
    lines,
    shown,
    whole,
)

LINES_ON_TWO_SCREENS = 150


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


# ---------------------------------------------------------------- commands


@pytest.mark.parametrize("line", lines("pipeline "))
def test_the_options_of_a_command_that_is_shown_are_there(line: str) -> None:
    command, _, words = command_of(line)
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known | {"--help"}, line


@pytest.mark.parametrize("line", lines("python benchmarks/"))
def test_a_benchmark_that_is_shown_understands_its_arguments(tmp_path: Path, line: str) -> None:
    """One option too many ends a script before it begins; whatever else it does not understand is named as well."""
    _, script, *words = shlex.split(line)
    code, _, err = forked.run_script(ROOT / script, [*words, "--one-too-many"], tmp_path, dict(os.environ), PATIENCE_S)
    assert (code, err.splitlines()[-1].partition(": ")[2]) == (2, "error: unrecognized arguments: --one-too-many"), err


@pytest.mark.parametrize(("beginning", "reason"), NOT_RUN.items())
def test_what_no_test_runs_is_shown_somewhere_and_said_here(beginning: str, reason: str) -> None:
    assert [line for line in lines() if line.startswith(f"{beginning} ")]
    pytest.skip(f"`{beginning} …`: {reason}")


def test_every_command_that_is_shown_is_run_or_said_not_to_be() -> None:
    run = ("pipeline ", "python benchmarks/", *(f"{beginning} " for beginning in NOT_RUN))
    assert [line for line in lines() if not line.startswith(run)] == []
    assert {one.line for page in PAGES for one in shown(page) if one.in_block and one.line.startswith("pipeline ")} <= {
        *whole("pipeline ")
    }


# ---------------------------------------------------------------- code


def test_every_block_of_python_is_a_file_of_the_folder_in_which_the_commands_run() -> None:
    found = {
        (page.relative_to(ROOT).as_posix(), number) for page in PAGES for number, _ in enumerate(blocks(page, "python"))
    }
    elsewhere = {place for place in found if place[0] in BY_TEST_EXTENDING}
    assert found - elsewhere == set(PYTHON)
    assert {page for page, _ in elsewhere} == BY_TEST_EXTENDING


@pytest.mark.parametrize("name", sorted(set(PYTHON.values()) - {"from_python.py", "answer.py", "watch.py"}))
def test_a_file_that_is_shown_is_named_by_a_command_that_runs(name: str) -> None:
    assert any(name in line for line in whole("pipeline run"))


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if blocks(page, "yaml") and page.relative_to(ROOT).as_posix() not in BY_TEST_EXTENDING],
    ids=lambda page: page.stem,
)
def test_an_inventory_that_is_shown_loads(tmp_path: Path, page: Path) -> None:
    for text in blocks(page, "yaml"):
        if text.startswith("# run.yaml\n"):
            path = tmp_path / "run.yaml"
            path.write_text(text)
            assert load_config(path, {})
            continue
        name = re.match(r"# (profiles/\S+\.yaml)\n", text)
        path = tmp_path / (name[1] if name else "inventory.yaml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        if name is None:
            assert load_inventory(path).devices


# ---------------------------------------------------------------- pages that are generated, lists


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


def test_the_page_of_figures_names_scripts_that_exist() -> None:
    named = set(
        re.findall(r"`(?:python benchmarks/)?(\w+\.py)\b", (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8"))
    )
    assert {name for name in named if not (ROOT / "benchmarks" / name).exists()} == set()
