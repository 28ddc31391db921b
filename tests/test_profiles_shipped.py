"""The shipped profiles: what they cite, whether derived numbers follow from it, and that each of them senses."""

import math
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from robustcheck.sensing.channel import channel
from robustcheck.sensing.profile import load_sensor, sensor_names
from robustcheck.sensing.quantity import numbers

ROOT = Path(__file__).resolve().parent.parent
NAMES = [name for name in sensor_names() if not name.startswith("adc-")]
CAMERAS = [name for name in NAMES if name.startswith("camera-")]
LIDARS = [name for name in NAMES if name.startswith("lidar-")]

# SNR maximum and dynamic range [dB] as published, and the full well and read noise [electrons] that follow.
PUBLISHED = {
    "camera-imx249": (45.1, 73.0, 32360, 6.4),
    "camera-imx255": (40.3, 71.3, 10715, 2.3),
    "camera-imx420": (43.8, 71.7, 23990, 5.5),
    "camera-imx250": (40.2, 71.1, 10471, 2.3),
    "camera-imx532": (39.8, 70.6, 9550, 2.2),
    "camera-imx535": (39.7, 69.8, 9333, 2.4),
    "camera-imx487": (39.5, 69.3, 8913, 2.5),
    "camera-imx547": (39.7, 69.9, 9333, 2.4),
}
# Bits at which EP is ½ at 50, 10 and 1 % of the full well.
HALF = {
    "camera-imx249": (7.56, 8.71, 10.30),
    "camera-imx255": (6.76, 7.92, 9.55),
    "camera-imx420": (7.34, 8.50, 10.08),
    "camera-imx183": (7.00, 8.15, 9.77),
    "camera-ov-split-pixel": (6.27, 7.43, 9.08),
    "camera-ar0132at": (7.38, 8.52, 10.01),
    "camera-imx363": (6.34, 7.48, 8.91),
}


def test_there_are_enough_of_them():
    assert len(CAMERAS) >= 12
    assert len(LIDARS) >= 6
    assert sorted(CAMERAS + LIDARS) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_called_what_it_holds_and_leaves_no_number_out(name):
    profile = load_sensor(name)
    assert profile.name == name
    assert name.startswith(profile.kind)
    document = tomllib.loads((ROOT / "sensors" / f"{name}.toml").read_text(encoding="utf-8"))
    optional = {"hdr", "published", "range_noise_by_snr", "analog_gain", "ambient_noise", "keep_every"}
    assert set(type(profile).model_fields) - optional <= set(document)
    assert len(profile.description) > 60


@pytest.mark.parametrize("name", NAMES)
def test_what_is_assumed_says_so_and_the_rest_names_a_source(name):
    profile = load_sensor(name)
    for place, number in numbers(profile):
        guessed = re.search(r"no published|from memory|assumed|not verified|setting of the user", number.source)
        if number.status in ("measured", "datasheet", "modelled"):
            assert not re.search(r"from memory|not verified|assumed", number.source), place
            assert len(number.source) > 8, place
        elif number.status == "assumed" and not place.startswith("operating_points."):
            assert guessed or len(number.source) > 40, place


