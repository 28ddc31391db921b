"""Charts of one sensor, without a network: what its physics say of noise and error probability."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import altair as alt
import numpy as np
import numpy.typing as npt
import torch

from robustcheck.reporting.point_axis import Record
from robustcheck.reporting.wording import number, plain
from robustcheck.sensing import camera_curves
from robustcheck.sensing.camera_profile import CameraProfile
from robustcheck.sensing.error_probability import MAX_BITS, error_probability, steps_of_bits
from robustcheck.sensing.lidar_profile import LidarProfile
from robustcheck.sensing.lidar_returns import (
    LidarSetting,
    detection_probability,
    lidar_setting,
    range_sigma,
    return_snr,
)
from robustcheck.sensing.profile import SensorProfile

_WIDTH, _HEIGHT = 560, 340
_LETTERS: Final = 110  # of a line of the heading, over each chart in a row
_DEPTHS: Final = (4.0, 6.0, 8.0, 10.0, 12.0)
_REFLECTORS: Final = (0.1, 0.8)
_MANY_DECADES: Final = 3
_DASHES: Final = ([1, 0], [6, 3], [2, 2])

_WHICH: Final = "colour: signal, dashes: reflector"

Curve = tuple[str, npt.ArrayLike, npt.ArrayLike]


@dataclass(frozen=True)
class _Axis:
    """An axis of a chart: its title, its ends (those of the data where None), and whether it is logarithmic."""

    title: str
    ends: tuple[float, float] | None = None
    log: bool = False
    zero: bool = False

    def holds(self, value: float) -> bool:
        """Whether a coordinate can be drawn."""
        return math.isfinite(value) and (self.ends is None or self.ends[0] <= value <= self.ends[1])

    @property
    def scale(self) -> Any:
        kind: dict[str, Any] = {"type": "log"} if self.log else {"zero": self.zero}
        return alt.Scale(**kind) if self.ends is None else alt.Scale(domain=list(self.ends), nice=False, **kind)

    @property
    def ticks(self) -> Any:
        """Of a logarithmic axis at 1, 2 and 5 or, of a long one, at the decades alone."""
        if not self.log or self.ends is None:
            return alt.Axis(tickCount=6)
        first, last = (round(math.log10(end), 6) for end in self.ends)
        steps = (1, 2, 5) if last - first < _MANY_DECADES else (1,)
        decades = range(math.floor(first), math.ceil(last) + 1)
        values = [float(f"{step}e{decade}") for decade in decades for step in steps]
        return alt.Axis(values=list(filter(self.holds, values)), format="~g")


def sensor_charts(profile: SensorProfile, bits: float | None = None) -> dict[str, Any]:
    """The charts of a profile, by name.

    Args:
        profile: of a camera (photon transfer, signal-to-noise ratio, EP against exposure and against bits), of a LIDAR
            (range error and detection against range) or of a converter (EP against noise).
        bits: resolution of a camera or converter, 1 to 16; the profile's own where None, and always for a LIDAR.

    Raises:
        InvalidValueError: bits out of range.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> list(sensor_charts(load_sensor("adc-4bit")))
    ['ep']
    """
    if isinstance(profile, CameraProfile):
        return {
            "photon-transfer": _photon_transfer(profile, bits),
            "snr": _snr(profile, bits),
            "ep-exposure": _ep_against_exposure(profile, bits),
            "ep-bits": _ep_against_bits(profile),
        }
    if isinstance(profile, LidarProfile):
        return {"range-error": _range_error(profile), "detection": _detection(profile)}
    return {"ep": _ep_against_noise(profile, profile.steps if bits is None else steps_of_bits(bits))}


def sensor_figure(profile: SensorProfile, bits: float | None = None) -> Any:
    """All charts of a profile in one drawing, two in a row, under its title and what in it is assumed.

    Arguments and errors are those of `sensor_charts`.
    """
    charts = tuple(sensor_charts(profile, bits).values())
    columns = min(2, len(charts))
    own = bits is None or steps_of_bits(bits) == profile.steps
    heading = alt.Title(
        profile.title + ("" if own else f", at {number(bits)} bits"),
        subtitle=textwrap.wrap(_assumed(profile), columns * _LETTERS),
        anchor="start",
        fontSize=18,
        subtitleFontSize=12,
        offset=20,
    )
    return (
        alt.concat(*charts, columns=columns, spacing={"row": 50, "column": 40})
        .resolve_scale(color="independent", strokeDash="independent")
        .properties(title=heading)
    )


def _assumed(profile: SensorProfile) -> str:
    """How many of the numbers behind the charts are assumed, and which."""
    if not profile.assumed:
        return "No number of it is assumed."
    counted = f"{len(profile.assumed)} of its {len(profile.numbers)} numbers are assumed, having no source"
    return f"{counted}: {', '.join(profile.assumed)}."


def _photon_transfer(profile: CameraProfile, bits: float | None) -> Any:
    curve = camera_curves.photon_transfer(profile, bits=bits)
    series = [
        ("all noise", curve.signal_dn, curve.variance_dn2),
        ("shot noise", curve.signal_dn, curve.shot_dn2),
        ("noise in the dark", curve.signal_dn, curve.read_dn2),
        ("quantisation", curve.signal_dn, curve.quantisation_dn2),
    ]
    least = max(1e-3, float(min(curve.quantisation_dn2[0], curve.read_dn2[0])) / 3)
    chart = _lines(
        series,
        x=_Axis("signal above the dark [DN]", log=True, ends=_decades(0.1, float(curve.signal_dn[-1]))),
        y=_Axis("temporal variance [DN²]", log=True, ends=_decades(least, float(np.max(curve.variance_dn2)))),
        marks=[(curve.saturation_dn, "saturation")],
    )
    first = ", its first capture" if profile.hdr else ""
    words = f"at {number(profile.bits.value if bits is None else bits)} bits{first}; saturation: where it peaks"
    return _titled(chart, "Photon transfer curve", f"{profile.title}: variance against mean of the codes {words}")


def _snr(profile: CameraProfile, bits: float | None) -> Any:
    curve = camera_curves.snr_curve(profile, bits=bits)
    series = [
        ("temporal noise", curve.exposure, curve.snr_db),
        ("with PRNU and DSNU", curve.exposure, curve.total_db),
        ("shot noise alone", curve.exposure, curve.ideal_db),
    ]
    chart = _lines(
        series,
        x=_Axis("exposure", log=True, ends=(camera_curves.LEAST_EXPOSURE, 1.0)),
        y=_Axis("signal-to-noise ratio [dB]"),
        marks=_named(profile),
    )
    return _titled(
        chart, "Signal-to-noise ratio against exposure", f"{profile.title}; dashed: the profile's operating points"
    )


def _ep_against_exposure(profile: CameraProfile, bits: float | None) -> Any:
    own = profile.bits.value if bits is None else bits
    curves = camera_curves.ep_against_exposure(profile, sorted({*_DEPTHS, own}))
    chart = _lines(
        [(f"{number(curve.held)} bits", curve.x, curve.ep) for curve in reversed(curves)],
        x=_Axis("exposure", log=True, ends=(camera_curves.LEAST_EXPOSURE, 1.0)),
        y=_Axis("error probability (EP)", ends=(0.0, 1.0)),
        marks=_named(profile),
    )
    return _titled(
        chart,
        "Error probability against exposure",
        f"{profile.title}: a flat field, a line a resolution; dashed: the profile's operating points",
    )


def _ep_against_bits(profile: CameraProfile) -> Any:
    points = sorted(_named(profile), reverse=True)
    curves = camera_curves.ep_against_bits(profile, [exposure for exposure, _ in points])
    chart = _lines(
        [(f"{number(e)} ({name})", curve.x, curve.ep) for (e, name), curve in zip(points, curves, strict=True)],
        x=_Axis("resolution [bits]", ends=(1.0, float(MAX_BITS))),
        y=_Axis("error probability (EP)", ends=(0.0, 1.0)),
        marks=[(profile.bits.value, "its own")],
    )
    return _titled(
        chart,
        "Error probability against resolution",
        f"{profile.title}: a flat field, a line an exposure of the profile",
    )


def _range_error(profile: LidarProfile) -> Any:
    curves, kinds = [], []
    for name, reflector, ranges, snr, setting in _returns(profile):
        seen = detection_probability(snr, setting) >= 0.5
        curves.append((name, ranges[seen].numpy(), 100 * range_sigma(snr, setting)[seen].numpy()))
        kinds.append(reflector)
    chart = _lines(
        curves,
        x=_Axis("range [m]", ends=(0.0, profile.max_range_m.value)),
        y=_Axis("range error σ [cm]", zero=True),
        kinds=kinds,
    )
    words = f"{profile.title}, as far as half of the returns are detected; {_WHICH}"
    return _titled(chart, "Range error against range", words)


def _detection(profile: LidarProfile) -> Any:
    found = list(_returns(profile))
    chart = _lines(
        [(name, ranges.numpy(), detection_probability(snr, at).numpy()) for name, _, ranges, snr, at in found],
        x=_Axis("range [m]", ends=(0.0, profile.max_range_m.value)),
        y=_Axis("detection probability", ends=(0.0, 1.0)),
        kinds=[reflector for _, reflector, *_ in found],
    )
    return _titled(chart, "Detection against range", f"{profile.title}; {_WHICH}")


def _returns(profile: LidarProfile) -> Iterator[tuple[str, str, torch.Tensor, torch.Tensor, LidarSetting]]:
    """Names of signal and reflector, ranges [m], their SNR and the setting; the profile's signals, strongest first."""
    ranges = torch.linspace(max(profile.min_range_m.value, 0.5), profile.max_range_m.value, 240)
    for signal, name in sorted(_named(profile), reverse=True):
        setting = lidar_setting(profile, signal=signal)
        for reflectivity in _REFLECTORS:
            snr = return_snr(ranges, torch.tensor(reflectivity), setting)
            yield f"signal {number(signal)} ({name})", f"{100 * reflectivity:.0f} % reflector", ranges, snr, setting


