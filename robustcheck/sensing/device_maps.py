"""Maps of non-uniformity: what makes one specimen of a camera differ from the next, pixel by pixel."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal

import torch

from robustcheck.sensing.noise_field import noise_field
from robustcheck.sensing.random import stream_key

NonUniformity = Literal["prnu", "dsnu"]

_CENTRE_ROW: Final = 2**31  # rows above the centre count down from it, and no number of a row may be negative


@lru_cache(maxsize=8)
def device_map(
    device_seed: int, kind: NonUniformity, photodiode: int, shape: tuple[int, int, int], device: torch.device
) -> torch.Tensor:
    """The map of one specimen, of unit standard deviation, where an image lies on it.

    A value belongs to a place on the device: its row and column from the centre of the array, and its colour plane. An
    image of h × w covers the middle, from row −⌊h/2⌋ and column −⌊w/2⌋ on. So what is cut out about the centre of an
    image, with h and w as even or odd as before, meets the values that the whole image meets there.

    Args:
        device_seed: which specimen, in [0, 2^63).
        kind: `prnu` (response) or `dsnu` (dark signal), which are independent.
        photodiode: of the pixel, 0 for the first; each has a map of its own.
        shape: channels, height and width of the image, which may have any size.
        device: where the map is wanted; its values are the same on all.

    Returns:
        (channels · height · width,) float32; kept for the last 8 calls, so it must not be written to.

    Raises:
        InvalidValueError: the seed is out of range.

    >>> whole = device_map(0, "prnu", 0, (1, 6, 8), torch.device("cpu")).reshape(6, 8)
    >>> middle = device_map(0, "prnu", 0, (1, 2, 4), torch.device("cpu")).reshape(2, 4)
    >>> bool((middle == whole[2:4, 2:6]).all())
    True
    """
    channels, height, width = shape
    # Both halves of a row count from the centre outwards, each as a draw of its own.
    half, sides = (width + 1) // 2, 2 * channels
    rows = torch.arange(height, device=device) - height // 2 + _CENTRE_ROW
    draws = torch.arange(sides, device=device).repeat_interleave(height)
    key = stream_key(device_seed, "device", kind, str(photodiode))
    field = noise_field(key, rows.repeat(sides), draws, half).reshape(channels, 2, height, half)
    left = field[:, 0, :, : width // 2].flip(-1)
    return torch.cat([left, field[:, 1]], dim=-1).flatten()
