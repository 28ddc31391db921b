"""The gate: its checks, its settings, and what it decides on reports whose predictions are known."""

import base64
import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from robustcheck.analysis.bounds import Scores, combined
from robustcheck.cli.main import main
from robustcheck.errors import FileFormatError, ReportError, UsageError
from robustcheck.gate.checks import RULES, parse_check, points_named
from robustcheck.gate.judge import Open, decide, findings, judge
from robustcheck.gate.settings import GateSettings, load_gate, settings_of
from robustcheck.gate.verdict import Judgement, Subject, Verdict
from robustcheck.gate.wording import decided
from robustcheck.reporting.outcomes import Contestant, Estimate, Measure, Outcomes, difference
from robustcheck.reporting.report import Report

SAMPLES = 400
DRAWS = 4
Bools = np.ndarray
Build = Callable[..., Report]


def packed(array: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(array.tobytes())).decode()


def wrong(share: float, draws: int = DRAWS, samples: int = SAMPLES, turn: int = 0) -> Bools:
    """(draws, samples): so large a share is wrong, the same in every draw, beginning `turn` samples later."""
    right = np.arange(samples) >= round(share * samples)
    return np.tile(np.roll(right, turn), (draws, 1))


@pytest.fixture
def a_report(build_report: Build) -> Build:
    """Makes a report of one model on adc-3bit, with accuracies that its predictions bear out."""

    def build(
        noisy: dict[float, list[Bools]],
        clean: Bools | None = None,
        *,
        activations: tuple[str, ...] = ("relu",),
        seeds: int | None = None,
        placement: str = "sensor",
        cell: str = "a",
        failures: tuple[dict[str, str], ...] = (),
        ids: int = 0,
    ) -> Report:
        networks = max(map(len, noisy.values()))
        clean = wrong(0.02, draws=1) if clean is None else clean
        samples = clean.shape[1]
        document = build_report("audit", eps=tuple(noisy), activations=activations).model_dump(mode="json")
        document |= {"kind": "compare", "seeds": networks if seeds is None else seeds, "failures": failures}
        document["data"]["counts"]["test"] = samples
        document["sample_ids"] = packed(np.arange(ids, ids + samples, dtype="<i8"))
        document["activations"] = [document["activations"][0] | {"spec": name} for name in activations]
        result = document["results"][0]
        result["sensor"]["placement"] = placement
        points = {"clean": [clean] * networks, **{f"ep={ep!r}": found for ep, found in noisy.items()}}
        stated = [each for each in result["points"] if each["point"]["kind"] != "quantised"]
        for each, found in zip(stated, points.values(), strict=True):
            each["comparison"] = comparison(activations, [right.mean() for right in found])
        result["points"] = stated
        if result["area"] is not None:
            width = np.diff(list(noisy))
            per_seed = np.array(
                [[found[seed].mean() for seed in range(min(map(len, noisy.values())))] for found in noisy.values()]
            )
            area = (width[:, None] * (per_seed[1:] + per_seed[:-1]) / 2).sum(axis=0) / width.sum()
            result["area"] = comparison(activations, area.tolist())
        document["training"], document["predictions"] = [], []
        for name in activations:
            for seed in range(networks):
                key = f"{cell}-{name}-{seed}"
                document["training"].append(training(result, key, name, seed))
                for point, found in points.items():
                    if seed < len(found):
                        right = packed(np.packbits(found[seed]))
                        document["predictions"].append(
                            {"cell": key, "point": point, "draws": len(found[seed]), "correct": right}
                        )
        return Report.model_validate(document)

    return build


def comparison(activations: tuple[str, ...], per_seed: list[float]) -> dict[str, object]:
    row = {"accuracy": float(np.mean(per_seed)), "networks": None, "samples": None, "per_seed": per_seed}
    return {
        "rows": [{"activation": name, **row, "rank": 1, "converged": len(per_seed)} for name in activations],
        "pairs": [],
        "winner": None,
        "leaders": activations,
        "exact_ties": [],
        "detectable_difference": None,
        "seeds_needed": None,
    }


def training(result: dict[str, dict[str, str]], cell: str, activation: str, seed: int) -> dict[str, object]:
    return {
        "cell": cell, "model": result["model"], "sensor": result["sensor"]["key"], "activation": activation,
        "seed": seed, "train_ep": "none", "learning_rate": None, "epochs": 0, "best_epoch": None, "converged": True,
        "validation_accuracy": None, "train_loss": [], "validation_curve": [],
    }  # fmt: skip


