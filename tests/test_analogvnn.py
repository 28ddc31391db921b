"""Against AnalogVNN, the library of arXiv 2402.02593: the same network, weights and placement, the same distributions.

Its converters, its noisy parameters and its own backward pass stand around torch's convolution, linear layer and GELU.
What is left out are its faults, which are shown at the end: its linear layer draws its weights again for the
backward pass, the derivative of its GELU is wrong, and that of its ReLU is 1 at 0, where an AOD puts many values.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from analogvnn.nn.activation.Gaussian import GeLU
    from analogvnn.nn.activation.ReLU import ReLU
    from analogvnn.nn.activation.SiLU import SiLU
    from analogvnn.nn.Linear import Linear
    from analogvnn.nn.module.FullSequential import FullSequential
    from analogvnn.nn.noise.GaussianNoise import GaussianNoise
    from analogvnn.nn.normalize.Clamp import Clamp, Clamp01
    from analogvnn.nn.precision.ReducePrecision import ReducePrecision
    from analogvnn.parameter.PseudoParameter import PseudoParameter

from robustcheck.sensing.analog import NoisyNetwork
from robustcheck.sensing.channel import channel
from robustcheck.sensing.converter import Form
from robustcheck.sensing.error_probability import error_probability, noise_sigma
from robustcheck.sensing.random import torch_seed
from robustcheck.sensing.sensor import Placement

STEPS, EP = 7, 0.5
DRAWS, IMAGES, CLASSES = 1000, 16, 4
ALPHA = 1e-3
"""Of all comparisons of one kind together; draws are fixed by their seeds, on each version of torch."""

PLACEMENTS: tuple[tuple[Placement, Form], ...] = (
    ("network", "aod"),
    ("network", "doa"),
    ("sensor", "aod"),
    ("sensor", "doa"),
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """The tensors are small: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network() -> nn.Sequential:
    """A convolution and a linear layer whose outputs leave [−1, 1] often, as do some of their weights."""
    with torch_seed(0):
        net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.GELU(), nn.Flatten(), nn.Linear(108, CLASSES))
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.uniform_(-0.5, 0.5)
            net[0].weight.mul_(2.4)
            net[3].weight.mul_(0.3)
            net[3].weight[:, ::27].mul_(8)
        return net


def batch() -> tuple[Tensor, Tensor]:
    with torch_seed(1):
        return torch.rand(IMAGES, 1, 8, 8), torch.randint(CLASSES, (IMAGES,))


@dataclass(frozen=True)
class Draws:
    """What a network did, draw by draw: logits (draws, images, classes) and gradients (draws, parameters)."""

    logits: np.ndarray
    gradients: np.ndarray


def collect(passes: Iterator[tuple[Tensor, list[Tensor]]]) -> Draws:
    logits, gradients = zip(
        *((y.detach(), torch.cat([g.flatten() for g in grads])) for y, grads in passes), strict=True
    )
    return Draws(torch.stack(logits).double().numpy(), torch.stack(gradients).double().numpy())


def ours(placement: Placement, form: Form, sigma: float = 1.0) -> Draws:
    """By `NoisyNetwork`, at `sigma` times the noise of the error probability."""
    ep = error_probability(sigma * noise_sigma(EP, STEPS), STEPS)
    at = channel("adc-3bit", ep=ep, placement=placement, form=form, range="unit", seed=3)
    net, (images, labels), ids = network(), batch(), torch.arange(IMAGES)
    noisy = NoisyNetwork(net, lambda x: x, placement).train()

    def passes() -> Iterator[tuple[Tensor, list[Tensor]]]:
        for draw in range(DRAWS):
            logits = noisy(images, ids, draw, at)
            yield logits, list(torch.autograd.grad(F.cross_entropy(logits, labels), list(net.parameters())))

    return collect(passes())


def to_analog(clamp: type[nn.Module] = Clamp) -> list[nn.Module]:
    return [clamp(), ReducePrecision(precision=STEPS), GaussianNoise(leakage=EP, precision=STEPS)]


def to_digital(clamp: type[nn.Module] = Clamp) -> list[nn.Module]:
    return [GaussianNoise(leakage=EP, precision=STEPS), clamp(), ReducePrecision(precision=STEPS)]


def analogvnn(placement: Placement, form: Form) -> Any:
    """The network as AnalogVNN's tutorial puts one together; its `PseudoParameter` is the noisy weight."""
    layers: list[nn.Module] = []
    if placement == "sensor":
        layers += to_digital(Clamp01) if form == "aod" else to_analog(Clamp01)
    for layer in network():
        inside = placement == "network" and isinstance(layer, nn.Conv2d | nn.Linear)
        layers += [*(to_analog() if inside else []), layer, *(to_digital() if inside and form == "aod" else [])]
    model, weights = FullSequential(), FullSequential()
    model.add_sequence(*layers)
    weights.eval()
    weights.add_sequence(*to_analog())
    if placement == "network":
        PseudoParameter.parametrize_module(model, transformation=weights)
        weights.compile()
    model.loss_function = nn.CrossEntropyLoss()
    model.compile()
    return model.train()


