"""Error probability of a camera from its physics, and back: the exposure, bits or gain at which an EP happens.

A flat field of mu signal electrons in one capture gives N ~ Poisson(mu + dark) electrons, of which the well holds
E = min(N, full well). In codes the reading is off by X = K (E − min(mu + dark, full well)) + K n, n being normal with
variance read² + row² (EMVA 1288 release 4, linear model; the limits of well and converter added). The maps of PRNU and
DSNU are fixed and no part of it. Then

- `ep_centre` is the probability that a signal on a code centre changes code, P(|X| > ½);
- `ep_adc` the same for one anywhere within its code, E[min(|X|, 1)].

At the lowest and the highest code only the error that leads inwards changes the code, and a signal beyond the highest
code must come back to it first. Gaussian closed forms (`sensing.error_probability`) serve where they are good, the
clipped Poisson–Gauss sum elsewhere; they meet within 1e-3. Companding comes after the converter and is not counted.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from robustcheck.errors import InvalidValueError, UnknownNameError, UsageError
from robustcheck.sensing.camera import CameraSetting, CaptureSetting, camera_setting
from robustcheck.sensing.camera_profile import CameraProfile
from robustcheck.sensing.clipped_poisson import exceedance
from robustcheck.sensing.ep_search import Moved, Reach, last_rise, reach_of, root
from robustcheck.sensing.error_probability import DEFINITIONS, MAX_BITS, Definition, check_ep, error_probability
from robustcheck.sensing.hdr import hand_over_dn
from robustcheck.sensing.operating_point import Reading
from robustcheck.sensing.srgb import to_linear

Array = npt.NDArray[np.float64]

# Where the closed form is within 1e-3 of the sum; the last one smooths over the whole electrons.
_GAUSSIAN_ELECTRONS: Final = 100.0
_GAUSSIAN_WELL: Final = 0.9
_GAUSSIAN_ROOM: Final = 4.0  # standard deviations below the well, which a small well has not at 90 %
_GAUSSIAN_SIGMA_DN: Final = 0.5
_GAUSSIAN_SPREAD_E: Final = 0.5


def temporal_noise_e(capture: CaptureSetting, mu_e: npt.ArrayLike, row_noise_e: float) -> Array:
    """Temporal noise of one capture without quantisation: √(mu + dark + read² + row²) (EMVA 1288 release 4).

    Args:
        capture: the capture.
        mu_e: signal electrons of this capture, any shape, >= 0.
        row_noise_e: noise that a row shares [electrons].

    Returns:
        float64, shaped like `mu_e` [electrons].

    >>> capture = CaptureSetting(sensitivity=1, full_well_e=8180, read_noise_e=3, gain_dn_per_e=0.47, dark_e=0)
    >>> temporal_noise_e(capture, [0, 91], 0).tolist()
    [3.0, 10.0]
    """
    mu = np.asarray(mu_e, dtype=np.float64)
    return np.asarray(np.sqrt(mu + capture.dark_e + capture.read_noise_e**2 + row_noise_e**2))


def capture_at(setting: CameraSetting, electrons: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Which capture reads a signal: the first whose mean code stays below `hand_over` of its saturation, else the last.

    Args:
        setting: the camera at its exposure.
        electrons: signal electrons of the first capture, any shape, >= 0.

    Returns:
        Indices into `setting.captures`, shaped like `electrons`.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> setting = camera_setting(load_sensor("camera-ov-split-pixel"), exposure=1)
    >>> capture_at(setting, [0, 0.9 * setting.white_e]).tolist()
    [0, 2]
    """
    signal = np.asarray(electrons, dtype=np.float64)
    chosen = np.full(signal.shape, len(setting.captures) - 1)
    for index in reversed(range(len(setting.captures) - 1)):
        chosen[signal < _hand_over_e(setting, setting.captures[index])] = index
    return chosen


def _hand_over_e(setting: CameraSetting, capture: CaptureSetting) -> float:
    """Signal [electrons of the first capture] from which a capture hands over to the next."""
    return (hand_over_dn(capture, setting) / capture.gain_dn_per_e - capture.dark_e) / capture.sensitivity


