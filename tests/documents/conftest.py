"""The folder in which the commands of the documents run, made once; each test changes a copy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.export.tflite.environment import VARIABLE, converter_python
from tests.command_line import Desk, Done
from tests.made_once import made_once
from tests.shown_commands import Project, typed


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A user's folder with all that the documents name; only to be copied."""
    return Project.there(made_once(tmp_path_factory.getbasetemp(), "project-of-documents", Project.make))


@pytest.fixture
def desk(tmp_path: Path, project: Project) -> Desk:
    """The same folder, to be changed."""
    return project.copy(tmp_path / "desk")


@pytest.fixture
def run_shown(desk: Desk, project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Done]:
    """Run a command as it is shown."""

    def run(line: str) -> Done:
        if "tflite" in line:
            monkeypatch.setenv(VARIABLE, str(converter_python()))  # the command's own cache is an empty one
        words = typed(line, project.ids)
        if "--output" in words:
            desk.remove(words[words.index("--output") + 1])  # has to be new
        return desk.do(*words)

    return run
