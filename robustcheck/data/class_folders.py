"""Class folders: one sub-folder of files a class, with or without `train/`, `val/` and `test/` above them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

import numpy as np

from robustcheck.data.listing import ONLY_CLASSIFICATION, Decoded, check_class_names, enumerate_names, printable
from robustcheck.data.splits import FREE, TEST, TRAIN, VALIDATION, Ints
from robustcheck.errors import DataError

_TWO_PARTS: Final = {"train": FREE, "val": TEST, "test": TEST}
_THREE_PARTS: Final = {"train": TRAIN, "val": VALIDATION, "test": TEST}


@dataclass(frozen=True)
class ClassFile:
    """A file of a class: its path below the root, its class, and the split that its folder fixes."""

    relative: PurePath
    label: str
    part: int


def find_class_files(root: Path, suffixes: Sequence[str], noun: str) -> tuple[list[ClassFile], tuple[str, ...]]:
    """The files with these suffixes at any depth below the classes' folders, and a note on all others.

    If the root's sub-folders are `train` and `test` or `val`, the classes lie below these, and the parts are kept: what
    lies in `val` is the test part if there is no `test`. `noun` says in messages what the files are.

    Raises DataError for a root that is no readable folder, and for a class without a file.
    """
    try:
        return _find(root, suffixes, noun)
    except OSError as error:
        raise DataError(f"{root}: expected a readable folder, got: {error.strerror or error}") from error


def class_labels(
    root: Path, files: Sequence[ClassFile], class_names: tuple[str, ...] | None
) -> tuple[tuple[str, ...], Ints]:
    """The classes, in the order given or else by name, and the class of each file as an index, (n,) int64.

    Raises DataError for a file's class that is not among those given, and for names that cannot be classes.
    """
    found = {file.label for file in files}
    if class_names is not None and not found <= set(class_names):
        strangers = enumerate_names(sorted(found - set(class_names)))
        raise DataError(f"{root}: expected a sub-folder a class, named as the class names say, got {strangers}")
    names = list(class_names or sorted(found))
    number = {name: label for label, name in enumerate(names)}
    return check_class_names(names), np.array([number[file.label] for file in files], dtype=np.int64)


def check_losses(root: Path, classes: tuple[str, ...], labels: Ints, decoded: Decoded) -> None:
    """DataError if more than half of a class could not be read; `labels` are those of all files asked for."""
    asked = np.bincount(labels, minlength=len(classes))
    lost = np.bincount(labels[~decoded.readable], minlength=len(classes))
    for label in np.flatnonzero(2 * lost > asked):
        raise DataError(
            f"{root}: expected at least half of class '{classes[label]}' to be readable,"
            f" got {lost[label]} of {asked[label]} unreadable; {decoded.notes[0]}"
        )


def path_ids(root: Path, paths: Sequence[str]) -> Ints:
    """A sample id for each relative path, (n,) int64: the upper 63 bits of an 8-byte BLAKE2b hash.

    Raises DataError where two paths have the same.

    >>> path_ids(Path("."), ["a/1.png", "b/1.png"]).shape
    (2,)
    """
    encoded = [os.fsencode(path) for path in paths]
    digests = [int.from_bytes(hashlib.blake2b(path, digest_size=8).digest(), "little") >> 1 for path in encoded]
    if len(set(digests)) < len(digests):
        twice = next(digest for digest, count in Counter(digests).items() if count > 1)
        named = enumerate_names([path for path, digest in zip(paths, digests, strict=True) if digest == twice])
        raise DataError(f"{root}: expected a different sample id for each path, got the same for {named}; rename one")
    return np.array(digests, dtype=np.int64)


def _find(root: Path, suffixes: Sequence[str], noun: str) -> tuple[list[ClassFile], tuple[str, ...]]:
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder, got {'a file' if root.exists() else 'nothing there'}")
    top, others = _level(root, root)
    homes = [(root / label, label, FREE) for label in top]
    if "train" in top and len(top) > 1 and set(top) <= set(_TWO_PARTS):
        parts = _THREE_PARTS if len(top) == 3 else _TWO_PARTS
        homes = []
        for part in top:
            labels, loose = _level(root, root / part)
            homes.extend((root / part / label, label, parts[part]) for label in labels)
            others.extend(loose)
    files: list[ClassFile] = []
    for home, label, split in homes:
        found = _walk(home)
        wanted = [path for path in found if path.suffix.lower() in suffixes and path.is_file()]
        if not wanted:
            got = f"none among {len(found)} files, such as '{printable(found[0].name)}'" if found else "none"
            raise DataError(f"{home}: expected {noun}s ({', '.join(suffixes)}), got {got}; {ONLY_CLASSIFICATION}")
        files.extend(ClassFile(path.relative_to(root), label, split) for path in wanted)
        others.extend(path.relative_to(root).as_posix() for path in sorted(set(found) - set(wanted)))
    if not files:
        raise DataError(
            f"{root}: expected one sub-folder of {noun}s ({', '.join(suffixes)}) a class, got no sub-folder"
            + (f" but {enumerate_names(others)}" if others else "")
            + "; put the files of each class into a folder that has its name"
        )
    note = f"{len(others)} in the folder are no {noun} files of a class and were not read: {enumerate_names(others)}"
    return files, (note,) if others else ()


def _level(root: Path, folder: Path) -> tuple[list[str], list[str]]:
    """The names of the sub-folders, and the relative paths of everything else, hidden folders included."""
    entries = sorted(folder.iterdir())
    is_home = [path.is_dir() and not path.name.startswith(".") for path in entries]
    homes = [path.name for path, home in zip(entries, is_home, strict=True) if home]
    return homes, [path.relative_to(root).as_posix() for path, home in zip(entries, is_home, strict=True) if not home]


def _walk(home: Path) -> list[Path]:
    """Everything below the folder that is not a folder; links to folders are not followed, for they may be circular."""
    found: list[Path] = []
    for folder, folders, names in os.walk(home, onerror=_fail):
        here = Path(folder)
        found.extend(here / name for name in names)
        found.extend(here / name for name in folders if (here / name).is_symlink())
    return sorted(found)


def _fail(error: OSError) -> None:
    raise error
