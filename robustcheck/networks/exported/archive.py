"""Reads what a `.pt2` archive holds: the program as JSON, and the tensors as raw bytes.

`torch.export.load` is not used: it evaluates expressions and looks up functions that the file names, and unpickles the
sample inputs. Nothing here is unpacked to disk, unpickled or evaluated.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import torch

from robustcheck.errors import ModelError, UnsafeFileError
from robustcheck.networks.weights import MAX_BYTES

Json = dict[str, Any]

_MAX_PROGRAM: Final = 2**28
_MAX_ENTRIES: Final = 100_000
_DTYPES: Final = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
_STRIDED: Final = 7


@dataclass(frozen=True)
class Archive:
    """What the file holds: the program as torch wrote it, and its parameters, buffers and constants by name."""

    program: Json
    tensors: Mapping[str, torch.Tensor]


def read_archive(path: Path) -> Archive:
    """Read an archive that `torch.export.save` wrote (torch 2.9 or newer).

    Raises:
        ModelError: the file is missing, over 8 GiB, damaged, of another kind or of an older format.
        UnsafeFileError: something that the program needs is pickled.
    """
    if not path.is_file():
        raise ModelError(f"{path}: expected a file, found none; check the path")
    try:
        with zipfile.ZipFile(path) as opened:
            entries = _entries(opened, path)
            reader = _Reader(path, opened, entries)
            program = reader.json(reader.program_entry())
            tensors = reader.tensors("weights") | reader.tensors("constants")
    except ModelError:
        raise
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{path}: expected an exported program, got {type(error).__name__}: {error}; {_AGAIN}"
        ) from error
    except (RuntimeError, NotImplementedError, OverflowError, MemoryError, EOFError) as error:
        raise ModelError(f"{path}: cannot be read: {error}; {_AGAIN}") from error
    return Archive(program, tensors)


def dtype_of(number: object) -> torch.dtype:
    """torch's type by its number in the file; raises ValueError for one that is not supported."""
    if not isinstance(number, int) or number not in _DTYPES:
        raise ValueError(f"tensors of type number {number!r} are not supported")
    return _DTYPES[number]


def _entries(opened: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The archive's entries by their names below its one folder."""
    infos = opened.infolist()
    if len(infos) > _MAX_ENTRIES:
        raise ModelError(f"{path}: expected at most {_MAX_ENTRIES} entries, got {len(infos)}; {_AGAIN}")
    # torch stores without compression, so whatever claims more than the file holds was not written by it.
    if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
        raise ModelError(f"{path}: expected stored entries, got compressed ones; {_AGAIN}")
    size = path.stat().st_size
    if max(size, sum(info.file_size for info in infos)) > min(size, MAX_BYTES):
        raise ModelError(f"{path}: expected entries that fit the file and 8 GiB, got more; {_AGAIN}")
    entries = {info.filename.partition("/")[2]: info for info in infos}
    if len(entries) != len(infos):
        raise ModelError(f"{path}: expected each entry once, got some twice; {_AGAIN}")
    return entries


@dataclass(frozen=True)
class _Reader:
    path: Path
    opened: zipfile.ZipFile
    entries: Mapping[str, zipfile.ZipInfo]

    def program_entry(self) -> str:
        found = [name for name in self.entries if name.startswith("models/") and name.endswith(".json")]
        if len(found) == 1:
            return found[0]
        names = {Path(info.filename).name for info in self.entries.values()}
        if found:
            raise ModelError(f"{self.path}: expected one program, got {len(found)}; save each with torch.export.save")
        if "serialized_exported_program.json" in names:
            raise ModelError(
                f"{self.path}: expected the format of torch 2.9 or newer, got an older one, which holds pickles; where "
                "you trust the file, torch.export.load it and torch.export.save it again"
            )
        if "constants.pkl" in names:
            raise UnsafeFileError(f"{self.path}: expected an exported program, got TorchScript; {_BY_FACTORY}")
        if any("aotinductor" in name for name in self.entries):
            raise UnsafeFileError(
                f"{self.path}: expected an exported program, got compiled code; save the program itself with "
                "torch.export.save"
            )
        raise ModelError(f"{self.path}: expected an exported program, got another zip archive; {_AGAIN}")

    def json(self, name: str) -> Json:
        if self.entries[name].file_size > _MAX_PROGRAM:
            raise ModelError(f"{self.path}: expected at most 256 MiB of {name}, got more; {_AGAIN}")
        document = json.loads(self.opened.read(self.entries[name]))
        if not isinstance(document, dict):
            raise ValueError(f"{name} is {type(document).__name__}, not an object")
        return document

    def tensors(self, what: str) -> dict[str, torch.Tensor]:
        configs = [name for name in self.entries if name.startswith(f"data/{what}/") and name.endswith("_config.json")]
        found: dict[str, torch.Tensor] = {}
        once: dict[str, torch.Tensor] = {}
        for config in configs:
            for name, payload in self.json(config)["config"].items():
                if payload["use_pickle"] is not False:
                    raise UnsafeFileError(
                        f"{self.path}: expected plain tensors, got {name!r} as a pickle, which could run code when "
                        f"it is read, so it was not opened; {_BY_FACTORY}"
                    )
                entry, meta = f"data/{what}/{payload['path_name']}", payload["tensor_meta"]
                # Tied tensors are one payload, and stay one tensor.
                key = json.dumps([entry, meta], sort_keys=True)
                found[name] = once[key] = once[key] if key in once else self._tensor(entry, meta)
        return found

    def _tensor(self, entry: str, meta: Json) -> torch.Tensor:
        dtype, sizes = dtype_of(meta["dtype"]), [_integer(size) for size in meta["sizes"]]
        strides, offset = [_integer(stride) for stride in meta["strides"]], _integer(meta["storage_offset"])
        if meta["layout"] != _STRIDED:
            raise ValueError(f"{entry} is not dense")
        data = bytearray(self.opened.read(self.entries[entry]))
        if not data:
            return torch.empty(sizes, dtype=dtype)
        flat = torch.frombuffer(data, dtype=dtype)
        # A view may claim to be far larger than what the file holds.
        if prod(sizes) > flat.numel():
            raise ValueError(f"{entry} claims {prod(sizes)} numbers and holds {flat.numel()}")
        return flat.as_strided(sizes, strides, offset).clone()


def _integer(size: Json) -> int:
    value = size["as_int"]
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"a size or stride is {value!r}")
    return value


_AGAIN = "make it again with torch.export.save"
_BY_FACTORY = "load the network that it was made from, package.module:factory with --weights FILE.safetensors"
