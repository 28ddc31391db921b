"""Runs a race: seed by seed, the activations of a study that are worse beyond doubt on validation stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robustcheck.analysis.racing import Look, look
from robustcheck.errors import ModelError
from robustcheck.study import runner
from robustcheck.study.cells import Cell, LoadedStudy
from robustcheck.study.store import Store

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Stop:
    """An activation that left the race.

    Attributes:
        activation: canonical spec.
        seeds: how many of its networks had been trained.
        leader: the best one then; empty where the activation failed.
        behind: how far its mean accuracy on validation was behind the leader's.
        margin: how far it could have been without stopping.
        reason: what went wrong, where a network could not be trained; else empty.
    """

    activation: str
    seeds: int
    leader: str
    behind: float
    margin: float
    reason: str = ""


@dataclass(frozen=True)
class Steps:
    """Optimiser steps: of the trials of learning rates, and of the networks that are compared."""

    trials: int
    networks: int

    @property
    def total(self) -> int:
        """Both together."""
        return self.trials + self.networks


@dataclass(frozen=True)
class Race:
    """A race that was run.

    Attributes:
        outcome: of the last stage: the activations that ran to its end, and the model's own.
        current: the model's own activation, which goes on as the reference when it has stopped.
        validation: `(seeds,)` accuracies under noise, in the order of the seeds, of each activation that started.
        clean: the same without noise.
        survivors: those that never stopped, the best mean first.
        stops: the others, in the order in which they stopped.
        seeds: networks that each survivor has.
        alpha: error rate of the whole race.
        steps: that the race took.
        full: that the full grid would have taken, with the same trials.
        margin: how far the mean of the model's own activation would have had to be behind the best other survivor's to
            be stopped at the last look; None where it was stopped, or is alone.
    """

    outcome: runner.Outcome
    current: str
    validation: dict[str, tuple[float, ...]]
    clean: dict[str, tuple[float, ...]]
    survivors: tuple[str, ...]
    stops: tuple[Stop, ...]
    seeds: int
    alpha: float
    steps: Steps
    full: Steps
    margin: float | None = None

    @property
    def current_leads(self) -> bool:
        """Whether the model's own activation is among the survivors."""
        return self.current in self.survivors

    @property
    def saved(self) -> float:
        """The share of the full grid's steps that was not needed."""
        return 1 - self.steps.total / self.full.total


OnLook = Callable[[int, Sequence[Stop], Sequence[str]], None]
"""Told after each look: the seeds so far, who stopped there, who still runs."""


def run_race(
    loaded: LoadedStudy,
    store: Store,
    *,
    alpha: float,
    jobs: int = 1,
    progress: runner.OnProgress = lambda _: None,
    on_look: OnLook = lambda *_: None,
) -> Race:
    """Train the study's activations seed by seed, and stop those that are already worse beyond doubt.

    Only validation accuracies are read. Cells that the store holds are not made again, so that an interrupted race ends
    as an undisturbed one. The race ends early where nobody but the model's own activation is left.

    Args:
        loaded: a study of one model behind one sensor, its networks trained, for at least 2 seeds.
        store: where the cells go.
        alpha: chance that the truly best activation is stopped, over all looks; see `analysis.racing`.
        jobs: worker processes.
        progress: as in `study.runner.run`.
        on_look: is told what each look decided.

    Raises:
        ModelError: a network with the model's own activation could not be trained.
    """
    (current,) = loaded.current
    assert current is not None
    started, most = loaded.activations, loaded.study.seeds
    table = _Table(started, most)
    running = np.ones(len(started), dtype=bool)
    stops: list[Stop] = []
    networks = 0
    for seeds in range(2, most + 1):
        kept = tuple(spec for spec, runs in zip(started, running, strict=True) if runs or spec == current)
        outcome = _run(loaded, store, kept, seeds, jobs, progress)
        networks += len(kept) * (2 if seeds == 2 else 1)
        failures = _failures(outcome, current)
        table.read(outcome, store, failures)
        running &= np.array([spec not in failures for spec in started])
        found = look(table.noisy[:seeds], running, samples=len(loaded.data.validation), alpha=alpha)
        here = [Stop(spec, seeds, "", 0.0, 0.0, failures[spec]) for spec in started if spec in failures]
        here += _stopped(started, found, seeds)
        running &= ~found.stopped
        stops += here
        on_look(seeds, here, [spec for spec, runs in zip(started, running, strict=True) if runs])
        if [spec for spec, runs in zip(started, running, strict=True) if runs] == [current]:
            break
    mean = table.noisy[:seeds].mean(axis=0)
    order = sorted(np.flatnonzero(running).tolist(), key=lambda index: -mean[index])
    policy = loaded.study.training
    trials = len(started) * len(policy.learning_rates) * policy.tuning_seeds if len(policy.learning_rates) > 1 else 0
    short = trials * steps_of(loaded, loaded.policy("tune").epochs)
    one = steps_of(loaded, policy.epochs)
    return Race(
        outcome=outcome,
        current=current,
        validation=table.columns(table.noisy),
        clean=table.columns(table.clean),
        survivors=tuple(started[index] for index in order),
        stops=tuple(stops),
        seeds=seeds,
        alpha=alpha,
        steps=Steps(short, networks * one),
        full=Steps(short, len(started) * most * one),
        margin=_margin(found, order, started.index(current)),
    )


