"""The sentences say what the comparison allows, and no more."""

import itertools
import re

import pytest

from robustcheck.reporting.summary import passages, summary
from robustcheck.reporting.verdict import difference_from, power, verdict


def section(report, heading):
    return " ".join(next(each.sentences for each in passages(report) if each.heading == heading))


def test_a_winner_is_named_only_where_it_wins(build_report):
    report = build_report(activations=("relu", "gelu"), diverge=False)
    answer = section(report, "The answer")
    won = {each.point.ep for each in report.results[0].points if each.comparison.winner == "gelu" and each.point.ep}
    assert won
    assert won != {0.2, 0.4, 0.6, 0.8}
    said = re.search(r"gelu wins at EP ([^:]*):", answer)[1]
    assert {float(each) for each in re.findall(r"0\.\d", said)} == won
    assert "no significant winner" in answer


def test_ties_are_never_called_best(compare_report, audit_report, build_report):
    for report in (compare_report, audit_report, build_report(diverge=False), build_report(seeds=1)):
        assert not re.search(r"\bbest\b", " ".join(summary(report)))


def test_gap_to_the_current_activation_has_its_interval(build_report):
    report = build_report(diverge=False)
    point = next(each for each in report.results[0].points if each.point.ep == 0.8)
    top = point.comparison.rows[0]
    relu = next(row for row in point.comparison.rows if row.activation == "relu")
    pair = next(p for p in point.comparison.pairs if {p.a, p.b} == {"relu", top.activation})
    gap = 100 * (top.accuracy - relu.accuracy)
    lower, upper = sorted((abs(100 * pair.lower), abs(100 * pair.upper)))
    interval = f"(interval for all pairs at once: {lower:.1f} to {upper:.1f})"
    expected = f"{gap:.1f} points {interval} below {top.activation} at EP 0.8."
    assert expected in section(report, "The answer")


def test_pairs_read_the_same_both_ways(compare_report):
    comparison = compare_report.results[0].points[0].comparison
    pair = comparison.pairs[0]
    turned = difference_from(comparison, pair.b, pair.a)
    assert (turned.difference, turned.lower, turned.upper) == (-pair.difference, -pair.upper, -pair.lower)
    assert turned.significant == pair.significant
    assert difference_from(comparison, pair.a, pair.a) is None


def test_what_could_have_been_seen_is_said(compare_report):
    text = section(compare_report, "How sure this is")
    sizes = [100 * p.comparison.detectable_difference for p in compare_report.results[0].points if p.point.ep]
    assert f"a difference of {min(sizes):.1f} to {max(sizes):.1f} points" in text
    assert "The unit is the trained network" in text
    assert "Ranks are by test accuracy and therefore descriptive" in text
    assert "not converged: 1 of aptx" in text


def test_means_that_mix_networks_which_learnt_with_others_are_pointed_out(build_report):
    report = build_report(seeds=5)
    assert "At every EP only 4 of 5 networks with aptx learnt, the others stayed" in section(report, "The answer")

    def partly(each):
        shares = {"gelu": 3, "relu": 0} if each.point.ep == 0.8 else {}
        rows = tuple(
            row.model_copy(update={"converged": shares.get(row.activation, 5)}) for row in each.comparison.rows
        )
        return each.model_copy(update={"comparison": each.comparison.model_copy(update={"rows": rows})})

    results = tuple(each.model_copy(update={"points": tuple(map(partly, each.points))}) for each in report.results)
    text = section(report.model_copy(update={"results": results}), "The answer")
    assert text.count("learnt") == 1
    assert "At EP 0.8 only 3 of 5 networks with gelu learnt, the others stayed at chance on validation: means" in text


def test_learning_rates_at_the_edge_of_the_grid_are_named(compare_report):
    grid = {trial.learning_rate for trial in compare_report.tuning[0].trials}
    edge = [each.activation for each in compare_report.tuning if each.chosen in (min(grid), max(grid))]
    assert edge
    sentence = next(each for each in summary(compare_report) if each.startswith("At the edge of the grid"))
    assert all(name in sentence for name in edge)
    assert "relu," not in sentence


def test_a_fixed_learning_rate_is_admitted(compare_report):
    alike = tuple(each.model_copy(update={"chosen": 0.003}) for each in compare_report.tuning)
    text = section(compare_report.model_copy(update={"tuning": alike}), "How sure this is")
    assert ": 0.003 for every one." in text
    fixed = tuple(each.model_copy(update={"trials": (), "chosen": 0.002}) for each in compare_report.tuning)
    text = section(compare_report.model_copy(update={"tuning": fixed}), "How sure this is")
    assert "not tuned but fixed at 0.002" in text


