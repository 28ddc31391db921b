"""The loops of the CPU kernel, compiled by numba: words, deviates, converter, mask.

A block of elements goes through four loops, each of which the compiler turns into vector instructions: Philox on 64-bit
lanes (a 32-bit product needs all of them), the position of a word in the table of quantiles, the table itself
(intercept and slope side by side, so that an element costs one load), and the arithmetic of the converter, which alone
touches the tensors. What lies between the loops stays in the first-level cache.

Tensors come as addresses: reading a NumPy array's header costs more than converting a small tensor.
"""

# mypy: disable-error-code="no-untyped-call, no-untyped-def"
from __future__ import annotations

import math
from typing import Any, Final

import numba
import numpy as np
from numba import carray, float32, float64, int32, njit, prange, types, uint8, uint16, uint32, uint64
from numba.extending import overload

from robustcheck.sensing import deviates
from robustcheck.sensing.random import MULTIPLIER_0, MULTIPLIER_1, ROUNDS, WEYL_0, WEYL_1

BLOCK: Final = 1024  # elements a block: 20 KiB of buffers, which leaves room for the cells of the table in use
_LOW_WORD = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)
_SHIFT = np.uint32(deviates.SHIFT)
_FIRST_CELL = np.uint32(deviates.FIRST_CELL)
_M0, _M1 = np.uint64(MULTIPLIER_0), np.uint64(MULTIPLIER_1)
_W0, _W1 = np.uint64(WEYL_0), np.uint64(WEYL_1)
_GATHER_BITS = np.uint64(0x0102040810204080)  # times eight bytes of 0 or 1: their bits, first lowest, in the top byte

_jit: Any = njit(cache=True, error_model="numpy", nogil=True)


@_jit
def _philox_words(words, first, count, draw, low_id, high_id, k0, k1):
    """Four words for each of `count` counters from block `first` on."""
    for j in range(count):
        c0 = uint64(first + j) & _LOW_WORD
        c1, c2, c3 = uint64(draw), uint64(low_id), uint64(high_id)
        a0, a1 = uint64(k0), uint64(k1)
        for _ in range(ROUNDS):
            # The upper halves of c1 and c3 are left dirty: the next product and the last cast ignore them.
            p0 = (c0 & _LOW_WORD) * _M0
            p1 = (c2 & _LOW_WORD) * _M1
            c0 = (p1 >> _WORD) ^ (c1 & _LOW_WORD) ^ a0
            c2 = (p0 >> _WORD) ^ (c3 & _LOW_WORD) ^ a1
            c1, c3 = p1, p0
            a0, a1 = (a0 + _W0) & _LOW_WORD, (a1 + _W1) & _LOW_WORD
        words[4 * j] = uint32(c0)
        words[4 * j + 1] = uint32(c1)
        words[4 * j + 2] = uint32(c2)
        words[4 * j + 3] = uint32(c3)


@_jit
def _deviates(words, count, table, pairs, deviate):
    """The noise of `count` words; `table` holds intercept and slope of a cell in one 64-bit number."""
    bits = deviate.view(np.uint32)
    for j in range(count):
        deviate[j] = float32(int32(words[j] & uint32(0x7FFFFFFF))) + float32(0.5)
    for j in range(count):
        pairs[j] = table[(bits[j] >> _SHIFT) - _FIRST_CELL]
    halves = pairs.view(np.float32)
    for j in range(count):
        deviate[j] = halves[2 * j] + halves[2 * j + 1] * deviate[j]
    for j in range(count):
        bits[j] ^= words[j] & uint32(0x80000000)


def _widen(value):  # pragma: no cover (numba takes the overload)
    raise NotImplementedError


def _narrow(value, like):  # pragma: no cover
    raise NotImplementedError


def _masked(value, passed):  # pragma: no cover
    raise NotImplementedError


@overload(_widen)
def _widen_for(value):
    if isinstance(value, types.Integer):
        return lambda value: _float_of_bits(uint32(value) << uint32(16))
    return lambda value: float32(value)


@overload(_narrow)
def _narrow_for(value, like):
    if isinstance(like, types.Integer):
        return lambda value, like: _bfloat16_bits(value)
    return lambda value, like: value


