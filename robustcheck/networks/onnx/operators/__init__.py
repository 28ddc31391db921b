"""What each ONNX operator does, as functions of torch tensors."""

from __future__ import annotations

from typing import Final

from robustcheck.networks.onnx.operators import (
    activation,
    arithmetic,
    attention,
    casting,
    control,
    convolution,
    detection,
    image,
    indexing,
    linear,
    making,
    normalisation,
    padding,
    pooling,
    recurrent,
    reduction,
    scattering,
    sequences,
    shaping,
)
from robustcheck.networks.onnx.operators.call import Builder

_HOMES: Final = (
    activation,
    arithmetic,
    attention,
    casting,
    control,
    convolution,
    detection,
    image,
    indexing,
    linear,
    making,
    normalisation,
    padding,
    pooling,
    recurrent,
    reduction,
    scattering,
    sequences,
    shaping,
)
OPERATORS: Final[dict[str, Builder]] = {name: builder for home in _HOMES for name, builder in home.OPERATORS.items()}
"""Every operator that can be run, by its name."""
