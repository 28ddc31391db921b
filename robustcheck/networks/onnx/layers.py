"""Nodes with weights as torch modules, so that noise, initialisation and batch statistics work as for torch's own.

The weights keep ONNX's layout. Each class derives from torch's, whose `reset_parameters` draws weights anew; what is
computed is the operator's function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import init

from robustcheck.networks.onnx.operators.call import Function
from robustcheck.networks.onnx.plan import Plan, execute, start


class _Weighted(nn.Module):
    """Passes the input, the weight and the bias to the operator's function."""

    function: Function
    weight: Any
    bias: Any

    def forward(self, input: Tensor, output_size: None = None) -> Any:  # noqa: ARG002 - torch's own signature
        return self.function(input, self.weight, self.bias)


class Conv1d(_Weighted, nn.Conv1d):
    """A Conv node with one spatial axis."""


class Conv2d(_Weighted, nn.Conv2d):
    """A Conv node with two spatial axes."""


class Conv3d(_Weighted, nn.Conv3d):
    """A Conv node with three spatial axes."""


class ConvTranspose1d(_Weighted, nn.ConvTranspose1d):  # type: ignore[misc]
    """A ConvTranspose node with one spatial axis."""


class ConvTranspose2d(_Weighted, nn.ConvTranspose2d):  # type: ignore[misc]
    """A ConvTranspose node with two spatial axes."""


class ConvTranspose3d(_Weighted, nn.ConvTranspose3d):  # type: ignore[misc]
    """A ConvTranspose node with three spatial axes."""


CONVOLUTIONS: Final = {
    ("Conv", 1): Conv1d,
    ("Conv", 2): Conv2d,
    ("Conv", 3): Conv3d,
    ("ConvTranspose", 1): ConvTranspose1d,
    ("ConvTranspose", 2): ConvTranspose2d,
    ("ConvTranspose", 3): ConvTranspose3d,
}


def convolution(op: str, function: Function, weight: nn.Parameter, bias: nn.Parameter | None, group: int) -> nn.Module:
    """The layer of a Conv or ConvTranspose node.

    Args:
        op: `Conv` or `ConvTranspose`.
        function: of (x, weight, bias).
        weight: ONNX's, which is torch's layout.
        bias: or None.
        group: number of groups.
    """
    kind = CONVOLUTIONS[op, weight.ndim - 2]
    first, second = weight.shape[0], weight.shape[1] * group
    channels = (second, first) if op == "Conv" else (first, second)
    with torch.device("meta"):
        layer = kind(*channels, kernel_size=tuple(weight.shape[2:]), groups=group, bias=bias is not None)
    return _filled(layer, function, weight=weight, bias=bias)


class Linear(nn.Linear):
    """A Gemm node, or a MatMul node and the Add of its bias; `weight` is (in, out) unless `transposed`."""

    transposed: bool

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        return nn.functional.linear(x, self.weight if self.transposed else self.weight.T, self.bias)

    def reset_parameters(self) -> None:
        """As `torch.nn.Linear` draws them."""
        matrix = self.weight if self.transposed else self.weight.T
        init.kaiming_uniform_(matrix, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(max(1, matrix.shape[1]))
            init.uniform_(self.bias, -bound, bound)


def linear(weight: nn.Parameter, bias: nn.Parameter | None, *, transposed: bool) -> nn.Module:
    """The layer of a product with a weight matrix: (in, out), or (out, in) where `transposed`."""
    inputs, outputs = weight.shape[::-1] if transposed else weight.shape
    layer = Linear.__new__(Linear)
    nn.Module.__init__(layer)
    layer.in_features, layer.out_features, layer.transposed = inputs, outputs, transposed
    layer.weight = weight
    layer.register_parameter("bias", bias)
    return layer


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """A BatchNormalization node: learns and keeps running statistics in training, as torch's does."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any rank from two on."""


def batch_norm(
    scale: nn.Parameter, bias: nn.Parameter, mean: Tensor, variance: Tensor, *, eps: float, momentum: float
) -> nn.Module:
    """The layer of a BatchNormalization node; ONNX's momentum is what the old statistics keep."""
    layer = BatchNorm(len(scale), eps=eps, momentum=round(1 - momentum, 7))
    layer.running_mean, layer.running_var = mean.clone(), variance.clone()
    layer.weight, layer.bias = scale, bias
    return layer


class LayerNorm(_Weighted, nn.LayerNorm):
    """A LayerNormalization node."""


class GroupNorm(_Weighted, nn.GroupNorm):
    """A GroupNormalization node; its scales are one a channel, or one a group in opset 18."""


class InstanceNorm(_Weighted, nn.modules.instancenorm._InstanceNorm):
    """An InstanceNormalization node."""


class RMSNorm(_Weighted, nn.RMSNorm):
    """An RMSNormalization node."""

    bias = None


NORMALISATIONS: Final[dict[str, Callable[[nn.Parameter, int], nn.Module]]] = {
    "LayerNormalization": lambda weight, _: LayerNorm(tuple(weight.shape), bias=True),
    "GroupNormalization": lambda weight, groups: GroupNorm(groups, max(groups, len(weight))),
    "InstanceNormalization": lambda weight, _: InstanceNorm(len(weight), affine=True),
    "RMSNormalization": lambda weight, _: RMSNorm(tuple(weight.shape)),
}


def normalisation(
    op: str, function: Function, weight: nn.Parameter, bias: nn.Parameter | None, groups: int
) -> nn.Module:
    """The layer of a normalisation over a sample's own values."""
    return _filled(NORMALISATIONS[op](weight, groups), function, weight=weight, bias=bias)


class Recurrent(nn.Module):
    """An LSTM, GRU or RNN node: weights for the input, for the state, biases, peepholes, as ONNX lays them out."""

    def __init__(self, function: Function, hidden: int, weights: dict[str, nn.Parameter], *, cell: bool) -> None:
        super().__init__()
        self.function = function
        self.hidden = hidden
        self.cell = cell
        for name in ("W", "R", "B", "P"):
            self.register_parameter(name, weights.get(name))

    def reset_parameters(self) -> None:
        """As torch's recurrent layers draw them."""
        bound = 1 / math.sqrt(max(1, self.hidden))
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, h: Tensor | None = None, c: Tensor | None = None
    ) -> Any:
        """The node's outputs; the state of the cell `c` is for an LSTM alone."""
        if self.cell:
            return self.function(x, self.W, self.R, self.B, lengths, h, c, self.P)
        return self.function(x, self.W, self.R, self.B, lengths, h)


