"""The converter on the CPU: noise, clamp and rounding in one pass over memory, by compiled loops.

Equal to `kernels.reference` in every random word, and in every float32 step. The loops are compiled on first use (a few
seconds for each dtype) and kept on disk. Never fork a process that has used them; worker processes are spawned.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from robustcheck.sensing import deviates
from robustcheck.sensing.deviates import Noise
from robustcheck.sensing.kernels import loops
from robustcheck.sensing.kernels.loops import set_threads as set_threads
from robustcheck.sensing.random import Key, check_draw, draws_of

_SERIAL: Final = 32_768  # elements below which starting threads costs more than it saves

# A value of the type that the loops see in memory; bfloat16 is its bits there.
_KINDS: Final[dict[torch.dtype, Any]] = {
    torch.float32: np.float32(0),
    torch.float64: np.float64(0),
    torch.bfloat16: np.uint16(0),
}


@lru_cache(maxsize=3)
def table(noise: Noise) -> NDArray[np.uint64]:
    """Intercept (lower half) and slope (upper half) of each cell."""
    return np.stack(deviates.quantile_table(noise), axis=1).view(np.uint64).ravel()


@lru_cache(maxsize=1)
def _spread() -> NDArray[np.uint64]:
    """Eight bytes of 0 or 1 for the eight bits of a byte, the lowest first."""
    return np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little").view(np.uint64).ravel()


def tasks(size: int) -> int:
    """Into how many parts a loop is cut; 1 runs it in this thread."""
    if size < _SERIAL:
        return 1
    threads = loops.threads()
    return 4 * threads if threads > 1 else 1


def checked_draws(draws: int | torch.Tensor, sample_ids: torch.Tensor) -> tuple[int, torch.Tensor | None]:
    """A draw as the loops take it: a number for all samples, or a tensor with one a sample, to be kept alive."""
    if isinstance(draws, int):
        check_draw(draws)
        return draws, None
    return 0, draws_of(draws, sample_ids).contiguous()


def address(tensor: torch.Tensor | None) -> int:
    """Where a tensor's memory lies; 0 for none."""
    return 0 if tensor is None else tensor.data_ptr()


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
    """What `kernels.reference.convert` does, for a contiguous CPU tensor."""
    if x.dtype == torch.float16:  # not known to numba
        out, packed = convert(
            x.float(), key, sample_ids, draws, noise_first=noise_first, noise=noise, sigma=sigma, steps=steps,
            low=low, scale=scale, first=first, keep_mask=keep_mask,
        )  # fmt: skip
        return x.copy_(out) if in_place else out.half(), packed
    samples, size = sample_ids.shape[0], x.numel()
    elements = size // samples if samples else 0
    out = x if in_place else torch.empty_like(x)
    packed = torch.empty((samples, (elements + 7) // 8), dtype=torch.uint8) if keep_mask else None
    sample_ids = sample_ids.to("cpu", torch.int64).contiguous()
    draw, rows = checked_draws(draws, sample_ids)
    if size:
        arguments = (
            _KINDS[x.dtype], x.data_ptr(), out.data_ptr(), address(packed),
            sample_ids.data_ptr(), address(rows), draw, samples, elements, *key, table(noise),
            first, noise_first, sigma, float(steps), low, scale,
        )  # fmt: skip
        blocks, parts = loops.block_count(samples, elements), tasks(size)
        if parts == 1:
            loops.convert_blocks(*arguments, 0, blocks)
        else:
            loops.convert_in_threads(*arguments, blocks, parts)
    return out, packed


def mask_gradient(gradient: torch.Tensor, packed: torch.Tensor, samples: int) -> torch.Tensor:
    """What `kernels.reference.mask_gradient` does, for contiguous CPU tensors."""
    if gradient.dtype == torch.float16:
        return mask_gradient(gradient.float(), packed, samples).half()
    out, size = torch.empty_like(gradient), gradient.numel()
    if size:
        elements = size // samples
        arguments = (
            _KINDS[gradient.dtype], gradient.data_ptr(), packed.data_ptr(), out.data_ptr(), samples, elements, _spread()
        )  # fmt: skip
        blocks, parts = loops.block_count(samples, elements), tasks(size)
        if parts == 1:
            loops.mask_blocks(*arguments, 0, blocks)
        else:
            loops.mask_in_threads(*arguments, blocks, parts)
    return out


def random_words(key: Key, sample_ids: torch.Tensor, draw: int, elements: int, *, first: int = 0) -> NDArray[np.uint32]:
    """The words of `robustcheck.sensing.random.random_words`, (n, elements) uint32, by the compiled generator."""
    check_draw(draw)
    out = np.empty((len(sample_ids), elements), dtype=np.uint32)
    for row, sample_id in zip(out, sample_ids.tolist(), strict=True):
        loops.words_of_row(row, np.uint64(sample_id), np.uint32(draw), np.uint32(key[0]), np.uint32(key[1]), first)
    return out
