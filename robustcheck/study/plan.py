"""The plan of a study: frozen data that a study file states, and that decides every number of a report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from robustcheck.activations.catalogue import activation
from robustcheck.data.preprocessing import Preprocessing
from robustcheck.errors import RobustcheckError, UsageError
from robustcheck.sensing.camera_profile import CameraProfile
from robustcheck.sensing.channel import Channel, check_axis
from robustcheck.sensing.converter import Form
from robustcheck.sensing.deviates import Noise
from robustcheck.sensing.operating_point import OperatingPoint
from robustcheck.sensing.optics import exposure_of_lux
from robustcheck.sensing.profile import load_sensor
from robustcheck.sensing.sensor import HALF_WELL, Placement, Range, Sensor, Vary, sensor
from robustcheck.study.precision import LEAST, LEAST_FIRST, MOST_DRAWS
from robustcheck.tomlfile import problems, read_toml

NUMERICS = 2
"""Version of all that decides numbers: raise it when a change of the code changes any accuracy."""

SCRATCH_RATES = (1e-3, 3e-3, 1e-2)
FINETUNE_RATES = (3e-4, 1e-3, 3e-3)

_OWN_AXIS = {"converter": "eps", "camera": "exposures", "lidar": "signals"}

Probability = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Lux = Annotated[
    str,
    Field(
        pattern=r"^[0-9]*\.?[0-9]+(e[-+]?[0-9]+)? ?lx$", max_length=32, description="an illuminance such as '200 lx'"
    ),
]
Exposure = Share | Lux
TrainPoint = Annotated[
    str,
    Field(
        pattern=r"^(exposure|signal)=[0-9.e\-]+$",
        max_length=40,
        description="text such as 'exposure=0.1' or 'signal=0.3'",
    ),
]
Rate = Annotated[float, Field(gt=0, lt=10)]
Size = tuple[Annotated[int, Field(ge=1, le=4096)], Annotated[int, Field(ge=1, le=4096)]]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _without(document: dict[str, Any], *names: str) -> dict[str, Any]:
    """The document but for these fields where they are None: what was written before them stays what it was."""
    return {name: value for name, value in document.items() if value is not None or name not in names}


def _said(spec: str, load: Callable[[str], object]) -> str:
    """The spec, if it can be loaded; an error of ours becomes one of the field's."""
    _said_by(lambda: load(spec))
    return spec


class ModelChoice(_Frozen):
    """A model, and what the model cannot tell itself; see `robustcheck.load_model`."""

    spec: str = Field(min_length=1)
    weights: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    input_range: tuple[float, float] | None = None
    layout: Literal["NCHW", "NHWC"] | None = None
    channel_order: Literal["RGB", "BGR"] | None = None


