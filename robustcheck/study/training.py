"""Trains a network under a sensor's noise, and keeps the epoch that is best on validation under that noise."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from robustcheck.data.datasets import Dataset
from robustcheck.errors import InvalidValueError, UsageError
from robustcheck.networks.loading import Model, model_hash
from robustcheck.sensing.analog import NoisyNetwork
from robustcheck.sensing.analog_layer import Scales
from robustcheck.sensing.channel import Channel
from robustcheck.sensing.operating_point import OperatingPoint
from robustcheck.sensing.profile import SensorProfile
from robustcheck.sensing.random import derived_seed, permutation, random_words, stream_key, torch_seed
from robustcheck.sensing.sensor import Sensor
from robustcheck.sensing.sensor import sensor as bind
from robustcheck.study.evaluation import evaluate_network, ranges
from robustcheck.study.plan import TrainingPolicy
from robustcheck.tomlfile import parse_record

VALIDATION_DRAWS = 1
WARM_UP = 0.05


@dataclass(frozen=True)
class Trained:
    """A trained network and how it got there.

    Attributes:
        model: the model with the weights of its best epoch.
        scales: ranges of its sites, for placement `network` with calibrated ranges; else empty.
        train_loss: mean loss of each epoch; NaN or infinite where it diverged.
        validation_curve: accuracy on the validation split under the training noise, after each epoch.
        best_epoch: index of the epoch kept; None where training diverged in the first.
    """

    model: Model
    scales: Scales
    train_loss: tuple[float, ...]
    validation_curve: tuple[float, ...]
    best_epoch: int | None

    @property
    def validation_accuracy(self) -> float:
        """Of the epoch kept; 0 where none was."""
        return 0.0 if self.best_epoch is None else self.validation_curve[self.best_epoch]


def validation_accuracy(
    noisy: NoisyNetwork, data: Dataset, channels: tuple[Channel | None, ...], scales: Scales, device: str
) -> float:
    """Mean accuracy on the validation split over the channels (the EPs that a network is trained for)."""
    found = [
        evaluate_network(noisy, data.validation, channel, draws=VALIDATION_DRAWS, scales=scales, device=device).accuracy
        for channel in channels
    ]
    return float(np.mean(found))


def train(
    model: Model,
    data: Dataset,
    sensor: str | SensorProfile | Sensor | Channel | None = None,
    points: Sequence[float | OperatingPoint] = (),
    *,
    policy: TrainingPolicy | Mapping[str, Any] | None = None,
    learning_rate: float = 1e-3,
    seed: int = 0,
    device: str = "cpu",
) -> Trained:
    """Train a copy of a model on noisy training images; the given model is unchanged.

    Args:
        model: from `load_model`; its present weights are where training starts.
        data: from `load_data`.
        sensor: a profile or its name (noise at the input), or a channel from `channel`, whose sensor, placement and
            operating point are taken; None trains on clean images.
        points: operating points, or error probabilities as plain numbers; several are mixed, one drawn for each step.
        policy: epochs, batch_size, optimizer, schedule, weight_decay, patience; see `Study`'s `training`.
        learning_rate: peak learning rate.
        seed: decides the order of the samples, the noise, dropout and augmentation.
        device: where to train.

    Returns:
        The trained model and its history. A run whose loss is not finite stops there: it keeps its best epoch so far,
        or, in the first epoch, the weights that it has.

    Raises:
        InvalidValueError: a sensor without an operating point, or one out of its range.
        UsageError: a field of the policy is unknown or out of range.

    >>> from robustcheck import channel, load_data, load_model
    >>> model, data = load_model("digits-convnet"), load_data("digits", max_samples=200)
    >>> trained = train(model, data, channel("adc-2bit", ep=0.5), policy={"epochs": 1})
    >>> len(trained.validation_curve)
    1
    """
    policy = _policy(policy)
    sensor, points = _noise(sensor, points)
    network = copy.deepcopy(model.network).to(device)
    noisy = NoisyNetwork(network, model.input.normalise, "sensor" if sensor is None else sensor.placement)
    channels: tuple[Channel | None, ...] = (
        (None,) if sensor is None else tuple(Channel(sensor, point, seed, "train") for point in points)
    )
    validation = tuple(channel and replace(channel, stream="validation") for channel in channels)
    steps_an_epoch = max(1, len(data.train.labels) // policy.batch_size)
    optimizer = _optimizer(policy, network, learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _rate_factor(policy, step, policy.epochs * steps_an_epoch)
    )
    losses: list[float] = []
    curve: list[float] = []
    best: tuple[float, float] | None = None
    best_epoch: int | None = None
    kept: dict[str, torch.Tensor] = {}
    with torch_seed(derived_seed(seed, "training")):
        scales = ranges(noisy, data, channels[0], device)
        for epoch in range(policy.epochs):
            loss = _train_epoch(noisy, data, channels, scales, optimizer, schedule, epoch, steps_an_epoch, seed, device)
            losses.append(loss)
            if not (math.isfinite(loss) and _finite(network)):
                break
            scales = ranges(noisy, data, channels[0], device)
            accuracy = validation_accuracy(noisy, data, validation, scales, device)
            curve.append(accuracy)
            if best is None or (accuracy, -loss) > best:
                best, best_epoch = (accuracy, -loss), epoch
                kept = {name: value.detach().clone() for name, value in network.state_dict().items()}
            elif policy.patience and epoch - (best_epoch or 0) >= policy.patience:
                break
    if kept:
        network.load_state_dict(kept)
    network.to("cpu").eval()
    trained = replace(model, network=network, sha256=model_hash(network, model.input))
    final = NoisyNetwork(network, model.input.normalise, noisy.placement)
    return Trained(trained, ranges(final, data, channels[0]), tuple(losses), tuple(curve), best_epoch)


def _policy(given: TrainingPolicy | Mapping[str, Any] | None) -> TrainingPolicy:
    if isinstance(given, TrainingPolicy):
        return given
    try:
        return parse_record(dict(given or {}), TrainingPolicy)
    except ValueError as error:
        raise UsageError(f"policy: {error}") from error


def _noise(
    sensor: str | SensorProfile | Sensor | Channel | None, points: Sequence[float | OperatingPoint]
) -> tuple[Sensor | None, tuple[OperatingPoint, ...]]:
    """The sensor and the operating points that training is under."""
    if isinstance(sensor, Channel):
        points = points or (() if sensor.point is None else (sensor.point,))
        sensor = sensor.sensor
    if sensor is None:
        if points:
            raise InvalidValueError("points", expected="none without a sensor", got=points, remedy="name a sensor")
        return None, ()
    if not points:
        raise InvalidValueError("points", expected="at least one operating point with a sensor", got=())
    bound = sensor if isinstance(sensor, Sensor) else bind(sensor)
    return bound, tuple(each if isinstance(each, OperatingPoint) else OperatingPoint("ep", each) for each in points)


def _train_epoch(
    noisy: NoisyNetwork,
    data: Dataset,
    channels: tuple[Channel | None, ...],
    scales: Scales,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    epoch: int,
    steps_an_epoch: int,
    seed: int,
    device: str,
) -> float:
    """One pass over the training split; the mean loss, or the first that is not finite."""
    from robustcheck.data.preprocessing import augment

    noisy.train()
    order = permutation(stream_key(seed, "shuffle"), data.train.sample_ids, epoch)
    steps = torch.arange(epoch * steps_an_epoch, (epoch + 1) * steps_an_epoch)
    picks = (random_words(stream_key(seed, "mixed-ep"), steps, 0, 1)[:, 0] % len(channels)).tolist()
    total = 0.0
    for offset, rows in enumerate(order.tensor_split(steps_an_epoch)):
        step = epoch * steps_an_epoch + offset
        channel = channels[picks[offset]]
        ids = data.train.sample_ids[rows]
        images = data.train.physical(rows)
        if data.preprocessing.augments:
            seeds = random_words(stream_key(seed, "augment"), ids, step, 1)[:, 0].numpy().astype(np.uint64)
            images = augment(images, data.preprocessing, seeds)
        logits = noisy(images.to(device), ids.to(device), step, channel, scales)
        loss = nn.functional.cross_entropy(logits, data.train.labels[rows].to(device))
        value = loss.item()
        if not math.isfinite(value):
            return value
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        total += value * len(rows)
    return total / len(order)


def _finite(network: nn.Module) -> bool:
    return all(bool(torch.isfinite(parameter).all()) for parameter in network.parameters())


def _optimizer(policy: TrainingPolicy, network: nn.Module, rate: float) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if policy.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=policy.weight_decay)
    kind = torch.optim.Adam if policy.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, lr=rate, weight_decay=policy.weight_decay)


def _rate_factor(policy: TrainingPolicy, step: int, steps: int) -> float:
    """Of the peak rate: `cosine` rises linearly over the first 5 % of the steps, then falls to zero."""
    if policy.schedule == "constant":
        return 1.0
    rising = WARM_UP * steps
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / (steps - rising))))
