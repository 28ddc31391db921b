"""Runs a module's own forward with its calls of activation functions going to modules instead.

The forward stays the user's Python code: control flow, `self.training` and shapes work as before. While it runs,
torch hands every function call to us first; calls that the forward itself makes at a known place go to the module
that stands for that place, everything else passes.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from robustcheck.errors import SurgeryError
from robustcheck.networks.call_sites import ANY_CALL, calling_frame, file_of, is_module_call
from robustcheck.networks.kinds import FUNCTIONS, SQUASHING, function_kind, function_name, kind_name

Key = tuple[str, int, str, int]


@dataclass(frozen=True)
class Route:
    """Where a call goes: the name of a submodule of the owner (None leaves the call alone) and the input's position."""

    submodule: str | None
    argument: int = 0


class PerCall(nn.ModuleList):
    """Stands for a module that is called several times, with an instance of its own for each call.

    Whose call comes next is set by the `Rerouted` forward of the module that makes the calls.
    """

    def __init__(self, instances: list[nn.Module]) -> None:
        super().__init__(instances)
        self.next_call = 0

    def forward(self, x: Tensor) -> Tensor:
        """The next instance's result."""
        instance = self[min(self.next_call, len(self) - 1)]
        self.next_call += 1
        return instance(x)  # type: ignore[no-any-return]


class WrittenBack(nn.Module):
    """Writes the result of an activation into its input, where code relies on an in-place original having done so."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """The input tensor itself, overwritten."""
        # Autograd needs the input's old values in the backward pass.
        return x.copy_(self.activation(x.clone()))


class Rerouted:
    """Takes the place of `module.forward`; copies and pickles with its module.

    Args:
        owner: whose forward this is.

    Attributes:
        routes: by file, line, name of the function, and number of the call with these three in one forward.
        first_calls: which instance of a `PerCall` this forward's first call of it takes.
        intercepts: whether function calls are looked at; one of an activation that has no route is then an error.
        active: false while the network is traced.
    """

    def __init__(self, owner: nn.Module) -> None:
        self.owner = owner
        self.replaced: Callable[..., Any] | None = owner.__dict__.get("forward")
        self.routes: dict[Key, Route] = {}
        self.first_calls: list[tuple[PerCall, int]] = []
        self.intercepts = False
        self.active = True

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._original)

    @property
    def __code__(self) -> CodeType:
        # torch.export asks a forward for its code, to say where it stands.
        code: CodeType = self._original.__code__
        return code

    @property
    def _original(self) -> Callable[..., Any]:
        return self.replaced or type(self.owner).forward.__get__(self.owner)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module's own forward with its calls rerouted."""
        before = [module.next_call for module, _ in self.first_calls]
        for module, first in self.first_calls:
            module.next_call = first
        try:
            with _Interception(self) if self.active and self.intercepts else nullcontext():
                return self._original(*args, **kwargs)
        finally:
            for (module, _), position in zip(self.first_calls, before, strict=True):
                module.next_call = position

    def is_called_by(self, frame: FrameType | None) -> bool:
        """Whether the code of a frame runs in this forward itself and not in a submodule."""
        own = Rerouted.__call__.__code__
        while frame is not None and not is_module_call(frame):
            if frame.f_code is own:
                return frame.f_locals.get("self") is self
            frame = frame.f_back
        return False


def reroute(owner: nn.Module) -> Rerouted:
    """The module's rerouted forward, installed where it has none yet.

    Raises SurgeryError for a graph of torch.fx, whose copies are made from the graph alone and would drop it.
    """
    if isinstance(owner, fx.GraphModule):
        raise SurgeryError(
            "torch.fx graph: expected Python code where functions are called, and modules several times, got a "
            "GraphModule, whose copies lose what is put around its code; load the network that it was traced from"
        )
    forward = owner.__dict__.get("forward")
    if not isinstance(forward, Rerouted):
        forward = Rerouted(owner)
        owner.forward = forward
    return forward


class _Interception(TorchFunctionMode):
    def __init__(self, forward: Rerouted) -> None:
        super().__init__()
        self.forward = forward
        self.names = FUNCTIONS | {name for _, _, name, _ in forward.routes}
        self.calls: Counter[Key] = Counter()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = function_name(getattr(func, "__name__", ""))
        if name in self.names:
            frame = calling_frame()
            if frame is not None and self.forward.is_called_by(frame):
                route = self._route(name, file_of(frame.f_code), frame.f_lineno, args, kwargs)
                if route.submodule is not None:
                    module = getattr(self.forward.owner, route.submodule)
                    return module(args[route.argument] if args else kwargs["input"])
        return func(*args, **kwargs)

    def _route(self, name: str, file: str, line: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Route:
        key = (file, line, name, self.calls[file, line, name, 0])
        self.calls[file, line, name, 0] += 1
        route = self.forward.routes.get(key) or self.forward.routes.get((file, line, name, ANY_CALL))
        if route is None:
            kind = function_kind(name, args, kwargs)
            if kind is not None and kind_name(kind) not in SQUASHING:
                raise SurgeryError(
                    f"{file}, line {line}: expected only activation functions that were found when the network was "
                    f"swapped, got a call of {kind}; call it through a module (nn.Module) so that it can be replaced"
                )
            return Route(None)
        return route
