"""The page in a real browser: nothing is loaded, nothing complains, charts are drawn, filters and hovering work."""

import re

import pytest
from html_rules import broken_rules
from playwright.sync_api import sync_playwright
from synthetic_report import ACTIVATIONS, EPS, build

from robustcheck.reporting.files import write_report
from robustcheck.reporting.html import render_html
from robustcheck.reporting.produce import run_study
from robustcheck.reporting.report import Report
from robustcheck.study.plan import Study

pytestmark = pytest.mark.chromium

NAMED = {"button", "checkbox", "form", "heading", "image", "link", "navigation", "region", "table"}
EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    write_report(build(), folder)
    return folder / "report.html"


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    study = Study.create(
        kind="audit",
        models=[{"spec": "digits-convnet"}],
        data={"spec": "digits", "max_samples": 300},
        sensors=[{"spec": "adc-4bit", "placement": "network"}],
        eps=(0.2, 0.8),
        sensitivity=True,
    )
    folder = tmp_path_factory.mktemp("audited")
    write_report(run_study(study), folder)
    return folder / "report.html"


class Visit:
    """A page that is open, with all that it said or asked for."""

    def __init__(self, browser, path, width=1440, **options):
        self.page = browser.new_page(viewport={"width": width, "height": 900}, **options)
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def shown(self, selector):
        return self.page.locator(selector).filter(visible=True)


@pytest.fixture
def visit(browser):
    opened = []

    def go(path, **options):
        opened.append(Visit(browser, path, **options))
        return opened[-1]

    yield go
    for each in opened:
        each.page.close()


