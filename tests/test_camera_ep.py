"""Error probability of cameras against published check values, SciPy's exact sums and Monte Carlo, and its inverses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from robustcheck.errors import InvalidValueError, UnknownNameError, UsageError
from robustcheck.sensing import camera_ep
from robustcheck.sensing.camera import camera_setting, codes
from robustcheck.sensing.camera_ep import (
    bits_at_ep,
    capture_at,
    error_probability_at,
    exposure_at_ep,
    exposure_reach,
    gain_at_ep,
    mean_ep,
    reading,
    temporal_noise_e,
)
from robustcheck.sensing.profile import load_sensor, with_settings
from robustcheck.sensing.srgb import from_linear

QUIET = {"black_level_dn": 0, "dark_current_e_per_s": 0, "row_noise_e": 0, "prnu": 0, "dsnu_e": 0}


def camera(full_well, read_noise, *, gain=None, bits=12, **others):
    numbers = {"full_well_e": full_well, "read_noise_e": read_noise, "gain_dn_per_e": gain or 2**bits / full_well}
    return with_settings(load_sensor("camera-imx255"), QUIET | numbers | {"bits": bits} | others)


def published(snr_max_db, dynamic_range_db):
    """Full well and read noise of a sheet: FW = 10^(SNRmax/10), the noise by mu_min = FW / 10^(DR/20)."""
    full_well = 10 ** (snr_max_db / 10)
    dark = full_well / 10 ** (dynamic_range_db / 20) - 0.5
    return full_well, np.sqrt(dark**2 - (full_well / 4096) ** 2 / 12)


IMX477 = camera(8180, 3.0, gain=0.47, black_level_dn=256)
IMX255 = camera(*published(40.3, 71.3))


@pytest.mark.parametrize(("bits", "ep"), [(12, 0.986), (10, 0.943), (8, 0.775), (6, 0.253), (5, 0.022)])
def test_imx255_at_half_its_full_well(bits, ep):
    assert reading(camera_setting(IMX255, exposure=0.5, bits=bits)).ep == pytest.approx(ep, abs=5.1e-4)


# At 50, 10 and 1 % of the full well, where the gain takes the full well to the full scale. The read noise of the IMX183
# is only known by its 11.93 bits of dynamic range, hence the wider tolerance.
@pytest.mark.parametrize(
    ("part", "expected", "tolerance"),
    [
        ((8180, 3.0), (6.57, 7.72, 9.31), 0.006),
        (published(45.1, 73.0), (7.56, 8.71, 10.30), 0.006),
        (published(40.3, 71.3), (6.76, 7.92, 9.55), 0.006),
        (published(43.8, 71.7), (7.34, 8.50, 10.08), 0.006),
        (published(10 * np.log10(14837), 20 * np.log10(2**11.93)), (7.00, 8.15, 9.75), 0.03),
        ((5390, 0.83), (6.27, 7.43, 9.08), 0.006),
        ((22000, 3.05), (7.28, 8.44, 10.07), 0.006),
        ((25500, 9.1), (7.38, 8.52, 10.01), 0.006),
        ((6000, 5.0), (6.34, 7.48, 8.91), 0.006),
    ],
)
def test_bits_where_half_of_the_codes_change(part, expected, tolerance):
    found = [bits_at_ep(camera(*part), 0.5, exposure=exposure) for exposure in (0.5, 0.1, 0.01)]
    assert found == pytest.approx(expected, abs=tolerance)


def test_imx477_by_its_measured_gain():
    assert exposure_reach(IMX477).low == pytest.approx(0.72, abs=5e-3)
    assert bits_at_ep(IMX477, 0.5, exposure=0.5) == pytest.approx(6.66, abs=5e-3)


def test_temporal_noise_adds_in_squares():
    capture = camera_setting(camera(8000, 3.0, dark_current_e_per_s=700), exposure=1).captures[0]
    assert temporal_noise_e(capture, [[0.0], [84.0]], 3.0).tolist() == [[5.0], [pytest.approx(np.sqrt(109))]]


def changes(mean, well, spread, gain, position, max_code, definition):
    """P(the code changes) by plain sums over SciPy's laws; `position` [DN] is the noise-free one, not rounded."""
    code = np.clip(np.rint(position), 0, max_code)
    start = position if position > max_code else code
    counts = np.arange(stats.poisson.ppf(1e-14, mean), stats.poisson.ppf(1 - 1e-14, mean) + 2)
    weights = stats.poisson.pmf(counts, mean)
    error = gain * (np.minimum(counts, well) - min(mean, well))

    def given(shift):
        up = stats.norm.sf(code + 0.5, start + shift + error, gain * spread) if code < max_code else 0
        down = stats.norm.cdf(code - 0.5, start + shift + error, gain * spread) if code > 0 else 0
        return float(np.sum(weights * (up + down)))

    return given(0.0) if definition == "centre" else integrate.quad(given, -0.5, 0.5, epsabs=1e-9, limit=200)[0]


