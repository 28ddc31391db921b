"""Data sets: readers against hand-written files, splits, bounds, preprocessing, and everything that is refused."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from robustcheck.data import class_folders, folders, listing
from robustcheck.data.datasets import KINDS, Dataset, load_data
from robustcheck.data.preprocessing import Preprocessing, augment, prepare
from robustcheck.data.splits import FREE, TEST, TRAIN, VALIDATION, assign, choose, split_hash
from robustcheck.errors import DataError, InvalidValueError, UnknownNameError, UsageError


def pictures(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def write_folder(root: Path, images: dict[str, np.ndarray], suffix: str = ".png") -> Path:
    for label, stack in images.items():
        (root / label).mkdir(parents=True)
        for row, pixels in enumerate(stack):
            Image.fromarray(pixels).save(root / label / f"{row:02}{suffix}")
    return root


def path_id(relative: str) -> int:
    return int.from_bytes(hashlib.blake2b(relative.encode(), digest_size=8).digest(), "little") >> 1


def everything(data: Dataset) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, labels and ids of all splits together, by id."""
    splits = data.splits.values()
    ids = torch.cat([split.sample_ids for split in splits])
    order = ids.argsort()
    images, labels = (torch.cat([getattr(split, name) for split in splits]) for name in ("images", "labels"))
    return images[order], labels[order], ids[order]


def write_npz(path: Path, **arrays: Any) -> str:
    np.savez_compressed(path, **arrays)
    return f"npz:{path}"


def test_digits_are_those_of_scikit_learn() -> None:
    bunch = load_digits()
    data = load_data("digits")
    images, labels, ids = everything(data)
    assert ids.tolist() == list(range(1797))
    np.testing.assert_array_equal(images.numpy(), (bunch.data / 16).reshape(1797, 1, 8, 8).astype(np.float32))
    np.testing.assert_array_equal(labels.numpy(), bunch.target)
    assert (images.dtype, labels.dtype, ids.dtype) == (torch.float32, torch.int64, torch.int64)
    assert (data.shape, data.classes, data.fixed_test) == ((1, 8, 8), tuple("0123456789"), False)
    assert data.chance == max(np.bincount(data.test.labels.numpy())) / len(data.test)
    assert torch.equal(data.train.physical(torch.tensor([3, 1])), data.train.images[[3, 1]])


def test_the_hash_of_digits_is_pinned() -> None:
    # It enters every cell's identity, so a change of it is a change of the numerics version.
    assert load_data("digits").sha256 == "40f9dbf384d82077dc00d53179348c828b801b894c69c76dc0f3925db1bb87fd"


def test_the_hash_covers_images_labels_names_and_split(tmp_path: Path) -> None:
    images, labels = pictures(20, 4, 4), np.arange(20) % 2
    spec = write_npz(tmp_path / "a.npz", images=images, labels=labels)
    plain = load_data(spec).sha256
    assert load_data(write_npz(tmp_path / "b.npz", x=images, y=labels)).sha256 == plain
    brighter = images.copy()
    brighter[7, 2, 2] ^= 1
    changed = [
        load_data(write_npz(tmp_path / "c.npz", x=brighter, y=labels)),
        load_data(write_npz(tmp_path / "d.npz", x=images, y=1 - labels)),
        load_data(spec, class_names=("cat", "dog")),
        load_data(spec, split_seed=1),
        load_data(spec, max_samples=19),
    ]
    assert len({plain, *(data.sha256 for data in changed)}) == 6


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
def test_splits_are_stratified_disjoint_and_exhaustive(seed: int) -> None:
    data = load_data("digits", split_seed=seed)
    ids = [set(split.sample_ids.tolist()) for split in data.splits.values()]
    assert sum(map(len, ids)) == len(set.union(*ids)) == 1797
    for label, size in enumerate(np.bincount(load_digits().target)):
        for split, share in zip(data.splits.values(), (0.6, 0.2, 0.2), strict=True):
            assert abs(int((split.labels == label).sum()) - share * size) <= 1


def test_another_seed_gives_another_split_that_overlaps_as_chance_says() -> None:
    first, second = (set(load_data("digits", split_seed=seed).test.sample_ids.tolist()) for seed in (0, 1))
    # 359 of 1797 drawn twice: 72 in common on average, standard deviation 6.8.
    assert 38 < len(first & second) < 106


