"""The summary of a report in plain sentences: what was tested, the answer, how sure it is, what to do."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from robustcheck.reporting.audit_summary import audit_certainty, audited
from robustcheck.reporting.axis import Axis, asked_in, axis_of, is_noisy, noisy_points, trained_at, words_of
from robustcheck.reporting.draw_errors import draw_error_sentences, draws_taken
from robustcheck.reporting.evidence_tables import most_costly
from robustcheck.reporting.report import Comparison, OperatingPoint, PointResult, Report, Result
from robustcheck.reporting.sensor_notes import sensor_notes
from robustcheck.reporting.verdict import current_activation, difference_from, learnt, networks_each, verdict
from robustcheck.reporting.wording import counted, listed, number, percent, plain, result_name, sensor_name, setting

_TRAINED = {
    "scratch": "each trained from scratch",
    "finetune": "each fine-tuned from the given weights",
    "none": "each swapped in without any training",
}
_MANY_SEEDS = 200
_SECOND_LOOK = (
    "Adding seeds to a study and testing again is a second look, and no longer errs in 5 % of the cases only: decide on"
    " the number beforehand."
)
_NEXT = "To learn whether another activation holds longer here, run robustcheck compare on the same model."


@dataclass(frozen=True)
class Passage:
    """A heading and the sentences under it."""

    heading: str
    sentences: tuple[str, ...]


def summary(report: Report) -> tuple[str, ...]:
    """All the sentences, in order, for a terminal or a log."""
    return tuple(sentence for passage in passages(report) for sentence in passage.sentences)


def passages(report: Report) -> tuple[Passage, ...]:
    """The sentences under their headings; passages that would be empty are left out."""
    if report.kind == "audit":
        found = (
            Passage("What was tested", (_tested(report),)),
            Passage(
                "The answer",
                (*(audited(report, result) for result in report.results), *map(most_costly, report.sensitivities)),
            ),
            Passage("How sure this is", (*audit_certainty(report), *sensor_notes(report))),
            Passage("What to do", (*_unfinished(report), _NEXT)),
        )
    else:
        found = (
            Passage("What was tested", (_tested(report),)),
            Passage("The answer", tuple(_each(report, _answer))),
            Passage("How sure this is", (*_each(report, _power), *_certainty(report), *sensor_notes(report))),
            Passage("What to do", (*_each(report, _advice), *_selection(report), *_chores(report))),
        )
    return tuple(Passage(each.heading, tuple(map(plain, each.sentences))) for each in found if each.sentences)


def _each(report: Report, write: Callable[[Report, Result], Iterable[str]]) -> Iterator[str]:
    if len(report.results) == 1:
        yield from write(report, report.results[0])
        return
    for result in report.results:
        if sentences := list(write(report, result)):
            yield f"{result_name(report, result)}: {_lower_first(sentences[0])} {' '.join(sentences[1:])}".rstrip()


def _tested(report: Report) -> str:
    models = dict.fromkeys(result.model for result in report.results)
    noises = list(dict.fromkeys(setting(result.sensor) for result in report.results))
    sensors = dict.fromkeys(
        sensor_name(each.sensor) + (f" with {setting(each.sensor)}" if len(noises) > 1 else "")
        for each in report.results
    )
    on = listed(sensors, most=4) + (f", {noises[0]}" if len(noises) == 1 else "")
    samples = report.data.counts.get("test")
    at = words_of(each.point for result in report.results for each in result.points)
    where = (
        f"accuracy on {counted(samples, 'test sample') if samples else 'the test samples'} of {report.data.name}"
        f" with {draws_taken(report)} a sample{f', at {at}' if at else ''}."
    )
    if report.kind == "audit":
        return f"{listed(models)} as it is, without training, on {on}: {where}"
    names = [f"{each.spec} (current)" if each.current else each.spec for each in report.activations]
    mode = str(report.policy.get("mode"))
    trained = _TRAINED.get(mode, "each trained the same way")
    if mode == "finetune" and any(model.weights is None for model in report.models):
        trained = "each fine-tuned from what the model's own code makes (no --weights were given)"
    if mode == "scratch" and any("was folded into" in note for model in report.models for note in model.notes):
        trained += " and without the batch normalisation that was folded away when the file was exported"
    seeds = f" with {counted(report.seeds, 'seed')}" if report.training else ""
    return (
        f"{counted(len(names), 'activation')} – {listed(names, most=12)} – in {listed(models)} on"
        f" {on}, {trained}{seeds}: {where}"
    )


def _answer(report: Report, result: Result) -> Iterator[str]:
    axis, noisy = axis_of(result), [each for _, each in noisy_points(result)]
    if not noisy:
        return
    if not any(learnt(each.comparison) for each in noisy):
        yield (
            "Nothing was learnt: no network is above chance on validation under noise, so that these data say nothing"
            " about the activations; train longer (--epochs), or with less noise."
        )
        return
    if not any(each.comparison.pairs for each in noisy):
        yield verdict(noisy[0].comparison)
        return
    won: dict[str, list[OperatingPoint]] = defaultdict(list)
    tied: dict[tuple[str, ...], list[OperatingPoint]] = defaultdict(list)
    for each in noisy:
        if each.comparison.winner is not None:
            won[each.comparison.winner].append(each.point)
        else:
            tied[_in_order(report, each.comparison.leaders)].append(each.point)
    for name, points in won.items():
        where = _where(axis, points, noisy)
        yield f"{name} wins at {where}: there it is significantly better than every other activation."
    everybody = len(noisy[0].comparison.rows)
    for leaders, points in tied.items():
        all_tied = len(leaders) == everybody
        who = f"all {everybody} activations are tied" if all_tied else f"{listed(leaders)} are tied for the lead"
        yield f"At {_where(axis, points, noisy)} there is no significant winner: {who}."
    yield from _partly_learnt(axis, noisy)
    current = current_activation(report, result)
    if current is not None:
        behind = result.area is not None and bool(result.area.pairs) and current not in result.area.leaders
        yield from _standing(axis, noisy, current, behind)
    if result.area is not None:
        yield f"By area under the {axis.curve}: {_lower_first(verdict(result.area))}"


def _partly_learnt(axis: Axis, noisy: Sequence[PointResult]) -> Iterator[str]:
    """Which activations' means mix networks that learnt with networks that stayed at chance."""
    found: dict[str, list[OperatingPoint]] = defaultdict(list)
    for each in noisy:
        rows = sorted(each.comparison.rows, key=lambda row: row.activation)
        mixed = [row for row in rows if 0 < row.converged < len(row.per_seed)]
        if mixed:
            shares = listed([f"{row.converged} of {len(row.per_seed)} networks with {row.activation}" for row in mixed])
            found[shares].append(each.point)
    for shares, points in found.items():
        yield (
            f"At {_where(axis, points, noisy)} only {shares} learnt, the others stayed at chance on validation: means"
            " over such networks, and ties that rest on them, say little."
        )


