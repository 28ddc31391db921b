"""Six small networks, each with fourteen activation functions, scaled so that every one of them matters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KINDS: Final = (
    "relu",
    "leaky_relu",
    "prelu",
    "elu",
    "selu",
    "celu",
    "gelu",
    "gelu_tanh",
    "silu",
    "mish",
    "hardswish",
    "softplus",
    "relu6",
    "tanh",
)
INPUT: Final = (3, 32, 32)

MODULES: Final[dict[str, Callable[[int], nn.Module]]] = {
    "relu": lambda _: nn.ReLU(),
    "leaky_relu": lambda _: nn.LeakyReLU(0.2),
    "prelu": nn.PReLU,
    "elu": lambda _: nn.ELU(0.7),
    "selu": lambda _: nn.SELU(),
    "celu": lambda _: nn.CELU(1.5),
    "gelu": lambda _: nn.GELU(),
    "gelu_tanh": lambda _: nn.GELU("tanh"),
    "silu": lambda _: nn.SiLU(),
    "mish": lambda _: nn.Mish(),
    "hardswish": lambda _: nn.Hardswish(),
    "softplus": lambda _: nn.Softplus(),
    "relu6": lambda _: nn.ReLU6(),
    "tanh": lambda _: nn.Tanh(),
}
"""Each kind as a module, given the number of channels."""

CALLS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "selu": torch.selu,
    "celu": F.celu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "softplus": F.softplus,
    "relu6": F.relu6,
    "tanh": torch.tanh,
}
"""Each kind as a call; `prelu` needs its slopes beside."""


def rotated(by: int) -> list[str]:
    """The fourteen kinds, another one first, so that each stands in other places of other networks."""
    return [*KINDS[by:], *KINDS[:by]]


class Convolutional(nn.Module):
    """Convolution, batch normalisation and activation modules."""

    def __init__(self) -> None:
        super().__init__()
        widths = [3, 8, 8, 8, 8, 8, 12, 12, 12, 12, 16, 16, 16, 16, 16]
        blocks = []
        for i, kind in enumerate(rotated(0)):
            stride = 2 if i in (1, 5, 9) else 1
            conv = nn.Conv2d(widths[i], widths[i + 1], 3, stride, 1, bias=i % 3 == 0, groups=4 if i == 7 else 1)
            blocks.append(nn.Sequential(conv, nn.BatchNorm2d(widths[i + 1]), MODULES[kind](widths[i + 1])))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).mean((2, 3)))


class SelfAttention(nn.Module):
    """Attention as vision transformers write it themselves."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) / math.sqrt(width // self.heads)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, tokens, width))


class EncoderBlock(nn.Module):
    """A pre-norm transformer block with two activations, modules or calls."""

    def __init__(self, width: int, kinds: list[str], index: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.own = index % 2 == 1
        self.attention = SelfAttention(width, 4) if self.own else nn.MultiheadAttention(width, 4, batch_first=True)
        self.fc1, self.fc2, self.fc3 = nn.Linear(width, 48), nn.Linear(48, 40), nn.Linear(40, width)
        self.act1 = MODULES[kinds[0]](1)
        self.called = kinds[1]
        if kinds[1] == "prelu":
            self.slopes = nn.Parameter(torch.empty(1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + (self.attention(y) if self.own else self.attention(y, y, y, need_weights=False)[0])
        y = self.fc2(self.act1(self.fc1(self.norm2(x))))
        y = F.prelu(y, self.slopes) if self.called == "prelu" else CALLS[self.called](y)
        return x + self.fc3(y)


class VisionTransformer(nn.Module):
    """Patches, a class token, position embeddings, both forms of attention."""

    def __init__(self) -> None:
        super().__init__()
        kinds = rotated(5)
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 4, 4), MODULES[kinds[0]](16))
        self.embed = nn.Conv2d(16, 32, 1)
        self.class_token = nn.Parameter(torch.empty(1, 1, 32))
        self.positions = nn.Parameter(torch.empty(1, 65, 32))
        self.blocks = nn.ModuleList(EncoderBlock(32, kinds[1 + 2 * i : 3 + 2 * i], i) for i in range(6))
        self.norm = nn.LayerNorm(32)
        self.fc, self.act, self.head = nn.Linear(32, 24), MODULES[kinds[13]](24), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(self.stem(x)).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), tokens], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.act(self.fc(self.norm(x)[:, 0])))