def test_the_split_does_not_depend_on_the_order_of_the_samples() -> None:
    rng = np.random.default_rng(3)
    ids = rng.integers(0, 2**62, 500)
    labels = rng.integers(0, 7, 500)
    free = np.full(500, FREE)
    split = assign(labels, ids, free, 5)
    kept = choose(labels, ids, split, 5, 200)
    shuffled = rng.permutation(500)
    again = assign(labels[shuffled], ids[shuffled], free, 5)
    np.testing.assert_array_equal(again, split[shuffled])
    kept_again = choose(labels[shuffled], ids[shuffled], again, 5, 200)
    np.testing.assert_array_equal(ids[shuffled][kept_again], ids[kept])


def test_the_split_hash_is_splitmix64() -> None:
    # The first outputs of Vigna's splitmix64.c from state 0; the seed's own hash is undone by exclusive or.
    seed_hash = 0xE220A8397B1DCDAF
    states = np.array([0, 0x9E3779B97F4A7C15, 0x3C6EF372FE94F82A], dtype=np.uint64)
    hashes = split_hash((states ^ np.uint64(seed_hash)).view(np.int64), 0)
    assert hashes.tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_small_classes_reach_every_split() -> None:
    labels = np.array([0] * 3 + [1] * 4 + [2] * 50)
    split = assign(labels, np.arange(57), np.full(57, FREE), 0)
    counts = [np.bincount(split[labels == label], minlength=3).tolist() for label in range(3)]
    assert counts == [[1, 1, 1], [2, 1, 1], [30, 10, 10]]


def test_fixed_parts_are_kept() -> None:
    labels = np.arange(60) % 2
    fixed = np.array([FREE] * 40 + [TEST] * 20)
    split = assign(labels, np.arange(60), fixed, 0)
    assert (split[40:] == TEST).all()
    assert np.bincount(split[:40]).tolist() == [32, 8]
    every = np.array([TRAIN] * 20 + [VALIDATION] * 20 + [TEST] * 20)
    np.testing.assert_array_equal(assign(labels, np.arange(60), every, 0), every)


def test_max_samples_keeps_shares_and_is_nested() -> None:
    whole = {name: set(split.sample_ids.tolist()) for name, split in load_data("digits").splits.items()}
    smaller: dict[str, set[int]] = {name: set() for name in whole}
    for count in (30, 31, 100, 457, 1796):
        data = load_data("digits", max_samples=count)
        ids = {name: set(split.sample_ids.tolist()) for name, split in data.splits.items()}
        assert sum(map(len, ids.values())) == count
        for name, split in data.splits.items():
            assert smaller[name] <= ids[name] <= whole[name]
            assert split.labels.unique().tolist() == list(range(10))
        # What makes an apportionment Adams': the last sample that any group got came before every group's next.
        sizes, kept = (torch.cat([s.labels.bincount() for s in d.splits.values()]) for d in (load_data("digits"), data))
        next_turns = (kept / sizes)[kept < sizes]
        assert float(((kept - 1) / sizes).max()) <= float(next_turns.min())
        smaller = ids
    with pytest.raises(InvalidValueError, match="at least 30"):
        load_data("digits", max_samples=29)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".PNG"])
def test_folder_gives_the_written_pixels(tmp_path: Path, suffix: str) -> None:
    # A constant colour survives WebP's default compression within a level.
    stacks = {"cat": pictures(5, 1, 1, 3), "dog": pictures(6, 1, 1, 3, seed=1)}
    wide = {label: np.broadcast_to(stack, (len(stack), 6, 5, 3)).copy() for label, stack in stacks.items()}
    data = load_data(f"folder:{write_folder(tmp_path / 'photos', wide, suffix)}")
    images, labels, ids = everything(data)
    assert (data.name, data.classes, data.shape) == ("photos", ("cat", "dog"), (3, 6, 5))
    assert images.dtype == torch.uint8
    assert data.train.physical().dtype == torch.float32
    torch.testing.assert_close(data.train.physical(), data.train.images.double().div(255).float())
    by_id = {
        path_id(f"{label}/{row:02}{suffix}"): (label, row) for label, n in (("cat", 5), ("dog", 6)) for row in range(n)
    }
    assert set(ids.tolist()) == set(by_id)
    for image, label, identity in zip(images, labels, ids.tolist(), strict=True):
        name, row = by_id[identity]
        assert data.classes[label] == name
        difference = np.abs(image.permute(1, 2, 0).numpy().astype(int) - wide[name][row])
        assert difference.max() <= (4 if suffix == ".webp" else 0)


