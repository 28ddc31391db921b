"""Operating points from option values: numbers, and ranges `a:b:n`."""

from __future__ import annotations

from collections.abc import Callable

from robustcheck.errors import InvalidValueError

MOST_POINTS = 200


def parse_eps(texts: tuple[str, ...]) -> tuple[float, ...]:
    """Error probabilities, rising; a range has equal steps.

    >>> parse_eps(("0.2:0.8:4", "0.5"))
    (0.2, 0.4, 0.5, 0.6, 0.8)
    """
    found = {ep for text in texts for ep in _expanded(text, "error probability", _even)}
    for ep in found:
        if not 0 < ep < 1:
            raise InvalidValueError("error probability", expected="0 < EP < 1", got=ep)
    return tuple(sorted(found))


def parse_shares(texts: tuple[str, ...], what: str) -> tuple[float, ...]:
    """Shares in (0, 1] (signals), rising; a range has equal ratios.

    >>> parse_shares(("0.01:1:3",), "signal")
    (0.01, 0.1, 1.0)
    """
    found = {share for text in texts for share in _expanded(text, what, _geometric)}
    for share in found:
        if not 0 < share <= 1:
            raise InvalidValueError(what, expected=f"0 < {what} <= 1", got=share)
    return tuple(sorted(found))


def parse_exposures(texts: tuple[str, ...]) -> tuple[float | str, ...]:
    """Exposures, rising: shares of the full well, then illuminances; a range has equal ratios.

    >>> parse_exposures(("0.001:0.1:3", "10lx:1000lx:3"))
    (0.001, 0.01, 0.1, '10 lx', '100 lx', '1000 lx')
    """
    lit = [text for text in texts if "lx" in text]
    shares = parse_shares(tuple(text for text in texts if text not in lit), "exposure")
    found = set()
    for text in lit:
        parts = [part.strip() for part in text.split(":")]
        if not all(part.endswith("lx") for part in parts[:2]):
            raise InvalidValueError("exposure", expected="lx at both ends of a range, such as 10lx:1000lx:3", got=text)
        bare = ":".join(part.removesuffix("lx").strip() for part in parts)
        found.update(_expanded(bare, "exposure", _geometric))
    return (*shares, *(f"{lux:.10g} lx" for lux in sorted(found)))


def _even(low: float, high: float, at: float) -> float:
    return round(low + (high - low) * at, 10)


def _geometric(low: float, high: float, at: float) -> float:
    return float(f"{low * (high / low) ** at:.10g}")


def _expanded(text: str, what: str, between: Callable[[float, float, float], float]) -> list[float]:
    """The values of one option."""
    parts = text.split(":")
    try:
        if len(parts) == 1:
            return [float(text)]
        low, high, count = float(parts[0]), float(parts[1]), int(parts[2])
        if len(parts) != 3 or not 2 <= count <= MOST_POINTS or (between is _geometric and not min(low, high) > 0):
            raise ValueError
    except (ValueError, IndexError) as error:
        expected = f"a number, or a range a:b:n with 2 to {MOST_POINTS} points"
        raise InvalidValueError(what, expected=expected, got=text) from error
    return [between(low, high, index / (count - 1)) for index in range(count)]
