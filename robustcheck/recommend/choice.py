"""What to recommend after a race: a winner, a tie, or a trade-off; validation accuracies and costs decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from robustcheck.analysis.ranking import rank
from robustcheck.recommend.latency import Latency
from robustcheck.recommend.race import Race

Verdict = Literal["winner", "tie", "trade-off"]

_NO_COST = 0.01
"""More parameters than this share of the model's are a cost."""


@dataclass(frozen=True)
class Option:
    """An activation that may be chosen, and what it gives and costs.

    Attributes:
        activation: canonical spec.
        noisy: mean accuracy on validation under noise.
        clean: the same without noise.
        latency: in ONNX Runtime; None where it could not be measured.
        parameters: of the whole model.
        leads: whether it is among the race's survivors.
        front: whether no other option is better in one respect and worse in none.
    """

    activation: str
    noisy: float
    clean: float
    latency: Latency | None
    parameters: int
    leads: bool
    front: bool


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        verdict: see `choose`.
        chosen: activation to have.
        options: it was chosen from, the best under noise first.
        better: for each option that is better than the chosen one in some respect, in which; empty for a tie.
    """

    verdict: Verdict
    chosen: str
    options: tuple[Option, ...]
    better: dict[str, tuple[str, ...]]


def choose(race: Race, latencies: Mapping[str, Latency], parameters: Mapping[str, int], *, samples: int) -> Choice:
    """Choose from the survivors of a race and the model's own activation.

    A model whose own activation is among the survivors keeps it: a tie. Otherwise the own one has been stopped, so that
    the survivors are better under noise, and the one with the best mean under noise is chosen: few seeds leave much
    that is not significant, and no microsecond is worth that. It is the winner where no other option is better in
    accuracy under noise, clean accuracy, latency or parameters, which also make the Pareto front. Two options differ in
    accuracy under noise where one survives and one does not; in clean accuracy where their pair is significant
    (`ranking.rank`, α of the race); in latency where the quartiles do not overlap; in parameters beyond 1 %.

    Args:
        race: that was run.
        latencies: of the options; one that is missing is taken for equal to all others.
        parameters: of the model with each option.
        samples: validation samples behind each accuracy.
    """
    names = [*race.survivors, *([] if race.current_leads else [race.current])]
    clean = _cleaner(race, names, samples)

    def compared(a: str, b: str) -> dict[str, int]:
        """In each respect 1 where a is better than b, −1 where it is worse, 0 where they cannot be told apart."""
        return {
            "accuracy under noise": (a in race.survivors) - (b in race.survivors),
            "clean accuracy": ((a, b) in clean) - ((b, a) in clean),
            "latency": _faster(latencies.get(a), latencies.get(b)),
            "number of parameters": _smaller(parameters[a], parameters[b]),
        }

    front = [not any(_dominates(compared(b, a)) for b in names) for a in names]
    options = tuple(
        Option(
            activation=name,
            noisy=float(np.mean(race.validation[name])),
            clean=float(np.mean(race.clean[name])),
            latency=latencies.get(name),
            parameters=parameters[name],
            leads=name in race.survivors,
            front=on_front,
        )
        for name, on_front in zip(names, front, strict=True)
    )
    if race.current_leads:
        return Choice("tie", race.current, options, {})
    chosen = race.survivors[0]
    respects = {name: tuple(each for each, sign in compared(name, chosen).items() if sign > 0) for name in names}
    better = {name: those for name, those in respects.items() if those}
    return Choice("trade-off" if better else "winner", chosen, options, better)


def _cleaner(race: Race, names: Sequence[str], samples: int) -> set[tuple[str, str]]:
    """Pairs (a, b) of which a is significantly more accurate than b without noise."""
    if len(names) < 2:
        return set()
    block = np.array([race.clean[name] for name in names]).T
    pairs = rank(block, names, samples=samples, alpha=race.alpha).pairs
    return {(p.a, p.b) if p.difference > 0 else (p.b, p.a) for p in pairs if p.significant}


def _dominates(compared: Mapping[str, int]) -> bool:
    """Whether it is better in one respect and worse in none."""
    return max(compared.values()) > 0 and min(compared.values()) >= 0


def _faster(a: Latency | None, b: Latency | None) -> int:
    """1 where a is faster, −1 where b is, 0 where they are tied or one is not known."""
    if a is None or b is None or a.tied(b):
        return 0
    return 1 if a.median < b.median else -1


def _smaller(a: int, b: int) -> int:
    if abs(a - b) <= _NO_COST * min(a, b):
        return 0
    return 1 if a < b else -1