def test_choice_rests_on_validation(compare_report):
    means = {}
    for cell in compare_report.training:
        means.setdefault(cell.activation, []).append(cell.validation_accuracy)
    first = max(means, key=lambda name: sum(means[name]))
    assert f"which is what a choice may rest on: {first} (" in section(compare_report, "What to do")


def test_one_seed_says_nothing_about_winners(build_report):
    report = build_report(seeds=1)
    assert "No winner can be named" in section(report, "The answer")
    assert "--seeds 5" in section(report, "What to do")


@pytest.mark.parametrize(
    ("winner", "leaders", "expected"),
    [
        ("gelu", ("gelu",), "gelu wins: significantly better than each of the other 5."),
        (None, ("gelu", "silu"), "No significant winner: gelu and silu are tied for the lead."),
        (
            None,
            ("relu", "leaky_relu", "gelu", "silu", "mish", "aptx"),
            "No significant winner: all 6 activations are tied.",
        ),
    ],
)
def test_verdict(compare_report, winner, leaders, expected):
    comparison = compare_report.results[0].points[0].comparison
    assert verdict(comparison.model_copy(update={"winner": winner, "leaders": leaders})) == expected


def test_several_results_are_told_apart(build_report):
    answers = next(
        each for each in passages(build_report(bits=(2, 4), seeds=3)) if each.heading == "The answer"
    ).sentences
    assert [each.split(":")[0] for each in answers] == ["adc-2bit (3 steps, 2 bits)", "adc-4bit (15 steps, 4 bits)"]


def test_failures_ask_for_another_run(compare_report):
    from robustcheck.reporting.report import Failure

    failed = compare_report.model_copy(update={"failures": (Failure(cell="0", what="gelu", error="no memory"),)})
    assert "1 cell could not be finished" in section(failed, "What to do")


def test_empty_results_still_make_a_summary(compare_report):
    nothing = compare_report.results[0].model_copy(update={"points": (), "area": None})
    assert summary(compare_report.model_copy(update={"results": (nothing,), "training": (), "tuning": ()}))


@pytest.mark.parametrize("kind", ["audit", "compare"])
def test_a_precision_is_answered_beside_the_error_of_the_test_set(build_report, kind):
    report = build_report(kind, precision=0.005)
    text = section(report, "How sure this is")
    assert "the draw error of each accuracy is at most ± 0.5 points; the largest is ± 0.45 points" in text
    assert "More draws would hardly help: 360 test samples alone leave ± 2.6 to 3.1 points, whatever the draws." in text
    draws = "5 noise draws" if kind == "audit" else "5 to 59 noise draws"
    assert f"with {draws} a sample" in section(report, "What was tested")
    assert "draw error" not in " ".join(summary(build_report(kind)))


def test_a_precision_that_was_not_reached_is_said_with_its_places(build_report):
    text = section(build_report(precision=0.005, reached=False, eps=(0.2, 0.5)), "How sure this is")
    assert "not reached everywhere: EP 0.2: ± 1.5 points after 5 to 59 noise draws; EP 0.5: ± 1.5 points" in text
    assert "More draws than that are kept only where --draws asks for them" in text


def test_where_draws_are_the_larger_error_more_of_them_are_not_called_useless(build_report):
    text = section(build_report(precision=0.04), "How sure this is")
    assert "Beside that, 360 test samples alone leave ± 2.6 to 3.1 points" in text
    assert "hardly help" not in text


def answer(build_report, kind="compare", **options):
    report = build_report(kind, diverge=False, **options)
    return report, section(report, "The answer")


def test_a_camera_is_spoken_of_by_exposure_from_bright_to_dark(build_report):
    report, text = answer(build_report, sensor_kind="camera")
    assert "at exposure 0.5, 0.1057, 0.02236, 0.00473 and 0.001." in section(report, "What was tested")
    assert "on camera-imx477 (12 bits), the camera's own noise," in section(report, "What was tested")
    assert re.search(r"points \(interval [^()]*\) below \w+ at exposure 0\.001\.", text)
    assert "By area under the accuracy–exposure curve (over log exposure): " in text
    assert "for all pairs at one exposure, not across exposures" in section(report, "How sure this is")
    assert "depending on the exposure, is detected" in section(report, "How sure this is")
    assert "(trained over mixed exposures: " in section(report, "What to do")
    assert "EP" not in " ".join(summary(report))


