"""Studies of cameras from plan to report: axes, both of them in the report, and what is refused."""

import json

import numpy as np
import pytest
import torch

from robustcheck import Report, Study, channel, evaluate, load_data, load_model, run_study, train
from robustcheck.errors import StudyMismatchError, UsageError
from robustcheck.sensing import camera
from robustcheck.sensing.camera import camera_setting
from robustcheck.sensing.camera_ep import error_probability_at
from robustcheck.sensing.operating_point import OperatingPoint
from robustcheck.sensing.profile import load_sensor
from robustcheck.study.cells import contestants, load_study, points
from robustcheck.study.differences import require_same_study

AUDIT = {
    "kind": "audit",
    "models": [{"spec": "digits-convnet"}],
    "data": {"spec": "digits", "max_samples": 200},
    "sensors": [{"spec": "camera-imx477"}],
    "draws": 2,
}


def study(**fields):
    return Study.create(**{**AUDIT, **fields})


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    asked = study(exposures=[0.001, 0.01, "50 lx"], eps=[0.95])
    return run_study(asked, tmp_path_factory.mktemp("camera"))


def noisy(report, result=0):
    return [each.point for each in report.results[result].points if each.point.kind not in ("clean", "quantised")]


def test_a_camera_has_both_axes_whichever_was_asked_for(report):
    found = {point.kind: point for point in noisy(report)}
    assert set(found) == {"ep", "exposure", "lux"}
    assert found["lux"].lux == 50.0
    for point in noisy(report):
        assert 0 < point.exposure < 1
        assert 0 < point.ep < 1
        assert 0 < point.data_ep < 1
        assert point.bits is None
        assert point.signal is None
    assert found["ep"].ep == 0.95
    dark = channel("camera-imx477", exposure=0.001).reading
    assert [p.ep for p in noisy(report) if p.exposure == 0.001] == [dark.ep]


def test_points_stand_in_the_order_of_light(report):
    exposures = [point.exposure for point in noisy(report)]
    assert exposures == sorted(exposures)
    assert len(set(exposures)) == 4


def test_the_profiles_own_operating_points_keep_their_names(report):
    named = {point.exposure: point.named for point in noisy(report)}
    own = {number.value: name for name, number in channel("camera-imx477").sensor.profile.operating_points.items()}
    assert named[0.01] == own[0.01]
    assert None in named.values()


def test_the_sensor_is_described_with_every_number_and_its_status(report):
    sensor = report.results[0].sensor
    assert sensor.kind == "camera"
    gain = next(number for number in sensor.numbers if number.name == "gain_dn_per_e")
    assert (gain.value, gain.status) == ("0.47 DN/electron", "measured")
    assert set(sensor.assumed) == {number.name for number in sensor.numbers if number.status == "assumed"}
    assert [point.name for point in sensor.operating_points]


def test_the_report_survives_its_file(report, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(report.to_json(), encoding="utf-8")
    assert Report.load(path) == report


def test_data_ep_is_the_mean_over_the_pixels_of_the_test_split(report):
    data = load_data("digits", max_samples=200)
    codes = np.rint(
        data.test.images.numpy().astype(np.float64) * (1 if data.test.images.is_floating_point() else 1 / 255) * 255
    )
    srgb = codes / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    setting = camera_setting(load_sensor("camera-imx477"), exposure=0.01)
    expected = error_probability_at(setting, (linear * setting.white_e).ravel()).mean()
    stated = next(point.data_ep for point in noisy(report) if point.exposure == 0.01)
    assert stated == pytest.approx(expected, rel=1e-6)


def test_a_converters_report_says_nothing_of_cameras(tmp_path):
    asked = study(sensors=[{"spec": "adc-4bit"}], eps=[0.5])
    document = json.loads(run_study(asked, tmp_path).to_json())
    (result,) = document["results"]
    assert set(result["points"][-1]["point"]) == {"kind", "ep", "ep_adc", "sigma", "sigma_steps"}
    assert "kind" not in result["sensor"]
    assert "numbers" not in result["sensor"]


def test_less_light_costs_accuracy_and_the_report_ranks_by_it(report):
    accuracy = {each.point.exposure: each.comparison.rows[0].accuracy for each in report.results[0].points}
    assert accuracy[0.001] < accuracy[0.01] <= accuracy[None] + 0.02


def test_an_ep_can_move_the_bits(tmp_path):
    asked = study(sensors=[{"spec": "camera-imx477", "vary": "bits", "at_exposure": 0.5}], eps=[0.2, 0.5])
    found = noisy(run_study(asked, tmp_path))
    assert [point.ep for point in found] == [0.2, 0.5]
    assert found[0].bits < found[1].bits == pytest.approx(6.66, abs=0.01)
    assert {point.exposure for point in found} == {0.5}


def test_each_point_trains_a_network_of_its_own(tmp_path):
    asked = Study.create(
        **{**AUDIT, "kind": "compare"},
        exposures=[0.002, 0.02],
        activations=["gelu"],
        seeds=2,
        training={"epochs": 1, "learning_rates": [1e-3]},
    )
    loaded = load_study(asked)
    names = {who.train_ep: who for who in contestants(loaded)}
    assert list(names) == ["exposure=0.002", "exposure=0.02"]
    dark = OperatingPoint("exposure", 0.002)
    assert names["exposure=0.002"].train_points == (dark,)
    quiet = OperatingPoint("exposure", 0.002, noisy=False)
    assert points(names["exposure=0.002"]) == {"clean": None, "exposure=0.002 quantised": quiet, "exposure=0.002": dark}
    made = run_study(asked, tmp_path)
    assert {cell.train_ep for cell in made.training} == set(names)
    assert [point.exposure for point in noisy(made)] == [0.002, 0.02]


def test_an_area_is_over_the_logarithm_of_exposure(tmp_path):
    asked = Study.create(
        **{**AUDIT, "kind": "compare"},
        exposures=[0.001, 0.01, 0.5],
        activations=["gelu"],
        seeds=2,
        training={"epochs": 1, "learning_rates": [1e-3], "train_ep": "mixed"},
    )
    result = run_study(asked, tmp_path).results[0]
    rows = {row.activation: row.accuracy for row in result.area.rows}
    for name, area in rows.items():
        curve = [row.accuracy for each in result.points for row in each.comparison.rows if row.activation == name][-3:]
        at = np.log10([0.001, 0.01, 0.5])
        assert area == pytest.approx(np.trapezoid(curve, at) / (at[-1] - at[0]))


def test_training_takes_a_channel_at_an_exposure():
    model, data = load_model("digits-convnet"), load_data("digits", max_samples=200)
    made = train(model, data, channel("camera-imx477", exposure=0.01), policy={"epochs": 1})
    assert len(made.validation_curve) == 1
    assert evaluate(made.model, data, channel("camera-imx477", exposure=0.01), draws=2).predicted.shape[0] == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "expected at least one of eps, exposures or signals"),
        ({"eps": [0.5]}, "camera-imx477 at 12 bits: expected an EP from 0.7"),
        ({"signals": [0.5]}, "it is a camera; use --exposure or --ep"),
        ({"exposures": [0.5], "sensors": [{"spec": "adc-4bit"}]}, "it is a converter; use --ep"),
        ({"exposures": ["50 lx"], "sensors": [{"spec": "adc-4bit"}]}, "expected a camera to expose"),
        ({"exposures": [1.5]}, "exposures"),
        ({"exposures": ["bright"]}, "exposures"),
        ({"exposures": ["1e9 lx"]}, "lux"),
        ({"exposures": [0.1, 0.1]}, "expected each once"),
        (
            {"exposures": [0.1], "eps": [0.5], "sensors": [{"spec": "camera-imx477", "vary": "bits"}]},
            "expected none where an EP moves the bits",
        ),
        ({"eps": [0.9], "sensors": [{"spec": "camera-imx477", "at_exposure": 0.1}]}, "with vary 'bits' alone"),
        ({"exposures": [0.1], "sensors": [{"spec": "camera-imx477", "settings": {"gain": 1}}]}, "unknown number"),
    ],
)
def test_a_study_that_makes_no_sense_is_refused_before_it_runs(fields, message):
    with pytest.raises(UsageError) as caught:
        study(**fields)
    assert message in str(caught.value)