@overload(_masked)
def _masked_for(value, passed):
    if isinstance(value, types.Integer):
        return lambda value, passed: _bfloat16_bits(_widen(value) * float32(passed))
    if value == types.float64:
        return lambda value, passed: value * float64(passed)
    return lambda value, passed: value * float32(passed)


@numba.extending.intrinsic
def _float_of_bits(typingctx, bits):
    def build(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.uint32), build


@numba.extending.intrinsic
def _bits_of_float(typingctx, value):
    def build(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(types.uint32))

    return types.uint32(types.float32), build


@numba.extending.intrinsic
def _pointer(typingctx, address, like):
    """The address of a tensor's memory as a pointer to values of the type of `like`: cheaper than a NumPy array."""

    def build(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like)(types.intp, like), build


@_jit
def _bfloat16_bits(value):
    bits = _bits_of_float(value)
    rounded = (bits + uint32(0x7FFF) + ((bits >> uint32(16)) & uint32(1))) >> uint32(16)
    return uint16(rounded) if value == value else uint16(0x7FC0)


@_jit
def _finish(x, out, count, deviate, noise_first, sigma, added, steps, low, inverse, unit, inside):
    if noise_first:
        for j in range(count):
            value = _widen(x[j]) * inverse + deviate[j] * sigma
            clamped = low if value < low else value
            clamped = float32(1) if clamped > float32(1) else clamped
            inside[j] = clamped == value
            code = np.ceil(abs(clamped * steps) - float32(0.5))
            out[j] = _narrow((math.copysign(abs(code), clamped) + float32(0)) * unit, x[0])
    else:
        for j in range(count):
            value = _widen(x[j]) * inverse
            clamped = low if value < low else value
            clamped = float32(1) if clamped > float32(1) else clamped
            inside[j] = clamped == value
            code = np.ceil(abs(clamped * steps) - float32(0.5))
            quantised = (math.copysign(abs(code), clamped) + float32(0)) * unit
            out[j] = _narrow(quantised + deviate[j] * added, x[0])


