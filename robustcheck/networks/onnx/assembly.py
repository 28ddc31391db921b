"""Makes layers of the nodes whose weights are the file's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from torch import nn

from robustcheck.networks.onnx import layers
from robustcheck.networks.onnx.graph import Node

if TYPE_CHECKING:
    from robustcheck.networks.onnx.lowering import Lowering


def add_layer(lowering: Lowering, node: Node) -> bool:
    """Make a layer of a node and add its step; False where the node is not one, or not of a form that layers have."""
    build = _BUILDERS.get(node.op)
    return build is not None and build(lowering, node)


def _convolution(lowering: Lowering, node: Node) -> bool:
    weight, bias = lowering.weight(node, 1), lowering.weight(node, 2)
    parameter = lowering.parameter(weight)
    if parameter is None or (not bias and _has(node, 2)) or (node.op, parameter.ndim - 2) not in layers.CONVOLUTIONS:
        return False
    function = lowering.operator(node)
    if function is None:
        return False
    group = int(node.attributes.get("group", 1))
    layer = layers.convolution(node.op, function, parameter, lowering.parameter(bias), group)
    lowering.add_layer(node, layer, node.inputs[:1], node.outputs, weight=weight, bias=bias)
    return True


def _gemm(lowering: Lowering, node: Node) -> bool:
    weight, bias = lowering.weight(node, 1), lowering.weight(node, 2)
    matrix, offset = lowering.parameter(weight), lowering.parameter(bias)
    plain = all(node.attributes.get(name, 1.0) == 1.0 for name in ("alpha", "beta"))
    plain = plain and not node.attributes.get("transA", 0) and lowering.weight(node, 0) == ""
    if matrix is None or not plain or (not bias and _has(node, 2)):
        return False
    transposed = bool(node.attributes.get("transB", 0))
    if matrix.ndim != 2 or (offset is not None and tuple(offset.shape) != (matrix.shape[0 if transposed else 1],)):
        return False
    layer = layers.linear(matrix, offset, transposed=transposed)
    lowering.add_layer(node, layer, node.inputs[:1], node.outputs, weight=weight, bias=bias)
    return True


def _matmul(lowering: Lowering, node: Node) -> bool:
    weight = lowering.weight(node, 1)
    matrix = lowering.parameter(weight)
    if matrix is None or matrix.ndim != 2 or lowering.weight(node, 0):
        return False
    addition, bias = _bias_of(lowering, node, matrix)
    layer = layers.linear(matrix, lowering.parameter(bias), transposed=False)
    outputs = node.outputs if addition is None else addition.outputs
    lowering.add_layer(node, layer, node.inputs[:1], outputs, weight=weight, bias=bias)
    if addition is not None:
        lowering.skipped.add(addition)
    return True


def _bias_of(lowering: Lowering, node: Node, matrix: nn.Parameter) -> tuple[Node | None, str]:
    """The Add node that gives a product its bias, and the bias; None and '' where there is none."""
    readers = lowering.graph.consumers(node.outputs[0])
    if len(readers) != 1 or lowering.graph.is_output(node.outputs[0]):
        return None, ""
    addition, position = readers[0]
    if addition.op != "Add" or position < 0 or addition in lowering.skipped or addition.inputs[0] == addition.inputs[1]:
        return None, ""
    bias = lowering.weight(addition, 1 - position)
    offset = lowering.parameter(bias)
    if offset is None or tuple(offset.shape) != (matrix.shape[1],):
        return None, ""
    return addition, bias


def _batch_norm(lowering: Lowering, node: Node) -> bool:
    scale, bias = lowering.weight(node, 1), lowering.weight(node, 2)
    weight, offset = lowering.parameter(scale), lowering.parameter(bias)
    mean, variance = lowering.statistic(node, 3), lowering.statistic(node, 4)
    if weight is None or offset is None or mean is None or variance is None or scale == bias or mean[0] == variance[0]:
        return False
    if node.attributes.get("training_mode", 0):
        return False
    # Before opset 9 `spatial = 0` normalised every pixel by itself.
    if not lowering.reads_only_first_output(node) or weight.ndim != 1 or node.attributes.get("spatial", 1) == 0:
        return False
    layer = layers.batch_norm(
        weight,
        offset,
        mean[1],
        variance[1],
        eps=_decimal(node.attributes.get("epsilon", 1e-5)),
        momentum=_decimal(node.attributes.get("momentum", 0.9)),
    )
    held = {"weight": scale, "bias": bias, "running_mean": mean[0], "running_var": variance[0]}
    lowering.add_layer(node, layer, node.inputs[:1], node.outputs[:1], **held)
    return True


def _normalisation(lowering: Lowering, node: Node) -> bool:
    scale, bias = lowering.weight(node, 1), lowering.weight(node, 2)
    weight = lowering.parameter(scale)
    if weight is None or (not bias and _has(node, 2)) or not lowering.reads_only_first_output(node):
        return False
    if node.op != "LayerNormalization" and weight.ndim != 1 and node.op != "RMSNormalization":
        return False
    function = lowering.operator(node)
    if function is None:
        return False
    groups = int(node.attributes.get("num_groups", 1))
    layer = layers.normalisation(node.op, function, weight, lowering.parameter(bias), groups)
    held = {"weight": scale, "bias": bias} if bias else {"weight": scale}
    lowering.add_layer(node, layer, node.inputs[:1], node.outputs[:1], **held)
    return True


def _recurrent(lowering: Lowering, node: Node) -> bool:
    names = {"W": lowering.weight(node, 1), "R": lowering.weight(node, 2), "B": lowering.weight(node, 3)}
    names["P"] = lowering.weight(node, 7) if node.op == "LSTM" else ""
    if not (names["W"] and names["R"]) or any(
        _has(node, port) and not names[key] for key, port in (("B", 3), ("P", 7))
    ):
        return False
    function = lowering.operator(node)
    if function is None:
        return False
    parameters = {key: parameter for key, name in names.items() if (parameter := lowering.parameter(name)) is not None}
    layer = layers.Recurrent(function, int(node.attributes["hidden_size"]), parameters, cell=node.op == "LSTM")
    inputs = [node.inputs[port] if _has(node, port) else "" for port in (0, 4, 5, 6)]
    lowering.add_layer(node, layer, tuple(inputs[: 4 if node.op == "LSTM" else 3]), node.outputs, **names)
    return True


def _dropout(lowering: Lowering, node: Node) -> bool:
    if not lowering.reads_only_first_output(node):
        return False
    ratio = node.attributes.get("ratio", 0.5)
    if _has(node, 1):
        given = lowering.graph.scalar(node.inputs[1])
        if given is None:
            return False
        ratio = given
    lowering.add_layer(node, nn.Dropout(float(ratio)), node.inputs[:1], node.outputs[:1])
    return True


def _decimal(number: float) -> float:
    """The decimal that a float32 of the file was written for."""
    return float(f"{number:.7g}")


def _has(node: Node, position: int) -> bool:
    return position < len(node.inputs) and bool(node.inputs[position])


_BUILDERS: Final[dict[str, Callable[[Lowering, Node], bool]]] = {
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    **dict.fromkeys(layers.NORMALISATIONS, _normalisation),
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "Dropout": _dropout,
}
