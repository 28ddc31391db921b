"""Writes a network back into its ONNX file: new weights, new activation nodes, and nothing else changed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from onnx.external_data_helper import set_external_data
from torch import nn

from robustcheck.errors import ModelError
from robustcheck.networks.kinds import module_kind
from robustcheck.networks.onnx.agreement import Agreement, written_agreement
from robustcheck.networks.onnx.emission import Emission, emit
from robustcheck.networks.onnx.module import OnnxNetwork
from robustcheck.networks.onnx.patterns import Pattern
from robustcheck.networks.onnx.trial import Trial

_SMALL: Final = 1024
_ONE_FILE: Final = 2**31 - 2**20
"""A protobuf message holds no more; larger networks have their tensors in a second file."""


def write_onnx(network: OnnxNetwork, path: str | Path, trial: Trial | None = None) -> Agreement:
    """Write the network's file with its present weights and activations; it appears whole, and only if it is right.

    Tensors lie in a second file, `NAME.data`, where they did in the file that was read, or where one cannot hold them.

    Args:
        network: loaded from a file, swapped and trained as it may be; on any device; unchanged.
        path: ends in .onnx; an existing file is replaced.
        trial: inputs to compare on; those of the file's loading where absent.

    Returns:
        How far ONNX Runtime's outputs of the written file are from the network's own.

    Raises:
        ModelError: the folder cannot be written, or ONNX Runtime computes something else than the network.
    """
    path = Path(path)
    proto = written(network)
    external = network.file.external or proto.ByteSize() > _ONE_FILE
    try:
        with tempfile.TemporaryDirectory(prefix=".robustcheck-", dir=path.parent) as folder:
            made = Path(folder) / path.name
            if external:
                _move_out(proto, made.with_name(path.name + ".data"))
            made.write_bytes(proto.SerializeToString())
            agreement = written_agreement(network, made, trial)
            if external:
                made.with_name(path.name + ".data").replace(path.with_name(path.name + ".data"))
            made.replace(path)
    except OSError as error:
        raise ModelError(f"{path}: expected a folder that can be written, got {error}") from error
    return agreement


def _move_out(proto: onnx.ModelProto, data: Path) -> None:
    """Write the larger initialisers into a file beside the model's, each from an address that is a multiple of 64."""
    with data.open("wb") as file:
        for tensor in proto.graph.initializer:
            if len(tensor.raw_data) < _SMALL:
                continue
            file.write(b"\0" * (-file.tell() % 64))
            set_external_data(tensor, data.name, offset=file.tell(), length=len(tensor.raw_data))
            file.write(tensor.raw_data)
            tensor.ClearField("raw_data")
    if data.stat().st_size == 0:
        data.unlink()


def written(network: OnnxNetwork) -> onnx.ModelProto:
    """The file's model with the network's present weights and activations."""
    proto = onnx.ModelProto()
    proto.CopyFrom(network.file.proto)
    _put_weights(network, proto)
    changed = [_Change(path, pattern, network.get_submodule(path)) for path, pattern in network.sites.items()]
    changed = [change for change in changed if change.kind != change.pattern.kind]
    for graph_index, graph in enumerate(_graphs(proto.graph)):
        here = [change for change in changed if _index(network, change.pattern) == graph_index]
        if here:
            _replace(graph, here, network.graph.opset)
    return proto


@dataclass(frozen=True)
class _Change:
    """A site whose activation is another than in the file."""

    path: str
    pattern: Pattern
    module: nn.Module

    @property
    def kind(self) -> str:
        return module_kind(self.module) or self.pattern.kind


