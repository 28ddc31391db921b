"""A real turn of a VLP-16 beside the simulated one: ground scatter, missing returns, intensities.

`python tests/lidar_turn.py` writes the figure and the numbers of docs/lidar.md.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robustcheck.sensing import lidar
from robustcheck.sensing.lidar_profile import LidarProfile
from robustcheck.sensing.profile import load_sensor, with_settings

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data" / "vlp16_turn.npz"
DOCUMENT = ROOT / "docs" / "lidar.md"
FIGURE = ROOT / "docs" / "lidar-vlp16.svg"

GROUND_DEG = (-15.0, -13.0, -11.0, -9.0)
RANGE_EDGES_M = (2, 5, 10, 15, 20, 30, 40, 60, 100)
CODE_EDGES = tuple(range(0, 84, 4))
LONGEST_GAP = 10  # firings, 2 degrees
ALIKE = 0.1  # two sides of a gap are one surface if their ranges differ by less than this share
WINDOW = 11  # firings of the smoothing, 2.2 degrees
SMOOTH_M = 0.15  # a window whose residuals stay below this is one surface
DRAWS = 20

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Turn:
    """A turn, the uppermost beam first and firings from left to right: (16, 1800) ranges [m] and codes."""

    elevation_deg: Array
    ranges: Array
    codes: Array


@dataclass(frozen=True)
class Spread:
    """A number and its standard deviation over the simulated turns."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class Ground:
    """Scatter of the ranges along one beam that meets the ground [cm].

    Attributes:
        measured: of all its returns.
        simulated: the same.
        measured_smooth: of those on smooth surfaces alone.
        simulated_smooth: the same.
        third_smooth: the same where the sheet's ±3 cm are taken for three standard deviations.
    """

    measured: float
    simulated: Spread
    measured_smooth: float
    simulated_smooth: Spread
    third_smooth: Spread


@dataclass(frozen=True)
class Distance:
    """Returns from one bin of range.

    Attributes:
        firings: that meet something, as far as one can tell.
        missing: those among them without a return.
        lost: simulated share of them without a return.
        reach_m: 95 % of the returns are stronger than that of a 10 % reflector at this range.
        simulated_reach_m: the same.
    """

    firings: int
    missing: int
    lost: Spread
    reach_m: float
    simulated_reach_m: Spread


@dataclass(frozen=True)
class Comparison:
    """What is measured and what is simulated.

    Attributes:
        ground: by beam [degrees].
        distances: by bin of range [m].
        codes: bin of codes → measured and simulated share of the returns.
        beyond: measured returns beyond the profile's maximum range.
        empty: measured firings without a return.
        closed: those among them in which something is assumed to be.
    """

    ground: dict[float, Ground]
    distances: dict[str, Distance]
    codes: dict[int, tuple[float, Spread]]
    beyond: int
    empty: int
    closed: int


def real_turn() -> Turn:
    """The fixture. Its firings run clockwise, which is from left to right."""
    with np.load(DATA) as data:
        order = np.argsort(-data["elevation_deg"])
        return Turn(
            data["elevation_deg"][order].astype(float),
            data["range_lsb"].T[order] * 0.002,
            data["intensity"].T[order].astype(float),
        )


def scatter_cm(ranges: Array, where: NDArray[np.bool_] | None = None) -> float:
    """Local scatter of the ranges of one beam [cm]: from second differences, so that slopes do not count.

    The median absolute deviation of a Gaussian is σ / 1.4826, and the second difference of independent errors has √6
    times their deviation.
    """
    left, middle, right = ranges[:-2], ranges[1:-1], ranges[2:]
    whole = (left > 0) & (middle > 0) & (right > 0)
    second = (left - 2 * middle + right)[whole if where is None else whole & where[1:-1]]
    return float(100 * 1.4826 * np.median(np.abs(second - np.median(second))) / np.sqrt(6))


