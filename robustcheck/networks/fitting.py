"""Checks that a model and a data set go together, before anything is trained or evaluated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from robustcheck.errors import FileFormatError, ModelError

if TYPE_CHECKING:
    from robustcheck.networks.loading import Model

_MAX_BYTES: Final = 2**24
_RANGE_CHANNELS: Final = 2
"""Channels of a LIDAR's range images, range and intensity; photographs have 1 or 3."""
_TASK: Final = "robustcheck does image classification only for now"


def check_fit(model: Model, dataset_shape: tuple[int, int, int], dataset_classes: tuple[str, ...]) -> None:
    """Run the network once on grey images of the data's shape, and look at what comes out.

    Args:
        model: from `load_model`; unchanged afterwards.
        dataset_shape: (c, h, w) of the images.
        dataset_classes: names of the classes.

    Raises:
        ModelError: the network is for range images and the data are not, or the other way round; it takes no images of
            this shape, gives no (n, classes) logits, gives another number
            of classes, or names the same classes in another order.

    >>> from robustcheck.networks.loading import load_model
    >>> check_fit(load_model("torchvision:squeezenet1_1", classes=2), (3, 32, 32), ("cat", "dog"))
    """
    stated = model.input.shape
    if stated is not None and (stated[0] == _RANGE_CHANNELS) != (dataset_shape[0] == _RANGE_CHANNELS):
        data = "lidar-scenes" if stated[0] == _RANGE_CHANNELS else "digits or folder:PATH"
        raise ModelError(
            f"{model.origin}: expected {_kind(stated)} of shape {stated}, got {_kind(dataset_shape)} of shape "
            f"{dataset_shape}; use such data (--data {data}), or a network for {_kind(dataset_shape)}"
        )
    if model.runtime is not None and stated is not None and stated != dataset_shape:
        size = "×".join(map(str, stated[1:])).replace("×", "x")
        remedy = f"use --resize {size}" if stated[0] == dataset_shape[0] else "use data with as many channels"
        raise ModelError(
            f"{model.origin}: expected images of (channels, height, width) {stated} as the file states, got "
            f"{dataset_shape}; {remedy}, or check --layout"
        )
    logits = _forward(model, dataset_shape)
    if not isinstance(logits, torch.Tensor):
        raise ModelError(f"{model.origin}: expected (n, classes) logits, got {type(logits).__name__}; {_TASK}")
    if logits.ndim != 2 or logits.shape[0] != 2 or not logits.is_floating_point():
        raise ModelError(
            f"{model.origin}: expected (n, classes) logits, got {tuple(logits.shape)} {logits.dtype} for 2 images; "
            + _TASK
        )
    if not bool(logits.isfinite().all()):
        raise ModelError(
            f"{model.origin}: expected finite logits, got NaN or infinity for a grey image; train it again"
        )
    if logits.shape[1] != len(dataset_classes):
        raise ModelError(
            f"{model.origin}: expected {len(dataset_classes)} classes as in the data, got {logits.shape[1]} logits; "
            "use weights that were trained for these classes, or data of the model's classes"
        )
    names = model.classes
    if names is not None and names != dataset_classes and set(names) == set(dataset_classes):
        raise ModelError(
            f"{model.origin}: expected the data's classes in the model's order {_some(names)}, got "
            f"{_some(dataset_classes)}; give the model's order with --classes FILE, one name a line"
        )


