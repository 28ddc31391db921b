"""The axis that a result's operating points lie on: its words, its order, and which way harm lies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from robustcheck.reporting.report import OperatingPoint, PointResult, Report, Result
from robustcheck.reporting.wording import listed, number, telling_digits

_MOST_NAMED = 12
_ASKED: Final = {"ep": "EP", "exposure": "exposure", "lux": "illuminance", "signal": "signal"}


@dataclass(frozen=True)
class Axis:
    """What a sensor's operating points differ in.

    Attributes:
        name: the field of an operating point that holds the value.
        short: what a sentence calls it, as in `every EP`, `the EP range`.
        title: of the axis of a small chart.
        meaning: what that is a share of, for the axis of a large one.
        subject: what a chart shows accuracy against.
        before: what stands before a value in a sentence.
        after: what stands after it.
        log: whether charts have it on a logarithmic scale.
        harm_rises: whether larger values do more harm.
        digits: significant digits that tell a result's operating points apart; of an EP, six at least.
    """

    name: Literal["ep", "exposure", "lux", "bits", "signal"]
    short: str
    title: str
    meaning: str
    subject: str
    before: str
    after: str
    log: bool
    harm_rises: bool
    digits: int = 4

    def value(self, point: OperatingPoint) -> float | None:
        """Where a point lies; None without noise."""
        found: float | None = getattr(point, self.name) if is_noisy(point) else None
        return found

    def label(self, point: OperatingPoint) -> str:
        """What a table calls a point: what was asked for and, where that moved something else in a camera, this.

        >>> point = OperatingPoint(
        ...     kind="lux", ep=0.5, ep_adc=0.6, sigma=0.01, sigma_steps=0.7, exposure=0.0123456, lux=50
        ... )
        >>> LUX_AXIS.label(point), LUX_AXIS.label(point.model_copy(update={"kind": "exposure"}))
        ('50 lx (exposure 0.01235)', 'exposure 0.01235')
        """
        moved = self.moved(point)
        return point.written(self.digits) + (f" ({moved})" if moved else "")

    def moved(self, point: OperatingPoint) -> str:
        """The exposure or resolution that an EP or an illuminance stands for in a camera; empty where it is none."""
        if point.kind == "ep" and point.bits is not None:
            return f"{number(point.bits, self.digits)} bits"
        asked_otherwise = point.kind in ("ep", "lux") and point.exposure is not None
        return f"exposure {number(point.exposure, self.digits)}" if asked_otherwise else ""

    def place(self, point: OperatingPoint) -> str:
        """One operating point in a sentence; what a camera was asked for stands beside what it moved.

        >>> point = OperatingPoint(kind="ep", ep=0.5, ep_adc=0.6, sigma=0.01, sigma_steps=0.7, exposure=0.02)
        >>> EP_AXIS.place(point), EXPOSURE_AXIS.place(point)
        ('EP 0.5', 'exposure 0.02 (EP 0.5)')
        """
        return self.before + self._written(point)

    def places(self, points: Sequence[OperatingPoint]) -> str:
        """Several in a sentence.

        >>> bright, dark = (
        ...     OperatingPoint(kind="exposure", ep=None, ep_adc=None, sigma=None, sigma_steps=None, exposure=exposure)
        ...     for exposure in (0.1, 0.01)
        ... )
        >>> EXPOSURE_AXIS.places([bright, dark])
        'exposure 0.1 and 0.01'
        """
        return self.before + listed(map(self._written, points), most=_MOST_NAMED)

    @property
    def full_title(self) -> str:
        """Of the axis of a large chart.

        >>> SIGNAL_AXIS.full_title
        'signal (share of the return that arrives)'
        """
        return f"{self.title} ({self.meaning})" if self.meaning else self.title

    @property
    def as_far_as(self) -> str:
        """How a sentence goes towards harm."""
        return "up to" if self.harm_rises else "down to"

    @property
    def curve(self) -> str:
        """The curve that an area lies under. Exposures and signals are ratios, so it is over their logarithms.

        >>> EP_AXIS.curve, EXPOSURE_AXIS.curve
        ('accuracy–EP curve', 'accuracy–exposure curve (over log exposure)')
        """
        return f"accuracy–{self.short} curve" + (f" (over log {self.short})" if self.log else "")

    def _written(self, point: OperatingPoint) -> str:
        if self.name == point.kind:
            moved = self.moved(point) if self.name == "lux" else ""
            return point.written(self.digits).removeprefix(self.before) + (f" ({moved})" if moved else "")
        return f"{number(self.value(point), self.digits)}{self.after} ({point.written(self.digits)})"


EP_AXIS: Final = Axis(
    "ep", "EP", "error probability (EP)", "", "error probability", "EP ", "", log=False, harm_rises=True
)
EXPOSURE_AXIS: Final = Axis(
    "exposure", "exposure", "exposure", "share of full well that white fills", "exposure", "exposure ", "",
    log=True, harm_rises=False,
)  # fmt: skip
LUX_AXIS: Final = Axis(
    "lux", "illuminance", "illuminance [lx]", "on the scene", "illuminance", "", " lx", log=True, harm_rises=False
)
BITS_AXIS: Final = Axis(
    "bits", "resolution", "resolution [bits]", "", "resolution", "", " bits", log=False, harm_rises=False
)
SIGNAL_AXIS: Final = Axis(
    "signal", "signal", "signal", "share of the return that arrives", "signal", "signal ", "",
    log=True, harm_rises=False,
)  # fmt: skip


def axis_of(result: Result) -> Axis:
    """The result's own axis: a camera's is what an EP moves, even where EPs were asked for, since EP alone does not
    fix the harm. Where nothing but illuminances was asked for it is theirs, which cameras share.
    """
    noisy = [each.point for each in result.points if is_noisy(each.point)]
    axis = EP_AXIS
    if result.sensor.kind == "lidar":
        axis = SIGNAL_AXIS
    elif result.sensor.kind == "camera":
        exposed = LUX_AXIS if noisy and all(point.kind == "lux" for point in noisy) else EXPOSURE_AXIS
        axis = BITS_AXIS if result.sensor.vary == "bits" else exposed
    values = [
        [value for point in noisy if point.kind == kind and (value := point.asked) is not None]
        for kind in {point.kind for point in noisy}
    ]
    values.append([value for point in noisy if (value := axis.value(point)) is not None])
    return replace(axis, digits=max(telling_digits(each, axis.digits) for each in values))


def noisy_points(result: Result) -> list[tuple[float, PointResult]]:
    """The operating points with noise and their places on the result's own axis, the mildest first."""
    axis = axis_of(result)
    found = [(value, each) for each in result.points if (value := axis.value(each.point)) is not None]
    return sorted(found, key=lambda item: item[0], reverse=not axis.harm_rises)


