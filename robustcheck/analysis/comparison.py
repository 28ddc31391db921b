"""The test behind a ranking: which differences in a seeds × activations block are larger than its noise.

The trained network is the unit, and a seed is a block: its networks share initialisation and noise. Each of the
k(k−1)/2 pairs has three half-widths, in standard errors of a difference of two means over S seeds:

* *pooled*: Tukey's studentised range with the variance of the whole block, (k−1)(S−1) degrees of freedom;
* *own*: the studentised range with the variance of the pair's differences, S−1 degrees of freedom (as Games–Howell);
* *alone*: a paired t with Bonferroni's correction at α/4.

The half-width is the wider of pooled and own, capped by alone. Pooled stops a pair whose variance is small by luck, own
stops a pair that varies more than the block, and alone serves a steady pair in a block that another activation's
diverging run has widened. Two seeds leave one degree of freedom: there no own standard error is taken below the pooled.

Rates of any false difference at a nominal 5 %: the worst over standard deviations .001 to .01, 360 and 10 000 samples,
k ∈ {2, 3, 6, 10, 18}, S ∈ {2, 3, 4, 5, 10}, 6000 studies each (rows with *: 600 to 4000 on part of this grid).
*Diverging*: one run in ten at chance, also beside an activation that is clearly worse or diverges every second time.
*Unequal*: standard deviations differ up to tenfold. *Power*: k = 6, S = 5, one activation better by five standard
deviations; then after one run of another has diverged.

    procedure                        diverging  unequal  power  one diverged
    this one                           5.4 %     5.6 %    96 %     46 %
    pooled alone (Tukey)               6.8 %    37.8 %   100 %      0 %
    own alone (Games–Howell) *        88.8 %    89.0 %
    paired t, Bonferroni              15.5 %    15.5 %    81 %     81 %   (two seeds; from three on 5.4 %)
    pooled and own, no cap             5.4 %     5.6 %    96 %      0 %
    cap at α instead of α/4            6.2 %     8.2 %    96 %     81 %
    range, permuted within blocks *    5.5 %    29.3 %
    Friedman with Nemenyi *            6.2 %    10.3 %                    (finds nothing with two seeds)

What lies above 5 % in the first row is k = 2, where the test is the plain paired t and the excess is that of the
largest of many Monte Carlo rates; from k = 3 on the row is 3.8 % and 4.8 %.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import interpolate, special, stats

POWER = 0.8
MOST_SEEDS = 1000
_ALONE_SHARE = 4
_RELIABLE_RANGE = 1000.0
_EXACT_FREEDOM = 30

Array = NDArray[np.float64]


class Differences(NamedTuple):
    """All pairs of a block; the pairs are those of `numpy.triu_indices(k, 1)`, in that order."""

    mean: Array
    """`(..., pairs)`: mean difference over the seeds, first minus second."""
    pooled_error: Array
    """`(...,)`: standard error of a difference from the variance of the whole block."""
    own_error: Array
    """`(..., pairs)`: standard error of each difference from its own variance."""


def differences(accuracy: Array, samples: int) -> Differences:
    """Mean differences and their standard errors, for blocks `(..., seeds >= 2, activations >= 2)`.

    Accuracies move by whole samples, so no variance is taken below that of one sample decided differently, 1/samples².

    >>> found = differences(np.array([[0.9, 0.8], [0.9, 0.8]]), samples=100)
    >>> found.mean.round(3), found.pooled_error.round(4)
    (array([0.1]), np.float64(0.0071))
    """
    first, second = np.triu_indices(accuracy.shape[-1], 1)
    difference = accuracy[..., first] - accuracy[..., second]
    variance = difference.var(axis=-2, ddof=1)
    seeds, floor = accuracy.shape[-2], 1.0 / samples**2
    # The mean over all pairs is twice the residual mean square of the two-way block.
    pooled = np.sqrt(np.maximum(variance.mean(axis=-1), floor) / seeds)
    own = np.sqrt(np.maximum(variance, floor) / seeds)
    if seeds == 2:
        own = np.maximum(own, pooled[..., None])
    return Differences(difference.mean(axis=-2), pooled, own)


def half_widths(found: Differences, *, seeds: int, activations: int, alpha: float) -> Array:
    """Half-widths `(..., pairs)` of intervals that hold for all pairs at once with probability 1 − alpha.

    A difference is significant where it is larger than its half-width.
    """
    pooled = _range_quantile(alpha, activations, (activations - 1) * (seeds - 1)) * found.pooled_error[..., None]
    own = _range_quantile(alpha, activations, seeds - 1) * found.own_error
    alone = _alone_quantile(alpha, activations, seeds - 1) * found.own_error
    return np.asarray(np.minimum(np.maximum(pooled, own), alone))


def p_values(found: Differences, *, seeds: int, activations: int) -> Array:
    """Corrected p-values `(..., pairs)`: the smallest alpha at which `half_widths` excludes zero, within 2 %."""
    size, freedom = np.abs(found.mean), seeds - 1
    pooled = _range_p_value(size / found.pooled_error[..., None], activations, (activations - 1) * freedom)
    own = _range_p_value(size / found.own_error, activations, freedom)
    alone = _ALONE_SHARE * _pairs(activations) * 2 * stats.t.sf(size / found.own_error, freedom)
    return np.asarray(np.minimum(1.0, np.minimum(np.maximum(pooled, own), alone)))


def detectable_difference(
    pooled_error: float, own_error: float, *, seeds: int, activations: int, alpha: float
) -> float:
    """The true difference of one pair that is found significant with 80 % power (noncentral t).

    `pooled_error` stands for the pooled and own criteria, `own_error` for the pair alone; whichever finds more.

    >>> round(detectable_difference(0.01, 0.01, seeds=5, activations=6, alpha=0.05), 3)
    0.06
    """
    together = _together_errors(seeds, activations, alpha) * pooled_error
    return min(together, _alone_errors(seeds, activations, alpha) * own_error)


def seeds_needed(
    difference: float, pooled_variance: float, own_variance: float, *, activations: int, alpha: float
) -> int | None:
    """The smallest number of seeds that detects `difference` with 80 % power; None above 1000.

    The variances are those of a difference between two networks of one seed, as in `detectable_difference`.

    >>> seeds_needed(0.02, 0.01**2, 0.01**2, activations=6, alpha=0.05)
    7
    """
    if difference <= 0:
        return None
    shortfall = stats.norm.ppf(POWER)
    # With infinitely many degrees of freedom: lower bounds that spare the search most of its steps.
    together = pooled_variance * ((_range_quantile(alpha, activations, np.inf) + shortfall) / difference) ** 2
    alone = own_variance * ((_alone_quantile(alpha, activations, np.inf) + shortfall) / difference) ** 2

    def enough(seeds: int) -> bool:
        wanted = difference * seeds**0.5
        if _alone_errors(seeds, activations, alpha) * own_variance**0.5 <= wanted:
            return True
        return seeds >= int(together) and _together_errors(seeds, activations, alpha) * pooled_variance**0.5 <= wanted

    low = max(2, int(min(together, alone, MOST_SEEDS + 1)))
    if low > MOST_SEEDS or not enough(MOST_SEEDS):
        return None
    # More seeds never detect less: close in from both sides.
    high = MOST_SEEDS
    while low < high:
        middle = min((low + high) // 2, 2 * low)
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def _pairs(activations: int) -> int:
    return activations * (activations - 1) // 2


@lru_cache(maxsize=4096)
def _together_errors(seeds: int, activations: int, alpha: float) -> float:
    # The own criterion has fewer degrees of freedom than the pooled one, hence decides the power of the two.
    return _noncentrality(_range_quantile(alpha, activations, seeds - 1), seeds - 1)


@lru_cache(maxsize=4096)
def _alone_errors(seeds: int, activations: int, alpha: float) -> float:
    return np.inf if seeds == 2 else _noncentrality(_alone_quantile(alpha, activations, seeds - 1), seeds - 1)


@lru_cache(maxsize=4096)
def _range_quantile(alpha: float, activations: int, freedom: float) -> float:
    """Of the studentised range, in standard errors of a difference; exact up to 30 degrees of freedom.

    SciPy takes about 0.1 s a value, so that above it is interpolated over 1/freedom, within 1e-5.
    """
    if freedom <= _EXACT_FREEDOM:
        return float(stats.studentized_range.isf(alpha, activations, freedom)) / 2**0.5
    return float(_range_quantiles(alpha, activations)(1 / freedom))


@lru_cache(maxsize=64)
def _range_quantiles(alpha: float, activations: int) -> interpolate.CubicSpline:
    freedom = np.array([np.inf, 480, 120, 60, 40, _EXACT_FREEDOM])
    exact = [float(stats.studentized_range.isf(alpha, activations, each)) / 2**0.5 for each in freedom]
    return interpolate.CubicSpline(1 / freedom, exact)


def _alone_quantile(alpha: float, activations: int, freedom: float) -> float:
    return float(stats.t.isf(alpha / _ALONE_SHARE / _pairs(activations) / 2, freedom))


def _noncentrality(critical: float, freedom: float) -> float:
    return float(special.nctdtrinc(freedom, 1 - POWER, critical))


def _range_p_value(statistic: Array, activations: int, freedom: int) -> Array:
    single = 2 * stats.t.sf(statistic, freedom)
    factor = _multiplicity(activations, freedom)
    return np.asarray(single * np.exp(factor(np.log(np.clip(single, np.exp(factor.x[0]), 1.0)))))


@lru_cache(maxsize=64)
def _multiplicity(activations: int, freedom: int) -> interpolate.PchipInterpolator:
    """By how much the studentised range raises a single pair's p-value: log p → log factor, within 2 %.

    SciPy needs about 10 ms a value, and returns 0 far out where degrees of freedom are few; the factor is smooth, and
    constant there.
    """
    single = np.array(
        [1e-10, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 3e-3, 0.007, 0.015, 0.03, 0.07, 0.14, 0.25, 0.4, 0.6, 0.8, 1]
    )
    statistic = 2**0.5 * stats.t.isf(single / 2, freedom)
    single, statistic = single[statistic < _RELIABLE_RANGE], statistic[statistic < _RELIABLE_RANGE]
    corrected = stats.studentized_range.sf(statistic, activations, freedom)
    return interpolate.PchipInterpolator(np.log(single), np.log(corrected / single))
