"""The network made from an exported program: layers are torch modules, the rest are calls in its order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustcheck.errors import ModelError
from robustcheck.networks.exported.archive import read_archive
from robustcheck.networks.exported.building import FUNCTION, MODULE, Call, put_together
from robustcheck.networks.exported.program import DEVICE, Program, Ref, function_of, read_program
from robustcheck.networks.inputs import InputSpec


@dataclass(frozen=True)
class _Plan:
    """What the network runs: the names of its input and output, the input's shape (None where free), the calls."""

    input: str
    output: str
    sizes: tuple[int | None, ...]
    calls: tuple[Call, ...]


class ExportedNetwork(nn.Module):
    """Runs an exported program of one image tensor.

    Layers with weights, dropout and activation functions are modules at the paths they had in the network that was
    exported, so batch normalisation and dropout obey the mode again. All else stays as it was exported:
    what shapes and branches came to, and parts that only training would have run (stochastic depth; in a program that
    was exported in evaluation mode also a dropout whose result is read several times, since there it is its input).

    Args:
        program: from `read_program`.
        tensors: its parameters, buffers and constants by name.
    """

    def __init__(self, program: Program, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        # Few names and underscored ones, so that they are none of the program's.
        self._plan = _Plan(program.input, program.output, program.sizes, put_together(self, program, tensors))
        self._functions = [_function(call) for call in self._plan.calls]

    def forward(self, x: torch.Tensor) -> Any:
        """The program's output for images of the exported shape.

        Raises:
            ModelError: the program was exported for another shape, or for another number of images.
        """
        if type(x) is torch.Tensor:
            _check_shape(self._plan.sizes, tuple(x.shape))
        values: dict[str, Any] = {self._plan.input: x, DEVICE.name: x.device}
        for call, function in zip(self._plan.calls, self._functions, strict=True):
            if call.what == FUNCTION:
                args = [_filled(arg, values) for arg in call.args]
                result = function(*args, **{name: _filled(arg, values) for name, arg in call.kwargs.items()})
            elif call.what == MODULE:
                result = function(self)(values[call.args[0].name])
            else:
                result = function(self)
            if call.several:
                values.update((name, result[i]) for i, name in enumerate(call.outputs) if name is not None)
            elif call.outputs[0] is not None:
                values[call.outputs[0]] = result
            for name in call.drop:
                del values[name]
        return values[self._plan.output]

    def extra_repr(self) -> str:
        """A digest of the calls, which the modules alone do not tell."""
        return f"program={hashlib.sha256(repr(self._plan).encode()).hexdigest()[:16]}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_functions": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "_functions": [_function(call) for call in state["_plan"].calls]})  # type: ignore[no-untyped-call]


def exported_network(path: str | Path) -> tuple[ExportedNetwork, InputSpec]:
    """The network of a `.pt2` file, and the shape of its images where the program fixes it.

    Raises:
        ModelError: the file cannot be read, or is no program of torch's own operators from one tensor to one tensor.
        UnsafeFileError: something in the file is pickled.
    """
    path = Path(path)
    archive = read_archive(path)
    program = read_program(archive.program, str(path))
    missing = sorted({*program.parameters.values(), *program.buffers.values()} - set(archive.tensors))
    if missing:
        raise ModelError(f"{path}: tensors are missing from the archive: {', '.join(missing[:5])}")
    try:
        network = ExportedNetwork(program, archive.tensors)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        raise ModelError(
            f"{path}: the program's calls do not fit together: {type(error).__name__}: {error}; make it again with "
            "torch.export.save"
        ) from error
    shape = program.sizes[1:]
    if len(shape) == 3 and None not in shape:
        return network, InputSpec(shape=shape)  # type: ignore[arg-type]
    return network, InputSpec()


def _function(call: Call) -> Callable[..., Any]:
    """What a call runs; modules and tensors are looked up each time, since they can be replaced."""
    if call.what != FUNCTION:
        return attrgetter(call.target)
    function = function_of(call.target)
    assert function is not None
    return function


def _filled(argument: Any, values: Mapping[str, Any]) -> Any:
    kind = type(argument)
    if kind is Ref:
        return values[argument.name]
    return [_filled(part, values) for part in argument] if kind is list else argument


def _check_shape(sizes: tuple[int | None, ...], shape: tuple[int, ...]) -> None:
    if len(shape) == len(sizes) and all(want in (None, got) for want, got in zip(sizes, shape, strict=True)):
        return
    if len(shape) == len(sizes) and sizes[0] not in (None, shape[0]):
        raise ModelError(
            f"the program was exported for exactly {sizes[0]} images at once, got {shape[0]}; export it again with "
            "dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)"
        )
    wanted = ", ".join("any" if size is None else str(size) for size in sizes)
    raise ModelError(f"the program was exported for images of shape ({wanted}), got {shape}; check --resize")
