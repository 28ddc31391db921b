"""Searches one number of a camera, such as its bits, for the value at which an error probability happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from robustcheck.errors import InvalidValueError

_JUMP: Final = 2e-3  # of EP, above which a root is no solution but a step over one


@dataclass(frozen=True)
class Reach:
    """The least and the largest error probability that moving one number of a camera gives, and where, in words.

    >>> str(Reach(0.723, "in the dark", 0.991, "at exposure 0.998"))
    '0.723 (in the dark) to 0.991 (at exposure 0.998)'
    """

    low: float
    low_at: str
    high: float
    high_at: str

    def __str__(self) -> str:
        return f"{self.low:.3g} ({self.low_at}) to {self.high:.3g} ({self.high_at})"


@dataclass(frozen=True)
class Moved:
    """A number that is moved.

    Attributes:
        ep_of: the EP at each of its values.
        grid: values that span it, rising.
        place: what stays as it is, for errors.
        unit: of the number.
    """

    ep_of: Callable[[float], float]
    grid: Sequence[float]
    place: str
    unit: str


def reach_of(moved: Moved) -> Reach:
    """The EPs on the grid of what is moved.

    >>> str(reach_of(Moved(lambda bits: bits / 16, (1.0, 8.0, 12.0), "a camera", "bit")))
    '0.0625 (at 1 bit) to 0.75 (at 12 bit)'
    """
    pairs = [(moved.ep_of(x), x) for x in moved.grid]
    (low, low_at), (high, high_at) = min(pairs), max(pairs)
    return Reach(low, f"at {low_at:.3g} {moved.unit}", high, f"at {high_at:.3g} {moved.unit}")


def last_rise(moved: Moved, ep: float) -> float:
    """The last place of the grid where the EP rises through `ep`.

    Raises:
        InvalidValueError: it does so nowhere, or jumps over it; the message says which EPs there are.

    >>> round(last_rise(Moved(lambda bits: bits / 16, (1.0, 8.0, 12.0), "a camera", "bit"), 0.6), 6)
    9.6
    """
    values = [moved.ep_of(x) for x in moved.grid]
    rises = [i for i in range(len(values) - 1) if values[i] <= ep < values[i + 1]]
    if not rises:
        expected = f"an EP from {reach_of(moved)}"
        raise InvalidValueError(moved.place, expected=expected, got=ep, remedy="use another exposure")
    return root(moved, ep, (moved.grid[rises[-1]], moved.grid[rises[-1] + 1]))


def root(moved: Moved, ep: float, ends: tuple[float, float]) -> float:
    """Where the EP, which rises through `ep` between two ends, has it; InvalidValueError if it jumps over it."""
    from scipy.optimize import brentq

    ep_of = moved.ep_of
    x = float(brentq(lambda x: ep_of(x) - ep, *ends, xtol=1e-12 * ends[1], rtol=1e-12))
    if abs(ep_of(x) - ep) > _JUMP:
        before, after = ep_of(x * (1 - 1e-9)), ep_of(x * (1 + 1e-9))
        expected = f"an EP that is not passed over: it jumps from {before:.3g} to {after:.3g} at {x:.4g} {moved.unit}"
        raise InvalidValueError(moved.place, expected=expected, got=ep, remedy="ask for one of the two")
    return x
