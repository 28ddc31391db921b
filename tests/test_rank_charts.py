"""The critical-difference diagram: its bars against all runs tried one by one, and what it draws."""

import html
import re
from itertools import combinations

import numpy as np
import pytest

from robustcheck.reporting import charts
from robustcheck.reporting.rank_charts import critical_difference_chart, tied_groups
from robustcheck.reporting.report import Comparison, Pair, Row


def comparison(accuracies, apart):
    rows = [
        Row(activation=name, accuracy=value, networks=None, samples=None, per_seed=(value,), rank=1, converged=1)
        for name, value in accuracies.items()
    ]
    pairs = [
        Pair(a=a, b=b, difference=0, lower=0, upper=0, p_value=1, significant={a, b} in apart, seeds_needed=None)
        for a, b in combinations(accuracies, 2)
    ]
    return Comparison(
        rows=tuple(rows),
        pairs=tuple(pairs),
        winner=None,
        leaders=(),
        exact_ties=(),
        detectable_difference=None,
        seeds_needed=None,
    )


def runs_by_trial(accuracies, apart):
    names = sorted(accuracies, key=lambda name: -accuracies[name])
    tied = [
        names[first : last + 1]
        for first, last in combinations(range(len(names)), 2)
        if not any({a, b} in apart for a, b in combinations(names[first : last + 1], 2))
    ]
    longest = [run for run in tied if not any(set(run) < set(other) for other in tied)]
    return [tuple(accuracies[name] for name in run) for run in longest]


@pytest.mark.parametrize("seed", range(20))
def test_bars_are_the_longest_runs_without_a_significant_pair(seed):
    random = np.random.default_rng(seed)
    accuracies = {name: float(value) for name, value in zip("abcdefg", random.permutation(7) / 10, strict=True)}
    apart = [set(pair) for pair in combinations(accuracies, 2) if random.random() < 0.3]
    assert tied_groups(comparison(accuracies, apart)) == runs_by_trial(accuracies, apart)


def labels(chart):
    """Every text of a chart's picture."""
    return html.unescape(" | ".join(re.findall(r">([^<>]+)</text>", charts.svg(chart)))).replace("\u00a0", " ")


LONG = ("relu", *(f"interpolate(relu, gelu, i=0.25, s={steepness})" for steepness in (4, 16, 64)))


def test_long_names_are_whole_and_accuracies_are_never_cut(build_report):
    report = build_report(activations=LONG)
    drawn = labels(critical_difference_chart(report, report.results[0]))
    for row in report.results[0].area.rows:
        accuracy = f"{100 * row.accuracy:.1f}"
        assert f"{row.activation}  {accuracy}" in drawn or f"{accuracy}  {row.activation}" in drawn
    narrow = labels(critical_difference_chart(report, report.results[0], wide=False))
    for row in report.results[0].area.rows:
        assert f"{100 * row.accuracy:.1f}" in narrow


def test_the_diagram_is_of_the_area_and_names_everyone(build_report):
    report = build_report()
    chart = critical_difference_chart(report, report.results[0])
    drawn = labels(chart)
    for row in report.results[0].area.rows:
        accuracy = f"{100 * row.accuracy:.1f}"
        assert f"{row.activation}  {accuracy}" in drawn or f"{accuracy}  {row.activation}" in drawn
    assert "under the accuracy–EP curve" in charts.title_of(chart)[1]


def test_one_operating_point_has_a_diagram_of_its_own(build_report):
    report = build_report(eps=(0.5,))
    assert "at EP 0.5" in charts.title_of(critical_difference_chart(report, report.results[0]))[1]


def test_nothing_tested_is_nothing_drawn(build_report):
    report = build_report(seeds=1)
    assert critical_difference_chart(report, report.results[0]) is None


def test_a_long_subtitle_is_in_lines_that_read_as_one(build_report):
    report = build_report(model="architecture:paper_convnet(" + "in_channels=1, " * 10 + ")")
    chart = critical_difference_chart(report, report.results[0])
    lines = chart.title.to_dict()["subtitle"]
    assert len(lines) > 1
    assert max(map(len, lines)) <= 130
    assert charts.title_of(chart)[1] == " ".join(lines)
