"""Signals, tensors of channels x samples, as they are from a user's data set to a network of Conv1d."""

import textwrap

import pytest
import torch

from pipeline.data import load_data, torch_items
from pipeline.data.pools import shifted_and_flipped
from pipeline.errors import DataError, ModelError
from pipeline.models.load import default_model

SOURCE = """
    import torch

    GENERATOR = torch.Generator().manual_seed(0)
    VALUES = 40 + 7 * torch.randn(24, 6, 96, generator=GENERATOR)


    def of(values):
        return [(value, i % 2) for i, value in enumerate(values)]

    def one(): return of(VALUES[:, :1])
    def six(): return of(VALUES)
    def bare(): return of(VALUES[:, 0])
    def double(): return of(VALUES.double())
    def whole(): return of((VALUES * 100).to(torch.int16))
    def square(): return of(VALUES.reshape(24, 24, 24))
    def grey(): return of(VALUES.reshape(24, 24, 24).sigmoid())
    def row(): return of(torch.rand(24, 1, 1, 96))
    def constant(): return of(torch.cat([VALUES[:, :1], torch.full((24, 1, 96), 3.0)], 1))
    def far(): return of(VALUES[:, :1].double() * 1e-3 + 1e4)
    def pair(): return of(VALUES), of(VALUES[:8] + 1)

    class Moved(list):
        shift, flip = 5, True
    def moved(): return Moved(of(VALUES))

    def nan(): return of(torch.where(VALUES > 55, torch.nan, VALUES))
    def longer(): return of([*VALUES[:20], *torch.cat([VALUES, VALUES], 2)[20:]])
    def narrower(): return of([*VALUES[:20], *VALUES[20:, :5]])
    def waves(): return of(VALUES.to(torch.complex64))
    def nothing(): return of(VALUES[:, :, :0])
    def mixed(): return of([*VALUES[:20], *torch.rand(4, 3, 96, 96)])
"""


@pytest.fixture
def load(tmp_path):
    (tmp_path / "signals.py").write_text(textwrap.dedent(SOURCE))
    return lambda name, **options: load_data(f"dataset:{tmp_path / 'signals.py'}:{name}", **options)


@pytest.mark.parametrize(
    ("name", "shape"), [("one", (1, 96)), ("six", (6, 96)), ("bare", (1, 96)), ("double", (6, 96)), ("pair", (6, 96))]
)
def test_a_signal_keeps_its_axes_and_numbers_and_is_normalised_by_channel(load, name, shape):
    data = load(name)
    assert data.shape == shape
    assert data.has_signals
    images, labels = next(data.everything_but_test().batches(100))
    assert images.shape[1:] == shape
    assert images.dtype == torch.float32
    assert len(images) == len(labels)
    wanted = torch.tensor(data.mean)[:, None], torch.tensor(data.std)[:, None]
    raw = data.train.pool.read(data.everything_but_test().indices)
    torch.testing.assert_close(images, (raw - wanted[0]) / wanted[1])
    assert 30 < raw.mean() < 50, "not scaled to bytes"
    assert abs(images.mean()) < 0.2
    assert 0.8 < images.std() < 1.2


def test_whole_numbers_are_kept_as_they_are(load):
    assert load("whole").train.pool.read(torch.tensor([0])).abs().max() > 255


def test_the_networks_own_normalisation_counts_in_the_signals_own_unit(load):
    data = load("one", mean=(0.0,), std=(1.0,))
    images, _ = next(data.train.batches(3))
    assert torch.equal(images, data.train.pool.read(data.train.indices[:3]))


def test_numbers_far_from_zero_keep_their_differences(load):
    data = load("far")
    images, _ = next(data.everything_but_test().batches(100))
    assert 0.8 < images.std() < 1.2


def test_a_channel_that_never_changes_is_not_blown_up(load):
    data = load("constant")
    assert data.std[1] == 1
    assert all((images[:, 1] == 0).all() for images, _ in data.train.batches(8))


@pytest.mark.parametrize(
    ("name", "signals", "shape"),
    [
        ("six", None, (6, 96)), ("square", True, (24, 24)), ("grey", None, (1, 24, 24)), ("grey", False, (1, 24, 24)),
        ("grey", True, (24, 24)), ("row", None, (1, 1, 96)), ("row", True, (1, 1, 96)), ("bare", False, (1, 96)),
    ],
)  # fmt: skip
def test_two_dimensions_are_a_signal_or_a_grey_image_by_their_shape_or_as_asked(load, name, signals, shape):
    assert load(name, signals=signals).shape == shape


def test_signals_that_do_not_fit_into_memory_are_read_when_they_are_wanted(load, monkeypatch):
    kept = load("moved").train
    monkeypatch.setattr(torch_items, "MEMORY_BYTES", 100)
    read = load("moved").train
    assert isinstance(read.pool, torch_items.ItemPool)
    for options in ({}, {"generator": 1, "augment": True}):
        batches = []
        for part in (kept, read):
            told = {k: torch.Generator().manual_seed(v) if k == "generator" else v for k, v in options.items()}
            batches.append(next(part.batches(9, **told))[0])
        assert torch.equal(*batches)


def test_signals_are_varied_only_as_the_data_set_says(load):
    plain, moved = load("six").train.pool, load("moved").train.pool
    assert (plain.shift, plain.flip, moved.shift, moved.flip) == (0, False, 5, True)


def test_a_moved_signal_is_moved_and_mirrored_along_its_samples_alone():
    signals = torch.arange(1.0, 13).reshape(1, 2, 6).expand(200, 2, 6)
    moved = shifted_and_flipped(signals, 2, True, torch.Generator().manual_seed(0))
    assert moved.shape == signals.shape
    seen = {tuple(one[0].tolist()) for one in moved}
    assert (3.0, 4.0, 5.0, 6.0, 0.0, 0.0) in seen
    assert (0.0, 6.0, 5.0, 4.0, 3.0, 2.0) in seen
    assert len(seen) == 10  # five places, each mirrored or not
    both = moved[:, 0] != 0
    assert torch.equal(moved[:, 1][both], moved[:, 0][both] + 6), "channels move together"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nan", r"item \d+: a signal .*holds NaN or infinite values; expected numbers"),
        ("longer", r"item 20 and the first one are 6x192 and 6x96 \(channels x samples\); give them one length"),
        ("narrower", r"item 20 and the first one are 5x96 and 6x96 \(channels x samples\)"),
        ("waves", r"item 0: a signal \(torch\.complex64"),
        ("nothing", r"item 0: an image is a tensor of shape \(6, 0\); expected channels x height x width"),
        ("mixed", "item 20 and the first one are 3x96x96 and 6x96"),
    ],
)
def test_signals_that_cannot_be_used_are_named(load, name, said):
    with pytest.raises(DataError, match=said):
        load(name)


def test_sizes_of_images_are_refused_for_signals(load):
    with pytest.raises(DataError, match="signals are 96 samples long and are not scaled; leave out image_size=96"):
        load("one", image_size=96)


def test_no_network_of_the_zoo_is_taken_for_signals(load):
    with pytest.raises(ModelError, match=r"signals, 1 x 96.*give one of your own: --model"):
        default_model(load("one"))
