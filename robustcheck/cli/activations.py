"""`robustcheck activations`: the activation functions, their values, properties and curves."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from robustcheck.activations.catalogue import Activation
    from robustcheck.activations.cost import Cost
    from robustcheck.activations.properties import Properties


@click.group()
def activations() -> None:
    """List, explain and plot activation functions.

    \b
    Examples:
      robustcheck activations list
      robustcheck activations show gelu --at 0.5
      robustcheck activations plot relu gelu -o curves.svg
    """


@activations.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(as_json: bool) -> None:
    """List every activation function with properties computed at its default parameters.

    "learned" counts learned numbers; "smooth" is C0 where the derivative jumps, C1 where only the second one does.
    A dash under "smooth" and "monotone" marks a function that is not elementwise.

    \b
    Examples:
      robustcheck activations list
      robustcheck activations list --json
    """
    from robustcheck.activations.catalogue import CATALOGUE, activation
    from robustcheck.activations.properties import properties

    rows = [(found, properties(found)) for found in map(activation, CATALOGUE)]
    if as_json:
        click.echo(_json([_facts(found, computed) for found, computed in rows]))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "formula", "learned", "smooth", "monotone"):
        table.add_column(title, justify="right" if title == "learned" else "left", no_wrap=title == "name")
    family = ""
    for found, computed in rows:
        if found.family != family:
            family = found.family
            table.add_row()
            table.add_row(Text(family, style="italic"))
        cells = (found.name, found.formula, str(computed.learned or "–"), *_shape(computed))
        table.add_row(*(Text(cell) for cell in cells))
    Console().print(table)


@activations.command()
@click.argument("name")
@click.option("--at", "points", type=float, multiple=True, metavar="X", help="Value and derivative at X (repeatable).")
@click.option("--cost/--no-cost", default=True, show_default=True, help="Time it beside ReLU on this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, points: tuple[float, ...], cost: bool, as_json: bool) -> None:
    """Show one activation function, NAME or NAME(parameters).

    \b
    Examples:
      robustcheck activations show gelu
      robustcheck activations show "leaky_relu(0.05)" --at -1 --at 0.5
      robustcheck activations show "interpolate(relu, gelu, i=0.25)" --no-cost --json
    """
    from robustcheck.activations.catalogue import activation
    from robustcheck.activations.cost import cost as measured_cost
    from robustcheck.activations.curves import value_and_derivative
    from robustcheck.activations.properties import properties

    found = activation(name)
    values = value_and_derivative(found, points) if points else ([], [])
    table = list(zip(points, *values, strict=True))
    computed, timed = properties(found), measured_cost(found) if cost else None
    if as_json:
        at = [{"x": x, "value": value, "derivative": derivative} for x, value, derivative in table]
        click.echo(_json({**_facts(found, computed), "at": at, "cost": _cost_facts(timed)}))
    else:
        _print(found, computed, timed, table)


@activations.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The .png or .svg file to write.",
)
@click.option(
    "--range", "bounds", type=float, nargs=2, default=(-4, 4), metavar="LOW HIGH", help="Of x; -4 4 if not given."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plot(names: tuple[str, ...], out: Path, bounds: tuple[float, float], as_json: bool) -> None:
    """Draw activation functions and their derivatives into one PNG or SVG file.

    \b
    Examples:
      robustcheck activations plot relu gelu silu -o curves.svg
      robustcheck activations plot "swish(beta=0.25)" --range -10 10 -o swish.png
    """
    from robustcheck.activations.catalogue import activation
    from robustcheck.activations.curves import curve
    from robustcheck.errors import InvalidValueError

    if out.suffix.lower() not in (".png", ".svg"):
        raise InvalidValueError("-o/--out", expected="a file name ending in .png or .svg", got=str(out))
    curves = [curve(found, *bounds) for found in dict.fromkeys(map(activation, names))]
    from robustcheck.reporting.charts import function_chart, save

    save(function_chart(curves), out)
    specs = [each.name for each in curves]
    click.echo(_json({"file": str(out), "activations": specs}) if as_json else f"wrote {out}")


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False)


def _facts(found: Activation, computed: Properties) -> dict[str, Any]:
    """What JSON says of an activation; an infinite bound is "inf" or "-inf", since JSON has no such number."""
    bounds = None if computed.range is None else [b if math.isfinite(b) else str(b) for b in computed.range]
    return {
        "name": found.name,
        "spec": found.spec,
        "family": found.family,
        "formula": found.formula,
        "source": found.source,
        "parameters": dict(found.parameters),
        "learned": list(found.learned),
        "learned_numbers": computed.learned,
        "elementwise": found.elementwise,
        "gated": found.gated,
        "range": bounds,
        "monotone": computed.monotone,
        "smoothness": computed.smoothness,
    }


def _cost_facts(timed: Cost | None) -> dict[str, float] | None:
    from dataclasses import asdict

    return None if timed is None else asdict(timed)


def _shape(computed: Properties) -> tuple[str, str]:
    """Smoothness and monotony in words; a dash where they have no meaning."""
    monotone = {True: "yes", False: "no", None: "–"}[computed.monotone]
    return computed.smoothness or "–", monotone


def _print(
    found: Activation, computed: Properties, timed: Cost | None, points: list[tuple[float, float, float]]
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    smoothness, monotone = _shape(computed)
    lines = {
        "formula": found.formula,
        "parameters": ", ".join(f"{name} {value}" for name, value in found.parameters) or "none",
        "family": found.family + _caution(found),
        "source": found.source,
        "range": "–" if computed.range is None else " to ".join(f"{bound:g}" for bound in computed.range),
        "monotone": monotone,
        "smoothness": smoothness,
        "learned": f"{', '.join(found.learned)} (numbers: {computed.learned})" if found.learned else "nothing",
    }
    if timed is not None:
        lines["cost forward"] = _beside(timed.forward_ns, timed.relu_forward_ns)
        lines["cost backward"] = _beside(timed.backward_ns, timed.relu_backward_ns)
    console = Console()
    console.print(Text(found.spec, style="bold"))
    table = Table(box=None, show_header=False, pad_edge=False)
    for title, content in lines.items():
        table.add_row(Text(title), Text(content))
    console.print(table)
    if points:
        at = Table("x", "value", "derivative", box=None, pad_edge=False, header_style="bold")
        for column in at.columns:
            column.justify = "right"
        for row in points:
            at.add_row(*(f"{number:.9g}" for number in row))
        console.print()
        console.print(at)


def _caution(found: Activation) -> str:
    if found.gated:
        return "; halves the last axis, only for gated feed-forward blocks"
    return "" if found.elementwise else "; not elementwise: an output depends on several inputs"


def _beside(own_ns: float, relu_ns: float) -> str:
    return f"{own_ns:.2f} ns per element, {own_ns / relu_ns:.1f} × relu"
