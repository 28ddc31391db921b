"""One step of LSTM, GRU and RNN by ONNX's equations, and the activations that their nodes may name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from robustcheck.networks.onnx.operators.activation import softplus
from robustcheck.networks.onnx.operators.call import Call, UnsupportedError

Activation = Callable[[Tensor], Tensor]

_DEFAULTS: Final = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}

_PLAIN: Final[dict[str, Activation]] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "softplus": softplus,
    "softsign": F.softsign,
    "tanh": torch.tanh,
}

_ALPHA: Final = {
    "affine": 1.0,
    "elu": 1.0,
    "hardsigmoid": 0.2,
    "leakyrelu": 0.01,
    "scaledtanh": 1.0,
    "thresholdedrelu": 1.0,
}
"""Activations that take an alpha, with its default."""
_BETA: Final = {"affine": 0.0, "hardsigmoid": 0.5, "scaledtanh": 1.0}


def read_activations(call: Call, directions: int) -> tuple[tuple[str, ...], tuple[Activation, ...]]:
    """Names, in small letters, and functions of a node's activations, all directions after each other.

    Values of `activation_alpha` and `activation_beta` are used up in order by the activations that take one.
    """
    default = _DEFAULTS[call.op] * directions
    names = tuple(name.lower() for name in call.get("activations") or default)
    # RNN's own default lists two, whatever the direction.
    names = names[: len(default)]
    if len(names) < len(default):
        raise UnsupportedError(f"{len(names)} activations where {len(default)} are needed")
    alphas, betas = list(call.get("activation_alpha") or ()), list(call.get("activation_beta") or ())
    functions = []
    for name in names:
        alpha = alphas.pop(0) if name in _ALPHA and alphas else _ALPHA.get(name, 0.0)
        beta = betas.pop(0) if name in _BETA and betas else _BETA.get(name, 0.0)
        functions.append(_activation(name, alpha, beta))
    return names, tuple(functions)


def _activation(name: str, alpha: float, beta: float) -> Activation:
    match name:
        case "affine":
            return lambda x: alpha * x + beta
        case "elu":
            return lambda x: F.elu(x, alpha)
        case "hardsigmoid":
            return lambda x: torch.clamp(alpha * x + beta, 0, 1)
        case "leakyrelu":
            return lambda x: F.leaky_relu(x, alpha)
        case "scaledtanh":
            return lambda x: alpha * torch.tanh(beta * x)
        case "thresholdedrelu":
            return lambda x: F.threshold(x, alpha, 0.0)
        case _ if name in _PLAIN:
            return _PLAIN[name]
        case _:
            raise UnsupportedError(f"activation {name!r}")


@dataclass(frozen=True)
class Cell:
    """What a step of one direction needs beside its input and state.

    Attributes:
        r: weights of the state, shape (gates · hidden, hidden).
        b: both biases, shape (2 · gates · hidden).
        p: peepholes of LSTM, shape (3 · hidden), in the order of input, output and forget gate.
        activations: of this direction.
        clip: bound of what goes into the activations; 0 for none.
        coupled: whether the forget gate is one minus the input gate.
        reset_last: whether GRU multiplies with the reset gate after the matrix product.
    """

    r: Tensor
    b: Tensor | None
    p: Tensor | None
    activations: tuple[Activation, ...]
    clip: float
    coupled: bool
    reset_last: bool

    def bounded(self, x: Tensor) -> Tensor:
        """`x` within the bounds that the node states."""
        return x.clamp(-self.clip, self.clip) if self.clip else x

    def biases(self, gates: int) -> list[Tensor]:
        """First the input's biases of all gates, then the state's."""
        hidden = self.r.shape[1]
        return list(self.r.new_zeros(2 * gates, hidden) if self.b is None else self.b.reshape(2 * gates, hidden))


Step = Callable[[Cell, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From a cell, the projected input (batch, gates · hidden), state and memory to the next state and memory."""


def lstm_step(cell: Cell, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step of LSTM."""
    f, g, last = cell.activations
    summed = x + h @ cell.r.T
    if cell.b is not None:
        summed = summed + cell.b.reshape(2, -1).sum(0)
    to_i, to_o, to_f, to_c = summed.chunk(4, -1)
    p_i, p_o, p_f = (0.0, 0.0, 0.0) if cell.p is None else cell.p.chunk(3)
    i = f(cell.bounded(to_i + p_i * c))
    forget = 1 - i if cell.coupled else f(cell.bounded(to_f + p_f * c))
    c = forget * c + i * g(cell.bounded(to_c))
    o = f(cell.bounded(to_o + p_o * c))
    return o * last(c), c


def gru_step(cell: Cell, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step of GRU; `c` comes back as it is."""
    f, g = cell.activations
    hidden = h.shape[-1]
    w_z, w_r, w_h, r_z, r_r, r_h = cell.biases(3)
    x_z, x_r, x_h = x.chunk(3, -1)
    h_z, h_r = (h @ cell.r[: 2 * hidden].T).chunk(2, -1)
    z, r = f(cell.bounded(x_z + h_z + w_z + r_z)), f(cell.bounded(x_r + h_r + w_r + r_r))
    inner = cell.r[2 * hidden :].T
    fresh = r * (h @ inner + r_h) if cell.reset_last else (r * h) @ inner + r_h
    return (1 - z) * g(cell.bounded(x_h + fresh + w_h)) + z * h, c


def rnn_step(cell: Cell, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step of RNN; `c` comes back as it is."""
    w, r = cell.biases(1)
    return cell.activations[0](cell.bounded(x + h @ cell.r.T + w + r)), c


CELLS: Final[dict[str, Step]] = {"GRU": gru_step, "LSTM": lstm_step, "RNN": rnn_step}
"""The step of each operator."""