class PRelu(nn.PReLU):
    """A PRelu node; the slope, seen in `shape`, broadcasts to the input from its last axis."""

    activation_spec = "prelu"

    def __init__(self, slope: nn.Parameter, shape: tuple[int, ...]) -> None:
        super().__init__(slope.numel())
        self.weight = slope
        self.shape = shape

    def reset_parameters(self) -> None:
        """¼, as in torch."""
        init.constant_(self.weight, 0.25)

    def forward(self, x: Tensor) -> Tensor:
        """x where it is positive, else slope · x."""
        slope = self.weight.reshape(self.shape)
        per_channel = x.ndim >= 2 and ((1,) * (x.ndim - slope.ndim) + tuple(slope.shape))[1:2] == x.shape[1:2]
        if slope.numel() == 1 or (per_channel and slope.numel() == x.shape[1]):
            return nn.functional.prelu(x, slope.reshape(-1))
        return torch.where(x > 0, x, slope * x)


class Original(nn.Module):
    """An activation that the catalogue cannot say: the file's own nodes."""

    def __init__(self, kind: str, plan: Plan, constants: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.activation_spec = kind
        self.plan = plan
        self.constants = dict(constants)

    def forward(self, x: Tensor) -> Tensor:
        """The activation of x, any shape."""
        constants = {name: value.to(x.device) for name, value in self.constants.items()}
        (result,) = execute(self.plan, start(self.plan, (x,), constants), {})
        return result  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """The kind."""
        return self.activation_spec


class Weights(nn.Module):
    """Weights that no layer has of its own: embeddings, class tokens, the parts of layers that are written out."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, str] = {}
        self.constants: dict[str, float] = {}
        self.fans: dict[str, int] = {}

    def add(self, name: str, weight: nn.Parameter, *, constant: float | None, fan_in: int | None) -> None:
        """Keep a weight; anew it is `constant`, or drawn for a product that sums `fan_in` numbers."""
        attribute = "".join(c if c.isalnum() else "_" for c in name) or "weight"
        while hasattr(self, attribute):
            attribute += "_"
        self.register_parameter(attribute, weight)
        self.names[name] = attribute
        if constant is not None:
            self.constants[attribute] = constant
        elif fan_in is not None:
            self.fans[attribute] = fan_in

    def reset_parameters(self) -> None:
        """As torch draws scales and offsets of normalisations and matrices of linear layers.

        torch has no default for free parameters: those get normal numbers as large as the present ones, and one
        repeated number stays.
        """
        for attribute, weight in self.named_parameters():
            if attribute in self.constants:
                init.constant_(weight, self.constants[attribute])
            elif attribute in self.fans:
                bound = 1 / math.sqrt(max(1, self.fans[attribute]))
                init.uniform_(weight, -bound, bound)
            elif not bool((weight == weight.reshape(-1)[0]).all()):
                init.normal_(weight, 0.0, float(weight.detach().double().square().mean().sqrt()))


def _filled(layer: nn.Module, function: Function, **tensors: nn.Parameter | None) -> nn.Module:
    for name, tensor in tensors.items():
        if name in layer._parameters or tensor is not None:
            layer.register_parameter(name, tensor)
    layer.function = function  # type: ignore[assignment]
    return layer
