"""The built-in architectures against the same networks written by hand."""

import pytest
import torch
import torch.nn.functional as F

from robustcheck.errors import InvalidValueError, UnknownNameError
from robustcheck.networks.architectures import ARCHITECTURES, build
from robustcheck.networks.architectures.convnet import convnet
from robustcheck.networks.architectures.linear import mlp
from robustcheck.networks.surgery import find_sites
from robustcheck.sensing.random import torch_seed

SMALL = {"in_channels": 1, "image_size": 8, "classes": 10, "channels": (3, 4, 5), "pool_after": (2, 3), "linear": (6,)}


@pytest.mark.parametrize(("spec", "act"), [("relu", F.relu), ("gelu", F.gelu), ("swish", F.silu)])
def test_convnet_is_what_it_says(spec, act):
    net = convnet(**SMALL, activation=spec).eval()
    x = torch.linspace(-1, 1, 2 * 64).reshape(2, 1, 8, 8)
    w = dict(net.named_parameters())

    def conv(x, i):
        return act(F.conv2d(x, w[f"conv{i}.weight"], w[f"conv{i}.bias"], padding=1))

    y = F.max_pool2d(conv(conv(x, 1), 2), 2)
    y = F.max_pool2d(conv(y, 3), 2).flatten(1)
    y = act(F.linear(y, w["linear1.weight"], w["linear1.bias"]))
    torch.testing.assert_close(net(x), F.linear(y, w["output.weight"], w["output.bias"]))
    assert [site.path for site in find_sites(net)] == ["act1", "act2", "act3", "linear1_act"]
    assert {site.kind for site in find_sites(net)} == {spec}


def test_convolutions_without_padding_and_dropout_between_them():
    net = convnet(**SMALL, unpadded=(1,), pool_dropout=0.25).eval()
    x = torch.linspace(-1, 1, 2 * 64).reshape(2, 1, 8, 8)
    w = dict(net.named_parameters())

    def conv(x, i, padding):
        return F.relu(F.conv2d(x, w[f"conv{i}.weight"], w[f"conv{i}.bias"], padding=padding))

    y = F.max_pool2d(conv(conv(x, 1, 0), 2, 1), 2)
    y = F.max_pool2d(conv(y, 3, 1), 2).flatten(1)
    y = F.relu(F.linear(y, w["linear1.weight"], w["linear1.bias"]))
    torch.testing.assert_close(net(x), F.linear(y, w["output.weight"], w["output.bias"]))
    names = [name for name, _ in net.named_children()]
    assert names[3:8] == ["act2", "pool2", "pool2_dropout", "conv3", "act3"]
    assert names.count("pool3_dropout") == 0
    assert net.pool2_dropout.p == 0.25


def test_dropout_acts_in_training_only():
    with torch_seed(0):
        net = convnet(**SMALL, dropout=0.5)
        x = torch.rand(64, 1, 8, 8)
        net.eval()
        assert torch.equal(net(x), net(x))
        net.train()
        assert not torch.equal(net(x), net(x))


def test_mlp_and_registry():
    paper = {"paper_convnet", "resnet18", "vgg_a", "vit"}
    assert set(ARCHITECTURES) == {"convnet", "mlp", "pointnet", "rangenet"} | paper
    net = mlp(in_channels=1, image_size=8, classes=10, hidden=(128, 128))
    assert sum(p.numel() for p in net.parameters()) == 64 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10
    assert build("convnet", {key: list(v) if isinstance(v, tuple) else v for key, v in SMALL.items()})(
        torch.zeros(1, 1, 8, 8)
    ).shape == (1, 10)
    with pytest.raises(UnknownNameError, match="did you mean 'convnet'"):
        build("convent", SMALL)
    with pytest.raises(InvalidValueError, match=r"expected some of in_channels, .*, got 'widths'"):
        build("convnet", {**SMALL, "widths": 3})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in_channels": 0}, "in_channels: expected 1 to 65536, got 0"),
        ({"channels": (3, 0, 5)}, r"channels\[1\]"),
        ({"pool_after": (4,)}, "pool_after: expected numbers from 1 to 3"),
        ({"unpadded": (0,)}, "unpadded: expected numbers from 1 to 3"),
        ({"image_size": 3}, "a pixel left after 3 convolutions and their poolings, got 3"),
        ({"image_size": 5, "unpadded": (1, 3)}, "a pixel left"),
        ({"dropout": 1.0}, "0 <= dropout < 1"),
        ({"pool_dropout": -0.1}, "0 <= pool_dropout < 1"),
        ({"channels": ("a",)}, "options of convnet"),
        ({"linear": (10**9,)}, r"linear\[0\]"),
        ({"activation": "rleu"}, "did you mean 'relu'"),
    ],
)
def test_bad_options(change, message):
    with pytest.raises((InvalidValueError, UnknownNameError), match=message):
        build("convnet", {**SMALL, **change})
