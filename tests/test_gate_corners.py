"""Corners of the gate and of comparisons: which points, networks and draws a bound rests on, and at which alpha."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from robustcheck.analysis.bounds import Scores, combined, joined, margin
from robustcheck.gate.checks import Place, parse_check
from robustcheck.gate.evidence import Evidence
from robustcheck.gate.judge import Open, decide
from robustcheck.gate.verdict import Subject
from robustcheck.reporting.changes import Change, _judged, _Pair
from robustcheck.reporting.outcomes import Contestant, Estimate, Outcomes

ALPHA = 0.05


def right(*wrong, samples=400):
    """(draws, samples): of each draw the first so many are wrong."""
    return np.arange(samples) >= np.array(wrong)[:, None]


def scores(*wrong):
    return combined([(1.0, right(*wrong), True)])


def test_seeds_that_would_decide_are_counted_at_the_alpha_that_the_bound_has():
    """Of five bounded judgements, each may fail at a fifth of alpha."""
    networks = tuple(scores(each, each) for each in (120, 160, 200))
    asked = parse_check("accuracy@ep=0.5 >= 0.72")
    found = decide(Open(asked, Subject(), Estimate(networks)), ALPHA, 5).judgement
    part = margin(networks, "above", ALPHA / 5, skewed=False)

    def total(count):
        narrower = stats.t.isf(ALPHA / 5, count - 1) / stats.t.isf(ALPHA / 5, 2) * math.sqrt(3 / count)
        return math.hypot(part.samples, part.chance, part.networks * narrower)

    wanted = next(count for count in range(3, 1000) if total(count) <= 0.12)
    assert found.outcome == "inconclusive"
    assert found.remedy.endswith(f"only more trained networks would: about {wanted} seeds")


@pytest.mark.parametrize("networks", [1, 2, 3])
def test_what_networks_cannot_show_is_said_of_two_already(networks):
    measured = Estimate((scores(30, 30),) * networks)
    said = decide(Open(parse_check("accuracy@ep=0.5 >= 0.5"), Subject(), measured), ALPHA, 1).judgement.sentence
    warning = f"a failure of one training in {networks} may be missing from {networks} networks"
    assert (warning in said) == (networks > 1)
    failed = decide(Open(parse_check("accuracy@ep=0.5 >= 0.99"), Subject(), measured), ALPHA, 1).judgement
    assert failed.outcome == "fail"
    assert "missing from" not in failed.sentence, "a failure that was not seen could only add to it"


def test_a_percentage_is_the_fraction_that_it_says():
    assert 12.3 / 100 != 0.123
    assert parse_check("area >= 12.3 %") == parse_check("area >= 0.123")


def test_rounding_without_noise_is_no_noise_in_a_drop(audit_report):
    evidence = Evidence(audit_report)
    contestant = next(evidence.contestants())
    weights = evidence.weights(contestant, parse_check("drop@quantised <= 0.1"))
    assert weights == {"clean": (1.0, False), "quantised": (-1.0, False)}


def test_of_two_illuminances_that_tables_show_alike_the_nearest_is_meant(build_report):
    report = build_report("audit", sensor_kind="camera", exposures=(0.1, 0.2))
    (result,) = report.results
    lit = [each for each in result.points if each.point.kind == "exposure"]
    moved = [
        each.model_copy(update={"point": each.point.model_copy(update={"lux": lux})})
        for each, lux in zip(lit, (50.0, 50.03), strict=True)
    ]
    contestant = Contestant(result.model_copy(update={"points": tuple(moved)}), "relu")
    for asked, lux in ((50.01, 50.0), (50.02, 50.03), (50.0, 50.0)):
        assert Evidence(report).point(contestant, Place("lux", asked)).point.lux == lux


@pytest.mark.parametrize("stated", [4, 5, 6])
def test_a_report_holds_as_many_networks_as_it_states(build_report, stated):
    report = build_report(seeds=5, eps=(0.3, 0.6), diverge=False)
    (result,) = report.results
    shown = tuple(each for each in result.points if each.point.ep == 0.3)
    report = report.model_copy(update={"results": (result.model_copy(update={"points": shown}),), "seeds": stated})
    outcomes = Outcomes(report)
    assert [outcomes.complete(each) for each in outcomes.contestants()] == [stated == 5] * len(report.activations)


def changed(gained, lost, samples=1000):
    """Networks that gain samples at one end and lose some at the other."""
    where = np.arange(samples)
    shares = [(where < up) * 1.0 - (where >= samples - down) for up, down in zip(gained, lost, strict=True)]
    return [Scores(each, each.mean(keepdims=True), np.maximum(each, 0).mean(keepdims=True), 0.0) for each in shares]


@pytest.mark.parametrize("lost", [(310, 340, 310, 330, 380), (340, 330, 390, 310, 300)], ids=["together", "apart"])
def test_networks_that_gain_where_they_lose_have_a_narrower_bound(lost):
    """Near one half both margins are Student's t, and joined with their correlation they are that of the difference."""
    gained = (310, 320, 300, 340, 390)
    correlation = np.corrcoef(gained, lost)[0, 1]
    assert abs(correlation) > 0.5
    spread = np.std(np.subtract(gained, lost), ddof=1) / 1000
    found = margin(changed(gained, lost), "below", ALPHA, difference=True).networks
    assert found == pytest.approx(stats.t.isf(ALPHA, 4) * spread / math.sqrt(5), rel=0.15)


