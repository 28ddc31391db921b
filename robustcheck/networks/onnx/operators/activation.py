"""Activation functions, softmax and its kin."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from robustcheck.networks.onnx.operators.call import Builder, Call, Function, UnsupportedError


def _fixed(function: Function) -> Builder:
    """An operator without attributes."""

    def build(_: Call) -> Function:
        return function

    return build


def _leaky_relu(call: Call) -> Function:
    alpha = call.get("alpha", 0.01)
    return lambda x: F.leaky_relu(x, alpha)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """`x` where it is not negative, else `slope · x`; `slope` broadcasts to the shape of `x`.

    >>> prelu(torch.tensor([[-2.0], [4.0]]), torch.tensor([0.25]))
    tensor([[-0.5000],
            [ 4.0000]])
    """
    if x.is_floating_point() and slope.dtype == x.dtype:
        if slope.numel() == 1:
            return torch.prelu(x, slope.reshape(1))
        channel = slope.ndim - x.ndim + 1
        if channel >= 0 and x.ndim >= 2 and slope.numel() == slope.shape[channel] == x.shape[1]:
            return torch.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, x * slope, x)


def _elu(call: Call) -> Function:
    alpha = call.get("alpha", 1.0)
    return lambda x: F.elu(x, alpha)


def _selu(call: Call) -> Function:
    alpha, gamma = call.get("alpha", 1.67326319217681884765625), call.get("gamma", 1.05070102214813232421875)
    if math.isclose(alpha, 1.6732632423543772, rel_tol=1e-6) and math.isclose(gamma, 1.0507009873554805, rel_tol=1e-6):
        return torch.selu
    return lambda x: gamma * F.elu(x, alpha)


def _celu(call: Call) -> Function:
    alpha = call.get("alpha", 1.0)
    return lambda x: F.celu(x, alpha)


def _gelu(call: Call) -> Function:
    approximate = call.get("approximate", "none")
    if approximate not in ("none", "tanh"):
        raise UnsupportedError(f"approximate={approximate!r}")
    return lambda x: F.gelu(x, approximate=approximate)


def _hard_sigmoid(call: Call) -> Function:
    alpha, beta = call.get("alpha", 0.2), call.get("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return F.hardsigmoid
    return lambda x: torch.clamp(alpha * x + beta, 0, 1)


def _swish(call: Call) -> Function:
    alpha = call.get("alpha", 1.0)
    if alpha == 1:
        return F.silu
    return lambda x: x * torch.sigmoid(alpha * x)


def softplus(x: Tensor) -> Tensor:
    """ln(1 + eˣ), exact to float64's precision: torch's own threshold of 20 is for float32."""
    return F.softplus(x, 1.0, 40.0)


def _thresholded_relu(call: Call) -> Function:
    alpha = call.get("alpha", 1.0)
    return lambda x: F.threshold(x, alpha, 0.0)


def _shrink(call: Call) -> Function:
    bias, lambd = call.get("bias", 0.0), call.get("lambd", 0.5)

    def shrink(x: Tensor) -> Tensor:
        zero = torch.zeros((), dtype=x.dtype, device=x.device)
        return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, zero)).to(x.dtype)

    return shrink


def _hardmax(x: Tensor, dim: int) -> Tensor:
    return torch.zeros_like(x).scatter(dim, x.argmax(dim, keepdim=True), 1)


def _normalised(function: Function) -> Builder:
    """Softmax and its kin: along an axis from opset 13 on, before over all axes from one on together."""

    def build(call: Call) -> Function:
        if call.version >= 13:
            along = call.get("axis", -1)
            return lambda x: function(x, along)
        axis = call.get("axis", 1)

        def flattened(x: Tensor) -> Tensor:
            if axis in (-1, x.ndim - 1):
                return function(x, -1)  # type: ignore[no-any-return]
            return function(x.flatten(axis), -1).reshape(x.shape)  # type: ignore[no-any-return]

        return flattened

    return build


OPERATORS: Final[dict[str, Builder]] = {
    "Celu": _celu,
    "Elu": _elu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _fixed(F.hardswish),
    "Hardmax": _normalised(_hardmax),
    "LeakyRelu": _leaky_relu,
    "LogSoftmax": _normalised(torch.log_softmax),
    "Mish": _fixed(F.mish),
    "PRelu": _fixed(prelu),
    "Relu": _fixed(torch.relu),
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": _fixed(torch.sigmoid),
    "Softmax": _normalised(torch.softmax),
    "Softplus": _fixed(softplus),
    "Softsign": _fixed(F.softsign),
    "Swish": _swish,
    "Tanh": _fixed(torch.tanh),
    "ThresholdedRelu": _thresholded_relu,
}
"""What this module covers, by ONNX's names."""
