"""Which cell comes next, and how long all of them will take: estimates, which decide no number of a report."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch

from robustcheck.networks.loading import Model
from robustcheck.study.cells import AS_IS, Cell, Contestant, LoadedStudy, points
from robustcheck.study.training import VALIDATION_DRAWS

_BACKWARD = 2.0
"""A backward pass costs about two forward passes: the gradients of the inputs, and those of the weights."""


_Group = tuple[int | None, str | None]


@dataclass(frozen=True)
class _Kind:
    """Cells that are expected to take equally long."""

    model: int
    activation: str
    work: float


class Costs:
    """What cells cost: their work in operations, and once cells have been made, seconds for that work.

    Work is the number of images that pass through the network, times its floating-point operations for one. The seconds
    are those of cells with the same model and activation, where there are none of the model, else of any.

    Args:
        loaded: the study.
    """

    def __init__(self, loaded: LoadedStudy) -> None:
        self._loaded = loaded
        shape, models = loaded.data.shape, loaded.models
        # One model's operations are a factor of all cells alike.
        self._operations = [operations(model, shape) if len(models) > 1 else 1.0 for model in models]
        self._seconds: defaultdict[_Group, float] = defaultdict(float)
        self._work: defaultdict[_Group, float] = defaultdict(float)
        self._images = lru_cache(maxsize=1024)(self._count_images)

    def kind(self, cell: Cell) -> _Kind:
        """What the estimate for a cell depends on."""
        who = cell.contestant
        return _Kind(who.model, who.activation, self._images(cell.purpose, who) * self._operations[who.model])

    def saw(self, cell: Cell, seconds: float) -> None:
        """Learn from a cell that took so long."""
        kind = self.kind(cell)
        for group in _groups(kind):
            self._seconds[group] += seconds
            self._work[group] += kind.work

    def seconds(self, kind: _Kind) -> float | None:
        """How long such a cell takes; None before any cell has been made."""
        for group in _groups(kind):
            if self._work[group] > 0:
                return kind.work * self._seconds[group] / self._work[group]
        return None

    def _count_images(self, purpose: Literal["tune", "rank"], who: Contestant) -> float:
        """Images through the network; those of training count for forward and backward pass."""
        data, study = self._loaded.data, self._loaded.study
        validation = len(data.validation) * VALIDATION_DRAWS * len(who.train_points or who.eval_points)
        images = 0.0
        if who.train_points:
            images += self._loaded.policy(purpose).epochs * (len(data.train) * (1 + _BACKWARD) + validation)
        elif who.activation != AS_IS:
            images += validation
        if purpose == "rank":
            noisy = len(who.eval_points)
            once = len(points(who)) - noisy
            images += len(data.test) * (once + study.draws * noisy)
        return images


def operations(model: Model, shape: tuple[int, int, int]) -> float:
    """Floating-point operations of a model for one image of (channels, height, width), at least 1.

    Counted where torch can count them; else a network's parameters stand for them.

    >>> from robustcheck.networks.loading import load_model
    >>> operations(load_model("digits-convnet"), (1, 8, 8)) > 1e5
    True
    """
    from torch.utils.flop_counter import FlopCounterMode  # which imports a compiler

    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            model.network(model.input.normalise(torch.full((1, *shape), 0.5)))
        counted = counter.get_total_flops()
    except Exception:  # a user's own network may do what the counter does not follow
        counted = 0
    return float(max(1, counted or sum(parameter.numel() for parameter in model.network.parameters())))


class Schedule:
    """Cells that wait, for `Pool.run`: the longest first, so that none is left running alone at the end.

    Args:
        cells: in the report's order, which equals keep.
        costs: the study's; it may learn meanwhile.
        longest_first: False keeps the report's order altogether.
    """

    def __init__(self, cells: Iterable[Cell], costs: Costs, *, longest_first: bool = True) -> None:
        self._costs = costs
        self._longest_first = longest_first
        self._waiting: dict[_Kind, deque[tuple[int, Cell]]] = {}
        self._again: deque[Cell] = deque()
        for place, cell in enumerate(cells):
            self._waiting.setdefault(costs.kind(cell), deque()).append((place, cell))

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values())) + len(self._again)

    def take(self) -> Cell:
        """The cell to begin now; those that were put back come last."""
        if not self._waiting:
            return self._again.popleft()
        kind = min(self._waiting, key=self._rank)
        _, cell = self._waiting[kind].popleft()
        if not self._waiting[kind]:
            del self._waiting[kind]
        return cell

    def put_back(self, cell: Cell) -> None:
        """Try a cell once more, at the end: by then those that took its memory may be done."""
        self._again.append(cell)

    def seconds_left(self, running: Mapping[Cell, float], jobs: int, later: Schedule | None = None) -> float | None:
        """How long until all cells are done; None while no cell has told how long one takes.

        Args:
            running: cells under way, and the seconds that each has had.
            jobs: how many run at once.
            later: more cells, which begin after these.
        """
        counts = Counter({kind: len(cells) for kind, cells in self._waiting.items()})
        counts.update(map(self._costs.kind, self._again))
        if later is not None:
            counts.update({kind: len(cells) for kind, cells in later._waiting.items()})
        rest = []
        for cell, had in running.items():
            expected = self._costs.seconds(self._costs.kind(cell))
            if expected is None:
                return None
            rest.append(max(0.0, expected - had))
        total = sum(rest)
        for kind, count in counts.items():
            expected = self._costs.seconds(kind)
            if expected is None:
                return None
            total += count * expected
            rest.append(expected)
        # No faster than evenly divided, and no faster than the longest cell.
        return max([total / jobs, *rest])

    def _rank(self, kind: _Kind) -> tuple[float, int]:
        place = self._waiting[kind][0][0]
        if not self._longest_first:
            return 0.0, place
        seconds = self._costs.seconds(kind)
        return -(kind.work if seconds is None else seconds), place


def _groups(kind: _Kind) -> tuple[_Group, ...]:
    return (kind.model, kind.activation), (kind.model, None), (None, None)
