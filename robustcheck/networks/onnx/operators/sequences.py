"""Operators on sequences; a sequence is a tuple of tensors.

Of the operators in `GIVES_SEQUENCE` a tuple is the one output; of all others, a tuple is the outputs.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from robustcheck.networks.onnx.operators.call import Builder, Call, Function, UnsupportedError, ints
from robustcheck.networks.onnx.operators.fallback import always

Sequence = tuple[Tensor, ...]

GIVES_SEQUENCE: Final = frozenset(
    {"Identity", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SplitToSequence"}
)
"""Operators whose output, where it is a tuple, is a sequence."""


def _place(position: Tensor) -> int:
    (place,) = ints(position)
    return place


def _insert(sequence: Sequence, tensor: Tensor, position: Tensor | None = None) -> Sequence:
    place = len(sequence) if position is None else _place(position)
    return (*sequence[:place], tensor, *sequence[place:])


def _erase(sequence: Sequence, position: Tensor | None = None) -> Sequence:
    place = (-1 if position is None else _place(position)) % len(sequence)
    return (*sequence[:place], *sequence[place + 1 :])


def _split(call: Call) -> Function:
    axis, keep = call.get("axis", 0), bool(call.get("keepdims", 1))

    def run(x: Tensor, sizes: Tensor | None = None) -> Sequence:
        if sizes is None:
            return torch.split(x, 1, axis) if keep else torch.unbind(x, axis)
        return torch.split(x, ints(sizes) if sizes.dim() else _place(sizes), axis)

    return run


def _join(call: Call) -> Function:
    axis = call.attributes["axis"]
    if call.get("new_axis", 0):
        return lambda sequence: torch.stack(sequence, axis)
    return lambda sequence: torch.cat(sequence, axis)


def _map(call: Call) -> Function:
    body, run_body = call.attributes["body"], call.run
    if run_body is None:
        raise UnsupportedError("no way to run its body")

    def run(sequence: Sequence, *others: Any) -> tuple[Sequence, ...]:
        if not sequence:
            return ((),) * call.outputs
        made = [
            run_body(body, each, *(other[i] if isinstance(other, tuple) else other for other in others))
            for i, each in enumerate(sequence)
        ]
        return tuple(zip(*made, strict=True))

    return run


OPERATORS: Final[dict[str, Builder]] = {
    "ConcatFromSequence": _join,
    "SequenceAt": always(lambda sequence, position: sequence[_place(position)]),
    "SequenceConstruct": always(lambda *tensors: tensors),
    "SequenceEmpty": always(lambda: ()),
    "SequenceErase": always(_erase),
    "SequenceInsert": always(_insert),
    "SequenceLength": always(lambda sequence: torch.tensor(len(sequence))),
    "SequenceMap": _map,
    "SplitToSequence": _split,
}
