"""What changed between two reports: numbers against closed forms, error rates by simulation, words by hand."""

import base64
import io
import json
import re
import tracemalloc
import zlib

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import beta, t

from robustcheck.errors import ReportError
from robustcheck.reporting.changes import compare_reports
from robustcheck.reporting.changes_text import print_changes, summary, to_json, to_markdown
from robustcheck.reporting.outcomes import Contestant, Measure, Outcomes, area_weights, difference
from robustcheck.reporting.report import OperatingPoint, Report

SAMPLES = 200
HOSTILE = "<script>alert(1)</script>|\x1b[2J"


def packed(array):
    return base64.b64encode(zlib.compress(array.tobytes())).decode()


def right(wrong, samples=SAMPLES):
    """(1, samples): all right but the first few."""
    return (np.arange(samples) >= wrong)[None]


def clopper_pearson(successes, trials, alpha):
    """The one-sided lower bound."""
    return beta.ppf(alpha, successes, trials - successes + 1) if successes else 0.0


@pytest.fixture
def outcome_report(build_report):
    """Makes a report of one model on adc-3bit whose accuracies are those of given outcomes.

    `outcomes`: EP -> one array (draws, samples) a seed, of each activation where several are named.
    """

    def build(outcomes, *, cell="a", names=("relu",), model="net", ids=0, **changed):
        document = build_report("audit", eps=tuple(outcomes), activations=("relu",)).model_dump(mode="json")
        seeds = len(next(iter(outcomes.values())))
        samples = next(iter(outcomes.values()))[0].shape[1]
        document |= {"kind": "compare", "seeds": seeds, "training": [], "predictions": []}
        document["sample_ids"] = packed(np.arange(ids, ids + samples, dtype="<i8"))
        document["data"]["counts"]["test"] = samples
        document["models"][0]["key"] = document["results"][0]["model"] = model
        document["activations"] = [document["activations"][0] | {"spec": name} for name in names]
        result = document["results"][0]
        result["points"] = [each for each in result["points"] if each["point"]["kind"] == "ep"]
        per_seed = {ep: [float(each.mean()) for each in found] for ep, found in outcomes.items()}
        for each, ep in zip(result["points"], outcomes, strict=True):
            each["comparison"] = comparison(names, per_seed[ep])
        if len(outcomes) > 1:
            area = np.trapezoid(list(per_seed.values()), list(outcomes), axis=0) / np.ptp(list(outcomes))
            result["area"] = comparison(names, area.tolist())
        for name in names:
            for seed in range(seeds):
                key = f"{cell}-{name}-{seed}"
                document["training"].append(training(result, key, name, seed))
                for ep, found in outcomes.items():
                    bits = packed(np.packbits(found[seed]))
                    document["predictions"].append(
                        {"cell": key, "point": f"ep={ep}", "draws": len(found[seed]), "correct": bits}
                    )
        return Report.model_validate(document).model_copy(update=changed)

    return build


def comparison(names, per_seed):
    row = {"accuracy": float(np.mean(per_seed)), "networks": None, "samples": None, "per_seed": per_seed}
    return {
        "rows": [{"activation": name, **row, "rank": 1, "converged": len(per_seed)} for name in names],
        "pairs": [], "winner": None, "leaders": names, "exact_ties": [], "detectable_difference": None,
        "seeds_needed": None,
    }  # fmt: skip


def training(result, cell, activation, seed):
    return {
        "cell": cell, "model": result["model"], "sensor": result["sensor"]["key"], "activation": activation,
        "seed": seed, "train_ep": "mixed", "learning_rate": None, "epochs": 0, "best_epoch": None, "converged": True,
        "validation_accuracy": None, "train_loss": [], "validation_curve": [],
    }  # fmt: skip


