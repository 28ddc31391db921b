"""Every error that robustcheck raises on purpose, and the exit code each one ends a command with.

A message says what was expected, what came and how to put it right:

>>> str(InvalidValueError("error probability", expected="0 < EP < 1", got=1.5, remedy="give a value such as 0.5"))
'error probability: expected 0 < EP < 1, got 1.5; give a value such as 0.5'
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class RobustcheckError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command line ends with."""

    exit_code: ClassVar[int] = 3


class UsageError(RobustcheckError):
    """What was typed is wrong: an option, a name, a study file, a profile."""

    exit_code = 2


class InvalidValueError(UsageError):
    """A value lies outside what is allowed."""

    def __init__(self, what: str, *, expected: str, got: object, remedy: str = "") -> None:
        super().__init__(f"{what}: expected {expected}, got {got!r}" + (f"; {remedy}" if remedy else ""))


class UnknownNameError(UsageError):
    """A name is in no registry; the message lists the nearest names.

    >>> str(UnknownNameError("sensor", "adc-8bits", ["adc-8bit", "camera-imx477"]))
    "unknown sensor 'adc-8bits'; did you mean 'adc-8bit'?"
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], *, remedy: str = "") -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        if near:
            hint = f"did you mean {' or '.join(repr(n) for n in near)}?"
        else:
            hint = "known: " + ", ".join(names[:24]) + (", …" if len(names) > 24 else "")
        if remedy:
            hint += ("" if hint.endswith("?") else ".") + f" {remedy}"
        super().__init__(f"unknown {kind} {name!r}; {hint}")


class FileFormatError(UsageError):
    """A profile, recipe or study file does not say what it should; names file, line and field."""


class StudyMismatchError(UsageError):
    """The output folder holds another study."""


class ModelError(RobustcheckError):
    """A model cannot be read or run."""


class UnsafeFileError(ModelError):
    """A file could run code when it is read (a pickle); it was not opened."""


class SurgeryError(ModelError):
    """Nothing in the network could be swapped, or the swap does not fit the network."""


class PlacementError(ModelError):
    """The noise cannot be placed in this network; lists the layers that are not covered."""


class DataError(RobustcheckError):
    """A data set cannot be read or does not fit the model."""


class StoreError(RobustcheckError):
    """The study's store cannot be read or written."""


class WorkerError(RobustcheckError):
    """A worker process cannot be started, or is not able to begin."""


class ReportError(RobustcheckError):
    """A report cannot be read or written."""
