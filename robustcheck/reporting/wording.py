"""How numbers and names are written, the same in every rendering of a report."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robustcheck.reporting.record import Interval
    from robustcheck.reporting.report import Report, Result, SensorSummary

NONE = "–"
MINUS = "\u2212"
_LISTED = 8


def percent(fraction: float) -> str:
    """A fraction as percent with one decimal, without the sign.

    >>> percent(0.91349)
    '91.3'
    """
    return _signless_zero(f"{100 * fraction:.1f}").replace("-", MINUS)


def points(difference: float) -> str:
    """A difference of fractions in percentage points, always with its sign.

    >>> points(0.0123), points(-0.2), points(-0.00001)
    ('+1.2', '−20.0', '0.0')
    """
    text = _signless_zero(f"{100 * difference:+.1f}")
    return text.replace("-", MINUS)


def span(interval: Interval | None) -> str:
    """An interval of accuracies in percent, cut to what an accuracy can be.

    >>> from robustcheck.reporting.record import Interval
    >>> span(Interval(lower=0.981, upper=1.004)), span(None)
    ('98.1–100.0', '–')
    """
    if interval is None:
        return NONE
    return f"{percent(max(0.0, interval.lower))}–{percent(min(1.0, interval.upper))}"


def half_width(interval: Interval, middle: float) -> str:
    """How far an interval reaches from its middle in percentage points, to the farther end: it may be cut at 0 or 1.

    >>> from robustcheck.reporting.record import Interval
    >>> half_width(Interval(lower=0.95, upper=1.0), 0.98)
    '3.0'
    """
    return f"{100 * max(interval.upper - middle, middle - interval.lower):.1f}"


def number(value: float | None, digits: int = 4) -> str:
    """A number with up to four significant digits, as short as it can be; without an exponent below a million.

    >>> number(0.0030000001), number(15.0), number(20000.0), number(None)
    ('0.003', '15', '20000', '–')
    """
    if value is None:
        return NONE
    text = f"{float(f'{value:.{digits}g}'):.{max(digits, 6)}g}"
    return text.replace("-", MINUS, 1 if value < 0 else 0)


def telling_digits(values: Iterable[float], least: int) -> int:
    """The fewest significant digits, though no fewer than `least`, with which different values are written differently.

    >>> telling_digits([0.1, 0.2], 4), telling_digits([0.01, 0.010000001], 4)
    (4, 8)
    """
    found = set(values)
    return next(digits for digits in range(least, 18) if len({number(value, digits) for value in found}) == len(found))


def listed(names: Iterable[str], most: int = _LISTED, last: str = "and") -> str:
    """Names as an English list; what goes beyond `most` is counted.

    >>> listed(["relu"]), listed(["relu", "gelu", "silu"]), listed("abcdef", most=3)
    ('relu', 'relu, gelu and silu', 'a, b, c and 3 more')
    """
    names = list(names)
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {last} {names[-1]}"


def counted(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun.

    >>> counted(1, "seed"), counted(5, "seed")
    ('1 seed', '5 seeds')
    """
    return f"{count} {one if count == 1 else many or one + 's'}"


def plain(text: str) -> str:
    r"""One line without control or text-direction characters: names come from files that others wrote.

    >>> plain("re\x1b[2Jlu\n")
    're�[2Jlu '
    """
    return "".join(
        " " if char in "\n\r\t" else "\ufffd" if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else char
        for char in text
    )


def sensor_name(sensor: SensorSummary) -> str:
    """The sensor with its resolution, where its key does not say it; a LIDAR's is that of its ranges, not a size."""
    size = f"{number(sensor.bits)} bits"
    if sensor.kind == "lidar":
        return sensor.key
    if sensor.kind == "camera":
        return sensor.key if "bits" in sensor.key.partition("/")[2] else f"{sensor.key} ({size})"
    return f"{sensor.key} ({size})" if "steps" in sensor.key else f"{sensor.key} ({sensor.steps} steps, {size})"


def setting(sensor: SensorSummary) -> str:
    """The noise and where it stands."""
    if sensor.kind == "lidar":
        return "the LIDAR's own noise"
    if sensor.kind == "camera":
        return "the camera's own noise"
    noise = {"gaussian": "Gaussian", "laplace": "Laplace"}.get(str(sensor.noise), str(sensor.noise))
    place = "at the sensor" if sensor.placement == "sensor" else "throughout the network"
    return f"{noise} noise {place}{', no converter after a layer' if sensor.doa_only else ''}"


def result_name(report: Report, result: Result) -> str:
    """One model on one sensor; the model is named only where there are several."""
    if len({each.model for each in report.results}) > 1:
        return f"{result.model} on {sensor_name(result.sensor)}"
    return sensor_name(result.sensor)


def _signless_zero(text: str) -> str:
    return text.lstrip("+-") if float(text) == 0 else text
