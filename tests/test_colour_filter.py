"""Bayer colour filter: known pixels, constant and linear colours, OpenCV's and SciPy's interpolation, gradients."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import convolve

from robustcheck.errors import InvalidValueError, UnknownNameError
from robustcheck.sensing.colour_filter import PATTERNS, demosaic, mosaic

SIZES = [(2, 2), (2, 3), (3, 2), (3, 3), (5, 4), (6, 8), (7, 7)]
OPENCV = {
    "rggb": cv2.COLOR_BayerRGGB2RGB,
    "bggr": cv2.COLOR_BayerBGGR2RGB,
    "grbg": cv2.COLOR_BayerGRBG2RGB,
    "gbrg": cv2.COLOR_BayerGBRG2RGB,
}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(shape, dtype=np.float32))


def sites(pattern: str, colour: str, height: int, width: int) -> np.ndarray:
    """1 where the filter lets this colour through."""
    rows, columns = np.indices((height, width)) % 2
    return np.isin(2 * rows + columns, [i for i in range(4) if pattern[i] == colour]).astype(float)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_mosaic_takes_the_colour_of_each_filter(pattern, size):
    image = noise(2, 3, *size)
    expected = sum(image[:, index] * torch.from_numpy(sites(pattern, c, *size)) for index, c in enumerate("rgb"))
    assert torch.equal(mosaic(image, pattern)[:, 0].double(), expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_demosaic_is_scipys_mirrored_convolution_of_the_known_pixels(pattern, size):
    raw = noise(1, 1, *size)
    diagonal, cross = [[1, 2, 1], [2, 4, 2], [1, 2, 1]], [[0, 1, 0], [1, 4, 1], [0, 1, 0]]
    for index, colour in enumerate("rgb"):
        known = raw[0, 0].double().numpy() * sites(pattern, colour, *size)
        kernel = np.array(cross if colour == "g" else diagonal) / 4
        expected = convolve(known, kernel, mode="mirror")
        np.testing.assert_allclose(demosaic(raw, pattern)[0, index], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_demosaic_is_opencvs_bilinear_one_inside(pattern):
    raw = np.random.default_rng(1).integers(0, 65536, (12, 14), dtype=np.uint16)
    expected = cv2.cvtColor(raw, OPENCV[pattern]).astype(float)[1:-1, 1:-1]
    ours = demosaic(torch.from_numpy(raw.astype(np.float32))[None, None], pattern)[0].permute(1, 2, 0)[1:-1, 1:-1]
    assert np.abs(ours.numpy() - expected).max() <= 0.5


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_constant_colours_come_back_bit_by_bit(pattern, size):
    image = noise(64, 3, 1, 1).expand(64, 3, *size)
    assert torch.equal(demosaic(mosaic(image, pattern), pattern), image)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_known_pixels_do_not_change(pattern, size):
    raw = noise(2, 1, *size)
    assert torch.equal(mosaic(demosaic(raw, pattern), pattern), raw)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_colours_that_rise_linearly_come_back_inside(pattern):
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(9.0), indexing="ij")
    image = torch.stack([rows + 2 * columns, 100 - 3 * rows + columns, 50 + 4 * rows - columns])[None]
    assert torch.equal(demosaic(mosaic(image, pattern), pattern)[..., 1:-1, 1:-1], image[..., 1:-1, 1:-1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_the_dtype_is_kept_and_any_layout_taken(dtype):
    image = noise(2, 5, 4, 3).permute(0, 3, 1, 2).to(dtype)
    back = demosaic(mosaic(image, "grbg"), "grbg")
    assert back.dtype == dtype
    assert torch.equal(back, demosaic(mosaic(image.contiguous(), "grbg"), "grbg"))


def test_gradients_are_those_of_the_linear_map():
    raw = noise(1, 1, 3, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: demosaic(x, "gbrg"), raw)
    image = noise(1, 3, 3, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: mosaic(x, "gbrg"), image)


def test_an_empty_batch_stays_empty():
    assert demosaic(mosaic(torch.zeros(0, 3, 4, 4), "rggb"), "rggb").shape == (0, 3, 4, 4)


def test_errors_say_what_is_expected():
    with pytest.raises(UnknownNameError, match=r"colour filter 'rgbg'; did you mean"):
        mosaic(torch.zeros(1, 3, 4, 4), "rgbg")
    for bad in (torch.zeros(1, 1, 4, 4), torch.zeros(1, 3, 1, 4), torch.zeros(3, 4, 4)):
        with pytest.raises(InvalidValueError, match=r"expected \(n, 3, h, w\) with h and w of at least 2, got \("):
            mosaic(bad, "rggb")
    for bad in (torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 1)):
        with pytest.raises(InvalidValueError, match=r"expected \(n, 1, h, w\) with h and w of at least 2, got \("):
            demosaic(bad, "rggb")
