"""Races on networks of three kinds against their full grids, with every optimiser step counted."""

from dataclasses import dataclass

import pytest
from race_networks import model_choice
from race_saving import FullGrid, full_grid
from torch.optim.optimizer import register_optimizer_step_post_hook

from robustcheck import Study, load_data
from robustcheck.recommend import produce
from robustcheck.recommend.document import Recommendation
from robustcheck.recommend.latency import Latencies
from robustcheck.recommend.produce import recommend

SAMPLES, SEEDS = 600, 6
DATA = {"spec": "digits", "max_samples": SAMPLES}
EPOCHS = {"digits-convnet": 0, "depthwise": 6, "vision_transformer": 16}
"""On clean images, before the race; the shipped network has had its own."""
BAD = ("elu(alpha=20)", "elu(alpha=50)", "elu(alpha=100)", "elu(alpha=200)")
"""What is negative weighs far more than what is positive: none of the networks was made for it."""


@dataclass(frozen=True)
class Raced:
    """A race and its full grid, with the optimiser steps that were seen."""

    found: Recommendation
    grid: FullGrid
    steps: int
    added: int
    """Steps that the full grid took beside those of the race."""


@pytest.fixture(scope="module")
def steps_seen():
    """Grows by one with each optimiser step in this process."""
    seen = []
    hook = register_optimizer_step_post_hook(lambda *_: seen.append(1))
    yield seen
    hook.remove()


def race_and_grid(model, folder, named, steps_seen, *, seeds=SEEDS, **changed):
    seen_at = [len(steps_seen)]
    study = Study.create(
        models=[model],
        data=DATA,
        sensors=[{"spec": "adc-4bit"}],
        eps=[0.5],
        activations=["relu"],
        draws=1,
        seeds=seeds,
        training={"mode": "finetune", "train_ep": "mixed", "epochs": 1, "batch_size": 64, "learning_rates": [1e-3]}
        | changed,
    )
    with pytest.MonkeyPatch.context() as patch:
        # Neither is looked at here, and they take longer than the networks.
        patch.setattr(produce, "measure", lambda *_: Latencies({}, {}))
        patch.setattr(produce, "write_report", lambda *_, **__: ())
        made = recommend(study, folder, named=named, on_look=lambda *_: seen_at.append(len(steps_seen)))
    before = len(steps_seen)
    grid = full_grid(made, folder)
    return Raced(made.recommendation, grid, seen_at[-1] - seen_at[0], len(steps_seen) - before)


@pytest.fixture(scope="module", params=EPOCHS)
def raced(request, tmp_path_factory, steps_seen):
    folder = tmp_path_factory.mktemp(request.param)
    model = model_choice(request.param, load_data(**DATA), folder, epochs=EPOCHS[request.param], batch_size=16)
    return race_and_grid(model, folder, BAD, steps_seen)


def test_the_race_ends_with_the_full_grid_s_best_or_one_that_ties_with_it(raced):
    assert raced.found.race.survivors[0] in raced.grid.leaders
    assert raced.grid.best in raced.grid.leaders


def test_it_takes_at_most_half_of_the_steps_where_half_of_the_candidates_are_worse(raced):
    assert raced.found.candidates == (raced.found.current, *BAD)
    assert raced.grid.separated >= len(raced.found.candidates) / 2
    assert raced.steps <= (raced.steps + raced.added) / 2


def test_the_steps_reported_are_those_that_were_taken(raced):
    race = raced.found.race
    assert race.steps.total == raced.steps
    assert race.full_grid.total == raced.steps + raced.added
    assert race.saved == pytest.approx(1 - raced.steps / (raced.steps + raced.added))


def test_trials_of_learning_rates_count_and_a_tie_is_raced_to_the_end(tmp_path, steps_seen):
    named, tuning = ("gelu", BAD[-1]), {"learning_rates": [1e-4, 1e-5], "epochs": 2, "tuning_epochs": 1}
    raced = race_and_grid({"spec": "digits-convnet"}, tmp_path, named, steps_seen, seeds=3, **tuning)
    race, steps_an_epoch = raced.found.race, len(load_data(**DATA).train) // 64
    assert set(race.survivors) == set(raced.grid.leaders) == {"relu", "gelu"}
    assert race.survivors[0] == raced.grid.best
    assert (race.steps.trials, raced.added) == (3 * 2 * steps_an_epoch, 2 * steps_an_epoch)
    assert race.full_grid.total == race.steps.total + raced.added == raced.steps + raced.added
    assert race.saved == pytest.approx(raced.added / (raced.steps + raced.added))