@pytest.mark.parametrize("definition", ["centre", "adc"])
@pytest.mark.parametrize(
    ("exposure", "bits"),
    [(1e-6, 12), (3e-4, 12), (0.009, 12), (0.97, 12), (0.99, 12), (1, 12), (0.02, 4), (0.5, 4), (0.95, 4), (0.002, 8)],
)
@pytest.mark.parametrize("limited_by", ["well", "converter"])
def test_the_sum_is_exact(exposure, bits, definition, limited_by):
    gain = 0.4 if limited_by == "well" else 0.45
    profile = camera(9000.5, 2.0, gain=gain, black_level_dn=160, dark_current_e_per_s=150, row_noise_e=1.0)
    setting = camera_setting(profile, exposure=exposure, bits=bits)
    (capture,) = setting.captures
    mean = setting.white_e + capture.dark_e
    expected = changes(
        mean,
        9000.5,
        np.hypot(2, 1),
        capture.gain_dn_per_e,
        setting.black_dn + capture.gain_dn_per_e * min(mean, 9000.5),
        setting.max_code,
        definition,
    )
    assert error_probability_at(setting, setting.white_e, definition) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("definition", ["centre", "adc"])
@pytest.mark.parametrize("part", [(8180, 3.0), (5390, 0.83), (22000, 3.05), (1000, 0.5)])
def test_closed_form_and_sum_meet(part, definition, monkeypatch):
    profile = camera(*part, black_level_dn=200)
    signals = np.linspace(100, 0.9 * part[0], 100)
    settings = [camera_setting(profile, exposure=1, bits=bits) for bits in np.linspace(4, 12, 17)]
    closed = [error_probability_at(setting, signals, definition) for setting in settings]
    monkeypatch.setattr(camera_ep, "_GAUSSIAN_ELECTRONS", np.inf)
    summed = [error_probability_at(setting, signals, definition) for setting in settings]
    assert 0 < np.abs(np.subtract(closed, summed)).max() < 5e-4


LIGHTS = [1e-4, 2e-3, 0.05, 0.5, 0.96, 1.0]


@pytest.mark.parametrize("definition", ["centre", "adc"])
@pytest.mark.parametrize("bits", [4, 8, 12])
@pytest.mark.parametrize("exposure", LIGHTS)
def test_agrees_with_monte_carlo(exposure, bits, definition):
    rng, n = np.random.default_rng(round(1e5 * exposure) + bits), 100_000
    setting = camera_setting(IMX477, exposure=exposure, bits=bits)
    gain, well = setting.captures[0].gain_dn_per_e, setting.captures[0].full_well_e
    position = setting.black_dn + gain * setting.white_e
    code = min(round(position), setting.max_code)
    start = position if position > setting.max_code else code
    start = start + (rng.uniform(-0.5, 0.5, n) if definition == "adc" else 0)
    electrons = np.minimum(rng.poisson(setting.white_e, n), well) + rng.normal(0, 3.0, n)
    read = np.clip(np.rint(start + gain * (electrons - setting.white_e)), 0, setting.max_code)
    expected = float(error_probability_at(setting, setting.white_e, definition))
    assert np.mean(read != code) == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / n) + 2 / n)


