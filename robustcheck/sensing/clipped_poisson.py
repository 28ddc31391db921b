"""The law of electrons in a well: a Poisson count, cut at the full well, with normal noise added after it."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_TAIL: Final = 8.0  # normal deviates beyond which nothing is left in float64
_LEAST_SPREAD_E: Final = 1e-6  # stands for no noise after the well


def exceedance(thresholds: Array, mean: Array, spread: float, well: float) -> tuple[Array, Array]:
    """P(Y > a) and E[max(Y − a, 0)] of Y = min(N, well) + spread · Z, N ~ Poisson(mean), Z standard normal.

    Only electron counts within `_TAIL` spreads of a threshold a need the normal law: fewer are below it for certain,
    more are above, and a partial mean of a Poisson law is one of its probabilities, Σ n P(n) over n > k being
    mean · P(N > k − 1).

    Args:
        thresholds: (k,) float64, a [electrons].
        mean: (k,) float64, of the Poisson law, >= 0 [electrons].
        spread: standard deviation of what is added after the well, >= 0 [electrons].
        well: where the count ends, > 0 [electrons].

    Returns:
        Two (k,) float64: probabilities in [0, 1], and mean excesses [electrons].

    >>> probability, excess = exceedance(np.array([0.5]), np.array([1.0]), 0.0, 1e4)
    >>> probability.round(4).tolist(), excess.round(4).tolist()  # 1 − 1/e, and 1 − ½ (1 − 1/e)
    ([0.6321], [0.6839])
    """
    from scipy.special import gammainc, gammaln, ndtr, xlogy

    def more_than(count: Array) -> Array:
        return np.where(count < 0, 1.0, gammainc(np.maximum(count, 0) + 1, mean))

    spread = max(spread, _LEAST_SPREAD_E)
    reach = math.ceil(_TAIL * spread) + 1
    last = np.full(mean.shape, math.ceil(well) - 1.0)
    nearest = np.floor(thresholds)
    counts = nearest[:, None] + np.arange(-reach, reach + 1.0)
    held = np.maximum(counts, 0)
    weights = np.exp(xlogy(held, mean[:, None]) - mean[:, None] - gammaln(held + 1))
    weights[(counts < 0) | (counts > last[:, None])] = 0
    full = more_than(last)
    top = np.minimum(nearest + reach, last)
    surely = more_than(top) - full

    def beyond(distance: Array) -> tuple[Array, Array]:
        z = distance / spread
        probability = ndtr(z)
        return probability, distance * probability + spread * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)

    near, near_excess = beyond(counts - thresholds[:, None])
    at_well, at_well_excess = beyond(well - thresholds)
    surely_excess = mean * (more_than(top - 1) - more_than(last - 1)) - thresholds * surely
    probability = (weights * near).sum(axis=1) + surely + full * at_well
    return probability, (weights * near_excess).sum(axis=1) + surely_excess + full * at_well_excess
