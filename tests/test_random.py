"""The counter-based generator against published vectors, a plain implementation, and its own promises."""

import numpy as np
import pytest
import torch
from scipy import stats

from robustcheck.errors import InvalidValueError
from robustcheck.sensing.random import (
    derived_seed,
    permutation,
    philox,
    random_words,
    stream_key,
    torch_seed,
)

PI = ["243f6a88", "85a308d3", "13198a2e", "03707344", "a4093822", "299f31d0"]
# Random123 1.14, kat_vectors (D. E. Shaw Research, BSD-3-Clause): rounds, counter and key words, answer.
KNOWN_ANSWERS = [
    (7, ["00000000"] * 6, ["5f6fb709", "0d893f64", "4f121f81", "4f730a48"]),
    (7, ["ffffffff"] * 6, ["5207ddc2", "45165e59", "4d8ee751", "8c52f662"]),
    (7, PI, ["4dfccaba", "190a87f0", "c47362ba", "b6b5242a"]),
    (10, ["00000000"] * 6, ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]),
    (10, ["ffffffff"] * 6, ["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"]),
    (10, PI, ["d16cfe09", "94fdcceb", "5001e420", "24126ea1"]),
]


def plain_philox(counter, key, rounds=7):
    """Philox 4x32 as the paper writes it, in Python integers."""
    c, k = list(counter), list(key)
    for _ in range(rounds):
        high0, low0 = divmod(0xD2511F53 * c[0], 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c[2], 2**32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


@pytest.mark.parametrize(("rounds", "words", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(rounds, words, answer):
    numbers = [int(word, 16) for word in words]
    counter = tuple(torch.tensor([n]) for n in numbers[:4])
    found = philox(counter, (numbers[4], numbers[5]), rounds=rounds)
    assert [f"{int(word):08x}" for word in found] == answer


def test_words_are_counted_by_element_draw_and_sample_id():
    key = stream_key(11, "features.0", "input")
    ids = torch.tensor([3, 2**40 + 5, 2**63 - 1])
    words = random_words(key, ids, 2**32 - 1, 11)
    for row, sample in enumerate(ids.tolist()):
        for element in range(11):
            block = plain_philox((element // 4, 2**32 - 1, sample % 2**32, sample // 2**32), key)
            assert int(words[row, element]) == block[element % 4]


def test_words_depend_on_neither_batch_nor_order():
    key, ids = stream_key(0, "x"), torch.arange(50)
    words = random_words(key, ids, 4, 33)
    assert torch.equal(random_words(key, ids.flip(0), 4, 33).flip(0), words)
    assert torch.equal(random_words(key, ids[7:9], 4, 33), words[7:9])


def test_elements_beyond_two_to_the_31():
    key, first = stream_key(0, "x"), 2**33
    words = random_words(key, torch.tensor([1]), 0, 8, first=first)
    assert [int(w) for w in words[0, :4]] == plain_philox((first // 4, 0, 1, 0), key)


@pytest.mark.parametrize("other", [(1, "a", "b"), (0, "b", "a"), (0, "a"), (0, "ab"), (0, "a", "b", "")])
def test_streams_differ(other):
    assert stream_key(0, "a", "b") != stream_key(*other)
    assert derived_seed(0, "a", "b") != derived_seed(*other)


def test_words_of_neighbouring_streams_are_uniform_and_unrelated():
    ids = torch.arange(400)
    one, two = (random_words(stream_key(seed, "s"), ids, 0, 250).numpy().ravel() for seed in (0, 1))
    for words in (one, two):
        counts = np.bincount(words >> 24, minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-4
    assert abs(np.corrcoef(one, two)[0, 1]) < 5 / np.sqrt(len(one))
    assert abs(np.corrcoef(one[:-1], one[1:])[0, 1]) < 5 / np.sqrt(len(one))


def test_permutation_orders_a_subset_as_it_does_the_whole():
    key, ids = stream_key(0, "shuffle"), torch.arange(100)
    whole = permutation(key, ids, 3).tolist()
    part = permutation(key, ids[::2], 3).tolist()
    assert sorted(whole) == list(range(100))
    assert [i for i in whole if i % 2 == 0] == [2 * i for i in part]
    assert whole != permutation(key, ids, 4).tolist()


def test_torch_seed_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    with torch_seed(5):
        a = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    with torch_seed(5):
        assert torch.equal(torch.rand(3), a)


@pytest.mark.parametrize("draw", [-1, 2**32])
def test_a_draw_that_does_not_fit_is_refused(draw):
    with pytest.raises(InvalidValueError, match="draw: expected 0 <= draw"):
        random_words(stream_key(0), torch.tensor([0]), draw, 1)


def test_a_seed_out_of_range_is_refused():
    with pytest.raises(InvalidValueError, match="seed"):
        stream_key(-1)
