"""Charts of a report, one Altair specification each, drawn to SVG or PNG without a browser or a network."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import altair as alt

from robustcheck.errors import InvalidValueError
from robustcheck.reporting.axis import Axis, asked_in, axis_of
from robustcheck.reporting.chart_data import (
    accuracy_range,
    accuracy_records,
    difference_records,
    end_labels,
    in_lines,
    in_percent,
    near_chance,
    rounded,
    training_records,
)
from robustcheck.reporting.drawing import save, svg
from robustcheck.reporting.palette import SHAPES
from robustcheck.reporting.point_axis import Lines, PointAxis, Record
from robustcheck.reporting.report import PointResult, Report, Result, Row, SensorSummary
from robustcheck.reporting.verdict import current_activation, networks_each
from robustcheck.reporting.wording import percent, plain, sensor_name

__all__ = [
    "accuracy_chart",
    "audit_chart",
    "difference_chart",
    "function_chart",
    "save",
    "svg",
    "title_of",
    "training_chart",
]

_LABEL_WIDTH = {True: 26, False: 44}
_SUBTITLE = 130
"""Characters of a line of a subtitle, which is about as wide as a chart with its labels."""


class Curve(Protocol):
    """A function on a grid with its derivative: tuples of equal length."""

    @property
    def name(self) -> str:
        """What the legend calls it."""

    @property
    def x(self) -> Sequence[float]:
        """The grid."""

    @property
    def value(self) -> Sequence[float]:
        """The function there."""

    @property
    def derivative(self) -> Sequence[float]:
        """Its derivative there."""


def accuracy_chart(report: Report, result: Result, wide: bool = True) -> Any:
    """Accuracy against the operating point, a line an activation, with clean and quantised-only accuracy beside.

    Of a camera, the EP at each exposure is written below it, and the operating points that the profile names are
    marked; of a LIDAR those too. Bands are over trained networks; where each activation has one network, over test
    samples. None without rows.
    """
    names = [each.spec for each in report.activations]
    lines = {name: [(each, row) for each in result.points for row in _rows(each, name)] for name in names}
    current = current_activation(report, result)
    labels = {name: f"{name} (current)" if name == current else name for name in names}
    networks = max((networks_each(each.comparison) for each in result.points), default=0)
    over = f"{networks} trained networks" if networks > 1 else "test samples and draws, these networks only"
    subtitle = f"{place_of(result)}; band: 95 % interval over {over}"
    return _accuracy_lines(report, axis_of(result), lines, labels, [result.sensor], subtitle, wide)


def audit_chart(report: Report, results: Sequence[Result], wide: bool = True) -> Any:
    """Accuracy of one model against operating points on one axis, a line a sensor. None without rows."""
    lines = {
        result.sensor.key: [(each, row) for each in result.points for row in each.comparison.rows[:1]]
        for result in results
    }
    labels = {result.sensor.key: sensor_name(result.sensor) for result in results}
    subtitle = f"{results[0].model} as it is; band: 95 % interval over test samples and draws, this network only"
    sensors = [result.sensor for result in results]
    return _accuracy_lines(report, axis_of(results[0]), lines, labels, sensors, subtitle, wide)


def difference_chart(report: Report, result: Result, wide: bool = True) -> Any:
    """Each activation minus the current one at each operating point, with intervals that hold for all pairs at once.

    None where nothing can be compared: no current activation, one network each, or no noise.
    """
    current = current_activation(report, result)
    if current is None:
        return None
    found = difference_records(report, result, current)
    if not found:
        return None
    names = [each.spec for each in report.activations]
    everything = [record for records in found.values() for record in records]
    scale = _scale(everything, "lower", "upper", margin=0.06)

    def panel(name: str, x_axis: dict[str, Any], y_axis: dict[str, Any]) -> Any:
        base = alt.Chart(data_of(found[name]))
        x = alt.X("at:N", sort=None, axis=alt.Axis(labelAngle=0, **x_axis))
        y = alt.Y("difference:Q", scale=scale, axis=alt.Axis(tickCount=5, **y_axis))
        colour = colour_of(names)
        return alt.layer(
            alt.Chart(data_of([{"zero": 0}])).mark_rule(style="zero").encode(y="zero:Q"),
            base.mark_rule(strokeWidth=2).encode(
                x=x, y=alt.Y("lower:Q"), y2="upper:Q", color=colour, description="mark:N"
            ),
            base.mark_point(size=48, filled=True, opacity=1).encode(x=x, y=y, color=colour, description="mark:N"),
            base.transform_filter("!datum.significant")
            .mark_point(size=14, filled=True, opacity=1, style="paper")
            .encode(x=x, y=y, description="mark:N"),
        )

    chart = _panels(panel, list(found), wide, 110, x_title=axis_of(result).title, y_title="points")
    return chart.properties(
        title=alt.Title(
            plain(f"Difference from {current}, the current activation"),
            subtitle=subtitle_of(f"{place_of(result)}; 95 % intervals for all pairs at once; filled: significant"),
        )
    )


def training_chart(report: Report, result: Result, wide: bool = True) -> Any:
    """Validation accuracy under noise against epoch, a line a network, a panel an activation; None without curves."""
    found = training_records(report, result)
    if not found:
        return None
    names = [each.spec for each in report.activations]
    everything = [record for records in found.values() for record in records]
    chance: Record = {"accuracy": in_percent(report.data.chance)}
    shown = near_chance(everything, "accuracy", report.data.chance)
    scale = _scale([*everything, chance] if shown else everything, "accuracy", "accuracy", margin=0.04)
    trained_at = list(dict.fromkeys(str(record["trained"]) for record in everything))
    epochs = alt.Scale(domain=[1, max(2, *(int(record["epoch"] or 1) for record in everything))], nice=False)
    legend = alt.Legend(
        orient="bottom",
        title="trained at EP" if asked_in(report) == "EP" else "trained at",
        symbolType="stroke",
        columns=8 if wide else 4,
    )
    by_ep = alt.Color("trained:N", sort=trained_at, legend=legend, scale=alt.Scale(domain=trained_at))
    dash = alt.Scale(domain=[True, False], range=[[1, 0], [5, 3]])

    def panel(name: str, x_axis: dict[str, Any], y_axis: dict[str, Any]) -> Any:
        lines = alt.Chart(data_of(found[name])).mark_line(strokeWidth=1.3, opacity=0.85)
        curves = lines.encode(
            x=alt.X("epoch:Q", scale=epochs, axis=alt.Axis(tickMinStep=1, tickCount=4, grid=False, **x_axis)),
            y=alt.Y("accuracy:Q", scale=scale, axis=alt.Axis(tickCount=4, **y_axis)),
            color=by_ep if len(trained_at) > 1 else colour_of(names),
            strokeDash=alt.StrokeDash("converged:N", legend=None, scale=dash),
            detail="network:N",
            description="mark:N",
        )
        guess = alt.Chart(data_of([chance])).mark_rule(style="chance").encode(y=alt.Y("accuracy:Q", scale=scale))
        return alt.layer(guess, curves) if shown else alt.layer(curves)

    words = _chance_words(shown, report.data.chance)
    chart = _panels(panel, list(found), wide, 100, x_title="epoch", y_title="accuracy [%]")
    return chart.properties(
        title=alt.Title(
            "Validation accuracy under noise while training",
            subtitle=subtitle_of(f"{place_of(result)}; a line a network; dashed: not converged; {words}"),
        )
    )


def function_chart(curves: Sequence[Curve]) -> Any:
    """Activation functions and, beside them, their derivatives.

    Raises:
        InvalidValueError: there is no curve.
    """
    if not curves:
        raise InvalidValueError("curves", expected="at least one", got=len(curves))
    names = [plain(curve.name) for curve in curves]
    panels = []
    for field, title in (("value", "f(x)"), ("derivative", "f′(x)")):
        records: list[Record] = [
            {"series": name, "x": rounded(x), "y": rounded(y)}
            for name, curve in zip(names, curves, strict=True)
            for x, y in zip(curve.x, getattr(curve, field), strict=True)
        ]
        lines = (
            alt.Chart(data_of(records))
            .mark_line(strokeWidth=2)
            .encode(
                x=alt.X("x:Q", title="x"),
                y=alt.Y("y:Q", title=None),
                color=colour_of(names, legend=alt.Legend(orient="bottom", columns=4, symbolType="stroke")),
            )
        )
        zero = alt.Chart(data_of([{"zero": 0}])).mark_rule(style="zero")
        panels.append(
            alt.layer(zero.encode(x="zero:Q"), zero.encode(y="zero:Q"), lines).properties(
                width=290, height=240, title=alt.Title(title, fontSize=13)
            )
        )
    return alt.hconcat(*panels, spacing=26)


def title_of(chart: Any) -> tuple[str, str]:
    """The title and the subtitle of a chart, for a page that sets them itself."""
    title = chart.title.to_dict()
    lines = title["subtitle"]
    return title["text"], lines if isinstance(lines, str) else " ".join(lines)


def subtitle_of(text: str) -> list[str]:
    """A subtitle in lines that do not make the picture wider than its chart."""
    return textwrap.wrap(plain(text), _SUBTITLE, break_long_words=False, break_on_hyphens=False)


def _accuracy_lines(
    report: Report,
    axis: Axis,
    lines: Lines,
    labels: Mapping[str, str],
    sensors: Sequence[SensorSummary],
    subtitle: str,
    wide: bool,
) -> Any:
    points = PointAxis.of(lines, axis, wide)
    if points is None:
        return None
    names, chance = [plain(labels[name]) for name in lines], report.data.chance
    records = accuracy_records(report, lines, labels, points)
    bottom, top = accuracy_range(records, chance)
    width, height = (620, 360) if wide else (268, 250)
    kind = {"type": "log"} if axis.log else {"zero": False}
    x_scale = alt.Scale(domain=[points.low, points.high], nice=False, **kind)
    x_axis = alt.Axis(values=points.ticks(wide), labelExpr=points.label_expression(wide), grid=False)
    x = alt.X("x:Q", title=axis.full_title, scale=x_scale, axis=x_axis)
    scale = alt.Scale(domain=[bottom, top], nice=False, zero=False)
    y = alt.Y("accuracy:Q", title="accuracy [%]", scale=scale, axis=alt.Axis(tickCount=6))
    lower = alt.Y("lower:Q", scale=scale)
    columns = 1 if max(len(name) for name in names) > 17 else 2
    folded = "".join(
        f"datum.label == {json.dumps(name)} ? {json.dumps(in_lines(name, _LABEL_WIDTH[False]))} : " for name in names
    )
    legend = None if wide else alt.Legend(orient="bottom", columns=columns, labelLimit=0, labelExpr=f"{folded}''")
    colour, shape = colour_of(names, legend), _shape(names, legend)
    base = alt.Chart(data_of(records))
    noisy, still = base.transform_filter("datum.noisy"), base.transform_filter("!datum.noisy")
    # A band over one point has no width: its interval is a rule then.
    alone = len({each["x"] for each in records if each["noisy"]}) == 1
    layers = [
        noisy.mark_area(opacity=0.13, line=False).encode(
            x=x, y=lower, y2="upper:Q", color=colour, description="line:N"
        ),
        (base if alone else still)
        .mark_rule(strokeWidth=1.3)
        .encode(x=x, y=lower, y2="upper:Q", color=colour, description="line:N"),
        noisy.mark_line(strokeWidth=1.8).encode(x=x, y=y, color=colour, description="line:N"),
        base.mark_point(size=46, filled=True, opacity=1).encode(
            x=x, y=y, color=colour, shape=shape, description="mark:N"
        ),
    ]
    shown = bottom <= 100 * chance
    if shown:
        guess = alt.Chart(data_of([{"chance": in_percent(chance)}])).mark_rule(style="chance")
        layers.insert(0, guess.encode(y=alt.Y("chance:Q", scale=scale)))
    layers[:0] = _named_points(points, sensors, names, x_scale, width, colour)
    if wide:
        written = {name: in_lines(name, _LABEL_WIDTH[True]) for name in names}
        gap = (1 + 14 * max(map(len, written.values()))) * (top - bottom) / height
        layers += _end_labels(end_labels(records, gap, (bottom, top)), written, scale, width)
    return alt.layer(*layers).properties(
        width=width,
        height=height,
        title=alt.Title(
            f"Accuracy against {axis.subject}", subtitle=subtitle_of(f"{subtitle}; {_chance_words(shown, chance)}")
        ),
    )


def _named_points(
    points: PointAxis, sensors: Sequence[SensorSummary], names: Sequence[str], scale: Any, width: int, colour: Any
) -> list[Any]:
    """Upright lines at the operating points that profiles name, with the names above; in the colour of their sensor
    where the sensors of the chart differ in them.
    """
    records = points.in_rows(points.named(sensors), width)
    layers = []
    for row in sorted({int(record["row"] or 0) for record in records}):
        for common in (True, False):
            here = [
                {**record, "series": None if common else names[int(record["sensor"] or 0)]}
                for record in records
                if record["row"] == row and (record["sensor"] is None) == common
            ]
            if not here:
                continue
            base = alt.Chart(data_of(here)).encode(x=alt.X("at:Q", scale=scale))
            rule = base.mark_rule(style="named", y=-16 - 13 * row, y2="height")
            text = base.mark_text(style="named", align="left", dx=3, y=-10 - 13 * row).encode(text="name:N")
            layers += [rule, text] if common else [each.encode(color=colour) for each in (rule, text)]
    return layers


def _end_labels(labels: Sequence[Record], written: Mapping[str, Sequence[str]], scale: Any, width: int) -> list[Any]:
    """The names at the right end of their lines."""
    names = list(written)
    folded = [{**each, "text": "\n".join(written[str(each["series"])])} for each in labels]
    base = alt.Chart(data_of(folded)).encode(description="line:N")
    at = alt.Y("label:Q", scale=scale)
    return [
        base.mark_rule(style="leader").encode(
            x=alt.value(width + 6), x2=alt.value(width + 18), y=alt.Y("end:Q", scale=scale), y2="label:Q"
        ),
        base.mark_point(size=40, filled=True, opacity=1).encode(
            x=alt.value(width + 25), y=at, color=colour_of(names), shape=_shape(names)
        ),
        base.mark_text(style="label", align="left", baseline="middle", lineBreak="\n").encode(
            x=alt.value(width + 34), y=at, text="text:N"
        ),
    ]


def _rows(each: PointResult, name: str) -> list[Row]:
    return [row for row in each.comparison.rows if row.activation == name]


def colour_of(names: Sequence[str], legend: Any = None) -> Any:
    """The colour of each series: the same in every chart of a report."""
    names = [plain(name) for name in names]
    return alt.Color("series:N", sort=names, legend=legend, scale=alt.Scale(domain=names))


def _shape(names: Sequence[str], legend: Any = None) -> Any:
    shapes = [SHAPES[index % len(SHAPES)] for index in range(len(names))]
    return alt.Shape("series:N", sort=list(names), legend=legend, scale=alt.Scale(domain=list(names), range=shapes))


def _panels(
    panel: Callable[[str, dict[str, Any], dict[str, Any]], Any],
    names: Sequence[str],
    wide: bool,
    height: int,
    x_title: str,
    y_title: str,
) -> Any:
    """Small charts in rows, a heading each; only the outer ones carry labels of axes."""
    columns, width = (3, 236) if wide else (2, 122)
    charts = []
    for index, name in enumerate(names):
        x_axis = {"title": x_title} if index + columns >= len(names) else {"title": None, "labels": False}
        y_axis = {"title": y_title} if index % columns == 0 else {"title": None, "labels": False, "ticks": False}
        title = alt.Title(plain(name), fontSize=12, offset=6, limit=width, anchor="start")
        charts.append(panel(name, x_axis, y_axis).properties(width=width, height=height, title=title))
    return alt.concat(*charts, columns=columns, bounds="flush", spacing={"row": 46, "column": 20})


def _scale(records: Sequence[Record], lower: str, upper: str, margin: float) -> Any:
    low = min(float(each[lower] or 0) for each in records)
    high = max(float(each[upper] or 0) for each in records)
    room = margin * (high - low or 1.0)
    return alt.Scale(domain=[round(low - room, 3), round(high + room, 3)], nice=False, zero=False)


def _chance_words(shown: bool, chance: float) -> str:
    return "dotted: chance" if shown else f"chance, {percent(chance)} %, lies below"


def place_of(result: Result) -> str:
    """The model and the sensor, for a subtitle."""
    return f"{result.model} on {sensor_name(result.sensor)}"


def data_of(records: Sequence[Record]) -> Any:
    """Records as a chart's own data: nothing is loaded."""
    return alt.Data(values=list(records))
