"""Charts of gradient errors: functions under noise, maps of the errors, interpolations, scaling, inside a network."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import altair as alt
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from robustcheck.activations.catalogue import Activation
from robustcheck.activations.curves import evaluated
from robustcheck.analysis.gradient_growth import LOGITS, Estimated, GradientGrowth, SiteErrors
from robustcheck.analysis.gradient_scaling import Estimate, Interpolated, ScalingPoint, estimate, jump_to_smooth
from robustcheck.analysis.gradients import ErrorMap, noisy_codes
from robustcheck.reporting.charts import colour_of, data_of
from robustcheck.reporting.point_axis import Record
from robustcheck.reporting.wording import number, plain
from robustcheck.sensing.error_probability import noise_sigma
from robustcheck.sensing.noise_field import noise_field
from robustcheck.sensing.random import stream_key

_AROUND: Final = 16  # steps on each side of 0 that curves are shown for
_PER_STEP: Final = 8
_PLATE: Final = 260  # pixels along one side of a map
_LEAST_ERROR: Final = 1e-4
_SHADES: Final = ("#fcfdbf", "#fe9f6d", "#b73779", "#51127c", "#000004")  # magma, from 1e-4 to 1
_ERROR_BAND: Final = 0.15
_TWO_DIGITS: Final = 10
_WIDE: Final = 8  # between the ends of a logarithmic axis
_DODGE: Final = 4  # the larger, the nearer the intervals of several activations stand to each other


def function_figure(activations: Sequence[Activation], *, steps: int, ep: float, seed: int = 0) -> Any:
    """Function and derivative of x, of x rounded, and of x with noise and rounded, near 0.

    All activations see the same noise, drawn anew at each of 8 places a step.
    """
    reach = min(steps, _AROUND)
    x = torch.arange(-reach * _PER_STEP, reach * _PER_STEP + 1, dtype=torch.float64) / (_PER_STEP * steps)
    deviates = noise_field(stream_key(seed, "gradients", "curve"), torch.tensor([0]), 0, len(x))[0].double()
    inputs = {
        "of x": x,
        "of x rounded": noisy_codes(x, torch.zeros_like(x), steps, 0.0) / steps,
        "of x with noise, rounded": noisy_codes(x, deviates, steps, noise_sigma(ep, steps)) / steps,
    }
    names = [plain(each.spec) for each in activations]
    legend = alt.Legend(orient="bottom", columns=4, symbolType="stroke", labelLimit=400)
    panels = []
    for order, symbol in enumerate(("f", "f′")):
        for heading, values in inputs.items():
            records: list[Record] = [
                {"series": name, "x": round(at, 6), "y": float(f"{y:.5g}")}
                for name, each in zip(names, activations, strict=True)
                for at, y in zip((x * steps).tolist(), evaluated(each, values)[order].tolist(), strict=True)
            ]
            first = heading == "of x"
            lines = (
                alt.Chart(data_of(records))
                .mark_line(strokeWidth=1.4)
                .encode(
                    x=alt.X(
                        "x:Q",
                        title="x [steps of 1/p]" if order else None,
                        scale=alt.Scale(domain=[-reach, reach], nice=False),
                        axis=alt.Axis(tickCount=5, labels=bool(order)),
                    ),
                    y=alt.Y(
                        "y:Q",
                        title=symbol if first else None,
                        scale=alt.Scale(padding=8, nice=False),
                        axis=alt.Axis(tickCount=5, labels=first),
                    ),
                    color=colour_of(names, legend=legend),
                )
            )
            title = alt.Title(f"{symbol} {heading}", fontSize=12, offset=6, anchor="start")
            panels.append(lines.properties(width=220, height=170, title=title))
    rows = [alt.hconcat(*panels[at : at + 3], spacing=22, bounds="flush").resolve_scale(y="shared") for at in (0, 3)]
    return alt.vconcat(*rows, spacing=20).properties(
        title=alt.Title(
            "What noise and rounding do to a function and to its derivative",
            subtitle=f"{_place(steps, ep)}; {reach} steps on each side of 0",
        )
    )


def map_figure(maps: Sequence[ErrorMap], *, steps: int, ep: float) -> Any:
    """Maps of the gradient error over x and w, a row an activation; errors by shades on a logarithmic scale."""
    rows: dict[str, list[Any]] = {}
    for each in maps:
        rows.setdefault(each.activation, []).append(_plate(each))
    blocks = sorted({each.block for each in maps})
    said = (
        "each product drawn"
        if blocks == [1]
        else f"a dot is the largest error of up to {blocks[-1]} × {blocks[-1]} products"
    )
    shades = alt.Scale(type="log", domain=[10.0**power for power in range(-4, 1)], range=list(_SHADES))
    legend = alt.Legend(
        orient="right", title="|Δf′|", gradientLength=200, values=[10.0**power for power in range(-4, 1)], format=".3~g"
    )
    key = (
        alt.Chart(data_of([{"error": _LEAST_ERROR}, {"error": 1.0}]))
        .mark_point(opacity=0)
        .encode(color=alt.Color("error:Q", scale=shades, legend=legend))
        .properties(width=1, height=200)
    )
    plates = alt.vconcat(*(alt.hconcat(*row, spacing=34) for row in rows.values()), spacing=30)
    return alt.hconcat(plates, key, spacing=10).properties(
        title=alt.Title(
            "Where the derivative is wrong: |f′(noisy x·w) − f′(x·w)|",
            subtitle=f"{_place(steps, ep)}; one draw of the noise; {said}; white: below 0.0001",
        )
    )


def _plate(each: ErrorMap) -> Any:
    scale = alt.Scale(domain=[each.low, each.high], nice=False)
    end = 0.25 if each.region == "near zero" else 1.0
    axis = alt.Axis(values=[-end, 0, end], format=".3~g", grid=False)
    middle = (each.low + each.high) / 2
    record: Record = {"x": middle, "y": middle, "url": _picture(each.values)}
    title = f"{plain(each.activation)}, {'all of the grid' if each.region == 'full' else '|x|, |w| ≤ ¼'}"
    return (
        alt.Chart(data_of([record]))
        .mark_image(width=_PLATE, height=_PLATE, aspect=False)
        .encode(
            x=alt.X("x:Q", title="input x", scale=scale, axis=axis),
            y=alt.Y("y:Q", title="weight w", scale=scale, axis=axis),
            url="url:N",
        )
        .properties(
            width=_PLATE,
            height=_PLATE,
            title=alt.Title(
                title,
                subtitle=f"largest {number(float(each.values.max()), 3)}",
                fontSize=12,
                subtitleFontSize=11,
                offset=6,
                anchor="start",
            ),
        )
    )


def _picture(values: npt.NDArray[np.float64]) -> str:
    """A map as the data URL of a PNG: x to the right, w upwards, several dots a cell, so that no renderer blurs it."""
    stops = np.array([[int(shade[at : at + 2], 16) for at in (1, 3, 5)] for shade in _SHADES], dtype=np.float64)
    place = np.log10(np.maximum(values, _LEAST_ERROR)) + 4
    colours = np.stack([np.interp(place, range(len(stops)), stops[:, channel]) for channel in range(3)], axis=-1)
    colours[values < _LEAST_ERROR] = 255
    upright = np.flip(colours.transpose(1, 0, 2), axis=0).round().astype(np.uint8)
    often = max(1, round(2 * _PLATE / len(values)))
    image = Image.fromarray(upright.repeat(often, axis=0).repeat(often, axis=1))
    file = io.BytesIO()
    image.quantize(64).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def interpolation_figure(sweep: Sequence[Interpolated], *, steps: int, ep: float) -> Any:
    """The largest and the mean error near zero along i, a line for each s; the jump 1 − i is dashed on the left."""
    names = [f"s = {number(s)}" for s in dict.fromkeys(each.s for each in sweep)]
    jump: list[Record] = [{"kind": "1 − i", "series": "", "x": at / 100, "y": 1 - at / 100} for at in range(100)]
    x = alt.X("x:Q", title="i: 0 is ReLU, 1 is smooth", scale=alt.Scale(domain=[0, 1], nice=False))
    panels = []
    for field, title in (("maximum", "largest |Δf′|"), ("mean", "mean |Δf′|")):
        records = [
            _record(f"s = {number(each.s)}", each.i, estimate(getattr(each.errors.near_zero, field))) for each in sweep
        ]
        layers = _lines(records, names, x, title)
        if field == "maximum":
            layers.append(_dashed(jump, x, alt.Y("y:Q", **_logarithmic(records, title))))
        panels.append(alt.layer(*layers).properties(width=300, height=270))
    return alt.hconcat(*panels, spacing=34).properties(
        title=alt.Title(
            "The error falls with the jump 1 − i, and the rest is slope",
            subtitle=[
                f"interpolate(relu, gelu, i, s) near zero (|x|, |w| ≤ ¼); {_place(steps, ep)};",
                f"{_bands(len(sweep[0].errors.near_zero.maximum))}; dashed, on the left: the jump 1 − i",
            ],
        )
    )


def scaling_figure(points: Sequence[ScalingPoint], reference: str, other: str, repetitions: int) -> Any:
    """The ratio of the largest errors near zero against p, and what is left when growth with p/c is taken out."""
    found = [each for each in points if each.ratio.maximum is not None and each.scaled is not None]
    names = [f"EP {number(ep)}" for ep in dict.fromkeys(each.ep for each in points)]
    ends = [each.steps for each in points]
    across = alt.Scale(type="log", base=2, domain=[min(ends) / 1.15, max(ends) * 1.15], nice=False)
    x = alt.X(
        "x:Q",
        title="steps p (the grid has (2p + 1)² products)",
        scale=across,
        axis=alt.Axis(values=sorted(set(ends)), format="d", labelOverlap=False),
    )
    panels = []
    for field, title in (("ratio", f"ratio {plain(reference)} / {plain(other)}"), ("scaled", "ratio × c(EP) / p")):
        log = field == "ratio"

        def value(each: ScalingPoint, log: bool = log) -> Estimate:
            estimated = each.ratio.maximum if log else each.scaled
            assert estimated is not None
            return estimated

        records = [_record(f"EP {number(each.ep)}", each.steps, value(each)) for each in found]
        layers = _lines(records, names, x, title, log=log)
        # Without growth with p/c the same is expected at every EP.
        expected: list[Record] = [
            {
                "kind": "expected",
                "series": number(each.ep),
                "x": each.steps,
                "y": each.expected * (1 if log else noise_sigma(each.ep, each.steps)),
            }
            for each in points
            if each.expected is not None and (log or each.ep == points[0].ep)
        ]
        if expected:
            layers.append(_dashed(expected, x, "y:Q"))
        if log:
            layers += _ring(found, x)
        panels.append(alt.layer(*layers).properties(width=320, height=290))
    title = f"Largest errors of {plain(reference)} over those of {plain(other)}, against p and EP"
    words = [f"largest errors near zero (|x|, |w| ≤ ¼); {_bands(repetitions)}; c(EP) = σ·p"]
    if jump_to_smooth(points):
        title = "“100×” is one point of a curve"
        words += [
            "The ratio grows less than p does: a smooth derivative's largest error is a maximum over a grid that",
            "grows with p, about slope · σ√(2 ln N) for N products (dashed); the error of a jump is the jump.",
        ]
    return alt.hconcat(*panels, spacing=34).properties(title=alt.Title(title, subtitle=words))


def _ring(points: Iterable[ScalingPoint], x: Any) -> list[Any]:
    """A ring around the point at the paper's p and EP, where it is among them."""
    at: list[Record] = [
        {"x": each.steps, "y": each.ratio.maximum.value, "text": _times(each.ratio.maximum.value)}
        for each in points
        if each.steps == 256 and math.isclose(each.ep, 0.5) and each.ratio.maximum is not None
    ]
    base = alt.Chart(data_of(at)).encode(x=x, y="y:Q")
    return [
        base.mark_point(size=220, filled=False, strokeWidth=1.6, style="label"),
        base.mark_text(style="label", align="left", dx=14, dy=10).encode(text="text:N"),
    ]