def test_an_ep_that_a_camera_was_asked_for_stands_beside_its_exposure(build_report):
    report, text = answer(build_report, sensor_kind="camera", by_ep=True, exposures=(0.1, 0.001))
    low, high = sorted(each.point.ep for each in report.results[0].points if each.point.ep is not None)
    assert f"at EP {low:g} and {high:g}." in section(report, "What was tested")
    assert f"at exposure 0.001 (EP {low:g})." in text
    assert "for all pairs at one EP, not across EPs" in section(report, "How sure this is")
    assert "(trained over mixed EPs: " in section(report, "What to do")


def test_a_camera_whose_bits_move_is_spoken_of_by_bits(build_report):
    report, text = answer(build_report, sensor_kind="camera", vary="bits")
    assert "on camera-imx477/bits at exposure 0.5, the camera's own noise," in section(report, "What was tested")
    assert re.search(r"at 4\.5 bits \(EP [0-9.]+\)\.", text)
    assert "By area under the accuracy–resolution curve: " in text


@pytest.mark.parametrize(
    ("options", "ends", "verdict"),
    [
        (
            {"sensor_kind": "camera", "exposures": (0.001, 0.7, 1.0)},
            ("exposure 1", "exposure 0.001"),
            "it stays within 5 points of its clean accuracy down to exposure 0.7.",
        ),
        (
            {"sensor_kind": "camera", "exposures": (0.8, 0.9, 1.0)},
            ("exposure 1", "exposure 0.8"),
            "it stays within 5 points of its clean accuracy at every exposure tested.",
        ),
        (
            {"sensor_kind": "lidar", "signals": (0.02, 0.9, 1.0)},
            ("signal 1", "signal 0.02"),
            "it stays within 5 points of its clean accuracy down to signal 0.9.",
        ),
        (
            {"sensor_kind": "lidar", "signals": (0.02, 0.03)},
            ("signal 0.03", "signal 0.02"),
            "it loses more than 5 points at every signal tested.",
        ),
        ({"eps": (0.05, 0.9)}, ("EP 0.05", "EP 0.9"), "it stays within 5 points of its clean accuracy up to EP 0.05."),
    ],
)
def test_how_far_an_audit_holds_goes_towards_harm(build_report, options, ends, verdict):
    _, text = answer(build_report, "audit", **options)
    mildest, harshest = ends
    assert re.search(rf" % at {mildest} and [0-9.]+ % at {harshest}; {verdict}$", text)


def test_an_accuracy_that_recovers_does_not_lengthen_how_far_an_audit_holds(build_report):
    report = build_report("audit", sensor_kind="camera", exposures=(0.7, 0.8, 0.9))
    result = report.results[0]

    def lost(each):
        accuracy = {"exposure 0.8": 0.5}.get(each.point.label, 0.97)
        rows = (each.comparison.rows[0].model_copy(update={"accuracy": accuracy}),)
        return each.model_copy(update={"comparison": each.comparison.model_copy(update={"rows": rows})})

    dipped = result.model_copy(update={"points": tuple(map(lost, result.points))})
    text = section(report.model_copy(update={"results": (dipped,)}), "The answer")
    assert text.endswith("within 5 points of its clean accuracy down to exposure 0.9.")


@pytest.mark.parametrize(("kind", "word"), [("converter", "EP"), ("camera", "exposure"), ("lidar", "signal")])
def test_what_holds_at_all_points_is_said_in_the_word_of_the_axis(build_report, kind, word):
    assert f"At every {word} there is no significant winner" in section(build_report(sensor_kind=kind), "The answer")


def test_sensors_on_several_axes_are_told_apart(build_report):
    converter, camera = (build_report("audit", **each) for each in ({"eps": (0.2, 0.5)}, {"sensor_kind": "camera"}))
    both = converter.model_copy(update={"results": converter.results + camera.results})
    tested = section(both, "What was tested")
    assert tested.endswith("at EP 0.2 and 0.5 and exposure 0.5, 0.1057, 0.02236, 0.00473 and 0.001.")
    assert "adc-3bit (7 steps, 3 bits) with Gaussian noise at the sensor and camera-imx477 (12 bits) with" in tested


