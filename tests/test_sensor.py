"""Sensors: settings bound to profiles, their names in a study, and what each kind refuses."""

import pytest
import torch
from scipy import stats

from robustcheck.errors import InvalidValueError, UnknownNameError, UsageError
from robustcheck.sensing.camera import saturation_e
from robustcheck.sensing.channel import Channel, channel
from robustcheck.sensing.operating_point import OperatingPoint
from robustcheck.sensing.profile import load_sensor, with_settings
from robustcheck.sensing.sensor import sensor


@pytest.mark.parametrize(
    ("spec", "settings", "key"),
    [
        ("adc-4bit", {}, "adc-4bit"),
        ("adc-4bit", {"steps": 16}, "adc-4bit/16 steps"),
        ("adc-4bit", {"steps": 16, "placement": "network"}, "adc-4bit/16 steps"),
        ("adc-4bit", {"steps": 16, "placement": "network", "form": "doa"}, "adc-4bit/16 steps/doa only"),
        ("adc-4bit", {"form": "doa"}, "adc-4bit"),
        ("camera-imx477", {}, "camera-imx477"),
        ("camera-imx477", {"bits": 8}, "camera-imx477/8 bits"),
        ("camera-imx477", {"settings": {"prnu": 0, "read_noise_e": 5}}, "camera-imx477/prnu=0/read_noise_e=5"),
        ("camera-imx477", {"vary": "bits", "at_exposure": 0.1}, "camera-imx477/bits at exposure 0.1"),
        ("lidar-vlp16", {"device_seed": 3}, "lidar-vlp16/device 3"),
    ],
)
def test_a_key_names_what_differs_from_the_profile(spec, settings, key):
    assert sensor(spec, **settings).key == key


def test_a_converter_is_hashed_as_before_there_were_other_kinds():
    plain = {
        "profile": "e3f63d41fb36871e982b63bb4a60cdd052d5778ea7c499a317561870bbcf8844",
        "steps": 15,
        "noise": "gaussian",
        "form": "aod",
        "placement": "sensor",
        "range": None,
    }
    inside = plain | {"form": None, "placement": "network", "range": "unit"}
    assert sensor("adc-4bit").as_dict() == plain
    assert sensor("adc-4bit", form="doa").as_dict() == plain | {"form": "doa"}
    assert sensor("adc-4bit", placement="network", range="unit").as_dict() == inside
    assert sensor("adc-4bit", placement="network", range="unit", form="doa").as_dict() == inside | {"form": "doa"}


def test_everything_that_changes_a_camera_changes_its_hash():
    plain = sensor("camera-imx477").as_dict()
    for settings in ({"bits": 8}, {"settings": {"prnu": 0}}, {"vary": "bits"}, {"device_seed": 1}):
        assert sensor("camera-imx477", **settings).as_dict() != plain
    at = [sensor("camera-imx477", vary="bits", at_exposure=each).as_dict() for each in (0.1, 0.2)]
    assert at[0] != at[1]


@pytest.mark.parametrize(
    ("spec", "settings", "error", "message"),
    [
        ("camera-imx477", {"placement": "network"}, UsageError, "noise inside the network is a converter's"),
        ("camera-imx477", {"noise": "laplace"}, UsageError, "a camera with a noise of its own"),
        ("camera-imx477", {"form": "doa"}, UsageError, "quantises after its noise"),
        ("lidar-vlp16", {"bits": 8}, UsageError, "its resolution is range_lsb_m"),
        ("lidar-vlp16", {"vary": "bits"}, UsageError, "has no exposure"),
        ("adc-4bit", {"vary": "bits"}, UsageError, "a converter, which has no exposure"),
        ("camera-imx477", {"settings": {"read_noise": 5}}, UnknownNameError, "did you mean 'read_noise_e'"),
        ("camera-imx477", {"settings": {"read_noise_e": -1}}, UsageError, "expected a number from 0 to 100000, got -1"),
        ("camera-imx477", {"device_seed": -1}, InvalidValueError, "device seed"),
        ("camera-imx477", {"vary": "light"}, UnknownNameError, "quantity to vary"),
        ("camera-imx477", {"settings": {"bits": 8}}, UsageError, "--set bits: expected --bits"),
        ("camera-imx477", {"settings": {"black_level_dn": 5000}}, UsageError, "expected less than the last code, 4095"),
        ("camera-imx477", {"vary": "bits", "bits": 8}, UsageError, "expected none where an EP moves the bits, got 8"),
        ("camera-imx477", {"at_exposure": 0.1}, UsageError, "with vary 'bits' alone"),
        ("camera-ox03c10", {"bits": 8}, UsageError, "made for its own 4096 codes"),
        ("camera-ox03c10", {"vary": "bits"}, UsageError, "made for its own 4096 codes"),
        ("adc-4bit", {"device_seed": 1}, UsageError, "of which all specimens are alike"),
        ("adc-4bit", {"bits": 4, "steps": 15}, InvalidValueError, "bits or steps, not both"),
    ],
)
def test_a_setting_that_the_kind_has_not_is_refused(spec, settings, error, message):
    with pytest.raises(error) as caught:
        sensor(spec, **settings)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "point", "message"),
    [
        ("adc-4bit", {"exposure": 0.1}, "it is a converter; use --ep"),
        ("camera-imx477", {"signal": 0.1}, "it is a camera; use --exposure or --ep"),
        ("lidar-vlp16", {"ep": 0.1}, "it is a LIDAR"),
        ("camera-imx477", {"ep": 0.1, "exposure": 0.1}, "one of them"),
        ("camera-imx477", {"exposure": 0}, "0 < exposure <= 1"),
        ("adc-4bit", {"ep": 1}, "0 < EP < 1"),
    ],
)
def test_an_axis_that_the_kind_has_not_is_refused(spec, point, message):
    with pytest.raises(UsageError) as caught:
        channel(spec, **point)
    assert message in str(caught.value)


