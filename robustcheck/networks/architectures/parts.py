"""What the architectures have in common: the check of their sizes, scaled widths, and the linear layers at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import nn

from robustcheck.activations.catalogue import Activation
from robustcheck.errors import InvalidValueError
from robustcheck.networks.kinds import new_module


def check_sizes(
    sizes: Mapping[str, int], widths: Mapping[str, Sequence[int]], dropouts: Mapping[str, float] | None = None
) -> None:
    """InvalidValueError unless each size and each width is 1 to 65536, and each dropout in [0, 1).

    >>> check_sizes({"classes": 10}, {"linear": (32, 16)}, {"dropout": 0.5})
    """
    each = {f"{what}[{i}]": width for what, row in widths.items() for i, width in enumerate(row)}
    for what, value in {**sizes, **each}.items():
        if not 1 <= value <= 65536:
            raise InvalidValueError(what, expected="1 to 65536", got=value)
    for what, share in (dropouts or {}).items():
        if not 0 <= share < 1:
            raise InvalidValueError(what, expected=f"0 <= {what} < 1", got=share)


def scaled(widths: Sequence[int], width: float) -> tuple[int, ...]:
    """Widths of layers times a factor, each rounded to at least 1.

    Raises:
        InvalidValueError: the factor is not above 0 and at most 16.

    >>> scaled((48, 96, 192), 0.25)
    (12, 24, 48)
    """
    if not (math.isfinite(width) and 0 < width <= 16):
        raise InvalidValueError("width", expected="a factor, 0 < width <= 16", got=width)
    return tuple(max(1, round(each * width)) for each in widths)


def classifier(
    features: int, linear: Sequence[int], classes: int, activation: Activation, dropout: float = 0.0
) -> dict[str, nn.Module]:
    """Hidden linear layers, each with the activation and dropout if there is any, then the logits, by path.

    >>> from robustcheck.activations.catalogue import activation
    >>> list(classifier(8, (4,), 2, activation("relu")))
    ['linear1', 'linear1_act', 'output']
    """
    layers: dict[str, nn.Module] = {}
    for number, out in enumerate(linear, start=1):
        layers[f"linear{number}"] = nn.Linear(features, out)
        layers[f"linear{number}_act"] = new_module(activation)
        if dropout:
            layers[f"linear{number}_dropout"] = nn.Dropout(dropout)
        features = out
    layers["output"] = nn.Linear(features, classes)
    return layers