def ordered(result: Result) -> list[PointResult]:
    """Clean, quantised only, then the operating points with noise, the mildest first."""
    still = {each.point.kind: each for each in result.points if not is_noisy(each.point)}
    return [
        *(still[kind] for kind in ("clean", "quantised") if kind in still),
        *(each for _, each in noisy_points(result)),
    ]


def audit_views(report: Report) -> dict[str, list[Result]]:
    """The results of an audit that one chart shows, by the name of that chart: one for each model on each axis."""
    found: dict[tuple[str, str], list[Result]] = {}
    for model in dict.fromkeys(result.model for result in report.results):
        for result in report.results:
            if result.model == model:
                found.setdefault((model, axis_of(result).name), []).append(result)
    return {
        "accuracy" if len(found) == 1 else f"accuracy-{index}": results
        for index, results in enumerate(found.values(), 1)
    }


def is_noisy(point: OperatingPoint) -> bool:
    """Whether a point has noise: it is neither clean nor quantised only."""
    return point.kind not in ("clean", "quantised")


def asked(points: Iterable[OperatingPoint]) -> str:
    """What the study named its operating points by: EP, exposure, signal, or `operating point` where they differ."""
    kinds = {point.kind for point in points if is_noisy(point)}
    return _ASKED[kinds.pop()] if len(kinds) == 1 else "operating point" if kinds else "EP"


def asked_in(report: Report) -> str:
    """The same for all results of a report."""
    return asked(each.point for result in report.results for each in result.points)


def words_of(points: Iterable[OperatingPoint]) -> str:
    """All operating points as the study asked for them, each once, the mildest first; empty without noise.

    >>> ask = [
    ...     OperatingPoint(kind="ep", ep=ep, ep_adc=None, sigma=None, sigma_steps=None) for ep in (0.5, 0.2, 0.5)
    ... ]
    >>> words_of(ask)
    'EP 0.2 and 0.5'
    """
    found = list(points)
    groups = []
    for axis in (EP_AXIS, EXPOSURE_AXIS, LUX_AXIS, SIGNAL_AXIS):
        mine = {value: point for point in found if point.kind == axis.name and (value := point.asked) is not None}
        values = sorted(mine, reverse=not axis.harm_rises)
        if values:
            digits = telling_digits(values, axis.digits)
            written = (mine[value].written(digits).removeprefix(axis.before) for value in values)
            groups.append(axis.before + listed(written, most=_MOST_NAMED))
    return listed(groups)


def trained_at(report: Report, sensor: str, train_ep: str) -> str:
    """The operating point that a network was trained at behind the sensor of this key, in words.

    Args:
        report: what holds the operating points, which say whether an exposure was asked for as an illuminance.
        sensor: key of the sensor.
        train_ep: as the report names it, such as `0.5`, `exposure=0.1`, `mixed` or `none`.
    """
    if train_ep in ("mixed", "none"):
        return train_ep
    for result in report.results:
        for each in result.points:
            if result.sensor.key == sensor and _trained_name(each.point) == train_ep:
                return each.point.written(axis_of(result).digits)
    kind, _, value = train_ep.rpartition("=")
    return f"{kind} {number(float(value))}" if kind else f"EP {train_ep}"


def _trained_name(point: OperatingPoint) -> str:
    """What a network that was trained at this point alone has as its `train_ep`."""
    if point.kind in ("exposure", "lux"):
        return f"exposure={point.exposure!r}"
    return repr(point.ep) if point.kind == "ep" else f"{point.kind}={point.asked!r}"