def only(verdict: Verdict) -> Judgement:
    (found,) = verdict.judgements
    return found


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("accuracy@ep=0.5 >= 0.90", "accuracy@ep=0.5 >= 0.9"),
        (" accuracy @ ep = .5>=90% ", "accuracy@ep=0.5 >= 0.9"),
        ("accuracy@exposure=1e-3 >= 0.5", "accuracy@exposure=0.001 >= 0.5"),
        ("accuracy@exposure=50lx >= 1.0", "accuracy@exposure=50 lx >= 100 %"),
        ("area >= 100 %", "area >= 100 %"),
        ("accuracy@signal=1 >= 0.5", "accuracy@signal=1 >= 0.5"),
        ("accuracy@clean >= 70 %", "accuracy@clean >= 0.7"),
        ("drop@quantised <= 0", "drop@quantised <= 0"),
        ("area >= 12.5 %", "area >= 0.125"),
        ("regression@area <= 1 %", "regression@area <= 0.01"),
        ("regression@clean <= 0.02", "regression@clean <= 0.02"),
        ("samples >= 300", "samples >= 300"),
        ("draws >= 5", "draws >= 5"),
        ("seeds >= 3", "seeds >= 3"),
        ("seeds >= 1", "seeds >= 1"),
    ],
)
def test_a_check_has_one_canonical_text(text: str, canonical: str) -> None:
    assert str(parse_check(text)) == canonical
    assert parse_check(canonical) == parse_check(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("accuracy@ep=0.5 <= 0.9", "expected >= after accuracy"),
        ("drop@ep=0.5 >= 0.1", "expected <= after drop"),
        ("accuracy@ep=0.5 == 0.9", "expected >= after accuracy"),
        ("accuracy >= 0.9", "an operating point after accuracy"),
        ("area@ep=0.5 >= 0.9", "no operating point after area"),
        ("samples@clean >= 9", "no operating point after samples"),
        ("drop@clean <= 0.1", "an operating point such as"),
        ("accuracy@area >= 0.1", "an operating point such as"),
        ("accuracy@lux=5 >= 0.1", "an operating point such as"),
        ("accuracy@ep=1 >= 0.9", "ep below 1"),
        ("accuracy@signal=1.1 >= 0.9", "signal at most 1"),
        ("accuracy@ep=0 >= 0.9", "a number above 0"),
        ("accuracy@exposure=inf lx >= 0.9", "a number above 0"),
        ("accuracy@ep=nan >= 0.9", "a number above 0"),
        ("accuracy@ep=0.5 >= 90 ", "write 'accuracy@ep=0.5 >= 90 %' or 0.9"),
        ("accuracy@ep=0.5 >= nan", "a fraction from 0 to 1 (not 0"),
        ("accuracy@ep=0.5 >= 0", "a fraction from 0 to 1 (not 0"),
        ("accuracy@ep=0.5 >= 101 %", "a percentage of at most 100 %"),
        ("area >= 1", "write 'area >= 100 %'"),
        ("drop@ep=0.2 <= 1", "write 'drop@ep=0.2 <= 1 %' or 0.01"),
        ("drop@ep=0.2 <= 100 %", "a percentage below 100 %"),
        ("drop@ep=0.2 <= 1.0", "a fraction from 0 to 1 (not 1"),
        ("regression@area <= 5", "write 'regression@area <= 5 %' or 0.05"),
        ("regression@area <= 100", "a fraction from 0 to 1 (not 1"),
        ("accuracy@EP=0.5 >= 0.9", "write 'accuracy@ep=0.5 >= 0.9'"),
        ("drop@ep=0.5 ≤ 5 %", "write 'drop@ep=0.5 <= 5 %'"),
        ("area => 0.9", "write 'area >= 0.9'"),
        ("samples >= 0", "a whole number from 1"),
        ("samples >= 1e3", "a whole number from 1"),
        ("acuracy@ep=0.5 >= 0.9", "did you mean 'accuracy'"),
        ("accuracy@ep=0.5", "a check such as"),
        ("", "a check such as"),
    ],
)
def test_a_check_that_cannot_be_read_says_what_would_be(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        parse_check(text)
    assert "; write " in str(caught.value) or "write a check such as '" in str(caught.value)


def test_points_are_those_that_checks_name() -> None:
    texts = ("drop@ep=0.6 <= 0.1", "accuracy@ep=0.2 >= 0.1", "area >= 0.1", "accuracy@signal=1 >= 0.1", "draws >= 1")
    lit = ("accuracy@exposure=120 lx >= 0.1", "accuracy@exposure=0.1 >= 0.1")
    found = points_named(map(parse_check, (*texts, *lit)))
    assert found == {"eps": (0.2, 0.6), "exposures": (0.1, "120 lx"), "signals": (1.0,)}


def test_settings_come_from_the_first_file_that_has_them(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.other]\nx = 1\n[tool.robustcheck.gate]\nchecks = ["draws >= 5"]\nbaseline = "old/b.json"\n'
    )
    found = load_gate(folder=tmp_path)
    assert found.path == tmp_path / "pyproject.toml"
    assert found.settings == GateSettings(checks=("draws >= 5",), baseline=tmp_path / "old/b.json")
    (tmp_path / "robustcheck.toml").write_text('[gate]\nchecks = ["seeds >= 2"]\nalpha = 0.01\nsensors = ["adc"]\n')
    found = load_gate(folder=tmp_path)
    assert found.settings == GateSettings(checks=("seeds >= 2",), alpha=0.01, sensors=("adc",))
    assert load_gate(tmp_path / "pyproject.toml").settings.checks == ("draws >= 5",)
    typed = settings_of(found, checks=("samples >= 1",), baseline=Path("b.json"), inconclusive=None)
    assert typed == GateSettings(checks=("samples >= 1",), alpha=0.01, sensors=("adc",), baseline=Path("b.json"))


def test_a_file_without_a_gate_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "robustcheck.toml").write_text("")
    assert load_gate(folder=tmp_path).settings is None
    with pytest.raises(UsageError, match="expected checks, got none"):
        settings_of(load_gate(folder=tmp_path))
    (tmp_path / "pyproject.toml").write_text('[tool.robustcheck.gate]\nchecks = ["draws >= 5"]\n')
    assert load_gate(folder=tmp_path).path == tmp_path / "pyproject.toml"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('[gate]\nalpha = 0.1\nchecks = ["draws >= 5",\n "foo >= 1"]\n', 3, "number 2: unknown check 'foo'"),
        ('[gate]\nchecks = ["draws >= 5"]\nalpa = 0.1\n', 3, "did you mean 'alpha'"),
        ('[gate]\nchecks = ["draws >= 5"]\nalpha = 0.5\n', 3, "below 0.5"),
        ("[gate]\nchecks = []\n", 2, "1 to 200 values"),
        ('[gate]\nchecks = ["draws >= 5"]\ninconclusive = "maybe"\n', 3, "'inconclusive', 'pass' or 'fail'"),
        ('[gates]\nchecks = ["draws >= 5"]\n', 1, "did you mean 'gate'"),
        ('[gate]\nchecks = ["draws >= 5"]\n[study]\nkind = "audit"\n', 3, "models"),
    ],
)
def test_an_error_in_a_file_names_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    (tmp_path / "robustcheck.toml").write_text(text)
    with pytest.raises(FileFormatError) as caught:
        load_gate(folder=tmp_path)
    assert f"robustcheck.toml, line {line}: " in str(caught.value)
    assert said in str(caught.value)


