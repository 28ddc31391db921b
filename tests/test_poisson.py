"""Poisson numbers against SciPy: the law as a whole by evenly spread words, the quantile one by one at low means."""

import numpy as np
import pytest
import torch
from scipy import stats

from robustcheck.sensing.deviates import deviates
from robustcheck.sensing.poisson import (
    CEILING,
    LEAST_READ_NOISE_E,
    SWITCH,
    clear_of_well,
    poisson,
    poisson_with_read_noise,
)


def spread_words(count):
    """Words evenly over all 2^32, each in the middle of its part."""
    part = 2**32 // count
    return torch.arange(count) * part + part // 2


def numbers(mean, words):
    return poisson(torch.full(words.shape, mean), words).numpy().astype(np.int64)


def probabilities(words):
    """The probability that a word stands for: its sign bit and the tail beyond its magnitude."""
    words = words.numpy()
    tail = ((words & 0x7FFFFFFF) + 0.5) / 2**32
    return np.where(words >= 2**31, tail, 1 - tail)


@pytest.mark.parametrize(
    ("mean", "count", "bound"),
    [
        *((mean, 2**19, 2e-5) for mean in (0.01, 0.1, 0.5, 1.0, 2.0, 3.0, 3.99)),
        *((mean, 2**20, 8e-4) for mean in (4.0, 4.5, 5.0, 6.0, 7.0)),
        *((mean, 2**20, 3e-4) for mean in (8.0, 8.5, 10.0, 15.0, 30.0, 100.0, 1000.0)),
        *((mean, 2**21, 6e-4) for mean in (8180.0, 20_000.0, 100_000.0)),
    ],
)
def test_total_variation_distance_to_the_law(mean, count, bound):
    found = np.bincount(numbers(mean, spread_words(count))) / count
    exact = stats.poisson.pmf(np.arange(len(found)), mean)
    distance = 0.5 * (np.abs(found - exact).sum() + stats.poisson.sf(len(found) - 1, mean))
    # Evenly spread words misplace each value's share by up to one word.
    assert distance < bound + 0.25 * np.count_nonzero(found) / count


@pytest.mark.parametrize("mean", [0.003, 0.3, 1.1, 1.7, 2.9, 3.999])
def test_the_quantile_is_exact_below_the_switch(mean):
    words = torch.from_numpy(np.random.default_rng(0).integers(0, 2**32, 20_000))
    wanted = np.minimum(probabilities(words), CEILING)
    mean = float(np.float32(mean))
    exact = stats.poisson.ppf(wanted, mean)
    found = numbers(mean, words)
    # The float32 sum of the terms and the float32 probability decide which of two neighbours it is at an edge.
    edges = stats.poisson.cdf(np.arange(60), mean)
    gap = np.abs(wanted[:, None] - edges).min(axis=1)
    assert (found == exact)[gap > 2e-6].all()
    assert np.abs(found - exact)[gap <= 2e-6].max(initial=0) <= 1


def test_means_and_variances_are_the_mean():
    words = torch.from_numpy(np.random.default_rng(1).integers(0, 2**32, 200_000))
    for mean in (0.2, 3.0, 4.1, 9.0, 400.0):
        found = numbers(mean, words)
        assert found.mean() == pytest.approx(mean, abs=4 * (mean / found.size) ** 0.5)
        assert found.var() == pytest.approx(mean, rel=4 * ((2 + 1 / mean) / found.size) ** 0.5)


def test_more_light_or_a_larger_deviate_never_gives_fewer():
    words = torch.from_numpy(np.random.default_rng(2).integers(0, 2**32, 4000))
    order = torch.argsort(deviates(words))
    for mean in (0.5, 3.9, 4.1, 50.0):
        assert (np.diff(numbers(mean, words[order])) >= 0).all()
    means = torch.linspace(0, 40, 401)
    found = poisson(means[:, None].expand(401, 500), words[None, :500].expand(401, 500))
    assert (found.diff(dim=0) >= 0).all()


def test_no_light_gives_nothing_and_the_rarest_words_give_finite_numbers():
    ends = torch.tensor([0, 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1])
    assert numbers(0.0, ends).tolist() == [0] * 6
    for mean in (1e-6, SWITCH - 1e-3, SWITCH, 20_000.0):
        found = numbers(mean, ends)
        assert (found >= 0).all()
        assert (found <= mean + 7 * mean**0.5 + 20).all()


