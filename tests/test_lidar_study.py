"""Studies of LIDARs from plan to report, and what they share with those of cameras: names, seeds, refusals."""

import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from robustcheck import Study, channel, load_data, load_model, run_study, train
from robustcheck.cli.sensor_options import operating_points
from robustcheck.cli.sensor_points import ep, plot
from robustcheck.cli.study_options import base_study
from robustcheck.errors import UsageError
from robustcheck.sensing.camera_ep import exposure_at_ep, gain_at_ep
from robustcheck.sensing.operating_point import OperatingPoint
from robustcheck.sensing.optics import exposure_of_lux
from robustcheck.sensing.profile import load_sensor
from robustcheck.sensing.sensor import sensor
from robustcheck.study import delivery
from robustcheck.study.cells import check_sees, contestants, load_study, points
from robustcheck.study.plan import SensorChoice

LIDAR = {
    "models": [{"spec": "lidar-rangenet"}],
    "data": {"spec": "lidar-scenes", "max_samples": 160},
    "sensors": [{"spec": "lidar-vlp16", "device_seed": 3}],
    "signals": [0.1, 0.3, 1.0],
    "draws": 2,
}
CAMERA = {
    "kind": "audit",
    "models": [{"spec": "digits-convnet"}],
    "data": {"spec": "digits", "max_samples": 200},
    "sensors": [{"spec": "camera-imx477"}],
}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    asked = Study.create(**LIDAR, activations=["gelu"], training={"mode": "none"})
    return run_study(asked, tmp_path_factory.mktemp("lidar"))


def test_each_signal_is_read_and_named(report):
    found = [each.point for each in report.results[0].points if each.point.kind == "signal"]
    assert [point.signal for point in found] == [0.1, 0.3, 1.0]
    assert [point.named for point in found] == [None, "fog", "clear"]
    for point in found:
        reading = channel("lidar-vlp16", signal=point.signal).reading
        assert (point.range_ep, point.intensity_ep) == (reading.range_ep, reading.intensity_ep)
        assert point.detection == reading.detection
        assert point.ep is None
        assert point.exposure is None
    assert [each.point.kind for each in report.results[0].points][:2] == ["clean", "quantised"]


def test_the_specimen_is_named(report):
    summary = report.results[0].sensor
    assert (summary.kind, summary.device_seed, summary.vary, summary.at_exposure) == ("lidar", 3, None, None)
    assert summary.key == "lidar-vlp16/device 3"


def test_an_area_is_over_the_logarithm_of_the_signal(report):
    result = report.results[0]
    at = np.log10([0.1, 0.3, 1.0])
    for row in result.area.rows:
        curve = [
            other.accuracy
            for each in result.points
            if each.point.kind == "signal"
            for other in each.comparison.rows
            if other.activation == row.activation
        ]
        assert row.accuracy == pytest.approx(np.trapezoid(curve, at) / (at[-1] - at[0]))


def test_specimens_differ_and_rounding_alone_has_no_noise():
    image = torch.full((1, 2, 16, 64), 0.1)
    one, other = (channel("lidar-vlp16", signal=1.0, device_seed=seed)(image) for seed in (0, 1))
    assert not torch.equal(one, other)
    rounded = channel("lidar-vlp16")(image)
    assert torch.equal(rounded, channel("lidar-vlp16", seed=5)(image))
    assert len(rounded[0, 0].unique()) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"signals": [1.0, 0.1]}, "signals: expected rising order"),
        ({"signals": [0.1, 0.1]}, "signals: expected each once"),
        ({"signals": [], "eps": [0.5]}, "it is a LIDAR"),
        ({"signals": [0]}, "signals"),
    ],
)
def test_signals_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(UsageError) as caught:
        Study.create(**{**LIDAR, "kind": "audit", **fields})
    assert message in str(caught.value)


def test_a_lidar_is_not_trained_at_an_ep_and_a_camera_does_not_see_ranges():
    asked = Study.create(**LIDAR, activations=["gelu"], training={"epochs": 1, "train_ep": 0.5})
    with pytest.raises(UsageError, match="it is a LIDAR"):
        contestants(load_study(asked))
    with pytest.raises(UsageError, match="is a camera: expected images"):
        load_study(
            Study.create(
                **{**LIDAR, "kind": "audit", "sensors": [{"spec": "camera-imx477"}], "signals": [], "exposures": [0.1]}
            )
        )


