"""Racing against SciPy and simulated races: how often the truly best activation is stopped."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from robustcheck.analysis.racing import look, rate_of_look
from robustcheck.errors import InvalidValueError

ALPHA, RACES, SEEDS = 0.05, 2000, 10
LIMIT = ALPHA + 3 * (ALPHA * (1 - ALPHA) / RACES) ** 0.5


@dataclass(frozen=True)
class Scenario:
    """Means and standard deviations in units of `deviation`, from k; activation 0 is the best, alone or with others."""

    spread: object = np.ones
    mean: object = np.zeros
    diverging: float = 0.0
    deviation: float = 0.01
    samples: int = 300


def best_noisier(factor):
    return lambda k: np.r_[factor, np.ones(k - 1)]


def half_behind(steps):
    return lambda k: -steps * (np.arange(k) >= k // 2)


SCENARIOS = {
    "equal": Scenario(),
    "equal, fine": Scenario(deviation=0.002, samples=10**5),
    "equal, coarse": Scenario(samples=50),
    "best noisier": Scenario(spread=best_noisier(3.0)),
    "best much noisier": Scenario(spread=best_noisier(10.0)),
    "best much noisier, half behind": Scenario(spread=best_noisier(10.0), mean=half_behind(20.0)),
    "a rival much noisier": Scenario(spread=lambda k: np.r_[1.0, 10.0, np.ones(k - 2)]),
    "graded, best noisiest": Scenario(spread=lambda k: np.geomspace(3, 1 / 3, k)),
    "graded, best steadiest": Scenario(spread=lambda k: np.geomspace(1 / 3, 3, k)),
    "half much noisier": Scenario(spread=lambda k: np.where(np.arange(k) % 2, 1.0, 10.0)),
    "diverging": Scenario(diverging=0.1),
    "diverging, fine": Scenario(diverging=0.1, deviation=0.001, samples=10**4),
    "diverging, best much noisier": Scenario(diverging=0.1, spread=best_noisier(10.0)),
    "near-ties": Scenario(mean=lambda k: -0.2 * np.arange(k)),
    "one far behind": Scenario(mean=lambda k: np.r_[np.zeros(k - 1), -30.0]),
}


def simulate(scenario, *, activations, rng, races=RACES, seeds=SEEDS):
    """Accuracies `(races, seeds, activations)`: a seed's shared shift, each network's own, failed runs at chance."""
    shape = (races, seeds, activations)
    own = scenario.mean(activations) + scenario.spread(activations) * rng.standard_normal(shape)
    accuracy = 0.7 + rng.normal(0, 0.02, (races, seeds, 1)) + scenario.deviation * own
    failed = 0.1 + rng.normal(0, 0.005, shape)
    accuracy = np.where(rng.random(shape) < scenario.diverging, failed, accuracy)
    return np.round(np.clip(accuracy, 0, 1) * scenario.samples) / scenario.samples


def rule(accuracy, running, samples):
    return look(accuracy, running, samples=samples, alpha=ALPHA).stopped


def race(accuracy, samples, stopped=rule):
    """Who still runs after each look, `(looks, races, activations)`."""
    running = np.ones((len(accuracy), accuracy.shape[-1]), dtype=bool)
    history = []
    for seeds in range(2, accuracy.shape[1] + 1):
        running = running & ~stopped(accuracy[:, :seeds], running, samples)
        history.append(running)
    return np.array(history)


@pytest.mark.parametrize("activations", [6, 15, 18])
def test_the_best_is_stopped_in_at_most_the_stated_share_of_races(activations):
    for name, scenario in SCENARIOS.items():
        accuracy = simulate(scenario, activations=activations, rng=np.random.default_rng(activations))
        stopped = 1 - race(accuracy, scenario.samples)[-1, :, 0].mean()
        # What is stopped by the last look bounds what is stopped by any earlier one.
        assert stopped <= LIMIT, (name, stopped)


def test_pooled_alone_would_stop_the_best_too_often():
    def pooled(accuracy, running, samples):
        found = look(accuracy, running, samples=samples, alpha=ALPHA)
        seeds, k = accuracy.shape[-2:]
        residual = accuracy - accuracy.mean(-1, keepdims=True) - accuracy.mean(-2, keepdims=True)
        residual = residual + accuracy.mean((-1, -2), keepdims=True)
        freedom = (k - 1) * (seeds - 1)
        error = np.sqrt(2 * (residual**2).sum((-1, -2)) / freedom / seeds)
        return found.behind > (stats.t.isf(rate_of_look(seeds) / (k - 1), freedom) * error)[:, None]

    scenario = SCENARIOS["best much noisier"]
    accuracy = simulate(scenario, activations=18, rng=np.random.default_rng(1), races=600, seeds=3)
    assert 1 - race(accuracy, scenario.samples, pooled)[-1, :, 0].mean() > 0.15


@pytest.mark.parametrize(("behind", "looks", "left"), [(6.0, 2, 0.65), (6.0, 4, 0.1), (12.0, 1, 0.7), (12.0, 2, 0.1)])
def test_those_far_behind_are_stopped_early(behind, looks, left):
    scenario = Scenario(mean=half_behind(behind))
    accuracy = simulate(scenario, activations=18, rng=np.random.default_rng(2), races=500, seeds=looks + 1)
    assert race(accuracy, scenario.samples)[-1][:, 9:].mean() < left


def test_beside_diverging_runs_the_steady_ones_are_still_told_apart():
    scenario = Scenario(mean=half_behind(6.0), diverging=0.1)
    accuracy = simulate(scenario, activations=18, rng=np.random.default_rng(3), races=500)
    assert race(accuracy, scenario.samples)[-1][:, 9:].mean() < 0.75


def test_the_looks_never_spend_more_than_the_rate():
    assert sum(rate_of_look(seeds, 0.1) for seeds in range(2, 5000)) == pytest.approx(0.1 * (1 - 1 / 4999))
    assert rate_of_look(2, 0.1) == 0.05


def reference(accuracy, running, samples):
    """Margins by SciPy's paired t-tests and the mean variance of all pairs of differences."""
    seeds, started = accuracy.shape
    names = np.flatnonzero(running)
    leader = names[accuracy[:, names].mean(0).argmax()]
    rate = ALPHA / seeds / (seeds - 1)
    pairs = itertools.combinations(names, 2)
    pooled = np.mean([np.var(accuracy[:, a] - accuracy[:, b], ddof=1) for a, b in pairs])
    freedom = (len(names) - 1) * (seeds - 1)
    margins = np.full(started, np.nan)
    for name in names:
        difference = accuracy[:, leader] - accuracy[:, name]
        error = np.sqrt(max(difference.var(ddof=1), samples**-2) / seeds)
        wide = stats.t.ppf(1 - rate / (started - 1), freedom) * np.sqrt(max(pooled, samples**-2) / seeds)
        own = stats.t.ppf(1 - rate, seeds - 1) * error
        alone = stats.t.ppf(1 - rate / (started - 1), seeds - 1) * error
        margins[name] = max(wide, own) if seeds == 2 else min(max(wide, own), alone)
    return leader, margins


