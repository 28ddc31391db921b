"""What an activation function costs in time, beside ReLU, on this machine's processor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from robustcheck.activations.catalogue import Activation, activation

_WIDTH = 256
_LOOPS = 10


@dataclass(frozen=True)
class Cost:
    """Time [ns per input element], forward and backward, on one thread in float32, and the same of ReLU."""

    forward_ns: float
    backward_ns: float
    relu_forward_ns: float
    relu_backward_ns: float


def cost(measured: Activation, *, elements: int = 2**16, repeats: int = 25) -> Cost:
    """Time an activation and ReLU on one tensor of `elements` values in [-3, 3], shape (elements/256, 256).

    Each figure is the median over `repeats` rounds. The rounds of all four alternate, so that a machine that slows
    down or is shared slows all of them. Backward covers the gradients of the input and of learned parameters.

    >>> cost(activation("gelu"), elements=2**12, repeats=3).forward_ns > 0
    True
    """
    x = torch.linspace(-3, 3, elements // _WIDTH * _WIDTH).reshape(-1, _WIDTH).requires_grad_(True)
    steps = [*_steps(measured, x), *_steps(activation("relu"), x)]
    with _one_thread():
        for step in steps:
            step()
        rounds = [[_seconds(step) for step in steps] for _ in range(repeats)]
    figures = [median(column) * 1e9 / x.numel() for column in zip(*rounds, strict=True)]
    return Cost(*figures)


def _steps(timed: Activation, x: Tensor) -> tuple[Callable[[], object], Callable[[], object]]:
    """What is timed: one forward pass and one backward pass."""
    module = timed.module()
    output = module(x)
    gradient, inputs = torch.ones_like(output), [x, *module.parameters()]
    return (
        lambda: module(x),
        lambda: torch.autograd.grad(output, inputs, gradient, retain_graph=True),
    )


def _seconds(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    for _ in range(_LOOPS):
        step()
    return (time.perf_counter() - start) / _LOOPS


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
