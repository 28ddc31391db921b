"""Fields of noise: one value of unit scale for each element of each sample, by the fastest kernel of the device."""

from __future__ import annotations

import torch

from robustcheck.sensing.deviates import Noise
from robustcheck.sensing.kernels.dispatch import kernel
from robustcheck.sensing.random import Key, draw_number


def noise_field(
    key: Key, sample_ids: torch.Tensor, draw: int | torch.Tensor, elements: int, noise: Noise = "gaussian"
) -> torch.Tensor:
    """Independent noise values.

    Args:
        key: random stream, from `stream_key`.
        sample_ids: (n,) int64, in [0, 2^63).
        draw: number of the noisy evaluation, in [0, 2^32); or (n,) int64, one a sample.
        elements: values a sample takes.
        noise: gaussian (standard deviation 1), uniform (in (−1, 1)) or laplace (scale 1).

    Returns:
        (n, elements) float32 on the device of `sample_ids`; the values of `deviates(random_words(…))`.

    >>> from robustcheck.sensing.random import stream_key
    >>> noise_field(stream_key(0, "demo"), torch.tensor([0, 7]), 0, 3).shape
    torch.Size([2, 3])
    """
    # A converter that adds noise to zeros after rounding gives nothing but the noise.
    zeros = torch.zeros(len(sample_ids), elements, device=sample_ids.device)
    made: tuple[torch.Tensor, None] = kernel(sample_ids.device.type).convert(
        zeros,
        key,
        sample_ids,
        draw if type(draw) is int else draw_number(draw),
        noise_first=False,
        noise=noise,
        sigma=1.0,
        steps=1,
        low=-1.0,
        scale=1.0,
        in_place=True,
    )
    return made[0]
