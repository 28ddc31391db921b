"""The networks for range images against the same networks written by hand, and the models shipped of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from robustcheck import content
from robustcheck.data.datasets import load_data
from robustcheck.errors import InvalidValueError, UnknownNameError
from robustcheck.networks.architectures import build
from robustcheck.networks.architectures.pointnet import pointnet
from robustcheck.networks.architectures.rangenet import rangenet
from robustcheck.networks.loading import load_model
from robustcheck.networks.surgery import find_sites, swap_activation
from robustcheck.sensing.analog import uncovered_layers
from robustcheck.sensing.lidar_geometry import points_of
from robustcheck.sensing.random import torch_seed
from robustcheck.study.evaluation import evaluate

BEAMS = (2.0, 0.0, -4.0)
SMALL = {"elevation_deg": BEAMS, "azimuth_step_deg": 0.5, "columns": 6, "classes": 5, "shared": (7, 9), "linear": (8,)}
RANGE = {"rows": 8, "columns": 64, "classes": 5, "channels": (3, 4, 6), "linear": (7,)}


def range_images(count: int, rows: int, columns: int, share: float = 0.6) -> torch.Tensor:
    """Returns in a share of the cells, 2 to 60 m away."""
    rng = np.random.default_rng(0)
    found = rng.random((count, 1, rows, columns)) < share
    values = np.concatenate([rng.uniform(2 / 128, 60 / 128, found.shape), rng.random(found.shape)], axis=1) * found
    return torch.from_numpy(values.astype(np.float32))


@pytest.mark.parametrize(("spec", "act"), [("relu", F.relu), ("elu", F.elu)])
@pytest.mark.parametrize("stride", [1, 2])
def test_pointnet_sees_the_points_of_each_image_alone(spec: str, act, stride: int) -> None:
    with torch_seed(0):
        net = pointnet(**SMALL, unit_m=(20.0, 3.0, 2.0), column_stride=stride, activation=spec)
        for norm in (net.shared.norm1, net.shared.norm2):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(norm.weight)
    net.eval()
    images = range_images(4, 3, 6)
    w = dict(net.named_parameters()) | dict(net.named_buffers())
    logits = net(images)
    for image, got in zip(images, logits, strict=True):
        points = points_of(image[None], BEAMS, 0.5).reshape(3, 6, 4)[:, ::stride].reshape(-1, 4)
        points = points[points[:, :3].norm(dim=1) > 0] / torch.tensor([20.0, 3.0, 2.0, 1.0])
        for layer in (1, 2):
            points = points @ w[f"shared.conv{layer}.weight"][:, :, 0, 0].T
            norm = f"shared.norm{layer}."
            scale = w[norm + "weight"] / (w[norm + "running_var"] + 1e-5).sqrt()
            points = act((points - w[norm + "running_mean"]) * scale + w[norm + "bias"])
        hidden = act(F.linear(points.amax(0), w["head.linear1.weight"], w["head.linear1.bias"]))
        expected = F.linear(hidden, w["head.output.weight"], w["head.output.bias"])
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_pointnet_takes_points_in_any_order_and_images_without_any() -> None:
    with torch_seed(1):
        net = pointnet(**SMALL).eval()
    images = range_images(2, 3, 6)
    far = images.clone()
    far[:, 0] *= 1.5
    assert not torch.allclose(net(far), net(images))
    nothing = net(torch.zeros(2, 2, 3, 6))
    assert nothing.isfinite().all()
    w = dict(net.named_parameters())
    empty = F.linear(F.relu(w["head.linear1.bias"]), w["head.output.weight"], w["head.output.bias"])
    torch.testing.assert_close(nothing, empty.expand(2, 5))
    images.requires_grad_()
    net(images).sum().backward()
    assert images.grad.isfinite().all()
    assert (images.grad[:, :, (images.detach()[:, :1] == 0)[0, 0]][0] == 0).all()


def test_the_beam_table_is_no_weight() -> None:
    net = pointnet(**SMALL)
    assert not [name for name in net.state_dict() if "directions" in name]
    assert [site.path for site in find_sites(net)] == ["shared.act1", "shared.act2", "head.act1"]
    swapped = swap_activation(net, "gelu").network
    assert {site.kind for site in find_sites(swapped)} == {"gelu"}
    assert uncovered_layers(net) == []


@pytest.mark.parametrize(("spec", "act"), [("relu", F.relu), ("gelu", F.gelu)])
def test_rangenet_is_what_it_says(spec: str, act) -> None:
    with torch_seed(0):
        net = rangenet(**RANGE, activation=spec).eval()
    x = range_images(3, 8, 64)
    w = dict(net.named_parameters())
    y = x
    for layer, down in ((1, (1, 2)), (2, (1, 2)), (3, (2, 2))):
        y = act(F.conv2d(y, w[f"conv{layer}.weight"], w[f"conv{layer}.bias"], stride=down, padding=(1, 2)))
    assert y.shape[1:] == (6, 4, 8)
    y = act(F.linear(y.flatten(1), w["linear1.weight"], w["linear1.bias"]))
    torch.testing.assert_close(net(x), F.linear(y, w["output.weight"], w["output.bias"]))
    assert [site.path for site in find_sites(net)] == ["act1", "act2", "act3", "linear1_act"]


def test_rangenet_rounds_odd_sizes_up() -> None:
    net = rangenet(rows=5, columns=9, classes=3, channels=(2, 2), linear=())
    assert net(torch.zeros(1, 2, 5, 9)).shape == (1, 3)
    assert net.output.in_features == 2 * 2 * 3


def test_dropout_acts_in_training_only() -> None:
    with torch_seed(0):
        net, x = rangenet(**RANGE, dropout=0.5), range_images(8, 8, 64)
        assert not torch.equal(net(x), net(x))
        assert torch.equal(net.eval()(x), net(x))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("rangenet", {"rows": 0}, "rows: expected 1 to 65536, got 0"),
        ("rangenet", {"dropout": 1.0}, "0 <= dropout < 1"),
        ("rangenet", {"linear": (0,)}, r"linear\[0\]"),
        ("rangenet", {"activation": "rleu"}, "did you mean 'relu'"),
        ("pointnet", {"shared": ()}, "shared: expected at least one width"),
        ("pointnet", {"shared": (8, 0)}, r"shared\[1\]"),
        ("pointnet", {"elevation_deg": ()}, "an angle a beam"),
        ("pointnet", {"elevation_deg": (0.0, math.nan)}, "an angle a beam"),
        ("pointnet", {"azimuth_step_deg": 90.0}, "at most one turn"),
        ("pointnet", {"unit_m": (1.0, 0.0, 1.0)}, "three positive distances"),
        ("pointnet", {"column_stride": 0}, "column_stride"),
        ("pointnet", {"hidden": 3}, "expected some of elevation_deg, .*, got 'hidden'"),
    ],
)
def test_bad_options(name: str, change: dict, message: str) -> None:
    given = {"rangenet": RANGE, "pointnet": SMALL}[name] | change
    with pytest.raises((InvalidValueError, UnknownNameError), match=message):
        build(name, given)


@pytest.mark.parametrize("name", ["lidar-rangenet", "lidar-pointnet"])
def test_the_shipped_models_have_the_accuracy_of_their_recipes(name: str) -> None:
    from robustcheck.networks.recipes import load_recipe

    recipe, model = load_recipe(name), load_model(name)
    data = load_data(recipe.data)
    assert recipe.classes == data.classes
    assert evaluate(model, data).accuracy == pytest.approx(recipe.accuracy, abs=0.002)
    assert (Path(content.shelf("models")) / recipe.weights).stat().st_size < 2**20
    assert sum(parameter.numel() for parameter in model.network.parameters()) < 100_000
