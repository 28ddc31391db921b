"""Two networks of digits to race activations in, beside the shipped one: a depthwise-separable one and a transformer.

Each is drawn and trained on clean images with fixed seeds, so that it is the same in every run on one machine type.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from exports import export_network
from safetensors.torch import save_file
from torch import Tensor, nn

from robustcheck.data.datasets import Dataset
from robustcheck.networks.loading import load_model
from robustcheck.study.runner import one_thread
from robustcheck.study.training import train


def model_choice(name: str, data: Dataset, folder: Path, *, epochs: int = 30, batch_size: int = 64) -> dict[str, str]:
    """What a study names as its model: the shipped network as it is, another one trained on clean images.

    The depthwise network is an ONNX file, made by torch's default exporter; the transformer is this module's code with
    weights. A file that the folder holds is not made again.
    """
    if name == "digits-convnet":
        return {"spec": name}
    spec = f"race_networks:{name}"
    path = folder / f"{name}.{'onnx' if name == 'depthwise' else 'safetensors'}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        model = load_model(spec, classes=data.classes)
        policy = {"epochs": epochs, "batch_size": batch_size}
        with one_thread():
            network = train(model, data, policy=policy, learning_rate=3e-3).model.network
        if name == "depthwise":
            export_network(network, torch.zeros(2, *data.shape), path, exporter="default")
        else:
            save_file(network.state_dict(), path)
    return {"spec": str(path)} if name == "depthwise" else {"spec": spec, "weights": str(path)}


class InvertedResidual(nn.Module):
    """Widen, filter each channel by itself, narrow again without an activation (MobileNetV2, arXiv 1801.04381)."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        hidden = 4 * width
        self.residual = stride == 1 and width == out
        self.layers = nn.Sequential(
            nn.Conv2d(width, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


def depthwise() -> nn.Module:
    """Two inverted residuals with ReLU6, for (n, 1, 8, 8) images: 20 thousand parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, 2, 1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU6(),
        InvertedResidual(24, 24, 1),
        InvertedResidual(24, 40, 2),
        nn.Conv2d(40, 128, 1, bias=False),
        nn.BatchNorm2d(128),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


class EncoderBlock(nn.Module):
    """Self-attention and a feed-forward part with GELU, each normalised before and added to its input.

    Queries, keys and values have a linear layer each: placement `network` refuses weights that lie outside a layer of
    their own, as those of `nn.MultiheadAttention` do.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.projection = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        q, k, v = (self._by_head(layer(y)) for layer in (self.query, self.key, self.value))
        x = x + self.projection(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.feed_forward(self.norm2(x))

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class VisionTransformer(nn.Module):
    """Patches of 2 × 2 pixels with fixed positions, two blocks, the mean of the tokens (arXiv 2205.01580)."""

    def __init__(self, width: int = 32, heads: int = 4, depth: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, 2)
        self.register_buffer("positions", _positions(4, width))
        self.blocks = nn.Sequential(*(EncoderBlock(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.blocks(x)).mean(1))


def vision_transformer() -> nn.Module:
    """A pre-norm transformer with GELU, for (n, 1, 8, 8) images: 18 thousand parameters."""
    return VisionTransformer()


def _positions(side: int, width: int) -> Tensor:
    """(side², width): sines and cosines of a patch's row and column, a quarter of the width each."""
    frequency = torch.exp(-math.log(100) * torch.arange(width // 4) / (width // 4))
    angle = torch.outer(torch.arange(side), frequency)
    row, column = angle.repeat_interleave(side, 0), angle.repeat(side, 1)
    return torch.cat([row.sin(), row.cos(), column.sin(), column.cos()], dim=1)
