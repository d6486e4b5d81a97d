"""Preprocessing presets of torchvision's published weights."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.regular_file import WEIGHTS_BYTES, opened

_DIGEST = re.compile(r"-([0-9a-f]{8,10})(?![0-9a-z])")
"""How torchvision's files end before their suffix, resnet18-f37072fd.pth: with the first digits of their SHA-256."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What a network was evaluated with by those who trained it."""

    name: str
    """Of the weights: ``ResNet18_Weights.IMAGENET1K_V1``."""
    resize: int
    crop: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def sentence(self) -> str:
        """Return it in words."""
        return (
            f"images are read as for {self.name}: the shorter side scaled to {self.resize} ({self.interpolation}), the "
            f"centre cut to {self.crop}"
        )


def preset_of(weights: Path | None, model: str | None) -> Preset | None:
    """Return what belongs to a weights file of torchvision's, whose name it still has, or else its content.

    Args:
        weights: the user's file, if there is one.
        model: as the user named it; the contents of files are compared only for torchvision's own.
    """
    if weights is None or weights.suffix.lower() != ".pth":
        return None
    digest = _DIGEST.search(weights.name)
    if digest is None and (not model or ":" in model):
        return None
    from pipeline.torchvision_compat import torchvision  # a second to import, and seldom needed

    names = torchvision.models.list_models(module=torchvision.models)
    if digest is not None:
        wanted = weights.name[: digest.end()]
        known = (one for name in names for one in torchvision.models.get_model_weights(name))
        return next((_preset(str(one), one.transforms()) for one in known if Path(one.url).stem == wanted), None)
    if model not in names:
        return None
    try:
        with opened(weights, WEIGHTS_BYTES) as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:  # whoever reads the weights says it
        return None
    known = torchvision.models.get_model_weights(model)
    return next((_preset(str(one), one.transforms()) for one in known if _belongs(content, one.url)), None)


def _belongs(content: str, url: str) -> bool:
    digest = _DIGEST.search(url)
    return digest is not None and content.startswith(digest[1])


def _preset(name: str, transforms: Any) -> Preset:
    (resize,), (crop,) = transforms.resize_size, transforms.crop_size
    return Preset(
        name=name, resize=resize, crop=crop, interpolation=transforms.interpolation.value,
        mean=tuple(transforms.mean), std=tuple(transforms.std),
    )  # fmt: skip