@pytest.mark.parametrize("seeds", [2, 3, 7])
@pytest.mark.parametrize("running", [(True,) * 5, (True, False, True, True, False)])
def test_margins_are_those_of_scipy(seeds, running):
    rng = np.random.default_rng(4)
    running = np.array(running)
    for _ in range(20):
        accuracy = np.round(rng.normal(0.8, 0.05, (seeds, 1)) + rng.normal(0, 0.01 * np.arange(1, 6), (seeds, 5)), 3)
        leader, margins = reference(accuracy, running, 200)
        given = np.where(running, accuracy, np.nan)
        found = look(given, running, samples=200, alpha=ALPHA)
        assert found.leader == leader
        assert found.margin[running] == pytest.approx(margins[running])
        behind = accuracy[:, leader].mean() - accuracy.mean(0)
        assert found.behind[running] == pytest.approx(behind[running])
        assert (found.stopped == (running & (behind > np.nan_to_num(margins, nan=np.inf)))).all()


def test_alone_serves_a_steady_pair_beside_a_run_that_diverged():
    accuracy = np.tile([0.90, 0.70, 0.85], (8, 1)) + np.random.default_rng(5).normal(0, 0.002, (8, 3))
    accuracy[0, 2] = 0.1
    assert look(accuracy, samples=10_000).stopped.tolist() == [False, True, False]


def test_differences_within_one_sample_stop_nobody():
    accuracy = np.tile([0.90, 0.89], (3, 1))
    assert not look(accuracy, samples=100).stopped.any()
    assert look(np.tile([0.90, 0.70], (3, 1)), samples=100).stopped.tolist() == [False, True]


def test_the_last_one_runs_on():
    found = look(np.tile([0.5, 0.9], (2, 1)), np.array([True, False]), samples=100)
    assert not found.stopped.any()
    assert np.isinf(found.margin).all()


def test_a_leading_axis_holds_many_races():
    accuracy = simulate(Scenario(mean=half_behind(8.0)), activations=6, rng=np.random.default_rng(6), races=30, seeds=4)
    together = look(accuracy, samples=300)
    alone = [look(each, samples=300) for each in accuracy]
    assert (together.stopped == [each.stopped for each in alone]).all()
    assert together.margin == pytest.approx(np.array([each.margin for each in alone]))


def test_refusals():
    with pytest.raises(InvalidValueError, match="at least 2"):
        look(np.zeros((1, 3)), samples=10)
    with pytest.raises(InvalidValueError, match="at least one activation"):
        look(np.zeros((2, 3)), np.zeros(3, dtype=bool), samples=10)
