"""Markdown for a pull request: tables that hold together whatever the names are."""

import re

import pytest

from robustcheck.reporting.markdown import escape, render_markdown

HOSTILE = "a|b`c`<script>alert(1)</script>*d*_e_[f](g)\n# h"


def tables(text):
    """Each Markdown table as a list of rows of cells."""
    found, rows = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif rows:
            found.append(rows)
            rows = []
    return found


def test_results_table_has_every_mean(compare_report):
    table = tables(render_markdown(compare_report))[0]
    assert table[0] == [
        "activation",
        "clean",
        "quantised only",
        "EP 0.2",
        "EP 0.4",
        "EP 0.6",
        "EP 0.8",
        "area",
        "converged",
    ]
    by_name = {row[0].replace("\\", "").removesuffix(" (current)"): row for row in table[2:]}
    for index, point in enumerate(compare_report.results[0].points, 1):
        for row in point.comparison.rows:
            half = max(row.networks.upper - row.accuracy, row.accuracy - row.networks.lower)
            assert by_name[row.activation][index].startswith(f"{100 * row.accuracy:.1f} ± {100 * half:.1f}")
    assert by_name["aptx"][-1] == "4 of 5"


def test_every_table_has_as_many_cells_as_heads(compare_report, audit_report, build_report):
    reports = [
        compare_report,
        audit_report,
        build_report(activations=("relu", HOSTILE), class_names=(HOSTILE, "b"), model=HOSTILE),
    ]
    for report in reports:
        found = tables(render_markdown(report))
        assert found
        assert all(len({len(row) for row in table}) == 1 for table in found)


def test_hostile_names_are_text(build_report):
    text = render_markdown(build_report(activations=("relu", HOSTILE), class_names=(HOSTILE, "b"), model=HOSTILE))
    assert "<script" not in text
    assert not re.search(r"(?<!\\)`", text)
    assert "\n# h" not in text
    assert set(re.findall(r"<(/?[a-z]+)", text)) <= {"details", "/details", "summary", "/summary"}
    assert text.count("<details>") == text.count("</details>") == text.count("<summary>")


@pytest.mark.parametrize(
    ("text", "expected"), [("a_b", r"a\_b"), ("a|b", r"a\|b"), ("<b>&", "&lt;b&gt;&amp;"), ("a\nb", "a b")]
)
def test_escape(text, expected):
    assert escape(text) == expected


def test_charts_are_shown_where_they_are_given(compare_report, build_report):
    text = render_markdown(compare_report, {"accuracy": "charts/accuracy.png"})
    assert "![Accuracy against error probability](<charts/accuracy.png>)" in text
    assert "![" not in render_markdown(compare_report)
    two = render_markdown(build_report(bits=(2, 4), seeds=2), {"accuracy-2": "charts/accuracy-2.png"})
    assert two.index("adc-4bit (15 steps") < two.index("accuracy-2.png")


def test_audit_has_no_ranking(audit_report):
    text = render_markdown(audit_report)
    assert len(tables(text)[0][0]) == 4
    assert "Ranking" not in text
    assert "these networks only" in text


def test_all_but_provenance_depends_on_the_study_alone(compare_report):
    other = render_markdown(compare_report.model_copy(update={"provenance": {"host": "elsewhere"}}))
    split = "<summary>Provenance</summary>"
    assert other.split(split)[0] == render_markdown(compare_report).split(split)[0]
    assert "elsewhere" in other.split(split)[1]


def test_an_audit_says_nothing_of_training(audit_report, compare_report):
    from robustcheck.reporting.particulars import particulars

    heading = "How it was trained"
    assert heading in {each.heading for each in particulars(compare_report)}
    # A real audit has records of its untrained networks, and the default policy.
    audit = audit_report.model_copy(update={"training": compare_report.training, "policy": compare_report.policy})
    assert heading not in {each.heading for each in particulars(audit)}


def test_draws_and_both_errors_have_a_table_where_a_precision_was_asked_for(build_report):
    head = ["operating point", "draws", "largest draw error \\[points\\]", "error of the test set \\[points\\]"]
    found = [table for table in tables(render_markdown(build_report(precision=0.005))) if table[0] == head]
    assert [row[:3] for row in found[0][2:]] == [[f"EP {ep}", "5 to 59", "± 0.45"] for ep in (0.2, 0.4, 0.6, 0.8)]
    assert {row[3] for row in found[0][2:]} <= {"± 2.6", "± 3.1", "± 2.6 to 3.1"}
    several = tables(render_markdown(build_report("audit", bits=(2, 3), precision=0.005, reached=False)))
    (table,) = [table for table in several if table[0] == [head[0], "where", *head[1:]]]
    assert [row[1] for row in table[2:]] == ["adc-2bit (3 steps, 2 bits)"] * 4 + ["adc-3bit (7 steps, 3 bits)"] * 4
    assert {row[3] for row in table[2:]} == {"± 1.5, not reached"}
    assert not [table for table in tables(render_markdown(build_report())) if "draws" in table[0]]


