"""The critical-difference diagram: mean accuracies on a line, joined where they do not differ significantly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from robustcheck.reporting.axis import axis_of, noisy_points
from robustcheck.reporting.chart_data import in_percent, series_numbers
from robustcheck.reporting.charts import colour_of, data_of, place_of, subtitle_of
from robustcheck.reporting.marks import marked
from robustcheck.reporting.point_axis import Record
from robustcheck.reporting.report import Comparison, Report, Result
from robustcheck.reporting.wording import plain

_ROW = 18
_BAR = 9
_SHORT = 14
"""Characters of a name that fits beside the line with its accuracy."""


def critical_difference_chart(report: Report, result: Result, wide: bool = True) -> Any:
    """Mean accuracies over the curve, or at its one noisy point, with a bar over each group that is tied.

    As in Demšar 2006 (JMLR 7:1-30), but over mean accuracies instead of mean ranks: the test behind the bars is the
    report's own. None where nothing was tested: one network each, or one activation.
    """
    comparison, over = _compared(result)
    if comparison is None or not comparison.pairs:
        return None
    rows = sorted(comparison.rows, key=lambda row: -row.accuracy)
    names = [each.spec for each in report.activations]
    long = wide and max(len(plain(row.activation)) for row in rows) > _SHORT
    width, limit = (300, 235) if long else (440 if wide else 160, 130)
    low, high = in_percent(rows[-1].accuracy), in_percent(rows[0].accuracy)
    room = 0.06 * ((high - low) or 1.0)
    scale = alt.Scale(domain=[low - room, high + room], nice=False, zero=False)
    bars = tied_groups(comparison)
    above = 12 + _BAR * len(bars)
    half = (len(rows) + 1) // 2
    height = above + 14 + _ROW * (half if wide else len(rows))
    records: list[Record] = []
    for index, row in enumerate(rows):
        right = wide and index >= half
        depth = len(rows) - 1 - index if right else index
        # The accuracy stands next to the line, where no name that is too long is cut.
        label = f"{100 * row.accuracy:.1f}", plain(row.activation)
        records.append(
            {
                "series": plain(row.activation),
                "accuracy": in_percent(row.accuracy),
                "mark": marked(series_numbers(report)[row.activation]),
                "label": "  ".join(reversed(label) if right else label),
                "y": above + 18 + _ROW * depth,
                "side": "worse" if right else "better",
                "top": 0,
                "edge": low - room if right else high + room,
            }
        )
    x = alt.X(
        "accuracy:Q",
        title="mean accuracy [%]",
        scale=scale,
        axis=alt.Axis(orient="top", tickCount=6 if wide else 3, grid=False),
    )
    base, colour = alt.Chart(data_of(records)), colour_of(names)
    layers: list[Any] = []
    for index, group in enumerate(bars):
        ends: list[Record] = [{"from": in_percent(group[-1]), "to": in_percent(group[0])}]
        bar = alt.Chart(data_of(ends)).mark_rule(strokeWidth=4, style="label", strokeCap="round")
        layers.append(bar.encode(x=alt.X("from:Q", scale=scale), x2="to:Q", y=alt.value(10 + _BAR * index)))
    down = {"scale": alt.Scale(domain=[0, height], range=[0, height], nice=False), "axis": None}
    y = alt.Y("y:Q", **down)
    for side, align, dx, cut in (("better", "left", 5, "ltr"), ("worse", "right", -5, "rtl")):
        here = base.transform_filter(f"datum.side == '{side}'")
        layers += [
            here.mark_rule(strokeWidth=1.3).encode(
                x=x, y=alt.Y("top:Q", **down), y2="y:Q", color=colour, description="mark:N"
            ),
            here.mark_rule(strokeWidth=1.3).encode(x=x, x2="edge:Q", y=y, color=colour, description="mark:N"),
            here.mark_text(style="label", align=align, baseline="middle", dx=dx, limit=limit, dir=cut).encode(
                x=alt.X("edge:Q", scale=scale), y=y, text="label:N", description="mark:N"
            ),
        ]
    return alt.layer(*layers).properties(
        width=width,
        height=height,
        title=alt.Title(
            "Which activations differ",
            subtitle=subtitle_of(
                f"{place_of(result)}; mean accuracy {over}; a bar joins those that do not differ significantly"
            ),
        ),
    )


def tied_groups(comparison: Comparison) -> list[tuple[float, ...]]:
    """Mean accuracies, falling, of each longest run of neighbours of which no two differ significantly.

    Runs of one are left out: nothing is tied with them.
    """
    rows = sorted(comparison.rows, key=lambda row: -row.accuracy)
    apart = {frozenset((pair.a, pair.b)) for pair in comparison.pairs if pair.significant}

    def tied(first: int, last: int) -> bool:
        run = [row.activation for row in rows[first : last + 1]]
        return not any(frozenset((a, b)) in apart for i, a in enumerate(run) for b in run[i + 1 :])

    runs: list[tuple[int, int]] = []
    for first in range(len(rows)):
        last = first
        while last + 1 < len(rows) and tied(first, last + 1):
            last += 1
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return [tuple(row.accuracy for row in rows[first : last + 1]) for first, last in runs]


def _compared(result: Result) -> tuple[Comparison | None, str]:
    """The comparison over the curve, else that at the one noisy point."""
    if result.area is not None:
        return result.area, f"under the {axis_of(result).curve}"
    noisy: Sequence[Any] = [each for _, each in noisy_points(result)]
    return (noisy[0].comparison, f"at {noisy[0].point.label}") if len(noisy) == 1 else (None, "")