class DataChoice(_Frozen):
    """A data set, its split and its preprocessing; see `robustcheck.load_data`."""

    spec: str = Field(min_length=1)
    split_seed: int = Field(default=0, ge=0, lt=2**63, strict=True)
    max_samples: int | None = Field(default=None, ge=1, strict=True)
    resize: Size | None = None
    crop: Size | None = None
    flip: bool = False
    random_crop_padding: int | None = Field(default=None, ge=1, le=64, strict=True)
    pad: Size | None = None
    rotate: float | None = Field(default=None, gt=0, le=180)
    classes: tuple[str, ...] | None = None

    @model_serializer(mode="wrap")
    def _serialised(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(write(self), "pad", "rotate")

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to the images."""
        return Preprocessing(self.resize, self.crop, self.flip, self.random_crop_padding, self.pad, self.rotate)


class SensorChoice(_Frozen):
    """A sensor and its settings; see `robustcheck.sensing.channel.sensor`."""

    spec: str = Field(min_length=1)
    bits: float | None = Field(default=None, ge=1, le=16)
    steps: int | None = Field(default=None, ge=1, le=65535, strict=True)
    noise: Noise = "gaussian"
    form: Form = "aod"
    placement: Placement = "sensor"
    range: Range = "calibrated"
    settings: dict[str, float] = Field(default={}, max_length=64)
    vary: Vary = "exposure"
    at_exposure: Exposure = HALF_WELL
    device_seed: int = Field(default=0, ge=0, lt=2**63, strict=True)

    @field_validator("spec")
    @classmethod
    def _known(cls, spec: str) -> str:
        return _said(spec, load_sensor)

    def bind(self) -> Sensor:
        """The sensor itself."""
        bound = sensor(
            self.spec,
            bits=self.bits,
            steps=self.steps,
            noise=self.noise,
            form=self.form,
            placement=self.placement,
            range=self.range,
            settings=self.settings,
            vary=self.vary,
            at_exposure=HALF_WELL if isinstance(self.at_exposure, str) else self.at_exposure,
            device_seed=self.device_seed,
        )
        return replace(bound, at_exposure=share_of_well(bound, self.at_exposure)) if self.vary == "bits" else bound


class TrainingPolicy(_Frozen):
    """How each network is trained under the sensor's noise.

    Attributes:
        mode: `scratch` re-initialises, `finetune` starts from the given weights, `none` swaps without training.
        train_ep: `matched` trains a network for each EP, `mixed` one over all EPs (one a step), a number one at it;
            `exposure=0.1` one at this exposure of a camera, `signal=0.3` at this signal of a LIDAR.
        schedule: `cosine` rises over the first 5 % of the steps, then falls to zero; `constant` keeps the rate.
        learning_rates: the grid, tried on validation under noise for each activation; a single one is not tried.
        tuning_seeds: trained networks for each rate of the grid, with seeds of their own.
        tuning_epochs: epochs of these trials, where they are to have fewer than the networks that are ranked.
        patience: epochs without a better validation accuracy before training stops; 0 never stops early.
    """

    mode: Literal["scratch", "finetune", "none"] = "finetune"
    train_ep: Literal["matched", "mixed"] | Probability | TrainPoint = "matched"
    epochs: int = Field(default=30, ge=1, le=10_000, strict=True)
    batch_size: int = Field(default=64, ge=2, le=65_536, strict=True)
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    schedule: Literal["constant", "cosine"] = "cosine"
    weight_decay: float = Field(default=0.0, ge=0, lt=1)
    patience: int = Field(default=0, ge=0, strict=True)
    learning_rates: tuple[Rate, ...] = Field(default=FINETUNE_RATES, min_length=1, max_length=12)
    tuning_seeds: int = Field(default=1, ge=1, le=100, strict=True)
    tuning_epochs: int | None = Field(default=None, ge=1, le=10_000, strict=True)

    @model_serializer(mode="wrap")
    def _serialised(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(write(self), "tuning_epochs")

    @field_validator("train_ep")
    @classmethod
    def _possible(cls, train_ep: str | float) -> str | float:
        _said_by(lambda: _named_point(train_ep))
        return train_ep

    @property
    def train_point(self) -> OperatingPoint | None:
        """The one operating point that is trained at; None where several are."""
        return _named_point(self.train_ep)


class Study(_Frozen):
    """models × activations × sensors × operating points × seeds, with a training policy.

    Attributes:
        eps: error probabilities, of converters and cameras.
        exposures: of cameras: shares of the full well that white fills, or illuminances such as `200 lx`.
        signals: of LIDARs: shares of the return signal that arrive.
        draws: noise draws a test sample; with `precision` the first ones, at least 5, that decide how many more follow.
        precision: the draw error that is asked for at each error probability, a fraction from 1e-4 to 0.5: half the
            95 % interval of a network's accuracy over noise draws; see `robustcheck.study.precision`.
        sensitivity: also evaluate with noise at one site at a time, at each network's noisiest operating point; for
            sensors with placement `network`.

    >>> study = Study(
    ...     models=({"spec": "digits-convnet"},),
    ...     data={"spec": "digits"},
    ...     sensors=({"spec": "adc-4bit"},),
    ...     eps=(0.5,),
    ...     activations=("relu", "gelu"),
    ... )
    >>> study.seeds, study.training.train_ep
    (5, 'matched')
    """

    kind: Literal["compare", "audit"] = "compare"
    models: tuple[ModelChoice, ...] = Field(min_length=1, max_length=32)
    data: DataChoice
    sensors: tuple[SensorChoice, ...] = Field(min_length=1, max_length=64)
    eps: tuple[Probability, ...] = Field(default=(), max_length=200)
    exposures: tuple[Exposure, ...] = Field(default=(), max_length=200)
    signals: tuple[Share, ...] = Field(default=(), max_length=200)
    activations: tuple[str, ...] = Field(default=(), max_length=64)
    seeds: int = Field(default=5, ge=1, le=1000, strict=True)
    draws: int = Field(default=5, ge=1, le=MOST_DRAWS, strict=True)
    precision: float | None = Field(default=None, ge=LEAST, lt=0.5)
    sensitivity: bool = False
    training: TrainingPolicy = TrainingPolicy()

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        values = dict(values)
        training = values.get("training")
        mode = training.get("mode") if isinstance(training, dict) else getattr(training, "mode", None)
        if isinstance(training, dict) and "learning_rates" not in training and mode == "scratch":
            values["training"] = {**training, "learning_rates": SCRATCH_RATES}
        if values.get("kind") == "audit":
            values.setdefault("training", {"mode": "none"})
            values.setdefault("seeds", 1)
        elif mode == "none":
            values.setdefault("seeds", 1)
        return values

    @field_validator("activations")
    @classmethod
    def _known(cls, specs: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_said(spec, activation) for spec in specs)

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        if self.training.mode == "none" and self.seeds != 1:
            raise ValueError(
                f"seeds: expected 1 where nothing is trained (one network, more draws), got {self.seeds}; "
                "raise draws instead, or train"
            )
        if self.precision is not None and self.draws < LEAST_FIRST:
            raise ValueError(
                f"draws: expected at least {LEAST_FIRST} with a precision, whose size they decide, got {self.draws}; "
                "raise draws, or leave out the precision"
            )
        if self.kind == "audit" and (self.training.mode != "none" or self.activations):
            raise ValueError("an audit neither trains nor swaps: expected training.mode none and no activations")
        if self.sensitivity and not any(each.placement == "network" for each in self.sensors):
            raise ValueError(
                "sensitivity: expected a sensor with placement network, whose noise has several sites, got placement "
                "sensor; its only site is the image"
            )
        if self.kind == "compare" and not self.activations:
            raise ValueError("activations: expected at least one to compare with the model's own, got none")
        for name in ("eps", "exposures", "signals", "activations", "models"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name}: expected each once, got {values}")
        for name in ("eps", "signals"):
            if list(getattr(self, name)) != sorted(getattr(self, name)):
                raise ValueError(f"{name}: expected rising order, got {getattr(self, name)}")
        if not (self.eps or self.exposures or self.signals):
            raise ValueError("operating points: expected at least one of eps, exposures or signals, got none")
        for choice in self.sensors:
            _said_by(partial(self._check_points, choice))
        return self

    def _check_points(self, choice: SensorChoice) -> None:
        sensor = choice.bind()
        for point in self.operating_points(sensor):
            try:
                _ = Channel(sensor, point).reading
            except UsageError as error:
                if point.axis == "ep" and self.exposures:
                    remedy = "without a converter in the study the EPs are the camera's too: drop eps (--ep)"
                    raise UsageError(f"{error}; {remedy}, or give some within that range") from error
                raise

    def operating_points(self, sensor: Sensor) -> tuple[OperatingPoint, ...]:
        """Where a sensor of this study is read.

        Where sensors of several kinds are given several axes, each is read on its own: a converter at the EPs, a camera
        at the exposures (at the EPs where there are none), a LIDAR at the signals.

        UsageError for an axis that the sensor has not, and for too much light.
        """
        axes = {name for name in _OWN_AXIS.values() if getattr(self, name)}
        if len(axes) > 1 and len(own := {_OWN_AXIS[load_sensor(each.spec).kind] for each in self.sensors}) > 1:
            if not axes <= own:
                raise UsageError(
                    f"{', '.join(sorted(axes - own))}: expected a sensor that is read there, got none; leave them out"
                )
            axes &= {_OWN_AXIS[sensor.kind]} if _OWN_AXIS[sensor.kind] in axes else {"eps"}
        points = [OperatingPoint("ep", ep) for ep in self.eps if "eps" in axes]
        if "exposures" in axes:
            points += [OperatingPoint("exposure", share_of_well(sensor, each)) for each in self.exposures]
        points += [OperatingPoint("signal", signal) for signal in self.signals if "signals" in axes]
        if sensor.vary == "bits" and "exposures" in axes:
            raise UsageError("exposures: expected none where an EP moves the bits; at_exposure says the light there")
        if len(set(points)) != len(points):
            raise UsageError(f"exposures: expected different ones on {sensor.key}, got {self.exposures}")
        for point in points:
            check_axis(sensor, point)
        return tuple(points)

    @classmethod
    def create(cls, **fields: Any) -> Study:
        """Build a study from plain values; UsageError instead of pydantic's error."""
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            problem = problems(error, cls)[0]
            raise UsageError(problem.said if problem.ours else f"study: {problem}") from error

    @classmethod
    def load(cls, path: str | Path) -> Study:
        """Read a study file (TOML). FileFormatError names file, line and field."""
        return read_toml(Path(path), cls)

    def to_toml(self) -> str:
        """The study file that says the same; fields at their defaults are written too."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))

    def document(self) -> dict[str, Any]:
        """Plain JSON data."""
        return self.model_dump(mode="json")


def _named_point(train_ep: str | float) -> OperatingPoint | None:
    """The operating point of an EP, or of `exposure=0.1` and `signal=0.3`; None for `matched` and `mixed`."""
    if not isinstance(train_ep, str):
        return OperatingPoint("ep", train_ep)
    axis, separator, value = train_ep.partition("=")
    if not separator:
        return None
    try:
        share = float(value)
    except ValueError as error:
        raise UsageError(f"train_ep: expected a share of at most 1 after {axis}=, got {value!r}") from error
    return OperatingPoint("exposure" if axis == "exposure" else "signal", share)


def _said_by(call: Callable[[], object]) -> None:
    """An error of ours becomes one of the study's."""
    try:
        call()
    except RobustcheckError as error:
        raise ValueError(str(error)) from error


def share_of_well(sensor: Sensor, exposure: float | str) -> float:
    """An exposure as a share of the full well, which an illuminance (`200 lx`) is for one camera alone."""
    if not isinstance(exposure, str):
        return exposure
    if not isinstance(sensor.profile, CameraProfile):
        raise UsageError(f"exposure {exposure}: expected a camera to expose, got {sensor.profile.name}")
    return exposure_of_lux(sensor.profile, float(exposure.removesuffix("lx")))


def content_hash(document: Any) -> str:
    """SHA-256 of canonical JSON.

    >>> content_hash({"b": 1, "a": 2}) == content_hash({"a": 2, "b": 1})
    True
    """
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
