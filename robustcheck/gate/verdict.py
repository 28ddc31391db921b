"""What a gate decided: one judgement a check and subject, and the verdict over all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["pass", "fail", "inconclusive", "missing", "error"]
"""Of one check. `missing`: the report says nothing about it. `error`: what it should say could not be finished."""

EXIT_CODES: dict[Outcome, int] = {"pass": 0, "fail": 1, "missing": 3, "error": 3, "inconclusive": 4}

GRAVEST_FIRST: tuple[Outcome, ...] = ("fail", "error", "missing", "inconclusive", "pass")
"""Which of several outcomes a gate has: the first that is there."""


@dataclass(frozen=True)
class Subject:
    """What a check was applied to; parts that it does not have are empty.

    Attributes:
        model: key of the model in the report.
        spec: the model as it was given: a file's path, or a name.
        activation: canonical spec, or `as is`.
        sensor: key of the sensor in the report.
        point: label of the operating point, such as `EP 0.5`; `area` for the whole curve.
    """

    model: str = ""
    spec: str = ""
    activation: str = ""
    sensor: str = ""
    point: str = ""


@dataclass(frozen=True)
class Judgement:
    """One check on one subject.

    Attributes:
        rule: kind of the check; stable from release to release.
        check: the check as canonical text, such as `accuracy@ep=0.5 >= 0.9`.
        subject: what it was applied to.
        outcome: what came out.
        threshold: what the check asks for; a fraction, or a count.
        value: what was measured, in the same unit; None where nothing was.
        lower: one-sided lower confidence bound of it; None for counts and where nothing was measured.
        upper: one-sided upper bound.
        sentence: the check and its outcome in one sentence with both numbers.
        remedy: what would decide or repair it; empty for a pass.
    """

    rule: str
    check: str
    subject: Subject
    outcome: Outcome
    threshold: float
    value: float | None
    lower: float | None
    upper: float | None
    sentence: str
    remedy: str = ""


@dataclass(frozen=True)
class Verdict:
    """All judgements on one report.

    Attributes:
        title: of the report.
        study: content hash of the study.
        alpha: chance that the gate passes a model that misses a threshold, and that it fails one that misses none.
        judgements: in the order of the checks; never empty.
        inconclusive: what an inconclusive gate counts as.

    >>> Verdict("an audit", "0" * 64, 0.05, ()).outcome
    'pass'
    """

    title: str
    study: str
    alpha: float
    judgements: tuple[Judgement, ...]
    inconclusive: Literal["inconclusive", "pass", "fail"] = "inconclusive"

    @property
    def outcome(self) -> Outcome:
        """The gravest outcome of all: a fail, then what could not be judged, then what is not decided yet."""
        found = {judgement.outcome for judgement in self.judgements}
        gravest: Outcome = next((each for each in GRAVEST_FIRST if each in found), "pass")
        return self.inconclusive if gravest == "inconclusive" else gravest

    @property
    def exit_code(self) -> int:
        """What a command that printed this verdict ends with."""
        return EXIT_CODES[self.outcome]