def reach_m(ranges: Array, codes: Array) -> float:
    """The range of a 10 % reflector (code 10) whose return 95 % of these exceed: strength falls as range² / code."""
    return float(np.percentile(ranges * np.sqrt(10 / np.maximum(codes, 0.5)), 95))


def filled(turn: Turn) -> tuple[Array, Array]:
    """Ranges and codes with the gaps closed that lie in one surface, by straight lines between their two sides.

    A gap of up to `LONGEST_GAP` firings whose two sides are about as far counts as one surface. What is missing
    otherwise (the sky, a longer gap, an edge) may have nothing to meet, and stays empty.
    """
    ranges, codes = turn.ranges.copy(), turn.codes.copy()
    firings = ranges.shape[1]
    for beam, measured in enumerate(turn.ranges):
        returns = np.flatnonzero(measured)
        for left, right in zip(returns, np.roll(returns, -1), strict=True):
            length = (right - left - 1) % firings
            near = min(measured[left], measured[right])
            if 0 < length <= LONGEST_GAP and abs(measured[left] - measured[right]) <= ALIKE * near:
                share = np.arange(1, length + 1) / (length + 1)
                gap = (left + np.arange(1, length + 1)) % firings
                for values in (ranges, codes):
                    values[beam, gap] = values[beam, left] + share * (values[beam, right] - values[beam, left])
    return ranges, codes


