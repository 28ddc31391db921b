"""Which kernel a tensor goes to, and the same as operators that `torch.compile` can put into a graph.

`robustcheck::convert` and `robustcheck::mask_gradient` are registered when this module is imported. Eager code calls
the kernels themselves: an operator's way through torch's dispatcher costs more than a small tensor's conversion.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

from robustcheck.sensing.kernels import reference


@cache
def kernel(device_type: str) -> Any:
    """The module that converts tensors of this device: `cpu`, `cuda` where Triton is installed, else `reference`."""
    if device_type == "cpu":
        from robustcheck.sensing.kernels import cpu

        return cpu
    if device_type == "cuda" and find_spec("triton") is not None:
        from robustcheck.sensing.kernels import cuda

        return cuda
    return reference


@torch.library.custom_op("robustcheck::convert", mutates_args=())
def _convert(
    x: torch.Tensor,
    sample_ids: torch.Tensor,
    draws: torch.Tensor,
    key_low: int,
    key_high: int,
    noise_first: bool,
    noise: str,
    sigma: float,
    steps: int,
    low: float,
    scale: float,
    keep_mask: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    out, packed = kernel(x.device.type).convert(
        x.detach(),
        (key_low, key_high),
        sample_ids,
        draws,
        noise_first=noise_first,
        noise=noise,
        sigma=sigma,
        steps=steps,
        low=low,
        scale=scale,
        keep_mask=keep_mask,
    )
    return out, x.new_empty(0, dtype=torch.uint8) if packed is None else packed


@_convert.register_fake
def _convert_shapes(x: Any, sample_ids: Any, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
    samples = sample_ids.shape[0]
    elements = x.numel() // max(1, samples)
    shape = (samples, (elements + 7) // 8) if arguments[-1] else (0,)
    return torch.empty_like(x, memory_format=torch.contiguous_format), x.new_empty(shape, dtype=torch.uint8)


@torch.library.custom_op("robustcheck::mask_gradient", mutates_args=())
def _mask_gradient(gradient: torch.Tensor, packed: torch.Tensor, samples: int) -> torch.Tensor:
    masked: torch.Tensor = kernel(gradient.device.type).mask_gradient(gradient, packed, samples)
    return masked


@_mask_gradient.register_fake
def _mask_gradient_shape(gradient: Any, *_: Any) -> torch.Tensor:
    return torch.empty_like(gradient, memory_format=torch.contiguous_format)


def _keep_mask(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:  # noqa: ARG001
    ctx.save_for_backward(inputs[1])
    ctx.samples = inputs[2]


def _mask_backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    (packed,) = ctx.saved_tensors
    return torch.ops.robustcheck.mask_gradient(gradient.contiguous(), packed, ctx.samples), None, None


_mask_gradient.register_autograd(_mask_backward, setup_context=_keep_mask)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    ctx.samples, ctx.masked = inputs[1].shape[0], inputs[-1]
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, gradient: torch.Tensor, _: Any) -> tuple[torch.Tensor | None, ...]:
    (packed,) = ctx.saved_tensors
    passed = torch.ops.robustcheck.mask_gradient(gradient.contiguous(), packed, ctx.samples) if ctx.masked else gradient
    return passed, *[None] * 11


_convert.register_autograd(_backward, setup_context=_keep)
convert_in_graph = torch.ops.robustcheck.convert
