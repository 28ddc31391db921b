"""Intervals of an accuracy against SciPy, Wilson's formula and simulated coverage."""

import numpy as np
import pytest
from scipy import special, stats

from robustcheck.analysis.intervals import least_spread, network_interval, sample_error, sample_interval
from robustcheck.errors import InvalidValueError


def wilson(correct, samples, z=1.959963984540054):
    p, n = correct / samples, samples
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return centre - half, centre + half


def test_network_interval_is_scipys_t_interval():
    values = np.random.default_rng(1).normal(0.8, 0.03, 5)
    reference = stats.t.interval(0.95, 4, loc=values.mean(), scale=stats.sem(values))
    assert network_interval(values, 360) == pytest.approx(reference)
    assert network_interval(values, 360, level=0.5) == pytest.approx(
        stats.t.interval(0.5, 4, loc=values.mean(), scale=stats.sem(values))
    )


def test_network_interval_stays_in_range_and_needs_two_networks():
    assert network_interval(np.array([0.1, 0.99, 0.98]), 360) == (0.0, 1.0)
    assert network_interval(np.array([0.9]), 360) is None
    with pytest.raises(InvalidValueError, match="seeds"):
        network_interval(np.empty(0), 360)
    with pytest.raises(InvalidValueError, match="samples"):
        network_interval(np.array([0.9, 0.9]), 0)


def test_networks_that_agree_exactly_are_not_certain():
    lower, upper = network_interval(np.array([0.9, 0.9]), 360)
    assert (upper - lower) / 2 == pytest.approx(stats.t.ppf(0.975, 1) / 360 / 2**0.5)
    assert (upper + lower) / 2 == pytest.approx(0.9)
    assert network_interval(np.full(5, 0.9), 10_000)[1] == pytest.approx(0.9 + stats.t.ppf(0.975, 4) * 1e-4 / 5**0.5)
    assert least_spread(360) == 1 / 360


@pytest.mark.parametrize("networks", [2, 3, 5])
@pytest.mark.parametrize("wrong", [0.2, 1.0, 5.0, 30.0])
def test_network_interval_holds_where_networks_tie_often(networks, wrong):
    samples, trials = 360, 4000
    found = 1 - np.random.default_rng(3).poisson(wrong, (trials, networks)) / samples
    ends = np.array([network_interval(each, samples) for each in found])
    covered = ((ends[:, 0] <= 1 - wrong / samples) & (1 - wrong / samples <= ends[:, 1])).mean()
    assert covered >= 0.94


@pytest.mark.parametrize("right", [0, 1, 90, 324, 359, 360])
def test_one_network_and_draw_give_wilsons_interval(right):
    correct = (np.arange(360) < right)[None, None, :]
    for clusters in (False, True):
        found = sample_interval(correct, draws_are_clusters=clusters)
        assert found == pytest.approx(wilson(right, 360), abs=1e-12)
        assert 0 <= found[0] <= right / 360 <= found[1] <= 1


def test_repeating_draws_or_networks_adds_no_information():
    once = np.random.default_rng(2).random((1, 1, 200)) < 0.9
    often = np.broadcast_to(once, (4, 25, 200))
    for clusters in (False, True):
        assert sample_interval(often, draws_are_clusters=clusters) == pytest.approx(
            sample_interval(once, draws_are_clusters=False)
        )


def test_nearly_perfect_draws_do_not_multiply_the_samples():
    """One error in 100 draws of 100 samples is hardly narrower than none."""
    correct = np.ones((1, 100, 100), dtype=bool)
    correct[0, 0, 0] = False
    lower, upper = sample_interval(correct, draws_are_clusters=False)
    assert lower == pytest.approx(wilson(100, 100)[0], abs=2e-3)
    assert upper < 1


def coverage(rng, *, networks, draws, samples, ease, luck, shared, studies):
    """Share of studies whose interval holds the truth; correctness is a probit of sample, draw and pure chance."""
    hits = 0
    scale = (1 + luck**2 + shared**2) ** 0.5
    truth = special.ndtr(ease / scale)
    for _ in range(studies):
        sample, draw = rng.standard_normal(samples), rng.normal(0, shared, (1, draws, 1))
        chance = rng.normal(0, luck, (networks, draws, samples))
        correct = ease + sample + draw + chance > 0
        lower, upper = sample_interval(correct, draws_are_clusters=shared > 0)
        hits += lower <= truth <= upper
    return hits / studies


@pytest.mark.parametrize("ease", [0.0, 1.5, 3.0])
@pytest.mark.parametrize(("draws", "luck"), [(1, 0.5), (10, 0.5), (10, 3.0)])
def test_coverage_over_samples(ease, draws, luck):
    rng = np.random.default_rng(3)
    shape = {"networks": 2, "draws": draws, "samples": 150}
    found = coverage(rng, **shape, ease=ease, luck=luck, shared=0.0, studies=1000)
    assert 0.93 <= found <= 0.99