def test_assumed_numbers_are_counted_for_cameras_and_lidars_alone(build_report):
    line = "Assumed numbers: 6, without a source (prnu, dsnu_e, operating_points."
    for kind, sensor in itertools.product(("audit", "compare"), ("camera", "lidar")):
        text = section(build_report(kind, sensor_kind=sensor), "How sure this is")
        assert line in text
        assert " and 2 more; in bold in the table of the sensor's numbers)." in text
    several = build_report("audit", sensor_kind="camera", bits=(12, 8))
    assert "Assumed numbers of camera-imx477 and camera-imx477/8 bits: 6" in section(several, "How sure this is")
    assert "Assumed numbers" not in " ".join(summary(build_report("audit")))


def test_equal_exposures_of_different_wells_are_said_to_be_different_light(build_report):
    def lit(name, full_well_lux):
        (result,) = build_report("audit", sensor_kind="camera", exposures=(0.01, 0.1)).results
        points = tuple(
            each.model_copy(
                update={"point": each.point.model_copy(update={"lux": full_well_lux * each.point.exposure})}
            )
            if each.point.exposure
            else each
            for each in result.points
        )
        sensor = result.sensor.model_copy(update={"key": name})
        return result.model_copy(update={"sensor": sensor, "points": points})

    report = build_report("audit", sensor_kind="camera")
    unequal = report.model_copy(update={"results": (lit("small", 100.0), lit("large", 250.0), lit("middle", 200.0))})
    (line,) = (each for each in summary(unequal) if "different light" in each)
    assert re.search(r"exposure 0\.01 is 2\.5 lx on the scene for large and 1 lx for small, a ratio of 2\.5, by", line)
    equal = report.model_copy(update={"results": (lit("small", 100.0), lit("twin", 100.1))})
    assert "different light" not in " ".join(summary(equal))


def decisive(build_report, **changes):
    """A LIDAR's report with the numbers that decide what clear air costs, and what it says of them."""
    given = {"range_noise_m": ("typical", "datasheet"), "range_at_10_percent_m": ("typical", "assumed"), **changes}
    report = build_report("audit", sensor_kind="lidar")
    (result,) = report.results
    like = result.sensor.numbers[0]
    numbers = tuple(
        like.model_copy(update={"name": name, "value": "0.03 m", "kind": kind, "status": status})
        for name, (kind, status) in given.items()
    )
    sensor = result.sensor.model_copy(update={"numbers": numbers})
    return section(
        report.model_copy(update={"results": (result.model_copy(update={"sensor": sensor}),)}), "How sure this is"
    )


def test_a_lidar_says_which_reading_of_its_sheet_the_result_hangs_on(build_report):
    text = decisive(build_report)
    assert "What lidar-vlp16 costs, even in clear air, hangs on the range at which" in text
    assert "(range_at_10_percent_m 0.03 m: assumed) and the range noise of a strong return" in text
    assert "(range_noise_m 0.03 m: given as typical and taken as one standard deviation)." in text
    sheet = decisive(build_report, range_noise_m=("max", "datasheet"))
    assert "(range_noise_m 0.03 m: given as max and taken as three standard deviations)" in sheet
    assert "(range_noise_m 0.03 m: assumed)" in decisive(build_report, range_noise_m=("typical", "assumed"))


def test_a_number_that_the_user_set_is_no_reading_of_a_sheet(build_report):
    (result,) = build_report("audit", sensor_kind="lidar").results
    number = result.sensor.numbers[0].model_copy(update={"name": "range_noise_m", "status": "assumed"})
    report = build_report("audit", sensor_kind="lidar")
    for settings, said in (({}, True), ({"range_noise_m": 0.01}, False)):
        sensor = result.sensor.model_copy(update={"numbers": (number,), "settings": settings})
        told = summary(report.model_copy(update={"results": (result.model_copy(update={"sensor": sensor}),)}))
        assert ("even in clear air" in " ".join(told)) == said


def test_a_lidar_with_a_published_law_of_its_noise_hangs_on_no_reading(build_report):
    sure = {"range_noise_m": ("1sigma", "datasheet"), "range_at_10_percent_m": ("typical", "datasheet")}
    assert "even in clear air" not in decisive(build_report, **sure)
    table = {"range_noise_by_snr.sigma_m": ("1sigma", "datasheet")}
    assert "range_noise_m" not in decisive(build_report, **table)
    assert "even in clear air" not in " ".join(summary(build_report("audit", sensor_kind="camera")))


