"""The pytest plugin: `assert_robust`, a check of the gate as an assertion whose failure is the check's sentence."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from robustcheck.data.datasets import Dataset
    from robustcheck.gate.checks import Place
    from robustcheck.gate.verdict import Judgement
    from robustcheck.networks.loading import Model
    from robustcheck.sensing.channel import Channel
    from robustcheck.sensing.profile import SensorProfile
    from robustcheck.sensing.sensor import Sensor

    Array = torch.Tensor | NDArray[np.generic]

_COUNTS_AS = ("fail", "skip", "pass")


def assert_robust(
    model: str | nn.Module | Model,
    data: str | Dataset | tuple[Array, Array],
    *,
    sensor: str | SensorProfile | Sensor,
    ep: float | None = None,
    exposure: float | str | None = None,
    signal: float | None = None,
    at_least: float | str,
    draws: int = 5,
    alpha: float = 0.05,
    seed: int = 0,
    inconclusive: Literal["fail", "skip", "pass"] = "fail",
) -> None:
    """Assert that a model keeps its accuracy behind a sensor, at one operating point, on the test split of the data.

    It passes where the lower confidence bound of the accuracy is at least `at_least`, as a gate's check does; see
    `robustcheck.gate.judge`. The noise is the same in every run.

    Args:
        model: a spec, as `robustcheck.load_model` takes it; a network that takes float32 images (n, c, h, w) in [0, 1]
            and gives (n, classes) logits; or a loaded model, for any other input. It is left as it is.
        data: a spec, as `robustcheck.load_data` takes it; a loaded data set; or what to test on, `(images, labels)`,
            tensors or arrays: (n, c, h, w) with c 1 or 3, floating in [0, 1] or uint8, and (n,) integers from 0.
        sensor: name or path of a profile, a profile, or a sensor with its settings.
        ep: error probability in (0, 1), of a converter or camera.
        exposure: share of a camera's full well that white fills, in (0, 1], or an illuminance such as "50 lx".
        signal: share of a LIDAR's return signal that arrives, in (0, 1].
        at_least: the accuracy that is asked for, a fraction in (0, 1] or a percentage such as "90 %".
        draws: noise draws a test sample.
        alpha: chance to pass a model that is below, and chance to fail one that is not.
        seed: of the noise.
        inconclusive: what counts where samples and draws decide neither.

    Raises:
        AssertionError: the check fails, or is inconclusive and that counts as a fail; the message is its sentence.
        RobustcheckError: an argument makes no sense, or model and data cannot be loaded or do not fit.

    >>> assert_robust("digits-convnet", "digits", sensor="adc-4bit", ep=0.5, at_least=0.9)
    >>> assert_robust("digits-convnet", "digits", sensor="adc-2bit", ep=0.8, at_least=0.9)
    Traceback (most recent call last):
    AssertionError: digits-convnet on adc-2bit at EP 0.8: accuracy ...: fail. Make the model more robust ...
    """
    __tracebackhide__ = True
    from robustcheck.errors import InvalidValueError
    from robustcheck.gate.sarif import message

    if inconclusive not in _COUNTS_AS:
        raise InvalidValueError("inconclusive", expected=" or ".join(_COUNTS_AS), got=inconclusive)
    points = {"ep": ep, "exposure": exposure, "signal": signal}
    stated = [(axis, value) for axis, value in points.items() if value is not None]
    if len(stated) != 1:
        raise InvalidValueError("operating point", expected="ep, exposure or signal, one of them", got=stated)
    found = _judged(model, data, sensor, stated[0], at_least, draws, alpha, seed)
    counts_as = inconclusive if found.outcome == "inconclusive" else found.outcome
    if counts_as == "skip":
        pytest.skip(message(found))
    if counts_as != "pass":
        raise AssertionError(message(found))


@pytest.fixture(name="assert_robust", scope="session")
def _assert_robust() -> Callable[..., None]:
    """`robustcheck.pytest_plugin.assert_robust`: a gate's check as an assertion."""
    return assert_robust


