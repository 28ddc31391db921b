"""An ONNX graph as plain records: nodes, values, constants, and who makes and reads each value."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

_HALF = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
Dimension = int | str | None
"""A size, the name of a size that is known only at run time, or nothing."""


@dataclass(frozen=True)
class Value:
    """What the file says about a tensor: ONNX element type (0 where unknown) and shape (None where unknown)."""

    name: str
    element_type: int = 0
    shape: tuple[Dimension, ...] | None = None


@dataclass(frozen=True, eq=False)
class Node:
    """One node. `op` has the domain in front where it is not ONNX's own, as in `com.microsoft::Gelu`.

    `attributes` hold int, float, str, lists of these, tensors as numpy arrays, and sub-graphs as `Graph`. An absent
    optional input is ''. `metadata` is what the exporter noted.
    """

    index: int
    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """For errors: the operator with the node's name, or its output's where it has none."""
        return f"{self.op} {self.name or self.outputs[0]!r}"

    @cached_property
    def subgraphs(self) -> tuple[Graph, ...]:
        """The bodies of If, Loop and Scan."""
        return tuple(value for value in self.attributes.values() if isinstance(value, Graph))


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph with its nodes in the order of the file, which is an order of execution.

    `inputs` leaves out what initialisers give; `values` has all that is known about types and shapes; `opset` is the
    version of ONNX's own operators. A sub-graph's `parent` is the graph that its node stands in. `origins` has, where
    the exporter says so, what a constant was in the source: PARAMETER, BUFFER, CONSTANT_TENSOR; `exporter` names it.
    """

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    initialisers: Mapping[str, np.ndarray[Any, Any]]
    values: Mapping[str, Value]
    opset: int
    parent: Graph | None = None
    origins: Mapping[str, str] = field(default_factory=dict)
    exporter: str = ""

    @cached_property
    def is_half(self) -> bool:
        """Whether any value is of half precision."""
        return any(value.element_type in _HALF for value in self.values.values())

    @cached_property
    def _producers(self) -> dict[str, Node]:
        return {output: node for node in self.nodes for output in node.outputs if output}

    @cached_property
    def _consumers(self) -> dict[str, list[tuple[Node, int]]]:
        found: dict[str, list[tuple[Node, int]]] = {}
        for node in self.nodes:
            for position, name in enumerate(node.inputs):
                found.setdefault(name, []).append((node, position))
            for name in sorted({name for body in node.subgraphs for name in body.outer_names}):
                found.setdefault(name, []).append((node, -1))
        return found

    @cached_property
    def outer_names(self) -> frozenset[str]:
        """Values of the enclosing graphs that this sub-graph reads."""
        own = {value.name for value in self.inputs} | set(self.initialisers)
        own |= {output for node in self.nodes for output in node.outputs}
        read = {name for node in self.nodes for name in node.inputs if name}
        read |= {name for node in self.nodes for body in node.subgraphs for name in body.outer_names}
        read |= {value.name for value in self.outputs}
        return frozenset(read - own)

    def producer(self, name: str) -> Node | None:
        """The node that makes a value; None for inputs and initialisers."""
        return self._producers.get(name)

    def consumers(self, name: str) -> tuple[tuple[Node, int], ...]:
        """The nodes that read a value and at which input; −1 where a node's sub-graph reads it."""
        return tuple(self._consumers.get(name, ()))

    def is_output(self, name: str) -> bool:
        """Whether a value leaves the graph."""
        return any(value.name == name for value in self.outputs)

    def constant(self, name: str) -> np.ndarray[Any, Any] | None:
        """The array of an initialiser or a Constant node, of enclosing graphs too; None for what is computed."""
        if name in self.initialisers:
            return self.initialisers[name]
        node = self.producer(name)
        if node is None:
            inputs = {value.name for value in self.inputs}
            return None if self.parent is None or name in inputs else self.parent.constant(name)
        return constant_of(node)

    def scalar(self, name: str) -> float | None:
        """The number that a constant of one element holds; None for all else."""
        array = self.constant(name) if name else None
        return None if array is None or array.size != 1 or array.dtype.kind in "OUS" else float(array.reshape(()))

    def walk(self) -> Iterator[tuple[Graph, Node]]:
        """Every node, those of sub-graphs after the node that they belong to."""
        for node in self.nodes:
            yield self, node
            for body in node.subgraphs:
                yield from body.walk()


def constant_of(node: Node) -> np.ndarray[Any, Any] | None:
    """What a Constant node holds, in any of the forms that it can be written in; None for any other node."""
    if node.op != "Constant":
        return None
    attributes = node.attributes
    if "value" in attributes:
        return np.asarray(attributes["value"])
    for name, dtype in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if name in attributes:
            return np.asarray(attributes[name], dtype=dtype)
    return None


def read_graph(model: onnx.ModelProto) -> Graph:
    """The main graph of a model whose local functions are inlined and whose tensors are all inside.

    Args:
        model: has passed `onnx.checker`.
    """
    versions = {entry.domain: entry.version for entry in model.opset_import}
    graph = _graph(model.graph, versions.get("", versions.get("ai.onnx", 1)), None)
    # The record is not made anew: sub-graphs refer to it.
    object.__setattr__(graph, "exporter", model.producer_name)
    return graph


