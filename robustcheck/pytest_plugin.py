"""The pytest plugin: `assert_robust`, a check of the gate as an assertion whose failure is the check's sentence."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from robustcheck.data.datasets import Dataset
    from robustcheck.gate.verdict import Judgement
    from robustcheck.networks.loading import Model
    from robustcheck.sensing.profile import SensorProfile
    from robustcheck.sensing.sensor import Sensor

_COUNTS_AS = ("fail", "skip", "pass")


def assert_robust(
    model: str | nn.Module | Model,
    data: str | Dataset,
    *,
    sensor: str | SensorProfile | Sensor,
    ep: float | None = None,
    exposure: float | None = None,
    signal: float | None = None,
    at_least: float,
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
        data: a spec, as `robustcheck.load_data` takes it, or a loaded data set.
        sensor: name or path of a profile, a profile, or a sensor with its settings.
        ep: error probability in (0, 1), of a converter or camera.
        exposure: share of a camera's full well that white fills, in (0, 1].
        signal: share of a LIDAR's return signal that arrives, in (0, 1].
        at_least: the accuracy that is asked for, a fraction in [0, 1].
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
    data: str | Dataset,
    sensor: str | SensorProfile | Sensor,
    point: tuple[str, float],
    at_least: float,
    draws: int,
    alpha: float,
    seed: int,
) -> Judgement:
    # Every run of pytest imports this module; torch takes seconds.
    from robustcheck.analysis.bounds import combined
    from robustcheck.data.datasets import load_data
    from robustcheck.gate.checks import parse_check
    from robustcheck.gate.judge import Open, decide
    from robustcheck.gate.verdict import Subject
    from robustcheck.networks.loading import check_fit
    from robustcheck.reporting.outcomes import Estimate
    from robustcheck.sensing.channel import channel
    from robustcheck.study.cells import check_sees
    from robustcheck.study.evaluation import evaluate

    axis, value = point
    check = parse_check(f"accuracy@{axis}={value!r} >= {float(at_least)!r}")
    noise = channel(sensor, seed=seed, **{axis: value})  # type: ignore[arg-type]
    images = load_data(data) if isinstance(data, str) else data
    check_sees(noise.sensor, images)
    tested = _loaded(model, images)
    check_fit(tested, images.shape, images.classes)
    correct = evaluate(tested, images, noise, draws=draws).correct
    shared = noise.sensor.placement == "network"
    estimate = Estimate((combined([(1.0, correct, True)]),), shared_draws=shared)
    label = "" if check.place is None else check.place.label
    subject = Subject(tested.origin, tested.origin, "as is", noise.sensor.key, label)
    return decide(Open(check, subject, estimate), alpha, 1).judgement


def _loaded(model: str | nn.Module | Model, data: Dataset) -> Model:
    """A model whose network is nobody else's: evaluating changes its mode."""
    from torch import nn

    from robustcheck.networks.inputs import InputSpec
    from robustcheck.networks.loading import Model, load_model, model_hash

    if isinstance(model, str):
        return load_model(model, classes=data.classes)
    if isinstance(model, nn.Module):
        network, taken = copy.deepcopy(model).eval(), InputSpec()
        return Model(network, taken, None, type(model).__name__, model_hash(network, taken))
    return replace(model, network=copy.deepcopy(model.network).eval())
