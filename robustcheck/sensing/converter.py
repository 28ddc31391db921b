"""Converters between the digital and the analogue: quantise, clamp, add noise; straight-through gradients.

AOD (analogue → digital) is noise → clamp → quantise; DOA (digital → analogue) is clamp → quantise → noise, and its
output is neither clamped nor quantised again (arXiv 2402.02593). The gradient passes rounding and noise unchanged and
is zero where the clamp cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import torch

from robustcheck.errors import InvalidValueError
from robustcheck.sensing.deviates import Noise
from robustcheck.sensing.kernels.dispatch import convert_in_graph, kernel
from robustcheck.sensing.random import Key, draw_number

Form = Literal["aod", "doa"]
FORMS: Final[tuple[Form, ...]] = get_args(Form)


@dataclass(frozen=True)
class Converter:
    """A converter at one setting.

    Attributes:
        form: `aod` or `doa`.
        steps: p >= 1 steps per unit.
        sigma: noise scale [full scales]; 0 rounds without noise.
        noise: distribution of the noise.
        signed: range [−1, 1] if true, else [0, 1].
        scale: what a full scale of 1 stands for in the values converted.
    """

    form: Form
    steps: int
    sigma: float
    noise: Noise = "gaussian"
    signed: bool = False
    scale: float = 1.0

    def __call__(
        self,
        x: torch.Tensor,
        key: Key,
        sample_ids: torch.Tensor,
        draw: int | torch.Tensor,
        *,
        in_place: bool = False,
    ) -> torch.Tensor:
        """Convert a batch.

        Args:
            x: (n, …) float32, float64, bfloat16 or float16; row i is sample i. With m·n rows, m rows in a row are
                parts of one sample. The arithmetic is in float32, and the result rounded to the dtype of x.
            key: random stream, from `stream_key`.
            sample_ids: (n,) int64, in [0, 2^63).
            draw: number of the noisy evaluation or training step, in [0, 2^32); or (n,) int64, one a sample.
            in_place: write over x where its memory allows it, for values that nobody else holds; not in a graph.

        Returns:
            A contiguous tensor of the shape and dtype of x. Elements are counted in the order of the axes: noise does
            not depend on the layout. For the backward pass one bit an element is kept, or nothing.

        Raises:
            InvalidValueError: rows that are no multiple of the samples, an integer tensor, a draw out of its range.

        >>> from robustcheck.sensing.random import stream_key
        >>> x = torch.tensor([[0.2, 0.6, 1.4]])
        >>> Converter("aod", steps=1, sigma=0.0)(x, stream_key(0, "demo"), torch.tensor([0]), 0)
        tensor([[0., 1., 1.]])
        """
        if type(draw) is not int:
            draw = draw_number(draw)
        dense = x.contiguous()
        follows = torch.is_grad_enabled() and x.requires_grad
        if torch.compiler.is_compiling():
            return self._in_graph(dense, key, sample_ids, draw, follows)[0]
        if follows:
            out: torch.Tensor = _StraightThrough.apply(dense, self, key, sample_ids, draw, in_place)
            return out
        return self.run(dense, key, sample_ids, draw, in_place=in_place)[0]

    def run(
        self,
        x: torch.Tensor,
        key: Key,
        sample_ids: torch.Tensor,
        draw: int | torch.Tensor,
        *,
        keep_mask: bool = False,
        in_place: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Convert contiguous values without a gradient; the mask of the clamp as `kernels.reference.convert` has it."""
        if torch.compiler.is_compiling():
            out, packed = self._in_graph(x.detach(), key, sample_ids, draw, keep_mask)
            return out, packed if keep_mask else None
        _check(x, sample_ids)
        converted: tuple[torch.Tensor, torch.Tensor | None] = kernel(x.device.type).convert(
            x.detach(),
            key,
            sample_ids,
            draw,
            noise_first=self.form == "aod",
            noise=self.noise,
            sigma=self.sigma,
            steps=self.steps,
            low=-1.0 if self.signed else 0.0,
            scale=self.scale,
            keep_mask=keep_mask,
            in_place=in_place,
        )
        return converted

    def _in_graph(
        self, x: torch.Tensor, key: Key, sample_ids: torch.Tensor, draw: int | torch.Tensor, keep_mask: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        _check(x, sample_ids)
        draws = draw if isinstance(draw, torch.Tensor) else torch.full_like(sample_ids, draw)
        first, low = self.form == "aod", -1.0 if self.signed else 0.0
        made: tuple[torch.Tensor, torch.Tensor] = convert_in_graph(
            x, sample_ids, draws, *key, first, self.noise, self.sigma, self.steps, low, self.scale, keep_mask
        )
        return made


def _check(x: torch.Tensor, sample_ids: torch.Tensor) -> None:
    rows, samples = x.shape[0], sample_ids.shape[0]
    if x.dtype not in _DTYPES:
        raise InvalidValueError("dtype of the values", expected="a floating type", got=x.dtype)
    # A network may fold patches or windows of a sample into the batch: they are more elements of that sample.
    if rows != samples and (samples == 0 or rows % samples):
        raise InvalidValueError(
            "rows of the values", expected=f"a multiple of the {samples} samples", got=tuple(x.shape)
        )


@dataclass(frozen=True)
class BoundConverter:
    """A converter with its random stream; see `Converter`."""

    converter: Converter
    key: Key

    def __call__(
        self, x: torch.Tensor, sample_ids: torch.Tensor, draw: int | torch.Tensor, *, in_place: bool = False
    ) -> torch.Tensor:
        """Convert a batch."""
        return self.converter(x, self.key, sample_ids, draw, in_place=in_place)

    def run(
        self,
        x: torch.Tensor,
        sample_ids: torch.Tensor,
        draw: int | torch.Tensor,
        *,
        keep_mask: bool = False,
        in_place: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Convert contiguous values without a gradient; the mask of the clamp as `kernels.reference.convert` has it."""
        return self.converter.run(x, self.key, sample_ids, draw, keep_mask=keep_mask, in_place=in_place)


def mask_gradient(gradient: torch.Tensor, packed: torch.Tensor) -> torch.Tensor:
    """The gradient where the clamp let the value pass, and 0 where it cut; `packed` is the mask that `run` kept.

    In the memory format of the gradient, by which torch chooses what follows.
    """
    if gradient.requires_grad and torch.is_grad_enabled():
        followed: torch.Tensor = _Masked.apply(gradient, packed)
        return followed
    dense = gradient.contiguous()
    masked: torch.Tensor = kernel(gradient.device.type).mask_gradient(dense, packed, packed.shape[0])
    return masked if dense is gradient else torch.empty_like(gradient).copy_(masked)


class _Masked(torch.autograd.Function):
    """The mask for a gradient that is itself differentiated: its own backward."""

    @staticmethod
    def forward(ctx: Any, gradient: torch.Tensor, packed: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(packed)
        return mask_gradient(gradient, packed)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (packed,) = ctx.saved_tensors
        return mask_gradient(gradients[0], packed), None


_DTYPES: Final = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        converter: Converter,
        key: Key,
        sample_ids: torch.Tensor,
        draw: int | torch.Tensor,
        in_place: bool,
    ) -> torch.Tensor:
        out, packed = converter.run(x, key, sample_ids, draw, keep_mask=True, in_place=in_place)
        ctx.save_for_backward(packed)
        if in_place:
            ctx.mark_dirty(x)
            return x
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (packed,) = ctx.saved_tensors
        return mask_gradient(gradients[0], packed), None, None, None, None, None
