"""Checks of several axes on sensors of several kinds: each is judged on the sensors that were read there."""

import pytest

from robustcheck import Study, run_study
from robustcheck.errors import UsageError
from robustcheck.gate.judge import judge
from robustcheck.gate.settings import GateSettings
from robustcheck.sensing.sensor import sensor


def study(**changed):
    fields = {
        "kind": "audit",
        "models": [{"spec": "digits-convnet"}],
        "data": {"spec": "digits", "max_samples": 300},
        "sensors": [{"spec": "adc-3bit"}, {"spec": "camera-imx477"}],
        "eps": [0.4],
        "exposures": [0.1, "50 lx"],
        "draws": 2,
    }
    return Study.create(**fields | changed)


@pytest.fixture(scope="module")
def report():
    return run_study(study())


def judged(report, *checks, **filters):
    return [
        (each.subject.sensor.split(" ")[0], each.subject.point, each.outcome)
        for each in judge(report, GateSettings(checks=checks, **filters)).judgements
    ]


def test_sensors_of_several_kinds_are_each_read_on_their_own_axis(report):
    read = {
        result.sensor.name: {each.point.kind for each in result.points if each.point.asked is not None}
        for result in report.results
    }
    assert read == {"adc-3bit": {"ep"}, "camera-imx477": {"exposure", "lux"}}


def test_a_check_is_judged_where_its_axis_is(report):
    assert judged(report, "accuracy@ep=0.4 >= 0.2", "accuracy@exposure=0.1 >= 0.2") == [
        ("adc-3bit", "EP 0.4", "pass"),
        ("camera-imx477", "exposure 0.1", "pass"),
    ]


def test_a_point_that_no_sensor_has_is_missing(report):
    assert judged(report, "accuracy@ep=0.5 >= 0.2") == [("adc-3bit", "EP 0.5", "missing")]
    assert judged(report, "accuracy@exposure=0.2 >= 0.2") == [("camera-imx477", "exposure 0.2", "missing")]


def test_an_axis_that_no_sensor_has_is_missing_from_each(report):
    missing = judged(report, "accuracy@signal=0.5 >= 0.2")
    assert [outcome for _, _, outcome in missing] == ["missing", "missing"]
    (asked,) = judged(report, "accuracy@ep=0.4 >= 0.2", sensors=("camera-imx477",))
    assert asked[2] == "missing"


def test_what_is_not_on_an_axis_is_judged_where_it_is(report):
    assert len(judged(report, "accuracy@clean >= 0.2")) == 2
    # Without noise a camera is another at each exposure.
    assert [name for name, _, _ in judged(report, "accuracy@quantised >= 0.2")] == ["adc-3bit"]


@pytest.mark.parametrize(
    ("asked", "point"),
    [
        ("50 lx", "50 lx"),
        ("0.00931", "50 lx"),
        ("0.009309703709171216", "50 lx"),
        ("0.1", "exposure 0.1"),
        ("537.1 lx", "exposure 0.1"),
    ],
)
def test_an_exposure_is_an_illuminance(report, asked, point):
    assert judged(report, f"accuracy@exposure={asked} >= 0.2") == [("camera-imx477", point, "pass")]


@pytest.mark.parametrize("asked", ["0.00933", "49.9 lx", "0.1001", "538 lx"])
def test_another_exposure_is_missing(report, asked):
    ((_, _, outcome),) = judged(report, f"accuracy@exposure={asked} >= 0.2")
    assert outcome == "missing"


def test_an_axis_of_none_of_the_sensors_is_refused():
    with pytest.raises(UsageError, match="signals: expected a sensor that is read there, got none; leave"):
        study(signals=[0.5])
    with pytest.raises(UsageError, match="expected a camera to expose, got adc-3bit"):
        study(sensors=[{"spec": "adc-3bit"}])
    with pytest.raises(UsageError, match="expected a camera to expose, got adc-3bit"):
        study(eps=[])


def test_a_camera_beside_a_converter_is_read_at_eps_where_there_is_no_exposure():
    assert [point.axis for point in study(exposures=[], eps=[0.9]).operating_points(sensor("camera-imx477"))] == ["ep"]
