"""Preprocessing: resize, crop and pad applied once at loading, and the random rotation, flip and crop of training.

The only module of `robustcheck.data` that imports albumentations, and only when there is something to do.
"""

from __future__ import annotations

import functools
import os
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robustcheck.errors import DataError, InvalidValueError, UsageError

_LARGEST_SIDE = 8192


@dataclass(frozen=True)
class Preprocessing:
    """What is done to the images; the default is nothing. Sizes are (height, width) [pixels].

    `resize` (bilinear, area-averaged where it shrinks), then `crop` (the centre), then `pad` (black around, the image
    in the middle) are applied once at loading, to all splits. `rotate` (about the centre by at most so many degrees
    either way, evenly drawn, bilinear, black where nothing was), `flip` (left to right, probability 1/2) and
    `random_crop_padding` (black pixels added on each side, then a random crop back to the same size) are for training
    alone, in this order, see `augment`.

    Raises InvalidValueError for a size, an angle or a padding that is not positive.

    >>> Preprocessing(resize=(32, 32), flip=True).as_dict()
    {'resize': [32, 32], 'crop': None, 'flip': True, 'random_crop_padding': None}
    """

    resize: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    flip: bool = False
    random_crop_padding: int | None = None
    pad: tuple[int, int] | None = None
    rotate: float | None = None

    def __post_init__(self) -> None:
        for name, size in (("resize", self.resize), ("crop", self.crop), ("pad", self.pad)):
            if size is not None and not (len(size) == 2 and all(_is_side(side) for side in size)):
                expected = f"(height, width), each 1 to {_LARGEST_SIDE} pixels"
                raise InvalidValueError(name, expected=expected, got=size, remedy="give a size such as 32x32")
        if self.random_crop_padding is not None and not _is_side(self.random_crop_padding):
            expected = f"1 to {_LARGEST_SIDE} pixels"
            raise InvalidValueError("random crop padding", expected=expected, got=self.random_crop_padding)
        if self.rotate is not None and not 0 < self.rotate <= 180:
            raise InvalidValueError("rotate", expected="0 < angle <= 180 degrees", got=self.rotate)

    @property
    def augments(self) -> bool:
        """Whether `augment` changes anything."""
        return self.flip or self.random_crop_padding is not None or self.rotate is not None

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON has them: sizes are lists; `pad` and `rotate` only where they are asked for."""
        fields = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {name: value for name, value in fields.items() if value is not None or name not in ("pad", "rotate")}

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) that `prepare` makes of an image of this size.

        Raises DataError for a crop that is larger than the image, or a pad that is smaller.

        >>> Preprocessing(crop=(24, 24), pad=(32, 32)).output_size(32, 48)
        (32, 32)
        """
        height, width = self.resize or (height, width)
        if self.crop is not None:
            if self.crop[0] > height or self.crop[1] > width:
                crop = f"{self.crop[0]}×{self.crop[1]}"
                raise DataError(
                    f"crop: expected at most the image, {height}×{width}, got {crop}; crop less or resize first"
                )
            height, width = self.crop
        if self.pad is None:
            return height, width
        if self.pad[0] < height or self.pad[1] < width:
            pad = f"{self.pad[0]}×{self.pad[1]}"
            raise DataError(f"pad: expected at least the image, {height}×{width}, got {pad}; pad more or crop first")
        return self.pad


def check_range_images(preprocessing: Preprocessing) -> None:
    """UsageError if the preprocessing would resize, crop, pad or rotate range images; to flip is to mirror the scene.

    Between two returns at different distances there is no surface to interpolate, and a row is a beam at its own angle.

    >>> check_range_images(Preprocessing(flip=True))
    """
    asked = {
        "--resize": preprocessing.resize,
        "--crop": preprocessing.crop,
        "--pad": preprocessing.pad,
        "--rotate": preprocessing.rotate,
        "--random-crop-padding": preprocessing.random_crop_padding,
    }
    given = [option for option, value in asked.items() if value is not None]
    if given:
        raise UsageError(
            f"{given[0]}: expected range images to keep their size, as rows are beams and columns are angles, "
            f"got {asked[given[0]]!r}; leave it out, or use --flip alone"
        )


