"""The 48 files of the export matrix, and what to compare networks made from them with."""

from __future__ import annotations

import copy
import itertools
import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import export_networks as networks
import numpy as np
import onnx
import torch
from graph_difference import session
from onnx import numpy_helper
from torch import Tensor, nn

Exporter = Literal["default", "legacy"]
EXPORTERS: Final[tuple[Exporter, ...]] = ("default", "legacy")
OPSETS: Final = (17, 18, 20, 22)


@dataclass(frozen=True)
class Combination:
    """One file of the matrix; `requested` is the opset that the exporter was asked for."""

    network: str
    exporter: Exporter
    requested: int

    @property
    def stem(self) -> str:
        """The file's name without suffix."""
        return f"{self.network.replace(' ', '-')}-{self.exporter}-{self.requested}"


COMBINATIONS: Final = tuple(Combination(*each) for each in itertools.product(networks.NETWORKS, EXPORTERS, OPSETS))


def export(combination: Combination, folder: Path) -> Path:
    """The file of a combination, made where it is not in the folder yet; raises what the exporter raises."""
    path = folder / f"{combination.stem}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        export_network(
            networks.build(combination.network),
            networks.inputs(2),
            unfinished,
            exporter=combination.exporter,
            opset=combination.requested,
        )
        unfinished.rename(path)
    return path


def export_network(
    network: nn.Module,
    x: Tensor,
    path: Path,
    *,
    exporter: Exporter,
    opset: int | None = None,
    dynamic: bool = True,
) -> None:
    """Write a network as one ONNX file by either of torch's exporters; `dynamic` leaves the batch size open."""
    network = copy.deepcopy(network).eval()
    common: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"], "opset_version": opset, "verbose": False}
    if exporter == "default":
        common |= {"dynamo": True, "external_data": False, "dynamic_shapes": ({0: "batch"},) if dynamic else None}
    else:
        common |= {"dynamo": False, "dynamic_axes": {"x": {0: "batch"}, "y": {0: "batch"}} if dynamic else None}
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(network, (x,), str(path), **common)
    finally:
        logging.disable(logging.NOTSET)


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that a file states."""
    return next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def runtime(path: Path, x: Tensor) -> Tensor:
    """The first output of a file in ONNX Runtime."""
    run = session(str(path))
    return torch.from_numpy(run.run(None, {run.get_inputs()[0].name: x.numpy()})[0])


def relative(got: Tensor, expected: Tensor) -> float:
    """max |a − b| over max(1, max |b|); infinite where a shape differs or a value is not finite."""
    if got.shape != expected.shape or not torch.isfinite(got).all():
        return float("inf")
    return float((got - expected).abs().max() / expected.abs().max().clamp(min=1))


def expected_weights(source: nn.Module, proto: onnx.ModelProto) -> int:
    """How many weights of a network a file still holds.

    A batch normalisation is folded where none in the file has its mean: its scale and shift are gone then, and its
    convolution has a bias.
    """
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    means = [kept.get(node.input[3]) for node in proto.graph.node if node.op_type == "BatchNormalization"]
    count = sum(parameter.numel() for parameter in source.parameters())
    for norm, layer in _normalised(source):
        mean = norm.running_mean.numpy()
        if not any(each is not None and np.array_equal(each, mean) for each in means):
            count -= 2 * norm.num_features
            count += norm.num_features if layer.bias is None else 0
    return count


def _normalised(source: nn.Module) -> list[tuple[Any, Any]]:
    """Each batch normalisation with the module that runs just before it."""
    order: list[nn.Module] = []
    leaves = [module for module in source.modules() if not list(module.children())]
    hooks = [leaf.register_forward_hook(lambda module, *_: order.append(module)) for leaf in leaves]
    source(networks.inputs(1))
    for hook in hooks:
        hook.remove()
    return [(b, a) for a, b in itertools.pairwise(order) if isinstance(b, nn.BatchNorm2d)]
