"""The ranking against textbook values, SciPy and simulated studies."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import integrate, stats

from robustcheck.analysis import comparison
from robustcheck.analysis.ranking import area, exact_ties, rank
from robustcheck.errors import InvalidValueError

CHANCE = 0.1
PAIRS_OF_FOUR = list(itertools.combinations(range(4), 2))
GRID = list(itertools.product([2, 3, 6, 18], [2, 3, 5, 10]))


@dataclass(frozen=True)
class Scenario:
    """How the accuracies of a simulated study come about; activation 0 is the odd one out."""

    deviation: float = 0.003
    diverging: float = 0.1
    samples: int = 10_000
    odd_mean: float = 0.0
    odd_diverging: float | None = None
    odd_deviation: float = 1.0
    graded: bool = False

    @property
    def odd_differs(self) -> bool:
        return self.odd_mean != 0 or self.odd_diverging is not None


SCENARIOS = {
    "diverging": Scenario(),
    "diverging, fine spread": Scenario(deviation=0.001),
    "diverging, few samples": Scenario(deviation=0.01, samples=360),
    "one worse": Scenario(odd_mean=-0.1),
    "one worse and noisier": Scenario(odd_mean=-0.1, odd_deviation=3),
    "one diverging every second time": Scenario(odd_diverging=0.5),
    "one noisier": Scenario(diverging=0, odd_deviation=3),
    "one much noisier": Scenario(diverging=0, odd_deviation=10),
    "graded noise": Scenario(diverging=0, graded=True),
    "graded noise, diverging": Scenario(graded=True),
    "plain": Scenario(diverging=0),
}


def simulate(scenario, *, seeds, activations, studies, rng):
    """Accuracies `(studies, seeds, activations)`: a seed's shared shift, each network's own, failed runs at chance."""
    deviation = np.full(activations, scenario.deviation)
    deviation[0] *= scenario.odd_deviation
    if scenario.graded:
        deviation = scenario.deviation * np.geomspace(1 / 3, 3, activations)
    diverging = np.full(activations, scenario.diverging)
    if scenario.odd_diverging is not None:
        diverging[0] = scenario.odd_diverging
    shape = (studies, seeds, activations)
    accuracy = 0.7 + rng.normal(0, 0.01, (studies, seeds, 1)) + deviation * rng.standard_normal(shape)
    accuracy[..., 0] += scenario.odd_mean
    chance = CHANCE + rng.normal(0, 0.0005, shape)
    accuracy = np.where(rng.random(shape) < diverging, chance, accuracy)
    return np.round(np.clip(accuracy, 0, 1) * scenario.samples) / scenario.samples


def significant_pairs(accuracy, samples, alpha=0.05):
    _, seeds, activations = accuracy.shape
    found = comparison.differences(accuracy, samples)
    return np.abs(found.mean) > comparison.half_widths(found, seeds=seeds, activations=activations, alpha=alpha)


def false_winner_rate(scenario, *, seeds, activations, studies, rng, test=significant_pairs):
    """Share of studies that declare any two truly equal activations different."""
    accuracy = simulate(scenario, seeds=seeds, activations=activations, studies=studies, rng=rng)
    first, _ = np.triu_indices(activations, 1)
    equal = (first > 0) | (not scenario.odd_differs)
    return (test(accuracy, scenario.samples) & equal).any(axis=1).mean()


@pytest.mark.parametrize(("activations", "seeds"), GRID)
def test_false_winner_rate_stays_at_five_percent(activations, seeds):
    studies = 1500
    limit = 0.05 + 3 * (0.05 * 0.95 / studies) ** 0.5
    for name, scenario in SCENARIOS.items():
        rng = np.random.default_rng([activations, seeds])
        rate = false_winner_rate(scenario, seeds=seeds, activations=activations, studies=studies, rng=rng)
        assert rate <= limit, (name, rate)


def test_the_pooled_criterion_alone_would_fail():
    def tukey(accuracy, samples):
        found = comparison.differences(accuracy, samples)
        critical = stats.studentized_range.isf(0.05, 6, 10) / 2**0.5
        return np.abs(found.mean) > critical * found.pooled_error[:, None]

    scenario, rng = SCENARIOS["one much noisier"], np.random.default_rng(1)
    assert false_winner_rate(scenario, seeds=3, activations=6, studies=2000, rng=rng, test=tukey) > 0.15


@pytest.mark.parametrize(("seeds", "diverged", "power"), [(3, 0, 0.35), (5, 0, 0.9), (5, 1, 0.35), (10, 1, 0.95)])
def test_a_real_difference_is_found_also_beside_a_diverged_run(seeds, diverged, power):
    rng = np.random.default_rng(2)
    accuracy = simulate(Scenario(diverging=0), seeds=seeds, activations=6, studies=1000, rng=rng)
    accuracy[..., 0] += 5 * 0.003
    accuracy[:, :diverged, 5] = CHANCE
    first, second = np.triu_indices(6, 1)
    assert significant_pairs(accuracy, 10_000)[:, (first == 0) & (second < 5)].mean() > power


# D. C. Montgomery, Design and Analysis of Experiments, vascular grafts: yield [%] of 4 extrusion pressures in 6 batches
# of resin. The book's analysis of variance has an error mean square of 7.33 with 15 degrees of freedom.
GRAFTS = np.array(
    [
        [90.3, 89.2, 98.2, 93.9, 87.4, 97.9],
        [92.5, 89.5, 90.6, 94.7, 87.0, 95.8],
        [85.5, 90.8, 89.6, 86.2, 88.0, 93.4],
        [82.5, 89.5, 85.6, 87.4, 78.9, 90.7],
    ]
).T
PRESSURES = ("8500", "8700", "8900", "9100")


def test_textbook_block_gives_the_published_error():
    ranking = rank(GRAFTS / 100, PRESSURES, samples=1000)
    assert ranking.degrees_of_freedom == 15
    assert 1e4 * ranking.standard_error**2 * 6 / 2 == pytest.approx(7.33, abs=0.005)
    assert ranking.mean == pytest.approx([0.9282, 0.9168, 0.8892, 0.8577], abs=5e-5)


def test_textbook_block_step_by_step():
    ranking = rank(GRAFTS / 100, PRESSURES, samples=1000)
    for pair in ranking.pairs:
        d = (GRAFTS[:, PRESSURES.index(pair.a)] - GRAFTS[:, PRESSURES.index(pair.b)]) / 100
        own = d.std(ddof=1) / 6**0.5
        # Tabulated: q(.05; 4, 15) = 4.08 and q(.05; 4, 5) = 5.22; t(.05/4/6 two-sided, 5) from SciPy.
        half = max(4.076 / 2**0.5 * ranking.standard_error, 5.218 / 2**0.5 * own)
        half = min(half, stats.t.isf(0.05 / 48, 5) * own)
        assert (pair.lower, pair.upper) == pytest.approx((d.mean() - half, d.mean() + half), abs=2e-5)
        p_pooled = stats.studentized_range.sf(abs(d.mean()) / ranking.standard_error * 2**0.5, 4, 15)
        p_own = stats.studentized_range.sf(abs(d.mean()) / own * 2**0.5, 4, 5)
        p_alone = 24 * stats.ttest_1samp(d, 0).pvalue
        assert pair.p_value == pytest.approx(min(1, max(p_pooled, p_own), p_alone), rel=1e-2)
        assert pair.significant == (pair.p_value <= 0.05) == (not pair.lower <= 0 <= pair.upper)
    assert [(p.a, p.b) for p in ranking.pairs if p.significant] == [("8500", "9100"), ("8700", "9100")]
    assert ranking.rank == (1, 1, 1, 3)
    assert (ranking.winner, ranking.leaders) == (None, PRESSURES[:3])


def test_two_activations_are_scipys_paired_t_test():
    block = np.random.default_rng(3).normal([0.8, 0.83], 0.02, (7, 2))
    pair = rank(block, ["relu", "gelu"], samples=5000).pairs[0]
    reference = stats.ttest_rel(block[:, 0], block[:, 1])
    assert pair.p_value == pytest.approx(reference.pvalue, rel=1e-3)
    assert (pair.lower, pair.upper) == pytest.approx(tuple(reference.confidence_interval()), rel=1e-6)


@pytest.mark.parametrize(("activations", "freedom"), [(2, 1), (6, 2), (6, 20), (18, 9)])
def test_range_p_values_are_scipys(activations, freedom):
    statistic = np.array([0.0, 0.3, 1.7, 3.1, 4.9, 9.0])
    reference = stats.studentized_range.sf(2**0.5 * statistic, activations, freedom)
    found = comparison._range_p_value(statistic, activations, freedom)
    assert found == pytest.approx(reference, rel=1e-2, abs=1e-11)
    far = comparison._range_p_value(np.array([1e3, 1e5, np.inf]), activations, freedom)
    assert (np.diff(far) <= 0).all()
    single = 2 * stats.t.sf([1e3, 1e5, np.inf], freedom)
    assert (far >= 0.999 * single).all()
    assert (far <= activations * (activations - 1) / 2 * single * 1.001).all()


def test_p_values_and_intervals_decide_alike():
    rng = np.random.default_rng(4)
    for seeds, activations in [(2, 3), (3, 6), (5, 6)]:
        accuracy = simulate(SCENARIOS["diverging"], seeds=seeds, activations=activations, studies=200, rng=rng)
        accuracy += 0.004 * np.arange(activations)
        found = comparison.differences(accuracy, 10_000)
        p = comparison.p_values(found, seeds=seeds, activations=activations)
        significant = significant_pairs(accuracy, 10_000)
        clear = np.abs(p - 0.05) > 5e-4
        assert (significant == (p <= 0.05))[clear].all()
        assert 0 < significant.mean() < 1


@pytest.mark.parametrize(("seeds", "activations"), [(3, 2), (3, 6), (5, 6), (10, 3)])
def test_detectable_difference_is_found_with_eighty_percent_power(seeds, activations):
    deviation, rng = 0.003, np.random.default_rng(5)
    error = deviation * (2 / seeds) ** 0.5
    difference = comparison.detectable_difference(error, error, seeds=seeds, activations=activations, alpha=0.05)
    plain = Scenario(diverging=0, samples=10**6)
    accuracy = simulate(plain, seeds=seeds, activations=activations, studies=4000, rng=rng)
    accuracy[..., 0] += difference
    assert significant_pairs(accuracy, 10**6)[:, 0].mean() == pytest.approx(0.8, abs=0.025)


def test_ranking_states_what_its_seeds_could_detect():
    clean = simulate(SCENARIOS["plain"], seeds=5, activations=6, studies=1, rng=np.random.default_rng(6))[0]
    ranking = rank(clean, "abcdef", samples=10_000)
    # q(.05; 6, 4) = 6.71: noncentral t with 4 degrees of freedom beyond 6.71/√2 in 80 % of cases.
    assert stats.nct.sf(6.706 / 2**0.5, 4, ranking.detectable_difference / ranking.standard_error) == pytest.approx(
        0.8, abs=1e-3
    )
    broken = clean.copy()
    broken[0, 5] = CHANCE
    assert rank(broken, "abcdef", samples=10_000).detectable_difference < 3 * ranking.detectable_difference
    assert rank(broken, "abcdef", samples=10_000).standard_error > 10 * ranking.standard_error


@pytest.mark.parametrize(
    ("difference", "pooled", "own"),
    [(0.02, 0.01, 0.01), (0.02, 0.002, 0.002), (0.02, 0.2, 0.01), (0.005, 0.02, 0.02), (0.02, 0.01, 1.0)],
)
def test_seeds_needed_is_the_first_count_that_detects(difference, pooled, own):
    needed = comparison.seeds_needed(difference, pooled**2, own**2, activations=3, alpha=0.05)

    def detectable(seeds):
        errors = pooled / seeds**0.5, own / seeds**0.5
        return comparison.detectable_difference(*errors, seeds=seeds, activations=3, alpha=0.05)

    assert detectable(needed) <= difference
    assert needed == 2 or detectable(needed - 1) > difference


def test_seeds_needed_of_a_ranking():
    block = np.array([[0.90, 0.91], [0.91, 0.90], [0.90, 0.93]])
    variance = np.var(block[:, 0] - block[:, 1], ddof=1)
    needed = rank(block, ["relu", "gelu"], samples=1000).seeds_needed
    for seeds, enough in [(needed, True), (needed - 1, False)]:
        critical = stats.t.isf(0.025, seeds - 1)
        power = stats.nct.sf(critical, seeds - 1, 0.01 / (variance / seeds) ** 0.5)
        assert (power >= 0.8) == enough
    assert rank(block[:, [0, 0]], ["relu", "twin"], samples=1000).seeds_needed is None
    far = np.array([[0.5, 0.9], [0.9, 0.5002], [0.7, 0.7]])
    assert rank(far, ["relu", "gelu"], samples=1000).seeds_needed is None


@pytest.mark.parametrize("noisy", [[0, 1], [2, 3]])
def test_seeds_needed_takes_the_larger_of_pair_and_block_variance(noisy):
    rng = np.random.default_rng(10)
    block = np.array([0.91, 0.90, 0.5, 0.4]) + np.array([-1, 0, 1, 0])[:, None] * 0.001 * rng.random((4, 4))
    block[:, noisy] += rng.normal(0, 0.01, (4, 2))
    mean, variance = block.mean(axis=0), [np.var(block[:, a] - block[:, b], ddof=1) for a, b in PAIRS_OF_FOUR]
    pooled, own, typical = np.mean(variance), variance[0], np.median(variance)
    assert (own > pooled) == (noisy == [0, 1])
    expected = comparison.seeds_needed(
        abs(mean[0] - mean[1]), max(own, pooled), max(own, typical), activations=4, alpha=0.05
    )
    assert rank(block, "abcd", samples=10_000).seeds_needed == expected


def test_a_clear_winner():
    rng = np.random.default_rng(7)
    block = np.array([0.9, 0.7, 0.5]) + rng.normal(0, 0.01, (5, 1)) + rng.normal(0, 0.003, (5, 3))
    ranking = rank(block, ["gelu", "relu", "tanh"], samples=360)
    assert (ranking.winner, ranking.leaders, ranking.rank) == ("gelu", ("gelu",), (1, 2, 3))
    pair = ranking.pairs[2]
    assert (pair.a, pair.b) == ("relu", "tanh")
    assert pair.lower < 0.2 < pair.upper
    swapped = rank(block[:, ::-1], ["tanh", "relu", "gelu"], samples=360)
    assert (swapped.winner, swapped.rank) == ("gelu", (3, 2, 1))


def test_one_seed_allows_no_inference():
    ranking = rank(np.array([[0.2, 0.9, 0.5]]), ["relu", "gelu", "silu"], samples=360)
    assert not ranking.inference
    assert (ranking.rank, ranking.winner, ranking.leaders) == ((1, 1, 1), None, ("relu", "gelu", "silu"))
    assert (ranking.standard_error, ranking.detectable_difference, ranking.seeds_needed) == (None, None, None)
    assert {(p.lower, p.upper, p.p_value, p.significant) for p in ranking.pairs} == {(-1.0, 1.0, 1.0, False)}
    assert [p.difference for p in ranking.pairs] == pytest.approx([-0.7, -0.3, 0.4])


def test_one_activation_is_ranked_without_rivals():
    ranking = rank(np.array([[0.9], [0.8]]), ["relu"], samples=360)
    assert (ranking.mean, ranking.rank, ranking.winner) == (pytest.approx((0.85,)), (1,), None)
    assert (ranking.pairs, ranking.leaders, ranking.inference) == ((), ("relu",), False)


def test_zero_residual_is_no_certainty():
    """Constant differences of one sample among 100 are within the resolution; of twenty they are not."""
    names = ["relu", "gelu"]
    small = rank(np.array([[0.90, 0.91]] * 3), names, samples=100)
    assert small.winner is None
    assert small.standard_error == pytest.approx(0.01 / 3**0.5)
    assert rank(np.array([[0.70, 0.90]] * 3), names, samples=100).winner == "gelu"


def test_two_seeds_find_no_detectable_difference_among_many():
    block = simulate(Scenario(0.02, diverging=0), seeds=2, activations=18, studies=1, rng=np.random.default_rng(8))[0]
    assert rank(block, [f"a{i}" for i in range(18)], samples=10_000).detectable_difference is None


@pytest.mark.parametrize(
    ("accuracy", "names", "samples", "alpha", "message"),
    [
        (np.zeros(3), ["a"], 10, 0.05, "shape"),
        (np.zeros((2, 3)), ["a", "b"], 10, 0.05, "shape"),
        (np.zeros((0, 2)), ["a", "b"], 10, 0.05, "shape"),
        (np.array([[0.1, np.nan]]), ["a", "b"], 10, 0.05, "finite"),
        (np.array([[0.1, 97.0]]), ["a", "b"], 10, 0.05, r"\[0, 1\]"),
        (np.zeros((2, 2)), ["a", "a"], 10, 0.05, "different names"),
        (np.zeros((2, 2)), ["a", "b"], 0, 0.05, "at least 1"),
        (np.zeros((2, 2)), ["a", "b"], 10, 1.0, "alpha"),
    ],
)
def test_rank_refuses(accuracy, names, samples, alpha, message):
    with pytest.raises(InvalidValueError, match=message):
        rank(accuracy, names, samples=samples, alpha=alpha)


def test_exact_ties_need_every_seed():
    block = np.array([[0.5, 0.6, 0.5, 0.6, 0.5], [0.7, 0.8, 0.7, 0.8, 0.9]])
    assert exact_ties("abcde", block) == (("a", "c"), ("b", "d"))
    assert exact_ties("ab", block[:, :2]) == ()


def test_area_is_a_mean_accuracy_over_the_range():
    points = np.array([0.1, 0.5, 0.2, 0.9])
    accuracy = np.random.default_rng(9).random((3, 2, 4))
    order = [0, 2, 1, 3]
    reference = integrate.trapezoid(accuracy[..., order], points[order], axis=-1) / 0.8
    assert area(points, accuracy) == pytest.approx(reference)
    assert area(points, np.full(4, 0.75)) == pytest.approx(0.75)
    assert area(np.array([0.5]), np.array([0.9])) is None
    for bad in (np.array([0.1, 0.1, 0.2, 0.3]), np.array([0.1, 0.2])):
        with pytest.raises(InvalidValueError, match="error probabilities"):
            area(bad, accuracy)


def test_tukeys_range_of_a_6_by_3_block():
    # facts: 3.47 standard errors of a difference
    assert comparison._range_quantile(0.05, 6, 5 * 2) == pytest.approx(3.47, abs=5e-3)
