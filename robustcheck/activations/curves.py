"""Values and derivatives of activation functions in float64: at chosen points, and along a curve for a chart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcheck.activations.catalogue import Activation
from robustcheck.errors import InvalidValueError


@dataclass(frozen=True)
class Curve:
    """One function along an axis: `value` and `derivative` at each `x`; `name` is the activation's spec."""

    name: str
    x: tuple[float, ...]
    value: tuple[float, ...]
    derivative: tuple[float, ...]


def evaluated(activation: Activation, x: Tensor, order: int = 1) -> tuple[Tensor, ...]:
    """The value and its first `order` derivatives by autograd, each shaped like the float64 tensor `x`.

    Learned parameters are at their starting values. At a kink the derivative is the one that training uses, for
    instance relu′(0) = 0. Raises InvalidValueError for an activation that is not elementwise.
    """
    if not activation.elementwise:
        inside = f"; inside it is {activation.inner.spec}, which has" if activation.inner else ""
        raise InvalidValueError(
            "activation",
            expected="an elementwise one",
            got=activation.spec,
            remedy=f"it mixes its inputs, so it has no value at a point{inside}",
        )
    point = x.detach().clone().requires_grad_(True)
    found = [activation.module(dtype=x.dtype)(point)]
    for step in range(order):
        # A derivative that is constant in x, such as relu's, has no graph of its own.
        if found[-1].requires_grad:
            (slope,) = torch.autograd.grad(found[-1].sum(), point, create_graph=step + 1 < order)
        else:
            slope = torch.zeros_like(point)
        found.append(slope)
    return tuple(tensor.detach() for tensor in found)


def value_and_derivative(activation: Activation, x: Sequence[float]) -> tuple[list[float], list[float]]:
    """The activation and its derivative at each x, computed in float64.

    Raises InvalidValueError where x is not finite and for an activation that is not elementwise.

    >>> from robustcheck.activations.catalogue import activation
    >>> value_and_derivative(activation("relu"), [-1, 0, 2])
    ([0.0, 0.0, 2.0], [0.0, 0.0, 1.0])
    """
    for number in x:
        if not math.isfinite(number):
            raise InvalidValueError("x", expected="a finite number", got=number, remedy="give a number such as 0.5")
    value, derivative = evaluated(activation, torch.tensor(x, dtype=torch.float64))
    return value.tolist(), derivative.tolist()


def curve(activation: Activation, low: float = -4.0, high: float = 4.0, points: int = 401) -> Curve:
    """The activation at `points` equally spaced x in [low, high]; raises as `value_and_derivative` does.

    >>> from robustcheck.activations.catalogue import activation
    >>> curve(activation("relu"), -1, 1, 3)
    Curve(name='relu', x=(-1.0, 0.0, 1.0), value=(0.0, 0.0, 1.0), derivative=(0.0, 0.0, 1.0))
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InvalidValueError("range of x", expected="low < high", got=(low, high), remedy="give it like -4 4")
    x = torch.linspace(low, high, points, dtype=torch.float64).tolist()
    value, derivative = value_and_derivative(activation, x)
    return Curve(activation.spec, tuple(x), tuple(value), tuple(derivative))
