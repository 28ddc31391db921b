"""Writes an activation function as plain standard nodes of an ONNX graph."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from torch import nn

from robustcheck.errors import SurgeryError
from robustcheck.networks.kinds import kind_name
from robustcheck.networks.onnx.formulas import FORMULAS
from robustcheck.networks.onnx.node_writer import NodeWriter

_BFLOAT16 = onnx.TensorProto.BFLOAT16
_FLOAT = onnx.TensorProto.FLOAT
_TYPES = (_FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, _BFLOAT16)
_OLDEST = 9
_OLDEST_BFLOAT16 = 13


@dataclass(frozen=True)
class Emission:
    """Nodes in an order of execution, and the learned parameters that they read."""

    nodes: tuple[onnx.NodeProto, ...]
    initialisers: tuple[onnx.TensorProto, ...]


def emit(
    module: nn.Module,
    spec: str,
    *,
    source: str,
    target: str,
    opset: int,
    element_type: int,
    prefix: str,
    rank: int | None = None,
) -> Emission:
    """The nodes that compute an activation function of one value.

    Args:
        module: the catalogue's module for the spec; learned parameters are read from it and become initialisers
            `{prefix}.{parameter}`.
        spec: of the activation.
        source: name of the value that the function is applied to.
        target: name of the result.
        opset: of the file, from 9 on.
        element_type: ONNX's number of the value's type: float, double, float16 or bfloat16.
        prefix: starts the names of all nodes and inner values.
        rank: number of axes of the value, which decides the axis of `polynorm`.

    Raises:
        SurgeryError: the function is gated, depends on a rank that is not known, or the type or opset is not covered.

    >>> written = emit(nn.ReLU(), "relu", source="x", target="y", opset=17, element_type=1, prefix="act")
    >>> written.nodes[0].op_type, written.nodes[0].name, written.initialisers
    ('Relu', 'act/Relu_0', ())
    """
    name = kind_name(spec)
    if name not in FORMULAS:
        raise SurgeryError(
            f"{spec}: expected an activation that can be written as ONNX, got none of these; one of "
            f"{', '.join(FORMULAS)} can be"
        )
    if element_type not in _TYPES or opset < (_OLDEST_BFLOAT16 if element_type == _BFLOAT16 else _OLDEST):
        raise SurgeryError(
            f"{spec} at {target!r}: expected float, double or float16 from opset {_OLDEST} on or bfloat16 from opset "
            f"{_OLDEST_BFLOAT16} on, got element type {element_type} at opset {opset}; export the model as float32"
        )
    if name in ("polynorm", "abrelu") and (rank is None or rank < 2):
        raise SurgeryError(
            f"{spec} at {target!r}: expected a value whose number of axes is known and at least 2, got "
            f"{'an unknown number' if rank is None else rank}; run onnx.shape_inference on the file, or choose an "
            "elementwise activation"
        )
    writer = NodeWriter(opset=opset, element_type=element_type, prefix=prefix)
    # Kernels for bfloat16 are rare; torch too computes in float32 and rounds once.
    widened = element_type == _BFLOAT16 and name != "relu"
    x = source
    if widened:
        x = writer.op("Cast", source, to=_FLOAT)
        writer.computed = _FLOAT
    result = FORMULAS[name](writer, x, module, rank or 0)
    if widened:
        result = writer.op("Cast", result, to=_BFLOAT16)
    return Emission(*writer.finish(result, target))
