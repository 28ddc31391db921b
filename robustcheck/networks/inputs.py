"""What a network expects of its images: shape, range of values, normalisation, layout, order of colours."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from robustcheck.errors import InvalidValueError, ModelError

Layout = Literal["NCHW", "NHWC"]
ChannelOrder = Literal["RGB", "BGR"]


@dataclass(frozen=True)
class InputSpec:
    """How physical images become a network's input; noise is added before.

    `shape` is (c, h, w), None where unknown. `scale` is the range of values that 0 and 1 are mapped to before `mean` is
    subtracted and `std` divided by; those have one number, or one a channel in the network's own order.

    Raises:
        InvalidValueError: a number is not finite, a `std` is not positive, the range is empty, lengths do not fit.

    >>> InputSpec(shape=(1, 2, 2), mean=(0.5,), std=(0.5,)).normalise(torch.ones(1, 1, 2, 2)).unique().tolist()
    [1.0]
    """

    shape: tuple[int, int, int] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: tuple[float, float] = (0.0, 1.0)
    layout: Layout = "NCHW"
    channel_order: ChannelOrder = "RGB"

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (*self.mean, *self.std, *self.scale))):
            raise InvalidValueError(
                "normalisation", expected="finite numbers", got=(self.mean, self.std, self.scale), remedy=_OPTIONS
            )
        if not self.std or min(self.std) <= 0:
            raise InvalidValueError("std", expected="positive numbers", got=self.std, remedy=_OPTIONS)
        if self.scale[0] >= self.scale[1]:
            raise InvalidValueError("input range", expected="low < high", got=self.scale, remedy=_OPTIONS)
        if self.layout not in ("NCHW", "NHWC"):
            raise InvalidValueError("layout", expected="NCHW or NHWC", got=self.layout)
        if self.channel_order not in ("RGB", "BGR"):
            raise InvalidValueError("channel order", expected="RGB or BGR", got=self.channel_order)
        lengths = {len(self.mean), len(self.std)} - {1}
        if self.shape is not None:
            lengths |= {self.shape[0]} if lengths else set()
        if 0 in lengths or len(lengths) > 1:
            raise InvalidValueError(
                "mean and std",
                expected="one number, or one a channel",
                got=f"{len(self.mean)} and {len(self.std)} numbers" + (f", shape {self.shape}" if self.shape else ""),
                remedy=_OPTIONS,
            )

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Map physical images to the network's input; differentiable.

        Args:
            images: (n, c, h, w) float32, physical values in [0, 1] (beyond, after noise), RGB.

        Returns:
            (n, c, h, w), or (n, h, w, c) for layout NHWC: the range's map, the order of colours, mean and std, layout.

        Raises:
            ModelError: the number of channels does not fit mean and std or the order of colours.
        """
        channels = images.shape[1]
        if not {len(self.mean), len(self.std)} <= {1, channels}:
            raise ModelError(
                f"images: expected {max(len(self.mean), len(self.std))} channels as in mean and std, got {channels}; "
                + (_TO_COLOUR if channels == 1 else _OPTIONS)
            )
        low, high = self.scale
        if (low, high) != (0.0, 1.0):
            images = images * (high - low) + low
        if self.channel_order == "BGR":
            if channels != 3:
                raise ModelError(f"images: expected 3 channels for the order BGR, got {channels}; leave the order out")
            images = images.flip(1)
        if any(self.mean):
            images = images - torch.tensor(self.mean, dtype=images.dtype, device=images.device).reshape(1, -1, 1, 1)
        if any(deviation != 1 for deviation in self.std):
            images = images / torch.tensor(self.std, dtype=images.dtype, device=images.device).reshape(1, -1, 1, 1)
        return images.permute(0, 2, 3, 1) if self.layout == "NHWC" else images

    def as_dict(self) -> dict[str, Any]:
        """The fields, as JSON has them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


_OPTIONS = "check --mean, --std and --input-range"
_TO_COLOUR = "the data is grey; use data in colour, or a network for grey images"
