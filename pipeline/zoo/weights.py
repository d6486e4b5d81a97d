"""Read a state dict from a checkpoint and put it into a network, or say exactly what does not fit.

Files are never unpickled into objects: ``torch.load(weights_only=True)`` and safetensors read numbers only.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from pipeline.errors import ModelError

SUFFIXES = frozenset({".th", ".pt", ".pth", ".safetensors"})
WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts file the state dict."""
PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every key."""
AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.")
"""Of GoogLeNet and Inception: in published checkpoints, useless after training."""
SAVE = "torch.save(model.state_dict(), 'weights.pt')"


def load_weights(model: nn.Module, file: Path) -> None:
    """Fill ``model`` in place from a .th, .pt, .pth or .safetensors file.

    Raises:
        ModelError: the file cannot be read, holds no state dict, or one that does not fit.
    """
    state = _without_auxiliary_heads(_state_dict(_read(file), file), model)
    _refuse_misfit(state, model, file)
    model.load_state_dict(state)


def _read(file: Path) -> Any:
    if file.suffix.lower() not in SUFFIXES:
        raise ModelError(f"weights file {file} ends in {file.suffix!r}; expected {', '.join(sorted(SUFFIXES))}")
    if not file.is_file():
        raise ModelError(f"no weights file {file}; give an existing .pt, .pth, .th or .safetensors file")
    return _read_safetensors(file) if file.suffix.lower() == ".safetensors" else _read_torch(file)


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(file)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"weights file {file} cannot be read ({error}); save it again") from error


def _read_torch(file: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # says of a TorchScript file what the error below says better
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" not in str(error):
            raise _unreadable(file, error) from error
        raise ModelError(
            f"weights file {file} holds pickled objects, perhaps a whole model, which could run any code when opened; "
            f"save its numbers only: {SAVE}"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        if "TorchScript" in str(error):
            raise ModelError(f"weights file {file} holds a TorchScript model; save its weights only: {SAVE}") from error
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> ModelError:
    reason = str(error).strip().partition("\n")[0][:120]
    return ModelError(
        f"weights file {file} cannot be read ({type(error).__name__}: {reason}); save it again with {SAVE}"
    )


def _state_dict(content: Any, file: Path) -> dict[str, Tensor]:
    """Find the state dict inside what a training script saved, under the network's own key names."""
    while isinstance(content, Mapping) and (key := next((k for k in WRAPPERS if k in content), None)):
        content = content[key]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        found = f"the keys {_first(list(content))}" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise ModelError(f"weights file {file} holds no state dict (found {found}); save one: {SAVE}")
    state = {str(key): value for key, value in content.items()}
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _without_auxiliary_heads(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    own = model.state_dict()
    return {key: value for key, value in state.items() if key in own or not key.startswith(AUXILIARY_HEADS)}


def _refuse_misfit(state: Mapping[str, Tensor], model: nn.Module, file: Path) -> None:
    own = model.state_dict()
    # Batch norms of before torch 0.4.1 do not count batches; torch itself fills that in.
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    misshapen = [
        f"{key} is {tuple(state[key].shape)}, the network's {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    misfits = [f"{len(keys)} {kind} ({_first(keys)})" for kind, keys in kinds.items() if keys]
    if misfits:
        raise ModelError(
            f"weights file {file} does not fit the network: {'; '.join(misfits)}; "
            "give weights of the same network, trained on as many classes"
        )
    broken = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise ModelError(f"weights file {file} holds infinite or undefined numbers ({_first(broken)}); train it again")


def _first(names: Sequence[object], count: int = 3) -> str:
    return ", ".join(str(name) for name in names[:count]) + (", …" if len(names) > count else "")
