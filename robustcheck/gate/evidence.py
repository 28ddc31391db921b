"""What a report says about one check on one contestant: scores of each network, read from its predictions."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from robustcheck.analysis.bounds import Margin, Scores, Side, joined, margin
from robustcheck.errors import ReportError
from robustcheck.gate.checks import Check, Place
from robustcheck.reporting.axis import axis_of, is_noisy, noisy_points
from robustcheck.reporting.build import unpack_correct
from robustcheck.reporting.report import Comparison, OperatingPoint, PointResult, Predictions, Report, Result

_MOST_OUTCOMES = 2**28
_SAME = 1e-6

Bools = NDArray[np.bool_]
Weights = dict[str, tuple[float, bool]]
"""Of each operating point, by its name among the predictions: its weight, and whether it is noisy."""


@dataclass(frozen=True)
class Contestant:
    """An activation in a model behind a sensor."""

    result: Result
    activation: str


@dataclass(frozen=True)
class Estimate:
    """What was measured: a mean over samples, draws and networks.

    Attributes:
        networks: scores of each.
        against: networks of another report, on other samples or seeds, whose mean the value is subtracted from.
        difference: values are in [−1, 1].
        shared_draws: all samples of a draw share noise.
    """

    networks: tuple[Scores, ...]
    against: tuple[Scores, ...] = ()
    difference: bool = False
    shared_draws: bool = False

    @property
    def value(self) -> float:
        """The mean."""
        mean = float(np.mean([each.mean for each in self.networks]))
        return float(np.mean([each.mean for each in self.against])) - mean if self.against else mean

    def margin(self, side: Side, alpha: float) -> Margin:
        """How far the bound on one side is from the value, at chance `alpha` that the truth is farther out."""
        if not self.against:
            return margin(self.networks, side, alpha, difference=self.difference, shared_draws=self.shared_draws)
        far: Side = "above" if side == "below" else "below"
        return joined(
            margin(self.against, side, alpha, shared_draws=self.shared_draws),
            margin(self.networks, far, alpha, shared_draws=self.shared_draws),
        )


@dataclass(frozen=True)
class Evidence:
    """A report, with its predictions found by contestant and operating point.

    The report may come from anywhere: sizes are bounded before anything is unpacked, and accuracies that the
    predictions do not bear out are a ReportError.
    """

    report: Report

    @property
    def samples(self) -> int:
        """Test samples."""
        return self.report.data.counts.get("test", 0)

    @cached_property
    def sample_ids(self) -> bytes:
        """Ids of the test samples, int64 little-endian."""
        return _inflated(self.report.sample_ids, 8 * self.samples)

    @cached_property
    def _networks(self) -> Mapping[tuple[str, str, str], Mapping[int, tuple[str, ...]]]:
        """The cells of each contestant's networks, by seed; matched training has one for each operating point."""
        found: dict[tuple[str, str, str], dict[int, tuple[str, ...]]] = {}
        for each in self.report.training:
            cells = found.setdefault((each.model, each.sensor, each.activation), {})
            cells[each.seed] = (*cells.get(each.seed, ()), each.cell)
        return found

    @cached_property
    def _predictions(self) -> Mapping[tuple[str, str], Predictions]:
        return {(each.cell, each.point): each for each in self.report.predictions}

    def contestants(self) -> Iterator[Contestant]:
        """All that the report should say something about, in its order."""
        for result in self.report.results:
            for activation in self.report.activations:
                yield Contestant(result, activation.spec)

    def seeds(self, contestant: Contestant) -> Mapping[int, tuple[str, ...]]:
        """The cells of each of its networks."""
        result = contestant.result
        return self._networks.get((result.model, result.sensor.key, contestant.activation), {})

    def draws(self, contestant: Contestant) -> int | None:
        """The fewest noise draws at any operating point; None without noise."""
        cells = {cell for cells in self.seeds(contestant).values() for cell in cells}
        noisy = {_stored_name(each.point) for _, each in noisy_points(contestant.result)}
        return min((p.draws for p in self.report.predictions if p.cell in cells and p.point in noisy), default=None)

    def complete(self, contestant: Contestant) -> bool:
        """Whether every network is there at every operating point."""
        seeds = self.seeds(contestant)
        names = {_stored_name(each.point) for each in contestant.result.points}
        return len(seeds) == self.report.seeds and all(
            any((cell, name) in self._predictions for cell in cells) for cells in seeds.values() for name in names
        )

    def point(self, contestant: Contestant, place: Place) -> PointResult | None:
        """What the report says at an operating point; None where it says nothing."""
        found = (each for each in contestant.result.points if _is_at(each.point, place))
        return next(found, None)

    def weights(self, contestant: Contestant, check: Check) -> Weights | None:
        """The operating points that a check is measured from; None where one is missing.

        Of a regression: those of this report, counted as lost.
        """
        assert check.place is not None
        if check.place.kind == "area":
            weights = self._area(contestant)
        else:
            point = self.point(contestant, check.place)
            weights = None if point is None else {_stored_name(point.point): (1.0, is_noisy(point.point))}
        if weights is None or check.rule in ("accuracy", "area"):
            return weights
        lost = {name: (-weight, noisy) for name, (weight, noisy) in weights.items()}
        return {"clean": (1.0, False), **lost} if check.rule == "drop" else lost

    def _area(self, contestant: Contestant) -> Weights | None:
        """Of the mean accuracy over the curve (trapezoid rule)."""
        axis, points = axis_of(contestant.result), noisy_points(contestant.result)
        if contestant.result.area is None or len(points) < 2:
            return None
        at = np.array([math.log10(value) if axis.log else value for value, _ in points])
        width = np.abs(np.diff(at))
        weights = (np.append(width, 0) + np.append(0, width)) / 2 / width.sum()
        return {_stored_name(each.point): (float(w), True) for w, (_, each) in zip(weights, points, strict=True)}

    def cells(self, contestant: Contestant, seed: int, weights: Weights) -> dict[str, str]:
        """The cell behind each operating point, for one network; `clean` is that of the network at the others."""
        own = self.seeds(contestant)[seed]
        found = {n: c for n in weights for c in own if n != "clean" and (c, n) in self._predictions}
        if "clean" in weights:
            found["clean"] = next(iter(found.values()), own[0])
        return found

    def terms(self, contestant: Contestant, seed: int, weights: Weights) -> list[tuple[float, Bools, bool]]:
        """What `bounds.combined` joins for one network."""
        cells = self.cells(contestant, seed, weights)
        return [(weight, self._correct(cells[name], name), noisy) for name, (weight, noisy) in weights.items()]

    def check_accuracy(self, contestant: Contestant, check: Check, value: float) -> None:
        """ReportError unless a measured accuracy is the one that the report states."""
        where: Comparison | None = contestant.result.area
        if check.rule == "accuracy" and check.place is not None:
            point = self.point(contestant, check.place)
            where = None if point is None else point.comparison
        rows = () if where is None else where.rows
        stated = next((row.accuracy for row in rows if row.activation == contestant.activation), None)
        if stated is None or abs(stated - value) > _SAME:
            raise ReportError(
                f"report: expected an accuracy of {value:.6g}, as its predictions have it, for {contestant.activation} "
                f"in {contestant.result.model}, got {stated}; make the report again"
            )

    def _correct(self, cell: str, point: str) -> Bools:
        """Which samples were right, (draws, samples)."""
        found = self._predictions.get((cell, point))
        if found is None:
            raise ReportError(f"report: expected predictions of cell {cell:.12} at {point}, got none; make it again")
        size = found.draws * self.samples
        if not 0 < size <= _MOST_OUTCOMES:
            raise ReportError(f"report: expected 1 to {_MOST_OUTCOMES} outcomes at {point}, got {size}")
        _inflated(found.correct, (size + 7) // 8)
        return unpack_correct(found.correct, found.draws, self.samples)


def _stored_name(point: OperatingPoint) -> str:
    """What predictions call an operating point; an illuminance is kept as the exposure that it gives."""
    if not is_noisy(point):
        return point.kind
    axis, value = ("exposure", point.exposure) if point.kind == "lux" else (point.kind, point.asked)
    return f"{axis}={value!r}"


def _is_at(point: OperatingPoint, place: Place) -> bool:
    if place.value is None:
        return point.kind == place.kind
    value = point.lux if place.kind == "lux" else point.asked if point.kind == place.kind else None
    return is_noisy(point) and value is not None and math.isclose(value, place.value, rel_tol=1e-9)


def _inflated(packed: str, size: int) -> bytes:
    """The bytes behind base64 of zlib, if there are exactly so many."""
    try:
        found = zlib.decompressobj().decompress(base64.b64decode(packed, validate=True), size + 1)
    except (ValueError, zlib.error) as error:
        raise ReportError(f"report: expected packed bits, got: {error}; make the report again") from error
    if len(found) != size:
        raise ReportError(f"report: expected {size} packed bytes, got another number; make the report again")
    return found