def test_a_study_without_points_is_read_where_the_checks_ask(tmp_path: Path) -> None:
    study = '[study]\nkind = "audit"\nmodels = [{spec = "digits-convnet"}]\ndata = {spec = "digits"}\n'
    study += 'sensors = [{spec = "adc-4bit"}]\n'
    gate = '[gate]\nchecks = ["accuracy@ep=0.5 >= 0.9", "drop@ep=0.3 <= 0.1"]\n'
    (tmp_path / "robustcheck.toml").write_text(study + gate)
    assert load_gate(folder=tmp_path).study.eps == (0.3, 0.5)
    (tmp_path / "robustcheck.toml").write_text(study + "eps = [0.7]\n" + gate)
    assert load_gate(folder=tmp_path).study.eps == (0.7,)


def test_the_bounds_of_one_draw_are_those_of_clopper_and_pearson(a_report: Build) -> None:
    report = a_report({0.5: [wrong(0.1, draws=1)]})
    settings = GateSettings(checks=("accuracy@ep=0.5 >= 0.9", "accuracy@clean >= 0.9"), alpha=0.1)
    found = judge(report, settings).judgements[0]
    test = stats.binomtest(360, 400)
    assert found.value == 0.9
    assert found.lower == pytest.approx(test.proportion_ci(1 - 2 * 0.1, method="exact").low)
    # Two judgements have bounds, so that each may fail at half of alpha.
    assert found.upper == pytest.approx(test.proportion_ci(1 - 2 * 0.1 / 2, method="exact").high)
    # A count has none, and takes no part of it.
    counted = judge(report, GateSettings(checks=("accuracy@ep=0.5 >= 0.9", "samples >= 1"), alpha=0.1))
    assert counted.judgements[0].upper == pytest.approx(test.proportion_ci(1 - 2 * 0.1, method="exact").high)
    assert judge(report, settings, alpha=0.02).judgements[0].lower == pytest.approx(
        test.proportion_ci(1 - 2 * 0.02, method="exact").low
    )


def test_an_area_and_a_drop_are_measured_sample_by_sample(a_report: Build) -> None:
    report = a_report({0.2: [wrong(0.05)], 0.4: [wrong(0.1)], 0.8: [wrong(0.5, turn=7)]})
    settings = GateSettings(checks=("area >= 0.5", "drop@ep=0.4 <= 0.5"))
    area, drop = judge(report, settings).judgements
    assert area.value == pytest.approx((0.2 * (0.95 + 0.9) / 2 + 0.4 * (0.9 + 0.5) / 2) / 0.6)
    assert drop.value == pytest.approx(0.08)
    # Nothing is gained, so the drop is a proportion of the samples, 32 of 400, and not two accuracies.
    exact = stats.binomtest(32, SAMPLES).proportion_ci(0.9, method="exact")
    assert drop.upper == pytest.approx(exact.high)
    assert area.subject.point == "area"


def test_a_regression_is_paired_where_samples_and_seeds_are_the_same(a_report: Build) -> None:
    settings = GateSettings(checks=("regression@ep=0.5 <= 0.05",))
    before = a_report({0.5: [wrong(0.20, turn=3)]}, cell="b")
    paired = only(judge(a_report({0.5: [wrong(0.22, turn=3)]}), settings, before))
    other_samples = only(judge(a_report({0.5: [wrong(0.22, turn=3)]}, ids=5), settings, before))
    assert (paired.value, other_samples.value) == pytest.approx((0.02, 0.02))
    assert paired.outcome == "pass"
    assert (
        " loses 2.0 points against the baseline (at most 3.6 points with 95 % confidence), at most 5 points asked for"
        in (paired.sentence)
    )
    assert other_samples.outcome == "inconclusive"
    assert "loses 2.0 points against the baseline on different test samples (" in other_samples.sentence
    normal = stats.norm.isf(0.05) * np.sqrt((0.2 * 0.8 + 0.22 * 0.78) / SAMPLES)
    assert other_samples.upper - other_samples.value == pytest.approx(normal, rel=0.1)


def test_an_unpaired_bound_takes_each_accuracy_at_its_far_side(a_report: Build) -> None:
    settings = GateSettings(checks=("regression@ep=0.5 <= 0.5",))
    before, after = a_report({0.5: [wrong(0.2)]}, cell="b"), a_report({0.5: [wrong(0.0)]}, ids=5)
    found = only(judge(after, settings, before))
    old, new = (stats.binomtest(k, 400).proportion_ci(0.9, method="exact") for k in (320, 400))
    assert found.value == pytest.approx(-0.2)
    assert ": gains 20.0 points against the baseline on" in found.sentence
    assert found.upper == pytest.approx(-0.2 + np.hypot(old.high - 0.8, 1 - new.low))
    assert found.lower == pytest.approx(-0.2 - (0.8 - old.low))


