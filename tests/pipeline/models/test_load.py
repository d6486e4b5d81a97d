"""Networks by name, by torchvision's name and by import path."""

import sys
import textwrap

import pytest
import torch
from torch.fx import symbolic_trace

from pipeline.data import load_data
from pipeline.errors import ModelError
from pipeline.models import default_model, load_model

FACTORIES = """
    from dataclasses import dataclass
    from torch import nn

    @dataclass
    class Options:
        width: int = 4

    class Net(nn.Sequential):
        def __init__(self, num_classes=7):
            super().__init__(nn.Conv2d(3, Options().width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                             nn.Linear(Options().width, num_classes))

    def fixed(): return Net(5)
    def anything(**options): return Net(**options)
    def half(): return Net().half()
    def of_other_words(n_classes, in_chans, channels=(8, 8)): return nn.Sequential(nn.Conv2d(in_chans, n_classes, 1))
    ready = Net(6)
    def deep(): return _deeper()
    def _deeper(): return nn.Linear("wide", 2)
    def leaves(): raise SystemExit(3)
    def broken(): raise RuntimeError("no\\nGPU here")
    def demanding(width, depth): return Net()
    def text(): return "resnet"
    def with_sibling():
        from blocks import Head
        return Head()
    constant = 3
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "net.py").write_text(textwrap.dedent(FACTORIES))
    (tmp_path / "blocks.py").write_text(
        "from torch import nn\nclass Head(nn.Linear):\n  def __init__(self): super().__init__(2, 2)"
    )
    yield tmp_path / "net.py"
    sys.modules.pop("blocks", None)


def load(spec, classes=10, channels=3, weights=None):
    return load_model(str(spec), classes=classes, channels=channels, weights=weights)


@pytest.mark.parametrize(
    ("spec", "channels", "side"),
    [
        ("digits-cnn", 1, 8),
        ("resnet20", 3, 32),
        ("resnet56", 1, 28),
        ("resnet18", 3, 64),
        ("mobilenet_v2", 3, 64),
        ("mobilenet_v2", 1, 64),
        ("squeezenet1_1", 2, 64),
        ("cifar_vgg16_bn", 1, 28),
        ("cifar_densenet40", 3, 32),
        ("cifar_mobilenet_v2", 3, 32),
        ("efficientnet_lite0", 3, 64),
        ("efficientnet_lite4", 1, 32),
    ],
)
def test_networks_are_in_evaluation_mode_traceable_and_answer_for_each_class(spec, channels, side):
    model = load(spec, classes=4, channels=channels)
    images = torch.rand(2, channels, side, side)
    assert not any(module.training for module in model.modules())
    with torch.no_grad():
        answer = model(images)
        assert answer.shape == (2, 4)
        assert torch.equal(symbolic_trace(model)(images), answer)


@pytest.mark.parametrize(
    ("spec", "parameters"),
    [("resnet20", 269_722), ("resnet32", 464_154), ("resnet56", 853_018), ("resnet110", 1_727_962)],
)
def test_cifar_resnets_have_the_published_sizes(spec, parameters):
    """Table 6 of arXiv:1512.03385 says 0.27 M, 0.46 M, 0.85 M and 1.7 M."""
    assert sum(p.numel() for p in load(spec).parameters()) == parameters


@pytest.mark.parametrize(
    ("spec", "parameters"),
    [("cifar_vgg16_bn", 14_728_266), ("cifar_densenet40", 176_170), ("cifar_mobilenet_v2", 2_236_682)],
)
def test_networks_at_cifars_size_have_the_usual_sizes(spec, parameters):
    """VGG-16 with one linear layer 14.7 M, DenseNet-BC-40 0.18 M, MobileNetV2 2.2 M."""
    assert sum(p.numel() for p in load(spec).parameters()) == parameters


@pytest.mark.parametrize(
    ("spec", "parameters"), [("efficientnet_lite0", 4_652_008), ("efficientnet_lite4", 13_006_568)]
)
def test_efficientnet_lite_has_the_published_sizes(spec, parameters):
    """4.7 M and 13.0 M with ImageNet's thousand classes."""
    assert sum(p.numel() for p in load(spec, classes=1000).parameters()) == parameters


def test_efficientnet_lite_pads_as_tensorflow_does_where_it_halves_even_sides():
    model = load("efficientnet_lite0")
    halving = [block for block in model._blocks if block._depthwise_conv.stride == (2, 2)]
    assert [block._pad.padding for block in halving] == [(0, 1, 0, 1), (1, 2, 1, 2), (0, 1, 0, 1), (1, 2, 1, 2)]
    with torch.no_grad():
        assert model._blocks(model._conv_stem(model._pad(torch.rand(1, 3, 96, 96)))).shape == (1, 320, 3, 3)


def test_networks_at_cifars_size_do_not_scale_down_at_once():
    for spec, side in (("cifar_vgg16_bn", 2), ("cifar_densenet40", 8), ("cifar_mobilenet_v2", 4)):
        features = load(spec).features
        with torch.no_grad():
            assert features(torch.rand(1, 3, 32, 32)).shape[-1] == side


