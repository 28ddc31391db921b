"""The loops of a camera's capture on the CPU, compiled by numba; the definition is `kernels.camera_reference`.

A block of elements goes from loop to loop in the first-level cache, and each loop is one that the compiler turns into
vector instructions: sRGB by square roots and polynomials, the Poisson number with its read noise by one expansion, the
converter. Only blocks with an element near the well, and all of them where the read noise is small, make both
apart: the Poisson number by an expansion of its own and, where the mean is low, term by term (those elements are
gathered first, so that dark pixels cost what they are and a bright block nothing). Every step is that of the reference,
in float32 and in the same order; but torch rounds some square roots the other way, so that one count in some ten
thousand is its neighbour. No loop writes an array that it also reads under another name: the compiler would give up.
"""

# mypy: disable-error-code="no-untyped-call, no-untyped-def"
from __future__ import annotations

from typing import Final

import numpy as np
from numba import carray, float32, int32, njit, prange, uint8, uint32, uint64

from robustcheck.sensing import poisson, srgb
from robustcheck.sensing.kernels.loops import (
    _LOW_WORD,
    BLOCK,
    _deviates,
    _jit,
    _pack,
    _philox_words,
    _place,
    _pointer,
)

CODES: Final = 0
LINEAR: Final = 1
SRGB: Final = 2

_OFFSET, _KNEE, _INVERSE_SLOPE = np.float32(srgb.OFFSET), np.float32(srgb.KNEE), np.float32(1 / srgb.SLOPE)
_INVERSE_RISE = np.float32(1 / (1 + srgb.OFFSET))
_D0, _D1, _D2, _D3, _D4, _D5, _D6 = map(np.float32, srgb.DECODING)
_X0, _X1, _X2, _X3, _X4, _X5, _X6 = map(np.float32, poisson.EXPONENTIAL)
_SWITCH, _CEILING = np.float32(poisson.SWITCH), np.float32(poisson.CEILING)
_FRACTION = np.float32(2.0**-poisson.SQUARINGS)
_INVERSE = np.array(poisson.INVERSE_FACTORIALS, np.float32)
_TAIL = np.float32(2.0**-32)
_THIRD, _SIXTH = np.float32(1 / 3), np.float32(1 / 6)
_ROOM = np.float32(poisson.ROOM**2)
_K1, _K3, _S1, _S3 = np.float32(1 / 8), np.float32(1 / 24), np.float32(5 / 36), np.float32(1 / 18)
_A1, _A3 = np.float32(-1 / 36), np.float32(1 / 72)
_B0, _B2, _B4 = np.float32(-8 / 405), np.float32(7 / 810), np.float32(1 / 270)


@_jit
def _means(x, count, white, response, prnu, dark_e, mean):
    """Mean electrons of light and dark current."""
    for j in range(count):
        value = x[j]
        value = float32(0) if value < float32(0) else value
        value = float32(1) if value > float32(1) else value
        base = (value + _OFFSET) * _INVERSE_RISE
        root = np.sqrt(np.sqrt(base))
        power = (((((_D0 * root + _D1) * root + _D2) * root + _D3) * root + _D4) * root + _D5) * root + _D6
        linear = value * _INVERSE_SLOPE if value <= _KNEE else (base * base) * power
        light = (linear * white) * (float32(1) + response[j] * prnu)
        light = float32(0) if light < float32(0) else light
        mean[j] = light + dark_e


@_jit
def _clear(rate, variance, well):
    """Whether a mean lies far enough below the well for `_sums`."""
    room = well - rate
    return room > float32(0) and room * room >= _ROOM * (rate + variance)


@_jit
def _sums(mean, deviate, count, variance, well, signal):
    """Poisson numbers with their read noise by one deviate each; returns how many are too near the well for that."""
    near = uint32(0)
    for j in range(count):
        near += uint32(not _clear(mean[j], variance, well))
    for j in range(count):
        rate, w = mean[j], deviate[j]
        root = np.sqrt(rate + variance)
        inverse = float32(1) / root
        share = (rate * inverse) * inverse
        square = w * w
        third = (square * _K3 - _K1) - share * (square * _S3 - _S1)
        signal[j] = rate + (root * w + share * ((square - float32(1)) * _SIXTH + (inverse * w) * third))
    return near


@_jit
def _expanded(mean, deviate, count, electrons):
    """Poisson numbers by their expansion; returns how many means lie below the switch."""
    few = int32(0)
    for j in range(count):
        w, rate = deviate[j], mean[j]
        few += int32(rate < _SWITCH)
        rate = _SWITCH if rate < _SWITCH else rate
        whole = np.floor(rate)
        root = np.sqrt(rate)
        inverse = float32(1) / root
        square = w * w
        fourth = _B0 + square * (_B2 + square * _B4)
        third = w * (_A1 - square * _A3)
        rest = (rate - whole) + (root * w + (_THIRD + square * _SIXTH + inverse * (third + inverse * fourth)))
        number = whole + np.floor(rest)
        electrons[j] = float32(0) if number < float32(0) else number
    return few


