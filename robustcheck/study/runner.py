"""Runs the cells that the store lacks, in this process or in spawned workers of one thread each."""

from __future__ import annotations

import math
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from robustcheck.networks.loading import Model, initialise
from robustcheck.networks.saving import swapped_model
from robustcheck.networks.surgery import swap_activation
from robustcheck.sensing.analog import NoisyNetwork
from robustcheck.sensing.analog_layer import Scales
from robustcheck.sensing.channel import Channel
from robustcheck.sensing.kernels import cpu
from robustcheck.sensing.random import derived_seed
from robustcheck.study.cells import (
    AS_IS,
    SITE,
    Cell,
    Contestant,
    LoadedStudy,
    contestants,
    noisiest,
    points,
    ranking_cells,
    tuning_cells,
)
from robustcheck.study.evaluation import evaluate_network, evaluated_network, ranges
from robustcheck.study.handover import Handover, hand_over
from robustcheck.study.pool import Ended, Lost, Pool, Started, in_one_line
from robustcheck.study.schedule import Costs, Schedule
from robustcheck.study.store import CellResult, Prediction, Store, TrainingRecord
from robustcheck.study.training import Trained, train, validation_accuracy

PACKAGES = ("robustcheck", "torch", "torchvision", "onnx", "onnxruntime", "numpy", "numba", "scipy", "albumentations")


@dataclass(frozen=True)
class Progress:
    """How far a run is; passed to the `progress` callback when a stage begins, and when a cell begins or ends.

    Attributes:
        stage: of the run.
        done: cells of the stage that are in the store, or failed.
        total: cells of the stage.
        running: cells under way.
        failed: cells that could not be finished.
        lost: cells whose worker died, and that are tried once more.
        label: the cell that began or ended; empty when the stage begins.
        seconds_left: until the whole run is done, the stages to come included; None while nothing tells.
    """

    stage: str
    done: int
    total: int
    running: int
    failed: int
    label: str
    seconds_left: float | None = None
    lost: int = 0


@dataclass(frozen=True)
class FailedCell:
    """A cell that could not be finished, and why."""

    hash: str
    cell: Cell
    error: str


@dataclass(frozen=True)
class Choice:
    """The learning rate chosen for one contestant, and the trials (rate, validation accuracy) behind it."""

    contestant: Contestant
    trials: tuple[tuple[float, float], ...]
    rate: float


@dataclass(frozen=True)
class Outcome:
    """A study that was run: its cells are in the store, but for those that failed."""

    loaded: LoadedStudy
    cells: tuple[Cell, ...]
    choices: tuple[Choice, ...]
    failures: tuple[FailedCell, ...]


OnProgress = Callable[[Progress], None]
Event = Started[Cell] | Lost[Cell] | Ended[Cell, CellResult]
Execute = Callable[[Schedule], Iterator[Event]]


def run(loaded: LoadedStudy, store: Store, *, jobs: int = 1, progress: OnProgress = lambda _: None) -> Outcome:
    """Tune the learning rates, then train and evaluate every network; cells that the store holds are not run again.

    Args:
        loaded: from `load_study`.
        store: where finished cells go; only this process writes.
        jobs: worker processes of one thread each, to which the longest cells are given first; 1 runs the cells in
            this process, in the report's order. A cell whose worker dies is tried once more, and then is a failure.
        progress: called when a cell begins or ends.

    Raises:
        StoreError: a result cannot be stored.
        WorkerError: a worker process cannot start.
    """
    tuning = tuning_cells(loaded)
    stage = "networks" if loaded.study.training.mode != "none" else "evaluation"
    with _executor(loaded, jobs) as execute:
        runner = _Runner(loaded, store, jobs, execute, progress, Costs(loaded))
        failures = runner.run_missing(tuning, "learning rates", later=ranking_cells(loaded, {}))
        choices = _choose(loaded, tuning, store, {failure.hash for failure in failures})
        cells = ranking_cells(loaded, {choice.contestant: choice.rate for choice in choices})
        failures += runner.run_missing(cells, stage)
    return Outcome(loaded, cells, choices, tuple(failures))


def run_cell(loaded: LoadedStudy, cell: Cell) -> CellResult:
    """Make one cell: initialise or load, swap, train, evaluate. Uses one thread."""
    started = time.time()
    with one_thread():
        trained = train_cell(loaded, cell)
        record = _record(loaded, cell, trained)
        predictions = {} if cell.purpose == "tune" else _evaluate(loaded, cell, trained)
    made_with = versions() | {"device": _device_name(loaded.device)}
    environment = {"seconds": round(time.time() - started, 3), "finished": time.time(), "versions": made_with}
    return CellResult(record, predictions, environment)


