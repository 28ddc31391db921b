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
from robustcheck.sensing.kernels import reference
from robustcheck.sensing.random import Key

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
        self, x: torch.Tensor, key: Key, sample_ids: torch.Tensor, draw: int, *, through_clamp: bool = False
    ) -> torch.Tensor:
        """Convert a batch.

        Args:
            x: (n, …) floating; row i is sample i. With m·n rows, m rows in a row are parts of one sample.
            key: random stream, from `stream_key`.
            sample_ids: (n,) int64, in [0, 2^63).
            draw: number of the noisy evaluation or training step.
            through_clamp: let the gradient pass the clamp too, as a weight's does.

        Returns:
            A tensor like x.

        >>> from robustcheck.sensing.random import stream_key
        >>> x = torch.tensor([[0.2, 0.6, 1.4]])
        >>> Converter("aod", steps=1, sigma=0.0)(x, stream_key(0, "demo"), torch.tensor([0]), 0)
        tensor([[0., 1., 1.]])
        """
        return _StraightThrough.apply(x, self, key, sample_ids, draw, through_clamp)  # type: ignore[no-any-return]


def _run(
    x: torch.Tensor, converter: Converter, key: Key, sample_ids: torch.Tensor, draw: int
) -> tuple[torch.Tensor, torch.Tensor]:
    if x.device.type == "cpu":
        from robustcheck.sensing.kernels import cpu

        convert = cpu.convert
    else:
        convert = reference.convert
    samples = len(sample_ids)
    if x.shape[0] != samples and (samples == 0 or x.shape[0] % samples):
        raise InvalidValueError(
            "rows of the values", expected=f"a multiple of the {samples} samples", got=tuple(x.shape)
        )
    # A network may fold patches or windows of a sample into the batch: they are more elements of that sample.
    out, mask = convert(
        x.detach().to(torch.float32),
        key,
        sample_ids,
        draw,
        noise_first=converter.form == "aod",
        noise=converter.noise,
        sigma=converter.sigma,
        steps=converter.steps,
        low=-1.0 if converter.signed else 0.0,
        scale=converter.scale,
    )
    return out.to(x.dtype), mask


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        converter: Converter,
        key: Key,
        sample_ids: torch.Tensor,
        draw: int,
        through_clamp: bool,
    ) -> torch.Tensor:
        out, mask = _run(x, converter, key, sample_ids, draw)
        ctx.through_clamp = through_clamp
        if not through_clamp and x.requires_grad:
            ctx.save_for_backward(mask)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        if ctx.through_clamp:
            return gradient, None, None, None, None, None
        (mask,) = ctx.saved_tensors
        return gradient * mask, None, None, None, None, None
