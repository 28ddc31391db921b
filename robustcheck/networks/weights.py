"""Reads weight files safely and puts them into a network; hashes networks."""

from __future__ import annotations

import hashlib
import inspect
import pickle
import re
import sys
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from robustcheck.errors import ModelError, UnsafeFileError, UsageError

MAX_BYTES: Final = 8 * 2**30
SUFFIXES: Final = (".safetensors", ".pt", ".pth")
_NESTED: Final = ("state_dict", "model_state_dict", "model")
_SHOWN: Final = 5
_LIBRARIES: Final = ("torch", "torchvision", "robustcheck")


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Put the weights of a file into a network, which is changed only if everything fits.

    Args:
        network: built with the architecture that the weights are for.
        path: `.safetensors`, or `.pt` or `.pth` with a state dictionary (also under a key `state_dict` or `model`, and
            with the prefix `module.` of parallel training).

    Raises:
        UsageError: the suffix is none of these.
        UnsafeFileError: the file needs code to be run (a pickle of objects, TorchScript).
        ModelError: the file is missing, over 8 GiB or damaged; weights are missing, too many or of the wrong shape;
            a weight is NaN or infinite.
    """
    path = Path(path)
    state = _plain_state(_read(path), path)
    expected = network.state_dict()
    _check_names(state, expected, path)
    network.load_state_dict(state)
    check_finite(network, str(path))


def check_finite(network: nn.Module, origin: str) -> None:
    """Raise ModelError where a weight or buffer is NaN or infinite, and name it."""
    for name, tensor in network.state_dict().items():
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            bad = int((~tensor.isfinite()).sum())
            raise ModelError(
                f"{origin}: expected finite weights, got {bad} NaN or infinite of {tensor.numel()} in {name!r}; train "
                "again or take an earlier checkpoint"
            )


def module_source(name: str) -> str:
    """The source of a user's own Python module; empty for libraries, whose versions are recorded, and where unknown."""
    if name.split(".")[0] in _LIBRARIES:
        return ""
    try:
        return inspect.getsource(sys.modules[name])
    except (KeyError, OSError, TypeError):
        return ""


def model_sha256(network: nn.Module, identity: str = "") -> str:
    """Hash of the architecture (classes and options of all modules, the source of a user's own) and of all tensors.

    Args:
        network: on any device.
        identity: more that the hash is to cover.

    >>> model_sha256(nn.ReLU()) == model_sha256(nn.ReLU()) != model_sha256(nn.GELU())
    True
    """
    digest = hashlib.sha256(identity.encode() + b"\0")
    for path, module in network.named_modules():
        kind = type(module)
        # Functions among the options are shown with their address, which changes from run to run.
        options = re.sub(r" at 0x[0-9a-fA-F]+", "", module.extra_repr())
        digest.update(f"{path}\0{kind.__module__}.{kind.__qualname__}\0{options}\0".encode())
    for name in sorted({type(module).__module__ for module in network.modules()}):
        digest.update(module_source(name).encode())
    for name, tensor in network.state_dict().items():
        if isinstance(tensor, Tensor):
            digest.update(f"{name}\0{tuple(tensor.shape)}\0{tensor.dtype}\0".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(flat.numpy().data)
    return digest.hexdigest()


def _read(path: Path) -> Any:
    if path.suffix not in SUFFIXES:
        raise UsageError(f"weights {path}: expected a .safetensors, .pt or .pth file; {_HOW_TO_SAVE}")
    if not path.is_file():
        raise ModelError(f"weights {path}: expected a file, found none; check the path of --weights")
    if path.stat().st_size > MAX_BYTES:
        raise ModelError(f"weights {path}: expected at most 8 GiB, got {path.stat().st_size / 2**30:.1f} GiB")
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"weights {path}: expected a safetensors file, got {error}; {_DAMAGED}") from error
    return state


def _read_torch(path: Path) -> Any:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
            if any(Path(entry.filename).name == "constants.pkl" for entry in entries):
                raise UnsafeFileError(
                    f"weights {path}: expected a state dictionary, got TorchScript, which is code; "
                    f"load the network that the script was made from, {_HOW_TO_SAVE}"
                )
            if sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise ModelError(f"weights {path}: expected at most 8 GiB, got more once unpacked")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        if wanted is None:
            raise ModelError(f"weights {path}: expected a torch file, got something else; {_DAMAGED}") from error
        raise UnsafeFileError(
            f"weights {path}: expected tensors only, got a pickle that needs {wanted[1]} and could run code when it is "
            f"read, so it was not opened; where you trust the file, load it yourself and {_HOW_TO_SAVE}"
        ) from error
    except (ModelError, UsageError):
        raise
    except Exception as error:
        raise ModelError(f"weights {path}: expected a torch file, got {_first_line(error)}; {_DAMAGED}") from error


def _plain_state(loaded: Any, path: Path) -> dict[str, Tensor]:
    """The state dictionary inside a checkpoint, without the prefix of parallel training."""
    for key in _NESTED:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    if not isinstance(loaded, Mapping) or not loaded:
        raise ModelError(f"weights {path}: expected a state dictionary, got {type(loaded).__name__}; {_HOW_TO_SAVE}")
    state = {}
    for name, tensor in loaded.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ModelError(
                f"weights {path}: expected tensors by name, got {type(tensor).__name__} for {name!r}; {_HOW_TO_SAVE}"
            )
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise ModelError(f"weights {path}: expected dense float tensors, got {tensor.layout} for {name!r}")
        # A view may claim to be far larger than what the file holds.
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ModelError(f"weights {path}: {name!r} claims more numbers than the file holds; {_DAMAGED}")
        state[name] = tensor
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def _check_names(state: Mapping[str, Tensor], expected: Mapping[str, Any], path: Path) -> None:
    missing = [name for name in expected if name not in state]
    unknown = [name for name in state if name not in expected]
    misfits = [
        f"{name} (expected {tuple(expected[name].shape)}, got {tuple(tensor.shape)})"
        for name, tensor in state.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    problems = [
        f"{what}: {', '.join(names[:_SHOWN])}{f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''}"
        for what, names in (("missing", missing), ("unexpected", unknown), ("of another shape", misfits))
        if names
    ]
    if problems:
        raise ModelError(
            f"weights {path}: expected the {len(expected)} tensors of the network, got some "
            + "; ".join(problems)
            + "; use the architecture and the number of classes that these weights were trained with"
        )


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:200]}" if text else type(error).__name__


_DAMAGED = "the file is damaged or of another kind; make or copy it again"
_HOW_TO_SAVE = (
    "save the weights as a state dictionary: "
    'from safetensors.torch import save_file; save_file(network.state_dict(), "weights.safetensors")'
)
