"""Branches and loops: operators that run sub-graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from robustcheck.errors import ModelError
from robustcheck.networks.onnx.graph import Graph, Value, torch_dtype
from robustcheck.networks.onnx.operators.call import Builder, Call, Function, UnsupportedError

MOST_ITERATIONS: Final = 100_000
"""A loop that runs for longer is taken for one that never ends."""


def _runner(call: Call) -> Callable[..., tuple[Any, ...]]:
    if call.run is None:
        raise UnsupportedError("no means to run a sub-graph")
    return call.run


def _if(call: Call) -> Function:
    run = _runner(call)
    then, otherwise = call.get("then_branch"), call.get("else_branch")

    def branch(condition: Tensor) -> tuple[Any, ...]:
        return run(then if bool(condition) else otherwise)

    return branch


def _loop(call: Call) -> Function:
    run, body = _runner(call), call.get("body")

    def loop(most: Tensor | None = None, condition: Tensor | None = None, *state: Any) -> tuple[Any, ...]:
        device = next((each.device for each in state if isinstance(each, Tensor)), None)
        trips = None if most is None else int(most)
        going = torch.ones((), dtype=torch.bool) if condition is None else condition
        scanned: list[list[Tensor]] = [[] for _ in body.outputs[1 + len(state) :]]
        turn = 0
        while (trips is None or turn < trips) and bool(going):
            if turn >= MOST_ITERATIONS:
                raise ModelError(
                    f"Loop: expected an end within {MOST_ITERATIONS:,} iterations, got none; "
                    "check the condition that ends it"
                )
            going, *after = run(body, torch.tensor(turn, device=device), going, *state)
            state, new = tuple(after[: len(state)]), after[len(state) :]
            for values, value in zip(scanned, new, strict=True):
                values.append(value)
            turn += 1
        kinds = body.outputs[1 + len(state) :]
        return *state, *(_stacked(values, 0, kind, device) for values, kind in zip(scanned, kinds, strict=True))

    return loop


def _stacked(values: Sequence[Tensor], axis: int, kind: Value, device: torch.device | None) -> Tensor:
    """Values of all turns along a new axis; with no turn at all, an empty tensor of the type that the file states."""
    if values:
        return torch.stack(list(values), axis)
    sizes = [size if isinstance(size, int) else 0 for size in kind.shape or ()]
    sizes.insert(axis % (len(sizes) + 1), 0)
    return torch.empty(sizes, dtype=torch_dtype(kind.element_type or 1), device=device)


def _scan(call: Call) -> Function:
    if call.version < 9:
        raise UnsupportedError("the form before opset 9, which has a batch axis")
    run, count = _runner(call), call.get("num_scan_inputs", 0)
    body: Graph = call.get("body")
    if count < 1:
        raise UnsupportedError("no input to scan")
    in_axes, in_back = _listed(call, "scan_input_axes", count), _listed(call, "scan_input_directions", count)
    states = len(body.inputs) - count
    kinds = body.outputs[states:]
    out_axes, out_back = (
        _listed(call, "scan_output_axes", len(kinds)),
        _listed(call, "scan_output_directions", len(kinds)),
    )

    def scan(*inputs: Any) -> tuple[Any, ...]:
        state = inputs[:-count]
        slices = [each.unbind(axis) for each, axis in zip(inputs[-count:], in_axes, strict=True)]
        slices = [each[::-1] if back else each for each, back in zip(slices, in_back, strict=True)]
        scanned: list[list[Tensor]] = [[] for _ in kinds]
        for parts in zip(*slices, strict=True):
            after = run(body, *state, *parts)
            state = tuple(after[:states])
            for values, value in zip(scanned, after[states:], strict=True):
                values.append(value)
        turned = [each[::-1] if back else each for each, back in zip(scanned, out_back, strict=True)]
        device = inputs[-1].device
        return *state, *(_stacked(*each, device) for each in zip(turned, out_axes, kinds, strict=True))

    return scan


def _listed(call: Call, name: str, count: int) -> list[int]:
    return list(call.get(name) or [0] * count)


OPERATORS: Final[dict[str, Builder]] = {
    "If": _if,
    "Loop": _loop,
    "Scan": _scan,
}
"""What this module covers, by ONNX's names."""
