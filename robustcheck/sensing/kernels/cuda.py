"""The converter on CUDA, by Triton: random words, deviate, clamp and rounding in one pass over memory.

Equal to `kernels.reference` in every random word and in every float32 step: products and sums are never fused, and
constants are rounded to float32 on the host, as there. It has not run on a GPU. What is tested is Triton's interpreter,
bit for bit against the reference, and that the kernels compile for an H100 (sm_90), to code that fuses nothing.

Bytes that an element of s bytes moves, counted on paper: s read and s written, forward and backward, and 1/8 for the
mask. In float32 that is 8 forward, 8.125 with the mask, and 8.125 backward. The chain of torch calls that does the same
(`randn`, product, sum, clamp, product, round, product) moves 56, and its clamp 12 backward. The table of quantiles,
32 KiB, stays in the first-level cache.

Instructions that an element takes, counted in sm_90's code: 38 in float32, 47 with the mask (43 and 46 in bfloat16; 49
to 65 where a sample's elements are no multiple of 16, so that a thread cannot read and write 16 bytes at once);
Philox is 7 of them, and would be 28 if each element made all four words of its counter for itself. An H100 moves
3.35e12 bytes a second and issues some 3e13 instructions: memory lets 4.1e11 elements pass in float32 and 8.1e11 in
bfloat16, the instructions 6.4e11. So float32 is bound by memory, on paper, and bfloat16 by its instructions, at four
fifths of what memory allows. What the scattered reads of the table cost is in neither figure.
"""

# mypy: disable-error-code="no-untyped-call, no-untyped-def, untyped-decorator"
from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import torch
import triton
import triton.language as tl

from robustcheck.errors import InvalidValueError
from robustcheck.sensing import deviates
from robustcheck.sensing.deviates import Noise
from robustcheck.sensing.random import MULTIPLIER_0, MULTIPLIER_1, ROUNDS, WEYL_0, WEYL_1, Key, check_draw, draws_of

BLOCK: Final = 1024  # elements a program: 8 a thread, which fit the 32 registers that leave every thread its place
OPTIONS: Final = {"num_warps": 4, "enable_fp_fusion": False}

_ROUNDS = tl.constexpr(ROUNDS)
_MULTIPLIER_0, _MULTIPLIER_1 = tl.constexpr(MULTIPLIER_0), tl.constexpr(MULTIPLIER_1)
_WEYL_0, _WEYL_1 = tl.constexpr(WEYL_0), tl.constexpr(WEYL_1)
_SHIFT = tl.constexpr(deviates.SHIFT)
_FIRST_CELL = tl.constexpr(deviates.FIRST_CELL)


@triton.jit
def _philox(c0, c1, c2, c3, k0, k1):
    # As 64-bit products, not as high and low halves: the compiler makes one instruction of each then.
    for _ in tl.static_range(_ROUNDS):
        p0, p1 = c0.to(tl.uint64) * _MULTIPLIER_0, c2.to(tl.uint64) * _MULTIPLIER_1
        c0, c1 = (p1 >> 32).to(tl.uint32) ^ c1 ^ k0, p1.to(tl.uint32)
        c2, c3 = (p0 >> 32).to(tl.uint32) ^ c3 ^ k1, p0.to(tl.uint32)
        k0 = tl.add(k0, _WEYL_0, sanitize_overflow=False)
        k1 = tl.add(k1, _WEYL_1, sanitize_overflow=False)
    return c0, c1, c2, c3


