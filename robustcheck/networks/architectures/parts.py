"""What the small architectures have in common: the check of their sizes, and the linear layers at their end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from robustcheck.activations.catalogue import Activation
from robustcheck.errors import InvalidValueError
from robustcheck.networks.kinds import new_module


def check_sizes(sizes: Mapping[str, int], widths: Mapping[str, Sequence[int]], dropout: float = 0.0) -> None:
    """InvalidValueError unless each size and each width is 1 to 65536, and dropout in [0, 1).

    >>> check_sizes({"classes": 10}, {"linear": (32, 16)})
    """
    each = {f"{what}[{i}]": width for what, row in widths.items() for i, width in enumerate(row)}
    for what, value in {**sizes, **each}.items():
        if not 1 <= value <= 65536:
            raise InvalidValueError(what, expected="1 to 65536", got=value)
    if not 0 <= dropout < 1:
        raise InvalidValueError("dropout", expected="0 <= dropout < 1", got=dropout)


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
