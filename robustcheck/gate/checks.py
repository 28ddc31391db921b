"""What a gate asks for: checks, read from one line of text each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from robustcheck.errors import InvalidValueError, UnknownNameError, UsageError

Rule = Literal["accuracy", "area", "drop", "regression", "samples", "draws", "seeds"]
RULES: tuple[Rule, ...] = get_args(Rule)
COUNTS = ("samples", "draws", "seeds")

PlaceKind = Literal["ep", "exposure", "lux", "signal", "clean", "quantised", "area"]

_ASKS_FOR_LESS = ("drop", "regression")
_FORM = re.compile(r"\s*([a-z]+)\s*(?:@\s*([^<>=!]*(?:=[^<>=!]*)?))?\s*([<>=!]=|[<>])\s*(.+?)\s*")
_EXAMPLES = {
    "accuracy": "accuracy@ep=0.5 >= 0.9",
    "area": "area >= 0.8",
    "drop": "drop@ep=0.5 <= 0.05",
    "regression": "regression@ep=0.5 <= 0.01",
    "samples": "samples >= 300",
    "draws": "draws >= 5",
    "seeds": "seeds >= 3",
}


@dataclass(frozen=True)
class Place:
    """Where an accuracy is asked for: an operating point, or the whole curve.

    Attributes:
        kind: the axis, or `clean`, `quantised` (rounding without noise) or `area`.
        value: on that axis: an error probability, a share of full well, an illuminance [lx] or a share of the signal.
    """

    kind: PlaceKind
    value: float | None = None

    def __str__(self) -> str:
        if self.kind == "lux":
            return f"exposure={_written(self.value)} lx"
        return self.kind if self.value is None else f"{self.kind}={_written(self.value)}"

    @property
    def label(self) -> str:
        """What a sentence calls it.

        >>> Place("ep", 0.5).label, Place("lux", 50.0).label, Place("quantised").label
        ('EP 0.5', '50 lx', 'quantised only')
        """
        if self.value is None:
            return "quantised only" if self.kind == "quantised" else self.kind
        if self.kind == "lux":
            return f"{self.value:.6g} lx"
        return f"{'EP' if self.kind == 'ep' else self.kind} {self.value:.6g}"


@dataclass(frozen=True)
class Check:
    """One thing that a gate asks for; its text is canonical.

    Attributes:
        rule: what is measured: `accuracy` at a place; `area`, the mean accuracy over the curve; `drop`, the accuracy
            without noise less that at a place; `regression`, the baseline's accuracy less this one's; or a count.
        place: where; None for counts.
        threshold: a fraction in [0, 1], or a count of at least 1.
    """

    rule: Rule
    place: Place | None
    threshold: float

    @property
    def at_least(self) -> bool:
        """Whether more is better: accuracies and counts, not drops and regressions."""
        return self.rule not in _ASKS_FOR_LESS

    def __str__(self) -> str:
        at = "" if self.place is None or self.rule == "area" else f"@{self.place}"
        every = self.threshold == 1 and self.rule not in COUNTS
        return f"{self.rule}{at} {'>=' if self.at_least else '<='} {'100 %' if every else _written(self.threshold)}"


def parse_check(text: str) -> Check:
    """Read a check.

    `accuracy@POINT >= X`, `area >= X`, `drop@POINT <= X`, `regression@POINT <= X`, `regression@area <= X`,
    `samples >= N`, `draws >= N` or `seeds >= N`. POINT is `ep=0.5`, `exposure=0.1`, `exposure=50 lx`, `signal=0.3`,
    `clean` or `quantised`; X is a fraction such as `0.9` or a percentage such as `90 %`. All is `100 %`, as `1` may
    be a forgotten percent sign, and what every report passes (an accuracy of 0, a drop of 100 %) is refused.

    Raises:
        UsageError: the text says something else.

    >>> str(parse_check("accuracy @ ep=.5 >= 90 %"))
    'accuracy@ep=0.5 >= 0.9'
    >>> parse_check("drop@exposure=50 lx <= 0.05").place
    Place(kind='lux', value=50.0)
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise _refused(text, "a check such as 'accuracy@ep=0.5 >= 0.9' or 'samples >= 300'", "accuracy")
    name, where, operator, threshold = match.groups()
    if name not in RULES:
        raise UnknownNameError("check", name, RULES, remedy=f"write a check such as '{_EXAMPLES['accuracy']}'")
    rule: Rule = next(each for each in RULES if each == name)
    place = _place(rule, where, text)
    wanted = "<=" if rule in _ASKS_FOR_LESS else ">="
    if operator != wanted:
        raise _refused(text, f"{wanted} after {rule}", rule)
    return Check(rule, place, _threshold(rule, threshold, text))


