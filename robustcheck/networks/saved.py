"""Recipes of swapped models: a TOML file that says what was swapped in which network, beside the weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from robustcheck.activations.catalogue import activation
from robustcheck.errors import FileFormatError, ModelError
from robustcheck.networks.recipes import StatedInput
from robustcheck.networks.surgery import find_sites, swap_sites
from robustcheck.networks.weights import load_weights
from robustcheck.tomlfile import read_toml

FORMAT: Final = "robustcheck swapped model"


@dataclass(frozen=True)
class Swapped:
    """A swap that was made: the new activation's spec, the paths that have it now, and what kind each had before."""

    activation: str
    paths: tuple[str, ...]
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Base:
    """What builds the network before any swap: a spec of `load_model`, and the number of classes it was asked for."""

    spec: str
    classes: int | None = None


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SavedSwap(_Frozen):
    """The fields of `Swapped`."""

    activation: str = Field(min_length=1, max_length=300)
    paths: tuple[str, ...] = Field(min_length=1)
    kinds: tuple[str, ...] = Field(min_length=1)


class SavedModel(_Frozen):
    """What a recipe of a swapped model says.

    `base` is the spec of the network before the swaps, or the name of a file beside the recipe; `class_count` the
    number of classes it was built for, where it was asked for one; `weights` a file beside the recipe. `sha256` and
    `base_sha256` are the hashes of these files.
    """

    format: Literal["robustcheck swapped model"]
    base: str = Field(min_length=1, max_length=300)
    class_count: int | None = Field(default=None, ge=2)
    classes: tuple[str, ...] | None = None
    weights: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*\.safetensors$", max_length=200)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    base_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    input: StatedInput
    swaps: tuple[SavedSwap, ...] = ()

    def swapped(self) -> tuple[Swapped, ...]:
        """The swaps as plain records."""
        return tuple(Swapped(swap.activation, swap.paths, swap.kinds) for swap in self.swaps)


def read_saved(path: Path) -> SavedModel:
    """A recipe by the path of its TOML file; raises FileFormatError with file, line and field."""
    saved = read_toml(path, SavedModel)
    for swap in saved.swaps:
        if len(swap.paths) != len(swap.kinds):
            raise FileFormatError(
                f"{path}: field swaps: expected a kind for each path, got {len(swap.kinds)} for {len(swap.paths)}"
            )
    return saved


def swap_again(network: nn.Module, swaps: Sequence[Swapped]) -> nn.Module:
    """The network with the same swaps made, in their order.

    Raises:
        ModelError: the network has other activations at these places than the one that was swapped.
    """
    for swap in swaps:
        here = {site.path: site.kind for site in find_sites(network)}
        for path, kind in zip(swap.paths, swap.kinds, strict=True):
            if here.get(path) != kind:
                raise ModelError(
                    f"swaps: expected {kind} at {path!r}, got {here.get(path, 'no activation')}; the network is not "
                    "the one that was swapped, or its code has changed since"
                )
        network = swap_sites(network, activation(swap.activation), swap.paths)
    return network


def load_saved_weights(network: nn.Module, saved: SavedModel, folder: Path) -> None:
    """Put the recipe's weights into the network, with all swaps made.

    Raises:
        ModelError: the file is missing, damaged, does not fit, or is not the one that the recipe names.
    """
    path = folder / saved.weights
    load_weights(network, path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != saved.sha256:
        raise ModelError(
            f"{path}: expected the SHA-256 {saved.sha256} that the recipe states, got {found}; save the model again"
        )


def base_file(saved: SavedModel, recipe: Path) -> Path:
    """The file beside the recipe that its base is.

    Raises:
        FileFormatError: the base is a path that leaves the recipe's folder.
        ModelError: the file is missing, or is not the one that the recipe names.
    """
    path = recipe.parent / saved.base
    if Path(saved.base).name != saved.base:
        raise FileFormatError(f"{recipe}: field base: expected a file beside the recipe, got {saved.base!r}")
    if not path.is_file():
        raise ModelError(f"{path}: expected a file, found none; copy it here with its recipe, {recipe.name}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != saved.base_sha256:
        raise ModelError(f"{path}: expected the SHA-256 {saved.base_sha256} that the recipe states, got {found}")
    return path


def rebuilt(build: Callable[[], nn.Module], swaps: Sequence[Swapped]) -> nn.Module:
    """A network with fresh weights, swapped."""
    network = build()
    network.eval()
    return swap_again(network, swaps)


def swaps_identity(swaps: Sequence[Swapped]) -> str:
    """The swaps as text, for a model's hash; empty without any."""
    return json.dumps([asdict(swap) for swap in swaps]) if swaps else ""
