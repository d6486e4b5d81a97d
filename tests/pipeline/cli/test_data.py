"""`pipeline data`: conditions listed, a data set written under one."""

from __future__ import annotations

from tests.command_line import Desk


def test_a_data_set_is_written_under_a_condition_and_can_be_run_on(desk: Desk) -> None:
    shown = desk.done("data", "corrupt", "digits", "--condition", "gaussian-noise:2", "--output", "noisy")
    assert "wrote 1,438 images to train on and 359 to test on, gaussian-noise:2, to noisy" in shown.out
    assert "next    pipeline run --data imagefolder:noisy  # image_size: 8 in run.yaml" in shown.out
    assert (desk.folder / "noisy/train/7").is_dir()


def test_conditions_are_listed_with_what_they_do(desk: Desk) -> None:
    assert "fog:1 … fog:5" in desk.done("data", "conditions").out
    assert "night" in desk.done("data", "conditions", "--json").json["judging"]


def test_an_unknown_condition_is_named_with_the_nearest(desk: Desk) -> None:
    failed = desk.do("data", "corrupt", "digits", "--condition", "fogg:3", "--output", "foggy", "--json")
    assert failed.code == 2
    assert "did you mean 'fog'" in failed.error
    assert not (desk.folder / "foggy").exists()
