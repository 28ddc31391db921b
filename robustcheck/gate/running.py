"""Looks at a study with more and more draws until its gate is decided, with the error rates that one look would have.

Looks are planned: at the study's number of draws, then at twice as many each time. Look k may spend α / (k (k + 1)),
and these sum to α over any number of looks, so that with probability 1 − α no look at all decides wrongly, whenever one
stops (the union bound, which holds however looks depend on each other).

Confidence sequences that hold at every single draw (Howard et al. 2021, doi 10.1214/20-AOS1991) are martingales in what
is drawn on. Here the draws grow while test samples and networks stay, so that most of the error is common to all looks
and no martingale. Doubling needs few looks: the eighth, after 128 times the draws, spends α / 72, which makes a bound
1.94 times as wide as that of a single look.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from robustcheck.errors import UsageError
from robustcheck.gate.judge import Finding, findings, judge
from robustcheck.gate.settings import GateSettings
from robustcheck.gate.verdict import Judgement, Subject, Verdict
from robustcheck.reporting.report import Report
from robustcheck.study.plan import Study
from robustcheck.study.precision import MOST_DRAWS

Stopped = Literal["decided", "draws cannot decide", "time", "draws"]


@dataclass(frozen=True)
class Look:
    """One look at a study.

    Attributes:
        number: from 1.
        draws: noise draws a sample.
        report: of the study with so many draws.
        verdict: at the part of alpha that this look may spend.
        stopped: why no further look was taken; None where one is.
    """

    number: int
    draws: int
    report: Report
    verdict: Verdict
    stopped: Stopped | None


def spent(alpha: float, look: int) -> float:
    """The part of alpha that a look, counted from 1, may spend: α / (k (k + 1)).

    >>> spent(0.06, 1), spent(0.06, 2), round(sum(spent(0.06, k) for k in range(1, 10_000)), 4)
    (0.03, 0.01, 0.06)
    """
    return alpha / (look * (look + 1))


def until_decided(
    study: Study,
    settings: GateSettings,
    baseline: Report | None,
    measure: Callable[[Study], Report],
    *,
    own_baseline: bool = False,
    max_seconds: float = math.inf,
    on_look: Callable[[Look], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Look:
    """Take looks until nothing is inconclusive or a check has failed, more draws cannot decide, or the next look would
    take too long.

    Args:
        study: an audit without a precision, whose draws the first look takes.
        settings: what is asked.
        baseline: for regressions.
        measure: runs a study.
        own_baseline: there is no baseline yet, and each report is its own.
        max_seconds: for all looks; the first is always taken. A look is expected to take twice its predecessor's time.
        on_look: called after each.
        clock: seconds.

    Returns:
        The last look.

    Raises:
        UsageError: the study trains, or decides its draws by a precision.
    """
    check_can_draw_on(study)
    began, number, draws = clock(), 1, study.draws
    decided: dict[tuple[str, Subject], Judgement] = {}
    while True:
        before = clock()
        report = measure(study.model_copy(update={"draws": draws}))
        now = clock()
        against = report if own_baseline else baseline
        verdict = _with_earlier(decided, judge(report, settings, against, alpha=spent(settings.alpha, number)))
        then = findings(report, settings, against, alpha=spent(settings.alpha, number + 1))
        stopped: Stopped | None = None
        failed = any(each.outcome == "fail" and _has_bound(each) for each in verdict.judgements)
        if failed or not any(each.outcome == "inconclusive" for each in verdict.judgements):
            stopped = "decided"
        elif not _draws_may_decide(verdict, then):
            stopped = "draws cannot decide"
        elif 2 * draws > MOST_DRAWS:
            stopped = "draws"
        elif now - began + 2 * (now - before) > max_seconds:
            stopped = "time"
        look = Look(number, draws, report, verdict, stopped)
        on_look(look)
        if stopped is not None:
            return look
        number, draws = number + 1, 2 * draws


def _with_earlier(decided: dict[tuple[str, Subject], Judgement], verdict: Verdict) -> Verdict:
    """The verdict with what an earlier look decided, which stays so: the union bound covers all looks.

    What this look decides is added to `decided`.
    """
    judgements = tuple(decided.get((each.check, each.subject), each) for each in verdict.judgements)
    for each in judgements:
        if each.outcome in ("pass", "fail") and _has_bound(each):
            decided[each.check, each.subject] = each
    return replace(verdict, judgements=judgements)


def _has_bound(judgement: Judgement) -> bool:
    """Whether it was decided by bounds: counts of draws grow from look to look."""
    return judgement.lower is not None


def check_can_draw_on(study: Study) -> None:
    """UsageError unless the number of draws is all that a further look would change."""
    if study.kind != "audit":
        raise UsageError(f"--until-decided: expected an audit, got a study of kind {study.kind}; it only adds draws")
    if study.precision is not None:
        raise UsageError(
            "--until-decided: expected no precision, got "
            f"{study.precision:g}, which decides the number of draws by itself; leave out one of the two"
        )


def _draws_may_decide(verdict: Verdict, at_next_alpha: tuple[Finding, ...]) -> bool:
    """Whether some number of draws would decide something that is open now."""
    return any(
        now.outcome == "inconclusive" and then.draws_may_decide
        for now, then in zip(verdict.judgements, at_next_alpha, strict=True)
    )
