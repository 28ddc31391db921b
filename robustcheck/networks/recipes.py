"""Recipes of the shipped models: a TOML file that says how a model was made, beside its weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from robustcheck import content
from robustcheck.errors import FileFormatError, ModelError, UnknownNameError
from robustcheck.networks.architectures import ARCHITECTURES, build
from robustcheck.networks.inputs import InputSpec
from robustcheck.networks.weights import load_weights
from robustcheck.tomlfile import read_toml

Setting = bool | int | float | str | list[bool | int | float | str]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StatedInput(_Frozen):
    """What a network expects of its images: the fields of `InputSpec`; `shape` is left out where it is not known."""

    shape: tuple[int, int, int] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: tuple[float, float] = (0.0, 1.0)
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    channel_order: Literal["RGB", "BGR"] = "RGB"

    def spec(self) -> InputSpec:
        """The same as the record that networks use."""
        return InputSpec(**self.model_dump())


class RecipeInput(StatedInput):
    """The same for a shipped model, whose shape is known."""

    shape: tuple[int, int, int]


class Recipe(_Frozen):
    """How a shipped model was made.

    `options` are arguments of the architecture's builder, `training` is what the training command was given (seed
    included), `accuracy` that on the test split, `sha256` that of the weights file beside the recipe.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9\-]*$", max_length=64)
    title: str = Field(min_length=1, max_length=120)
    architecture: str
    data: str = Field(min_length=1)
    classes: tuple[str, ...] | None = None
    accuracy: float = Field(ge=0, le=1)
    weights: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*\.safetensors$", max_length=100)
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    options: dict[str, Setting] = {}
    input: RecipeInput
    training: dict[str, Setting] = {}

    def build(self) -> nn.Module:
        """A network of this architecture, initialised from torch's global generator."""
        return build(self.architecture, self.options)


def load_recipe(name: str) -> Recipe:
    """The recipe of a shipped model.

    Raises:
        UnknownNameError: no shipped model has this name.
        FileFormatError: the file cannot be read, or a field is missing, unknown or wrong.
    """
    known = content.model_names()
    if name not in known:
        raise UnknownNameError("model", name, known)
    return read_recipe(content.shelf("models") / f"{name}.toml")


def read_recipe(path: Path) -> Recipe:
    """A recipe by the path of its TOML file; raises FileFormatError with file, line and field."""
    recipe = read_toml(path, Recipe)
    if recipe.architecture not in ARCHITECTURES:
        raise FileFormatError(
            f"{path}: field architecture: expected {' or '.join(ARCHITECTURES)}, got {recipe.architecture!r}"
        )
    return recipe


def recipe_network(recipe: Recipe, folder: Path) -> nn.Module:
    """The trained network of a recipe whose weights lie in the folder.

    Raises:
        ModelError: the weights are missing, damaged, do not fit, or are not those that the recipe names.
    """
    network = recipe.build()
    path = folder / recipe.weights
    load_weights(network, path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != recipe.sha256:
        raise ModelError(
            f"{path}: expected the SHA-256 {recipe.sha256 or '(none)'} that {recipe.name}.toml states, got {found}; "
            f"make both anew with robustcheck models train {recipe.name}"
        )
    return network


def write_recipe(folder: Path, recipe: Recipe, network: nn.Module) -> Recipe:
    """Write `NAME.toml` and the weights beside it; the same network gives the same bytes.

    Args:
        folder: exists.
        recipe: its `sha256` is filled in.
        network: on any device.

    Returns:
        The recipe as written.

    Raises:
        ModelError: the folder cannot be written.
    """
    from safetensors.torch import save

    weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()})
    complete = recipe.model_copy(update={"sha256": hashlib.sha256(weights).hexdigest()})
    document: dict[str, Any] = complete.model_dump(mode="json", exclude_none=True)
    try:
        write_whole(folder / complete.weights, weights)
        write_whole(folder / f"{complete.name}.toml", tomli_w.dumps(document).encode())
    except OSError as error:
        raise ModelError(f"{folder}: expected a folder that can be written, got {error}") from error
    return complete


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)
