"""Reports of cameras say what light was asked for, and keep apart what differs."""

import json
import re

import numpy as np
import pytest

from robustcheck import Report, Study, load_data, run_study
from robustcheck.cli.main import main
from robustcheck.reporting import charts
from robustcheck.reporting.axis import axis_of, noisy_points, trained_at
from robustcheck.reporting.chart_data import difference_records
from robustcheck.reporting.html import render_html
from robustcheck.reporting.markdown import render_markdown
from robustcheck.reporting.report import OperatingPoint
from robustcheck.reporting.report_charts import report_charts
from robustcheck.reporting.tables import audit, overview, point_caption
from robustcheck.sensing.optics import exposure_of_lux
from robustcheck.sensing.profile import load_sensor

CAMERAS = ("camera-imx477", "camera-imx249")


def camera_audit(folder, sensors=CAMERAS, **fields):
    return run_study(
        Study.create(
            kind="audit",
            models=[{"spec": "digits-convnet"}],
            data={"spec": "digits", "max_samples": 100},
            sensors=[{"spec": name} if isinstance(name, str) else name for name in sensors],
            draws=1,
            **fields,
        ),
        folder,
    )


@pytest.fixture(scope="module")
def lit(tmp_path_factory):
    return camera_audit(tmp_path_factory.mktemp("lit"), exposures=["50 lx", "2 lx"])


def test_cameras_at_one_illuminance_stand_in_one_row(lit):
    table = audit(lit, "digits-convnet")
    heads = [line.cells[0] for line in table.lines]
    assert [head for head in heads if not head.startswith("–")] == ["clean", "50 lx", "2 lx"]
    exposures = [line.cells[1:] for line in table.lines if line.cells[0] == "– at"]
    for lux, cells in zip((50, 2), exposures, strict=True):
        assert cells == tuple(f"exposure {exposure_of_lux(load_sensor(name), lux):.4g}" for name in CAMERAS)
    assert all("–" not in line.cells[1:] for line in table.lines if line.cells[0] in ("50 lx", "2 lx"))


def test_one_camera_has_the_exposure_beside_the_illuminance(lit):
    alone = lit.model_copy(update={"results": lit.results[:1]})
    exposure = exposure_of_lux(load_sensor("camera-imx477"), 50)
    heads = [line.cells[0] for line in audit(alone, "digits-convnet").lines]
    assert f"50 lx (exposure {exposure:.4g})" in heads
    assert "– at" not in heads


def test_a_point_holds_what_was_asked_for_and_every_point_of_a_camera_its_light(lit, tmp_path):
    points = [each.point for _, each in noisy_points(lit.results[0])]
    assert [(point.kind, point.lux) for point in points] == [("lux", 50.0), ("lux", 2.0)]
    assert [prediction.point for prediction in lit.predictions if prediction.point.startswith("lux")] == []
    shares = camera_audit(tmp_path, sensors=CAMERAS[:1], exposures=[0.01, points[0].exposure])
    found = {point.exposure: point for point in (each.point for _, each in noisy_points(shares.results[0]))}
    assert {point.kind for point in found.values()} == {"exposure"}
    assert found[points[0].exposure].lux == pytest.approx(50)


def test_an_ep_that_equals_an_exposure_in_lux_is_still_an_ep(tmp_path):
    exposure = exposure_of_lux(load_sensor("camera-imx477"), 5000)
    report = camera_audit(tmp_path, sensors=CAMERAS[:1], exposures=["5000 lx"], eps=[exposure])
    assert {each.point.kind for _, each in noisy_points(report.results[0])} == {"lux", "ep"}