@_jit
def _pack(inside, rows, count, packed, start):
    """Bits, lowest first, of `rows` rows of `count` bytes of 0 or 1; each row begins with a byte of its own."""
    if count % 8:
        for row in range(rows):
            for byte in range((count + 7) // 8):
                bits = uint8(0)
                for bit in range(min(8, count - 8 * byte)):
                    bits |= inside[row * count + 8 * byte + bit] << uint8(bit)
                packed[start] = bits
                start += 1
        return
    eights = inside[: rows * count].view(np.uint64)
    for j in range(rows * count // 8):
        packed[start + j] = uint8((eights[j] * _GATHER_BITS) >> uint64(56))


@_jit
def block_count(rows, elements):
    """How many blocks the rows are: several short rows make one, a long row makes several."""
    if elements <= BLOCK:
        together = BLOCK // max(1, elements)
        return (rows + together - 1) // together
    return rows * ((elements + BLOCK - 1) // BLOCK)


@_jit
def _place(block, rows, elements):
    """First row of a block, number of its rows, first element and number of elements within a row."""
    if elements <= BLOCK:
        together = BLOCK // elements
        row = block * together
        return row, min(together, rows - row), 0, elements
    per_row = (elements + BLOCK - 1) // BLOCK
    row = block // per_row
    start = (block - row * per_row) * BLOCK
    return row, 1, start, min(BLOCK, elements - start)


@_jit
def convert_blocks(
    kind, x_at, out_at, packed_at, ids_at, draws_at, draw, rows, elements, k0, k1, table,
    first, noise_first, sigma, steps, low, scale, begin, end,
):  # fmt: skip
    """Blocks `begin` to `end` of all rows; tensors come as addresses, 0 for none."""
    x, out = carray(_pointer(x_at, kind), rows * elements), carray(_pointer(out_at, kind), rows * elements)
    ids, draws = carray(_pointer(ids_at, uint64(0)), rows), carray(_pointer(draws_at, uint64(0)), rows)
    row_bytes = (elements + 7) // 8
    packed = carray(_pointer(packed_at, uint8(0)), rows * row_bytes)
    inverse = float32(1) / float32(scale)
    unit = float32(1) / float32(steps) * float32(scale)
    added = float32(sigma) * float32(scale)
    words = np.empty(BLOCK + 4, np.uint32)  # a row's last counter may make words that the next row writes over
    pairs = np.empty(BLOCK, np.uint64)
    deviate = np.zeros(BLOCK, np.float32)
    inside = np.zeros(BLOCK + 8, np.uint8)
    for block in range(begin, end):
        row, together, start, count = _place(block, rows, elements)
        if sigma > 0:
            counter = (first + start) // 4
            for part in range(together):
                low_id, high_id = ids[row + part] & _LOW_WORD, ids[row + part] >> _WORD
                number = draws[row + part] if draws_at else uint64(draw)
                _philox_words(words[part * count :], counter, (count + 3) // 4, number, low_id, high_id, k0, k1)
            _deviates(words, together * count, table, pairs, deviate)
        at, size = row * elements + start, together * count
        _finish(
            x[at : at + size], out[at : at + size], size, deviate, noise_first,
            float32(sigma), added, float32(steps), float32(low), inverse, unit, inside,
        )  # fmt: skip
        if packed_at:
            _pack(inside, together, count, packed, row * row_bytes + start // 8)


@njit(cache=True, error_model="numpy", parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def convert_in_threads(
    kind, x_at, out_at, packed_at, ids_at, draws_at, draw, rows, elements, k0, k1, table,
    first, noise_first, sigma, steps, low, scale, blocks, tasks,
):  # fmt: skip
    """`convert_blocks` over all blocks, cut into tasks that the threads share."""
    for task in prange(tasks):
        convert_blocks(
            kind, x_at, out_at, packed_at, ids_at, draws_at, draw, rows, elements, k0, k1, table,
            first, noise_first, sigma, steps, low, scale, task * blocks // tasks, (task + 1) * blocks // tasks,
        )  # fmt: skip


@_jit
def _mask(gradient, packed, out, count, eights, spread):
    for j in range((count + 7) // 8):
        eights[j] = spread[packed[j]]
    passed = eights.view(np.uint8)
    for j in range(count):
        out[j] = _masked(gradient[j], passed[j])


@_jit
def mask_blocks(kind, gradient_at, packed_at, out_at, rows, elements, spread, begin, end):
    """The gradient times the bits of the mask, blocks `begin` to `end` of all rows."""
    gradient = carray(_pointer(gradient_at, kind), rows * elements)
    out = carray(_pointer(out_at, kind), rows * elements)
    row_bytes = (elements + 7) // 8
    packed = carray(_pointer(packed_at, uint8(0)), rows * row_bytes)
    eights = np.empty(BLOCK // 8, np.uint64)
    for block in range(begin, end):
        row, together, start, count = _place(block, rows, elements)
        if count % 8 == 0:
            together, count = 1, together * count
        for part in range(row, row + together):
            at, byte = part * elements + start, part * row_bytes + start // 8
            _mask(gradient[at : at + count], packed[byte:], out[at : at + count], count, eights, spread)


@njit(cache=True, error_model="numpy", parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def mask_in_threads(kind, gradient_at, packed_at, out_at, rows, elements, spread, blocks, tasks):
    """`mask_blocks` over all blocks, cut into tasks that the threads share."""
    for task in prange(tasks):
        begin, end = task * blocks // tasks, (task + 1) * blocks // tasks
        mask_blocks(kind, gradient_at, packed_at, out_at, rows, elements, spread, begin, end)


@_jit
def words_of_row(out, id_, draw, k0, k1, first):
    """The random words of one sample's elements, from element `first` (a multiple of 4) on."""
    for start in range(0, out.size, BLOCK):
        count = min(BLOCK, out.size - start)
        words = np.empty(BLOCK, np.uint32)
        counter = (first + start) // 4
        _philox_words(words, counter, (count + 3) // 4, draw, id_ & _LOW_WORD, id_ >> _WORD, k0, k1)
        out[start : start + count] = words[:count]


def threads() -> int:
    """How many threads the loops use in this thread of the process."""
    count: int = numba.get_num_threads()
    return count


def set_threads(count: int) -> int:
    """How many threads the loops use from now on, in this thread of the process; the number before."""
    before = threads()
    numba.set_num_threads(count)
    return before
