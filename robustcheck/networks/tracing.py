"""Traces a network symbolically with torch.fx, noting which module's forward makes each call and where it stands.

What cannot be traced (control flow on values, shapes used in Python) becomes a leaf, type by type, until the rest
traces. Only the graph is used: the network that is swapped and trained keeps its own Python code, so that what it
does on `self.training` stays alive.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import Parameter, signature
from typing import Any

import torch
from torch import fx, nn

from robustcheck.errors import SurgeryError
from robustcheck.networks.call_sites import calling_frame, file_of
from robustcheck.networks.kinds import function_name, module_kind
from robustcheck.networks.rerouting import Rerouted
from robustcheck.sensing.random import torch_seed


@dataclass(frozen=True)
class Place:
    """A call: the module whose forward makes it, file and line, and how many alike came before in that forward."""

    owner: str
    name: str
    file: str
    line: int
    ordinal: int


@dataclass
class Trace:
    """The graph of a region of the network, and the paths of its modules that the trace ran through or called.

    `opaque` are paths of modules that could not be traced, `places` has every call of the graph.
    """

    graph: fx.Graph
    places: dict[fx.Node, Place]
    modules: dict[str, nn.Module]
    covered: frozenset[str]
    opaque: frozenset[str]


def trace(network: nn.Module, *, training: bool, opaque_types: set[type[nn.Module]]) -> Trace:
    """Trace one module as if called with its required arguments; its paths are relative to it, '' is itself.

    The module is not changed. `opaque_types` grows by what turned out to be untraceable.
    """
    # Code that runs on proxies may leave them behind in attributes, and may draw random numbers.
    region = _caller(copied(network))
    # Not by what `train` returns: a network's own may return nothing.
    region.train(training)
    for module in region.modules():
        # Calls of methods on proxies would pass a rerouted forward by; the code as it is written shows all calls alike.
        if isinstance(forward := module.__dict__.get("forward"), Rerouted):
            forward.active = False
    while True:
        tracer = _Tracer(frozenset(opaque_types))
        try:
            with torch_seed(0), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                graph = tracer.trace(region)
        except Exception:
            failed = type(network) if tracer.failed is None else tracer.failed
            if failed in opaque_types:
                raise
            opaque_types.add(failed)
            continue
        modules = {_relative(path): module for path, module in region.named_modules(remove_duplicate=False) if path}
        opaque = {path for path in tracer.covered if type(modules[path]) in opaque_types}
        return Trace(graph, tracer.places, modules, frozenset(tracer.covered), frozenset(opaque))


class _Caller(nn.Module):
    """Calls a module with its required arguments only, so that optional ones keep their defaults, not proxies."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Any) -> Any:
        return self.network(x)


class _CallerOfTwo(_Caller):
    def forward(self, x: Any, y: Any) -> Any:  # type: ignore[override]
        return self.network(x, y)


class _CallerOfThree(_Caller):
    def forward(self, x: Any, y: Any, z: Any) -> Any:  # type: ignore[override]
        return self.network(x, y, z)


def _caller(network: nn.Module) -> _Caller:
    kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    parameters = signature(network.forward).parameters.values()
    required = sum(parameter.kind in kinds and parameter.default is Parameter.empty for parameter in parameters)
    return {2: _CallerOfTwo, 3: _CallerOfThree}.get(required, _Caller)(network)


@dataclass
class _Invocation:
    owner: str
    calls: Counter[tuple[str, int, str]] = field(default_factory=Counter)


class _Tracer(fx.Tracer):
    def __init__(self, opaque: frozenset[type[nn.Module]]) -> None:
        super().__init__()
        self.opaque = opaque
        self.invocations = [_Invocation("")]
        self.places: dict[fx.Node, Place] = {}
        self.covered: set[str] = set()
        self.failed: type[nn.Module] | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in self.opaque or module_kind(m) is not None or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        path = _relative(self.path_of_module(m))
        self.covered.add(path)

        def noted(*args: Any, **kwargs: Any) -> Any:
            self.invocations.append(_Invocation(path))
            try:
                return forward(*args, **kwargs)
            except Exception:
                self.failed = self.failed or type(m)
                raise
            finally:
                self.invocations.pop()

        return super().call_module(m, noted, args, kwargs)

    def create_node(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(kind, target, *args, **kwargs)
        if kind in ("call_function", "call_method", "call_module"):
            self.places[node] = self._place(kind, target)
        return node

    def _place(self, kind: str, target: Any) -> Place:
        invocation = self.invocations[-1]
        if kind == "call_module":
            file, line, name = "", 0, _relative(target)
        else:
            frame = calling_frame()
            file, line = ("", 0) if frame is None else (file_of(frame.f_code), frame.f_lineno)
            name = function_name(target if isinstance(target, str) else getattr(target, "__name__", ""))
        ordinal = invocation.calls[file, line, name]
        invocation.calls[file, line, name] += 1
        return Place(invocation.owner, name, file, line, ordinal)


def _relative(path: str) -> str:
    return path.removeprefix("network").removeprefix(".")


def copied(network: nn.Module) -> nn.Module:
    """A deep copy; raises SurgeryError where the network cannot be copied."""
    try:
        return copy.deepcopy(network)
    except Exception as error:
        raise SurgeryError(
            f"{type(network).__name__}: expected a network that can be copied, got {type(error).__name__}: {error}; "
            "keep no tensors that are part of a graph, and no open files, in its attributes"
        ) from error


def has_forward(module: nn.Module) -> bool:
    """Whether the module can be called; lists and dictionaries of modules cannot."""
    return type(module).forward is not nn.Module.forward


def is_torch_leaf(module: nn.Module) -> bool:
    """Whether torch.fx does not look into the module: torch's own, sequences of modules excepted."""
    return type(module).__module__.startswith("torch.nn") and not isinstance(module, nn.Sequential)


def overwriting(module: nn.Module) -> bool:
    """Whether an activation module writes its result into its input."""
    return getattr(module, "inplace", False) is True


def is_scripted(network: nn.Module) -> bool:
    """Whether any part of the network is TorchScript, whose code cannot be changed."""
    return any(isinstance(module, torch.jit.ScriptModule) for module in network.modules())
