"""What becomes of a LIDAR's return: how strong it is, whether it is detected, and how far off its range lies.

The signal-to-noise ratio (SNR) is that of amplitudes, in standard deviations of a noise that is the same for all
returns. No datasheet gives dropout; the model is tied to the range at which half of the returns of a 10 % reflector are
detected, and is an assumption wherever a profile says so.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Final

import torch

from robustcheck.sensing.lidar_profile import LidarProfile
from robustcheck.sensing.operating_point import check_share
from robustcheck.sensing.quantity import Quantity, Table

FULL_REFLECTIVITY: Final = 2.55
"""Reflectivity of intensity 1: code 100 of 255 is a perfect diffuse reflector; above it are retro-reflectors."""
DARKEST: Final = 0.005
"""Reflectivity of intensity 0: a target that gave a return reflects something, here half a code of 255 (assumed)."""
REFERENCE_REFLECTIVITY: Final = 0.1
REFERENCE_RANGE_M: Final = 20.0
"""The reference return, for readings: a 10 % reflector at 20 m."""
_SIGMAS_OF: Final = {"exact": 1.0, "1sigma": 1.0, "typical": 1.0, "max": 3.0}


@dataclass(frozen=True)
class LidarSetting:
    """Everything that the physics need of a LIDAR at one share of the return signal; errors are standard deviations.

    Attributes:
        elevation_deg: of each beam, falling.
        azimuth_step_deg: between two firings.
        range_lsb_m: step of the ranges.
        strong_sigma_m: range error of a strong return.
        limit_sigma_m: range error at the limit of detection.
        sigma_by_snr: pairs (SNR, range error [m]), used instead of those two unless empty.
        intensity_steps: codes of the intensity less one.
        intensity_noise: error of the intensity of a strong return, as a share of it.
        min_range_m: nothing nearer is reported.
        max_range_m: nothing farther is reported.
        range_at_10_percent_m: where half of the returns of a 10 % reflector are detected.
        ambient_noise: noise under the sun, as a multiple of that at which this range is stated.
        detection_snr: SNR there.
        false_return_rate: probability of a return in a firing that has no other.
        beam_bias_m: spread of the beams' constant range errors.
        dead_beams: probability that a beam reports nothing.
        angular_noise_deg: error of a firing's azimuth, and of its elevation.
        signal: share of the return signal that arrives, in (0, 1].
        noisy: False for rounding alone.
        every: every n-th beam works, the uppermost one among them.
    """

    elevation_deg: tuple[float, ...]
    azimuth_step_deg: float
    range_lsb_m: float
    strong_sigma_m: float
    limit_sigma_m: float
    sigma_by_snr: tuple[tuple[float, float], ...]
    intensity_steps: int
    intensity_noise: float
    min_range_m: float
    max_range_m: float
    range_at_10_percent_m: float
    ambient_noise: float
    detection_snr: float
    false_return_rate: float
    beam_bias_m: float
    dead_beams: float
    angular_noise_deg: float
    signal: float
    noisy: bool = True
    every: int = 1


def lidar_setting(profile: LidarProfile, *, signal: float, noisy: bool = True) -> LidarSetting:
    """A LIDAR at one share of its return signal.

    An error that the profile calls `typical` is taken as one standard deviation, the harsher of its usual readings; one
    that it calls `max` as three. Both are assumptions: datasheets do not say which share of the returns they mean.

    Args:
        profile: of the LIDAR.
        signal: share of the return signal that arrives (fog, dirt on the window), in (0, 1].
        noisy: False rounds to the steps of range and intensity, and does nothing else.

    Raises:
        InvalidValueError: a signal out of its range.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> lidar_setting(load_sensor("lidar-vlp16"), signal=0.5).range_lsb_m
    0.002
    """
    table = profile.range_noise_by_snr
    return LidarSetting(
        elevation_deg=profile.elevation_deg.values,
        azimuth_step_deg=profile.azimuth_step_deg.value,
        range_lsb_m=profile.range_lsb_m.value,
        strong_sigma_m=_sigma(profile.range_noise_m),
        limit_sigma_m=_sigma(profile.range_noise_limit_m),
        sigma_by_snr=() if table is None else tuple(zip(table.snr.values, _sigmas(table.sigma_m), strict=True)),
        intensity_steps=2 ** int(profile.intensity_bits.value) - 1,
        intensity_noise=_sigma(profile.intensity_noise),
        min_range_m=profile.min_range_m.value,
        max_range_m=profile.max_range_m.value,
        range_at_10_percent_m=profile.range_at_10_percent_m.value,
        ambient_noise=profile.ambient_noise.value,
        detection_snr=profile.detection_snr.value,
        false_return_rate=profile.false_return_rate.value,
        beam_bias_m=_sigma(profile.beam_bias_m),
        dead_beams=profile.dead_beams.value,
        angular_noise_deg=_sigma(profile.angular_noise_deg),
        signal=check_share(signal, "signal"),
        noisy=noisy,
        every=int(profile.keep_every.value),
    )


def _sigma(number: Quantity) -> float:
    return number.value / _SIGMAS_OF[number.kind]


def _sigmas(table: Table) -> tuple[float, ...]:
    return tuple(value / _SIGMAS_OF[table.kind] for value in table.values)


def reflectivity(intensity: torch.Tensor) -> torch.Tensor:
    """The reflectivity that a calibrated intensity in [0, 1] stands for, in [0.005, 2.55]; 1 is a perfect diffuser.

    Velodyne's convention: codes to 100 of 255 are diffuse reflectivity in percent, and retro-reflectors lie above.

    >>> reflectivity(torch.tensor([0.0, 100 / 255]))
    tensor([0.0050, 1.0000])
    """
    return (intensity * FULL_REFLECTIVITY).clamp_min(DARKEST)


def return_snr(ranges_m: torch.Tensor, reflectivities: torch.Tensor, setting: LidarSetting) -> torch.Tensor:
    """Signal-to-noise ratio of returns: signal · (ρ / 0.1) · (R₁₀ / r)² · the SNR at the limit of detection / ambient.

    The LIDAR equation for an extended diffuse target, which fills the beam: received power falls as r⁻²
    (Wagner et al. 2006, doi 10.1016/j.isprsjprs.2005.12.001), tied to the range R₁₀ of a 10 % reflector. Small targets
    fall as r⁻³ or r⁻⁴, which this leaves out. The threshold follows the noise, so that the false returns stay as few.

    Args:
        ranges_m: any shape [m]; below one step of range it counts as that step.
        reflectivities: a shape that goes with it.
        setting: of the LIDAR.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> setting = lidar_setting(load_sensor("lidar-vlp16"), signal=0.5)
    >>> at_limit = return_snr(torch.tensor(setting.range_at_10_percent_m), torch.tensor(0.1), setting)
    >>> round(float(at_limit) / setting.detection_snr, 4)
    0.5
    """
    at_limit = setting.signal * setting.detection_snr / setting.ambient_noise
    at_one_metre = at_limit * setting.range_at_10_percent_m**2 / REFERENCE_REFLECTIVITY
    return reflectivities * at_one_metre / ranges_m.clamp_min(setting.range_lsb_m).square()


def detection_probability(snr: torch.Tensor, setting: LidarSetting) -> torch.Tensor:
    """Probability that a return is detected: its amplitude, SNR + N(0, 1), exceeds the threshold; Φ(SNR − threshold).

    Detection of a known pulse in additive Gaussian noise (Skolnik, Introduction to Radar Systems).

    >>> from robustcheck.sensing.profile import load_sensor
    >>> setting = lidar_setting(load_sensor("lidar-vlp16"), signal=1)
    >>> float(detection_probability(torch.tensor(setting.detection_snr), setting))
    0.5
    """
    probability: torch.Tensor = torch.special.ndtr(snr - setting.detection_snr)
    return probability


def range_sigma(snr: torch.Tensor, setting: LidarSetting) -> torch.Tensor:
    """Standard deviation of the range [m] at an SNR, before rounding.

    The published table, straight between its points on logarithmic axes and constant beyond them; without one
    σ² = σ_strong² + (σ_limit² − σ_strong²) · (SNR_limit / SNR)². The second part is the timing jitter of a threshold on
    a pulse's edge, rise time / SNR (Skolnik); that it reaches σ_limit at the limit of detection, and the
    floor σ_strong, are the profile's. An SNR below the limit counts as the limit: what is reported came as high.

    Args:
        snr: any shape, above 0.
        setting: of the LIDAR.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> setting = lidar_setting(load_sensor("lidar-vlp16"), signal=1)
    >>> bool((range_sigma(torch.tensor([1e6]), setting) - setting.strong_sigma_m).abs() < 1e-6)
    True
    """
    snr = snr.clamp_min(setting.detection_snr)
    if setting.sigma_by_snr:
        return _between(snr, setting.sigma_by_snr)
    rest = max(0.0, setting.limit_sigma_m**2 - setting.strong_sigma_m**2) * setting.detection_snr**2
    return (setting.strong_sigma_m**2 + rest / snr.square()).sqrt()


def _between(x: torch.Tensor, points: tuple[tuple[float, float], ...]) -> torch.Tensor:
    """Through the points, straight on logarithmic axes and constant beyond the ends."""
    log_x = x.log()
    log_y = torch.full_like(log_x, math.log(points[0][1]))
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        slope = math.log(y1 / y0) / math.log(x1 / x0)
        log_y += slope * (log_x.clamp(math.log(x0), math.log(x1)) - math.log(x0))
    return log_y.exp()


def intensity_sigma(snr: torch.Tensor, setting: LidarSetting) -> torch.Tensor:
    """Standard deviation of the intensity as a share of it: √(σ_strong² + 1/SNR²), the receiver's noise second.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> setting = lidar_setting(load_sensor("lidar-vlp16"), signal=1)
    >>> bool(intensity_sigma(torch.tensor(1.0), setting) >= 1)
    True
    """
    return (setting.intensity_noise**2 + snr.square().reciprocal()).sqrt()
