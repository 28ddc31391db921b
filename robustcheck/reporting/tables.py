"""The tables of a report as plain text cells, which each rendering sets in its own way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev

from robustcheck.analysis.intervals import least_spread
from robustcheck.reporting.axis import asked_in, axis_of, ordered, trained_at
from robustcheck.reporting.report import Comparison, OperatingPoint, Pair, Report, Result, Row
from robustcheck.reporting.verdict import current_activation, difference_from, power, verdict
from robustcheck.reporting.wording import (
    NONE,
    half_width,
    listed,
    number,
    percent,
    plain,
    points,
    sensor_name,
    span,
)

WINS, TIED = "★", "="
LEGEND = (
    f"{WINS} significantly better than every other activation;"
    f" {TIED} tied for the lead: not significantly worse than the highest mean; no mark: significantly worse"
)


@dataclass(frozen=True)
class Strip:
    """An interval and its middle as fractions of the width of a small picture."""

    lower: float
    middle: float
    upper: float


@dataclass(frozen=True)
class Line:
    """A row: its cells, the first of which names it; marks are empty or one a cell."""

    cells: tuple[str, ...]
    marks: tuple[str, ...] = ()
    lead: bool = False
    strip: Strip | None = None


@dataclass(frozen=True)
class Table:
    """A caption, the heads of the columns, rows, and notes below; numbers but for the first column, unless `words`.

    What is `folded` stands in place of a page's table until it is opened.
    """

    caption: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()
    verdict: str = ""
    words: bool = False
    folded: str = ""


def overview(report: Report, result: Result) -> Table:
    """Activations × operating points: mean accuracy, half the interval over networks, and who leads."""
    current = current_activation(report, result)
    axis = axis_of(result)
    columns = [(axis.label(each.point), each.comparison) for each in ordered(result)]
    if result.area is not None:
        columns.append(("area", result.area))
    lines = []
    for each in report.activations:
        cells, marks = [_name(each.spec, current)], [""]
        for _, comparison in columns:
            row = row_of(comparison, each.spec)
            cells.append(_mean(row) if row else NONE)
            marks.append(mark(comparison, each.spec))
        lines.append(Line((*cells, converged(report, result, each.spec)), (*marks, "")))
    notes = ["Accuracy in percent: mean over networks ± half the 95 % interval over networks."]
    if result.area is not None:
        notes.append(f"Area: {area_mean(result)} (trapezoid rule).")
    if result.sensor.placement == "network" and any(each.point.kind == "clean" for each in result.points):
        notes.append(
            "Clean: all converters off, their clamps too; networks that were trained behind them have not met that."
        )
    notes += _agreeing(report, [comparison for _, comparison in columns])
    if any(comparison.pairs for _, comparison in columns):
        notes.append(f"{LEGEND}.")
    return Table(
        "Accuracy at each operating point",
        ("activation", *(n for n, _ in columns), "converged"),
        tuple(lines),
        tuple(notes),
    )


def ranking(report: Report, result: Result, comparison: Comparison, caption: str) -> Table:
    """One comparison in full, the highest mean first."""
    current = current_activation(report, result)
    compared = current is not None and bool(comparison.pairs)
    sampled = any(row.samples for row in comparison.rows)
    beside = [name for name in ("clean", "quantised") if any(getattr(row, name) is not None for row in comparison.rows)]
    columns = ["activation", "rank", "accuracy [%]", "95 % over networks"]
    columns += ["95 % over samples, these networks only"] if sampled else []
    columns += [f"minus {current} [points]"] if compared else []
    columns += [{"clean": "clean [%]", "quantised": "quantised only [%]"}[name] for name in beside]
    columns += ["converged"]
    strips = _strips(comparison)
    lines = []
    for row, strip in zip(comparison.rows, strips, strict=True):
        cells = [_name(row.activation, current), _rank(row, comparison), percent(row.accuracy), span(row.networks)]
        cells += [span(row.samples)] if sampled else []
        if compared and current is not None:
            cells.append(_difference(difference_from(comparison, row.activation, current)))
        cells += [NONE if (value := getattr(row, name)) is None else percent(value) for name in beside]
        cells.append(f"{row.converged} of {len(row.per_seed)}")
        leads = bool(comparison.pairs) and row.activation in comparison.leaders
        lines.append(Line(tuple(cells), lead=leads, strip=strip))
    notes = [power(comparison), *_agreeing(report, [comparison])]
    notes += [f"Equal in every network: {listed(map(plain, tie))}." for tie in comparison.exact_ties]
    if compared:
        notes.append("Differences with intervals for all pairs at once; * significant.")
    return Table(
        caption, tuple(columns), tuple(lines), tuple(note for note in notes if note), plain(verdict(comparison))
    )


def audit(report: Report, model: str) -> Table:
    """Operating points × sensors of one model: accuracy with its interval over samples and draws.

    A row is what was asked for: cameras stand beside each other by it, whatever exposures that makes.
    """
    results = [result for result in report.results if result.model == model]
    asked = list(dict.fromkeys(_asked(each.point) for result in results for each in ordered(result)))
    lines = []
    for key in asked:
        here = [
            next(
                (
                    (axis_of(result), each.point, each.comparison.rows[0])
                    for each in result.points
                    if _asked(each.point) == key and each.comparison.rows
                ),
                None,
            )
            for result in results
        ]
        cells = [
            NONE if found is None else f"{percent(found[2].accuracy)} ({span(found[2].samples)})" for found in here
        ]
        met = [found for found in here if found is not None]
        moved = {axis.moved(point) for axis, point, _ in met}
        axis, point, _ = met[0]
        lines.append(Line((axis.label(point) if len(moved) == 1 else point.written(axis.digits), *cells)))
        if len(moved) > 1:
            lines.append(Line(("– at", *(NONE if found is None else found[0].moved(found[1]) for found in here))))
        alone = [
            NONE if found is None else _alone(result, found[2]) for result, found in zip(results, here, strict=True)
        ]
        if any(cell != NONE for cell in alone):
            lines.append(Line(("– rounding alone", *alone)))
    return Table(
        f"Accuracy of {plain(model)} in percent",
        ("operating point", *(plain(sensor_name(result.sensor)) for result in results)),
        tuple(lines),
        ("In brackets the 95 % interval over test samples and draws: these networks only.",),
    )


def _asked(point: OperatingPoint) -> tuple[str, float | None]:
    return point.kind, point.asked


def _alone(result: Result, row: Row) -> str:
    """Accuracy with rounding and no noise at this point, where it is not the same at every point."""
    everywhere = any(each.point.kind == "quantised" for each in result.points)
    return NONE if everywhere or row.quantised is None else percent(row.quantised)


def learning_rates(report: Report) -> Table | None:
    """What each learning rate of the grid gave on validation under noise; None where none was chosen."""
    if not report.tuning:
        return None
    grid = sorted({trial.learning_rate for each in report.tuning for trial in each.trials})
    several, at_ep = len(report.results) > 1, asked_in(report) == "EP"
    lines = []
    for each in report.tuning:
        tried = {trial.learning_rate: trial.validation_accuracy for trial in each.trials}
        place = (f"{plain(each.model)} on {plain(each.sensor)}",) if several else ()
        cells = (percent(tried[rate]) if rate in tried else NONE for rate in grid)
        trained = plain(each.train_ep if at_ep else trained_at(report, each.sensor, each.train_ep))
        lines.append(Line((plain(each.activation), *place, trained, *cells, number(each.chosen))))
    place = ("where",) if several else ()
    return Table(
        "Learning rate chosen for each activation",
        (
            "activation",
            *place,
            "trained at EP" if at_ep else "trained at",
            *(f"{number(rate)} [%]" for rate in grid),
            "chosen",
        ),
        tuple(lines),
        (
            "Validation accuracy under noise for each rate of the grid; the same grid and budget for each activation."
            if grid
            else "The rate was fixed and not tried against others.",
        ),
    )


def point_caption(point: OperatingPoint, digits: int = 4) -> str:
    """What an operating point is: its noise, and for a camera or LIDAR what it is on the other axes.

    >>> point_caption(OperatingPoint(kind="ep", ep=0.5, ep_adc=0.51, sigma=0.05, sigma_steps=0.74))
    'EP 0.5 (σ = 0.74 steps, as a converter sees it EP 0.51)'
    """
    if point.kind in ("clean", "quantised"):
        return "Clean: the sensor's channel off" if point.kind == "clean" else "Quantised only: rounding without noise"
    if point.signal is not None:
        parts = [
            _said("range EP", point.range_ep),
            _said("intensity EP", point.intensity_ep),
            _said("reference return detected", point.detection),
        ]
    elif point.exposure is not None:
        resolution = _said("", point.bits, " bits at ")
        parts = [
            resolution + _said("exposure", point.exposure) if point.kind != "exposure" else "",
            _said("", point.lux, " lx") if point.kind != "lux" else "",
            _said("EP", point.ep) if point.kind != "ep" else "",
            _said("as a converter sees it", point.ep_adc),
            _said("σ =", point.sigma_steps, " codes"),
            _said("mean EP of the data", point.data_ep),
        ]
    else:
        parts = [_said("σ =", point.sigma_steps, " steps"), _said("as a converter sees it EP", point.ep_adc)]
    name = f", {plain(point.named)}" if point.named else ""
    known = ", ".join(filter(None, parts))
    return f"{point.written(digits)}{name}" + (f" ({known})" if known else "")


def area_mean(result: Result) -> str:
    """What an area is the mean of. Exposures and signals are ratios, so their logarithms are evenly weighted."""
    axis = axis_of(result)
    return f"mean accuracy over the {'logarithm of the ' + axis.short if axis.log else axis.short + ' range'}"


def _agreeing(report: Report, comparisons: Sequence[Comparison]) -> list[str]:
    """What is said where the networks of an activation differ less than their test samples can show."""
    samples = report.data.counts.get("test")
    rows = [row for comparison in comparisons for row in comparison.rows if len(row.per_seed) > 1]
    if not samples or not any(stdev(row.per_seed) < least_spread(samples) for row in rows):
        return []
    return [
        "Networks that nearly agree do not show that the next one will: no spread between them is taken below one of"
        f" the {samples} test samples decided differently, {percent(least_spread(samples))} points."
    ]


def row_of(comparison: Comparison, activation: str) -> Row | None:
    """The row of one activation."""
    return next((row for row in comparison.rows if row.activation == activation), None)


def mark(comparison: Comparison, activation: str) -> str:
    """Whether an activation wins, is tied for the lead, or neither."""
    if not comparison.pairs or activation not in comparison.leaders:
        return ""
    return WINS if comparison.winner == activation else TIED


def converged(report: Report, result: Result, activation: str) -> str:
    """Of all networks trained with one activation for this result, how many converged."""
    place = (result.model, result.sensor.key, activation)
    found = [cell.converged for cell in report.training if (cell.model, cell.sensor, cell.activation) == place]
    return f"{sum(found)} of {len(found)}" if found else NONE


def _said(before: str, value: float | None, after: str = "") -> str:
    """A number between words; nothing where there is no number."""
    return "" if value is None else f"{before} {number(value)}{after}".lstrip()


def _mean(row: Row) -> str:
    return percent(row.accuracy) + (f" ± {half_width(row.networks, row.accuracy)}" if row.networks else "")


def _name(activation: str, current: str | None) -> str:
    return f"{plain(activation)} (current)" if activation == current else plain(activation)


def _rank(row: Row, comparison: Comparison) -> str:
    if not comparison.pairs:
        return NONE
    shared = sum(other.rank == row.rank for other in comparison.rows) > 1
    return f"{row.rank}{TIED if shared else ''}{f' {WINS}' if comparison.winner == row.activation else ''}"


def _difference(pair: Pair | None) -> str:
    if pair is None:
        return NONE
    sign = " *" if pair.significant else ""
    return f"{points(pair.difference)} ({points(pair.lower)} to {points(pair.upper)}){sign}"


def _strips(comparison: Comparison) -> Sequence[Strip | None]:
    """Intervals over networks, on the scale that holds all of this table's."""
    ends = [end for row in comparison.rows if row.networks for end in (row.networks.lower, row.networks.upper)]
    if not ends:
        return [None] * len(comparison.rows)
    low, high = max(0.0, min(ends)), min(1.0, max(ends))
    width = (high - low) or 1.0

    def place(accuracy: float) -> float:
        return round(min(max((accuracy - low) / width, 0.0), 1.0), 4)

    return [
        Strip(place(row.networks.lower), place(row.accuracy), place(row.networks.upper)) if row.networks else None
        for row in comparison.rows
    ]
