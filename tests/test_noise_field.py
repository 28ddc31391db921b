"""Fields of noise are the deviates of the random words, by whatever kernel."""

import pytest
import torch

from robustcheck.sensing.deviates import NOISES, deviates
from robustcheck.sensing.noise_field import noise_field
from robustcheck.sensing.random import random_words, stream_key

KEY = stream_key(3, "field")
IDS = torch.tensor([4, 2**40, 9])


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("draw", [7, torch.tensor([7, 0, 2**32 - 1])])
def test_values_are_the_deviates_of_the_words(noise, draw):
    expected = deviates(random_words(KEY, IDS, draw, 1030), noise)
    assert torch.equal(noise_field(KEY, IDS, draw, 1030, noise), expected)


def test_a_sample_has_the_same_values_in_any_batch():
    together = noise_field(KEY, IDS, 0, 33)
    assert torch.equal(noise_field(KEY, IDS.flip(0), 0, 33), together.flip(0))
    assert torch.equal(noise_field(KEY, IDS, 0, 9), together[:, :9])
