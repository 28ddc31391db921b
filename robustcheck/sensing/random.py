"""Counter-based random numbers: an integer draw is a pure function of (seed, site, sample id, draw, element).

Philox 4x32 with 7 rounds (Salmon et al. 2011, doi 10.1145/2063384.2063405, which shows that 7 rounds pass BigCrush).
A 64-bit key names the stream; the 128-bit counter is (element // 4, draw, sample id low, sample id high), and the
element takes word `element % 4` of the block. So a number depends on no batch, order, worker or device.

All arithmetic on 32-bit words is done here in int64 tensors, which torch has on every device.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, SupportsIndex, TypeVar

import torch

from robustcheck.errors import InvalidValueError

ROUNDS: Final = 7
MULTIPLIER_0: Final = 0xD2511F53
MULTIPLIER_1: Final = 0xCD9E8D57
WEYL_0: Final = 0x9E3779B9
WEYL_1: Final = 0xBB67AE85
_MASK: Final = 0xFFFFFFFF

Function = TypeVar("Function", bound=Callable[..., Any])
Key = tuple[int, int]
Words = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def constant_in_graphs(function: Function) -> Function:
    """What `torch.compiler.assume_constant_result` does, which takes a second to import the compiler first."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def stream_key(seed: int, *names: str) -> Key:
    """The 64-bit key of a stream, as two 32-bit words: BLAKE2b of the seed and the names (site, purpose, …).

    Args:
        seed: any integer in [0, 2^63).
        names: what the stream is for; the order matters, and no two lists of names are read alike.

    >>> stream_key(0, "features.0", "weight") == stream_key(0, "features.0weight")
    False
    """
    key: Key = _constant_key(seed, *names)
    return key


@constant_in_graphs
def _constant_key(seed: int, *names: str) -> Key:
    """For `torch.compile`, which cannot look into a hash function."""
    return _stream_key(seed, *names)


@lru_cache(maxsize=65536)
def _stream_key(seed: int, *names: str) -> Key:
    if not 0 <= seed < 2**63:
        raise InvalidValueError("seed", expected="0 <= seed < 2^63", got=seed)
    text = "\x1f".join((str(seed), *names))
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=b"robustcheck").digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


def derived_seed(seed: int, *names: str) -> int:
    """A 63-bit seed for foreign code (initialisers, dropout, augmentation) that belongs to this stream."""
    low, high = stream_key(seed, *names)
    return (high << 32 | low) & (2**63 - 1)


def philox(counter: Words, key: Key, rounds: int = ROUNDS) -> Words:
    """Philox 4x32: four counter words to four random words.

    Args:
        counter: four int64 tensors that broadcast together, each word in [0, 2^32).
        key: two words in [0, 2^32).
        rounds: 7 here; 10 for the published known-answer vectors.

    Returns:
        Four int64 tensors with words in [0, 2^32).

    >>> zero = torch.zeros(1, dtype=torch.int64)
    >>> [f"{int(word):08x}" for word in philox((zero, zero, zero, zero), (0, 0), rounds=10)]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        # The product wraps modulo 2^64 in int64, which keeps every bit that the two halves need.
        p0, p1 = c0 * MULTIPLIER_0, c2 * MULTIPLIER_1
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _MASK) ^ c1 ^ k0,
            p1 & _MASK,
            ((p0 >> 32) & _MASK) ^ c3 ^ k1,
            p0 & _MASK,
        )
        k0, k1 = (k0 + WEYL_0) & _MASK, (k1 + WEYL_1) & _MASK
    return c0, c1, c2, c3


def random_words(
    key: Key, sample_ids: torch.Tensor, draw: int | torch.Tensor, elements: int, *, first: int = 0
) -> torch.Tensor:
    """One random 32-bit word an element of each sample.

    Args:
        key: the stream, from `stream_key`.
        sample_ids: (n,) int64, each in [0, 2^63).
        draw: number of the noisy evaluation or training step, in [0, 2^32); or (n,) int64, one a sample.
        elements: how many numbers a sample takes.
        first: index of the first element, a multiple of 4; elements go up to 2^34.

    Returns:
        (n, elements) int64, words in [0, 2^32).

    >>> ids = torch.tensor([5, 9])
    >>> both = random_words(stream_key(0, "demo"), ids, 3, 10)
    >>> bool((random_words(stream_key(0, "demo"), ids[1:], 3, 10) == both[1:]).all())
    True
    """
    blocks = torch.arange(first // 4, (first + elements + 3) // 4, dtype=torch.int64, device=sample_ids.device)
    ids = sample_ids.to(torch.int64).reshape(-1, 1)
    counter = (blocks.reshape(1, -1), draws_of(draw, ids).reshape(-1, 1), ids & _MASK, (ids >> 32) & _MASK)
    words = torch.stack(torch.broadcast_tensors(*philox(counter, key)), dim=-1)  # type: ignore[no-untyped-call]
    return words.reshape(len(ids), 4 * len(blocks))[:, :elements]


def draws_of(draw: int | torch.Tensor, sample_ids: torch.Tensor) -> torch.Tensor:
    """The draw of each sample, (n,) int64. InvalidValueError unless each fits its 32-bit counter word.

    >>> draws_of(3, torch.tensor([5, 9])).tolist()
    [3, 3]
    """
    if isinstance(draw, int):
        check_draw(draw)
        return torch.full((len(sample_ids),), draw, dtype=torch.int64, device=sample_ids.device)
    if draw.shape != (len(sample_ids),):
        raise InvalidValueError("draws", expected=f"one for each of {len(sample_ids)} samples", got=tuple(draw.shape))
    if len(draw):
        check_draw(int(draw.min()))
        check_draw(int(draw.max()))
    return draw.to(device=sample_ids.device, dtype=torch.int64)


def draw_number(draw: SupportsIndex | torch.Tensor) -> int | torch.Tensor:
    """A draw as the kernels take it: a Python number, or a tensor with one for each sample.

    >>> draw_number(torch.tensor(3))
    3
    """
    if isinstance(draw, torch.Tensor):
        return draw if draw.dim() else int(draw)
    try:
        return operator.index(draw)
    except TypeError as error:
        raise InvalidValueError("draw", expected="a whole number, or one a sample", got=draw) from error


def check_draw(draw: int) -> None:
    """Raise InvalidValueError unless the draw fits its 32-bit counter word."""
    if not 0 <= draw < 2**32:
        raise InvalidValueError("draw", expected="0 <= draw < 2^32", got=draw)


def permutation(key: Key, sample_ids: torch.Tensor, draw: int) -> torch.Tensor:
    """An order of the samples, (n,) int64 indices: each sample is placed by a 64-bit number of its own.

    The order of any subset is the same whatever the other samples are.

    >>> sorted(permutation(stream_key(0, "shuffle"), torch.arange(4), 0).tolist())
    [0, 1, 2, 3]
    """
    words = random_words(key, sample_ids, draw, 2)
    return torch.argsort((words[:, 0] >> 1) << 32 | words[:, 1], stable=True)


@contextmanager
def torch_seed(seed: int) -> Iterator[None]:
    """Fork torch's global generator, seed it, and restore it: for foreign code that knows no other way.

    >>> with torch_seed(1):
    ...     a = torch.rand(1)
    >>> with torch_seed(1):
    ...     bool(torch.rand(1) == a)
    True
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
