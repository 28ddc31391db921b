"""The summary of a report in plain sentences: what was tested, the answer, how sure it is, what to do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import fmean

from robustcheck.reporting.draw_errors import draw_error_sentences, draws_taken
from robustcheck.reporting.report import PointResult, Report, Result
from robustcheck.reporting.verdict import current_activation, difference_from, ep_points, networks_each, verdict
from robustcheck.reporting.wording import (
    at_eps,
    counted,
    listed,
    number,
    percent,
    plain,
    result_name,
    sensor_name,
    setting,
)

_TRAINED = {
    "scratch": "each trained from scratch",
    "finetune": "each fine-tuned from the given weights",
    "none": "each swapped in without any training",
}
_NOTABLE_LOSS = 0.05
_MANY_SEEDS = 200
_SECOND_LOOK = (
    "Adding seeds to a study and testing again is a second look, and no longer errs in 5 % of the cases only: decide on"
    " the number beforehand."
)


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
            Passage("The answer", tuple(_audited(report, result) for result in report.results)),
            Passage("How sure this is", _audit_certainty(report)),
            Passage("What to do", tuple(_audit_advice(report))),
        )
    else:
        found = (
            Passage("What was tested", (_tested(report),)),
            Passage("The answer", tuple(_each(report, _answer))),
            Passage("How sure this is", (*_each(report, _power), *_certainty(report))),
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
    eps = sorted({ep for result in report.results for ep, _ in ep_points(result)})
    samples = report.data.counts.get("test")
    where = (
        f"accuracy on {counted(samples, 'test sample') if samples else 'the test samples'} of {report.data.name}"
        f" with {draws_taken(report)} a sample{f', at {at_eps(eps)}' if eps else ''}."
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
        f"{counted(len(names), 'activation')} ({listed(names, most=12)}) in {listed(models)} on"
        f" {on}, {trained}{seeds}: {where}"
    )


def _answer(report: Report, result: Result) -> Iterator[str]:
    noisy = ep_points(result)
    if not noisy:
        return
    if not any(each.comparison.pairs for _, each in noisy):
        yield verdict(noisy[0][1].comparison)
        return
    won: dict[str, list[float]] = defaultdict(list)
    tied: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for ep, each in noisy:
        if each.comparison.winner is not None:
            won[each.comparison.winner].append(ep)
        else:
            tied[_in_order(report, each.comparison.leaders)].append(ep)
    for name, eps in won.items():
        yield f"{name} wins at {_where(eps, noisy)}: there it is significantly better than every other activation."
    everybody = len(noisy[0][1].comparison.rows)
    for leaders, eps in tied.items():
        all_tied = len(leaders) == everybody
        who = f"all {everybody} activations are tied" if all_tied else f"{listed(leaders)} are tied for the lead"
        yield f"At {_where(eps, noisy)} there is no significant winner: {who}."
    current = current_activation(report, result)
    if current is not None:
        yield from _standing(noisy, current)
    if result.area is not None:
        yield f"By area under the accuracy–EP curve: {_lower_first(verdict(result.area))}"


def _standing(noisy: list[tuple[float, PointResult]], current: str) -> Iterator[str]:
    gaps = [
        (ep, pair)
        for ep, each in noisy
        if (pair := difference_from(each.comparison, each.comparison.rows[0].activation, current)) is not None
    ]
    if not gaps:
        yield f"{current}, the current activation, has the highest mean at every EP."
        return
    worse = [(ep, pair) for ep, pair in gaps if pair.significant and pair.difference > 0]
    ep, pair = max(worse or gaps, key=lambda item: item[1].difference)
    size = (
        f"{percent(pair.difference)} points below {pair.a} at EP {ep:g}"
        f" (interval for all pairs at once: {percent(pair.lower)} to {percent(pair.upper)})"
    )
    if worse:
        where = _where([ep for ep, _ in worse], noisy)
        yield (
            f"{current}, the current activation, is significantly worse than the highest mean at {where};"
            f" the largest such difference is {size}."
        )
    else:
        yield (
            f"{current}, the current activation, is nowhere significantly worse than the highest mean;"
            f" the largest difference seen is {size}."
        )
        if pair.seeds_needed is not None:
            yield f"If that difference is real, about {counted(pair.seeds_needed, 'seed')} would show it."


def _power(_: Report, result: Result) -> Iterator[str]:
    noisy = ep_points(result)
    seen = [each.comparison.detectable_difference for _, each in noisy]
    sizes = sorted({percent(size) for size in seen if size is not None}, key=float)
    count = counted(networks_each(noisy[0][1].comparison), "seed") if noisy else ""
    if sizes:
        size = f"{sizes[0]} points" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]} points, depending on the EP,"
        yield f"With {count}, a difference of {size} is detected with 80 % power; smaller ones can exist unseen."
    blind = [ep for ep, each in noisy if each.comparison.pairs and each.comparison.detectable_difference is None]
    if blind:
        yield f"At {_where(blind, noisy)} {count} could not have shown any difference: networks differ too much."
    needed = {
        ep: each.comparison.seeds_needed
        for ep, each in noisy
        if each.comparison.winner is None and each.comparison.seeds_needed is not None
    }
    if needed:
        sizes_at: dict[str, list[float]] = defaultdict(list)
        for ep, seeds in needed.items():
            sizes_at[_seeds(seeds)].append(ep)
        each_ep = "; ".join(f"{seeds} at {_where(eps, noisy)}" for seeds, eps in sizes_at.items())
        yield f"Seeds that would separate the two highest means, if their difference is what it seems: {each_ep}."


def _certainty(report: Report) -> Iterator[str]:
    if any(row.networks for result in report.results for _, each in ep_points(result) for row in each.comparison.rows):
        yield (
            "The unit is the trained network: intervals are over the networks of an activation, one a seed, and"
            " differences are corrected for all pairs at one EP, not across EPs."
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
    picks = listed([f"{name} {'/'.join(number(rate) for rate in sorted(rates))}" for name, rates in chosen.items()], 12)
    tried = ", ".join(number(rate) for rate in next(iter(grids))) if len(grids) == 1 else "unequal grids"
    yield f"The learning rate was chosen for each activation on validation under noise, from {tried}: {picks}."
    if edge:
        yield f"At the edge of the grid, where a wider one might serve better: {listed(edge, most=12)}."


def _advice(report: Report, result: Result) -> Iterator[str]:
    noisy = [(ep, each.comparison) for ep, each in ep_points(result) if each.comparison.pairs]
    if not noisy:
        return
    current = current_activation(report, result)
    won: dict[str, list[float]] = defaultdict(list)
    swap: dict[tuple[str, ...], list[float]] = defaultdict(list)
    keep: list[float] = []
    for ep, comparison in noisy:
        if comparison.winner is not None and comparison.winner != current:
            won[comparison.winner].append(ep)
        elif current is None:
            continue
        elif current in comparison.leaders:
            keep.append(ep)
        else:
            swap[_in_order(report, comparison.leaders)].append(ep)
    for name, eps in won.items():
        yield f"At {at_eps(eps)} {name} did significantly better than all others on the test split."
    for leaders, eps in swap.items():
        yield f"At {at_eps(eps)} {current} falls behind {listed(leaders)}; which of these to swap in is open."
    if keep:
        yield f"At {at_eps(keep)} these data do not show that replacing {current} helps."
    behind = [
        pair.seeds_needed
        for _, each in noisy
        if current is not None
        and (pair := difference_from(each, each.rows[0].activation, current)) is not None
        and not pair.significant
        and pair.seeds_needed is not None
    ]
    needed = [each.seeds_needed for _, each in noisy if each.winner is None and each.seeds_needed is not None]
    if behind and report.seeds < min(behind) <= _MANY_SEEDS:
        yield (
            f"To learn whether {current} falls behind the highest mean, plan a study with about --seeds {min(behind)}."
            f" {_SECOND_LOOK}"
        )
    elif needed and report.seeds < min(needed) <= _MANY_SEEDS:
        yield f"To break a tie, plan a study with about --seeds {min(needed)}. {_SECOND_LOOK}"
    elif needed and min(needed) > _MANY_SEEDS:
        yield "More seeds will hardly break the ties: the differences are small beside the spread between networks."


def _selection(report: Report) -> Iterator[str]:
    """What validation accuracy, on which a choice may rest, says."""
    found: dict[tuple[str, str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell in report.training:
        if cell.validation_accuracy is not None:
            found[cell.model, cell.sensor, cell.train_ep][cell.activation].append(cell.validation_accuracy)
    firsts: dict[str, list[str]] = defaultdict(list)
    for (model, sensor, train_ep), by_name in found.items():
        means = {name: fmean(accuracies) for name, accuracies in by_name.items()}
        top = max(means.values())
        names = [name for name, mean in means.items() if mean == top]
        where = {"mixed": "trained over mixed EPs", "none": "not trained"}.get(train_ep, f"trained at EP {train_ep}")
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
    if report.failures:
        yield _unfinished(report)


def _audited(report: Report, result: Result) -> str:
    noisy = [(ep, each.comparison.rows[0].accuracy) for ep, each in ep_points(result) if each.comparison.rows]
    still = {
        each.point.kind: each.comparison.rows[0].accuracy
        for each in result.points
        if each.point.ep is None and each.comparison.rows
    }
    parts = [
        f"{percent(accuracy)} % {'clean' if kind == 'clean' else 'quantised only'}" for kind, accuracy in still.items()
    ]
    if noisy:
        parts.append(f"{percent(noisy[0][1])} % at EP {noisy[0][0]:g}")
    if len(noisy) > 1:
        parts.append(f"{percent(noisy[-1][1])} % at EP {noisy[-1][0]:g}")
    text = f"{result_name(report, result)}: {listed(parts)}"
    clean = still.get("clean")
    if clean is None or not noisy:
        return f"{text}."
    lows = [
        row.samples.lower
        for each in result.points
        if each.point.kind == "clean"
        for row in each.comparison.rows
        if row.samples
    ]
    if lows and min(lows) <= report.data.chance:
        return f"{text}. Clean, it does not do better than guessing beyond doubt, so nothing can be said about noise."
    held = [ep for index, (ep, _) in enumerate(noisy) if all(clean - a <= _NOTABLE_LOSS for _, a in noisy[: index + 1])]
    if len(held) == len(noisy):
        return f"{text}; it stays within 5 points of its clean accuracy at every EP tested."
    if held:
        return f"{text}; it stays within 5 points of its clean accuracy up to EP {held[-1]:g}."
    return f"{text}; it loses more than 5 points at every EP tested."


def _audit_certainty(report: Report) -> tuple[str, ...]:
    widths = [
        row.samples.upper - row.samples.lower
        for result in report.results
        for each in result.points
        for row in each.comparison.rows
        if row.samples is not None
    ]
    size = f"; the widest is ± {percent(max(widths) / 2)} points" if widths else ""
    return (
        "One trained network was measured: the intervals cover test samples and noise draws for these networks only"
        f" and say nothing about another training run{size}.",
        *draw_error_sentences(report),
        f"Guessing gives {percent(report.data.chance)} %.",
        *(
            f"No --weights were given for {model.key}: its own code made those measured, random unless it loads them."
            for model in report.models
            if model.weights is None
        ),
    )


def _audit_advice(report: Report) -> Iterator[str]:
    if report.failures:
        yield _unfinished(report)
    yield "To learn whether another activation holds longer here, run robustcheck compare on the same model."


def _unfinished(report: Report) -> str:
    return f"{counted(len(report.failures), 'cell')} could not be finished (see the failures): run the command again."


def _in_order(report: Report, names: tuple[str, ...]) -> tuple[str, ...]:
    order = {each.spec: index for index, each in enumerate(report.activations)}
    return tuple(sorted(names, key=lambda name: (order.get(name, len(order)), name)))


def _where(eps: list[float], noisy: list[tuple[float, PointResult]]) -> str:
    return "every EP" if len(eps) == len(noisy) > 1 else at_eps(eps)


def _seeds(needed: int) -> str:
    return str(needed) if needed <= _MANY_SEEDS else f"more than {_MANY_SEEDS}"


def _lower_first(text: str) -> str:
    """Openings of our own start lower after a colon; names of activations stay as they are."""
    opening = text.split(" ", 1)[0]
    return text[0].lower() + text[1:] if opening in {"At", "By", "No", "Seeds", "There", "To", "With"} else text