@pytest.mark.parametrize("bits", [4, 8, 12])
@pytest.mark.parametrize("exposure", LIGHTS[:-1])
def test_the_camera_itself_changes_codes_that_often(exposure, bits):
    setting = camera_setting(IMX477, exposure=exposure, bits=bits)
    (capture,) = setting.captures
    code = round(setting.black_dn + capture.gain_dn_per_e * setting.white_e)
    centred = replace(setting, white_e=max((code - setting.black_dn) / capture.gain_dn_per_e, 1e-9))
    white = torch.ones(2, 1, 200, 200)
    read = codes(white, centred, 3, "test", torch.tensor([0, 1]), 0)
    expected, n = float(error_probability_at(centred, centred.white_e)), white.numel()
    frequency = float((read != code).double().mean())
    assert frequency == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / n) + 2 / n)


@pytest.mark.parametrize("bits", [4, 8, 12])
@pytest.mark.parametrize("exposure", [0.3, 0.8])
def test_the_camera_itself_changes_codes_of_signals_anywhere_within(exposure, bits):
    setting = camera_setting(IMX477, exposure=1.0, bits=bits)
    (capture,) = setting.captures
    code = round(setting.black_dn + capture.gain_dn_per_e * exposure * setting.white_e)
    within = torch.linspace(-0.5, 0.5, 80_001, dtype=torch.float64)[:-1] + 1 / 160_000
    signal = (code + within - setting.black_dn) / capture.gain_dn_per_e
    images = from_linear((signal / setting.white_e).reshape(1, 1, 200, 400)).float()
    read = codes(images, setting, 3, "test", torch.tensor([0]), 0)
    expected, n = float(error_probability_at(setting, signal.mean().item(), "adc")), images.numel()
    frequency = float((read != code).double().mean())
    assert frequency == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / n) + 1e-3)


def test_only_inward_errors_change_the_last_codes():
    dark = camera_setting(camera(8000, 4.0), exposure=1e-9)
    lifted = camera_setting(camera(8000, 4.0, black_level_dn=50), exposure=1e-9)
    assert 2 * error_probability_at(dark, 0) == pytest.approx(float(error_probability_at(lifted, 0)), rel=1e-9)
    small_converter = camera_setting(camera(8000, 4.0, gain=0.6), exposure=1)
    full, beyond = 4095 / 0.6, 4095 / 0.6 + 200
    assert error_probability_at(small_converter, full) == pytest.approx(0.5, abs=0.01)
    back = stats.norm.cdf(-(200 + 0.5 / 0.6) / np.sqrt(beyond + 16))
    assert error_probability_at(small_converter, beyond) == pytest.approx(back, abs=1e-3)


def test_a_camera_without_noise_after_the_well_counts_electrons():
    setting = camera_setting(camera(4000, 0.0, gain=0.4, black_level_dn=5), exposure=1)
    signals = np.array([5.0, 20.0, 200.0])
    same_code = stats.poisson.cdf(signals + 1, signals) - stats.poisson.cdf(signals - 2, signals)
    assert error_probability_at(setting, signals) == pytest.approx(1 - same_code, abs=1e-9)


def test_signals_keep_their_shape_and_are_checked():
    setting = camera_setting(IMX477, exposure=1)
    assert error_probability_at(setting, np.full((2, 3), 50.0)).shape == (2, 3)
    assert error_probability_at(setting, 50.0).shape == ()
    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(InvalidValueError, match="finite electrons of at least 0"):
            error_probability_at(setting, [1.0, wrong])
    with pytest.raises(UnknownNameError, match="centre"):
        error_probability_at(setting, 1.0, "center")


def test_a_reading_is_of_a_flat_field_at_white():
    at = reading(camera_setting(IMX477, exposure=0.1, bits=10.5))
    sigma = 0.47 * 2**-1.5 * np.sqrt(818 + 9)
    assert at.sigma_steps == pytest.approx(sigma)
    assert at.sigma == pytest.approx(sigma / (round(2**10.5) - 1))
    assert (at.exposure, at.bits, at.signal) == (0.1, 10.5, None)
    assert at.ep == pytest.approx(2 * stats.norm.cdf(-0.5 / sigma), abs=1e-3)
    assert at.ep_adc > at.ep


@pytest.mark.parametrize("bits", [6, 8, 12])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
def test_the_exposure_at_an_ep_has_it(bits, share):
    reach = exposure_reach(IMX477, bits=bits)
    low, high = reach.low, reach.high
    ep = low + share * (high - low)
    exposure = exposure_at_ep(IMX477, ep, bits=bits)
    assert 0 < exposure < 1
    assert reading(camera_setting(IMX477, exposure=exposure, bits=bits)).ep == pytest.approx(ep, abs=1e-3)


