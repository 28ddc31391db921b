"""Says which activation function a function of one number is, by comparing values."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robustcheck.activations.catalogue import activation
from robustcheck.networks.kinds import canonical

Curve = Callable[[Tensor], Tensor]

_FIXED: Final = (
    *("relu", "relu6", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh", "hardswish", "hardsigmoid", "mish", "selu"),
    *("softsign", "hardtanh", "gelu_sigmoid", "lisht", "elliott", "hard_mish"),
)
_EXACT = 1e-5
_ZERO = 1e-14
"""A clamp to a small number, as before a division, is no ReLU."""
_ROUNDED = 1.5e-3
"""How far constants that were rounded to half precision, or to a few digits, move a function."""
_ROUNDED_TO_EIGHT_BITS = 4e-3
_OF_ROUNDED: Final = frozenset({"gelu", "gelu_tanh", "gelu_sigmoid", "hardswish", "hardsigmoid", "selu"})
_FAR = 1e5
_NO_THRESHOLD = 27.0
"""Above, ln(1 + e^x) and x are too near to each other to be told apart in float64."""


@cache
def _grid() -> Tensor:
    """Points that no kink lies on, the far ones included."""
    near = torch.linspace(-12, 12, 193, dtype=torch.float64) + 0.0137
    return torch.cat([near, torch.tensor([-30.0, -20.0, 20.0, 30.0], dtype=torch.float64)])


@cache
def _reference(name: str) -> Tensor:
    if name == "hard_mish":  # timm's, which the catalogue does not have
        return 0.5 * _grid() * (_grid() + 2).clamp(0, 2)
    with torch.no_grad():
        return activation(name).module(dtype=torch.float64)(_grid())  # type: ignore[no-any-return]


def kind_of(curve: Curve, *, by_erf: bool, dtype: np.dtype[Any]) -> str | None:
    """The canonical spec of an elementwise activation function; None where it is none that has a name.

    Args:
        curve: takes float64 and returns it.
        by_erf: whether the function is made with the error function, which tells GELU from its approximation where
            constants are rounded.
        dtype: of the constants; parameters are spelled by the shortest decimal number that this type rounds so.

    >>> kind_of(lambda x: x * torch.sigmoid(0.5 * x), by_erf=False, dtype=np.dtype("float32"))
    'swish(beta=0.5)'
    """
    values = curve(_grid())
    if not bool(values.isfinite().all()):
        return None
    names = [name for name in _FIXED if name != ("gelu_tanh" if by_erf else "gelu")]
    errors = {name: _error(values, _reference(name)) for name in names}
    best = min(errors, key=lambda name: errors[name])
    if errors[best] <= _EXACT:
        # A swish is near to GELU's approximation by it; the parameter decides.
        return best if best != "gelu_sigmoid" else _swish(curve, values, dtype) or best
    for fit in (_leaky_relu, _elu, _celu, _softplus, _swish, _hardtanh):
        found = fit(curve, values, dtype)
        if found is not None:
            return canonical(found)
    tolerance = _ROUNDED_TO_EIGHT_BITS if dtype.name == "bfloat16" else _ROUNDED
    return best if best in _OF_ROUNDED and errors[best] <= tolerance else None


def _error(values: Tensor, reference: Tensor) -> float:
    """The largest difference, relative where values are large; infinite where one should be 0 and is not."""
    difference = (values - reference).abs()
    if bool(((reference == 0) & (difference > _ZERO)).any()):
        return float("inf")
    return float((difference / (reference.abs() + 0.1)).max())


def _at(curve: Curve, x: float) -> float:
    return float(curve(torch.tensor([x], dtype=torch.float64))[0])


def spelled(value: float, dtype: np.dtype[Any]) -> float:
    """The shortest decimal number that rounds to the same value of a type.

    >>> spelled(0.20000000298, np.dtype("float32")), spelled(0.19995117, np.dtype("float16"))
    (0.2, 0.2)
    """
    kind = np.dtype("float32") if dtype.name == "float64" else dtype
    stored = np.asarray(value).astype(kind)
    shortened = (float(f"{value:.{digits}g}") for digits in range(1, 10))
    return next((each for each in shortened if np.asarray(each).astype(kind) == stored), value)


def _leaky_relu(curve: Curve, values: Tensor, dtype: np.dtype[Any]) -> str | None:
    slope = _at(curve, -8.0) / -8
    if slope == 1 or _error(values, torch.where(_grid() > 0, _grid(), slope * _grid())) > _EXACT:
        return None
    return f"leaky_relu(slope={spelled(slope, dtype)!r})"


def _elu(curve: Curve, values: Tensor, dtype: np.dtype[Any]) -> str | None:
    alpha = -_at(curve, -_FAR)
    if not 0 < alpha < _FAR or _error(values, F.elu(_grid(), alpha)) > _EXACT:
        return None
    return f"elu(alpha={spelled(alpha, dtype)!r})"


def _celu(curve: Curve, values: Tensor, dtype: np.dtype[Any]) -> str | None:
    alpha = -_at(curve, -_FAR)
    if not 0 < alpha < _FAR or _error(values, F.celu(_grid(), alpha)) > _EXACT:
        return None
    return f"celu(alpha={spelled(alpha, dtype)!r})"


def _softplus(curve: Curve, values: Tensor, dtype: np.dtype[Any]) -> str | None:
    at_zero = _at(curve, 0.0)
    if at_zero < 1e-6:
        return None
    beta = float(np.log(2)) / at_zero
    threshold = _threshold(curve, beta)
    if _error(values, F.softplus(_grid(), beta, threshold)) > _EXACT:
        return None
    beta, threshold = spelled(beta, dtype), spelled(round(threshold, 5), dtype)
    said = [*([f"beta={beta!r}"] if beta != 1 else []), *([f"threshold={threshold!r}"] if threshold != 20 else [])]
    return f"softplus({', '.join(said).replace('.0,', ',').removesuffix('.0')})" if said else "softplus"


def _threshold(curve: Curve, beta: float) -> float:
    """Where the function becomes x itself, times β; torch's default where it never does."""

    def is_x(t: float) -> bool:
        return abs(_at(curve, t / beta) * beta - t) < 1e-14 * max(t, 1.0)

    low, high = 0.0, _NO_THRESHOLD
    if not is_x(high):
        return 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if is_x(middle) else (middle, high)
    return high


def _swish(curve: Curve, values: Tensor, dtype: np.dtype[Any]) -> str | None:
    gate = _at(curve, 1.0)
    if not 0.5 < gate < 1:
        return None
    beta = float(np.log(gate / (1 - gate)))
    if _error(values, _grid() * torch.sigmoid(beta * _grid())) > _EXACT:
        return None
    for name, factor in (("silu", 1.0), ("gelu_sigmoid", 1.702)):
        if spelled(factor, dtype) == spelled(beta, dtype):
            return name
    return f"swish(beta={spelled(beta, dtype)!r})"


def _hardtanh(curve: Curve, values: Tensor, dtype: np.dtype[Any]) -> str | None:
    low, high = _at(curve, -_FAR), _at(curve, _FAR)
    if not -_FAR < low < high < _FAR or _error(values, _grid().clamp(low, high)) > _EXACT:
        return None
    said = [f"{name}={spelled(value, dtype)!r}".removesuffix(".0") for name, value in (("min", low), ("max", high))]
    return f"hardtanh({', '.join(said)})"
