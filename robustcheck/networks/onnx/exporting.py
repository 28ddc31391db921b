"""Writes a torch model as an ONNX file, by torch's own exporters."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import torch
from torch import nn

from robustcheck.errors import ModelError, UsageError
from robustcheck.networks.loading import Model

_LARGEST: Final = 2**31 - 2**26
_INPUT, _OUTPUT = "input", "logits"


@dataclass(frozen=True)
class Exported:
    """A written file, the exporter that wrote it, and why the default one did not, where it did not."""

    path: Path
    exporter: Literal["default", "legacy"]
    reason: str = ""


def export_onnx(
    model: Model, path: str | Path, *, opset: int | None = None, shape: tuple[int, int, int] | None = None
) -> Exported:
    """Write the model in evaluation mode, for any number of normalised images; the caller compares the file's outputs.

    torch's default exporter is tried first, and the legacy one where that fails. Weights beyond 2 GB lie beside the
    file, in `NAME.onnx.data`.

    Args:
        model: any torch model; unchanged.
        path: of the file; its folder exists.
        opset: of ONNX; the exporter's own choice by default.
        shape: (c, h, w) of the images, where the model's input does not say it.

    Raises:
        UsageError: what exporting needs is not installed, or the shape is not known.
        ModelError: neither exporter can write this network, or the folder cannot be written.
    """
    path = Path(path)
    shape = shape or model.input.shape
    if shape is None:
        raise UsageError(
            f"{model.origin}: expected a model that says the shape of its images, got none; name data with --data, "
            "whose images are taken"
        )
    modes = {module: module.training for module in model.network.modules()}
    model.network.eval()
    try:
        device = next((tensor.device for tensor in model.network.parameters()), torch.device("cpu"))
        # Unlike numbers in the image, so that nothing folds by chance, and two images, since one is often special.
        images = torch.linspace(0, 1, 2 * shape[0] * shape[1] * shape[2], device=device).reshape(2, *shape)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".exporting-") as folder, _silence():
            made = _export(model, model.input.normalise(images), Path(folder) / path.name, opset)
            for part in sorted(Path(folder).iterdir(), reverse=True):
                part.replace(path.parent / part.name)
    except OSError as error:
        raise ModelError(f"{path.parent}: expected a folder that can be written, got {error}") from error
    finally:
        for module, training in modes.items():
            module.training = training
    return Exported(path, made.exporter, made.reason)


@torch.no_grad()  # without gradients a surrogate is its value alone
def _export(model: Model, x: torch.Tensor, path: Path, opset: int | None) -> Exported:
    try:
        _by_default(model.network, x, path, opset)
        return Exported(path, "default")
    except OSError:
        raise
    except Exception as error:
        if isinstance(error, ImportError) and error.name in ("onnx", "onnxscript"):
            raise UsageError(
                f"{path.name}: writing ONNX needs the packages onnx and onnxscript, got {error}; pip install "
                "'robustcheck[onnx]'"
            ) from error
        reason = _first_line(error)
    try:
        _by_legacy(model.network, x, path, opset)
    except OSError:
        raise
    except Exception as error:
        raise ModelError(
            f"{model.origin}: torch cannot write this network as ONNX; its default exporter says: {reason}; its legacy "
            f"exporter says: {_first_line(error)}"
        ) from error
    return Exported(path, "legacy", reason)


def _by_default(network: nn.Module, x: torch.Tensor, path: Path, opset: int | None) -> None:
    torch.onnx.export(
        network,
        (x,),
        path,
        dynamo=True,
        verbose=False,
        opset_version=opset,
        input_names=[_INPUT],
        output_names=[_OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=_size(network) > _LARGEST,
    )


def _by_legacy(network: nn.Module, x: torch.Tensor, path: Path, opset: int | None) -> None:
    for part in path.parent.iterdir():
        part.unlink()
    torch.onnx.export(
        network,
        (x,),
        str(path),
        dynamo=False,
        verbose=False,
        opset_version=opset,
        input_names=[_INPUT],
        output_names=[_OUTPUT],
        dynamic_axes={_INPUT: {0: "batch"}, _OUTPUT: {0: "batch"}},
    )


def _size(network: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporters' prints, warnings and logs off the terminal; errors are raised all the same."""
    disabled = logging.root.manager.disable
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(disabled)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
