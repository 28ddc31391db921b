"""docs/science.md says what the stored reports say, and shows figures that are there."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from robustcheck import content
from robustcheck.activations.catalogue import activation
from robustcheck.study.plan import NUMERICS, Study

_SPEC = importlib.util.spec_from_file_location("science", Path(__file__).with_name("science.py"))
science = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(science)
TEXT = science.DOCUMENT.read_text(encoding="utf-8")


def test_every_part_is_what_the_stored_reports_give() -> None:
    assert science.remade(TEXT) == TEXT, "run make science"
    assert {match["name"] for match in science.PART.finditer(TEXT)} == set(science.PARTS)


@pytest.mark.parametrize("name", science.ANALYSES)
def test_a_stored_analysis_is_of_the_command_that_remakes_it(name: str) -> None:
    assert science.gradients(name)["command"] == f"robustcheck {science.ANALYSES[name]} -o {name}"
    assert f"`robustcheck {science.ANALYSES[name]} -o {name}`" in (science.ROOT / "reports" / "README.md").read_text()
    assert f"\nrobustcheck {science.ANALYSES[name]} -o {name}\n" in TEXT


def test_every_figure_is_there() -> None:
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TEXT)
    assert shown
    for path in shown:
        assert (science.DOCUMENT.parent / path).resolve().read_bytes().startswith(b"<svg"), path


def test_every_study_that_is_named_ships() -> None:
    assert set(re.findall(r"`robustcheck compare ([a-z0-9-]+)`", TEXT)) == set(science.FIGURES)
    assert set(science.FIGURES) <= set(content.study_names())


@pytest.mark.parametrize("name", science.FIGURES)
def test_a_stored_report_is_of_the_study_that_ships(name: str) -> None:
    report = science.stored(name)
    if report is not None:
        study = Study.load(content.shelf("models") / f"{name}.toml")
        assert report.policy == study.training.model_dump(mode="json")
        assert (report.seeds, report.draws, report.data.spec) == (study.seeds, study.draws, study.data.spec)
        assert report.data.preprocessing == study.data.preprocessing.as_dict()
        assert [each.spec for each in report.models] == [each.spec for each in study.models]
        assert {activation(spec).spec for spec in study.activations} == {each.spec for each in report.activations}
        assert {each.sensor.key for each in report.results} == {each.bind().key for each in study.sensors}
        points = {each.point.ep for result in report.results for each in result.points if each.point.kind == "ep"}
        assert points == set(study.eps)
        assert report.numerics == NUMERICS
        assert not report.failures


def test_depth_is_read_from_the_models_and_relu_is_what_others_are_compared_with(compare_report) -> None:
    point = next(each for each in compare_report.results[0].points if each.point.kind == "ep")
    said = science.difference(point.comparison, "gelu", "relu")
    (pair,) = (pair for pair in point.comparison.pairs if {pair.a, pair.b} == {"gelu", "relu"})
    sign = 1 if pair.a == "gelu" else -1
    assert said.startswith(f"{100 * sign * pair.difference:+.1f} (")
    assert said.endswith("*") == pair.significant
    assert science.difference(point.comparison, "gelu", "nothing") == "–"


@pytest.mark.parametrize(("name", "records"), [("study-depth", 7 * 3 * 5), ("study-causes", len(science.CAUSES) - 1)])
def test_figures_draw_what_their_records_hold(name: str, records: int) -> None:
    (chart,) = science.FIGURES[name][1](science.stored(name))
    drawn = chart.to_dict()
    assert len(drawn["data"]["values"]) == records
    fields = set(re.findall(r'"field": "(\w+)"', json.dumps(drawn)))
    assert len(fields) >= 3
    assert all(fields <= set(each) for each in drawn["data"]["values"])


@pytest.mark.parametrize("digits", [1, 2])
def test_intervals(digits: int) -> None:
    found = {"value": 1.234, "lower": 1.0, "upper": 1.5}
    assert science.interval(found, digits) == {1: "1.2 (1.0–1.5)", 2: "1.23 (1.00–1.50)"}[digits]
    assert science.interval(json.loads('{"value": 2.0, "lower": null, "upper": null}'), digits).startswith("2.0")
    assert science.interval(None) == "–"