def test_cifar_resnet_shortcut_subsamples_and_pads_with_zero_channels():
    shortcut = load("resnet20").layer2[0].shortcut
    features = torch.rand(1, 16, 4, 4)
    padded = shortcut(features)
    assert torch.equal(padded[:, 8:24], features[:, :, ::2, ::2])
    assert padded.shape == (1, 32, 2, 2)
    assert padded.sum() == padded[:, 8:24].sum()


def test_digits_cnn_has_widths_that_boards_like_and_blocks_that_may_go():
    model = load("digits-cnn", channels=1)
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(c.out_channels % 16 == 0 for c in convolutions)
    assert sum(isinstance(block.shortcut, torch.nn.Identity) for block in model.blocks) == 4


@pytest.mark.slow
def test_digits_cnn_learns_the_digits():
    torch.manual_seed(0)
    data, model = load_data("digits"), load("digits-cnn", channels=1).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, nesterov=True)
    for images, labels in data.train.batches(16, generator=torch.Generator().manual_seed(0)):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        right = sum((model(images).argmax(1) == labels).sum().item() for images, labels in data.val.batches(200))
    assert right / len(data.val) > 0.75


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_are_left_out(name):
    model = load(name, classes=3)
    assert not any("aux" in key.lower() for key in model.state_dict())


def test_file_factory_is_told_the_number_of_classes_where_it_takes_it(file):
    assert load(f"{file}:Net")[-1].out_features == 10
    assert load(f"{file}:anything")[-1].out_features == 10
    assert load(f"{file}:fixed")[-1].out_features == 5


def test_factory_is_told_classes_and_channels_by_whatever_usual_name_it_gives_them(file):
    convolution = load(f"{file}:of_other_words", channels=2)[0]
    assert (convolution.in_channels, convolution.out_channels) == (2, 10)


def test_ready_network_is_copied_so_that_the_users_own_stays_as_it_is(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    model = load("net:ready")
    model[-1].weight.data.zero_()
    assert load("net:ready")[-1].weight.abs().sum() > 0
    del sys.modules["net"]


def test_file_in_the_working_folder_needs_no_folder(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    assert load("net.py:with_sibling").in_features == 2


def test_half_precision_becomes_float32(file):
    assert {p.dtype for p in load(f"{file}:half").parameters()} == {torch.float32}


def test_file_may_import_its_neighbours_and_the_path_is_as_before(file):
    before = list(sys.path)
    assert load(f"{file}:with_sibling").in_features == 2
    assert sys.path == before


def test_package_factory_is_found_in_the_working_folder(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    assert load("net:Net")[-1].out_features == 10
    del sys.modules["net"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken", "raised RuntimeError: no GPU here"),
        ("demanding", "requires arguments that are not passed: width, depth; give them defaults"),
        ("deep", r"raised TypeError: .*\(net\.py, line 2\d\); fix it"),
        ("leaves", r"raised SystemExit: 3 \(net\.py"),
        ("text", "returned a str; it has to return a torch.nn.Module"),
        ("constant", "net.py:constant is a int; name a function or class"),
        ("fixd", "nothing is named 'fixd' there .did you mean 'fixed'"),
    ],
)
def test_factory_that_fails_is_named_with_the_reason_on_one_line(file, name, said):
    with pytest.raises(ModelError, match=said) as raised:
        load(f"{file}:{name}")
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    "content",
    ["def build(:", "import not_a_module_at_all", "raise OSError('disk')", "1/0", "raise SystemExit('--help')"],
)
def test_file_that_cannot_be_imported_is_named_with_its_line(tmp_path, content):
    (tmp_path / "bad.py").write_text(f"\n{content}")
    with pytest.raises(ModelError, match=r"bad\.py cannot be imported: .*\(bad\.py, line 2\)"):
        load(f"{tmp_path / 'bad.py'}:build")


def test_missing_file_and_missing_module_are_named(tmp_path):
    with pytest.raises(ModelError, match=r"no such file: .*gone\.py"):
        load(f"{tmp_path / 'gone.py'}:build")
    with pytest.raises(ModelError, match="not_a_module cannot be imported: ModuleNotFoundError"):
        load("not_a_module:build")


@pytest.mark.parametrize("spec", [":build", ":", "..:build"])
def test_import_path_without_a_module_is_an_error_not_a_crash(spec):
    with pytest.raises(ModelError, match="cannot be imported"):
        load(spec)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("resnet21", "unknown model 'resnet21' .did you mean 'resnet"),
        ("mobilnet_v2", "did you mean 'mobilenet_v2'"),
        ("", "unknown model ''"),
        ("best.pth", "write --model NETWORK --weights best.pth"),
        ("net.py", "write net.py:FACTORY"),
    ],
)
def test_unknown_model_says_what_to_write(spec, said):
    with pytest.raises(ModelError, match=said):
        load(spec)


def test_default_network_suits_the_size_of_the_images():
    from dataclasses import replace

    digits = load_data("digits")
    specs = [
        default_model(replace(digits, shape=shape)) for shape in ((1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 224, 224))
    ]
    assert specs == ["digits-cnn", "resnet20", "resnet20", "mobilenet_v2"]
