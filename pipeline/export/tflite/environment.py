"""The converter's own environment: litert-torch pins older packages than the pipeline's, and brings JAX."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import ConverterError
from pipeline.side_environment import OnNote, SideEnvironment, quiet

VARIABLE = "PIPELINE_TFLITE_CONVERTER"
"""Names the Python of an environment that has litert-torch already."""
REQUIREMENTS = ("litert-torch==0.10.0", "litert-converter==0.5.0", "ai-edge-litert==2.3.0")
"""Tried together; they run on Python 3.11 beside torch 2.13."""
CONSTRAINTS = (
    "anyio==4.14.2", "jax==0.10.2", "pydantic==2.11.10", "pydantic-core==2.33.2", "torchao==0.18.0",
    "transformers==5.23.0", "typing-extensions==4.12.2", "typing-inspection==0.4.2",
)  # fmt: skip
"""What pip would find after trying a dozen others, and the two that change most: as they were when tried."""
LEAST_FREE_BYTES = 3 * 10**9
"""The environment takes 1 GB; pip unpacks the same beside it, and keeps the downloads."""


def converter_python(on_note: OnNote = quiet, *, cache: Path | None = None) -> Path:
    """Return the Python that can convert; make its environment where there is none yet.

    Args:
        on_note: hears what is being done, a line at a time.
        cache: where environments are kept; None: the user's cache folder.

    Raises:
        ConverterError: it cannot be made; says why and what to do.
    """
    environment = SideEnvironment(
        name="converter", what="the TFLite converter", variable=VARIABLE, requirements=REQUIREMENTS,
        constraints=CONSTRAINTS, attempt="import litert_torch", least_free_bytes=LEAST_FREE_BYTES, error=ConverterError,
    )  # fmt: skip
    return environment.python(on_note, cache)
