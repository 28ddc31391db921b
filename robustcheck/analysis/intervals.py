"""Confidence intervals of an accuracy: over trained networks, and over samples and draws for these networks only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from robustcheck.errors import InvalidValueError

Correct = NDArray[np.bool_]
"""Which samples a network got right, (draws, samples)."""


def network_interval(values: NDArray[np.float64], samples: int, level: float = 0.95) -> tuple[float, float] | None:
    """Interval for the mean accuracy over trained networks: Student's t, clipped to [0, 1]; None for one network.

    Accuracies move by whole samples, so networks that agree exactly do not show that the next one will: no standard
    deviation is taken below `least_spread`, as in `comparison.differences`. Of 360 samples with on average one wrong
    (Poisson) the plain interval holds for two networks in 83 % of cases, for one in five wrong in 30 %, since they tie
    so often; with the least spread both hold in at least 95 %, for two, three and five networks alike (simulated).

    Args:
        values: `(seeds,)`, one accuracy a network.
        samples: number of test samples behind each of them.
        level: probability that the interval holds.

    Raises:
        InvalidValueError: another shape, nothing there, or fewer than one sample.

    >>> network_interval(np.array([0.90, 0.92, 0.94]), samples=360)
    (0.8703..., 0.9696...)
    >>> network_interval(np.array([0.90, 0.90]), samples=360)
    (0.8750..., 0.9249...)
    """
    if np.ndim(values) != 1 or not len(values):
        raise InvalidValueError("accuracies of networks", expected="shape (seeds,)", got=np.shape(values))
    least = least_spread(samples)
    if len(values) == 1:
        return None
    spread = max(float(np.std(values, ddof=1)), least)
    margin = stats.t.isf((1 - level) / 2, len(values) - 1) * spread / len(values) ** 0.5
    mean = float(np.mean(values))
    return max(0.0, float(mean - margin)), min(1.0, float(mean + margin))


def least_spread(samples: int) -> float:
    """The least standard deviation between networks that their accuracies on so many test samples can show.

    It is that of one sample decided differently.

    >>> least_spread(360)
    0.002777...
    """
    if samples < 1:
        raise InvalidValueError("samples", expected="at least 1", got=samples)
    return 1.0 / samples


def sample_interval(
    correct: Correct | Sequence[Correct], *, draws_are_clusters: bool, level: float = 0.95
) -> tuple[float, float]:
    """Interval for the accuracy of these networks only, over samples and draws.

    Wilson's interval (E. B. Wilson 1927, doi 10.1080/01621459.1927.10502953) with an effective sample size: samples are
    independent, the draws and networks of a sample are not, so the variance is that of the samples' mean correctness.
    One wrong and one right sample are added to that variance, lest a hundred draws of a few samples without an error
    look like a hundred times as many samples. With one network and one draw the interval is Wilson's own.

    Where weight noise is shared by all samples of a draw, the variance between draws is added, with Student's t at
    Satterthwaite's degrees of freedom. One draw shows no such variance: the interval then holds for that draw only.

    Networks may have unequal numbers of draws, as a precision makes them; each counts the same.

    Args:
        correct: `(networks, draws, samples)`, or `(draws, samples)` for each network.
        draws_are_clusters: whether all samples of a draw share noise.
        level: probability that the interval holds.

    Raises:
        InvalidValueError: nothing there, other shapes, or networks with different samples.

    >>> sample_interval(np.ones((3, 5, 100), dtype=bool), draws_are_clusters=False)
    (0.963..., 1.0)
    """
    networks = _checked(correct)
    if len({len(each) for each in networks}) == 1:
        block = np.stack(networks)
        accuracy, share = float(block.mean()), block.mean(axis=(0, 1))
        of_draws, draws = block.mean(axis=(0, 2)), block.shape[1]
        between = float(of_draws.var(ddof=1)) / draws if draws > 1 else 0.0
        freedom = float(draws - 1)
    else:
        share = np.mean([each.mean(axis=0) for each in networks], axis=0)
        accuracy = float(share.mean())
        between, freedom = _between_draws(networks)
    padded = np.append(share, [0.0, 1.0])
    binomial = float(padded.mean() * (1 - padded.mean()))
    # Relative to one draw of one network: 1 where draws do not differ, smaller the more they do.
    variance = float(padded.var()) / binomial / len(share)
    score = float(stats.norm.isf((1 - level) / 2))
    if draws_are_clusters and between > 0:
        between /= binomial
        variance += between
        score = float(stats.t.isf((1 - level) / 2, freedom * (variance / between) ** 2))
    return _score_interval(accuracy, score**2 * variance)


def sample_error(correct: Correct | Sequence[Correct], level: float = 0.95) -> float:
    """What the number of test samples leaves open, however many draws are taken: half an interval, in accuracy.

    As `sample_interval`, but for the share of the samples' variance that the draws' own chance makes, which is taken
    off: of a sample that is right in k of n draws, k (n − k) / n² / (n − 1). What all samples of a draw share (weight
    noise) is in that too, though it does not make samples differ; so the variance of the draws' means is put back.

    Args:
        correct: `(networks, draws, samples)`, or `(draws, samples)` for each network.
        level: probability that the interval holds.

    >>> always = np.arange(359) < 334
    >>> round(sample_error(np.broadcast_to(always, (1, 5, 359))), 3)
    0.027
    """
    networks = _checked(correct)
    shares = np.stack([each.mean(axis=0) for each in networks])
    spare = np.array([max(1, len(each) - 1) for each in networks])
    chance = float(((shares * (1 - shares)).mean(axis=1) / spare).sum()) / len(networks) ** 2
    shared = sum(float(each.mean(axis=1).var(ddof=1)) / len(each) for each in networks if len(each) > 1)
    share, samples = shares.mean(axis=0), shares.shape[1]
    own = max(0.0, float(share.var()) - chance + shared / len(networks) ** 2)
    # One wrong and one right sample are added, as in `sample_interval`.
    accuracy = float(share.mean())
    middle = (samples * accuracy + 1) / (samples + 2)
    added = middle**2 + (1 - middle) ** 2
    variance = (samples * (own + (accuracy - middle) ** 2) + added) / (samples + 2)
    score = float(stats.norm.isf((1 - level) / 2))
    lower, upper = _score_interval(accuracy, score**2 * variance / (middle * (1 - middle)) / samples)
    return (upper - lower) / 2


def _checked(correct: Correct | Sequence[Correct]) -> list[Correct]:
    networks = [np.asarray(each) for each in correct]
    shapes = [each.shape for each in networks]
    if not networks or any(each.ndim != 2 or not each.size for each in networks) or len({n for _, n in shapes}) != 1:
        raise InvalidValueError(
            "correct", expected="shape (networks, draws, samples), not empty, or the last two for each", got=shapes
        )
    return networks


def _between_draws(networks: Sequence[Correct]) -> tuple[float, float]:
    """The variance that draws give the mean over networks, and its degrees of freedom (Satterthwaite)."""
    own = [(float(each.mean(axis=1).var(ddof=1)) / len(each), len(each) - 1) for each in networks if len(each) > 1]
    total = sum(variance for variance, _ in own)
    if total == 0:
        return 0.0, 1.0
    freedom = total**2 / sum(variance**2 / freedom for variance, freedom in own)
    return total / len(networks) ** 2, freedom


def _score_interval(accuracy: float, spread: float) -> tuple[float, float]:
    """Wilson's interval; `spread` is the squared score over the effective number of samples."""
    centre = (accuracy + spread / 2) / (1 + spread)
    margin = (spread * (accuracy * (1 - accuracy) + spread / 4)) ** 0.5 / (1 + spread)
    return max(0.0, centre - margin), min(1.0, centre + margin)
