"""Poisson numbers from random words: the quantile of a word's probability, exact at low means; their read noise too.

Below `SWITCH` the distribution function is summed term by term in float32. From there on the quantile is the floor of
its asymptotic expansion in the normal deviate w (Giles 2016, Algorithm 955, doi 10.1145/2699466, Q_N2):

    λ + √λ w + (1/3 + w²/6) + λ^(-1/2) (−w/36 − w³/72) + λ^(-1) (−8/405 + 7w²/810 + w⁴/270)

One word gives one number: its sign bit and magnitude are those of `sensing.deviates`, so the number rises with the
deviate, but for one word in 50,000 next to the switch, where the expansion turns back. The total-variation distance to
the exact law is below 2e-5 under the switch, 8e-4 from there to 8, and 3e-4 from 8 to 20,000.

A camera adds Gaussian read noise, and read noise of a few electrons leaves nothing of the steps of the Poisson law. So
from `LEAST_READ_NOISE_E` on, one deviate gives the sum: its quantile by the expansion of Cornish and Fisher (1960, doi
10.2307/1266546) to the fourth cumulant. With v = λ + σ², q = λ / v, skewness q / √v and excess kurtosis q / v it is

    λ + √v w + q (w² − 1)/6 + q / √v ((w³ − 3w)/24 − q (2w³ − 5w)/36)

which at any mean has the exact mean and, for σ ≥ 2, a variance good to 1.1e-5, a skewness to 1.1e-3, and a distance in
total variation to the exact sum of at most 1.8e-4 (6e-5 for σ ≥ 3).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from numpy.polynomial import Chebyshev, Polynomial

from robustcheck.sensing.deviates import deviates

SWITCH: Final = 4.0
"""Mean from which the expansion is taken."""
LEAST_READ_NOISE_E: Final = 2.0
"""Read noise from which one deviate makes it and the Poisson number together [electrons]."""
ROOM: Final = 8.0
"""Standard deviations of the sum that its mean must lie below the full well, which then no Poisson number reaches."""
CEILING: Final = 1.0 - 2.0**-18
"""Largest probability looked up below the switch: float32 sums come no closer to 1."""
TERMS: Final = 16
"""Terms of the distribution function below the switch; the quantile of `CEILING` at a mean of 4."""
INVERSE_FACTORIALS: Final = tuple(float(np.float32(1 / math.factorial(k))) for k in range(TERMS + 1))
SQUARINGS: Final = 2
EXPONENTIAL: Final = tuple(
    float(np.float32(coefficient))
    for coefficient in Chebyshev.interpolate(np.exp, 6, [0.0, 1.0]).convert(kind=Polynomial).coef[::-1]
)
"""exp(y) on [0, 1], the highest power first; squared twice it reaches the switch."""


def poisson(mean: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """A Poisson number for each mean.

    Args:
        mean: float32, any shape, >= 0, up to 2^22 [electrons].
        words: int64 of the same shape, random words in [0, 2^32).

    Returns:
        Whole numbers >= 0 as float32, of the same shape.

    >>> from robustcheck.sensing.random import random_words, stream_key
    >>> words = random_words(stream_key(0, "demo"), torch.tensor([0]), 0, 4000)
    >>> f"{poisson(torch.full((1, 4000), 3.0), words).mean():.1f}"
    '3.0'
    """
    return torch.where(mean < SWITCH, _summed(mean.clamp(max=SWITCH), words), _expanded(mean, deviates(words)))


def poisson_with_read_noise(mean: torch.Tensor, read_noise_e: float, w: torch.Tensor) -> torch.Tensor:
    """A Poisson number plus Gaussian noise for each mean, by the quantile of the sum (see the module).

    Args:
        mean: float32, any shape, >= 0 [electrons].
        read_noise_e: standard deviation of the Gaussian, at least `LEAST_READ_NOISE_E` [electrons].
        w: float32 of the same shape, normal deviates; the sum rises with them.

    Returns:
        float32 of the same shape, not whole and possibly negative [electrons].

    >>> poisson_with_read_noise(torch.full((3,), 91.0), 3.0, torch.tensor([-1.0, 0.0, 1.0]))
    tensor([ 81.0007,  90.8483, 100.9993])
    """
    root = torch.sqrt(mean + _variance(read_noise_e))
    inverse = 1.0 / root
    share = (mean * inverse) * inverse
    square = w * w
    third = (square * (1 / 24) - 1 / 8) - share * (square * (1 / 18) - 5 / 36)
    return mean + (root * w + share * ((square - 1.0) * (1 / 6) + (inverse * w) * third))


def clear_of_well(mean: torch.Tensor, read_noise_e: float, full_well_e: float) -> torch.Tensor:
    """Whether a mean lies so far below the full well that `poisson_with_read_noise` need not know of it.

    Args:
        mean: float32, any shape, >= 0 [electrons].
        read_noise_e: as there.
        full_well_e: most electrons that a pixel holds.

    Returns:
        bool of the same shape.

    >>> clear_of_well(torch.tensor([0.0, 900.0, 1000.0]), 3.0, 1000.0)
    tensor([ True, False, False])
    """
    room = full_well_e - mean
    return (room > 0) & (room * room >= ROOM**2 * (mean + _variance(read_noise_e)))


def _variance(read_noise_e: float) -> float:
    """As float32 has it: the square of a float32 number, rounded once."""
    return float(np.float32(read_noise_e) ** 2)


def _summed(mean: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """How many values have a distribution function below the word's probability; both sides are times exp(mean)."""
    tail = ((words & 0x7FFFFFFF).to(torch.int32).to(torch.float32) + 0.5) * 2.0**-32
    probability = torch.where(words >= 2**31, tail, (1.0 - tail).clamp(max=CEILING))
    y = mean * 2.0**-SQUARINGS
    exponential = torch.full_like(mean, EXPONENTIAL[0])
    for coefficient in EXPONENTIAL[1:]:
        exponential = exponential * y + coefficient
    for _ in range(SQUARINGS):
        exponential = exponential * exponential
    bound = probability * exponential
    total, power, count = torch.ones_like(mean), mean, torch.zeros_like(mean)
    for k in range(1, TERMS + 1):
        count = count + (bound > total).to(torch.float32)
        total = total + power * INVERSE_FACTORIALS[k]
        power = power * mean
    return count


def _expanded(mean: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """The floor of the expansion; the whole part of the mean is added last, which keeps float32 exact enough."""
    mean = mean.clamp(min=SWITCH)
    whole = torch.floor(mean)
    root = torch.sqrt(mean)
    inverse = 1.0 / root
    square = w * w
    fourth = -8 / 405 + square * (7 / 810 + square * (1 / 270))
    third = w * (-1 / 36 - square * (1 / 72))
    rest = (mean - whole) + (root * w + (1 / 3 + square * (1 / 6) + inverse * (third + inverse * fourth)))
    return (whole + torch.floor(rest)).clamp(min=0.0)