def test_the_ep_rises_with_the_light_on_its_branch():
    exposures = np.geomspace(1e-5, 0.99, 200)
    setting = camera_setting(IMX477, exposure=1)
    ep = error_probability_at(setting, exposures * setting.white_e)
    assert (np.diff(ep) > -1e-3).all()
    assert error_probability_at(setting, setting.white_e) < 0.6 < ep[-1]


@pytest.mark.parametrize("bits", [4, 8, 12])
@pytest.mark.parametrize("gain", [0.4, 0.47, 0.6])
def test_the_range_reaches_to_the_largest_ep(gain, bits):
    profile = with_settings(IMX477, {"gain_dn_per_e": gain})
    setting = camera_setting(profile, exposure=1, bits=bits)
    ep = error_probability_at(setting, np.linspace(0, 1, 20_001) * setting.white_e)
    reach = exposure_reach(profile, bits=bits)
    assert (reach.low, reach.high) == pytest.approx((ep[0], ep.max()), abs=1e-4)


def test_an_ep_out_of_reach_names_the_range():
    low, high = r"0\.723 \(in the dark\)", r"0\.99\d \(at exposure 0\.99\d\)"
    expected = rf"at 12 bits: expected an EP from {low} to {high}, got 0\.5; use --bits, or --vary bits"
    with pytest.raises(UsageError, match=expected):
        exposure_at_ep(IMX477, 0.5)
    with pytest.raises(UsageError, match=r"got 0\.9999"):
        exposure_at_ep(IMX477, 0.9999)
    with pytest.raises(UsageError, match="in the dark"):
        exposure_at_ep(IMX477, exposure_reach(IMX477).low)
    with pytest.raises(
        UsageError, match=r"at exposure 0\.5: expected an EP from .* bit\) to .* \(at 16 bit\), got 0\.99999"
    ):
        bits_at_ep(IMX477, 0.99999, exposure=0.5)
    with pytest.raises(UsageError, match=r"at exposure 0\.5 and 8 bits: expected an EP .* DN/electron\), got 0\.95"):
        gain_at_ep(IMX477, 0.95, exposure=0.5, bits=8)
    for wrong in (0, 1, float("nan")):
        with pytest.raises(InvalidValueError, match="0 < EP < 1"):
            exposure_at_ep(IMX477, wrong)


def test_an_ep_that_the_curve_jumps_over_is_refused():
    no_black = camera(8000, 3.0)
    dark = exposure_reach(no_black).low
    with pytest.raises(InvalidValueError, match="jumps from"):
        exposure_at_ep(no_black, 1.3 * dark)


