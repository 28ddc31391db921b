"""The cells of a study: one trained network each, evaluated; and what they need, loaded once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch

from robustcheck import content
from robustcheck.activations.catalogue import activation
from robustcheck.data.datasets import Dataset, load_data
from robustcheck.errors import UsageError
from robustcheck.networks.loading import Model, check_fit, check_on_images, load_model
from robustcheck.networks.recipes import load_recipe
from robustcheck.networks.surgery import Site, current_activation, find_sites, swap_activation
from robustcheck.sensing.analog import NoisyNetwork
from robustcheck.sensing.channel import Channel
from robustcheck.sensing.lidar_profile import LidarProfile
from robustcheck.sensing.operating_point import OperatingPoint
from robustcheck.sensing.sensor import Sensor
from robustcheck.study.plan import NUMERICS, ModelChoice, Study, TrainingPolicy, content_hash

TUNING_SEED = 2**32
"""Seeds of learning-rate trials start here, so that no trial shares a random number with a network that is ranked."""

_COMPARED = 16

AS_IS = ""
"""The activation of a cell that swaps nothing (an audit)."""


@dataclass(frozen=True)
class Contestant:
    """An activation in a model behind a sensor, and the noise that its networks are trained under.

    Attributes:
        model: index into the study's models.
        sensor: index into the study's sensors.
        activation: canonical spec, or `AS_IS`.
        train_ep: `none`, `mixed`, an EP as text, or another operating point's name.
        train_points: what is trained on, empty for `none`.
        eval_points: what is evaluated, beside clean and quantised only.
        light_matters: whether rounding depends on the operating point, as it does in a camera: its codes are those of
            the light that there is.
    """

    model: int
    sensor: int
    activation: str
    train_ep: str
    train_points: tuple[OperatingPoint, ...]
    eval_points: tuple[OperatingPoint, ...]
    light_matters: bool


@dataclass(frozen=True)
class Cell:
    """One trained network, evaluated.

    Attributes:
        purpose: `tune` tries a learning rate on validation; `rank` is evaluated on the test split.
        contestant: what is trained.
        seed: study seed.
        learning_rate: None where nothing is trained.
    """

    purpose: Literal["tune", "rank"]
    contestant: Contestant
    seed: int
    learning_rate: float | None

    @property
    def label(self) -> str:
        """For progress and errors."""
        rate = "" if self.learning_rate is None else f", lr {self.learning_rate:g}"
        seed = self.seed - TUNING_SEED if self.purpose == "tune" else self.seed
        who = self.contestant
        return f"{self.purpose} {who.activation or 'as is'}, {_at(who.train_ep)}, seed {seed}{rate}"


@dataclass(frozen=True)
class LoadedStudy:
    """A study with its models and data in memory, checked against each other."""

    study: Study
    data: Dataset
    models: tuple[Model, ...]
    sites: tuple[tuple[Site, ...], ...]
    sensors: tuple[Sensor, ...]
    activations: tuple[str, ...]
    replaced: tuple[dict[str, tuple[str, ...]], ...]
    """For each model, the paths that each activation is put at; empty for an audit."""
    device: str = "cpu"

    @cached_property
    def current(self) -> tuple[str | None, ...]:
        """The activation found in each model."""
        return tuple(map(current_activation, self.sites))

    def looks_at_sites(self, cell: Cell) -> bool:
        """Whether the cell is also evaluated with noise at one site at a time."""
        inside = self.sensors[cell.contestant.sensor].placement == "network"
        return self.study.sensitivity and cell.purpose == "rank" and inside

    def policy(self, purpose: Literal["tune", "rank"]) -> TrainingPolicy:
        """How a cell's network is trained; the trials of learning rates may have fewer epochs."""
        policy = self.study.training
        if purpose == "rank" or policy.tuning_epochs is None:
            return policy
        return policy.model_copy(update={"epochs": policy.tuning_epochs})

    def hash(self, cell: Cell) -> str:
        """Content hash of all that decides the cell's numbers, the type of the device among it."""
        who = cell.contestant
        excluded = {"learning_rates", "tuning_seeds", "tuning_epochs", "train_ep"}
        policy = self.policy(cell.purpose).model_dump(mode="json", exclude=excluded)
        # Only where it is asked for, so that cells made before it could be are still those of their study.
        precise = cell.purpose == "rank" and self.study.precision is not None
        return content_hash(
            {
                "numerics": NUMERICS,
                "device": self.device.partition(":")[0],
                "model": self.models[who.model].sha256,
                "data": self.data.sha256,
                "preprocessing": self.data.preprocessing.as_dict(),
                "sensor": self.sensors[who.sensor].as_dict(),
                "policy": policy if who.train_points else None,
                "draws": self.study.draws if cell.purpose == "rank" else None,
                "purpose": cell.purpose,
                "activation": who.activation,
                "train_eps": _hashed(who.train_points),
                "eval_eps": _hashed(who.eval_points) if cell.purpose == "rank" else None,
                "seed": cell.seed,
                "learning_rate": cell.learning_rate,
                **({"precision": self.study.precision} if precise else {}),
                **({"sensitivity": True} if self.looks_at_sites(cell) else {}),
            }
        )