@pytest.fixture(scope="module")
def clouds(tmp_path_factory):
    """A folder of clouds in two classes, dots on a screen 3 m and 9 m away."""
    root = tmp_path_factory.mktemp("clouds")
    side, height = np.meshgrid(np.linspace(-0.3, 0.3, 20), np.linspace(-0.5, 0.5, 20))
    for label, distance in (("near", 3.0), ("far", 9.0)):
        (root / label).mkdir()
        for number in range(4):
            ahead = np.full(side.size, distance + 0.1 * number)
            points = np.stack([ahead, side.ravel(), height.ravel(), np.full(side.size, 0.2)], axis=1)
            (root / label / f"{number}.bin").write_bytes(points.astype("<f4").tobytes())
    return root


@pytest.mark.parametrize("settings", [{}, {"keep_every": 4}, {"azimuth_step_deg": 0.1729}])
def test_a_lidar_senses_data_that_its_beams_have_seen(clouds, settings):
    check_sees(sensor("lidar-hdl64e", settings=settings), load_data(f"clouds:lidar-hdl64e:{clouds}"))
    check_sees(sensor("lidar-os1-64-lowrate"), load_data(f"clouds:lidar-os1-64:{clouds}"))


@pytest.mark.parametrize(
    ("part", "settings", "difference"),
    [
        ("lidar-vlp16", {}, "got 16 beams instead of 64"),
        ("lidar-pandar64", {}, "got beam 1 at 15° instead of 2°"),
        ("lidar-hdl64e", {"azimuth_step_deg": 0.09}, "got a firing every 0.09° instead of 0.1728°"),
    ],
)
def test_a_lidar_that_looks_elsewhere_is_refused(clouds, part, settings, difference):
    data = load_data(f"clouds:lidar-hdl64e:{clouds}")
    with pytest.raises(UsageError) as caught:
        check_sees(sensor(part, settings=settings), data)
    assert str(caught.value).startswith(
        f"{part}: expected the beams that {data.name} was seen with, lidar-hdl64e (64 beams from +2° to -24.8°, a "
        f"firing every 0.1728°), {difference}; choose a LIDAR whose beams look there"
    )
    assert str(caught.value).endswith("name the one that took the data, clouds:PART:PATH")


def test_a_study_refuses_a_lidar_that_looks_elsewhere_than_the_scenes():
    asked = Study.create(**{**LIDAR, "kind": "audit", "sensors": [{"spec": "lidar-os1-64"}]})
    with pytest.raises(UsageError, match=r"got 64 beams instead of 16; choose a LIDAR whose beams look there$"):
        load_study(asked)


def test_in_clear_air_lost_returns_cost_accuracy_and_range_noise_does_not():
    """What docs/lidar.md concludes, on fewer scenes."""
    model, scenes = load_model("lidar-rangenet"), load_data("lidar-scenes", max_samples=1200).test
    model.network.eval()

    def accuracy(**settings):
        sensed = channel("lidar-vlp16", signal=1.0, settings=settings)(scenes.physical(), scenes.sample_ids)
        with torch.no_grad():
            named = model.network(model.input.normalise(sensed)).argmax(dim=1)
        return float((named == scenes.labels).double().mean())

    shipped = accuracy()
    assert accuracy(range_noise_m=1e-6, range_noise_limit_m=1e-6) == pytest.approx(shipped, abs=0.01)
    assert shipped + 0.02 < accuracy(range_at_10_percent_m=45) < accuracy(range_at_10_percent_m=100) - 0.03


def test_points_are_hashed_with_their_axis():
    by_ep, by_light = (load_study(Study.create(**CAMERA, **at)) for at in ({"eps": [0.95]}, {"exposures": [0.95]}))
    found = [contestants(loaded)[0] for loaded in (by_ep, by_light)]
    assert list(points(found[0]))[-1] == "ep=0.95"
    assert list(points(found[1]))[-1] == "exposure=0.95"
    from robustcheck.study.cells import ranking_cells

    hashes = {loaded.hash(cell) for loaded in (by_ep, by_light) for cell in ranking_cells(loaded, {})}
    assert len(hashes) == 2


def test_a_point_is_named_with_all_its_digits():
    assert OperatingPoint("exposure", 0.0123456789).name == "exposure=0.0123456789"


def test_a_choice_binds_all_that_it_states():
    bound = SensorChoice(spec="camera-imx477", device_seed=7, settings={"prnu": 0.0}).bind()
    assert bound == sensor("camera-imx477", device_seed=7, settings={"prnu": 0})
    lit = SensorChoice(spec="camera-imx477", vary="bits", at_exposure="50 lx").bind()
    assert lit.at_exposure == exposure_of_lux(load_sensor("camera-imx477"), 50)
    share = exposure_of_lux(load_sensor("camera-imx477"), 50)
    with pytest.raises(UsageError, match="exposures: expected different ones"):
        Study.create(**CAMERA, exposures=[share, "50 lx"])


def test_the_order_of_settings_does_not_matter():
    settings = {"read_noise_e": 5, "prnu": 0}
    turned = dict(reversed(settings.items()))
    assert sensor("camera-imx477", settings=settings) == sensor("camera-imx477", settings=turned)


