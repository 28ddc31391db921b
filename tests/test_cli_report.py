"""`robustcheck report`: every format of one report and of two, where it goes, and what is refused."""

import csv
import io
import json
import re
from xml.etree import ElementTree

import pytest

from robustcheck.cli.main import main
from robustcheck.reporting.changes import compare_reports
from robustcheck.reporting.changes_text import to_markdown
from robustcheck.reporting.csv import changes_csv, report_csv
from robustcheck.reporting.html import render_html
from robustcheck.reporting.markdown import render_markdown
from robustcheck.reporting.produce import run_study
from robustcheck.reporting.report import Report
from robustcheck.study.plan import Study

SETTINGS = '[gate]\nchecks = ["accuracy@ep=0.5 >= 0.5", "accuracy@ep=0.8 >= 0.99"]\n'


@pytest.fixture(scope="module")
def audits():
    """Two short audits of a shipped model, at 4 and 3 operating points."""
    return [
        run_study(
            Study.create(
                kind="audit",
                models=[{"spec": "digits-convnet"}],
                data={"spec": "digits", "max_samples": 300},
                sensors=[{"spec": "adc-2bit"}],
                eps=eps,
                draws=2,
            )
        )
        for eps in ((0.5, 0.8), (0.5,))
    ]


@pytest.fixture
def folder(tmp_path, monkeypatch, audits):
    """The working folder, which holds both."""
    monkeypatch.chdir(tmp_path)
    for name, report in zip("ab", audits, strict=True):
        (tmp_path / f"{name}.json").write_text(report.to_json(), encoding="utf-8")
    return tmp_path


def said(capsysbinary, *arguments):
    """What goes to standard output."""
    assert main(["report", *arguments]) == 0
    return capsysbinary.readouterr().out.decode()


TEXTS = {"html": render_html, "md": render_markdown, "csv": report_csv, "json": Report.to_json}


@pytest.mark.parametrize("form", TEXTS)
def test_a_text_goes_to_standard_output_or_to_a_file(folder, audits, capsysbinary, form):
    expected = TEXTS[form](audits[0])
    assert said(capsysbinary, "a.json", "--format", form) == expected
    assert said(capsysbinary, "a.json", "-o", f"new/a.{form}") == ""
    assert (folder / "new" / f"a.{form}").read_bytes().decode() == expected
    assert said(capsysbinary, "a.json", "--format", form, "-o", "a.other") == ""
    assert (folder / "a.other").read_bytes().decode() == expected