def test_the_chart_has_the_illuminance_as_its_axis(lit):
    assert [axis_of(result).name for result in lit.results] == ["lux", "lux"]
    drawn = charts.svg(report_charts(lit)["accuracy"])
    assert "illuminance [lx] (on the scene)" in drawn
    assert ">50</text>" in drawn
    for sensor in (result.sensor for result in lit.results):
        assert [point.lux > 0 for point in sensor.operating_points] == [True] * len(sensor.operating_points)
    night = {each.name: each.lux for each in lit.results[1].sensor.operating_points}["dusk"]
    assert 2 < night < 50
    assert ">dusk</text>" in drawn


def test_shares_beside_illuminances_are_told_on_the_axis_of_exposure(tmp_path):
    report = camera_audit(tmp_path, sensors=CAMERAS[:1], exposures=[0.2, "50 lx"])
    (result,) = report.results
    axis = axis_of(result)
    assert axis.name == "exposure"
    assert [axis.place(each.point) for _, each in noisy_points(result)] == [
        "exposure 0.2",
        f"exposure {exposure_of_lux(load_sensor('camera-imx477'), 50):.4g} (50 lx)",
    ]


def test_where_an_ep_moves_the_bits_the_light_is_told_as_it_was_asked_for(tmp_path):
    moved = {"spec": "camera-imx477", "vary": "bits", "at_exposure": "500 lx"}
    report = camera_audit(tmp_path, sensors=[moved], eps=[0.5])
    sensor = report.results[0].sensor
    assert sensor.at_lux == 500
    assert f"the resolution, at exposure {sensor.at_exposure:.4g}, 500 lx" in render_markdown(report)


def test_cameras_have_no_noise_of_a_converter_in_their_report(lit):
    document = json.loads(lit.to_json())
    assert all("noise" not in result["sensor"] for result in document["results"])
    assert Report.model_validate(document) == lit


def test_points_that_print_alike_are_kept_apart(tmp_path):
    close = (0.01, 0.010000001)
    report = camera_audit(tmp_path, exposures=close)
    heads = [line.cells[0] for line in audit(report, "digits-convnet").lines if not line.cells[0].startswith("–")]
    assert heads == ["clean", "exposure 0.010000001", "exposure 0.01"]
    text = render_markdown(report)
    assert "at exposure 0.010000001 and 0.01." in text
    assert text.count("| exposure 0.010000001 |") == 1 + len(CAMERAS)
    assert "exposure 0.010000001" in render_html(report)


def test_columns_panels_and_captions_are_kept_apart_too(build_report):
    close = (0.1, 0.10000004, 0.5)
    report = build_report(sensor_kind="camera", exposures=close, activations=("relu", "gelu"), diverge=False)
    (result,) = report.results
    assert overview(report, result).columns[3:6] == ("exposure 0.5", "exposure 0.10000004", "exposure 0.1")
    assert [record["at"] for record in difference_records(report, result, "relu")["gelu"]] == [
        "0.1",
        "0.10000004",
        "0.5",
    ]
    captions = re.findall(r"\*\*(exposure 0\.1\d*)[ ,]", render_markdown(report))
    assert {"exposure 0.1", "exposure 0.10000004"} <= set(captions)
    assert trained_at(report, result.sensor.key, "exposure=0.10000004") == "exposure 0.10000004"


def test_a_network_trained_at_an_illuminance_is_called_by_it(build_report):
    report = build_report(sensor_kind="camera", exposures=(0.01, 0.1))
    (result,) = report.results
    points = tuple(
        each.model_copy(
            update={"point": each.point.model_copy(update={"kind": "lux", "lux": 4000 * each.point.exposure})}
        )
        if each.point.exposure
        else each
        for each in result.points
    )
    report = report.model_copy(update={"results": (result.model_copy(update={"points": points}),)})
    assert trained_at(report, result.sensor.key, "exposure=0.1") == "400 lx"
    assert trained_at(report, result.sensor.key, "exposure=0.3") == "exposure 0.3"
    assert trained_at(report, "another", "exposure=0.1") == "exposure 0.1"
    assert [trained_at(report, "another", name) for name in ("mixed", "none", "0.5", "signal=0.3")] == [
        "mixed",
        "none",
        "EP 0.5",
        "signal 0.3",
    ]