def steps_of(loaded: LoadedStudy, epochs: int) -> int:
    """Optimiser steps of so many epochs."""
    return epochs * max(1, len(loaded.data.train) // loaded.study.training.batch_size)


class _Table:
    """Validation accuracies, (seeds, activations), with noise and without; NaN where no network was trained."""

    def __init__(self, activations: Sequence[str], seeds: int) -> None:
        self.activations = activations
        self.noisy: Array = np.full((seeds, len(activations)), np.nan)
        self.clean: Array = np.full((seeds, len(activations)), np.nan)

    def read(self, outcome: runner.Outcome, store: Store, failures: dict[str, str]) -> None:
        """Take over what the store holds of the cells of an outcome."""
        for cell in outcome.cells:
            if cell.contestant.activation in failures:
                continue
            record = store.training(outcome.loaded.hash(cell))
            place = cell.seed, self.activations.index(cell.contestant.activation)
            self.noisy[place] = record.validation_accuracy
            self.clean[place] = record.clean_validation_accuracy

    def columns(self, values: Array) -> dict[str, tuple[float, ...]]:
        """What there is of each activation."""
        return {
            spec: tuple(values[np.isfinite(values[:, index]), index].tolist())
            for index, spec in enumerate(self.activations)
        }


def _run(
    loaded: LoadedStudy,
    store: Store,
    activations: tuple[str, ...],
    seeds: int,
    jobs: int,
    progress: runner.OnProgress,
) -> runner.Outcome:
    study = loaded.study.model_copy(update={"activations": activations, "seeds": seeds})
    replaced = tuple({spec: paths[spec] for spec in activations} for paths in loaded.replaced)
    part = replace(loaded, study=study, activations=activations, replaced=replaced)
    stage = "seeds 1 and 2" if seeds == 2 else f"seed {seeds}"
    return runner.run(
        part,
        store,
        jobs=jobs,
        progress=lambda now: progress(replace(now, stage=stage) if now.stage == "networks" else now),
    )


def _failures(outcome: runner.Outcome, current: str) -> dict[str, str]:
    """What went wrong with each activation of which a network could not be trained."""
    found: dict[str, str] = {}
    for failure in outcome.failures:
        cell: Cell = failure.cell
        found.setdefault(cell.contestant.activation, f"{cell.label}: {failure.error}")
    if current in found:
        raise ModelError(
            f"{current}: expected the model's own activation to be trained, with which the others are compared, got "
            f"{found[current]}"
        )
    return found


def _margin(found: Look, survivors: Sequence[int], own: int) -> float | None:
    """How far the own mean may be behind that of the best other survivor, at the last look."""
    others = [index for index in survivors if index != own]
    if own not in survivors or not others:
        return None
    # A margin is that of a pair with the leader, either way round; where the own one leads, the next best has it.
    return float(found.margin[others[0] if found.leader == own else own])


def _stopped(activations: Sequence[str], found: Look, seeds: int) -> list[Stop]:
    leader = activations[int(found.leader)]
    return [
        Stop(activations[index], seeds, leader, float(found.behind[index]), float(found.margin[index]))
        for index in np.flatnonzero(found.stopped).tolist()
    ]