def test_a_loss_has_the_interval_of_clopper_and_pearson(outcome_report):
    changes = compare_reports(outcome_report({0.5: [right(0)]}), outcome_report({0.5: [right(20)]}, cell="b"))
    (found,) = changes.changes
    assert (found.before, found.after, found.difference) == (1.0, 0.9, pytest.approx(-0.1))
    assert found.lower == pytest.approx(clopper_pearson(180, 200, 0.025) - 1)
    lost = 0.1 - clopper_pearson(20, 200, 0.025)
    assert found.upper == pytest.approx(-0.1 + np.hypot(lost, 1 - 0.025 ** (1 / 200)))
    assert found.mark == "worse"
    assert changes.comparisons == 1


def test_a_gain_is_the_loss_turned_round(outcome_report):
    one, other = outcome_report({0.5: [right(4)]}), outcome_report({0.5: [right(24)]}, cell="b")
    (there,), (back,) = compare_reports(one, other).changes, compare_reports(other, one).changes
    assert (there.mark, back.mark) == ("worse", "better")
    assert (back.lower, back.upper) == pytest.approx((-there.upper, -there.lower))
    assert back.difference == pytest.approx(0.1)


def test_all_comparisons_share_the_error_rate(outcome_report):
    eps = (0.2, 0.5, 0.8)
    before = outcome_report({ep: [right(0)] for ep in eps})
    after = outcome_report({ep: [right(20)] for ep in eps}, cell="b")
    changes = compare_reports(before, after)
    assert [each.point for each in changes.changes] == ["EP 0.2", "EP 0.5", "EP 0.8", "area"]
    (result,) = after.results
    clean = result.points[0].model_copy(
        update={"point": OperatingPoint(kind="clean", ep=None, ep_adc=None, sigma=0.0, sigma_steps=0.0)}
    )
    more = after.model_copy(update={"results": (result.model_copy(update={"points": (clean, *result.points)}),)})
    assert [each.point for each in compare_reports(before, more).changes][-1] == "area"
    assert changes.comparisons == 4
    for each in changes.changes:
        assert each.lower == pytest.approx(clopper_pearson(180, 200, 0.025 / 4) - 1)


def test_other_samples_or_seeds_are_not_paired(outcome_report):
    before = outcome_report({0.5: [right(20)]})
    after = outcome_report({0.5: [right(40)]}, cell="b")
    other_data = before.data.model_copy(update={"sha256": "00" * 32})
    paired, *others = (
        compare_reports(before, each).changes[0]
        for each in (
            after,
            outcome_report({0.5: [right(40)]}, cell="b", ids=7),
            after.model_copy(update={"data": other_data}),
            after.model_copy(
                update={"training": tuple(each.model_copy(update={"seed": 5}) for each in after.training)}
            ),
        )
    )
    below = np.hypot(0.8 - clopper_pearson(160, 200, 0.025), 1 - clopper_pearson(20, 200, 0.025) - 0.9)
    above = np.hypot(0.9 - clopper_pearson(180, 200, 0.025), 1 - clopper_pearson(40, 200, 0.025) - 0.8)
    for each in others:
        assert (each.lower, each.upper) == pytest.approx((-0.1 - below, -0.1 + above))
        assert each.upper - each.lower > paired.upper - paired.lower


def test_networks_that_are_the_same_are_unchanged_and_cost_nothing(outcome_report):
    before = outcome_report({0.2: [right(3)], 0.5: [right(20)]})
    assert {each.mark for each in compare_reports(before, before).changes} == {"unchanged"}
    again = outcome_report({0.2: [right(3)], 0.5: [right(30)]})
    changes = compare_reports(before, again)
    same, moved, area = changes.changes
    assert (same.mark, same.difference, same.lower, same.upper) == ("unchanged", 0.0, 0.0, 0.0)
    assert moved.difference == pytest.approx(-0.05)
    assert moved.lower == pytest.approx(
        -0.05 - np.hypot(0.95 - clopper_pearson(190, 200, 0.0125), 0), abs=1e-12
    )  # the same cells with other outcomes, as another machine may give them
    assert area.mark != "unchanged"
    assert changes.comparisons == 2
    other = outcome_report({0.2: [right(3)], 0.5: [right(20)]}, cell="b")
    assert {each.mark for each in compare_reports(before, other).changes} == {"within noise"}


