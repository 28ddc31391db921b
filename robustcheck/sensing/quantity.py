"""A number with its unit, its status and its source: what sensor profiles are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

Kind = Literal["exact", "1sigma", "typical", "max"]
Status = Literal["measured", "datasheet", "derived", "modelled", "assumed"]


def one_line(text: str) -> str:
    """The text, if a terminal shows it as it is: no control characters and no line breaks; else ValueError."""
    if not text.isprintable():
        raise ValueError(f"expected one line of printable text, got {text!r:.80}")
    return text


Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000), AfterValidator(one_line)]
"""Text of a profile, which anyone may have written."""


class _Cited(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Quantity(_Cited):
    """A number, and why one may believe it."""

    value: float = Field(strict=True)
    unit: Line
    kind: Kind
    status: Status
    source: Line

    def __str__(self) -> str:
        return f"{self.value:g}" + ("" if self.unit == "1" else f" {self.unit}")


class Table(_Cited):
    """A row of numbers of one unit, and why one may believe it."""

    values: tuple[Annotated[float, Field(strict=True)], ...] = Field(min_length=1, max_length=4096)
    unit: Line
    kind: Kind
    status: Status
    source: Line

    def __str__(self) -> str:
        low, high = min(self.values), max(self.values)
        return f"{len(self.values)} values, {low:g} to {high:g} {self.unit}"


@dataclass(frozen=True)
class Within:
    """Validates the unit of a quantity and the range of its value, or of each value of a table.

    Attributes:
        unit: the unit that is expected.
        low: smallest value allowed.
        high: largest value allowed.
        above: whether `low` itself is refused.
        whole: whether only whole numbers are allowed.
    """

    unit: str
    low: float = float("-inf")
    high: float = float("inf")
    above: bool = False
    whole: bool = False

    def __call__(self, given: Any) -> Any:
        """The quantity or table as it came; ValueError (which pydantic reports with its place) if it is not allowed."""
        if given.unit != self.unit:
            raise ValueError(f"expected the unit {self.unit!r}, got {given.unit!r}")
        for value in given.values if isinstance(given, Table) else (given.value,):
            low_enough = value <= self.high
            high_enough = value > self.low if self.above else value >= self.low
            if not (low_enough and high_enough and (not self.whole or value == int(value))):
                raise ValueError(f"expected {self.expected}, got {value:g}")
        return given

    @property
    def expected(self) -> str:
        """The range in words.

        >>> Within("bit", 1, 16, whole=True).expected
        'a whole number from 1 to 16'
        """
        number = "a whole number" if self.whole else "a number"
        if self.low == float("-inf") and self.high == float("inf"):
            return number
        if self.high == float("inf"):
            return f"{number} {'above' if self.above else 'of at least'} {self.low:g}"
        if self.low == float("-inf"):
            return f"{number} of at most {self.high:g}"
        if self.above:
            return f"{number} above {self.low:g} and at most {self.high:g}"
        return f"{number} from {self.low:g} to {self.high:g}"


def numbers(record: BaseModel, prefix: str = "") -> Iterator[tuple[str, Quantity | Table]]:
    """All quantities and tables of a record, however deep, by their dotted names (`hdr.captures.0.full_well_e`)."""
    for name in type(record).model_fields:
        yield from _numbers_in(getattr(record, name), prefix + name)


def _numbers_in(value: Any, name: str) -> Iterator[tuple[str, Quantity | Table]]:
    if isinstance(value, Quantity | Table):
        yield name, value
    elif isinstance(value, BaseModel):
        yield from numbers(value, f"{name}.")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers_in(inner, f"{name}.{key}")
    elif isinstance(value, tuple):
        for index, inner in enumerate(value):
            yield from _numbers_in(inner, f"{name}.{index}")
