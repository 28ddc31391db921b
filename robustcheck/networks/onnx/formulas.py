"""The catalogue's activation functions in terms of ONNX operators.

Each takes a writer, the name of the input, the catalogue's module and the number of axes, and returns the name of the
result. Values are finite wherever the module's are. Forms that have no operator of their own hold no part that is an
activation function by itself, so that what was written is never taken for something else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import nn

from robustcheck.activations.polynomial import NORM_EPSILON
from robustcheck.activations.surrogate import function_of
from robustcheck.networks.onnx.node_writer import NodeWriter

Write = Callable[[NodeWriter, str, nn.Module, int], str]

_SELU_ALPHA: Final = 1.6732632423543772
_SELU_SCALE: Final = 1.0507009873554805


def _number(module: nn.Module, name: str, default: float = 0.0) -> float:
    return float(getattr(module, name, default))


def _constants(module: nn.Module) -> Mapping[str, Any]:
    found: Mapping[str, Any] = module.constants  # type: ignore[assignment]
    return found


def _native(op: str) -> Write:
    return lambda w, x, *_: w.op(op, x)


def _relu_part(w: NodeWriter, x: str) -> str:
    return w.op("Max", x, w.constant(0.0))


def _negative_part(w: NodeWriter, x: str) -> str:
    return w.op("Min", x, w.constant(0.0))


def _leaky_relu(w: NodeWriter, x: str, module: nn.Module, _: int) -> str:
    slope = _number(module, "negative_slope", 0.01)
    if w.native("LeakyRelu"):
        return w.op("LeakyRelu", x, alpha=slope)
    return w.add(_relu_part(w, x), w.mul(w.constant(slope), _negative_part(w, x)))


def _prelu(w: NodeWriter, x: str, module: nn.Module, _: int) -> str:
    slope = w.parameter(module, "weight")
    if w.native("PRelu"):
        return w.op("PRelu", x, slope)
    return w.add(_relu_part(w, x), w.mul(slope, _negative_part(w, x)))


def _plain_elu(w: NodeWriter, x: str, alpha: float) -> str:
    if w.native("Elu"):
        return w.op("Elu", x, alpha=alpha)
    below = w.sub(w.op("Exp", _negative_part(w, x)), w.constant(1.0))
    return w.add(_relu_part(w, x), below if alpha == 1 else w.mul(w.constant(alpha), below))


def _elu(w: NodeWriter, x: str, module: nn.Module, _: int) -> str:
    return _plain_elu(w, x, _number(module, "alpha", 1.0))


def _selu(w: NodeWriter, x: str, *_: Any) -> str:
    if w.native("Selu"):
        return w.op("Selu", x, alpha=_SELU_ALPHA, gamma=_SELU_SCALE)
    return w.mul(w.constant(_SELU_SCALE), _plain_elu(w, x, _SELU_ALPHA))


def _celu(w: NodeWriter, x: str, module: nn.Module, _: int) -> str:
    alpha = _number(module, "alpha", 1.0)
    if w.native("Celu"):
        return w.op("Celu", x, alpha=alpha)
    if alpha == 1:
        return _plain_elu(w, x, 1.0)
    return w.mul(w.constant(alpha), _plain_elu(w, w.div(x, w.constant(alpha)), 1.0))


def _twice_normal(w: NodeWriter, x: str, steepness: float) -> str:
    """1 + erf(s·x/√2)."""
    scaled = w.mul(x, w.constant(steepness / math.sqrt(2)))
    if w.computed == 11:  # ONNX Runtime has no error function in double precision
        return w.add(w.op("Cast", w.op("Erf", w.op("Cast", scaled, to=1)), to=11), w.constant(1.0))
    return w.add(w.op("Erf", scaled), w.constant(1.0))


def _gelu(w: NodeWriter, x: str, *_: Any) -> str:
    if w.native("Gelu"):
        return w.op("Gelu", x, approximate="none")
    return w.mul(w.mul(x, w.constant(0.5)), _twice_normal(w, x, 1.0))


def _gelu_tanh(w: NodeWriter, x: str, *_: Any) -> str:
    if w.native("Gelu"):
        return w.op("Gelu", x, approximate="tanh")
    scale = math.sqrt(2 / math.pi)
    bent = w.add(w.constant(scale), w.mul(w.constant(scale * 0.044715), w.mul(x, x)))
    gate = w.add(w.op("Tanh", w.mul(x, bent)), w.constant(1.0))
    return w.mul(w.mul(x, w.constant(0.5)), gate)


def _softplus(w: NodeWriter, x: str, module: nn.Module, _: int) -> str:
    beta, threshold = _number(module, "beta", 1.0), _number(module, "threshold", 20.0)
    scaled = x if beta == 1 else w.mul(x, w.constant(beta))
    result = _plain_softplus(w, scaled)
    result = result if beta == 1 else w.div(result, w.constant(beta))
    # Above 15 the two branches are one in float32.
    if threshold < 15:
        result = w.op("Where", w.op("Greater", scaled, w.constant(threshold)), x, result)
    return result


def _plain_softplus(w: NodeWriter, x: str) -> str:
    if w.native("Softplus"):
        return w.op("Softplus", x)
    decayed = w.op("Exp", w.op("Neg", w.op("Abs", x)))
    return w.add(_relu_part(w, x), w.op("Log", w.add(decayed, w.constant(1.0))))


def _mish(w: NodeWriter, x: str, *_: Any) -> str:
    if w.native("Mish"):
        return w.op("Mish", x)
    return w.mul(x, w.op("Tanh", _plain_softplus(w, x)))


def _hardsigmoid(w: NodeWriter, x: str, *_: Any) -> str:
    if w.native("HardSigmoid"):
        return w.op("HardSigmoid", x, alpha=1 / 6, beta=0.5)
    return w.div(w.clip(w.add(x, w.constant(3.0)), 0.0, 6.0), w.constant(6.0))


def _hardswish(w: NodeWriter, x: str, *_: Any) -> str:
    return w.op("HardSwish", x) if w.native("HardSwish") else w.mul(x, _hardsigmoid(w, x))


def _hardtanh(w: NodeWriter, x: str, module: nn.Module, _: int) -> str:
    return w.clip(x, _number(module, "min_val", -1.0), _number(module, "max_val", 1.0))


def _softsign(w: NodeWriter, x: str, *_: Any) -> str:
    if w.native("Softsign"):
        return w.op("Softsign", x)
    return w.div(x, w.add(w.op("Abs", x), w.constant(1.0)))


def _elliott(w: NodeWriter, x: str, *_: Any) -> str:
    half = w.constant(0.5)
    return w.add(w.mul(_softsign(w, x), half), half)


def _silu(w: NodeWriter, x: str, *_: Any) -> str:
    return w.mul(x, w.op("Sigmoid", x))


def _swish(w: NodeWriter, x: str, module: nn.Module, _: int) -> str:
    return w.mul(x, w.op("Sigmoid", w.mul(w.parameter(module, "beta"), x)))


def _gelu_sigmoid(w: NodeWriter, x: str, *_: Any) -> str:
    return w.mul(x, w.op("Sigmoid", w.mul(w.constant(1.702), x)))


def _lisht(w: NodeWriter, x: str, *_: Any) -> str:
    return w.mul(x, w.op("Tanh", x))


def _srs(w: NodeWriter, x: str, module: nn.Module, _: int) -> str:
    # Both sides of the fraction are multiplied by e^(x/q) below 0, so that no exponential grows.
    p, q = w.parameter(module, "p"), w.parameter(module, "q")
    decayed = w.op("Exp", w.op("Neg", w.div(w.op("Abs", x), q)))
    shrunk = w.mul(x, decayed)
    top = w.if_positive(x, x, shrunk)
    bottom = w.if_positive(x, w.add(w.div(x, p), decayed), w.add(w.div(shrunk, p), w.constant(1.0)))
    return w.div(top, bottom)


def _pdelu(w: NodeWriter, x: str, module: nn.Module, _: int) -> str:
    rest, one = 1 - float(_constants(module)["t"]), w.constant(1.0)
    base = w.clip(w.mul(x, w.constant(rest)), torch.finfo(w.dtype).eps - 1, 0.0)
    # ln(1 + b) with the rounding of 1 + b divided out again, for the power magnifies it.
    grown = w.add(base, one)
    rounded = w.sub(grown, one)
    moved = w.op("Less", rounded, w.constant(0.0))
    ratio = w.div(base, w.op("Where", moved, rounded, one))
    logarithm = w.op("Where", moved, w.mul(w.op("Log", grown), ratio), base)
    power = w.op("Exp", w.div(logarithm, w.constant(rest)))
    return w.if_positive(x, x, w.mul(w.parameter(module, "alpha"), w.sub(power, one)))


def _tanh_gated(w: NodeWriter, x: str, alpha: str, beta: str, gamma: str) -> str:
    return w.mul(w.add(alpha, w.op("Tanh", w.mul(beta, x))), w.mul(gamma, x))


def _aptx(w: NodeWriter, x: str, module: nn.Module, _: int) -> str:
    values = _constants(module)
    return _tanh_gated(w, x, *(w.constant(float(values[name])) for name in ("alpha", "beta", "gamma")))


def _aptx_learned(w: NodeWriter, x: str, module: nn.Module, _: int) -> str:
    return _tanh_gated(w, x, *(w.parameter(module, name) for name in ("alpha", "beta", "gamma")))


def _pau(w: NodeWriter, x: str, module: nn.Module, _: int) -> str:
    top = w.element(module, "a", 5)
    for k in (4, 3, 2, 1, 0):
        top = w.add(w.mul(top, x), w.element(module, "a", k))
    b1, b2, b3, b4 = (w.op("Abs", w.element(module, "b", k)) for k in range(4))
    magnitude, square = w.op("Abs", x), w.mul(x, x)
    odd = w.mul(magnitude, w.add(b1, w.mul(b3, square)))
    even = w.mul(square, w.add(b2, w.mul(b4, square)))
    return w.div(top, w.add(w.add(odd, w.constant(1.0)), even))


def _polyrelu(w: NodeWriter, x: str, module: nn.Module, _: int) -> str:
    start = w.element(module, "a", 0)
    total = w.element(module, "a", 3)
    for k in (2, 1):
        total = w.add(w.mul(total, x), w.element(module, "a", k))
    return w.if_positive(x, w.add(w.mul(total, x), start), start)


def _polynorm(w: NodeWriter, x: str, module: nn.Module, rank: int) -> str:
    axis = 1 if rank == 4 else rank - 1
    total, power = w.element(module, "a", 0), x
    for k in (1, 2, 3):
        power = x if k == 1 else w.mul(power, x)
        variance = w.add(w.mean(w.mul(power, power), axis), w.constant(NORM_EPSILON))
        normalised = w.div(power, w.op("Sqrt", variance))
        total = w.add(total, w.mul(w.element(module, "a", k), normalised))
    return total


def _abrelu(w: NodeWriter, x: str, *_: Any) -> str:
    # A matrix of one row a sample does without the number of axes.
    rows = w.op("Flatten", x, axis=1)
    mean = w.mean(rows, 1)
    above = w.op("Where", w.op("Greater", rows, mean), w.sub(rows, mean), w.constant(0.0))
    return w.op("Reshape", above, w.op("Shape", x))


def _interpolate(w: NodeWriter, x: str, module: nn.Module, _: int) -> str:
    values = _constants(module)
    i, steepness, alpha = (float(values[name]) for name in ("i", "s", "alpha"))
    if i == 0:
        return _leaky_relu(w, x, nn.LeakyReLU(alpha), 0) if alpha else w.op("Relu", x)
    if values["target"] == "silu":
        goal = w.mul(w.mul(x, w.constant(i)), w.op("Sigmoid", x))
    else:
        goal = w.mul(w.mul(x, w.constant(i / 2)), _twice_normal(w, x, steepness))
    if i == 1:
        return goal
    below = w.mul(x, w.constant(alpha * (1 - i))) if alpha else w.constant(0.0)
    return w.add(goal, w.if_positive(x, w.mul(x, w.constant(1 - i)), below))


def _surrogate(w: NodeWriter, x: str, module: nn.Module, rank: int) -> str:
    # A file only ever runs forwards.
    value = str(_constants(module)["value"])
    return FORMULAS[value.partition("(")[0]](w, x, function_of(value), rank)


FORMULAS: Final[dict[str, Write]] = {
    "sigmoid": _native("Sigmoid"),
    "tanh": _native("Tanh"),
    "elliott": _elliott,
    "relu": _native("Relu"),
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "elu": _elu,
    "selu": _selu,
    "celu": _celu,
    "gelu": _gelu,
    "softplus": _softplus,
    "swish": _swish,
    "silu": _silu,
    "lisht": _lisht,
    "srs": _srs,
    "mish": _mish,
    "pdelu": _pdelu,
    "gelu_tanh": _gelu_tanh,
    "gelu_sigmoid": _gelu_sigmoid,
    "aptx": _aptx,
    "aptx_learned": _aptx_learned,
    "relu6": lambda w, x, *_: w.clip(x, 0.0, 6.0),
    "hardswish": _hardswish,
    "hardtanh": _hardtanh,
    "hardsigmoid": _hardsigmoid,
    "softsign": _softsign,
    "abrelu": _abrelu,
    "pau": _pau,
    "polyrelu": _polyrelu,
    "polynorm": _polynorm,
    "interpolate": _interpolate,
    "surrogate": _surrogate,
}
"""How each activation function of the catalogue that is not gated is written."""
