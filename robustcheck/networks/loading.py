"""From a model spec to a `Model`: the network, what its input is, where it came from, its hash."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

import torch
from torch import nn

from robustcheck import content
from robustcheck.activations.catalogue import activation
from robustcheck.errors import InvalidValueError, ModelError, UnknownNameError, UsageError
from robustcheck.networks import factories
from robustcheck.networks.architectures.spec import read_architecture
from robustcheck.networks.exported.network import exported_network
from robustcheck.networks.fitting import check_fit, check_on_images, read_class_names
from robustcheck.networks.inputs import ChannelOrder, InputSpec, Layout
from robustcheck.networks.kinds import module_kind, new_module
from robustcheck.networks.recipes import load_recipe, recipe_network
from robustcheck.networks.saved import (
    Base,
    Swapped,
    base_file,
    load_saved_weights,
    read_saved,
    rebuilt,
    swap_again,
    swaps_identity,
)
from robustcheck.networks.timm_models import timm_input, timm_network, timm_pretrained
from robustcheck.networks.weights import SUFFIXES, check_finite, load_weights, model_sha256, module_source
from robustcheck.sensing.random import torch_seed

__all__ = [
    "InputSpec",
    "Model",
    "check_fit",
    "check_on_images",
    "initialise",
    "load_model",
    "model_hash",
    "read_class_names",
    "spec_kind",
]


@dataclass(frozen=True)
class Model:
    """A network that takes normalised images and gives (n, classes) logits, and what is known about it.

    `classes` are the names in the order of the logits, None where the model does not say. `origin` is the spec that it
    was loaded from. `sha256` covers architecture, all parameters and buffers, and `input`. `build` makes the network
    anew with other random weights. `base` builds it before the `swaps`, None for a network that no spec names.
    """

    network: nn.Module
    input: InputSpec
    classes: tuple[str, ...] | None
    origin: str
    sha256: str
    build: Callable[[], nn.Module] | None = field(default=None, repr=False, compare=False)
    base: Base | None = None
    swaps: tuple[Swapped, ...] = ()
    notes: tuple[str, ...] = ()
    runtime: Runtime | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Runtime:
    """Makes a network that gives the same logits, faster, without gradients; only for the model with this `sha256`."""

    sha256: str
    make: Callable[[], nn.Module]


@dataclass(frozen=True)
class _Request:
    """What was asked for; `rest` is the spec without its kind."""

    spec: str
    rest: str
    weights: str | None
    classes: int | None
    download: bool


@dataclass(frozen=True)
class _Loaded:
    network: nn.Module
    input: InputSpec
    build: Callable[[], nn.Module] | None
    classes: tuple[str, ...] | None = None
    code: str = ""
    base: Base | None = None
    swaps: tuple[Swapped, ...] = ()
    notes: tuple[str, ...] = ()
    runtime: Callable[[], nn.Module] | None = None


def load_model(
    spec: str,
    *,
    weights: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    input_range: tuple[float, float] | None = None,
    layout: Layout | None = None,
    channel_order: ChannelOrder | None = None,
    classes: int | Sequence[str] | None = None,
    download: bool = False,
    device: str | torch.device = "cpu",
) -> Model:
    """Load a model in evaluation mode. Random weights, where no others are asked for, are the same in every run.

    Args:
        spec: the name of a shipped model (`robustcheck models list`), `architecture:NAME(OPTION=VALUE, …)`, which
            robustcheck builds itself, `torchvision:NAME`, `timm:NAME`, an `.onnx` file, a `.pt2` file of
            `torch.export`, a `.toml` file of `save_model`, or `package.module:factory`, a function without arguments
            that returns a `torch.nn.Module`.
        weights: a `.safetensors`, `.pt` or `.pth` file with a state dictionary, or a `.toml` file of `save_model`,
            whose swaps are made again; for torchvision and timm also the name of their own weights, such as `DEFAULT`.
        mean: subtracted from the values in `input_range`: one number, or one a channel.
        std: then divides, as `mean`.
        input_range: the values that the network expects for physical 0 and 1, such as (0, 255).
        layout: `NCHW` or `NHWC`.
        channel_order: `RGB` or `BGR`.
        classes: how many classes the data has, or their names; torchvision's and timm's models are built for as many.
        download: whether weights may be fetched.
        device: where the network is put.

    Raises:
        UsageError: the spec or an option is wrong; the kind of model is not supported.
        ModelError: the model cannot be imported, built or read.
        UnsafeFileError: a weights file could run code when it is read; it was not opened.

    >>> load_model("torchvision:squeezenet1_1", classes=10).input.shape
    (3, 224, 224)
    """
    kind, rest = spec_kind(spec)
    names = None if classes is None or isinstance(classes, int) else tuple(classes)
    count = classes if isinstance(classes, int) else None if names is None else len(names)
    if count is not None and count < 2:
        raise InvalidValueError("classes", expected="2 or more", got=count)
    request = _Request(spec, rest, weights, count, download)
    with torch_seed(0):
        loaded = _load_swapped(kind, request) if Path(weights or "").suffix == ".toml" else KINDS[kind](request)
    check_finite(loaded.network, spec)
    given = {
        "mean": None if mean is None else tuple(mean),
        "std": None if std is None else tuple(std),
        "scale": None if input_range is None else tuple(input_range),
        "layout": layout,
        "channel_order": channel_order,
    }
    spec_of_input = replace(loaded.input, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    try:
        network = loaded.network.to(device)
        network.eval()
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        raise ModelError(f"{spec}: cannot be put on device {device}: {error}") from error
    digest = model_hash(network, spec_of_input, swaps_identity(loaded.swaps) or loaded.code)
    return Model(
        network,
        spec_of_input,
        loaded.classes or names,
        spec,
        digest,
        loaded.build,
        loaded.base or Base(spec),
        loaded.swaps,
        loaded.notes,
        None if loaded.runtime is None else Runtime(digest, loaded.runtime),
    )


def initialise(model: Model, seed: int) -> Model:
    """The model with fresh random weights, drawn as its own code draws them; the model itself is not changed.

    Args:
        model: from `load_model`.
        seed: gives the weights; any integer in [0, 2^63).

    Raises:
        ModelError: the model's code cannot build it again.

    >>> model = load_model("torchvision:squeezenet1_1", classes=10)
    >>> initialise(model, 1).sha256 == initialise(model, 1).sha256 != initialise(model, 2).sha256
    True
    """
    device = next((tensor.device for tensor in model.network.parameters()), torch.device("cpu"))
    with torch_seed(seed):
        network = copy.deepcopy(model.network) if model.build is None else model.build()
        if model.build is None:
            _reset(network, model.origin)
    network = network.to(device)
    network.eval()
    return replace(model, network=network, sha256=model_hash(network, model.input))


def model_hash(network: nn.Module, spec_of_input: InputSpec, code: str = "") -> str:
    """SHA-256 of architecture, parameters, buffers and input spec, of a user's own source, and of `code` that built it.

    It does not see what a user's modules import from other modules of theirs.
    """
    return model_sha256(network, json.dumps(spec_of_input.as_dict(), sort_keys=True) + code)


def _reset(network: nn.Module, origin: str) -> None:
    for path, module in network.named_modules():
        reset = getattr(module, "reset_parameters", None)
        spec = module_kind(module)
        if callable(reset):
            reset()
        elif spec is not None:
            module.load_state_dict(new_module(activation(spec)).state_dict())
        elif any(True for _ in module.parameters(recurse=False)):
            raise ModelError(f"{origin}: {path or 'the network'} does not say how to draw its weights anew")


def _load_shipped(request: _Request) -> _Loaded:
    recipe = load_recipe(request.rest)
    if request.weights is None:
        network = recipe_network(recipe, content.shelf("models"))
    else:
        network = recipe.build()
        load_weights(network, request.weights)
    return _Loaded(network, recipe.input.spec(), recipe.build, recipe.classes)


def _load_architecture(request: _Request) -> _Loaded:
    found = read_architecture(request.rest).with_classes(request.classes)
    network = found.build()
    if request.weights is not None:
        load_weights(network, request.weights)
    base = Base(request.spec, request.classes)
    return _Loaded(network, InputSpec(shape=found.shape), found.build, base=base)


def _load_torchvision(request: _Request) -> _Loaded:
    name, weights = request.rest, request.weights
    build = partial(factories.torchvision_network, name, request.classes)
    if weights is not None and Path(weights).suffix == "":
        network, classes = factories.torchvision_pretrained(name, weights, download=request.download)
        return _Loaded(network, factories.torchvision_input(name, weights), build, classes)
    network = build()
    if weights is not None:
        load_weights(network, weights)
    base = Base(request.spec, request.classes)
    return _Loaded(network, factories.torchvision_input(name), build, base=base)


def _load_timm(request: _Request) -> _Loaded:
    name, weights = request.rest, request.weights
    build = partial(timm_network, name, request.classes)
    if weights is not None and Path(weights).suffix not in SUFFIXES:
        network = timm_pretrained(name, weights, download=request.download)
        return _Loaded(network, timm_input(network), build, base=Base(request.spec, network.num_classes))  # type: ignore[arg-type]
    network = build()
    if weights is not None:
        load_weights(network, weights)
    return _Loaded(network, timm_input(network), build, base=Base(request.spec, request.classes))


def _load_onnx(request: _Request) -> _Loaded:
    from robustcheck.networks.onnx.loading import load_onnx

    found = load_onnx(request.rest)
    if request.weights is None:
        return _Loaded(found.network, found.input, None, notes=found.notes, runtime=found.runtime)
    load_weights(found.network, request.weights)
    return _Loaded(found.network, found.input, None, notes=found.notes)


def _load_exported(request: _Request) -> _Loaded:
    network, spec_of_input = exported_network(request.rest)
    if request.weights is not None:
        load_weights(network, request.weights)
    return _Loaded(network, spec_of_input, None)


def _load_saved(request: _Request) -> _Loaded:
    path = Path(request.spec)
    if request.weights is not None:
        raise UsageError(f"{path}: expected no --weights, since the recipe names its own, got {request.weights}")
    saved = read_saved(path)
    if Path(saved.base).suffix == ".pt2":
        return _load_swapped(".pt2", replace(request, rest=str(base_file(saved, path)), weights=str(path)))
    kind, rest = spec_kind(saved.base)
    if kind == "factory":
        raise UsageError(
            f"{path}: its network is made by the code {saved.base}, which a recipe alone does not import; where you "
            f"trust that code, load {saved.base} with --weights {path}"
        )
    if kind not in ("shipped", "architecture", "torchvision", "timm"):
        raise UsageError(f"{path}: field base: expected a network that is built by name, got {saved.base}")
    return _load_swapped(kind, replace(request, spec=saved.base, rest=rest, weights=str(path)))


def _load_swapped(kind: str, request: _Request) -> _Loaded:
    """The network of a spec with the swaps and the weights of a recipe."""
    path = Path(request.weights or "")
    saved = read_saved(path)
    base = KINDS[kind](replace(request, weights=None, classes=saved.class_count))
    base.network.eval()
    network = swap_again(base.network, saved.swapped())
    load_saved_weights(network, saved, path.parent)
    build = None if base.build is None else partial(rebuilt, base.build, saved.swapped())
    spec = request.rest if kind == ".pt2" else request.spec
    origin = Base(spec, saved.class_count)
    return _Loaded(network, saved.input.spec(), build, saved.classes, base=origin, swaps=saved.swapped())


def _load_factory(request: _Request) -> _Loaded:
    build = partial(factories.call_factory, request.spec)
    network = build()
    if request.weights is not None:
        load_weights(network, request.weights)
    return _Loaded(network, InputSpec(), build, code=module_source(request.spec.partition(":")[0]))


def _refuse(what: str, way_out: str) -> Callable[[_Request], _Loaded]:
    def refuse(request: _Request) -> _Loaded:
        raise UsageError(f"{request.spec}: {what}; {way_out}")

    return refuse


_BY_FACTORY = "load the network that it was made from, package.module:factory with --weights FILE.safetensors"
_NEEDS_NETWORK = "a weights file does not say what the network is; give package.module:factory with --weights FILE"

KINDS: Final[dict[str, Callable[[_Request], _Loaded]]] = {
    "shipped": _load_shipped,
    "architecture": _load_architecture,
    "torchvision": _load_torchvision,
    "timm": _load_timm,
    "factory": _load_factory,
    ".onnx": _load_onnx,
    ".pt2": _load_exported,
    ".toml": _load_saved,
    ".torchscript": _refuse("TorchScript is code that cannot be changed", _BY_FACTORY),
    **dict.fromkeys((".pt", ".pth", ".safetensors", ".ckpt", ".bin"), _refuse("expected a model", _NEEDS_NETWORK)),
}
"""How each kind of model is loaded: by the kind before the colon, or by the suffix of a file."""


def spec_kind(spec: str) -> tuple[str, str]:
    """Which of `KINDS` a spec asks for, and the spec without its kind.

    A file may have a colon in its name, as `C:\\net.onnx` has.

    Raises:
        UsageError: the spec asks for none of them.

    >>> spec_kind("timm:vit_tiny_patch16_224"), spec_kind("C:/net.onnx"), spec_kind("package.module:build")
    (('timm', 'vit_tiny_patch16_224'), ('.onnx', 'C:/net.onnx'), ('factory', 'package.module:build'))
    """
    suffix = Path(spec).suffix.lower()
    kind, colon, rest = spec.partition(":")
    named = bool(colon) and kind in KINDS and kind not in ("shipped", "factory")
    imported = bool(colon) and all(part.isidentifier() for part in [*kind.split("."), *rest.split(".")])
    if suffix.startswith(".") and suffix in KINDS:
        by_name = named or (imported and suffix not in _NETWORK_FILES)
        if not by_name or Path(spec).is_file():
            return suffix, spec
    if named:
        return kind, rest
    if imported:
        return "factory", spec
    if colon:
        raise UsageError(f"model {spec!r}: expected {_GRAMMAR}")
    known = content.model_names()
    if spec not in known:
        raise UnknownNameError("model", spec, known, remedy=f"A model is {_GRAMMAR}.")
    return "shipped", spec


_NETWORK_FILES = (".onnx", ".pt2", ".toml")
_GRAMMAR = (
    "the name of a shipped model (robustcheck models list), architecture:NAME(OPTION=VALUE, …), torchvision:NAME, "
    "timm:NAME, an .onnx or .pt2 file, or package.module:factory with --weights FILE"
)
