"""What the numbers of a profile say of each other: shipped ones fit or explain themselves, broken ones are found."""

import math

import pytest
import torch

from robustcheck.sensing import companding
from robustcheck.sensing.consistency import Finding, findings
from robustcheck.sensing.profile import load_sensor, sensor_names, with_settings

# Peculiarities of parts, and the words in which their descriptions own up to them.
EXPLAINED = {
    ("camera-imx363", "full scale"): "the converter clips at 94 % of the well",
    ("lidar-ml30s", "range noise in steps"): "steps of 3 cm, as large as its error",
    ("lidar-os1-64-lowrate", "range noise in steps"): "1.9 steps to the standard deviation",
}


def by_name(profile):
    return {finding.name: finding for finding in findings(profile)}


def test_shipped_profiles_fit_or_say_why_not():
    seen = set()
    for name in sensor_names():
        profile = load_sensor(name)
        for finding in findings(profile):
            if not finding.ok:
                assert EXPLAINED[name, finding.name] in profile.description
                seen.add((name, finding.name))
    assert seen == set(EXPLAINED)


@pytest.mark.parametrize("name", [name for name in sensor_names() if not name.startswith("adc-")])
def test_every_camera_and_lidar_has_something_to_compare(name):
    assert len(findings(load_sensor(name))) >= 3


def test_a_converter_has_nothing_to_compare():
    assert findings(load_sensor("adc-8bit")) == ()


def test_full_scale_is_gain_times_well_plus_black():
    found = by_name(load_sensor("camera-imx477"))["full scale"]
    assert found.got == pytest.approx(0.47 * 8180 + 256)
    assert (found.low, found.high) == pytest.approx((4096 * 0.95, 4096 * 1.05))
    over = by_name(load_sensor("camera-imx363"))["full scale"]
    share = (1023 - 64) / (0.1707 * 6000)
    assert f"the converter clips at {share:.1%} of the full well" in over.text
    under = by_name(with_settings(load_sensor("camera-imx477"), {"gain_dn_per_e": 0.4}))["full scale"]
    assert not under.ok
    assert "the full well ends at 86.1% of the codes" in under.text


@pytest.mark.parametrize("name", ["camera-imx249", "camera-imx255", "camera-imx420", "camera-imx250"])
def test_published_decibels_come_back(name):
    profile = load_sensor(name)
    well, gain = profile.full_well_e.value, profile.gain_dn_per_e.value
    dark = math.sqrt(profile.read_noise_e.value**2 + 1 / 12 / gain**2)
    found = by_name(profile)
    # EMVA 1288 sees saturation a little before the well is full.
    assert found["SNR maximum"].got == pytest.approx(10 * math.log10(well), abs=0.2)
    assert found["dynamic range"].got == pytest.approx(20 * math.log10(well / (dark + 0.5)), abs=0.4)
    assert found["SNR maximum"].high - found["SNR maximum"].low == pytest.approx(1)
    assert found["dynamic range"].low == pytest.approx(profile.published.dynamic_range_db.value - 1)