def test_the_same_cells_differ_by_exactly_nothing(a_report: Build) -> None:
    report = a_report({0.5: [wrong(0.4)], 0.7: [wrong(0.5)]})
    settings = GateSettings(checks=("regression@ep=0.5 <= 0", "regression@area <= 0"))
    for found in judge(report, settings, report).judgements:
        assert (found.outcome, found.value, found.lower, found.upper) == ("pass", 0, 0, 0)
        assert "the same networks as in the baseline" in found.sentence


def test_a_bound_at_the_threshold_clears_it(a_report: Build) -> None:
    right = combined([(1.0, wrong(0.1), True)])
    for check, bound in (("accuracy@ep=0.5 >= 0.1", "lower"), ("drop@ep=0.5 <= 0.1", "upper")):
        asked = parse_check(check)
        estimate = Estimate((right,), difference=asked.rule == "drop")
        near = getattr(decide(Open(asked, Subject(), estimate), 0.05, 1).judgement, bound)
        found = decide(Open(replace(asked, threshold=near), Subject(), estimate), 0.05, 1).judgement
        assert (getattr(found, bound), found.outcome) == (near, "pass")
        other = "upper" if bound == "lower" else "lower"
        far = getattr(decide(Open(asked, Subject(), estimate), 0.05, 1).judgement, other)
        found = decide(Open(replace(asked, threshold=far), Subject(), estimate), 0.05, 1).judgement
        assert (getattr(found, other), found.outcome) == (far, "inconclusive")


def test_networks_are_the_unit(a_report: Build) -> None:
    spread = [wrong(0.02), wrong(0.1), wrong(0.18)]
    settings = GateSettings(checks=("accuracy@ep=0.5 >= 0.85",))
    assert only(judge(a_report({0.5: spread}), settings)).outcome == "inconclusive"
    assert only(judge(a_report({0.5: [wrong(0.1)] * 3}), settings)).outcome == "pass"


def test_a_single_draw_of_noisy_weights_decides_nothing(a_report: Build) -> None:
    settings = GateSettings(checks=("accuracy@ep=0.5 >= 0.5", "accuracy@clean >= 0.5"))
    noisy, clean = judge(a_report({0.5: [wrong(0.0, draws=1)]}, placement="network"), settings).judgements
    assert (noisy.outcome, noisy.lower, noisy.upper) == ("inconclusive", 0.0, 1.0)
    assert "take more noise draws" in noisy.remedy
    assert clean.outcome == "pass"


def test_what_is_open_names_what_would_decide_it(a_report: Build) -> None:
    rng = np.random.default_rng(0)
    chancy = rng.random((DRAWS, SAMPLES)) < 0.92
    (draws,) = findings(a_report({0.5: [chancy]}), GateSettings(checks=("accuracy@ep=0.5 >= 0.91",)), None, alpha=0.05)
    assert draws.judgement.outcome == "inconclusive"
    assert "more draws would decide it" in draws.judgement.remedy
    assert draws.draws_may_decide
    (samples,) = findings(
        a_report({0.5: [wrong(0.09)]}), GateSettings(checks=("accuracy@ep=0.5 >= 0.9",)), None, alpha=0.05
    )
    assert "only more test samples would: about" in samples.judgement.remedy
    assert not samples.draws_may_decide
    (seeds,) = findings(
        a_report({0.5: [wrong(0.02), wrong(0.1), wrong(0.18)]}),
        GateSettings(checks=("accuracy@ep=0.5 >= 0.85",)), None, alpha=0.05,
    )  # fmt: skip
    assert "only more trained networks would" in seeds.judgement.remedy
    one = a_report({0.5: [wrong(0.1, draws=1)]})
    (unknown,) = findings(one, GateSettings(checks=("accuracy@ep=0.5 >= 0.9",)), None, alpha=0.05)
    assert unknown.draws_may_decide
    decided = findings(one, GateSettings(checks=("accuracy@ep=0.5 >= 0.5", "draws >= 9")), None, alpha=0.05)
    assert not any(each.draws_may_decide for each in decided)


def test_draws_may_decide_where_they_may_move_the_value_past_what_stays() -> None:
    share = wrong(0.1)[0] * 1.0
    measured = Estimate((Scores(share, np.ones(4), np.ones(4), 0.3 * share.var() / SAMPLES),))
    margin = measured.margin("below", 0.05, skewed=True)
    assert margin.chance < margin.samples < margin.chance + 0.012
    for asked, may in ((0.888, True), (0.899, False)):
        check = parse_check(f"accuracy@ep=0.5 >= {asked}")
        assert decide(Open(check, Subject(), measured), 0.05, 1).draws_may_decide is may


def test_one_draw_of_a_baseline_is_no_less_unknown(a_report: Build) -> None:
    before, after = a_report({0.5: [wrong(0.1, draws=1)]}, cell="b"), a_report({0.5: [wrong(0.1)]}, ids=5)
    (found,) = findings(after, GateSettings(checks=("regression@ep=0.5 <= 0.02",)), before, alpha=0.05)
    assert found.judgement.outcome == "inconclusive"
    assert found.draws_may_decide
    assert found.judgement.remedy.startswith("take more noise draws (8, say)")


@pytest.mark.parametrize(("asked", "side", "judged_at"), [(0.89, "low", 0.05), (0.91, "high", 0.05 / 2)])
def test_the_remedy_is_for_the_bound_that_is_in_the_way(
    a_report: Build, asked: float, side: str, judged_at: float
) -> None:
    settings = GateSettings(checks=(f"accuracy@ep=0.5 >= {asked}", "accuracy@clean >= 0.5"))
    found = judge(a_report({0.5: [wrong(0.1)]}), settings).judgements[0]
    exact = stats.binomtest(360, 400).proportion_ci(1 - 2 * judged_at, method="exact")
    wanted = int(np.ceil(400 * (abs(getattr(exact, side) - 0.9) / 0.01) ** 2))
    assert found.remedy.endswith(f"about {wanted:,} in all")


