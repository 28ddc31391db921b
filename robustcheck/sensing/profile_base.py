"""What every sensor profile has: a name, a title, cited numbers, and a hash of them."""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from robustcheck.sensing.quantity import Line, Quantity, Table, Within, numbers, one_line

Fraction = Annotated[Quantity, AfterValidator(Within("1", 0, 1))]
Share = Annotated[Quantity, AfterValidator(Within("1", 0, 1, above=True))]
Bits = Annotated[Quantity, AfterValidator(Within("bit", 1, 16, whole=True))]
OperatingPoints = dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9\-]*$", max_length=32)], Share]


class Profile(BaseModel):
    """What a sensor is, independent of light, weather and the settings of a study."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9\-]*$", max_length=64)
    kind: str
    title: Annotated[Line, Field(max_length=120)]
    description: Annotated[str, Field(max_length=4000), AfterValidator(one_line)] = ""

    @property
    def steps(self) -> int:
        """How many steps (codes less one) span the full scale."""
        raise NotImplementedError

    @property
    def numbers(self) -> dict[str, Quantity | Table]:
        """All its numbers by dotted name, in the order of the record."""
        return dict(numbers(self))

    @property
    def sha256(self) -> str:
        """Hash of all fields, as canonical JSON."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def assumed(self) -> tuple[str, ...]:
        """Names of the numbers that have no source."""
        return tuple(name for name, number in self.numbers.items() if number.status == "assumed")
