"""The answer to ``verify``: the device's own outputs for the images that it was given."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PlainValidator, ValidationInfo, WithJsonSchema, model_validator

from pipeline.answers.answer import Answer
from pipeline.answers.fields import asked
from pipeline.answers.size_limits import SizeLimits

MOST_VALUES = 1 << 22
"""For one image: scores of 64 classes at 256 x 256 pixels."""
_MOST_BYTES = 64 * 1024 * 1024


def _values(value: object) -> NDArray[np.float32]:
    """Return base64's little-endian float32 values, all of them finite."""
    if not isinstance(value, str):
        raise ValueError("expected base64 of float32 values")
    try:
        found = np.frombuffer(base64.b64decode(value, validate=True), "<f4").astype(np.float32)
    except (ValueError, binascii.Error) as error:
        raise ValueError(f"is no base64 of float32 values: {error}") from None
    if not np.isfinite(found).all():
        raise ValueError("holds outputs that are no numbers")
    return found


class Verified(Answer):
    """Outputs, one row an image."""

    verb: ClassVar[str] = "verify"
    concerns_candidate: ClassVar[bool] = True

    outputs: Annotated[NDArray[np.float32], PlainValidator(_values), WithJsonSchema({"type": "string"})]
    shape: list[Annotated[int, Field(ge=1, le=2**31)]] = Field(min_length=2, max_length=2)

    @classmethod
    def size_limits(cls, asked: Mapping[str, Any]) -> SizeLimits:
        """See ``Answer.size_limits``; ``images``, which is no argument, says how many were sent."""
        images = asked.get("images")
        values = (images if isinstance(images, int) else 1 << 31) * MOST_VALUES
        return SizeLimits(size=min(_MOST_BYTES, 64 * 1024 + 16 * values // 3), values=100, containers=100)

    @property
    def rows(self) -> NDArray[np.float32]:
        """The outputs, float32[images, values]."""
        return self.outputs.reshape(self.shape)

    @model_validator(mode="after")
    def _fits(self, info: ValidationInfo) -> Self:
        images = asked(info, "images")
        if images is not None and self.shape[0] != images:
            raise ValueError(f"holds outputs of {self.shape[0]} images, {images} were sent")
        if self.shape[0] * self.shape[1] != len(self.outputs):
            raise ValueError(f"holds {len(self.outputs)} values, which are not {self.shape[0]} × {self.shape[1]}")
        return self
