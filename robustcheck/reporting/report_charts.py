"""All charts of a report, by name."""

from __future__ import annotations

from typing import Any

from robustcheck.reporting.axis import audit_views
from robustcheck.reporting.charts import accuracy_chart, audit_chart, difference_chart, training_chart
from robustcheck.reporting.rank_charts import critical_difference_chart
from robustcheck.reporting.report import Report


def report_charts(report: Report, wide: bool = True) -> dict[str, Any]:
    """Every chart that this report can fill, by name: `accuracy`, `ranks`, `difference`, `training`.

    With several results the names end in the place of the result, counted from 1; an audit has one chart for each
    model and axis, named as `axis.audit_views` says.
    `wide=False` gives charts for a screen 375 pixels wide.
    """
    charts: dict[str, Any] = {}
    if report.kind == "audit":
        for name, results in audit_views(report).items():
            charts[name] = audit_chart(report, results, wide)
    else:
        for index, result in enumerate(report.results, 1):
            end = "" if len(report.results) == 1 else f"-{index}"
            charts[f"accuracy{end}"] = accuracy_chart(report, result, wide)
            charts[f"ranks{end}"] = critical_difference_chart(report, result, wide)
            charts[f"difference{end}"] = difference_chart(report, result, wide)
            charts[f"training{end}"] = training_chart(report, result, wide)
    return {name: chart for name, chart in charts.items() if chart is not None}
