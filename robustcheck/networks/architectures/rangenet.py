"""A small convolutional network for range images: few rows, many columns, two channels."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from robustcheck.activations.catalogue import activation as read_activation
from robustcheck.networks.architectures.parts import check_sizes, classifier
from robustcheck.networks.kinds import new_module


def rangenet(
    *,
    rows: int,
    columns: int,
    classes: int,
    channels: tuple[int, ...],
    linear: tuple[int, ...],
    dropout: float = 0.0,
    activation: str = "relu",
) -> nn.Sequential:
    """Convolutions (3 rows × 5 columns) with strides, each with an activation, then linear layers.

    Takes (n, 2, rows, columns) float tensors, range and intensity, and gives (n, classes) logits. A convolution halves
    the columns while they are more than twice the rows, and rows and columns after that: beams of a LIDAR lie farther
    apart than its firings. Paths are `conv1`, `act1`, …, `flatten`, `linear1`, `linear1_act`, …, `output`.

    Args:
        rows: beams of the LIDAR.
        columns: firings in the window.
        classes: number of logits.
        channels: output channels of each convolution.
        linear: widths of the hidden linear layers.
        dropout: probability of dropping a hidden linear feature in training, in [0, 1).
        activation: a spec of the catalogue.

    Raises:
        InvalidValueError: a size or a width is below 1, or dropout out of range.

    >>> import torch
    >>> net = rangenet(rows=16, columns=128, classes=8, channels=(8, 16), linear=(32,))
    >>> net(torch.zeros(3, 2, 16, 128)).shape, net.linear1.in_features
    (torch.Size([3, 8]), 8192)
    """
    sizes = {"rows": rows, "columns": columns, "classes": classes}
    check_sizes(sizes, {"channels": channels, "linear": linear}, {"dropout": dropout})
    wanted = read_activation(activation)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    width, height, length = 2, rows, columns
    for number, out in enumerate(channels, start=1):
        stride = (1, 2) if length > 2 * height else (2, 2)
        layers[f"conv{number}"] = nn.Conv2d(width, out, kernel_size=(3, 5), stride=stride, padding=(1, 2))
        layers[f"act{number}"] = new_module(wanted)
        width, height, length = out, -(-height // stride[0]), -(-length // stride[1])
    layers["flatten"] = nn.Flatten()
    layers |= classifier(width * height * length, linear, classes, wanted, dropout)
    return nn.Sequential(layers)