class Recurrent(nn.Module):
    """Calls of functions around a bidirectional LSTM of two layers over the image's rows of patches."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds = rotated(2)
        self.slopes = nn.Parameter(torch.empty(40))
        self.before = nn.ModuleList(nn.Linear(a, b) for a, b in ((384, 40), (40, 32), (32, 32), (32, 24)))
        self.lstm = nn.LSTM(24, 16, num_layers=2, bidirectional=True, batch_first=True)
        self.after = nn.ModuleList(nn.Linear(32, 32) for _ in range(10))
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 1, 3).reshape(-1, 8, 384)
        x = F.prelu(self.before[0](x).transpose(1, 2), self.slopes).transpose(1, 2)
        for layer, kind in zip(self.before[1:], self.kinds[1:4], strict=True):
            x = CALLS[kind](layer(x))
        x = self.lstm(x)[0]
        for layer, kind in zip(self.after[:5], self.kinds[4:9], strict=True):
            x = CALLS[kind](layer(x))
        x = x[:, -1]
        for layer, kind in zip(self.after[5:], self.kinds[9:], strict=True):
            x = CALLS[kind](layer(x))
        return self.head(x)


class Double(nn.Module):
    """Two convolutions; the second batch normalisation follows the activation, where nothing can fold it."""

    def __init__(self, inputs: int, outputs: int, kinds: list[str]) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm1, self.norm2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.act1, self.act2 = MODULES[kinds[0]](outputs), MODULES[kinds[1]](outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm2(self.act2(self.conv2(self.act1(self.norm1(self.conv1(x))))))


class UNet(nn.Module):
    """Three levels with skips; up by transposed convolution, by nearest and by bilinear interpolation."""

    def __init__(self) -> None:
        super().__init__()
        kinds = rotated(9)
        self.down = nn.ModuleList(
            Double(a, b, kinds[2 * i : 2 * i + 2]) for i, (a, b) in enumerate(((3, 6), (6, 8), (8, 10)))
        )
        self.bottom = Double(10, 12, kinds[6:8])
        self.rise = nn.ModuleList(
            [
                nn.ConvTranspose2d(12, 10, 2, 2),
                nn.Upsample(scale_factor=2),
                nn.Upsample(scale_factor=2, mode="bilinear"),
            ]
        )
        self.up = nn.ModuleList(
            Double(a, b, kinds[8 + 2 * i : 10 + 2 * i]) for i, (a, b) in enumerate(((20, 10), (18, 8), (14, 6)))
        )
        self.head = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.down:
            skips.append(down(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.bottom(x)
        for rise, up, skip in zip(self.rise, self.up, reversed(skips), strict=True):
            x = up(torch.cat([rise(x), skip], 1))
        return self.head(x)


class ExciteBlock(nn.Module):
    """Convolution, batch normalisation, activation, and a gate from all of the image, with an activation within."""

    def __init__(self, inputs: int, outputs: int, kinds: list[str], gate: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)
        self.act = MODULES[kinds[0]](outputs)
        self.reduce, self.inner = nn.Conv2d(outputs, 4, 1), MODULES[kinds[1]](4)
        self.expand, self.gate = nn.Conv2d(4, outputs, 1), gate

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.conv(x)))
        return x * self.gate(self.expand(self.inner(self.reduce(F.adaptive_avg_pool2d(x, 1)))))


class SqueezeExcite(nn.Module):
    """Squeeze-and-excite blocks, with sigmoid and hard-sigmoid gates in turn."""

    def __init__(self) -> None:
        super().__init__()
        kinds = rotated(12)
        self.blocks = nn.ModuleList(
            ExciteBlock(8 if i else 3, 8, kinds[2 * i : 2 * i + 2], nn.Hardsigmoid() if i % 2 else nn.Sigmoid())
            for i in range(7)
        )
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = block(x) if i == 0 else x + block(x)
            if i in (1, 3):
                x = F.avg_pool2d(x, 2)
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class Gated(nn.Module):
    """`F.glu`, a gate written by hand, and activations that a branch is multiplied by (SwiGLU and alike)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(48, 32)
        self.slopes = nn.Parameter(torch.empty(1))
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(14))
        self.gates = nn.ModuleList(nn.Linear(32, 64) for _ in range(8))
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(4))
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.reshape(-1, 3, 8, 4, 8, 4).permute(0, 2, 4, 1, 3, 5).reshape(-1, 64, 48))
        kinds = rotated(7)
        x = self._glu(0, self._act(0, kinds, x))
        x = self._by_hand(1, self._act(1, kinds, x))
        x = self.norms[0](x + self._branch(2, 2, kinds, x))
        x = self._glu(3, self._act(3, kinds, x))
        x = self.norms[1](x + self._branch(4, 4, kinds, x))
        x = self._act(6, kinds, self._act(5, kinds, x))
        x = self._by_hand(5, self._act(7, kinds, x))
        x = self.norms[2](x + self._act(9, kinds, self._act(8, kinds, x)))
        x = self._glu(6, self._act(10, kinds, x)).mean(1)
        x = self._act(12, kinds, self._act(11, kinds, x))
        x = self.norms[3](x + self._by_hand(7, self._act(13, kinds, x)))
        return self.head(x)

    def _act(self, index: int, kinds: list[str], x: Tensor) -> Tensor:
        return self._call(kinds[index], self.layers[index](x))

    def _call(self, kind: str, x: Tensor) -> Tensor:
        if kind == "softplus":
            return F.softplus(x, beta=2)
        return F.prelu(x, self.slopes) if kind == "prelu" else CALLS[kind](x)

    def _glu(self, gate: int, x: Tensor) -> Tensor:
        return F.glu(self.gates[gate](x), -1)

    def _by_hand(self, gate: int, x: Tensor) -> Tensor:
        value, by = self.gates[gate](x).chunk(2, -1)
        return value * torch.sigmoid(by)

    def _branch(self, index: int, gate: int, kinds: list[str], x: Tensor) -> Tensor:
        inner, value = self.gates[gate](x).chunk(2, -1)
        return self.layers[index](self._call(kinds[index], inner) * value)


