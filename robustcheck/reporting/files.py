"""Writes reports and their charts to a folder, each file whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from robustcheck.errors import ReportError
from robustcheck.reporting.report import Report


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; folders are made.

    Raises:
        ReportError: the file cannot be written: no permission, a full disk.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            with suppress(OSError):
                beside.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ReportError(
            f"{path}: expected a place that can be written, got: {reason}; free some space or choose another folder"
        ) from error


def write_report(report: Report, folder: Path, charts: bool = False) -> list[Path]:
    """Write `report.json`, `report.md` and `report.html`, and with `charts` also `charts/NAME.png` and `.svg`.

    The pictures are written before the Markdown that shows them. Returns the paths, the report's first.

    Raises:
        ReportError: a file cannot be written.
    """
    # Drawing starts a JavaScript engine; reports that are only written as JSON should not wait for it.
    from robustcheck.reporting.html import render_html
    from robustcheck.reporting.markdown import render_markdown

    write(folder / "report.json", report.to_json().encode())
    pictures: dict[str, str] = {}
    drawn: list[Path] = []
    if charts:
        from robustcheck.reporting.charts import save
        from robustcheck.reporting.report_charts import report_charts

        for name, chart in report_charts(report).items():
            for suffix in ("png", "svg"):
                path = folder / "charts" / f"{name}.{suffix}"
                save(chart, path)
                drawn.append(path)
            pictures[name] = f"charts/{name}.png"
    write(folder / "report.md", render_markdown(report, pictures).encode())
    write(folder / "report.html", render_html(report).encode())
    return [folder / "report.json", folder / "report.md", folder / "report.html", *drawn]
