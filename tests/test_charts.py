"""Charts show the numbers of the report, the same bytes each time, in colours that can be told apart."""

import itertools
import json
import math
import re
import struct
import xml.etree.ElementTree as ET
from dataclasses import dataclass

import altair
import numpy as np
import pytest

from robustcheck.errors import InvalidValueError, ReportError
from robustcheck.reporting import charts, palette
from robustcheck.reporting.chart_data import apart, training_records
from robustcheck.reporting.report_charts import report_charts

SCRIPT = "<script>alert(1)</script>"


@dataclass(frozen=True)
class Curve:
    name: str
    x: tuple[float, ...]
    value: tuple[float, ...]
    derivative: tuple[float, ...]


def records(chart):
    """All inline data of a chart, whatever its nesting."""
    found = []

    def walk(node):
        if isinstance(node, dict):
            if isinstance(node.get("values"), list):
                found.extend(each for each in node["values"] if isinstance(each, dict))
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    walk(chart.to_dict())
    return found


def test_accuracy_chart_holds_every_mean_and_interval(compare_report):
    result = compare_report.results[0]
    drawn = {
        (each["series"].removesuffix(" (current)"), each["x"]): each
        for each in records(charts.accuracy_chart(compare_report, result))
        if each.get("noisy")
    }
    assert len(drawn) == 6 * 4
    for each in result.points:
        if each.point.ep is None:
            continue
        for row in each.comparison.rows:
            at = drawn[row.activation, each.point.ep]
            assert at["accuracy"] == pytest.approx(100 * np.mean(row.per_seed), abs=1e-3)
            assert at["lower"] == pytest.approx(100 * max(0, row.networks.lower), abs=1e-3)
            assert at["upper"] == pytest.approx(100 * min(1, row.networks.upper), abs=1e-3)


def test_difference_chart_is_relative_to_the_current_activation(compare_report):
    result = compare_report.results[0]
    drawn = [each for each in records(charts.difference_chart(compare_report, result)) if "difference" in each]
    assert {each["series"] for each in drawn} == {"leaky_relu", "gelu", "silu", "mish", "aptx"}
    for each in drawn:
        point = next(p for p in result.points if p.point.ep == float(each["at"]))
        mean = {row.activation: np.mean(row.per_seed) for row in point.comparison.rows}
        assert each["difference"] == pytest.approx(100 * (mean[each["series"]] - mean["relu"]), abs=1e-3)
        assert each["lower"] < each["difference"] < each["upper"]


def test_training_chart_has_one_line_a_network(compare_report):
    drawn = [
        each
        for each in records(charts.training_chart(compare_report, compare_report.results[0]))
        if each.get("epoch") == 20
    ]
    assert len({each["network"] for each in drawn}) == 30
    assert sum(not each["converged"] for each in drawn) == 1


def test_networks_trained_at_an_exposure_each_are_told_apart_by_it(build_report):
    report = build_report(sensor_kind="camera", activations=("relu", "gelu"), seeds=2)
    at = ("exposure=0.5", "exposure=0.00472870804")
    matched = tuple(each.model_copy(update={"train_ep": at[each.seed]}) for each in report.training)
    report = report.model_copy(update={"training": matched})
    drawn = charts.svg(charts.training_chart(report, report.results[0]))
    for text in ("trained at", "exposure 0.5", "exposure 0.004729"):
        assert f">{text}<" in drawn


def test_long_training_is_thinned_and_keeps_its_end(build_report):
    report = build_report(epochs=3000, eps=(0.5,))
    by_name = training_records(report, report.results[0])
    points = [each for records in by_name.values() for each in records]
    assert len(points) < 3100
    assert max(each["epoch"] for each in points) == 3000


def test_audit_has_one_chart_with_a_line_a_sensor(audit_report):
    drawn = report_charts(audit_report)
    assert list(drawn) == ["accuracy"]
    assert {each["series"] for each in records(drawn["accuracy"]) if "noisy" in each} == {
        "adc-2bit (3 steps, 2 bits)",
        "adc-3bit (7 steps, 3 bits)",
        "adc-4bit (15 steps, 4 bits)",
    }