def error_probability_at(setting: CameraSetting, electrons: npt.ArrayLike, definition: Definition = "centre") -> Array:
    """Error probability of signals, each in the capture that reads it.

    Args:
        setting: the camera; its exposure plays no part.
        electrons: signal electrons of the first capture, any shape, finite, >= 0.
        definition: centre or adc; see the module.

    Returns:
        float64 probabilities in [0, 1], shaped like `electrons`.

    Raises:
        InvalidValueError: a signal is negative or not finite.
        UnknownNameError: no such definition.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> setting = camera_setting(load_sensor("camera-imx477"), exposure=1)
    >>> error_probability_at(setting, [818, 4090]).round(3).tolist()
    [0.97, 0.987]
    """
    if definition not in DEFINITIONS:
        raise UnknownNameError("definition of error probability", definition, DEFINITIONS)
    signal = np.asarray(electrons, dtype=np.float64)
    if not (np.isfinite(signal).all() and (signal >= 0).all()):
        raise InvalidValueError("signal", expected="finite electrons of at least 0", got=electrons)
    chosen = capture_at(setting, signal)
    ep = np.empty(signal.shape)
    for index in np.unique(chosen):
        here, capture = chosen == index, setting.captures[index]
        ep[here] = _error_probability(setting, capture, signal[here] * capture.sensitivity, definition)
    return ep


def _error_probability(setting: CameraSetting, capture: CaptureSetting, mu: Array, definition: Definition) -> Array:
    """Error probability of signals mu (k,) [electrons of this capture], read by this capture."""
    gain = capture.gain_dn_per_e
    mean = mu + capture.dark_e
    level = np.minimum(mean, capture.full_well_e)
    position = setting.black_dn + gain * level
    code = np.clip(np.rint(position), 0, setting.max_code)
    upwards, downwards = code < setting.max_code, code > 0
    sigma = gain * temporal_noise_e(capture, mu, setting.row_noise_e)
    spread = math.hypot(capture.read_noise_e, setting.row_noise_e)
    gaussian = upwards & downwards & (mean >= _GAUSSIAN_ELECTRONS) & (sigma >= _GAUSSIAN_SIGMA_DN)
    gaussian &= (mean <= _GAUSSIAN_WELL * capture.full_well_e) & (spread >= _GAUSSIAN_SPREAD_E)
    gaussian &= capture.full_well_e - mean >= _GAUSSIAN_ROOM * sigma / gain

    ep = np.empty(mu.shape)
    ep[gaussian] = [error_probability(float(s), 1, definition=definition) for s in sigma[gaussian]]
    rest = ~gaussian
    beyond = np.maximum(position[rest] - setting.max_code, 0) / gain
    low, high = level[rest] - beyond, level[rest]

    def exceeds(thresholds: Array) -> tuple[Array, Array]:
        return exceedance(thresholds, mean[rest], spread, capture.full_well_e)

    if definition == "centre":
        above = exceeds(high + 0.5 / gain)[0]
        below = 1 - exceeds(low - 0.5 / gain)[0]
    else:
        above = (exceeds(high)[1] - exceeds(high + 1 / gain)[1]) * gain
        below = 1 - (exceeds(low - 1 / gain)[1] - exceeds(low)[1]) * gain
    ep[rest] = np.clip(upwards[rest] * above + downwards[rest] * below, 0, 1)
    return ep


def reading(setting: CameraSetting) -> Reading:
    """What the camera's setting means for a flat field at white: its noise and its error probabilities.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> at_half = reading(camera_setting(load_sensor("camera-imx477"), exposure=0.5))
    >>> round(at_half.sigma_steps, 1), round(at_half.ep, 3), round(at_half.ep_adc, 3), at_half.exposure
    (30.1, 0.987, 0.987, 0.5)
    """
    white = np.asarray(setting.white_e)
    capture = setting.captures[int(capture_at(setting, white))]
    noise_e = temporal_noise_e(capture, white * capture.sensitivity, setting.row_noise_e)
    sigma_dn = capture.gain_dn_per_e * float(noise_e)
    return Reading(
        sigma=sigma_dn / setting.max_code,
        sigma_steps=sigma_dn,
        ep=float(error_probability_at(setting, white)),
        ep_adc=float(error_probability_at(setting, white, "adc")),
        exposure=setting.exposure,
        bits=setting.bits,
    )