def test_one_network_of_two_that_is_the_same_is_no_reason_to_look_away(outcome_report):
    before = outcome_report({0.5: [right(0), right(0)]})
    after = outcome_report({0.5: [right(0), right(80)]})
    (found,) = compare_reports(before, after).changes
    assert found.mark != "unchanged"
    assert found.difference == pytest.approx(-0.2)
    assert found.lower < -0.2 < found.upper


def test_an_untrained_network_is_known_by_its_model(outcome_report):
    def untrained(cell, sha256="cd" * 32):
        report = outcome_report({0.5: [right(20)]}, cell=cell)
        networks = tuple(each.model_copy(update={"train_ep": "none"}) for each in report.training)
        models = (report.models[0].model_copy(update={"sha256": sha256}),)
        return report.model_copy(update={"training": networks, "models": models})

    def mark(after):
        return compare_reports(untrained("a"), after).changes[0].mark

    assert mark(untrained("b")) == "unchanged"
    assert mark(untrained("b", "11" * 32)) == "within noise"
    after = untrained("b")
    (result,) = after.results
    sensor = result.sensor.model_copy(update={"noise": "uniform"})
    assert mark(after.model_copy(update={"results": (result.model_copy(update={"sensor": sensor}),)})) == "within noise"


def test_several_networks_differ_as_students_t_says(outcome_report):
    before = outcome_report({0.5: [right(20), right(22), right(24)]})
    after = outcome_report({0.5: [right(30), right(20), right(40)]}, cell="b")
    (found,) = compare_reports(before, after).changes
    assert found.difference == pytest.approx(-8 / 200)
    # Networks differ by −10, +2 and −16 samples: t at two degrees of freedom alone covers 0.
    assert found.lower < -8 / 200 - 4.3 * np.std([10, -2, 16], ddof=1) / 200 / 3**0.5
    assert found.mark == "within noise"


def test_where_nothing_changed_hardly_anything_is_said_to_have(outcome_report):
    rng = np.random.default_rng(5)
    repetitions, false = 300, 0
    for _ in range(repetitions):
        chance = rng.beta(3, 1, SAMPLES)
        before, after = (
            outcome_report({ep: [rng.random((3, SAMPLES)) < chance] for ep in (0.2, 0.5, 0.8)}, cell=cell)
            for cell in "ab"
        )
        false += any(each.mark in ("better", "worse") for each in compare_reports(before, after).changes)
    assert false / repetitions <= 0.05 + 3 * (0.05 * 0.95 / repetitions) ** 0.5


def test_what_is_in_one_only_is_said(outcome_report):
    before = outcome_report({0.2: [right(3)], 0.5: [right(9)]}, names=("relu", "gelu"))
    after = outcome_report({0.2: [right(3)], 0.8: [right(9)]}, names=("relu", "silu"), cell="b")
    changes = compare_reports(before, after)
    assert [(each.activation, each.point) for each in changes.changes] == [("relu", "EP 0.2")]
    assert changes.only_before == ("activation gelu", "EP 0.5 and area of net on adc-3bit (7 steps, 3 bits)")
    assert changes.only_after == ("activation silu", "EP 0.8 and area of net on adc-3bit (7 steps, 3 bits)")
    (result,) = after.results
    sensor = result.sensor.model_copy(update={"key": "adc-9bit", "steps": 511, "bits": 9.0})
    moved = after.model_copy(update={"results": (result.model_copy(update={"sensor": sensor}),)})
    changes = compare_reports(before, moved)
    assert changes.changes == ()
    assert changes.only_after == ("net on adc-9bit (511 steps, 9 bits)", "activation silu")
    assert summary(changes) == "The reports have no accuracy in common."
    row = result.points[0].comparison.rows[0]
    lacking = result.points[0].comparison.model_copy(update={"rows": (row.model_copy(update={"activation": "silu"}),)})
    points = (result.points[0].model_copy(update={"comparison": lacking}), *result.points[1:])
    without = after.model_copy(update={"results": (result.model_copy(update={"points": points}),)})
    assert "relu at EP 0.2 of net on adc-3bit (7 steps, 3 bits)" in compare_reports(after, without).only_before


