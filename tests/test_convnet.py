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


def test_convnet_has_the_papers_parameter_count():
    # arXiv 2402.02593, its ConvNet for CIFAR-10: 1,172,410 parameters.
    net = convnet(
        in_channels=3,
        image_size=32,
        classes=10,
        channels=(48, 48, 96, 96, 192, 192),
        pool_after=(2, 4, 6),
        linear=(512, 256),
    )
    convolutions = sum(p.numel() for name, p in net.named_parameters() if name.startswith("conv"))
    by_hand = sum(9 * a * b + b for a, b in [(3, 48), (48, 48), (48, 96), (96, 96), (96, 192), (192, 192)])
    assert convolutions == by_hand
    assert net.linear1.in_features == 192 * 4 * 4


def test_dropout_acts_in_training_only():
    with torch_seed(0):
        net = convnet(**SMALL, dropout=0.5)
        x = torch.rand(64, 1, 8, 8)
        net.eval()
        assert torch.equal(net(x), net(x))
        net.train()
        assert not torch.equal(net(x), net(x))


def test_mlp_and_registry():
    assert set(ARCHITECTURES) == {"convnet", "mlp", "pointnet", "rangenet"}
    net = mlp(in_channels=1, image_size=8, classes=10, hidden=(128, 128))
    assert sum(p.numel() for p in net.parameters()) == 64 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10
    assert build("convnet", {key: list(v) if isinstance(v, tuple) else v for key, v in SMALL.items()})(
        torch.zeros(1, 1, 8, 8)
    ).shape == (1, 10)
    with pytest.raises(UnknownNameError, match="did you mean 'convnet'"):
        build("convent", SMALL)
    with pytest.raises(InvalidValueError, match="unexpected keyword argument 'widths'"):
        build("convnet", {**SMALL, "widths": 3})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in_channels": 0}, "in_channels: expected 1 to 65536, got 0"),
        ({"channels": (3, 0, 5)}, r"channels\[1\]"),
        ({"pool_after": (4,)}, "pool_after: expected numbers from 1 to 3"),
        ({"image_size": 3}, "poolings that leave a pixel of 3"),
        ({"dropout": 1.0}, "0 <= dropout < 1"),
        ({"channels": ("a",)}, "options of convnet"),
        ({"linear": (10**9,)}, r"linear\[0\]"),
        ({"activation": "rleu"}, "did you mean 'relu'"),
    ],
)
def test_bad_options(change, message):
    with pytest.raises((InvalidValueError, UnknownNameError), match=message):
        build("convnet", {**SMALL, **change})