def test_folder_is_grey_only_if_all_files_are(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"a": pictures(4, 4, 4), "b": pictures(4, 4, 4, seed=1)})
    assert load_data(f"folder:{root}").shape == (1, 4, 4)
    Image.fromarray(pictures(1, 4, 4, 3)[0]).save(root / "b" / "colour.png")
    mixed = load_data(f"folder:{root}")
    assert mixed.shape == (3, 4, 4)
    images, _, ids = everything(mixed)
    grey = images[ids == path_id("a/00.png")][0]
    np.testing.assert_array_equal(grey.numpy(), np.repeat(pictures(4, 4, 4)[:1], 3, axis=0))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str) -> None:
    root = write_folder(tmp_path, {"a": np.zeros((3, 16, 24, 3), np.uint8), "b": np.zeros((3, 16, 24, 3), np.uint8)})
    lying = np.zeros((24, 16, 3), np.uint8)
    lying[:12] = 255
    turned = Image.fromarray(lying)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(root / "a" / f"turned{suffix}", exif=exif)
    images, _, ids = everything(load_data(f"folder:{root}"))
    upright = images[ids == path_id(f"a/turned{suffix}")][0].numpy()
    # Orientation 6 is shown turned a quarter clockwise: what was the top half is the right half.
    assert upright[:, :, 13:].min() > 240
    assert upright[:, :, :11].max() < 16


def test_sixteen_bit_grey_is_scaled_and_noted(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"a": pictures(3, 2, 2), "b": pictures(3, 2, 2)})
    deep = np.array([[128, 129], [32896, 65535]], np.uint16)
    Image.fromarray(deep).save(root / "a" / "deep.png")
    data = load_data(f"folder:{root}")
    images, _, ids = everything(data)
    assert images[ids == path_id("a/deep.png")].flatten().tolist() == [0, 1, 128, 255]
    assert "1 image files of 16 bits" in data.notes[0]


def test_unreadable_files_are_named_and_counted(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"a": pictures(9, 8, 8), "b": pictures(9, 8, 8)})
    (root / "a" / "empty.png").write_bytes(b"")
    whole = (root / "a" / "00.png").read_bytes()
    (root / "a" / "short.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(pictures(1, 8, 8)[0]).save(root / "b" / "gif.png", format="GIF")
    (root / "b" / "readme.txt").write_text("not an image")
    (root / "b" / "bad\x1b[31m.jpg").write_bytes(b"no")
    (root / "loose.png").write_bytes(whole)
    data = load_data(f"folder:{root}")
    assert sum(len(split) for split in data.splits.values()) == 18
    others, unreadable = data.notes
    assert "2 in the folder are no image files" in others
    assert "'loose.png', 'b/readme.txt'" in others
    assert "4 of 22 image files could not be read" in unreadable
    for name in ("a/empty.png", "a/short.png", "b/gif.png", "b/bad\\x1b[31m.jpg"):
        assert name in unreadable
    assert str(tmp_path) not in unreadable


def test_a_class_that_is_mostly_unreadable_is_an_error(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"a": pictures(4, 4, 4), "b": pictures(4, 4, 4)})
    for row in range(5):
        (root / "b" / f"bad{row}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"half of class 'b' to be readable, got 5 of 9 unreadable;.*bad3\.png"):
        load_data(f"folder:{root}")


def test_unreadable_files_move_no_other_sample(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"a": pictures(6, 4, 4), "b": pictures(6, 4, 4)})
    whole = load_data(f"folder:{root}")
    paths = {path_id(path.relative_to(root).as_posix()): path for path in root.glob("*/*")}
    lost = int(whole.test.sample_ids[whole.test.labels == 1])
    paths[lost].write_bytes(b"")
    data = load_data(f"folder:{root}")
    for name, split in data.splits.items():
        assert split.sample_ids.tolist() == [i for i in whole.splits[name].sample_ids.tolist() if i != lost]
    assert data.notes[1:] == ("the test split has no sample of 'b'",)
    one_of_train = int(whole.train.sample_ids[whole.train.labels == 1][0])
    for identity in set(whole.train.sample_ids[whole.train.labels == 1].tolist()) - {one_of_train}:
        paths[identity].write_bytes(b"")
    with pytest.raises(DataError, match="half of class 'b'"):
        load_data(f"folder:{root}")


def test_a_class_without_a_readable_training_image_is_an_error(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"a": pictures(3, 4, 4), "b": pictures(3, 4, 4)})
    train = load_data(f"folder:{root}").train
    lost = int(train.sample_ids[train.labels == 0])
    next(path for path in root.glob("a/*") if path_id(f"a/{path.name}") == lost).write_bytes(b"")
    with pytest.raises(DataError, match="of each class in the train split, got none of 'a'"):
        load_data(f"folder:{root}")


