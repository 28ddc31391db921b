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
    draws: int | torch.Tensor,
    *,
    noise_first: bool,
    noise: Noise,
    sigma: float,
    steps: int,
    low: float,
    scale: float,
    first: int = 0,
    keep_mask: bool = False,
    in_place: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Noise → clamp → quantise (`noise_first`, AOD) or clamp → quantise → noise (DOA).

    Args:
        x: floating, contiguous, of any shape, the samples along its first axis.
        key: random stream.
        sample_ids: (samples,) int64.
        draws: number of the draw, or (samples,) int64 with one a sample.
        noise_first: AOD if true, DOA if false.
        noise: distribution.
        sigma: noise scale [full scales], 0 for none.
        steps: steps per unit.
        low: lower end of the range, 0 (unsigned) or −1 (signed); the upper end is 1.
        scale: what a full scale of 1 stands for in x, > 0.
        first: which element of each sample's stream x begins with, a multiple of 4; elements go up to 2^34.
        keep_mask: return the mask too.
        in_place: write the converted values over x.

    Returns:
        The converted values, of the shape and dtype of x, and the mask of the values that the clamp left alone:
        (samples, ceil(elements / 8)) uint8, the first element in the lowest bit.
    """
    f32 = torch.float32
    inverse = torch.tensor(1.0, dtype=f32) / torch.tensor(scale, dtype=f32)
    unit = torch.tensor(1.0, dtype=f32) / torch.tensor(float(steps), dtype=f32) * torch.tensor(scale, dtype=f32)
    value = x.to(f32) * inverse.item()
    elements = x.numel() // max(1, len(sample_ids))
    if sigma > 0:
        deviate = deviates(random_words(key, sample_ids, draws, elements, first=first), noise).reshape(x.shape)
    if sigma > 0 and noise_first:
        value = value + deviate * sigma
    clamped = value.clamp(low, 1.0)
    out = round_to_codes(clamped, steps) * unit.item()
    if sigma > 0 and not noise_first:
        out = out + deviate * (torch.tensor(sigma, dtype=f32) * torch.tensor(scale, dtype=f32)).item()
    packed = pack_mask((clamped == value).reshape(len(sample_ids), elements)) if keep_mask else None
    return x.copy_(out) if in_place else out.to(x.dtype), packed


def pack_mask(mask: torch.Tensor) -> torch.Tensor:
    """Eight elements a byte, the first in the lowest bit: (samples, elements) bool to (samples, ⌈elements / 8⌉) uint8.

    >>> pack_mask(torch.tensor([[True, False, True]]))
    tensor([[5]], dtype=torch.uint8)
    """
    padded = torch.nn.functional.pad(mask, (0, -mask.shape[1] % 8)).reshape(len(mask), -(-mask.shape[1] // 8), 8)
    weights = 2 ** torch.arange(8, device=mask.device)
    return (padded * weights).sum(-1).to(torch.uint8)


def mask_gradient(gradient: torch.Tensor, packed: torch.Tensor, samples: int) -> torch.Tensor:
    """The gradient where the clamp let the value pass, and 0 where it cut.

    Args:
        gradient: floating, contiguous, like the converted values.
        packed: the mask that `convert` kept.
        samples: how many the rows of the mask are.
    """
    bits = (packed.unsqueeze(-1) >> torch.arange(8, device=packed.device, dtype=torch.uint8)) & 1
    elements = gradient.numel() // max(1, samples)
    return gradient * bits.reshape(samples, packed.shape[1] * 8)[:, :elements].reshape(gradient.shape)
