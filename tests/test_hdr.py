"""High dynamic range: the merge against NumPy, and the saw-tooth of its signal-to-noise ratio."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from robustcheck.errors import InvalidValueError
from robustcheck.sensing import camera, companding
from robustcheck.sensing.camera import CameraSetting, CaptureSetting
from robustcheck.sensing.camera_profile import Companding
from robustcheck.sensing.hdr import hand_over_dn, merge
from robustcheck.sensing.profile import load_sensor
from robustcheck.sensing.quantity import Table
from robustcheck.sensing.srgb import from_linear, to_linear

PIXELS = 2**16
BLACK_DN = 64.0


def setting(*captures: CaptureSetting, hand_over: float = 0.9, curve: Companding | None = None) -> CameraSetting:
    """A 12-bit camera whose white fills its least sensitive capture."""
    white_e = max(min(c.full_well_e, (4095 - BLACK_DN) / c.gain_dn_per_e) / c.sensitivity for c in captures)
    return CameraSetting(
        captures, white_e, 1.0, 12, 4095, BLACK_DN, 0.0, 0.0, 0.0, "none", hand_over, curve, noisy=True
    )  # fmt: skip


def capture(sensitivity: float, well_e: float = 10_000, read_e: float = 2.0, dark_e: float = 0.0) -> CaptureSetting:
    return CaptureSetting(sensitivity, well_e, read_e, 4000 / well_e, dark_e)


MULTI_EXPOSURE = {ratio: setting(capture(1.0), capture(1 / ratio), capture(1 / ratio**2)) for ratio in (4, 8, 16)}
# OmniVision's 2.8 µm split pixel: one large diode with two gains and a small one of a tenth of its sensitivity.
SPLIT_PIXEL = setting(
    CaptureSetting(1.0, 5390, 0.83, 0.7, 0.6),
    CaptureSetting(1.0, 22_000, 3.05, 0.18, 0.6),
    CaptureSetting(0.1, 7900, 2.96, 0.5, 0.1),
)
CAMERAS = {f"multi-exposure {ratio}": one for ratio, one in MULTI_EXPOSURE.items()} | {"split-pixel": SPLIT_PIXEL}


def read(one: CaptureSetting, electrons: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Codes of a 12-bit converter by the EMVA 1288 model; `electrons` of the first capture."""
    filled = np.minimum(generator.poisson(electrons * one.sensitivity + one.dark_e), one.full_well_e)
    noisy = filled + generator.normal(0, one.read_noise_e, filled.shape)
    return np.clip(np.rint(one.gain_dn_per_e * noisy + BLACK_DN), 0, 4095)


def noise_free(one: CaptureSetting, electrons: np.ndarray) -> np.ndarray:
    filled = np.minimum(electrons * one.sensitivity + one.dark_e, one.full_well_e)
    return np.clip(np.rint(one.gain_dn_per_e * filled + BLACK_DN), 0, 4095)


def merged_e(camera_setting: CameraSetting, readings: list[np.ndarray]) -> np.ndarray:
    """Electrons of the first capture that `merge` finds."""
    tensors = [torch.from_numpy(reading).float() for reading in readings]
    return merge(tensors, camera_setting).double().numpy() * camera_setting.white_e


def hand_overs_e(camera_setting: CameraSetting) -> list[float]:
    """Signal of each hand-over, in electrons of the first capture."""
    return [
        (hand_over_dn(one, camera_setting) / one.gain_dn_per_e - one.dark_e) / one.sensitivity
        for one in camera_setting.captures[:-1]
    ]


def expected_snr(one: CaptureSetting, electrons: float) -> float:
    """EMVA 1288 release 4: mu / sqrt(mu + dark + read² + (1/12) / K²), all of this capture."""
    mean = electrons * one.sensitivity
    return mean / math.sqrt(mean + one.dark_e + one.read_noise_e**2 + 1 / (12 * one.gain_dn_per_e**2))


def decibels(ratio: float) -> float:
    return 20 * math.log10(ratio)


def test_hand_over_is_a_share_of_the_well_or_the_converter():
    assert hand_over_dn(capture(1.0), MULTI_EXPOSURE[4]) == pytest.approx(0.9 * 4000)
    assert hand_over_dn(SPLIT_PIXEL.captures[0], SPLIT_PIXEL) == pytest.approx(0.9 * 5390 * 0.7)
    steep = CaptureSetting(1.0, 10_000, 2.0, 1.0, 0.0)
    assert hand_over_dn(steep, setting(steep)) == pytest.approx(0.9 * (4095 - 64))