def mean_ep(setting: CameraSetting, levels: npt.ArrayLike, weights: npt.ArrayLike) -> float:
    """Mean `ep_centre` over the pixels of a data set.

    Args:
        setting: the camera at its exposure.
        levels: (k,) sRGB values in [0, 1] that pixels have.
        weights: (k,) how many pixels have each, >= 0, not all 0.

    Raises:
        InvalidValueError: the shapes differ, a level is out of range, or the weights are no counts.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> setting = camera_setting(load_sensor("camera-imx477"), exposure=0.1)
    >>> round(mean_ep(setting, [0.5, 1.0], [1, 3]), 3)
    0.962
    """
    level, weight = np.asarray(levels, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    shapes = (level.shape, weight.shape)
    if level.ndim != 1 or shapes[0] != shapes[1]:
        raise InvalidValueError("levels and weights", expected="two rows of one length", got=shapes)
    if not ((level >= 0) & (level <= 1)).all():
        raise InvalidValueError("levels", expected="sRGB values in [0, 1]", got=levels)
    if not ((weight >= 0).all() and 0 < weight.sum() < math.inf):
        raise InvalidValueError("weights", expected="numbers of at least 0, not all 0", got=weights)
    linear = to_linear(torch.from_numpy(level)).numpy()
    return float(np.average(error_probability_at(setting, linear * setting.white_e), weights=weight))


def exposure_reach(profile: CameraProfile, *, bits: float | None = None) -> Reach:
    """What `exposure_at_ep` can be asked for, with the same arguments: the limit of `ep_centre` towards the dark,
    and its largest value on the branch that is inverted.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> str(exposure_reach(load_sensor("camera-imx477")))
    '0.723 (in the dark) to 0.991 (at exposure 0.998)'
    """
    return _branch(camera_setting(profile, exposure=1.0, bits=bits))[1]


def exposure_at_ep(profile: CameraProfile, ep: float, *, bits: float | None = None) -> float:
    """The exposure at which a flat field at white has this `ep_centre`.

    The EP rises with the light until white comes near the full well or the converter's last code, where noise can only
    lower the code; the inverse is on the branch from the dark to the largest EP. With several captures the EP is a
    saw-tooth, since each hand-over starts again at a smaller signal, and the branch ends at the first hand-over.

    Args:
        profile: the camera.
        ep: in (0, 1).
        bits: resolution, 1 to 16; the profile's own where None.

    Returns:
        Share of saturation in (0, 1].

    Raises:
        InvalidValueError: no exposure gives this EP; the message names the range.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> round(exposure_at_ep(load_sensor("camera-imx477"), 0.9), 4)
    0.0076
    """
    check_ep(ep)
    setting = camera_setting(profile, exposure=1.0, bits=bits)
    peak, reach = _branch(setting)

    def ep_of(electrons: float) -> float:
        return float(error_probability_at(setting, electrons))

    place = f"{profile.name} at {setting.bits:g} bits"
    if not reach.low < ep <= reach.high:
        raise InvalidValueError(place, expected=f"an EP from {reach}", got=ep, remedy="use --bits, or --vary bits")
    ends = (0.0, peak)
    return root(Moved(ep_of, ends, place, "signal [electrons]"), ep, ends) / setting.white_e


def bits_at_ep(profile: CameraProfile, ep: float, *, exposure: float) -> float:
    """The resolution at which a flat field at white has this `ep_centre`.

    Args:
        profile: the camera; fewer bits mean a gain of K · 2^(bits − profile's bits).
        ep: in (0, 1).
        exposure: share of saturation that white fills, in (0, 1].

    Returns:
        Real-valued bits in [1, 16]: the largest where the EP rises through `ep`.

    Raises:
        InvalidValueError: no resolution gives this EP; the message names the range.
        UsageError: the camera's companding is made for its own resolution.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> round(bits_at_ep(load_sensor("camera-imx477"), 0.5, exposure=0.5), 2)
    6.66
    """
    return last_rise(_moved_bits(profile, exposure), check_ep(ep))


def bits_reach(profile: CameraProfile, *, exposure: float) -> Reach:
    """What `bits_at_ep` can be asked for, with the same arguments.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> str(bits_reach(load_sensor("camera-imx477"), exposure=0.1))
    '0 (at 1 bit) to 0.998 (at 16 bit)'
    """
    return reach_of(_moved_bits(profile, exposure))


def gain_at_ep(profile: CameraProfile, ep: float, *, exposure: float, bits: float | None = None) -> float:
    """The system gain K at which a flat field at white has this `ep_centre`, all other numbers staying as they are.

    The read noise in electrons stays too; in a real part it falls a little with analog gain.

    Args:
        profile: a camera of one capture.
        ep: in (0, 1).
        exposure: share of saturation that white fills, in (0, 1].
        bits: resolution, 1 to 16; the profile's own where None.

    Returns:
        K [DN/electron], at most that which brings white to the converter's last code.

    Raises:
        InvalidValueError: no such gain gives this EP; the message names the range.
        UsageError: the camera has several captures, each with its gain.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> round(gain_at_ep(load_sensor("camera-imx477"), 0.5, exposure=0.5), 4)
    0.0116
    """
    return last_rise(_moved_gain(profile, exposure, bits), check_ep(ep))


def gain_reach(profile: CameraProfile, *, exposure: float, bits: float | None = None) -> Reach:
    """What `gain_at_ep` can be asked for, with the same arguments.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> str(gain_reach(load_sensor("camera-imx477"), exposure=0.1))
    '0 (at 4.69e-06 DN/electron) to 0.997 (at 4.69 DN/electron)'
    """
    return reach_of(_moved_gain(profile, exposure, bits))


def _moved_bits(profile: CameraProfile, exposure: float) -> Moved:
    if profile.hdr is not None and profile.hdr.companding is not None:
        made_for = f"the companding is made for its own {profile.bits.value:g}"
        raise UsageError(f"{profile.name}: expected bits that can be moved, but {made_for}; move the exposure")

    def ep_of(bits: float) -> float:
        setting = camera_setting(profile, exposure=exposure, bits=bits)
        return float(error_probability_at(setting, setting.white_e))

    grid = np.linspace(1, MAX_BITS, 8 * (MAX_BITS - 1) + 1).tolist()
    return Moved(ep_of, grid, f"{profile.name} at exposure {exposure:g}", "bit")


def _moved_gain(profile: CameraProfile, exposure: float, bits: float | None) -> Moved:
    setting = camera_setting(profile, exposure=exposure, bits=bits)
    if len(setting.captures) > 1:
        count = len(setting.captures)
        raise UsageError(f"{profile.name}: expected one capture, got {count}, each with its gain; move the exposure")
    capture = setting.captures[0]

    def ep_of(gain: float) -> float:
        changed = replace(setting, captures=(replace(capture, gain_dn_per_e=gain),))
        return float(error_probability_at(changed, changed.white_e))

    most = (setting.max_code - 0.5 - setting.black_dn) / (setting.white_e + capture.dark_e)
    place = f"{profile.name} at exposure {exposure:g} and {setting.bits:g} bits"
    grid = np.geomspace(most * 1e-6, most * (1 - 1e-9), 100).tolist()
    return Moved(ep_of, grid, place, "DN/electron")


def _branch(setting: CameraSetting) -> tuple[float, Reach]:
    """The branch that rises from the dark: its end [electrons of the first capture], and the EP at both ends."""
    peak = _peak_e(setting)
    low, high = error_probability_at(setting, [0.0, peak]).tolist()
    where = f"at exposure {peak / setting.white_e:.3g}" + ", the first hand-over" * (len(setting.captures) > 1)
    return peak, Reach(low, "in the dark", high, where)


def _peak_e(setting: CameraSetting) -> float:
    """Where the branch that rises from the dark ends [electrons of the first capture]."""
    first = setting.captures[0]
    top = setting.white_e if len(setting.captures) == 1 else np.nextafter(_hand_over_e(setting, first), 0)
    last_code_e = (setting.max_code - 0.5 - setting.black_dn) / first.gain_dn_per_e - first.dark_e
    shares = np.concatenate([np.geomspace(1e-6, 0.9, 200), np.linspace(0.9, 1, 101)])
    signals = np.append(top * shares, np.clip(last_code_e * (1 - 1e-9), 0, top))
    return float(signals[np.argmax(error_probability_at(setting, signals))])
