"""How wrong noise and rounding make an activation's derivative: the gradient error on a grid of products x·w.

The analysis of arXiv 2402.02593. Inputs x and weights w are the 2p + 1 codes of [−1, 1]. Clean is P₀ = x·w; noisy is
x̃, w̃ = reduce(clamp(· + n)), then P̃ = reduce(clamp(x̃·w̃ + n)), with n Gaussian of the σ that gives the error
probability EP at p steps. The gradient error is |f′(P̃) − f′(P₀)|. As in a layer, one x̃ meets every w̃; only the noise of
the product is a new one for each pair. "Near zero" is the region |x|, |w| <= ¼ of the same grid, with the same noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robustcheck.activations.catalogue import Activation
from robustcheck.activations.curves import evaluated
from robustcheck.errors import InvalidValueError
from robustcheck.sensing.error_probability import noise_sigma
from robustcheck.sensing.kernels.reference import round_to_codes
from robustcheck.sensing.noise_field import noise_field
from robustcheck.sensing.random import stream_key

Region = Literal["full", "near zero"]
REGIONS: Final[tuple[Region, ...]] = get_args(Region)
MOST_STEPS: Final = 4096
"""A grid of (2p + 1)² products grows fast: 67 million for this p."""

_NEAR_ZERO: Final = 4  # |x|, |w| <= 1/4
_AT_ONCE: Final = 2**15  # products of a block of rows: what is made of them fits a cache

_LEAST_JUMP: Final = 1e-6

OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Errors:
    """The largest and the mean gradient error over a region's products; one number a repetition in each."""

    maximum: tuple[float, ...]
    mean: tuple[float, ...]


@dataclass(frozen=True)
class GradientErrors:
    """The gradient errors of one activation.

    Attributes:
        activation: canonical spec.
        steps: p.
        ep: error probability.
        full: over the whole grid; None where it was not asked for.
        near_zero: over |x|, |w| <= ¼.
    """

    activation: str
    steps: int
    ep: float
    full: Errors | None
    near_zero: Errors

    def region(self, name: Region) -> Errors:
        """The errors of a region that was asked for."""
        found = self.near_zero if name == "near zero" else self.full
        assert found is not None
        return found


@dataclass(frozen=True)
class ErrorMap:
    """The gradient errors of one repetition over the plane of x (rows, rising) and w (columns, rising).

    Attributes:
        activation: canonical spec.
        region: of the grid.
        values: (cells, cells) float64, the largest error of each block of products.
        block: products along one side of a block; those at the upper ends may be cut.
        low: lower edge of the first block along both axes.
        high: upper edge of the last whole block.
    """

    activation: str
    region: Region
    values: npt.NDArray[np.float64]
    block: int
    low: float
    high: float


def unit_grid(steps: int) -> Tensor:
    """The 2p + 1 codes of [−1, 1], (2p + 1,) float64, ascending.

    >>> unit_grid(2).tolist()
    [-1.0, -0.5, 0.0, 0.5, 1.0]
    """
    if not (type(steps) is int and 1 <= steps <= MOST_STEPS):
        raise InvalidValueError("steps", expected=f"a whole number from 1 to {MOST_STEPS}", got=steps)
    return torch.arange(-steps, steps + 1, dtype=torch.float64) / steps


def near_zero_codes(steps: int) -> slice:
    """Which of the 2p + 1 codes have |x| <= ¼.

    >>> near_zero_codes(4)
    slice(3, 6, None)
    """
    inner = steps // _NEAR_ZERO
    return slice(steps - inner, steps + inner + 1)


def noisy_codes(values: Tensor, deviates: Tensor, steps: int, sigma: float) -> Tensor:
    """reduce(clamp(values + σ·deviates)) as whole numbers of steps (arXiv 2402.02593: sign(x)·ceil(|x p| − ½)).

    Args:
        values: float64, any shape.
        deviates: of unit scale, a shape that fits.
        steps: p >= 1.
        sigma: noise scale [full scales].

    Returns:
        float64 whole numbers in [−p, p]; ties are rounded toward zero.

    >>> noisy_codes(torch.tensor([0.5, 0.9]), torch.tensor([0.0, 1.0]), steps=1, sigma=0.2).tolist()
    [0.0, 1.0]
    """
    return round_to_codes((values + deviates * sigma).clamp(-1, 1), steps)


