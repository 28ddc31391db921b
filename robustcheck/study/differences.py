"""What differs between two studies, field by field and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from robustcheck.errors import StudyMismatchError
from robustcheck.study.plan import Study

_MOST_SAID = 24


def differences(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """A line for each field in which two plain documents differ: `field: one → other`.

    Lists of as many records are compared record by record; of other lists each record is told by its `spec` and by
    the fields in which not all of them agree.

    Args:
        one: plain JSON data, such as `Study.document` gives.
        other: the same.
        place: name of what is compared; empty for a whole document.

    >>> list(differences({"draws": 5, "sensors": [{"spec": "a"}]}, {"draws": 6, "sensors": [{"spec": "b"}]}))
    ['draws: 5 → 6', 'sensor, spec: a → b']
    >>> list(differences({"eps": []}, {"eps": [0.2, 0.5]}))
    ['eps: none → 0.2, 0.5']
    >>> list(differences({"eps": list(range(30))}, {"eps": []}))[0][-16:]
    '22, 23, … → none'
    """
    if isinstance(one, dict) and isinstance(other, dict):
        for name in dict.fromkeys([*other, *one]):
            yield from differences(one.get(name), other.get(name), f"{place}, {name}" if place else name)
    elif _records(one) and _records(other):
        if len(one) == len(other):
            for number, pair in enumerate(zip(one, other, strict=True), start=1):
                yield from differences(*pair, place.removesuffix("s") + (f" {number}" if len(one) > 1 else ""))
        else:
            yield f"{place}: {_told(one, other)} → {_told(other, one)}"
    elif one != other:
        yield f"{place}: {_in_words(one)} → {_in_words(other)}"


def require_same_study(held: dict[str, Any], given: dict[str, Any], folder: Path) -> None:
    """Raise StudyMismatchError unless two studies differ at most in the number of seeds and the activations.

    Those two may grow or shrink: the cells of one study are the cells of the other.
    """
    with suppress(ValidationError):  # what an older version did not write yet is at its default
        held = Study.model_validate(held).document()
    free = ("seeds", "activations")
    held, given = ({name: value for name, value in one.items() if name not in free} for one in (held, given))
    differing = list(differences(held, given))
    if differing:
        raise StudyMismatchError(
            f"{folder} holds another study; use another --out folder, or the same settings. "
            "Where they differ, the folder's → this run's:\n  " + "\n  ".join(differing)
        )


def _records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _told(records: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> str:
    """Records by what tells them from each other and from the others."""
    everyone = [*records, *others]
    common = {name for name in everyone[0] if all(each.get(name) == everyone[0][name] for each in everyone)} - {"spec"}
    return ", ".join(_in_words({name: each[name] for name in each if name not in common}) for each in records)


def _in_words(value: Any) -> str:
    """A value as one would say it."""
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_in_words, value[:_MOST_SAID])) + (", …" if len(value) > _MOST_SAID else "")
    if isinstance(value, dict):
        said = {name: _in_words(each) for name, each in value.items() if each not in (None, {})}
        return " ".join(text if name == "spec" else f"{name} {text}" for name, text in said.items())
    return f"{value:.12g}" if isinstance(value, float) else str(value)
