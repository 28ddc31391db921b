"""Makes a report from a study that was run: reads the store, ranks, and packs what later comparisons need."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustcheck.analysis.intervals import network_interval, sample_error, sample_interval
from robustcheck.analysis.ranking import area, exact_ties, rank
from robustcheck.reporting import report as doc
from robustcheck.reporting.describe import (
    activation_summary,
    data_summary,
    model_key,
    model_summary,
    operating_point,
    place_on_axis,
    sensor_summary,
    title,
)
from robustcheck.reporting.evidence import confusions, examples, sensitivities
from robustcheck.reporting.record import Interval
from robustcheck.sensing.channel import Channel
from robustcheck.study.cells import Cell, LoadedStudy, points, quantised_at
from robustcheck.study.plan import NUMERICS, content_hash
from robustcheck.study.precision import draw_error
from robustcheck.study.runner import Outcome, environments
from robustcheck.study.store import Store, TrainingRecord

Bools = NDArray[np.bool_]
Block = dict[str, list[Cell]]


@dataclass(frozen=True)
class _Source:
    """Where the numbers of a report come from: the study, its store, and the hashes of its cells."""

    loaded: LoadedStudy
    store: Store
    hashes: dict[Cell, str]
    _accuracies: dict[tuple[Cell, str], float] = field(default_factory=dict)

    def correct(self, cell: Cell, point: str) -> Bools:
        """Which test samples the cell's network got right, (draws, samples)."""
        return np.asarray(
            self.store.prediction(self.hashes[cell], point).predicted == self.loaded.data.test.labels.numpy()
        )

    def accuracy(self, cell: Cell, point: str) -> float:
        """Mean over draws and samples; unpacked once, though every EP shows the clean accuracy beside its own."""
        if (cell, point) not in self._accuracies:
            self._accuracies[cell, point] = float(self.correct(cell, point).mean())
        return self._accuracies[cell, point]

    def training(self, cell: Cell) -> TrainingRecord:
        """How the cell's network was trained."""
        return self.store.training(self.hashes[cell])


def build_report(outcome: Outcome, store: Store, provenance: dict[str, Any]) -> doc.Report:
    """The report of a study.

    Args:
        outcome: what `study.runner.run` returned.
        store: holds the cells.
        provenance: all that may vary between two runs of one study.
    """
    loaded, study = outcome.loaded, outcome.loaded.study
    failed = {failure.hash for failure in outcome.failures}
    hashes = {cell: loaded.hash(cell) for cell in outcome.cells}
    cells = [cell for cell in outcome.cells if hashes[cell] not in failed]
    source = _Source(loaded, store, hashes)
    return doc.Report(
        schema_version=1,
        kind=study.kind,
        title=title(loaded),
        study=content_hash([hashes[cell] for cell in outcome.cells]),
        models=tuple(model_summary(loaded, index) for index in range(len(loaded.models))),
        data=data_summary(loaded),
        activations=tuple(activation_summary(loaded, spec) for spec in loaded.activations),
        policy=study.training.model_dump(mode="json"),
        seeds=study.seeds,
        draws=study.draws,
        precision=study.precision,
        results=tuple(
            _result(source, cells, model, sensor)
            for model in range(len(loaded.models))
            for sensor in range(len(loaded.sensors))
        ),
        tuning=tuple(
            doc.Tuning(
                model=model_key(loaded, choice.contestant.model),
                sensor=loaded.sensors[choice.contestant.sensor].key,
                activation=choice.contestant.activation,
                train_ep=choice.contestant.train_ep,
                trials=tuple(
                    doc.LearningRateTrial(learning_rate=rate, validation_accuracy=accuracy)
                    for rate, accuracy in choice.trials
                ),
                chosen=choice.rate,
            )
            for choice in outcome.choices
        ),
        training=tuple(_training(source, cell) for cell in cells),
        predictions=tuple(
            doc.Predictions(cell=hashes[cell], point=point, draws=len(correct), correct=_pack_bits(correct))
            for cell in cells
            for point in points(cell.contestant)
            for correct in [source.correct(cell, point)]
        ),
        confusions=tuple(confusions(loaded, store, cells)),
        examples=tuple(examples(loaded, store, cells)),
        sensitivities=tuple(sensitivities(loaded, store, cells)),
        sample_ids=_pack(loaded.data.test.sample_ids.numpy().astype("<i8").tobytes()),
        failures=tuple(
            doc.Failure(cell=failure.hash, what=_where_and_what(loaded, failure.cell), error=failure.error)
            for failure in outcome.failures
        ),
        numerics=NUMERICS,
        provenance=provenance
        | {
            "cell_seconds": round(store.seconds(), 1),  # of all runs, where "seconds" are those of the last
            "cells": environments(store, (hashes[cell] for cell in cells)),
        },
    )


