"""Reads a TOML file into a pydantic record; an error names the file, the line and the field."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from robustcheck.errors import FileFormatError

MAX_BYTES = 2**20
Record = TypeVar("Record", bound=BaseModel)

_QUOTED_OR_COMMENT = re.compile(
    r'"""(?:\\.|[^\\])*?"""'
    r"|'''.*?'''"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*",
    re.DOTALL,
)


def read_toml(path: Path, record: type[Record] | Mapping[str, type[Record]]) -> Record:
    """Parse and validate one file.

    Args:
        path: of the file.
        record: what it holds, or the records of the kinds that the file's own field `kind` chooses from.

    Raises:
        FileFormatError: the file cannot be read, is over 1 MiB, is no TOML, or a field is not what it should be.
    """
    try:
        if not path.exists():
            raise FileFormatError(f"{path}: cannot be read: expected a TOML file, got no file of this name")
        if not path.is_file():
            raise FileFormatError(f"{path}: expected a file, got a folder, pipe or device")
        if path.stat().st_size > MAX_BYTES:
            raise FileFormatError(f"{path}: expected a TOML file under 1 MiB, got {path.stat().st_size} bytes")
        text = path.read_text(encoding="utf-8-sig")  # editors on Windows may begin a file with a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path}: cannot be read as text: {error}") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FileFormatError(f"{path}: not valid TOML: {error}") from error
    if isinstance(record, Mapping):
        kind = document.get("kind")
        if not isinstance(kind, str) or kind not in record:
            line, kinds = line_of(text, ["kind"]), ", ".join(record)
            raise FileFormatError(f"{path}, line {line}: field kind: expected one of {kinds}, got {kind!r:.80}")
        record = record[kind]
    try:
        return record.model_validate(document)
    except ValidationError as error:
        raise FileFormatError(_explain(path, text, error, record)) from error


def parse_record(document: Mapping[str, Any], record: type[Record]) -> Record:
    """A record from plain data; ValueError says which field is wrong.

    >>> class Point(BaseModel):
    ...     x: int
    >>> parse_record({"x": 1}, Point)
    Point(x=1)
    """
    try:
        return record.model_validate(document)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise ValueError(f"{where}: {problem['msg'].removeprefix('Value error, ')}") from error


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
        where = f"{path}, line {line_of(text, loc)}" if field else str(path)
        message = "unknown field" + _nearest(record, loc) if problem["type"] == "extra_forbidden" else problem["msg"]
        lines.append(f"{where}: field {'.'.join(field) or '(file)'}: {message.removeprefix('Value error, ')}{got}")
    return "\n".join(lines)


def _nearest(record: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """What an unknown field may have been meant to be."""
    for part in loc[:-1]:
        inner = record.model_fields.get(part) if isinstance(part, str) else None
        record = next(_records_in(None if inner is None else inner.annotation), record)
    near = difflib.get_close_matches(str(loc[-1]), record.model_fields, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(record.model_fields)}"


def _records_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The records in a type, however deep in unions, tuples and dictionaries."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _records_in(inner)


def line_of(text: str, field: Sequence[str | int]) -> int:
    """The line (from 1) where a field, or the nearest table around it, stands in a TOML text.

    Args:
        text: valid TOML.
        field: keys from the outermost, and for each array of tables the number (from 0) of the one that is meant.

    >>> line_of('name = "x"\\n[bits]\\nvalue = 8\\n', ["bits", "value"])
    3
    >>> line_of("[[captures]]\\nwell = 1\\n[[captures]]\\nwell = 2\\n", ["captures", 1, "well"])
    4
    """
    table: list[str | int] = []
    latest: dict[tuple[str | int, ...], int] = {}
    best, depth, brackets = 1, -1, 0
    bare_text = _QUOTED_OR_COMMENT.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    for number, (line, bare) in enumerate(zip(text.split("\n"), bare_text.split("\n"), strict=True), start=1):
        inside = brackets > 0
        brackets += sum(map(bare.count, "[{")) - sum(map(bare.count, "]}"))
        header = re.match(r"\s*(\[\[?)\s*([^\]]+?)\s*\]", line)
        key = re.match(r"\s*([A-Za-z0-9_\-\.\"']+)\s*=", line)
        if inside or not bare.strip():
            continue
        if header:
            table = _elements(_keys(header[2]), latest, new=header[1] == "[[")
            here = table
        elif key:
            here = [*table, *_keys(key[1])]
        else:
            continue
        if len(here) > depth and here == list(field[: len(here)]):
            best, depth = number, len(here)
    return best


def _keys(dotted: str) -> list[str]:
    return [part.strip(" \"'") for part in dotted.split(".")]


def _elements(keys: list[str], latest: dict[tuple[str | int, ...], int], *, new: bool) -> list[str | int]:
    """The keys of a header, with the number of the element after each array of tables; `latest` keeps the numbers."""
    path: list[str | int] = []
    for place, part in enumerate(keys, start=1):
        path.append(part)
        if new and place == len(keys):
            latest[tuple(path)] = latest.get(tuple(path), -1) + 1
        if tuple(path) in latest:
            path.append(latest[tuple(path)])
    return path
