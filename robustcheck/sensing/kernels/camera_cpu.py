"""A camera's capture on the CPU: the whole pixel in one pass over memory, by compiled loops.

Equal to `kernels.camera_reference` in every random word and every float32 step but torch's square roots. Compiled on
first use and kept on disk, as `kernels.cpu` is, whose tables and threads it shares.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from robustcheck.sensing.kernels import camera_loops, loops
from robustcheck.sensing.kernels.camera_reference import Output, Pixel
from robustcheck.sensing.kernels.cpu import address, checked_draws, table, tasks
from robustcheck.sensing.random import Key
from robustcheck.sensing.srgb import encode

_OUTPUTS: Final[dict[Output, int]] = {
    "codes": camera_loops.CODES,
    "linear": camera_loops.LINEAR,
    "srgb": camera_loops.SRGB,
}


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
    """What `kernels.camera_reference.sense` does, for a contiguous CPU tensor."""
    if x.dtype != torch.float32:  # compiled for one dtype alone: the others cost a copy, and not seconds at first use
        out, packed = sense(
            x.float(), pixel, shot, read, sample_ids, draws, response=response, dark=dark, rows_e=rows_e,
            output=output, keep_mask=keep_mask,
        )  # fmt: skip
        return out.to(x.dtype), packed
    samples, size, height, width = len(x), x.numel(), x.shape[2], x.shape[3]
    elements = size // samples if samples else 0
    out = torch.empty_like(x)
    packed = torch.empty((samples, (elements + 7) // 8), dtype=torch.uint8) if keep_mask else None
    sample_ids = sample_ids.to("cpu", torch.int64).contiguous()
    draw, rows = checked_draws(draws, sample_ids)
    read_noise_e = pixel.read_noise_e if pixel.noisy else 0.0
    if not pixel.noisy:
        response = dark = rows_e = None
    if size:
        arguments: tuple[Any, ...] = (
            x.data_ptr(), out.data_ptr(), address(packed), sample_ids.data_ptr(), address(rows), draw,
            samples, elements, height, width, address(response), address(dark), address(rows_e),
            *shot, *read, table("gaussian"), _shown(pixel), _OUTPUTS[output],
            pixel.white_e, pixel.dark_e, pixel.full_well_e, read_noise_e, pixel.joint, pixel.prnu, pixel.dsnu_e,
            pixel.gain_dn_per_e, pixel.black_dn, float(pixel.max_code), pixel.pedestal_dn, pixel.share_per_dn,
            pixel.noisy,
        )  # fmt: skip
        blocks, parts = loops.block_count(samples, elements), tasks(size)
        if parts == 1:
            camera_loops.sense_blocks(*arguments, 0, blocks)
        else:
            camera_loops.sense_in_threads(*arguments, blocks, parts)
    return out, packed


@lru_cache(maxsize=16)
def _shown(pixel: Pixel) -> NDArray[np.float32]:
    """The sRGB value of each code, and last that of no number."""
    codes = torch.arange(pixel.max_code + 1, dtype=torch.float32)
    values = encode((codes - pixel.pedestal_dn) * pixel.share_per_dn)
    return np.append(values.numpy(), np.float32(np.nan))
