"""Finds the files that ship with robustcheck: sensor profiles, reference models, studies, report templates.

In a checkout they lie in the folders `sensors/`, `models/` and `reports/` beside the package; an installed
package carries the same folders as the package data of `robustcheck.sensors`, `.models` and `.reports`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Shelf = Literal["sensors", "models", "reports"]

_STUDY = "study-"
_PACKAGE = Path(__file__).resolve().parent


def shelf(name: Shelf) -> Path:
    """The folder that holds the shipped files of one kind.

    >>> shelf("sensors").is_dir()
    True
    """
    checkout = _PACKAGE.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / name).is_dir():
        return checkout / name
    return _PACKAGE / name


def names(name: Shelf, suffix: str) -> list[str]:
    """The stems of the shipped files with this suffix, sorted.

    >>> "adc-8bit" in names("sensors", ".toml")
    True
    """
    return sorted(path.stem for path in shelf(name).glob(f"*{suffix}"))


def model_names() -> list[str]:
    """The shipped models, sorted.

    >>> "digits-convnet" in model_names()
    True
    """
    return [name for name in names("models", ".toml") if not name.startswith(_STUDY)]


def study_names() -> list[str]:
    """The shipped studies, sorted: files that `robustcheck compare` runs.

    >>> "study-survey" in study_names()
    True
    """
    return [name for name in names("models", ".toml") if name.startswith(_STUDY)]