@triton.jit
def _deviates(counter, draw, sample, k0, k1, table, BLOCK: tl.constexpr):
    """(BLOCK / 8, 8) deviates of BLOCK / 4 counters: four words side by side, so that a thread has what it stores."""
    w0, w1, w2, w3 = _philox(counter, draw, sample.to(tl.uint32), (sample >> 32).to(tl.uint32), k0, k1)
    words = tl.reshape(tl.join(tl.join(w0, w2), tl.join(w1, w3)), [BLOCK // 8, 8])
    position = (words & 0x7FFFFFFF).to(tl.int32, bitcast=True).to(tl.float32) + 0.5
    pair = tl.load(table + ((position.to(tl.int32, bitcast=True) >> _SHIFT) - _FIRST_CELL))
    intercept = pair.to(tl.uint32).to(tl.float32, bitcast=True)
    slope = (pair >> 32).to(tl.uint32).to(tl.float32, bitcast=True)
    magnitude = intercept + slope * position
    return (magnitude.to(tl.uint32, bitcast=True) ^ (words & 0x80000000)).to(tl.float32, bitcast=True)


@triton.jit
def _place(elements, blocks, BLOCK: tl.constexpr):
    """Sample and first element of this program's block; its elements as (BLOCK / 8, 8); how many of them there are."""
    program = tl.program_id(0)
    row = program // blocks
    start = (program - row * blocks).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK // 8)[:, None] * 8 + tl.arange(0, 8)[None, :]
    return row.to(tl.int64), start, lane, tl.minimum(elements - start, BLOCK).to(tl.int32)


@triton.jit(do_not_specialize=["blocks", "first", "draw", "k0", "k1"])
def convert_kernel(
    x,
    out,
    packed,
    ids,
    draws,
    table,
    elements,
    row_bytes,
    blocks,
    first,
    draw,
    k0,
    k1,
    inverse,
    sigma,
    steps,
    low,
    unit,
    added,
    NOISE_FIRST: tl.constexpr,
    NOISY: tl.constexpr,
    DRAW_EACH: tl.constexpr,
    KEEP_MASK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One block of one sample. `first` is a counter; it, `draw`, `k0` and `k1` are unsigned words, passed as signed."""
    row, start, lane, count = _place(elements, blocks, BLOCK)
    inside = lane < count
    begin = row * elements + start
    value = tl.load(x + begin + lane, mask=inside, other=0.0).to(tl.float32) * inverse
    if NOISY:
        origin = tl.add((start // 4).to(tl.uint32), first.to(tl.uint32, bitcast=True), sanitize_overflow=False)
        counter = tl.add(tl.arange(0, BLOCK // 4).to(tl.uint32), origin, sanitize_overflow=False)
        number = tl.load(draws + row).to(tl.uint32) if DRAW_EACH else draw.to(tl.uint32, bitcast=True)
        key_0, key_1 = k0.to(tl.uint32, bitcast=True), k1.to(tl.uint32, bitcast=True)
        deviate = _deviates(counter, number, tl.load(ids + row), key_0, key_1, table, BLOCK)
    if NOISY and NOISE_FIRST:
        value = value + deviate * sigma
    clamped = tl.clamp(value, low, 1.0, propagate_nan=tl.PropagateNan.ALL)
    code = tl.abs(tl.ceil(tl.abs(clamped * steps) - 0.5))
    sign = clamped.to(tl.uint32, bitcast=True) & 0x80000000
    result = ((code.to(tl.uint32, bitcast=True) | sign).to(tl.float32, bitcast=True) + 0.0) * unit
    if NOISY and not NOISE_FIRST:
        result = result + deviate * added
    tl.store(out + begin + lane, result.to(out.dtype.element_ty), mask=inside)
    if KEEP_MASK:
        byte = tl.arange(0, BLOCK // 8)
        bits = tl.where((clamped == value) & inside, 1 << tl.arange(0, 8)[None, :], 0)
        at = packed + (row * row_bytes + start // 8) + byte
        tl.store(at, tl.sum(bits, axis=1).to(tl.uint8), mask=byte * 8 < count)


@triton.jit(do_not_specialize=["blocks"])
def mask_kernel(gradient, out, packed, elements, row_bytes, blocks, BLOCK: tl.constexpr):
    """The gradient of one block of one sample, times the bits of its mask."""
    row, start, lane, count = _place(elements, blocks, BLOCK)
    begin = row * elements + start
    byte = tl.arange(0, BLOCK // 8)
    bytes_ = tl.load(packed + (row * row_bytes + start // 8) + byte, mask=byte * 8 < count, other=0).to(tl.int32)
    bits = (bytes_[:, None] >> tl.arange(0, 8)[None, :]) & 1
    value = tl.load(gradient + begin + lane, mask=lane < count, other=0.0)
    wide: tl.constexpr = tl.float64 if gradient.dtype.element_ty == tl.float64 else tl.float32
    masked = value.to(wide) * bits.to(wide)
    tl.store(out + begin + lane, masked.to(out.dtype.element_ty), mask=lane < count)


@lru_cache(maxsize=12)
def _table(noise: Noise, device: torch.device) -> torch.Tensor:
    """Intercept (lower half) and slope (upper half) of each cell, (4097,) int64: one load a deviate."""
    pairs = np.stack(deviates.quantile_table(noise), axis=1).view(np.int64).ravel()
    return torch.from_numpy(pairs).to(device)


def _signed(word: int) -> int:
    # A word as int32: the compiled kernel's types do not depend on its size then.
    return (word & 0xFFFFFFFF ^ 0x80000000) - 0x80000000


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
    """What `kernels.reference.convert` does, for a contiguous CUDA tensor; there is no waiting for the device.

    Draws that lie on the device are taken as they are: to look whether they are in range would be to wait for it.

    Raises:
        InvalidValueError: a draw out of range, or not one draw a sample.
    """
    samples = len(sample_ids)
    if isinstance(draws, int):
        check_draw(draws)
    elif draws.device.type == "cpu":
        draws = draws_of(draws, sample_ids)
    elif draws.shape != (samples,):
        raise InvalidValueError("draws", expected=f"one for each of {samples} samples", got=tuple(draws.shape))
    out = x if in_place else torch.empty_like(x)
    elements = x.numel() // max(1, samples)
    row_bytes = -(-elements // 8)
    packed = torch.empty((samples, row_bytes), dtype=torch.uint8, device=x.device) if keep_mask else None
    if x.numel() == 0:
        return out, packed
    ids = sample_ids.to(x.device, torch.int64).contiguous()
    each = ids if isinstance(draws, int) else draws.to(x.device, torch.int64).contiguous()
    one, full, count = np.float32(1), np.float32(scale), np.float32(steps)
    blocks = -(-elements // BLOCK)
    with torch.cuda.device_of(x):
        convert_kernel[(samples * blocks,)](
            x,
            out,
            out if packed is None else packed,
            ids,
            each,
            _table(noise, x.device),
            elements,
            row_bytes,
            blocks,
            _signed(first // 4),
            _signed(draws) if isinstance(draws, int) else 0,
            _signed(key[0]),
            _signed(key[1]),
            float(one / full),
            float(np.float32(sigma)),
            float(count),
            float(low),
            float(one / count * full),
            float(np.float32(sigma) * full),
            NOISE_FIRST=noise_first,
            NOISY=sigma > 0,
            DRAW_EACH=not isinstance(draws, int),
            KEEP_MASK=keep_mask,
            BLOCK=BLOCK,
            **OPTIONS,
        )
    return out, packed


def mask_gradient(gradient: torch.Tensor, packed: torch.Tensor, samples: int) -> torch.Tensor:
    """What `kernels.reference.mask_gradient` does, for contiguous CUDA tensors."""
    out = torch.empty_like(gradient)
    if gradient.numel():
        elements = gradient.numel() // samples
        blocks = -(-elements // BLOCK)
        with torch.cuda.device_of(gradient):
            mask_kernel[(samples * blocks,)](
                gradient, out, packed, elements, packed.shape[1], blocks, BLOCK=BLOCK, **OPTIONS
            )
    return out
