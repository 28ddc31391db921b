"""sRGB and linear light: the transfer functions of IEC 61966-2-1, exact and as the camera takes them.

Both are a straight line near black and a power above it. A power is no vector instruction, and torch's own differs in
the last bit by where in a tensor a value stands. So the camera takes t = (x + 0.055) / 1.055 to its fourth root s by
square roots, and t^2.4 = t² · s^1.6 with s^1.6 by a polynomial, which on [0.55, 1] converges fast; and back likewise,
by the eighth root. Square roots are good to the last bit everywhere, and the same wherever a value stands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from numpy.polynomial import Chebyshev, Polynomial
from numpy.typing import NDArray

OFFSET: Final = 0.055
SLOPE: Final = 12.92
EXPONENT: Final = 2.4
KNEE: Final = 0.04045
"""The sRGB value where the line ends."""
LINEAR_KNEE: Final = 0.0031308
"""The linear value where the line ends."""


def _polynomial(function: Callable[[NDArray[np.float64]], NDArray[np.float64]], low: float) -> tuple[float, ...]:
    """Coefficients on [low, 1], the highest power first: float32 values as Python numbers."""
    interpolated = Chebyshev.interpolate(function, 6, [low, 1.0])
    return tuple(float(np.float32(one)) for one in interpolated.convert(kind=Polynomial).coef[::-1])


DECODING: Final = _polynomial(lambda s: s**1.6, ((KNEE + OFFSET) / (1 + OFFSET)) ** 0.25)
"""s^1.6 for the fourth root s."""
ENCODING: Final = _polynomial(lambda v: v ** (10 / 3), LINEAR_KNEE**0.125)
"""v^(10/3) for the eighth root v."""


def to_linear(x: torch.Tensor) -> torch.Tensor:
    """Linear light of sRGB values (IEC 61966-2-1:1999, equations 5 and 6).

    Args:
        x: floating, any shape, in [0, 1]; values outside are clipped.

    Returns:
        A tensor of the same shape and dtype, in [0, 1].

    >>> to_linear(torch.tensor([0.0, 0.5, 1.0]))
    tensor([0.0000, 0.2140, 1.0000])
    """
    x = x.clamp(0.0, 1.0)
    return torch.where(x <= KNEE, x / SLOPE, ((x + OFFSET) / (1 + OFFSET)) ** EXPONENT)


def from_linear(linear: torch.Tensor) -> torch.Tensor:
    """sRGB values of linear light (IEC 61966-2-1:1999, equations 9 and 10).

    Args:
        linear: floating, any shape, in [0, 1]; values outside are clipped.

    Returns:
        A tensor of the same shape and dtype, in [0, 1].

    >>> from_linear(torch.tensor([0.0, 0.2140, 1.0]))
    tensor([0.0000, 0.5000, 1.0000])
    """
    linear = linear.clamp(0.0, 1.0)
    power = (1 + OFFSET) * linear.clamp(min=LINEAR_KNEE) ** (1 / EXPONENT) - OFFSET
    return torch.where(linear <= LINEAR_KNEE, linear * SLOPE, power)


def decode(x: torch.Tensor) -> torch.Tensor:
    """`to_linear` as the camera takes it, within 6e-7 of a value's size.

    Args:
        x: float32, any shape, in [0, 1].

    Returns:
        float32 of the same shape.

    >>> decode(torch.tensor([0.0, 0.5, 1.0]))
    tensor([0.0000, 0.2140, 1.0000])
    """
    base = (x + OFFSET) * (1 / (1 + OFFSET))
    power = _value(DECODING, torch.sqrt(torch.sqrt(base)))
    return torch.where(x <= KNEE, x * (1 / SLOPE), (base * base) * power)


def encode(linear: torch.Tensor) -> torch.Tensor:
    """`from_linear` as the camera gives it, within 6e-7; 1 is exact.

    Args:
        linear: float32, any shape; values outside [0, 1] are clipped.

    Returns:
        float32 of the same shape, in [0, 1].

    >>> encode(torch.tensor([0.0, 0.2140, 1.0]))
    tensor([0.0000, 0.5000, 1.0000])
    """
    linear = linear.clamp(0.0, 1.0)
    root = torch.sqrt(torch.sqrt(torch.sqrt(linear.clamp(min=LINEAR_KNEE))))
    power = (_value(ENCODING, root) * (1 + OFFSET) - OFFSET).clamp(max=1.0)
    return torch.where(linear <= LINEAR_KNEE, linear * SLOPE, torch.where(linear == 1, linear, power))


def _value(coefficients: tuple[float, ...], x: torch.Tensor) -> torch.Tensor:
    """The polynomial at x by Horner's rule."""
    value = torch.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value
