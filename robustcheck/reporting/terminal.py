"""Prints a report to a terminal: bars, tables, then the summary; fits 60 columns and needs no colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from robustcheck.reporting.axis import axis_of, is_noisy, ordered
from robustcheck.reporting.bars import ASCII, BLOCKS, Scale, band, scale_of
from robustcheck.reporting.report import Comparison, Report, Result, Row
from robustcheck.reporting.summary import passages
from robustcheck.reporting.tables import LEGEND, Line, Table, area_mean, mark, overview, row_of
from robustcheck.reporting.wording import NONE, percent, plain, result_name, sensor_name, span

_LONGEST_NAME, _SHORTEST_NAME = 28, 12
_LONGEST_BAR, _SHORTEST_BAR = 50, 8
_ASCII = str.maketrans({"★": "*", "±": "+", "–": "-", "−": "-", "σ": "s", "·": ".", "…": "~", "×": "x", "\ufffd": "?"})


@dataclass(frozen=True)
class _Bar:
    """A line of a block of bars: a name, an accuracy with its interval, and where it stands among the others."""

    name: str
    row: Row
    rank: str = ""
    leads: bool = False

    @property
    def interval(self) -> str:
        """In brackets; empty where there is none."""
        found = band(self.row)
        return "" if found is None else f"({span(found)})"


@dataclass(frozen=True)
class _Layout:
    """The columns of blocks of bars that stand below each other, and what the bars are drawn to.

    Attributes:
        names: columns for names, which are folded there.
        scale: of the bars; None where the console is too narrow for them.
    """

    names: int
    scale: Scale | None

    @classmethod
    def of(cls, report: Report, bars: Sequence[_Bar], console: Console) -> _Layout:
        """What fits the console."""
        names = min(max(len(each.name) for each in bars), _LONGEST_NAME, max(_SHORTEST_NAME, console.width // 3))
        beside = [len("100.0"), max(len(each.interval) for each in bars), max(len(each.rank) for each in bars)]
        width = min(console.width - names - sum(beside) - 2 * (1 + len(beside)), _LONGEST_BAR)
        signs = BLOCKS if _has(console, "".join(BLOCKS)) else ASCII
        drawn = width >= _SHORTEST_BAR
        return cls(names, scale_of([each.row for each in bars], report.data.chance, width, signs) if drawn else None)

    @property
    def explained(self) -> str:
        """What the bars show; empty without bars."""
        if self.scale is None:
            return ""
        low, high = (f"{100 * end:g}" for end in (self.scale.low, self.scale.high))
        return f"bars from {low} to {high} %, {self.scale.signs[1]} the interval"

    def print(self, bars: Sequence[_Bar], console: Console) -> None:
        """One line a bar, as long as its name is not folded."""
        grid = Grid.grid(padding=(0, 2, 0, 0))
        grid.add_column(width=self.names, overflow="fold")
        for justify in ("left", "right", "left", "left"):
            grid.add_column(justify=justify, no_wrap=True)
        for each in bars:
            drawn = "" if self.scale is None else self.scale.bar(each.row)
            cells = (each.name, drawn, percent(each.row.accuracy), each.interval, each.rank)
            grid.add_row(*(text_for(console, cell, "green" if each.leads else "") for cell in cells))
        console.print(grid)


def print_report(report: Report, console: Console) -> None:
    """Print bars of accuracy, the table of each result that is a comparison, and the summary in words.

    Of an audit there is a bar an operating point. Of a comparison there is one an activation, over the area or at the
    harshest operating point, and a table of all points; its columns that do not fit the console are printed as further
    tables below, so that nothing is left out.
    """
    say(console, plain(report.title), "bold")
    if report.kind == "audit":
        for model in dict.fromkeys(result.model for result in report.results):
            _print_audit(report, model, console)
    else:
        for result in report.results:
            _print_ranking(report, result, console)
            say(console, "Accuracy [%] at each operating point, mean over networks", "bold")
            _print_blocks(console, _with_winners(report, result))
        if any(each.comparison.pairs for result in report.results for each in result.points):
            say(console, f"{LEGEND}.", "dim")
    for passage in passages(report):
        console.print()
        say(console, passage.heading, "bold")
        for sentence in passage.sentences:
            print_indented(console, sentence)


def _print_audit(report: Report, model: str, console: Console) -> None:
    """A bar an operating point, in blocks of one sensor, all on one scale."""
    blocks = [(result, list(_audited(result))) for result in report.results if result.model == model]
    bars = [bar for _, block in blocks for bar in block]
    if not bars:
        return
    layout = _Layout.of(report, bars, console)
    console.print()
    say(console, f"Accuracy of {plain(model)} [%]", "bold")
    _explain(console, "in brackets the 95 % interval over test samples and draws: these networks only", layout)
    for result, block in blocks:
        console.print()
        say(console, plain(sensor_name(result.sensor)), "bold")
        layout.print(block, console)


def _audited(result: Result) -> Iterator[_Bar]:
    axis = axis_of(result)
    everywhere = any(each.point.kind == "quantised" for each in result.points)
    for each in ordered(result):
        for row in each.comparison.rows[:1]:
            yield _Bar(axis.label(each.point), row)
            if row.quantised is not None and not everywhere and is_noisy(each.point):
                rounded = row.model_copy(update={"accuracy": row.quantised, "networks": None, "samples": None})
                yield _Bar("– rounding alone", rounded)


def _print_ranking(report: Report, result: Result, console: Console) -> None:
    """A bar an activation, the highest mean first: over the area, or at the harshest operating point."""
    points, name = ordered(result), plain(result_name(report, result))
    comparison = result.area or (points[-1].comparison if points else None)
    console.print()
    if comparison is None or not comparison.rows:
        say(console, name, "bold")
        return
    place = "" if result.area else axis_of(result).label(points[-1].point)
    what = f"accuracy [%], {place}" if place else f"area [%], {area_mean(result)}"
    bars = [_Bar(plain(row.activation), row, *_standing(comparison, row)) for row in comparison.rows]
    layout = _Layout.of(report, bars, console)
    networks = any(row.networks for row in comparison.rows)
    over = "trained networks" if networks else "test samples and draws: these networks only"
    say(console, f"{name}: {what}", "bold")
    _explain(console, f"in brackets the 95 % interval over {over}", layout, ranked=bool(comparison.pairs))
    console.print()
    layout.print(bars, console)
    console.print()


def _standing(comparison: Comparison, row: Row) -> tuple[str, bool]:
    """The rank with its sign, and whether the activation leads; nothing where nothing was compared."""
    sign = mark(comparison, row.activation)
    return (f"{row.rank} {sign}".rstrip(), bool(sign)) if comparison.pairs else ("", False)


def _explain(console: Console, interval: str, layout: _Layout, *, ranked: bool = False) -> None:
    parts = filter(None, (interval, layout.explained, "last the rank" if ranked else ""))
    say(console, "; ".join(parts), "dim")


def _with_winners(report: Report, result: Result) -> Table:
    """The overview without intervals and without the area, which has bars; a last row says who wins."""
    whole = overview(report, result)
    comparisons: list[Comparison] = [each.comparison for each in ordered(result)]
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
    return Table(whole.caption, (*whole.columns[: 1 + len(comparisons)], whole.columns[-1]), tuple(lines))


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
                text_for(console, _head(table.columns[index])),
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
    return text_for(console, cell, style)


def say(console: Console, text: str, style: str = "") -> None:
    """Print a line, which is wrapped where the console ends."""
    console.print(text_for(console, text, style))


def print_indented(console: Console, text: str) -> None:
    """Print a sentence two columns to the right, its further lines too."""
    for line in text_for(console, text).wrap(console, max(20, console.width - 2)):
        line.rstrip()
        console.print("  ", line, sep="", soft_wrap=True)


def text_for(console: Console, text: str, style: str = "") -> Text:
    """Text that is never read as markup, in signs that the console's encoding has."""
    if not _has(console, text):
        text = text.translate(_ASCII).encode(console.encoding, "replace").decode(console.encoding)
    return Text(text, style=style)


def _has(console: Console, text: str) -> bool:
    """Whether the console's encoding has all these signs."""
    try:
        text.encode(console.encoding)
    except UnicodeEncodeError:
        return False
    return True
