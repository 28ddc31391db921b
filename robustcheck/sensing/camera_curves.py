"""Curves of a camera for plots: photon transfer, signal-to-noise ratio, and error probability over light and bits.

All are pure functions of a profile, by the linear model of EMVA 1288 release 4. The variance near saturation is that of
a normal law cut off first at the full well and then at the converter's first and last code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from robustcheck.sensing.camera import CameraSetting, CaptureSetting, camera_setting, saturation_e
from robustcheck.sensing.camera_ep import Array, capture_at, error_probability_at, temporal_noise_e
from robustcheck.sensing.camera_profile import CameraProfile
from robustcheck.sensing.error_probability import MAX_BITS
from robustcheck.sensing.hdr import saturation_dn

QUANTISATION_DN2: Final = 1 / 12
"""Variance of rounding to whole codes (EMVA 1288's σ_q²), good where the noise before it is above ¼ to ½ code."""
LEAST_EXPOSURE: Final = 1e-4

_LEAST_VARIANCE: Final = 1e-12  # electrons², stands for none
_FAR: Final = 40.0  # standard deviations beyond which a normal law has nothing left in float64


@dataclass(frozen=True)
class PhotonTransferCurve:
    """Temporal variance of the codes against their mean, for the first capture; arrays are (k,) float64.

    Attributes:
        signal_dn: mean code above that in the dark, rising with the light.
        variance_dn2: of the codes, the limits of well and converter included.
        shot_dn2: part of the signal's shot noise, without limits.
        read_dn2: part that is there in the dark: read, row and dark shot noise.
        quantisation_dn2: part of the rounding.
        saturation_dn: signal where the variance is largest.
        saturation_e: signal electrons there, EMVA 1288's saturation capacity.
    """

    signal_dn: Array
    variance_dn2: Array
    shot_dn2: Array
    read_dn2: Array
    quantisation_dn2: Array
    saturation_dn: float
    saturation_e: float


@dataclass(frozen=True)
class SnrCurve:
    """Signal-to-noise ratio against exposure; arrays are (k,) float64.

    Attributes:
        exposure: share of saturation, rising.
        snr_db: of the capture that reads the signal, temporal noise with quantisation.
        total_db: the same with PRNU and DSNU, EMVA 1288's SNR_total.
        ideal_db: of shot noise alone in the first capture, 20 log10 √mu.
        hand_over: exposures at which the next capture takes over; empty for one capture.
    """

    exposure: Array
    snr_db: Array
    total_db: Array
    ideal_db: Array
    hand_over: tuple[float, ...]


@dataclass(frozen=True)
class EpCurve:
    """`ep_centre` of a flat field at white along one axis, the other held.

    Attributes:
        held: bits where x is an exposure, the exposure where x is bits.
        x: (k,) float64, rising.
        ep: (k,) float64.
    """

    held: float
    x: Array
    ep: Array


def photon_transfer(profile: CameraProfile, *, bits: float | None = None, points: int = 200) -> PhotonTransferCurve:
    """The photon transfer curve from the dark to 5 % beyond saturation (EMVA 1288 release 4).

    σ_y² = K² (read² + row² + dark) + σ_q² + K (μ_y − μ_y.dark) until a limit is near; saturation is where σ_y² peaks.

    Args:
        profile: the camera; of several captures the first.
        bits: resolution, 1 to 16; the profile's own where None.
        points: of the curve, >= 2.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> curve = photon_transfer(load_sensor("camera-imx477"))
    >>> curve.signal_dn.shape, 0.9 * 8180 < curve.saturation_e < 8180
    ((200,), True)
    """
    setting = camera_setting(profile, exposure=1.0, bits=bits)
    capture = setting.captures[0]
    peak = _saturation_e(setting, capture)
    gain = capture.gain_dn_per_e
    mu = np.append(0, np.geomspace(LEAST_EXPOSURE * peak, 1.05 * capture.full_well_e, points - 1))
    mean, variance = _moments_dn(setting, capture, np.append(mu, peak))
    read_e2 = temporal_noise_e(capture, np.zeros(points), setting.row_noise_e) ** 2
    return PhotonTransferCurve(
        signal_dn=mean[:-1] - mean[0],
        variance_dn2=variance[:-1],
        shot_dn2=gain**2 * mu,
        read_dn2=gain**2 * read_e2,
        quantisation_dn2=np.full(points, QUANTISATION_DN2),
        saturation_dn=float(mean[-1] - mean[0]),
        saturation_e=peak,
    )


def snr_curve(profile: CameraProfile, *, bits: float | None = None, points: int = 400) -> SnrCurve:
    """Signal-to-noise ratio against exposure (EMVA 1288 release 4), with the dips where captures hand over.

    SNR = mu / √(mu + dark + read² + row² + σ_q² / K²), in the electrons of the capture that reads the signal. Where
    shot noise dominates, a hand-over to a capture of 1/r of the sensitivity costs 20 log10 √r dB.

    Args:
        profile: the camera.
        bits: resolution, 1 to 16; the profile's own where None.
        points: from an exposure of 1e-4 to 1, even on a log axis.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> curve = snr_curve(load_sensor("camera-imx477"))
    >>> round(float(curve.snr_db[-1]), 1), round(float(curve.ideal_db[-1]), 1), curve.hand_over
    (39.1, 39.1, ())
    """
    setting = camera_setting(profile, exposure=1.0, bits=bits)
    exposure = np.geomspace(LEAST_EXPOSURE, 1.0, points)
    first = exposure * setting.white_e
    chosen = capture_at(setting, first)
    snr, total = np.empty(points), np.empty(points)
    for index, capture in enumerate(setting.captures):
        here = chosen == index
        mu = first[here] * capture.sensitivity
        noise2 = _noise_e2(setting, capture, mu)
        snr[here] = mu / np.sqrt(noise2)
        total[here] = mu / np.sqrt(noise2 + setting.dsnu_e**2 + (setting.prnu * mu) ** 2)
    steps = np.flatnonzero(np.diff(chosen)) + 1
    return SnrCurve(
        exposure=exposure,
        snr_db=_decibels(snr),
        total_db=_decibels(total),
        ideal_db=_decibels(np.sqrt(first)),
        hand_over=tuple(exposure[steps].tolist()),
    )


def ep_against_exposure(
    profile: CameraProfile, bits: Sequence[float] = (4, 6, 8, 10, 12), *, points: int = 200
) -> tuple[EpCurve, ...]:
    """EP against exposure, from 1e-4 to 1 on a log axis, one curve for each resolution.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> [curve.held for curve in ep_against_exposure(load_sensor("camera-imx477"), (8, 12))]
    [8, 12]
    """
    exposure = np.geomspace(LEAST_EXPOSURE, 1.0, points)
    white = exposure * saturation_e(profile)
    settings = [(b, camera_setting(profile, exposure=1.0, bits=b)) for b in bits]
    return tuple(EpCurve(held=b, x=exposure, ep=error_probability_at(setting, white)) for b, setting in settings)


def ep_against_bits(
    profile: CameraProfile, exposures: Sequence[float] = (0.01, 0.1, 0.5), *, points: int = 121
) -> tuple[EpCurve, ...]:
    """EP against bits, from 1 to 16, one curve for each exposure.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> [curve.held for curve in ep_against_bits(load_sensor("camera-imx477"), (0.1, 0.5))]
    [0.1, 0.5]
    """
    bits = np.linspace(1, MAX_BITS, points)
    signals = np.asarray(exposures, dtype=np.float64) * saturation_e(profile)
    rows = [error_probability_at(camera_setting(profile, exposure=1.0, bits=float(b)), signals) for b in bits]
    ep = np.stack(rows, axis=1)
    return tuple(EpCurve(held=exposure, x=bits, ep=row) for exposure, row in zip(exposures, ep, strict=True))


def snr_max_db(profile: CameraProfile, *, bits: float | None = None) -> float:
    """Largest signal-to-noise ratio [dB], 20 log10 √μ_e.sat (EMVA 1288 release 4); of several captures the largest.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> round(snr_max_db(load_sensor("camera-imx477")), 1)
    39.0
    """
    setting = camera_setting(profile, exposure=1.0, bits=bits)
    return max(float(_decibels(np.sqrt(_saturation_e(setting, capture)))) for capture in setting.captures)


def dynamic_range_db(profile: CameraProfile, *, bits: float | None = None) -> float:
    """Dynamic range [dB], μ_e.sat / μ_e.min with μ_e.min = σ_y.dark / K + ½ (EMVA 1288 release 4).

    With several captures μ_e.min is that of the first, and μ_e.sat the largest that any of them reads, both in
    electrons of the first: an extension of the standard, which knows one capture.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> round(dynamic_range_db(load_sensor("camera-imx477")), 1)
    66.9
    """
    setting = camera_setting(profile, exposure=1.0, bits=bits)
    first = setting.captures[0]
    least = float(np.sqrt(_noise_e2(setting, first, np.zeros(()))) + 0.5)
    most = max(_saturation_e(setting, capture) / capture.sensitivity for capture in setting.captures)
    return float(_decibels(np.asarray(most / least)))


def _noise_e2(setting: CameraSetting, capture: CaptureSetting, mu: npt.ArrayLike) -> Array:
    """Temporal variance with quantisation [electrons²]."""
    temporal = temporal_noise_e(capture, mu, setting.row_noise_e)
    return np.asarray(temporal**2 + QUANTISATION_DN2 / capture.gain_dn_per_e**2)


def _saturation_e(setting: CameraSetting, capture: CaptureSetting) -> float:
    """Signal electrons of a capture where the variance of its codes peaks."""
    full = saturation_dn(capture, setting) / capture.gain_dn_per_e
    mu = np.linspace(0.5 * full, 1.02 * full, 2001)
    return float(mu[np.argmax(_moments_dn(setting, capture, mu)[1])])


def _moments_dn(setting: CameraSetting, capture: CaptureSetting, mu: Array) -> tuple[Array, Array]:
    """Mean [DN] and variance [DN²] of the codes of mu signal electrons."""
    shot = np.sqrt(np.maximum(mu + capture.dark_e, _LEAST_VARIANCE))
    held, held_variance = _censored(mu + capture.dark_e, shot, -math.inf, capture.full_well_e)
    gain = capture.gain_dn_per_e
    other = capture.read_noise_e**2 + setting.row_noise_e**2
    sigma = gain * np.sqrt(np.maximum(held_variance + other, _LEAST_VARIANCE))
    mean, variance = _censored(setting.black_dn + gain * held, sigma, 0.0, float(setting.max_code))
    return mean, variance + QUANTISATION_DN2


def _censored(mean: Array, sigma: Array, low: float, high: float) -> tuple[Array, Array]:
    """Mean and variance of min(max(X, low), high) for a normal X, integrated directly."""
    from scipy.special import ndtr

    def density(z: Array) -> Array:
        return np.asarray(np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi))

    a, b = np.maximum((low - mean) / sigma, -_FAR), (high - mean) / sigma
    below, above = ndtr(a), ndtr(-b)
    first = a * below + b * above + density(a) - density(b)
    second = a**2 * below + b**2 * above + (1 - below - above) + a * density(a) - b * density(b)
    return mean + sigma * first, sigma**2 * np.maximum(second - first**2, 0)


def _decibels(ratio: Array) -> Array:
    return np.asarray(20 * np.log10(ratio))
