"""How gradient errors compare: ratios to a reference with intervals, along an interpolation, against p and EP.

The unit is the repetition: independent noise on one grid, the same for both activations of a ratio.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

from robustcheck.activations.catalogue import Activation, activation
from robustcheck.analysis.gradients import (
    Errors,
    GradientErrors,
    OnStep,
    curvature,
    derivative_jump,
    gradient_errors,
    near_zero_codes,
)
from robustcheck.errors import InvalidValueError
from robustcheck.sensing.error_probability import noise_sigma

_FLAT: Final = 1e-4  # a slope at 0 that says nothing of the largest error, which the curve beside 0 makes


@dataclass(frozen=True)
class Estimate:
    """A mean over repetitions with its 95 % interval; the bounds are None where there is one repetition."""

    value: float
    lower: float | None
    upper: float | None


@dataclass(frozen=True)
class Ratio:
    """The reference's gradient error over another activation's: of the maxima and of the means of a region.

    None where the other one makes no error at all in some repetition.
    """

    maximum: Estimate | None
    mean: Estimate | None


@dataclass(frozen=True)
class ScalingPoint:
    """The ratio near zero at one p and EP.

    Attributes:
        steps: p.
        ep: error probability.
        ratio: of the errors near zero.
        scaled: the ratio of maxima × c(EP)/p, with c = σ·p; a constant if the ratio grew like p/c.
        slope: d log(ratio of maxima)/d log p from the p before; None at the first.
        expected: what `expected_ratio` gives; None where it says nothing.
    """

    steps: int
    ep: float
    ratio: Ratio
    scaled: Estimate | None
    slope: Estimate | None
    expected: float | None


def estimate(values: Sequence[float], level: float = 0.95) -> Estimate:
    """The mean with Student's t interval.

    >>> estimate([1.0, 2.0, 3.0])
    Estimate(value=2.0, lower=-0.484..., upper=4.484...)
    """
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or not len(found):
        raise InvalidValueError("values", expected="at least one", got=found.shape)
    mean = float(found.mean())
    if len(found) == 1:
        return Estimate(mean, None, None)
    margin = float(stats.t.isf((1 - level) / 2, len(found) - 1) * found.std(ddof=1) / math.sqrt(len(found)))
    return Estimate(mean, mean - margin, mean + margin)


def ratio(reference: Errors, other: Errors) -> Ratio:
    """The mean over repetitions of reference / other, paired since both saw the same noise.

    >>> ratio(Errors((1.0, 1.0), (0.3, 0.3)), Errors((0.5, 0.25), (0.1, 0.1))).maximum.value
    3.0
    """

    def of(above: Sequence[float], below: Sequence[float]) -> Estimate | None:
        return estimate(np.divide(above, below).tolist()) if min(below) > 0 else None

    return Ratio(of(reference.maximum, other.maximum), of(reference.mean, other.mean))


def expected_ratio(reference: Activation, other: Activation, steps: int, ep: float) -> float | None:
    """What extreme-value theory makes of the ratio of maxima near zero: p/c · J/(|f″(0)| √(2 ln N)).

    The reference's largest error is its derivative's jump J at 0, once any product changes sides. The other's, without
    a jump, is its slope |f″(0)| times the largest deviation of the N products near zero, which for N independent normal
    deviations of scale σ = c/p is about σ√(2 ln N) (Leadbetter, Lindgren and Rootzén 1983, doi
    10.1007/978-1-4612-5449-2, theorem 1.5.3). N = (2⌊p/4⌋ + 1)² grows with p, and so the ratio grows less than p does.
    Rounding, and the noise of x and w, are left out.

    Returns:
        The ratio; None where the reference has no jump, or the other has one or no curvature.

    >>> from robustcheck.activations.catalogue import activation
    >>> round(expected_ratio(activation("relu"), activation("gelu"), 256, 0.5), 1)
    98.2
    """
    jump, slope = abs(derivative_jump(reference)), abs(curvature(other))
    if jump == 0 or slope < _FLAT or derivative_jump(other) != 0:
        return None
    codes = near_zero_codes(steps)
    products = (codes.stop - codes.start) ** 2
    if products == 1:
        return None
    return jump / (slope * noise_sigma(ep, steps) * math.sqrt(2 * math.log(products)))


def jump_to_smooth(points: Sequence[ScalingPoint]) -> bool:
    """Whether the ratios are of a derivative that jumps over one that does not, which `expected_ratio` speaks of.

    >>> from robustcheck.activations.catalogue import activation
    >>> jump_to_smooth(scaling(activation("gelu"), activation("silu"), steps=(16,), eps=(0.5,), repetitions=1))
    False
    """
    return any(each.expected is not None for each in points)


def scaling(
    reference: Activation,
    other: Activation,
    *,
    steps: Sequence[int] = (16, 32, 64, 128, 256, 512, 1024),
    eps: Sequence[float] = (0.2, 0.5, 0.8),
    repetitions: int = 20,
    seed: int = 0,
    progress: OnStep = lambda *_: None,
) -> tuple[ScalingPoint, ...]:
    """The ratio of the errors near zero against p and EP, and how steeply it grows with p.

    Args:
        reference: whose errors are divided.
        other: by whose they are divided.
        steps: ascending.
        eps: error probabilities, in (0, 1).
        repetitions: at least 1; slopes have intervals from 2 on.
        seed: in [0, 2^63).
        progress: called with points done, and all.

    Returns:
        For each EP, a point for each p.

    >>> from robustcheck.activations.catalogue import activation
    >>> found = scaling(activation("relu"), activation("gelu"), steps=(16, 64), eps=(0.5,), repetitions=5)
    >>> found[0].slope is None, 0.5 < found[1].slope.value < 1
    (True, True)
    """
    if list(steps) != sorted(set(steps)):
        raise InvalidValueError("steps", expected="ascending numbers", got=tuple(steps))
    points: list[ScalingPoint] = []
    for ep in eps:
        before: tuple[int, list[float]] | None = None
        for p in steps:
            pair = gradient_errors([reference, other], steps=p, ep=ep, repetitions=repetitions, seed=seed, full=False)
            errors = pair[0].near_zero, pair[1].near_zero
            compared = ratio(*errors)
            scaled = slope = None
            now = None
            if compared.maximum is not None and min(errors[0].maximum) > 0:
                of_each = np.divide(errors[0].maximum, errors[1].maximum)
                scaled = estimate((of_each * noise_sigma(ep, p)).tolist())
                now = p, np.log(of_each).tolist()
                if before is not None:
                    rises = np.subtract(now[1], before[1]) / math.log(p / before[0])
                    slope = estimate(rises.tolist())
            before = now
            points.append(ScalingPoint(p, ep, compared, scaled, slope, expected_ratio(reference, other, p, ep)))
            progress(len(points), len(eps) * len(steps))
    return tuple(points)


@dataclass(frozen=True)
class Interpolated:
    """The errors at one place of the interpolation from ReLU (i = 0) to a smooth activation (i = 1) of steepness s."""

    i: float
    s: float
    errors: GradientErrors


def interpolation_sweep(
    *,
    i: Sequence[float] = (0, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95, 0.98, 1),
    s: Sequence[float] = (1, 1.5, 2, 3),
    steps: int = 256,
    ep: float = 0.5,
    repetitions: int = 20,
    seed: int = 0,
    progress: OnStep = lambda *_: None,
) -> tuple[Interpolated, ...]:
    """The errors near zero of `interpolate(relu, gelu, i, s)` (arXiv 2402.02593), all under the same noise.

    Returns:
        For each s, one for each i.

    >>> start, end = interpolation_sweep(i=(0, 1), s=(1,), steps=64, repetitions=1)
    >>> start.errors.near_zero.maximum, end.errors.near_zero.maximum[0] < 0.1
    ((1.0,), True)
    """
    places = [(float(share), float(steepness)) for steepness in s for share in i]
    specs = [activation(f"interpolate(relu, gelu, i={share!r}, s={steepness!r})") for share, steepness in places]
    found = gradient_errors(
        specs, steps=steps, ep=ep, repetitions=repetitions, seed=seed, full=False, progress=progress
    )
    return tuple(
        Interpolated(share, steepness, errors) for (share, steepness), errors in zip(places, found, strict=True)
    )
