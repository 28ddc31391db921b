"""What a report says of a study's model, data, activations, sensors and operating points."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robustcheck import content
from robustcheck.activations.catalogue import activation
from robustcheck.data.datasets import Split
from robustcheck.errors import UsageError
from robustcheck.reporting import report as doc
from robustcheck.sensing.camera_ep import mean_ep
from robustcheck.sensing.camera_profile import CameraProfile
from robustcheck.sensing.channel import Channel, camera_at
from robustcheck.sensing.lidar_profile import LidarProfile
from robustcheck.sensing.operating_point import Axis, OperatingPoint, Reading
from robustcheck.sensing.optics import lux_of_exposure
from robustcheck.sensing.profile import ConverterProfile
from robustcheck.sensing.sensor import Sensor
from robustcheck.study.cells import AS_IS, LoadedStudy
from robustcheck.study.plan import share_of_well


def title(loaded: LoadedStudy) -> str:
    """The title of a report."""
    models = ", ".join(model_key(loaded, index) for index in range(len(loaded.models)))
    sensors = ", ".join(sensor.key for sensor in loaded.sensors)
    what = "Audit" if loaded.study.kind == "audit" else "Activations compared"
    return f"{what}: {models} on {loaded.data.name} behind {sensors}"


def model_key(loaded: LoadedStudy, index: int) -> str:
    """The name of a model that is unique in the report."""
    spec = loaded.study.models[index].spec
    twins = [i for i, choice in enumerate(loaded.study.models) if choice.spec == spec]
    return spec if len(twins) == 1 else f"{spec} ({twins.index(index) + 1})"


def model_summary(loaded: LoadedStudy, index: int) -> doc.ModelSummary:
    """What is said of a model."""
    model = loaded.models[index]
    return doc.ModelSummary(
        key=model_key(loaded, index),
        spec=loaded.study.models[index].spec,
        origin=model.origin,
        sha256=model.sha256,
        weights=_weights(loaded, index),
        parameters=sum(parameter.numel() for parameter in model.network.parameters()),
        input=model.input.as_dict(),
        activation=loaded.current[index],
        sites=tuple(
            doc.SiteSummary(path=site.path, kind=site.kind, found=site.found, calls=site.calls)
            for site in loaded.sites[index]
        ),
        notes=model.notes,
    )


def _weights(loaded: LoadedStudy, index: int) -> str | None:
    choice = loaded.study.models[index]
    if choice.weights is not None:
        return choice.weights
    if Path(choice.spec).suffix in (".onnx", ".pt2", ".toml"):
        return choice.spec
    return "shipped" if choice.spec in content.model_names() else None


def data_summary(loaded: LoadedStudy) -> doc.DataSummary:
    """What is said of the data."""
    data = loaded.data
    return doc.DataSummary(
        spec=data.spec,
        name=data.name,
        source=data.source,
        sha256=data.sha256,
        classes=data.classes,
        shape=data.shape,
        counts={name: len(getattr(data, name).labels) for name in ("train", "validation", "test")},
        chance=data.chance,
        split_seed=data.split_seed,
        fixed_test=data.fixed_test,
        preprocessing=data.preprocessing.as_dict(),
        notes=data.notes,
    )


def activation_summary(loaded: LoadedStudy, spec: str) -> doc.ActivationSummary:
    """What is said of a contestant."""
    if spec == AS_IS:
        return doc.ActivationSummary(spec="as is", formula="", family="", learned=(), current=True, replaced={})
    entry = activation(spec)
    return doc.ActivationSummary(
        spec=spec,
        formula=entry.formula,
        family=entry.family,
        learned=entry.learned,
        current=spec in loaded.current,
        replaced={model_key(loaded, index): loaded.replaced[index][spec] for index in range(len(loaded.models))},
    )


def sensor_summary(loaded: LoadedStudy, index: int) -> doc.SensorSummary:
    """What is said of a sensor."""
    sensor = loaded.sensors[index]
    inside = sensor.placement == "network"
    light = loaded.study.sensors[index].at_exposure
    real = {"noise": sensor.noise} if sensor.kind == "converter" else _particulars(sensor, light)
    return doc.SensorSummary(
        key=sensor.key,
        name=sensor.profile.name,
        title=sensor.profile.title,
        profile_sha256=sensor.profile.sha256,
        steps=sensor.steps,
        bits=sensor.bits,
        form="doa" if inside else sensor.form,
        placement=sensor.placement,
        doa_only=inside and sensor.form == "doa",
        range=sensor.range if inside else None,
        assumed=sensor.profile.assumed,
        **real,
    )


def _particulars(sensor: Sensor, light: float | str) -> dict[str, Any]:
    """What a summary says of a camera or LIDAR alone; `light` is where an EP moves the bits, as it was asked for."""
    profile = sensor.profile
    axis: Axis = "exposure" if sensor.kind == "camera" else "signal"
    assert isinstance(profile, CameraProfile | LidarProfile)
    return {
        "kind": sensor.kind,
        "settings": dict(sensor.settings),
        "vary": sensor.vary if sensor.kind == "camera" else None,
        "at_exposure": sensor.at_exposure if sensor.vary == "bits" else None,
        "at_lux": _lux(light) if sensor.vary == "bits" and isinstance(light, str) else None,
        "device_seed": sensor.device_seed,
        "numbers": tuple(
            doc.NumberSummary(
                name=name, value=str(number), kind=number.kind, status=number.status, source=number.source
            )
            for name, number in profile.numbers.items()
        ),
        "operating_points": tuple(
            doc.NamedPoint(
                name=name,
                value=number.value,
                ep=_ep_there(sensor, OperatingPoint(axis, number.value)),
                lux=lux_of_exposure(profile, number.value) if isinstance(profile, CameraProfile) else None,
            )
            for name, number in profile.operating_points.items()
        ),
    }


def _ep_there(sensor: Sensor, point: OperatingPoint) -> float | None:
    """The error probability at a point that the profile names; None where the study's settings leave it no sense."""
    try:
        return Channel(sensor, point).reading.ep
    except UsageError:
        return None


