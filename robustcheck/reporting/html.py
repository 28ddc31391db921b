"""A report as one self-contained HTML page: no script, nothing loaded from elsewhere, under 2 MB."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import jinja2
from markupsafe import Markup

from robustcheck.content import shelf
from robustcheck.reporting import charts, palette
from robustcheck.reporting.axis import audit_views, axis_of, is_noisy, ordered
from robustcheck.reporting.particulars import Particular, particulars, provenance
from robustcheck.reporting.report import Report, Result
from robustcheck.reporting.summary import passages
from robustcheck.reporting.tables import Table, area_mean, audit, overview, point_caption, ranking
from robustcheck.reporting.wording import plain, result_name

_MOST_CHART_BYTES = 900_000
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
    """One model on one sensor: figures, the overview, a table an operating point."""

    heading: str
    anchor: str
    figures: tuple[Figure, ...]
    overview: Table | None
    tables: tuple[Table, ...]
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
            figures[f"{kind}{end}"] for kind in ("accuracy", "difference", "training") if f"{kind}{end}" in figures
        )
        whole = overview(report, result)
        tables = _rankings(report, result)
        kept_whole = whole if budget.takes(whole) else None
        kept = tuple(table for table in tables if budget.takes(table))
        yield Part(heading, f"result-{index}", drawn, kept_whole, kept, len(tables) - len(kept) + (kept_whole is None))


def _rankings(report: Report, result: Result) -> list[Table]:
    points = ordered(result)
    noisy = [each for each in points if is_noisy(each.point)]
    still = [each for each in points if not is_noisy(each.point)]
    tables = [ranking(report, result, each.comparison, point_caption(each.point)) for each in noisy]
    if result.area is not None:
        tables.append(
            ranking(report, result, result.area, f"Area under the {axis_of(result).curve}: {area_mean(result)}")
        )
    return tables + [ranking(report, result, each.comparison, point_caption(each.point)) for each in still]


def _figures(report: Report, budget: _Budget) -> dict[str, Figure]:
    """Each chart as inline SVG whose colours follow the page's; accuracy charts first where not all fit."""
    wide, narrow = charts.report_charts(report), charts.report_charts(report, wide=False)
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