@pytest.mark.parametrize("width", [375, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("which", ["compared", "audited"])
def test_a_page_is_quiet_asks_for_nothing_and_fits(visit, request, which, width, scheme):
    path = request.getfixturevalue(which)
    seen = visit(path, width=width, color_scheme=scheme)
    assert seen.said == []
    assert [url for url in seen.asked if not url.startswith("data:")] == [path.as_uri()]
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    paper = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")


def test_every_mark_of_the_charts_is_drawn(visit, compared):
    seen = visit(compared)
    accuracy = seen.page.locator("figure", has_text="Accuracy against error probability").locator(".wide")
    kinds = len(EPS) + 2
    assert accuracy.locator("[data-tip]").count() == len(ACTIVATIONS) * kinds
    # An area and a line over the curve, a name at its end with leader and mark, an interval at each still point.
    assert accuracy.locator("[data-series]").count() == len(ACTIVATIONS) * (kinds + 2 + 3 + 2)
    ranks = seen.page.locator("figure", has_text="Which activations differ").locator(".wide")
    assert ranks.locator("[data-series]").count() == 3 * len(ACTIVATIONS)
    box = accuracy.locator("svg").bounding_box()
    assert box["width"] > 600
    assert box["height"] > 300


def test_pointing_at_a_mark_tells_its_numbers(visit, compared):
    seen = visit(compared)
    report = build()
    row = next(row for row in report.results[0].points[3].comparison.rows if row.activation == "gelu")
    tip = seen.page.locator("#tip")
    assert not tip.is_visible()
    for covering in ("silu", "mish", "aptx"):
        seen.page.get_by_label(covering, exact=True).uncheck()
    seen.page.locator(".wide [data-tip^='gelu at EP 0.4']").first.hover()
    assert tip.is_visible()
    assert tip.inner_text().startswith(f"gelu at EP 0.4: {100 * row.accuracy:.1f} % (")
    seen.page.mouse.move(0, 0)
    seen.page.locator("h1").hover()
    assert not tip.is_visible()


def test_arrow_keys_step_through_a_chart(visit, compared):
    seen = visit(compared)
    seen.page.locator(".chart.wide").first.focus()
    told = []
    for _ in range(3):
        seen.page.keyboard.press("ArrowRight")
        told.append(seen.page.locator("#tip").inner_text())
    assert len(set(told)) == 3
    seen.page.keyboard.press("ArrowLeft")
    assert seen.page.locator("#tip").inner_text() == told[1]
    seen.page.keyboard.press("Escape")
    assert not seen.page.locator("#tip").is_visible()


def test_arrow_keys_pass_over_what_is_filtered_out(visit, compared):
    seen = visit(compared)
    seen.page.get_by_label("relu", exact=True).uncheck()
    seen.page.locator(".chart.wide").first.focus()
    told = []
    for _ in range((len(ACTIVATIONS) - 1) * (len(EPS) + 2)):
        seen.page.keyboard.press("ArrowRight")
        told.append(seen.page.locator("#tip").inner_text())
    assert len(set(told)) == len(told)
    assert not any(text.startswith("relu") for text in told)


def test_filters_hide_an_activation_and_an_operating_point_everywhere(visit, compared):
    seen = visit(compared)
    of_gelu, at_04 = "[data-tip^='gelu at']", "[data-tip*=' at EP 0.4']"
    rows = "tbody tr:has(th:text-is('gelu'))"
    before = seen.shown(of_gelu).count(), seen.shown(rows).count()
    assert min(before) > 0
    seen.page.get_by_label("gelu", exact=True).uncheck()
    assert seen.shown(of_gelu).count() == 0
    assert seen.shown(f"#result-1 {rows}").count() == 0
    assert seen.shown("[data-tip^='relu']").count() > 0
    headings = "th:text-is('EP 0.4')"
    assert seen.shown(headings).count() == 1
    seen.page.get_by_label("EP 0.4", exact=True).uncheck()
    assert seen.shown(at_04).count() == 0
    assert seen.shown(headings).count() == 0
    assert seen.shown(".ranking:has-text('EP 0.4 (')").count() == 0
    seen.page.get_by_role("button", name="Show all").click()
    assert (seen.shown(of_gelu).count(), seen.shown(rows).count()) == before
    assert seen.shown(at_04).count() > 0


def test_the_evidence_is_shown(visit, audited):
    seen = visit(audited)
    pictures = seen.page.locator(".shots img")
    assert pictures.count() == 6 * 3
    assert all(pictures.nth(index).evaluate("image => image.naturalWidth") == 8 for index in range(18))
    matrix = seen.page.locator(".confusion").first
    counts = [int(text) for text in matrix.locator("td").all_inner_texts() if text]
    assert sum(counts) == int(re.search(r"(\d+) predictions", seen.page.locator("summary").first.inner_text())[1])
    assert seen.page.locator("td.right").first.evaluate("cell => getComputedStyle(cell).backgroundColor") not in (
        "rgba(0, 0, 0, 0)",
        "transparent",
    )
    assert seen.page.get_by_text("Noise at one site alone").is_visible()


def test_on_paper_nothing_of_the_screen_is_left(visit, compared):
    seen = visit(compared)
    seen.page.emulate_media(media="print")
    assert not seen.page.locator("#filter").is_visible()
    assert not seen.page.locator("nav").is_visible()
    assert seen.shown(".chart.wide").count() > 0
    assert seen.shown(".chart.narrow").count() == 0


def test_without_its_script_the_page_shows_everything(browser, compared):
    page = browser.new_page(java_script_enabled=False)
    page.goto(compared.as_uri())
    assert not page.locator("#filter").is_visible()
    assert page.locator("tbody tr").filter(visible=True).count() > 20
    page.close()


def test_hostile_names_are_text(visit, tmp_path):
    report = build(activations=("relu", EVIL), class_names=(EVIL, *"123456789"), model=f"{EVIL}.onnx")
    write_report(report, tmp_path)
    seen = visit(tmp_path / "report.html")
    assert seen.said == []
    assert seen.page.locator("script").count() == 1
    assert seen.page.locator("body").inner_text().count(EVIL) > 3
    seen.page.locator(f".wide [data-tip^='{EVIL}']").first.hover()
    assert seen.page.locator("#tip").inner_text().startswith(EVIL)


def test_a_changed_script_does_not_run(visit, compared, tmp_path):
    tampered = tmp_path / "report.html"
    tampered.write_text(compared.read_text().replace('"use strict";', 'alert("ran");'))
    seen = visit(tampered)
    assert not seen.page.locator("#filter").is_visible()
    assert all("Content Security Policy" in said for said in seen.said)


def test_pages_with_many_pictures_stay_small(audited):
    report = Report.load(audited.with_name("report.json"))
    (found,) = report.examples
    large = found.model_copy(
        update={
            "samples": tuple(
                sample.model_copy(
                    update={
                        "pictures": tuple(
                            picture.model_copy(update={"png": "A" * 20_000}) for picture in sample.pictures
                        )
                    }
                )
                for sample in found.samples
            )
        }
    )
    page = render_html(report.model_copy(update={"examples": (large,) * 12}))
    assert 300_000 < len(page) < 2_000_000


def test_the_evidence_is_valid_html(audited):
    assert broken_rules(audited.read_text(encoding="utf-8")) == []


CONTRAST = """() => {
    const pixel = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const painted = (colours) => {
        for (const colour of ["white", ...colours]) {
            pixel.fillStyle = colour;
            pixel.fillRect(0, 0, 1, 1);
        }
        const [r, g, b] = pixel.getImageData(0, 0, 1, 1).data;
        const linear = [r, g, b].map((value) => value / 255).map(
            (value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    };
    const found = [];
    for (const element of document.body.querySelectorAll("*")) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || !element.checkVisibility() || ["STYLE", "SCRIPT"].includes(element.tagName)) continue;
        const behind = [];
        for (let each = element; each; each = each.parentElement) {
            behind.unshift(getComputedStyle(each).backgroundColor);
        }
        const style = getComputedStyle(element);
        const colour = element instanceof SVGElement ? style.fill : style.color;
        const [below, above] = [painted(behind), painted([...behind, colour])].sort((a, b) => a - b);
        found.push([(above + 0.05) / (below + 0.05), element.textContent.trim().slice(0, 40)]);
    }
    return found;
}"""

TOO_CLOSE = """() => {
    const targets = [...document.querySelectorAll("a, button, input, summary, [tabindex]")]
        .filter((each) => each.checkVisibility())
        .map((each) => {
            const box = (each.closest("label") ?? each).getBoundingClientRect();
            return { each, box, x: box.x + box.width / 2, y: box.y + box.height / 2 };
        });
    const small = targets.filter(({ box }) => Math.min(box.width, box.height) < 24);
    const near = ({ x, y }, { box }) => Math.hypot(
        Math.max(box.left - x, 0, x - box.right), Math.max(box.top - y, 0, y - box.bottom)) < 12;
    const apart = (one, other) => small.includes(other)
        ? Math.hypot(one.x - other.x, one.y - other.y) >= 24 : !near(one, other);
    return small.filter((one) => targets.some(
        (other) => other !== one && !other.each.contains(one.each) && !apart(one, other)))
        .map(({ each }) => each.outerHTML.slice(0, 80));
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("which", ["compared", "audited"])
def test_text_stands_out_from_what_is_behind_it(visit, request, which, scheme):
    """WCAG 2.2, 1.4.3: a contrast of 4.5 at least, here for large text too."""
    seen = visit(request.getfixturevalue(which), color_scheme=scheme)
    seen.page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    for kind in ("right", "wrong"):  # the darkest that a cell of the matrix can be
        seen.page.evaluate(f"document.querySelector('td.{kind}')?.style.setProperty('--share', 1)")
    found = seen.page.evaluate(CONTRAST)
    assert len(found) > 100
    assert [each for each in found if each[0] < 4.5] == []


@pytest.mark.parametrize("width", [340, 1440])  # at 340 px boxes of the filter stand below each other
@pytest.mark.parametrize("which", ["compared", "audited"])
def test_what_is_pressed_is_large_or_far_from_others(visit, request, which, width):
    """WCAG 2.2, 2.5.8: 24 by 24 CSS pixels, or that much room around it."""
    assert visit(request.getfixturevalue(which), width=width).page.evaluate(TOO_CLOSE) == []


@pytest.mark.parametrize("which", ["compared", "audited"])
def test_a_screen_reader_has_a_name_for_all_that_is_used(visit, request, which):
    seen = visit(request.getfixturevalue(which))
    seen.page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    nodes = seen.page.context.new_cdp_session(seen.page).send("Accessibility.getFullAXTree")["nodes"]
    used = []
    for node in nodes:
        focusable = any(each["name"] == "focusable" for each in node.get("properties", ()))
        role = node.get("role", {}).get("value")
        if not node["ignored"] and (focusable or role in NAMED):
            used.append((role, node.get("name", {}).get("value", "")))
    assert {role for role, _ in used} >= {"checkbox", "button", "link", "image", "table", "region", "group"}
    assert [role for role, name in used if not name.strip()] == []