@pytest.mark.parametrize(
    ("name", "settings", "broken"),
    [
        ("camera-imx255", {"gain_dn_per_e": 0.5}, {"full scale", "SNR maximum", "dynamic range"}),
        ("camera-imx255", {"full_well_e": 9000, "gain_dn_per_e": 4096 / 9000}, {"SNR maximum", "dynamic range"}),
        ("camera-imx255", {"read_noise_e": 4}, {"dynamic range"}),
        ("camera-imx255", {"dark_current_e_per_s": 3000}, {"dynamic range"}),
        ("camera-imx255", {"read_noise_e": 1.2}, {"dynamic range", "noise in the dark"}),
        ("camera-imx255", {"black_level_dn": 700}, {"full scale", "SNR maximum", "dynamic range"}),
        ("camera-imx363", {"gain_dn_per_e": 0.1, "black_level_dn": 400}, {"step against shot noise"}),
        ("camera-ar0237", {"hdr.captures.0.gain_dn_per_e": 0.2}, {"full scale of T2"}),
        ("camera-ar0237", {"hdr.captures.0.sensitivity": 1}, {"dynamic range", "reach of the captures"}),
        ("camera-ox03c10", {"hdr.captures.1.sensitivity": 0.02}, {"order of the captures"}),
        ("camera-ar0331", {"hdr.captures.0.sensitivity": 0.02}, {"dynamic range", "end of the companding"}),
        ("lidar-vlp16", {"range_lsb_m": 0.01}, {"range noise in steps"}),
        ("lidar-vlp16", {"range_noise_m": 0.05}, {"range noise in steps"}),
        ("lidar-vlp16", {"range_noise_limit_m": 0.01}, {"growth of the range noise"}),
        ("lidar-vlp16", {"max_range_m": 130}, {"maximum range"}),
        ("lidar-vlp16", {"range_at_10_percent_m": 60}, {"maximum range"}),
        ("lidar-vlp16", {"detection_snr": 3}, {"detection SNR"}),
        ("lidar-vlp16", {"false_return_rate": 0.01}, {"detection SNR"}),
    ],
)
def test_a_wrong_number_is_found_out(name, settings, broken):
    found = by_name(with_settings(load_sensor(name), settings))
    assert broken <= {finding.name for finding in found.values() if not finding.ok}
    if name != "camera-imx363":
        assert {finding.name for finding in found.values() if not finding.ok} <= broken | {"step of the companding"}


def test_extreme_rates_of_false_returns_are_taken():
    vlp16 = load_sensor("lidar-vlp16")
    assert "detection SNR" not in by_name(with_settings(vlp16, {"false_return_rate": 0}))
    assert by_name(with_settings(vlp16, {"false_return_rate": 1}))["detection SNR"].low == pytest.approx(-0.5)
    assert by_name(with_settings(vlp16, {"false_return_rate": 1e-20}))["detection SNR"].high < 10


@pytest.mark.parametrize("name", ["camera-ar0331", "camera-ox03c10"])
def test_the_step_of_the_companding_is_held_against_shot_noise(name):
    profile = load_sensor(name)
    gain, share = profile.gain_dn_per_e.value, profile.hdr.hand_over.value
    codes = 4095 - profile.black_level_dn.value
    captures = [(1.0, profile), *((one.sensitivity.value, one) for one in profile.hdr.captures)]
    reach = [min(one.full_well_e.value, codes / one.gain_dn_per_e.value) / sensitivity for sensitivity, one in captures]
    linear = torch.arange(1, int(gain * max(reach)), 7, dtype=torch.float64)
    electrons = linear / gain
    shot = gain * (electrons / captures[-1][0]).sqrt()
    for (sensitivity, _), most in reversed(list(zip(captures, reach, strict=True))[:-1]):
        shot = torch.where(electrons < share * most, gain * (electrons / sensitivity).sqrt(), shot)
    steps = companding.step(linear.float(), profile.hdr.companding).double()
    ratio = torch.where(steps > 1, steps / math.sqrt(12) / shot, 0.0)
    assert by_name(profile)["step of the companding"].got == pytest.approx(float(ratio.max()), rel=0.03)


def test_a_coarse_curve_is_found_out():
    profile = load_sensor("camera-ar0331")
    curve = profile.hdr.companding
    ends = {
        "input_dn": curve.input_dn.model_copy(update={"values": (0.0, 131072.0)}),
        "output_dn": curve.output_dn.model_copy(update={"values": (0.0, 16.0)}),
    }
    hdr = profile.hdr.model_copy(update={"companding": curve.model_copy(update=ends)})
    found = by_name(profile.model_copy(update={"hdr": hdr}))
    assert not found["step of the companding"].ok
    assert found["end of the companding"].ok


def test_bounds_are_inclusive_and_said_in_words():
    assert Finding("x", 1.0, 1.0, 2.0, "m", "").ok
    assert Finding("x", 2.0, 1.0, 2.0, "m", "").ok
    assert not Finding("x", 2.001, 1.0, 2.0, "m", "").ok
    assert not Finding("x", 0.999, 1.0, None, "1", "").ok
    assert Finding("x", 0.0, None, 1.0, "1", "").expected == "at most 1"
