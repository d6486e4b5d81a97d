"""A training that is stopped and begun again comes to the same weights, bit by bit."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import StoppedError
from pipeline.pruning.reconstruction.batch_norm import accuracy
from pipeline.training.checkpoint import Checkpoints, State
from pipeline.training.settings import FineTuning
from pipeline.training.trainer import Trained, fine_tune
from tests.pipeline.pruning.networks import Tied
from tests.pipeline.training.images import Blobs, forgetful

SETTINGS = FineTuning(epochs=4.0, batch_size=32, learning_rate=0.05, l1=1e-3, seed=1)
STEPS = 16  # 97 images: three batches of 32 and one of a single image, which is passed over


@dataclass
class Memory:
    """A slot that keeps everything that was ever written."""

    written: list[bytes] = field(default_factory=list)

    def read(self) -> bytes | None:
        return self.written[-1] if self.written else None

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def remove(self) -> None:
        self.written.clear()


@pytest.fixture(params=[pytest.param(1, id="one thread"), pytest.param(2, id="two threads", marks=pytest.mark.slow)])
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(threads)


def score(network: nn.Module) -> float:
    return accuracy(network, Blobs(40))


def train(
    slot: Memory | None, settings: FineTuning = SETTINGS, *, stop: int = 0, images: Blobs | None = None
) -> tuple[dict[str, Tensor], Trained | None]:
    """Return the weights after a training, stopped after ``stop`` steps if that is not 0."""

    def on_step(step: int, *_: object) -> None:
        if step == stop:
            raise StoppedError("stopped")

    model, went = forgetful(), None
    checkpoints = None if slot is None else Checkpoints(slot=slot, every_s=0)
    try:
        went = fine_tune(
            model, images or Blobs(97), settings, teacher=forgetful(7), score=score, on_step=on_step,
            checkpoints=checkpoints,
        )  # fmt: skip
    except StoppedError:
        assert stop
    return model.state_dict(), went


def alike(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("stop", [1, 3, 4, 10], ids=lambda stop: f"after step {stop}")
def test_stopped_and_begun_again_it_comes_to_the_same_bits(stop: int) -> None:
    straight, _ = train(None)
    slot = Memory()
    half, _ = train(slot, stop=stop)
    again, went = train(slot)
    assert went is not None
    assert (went.resumed, went.ended) == (stop, STEPS)
    assert alike(again, straight)
    assert not alike(half, straight)


@pytest.mark.slow
@pytest.mark.usefixtures("_threads")
def test_killed_it_goes_on_from_the_last_note_whichever_that_is() -> None:
    slot = Memory()
    straight, _ = train(slot)
    for step in range(1, STEPS + 1, 3):
        again, went = train(Memory([slot.written[step - 1]]))
        assert went is not None
        assert (went.resumed, alike(again, straight)) == (step, True)


@pytest.mark.usefixtures("_threads")
def test_early_stopping_goes_on_with_what_it_knew() -> None:
    told = replace(SETTINGS, epochs=6, patience=3, evaluate_every=0.5)
    slot = Memory()
    straight, whole = train(None, told)
    assert whole is not None
    assert 7 < whole.ended < whole.steps
    for stop in (3, 5, 7):
        slot.remove()
        train(slot, told, stop=stop)
        again, went = train(slot, told)
        assert went == replace(whole, resumed=stop)
        assert alike(again, straight)


class Shared(Tied):
    """Two layers with one weight, and a buffer that lies in a bias's memory."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", self.stem.bias.detach())


def test_layers_that_share_a_weight_go_on_and_still_share_it() -> None:
    def shared() -> Shared:
        torch.manual_seed(0)
        return Shared()

    straight, torn, slot, told = shared(), shared(), Memory(), replace(SETTINGS, l1=0.0)
    checkpoints = Checkpoints(slot=slot, every_s=0)
    fine_tune(straight, Blobs(97), told, checkpoints=checkpoints)
    assert len(slot.written) > 5
    slot.written = slot.written[:5]
    assert fine_tune(torn, Blobs(97), told, checkpoints=checkpoints).resumed == 5
    assert torn.first.weight is torn.second.weight
    assert torn.seen.data_ptr() == torn.stem.bias.data_ptr()
    assert alike(torn.state_dict(), straight.state_dict())


def test_what_is_begun_again_after_its_end_is_not_trained_any_more() -> None:
    slot = Memory()
    straight, _ = train(slot)
    again, went = train(slot, stop=STEPS + 1)
    assert went is not None
    assert went.resumed == STEPS
    assert alike(again, straight)


@pytest.mark.parametrize(
    ("note", "why"),
    [
        (lambda good: good[: len(good) // 2], "it is damaged"),
        (lambda good: good[:0], "it is damaged"),
        (lambda good: good.replace(b'\\"format\\": 1', b'\\"format\\": 9'), "it has format 9, known is 1"),
    ],
    ids=["cut off", "empty", "newer"],
)
def test_a_note_that_cannot_be_read_is_left_aside_with_a_warning(
    note: object, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    slot = Memory()
    train(slot, stop=5)
    spoilt = Memory([note(slot.written[-1])])  # type: ignore[operator]
    straight, _ = train(None)
    with caplog.at_level(logging.WARNING):
        again, went = train(spoilt)
    assert why in caplog.text
    assert went is not None
    assert (went.resumed, alike(again, straight)) == (0, True)


def test_a_note_of_another_training_is_left_aside(caplog: pytest.LogCaptureFixture) -> None:
    slot = Memory()
    train(slot, stop=5)
    told = replace(SETTINGS, learning_rate=0.01)
    straight, _ = train(None, told)
    with caplog.at_level(logging.WARNING):
        again, _ = train(slot, told)
    assert "other settings, images or layers" in caplog.text
    assert alike(again, straight)


def test_images_that_draw_otherwise_than_then_are_noticed(caplog: pytest.LogCaptureFixture) -> None:
    class Plain(Blobs):
        def batches(self, batch_size: int, **options: object) -> Iterator[tuple[Tensor, Tensor]]:
            return super().batches(batch_size, **{**options, "augment": False})  # type: ignore[arg-type]

    slot = Memory()
    train(slot, stop=5)
    straight, _ = train(None, images=Plain(97))
    with caplog.at_level(logging.WARNING):
        again, _ = train(slot, images=Plain(97))
    assert "the images are not those of then" in caplog.text
    assert alike(again, straight)


def test_a_state_is_read_as_it_was_written_and_is_no_pickle() -> None:
    tensors = {"model/a": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last), "best/a": torch.ones(2)}
    data = State({"step": 3}, tensors).to_bytes()
    found = State.from_bytes(data)
    assert found.facts["step"] == 3
    assert torch.equal(found.under("model")["a"], tensors["model/a"])
    assert found.under("momentum") == {}
    assert data[8:9] == b"{"  # safetensors: eight bytes of length, then a JSON header


def test_notes_are_not_due_before_their_time() -> None:
    slot = Memory()
    often = Checkpoints(slot=slot, every_s=0)
    assert often.due
    often.write(State({}, {}))
    assert often.due
    assert not Checkpoints(slot=slot, every_s=3600).due
