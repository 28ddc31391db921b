"""Normalisation layers as they are when a network is evaluated, and dropout, which then does nothing."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from robustcheck.networks.onnx.graph import torch_dtype
from robustcheck.networks.onnx.operators.call import Builder, Call, Function, UnsupportedError


def _batch_normalization(call: Call) -> Function:
    if call.get("training_mode", 0) or call.outputs > 1:
        raise UnsupportedError("training mode")
    if call.get("spatial", 1) != 1:
        raise UnsupportedError("spatial=0")
    epsilon = call.get("epsilon", 1e-5)

    def batch_normalization(x: Tensor, scale: Tensor, b: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        if torch.is_grad_enabled() and (mean.requires_grad or var.requires_grad):
            # torch's own takes statistics for constants; where weights are standardised they are computed.
            shape = (1, -1) + (1,) * (x.ndim - 2)
            factor = (scale * torch.rsqrt(var + epsilon)).reshape(shape)
            return (x - mean.reshape(shape)) * factor + b.reshape(shape)
        if x.dtype == scale.dtype == mean.dtype:
            return F.batch_norm(x, mean, var, scale, b, False, 0.0, epsilon)
        wide = torch.promote_types(torch.promote_types(x.dtype, scale.dtype), mean.dtype)
        mean, var, scale, b = (each.to(wide) for each in (mean, var, scale, b))
        return F.batch_norm(x.to(wide), mean, var, scale, b, False, 0.0, epsilon).to(x.dtype)

    return batch_normalization


def _instance_normalization(call: Call) -> Function:
    epsilon = call.get("epsilon", 1e-5)
    return lambda x, scale, b: torch.instance_norm(x, scale, b, None, None, True, 0.0, epsilon, False)


def _stash(call: Call) -> torch.dtype:
    """The dtype that statistics are computed in; wider inputs keep theirs."""
    return torch_dtype(call.get("stash_type", 1))


def _layer_normalization(call: Call) -> Function:
    axis, epsilon, stash = call.get("axis", -1), call.get("epsilon", 1e-5), _stash(call)

    def one(x: Tensor, scale: Tensor, b: Tensor | None = None) -> Tensor:
        shape = x.shape[axis:]
        if scale.shape == shape and (b is None or b.shape == shape):
            return torch.layer_norm(x, shape, scale, b, epsilon)
        y: Tensor = full(x, scale, b)[0]
        return y

    def full(x: Tensor, scale: Tensor, b: Tensor | None = None) -> tuple[Any, ...]:
        over = tuple(range(axis % x.ndim, x.ndim))
        wide = x.to(torch.promote_types(x.dtype, stash))
        mean = wide.mean(over, keepdim=True)
        off = wide - mean
        inverse = torch.rsqrt((off * off).mean(over, keepdim=True) + epsilon)
        y = (off * inverse).to(x.dtype) * scale
        return (y if b is None else y + b, mean.to(stash), inverse.to(stash))[: call.outputs]

    return one if call.outputs == 1 else full


def _rms_normalization(call: Call) -> Function:
    axis, epsilon, stash = call.get("axis", -1), call.get("epsilon", 1e-5), _stash(call)

    def rms_normalization(x: Tensor, scale: Tensor) -> Tensor:
        shape = x.shape[axis:]
        if scale.shape == shape and x.dtype == scale.dtype:
            return F.rms_norm(x, shape, scale, epsilon)
        wide = x.to(torch.promote_types(x.dtype, stash))
        over = tuple(range(axis % x.ndim, x.ndim))
        return (wide * torch.rsqrt((wide * wide).mean(over, keepdim=True) + epsilon)).to(x.dtype) * scale

    return rms_normalization


def _group_normalization(call: Call) -> Function:
    groups, epsilon, by_group = call.get("num_groups"), call.get("epsilon", 1e-5), call.version < 21
    if not groups:
        raise UnsupportedError("no num_groups")

    def group_normalization(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        if by_group:
            repeats = x.shape[1] // groups
            scale, bias = scale.repeat_interleave(repeats), bias.repeat_interleave(repeats)
        return F.group_norm(x, groups, scale, bias, epsilon)

    return group_normalization


def _lrn(call: Call) -> Function:
    size = call.get("size")
    if not size:
        raise UnsupportedError("no size")
    alpha, beta, bias = call.get("alpha", 1e-4), call.get("beta", 0.75), call.get("bias", 1.0)
    sides = (0, 0, (size - 1) // 2, size // 2)

    def lrn(x: Tensor) -> Tensor:
        squares = F.pad((x * x).reshape(len(x), 1, x.shape[1], -1), sides)
        means = F.avg_pool2d(squares, (size, 1), 1).reshape(x.shape)
        scale: Tensor = (bias + alpha * means) ** beta
        return x / scale

    return lrn


def _mean_variance_normalization(call: Call) -> Function:
    axes = tuple(call.get("axes", (0, 2, 3)))

    def mean_variance_normalization(x: Tensor) -> Tensor:
        off = x - x.mean(axes, keepdim=True)
        deviation = (off * off).mean(axes, keepdim=True).sqrt()
        return off / (deviation + 1e-9)

    return mean_variance_normalization


def _lp_normalization(call: Call) -> Function:
    axis, p = call.get("axis", -1), call.get("p", 2)
    if p not in (1, 2):
        raise UnsupportedError(f"p={p}")

    def lp_normalization(x: Tensor) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(x, p, axis, keepdim=True)
        return x / norm.masked_fill(norm == 0, 1)

    return lp_normalization


def _dropout(call: Call) -> Function:
    if call.outputs == 1:
        return lambda x, *_: x
    bools = call.version >= 10
    return lambda x, *_: (x, torch.ones_like(x, dtype=torch.bool if bools else x.dtype))


OPERATORS: Final[dict[str, Builder]] = {
    "BatchNormalization": _batch_normalization,
    "Dropout": _dropout,
    "GroupNormalization": _group_normalization,
    "InstanceNormalization": _instance_normalization,
    "LRN": _lrn,
    "LayerNormalization": _layer_normalization,
    "LpNormalization": _lp_normalization,
    "MeanVarianceNormalization": _mean_variance_normalization,
    "RMSNormalization": _rms_normalization,
}
"""What this module covers, by ONNX's names."""
