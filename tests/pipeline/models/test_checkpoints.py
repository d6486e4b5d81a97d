"""Weights from files that people really have: wrapped, prefixed, half precision, wrong, broken."""

import argparse
import collections

import numpy as np
import pytest
import safetensors.torch
import torch

from pipeline.errors import ModelError
from pipeline.events import Note
from pipeline.models import checkpoints, load_model
from pipeline.models.checkpoints import load_weights


def resnet(weights=None, classes=10, spec="resnet20", **options):
    return load_model(spec, classes=classes, channels=3, weights=weights, **options)


@pytest.fixture
def state():
    torch.manual_seed(1)
    return resnet().state_dict()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "weights.pt"


def prefixed(state, prefix="module."):
    return collections.OrderedDict((prefix + key, value) for key, value in state.items())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        prefixed,
        lambda state: {"state_dict": prefixed(state), "best_prec1": 91.7},
        lambda state: {"model": state, "epoch": 3, "optimizer": {"lr": 0.1}},
        lambda state: {"model_state_dict": prefixed(prefixed(state, "_orig_mod."), "module.")},
        lambda state: {key: value for key, value in state.items() if "num_batches" not in key},
        lambda state: {"net": prefixed(state), "acc": 95.1, "epoch": 199},
        lambda state: {"state_dict": prefixed(state, "model."), "pytorch-lightning_version": "2.5"},
        lambda state: {"state_dict": {**prefixed(state, "net._orig_mod."), "loss.weight": torch.ones(10)}},
        lambda state: {**state, "total_ops": torch.zeros(1), "layer1.total_params": torch.zeros(1)},
        lambda state: {"model": {**prefixed(state), "module.total_ops": torch.zeros(1)}},
        lambda state: {"model_ema": {**prefixed(state), "n_averaged": torch.tensor(4)}},
        lambda state: {"checkpoint": {"ema": {"state_dict": prefixed(state, "module.model._orig_mod.")}}},
        lambda state: {key.replace("layer1.", "layer1._orig_mod."): value for key, value in state.items()},
        lambda state: (state, 3),
        lambda state: {"model": state, "state_dict": state},
        lambda state: {"net": state, "optimizer": {"state": {0: {"exp_avg": state["linear.weight"]}}}},
        lambda state: {"model": state, "args": argparse.Namespace(lr=0.1), "best": np.float64(93.1)},
    ],
)
def test_state_dict_is_found_however_it_was_saved(state, file, wrap):
    torch.save(wrap(state), file)
    loaded = resnet(file).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


@pytest.mark.parametrize("suffix", [".th", ".pth", ".PT", ".ckpt", ".pth.tar"])
def test_every_usual_suffix_is_read(state, tmp_path, suffix):
    torch.save(state, tmp_path / f"w{suffix}")
    assert torch.equal(resnet(tmp_path / f"w{suffix}").linear.weight, state["linear.weight"])


def test_safetensors_are_read(state, tmp_path):
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    assert torch.equal(resnet(tmp_path / "w.safetensors").linear.weight, state["linear.weight"])


def test_half_precision_is_widened(state, file):
    torch.save({key: value.half() if value.is_floating_point() else value for key, value in state.items()}, file)
    assert resnet(file).linear.weight.dtype == torch.float32


def test_auxiliary_heads_of_published_checkpoints_are_passed_over(file):
    state = load_model("googlenet", classes=3, channels=3, weights=None).state_dict()
    torch.save(state | {"aux1.fc1.weight": torch.zeros(2), "aux2.fc2.bias": torch.zeros(2)}, file)
    load_model("googlenet", classes=3, channels=3, weights=file)


def test_other_number_of_classes_names_the_misshapen_layer(state, file):
    torch.save(state, file)
    with pytest.raises(ModelError, match=r"2 of another shape \(linear\.weight is \(10, 64\), the network's \(7, 64\)"):
        resnet(file, classes=7)