def test_too_many_pixels_are_refused_by_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_folder(tmp_path, {"a": pictures(6, 4, 4), "b": pictures(6, 4, 4)})
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(root / "a" / "large.png")
    monkeypatch.setattr(folders, "_LARGEST_PIXELS", 1000)
    assert "40×40 pixels are more than 1000" in load_data(f"folder:{root}").notes[0]


@pytest.mark.parametrize(
    ("parts", "test_count", "validation_count"),
    [(("train", "test"), 8, 4), (("train", "val"), 8, 4), (("train", "val", "test"), 8, 8)],
)
def test_folders_with_parts(tmp_path: Path, parts: tuple[str, ...], test_count: int, validation_count: int) -> None:
    for part in parts:
        count = 10 if part == "train" else 4
        write_folder(tmp_path / part, {"a": pictures(count, 4, 4), "b": pictures(count, 4, 4, seed=1)})
    data = load_data(f"folder:{tmp_path}")
    assert data.fixed_test
    assert data.classes == ("a", "b")
    assert len(data.test) == test_count
    assert len(data.validation) == validation_count
    expected = {path_id(f"{parts[-1]}/{label}/{row:02}.png") for label in "ab" for row in range(4)}
    assert set(data.test.sample_ids.tolist()) == expected


def test_classes_may_be_called_train_and_test(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {name: pictures(3, 4, 4) for name in ("car", "test", "train")})
    assert load_data(f"folder:{root}").classes == ("car", "test", "train")


def test_class_names_order_the_folders(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"a": pictures(3, 4, 4), "b": pictures(3, 4, 4, seed=1)})
    data = load_data(f"folder:{root}", class_names=("z", "b", "a"))
    _, labels, ids = everything(data)
    assert int(labels[ids == path_id("a/00.png")]) == 2
    assert data.notes == ("1 classes have no sample: 'z'",)
    with pytest.raises(DataError, match="got 'a'"):
        load_data(f"folder:{root}", class_names=("b", "c"))


def test_equal_sample_ids_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_folder(tmp_path, {"a": pictures(3, 4, 4), "b": pictures(3, 4, 4)})

    class Constant:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def digest(self) -> bytes:
            return bytes(8)

    monkeypatch.setattr(class_folders.hashlib, "blake2b", Constant)
    with pytest.raises(DataError, match=r"different sample id.*'a/00\.png', 'a/01\.png'"):
        load_data(f"folder:{root}")


def test_only_kept_files_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_folder(tmp_path, {"a": pictures(20, 4, 4), "b": pictures(20, 4, 4)})
    opened: list[Path] = []
    pixels = folders._pixels
    monkeypatch.setattr(folders, "_pixels", lambda path, **kw: (opened.append(path), pixels(path, **kw))[1])
    assert len(load_data(f"folder:{root}", max_samples=10).train) == len(opened) - 4 == 6


def test_sizes_that_differ_need_a_resize_or_a_crop(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"a": pictures(3, 8, 8), "b": pictures(3, 8, 10)})
    with pytest.raises(DataError, match=r"one size, got .*8×8 .*use --resize"):
        load_data(f"folder:{root}")
    assert load_data(f"folder:{root}", preprocessing=Preprocessing(resize=(4, 6))).shape == (1, 4, 6)
    cropped = load_data(f"folder:{root}", preprocessing=Preprocessing(crop=(8, 8)))
    images, _, ids = everything(cropped)
    np.testing.assert_array_equal(images[ids == path_id("b/01.png")][0, 0].numpy(), pictures(3, 8, 10)[1][:, 1:9])
    with pytest.raises(DataError, match="crop: expected at most the image, 8×"):
        load_data(f"folder:{root}", preprocessing=Preprocessing(crop=(9, 9)))


@pytest.mark.parametrize(
    ("shape", "axes"), [((5, 6), "hw"), ((5, 6, 3), "hwc"), ((3, 5, 6), "chw"), ((1, 5, 6), "chw")]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.float16])
def test_npz_layouts_and_dtypes(tmp_path: Path, shape: tuple[int, ...], axes: str, dtype: type) -> None:
    raw = pictures(12, *shape)
    stored = raw if dtype is np.uint8 else (raw / 255).astype(dtype)
    data = load_data(write_npz(tmp_path / "a.npz", x=stored, y=np.arange(12, dtype=np.uint8) % 2))
    images, labels, ids = everything(data)
    assert images.dtype == (torch.uint8 if dtype is np.uint8 else torch.float32)
    expected = {"hw": stored[:, None], "hwc": np.moveaxis(stored, 3, 1) if axes == "hwc" else None, "chw": stored}[axes]
    np.testing.assert_array_equal(images.numpy(), expected.astype(images.numpy().dtype))
    assert labels.tolist() == [0, 1] * 6
    assert ids.tolist() == list(range(12))


