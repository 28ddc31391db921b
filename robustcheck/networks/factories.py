"""Builds networks that other code defines: a factory in a Python module, or torchvision's models."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import re
import sys
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from robustcheck.errors import ModelError, UnknownNameError, UsageError
from robustcheck.networks.inputs import InputSpec

IMAGENET: Final = InputSpec(shape=(3, 224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def call_factory(spec: str) -> nn.Module:
    """Import `package.module:factory` and call it without arguments; the current folder can be imported from.

    Raises:
        ModelError: the import or the call fails, or what comes back is no torch module.
    """
    module_name, _, attribute = spec.partition(":")
    with _importable_here():
        try:
            module = importlib.import_module(module_name)
            factory = reduce(getattr, attribute.split("."), module)
            network = factory() if callable(factory) and not isinstance(factory, nn.Module) else factory
        except (Exception, SystemExit) as error:
            reason = " ".join(str(error).split())
            raise ModelError(
                f"{spec}: expected a function that returns the network, got {type(error).__name__}: {reason}; check "
                f"that python -c 'from {module_name} import {attribute.split('.')[0]}' works in this folder"
            ) from error
    if not isinstance(network, nn.Module):
        raise ModelError(f"{spec}: expected a torch.nn.Module, got {type(network).__name__}; return the network itself")
    return network


@contextlib.contextmanager
def _importable_here() -> Iterator[None]:
    here = str(Path.cwd())
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if added and here in sys.path:
            sys.path.remove(here)


def torchvision_network(name: str, classes: int | None) -> nn.Module:
    """A classifier of torchvision with random weights.

    Raises:
        UsageError: torchvision has no such classifier.
        ModelError: it cannot be built with this number of classes.
    """
    import torchvision

    _check_torchvision_name(name)
    try:
        options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
        if name in ("googlenet", "inception_v3"):
            options |= {"aux_logits": False, "init_weights": True}
        network: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    except Exception as error:
        raise ModelError(f"torchvision:{name}: cannot be built with {classes} classes: {error}") from error
    return network


def torchvision_pretrained(name: str, weights: str, *, download: bool) -> tuple[nn.Module, tuple[str, ...]]:
    """A classifier of torchvision with torchvision's own weights, and the names of its classes.

    Raises:
        UsageError: unknown names; weights that are not there yet without `download`.
        ModelError: the download fails, or the file is not the one that torchvision names.
    """
    import torchvision

    entry = _weights_entry(name, weights)
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name
    digest = re.search(r"-([0-9a-f]{8,})\.", path.name)
    if not path.is_file():
        if not download:
            raise UsageError(
                f"torchvision:{name}: the weights {weights} are not on this machine ({path} is missing); "
                "allow to fetch them with --download"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(entry.url, str(path), digest and digest[1], progress=False)
        except Exception as error:
            raise ModelError(f"torchvision:{name}: the weights could not be fetched: {error}") from error
    if digest is None or not hashlib.sha256(path.read_bytes()).hexdigest().startswith(digest[1]):
        raise ModelError(f"{path}: not the file that torchvision names; remove it, and fetch it with --download")
    try:
        network: nn.Module = torchvision.models.get_model(name, weights=entry)
    except Exception as error:
        raise ModelError(f"{path}: torchvision cannot load it: {error}") from error
    return network, tuple(entry.meta["categories"])


def torchvision_input(name: str, weights: str | None = None) -> InputSpec:
    """What the weights' own preprocessing says, else ImageNet's normalisation at 224 x 224 pixels."""
    try:
        preprocessing = _weights_entry(name, weights or "DEFAULT").transforms()
        size = int(preprocessing.crop_size[0])
        return InputSpec((3, size, size), tuple(preprocessing.mean), tuple(preprocessing.std))
    except (UsageError, AttributeError, IndexError, TypeError):
        return IMAGENET


def _weights_entry(name: str, weights: str) -> Any:
    import torchvision

    _check_torchvision_name(name)
    entries = torchvision.models.get_model_weights(name)
    known = {*entries.__members__}
    if weights not in known:
        raise UnknownNameError(f"weights of {name}", weights, known, remedy="(or a .safetensors, .pt or .pth file)")
    return entries[weights]


def _check_torchvision_name(name: str) -> None:
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name in known:
        return
    if name in torchvision.models.list_models():
        raise UsageError(
            f"torchvision:{name}: expected an image classifier, got a model for another task; robustcheck does image "
            "classification only for now"
        )
    raise UnknownNameError("torchvision model", name, known)
