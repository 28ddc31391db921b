"""What a report says of noise draws: how many there were, their error, and what the test set leaves open beside it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from robustcheck.reporting.axis import axis_of, noisy_points
from robustcheck.reporting.report import PointResult, Precision, Report, Result
from robustcheck.reporting.tables import Line, Table
from robustcheck.reporting.wording import counted, plain, result_name


def draws_taken(report: Report) -> str:
    """The draws of a sample in words: `5 noise draws`, or `5 to 142 noise draws`."""
    taken = {count for _, _, precision in _each(report) for count in precision.draws} or {report.draws}
    return _draws(taken)


def draw_error_sentences(report: Report) -> Iterator[str]:
    """What was reached of the precision asked for, and what more draws cannot do; nothing where none was asked for."""
    found = list(_each(report))
    if report.precision is None or not found:
        return
    draw_error = max(precision.draw_error for _, _, precision in found)
    asked = f"Draws were taken until the draw error of each accuracy is at most ± {_points(report.precision)} points"
    missed: dict[str, list[Precision]] = defaultdict(list)
    for result, each, precision in found:
        if not precision.reached:
            place = f"{result_name(report, result)}, " if len(report.results) > 1 else ""
            missed[f"{place}{axis_of(result).label(each.point)}"].append(precision)
    if missed:
        where = "; ".join(
            f"{label}: ± {_points(max(each.draw_error for each in precisions))} points after"
            f" {_draws(count for each in precisions for count in each.draws)}"
            for label, precisions in missed.items()
        )
        yield (
            f"{asked}, which was not reached everywhere: {where}. More draws than that are kept only where --draws"
            " asks for them."
        )
    else:
        yield f"{asked}; the largest is ± {_points(draw_error)} points (95 %, for one network on these test samples)."
    samples = report.data.counts.get("test")
    alone = f"{counted(samples, 'test sample')} alone leave" if samples else "the test samples alone leave"
    sizes = _range([precision.sample_error for _, _, precision in found])
    if all(precision.sample_error >= precision.draw_error for _, _, precision in found):
        yield f"More draws would hardly help: {alone} ± {sizes} points, whatever the draws."
    else:
        yield f"Beside that, {alone} ± {sizes} points, whatever the draws."


def draw_errors(report: Report) -> Table | None:
    """Draws taken and both errors at each operating point with noise; None where no precision was asked for."""
    if report.precision is None:
        return None
    several = len(report.results) > 1
    lines = []
    for result in report.results:
        axis = axis_of(result)
        for _, each in noisy_points(result):
            here = [row.precision for row in each.comparison.rows if row.precision is not None]
            if not here:
                continue
            place = (plain(result_name(report, result)),) if several else ()
            missed = "" if all(precision.reached for precision in here) else ", not reached"
            lines.append(
                Line(
                    (
                        axis.label(each.point),
                        *place,
                        _range_of_counts(count for precision in here for count in precision.draws),
                        f"± {_points(max(precision.draw_error for precision in here))}{missed}",
                        f"± {_range([precision.sample_error for precision in here])}",
                    )
                )
            )
    return Table(
        f"Noise draws for a draw error of ± {_points(report.precision)} points",
        (
            "operating point",
            *(("where",) if several else ()),
            "draws",
            "largest draw error [points]",
            "error of the test set [points]",
        ),
        tuple(lines),
        (
            "Draw error: half the 95 % interval over noise draws, for one network on these test samples. Error of the"
            " test set: half the 95 % interval over test samples, which more draws do not make smaller.",
        ),
    )


def _each(report: Report) -> Iterator[tuple[Result, PointResult, Precision]]:
    for result in report.results:
        for _, each in noisy_points(result):
            for row in each.comparison.rows:
                if row.precision is not None:
                    yield result, each, row.precision


def _draws(counts: Iterable[int]) -> str:
    text = _range_of_counts(counts)
    return f"{text} noise {'draw' if text == '1' else 'draws'}"


def _range_of_counts(counts: Iterable[int]) -> str:
    counts = set(counts)
    return " to ".join(map(str, sorted({min(counts), max(counts)})))


def _range(errors: Sequence[float]) -> str:
    return " to ".join(dict.fromkeys((_points(min(errors)), _points(max(errors)))))


def _points(fraction: float) -> str:
    """Half a width in percentage points: one decimal, or two significant digits below one.

    >>> _points(0.0264), _points(0.005), _points(0.00031)
    ('2.6', '0.5', '0.031')
    """
    return f"{100 * fraction:.1f}" if fraction >= 0.01 else f"{100 * fraction:.2g}"