def load_choice(choice: ModelChoice, data: Dataset, *, download: bool = False) -> Model:
    """The model of a study, told how many classes the data has."""
    return load_model(
        choice.spec,
        weights=choice.weights,
        mean=choice.mean,
        std=choice.std,
        input_range=choice.input_range,
        layout=choice.layout,
        channel_order=choice.channel_order,
        classes=data.classes,
        download=download,
    )


def load_study(study: Study, *, device: str = "cpu", download: bool = False) -> LoadedStudy:
    """Load data and models, and check all that can be checked before the first cell runs."""
    sensors = tuple(choice.bind() for choice in study.sensors)
    keys = [sensor.key for sensor in sensors]
    if len(set(keys)) != len(keys):
        raise UsageError(f"sensors: expected each at one setting, got {', '.join(keys)}")
    contestants = [activation(spec).spec for spec in study.activations]
    choice = study.data
    data = load_data(
        choice.spec,
        split_seed=choice.split_seed,
        max_samples=choice.max_samples,
        preprocessing=choice.preprocessing,
        download=download,
        class_names=choice.classes,
    )
    for bound in sensors:
        check_sees(bound, data)
    for each in study.models:
        _check_unseen(each, study)
    models = tuple(_checked(load_choice(each, data, download=download), data) for each in study.models)
    sites = []
    for model in models:
        sites.append(find_sites(model.network))
        for sensor in sensors:
            NoisyNetwork(model.network, model.input.normalise, sensor.placement)
    if study.kind == "compare":
        for own in map(current_activation, sites):
            if own is not None and own not in contestants:
                contestants.insert(0, own)
    if study.kind == "audit":
        return LoadedStudy(study, data, models, tuple(sites), sensors, (AS_IS,), ({},) * len(models), device)
    replaced = tuple(dict(_put(model, spec) for spec in contestants) for model in models)
    unique = tuple(dict.fromkeys(spec for each in replaced for spec in each))
    return LoadedStudy(study, data, models, tuple(sites), sensors, unique, replaced, device)


def _put(model: Model, spec: str) -> tuple[str, tuple[str, ...]]:
    """What a swap puts into a model, the inner activation where a gated one is named, and at which paths."""
    swap = swap_activation(model.network, spec)
    return swap.activation, tuple(site.path for site in swap.replaced)


def _checked(model: Model, data: Dataset) -> Model:
    """The model, once it is known to go with the data."""
    check_fit(model, data.shape, data.classes)
    rows = torch.arange(min(_COMPARED, len(data.validation.labels)))
    return check_on_images(model, data.validation.physical(rows))


def check_sees(sensor: Sensor, data: Dataset) -> None:
    """UsageError unless the sensor can have made the data: a camera images, a LIDAR those of its beams."""
    if sensor.kind == "lidar" and data.modality != "range":
        remedy = "give range images, such as --data lidar-scenes, or a camera"
        raise UsageError(f"{sensor.profile.name} is a LIDAR: expected range images, got {data.name}; {remedy}")
    if isinstance(sensor.profile, LidarProfile) and data.beams is not None:
        difference = sensor.profile.beams.difference(data.beams)
        if difference:
            kind = data.spec.partition(":")[0]
            named = "" if data.spec == kind else f", or name the one that took the data, {kind}:PART:PATH"
            raise UsageError(
                f"{sensor.profile.name}: expected the beams that {data.name} was seen with, {data.beams}, got "
                f"{difference}; choose a LIDAR whose beams look there{named}"
            )
    if sensor.kind == "camera" and data.modality != "image":
        remedy = "give images, such as --data digits, or a LIDAR such as lidar-vlp16"
        raise UsageError(
            f"{sensor.profile.name} is a camera: expected images, got range images of {data.name}; {remedy}"
        )


