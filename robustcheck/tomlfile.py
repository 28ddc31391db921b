"""Reads a TOML file into a pydantic record; an error names the file, the line and the field."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError

from robustcheck.errors import FileFormatError

MAX_BYTES = 2**20
Record = TypeVar("Record", bound=BaseModel)


def read_toml(path: Path, record: type[Record]) -> Record:
    """Parse and validate one file.

    Raises:
        FileFormatError: the file cannot be read, is over 1 MiB, is no TOML, or a field is not what it should be.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise FileFormatError(f"{path}: expected a TOML file under 1 MiB, got {path.stat().st_size} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path}: cannot be read as text: {error}") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FileFormatError(f"{path}: not valid TOML: {error}") from error
    try:
        return record.model_validate(document)
    except ValidationError as error:
        raise FileFormatError(_explain(path, text, error, record)) from error


def _explain(path: Path, text: str, error: ValidationError, record: type[BaseModel]) -> str:
    lines = []
    problems = error.errors()
    for problem in problems[:5]:
        loc = problem["loc"]
        # A list whose items are wrong is also "too short": that says nothing more.
        if problem["type"] == "too_short" and any(p["loc"][: len(loc)] == loc != p["loc"] for p in problems):
            continue
        field = [part for part in loc if isinstance(part, str)]
        whole = problem["type"] in ("missing", "extra_forbidden", "value_error")
        got = "" if whole else f", got {problem['input']!r:.80}"
        where = f"{path}, line {line_of(text, field)}" if field else str(path)
        message = "unknown field" + _nearest(record, loc) if problem["type"] == "extra_forbidden" else problem["msg"]
        lines.append(f"{where}: field {'.'.join(field) or '(file)'}: {message.removeprefix('Value error, ')}{got}")
    return "\n".join(lines)


def _nearest(record: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """What an unknown field may have been meant to be."""
    for part in loc[:-1]:
        inner = record.model_fields.get(str(part)) if isinstance(part, str) else None
        kinds = [] if inner is None else [inner.annotation, *get_args(inner.annotation)]
        record = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), record)
    near = difflib.get_close_matches(str(loc[-1]), record.model_fields, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(record.model_fields)}"


def line_of(text: str, field: Sequence[str]) -> int:
    """The line (from 1) where a field, or the nearest table around it, stands in a TOML text.

    >>> line_of('name = "x"\\n[bits]\\nvalue = 8\\n', ["bits", "value"])
    3
    """
    table: list[str] = []
    best, depth = 1, -1
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]", line)
        key = re.match(r"\s*([A-Za-z0-9_\-\.\"']+)\s*=", line)
        if header:
            table = [part.strip(" \"'") for part in header[1].split(".")]
            here = table
        elif key:
            here = [*table, *(part.strip(" \"'") for part in key[1].split("."))]
        else:
            continue
        if len(here) > depth and here == list(field[: len(here)]):
            best, depth = number, len(here)
    return best
