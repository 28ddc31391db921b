"""Puts the layers and tensors of an exported program into a network, and says what is called in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import nn

from robustcheck.networks.exported.layers import Layer, layer_of
from robustcheck.networks.exported.program import DEVICE, TRANSPOSES, Program, Ref, Step, references
from robustcheck.networks.kinds import kind_name, module_kind

FUNCTION: Final = "function"
MODULE: Final = "module"
TENSOR: Final = "tensor"

_OWN_PATH: Final = ("torch.nn.modules.activation.", "torch.nn.modules.dropout.", "timm.layers.activations")
_WRAPPED: Final = (nn.Linear, nn.modules.conv._ConvNd)


@dataclass(frozen=True)
class Call:
    """One thing to do: call the function `target`, call the module at the path `target`, or take the tensor there.

    Values named by `drop` are not needed afterwards; the rest as in `Step`.
    """

    what: str
    target: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[str | None, ...]
    several: bool
    drop: tuple[str, ...] = ()


def put_together(network: nn.Module, program: Program, tensors: Mapping[str, torch.Tensor]) -> tuple[Call, ...]:
    """Give a network without modules those of the program, and return its calls.

    Args:
        network: is changed.
        program: from `read_program`.
        tensors: parameters, buffers and constants by name.
    """
    builder = _Builder(network, program, tensors)
    builder.place_layers()
    builder.place_tensors()
    return _with_drops(builder.calls(), program.output)


class _Builder:
    def __init__(self, network: nn.Module, program: Program, tensors: Mapping[str, torch.Tensor]) -> None:
        self.network, self.program, self.tensors = network, program, tensors
        self.owned = {**program.parameters, **program.buffers}
        self.in_scope = Counter(step.scope for step in program.steps)
        self.ports: dict[str, set[str]] = {}
        for name in self.owned.values():
            path, _, port = name.rpartition(".")
            self.ports.setdefault(path, set()).add(port)
        # Paths that hold something below them, where no activation can stand.
        self.containers = {part for name in self.owned.values() for part in _above(name)}
        self.containers |= {part for step in program.steps for part in _above(step.scope)}
        self.taken = {*self.containers, *self.owned.values()}
        self.layers: dict[int, tuple[str, Layer]] = {}
        self.settings: dict[str, str] = {}

    def place_layers(self) -> None:
        """Layers with tensors first, at the paths of these; then the rest, at paths that are free."""
        free: list[tuple[int, Layer]] = []
        for number, step in enumerate(self.program.steps):
            layer = layer_of(step, self.program, self.tensors)
            if layer is None:
                continue
            if layer.path is None:
                free.append((number, layer))
                continue
            module = layer.build()
            # One layer may be called several times, but only in one way, and all that it owns takes part.
            settings = f"{type(module).__name__}({module.extra_repr()})"
            if self.ports[layer.path] - {"num_batches_tracked"} != layer.ports:
                continue
            if self.settings.setdefault(layer.path, settings) == settings:
                self.layers[number] = (layer.path, layer)
                self._put(layer.path, module)
        for number, layer in free:
            module = layer.build()
            path = self._free_path(self.program.steps[number], module)
            self.layers[number] = (path, layer)
            self._put(path, module)

    def place_tensors(self) -> None:
        """Every parameter and buffer under its own name, tied ones as one."""
        made: dict[int, nn.Parameter] = {}
        for value, name in self.owned.items():
            path, _, port = name.rpartition(".")
            owner, tensor = self._container(path), self.tensors[name]
            if value in self.program.parameters:
                parameter = made.setdefault(
                    id(tensor), nn.Parameter(tensor, requires_grad=tensor.is_floating_point() or tensor.is_complex())
                )
                owner.register_parameter(port, parameter)
            else:
                owner.register_buffer(port, tensor, persistent=value in self.program.persistent)

    def calls(self) -> list[Call]:
        made: list[Call] = []
        got: set[str] = set()
        left = [step for number, step in enumerate(self.program.steps) if number not in self.layers]
        needed = {ref.name for step in left for ref in references([*step.args, *step.kwargs.values()])}
        needed |= {layer.input.name for _, layer in self.layers.values()} | {self.program.output}
        for number, step in enumerate(self.program.steps):
            if number in self.layers:
                path, layer = self.layers[number]
                made.append(Call(MODULE, path, (layer.input,), {}, step.outputs[:1], False))
                continue
            if self._counts_batches(step) or (step.name in TRANSPOSES and not needed & set(step.outputs)):
                continue
            for ref in references([*step.args, *step.kwargs.values()]):
                if ref.name in self.owned and ref.name not in got:
                    got.add(ref.name)
                    made.append(Call(TENSOR, self.owned[ref.name], (), {}, (ref.name,), False))
            made.append(Call(FUNCTION, step.target, step.args, step.kwargs, step.outputs, step.several))
        return made

    def _counts_batches(self, step: Step) -> bool:
        """Whether the step counts a batch that the module of batch normalisation counts itself."""
        counted = step.args[0] if step.name == "add_" and step.args else None
        path, _, port = self.owned.get(counted.name, "").rpartition(".") if isinstance(counted, Ref) else ("", "", "")
        return port == "num_batches_tracked" and path in self.settings

    def _free_path(self, step: Step, module: nn.Module) -> str:
        """The program's own path where this is all that its module does, else a name beside others of its scope."""
        alone = step.scope_type.startswith(_OWN_PATH) or self.in_scope[step.scope] == 1
        base = step.scope
        if not (base and alone) or base in self.containers:
            name = kind_name(module_kind(module) or type(module).__name__.lower())
            # Noise in the layers wraps a layer with weights, which then shows nothing below it.
            inside = isinstance(self._found(base), _WRAPPED)
            base = f"{base}_{name}" if inside else f"{base}.{name}" if base else name
        path, number = base, 0
        while path in self.taken or hasattr(self._found(path.rpartition(".")[0]), path.rpartition(".")[2]):
            number += 1
            path = f"{base}_{number}"
        return path

    def _found(self, path: str) -> nn.Module | None:
        try:
            return self.network.get_submodule(path)
        except AttributeError:
            return None

    def _container(self, path: str) -> nn.Module:
        module = self.network
        for name in path.split(".") if path else ():
            if name not in module._modules:
                module.add_module(name, nn.Module())
            module = module.get_submodule(name)
        return module

    def _put(self, path: str, module: nn.Module) -> None:
        parent, _, name = path.rpartition(".")
        owner = self._container(parent)
        standing = owner._modules.get(name)
        for below, child in standing.named_children() if standing is not None else ():
            module.add_module(below, child)
        owner.add_module(name, module)
        self.taken.add(path)


def _above(path: str) -> list[str]:
    """All paths that this one lies below.

    >>> _above("a.b.weight")
    ['a', 'a.b']
    """
    parts = path.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _with_drops(calls: Iterable[Call], output: str) -> tuple[Call, ...]:
    """Name with each call the values that it reads last, so that memory is free again."""
    seen = {output, DEVICE.name}
    result: list[Call] = []
    for call in reversed([*calls]):
        read = {ref.name for ref in references([*call.args, *call.kwargs.values()])}
        made = {name for name in call.outputs if name is not None}
        result.append(replace(call, drop=tuple(sorted((read | made) - seen))))
        seen |= read | made
    return tuple(reversed(result))