@pytest.mark.parametrize("ep", [0.01, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("exposure", [0.001, 0.1, 0.7])
def test_the_bits_at_an_ep_have_it(ep, exposure):
    bits = bits_at_ep(IMX477, ep, exposure=exposure)
    assert reading(camera_setting(IMX477, exposure=exposure, bits=bits)).ep == pytest.approx(ep, abs=1e-3)


def test_the_bits_at_an_ep_are_the_last_where_it_rises():
    found = bits_at_ep(IMX477, 0.002, exposure=0.98)
    grid = np.linspace(1, 16, 301)
    ep = np.array([reading(camera_setting(IMX477, exposure=0.98, bits=bits)).ep for bits in grid])
    rises = np.flatnonzero((ep[:-1] < 0.002) & (ep[1:] >= 0.002))
    assert len(rises) == 4
    assert grid[rises[-1]] <= found <= grid[rises[-1] + 1]


def test_the_gain_at_an_ep_has_it():
    gain = gain_at_ep(IMX477, 0.5, exposure=0.1)
    changed = with_settings(IMX477, {"gain_dn_per_e": gain})
    assert reading(camera_setting(changed, exposure=0.1)).ep == pytest.approx(0.5, abs=1e-6)
    assert gain * np.sqrt(818 + 9) == pytest.approx(0.7413, abs=1e-3)
    with pytest.raises(UsageError, match=rf"at {(4095 - 256 - 0.5) / 8180:.3g} DN/electron"):
        gain_at_ep(IMX477, 0.9999, exposure=1.0)


def test_several_captures():
    profile = load_sensor("camera-ov-split-pixel")
    setting = camera_setting(profile, exposure=1)
    dark = 0.01 * 25.6
    full = [min(5390, (4095 - 16) / 0.7599), min(22000, (4095 - 16) / 0.1862)]
    hand_over = [profile.hdr.hand_over.value * electrons - dark for electrons in full]
    around = [hand_over[0] - 1, hand_over[0] + 1, hand_over[1] - 1, hand_over[1] + 1, setting.white_e]
    assert capture_at(setting, around).tolist() == [0, 1, 1, 2, 2]

    ep = error_probability_at(setting, around)
    gains = [capture.gain_dn_per_e for capture in setting.captures]
    for index, capture in ((0, 0), (1, 1), (3, 2)):
        signal = around[index] * (0.1 if capture == 2 else 1) + setting.captures[capture].dark_e
        sigma = gains[capture] * np.sqrt(signal + setting.captures[capture].read_noise_e ** 2)
        assert ep[index] == pytest.approx(2 * stats.norm.cdf(-0.5 / sigma), abs=1e-4)
    assert ep[0] > ep[1]

    last = setting.captures[2]
    noise_e = np.sqrt(0.1 * setting.white_e + last.dark_e + last.read_noise_e**2)
    assert reading(setting).sigma_steps == pytest.approx(last.gain_dn_per_e * noise_e)


def test_several_captures_are_inverted_before_the_first_hand_over():
    profile = with_settings(load_sensor("camera-ov-split-pixel"), {"gain_dn_per_e": 0.2})
    setting = camera_setting(profile, exposure=1)
    hand_over = profile.hdr.hand_over.value * 5390 / setting.white_e
    assert exposure_reach(profile).high < 0.98 < error_probability_at(setting, 0.9 * setting.white_e)
    assert 0.5 * hand_over < exposure_at_ep(profile, 0.965) < hand_over
    with pytest.raises(UsageError, match="the first hand-over"):
        exposure_at_ep(profile, 0.98)
    with pytest.raises(UsageError, match="one capture"):
        gain_at_ep(profile, 0.5, exposure=0.1)


@pytest.mark.parametrize("name", ["camera-ov-split-pixel", "camera-ar0331", "camera-ox03c10"])
def test_the_capture_that_reads_is_the_one_the_merge_takes(name):
    profile = load_sensor(name)
    warm = 0.1 * profile.full_well_e.value / profile.exposure_time_s.value
    setting = camera_setting(with_settings(profile, {"dark_current_e_per_s": warm}), exposure=1)
    signals = np.geomspace(1e-5, 1, 500) * setting.white_e
    expected = np.zeros(500, dtype=int)
    for index, capture in enumerate(setting.captures[:-1]):
        code = capture.gain_dn_per_e * (signals * capture.sensitivity + capture.dark_e)
        full = min(capture.gain_dn_per_e * capture.full_well_e, setting.max_code - setting.black_dn)
        expected[(expected == index) & (code >= setting.hand_over * full)] = index + 1
    assert set(expected) == set(range(len(setting.captures)))
    assert capture_at(setting, signals).tolist() == expected.tolist()


def test_mean_ep_weighs_the_levels_of_the_data():
    setting = camera_setting(IMX477, exposure=0.2, bits=9)
    levels, weights = np.array([0.0, 0.5, 1.0]), np.array([1, 0, 3])
    ends = error_probability_at(setting, [0.0, setting.white_e])
    assert mean_ep(setting, levels, weights) == pytest.approx((ends[0] + 3 * ends[1]) / 4)
    middle = float(error_probability_at(setting, ((0.5 + 0.055) / 1.055) ** 2.4 * setting.white_e))
    assert mean_ep(setting, [0.5], [2.0]) == pytest.approx(middle, rel=1e-6)
    for wrong in (([0.5], [1, 2]), ([1.5], [1]), ([0.5], [0]), ([0.5], [-1]), ([[0.5]], [[1]])):
        with pytest.raises(InvalidValueError):
            mean_ep(setting, *wrong)
