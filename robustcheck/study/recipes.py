"""Trains a shipped model from its recipe: the same recipe gives the same weights, bit for bit, on one machine type."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from robustcheck.data.datasets import load_data
from robustcheck.errors import FileFormatError
from robustcheck.networks.loading import Model, initialise, model_hash
from robustcheck.networks.recipes import Recipe, write_recipe
from robustcheck.sensing.random import derived_seed
from robustcheck.study.evaluation import evaluate
from robustcheck.study.plan import TrainingPolicy
from robustcheck.study.runner import one_thread
from robustcheck.study.training import Trained, train


@dataclass(frozen=True)
class TrainedRecipe:
    """A recipe with the accuracy and the hash that its training gave."""

    recipe: Recipe
    trained: Trained
    unchanged: bool
    """Whether the weights are those that the recipe named before."""


def train_recipe(recipe: Recipe, folder: Path) -> TrainedRecipe:
    """Train the network of a recipe on clean images, and write recipe and weights into a folder.

    `recipe.training` holds `seed`, `learning_rate`, and fields of `TrainingPolicy`.

    Raises:
        FileFormatError: a field of `training` is missing or unknown.
        ModelError: the folder cannot be written.
    """
    settings = dict(recipe.training)
    try:
        seed, rate = settings.pop("seed"), settings.pop("learning_rate")
        if not (isinstance(seed, int) and isinstance(rate, float)):
            raise TypeError("seed and learning_rate are an integer and a number")
        policy = TrainingPolicy.model_validate({**settings, "mode": "scratch"})
    except (KeyError, TypeError, ValidationError) as error:
        raise FileFormatError(
            f"{recipe.name}.toml, field training: expected seed, learning_rate and fields of a training policy, "
            f"got {sorted(recipe.training)}: {error}"
        ) from error
    data = load_data(recipe.data)
    with one_thread():
        blank = recipe.build()
        spec = recipe.input.spec()
        model = initialise(
            Model(blank, spec, data.classes, recipe.name, model_hash(blank, spec), recipe.build),
            derived_seed(seed, "initialise"),
        )
        trained = train(model, data, policy=policy, learning_rate=rate, seed=seed)
        accuracy = evaluate(trained.model, data).accuracy
    made = recipe.model_copy(update={"accuracy": round(accuracy, 6), "classes": data.classes})
    folder.mkdir(parents=True, exist_ok=True)
    written = write_recipe(folder, made, trained.model.network)
    return TrainedRecipe(written, trained, written.sha256 == recipe.sha256)
