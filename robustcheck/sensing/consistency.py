"""Holds the numbers of a profile against each other: what does not fit is a wrong number, or a part's peculiarity."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Final

from robustcheck.sensing.camera import CameraSetting, CaptureSetting, camera_setting
from robustcheck.sensing.camera_curves import dynamic_range_db, snr_max_db
from robustcheck.sensing.camera_ep import capture_at, temporal_noise_e
from robustcheck.sensing.camera_profile import CameraProfile, Companding
from robustcheck.sensing.hdr import saturation_dn
from robustcheck.sensing.lidar_profile import LidarProfile
from robustcheck.sensing.lidar_returns import lidar_setting
from robustcheck.sensing.profile import SensorProfile

FULL_SCALE_TOLERANCE: Final = 0.05
SNR_TOLERANCE_DB: Final = 0.5
DYNAMIC_RANGE_TOLERANCE_DB: Final = 1.0
LEAST_DARK_NOISE_DN: Final = 0.5
"""EMVA 1288's quantisation noise of 1/12 DN² holds from about ¼ to ½ DN of temporal noise on."""
DIM: Final = 0.01
"""The share of the full well at which a step of the converter is held against shot noise."""
LEAST_REACH: Final = 1.1
"""A further capture that saturates no later than this, over the one before, adds nothing."""
RANGE_STEPS: Final = (5.0, 20.0)
"""Steps of range to a standard deviation, as LIDARs have them."""
RANGE_TOLERANCE: Final = 0.25
BRIGHT_REFLECTIVITY: Final = 0.8


@dataclass(frozen=True)
class Finding:
    """A number of a profile, and where it should lie by the others.

    Attributes:
        name: what was looked at.
        got: what the profile's numbers give.
        low: the least that fits; None without a bound.
        high: the most that fits; None without a bound.
        unit: of all three; `1` without one.
        text: what the comparison says, or what a value that does not fit means.
    """

    name: str
    got: float
    low: float | None
    high: float | None
    unit: str
    text: str

    @property
    def ok(self) -> bool:
        """Whether it fits."""
        return (self.low is None or self.got >= self.low) and (self.high is None or self.got <= self.high)

    @property
    def expected(self) -> str:
        """The bounds in words.

        >>> Finding("range", 113.0, 90.0, 150.0, "m", "").expected
        '90 to 150 m'
        >>> Finding("dark noise", 0.8, 0.5, None, "DN", "").expected
        'at least 0.5 DN'
        """
        unit = "" if self.unit == "1" else f" {self.unit}"
        if self.low is not None and self.high is not None:
            return f"{self.low:.4g} to {self.high:.4g}{unit}"
        return f"at least {self.low:.4g}{unit}" if self.low is not None else f"at most {self.high:.4g}{unit}"


def findings(profile: SensorProfile) -> tuple[Finding, ...]:
    """Everything in a profile that can be held against something else in it.

    Cameras: the full well against the converter's full scale, SNR maximum and dynamic range against the published ones,
    quantisation against the noise in the dark and against shot noise; with several captures their order, and the steps
    and the end of the companding. LIDARs: range noise against range step, the two ranges against each other, the noise
    at the limit of detection, and the threshold against the false returns. A converter has one number, so nothing.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> [finding.name for finding in findings(load_sensor("camera-imx477")) if finding.ok]
    ['full scale', 'dynamic range', 'noise in the dark', 'step against shot noise']
    """
    if isinstance(profile, CameraProfile):
        return tuple(_camera(profile))
    if isinstance(profile, LidarProfile):
        return tuple(_lidar(profile))
    return ()


def _saturation_e(capture: CaptureSetting, setting: CameraSetting) -> float:
    """Electrons of the capture where its well or the converter is full."""
    return saturation_dn(capture, setting) / capture.gain_dn_per_e


def _camera(profile: CameraProfile) -> Iterator[Finding]:
    setting = camera_setting(profile, exposure=1.0)
    names = ["", *(f" of {capture.name}" for capture in profile.hdr.captures)] if profile.hdr else [""]
    for capture, name in zip(setting.captures, names, strict=True):
        yield _full_scale(capture, setting, name)
    published = profile.published
    if published.snr_max_db is not None:
        yield _near("SNR maximum", snr_max_db(profile), published.snr_max_db.value, SNR_TOLERANCE_DB)
    if published.dynamic_range_db is not None:
        yield _near(
            "dynamic range", dynamic_range_db(profile), published.dynamic_range_db.value, DYNAMIC_RANGE_TOLERANCE_DB
        )
    for capture, name in zip(setting.captures, names, strict=True):
        yield from _quantisation(capture, setting, name)
    if profile.hdr is not None:
        yield from _captures(setting)
    if setting.companding is not None:
        yield from _companding(setting, setting.companding)