def test_a_baseline_that_was_not_finished_is_an_error(a_report: Build) -> None:
    settings = GateSettings(checks=("regression@ep=0.5 <= 0.5",))
    half = a_report({0.5: [wrong(0.1)]}, seeds=2, cell="b")
    found = only(judge(a_report({0.5: [wrong(0.1)]}), settings, half))
    assert found.outcome == "error"
    assert "the baseline's own run was not finished" in found.sentence


def test_a_baseline_whose_own_cells_failed_is_an_error(a_report: Build) -> None:
    failure = {"cell": "x", "what": "digits-convnet on adc-3bit: rank relu, train EP 0.5, seed 2", "error": "lost"}
    before = a_report({0.5: [wrong(0.1)]}, cell="b", failures=(failure,))
    settings = GateSettings(checks=("regression@ep=0.5 <= 0.5",))
    assert only(judge(a_report({0.5: [wrong(0.1)]}), settings, before)).outcome == "error"


def test_a_baseline_is_of_the_same_points_sensor_and_model(a_report: Build) -> None:
    report = a_report({0.5: [wrong(0.1)], 0.7: [wrong(0.2)]})
    area = GateSettings(checks=("regression@area <= 0.5",))

    def said(before: Report, now: Report = report) -> tuple[str, str]:
        found = only(judge(now, area, before))
        return found.outcome, found.sentence

    other_points = a_report({0.5: [wrong(0.1)], 0.8: [wrong(0.2)]}, cell="b")
    assert said(other_points)[0] == "missing"
    assert "not these operating points" in said(other_points)[1]
    (result,) = report.results
    set_otherwise = result.sensor.model_copy(update={"profile_sha256": "0" * 64})
    other_sensor = report.model_copy(update={"results": (result.model_copy(update={"sensor": set_otherwise}),)})
    assert "not this model, activation and sensor" in said(other_sensor)[1]
    several = report.model_copy(update={"models": (*report.models, report.models[0].model_copy(update={"key": "b"}))})
    assert said(report, several)[0] == "pass"
    named = {"results": (result.model_copy(update={"model": "b"}),)}
    named["training"] = tuple(each.model_copy(update={"model": "b"}) for each in report.training)
    assert "not this model, activation and sensor" in said(several, several.model_copy(update=named))[1]


def test_other_data_with_the_same_sample_ids_are_other_samples(a_report: Build) -> None:
    before, after = a_report({0.5: [wrong(0.1)]}, cell="b"), a_report({0.5: [wrong(0.12)]})
    before = before.model_copy(update={"data": before.data.model_copy(update={"sha256": "0" * 64})})
    found = only(judge(after, GateSettings(checks=("regression@ep=0.5 <= 0.5",)), before))
    assert "on different test samples" in found.sentence


def test_networks_of_other_seeds_are_not_paired(a_report: Build) -> None:
    before, after = a_report({0.5: [wrong(0.1)] * 3}, cell="b"), a_report({0.5: [wrong(0.12)] * 2})
    settings = GateSettings(checks=("regression@ep=0.5 <= 0.5",))
    for one, other, loss in ((before, after, 0.02), (after, before, -0.02)):
        found = only(judge(other, settings, one))
        assert found.value == pytest.approx(loss)
        assert found.upper - found.value > stats.norm.isf(0.05) * np.sqrt(2 * 0.1 * 0.9 / SAMPLES)


def test_only_the_same_networks_behind_the_same_sensor_are_unchanged(a_report: Build) -> None:
    report = a_report({0.5: [wrong(0.1)]})
    settings = GateSettings(checks=("regression@ep=0.5 <= 0.5",))
    other = report.models[0].model_copy(update={"sha256": "0" * 64})
    found = only(judge(report, settings, report.model_copy(update={"models": (other,)})))
    assert "same networks" not in found.sentence
    assert found.upper > 0
    (result,) = report.results
    sensor = result.sensor.model_copy(update={"profile_sha256": "0" * 64})
    here, there = (
        Measure(Outcomes(report), Contestant(each, "relu"), {"ep=0.5": (1.0, True)})
        for each in (result, result.model_copy(update={"sensor": sensor}))
    )
    assert difference(here, here) is None
    assert difference(here, there) is not None


def test_a_baseline_of_other_numerics_is_none(a_report: Build) -> None:
    report = a_report({0.5: [wrong(0.1)]})
    before = report.model_copy(update={"numerics": report.numerics - 1})
    found = only(judge(report, GateSettings(checks=("regression@ep=0.5 <= 0.5",)), before))
    assert found.outcome == "missing"
    assert "numerics" in found.sentence
    assert found.remedy == "delete the baseline and run gate --update-baseline"


def test_a_filter_that_is_a_key_names_no_other(a_report: Build) -> None:
    report = a_report({0.5: [wrong(0.1)]})
    (result,) = report.results
    (cell,) = report.training
    set_otherwise = result.sensor.model_copy(update={"key": "adc-3bit/3 steps"})
    report = report.model_copy(
        update={
            "results": (result.model_copy(update={"sensor": set_otherwise}), result),
            "training": (cell, cell.model_copy(update={"sensor": set_otherwise.key})),
        }
    )
    check = {"checks": ("accuracy@ep=0.5 >= 0.5",)}
    assert len(judge(report, GateSettings(**check)).judgements) == 2
    assert only(judge(report, GateSettings(**check, sensors=("adc-3bit",)))).subject.sensor == "adc-3bit"