def test_npz_with_a_test_part_and_names(tmp_path: Path) -> None:
    images = pictures(14, 4, 4)
    labels = np.arange(14) % 2
    spec = write_npz(
        tmp_path / "a.npz",
        images=images[:10],
        labels=labels[:10],
        test_images=images[10:],
        test_labels=labels[10:].astype(np.uint64),
        class_names=np.array(["cat", "dog"]),
        weights=np.ones(3),
    )
    data = load_data(spec)
    assert data.fixed_test
    assert data.classes == ("cat", "dog")
    assert data.test.sample_ids.tolist() == [10, 11, 12, 13]
    np.testing.assert_array_equal(data.test.images[:, 0].numpy(), images[10:])
    assert (len(data.train), len(data.validation)) == (8, 2)
    assert data.notes == ("arrays not used: 'weights'",)


_IMAGES, _LABELS = pictures(12, 4, 4), np.arange(12) % 2


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"images": _IMAGES},
            r"expected images .* and labels .*, got 'images'; robustcheck works on image classification",
        ),
        ({"images": _IMAGES, "x": _IMAGES, "y": _LABELS}, "got images and x"),
        ({"x": _IMAGES.astype(np.int64), "y": _LABELS}, "expected images of uint8, or float"),
        ({"x": _IMAGES.astype(np.float32), "y": _LABELS}, r"in \[0, 1\], got 0 to 2[0-9]{2}; divide"),
        ({"x": np.full((12, 4, 4), np.nan), "y": _LABELS}, "got NaN"),
        ({"x": np.where(np.arange(16).reshape(4, 4) == 7, np.nan, np.ones((12, 1, 1))), "y": _LABELS}, "got NaN"),
        ({"x": np.full((12, 4, 4), -0.1), "y": _LABELS}, "got -0.1 to -0.1"),
        ({"x": pictures(12, 64), "y": _LABELS}, r"expected images \(n, h, w\)"),
        ({"x": pictures(12, 4, 4, 5), "y": _LABELS}, "image classification only"),
        ({"x": pictures(12, 3, 4, 3), "y": _LABELS}, "read both ways"),
        ({"x": pictures(12, 0, 4), "y": _LABELS}, "none of them 0"),
        ({"x": _IMAGES, "y": _LABELS[:11]}, "as many as images, 12, got 11"),
        ({"x": _IMAGES, "y": _LABELS[:, None]}, "one integer an image"),
        ({"x": _IMAGES, "y": _LABELS.astype(float)}, "one integer an image"),
        ({"x": _IMAGES, "y": _LABELS - 1}, "got -1 to 0"),
        ({"x": _IMAGES, "y": _LABELS * 2}, "each of them there"),
        ({"x": _IMAGES, "y": _LABELS * 10**9}, "labels: expected 0 to"),
        ({"x": _IMAGES, "y": _LABELS, "class_names": np.array(["cat"])}, "labels: expected 0 to 0"),
        ({"x": _IMAGES, "y": _LABELS, "class_names": np.array(["cat", "cat"])}, "more than one 'cat'"),
        ({"x": _IMAGES, "y": _LABELS, "class_names": np.array(["cat", ""])}, "1 to 255 characters"),
        ({"x": _IMAGES, "y": _LABELS, "class_names": np.array([1, 2])}, "class_names as text"),
        ({"x": _IMAGES, "y": _LABELS * 0}, "at least two classes, got '0'"),
        ({"x": _IMAGES, "y": (np.arange(12) > 9).astype(int)}, "at least 3 samples a class.*got 2 of '1'"),
        ({"x": _IMAGES, "y": _LABELS, "test_images": _IMAGES}, "both test_images and test_labels"),
        ({"x": _IMAGES, "y": _LABELS, "test_images": pictures(2, 5, 4), "test_labels": _LABELS[:2]}, "as the others"),
        ({"x": _IMAGES.astype(object), "y": _LABELS}, "pickle"),
    ],
)
def test_npz_files_that_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        load_data(write_npz(tmp_path / "a.npz", **arrays))
    assert error.value.exit_code == 3


def test_a_damaged_or_lying_npz_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npz"
    spec = write_npz(path, x=_IMAGES, y=_LABELS)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="expected a readable npz file"):
        load_data(spec)
    at = whole.index(b"x.npy") + 60
    path.write_bytes(whole[:at] + bytes(byte ^ 0xFF for byte in whole[at : at + 40]) + whole[at + 40 :])
    with pytest.raises(DataError, match="expected a readable npz file"):
        load_data(spec)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 10**9)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(100))
    with pytest.raises(DataError, match="bytes, as its header says, got 100"):
        load_data(spec)
    write_npz(path, x=_IMAGES, y=_LABELS)
    monkeypatch.setattr(listing, "LARGEST_BYTES", 100)
    with pytest.raises(DataError, match=r"GiB when decoded.*--max-samples or --resize"):
        load_data(spec)


