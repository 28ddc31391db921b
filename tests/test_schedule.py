"""The order of cells and the time left, against arithmetic."""

from dataclasses import replace

import pytest
from torch import nn

from robustcheck import Study
from robustcheck.networks.inputs import InputSpec
from robustcheck.networks.loading import Model, model_hash
from robustcheck.study.cells import contestants, load_study, ranking_cells, tuning_cells
from robustcheck.study.schedule import Costs, Schedule, operations


@pytest.fixture(scope="module")
def loaded():
    study = Study.create(
        models=[{"spec": "digits-convnet"}],
        data={"spec": "digits", "max_samples": 120},
        sensors=[{"spec": "adc-4bit"}],
        eps=[0.2, 0.5],
        activations=["gelu", "prelu"],
        seeds=2,
        draws=3,
        training={"epochs": 4, "learning_rates": [1e-3, 3e-3], "train_ep": "mixed"},
    )
    return load_study(study)


def of(cells, activation):
    return [cell for cell in cells if cell.contestant.activation == activation]


def drain(schedule):
    taken = []
    while len(schedule):
        taken.append(schedule.take())
    return taken


def test_operations_are_those_of_the_layers():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 10)).eval()
    model = Model(network, InputSpec(), None, "own", model_hash(network, InputSpec()))
    # Two for each product and its sum: 16 pixels × 8 kernels of 27 weights, then 128 × 10.
    assert operations(model, (3, 4, 4)) == 2 * (16 * 8 * 27 + 128 * 10)


class Unusual(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        raise RuntimeError("not today")


def test_parameters_stand_for_operations_that_cannot_be_counted():
    model = Model(Unusual(), InputSpec(), None, "own", "")
    assert operations(model, (1, 2, 2)) == 4 * 2 + 2


def test_work_is_the_number_of_images(loaded):
    train, validation, test = len(loaded.data.train), len(loaded.data.validation), len(loaded.data.test)
    costs = Costs(loaded)
    tune, rank = tuning_cells(loaded)[0], ranking_cells(loaded, {})[0]
    trained = 4 * (3 * train + 2 * validation)
    assert costs.kind(tune).work == trained
    assert costs.kind(rank).work == trained + test * (2 + 3 * 2)
    audit = replace(loaded, study=loaded.study.model_copy(update={"kind": "audit"}), activations=("",))
    who = replace(contestants(audit)[0], train_points=())
    assert costs.kind(replace(rank, contestant=who)).work == test * (2 + 3 * 2)


def test_a_model_with_more_operations_comes_first(loaded):
    small = loaded.models[0]
    grey = nn.Sequential(
        nn.Conv2d(1, 64, 5, padding=2), nn.Conv2d(64, 64, 5, padding=2), nn.Flatten(), nn.Linear(4096, 10)
    )
    large = replace(small, network=grey.eval())
    both = replace(loaded, models=(small, large))
    cells = ranking_cells(both, {})
    order = [cell.contestant.model for cell in drain(Schedule(cells, Costs(both)))]
    assert order == [1] * 6 + [0] * 6


def test_the_longest_come_first_as_soon_as_cells_have_told_how_long_they_take(loaded):
    cells = ranking_cells(loaded, {})
    costs = Costs(loaded)
    schedule = Schedule(cells, costs)
    # Nothing is known: equals stay in the report's order.
    assert schedule.take() == cells[0]
    costs.saw(of(cells, "prelu")[0], 8.0)
    costs.saw(of(cells, "gelu")[0], 2.0)
    assert drain(schedule) == [*of(cells, "prelu"), *of(cells, "relu")[1:], *of(cells, "gelu")]


def test_in_this_process_the_reports_order_is_kept_and_what_comes_back_is_last(loaded):
    cells = ranking_cells(loaded, {})
    costs = Costs(loaded)
    costs.saw(cells[-1], 100.0)
    costs.saw(cells[0], 1.0)
    schedule = Schedule(cells, costs, longest_first=False)
    first = schedule.take()
    schedule.put_back(first)
    assert len(schedule) == len(cells)
    assert drain(schedule) == [*cells[1:], first]


def test_seconds_are_those_of_the_activation_else_of_any(loaded):
    costs = Costs(loaded)
    tune, rank = tuning_cells(loaded), ranking_cells(loaded, {})
    assert costs.seconds(costs.kind(rank[0])) is None
    costs.saw(of(tune, "gelu")[0], 2.0)
    costs.saw(of(tune, "gelu")[1], 4.0)
    ratio = costs.kind(rank[0]).work / costs.kind(tune[0]).work
    assert costs.seconds(costs.kind(of(rank, "gelu")[0])) == pytest.approx(3.0 * ratio)
    assert costs.seconds(costs.kind(of(rank, "prelu")[0])) == pytest.approx(3.0 * ratio)
    costs.saw(of(tune, "prelu")[0], 9.0)
    assert costs.seconds(costs.kind(of(rank, "gelu")[0])) == pytest.approx(3.0 * ratio)
    assert costs.seconds(costs.kind(of(rank, "relu")[0])) == pytest.approx(5.0 * ratio)


def test_the_time_left_counts_what_runs_what_waits_and_what_is_to_come(loaded):
    costs = Costs(loaded)
    tune, rank = tuning_cells(loaded), ranking_cells(loaded, {})
    schedule, later = Schedule(tune, costs), Schedule(rank, costs)
    running = schedule.take()
    assert schedule.seconds_left({running: 1.0}, 2, later) is None
    costs.saw(tune[0], 10.0)
    a_rank = 10.0 * costs.kind(rank[0]).work / costs.kind(tune[0]).work
    assert schedule.seconds_left({running: 4.0}, 1) == pytest.approx(6.0 + 5 * 10.0)
    assert schedule.seconds_left({running: 4.0}, 2) == pytest.approx((6.0 + 5 * 10.0) / 2)
    assert schedule.seconds_left({running: 4.0}, 2, later) == pytest.approx((6.0 + 5 * 10.0 + 6 * a_rank) / 2)
    # A cell that is late takes no time away, and no number of workers is faster than one cell.
    assert schedule.seconds_left({running: 99.0}, 1) == pytest.approx(50.0)
    assert schedule.seconds_left({running: 99.0}, 64) == pytest.approx(10.0)
    assert len(drain(schedule)) == 5
    assert schedule.seconds_left({running: 4.0}, 64) == pytest.approx(6.0)
    schedule.put_back(running)
    assert schedule.seconds_left({}, 2) == pytest.approx(10.0)
