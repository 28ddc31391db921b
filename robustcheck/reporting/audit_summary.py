"""What an audit says in sentences: how one model did behind each sensor, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping

from robustcheck.reporting.axis import axis_of, is_noisy, noisy_points
from robustcheck.reporting.draw_errors import draw_error_sentences
from robustcheck.reporting.report import Report, Result, Row
from robustcheck.reporting.wording import listed, percent, result_name

_NOTABLE_LOSS = 0.05


def audited(report: Report, result: Result) -> str:
    """Accuracy without noise, at the mildest and at the harshest operating point, and how far it holds."""
    axis = axis_of(result)
    rows = [(each.point, each.comparison.rows[0]) for _, each in noisy_points(result) if each.comparison.rows]
    noisy = [(point, row.accuracy) for point, row in rows]
    still: dict[str, float] = {
        each.point.kind: each.comparison.rows[0].accuracy
        for each in result.points
        if not is_noisy(each.point) and each.comparison.rows
    }
    parts = [
        f"{percent(accuracy)} % {'clean' if kind == 'clean' else 'quantised only'}" for kind, accuracy in still.items()
    ]
    ends = rows[:1] + rows[1:][-1:]
    parts += [f"{percent(row.accuracy)} %{_alone(still, row)} at {axis.place(point)}" for point, row in ends]
    text = f"{result_name(report, result)}: {listed(parts)}"
    clean = still.get("clean")
    if clean is None or not noisy:
        return f"{text}."
    lows = [
        row.samples.lower
        for each in result.points
        if each.point.kind == "clean"
        for row in each.comparison.rows
        if row.samples
    ]
    if lows and min(lows) <= report.data.chance:
        return f"{text}. Clean, it does not do better than guessing beyond doubt, so nothing can be said about noise."
    losses = [clean - accuracy for _, accuracy in noisy]
    held = [point for index, (point, _) in enumerate(noisy) if max(losses[: index + 1]) <= _NOTABLE_LOSS]
    if len(held) == len(noisy):
        return f"{text}; it stays within 5 points of its clean accuracy at every {axis.short} tested."
    if held:
        far = f"{axis.as_far_as} {axis.place(held[-1])}"
        return f"{text}; it stays within 5 points of its clean accuracy {far}."
    return f"{text}; it loses more than 5 points at every {axis.short} tested."


def _alone(still: Mapping[str, float], row: Row) -> str:
    """What rounding alone leaves at a point, where that is not said of all points at once."""
    return "" if row.quantised is None or "quantised" in still else f" ({percent(row.quantised)} % without its noise)"


def audit_certainty(report: Report) -> tuple[str, ...]:
    """What the intervals of an audit cover and what they do not."""
    widths = [
        row.samples.upper - row.samples.lower
        for result in report.results
        for each in result.points
        for row in each.comparison.rows
        if row.samples is not None
    ]
    size = f"; the widest is ± {percent(max(widths) / 2)} points" if widths else ""
    return (
        "One trained network was measured: the intervals cover test samples and noise draws for these networks only"
        f" and say nothing about another training run{size}.",
        *draw_error_sentences(report),
        f"Guessing gives {percent(report.data.chance)} %.",
        *(
            f"No --weights were given for {model.key}: its own code made those measured, random unless it loads them."
            for model in report.models
            if model.weights is None
        ),
    )