def test_filters_leave_what_they_name_and_miss_what_is_not_there(a_report: Build) -> None:
    report = a_report({0.5: [wrong(0.1)]}, activations=("relu", "gelu"))
    check = {"checks": ("accuracy@ep=0.5 >= 0.5",)}
    assert [j.subject.activation for j in judge(report, GateSettings(**check)).judgements] == ["relu", "gelu"]
    found = judge(report, GateSettings(**check, activations=("gelu", "silu"), sensors=("adc-3bit",)))
    assert [(j.outcome, j.subject.activation) for j in found.judgements] == [("missing", ""), ("pass", "gelu")]
    assert "no activation 'silu'" in found.judgements[0].sentence
    assert found.exit_code == 3


def test_a_partial_run_never_looks_complete(a_report: Build) -> None:
    settings = GateSettings(checks=("accuracy@ep=0.5 >= 0.1", "seeds >= 1", "samples >= 1"))
    fewer = judge(a_report({0.5: [wrong(0.1)] * 2}, seeds=3), settings)
    assert [each.outcome for each in fewer.judgements] == ["error", "error", "pass"]
    assert "2 of 3 networks" in fewer.judgements[0].sentence
    holey = judge(a_report({0.5: [wrong(0.1)] * 2, 0.7: [wrong(0.1)]}), settings)
    assert holey.judgements[0].outcome == "error"
    failure = {"cell": "x", "what": "rank gelu, train EP 0.5, seed 2", "error": "<b>lost\x1b[2J"}
    report = a_report({0.5: [wrong(0.1)]}, activations=("relu", "gelu"), failures=(failure,))
    found = {(j.rule, j.subject.activation): j for j in judge(report, settings).judgements}
    assert found["accuracy", "relu"].outcome == "pass"
    assert found["accuracy", "gelu"].outcome == "error"
    assert found["samples", ""].outcome == "error"
    assert "<b>lost\ufffd[2J" in found["accuracy", "gelu"].sentence


@pytest.mark.parametrize(
    ("what", "errors"),
    [
        ("rank gelu, train EP 0.5, seed 2", 2),  # as reports said before they named model and sensor
        ("digits-convnet on adc-3bit: rank gelu, train EP 0.5, seed 2", 1),
        ("digits-convnet on adc-3bit: tune gelu, train EP 0.5, seed 2, lr 0.1", 1),
        ("other on adc-3bit: rank gelu, train EP 0.5, seed 2", 0),
        ("digits-convnet on adc-3bit: rank gelu_tanh, train EP 0.5, seed 2", 0),
    ],
)
def test_a_failure_is_that_of_its_model_and_sensor(a_report: Build, what: str, errors: int) -> None:
    failure = {"cell": "x", "what": what, "error": "lost"}
    report = a_report({0.5: [wrong(0.1)]}, activations=("gelu",), failures=(failure,))
    (result,), (cell,) = report.results, report.training
    other = result.model_copy(update={"sensor": result.sensor.model_copy(update={"key": "adc-9bit"})})
    cells = (cell, cell.model_copy(update={"sensor": "adc-9bit"}))
    report = report.model_copy(update={"results": (other, result), "training": cells})
    found = judge(report, GateSettings(checks=("accuracy@ep=0.5 >= 0.1",))).judgements
    assert [each.outcome for each in found] == [("pass", "error")[errors > 1], ("pass", "error")[errors > 0]]


def test_what_networks_cannot_show_is_said(a_report: Build) -> None:
    report = a_report({0.5: [wrong(0.09), wrong(0.1), wrong(0.11)]})
    settings = GateSettings(checks=("accuracy@ep=0.5 >= 0.8", "accuracy@clean >= 0.5", "seeds >= 3"))
    noisy, clean, seeds = judge(report, settings).judgements
    assert noisy.sentence.endswith(
        "% with 95 % confidence; a failure of one training in 3 may be missing from 3 networks), at least 80 % asked"
        " for: pass."
    )
    assert "a failure of one training in 3 may be missing from 3 networks" in clean.sentence
    assert "missing from" not in seeds.sentence
    against = GateSettings(checks=("regression@ep=0.5 <= 0.5",))
    before = a_report({0.5: [wrong(0.1)] * 3}, cell="b")
    found = only(judge(report, against, before))
    assert "a failure of one training in 3 may be missing from 3 networks" in found.sentence

    def lost(report: Report, seeds: set[int]) -> Report:
        cells = tuple(each.model_copy(update={"converged": each.seed not in seeds}) for each in report.training)
        return report.model_copy(update={"training": cells})

    said = judge(lost(report, {0, 2}), settings).judgements[0].sentence
    assert "95 % confidence; 2 of 3 networks did not converge)" in said
    said = only(judge(lost(report, {1}), against, before)).sentence
    assert "; 1 of 3 networks did not converge)" in said
    alone = lost(a_report({0.5: [wrong(0.1)]}), {0})
    said = judge(alone, settings).judgements[0].sentence
    assert said.endswith("confidence; 1 of 1 network did not converge), at least 80 % asked for: pass.")


def test_draws_are_counted_where_they_are_fewest(a_report: Build) -> None:
    report = a_report({0.3: [wrong(0.1, draws=6)] * 2, 0.5: [wrong(0.1, draws=9), wrong(0.1, draws=5)]})
    found = judge(report, GateSettings(checks=("draws >= 5", "draws >= 6"))).judgements
    assert [(each.value, each.outcome) for each in found] == [(5, "pass"), (5, "fail")]