def _check_unseen(model: ModelChoice, study: Study) -> None:
    """Raise UsageError where the split would test a shipped model on the samples that it was trained on."""
    if model.weights is not None or model.spec not in content.model_names():
        return
    trained_on = load_recipe(model.spec).data
    if study.training.mode != "scratch" and trained_on == study.data.spec and study.data.split_seed != 0:
        raise UsageError(
            f"--split-seed: expected 0, with which {model.spec} was trained on {trained_on}, got "
            f"{study.data.split_seed}; with another split its training samples would be test samples"
        )


Points = tuple[OperatingPoint, ...]


def _train_points(study: Study, sensor: Sensor) -> list[tuple[str, Points, Points]]:
    """(name, points trained on, points evaluated) of each network that a contestant needs."""
    policy, found = study.training, study.operating_points(sensor)
    if policy.mode == "none":
        return [("none", (), found)]
    if policy.train_ep == "matched":
        return [(_short(point), (point,), (point,)) for point in found]
    if policy.train_ep == "mixed":
        return [("mixed", found, found)]
    at = policy.train_point
    assert at is not None
    _ = Channel(sensor, at).reading  # a LIDAR has no EP, and a camera may not reach this one
    return [(_short(at), (at,), found)]


def _short(point: OperatingPoint) -> str:
    """An EP is its number, as it was before there were other axes."""
    return repr(point.value) if point.axis == "ep" else point.name


def _at(train_ep: str) -> str:
    return f"train {train_ep}" if "=" in train_ep else f"train EP {train_ep}"


def _hashed(points: Points) -> list[float | str]:
    return [point.value if point.axis == "ep" else point.name for point in points]


def points(contestant: Contestant) -> dict[str, OperatingPoint | None]:
    """What is evaluated, by its name in the store; None stands for no operating point.

    Without noise a converter or LIDAR rounds alike everywhere, a camera at each of its points in its own way.
    """
    found = {point.name: point for point in contestant.eval_points}
    if not contestant.light_matters:
        return {"clean": None, "quantised": None, **found}
    quiet = (replace(point, noisy=False) for point in contestant.eval_points)
    return {"clean": None, **{point.name: point for point in quiet}, **found}


def quantised_at(point: str, contestant: Contestant) -> str | None:
    """The name in the store of rounding without noise, as it is at the point of this name."""
    return next((name for name in (f"{point} quantised", "quantised") if name in points(contestant)), None)


SITE = "site="
"""In the store, what is evaluated with noise at one site alone is called by this and the site."""


def noisiest(contestant: Contestant, sensor: Sensor) -> OperatingPoint:
    """The operating point of a contestant at which the noise is largest."""

    def noise(point: OperatingPoint) -> float:
        return Channel(sensor, point).reading.sigma or 0.0

    return max(contestant.eval_points, key=noise)


def contestants(loaded: LoadedStudy) -> tuple[Contestant, ...]:
    """Everything that is trained or evaluated, in the order of the report."""
    return tuple(
        Contestant(model, sensor, spec, name, trained_at, evaluated_at, loaded.sensors[sensor].kind == "camera")
        for model in range(len(loaded.models))
        for sensor in range(len(loaded.sensors))
        for name, trained_at, evaluated_at in _train_points(loaded.study, loaded.sensors[sensor])
        for spec in loaded.activations
    )


def tuning_cells(loaded: LoadedStudy) -> tuple[Cell, ...]:
    """The learning-rate trials: the whole grid, for every contestant alike. Empty where there is no choice."""
    policy = loaded.study.training
    if policy.mode == "none" or len(policy.learning_rates) == 1:
        return ()
    return tuple(
        Cell("tune", contestant, TUNING_SEED + seed, rate)
        for contestant in contestants(loaded)
        for rate in policy.learning_rates
        for seed in range(policy.tuning_seeds)
    )


def ranking_cells(loaded: LoadedStudy, rates: dict[Contestant, float]) -> tuple[Cell, ...]:
    """The networks that are ranked.

    Args:
        loaded: the study.
        rates: the learning rate chosen for each contestant; empty where nothing is trained.
    """
    return tuple(
        Cell("rank", contestant, seed, rates.get(contestant))
        for contestant in contestants(loaded)
        for seed in range(loaded.study.seeds)
    )
