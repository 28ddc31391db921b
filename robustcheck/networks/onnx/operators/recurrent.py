"""LSTM, GRU and RNN: torch's fused ones where a node is of the common form, else step by step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from robustcheck.networks.onnx.operators.call import Builder, Call, Function, UnsupportedError
from robustcheck.networks.onnx.operators.cells import CELLS, Activation, Cell, read_activations

_GATES: Final = {"LSTM": 4, "GRU": 3, "RNN": 1}
_ORDER: Final = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""Which of ONNX's gates come first, second, … in torch: iofc → ifco, zrh → rzh."""
_DIRECTIONS: Final = ("forward", "reverse", "bidirectional")


@dataclass(frozen=True)
class Recurrence:
    """What a node's attributes say.

    Attributes:
        op: LSTM, GRU or RNN.
        direction: forward, reverse or bidirectional.
        batch_first: whether batches come before steps.
        activations: functions of all directions, one direction after the other.
        fused: torch's function, where it does the same.
        clip: bound of what goes into the activations; 0 for none.
        coupled: whether the forget gate is one minus the input gate.
        reset_last: whether GRU multiplies with the reset gate after the matrix product.
    """

    op: str
    direction: str
    batch_first: bool
    activations: tuple[Activation, ...]
    fused: Callable[..., Any] | None
    clip: float
    coupled: bool
    reset_last: bool


def _read(call: Call) -> Recurrence:
    direction = call.get("direction", "forward").lower()
    if direction not in _DIRECTIONS:
        raise UnsupportedError(f"direction={direction!r}")
    directions = 2 if direction == "bidirectional" else 1
    names, activations = read_activations(call, directions)
    clip, coupled = call.get("clip", 0.0), bool(call.get("input_forget", 0))
    reset_last = bool(call.get("linear_before_reset", 0))
    fused: Callable[..., Any] | None = None
    if not clip and not coupled:
        if call.op == "LSTM" and names == ("sigmoid", "tanh", "tanh") * directions:
            fused = torch.lstm
        elif call.op == "GRU" and names == ("sigmoid", "tanh") * directions and reset_last:
            fused = torch.gru
        elif call.op == "RNN" and set(names) in ({"tanh"}, {"relu"}):
            fused = torch.rnn_tanh if names[0] == "tanh" else torch.rnn_relu
    batch_first = bool(call.get("layout", 0))
    return Recurrence(call.op, direction, batch_first, activations, fused, clip, coupled, reset_last)


def _recurrent(call: Call) -> Function:
    recurrence = _read(call)
    cells = recurrence.op == "LSTM"

    def run(
        x: Tensor,
        w: Tensor,
        r: Tensor,
        b: Tensor | None = None,
        lengths: Tensor | None = None,
        h: Tensor | None = None,
        c: Tensor | None = None,
        peepholes: Tensor | None = None,
    ) -> Any:
        if recurrence.batch_first:
            x = x.transpose(0, 1)
            h, c = (None if state is None else state.transpose(0, 1) for state in (h, c))
        steps, batch, _ = x.shape
        zeros = x.new_zeros(len(w), batch, r.shape[-1])
        h, c = zeros if h is None else h, zeros if c is None else c
        if lengths is not None and bool((lengths >= steps).all()):
            lengths = None
        if recurrence.fused is not None and lengths is None and peepholes is None and steps > 0:
            y, h, c = _fused(recurrence, x, (w, r, b), h, c)
        else:
            y, h, c = _stepwise(recurrence, x, (w, r, b, peepholes), lengths, h, c)
        if recurrence.batch_first:
            y, h, c = y.permute(2, 0, 1, 3), h.transpose(0, 1), c.transpose(0, 1)
        outputs = (y, h, c) if cells else (y, h)
        return y if call.outputs == 1 else outputs[: call.outputs]

    return run


