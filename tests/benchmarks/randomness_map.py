"""The map from words to noise values, without sampling: how far its law is from the law that it stands for.

Two laws are computed. The *relaxed* one lets u, the probability of a larger magnitude, be any real number between the
table's first node and 1: its density is constant on each cell, so that densities can be compared. The *exact* one is
that of the 2^32 equally likely values which the float32 arithmetic gives, each of them visited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special

from robustcheck.sensing.deviates import FIRST_CELL, QUANTILES, SHIFT, Noise, deviates, quantile_table

Floats = NDArray[np.float64]
Map = Callable[[torch.Tensor, Noise], torch.Tensor]

# The laws of magnitudes: P(magnitude > t), for t >= 0, and the density.
BEYOND: Final[dict[Noise, Callable[[Floats], Floats]]] = {
    "gaussian": lambda t: np.asarray(special.erfc(t / np.sqrt(2))),
    "uniform": lambda t: np.maximum(0.0, 1 - t),
    "laplace": lambda t: np.exp(-t),
}
DENSITIES: Final[dict[Noise, Callable[[Floats], Floats]]] = {
    "gaussian": lambda t: np.exp(-t * t / 2) * np.sqrt(2 / np.pi),
    "uniform": lambda t: np.where(t <= 1, 1.0, 0.0),
    "laplace": lambda t: np.exp(-t),
}
OCTAVES: Final = range(-1, 31)
_RESOLUTION: Final = 2.0**-14
_PIECE: Final = 2**19
_EXPLICIT: Final = 24  # below 2^24 each m has a float32 of its own, or shares it with one neighbour


@dataclass(frozen=True)
class Relaxed:
    """Distances between the relaxed law of the magnitude and the law it stands for; those of the values are the same.

    Attributes:
        total_variation: ½ ∫ |f − g|, the largest difference in probability of any event of one value.
        kolmogorov: the largest difference in probability of an event |value| > t.
        chi_square: Σ (f − g)² / g over intervals of 2^-14, where f and g are their probabilities.
        end: the largest magnitude.
        beyond: probability of a larger one under the law that it stands for.
    """

    total_variation: float
    kolmogorov: float
    chi_square: float
    end: float
    beyond: float

    @property
    def draws_to_tell(self) -> float:
        """Draws by which the best test that knows the table, and sees 2^-14, tells the laws apart by 5 deviations."""
        return 25 / self.chi_square


def relaxed(noise: Noise, table: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None) -> Relaxed:
    """Compare the densities, cell by cell.

    The relaxed density is constant between neighbouring ends of cells, and the law's falls (or is constant), so that
    they cross at most once there: total variation needs no quadrature. Images of neighbouring cells overlap, or leave a
    gap, by up to 1.2e-6, finer than chi-square looks: narrower steps of the density are below those of float32 values.
    """
    intercept, slope = (np.asarray(part, dtype=np.float64) for part in table or quantile_table(noise))
    nodes = ((np.arange(len(slope) + 1) + FIRST_CELL) << SHIFT).astype(np.uint32).view(np.float32).astype(np.float64)
    used = nodes[:-1] < 2.0**31
    low, high = nodes[:-1][used], nodes[1:][used]
    far, near = (intercept[used] + slope[used] * at for at in (low, high))
    density = (high - low) / 2**31 / (far - near)
    # A magnitude that is a little below 0 is a value of the other sign: it is folded back.
    folded = near < 0
    left = np.concatenate([np.maximum(near, 0), np.zeros(int(folded.sum()))])
    right = np.concatenate([far, -near[folded]])
    density = np.concatenate([density, density[folded]])
    edges = np.unique(np.concatenate([[0.0], left, right]))
    change = np.zeros(edges.size)
    np.add.at(change, np.searchsorted(edges, left), density)
    np.add.at(change, np.searchsorted(edges, right), -density)
    f, a, b = np.cumsum(change)[:-1], edges[:-1], edges[1:]
    f[np.abs(f) < 1e-12] = 0
    sf, density_at = BEYOND[noise], DENSITIES[noise]
    cross = _crossing(density_at, f, a, b)
    parts = [sf(a) - sf(cross) - f * (cross - a), sf(cross) - sf(b) - f * (b - cross)]
    end = float(edges[-1])
    beyond = float(sf(edges[-1]))
    # u below 2^-32 is in the relaxed law nowhere: there the density of the law stands alone.
    total = float(np.abs(parts).sum()) + beyond
    below = np.concatenate([[0.0], np.cumsum(f * (b - a))])
    turning = np.concatenate([edges, cross])
    distance = max(beyond, float(np.abs(1 - sf(turning) - np.interp(turning, edges, below)).max()))
    bins = np.arange(0, end + 2 * _RESOLUTION, _RESOLUTION)
    found, expected = np.diff(np.interp(bins, edges, below)), -np.diff(sf(bins))
    possible = expected > 0
    chi_square = float(((found - expected)[possible] ** 2 / expected[possible]).sum() + sf(bins[-1]))
    return Relaxed(total / 2, distance, chi_square, end, beyond)


def _crossing(density: Callable[[Floats], Floats], f: Floats, a: Floats, b: Floats) -> Floats:
    """Where the law's density, which falls, passes f between a and b; a or b where it does not."""
    low, high = a.copy(), b.copy()
    for _ in range(60):
        middle = (low + high) / 2
        above = density(middle) > f
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return (low + high) / 2