def place_on_axis(reading: Reading) -> float:
    """Where an operating point stands on the axis of its curve: EP or bits, or the logarithm of a share of light."""
    if reading.signal is not None:
        return math.log10(reading.signal)
    if reading.bits is not None:
        return reading.bits
    if reading.exposure is not None:
        return math.log10(reading.exposure)
    assert reading.ep is not None
    return reading.ep


def operating_point(
    loaded: LoadedStudy, sensor: Sensor, name: str, point: OperatingPoint | None, reading: Reading
) -> doc.OperatingPoint:
    """What is said of an operating point, from its name in the store; `point` is None without noise."""
    if point is None:
        still = None if name == "clean" else 0.0
        kind: Any = name
        return doc.OperatingPoint(kind=kind, ep=None, ep_adc=None, sigma=still, sigma_steps=still)
    data_ep = lux = None
    asked: Any = point.axis
    if isinstance(sensor.profile, CameraProfile):
        assert reading.exposure is not None
        data_ep = mean_ep(camera_at(sensor, point), *_levels(loaded.data.test))
        lit = [each for each in loaded.study.exposures if isinstance(each, str) and point.axis == "exposure"]
        lux = {share_of_well(sensor, each): _lux(each) for each in lit}.get(point.value)
        asked = point.axis if lux is None else "lux"
        lux = lux or lux_of_exposure(sensor.profile, reading.exposure)
    named = {} if isinstance(sensor.profile, ConverterProfile) else sensor.profile.operating_points
    share = reading.exposure if sensor.kind == "camera" else reading.signal
    return doc.OperatingPoint(
        kind=asked,
        ep=point.value if point.axis == "ep" else reading.ep,
        ep_adc=reading.ep_adc,
        sigma=reading.sigma,
        sigma_steps=reading.sigma_steps,
        exposure=reading.exposure,
        lux=lux,
        bits=reading.bits,
        signal=reading.signal,
        data_ep=data_ep,
        range_ep=reading.range_ep,
        intensity_ep=reading.intensity_ep,
        detection=reading.detection,
        named=next((name for name, number in named.items() if number.value == share), None),
    )


def _lux(text: str) -> float:
    """The illuminance that a study states, such as `200 lx`."""
    return float(text.removesuffix("lx"))


@lru_cache(maxsize=1)
def _levels(split: Split) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The sRGB levels in [0, 1] that a split's pixels take, in steps of 1/255, and how many pixels each has."""
    counts = np.zeros(256)
    for rows in torch.split(torch.arange(len(split)), 1024):
        counts += torch.bincount((split.physical(rows) * 255).round().to(torch.int64).flatten(), minlength=256).numpy()
    return np.arange(256) / 255, counts
