"""Options that several commands share, spelled the same everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from robustcheck.errors import UsageError

if TYPE_CHECKING:
    from robustcheck.data.datasets import Dataset

_Command = TypeVar("_Command", bound=Callable[..., Any])


def image_size(text: str) -> tuple[int, int]:
    """The (height, width) [pixels] of HEIGHTxWIDTH; a click usage error (exit 2) where the text is no size.

    >>> image_size("32x48")
    (32, 48)
    """
    match = re.fullmatch(r"([1-9][0-9]{0,4})[x×]([1-9][0-9]{0,4})", text)
    if match is None:
        raise click.BadParameter(f"expected HEIGHTxWIDTH in pixels, such as 32x32, got {text!r}")
    return int(match[1]), int(match[2])


def loading_options(command: _Command) -> _Command:
    """How data are split, bounded, resized, cropped and padded: for `load_data_from`, beside a spec in `data`."""
    return with_options(
        command,
        click.option(
            "--split-seed",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help="Seed of the split into train, validation and test.",
        ),
        click.option(
            "--max-samples",
            type=click.IntRange(min=1),
            help="Most samples of all splits together, in proportion; all if not given.",
        ),
        click.option("--resize", type=image_size, metavar="HxW", help="Resize every image, HEIGHTxWIDTH."),
        click.option("--crop", type=image_size, metavar="HxW", help="Then crop the centre, HEIGHTxWIDTH."),
        click.option("--pad", type=image_size, metavar="HxW", help="Then pad with black, to HEIGHTxWIDTH."),
        click.option("--download", is_flag=True, help="Allow torchvision or timm to download data and weights."),
    )


def data_options(command: _Command) -> _Command:
    """`--data`, `loading_options`, and what is done to training images: for `load_data_from`."""
    return with_options(
        command,
        click.option(
            "--data",
            metavar="SPEC",
            help="digits, folder:PATH, npz:PATH, idx:PATH, torchvision:NAME:ROOT, lidar-scenes, clouds:[PART:]PATH or "
            "kitti:[PART:]PATH; what a shipped model was trained on if not given.",
        ),
        loading_options,
        click.option("--flip", is_flag=True, help="Flip training images left to right at random."),
        click.option(
            "--random-crop-padding",
            type=click.IntRange(min=1),
            metavar="PIXELS",
            help="Pad training images and crop them back at random.",
        ),
        click.option(
            "--rotate",
            type=click.FloatRange(0, 180, min_open=True),
            metavar="DEGREES",
            help="Rotate training images at random, by at most this angle either way.",
        ),
    )


def load_data_from(
    params: Mapping[str, Any], *, default: str | None = None, class_names: tuple[str, ...] | None = None
) -> Dataset:
    """The data set that a command's parameters ask for (`click.Context.params`); `default` is used without `--data`.

    Raises UsageError if there is no spec at all, and what `robustcheck.data.datasets.load_data` raises.
    """
    from robustcheck.data.datasets import load_data
    from robustcheck.data.preprocessing import Preprocessing

    spec = params.get("data") or default
    if spec is None:
        raise UsageError("--data: expected a data spec, got none; give one such as 'digits' or 'folder:PATH'")
    preprocessing = Preprocessing(
        resize=params["resize"],
        crop=params["crop"],
        flip=params.get("flip", False),
        random_crop_padding=params.get("random_crop_padding"),
        pad=params["pad"],
        rotate=params.get("rotate"),
    )
    return load_data(
        spec,
        split_seed=params["split_seed"],
        max_samples=params["max_samples"],
        preprocessing=preprocessing,
        download=params["download"],
        class_names=class_names,
    )


def with_options(command: _Command, *options: Callable[[_Command], _Command]) -> _Command:
    """The command with the options, listed in its help in this order."""
    for option in reversed(options):
        command = option(command)
    return command
