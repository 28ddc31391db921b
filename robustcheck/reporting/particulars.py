"""What a report says beside its results: models, data, sensors, activations, training, failures, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robustcheck.reporting.draw_errors import draw_errors
from robustcheck.reporting.report import ModelSummary, NamedPoint, Report, SensorSummary
from robustcheck.reporting.sensor_tables import sensor_tables
from robustcheck.reporting.tables import Line, Table, learning_rates
from robustcheck.reporting.wording import NONE, counted, listed, number, percent, plain, setting

_LONGEST = 1000
_FORMS = {"aod": "noise, clamp, round (AOD)", "doa": "clamp, round, noise (DOA)"}
_KINDS = {"camera": "camera", "lidar": "LIDAR"}
_RANGES = {"unit": "as published, [−1, 1]", "calibrated": "calibrated on training data, for each site"}


@dataclass(frozen=True)
class Particular:
    """A heading with facts (term, text) and tables under it."""

    heading: str
    facts: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()


def particulars(report: Report) -> tuple[Particular, ...]:
    """All of them, in order; those that would be empty are left out."""
    rates, errors = learning_rates(report), draw_errors(report)
    sensors = {result.sensor.key: result.sensor for result in report.results}.values()
    found = [
        Particular("Noise draws", tables=(errors,)) if errors else None,
        Particular("Learning rates", tables=(rates,)) if rates else None,
        Particular("What was swapped where", tables=_swaps(report)) if report.kind == "compare" else None,
        *(Particular(_titled("Model", each.key, report.models), _model(each)) for each in report.models),
        Particular("Data", _data(report)),
        *(
            Particular(_titled("Sensor", each.key, list(sensors)), _sensor(each), tuple(sensor_tables(report, each)))
            for each in sensors
        ),
        Particular("How it was trained", _facts(report.policy)) if _trained(report) else None,
        Particular("What could not be finished", tables=(_failures(report),)) if report.failures else None,
    ]
    return tuple(each for each in found if each is not None)


def _trained(report: Report) -> bool:
    """Whether anything was trained: an audit has a policy that nothing followed."""
    return report.kind == "compare" and bool(report.training and report.policy)


def provenance(report: Report) -> Particular:
    """All that may vary between two runs of one study, with the hashes that may not."""
    fixed = (("study", report.study), ("numerics version", str(report.numerics)))
    return Particular("Provenance", (*fixed, *_facts(report.provenance)))


def _titled(kind: str, key: str, all_of_them: Sequence[object]) -> str:
    return kind if len(all_of_them) == 1 else f"{kind} {plain(key)}"


def _swaps(report: Report) -> tuple[Table, ...]:
    contestants = Table(
        "Activations compared",
        ("activation", "formula", "family", "learned parameters"),
        tuple(
            Line(
                (
                    f"{plain(each.spec)}{' (current)' if each.current else ''}",
                    plain(each.formula) or NONE,
                    plain(each.family) or NONE,
                    plain(listed(each.learned)) or NONE,
                )
            )
            for each in report.activations
        ),
        words=True,
    )
    return (contestants, *(_sites(report, model) for model in report.models))


def _sites(report: Report, model: ModelSummary) -> Table:
    lines = []
    for site in model.sites:
        by = [each.spec for each in report.activations if site.path in each.replaced.get(model.key, ())]
        who = "every contestant" if len(by) == len(report.activations) else plain(listed(by)) or "nothing"
        lines.append(Line((plain(site.path), plain(site.kind), f"{site.found}, {counted(site.calls, 'call')}", who)))
    found = plain(model.activation) if model.activation else "no single activation"
    return Table(
        f"Activation sites of {plain(model.key)}",
        ("path", "kind", "found as", "replaced by"),
        tuple(lines),
        (f"Found in the model: {found}.",),
        words=True,
    )


def _model(model: ModelSummary) -> tuple[tuple[str, str], ...]:
    return (
        ("spec", plain(model.spec)),
        ("origin", plain(model.origin)),
        ("parameters", f"{model.parameters:,}".replace(",", "\u202f")),
        ("activation", plain(model.activation or NONE)),
        *((f"input {key}", value) for key, value in _facts(model.input)),
        *(("note", plain(note)) for note in model.notes),
        ("SHA-256", plain(model.sha256)),
    )


def _data(report: Report) -> tuple[tuple[str, str], ...]:
    data = report.data
    split = ", ".join(f"{count} {plain(name)}" for name, count in data.counts.items())
    fixed = "the data's own test split" if data.fixed_test else f"stratified, split seed {data.split_seed}"
    return (
        ("spec", plain(data.spec)),
        ("source", plain(data.source)),
        ("classes", f"{len(data.classes)}: {plain(listed(data.classes, most=20))}"),
        ("sample shape", " × ".join(map(str, data.shape))),
        ("samples", f"{split} ({fixed})"),
        ("chance level", f"{percent(data.chance)} %"),
        ("preprocessing", _text(data.preprocessing) or "none"),
        *(("note", plain(note)) for note in data.notes),
        ("SHA-256", plain(data.sha256)),
    )


def _sensor(sensor: SensorSummary) -> tuple[tuple[str, str], ...]:
    real = sensor.kind != "converter"
    return (
        ("sensor", plain(sensor.title)),
        *((("kind", _KINDS[sensor.kind]),) if real else ()),
        _resolution(sensor),
        ("noise", setting(sensor)),
        *(_specimen(sensor) if real else (("order", _FORMS[sensor.form]),)),
        *((("range in the network", _RANGES[sensor.range]),) if sensor.range else ()),
        *((("assumed, without a source", _assumed(sensor)),) if sensor.assumed else ()),
        ("profile SHA-256", plain(sensor.profile_sha256)),
    )


def _resolution(sensor: SensorSummary) -> tuple[str, str]:
    if sensor.kind == "lidar":
        return "steps of range", f"{sensor.steps} up to the farthest"
    return "steps", f"{sensor.steps} ({number(sensor.bits)} bits: bits = log2(steps + 1))"


def _specimen(sensor: SensorSummary) -> tuple[tuple[str, str], ...]:
    """What a study says of a camera or LIDAR."""
    settings = ", ".join(f"{plain(name)} = {number(value)}" for name, value in sensor.settings.items())
    light = f"exposure {number(sensor.at_exposure)}" + (
        "" if sensor.at_lux is None else f", {number(sensor.at_lux)} lx"
    )
    moved = {"exposure": "the exposure", "bits": f"the resolution, at {light}"}
    points = (f"{plain(each.name)} {number(each.value)}{_beside(each)}" for each in sensor.operating_points)
    return (
        *((("an EP moves", moved[sensor.vary]),) if sensor.vary else ()),
        ("device seed", str(sensor.device_seed)),
        ("set otherwise than the profile", settings or "nothing"),
        ("operating points that the profile names", ", ".join(points) or NONE),
    )


def _assumed(sensor: SensorSummary) -> str:
    if sensor.kind == "converter":
        return plain(listed(sensor.assumed, most=20))
    return f"{len(sensor.assumed)} of {len(sensor.numbers)} numbers: those in bold below"


def _beside(point: NamedPoint) -> str:
    known = ", ".join(
        [
            *([] if point.ep is None else [f"EP {number(point.ep)}"]),
            *([] if point.lux is None else [f"{number(point.lux)} lx"]),
        ]
    )
    return f" ({known})" if known else ""


def _failures(report: Report) -> Table:
    lines = (Line((plain(each.what), _cut(plain(each.error)), plain(each.cell[:12]))) for each in report.failures)
    return Table(counted(len(report.failures), "failure"), ("what", "error", "cell"), tuple(lines), words=True)


def _facts(mapping: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((plain(str(key)).replace("_", " "), _text(value)) for key, value in mapping.items())


def _text(value: Any) -> str:
    """A JSON value in words, cut where it is endless."""
    if value is None or value == {} or value == []:
        text = NONE if value is None else ""
    elif isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, Mapping):
        text = ", ".join(f"{plain(str(key)).replace('_', ' ')} {_text(each)}" for key, each in value.items())
    elif isinstance(value, list | tuple):
        text = ", ".join(_text(each) for each in value)
    elif isinstance(value, float):
        text = f"{value:g}"
    else:
        text = plain(str(value))
    return _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
