"""Writes a model in the form that a file's suffix asks for, and only if the file gives the model's outputs."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from robustcheck.errors import ModelError, UsageError
from robustcheck.networks.loading import Model
from robustcheck.networks.saving import save_model
from robustcheck.networks.site import KnowsItsSites


@dataclass(frozen=True)
class Written:
    """The files that were written, and how they were compared with the model."""

    files: tuple[Path, ...]
    checked: str


def write_model(model: Model, path: str | Path, shape: tuple[int, int, int] | None = None) -> Written:
    """Write a model, swapped and trained as it may be; the files appear whole, and only if they are right.

    A model that came from an ONNX file is written into that same file's graph. Another torch network is exported, or
    saved as weights with a recipe.

    Args:
        model: from `load_model`; unchanged.
        path: `NAME.onnx`, or `NAME.toml` for a recipe with `NAME.safetensors` beside it.
        shape: (c, h, w) of the images, for an export where the model does not say it.

    Raises:
        UsageError: another suffix; a recipe of an ONNX file; a shape that is not known.
        ModelError: the model cannot be written, or what was written computes something else.
    """
    path = Path(path)
    on_graph = isinstance(model.network, KnowsItsSites)
    if path.suffix == ".toml" and on_graph:
        raise UsageError(f"{path}: expected NAME.onnx, since {model.origin} is written back in the form it came in")
    if path.suffix == ".toml":
        save_model(model, path)
        return Written((path, path.with_suffix(".safetensors")), "loaded again, it is the same network bit for bit")
    if path.suffix != ".onnx":
        raise UsageError(f"{path}: expected NAME.onnx or NAME.toml")
    return _write_graph(model, path) if on_graph else _export(model, path, shape)


def _write_graph(model: Model, path: Path) -> Written:
    from robustcheck.networks.onnx.module import OnnxNetwork
    from robustcheck.networks.onnx.writing import write_onnx

    assert isinstance(model.network, OnnxNetwork)
    found = write_onnx(model.network, path)
    return Written(_files(path), f"{_against(found.runtime, found.optimisation)} {found.difference:.1e}")


def _export(model: Model, path: Path, shape: tuple[int, int, int] | None) -> Written:
    from robustcheck.networks.onnx.agreement import exported_agreement
    from robustcheck.networks.onnx.exporting import export_onnx

    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
            made = Path(folder) / path.name
            export_onnx(model, made, shape=shape)
            found = exported_agreement(model.network, made)
            for part in sorted(Path(folder).iterdir(), reverse=True):
                part.replace(path.parent / part.name)
    except OSError as error:
        raise ModelError(f"{path.parent}: expected a folder that can be written, got {error}") from error
    return Written(_files(path), f"{_against(found.runtime, found.optimisation)} {found.difference:.1e}")


def _files(path: Path) -> tuple[Path, ...]:
    return tuple(each for each in (path, path.with_name(path.name + ".data")) if each.exists())


def _against(runtime: str, optimisation: str) -> str:
    return f"run in ONNX Runtime {runtime} ({optimisation} optimisations), it differs from the network by at most"
