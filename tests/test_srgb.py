"""The transfer functions of sRGB against the standard's formulas in double precision."""

import numpy as np
import pytest
import torch

from robustcheck.sensing.srgb import decode, encode, from_linear, to_linear

GRID = np.linspace(0, 1, 100_001)


def linear(x):
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def encoded(light):
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)


def test_both_ways_are_the_standards():
    x = torch.from_numpy(GRID)
    assert np.allclose(to_linear(x).numpy(), linear(GRID), rtol=0, atol=1e-12)
    assert np.allclose(from_linear(x).numpy(), encoded(GRID), rtol=0, atol=1e-12)
    # The standard's rounded constants leave a step of 3e-8 of linear light at the knee.
    assert np.allclose(from_linear(to_linear(x)).numpy(), GRID, rtol=0, atol=1e-6)


def test_the_cameras_way_is_within_a_millionth_of_the_value():
    x = torch.from_numpy(GRID).float()
    exact = linear(x.double().numpy())
    assert np.allclose(decode(x).numpy(), exact, rtol=6e-7, atol=0)
    assert np.allclose(encode(x).numpy(), encoded(x.double().numpy()), rtol=0, atol=6e-7)
    assert decode(torch.tensor([0.0, 1.0])).tolist() == [0.0, pytest.approx(1, abs=5e-7)]
    assert encode(torch.tensor([-1.0, 0.0, 1.0, 2.0])).tolist() == [0.0, 0.0, 1.0, 1.0]


def test_the_cameras_way_does_not_depend_on_where_a_value_stands():
    x = torch.rand(1001, generator=torch.Generator().manual_seed(0))
    for way in (decode, encode):
        assert torch.equal(way(x)[5:], way(x[5:].clone()))
        assert torch.equal(way(x)[::7], torch.stack([way(one) for one in x[::7]]))


def test_ends_are_kept_and_values_beyond_clipped():
    x = torch.tensor([-0.5, 0.0, 1.0, 1.5])
    assert to_linear(x).tolist() == [0.0, 0.0, 1.0, 1.0]
    assert from_linear(x).tolist() == pytest.approx([0.0, 0.0, 1.0, 1.0], abs=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_dtypes_stay(dtype):
    x = torch.tensor([[0.02, 0.5]], dtype=dtype)
    assert to_linear(x).dtype == from_linear(x).dtype == dtype
    assert to_linear(x).shape == x.shape
