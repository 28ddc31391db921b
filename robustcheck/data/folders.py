"""Folders of image files: one sub-folder a class, with or without `train/`, `val/` and `test/` above them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from robustcheck.data.class_folders import check_losses, class_labels, find_class_files, path_ids
from robustcheck.data.listing import (
    Decoded,
    Listing,
    Request,
    check_size,
    enumerate_names,
    printable,
)
from robustcheck.data.preprocessing import Preprocessing, prepare
from robustcheck.data.splits import Ints
from robustcheck.errors import DataError

SUFFIXES: Final = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_FORMATS: Final = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
_GREY_MODES: Final = ("1", "L", "LA", "I;16", "I;16L", "I;16B", "I;16N")
_UNSCALED_MODES: Final = ("I", "F")
_LARGEST_PIXELS: Final = 64 * 2**20
_WIDTH_TAG: Final = 0x0100
_HEIGHT_TAG: Final = 0x0101
_ORIENTATION_TAG: Final = 0x0112


def read_folder(rest: str, request: Request) -> Listing:
    """A folder with one sub-folder a class, of PNG, JPEG, BMP, WebP and TIFF files at any depth.

    If its sub-folders are `train` and `test` or `val`, the classes lie below these, and the parts are kept: what lies
    in `val` is the test part if there is no `test`. A sample's id is a 63-bit BLAKE2b hash of its relative path.
    Images are uint8; grey if all chosen files are grey, RGB otherwise; alpha is dropped; EXIF orientation is
    applied; 16-bit grey is reduced to 8 bits and noted. Files that cannot be read are left out and noted.

    Raises DataError for a folder without at least two classes, for files that differ in size when neither resized nor
    cropped, and if more than half of a class cannot be read.
    """
    root = Path(rest)
    files, notes = find_class_files(root, SUFFIXES, "image")
    classes, labels = class_labels(root, files, request.class_names)
    fixed = np.array([file.part for file in files], dtype=np.int64)

    def decode(rows: Ints, preprocessing: Preprocessing) -> Decoded:
        chosen = [files[row].relative for row in rows]
        decoded = _decode(root, chosen, preprocessing)
        check_losses(root, classes, labels[rows], decoded)
        return decoded

    name = printable(root.resolve().name)
    ids = path_ids(root, [file.relative.as_posix() for file in files])
    return Listing(name, "folder of image files", classes, labels, ids, fixed, decode, notes)


def _decode(root: Path, paths: Sequence[PurePath], preprocessing: Preprocessing) -> Decoded:
    """Two passes: the headers settle size and channels, so that nothing too large is ever decoded."""
    failures: dict[int, str] = {}
    sizes: dict[int, tuple[int, int]] = {}
    modes: dict[int, str] = {}
    for row, path in enumerate(paths):
        try:
            sizes[row], modes[row] = _inspect(root / path)
        except Exception as error:
            # Pillow's parsers let through whatever a damaged file provokes, not only OSError.
            failures[row] = _reason(error)
    height, width = _common_size(paths, sizes, preprocessing) if sizes else (1, 1)
    channels = 1 if all(mode in _GREY_MODES for mode in modes.values()) else 3
    check_size(len(paths) * height * width * channels)
    images = np.empty((len(paths), height, width, channels), dtype=np.uint8)
    for row in sizes:
        try:
            pixels = prepare(_pixels(root / paths[row], grey=channels == 1), preprocessing)
            if pixels.shape != images.shape[1:]:
                raise ValueError(
                    f"the header says another size than the {pixels.shape[0]}×{pixels.shape[1]} pixels there"
                )
            images[row] = pixels
        except Exception as error:
            failures[row] = _reason(error)
    readable = np.array([row not in failures for row in range(len(paths))], dtype=np.bool_)
    return Decoded(images if not failures else images[readable], readable, _notes(paths, modes, failures))


def _inspect(path: Path) -> tuple[tuple[int, int], str]:
    with _open(path) as image:
        width, height = image.size
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            # Newer versions of Pillow turn a TIFF's `size` themselves, older ones do not; its tags are what is stored.
            width, height = image.tag_v2[_WIDTH_TAG], image.tag_v2[_HEIGHT_TAG]
        if image.mode in _UNSCALED_MODES:
            raise ValueError(f"32-bit pixels (mode {image.mode}) have no stated range; store 8 or 16 bits")
        turned = image.getexif().get(_ORIENTATION_TAG) in (5, 6, 7, 8)
        return ((width, height) if turned else (height, width)), image.mode


def _pixels(path: Path, *, grey: bool) -> NDArray[Any]:
    with _open(path) as image:
        upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        deep = np.asarray(upright).astype(np.uint32)
        values = ((deep + 128) // 257).astype(np.uint8)
        upright = Image.fromarray(values)
    if upright.mode == "P":
        upright = upright.convert("RGBA")
    pixels = np.asarray(upright.convert("L" if grey else "RGB"))
    return pixels[..., np.newaxis] if grey else pixels


def _open(path: Path) -> Image.Image:
    with warnings.catch_warnings():
        # Pillow only warns of the first, smaller kind of decompression bomb; the limit below says what is too large.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(path, formats=_FORMATS)
    if image.width * image.height > _LARGEST_PIXELS:
        image.close()
        raise ValueError(f"{image.width}×{image.height} pixels are more than {_LARGEST_PIXELS}")
    return image


def _common_size(
    paths: Sequence[PurePath], sizes: dict[int, tuple[int, int]], preprocessing: Preprocessing
) -> tuple[int, int]:
    outputs = {row: preprocessing.output_size(*size) for row, size in sizes.items()}
    first = next(iter(outputs))
    for row, output in outputs.items():
        if output != outputs[first]:
            examples = " and ".join(
                f"{sizes[r][0]}×{sizes[r][1]} ('{printable(paths[r].as_posix())}')" for r in (first, row)
            )
            raise DataError(f"images: expected one size, got {examples}; use --resize HEIGHTxWIDTH")
    return outputs[first]


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"not one of {', '.join(_FORMATS)}"
    # An operating system's message ends with the absolute path, which has no place in a report.
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(text.partition("\n")[0][:120]) or type(error).__name__


def _notes(paths: Sequence[PurePath], modes: dict[int, str], failures: dict[int, str]) -> tuple[str, ...]:
    notes = []
    if failures:
        named = enumerate_names([f"{paths[row].as_posix()} ({failures[row]})" for row in sorted(failures)])
        notes.append(f"{len(failures)} of {len(paths)} image files could not be read and were left out: {named}")
    deep = sum(mode.startswith("I;16") for row, mode in modes.items() if row not in failures)
    if deep:
        notes.append(f"{deep} image files of 16 bits were reduced to 8 bits; store float32 in an npz file to keep them")
    return tuple(notes)