def write_idx(path: Path, array: np.ndarray) -> None:
    """An IDX file: magic (0, 0, 8 for uint8, dimensions), big-endian sizes, bytes."""
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes())


def write_mnist(root: Path, name: str = "FashionMNIST") -> dict[str, np.ndarray]:
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    arrays = {
        "train-images-idx3-ubyte": pictures(50, 28, 28),
        "train-labels-idx1-ubyte": (np.arange(50) % 10).astype(np.uint8),
        "t10k-images-idx3-ubyte": pictures(20, 28, 28, seed=1),
        "t10k-labels-idx1-ubyte": (np.arange(20) % 10).astype(np.uint8),
    }
    for file, array in arrays.items():
        write_idx(raw / file, array)
    return arrays


@pytest.mark.parametrize("name", ["FashionMNIST", "MNIST", "KMNIST"])
def test_torchvision_reads_idx_files(tmp_path: Path, name: str) -> None:
    arrays = write_mnist(tmp_path, name)
    data = load_data(f"torchvision:{name}:{tmp_path}")
    assert (data.name, data.shape, data.fixed_test, len(data.classes)) == (name, (1, 28, 28), True, 10)
    assert data.test.sample_ids.tolist() == list(range(50, 70))
    np.testing.assert_array_equal(data.test.images[:, 0].numpy(), arrays["t10k-images-idx3-ubyte"])
    np.testing.assert_array_equal(data.test.labels.numpy(), arrays["t10k-labels-idx1-ubyte"])
    train = data.train.sample_ids.numpy()
    assert (len(train), len(data.validation)) == (40, 10)
    np.testing.assert_array_equal(data.train.images[:, 0].numpy(), arrays["train-images-idx3-ubyte"][train])


def test_torchvision_files_that_are_missing_or_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = f"torchvision:FashionMNIST:{tmp_path}"
    with pytest.raises(DataError, match="or allow --download"):
        load_data(spec)
    write_mnist(tmp_path)
    labels = tmp_path / "FashionMNIST/raw/train-labels-idx1-ubyte"
    good = labels.read_bytes()
    for bad, message in (
        (good[:-1], "expected its files"),
        (good[:-1] + b"\x0b", "labels: expected 0 to 9"),
        (b"", "expected its files"),
        (b"\x80\x04junk", "expected its files"),
    ):
        labels.write_bytes(bad)
        with pytest.raises(DataError, match=message):
            load_data(spec)
    labels.write_bytes(good)
    monkeypatch.setattr(listing, "LARGEST_BYTES", 1000)
    with pytest.raises(DataError, match="GiB when decoded"):
        load_data(spec)


