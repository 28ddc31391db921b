"""Made-up inputs for a network: the same in every run, in shapes that it is likely to take."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import ml_dtypes
import numpy as np

from robustcheck.errors import ModelError

Array = np.ndarray[Any, Any]

BATCH: Final = 2
SIDES: Final = (224, 64, 32, 299, 28)
"""Heights and widths that are tried in turn where the file leaves them open."""

_SEQUENCE: Final = 8
_CHANNELS: Final = 3
_MOST_ELEMENTS: Final = 2**26

DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(bfloat16)": np.dtype(ml_dtypes.bfloat16),
    "tensor(bool)": np.dtype(np.bool_),
    **{f"tensor({sign}int{bits})": np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
"""NumPy's dtypes by ONNX Runtime's names."""

_FLOATS: Final = ("tensor(float)", "tensor(double)", "tensor(float16)", "tensor(bfloat16)")


@dataclass(frozen=True)
class Input:
    """An input as ONNX Runtime describes it: sizes are numbers, names, or None."""

    name: str
    type: str
    shape: tuple[int | str | None, ...]

    @property
    def is_image(self) -> bool:
        """Whether it may be a batch of images."""
        return len(self.shape) == 4 and self.type in _FLOATS


def made_up(inputs: Sequence[Input], hint: tuple[int, int, int] | None) -> Iterator[dict[str, Array]]:
    """Inputs to try in turn, until the network runs.

    Args:
        inputs: of the network.
        hint: channels, height and width of its images, where known.

    Raises:
        ModelError: an input is no tensor of numbers, or is absurdly large.

    >>> [sorted(each.items())[0][1].shape for each in made_up([Input("x", "tensor(float)", ("n", 3, 8, 8))], None)]
    [(2, 3, 8, 8)]
    """
    seen: set[tuple[tuple[int, ...], ...]] = set()
    for height, width in [hint[1:]] if hint else [(side, side) for side in SIDES]:
        known: dict[str, int] = {}
        channels = hint[0] if hint else _CHANNELS
        shapes = tuple(_shape(each, known, channels, height, width) for each in inputs)
        if shapes not in seen:
            seen.add(shapes)
            yield {each.name: _values(each, shape) for each, shape in zip(inputs, shapes, strict=True)}


def _shape(wanted: Input, known: dict[str, int], channels: int, height: int, width: int) -> tuple[int, ...]:
    sizes = []
    for axis, size in enumerate(wanted.shape):
        if isinstance(size, int) and size >= 0:
            sizes.append(size)
            continue
        if axis == 0:
            guess = BATCH
        elif wanted.is_image:
            last = isinstance(wanted.shape[3], int) and wanted.shape[3] in (1, 3, 4)
            order = (
                (height, width, channels)
                if last and not isinstance(wanted.shape[1], int)
                else (channels, height, width)
            )
            guess = order[axis - 1]
        else:
            guess = _SEQUENCE
        sizes.append(known.setdefault(size, guess) if isinstance(size, str) else guess)
    return tuple(sizes)


def _values(wanted: Input, shape: tuple[int, ...]) -> Array:
    count = math.prod(shape)
    if wanted.type not in DTYPES:
        raise ModelError(f"input {wanted.name!r}: expected a tensor of numbers, got {wanted.type}")
    if count > _MOST_ELEMENTS:
        raise ModelError(f"input {wanted.name!r}: expected at most {_MOST_ELEMENTS} elements, its shape is {shape}")
    drawn = np.frombuffer(hashlib.shake_256(wanted.name.encode()).digest(4 * count), dtype="<u4").reshape(shape)
    if wanted.type in _FLOATS:
        return np.asarray(drawn / np.float64(2**31) - 1).astype(DTYPES[wanted.type])
    return np.asarray(drawn & 1).astype(DTYPES[wanted.type])
