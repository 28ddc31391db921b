"""One-sided confidence bounds of an accuracy, an area or a difference: over samples, noise draws and trained networks.

What is estimated is the mean over the population of images, all noise draws, and, where several networks were trained,
all networks that the training could have given. Its error has three parts, each with a margin of its own:

* *Samples*, with the draws' noise that is each sample's own. For values in [0, 1] (the share of draws that a sample
  was right in): the binomial bound of Clopper and Pearson (1934, doi 10.1093/biomet/26.4.404) at the effective sample
  size n p (1 − p) / v, after Korn and Graubard (1998, Survey Methodology 24(2):193-201). Here v is the variance of a
  sample's value, with one right and one wrong sample added, so that few samples without an error do not look like
  certainty. With one draw of one network the effective sample size is n, and the bound is exact.
* *Draws* that all samples share (noise on weights), and
* *Networks*, which hold their draws: the wider of two bounds over the means of the draws or networks. One is Student's
  t. It takes means to be spread normally, and is too short where they are skewed: accuracies near their ceiling, of
  which most are good and some fall behind. The other takes their log-odds to be normal, and bounds the mean of the
  values, not that of the log-odds: the log-odds' mean by Student's t, their variance by chi-squared, joined as below.
  That is the method of Zou, Huo and Taleban (2009, doi 10.1002/env.919) for a lognormal mean.

A difference, in [−1, 1], is what is gained less what is lost; both are bounded as above. Margins are joined by "square
and add" (Newcombe 1998; Zou and Donner 2008, doi 10.1002/sim.3095): the root of the sum of squares, with the
correlation of gains and losses, which of one sample are never both there, and of networks is what they show.

Joining the parts' margins, instead of their variances at Satterthwaite's degrees of freedom, costs little and holds
where the spread of three networks is small by luck. tests/test_bounds.py simulates both error rates. No bound knows of
what happens in fewer networks or draws of weights than one in as many as were seen, such as a training that diverges.
docs/gate.md has the rates and the widths of this bound and of those that it was chosen from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from robustcheck.errors import InvalidValueError

Values = NDArray[np.float64]
Outcomes = NDArray[np.float64] | NDArray[np.bool_]
Side = Literal["below", "above"]

_NORMAL = special.ndtri((np.arange(400) + 0.5) / 400)
"""Quantiles of the normal distribution, whose mean of a function is that of the distribution, even of a step."""


@dataclass(frozen=True)
class Scores:
    """What one network did with each test sample.

    Attributes:
        share: (samples,) mean over draws: in [0, 1], or in [−1, 1] for a difference.
        of_draws: (draws,) mean over samples.
        gained: (draws,) mean over samples of what is above 0: all of a share; a difference has lost the rest.
        chance: variance of the mean over samples that the draws' own noise makes; None where one draw cannot show it.
    """

    share: Values
    of_draws: Values
    gained: Values
    chance: float | None

    @property
    def mean(self) -> float:
        """Over samples and draws."""
        return float(self.share.mean())


@dataclass(frozen=True)
class Margin:
    """How far a bound is from the estimate: the root of the sum of the parts' squares.

    Attributes:
        samples: what more samples alone make smaller.
        chance: noise of each sample's own draws; more draws or samples make it smaller.
        draws: noise that all samples of a draw share; infinite where one draw cannot show it.
        networks: what trained networks differ in; only more of them make it smaller.
    """

    samples: float
    chance: float = 0.0
    draws: float = 0.0
    networks: float = 0.0

    @property
    def total(self) -> float:
        """Of all parts."""
        return math.hypot(self.samples, self.chance, self.draws, self.networks)


def combined(terms: Sequence[tuple[float, Outcomes, bool]]) -> Scores:
    """A weighted sum of what one network did under several conditions, sample by sample and draw by draw.

    Args:
        terms: weight, values (draws, samples) in [0, 1], and whether they are noisy; what is not has one draw, which
            stands beside every draw of the others. Where numbers of draws differ, the mean is over all of them, and
            its error is judged by the draws that all have.

    Raises:
        InvalidValueError: no terms, or different numbers of samples.

    >>> clean, noisy = np.array([[1.0, 1.0]]), np.array([[1.0, 0.0], [1.0, 1.0]])
    >>> drop = combined([(1, clean, False), (-1, noisy, True)])
    >>> drop.share, drop.of_draws
    (array([0. , 0.5]), array([0.5, 0. ]))
    """
    shapes = [np.shape(values) for _, values, _ in terms]
    if not terms or any(len(shape) != 2 or 0 in shape or shape[1] != shapes[0][1] for shape in shapes):
        raise InvalidValueError("values", expected="shape (draws, samples), of the same samples", got=shapes)
    share = np.sum([weight * np.mean(values, axis=0) for weight, values, _ in terms], axis=0)
    draws = min((len(values) for _, values, noisy in terms if noisy), default=0)
    still = np.sum([weight * values[0] for weight, values, noisy in terms if not noisy], axis=0)
    if draws == 0:
        return Scores(share, share.mean(keepdims=True), np.maximum(share, 0).mean(keepdims=True), 0.0)
    together = still + sum(weight * values[:draws] for weight, values, noisy in terms if noisy)
    own = float(together.var(axis=0, ddof=1).mean()) if draws > 1 else None
    gained = np.maximum(together, 0).mean(axis=1)
    return Scores(share, together.mean(axis=1), gained, None if own is None else own / draws / len(share))


def margin(
    networks: Sequence[Scores],
    side: Side,
    alpha: float,
    *,
    difference: bool = False,
    shared_draws: bool = False,
    skewed: bool = True,
) -> Margin:
    """How far the mean over networks and samples may be from its estimate, at most, on one side.

    Args:
        networks: one or more, on the same samples.
        side: `below` or `above` the estimate.
        alpha: chance that the truth is farther out, 0 < alpha < 0.5.
        difference: values are in [−1, 1], not in [0, 1].
        shared_draws: all samples of a draw share noise. Several networks show it in what they differ.
        skewed: whether the bound also has to hold where networks are mostly good and some far behind; else it is
            Student's t alone.

    Raises:
        InvalidValueError: no networks, different numbers of samples, or alpha out of its range.

    Where 60 samples of 60 are right, the lower bound is 0.05^(1/60):

    >>> right = combined([(1, np.ones((1, 60)), False)])
    >>> round(1 - margin([right], "below", 0.05).total, 4)
    0.9513
    """
    if not networks or len({len(each.share) for each in networks}) != 1:
        raise InvalidValueError("networks", expected="one or more, on the same samples", got=len(networks))
    if not 0 < alpha < 0.5:
        raise InvalidValueError("alpha", expected="0 < alpha < 0.5", got=alpha)
    share = np.mean([each.share for each in networks], axis=0)
    # What lies above a value lies below its opposite.
    towards = share if side == "below" else -share
    if difference:
        whole = _difference_margin(towards, alpha)
    else:
        whole = _share_margin(towards if side == "below" else 1 - share, alpha)
    chance = sum(each.chance or 0.0 for each in networks) / len(networks) ** 2
    variance = _padded(share).var() / len(share)
    part = min(1.0, chance / variance)
    across = draws = 0.0
    if len(networks) > 1:
        means, gained = (np.array(each) for each in zip(*map(_mean_and_gain, networks), strict=True))
        across = _population_margin(means, gained, side, len(share), alpha, difference=difference, skewed=skewed)
    elif shared_draws:
        means, gained = networks[0].of_draws, networks[0].gained
        draws = _population_margin(means, gained, side, len(share), alpha, difference=difference, skewed=skewed)
    return Margin(whole * math.sqrt(1 - part), whole * math.sqrt(part), draws, across)


def joined(a: Margin, b: Margin) -> Margin:
    """The margin of a difference of two independent estimates: the one's on this side, the other's on the far side.

    >>> joined(Margin(0.03), Margin(0.04)).total
    0.05
    """
    return Margin(
        math.hypot(a.samples, b.samples),
        math.hypot(a.chance, b.chance),
        math.hypot(a.draws, b.draws),
        math.hypot(a.networks, b.networks),
    )


def more_draws(margin: Margin, gap: float) -> float:
    """By what the number of draws has to be multiplied for the margin to be as small as the gap; inf where none does.

    >>> round(more_draws(Margin(samples=0.03, chance=0.05), gap=0.05), 4)
    1.5625
    """
    return _factor(math.hypot(margin.chance, margin.draws), math.hypot(margin.samples, margin.networks), gap)


def more_samples(margin: Margin, gap: float) -> float:
    """By what the number of samples has to be multiplied, with as many draws; inf where none is enough.

    >>> more_samples(Margin(samples=0.04, chance=0.03), gap=0.025)
    4.0
    """
    return _factor(math.hypot(margin.samples, margin.chance), math.hypot(margin.draws, margin.networks), gap)


def more_networks(margin: Margin, gap: float, networks: int, alpha: float) -> float:
    """By what the number of networks has to be multiplied; Student's t is counted in. Inf where none is enough.

    Where networks are skewed, their margin shrinks faster than Student's t: fewer may be enough.

    >>> more_networks(Margin(samples=0.01, networks=0.05), gap=0.02, networks=3, alpha=0.05)
    3.333...
    """
    others = math.hypot(margin.samples, margin.chance, margin.draws)
    if networks < 2 or gap <= others:
        return math.inf
    left = math.sqrt(gap**2 - others**2)
    one = margin.networks * math.sqrt(networks) / _student(networks - 1, alpha)
    for count in range(networks, 1001):
        if one * _student(count - 1, alpha) / math.sqrt(count) <= left:
            return count / networks
    return math.inf


def _factor(shrinks: float, stays: float, gap: float) -> float:
    return shrinks**2 / (gap**2 - stays**2) if gap > stays else math.inf


def _padded(values: Values) -> Values:
    """With one wrong and one right sample more."""
    return np.append(values, [0.0, 1.0])


def _share_margin(values: Values, alpha: float) -> float:
    """How far the mean of values in [0, 1] is above its lower bound."""
    mean, padded = float(values.mean()), _padded(values)
    middle = float(padded.mean())
    effective = len(values) * middle * (1 - middle) / float(padded.var())
    right = effective * mean
    # A beta distribution needs a success; without one the bound is 0.
    lower = float(special.betaincinv(right, effective - right + 1, alpha)) if right > 0 else 0.0
    return max(0.0, mean - lower)


def _difference_margin(values: Values, alpha: float) -> float:
    """The same for values in [−1, 1]: gains may be fewer, or losses more."""
    gained, lost = np.maximum(values, 0), np.maximum(-values, 0)
    return _join(_share_margin(gained, alpha), _share_margin(1 - lost, alpha), gained, lost)


def _join(fewer: float, more: float, gained: Values, lost: Values) -> float:
    """The margin of a difference, of those of its gains and its losses and of how these are correlated."""
    spread = float(gained.std() * lost.std())
    correlation = float(np.mean((gained - gained.mean()) * (lost - lost.mean()))) / spread if spread > 0 else 0.0
    return math.sqrt(max(0.0, fewer**2 + more**2 - 2 * correlation * fewer * more))


def _mean_and_gain(network: Scores) -> tuple[float, float]:
    return network.mean, float(np.maximum(network.share, 0).mean())


def _population_margin(
    means: Values, gained: Values, side: Side, samples: int, alpha: float, *, difference: bool, skewed: bool
) -> float:
    """How far the mean of all draws or networks may be from that of those seen; infinite for one.

    Means move by whole samples, so their standard deviation is taken as one sample at least.
    """
    if len(means) == 1:
        return math.inf
    student = _student_margin(means, alpha, least=1.0 / samples)
    if not skewed:
        return student
    if not difference:
        return max(student, _skewed_margin(means if side == "below" else 1 - means, samples, alpha))
    up, down = (gained, gained - means) if side == "below" else (gained - means, gained)
    fewer, more = (max(_student_margin(each, alpha), _skewed_margin(each, samples, alpha)) for each in (up, 1 - down))
    return max(student, _join(fewer, more, up, down))


def _student_margin(means: Values, alpha: float, *, least: float = 0.0) -> float:
    spread = max(float(means.std(ddof=1)), least)
    return _student(len(means) - 1, alpha) * spread / math.sqrt(len(means))


def _skewed_margin(means: Values, samples: int, alpha: float) -> float:
    """How far the mean of values in [0, 1] is above its lower bound where their log-odds are normal."""
    freedom = len(means) - 1
    log_odds = special.logit((means * samples + 0.5) / (samples + 1))
    centre, spread = float(log_odds.mean()), float(log_odds.std(ddof=1))
    middle = _mean_of_odds(centre, spread)
    lower = centre - _student(freedom, alpha) * spread / math.sqrt(len(means))
    wider = spread * math.sqrt(freedom / float(special.chdtri(freedom, 1 - alpha)))
    by_centre = middle - _mean_of_odds(lower, spread)
    # A wider spread lowers means above one half; below it, Student's t is the wider bound whatever the spread.
    by_spread = max(0.0, middle - _mean_of_odds(centre, wider))
    return float(means.mean()) - middle + math.hypot(by_centre, by_spread)


def _mean_of_odds(centre: float, spread: float) -> float:
    """Mean of values whose log-odds are normal."""
    return float(special.expit(centre + spread * _NORMAL).mean())


def _student(freedom: int, alpha: float) -> float:
    return -float(special.stdtrit(freedom, alpha))
