"""A camera's curves against Monte Carlo, SciPy's censored laws and the closed forms of EMVA 1288."""

import numpy as np
import pytest
from scipy import stats

from robustcheck.sensing.camera import camera_setting
from robustcheck.sensing.camera_curves import (
    dynamic_range_db,
    ep_against_bits,
    ep_against_exposure,
    photon_transfer,
    snr_curve,
    snr_max_db,
)
from robustcheck.sensing.camera_ep import reading
from robustcheck.sensing.profile import load_sensor, with_settings

IMX477 = with_settings(load_sensor("camera-imx477"), {"dark_current_e_per_s": 0, "row_noise_e": 0})
SPLIT = load_sensor("camera-ov-split-pixel")


@pytest.mark.parametrize(
    "numbers",
    [
        {},  # well and converter end together
        {"gain_dn_per_e": 0.4},  # the well ends first
        {"gain_dn_per_e": 0.6},  # the converter ends first
        {"black_level_dn": 0, "gain_dn_per_e": 0.4, "dark_current_e_per_s": 2000, "row_noise_e": 2},
    ],
)
def test_photon_transfer_agrees_with_monte_carlo(numbers):
    rng, n = np.random.default_rng(1), 60_000
    profile = with_settings(IMX477, numbers)
    curve = photon_transfer(profile, points=40)
    gain, row = profile.gain_dn_per_e.value, profile.row_noise_e.value
    dark = 0.01 * profile.dark_current_e_per_s.value
    signals = np.append(0, np.geomspace(1e-4 * curve.saturation_e, 1.05 * 8180, 39))
    black, codes = profile.black_level_dn.value, []
    for mu in signals:
        electrons = np.minimum(rng.poisson(mu + dark, n), 8180) + rng.normal(0, np.hypot(3.0, row), n)
        codes.append(np.clip(np.rint(gain * electrons + black), 0, 4095))
    mean, variance = np.mean(codes, axis=1), np.var(codes, axis=1)
    spread = np.sqrt(variance.max() / n)
    assert curve.signal_dn == pytest.approx(mean - mean[0], abs=6 * spread + 0.05)
    nearly_full = signals > 5000
    tolerance = 0.03 * variance + 0.003 * variance.max() * nearly_full
    assert (np.abs(curve.variance_dn2 - variance) < tolerance).all()


def test_without_a_black_level_the_dark_loses_its_lower_half():
    curve = photon_transfer(with_settings(IMX477, {"black_level_dn": 0, "gain_dn_per_e": 2.0}))
    half_normal = (0.5 - 0.5 / np.pi) * (2 * 3) ** 2
    assert curve.variance_dn2[0] == pytest.approx(half_normal + 1 / 12)


def test_photon_transfer_is_linear_and_its_parts_add_up():
    curve = photon_transfer(IMX477, bits=10)
    gain = 0.47 / 4
    low = curve.signal_dn < 0.9 * curve.saturation_dn
    total = curve.shot_dn2 + curve.read_dn2 + curve.quantisation_dn2
    assert curve.variance_dn2[low] == pytest.approx(total[low], rel=2e-3)
    assert curve.shot_dn2[low] == pytest.approx(gain * curve.signal_dn[low], rel=1e-3, abs=1e-9)
    assert curve.read_dn2 == pytest.approx((3 * gain) ** 2)
    assert curve.quantisation_dn2 == pytest.approx(1 / 12)


@pytest.mark.parametrize(("numbers", "full"), [({"gain_dn_per_e": 0.4}, 8180), ({"gain_dn_per_e": 0.6}, 3839 / 0.6)])
def test_saturation_is_where_the_variance_peaks(numbers, full):
    curve = photon_transfer(with_settings(IMX477, numbers), points=3000)
    peak = np.argmax(curve.variance_dn2)
    assert curve.signal_dn[peak] == pytest.approx(curve.saturation_dn, rel=5e-3)
    assert 0.95 * full < curve.saturation_e < full

    z = np.linspace(-8, 8, 16_001)
    weights = stats.norm.pdf(z) * (z[1] - z[0])

    def variance(mu):
        held = np.minimum(mu + np.sqrt(mu) * z, full) - full
        return np.sum(weights * held**2) - np.sum(weights * held) ** 2

    around = np.linspace(0.95, 1, 101) * full
    assert around[np.argmax([variance(mu) for mu in around])] == pytest.approx(curve.saturation_e, rel=2e-3)