@pytest.mark.parametrize("name", CAMERAS)
def test_merge_is_a_choice_pixel_by_pixel(name):
    one = CAMERAS[name]
    generator = np.random.default_rng(0)
    electrons = np.geomspace(1, 1.2 * one.white_e, 5000).reshape(2, 1, 50, 50)
    readings = [read(c, electrons, generator) for c in one.captures]
    expected = np.empty_like(electrons)
    for index in np.ndindex(electrons.shape):
        for c, codes in zip(one.captures, readings, strict=True):
            saturated = min(c.gain_dn_per_e * c.full_well_e, 4095 - BLACK_DN)
            expected[index] = (codes[index] - BLACK_DN - c.gain_dn_per_e * c.dark_e) / (c.gain_dn_per_e * c.sensitivity)
            if codes[index] - BLACK_DN < 0.9 * saturated:
                break
    np.testing.assert_allclose(merged_e(one, readings), expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("name", CAMERAS)
def test_the_saw_tooth_at_each_hand_over(name):
    """20·log10(√ratio) where shot noise dominates, by the closed form and by captures made with NumPy."""
    one = CAMERAS[name]
    generator = np.random.default_rng(1)
    for signal_e, (above, below) in zip(hand_overs_e(one), pairwise(one.captures), strict=True):
        # Six standard deviations away a pixel's own noise no longer decides which capture it is taken from.
        spread = 6 * math.sqrt(signal_e / above.sensitivity)
        found = {}
        for side, used in ((-1, above), (1, below)):
            electrons = signal_e + side * spread
            flat = merged_e(one, [read(c, np.full(PIXELS, electrons), generator) for c in one.captures])
            snr = flat.mean() / flat.std()
            assert decibels(snr) == pytest.approx(decibels(expected_snr(used, electrons)), abs=0.1)
            assert flat.mean() == pytest.approx(electrons, rel=6 / snr / math.sqrt(PIXELS))
            # Shot noise makes the ratio rise with the root of the signal, which is not part of the dip.
            found[side] = decibels(snr / math.sqrt(electrons / signal_e))
        ratio = above.sensitivity / below.sensitivity
        assert found[-1] - found[1] == pytest.approx(decibels(math.sqrt(ratio)), abs=0.15)


def test_the_split_pixel_dips_by_ten_decibels():
    signal_e = hand_overs_e(SPLIT_PIXEL)[1]
    large, small = SPLIT_PIXEL.captures[1:]
    assert decibels(expected_snr(large, signal_e) / expected_snr(small, signal_e)) == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize("ratio", [4, 16])
def test_the_saw_tooth_through_the_whole_camera(ratio):
    one = MULTI_EXPOSURE[ratio]
    signal_e = hand_overs_e(one)[0]
    found = []
    for electrons, used in ((0.93 * signal_e, one.captures[0]), (1.07 * signal_e, one.captures[1])):
        flat = from_linear(torch.full((1, 1, 256, 256), electrons / one.white_e))
        sensed = to_linear(camera.sense(flat, one, 0, "test", torch.tensor([0]), 0)).double()
        found.append(decibels(float(sensed.mean() / sensed.std())))
        assert found[-1] == pytest.approx(decibels(expected_snr(used, electrons)), abs=0.1)
    rise = decibels(math.sqrt(1.07 / 0.93))
    assert found[0] - found[1] + rise == pytest.approx(decibels(math.sqrt(ratio)), abs=0.15)


def test_a_pixels_own_noise_lowers_the_mean_at_a_hand_over():
    one = MULTI_EXPOSURE[4]
    generator = np.random.default_rng(2)
    threshold_e, first = hand_overs_e(one)[0], one.captures[0]
    sigma = math.sqrt(threshold_e + first.read_noise_e**2)
    for distance in (-1.0, 0.0, 1.0):
        mean = threshold_e + distance * sigma
        flat = merged_e(one, [read(c, np.full(PIXELS, mean), generator) for c in one.captures])
        density = math.exp(-(distance**2) / 2) / math.sqrt(2 * math.pi)
        assert flat.mean() - mean == pytest.approx(-sigma * density, abs=5 * 2 * sigma / math.sqrt(PIXELS) + 1)


@pytest.mark.parametrize("name", CAMERAS)
def test_the_noise_free_response_is_continuous(name):
    """It follows the signal within half a code of the capture used, so a hand-over jumps by less than one."""
    one = CAMERAS[name]
    electrons = np.linspace(0, one.white_e, 200_001)
    found = merged_e(one, [noise_free(c, electrons) for c in one.captures])
    half_code = np.full(electrons.shape, 0.5 / (one.captures[0].gain_dn_per_e * one.captures[0].sensitivity))
    for signal_e, used in zip(hand_overs_e(one), one.captures[1:], strict=True):
        # Rounding decides within a code of the hand-over which capture is used.
        half_code[electrons >= 0.999 * signal_e] = 0.5 / (used.gain_dn_per_e * used.sensitivity)
    assert np.all(np.abs(found - electrons) <= half_code * 1.001 + 1e-6 * electrons)
    assert np.all(np.diff(found) >= -half_code[1:] * 1.001)
    last = one.captures[-1]
    assert found[-1] == pytest.approx(one.white_e, abs=1 / (last.gain_dn_per_e * last.sensitivity))


def test_without_noise_the_camera_gives_white_and_rises():
    one = replace(MULTI_EXPOSURE[16], noisy=False)
    levels = torch.linspace(0, 1, 4097).reshape(1, 1, 1, -1)
    sensed = camera.sense(levels, one, 0, "test", torch.tensor([0]), 0).flatten()
    assert sensed[0] == 0
    assert sensed[-1] == pytest.approx(1, abs=1e-3)
    assert bool((torch.diff(sensed) >= -1e-3).all())
    assert float((sensed - levels.flatten()).abs().max()) < 2e-3


def companded_24_bit() -> CameraSetting:
    """Four captures of 12 bits and 1/2 DN/electron, sixteen times less sensitive each, and a curve of eight knees."""
    cited = {"unit": "DN", "kind": "exact", "status": "assumed", "source": "a test"}
    knees = [0] + [2**n for n in range(10, 25, 2)]
    curve = Companding(
        title="24 bits to 12",
        input_dn=Table(values=tuple(float(knee) for knee in knees), **cited),
        output_dn=Table(values=tuple(512.0 * n for n in range(len(knees))), **cited),
    )
    captures = [CaptureSetting(16.0**-n, 1e6, 2.0, 0.5, 0.0) for n in range(4)]
    return setting(*captures, curve=curve)


def test_companding_carries_24_bits_within_half_a_step():
    one = companded_24_bit()
    electrons = np.append(np.geomspace(1, 0.99 * one.white_e, 20_000), one.white_e)
    readings = [noise_free(c, electrons) for c in one.captures]
    linear = torch.from_numpy(merged_e(replace(one, companding=None), readings)) * 0.5
    found = torch.from_numpy(merged_e(one, readings)) * 0.5
    assert float(linear.max()) == pytest.approx((4095 - BLACK_DN) * 16**3)
    steps = companding.step(linear, one.companding).double()
    assert bool(((found - linear).abs() <= steps / 2 + 1e-6 * linear).all())
    assert len(np.unique(found.numpy())) < 4096 < len(np.unique(linear.numpy()))


def test_companding_clips_what_is_below_black_and_beyond_the_curve():
    one = companded_24_bit()
    dark = [torch.tensor([60.0]) for _ in one.captures]
    assert float(merge(dark, replace(one, companding=None))) < 0
    assert float(merge(dark, one)) * one.white_e * 0.5 == pytest.approx(0.5)  # linear codes 0 and 1 share code 0
    beyond = replace(one, captures=(*one.captures[:-1], replace(one.captures[-1], sensitivity=16.0**-4)))
    full = [torch.tensor([4095.0]) for _ in one.captures]
    top = companding.decode(torch.tensor([4095]), one.companding).item()
    assert float(merge(full, beyond)) * one.white_e * 0.5 == pytest.approx(top, rel=1e-6)


@pytest.mark.parametrize("name", ["camera-ar0331", "camera-ov-split-pixel", "camera-ox03c10"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_gradient_is_that_of_one_value_however_many_captures(name, channels):
    one = camera.camera_setting(load_sensor(name), exposure=0.9)
    image = torch.rand(2, channels, 40, 40, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1
    image.requires_grad_()
    sensed = camera.sense(image, one, 0, "test", torch.arange(2), 0)
    sensed.sum().backward()
    assert set(image.grad.unique().tolist()) == {0.0, 1.0}
    inside = (image > 0) & (image < 1)
    assert bool((image.grad[inside & (sensed > 0) & (sensed < 1)] == 1).all())
    assert not image.grad[~inside | (sensed == 1)].any()
    assert bool((inside & (sensed == 1)).any())


def test_one_reading_a_capture():
    with pytest.raises(InvalidValueError, match="readings: expected one for each of 3 captures, got 2"):
        merge([torch.zeros(1), torch.zeros(1)], SPLIT_PIXEL)
