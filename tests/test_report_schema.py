"""The report's JSON Schema: shipped as it is, and true of real and of wrong reports."""

import json

import jsonschema
import pytest

from robustcheck import Report, content
from robustcheck.errors import ReportError
from robustcheck.reporting.report import SCHEMA_VERSION, json_schema


@pytest.fixture(scope="module")
def shipped():
    return json.loads((content.shelf("reports") / "report.schema.json").read_text(encoding="utf-8"))


def test_the_shipped_schema_is_that_of_the_code(shipped):
    assert shipped == json.loads(json.dumps(json_schema())), "make schema writes it anew"


def test_a_report_obeys_it_and_comes_back_the_same(shipped, compare_report, audit_report, build_report, tmp_path):
    for report in (compare_report, audit_report, build_report(precision=0.005), build_report("audit", precision=0.01)):
        jsonschema.Draft202012Validator(shipped).validate(json.loads(report.to_json()))
        path = tmp_path / "report.json"
        path.write_text(report.to_json(), encoding="utf-8")
        assert Report.load(path) == report


def test_a_precision_is_a_field_only_where_it_was_asked_for(compare_report, build_report):
    assert '"precision"' not in compare_report.to_json()
    document = json.loads(build_report(precision=0.005).to_json())
    assert document["precision"] == 0.005
    clean, quantised, *noisy = document["results"][0]["points"]
    for point in (clean, quantised, {"comparison": document["results"][0]["area"]}):
        assert not any("precision" in row for row in point["comparison"]["rows"])
    for point in noisy:
        assert all(set(row["precision"]) == {"draws", "draw_error", "reached", "sample_error"}
                   for row in point["comparison"]["rows"])  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": SCHEMA_VERSION + 1}, "expected schema_version 1, got 2"),
        ({"schema_version": None}, "got None"),
        ({"seeds": "many"}, "field seeds"),
        ({"surprise": 1}, "field surprise"),
    ],
)
def test_what_is_no_report_is_refused(shipped, compare_report, tmp_path, change, message):
    document = json.loads(compare_report.to_json()) | change
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(shipped).validate(document)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ReportError, match=message):
        Report.load(path)


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", '"report"'])
def test_a_file_that_is_no_json_object_is_refused(tmp_path, text):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(ReportError):
        Report.load(path)


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(ReportError, match="absent"):
        Report.load(tmp_path / "absent.json")