def _where_and_what(loaded: LoadedStudy, cell: Cell) -> str:
    who = cell.contestant
    return f"{model_key(loaded, who.model)} on {loaded.sensors[who.sensor].key}: {cell.label}"


def _pack_bits(correct: Bools) -> str:
    return _pack(np.packbits(correct).tobytes())


def _pack(raw: bytes) -> str:
    return base64.b64encode(zlib.compress(raw, 9)).decode("ascii")


def _training(source: _Source, cell: Cell) -> doc.Training:
    loaded, record = source.loaded, source.training(cell)
    return doc.Training(
        cell=source.hashes[cell],
        model=model_key(loaded, cell.contestant.model),
        sensor=loaded.sensors[cell.contestant.sensor].key,
        activation=cell.contestant.activation or "as is",
        seed=cell.seed,
        train_ep=cell.contestant.train_ep,
        learning_rate=record.learning_rate,
        epochs=record.epochs,
        best_epoch=record.best_epoch,
        converged=record.converged,
        validation_accuracy=record.validation_accuracy,
        train_loss=record.train_loss,
        validation_curve=record.validation_curve,
    )


def _result(source: _Source, cells: Sequence[Cell], model: int, sensor: int) -> doc.Result:
    loaded, study = source.loaded, source.loaded.study
    mine = [cell for cell in cells if (cell.contestant.model, cell.contestant.sensor) == (model, sensor)]
    bound = loaded.sensors[sensor]
    found: list[doc.PointResult] = []
    accuracies: list[NDArray[np.float64]] = []
    blocks: list[Block] = []
    plain = study.training.train_ep != "matched" or study.training.mode == "none"
    named = {
        name: point for cell in mine for name, point in points(cell.contestant).items() if point is None or point.noisy
    }
    readings = {name: Channel(bound, point).reading for name, point in named.items()}
    at: list[float] = []
    for name, point in sorted(
        named.items(), key=lambda item: -math.inf if item[1] is None else place_on_axis(readings[item[0]])
    ):
        block = _block(loaded, [cell for cell in mine if name in points(cell.contestant)])
        if not block or (point is None and not plain):
            continue
        comparison, accuracy = _compare(source, block, name, inside=bound.placement == "network")
        stated = operating_point(loaded, bound, name, point, readings[name])
        found.append(doc.PointResult(point=stated, comparison=comparison))
        if point is not None:
            at.append(place_on_axis(readings[name]))
            accuracies.append(accuracy)
            blocks.append(block)
    whole = len(at) == len(study.operating_points(bound))
    return doc.Result(
        model=model_key(loaded, model),
        sensor=sensor_summary(loaded, sensor),
        points=tuple(found),
        area=_area(source, at, accuracies, blocks) if whole else None,
    )


def _block(loaded: LoadedStudy, cells: Sequence[Cell]) -> Block:
    """Cells by activation, over the seeds that they share: a block must be whole to be compared.

    An activation of which no cell could be finished is left out; it is among the failures.
    """
    found = {spec: {c.seed: c for c in cells if c.contestant.activation == spec} for spec in loaded.activations}
    found = {spec: by_seed for spec, by_seed in found.items() if by_seed}
    shared = sorted(set.intersection(*map(set, found.values()))) if found else []
    return {spec: [by_seed[seed] for seed in shared] for spec, by_seed in found.items()} if shared else {}