def test_a_caption_of_an_illuminance_has_one_pair_of_brackets():
    point = OperatingPoint(
        kind="lux", ep=0.5, ep_adc=0.6, sigma=0.01, sigma_steps=0.7, exposure=0.02, lux=20000.0, named="dusk"
    )
    caption = "20000 lx, dusk (exposure 0.02, EP 0.5, as a converter sees it 0.6, σ = 0.7 codes)"
    assert point_caption(point) == caption


@pytest.mark.parametrize(("per_seed", "said"), [((0.9, 0.9), True), ((0.9, 0.903), True), ((0.9, 0.905), False)])
def test_networks_that_agree_are_told_what_could_have_been_seen(build_report, per_seed, said):
    report = build_report(activations=("relu", "gelu"), seeds=2, diverge=False)
    (result,) = report.results

    def with_seeds(comparison, per_seed):
        rows = tuple(row.model_copy(update={"per_seed": per_seed}) for row in comparison.rows)
        return comparison.model_copy(update={"rows": rows})

    points = tuple(
        each.model_copy(update={"comparison": with_seeds(each.comparison, per_seed if index == 2 else (0.8, 0.95))})
        for index, each in enumerate(result.points)
    )
    area = with_seeds(result.area, (0.8, 0.95))
    report = report.model_copy(update={"results": (result.model_copy(update={"points": points, "area": area}),)})
    note = "no spread between them is taken below one of the 360 test samples decided differently, 0.3 points."
    assert (note in " ".join(overview(report, report.results[0]).notes)) == said
    assert render_markdown(report).count(note) == (2 if said else 0)


def test_long_names_of_sensors_are_whole_in_every_chart(build_report):
    report = build_report("audit", sensor_kind="camera", bits=(12, 8))
    long = "camera-imx477/4 bits/dark_current_e_per_s=1000/read_noise_e=25"
    sensor = report.results[0].sensor.model_copy(update={"key": long})
    report = report.model_copy(
        update={"results": (report.results[0].model_copy(update={"sensor": sensor}), *report.results[1:])}
    )
    for wide in (True, False):
        drawn = charts.svg(report_charts(report, wide=wide)["accuracy"])
        assert "…" not in drawn
        texts = re.findall(r">([^<>]+)</t", drawn)
        assert "read_noise_e=25" in " ".join(texts)
        assert "camera-imx477/8 bits" in texts


def test_the_numbers_of_a_profile_are_folded_on_the_page(build_report):
    page = render_html(build_report(sensor_kind="camera"))
    folded = page.index("<summary>All 4 numbers of the profile with their sources; 2 assumed</summary>")
    assert folded < page.index("<caption>Numbers of the profile</caption>") < page.index("</details>", folded)
    assert page.count("<details>") == page.count("</details>")


def test_notes_on_data_are_not_printed_where_quiet_was_asked_for(tmp_path, capsys):
    digits = load_data("digits", max_samples=600).test
    path = tmp_path / "digits.npz"
    np.savez(path, images=digits.physical().numpy(), labels=np.arange(len(digits.labels)) % 10, unused=np.zeros(3))
    base = [
        "audit",
        "digits-convnet",
        "--data",
        f"npz:{path}",
        "--ep",
        "0.5",
        "--draws",
        "1",
        "-o",
        str(tmp_path / "out"),
    ]
    main(base)
    assert "note: arrays not used" in capsys.readouterr().err
    main([*base, "-q"])
    assert capsys.readouterr().err == ""


def test_the_narrow_chart_keeps_its_legend_where_sensors_name_points_of_their_own(lit):
    drawn = charts.svg(report_charts(lit, wide=False)["accuracy"])
    for name in CAMERAS:
        assert f">{name} (12 bits)</" in drawn