def test_networks_that_are_alike_are_taken_to_differ_by_one_sample():
    """In what is gained less what is lost, and not in each of the two."""
    found = margin(changed((50, 50, 50), (20, 20, 20)), "below", ALPHA, difference=True)
    assert found.networks == pytest.approx(stats.t.isf(ALPHA, 2) / 1000 / math.sqrt(3), rel=1e-9)


def test_draws_of_several_networks_average_and_are_within_what_networks_differ_in():
    rng = np.random.default_rng(3)
    networks = [combined([(1.0, rng.random((5, 400)) < 0.8, True)]) for _ in range(4)]
    found = margin(networks, "below", ALPHA)
    share = np.append(np.mean([each.share for each in networks], axis=0), [0.0, 1.0])
    part = sum(each.chance for each in networks) / 4**2 / (share.var() / 400)
    assert found.chance**2 / (found.chance**2 + found.samples**2) == pytest.approx(part)
    assert margin(networks, "below", ALPHA, shared_draws=True) == found


@pytest.mark.parametrize("side", ["below", "above"])
def test_two_networks_on_other_samples_each_add_the_noise_that_their_samples_share(side):
    before, after = scores(30, 40, 50), scores(60, 70, 95)
    far = {"below": "above", "above": "below"}[side]
    found = Estimate((after,), (before,), shared_draws=True).margin(side, ALPHA, skewed=True)
    one, other = (margin([each], at, ALPHA, shared_draws=True) for each, at in ((before, side), (after, far)))
    assert min(one.draws, other.draws) > 0.01
    assert found == joined(one, other)


def test_a_bound_at_zero_is_no_change():
    """`better` says that the interval is above 0: at 0 it is not."""
    share = np.zeros(4)
    estimate = Estimate((Scores(share, np.zeros(1), np.zeros(1), 0.0),), difference=True)
    change = Change("net", "adc", "relu", "EP 0.5", 0.5, 0.5, 0.0, None, None, "no interval")
    below, above = (estimate.margin(side, ALPHA / 2, skewed=False).total for side in ("below", "above"))
    for by, end in ((below, "lower"), (-above, "upper")):
        found = _judged(_Pair(replace(change, difference=by), True, estimate), 1)
        assert (getattr(found, end), found.mark) == (0.0, "within noise")
