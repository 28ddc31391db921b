"""Reads a TOML file into a pydantic record; an error names the file, the line and the field."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from robustcheck.errors import FileFormatError

MAX_BYTES = 2**20
Record = TypeVar("Record", bound=BaseModel)
_Schema = Mapping[str, Any]

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
    >>> parse_record({"x": "one"}, Point)
    Traceback (most recent call last):
    ValueError: x: expected a whole number, got 'one'
    """
    try:
        return record.model_validate(document)
    except ValidationError as error:
        raise ValueError(str(problems(error, record)[0])) from error


@dataclass(frozen=True)
class Problem:
    """What is wrong with one field.

    Attributes:
        place: keys from the outermost, with numbers (from 0) in lists.
        said: what was expected, what came and the remedy.
        ours: the record's own check said so, in a sentence that needs no place.
    """

    place: tuple[str | int, ...]
    said: str
    ours: bool = False

    def __str__(self) -> str:
        return ": ".join(filter(None, (".".join(map(str, self.place)), self.said)))


def problems(error: ValidationError, record: type[BaseModel]) -> list[Problem]:
    """What is wrong with plain data that are not the record, each field once, in the house's words.

    What is expected is read from the record's JSON Schema, so that a number out of range is told the whole range.

    Args:
        error: of `record.model_validate`.
        record: what was asked for.

    >>> from pydantic import PositiveInt
    >>> class Point(BaseModel):
    ...     x: PositiveInt
    >>> try:
    ...     Point.model_validate({"x": -2})
    ... except ValidationError as error:
    ...     print(*problems(error, Point))
    x: expected a whole number above 0, got -2
    """
    schema = record.model_json_schema()
    found: dict[tuple[str | int, ...], Problem] = {}
    # A misspelt field is also missing: what it may have been meant to be comes first.
    for problem in sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden"):
        place, expected = _followed(schema, problem["loc"])
        known = [name for each in expected for name in each.get("properties", ())]
        ours = problem["type"] == "value_error"
        if ours:
            said = problem["msg"].removeprefix("Value error, ")
        elif problem["type"] == "extra_forbidden":
            hint = _belongs(schema, problem["loc"], problem["input"]) or _nearest(str(problem["loc"][-1]), known)
            place, said = problem["loc"], f"unknown field; {hint}"
        elif problem["type"] == "missing":
            said = f"expected {_one_of(expected)}, got none; add it"
        elif problem["loc"][-1:] == ("[key]",):
            said = f"expected a name of the form {problem['ctx']['pattern']}, got {problem['input']!r:.80}"
        else:
            said = f"expected {_one_of(expected)}, got {problem['input']!r:.80}"
        found.setdefault(place, Problem(place, said, ours))
    # A list whose items are wrong is also "too short": that says nothing more.
    return [
        each
        for each in found.values()
        if not any(each.place == p[: len(each.place)] and each.place != p for p in found)
    ]


def _explain(path: Path, text: str, error: ValidationError, record: type[BaseModel]) -> str:
    lines = []
    for problem in problems(error, record)[:5]:
        field = ".".join(part for part in problem.place if isinstance(part, str))
        where = f"{path}, line {line_of(text, problem.place)}" if field else str(path)
        lines.append(f"{where}: field {field or '(file)'}: {problem.said}")
    return "\n".join(lines)


def _nearest(name: str, known: Sequence[str]) -> str:
    """What an unknown field may have been meant to be."""
    near = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(known)}"


def _belongs(schema: _Schema, loc: Sequence[str | int], value: object) -> str:
    """Which table around it knows an unknown field; empty where none does, or where the value is not one of its."""
    for depth in range(len(loc) - 2, -1, -1):
        for node in _followed(schema, loc[:depth])[1]:
            found = node.get("properties", {}).get(loc[-1])
            if found is not None and value in found.get("enum", [value]):
                title = re.sub(r"\B([A-Z])", r" \1", node.get("title", "file").lstrip("_")).lower()
                return f"it belongs at the top of the {title}"
    return ""


def _followed(schema: _Schema, loc: Sequence[str | int]) -> tuple[tuple[str | int, ...], list[_Schema]]:
    """The part of an error's location that is in the data, and what the schema allows there.

    Of a union pydantic's location also names the member that was tried, which is nowhere in the data.
    """
    place: list[str | int] = []
    here = list(_alternatives(schema, schema))
    for part in loc:
        there = [inner for each in here for inner in _inner(each, part)]
        if there:
            place.append(part)
            here = [each for inner in there for each in _alternatives(inner, schema)]
    return tuple(place), here


def _alternatives(node: _Schema, schema: _Schema) -> Iterator[_Schema]:
    """What a node stands for: itself, the definition that it refers to, or the members of a union."""
    if "$ref" in node:
        yield from _alternatives(schema["$defs"][node["$ref"].rpartition("/")[2]], schema)
    elif "anyOf" in node:
        for member in node["anyOf"]:
            yield from _alternatives(member, schema)
    elif node.get("type") != "null":  # TOML has none
        yield node


def _inner(node: _Schema, part: str | int) -> Iterator[_Schema]:
    """What a node says of a key, or of the item of a list at an index."""
    if isinstance(part, int):
        first = node.get("prefixItems", ())
        if part < len(first):
            yield first[part]
        elif "items" in node:
            yield node["items"]
    elif part in node.get("properties", ()):
        yield node["properties"][part]
    elif part != "[key]":
        others = (node.get("additionalProperties"), *node.get("patternProperties", {}).values())
        yield from (each for each in others if isinstance(each, Mapping))


def _one_of(expected: Sequence[_Schema]) -> str:
    """What any of several nodes allows, in words."""
    *most, last = dict.fromkeys(words for each in expected for words in _in_words(each))
    return f"{', '.join(most)} or {last}" if most else last


def _in_words(node: _Schema) -> list[str]:
    kind = node.get("type")
    if "enum" in node or "const" in node:
        return list(map(repr, node.get("enum", [node.get("const")])))
    if kind in ("integer", "number"):
        return ["a whole number" + _range(node) if kind == "integer" else "a number" + _range(node)]
    if kind == "array":
        low, high = node.get("minItems", 0), node.get("maxItems")
        if high is not None:
            return [f"a list of {low} values" if low == high else f"a list of {low} to {high} values"]
        return ["a list with a value or more" if low else "a list"]
    if kind == "string" and "pattern" in node:
        return [node.get("description", f"text of the form {node['pattern']}")]
    if kind == "string" and "maxLength" in node:
        return [f"text of {node.get('minLength', 0)} to {node['maxLength']} characters"]
    if kind == "string":
        return ["text that is not empty" if node.get("minLength") else "text"]
    return ["true or false" if kind == "boolean" else "a table"]


def _range(node: _Schema) -> str:
    """The range of a number, in words."""
    words = {"exclusiveMinimum": "above", "minimum": "at least", "exclusiveMaximum": "below", "maximum": "at most"}
    limits = {name: _written(node[name]) for name in words if name in node}
    if limits.keys() == {"minimum", "maximum"}:
        return f" from {limits['minimum']} to {limits['maximum']}"
    said = " and ".join(f"{words[name]} {limit}" for name, limit in limits.items())
    return said and f" {said}"


def _written(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


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
