"""One capture of a camera in plain torch: the definition that every faster kernel must equal, on any device.

Works in float32, element by element: sRGB → linear → mean electrons → Poisson → full well → noise → gain → code →
black subtraction → re-gain → sRGB (EMVA 1288 release 4 linear model, with a well, a converter and a black level).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from robustcheck.sensing.deviates import deviates
from robustcheck.sensing.kernels.reference import pack_mask
from robustcheck.sensing.poisson import LEAST_READ_NOISE_E, clear_of_well, poisson, poisson_with_read_noise
from robustcheck.sensing.random import Key, random_words
from robustcheck.sensing.srgb import decode, encode

Output = Literal["codes", "linear", "srgb"]


@dataclass(frozen=True)
class Pixel:
    """What a capture does to each pixel.

    Attributes:
        white_e: electrons that linear light of 1 gives in this capture, > 0.
        dark_e: mean dark electrons.
        full_well_e: most electrons that a pixel holds.
        read_noise_e: standard deviation of each element's own noise after the well.
        prnu: share of the signal by which one unit of the response map raises it.
        dsnu_e: electrons by which one unit of the dark map raises the signal, after the well.
        gain_dn_per_e: overall system gain K.
        black_dn: code of no light, whole.
        max_code: highest code.
        noisy: Poisson and read noise and the maps; else the mean alone.
    """

    white_e: float
    dark_e: float
    full_well_e: float
    read_noise_e: float
    prnu: float
    dsnu_e: float
    gain_dn_per_e: float
    black_dn: float
    max_code: int
    noisy: bool

    @property
    def joint(self) -> bool:
        """Whether one deviate makes the Poisson number and the read noise together, wherever the well is far."""
        return self.noisy and self.read_noise_e >= LEAST_READ_NOISE_E

    @property
    def pedestal_dn(self) -> float:
        """What black subtraction takes away: black level and mean dark signal, as rows of covered pixels show it."""
        return float(np.float32(self.black_dn + self.gain_dn_per_e * self.dark_e))

    @property
    def share_per_dn(self) -> float:
        """Digital re-gain: share of white that one code above the pedestal stands for."""
        return float(np.float32(1 / (self.gain_dn_per_e * self.white_e)))


def sense(
    x: torch.Tensor,
    pixel: Pixel,
    shot: Key,
    read: Key,
    sample_ids: torch.Tensor,
    draws: int | torch.Tensor,
    *,
    response: torch.Tensor | None = None,
    dark: torch.Tensor | None = None,
    rows_e: torch.Tensor | None = None,
    output: Output = "srgb",
    keep_mask: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Sense a batch with one capture.

    Args:
        x: (n, c, h, w) floating, contiguous, sRGB; clipped to [0, 1].
        pixel: the capture.
        shot: random stream of the Poisson numbers, and of those with their read noise (`Pixel.joint`).
        read: random stream of the read noise elsewhere.
        sample_ids: (n,) int64.
        draws: number of the draw, or (n,) int64 with one a sample.
        response: (c·h·w,) float32, the device's map of response, of unit standard deviation.
        dark: (c·h·w,) float32, its map of dark signal.
        rows_e: (n, h) float32, noise that a row shares [electrons].
        output: `codes` (whole, black included), `linear` (share of white, not clipped) or `srgb` (clipped, encoded).
        keep_mask: return the mask too.

    Returns:
        Values of the shape and dtype of x, and the mask of those that neither the well nor the converter nor, where the
        output is `srgb`, the range [0, 1] clipped: (n, ceil(c·h·w / 8)) uint8, the first element in the lowest bit.
    """
    samples, height, width = x.shape[0], x.shape[-2], x.shape[-1]
    elements = x[0].numel() if samples else 0
    value = x.to(torch.float32).reshape(samples, elements)
    clipped = value.clamp(0.0, 1.0)
    mean = decode(clipped) * pixel.white_e
    if pixel.noisy and response is not None:
        mean = (mean * (1.0 + response * pixel.prnu)).clamp(min=0.0)
    mean = mean + pixel.dark_e
    electrons, noise_e = mean, torch.zeros_like(mean)
    if pixel.noisy:
        words = random_words(shot, sample_ids, draws, elements)
        electrons = poisson(mean, words)
        if pixel.read_noise_e > 0:
            noise_e = deviates(random_words(read, sample_ids, draws, elements)) * pixel.read_noise_e
    signal = electrons.clamp(max=pixel.full_well_e) + noise_e
    if pixel.joint:
        clear = clear_of_well(mean, pixel.read_noise_e, pixel.full_well_e)
        signal = torch.where(clear, poisson_with_read_noise(mean, pixel.read_noise_e, deviates(words)), signal)
    if pixel.noisy and dark is not None:
        signal = signal + dark * pixel.dsnu_e
    if pixel.noisy and rows_e is not None:
        signal = (signal.reshape(samples, -1, height, width) + rows_e[:, None, :, None]).reshape(samples, elements)
    code = torch.round(signal * pixel.gain_dn_per_e + pixel.black_dn)
    converted = code.clamp(0.0, float(pixel.max_code))
    linear = (converted - pixel.pedestal_dn) * pixel.share_per_dn
    shown = linear.clamp(0.0, 1.0)
    passed = (clipped == value) & (electrons <= pixel.full_well_e) & (converted == code)
    if output == "srgb":
        passed = passed & (shown == linear)
    packed = pack_mask(passed) if keep_mask else None
    out = {"codes": lambda: converted, "linear": lambda: linear, "srgb": lambda: encode(shown)}[output]()
    return out.reshape(x.shape).to(x.dtype), packed