def test_a_camera_has_every_axis_and_every_number_with_its_status(build_report):
    report = build_report(sensor_kind="camera")
    text = render_markdown(report, {"accuracy": "a.png"})
    assert "![Accuracy against exposure](<a.png>)" in text
    bright = next(each.point for each in report.results[0].points if each.point.exposure == 0.5)
    eps = f"EP {bright.ep:.4g}, as a converter sees it {bright.ep_adc:.4g}, σ = {bright.sigma_steps:.4g} codes"
    assert f"**exposure 0.5, daylight ({eps}, mean EP of the data {bright.data_ep:.4g})**" in text
    assert "Area under the accuracy–exposure curve (over log exposure)" in text
    assert "Area: mean accuracy over the logarithm of the exposure (trapezoid rule)." in text
    found = {tuple(table[0]): table[2:] for table in tables(text)}
    numbers = found["number", "value", "kind", "status", "source"]
    assert ["full\\_well\\_e", "8180 electron", "typical", "measured", "a measurement of gain 1"] in numbers
    assert ["**prnu**", "0.01", "typical", "assumed", "no source"] in numbers
    axes = next(rows for heads, rows in found.items() if "σ \\[codes\\]" in heads)
    assert axes[0][0] == "exposure 0.5"
    assert axes[0][-1] == "daylight"
    assert [row[0] for row in axes] == [f"exposure {e:g}" for e in (0.5, 0.1057, 0.02236, 0.00473, 0.001)]
    for fact in ("- kind: camera", "- device seed: 0", "- set otherwise than the profile: prnu = 0.01",
                 "- an EP moves: the exposure", "dusk 0.01 (EP 0.9)",
                 "- assumed, without a source: 6 of 4 numbers: those in bold below"):  # fmt: skip
        assert fact in text


def test_a_lidar_has_the_eps_of_range_and_intensity(build_report):
    text = render_markdown(build_report(sensor_kind="lidar"))
    assert "**signal 0.4, light-fog (range EP 0.954, intensity EP 0.28)**" in text
    assert "- kind: LIDAR" in text
    assert "bits" not in text
    assert "Accuracy at each operating point" in text


def test_the_columns_of_a_camera_go_from_clean_to_dark(build_report):
    head = tables(render_markdown(build_report(sensor_kind="camera")))[0][0]
    assert head[1:4] == ["clean", "quantised only", "exposure 0.5"]
    assert head[-3:] == ["exposure 0.001", "area", "converged"]


def test_a_captioned_ep_of_a_camera_says_what_it_moved(build_report):
    by_exposure = render_markdown(build_report(sensor_kind="camera", by_ep=True))
    assert re.search(r"\*\*EP 0\.\d+, daylight \(exposure 0\.5, as a converter sees it", by_exposure)
    by_bits = render_markdown(build_report(sensor_kind="camera", vary="bits"))
    assert re.search(r"\*\*EP 0\.\d+, daylight \(6\.6 bits at exposure 0\.5, as a converter", by_bits)
    assert "Area: mean accuracy over the resolution range" in by_bits


@pytest.mark.parametrize(("train_ep", "said"), [("exposure=0.1", "exposure 0.1"), ("mixed", "mixed")])
def test_learning_rates_say_what_was_trained_at(build_report, train_ep, said):
    report = build_report(sensor_kind="camera")
    tuned = tuple(each.model_copy(update={"train_ep": train_ep}) for each in report.tuning)
    found = tables(render_markdown(report.model_copy(update={"tuning": tuned})))
    (rates,) = (table for table in found if "trained at" in table[0])
    assert {row[1] for row in rates[2:]} == {said}


def test_hostile_names_of_sensors_are_text(build_report):
    report = build_report(sensor_kind="camera")
    result = report.results[0]
    sensor = result.sensor
    evil = sensor.model_copy(
        update={
            "numbers": tuple(n.model_copy(update={"name": HOSTILE, "source": HOSTILE}) for n in sensor.numbers),
            "operating_points": tuple(p.model_copy(update={"name": HOSTILE}) for p in sensor.operating_points),
            "assumed": (HOSTILE,),
            "settings": {HOSTILE: 1.0},
        }
    )
    hostile = report.model_copy(update={"results": (result.model_copy(update={"sensor": evil}),)})
    text = render_markdown(hostile)
    assert "<script" not in text
    assert "\n# h" not in text
    assert all(len({len(row) for row in table}) == 1 for table in tables(text))
