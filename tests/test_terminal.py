"""The terminal's ranking table is whole at any width, and hostile names cannot steer the terminal."""

import io
import re

import numpy as np
import pytest
from rich.console import Console

from robustcheck.reporting.bars import ASCII, BLOCKS, Scale, scale_of
from robustcheck.reporting.record import Interval
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
    lines = printed(report, 120).partition("at each operating point")[2].splitlines()
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
    assert len(re.findall("\x1b\\[32m█+▒+", printed(compare_report, force_terminal=True))) == 6
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
        assert re.search(rf"{re.escape(percent(row.accuracy))} +{re.escape(f'({span(row.samples)})')}", text)


def bars(text, signs=BLOCKS):
    """Name, cells that are full and that are shaded, and what follows, of each line with a bar."""
    full, shaded = signs
    found = re.findall(rf"^(.*?)  ({full}*)({shaded}+) +([\d.]+)  (.*?) *$", text, flags=re.M)
    return [(name.strip(), len(solid), len(part), float(value), rest) for name, solid, part, value, rest in found]


def test_a_comparison_has_a_bar_an_activation_over_the_area(compare_report):
    area = compare_report.results[0].area
    text = printed(compare_report, 80)
    found = bars(text)
    assert [(name, value) for name, _, _, value, _ in found] == [
        (row.activation, round(100 * row.accuracy, 1)) for row in area.rows
    ]
    for (_, solid, shaded, _, rest), row in zip(found, area.rows, strict=True):
        width = 80 - len("leaky_relu") - len("88.2 ") - len("(29.7–100.0)") - len("1 =") - 4 * 2
        assert "bars from 0 to 100 %" in " ".join(text.split())
        assert solid == min(round(width * max(0, row.networks.lower)), width - 1)
        assert solid + shaded == max(round(width * min(1, row.networks.upper)), solid + 1)
        assert rest.split() == [f"({span(row.networks)})", f"{row.rank}", "="]
    assert not re.search(r"^activation.* area", text, flags=re.M)


def test_a_bar_is_marked_as_its_rank_is(build_report):
    report = build_report(activations=("relu", "gelu"), diverge=False)
    assert [rest.split()[1:] for *_, rest in bars(printed(report, 80))] == [["1", "★"], ["2"]]
    assert "1 *" in printed(report, 80, encoding="ascii")


def test_one_operating_point_has_its_own_bars(build_report):
    report = build_report(eps=(0.5,), seeds=1)
    text = printed(report, 80)
    rows = report.results[0].points[-1].comparison.rows
    assert [name for name, *_ in bars(text)] == [row.activation for row in rows]
    assert {rest for *_, rest in bars(text)} == {f"({span(row.samples)})" for row in rows}
    assert "accuracy [%], EP 0.5" in text
    assert "these networks only" in text


def test_an_audit_has_a_bar_an_operating_point_on_one_scale(build_report):
    audit_report = build_report("audit", bits=(4, 3, 2))
    found = bars(printed(audit_report, 80))
    assert [name for name, *_ in found] == ["clean", "quantised only", "EP 0.2", "EP 0.4", "EP 0.6", "EP 0.8"] * 3
    rows = [each.comparison.rows[0] for result in audit_report.results for each in result.points]
    cells = [solid for _, solid, *_ in found]
    assert np.all(np.abs(np.array(cells) - 42 * np.array([row.samples.lower for row in rows])) <= 0.5)


def test_rounding_alone_is_shown_where_it_differs(build_report):
    report = build_report("audit", sensor_kind="camera", vary="bits")
    (result,) = report.results
    rows = {
        each.point.label: each.comparison.rows[0].model_copy(update={"quantised": 0.1234}) for each in result.points
    }
    points = tuple(
        each.model_copy(update={"comparison": each.comparison.model_copy(update={"rows": (rows[each.point.label],)})})
        for each in result.points
        if each.point.kind != "quantised"
    )
    kept = tuple(each for each in result.points if each.point.kind == "quantised")
    for shown in (kept + points, points):
        text = printed(report.model_copy(update={"results": (result.model_copy(update={"points": shown}),)}), 80)
        assert ("rounding alone" in text) == (shown == points)
    assert len(re.findall(r"– rounding alone +█+ +12\.3", text)) == 4


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "utf-8"])
def test_bars_are_in_signs_that_the_encoding_has(audit_report, encoding):
    text = printed(audit_report, 80, encoding)
    assert ("█" in text) == (encoding in ("cp437", "utf-8"))
    assert len(bars(text, BLOCKS if "█" in text else ASCII)) == 18


def test_a_narrow_console_has_numbers_without_bars(compare_report):
    text = printed(compare_report, 40)
    assert "█" not in text
    assert "bars" not in text
    assert "88.2  (87.4–89.0)   1 =" in text


def test_bars_keep_to_their_scale(compare_report):
    row = compare_report.results[0].area.rows[0]

    def bar(lower, upper, low=0.5, high=1.0):
        ends = {"networks": Interval(lower=lower, upper=upper), "samples": Interval(lower=0, upper=1)}
        changed = row.model_copy(update=ends)
        return Scale(low, high, 10).bar(changed).rstrip()

    assert bar(0.6, 0.8) == "██▒▒▒▒"
    assert bar(0.2, 0.3) == "▒"
    assert bar(0.999, 1.2) == "█" * 9 + "▒"
    assert bar(0.7, 0.7) == "████▒"
    alone = row.model_copy(update={"networks": None, "accuracy": 0.75})
    assert Scale(0.5, 1.0, 10, ASCII).bar(alone) == "#####     "


@pytest.mark.parametrize(("lower", "upper", "ends"), [(0.93, 0.97, (0.9, 1.0)), (0.0, 0.0, (0, 0.05)), (-3, 7, (0, 1))])
def test_a_scale_holds_all_intervals(compare_report, lower, upper, ends):
    row = (
        compare_report.results[0]
        .area.rows[0]
        .model_copy(update={"accuracy": (lower + upper) / 2, "networks": Interval(lower=lower, upper=upper)})
    )
    scale = scale_of([row], 0.1, 10, BLOCKS)
    assert (scale.low, scale.high) == pytest.approx(ends)
