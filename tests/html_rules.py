"""What a page breaks of HTML's content model and of its rules for names, beside what a parser complains of.

The rules are those of the HTML standard (https://html.spec.whatwg.org/, sections 3.2.5 and 4) that hold for the
elements that reports are made of, of ARIA in HTML (https://www.w3.org/TR/html-aria/) and of WCAG 2.2 where a document
alone decides them.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from xml.etree.ElementTree import Element

import html5lib

HTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
PHRASING = {
    *("a", "abbr", "b", "bdi", "br", "button", "code", "data", "em", "i", "img", "input", "kbd", "label", "mark"),
    *("output", "q", "s", "samp", "script", "select", "small", "span", "strong", "sub", "sup", "textarea", "time", "u"),
    *("var", "wbr"),
}
FLOW = PHRASING | {
    *("article", "aside", "blockquote", "details", "div", "dl", "fieldset", "figure", "footer", "form", "header", "hr"),
    *("main", "nav", "ol", "p", "pre", "section", "table", "ul", *HEADINGS),
}
PLACED = {
    *(
        "html",
        "head",
        "body",
        "meta",
        "title",
        "style",
        "link",
        "li",
        "dt",
        "dd",
        "caption",
        "colgroup",
        "col",
        "thead",
    ),
    *("tbody", "tfoot", "tr", "th", "td", "legend", "figcaption", "summary", "option"),
}
"""Elements that stand in certain others alone."""
ONLY_PHRASING = {
    *("p", *HEADINGS, "span", "strong", "em", "b", "i", "small", "code", "abbr", "mark", "sub", "sup", "label"),
    *("button", "legend", "summary", "pre", "a"),
}
MAY_HOLD_HEADINGS = {"legend", "summary"}
PARENTS = {
    "li": {"ul", "ol"}, "dt": {"dl", "div"}, "dd": {"dl", "div"}, "caption": {"table"}, "thead": {"table"},
    "tbody": {"table"}, "tfoot": {"table"}, "tr": {"thead", "tbody", "tfoot"}, "th": {"tr"}, "td": {"tr"},
    "legend": {"fieldset"}, "figcaption": {"figure"}, "summary": {"details"},
}  # fmt: skip
CHILDREN = {
    "ul": {"li"}, "ol": {"li"}, "dl": {"dt", "dd", "div"}, "tr": {"th", "td"}, "thead": {"tr"}, "tbody": {"tr"},
    "table": {"caption", "colgroup", "thead", "tbody", "tfoot"},
}  # fmt: skip
GLOBAL = {"id", "class", "style", "hidden", "tabindex", "lang", "dir", "title", "role"}
ATTRIBUTES = {
    "a": {"href"}, "meta": {"charset", "name", "content", "http-equiv"}, "th": {"scope", "colspan", "rowspan"},
    "td": {"colspan", "rowspan"}, "img": {"src", "alt", "width", "height"}, "details": {"open"},
    "input": {"type", "name", "value", "checked", "disabled"}, "button": {"type", "name", "value", "disabled"},
    "label": {"for"}, "form": {"action", "method"}, "ol": {"start"}, "fieldset": {"disabled", "name"},
}  # fmt: skip
ROLES = {
    *("alert", "application", "banner", "button", "cell", "checkbox", "columnheader", "complementary", "contentinfo"),
    *("definition", "dialog", "document", "figure", "form", "grid", "group", "heading", "img", "link", "list"),
    *("listitem", "log", "main", "navigation", "none", "note", "presentation", "region", "row", "rowgroup"),
    *("rowheader", "search", "status", "switch", "tab", "table", "tablist", "tabpanel", "term", "toolbar", "tooltip"),
}
NAMED_ROLES = {"application", "dialog", "figure", "form", "group", "img", "region", "toolbar"}
ARIA = {
    *("aria-label", "aria-labelledby", "aria-describedby", "aria-controls", "aria-hidden", "aria-live", "aria-owns"),
    *("aria-expanded", "aria-current", "aria-checked", "aria-pressed", "aria-details", "aria-atomic", "aria-busy"),
}
REFERENCES = ("for", "aria-labelledby", "aria-describedby", "aria-controls", "aria-owns", "aria-details")
CONTROLS = {"a", "button", "input", "select", "textarea", "label", "details"}


def broken_rules(text: str) -> list[str]:
    """One sentence for each rule that a page breaks, in the order of the rules; empty for a page that breaks none."""
    parser = html5lib.HTMLParser(tree=html5lib.getTreeBuilder("etree"))
    root = parser.parse(text)
    found = [f"line {line}: {code} {data or ''}".rstrip() for (line, _), code, data in parser.errors]
    parents = {child: parent for parent in root.iter() for child in parent}
    for rule in (_document, _names, _headings, _elements, _attributes, _models, _tables, _interaction, _pictures):
        found += rule(root, parents)
    return found


def _name(element: Element) -> str:
    """`p` of HTML, `svg:path` of SVG, `#comment` of a comment."""
    if not isinstance(element.tag, str):
        return "#comment"
    return element.tag.removeprefix(HTML).replace(SVG, "svg:")


def _all(root: Element, *names: str) -> list[Element]:
    return [each for each in root.iter() if _name(each) in names]


def _children(element: Element) -> list[str]:
    return [name for name in map(_name, element) if name != "#comment"]


def _text(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def _own_text(element: Element) -> str:
    return "".join([element.text or "", *(child.tail or "" for child in element)]).strip()


def _above(element: Element, parents: dict[Element, Element]) -> Iterator[Element]:
    while element in parents:
        element = parents[element]
        yield element


def _is_named(element: Element) -> bool:
    return bool(element.get("aria-label", "").strip() or element.get("aria-labelledby", "").strip())


def _document(root, parents):
    if not root.get("lang"):
        yield "html: no lang"
    titles = [each for each in _all(root, "title") if _name(parents[each]) == "head"]
    if len(titles) != 1 or not _text(titles[0]):
        yield "head: expected one title with text"
    if len(_all(root, "main")) != 1:
        yield "body: expected one main"


def _names(root, parents):
    ids = Counter(each.get("id") for each in root.iter() if each.get("id") is not None)
    for name, count in ids.items():
        if count > 1:
            yield f"id {name!r}: there {count} times"
        if not name or name.split() != [name]:
            yield f"id {name!r}: expected text without spaces"
    for each in root.iter():
        for attribute in REFERENCES:
            lacking = [name for name in each.get(attribute, "").split() if name not in ids]
            if lacking:
                yield f"{_name(each)}: {attribute} names {lacking[0]!r}, which is not there"
        target = each.get("href", "")
        if _name(each) == "a" and target.startswith("#") and target[1:] not in ids:
            yield f"a: href names {target!r}, which is not there"


def _headings(root, parents):
    levels = [int(_name(each)[1]) for each in _all(root, *HEADINGS)]
    if levels[:1] != [1] or levels.count(1) != 1:
        yield "headings: expected one h1, the first of all"
    for before, after in pairwise(levels):
        if after > before + 1:
            yield f"headings: h{after} follows h{before}"
    for each in _all(root, *HEADINGS):
        if not _text(each):
            yield f"{_name(each)}: no text"
    for each in _all(root, "section"):
        if not _is_named(each) and not any(_name(child) in HEADINGS for child in each.iter()):
            yield "section: neither heading nor name"


def _elements(root, parents):
    for each in root.iter():
        name = _name(each)
        if not name.startswith(("svg:", "#")) and name not in FLOW | PLACED:
            yield f"{name}: no element that a report is made of"


def _attributes(root, parents):
    for each in root.iter():
        name = _name(each)
        for attribute, value in each.attrib.items():
            if attribute.startswith("on"):
                yield f"{name}: the attribute {attribute} is a script"
            elif attribute.startswith("aria-"):
                if attribute not in ARIA:
                    yield f"{name}: no attribute {attribute}"
            elif not (
                name.startswith("svg:") or attribute.startswith("data-")
                or attribute in GLOBAL | ATTRIBUTES.get(name, set())
            ):  # fmt: skip
                yield f"{name}: no attribute {attribute}"
            if attribute == "role" and value not in ROLES:
                yield f"{name}: no role {value!r}"
            if attribute == "tabindex" and value not in ("0", "-1"):
                yield f"{name}: tabindex {value!r}"
        if each.get("role") in NAMED_ROLES and not _is_named(each):
            yield f"{name}: role {each.get('role')} without a name"


def _models(root, parents):
    for each in root.iter():
        name, inside = _name(each), _children(each)
        parent = _name(parents[each]) if each in parents else ""
        if parent not in PARENTS.get(name, {parent}):
            yield f"{name}: in {parent}"
        if name in ONLY_PHRASING:
            allowed = PHRASING | (set(HEADINGS) if name in MAY_HOLD_HEADINGS else set())
            yield from (f"{name}: holds {child}" for child in inside if child not in allowed and child != "svg:svg")
        if name in CHILDREN:
            yield from (f"{name}: holds {child}" for child in inside if child not in CHILDREN[name])
            if _own_text(each):
                yield f"{name}: holds text"
        if name == "dl" or (name == "div" and parent == "dl"):
            yield from _groups(name, inside)
        if name == "fieldset" and (inside[:1] != ["legend"] or "legend" in inside[1:]):
            yield "fieldset: expected one legend, the first of all"
        if name == "details" and (inside[:1] != ["summary"] or "summary" in inside[1:]):
            yield "details: expected one summary, the first of all"
        if name == "figure" and "figcaption" in inside[1:-1]:
            yield "figure: figcaption is neither first nor last"
        if name in ("dt", "th", "header", "footer"):
            yield from (
                f"{name}: holds {_name(below)}"
                for below in each.iter()
                if below is not each
                and _name(below) in {"header", "footer", *(HEADINGS if name in ("dt", "th") else ())}
            )


def _groups(name, inside):
    """A list of terms: either divs, each with terms and then texts, or terms and texts themselves."""
    if name == "dl" and set(inside) == {"div"}:
        return
    if inside[:1] != ["dt"] or inside[-1:] != ["dd"] or "div" in inside:
        yield f"{name}: expected dt, then dd, got {inside}"
    if name == "div" and inside != sorted(inside, reverse=True):
        yield f"{name}: dt after dd"


def _tables(root, parents):
    order = {name: number for number, name in enumerate(("caption", "colgroup", "thead", "tbody", "tfoot"))}
    for table in _all(root, "table"):
        numbers = [order[name] for name in _children(table) if name in order]
        if numbers != sorted(numbers) or numbers.count(0) > 1:
            yield "table: its parts are out of order"
        captions = [each for each in table if _name(each) == "caption"]
        if not captions or not _text(captions[0]):
            yield "table: no caption"
        if any(_name(each) == "table" for caption in captions for each in caption.iter()):
            yield "caption: holds table"
        widths = {sum(int(cell.get("colspan", "1")) for cell in row) for row in _all(table, "tr")}
        if len(widths) > 1 and not any("rowspan" in cell.attrib for cell in table.iter()):
            yield f"table: rows of {sorted(widths)} cells"
        for cell in _all(table, "th"):
            if cell.get("scope") not in ("col", "row", "colgroup", "rowgroup"):
                yield f"th: scope {cell.get('scope')!r}"
            if not _text(cell):
                yield "th: no text"


def _interaction(root, parents):
    for each in root.iter():
        name = _name(each)
        focusable = name in CONTROLS - {"label"} or "tabindex" in each.attrib
        if name in CONTROLS or "tabindex" in each.attrib:
            around = {_name(above) for above in _above(each, parents)}
            barred = around & ({"a", "button", "summary"} | (set() if name in ("input", "select") else {"label"}))
            if barred:
                yield f"{name}: within {sorted(barred)[0]}"
        if focusable and any(above.get("aria-hidden") == "true" for above in (each, *_above(each, parents))):
            yield f"{name}: focusable and hidden"
        if name in ("a", "button", "summary", "legend", "label") and not _text(each) and not _is_named(each):
            yield f"{name}: no name"
        if name == "input" and not _is_named(each) and not _has_label(each, root, parents):
            yield "input: no label"
        if name == "label" and len(_all(each, "input", "select", "textarea")) > 1:
            yield "label: holds several controls"
        if name == "button" and each.get("type") not in ("button", "reset", "submit"):
            yield f"button: type {each.get('type')!r}"


def _has_label(control, root, parents):
    around = any(_name(above) == "label" for above in _above(control, parents))
    return around or any(each.get("for") == control.get("id", "") for each in _all(root, "label"))


def _pictures(root, parents):
    for each in _all(root, "img"):
        if "alt" not in each.attrib:
            yield "img: no alt"
    for each in _all(root, "svg:svg"):
        if each.get("aria-hidden") != "true" and not (each.get("role") == "img" and _is_named(each)):
            yield "svg: neither hidden nor an image with a name"