def test_an_ep_is_found_at_the_resolution_in_use():
    found = channel("camera-imx477", ep=0.5, bits=8).reading.exposure
    assert found == pytest.approx(exposure_at_ep(load_sensor("camera-imx477"), 0.5, bits=8))


def test_training_prefers_the_points_that_are_given():
    model, data = load_model("digits-convnet"), load_data("digits", max_samples=200)
    policy = {"epochs": 1}
    at = channel("camera-imx477", exposure=0.5)
    dark = OperatingPoint("exposure", 0.0005)
    given = train(model, data, at, [dark], policy=policy)
    assert given.train_loss == train(model, data, at.at(dark), policy=policy).train_loss
    assert given.train_loss != train(model, data, at, policy=policy).train_loss


def test_delivered_models_are_evaluated_as_precisely_as_asked(monkeypatch):
    seen = []
    monkeypatch.setattr(delivery, "evaluate", lambda *arguments, **options: seen.append((arguments, options)))
    delivery.evaluations(None, None, sensor("adc-4bit"), [OperatingPoint("ep", 0.5)], 7, 0.01)
    (_, (arguments, options)) = seen
    assert options == {"draws": 7, "precision": 0.01}
    assert arguments[2].point == OperatingPoint("ep", 0.5)


def typed(**changed):
    """Parameters of a command as click gives them."""
    plain = {
        "eps": (), "exposures": (), "signals": (), "vary": "exposure", "data": "digits", "sensors": (), "bits": (),
        "steps": (), "noise": "gaussian", "placement": "sensor", "form": "aod", "range": None, "settings": {},
        "device_seed": 0, "classes": None, "draws": 5, "precision": None, "split_seed": 0, "max_samples": None,
        "resize": None, "crop": None, "pad": None, "flip": False, "random_crop_padding": None, "rotate": None,
    }  # fmt: skip
    models = dict.fromkeys(("weights", "mean", "std", "input_range", "layout", "channel_order"))
    return {**plain, **models, **changed}


def test_the_options_state_the_sensor():
    stated = base_study(
        typed(sensors=("camera-imx477",), settings={"prnu": 0.0}, device_seed=4, exposures=("0.1",)), "digits-convnet"
    )
    (choice,) = stated["sensors"]
    assert (choice["settings"], choice["device_seed"], choice["vary"]) == ({"prnu": 0.0}, 4, "exposure")
    assert stated["exposures"] == (0.1,)


def test_operating_points_of_options():
    own = {name: {p.value for p in load_sensor(name).operating_points.values()}
           for name in ("camera-imx477", "camera-ox03c10")}  # fmt: skip
    found, _ = operating_points(typed(), tuple(own))
    assert set(found["exposures"]) == set.union(*own.values())
    assert found["eps"] == ()
    plain, _ = operating_points(typed(), ("adc-4bit",))
    assert plain["eps"] == (0.2, 0.4, 0.6, 0.8)
    with pytest.raises(UsageError, match="expected sensors of one kind"):
        operating_points(typed(), ("adc-4bit", "camera-imx477"))
    varied, light = operating_points(typed(vary="bits", exposures=("0.1",)), ("camera-imx477",))
    assert (light, varied["exposures"], varied["eps"]) == ({"at_exposure": 0.1}, (), (0.2, 0.4, 0.6, 0.8))
    with pytest.raises(UsageError, match="expected one with --vary bits"):
        operating_points(typed(vary="bits", exposures=("0.1", "0.2")), ("camera-imx477",))


def test_sensors_ep_uses_bits_for_the_gain_and_names_what_is_assumed():
    import json

    arguments = ["camera-imx477", "--exposure", "0.5", "--bits", "10", "--at-ep", "0.9", "--json"]
    answer = json.loads(CliRunner().invoke(ep, arguments, catch_exceptions=False).stdout)
    expected = gain_at_ep(load_sensor("camera-imx477"), 0.9, exposure=0.5, bits=10)
    assert answer["at_ep"]["at"][0]["gain_dn_per_e"]["value"] == pytest.approx(expected)
    assert "prnu" in answer["assumed"]
    assert "gain_dn_per_e" not in answer["assumed"]
    assert math.isclose(answer["bits"], 10)


def test_a_plot_shows_what_was_set(tmp_path):
    drawn = []
    for extra in ([], ["--set", "read_noise_e=300"]):
        out = tmp_path / f"{len(drawn)}.svg"
        CliRunner().invoke(plot, ["camera-imx477", "-o", str(out), *extra], catch_exceptions=False)
        drawn.append(out.read_text(encoding="utf-8"))
    assert drawn[0] != drawn[1]
