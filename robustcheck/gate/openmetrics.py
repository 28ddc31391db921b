"""A verdict as OpenMetrics text, which GitLab compares between branches and Prometheus stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import get_args

from robustcheck.gate.checks import COUNTS
from robustcheck.gate.verdict import GRAVEST_FIRST, Judgement, Outcome, Verdict
from robustcheck.reporting.wording import plain


def to_openmetrics(verdict: Verdict) -> str:
    """The exposition, of gauges alone, as OpenMetrics 1.0 has it; ends with `# EOF`.

    Fractions are in `robustcheck_gate_value_ratio`, `_lower_ratio`, `_upper_ratio` and `_threshold_ratio`, counts
    (samples, draws, seeds) in `robustcheck_gate_coverage` and `robustcheck_gate_coverage_threshold`. What was not
    measured has no series. `robustcheck_gate_passed` is 1 for a check that passed and 0 for any other, and
    `robustcheck_gate_judgements` counts the checks of each outcome. All but the last have the labels model,
    activation, sensor, point, rule and check. Names that differ in control characters alone look the same here, and a
    series may stand here only once: of such twins the gravest outcome does.

    >>> print(to_openmetrics(Verdict("an audit", "0" * 64, 0.05, ())).splitlines()[-1])
    # EOF
    """
    return "".join(f"{line}\n" for line in (*_lines(verdict), "# EOF"))


def _lines(verdict: Verdict) -> Iterator[str]:
    judgements = _distinct(verdict.judgements)
    ratios = {labels: found for labels, found in judgements.items() if found.rule not in COUNTS}
    counts = {labels: found for labels, found in judgements.items() if found.rule in COUNTS}
    yield from _gauge("value", "What was measured.", ratios, lambda found: found.value, unit="ratio")
    yield from _gauge("lower", "Its lower confidence bound.", ratios, lambda found: found.lower, unit="ratio")
    yield from _gauge("upper", "Its upper confidence bound.", ratios, lambda found: found.upper, unit="ratio")
    yield from _gauge("threshold", "What the check asks for.", ratios, lambda found: found.threshold, unit="ratio")
    yield from _gauge("coverage", "Samples, draws or seeds of the report.", counts, lambda found: found.value)
    yield from _gauge("coverage_threshold", "What the check asks for.", counts, lambda found: found.threshold)
    yield from _gauge("passed", "1 where the check passed.", judgements, lambda found: found.outcome == "pass")
    yield "# TYPE robustcheck_gate_judgements gauge"
    yield "# HELP robustcheck_gate_judgements Checks of each outcome."
    outcomes = [judgement.outcome for judgement in verdict.judgements]
    for outcome in get_args(Outcome):
        yield f'robustcheck_gate_judgements{{outcome="{outcome}"}} {outcomes.count(outcome)}'


def _distinct(judgements: Sequence[Judgement]) -> dict[str, Judgement]:
    """By their labels; of twins the gravest, and the first of those."""
    found: dict[str, Judgement] = {}
    for judgement in judgements:
        labels = _labels(judgement)
        found[labels] = min(found.get(labels, judgement), judgement, key=lambda each: GRAVEST_FIRST.index(each.outcome))
    return found


def _gauge(
    name: str,
    description: str,
    judgements: Mapping[str, Judgement],
    read: Callable[[Judgement], float | None],
    unit: str = "",
) -> Iterator[str]:
    family = "_".join(filter(None, ("robustcheck_gate", name, unit)))
    yield f"# TYPE {family} gauge"
    if unit:
        yield f"# UNIT {family} {unit}"
    yield f"# HELP {family} {description}"
    for labels, judgement in judgements.items():
        value = read(judgement)
        if value is not None:
            yield f"{family}{{{labels}}} {float(value)!r}"


def _labels(judgement: Judgement) -> str:
    subject = judgement.subject
    labels = {
        "model": subject.model,
        "activation": subject.activation,
        "sensor": subject.sensor,
        "point": subject.point,
        "rule": judgement.rule,
        "check": judgement.check,
    }
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    return plain(value).replace("\\", r"\\").replace('"', r"\"")