@pytest.mark.parametrize("ease", [0.0, 1.5])
@pytest.mark.parametrize("draws", [3, 10, 30])
def test_coverage_where_a_draw_is_a_cluster(ease, draws):
    rng = np.random.default_rng(4)
    shape = {"networks": 1, "draws": draws, "samples": 150}
    found = coverage(rng, **shape, ease=ease, luck=0.5, shared=0.5, studies=1000)
    assert 0.925 <= found <= 0.985


def test_ignoring_clusters_would_be_too_sure():
    rng = np.random.default_rng(5)
    correct = 1.0 + rng.standard_normal(500) + rng.normal(0, 0.7, (1, 10, 1)) > 0
    lower, upper = sample_interval(correct, draws_are_clusters=False)
    wide = sample_interval(correct, draws_are_clusters=True)
    assert wide[1] - wide[0] > 1.5 * (upper - lower)


def test_sample_interval_refuses_other_shapes():
    for bad in (np.ones((3, 4), dtype=bool), np.ones((1, 0, 3), dtype=bool)):
        with pytest.raises(InvalidValueError, match="networks, draws, samples"):
            sample_interval(bad, draws_are_clusters=False)


def test_networks_count_the_same_whatever_their_draws():
    rng = np.random.default_rng(6)
    few, many = rng.random((5, 400)) < 0.6, rng.random((80, 400)) < 0.9
    for clusters in (False, True):
        lower, upper = sample_interval([few, many], draws_are_clusters=clusters)
        assert (lower + upper) / 2 == pytest.approx((few.mean() + many.mean()) / 2, abs=2e-3)
        equal = sample_interval([few, np.tile(few, (1, 1))], draws_are_clusters=clusters)
        assert equal == sample_interval(np.stack([few, few]), draws_are_clusters=clusters)


@pytest.mark.parametrize("ease", [0.0, 1.5])
def test_coverage_where_networks_have_unequal_draws_that_are_clusters(ease):
    rng, hits, studies = np.random.default_rng(7), 0, 1000
    truth = special.ndtr(ease / (1 + 0.5**2 + 0.5**2) ** 0.5)
    for _ in range(studies):
        sample = rng.standard_normal(150)
        correct = [
            ease + sample + rng.normal(0, 0.5, (draws, 1)) + rng.normal(0, 0.5, (draws, 150)) > 0
            for draws in (5, 9, 30)
        ]
        lower, upper = sample_interval(correct, draws_are_clusters=True)
        hits += lower <= truth <= upper
    assert 0.925 <= hits / studies <= 0.985


@pytest.mark.parametrize("right", [0, 1, 90, 324, 360])
def test_the_error_of_the_test_set_is_wilsons_where_draws_do_not_differ(right):
    correct = np.broadcast_to(np.arange(360) < right, (2, 7, 360))
    lower, upper = wilson(right, 360)
    assert sample_error(correct) == pytest.approx((upper - lower) / 2, rel=5e-3)


def test_the_error_of_the_test_set_does_not_depend_on_the_draws():
    rng = np.random.default_rng(8)
    chance = rng.beta(1, 1, 2000)
    endless = 1.96 * chance.std() / 2000**0.5
    for draws in (5, 50, 1000):
        found = sample_error([rng.random((draws, 2000)) < chance])
        assert found == pytest.approx(endless, rel=0.05)
    # Two networks with luck of their own, whose samples are as hard: the same again, and no smaller.
    two = [rng.random((draws, 2000)) < chance for draws in (5, 9)]
    assert sample_error(two) == pytest.approx(endless, rel=0.05)


def test_the_error_of_the_test_set_covers_what_endless_draws_would_say():
    rng, hits, studies = np.random.default_rng(9), 0, 1500
    for _ in range(studies):
        chance = rng.beta(2, 0.5, 200)
        hits += abs(chance.mean() - 0.8) <= sample_error([rng.random((6, 200)) < chance])
    assert 0.93 <= hits / studies <= 0.975


@pytest.mark.parametrize("shared", [0.0, 1.0, 2.0])
def test_what_the_samples_leave_open_does_not_depend_on_the_draws(shared):
    rng, found = np.random.default_rng(9), {}
    for draws in (5, 200):
        each = []
        for _ in range(60 if draws == 5 else 6):
            sample = rng.standard_normal(400)
            correct = 1.0 + sample + rng.normal(0, shared, (draws, 1)) + rng.normal(0, 0.7, (draws, 400)) > 0
            each.append(sample_error([correct]))
        found[draws] = np.mean(each)
    assert found[5] == pytest.approx(found[200], rel=0.12)
