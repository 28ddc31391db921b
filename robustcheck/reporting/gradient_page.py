"""Gradient errors as files: each figure as SVG and PNG, and one self-contained page with figures and tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from robustcheck.content import shelf
from robustcheck.reporting import palette
from robustcheck.reporting.drawing import save, svg
from robustcheck.reporting.files import write
from robustcheck.reporting.tables import Table
from robustcheck.reporting.wording import plain

PAGE = "gradients.html"

_PAGE = Markup(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; {light} }}
@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}
{style}
</style>
</head>
<body>
<main>
<p class="kicker">robustcheck · gradient errors</p>
<h1>{title}</h1>
<p class="note"><code>{command}</code></p>
{figures}
{tables}
</main>
</body>
</html>
"""
)


def write_gradients(
    folder: Path,
    title: str,
    command: str,
    figures: Mapping[str, Any],
    tables: Sequence[Table],
    content: Mapping[str, Any],
) -> list[Path]:
    """Write `NAME.svg` and `NAME.png` of each figure, `gradients.json` and `gradients.html` into the folder; the paths.

    Raises:
        ReportError: a file cannot be written.
    """
    written = []
    for name, chart in figures.items():
        for suffix in ("svg", "png"):
            written.append(folder / f"{name}.{suffix}")
            save(chart, written[-1])
    written.append(folder / "gradients.json")
    write(written[-1], as_json({"command": command, **content}).encode())
    written.append(folder / PAGE)
    write(written[-1], page(title, command, figures, tables).encode())
    return written


def as_json(content: Mapping[str, Any]) -> str:
    """All numbers, with a line break at the end."""
    return json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def page(title: str, command: str, figures: Mapping[str, Any], tables: Sequence[Table]) -> str:
    """The page: nothing is loaded from elsewhere, and its colours follow the reader's light or dark ground."""
    return str(
        _PAGE.format(
            title=plain(title),
            command=plain(command),
            light=Markup(palette.variables("light")),
            dark=Markup(palette.variables("dark")),
            style=Markup((shelf("reports") / "report.css").read_text(encoding="utf-8")),
            figures=Markup("\n").join(map(_figure, figures.values())),
            tables=Markup("\n").join(map(_table, tables)),
        )
    )


def _figure(chart: Any) -> Markup:
    heading = chart.title.to_dict()
    title, words = heading["text"], heading["subtitle"]
    drawing = Markup(svg(chart, "page"))
    named = drawing.replace(Markup("<svg "), Markup('<svg role="img" aria-label="{}" ').format(title), 1)
    caption = " ".join(words) if isinstance(words, list) else words
    return Markup('<figure><h3>{}</h3><div class="chart">{}</div><figcaption>{}</figcaption></figure>').format(
        title, named, caption
    )


def _table(table: Table) -> Markup:
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(column) for column in table.columns)
    rows = Markup("\n").join(
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(
            line.cells[0], Markup("").join(Markup("<td>{}</td>").format(cell) for cell in line.cells[1:])
        )
        for line in table.lines
    )
    notes = Markup("").join(Markup('<p class="note">{}</p>').format(note) for note in table.notes)
    return Markup(
        '<div class="scroll" tabindex="0"><table><caption>{}</caption><thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody>'
        "</table></div>{}"
    ).format(table.caption, head, rows, notes)
