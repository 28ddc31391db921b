"""The terminal's ranking table is whole at any width, and hostile names cannot steer the terminal."""

import io
import re

import pytest
from rich.console import Console

from robustcheck.reporting.terminal import print_report
from robustcheck.reporting.wording import percent, span


def printed(report, width=100, encoding="utf-8", **options):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="")
    print_report(report, Console(file=file, width=width, **options))
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_every_mean_is_there_and_fits(compare_report, audit_report, width):
    for report in (compare_report, audit_report):
        text = printed(report, width)
        assert max(map(len, text.splitlines())) <= width
        assert "\x1b" not in text
        for result in report.results:
            for each in result.points:
                for row in each.comparison.rows:
                    assert f"{100 * row.accuracy:.1f}" in text


def test_leaders_and_winners_are_marked(build_report):
    report = build_report(activations=("relu", "gelu"), diverge=False)
    lines = printed(report, 120).splitlines()
    columns = ["clean", "quantised", 0.2, 0.4, 0.6, 0.8]
    points = {each.point.ep or each.point.kind: each.comparison for each in report.results[0].points}
    gelu = re.findall(r"\d+\.\d( [★=])?", next(line for line in lines if line.startswith("gelu")))
    winner = next(line for line in lines if line.startswith("winner")).split()[1:]
    for column, mark, name in zip(columns, gelu, winner, strict=False):
        assert (mark == " ★") == (points[column].winner == "gelu")
        assert name == (points[column].winner or "tie")
    assert " ★" in gelu


def test_colour_only_on_a_terminal(compare_report):
    assert "\x1b[" in printed(compare_report, force_terminal=True)
    assert "\x1b[" not in printed(compare_report)


def test_plain_encodings_are_served(compare_report):
    text = printed(compare_report, encoding="ascii")
    assert "gelu" in text
    assert "97." in text


def test_hostile_names_neither_steer_nor_style(build_report):
    report = build_report(activations=("relu", "\x1b[2J[red]x[/red]\x9b31m\u202e"), model="[bold]m\r\n")
    text = printed(report, force_terminal=True, color_system=None)
    assert "[red]x[/red]" in text
    assert "[bold]m" in text
    assert not set(text) & {"\x1b", "\x9b", "\u202e", "\r"}


def test_long_names_and_many_activations_fit(build_report):
    names = ("relu", *(f"some_activation(with={i}, many_parameters=0.12345678901234567890)" for i in range(7)))
    text = printed(build_report(activations=names), 60)
    assert max(map(len, text.splitlines())) <= 60


def test_audit_is_a_table_a_sensor_without_winner(audit_report):
    text = printed(audit_report)
    assert "adc-3bit" in text
    assert "winner" not in text
    assert "these networks only" in text


@pytest.mark.parametrize("kind", ["camera", "lidar"])
def test_other_axes_fit_too(build_report, kind):
    report = build_report(sensor_kind=kind)
    for width in (60, 120):
        text = printed(report, width)
        assert max(map(len, text.splitlines())) <= width
        assert "Assumed numbers: 6, without a source (prnu, dsnu_e," in " ".join(text.split())
    names = [each.point.label for each in report.results[0].points if each.point.kind not in ("clean", "quantised")]
    heads = [printed(report, 200).index(name) for name in sorted(names, key=lambda name: -float(name.split()[1]))]
    assert heads == sorted(heads)


def test_long_names_of_sensors_cut_no_accuracy(build_report):
    report = build_report("audit", sensor_kind="camera")
    (result,) = report.results
    long = "camera-imx477/4 bits/dark_current_e_per_s=1000/analog_gain=2/read_noise_e=25"
    sensor = result.sensor.model_copy(update={"key": long})
    text = printed(report.model_copy(update={"results": (result.model_copy(update={"sensor": sensor}),)}), 60)
    for each in result.points:
        row = each.comparison.rows[0]
        assert f"{percent(row.accuracy)} ({span(row.samples)})" in text