def test_snr_follows_emva_1288():
    profile = with_settings(IMX477, {"dark_current_e_per_s": 500, "row_noise_e": 1, "prnu": 0.01, "dsnu_e": 2})
    curve = snr_curve(profile, bits=10)
    mu = curve.exposure * 8180
    noise2 = mu + 5 + 9 + 1 + (1 / 12) / (0.47 / 4) ** 2
    assert curve.snr_db == pytest.approx(20 * np.log10(mu / np.sqrt(noise2)))
    assert curve.total_db == pytest.approx(20 * np.log10(mu / np.sqrt(noise2 + 4 + (0.01 * mu) ** 2)))
    assert curve.ideal_db == pytest.approx(10 * np.log10(mu))
    assert (curve.exposure[0], curve.exposure[-1], curve.hand_over) == (pytest.approx(1e-4), 1.0, ())


def test_snr_dips_where_captures_hand_over():
    curve = snr_curve(SPLIT, points=20_000)
    dips = [-np.diff(curve.snr_db)[np.searchsorted(curve.exposure, x) - 1] for x in curve.hand_over]
    last = SPLIT.hdr.captures[-1]
    assert len(dips) == 2
    assert 0 < dips[0] < 0.1  # the same electrons, read less finely
    assert dips[1] == pytest.approx(20 * np.log10(np.sqrt(1 / last.sensitivity.value)), abs=0.1)
    assert (np.diff(curve.snr_db) < 0).sum() == 2


@pytest.mark.parametrize("bits", [None, 6])
def test_largest_snr_and_dynamic_range(bits):
    curve = photon_transfer(IMX477, bits=bits)
    gain = 0.47 * (1 if bits is None else 2.0 ** (bits - 12))
    least = np.sqrt(9 + 1 / 12 / gain**2) + 0.5
    assert snr_max_db(IMX477, bits=bits) == pytest.approx(10 * np.log10(curve.saturation_e))
    assert dynamic_range_db(IMX477, bits=bits) == pytest.approx(20 * np.log10(curve.saturation_e / least))


def test_largest_snr_and_dynamic_range_of_several_captures():
    first = SPLIT.model_copy(update={"hdr": None})
    assert snr_max_db(SPLIT) == pytest.approx(10 * np.log10(22000), abs=0.15)
    gained = dynamic_range_db(SPLIT) - dynamic_range_db(first)
    assert gained == pytest.approx(20 * np.log10((7900 / 0.1) / 5390), abs=0.2)


@pytest.mark.parametrize("name", ["camera-imx249", "camera-imx255", "camera-imx420", "camera-imx477"])
def test_published_figures_are_met(name):
    profile = load_sensor(name)
    published = profile.published
    # The sheets' full well is that of the SNR maximum; the variance peaks a little below the well.
    if published.snr_max_db is not None:
        assert snr_max_db(profile) == pytest.approx(published.snr_max_db.value, abs=0.2)
    assert dynamic_range_db(profile) == pytest.approx(published.dynamic_range_db.value, abs=0.35)


def test_ep_curves_are_those_of_readings():
    for curve in ep_against_exposure(IMX477, (6, 9.5), points=7):
        for x, ep in zip(curve.x, curve.ep, strict=True):
            at = reading(camera_setting(IMX477, exposure=float(x), bits=curve.held))
            assert ep == pytest.approx(at.ep, abs=1e-12)
    for curve in ep_against_bits(IMX477, (0.05, 0.5), points=7):
        for x, ep in zip(curve.x, curve.ep, strict=True):
            at = reading(camera_setting(IMX477, exposure=curve.held, bits=float(x)))
            assert ep == pytest.approx(at.ep, abs=1e-12)
