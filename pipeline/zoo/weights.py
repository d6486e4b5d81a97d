"""Read a state dict from a checkpoint and put it into a network, or say exactly what does not fit.

Files are never unpickled into objects: ``torch.load(weights_only=True)`` and safetensors read numbers only.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.regular_file import is_there
from pipeline.zoo.heads import find_head

SUFFIXES = frozenset({".th", ".pt", ".pth", ".safetensors"})
WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts file the state dict."""
PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every key."""
AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.")
"""Of GoogLeNet and Inception: in published checkpoints, useless after training."""
SAME = "give weights of the same network, trained on as many classes"
NEW_HEAD = "--head new (head: new in run.yaml)"
SAVE = "torch.save(model.state_dict(), 'weights.pt')"


def load_weights(model: nn.Module, file: Path) -> None:
    """Fill ``model`` in place from a .th, .pt, .pth or .safetensors file.

    Raises:
        ModelError: the file cannot be read, holds no state dict, or one that does not fit.
    """
    state = _without_auxiliary_heads(_state_dict(_read(file), file), model)
    _refuse_misfit(state, model.state_dict(), file, lambda: _advice(state, model))
    model.load_state_dict(state)


def load_backbone(model: nn.Module, file: Path, head: str) -> None:
    """Fill ``model`` in place, all but its last layer, which stays as it is.

    The file's own last layer may have any shape, another name, or be absent.

    Args:
        model: of the file's network, with a last layer of its own.
        file: .th, .pt, .pth or .safetensors.
        head: the name of the last layer.

    Raises:
        ModelError: the file cannot be read, holds no state dict, or one whose other layers do not fit.
    """
    state = _without_auxiliary_heads(_state_dict(_read(file), file), model)
    own = _without_layer(model.state_dict(), head)
    state = _without_layer(state, head)
    strangers = {key.rpartition(".")[0] for key in state if key not in own}
    if len(strangers) == 1:  # the file's last layer under another name
        state = {key: value for key, value in state.items() if key in own}
    _refuse_misfit(state, own, file, lambda: "give weights of the same network; only its last layer may differ")
    model.load_state_dict(state, strict=False)


def _without_layer(state: Mapping[str, Tensor], layer: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith(f"{layer}.")}


def _read(file: Path) -> Any:
    if file.suffix.lower() not in SUFFIXES:
        raise ModelError(f"weights file {file} ends in {file.suffix!r}; expected {', '.join(sorted(SUFFIXES))}")
    if not is_there(file):
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


def _advice(state: Mapping[str, Tensor], model: nn.Module) -> str:
    """Return what to do about weights that do not fit: keep all but the last layer, where that is all that differs."""
    try:
        head = find_head(model)
    except ModelError:
        return SAME
    last = state.get(f"{head}.weight")
    others = _without_layer(model.state_dict(), head)
    if last is None or any(key not in state or state[key].shape != value.shape for key, value in others.items()):
        return SAME
    return (
        f"{SAME}, or train a new last layer on the others, which fit ({head} answers {len(last)} classes): {NEW_HEAD}"
    )


def _refuse_misfit(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], file: Path, advice: Callable[[], str]
) -> None:
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
        raise ModelError(f"weights file {file} does not fit the network: {'; '.join(misfits)}; {advice()}")
    broken = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise ModelError(f"weights file {file} holds infinite or undefined numbers ({_first(broken)}); train it again")


def _first(names: Sequence[object], count: int = 3) -> str:
    return ", ".join(str(name) for name in names[:count]) + (", …" if len(names) > count else "")
