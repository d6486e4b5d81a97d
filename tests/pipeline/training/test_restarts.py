"""A training of unknown length: cycles that double until one brings no gain, the best weights or their average kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import StoppedError
from pipeline.pruning.reconstruction.batch_norm import accuracy
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.cycles import Cycles
from pipeline.training.settings import FineTuning
from pipeline.training.trainer import Trained, fine_tune
from tests.pipeline.training.images import Blobs, forgetful
from tests.pipeline.training.test_checkpoint import Memory, alike

SETTINGS = FineTuning(epochs=14.0, restarts=True, batch_size=32, learning_rate=0.05, teacher_views=2, seed=1)
A_PASS = 3
"""Steps: 96 images, 32 at a time."""

pytestmark = pytest.mark.usefixtures("one_thread")


def scores(values: Iterable[float]) -> Callable[[nn.Module], float]:
    """What is read: at the beginning, then of the weights and of their average in turns."""
    rest = iter(values)
    return lambda _: next(rest)


def real(network: nn.Module) -> float:
    return accuracy(network, Blobs(40))


def trained(
    score: Callable[[nn.Module], float] | None, settings: FineTuning = SETTINGS, **options: object
) -> tuple[dict[str, Tensor], Trained]:
    model = forgetful()
    went = fine_tune(model, Blobs(), settings, teacher=forgetful(7), score=score, **options)  # type: ignore[arg-type]
    return model.state_dict(), went


def rising(network: nn.Module) -> float:
    rising.last += 0.001  # type: ignore[attr-defined]
    return float(rising.last)  # type: ignore[attr-defined]


rising.last = 0.0  # type: ignore[attr-defined]


def test_cycles_double_as_long_as_each_brings_a_gain() -> None:
    ends: list[int] = []
    _, went = trained(rising, on_step=lambda _, end, __: ends.append(end))
    assert list(dict.fromkeys(ends)) == [2 * A_PASS, 6 * A_PASS, 14 * A_PASS]
    assert (went.cycles, went.ended, went.gained) == (3, 14 * A_PASS, True)


def test_a_gain_below_the_least_is_none() -> None:
    """A continuous metric rises by a little for ever."""
    went = trained(rising, least_gain=0.1)[1]
    assert (went.cycles, went.ended, went.gained) == (2, 6 * A_PASS, False)


def test_a_cycle_that_brings_no_gain_is_the_last_and_the_best_weights_stay() -> None:
    seen: list[dict[str, Tensor]] = []

    def score(network: nn.Module) -> float:
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return 0.9 if len(seen) == 4 else 0.5

    weights, went = trained(score)
    assert (went.cycles, went.ended, went.gained) == (2, 6 * A_PASS, False)
    assert went.best_score == 0.9
    assert went.best_step == 2 * A_PASS
    assert alike(weights, seen[3])


def test_averaged_weights_are_kept_where_they_are_better() -> None:
    seen: list[dict[str, Tensor]] = []

    def score(network: nn.Module) -> float:
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return 0.5 + 0.1 * (len(seen) == 5)  # the second reading of the second evaluation

    weights, _ = trained(score)
    assert alike(weights, seen[4])
    assert not alike(seen[3], seen[4])
    assert seen[3]["bn1.num_batches_tracked"] == seen[4]["bn1.num_batches_tracked"]


def test_no_training_ends_with_less_than_it_began_with() -> None:
    weights, went = trained(scores([0.9] + [0.3] * 99))
    assert (went.best_step, went.best_score, went.cycles) == (0, 0.9, 2)
    assert alike(weights, forgetful().state_dict())


def test_without_anything_to_judge_by_all_cycles_are_trained() -> None:
    _, went = trained(None)
    assert (went.cycles, went.ended, went.best_step) == (3, 14 * A_PASS, None)


def test_a_budget_ends_the_training_at_the_end_of_a_cycle() -> None:
    _, went = trained(rising, replace(SETTINGS, epochs=1e6, budget_s=0.5), step_s=0.01)
    assert went.seconds > 0.2
    assert went.ended < went.steps
    assert went.gained


def test_a_budget_that_is_too_small_for_a_step_still_takes_one() -> None:
    _, went = trained(rising, replace(SETTINGS, budget_s=1e-6), step_s=1.0)
    assert went.ended == 1


def test_a_fixed_number_of_passes_heeds_a_budget_too() -> None:
    fixed = replace(SETTINGS, epochs=1e5, restarts=False, budget_s=0.3)
    _, went = trained(None, fixed, step_s=1e-5)
    assert went.ended < went.steps


def test_stopped_anywhere_and_begun_again_it_comes_to_the_same_bits() -> None:
    straight, whole = trained(real)
    assert whole.ended > 6 * A_PASS - 1
    for stop in (1, 2 * A_PASS - 1, 2 * A_PASS, 2 * A_PASS + 1, 5 * A_PASS + 2):
        slot = Memory()
        checkpoints = Checkpoints(slot=slot, every_s=1e9)

        def on_step(step: int, *_: object, stop: int = stop) -> None:
            if step == stop:
                raise StoppedError("stopped")

        with pytest.raises(StoppedError):
            trained(real, on_step=on_step, checkpoints=checkpoints)
        again, went = trained(real, checkpoints=checkpoints)
        assert went == replace(whole, resumed=stop)
        assert alike(again, straight)


def test_a_resumed_training_has_spent_what_it_had() -> None:
    slot = Memory()
    told = replace(SETTINGS, budget_s=100.0)
    trained(rising, told, checkpoints=Checkpoints(slot=slot, every_s=0))
    _, first = trained(rising, told, checkpoints=Checkpoints(slot=slot, every_s=0))
    assert first.resumed == first.ended
    assert first.seconds > 0.01


@pytest.mark.parametrize(
    ("most", "room", "ends"),
    [
        (126, None, [2, 6, 14, 30, 62, 126]),
        (20, None, [2, 6, 20]),
        (3, None, [3]),
        (126, 9, [2, 6]),
        (126, 0, []),
    ],
)
def test_what_is_left_after_a_cycle_is_never_less_than_one(most: int, room: int | None, ends: list[int]) -> None:
    cycles = Cycles(first=2, most=most)
    for _ in range(9):
        cycles.begin(0.0, None if room is None else max(0, room - cycles.end))
    assert cycles.ends == (ends if room != 9 else [2, 9])


def test_a_cycle_is_shortened_but_never_lengthened() -> None:
    cycles = Cycles(first=10, most=10)
    cycles.begin(0.0)
    cycles.shorten(4, room=99)
    assert cycles.end == 10
    cycles.shorten(4, room=3)
    assert cycles.end == 7
    cycles.shorten(6, room=0)
    assert cycles.end == 7
    assert torch.tensor(cycles.rate(7, 0.1)).item() == pytest.approx(0.0)