@pytest.mark.parametrize("name", NAMES)
def test_operating_points_fall_and_are_assumed(name):
    points = load_sensor(name).operating_points
    values = [point.value for point in points.values()]
    assert values == sorted(values, reverse=True)
    assert {point.status for point in points.values()} == {"assumed"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_full_well_and_read_noise_follow_from_the_published_decibels(name):
    snr, dynamic_range, well, read = PUBLISHED[name]
    profile = load_sensor(name)
    assert (profile.published.snr_max_db.value, profile.published.dynamic_range_db.value) == (snr, dynamic_range)
    assert profile.full_well_e.value == pytest.approx(10 ** (snr / 10), rel=1e-4)
    assert profile.full_well_e.value == pytest.approx(well, rel=1e-3)
    least = 10 ** (snr / 10) / 10 ** (dynamic_range / 20)
    gain = 4096 / 10 ** (snr / 10)
    assert profile.gain_dn_per_e.value == pytest.approx(gain, rel=1e-3)
    assert profile.read_noise_e.value == pytest.approx(math.sqrt((least - 0.5) ** 2 - 1 / 12 / gain**2), rel=1e-3)
    assert profile.read_noise_e.value == pytest.approx(read, abs=0.06)
    assert {profile.full_well_e.status, profile.read_noise_e.status, profile.gain_dn_per_e.status} == {"derived"}


@pytest.mark.parametrize("name", HALF)
def test_bits_at_which_half_of_the_values_change_code(name):
    profile = load_sensor(name)
    for share, bits in zip((0.5, 0.1, 0.01), HALF[name], strict=True):
        sigma = profile.gain_dn_per_e.value * math.hypot(
            math.sqrt(share * profile.full_well_e.value), profile.read_noise_e.value
        )
        # EP ½ is a standard deviation of 0.7413 codes.
        assert profile.bits.value + math.log2(0.7413 / sigma) == pytest.approx(bits, abs=0.015)


def test_the_reference_camera_has_its_measured_numbers():
    camera = load_sensor("camera-imx477")
    measured = [camera.bits, camera.full_well_e, camera.read_noise_e, camera.gain_dn_per_e, camera.black_level_dn]
    assert [number.value for number in measured] == [12, 8180, 3.0, 0.47, 256]
    assert {number.status for number in measured} == {"measured"}
    sigma = 0.47 * math.sqrt(4090 + 9)
    assert 12 + math.log2(0.7413 / sigma) == pytest.approx(6.66, abs=0.01)


def test_the_split_pixel_reads_the_numbers_of_its_paper():
    camera = load_sensor("camera-ov-split-pixel")
    assert camera.full_well_e.value == pytest.approx(22000 * 49 / 200)
    assert [one.name for one in camera.hdr.captures] == ["LPD-LCG", "SPD-LCG"]
    assert [one.full_well_e.value for one in camera.hdr.captures] == [22000, 7900]
    assert [camera.read_noise_e.value, *(one.read_noise_e.value for one in camera.hdr.captures)] == [0.83, 3.05, 2.96]
    low = camera.hdr.captures[0].gain_dn_per_e.value
    assert low / camera.gain_dn_per_e.value == pytest.approx(49 / 200, rel=1e-3)


def test_a_law_is_the_published_one_up_to_4096_and_goes_on_like_it():
    curve = load_sensor("camera-ar0331").hdr.companding
    linear = np.arange(4096)
    segments = [(0, 0, 1), (256, 256, 2), (512, 384, 4), (1024, 512, 4), (2048, 768, 8)]
    expected = np.zeros(4096)
    for start, code, step in segments:
        expected = np.where(linear >= start, code + (linear - start) / step, expected)
    assert np.interp(linear, curve.input_dn.values, curve.output_dn.values) == pytest.approx(expected)
    beyond = np.diff(curve.input_dn.values)[5:] / np.diff(curve.output_dn.values)[5:]
    assert beyond.tolist() == [16, 32, 64, 128, 256]


def test_the_24_bit_curve_is_the_published_one():
    curve = load_sensor("camera-ox03c10").hdr.companding
    assert (curve.input_dn.values[-1], curve.output_dn.values[-1]) == (2**24, 4095)
    widths = np.diff(curve.input_dn.values)
    assert (np.log2(widths) % 1 == 0).all()  # registers hold their exponents
    slopes = {512: 1, 768: 2, 1536: 4, 1792: 16, 2048: 32, 2304: 64, 2560: 128, 2816: 256}
    linear, last = 0, 0
    for code, slope in slopes.items():
        linear += slope * (code - last)
        last = code
        # openpilot's decoding curve, which is drawn for 4,096 codes and not 4,095
        assert np.interp(code, curve.output_dn.values, curve.input_dn.values) == pytest.approx(linear, rel=0.005)


def test_beam_tables():
    assert load_sensor("lidar-vlp16").elevation_deg.values == tuple(range(15, -16, -2))
    ends = {"lidar-hdl64e": (64, 2, -24.8), "lidar-pandar64": (64, 15, -25), "lidar-hap": (96, 12.5, -12.5)}
    for name, (beams, top, bottom) in ends.items():
        values = load_sensor(name).elevation_deg.values
        assert values == pytest.approx(np.linspace(top, bottom, beams), abs=1e-4)


@pytest.mark.parametrize("name", LIDARS)
def test_an_unpublished_range_at_10_percent_follows_from_the_maximum_range(name):
    lidar = load_sensor(name)
    if "sqrt(10 / 80)" in lidar.range_at_10_percent_m.source:
        assert lidar.range_at_10_percent_m.value == pytest.approx(lidar.max_range_m.value / math.sqrt(8), rel=1e-3)
        assert lidar.range_at_10_percent_m.status == "assumed"


@pytest.mark.parametrize("name", CAMERAS)
def test_every_camera_senses(name):
    grey = torch.linspace(0.2, 1, 3 * 16).reshape(1, 3, 4, 4)
    points = load_sensor(name).operating_points
    sensed = channel(name, exposure=points["daylight"].value)(grey)
    assert sensed.shape == grey.shape
    assert (sensed - grey).abs().max() < 0.1
    dim = channel(name, exposure=points["night"].value)(grey)
    assert (dim - grey).abs().mean() > (sensed - grey).abs().mean()


@pytest.mark.parametrize("name", LIDARS)
def test_every_lidar_senses(name):
    lidar = load_sensor(name)
    scene = torch.tensor([10 / 128, 0.4]).reshape(1, 2, 1, 1).repeat(1, 1, len(lidar.elevation_deg.values), 8)
    sensed = channel(name, signal=1.0)(scene)
    assert sensed.shape == scene.shape
    returns = sensed[0, 0] > 0
    assert returns.float().mean() > 0.99
    assert (sensed[0, 0][returns] * 128 - 10).abs().median() < 0.1


def test_the_readme_names_every_profile_and_every_field():
    text = (ROOT / "sensors" / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"`{name}`" in text, name
        for place in load_sensor(name).numbers:
            field = place.rpartition(".")[2]
            assert place.startswith("operating_points.") or f"`{field}`" in text, place