def _judged(
    model: str | nn.Module | Model,
    data: str | Dataset | tuple[Array, Array],
    sensor: str | SensorProfile | Sensor,
    point: tuple[str, float | str],
    at_least: float | str,
    draws: int,
    alpha: float,
    seed: int,
) -> Judgement:
    # Every run of pytest imports this module; torch takes seconds.
    from robustcheck.analysis.bounds import combined
    from robustcheck.data.datasets import Dataset, load_data
    from robustcheck.errors import UsageError
    from robustcheck.gate.checks import parse_check
    from robustcheck.gate.judge import Open, decide
    from robustcheck.gate.verdict import Subject
    from robustcheck.networks.loading import check_fit
    from robustcheck.reporting.outcomes import Estimate
    from robustcheck.study.cells import check_sees
    from robustcheck.study.evaluation import evaluate

    axis, value = point
    threshold = at_least if isinstance(at_least, str) else repr(float(at_least))
    check = parse_check(f"accuracy@{axis}={value} >= {threshold}")
    assert check.place is not None
    noise = _channel(sensor, check.place, seed)
    alone = isinstance(data, tuple | list)
    images = _test_set(data) if isinstance(data, tuple | list) else load_data(data) if isinstance(data, str) else data
    if not isinstance(images, Dataset):
        raise UsageError(f"data: expected a spec, a data set or (images, labels), got {type(data).__name__}")
    check_sees(noise.sensor, images)
    if alone and noise.sensor.placement == "network" and noise.sensor.range == "calibrated":
        raise UsageError(
            "data: expected training images too, from which placement network takes its ranges, got images and labels "
            "to test on; give a data set, or a sensor with range unit"
        )
    tested = _loaded(model, None if alone else images)
    if alone:
        images = replace(images, classes=_classes(tested, images))
    check_fit(tested, images.shape, images.classes)
    correct = evaluate(tested, images, noise, draws=draws).correct
    shared = noise.sensor.placement == "network"
    estimate = Estimate((combined([(1.0, correct, True)]),), shared_draws=shared)
    subject = Subject(tested.origin, tested.origin, "as is", noise.sensor.key, check.place.label)
    return decide(Open(check, subject, estimate), alpha, 1).judgement


def _channel(sensor: str | SensorProfile | Sensor, place: Place, seed: int) -> Channel:
    """The sensor's channel where a check asks for an accuracy."""
    from robustcheck.sensing.channel import channel
    from robustcheck.sensing.sensor import Sensor
    from robustcheck.sensing.sensor import sensor as bind
    from robustcheck.study.plan import share_of_well

    bound = sensor if isinstance(sensor, Sensor) else bind(sensor)
    if place.kind == "lux":
        return channel(bound, exposure=share_of_well(bound, f"{place.value!r} lx"), seed=seed)
    return channel(bound, seed=seed, **{place.kind: place.value})  # type: ignore[arg-type]


def _test_set(pair: Sequence[Array]) -> Dataset:
    """A data set of nothing but these test samples, images and labels."""
    import torch

    from robustcheck.data.datasets import Dataset, Split
    from robustcheck.data.preprocessing import Preprocessing
    from robustcheck.errors import DataError

    if len(pair) != 2:
        raise DataError(f"data: expected images and labels, got {len(pair)} values; give (images, labels)")
    pixels, named = (torch.as_tensor(each).detach().cpu() for each in pair)
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or not pixels.numel():
        raise DataError(f"images: expected (n, c, h, w) with c 1 or 3, got {tuple(pixels.shape)}")
    if pixels.dtype != torch.uint8:
        if not pixels.is_floating_point():
            raise DataError(f"images: expected floating values in [0, 1] or uint8, got {pixels.dtype}")
        pixels = pixels.to(torch.float32)
        if not bool(((pixels >= 0) & (pixels <= 1)).all()):
            got = f"{pixels.min().item():g} to {pixels.max().item():g}"
            raise DataError(
                f"images: expected physical values in [0, 1], got {got}; give them before any normalisation, which a "
                "model does itself (robustcheck.load_model takes mean and std)"
            )
    if named.shape != pixels.shape[:1] or named.is_floating_point() or named.dtype == torch.bool:
        raise DataError(
            f"labels: expected one integer an image, shape {(len(pixels),)}, got {tuple(named.shape)} {named.dtype}"
        )
    if int(named.min()) < 0:
        raise DataError(f"labels: expected integers from 0, got {int(named.min())}")
    whole = Split(pixels, named.to(torch.int64), torch.arange(len(pixels)))
    none = Split(pixels[:0], whole.labels[:0], whole.sample_ids[:0])
    classes = tuple(map(str, range(int(named.max()) + 1)))
    return Dataset(
        spec="images", name="the images given", classes=classes, train=none, validation=none, test=whole, sha256="",
        source="arrays", notes=(), preprocessing=Preprocessing(), split_seed=0, fixed_test=True,
    )  # fmt: skip


def _classes(model: Model, data: Dataset) -> tuple[str, ...]:
    """The classes that a model tells apart: a few test samples need not show them all."""
    import torch

    with torch.no_grad():
        try:
            logits = model.network(model.input.normalise(data.test.physical(slice(0, 2))))
            return tuple(map(str, range(max(len(data.classes), int(logits.shape[1])))))
        except Exception:  # whatever a foreign network raises of images that do not fit, which `check_fit` explains
            return data.classes


def _loaded(model: str | nn.Module | Model, data: Dataset | None) -> Model:
    """A model whose network is nobody else's: evaluating changes its mode."""
    from torch import nn

    from robustcheck.networks.inputs import InputSpec
    from robustcheck.networks.loading import Model, load_model, model_hash

    if isinstance(model, str):
        return load_model(model, classes=None if data is None else data.classes)
    if isinstance(model, nn.Module):
        network, taken = copy.deepcopy(model).eval(), InputSpec()
        return Model(network, taken, None, type(model).__name__, model_hash(network, taken))
    return replace(model, network=copy.deepcopy(model.network).eval())