def _ep_against_noise(profile: SensorProfile, steps: int) -> Any:
    sigma = np.geomspace(0.05, 10, 200)
    series = []
    for name, definition in (("a value on a code's centre", "centre"), ("a value anywhere in its code", "adc")):
        ep = [error_probability(each / steps, steps, definition=definition) for each in sigma]  # type: ignore[arg-type]
        series.append((name, sigma, ep))
    chart = _lines(
        series,
        x=_Axis("σ of Gaussian noise [steps]", log=True, ends=(0.05, 10.0)),
        y=_Axis("error probability (EP)", ends=(0.0, 1.0)),
    )
    return _titled(chart, "Error probability against noise", f"{profile.title}: a step is 1/{steps} of full scale")


def _named(profile: CameraProfile | LidarProfile) -> list[tuple[float, str]]:
    return [(point.value, plain(name)) for name, point in profile.operating_points.items()]


def _lines(
    curves: Sequence[Curve],
    *,
    x: _Axis,
    y: _Axis,
    marks: Sequence[tuple[float, str]] = (),
    kinds: Sequence[str] | None = None,
) -> Any:
    """Curves by colour and by dashes: of their names, or of their kinds where several curves have one name."""
    records: list[Record] = [
        {"series": name, "kind": kind, "x": float(f"{a:.6g}"), "y": float(f"{b:.6g}")}
        for (name, xs, ys), kind in zip(curves, kinds or [name for name, _, _ in curves], strict=True)
        for a, b in zip(np.asarray(xs, float).tolist(), np.asarray(ys, float).tolist(), strict=True)
        if x.holds(a) and y.holds(b)
    ]
    legend = alt.Legend(orient="right", symbolType="stroke", symbolStrokeWidth=2, symbolSize=500, labelLimit=220)
    names = list(dict.fromkeys(name for name, _, _ in curves))
    dashed = list(dict.fromkeys(kinds)) if kinds else names
    dashes = [_DASHES[index % len(_DASHES)] for index in range(len(dashed))]
    horizontal = alt.X("x:Q", title=x.title, scale=x.scale, axis=x.ticks)
    lines = (
        alt.Chart(alt.Data(values=records))
        .mark_line(strokeWidth=2)
        .encode(
            x=horizontal,
            y=alt.Y("y:Q", title=y.title, scale=y.scale, axis=y.ticks),
            color=alt.Color("series:N", sort=names, legend=legend, scale=alt.Scale(domain=names)),
            strokeDash=alt.StrokeDash(
                "kind:N", sort=dashed, legend=legend, scale=alt.Scale(domain=dashed, range=dashes)
            ),
        )
    )
    layers = [lines]
    for index, (at, name) in enumerate(sorted(filter(lambda mark: x.holds(mark[0]), marks), reverse=True)):
        top = -10 - 13 * (index % 2)
        base = alt.Chart(alt.Data(values=[{"x": at, "name": name}])).encode(x=horizontal)
        layers.append(base.mark_rule(style="named", y=top - 6, y2="height"))
        layers.append(base.mark_text(style="named", align="left", dx=3, y=top).encode(text="name:N"))
    return alt.layer(*layers).properties(width=_WIDTH, height=_HEIGHT)


def _decades(low: float, high: float) -> tuple[float, float]:
    """Powers of ten that hold the values."""
    return 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))


def _titled(chart: Any, title: str, subtitle: str) -> Any:
    return chart.properties(title=alt.Title(title, subtitle=plain(subtitle)))
