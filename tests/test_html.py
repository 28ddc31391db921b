"""The page: self-contained, escaped, accessible, and says what the statistics allow."""

import itertools
import re
from html.parser import HTMLParser

import pytest

from robustcheck.reporting import html
from robustcheck.reporting.html import render_html
from robustcheck.reporting.report import Failure

SCRIPT = "<script>alert(1)</script>"
VOID = {"meta", "circle", "path", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Tags with their attributes, headings, and the text outside of styles; fails where tags do not nest."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open and "svg" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words).replace("\u00a0", " "))


@pytest.fixture(scope="module")
def pages(compare_report, audit_report, build_report):
    reports = {"compare": compare_report, "audit": audit_report, "clear": build_report(diverge=False)}
    reports["precise"] = build_report("audit", precision=0.005)
    reports["camera"] = build_report(sensor_kind="camera")
    reports["lidar"] = build_report("audit", sensor_kind="lidar")
    return {name: render_html(report) for name, report in reports.items()}


def test_page_is_self_contained(pages):
    for text in pages.values():
        page = Page(text)
        assert len(text.encode()) < 2_000_000
        assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "image", "use", "base"}
        assert all(
            named.get("src", "data:").startswith("data:image/png;base64,") for tag, named in page.tags if tag == "img"
        )
        (script,) = (named for tag, named in page.tags if tag == "script")
        assert script == {}
        for _, attributes in page.tags:
            assert not any(name.startswith("on") for name in attributes)
            assert attributes.get("href", "#").startswith("#")
            assert "src" not in attributes
        assert not re.search(r"@import|url\((?!#)|https?://(?!www\.w3\.org/(2000/svg|1999/xlink)\")", text)
        assert 'content="default-src &#39;none&#39;' in text or "default-src 'none'" in text


def test_a_precision_has_sentences_and_a_table(pages):
    text = Page(pages["precise"]).text
    assert "the largest is ± 0.45 points" in text
    assert "Noise draws for a draw error of ± 0.5 points" in text
    assert "Noise draws" not in Page(pages["audit"]).text


def test_page_is_accessible(pages):
    for text in pages.values():
        page = Page(text)
        levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
        tags = [tag for tag, _ in page.tags]
        assert tags.count("caption") == tags.count("table") > 0
        assert all(each.get("scope") in ("col", "row") for tag, each in page.tags if tag == "th")
        for tag, each in page.tags:
            if tag == "svg":
                assert each.get("aria-hidden") == "true" or (each["role"] == "img" and each["aria-label"])
        ids = [each["id"] for _, each in page.tags if "id" in each]
        assert len(ids) == len(set(ids))
        assert {each["href"][1:] for tag, each in page.tags if tag == "a"} <= set(ids)
        assert dict(page.tags[0][1])["lang"] == "en-GB"


def test_every_mean_interval_and_count_is_shown(compare_report, pages):
    text = Page(pages["compare"]).text
    for each in compare_report.results[0].points:
        for row in each.comparison.rows:
            assert f"{100 * row.accuracy:.1f}" in text
            assert f"{100 * row.samples.lower:.1f}–{100 * row.samples.upper:.1f}" in text
    assert "4 of 5" in text
    assert "these networks only" in text
    assert "29 of 30 networks converged" in text
    detectable = compare_report.results[0].points[-1].comparison.detectable_difference
    assert f"a difference of {100 * detectable:.1f} points is detected with 80 % power" in text


def test_ties_are_called_ties(pages):
    for name in ("compare", "clear"):
        text = Page(pages[name]).text
        assert "No significant winner" in text
        assert "1=" in text
        assert not re.search(r"\bbest\b", text)


def test_audit_has_no_ranking(pages):
    text = Page(pages["audit"]).text
    assert "adc-2bit (3 steps, 2 bits)" in text
    assert not re.search(r"\brank\b|winner|\btied\b|minus", text)