def check_on_images(model: Model, images: torch.Tensor) -> Model:
    """Compare a model that ONNX Runtime can run too on images of the data; the model with a note of how far they are.

    Args:
        model: from `load_model`; any other is returned as it is.
        images: (n, c, h, w) physical values in [0, 1].

    Raises:
        ModelError: the two differ by more than rounding explains.
    """
    if model.runtime is None:
        return model
    from robustcheck.networks.onnx.agreement import image_agreement
    from robustcheck.networks.onnx.module import OnnxNetwork

    assert isinstance(model.network, OnnxNetwork)
    device = next((tensor.device for tensor in model.network.parameters()), torch.device("cpu"))
    try:
        found = image_agreement(model.network, model.runtime.make(), model.input.normalise(images.to(device)))
    except ModelError as error:
        raise ModelError(f"{model.origin}: {error}") from error
    note = f"on {len(images)} images of the data it is within {found:.1e} of ONNX Runtime"
    return replace(model, notes=(*model.notes, note))


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """Names of classes from a UTF-8 text file, one a line; empty lines at the end do not count.

    Raises:
        FileFormatError: the file cannot be read, has fewer than two names, an empty one, or one twice.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise FileFormatError(f"{path}: expected a list of class names, got more than 16 MiB")
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path}: cannot be read as text: {error}") from error
    seen: dict[str, int] = {}
    for number, name in enumerate(lines, start=1):
        if not name:
            raise FileFormatError(f"{path}, line {number}: expected the name of a class, got an empty line")
        if name in seen:
            raise FileFormatError(f"{path}, line {number}: {name!r} stands on line {seen[name]} already")
        seen[name] = number
    if len(lines) < 2:
        raise FileFormatError(f"{path}: expected two or more class names, one a line, got {len(lines)}")
    return tuple(lines)


def _kind(shape: tuple[int, int, int]) -> str:
    return "range images (range, intensity)" if shape[0] == _RANGE_CHANNELS else "images in grey or colour"


def _forward(model: Model, shape: tuple[int, int, int]) -> object:
    device = next((tensor.device for tensor in model.network.parameters()), torch.device("cpu"))
    modes = {module: module.training for module in model.network.modules()}
    model.network.eval()
    try:
        with torch.no_grad():
            output: object = model.network(model.input.normalise(torch.full((2, *shape), 0.5, device=device)))
        return output
    except ModelError as error:
        raise ModelError(f"{model.origin}: {error}") from error
    except Exception as error:
        if model.origin.startswith("architecture:") and model.input.shape != shape:
            made_for = "others" if model.input.shape is None else str(model.input.shape)
            raise ModelError(
                f"{model.origin}: expected a network that takes the data's images of shape {shape}, got one for "
                f"{made_for}; {_respelt(model.origin, shape)}"
            ) from error
        wanted = "" if model.input.shape is None else f" (it was made for {model.input.shape})"
        raise ModelError(
            f"{model.origin}: expected a network that takes the data's images of shape {shape}, got "
            f"{type(error).__name__}: {' '.join(str(error).split())}{wanted}; {_remedy(model, shape)}"
        ) from error
    finally:
        for module, training in modes.items():
            module.training = training


def _respelt(origin: str, shape: tuple[int, int, int]) -> str:
    """What an architecture's options must be for images of this shape."""
    channels, height, width = shape
    name = origin.removeprefix("architecture:").partition("(")[0]
    if name in ("rangenet", "pointnet") and channels != _RANGE_CHANNELS:
        return "use range images (--data lidar-scenes), or another architecture"
    if name == "rangenet":
        return f"write rows={height}, columns={width} among its options"
    if name == "pointnet":
        return f"write columns={width} and {height} angles of elevation_deg among its options"
    if height != width:
        return (
            f"make the images square with --resize {height}x{height}, and write in_channels={channels}, "
            f"image_size={height} among its options"
        )
    return f"write in_channels={channels}, image_size={height} among its options"


def _remedy(model: Model, shape: tuple[int, int, int]) -> str:
    wanted = model.input.shape
    if shape[0] == 1 and (wanted is None or wanted[0] != 1):
        return "the data is grey: use data in colour, or a network for grey images; otherwise check --resize, --layout"
    if wanted is not None and wanted[0] == 1 != shape[0]:
        return "the network is for grey images: use grey data, or a network for colour"
    return "check --resize and --crop of the data, and --layout and --mean of the model"


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