def flat_weights(op: str, w: Tensor, r: Tensor, b: Tensor | None) -> list[Tensor]:
    """ONNX's weights in torch's order of gates, differentiable, as the list that torch's functions take.

    All lie in one piece of memory, matrices first, which is how cuDNN wants them.

    Args:
        op: LSTM, GRU or RNN.
        w: of the input, shape (directions, gates · hidden, input).
        r: of the state, shape (directions, gates · hidden, hidden).
        b: both biases, shape (directions, 2 · gates · hidden).
    """
    gates, order = _GATES[op], _ORDER[op]
    hidden = r.shape[-1]
    matrices, biases = [], []
    for direction in range(len(w)):
        for matrix in (w[direction], r[direction]):
            blocks = torch.split(matrix, hidden)
            matrices += [blocks[gate] for gate in order]
        if b is not None:
            blocks = torch.split(b[direction], hidden)
            biases += [blocks[half + gate] for half in (0, gates) for gate in order]
    flat = torch.cat([block.reshape(-1) for block in (*matrices, *biases)])
    rows = gates * hidden
    shapes: list[tuple[int, ...]] = [(rows, w.shape[-1]), (rows, hidden)] * len(w)
    if b is not None:
        shapes += [(rows,)] * (2 * len(w))
    parts = [
        part.view(shape)
        for part, shape in zip(torch.split(flat, [math.prod(shape) for shape in shapes]), shapes, strict=True)
    ]
    if b is None:
        return parts
    count = 2 * len(w)
    return [part for at in range(0, count, 2) for part in (*parts[at : at + 2], *parts[count + at : count + at + 2])]


def _fused(
    recurrence: Recurrence, x: Tensor, weights: tuple[Tensor, Tensor, Tensor | None], h: Tensor, c: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    assert recurrence.fused is not None
    back, both = recurrence.direction == "reverse", recurrence.direction == "bidirectional"
    x = x.flip(0) if back else x
    flat = flat_weights(recurrence.op, *weights)
    state = (h.contiguous(), c.contiguous()) if recurrence.op == "LSTM" else h.contiguous()
    y, h, *rest = recurrence.fused(x, state, flat, weights[2] is not None, 1, 0.0, False, both, False)
    y = y.unflatten(2, (len(h), -1)).transpose(1, 2)
    return (y.flip(0) if back else y), h, (rest[0] if rest else c)


def _stepwise(
    recurrence: Recurrence,
    x: Tensor,
    weights: tuple[Tensor, Tensor, Tensor | None, Tensor | None],
    lengths: Tensor | None,
    h: Tensor,
    c: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    w, r, b, p = weights
    count = len(recurrence.activations) // len(w)
    inside = None
    if lengths is not None:
        inside = torch.arange(len(x), device=x.device)[:, None] < lengths.to(x.device)
    ys, hs, cs = [], [], []
    for direction in range(len(w)):
        back = recurrence.direction == "reverse" or direction == 1
        given = _reversed(x, lengths) if back else x
        cell = Cell(
            r[direction],
            None if b is None else b[direction],
            None if p is None else p[direction],
            recurrence.activations[count * direction : count * (direction + 1)],
            recurrence.clip,
            recurrence.coupled,
            recurrence.reset_last,
        )
        step = CELLS[recurrence.op]
        state, memory, row = h[direction], c[direction], []
        for at, projected in enumerate(given @ w[direction].T):
            new, kept = step(cell, projected, state, memory)
            if inside is not None:
                mask = inside[at][:, None]
                state, memory = torch.where(mask, new, state), torch.where(mask, kept, memory)
                new = torch.where(mask, new, torch.zeros_like(new))
            else:
                state, memory = new, kept
            row.append(new)
        y = torch.stack(row) if row else x.new_zeros(0, *state.shape)
        ys.append(_reversed(y, lengths) if back else y)
        hs.append(state)
        cs.append(memory)
    return torch.stack(ys, 1), torch.stack(hs), torch.stack(cs)


def _reversed(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Steps in reverse, each sequence within its own length; shape (steps, batch, …)."""
    if lengths is None:
        return x.flip(0)
    steps = torch.arange(len(x), device=x.device)[:, None]
    ends = lengths.to(x.device)[None]
    order = torch.where(steps < ends, ends - 1 - steps, steps)
    return x.gather(0, order[..., None].expand_as(x))


OPERATORS: Final[dict[str, Builder]] = {
    "GRU": _recurrent,
    "LSTM": _recurrent,
    "RNN": _recurrent,
}
"""What this module covers, by ONNX's names."""
