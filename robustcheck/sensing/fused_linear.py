"""A linear layer with its converters as one node of autograd's graph.

In a small network Python's work around each node is much of what noise costs; a linear layer between two converters
would be three nodes. The products are those of torch's own linear layer, and so are the bits that come out. The node
cannot be differentiated twice: torch says so where that is tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from robustcheck.sensing.converter import BoundConverter, mask_gradient


def plain(layer: nn.Module) -> bool:
    """Whether a layer is one of torch's own and does what its class says: no hook, and no forward of its own."""
    hooked = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return (
        type(layer).__module__.startswith("torch.nn.modules.")
        and not any(hooked)
        and "forward" not in vars(layer)
        and not nn.modules.module._has_any_global_hook()  # type: ignore[no-untyped-call, unused-ignore]
    )


def fuses(layer: nn.Module, x: torch.Tensor) -> bool:
    """Whether `linear` may stand for the forward of a layer that is `plain`: a linear layer on a matrix."""
    return (
        type(layer) is nn.Linear
        and x.dim() == 2
        and layer._parameters.get("weight") is not None
        and x.dtype == layer.weight.dtype
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled(x.device.type)
    )


def linear(
    x: torch.Tensor,
    stored: Mapping[str, torch.Tensor | None],
    noisy: Mapping[str, torch.Tensor],
    before: BoundConverter | None,
    after: BoundConverter,
    sample_ids: torch.Tensor,
    draw: int,
) -> torch.Tensor:
    """Converter, linear layer with noisy weights, converter; the weights' gradients go to the stored ones.

    Args:
        x: (rows, inputs).
        stored: `weight` and `bias` (or None) of the layer.
        noisy: the same behind their converters.
        before: converter of the input; None where the layer reads the image.
        after: converter of the output.
        sample_ids: (n,) int64, as `Converter` takes them.
        draw: number of the training step.

    Returns:
        (rows, outputs).
    """
    out: torch.Tensor = _Linear.apply(x, stored["weight"], stored.get("bias"), noisy, before, after, sample_ids, draw)
    return out


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,  # noqa: ARG004 (named for its gradient)
        bias: torch.Tensor | None,  # noqa: ARG004
        noisy: Mapping[str, torch.Tensor],
        before: BoundConverter | None,
        after: BoundConverter,
        sample_ids: torch.Tensor,
        draw: int,
    ) -> torch.Tensor:
        needs_input, needs_weight = ctx.needs_input_grad[:2]
        x, mask = x.contiguous(), None
        if before is not None:
            x, mask = before.run(x, sample_ids, draw, keep_mask=needs_input)
        y = nn.functional.linear(x, noisy["weight"], noisy.get("bias"))
        out, cut = after.run(y, sample_ids, draw, keep_mask=True, in_place=True)
        ctx.save_for_backward(x if needs_weight else None, noisy["weight"] if needs_input else None, mask, cut)
        return out

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, mask, cut = ctx.saved_tensors
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        gradient = mask_gradient(gradients[0], cut)
        for_input = gradient.mm(weight) if needs_input else None
        if for_input is not None and mask is not None:
            for_input = mask_gradient(for_input, mask)
        for_weight = gradient.t().mm(x) if needs_weight else None
        return for_input, for_weight, gradient.sum(0) if needs_bias else None, None, None, None, None, None
