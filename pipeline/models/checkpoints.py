"""Checkpoints: read a state dict and load it, or say exactly what does not fit.

Files are never unpickled into objects: ``torch.load(weights_only=True)`` and safetensors read numbers only. Where in a
file the network's weights stand, ``checkpoints`` finds out.
"""

from __future__ import annotations

import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from pipeline.errors import ModelError, nearest
from pipeline.events import Listener, Note, unheard
from pipeline.models.checkpoint_formats import Found, UnreadableError, distinct, entries, is_called, sets_of_weights
from pipeline.models.heads import find_head
from pipeline.regular_file import WEIGHTS_BYTES, is_there, opened

SUFFIXES = (".ckpt", ".pt", ".pth", ".pth.tar", ".safetensors", ".th")
MAX_BYTES = 8 * 2**30
"""Of a weights file, also unpacked: torchvision's largest network has 2.5 GB, an optimizer beside it twice that."""
SAME = "give weights of the same network, trained on as many classes"
ONLY_HEAD = "give weights of the same network; only its last layer may differ"
NEW_HEAD = "--head new (head: new in run.yaml)"
SAVE = "torch.save(model.state_dict(), 'weights.pt')"


def is_weights_file(name: str | Path) -> bool:
    """Return whether a file's name ends as those of weights do."""
    return str(name).lower().endswith(SUFFIXES)


def load_weights(model: nn.Module, file: Path, *, key: str | None = None, listen: Listener = unheard) -> None:
    """Fill ``model`` in place from a checkpoint.

    Args:
        model: of the file's network.
        file: see ``SUFFIXES``.
        key: under which keys of the file the weights stand, ``model_ema``; None: the only set that fits.
        listen: hears which set was taken, where the file holds more than a state dict.

    Raises:
        ModelError: the file cannot be read, holds no state dict, one that does not fit, or several that do.
    """
    own = model.state_dict()
    found = _chosen(_Checkpoint(file=file, key=key, listen=listen), own, lambda one: one)
    _refuse_misfit(found, file, lambda: _advice(found.state, model))
    _refuse_unusable(found, own, file)
    model.load_state_dict(dict(found.state))


def load_backbone(
    model: nn.Module, file: Path, head: str, *, key: str | None = None, listen: Listener = unheard
) -> None:
    """Fill ``model`` in place, all but its last layer, which stays as it is.

    The file's own last layer may have any shape, another name, or be absent.

    Args:
        model: of the file's network, with a last layer of its own.
        file: see ``SUFFIXES``.
        head: the name of the last layer.
        key: as of ``load_weights``.
        listen: the same.

    Raises:
        ModelError: the file cannot be read, holds no state dict, one whose other layers do not fit, or several.
    """
    own = _without_layer(model.state_dict(), head)
    found = _chosen(_Checkpoint(file=file, key=key, listen=listen), own, lambda one: _without_head(one, head))
    _refuse_misfit(found, file, lambda: ONLY_HEAD)
    _refuse_unusable(found, own, file)
    model.load_state_dict(dict(found.state), strict=False)


# ---------------------------------------------------------------- which weights


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checkpoint:
    """A weights file, and which of the sets of weights in it is meant."""

    file: Path
    key: str | None = None
    """Under which keys of the file: ``model_ema``; None: the only set that fits."""
    listen: Listener = unheard
    """Hears which one was taken, where the file holds more than a state dict."""


def _chosen(checkpoint: _Checkpoint, own: Mapping[str, Tensor], trimmed: Callable[[Found], Found]) -> Found:
    """Return the set of weights that is meant; where none fits, what comes nearest."""
    file, content = checkpoint.file, _read(checkpoint.file)
    try:
        tensors = entries(content, own)
    except UnreadableError as error:
        raise ModelError(f"weights file {file} is no checkpoint: {error}; save the weights alone: {SAVE}") from error
    if not tensors:
        raise ModelError(f"weights file {file} holds no state dict (found {_kind(content)}); save one: {SAVE}")
    sets = [trimmed(one) for one in sets_of_weights(tensors, own)]
    if checkpoint.key is not None:
        sets = _called(checkpoint, sets)
    fitting = [one for one in sets if one.fits and not one.unusable]
    if len(fitting) > 1:
        fitting = distinct(fitting)
    if len(fitting) > 1:
        names = [one.name or "(the file itself)" for one in fitting]
        raise ModelError(
            f"weights file {file} holds {len(names)} sets of weights that fit the network: {', '.join(names)}; say "
            f"which: --weights-key {fitting[-1].name} (weights_key: in run.yaml)"
        )
    if not sets:  # nothing in the file is called as anything in the network
        return _stranger([entry.path for entry in tensors], own)
    found = fitting[0] if fitting else sets[0]
    if found.name and found.fits:
        others = [one.name for one in sets if one.name != found.name]
        beside = f"; the file also holds {_first(others)}" if others else ""
        checkpoint.listen(Note(f"weights: those under {found.name!r} in {file.name}{beside}"))
    return found


def _called(checkpoint: _Checkpoint, sets: Sequence[Found]) -> list[Found]:
    key = checkpoint.key or ""
    called = [one for one in sets if one.name == key] or [one for one in sets if is_called(one.name, key)]
    if not called:
        names = [one.name for one in sets if one.name]
        there = f"there are: {', '.join(names)}" if names else "they stand at its top: leave the key out"
        raise ModelError(
            f"weights file {checkpoint.file} holds no weights of this network under {key!r}{nearest(key, names)}; "
            f"{there}"
        )
    return called


def _stranger(paths: Sequence[str], own: Mapping[str, Tensor]) -> Found:
    return Found(name="", state={}, missing=list(own), misshapen=[], unexpected=paths, unusable=[])


