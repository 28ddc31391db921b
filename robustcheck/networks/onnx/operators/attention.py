"""Attention and rotary position embeddings, as operators of their own since opset 23."""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from robustcheck.networks.onnx.graph import torch_dtype
from robustcheck.networks.onnx.operators.call import Builder, Call, Function, UnsupportedError

_STAGES: Final = (0, 1, 2, 3)
"""What the fourth output may show: products, capped products, these with the mask, probabilities."""


def _heads(x: Tensor, count: int | None) -> Tensor:
    """(batch, steps, heads · size) as (batch, heads, steps, size); four axes stay."""
    return x if x.ndim == 4 or count is None else x.reshape(*x.shape[:2], count, -1).transpose(1, 2)


def _attention(call: Call) -> Function:
    queries, keys = call.get("q_num_heads"), call.get("kv_num_heads")
    cap, stage, given_scale = call.get("softcap", 0.0), call.get("qk_matmul_output_mode", 0), call.get("scale")
    precision = torch_dtype(call.get("softmax_precision")) if call.get("softmax_precision") else None
    causal = bool(call.get("is_causal", 0))
    sides = (call.get("left_window_size", -1), call.get("right_window_size", -1))
    if stage not in _STAGES:
        raise UnsupportedError(f"qk_matmul_output_mode={stage}")

    def attention(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None = None,
        past_k: Tensor | None = None,
        past_v: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> Any:
        flat = q.ndim == 3
        q, k, v = _heads(q, queries), _heads(k, keys), _heads(v, keys)
        before: Tensor | int = 0 if past_k is None else past_k.shape[2]
        if past_k is not None and past_v is not None:
            k, v = torch.cat((past_k, k), 2), torch.cat((past_v, v), 2)
        elif lengths is not None:
            before = (lengths.to(q.device) - q.shape[2]).reshape(-1, 1, 1, 1)
        bias = _bias(q, k, mask, before, lengths, (sides[0], 0 if causal else sides[1]))
        scale = 1 / math.sqrt(q.shape[3]) if given_scale is None else given_scale
        if call.outputs < 4 and not cap and precision in (None, q.dtype):
            y = F.scaled_dot_product_attention(q, k, v, bias, scale=scale, enable_gqa=q.shape[1] != k.shape[1])
            if bias is not None:
                y = y.masked_fill(_hidden(bias), 0)
            shown = None
        else:
            y, shown = _plain(q, k, v, bias, scale, cap, stage, precision)
        y = y.transpose(1, 2).flatten(2) if flat else y
        return y if call.outputs == 1 else (y, k, v, shown)[: call.outputs]

    return attention


def _hidden(bias: Tensor) -> Tensor:
    """Rows that see nothing, whose result is 0."""
    return (bias == -math.inf).all(-1, keepdim=True)


def _bias(
    q: Tensor,
    k: Tensor,
    mask: Tensor | None,
    before: Tensor | int,
    lengths: Tensor | None,
    sides: tuple[int, int],
) -> Tensor | None:
    """What is added to the products: 0 where a query sees a key, −∞ where not; None where all see all.

    Args:
        q: shape (batch, heads, steps, size).
        k: the same of all keys, former ones included.
        mask: bool for which pairs are seen, or what is added; broadcast; may stop before the last key.
        before: how many keys precede the first query; shape (batch, 1, 1, 1) where it differs.
        lengths: how many keys of each sample are not padding.
        sides: how many keys to the left and to the right of its own a query sees; −1 for all.
    """
    total = k.shape[2]
    seen: Tensor | None = None
    place = torch.arange(total, device=q.device)
    if sides != (-1, -1):
        off = place - (torch.arange(q.shape[2], device=q.device)[:, None] + before)
        seen = torch.ones_like(off, dtype=torch.bool)
        for side, distance in zip(sides, (-off, off), strict=True):
            if side >= 0:
                seen = seen & (distance <= side)
    if lengths is not None:
        short = place < lengths.to(q.device).reshape(-1, 1, 1, 1)
        seen = short if seen is None else seen & short
    if mask is not None:
        closed = mask.dtype == torch.bool
        if mask.shape[-1] < total:
            mask = F.pad(mask, (0, total - mask.shape[-1]), value=False if closed else -math.inf)
        if not closed:
            return mask.to(q.dtype) if seen is None else mask.to(q.dtype).masked_fill(~seen, -math.inf)
        seen = mask if seen is None else seen & mask
    if seen is None:
        return None
    return torch.zeros_like(seen, dtype=q.dtype).masked_fill(~seen, -math.inf)


def _plain(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float, cap: float, stage: int, precision: Any
) -> tuple[Tensor, Tensor]:
    """The result, and what the fourth output shows."""
    repeats = q.shape[1] // k.shape[1]
    if repeats > 1:
        k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
    root = math.sqrt(scale)
    products = (q * root) @ (k * root).transpose(2, 3)
    capped = cap * torch.tanh(products / cap) if cap else products
    biased = capped if bias is None else capped + bias
    shares = torch.softmax(biased if precision is None else biased.to(precision), -1).to(q.dtype)
    if bias is not None:
        shares = shares.masked_fill(_hidden(bias), 0)
    return shares @ v, (products, capped, biased, shares)[stage]


def _rotary_embedding(call: Call) -> Function:
    interleaved, wanted = bool(call.get("interleaved", 0)), call.get("rotary_embedding_dim", 0)
    heads = call.get("num_heads")

    def rotary_embedding(x: Tensor, cos: Tensor, sin: Tensor, places: Tensor | None = None) -> Tensor:
        shaped = _heads(x, heads)
        size = wanted or shaped.shape[3]
        if places is not None:
            cos, sin = cos[places], sin[places]
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
        turned, rest = shaped[..., :size], shaped[..., size:]
        first, second = (turned[..., 0::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
        real, imaginary = cos * first - sin * second, sin * first + cos * second
        joined = torch.stack((real, imaginary), -1).flatten(-2) if interleaved else torch.cat((real, imaginary), -1)
        y = torch.cat((joined, rest), -1)
        return y.transpose(1, 2).flatten(2) if x.ndim == 3 else y

    return rotary_embedding


OPERATORS: Final[dict[str, Builder]] = {
    "Attention": _attention,
    "RotaryEmbedding": _rotary_embedding,
}
"""What this module covers, by ONNX's names."""