SUMS = [(mean, read_noise) for read_noise in (LEAST_READ_NOISE_E, 3.0, 9.0) for mean in np.geomspace(0.01, 2e4, 25)]


def sums(mean, read_noise, w):
    """By the formula in double precision, so that what is seen is the expansion's error alone."""
    w = torch.as_tensor(w, dtype=torch.float64)
    return poisson_with_read_noise(torch.full_like(w, mean), read_noise, w).numpy()


def exact_sum(x, mean, read_noise):
    """Distribution function of the sum at each x."""
    number = np.arange(stats.poisson.ppf(1e-13, mean), stats.poisson.isf(1e-13, mean) + 1)
    return stats.norm.cdf((x[:, None] - number) / read_noise) @ stats.poisson.pmf(number, mean)


@pytest.mark.parametrize("read_noise", [LEAST_READ_NOISE_E, 3.0, 9.0])
def test_total_variation_distance_of_the_sum_with_read_noise(read_noise):
    w = np.linspace(-6.3, 6.3, 1001)
    for mean in (0.0, 0.05, 0.3, 0.6, 1.2, 3.0, 8.0, 40.0, 300.0, 4000.0):
        electrons = sums(mean, read_noise, w)
        assert (np.diff(electrons) > 0).all()
        found, exact = np.diff(stats.norm.cdf(w)), np.diff(exact_sum(electrons, mean, read_noise))
        assert 0.5 * np.abs(found - exact).sum() < (1.8e-4 if read_noise < 3 else 6e-5)


def test_moments_of_the_sum_with_read_noise():
    w, weight = np.polynomial.hermite_e.hermegauss(60)
    weight = weight / weight.sum()
    for mean, read_noise in SUMS:
        electrons = sums(mean, read_noise, w)
        variance = mean + read_noise**2
        off = electrons - weight @ electrons
        assert weight @ electrons == pytest.approx(mean, abs=1e-9 * variance**0.5)
        assert weight @ off**2 == pytest.approx(variance, rel=1.1e-5)
        assert weight @ off**3 / variance**1.5 == pytest.approx(mean / variance**1.5, abs=1.1e-3)
        assert weight @ off**4 / variance**2 - 3 == pytest.approx(mean / variance**2, abs=1e-3)


@pytest.mark.parametrize("gain", [0.47 / 16, 0.47, 5.0])
def test_codes_of_the_sum_with_read_noise(gain):
    words = spread_words(2**18)
    for mean, read_noise in ((0.6, LEAST_READ_NOISE_E), (5.0, 3.0), (4090.0, 3.0)):
        electrons = poisson_with_read_noise(torch.full(words.shape, mean), read_noise, deviates(words))
        code = np.rint(electrons.double().numpy() * gain).astype(int)
        first = code.min()
        edges = (np.arange(first, code.max() + 2) - 0.5) / gain
        exact = np.diff(exact_sum(edges, mean, read_noise))
        found = np.bincount(code - first) / len(code)
        # Evenly spread words misplace each code's share by up to one word.
        assert 0.5 * np.abs(found - exact).sum() < 2e-4 + 0.25 * len(found) / len(code)
        # The error probability of a value at this mean, whose code is that of the mean.
        kept = round(mean * gain) - first
        assert found[kept] == pytest.approx(exact[kept], abs=2e-4)


def test_no_poisson_number_clear_of_the_well_reaches_it():
    for well in (40.0, 500.0, 5390.0, 8180.0, 32_360.0):
        for read_noise in (LEAST_READ_NOISE_E, 9.0):
            means = torch.linspace(0, 1.2 * well, 100_001)
            clear = clear_of_well(means, read_noise, well)
            largest = means[clear].max().item() if clear.any() else 0.0
            assert torch.equal(clear, (means <= largest) & clear.any())
            assert stats.poisson.sf(well - 1, largest) < 1e-11
            spread = (largest + read_noise**2) ** 0.5
            assert largest == 0 or largest + 8 * spread == pytest.approx(well, abs=1.2 * well * 2e-5)
