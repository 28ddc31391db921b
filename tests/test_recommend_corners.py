"""Races on made-up accuracies, where every margin is known by hand; what choices, gains and pictures are made from."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from robustcheck.recommend import race as racing
from robustcheck.recommend.choice import choose
from robustcheck.recommend.estimate import gains
from robustcheck.recommend.race import Race, Steps, run_race
from robustcheck.reporting import evidence
from robustcheck.study.plan import TrainingPolicy

VALIDATION = 400
SEEDS = 4


class Raced:
    """Runs a race whose networks have given accuracies, (seeds, activations), and notes who was trained to where."""

    def __init__(self, monkeypatch, current, noisy, clean=None, *, alpha=0.05, rates=(0.01,), tuning_seeds=1):
        self.trained = []
        self.noisy = noisy
        self.clean = {name: [0.99 - 0.01 * seed for seed in range(SEEDS)] for name in noisy} if clean is None else clean
        policy = TrainingPolicy(
            epochs=6, batch_size=10, learning_rates=rates, tuning_seeds=tuning_seeds, train_ep="mixed"
        )
        loaded = SimpleNamespace(
            current=(current,),
            activations=tuple(noisy),
            study=SimpleNamespace(seeds=SEEDS, training=policy),
            data=SimpleNamespace(train=range(100), validation=range(VALIDATION)),
            policy=lambda _: policy.model_copy(update={"epochs": 2}),
            hash=lambda cell: cell,
        )
        monkeypatch.setattr(racing, "_run", self.run)
        self.found = run_race(loaded, SimpleNamespace(training=self.record), alpha=alpha)

    def run(self, loaded, _store, activations, seeds, *_):
        self.trained.append((seeds, activations))
        cells = [
            SimpleNamespace(contestant=SimpleNamespace(activation=name), seed=seed)
            for name in activations
            for seed in range(seeds)
        ]
        return SimpleNamespace(cells=cells, failures=(), loaded=loaded)

    def record(self, cell):
        name, seed = cell.contestant.activation, cell.seed
        return SimpleNamespace(
            validation_accuracy=self.noisy[name][seed], clean_validation_accuracy=self.clean[name][seed]
        )


def test_who_stops_stays_out_and_the_model_s_own_goes_on(monkeypatch):
    """After two seeds relu and tanh are far behind; silu leads there, and gelu in the end."""
    noisy = {
        "relu": (0.5, 0.5, 0.99, 0.99),
        "gelu": (0.90, 0.90, 0.92, 0.92),
        "tanh": (0.4, 0.4, 0.4, 0.4),
        "silu": (0.905, 0.905, 0.90, 0.90),
    }
    raced = Raced(monkeypatch, "relu", noisy)
    found = raced.found
    assert raced.trained == [(2, tuple(noisy)), (3, ("relu", "gelu", "silu")), (4, ("relu", "gelu", "silu"))]
    assert [(stop.activation, stop.seeds, stop.leader) for stop in found.stops] == [
        ("relu", 2, "silu"),
        ("tanh", 2, "silu"),
    ]
    assert found.survivors == ("gelu", "silu")
    assert not found.current_leads
    assert found.validation == {**noisy, "tanh": noisy["tanh"][:2]}
    assert found.clean["gelu"] == pytest.approx((0.99, 0.98, 0.97, 0.96))
    assert found.steps == Steps(0, (4 * 2 + 3 + 3) * 6 * 10)
    assert found.full == Steps(0, 4 * 4 * 6 * 10)


def test_a_race_that_ends_early_is_compared_with_the_whole_grid(monkeypatch):
    noisy = {"relu": (0.9,) * SEEDS, "gelu": (0.5,) * SEEDS, "silu": (0.4,) * SEEDS}
    found = Raced(monkeypatch, "relu", noisy).found
    assert (found.seeds, found.survivors, found.margin) == (2, ("relu",), None)
    assert (found.steps.networks, found.full.networks) == (3 * 2 * 60, 3 * SEEDS * 60)
    assert found.saved == 0.5


def test_trials_are_those_of_each_rate_and_tuning_seed(monkeypatch):
    noisy = {"relu": (0.9,) * SEEDS, "gelu": (0.9,) * SEEDS}
    found = Raced(monkeypatch, "relu", noisy, rates=(0.01, 0.02, 0.03), tuning_seeds=2).found
    assert found.steps.trials == found.full.trials == 2 * 3 * 2 * 2 * 10


@pytest.mark.parametrize(("alpha", "seeds"), [(0.05, 2), (0.01, 3)])
def test_a_difference_that_never_varies_has_the_margin_of_one_validation_sample(monkeypatch, alpha, seeds):
    noisy = {"relu": (0.87,) * SEEDS, "gelu": (0.90,) * SEEDS}
    (stop,) = Raced(monkeypatch, "relu", noisy, alpha=alpha).found.stops
    rate = alpha / (seeds * (seeds - 1))
    assert (stop.activation, stop.seeds) == ("relu", seeds)
    assert stop.margin == pytest.approx(stats.t.isf(rate, seeds - 1) / VALIDATION / seeds**0.5)


def test_an_option_is_told_by_what_it_does_with_and_without_noise():
    noisy, clean = (0.7, 0.72, 0.71), (0.9, 0.93, 0.91)
    race = Race(
        outcome=None, current="relu", validation={"relu": (0.5,) * 3, "gelu": noisy},
        clean={"relu": clean, "gelu": clean}, survivors=("gelu",), stops=(), seeds=3, alpha=0.05,
        steps=Steps(0, 1), full=Steps(0, 2),
    )  # fmt: skip
    option, own = choose(race, {}, {"relu": 10, "gelu": 10}, samples=1000).options
    assert (option.activation, own.activation) == ("gelu", "relu")
    assert (option.noisy, option.clean, own.noisy) == pytest.approx((np.mean(noisy), np.mean(clean), 0.5))
    # The clean accuracies' pair is judged at the race's rate.
    better = replace(race, clean={"relu": (0.93, 0.95, 0.94), "gelu": (0.92, 0.93, 0.92)})
    p = stats.ttest_rel(better.clean["relu"], better.clean["gelu"]).pvalue
    for alpha, verdict in ((1.1 * p, "trade-off"), (0.9 * p, "winner")):
        chosen = choose(replace(better, alpha=alpha), {}, {"relu": 10, "gelu": 10}, samples=1000)
        assert chosen.verdict == verdict


def test_a_gain_is_a_paired_t_interval_at_its_share_of_alpha(compare_report):
    candidates = 4
    (result,) = compare_report.results
    chosen, current = (each.spec for each in compare_report.activations[:2])
    found = {gain.point: gain for gain in gains(compare_report, chosen, current, candidates=candidates)}
    assert list(found) == [*(each.point.label for each in result.points), "area"]
    for point, comparison in [*((each.point.label, each.comparison) for each in result.points), ("area", result.area)]:
        one, other = (
            np.array(next(row.per_seed for row in comparison.rows if row.activation == name))
            for name in (chosen, current)
        )
        interval = stats.ttest_rel(one, other).confidence_interval(1 - 0.05 / (candidates - 1))
        gain = found[point]
        assert (gain.chosen, gain.current) == pytest.approx((one.mean(), other.mean()))
        assert (gain.difference, gain.lower, gain.upper) == pytest.approx(
            (one.mean() - other.mean(), interval.low, interval.high), abs=1e-9
        )


@pytest.fixture
def made_points(monkeypatch):
    """Cells whose operating points are given, by name; what is noisy is called by a number."""

    def cells(*names_of_each):
        monkeypatch.setattr(
            evidence, "points", lambda names: {name: SimpleNamespace(noisy=name.isdigit()) for name in names}
        )
        return [SimpleNamespace(contestant=names) for names in names_of_each]

    return cells


@pytest.mark.parametrize(
    ("count", "shown"), [(1, "0"), (3, "0 1 2"), (7, "0 1 2 3 4 5 6"), (9, "0 1 3 4 5 7 8"), (13, "0 2 4 6 8 10 12")]
)
def test_pictures_are_of_seven_points_from_the_mildest_to_the_harshest(made_points, count, shown):
    cells = made_points(["clean", "quantised", *map(str, range(count))])
    assert [name for _, name, _ in evidence._shown_points(cells)] == ["clean", *shown.split()]


def test_clean_is_shown_once_where_each_point_has_its_own_network(made_points):
    one, other = cells = made_points(["clean", "0"], ["clean", "1"])
    assert [(cell, name) for cell, name, _ in evidence._shown_points(cells)] == [
        (one, "clean"), (one, "0"), (other, "1"),
    ]  # fmt: skip


@pytest.mark.parametrize(("current", "shown"), [("relu", "relu"), ("silu", "silu"), ("gone", "gelu")])
def test_pictures_are_what_the_model_s_own_activation_takes_them_for(monkeypatch, current, shown):
    """Its first network's, or where it is not among them, the first contestant's."""
    cells = [
        SimpleNamespace(contestant=SimpleNamespace(model=0, sensor=0, activation=name), seed=seed)
        for name in ("gelu", "relu", "silu")
        for seed in (3, 4)
    ]
    monkeypatch.setattr(evidence, "_shown_points", list)
    monkeypatch.setattr(evidence, "_examples", lambda *given: given[4])
    loaded = SimpleNamespace(current=(current,), sensors=("adc",))
    assert list(evidence.examples(loaded, None, cells)) == [
        [each for each in cells if (each.contestant.activation, each.seed) == (shown, 3)]
    ]


class Hashed(SimpleNamespace):
    """One that is a key by being itself."""

    __hash__ = object.__hash__


@pytest.fixture
def matched(monkeypatch):
    """Two networks at each of two operating points, the harsher one first; one sample in so many is taken for 1."""
    at = {"harsh": (2, 4), "mild": (10, 5)}
    cells = [
        Hashed(contestant=SimpleNamespace(model=0, sensor=0, activation="relu", point=name), seed=seed)
        for name in at
        for seed in (0, 1)
    ]
    monkeypatch.setattr(
        evidence, "points", lambda who: {"clean": None, who.point: SimpleNamespace(noisy=True, name=who.point)}
    )
    monkeypatch.setattr(evidence, "noisiest", lambda who, _: evidence.points(who)[who.point])
    sigma = {"harsh": 0.2, "mild": 0.1}
    monkeypatch.setattr(
        evidence, "Channel", lambda _, point: SimpleNamespace(reading=SimpleNamespace(sigma=sigma[point.name]))
    )
    monkeypatch.setattr(evidence, "model_key", lambda *_: "net")

    def predicted(cell, name):
        wrong = 0 if name == "clean" else 20 // at[cell.contestant.point][cell.seed]
        return SimpleNamespace(predicted=np.tile((np.arange(20) < wrong).astype(np.int32), (3, 1)))

    labels = torch.zeros(20, dtype=torch.int64)
    loaded = SimpleNamespace(
        data=SimpleNamespace(test=SimpleNamespace(labels=labels), classes=("a", "b")),
        sensors=(SimpleNamespace(key="adc"),),
        hash=lambda cell: cell,
        looks_at_sites=lambda _: True,
    )
    store = SimpleNamespace(
        prediction=predicted, points=lambda cell: ("clean", cell.contestant.point, "site=image", "site=conv")
    )
    return loaded, store, cells


def test_a_confusion_is_of_all_networks_at_its_point(matched):
    (found,) = evidence.confusions(*matched)
    assert (found.point, found.predictions) == ("harsh", 2 * 3 * 20)
    assert found.entries == ((0, 0, 3 * 25), (0, 1, 3 * 15))


def test_sites_are_looked_at_in_the_networks_of_the_noisiest_point(matched):
    (found,) = evidence.sensitivities(*matched)
    assert (found.point, found.clean, found.everywhere) == ("harsh", 1.0, 25 / 40)
    assert [(site.site, site.accuracy) for site in found.sites] == [("image", 25 / 40), ("conv", 25 / 40)]
