"""A recipe: written, read, refused, replayed; and the pruned network loaded back."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from pipeline.errors import ConfigError, ModelError
from pipeline.models.safetensors_io import weights_bytes
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import prune
from pipeline.pruning.surgery.weight_sparsity import set_to_zero, weights
from pipeline.pruning.trace import trace
from pipeline.recipes.apply import apply_recipe, example_of, laid_out, load_pruned
from pipeline.recipes.recipe import RECIPE, Cut, GroupCut, Recipe, cut_of, parse, read_recipe, to_text
from pipeline.records import SearchSpace
from tests.pipeline.pruning.networks import lively
from tests.variations import variations

SHAPES = {"resnet20": (3, 32, 32), "mobilenet_v2": (3, 32, 32)}


def network(name: str, seed: int) -> nn.Module:
    from pipeline.models.load import CifarResNet
    from pipeline.models.torchvision_models import build

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "resnet20":
            model: nn.Module = CifarResNet(20, classes=10, channels=3)
        else:
            model = build(name, classes=10, channels=3)
        return lively(model, seed).eval()


def images(name: str, count: int = 4) -> Tensor:
    return torch.randn(count, *SHAPES[name], generator=torch.Generator().manual_seed(9))


def shuffled(space: SearchSpace) -> dict[str, Tensor]:
    """A ranking that nobody would guess."""
    generator = torch.Generator().manual_seed(5)
    return {g.name: torch.randperm(g.units, generator=generator) for g in space.groups}


def recipe_of(name: str, model: nn.Module) -> Recipe:
    """Halve every group that can be halved and take one block out."""
    space = search_space(trace(model, images(name)), images(name), step=4)
    return Recipe(
        model=name, classes=10, input_shape=SHAPES[name], parameters=space.parameters, weights_sha256="0" * 64,
        cuts=(halving(space, block=True),), seed=3,
    )  # fmt: skip


def halving(space: SearchSpace, *, block: bool = False) -> Cut:
    gone = next((g.bypass for g in space.groups[2:] if 100 in g.kept), None) if block else None
    levels = tuple(
        100 if gone is not None and g.bypass == gone and 100 in g.kept else 50 if 50 in g.kept else 0
        for g in space.groups
    )
    return cut_of(space, levels, shuffled(space), "random", {"images": 8})


@functools.cache
def cut_once(name: str) -> tuple[nn.Module, Recipe]:
    model = network(name, seed=1)
    return model, recipe_of(name, model)


@pytest.fixture
def resnet() -> tuple[nn.Module, Recipe]:
    return cut_once("resnet20")


@pytest.fixture(scope="module", params=variations(SHAPES, ["resnet20"]))
def cut(request: pytest.FixtureRequest) -> tuple[str, nn.Module, Recipe]:
    return request.param, *cut_once(request.param)


# ---------------------------------------------------------------- replayed


def answers(model: nn.Module, batch: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(batch).clone()


def test_the_recipe_gives_the_same_network_again(cut: tuple[str, nn.Module, Recipe]) -> None:
    name, model, recipe = cut
    before = answers(model, images(name))
    one, other = apply_recipe(model, recipe), apply_recipe(model, parse(to_text(recipe)))
    assert torch.equal(answers(one.network, images(name)), answers(other.network, images(name)))
    assert torch.equal(answers(model, images(name)), before)
    assert one.recipe.cuts == recipe.cuts
    assert sum(p.numel() for p in one.network.parameters()) < sum(p.numel() for p in model.parameters())


def test_on_another_checkpoint_it_keeps_the_same_channels(cut: tuple[str, nn.Module, Recipe]) -> None:
    """The kept weights of the first cut layer are those of the checkpoint, at the indices that the recipe names."""
    name, _, recipe = cut
    other = network(name, seed=2)
    applied = apply_recipe(other, recipe)
    group = next(g for g in recipe.cuts[0].groups if g.level == 50 and g.name in dict(applied.network.named_modules()))
    left, whole = applied.network.get_submodule(group.name).weight, other.get_submodule(group.name).weight
    assert left.shape[0] == len(group.kept)
    if left.shape[1:] == whole.shape[1:]:
        assert torch.equal(left, whole[list(group.kept)])
    assert applied.recipe.weights_sha256 != apply_recipe(network(name, seed=1), recipe).recipe.weights_sha256


def test_the_pruned_network_is_loaded_back_bit_for_bit(cut: tuple[str, nn.Module, Recipe], tmp_path: Path) -> None:
    name, model, recipe = cut
    saved = apply_recipe(model, recipe).network
    (tmp_path / "weights.safetensors").write_bytes(weights_bytes(saved))
    loaded = load_pruned(network(name, seed=7), recipe, tmp_path / "weights.safetensors")
    assert isinstance(loaded, fx.GraphModule)
    assert not loaded.training
    assert torch.equal(answers(loaded, images(name)), answers(saved, images(name)))


FRESH = """
import sys, torch
from pathlib import Path
from pipeline.recipes.apply import load_pruned
from pipeline.recipes.recipe import read_recipe
from tests.pipeline.recipes.test_recipe import answers, images, network
torch.set_num_threads(1)
for folder in map(Path, sys.argv[1:]):
    loaded = load_pruned(network(folder.name, seed=11), read_recipe(folder), folder / "weights.safetensors")
    assert torch.equal(answers(loaded, images(folder.name)), torch.load(folder / "answers.pt")), folder.name
