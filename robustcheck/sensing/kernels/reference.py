"""The converter in plain torch: the definition that every faster kernel must equal, on any device.

Works in float32. The values are those of the samples, one after the other: a sample has x.numel() / len(sample_ids)
of them. They are divided by `scale` first, so that the range is [low, 1], and multiplied by it last.
"""

from __future__ import annotations

import torch

from robustcheck.sensing.deviates import Noise, deviates
from robustcheck.sensing.random import Key, random_words


def round_to_codes(x: torch.Tensor, steps: int) -> torch.Tensor:
    """The code nearest to x·p, ties toward zero: sign(x)·ceil(|x p| − ½) (arXiv 2402.02593; AnalogVNN).

    Args:
        x: float32, any shape.
        steps: p >= 1.

    Returns:
        Whole numbers as float32, never −0.

    >>> round_to_codes(torch.tensor([0.5, 0.51, -0.1]), 1)
    tensor([0., 1., 0.])
    """
    return torch.sign(x) * torch.ceil(torch.abs(x * steps) - 0.5).abs() + 0.0


def convert(
    x: torch.Tensor,
    key: Key,
    sample_ids: torch.Tensor,
    draw: int,
    *,
    noise_first: bool,
    noise: Noise,
    sigma: float,
    steps: int,
    low: float,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise → clamp → quantise (`noise_first`, AOD) or clamp → quantise → noise (DOA).

    Args:
        x: float32 of any shape, the samples along its first axis.
        key: random stream.
        sample_ids: (samples,) int64.
        draw: number of the draw.
        noise_first: AOD if true, DOA if false.
        noise: distribution.
        sigma: noise scale [full scales], 0 for none.
        steps: steps per unit.
        low: lower end of the range, 0 (unsigned) or −1 (signed); the upper end is 1.
        scale: what a full scale of 1 stands for in x, > 0.

    Returns:
        The converted values, float32 like x, and the mask (bool) of the values that the clamp left alone.
    """
    f32 = torch.float32
    inverse = torch.tensor(1.0, dtype=f32) / torch.tensor(scale, dtype=f32)
    unit = torch.tensor(1.0, dtype=f32) / torch.tensor(float(steps), dtype=f32) * torch.tensor(scale, dtype=f32)
    value = x * inverse.item()
    if sigma > 0:
        elements = x.numel() // max(1, len(sample_ids))
        deviate = deviates(random_words(key, sample_ids, draw, elements), noise).reshape(x.shape)
    if sigma > 0 and noise_first:
        value = value + deviate * sigma
    clamped = value.clamp(low, 1.0)
    out = round_to_codes(clamped, steps) * unit.item()
    if sigma > 0 and not noise_first:
        out = out + deviate * (torch.tensor(sigma, dtype=f32) * torch.tensor(scale, dtype=f32)).item()
    return out, clamped == value
