"""Comma-separated values hold what the report holds, by RFC 4180, and no cell is a formula."""

import csv
import io

import pytest

from robustcheck.reporting.axis import ordered
from robustcheck.reporting.changes import Change, Changes
from robustcheck.reporting.csv import COLUMNS, changes_csv, report_csv


def read(text):
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


@pytest.mark.parametrize("kind", ["converter", "camera", "lidar"])
def test_every_number_comes_back(build_report, kind):
    report = build_report(sensor_kind=kind, precision=0.01)
    found = iter(read(report_csv(report)))
    for result in report.results:
        comparisons = [(each.point, each.comparison) for each in ordered(result)] + [(None, result.area)]
        for point, comparison in comparisons:
            for row in comparison.rows:
                line = next(found)
                assert (line["model"], line["sensor"]) == (result.model, result.sensor.key)
                assert line["activation"] == row.activation
                assert line["kind"] == (point.kind if point else "area")
                for name in ("ep", "exposure", "lux", "bits", "signal"):
                    value = getattr(point, name, None)
                    assert line[name] == ("" if value is None else repr(value))
                assert line["value"] == (repr(point.asked) if point and point.asked is not None else "")
                assert float(line["accuracy"]) == row.accuracy
                assert float(line["networks_lower"]) == row.networks.lower
                assert float(line["networks_upper"]) == row.networks.upper
                assert line["samples_upper"] == ("" if row.samples is None else repr(row.samples.upper))
                assert [float(line[f"seed_{seed}"]) for seed in range(5)] == list(row.per_seed)
                assert (int(line["rank"]), int(line["converged"]), int(line["networks"])) == (
                    row.rank,
                    row.converged,
                    5,
                )
                assert bool(int(line["leads"])) == (row.activation in comparison.leaders)
                assert bool(int(line["wins"])) == (row.activation == comparison.winner)
                assert line["draw_error"] == ("" if row.precision is None else repr(row.precision.draw_error))
    assert next(found, None) is None


def test_an_audit_has_no_ranks(audit_report):
    lines = read(report_csv(audit_report))
    assert {line["rank"] + line["leads"] + line["wins"] + line["networks_lower"] for line in lines} == {""}
    assert all(line["samples_lower"] for line in lines if line["kind"] != "area")
    assert list(lines[0]) == [*COLUMNS, "seed_0"]


def test_lines_end_as_the_standard_says_and_have_one_length(compare_report):
    text = report_csv(compare_report)
    lines = text.split("\r\n")
    assert lines.pop() == ""
    assert "\n" not in "".join(lines)
    assert {len(each) for each in csv.reader(lines, strict=True)} == {len(COLUMNS) + 5}


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", " =1", "\r=1", "＝1", '=cmd|" /C calc"!A0'])
def test_no_text_is_a_formula(build_report, name):
    report = build_report(model=name, activations=("relu", name), epochs=2)
    for line in read(report_csv(report)):
        assert line["model"].startswith("'")
        assert line["activation"] == "relu" or line["activation"].startswith("'")
    (line,) = read(
        changes_csv(Changes("a", "b", (Change(name, name, name, name, 1, 0, -1, -1, -1, "worse"),), 1, (), (), ()))
    )
    assert all(line[field].startswith("'") for field in ("model", "sensor", "activation", "point"))
    assert (line["difference"], line["mark"]) == ("-1", "worse")


def test_commas_quotes_lines_and_controls_stay_in_their_cells(build_report):
    name = 'a,"b"\r\n<script>alert(1)</script>\x1b[2J'
    lines = read(report_csv(build_report("audit", model=name)))
    assert {line["model"] for line in lines} == {'a,"b"  <script>alert(1)</script>\ufffd[2J'}


def test_a_missing_interval_is_an_empty_cell():
    change = Change("net", "adc", "as is", "EP 0.5", 0.5, 0.25, -0.25, None, None, "no interval")
    (line,) = read(changes_csv(Changes("a", "b", (change,), 0, (), (), ())))
    assert (line["before"], line["lower"], line["upper"], line["mark"]) == ("0.5", "", "", "no interval")
