"""Tests of the random words: within a stream, between streams that are neighbours, and under a change of one bit.

Serial, gap and collision tests are Knuth's (The Art of Computer Programming, volume 2, section 3.3.2); birthday
spacings are Marsaglia's, with the law of L'Ecuyer and Simard (2001, doi 10.1016/S0378-4754(00)00253-6); Hamming weights
of neighbours are a test of TestU01 (L'Ecuyer and Simard 2007, doi 10.1145/1268776.1268777).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from randomness_checks import (
    Finding,
    chi_square,
    coins,
    halves_of,
    ones_of,
    paired,
    rare,
    shares,
    weights,
)
from randomness_source import ELEMENTS, IDS, ROWS, Source, Words
from scipy import stats

from robustcheck.sensing.random import Key

SITE = ("test", "features.0", "input")
_GAP_BITS = 4
_LONGEST_GAP = 200
_Stream = Callable[[int], Words]


def frequencies(source: Source, count: int) -> list[Finding]:
    """Each bit is 1 half of the time; all bytes, and all halves of a word, are equally frequent."""
    halves = np.zeros((2, 2**16), dtype=np.int64)
    for words in source.blocks(source.key(0, *SITE), count):
        halves += halves_of(words)
    total = int(halves[0].sum())
    squares = halves.reshape(2, 256, 256)
    octets = np.concatenate([table for half in squares for table in ([half.sum(axis=0)], [half.sum(axis=1)])])
    by_octet = float(((octets - total / 256) ** 2 / (total / 256)).sum())
    return [
        coins("each of the 32 bits", total, ones_of(halves), total),
        chi_square("values of the four bytes", total, by_octet, 4 * 255),
        shares("values of the low 16 bits", total, halves[0]),
        shares("values of the high 16 bits", total, halves[1]),
    ]


def serial_pairs(source: Source, count: int) -> list[Finding]:
    """A word and the next: all pairs of their top bits, and of their low bits, are equally frequent.

    The pairs are disjoint: word 0 with 1, 1 with 2, 2 with 3 of a counter's block, and 3 with 0 of the next counter's.
    """
    bits = int(np.clip(np.log2(count / 64) // 2, 1, 8))
    shift, mask = np.uint32(32 - bits), np.uint32(2**bits - 1)
    tables = np.zeros((4, 2, 4**bits), dtype=np.int64)
    for words in source.blocks(source.key(0, *SITE), count):
        for lane in range(4):
            one, two = words[lane:-1:4], words[lane + 1 :: 4]
            for end, value in enumerate(
                [(one >> shift) << np.uint32(bits) | two >> shift, (one & mask) << np.uint32(bits) | two & mask]
            ):
                tables[lane, end] += np.bincount(value, minlength=4**bits)
    names = [f"word {lane} with {lane + 1}" for lane in range(3)] + ["word 3 with 0 of the next counter"]
    return [
        shares(f"{name}: {end} {bits} bits of both", 2 * int(table.sum()), table)
        for name, both in zip(names, tables, strict=True)
        for end, table in zip(("top", "low"), both, strict=True)
    ]


def turns(source: Source, count: int) -> list[Finding]:
    """Each bit differs from that of the word before half of the time: the number of runs."""
    halves = np.zeros((2, 2**16), dtype=np.int64)
    for words in source.blocks(source.key(0, *SITE), count):
        halves += halves_of(words[1:] ^ words[:-1])
    total = int(halves[0].sum())
    return [coins("runs of each of the 32 bits", total, ones_of(halves), total)]


def gaps(source: Source, count: int) -> list[Finding]:
    """How many words pass until the top four bits are 0 again is geometric with probability 1/16."""
    counts = np.zeros(_LONGEST_GAP + 1, dtype=np.int64)
    last, seen = -1, 0
    for words in source.blocks(source.key(0, *SITE), count):
        places = np.flatnonzero(words >> np.uint32(32 - _GAP_BITS) == 0) + seen
        lengths = np.diff(places, prepend=last) - 1
        counts += np.bincount(np.minimum(lengths, _LONGEST_GAP), minlength=_LONGEST_GAP + 1)
        last, seen = int(places[-1]) if places.size else last, seen + words.size
    law = stats.geom(2.0**-_GAP_BITS, loc=-1)
    probabilities = np.append(law.pmf(np.arange(_LONGEST_GAP)), law.sf(_LONGEST_GAP - 1))
    return [shares("gaps between words whose top 4 bits are 0", seen, counts, probabilities)]


def birthday_spacings(source: Source, count: int) -> list[Finding]:
    """Equal spacings between m sorted numbers of 3 log₂ m − 5 bits: Poisson with mean 8.

    Each number is two words, cut to that many bits; m is a power of two, up to 2^23, where all 64 bits are used.
    """
    exponent = int(min(23, np.log2(count / 12)))
    births, bits = 2**exponent, 3 * exponent - 5
    year = np.empty(births, dtype=np.uint64)
    filled = equal = repeats = 0
    for words in source.blocks(source.key(0, *SITE), count):
        numbers = words.view(np.uint64) >> np.uint64(64 - bits)
        for start in range(0, numbers.size, births):
            part = numbers[start : start + births]
            year[filled : filled + part.size] = part
            filled += part.size
            if filled == births:
                spacings = np.sort(np.diff(np.sort(year)))
                equal += int(np.count_nonzero(spacings[1:] == spacings[:-1]))
                repeats, filled = repeats + 1, 0
    law = stats.poisson(8 * repeats)
    name = f"birthday spacings, {repeats} × 2^{exponent} numbers of {bits} bits"
    return [rare(name, 2 * births * repeats, equal, law, 8 * repeats)]


def collisions(source: Source, count: int) -> list[Finding]:
    """How many of m words occurred before among those m: by Poisson's law, with Knuth's exact mean."""
    exponent = int(min(20, np.log2(count)))
    balls, seen, found = 2**exponent, 0, 0
    for words in source.blocks(source.key(0, *SITE), count):
        for part in words.reshape(-1, balls):
            ordered = np.sort(part)
            found += int(np.count_nonzero(ordered[1:] == ordered[:-1]))
            seen += balls
    # m − n (1 − (1 − 1/n)^m) for n = 2^32 values
    mean = (balls + 2.0**32 * np.expm1(balls * np.log1p(-(2.0**-32)))) * (seen // balls)
    return [rare(f"collisions among 2^{exponent} words", seen, found, stats.poisson(mean), mean)]


def hamming_weights(source: Source, count: int) -> list[Finding]:
    """The ones in the 128 bits of a counter's block are binomial, and independent of the next counter's."""
    single, joint = np.zeros(129, dtype=np.int64), np.zeros(129 * 129, dtype=np.int64)
    for words in source.blocks(source.key(0, *SITE), count):
        ones = weights(words).reshape(-1, 4).sum(axis=1, dtype=np.int64)
        single += np.bincount(ones, minlength=129)
        joint += np.bincount(ones[0::2] * 129 + ones[1::2], minlength=129**2)
    law = stats.binom(128, 0.5).pmf(np.arange(129))
    total = 4 * int(single.sum())
    return [
        shares("ones in a counter's 128 bits", total, single, law),
        shares("ones in two neighbouring counters' bits", total, joint, np.outer(law, law).reshape(-1)),
    ]


def neighbours(source: Source, count: int) -> list[Finding]:
    """Streams and counters that differ by as little as can be are independent, place by place."""
    elements = min(ELEMENTS, count // ROWS // 8 * 8)
    rounds = range(-(-count // (ROWS * elements)) if elements == ELEMENTS else 1)
    found = []
    for name, (one, two) in _neighbouring(source, elements).items():
        found += paired(
            name, *(np.concatenate([words(number).reshape(-1) for number in rounds]) for words in (one, two))
        )
    return found


def _neighbouring(source: Source, elements: int) -> dict[str, tuple[_Stream, _Stream]]:
    """Pairs of functions that give the (rows, elements) words of a round; the two of a pair share no counter."""
    here = source.key(0, *SITE)

    def at(key: Key, *, shift: int = 0, step: int = 1, first: int = 0, draw: int = 0, draws: int = 1) -> _Stream:
        return lambda number: source.words(key, IDS * step + shift, number * draws + draw, elements, first)

    def stream(seed: int, *names: str) -> _Stream:
        return at(source.key(seed, *names))

    def counters(odd: int) -> _Stream:
        return lambda number: source.words(here, IDS, number, 2 * elements, 0).reshape(ROWS, -1, 2, 4)[:, :, odd]

    def seeds(odd: int) -> _Stream:
        keys = [source.key(2 * seed + odd, *SITE) for seed in range(ROWS)]
        return lambda number: np.concatenate([source.words(key, IDS[:1], number, elements, 0) for key in keys])

    return {
        "element counters c and c + 1": (counters(0), counters(1)),
        "element counters c and c + 2^31": (at(here), at(here, first=2**33)),
        "draws d and d + 1": (at(here, draws=2), at(here, draws=2, draw=1)),
        "sample ids i and i + 1": (at(here, step=2), at(here, step=2, shift=1)),
        "sample ids i and i + 2^32": (at(here), at(here, shift=2**32)),
        "sample i, draw d + 1 and i + 1, d": (at(here, draws=2, draw=1), at(here, draws=2, shift=1)),
        "seeds 0 and 1": (at(here), stream(1, *SITE)),
        "512 seeds, 2s and 2s + 1": (seeds(0), seeds(1)),
        "sites features.0 and features.1": (at(here), stream(0, "test", "features.1", "input")),
        "input and output of a layer": (at(here), stream(0, "test", "features.0", "output")),
        "weight and bias of a layer": (
            stream(0, "test", "features.0", "weight"),
            stream(0, "test", "features.0", "bias"),
        ),
        "streams train and test": (stream(0, "train", "features.0", "input"), at(here)),
    }


def avalanche(source: Source, count: int) -> list[Finding]:
    """One bit of counter or key changed: each of the 128 bits changes half of the time, independently.

    The sample ids, 63 random bits each, come from NumPy's generator; element, draw and key are those of eight bunches.
    """
    bunch = max(128, count // 2**16)
    random = np.random.default_rng(20240229)
    words = ("element", "draw", "sample id, low", "sample id, high", "key, low", "key, high")
    changed = {word: np.zeros((32, 128), dtype=np.int64) for word in words}
    weighed = {word: np.zeros(129, dtype=np.int64) for word in words}
    for number in range(8):
        ids = random.integers(0, 2**63, bunch)
        start = [number * 1021, number, 0, 0, *source.key(number, *SITE)]
        base = _block(source, ids, start)
        for word, name in enumerate(words):
            for bit in range(31 if name == "sample id, high" else 32):
                flipped = list(start)
                flipped[word] ^= 1 << bit
                difference = base ^ _block(source, ids, flipped)
                octets = difference.view(np.uint8).reshape(bunch, 16)
                changed[name][bit] += np.unpackbits(octets, axis=1, bitorder="little").sum(axis=0, dtype=np.int64)
                weighed[name] += np.bincount(weights(difference).sum(axis=1, dtype=np.int64), minlength=129)
    law = stats.binom(128, 0.5).pmf(np.arange(129))
    found = []
    for name in words:
        bits = 31 if name == "sample id, high" else 32
        taken = 8 * bunch * bits * 4
        found.append(coins(f"{name}: each bit in, each bit out", taken, changed[name][:bits], 8 * bunch))
        found.append(shares(f"{name}: bits that change together", taken, weighed[name], law))
    return found


def _block(source: Source, ids: NDArray[np.int64], at: list[int]) -> Words:
    """The four words of the counter (element // 4, draw, sample id) under a key, for ids with bits flipped."""
    element, draw, low, high, *key = at
    flips = np.int64(low | high << 32)
    return np.ascontiguousarray(source.words((key[0], key[1]), ids ^ flips, draw, 4, 4 * element))


WORD_TESTS = (frequencies, serial_pairs, turns, gaps, birthday_spacings, collisions, hamming_weights)