@pytest.mark.parametrize("kind", ["camera", "lidar"])
def test_shares_of_light_are_drawn_as_they_are_on_a_log_axis_with_clean_beyond_the_mildest(build_report, kind):
    report = build_report(sensor_kind=kind)
    field = "exposure" if kind == "camera" else "signal"
    for wide in (True, False):
        chart = charts.accuracy_chart(report, report.results[0], wide)
        drawn = [each for each in records(chart) if "noisy" in each]
        shares = {getattr(each.point, field) for each in report.results[0].points} - {None}
        assert {each["x"] for each in drawn if each["noisy"]} == shares
        still = {each["x"] for each in drawn if not each["noisy"]}
        assert len(still) == 2 * 6
        assert min(still) > max(shares)
        scales = [layer["encoding"]["x"]["scale"] for layer in chart.to_dict()["layer"] if "noisy" in str(layer)]
        assert all(scale["type"] == "log" and scale["domain"][0] == min(shares) for scale in scales)
        assert scales[0]["domain"][1] > max(still)
        for each in report.results[0].points:
            for row in each.comparison.rows if getattr(each.point, field) else ():
                at = next(one for one in drawn if one["x"] == getattr(each.point, field)
                          and one["series"].removesuffix(" (current)") == row.activation)  # fmt: skip
                assert at["accuracy"] == pytest.approx(100 * row.accuracy, abs=1e-3)


def test_a_camera_has_its_eps_and_its_named_operating_points_on_the_axis(build_report):
    report = build_report(sensor_kind="camera")
    drawn = charts.svg(charts.accuracy_chart(report, report.results[0]))
    assert ">exposure (share of full well that white fills)<" in drawn
    for each in report.results[0].points:
        if each.point.exposure is not None:
            assert f">EP {each.point.ep:.3g}<" in drawn
            assert f">{each.point.exposure:.2g}<" in drawn
    for name, inside in (("daylight", True), ("indoor", True), ("dusk", True), ("night", False)):
        assert (f">{name}<" in drawn) == inside
    marked = {each["name"]: each["at"] for each in records(charts.accuracy_chart(report, report.results[0]))
              if "at" in each}  # fmt: skip
    assert marked == {"daylight": 0.5, "indoor": 0.1057, "dusk": 0.01}


def test_names_above_an_axis_do_not_run_into_each_other(build_report):
    report = build_report(sensor_kind="lidar", signals=(0.001, 1.0))
    for wide in (True, False):
        chart = charts.accuracy_chart(report, report.results[0], wide)
        root = ET.fromstring(charts.svg(chart))
        assert {"clear", "light-fog", "dirty-window"} <= {node.text for node in root.iter()}
        placed = {each["name"]: each for each in records(chart) if "row" in each}.values()
        low, high = (math.log(end) for end in chart.to_dict()["layer"][0]["encoding"]["x"]["scale"]["domain"])
        width = chart.to_dict()["width"]
        spans = [
            (each["row"], x, x + 5 * len(each["name"]))
            for each in placed
            for x in [width * (math.log(each["at"]) - low) / (high - low)]
        ]
        for (row, start, end), (other, begin, _) in itertools.combinations(sorted(spans, key=lambda each: each[1]), 2):
            assert row != other or end < begin
            # The line up to a name passes over those to its left: they must stand above it.
            assert start <= begin
            assert not (end > begin and row < other)


def test_bits_that_move_have_their_own_axis(build_report):
    report = build_report(sensor_kind="camera", vary="bits")
    chart = charts.accuracy_chart(report, report.results[0])
    assert charts.title_of(chart)[0] == "Accuracy against resolution"
    assert {each["x"] for each in records(chart) if each.get("noisy")} == {4.5, 5.5, 6.6, 7.8}
    assert not any("at" in each for each in records(chart))


def test_an_audit_has_a_chart_for_each_axis(build_report):
    converter, camera = (build_report("audit", **each) for each in ({}, {"sensor_kind": "camera", "bits": (12, 8)}))
    both = converter.model_copy(update={"results": camera.results + converter.results})
    drawn = report_charts(both)
    assert {name: charts.title_of(chart)[0] for name, chart in drawn.items()} == {
        "accuracy-1": "Accuracy against exposure",
        "accuracy-2": "Accuracy against error probability",
    }
    series = {each["series"] for each in records(drawn["accuracy-1"]) if "noisy" in each}
    assert series == {"camera-imx477 (12 bits)", "camera-imx477/8 bits"}
    # At one exposure a camera of 8 bits has another EP than one of 12, so that no row of EPs would be true of both.
    assert ">EP " not in charts.svg(drawn["accuracy-1"])


