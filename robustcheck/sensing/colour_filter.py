"""The Bayer colour filter array: what one pixel sees of a colour image, and the colours back by bilinear interpolation.

A pattern names the colours of the upper left four pixels, row by row: `rggb` has red and green in the first row.
"""

from __future__ import annotations

from typing import Final

import torch
from torch.nn.functional import pad

from robustcheck.errors import InvalidValueError, UnknownNameError

PATTERNS: Final = ("rggb", "bggr", "grbg", "gbrg")
_SITES: Final = ((0, 0), (0, 1), (1, 0), (1, 1))


def mosaic(linear: torch.Tensor, pattern: str) -> torch.Tensor:
    """The one colour that each pixel's filter lets through.

    Args:
        linear: (n, 3, h, w) floating, red, green and blue in linear light (or electrons), h and w at least 2.
        pattern: rggb, bggr, grbg or gbrg.

    Returns:
        (n, 1, h, w) like `linear`.

    Raises:
        UnknownNameError: no such pattern.
        InvalidValueError: not three colours, or fewer than 2 × 2 pixels, which miss a colour.

    >>> colours = torch.tensor([0.1, 0.2, 0.3]).reshape(1, 3, 1, 1).expand(1, 3, 2, 2)
    >>> [round(value, 1) for value in mosaic(colours, "rggb").flatten().tolist()]
    [0.1, 0.2, 0.2, 0.3]
    """
    _check(linear, pattern, channels=3)
    raw = torch.empty_like(linear[:, :1])
    for colour, (row, column) in zip(pattern, _SITES, strict=True):
        raw[:, 0, row::2, column::2] = linear[:, "rgb".index(colour), row::2, column::2]
    return raw


def demosaic(raw: torch.Tensor, pattern: str) -> torch.Tensor:
    """Colours by bilinear interpolation: what a pixel does not see is the mean of its nearest neighbours that do.

    That is two or four neighbours: the bilinear method that Malvar, He and Cutler 2004 start from
    (doi 10.1109/ICASSP.2004.1326587). Beyond the edge the image is mirrored about its outermost pixels, which
    keeps the pattern. A constant colour comes back bit by bit, and the values that were seen do not change.

    Args:
        raw: (n, 1, h, w) floating, h and w at least 2.
        pattern: rggb, bggr, grbg or gbrg.

    Returns:
        (n, 3, h, w) like `raw`: red, green and blue.

    Raises:
        UnknownNameError: no such pattern.
        InvalidValueError: not one channel, or fewer than 2 × 2 pixels.

    >>> demosaic(torch.tensor([[[[1.0, 2.0], [4.0, 3.0]]]]), "rggb")[0, :, 0, 0].tolist()
    [1.0, 3.0, 3.0]
    """
    _check(raw, pattern, channels=1)
    height, width = raw.shape[2:]
    around = pad(raw, (1, 1, 1, 1), mode="reflect")[:, 0]
    up, down = around[:, :height, 1:-1], around[:, 2:, 1:-1]
    # Half the sum of two is exact where both are alike, so a constant colour comes back bit by bit.
    vertical = (up + down) / 2
    horizontal = (around[:, 1:-1, :width] + around[:, 1:-1, 2:]) / 2
    beside = (around[:, :, :width] + around[:, :, 2:]) / 2
    diagonal = (beside[:, :height] + beside[:, 2:]) / 2
    cross = (vertical + horizontal) / 2
    colours = raw.new_empty(len(raw), 3, height, width)
    for seen, (row, column) in zip(pattern, _SITES, strict=True):
        same_row = pattern[2 * row + 1 - column]
        for index, colour in enumerate("rgb"):
            if colour == seen:
                estimate = raw[:, 0]
            elif colour == "g":
                estimate = cross
            elif seen == "g":
                estimate = horizontal if colour == same_row else vertical
            else:
                estimate = diagonal
            colours[:, index, row::2, column::2] = estimate[:, row::2, column::2]
    return colours


def _check(images: torch.Tensor, pattern: str, channels: int) -> None:
    if pattern not in PATTERNS:
        raise UnknownNameError("colour filter", pattern, PATTERNS)
    if images.ndim != 4 or images.shape[1] != channels or min(images.shape[2:]) < 2:
        expected = f"(n, {channels}, h, w) with h and w of at least 2"
        remedy = "give an image with a red, a green and a blue channel, or a camera without colour filter"
        raise InvalidValueError(
            "image under a colour filter", expected=expected, got=tuple(images.shape), remedy=remedy
        )
