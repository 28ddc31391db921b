"""Evaluates the elementwise nodes of a graph on numbers, which shows what function they make together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robustcheck.networks.onnx.graph import Graph, Node

_PASSING: Final = frozenset({"Cast", "CastLike", "Identity", "Unsqueeze", "Squeeze", "Reshape", "Expand"})
_FLOATS: Final = frozenset({1, 10, 11, 16})
_BOOL: Final = 9

CURVED: Final = frozenset(
    [
        *("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Mish", "HardSwish", "HardSigmoid", "Swish"),
        *("Softplus", "Softsign", "Tanh", "Sigmoid", "Clip", "ThresholdedRelu", "Erf", "Exp", "Max", "Min", "Where"),
        "Abs",
    ]
)
"""Operators of which every activation function has at least one."""


def fixed(graph: Graph, name: str) -> np.ndarray[Any, Any] | None:
    """The array of a constant, seen through nodes that only change its type or shape; None for what is computed.

    A shape that is filled with one number, as in `zeros_like`, counts as that number.
    """
    for _ in range(8):
        array = graph.constant(name)
        node = None if array is not None else graph.producer(name)
        if node is None:
            return array
        if node.op == "ConstantOfShape":
            return np.asarray(node.attributes.get("value", np.zeros(1, np.float32)))
        if node.op not in _PASSING or not node.inputs or node.attributes.get("to", 1) not in _FLOATS:
            return None
        name = node.inputs[0]
    return None


def number(graph: Graph, name: str) -> float | None:
    """The one float that a constant holds, in one element or in all; None for all else."""
    array = fixed(graph, name) if name else None
    if array is None or not array.size or not is_float(array):
        return None
    flat = array.reshape(-1)
    same = flat.size == 1 or (bool(flat[0] == flat[-1]) and bool((flat == flat[0]).all()))
    return float(flat[0]) if same else None


def is_float(array: np.ndarray[Any, Any]) -> bool:
    """Whether an array holds floats, bfloat16 included."""
    return bool(array.dtype.kind == "f" or array.dtype.name == "bfloat16")


def exponent(graph: Graph, node: Node, position: int) -> float | None:
    """The whole number that a power is raised to; it may be stored as an integer."""
    array = fixed(graph, node.inputs[1]) if node.op == "Pow" and position == 1 else None
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def elementwise(graph: Graph, node: Node) -> bool:
    """Whether `evaluate` knows the operator."""
    if node.op == "Cast":
        return bool(node.attributes.get("to") in _FLOATS or node.attributes.get("to") == _BOOL)
    if node.op not in _OPERATORS or len(node.outputs) != 1:
        return False
    return node.op != "Clip" or all(number(graph, name) is not None for name in node.inputs[1:] if name)


def evaluate(graph: Graph, nodes: Sequence[Node], given: Mapping[str, Tensor]) -> Tensor:
    """What the last of some elementwise nodes yields, in float64.

    Args:
        nodes: in the order of the graph.
        given: the values that they read, but for constants.
    """
    values = dict(given)
    for node in nodes:
        operands = [_operand(graph, node, position, values) for position in range(len(node.inputs))]
        values[node.outputs[0]] = _OPERATORS[node.op](node, operands)
    return values[nodes[-1].outputs[0]]


def _operand(graph: Graph, node: Node, position: int, values: Mapping[str, Tensor]) -> Tensor:
    name = node.inputs[position]
    if name in values:
        return values[name]
    found = number(graph, name)
    found = exponent(graph, node, position) if found is None else found
    return torch.tensor(float("nan") if found is None else found, dtype=torch.float64)


Operator = Callable[[Node, list[Tensor]], Tensor]


def _plain(function: Callable[..., Tensor]) -> Operator:
    return lambda _, operands: function(*operands)


def _folded(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda _, operands: reduce(function, operands)


def _with(function: Callable[..., Tensor], **defaults: float) -> Operator:
    """A function whose further arguments are the node's attributes of these names."""
    return lambda node, operands: function(
        operands[0], *(float(node.attributes.get(name, default)) for name, default in defaults.items())
    )


def _cast(node: Node, operands: list[Tensor]) -> Tensor:
    return operands[0] != 0 if node.attributes["to"] == _BOOL else operands[0].double()


def _clip(node: Node, operands: list[Tensor]) -> Tensor:
    given = [float(node.attributes.get("min", -np.inf)), float(node.attributes.get("max", np.inf))]
    for position, operand in enumerate(operands[1:]):
        given[position] = float(operand) if node.inputs[position + 1] else given[position]
    return operands[0].clamp(*given)


def _gelu(node: Node, operands: list[Tensor]) -> Tensor:
    return F.gelu(operands[0], approximate=str(node.attributes.get("approximate", "none")))


_SELU: Final = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}

_OPERATORS: Final[dict[str, Operator]] = {
    "Add": _plain(torch.add),
    "Sub": _plain(torch.sub),
    "Mul": _plain(torch.mul),
    "Div": _plain(torch.div),
    "Pow": _plain(torch.pow),
    "Neg": _plain(torch.neg),
    "Abs": _plain(torch.abs),
    "Exp": _plain(torch.exp),
    "Log": _plain(torch.log),
    "Sqrt": _plain(torch.sqrt),
    "Reciprocal": _plain(torch.reciprocal),
    "Erf": _plain(torch.erf),
    "Tanh": _plain(torch.tanh),
    "Sigmoid": _plain(torch.sigmoid),
    "Identity": _plain(lambda x: x),
    "Relu": _plain(torch.relu),
    "Softsign": _plain(F.softsign),
    "Mish": _plain(F.mish),
    "HardSwish": _plain(F.hardswish),
    "Softplus": _plain(lambda x: torch.logaddexp(x, torch.zeros_like(x))),
    "PRelu": _plain(lambda x, slope: torch.where(x < 0, slope * x, x)),
    "Where": _plain(torch.where),
    "Greater": _plain(torch.gt),
    "GreaterOrEqual": _plain(torch.ge),
    "Less": _plain(torch.lt),
    "LessOrEqual": _plain(torch.le),
    "Not": _plain(torch.logical_not),
    "Max": _folded(torch.maximum),
    "Min": _folded(torch.minimum),
    "Sum": _folded(torch.add),
    "Cast": _cast,
    "Gelu": _gelu,
    "Clip": _clip,
    "LeakyRelu": _with(F.leaky_relu, alpha=0.01),
    "Elu": _with(F.elu, alpha=1.0),
    "Celu": _with(F.celu, alpha=1.0),
    "Selu": _with(lambda x, alpha, gamma: gamma * F.elu(x, alpha), **_SELU),
    "Swish": _with(lambda x, alpha: x * torch.sigmoid(alpha * x), alpha=1.0),
    "HardSigmoid": _with(lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1), alpha=0.2, beta=0.5),
    "ThresholdedRelu": _with(lambda x, alpha: torch.where(x > alpha, x, torch.zeros_like(x)), alpha=1.0),
}
