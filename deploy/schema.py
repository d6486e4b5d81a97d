"""The manifest's schema: what a reader can rely on, as types and as JSON Schema.

python -m deploy.schema      writes both copies, the package's and docs/manifest.schema.json
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.records import WeightBits

NAME = "manifest.schema.json"
_ID = "https://json-schema.org/draft/2020-12/schema"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}$")]


Length = Annotated[int, Field(ge=1, le=65536)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)


class FileEntry(_Part):
    """One file of the bundle."""

    sha256: Sha256
    bytes: int = Field(ge=0, le=4 * 1024**3)


class ModelEntry(_Part):
    """The network that is to be run."""

    file: FileName
    format: str
    precision: str = "float32"
    weight_bits: WeightBits | None = None
    """Of an INT8 file; absent in those of before: eight."""


class Normalisation(_Part):
    """(value - mean) / std, each channel for itself; of pixels between 0 and 1, or of a signal's own numbers."""

    mean: list[float] = Field(min_length=1)
    std: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)


class Fed(_Part):
    """How the network is fed."""

    name: str
    shape: list[Length] = Field(min_length=1, max_length=8)
    """Channels, height, width; of signals channels, samples; of plain values any."""
    layout: str
    kind: Literal["image", "signal", "values"] = "image"
    normalisation: Normalisation | None = None
    resize: Length | None = None
    interpolation: Literal["bilinear", "bicubic", "lanczos", "nearest"] = "bilinear"


class End(_Part):
    """One input or output of the network."""

    name: str
    shape: list[Length] = Field(max_length=8)
    """Without the batch."""


class TaskEntry(_Part):
    """What the network is for that puts nothing into classes."""

    name: str
    metric: str
    """What the figures under accuracy are called."""
    inputs: list[End] = Field(min_length=1, max_length=64)
    outputs: list[End] = Field(min_length=1, max_length=64)


class ConditionEntry(_Part):
    """The condition of the data, such as fog:3, that the network was chosen and trained for."""

    name: str
    input_mean: list[float] = Field(min_length=1)
    """Of normalised images under it, by channel."""
    input_variance: list[Annotated[float, Field(ge=0)]] = Field(min_length=1)
    accuracy_under: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """Share of right answers on the test split under each condition of the run."""


class TestOutputs(_Part):
    """One model file's answers to the stored inputs."""

    __test__ = False
    file: FileName
    precision: str
    tolerance: float = Field(gt=0, le=1)
    """Largest difference on another board, as a share of the largest score."""
    network: str | None = None
    """Which network of a ladder it is; files of one network and precision answer alike. Absent: the bundle's own."""


class TestVectors(_Part):
    """Stored inputs and answers."""

    __test__ = False
    inputs: FileName
    count: int = Field(ge=1, le=1000)
    outputs: dict[FileName, TestOutputs]


class Signature(_Part):
    """Who vouches for the bundle."""

    file: Literal["model.sig"]
    key: Sha256
    """Of the public key's PEM."""


class Variant(_Part):
    """One network of a ladder."""

    name: str
    file: FileName


class Adaptation(_Part):
    """Which networks the controller chooses among; how it was tuned and judged is for its reader."""

    controller: FileName
    settings: FileName
    variants: list[Variant] = Field(min_length=1, max_length=16)
    """The cheapest first."""


class Manifest(_Part):
    """manifest.json of a bundle; further keys (plan, device, figures, accuracy, run, versions) are for its reader."""

    schema_: Literal[1] = Field(alias="schema")
    files: dict[FileName, FileEntry] = Field(min_length=1, max_length=64)
    model: ModelEntry
    checksums: Literal["SHA256SUMS"] | None = None
    """Absent in bundles of before this key."""
    signature: Signature | None = None
    classes: list[str] | int | None = None
    """In the order of the network's outputs; their number, where nobody knows what they are called."""
    task: TaskEntry | None = None
    condition: ConditionEntry | None = None
    """Absent: classification."""
    input: Fed | None = None
    test_vectors: TestVectors | None = None
    adaptation: Adaptation | None = None
    """Absent: the bundle holds one network."""

    @model_validator(mode="after")
    def _agrees(self) -> Manifest:
        named = {"model": self.model.file}
        if self.test_vectors is not None:
            named["test_vectors.inputs"] = self.test_vectors.inputs
            for model, entry in self.test_vectors.outputs.items():
                named[f"test_vectors.outputs.{model}"] = entry.file
                named[f"test_vectors.outputs.{model} (the model)"] = model
            if self.model.file not in self.test_vectors.outputs:
                raise ValueError(f"test_vectors holds no answers of {self.model.file}")
        if self.adaptation is not None:
            named["adaptation.controller"], named["adaptation.settings"] = (
                self.adaptation.controller,
                self.adaptation.settings,
            )
            named |= {f"adaptation.variants.{variant.name}": variant.file for variant in self.adaptation.variants}
        norm = self.input.normalisation if self.input is not None else None
        if self.input is not None and norm is not None:
            channels = self.input.shape[0]
            if len(norm.mean) != channels or len(norm.std) != channels:
                raise ValueError(f"input has {channels} channels, mean {len(norm.mean)}, std {len(norm.std)} numbers")
        for key, name in named.items():
            if name not in self.files:
                raise ValueError(f"{key} names {name}, which is not among the files")
        return self


def json_schema() -> str:
    """Return the JSON Schema's text."""
    schema: dict[str, Any] = Manifest.model_json_schema(by_alias=True)
    return json.dumps({"$schema": _ID, "title": "Bundle manifest", **schema}, indent=2) + "\n"


def published() -> str:
    """Return the JSON Schema as the package carries it."""
    return files("deploy.templates").joinpath(NAME).read_text(encoding="utf-8")


if __name__ == "__main__":
    root = Path(__file__).parent
    for place in (root / "templates" / NAME, root.parent / "docs" / NAME):
        place.write_text(json_schema(), encoding="utf-8")
