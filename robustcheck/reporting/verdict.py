"""What one comparison says: who wins, which differences could have been seen, how two activations differ."""

from __future__ import annotations

from robustcheck.reporting.report import Comparison, Pair, Report, Result
from robustcheck.reporting.wording import counted, listed, percent


def verdict(comparison: Comparison) -> str:
    """Who wins one comparison, or that nobody does."""
    rows, leaders = comparison.rows, comparison.leaders
    if len(rows) < 2:
        return "There is nothing to compare with."
    if not comparison.pairs:
        return "No winner can be named: one trained network an activation says nothing about the next one."
    if comparison.winner is not None:
        others = "the other activation" if len(rows) == 2 else f"each of the other {len(rows) - 1}"
        return f"{comparison.winner} wins: significantly better than {others}."
    if len(leaders) == len(rows):
        return f"No significant winner: all {len(rows)} activations are tied."
    return f"No significant winner: {listed(leaders)} are tied for the lead."


def power(comparison: Comparison) -> str:
    """What difference could have been seen, and how many seeds would separate the first two; empty without pairs."""
    if not comparison.pairs:
        return ""
    seeds = counted(networks_each(comparison), "seed")
    if comparison.detectable_difference is None:
        text = f"With {seeds} no difference could have been detected: the networks differ too much."
    else:
        size = percent(comparison.detectable_difference)
        text = f"With {seeds} a difference of {size} points is detected with 80 % power."
    if comparison.winner is None and comparison.seeds_needed is not None and learnt(comparison):
        needed = counted(comparison.seeds_needed, "seed")
        text += f" About {needed} would separate the two highest means, if their difference is what it seems."
    return text


def networks_each(comparison: Comparison) -> int:
    """How many trained networks stand behind each activation."""
    return max((len(row.per_seed) for row in comparison.rows), default=0)


def learnt(comparison: Comparison) -> bool:
    """Whether any of the trained networks is above chance under noise; what is not trained counts as learnt."""
    return any(row.converged for row in comparison.rows)


def difference_from(comparison: Comparison, activation: str, reference: str) -> Pair | None:
    """The pair as `activation` minus `reference`, whichever way round the report holds it."""
    for pair in comparison.pairs:
        if (pair.a, pair.b) == (activation, reference):
            return pair
        if (pair.a, pair.b) == (reference, activation):
            return pair.model_copy(
                update={
                    "a": pair.b,
                    "b": pair.a,
                    "difference": -pair.difference,
                    "lower": -pair.upper,
                    "upper": -pair.lower,
                }
            )
    return None


def current_activation(report: Report, result: Result) -> str | None:
    """The activation that the result's model came with, if it is a contestant."""
    found = {model.key: model.activation for model in report.models}.get(result.model)
    return found if any(each.spec == found for each in report.activations) else None
