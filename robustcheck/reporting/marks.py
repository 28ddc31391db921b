"""Marks of a chart that a page can show, hide and explain."""

from __future__ import annotations

import re

_MARKED = re.compile(r' aria-label="§(\d*)§(\d*)§([^"]*)"')


def marked(series: int, point: int | None = None, text: str = "") -> str:
    """What the `description` of a mark says, so that a page can show, hide and explain it.

    Args:
        series: which line it belongs to.
        point: which operating point it belongs to; None for marks of several.
        text: shown where a reader points at it.
    """
    return f"§{series}§{'' if point is None else point}§{text}"


def shown(tag: str) -> str:
    """An SVG tag with what `marked` said as attributes of its own.

    >>> shown('<path aria-label="§2§0§gelu at EP 0.5" d="M0">')
    '<path data-series="2" data-point="0" data-tip="gelu at EP 0.5" d="M0">'
    """
    return _MARKED.sub(
        lambda mark: (
            f' data-series="{mark[1]}"'
            + (f' data-point="{mark[2]}"' if mark[2] else "")
            + (f' data-tip="{mark[3]}"' if mark[3] else "")
        ),
        tag,
    )