def test_a_set_number_counts_as_assumed():
    profile = with_settings(load_sensor("camera-imx477"), {"read_noise_e": 5})
    assert profile.read_noise_e.value == 5
    assert "read_noise_e" in profile.assumed
    assert "read_noise_e" not in load_sensor("camera-imx477").assumed


def test_a_reading_has_the_axes_of_its_kind():
    converter = channel("adc-4bit", ep=0.5).reading
    assert (converter.ep, converter.exposure, converter.signal) == (0.5, None, None)
    camera = channel("camera-imx477", exposure=0.1).reading
    assert (camera.exposure, camera.bits, camera.signal) == (0.1, None, None)
    assert 0.9 < camera.ep < 1
    bits = Channel(sensor("camera-imx477", vary="bits"), OperatingPoint("ep", 0.5)).reading
    assert bits.bits == pytest.approx(6.66, abs=0.01)
    assert bits.exposure == 0.5
    lidar = channel("lidar-vlp16", signal=0.3).reading
    assert (lidar.ep, lidar.signal) == (None, 0.3)
    assert 0 < lidar.range_ep < 1


def test_an_ep_that_a_camera_cannot_reach_names_what_it_can():
    with pytest.raises(UsageError) as caught:
        _ = channel("camera-imx477", ep=0.5).reading
    assert "0.72" in str(caught.value)


def test_an_analog_gain_multiplies_the_noise_in_codes_and_brings_the_converters_end_nearer():
    plain = channel("camera-imx477", exposure=0.1).reading
    geared = channel("camera-imx477", exposure=0.1, settings={"analog_gain": 4}).reading
    assert geared.sigma_steps == pytest.approx(4 * plain.sigma_steps)
    assert geared.ep > plain.ep
    with pytest.raises(UsageError) as caught:
        _ = channel("camera-imx477", exposure=0.5, settings={"analog_gain": 4}).reading
    assert "use an exposure of at most 0.25," in str(caught.value)  # (4095.5 − 256) / (4 · 0.47 · 8180)


def test_a_setting_leaves_beams_out():
    image = torch.full((1, 2, 16, 8), 0.1)
    sensed = channel("lidar-vlp16", signal=1.0, settings={"keep_every": 4, "false_return_rate": 0})(image)
    assert (sensed[0, 0].amax(dim=1) > 0).tolist() == [row % 4 == 0 for row in range(16)]


def test_a_set_number_keeps_its_kind_and_takes_the_place_of_a_table():
    bias = load_sensor("lidar-hap").beam_bias_m
    again = with_settings(load_sensor("lidar-hap"), {"beam_bias_m": bias.value}).beam_bias_m
    assert (again.value, again.kind) == (bias.value, "max")
    ouster = load_sensor("lidar-os1-64")
    assert ouster.range_noise_by_snr is not None
    assert with_settings(ouster, {"range_noise_m": 0.5, "range_noise_limit_m": 0.6}).range_noise_by_snr is None
    assert with_settings(ouster, {"beam_bias_m": 0.1}).range_noise_by_snr is not None


def test_exposure_is_a_share_of_the_wells_whatever_the_gain():
    for name in ("camera-imx477", "camera-ov-split-pixel"):
        profile = load_sensor(name)
        assert saturation_e(profile) == saturation_e(with_settings(profile, {"analog_gain": 4}))


def test_a_weaker_return_is_detected_less_often():
    strong, weak = (channel("lidar-vlp16", signal=signal).reading.detection for signal in (1.0, 0.1))
    # 10 % at 20 m against the threshold at 35.36 m: Φ(3.719 · (35.36 / 20)² − 3.719), and a tenth of that SNR
    assert strong == pytest.approx(float(stats.norm.cdf(3.719 * ((35.36 / 20) ** 2 - 1))), rel=1e-6)
    assert weak == pytest.approx(float(stats.norm.cdf(3.719 * (0.1 * (35.36 / 20) ** 2 - 1))), rel=1e-3)