def _compare(source: _Source, block: Block, point: str, *, inside: bool) -> tuple[doc.Comparison, NDArray[np.float64]]:
    """The comparison at one point, and the accuracies (seeds, activations) behind it."""
    noisy = point not in ("clean", "quantised")
    correct = {spec: [source.correct(cell, point) for cell in cells] for spec, cells in block.items()}
    accuracy = np.stack([np.array([each.mean() for each in found]) for found in correct.values()], axis=1)
    intervals = {spec: sample_interval(found, draws_are_clusters=inside and noisy) for spec, found in correct.items()}
    precisions = {spec: _precision(source, found) if noisy else None for spec, found in correct.items()}
    beside: dict[str, dict[str, float]] = {
        spec: {
            kind: float(np.mean([source.accuracy(cell, name) for cell in cells]))
            for kind, name in (("clean", "clean"), ("quantised", quantised_at(point, cells[0].contestant)))
            if name is not None
        }
        for spec, cells in block.items()
    }
    return _comparison(source, block, accuracy, intervals, beside, precisions=precisions), accuracy


def _precision(source: _Source, correct: Sequence[Bools]) -> doc.Precision | None:
    """What was reached of the precision asked for, from the draws (draws, samples) of each network."""
    study = source.loaded.study
    if study.precision is None:
        return None
    first = [each[: study.draws].mean(axis=1) for each in correct]
    error = max(draw_error(a, *each.shape) for a, each in zip(first, correct, strict=True))
    return doc.Precision(
        draws=tuple(map(len, correct)),
        draw_error=error,
        # N may make the two equal, but for the last bit.
        reached=error <= study.precision * (1 + 1e-9),
        sample_error=sample_error(correct),
    )


def _area(
    source: _Source, at: list[float], accuracies: list[NDArray[np.float64]], blocks: list[Block]
) -> doc.Comparison | None:
    """The mean accuracy over the range of the curve's axis, ranked like a point; None where a seed is missing."""
    networks = {tuple((spec, cell.seed) for spec, cells in block.items() for cell in cells) for block in blocks}
    if len(accuracies) < 2 or len(networks) != 1:
        return None
    under = area(np.array(at), np.stack(accuracies, axis=-1))
    if under is None:
        return None
    return _comparison(source, blocks[0], np.asarray(under), {}, {}, blocks)


def _comparison(
    source: _Source,
    block: Block,
    accuracy: NDArray[np.float64],
    intervals: dict[str, tuple[float, float]],
    beside: dict[str, dict[str, float]],
    blocks: Sequence[Block] = (),
    precisions: Mapping[str, doc.Precision | None] = MappingProxyType({}),
) -> doc.Comparison:
    names = list(block)
    samples = len(source.loaded.data.test.labels)
    ranking = rank(accuracy, names, samples=samples)
    rows = []
    for index, spec in enumerate(names):
        over_networks = network_interval(accuracy[:, index], samples)
        over_samples = intervals.get(spec)
        # A run counts as converged over an EP range if each of its networks did.
        runs = zip(*(b[spec] for b in (blocks or [block])), strict=True)
        rows.append(
            doc.Row(
                activation=spec or "as is",
                accuracy=ranking.mean[index],
                networks=None if over_networks is None else Interval(lower=over_networks[0], upper=over_networks[1]),
                samples=None if over_samples is None else Interval(lower=over_samples[0], upper=over_samples[1]),
                per_seed=tuple(accuracy[:, index].tolist()),
                rank=ranking.rank[index],
                converged=sum(all(source.training(cell).converged for cell in run) for run in runs),
                clean=beside.get(spec, {}).get("clean"),
                quantised=beside.get(spec, {}).get("quantised"),
                precision=precisions.get(spec),
            )
        )
    rows.sort(key=lambda row: -row.accuracy)
    return doc.Comparison(
        rows=tuple(rows),
        pairs=tuple(
            doc.Pair(
                a=pair.a,
                b=pair.b,
                difference=pair.difference,
                lower=pair.lower,
                upper=pair.upper,
                p_value=pair.p_value,
                significant=pair.significant,
                seeds_needed=pair.seeds_needed,
            )
            for pair in (ranking.pairs if ranking.inference else ())
        ),
        winner=ranking.winner,
        leaders=tuple(name or "as is" for name in ranking.leaders),
        exact_ties=exact_ties(names, accuracy),
        detectable_difference=ranking.detectable_difference,
        seeds_needed=ranking.seeds_needed,
    )
