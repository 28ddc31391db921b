"""What a gate is told: the checks and how to decide them, from robustcheck.toml or pyproject.toml."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from robustcheck.errors import UsageError
from robustcheck.gate.checks import Check, parse_check, points_named
from robustcheck.study.plan import Study
from robustcheck.tomlfile import parse_record, read_toml

FILE = "robustcheck.toml"
PYPROJECT = "pyproject.toml"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class GateSettings(_Frozen):
    """The `[gate]` table.

    Attributes:
        checks: see `robustcheck.gate.checks.parse_check`.
        alpha: chance that the gate passes a model that misses a threshold, and that it fails one that misses none.
        inconclusive: what a gate that cannot decide counts as.
        baseline: the report that regressions are measured against; in a file, relative to the file.
        models: keys or specs of the models that are checked; all where empty.
        activations: canonical specs, or `as is`; all where empty.
        sensors: keys or names of the sensors; all where empty.

    >>> GateSettings(checks=("accuracy@ep=0.5 >= 90 %",)).parsed[0].threshold
    0.9
    """

    checks: tuple[str, ...] = Field(min_length=1, max_length=200)
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    inconclusive: Literal["inconclusive", "pass", "fail"] = "inconclusive"
    baseline: Path | None = None
    models: tuple[str, ...] = ()
    activations: tuple[str, ...] = ()
    sensors: tuple[str, ...] = ()

    @field_validator("checks")
    @classmethod
    def _readable(cls, checks: tuple[str, ...]) -> tuple[str, ...]:
        for number, text in enumerate(checks, start=1):
            try:
                parse_check(text)
            except UsageError as error:
                raise ValueError(f"number {number}: {str(error).removeprefix('check: ')}") from error
        return checks

    @cached_property
    def parsed(self) -> tuple[Check, ...]:
        """The checks, each once."""
        return tuple(dict.fromkeys(map(parse_check, self.checks)))


class _Tables(_Frozen):
    """What robustcheck.toml, or [tool.robustcheck] of pyproject.toml, may hold."""

    gate: GateSettings | None = None
    study: Study | None = None

    @model_validator(mode="before")
    @classmethod
    def _points_of_checks(cls, tables: Any) -> Any:
        """A study without operating points is read where the checks ask."""
        if not isinstance(tables, dict) or not isinstance(tables.get("study"), dict):
            return tables
        gate, study = tables.get("gate"), tables["study"]
        checks = gate.get("checks") if isinstance(gate, dict) else None
        if not isinstance(checks, list) or any(study.get(name) for name in ("eps", "exposures", "signals")):
            return tables
        try:
            points = points_named(map(parse_check, map(str, checks)))
        except UsageError:
            return tables  # the field `checks` says so, with its line
        return {**tables, "study": {**study, **points}}


class _Tool(BaseModel):
    robustcheck: _Tables | None = None


class _Pyproject(BaseModel):
    tool: _Tool | None = None


@dataclass(frozen=True)
class GateFile:
    """What was found.

    Attributes:
        path: of the file; None where there is none.
        settings: its gate; None where it has none.
        study: what a gate without a report or model runs; None where it does not say.
    """

    path: Path | None = None
    settings: GateSettings | None = None
    study: Study | None = None


def load_gate(path: Path | None = None, *, folder: Path | None = None) -> GateFile:
    """Read the gate's settings: `[gate]` of robustcheck.toml, or `[tool.robustcheck.gate]` of pyproject.toml.

    Args:
        path: the file; without it the first of the two, in the folder, that has such a table.
        folder: where to look; the current one where absent.

    Raises:
        FileFormatError: a file cannot be read, or a field is not what it should be; names file, line and field.

    >>> load_gate(folder=Path("no such folder"))
    GateFile(path=None, settings=None, study=None)
    """
    if path is not None:
        return _read(path)
    for name in (FILE, PYPROJECT):
        candidate = (folder or Path()) / name
        if candidate.exists():
            found = _read(candidate)
            if found.settings is not None or found.study is not None:
                return found
    return GateFile()


def settings_of(found: GateFile, **typed: Any) -> GateSettings:
    """The settings of a file, with what was typed in its place; None and empty values were not typed.

    Raises:
        UsageError: there are no checks, or one of them cannot be read.

    >>> settings_of(GateFile(), checks=("samples >= 10",), alpha=None).alpha
    0.05
    """
    fields = {} if found.settings is None else found.settings.model_dump()
    fields |= {name: value for name, value in typed.items() if value not in (None, ())}
    if not fields.get("checks"):
        raise UsageError(
            f"gate: expected checks, got none; write them under [gate] in {FILE} (robustcheck init begins one), "
            "or give --check 'accuracy@ep=0.5 >= 0.9'"
        )
    try:
        return parse_record(fields, GateSettings)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _read(path: Path) -> GateFile:
    if path.name == PYPROJECT:
        tool = read_toml(path, _Pyproject).tool
        tables = None if tool is None else tool.robustcheck
    else:
        tables = read_toml(path, _Tables)
    if tables is None:
        return GateFile()
    settings = tables.gate
    if settings is not None and settings.baseline is not None:
        settings = settings.model_copy(update={"baseline": path.parent / settings.baseline})
    return GateFile(path, settings, tables.study)