def test_a_sole_model_may_have_another_name(outcome_report):
    before = outcome_report({0.5: [right(3)]}, model="net-1")
    after = outcome_report({0.5: [right(9)]}, model="net-2", cell="b")
    assert [each.model for each in compare_reports(before, after).changes] == ["net-1"]
    two = after.model_copy(update={"models": after.models * 2})
    assert compare_reports(before, two).only_before == ("net-1 on adc-3bit (7 steps, 3 bits)",)


def test_studies_are_told_apart_field_by_field(outcome_report):
    before = outcome_report({0.5: [right(3)]}, provenance={"cells": [{"torch": "2.1", "python": "3.11"}], "seconds": 1})
    (result,) = before.results
    sensor = result.sensor.model_copy(update={"noise": "uniform", "profile_sha256": "11" * 32})
    after = before.model_copy(
        update={
            "data": before.data.model_copy(update={"sha256": "22" * 32, "counts": {"test": SAMPLES}}),
            "models": (before.models[0].model_copy(update={"sha256": "33" * 32}),),
            "results": (result.model_copy(update={"sensor": sensor}),),
            "policy": {"mode": "scratch", "epochs": 9},
            "draws": 6,
            "numerics": 2,
            "provenance": {"cells": [{"torch": "2.2", "python": "3.11"}], "seconds": 2},
        }
    )
    assert compare_reports(before, after).studies == (
        "data, sha256: efefefefefef → 222222222222",
        "data, counts, train: 1077 → none",
        "data, counts, validation: 360 → none",
        "draws: 4 → 6",
        "policy, mode: none → scratch",
        "policy, epochs: none → 9",
        "numerics: 1 → 2",
        "version, torch: 2.1 → 2.2",
        "model net, sha256: cdcdcdcdcdcd → 333333333333",
        "sensor adc-3bit, profile_sha256: 5e5e5e5e5e5e → 111111111111",
        "sensor adc-3bit, noise: gaussian → uniform",
    )
    assert compare_reports(before, before).studies == ()
    for cells in (5, [{"torch": {"a": 1}}, 7], {"torch": "2.2"}):
        strange = before.model_copy(update={"provenance": {"cells": cells}})
        assert compare_reports(strange, before.model_copy(update={"provenance": {}})).studies == ()


def test_without_predictions_there_is_no_interval(outcome_report):
    before = outcome_report({0.5: [right(3)]})
    after = outcome_report({0.5: [right(9)]}, cell="b", predictions=())
    (found,) = compare_reports(before, after).changes
    assert (found.mark, found.lower, found.upper) == ("no interval", None, None)
    assert found.difference == pytest.approx(-6 / 200)
    empty = [each.model_copy(update={"predictions": (), "training": (), "seeds": 0}) for each in (before, before)]
    assert compare_reports(*empty).changes[0].mark == "no interval"
    changes = compare_reports(before, after)
    assert "No interval" in to_markdown(changes)
    assert json.loads(to_json(changes))["changes"][0]["lower"] is None


def test_a_report_that_contradicts_itself_is_an_error(outcome_report):
    before = outcome_report({0.5: [right(3)]})
    after = outcome_report({0.5: [right(9)]}, cell="b")
    lying = after.model_copy(update={"results": outcome_report({0.5: [right(4)]}).results})
    with pytest.raises(ReportError, match="make the reports again"):
        compare_reports(before, lying)


def test_a_hostile_report_costs_no_memory(outcome_report):
    before, after = outcome_report({0.5: [right(3)]}), outcome_report({0.5: [right(9)]}, cell="b")
    bomb = after.predictions[0].model_copy(update={"correct": packed(np.zeros(10**7, np.uint8))})
    tracemalloc.start()
    try:
        with pytest.raises(ReportError, match="packed bytes"):
            compare_reports(before, after.model_copy(update={"predictions": (bomb,)}))
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()
    many = before.data.model_copy(update={"counts": {"test": 10**30}})
    with pytest.raises(ReportError, match="packed bytes"):
        compare_reports(*(each.model_copy(update={"data": many}) for each in (before, after)))