@dataclass(frozen=True)
class GridNoise:
    """Deviates of unit scale on a grid: a pure function of p, seed and repetition.

    The same for every activation and EP, so that both are compared in pairs.
    """

    steps: int
    seed: int
    repetition: int

    def factor(self, name: Literal["x", "w"]) -> Tensor:
        """Of the codes of x or of w: (2p + 1,) float64."""
        return self._drawn(name, torch.tensor([0]))[0].double()

    def product(self, rows: slice, columns: slice) -> Tensor:
        """Of the products of these codes of x with these of w: (rows, columns) float64."""
        return self._drawn("product", torch.arange(rows.start, rows.stop))[:, columns].double()

    def _drawn(self, name: str, ids: Tensor) -> Tensor:
        key = stream_key(self.seed, "gradients", str(self.steps), name)
        return noise_field(key, ids, self.repetition, 2 * self.steps + 1)


def gradient_errors(
    activations: Sequence[Activation],
    *,
    steps: int = 256,
    ep: float = 0.5,
    repetitions: int = 20,
    seed: int = 0,
    full: bool = True,
    progress: OnStep = lambda *_: None,
) -> tuple[GradientErrors, ...]:
    """The gradient errors of activations, all under the same noise.

    Rows of the grid are taken a few at a time, so that p = 1024 with its 4.2 million products needs some megabytes.

    Args:
        activations: elementwise ones; learned parameters at their starting values.
        steps: p, 1 to 4096.
        ep: error probability (`ep_centre`), in (0, 1).
        repetitions: independent noise, at least 1.
        seed: in [0, 2^63).
        full: whether the whole grid is looked at, or only the region near zero, which is 16 times as fast.
        progress: called with the repetitions of blocks of rows done, and all.

    Returns:
        One for each activation, in order.

    Raises:
        InvalidValueError: a number out of its range, or an activation that is not elementwise.

    >>> from robustcheck.activations.catalogue import activation
    >>> relu, gelu = gradient_errors([activation("relu"), activation("gelu")], steps=64, repetitions=2)
    >>> relu.near_zero.maximum, max(gelu.near_zero.maximum) < 0.1
    ((1.0, 1.0), True)
    """
    if repetitions < 1:
        raise InvalidValueError("repetitions", expected="at least 1", got=repetitions)
    near = near_zero_codes(steps)
    shape = (len(activations), repetitions)
    largest: dict[Region, Tensor] = {name: torch.zeros(shape, dtype=torch.float64) for name in REGIONS}
    total: dict[Region, Tensor] = {name: torch.zeros(shape, dtype=torch.float64) for name in REGIONS}
    span = slice(0, 2 * steps + 1) if full else near
    for rows, repetition, which, error in _errors(activations, steps, ep, range(repetitions), seed, span, progress):
        inside = slice(max(near.start - rows.start, 0), max(near.stop - rows.start, 0))
        columns = slice(near.start - span.start, near.stop - span.start)
        parts: dict[Region, Tensor] = {"full": error, "near zero": error[inside, columns]}
        for name, part in parts.items():
            if part.numel():
                at = largest[name]
                at[which, repetition] = torch.maximum(at[which, repetition], part.max())
                total[name][which, repetition] += part.sum()

    def errors(name: Region, which: int, side: int) -> Errors:
        return Errors(tuple(largest[name][which].tolist()), tuple((total[name][which] / side**2).tolist()))

    return tuple(
        GradientErrors(
            each.spec,
            steps,
            ep,
            errors("full", which, 2 * steps + 1) if full else None,
            errors("near zero", which, near.stop - near.start),
        )
        for which, each in enumerate(activations)
    )


