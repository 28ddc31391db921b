"""Which steps of an exported program become torch modules: layers with weights, dropout, activation functions.

A module stands where the program's own modules stood, so that training, initialising, noise in the layers and swapping
work as for the network that was exported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn

from robustcheck.networks.exported.program import Program, Ref, Step, function_of

Arguments = Mapping[str, Any]

_CONVOLUTIONS: Final = {
    (1, False): nn.Conv1d,
    (2, False): nn.Conv2d,
    (3, False): nn.Conv3d,
    (1, True): nn.ConvTranspose1d,
    (2, True): nn.ConvTranspose2d,
    (3, True): nn.ConvTranspose3d,
}
_NORMS: Final = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_SELU: Final = (1.6732632423543772, 1.0507009873554805)


@dataclass(frozen=True)
class Layer:
    """A module in the place of a step: made by `build`, given the value `input`.

    `path` is where the names of its tensors put it, None where it has none; `ports` are the last parts of these names.
    """

    build: Callable[[], nn.Module]
    input: Ref
    path: str | None = None
    ports: frozenset[str] = frozenset()


def layer_of(step: Step, program: Program, tensors: Mapping[str, torch.Tensor]) -> Layer | None:
    """The module that can stand for a step, or None where it stays a call.

    Args:
        step: of the program.
        program: whose parameters and buffers the step may read.
        tensors: their values by name.
    """
    bound = _bound(step)
    if bound is None or any(output in program.read for output in step.outputs[1:]):
        return None
    name = step.name.removesuffix("_")
    if name in ("addmm", "mm"):
        name, bound = "linear", _as_linear(bound, program)
    source = bound.get("input", bound.get("self"))
    if not isinstance(source, Ref) or source.name in program.parameters or source.name in program.buffers:
        return None
    # In evaluation mode dropout's result is its input, so that a program cannot say which of the two is read later.
    if bound.get("train") is False and program.read.get(str(step.outputs[0]), 0) > 1:
        return None
    activation = _activation(name, bound, step.name.endswith("_"))
    if activation is not None:
        return Layer(activation, source)
    weighted = _WEIGHTED.get(name)
    if weighted is None:
        return None
    names = {port: bound[port] for port in _PORTS if isinstance(bound.get(port), Ref)}
    paths = {_owned(program, ref).rpartition(".")[::2] for ref in names.values()}
    if not names or {port for _, port in paths} != set(names) or len({path for path, _ in paths}) != 1:
        return None
    shapes = {port: tensors[_owned(program, ref)].shape for port, ref in names.items()}
    build = weighted({**bound, "(rank)": program.ranks.get(source.name)}, shapes)
    path = next(iter(paths))[0]
    return None if build is None or not path else Layer(build, source, path, frozenset(names))


def _bound(step: Step) -> dict[str, Any] | None:
    """All arguments by the names of the operator's schema, defaults filled in; ValueError where one is missing."""
    schema = getattr(function_of(step.target), "_schema", None)
    if schema is None:
        return None
    names = [argument.name for argument in schema.arguments]
    defaults = {argument.name: argument.default_value for argument in schema.arguments if argument.has_default_value()}
    bound = {**defaults, **dict(zip(names, step.args, strict=False)), **step.kwargs}
    missing = [name for name in names if name not in bound]
    if missing:
        raise ValueError(f"{step.target} is called without {', '.join(missing)}")
    return bound


def _as_linear(bound: Arguments, program: Program) -> dict[str, Any]:
    """The arguments of a product with a transposed weight, as a linear layer has them; empty for other products."""
    matrix, x = (bound["mat2"], bound["mat1"] if "mat1" in bound else bound["self"])
    weight = program.transposed.get(matrix.name) if isinstance(matrix, Ref) else None
    if weight is None or bound.get("alpha", 1) != 1 or bound.get("beta", 1) != 1:
        return {}
    return {"input": x, "weight": weight, "bias": bound["self"] if "mat1" in bound else None}


def _owned(program: Program, ref: Ref) -> str:
    return program.parameters.get(ref.name) or program.buffers.get(ref.name) or ""


def _activation(name: str, bound: Arguments, inplace: bool) -> Callable[[], nn.Module] | None:
    numbers: dict[str, Any] = {
        key: value for key, value in bound.items() if isinstance(value, int | float | str) or value is None
    }
    plain = _PLAIN.get(name)
    if plain is not None:
        return (lambda: plain(inplace=inplace)) if plain is not nn.Tanh and plain is not nn.Sigmoid else plain
    if name in ("hardtanh", "clamp", "clamp_min"):
        low: Any = numbers.get("min_val", numbers.get("min"))
        high: Any = numbers.get("max_val", numbers.get("max"))
        if name != "hardtanh" and (low != 0 or high not in (None, 6)):
            return None
        if low == 0 and high in (None, 6):
            return (lambda: nn.ReLU(inplace)) if high is None else (lambda: nn.ReLU6(inplace))
        return lambda: nn.Hardtanh(low, high, inplace)
    if name == "elu":
        return _elu(numbers["alpha"], numbers["scale"], numbers["input_scale"], inplace)
    if name in ("dropout", "feature_dropout", "alpha_dropout"):
        kind = {"dropout": nn.Dropout, "feature_dropout": nn.Dropout2d, "alpha_dropout": nn.AlphaDropout}[name]
        return lambda: kind(numbers["p"], inplace)
    made: dict[str, Callable[[], nn.Module]] = {
        "leaky_relu": lambda: nn.LeakyReLU(numbers["negative_slope"], inplace),
        "celu": lambda: nn.CELU(numbers["alpha"], inplace),
        "gelu": lambda: nn.GELU(numbers["approximate"]),
        "softplus": lambda: nn.Softplus(numbers["beta"], numbers["threshold"]),
        "rrelu": lambda: nn.RReLU(numbers["lower"], numbers["upper"], inplace),
        "threshold": lambda: nn.Threshold(numbers["threshold"], numbers["value"], inplace),
    }
    return made.get(name)