def _times(ratio: float) -> str:
    """A factor in whole numbers, or two digits below 10.

    >>> _times(151.8), _times(1.536), _times(0.0105)
    ('152×', '1.5×', '0.011×')
    """
    return f"{ratio:.0f}×" if ratio >= _TWO_DIGITS else f"{number(ratio, 2)}×"


def _dashed(records: Sequence[Record], x: Any, y: Any) -> Any:
    """Quiet dashed lines, one for each series, above what they are compared with; the legend names their kind."""
    kind = alt.StrokeDash(
        "kind:N",
        scale=alt.Scale(domain=[records[0]["kind"]], range=[[5, 4]]),
        legend=alt.Legend(orient="bottom", title=None, symbolType="stroke"),
    )
    dashes = alt.Chart(data_of(records)).mark_line(style="chance", clip=True)
    return dashes.encode(x=x, y=y, detail="series:N", strokeDash=kind)


def growth_figure(growths: Sequence[GradientGrowth], own: str, place: str) -> Any:
    """Four measures at each activation site, backwards from the logits; a line an activation."""
    names = [plain(each.activation or own) for each in growths]
    paths = [plain(site.path) for site in growths[0].sites]
    measures: tuple[tuple[str, str, Callable[[SiteErrors], Estimated | None]], ...] = (
        ("Derivative: mean |Δf′|", "mean |Δf′|", lambda site: site.derivative),
        ("Gradient error that f′ here makes alone", "relative error", lambda site: site.own),
        ("Gradient error added since the logits", "relative error", lambda site: site.carried),
        ("Gradient error in all, the loss's own included", "relative error", lambda site: site.gradient),
    )
    legend = alt.Legend(orient="bottom", columns=3, symbolType="stroke", labelLimit=400)
    panels = []
    for heading, title, measure in measures:
        records = [
            _record(name, plain(site.path), found)
            for name, each in zip(names, growths, strict=True)
            for site in each.sites
            if (found := measure(site)) is not None and found.value > 0
        ]
        x = alt.X(
            "x:N",
            sort=paths,
            title="site, backwards",
            scale=alt.Scale(domain=paths),
            axis=alt.Axis(labelAngle=-30, labelLimit=110, labelOverlap=False, grid=False),
        )
        panels.append(
            alt.layer(*_lines(records, names, x, title, legend=legend, bars=True)).properties(
                width=330, height=190, title=alt.Title(heading, fontSize=12, offset=6, anchor="start")
            )
        )
    return alt.concat(*panels, columns=2, spacing={"row": 30, "column": 34}).properties(
        title=alt.Title(
            "Error of the gradient, backwards from the logits",
            subtitle=plain(f"{place}; bars: 95 % over samples and draws, this network only; {LOGITS}: where it begins"),
        )
    )