def error_map(
    activation: Activation,
    region: Region,
    *,
    steps: int = 256,
    ep: float = 0.5,
    seed: int = 0,
    repetition: int = 0,
    cells: int = 257,
) -> ErrorMap:
    """Where on the plane of x and w the gradient is wrong, in at most cells × cells blocks: the largest error of each.

    Args:
        activation: an elementwise one.
        region: full or near zero.
        steps: p, 1 to 4096.
        ep: error probability, in (0, 1).
        seed: in [0, 2^63).
        repetition: which of the repetitions of `gradient_errors`.
        cells: most blocks along a side, at least 1.

    >>> from robustcheck.activations.catalogue import activation
    >>> found = error_map(activation("relu"), "near zero", steps=64, cells=11)
    >>> found.values.shape, found.block, float(found.values.max())
    ((11, 11), 3, 1.0)
    """
    if cells < 1:
        raise InvalidValueError("cells", expected="at least 1", got=cells)
    span = slice(0, 2 * steps + 1) if region == "full" else near_zero_codes(steps)
    side = span.stop - span.start
    block = -(-side // cells)

    def pooled(values: Tensor) -> Tensor:
        return torch.stack([part.amax(1) for part in torch.split(values, block, dim=1)], dim=1)

    parts = [
        pooled(error)
        for _, _, _, error in _errors([activation], steps, ep, range(repetition, repetition + 1), seed, span)
    ]
    values = pooled(torch.cat(parts).T).T.numpy()
    low = float(unit_grid(steps)[span.start]) - 0.5 / steps
    return ErrorMap(activation.spec, region, values, block, low, low + len(values) * block / steps)


def derivative_jump(activation: Activation) -> float:
    """How far the derivative jumps at 0: the limit from above minus the limit from below, in float64.

    They are taken at ±1e-12, and less than 1e-6 is none. For ReLU 1, for `interpolate(relu, gelu, i)` 1 − i.

    >>> from robustcheck.activations.catalogue import activation
    >>> [round(derivative_jump(activation(f"interpolate(relu, gelu, i={i})")), 9) for i in (0, 0.25, 1)]
    [1.0, 0.75, 0.0]
    """
    below, above = evaluated(activation, torch.tensor([-1e-12, 1e-12], dtype=torch.float64))[1].tolist()
    jump = float(above - below)
    return jump if abs(jump) >= _LEAST_JUMP else 0.0


def gradient_bits(activation: Activation) -> float:
    """log2(1/|f′(1/64) − f′(0)|): how many bits resolve what the derivative changes by over 1/64 (arXiv 2402.02593).

    0 for ReLU, whose derivative changes by 1 at once; infinite where it does not change at all.

    >>> from robustcheck.activations.catalogue import activation
    >>> [round(gradient_bits(activation(name)), 3) for name in ("relu", "gelu", "interpolate(relu, gelu, i=1, s=2)")]
    [0.0, 6.326, 5.326]
    """
    at_zero, beside = evaluated(activation, torch.tensor([0.0, 1 / 64], dtype=torch.float64))[1].tolist()
    change = abs(beside - at_zero)
    return math.inf if change == 0 else -math.log2(change) + 0.0


def curvature(activation: Activation) -> float:
    """The slope of the derivative at 0, on the side where it is steeper: √(2/π) for GELU, ½ for SiLU, 1 for ELU.

    From differences of the derivative in float64, right to about six digits: not every function that has a second
    derivative has one in torch.

    >>> from robustcheck.activations.catalogue import activation
    >>> [round(curvature(activation(name)), 4) for name in ("gelu", "elu", "relu")]
    [0.7979, 1.0, 0.0]
    """
    step = 1e-6
    points = torch.tensor([-2, -1, 1, 2], dtype=torch.float64) * step
    slope = evaluated(activation, points)[1]
    below, above = float(slope[1] - slope[0]) / step, float(slope[3] - slope[2]) / step
    return above if abs(above) >= abs(below) else below


def _errors(
    activations: Sequence[Activation],
    steps: int,
    ep: float,
    repetitions: range,
    seed: int,
    span: slice,
    progress: OnStep = lambda *_: None,
) -> Iterator[tuple[slice, int, int, Tensor]]:
    """Rows, repetition, which activation, and its errors at the products of these rows with the columns of `span`."""
    grid, sigma = unit_grid(steps), noise_sigma(ep, steps)
    # P̃ is one of 2p + 1 codes, so that f′(P̃) is looked up.
    tables = [evaluated(each, grid)[1] for each in activations]
    noises = [GridNoise(steps, seed, repetition) for repetition in repetitions]
    x = [noisy_codes(grid, each.factor("x"), steps, sigma) / steps for each in noises]
    w = [noisy_codes(grid, each.factor("w"), steps, sigma)[span] / steps for each in noises]
    at_once = max(1, _AT_ONCE // (span.stop - span.start))
    starts = range(span.start, span.stop, at_once)
    for number, start in enumerate(starts):
        rows = slice(start, min(start + at_once, span.stop))
        products = grid[rows, None] * grid[span]
        clean = [evaluated(each, products)[1] for each in activations]
        for index, noise in enumerate(noises):
            noisy = noisy_codes(x[index][rows, None] * w[index], noise.product(rows, span), steps, sigma)
            codes = noisy.long() + steps
            for which, table in enumerate(tables):
                yield rows, repetitions[index], which, (table[codes] - clean[which]).abs_()
            progress(number * len(noises) + index + 1, len(starts) * len(noises))