def test_an_unknown_cifar_file_is_not_unpickled(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    marker = tmp_path / "ran"
    hostile = f"cos\nmkdir\n(V{marker}\ntR.".encode()
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"]
    for name in names:
        (folder / name).write_bytes(hostile)
    with pytest.raises(DataError, match="expected its files"):
        load_data(f"torchvision:CIFAR10:{tmp_path}")
    assert not marker.exists()


def test_the_layouts_of_cifar_and_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    pixels = pictures(30, 32, 32, 3)

    class FakeCifar:
        classes = tuple("abcdefghij")

        def __init__(self, root: str, train: bool, download: bool) -> None:
            assert not download
            self.data = pixels[:20] if train else pixels[20:]
            self.targets = [row % 10 for row in range(len(self.data))]

    class FakeSvhn:
        def __init__(self, root: str, split: str, download: bool) -> None:
            self.data = np.moveaxis(pixels[:20] if split == "train" else pixels[20:], 3, 1)
            self.labels = np.arange(len(self.data)) % 10

    monkeypatch.setattr(datasets, "CIFAR10", FakeCifar)
    monkeypatch.setattr(datasets, "SVHN", FakeSvhn)
    for name in ("CIFAR10", "SVHN"):
        data = load_data(f"torchvision:{name}:{tmp_path}")
        np.testing.assert_array_equal(everything(data)[0].numpy(), pixels.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("folders:x", UnknownNameError, "did you mean 'folder'.*image classification only"),
        ("video:x", UnknownNameError, "image classification only"),
        ("./photos", UnknownNameError, "folder:PATH"),
        ("", UnknownNameError, "unknown kind of data"),
        ("folder", UsageError, "expected 'folder:PATH', got 'folder'"),
        ("npz:", UsageError, "expected 'npz:PATH'"),
        ("digits:", UsageError, "expected 'digits'"),
        ("digits:8", UsageError, "takes nothing"),
        ("torchvision:FashionMNIST", UsageError, "torchvision:NAME:ROOT"),
        ("torchvision:MNIST:", UsageError, "torchvision:NAME:ROOT"),
        ("torchvision:CIFAR:x", UnknownNameError, "'CIFAR10'"),
        ("torchvision:VOCSegmentation:x", UnknownNameError, "image classification only"),
    ],
)
def test_specs_that_make_no_sense(spec: str, error: type[UsageError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        load_data(spec)
    assert caught.value.exit_code == 2


def test_folders_that_are_refused(tmp_path: Path) -> None:
    def refused(path: Path, message: str, **options: Any) -> None:
        with pytest.raises(DataError, match=message) as error:
            load_data(f"folder:{path}", **options)
        assert error.value.exit_code == 3

    refused(tmp_path / "none", "got nothing there")
    refused(tmp_path, "got no sub-folder")
    (tmp_path / "a").mkdir()
    refused(tmp_path, r"expected images \(\.bmp.*got none; robustcheck works on image classification only")
    Image.fromarray(pictures(1, 4, 4)[0]).save(tmp_path / "a" / "0.png")
    refused(tmp_path / "a" / "0.png", "got a file")
    refused(tmp_path, "at least two classes, got 'a'")
    write_folder(tmp_path / "b", {"x": pictures(2, 4, 4)})
    refused(tmp_path, "at least 3 samples a class.*got 1 of 'a', 2 of 'b'")


def test_a_folder_larger_than_memory_allows_is_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_folder(tmp_path, {"a": pictures(5, 8, 8), "b": pictures(5, 8, 8)})
    monkeypatch.setattr(listing, "LARGEST_BYTES", 639)
    monkeypatch.setattr(folders, "_pixels", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(DataError, match="use --max-samples or --resize"):
        load_data(f"folder:{root}")


@pytest.mark.parametrize("options", [{"split_seed": -1}, {"split_seed": 2**64}, {"max_samples": 0}])
def test_values_outside_their_range(options: dict[str, int]) -> None:
    with pytest.raises(InvalidValueError):
        load_data("digits", **options)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="class names: expected 10, as the data has, got 1"):
        load_data("digits", class_names=("zero",))


def test_every_kind_shows_a_spec_of_its_own_grammar() -> None:
    for name, kind in KINDS.items():
        assert kind.grammar.partition(":")[0] == kind.example.partition(":")[0] == name


def test_resize_averages_where_it_shrinks_and_crop_takes_the_centre() -> None:
    image = pictures(1, 8, 8, 1)[0]
    blocks = image.reshape(2, 4, 4, 2).mean(axis=(1, 3))
    shrunk = prepare(image, Preprocessing(resize=(2, 4)))
    assert np.abs(shrunk[..., 0] - blocks).max() <= 0.5
    np.testing.assert_array_equal(prepare(image, Preprocessing(crop=(4, 6))), image[2:6, 1:7])
    both = prepare(image / np.float32(255), Preprocessing(resize=(2, 4), crop=(2, 2)))
    np.testing.assert_allclose(both[..., 0], blocks[:, 1:3] / 255, atol=1e-6)
    assert both.dtype == np.float32
    assert prepare(image, Preprocessing()) is image


def test_preprocessing_at_loading_reaches_every_split() -> None:
    data = load_data("digits", preprocessing=Preprocessing(crop=(4, 4), flip=True))
    plain = load_data("digits")
    for name, split in data.splits.items():
        assert torch.equal(split.images, plain.splits[name].images[:, :, 2:6, 2:6])
    assert data.sha256 != plain.sha256


@pytest.mark.parametrize(
    "options",
    [
        {"resize": (0, 4)},
        {"resize": (4, 10**6)},
        {"crop": (4,)},
        {"random_crop_padding": 0},
        {"resize": (4.0, 4)},
        {"pad": (0, 4)},
        {"rotate": 0.0},
        {"rotate": 181.0},
    ],
)
def test_preprocessing_that_makes_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError):
        Preprocessing(**options)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_augment_depends_on_image_and_seed_alone(channels: int, dtype: torch.dtype) -> None:
    raw = torch.from_numpy(pictures(40, channels, 8, 8))
    images = raw if dtype == torch.uint8 else raw / 255
    seeds = np.random.default_rng(0).integers(0, 2**64, 40, dtype=np.uint64)
    both = Preprocessing(flip=True, random_crop_padding=2)
    batch = augment(images, both, seeds)
    assert (batch.dtype, batch.shape) == (images.dtype, images.shape)
    for row in (0, 17, 39):
        assert torch.equal(augment(images[row : row + 1], both, seeds[row : row + 1]), batch[row : row + 1])
    assert torch.equal(augment(images.flip(0), both, seeds[::-1].copy()), batch.flip(0))
    assert torch.equal(raw if dtype == torch.uint8 else raw / 255, images)


def test_flip_is_a_mirror_for_about_half_of_the_seeds() -> None:
    images = torch.from_numpy(pictures(400, 3, 6, 8))
    flipped = augment(images, Preprocessing(flip=True), np.arange(400, dtype=np.uint64))
    mirrored = (flipped == torch.flip(images, dims=(3,))).flatten(1).all(1)
    assert torch.equal(flipped[~mirrored], images[~mirrored])
    # Binomial(400, 1/2), five standard deviations.
    assert abs(int(mirrored.sum()) - 200) < 50


def test_random_crop_is_a_window_of_the_padded_image() -> None:
    images = torch.from_numpy(pictures(300, 1, 5, 6))
    cropped = augment(images, Preprocessing(random_crop_padding=1), np.arange(300, dtype=np.uint64))
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    windows = torch.stack([padded[:, :, y : y + 5, x : x + 6] for y in range(3) for x in range(3)])
    which = (windows == cropped).flatten(2).all(2)
    assert which.any(0).all()
    # Each of nine windows is expected 33 times, standard deviation 5.4.
    assert (which.sum(1) - 300 / 9).abs().max() < 27


def test_pad_puts_black_around_and_the_image_in_the_middle() -> None:
    data, plain = load_data("digits", preprocessing=Preprocessing(pad=(12, 10))), load_data("digits")
    assert torch.equal(data.test.images, torch.nn.functional.pad(plain.test.images, (1, 1, 2, 2)))
    with pytest.raises(DataError, match="pad: expected at least the image, 8×8, got 6×10"):
        load_data("digits", preprocessing=Preprocessing(pad=(6, 10)))


def test_rotate_turns_each_image_by_an_angle_within_the_limit() -> None:
    # A bar through the centre, whose direction tells the angle: the principal axis of its brightness.
    bar = torch.zeros(200, 1, 41, 41)
    bar[:, :, 19:22, 4:37] = 1
    turned = augment(bar, Preprocessing(rotate=15), np.arange(200, dtype=np.uint64))[:, 0].double()
    y, x = torch.meshgrid(torch.arange(41.0) - 20, torch.arange(41.0) - 20, indexing="ij")
    xx, yy, xy = ((turned * each).sum((1, 2)) for each in (x * x, y * y, x * y))
    angles = torch.rad2deg(0.5 * torch.atan2(2 * xy, xx - yy))
    assert angles.abs().max() < 15.2
    # Evenly between the limits: the standard deviation is 15/√3 = 8.66, its error with 200 about 0.27.
    assert abs(angles.mean()) < 2.5
    assert 7.6 < angles.std() < 9.7


def test_augment_with_nothing_asked_is_the_identity() -> None:
    images = torch.rand(3, 1, 4, 4)
    assert augment(images, Preprocessing(resize=(9, 9)), np.zeros(3, np.uint64)) is images
    with pytest.raises(InvalidValueError, match="one an image"):
        augment(images, Preprocessing(flip=True), np.zeros(2, np.uint64))


def test_global_random_state_is_left_alone() -> None:
    before = (torch.get_rng_state(), np.random.get_state()[1].tolist())
    augment(
        torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(1)),
        Preprocessing(flip=True),
        np.arange(3, dtype=np.uint64),
    )
    load_data("digits")
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()


def test_albumentations_is_imported_late_and_asks_the_network_nothing() -> None:
    code = (
        "import sys, os\n"
        "from robustcheck.data.datasets import load_data\n"
        "assert 'albumentations' not in sys.modules\n"
        "load_data('digits')\n"
        "assert 'albumentations' not in sys.modules\n"
        "import urllib.request\n"
        "def refuse(*a, **k): raise SystemExit('asked the network')\n"
        "urllib.request.OpenerDirector.open = refuse\n"
        "from robustcheck.data.preprocessing import prepare, Preprocessing\n"
        "import numpy as np\n"
        "prepare(np.zeros((4, 4, 1), np.uint8), Preprocessing(crop=(2, 2)))\n"
        "assert 'albumentations' in sys.modules\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
