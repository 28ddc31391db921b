"""Polynomial activation functions of degree 3 whose coefficients are learned (PolyCom, arXiv 2411.03884)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from robustcheck.activations.entry import Entry, Formula

COEFFICIENTS = (0.0, 1 / 3, 1 / 3, 1 / 3)
"""a₀ … a₃ that both functions start from."""

NORM_EPSILON = 1e-6
"""Added to the mean square that polynorm divides by."""


def polyrelu(x: Tensor, a: Tensor) -> Tensor:
    """Σ_{k=0..3} a_k max(0, x)^k, elementwise (arXiv 2411.03884); `a` has shape (4,).

    >>> round(polyrelu(torch.tensor(0.5), torch.tensor(COEFFICIENTS)).item(), 6)
    0.291667
    """
    positive = F.relu(x)
    return ((a[3] * positive + a[2]) * positive + a[1]) * positive + a[0]


def polynorm(x: Tensor, a: Tensor) -> Tensor:
    """a₀ + Σ_{k=1..3} a_k N(x^k), N(z) = z/√(mean z² + 1e-6) over the feature axis (arXiv 2411.03884).

    The feature axis is axis 1 (the channels) of a tensor of four axes and the last axis of any other. `a` has shape
    (4,); N(x⁰) is 1 but for the 1e-6, as in the authors' own code. Not elementwise: an output depends on all features.

    >>> polynorm(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor(COEFFICIENTS)).mul(1e3).round().tolist()
    [167.0, 461.0, 941.0, 1664.0]
    """
    axis = 1 if x.ndim == 4 else -1
    total = a[0]
    for k in (1, 2, 3):
        power = x**k
        total = total + a[k] * power * torch.rsqrt(power.square().mean(dim=axis, keepdim=True) + NORM_EPSILON)
    return total


ENTRIES = (
    Entry(
        name="polyrelu",
        family="polynomial",
        formula="Σ aₖ·max(0, x)ᵏ, degree 3",
        source="arXiv 2411.03884",
        build=lambda _, dtype: Formula(polyrelu, learned={"a": COEFFICIENTS}, dtype=dtype),
        learned=("a",),
    ),
    Entry(
        name="polynorm",
        family="polynomial",
        formula="Σ aₖN(xᵏ), N(z) = z/√(mean z² + 1e-6)",
        source="arXiv 2411.03884",
        build=lambda _, dtype: Formula(polynorm, learned={"a": COEFFICIENTS}, dtype=dtype),
        learned=("a",),
        elementwise=False,
    ),
)