def test_eps_are_drawn_only_where_they_are_true_of_each_sensor_everywhere(build_report):
    report = build_report("audit", sensor_kind="camera", bits=(12, 8))
    first, second = report.results
    theirs = {each.point.exposure: each.point.ep for each in first.points}

    def alike(but):
        points = tuple(
            each.model_copy(update={"point": each.point.model_copy(update={"ep": theirs[each.point.exposure]})})
            if each.point.exposure not in (None, but)
            else each
            for each in second.points
        )
        return charts.svg(charts.audit_chart(report, [first, second.model_copy(update={"points": points})]))

    assert alike(but=None).count(">EP 0.") == 5
    assert ">EP 0." not in alike(but=0.5)


def test_operating_points_on_which_sensors_differ_are_marked_in_their_colours(build_report):
    report = build_report("audit", sensor_kind="camera", bits=(12, 8))
    first, second = report.results
    moved = tuple(each.model_copy(update={"value": 0.02}) if each.name == "dusk" else each
                  for each in second.sensor.operating_points)  # fmt: skip
    second = second.model_copy(update={"sensor": second.sensor.model_copy(update={"operating_points": moved})})
    chart = charts.audit_chart(report, [first, second])
    marked = {(each["name"], each["at"], each["series"]) for each in records(chart) if "row" in each}
    assert marked == {
        ("daylight", 0.5, None),
        ("indoor", 0.1057, None),
        ("dusk", 0.01, "camera-imx477 (12 bits)"),
        ("dusk", 0.02, "camera-imx477/8 bits"),
    }


def test_differences_of_a_camera_stand_from_dark_to_bright(build_report):
    report = build_report(sensor_kind="camera")
    drawn = [each for each in records(charts.difference_chart(report, report.results[0])) if "difference" in each]
    assert [each["at"] for each in drawn[:5]] == ["0.001", "0.00473", "0.0224", "0.106", "0.5"]


def test_charts_that_have_nothing_to_show_are_left_out(build_report):
    one_seed = build_report(seeds=1, activations=("relu", "gelu"))
    assert list(report_charts(one_seed)) == ["accuracy", "training"]
    two = build_report(bits=(2, 4))
    kinds = ("accuracy", "ranks", "difference", "training")
    assert set(report_charts(two)) == {f"{kind}-{index}" for kind in kinds for index in (1, 2)}


def test_svg_has_the_same_bytes_twice_and_is_well_formed(compare_report):
    for chart in report_charts(compare_report).values():
        first = charts.svg(chart)
        assert first == charts.svg(chart)
        root = ET.fromstring(first)
        identifiers = [node.get("id") for node in root.iter() if node.get("id")]
        assert len(identifiers) == len(set(identifiers))
        assert not re.search(r'"(clip|gradient)_?\d+"', first)
    text = charts.svg(report_charts(compare_report)["accuracy"])
    for name in ("relu (current)", "gelu", "clean", "quantised", "accuracy [%]"):
        assert f">{name}<" in text


def test_clip_paths_are_numbered_within_the_chart():
    chart = altair.Chart(altair.Data(values=[{"x": 1, "y": 2}])).mark_point(clip=True).encode(x="x:Q", y="y:Q")
    first = charts.svg(chart)
    assert first == charts.svg(chart)
    clips = set(re.findall(r"url\(#([^)]+)\)", first))
    assert clips
    assert clips <= set(re.findall(r'id="([^"]+)"', first))
    assert not clips & set(re.findall(r'id="([^"]+)"', charts.svg(chart.encode(x="y:Q"))))


def test_chance_is_drawn_or_said_to_lie_below(compare_report, build_report):
    near = charts.accuracy_chart(compare_report, compare_report.results[0])
    far_report = build_report(eps=(0.1, 0.2), diverge=False)
    far = charts.accuracy_chart(far_report, far_report.results[0])
    assert any(each.get("chance") == 10.0 for each in records(near))
    assert "dotted: chance" in charts.title_of(near)[1]
    assert not any("chance" in each for each in records(far))
    assert "chance, 10.0 %, lies below" in charts.title_of(far)[1]


