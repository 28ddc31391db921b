"""Gradient errors as tables for terminal and page, and as a document for machines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table as Grid

from robustcheck.activations.catalogue import Activation
from robustcheck.analysis.gradient_growth import Estimated, GradientGrowth, SiteErrors
from robustcheck.analysis.gradient_scaling import Estimate, Interpolated, ScalingPoint, estimate, jump_to_smooth, ratio
from robustcheck.analysis.gradients import REGIONS, GradientErrors, Region, curvature, derivative_jump, gradient_bits
from robustcheck.reporting.tables import Line, Table
from robustcheck.reporting.terminal import say, text_for
from robustcheck.reporting.wording import MINUS, NONE, counted, listed, number, plain
from robustcheck.sensing.error_probability import bits_of_steps, noise_sigma

_FEW: Final = 5  # repetitions: with fewer, Student's t is 3 and more standard errors
_WIDE: Final = 10  # times its lower end, where an interval ends


@dataclass(frozen=True)
class Measured:
    """The gradient errors of all activations at each p and EP, under the same noise; the first is the reference."""

    activations: tuple[Activation, ...]
    points: tuple[tuple[GradientErrors, ...], ...]
    repetitions: int
    seed: int
    interpolation: tuple[Interpolated, ...] = ()
    scaling: tuple[ScalingPoint, ...] = ()


@dataclass(frozen=True)
class Inside:
    """What was measured inside one network at one operating point; `own` names its own activations.

    `samples` are those of the test split that were used, each in `draws` draws of the noise of `seed`. `weights` is
    None where none were given.
    """

    model: str
    data: str
    sensor: str
    point: str
    placement: str
    own: str
    samples: int
    draws: int
    seed: int
    weights: str | None
    growths: tuple[GradientGrowth, ...]

    @property
    def place(self) -> str:
        """In one line."""
        return plain(f"{self.model} on {self.data}, {self.sensor}, {self.point}, placement {self.placement}")


def tables(measured: Measured) -> tuple[Table, ...]:
    """Functions near 0, the errors at each p and EP, and the sweeps that were made."""
    found = [
        _functions(measured.activations),
        *(_errors(point, region, measured) for point in measured.points for region in REGIONS),
    ]
    if measured.interpolation:
        found.append(_interpolation(measured))
    if measured.scaling:
        found.append(_scaling(measured))
    return tuple(found)


def document(measured: Measured) -> dict[str, Any]:
    """All numbers, for JSON; an infinite number of bits is "inf", since JSON has no such number."""
    reference = measured.activations[0].spec
    found: dict[str, Any] = {
        "kind": "gradient errors",
        "reference": reference,
        "repetitions": measured.repetitions,
        "seed": measured.seed,
        "functions": [
            {
                "activation": each.spec,
                "jump_at_0": derivative_jump(each),
                "slope_at_0": _slope(each),
                "gradient_bits": bits if math.isfinite(bits := gradient_bits(each)) else "inf",
            }
            for each in measured.activations
        ],
        "points": [
            {
                "steps": point[0].steps,
                "bits": bits_of_steps(point[0].steps),
                "ep": point[0].ep,
                "sigma": noise_sigma(point[0].ep, point[0].steps),
                "errors": [_error_facts(each, point[0]) for each in point],
            }
            for point in measured.points
        ],
    }
    if measured.interpolation:
        found["interpolation"] = [
            {
                "i": each.i,
                "s": each.s,
                "steps": each.errors.steps,
                "ep": each.errors.ep,
                "near_zero": {
                    "maximum": asdict(estimate(each.errors.near_zero.maximum)),
                    "mean": asdict(estimate(each.errors.near_zero.mean)),
                },
            }
            for each in measured.interpolation
        ]
    if measured.scaling:
        found["scaling"] = {
            "reference": reference,
            "other": measured.activations[1].spec,
            "points": [asdict(each) for each in measured.scaling],
        }
    return found


_AT_SITES: dict[str, Callable[[SiteErrors], str]] = {
    "mean |Δf′|": lambda site: _interval(site.derivative),
    "largest": lambda site: number(site.largest, 3),
    "over ½": lambda site: NONE if site.flipped is None else f"{number(100 * site.flipped.value, 2)} %",
    "error by f′ alone": lambda site: _interval(site.own),
}
_BACKWARDS: dict[str, Callable[[SiteErrors], str]] = {
    "error added": lambda site: _interval(site.carried),
    "error in all": lambda site: _interval(site.gradient),
    "cosine": lambda site: NONE if site.cosine is None else number(site.cosine.value, 3),
    "growth": lambda site: NONE if site.amplification is None else number(site.amplification.value, 3),
}


def inside_tables(found: Sequence[Inside]) -> tuple[Table, ...]:
    """For each operating point and activation, its sites in the order of the backward pass: derivatives, gradients."""
    made = []
    for each in found:
        for growth in each.growths:
            who = plain(growth.activation or f"as it is ({each.own})")
            made.append(_site_table(f"{each.place}: {who}", _AT_SITES, growth.sites[1:]))
            made.append(_site_table(f"The gradient backwards, {who}", _BACKWARDS, growth.sites))
    notes = (
        "Over ½: elements whose derivative changes by more. By f′ alone: the relative error that Δf′ gives the "
        "clean gradient at this site. Added: of the clean derivative of the loss, sent back through the noisy layers. "
        "In all: of the noisy loss's own gradient. Growth: of that, over the row above.",
        "In brackets: 95 % over samples and draws, this network only.",
        *_doubts(found),
    )
    return (*made[:-1], replace(made[-1], notes=notes))


def _doubts(found: Sequence[Inside]) -> tuple[str, ...]:
    """What makes the numbers say little: weights at random, intervals that are wide."""
    doubts = []
    if found[0].weights is None:
        name = plain(found[0].model)
        doubts.append(
            f"No --weights were given for {name}: its own code made those measured, random unless it loads them."
        )
    wide = dict.fromkeys(
        plain(site.path) for each in found for growth in each.growths for site in growth.sites if _is_wide(site)
    )
    if wide:
        doubts.append(
            f"An interval spans more than a factor of {_WIDE} at {listed(wide)}: too few samples or elements."
        )
    return tuple(doubts)


def _is_wide(site: SiteErrors) -> bool:
    shown = (site.derivative, site.own, site.carried, site.gradient)
    return any(each is not None and each.upper > _WIDE * each.lower for each in shown)


def _site_table(caption: str, columns: Mapping[str, Callable[[SiteErrors], str]], sites: Sequence[SiteErrors]) -> Table:
    lines = (Line((plain(site.path), *(written(site) for written in columns.values()))) for site in sites)
    return Table(caption, ("site", *columns), tuple(lines))


def inside_document(found: Sequence[Inside]) -> dict[str, Any]:
    """All numbers, for JSON."""
    return {
        "kind": "gradient errors inside a network",
        "notes": list(_doubts(found)),
        "results": [asdict(each) for each in found],
    }


def print_tables(console: Console, found: Iterable[Table]) -> None:
    """Each table with its caption above and its notes below.

    Names are folded at their spaces, numbers are not; columns that do not fit stand below, after the names again.
    """
    for table in found:
        say(console, table.caption, "bold")
        # A head that is longer than its numbers is broken.
        cells = [[line.cells[index] for line in table.lines] for index in range(len(table.columns))]
        heads = [
            head.replace(" ", "\n") if own and len(head) > max(map(len, own), default=0) else head
            for head, own in zip(table.columns[1:], cells[1:], strict=True)
        ]
        widths = [max(map(len, (*head.split("\n"), *own))) for head, own in zip(heads, cells[1:], strict=True)]
        longest_word = max(len(word) for name in (table.columns[0], *cells[0]) for word in name.split())
        for numbers in _beside_each_other(widths, console.width - longest_word):
            grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
            grid.add_column(text_for(console, table.columns[0]), overflow="fold")
            for index in numbers:
                grid.add_column(text_for(console, heads[index]), justify="right", overflow="fold", no_wrap=True)
            for line in table.lines:
                shown = (line.cells[0], *(line.cells[1 + index] for index in numbers))
                grid.add_row(*(text_for(console, cell) for cell in shown))
            console.print(grid)
        for note in table.notes:
            say(console, note, "dim")
        console.print()


def _beside_each_other(widths: Sequence[int], width: int) -> Iterator[list[int]]:
    """Indices of columns that fit side by side, each two spaces after the one before; at least one."""
    piece: list[int] = []
    used = 0
    for index, own in enumerate(widths):
        if piece and used + 2 + own > width:
            yield piece
            piece, used = [], 0
        piece.append(index)
        used += 2 + own
    yield piece


def _functions(activations: Sequence[Activation]) -> Table:
    lines = []
    for each in activations:
        bits = gradient_bits(each)
        cells = (
            plain(each.spec),
            number(derivative_jump(each), 3),
            number(_slope(each), 3),
            number(bits, 4) if math.isfinite(bits) else "∞",
        )
        lines.append(Line(cells))
    return Table(
        "The derivative at 0",
        ("activation", "jump", "slope", "gradient bits"),
        tuple(lines),
        ("Jump: limit from above minus limit from below. Gradient bits: log2(1/|f′(1/64) − f′(0)|).",),
    )


def _slope(found: Activation) -> float | None:
    """f″(0), where the derivative does not jump there."""
    slope = curvature(found)
    return slope if derivative_jump(found) == 0 and math.isfinite(slope) else None


def _errors(point: Sequence[GradientErrors], region: Region, measured: Measured) -> Table:
    first = point[0]
    lines = []
    for each in point:
        own, compared = each.region(region), ratio(first.region(region), each.region(region))
        cells = [plain(each.activation), _margin(estimate(own.maximum)), _margin(estimate(own.mean))]
        cells += [NONE, NONE] if each is first else [_margin(compared.maximum), _margin(compared.mean)]
        lines.append(Line(tuple(cells)))
    sigma = number(noise_sigma(first.ep, first.steps), 3)
    where = "over all x and w" if region == "full" else "near zero: |x|, |w| ≤ ¼"
    often = f"{counted(measured.repetitions, 'repetition')} of the noise"
    if measured.repetitions == 1:
        certainty = f"{often}, which has no interval; --repeat asks for more."
    else:
        few = ", so few that the interval is wide" if measured.repetitions < _FEW else ""
        certainty = f"±: half the 95 % interval by Student's t, over {often}{few}."
    notes = (f"Ratios: {plain(first.activation)} over the activation. {certainty}",)
    return Table(
        f"Gradient errors |Δf′| at p = {first.steps}, EP {number(first.ep)} (σ = {sigma}), {where}",
        ("activation", "largest", "mean", "ratio of largest", "ratio of means"),
        tuple(lines),
        () if region == "full" else notes,
    )


def _interpolation(measured: Measured) -> Table:
    s = list(dict.fromkeys(each.s for each in measured.interpolation))
    cells: dict[float, list[str]] = {}
    for each in measured.interpolation:
        cells.setdefault(each.i, []).append(_margin(estimate(each.errors.near_zero.maximum)))
    first = measured.interpolation[0].errors
    return Table(
        f"Largest |Δf′| near zero of interpolate(relu, gelu, i, s), p = {first.steps}, EP {number(first.ep)}",
        ("i", *(f"s = {number(each)}" for each in s)),
        tuple(Line((number(i), *row)) for i, row in cells.items()),
    )


def _scaling(measured: Measured) -> Table:
    reference, other = (plain(each.spec) for each in measured.activations[:2])
    columns: dict[str, Callable[[ScalingPoint], str]] = {
        "EP": lambda each: number(each.ep),
        "p": lambda each: str(each.steps),
        "ratio": lambda each: _margin(each.ratio.maximum),
        "expected": lambda each: number(each.expected, 3),
        "× c(EP)/p": lambda each: _margin(each.scaled),
        "local slope": lambda each: _margin(each.slope),
    }
    notes = [
        f"Ratio: the largest error of {reference} over that of {other}. c(EP) = σ·p. Local slope: "
        "d log(ratio)/d log(p) from the p before; 1 would be growth like p."
    ]
    if jump_to_smooth(measured.scaling):
        notes.append(
            "It is less, since the largest error of a smooth derivative is a maximum over a grid that grows with p: "
            "expected is jump/(slope · σ√(2 ln N)) for N products."
        )
    else:
        del columns["expected"]
    return Table(
        f"{reference} over {other}: the ratio of the largest errors near zero against p and EP",
        tuple(columns),
        tuple(Line(tuple(written(each) for written in columns.values())) for each in measured.scaling),
        tuple(notes),
    )


def _error_facts(each: GradientErrors, reference: GradientErrors) -> dict[str, Any]:
    facts: dict[str, Any] = {"activation": each.activation}
    for name in REGIONS:
        own = each.region(name)
        facts[name.replace(" ", "_")] = {
            "maximum": asdict(estimate(own.maximum)),
            "mean": asdict(estimate(own.mean)),
            "ratio": asdict(ratio(reference.region(name), own)),
        }
    return facts


def _margin(found: Estimate | None) -> str:
    """The value to three digits and half its interval to the same place, there rounded up.

    >>> _margin(Estimate(0.0105734, 0.0101, 0.0110)), _margin(Estimate(95.13, 91.9, 98.3)), _margin(Estimate(1, 1, 1))
    ('0.0106 ± 0.0005', '95.1 ± 3.3', '1')
    """
    if found is None:
        return NONE
    if found.lower is None or found.lower == found.value or found.value == 0:
        return number(found.value, 3)
    places = max(0, 2 - math.floor(math.log10(abs(found.value))))
    half = math.ceil((found.value - found.lower) * 10**places) / 10**places
    return f"{found.value:.{places}f} ± {half:.{places}f}".replace("-", MINUS)


def _interval(found: Estimated | None) -> str:
    if found is None:
        return NONE
    return f"{number(found.value, 2)} [{number(found.lower, 2)}, {number(found.upper, 2)}]"
