"""The page: self-contained, escaped, accessible, and says what the statistics allow."""

import itertools
import re
from html.parser import HTMLParser

import pytest
from html_rules import broken_rules

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


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>A page</title></head>
<body><main><h1>A page</h1>{}</main></body></html>"""
TABLE = '<table><caption>c</caption><thead><tr><th scope="col">a</th></tr></thead><tbody>{}</tbody></table>'
SOUND = """
<section aria-label="s"><h2 id="a">A</h2><p>text <a href="#a">A</a></p><h3>B</h3></section>
<ul><li>one</li></ul><dl><div><dt>t</dt><dd>d</dd><dd>e</dd></div></dl><dl><dt>t</dt><dd>d</dd></dl>
<form aria-label="f"><fieldset><legend>l</legend><label><input type="checkbox">x</label></fieldset>
<label for="y">y</label><input id="y"><button type="reset">all</button></form>
<details><summary>s</summary><div role="region" tabindex="0" aria-labelledby="a">x</div></details>
<figure><h3>c</h3><svg role="img" aria-label="c" viewBox="0 0 1 1"><path d="M0 0"/></svg>
<figcaption>f</figcaption></figure>
""" + TABLE.format('<tr><th scope="row">x</th></tr>')


def test_a_sound_document_breaks_no_rule():
    assert broken_rules(PAGE.format(SOUND)) == []


@pytest.mark.parametrize(
    ("body", "broken"),
    [
        ("<p><div>x</div></p>", "unexpected-end-tag"),
        ('<p class="a" class="b">x</p>', "duplicate-attribute"),
        ("<table><caption>c</caption><div>x</div></table>", "unexpected-start-tag-implies-table-voodoo"),
        ("<span><div>x</div></span>", "span: holds div"),
        ("<label><ul><li>x</li></ul></label>", "label: holds ul"),
        ("<details><summary><p>x</p></summary></details>", "summary: holds p"),
        ('<p id="a">x</p><p id="a">y</p>', "id 'a': there 2 times"),
        ('<p id="a b">x</p>', "id 'a b': expected text without spaces"),
        ('<p><a href="#b">x</a></p>', "a: href names '#b', which is not there"),
        ('<p><label for="b">x</label></p>', "label: for names 'b', which is not there"),
        ('<p aria-describedby="h j" id="h">x</p>', "p: aria-describedby names 'j', which is not there"),
        ('<div role="region" aria-labelledby="b">x</div>', "div: aria-labelledby names 'b', which is not there"),
        ('<p><a href="https://a.b"><button type="button">x</button></a></p>', "button: within a"),
        ('<p><label>x <button type="button">y</button></label></p>', "button: within label"),
        ('<details><summary><a href="https://a.b">x</a></summary></details>', "a: within summary"),
        ('<p><a href="https://a.b"><span tabindex="0">x</span></a></p>', "span: within a"),
        ('<p aria-hidden="true"><a href="https://a.b">x</a></p>', "a: focusable and hidden"),
        ('<p><a href="https://a.b"></a></p>', "a: no name"),
        ('<p><input type="checkbox"></p>', "input: no label"),
        ('<p><label><input name="a"><input name="b">x</label></p>', "label: holds several controls"),
        ("<p><button>x</button></p>", "button: type None"),
        ("<h3>x</h3>", "headings: h3 follows h1"),
        ("<h1>x</h1>", "headings: expected one h1"),
        ("<h2></h2>", "h2: no text"),
        ("<section><p>x</p></section>", "section: neither heading nor name"),
        ("<main></main>", "body: expected one main"),
        ("<ul><p>x</p></ul>", "ul: holds p"),
        ("<ul>x</ul>", "ul: holds text"),
        ("<div><li>x</li></div>", "li: in div"),
        ("<dl><dd>x</dd></dl>", "dl: expected dt, then dd"),
        ("<dl><div><dt>x</dt></div></dl>", "div: expected dt, then dd"),
        ("<dl><div><dt>x</dt><dd>y</dd><dt>x</dt><dd>y</dd></div></dl>", "div: dt after dd"),
        ("<dl><dt><h2>x</h2></dt><dd>y</dd></dl>", "dt: holds h2"),
        ("<fieldset><p>x</p><legend>y</legend></fieldset>", "fieldset: expected one legend, the first of all"),
        ("<fieldset><p>x</p></fieldset>", "fieldset: expected one legend"),
        ("<details><p>x</p></details>", "details: expected one summary"),
        ("<figure><p>x</p><figcaption>y</figcaption><p>z</p></figure>", "figure: figcaption is neither first nor last"),
        ("<table><tbody><tr><td>x</td></tr></tbody></table>", "table: no caption"),
        ("<table><tbody><tr><td>x</td></tr></tbody><caption>c</caption></table>", "table: its parts are out of order"),
        (TABLE.format("<tr><td>x</td><td>y</td></tr>"), "table: rows of [1, 2] cells"),
        (TABLE.format("<tr><th>x</th></tr>"), "th: scope None"),
        (TABLE.format('<tr><th scope="row"></th></tr>'), "th: no text"),
        ('<p onclick="x()">x</p>', "p: the attribute onclick is a script"),
        ('<p href="#">x</p>', "p: no attribute href"),
        ('<p aria-labeled="x">x</p>', "p: no attribute aria-labeled"),
        ('<p role="picture">x</p>', "p: no role 'picture'"),
        ('<div role="region">x</div>', "div: role region without a name"),
        ('<p tabindex="1">x</p>', "p: tabindex '1'"),
        ("<center>x</center>", "center: no element that a report is made of"),
        ('<p><img src="data:,"></p>', "img: no alt"),
        ("<p><svg></svg></p>", "svg: neither hidden nor an image with a name"),
    ],
)
def test_each_rule_is_seen_to_be_broken(body, broken):
    assert any(broken in each for each in broken_rules(PAGE.format(body)))


@pytest.mark.parametrize(
    ("old", "new", "broken"),
    [
        ("<!doctype html>", "", "expected-doctype-but-got-start-tag"),
        (' lang="en"', "", "html: no lang"),
        ("A page</title>", "</title>", "head: expected one title"),
        ("<h1>A page</h1>", "", "headings: expected one h1"),
    ],
)
def test_each_rule_of_a_whole_page_is_seen_to_be_broken(old, new, broken):
    assert any(broken in each for each in broken_rules(PAGE.format("").replace(old, new)))


def test_pages_break_no_rule_of_html(pages):
    assert {name: broken_rules(text) for name, text in pages.items()} == {name: [] for name in pages}


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