def points_named(checks: Iterable[Check]) -> dict[str, tuple[float | str, ...]]:
    """The operating points that checks ask for, as the fields of a study: `eps`, `exposures` and `signals`.

    >>> points_named([parse_check("accuracy@ep=0.5 >= 0.9"), parse_check("accuracy@exposure=50 lx >= 0.9")])
    {'eps': (0.5,), 'exposures': ('50 lx',), 'signals': ()}
    """
    places = {check.place for check in checks if check.place is not None}
    found = {kind: sorted(p.value for p in places if p.kind == kind and p.value is not None) for kind in _AXES}
    lit = tuple(f"{value:.10g} lx" for value in found["lux"])
    return {"eps": tuple(found["ep"]), "exposures": (*found["exposure"], *lit), "signals": tuple(found["signal"])}


_AXES: tuple[PlaceKind, ...] = ("ep", "exposure", "lux", "signal")


def _refused(text: str, expected: str, rule: Rule, write: str = "") -> InvalidValueError:
    remedy = write or _respelled(text) or f"write for instance '{_EXAMPLES[rule]}'"
    return InvalidValueError("check", expected=expected, got=text, remedy=remedy)


def _respelled(text: str) -> str:
    """How to write what was meant, where only letters' case or an operator's form is wrong."""
    spelled = text.lower()
    for wrong, right in (("≥", ">="), ("≤", "<="), ("=>", ">="), ("=<", "<=")):
        spelled = spelled.replace(wrong, right)
    if spelled == text:
        return ""
    try:
        parse_check(spelled)
    except UsageError:
        return ""
    return f"write {spelled.strip()!r}"


def _place(rule: Rule, where: str | None, text: str) -> Place | None:
    if rule in COUNTS or rule == "area":
        if where is not None:
            raise _refused(text, f"no operating point after {rule}", rule)
        return Place("area") if rule == "area" else None
    if where is None:
        raise _refused(text, f"an operating point after {rule}", rule)
    axis, equals, value = (part.strip() for part in where.partition("="))
    if not equals:
        if axis == "area" and rule == "regression":
            return Place("area")
        if axis == "quantised" or (axis == "clean" and rule != "drop"):
            return Place("clean" if axis == "clean" else "quantised")
    elif axis in ("ep", "exposure", "signal"):
        return _point(axis, value, text)
    still = "quantised" if rule == "drop" else "clean, quantised" + (", area" if rule == "regression" else "")
    raise _refused(text, f"an operating point such as ep=0.5, exposure=0.1, exposure=50 lx, signal=0.3, {still}", rule)


def _point(axis: str, written: str, text: str) -> Place:
    lit = axis == "exposure" and written.endswith("lx")
    value = _number(written.removesuffix("lx") if lit else written)
    if value is None or not 0 < value < float("inf"):
        raise _refused(text, f"a number above 0 after {axis}=", "accuracy")
    if lit:
        return Place("lux", value)
    if value > 1 or (axis == "ep" and value == 1):
        raise _refused(text, f"{axis} {'below' if axis == 'ep' else 'at most'} 1", "accuracy")
    return Place("ep" if axis == "ep" else "exposure" if axis == "exposure" else "signal", value)


def _threshold(rule: Rule, written: str, text: str) -> float:
    if rule in COUNTS:
        if not re.fullmatch(r"[0-9]{1,9}", written) or int(written) < 1:
            raise _refused(text, f"a whole number from 1 after {rule} >=", rule)
        return float(written)
    value = _number(written.removesuffix("%"))
    if value is not None and written.endswith("%"):
        value = round(value / 100, 12)  # so that 70 % and 0.7 are the same check
    if rule in _ASKS_FOR_LESS:
        if value is None or not 0 <= value < 1:
            expected = "a fraction from 0 to 1 (not 1 itself), or a percentage below 100 %"
            raise _refused(text, expected, rule, _as_percentage(text, written, below=100))
    elif written == "1":
        raise _refused(text, "a percentage where all is asked for", rule, f"write {text.strip()[:-1] + '100 %'!r}")
    elif value is None or not 0 < value <= 1:
        expected = "a fraction from 0 to 1 (not 0 itself), or a percentage of at most 100 %"
        raise _refused(text, expected, rule, _as_percentage(text, written, below=100.5))
    return value


def _as_percentage(text: str, written: str, below: float) -> str:
    """How to write a threshold whose percent sign was forgotten."""
    value = _number(written)
    if value is None or not 1 <= value < below:
        return ""
    return f"write {text.strip() + ' %'!r} or {value / 100:.12g}"


def _written(value: float | None) -> str:
    """All digits that the value has: `0.9`, `300`."""
    return repr(value).removesuffix(".0")


def _number(written: str) -> float | None:
    try:
        return float(written)
    except ValueError:
        return None
