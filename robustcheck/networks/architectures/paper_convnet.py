"""The convolutional network of arXiv 2402.02593, and its cuts to fewer layers."""

from __future__ import annotations

from typing import Final

from torch import nn

from robustcheck.errors import InvalidValueError
from robustcheck.networks.architectures.convnet import convnet
from robustcheck.networks.architectures.parts import scaled

CHANNELS: Final = (48, 48, 96, 96, 192, 192)
HIDDEN: Final = (512, 256)


def paper_convnet(
    *,
    convolutions: int = 6,
    linear: int = 3,
    width: float = 1.0,
    in_channels: int = 3,
    image_size: int = 32,
    classes: int = 10,
    dropout: float = 0.5,
    pool_dropout: float = 0.25,
    activation: str = "relu",
) -> nn.Sequential:
    """The first convolutions and the last linear layers of the ConvNet of arXiv 2402.02593.

    Every second convolution has no padding, and a pooling follows it. The defaults are the whole network for CIFAR-10,
    1,172,410 parameters; no convolutions make the paper's linear networks. Takes (n, in_channels, image_size,
    image_size) float tensors, gives (n, classes) logits. Paths are `convnet`'s.

    Linear weights start uniform with variance 2 / inputs (He et al. 2015, arXiv 1502.01852), as in the authors' code
    (github.com/Vivswan/GeLUReLUInterpolation); all else as torch draws it.

    Args:
        convolutions: how many, 0 to 6.
        linear: how many linear layers, the one of the logits included, 1 to 3; hidden ones are left out from the front.
        width: factor of all channels and hidden widths.
        in_channels: channels of the image.
        image_size: height and width [pixels].
        classes: number of logits.
        dropout: after each hidden linear layer, in [0, 1).
        pool_dropout: after each pooling between convolutions, in [0, 1).
        activation: a spec of the catalogue.

    Raises:
        InvalidValueError: an option is out of range, or the convolutions leave no pixel.

    >>> sum(p.numel() for p in paper_convnet().parameters())
    1172410
    >>> paper_convnet(convolutions=0, linear=2, width=0.25, in_channels=1).linear1
    Linear(in_features=1024, out_features=64, bias=True)
    """
    if not 0 <= convolutions <= len(CHANNELS):
        raise InvalidValueError("convolutions", expected=f"0 to {len(CHANNELS)}", got=convolutions)
    if not 1 <= linear <= len(HIDDEN) + 1:
        raise InvalidValueError("linear", expected=f"1 to {len(HIDDEN) + 1}", got=linear)
    second = tuple(range(2, convolutions + 1, 2))
    network = convnet(
        in_channels=in_channels,
        image_size=image_size,
        classes=classes,
        channels=scaled(CHANNELS[:convolutions], width),
        pool_after=second,
        linear=scaled(HIDDEN[len(HIDDEN) + 1 - linear :], width),
        dropout=dropout,
        activation=activation,
        unpadded=second,
        pool_dropout=pool_dropout,
    )
    for layer in network:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_uniform_(layer.weight)
    return network
