"""Windows that slide over an image: strides, dilations and padding, as convolutions and pools share them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from robustcheck.networks.onnx.operators.call import Call, UnsupportedError

_AUTO_PADS = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


@dataclass(frozen=True)
class Window:
    """What a node's attributes say; empty where they say nothing, since the rank may be known only at run time.

    Attributes:
        kernel: sizes.
        strides: steps.
        dilations: distances between the kernel's points.
        pads: all beginnings, then all ends.
        auto_pad: NOTSET, VALID, SAME_UPPER or SAME_LOWER.
        ceil: whether a last window may hang over the end.
    """

    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    auto_pad: str = "NOTSET"
    ceil: bool = False

    @property
    def rank(self) -> int:
        """How many axes the window slides along; 0 where the attributes do not say."""
        return len(self.kernel) or len(self.strides) or len(self.dilations) or len(self.pads) // 2

    def filled(self, kernel: Sequence[int]) -> Window:
        """With a kernel, and the default for all that the attributes do not say."""
        rank = len(kernel)
        strides, dilations = self.strides or (1,) * rank, self.dilations or (1,) * rank
        pads = self.pads or (0,) * (2 * rank)
        if not (len(strides) == len(dilations) == len(pads) // 2 == rank):
            raise UnsupportedError(f"a kernel of {rank} axes with strides, dilations or pads of another number")
        auto = "NOTSET" if self.auto_pad == "VALID" else self.auto_pad
        return Window(
            tuple(kernel), strides, dilations, (0,) * (2 * rank) if auto != self.auto_pad else pads, auto, self.ceil
        )

    @property
    def spans(self) -> tuple[int, ...]:
        """How far the kernel reaches along each axis, dilation included."""
        return tuple((size - 1) * step + 1 for size, step in zip(self.kernel, self.dilations, strict=True))

    @property
    def fixed(self) -> bool:
        """Whether padding is the same for every size of the image."""
        return self.auto_pad == "NOTSET" or all(stride == 1 for stride in self.strides)

    @property
    def symmetric(self) -> bool:
        """Whether padding is known, no less than 0, and the same at both ends."""
        rank = len(self.kernel)
        return self.auto_pad == "NOTSET" and self.pads[:rank] == self.pads[rank:] and min(self.pads, default=0) >= 0

    def padding(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """All beginnings, then all ends, for an image of the given size."""
        if self.auto_pad == "NOTSET":
            return self.pads
        totals = [
            max(0, (-(-size // stride) - 1) * stride + span - size)
            for size, stride, span in zip(sizes, self.strides, self.spans, strict=True)
        ]
        small, large = tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals)
        return small + large if self.auto_pad == "SAME_UPPER" else large + small

    def counts(self, sizes: Sequence[int], pads: Sequence[int]) -> tuple[int, ...]:
        """How many windows fit along each axis; one that hangs over must begin before its end."""
        rank = len(self.kernel)
        found = []
        for axis, (size, stride, span) in enumerate(zip(sizes, self.strides, self.spans, strict=True)):
            room = size + pads[axis] + pads[axis + rank] - span
            count = (-(-room // stride) if self.ceil else room // stride) + 1
            if self.ceil and (count - 1) * stride >= size + pads[axis]:
                count -= 1
            found.append(count)
        return tuple(found)


def read_window(call: Call) -> Window:
    """The attributes of a convolution or pool; raises UnsupportedError for more than three axes."""
    auto_pad = call.get("auto_pad", "NOTSET") or "NOTSET"
    if auto_pad not in _AUTO_PADS:
        raise UnsupportedError(f"auto_pad={auto_pad!r}")
    kernel, strides, dilations, pads = (
        tuple(call.get(name) or ()) for name in ("kernel_shape", "strides", "dilations", "pads")
    )
    window = Window(kernel, strides, dilations, pads, auto_pad, bool(call.get("ceil_mode", 0)))
    if window.rank > 3:
        raise UnsupportedError(f"{window.rank} spatial axes")
    return window


def pad(x: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    """The last axes padded (cropped where negative), `pads` in ONNX's order: all beginnings, then all ends."""
    if not any(pads):
        return x
    rank = len(pads) // 2
    turned = [side for axis in reversed(range(rank)) for side in (pads[axis], pads[axis + rank])]
    return F.pad(x, turned, value=value)