NETWORKS: Final[dict[str, type[nn.Module]]] = {
    "convolutional": Convolutional,
    "vision transformer": VisionTransformer,
    "lstm": Recurrent,
    "u-net": UNet,
    "squeeze-and-excite": SqueezeExcite,
    "glu": Gated,
}


def build(name: str) -> nn.Module:
    """One of the six in evaluation mode, its weights and statistics drawn so that all that it computes is O(1)."""
    with torch.random.fork_rng():
        torch.manual_seed(list(NETWORKS).index(name) + 1)
        network = NETWORKS[name]().eval()
        with torch.no_grad():
            _draw(network)
            _scale(network, torch.randn(8, *INPUT))
    return network


def inputs(count: int, seed: int = 0) -> Tensor:
    """Random images, another `seed` for others."""
    return torch.randn(count, *INPUT, generator=torch.Generator().manual_seed(1000 + seed))


def _draw(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.PReLU):
            module.weight.uniform_(-0.1, 0.4)
        elif isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
            module.weight.uniform_(0.6, 1.4)
            module.bias.normal_(std=0.3)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and module.bias is not None:
            module.bias.normal_(std=0.3)
        elif isinstance(module, nn.MultiheadAttention):
            module.in_proj_weight.normal_(std=0.25)
            module.in_proj_bias.normal_(std=0.3)
        elif isinstance(module, nn.LSTM):
            for weight in module.parameters():
                weight.normal_(std=0.4)
    for name, parameter in network.named_parameters():
        if name.endswith("slopes"):
            parameter.uniform_(0.05, 0.4)
        elif name in ("class_token", "positions"):
            parameter.normal_(std=0.7)


def _scale(network: nn.Module, x: Tensor) -> None:
    """One pass that sets each layer's weights and each batch normalisation's statistics from what reaches it."""

    def layer(module: Any, given: Any, result: Tensor) -> Tensor:
        bias = 0 if module.bias is None else module.bias.reshape(-1, *[1] * (result.dim() - 2))
        if result.dim() == 3 and module.bias is not None:
            bias = module.bias
        factor = 1 / (result - bias).std().clamp(min=1e-3)
        module.weight.mul_(factor)
        return (result - bias) * factor + bias

    def statistics(module: Any, given: tuple[Tensor, ...]) -> None:
        mean, var = given[0].mean((0, 2, 3)), given[0].var((0, 2, 3))
        module.running_mean.copy_(mean + 0.2 * torch.randn_like(mean))
        module.running_var.copy_(var * torch.empty_like(var).uniform_(0.7, 1.4) + 1e-3)

    hooks = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) or type(module) is nn.Linear:
            hooks.append(module.register_forward_hook(layer))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(statistics))
    network(x)
    for hook in hooks:
        hook.remove()
