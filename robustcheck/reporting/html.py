"""A report as one self-contained HTML page: one script of its own, nothing loaded from elsewhere, under 2 MB."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import jinja2
from markupsafe import Markup

from robustcheck.content import shelf
from robustcheck.reporting import charts, palette
from robustcheck.reporting.axis import audit_views, axis_of, is_noisy, ordered
from robustcheck.reporting.chart_data import point_numbers, series_numbers
from robustcheck.reporting.evidence_record import MOST_SIDE
from robustcheck.reporting.evidence_tables import Shots, costs, matrices, mistakes, shots
from robustcheck.reporting.particulars import Particular, particulars, provenance
from robustcheck.reporting.report import Report, Result
from robustcheck.reporting.report_charts import report_charts
from robustcheck.reporting.summary import passages
from robustcheck.reporting.tables import Table, area_mean, audit, overview, point_caption, ranking
from robustcheck.reporting.wording import plain, result_name, sensor_name

_MOST_CHART_BYTES = 900_000
_MOST_PICTURE_BYTES = 500_000
_MOST_MATRICES = 24
_MOST_ROWS = 1500
_MOST_LINES = 200


@dataclass(frozen=True)
class Figure:
    """A chart twice, for wide and for narrow screens, with its text."""

    title: str
    caption: str
    wide: Markup
    narrow: Markup


@dataclass(frozen=True)
class Part:
    """One model on one sensor: figures, the overview, a table an operating point with that point's label."""

    heading: str
    anchor: str
    figures: tuple[Figure, ...]
    overview: Table | None
    tables: tuple[tuple[str, Table], ...]
    left_out: int = 0


