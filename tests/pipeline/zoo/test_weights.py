"""Weights from files that people really have: wrapped, prefixed, half precision, wrong, broken."""

import collections

import pytest
import safetensors.torch
import torch

from pipeline.errors import ModelError
from pipeline.zoo import load_model


def resnet(weights=None, classes=10, spec="resnet20"):
    return load_model(spec, classes=classes, channels=3, weights=weights)


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
    ],
)
def test_state_dict_is_found_however_it_was_saved(state, file, wrap):
    torch.save(wrap(state), file)
    loaded = resnet(file).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


@pytest.mark.parametrize("suffix", [".th", ".pth", ".PT"])
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
    from pipeline.zoo.weights import load_weights

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
