"""How many training steps a race spares on a network of digits, and whether it ends where the full grid does.

    python tests/benchmarks/race_saving.py digits-convnet FOLDER

makes a line of the table in docs/recommend.md: some minutes on two cores. The folder keeps what is finished.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from robustcheck.analysis.ranking import rank
from robustcheck.recommend.produce import recommend
from robustcheck.reporting.produce import run_study
from robustcheck.study.plan import Study

SEEDS = 8


def main(spec: str, folder: Path) -> None:
    study = Study.create(
        models=[{"spec": spec}],
        data={"spec": "digits"},
        sensors=[{"spec": "adc-3bit", "placement": "network"}],
        eps=[0.5],
        activations=["relu"],
        seeds=SEEDS,
        training={
            "mode": "finetune", "train_ep": "mixed", "epochs": 6, "tuning_epochs": 1, "learning_rates": [1e-3, 3e-3],
        },
    )  # fmt: skip
    made = recommend(study, folder, jobs=2)
    race = made.recommendation.race
    grid = run_study(made.study, folder, jobs=2)
    accuracy: dict[str, dict[int, float]] = {}
    for network in grid.training:
        accuracy.setdefault(network.activation, {})[network.seed] = network.validation_accuracy or 0.0
    names = list(accuracy)
    block = np.array([[accuracy[name][seed] for name in names] for seed in range(SEEDS)])
    leaders = rank(block, names, samples=grid.data.counts["validation"]).leaders
    best = names[int(block.mean(axis=0).argmax())]
    apart = len(names) - len(leaders)
    print(
        f"{spec}: {len(names)} candidates, {apart} separated by the full grid, whose best is {best};"
        f" steps {race.steps.total:,} of {race.full_grid.total:,}, {100 * race.saved:.1f} % saved;"
        f" the race ended with {', '.join(race.survivors)} and the verdict {made.recommendation.verdict}"
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