@dataclass(frozen=True)
class Exact:
    """What the 2^32 values are, each of them visited.

    Attributes:
        quantile_error: largest distance of a magnitude from the exact quantile of its u.
        kolmogorov: largest difference of P(magnitude <= t), over all t.
        beyond: P(magnitude > t) for the thresholds asked for.
        moments: means of the second and the fourth power.
        largest: the largest magnitude.
        seen: how many of the 2^31 magnitudes were visited.
    """

    quantile_error: float
    kolmogorov: float
    beyond: dict[float, float]
    moments: tuple[float, float]
    largest: float
    seen: int


def exact(
    noise: Noise = "gaussian",
    thresholds: Iterable[float] = (),
    *,
    octaves: Iterable[int] = OCTAVES,
    to_values: Map = deviates,
) -> Exact:
    """Visit the magnitudes, octave by octave of m, the lower 31 bits of the word.

    Args:
        noise: gaussian, uniform or laplace.
        thresholds: where to count the magnitudes that are larger.
        octaves: −1 for m = 0, k for 2^k <= m < 2^(k + 1); a part of them from −1 on looks at the tail alone.
        to_values: the map from words (int64) to values (float32).

    Raises:
        AssertionError: a magnitude of one octave is larger than one of the octave before: they are not ordered.
    """
    quantile, sf = QUANTILES[noise], BEYOND[noise]
    counts = dict.fromkeys(thresholds, 0)
    error = distance = second = fourth = largest = 0.0
    above, smallest = 0, np.inf
    for first, times in _runs(octaves):
        signed = np.concatenate([to_values(torch.from_numpy(m), noise).numpy() for m in _pieces(first)])
        for ends in (first, first + times - 1) if times.max() > 1 else (first,):
            for m, values in zip(_pieces(ends), _pieces(signed), strict=True):
                error = max(error, float(np.abs(values - quantile((m + 0.5) / 2**31)).max()))
        size = np.abs(signed)
        assert size.max() <= smallest, "expected octaves in falling order"
        smallest, largest = float(signed.min()), max(largest, float(size.max()))
        # All but ordered already, in which case the stable sort is a merge of a few runs.
        order = np.argsort(-size, kind="stable")
        for magnitudes, many in zip(_pieces(size[order]), _pieces(times[order]), strict=True):
            z = magnitudes.astype(np.float64)
            more, beyond = above + np.cumsum(many), sf(z)
            gaps = np.maximum(np.abs(more / 2**31 - beyond), np.abs((more - many) / 2**31 - beyond))
            distance = max(distance, float(gaps.max()))
            second, fourth = second + float(z**2 @ many), fourth + float(z**4 @ many)
            above = int(more[-1])
            for threshold in counts:
                counts[threshold] += int(many[z > threshold].sum())
    probabilities = {threshold: count / 2**31 for threshold, count in counts.items()}
    return Exact(error, distance, probabilities, (second / above, fourth / above), largest, above)


def _pieces(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Parts of an array, in order, that keep what is computed of each small."""
    return (array[start : start + _PIECE] for start in range(0, array.size, _PIECE))


def _runs(octaves: Iterable[int]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """First m and length of the runs of m that are one float32, by octave.

    Above 2^24 an octave's m are rounded to multiples of a power of two, ties to the even multiple.
    """
    for octave in octaves:
        begin, end = (0, 1) if octave < 0 else (2**octave, 2 ** (octave + 1))
        if octave < _EXPLICIT:
            yield np.arange(begin, end), np.ones(end - begin, dtype=np.int64)
            continue
        yield _rounded(octave)


def _rounded(octave: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    begin, step = 2**octave, 2 ** (octave - 23)
    multiple = np.arange(2**23 + 1)
    first = np.maximum(multiple * step - step // 2 + (multiple & 1), 0) + begin
    return first, np.diff(first, append=2 * begin)