def test_page_theme_uses_only_declared_properties(compare_report):
    declared = set(re.findall(r"(--[a-z0-9-]+):", palette.variables("light")))
    assert declared == set(re.findall(r"(--[a-z0-9-]+):", palette.variables("dark")))
    for chart in report_charts(compare_report).values():
        drawn = charts.svg(chart, "page")
        assert set(re.findall(r"var\((--[a-z0-9-]+)\)", drawn)) <= declared
        assert set(re.findall(r'(?:fill|stroke)="([^"]+)"', drawn)) <= {f"var({name})" for name in declared} | {
            "none",
            "transparent",
        }


def test_hostile_names_are_text(build_report):
    report = build_report(activations=("relu", SCRIPT, '"&] onload=alert(1) 0.123456789'), eps=(0.3, 0.6))
    for chart in report_charts(report).values():
        drawn = charts.svg(chart)
        assert "<script" not in drawn
        root = ET.fromstring(drawn)
        texts = {node.text for node in root.iter() if node.tag.endswith("text")}
        assert any("<script>alert(" in (text or "") for text in texts)
        assert not any(name.startswith("on") for node in root.iter() for name in node.attrib)


def test_save_by_suffix(tmp_path, compare_report):
    chart = charts.accuracy_chart(compare_report, compare_report.results[0])
    charts.save(chart, tmp_path / "a.png")
    charts.save(chart, tmp_path / "a.SVG")
    header = (tmp_path / "a.png").read_bytes()[:24]
    width, height = struct.unpack(">II", header[16:24])
    root = ET.fromstring((tmp_path / "a.SVG").read_text())
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert (width, height) == (2 * int(root.get("width")), 2 * int(root.get("height")))
    with pytest.raises(InvalidValueError, match=r"\.svg or \.png"):
        charts.save(chart, tmp_path / "a.jpg")
    (tmp_path / "file").touch()
    with pytest.raises(ReportError):
        charts.save(chart, tmp_path / "file" / "a.svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.SVG", "a.png", "file"]


def test_function_chart_draws_what_is_finite():
    x = tuple(np.linspace(-2, 2, 9).tolist())
    relu = Curve("relu", x, tuple(max(0.0, each) for each in x), tuple(float(each > 0) for each in x))
    odd = Curve("odd", x, (math.nan, math.inf, *x[2:]), (1.0,) * 9)
    chart = charts.function_chart([relu, odd])
    drawn = [each for each in records(chart) if "series" in each]
    assert [each["y"] for each in drawn if each["series"] == "odd"][:3] == [None, None, -1.0]
    json.dumps(chart.to_dict(), allow_nan=False)
    assert ">odd<" in charts.svg(chart)
    with pytest.raises(InvalidValueError, match="at least one"):
        charts.function_chart([])


def test_labels_are_pushed_apart_but_not_off_the_chart():
    values = sorted(np.random.default_rng(0).normal(96, 1, 12).tolist())
    placed = apart(values, 3.0, (50.0, 100.0))
    assert min(np.diff(placed)) == pytest.approx(3.0)
    assert placed[-1] <= 100.0
    assert apart([60.0, 80.0], 3.0, (50.0, 100.0)) == [60.0, 80.0]


# Machado, Oliveira & Fernandes 2009 (doi 10.1109/TVCG.2009.113), severity 1, on linear sRGB.
DICHROMACIES = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "none": np.eye(3).tolist(),
}


def linear(colour):
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = matrix @ np.clip(rgb, 0, 1) / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_can_be_told_apart_and_read(theme):
    found = palette.colours(theme)
    series = [found[f"series-{index}"] for index in range(palette.SERIES)]

    def contrast(colour):
        a, b = sorted(float(linear(each) @ [0.2126, 0.7152, 0.0722]) for each in (colour, found["paper"]))
        return (b + 0.05) / (a + 0.05)

    assert min(map(contrast, series)) >= 3
    assert min(contrast(found[role]) for role in ("ink", "quiet")) >= 4.5
    for matrix in DICHROMACIES.values():
        seen = [lab(np.array(matrix) @ linear(colour)) for colour in series]
        assert min(np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]) > 10