def _standing(axis: Axis, noisy: Sequence[PointResult], current: str, behind: bool) -> Iterator[str]:
    """How the current activation stands at the points; `behind` says that it falls behind over all of them together."""
    highest = [(each, _highest(each.comparison)) for each in noisy]
    gaps = [
        (each.point, pair)
        for each, names in highest
        if current not in names and (pair := difference_from(each.comparison, names[0], current)) is not None
    ]
    if not gaps:
        alone = [each.point for each, names in highest if names == [current]]
        shared = [each.point for each, names in highest if current in names and len(names) > 1]
        said = [f"has the highest mean at {_where(axis, alone, noisy)}"] if alone else []
        said += [f"shares the highest mean at {_where(axis, shared, noisy)}"] if shared else []
        if said:
            yield f"{current}, the current activation, {' and '.join(said)}."
        return
    worse = [(point, pair) for point, pair in gaps if pair.significant and pair.difference > 0]
    point, pair = max(worse or gaps, key=lambda item: item[1].difference)
    size = (
        f"{percent(pair.difference)} points (interval for all pairs at once: {percent(pair.lower)} to"
        f" {percent(pair.upper)}) below {pair.a} at {axis.place(point)}"
    )
    if worse:
        where = _where(axis, [point for point, _ in worse], noisy)
        yield (
            f"{current}, the current activation, is significantly worse than the highest mean at {where};"
            f" the largest such difference is {size}."
        )
    else:
        where = f"at no single {axis.short}" if behind else "nowhere"
        yield (
            f"{current}, the current activation, is {where} significantly worse than the highest mean;"
            f" the largest difference seen is {size}."
        )
        at = next(each.comparison for each in noisy if each.point == point)
        if pair.seeds_needed is not None and learnt(at):
            yield f"If that difference is real, about {counted(pair.seeds_needed, 'seed')} would show it."


def _highest(comparison: Comparison) -> list[str]:
    """The activations with the highest mean; several where means are equal."""
    top = comparison.rows[0].accuracy
    return [row.activation for row in comparison.rows if math.isclose(row.accuracy, top, rel_tol=1e-12)]