def _full_scale(capture: CaptureSetting, setting: CameraSetting, name: str) -> Finding:
    scale = setting.max_code + 1
    got = capture.gain_dn_per_e * capture.full_well_e + setting.black_dn
    filled = _saturation_e(capture, setting) / capture.full_well_e
    if filled < 1:
        text = f"gain × full well + black level: the converter clips at {filled:.1%} of the full well"
    else:
        text = f"gain × full well + black level: the full well ends at {got / scale:.1%} of the codes"
    low, high = scale * (1 - FULL_SCALE_TOLERANCE), scale * (1 + FULL_SCALE_TOLERANCE)
    return Finding(f"full scale{name}", got, low, high, "DN", text)


def _near(name: str, got: float, published: float, tolerance: float) -> Finding:
    text = f"by EMVA 1288 from the profile's numbers; published: {published:g} dB"
    return Finding(name, got, published - tolerance, published + tolerance, "dB", text)


def _quantisation(capture: CaptureSetting, setting: CameraSetting, name: str) -> Iterator[Finding]:
    dark = capture.gain_dn_per_e * float(temporal_noise_e(capture, 0.0, setting.row_noise_e))
    text = "in steps of the converter; with less, rounding errors follow the signal and are no noise"
    yield Finding(f"noise in the dark{name}", dark, LEAST_DARK_NOISE_DN, None, "DN", text)
    step = 1 / (capture.gain_dn_per_e * math.sqrt(DIM * capture.full_well_e))
    text = f"a step of the converter over the shot noise at {DIM:.0%} of the full well"
    yield Finding(f"step against shot noise{name}", step, None, 1.0, "1", text)


def _captures(setting: CameraSetting) -> Iterator[Finding]:
    """Captures take over in their order: each later one must reach farther, and none can be more sensitive."""
    ratios = [after.sensitivity / before.sensitivity for before, after in pairwise(setting.captures)]
    text = "largest ratio of a capture's sensitivity to that of the one before"
    yield Finding("order of the captures", max(ratios), None, 1.0, "1", text)
    reaches = [_saturation_e(capture, setting) / capture.sensitivity for capture in setting.captures]
    gained = min(after / before for before, after in pairwise(reaches))
    text = "least factor by which a capture saturates later than the one before; near 1 it is never needed"
    yield Finding("reach of the captures", gained, LEAST_REACH, None, "1", text)


def _companding(setting: CameraSetting, curve: Companding) -> Iterator[Finding]:
    gain = setting.captures[0].gain_dn_per_e
    most = gain * max(_saturation_e(capture, setting) / capture.sensitivity for capture in setting.captures)
    text = "end of the companding curve over the linear code at saturation; with less, highlights are cut"
    yield Finding("end of the companding", curve.input_dn.values[-1] / most, 1.0, None, "1", text)
    segments = zip(pairwise(curve.input_dn.values), pairwise(curve.output_dn.values), strict=True)
    # Shot noise grows along a segment while the step stays, so that they are closest at its start.
    ratios = [
        (stop - start) / (high - low) / math.sqrt(12) / _shot_noise_dn(max(start, 1.0), setting)
        for (start, stop), (low, high) in segments
        if start < most and stop - start > high - low
    ]
    text = "largest quantisation noise of the companding over the shot noise beside it, up to saturation"
    yield Finding("step of the companding", max(ratios, default=0.0), None, 1.0, "1", text)


def _shot_noise_dn(linear_dn: float, setting: CameraSetting) -> float:
    """Shot noise of a merged value [steps of the first capture], by the capture that reads it."""
    gain = setting.captures[0].gain_dn_per_e
    electrons = linear_dn / gain
    reading = setting.captures[int(capture_at(setting, electrons))]
    return gain * math.sqrt(electrons / reading.sensitivity)


def _lidar(profile: LidarProfile) -> Iterator[Finding]:
    setting = lidar_setting(profile, signal=1.0)
    strong = min((sigma for _, sigma in setting.sigma_by_snr), default=setting.strong_sigma_m)
    weak = max((sigma for _, sigma in setting.sigma_by_snr), default=setting.limit_sigma_m)
    text = "standard deviation of a strong return over the step of range; with less, rounding is seen in the ranges"
    yield Finding("range noise in steps", strong / profile.range_lsb_m.value, *RANGE_STEPS, "1", text)
    text = "noise at the limit of detection over that of a strong return"
    yield Finding("growth of the range noise", weak / strong, 1.0, None, "1", text)
    bright = profile.range_at_10_percent_m.value * math.sqrt(BRIGHT_REFLECTIVITY / 0.1)
    text = (
        f"maximum range; an {BRIGHT_REFLECTIVITY:.0%} reflector is seen as far as {bright:.4g} m by the range at 10 %"
    )
    low, high = bright * (1 - RANGE_TOLERANCE), bright * (1 + RANGE_TOLERANCE)
    yield Finding("maximum range", profile.max_range_m.value, low, high, "m", text)
    if profile.false_return_rate.value > 0:
        threshold = -NormalDist().inv_cdf(min(profile.false_return_rate.value, 0.5))
        text = f"detection threshold; noise alone passes {threshold:.2f} as often as there are false returns"
        yield Finding("detection SNR", profile.detection_snr.value, threshold - 0.5, threshold + 0.5, "1", text)