def _lines(
    records: Sequence[Record],
    names: Sequence[str],
    x: Any,
    title: str,
    *,
    log: bool = True,
    legend: Any = None,
    bars: bool = False,
) -> list[Any]:
    """Lines with points and, behind them, their intervals as bands or bars."""
    legend = legend or alt.Legend(orient="bottom", columns=4, symbolType="stroke", labelLimit=400)
    y = _logarithmic(records, title) if log else {"title": title, "scale": alt.Scale(zero=False)}
    base = alt.Chart(data_of(records))
    within = base.transform_filter("isValid(datum.lower)")
    band = within.mark_rule(strokeWidth=1.3) if bars else within.mark_area(opacity=_ERROR_BAND, line=False)
    along = {"x": x, "color": colour_of(names, legend=legend)}
    if bars:
        along["xOffset"] = alt.XOffset("series:N", sort=list(names), scale=alt.Scale(padding=_DODGE))
    return [
        band.encode(y=alt.Y("lower:Q", **y), y2="upper:Q", **along),
        base.mark_line(strokeWidth=1.8).encode(y=alt.Y("y:Q", **y), **along),
        base.mark_point(size=34, filled=True, opacity=1).encode(y=alt.Y("y:Q", **y), **along),
    ]


def _logarithmic(records: Sequence[Record], title: str) -> dict[str, Any]:
    """A logarithmic axis that holds the records and their intervals; its ticks are at 1, 2 and 5, or closer."""
    values = [float(each[key]) for each in records for key in ("lower", "y", "upper") if each[key]]  # type: ignore[arg-type]
    low, high = 0.8 * min(values, default=0.1), 1.25 * max(values, default=1.0)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low > _WIDE else (1, 1.5, 2, 3, 4, 5, 7)
    ticks = [float(f"{step}e{decade}") for decade in decades for step in steps]
    return {
        "title": title,
        "scale": alt.Scale(type="log", domain=[low, high], nice=False, clamp=True),
        "axis": alt.Axis(values=[tick for tick in ticks if low <= tick <= high], format=".3~g"),
    }


def _record(name: str, x: float | str, found: Estimate | Estimated) -> Record:
    def rounded(value: float | None) -> float | None:
        return None if value is None else float(f"{value:.5g}")

    lower = rounded(found.lower)
    # A logarithmic axis has no place for what an interval of few repetitions may reach to.
    low = None if lower is None or lower <= 0 else lower
    return {"series": name, "x": x, "y": rounded(found.value), "lower": low, "upper": rounded(found.upper)}


def _bands(repetitions: int) -> str:
    return "1 repetition, which has no interval" if repetitions == 1 else f"band: 95 % over {repetitions} repetitions"


def _place(steps: int, ep: float) -> str:
    return f"p = {steps} steps, EP {number(ep)}, σ = {number(noise_sigma(ep, steps), 3)}"
