"""Poisson numbers from random words: the quantile of a word's probability, exact at low means.

Below `SWITCH` the distribution function is summed term by term in float32. From there on the quantile is the floor of
its asymptotic expansion in the normal deviate w (Giles 2016, Algorithm 955, doi 10.1145/2699466, Q_N2):

    λ + √λ w + (1/3 + w²/6) + λ^(-1/2) (−w/36 − w³/72) + λ^(-1) (−8/405 + 7w²/810 + w⁴/270)

One word gives one number: its sign bit and magnitude are those of `sensing.deviates`, so the number rises with the
deviate, but for one word in 50,000 next to the switch, where the expansion turns back. The total-variation distance to
the exact law is below 2e-5 under the switch, 8e-4 from there to 8, and 3e-4 from 8 to 20,000.
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
