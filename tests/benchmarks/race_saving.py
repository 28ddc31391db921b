"""How many training steps a race spares on a network of digits, and whether it ends where the full grid does.

    PYTHONPATH=tests python tests/benchmarks/race_saving.py depthwise FOLDER 2

makes a line of the table in docs/recommend.md, with so many processes: digits-convnet, depthwise or vision_transformer,
up to half an hour each on two cores. The folder keeps what is finished.

All have noise at every layer, at EP 0.5. The shipped network's converter has 3 bits. For each other network it has
those with which that network, before any training under noise, keeps most nearly the shipped one's accuracy on
validation: this asks nothing of the candidates that then race.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from race_networks import model_choice

from robustcheck.analysis.ranking import rank
from robustcheck.data.datasets import Dataset, load_data
from robustcheck.networks.loading import load_model
from robustcheck.recommend.produce import Recommended, recommend
from robustcheck.sensing.channel import channel
from robustcheck.study import runner
from robustcheck.study.cells import load_study
from robustcheck.study.evaluation import evaluate
from robustcheck.study.plan import Study
from robustcheck.study.store import Store

EP: Final = 0.5
SHIPPED: Final = "digits-convnet"
SHIPPED_BITS: Final = 3
SEEDS: Final = 8


@dataclass(frozen=True)
class FullGrid:
    """What the full grid says of a race's candidates on validation.

    Attributes:
        best: the candidate with the best mean.
        leaders: those that are not significantly worse, itself among them.
        separated: how many candidates are.
    """

    best: str
    leaders: tuple[str, ...]
    separated: int


def full_grid(made: Recommended, folder: Path, jobs: int = 1) -> FullGrid:
    """Train the networks that the race has spared, and compare all."""
    loaded = load_study(made.study)
    with Store(folder, made.study.document()) as store:
        cells = runner.run(loaded, store, jobs=jobs).cells
        records = {(cell.contestant.activation, cell.seed): store.training(loaded.hash(cell)) for cell in cells}
    names = loaded.activations
    block = np.array(
        [[records[name, seed].validation_accuracy for name in names] for seed in range(made.study.seeds)], dtype=float
    )
    leaders = rank(block, names, samples=len(loaded.data.validation)).leaders
    return FullGrid(names[int(block.mean(axis=0).argmax())], leaders, len(names) - len(leaders))


def main(name: str, folder: Path, jobs: int) -> None:
    data = load_data("digits")
    model = model_choice(name, data, folder)
    bits = bits_as_hard(model, data)
    study = Study.create(
        models=[model],
        data={"spec": "digits"},
        sensors=[{"spec": f"adc-{bits}bit", "placement": "network"}],
        eps=[EP],
        activations=["relu"],
        seeds=SEEDS,
        training={
            "mode": "finetune", "train_ep": "mixed", "epochs": 6, "tuning_epochs": 1, "learning_rates": [1e-3, 3e-3],
        },
    )  # fmt: skip
    made = recommend(study, folder, jobs=jobs, on_look=_say)
    grid = full_grid(made, folder, jobs)
    found, race = made.recommendation, made.recommendation.race
    print(
        f"| `{name}` ({found.current}) | {bits} | {len(found.candidates)} | {grid.separated} "
        f"| {race.steps.total:,}, {race.full_grid.total:,} | {100 * race.saved:.1f} % |\n"
        f"full grid: {grid.best}, not told from {', '.join(each for each in grid.leaders if each != grid.best)}\n"
        f"race: {', '.join(race.survivors)}; {found.verdict}"
    )


def bits_as_hard(model: dict[str, str], data: Dataset) -> int:
    """The bits with which a network as it is keeps most nearly what the shipped one keeps with its own."""
    wanted = _kept({"spec": SHIPPED}, data, SHIPPED_BITS)
    return min(range(2, 9), key=lambda bits: abs(_kept(model, data, bits) - wanted))


def _kept(model: dict[str, str], data: Dataset, bits: int) -> float:
    """Accuracy on validation with noise at every layer."""
    noise = channel(f"adc-{bits}bit", ep=EP, placement="network")
    with runner.one_thread():
        return evaluate(load_model(**model, classes=data.classes), replace(data, test=data.validation), noise).accuracy


def _say(seeds: int, stopped: Any, running: Any) -> None:
    print(f"after {seeds} seeds {len(stopped)} stop, {len(running)} run", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
