"""A network of linear layers with activations between."""

from __future__ import annotations

from torch import nn

from robustcheck.networks.architectures.convnet import convnet


def mlp(
    *,
    in_channels: int,
    image_size: int,
    classes: int,
    hidden: tuple[int, ...],
    dropout: float = 0.0,
    activation: str = "relu",
) -> nn.Sequential:
    """A network without convolutions: the flattened image, hidden linear layers, logits.

    Arguments and errors as `convnet`'s; `hidden` are the widths of the hidden layers.

    >>> import torch
    >>> net = mlp(in_channels=1, image_size=8, classes=10, hidden=(128, 128))
    >>> [tuple(p.shape) for n, p in net.named_parameters() if n.endswith("weight")], net(torch.zeros(2, 1, 8, 8)).shape
    ([(128, 64), (128, 128), (10, 128)], torch.Size([2, 10]))
    """
    return convnet(
        in_channels=in_channels,
        image_size=image_size,
        classes=classes,
        channels=(),
        pool_after=(),
        linear=hidden,
        dropout=dropout,
        activation=activation,
    )