@pytest.mark.parametrize(
    ("asked", "outcome"), [("0.3", "pass"), ("0.30000000000000004", "pass"), ("0.300001", "missing")]
)
def test_a_point_is_the_same_but_for_the_last_bits(a_report: Build, asked: str, outcome: str) -> None:
    settings = GateSettings(checks=(f"accuracy@ep={asked} >= 0.5",))
    report = a_report({0.3: [wrong(0.1)]})
    assert only(judge(report, settings)).outcome == outcome
    assert only(judge(report, GateSettings(checks=("accuracy@signal=0.3 >= 0.5",)))).outcome == "missing"


def test_a_report_that_contradicts_itself_is_refused(a_report: Build) -> None:
    report = a_report({0.5: [wrong(0.1)]})
    settings = GateSettings(checks=("accuracy@ep=0.5 >= 0.1",))

    def with_prediction(**changed: object) -> Report:
        return report.model_copy(
            update={"predictions": tuple(each.model_copy(update=changed) for each in report.predictions)}
        )

    with pytest.raises(ReportError, match="as its predictions have it"):
        judge(with_prediction(correct=packed(np.packbits(wrong(0.3)))), settings)
    curve = a_report({0.5: [wrong(0.1)], 0.7: [wrong(0.2)]})
    area = curve.results[0].area
    (row,) = area.rows
    area = area.model_copy(update={"rows": (row.model_copy(update={"accuracy": row.accuracy + 1e-5}),)})
    curve = curve.model_copy(update={"results": (curve.results[0].model_copy(update={"area": area}),)})
    with pytest.raises(ReportError, match="as its predictions have it"):
        judge(curve, GateSettings(checks=("area >= 0.1",)))
    with pytest.raises(ReportError, match="packed bytes"):
        judge(with_prediction(correct=packed(np.packbits(wrong(0.1, draws=2)))), settings)
    with pytest.raises(ReportError, match="packed b"):
        judge(with_prediction(correct="no base64!"), settings)
    with pytest.raises(ReportError, match="outcomes"):
        judge(with_prediction(draws=10**12), settings)
    with pytest.raises(ReportError, match="packed bytes"):
        judge(with_prediction(draws=500_000), settings)


@pytest.mark.parametrize(
    ("check", "sentence"),
    [
        ("accuracy@ep=0.5 >= 0.85", "digits-convnet with relu on adc-3bit at EP 0.5: accuracy 90.0 % "
         "(at least 87.2 % with 95 % confidence), at least 85 % asked for: pass."),
        ("accuracy@clean >= 0.999", "digits-convnet with relu on adc-3bit, clean: accuracy 98.0 % "
         "(at most 99.0 % with 95 % confidence), at least 99.9 % asked for: fail."),
        ("drop@ep=0.5 <= 0.01", "digits-convnet with relu on adc-3bit at EP 0.5: loses 8.0 points against the accuracy "
         "without noise (at least 5.8 points with 95 % confidence), at most 1 point asked for: fail."),
        ("seeds >= 2", "digits-convnet with relu on adc-3bit: 1 trained network, at least 2 asked for: fail."),
        ("accuracy@ep=0.4 >= 0.5", "digits-convnet with relu on adc-3bit: nothing at EP 0.4 in the report, whose "
         "operating points are clean and EP 0.5: missing."),
        ("area >= 0.5", "digits-convnet with relu on adc-3bit: no area in the report, whose operating points are clean "
         "and EP 0.5: missing."),
        ("regression@ep=0.5 <= 0.1", "digits-convnet with relu on adc-3bit at EP 0.5: no baseline to compare with: "
         "missing."),
    ],
)  # fmt: skip
def test_a_judgement_is_one_sentence_with_both_numbers(a_report: Build, check: str, sentence: str) -> None:
    assert only(judge(a_report({0.5: [wrong(0.1)]}), GateSettings(checks=(check,)))).sentence == sentence


def test_of_several_outcomes_the_gravest_counts() -> None:
    gravest_first = ("fail", "error", "missing", "inconclusive", "pass")
    for place, gravest in enumerate(gravest_first):
        found = tuple(
            Judgement("draws", "draws >= 1", Subject(), outcome, 1, 1, None, None, "")
            for outcome in reversed(gravest_first[place:])
        )
        assert Verdict("", "", 0.05, found).outcome == gravest


def test_what_is_open_is_said_with_both_confidences(a_report: Build) -> None:
    settings = GateSettings(checks=("drop@ep=0.5 <= 0.08", "accuracy@ep=0.5 >= 0.9"))
    drop, accuracy = judge(a_report({0.5: [wrong(0.1)]}), settings).judgements
    assert re.search(
        r"at least \S+ points with 97.5 % confidence, at most \S+ points with 95 % confidence", drop.sentence
    )
    assert re.search(r"at least \S+ % with 95 % confidence, at most \S+ % with 97.5 % confidence", accuracy.sentence)


def test_no_bound_is_rounded_to_the_threshold_that_it_misses() -> None:
    check, subject = parse_check("accuracy@ep=0.5 >= 0.9"), Subject("net", "", "", "adc", "EP 0.5")
    said = decided(check, subject, "inconclusive", 0.92, (0.89996, 0.95), (0.05, 0.05))
    assert "accuracy 92.000 % (at least 89.996 % with 95 % confidence, at most 95.000 %" in said