def smoothed(ranges: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Ranges without the noise of smooth surfaces, and where they are such: a quadratic through each window."""
    place = np.arange(WINDOW) - WINDOW // 2
    fit = np.stack((np.ones(WINDOW), place, place**2), axis=1)
    around = np.stack([np.roll(ranges, -offset, axis=1) for offset in place], axis=-1)
    curve = around @ np.linalg.pinv(fit).T @ fit.T
    smooth = (around > 0).all(axis=-1) & (np.abs(around - curve).max(axis=-1) < SMOOTH_M)
    return np.where(smooth, curve[..., WINDOW // 2], ranges), smooth


def sensed(ranges: Array, codes: Array, profile: LidarProfile, draws: int = DRAWS) -> tuple[Array, Array]:
    """Simulated turns of these surfaces, in clear air: (draws, 16, 1800) ranges [m] and codes."""
    truth = torch.tensor(np.stack((ranges / lidar.RANGE_SCALE_M, codes / 255)), dtype=torch.float32)
    images = truth.expand(draws, *truth.shape)
    setting = lidar.lidar_setting(profile, signal=1.0)
    found = lidar.sense(images, setting, 0, "turn", torch.arange(draws), 0).double().numpy()
    return found[:, 0] * lidar.RANGE_SCALE_M, found[:, 1] * 255


def compare(draws: int = DRAWS) -> Comparison:
    """Measure the real turn, simulate it with the shipped profile, and measure that."""
    profile = load_sensor("lidar-vlp16")
    assert isinstance(profile, LidarProfile)
    thirds = with_settings(
        profile,
        {
            "range_noise_m": profile.range_noise_m.value / 3,
            "range_noise_limit_m": profile.range_noise_limit_m.value / 3,
        },
    )
    assert isinstance(thirds, LidarProfile)
    turn = real_turn()
    np.testing.assert_allclose(profile.elevation_deg.values, turn.elevation_deg)
    ranges, codes = filled(turn)
    truth, smooth = smoothed(ranges)
    simulated = sensed(truth, codes, profile, draws)
    exact = sensed(truth, codes, thirds, draws)[0]
    bins = {f"{low}–{high}": (ranges > low) & (ranges <= high) for low, high in itertools.pairwise(RANGE_EDGES_M)}
    measured = histogram(turn.codes[turn.ranges > 0])
    histograms = np.stack([histogram(c[r > 0]) for r, c in zip(*simulated, strict=True)])
    return Comparison(
        ground={angle: ground(turn, simulated[0], exact, smooth, angle) for angle in GROUND_DEG},
        distances={name: distance(turn, simulated, here) for name, here in bins.items()},
        codes={low: (float(measured[i]), of_turns(histograms[:, i])) for i, low in enumerate(CODE_EDGES[:-1])},
        beyond=int((turn.ranges > profile.max_range_m.value).sum()),
        empty=int((turn.ranges == 0).sum()),
        closed=int(((turn.ranges == 0) & (ranges > 0)).sum()),
    )


def of_turns(values: Sequence[float] | Array) -> Spread:
    """Mean and standard deviation of one number over the simulated turns."""
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)))


def ground(turn: Turn, simulated: Array, exact: Array, smooth: NDArray[np.bool_], angle: float) -> Ground:
    """One beam that meets the ground."""
    row = int(np.flatnonzero(turn.elevation_deg == angle)[0])
    return Ground(
        measured=scatter_cm(turn.ranges[row]),
        simulated=of_turns([scatter_cm(one[row]) for one in simulated]),
        measured_smooth=scatter_cm(turn.ranges[row], smooth[row]),
        simulated_smooth=of_turns([scatter_cm(one[row], smooth[row]) for one in simulated]),
        third_smooth=of_turns([scatter_cm(one[row], smooth[row]) for one in exact]),
    )


def distance(turn: Turn, simulated: tuple[Array, Array], here: NDArray[np.bool_]) -> Distance:
    """The firings that meet something at one distance."""
    returned = here & (turn.ranges > 0)
    return Distance(
        firings=int(here.sum()),
        missing=int((here & ~returned).sum()),
        lost=of_turns([float((ranges[here] == 0).mean()) for ranges in simulated[0]]),
        reach_m=reach_m(turn.ranges[returned], turn.codes[returned]),
        simulated_reach_m=of_turns(
            [reach_m(r[here & (r > 0)], c[here & (r > 0)]) for r, c in zip(*simulated, strict=True)]
        ),
    )


def histogram(codes: Array) -> Array:
    """Share of the returns in each bin of codes; the last bin takes all that lies above."""
    counted = np.histogram(np.minimum(codes, CODE_EDGES[-1] - 1), CODE_EDGES)[0]
    return np.asarray(counted / counted.sum(), dtype=np.float64)


def chart(found: Comparison) -> Any:
    """The three comparisons side by side."""
    import altair as alt

    def colour() -> Any:
        legend = alt.Legend(orient="bottom", symbolType="circle", symbolOpacity=1)
        return alt.Color("series:N", title=None, scale=alt.Scale(domain=["measured", "simulated"]), legend=legend)

    def data(records: list[dict[str, Any]]) -> Any:
        return alt.Data(values=records)

    def panel(layers: list[Any], title: str) -> Any:
        return alt.layer(*layers).properties(width=250, height=230, title=alt.Title(title, fontSize=13))

    kinds = ["all returns", "smooth surfaces"]
    beams = data([
        {"beam": f"{angle:g}°".replace("-", "−"), "series": series, "kind": kind, "y": value}
        for angle, g in found.ground.items()
        for series, kind, value in (
            ("measured", kinds[0], g.measured), ("measured", kinds[1], g.measured_smooth),
            ("simulated", kinds[0], g.simulated.mean), ("simulated", kinds[1], g.simulated_smooth.mean),
        )
    ])  # fmt: skip
    x = alt.X("beam:N", sort=None, title="beam", axis=alt.Axis(labelAngle=0))
    scatter = alt.Chart(beams).mark_point(size=70, filled=True, opacity=1).encode(
        x=x, y=alt.Y("y:Q", title="scatter of the range [cm]", scale=alt.Scale(domain=[0, 5])), color=colour(),
        shape=alt.Shape("kind:N", title=None, scale=alt.Scale(domain=kinds, range=["circle", "diamond"]),
                        legend=alt.Legend(orient="bottom")),
    )  # fmt: skip
    bins = data([
        {"bin": name, "series": series, "y": 100 * value, "low": 100 * max(0, value - d), "high": 100 * (value + d)}
        for name, at in found.distances.items()
        for series, value, d in (
            ("measured", at.missing / at.firings, np.sqrt(at.missing) / at.firings),
            ("simulated", at.lost.mean, at.lost.deviation),
        )
    ])  # fmt: skip
    x = alt.X("bin:N", sort=None, title="range [m]", axis=alt.Axis(labelAngle=-45, labelOverlap=False))
    y = alt.Y("y:Q", title="firings without a return [%]")
    lost = [
        alt.Chart(bins).mark_line(strokeWidth=1.5).encode(x=x, y=y, color=colour()),
        alt.Chart(bins).mark_point(size=60, filled=True, opacity=1).encode(x=x, y=y, color=colour()),
        alt.Chart(bins).mark_rule().encode(x=x, y="low:Q", y2="high:Q", color=colour()),
    ]
    shares = data([
        {"low": low, "series": series, "y": 100 * value}
        for low, (measured, simulated) in list(found.codes.items())[:-1]  # all that lies above is in the last
        for series, value in (("measured", measured), ("simulated", simulated.mean))
    ])  # fmt: skip
    codes = alt.Chart(shares).mark_line(interpolate="step-after", strokeWidth=1.8).encode(
        x=alt.X("low:Q", title="intensity [codes of 255, 4 a bin]", axis=alt.Axis(grid=False)),
        y=alt.Y("y:Q", title="share of the returns [%]"), color=colour(),
    )  # fmt: skip
    return alt.hconcat(
        panel([scatter], "Beams that meet the ground"),
        panel(lost, "Missing returns"),
        panel([codes], "Intensities"),
        spacing=26,
        title=alt.Title(
            "A turn of a VLP-16, measured and simulated",
            subtitle=f"profile lidar-vlp16 in clear air; mean and standard deviation of {DRAWS} simulated turns",
        ),
    )


def tables(found: Comparison) -> str:
    """The numbers, as Markdown."""
    lines = [
        "| beam | all returns: measured | simulated | smooth: measured | simulated | simulated, ±3 cm as 3 σ |",
        "|---|---|---|---|---|---|",
    ]
    for angle, g in found.ground.items():
        simulated, smooth, third = (
            f"{s.mean:.2f} ± {s.deviation:.2f}" for s in (g.simulated, g.simulated_smooth, g.third_smooth)
        )
        lines.append(
            f"| {angle:g}° | {g.measured:.2f} cm | {simulated} cm "
            f"| {g.measured_smooth:.2f} cm | {smooth} cm | {third} cm |"
        )
    lines += [
        "",
        "| range | firings that meet something | missing: measured | simulated | reach: measured | simulated |",
        "|---|---|---|---|---|---|",
    ]
    for name, at in found.distances.items():
        lines.append(
            f"| {name} m | {at.firings:,} | {100 * at.missing / at.firings:.1f} % | "
            f"{100 * at.lost.mean:.1f} ± {100 * at.lost.deviation:.1f} % | {at.reach_m:.0f} m | "
            f"{at.simulated_reach_m.mean:.0f} m |"
        )
    off = sum(abs(measured - simulated.mean) for measured, simulated in found.codes.values()) / 2
    lines += [
        "",
        f"Of {found.empty:,} firings without a return {found.closed:,} lie in a gap of one surface. {found.beyond} "
        f"measured returns lie beyond 100 m. The two histograms differ in {100 * off:.1f} % of the returns.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Write the figure and the numbers."""
    from robustcheck.reporting.drawing import save

    sys.path.append(str(ROOT / "tests" / "benchmarks"))
    from table import put

    found = compare()
    save(chart(found), FIGURE)
    DOCUMENT.write_text(put(DOCUMENT.read_text(encoding="utf-8"), "numbers", tables(found)), encoding="utf-8")
    print(tables(found))


if __name__ == "__main__":
    main()
