"""A network's last layer, found in every family and replaced; weights of other classes under it."""

import pytest
import torch
from torch import nn

from pipeline.errors import ModelError
from pipeline.models import find_head, load_model, torchvision_models
from pipeline.models.heads import replace_head

FAMILIES = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "mnasnet0_5",
    "mobilenet_v2", "mobilenet_v3_small", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_0", "swin_t", "vgg11",
    "vit_b_16",
)  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_the_layer_that_gives_the_scores_is_found_in_every_family_of_torchvision(name):
    with torch.device("meta"):
        model = torchvision_models.build(name, classes=17, channels=3).eval()
        head = replace_head(model, 5)
    layer = model.get_submodule(head)
    assert (getattr(layer, "out_features", None) or layer.out_channels) == 5
    assert find_head(model) == head


@pytest.mark.parametrize(("name", "head"), [("digits-cnn", "linear"), ("resnet20", "linear"), ("regnet_y_400mf", "fc")])
def test_replaced_head_answers_for_the_new_classes(name, head):
    model = load_model(name, classes=10, channels=3, weights=None)
    assert replace_head(model, 4) == head
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 4)


class HeadMadeFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.scores = nn.Linear(6, 3)
        self.body = nn.Conv2d(3, 6, 1)

    def forward(self, x):
        return self.scores(self.body(x).mean((2, 3)))


class Untraceable(HeadMadeFirst):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)


def test_the_order_of_use_counts_not_the_order_in_which_layers_were_made():
    assert find_head(HeadMadeFirst()) == "scores"


def test_where_tracing_fails_the_layer_made_last_is_taken():
    assert find_head(Untraceable()) == "body"


@pytest.mark.parametrize("model", [nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Linear(3, 3)])
def test_network_without_a_layer_to_replace_is_refused(model):
    with pytest.raises(ModelError, match="no Linear layer and no 1x1 convolution"):
        find_head(model)


def saved(tmp_path, model, **changes):
    file = tmp_path / "trained.pt"
    state = model.state_dict()
    for old, new in changes.items():
        state = {key.replace(old, new): value for key, value in state.items()}
    torch.save(state, file)
    return file, model.state_dict()


def resnet(classes, weights=None, head=None):
    return load_model("resnet20", classes=classes, channels=3, weights=weights, head=head)


def body(state):
    return {key: value for key, value in state.items() if not key.startswith("linear.")}


@pytest.mark.parametrize("renamed", [{}, {"linear.": "classifier."}])
@pytest.mark.parametrize("classes", [4, 10])
def test_everything_but_the_head_is_loaded_and_the_head_is_new_even_for_as_many_classes(tmp_path, renamed, classes):
    torch.manual_seed(1)
    file, state = saved(tmp_path, resnet(10), **renamed)
    loaded = resnet(classes, file, "new").state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in body(state).items())
    assert loaded["linear.weight"].shape == (classes, 64)
    if classes == 10:
        assert not torch.equal(loaded["linear.weight"], state["linear.weight"])


def test_a_file_without_any_head_is_a_backbone_too(tmp_path):
    file, state = saved(tmp_path, resnet(10))
    torch.save(body(state), file)
    assert torch.equal(resnet(3, file, "new").conv1.weight, state["conv1.weight"])


def test_a_factory_of_a_fixed_number_of_classes_gets_the_new_one(tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Linear(8, 1000))"
    )
    spec = f"{tmp_path / 'net.py'}:build"
    file, state = saved(tmp_path, load_model(spec, classes=5, channels=3, weights=None))
    model = load_model(spec, classes=5, channels=3, weights=file, head="new")
    assert model[2].out_features == 5
    assert torch.equal(model[1].weight, state["1.weight"])


def test_weights_of_another_depth_are_refused_also_with_a_new_head(tmp_path):
    file, _ = saved(tmp_path, load_model("resnet32", classes=10, channels=3, weights=None))
    with pytest.raises(ModelError, match=r"unexpected .*only its last layer may differ"):
        resnet(4, file, "new")


def test_weights_of_other_classes_are_told_how_to_get_a_new_head(tmp_path):
    file, _ = saved(tmp_path, resnet(10))
    with pytest.raises(ModelError, match=r"linear answers 10 classes\): --head new \(head: new in run\.yaml\)"):
        resnet(7, file)


def test_weights_that_misfit_elsewhere_are_not_told_so(tmp_path):
    file, _ = saved(tmp_path, load_model("resnet20", classes=10, channels=1, weights=None))
    with pytest.raises(ModelError) as raised:
        resnet(7, file)
    assert "--head" not in str(raised.value)
