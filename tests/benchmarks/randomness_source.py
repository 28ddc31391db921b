"""What the tests of randomness draw from: the product's keys, words and noise values, or those of another generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from robustcheck.sensing.converter import Converter
from robustcheck.sensing.deviates import Noise
from robustcheck.sensing.kernels import cpu
from robustcheck.sensing.random import Key, random_words, stream_key

ROWS: Final = 256
ELEMENTS: Final = 4096
BLOCK: Final = ROWS * ELEMENTS
IDS: Final = np.arange(ROWS, dtype=np.int64)

Words = NDArray[np.uint32]
Ids = NDArray[np.int64]


def product_words(key: Key, ids: Ids, draw: int, elements: int, first: int) -> Words:
    """Words of the compiled generator, (len(ids), elements) uint32; a slice is compared with the reference in torch.

    Raises:
        AssertionError: the two generators differ.
    """
    samples, few = torch.from_numpy(ids), min(elements, 9)
    words = cpu.random_words(key, samples, draw, elements, first=first)
    reference = random_words(key, samples[-2:], draw, few, first=first)
    assert np.array_equal(words[-2:, :few], reference.numpy()), "expected the words of the reference"
    return words


def product_deviates(noise: Noise, key: Key, ids: Ids, draw: int, elements: int) -> NDArray[np.float32]:
    """Noise values of unit scale as the converter adds them: to zeros, (len(ids), elements) float32."""
    convert = Converter("doa", steps=1, sigma=1.0, noise=noise, signed=True)
    return convert(torch.zeros(len(ids), elements), key, torch.from_numpy(ids), draw).numpy()


@dataclass(frozen=True)
class Source:
    """A generator under test.

    Attributes:
        key: (seed, *names) → key of a stream.
        words: (key, ids, draw, elements, first) → (len(ids), elements) uint32.
        deviates: (noise, key, ids, draw, elements) → (len(ids), elements) float32 of unit scale.
    """

    key: Callable[..., Key] = stream_key
    words: Callable[[Key, Ids, int, int, int], Words] = product_words
    deviates: Callable[[Noise, Key, Ids, int, int], NDArray[np.float32]] = product_deviates

    def blocks(self, key: Key, count: int) -> Iterator[Words]:
        """At least `count` words of one stream in blocks of 2^20: 256 samples of 4096 elements, a draw a block."""
        for draw in range(-(-count // BLOCK)):
            yield np.ascontiguousarray(self.words(key, IDS, draw, ELEMENTS, 0)).reshape(-1)


PRODUCT: Final = Source()