def prepare(image: NDArray[Any], preprocessing: Preprocessing) -> NDArray[Any]:
    """The deterministic part, resize, centre crop, pad, of one image (h, w, c), uint8 or float32 in [0, 1].

    Returns an array (h', w', c) of the same dtype and range. Raises DataError as `Preprocessing.output_size` does.

    >>> prepare(np.zeros((8, 8, 1), np.uint8), Preprocessing(resize=(4, 6))).shape
    (4, 6, 1)
    """
    if preprocessing.resize is None and preprocessing.crop is None and preprocessing.pad is None:
        return image
    preprocessing.output_size(*image.shape[:2])
    pipeline = _preparation(preprocessing.resize, preprocessing.crop, preprocessing.pad)
    prepared: NDArray[Any] = pipeline(image=image)["image"]
    # Averages of ones can come out one rounding step above 1.
    return prepared if prepared.dtype == np.uint8 else prepared.clip(0, 1)


def augment(images: torch.Tensor, preprocessing: Preprocessing, seeds: NDArray[np.uint64]) -> torch.Tensor:
    """The random part, for training: each image rotated, flipped and cropped as its own seed says.

    `images` is (n, c, h, w), uint8 or float32 in [0, 1]; `seeds` is (n,) uint64. The result has the same shape, dtype
    and device. An image and its seed decide the result, whatever the rest of the batch is. Returns `images` itself
    where nothing is asked. Raises InvalidValueError if there is not one seed an image.

    >>> images = torch.rand(2, 1, 8, 8)
    >>> seeds = np.array([1, 2], np.uint64)
    >>> both = augment(images, Preprocessing(flip=True), seeds)
    >>> torch.equal(both[1:], augment(images[1:], Preprocessing(flip=True), seeds[1:]))
    True
    """
    if not preprocessing.augments:
        return images
    if seeds.shape != (len(images),):
        raise InvalidValueError("seeds", expected=f"one an image, shape ({len(images)},)", got=seeds.shape)
    height, width = images.shape[-2:]
    pipeline = _augmentation(preprocessing, height, width)
    sources = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    results = np.empty_like(sources)
    for row, seed in enumerate(seeds.tolist()):
        pipeline.set_random_seed(seed)
        results[row] = pipeline(image=sources[row])["image"]
    return torch.from_numpy(results).permute(0, 3, 1, 2).contiguous().to(images.device)


def _is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LARGEST_SIDE


@functools.lru_cache(maxsize=16)
def _preparation(resize: tuple[int, int] | None, crop: tuple[int, int] | None, pad: tuple[int, int] | None) -> Any:
    album = _albumentations()
    transforms = []
    if resize is not None:
        transforms.append(album.Resize(*resize, area_for_downscale="image"))
    if crop is not None:
        transforms.append(album.CenterCrop(*crop))
    if pad is not None:
        transforms.append(album.PadIfNeeded(*pad))
    return album.Compose(transforms)


@functools.lru_cache(maxsize=16)
def _augmentation(preprocessing: Preprocessing, height: int, width: int) -> Any:
    album = _albumentations()
    transforms = []
    if preprocessing.rotate is not None:
        transforms.append(album.Rotate(limit=(-preprocessing.rotate, preprocessing.rotate), p=1))
    if preprocessing.flip:
        transforms.append(album.HorizontalFlip(p=0.5))
    if preprocessing.random_crop_padding is not None:
        transforms.extend([album.Pad(preprocessing.random_crop_padding), album.RandomCrop(height, width)])
    return album.Compose(transforms)


@functools.cache
def _albumentations() -> Any:
    # Without this variable the library asks the network for its newest version when it is imported.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations
