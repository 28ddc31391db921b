"""From an ONNX file to a network that takes images, with all that was assumed and verified on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor, nn

from robustcheck.errors import ModelError
from robustcheck.networks.inputs import InputSpec, Layout
from robustcheck.networks.onnx.agreement import agreement
from robustcheck.networks.onnx.graph import Graph, Value, note
from robustcheck.networks.onnx.module import OnnxNetwork
from robustcheck.networks.onnx.reading import OnnxFile, read_onnx
from robustcheck.networks.onnx.runtime import RuntimeNetwork

_FLOATS: Final = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
_LARGEST: Final = 2**31 - 2**20
_SHOWN: Final = 5
_TINY: Final = 1e-3
_CHANNELS: Final = (1, 3, 4)
_NORMALISATIONS: Final = frozenset(
    {"BatchNormalization", "LayerNormalization", "GroupNormalization", "InstanceNormalization", "RMSNormalization"}
)


@dataclass(frozen=True)
class LoadedOnnx:
    """A classifier from an ONNX file.

    `notes` say what was assumed and verified. `runtime` makes a network that has ONNX Runtime run the file itself.
    """

    network: OnnxNetwork
    input: InputSpec
    notes: tuple[str, ...]
    runtime: Callable[[], nn.Module]


def load_onnx(path: str | Path, hint: tuple[int, int, int] | None = None) -> LoadedOnnx:
    """Read, check and run a file that takes images, and compare it with ONNX Runtime.

    Args:
        path: of the file.
        hint: channels, height and width to try where the file leaves them open.

    Raises:
        ModelError: the file cannot be read or run, does not take one float tensor of images, or ONNX Runtime computes
            something else; see `read_onnx`, `OnnxNetwork` and `agreement`.
        UnsafeFileError: its external data lie outside of its folder.
    """
    file = read_onnx(path, trial=True, hint=hint)
    given = _one_image_input(file)
    if len(file.graph.outputs) != 1:
        names = ", ".join(value.name for value in file.graph.outputs)
        raise ModelError(
            f"{path}: expected one output, (n, classes) logits, got {len(file.graph.outputs)}: {names}; cut the graph "
            "with onnx.utils.extract_model to the one that classifies"
        )
    if file.graph.outputs[0].element_type not in _FLOATS:
        raise ModelError(
            f"{path}: expected (n, classes) logits, got {file.graph.outputs[0].name} "
            f"{_shape_text(file.graph.outputs[0])}; export the network without its last function"
        )
    network = OnnxNetwork(file, logits=True).eval()
    assert file.trial is not None
    found = agreement(network, file.trial, file.path)
    spec = _input_spec(given)
    notes = (
        f"agrees with ONNX Runtime {found.runtime} ({found.optimisation} optimisations) on random inputs within "
        f"{found.difference:.1e} (allowed: {found.tolerance:.0e})",
        *_assumptions(given, spec),
        *_facts(network),
        *file.notes,
    )
    return LoadedOnnx(network, spec, notes, lambda: runtime_network(network))


def runtime_network(network: OnnxNetwork) -> nn.Module:
    """A network that has ONNX Runtime run the file as it is, giving what the network gives."""
    graph, path = network.graph, network.file.path
    # The bytes that were read: the file may be another by the time it is used.
    whole = network.file.proto.ByteSize() < _LARGEST
    model = network.file.proto.SerializeToString() if whole else path.resolve()
    runs = RuntimeNetwork(
        model, input_name=graph.inputs[0].name, output_name=graph.outputs[0].name, batch=network.batch
    )
    probabilities = network.softmax and isinstance(network.final_softmax, nn.Softmax)
    return nn.Sequential(runs, _Logarithm()) if probabilities else runs


class _Logarithm(nn.Module):
    """Logits of probabilities: a softmax of them gives the probabilities again."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(min=torch.finfo(x.dtype).tiny).log()


def _one_image_input(file: OnnxFile) -> Value:
    inputs = file.graph.inputs
    if len(inputs) != 1 or inputs[0].element_type not in _FLOATS:
        listed = ", ".join(f"{value.name} {_shape_text(value)}" for value in inputs)
        raise ModelError(
            f"{file.path}: expected one input of floats, images, got {listed}; robustcheck does image classification "
            "only for now"
        )
    return inputs[0]


def _input_spec(given: Value) -> InputSpec:
    """What the file says of its images; sizes that are open are the data's."""
    shape = given.shape
    layout: Layout = "NCHW"
    if shape is None or len(shape) != 4:
        return InputSpec()
    if shape[3] in _CHANNELS and shape[1] not in _CHANNELS:
        layout = "NHWC"
        shape = (shape[0], shape[3], shape[1], shape[2])
    c, h, w = shape[1:]
    if isinstance(c, int) and isinstance(h, int) and isinstance(w, int):
        return InputSpec((c, h, w), layout=layout)
    return InputSpec(layout=layout)


def _assumptions(given: Value, spec: InputSpec) -> tuple[str, ...]:
    if given.shape is not None and len(given.shape) != 4:
        return (
            f"input {given.name!r} {_shape_text(given)} is no batch of images (n, channels, height, width): the "
            "network can be shown and swapped, but not audited or compared",
        )
    return (
        f"input {given.name!r} {_shape_text(given)} is taken to be {spec.layout}, RGB, in [0, 1], not normalised, "
        "unless --layout, --channel-order, --input-range, --mean and --std say otherwise: ONNX does not state it",
    )


def _facts(network: OnnxNetwork) -> list[str]:
    graph = network.graph
    facts = []
    folded = _folded(graph)
    if folded:
        facts.append(
            f"batch normalisation was folded into {folded} convolution{'s' if folded > 1 else ''} when the file was "
            "exported: --train scratch trains without it"
        )
    if network.softmax:
        facts.append("the softmax at the end is left away here, since training needs logits; it stays in the file")
    if _is_tiny(network):
        facts.append("the outputs for random inputs are tiny, so that their agreement says little: weights are random?")
    if not network.softmax and _looks_like_probabilities(network):
        facts.append(
            "the outputs look like probabilities: training and the confidence in reports need logits; export the "
            "network without its last function"
        )
    if network.batch is not None:
        facts.append(
            f"the file fixes its batch to {network.batch}: batches are run in pieces, which is slower, and batch "
            "normalisation keeps its statistics in training"
        )
    if network.untrained:
        more = len(network.untrained) - _SHOWN
        names = ", ".join(network.untrained[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
        facts.append(f"not taken for weights, so not trained: {names}")
    if graph.is_half:
        facts.append("half precision is computed and trained in float32, and rounded when it is written")
    return facts


def _is_tiny(network: OnnxNetwork) -> bool:
    assert network.file.trial is not None
    found = network.file.trial.outputs[network.graph.outputs[0].name]
    return found.size > 0 and float(np.abs(found.astype(np.float64)).max()) < _TINY


def _looks_like_probabilities(network: OnnxNetwork) -> bool:
    """Whether all outputs for random inputs lie between 0 and 1, and are not all the same."""
    assert network.file.trial is not None
    found = network.file.trial.outputs[network.graph.outputs[0].name]
    return found.size > 1 and bool((found >= 0).all() and (found <= 1).all() and found.max() > found.min())


def _folded(graph: Graph) -> int:
    """How many convolutions hold a batch norm that the exporter folded in, by the exporter's own names."""
    if any(node.op in _NORMALISATIONS for node in graph.nodes):
        return 0
    fused = [
        node
        for node in graph.nodes
        if node.op == "Conv"
        and (
            "FuseBatchNorm" in node.metadata.get("pkg.onnxscript.rewriter.rule_name", "")
            or any("BatchNorm" in scope for scope in note(node, "pkg.torch.onnx.class_hierarchy"))
            or (len(node.inputs) > 1 and node.inputs[1].startswith("onnx::Conv_"))
        )
    ]
    return len(fused)


def _shape_text(value: Value) -> str:
    kind = _FLOATS.get(value.element_type) or TensorProto.DataType.Name(value.element_type).lower()
    shape = "of any shape" if value.shape is None else f"({', '.join(str(size or '?') for size in value.shape)})"
    return f"{kind} {shape}"
