"""High dynamic range: several captures of a scene, less and less sensitive, merged into one linear value.

The merge takes each pixel from the most sensitive capture that is not near saturation, so the signal-to-noise ratio
falls at each hand-over: by 20·log10(√ratio) dB for captures whose sensitivities differ by `ratio`, where shot noise
dominates, since the next capture has 1/ratio of the electrons.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from robustcheck.errors import InvalidValueError
from robustcheck.sensing import companding

if TYPE_CHECKING:
    from robustcheck.sensing.camera import CameraSetting, CaptureSetting


def merge(readings: Sequence[torch.Tensor], setting: CameraSetting) -> torch.Tensor:
    """One linear value from the codes of all captures.

    A pixel is taken from the first capture whose code, less black, lies below `hand_over` of its saturation; where none
    does, from the last. Its electrons are (code − black − K·dark) / (K·sensitivity), in electrons of the first capture.
    A pixel's own noise takes part in that choice: at a hand-over, where half of the pixels are taken from each capture,
    their mean is low by φ(0) = 0.40 of the more sensitive one's standard deviation σ, and by φ(3) = 0.004 σ where the
    hand-over is 3 σ away.

    With companding the value travels as a linear code in steps of the first capture's (electrons × its K), rounded and
    sent through the curve and back. What lies below black or beyond the curve is then clipped, as the converter does.

    Args:
        readings: for each capture, in falling sensitivity, (n, c, h, w) floating, the converter's whole codes [DN],
            black level included.
        setting: of the camera; `captures`, `white_e`, `black_dn`, `max_code`, `hand_over` and `companding` are read.

    Returns:
        Like one of the readings: share of white, not clipped to [0, 1].

    Raises:
        InvalidValueError: not one reading a capture.

    >>> from robustcheck.sensing.camera import CameraSetting, CaptureSetting
    >>> long, short = (CaptureSetting(sensitivity, 1000, 2, 1, 0) for sensitivity in (1.0, 0.25))
    >>> setting = CameraSetting((long, short), 4000, 1, 12, 4095, 64, 0, 0, 0, "none", 0.9, None, True)
    >>> merge([torch.tensor([464.0, 1064.0]), torch.tensor([164.0, 564.0])], setting)  # 400 / 4000, 500 · 4 / 4000
    tensor([0.1000, 0.5000])
    """
    captures = setting.captures
    if len(readings) != len(captures):
        raise InvalidValueError("readings", expected=f"one for each of {len(captures)} captures", got=len(readings))
    electrons = _electrons(readings[-1], captures[-1], setting)
    for reading, capture in zip(reversed(readings[:-1]), reversed(captures[:-1]), strict=True):
        below = reading < setting.black_dn + hand_over_dn(capture, setting)
        electrons = torch.where(below, _electrons(reading, capture, setting), electrons)
    if setting.companding is None:
        return electrons / setting.white_e
    gain = captures[0].gain_dn_per_e
    codes = companding.encode(electrons * gain, setting.companding)
    decoded = companding.decode(codes, setting.companding).to(electrons.dtype) / (gain * setting.white_e)
    return decoded + (electrons - electrons)  # of no number, no number


def hand_over_dn(capture: CaptureSetting, setting: CameraSetting) -> float:
    """Code above black from which the next capture is used [DN]: `hand_over` of where the well or converter is full.

    >>> from robustcheck.sensing.camera import CameraSetting, CaptureSetting
    >>> capture = CaptureSetting(1, 1000, 2, 1, 0)
    >>> hand_over_dn(capture, CameraSetting((capture,), 4000, 1, 12, 4095, 64, 0, 0, 0, "none", 0.9, None, True))
    900.0
    """
    return setting.hand_over * saturation_dn(capture, setting)


def saturation_dn(capture: CaptureSetting, setting: CameraSetting) -> float:
    """Codes above black at which a capture saturates: those of its full well, or of the converter if fewer [DN].

    >>> from robustcheck.sensing.camera import CameraSetting, CaptureSetting
    >>> capture = CaptureSetting(1, 1000, 2, 1, 0)
    >>> saturation_dn(capture, CameraSetting((capture,), 4000, 1, 8, 255, 5, 0, 0, 0, "none", 0.9, None, True))
    250
    """
    return min(capture.gain_dn_per_e * capture.full_well_e, setting.max_code - setting.black_dn)


def _electrons(codes: torch.Tensor, capture: CaptureSetting, setting: CameraSetting) -> torch.Tensor:
    """Electrons of the first capture that these codes stand for."""
    offset = setting.black_dn + capture.gain_dn_per_e * capture.dark_e
    return (codes - offset) / (capture.gain_dn_per_e * capture.sensitivity)
