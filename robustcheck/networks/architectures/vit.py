"""A small vision transformer with plain or gated feed-forward blocks (arXiv 2010.11929, 2002.05202)."""

from __future__ import annotations

from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustcheck.activations.catalogue import Activation
from robustcheck.activations.catalogue import activation as read_activation
from robustcheck.activations.gated import Gated
from robustcheck.errors import InvalidValueError
from robustcheck.networks.architectures.parts import check_sizes
from robustcheck.networks.kinds import new_module


class Tokens(nn.Module):
    """Puts a learned class token before the patches and adds a learned position to each token.

    Attributes:
        digital: with placement `network` the two are added to digital values, and are not noised.
    """

    digital: Final = True

    def __init__(self, patches: int, dim: int) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.empty(1, 1, dim))
        self.positions = nn.Parameter(torch.empty(1, patches + 1, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw both anew, as the authors of arXiv 2402.02593 do: normal with variance 1."""
        nn.init.normal_(self.class_token)
        nn.init.normal_(self.positions)

    def forward(self, x: Tensor) -> Tensor:
        """(n, patches, dim) to (n, patches + 1, dim)."""
        return torch.cat((self.class_token.expand(x.shape[0], -1, -1), x), dim=1) + self.positions


class Attention(nn.Module):
    """Multi-head self-attention of normalised tokens, without biases before the heads: (n, tokens, dim) to the same."""

    def __init__(self, dim: int, heads: int, head_dim: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """What attention adds to the tokens."""
        heads = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(heads[0], heads[1], heads[2])
        return self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """Two linear layers with an activation between, of normalised tokens: (n, tokens, dim) to the same.

    A gated activation halves what the first layer gives, so that `hidden` must be even.
    """

    def __init__(self, dim: int, hidden: int, activation: nn.Module, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, hidden)
        self.act = activation
        self.up_dropout = nn.Dropout(dropout)
        self.down = nn.Linear(hidden // 2 if isinstance(activation, Gated) else hidden, dim)
        self.down_dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """What the block adds to the tokens."""
        hidden = self.up_dropout(self.act(self.up(self.norm(x))))
        return self.down_dropout(self.down(hidden))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and feed-forward, each added to the tokens that it reads."""

    def __init__(self, attention: Attention, feed_forward: FeedForward) -> None:
        super().__init__()
        self.attention = attention
        self.feed_forward = feed_forward

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, dim) to the same."""
        x = x + self.attention(x)
        return x + self.feed_forward(x)  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    """See `vit`, which checks the arguments."""

    def __init__(
        self, patches: nn.Conv2d, tokens: Tokens, dropout: float, blocks: list[Block], dim: int, classes: int
    ) -> None:
        super().__init__()
        self.patches = patches
        self.tokens = tokens
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(dim)
        self.output = nn.Linear(dim, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(n, in_channels, image_size, image_size) to (n, classes) logits, read from the class token."""
        tokens = self.dropout(self.tokens(self.patches(images).flatten(2).transpose(1, 2)))
        return self.output(self.norm(self.blocks(tokens)[:, 0]))  # type: ignore[no-any-return]


def vit(
    *,
    patch: int = 4,
    dim: int = 512,
    heads: int = 8,
    head_dim: int = 64,
    mlp: int = 512,
    dropout: float = 0.5,
    depth: int = 4,
    image_size: int = 32,
    in_channels: int = 3,
    classes: int = 10,
    feed_forward: Literal["plain", "gated"] = "plain",
    iso_parameters: bool = False,
    activation: str = "gelu",
) -> VisionTransformer:
    """The vision transformer of arXiv 2402.02593: pre-norm blocks, a class token, learned positions.

    Takes (n, in_channels, image_size, image_size) float tensors, gives (n, classes) logits. The defaults are those of
    the paper for CIFAR-10: 6,370,826 parameters plain, 5,846,538 gated. In a gated block the first linear layer keeps
    the width `mlp`, one half of it, activated, times the other half goes on (arXiv 2002.05202), and the second layer
    is half as wide. Weights start as torch draws them, class token and positions normal with variance 1. Paths are
    `patches`, `tokens`, `blocks.0.attention.qkv`, `blocks.0.attention.out`, `blocks.0.feed_forward.up`,
    `blocks.0.feed_forward.act`, …, `norm`, `output`; a gated activation is at `blocks.0.feed_forward.act.inner`.

    Args:
        patch: height and width of a patch [pixels]; divides `image_size`.
        dim: width of a token.
        heads: number of attention heads.
        head_dim: width of a head.
        mlp: width that the first linear layer of a feed-forward block gives; even for gated blocks.
        dropout: probability of dropping a value in training, in [0, 1): of the tokens, after attention, and after
            each layer of a feed-forward block.
        depth: number of blocks.
        image_size: height and width [pixels].
        in_channels: channels of the image.
        classes: number of logits.
        feed_forward: `plain`, or `gated`: act(a)·b over two halves.
        iso_parameters: whether gated blocks get the width at which they have as many parameters as plain blocks of
            width `mlp`, as near as whole numbers come.
        activation: a spec of the catalogue; for gated blocks a gated one, or the inner one.

    Raises:
        InvalidValueError: an option is out of range, or a gated activation is asked for in plain blocks.

    >>> plain, gated = vit(), vit(feed_forward="gated")
    >>> [sum(p.numel() for p in net.parameters()) for net in (plain, gated)]
    [6370826, 5846538]
    >>> vit(depth=1, dim=16, heads=2, head_dim=8, mlp=32, feed_forward="gated").blocks[0].feed_forward.act
    Gated(
      (inner): GELU(approximate='none')
    )
    """
    sizes = {"patch": patch, "dim": dim, "heads": heads, "head_dim": head_dim, "mlp": mlp, "depth": depth}
    sizes |= {"image_size": image_size, "in_channels": in_channels, "classes": classes}
    check_sizes(sizes, {}, {"dropout": dropout})
    if image_size % patch:
        raise InvalidValueError("patch", expected=f"a divisor of image_size, {image_size}", got=patch)
    if feed_forward not in ("plain", "gated"):
        raise InvalidValueError("feed_forward", expected="plain or gated", got=feed_forward)
    hidden = mlp
    if feed_forward == "gated":
        hidden = 2 * _gated_width(dim, mlp) if iso_parameters else mlp
        if hidden % 2:
            raise InvalidValueError("mlp", expected="an even width for gated blocks", got=mlp)
    wanted = read_activation(activation)
    blocks = [
        Block(
            Attention(dim, heads, head_dim, dropout),
            FeedForward(dim, hidden, _activation(wanted, feed_forward), dropout),
        )
        for _ in range(depth)
    ]
    patches = nn.Conv2d(in_channels, dim, kernel_size=patch, stride=patch)
    return VisionTransformer(patches, Tokens((image_size // patch) ** 2, dim), dropout, blocks, dim, classes)


def _gated_width(dim: int, mlp: int) -> int:
    """The half width n at which a gated block's 3·dim·n + 2·n + dim parameters are nearest 2·dim·mlp + mlp + dim."""
    return max(1, round((2 * dim + 1) * mlp / (3 * dim + 2)))


def _activation(wanted: Activation, feed_forward: str) -> nn.Module:
    if feed_forward == "gated":
        return wanted.module() if wanted.gated else Gated(new_module(wanted))
    if wanted.gated:
        raise InvalidValueError(
            "activation", expected="one that is not gated", got=wanted.spec, remedy="or ask for feed_forward=gated"
        )
    return new_module(wanted)