"""


@pytest.mark.slow
def test_a_fresh_process_loads_them_back_bit_for_bit(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name in SHAPES:
            (model, recipe), folder = cut_once(name), tmp_path / name
            saved = apply_recipe(model, recipe).network
            folder.mkdir()
            torch.save(answers(saved, images(name)), folder / "answers.pt")
            (folder / "weights.safetensors").write_bytes(weights_bytes(saved))
            (folder / RECIPE).write_text(to_text(recipe))
    finally:
        torch.set_num_threads(threads)
    done = subprocess.run(
        [sys.executable, "-c", FRESH, *(str(tmp_path / name) for name in SHAPES)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_several_cuts_are_made_one_after_another(resnet: tuple[nn.Module, Recipe]) -> None:
    model, recipe = resnet
    once = apply_recipe(model, recipe).network
    second = halving(search_space(once, images("resnet20"), step=4))
    both = parse(to_text(replace(recipe, cuts=(*recipe.cuts, second))))
    twice = apply_recipe(model, both)
    space = search_space(once, images("resnet20"), step=4)
    by_hand = prune(once, space, second.levels, shuffled(space), images("resnet20"))
    assert torch.equal(answers(twice.network, images("resnet20")), answers(laid_out(by_hand), images("resnet20")))
    assert twice.recipe.cuts == both.cuts


@pytest.mark.slow
def test_a_search_that_protected_layers_is_replayed_as_well() -> None:
    model, example = network("resnet20", seed=1), images("resnet20")
    space = search_space(trace(model, example), example, step=4, protect=("layer1.*",))
    assert not any(g.name.startswith("layer1") for g in space.groups)
    recipe = replace(recipe_of("resnet20", model), cuts=(halving(space),))
    assert apply_recipe(model, recipe).network.get_submodule("layer1.0.conv1").weight.shape[0] == 16


def test_channels_are_ranked_anew_where_that_is_asked_for(cut: tuple[str, nn.Module, Recipe]) -> None:
    _, model, recipe = cut
    first = {g.name: torch.arange(g.units) for g in recipe.cuts[0].groups}
    applied = apply_recipe(model, recipe, rank=lambda *_: first)
    for old, new in zip(recipe.cuts[0].groups, applied.recipe.cuts[0].groups, strict=True):
        assert (new.level, len(new.kept)) == (old.level, len(old.kept))
        assert new.kept == tuple(range(new.units - len(new.kept), new.units))


@pytest.mark.slow
def test_as_much_of_each_layer_is_zero_on_another_checkpoint_whatever_its_weights(
    resnet: tuple[nn.Module, Recipe],
) -> None:
    model, recipe = resnet
    shares = {name: 0.1 + 0.04 * i for i, name in enumerate(weights(trace(model, images("resnet20"))))}
    told = replace(recipe, cuts=(replace(uncut(recipe.cuts[0]), zeros=shares),))
    thinned = parse(to_text(told))
    assert thinned == told
    by_hand = trace(model, images("resnet20"))
    set_to_zero(by_hand, shares)
    one, again = apply_recipe(model, thinned).network, apply_recipe(network("resnet20", seed=1), thinned).network
    other = apply_recipe(network("resnet20", seed=2), thinned).network
    for name, weight in weights(one).items():
        assert torch.equal(weight, weights(by_hand)[name])
        assert torch.equal(weight, weights(again)[name])
        zero = weights(other)[name] == 0
        assert zero.sum() == (weight == 0).sum() == round(shares[name] * weight.numel())
        large = network("resnet20", seed=2).get_parameter(name).abs()
        assert not zero.any() or large[zero].max() <= large[~zero].min()


def uncut(cut: Cut) -> Cut:
    """The same groups with every channel kept."""
    groups = (replace(g, level=0, kept=tuple(range(g.units)), bypass=None) for g in cut.groups)
    return replace(cut, groups=tuple(groups))


def test_zeros_in_a_layer_that_the_model_has_not_are_refused(resnet: tuple[nn.Module, Recipe]) -> None:
    model, recipe = resnet
    zeros = replace(recipe, cuts=(replace(recipe.cuts[0], zeros={"stem.weight": 0.5}),))
    with pytest.raises(ModelError, match=r"has no weights 'stem\.weight', of which 50\.0% are to be zero"):
        apply_recipe(model, zeros)


def test_a_plan_that_cuts_nothing_leaves_the_network_as_it_is(resnet: tuple[nn.Module, Recipe]) -> None:
    model, recipe = resnet
    applied = apply_recipe(model, replace(recipe, cuts=()))
    torch.testing.assert_close(
        answers(applied.network, images("resnet20")), answers(model, images("resnet20")), rtol=1e-4, atol=1e-3
    )


def test_the_example_is_always_the_same(cut: tuple[str, nn.Module, Recipe]) -> None:
    assert torch.equal(example_of(cut[2]), example_of(cut[2]))


# ---------------------------------------------------------------- another architecture


def test_another_depth_is_refused_by_what_differs(resnet: tuple[nn.Module, Recipe]) -> None:
    from pipeline.models.load import CifarResNet

    deeper = lively(CifarResNet(32, classes=10, channels=3)).eval()
    with pytest.raises(ModelError, match=r"architecture: 'layer1\.3\.conv2' shares the channels of 'conv1' only here"):
        apply_recipe(deeper, resnet[1])


def test_other_classes_are_refused_by_the_parameters(resnet: tuple[nn.Module, Recipe]) -> None:
    from pipeline.models.load import CifarResNet

    model = lively(CifarResNet(20, classes=12, channels=3)).eval()
    with pytest.raises(ModelError, match=r"uncut, it has [\d,]+ parameters, the recipe's [\d,]+ \(resnet20, 10 cla"):
        apply_recipe(model, resnet[1])


def with_first(recipe: Recipe, **changes: Any) -> Recipe:
    first, *rest = recipe.cuts[0].groups
    return replace(recipe, cuts=(replace(recipe.cuts[0], groups=(replace(first, **changes), *rest)),))


def test_other_groups_widths_and_blocks_are_refused_by_name(resnet: tuple[nn.Module, Recipe]) -> None:
    model, recipe = resnet
    first = recipe.cuts[0].groups[0]
    with pytest.raises(ModelError, match=rf"'{first.name}' has {first.units} channels to choose from, the recipe's 48"):
        apply_recipe(model, with_first(recipe, units=48))
    with pytest.raises(ModelError, match=r"it has no group 'stem'.*, cut 1 of 1; give the model"):
        apply_recipe(model, with_first(recipe, name="stem"))
    with pytest.raises(ModelError, match="it has no block 'add_99'"):
        apply_recipe(model, with_first(recipe, bypass="add_99", kept=(), level=100))


def test_weights_of_another_network_are_refused(cut: tuple[str, nn.Module, Recipe], tmp_path: Path) -> None:
    name, model, recipe = cut
    (tmp_path / "weights.safetensors").write_bytes(weights_bytes(model))  # the whole network's
    with pytest.raises(ModelError, match=r"does not fit the network: .* of another shape"):
        load_pruned(network(name, seed=2), recipe, tmp_path / "weights.safetensors")


# ---------------------------------------------------------------- written and read


def small() -> Recipe:
    groups = (
        GroupCut(name="stem", layers=("stem",), level=0, units=4, kept=(0, 1, 2, 3)),
        GroupCut(name="block.conv1", layers=("block.conv1",), level=50, units=8, kept=(1, 4, 5, 7)),
        GroupCut(name="gone.conv1", layers=("gone.conv1",), level=100, units=8, kept=(), bypass="add_1"),
    )
    cut = Cut(criterion="l1", options={"images": 512, "reduction": "mean"}, step=4, groups=groups)
    return Recipe(
        model="net.py:Net", classes=10, input_shape=(1, 8, 8), parameters=9000, weights_sha256="ab" * 32,
        cuts=(cut,), seed=3, versions={"torch": "2.13.0"}, source="run r, artifact a",
    )  # fmt: skip


def test_what_is_written_is_read_and_says_what_went() -> None:
    text = to_text(small())
    assert parse(text) == small()
    told = json.loads(text)
    assert told["recipe"] == 1
    assert told["cuts"][0]["removed_blocks"] == ["add_1"]
    assert told["cuts"][0]["groups"][1]["kept"] == [1, 4, 5, 7]
    assert small().cuts[0].levels == (0, 50, 100)


def test_a_recipe_with_zeros_is_of_a_version_that_older_readers_refuse() -> None:
    """They would pass the zeros over and make another network; what they can read stays what it was."""
    zeros = replace(small(), cuts=(replace(small().cuts[0], zeros={"stem.weight": 0.5}),))
    assert json.loads(to_text(zeros))["recipe"] == 2
    assert parse(to_text(zeros)) == zeros
    with pytest.raises(ConfigError, match=r"cut 1, zeros of 'stem\.weight' must be between 0 and 1, got 1\.5"):
        parse(to_text(replace(zeros, cuts=(replace(zeros.cuts[0], zeros={"stem.weight": 1.5}),))))


def test_what_holds_for_the_whole_network_is_read_back_and_checked() -> None:
    decided = {"precision": {"value": "int8", "float_layers": ["fc.weight"]}}
    written = to_text(replace(small(), decisions=decided))
    found = parse(written)
    assert (found.decisions, found.precision, found.float_layers) == (decided, "int8", ("fc.weight",))
    assert json.loads(written)["recipe"] == 1  # an older reader cuts alike, in float32
    assert (small().precision, small().float_layers) == ("float32", ())
    with pytest.raises(ConfigError, match="float_layers of 'precision' must be a list of names"):
        parse(written.replace('["fc.weight"]', '"fc.weight"'))
    with pytest.raises(ConfigError, match="the decision 'precision' has no value"):
        parse(written.replace('"value": "int8"', '"value": 8'))


@pytest.mark.parametrize("bits", [7, 8])
def test_how_many_bits_int8_weights_have_is_read_back(bits: int) -> None:
    decided = {"precision": {"value": "int8", "float_layers": [], "scheme": "u8s8", "weight_bits": bits}}
    assert parse(to_text(replace(small(), decisions=decided))).weight_bits == bits


def test_a_recipe_of_before_is_of_eight_bits_and_other_numbers_are_refused() -> None:
    written = to_text(replace(small(), decisions={"precision": {"value": "int8", "weight_bits": 8}}))
    assert parse(to_text(replace(small(), decisions={"precision": {"value": "int8"}}))).weight_bits == 8
    for absurd in ("63", "0", "7.0", "true", '"seven"', "[7]", "null"):
        with pytest.raises(ConfigError, match="weight_bits of 'precision' must be 7 or 8, got"):
            parse(written.replace('"weight_bits": 8', f'"weight_bits": {absurd}'))


def test_a_file_and_a_bundles_folder_are_read(tmp_path: Path) -> None:
    (tmp_path / RECIPE).write_text(to_text(small()))
    assert read_recipe(tmp_path) == read_recipe(tmp_path / RECIPE) == small()


def test_a_missing_recipe_says_where_one_comes_from(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the folder .* holds no recipe\.json; give .* that `pipeline pull` wrote"):
        read_recipe(tmp_path)
    with pytest.raises(ConfigError, match=r"no such file: .*other\.json; give a recipe\.json"):
        read_recipe(tmp_path / "other.json")


def changed(**changes: Any) -> str:
    """The second group with other values."""
    told = json.loads(to_text(small()))
    told["cuts"][0]["groups"][1] |= changes
    return json.dumps(told)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is damaged: Expecting value"),
        ('{"recipe": 1', "is damaged"),
        ("[]", "is not a recipe file: missing key `recipe`"),
        ('{"files": {}}', "is not a recipe file"),
        ('{"recipe": 4}', "is of version 4, this program reads up to 3: bring a newer one"),
        ('{"recipe": 1}', "is damaged: model: Field required"),
        (changed(kept=[1, 4, 5, 8]), r"cut 1, group 'block\.conv1': channel 8 is out of range; its 8 are 0 to 7"),
        (changed(kept=[-1, 4, 5, 7]), "channel -1 is out of range"),
        (changed(kept=[1, 4, 4, 7]), "channel 4 is kept twice"),
        (changed(kept=[]), "keeps no channel, and no block around it is removed"),
        (changed(kept=["all"]), r"is damaged: cuts\.0\.groups\.1\.kept\.0"),
        (changed(name="stem"), "duplicate group 'stem'"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        read_recipe(path)
    assert str(path) in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / RECIPE
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_recipe(path)
