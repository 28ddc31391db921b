"""The map from words to noise values against SciPy's quantiles and distributions."""

import hashlib

import numpy as np
import pytest
import torch
from scipy import stats

from robustcheck.errors import UnknownNameError
from robustcheck.sensing.deviates import NOISES, deviates, quantile_table
from robustcheck.sensing.random import random_words, stream_key

EXACT = {"gaussian": stats.norm, "uniform": stats.uniform(-1, 2), "laplace": stats.laplace}
# Largest error of the map, in units of the scale.
ERROR = {"gaussian": 1.8e-6, "uniform": 1.3e-7, "laplace": 5e-6}


def hard_words() -> torch.Tensor:
    """Every magnitude near both ends, and a spread over all octaves, both signs."""
    rng = np.random.default_rng(0)
    octaves = np.exp(rng.uniform(0, 31 * np.log(2), 200_000)).astype(np.int64)
    magnitudes = np.concatenate(
        [np.arange(5000), 2**31 - 1 - np.arange(5000), octaves, rng.integers(0, 2**31, 200_000)]
    )
    magnitudes = np.unique(magnitudes.clip(0, 2**31 - 1))
    return torch.tensor(np.concatenate([magnitudes, magnitudes + 2**31]))


@pytest.mark.parametrize("noise", NOISES)
def test_the_map_is_within_its_stated_error_of_the_quantile(noise):
    words = hard_words()
    magnitude = (words & 0x7FFFFFFF).double().numpy()
    exact = EXACT[noise].isf((magnitude + 0.5) / 2**32)
    found = deviates(words, noise).double().numpy() * np.where(words.numpy() >= 2**31, -1, 1)
    assert np.abs(found - exact).max() <= ERROR[noise]
    assert found.min() >= -ERROR[noise]


@pytest.mark.parametrize("noise", NOISES)
def test_values_follow_the_distribution(noise):
    words = random_words(stream_key(1, noise), torch.arange(200), 0, 1000)
    values = deviates(words, noise).double().numpy().ravel()
    assert stats.kstest(values, EXACT[noise].cdf).pvalue > 1e-3
    assert abs(values.mean()) < 5 * values.std() / np.sqrt(values.size)


def test_the_gaussian_reaches_its_tail_and_no_further():
    ends = deviates(torch.tensor([0, 2**31, 2**31 - 1]))
    assert ends[0] == pytest.approx(stats.norm.isf(2.0**-33), abs=1e-4)
    assert ends[1] == -ends[0]
    assert abs(ends[2]) < 1e-6


def test_the_tables_are_these_bits():
    # All results depend on these bits: a change needs a new numerics version.
    intercept, slope = quantile_table("gaussian")
    assert hashlib.sha256(intercept.tobytes() + slope.tobytes()).hexdigest()[:16] == "78f6c200ec159b9f"


def test_an_unknown_noise_is_refused_by_name():
    with pytest.raises(UnknownNameError, match="did you mean 'gaussian'"):
        quantile_table("gausian")
