"""Tests of the noise values, as the converter makes them, against their exact laws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from randomness_checks import Finding, chi_square, normal_score, rare, shares, two_sided
from randomness_source import BLOCK, ELEMENTS, IDS, Source
from scipy import special, stats

from robustcheck.sensing.deviates import Noise

LAWS: Final[dict[Noise, Any]] = {"gaussian": stats.norm, "uniform": stats.uniform(-1, 2), "laplace": stats.laplace}
# SciPy's, without the checks that its distributions make of each argument.
CDFS: Final[dict[Noise, Callable[[NDArray[np.float64]], NDArray[np.float64]]]] = {
    "gaussian": special.ndtr,
    "uniform": lambda x: (x + 1) / 2,
    "laplace": lambda x: np.where(x < 0, np.exp(-np.abs(x)) / 2, 1 - np.exp(-np.abs(x)) / 2),
}
# The tails are those beyond 3, 4, 5, 5.5 and 6 standard deviations of the Gaussian, and as rare ones of the others.
TAILS: Final = (3.0, 4.0, 5.0, 5.5, 6.0)
# E x², E x⁴, E x⁶, E x⁸
_EVEN_MOMENTS: Final[dict[Noise, tuple[float, float, float, float]]] = {
    "gaussian": (1, 3, 15, 105),
    "uniform": (1 / 3, 1 / 5, 1 / 7, 1 / 9),
    "laplace": (2, 24, 720, 40320),
}
_LAGS: Final = 4
_PIECE: Final = 2**20


def deviate_findings(source: Source, noise: Noise, count: int) -> list[Finding]:
    """Moments, correlations of neighbours, the distribution function, equiprobable cells, tails and the largest.

    All values are held at once, four bytes each, and sorted: the Kolmogorov–Smirnov distance is exact.
    """
    key = source.key(0, "test", noise, "input")
    blocks = -(-count // BLOCK)
    values = np.empty(blocks * BLOCK, dtype=np.float32)
    powers, products, of_squares = np.zeros(4), np.zeros(_LAGS), np.zeros(_LAGS)
    second, fourth = _EVEN_MOMENTS[noise][:2]
    for draw in range(blocks):
        part = source.deviates(noise, key, IDS, draw, ELEMENTS).reshape(-1)
        values[draw * BLOCK : (draw + 1) * BLOCK] = part
        x = part.astype(np.float64)
        squares = x * x
        powers += x.sum(), squares.sum(), (squares * x).sum(), (squares * squares).sum()
        squares -= second
        for lag in range(1, _LAGS + 1):
            products[lag - 1] += x[lag:] @ x[:-lag]
            of_squares[lag - 1] += squares[lag:] @ squares[:-lag]
    pairs = blocks * (BLOCK - np.arange(1, _LAGS + 1))
    z = products / np.sqrt(pairs) / second
    z_of_squares = of_squares / np.sqrt(pairs) / (fourth - second**2)
    values.sort()
    size = values.size
    return [
        *_moments(noise, powers / size, size),
        chi_square(f"values 1 to {_LAGS} places apart: correlations", size, float(z @ z), _LAGS),
        chi_square("their squares: correlations", size, float(z_of_squares @ z_of_squares), _LAGS),
        kolmogorov_smirnov(values, CDFS[noise]),
        _cells(values, LAWS[noise]),
        *_tails(values, noise),
    ]


def _moments(noise: Noise, means: NDArray[np.float64], size: int) -> list[Finding]:
    """Raw moments, whose means and variances are known exactly: Var x^k = E x^2k − (E x^k)²."""
    m2, m4, m6, m8 = _EVEN_MOMENTS[noise]
    exact = ((0.0, m2), (m2, m4), (0.0, m6), (m4, m8))
    names = ("mean", "variance", "skewness (mean of x³)", "kurtosis (mean of x⁴)")
    return [
        normal_score(name, size, float((mean - at) / np.sqrt((of_square - at**2) / size)))
        for name, mean, (at, of_square) in zip(names, means, exact, strict=True)
    ]


def kolmogorov_smirnov(
    ordered: NDArray[np.float32], cdf: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> Finding:
    """The largest distance between the values' own distribution function and the law's.

    Args:
        ordered: values from the smallest to the largest.
        cdf: a continuous distribution function.
    """
    size, distance = ordered.size, 0.0
    for start in range(0, size, _PIECE):
        part = cdf(ordered[start : start + _PIECE].astype(np.float64))
        below = np.arange(start, start + part.size) / size
        distance = max(distance, float((part - below).max()), float((below + 1 / size - part).max()))
    exact = stats.kstwo(size)
    return Finding(
        "Kolmogorov–Smirnov", size, f"D = {distance:.3g}", two_sided(exact.cdf(distance), exact.sf(distance))
    )


def _cells(ordered: NDArray[np.float32], law: Any) -> Finding:
    cells = 2 ** int(min(16, np.log2(ordered.size / 64)))
    # float32 edges, with the probabilities of those: a float64 edge would copy all values to float64.
    edges = law.ppf(np.arange(1, cells) / cells).astype(np.float32)
    counts = np.diff(np.searchsorted(ordered, edges), prepend=0, append=ordered.size)
    probabilities = np.diff(law.cdf(edges.astype(np.float64)), prepend=0.0, append=1.0)
    return shares(f"{cells} equiprobable cells", ordered.size, counts, probabilities)


def _tails(ordered: NDArray[np.float32], noise: Noise) -> list[Finding]:
    """Counts of the rarest values, and the largest.

    Next to 1 float32 has a step of 2^-24: uniform values are tested no further than to 6·10⁻⁵ of their ends.
    """
    law, size = LAWS[noise], ordered.size
    found = []
    for sigmas in TAILS[:2] if noise == "uniform" else TAILS:
        end = np.float32(law.isf(stats.norm.sf(sigmas)))
        probability = float(2 * law.sf(float(end)))
        count = size - int(np.searchsorted(ordered, end, "right")) + int(np.searchsorted(ordered, -end, "left"))
        name = f"magnitudes as rare as beyond {sigmas:g} σ"
        found.append(rare(name, size, count, stats.binom(size, probability), size * probability))
    if noise != "uniform":
        largest = max(-float(ordered[0]), float(ordered[-1]))
        none_beyond = size * float(np.log1p(-2 * law.sf(largest)))
        p = two_sided(float(np.exp(none_beyond)), float(-np.expm1(none_beyond)))
        found.append(Finding("largest magnitude", size, f"{largest:.6g}", p))
    return found
