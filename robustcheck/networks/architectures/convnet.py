"""A small convolutional network for images of a few dozen pixels, such as scikit-learn's digits."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from robustcheck.activations.catalogue import activation as read_activation
from robustcheck.errors import InvalidValueError
from robustcheck.networks.architectures.parts import check_sizes, classifier
from robustcheck.networks.kinds import new_module


def convnet(
    *,
    in_channels: int,
    image_size: int,
    classes: int,
    channels: tuple[int, ...],
    pool_after: tuple[int, ...],
    linear: tuple[int, ...],
    dropout: float = 0.0,
    activation: str = "relu",
    unpadded: tuple[int, ...] = (),
    pool_dropout: float = 0.0,
) -> nn.Sequential:
    """Convolutions (kernel 3), each with an activation, then linear layers with activations between.

    Takes (n, in_channels, image_size, image_size) float tensors, gives (n, classes) logits. Paths are `conv1`, `act1`,
    `pool1`, `pool1_dropout`, …, `flatten`, `linear1`, `linear1_act`, `linear1_dropout`, …, `output`.

    Args:
        in_channels: channels of the image.
        image_size: height and width [pixels].
        classes: number of logits.
        channels: output channels of each convolution.
        pool_after: numbers, from 1, of the convolutions that a max pooling of 2 follows.
        linear: widths of the hidden linear layers.
        dropout: probability of dropping a hidden linear feature in training, in [0, 1).
        activation: a spec of the catalogue.
        unpadded: numbers, from 1, of the convolutions without padding, which take a pixel off each side; the others
            have padding 1.
        pool_dropout: probability of dropping a value in training, in [0, 1), after each pooling that another
            convolution follows.

    Raises:
        InvalidValueError: a width is below 1, a pooling or a missing padding has no convolution, or no pixel is left.

    >>> import torch
    >>> net = convnet(in_channels=1, image_size=8, classes=10, channels=(4, 8), pool_after=(1, 2), linear=(16,))
    >>> [name for name, _ in net.named_children()][:4], net(torch.zeros(2, 1, 8, 8)).shape
    (['conv1', 'act1', 'pool1', 'conv2'], torch.Size([2, 10]))
    """
    sizes = {"in_channels": in_channels, "image_size": image_size, "classes": classes}
    check_sizes(sizes, {"channels": channels, "linear": linear}, {"dropout": dropout, "pool_dropout": pool_dropout})
    for what, numbers in {"pool_after": pool_after, "unpadded": unpadded}.items():
        if not set(numbers) <= set(range(1, len(channels) + 1)):
            raise InvalidValueError(what, expected=f"numbers from 1 to {len(channels)}", got=numbers)
    wanted = read_activation(activation)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    width, size = in_channels, image_size
    for number, out in enumerate(channels, start=1):
        padding = 0 if number in unpadded else 1
        layers[f"conv{number}"] = nn.Conv2d(width, out, kernel_size=3, padding=padding)
        layers[f"act{number}"] = new_module(wanted)
        width, size = out, size - 2 + 2 * padding
        if number in pool_after:
            layers[f"pool{number}"] = nn.MaxPool2d(2)
            size //= 2
            if pool_dropout and number < len(channels):
                layers[f"pool{number}_dropout"] = nn.Dropout(pool_dropout)
    if size < 1:
        raise InvalidValueError(
            "image_size",
            expected=f"a pixel left after {len(channels)} convolutions and their poolings",
            got=image_size,
            remedy="use larger images or fewer convolutions",
        )
    layers["flatten"] = nn.Flatten()
    layers |= classifier(width * size * size, linear, classes, wanted, dropout)
    return nn.Sequential(layers)
