"""ResNet-18 (arXiv 1512.03385), with torchvision's names and with stems for large images and small ones."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Literal

from torch import Tensor, nn

from robustcheck.activations.catalogue import Activation
from robustcheck.activations.catalogue import activation as read_activation
from robustcheck.errors import InvalidValueError
from robustcheck.networks.architectures.parts import check_sizes, scaled
from robustcheck.networks.kinds import new_module

SMALL_BELOW: Final = 96
"""Images of fewer pixels a side get the stem that leaves them their size [pixels]."""


class BasicBlock(nn.Module):
    """Two convolutions with batch normalisation, added to the input or to its projection."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: Activation) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.act1 = new_module(activation)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.act2 = new_module(activation)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, outputs, h / stride, w / stride), rounded up."""
        y = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        return self.act2(y + self.downsample(x))  # type: ignore[no-any-return]


def resnet18(
    *,
    stem: Literal["small", "imagenet"] | None = None,
    width: float = 1.0,
    in_channels: int = 3,
    image_size: int = 224,
    classes: int = 100,
    activation: str = "relu",
) -> nn.Sequential:
    """ResNet-18 with torchvision's topology and its names of parameters, so that its weights can be loaded.

    Takes (n, in_channels, image_size, image_size) float tensors, gives (n, classes) logits. The defaults are those of
    arXiv 2402.02593, whose authors enlarge CIFAR-100 to 224 pixels. Weights start as torchvision's do. Paths are
    `conv1`, `bn1`, `act1`, `maxpool`, `layer1.0.conv1`, `layer1.0.bn1`, `layer1.0.act1`, `layer1.0.conv2`, …,
    `layer1.0.act2`, …, `fc`; where torchvision uses one activation module twice, here are two.

    Args:
        stem: `imagenet` is torchvision's, a convolution of 7 with stride 2 and a max pooling; `small` a convolution of
            3 alone, which leaves the image its size. None takes `small` below 96 pixels.
        width: factor of all channels.
        in_channels: channels of the image.
        image_size: height and width [pixels].
        classes: number of logits.
        activation: a spec of the catalogue.

    Raises:
        InvalidValueError: an option is out of range.

    >>> resnet18(width=0.25).conv1, resnet18(width=0.25, image_size=32).conv1.kernel_size
    (Conv2d(3, 16, kernel_size=(7, 7), stride=(2, 2), padding=(3, 3), bias=False), (3, 3))
    """
    check_sizes({"in_channels": in_channels, "image_size": image_size, "classes": classes}, {})
    if stem not in (None, "small", "imagenet"):
        raise InvalidValueError("stem", expected="small or imagenet", got=stem)
    stem = stem or ("small" if image_size < SMALL_BELOW else "imagenet")
    wanted = read_activation(activation)
    stages = scaled((64, 128, 256, 512), width)
    inputs, large = stages[0], stem == "imagenet"
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(
            in_channels,
            inputs,
            kernel_size=7 if large else 3,
            stride=2 if large else 1,
            padding=3 if large else 1,
            bias=False,
        ),
        bn1=nn.BatchNorm2d(inputs),
        act1=new_module(wanted),
    )
    if large:
        layers["maxpool"] = nn.MaxPool2d(3, stride=2, padding=1)
    for number, outputs in enumerate(stages, start=1):
        first = BasicBlock(inputs, outputs, 1 if number == 1 else 2, wanted)
        layers[f"layer{number}"] = nn.Sequential(first, BasicBlock(outputs, outputs, 1, wanted))
        inputs = outputs
    layers |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(inputs, classes)}
    network = nn.Sequential(layers)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return network