def train_cell(loaded: LoadedStudy, cell: Cell) -> Trained:
    """A cell's network, made anew: on one machine type with one package set, the same to the bit each time."""
    with one_thread():
        model, who = _contestant(loaded, cell), cell.contestant
        if not who.train_points:
            return _untrained(loaded, cell, model)
        data, sensor, policy = loaded.data, loaded.sensors[who.sensor], loaded.policy(cell.purpose)
        rate, seed, device = cell.learning_rate or 0.0, cell.seed, loaded.device
        return train(model, data, sensor, who.train_points, policy=policy, learning_rate=rate, seed=seed, device=device)


def versions() -> dict[str, str]:
    """Versions of all that may change a number, and the machine type."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def above_chance(accuracy: float, chance: float, samples: int) -> bool:
    """Whether a network learned anything: beyond chance by three binomial standard errors.

    >>> above_chance(0.12, 0.1, 360), above_chance(0.3, 0.1, 360)
    (False, True)
    """
    return accuracy > chance + 3 * math.sqrt(chance * (1 - chance) / samples)


def _contestant(loaded: LoadedStudy, cell: Cell) -> Model:
    model = loaded.models[cell.contestant.model]
    if loaded.study.training.mode == "scratch" and cell.contestant.train_points:
        model = initialise(model, derived_seed(cell.seed, "initialise"))
    if cell.contestant.activation == AS_IS:
        return model
    return swapped_model(model, swap_activation(model, cell.contestant.activation))


def _untrained(loaded: LoadedStudy, cell: Cell, model: Model) -> Trained:
    sensor = loaded.sensors[cell.contestant.sensor]
    noisy = NoisyNetwork(model.network.to(loaded.device), model.input.normalise, sensor.placement)
    scales = ranges(noisy, loaded.data, Channel(sensor, None), loaded.device)
    if cell.contestant.activation == AS_IS:
        return Trained(model, scales, (), (), None)
    channels = tuple(Channel(sensor, point, cell.seed, "validation") for point in cell.contestant.eval_points)
    accuracy = validation_accuracy(noisy, loaded.data, channels, scales, loaded.device)
    return Trained(model, scales, (), (accuracy,), 0)


def _evaluate(loaded: LoadedStudy, cell: Cell, trained: Trained) -> dict[str, Prediction]:
    sensor = loaded.sensors[cell.contestant.sensor]
    audited = cell.contestant.activation == AS_IS
    network = trained.model.network.to(loaded.device)
    if audited:
        network = evaluated_network(trained.model, sensor.placement, loaded.device)
    noisy = NoisyNetwork(network, trained.model.input.normalise, sensor.placement)
    found = {}
    for name, point in points(cell.contestant).items():
        channel = None if name == "clean" else Channel(sensor, point, cell.seed)
        evaluation = evaluate_network(
            noisy,
            loaded.data.test,
            channel,
            draws=loaded.study.draws,
            precision=loaded.study.precision,
            scales=trained.scales,
            device=loaded.device,
        )
        found[name] = Prediction(evaluation.predicted, evaluation.probability)
    if loaded.looks_at_sites(cell):
        found |= _at_sites(loaded, cell, noisy, trained.scales)
    return found


def _at_sites(loaded: LoadedStudy, cell: Cell, noisy: NoisyNetwork, scales: Scales) -> dict[str, Prediction]:
    """What the network says with noise at one site alone, at its noisiest operating point."""
    sensor = loaded.sensors[cell.contestant.sensor]
    channel = Channel(sensor, noisiest(cell.contestant, sensor), cell.seed)
    found = {}
    for site in noisy.sites:
        with noisy.noise_only(site):
            evaluation = evaluate_network(
                noisy, loaded.data.test, channel, draws=loaded.study.draws, scales=scales, device=loaded.device
            )
        found[f"{SITE}{site}"] = Prediction(evaluation.predicted, evaluation.probability)
    return found


def _record(loaded: LoadedStudy, cell: Cell, trained: Trained) -> TrainingRecord:
    accuracy = None if cell.contestant.activation == AS_IS else trained.validation_accuracy
    labels = loaded.data.validation.labels
    chance = float(labels.bincount().max()) / len(labels)
    finite = all(math.isfinite(loss) for loss in trained.train_loss)
    return TrainingRecord(
        learning_rate=cell.learning_rate,
        epochs=len(trained.train_loss),
        best_epoch=trained.best_epoch,
        validation_accuracy=accuracy,
        converged=accuracy is None or (finite and above_chance(accuracy, chance, len(labels))),
        train_loss=tuple(loss if math.isfinite(loss) else None for loss in trained.train_loss),
        validation_curve=trained.validation_curve,
        clean_validation_accuracy=_clean_validation(loaded, cell, trained),
    )


def _clean_validation(loaded: LoadedStudy, cell: Cell, trained: Trained) -> float | None:
    if cell.purpose == "tune" or not cell.contestant.train_points:
        return None
    noisy = NoisyNetwork(trained.model.network.to(loaded.device), trained.model.input.normalise, "sensor")
    return validation_accuracy(noisy, loaded.data, (None,), {}, loaded.device)


def _choose(loaded: LoadedStudy, trials: tuple[Cell, ...], store: Store, failed: set[str]) -> tuple[Choice, ...]:
    """The rate with the best mean validation accuracy for each contestant; the smaller of two that tie."""
    if loaded.study.training.mode == "none":
        return ()
    if not trials:
        (rate,) = loaded.study.training.learning_rates
        return tuple(Choice(contestant, (), rate) for contestant in contestants(loaded))
    found: dict[Contestant, dict[float, list[float]]] = {}
    for cell in trials:
        hash = loaded.hash(cell)
        accuracy = 0.0 if hash in failed else store.training(hash).validation_accuracy or 0.0
        found.setdefault(cell.contestant, {}).setdefault(cell.learning_rate or 0.0, []).append(accuracy)
    choices = []
    for contestant, tried in found.items():
        means = tuple((rate, float(np.mean(accuracies))) for rate, accuracies in sorted(tried.items()))
        best = max(accuracy for _, accuracy in means)
        choices.append(Choice(contestant, means, next(rate for rate, accuracy in means if accuracy == best)))
    return tuple(choices)


@dataclass(frozen=True)
class _Runner:
    """Makes the cells of one stage after the other, and says how far it is."""

    loaded: LoadedStudy
    store: Store
    jobs: int
    execute: Execute
    progress: OnProgress
    costs: Costs

    def run_missing(self, cells: tuple[Cell, ...], stage: str, later: tuple[Cell, ...] = ()) -> list[FailedCell]:
        """Make those of the cells that the store lacks; `later` are those of the stage to come."""
        hashes = {cell: self.loaded.hash(cell) for cell in cells}
        held = self.store.held(hashes.values())
        missing = [cell for cell in cells if hashes[cell] not in held]
        if not missing:
            return []
        for cell in cells:
            if hashes[cell] in held:
                self.costs.saw(cell, self.store.environment(hashes[cell])["seconds"])
        schedule = Schedule(missing, self.costs, longest_first=self.jobs > 1)
        after = Schedule(later, self.costs)
        begun: dict[Cell, float] = {}
        failed: dict[Cell, str] = {}
        done, lost = len(cells) - len(missing), 0

        def tell(label: str) -> None:
            now = time.monotonic()
            left = schedule.seconds_left({cell: now - since for cell, since in begun.items()}, self.jobs, after)
            self.progress(Progress(stage, done, len(cells), len(begun), len(failed), label, left, lost))

        tell("")
        for event in self.execute(schedule):
            if isinstance(event, Started):
                begun[event.task] = time.monotonic()
            else:
                del begun[event.task]
            lost += isinstance(event, Lost)
            if isinstance(event, Ended):
                done += 1
                if isinstance(event.result, CellResult):
                    self.store.put(hashes[event.task], asdict(event.task), event.result)
                    self.costs.saw(event.task, event.result.environment["seconds"])
                else:
                    failed[event.task] = event.result
            tell(event.task.label)
        # In the report's order, whichever ended first.
        return [FailedCell(hashes[cell], cell, failed[cell]) for cell in missing if cell in failed]


@contextmanager
def _executor(loaded: LoadedStudy, jobs: int) -> Iterator[Execute]:
    """Runs cells here, or in workers that start with the first cell and serve every stage."""
    if jobs == 1:
        yield lambda schedule: _here(loaded, schedule)
        return
    with ExitStack() as stack:
        pool: Pool[Cell, CellResult] | None = None

        def execute(schedule: Schedule) -> Iterator[Event]:
            nonlocal pool
            if pool is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="robustcheck-")))
                start = partial(_start_worker, hand_over(loaded, folder))
                pool = stack.enter_context(Pool(jobs, start, folder))
            return pool.run(schedule)

        yield execute


def _here(loaded: LoadedStudy, schedule: Schedule) -> Iterator[Event]:
    while len(schedule):
        cell = schedule.take()
        yield Started(cell)
        yield Ended(cell, _attempt(loaded, cell))


def _start_worker(handover: Handover) -> Callable[[Cell], CellResult]:
    return partial(run_cell, handover.open())


def _attempt(loaded: LoadedStudy, cell: Cell) -> CellResult | str:
    """The cell's result, or what went wrong in one line: one bad cell does not end a study."""
    try:
        return run_cell(loaded, cell)
    except Exception as error:  # a user's own network may raise anything
        return in_one_line(error)


@contextmanager
def one_thread() -> Iterator[None]:
    """On a CPU the last bit of a convolution depends on the number of threads, so a cell always has one."""
    before = torch.get_num_threads()
    # The loop's threads come first: when they start they set OpenMP's number of threads, which torch's libraries obey.
    kernel_before = cpu.set_threads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        cpu.set_threads(kernel_before)


def environments(store: Store, hashes: Iterable[str]) -> list[dict[str, object]]:
    """The distinct version sets that made these cells; more than one means that a study was resumed elsewhere."""
    found: dict[str, dict[str, object]] = {}
    for hash in hashes:
        made = store.environment(hash)["versions"]
        found[str(sorted(made.items()))] = made
    return list(found.values())
