"""Makes a report from a study that was run: reads the store, ranks, and packs what later comparisons need."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustcheck import content
from robustcheck.activations.catalogue import activation
from robustcheck.analysis.intervals import network_interval, sample_error, sample_interval
from robustcheck.analysis.ranking import area, exact_ties, rank
from robustcheck.reporting import report as doc
from robustcheck.sensing.channel import Channel, Sensor
from robustcheck.study.cells import AS_IS, Cell, LoadedStudy, points
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
        title=_title(loaded),
        study=content_hash([hashes[cell] for cell in outcome.cells]),
        models=tuple(_model(loaded, index) for index in range(len(loaded.models))),
        data=_data(loaded),
        activations=tuple(_activation(loaded, spec) for spec in loaded.activations),
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
                model=_model_key(loaded, choice.contestant.model),
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
        sample_ids=_pack(loaded.data.test.sample_ids.numpy().astype("<i8").tobytes()),
        failures=tuple(
            doc.Failure(cell=failure.hash, what=failure.cell.label, error=failure.error) for failure in outcome.failures
        ),
        numerics=NUMERICS,
        provenance=provenance | {"cells": environments(store, (hashes[cell] for cell in cells))},
    )


def unpack_correct(packed: str, draws: int, samples: int) -> Bools:
    """Which samples were right, (draws, samples) bool, from `Predictions.correct`.

    >>> unpack_correct(_pack_bits(np.array([[True, False, True]])), 1, 3)
    array([[ True, False,  True]])
    """
    raw = zlib.decompressobj().decompress(base64.b64decode(packed, validate=True), draws * samples // 8 + 1)
    return np.unpackbits(np.frombuffer(raw, np.uint8), count=draws * samples).astype(np.bool_).reshape(draws, samples)


def _pack_bits(correct: Bools) -> str:
    return _pack(np.packbits(correct).tobytes())


def _pack(raw: bytes) -> str:
    return base64.b64encode(zlib.compress(raw, 9)).decode("ascii")


def _title(loaded: LoadedStudy) -> str:
    models = ", ".join(_model_key(loaded, index) for index in range(len(loaded.models)))
    sensors = ", ".join(sensor.key for sensor in loaded.sensors)
    what = "Audit" if loaded.study.kind == "audit" else "Activations compared"
    return f"{what}: {models} on {loaded.data.name} behind {sensors}"


def _model_key(loaded: LoadedStudy, index: int) -> str:
    spec = loaded.study.models[index].spec
    twins = [i for i, choice in enumerate(loaded.study.models) if choice.spec == spec]
    return spec if len(twins) == 1 else f"{spec} ({twins.index(index) + 1})"


def _model(loaded: LoadedStudy, index: int) -> doc.ModelSummary:
    model = loaded.models[index]
    return doc.ModelSummary(
        key=_model_key(loaded, index),
        spec=loaded.study.models[index].spec,
        origin=model.origin,
        sha256=model.sha256,
        weights=_weights(loaded, index),
        parameters=sum(parameter.numel() for parameter in model.network.parameters()),
        input=model.input.as_dict(),
        activation=loaded.current[index],
        sites=tuple(
            doc.SiteSummary(path=site.path, kind=site.kind, found=site.found, calls=site.calls)
            for site in loaded.sites[index]
        ),
        notes=model.notes,
    )


def _weights(loaded: LoadedStudy, index: int) -> str | None:
    choice = loaded.study.models[index]
    if choice.weights is not None:
        return choice.weights
    if Path(choice.spec).suffix in (".onnx", ".pt2", ".toml"):
        return choice.spec
    return "shipped" if choice.spec in content.names("models", ".toml") else None


def _data(loaded: LoadedStudy) -> doc.DataSummary:
    data = loaded.data
    return doc.DataSummary(
        spec=data.spec,
        name=data.name,
        source=data.source,
        sha256=data.sha256,
        classes=data.classes,
        shape=data.shape,
        counts={name: len(getattr(data, name).labels) for name in ("train", "validation", "test")},
        chance=data.chance,
        split_seed=data.split_seed,
        fixed_test=data.fixed_test,
        preprocessing=data.preprocessing.as_dict(),
        notes=data.notes,
    )


def _activation(loaded: LoadedStudy, spec: str) -> doc.ActivationSummary:
    if spec == AS_IS:
        return doc.ActivationSummary(spec="as is", formula="", family="", learned=(), current=True, replaced={})
    entry = activation(spec)
    return doc.ActivationSummary(
        spec=spec,
        formula=entry.formula,
        family=entry.family,
        learned=entry.learned,
        current=spec in loaded.current,
        replaced={_model_key(loaded, index): loaded.replaced[index][spec] for index in range(len(loaded.models))},
    )


def _training(source: _Source, cell: Cell) -> doc.Training:
    loaded, record = source.loaded, source.training(cell)
    return doc.Training(
        cell=source.hashes[cell],
        model=_model_key(loaded, cell.contestant.model),
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


def _sensor(sensor: Sensor) -> doc.SensorSummary:
    inside = sensor.placement == "network"
    return doc.SensorSummary(
        key=sensor.key,
        name=sensor.profile.name,
        title=sensor.profile.title,
        profile_sha256=sensor.profile.sha256,
        steps=sensor.steps,
        bits=sensor.bits,
        form="doa" if inside else sensor.form,
        noise=sensor.noise,
        placement=sensor.placement,
        range=sensor.range if inside else None,
        assumed=sensor.profile.assumed,
    )


def _result(source: _Source, cells: Sequence[Cell], model: int, sensor: int) -> doc.Result:
    loaded, study = source.loaded, source.loaded.study
    mine = [cell for cell in cells if (cell.contestant.model, cell.contestant.sensor) == (model, sensor)]
    bound = loaded.sensors[sensor]
    found: list[doc.PointResult] = []
    accuracies: list[NDArray[np.float64]] = []
    blocks: list[Block] = []
    plain = study.training.train_ep != "matched" or study.training.mode == "none"
    named = {name: ep for cell in mine for name, ep in points(cell.contestant).items()}
    for name, ep in sorted(named.items(), key=lambda item: item[1] or 0.0):
        block = _block(loaded, [cell for cell in mine if name in points(cell.contestant)])
        if not block or (ep is None and not plain):
            continue
        comparison, accuracy = _compare(source, block, name, inside=bound.placement == "network")
        found.append(doc.PointResult(point=_operating_point(bound, name, ep), comparison=comparison))
        if ep is not None:
            accuracies.append(accuracy)
            blocks.append(block)
    return doc.Result(
        model=_model_key(loaded, model),
        sensor=_sensor(bound),
        points=tuple(found),
        area=_area(source, accuracies, blocks),
    )


def _operating_point(sensor: Sensor, name: str, ep: float | None) -> doc.OperatingPoint:
    if name == "clean":
        return doc.OperatingPoint(kind="clean", ep=None, ep_adc=None, sigma=None, sigma_steps=None)
    channel = Channel(sensor, ep)
    return doc.OperatingPoint(
        kind="quantised" if ep is None else "ep",
        ep=ep,
        ep_adc=channel.ep_adc,
        sigma=channel.sigma,
        sigma_steps=channel.sigma * sensor.steps,
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
        spec: {name: float(np.mean([source.accuracy(cell, name) for cell in cells])) for name in ("clean", "quantised")}
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


def _area(source: _Source, accuracies: list[NDArray[np.float64]], blocks: list[Block]) -> doc.Comparison | None:
    """The mean accuracy over the EP range, ranked like a point; None where a point or a seed is missing."""
    networks = {tuple((spec, cell.seed) for spec, cells in block.items() for cell in cells) for block in blocks}
    if len(accuracies) < 2 or len(accuracies) != len(source.loaded.study.eps) or len(networks) != 1:
        return None
    under = area(np.array(source.loaded.study.eps), np.stack(accuracies, axis=-1))
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
    ranking = rank(accuracy, names, samples=len(source.loaded.data.test.labels))
    rows = []
    for index, spec in enumerate(names):
        over_networks = network_interval(accuracy[:, index])
        over_samples = intervals.get(spec)
        # A run counts as converged over an EP range if each of its networks did.
        runs = zip(*(b[spec] for b in (blocks or [block])), strict=True)
        rows.append(
            doc.Row(
                activation=spec or "as is",
                accuracy=ranking.mean[index],
                networks=None
                if over_networks is None
                else doc.Interval(lower=over_networks[0], upper=over_networks[1]),
                samples=None if over_samples is None else doc.Interval(lower=over_samples[0], upper=over_samples[1]),
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
