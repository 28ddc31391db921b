"""`robustcheck report`: a report in another format, or what changed between two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robustcheck.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from robustcheck.reporting.changes import Changes
    from robustcheck.reporting.report import Report

_FILE = click.Path(path_type=Path, dir_okay=False)
_WIDTH_OF_A_FILE = 100
_SUFFIXES = {
    ".html": "html", ".md": "md", ".csv": "csv", ".json": "json", ".xml": "junit", ".sarif": "sarif", ".png": "png",
    ".svg": "svg", ".txt": "terminal",
}  # fmt: skip
_FORMATS = ("terminal", "html", "md", "csv", "json", "junit", "sarif", "png", "svg")
_OF_CHANGES = ("terminal", "md", "csv", "json")
_PICTURES = ("png", "svg")
_JUDGED = ("junit", "sarif")


@click.command()
@click.argument("file", type=_FILE)
@click.argument("other", type=_FILE, required=False)
@click.option(
    "--format", "form", type=click.Choice(_FORMATS), help="Instead of what the ending of -o says; else terminal."
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), metavar="PATH", help="A file, or for all charts a folder."
)
@click.option("--chart", metavar="NAME", help="For png and svg: only this chart; 'list' prints their names.")
@click.option(
    "--config", type=_FILE, metavar="FILE", help="For junit and sarif: instead of robustcheck.toml or pyproject.toml."
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def report(
    file: Path, other: Path | None, form: str | None, out: Path | None, chart: str | None, config: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Render the report FILE again, or say what changed from FILE to OTHER.

    Of one report, junit and sarif are the gate's judgements by the checks in robustcheck.toml, as robustcheck gate
    makes them; png and svg are its charts. Of two, each accuracy that both hold is compared, with intervals at 95 %
    for all comparisons at once: terminal, md, csv or json. Exit code 0, whatever changed or was judged.

    \b
    Examples:
      robustcheck report robustcheck-audit/report.json
      robustcheck report report.json -o report.csv
      robustcheck report report.json --format md
      robustcheck report report.json --format png -o charts
      robustcheck report report.json --chart list
      robustcheck report report.json --chart accuracy -o accuracy.svg
      robustcheck report report.json -o gate.sarif --config robustcheck.toml
      robustcheck report before.json after.json
      robustcheck report before.json after.json -o changes.md
    """
    from robustcheck.reporting.report import Report

    form = _format(form, out, as_json)
    _check_options(form, file, other, out, chart, config)
    first = Report.load(file)
    if other is not None:
        from robustcheck.reporting.changes import compare_reports

        _give_out(_changes_text(compare_reports(first, Report.load(other)), form, out), out)
    elif chart == "list":
        click.echo("\n".join(_charts(first)))
    elif form in _PICTURES:
        _draw(first, form, out, chart)
    else:
        _give_out(_report_text(first, form, out, config), out)


def _format(form: str | None, out: Path | None, as_json: bool) -> str:
    """The format that was asked for."""
    if as_json and form not in (None, "json"):
        raise UsageError(f"--json: expected no other format beside it, got --format {form}; leave one of them out")
    if as_json or form is not None:
        return form or "json"
    if out is None:
        return "terminal"
    if out.suffix.lower() not in _SUFFIXES:
        raise UsageError(
            f"-o {out}: expected a file whose ending says the format ({', '.join(_SUFFIXES)}), got "
            f"{out.suffix or 'none'}; give --format too"
        )
    return _SUFFIXES[out.suffix.lower()]


def _check_options(
    form: str, file: Path, other: Path | None, out: Path | None, chart: str | None, config: Path | None
) -> None:
    """UsageError for options that do not go together."""
    if other is not None and (form not in _OF_CHANGES or chart is not None):
        asked = "--chart" if chart is not None else form
        raise UsageError(f"{asked}: expected one report for it, got two; of two there are {', '.join(_OF_CHANGES)}")
    if config is not None and form not in _JUDGED:
        raise UsageError(f"--config: expected it with the format junit or sarif, got {form}; leave it out")
    if chart not in (None, "list") and form not in _PICTURES:
        raise UsageError(f"--chart: expected it with the format png or svg, got {form}; add --format svg")
    if out is not None and out.resolve() in {each.resolve() for each in (file, other) if each is not None}:
        raise UsageError(f"-o {out}: expected another file than the report itself; choose another name")