def _power(_: Report, result: Result) -> Iterator[str]:
    axis, noisy = axis_of(result), [each for _, each in noisy_points(result)]
    useful = [each for each in noisy if learnt(each.comparison)]
    seen = [each.comparison.detectable_difference for each in useful]
    sizes = sorted({percent(size) for size in seen if size is not None}, key=float)
    count = counted(networks_each(noisy[0].comparison), "seed") if noisy else ""
    if sizes:
        size = (
            f"{sizes[0]} points"
            if len(sizes) == 1
            else f"{sizes[0]} to {sizes[-1]} points, depending on the {axis.short},"
        )
        yield f"With {count}, a difference of {size} is detected with 80 % power; smaller ones can exist unseen."
    blind = [each.point for each in useful if each.comparison.pairs and each.comparison.detectable_difference is None]
    if blind:
        yield f"At {_where(axis, blind, noisy)} {count} could not have shown any difference: networks differ too much."
    needed: dict[str, list[OperatingPoint]] = defaultdict(list)
    for each in useful:
        if each.comparison.winner is None and each.comparison.seeds_needed is not None:
            needed[_seeds(each.comparison.seeds_needed)].append(each.point)
    if needed:
        counts = "; ".join(f"{seeds} at {_where(axis, points, noisy)}" for seeds, points in needed.items())
        yield f"Seeds that would separate the two highest means, if their difference is what it seems: {counts}."


def _certainty(report: Report) -> Iterator[str]:
    noisy = [each for result in report.results for each in result.points if is_noisy(each.point)]
    if any(row.networks for each in noisy for row in each.comparison.rows):
        yield (
            "The unit is the trained network: intervals are over the networks of an activation, one a seed, and"
            f" differences are corrected for all pairs at one {asked_in(report)}, not across {asked_in(report)}s."
        )
    total = len(report.training)
    if total and report.policy.get("mode") != "none":
        lost: dict[str, int] = defaultdict(int)
        for cell in report.training:
            lost[cell.activation] += not cell.converged
        failed = sum(lost.values())
        if failed:
            names = listed([f"{count} of {name}" for name, count in lost.items() if count])
            yield (
                f"{total - failed} of {counted(total, 'network')} converged; not converged: {names}."
                " They count with the accuracy they have, and widen the intervals."
            )
        else:
            yield f"All {counted(total, 'network')} converged."
    yield from _learning_rates(report)
    yield from draw_error_sentences(report)
    yield "Ranks are by test accuracy and therefore descriptive; selection belongs on the validation split."


def _learning_rates(report: Report) -> Iterator[str]:
    if not report.tuning:
        return
    chosen: dict[str, set[float]] = defaultdict(set)
    edge: dict[str, None] = {}
    grids = set()
    for each in report.tuning:
        chosen[each.activation].add(each.chosen)
        grid = tuple(sorted(trial.learning_rate for trial in each.trials))
        grids.add(grid)
        if len(grid) > 1 and each.chosen in (grid[0], grid[-1]):
            edge[each.activation] = None
    if grids == {()}:
        rates = listed([number(rate) for rate in sorted(set().union(*chosen.values()))])
        yield (
            f"The learning rate was not tuned but fixed at {rates}:"
            " what looks like the activation may be the learning rate."
        )
        return
    spelled = {name: "/".join(number(rate) for rate in sorted(rates)) for name, rates in chosen.items()}
    if len(spelled) > 1 and len(set(spelled.values())) == 1:
        picks = f"{next(iter(spelled.values()))} for every one"
    else:
        picks = listed([f"{name} {rates}" for name, rates in spelled.items()], 12)
    tried = ", ".join(number(rate) for rate in next(iter(grids))) if len(grids) == 1 else "unequal grids"
    yield f"The learning rate was chosen for each activation on validation under noise, from {tried}: {picks}."
    if edge:
        yield f"At the edge of the grid, where a wider one might serve better: {listed(edge, most=12)}."