def test_a_sensor_must_fit_the_data():
    with pytest.raises(UsageError) as caught:
        load_study(study(sensors=[{"spec": "lidar-vlp16"}], signals=[0.5]))
    assert "expected range images, got digits" in str(caught.value)


def test_a_folder_of_an_older_version_is_gone_on_with(tmp_path):
    asked = study(sensors=[{"spec": "adc-4bit"}], eps=[0.5]).document()
    older = {key: value for key, value in asked.items() if key not in ("exposures", "signals")}
    later = ("settings", "vary", "at_exposure", "device_seed")
    older["sensors"] = [{key: value for key, value in each.items() if key not in later} for each in asked["sensors"]]
    require_same_study(older, asked, tmp_path)
    with pytest.raises(StudyMismatchError):
        require_same_study(older, {**asked, "eps": [0.6]}, tmp_path)


def test_a_study_file_says_the_same(tmp_path):
    asked = study(exposures=[0.001, "50 lx"], sensors=[{"spec": "camera-imx477", "settings": {"prnu": 0.0}}])
    path = tmp_path / "study.toml"
    path.write_text(asked.to_toml(), encoding="utf-8")
    assert Study.load(path) == asked


def test_rounding_alone_is_that_of_the_same_light(tmp_path):
    asked = study(sensors=[{"spec": "camera-imx477", "bits": 4}], exposures=[0.02, 0.5])
    made = run_study(asked, tmp_path)
    model, data = load_model("digits-convnet"), load_data("digits", max_samples=200)
    for each in made.results[0].points:
        if each.point.kind != "exposure":
            assert each.point.kind == "clean"
            continue
        setting = camera_setting(load_sensor("camera-imx477"), exposure=each.point.exposure, bits=4, noisy=False)
        rounded = camera.sense(data.test.physical(), setting, 0, "test", data.test.sample_ids, 0)
        with torch.no_grad():
            expected = (model.network(model.input.normalise(rounded)).argmax(dim=1) == data.test.labels).double().mean()
        assert each.comparison.rows[0].quantised == pytest.approx(float(expected))
    dark = next(each for each in made.results[0].points if each.point.exposure == 0.02)
    assert dark.comparison.rows[0].accuracy < 0.2  # one code is left of the whole range, and no noise is to blame
    assert dark.comparison.rows[0].quantised < 0.2


def test_a_named_point_that_the_settings_leave_no_sense_stops_nothing(tmp_path):
    geared = {"spec": "camera-imx477", "settings": {"analog_gain": 16.0, "read_noise_e": 1.5}}
    sensor = run_study(study(sensors=[geared], exposures=[0.05]), tmp_path).results[0].sensor
    found = {point.name: point.ep for point in sensor.operating_points}
    assert found["daylight"] is None  # at a gain of 16 the converter is full at a sixteenth of the well
    assert found["night"] > 0.9
