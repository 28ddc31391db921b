"""Judges a report against a gate's checks: pass, fail, inconclusive, missing or error, with confidence bounds.

A check passes where the bound on the near side clears the threshold, fails where the bound on the far side misses it,
and is inconclusive between. The gate passes only if every check does, so each may pass at α: a model that misses a
threshold passes with probability α at most, however many checks there are (an intersection–union test, Berger 1982,
Technometrics 24(4):295-300). The gate fails if any check does, so fails are judged at α / m, with m the number
of judgements that have bounds: a model that misses nothing fails with probability α at most.

Counts have no bounds. Networks that are the same in report and baseline, cell by cell, differ by exactly 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from robustcheck.analysis.bounds import Side, combined
from robustcheck.gate.checks import COUNTS, Check
from robustcheck.gate.evidence import Evidence
from robustcheck.gate.settings import GateSettings
from robustcheck.gate.verdict import Judgement, Outcome, Subject, Verdict
from robustcheck.gate.wording import (
    counted_up,
    decided,
    not_there,
    of_no_report,
    repair,
    unchanged,
    unfinished,
    would_decide,
)
from robustcheck.reporting.outcomes import Contestant, Estimate, Measure, difference
from robustcheck.reporting.report import Failure, Report


@dataclass(frozen=True)
class Finding:
    """A judgement, and what more draws can do for it.

    Attributes:
        judgement: at the alpha that was asked for.
        draws_may_decide: whether it is open, and more draws alone might close it: they make their own part of the
            margin smaller, and may move what was measured by as much.
    """

    judgement: Judgement
    draws_may_decide: bool = False


@dataclass(frozen=True)
class Open:
    """A check that was measured and is not judged yet.

    Attributes:
        check: what is asked.
        subject: of whom.
        estimate: what was measured.
        diverged: how many of its networks did not converge.
        other_samples: the baseline was measured on other test samples.
    """

    check: Check
    subject: Subject
    estimate: Estimate
    diverged: int = 0
    other_samples: bool = False


def judge(
    report: Report, settings: GateSettings, baseline: Report | None = None, *, alpha: float | None = None
) -> Verdict:
    """Judge every check of the settings on every contestant of the report that their filters leave.

    Args:
        report: to be judged.
        settings: the checks; its `baseline` is not read here.
        baseline: what regressions are measured against.
        alpha: the part of `settings.alpha` that this look at the report may spend; all of it where absent.

    Raises:
        ReportError: a report contradicts itself.
    """
    found = findings(report, settings, baseline, alpha=settings.alpha if alpha is None else alpha)
    return Verdict(
        title=report.title,
        study=report.study,
        alpha=settings.alpha,
        judgements=tuple(each.judgement for each in found),
        inconclusive=settings.inconclusive,
    )


def findings(report: Report, settings: GateSettings, baseline: Report | None, *, alpha: float) -> tuple[Finding, ...]:
    """The judgements behind a verdict, at this alpha, in the order of the checks."""
    evidence = Evidence(report)
    against = None if baseline is None else Evidence(baseline)
    found = [each for check in settings.parsed for each in _of_check(evidence, against, settings, check)]
    bounded = sum(isinstance(each, Open) for each in found)
    return tuple(decide(each, alpha, bounded) if isinstance(each, Open) else Finding(each) for each in found)


def decide(found: Open, alpha: float, bounded: int) -> Finding:
    """Compare the bounds with the threshold.

    Args:
        found: what was measured.
        alpha: chance of a wrong pass; a wrong fail has its share of it.
        bounded: how many judgements of the gate have bounds, of which none may fail wrongly.

    >>> import numpy as np
    >>> from robustcheck.gate.checks import parse_check
    >>> right = combined([(1.0, np.arange(400)[None] >= 40, True)])
    >>> check, subject = parse_check("accuracy@ep=0.5 >= 0.85"), Subject("net", "", "", "adc", "EP 0.5")
    >>> measured = Open(check, subject, Estimate((right,)))
    >>> print(decide(measured, alpha=0.05, bounded=1).judgement.sentence)
    net on adc at EP 0.5: accuracy 90.0 % (at least 87.2 % with 95 % confidence), at least 85 % asked for: pass.
    """
    check, estimate, fail_alpha = found.check, found.estimate, alpha / bounded
    value, lowest = estimate.value, -1.0 if estimate.difference or estimate.against else 0.0
    pass_side: Side = "below" if check.at_least else "above"
    fail_side: Side = "above" if check.at_least else "below"
    # What few networks hide is failures: it is a pass that must not rest on their being alike.
    to_pass = estimate.margin(pass_side, alpha, skewed=True)
    to_fail = estimate.margin(fail_side, fail_alpha, skewed=False)
    below, above = (to_pass, to_fail) if check.at_least else (to_fail, to_pass)
    lower, upper = max(lowest, value - below.total), min(1.0, value + above.total)
    good, bad = (lower, upper) if check.at_least else (-upper, -lower)
    threshold = check.threshold if check.at_least else -check.threshold
    outcome: Outcome = "pass" if good >= threshold else "fail" if bad < threshold else "inconclusive"
    sentence = decided(
        check,
        found.subject,
        outcome,
        value,
        (lower, upper),
        (alpha, fail_alpha),
        networks=len(estimate.networks),
        diverged=found.diverged,
        other_samples=found.other_samples,
    )
    judgement = replace(_judgement(check, found.subject, outcome, sentence), value=value, lower=lower, upper=upper)
    if outcome != "inconclusive":
        remedy = repair(check) if outcome == "fail" else ""
        return Finding(replace(judgement, remedy=remedy))
    met = (value >= check.threshold) == check.at_least
    margin, spent = (to_pass, alpha) if met else (to_fail, fail_alpha)
    gap = abs(value - check.threshold)
    unknown = any(each.chance is None for each in (*estimate.networks, *estimate.against))
    remedy = would_decide(margin, gap, estimate.networks, spent, one_draw=unknown)
    of_draws, stays = math.hypot(margin.chance, margin.draws), math.hypot(margin.samples, margin.networks)
    return Finding(replace(judgement, remedy=remedy), unknown or gap + of_draws > stays)


def _of_check(
    evidence: Evidence, baseline: Evidence | None, settings: GateSettings, check: Check
) -> Iterator[Judgement | Open]:
    """One check on all that it concerns."""
    if check.rule == "samples":
        yield _count(check, Subject(), evidence.samples, evidence.report.failures)
        return
    contestants, lacking = list(evidence.contestants()), []
    for kind, wanted in (
        ("model", settings.models), ("activation", settings.activations), ("sensor", settings.sensors)
    ):  # fmt: skip
        names = [_names(evidence, each, kind) for each in contestants]
        keys, known = {key for key, _ in names}, {name for both in names for name in both}
        lacking += [(kind, name) for name in wanted if name not in known]
        contestants = [
            each
            for each, (key, name) in zip(contestants, names, strict=True)
            if not wanted or key in wanted or (name in wanted and name not in keys)
        ]
    if not contestants and not lacking:
        lacking.append(("result", ""))
    for kind, name in lacking:
        yield _judgement(check, Subject(), "missing", *of_no_report(check, Subject(), kind, name))
    for contestant in evidence.concerned(contestants, check.place):
        yield _of_contestant(evidence, baseline, check, contestant)


def _of_contestant(
    evidence: Evidence, baseline: Evidence | None, check: Check, contestant: Contestant
) -> Judgement | Open:
    subject = _subject(evidence, check, contestant)
    failures = _failures(evidence, contestant)
    if failures or not evidence.complete(contestant):
        wanted, done = evidence.report.seeds, len(evidence.seeds(contestant))
        return _judgement(check, subject, "error", *unfinished(check, subject, done, wanted, failures))
    if check.rule in COUNTS:
        count = len(evidence.seeds(contestant)) if check.rule == "seeds" else evidence.draws(contestant)
        return _count(check, subject, count, ())
    weights = evidence.weights(contestant, check)
    if weights is None:
        points = [each.point for each in contestant.result.points]
        return _judgement(check, subject, "missing", *not_there(check, subject, points))
    measure = Measure(evidence, contestant, weights)
    if check.rule == "regression":
        return _regression(measure, evidence, baseline, check, subject)
    scores = tuple(combined(measure.terms(seed)) for seed in measure.seeds)
    estimate = Estimate(scores, difference=check.rule == "drop", shared_draws=measure.shared_draws)
    if check.rule != "drop":
        evidence.check_accuracy(contestant, check, estimate.value)
    return Open(check, subject, estimate, measure.diverged)


def _regression(
    now: Measure, evidence: Evidence, baseline: Evidence | None, check: Check, subject: Subject
) -> Judgement | Open:
    """The baseline's accuracy less this report's: paired by sample and network wherever both have the same."""
    if baseline is None:
        return _judgement(check, subject, "missing", *of_no_report(check, subject, "baseline"))
    twin = _twin(evidence, baseline, now.contestant)
    if twin is None:
        return _judgement(check, subject, "missing", *of_no_report(check, subject, "baseline contestant"))
    if evidence.report.numerics != baseline.report.numerics:
        return _judgement(check, subject, "missing", *of_no_report(check, subject, "baseline numerics"))
    had = baseline.weights(twin, check)
    if had is None or set(had) != set(now.weights):
        return _judgement(check, subject, "missing", *of_no_report(check, subject, "baseline point"))
    if _failures(baseline, twin) or not baseline.complete(twin):
        return _judgement(check, subject, "error", *of_no_report(check, subject, "whole baseline"))
    estimate = difference(Measure(baseline, twin, had), now)
    if estimate is None:
        judgement = _judgement(check, subject, "pass", unchanged(check, subject))
        return replace(judgement, value=0.0, lower=0.0, upper=0.0)
    same = evidence.sample_ids == baseline.sample_ids and evidence.report.data.sha256 == baseline.report.data.sha256
    return Open(check, subject, estimate, now.diverged, other_samples=not same)


def _count(check: Check, subject: Subject, count: int | None, failures: tuple[Failure, ...]) -> Judgement:
    if failures:
        return _judgement(check, subject, "error", *unfinished(check, subject, 0, 0, failures))
    if count is None:
        return _judgement(check, subject, "missing", *not_there(check, subject, []))
    outcome: Outcome = "pass" if count >= check.threshold else "fail"
    sentence, remedy = counted_up(check, subject, outcome, count)
    return replace(_judgement(check, subject, outcome, sentence, remedy), value=float(count))


def _judgement(check: Check, subject: Subject, outcome: Outcome, sentence: str, remedy: str = "") -> Judgement:
    return Judgement(check.rule, str(check), subject, outcome, check.threshold, None, None, None, sentence, remedy)


def _subject(evidence: Evidence, check: Check, contestant: Contestant) -> Subject:
    model, place = contestant.result.model, check.place
    label = "" if place is None else place.label
    point = None if place is None else evidence.point(contestant, place)
    return Subject(
        model=model,
        spec=next((each.spec for each in evidence.report.models if each.key == model), ""),
        activation=contestant.activation,
        sensor=contestant.result.sensor.key,
        point=label if point is None else point.point.label,
    )


def _names(evidence: Evidence, contestant: Contestant, kind: str) -> tuple[str, str]:
    """What a filter may call a contestant's model, activation or sensor: its key, and a name that others may share."""
    result = contestant.result
    if kind == "activation":
        return contestant.activation, contestant.activation
    if kind == "sensor":
        return result.sensor.key, result.sensor.name
    spec = next((each.spec for each in evidence.report.models if each.key == result.model), result.model)
    return result.model, spec


def _failures(evidence: Evidence, contestant: Contestant) -> tuple[Failure, ...]:
    """Its cells that could not be finished; where a failure names no model and sensor, those of its activation."""
    result = contestant.result
    starts = tuple(
        f"{place}{purpose} {contestant.activation},"
        for place in (f"{result.model} on {result.sensor.key}: ", "")
        for purpose in ("rank", "tune")
    )
    return tuple(each for each in evidence.report.failures if each.what.startswith(starts))


def _twin(evidence: Evidence, baseline: Evidence, contestant: Contestant) -> Contestant | None:
    """The same contestant in the baseline: same sensor and settings; a sole model may have another name."""
    sole = len(evidence.report.models) == len(baseline.report.models) == 1
    for each in baseline.contestants():
        same_model = sole or each.result.model == contestant.result.model
        same_sensor = each.result.sensor == contestant.result.sensor
        if same_model and same_sensor and each.activation == contestant.activation:
            return each
    return None