@_jit
def _summed(mean, words, count, low, place, rate, bound, power, total, number, electrons):
    """Poisson numbers of the means below the switch, term by term; ends where no term is missing any more."""
    found, eights = 0, low.view(np.uint64)
    for j in range(count):
        low[j] = mean[j] < _SWITCH
    for eight in range((count + 7) // 8):  # up to seven beyond the count may come along, whose numbers nobody reads
        if eights[eight]:
            for j in range(8 * eight, 8 * eight + 8):
                place[found] = uint32(j)
                found += low[j]
    for j in range(found):
        rate[j] = mean[place[j]]
        word = words[place[j]]
        tail = (float32(int32(word & uint32(0x7FFFFFFF))) + float32(0.5)) * _TAIL
        upper = float32(1) - tail
        upper = _CEILING if upper > _CEILING else upper
        bound[j] = tail if word >= uint32(0x80000000) else upper
    for j in range(found):
        y = rate[j] * _FRACTION
        e = (((((_X0 * y + _X1) * y + _X2) * y + _X3) * y + _X4) * y + _X5) * y + _X6
        for _ in range(poisson.SQUARINGS):
            e = e * e
        bound[j] = bound[j] * e
        power[j], total[j], number[j] = rate[j], float32(1), float32(0)
    for k in range(1, poisson.TERMS + 1, 4):
        f0, f1, f2, f3 = _INVERSE[k], _INVERSE[k + 1], _INVERSE[k + 2], _INVERSE[k + 3]
        missing = int32(0)
        for j in range(found):
            limit, x = bound[j], rate[j]
            p0, s0 = power[j], total[j]
            p1, s1 = p0 * x, s0 + p0 * f0
            p2, s2 = p1 * x, s1 + p1 * f1
            p3, s3 = p2 * x, s2 + p2 * f2
            p4, s4 = p3 * x, s3 + p3 * f3
            below = float32(limit > s0) + float32(limit > s1) + float32(limit > s2) + float32(limit > s3)
            power[j], total[j], number[j] = p4, s4, number[j] + below
            missing += int32(limit > s4)
        if missing == 0:
            break
    for j in range(found):
        electrons[place[j]] = number[j]


@_jit
def _row_noise(start, count, noise, height, width, line):
    """The noise of each element's row; `start` is the number of the first element within its sample."""
    at = 0
    while at < count:
        row = (start + at) // width
        end = min(count, (row + 1) * width - start)
        line[at:end] = noise[row % height]
        at = end


@_jit
def _held(electrons, count, well, deviate, read_noise, signal):
    """Electrons that the well holds, with read noise."""
    for j in range(count):
        held = well if electrons[j] > well else electrons[j]
        signal[j] = held + deviate[j] * read_noise


@_jit
def _held_near(mean, electrons, count, variance, well, deviate, read_noise, signal):
    """`_held` for the elements that `_sums` does not serve; those that it serves do not reach the well."""
    for j in range(count):
        clear = _clear(mean[j], variance, well)
        held = well if electrons[j] > well else electrons[j]
        signal[j] = signal[j] if clear else held + deviate[j] * read_noise


@_jit
def _codes(signal, count, dark, dsnu, line, gain, black, code):
    """Codes, not clipped yet."""
    for j in range(count):
        code[j] = np.rint((signal[j] + dark[j] * dsnu + line[j]) * gain + black)


@_jit
def _passed(x, electrons, code, count, well, top, pedestal, share, output, inside):
    """1 where nothing clipped, else 0."""
    for j in range(count):
        value, linear = x[j], (code[j] - pedestal) * share
        shown = output != SRGB or float32(0) <= linear <= float32(1)
        seen = float32(0) <= value <= float32(1)
        inside[j] = seen and electrons[j] <= well and float32(0) <= code[j] <= top and shown


@_jit
def _put(code, count, top, pedestal, share, output, shown, index, out):
    """Clipped codes, their linear values, or what is shown of them."""
    if output == SRGB:
        for j in range(count):
            converted = code[j] if code[j] > float32(0) else float32(0)
            converted = top if converted > top else converted
            index[j] = uint32(int32(converted if code[j] == code[j] else top + float32(1)))
        for j in range(count):
            out[j] = shown[index[j]]
        return
    for j in range(count):
        converted = float32(0) if code[j] < float32(0) else code[j]
        converted = top if converted > top else converted
        out[j] = converted if output == CODES else (converted - pedestal) * share


@_jit
def sense_blocks(
    x_at, out_at, packed_at, ids_at, draws_at, draw, rows, elements, height, width,
    response_at, dark_at, row_noise_at, s0, s1, r0, r1, table, shown, output,
    white, dark_e, well, read_noise, joint, prnu, dsnu, gain, black, top, pedestal, share, noisy, begin, end,
):  # fmt: skip
    """Blocks `begin` to `end` of all samples (rows of `elements`); tensors come as addresses, 0 for none."""
    x, out = carray(_pointer(x_at, float32(0)), rows * elements), carray(_pointer(out_at, float32(0)), rows * elements)
    ids, draws = carray(_pointer(ids_at, uint64(0)), rows), carray(_pointer(draws_at, uint64(0)), rows)
    row_bytes = (elements + 7) // 8
    packed = carray(_pointer(packed_at, uint8(0)), rows * row_bytes)
    response = carray(_pointer(response_at, float32(0)), elements)
    dark = carray(_pointer(dark_at, float32(0)), elements)
    row_noise = carray(_pointer(row_noise_at, float32(0)), rows * height)
    words, pairs = np.empty(BLOCK + 4, np.uint32), np.empty(BLOCK, np.uint64)
    deviate, mean, number = np.zeros(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    signal, code = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    line, none = np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.float32)
    place, found = np.empty(BLOCK + 1, np.uint32), np.empty(BLOCK, np.float32)
    rate, bound = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    power, total = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    inside, low = np.zeros(BLOCK + 8, np.uint8), np.zeros(BLOCK, np.uint8)
    variance = float32(read_noise) * float32(read_noise)
    for block in range(begin, end):
        first_row, together, start, count = _place(block, rows, elements)
        for part in range(together):
            row = first_row + part
            at, stop = row * elements + start, row * elements + start + count
            low_id, high_id = ids[row] & _LOW_WORD, ids[row] >> uint64(32)
            moment = draws[row] if draws_at else uint64(draw)
            device_response = response[start : start + count] if response_at else none
            device_dark = dark[start : start + count] if dark_at else none
            _means(x[at:stop], count, float32(white), device_response, float32(prnu), float32(dark_e), mean)
            electrons, near = mean, count
            if noisy:
                _philox_words(words, start // 4, (count + 3) // 4, moment, low_id, high_id, s0, s1)
                _deviates(words, count, table, pairs, deviate)
                if joint:
                    near = _sums(mean, deviate, count, variance, float32(well), signal)
                if near:
                    electrons = number
                    if _expanded(mean, deviate, count, electrons):
                        _summed(mean, words, count, low, place, rate, bound, power, total, found, electrons)
                    if read_noise > 0:
                        _philox_words(words, start // 4, (count + 3) // 4, moment, low_id, high_id, r0, r1)
                        _deviates(words, count, table, pairs, deviate)
            if near and joint:
                _held_near(mean, electrons, count, variance, float32(well), deviate, float32(read_noise), signal)
            elif near:
                _held(electrons, count, float32(well), deviate, float32(read_noise), signal)
            if row_noise_at:
                _row_noise(start, count, row_noise[row * height :], height, width, line)
            _codes(signal, count, device_dark, float32(dsnu), line, float32(gain), float32(black), code)
            if packed_at:
                _passed(
                    x[at:stop], electrons, code, count, float32(well), float32(top), float32(pedestal), float32(share),
                    output, inside[part * count :],
                )  # fmt: skip
            _put(code, count, float32(top), float32(pedestal), float32(share), output, shown, place, out[at:stop])
        if packed_at:
            _pack(inside, together, count, packed, first_row * row_bytes + start // 8)


@njit(cache=True, error_model="numpy", parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def sense_in_threads(
    x_at, out_at, packed_at, ids_at, draws_at, draw, rows, elements, height, width,
    response_at, dark_at, row_noise_at, s0, s1, r0, r1, table, shown, output,
    white, dark_e, well, read_noise, joint, prnu, dsnu, gain, black, top, pedestal, share, noisy, blocks, tasks,
):  # fmt: skip
    """`sense_blocks` over all blocks, cut into tasks that the threads share."""
    for task in prange(tasks):
        sense_blocks(
            x_at, out_at, packed_at, ids_at, draws_at, draw, rows, elements, height, width,
            response_at, dark_at, row_noise_at, s0, s1, r0, r1, table, shown, output,
            white, dark_e, well, read_noise, joint, prnu, dsnu, gain, black, top, pedestal, share, noisy,
            task * blocks // tasks, (task + 1) * blocks // tasks,
        )  # fmt: skip
