"""VGG-A, the 11-layer network of arXiv 1409.1556, for small images and large ones."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from torch import nn

from robustcheck.activations.catalogue import activation as read_activation
from robustcheck.errors import InvalidValueError
from robustcheck.networks.architectures.parts import check_sizes, classifier, scaled
from robustcheck.networks.kinds import new_module

CHANNELS: Final = (64, 128, 256, 256, 512, 512, 512, 512)
POOL_AFTER: Final = (1, 2, 4, 6, 8)
HIDDEN: Final = (4096, 4096)


def vgg_a(
    *,
    width: float = 1.0,
    in_channels: int = 3,
    image_size: int = 32,
    classes: int = 100,
    grid: int = 7,
    dropout: float = 0.5,
    activation: str = "relu",
) -> nn.Sequential:
    """VGG-A without batch normalisation, as arXiv 2402.02593 trains it on CIFAR-100.

    Takes (n, in_channels, image_size, image_size) float tensors, gives (n, classes) logits. The last pooling leaves
    512·1·1 features of a 32-pixel image and 512·7·7 of a 224-pixel one. As in torchvision and the authors' code
    (github.com/Vivswan/GeLUReLUInterpolation) the classifier reads 512·7·7 at any size: 129,176,036 parameters for 100
    classes; with `grid` 1 it reads 512 and there are 28,512,740. Weights start as in the authors' code, normal with
    variance 2 / (outputs · 9) in convolutions and 2 / inputs in linear layers (He et al. 2015, arXiv 1502.01852),
    biases at 0. Paths are `conv1`, `act1`, `pool1`, `conv2`, …, `average`, `flatten`, `linear1`, `linear1_act`,
    `linear1_dropout`, `linear2`, …, `output`.

    Args:
        width: factor of all channels and hidden widths.
        in_channels: channels of the image.
        image_size: height and width [pixels], at least 32.
        classes: number of logits.
        grid: height and width that the features are averaged to, or repeated, before the classifier.
        dropout: after each hidden linear layer, in [0, 1).
        activation: a spec of the catalogue.

    Raises:
        InvalidValueError: an option is out of range.

    >>> import torch
    >>> network = vgg_a(width=0.125, grid=1)
    >>> network(torch.zeros(2, 3, 32, 32)).shape, network.linear1.in_features
    (torch.Size([2, 100]), 64)
    """
    sizes = {"in_channels": in_channels, "image_size": image_size, "classes": classes, "grid": grid}
    check_sizes(sizes, {}, {"dropout": dropout})
    if image_size < 32:
        raise InvalidValueError("image_size", expected="at least 32, for five poolings", got=image_size)
    wanted = read_activation(activation)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    features = in_channels
    for number, out in enumerate(scaled(CHANNELS, width), start=1):
        layers[f"conv{number}"] = nn.Conv2d(features, out, kernel_size=3, padding=1)
        layers[f"act{number}"] = new_module(wanted)
        features = out
        if number in POOL_AFTER:
            layers[f"pool{number}"] = nn.MaxPool2d(2)
    layers["average"] = nn.AdaptiveAvgPool2d(grid)
    layers["flatten"] = nn.Flatten()
    layers |= classifier(features * grid * grid, scaled(HIDDEN, width), classes, wanted, dropout)
    for layer in layers.values():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        elif isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(layers)
