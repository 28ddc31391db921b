"""From a random word to a noise value: one map for every symmetric distribution, by a table of its quantiles.

The top bit of the word is the sign; the other 31 bits are u = (m + 1/2) / 2^31, the probability of a larger magnitude.
The magnitude is the quantile of u, linear between the nodes of a table whose cells are the bit patterns of the
float32 m + 1/2, cut after 7 bits of mantissa: 128 cells an octave, so that the tail is resolved as finely as the
centre. The Gaussian is within 1.8e-6 standard deviations of the exact quantile, and ends at 6.34 of them.
The same steps in float32 give the same value in torch, numba and CUDA.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from robustcheck.errors import UnknownNameError

Noise = Literal["gaussian", "uniform", "laplace"]
NOISES: Final[tuple[Noise, ...]] = get_args(Noise)

MANTISSA_BITS: Final = 7
SHIFT: Final = 23 - MANTISSA_BITS
FIRST_CELL: Final = 126 << MANTISSA_BITS  # the cell of 0.5, the smallest value of m + 1/2
_CELLS: Final = (32 << MANTISSA_BITS) + 1


def _gaussian(tail: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import ndtri

    return np.asarray(-ndtri(tail / 2), dtype=np.float64)


QUANTILES: Final[dict[Noise, Callable[[NDArray[np.float64]], NDArray[np.float64]]]] = {
    "gaussian": _gaussian,
    "uniform": lambda tail: 1 - tail,
    "laplace": lambda tail: -np.log(tail),
}


@lru_cache(maxsize=3)
def quantile_table(noise: Noise) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Intercept and slope of each cell: magnitude = intercept + slope · (m + 1/2), for unit scale.

    Unit scale is a standard deviation of 1 (gaussian), a half-width of 1 (uniform), a scale of 1 (laplace).

    Returns:
        Two float32 arrays of 4097 cells, read-only.
    """
    if noise not in QUANTILES:
        raise UnknownNameError("noise", noise, NOISES)
    quantile = QUANTILES[noise]
    nodes = ((np.arange(_CELLS + 1, dtype=np.int64) + FIRST_CELL) << SHIFT).astype(np.uint32).view(np.float32)
    low = nodes[:-1].astype(np.float64)
    high = np.minimum(nodes[1:].astype(np.float64), 2.0**31)
    inside = low < 2.0**31
    q_low, q_high = quantile(low / 2**31), quantile(high / 2**31)
    slope = np.where(inside, (q_high - q_low) / np.where(inside, high - low, 1.0), 0.0)
    # Half the sag at the middle of the cell is added throughout, which halves the largest error.
    sag = np.where(inside, quantile((low + high) / 2 / 2**31) - (q_low + q_high) / 2, 0.0)
    intercept = np.where(inside, q_low - slope * low + sag / 2, 0.0)
    tables = intercept.astype(np.float32), slope.astype(np.float32)
    for table in tables:
        table.flags.writeable = False
    return tables


@lru_cache(maxsize=12)
def _table_on(noise: Noise, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    intercept, slope = quantile_table(noise)
    return torch.tensor(intercept, device=device), torch.tensor(slope, device=device)


def deviates(words: torch.Tensor, noise: Noise = "gaussian") -> torch.Tensor:
    """Noise values of unit scale from random words.

    Args:
        words: int64, any shape, each in [0, 2^32).
        noise: gaussian, uniform or laplace.

    Returns:
        float32 of the same shape.

    >>> from robustcheck.sensing.random import random_words, stream_key
    >>> words = random_words(stream_key(0, "demo"), torch.tensor([0]), 0, 4000)
    >>> f"{deviates(words).std():.1f}"
    '1.0'
    """
    intercept, slope = _table_on(noise, words.device)
    position = (words & 0x7FFFFFFF).to(torch.int32).to(torch.float32) + 0.5
    cell = (position.view(torch.int32) >> SHIFT).to(torch.int64) - FIRST_CELL
    magnitude = intercept[cell] + slope[cell] * position
    return torch.where(words >= 2**31, -magnitude, magnitude)
