"""Confidence intervals of an accuracy: over trained networks, and over samples and draws for these networks only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from robustcheck.errors import InvalidValueError


def network_interval(values: NDArray[np.float64], level: float = 0.95) -> tuple[float, float] | None:
    """Interval for the mean accuracy over trained networks: Student's t, clipped to [0, 1]; None for one network.

    `values` is `(seeds,)`, one accuracy a network.

    >>> network_interval(np.array([0.90, 0.92, 0.94]))
    (0.8703..., 0.9696...)
    """
    if np.ndim(values) != 1 or not len(values):
        raise InvalidValueError("accuracies of networks", expected="shape (seeds,)", got=np.shape(values))
    if len(values) == 1:
        return None
    margin = stats.t.isf((1 - level) / 2, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    mean = float(np.mean(values))
    return max(0.0, float(mean - margin)), min(1.0, float(mean + margin))


def sample_interval(
    correct: NDArray[np.bool_], *, draws_are_clusters: bool, level: float = 0.95
) -> tuple[float, float]:
    """Interval for the accuracy of these networks only, over samples and draws.

    Wilson's interval (E. B. Wilson 1927, doi 10.1080/01621459.1927.10502953) with an effective sample size: samples are
    independent, the draws and networks of a sample are not, so the variance is that of the samples' mean correctness.
    One wrong and one right sample are added to that variance, lest a hundred draws of a few samples without an error
    look like a hundred times as many samples. With one network and one draw the interval is Wilson's own.

    Where weight noise is shared by all samples of a draw, the variance between draws is added, with Student's t at
    Satterthwaite's degrees of freedom. One draw shows no such variance: the interval then holds for that draw only.

    Args:
        correct: `(networks, draws, samples)`.
        draws_are_clusters: whether all samples of a draw share noise.
        level: probability that the interval holds.

    >>> sample_interval(np.ones((3, 5, 100), dtype=bool), draws_are_clusters=False)
    (0.963..., 1.0)
    """
    if correct.ndim != 3 or not correct.size:
        raise InvalidValueError("correct", expected="shape (networks, draws, samples), not empty", got=correct.shape)
    _, draws, samples = correct.shape
    accuracy = float(correct.mean())
    padded = np.append(correct.mean(axis=(0, 1)), [0.0, 1.0])
    binomial = float(padded.mean() * (1 - padded.mean()))
    # Relative to one draw of one network: 1 where draws do not differ, smaller the more they do.
    variance = float(padded.var()) / binomial / samples
    score = float(stats.norm.isf((1 - level) / 2))
    if draws_are_clusters and draws > 1:
        between = float(correct.mean(axis=(0, 2)).var(ddof=1)) / draws / binomial
        variance += between
        if between > 0:
            score = float(stats.t.isf((1 - level) / 2, (draws - 1) * (variance / between) ** 2))
    spread = score**2 * variance
    centre = (accuracy + spread / 2) / (1 + spread)
    margin = (spread * (accuracy * (1 - accuracy) + spread / 4)) ** 0.5 / (1 + spread)
    return max(0.0, centre - margin), min(1.0, centre + margin)
