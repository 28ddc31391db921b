"""Elementwise activation functions, and ReLU about the mean: torch's own where torch has them, else formulas.

Every function takes a float tensor of any shape and returns one of the same shape and dtype. Values and gradients are
finite for |x| <= 1e4 in float32. The survey is Dubey, Singh and Chaudhuri, arXiv 2109.14545.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustcheck.activations.entry import Builder, Entry, Formula, Parameter, fraction, positive
from robustcheck.errors import InvalidValueError


def elliott(x: Tensor) -> Tensor:
    """½x/(1 + |x|) + ½, in (0, 1) (arXiv 2109.14545).

    >>> elliott(torch.tensor([-1.0, 0.0, 1.0])).tolist()
    [0.25, 0.5, 0.75]
    """
    return 0.5 * F.softsign(x) + 0.5


def swish(x: Tensor, beta: Tensor | float) -> Tensor:
    """x·sigmoid(βx) (arXiv 1710.05941)."""
    return x * torch.sigmoid(beta * x)


def lisht(x: Tensor) -> Tensor:
    """x·tanh x (arXiv 1901.05894)."""
    return x * torch.tanh(x)


def srs(x: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """x/(x/p + e^(−x/q)) (arXiv 2003.00547); has no pole as long as p > 0 and q < e·p."""
    # For x < 0 both sides of the fraction are multiplied by e^(x/q), so that no exponential grows. The clamps, unlike
    # an absolute value, keep the derivatives at 0 those of the formula.
    grown = torch.exp(x.clamp(max=0) / q)
    shrunk = torch.exp(-x.clamp(min=0) / q)
    return torch.where(x > 0, x, x * grown) / torch.where(x > 0, x / p + shrunk, x * grown / p + 1)


def pdelu(x: Tensor, alpha: Tensor, t: float) -> Tensor:
    """Equals x where x > 0, else α([1 + (1 − t)x]₊^(1/(1 − t)) − 1), 0 <= t < 1 (arXiv 2109.14545).

    >>> pdelu(torch.tensor([-2.0, 3.0]), torch.tensor(1.0), 0.9).tolist()
    [-0.8926258087158203, 3.0]
    """
    # Held one epsilon above the cut-off, where the logarithm would be infinite and its gradient NaN; the power of
    # what is left is below the resolution of the result.
    base = ((1 - t) * x.clamp(max=0)).clamp(min=torch.finfo(x.dtype).eps - 1)
    return F.relu(x) + alpha * torch.expm1(torch.log1p(base) / (1 - t))


def gelu_sigmoid(x: Tensor) -> Tensor:
    """x·sigmoid(1.702x), an approximation of GELU (arXiv 1606.08415)."""
    return x * torch.sigmoid(1.702 * x)


def aptx(x: Tensor, alpha: Tensor | float, beta: Tensor | float, gamma: Tensor | float) -> Tensor:
    """(α + tanh(βx))γx (arXiv 2209.06119); with α 1, β ½, γ ½ it is SiLU."""
    return (alpha + torch.tanh(beta * x)) * (gamma * x)


def abrelu(x: Tensor) -> Tensor:
    """max(0, x − mean(x)), the mean taken per sample: over all axes but the first.

    A tensor of fewer than two axes is one sample.

    >>> abrelu(torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]])).tolist()
    [[0.0, 0.0, 3.0], [0.0, 0.0, 2.0]]
    """
    mean = x.mean(dim=tuple(range(1, x.ndim)), keepdim=True) if x.ndim > 1 else x.mean()
    return F.relu(x - mean)


def _srs_has_no_pole(values: Mapping[str, Any]) -> None:
    if values["q"] >= math.e * values["p"]:
        raise InvalidValueError(
            "srs, parameter q",
            expected=f"q < e·p = {math.e * values['p']:.6g}",
            got=values["q"],
            remedy="the function has a pole otherwise",
        )


_SURVEY = "arXiv 2109.14545"
_TORCH = "PyTorch's definition"
_APTX = (Parameter("alpha", 1.0, -1e3, 1e3), positive("beta", 1.0), positive("gamma", 0.5))


def _row(name: str, formula: str, source: str, build: Builder, *parameters: Parameter, **flags: Any) -> Entry:
    return Entry(name, "elementwise", formula, source, build, parameters, **flags)


ENTRIES = (
    _row("sigmoid", "1/(1 + e^(−x))", _SURVEY, lambda *_: nn.Sigmoid()),
    _row("tanh", "tanh x", _SURVEY, lambda *_: nn.Tanh()),
    _row("elliott", "½x/(1 + |x|) + ½", _SURVEY, lambda *_: Formula(elliott)),
    _row("relu", "max(0, x)", _SURVEY, lambda *_: nn.ReLU()),
    _row(
        "leaky_relu",
        "x if x > 0 else slope·x",
        _SURVEY,
        lambda p, _: nn.LeakyReLU(p["slope"]),
        fraction("slope", 0.01),
    ),
    _row(
        "prelu",
        "x if x > 0 else slope·x",
        "arXiv 1502.01852",
        lambda p, dtype: nn.PReLU(init=p["slope"], dtype=dtype),
        fraction("slope", 0.25),
        learned=("weight",),
    ),
    _row(
        "elu",
        "x if x > 0 else α(e^x − 1)",
        "arXiv 1511.07289",
        lambda p, _: nn.ELU(p["alpha"]),
        positive("alpha", 1.0),
    ),
    _row("selu", "λx if x > 0 else λα(e^x − 1)", "arXiv 1706.02515", lambda *_: nn.SELU()),
    _row(
        "celu",
        "x if x > 0 else α(e^(x/α) − 1)",
        "arXiv 1704.07483",
        lambda p, _: nn.CELU(p["alpha"]),
        positive("alpha", 1.0),
    ),
    _row("gelu", "x·Φ(x) = ½x(1 + erf(x/√2))", "arXiv 1606.08415", lambda *_: nn.GELU()),
    _row("softplus", "ln(1 + e^x)", _SURVEY, lambda *_: nn.Softplus()),
    _row(
        "swish",
        "x·sigmoid(βx)",
        "arXiv 1710.05941",
        lambda p, dtype: Formula(swish, learned=p, dtype=dtype),
        positive("beta", 1.0),
        learned=("beta",),
    ),
    _row("silu", "x·sigmoid(x)", "arXiv 1606.08415", lambda *_: nn.SiLU()),
    _row("lisht", "x·tanh x", "arXiv 1901.05894", lambda *_: Formula(lisht)),
    _row(
        "srs",
        "x/(x/p + e^(−x/q))",
        "arXiv 2003.00547",
        lambda p, dtype: Formula(srs, learned=p, dtype=dtype),
        positive("p", 5.0),
        positive("q", 3.0),
        learned=("p", "q"),
        check=_srs_has_no_pole,
    ),
    _row("mish", "x·tanh(ln(1 + e^x))", "arXiv 1908.08681", lambda *_: nn.Mish()),
    _row(
        "pdelu",
        "x if x > 0 else α([1 + (1−t)x]₊^(1/(1−t)) − 1)",
        _SURVEY,
        lambda p, dtype: Formula(pdelu, {"t": p["t"]}, {"alpha": p["alpha"]}, dtype),
        positive("alpha", 1.0),
        fraction("t", 0.9),
        learned=("alpha",),
    ),
    _row("gelu_tanh", "½x(1 + tanh(√(2/π)(x + .044715x³)))", "arXiv 1606.08415", lambda *_: nn.GELU("tanh")),
    _row("gelu_sigmoid", "x·sigmoid(1.702x)", "arXiv 1606.08415", lambda *_: Formula(gelu_sigmoid)),
    _row("aptx", "(α + tanh(βx))γx", "arXiv 2209.06119", lambda p, _: Formula(aptx, p), *_APTX),
    _row(
        "aptx_learned",
        "(α + tanh(βx))γx",
        "arXiv 2209.06119",
        lambda p, dtype: Formula(aptx, learned=p, dtype=dtype),
        *_APTX,
        learned=("alpha", "beta", "gamma"),
    ),
    _row("relu6", "min(max(0, x), 6)", _TORCH, lambda *_: nn.ReLU6()),
    _row("hardswish", "x·min(max(0, x + 3), 6)/6", "arXiv 1905.02244", lambda *_: nn.Hardswish()),
    _row("hardtanh", "min(max(−1, x), 1)", _TORCH, lambda *_: nn.Hardtanh()),
    _row("hardsigmoid", "min(max(0, x + 3), 6)/6", _TORCH, lambda *_: nn.Hardsigmoid()),
    _row("softsign", "x/(1 + |x|)", _TORCH, lambda *_: nn.Softsign()),
    Entry(
        name="abrelu",
        family="per-sample",
        formula="max(0, x − mean(x)), mean per sample",
        source=_SURVEY,
        build=lambda *_: Formula(abrelu),
        elementwise=False,
    ),
)