def _index(network: OnnxNetwork, pattern: Pattern) -> int:
    """Which of the file's graphs a pattern stands in, in the order of `_graphs`."""
    graphs = [network.graph, *(body for _, node in network.graph.walk() for body in node.subgraphs)]
    return graphs.index(pattern.graph)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The main graph, then the sub-graphs in the order in which `Graph.walk` meets their nodes."""
    yield graph
    yield from _bodies(graph)


def _bodies(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    for node in graph.node:
        bodies = [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
        yield from bodies
        for body in bodies:
            yield from _bodies(body)


def _put_weights(network: OnnxNetwork, proto: onnx.ModelProto) -> None:
    sparse = {each.values.name: each for each in proto.graph.sparse_initializer}
    for name, tensor in [*_tensors(proto.graph), *((name, each.values) for name, each in sparse.items())]:
        old = network.graph.initialisers[name] if name in sparse else numpy_helper.to_array(tensor)
        new = _value(network, name, old.dtype)
        if new is None or _same(old, new):
            continue
        if name in sparse:
            proto.graph.sparse_initializer.remove(sparse[name])
            proto.graph.initializer.append(numpy_helper.from_array(new, name))
            continue
        for kind in ("raw_data", "float_data", "double_data", "int32_data"):
            tensor.ClearField(kind)
        tensor.raw_data = numpy_helper.from_array(new, name).raw_data
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    for tie in network.ties:
        new = _value(network, tie.copy, stored[tie.original].dtype)
        if new is None or _same(stored[tie.original], new):
            continue
        if tie.copy not in stored:
            stored[tie.copy] = new
            proto.graph.initializer.append(numpy_helper.from_array(new, tie.copy))
        proto.graph.node[tie.node].input[tie.position] = tie.copy


def _value(network: OnnxNetwork, name: str, dtype: np.dtype[Any]) -> np.ndarray[Any, Any] | None:
    """What the network has for a tensor of the file, in the file's type; None where the network does not change it."""
    if name not in network.stored:
        return None
    path, attribute = network.stored[name]
    held = getattr(network.get_submodule(path), attribute, None)
    if not isinstance(held, torch.Tensor):
        return None
    value = held.detach().cpu().double().numpy()
    with np.errstate(over="ignore"):
        new = value.astype(dtype)
    if not np.isfinite(new.astype(np.float64)).all():
        what = f"numbers that {dtype} can hold" if np.isfinite(value).all() else "finite numbers"
        raise ModelError(f"{path}.{attribute} ({name}): expected {what}, got others; train again at a lower rate")
    return new


def _same(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def _tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Initialisers, and tensors of Constant nodes, by the names of their values."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            yield node.output[0], node.attribute[0].t


def _replace(graph: onnx.GraphProto, changes: list[_Change], opset: int) -> None:
    """Put new nodes in the place of old ones, and drop the constants and notes that only those had."""
    emitted: dict[int, Emission] = {
        change.pattern.nodes[-1].index: emit(
            change.module,
            change.kind,
            source=change.pattern.input,
            target=change.pattern.output,
            opset=opset,
            element_type=change.pattern.element_type,
            prefix=change.path,
            rank=None if change.pattern.shape is None else len(change.pattern.shape),
        )
        for change in changes
    }
    removed = {node.index for change in changes for node in change.pattern.nodes}
    old_inputs = {name for index in removed for name in graph.node[index].input}
    gone = {name for index in removed for name in graph.node[index].output} - {c.pattern.output for c in changes}
    nodes: list[onnx.NodeProto] = []
    for index, node in enumerate(graph.node):
        if index in emitted:
            nodes.extend(emitted[index].nodes)
        elif index not in removed:
            nodes.append(node)
    read = _read_names(nodes) | {value.name for value in graph.output}
    orphans = old_inputs - read
    nodes = [node for node in nodes if node.op_type != "Constant" or node.output[0] not in orphans]
    gone |= orphans
    tensors = [tensor for tensor in graph.initializer if tensor.name not in orphans]
    tensors += [tensor for emission in emitted.values() for tensor in emission.initialisers]
    kept_info = [info for info in graph.value_info if info.name not in gone]
    kept_inputs = [info for info in graph.input if info.name not in orphans]
    for field, kept in (("node", nodes), ("initializer", tensors), ("value_info", kept_info), ("input", kept_inputs)):
        copies = [type(each).FromString(each.SerializeToString()) for each in kept]
        graph.ClearField(field)
        getattr(graph, field).extend(copies)


def _read_names(nodes: list[onnx.NodeProto]) -> set[str]:
    names = {name for node in nodes for name in node.input}
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                names |= _read_names(list(attribute.g.node)) | {value.name for value in attribute.g.output}
    return names
