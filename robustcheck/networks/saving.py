"""Saves a swapped model: weights as safetensors, and a recipe from which `load_model` makes the same model again."""

from __future__ import annotations

import copy
import hashlib
import re
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import tomli_w
import torch

from robustcheck.errors import ModelError, UsageError
from robustcheck.networks.loading import Model, load_model, model_hash, spec_kind
from robustcheck.networks.recipes import StatedInput, write_whole
from robustcheck.networks.saved import FORMAT, SavedModel, SavedSwap, Swapped, rebuilt, swaps_identity
from robustcheck.networks.surgery import Swap
from robustcheck.networks.weights import check_finite


def swapped_model(model: Model, swap: Swap) -> Model:
    """The model with the network of a swap in place of its own.

    Args:
        model: that was swapped.
        swap: from `swap_activation(model, …)`.

    Returns:
        The same model but for its network, its record of swaps and its hash. Its fresh random weights
        (`initialise`) are drawn as before, and then swapped.

    >>> from robustcheck.networks.surgery import swap_activation
    >>> model = load_model("digits-convnet")
    >>> swapped_model(model, swap_activation(model, "gelu")).swaps[0].activation
    'gelu'
    """
    made = Swapped(
        swap.activation, tuple(site.path for site in swap.replaced), tuple(site.kind for site in swap.replaced)
    )
    swaps = (*model.swaps, made)
    build = None if model.build is None else partial(rebuilt, model.build, (made,))
    digest = model_hash(swap.network, model.input, swaps_identity(swaps))
    return replace(model, network=swap.network, swaps=swaps, build=build, sha256=digest)


def save_model(model: Model, path: str | Path) -> Path:
    """Write `NAME.safetensors` and the recipe `NAME.toml` beside it, and make sure that they give this model again.

    `load_model("NAME.toml")` loads it. A network that your own code defines needs that code named again:
    `load_model("package.module:factory", weights="NAME.toml")`; a recipe alone never decides what is imported.

    Args:
        model: from `load_model`, swapped by `swapped_model` or not, trained or not.
        path: of the recipe, `FOLDER/NAME.toml`; the folder is made. A model from a `.pt2` file brings a copy of it.

    Returns:
        The recipe's path.

    Raises:
        UsageError: the path does not end in `.toml`, or its name has characters other than letters, digits, `_.-`.
        ModelError: a weight is NaN or infinite, the folder cannot be written, or what was written does not give the
            same outputs again, bit for bit (nothing is left behind then).

    >>> import tempfile
    >>> from robustcheck.networks.surgery import swap_activation
    >>> model = load_model("digits-convnet")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     recipe = save_model(swapped_model(model, swap_activation(model, "gelu")), f"{folder}/smooth.toml")
    ...     again = load_model(str(recipe))
    >>> again.swaps[0].activation
    'gelu'
    """
    path = Path(path)
    if path.suffix != ".toml" or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.\-]*", path.stem) is None:
        raise UsageError(f"{path}: expected a file NAME.toml to write, NAME of letters, digits, '_', '.' and '-'")
    if model.base is None:
        raise ModelError(f"{model.origin}: expected a model from load_model, which says how its network is built")
    check_finite(model.network, model.origin)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".saving-") as folder:
            written = _write(model, Path(folder), path.stem)
            _check_same(model, Path(folder) / path.name)
            for name in written:
                (Path(folder) / name).replace(path.parent / name)
    except OSError as error:
        raise ModelError(f"{path.parent}: expected a folder that can be written, got {error}") from error
    return path


def _write(model: Model, folder: Path, name: str) -> list[str]:
    """The names of the files, the recipe last."""
    from safetensors.torch import save

    assert model.base is not None
    # Tied tensors are written twice; safetensors has no other way.
    weights = save(
        {key: tensor.detach().cpu().contiguous().clone() for key, tensor in model.network.state_dict().items()}
    )
    written = [f"{name}.safetensors"]
    write_whole(folder / written[0], weights)
    base, digest = model.base.spec, None
    if Path(base).suffix == ".pt2":
        source, base = Path(base), f"{name}.base.pt2"
        content = source.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        write_whole(folder / base, content)
        written.append(base)
    saved = SavedModel(
        format=FORMAT,
        base=base,
        class_count=model.base.classes,
        classes=model.classes,
        weights=written[0],
        sha256=hashlib.sha256(weights).hexdigest(),
        base_sha256=digest,
        input=StatedInput(**model.input.as_dict()),
        swaps=tuple(SavedSwap(activation=s.activation, paths=s.paths, kinds=s.kinds) for s in model.swaps),
    )
    document: dict[str, Any] = saved.model_dump(mode="json", exclude_none=True)
    write_whole(folder / f"{name}.toml", tomli_w.dumps(document).encode())
    return [*written, f"{name}.toml"]


def _check_same(model: Model, recipe: Path) -> None:
    """Load what was written, and compare: classes and options of all modules, tensors, and one output."""
    assert model.base is not None
    factory = spec_kind(model.base.spec)[0] == "factory"
    again = load_model(model.base.spec, weights=str(recipe)) if factory else load_model(str(recipe))
    ours = copy.deepcopy(model.network).cpu()
    ours.eval()
    same = model_hash(ours, model.input) == model_hash(again.network, again.input)
    if same and model.input.shape is not None:
        with torch.no_grad():
            x = model.input.normalise(
                torch.linspace(0, 1, 2 * _numel(model.input.shape)).reshape(2, *model.input.shape)
            )
            same = _equal(ours(x), again.network(x))
    if not same:
        raise ModelError(
            f"{model.origin}: expected {model.base.spec} with its swaps and weights to give this network again, got "
            "another; it was changed in ways that a recipe cannot state. Write it to ONNX, or put the change into a "
            "factory of your own"
        )


def _numel(shape: tuple[int, int, int]) -> int:
    return shape[0] * shape[1] * shape[2]


def _equal(a: Any, b: Any) -> bool:
    return isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and torch.equal(a, b)
