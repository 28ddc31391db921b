"""Colours and marks of charts and pages: told apart by colour-blind readers, on light and on dark ground."""

from __future__ import annotations

from typing import Any, Literal

Theme = Literal["light", "dark", "page"]

FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right", "triangle-left")

# Chosen by search: at least 3 : 1 to the ground, and apart for readers with any of the three dichromacies.
_SERIES = {
    "light": (
        "#0072b2",
        "#d55e00",
        "#009070",
        "#880066",
        "#6622bb",
        "#664411",
        "#779955",
        "#ee22cc",
        "#991144",
        "#aa77ff",
    ),
    "dark": (
        "#4aa8e8",
        "#ff8a3d",
        "#2fc79a",
        "#8866ee",
        "#ee00aa",
        "#eedd00",
        "#558844",
        "#ff1144",
        "#ee99cc",
        "#aadd88",
    ),
}
_ROLES = {
    "light": {"paper": "#ffffff", "ink": "#1b2026", "quiet": "#59636e", "line": "#d9dee3", "other": "#8a929a"},
    "dark": {"paper": "#14181d", "ink": "#e8ebee", "quiet": "#a3adb7", "line": "#343b43", "other": "#8a929a"},
}
SERIES = len(_SERIES["light"])
_MOST_SERIES = 200


def colours(theme: Theme) -> dict[str, str]:
    """Role → colour. The theme `page` names the custom properties that `variables` declares in a style sheet.

    >>> colours("light")["series-0"], colours("page")["series-0"]
    ('#0072b2', 'var(--series-0)')
    """
    if theme == "page":
        return {role: f"var(--{role})" for role in colours("light")}
    return {**_ROLES[theme], **{f"series-{index}": colour for index, colour in enumerate(_SERIES[theme])}}


def variables(theme: Literal["light", "dark"]) -> str:
    """The colours as declarations of CSS custom properties."""
    return " ".join(f"--{role}: {colour};" for role, colour in colours(theme).items())


def config(theme: Theme) -> dict[str, Any]:
    """The Vega-Lite configuration of a theme; series beyond the colours that can be told apart are grey."""
    colour = colours(theme)
    category = [colour[f"series-{index}"] if index < SERIES else colour["other"] for index in range(_MOST_SERIES)]
    title = {"color": colour["ink"], "subtitleColor": colour["quiet"], "anchor": "start", "frame": "group"}
    text = {"labelColor": colour["quiet"], "titleColor": colour["quiet"]}
    return {
        "aria": theme == "page",
        "background": None if theme == "page" else colour["paper"],
        "font": FONT,
        "padding": 4 if theme == "page" else 16,
        "title": {**title, "fontSize": 15, "subtitleFontSize": 12, "subtitlePadding": 5, "offset": 14},
        "view": {"stroke": None},
        "axis": {
            **text,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "domainColor": colour["quiet"],
            "tickColor": colour["quiet"],
            "gridColor": colour["line"],
            "labelPadding": 5,
            "titlePadding": 9,
            "labelOverlap": "greedy",
            "labelFlush": False,
        },
        "legend": {
            **text,
            "labelColor": colour["ink"],
            "labelFontSize": 12,
            "symbolSize": 60,
            "symbolOpacity": 1,
            "title": None,
        },
        "range": {"category": category},
        "style": {
            "chance": {"color": colour["quiet"], "strokeDash": [2, 3], "strokeWidth": 1.2},
            "zero": {"color": colour["quiet"], "strokeWidth": 1},
            "leader": {"color": colour["quiet"], "strokeWidth": 0.7},
            "label": {"color": colour["ink"], "fontSize": 12},
            "named": {"color": colour["quiet"], "strokeWidth": 0.8, "strokeDash": [5, 4], "fontSize": 11},
            "paper": {"color": colour["paper"]},
        },
    }
