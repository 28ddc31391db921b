"""The tests of randomness: the generator passes them, broken ones do not, and their statistics are what they say."""

from functools import partial

import numpy as np
import pytest
import randomness
import randomness_deviates
import randomness_map
import randomness_words
import torch
from randomness_checks import halves_of, ones_of, paired, rare, shares, weights
from randomness_source import PRODUCT, Source
from scipy import integrate, special, stats

from robustcheck.sensing.deviates import FIRST_CELL, NOISES, SHIFT, deviates, quantile_table
from robustcheck.sensing.random import philox, random_words, stream_key

DRAWS = 2**20
# A hundred tests or so: a good generator has one p-value below this in a run of a hundred.
PASSES = 1e-4
FAILS = 1e-9


def philox_words(key, ids, draw, elements, first, *, rounds=7, counter=lambda *words: words):
    """Words of Philox, uint32 as the battery wants them, with a chosen number of rounds or a counter tampered with."""
    blocks = torch.arange(first // 4, (first + elements + 3) // 4)[None]
    ids = torch.from_numpy(np.asarray(ids))[:, None]
    at = counter(blocks, torch.full_like(ids, draw), ids & 0xFFFFFFFF, (ids >> 32) & 0xFFFFFFFF)
    words = torch.stack(torch.broadcast_tensors(*philox(at, key, rounds)), dim=-1)
    return words.reshape(len(ids), -1)[:, :elements].numpy().astype(np.uint32)


def changed(change):
    """A source whose words are the product's, changed by a function of (n, elements) uint32."""
    return Source(words=lambda *where: change(PRODUCT.words(*where).copy()))


def counting(counter):
    return Source(words=partial(philox_words, counter=counter))


def mapped(to_values):
    """A source whose noise values come from the product's words (n, elements) int64 by another map."""

    def values(noise, key, ids, draw, elements):
        words = random_words(key, torch.from_numpy(ids), draw, elements)
        return to_values(words, noise).numpy().astype(np.float32)

    return Source(deviates=values)


@pytest.fixture(scope="module")
def parts():
    return randomness.battery(PRODUCT, DRAWS)


def test_the_generator_passes_every_test(parts):
    findings = [finding for part in parts.values() for finding in part]
    assert len(findings) > 100
    assert {finding.test: finding.p for finding in findings if not finding.p > PASSES} == {}
    assert sum(finding.p < 0.01 for finding in findings) <= 5


def test_numpys_generator_passes_too():
    random = np.random.default_rng(3)
    samplers = {"gaussian": random.standard_normal, "uniform": partial(random.uniform, -1, 1)}
    other = Source(
        words=lambda key, ids, draw, elements, first: random.integers(0, 2**32, (len(ids), elements), dtype=np.uint32),
        deviates=lambda noise, key, ids, draw, elements: samplers.get(noise, partial(random.laplace, 0, 1))(
            size=(len(ids), elements)
        ).astype(np.float32),
    )
    findings = [finding for part in randomness.battery(other, DRAWS).values() for finding in part]
    assert min(finding.p for finding in findings) > PASSES


def test_a_test_gives_the_same_p_value_again(parts):
    again = randomness_words.gaps(PRODUCT, DRAWS)
    assert again[0] in parts["Words of one stream"]


def biased(words):
    return words | (words >> np.uint32(5) & words >> np.uint32(9) & words >> np.uint32(13) & np.uint32(1) << 6)


def even_blocks_repeat(words):
    """Every second counter's block has the words of the one before in another order: as many ones, other pairs."""
    blocks = words.reshape(len(words), -1, 2, 4)
    blocks[:, :, 1] = np.roll(blocks[:, :, 0], 2, axis=-1)
    return words


def top_bits_take_turns(words):
    turn = np.arange(words.shape[1], dtype=np.uint32) % 16 << np.uint32(28)
    return words & np.uint32(0x0FFFFFFF) | turn


def low_bit_alternates(words):
    return words & ~np.uint32(1) | np.arange(words.shape[1], dtype=np.uint32) % 2


def next_takes_two_bits(words):
    words[:, 1::4] = words[:, 1::4] & np.uint32(0x3FFFFFFF) | words[:, 0::4] & np.uint32(0xC0000000)
    return words


def few_values(words):
    return words & ~np.uint32(0x100) | (words >> np.uint32(1)) & np.uint32(0x100)


def weyl(key, ids, draw, elements, first):
    """Multiples of an odd constant: more even than random numbers are."""
    at = (np.int64(draw) * len(ids) + np.arange(len(ids)))[:, None] * elements + np.arange(elements)
    return (at * 0x9E3779B1).astype(np.uint32)


BROKEN_WORDS = {
    "a bit that is 1 too often": (randomness_words.frequencies, changed(biased)),
    "numbers that are too even": (randomness_words.frequencies, Source(words=weyl)),
    "words that share two bits": (randomness_words.serial_pairs, changed(next_takes_two_bits)),
    "a bit that alternates": (randomness_words.turns, changed(low_bit_alternates)),
    "leading bits that take turns": (randomness_words.gaps, changed(top_bits_take_turns)),
    "an arithmetic sequence": (randomness_words.birthday_spacings, Source(words=weyl)),
    "a bit that another repeats": (randomness_words.collisions, changed(few_values)),
    "an element counter that wraps after 64 blocks": (
        randomness_words.birthday_spacings,
        counting(lambda block, draw, low, high: (block % 64, draw, low, high)),
    ),
    "counters that share their words": (randomness_words.hamming_weights, changed(even_blocks_repeat)),
    "one round": (randomness_words.hamming_weights, Source(words=partial(philox_words, rounds=1))),
    "two rounds, one bit changed": (randomness_words.avalanche, Source(words=partial(philox_words, rounds=2))),
    "three rounds, one bit changed": (randomness_words.avalanche, Source(words=partial(philox_words, rounds=3))),
}


@pytest.mark.parametrize("name", BROKEN_WORDS)
def test_a_broken_generator_of_words_fails(name):
    test, source = BROKEN_WORDS[name]
    assert min(finding.p for finding in test(source, DRAWS)) < FAILS


# What is broken, and the pairs of streams that must show it; all others must not.
BROKEN_STREAMS = {
    "element counters counted in twos": (
        counting(lambda block, draw, low, high: (block // 2, draw, low, high)),
        {"element counters c and c + 1"},
    ),
    "a counter of 31 bits": (
        counting(lambda block, draw, low, high: (block % 2**31, draw, low, high)),
        {"element counters c and c + 2^31"},
    ),
    "draws counted in twos": (
        counting(lambda block, draw, low, high: (block, draw // 2, low, high)),
        {"draws d and d + 1"},
    ),
    "sample ids counted in twos": (
        counting(lambda block, draw, low, high: (block, draw, low // 2, high)),
        {"sample ids i and i + 1"},
    ),
    "sample ids of 32 bits": (
        counting(lambda block, draw, low, high: (block, draw, low, 0 * high)),
        {"sample ids i and i + 2^32"},
    ),
    "draw and sample id added": (
        counting(lambda block, draw, low, high: (block, 0 * draw, low + draw, high)),
        {"sample i, draw d + 1 and i + 1, d"},
    ),
    "seeds without a part in the key": (
        Source(key=lambda seed, *names: stream_key(0, *names)),
        {"seeds 0 and 1", "512 seeds, 2s and 2s + 1"},
    ),
    "sites without a number": (
        Source(key=lambda seed, *names: stream_key(seed, *(name.split(".")[0] for name in names))),
        {"sites features.0 and features.1"},
    ),
    "ports that share a key": (
        Source(key=lambda seed, *names: stream_key(seed, *names[:-1])),
        {"input and output of a layer", "weight and bias of a layer"},
    ),
    "streams that share a key": (
        Source(key=lambda seed, *names: stream_key(seed, *names[1:])),
        {"streams train and test"},
    ),
}
REPEATING = {"element counters counted in twos", "sample ids counted in twos"}


@pytest.mark.parametrize("name", BROKEN_STREAMS)
def test_streams_that_are_not_independent_fail_and_no_others(name):
    source, expected = BROKEN_STREAMS[name]
    findings = randomness_words.neighbours(source, DRAWS // 20)
    failed = {finding.test.split(": ")[0] for finding in findings if finding.p < PASSES}
    # Where the words of one stream repeat, so do the pairs that they make with those of any other.
    assert failed >= expected if name in REPEATING else failed == expected


def test_every_pair_of_streams_has_a_break_that_it_finds(parts):
    pairs = {finding.test.split(": ")[0] for finding in parts["Neighbouring counters and streams"]}
    assert set.union(*(expected for _, expected in BROKEN_STREAMS.values())) == pairs


@pytest.mark.parametrize("word", range(6))
def test_a_bit_of_counter_or_key_that_does_nothing_fails(word):
    def words(key, ids, draw, elements, first):
        at = [first // 4, draw, np.asarray(ids) & 0xFFFFFFFF, np.asarray(ids) >> 32, *key]
        at[word] = at[word] | 0x10
        return PRODUCT.words((int(at[4]), int(at[5])), at[2] | at[3] << 32, at[1], elements, 4 * at[0])

    failed = {f.test.split(":")[0] for f in randomness_words.avalanche(Source(words=words), DRAWS) if f.p < FAILS}
    assert failed == {["element", "draw", "sample id, low", "sample id, high", "key, low", "key, high"][word]}


def octave_dropped(words, noise):
    """The map where the octave of the magnitudes just below 2^28 is read from the cells of the next."""
    inner = (words & 0x7FFFFFFF) >> 27 == 1
    return torch.where(inner, deviates(words + (words & 0x7FFFFFFF), noise), deviates(words, noise))


def sign_reused(words, noise):
    """The sign is the leading bit of the magnitude's position, which is used twice."""
    return deviates(words & 0x7FFFFFFF | (words << 1) & 0x80000000, noise)


def neighbours_share_magnitude(words, noise):
    shared = words.clone()
    shared[:, 1::8] = words[:, 1::8] & 0x80000000 | words[:, 0::8] & 0x7FFFFFFF
    return deviates(shared, noise)


def neighbours_lean(words, noise):
    values = deviates(words, noise)
    values[:, 1:] = 0.9999 * values[:, 1:] + 0.014 * values[:, :-1]
    return values


BROKEN_VALUES = {
    "mean": lambda words, noise: deviates(words, noise) + 0.01,
    "variance": lambda words, noise: deviates(words, noise) * 1.01,
    "skewness": lambda words, noise: torch.where(words % 8 == 0, deviates(words, noise).abs() + 1, 0.0) * 3,
    "kurtosis": lambda words, noise: deviates(words, noise).clamp(-2.5, 2.5),
    "values 1 to 4 places apart": neighbours_lean,
    "their squares": neighbours_share_magnitude,
    "Kolmogorov–Smirnov": octave_dropped,
    "16384 equiprobable cells": octave_dropped,
    "magnitudes as rare as beyond 3 σ": lambda words, noise: deviates(words, noise) * 1.05,
    "magnitudes as rare as beyond 4 σ": lambda words, noise: deviates(words, noise).clamp(-3.9, 3.9),
    "magnitudes as rare as beyond 5 σ": lambda words, noise: deviates(words, noise) * 1.5,
    "magnitudes as rare as beyond 6 σ": lambda words, noise: deviates(words, noise) * 1.8,
    "largest magnitude": lambda words, noise: deviates(words, noise) * 1.8,
}


@pytest.mark.parametrize("test", BROKEN_VALUES)
def test_broken_noise_values_fail(test):
    findings = randomness_deviates.deviate_findings(mapped(BROKEN_VALUES[test]), "gaussian", DRAWS)
    (found,) = [finding for finding in findings if finding.test.startswith(test)]
    assert found.p < FAILS


@pytest.mark.parametrize("noise", NOISES)
def test_a_sign_used_twice_fails(noise):
    findings = randomness_deviates.deviate_findings(mapped(sign_reused), noise, DRAWS)
    assert {finding.test for finding in findings if finding.p < FAILS} >= {"mean", "Kolmogorov–Smirnov"}


def test_statistics_are_those_of_scipy():
    random = np.random.default_rng(0)
    counts = random.multinomial(10_000, [0.1, 0.2, 0.3, 0.4])
    expected = stats.chisquare(counts, 10_000 * np.array([0.1, 0.2, 0.3, 0.4]))
    found = shares("", 0, counts, np.array([0.1, 0.2, 0.3, 0.4]))
    assert found.statistic == f"χ² = {expected.statistic:.1f}, 3 degrees of freedom"
    assert found.p == pytest.approx(2 * min(expected.pvalue, 1 - expected.pvalue))
    values = np.sort(random.laplace(size=5000).astype(np.float32))
    by_scipy = stats.kstest(values.astype(np.float64), stats.laplace.cdf)
    ours = randomness_deviates.kolmogorov_smirnov(values, randomness_deviates.CDFS["laplace"])
    assert ours.statistic == f"D = {by_scipy.statistic:.3g}"
    assert ours.p == pytest.approx(2 * min(by_scipy.pvalue, 1 - by_scipy.pvalue))
    assert rare("", 0, 9, stats.poisson(2.0), 2.0).p == pytest.approx(2 * (1 - stats.poisson.cdf(8, 2.0)))


@pytest.mark.parametrize("noise", NOISES)
def test_moments_and_correlations_are_those_of_numpy(noise):
    key = stream_key(0, "test", noise, "input")
    x = PRODUCT.deviates(noise, key, np.arange(256), 0, 4096).reshape(-1).astype(np.float64)
    found = {f.test: f.statistic for f in randomness_deviates.deviate_findings(PRODUCT, noise, DRAWS)}
    even = {
        "gaussian": lambda power: special.factorial2(power - 1),
        "uniform": lambda power: 1 / (power + 1),
        "laplace": special.factorial,
    }[noise]
    variance, fourth, draws = even(2), even(4), x.size
    names = ("mean", "variance", "skewness (mean of x³)", "kurtosis (mean of x⁴)")
    for power, name in enumerate(names, 1):
        exact = 0 if power % 2 else even(power)
        spread = np.sqrt(even(2 * power) - exact**2)
        assert found[name] == f"z = {((x**power).mean() - exact) / spread * np.sqrt(draws):+.2f}"
    for values, name in ((x, "values 1 to 4 places apart"), (x**2 - variance, "their squares")):
        exact = variance if values is x else fourth - variance**2
        z = [(values[lag:] * values[:-lag]).sum() / exact / np.sqrt(draws - lag) for lag in range(1, 5)]
        assert found[f"{name}: correlations"] == f"χ² = {np.square(z).sum():.1f}, 4 degrees of freedom"


def test_cells_that_are_too_small_are_joined():
    counts = np.array([1, 0, 2, 90, 5, 1, 1])
    found = shares("", 0, counts, np.array([0.02, 0.02, 0.04, 0.86, 0.03, 0.02, 0.01]))
    value = (3 - 8) ** 2 / 8 + (97 - 92) ** 2 / 92
    assert found.statistic == f"χ² = {value:.1f}, 1 degrees of freedom"


def test_bits_are_counted_as_python_counts_them():
    words = np.random.default_rng(0).integers(0, 2**32, 999, dtype=np.uint32)
    assert weights(words).tolist() == [int(word).bit_count() for word in words]
    assert ones_of(halves_of(words)).tolist() == [sum(int(word) >> bit & 1 for word in words) for bit in range(32)]


def test_products_of_bits_are_those_of_numpy():
    one, two = np.random.default_rng(0).integers(0, 2**32, (2, 4000), dtype=np.uint32)
    signs = [((words.reshape(-1, 4, 1) >> np.arange(32)) & 1).reshape(1000, 128) * 2.0 - 1 for words in (one, two)]
    value = ((signs[0].T @ signs[1]) ** 2).sum() / 1000
    (products,) = [finding for finding in paired("x", one, two) if "products" in finding.test]
    assert products.statistic == f"χ² = {value:.1f}, 16384 degrees of freedom"


def test_the_distance_of_two_laws_is_found():
    # The table of another law stands in for the map: the distances between the laws are known.
    found = randomness_map.relaxed("gaussian", quantile_table("laplace"))
    difference = partial(lambda z, sign: sign * (np.exp(-z) - 2 * stats.norm.pdf(z)), sign=1)
    area = integrate.quad(lambda z: abs(difference(z)), 0, 25, limit=500, points=(0.26, 1.74))[0]
    assert found.total_variation == pytest.approx(area / 2, rel=1e-4)
    z = np.linspace(0, 8, 100_001)
    assert found.kolmogorov == pytest.approx(np.abs(np.exp(-z) - 2 * stats.norm.sf(z)).max(), rel=1e-4)
    half = tuple(part * np.float32(0.5) for part in quantile_table("uniform"))
    assert randomness_map.relaxed("uniform", half).total_variation == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(("noise", "total_variation"), [("gaussian", 4e-4), ("uniform", 1e-9), ("laplace", 7e-4)])
def test_the_law_of_the_map_is_near_its_own(noise, total_variation):
    found = randomness_map.relaxed(noise)
    assert found.total_variation < total_variation
    assert found.kolmogorov < 2e-6
    assert found.beyond == pytest.approx(2.0**-32, rel=1e-3)
    assert found.draws_to_tell > 5e6


def test_a_table_with_an_octave_dropped_is_far_from_the_law():
    intercept, slope = (part.copy() for part in quantile_table("gaussian"))
    for part in (intercept, slope):
        part[128 * 28 : 128 * 29] = part[128 * 29 : 128 * 30]
    assert randomness_map.relaxed("gaussian", (intercept, slope)).total_variation > 0.01


def test_visited_values_are_those_of_the_map():
    below = 2**20
    found = randomness_map.exact("gaussian", (4.0, 5.0, 6.0), octaves=range(-1, 20))
    magnitudes = deviates(torch.arange(below)).double().numpy()
    assert found.seen == below
    assert found.largest == magnitudes.max()
    assert found.beyond == {t: np.count_nonzero(magnitudes > t) / 2**31 for t in (4.0, 5.0, 6.0)}
    assert found.moments == pytest.approx(((magnitudes**2).mean(), (magnitudes**4).mean()))
    exact = stats.norm.isf((np.arange(below) + 0.5) / 2**32)
    assert found.quantile_error == pytest.approx(np.abs(magnitudes - exact).max(), rel=1e-6)
    tail, count = stats.halfnorm.sf(np.sort(magnitudes)[::-1]), np.arange(below)
    distance = max(np.abs(count / 2**31 - tail).max(), np.abs((count + 1) / 2**31 - tail).max())
    assert found.kolmogorov == pytest.approx(distance, rel=1e-6)


@pytest.mark.parametrize("rounded", [torch.floor, torch.ceil])
def test_the_largest_difference_of_a_law_of_few_values_is_on_either_side_of_a_value(rounded):
    below = 2**18
    found = randomness_map.exact(
        "gaussian", octaves=range(-1, 18), to_values=lambda words, noise: rounded(deviates(words, noise) * 8) / 8
    )
    magnitudes = (rounded(deviates(torch.arange(below)) * 8) / 8).double().numpy()
    values = np.unique(magnitudes)
    at_least, more = ((magnitudes[:, None] >= values).mean(0), (magnitudes[:, None] > values).mean(0))
    both = [np.abs(share * below / 2**31 - stats.halfnorm.sf(values)) for share in (at_least, more)]
    assert found.kolmogorov == pytest.approx(np.max(both), rel=1e-6)


@pytest.mark.parametrize("octave", [24, 27, 30])
def test_runs_of_equal_positions_are_those_of_float32(octave):
    (runs,) = randomness_map._runs([octave])
    first, times = runs
    assert first[0] == 2**octave
    assert np.array_equal(first[1:], (first + times)[:-1])
    assert first[-1] + times[-1] == 2 ** (octave + 1)
    some = np.random.default_rng(0).integers(0, len(first), 20_000)
    bits = [(torch.from_numpy(m).to(torch.int32).float() + 0.5) for m in (first[some], (first + times - 1)[some])]
    assert torch.equal(*bits)
    cell = (bits[0].view(torch.int32) >> SHIFT) - FIRST_CELL
    assert int(cell.max()) <= 4096


def test_a_map_with_an_octave_dropped_is_out_of_order():
    with pytest.raises(AssertionError, match="falling order"):
        randomness_map.exact("gaussian", octaves=range(10, 22), to_values=lambda w, noise: deviates(w % 2**20, noise))


def test_results_are_written_between_the_markers(parts, tmp_path, monkeypatch):
    visited = randomness_map.exact(
        "gaussian", (*randomness.SIGMAS, *map(randomness.threshold_of, randomness.EPS)), octaves=range(-1, 10)
    )
    monkeypatch.setattr(randomness, "battery", lambda *_: parts)
    monkeypatch.setattr(randomness, "exact", lambda *_: visited)
    page = tmp_path / "page.md"
    page.write_text("Before.\n<!-- results -->\nold\n<!-- /results -->\nAfter.\n", encoding="utf-8")
    randomness.main(["--draws", str(DRAWS), "--out", str(page)])
    text = page.read_text(encoding="utf-8")
    assert text.startswith("Before.\n<!-- results -->\n")
    assert text.endswith("<!-- /results -->\nAfter.\n")
    assert "old" not in text
    for part, findings in parts.items():
        assert f"### {part}" in text
        assert all(f"| {finding.test} |" in text for finding in findings)
    for line in text.splitlines():
        if line.startswith("|"):
            assert "nan" not in line
    with pytest.raises(ValueError, match="<!-- results -->"):
        randomness.put("no markers", "text")


def test_the_page_holds_results():
    page = randomness.DOCUMENT.read_text(encoding="utf-8")
    assert f"--draws {randomness.DRAWS}" in page
    assert "### The map" in page
