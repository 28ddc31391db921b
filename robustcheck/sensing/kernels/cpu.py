"""The converter as one numba loop over memory: random words, deviate, clamp and rounding in one pass.

Equal to `kernels.reference` in every random word, and in every float32 step. It is compiled on first use (a few
seconds) and kept on disk. Never fork a process that has used it; worker processes are spawned.
"""

# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import math

import numba
import numpy as np
import torch
from numba import float32, int32, njit, prange, uint32, uint64

from robustcheck.sensing import deviates
from robustcheck.sensing.deviates import Noise
from robustcheck.sensing.random import (
    MULTIPLIER_0,
    MULTIPLIER_1,
    ROUNDS,
    WEYL_0,
    WEYL_1,
    Key,
    check_draw,
)

_BLOCK = 256  # counters a block; four words each fill a buffer that stays in the first-level cache
_ITEMS_PER_TASK = 16

_SHIFT = np.uint32(deviates.SHIFT)
_FIRST_CELL = np.uint32(deviates.FIRST_CELL)


@njit(inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _philox(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    for _ in range(ROUNDS):
        p0 = uint64(c0) * uint64(MULTIPLIER_0)
        p1 = uint64(c2) * uint64(MULTIPLIER_1)
        n0 = uint32(p1 >> uint64(32)) ^ c1 ^ k0
        n2 = uint32(p0 >> uint64(32)) ^ c3 ^ k1
        c0, c1, c2, c3 = n0, uint32(p1), n2, uint32(p0)
        k0 = uint32(k0 + uint32(WEYL_0))
        k1 = uint32(k1 + uint32(WEYL_1))
    return c0, c1, c2, c3


@njit(parallel=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def _convert(x, out, mask, ids, draw, k0, k1, intercept, slope, noise_first, sigma, steps, low, scale):  # type: ignore[no-untyped-def]
    rows, elements = x.shape
    per_row = (elements + 4 * _BLOCK - 1) // (4 * _BLOCK)
    items = rows * per_row
    tasks = (items + _ITEMS_PER_TASK - 1) // _ITEMS_PER_TASK
    inverse = float32(1) / scale
    unit = float32(1) / steps * scale
    added = sigma * scale
    for task in prange(tasks):
        words = np.empty(4 * _BLOCK, np.uint32)
        position = np.empty(4 * _BLOCK, np.float32)
        deviate = np.zeros(4 * _BLOCK, np.float32)
        position_bits = position.view(np.uint32)
        deviate_bits = deviate.view(np.uint32)
        for item in range(task * _ITEMS_PER_TASK, min(items, (task + 1) * _ITEMS_PER_TASK)):
            row = item // per_row
            block = item % per_row
            start = block * 4 * _BLOCK
            count = min(4 * _BLOCK, elements - start)
            if sigma > 0:
                counters = (count + 3) // 4
                low_id = uint32(ids[row])
                high_id = uint32(ids[row] >> uint64(32))
                for j in range(counters):
                    w0, w1, w2, w3 = _philox(uint32(block * _BLOCK + j), draw, low_id, high_id, k0, k1)
                    words[4 * j] = w0
                    words[4 * j + 1] = w1
                    words[4 * j + 2] = w2
                    words[4 * j + 3] = w3
                for j in range(count):
                    position[j] = float32(int32(words[j] & uint32(0x7FFFFFFF))) + float32(0.5)
                for j in range(count):
                    cell = (position_bits[j] >> _SHIFT) - _FIRST_CELL
                    deviate[j] = intercept[cell] + slope[cell] * position[j]
                for j in range(count):
                    deviate_bits[j] ^= words[j] & uint32(0x80000000)
            if noise_first:
                for j in range(count):
                    value = x[row, start + j] * inverse + deviate[j] * sigma
                    clamped = low if value < low else value
                    clamped = float32(1) if clamped > float32(1) else clamped
                    mask[row, start + j] = clamped == value
                    code = np.ceil(abs(clamped * steps) - float32(0.5))
                    out[row, start + j] = (math.copysign(abs(code), clamped) + float32(0)) * unit
            else:
                for j in range(count):
                    value = x[row, start + j] * inverse
                    clamped = low if value < low else value
                    clamped = float32(1) if clamped > float32(1) else clamped
                    mask[row, start + j] = clamped == value
                    code = np.ceil(abs(clamped * steps) - float32(0.5))
                    out[row, start + j] = (math.copysign(abs(code), clamped) + float32(0)) * unit + deviate[j] * added


def set_threads(count: int) -> int:
    """How many threads the loop uses from now on, in this thread of the process; the number before."""
    before: int = numba.get_num_threads()
    numba.set_num_threads(count)
    return before


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
    """What `kernels.reference.convert` does, for a CPU tensor."""
    check_draw(draw)
    x = x.contiguous()
    out, mask = torch.empty_like(x), torch.empty_like(x, dtype=torch.bool)
    rows = (len(sample_ids), x.numel() // max(1, len(sample_ids)))
    intercept, slope = deviates.quantile_table(noise)
    _convert(
        x.numpy().reshape(rows),
        out.numpy().reshape(rows),
        mask.numpy().reshape(rows),
        sample_ids.contiguous().numpy().view(np.uint64),
        np.uint32(draw),
        np.uint32(key[0]),
        np.uint32(key[1]),
        intercept,
        slope,
        noise_first,
        np.float32(sigma),
        np.float32(steps),
        np.float32(low),
        np.float32(scale),
    )
    return out, mask
