"""A report as Markdown for a pull request: summary, one table of results, the details folded away."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence

from robustcheck.reporting.axis import audit_views, axis_of, ordered
from robustcheck.reporting.evidence_tables import costs, mistakes
from robustcheck.reporting.particulars import Particular, particulars, provenance
from robustcheck.reporting.report import Report, Result
from robustcheck.reporting.summary import passages
from robustcheck.reporting.tables import Line, Table, audit, overview, point_caption, ranking
from robustcheck.reporting.wording import plain, result_name

_SPECIAL = re.compile(r"([\\`*_\[\]|~#$])")


def render_markdown(report: Report, charts: Mapping[str, str] | None = None) -> str:
    """The document. All but its section on provenance depends on the study alone.

    Args:
        report: what to render.
        charts: name of a chart, as `report_charts` gives it → where the picture lies, relative to the document.
    """
    charts = charts or {}
    return "\n\n".join(_blocks(report, charts)) + "\n"


def _blocks(report: Report, charts: Mapping[str, str]) -> Iterator[str]:
    yield f"# {escape(report.title)}"
    for passage in passages(report):
        yield f"## {escape(passage.heading)}"
        yield "\n".join(f"- {escape(sentence)}" for sentence in passage.sentences)
    if report.kind == "audit":
        models = list(dict.fromkeys(result.model for result in report.results))
        for model in models:
            yield "## Results" if len(models) == 1 else f"## {escape(model)}"
            for name, results in audit_views(report).items():
                if results[0].model == model:
                    yield from _picture(charts, name, f"Accuracy against {axis_of(results[0]).subject}")
            yield from table_blocks(audit(report, model))
    else:
        for index, result in enumerate(report.results, 1):
            yield "## Results" if len(report.results) == 1 else f"## {escape(result_name(report, result))}"
            yield from _result(report, result, charts, index)
    evidence = [block for table in (*mistakes(report), *costs(report)) for block in table_blocks(table)]
    if evidence:
        yield _folded("Behind the numbers", evidence)
    for each in particulars(report):
        yield _folded(each.heading, list(_particular(each)))
    last = provenance(report)
    yield _folded(last.heading, list(_particular(last)))


def _result(report: Report, result: Result, charts: Mapping[str, str], index: int) -> Iterator[str]:
    end = "" if len(report.results) == 1 else f"-{index}"
    yield from _picture(charts, f"accuracy{end}", f"Accuracy against {axis_of(result).subject}")
    yield from _picture(charts, f"ranks{end}", "Which activations differ")
    yield from _picture(charts, f"difference{end}", "Difference from the current activation")
    yield from _picture(charts, f"training{end}", "Validation accuracy under noise while training")
    yield from table_blocks(overview(report, result))
    details: list[str] = []
    for each in ordered(result):
        caption = point_caption(each.point, axis_of(result).digits)
        details += table_blocks(ranking(report, result, each.comparison, caption))
    if result.area is not None:
        details += table_blocks(ranking(report, result, result.area, f"Area under the {axis_of(result).curve}"))
    if details:
        yield _folded("Ranking at each operating point", details)


def _picture(charts: Mapping[str, str], name: str, alternative: str) -> Iterator[str]:
    if name in charts:
        yield f"![{alternative}](<{charts[name]}>)"


def _particular(each: Particular) -> list[str]:
    blocks = ["\n".join(f"- {escape(term)}: {escape(text)}" for term, text in each.facts)] if each.facts else []
    for table in each.tables:
        blocks += table_blocks(table)
    return blocks


def table_blocks(table: Table) -> list[str]:
    """A table as blocks of Markdown: its caption, itself, and what is said below it."""
    heads = " | ".join(map(escape, table.columns))
    rules = " | ".join(["---", *(["---" if table.words else "---:"] * (len(table.columns) - 1))])
    rows = (f"| {' | '.join(_cells(line))} |" for line in table.lines)
    blocks = [f"**{escape(table.caption)}**", "\n".join([f"| {heads} |", f"| {rules} |", *rows])]
    notes: Sequence[str] = (f"**{escape(table.verdict)}**" if table.verdict else "", *map(escape, table.notes))
    if text := " ".join(note for note in notes if note):
        blocks.append(text)
    return blocks


def _cells(line: Line) -> list[str]:
    cells = [escape(cell) for cell in line.cells]
    for index, sign in enumerate(line.marks):
        cells[index] += f" {sign}" if sign else ""
    return [f"**{cells[0]}**" if line.lead else cells[0], *cells[1:]]


def _folded(summary: str, blocks: Sequence[str]) -> str:
    return "\n\n".join([f"<details>\n<summary>{html.escape(summary)}</summary>", *blocks, "</details>"])


def escape(text: str) -> str:
    r"""Text that shows as it is written: no markup, no HTML, no line break.

    >>> print(escape("leaky_relu(0.05) | <b>`"))
    leaky\_relu(0.05) \| &lt;b&gt;\`
    """
    return _SPECIAL.sub(r"\\\1", html.escape(plain(text), quote=False))
