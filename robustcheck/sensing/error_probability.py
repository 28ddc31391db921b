"""Error probability, noise scale and resolution: any two give the third.

`ep_centre` (arXiv 2402.02593; the probability that a value on a code centre changes code after noise and rounding) is
EP = P(|n| > 1/(2p)), 1 − erf(1/(2√2 σ p)) for Gaussian noise and p = 2^b − 1 steps. `ep_adc` is what a converter shows
for a value that lies anywhere within its code: 2 ∫₀¹ P(n > t/p) dt. The noise scale is in units of full scale [0, 1]:
the standard deviation (gaussian), the half-width (uniform) or the scale (laplace).
"""

from __future__ import annotations

import math
from typing import Final, Literal, get_args

from robustcheck.errors import InvalidValueError, UnknownNameError
from robustcheck.sensing.deviates import NOISES, Noise

Definition = Literal["centre", "adc"]
DEFINITIONS: Final[tuple[Definition, ...]] = get_args(Definition)
MAX_BITS: Final = 16
MAX_STEPS: Final = 2**MAX_BITS - 1

_SCALE_RANGE: Final = (1e-12, 1e12)  # noise scale in steps, searched by the numerical inverse


def steps_of_bits(bits: float) -> int:
    """Steps per unit of a converter: p = 2^b − 1, rounded to a whole number (paper eq. 6).

    >>> steps_of_bits(8)
    255
    """
    if not 1 <= bits <= MAX_BITS:
        raise InvalidValueError("bits", expected=f"1 to {MAX_BITS}", got=bits)
    return round(2**bits - 1)


def bits_of_steps(steps: float) -> float:
    """Bits b = log2(p + 1).

    >>> bits_of_steps(255)
    8.0
    """
    return math.log2(steps + 1)


def check_ep(ep: float) -> float:
    """The error probability, if it lies in the open interval (0, 1); else InvalidValueError."""
    if not (isinstance(ep, int | float) and 0 < ep < 1):
        raise InvalidValueError("error probability", expected="0 < EP < 1", got=ep)
    return float(ep)


def error_probability(
    sigma: float, steps: float, *, noise: Noise = "gaussian", definition: Definition = "centre"
) -> float:
    """The error probability of noise at a resolution.

    Args:
        sigma: noise scale [full scales], > 0: standard deviation, half-width or Laplace scale.
        steps: steps per unit, p = 2^b − 1, >= 1.
        noise: gaussian, uniform or laplace.
        definition: centre (the paper's EP) or adc (the value lies anywhere within its code).

    Returns:
        A probability in [0, 1).

    >>> round(error_probability(0.05, 15), 4)
    0.505
    >>> round(error_probability(0.5, 1, definition="adc"), 3)
    0.39
    """
    _check_names(noise, definition)
    if not (sigma > 0 and math.isfinite(sigma)):
        raise InvalidValueError("noise scale", expected="a finite number above 0", got=sigma)
    if not 1 <= steps <= MAX_STEPS:
        raise InvalidValueError("steps", expected=f"1 to {MAX_STEPS}", got=steps)
    return _ep(sigma * steps, noise, definition)


def noise_sigma(ep: float, steps: float, *, noise: Noise = "gaussian", definition: Definition = "centre") -> float:
    """The noise scale that gives an error probability at a resolution; the inverse of `error_probability`.

    Args:
        ep: in (0, 1).
        steps: steps per unit, p = 2^b − 1, >= 1.
        noise: gaussian, uniform or laplace.
        definition: centre or adc.

    Returns:
        The noise scale [full scales].

    >>> round(noise_sigma(0.5, 1), 5)
    0.7413
    """
    _check_names(noise, definition)
    if not 1 <= steps <= MAX_STEPS:
        raise InvalidValueError("steps", expected=f"1 to {MAX_STEPS}", got=steps)
    return _scale_in_steps(check_ep(ep), noise, definition) / steps


def steps_for(ep: float, sigma: float, *, noise: Noise = "gaussian", definition: Definition = "centre") -> float:
    """The resolution p at which noise of this scale has this error probability (not rounded to whole steps).

    >>> round(steps_for(0.5, noise_sigma(0.5, 15)), 6)
    15.0
    """
    _check_names(noise, definition)
    if not (sigma > 0 and math.isfinite(sigma)):
        raise InvalidValueError("noise scale", expected="a finite number above 0", got=sigma)
    return _scale_in_steps(check_ep(ep), noise, definition) / sigma


def _check_names(noise: str, definition: str) -> None:
    if noise not in NOISES:
        raise UnknownNameError("noise", noise, NOISES)
    if definition not in DEFINITIONS:
        raise UnknownNameError("definition of error probability", definition, DEFINITIONS)


def _ep(scale: float, noise: Noise, definition: Definition) -> float:
    """Error probability of noise whose scale is given in steps."""
    if definition == "centre":
        if noise == "gaussian":
            return math.erfc(1 / (2 * math.sqrt(2) * scale))
        if noise == "laplace":
            return math.exp(-1 / (2 * scale))
        return max(0.0, 1 - 1 / (2 * scale))
    if noise == "gaussian":
        edge = math.erfc(1 / (scale * math.sqrt(2)))
        return edge - scale * math.sqrt(2 / math.pi) * math.expm1(-1 / (2 * scale**2))
    if noise == "laplace":
        return -scale * math.expm1(-1 / scale)
    return scale / 2 if scale <= 1 else 1 - 1 / (2 * scale)


def _scale_in_steps(ep: float, noise: Noise, definition: Definition) -> float:
    if definition == "centre":
        if noise == "gaussian":
            from scipy.special import erfcinv

            return 1 / (2 * math.sqrt(2) * float(erfcinv(ep)))
        if noise == "laplace":
            return -1 / (2 * math.log(ep))
        return 1 / (2 * (1 - ep))
    from scipy.optimize import brentq

    low, high = _SCALE_RANGE
    if not _ep(low, noise, definition) < ep < _ep(high, noise, definition):
        raise InvalidValueError("error probability", expected="one that a finite noise scale gives", got=ep)
    return math.exp(brentq(lambda log: _ep(math.exp(log), noise, definition) - ep, math.log(low), math.log(high)))
