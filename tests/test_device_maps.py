"""Maps of non-uniformity: they belong to a place on the device, and to a photodiode of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from robustcheck.errors import InvalidValueError
from robustcheck.sensing import camera
from robustcheck.sensing.camera import CameraSetting, CaptureSetting, camera_setting, sense
from robustcheck.sensing.deviates import deviates
from robustcheck.sensing.device_maps import device_map
from robustcheck.sensing.kernels import camera_reference
from robustcheck.sensing.profile import load_sensor
from robustcheck.sensing.random import random_words, stream_key
from robustcheck.sensing.srgb import to_linear

CPU = torch.device("cpu")


def grid(*shape: int, seed: int = 0, kind: str = "prnu", photodiode: int = 0) -> torch.Tensor:
    return device_map(seed, kind, photodiode, shape, CPU).reshape(shape)


def middle(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """As albumentations' `CenterCrop` and torchvision's `center_crop` cut it."""
    top, left = (image.shape[-2] - height) // 2, (image.shape[-1] - width) // 2
    return image[..., top : top + height, left : left + width]


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 4), (2, 4, 7), (1, 2, 1)])
def test_each_place_has_a_number_of_its_own(shape):
    found, key = grid(*shape, seed=7, kind="dsnu", photodiode=2), stream_key(7, "device", "dsnu", "2")
    for channel, row, column in np.ndindex(shape):
        down, right = row - shape[1] // 2, column - shape[2] // 2
        side, element = (1, right) if right >= 0 else (0, -1 - right)
        word = random_words(key, torch.tensor([2**31 + down]), 2 * channel + side, element + 1)[:, -1]
        assert found[channel, row, column] == deviates(word).item()


@pytest.mark.parametrize(("whole", "part"), [((64, 48), (20, 30)), ((33, 41), (9, 41)), ((40, 31), (2, 1))])
def test_a_centre_crop_meets_the_same_values(whole, part):
    assert torch.equal(middle(grid(3, *whole), *part), grid(3, *part))


def test_a_grey_image_meets_the_values_of_the_first_plane():
    assert torch.equal(grid(3, 6, 8)[:1], grid(1, 6, 8))


def test_values_are_independent_and_normal():
    one = grid(3, 200, 201)
    assert stats.kstest(one.flatten().numpy(), "norm").pvalue > 1e-3
    others = {
        "next row": (one[:, 1:], one[:, :-1]),
        "next column": (one[..., 1:], one[..., :-1]),
        "left and right": (one[..., :100], one[..., 101:].flip(-1)),
        "above and below": (one[:, :100], one[:, 100:].flip(1)),
        "planes": (one[0], one[1]),
        "kinds": (one, grid(3, 200, 201, kind="dsnu")),
        "devices": (one, grid(3, 200, 201, seed=1)),
        "photodiodes": (one, grid(3, 200, 201, photodiode=1)),
    }
    for name, (first, second) in others.items():
        correlation = np.corrcoef(first.flatten(), second.flatten())[0, 1]
        assert abs(correlation) < 4 / np.sqrt(first.numel()), name


def test_a_seed_out_of_range_is_refused():
    with pytest.raises(InvalidValueError, match="seed"):
        grid(1, 2, 2, seed=-1)


@pytest.mark.parametrize(
    ("name", "photodiodes"),
    [
        ("camera-imx477", [0]),
        ("camera-ar0331", [0, 0]),
        ("camera-ov-split-pixel", [0, 0, 1]),
        ("camera-ox03c10", [0, 0, 1, 2]),
    ],
)
def test_the_photodiodes_of_a_profile(name, photodiodes):
    """Exposures of one pixel and gains of one diode share a map; diodes of less sensitivity have their own."""
    captures = camera_setting(load_sensor(name), exposure=0.5).captures
    assert [capture.photodiode for capture in captures] == photodiodes


def bright(*photodiodes: int, prnu: float = 0.1, dsnu_e: float = 0.0, colour_filter: str = "none") -> CameraSetting:
    """So many electrons that the maps are all the noise: captures a tenth as sensitive each."""
    captures = tuple(CaptureSetting(0.1**n, 1e8, 0.0, 4e-5, 0.0, one) for n, one in enumerate(photodiodes))
    return CameraSetting(captures, 5e7, 0.5, 12, 4095, 0.0, prnu, dsnu_e, 0.0, colour_filter, 0.9, None, noisy=True)


def gains(setting: CameraSetting, shape: tuple[int, ...], level: float = 0.8) -> torch.Tensor:
    sensed = to_linear(sense(torch.full((1, *shape), level), setting, 0, "test", torch.tensor([0]), 0))[0]
    return sensed / to_linear(torch.tensor(level))


@pytest.mark.parametrize("values", [{"prnu": 0.1}, {"prnu": 0.0, "dsnu_e": 3e6}], ids=["prnu", "dsnu"])
@pytest.mark.parametrize("colour_filter", ["none", "rggb"])
def test_a_camera_sees_a_centre_crop_with_the_same_gains(values, colour_filter):
    setting = bright(0, **values, colour_filter=colour_filter)
    whole, part = gains(setting, (3, 60, 40)), gains(setting, (3, 32, 16))
    inside = middle(middle(whole, 32, 16), 30, 14)  # the outermost pixels have other neighbours to interpolate from
    assert torch.allclose(inside, middle(part, 30, 14), atol=4e-3)
    assert part.std() > 0.03
    assert abs(np.corrcoef(gains(setting, (3, 32, 16)).flatten(), whole[:, :32, :16].flatten())[0, 1]) < 0.15


@pytest.mark.parametrize(("photodiodes", "least", "most"), [((0, 0), 0.99, 1), ((0, 1), -0.1, 0.1)])
def test_captures_of_one_photodiode_share_its_maps(photodiodes, least, most):
    setting = bright(*photodiodes)
    eye = camera._Camera(replace(setting, white_e=1e8), 0, "test", torch.tensor([0]), 0, 0)
    light = torch.full((1, 1, 60, 60), 0.7)
    first, second = (eye.capture(light, index, output="linear")[0].flatten() for index in (0, 1))
    assert least < np.corrcoef(first, second)[0, 1] <= most


def test_no_images_have_no_maps(monkeypatch):
    nothing, none = torch.zeros(0, 3, 4, 4), torch.zeros(0, dtype=torch.int64)
    setting = replace(bright(0, dsnu_e=1.0), row_noise_e=1.0)
    for kernel in (camera._kernel("cpu"), camera_reference):
        monkeypatch.setattr(camera, "_kernel", lambda _, kernel=kernel: kernel)
        assert sense(nothing, setting, 0, "test", none, 0).shape == (0, 3, 4, 4)
