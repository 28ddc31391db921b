"""From a study to a recommendation: candidates, race, choice, estimate, delivery; and the files it leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from robustcheck.errors import UsageError
from robustcheck.recommend.candidates import Candidates, Target, candidates, default_target, parameters_of
from robustcheck.recommend.choice import Choice, Option, choose
from robustcheck.recommend.delivery import Delivery, deliver, patch, remove_stale
from robustcheck.recommend.document import (
    ConsideredOption,
    LeftOutActivation,
    MeasuredLatency,
    RaceSummary,
    Recommendation,
    StoppedActivation,
    TrainingSteps,
)
from robustcheck.recommend.estimate import gains
from robustcheck.recommend.latency import Latencies, measure
from robustcheck.recommend.markdown import render_recommendation
from robustcheck.recommend.race import OnLook, Race, Steps, run_race
from robustcheck.reporting.build import build_report
from robustcheck.reporting.files import write, write_report
from robustcheck.study import runner
from robustcheck.study.cells import LoadedStudy, load_study
from robustcheck.study.plan import Study
from robustcheck.study.store import Store

OnCandidates = Callable[[Candidates], None]


@dataclass(frozen=True)
class Recommended:
    """A recommendation, the full grid that the race stood for, and the files it left, `recommendation.json` first."""

    recommendation: Recommendation
    study: Study
    files: tuple[Path, ...]


def tuning_epochs(epochs: int) -> int:
    """Epochs of a learning-rate trial by default, a sixth: three rates then cost half of one network.

    >>> tuning_epochs(30), tuning_epochs(2)
    (5, 1)
    """
    return max(1, round(epochs / 6))


def recommend(
    study: Study,
    out: str | Path,
    *,
    named: Sequence[str] = (),
    target: Target | None = None,
    alpha: float = 0.05,
    jobs: int = 1,
    device: str = "cpu",
    download: bool = False,
    charts: bool = False,
    command: str = "",
    progress: runner.OnProgress = lambda _: None,
    on_candidates: OnCandidates = lambda _: None,
    on_look: OnLook = lambda *_: None,
) -> Recommended:
    """Race activations in a model, choose one on validation, estimate its gain on the test split, and deliver it.

    Cells that the folder's store holds are not made again: an interrupted call goes on where it stopped.

    Args:
        study: of kind compare, one model behind one sensor, `train_ep` mixed, at least 2 seeds. The candidates take the
            place of its activations.
        out: folder for the model, the documents, the report and the store.
        named: candidates beside the model's own activation; by default all of the catalogue that can be dropped in.
        target: what must run the model; by default ONNX Runtime for an ONNX file, else torch.
        alpha: chance that the truly best activation is stopped, so also that the model's own is replaced though no
            candidate is better.
        jobs: worker processes.
        device: where networks train.
        download: whether data and weights may be downloaded.
        charts: also draw the report's charts.
        command: what to run to have this again.
        progress: as in `study.runner.run`.
        on_candidates: is told who takes part, before training.
        on_look: is told what each look at the race decided.

    Raises:
        UsageError: the study is none of those, or nothing can be swapped in.
        ModelError: a network with the model's own activation cannot be trained, or the result cannot be written.
    """
    out = Path(out)
    _check(study)
    loaded, entered, target = _enter(study, named, target, device, download)
    on_candidates(entered)
    with Store(out, loaded.study.document()) as store:
        race = run_race(loaded, store, alpha=alpha, jobs=jobs, progress=progress, on_look=on_look)
        names = list(dict.fromkeys((*race.survivors, race.current)))
        latencies = measure(loaded.models[0], names, loaded.data.shape)
        choice = choose(
            race, latencies.measured, parameters_of(loaded.models[0], names), samples=len(loaded.data.validation)
        )
        # Nothing above reads what the cells hold of the test split.
        made_by = {"command": command, "jobs": jobs, "device": device, "versions": runner.versions()}
        report = build_report(race.outcome, store, made_by)
        estimated = (
            ()
            if choice.verdict == "tie"
            else gains(report, choice.chosen, race.current, candidates=len(race.validation))
        )
        delivery = None
        if choice.verdict != "tie":
            delivery = deliver(race.outcome, store, choice.chosen, out, target)
    found = _document(loaded, entered, race, choice, latencies, delivery, target, command).model_copy(
        update={"gains": estimated}
    )
    remove_stale(out, keep=() if delivery is None else delivery.delivered.files)
    files = [out / "recommendation.json", out / "recommendation.md"]
    write(files[0], found.to_json().encode())
    write(files[1], render_recommendation(found).encode())
    if delivery is not None:
        write(out / "patch.md", patch(loaded.models[0], delivery.model, command).encode())
        files += [out / "patch.md", *(out / name for name in delivery.delivered.files)]
    return Recommended(found, loaded.study, (*files, *write_report(report, out, charts=charts)))


def _check(study: Study) -> None:
    counts = {"models": len(study.models), "sensors": len(study.sensors)}
    for what, count in counts.items():
        if count != 1:
            raise UsageError(f"{what}: expected one, for which one activation is recommended, got {count}; leave one")
    if study.kind != "compare" or study.training.mode == "none" or study.training.train_ep != "mixed":
        raise UsageError("study: expected a comparison whose networks are trained, with train_ep mixed")
    if study.seeds < 2:
        raise UsageError(f"seeds: expected at least 2, since one network says nothing of the next, got {study.seeds}")


def _enter(
    study: Study, named: Sequence[str], target: Target | None, device: str, download: bool
) -> tuple[LoadedStudy, Candidates, Target]:
    """The study with its candidates in it, loaded."""
    # What is loaded is checked with one activation, and every network that can be swapped at all takes this one.
    loaded = load_study(study.model_copy(update={"activations": ("relu",)}), device=device, download=download)
    (model,), (sites,) = loaded.models, loaded.sites
    target = default_target(model) if target is None else target
    entered = candidates(model, target, named)
    complete = study.model_copy(update={"activations": entered.activations})
    paths = tuple(site.path for site in sites)
    replaced = dict.fromkeys(entered.activations, paths)
    return replace(loaded, study=complete, activations=entered.activations, replaced=(replaced,)), entered, target


def _document(
    loaded: LoadedStudy,
    entered: Candidates,
    race: Race,
    choice: Choice,
    latencies: Latencies,
    delivery: Delivery | None,
    target: Target,
    command: str,
) -> Recommendation:
    sensor = loaded.sensors[0]
    return Recommendation(
        model=loaded.study.models[0].spec,
        model_sha256=loaded.models[0].sha256,
        data=loaded.data.name,
        sensor=sensor.key,
        points=tuple(
            f"{'EP' if point.axis == 'ep' else point.axis} {point.value:.4g}"
            for point in loaded.study.operating_points(sensor)
        ),
        target=target,
        current=race.current,
        verdict=choice.verdict,
        chosen=choice.chosen,
        candidates=entered.activations,
        left_out=tuple(LeftOutActivation(**asdict(each)) for each in entered.left_out),
        race=RaceSummary(
            alpha=race.alpha,
            seeds=race.seeds,
            validation=race.validation,
            stops=tuple(StoppedActivation(**asdict(each)) for each in race.stops),
            survivors=race.survivors,
            steps=_steps(race.steps),
            full_grid=_steps(race.full),
            saved=race.saved,
            margin=race.margin,
        ),
        options=tuple(map(_option, choice.options)),
        better=choice.better,
        latency_problems=latencies.problems,
        gains=(),
        delivered=None if delivery is None else delivery.delivered,
        command=command,
    )


def _steps(steps: Steps) -> TrainingSteps:
    return TrainingSteps(trials=steps.trials, networks=steps.networks, total=steps.total)


def _option(option: Option) -> ConsideredOption:
    time = option.latency
    measured = time and MeasuredLatency(
        median_us=time.median, lower_us=time.lower, upper_us=time.upper, batch=time.batch
    )
    return ConsideredOption(**{**asdict(option), "latency": measured})