@dataclass
class _Budget:
    """What is left of the page's size: a study of any size must still make a page that opens."""

    chart_bytes: int
    rows: int
    missing_charts: int = 0

    def takes(self, table: Table) -> bool:
        """Whether a table still fits; what does not fit is left out whole, lest a ranking lose its end unseen."""
        self.rows -= len(table.lines) * max(1, len(table.columns) // 8)
        return self.rows >= 0

    def fitted(self, particular: Particular) -> Particular:
        """Long lists, of failures or of learning rates, are cut and say so."""
        return replace(particular, tables=tuple(map(self._cut, particular.tables)))

    def _cut(self, table: Table) -> Table:
        more = len(table.lines) - _MOST_LINES
        if more <= 0:
            return table
        note = f"{more} more rows are left out to keep this page small; report.json has them all."
        return replace(table, lines=table.lines[:_MOST_LINES], notes=(*table.notes, note))


def render_html(report: Report) -> str:
    """The page. All but its section on provenance depends on the study alone."""
    folder = shelf("reports")
    script = (folder / "report.js").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # A number and its percent sign stay on one line.
    environment.filters["unbroken"] = lambda text: text.replace(" %", "\u00a0%").replace("± ", "±\u00a0")
    budget = _Budget(_MOST_CHART_BYTES, _MOST_ROWS)
    parts = tuple(_parts(report, budget))
    seen = {
        "shots": tuple(_pictures(shots(report))),
        "matrices": tuple(islice(matrices(report), _MOST_MATRICES)),
        "mistakes": tuple(islice(mistakes(report), _MOST_MATRICES)),
        "costs": tuple(islice(costs(report), _MOST_MATRICES)),
    }
    return environment.get_template("report.html").render(
        title=plain(report.title),
        kind=report.kind,
        passages=passages(report),
        parts=parts,
        particulars=tuple(budget.fitted(each) for each in particulars(report)),
        provenance=provenance(report),
        missing_charts=budget.missing_charts,
        light=Markup(palette.variables("light")),
        dark=Markup(palette.variables("dark")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        series=tuple(map(plain, series_numbers(report))),
        several="sensor" if report.kind == "audit" else "activation",
        name_of=_names(report),
        points=point_numbers(report),
        point_of=_points(report),
        **seen,
        evidence=any(seen.values()),
        middle=max(report.data.shape[1:]) > MOST_SIDE,
        colours=palette.SERIES,
        style=Markup((folder / "report.css").read_text(encoding="utf-8")),
    )


def _parts(report: Report, budget: _Budget) -> Iterator[Part]:
    figures = _figures(report, budget)
    if report.kind == "audit":
        views = audit_views(report)
        models = list(dict.fromkeys(result.model for result in report.results))
        for index, model in enumerate(models, 1):
            heading = "Results" if len(models) == 1 else plain(model)
            names = [name for name, results in views.items() if results[0].model == model]
            drawn = tuple(figures[name] for name in names if name in figures)
            yield Part(heading, f"result-{index}", drawn, audit(report, model), ())
        return
    for index, result in enumerate(report.results, 1):
        end = "" if len(report.results) == 1 else f"-{index}"
        heading = "Results" if len(report.results) == 1 else plain(result_name(report, result))
        drawn = tuple(
            figures[f"{kind}{end}"]
            for kind in ("accuracy", "ranks", "difference", "training")
            if f"{kind}{end}" in figures
        )
        whole = overview(report, result)
        tables = _rankings(report, result)
        kept_whole = whole if budget.takes(whole) else None
        kept = tuple((label, table) for label, table in tables if budget.takes(table))
        yield Part(heading, f"result-{index}", drawn, kept_whole, kept, len(tables) - len(kept) + (kept_whole is None))


def _rankings(report: Report, result: Result) -> list[tuple[str, Table]]:
    """Each ranking with the label of its operating point: those with noise, the area, those without noise."""
    axis = axis_of(result)
    points = sorted(ordered(result), key=lambda each: not is_noisy(each.point))
    tables = [
        (
            each.point.written(axis.digits),
            ranking(report, result, each.comparison, point_caption(each.point, axis.digits)),
        )
        for each in points
    ]
    if result.area is not None:
        noisy = sum(is_noisy(each.point) for each in points)
        caption = f"Area under the {axis.curve}: {area_mean(result)}"
        tables.insert(noisy, ("area", ranking(report, result, result.area, caption)))
    return tables


def _names(report: Report) -> dict[str, int]:
    """The number of each activation, or of each sensor of an audit, by what tables call it."""
    if report.kind == "audit":
        numbers = series_numbers(report)
        return {plain(sensor_name(each.sensor)): numbers[each.sensor.key] for each in report.results}
    found = {plain(name): number for name, number in series_numbers(report).items()}
    return found | {f"{name} (current)": number for name, number in found.items()}


def _points(report: Report) -> dict[str, int]:
    """The number of each operating point, by what was asked for and by what tables call it."""
    numbers: dict[str, int] = point_numbers(report)
    found: dict[str, int] = {}
    for result in report.results:
        axis = axis_of(result)
        for each in result.points:
            number = numbers.get(written := each.point.written(axis.digits))
            if number is not None:
                found |= {written: number, axis.label(each.point): number}
    return found


def _pictures(found: Iterator[Shots]) -> Iterator[Shots]:
    """As many as a page should hold; those of one sensor are shown together or not at all."""
    left = _MOST_PICTURE_BYTES
    for each in found:
        left -= sum(len(shot.source) for _, row in each.rows for shot in row)
        if left >= 0:
            yield each


def _figures(report: Report, budget: _Budget) -> dict[str, Figure]:
    """Each chart as inline SVG whose colours follow the page's; accuracy charts first where not all fit."""
    wide, narrow = report_charts(report), report_charts(report, wide=False)
    figures = {}
    for name in sorted(wide, key=lambda name: not name.startswith("accuracy")):
        if budget.chart_bytes < 0:
            budget.missing_charts += 1
            continue
        title, caption = charts.title_of(wide[name])
        both = [_inline(charts.svg(chart, "page"), title) for chart in (wide[name], narrow[name])]
        budget.chart_bytes -= sum(map(len, both))
        if budget.chart_bytes < 0:
            budget.missing_charts += 1
            continue
        figures[name] = Figure(title, caption, *both)
    return figures


def _inline(svg: str, title: str) -> Markup:
    """The drawing as an image with a name; its text is escaped by the renderer that drew it."""
    opening = Markup('<svg role="img" aria-label="{}" ').format(title)
    return Markup(svg).replace(Markup("<svg "), opening, 1)
