"""The federation's state: rounds with whoever can be averaged, and a checkpoint that goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from pipeline.errors import FederationError, OutputError
from pipeline.federated.federation import Answer, Federation
from pipeline.federated.messages import Hello, Learnt, call_from, hello_from, learnt_from
from pipeline.federated.structure import Structure
from pipeline.federated.weights import packed

STRUCTURE = Structure(groups=(("conv1", 16),), levels=(0, 50), tensors={"w": (2, 2)})


def hello(site: str, trials: int = 10) -> Hello:
    return Hello(site=site, identity="0" * 32, trials=trials, structure=STRUCTURE)


def policy(value: float) -> bytes:
    return packed({"w": np.full((2, 2), value, np.float32)}, STRUCTURE)


def answer(site: str, value: float) -> Answer:
    return Answer(hello=hello(site), policy=policy(value), learnt=Learnt(loss=0.1, updates=5))


@pytest.fixture
def begun(tmp_path: Path) -> Federation:
    federation = Federation(tmp_path / "mean.safetensors")
    assert federation.refusal(hello("a")) is None
    federation.begin(policy(0.0))
    return federation


def test_the_first_site_says_what_all_others_need(begun: Federation) -> None:
    other = replace(hello("b"), structure=replace(STRUCTURE, groups=(("stem", 8),)))
    assert begun.refusal(hello("c")) is None
    assert (
        begun.refusal(other) == "group 1 of layers is stem with 8 channels, the federation's is conv1 with 16 channels"
    )


def test_a_site_with_nan_is_named_and_left_out_and_the_others_are_averaged(begun: Federation) -> None:
    bad = replace(answer("bad", 0.0), policy=save({"w": np.full((2, 2), np.nan, np.float32)}))
    done = begun.close_round([answer("a", 1.0), bad, answer("b", 2.0)], least=2, refused={}, lost=["gone"])
    assert [one.site for one in done.sites] == ["a", "b"]
    assert done.refused == {"bad": "tensor w holds a number that is not finite"}
    assert done.lost == ("gone",)
    assert begun.weights is not None
    assert begun.weights["w"] == pytest.approx(1.5)


def test_of_too_few_sites_the_mean_stays_as_it_was(begun: Federation) -> None:
    done = begun.close_round([answer("a", 1.0)], least=2, refused={"b": "its loss is nan"}, lost=[])
    assert done.sites == ()
    assert begun.weights is not None
    assert begun.weights["w"] == pytest.approx(0.0)


def test_it_goes_on_where_its_checkpoint_says(begun: Federation, tmp_path: Path) -> None:
    begun.close_round([answer("a", 1.0), answer("b", 1.0)], least=2, refused={}, lost=[])
    again = Federation(tmp_path / "mean.safetensors")
    assert again.done == 1
    assert again.rounds == begun.rounds
    assert again.structure == STRUCTURE
    assert again.policy == begun.policy
    assert [path.name for path in tmp_path.iterdir()] == ["mean.safetensors"]


@pytest.mark.parametrize("content", [b"", b"no checkpoint", policy(0.0)])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mean.safetensors"
    path.write_bytes(content)
    with pytest.raises(FederationError, match="not a federation's checkpoint, or is damaged"):
        Federation(path)


def test_a_checkpoint_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    federation = Federation(tmp_path / "file" / "mean.safetensors")
    federation.refusal(hello("a"))
    with pytest.raises(OutputError, match="choose another --checkpoint"):
        federation.begin(policy(0.0))


def test_what_is_said_comes_back_as_it_was() -> None:
    assert hello_from(hello("plant-2").scalars()) == hello("plant-2")
    assert learnt_from(Learnt(loss=0.5, updates=3).scalars()) == Learnt(loss=0.5, updates=3)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"protocol": 2}, "speaks protocol 2, the server 1"),
        ({"site": "a\x1b[2J"}, "expected up to 40 letters"),
        ({"site": "x" * 50}, "expected up to 40 letters"),
        ({"identity": "me"}, "32 hexadecimal digits"),
        ({"trials": -1}, "its trials is -1"),
        ({"trials": True}, "its trials is True"),
        ({"trials": 10**12}, "whole number from 0 to 1000000"),
        ({"structure": b"{}"}, "structure should be a text"),
    ],
)
def test_a_greeting_that_cannot_be_is_refused(change: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        hello_from({**hello("a").scalars(), **change})


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -1.0, 3, "low", None])
def test_a_loss_that_cannot_be_is_refused(loss: object) -> None:
    with pytest.raises(ValueError, match="its loss is"):
        learnt_from({"loss": loss, "updates": 1})


def test_a_server_that_asks_for_too_much_is_refused() -> None:
    with pytest.raises(ValueError, match="its updates is 1000000000"):
        call_from({"round": 1, "rounds": 2, "updates": 10**9})
