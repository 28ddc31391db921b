"""The outcomes behind a report's accuracies: what each network did with each test sample, read from its predictions."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from robustcheck.analysis.bounds import Margin, Scores, Side, combined, joined, margin
from robustcheck.errors import ReportError
from robustcheck.reporting.axis import axis_of, is_noisy, noisy_points
from robustcheck.reporting.report import OperatingPoint, Predictions, Report, Result

_MOST_OUTCOMES = 2**28
_LARGEST_RATIO = 1032  # of DEFLATE: 258 bytes in two bits

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

    def margin(self, side: Side, alpha: float, *, skewed: bool) -> Margin:
        """How far the bound on one side is from the value, at chance `alpha` that the truth is farther out.

        `skewed` is `robustcheck.analysis.bounds.margin`'s.
        """
        how = {"shared_draws": self.shared_draws, "skewed": skewed}
        if not self.against:
            return margin(self.networks, side, alpha, difference=self.difference, **how)
        far: Side = "above" if side == "below" else "below"
        return joined(margin(self.against, side, alpha, **how), margin(self.networks, far, alpha, **how))


@dataclass(frozen=True)
class Outcomes:
    """A report, with its predictions found by contestant and operating point.

    The report may come from anywhere: sizes are bounded before anything is unpacked.
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
    def untrained(self) -> frozenset[str]:
        """Cells whose network is the model as it was given, but for its activation."""
        return frozenset(each.cell for each in self.report.training if each.train_ep == "none")

    @cached_property
    def diverged(self) -> frozenset[str]:
        """Cells whose network did not converge."""
        return frozenset(each.cell for each in self.report.training if not each.converged)

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
        noisy = {stored_name(each.point) for _, each in noisy_points(contestant.result)}
        return min((p.draws for p in self.report.predictions if p.cell in cells and p.point in noisy), default=None)

    def complete(self, contestant: Contestant) -> bool:
        """Whether every network is there at every operating point."""
        seeds = self.seeds(contestant)
        names = {stored_name(each.point) for each in contestant.result.points}
        return len(seeds) == self.report.seeds > 0 and all(
            any((cell, name) in self._predictions for cell in cells) for cells in seeds.values() for name in names
        )

    def cells(self, contestant: Contestant, seed: int, weights: Weights) -> dict[str, str]:
        """The cell behind each operating point, for one network; `clean` is that of the network at the others."""
        own = self.seeds(contestant)[seed]
        found = {n: c for n in weights for c in reversed(own) if n != "clean" and (c, n) in self._predictions}
        if "clean" in weights:
            found["clean"] = next(iter(found.values()), own[0])
        return found

    def terms(self, contestant: Contestant, seed: int, weights: Weights) -> list[tuple[float, Bools, bool]]:
        """What `bounds.combined` joins for one network.

        Raises:
            ReportError: the predictions are not there, or are no bits of so many outcomes.
        """
        cells = self.cells(contestant, seed, weights)
        return [(weight, self._correct(cells[name], name), noisy) for name, (weight, noisy) in weights.items()]

    def _correct(self, cell: str, point: str) -> Bools:
        """Which samples were right, (draws, samples)."""
        found = self._predictions.get((cell, point))
        if found is None:
            raise ReportError(f"report: expected predictions of cell {cell:.12} at {point}, got none; make it again")
        size = found.draws * self.samples
        if not 0 < size <= _MOST_OUTCOMES:
            raise ReportError(f"report: expected 1 to {_MOST_OUTCOMES} outcomes at {point}, got {size}")
        packed = np.frombuffer(_inflated(found.correct, (size + 7) // 8), np.uint8)
        return np.unpackbits(packed, count=size).astype(np.bool_).reshape(found.draws, self.samples)


@dataclass(frozen=True)
class Measure:
    """A mean accuracy: whose outcomes at which operating points.

    Attributes:
        outcomes: of the report that holds it.
        contestant: of that report.
        weights: of its operating points.
    """

    outcomes: Outcomes
    contestant: Contestant
    weights: Weights

    @property
    def seeds(self) -> list[int]:
        """Of its networks, rising."""
        return sorted(self.outcomes.seeds(self.contestant))

    @property
    def shared_draws(self) -> bool:
        """Whether all samples of a draw share noise."""
        inside = self.contestant.result.sensor.placement == "network"
        return inside and any(noisy for _, noisy in self.weights.values())

    @property
    def diverged(self) -> int:
        """How many of its networks did not converge; trained for each operating point, at one of these at least."""
        cells = (self.outcomes.cells(self.contestant, seed, self.weights).values() for seed in self.seeds)
        return sum(not self.outcomes.diverged.isdisjoint(each) for each in cells)

    def terms(self, seed: int, factor: float = 1.0) -> list[tuple[float, Bools, bool]]:
        """Of one network, its weights multiplied by the factor."""
        weights = {name: (factor * weight, noisy) for name, (weight, noisy) in self.weights.items()}
        return self.outcomes.terms(self.contestant, seed, weights)

    def networks(self, seed: int) -> dict[str, str]:
        """Hashes that tell the networks of a seed apart, by operating point: of cells, or of models not trained."""
        model = self.contestant.result.model
        known = next((each.sha256 for each in self.outcomes.report.models if each.key == model), "")
        cells = self.outcomes.cells(self.contestant, seed, self.weights)
        return {name: known if cell in self.outcomes.untrained else cell for name, cell in cells.items()}

    def is_of(self, other: Measure) -> bool:
        """Whether both are of the same networks behind the same sensor, with the same outcomes."""
        if self.weights != other.weights or self.contestant.result.sensor != other.contestant.result.sensor:
            return False
        return all(
            self.networks(seed) == other.networks(seed)
            and all(
                np.array_equal(mine, theirs)
                for (_, mine, _), (_, theirs, _) in zip(self.terms(seed), other.terms(seed), strict=True)
            )
            for seed in self.seeds
        )


def difference(one: Measure, other: Measure) -> Estimate | None:
    """The first mean accuracy less the second; None where they are the same, so that nothing is uncertain.

    It is paired by sample and by network where both reports have the same samples and seeds, which makes it far
    sharper than two accuracies side by side.

    Raises:
        ReportError: a report lacks predictions of its networks.
    """
    shared = one.shared_draws or other.shared_draws
    same_data = (
        one.outcomes.report.data.sha256 == other.outcomes.report.data.sha256
        and one.outcomes.sample_ids == other.outcomes.sample_ids
    )
    if not same_data or one.seeds != other.seeds:
        return Estimate(
            tuple(combined(other.terms(seed)) for seed in other.seeds),
            tuple(combined(one.terms(seed)) for seed in one.seeds),
            shared_draws=shared,
        )
    if one.is_of(other):
        return None
    pairs = (one.terms(seed) + other.terms(seed, -1.0) for seed in one.seeds)
    return Estimate(tuple(map(combined, pairs)), difference=True, shared_draws=shared)


def point_weights(point: OperatingPoint) -> Weights:
    """Of the accuracy at one operating point."""
    return {stored_name(point): (1.0, is_noisy(point))}


def area_weights(result: Result) -> Weights | None:
    """Of the mean accuracy over the curve (trapezoid rule); None where the report has none."""
    axis, points = axis_of(result), noisy_points(result)
    if result.area is None or len(points) < 2:
        return None
    at = np.array([math.log10(value) if axis.log else value for value, _ in points])
    width = np.abs(np.diff(at))
    weights = (np.append(width, 0) + np.append(0, width)) / 2 / width.sum()
    return {stored_name(each.point): (float(w), True) for w, (_, each) in zip(weights, points, strict=True)}


def stored_name(point: OperatingPoint) -> str:
    """What predictions call an operating point; an illuminance is kept as the exposure that it gives.

    >>> stored_name(OperatingPoint(kind="ep", ep=0.5, ep_adc=0.51, sigma=0.05, sigma_steps=0.74))
    'ep=0.5'
    """
    if not is_noisy(point):
        return point.kind
    axis, value = ("exposure", point.exposure) if point.kind == "lux" else (point.kind, point.asked)
    return f"{axis}={value!r}"


def _inflated(packed: str, size: int) -> bytes:
    """The bytes behind base64 of zlib, if there are exactly so many."""
    try:
        raw = base64.b64decode(packed, validate=True)
        found = zlib.decompressobj().decompress(raw, size + 1) if size <= _LARGEST_RATIO * len(raw) else b""
    except (ValueError, zlib.error) as error:
        raise ReportError(f"report: expected packed bits, got: {error}; make the report again") from error
    if len(found) != size:
        raise ReportError(f"report: expected {size} packed bytes, got another number; make the report again")
    return found
