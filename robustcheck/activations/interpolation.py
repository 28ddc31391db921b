"""The path from ReLU to a smooth activation function, which shows what smoothness buys (arXiv 2402.02593)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from robustcheck.activations.entry import Entry, Formula, Parameter, positive
from robustcheck.errors import InvalidValueError


def steep_gelu(x: Tensor, s: float) -> Tensor:
    """½x(1 + erf(s·x/√2)), which nears ReLU as the steepness s grows; s = 1 is GELU, to the bit.

    >>> steep_gelu(torch.tensor(1.0), 1.0) == F.gelu(torch.tensor(1.0))
    tensor(True)
    """
    return F.gelu(s * x) / s


def interpolate(x: Tensor, target: str, i: float, s: float) -> Tensor:
    """R(x) + i(T(x) − R(x)), R = relu, T = `steep_gelu` or silu, elementwise (arXiv 2402.02593).

    R′(0) = 0 as in the paper's eq. 2. i = 0 is ReLU and i = 1 the target, to the bit.

    >>> interpolate(torch.tensor(-1.0), "silu", 0.5, 1.0).item()
    -0.1344707...
    """
    if i == 0:
        return F.relu(x)
    goal = F.silu(x) if target == "silu" else steep_gelu(x, s)
    return goal if i == 1 else torch.lerp(F.relu(x), goal, i)


def _steepness_fits(values: Mapping[str, Any]) -> None:
    if values["target"] == "silu" and values["s"] != 1:
        raise InvalidValueError(
            "interpolate, parameter s", expected="no s with silu", got=values["s"], remedy="only gelu has a steepness"
        )


ENTRIES = (
    Entry(
        name="interpolate",
        family="interpolation",
        formula="R + i(T − R), R = relu(x), T = ½x(1 + erf(sx/√2)) or silu(x)",
        source="arXiv 2402.02593",
        build=lambda p, _: Formula(interpolate, {name: p[name] for name in ("target", "i", "s")}),
        parameters=(
            Parameter("source", "relu", choices=("relu",), always=True),
            Parameter("target", "gelu", choices=("gelu", "silu"), always=True),
            Parameter("i", 0.5, 0.0, 1.0, always=True),
            positive("s", 1.0),
        ),
        check=_steepness_fits,
    ),
)
