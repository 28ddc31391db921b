"""What a gate says of each check: one sentence with both numbers, and what would decide or repair it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from robustcheck.analysis.bounds import Margin, Scores, more_draws, more_networks, more_samples
from robustcheck.gate.checks import Check
from robustcheck.gate.verdict import Outcome, Subject
from robustcheck.reporting.report import Failure, OperatingPoint
from robustcheck.reporting.wording import MINUS, counted, listed, plain

_MOST = 10**7
_AS_IS = "as is"
Told = tuple[str, str]
"""A sentence and its remedy."""


def decided(
    check: Check,
    subject: Subject,
    outcome: Outcome,
    value: float,
    bounds: tuple[float, float],
    alphas: tuple[float, float],
    *,
    networks: int = 1,
    diverged: int = 0,
    other_samples: bool = False,
) -> str:
    """What was measured, its bounds, what was asked for and what came out.

    Of several networks it also says what no bound covers: what befalls fewer of them than one in as many.

    Args:
        check: what was asked.
        subject: of whom.
        outcome: pass, fail or inconclusive.
        value: what was measured.
        bounds: lower and upper.
        alphas: of a pass, and of a fail.
        networks: how many were trained and measured.
        diverged: how many of these did not converge.
        other_samples: the baseline was measured on other test samples.

    >>> decided(
    ...     Check("accuracy", None, 0.9), Subject("net", "net", "as is", "adc", "EP 0.5"), "pass",
    ...     0.953, (0.931, 0.97), (0.05, 0.05),
    ... )
    'net on adc at EP 0.5: accuracy 95.3 % (at least 93.1 % with 95 % confidence), at least 90 % asked for: pass.'
    """
    lower, upper = bounds
    near = check.at_least == (outcome == "pass")
    alpha = dict(zip(("pass", "fail"), alphas, strict=True))
    unit = " points" if check.rule in ("drop", "regression") else " %"
    decimals = _decimals(bounds, check.threshold)
    gains = _gains(check, value, decimals)
    least = f"at least {_hundredths(lower, decimals)}{unit}"
    most = f"at most {_hundredths(upper, decimals)}{unit}"
    if gains:
        least = f"a gain of at most {_hundredths(-lower, decimals)}{unit}"
        most = f"a gain of at least {_hundredths(-upper, decimals)}{unit}" if upper < 0 else f"a loss of {most}"
    if outcome == "inconclusive":
        low, high = ("pass", "fail") if check.at_least else ("fail", "pass")
        said = f"{least} with {_confidence(alpha[low])}, {most} with {_confidence(alpha[high])}"
    else:
        said = f"{least if near else most} with {_confidence(alpha[outcome])}"
    measured = _measured(check, value, decimals) + (" on different test samples" if other_samples else "")
    if diverged:
        said += f"; {diverged} of {counted(networks, 'network')} did not converge"
    elif networks > 1 and outcome != "fail":
        said += f"; a failure of one training in {networks} may be missing from {networks} networks"
    asked = f"a loss of {_asked(check)}" if gains else _asked(check)
    return f"{_who(subject)}{_where(check, subject)}: {measured} ({said}), {asked}: {outcome}."


def counted_up(check: Check, subject: Subject, outcome: Outcome, count: int) -> Told:
    """The same for a count.

    >>> counted_up(Check("samples", None, 400.0), Subject(), "fail", 360)[0]
    'the report: 360 test samples, at least 400 asked for: fail.'
    """
    one = {"samples": "test sample", "draws": "noise draw", "seeds": "trained network"}[check.rule]
    sentence = f"{_who(subject)}: {counted(count, one)}, at least {check.threshold:.0f} asked for: {outcome}."
    if outcome == "pass":
        return sentence, ""
    option = {"samples": "use more test data", "draws": f"raise --draws to {check.threshold:.0f}", "seeds": "add seeds"}
    return sentence, f"{option[check.rule]}, or ask for less"


def unchanged(check: Check, subject: Subject) -> str:
    """Of networks that are those of the baseline."""
    return f"{_who(subject)}{_where(check, subject)}: the same networks as in the baseline, {_asked(check)}: pass."


def repair(check: Check) -> str:
    """Of a check that failed."""
    if check.rule == "regression":
        return "repair what made it worse, or accept it as the new baseline (--update-baseline)"
    return "make the model more robust (robustcheck compare finds activations that are), or ask for less"


def would_decide(margin: Margin, gap: float, networks: Sequence[Scores], alpha: float, *, one_draw: bool) -> str:
    """What would make a margin smaller than the gap between what was measured and what was asked.

    Args:
        margin: towards the threshold.
        gap: distance of the measured value from it.
        networks: scores behind the margin.
        alpha: of the margin.
        one_draw: the noise was drawn once, so that the draws' part of the margin is not known.

    >>> import numpy as np
    >>> scores = Scores(np.zeros(100), np.zeros(5), np.zeros(5), 0.0)
    >>> would_decide(Margin(samples=0.03, chance=0.05), 0.05, [scores], 0.05, one_draw=False)
    'about 3 more draws would decide it (8 in all)'
    >>> would_decide(Margin(samples=0.06), 0.05, [scores], 0.05, one_draw=False)
    'more draws would not decide it, only more test samples would: about 144 in all'
    """
    draws, samples = len(networks[0].of_draws), len(networks[0].share)
    if gap == 0:
        return "what was measured is what was asked for: no number of draws or samples can be named that decides it"
    if one_draw:
        return f"take more noise draws ({max(5, 2 * draws)}, say): one does not show how much of this is their noise"
    factor = more_draws(margin, gap)
    if draws * factor <= _MOST:
        wanted = max(draws + 1, math.ceil(draws * factor))
        return f"about {wanted - draws:,} more draws would decide it ({wanted:,} in all)"
    factor = more_samples(margin, gap)
    if samples * factor <= _MOST:
        wanted = max(samples + 1, math.ceil(samples * factor))
        return f"more draws would not decide it, only more test samples would: about {wanted:,} in all"
    factor = more_networks(margin, gap, len(networks), alpha)
    if math.isfinite(factor):
        wanted = round(len(networks) * factor)
        return f"more draws or samples would not decide it, only more trained networks would: about {wanted:,} seeds"
    return "no more draws, test samples or seeds alone would decide it: it takes more of several, or another threshold"


def not_there(check: Check, subject: Subject, points: Sequence[OperatingPoint]) -> Told:
    """Of an operating point, a curve or draws that the report does not have."""
    labels = listed([point.label for point in points], most=12) or "none"
    if check.rule == "draws":
        return f"{_who(subject)}: no noise draws in the report: missing.", "audit at an operating point with noise"
    if check.place is not None and check.place.kind == "area":
        return (
            f"{_who(subject)}: no area in the report, whose operating points are {labels}: missing.",
            "an area needs two operating points with noise at least, all with the same networks",
        )
    return (
        f"{_who(subject)}: nothing at {subject.point} in the report, whose operating points are {labels}: missing.",
        "add it to the audit, or ask for one of those",
    )


def of_no_report(check: Check, subject: Subject, what: str, name: str = "") -> Told:
    """Of what a filter, a regression or an empty report lacks."""
    baseline = "delete the baseline and run gate --update-baseline"
    said = {
        "baseline": (
            "no baseline to compare with",
            "name its file with --baseline, and begin one with --update-baseline",
        ),
        "baseline numerics": ("another version of robustcheck, of other numerics, measured the baseline", baseline),
        "baseline contestant": ("the baseline has not this model, activation and sensor, set alike", baseline),
        "baseline point": ("the baseline has not these operating points", baseline),
        "whole baseline": ("the baseline's own run was not finished", baseline),
        "result": ("the report has no results", "run the study again"),
    }
    sentence, remedy = said.get(what, (f"the report has no {what} {plain(name)!r}", "correct or remove the filter"))
    who = f"{_who(subject)}{_where(check, subject)}" if subject.model else str(check)
    return f"{who}: {sentence}: {'error' if what == 'whole baseline' else 'missing'}.", remedy


def unfinished(check: Check, subject: Subject, done: int, wanted: int, failures: Sequence[Failure]) -> Told:
    """Of a contestant, or a report, some of whose networks could not be finished."""
    first = f" ({plain(failures[0].what)}: {plain(failures[0].error)})" if failures else ""
    if failures:
        what = f"{counted(len(failures), 'cell')} could not be finished{first:.400}"
    elif done == wanted:
        what = "not every operating point was reached by every network"
    else:
        what = f"{done} of {counted(wanted, 'network')} are there"
    return f"{_who(subject)}: {check}: {what}: error.", "run the study again: what is finished is kept"


def _who(subject: Subject) -> str:
    if not subject.model:
        return "the report"
    swapped = "" if subject.activation in ("", _AS_IS) else f" with {plain(subject.activation)}"
    return f"{plain(subject.model)}{swapped} on {plain(subject.sensor)}"


def _where(check: Check, subject: Subject) -> str:
    kind = None if check.place is None else check.place.kind
    return "" if kind == "area" else f", {subject.point}" if kind in ("clean", "quantised") else f" at {subject.point}"


def _asked(check: Check) -> str:
    size = f"{100 * check.threshold:.6g}"
    unit = "%" if check.at_least else "point" if size == "1" else "points"
    return f"{'at least' if check.at_least else 'at most'} {size} {unit} asked for"


def _measured(check: Check, value: float, decimals: int) -> str:
    mean = check.place is not None and check.place.kind == "area"
    if check.rule not in ("drop", "regression"):
        return f"{'mean accuracy over the curve' if mean else 'accuracy'} {_hundredths(value, decimals)} %"
    other = "the accuracy without noise" if check.rule == "drop" else "the baseline"
    gains = _gains(check, value, decimals)
    size = _hundredths(abs(value), decimals)
    return f"{'gains' if gains else 'loses'} {size} points against {other}{' over the curve' if mean else ''}"


def _gains(check: Check, value: float, decimals: int) -> bool:
    """Whether what should have been lost is shown as negative."""
    return check.rule in ("drop", "regression") and round(100 * value, decimals) < 0


def _decimals(bounds: tuple[float, float], threshold: float) -> int:
    """The fewest with which no bound looks like the threshold that it is not."""
    for digits in range(1, 6):
        shown = [round(100 * bound, digits) for bound in bounds if bound != threshold]
        if round(100 * threshold, digits) not in shown:
            return digits
    return 6


def _hundredths(fraction: float, decimals: int) -> str:
    text = f"{100 * fraction:.{decimals}f}"
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", MINUS)


def _confidence(alpha: float) -> str:
    return f"{100 * (1 - alpha):.4g} % confidence"
