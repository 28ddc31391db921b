"""IDX files against torchvision's reader, damaged ones, and the published Fashion-MNIST where it is installed."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from robustcheck.data.datasets import load_data
from robustcheck.errors import DataError, UsageError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def write_idx(path: Path, values: np.ndarray) -> None:
    header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    content = header + values.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_folder(folder: Path, suffix: str = "") -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for part, count in (("train", 40), ("t10k", 20)):
        write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", rng.integers(0, 256, (count, 5, 4), dtype=np.uint8))
        write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", np.arange(count, dtype=np.uint8) % 10)
    return folder


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_same_as_torchvision_reads(tmp_path: Path, suffix: str) -> None:
    folder = write_folder(tmp_path / "FashionMNIST" / "raw", suffix)
    names = tuple("abcdefghij")
    data = load_data(f"idx:{folder}", class_names=names)
    if suffix:
        # torchvision wants them unpacked.
        for file in folder.iterdir():
            file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
    other = load_data(f"torchvision:FashionMNIST:{tmp_path}", class_names=names)
    assert data.sha256 == other.sha256
    assert data.fixed_test
    assert len(data.test) == 20


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x00\x00\x0d\x01" + struct.pack(">I", 40) + bytes(40), "IDX file of bytes with 1 axes"),
        (b"\x00\x00\x08\x02" + struct.pack(">II", 40, 1) + bytes(40), "IDX file of bytes with 1 axes"),
        (b"\x00\x00\x08\x01\x00", "IDX file of bytes with 1 axes"),
        (b"\x00\x00\x08\x01" + struct.pack(">I", 40) + bytes(39), "expected 40 values, .* got 39"),
        (b"\x00\x00\x08\x01" + struct.pack(">I", 40) + bytes(41), "got more"),
        (b"\x00\x00\x08\x01" + struct.pack(">I", 0), "at least one"),
        (b"\x00\x00\x08\x01" + struct.pack(">I", 2**32 - 1) + bytes(40), "expected 4294967295 values"),
        (b"\x00\x00\x08\x01" + struct.pack(">I", 3) + bytes(3), "expected as many as images, 40, got 3"),
    ],
    ids=["floats", "two axes", "cut header", "one too few", "one too many", "none", "four billion", "too few labels"],
)
def test_damaged_files_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    folder = write_folder(tmp_path / "idx")
    (folder / "train-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(DataError, match=said):
        load_data(f"idx:{folder}")


def test_a_header_that_asks_for_too_much_is_refused_before_it_is_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "idx")
    (folder / "t10k-images-idx3-ubyte").write_bytes(b"\x00\x00\x08\x03" + struct.pack(">III", 2**31, 28, 28))
    with pytest.raises(DataError, match="GiB when decoded"):
        load_data(f"idx:{folder}")


def test_what_is_missing_or_cut_is_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "idx", ".gz")
    whole = (folder / "t10k-images-idx3-ubyte.gz").read_bytes()
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(whole[:100])
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz: expected a readable IDX file"):
        load_data(f"idx:{folder}")
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"expected t10k-images-idx3-ubyte or t10k-images-idx3-ubyte\.gz, got neither"):
        load_data(f"idx:{folder}")
    with pytest.raises(UsageError, match="idx:PATH"):
        load_data("idx")


@pytest.mark.fashion_mnist
def test_the_published_fashion_mnist() -> None:
    data = load_data(f"idx:{DEBIAN}")
    assert [len(split) for split in data.splits.values()] == [48_000, 12_000, 10_000]
    assert data.test.labels.bincount().tolist() == [1000] * 10
    assert data.test.labels[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert torch.cat([data.train.labels, data.validation.labels]).bincount().tolist() == [6000] * 10
    # The mean and deviation that are published for the training part: 0.2860 and 0.3530.
    pixels = torch.cat([data.train.images, data.validation.images]).double() / 255
    assert (round(pixels.mean().item(), 4), round(pixels.std().item(), 4)) == (0.2860, 0.3530)