def _advice(report: Report, result: Result) -> Iterator[str]:
    noisy = [each for _, each in noisy_points(result) if each.comparison.pairs]
    useful = [each for each in noisy if learnt(each.comparison)]
    if not useful:
        return
    axis, current = axis_of(result), current_activation(report, result)
    won: dict[str, list[OperatingPoint]] = defaultdict(list)
    swap: dict[tuple[str, ...], list[OperatingPoint]] = defaultdict(list)
    keep: list[OperatingPoint] = []
    for each in useful:
        comparison = each.comparison
        if comparison.winner is not None and comparison.winner != current:
            won[comparison.winner].append(each.point)
        elif current is None:
            continue
        elif current in comparison.leaders:
            keep.append(each.point)
        else:
            swap[_in_order(report, comparison.leaders)].append(each.point)
    for name, points in won.items():
        yield f"At {axis.places(points)} {name} did significantly better than all others on the test split."
    for leaders, points in swap.items():
        yield f"At {axis.places(points)} {current} falls behind {listed(leaders)}; which of these to swap in is open."
    if keep:
        yield f"At {axis.places(keep)} these data do not show that replacing {current} helps."
    behind: dict[int, list[OperatingPoint]] = defaultdict(list)
    ties: dict[int, list[OperatingPoint]] = defaultdict(list)
    for each in useful:
        comparison = each.comparison
        pair = difference_from(comparison, comparison.rows[0].activation, current) if current is not None else None
        if pair is not None and not pair.significant and pair.seeds_needed is not None:
            behind[pair.seeds_needed].append(each.point)
        if comparison.winner is None and comparison.seeds_needed is not None:
            ties[comparison.seeds_needed].append(each.point)
    # Where this many seeds should have been enough, more of them are no advice.
    behind, ties = (
        {seeds: points for seeds, points in found.items() if seeds > report.seeds} for found in (behind, ties)
    )
    if any(seeds <= _MANY_SEEDS for seeds in behind):
        yield (
            f"To learn whether {current} falls behind the highest mean, plan a study with"
            f" {_planned(behind, axis, noisy)}. {_SECOND_LOOK}"
        )
    elif any(seeds <= _MANY_SEEDS for seeds in ties):
        yield f"To break a tie, plan a study with {_planned(ties, axis, noisy)}. {_SECOND_LOOK}"
    elif ties:
        yield "More seeds will hardly break the ties: the differences are small beside the spread between networks."


def _planned(needed: Mapping[int, Sequence[OperatingPoint]], axis: Axis, noisy: Sequence[PointResult]) -> str:
    """How many seeds each operating point asks for, where a study can have as many."""
    few = {seeds: needed[seeds] for seeds in sorted(needed) if seeds <= _MANY_SEEDS}
    each = [f"{seeds} for {_where(axis, points, noisy)}" for seeds, points in few.items()]
    return f"about --seeds {max(few)}" + (f": {'; '.join(each)}" if len(noisy) > 1 else "")


def _selection(report: Report) -> Iterator[str]:
    """What validation accuracy, on which a choice may rest, says."""
    if not any(cell.converged for cell in report.training):
        return
    found: dict[tuple[str, str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell in report.training:
        if cell.validation_accuracy is not None:
            found[cell.model, cell.sensor, cell.train_ep][cell.activation].append(cell.validation_accuracy)
    firsts: dict[str, list[str]] = defaultdict(list)
    for (model, sensor, train_ep), by_name in found.items():
        means = {name: fmean(accuracies) for name, accuracies in by_name.items()}
        top = max(means.values())
        names = [name for name, mean in means.items() if mean == top]
        where = {"mixed": f"trained over mixed {asked_in(report)}s", "none": "not trained"}.get(
            train_ep, f"trained at {trained_at(report, sensor, train_ep)}"
        )
        place = f"{model} on {sensor}, {where}" if len(report.results) > 1 else where
        firsts[listed(names)].append(f"{place}: {percent(top)} %")
    if len(report.activations) > 1 and firsts:
        heads = "; ".join(f"{names} ({', '.join(places)})" for names, places in firsts.items())
        yield f"Highest mean validation accuracy under noise, which is what a choice may rest on: {heads}."


def _chores(report: Report) -> Iterator[str]:
    if report.seeds == 1 and len(report.activations) > 1:
        untrained = report.policy.get("mode") == "none"
        how = "--train finetune" if untrained else "--seeds 5"
        yield f"Train several networks an activation ({how}) before choosing one."
    yield from _unfinished(report)


def _unfinished(report: Report) -> Iterator[str]:
    if report.failures:
        cells = counted(len(report.failures), "cell")
        yield f"{cells} could not be finished (see the failures): run the command again."


def _in_order(report: Report, names: tuple[str, ...]) -> tuple[str, ...]:
    order = {each.spec: index for index, each in enumerate(report.activations)}
    return tuple(sorted(names, key=lambda name: (order.get(name, len(order)), name)))


def _where(axis: Axis, points: Sequence[OperatingPoint], noisy: Sequence[PointResult]) -> str:
    return f"every {axis.short}" if len(points) == len(noisy) > 1 else axis.places(points)


def _seeds(needed: int) -> str:
    return str(needed) if needed <= _MANY_SEEDS else f"more than {_MANY_SEEDS}"


def _lower_first(text: str) -> str:
    """Openings of our own start lower after a colon; names of activations stay as they are."""
    opening = text.split(" ", 1)[0]
    ours = {"At", "By", "No", "Nothing", "Seeds", "There", "To", "With"}
    return text[0].lower() + text[1:] if opening in ours else text