def test_deeper_network_counts_and_names_what_is_missing(state, file):
    torch.save(state, file)
    with pytest.raises(ModelError, match=r"\d+ missing \(layer1\.3\.conv1\.weight, .*, …\)") as raised:
        resnet(file, spec="resnet56")
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 2


def test_shallower_network_counts_and_names_what_is_too_much(file):
    torch.save(resnet(spec="resnet32").state_dict(), file)
    with pytest.raises(ModelError, match=r"\d+ unexpected \(layer1\.3\.conv1\.weight"):
        resnet(file)


def test_misfit_leaves_nothing_half_loaded(state, file):
    torch.save(state | {"extra": torch.zeros(1)}, file)
    model = resnet()
    before = model.linear.weight.clone()
    with pytest.raises(ModelError, match=r"1 unexpected \(extra\)"):
        load_weights(model, file)
    assert torch.equal(model.linear.weight, before)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(state, file, value):
    state["bn1.weight"][3] = value
    torch.save(state, file)
    with pytest.raises(ModelError, match=r"infinite or undefined numbers \(bn1\.weight\)"):
        resnet(file)


def test_whole_pickled_model_says_how_to_save_a_state_dict(file):
    torch.save(resnet(), file)
    with pytest.raises(ModelError, match=r"holds pickled objects.*torch\.save\(model\.state_dict\(\), 'weights\.pt'\)"):
        resnet(file)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_model_says_how_to_save_a_state_dict(file):
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(file)
    with pytest.raises(ModelError, match="holds a TorchScript model; save its weights only"):
        resnet(file)


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 cut", b"\x80\x02}q\x00.", b"\x80\x05\x95"])
def test_file_that_is_no_checkpoint_is_named(file, content):
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"weights file .*weights\.pt (cannot be read|holds)") as raised:
        resnet(file)
    assert "\n" not in str(raised.value)


def test_checkpoint_cut_in_half_is_named(state, file):
    torch.save(state, file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ModelError, match="cannot be read"):
        resnet(file)


def test_broken_safetensors_are_named(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(ModelError, match=r"w\.safetensors cannot be read"):
        resnet(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"epoch": 3, "lr": 0.1}, "the keys epoch, lr"),
        ({}, "the keys "),
        ([1, 2], "a list"),
        (torch.zeros(3), "a Tensor"),
        ({"state_dict": None}, "a NoneType"),
    ],
)
def test_file_without_a_state_dict_says_what_it_holds(file, content, found):
    torch.save(content, file)
    with pytest.raises(ModelError, match=rf"holds no state dict \(found {found}"):
        resnet(file)


def test_missing_file_and_unknown_suffix_are_named(tmp_path):
    with pytest.raises(ModelError, match=r"no weights file .*gone\.pt"):
        resnet(tmp_path / "gone.pt")
    with pytest.raises(ModelError, match=r"ends in '\.onnx'; expected"):
        resnet(tmp_path / "net.onnx")


TWO = [
    ("model", "model_ema", lambda state: state),
    ("state_dict", "state_dict_ema", prefixed),
    ("student", "teacher", lambda state: {**prefixed(state), "n_averaged": torch.tensor(2)}),
]


@pytest.mark.parametrize(("first", "second", "wrap"), TWO)
def test_of_several_sets_that_fit_the_user_says_which(state, file, first, second, wrap):
    other = {key: value + 1 for key, value in state.items()}
    torch.save({first: wrap(state), second: wrap(other), "epoch": 3}, file)
    with pytest.raises(
        ModelError, match=rf"2 sets of weights .*: {first}, {second}; say which: --weights-key {second}"
    ):
        resnet(file)
    heard = []
    loaded = resnet(file, weights_key=second, listen=heard.append)
    assert torch.equal(loaded.linear.weight, other["linear.weight"])
    assert heard == [Note(f"weights: those under {second!r} in weights.pt")]
    with pytest.raises(ModelError, match=f"no weights of this network under 'swa'; there are: {first}, {second}"):
        resnet(file, weights_key="swa")