def _graph(proto: onnx.GraphProto, opset: int, parent: Graph | None) -> Graph:
    initialisers = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.initializer}
    for sparse in proto.sparse_initializer:
        initialisers[sparse.values.name] = _dense(sparse)
    given = [_value(info) for info in proto.input]
    values = {value.name: value for value in (*map(_value, proto.value_info), *given, *map(_value, proto.output))}
    for name, array in initialisers.items():
        values.setdefault(name, Value(name, _element_type(array), tuple(array.shape)))
    graph = Graph(
        proto.name,
        (),
        tuple(value for value in given if value.name not in initialisers),
        tuple(map(_value, proto.output)),
        initialisers,
        values,
        opset,
        parent,
        {info.name: kind for info in proto.value_info if (kind := _origin(info))},
    )
    nodes = tuple(_node(index, node, opset, graph) for index, node in enumerate(proto.node))
    object.__setattr__(graph, "nodes", nodes)
    return graph


_ORIGIN = "pkg.torch.export.graph_signature.InputSpec.kind"


def _node(index: int, proto: onnx.NodeProto, opset: int, graph: Graph) -> Node:
    domain = "" if proto.domain in ("", "ai.onnx") else f"{proto.domain}::"
    attributes = {attribute.name: _attribute(attribute, opset, graph) for attribute in proto.attribute}
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    op = domain + proto.op_type
    return Node(index, op, proto.name, tuple(proto.input), tuple(proto.output), attributes, metadata)


def _attribute(proto: onnx.AttributeProto, opset: int, graph: Graph) -> Any:
    if proto.type == onnx.AttributeProto.GRAPH:
        return _graph(proto.g, opset, graph)
    if proto.type == onnx.AttributeProto.TENSOR:
        return numpy_helper.to_array(proto.t)
    value = onnx.helper.get_attribute_value(proto)
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if proto.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS):
        return list(value)
    if proto.type == onnx.AttributeProto.STRINGS:
        return [each.decode("utf-8", errors="replace") for each in value]
    return value


def _origin(info: onnx.ValueInfoProto) -> str:
    return next((entry.value for entry in info.metadata_props if entry.key == _ORIGIN), "")


def _value(info: onnx.ValueInfoProto) -> Value:
    if not info.type.HasField("tensor_type"):
        return Value(info.name)
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        return Value(info.name, tensor.elem_type)
    shape: tuple[Dimension, ...] = tuple(
        each.dim_value if each.HasField("dim_value") else (each.dim_param or None) for each in tensor.shape.dim
    )
    return Value(info.name, tensor.elem_type, shape)


def _dense(sparse: onnx.SparseTensorProto) -> np.ndarray[Any, Any]:
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), dtype=values.dtype)
    if indices.ndim == 1:
        dense.reshape(-1)[indices] = values
    else:
        dense[tuple(indices.T)] = values
    return dense


def _element_type(array: np.ndarray[Any, Any]) -> int:
    return int(onnx.helper.np_dtype_to_tensor_dtype(array.dtype))


_DTYPES: dict[int, torch.dtype] = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.INT8: torch.int8,
    onnx.TensorProto.UINT16: torch.uint16,
    onnx.TensorProto.INT16: torch.int16,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.BOOL: torch.bool,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.UINT32: torch.uint32,
    onnx.TensorProto.UINT64: torch.uint64,
    onnx.TensorProto.COMPLEX64: torch.complex64,
    onnx.TensorProto.COMPLEX128: torch.complex128,
    onnx.TensorProto.BFLOAT16: torch.bfloat16,
}


def torch_dtype(element_type: int) -> torch.dtype:
    """torch's dtype for an ONNX element type; raises KeyError where torch has none."""
    return _DTYPES[element_type]


def to_tensor(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor of its own memory with the values of an array, bfloat16 included; raises TypeError for strings."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(np.array(array).view(np.int16)).view(torch.bfloat16)
    if array.dtype.kind in "OUS":
        raise TypeError("tensors of strings")
    return torch.from_numpy(np.array(array, order="C"))


def to_array(tensor: Tensor) -> np.ndarray[Any, Any]:
    """The reverse of `to_tensor`."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        bits = tensor.view(torch.int16).numpy()
        return bits.view(onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16))
    return np.asarray(tensor.numpy())


def note(node: Node, key: str) -> tuple[str, ...]:
    """A list of names that the exporter noted at a node, such as its scopes; empty where there is none.

    >>> note(Node(0, "Relu", "", ("x",), ("y",), {}, {"scopes": "['', 'features', 'features.0']"}), "scopes")
    ('', 'features', 'features.0')
    """
    try:
        read = ast.literal_eval(node.metadata.get(key, "")[:10_000])
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return ()
    return tuple(each for each in read if isinstance(each, str)) if isinstance(read, list) else ()