def test_hostile_names_are_text(build_report):
    report = build_report(
        activations=("relu", SCRIPT),
        class_names=(SCRIPT, "</style><img src=x onerror=alert(1)>"),
        model=SCRIPT,
        sensor_kind="camera",
        exposures=(0.01, 0.5),
    )
    result = report.results[0]
    named = tuple(each.model_copy(update={"name": SCRIPT}) for each in result.sensor.operating_points)
    numbers = tuple(
        each.model_copy(update={"name": SCRIPT, "source": f"{SCRIPT}\u202e"}) for each in result.sensor.numbers
    )
    hostile = {"operating_points": named, "numbers": numbers, "assumed": (SCRIPT,), "settings": {SCRIPT: 1.0}}
    sensor = result.sensor.model_copy(update=hostile)
    report = report.model_copy(
        update={
            "title": SCRIPT,
            "results": (result.model_copy(update={"sensor": sensor}),),
            "failures": (Failure(cell=SCRIPT, what=SCRIPT, error=SCRIPT),),
            "provenance": {SCRIPT: SCRIPT, "command": ["</title>", SCRIPT]},
            "policy": {SCRIPT: {SCRIPT: SCRIPT}},
        }
    )
    text = render_html(report)
    page = Page(text)
    assert text.count("<script") == 1
    assert [tag for tag, _ in page.tags if tag in ("script", "img")] == ["script"]
    assert page.text.count(SCRIPT) > 20
    assert "\u202e" not in text


def test_all_but_provenance_depends_on_the_study_alone(audit_report, pages):
    other = render_html(audit_report.model_copy(update={"provenance": {"host": "elsewhere"}}))
    before, after = (text.split('<section id="provenance">')[0] for text in (pages["audit"], other))
    assert before == after
    assert other != pages["audit"]
    assert render_html(audit_report) == pages["audit"]


def test_a_camera_is_shown_on_its_own_axis(pages):
    text = Page(pages["camera"]).text
    assert "Accuracy against exposure" in text
    assert "Area under the accuracy–exposure curve (over log exposure): mean accuracy over the logarithm" in text
    assert "exposure 0.5, daylight (EP 0." in text
    assert text.index("exposure 0.5, daylight") < text.index("exposure 0.001 (EP") < text.index("Area under the")
    assert text.count("assumed") >= 3
    assert "Accuracy against signal" in Page(pages["lidar"]).text


def test_an_audit_shows_a_chart_for_each_axis(build_report):
    converter, camera = (build_report("audit", **each) for each in ({}, {"sensor_kind": "camera"}))
    text = Page(render_html(converter.model_copy(update={"results": converter.results + camera.results}))).text
    assert "Accuracy against error probability" in text
    assert "Accuracy against exposure" in text


def test_page_keeps_to_its_budget(build_report, monkeypatch):
    """A twentieth of the real limits must hold a page to a twentieth of 2 MB, but for what is always there."""
    for name in ("_MOST_CHART_BYTES", "_MOST_ROWS"):
        monkeypatch.setattr(html, name, getattr(html, name) // 20)
    text = render_html(build_report(bits=(2, 3)))
    assert len(text.encode()) < 100_000 + 60_000
    assert "charts are left out to keep this page small" in text
    assert "more tables are left out to keep this page small" in text


def test_endless_failures_are_cut(compare_report, monkeypatch):
    monkeypatch.setattr(html, "report_charts", lambda *_, **__: {})
    failures = tuple(Failure(cell="0" * 64, what="gelu, seed 1", error=f"{i} " + "x" * 5000) for i in range(300))
    text = render_html(compare_report.model_copy(update={"failures": failures}))
    assert "100 more rows are left out" in text
    assert len(text.encode()) < 500_000


def test_matched_training_shows_clean_beside(compare_report, monkeypatch):
    monkeypatch.setattr(html, "report_charts", lambda *_, **__: {})
    result = compare_report.results[0]
    points = tuple(
        each.model_copy(
            update={
                "comparison": each.comparison.model_copy(
                    update={"rows": tuple(row.model_copy(update={"clean": 0.9375}) for row in each.comparison.rows)}
                )
            }
        )
        for each in result.points
        if each.point.ep is not None
    )
    report = compare_report.model_copy(update={"results": (result.model_copy(update={"points": points}),)})
    text = Page(render_html(report)).text
    assert "clean [%]" in text
    assert "93.8" in text
    assert "Clean: the sensor's channel off" not in text
