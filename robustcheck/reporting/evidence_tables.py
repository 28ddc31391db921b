"""Confusions, samples and costs of sites, as a page or a text shows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from robustcheck.reporting.axis import trained_at
from robustcheck.reporting.evidence_record import Confusion, Examples, Sensitivity
from robustcheck.reporting.report import Report
from robustcheck.reporting.tables import Line, Table
from robustcheck.reporting.wording import listed, percent, plain, points, span

_MOST_CLASSES = 16
_MOST_MISTAKES = 10


@dataclass(frozen=True)
class Shaded:
    """A cell of a confusion matrix: how often, and as a share of its row, 0 to 1."""

    count: int
    share: float
    right: bool


@dataclass(frozen=True)
class Matrix:
    """A whole confusion matrix: a row a true class, a column a predicted one."""

    caption: str
    activation: str
    classes: tuple[str, ...]
    rows: tuple[tuple[Shaded, ...], ...]


@dataclass(frozen=True)
class Shot:
    """One delivered picture and what was made of it."""

    point: str
    source: str
    taken_for: str
    right: bool


@dataclass(frozen=True)
class Shots:
    """The same samples at several operating points, a row a sample."""

    caption: str
    points: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Shot, ...]], ...]


def matrices(report: Report) -> Iterator[Matrix]:
    """The confusion matrices that are small enough to be read whole."""
    classes = report.data.classes
    for found in report.confusions:
        if len(classes) > _MOST_CLASSES or not _fits(found, len(classes)):
            continue
        counts = [[0] * len(classes) for _ in classes]
        for true, taken, count in found.entries:
            counts[true][taken] = count
        rows = (
            tuple(Shaded(count, count / max(1, sum(row)), true == taken) for taken, count in enumerate(row))
            for true, row in enumerate(counts)
        )
        yield Matrix(_where(report, found), found.activation, tuple(map(plain, classes)), tuple(rows))


def mistakes(report: Report) -> Iterator[Table]:
    """The most frequent mistakes of each activation where it is least accurate."""
    classes = report.data.classes
    for found in report.confusions:
        wrong = [each for each in found.entries if each[0] != each[1]][:_MOST_MISTAKES]
        if not wrong or not _fits(found, len(classes)):
            continue
        lines = (
            Line((plain(classes[true]), plain(classes[taken]), str(count), percent(count / found.predictions)))
            for true, taken, count in wrong
        )
        columns = ("class", "taken for", "how often", "share of all [%]")
        yield Table(f"Most frequent mistakes of {_where(report, found)}", columns, tuple(lines))


def costs(report: Report) -> Iterator[Table]:
    """What the noise of each site costs by itself, the costliest first."""
    for found in report.sensitivities:
        lines = tuple(
            Line((plain(each.site), percent(each.accuracy), span(each.samples), points(each.accuracy - found.clean)))
            for each in found.sites
        )
        where = f"{plain(found.activation)} at {_point_words(report, found.sensor, found.point)}"
        yield Table(
            f"Noise at one site alone: {where}, {plain(found.model)} on {plain(found.sensor)}",
            ("site", "accuracy [%]", "95 % over samples and draws", "against clean [points]"),
            lines,
            (
                f"Clean {percent(found.clean)} %, with noise at every site {percent(found.everywhere)} %. A layer's"
                " noise is that of its converters and of its weights; costs of several sites do not simply add up.",
            ),
        )


def shots(report: Report) -> Iterator[Shots]:
    """Samples as each sensor delivers them."""
    classes = report.data.classes
    for found in report.examples:
        names = [picture.point for picture in found.samples[0].pictures] if found.samples else []
        if not names or not _known(found, len(classes)):
            continue
        words = {name: _point_words(report, found.sensor, name) for name in names}
        rows = tuple(
            (
                plain(classes[sample.label]),
                tuple(
                    Shot(
                        words.get(picture.point, plain(picture.point)),
                        f"data:image/png;base64,{picture.png}",
                        plain(classes[picture.taken_for]),
                        picture.taken_for == sample.label,
                    )
                    for picture in sample.pictures
                ),
            )
            for sample in found.samples
        )
        who = "" if report.kind == "audit" else f" with {plain(found.activation)}, its first network"
        yield Shots(f"{plain(found.model)}{who} on {plain(found.sensor)}", tuple(words.values()), rows)


def _where(report: Report, found: Confusion) -> str:
    at = _point_words(report, found.sensor, found.point)
    return (
        f"{plain(found.activation)} at {at}, {plain(found.model)} on {plain(found.sensor)},"
        f" {found.predictions} predictions"
    )


def _point_words(report: Report, sensor: str, name: str) -> str:
    try:
        return "clean" if name == "clean" else plain(trained_at(report, sensor, name.removeprefix("ep=")))
    except ValueError:  # a name that is none, in a report from elsewhere
        return plain(name)


def _fits(found: Confusion, classes: int) -> bool:
    return found.predictions > 0 and all(
        0 <= true < classes and 0 <= taken < classes for true, taken, _ in found.entries
    )


def _known(found: Examples, classes: int) -> bool:
    return all(
        0 <= label < classes
        for sample in found.samples
        for label in (sample.label, *(picture.taken_for for picture in sample.pictures))
    )


def most_costly(found: Sensitivity) -> str:
    """The sites whose noise costs most, in a sentence."""
    costly = [f"{plain(each.site)} ({percent(found.clean - each.accuracy)} points)" for each in found.sites[:3]]
    return f"On {plain(found.sensor)}, noise at one place alone costs most at {listed(costly)}."