def test_text_is_utf_8_whatever_the_terminals_encoding(folder, audits, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert main(["report", "a.json", "--format", "md"]) == 0
    assert raw.getvalue().decode() == render_markdown(audits[0])


def test_json_is_alone_on_standard_output(folder, audits, capsysbinary):
    assert json.loads(said(capsysbinary, "a.json", "--json")) == json.loads(audits[0].to_json())
    document = json.loads(said(capsysbinary, "a.json", "b.json", "--json"))
    assert (document["kind"], document["schema_version"]) == ("changes", 1)
    assert [each["point"] for each in document["changes"]] == ["clean", "quantised only", "EP 0.5"]
    assert {each["mark"] for each in document["changes"]} == {"unchanged"}


def test_the_terminal_is_the_default_and_a_pipe_has_no_colour(folder, capsysbinary):
    text = said(capsysbinary, "a.json")
    assert "EP 0.8" in text
    assert "What to do" in text
    assert "\x1b" not in text
    assert said(capsysbinary, "a.json", "-o", "a.txt") == ""
    assert "EP 0.8" in (folder / "a.txt").read_text(encoding="utf-8")
    assert "What changed" not in text


def test_charts_are_drawn_one_or_all(folder, capsysbinary):
    assert said(capsysbinary, "a.json", "--chart", "list") == "accuracy\n"
    said(capsysbinary, "a.json", "--format", "png", "-o", "charts")
    assert (folder / "charts" / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    said(capsysbinary, "a.json", "--chart", "accuracy", "-o", "one.svg")
    drawn = (folder / "one.svg").read_bytes()
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    assert said(capsysbinary, "a.json", "--chart", "accuracy", "--format", "svg") == drawn.decode()
    said(capsysbinary, "a.json", "--chart", "accuracy", "--format", "png", "-o", "picture")
    assert (folder / "picture").read_bytes().startswith(b"\x89PNG")


def test_junit_and_sarif_are_the_gates_judgements(folder, capsysbinary):
    (folder / "robustcheck.toml").write_text(SETTINGS, encoding="utf-8")
    root = ElementTree.fromstring(said(capsysbinary, "a.json", "--format", "junit"))
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    (folder / "strict.toml").write_text(SETTINGS.replace('0.5"', '0.999"'), encoding="utf-8")
    log = json.loads(said(capsysbinary, "a.json", "--format", "sarif", "--config", "strict.toml"))
    results = log["runs"][0]["results"]
    assert [each["ruleId"] for each in results] == ["RC001", "RC001"]
    said(capsysbinary, "a.json", "-o", "gate.xml")
    said(capsysbinary, "a.json", "-o", "gate.sarif")
    assert ElementTree.parse(folder / "gate.xml").getroot().get("tests") == "2"
    assert len(json.loads((folder / "gate.sarif").read_text())["runs"][0]["results"]) == 1


def test_a_regression_is_judged_against_the_baseline(folder, capsysbinary):
    checks = '[gate]\nbaseline = "b.json"\nchecks = ["regression@ep=0.5 <= 0.5"]\n'
    (folder / "robustcheck.toml").write_text(checks, encoding="utf-8")
    root = ElementTree.fromstring(said(capsysbinary, "a.json", "--format", "junit"))
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("1", "0", "0")


def test_two_reports_are_compared_in_each_format(folder, audits, capsysbinary):
    changes = compare_reports(*audits)
    assert said(capsysbinary, "a.json", "b.json", "--format", "md") == to_markdown(changes)
    assert said(capsysbinary, "a.json", "b.json", "--format", "csv") == changes_csv(changes)
    assert said(capsysbinary, "a.json", "b.json", "-o", "c.csv") == ""
    lines = list(csv.DictReader(io.StringIO((folder / "c.csv").read_bytes().decode(), newline="")))
    assert [line["mark"] for line in lines] == [each.mark for each in changes.changes]
    text = said(capsysbinary, "a.json", "b.json")
    assert "Of 3 accuracies in both reports" in text
    assert "EP 0.8 and area of digits-convnet on adc-2bit" in " ".join(text.split())
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["a.json", "-o", "a.pdf"], 2, r"whose ending says the format .*got \.pdf; give --format too"),
        (["a.json", "-o", "a"], 2, "got none; give --format too"),
        (["a.json", "--format", "pdf"], 2, "'pdf' is not one of"),
        (["a.json", "--json", "--format", "md"], 2, "--json: expected no other format"),
        (["a.json", "--format", "png"], 2, "give -o FOLDER, or --chart NAME: accuracy"),
        (["a.json", "--format", "png", "--chart", "accuracy"], 2, "png: expected a file to write it to"),
        (["a.json", "-o", "all.svg"], 2, "give -o FOLDER"),
        (["a.json", "-o", "x.svg", "--chart", "acuracy"], 2, "unknown chart 'acuracy'; did you mean 'accuracy'"),
        (["a.json", "--chart", "accuracy"], 2, "add --format svg"),
        (["a.json", "--config", "x.toml"], 2, "--config: expected it with the format junit or sarif, got terminal"),
        (["a.json", "--format", "junit"], 2, r"no \[gate\] in robustcheck.toml or pyproject.toml; robustcheck init"),
        (["a.json", "--format", "sarif", "--config", "none.toml"], 2, "none.toml"),
        (["a.json", "--format", "md", "-o", "a.json"], 2, "expected another file than the report itself"),
        (["a.json", "b.json", "--format", "md", "-o", "./b.json"], 2, "expected another file than the report itself"),
        (["a.json", "b.json", "--format", "html"], 2, "of two there are terminal, md, csv, json"),
        (["a.json", "b.json", "--chart", "list"], 2, "--chart: expected one report"),
        (["a.json", "b.json", "c.json"], 2, "unexpected extra argument"),
        (["c.json"], 3, "expected a robustcheck report"),
        (["a.json", "c.json"], 3, "c.json: expected a robustcheck report"),
        (["other.json"], 3, "expected schema_version 1"),
        (["a.json", "-o", "a.json/x.csv"], 3, "expected a place that can be written"),
    ],
)
def test_what_cannot_be_done_says_why(folder, capsys, arguments, code, words):
    (folder / "other.json").write_text("{}", encoding="utf-8")
    assert main(["report", *arguments]) == code
    captured = capsys.readouterr()
    assert re.search(words, captured.err)
    assert captured.out == ""
    assert Report.load(folder / "a.json")
