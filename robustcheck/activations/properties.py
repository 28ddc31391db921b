"""Properties of activation functions, computed from the functions themselves: range, monotone, smoothness."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from robustcheck.activations.catalogue import Activation
from robustcheck.activations.catalogue import activation as named
from robustcheck.activations.curves import evaluated

Smoothness = Literal["C0", "C1", "smooth"]

JUMP = 1e-3
"""A derivative that changes by more than this within `_NARROW` jumps."""

_NARROW = 1e-12
_FAR = 1e8
_NEGLIGIBLE = 1e-9


@dataclass(frozen=True)
class Properties:
    """What is computed about an activation with its learned parameters at their starting values.

    `range` is (lower, upper), infinite where the function grows without bound; `monotone` says that it never falls,
    or never rises; `smoothness` is "C0" where the first derivative jumps, "C1" where only the second does, else
    "smooth". These three are None for an activation that is not elementwise. `learned` counts learned numbers.
    """

    range: tuple[float, float] | None
    monotone: bool | None
    smoothness: Smoothness | None
    learned: int


@cache
def properties(activation: Activation) -> Properties:
    """Compute the properties in float64; takes some milliseconds. A surrogate has those of its values.

    >>> from robustcheck.activations.catalogue import activation
    >>> properties(activation("relu"))
    Properties(range=(0.0, inf), monotone=True, smoothness='C0', learned=0)
    >>> properties(activation("silu"))
    Properties(range=(-0.278465, inf), monotone=False, smoothness='smooth', learned=0)
    """
    if activation.name == "surrogate":
        return properties(named(str(dict(activation.parameters)["value"])))
    learned = sum(parameter.numel() for parameter in activation.module().parameters())
    if not activation.elementwise:
        return Properties(None, None, None, learned)
    return Properties(_range(activation), _monotone(activation), _smoothness(activation), learned)


def _wide_grid() -> Tensor:
    """Ascending points: 0.01 apart in [-50, 50], and geometric from ±1e-7 to ±1e8, which finds narrow features at 0."""
    even = torch.linspace(-50, 50, 10_001, dtype=torch.float64)
    geometric = torch.logspace(-7, math.log10(_FAR), 3001, dtype=torch.float64)
    return torch.cat([-geometric, even, geometric]).sort().values


def _range(activation: Activation) -> tuple[float, float]:
    """Lower and upper bound to six decimals."""
    lower, upper = _upper_bound(activation, -1), _upper_bound(activation, 1)
    return -lower + 0.0, upper + 0.0


def _upper_bound(activation: Activation, sign: int) -> float:
    """The supremum of sign·f: infinite where the last decade of either side still raises it, else the maximum."""
    ends = torch.tensor([_FAR / 10, _FAR], dtype=torch.float64)
    for side in (ends, -ends):
        near, far = (sign * evaluated(activation, side, 0)[0]).tolist()
        # What grows at least linearly gains nine tenths of its value in a decade; what nears a limit gains nothing.
        if far > near + 0.5 * abs(far) and far > _NEGLIGIBLE:
            return math.inf
    grid = _wide_grid()
    values = sign * evaluated(activation, grid, 0)[0]
    best = int(values.argmax())
    around = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    fine = torch.linspace(around[0].item(), around[1].item(), 4001, dtype=torch.float64)
    return round(float((sign * evaluated(activation, fine, 0)[0]).max()), 6)


def _monotone(activation: Activation) -> bool:
    """Whether no value on the wide grid falls below an earlier one (or none rises above), rounding aside."""
    values = evaluated(activation, _wide_grid(), 0)[0]
    slack = _NEGLIGIBLE * values.abs().clamp(min=1)
    falls = values.cummax(0).values - values > slack
    rises = values - values.cummin(0).values > slack
    return not (bool(falls.any()) and bool(rises.any()))


def _smoothness(activation: Activation) -> Smoothness:
    if _jumps(activation, 1):
        return "C0"
    return "C1" if _jumps(activation, 2) else "smooth"


def _jumps(activation: Activation, order: int) -> bool:
    """Whether a derivative of this order jumps in [-20, 20].

    Each of 4,000 intervals across which it changes is halved, keeping the half with the larger change, until it is
    narrower than 1e-12. The change across a jump stays as the interval shrinks; that of a continuous derivative
    goes to nothing, and then the interval is dropped.
    """
    points = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    values = evaluated(activation, points, order)[order]
    left, right, low, high = points[:-1], points[1:], values[:-1], values[1:]
    while True:
        changes = (high - low).abs() > JUMP
        left, right, low, high = left[changes], right[changes], low[changes], high[changes]
        if not len(left) or float((right - left).max()) < _NARROW:
            return bool(len(left))
        middle = (left + right) / 2
        value = evaluated(activation, middle, order)[order]
        keep_left = (value - low).abs() >= (high - value).abs()
        left, low = torch.where(keep_left, left, middle), torch.where(keep_left, low, value)
        right, high = torch.where(keep_left, middle, right), torch.where(keep_left, value, high)