def _report_text(report: Report, form: str, out: Path | None, config: Path | None) -> str | None:
    """The report as text; None where it is printed to the terminal instead."""
    if form == "terminal":
        from robustcheck.reporting.terminal import print_report

        return _terminal(lambda console: print_report(report, console), out)
    if form == "html":
        from robustcheck.reporting.html import render_html

        return render_html(report)
    if form == "md":
        from robustcheck.reporting.markdown import render_markdown

        return render_markdown(report)
    if form == "csv":
        from robustcheck.reporting.csv import report_csv

        return report_csv(report)
    return report.to_json() if form == "json" else _judged(report, form, config)


def _changes_text(changes: Changes, form: str, out: Path | None) -> str | None:
    """The changes as text; None where they are printed to the terminal instead."""
    from robustcheck.reporting import changes_text

    if form == "terminal":
        return _terminal(lambda console: changes_text.print_changes(changes, console), out)
    if form == "csv":
        from robustcheck.reporting.csv import changes_csv

        return changes_csv(changes)
    return changes_text.to_json(changes) if form == "json" else changes_text.to_markdown(changes)


def _terminal(show: Callable[[Console], None], out: Path | None) -> str | None:
    """Print to the terminal, or for a file as text without colour."""
    import io

    from rich.console import Console

    if out is None:
        show(Console())
        return None
    text = io.StringIO()
    show(Console(file=text, width=_WIDTH_OF_A_FILE))
    return text.getvalue()


def _judged(report: Report, form: str, config: Path | None) -> str:
    """What the gate says of the report."""
    from robustcheck.gate.judge import judge
    from robustcheck.gate.junit import to_junit
    from robustcheck.gate.sarif import to_sarif
    from robustcheck.gate.settings import load_gate
    from robustcheck.reporting.report import Report

    found = load_gate(config)
    if found.settings is None:
        raise UsageError(
            f"{form}: expected a gate's checks, found no [gate] in {config or 'robustcheck.toml or pyproject.toml'}; "
            "robustcheck init begins such a file, and --config FILE names one elsewhere"
        )
    baseline = None if found.settings.baseline is None else Report.load(found.settings.baseline)
    verdict = judge(report, found.settings, baseline)
    return to_junit(verdict) if form == "junit" else to_sarif(verdict, str(found.path))


def _charts(report: Report) -> Mapping[str, Any]:
    from robustcheck.reporting.report_charts import report_charts

    return report_charts(report)


def _draw(report: Report, form: str, out: Path | None, chart: str | None) -> None:
    """Write one chart to a file or to standard output, or all of them to a folder."""
    from robustcheck.reporting.drawing import png, svg
    from robustcheck.reporting.files import write

    charts = _charts(report)
    if chart is not None and chart not in charts:
        raise UnknownNameError("chart", chart, charts, remedy="robustcheck report FILE --chart list names them all")
    if chart is None and (out is None or out.suffix.lower() in _SUFFIXES):
        raise UsageError(
            f"{form}: expected a folder for all charts, or one of them, got neither; give -o FOLDER, "
            f"or --chart NAME: {', '.join(charts) or 'this report has none'}"
        )
    if out is None and form == "png":
        raise UsageError("png: expected a file to write it to, got none; give -o FILE")
    drawn = {out: chart} if chart is not None else {Path(out or "") / f"{name}.{form}": name for name in charts}
    for path, name in drawn.items():
        content = png(charts[str(name)]) if form == "png" else svg(charts[str(name)]).encode()
        if path is None:
            click.echo(content, nl=False)
        else:
            write(path, content)
            click.echo(f"wrote {path}", err=True)


def _give_out(text: str | None, out: Path | None) -> None:
    """Write text to a file, or print it; in UTF-8, whatever the terminal's encoding."""
    if text is None:
        return
    if out is None:
        click.echo(text.encode(), nl=False)
        return
    from robustcheck.reporting.files import write

    write(out, text.encode())
    click.echo(f"wrote {out}", err=True)