def tied(build_report, **options):
    """A report whose current activation is behind at each point, though not significantly."""
    report = build_report(activations=("relu", "gelu"), diverge=False, **options)
    (result,) = report.results

    def undecided(each, seeds):
        pair = each.comparison.pairs[0].model_copy(
            update={"a": "gelu", "b": "relu", "difference": 0.01, "significant": False, "seeds_needed": seeds}
        )
        rows = tuple(sorted(each.comparison.rows, key=lambda row: row.activation))
        open_one = {"pairs": (pair,), "winner": None, "leaders": ("relu", "gelu"), "rows": rows, "seeds_needed": seeds}
        return each.model_copy(update={"comparison": each.comparison.model_copy(update=open_one)})

    def with_seeds(*needed):
        still, noisy = result.points[:2], result.points[2:]
        points = (*still, *(undecided(each, seeds) for each, seeds in zip(noisy, needed, strict=True)))
        return report.model_copy(update={"results": (result.model_copy(update={"points": points}),)})

    return with_seeds


def test_advice_names_the_seeds_that_every_open_point_needs(build_report):
    with_seeds = tied(build_report, eps=(0.2, 0.4, 0.6, 0.8))
    text = section(with_seeds(12, 40, 12, 900), "What to do")
    assert "plan a study with about --seeds 40: 12 for EP 0.2 and 0.6; 40 for EP 0.4." in text
    assert "--seeds 12" not in text
    assert "plan a study" not in section(with_seeds(900, 900, 5, None), "What to do")


def test_advice_on_ties_names_them_too(build_report):
    with_seeds = tied(build_report, eps=(0.2, 0.4))
    report = with_seeds(12, 40)
    models = tuple(each.model_copy(update={"activation": None}) for each in report.models)
    text = section(report.model_copy(update={"models": models}), "What to do")
    assert "To break a tie, plan a study with about --seeds 40: 12 for EP 0.2; 40 for EP 0.4." in text


@pytest.mark.parametrize(("kind", "word"), [("converter", "EP"), ("lidar", "signal")])
def test_what_falls_behind_by_area_alone_does_so_at_no_single_point(build_report, kind, word):
    options = {"eps": (0.2, 0.4)} if kind == "converter" else {"sensor_kind": kind, "signals": (0.1, 1.0)}
    report = tied(build_report, **options)(12, 40)
    (result,) = report.results
    behind = result.area.model_copy(update={"leaders": ("gelu",), "winner": "gelu"})
    text = section(report.model_copy(update={"results": (result.model_copy(update={"area": behind}),)}), "The answer")
    assert f"relu, the current activation, is at no single {word} significantly worse than the highest mean" in text
    level = result.area.model_copy(update={"leaders": ("relu", "gelu"), "winner": None})
    text = section(report.model_copy(update={"results": (result.model_copy(update={"area": level}),)}), "The answer")
    assert "relu, the current activation, is nowhere significantly worse than the highest mean" in text


def in_lux(report, lux_at_white=5000.0):
    """The report of a camera as it is where its exposures were asked for as illuminances."""

    def lit(each):
        if each.point.exposure is None:
            return each
        light = {"kind": "lux", "lux": lux_at_white * each.point.exposure}
        return each.model_copy(update={"point": each.point.model_copy(update=light)})

    results = tuple(each.model_copy(update={"points": tuple(map(lit, each.points))}) for each in report.results)
    return report.model_copy(update={"results": results})


def test_illuminances_are_spoken_of_as_they_were_asked_for(build_report):
    report = in_lux(build_report(sensor_kind="camera", diverge=False, exposures=(0.001, 0.1)))
    assert "at 500 lx and 5 lx." in section(report, "What was tested")
    text = section(report, "The answer")
    assert re.search(r"below \w+ at 5 lx \(exposure 0\.001\)\.", text)
    assert "By area under the accuracy–illuminance curve (over log illuminance): " in text
    assert "for all pairs at one illuminance, not across illuminances" in section(report, "How sure this is")


def test_no_sentence_has_brackets_within_or_behind_brackets(build_report):
    for kind, options in itertools.product(
        ("audit", "compare"),
        (
            {},
            {"sensor_kind": "camera"},
            {"sensor_kind": "camera", "by_ep": True},
            {"sensor_kind": "camera", "vary": "bits"},
            {"sensor_kind": "lidar"},
            {"precision": 0.005, "reached": False},
            {"bits": (2, 4)},
        ),
    ):
        report = build_report(kind, **options)
        for text in summary(in_lux(report) if options == {"sensor_kind": "camera"} else report):
            assert not re.search(r"\([^()]*\(|\) \(", text), text


