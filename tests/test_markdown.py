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