def test_two_networks_in_one_lightning_module_are_told_apart(state, file):
    other = {key: value + 1 for key, value in state.items()}
    torch.save({"state_dict": {**prefixed(state, "model."), **prefixed(other, "ema_model.module.")}}, file)
    with pytest.raises(ModelError, match=r"state_dict\.ema_model, state_dict\.model"):
        resnet(file)
    assert torch.equal(resnet(file, weights_key="ema_model").linear.weight, other["linear.weight"])
    assert torch.equal(resnet(file, weights_key="state_dict.model").linear.weight, state["linear.weight"])


def test_which_weights_were_taken_is_told_only_where_the_file_holds_more_than_them(state, file):
    heard = []
    torch.save(state, file)
    resnet(file, listen=heard.append)
    assert heard == []
    torch.save({"net": prefixed(state), "epoch": 3}, file)
    resnet(file, listen=heard.append)
    assert heard == [Note("weights: those under 'net' in weights.pt")]


def test_a_new_head_takes_wrapped_weights_too(state, file):
    torch.save({"model": prefixed(state), "model_ema": prefixed({k: v + 1 for k, v in state.items()})}, file)
    loaded = resnet(file, classes=4, head="new", weights_key="model")
    assert torch.equal(loaded.conv1.weight, state["conv1.weight"])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda value: (value * 10).to(torch.int8), r"torch\.int8"),
        (lambda value: value.to(torch.int64), r"torch\.int64"),
        (lambda value: value > 0, r"torch\.bool"),
        (lambda value: value.to(torch.complex64), r"torch\.complex64"),
        (lambda value: value.to("meta"), "tensors without values"),
        (lambda value: value.to_sparse(), r"torch\.sparse_coo tensors"),
    ],
)
@pytest.mark.parametrize("wrap", [dict, lambda state: {"model": prefixed(state)}])
def test_weights_that_are_no_floats_are_refused(state, file, change, found, wrap):
    floats = [key for key, value in state.items() if value.is_floating_point()]
    torch.save(wrap({key: change(value) if key in floats else value for key, value in state.items()}), file)
    with pytest.raises(ModelError, match=f"holds {found} where the network has floats"):
        resnet(file)


def test_indices_that_a_network_holds_as_integers_are_taken(tmp_path):
    state = load_model("swin_t", classes=3, channels=3, weights=None).state_dict()
    torch.save({"model": state}, tmp_path / "w.pth")
    load_model("swin_t", classes=3, channels=3, weights=tmp_path / "w.pth")


def test_numbers_too_large_for_the_network_are_refused(state, file):
    torch.save(state | {"bn1.weight": state["bn1.weight"].double() * 1e300}, file)
    with pytest.raises(ModelError, match=r"infinite or undefined numbers \(bn1\.weight\)"):
        resnet(file)


def test_a_view_that_claims_to_be_huge_is_refused_before_anything_is_computed(state, file):
    torch.save(state | {"linear.weight": torch.ones(1).expand(2**40)}, file)
    with pytest.raises(ModelError, match=r"linear\.weight is \(1099511627776,\)"):
        resnet(file)


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_a_dictionary_that_holds_itself_is_refused(file, depth):
    content = inner = {"epoch": 1}
    for _ in range(depth):
        inner["model"] = inner = {}
    inner["model"] = content
    torch.save(content, file)
    with pytest.raises(ModelError, match=r"is no checkpoint: what stands under 'model.*' holds itself"):
        resnet(file)


def test_dictionaries_that_multiply_by_sharing_are_refused_soon(file):
    content = {}
    for _ in range(28):
        content = {"a": content, "b": content}
    torch.save(content, file)
    with pytest.raises(ModelError, match="it holds more than 200,000"):
        resnet(file)


def test_a_file_larger_than_any_checkpoint_is_refused_also_where_it_is_packed(state, file, monkeypatch):
    torch.save(state, file)
    monkeypatch.setattr(checkpoints, "MAX_BYTES", 1000)
    with pytest.raises(ModelError, match="GiB; at most"):
        resnet(file)