def with_accuracies(report, accuracies):
    """The report of one result with these accuracies of relu and gelu at its noisy points, and no difference shown."""
    (result,) = report.results

    def changed(each, values):
        like = {row.activation: row for row in each.comparison.rows}
        rows = [like[name].model_copy(update={"accuracy": value}) for name, value in values.items()]
        rows.sort(key=lambda row: -row.accuracy)
        gap = rows[0].accuracy - rows[1].accuracy
        update = {"a": rows[0].activation, "b": rows[1].activation, "difference": gap, "significant": False}
        pair = each.comparison.pairs[0].model_copy(update=update)
        comparison = {"rows": tuple(rows), "pairs": (pair,), "winner": None, "leaders": tuple(values)}
        return each.model_copy(update={"comparison": each.comparison.model_copy(update=comparison)})

    noisy = (changed(each, values) for each, values in zip(result.points[2:], accuracies, strict=True))
    points = (*result.points[:2], *noisy)
    return report.model_copy(update={"results": (result.model_copy(update={"points": points}),)})


@pytest.mark.parametrize(
    ("gelu", "said"),
    [
        ((0.9,), "shares the highest mean at EP 0.2."),
        ((0.8,), "has the highest mean at EP 0.2."),
        ((0.9, 0.9), "shares the highest mean at every EP."),
        ((0.8, 0.9), "has the highest mean at EP 0.2 and shares the highest mean at EP 0.4."),
        (
            (0.9, 0.95),
            "is at no single EP significantly worse than the highest mean; the largest difference seen is 5.0 points",
        ),
    ],
)
@pytest.mark.parametrize("order", [("relu", "gelu"), ("gelu", "relu")])
def test_an_equal_mean_is_shared(build_report, gelu, said, order):
    report = build_report(activations=("relu", "gelu"), diverge=False, eps=(0.2, 0.4)[: len(gelu)])
    accuracies = [{name: {"relu": 0.9, "gelu": value}[name] for name in order} for value in gelu]
    assert f"relu, the current activation, {said}" in section(with_accuracies(report, accuracies), "The answer")


def unlearnt(report, points=lambda each: True):
    """The report as it is where no network has learnt at these noisy points."""

    def lost(each):
        if not points(each):
            return each
        rows = tuple(row.model_copy(update={"converged": 0}) for row in each.comparison.rows)
        return each.model_copy(update={"comparison": each.comparison.model_copy(update={"rows": rows})})

    results = tuple(each.model_copy(update={"points": tuple(map(lost, each.points))}) for each in report.results)
    return report.model_copy(update={"results": results})


def test_where_nothing_was_learnt_the_answer_says_so_first_and_no_seeds_are_planned(build_report):
    report = unlearnt(tied(build_report, eps=(0.2, 0.4))(12, 40))
    training = tuple(each.model_copy(update={"converged": False}) for each in report.training)
    report = report.model_copy(update={"training": training})
    text = section(report, "The answer")
    assert text.startswith("Nothing was learnt: no network is above chance on validation under noise")
    assert "train longer (--epochs), or with less noise" in text
    assert not re.search(
        r"plan a study|would (show|separate)|a choice may rest on|wins|tied", " ".join(summary(report))
    )
    assert "Nothing was learnt" not in " ".join(summary(build_report(seeds=1)))
    several = unlearnt(build_report(bits=(2, 4), seeds=3))
    assert "adc-2bit (3 steps, 2 bits): nothing was learnt" in section(several, "The answer")


def test_no_seeds_are_planned_for_a_point_where_nothing_was_learnt(build_report):
    three = unlearnt(tied(build_report, eps=(0.1, 0.2, 0.4))(12, 12, 40), lambda each: each.point.ep == 0.4)
    assert "what it seems: 12 at EP 0.1 and 0.2." in section(three, "How sure this is")
    report = unlearnt(tied(build_report, eps=(0.2, 0.4))(12, 40), lambda each: each.point.ep == 0.4)
    assert "plan a study with about --seeds 12" in section(report, "What to do")
    assert "40" not in section(report, "What to do")
    assert "Seeds that would separate the two highest means, if their difference is what it seems: 12 at EP 0.2." in (
        section(report, "How sure this is")
    )
    comparison = report.results[0].points[-1].comparison
    assert "would separate" not in power(comparison)
    assert "would separate" in power(report.results[0].points[-2].comparison)