@cache
def theirs(placement: Placement, form: Form) -> Draws:
    images, labels = batch()

    def passes() -> Iterator[tuple[Tensor, list[Tensor]]]:
        model = analogvnn(placement, form)
        stored = [p for name, p in model.named_parameters() if p.requires_grad and not name.endswith("_transformed")]
        for _ in range(DRAWS):
            model.zero_grad()
            logits = model(images)
            model.loss(logits, labels)
            model.backward()
            yield logits, [parameter.grad for parameter in stored]

    with warnings.catch_warnings(), torch_seed(2):
        warnings.simplefilter("ignore")  # its own, about NumPy and copies of tensors
        return collect(passes())


def ks(one: Draws, other: Draws) -> float:
    """The least p-value of the two-sample Kolmogorov–Smirnov tests of all logits, corrected for their number."""
    columns = zip(*(each.logits.reshape(DRAWS, -1).T for each in (one, other)), strict=True)
    values = [float(stats.ks_2samp(a, b, method="asymp").pvalue) for a, b in columns]
    return min(1.0, min(values) * len(values))


def same_means(one: np.ndarray, other: np.ndarray) -> float:
    """The p-value of the largest difference of means over draws, (draws, …), corrected for their number."""
    difference = one.mean(0) - other.mean(0)
    error = np.sqrt((one.var(0, ddof=1) + other.var(0, ddof=1)) / DRAWS)
    # What neither varies nor differs, as the gradient behind a clamp that always cuts, is alike.
    z = np.abs(difference) / np.where((error == 0) & (difference == 0), 1, error)
    return float(min(1.0, 2 * stats.norm.sf(z.max()) * z.size))


def differences(one: Draws, other: Draws) -> dict[str, float]:
    """p-values of the hypotheses that both draw alike.

    `spread` and `shared` see what no single logit shows: how much noise there is in all, as the mean square of its
    effect over images and logits, and how much of it the images of a draw share, which is the weights'.
    """
    centre = (one.logits.mean(0) + other.logits.mean(0)) / 2
    noise = [each.logits - centre for each in (one, other)]
    return {
        "logits": ks(one, other),
        "spread": same_means(*((each**2).mean((1, 2)) for each in noise)),
        "shared": same_means(*((each.mean(1) ** 2).mean(1) for each in noise)),
        "gradient": same_means(one.gradients, other.gradients),
    }


@pytest.mark.parametrize(("placement", "form"), PLACEMENTS)
def test_logits_and_gradients_have_the_same_distribution(placement: Placement, form: Form) -> None:
    found = differences(ours(placement, form), theirs(placement, form))
    assert min(found.values()) > ALPHA, found


@pytest.mark.parametrize(("placement", "form", "sigma"), [("network", "aod", 1.06), ("sensor", "doa", 0.97)])
def test_a_little_more_or_less_noise_is_seen(placement: Placement, form: Form, sigma: float) -> None:
    assert differences(ours(placement, form, sigma), theirs(placement, form))["spread"] < ALPHA


@pytest.mark.parametrize(
    ("layer", "right", "x", "wrong"),
    [
        (GeLU, F.gelu, 1.0, stats.norm.cdf(1) + math.pi * stats.norm.pdf(1)),  # Φ(x) + xφ(x), the latter times π
        (SiLU, F.silu, -89.0, math.nan),
        (ReLU, F.relu, 0.0, 1.0),
    ],
)
def test_known_faults_of_derivatives(
    layer: type[nn.Module], right: Callable[[Tensor], Tensor], x: float, wrong: float
) -> None:
    model = FullSequential()
    model.add_sequence(layer())
    model.loss_function = lambda y, _: y.sum()
    model.compile().train()
    point = torch.tensor([x], requires_grad=True)
    model.loss(model(point), None)
    assert model.backward().item() == pytest.approx(wrong, abs=1e-6, nan_ok=True)
    (slope,) = torch.autograd.grad(right(point).sum(), point)
    assert abs(slope.item() - wrong) > 0.1 or math.isnan(wrong)


@pytest.mark.filterwarnings("ignore")
def test_known_fault_of_its_linear_layer() -> None:
    model, weights = FullSequential(), FullSequential()
    with torch_seed(4):
        model.add_sequence(Linear(3, 3, bias=False))
        weights.eval()
        weights.add_sequence(*to_analog())
        PseudoParameter.parametrize_module(model, transformation=weights)
        weights.compile()
        model.loss_function = lambda y, _: y.diagonal().sum()
        model.compile().train()
        # With unit vectors in and unit gradients back, both are the weights.
        forward = model(torch.eye(3).requires_grad_())
        model.loss(forward, None)
        backward = model.backward()
    assert (forward.T - backward).abs().min() > 0
