"""Ranks activations by the accuracies of their trained networks, and says which differences are real.

How the pairs are tested, and the error rates of that test, is in `comparison`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustcheck.analysis import comparison
from robustcheck.errors import InvalidValueError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """The difference of two activations, `mean(a) − mean(b)`, in accuracy."""

    a: str
    b: str
    difference: float
    lower: float
    """Lower end of an interval that holds for all pairs at once, in [−1, 1]."""
    upper: float
    p_value: float
    """Corrected for all pairs."""
    significant: bool
    seeds_needed: int | None
    """Seeds that would find this difference, if it is real, with 80 % power; None above 1000, or where it is zero."""


@dataclass(frozen=True)
class Ranking:
    """Activations in the order given, and what their networks allow to be said about them."""

    names: tuple[str, ...]
    mean: tuple[float, ...]
    """Mean accuracy over the seeds."""
    rank: tuple[int, ...]
    """1 + the number of activations that are significantly better: ties share a rank."""
    pairs: tuple[Pair, ...]
    winner: str | None
    """Significantly better than all others."""
    leaders: tuple[str, ...]
    """Not significantly worse than the best mean."""
    inference: bool
    """False for one seed or one activation: then nothing is significant and the intervals are [−1, 1]."""
    standard_error: float | None
    """Of a difference of two means, from the variance of the whole block; None without inference."""
    degrees_of_freedom: int
    """(activations − 1)(seeds − 1)."""
    detectable_difference: float | None
    """The true difference of one pair that this many seeds find with 80 % power; None where that is above 1."""
    seeds_needed: int | None
    """Seeds that find the difference of the two best means with 80 % power; None above 1000 or for equal means."""


def rank(accuracy: Array, names: Sequence[str], *, samples: int, alpha: float = 0.05) -> Ranking:
    """Rank activations, with the trained network as the unit and all pairs corrected.

    Args:
        accuracy: `(seeds, activations)`, float64 in [0, 1]; a row is a block, whose networks share initialisation and
            noise. A network that diverged counts with the accuracy it has.
        names: one an activation, all different.
        samples: number of test samples behind each accuracy; its resolution bounds the error variance from below.
        alpha: chance that any pair of equal activations is declared different.

    Raises:
        InvalidValueError: a shape, name or number is not as above.

    >>> block = np.array([[0.92, 0.96, 0.97], [0.91, 0.95, 0.955], [0.93, 0.97, 0.97], [0.92, 0.962, 0.965]])
    >>> ranking = rank(block, ["relu", "gelu", "silu"], samples=360)
    >>> ranking.rank, ranking.winner, ranking.leaders
    ((3, 1, 1), None, ('gelu', 'silu'))
    """
    accuracy = _checked(accuracy, names, samples, alpha)
    seeds, activations = accuracy.shape
    mean = accuracy.mean(axis=0)
    first, second = np.triu_indices(activations, 1)
    difference = mean[first] - mean[second]
    half_width, p_value = np.full(len(first), 2.0), np.ones(len(first))
    error = detectable = None
    needed: list[int | None] = [None] * len(first)
    inference = seeds > 1 and activations > 1
    if inference:
        found = comparison.differences(accuracy, samples)
        difference = found.mean
        half_width = comparison.half_widths(found, seeds=seeds, activations=activations, alpha=alpha)
        p_value = comparison.p_values(found, seeds=seeds, activations=activations)
        error = float(found.pooled_error)
        typical = float(np.median(found.own_error))
        detectable = comparison.detectable_difference(error, typical, seeds=seeds, activations=activations, alpha=alpha)
        needed = _seeds_needed(found, typical, seeds, activations, alpha)
    significant = np.abs(difference) > half_width
    better = np.zeros((activations, activations), dtype=bool)
    better[first, second] = significant & (difference > 0)
    better[second, first] = significant & (difference < 0)
    best = int(mean.argmax())
    wins = better.sum(axis=1)
    runner_up = sorted(np.argsort(-mean, kind="stable")[:2].tolist())
    top_two = [n for a, b, n in zip(first, second, needed, strict=True) if [a, b] == runner_up]
    pairs = zip(first, second, difference, half_width, p_value, significant, needed, strict=True)
    return Ranking(
        names=tuple(names),
        mean=tuple(mean.tolist()),
        rank=tuple((1 + better.sum(axis=0)).tolist()),
        pairs=tuple(
            Pair(names[a], names[b], float(d), max(-1.0, float(d - h)), min(1.0, float(d + h)), float(p), bool(s), n)
            for a, b, d, h, p, s, n in pairs
        ),
        winner=names[best] if activations > 1 and wins[best] == activations - 1 else None,
        leaders=tuple(name for name, worse in zip(names, better[best], strict=True) if not worse),
        inference=inference,
        standard_error=error,
        degrees_of_freedom=(activations - 1) * (seeds - 1),
        detectable_difference=detectable if detectable is not None and detectable <= 1 else None,
        seeds_needed=top_two[0] if top_two else None,
    )


def exact_ties(names: Sequence[str], accuracy: Array) -> tuple[tuple[str, ...], ...]:
    """Groups of activations with the same accuracies in all seeds, such as `aptx(beta=0.5)` and `silu`.

    `accuracy` is `(seeds, activations)`.

    >>> exact_ties(["relu", "silu", "aptx(beta=0.5)"], np.array([[0.9, 0.8, 0.8], [0.9, 0.9, 0.9]]))
    (('silu', 'aptx(beta=0.5)'),)
    """
    groups: dict[tuple[float, ...], list[str]] = {}
    for name, column in zip(names, accuracy.T.tolist(), strict=True):
        groups.setdefault(tuple(column), []).append(name)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def area(points: Array, accuracy: Array) -> Array | None:
    """Area under accuracy over error probability, divided by the range: a mean accuracy over that range.

    Trapezoid rule; None for a single point.

    Args:
        points: `(e,)` error probabilities, in any order, all different.
        accuracy: `(..., e)`.

    Returns:
        `(...)`.

    >>> area(np.array([0.2, 0.4, 0.8]), np.array([1.0, 0.8, 0.6])).round(4)
    np.float64(0.7667)
    """
    if len(np.unique(points)) != len(points) or np.shape(accuracy)[-1:] != (len(points),):
        raise InvalidValueError(
            "points",
            expected="different error probabilities, one for each accuracy",
            got=f"{list(points)} for accuracies of shape {np.shape(accuracy)}",
        )
    if len(points) < 2:
        return None
    order = np.argsort(points)
    width, height = np.diff(points[order]), accuracy[..., order]
    trapezoids = width * (height[..., 1:] + height[..., :-1]) / 2
    return np.asarray(trapezoids.sum(axis=-1) / width.sum())[()]


def _seeds_needed(
    found: comparison.Differences, typical: float, seeds: int, activations: int, alpha: float
) -> list[int | None]:
    """For each pair. A variance from few seeds that is small by luck must not promise too much."""
    return [
        comparison.seeds_needed(
            abs(float(difference)),
            seeds * max(float(own), float(found.pooled_error)) ** 2,
            seeds * max(float(own), typical) ** 2,
            activations=activations,
            alpha=alpha,
        )
        for difference, own in zip(found.mean, found.own_error, strict=True)
    ]


def _checked(accuracy: Array, names: Sequence[str], samples: int, alpha: float) -> Array:
    accuracy = np.asarray(accuracy, dtype=np.float64)
    if accuracy.ndim != 2 or accuracy.shape[0] < 1 or accuracy.shape[1] != len(names) or not len(names):
        raise InvalidValueError("accuracy", expected=f"shape (seeds, {len(names)} activations)", got=accuracy.shape)
    if not (np.isfinite(accuracy).all() and accuracy.min() >= 0 and accuracy.max() <= 1):
        raise InvalidValueError(
            "accuracy",
            expected="finite numbers in [0, 1]",
            got=accuracy.tolist(),
            remedy="a diverged network counts with the accuracy it has",
        )
    if len(set(names)) != len(names):
        raise InvalidValueError("names", expected="different names", got=list(names))
    if samples < 1:
        raise InvalidValueError("samples", expected="at least 1", got=samples)
    if not 0 < alpha < 1:
        raise InvalidValueError("alpha", expected="0 < alpha < 1", got=alpha)
    return accuracy
