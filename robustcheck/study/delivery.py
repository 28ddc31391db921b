"""Trains one swapped model for use: the learning rate is chosen on validation, the test split is used once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from robustcheck.data.datasets import Dataset
from robustcheck.networks.loading import Model, initialise
from robustcheck.sensing.channel import Channel
from robustcheck.sensing.operating_point import OperatingPoint
from robustcheck.sensing.random import derived_seed
from robustcheck.sensing.sensor import Sensor
from robustcheck.study.evaluation import Evaluation, evaluate
from robustcheck.study.plan import TrainingPolicy
from robustcheck.study.runner import one_thread
from robustcheck.study.training import Trained, train


@dataclass(frozen=True)
class Delivered:
    """A trained model, the rate it was trained at, and what each rate gave on validation."""

    trained: Trained
    rate: float
    trials: tuple[tuple[float, float], ...]


def train_for_use(
    model: Model,
    data: Dataset,
    sensor: Sensor | None,
    points: Sequence[OperatingPoint],
    *,
    policy: TrainingPolicy,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[str], None] = lambda _: None,
) -> Delivered:
    """Train a copy of the model at each learning rate of the policy; the one that is best on validation is kept.

    Args:
        model: swapped or not; unchanged. Mode `scratch` gives it new random weights first.
        data: from `load_data`.
        sensor: None trains on clean images.
        points: operating points that training mixes; empty with no sensor.
        policy: mode, epochs, batch size, optimizer, learning rates.
        seed: of weights, order and noise.
        device: where to train.
        progress: is told what begins.

    Returns:
        The best, the first of several that tie.
    """
    found: list[tuple[float, Trained]] = []
    with one_thread():
        start = initialise(model, derived_seed(seed, "initialise")) if policy.mode == "scratch" else model
        for rate in sorted(policy.learning_rates):
            progress(f"training, learning rate {rate:g}, {policy.epochs} epoch{'s' if policy.epochs > 1 else ''}")
            trained = train(start, data, sensor, points, policy=policy, learning_rate=rate, seed=seed, device=device)
            found.append((rate, trained))
    rate, best = max(found, key=lambda each: each[1].validation_accuracy)
    return Delivered(best, rate, tuple((each, trained.validation_accuracy) for each, trained in found))


def evaluations(
    model: Model,
    data: Dataset,
    sensor: Sensor | None,
    points: Sequence[OperatingPoint],
    draws: int,
    precision: float | None = None,
) -> dict[str, Evaluation]:
    """On the test split: clean, and at each operating point (`ep=0.5`); as `evaluate` takes draws."""
    with one_thread():
        found = {"clean": evaluate(model, data)}
        for point in points if sensor is not None else ():
            assert sensor is not None
            found[point.name] = evaluate(model, data, Channel(sensor, point), draws=draws, precision=precision)
    return found
