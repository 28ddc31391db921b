"""Prints a report to a terminal: the ranking, then the summary; fits 60 columns and needs no colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from robustcheck.reporting.axis import ordered
from robustcheck.reporting.report import Comparison, Report, Result
from robustcheck.reporting.summary import passages
from robustcheck.reporting.tables import LEGEND, Line, Table, audit, mark, overview, row_of
from robustcheck.reporting.wording import NONE, percent, plain, result_name

_LONGEST_NAME = 28
_ASCII = str.maketrans({"★": "*", "±": "+", "–": "-", "−": "-", "σ": "s", "·": ".", "…": "~", "×": "x", "\ufffd": "?"})


def print_report(report: Report, console: Console) -> None:
    """Print the ranking table of each result and the summary in words.

    Columns that do not fit the console are printed as further tables below; nothing is left out.
    """
    _say(console, plain(report.title), "bold")
    if report.kind == "audit":
        for model in dict.fromkeys(result.model for result in report.results):
            table = audit(report, model)
            _print_blocks(console, table)
            _say(console, " ".join(table.notes), "dim")
    else:
        for result in report.results:
            console.print()
            _say(console, f"{plain(result_name(report, result))}: accuracy [%], mean over networks", "bold")
            _print_blocks(console, _with_winners(report, result))
        if any(each.comparison.pairs for result in report.results for each in result.points):
            _say(console, f"{LEGEND}.", "dim")
    for passage in passages(report):
        console.print()
        _say(console, passage.heading, "bold")
        for sentence in passage.sentences:
            for line in _text(console, sentence).wrap(console, max(20, console.width - 2)):
                line.rstrip()
                console.print("  ", line, sep="", soft_wrap=True)


def _with_winners(report: Report, result: Result) -> Table:
    """The overview without intervals, with a last row that says who wins."""
    whole = overview(report, result)
    comparisons: list[Comparison] = [each.comparison for each in ordered(result)]
    comparisons += [result.area] if result.area is not None else []
    lines = []
    for line, each in zip(whole.lines, report.activations, strict=True):
        found = [(row_of(comparison, each.spec), mark(comparison, each.spec)) for comparison in comparisons]
        cells = (f"{percent(row.accuracy)} {sign or ' '}" if row else NONE for row, sign in found)
        lines.append(Line((line.cells[0], *cells, line.cells[-1])))
    winners = (
        f"{plain(comparison.winner)} " if comparison.winner else "tie " if comparison.pairs else NONE
        for comparison in comparisons
    )
    lines.append(Line(("winner", *winners, "")))
    return Table(whole.caption, whole.columns, tuple(lines))


def _print_blocks(console: Console, table: Table) -> None:
    """The table in as many pieces as the width asks for, each with its first column."""
    width = [
        max(map(len, (*_head(column).split("\n"), *(line.cells[index] for line in table.lines))))
        for index, column in enumerate(table.columns)
    ]
    for columns in _pieces(width, console.width):
        grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
        for index in columns:
            grid.add_column(
                _text(console, _head(table.columns[index])),
                justify="right" if index else "left",
                overflow="fold",
                max_width=None if index else _LONGEST_NAME,
                min_width=min(width[index], console.width) if index else None,
            )
        for line in table.lines:
            last = line is table.lines[-1] and line.cells[0] == "winner"
            grid.add_row(*(_cell(console, line.cells[index], last) for index in columns))
        console.print()
        console.print(grid)
    console.print()


def _pieces(widths: Sequence[int], width: int) -> Iterator[list[int]]:
    """Indices of columns that fit side by side, two spaces apart."""
    first = min(widths[0], _LONGEST_NAME)
    piece, used = [0], first
    for index in range(1, len(widths)):
        if used + 2 + widths[index] > width and len(piece) > 1:
            yield piece
            piece, used = [0], first
        piece.append(index)
        used += 2 + widths[index]
    yield piece


def _head(column: str) -> str:
    """A head in as few columns as it can be."""
    return column.replace(" (", "\n(").replace("/", "/\n").replace("quantised only", "quantised\nonly")


def _cell(console: Console, cell: str, winners: bool) -> Text:
    style = "bold" if winners else "bold green" if cell.endswith("★") else "green" if cell.endswith("=") else ""
    return _text(console, cell, style)


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(_text(console, text, style))


def _text(console: Console, text: str, style: str = "") -> Text:
    """Text that is never read as markup, in signs that the console's encoding has."""
    if not console.encoding.lower().startswith("utf"):
        text = text.translate(_ASCII).encode(console.encoding, "replace").decode(console.encoding)
    return Text(text, style=style)
