"""What the records of a report have in common."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer


class Record(BaseModel):
    """Frozen data; unknown fields and numbers that are not finite are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SparseRecord(Record):
    """A record whose later fields are written only where they say something: older reports keep their bytes."""

    sparse: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _serialised(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = write(self)
        fields = type(self).model_fields
        return {
            name: value
            for name, value in document.items()
            if name not in self.sparse or getattr(self, name) != fields[name].get_default(call_default_factory=True)
        }


class Interval(Record):
    """A two-sided 95 % confidence interval."""

    lower: float
    upper: float
