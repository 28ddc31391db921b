"""Racing: after each seed, which activations are already worse beyond doubt than the best one, and may stop.

As in `comparison` the trained network is the unit, and a seed is a block. A look is taken after each seed from the
second on. The look after S seeds spends α / (S (S − 1)) of the error rate α: one half, one sixth, one twelfth, …, which
is never more than α together, however many seeds follow. An activation stops where its mean is behind the leader's by
more than a margin, in standard errors of a difference of two means, of Student's t, one-sided, at the look's rate a:

* *pooled*: at a / (k − 1), with the variance of the block of those that still run, and its degrees of freedom;
* *own*: at a, with the variance of this activation's differences from the leader, S − 1 degrees of freedom;
* *alone*: at a / (k − 1), with that own variance; not after two seeds, where it has one degree of freedom.

The margin is the wider of pooled and own, capped by alone. k is the number of activations that started. Pooled pays for
the many rivals that one activation has, own stops a block that is steadier than the pair from deciding for it, alone
serves a steady pair in a block that a diverging run has widened.

The guarantee: the activation that is truly best is stopped, at any look, with probability at most α. Rates at a nominal
5 %: the worst over k ∈ {6, 15, 18}, S up to 2, 3, 5 and 10, spreads that are equal or differ up to tenfold (the best
one noisier or steadier than its rivals, half of them noisy, graded), one run in ten diverging, near-ties, few samples;
2000 races each, in which all are equal but where the scenario says else. *Networks*: the share of the full grid's that
were trained, where half of 18 activations are worse by 6 standard deviations, for 5 and 10 seeds; then with one run in
ten diverging. It cannot be below 70 % and 60 %, unless some of the others are stopped too.

    rule                                             stopped   networks     one in ten diverging
    this one                                           4.4 %    79 %  64 %    97 %  86 %
    pooled alone, Bonferroni                          39.0 %    70 %  59 %    98 %  97 %
    own alone, Bonferroni                              2.2 %    97 %  77 %    98 %  86 %
    moderated t, Bonferroni                           36.6 %    71 %  60 %    93 %  82 %
    this one, α divided evenly over the looks          6.0 %    80 %  67 %    96 %  85 %
    half-widths of `comparison`, at the same rates *   0.7 %    97 %  80 %   100 %  97 %
    pooled alone, Tukey's range *                     21.8 %

Rows with * are 600 races on part of this grid, up to 5 seeds. In 20 000 races of each of the five worst
scenarios, k = 27 among them, this rule stays at 4.2 %.

Moderated t shrinks the pairs' variances to the block's by empirical Bayes (Smyth 2004, doi 10.2202/1544-6115.1027).
Where one activation is noisier than the others its variance is shrunk like theirs, and it is stopped too often. The
half-widths correct for all pairs, where only those with the leader are looked at.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from robustcheck.errors import InvalidValueError

ALPHA = 0.05

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Look(NamedTuple):
    """What one look at a race showed, for each activation; only those that still run mean anything."""

    leader: NDArray[np.intp]
    """`(...,)`: index of the highest mean."""
    behind: Array
    """`(..., k)`: how far each mean is behind the leader's."""
    margin: Array
    """`(..., k)`: how far it may be; infinite where only one activation runs."""
    stopped: Bools
    """`(..., k)`: whether it stops here."""


def rate_of_look(seeds: int, alpha: float = ALPHA) -> float:
    """The error rate that the look after so many seeds (at least 2) spends.

    >>> [round(rate_of_look(seeds), 4) for seeds in (2, 3, 4)]
    [0.025, 0.0083, 0.0042]
    >>> round(sum(rate_of_look(seeds) for seeds in range(2, 1000)), 3)
    0.05
    """
    if seeds < 2:
        raise InvalidValueError("seeds", expected="at least 2 before a look", got=seeds)
    return alpha / (seeds * (seeds - 1))


def look(accuracy: Array, running: Bools | None = None, *, samples: int, alpha: float = ALPHA) -> Look:
    """Look at a race after `seeds` seeds.

    Args:
        accuracy: `(..., seeds >= 2, k)`, on validation, in [0, 1]; a row is a block. What stands in the columns of
            activations that have stopped does not matter.
        running: `(..., k)`, which activations still run; all by default. At least one does.
        samples: validation samples behind each accuracy; no variance is taken below 1/samples².
        alpha: error rate of the whole race.

    Raises:
        InvalidValueError: fewer than two seeds, or nothing that runs.

    >>> found = look(np.array([[0.90, 0.50, 0.89], [0.91, 0.51, 0.92], [0.92, 0.52, 0.91]]), samples=360)
    >>> found.stopped, found.behind.round(2)
    (array([False,  True, False]), array([0. , 0.4, 0. ]))
    """
    seeds, started = accuracy.shape[-2:]
    running = np.ones((*accuracy.shape[:-2], started), dtype=bool) if running is None else running
    if not running.any(axis=-1).all():
        raise InvalidValueError("running", expected="at least one activation in each race", got=running.sum(axis=-1))
    rate = rate_of_look(seeds, alpha)
    of_each = rate / max(started - 1, 1)
    accuracy = np.where(running[..., None, :], accuracy, 0.0)
    leader = np.where(running, accuracy.mean(axis=-2), -np.inf).argmax(axis=-1)
    difference = np.take_along_axis(accuracy, leader[..., None, None], axis=-1) - accuracy
    behind = difference.mean(axis=-2)
    floor = 1.0 / samples**2
    pooled_variance, freedom = _pooled(accuracy, running)
    pooled_error = np.sqrt(np.maximum(pooled_variance, floor) / seeds)
    own_error = np.sqrt(np.maximum(difference.var(axis=-2, ddof=1), floor) / seeds)
    pooled = (stats.t.isf(of_each, freedom) * pooled_error)[..., None]
    margin = np.maximum(pooled, stats.t.isf(rate, seeds - 1) * own_error)
    if seeds > 2:
        margin = np.minimum(margin, stats.t.isf(of_each, seeds - 1) * own_error)
    margin = np.where(running.sum(axis=-1, keepdims=True) > 1, margin, np.inf)
    return Look(leader, behind, margin, running & (behind > margin))


def _pooled(accuracy: Array, running: Bools) -> tuple[Array, Array]:
    """Variance of a difference of two networks of one seed, from all that run, and its degrees of freedom (>= 1).

    It is twice the residual mean square of the two-way block.
    """
    counted = running[..., None, :]
    count = running.sum(axis=-1)
    of_seed = accuracy.sum(axis=-1) / count[..., None]
    of_activation = accuracy.mean(axis=-2)
    grand = of_seed.mean(axis=-1)
    residual = accuracy - of_seed[..., None] - of_activation[..., None, :] + grand[..., None, None]
    freedom = np.maximum((count - 1) * (accuracy.shape[-2] - 1), 1)
    squares = np.where(counted, residual, 0.0) ** 2
    return 2 * squares.sum(axis=(-2, -1)) / freedom, np.asarray(freedom, dtype=np.float64)
