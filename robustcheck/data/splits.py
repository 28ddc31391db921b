"""Splits: which sample is for training, validation and testing, from the split seed and the sample ids alone."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from robustcheck.errors import InvalidValueError

FREE: Final = -1
TRAIN: Final = 0
VALIDATION: Final = 1
TEST: Final = 2
SPLIT_NAMES: Final = ("train", "validation", "test")

_SHARE: Final = 0.2

Ints = NDArray[np.int64]


def split_hash(sample_ids: Ints, split_seed: int) -> NDArray[np.uint64]:
    """A 64-bit hash of every (seed, sample id): shape (n,), equal only for equal ids.

    Two rounds of splitmix64's finaliser (Steele, Lea and Flood 2014, doi 10.1145/2660193.2660195).

    >>> [hex(h) for h in split_hash(np.array([0, 1]), 0).tolist()]
    ['0xa706dd2f4d197e6f', '0x8b4fda8c892b50e']
    """
    seed = np.array([split_seed], dtype=np.uint64)
    return _splitmix64(sample_ids.astype(np.uint64) ^ _splitmix64(seed))


def assign(labels: Ints, sample_ids: Ints, fixed: Ints, split_seed: int) -> Ints:
    """The split of every sample, (n,) of TRAIN, VALIDATION or TEST, stratified by class.

    `fixed` holds FREE where the source does not say. Without a fixed test part each class is split .6/.2/.2. With
    one, the validation part is .2 of the free samples, or the fixed validation part if there is one. A class gives at
    least one sample to each part while it has any. The order of the samples does not matter.

    >>> split = assign(np.zeros(10, np.int64), np.arange(10), np.full(10, FREE), split_seed=0)
    >>> np.bincount(split).tolist()
    [6, 2, 2]
    """
    split = fixed.copy()
    free = fixed == FREE
    rank, size = _rank(labels[free], split_hash(sample_ids[free], split_seed))
    share = np.maximum(1, np.rint(_SHARE * size)).astype(np.int64)
    parts = [part for part in (TEST, VALIDATION) if not (fixed == part).any()]
    split[free] = TRAIN
    for position, part in enumerate(parts):
        split[np.flatnonzero(free)[rank // share == position]] = part
    return split


def choose(labels: Ints, sample_ids: Ints, split: Ints, split_seed: int, max_samples: int | None) -> Ints:
    """The rows to keep so that at most `max_samples` remain over all splits, ordered by sample id.

    Every class of every split keeps its share, and at least one sample (Adams' apportionment: the k-th sample of a
    group of n comes at k/n). What a smaller number keeps, a larger one keeps too.

    Raises InvalidValueError if `max_samples` is smaller than the number of groups.

    >>> choose(np.array([0, 0, 1, 1]), np.arange(4), np.array([0, 0, 0, 0]), 0, 2).shape
    (2,)
    """
    rows = np.argsort(sample_ids)
    if max_samples is None or max_samples >= len(rows):
        return rows
    hashes = split_hash(sample_ids, split_seed)
    groups = labels * len(SPLIT_NAMES) + split
    count = len(np.unique(groups))
    if max_samples < count:
        expected = f"at least {count}, one for each class of each split"
        raise InvalidValueError("max samples", expected=expected, got=max_samples)
    rank, size = _rank(groups, hashes)
    turn = rank / size
    kept = np.lexsort((hashes, turn))[:max_samples]
    return kept[np.argsort(sample_ids[kept])]


def _rank(groups: Ints, hashes: NDArray[np.uint64]) -> tuple[Ints, Ints]:
    """Each row's place in its group by hash, from 0, and the size of its group: two arrays (n,)."""
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.lexsort((hashes, group))
    rank = np.empty(len(groups), dtype=np.int64)
    rank[order] = np.arange(len(groups)) - (np.cumsum(sizes) - sizes)[group[order]]
    return rank, sizes[group]


def _splitmix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
