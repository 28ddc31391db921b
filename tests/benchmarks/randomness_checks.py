"""The statistics that the tests of randomness share, each with the law that it has where the numbers are random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

_WEIGHT_OF_HALF: Final = np.array([value.bit_count() for value in range(2**16)], dtype=np.uint8)
_FEWEST_EXPECTED: Final = 8.0


@dataclass(frozen=True)
class Finding:
    """The result of one test.

    Attributes:
        test: what was tested.
        numbers: how many words or values it took.
        statistic: the statistic and its law, in words.
        p: two-sided p-value: how likely a result at least as far out, to either side, is for random numbers.
    """

    test: str
    numbers: int
    statistic: str
    p: float


def two_sided(below: float, above: float) -> float:
    """The p-value from P(X <= x) and P(X >= x); too good a fit counts as much as too bad a one."""
    return float(min(1.0, 2 * min(below, above)))


def chi_square(test: str, numbers: int, value: float, freedom: int) -> Finding:
    """A sum that follows the chi-square law with so many degrees of freedom."""
    law = stats.chi2(freedom)
    text = f"χ² = {value:.1f}, {freedom} degrees of freedom"
    return Finding(test, numbers, text, two_sided(law.cdf(value), law.sf(value)))


def shares(
    test: str, numbers: int, counts: NDArray[Any], probabilities: NDArray[np.float64] | float | None = None
) -> Finding:
    """Pearson's chi-square of counts against known probabilities (equal ones if None), all summing to 1.

    Neighbouring cells are joined until each is expected to hold eight or more.
    """
    total = float(counts.sum())
    observed = np.asarray(counts, dtype=np.float64).reshape(-1)
    expected = total * np.broadcast_to(1 / observed.size if probabilities is None else probabilities, observed.shape)
    if expected.min() < _FEWEST_EXPECTED:
        starts, held = [0], 0.0
        for cell, share in enumerate(expected):
            if held >= _FEWEST_EXPECTED:
                starts.append(cell)
                held = 0.0
            held += share
        if held < _FEWEST_EXPECTED and len(starts) > 1:
            starts.pop()
        observed, expected = np.add.reduceat(observed, starts), np.add.reduceat(expected, starts)
    value = float(((observed - expected) ** 2 / expected).sum())
    return chi_square(test, numbers, value, observed.size - 1)


def coins(test: str, numbers: int, heads: NDArray[Any], tosses: int) -> Finding:
    """Counts of independent events of probability ½, `tosses` each: the sum of their squared z-scores."""
    z = (np.asarray(heads, dtype=np.float64) - tosses / 2) / np.sqrt(tosses / 4)
    return chi_square(test, numbers, float((z**2).sum()), z.size)


def normal_score(test: str, numbers: int, z: float) -> Finding:
    """A standard normal score."""
    return Finding(test, numbers, f"z = {z:+.2f}", two_sided(stats.norm.cdf(z), stats.norm.sf(z)))


def rare(test: str, numbers: int, count: int, law: Any, expected: float) -> Finding:
    """A count against its discrete law, Poisson or binomial; the p-value errs to the large side."""
    text = f"{count:,}, expected {expected:,.0f}" if expected >= 1000 else f"{count}, expected {expected:.3g}"
    return Finding(test, numbers, text, two_sided(law.cdf(count), law.sf(count - 1)))


def weights(words: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """How many bits of each word are 1; same shape."""
    halves = _WEIGHT_OF_HALF[np.ascontiguousarray(words).view(np.uint16)].reshape(*words.shape, 2)
    ones: NDArray[np.uint8] = halves.sum(axis=-1, dtype=np.uint8)
    return ones


def halves_of(words: NDArray[np.uint32]) -> NDArray[np.int64]:
    """How often each value of the low and of the high 16 bits occurs, (2, 65536)."""
    pairs = words.view(np.uint16).reshape(-1, 2)
    return np.stack([np.bincount(pairs[:, half], minlength=2**16) for half in (0, 1)])


def ones_of(halves: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each of the 32 bits is 1, from the counts of `halves_of`; the lowest bit first."""
    values = np.arange(2**16)
    return np.array([int(counts[(values >> bit) & 1 == 1].sum()) for counts in halves for bit in range(16)])


def bits_of_blocks(words: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Four words a row as 128 signs, −1 for a bit that is 0: (len(words) // 4, 128)."""
    octets = np.ascontiguousarray(words).view(np.uint8).reshape(-1, 16)
    return np.unpackbits(octets, axis=1, bitorder="little").astype(np.float32) * 2 - 1


def paired(name: str, one: NDArray[np.uint32], two: NDArray[np.uint32]) -> list[Finding]:
    """Whether two streams of words, of one length, are uniform and independent of each other, place by place.

    The joint table of their leading bits; the products of each of the 128 bits of a counter's block with each of the
    other stream's (16384 sums, uncorrelated, each with mean 0 and variance 1 when divided by the root of the number
    of blocks); and the number of bits in which two words differ, which is binomial.
    """
    one, two = one.reshape(-1), two.reshape(-1)
    length = one.size
    bits = int(np.clip(np.log2(length / 16) // 2, 1, 8))
    shift = np.uint32(32 - bits)
    joint = np.bincount(((one >> shift) << np.uint32(bits)) | (two >> shift), minlength=4**bits)
    sums = np.zeros((128, 128))
    for start in range(0, length, 2**18):  # 65536 blocks: whole numbers below 2^24 stay exact in float32
        sums += bits_of_blocks(one[start : start + 2**18]).T @ bits_of_blocks(two[start : start + 2**18])
    differing = np.bincount(weights(one ^ two), minlength=33)
    return [
        shares(f"{name}: leading {bits} bits of both", 2 * length, joint),
        chi_square(f"{name}: products of bits", 2 * length, float((sums**2).sum()) / (length // 4), 128 * 128),
        shares(f"{name}: bits that differ", 2 * length, differing, stats.binom(32, 0.5).pmf(np.arange(33))),
    ]