def test_draws_that_samples_share_are_clusters(outcome_report):
    outcomes = {0.5: [np.concatenate([right(wrong) for wrong in (10, 20, 30)])]}
    before, after = outcome_report({0.5: [np.tile(right(3), (3, 1))]}), outcome_report(outcomes, cell="b")
    narrow = compare_reports(before, after).changes[0]
    wide = [
        compare_reports(*pair).changes[0]
        for pair in ((inside(before), inside(after)), (before, inside(after)), (inside(before), after))
    ]
    part = t.ppf(0.975, 2) * np.std([7, 17, 27], ddof=1) / 200 / 3**0.5
    for each in wide:
        assert each.upper - each.difference == pytest.approx(
            np.hypot(narrow.upper - narrow.difference, part), rel=0.001
        )
        # More may be lost than Student's t has it: what is lost is near 0, where it spreads unevenly.
        assert each.difference - each.lower > np.hypot(narrow.difference - narrow.lower, part)


def inside(report):
    """The report with the noise throughout the network."""
    (result,) = report.results
    sensor = result.sensor.model_copy(update={"placement": "network"})
    return report.model_copy(update={"results": (result.model_copy(update={"sensor": sensor}),)})


def test_areas_are_over_the_logarithm_of_exposures(build_report):
    (result,) = build_report(sensor_kind="camera").results
    exposures = sorted(each.point.exposure for each in result.points if each.point.kind == "exposure")
    found = area_weights(result)
    for index, exposure in enumerate(exposures):
        one = np.trapezoid(np.eye(len(exposures))[index], np.log(exposures)) / np.ptp(np.log(exposures))
        assert found[f"exposure={exposure}"] == (pytest.approx(one), True)


def test_the_same_networks_under_other_weights_are_not_the_same(outcome_report):
    report = outcome_report({0.2: [right(0)], 0.8: [right(20)]})
    outcomes, contestant = Outcomes(report), Contestant(report.results[0], "relu")
    one, other = (
        Measure(outcomes, contestant, {"ep=0.2": (weight, True), "ep=0.8": (1 - weight, True)})
        for weight in (0.5, 0.25)
    )
    assert difference(one, one) is None
    assert difference(one, other).value == pytest.approx(0.25 * 0.1)


def printed(changes, width=80, encoding="utf-8", **options):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="")
    print_changes(changes, Console(file=file, width=width, **options))
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.fixture
def hostile(outcome_report):
    names = ("relu", HOSTILE)
    before = outcome_report({0.2: [right(3)], 0.5: [right(9)]}, names=names, model=HOSTILE, title=HOSTILE)
    after = outcome_report({0.2: [right(3)], 0.5: [right(60)]}, names=names, model=HOSTILE, policy={HOSTILE: "x"})
    return compare_reports(before, after)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_terminal_shows_every_number_and_fits(hostile, width):
    text = printed(hostile, width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    for shown in ("95.5", "70.0", "−25.5", "unchanged", "worse", "Of 6 accuracies in both reports: 4 worse and 2"):
        assert shown in " ".join(text.split())
    assert re.search(r" 0\.0 +0\.0 to 0\.0 +unchanged *$", text, flags=re.M)
    assert "\x1b[2J" not in printed(hostile, width, force_terminal=True)
    assert "95.5" in printed(hostile, encoding="ascii")


def test_no_format_lets_a_name_through(hostile):
    text = to_markdown(hostile)
    assert "<script>" not in text
    assert "\x1b" not in text
    assert text.count("&lt;script&gt;") > 4
    rows = [line for line in text.splitlines() if line.startswith("| ") and "95 %" not in line]
    assert {line.replace("\\|", "").count("|") for line in rows} == {7}
    document = json.loads(to_json(hostile))
    assert document["changes"][0]["model"] == HOSTILE
    assert "\x1b" not in to_json(hostile)
    assert document["comparisons"] == 4
