"""A recipe: what was cut out of a network, as numbers that can be read, checked and cut again; JSON, never a pickle.

It holds no weights: which channels of which groups stayed and which blocks went, in one cut or in several, one after
another. Replayed on the checkpoint that it was made with, it gives the same network; on another checkpoint of the same
architecture, a network of the same shape.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, get_args

from deploy.runtime import CHECKSUMS, MANIFEST
from pipeline import serialization
from pipeline.errors import ConfigError, first_line
from pipeline.objective.task import CLASSIFICATION
from pipeline.records import SearchSpace, WeightBits
from pipeline.regular_file import LIST_BYTES, is_folder, is_there, read_text

RECIPE = "recipe.json"
VERSION = 3
"""Rises with every change that a reader of an earlier version would misread: 2 sets single weights to zero, 3 is of
another task than classification. What is written is of the lowest version that says it all."""
MOST_PIXELS = 2**22
"""Values of an image: three channels of 1182 x 1182."""
MOST_CLASSES = 100_000
PRECISIONS = ("float32", "int8", "fp16")


class Order(Protocol):
    """A group's channels, least important first: a tensor of indices."""

    def tolist(self) -> list[int]:
        """Return them as numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCut:
    """What stayed of one group."""

    name: str
    layers: tuple[str, ...]
    """Whose channels they are."""
    level: int
    """In percent; 100 removed the block around the group, or one around that."""
    units: int
    """How many there were to choose from: the channels, or, where some are coupled, the sets of them."""
    width: int = 1
    """Channels in each of these sets."""
    kept: tuple[int, ...]
    """The units that stayed, by index, ascending; none where the group went with its block."""
    bypass: str | None = None
    """The block around the group, by its node in the graph."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One surgery: every group of the network that there was before it, in forward order."""

    criterion: str
    """Who ranked the channels."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the criterion was given: number of images, reduction, normalisation."""
    step: int
    """Kept channels were rounded up to a multiple of it."""
    groups: tuple[GroupCut, ...]
    zeros: Mapping[str, float] = field(default_factory=dict)
    """Single weights that became zero, after the cut: a parameter's name → the share of its values, smallest first."""

    @property
    def levels(self) -> tuple[int, ...]:
        """A level for each group."""
        return tuple(group.level for group in self.groups)

    @property
    def removed_blocks(self) -> tuple[str, ...]:
        """The blocks that went, by their nodes in the graph."""
        return tuple(sorted({g.bypass for g in self.groups if g.bypass is not None and not g.kept}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All cuts between a base network and a pruned one, and where they come from."""

    model: str
    """As it was asked for: a name, package.module:factory or file.py:factory."""
    classes: int
    input_shape: tuple[int, ...]
    """Channels, height, width; of signals channels, samples."""
    parameters: int
    """Of the base network."""
    weights_sha256: str
    """Of the base network's weights, written as safetensors."""
    cuts: tuple[Cut, ...]
    seed: int
    mean: tuple[float, ...] | None = None
    """Of each channel, of pixels in [0, 1], with which the network's images are normalised; None: not known."""
    std: tuple[float, ...] | None = None
    fitting: Mapping[str, Any] | None = None
    """How its images are scaled: ``resize``, the shorter side before the centre is cut, and ``interpolation``."""
    task: str = CLASSIFICATION
    """What the network is for; one of the user's own by its file's name and its name there."""
    more_shapes: tuple[tuple[int, ...], ...] = ()
    """Of the network's further inputs."""
    versions: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    """Run and artifact, or the recipe that was applied."""
    decisions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What held for the whole network, by what it is called: of ``precision`` its ``value``, and of INT8
    ``float_layers``, ``scheme`` and ``weight_bits``, see ``PrecisionDecision``.
    Nothing of what leaves a network's file as it was; a reader that does not know one gives the same cut without it."""

    @property
    def precision(self) -> str:
        """In which the network computed: ``float32`` where nothing else was decided."""
        return str(self.decisions.get("precision", {}).get("value", "float32"))

    @property
    def float_layers(self) -> tuple[str, ...]:
        """Weights of layers that stay float32 in another precision, by their names."""
        return tuple(self.decisions.get("precision", {}).get("float_layers", ()))

    @property
    def weight_bits(self) -> WeightBits:
        """Of an INT8 file; of one of before, which does not say, eight."""
        found: WeightBits = self.decisions.get("precision", {}).get("weight_bits", 8)
        return found


def cut_of(
    space: SearchSpace,
    levels: tuple[int, ...],
    ranking: Mapping[str, Order],
    criterion: str,
    options: Mapping[str, Any],
) -> Cut:
    """Return what a plan cuts: its ``levels`` of ``space``, the channels after ``ranking``."""
    groups = []
    for group, level, stay in zip(space.groups, levels, space.kept(levels), strict=True):
        order = ranking[group.name].tolist()
        kept = sorted(order[group.units - stay // group.width :])
        cut = GroupCut(
            name=group.name, layers=group.layers, level=level if stay else 100, units=group.units, width=group.width,
            kept=tuple(kept), bypass=group.bypass,
        )  # fmt: skip
        groups.append(cut)
    return Cut(criterion=criterion, options=options, step=space.step, groups=tuple(groups))


def to_text(recipe: Recipe) -> str:
    """Return a recipe as JSON."""
    plain = serialization.dump(recipe)
    for cut, written in zip(recipe.cuts, plain["cuts"], strict=True):
        written["removed_blocks"] = list(cut.removed_blocks)  # for the reader: it follows from the groups
    version = 2 if any(cut.zeros for cut in recipe.cuts) else 1
    if recipe.task == CLASSIFICATION:
        del plain["task"], plain["more_shapes"]
    else:
        version = VERSION
    return serialization.to_text({"recipe": version, **plain}) + "\n"


def read_recipe(path: Path) -> Recipe:
    """Return the recipe of a file, or of a pulled bundle's folder.

    Raises:
        ConfigError: there is none, it is damaged or of a newer version, or its channels make no sense.
        BundleError: the folder is a bundle that is not as it was written.
    """
    folder = is_folder(path)
    if folder and any(is_there(path / name) for name in (MANIFEST, CHECKSUMS)):
        from deploy.verify import verify_bundle

        verify_bundle(path, run=False)
    file = path / RECIPE if folder else path
    try:
        text = read_text(file, LIST_BYTES)
    except FileNotFoundError as error:
        where = f"the folder {path} holds no {RECIPE}" if folder else f"no such file: {path}"
        raise ConfigError(f"{where}; give a {RECIPE}, or the folder that `pipeline pull` wrote it to") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the recipe {file} cannot be read: {first_line(error)}; pull it again") from error
    return parse(text, shown=str(file))


def parse(text: str, *, shown: str = "the recipe") -> Recipe:
    """Return the recipe that ``to_text`` wrote; raises like ``read_recipe``."""
    try:
        plain = serialization.from_text(text)
    except ValueError as error:
        raise ConfigError(f"{shown} is damaged: {first_line(error)}; pull it again") from error
    version = plain.get("recipe") if isinstance(plain, dict) else None
    if not isinstance(version, int):
        raise ConfigError(f"{shown} is not a recipe file: missing key `recipe`; give a {RECIPE}")
    if version > VERSION:
        raise ConfigError(
            f"{shown} is of version {version}, this program reads up to {VERSION}: bring a newer one "
            "(pip install --upgrade edge-pruning-pipeline)"
        )
    try:
        recipe = serialization.load(Recipe, plain)
    except ValueError as error:
        raise ConfigError(f"{shown} is damaged: {serialization.problem(error)}; pull it again") from error
    _require_images(recipe, shown)
    _require_decisions(recipe, shown)
    for number, cut in enumerate(recipe.cuts, 1):
        _require_sense(cut, f"{shown}, cut {number}")
    return recipe


def _require_images(recipe: Recipe, shown: str) -> None:
    """Refuse what no network is fed with: it would be made, to try the cuts, whatever memory it takes."""
    if recipe.task != CLASSIFICATION:
        _require_inputs(recipe, shown)
        return
    shape = recipe.input_shape
    if len(shape) != 3 or min(shape) < 1 or math.prod(shape) > MOST_PIXELS:
        raise ConfigError(
            f"{shown}: its input_shape is {list(shape)}; expected are channels, height and width, of at most "
            f"{MOST_PIXELS:,} values: pull it again"
        )
    if not 1 <= recipe.classes <= MOST_CLASSES:
        raise ConfigError(
            f"{shown}: it has {recipe.classes} classes; expected are 1 to {MOST_CLASSES:,}: pull it again"
        )
    for name, values in (("mean", recipe.mean), ("std", recipe.std)):
        if values is not None and len(values) != shape[0]:
            raise ConfigError(f"{shown}: {name} has {len(values)} numbers for {shape[0]} channels: pull it again")
    if recipe.std is not None and min(recipe.std) <= 0:
        raise ConfigError(f"{shown}: std is {min(recipe.std):g}; expected is more than 0: pull it again")


def _require_decisions(recipe: Recipe, shown: str) -> None:
    for name, decided in recipe.decisions.items():
        if not isinstance(decided.get("value"), str):
            raise ConfigError(f"{shown}: the decision {name!r} has no value, a text: pull it again")
        layers = decided.get("float_layers", [])
        if not isinstance(layers, list) or not all(isinstance(layer, str) for layer in layers):
            raise ConfigError(f"{shown}: float_layers of {name!r} must be a list of names, got {layers!r}")
        bits = decided.get("weight_bits", 8)
        if type(bits) is not int or bits not in get_args(WeightBits):
            raise ConfigError(f"{shown}: weight_bits of {name!r} must be 7 or 8, got {bits!r}: pull it again")
    if recipe.precision not in PRECISIONS:
        raise ConfigError(
            f"{shown}: its precision is {recipe.precision!r}; known: {', '.join(PRECISIONS)}: pull it again"
        )


def _require_inputs(recipe: Recipe, shown: str) -> None:
    shapes = (recipe.input_shape, *recipe.more_shapes)
    if any(not shape or min(shape) < 1 for shape in shapes) or sum(map(math.prod, shapes)) > MOST_PIXELS:
        raise ConfigError(
            f"{shown}: its inputs are of shapes {[list(shape) for shape in shapes]}; expected are sizes of at least 1, "
            f"and at most {MOST_PIXELS:,} values: pull it again"
        )
    if not 0 <= recipe.classes <= MOST_CLASSES:
        raise ConfigError(
            f"{shown}: it has {recipe.classes} classes; expected are 0 to {MOST_CLASSES:,}: pull it again"
        )


def _require_sense(cut: Cut, shown: str) -> None:
    for name, share in cut.zeros.items():
        if not 0 <= share <= 1:
            raise ConfigError(f"{shown}, zeros of {name!r} must be between 0 and 1, got {share!r}")
    names = [group.name for group in cut.groups]
    if twice := _repeated(names):
        raise ConfigError(f"{shown}: duplicate group {twice[0]!r}; each group is cut once")
    removed = {group.bypass for group in cut.groups if group.level == 100}
    for group in cut.groups:
        where = f"{shown}, group {group.name!r}"
        if beyond := [i for i in group.kept if not 0 <= i < group.units]:
            raise ConfigError(
                f"{where}: channel {beyond[0]} is out of range; its {group.units} are 0 to {group.units - 1}"
            )
        if twice := _repeated(group.kept):
            raise ConfigError(f"{where}: channel {twice[0]} is kept twice; name each once")
        if not group.kept and (group.bypass is None or group.bypass not in removed):
            raise ConfigError(f"{where} keeps no channel, and no block around it is removed; keep one at least")


def _repeated(items: Sequence[Any]) -> list[Any]:
    counts = Counter(items)
    return [item for item in items if counts[item] > 1]
