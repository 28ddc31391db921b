"""The paper's convolutional network, 6 + 3 layers, as each library makes every site and weight of it noisy.

The layers are those of arXiv 2402.02593 and its public code: convolutions of kernel 3, every other one unpadded, and
1,172,410 parameters. Each contestant is built from the same network and has its weights.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import nn

from robustcheck.sensing.error_probability import noise_sigma

STEPS = 15
EP = 0.5
SIGMA = noise_sigma(EP, STEPS)

_WIDTHS = (48, 96, 192)


def paper_network(activation: type[nn.Module] = nn.GELU) -> nn.Sequential:
    """(n, 3, 32, 32) images to (n, 10) logits; weights from torch's global generator."""
    layers: list[nn.Module] = []
    channels = 3
    for width in _WIDTHS:
        layers += [nn.Conv2d(channels, width, 3, padding=1), activation()]
        layers += [nn.Conv2d(width, width, 3), activation(), nn.MaxPool2d(2), nn.Dropout(0.25)]
        channels = width
    layers += [nn.Flatten(), nn.Linear(768, 512), activation(), nn.Dropout(0.5)]
    layers += [nn.Linear(512, 256), activation(), nn.Dropout(0.5), nn.Linear(256, 10)]
    return nn.Sequential(*layers)


def analogvnn_network(network: nn.Sequential, steps: int = STEPS, ep: float = EP) -> Any:
    """The network of AnalogVNN's own layers, put together as its tutorial and the paper's code do.

    Clamp, ReducePrecision and GaussianNoise stand before each layer and the reverse behind it; its PseudoParameter
    passes each use of a weight or bias through a network of the three. GELU and the linear layers are its own.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own
        return _analogvnn_network(network, steps, ep)


def _analogvnn_network(network: nn.Sequential, steps: int, ep: float) -> Any:
    from analogvnn.nn.activation.Gaussian import GeLU
    from analogvnn.nn.Linear import Linear
    from analogvnn.nn.module.FullSequential import FullSequential
    from analogvnn.nn.noise.GaussianNoise import GaussianNoise
    from analogvnn.nn.normalize.Clamp import Clamp
    from analogvnn.nn.precision.ReducePrecision import ReducePrecision
    from analogvnn.parameter.PseudoParameter import PseudoParameter

    def to_analog() -> list[nn.Module]:
        return [Clamp(), ReducePrecision(precision=steps), GaussianNoise(leakage=ep, precision=steps)]

    def to_digital() -> list[nn.Module]:
        return [GaussianNoise(leakage=ep, precision=steps), Clamp(), ReducePrecision(precision=steps)]

    layers: list[nn.Module] = []
    for layer in network:
        if isinstance(layer, nn.GELU):
            layers.append(GeLU())
        elif isinstance(layer, nn.Conv2d):
            layers += [*to_analog(), copy.deepcopy(layer), *to_digital()]
        elif isinstance(layer, nn.Linear):
            own = Linear(layer.in_features, layer.out_features)
            own.load_state_dict(layer.state_dict())
            layers += [*to_analog(), own, *to_digital()]
        else:
            layers.append(copy.deepcopy(layer))
    model = FullSequential()
    model.add_sequence(*layers)
    weights = FullSequential()
    weights.eval()
    weights.add_sequence(*to_analog())
    PseudoParameter.parametrize_module(model, transformation=weights)
    model.loss_function = nn.CrossEntropyLoss()
    model.optimizer = torch.optim.Adam(params=model.parameters())
    model.compile()
    weights.compile()
    return model


class _Convert(torch.autograd.Function):
    """A converter in torch's own operators, in place wherever the values are its own; keeps one byte an element."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, noise_first: bool, steps: int, sigma: float) -> torch.Tensor:
        if noise_first:
            value = torch.randn_like(x).mul_(sigma).add_(x)
            ctx.save_for_backward(value.abs() <= 1)
            return value.clamp_(-1, 1).mul_(steps).round_().mul_(1 / steps)
        ctx.save_for_backward(x.abs() <= 1)
        noise = torch.randn_like(x).mul_(sigma)
        return x.clamp(-1, 1).mul_(steps).round_().mul_(1 / steps).add_(noise)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (mask,) = ctx.saved_tensors
        return gradients[0] * mask, None, None, None


class _NoisyWeight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, steps: int, sigma: float) -> torch.Tensor:
        noise = torch.randn_like(weight).mul_(sigma)
        return weight.clamp(-1, 1).mul_(steps).round_().mul_(1 / steps).add_(noise)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return gradients[0], None, None


class PlainLayer(nn.Module):
    """A layer between two converters in plain torch, with noise on its parameters."""

    def __init__(self, layer: nn.Module, steps: int, sigma: float) -> None:
        super().__init__()
        self.layer, self.steps, self.sigma = layer, steps, sigma

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        noisy = {
            name: _NoisyWeight.apply(parameter, self.steps, self.sigma)
            for name, parameter in self.layer.named_parameters()
        }
        x = _Convert.apply(x, False, self.steps, self.sigma)
        y = torch.func.functional_call(self.layer, noisy, (x,))
        return _Convert.apply(y, True, self.steps, self.sigma)


def plain_network(network: nn.Sequential, steps: int = STEPS, sigma: float = SIGMA) -> nn.Sequential:
    """A copy of the network with a `PlainLayer` for each layer with weights."""
    copied = copy.deepcopy(network)
    return nn.Sequential(
        *(PlainLayer(layer, steps, sigma) if isinstance(layer, nn.Conv2d | nn.Linear) else layer for layer in copied)
    )
