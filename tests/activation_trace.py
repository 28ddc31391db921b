"""Which activation functions a network applies, seen while it runs; shares nothing with the finders under test."""

from __future__ import annotations

from typing import Any

import torch
from export_networks import KINDS
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


def traced_activations(network: nn.Module, x: Tensor) -> list[tuple[str, str]]:
    """Each activation that one forward pass applies, in order, with the path of the module that applies it.

    Seen are torch's own functions as they are called, whoever calls them. Sigmoid and hard sigmoid are left out: these
    networks use them for gates alone. What happens within `nn.LSTM` is one call, and not seen.
    """
    running: list[str] = []
    hooks = []
    for path, module in network.named_modules():

        def enter(module: nn.Module, given: Any, path: str = path) -> None:
            running.append(path)

        hooks.append(module.register_forward_pre_hook(enter))
        hooks.append(module.register_forward_hook(lambda *_: running.pop() and None, always_call=True))
    with torch.no_grad(), _Watch(running) as watch:
        network(x)
    for hook in hooks:
        hook.remove()
    return watch.seen


class _Watch(TorchFunctionMode):
    def __init__(self, running: list[str]) -> None:
        super().__init__()
        self.running, self.seen = running, []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kind = _kind(getattr(func, "__name__", "").strip("_"), args[1:], kwargs or {})
        if kind is not None:
            self.seen.append((kind, self.running[-1]))
        return func(*args, **(kwargs or {}))


def _kind(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """How the catalogue spells a call of a function of torch; None where it is none of the fourteen."""

    def argument(position: int, name: str, default: Any) -> Any:
        return args[position] if len(args) > position else kwargs.get(name, default)

    if name == "leaky_relu" and (slope := argument(0, "negative_slope", 0.01)) != 0.01:
        return f"leaky_relu(slope={slope})"
    if name in ("elu", "celu") and (alpha := argument(0, "alpha", 1.0)) != 1:
        return f"{name}(alpha={alpha})"
    if name == "gelu":
        return "gelu_tanh" if argument(0, "approximate", "none") == "tanh" else "gelu"
    if name == "softplus" and (beta := argument(0, "beta", 1.0)) != 1:
        return f"softplus(beta={beta})"
    if name == "hardtanh":
        return "relu6" if (argument(0, "min_val", -1.0), argument(1, "max_val", 1.0)) == (0, 6) else "hardtanh"
    return name if name in KINDS else None