# For each rule: wrong shares at EP 0.5 and the check that come out so; a second report's for a regression.
ASKED = {
    ("accuracy", "pass"): "accuracy@ep=0.5 >= 0.8",
    ("accuracy", "fail"): "accuracy@ep=0.5 >= 0.97",
    ("accuracy", "inconclusive"): "accuracy@ep=0.5 >= 0.9",
    ("accuracy", "missing"): "accuracy@ep=0.6 >= 0.9",
    ("area", "pass"): "area >= 0.7",
    ("area", "fail"): "area >= 0.97",
    ("area", "inconclusive"): "area >= 0.85",
    ("drop", "pass"): "drop@ep=0.5 <= 0.2",
    ("drop", "fail"): "drop@ep=0.5 <= 0.01",
    ("drop", "inconclusive"): "drop@ep=0.5 <= 0.08",
    ("drop", "missing"): "drop@ep=0.6 <= 0.9",
    ("regression", "pass"): "regression@ep=0.5 <= 0.2",
    ("regression", "fail"): "regression@ep=0.5 <= 0.01",
    ("regression", "inconclusive"): "regression@area <= 0.05",
    ("regression", "missing"): "regression@ep=0.6 <= 0.9",
    ("samples", "pass"): "samples >= 400",
    ("samples", "fail"): "samples >= 401",
    ("draws", "pass"): "draws >= 4",
    ("draws", "fail"): "draws >= 5",
    ("seeds", "pass"): "seeds >= 1",
    ("seeds", "fail"): "seeds >= 2",
}
CODES = {"pass": 0, "fail": 1, "missing": 3, "error": 3, "inconclusive": 4}
TABLE = [
    (rule, outcome)
    for rule in RULES
    for outcome in CODES
    if (rule, outcome) in ASKED or outcome == "error" or (outcome == "missing" and rule != "samples")
]


@pytest.mark.parametrize(("rule", "outcome"), TABLE, ids=map("-".join, TABLE))
def test_the_truth_table(
    a_report: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str], rule: str, outcome: str
) -> None:
    """Every kind of threshold × everything that can come of it × the exit code; counts are never inconclusive."""
    failure = {"cell": "x", "what": "rank relu, train EP none, seed 1", "error": "diverged"}
    after = a_report({0.5: [wrong(0.1)], 0.7: [wrong(0.2)]}, failures=(failure,) if outcome == "error" else ())
    if outcome == "missing" and rule == "area":
        after = a_report({0.5: [wrong(0.1)]})
    (tmp_path / "report.json").write_text(after.to_json())
    before = a_report({0.5: [wrong(0.05)], 0.7: [wrong(0.15, turn=0)]}, cell="b")
    (tmp_path / "before.json").write_text(before.to_json())
    check = ASKED.get((rule, outcome)) or ASKED[rule, "pass"]
    if rule in ("draws", "seeds") and outcome == "missing":
        (tmp_path / "gate.toml").write_text(f'[gate]\nchecks = ["{check}"]\nsensors = ["adc-9bit"]\n')
    else:
        (tmp_path / "gate.toml").write_text(f'[gate]\nchecks = ["{check}"]\n')
    arguments = ["gate", str(tmp_path / "report.json"), "--config", str(tmp_path / "gate.toml")]
    arguments += ["--baseline", str(tmp_path / "before.json")]
    assert main([*arguments, "--json"]) == CODES[outcome]
    document = json.loads(capsys.readouterr().out)
    assert document["outcome"] == outcome
    assert [each["outcome"] for each in document["judgements"]] == [outcome]
    assert (document["judgements"][0]["remedy"] == "") == (outcome == "pass")
    assert main(arguments) == CODES[outcome]
    printed = capsys.readouterr().out
    assert printed.startswith(outcome)
    assert f"gate: {outcome} (1 check: 1 {outcome}, exit code {CODES[outcome]})" in printed
    for told in ("pass", "fail"):
        counts_as = told if outcome == "inconclusive" else outcome
        assert main([*arguments, "--inconclusive", told]) == CODES[counts_as]
        assert f"gate: {counts_as} (1 check" in capsys.readouterr().out


def test_a_pipe_gets_whole_lines(a_report: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.json").write_text("\ufeff" + a_report({0.5: [wrong(0.1)]}).to_json(), encoding="utf-8")
    assert main(["gate", str(tmp_path / "report.json"), "--check", "accuracy@ep=0.5 >= 0.9"]) == 4
    judged, remedy, summary = capsys.readouterr().out.splitlines()
    assert judged.endswith("at least 90 % asked for")
    assert remedy.startswith(" " * len("inconclusive  ") + "What was measured is")
    assert all(line == line.rstrip() for line in (judged, remedy, summary))


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_a_reader_that_leaves_changes_no_exit_code(a_report: Build, tmp_path: Path, form: list[str]) -> None:
    (tmp_path / "report.json").write_text(a_report({0.5: [wrong(0.1)]}).to_json())

    def code_of(*arguments: str) -> int:
        reading, writing = os.pipe()
        os.close(reading)
        run = [sys.executable, "-c", "from robustcheck.cli.main import run; run()", *arguments]
        done = subprocess.run(run, stdout=writing, stderr=subprocess.PIPE, text=True)
        os.close(writing)
        assert done.stderr == ""
        return done.returncode

    report = str(tmp_path / "report.json")
    for asked, code in (("0.8", 0), ("0.99", 1), ("0.9", 4)):
        assert code_of("gate", report, "--check", f"accuracy@ep=0.5 >= {asked}", *form) == code
    assert code_of("activations", "list", *form) == 141


def test_hostile_names_are_printed_as_text(a_report: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "[red]<script>alert(1)</script>\x1b[2J"
    (tmp_path / "report.json").write_text(a_report({0.5: [wrong(0.1)]}, activations=(name,)).to_json())
    assert main(["gate", str(tmp_path / "report.json"), "--check", "accuracy@ep=0.5 >= 0.5"]) == 0
    printed = "".join(capsys.readouterr().out.split())
    assert "with[red]<script>alert(1)</script>\ufffd[2Jon" in printed
    assert "\x1b" not in printed
