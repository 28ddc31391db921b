"""The networks that robustcheck builds itself, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from torch import nn

from robustcheck.errors import InvalidValueError, UnknownNameError
from robustcheck.networks.architectures.convnet import convnet
from robustcheck.networks.architectures.linear import mlp
from robustcheck.networks.architectures.paper_convnet import paper_convnet
from robustcheck.networks.architectures.pointnet import pointnet
from robustcheck.networks.architectures.rangenet import rangenet
from robustcheck.networks.architectures.resnet import resnet18
from robustcheck.networks.architectures.vgg import vgg_a
from robustcheck.networks.architectures.vit import vit

ARCHITECTURES: Final[dict[str, Callable[..., nn.Module]]] = {
    "convnet": convnet,
    "mlp": mlp,
    "paper_convnet": paper_convnet,
    "pointnet": pointnet,
    "rangenet": rangenet,
    "resnet18": resnet18,
    "vgg_a": vgg_a,
    "vit": vit,
}

EXAMPLES: Final[dict[str, str]] = {
    "convnet": "convnet(in_channels=1, image_size=8, classes=10, channels=[8], pool_after=[1], linear=[32])",
    "mlp": "mlp(in_channels=1, image_size=8, classes=10, hidden=[64])",
    "paper_convnet": "paper_convnet(in_channels=1, image_size=8, convolutions=2)",
    "pointnet": "pointnet(elevation_deg=[1, -1], azimuth_step_deg=0.2, columns=128, classes=8, shared=[8], linear=[8])",
    "rangenet": "rangenet(rows=16, columns=128, classes=8, channels=[8, 16], linear=[32])",
    "resnet18": "resnet18(in_channels=3, image_size=32, width=0.5)",
    "vgg_a": "vgg_a(in_channels=3, image_size=32, grid=1)",
    "vit": "vit(in_channels=3, image_size=32, depth=4)",
}
"""How each is written in a spec, with all that has no default."""


def build(name: str, options: Mapping[str, Any]) -> nn.Module:
    """A network of a named architecture, initialised from torch's global generator.

    Raises:
        UnknownNameError: no architecture has this name.
        InvalidValueError: an option is unknown, missing, of the wrong type or out of range.

    >>> build("mlp", {"in_channels": 1, "image_size": 8, "classes": 10, "hidden": [16]})[-1]
    Linear(in_features=16, out_features=10, bias=True)
    >>> build("paper_convnet", {"convolutions": 2, "width": 0.25})[0]
    Conv2d(3, 12, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    """
    if name not in ARCHITECTURES:
        raise UnknownNameError("architecture", name, ARCHITECTURES)
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    what, remedy = f"options of {name}", f"write it like '{EXAMPLES[name]}'"
    parameters = inspect.signature(ARCHITECTURES[name]).parameters
    if strange := [key for key in values if key not in parameters]:
        expected = f"some of {', '.join(parameters)}"
        raise InvalidValueError(what, expected=expected, got=strange[0], remedy=remedy)
    needed = [key for key, each in parameters.items() if each.default is inspect.Parameter.empty]
    if missing := [key for key in needed if key not in values]:
        expected = f"all that have no default, missing: {', '.join(missing)}"
        raise InvalidValueError(what, expected=expected, got=dict(options), remedy=remedy)
    for key, value in values.items():
        if parameters[key].annotation == "bool" and not isinstance(value, bool):
            raise InvalidValueError(f"{name}, option {key}", expected="True or False", got=value, remedy=remedy)
    try:
        return ARCHITECTURES[name](**values)
    except TypeError as error:
        expected = f"{', '.join(parameters)}, each of its type"
        raise InvalidValueError(what, expected=expected, got=dict(options), remedy=remedy) from error
