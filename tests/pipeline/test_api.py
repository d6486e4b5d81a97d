"""What `import pipeline` gives: typed, imported when it is asked for, by the command line's words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import pipeline
from pipeline import api
from pipeline.errors import ModelError, OutputError, RunNotFoundError, UserError
from tests.pipeline.comparison.stores import finished_run


def test_every_public_name_is_there_and_documented() -> None:
    assert all(getattr(pipeline, name).__doc__ for name in pipeline.__all__)
    assert set(pipeline.__all__) < set(dir(pipeline))
    assert sorted(pipeline.__all__) == sorted(api.__all__)
    with pytest.raises(AttributeError, match="no attribute 'prunes'"):
        _ = pipeline.prunes


def test_importing_it_imports_no_heavy_library() -> None:
    code = (
        "import pipeline, sys; print([name for name in ('torch', 'onnx', 'numpy', 'pydantic') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_finished_run_is_opened_and_compared(tmp_path: Path) -> None:
    names = [finished_run(tmp_path, seed=seed) for seed in range(2)]
    with pipeline.open_run(names[0], runs=tmp_path) as run:
        assert run.id == names[0]
    found = pipeline.compare(names, runs=tmp_path)
    assert [len(group.runs) for group in found.groups] == [2]


def test_files_and_folders_may_be_named_by_text_as_the_documents_do(tmp_path: Path) -> None:
    name, runs = finished_run(tmp_path / "runs"), str(tmp_path / "runs")
    with pipeline.open_run(runs=runs) as run:
        assert run.id == name
    assert len(pipeline.compare([name], runs=runs).groups) == 1
    with pytest.raises(RunNotFoundError, match="no artifact"):
        pipeline.pull(name, str(tmp_path / "bundle"), artifact="none", runs=runs)
    (tmp_path / "inventory.yaml").write_text("devices: {pi4: {kind: local}}\n")
    assert pipeline.load_inventory(str(tmp_path / "inventory.yaml")).device("pi4").kind == "local"


def test_mistakes_are_errors_that_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="give the path of a model file"):
        pipeline.profile(tmp_path / "none.onnx")
    with pytest.raises(RunNotFoundError, match="there are no runs"):
        pipeline.open_run(runs=tmp_path / "none")
    with pytest.raises(UserError, match="--trials"):
        pipeline.prune(trials=0, runs=tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises((OutputError, RunNotFoundError)):
        pipeline.pull(finished_run(tmp_path / "runs"), tmp_path / "full", runs=tmp_path / "runs")