def _elu(alpha: Any, scale: Any, input_scale: Any, inplace: bool) -> Callable[[], nn.Module] | None:
    """ELU, SELU and CELU are one operator with different scales."""
    if (scale, input_scale) == (1, 1):
        return lambda: nn.ELU(alpha, inplace)
    if (alpha, scale) == _SELU and input_scale == 1:
        return lambda: nn.SELU(inplace)
    return (lambda: nn.CELU(alpha, inplace)) if scale == 1 and input_scale == 1 / alpha else None


def _convolution(bound: Arguments, shapes: Mapping[str, torch.Size]) -> Callable[[], nn.Module] | None:
    weight, groups, transposed = shapes["weight"], bound["groups"], bool(bound.get("transposed"))
    kind = _CONVOLUTIONS.get((len(weight) - 2, transposed))
    settings = [bound.get(name) for name in ("stride", "padding", "dilation", "output_padding")]
    if kind is None or any(isinstance(value, Ref) for setting in settings if setting for value in setting):
        return None
    options: dict[str, Any] = {
        "kernel_size": tuple(weight[2:]),
        "stride": _tuple(bound["stride"], len(weight) - 2),
        "padding": _tuple(bound["padding"], len(weight) - 2),
        "dilation": _tuple(bound["dilation"], len(weight) - 2),
        "groups": groups,
        "bias": "bias" in shapes,
    }
    if transposed:
        options["output_padding"] = _tuple(bound["output_padding"], len(weight) - 2)
        return lambda: kind(weight[0], weight[1] * groups, **options)
    return lambda: kind(weight[1] * groups, weight[0], **options)


def _transposed(bound: Arguments, shapes: Mapping[str, torch.Size]) -> Callable[[], nn.Module] | None:
    return _convolution({**bound, "transposed": True}, shapes)


def _linear(_: Arguments, shapes: Mapping[str, torch.Size]) -> Callable[[], nn.Module] | None:
    weight = shapes["weight"]
    return (lambda: nn.Linear(weight[1], weight[0], "bias" in shapes)) if len(weight) == 2 else None


def _batch_norm(bound: Arguments, shapes: Mapping[str, torch.Size]) -> Callable[[], nn.Module] | None:
    kind = _NORMS.get(bound["(rank)"])
    if kind is None or not {"running_mean", "running_var"} <= set(shapes) or ("weight" in shapes) != ("bias" in shapes):
        return None
    width = shapes["running_mean"][0]
    return lambda: kind(width, bound["eps"], bound["momentum"], affine="weight" in shapes)


def _layer_norm(bound: Arguments, shapes: Mapping[str, torch.Size]) -> Callable[[], nn.Module] | None:
    width = bound["normalized_shape"]
    if "weight" not in shapes or any(isinstance(part, Ref) for part in width):
        return None
    return lambda: nn.LayerNorm(width, bound["eps"], bias="bias" in shapes)


def _rms_norm(bound: Arguments, shapes: Mapping[str, torch.Size]) -> Callable[[], nn.Module] | None:
    width = bound["normalized_shape"]
    if "weight" not in shapes or any(isinstance(part, Ref) for part in width):
        return None
    return lambda: nn.RMSNorm(width, bound["eps"])


def _group_norm(bound: Arguments, shapes: Mapping[str, torch.Size]) -> Callable[[], nn.Module] | None:
    if set(shapes) != {"weight", "bias"}:
        return None
    return lambda: nn.GroupNorm(bound["num_groups"], shapes["weight"][0], bound["eps"])


def _prelu(_: Arguments, shapes: Mapping[str, torch.Size]) -> Callable[[], nn.Module] | None:
    return lambda: nn.PReLU(shapes["weight"][0])


def _tuple(value: Any, rank: int) -> Any:
    if isinstance(value, str):
        return value
    values = list(value) if isinstance(value, list | tuple) else [value]
    return tuple(values * rank if len(values) == 1 else values)


_PORTS: Final = ("weight", "bias", "running_mean", "running_var")
_PLAIN: Final[dict[str, type[nn.Module]]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "selu": nn.SELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
_WEIGHTED: Final[dict[str, Callable[[Arguments, Mapping[str, torch.Size]], Callable[[], nn.Module] | None]]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed),
    "linear": _linear,
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "layer_norm": _layer_norm,
    "native_layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "rms_norm": _rms_norm,
    "prelu": _prelu,
}