def _without_head(found: Found, head: str) -> Found:
    """Return a set without its last layer, which may have another name, but then has to be the only stranger."""
    state = _without_layer(found.state, head)
    strangers = {key.rpartition(".")[0] for key in found.unexpected if key in state}
    if len(strangers) == 1:
        state = {key: value for key, value in state.items() if key not in found.unexpected}
    return replace(found, state=state, unexpected=[key for key in found.unexpected if key in state])


def _without_layer(state: Mapping[str, Tensor], layer: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith(f"{layer}.")}


# ---------------------------------------------------------------- reading the file


def _read(file: Path) -> Any:
    if not is_weights_file(file):
        raise ModelError(f"weights file {file} ends in {file.suffix!r}; expected {', '.join(SUFFIXES)}")
    if not is_there(file):
        raise ModelError(f"no weights file {file}; give an existing {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file")
    try:
        with opened(file, WEIGHTS_BYTES) as stream:
            _refuse_large(file, os.fstat(stream.fileno()).st_size)
            if file.suffix.lower() != ".safetensors":
                return _read_torch(file, stream)
    except OSError as error:
        raise ModelError(f"weights file {file} cannot be read ({error}); save it again: {SAVE}") from error
    return _read_safetensors(file)


def _refuse_large(file: Path, size: int) -> None:
    if size > MAX_BYTES:
        raise ModelError(
            f"weights file {file} holds {size / 2**30:.3g} GiB; at most {MAX_BYTES / 2**30:.3g} are read: save the "
            f"weights alone: {SAVE}"
        )


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(file)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"weights file {file} cannot be read ({error}); save it again") from error


def _read_torch(file: Path, stream: BinaryIO) -> Any:
    try:
        if zipfile.is_zipfile(stream):
            with zipfile.ZipFile(stream) as archive:
                _refuse_large(file, sum(part.file_size for part in archive.infolist()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # says of a TorchScript file what the error below says better
            return _numbers(stream)
    except pickle.UnpicklingError as error:
        if "Unsupported" not in str(error):
            raise _unreadable(file, error) from error
        raise ModelError(
            f"weights file {file} holds pickled objects, perhaps a whole model, which could run any code when opened; "
            f"save its numbers only: {SAVE}"
        ) from error
    except (
        OSError, EOFError, RuntimeError, ValueError, KeyError, IndexError, AttributeError, TypeError, AssertionError,
        NotImplementedError, zipfile.BadZipFile, RecursionError, struct.error, MemoryError, OverflowError,
    ) as error:  # fmt: skip
        if "TorchScript" in str(error):
            raise ModelError(f"weights file {file} holds a TorchScript model; save its weights only: {SAVE}") from error
        raise _unreadable(file, error) from error


class _Unread:
    """Stands where a checkpoint holds an object that is no number, such as a script's arguments; remembers nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _from_start(stream: BinaryIO) -> BinaryIO:
    stream.seek(0)
    return stream


def _numbers(stream: BinaryIO) -> Any:
    """Return a checkpoint's numbers; objects beside them (arguments, numpy's numbers) become empty stand-ins.

    Raises:
        pickle.UnpicklingError: it holds objects, and no tensors beside them.
    """
    try:
        return torch.load(_from_start(stream), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        try:
            names = torch.serialization.get_unsafe_globals_in_checkpoint(_from_start(stream))
            with torch.serialization.safe_globals([(_Unread, name) for name in names]):
                content = torch.load(_from_start(stream), map_location="cpu", weights_only=True)
            if entries(content, {}):
                return content
        except Exception as again:  # the first error says it better
            raise error from again
        raise


def _unreadable(file: Path, error: Exception) -> ModelError:
    reason = str(error).strip().partition("\n")[0][:120]
    return ModelError(
        f"weights file {file} cannot be read ({type(error).__name__}: {reason}); save it again with {SAVE}"
    )


def _kind(content: Any) -> str:
    while isinstance(content, Mapping) and (key := next((k for k in ("state_dict", "model") if k in content), None)):
        content = content[key]
    return f"the keys {_first(list(content))}" if isinstance(content, Mapping) else f"a {type(content).__name__}"


# ---------------------------------------------------------------- what does not fit


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


def _refuse_misfit(found: Found, file: Path, advice: Callable[[], str]) -> None:
    kinds = {"missing": found.missing, "unexpected": found.unexpected, "of another shape": found.misshapen}
    misfits = [f"{len(keys)} {kind} ({_first(keys)})" for kind, keys in kinds.items() if keys]
    if misfits:
        where = f", under {found.name!r}," if found.name else ""
        raise ModelError(f"weights file {file}{where} does not fit the network: {'; '.join(misfits)}; {advice()}")


def _refuse_unusable(found: Found, own: Mapping[str, Tensor], file: Path) -> None:
    if bad := found.unusable:
        kinds = ", ".join(sorted({_described(found.state[key]) for key in bad}))
        raise ModelError(
            f"weights file {file} holds {kinds} where the network has floats ({_first(bad)}), as of a quantised "
            "network; give the floats that it was made of"
        )
    if broken := _broken(found.state, own):
        raise ModelError(f"weights file {file} holds infinite or undefined numbers ({_first(broken)}); train it again")


def _described(value: Tensor) -> str:
    if value.is_meta:
        return "tensors without values"
    return str(value.dtype) if value.layout == torch.strided else f"{value.layout} tensors"


def _broken(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Return the tensors with a number that is none, also once they have the network's own type."""
    return [
        key
        for key, value in state.items()
        if value.is_floating_point() and not value.to(own[key].dtype if key in own else value.dtype).isfinite().all()
    ]


def _first(names: Iterable[object], count: int = 3) -> str:
    given = list(names)
    return ", ".join(str(name) for name in given[:count]) + (", …" if len(given) > count else "")
