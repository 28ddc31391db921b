"""Collects the nodes and initialisers of a formula that is written as ONNX."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from robustcheck.networks.onnx.graph import to_array, torch_dtype

_FLOAT: Final = onnx.TensorProto.FLOAT
_FLOAT16: Final = onnx.TensorProto.FLOAT16

_NATIVE: Final = {
    **dict.fromkeys(["LeakyRelu", "PRelu", "Elu", "Selu", "HardSigmoid", "Softplus", "Softsign"], 9),
    "Celu": 12,
    "HardSwish": 14,
    "Mish": 18,
    "Gelu": 20,
}
"""Operators and the opset from which ONNX has them; ONNX Runtime has them for float and float16 only."""


class NodeWriter:
    """Makes nodes one after the other; each gets a name of its own under the prefix."""

    def __init__(self, *, opset: int, element_type: int, prefix: str) -> None:
        self.opset, self.prefix, self.element_type = opset, prefix, element_type
        self.computed = element_type
        self._nodes: list[onnx.NodeProto] = []
        self._initialisers: list[onnx.TensorProto] = []
        self._known: dict[tuple[Any, ...], str] = {}

    @property
    def dtype(self) -> torch.dtype:
        """What the nodes compute in."""
        return torch_dtype(self.computed)

    def native(self, op: str) -> bool:
        """Whether an operator can be used for this type at this opset."""
        types = (_FLOAT,) if op == "Celu" else (_FLOAT, _FLOAT16)
        return self.opset >= _NATIVE[op] and self.computed in types

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        name = f"{self.prefix}/{kind}_{len(self._nodes)}"
        output = f"{name}_output"
        self._nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def constant(self, value: float) -> str:
        """A number of the type that is computed in."""
        return self._constant(to_array(torch.tensor(value, dtype=self.dtype)))

    def integers(self, *values: int) -> str:
        """A vector of int64."""
        return self._constant(np.array(values, dtype=np.int64))

    def index(self, value: int) -> str:
        """An int64 with no axes."""
        return self._constant(np.array(value, dtype=np.int64))

    def _constant(self, array: np.ndarray[Any, Any]) -> str:
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = self.op("Constant", value=numpy_helper.from_array(array))
        return self._known[key]

    def parameter(self, module: nn.Module, name: str) -> str:
        """A learned parameter, as an initialiser of the value's type, widened where the nodes compute in another."""
        held: Tensor = module.get_parameter(name)
        full = f"{self.prefix}.{name}"
        if ("parameter", name) not in self._known:
            array = to_array(held.detach().to(torch_dtype(self.element_type)))
            self._initialisers.append(numpy_helper.from_array(array, full))
            cast = self.computed != self.element_type
            self._known["parameter", name] = self.op("Cast", full, to=self.computed) if cast else full
        return self._known["parameter", name]

    def element(self, module: nn.Module, name: str, position: int) -> str:
        """One number of a learned vector."""
        return self.op("Gather", self.parameter(module, name), self.index(position), axis=0)

    def add(self, first: str, second: str) -> str:
        """first + second."""
        return self.op("Add", first, second)

    def sub(self, first: str, second: str) -> str:
        """first − second."""
        return self.op("Sub", first, second)

    def mul(self, first: str, second: str) -> str:
        """first · second."""
        return self.op("Mul", first, second)

    def div(self, first: str, second: str) -> str:
        """first / second."""
        return self.op("Div", first, second)

    def if_positive(self, x: str, then: str, otherwise: str) -> str:
        """`then` where x > 0."""
        key = ("positive", x)
        if key not in self._known:
            self._known[key] = self.op("Greater", x, self.constant(0.0))
        return self.op("Where", self._known[key], then, otherwise)

    def clip(self, x: str, low: float, high: float) -> str:
        """x held between two numbers."""
        if self.opset < 12 and self.computed not in (_FLOAT, _FLOAT16):
            return self.op("Min", self.op("Max", x, self.constant(low)), self.constant(high))
        if self.opset < 11:
            return self.op("Clip", x, min=low, max=high)
        return self.op("Clip", x, self.constant(low), self.constant(high))

    def mean(self, x: str, axis: int) -> str:
        """The mean over one axis, which stays with size 1."""
        if self.opset < 18:
            return self.op("ReduceMean", x, axes=[axis], keepdims=1)
        return self.op("ReduceMean", x, self.integers(axis), keepdims=1)

    def finish(self, result: str, target: str) -> tuple[tuple[onnx.NodeProto, ...], tuple[onnx.TensorProto, ...]]:
        """All nodes, the result named as asked, and all initialisers."""
        for node in self._nodes:
            node.output[:] = [target if name == result else name for name in node.output]
            node.input[:] = [target if name == result else name for name in node.input]
        return tuple(self._nodes), tuple(self._initialisers)
