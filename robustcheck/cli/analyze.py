"""`robustcheck analyze`: why noise harms a network: what it does to derivatives and gradients."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from robustcheck.cli.options import data_options, with_options
from robustcheck.cli.sensor_options import sensor_options
from robustcheck.cli.study_options import base_study, model_options, typed_options
from robustcheck.errors import UsageError

if TYPE_CHECKING:
    from robustcheck.analysis.gradient_scaling import Interpolated, ScalingPoint
    from robustcheck.analysis.gradients import GradientErrors
    from robustcheck.reporting.gradient_tables import Inside, Measured

_ON_A_GRID: Final = {"activations", "steps", "bits", "eps", "repeat", "seed", "sweep", "out", "as_json", "quiet"}
_NOT_IN_A_MODEL: Final = {"repeat": "--repeat", "sweep": "--sweep", "precision": "--precision"}
_SCALING_STEPS: Final = (16, 32, 64, 128, 256, 512, 1024)
_SCALING_EPS: Final = (0.2, 0.5, 0.8)

Step = Callable[[int, int], None]


@click.group()
def analyze() -> None:
    """Measure why noise harms a network, and where.

    \b
    Examples:
      robustcheck analyze gradients -a relu -a gelu --steps 256 --ep 0.5
      robustcheck analyze gradients --model digits-convnet --ep 0.5 -a gelu
    """


def _gradient_options(command: Any) -> Any:
    return with_options(
        command,
        click.option(
            "-a",
            "--activation",
            "activations",
            multiple=True,
            metavar="SPEC",
            help="Activation (repeatable); relu and gelu if not given. The first is the reference of the ratios; with "
            "--model each takes the place of the model's own, a gated one by what is inside its gate.",
        ),
        click.option("--model", metavar="MODEL", help="Measure inside this model, on data, instead of on the grid."),
        click.option(
            "--repeat",
            type=click.IntRange(1, 10_000),
            default=20,
            show_default=True,
            help="Repetitions of the noise on the grid.",
        ),
        click.option(
            "--sweep",
            multiple=True,
            type=click.Choice(["i", "steps"]),
            help="Also along the interpolation from ReLU to GELU (i, and its steepness s), or the ratio of the first "
            "two activations against p and EP (repeatable).",
        ),
        click.option(
            "--samples",
            type=click.IntRange(2),
            default=256,
            show_default=True,
            help="With --model: most samples of the test split.",
        ),
        click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of the noise."),
        click.option(
            "-o",
            "--out",
            type=click.Path(path_type=Path, file_okay=False),
            metavar="FOLDER",
            help="Write figures of what is measured (SVG and PNG; a --sweep adds its own), gradients.json, and "
            "gradients.html with all of it to this folder.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else."),
        click.option("-q", "--quiet", is_flag=True, help="No progress."),
    )


@analyze.command()
@_gradient_options
@data_options
@model_options
@sensor_options
@click.pass_context
def gradients(context: click.Context, /, **params: Any) -> None:
    """How wrong noise and rounding make derivatives: on a grid of products x·w, or inside a model.

    On the grid (arXiv 2402.02593) --steps or --bits (256 steps if not given; at most 4096, or 12 bits) and --ep (0.5)
    say the noise, and |f′(noisy) − f′(clean)| is measured over all products and near zero. With --model it is
    measured at each activation site on data, with the error of the gradient as it goes backwards from the logits;
    there the options of robustcheck audit say data, sensor and operating points.

    \b
    Examples:
      robustcheck analyze gradients -a relu -a gelu --steps 256 --ep 0.5
      robustcheck analyze gradients -a relu -a "interpolate(relu, gelu, i=0.5)" --bits 4 --ep 0.2:0.8:4
      robustcheck analyze gradients --sweep i --sweep steps -o gradients
      robustcheck analyze gradients --model digits-convnet --data digits --sensor adc-4bit --ep 0.5
      robustcheck analyze gradients --model digits-convnet --ep 0.5 --placement network -a gelu -o inside
    """
    try:
        if params["model"] is None:
            _on_the_grid(context, params)
        else:
            _in_a_model(context, params)
    except KeyboardInterrupt:
        click.echo("interrupted; what was not written yet is lost", err=True)
        raise click.exceptions.Exit(130) from None


def _on_the_grid(context: click.Context, params: Mapping[str, Any]) -> None:
    from robustcheck.reporting.gradient_tables import document, tables

    strange = typed_options(context, but=_ON_A_GRID)
    if strange:
        raise UsageError(f"{', '.join(strange)}: expected --model MODEL beside it, got none; leave it out, or name one")
    measured = _measured(params)
    _show(params, document(measured), tables(measured), lambda: _figures(measured), _title(measured))


def _measured(params: Mapping[str, Any]) -> Measured:
    """The gradient errors at each p and EP, and the sweeps."""
    from robustcheck.activations.catalogue import activation
    from robustcheck.analysis.gradient_scaling import interpolation_sweep, scaling
    from robustcheck.analysis.gradients import MOST_STEPS, gradient_errors
    from robustcheck.reporting.gradient_tables import Measured
    from robustcheck.sensing.error_probability import steps_of_bits
    from robustcheck.study.point_ranges import parse_eps

    specs = tuple(dict.fromkeys(activation(name) for name in params["activations"] or ("relu", "gelu")))
    all_steps = tuple(dict.fromkeys((*params["steps"], *map(steps_of_bits, params["bits"])))) or (256,)
    if max(all_steps) > MOST_STEPS:
        raise UsageError(
            f"--steps, --bits: expected at most {MOST_STEPS} steps (12 bits) on the grid, got {max(all_steps)}; "
            "take fewer"
        )
    eps = parse_eps(params["eps"] or ("0.5",))
    if "steps" in params["sweep"] and len(specs) < 2:
        raise UsageError("--sweep steps: expected two activations, got one; give a second -a")
    how = {"repetitions": params["repeat"], "seed": params["seed"]}
    places = [(steps, ep) for steps in all_steps for ep in eps]
    points: list[tuple[GradientErrors, ...]] = []
    along: tuple[Interpolated, ...] = ()
    against: tuple[ScalingPoint, ...] = ()
    with _progress(params["quiet"]) as stage:
        for number, (steps, ep) in enumerate(places, 1):
            points.append(
                gradient_errors(
                    specs, steps=steps, ep=ep, progress=stage(f"p = {steps}, EP {ep:g} ({number}/{len(places)})"), **how
                )
            )
        if "i" in params["sweep"]:
            along = interpolation_sweep(steps=all_steps[0], ep=eps[0], progress=stage("along i and s"), **how)
        if "steps" in params["sweep"]:
            several = eps if len(eps) > 1 else sorted({*_SCALING_EPS, *eps})
            against = scaling(*specs[:2], steps=_SCALING_STEPS, eps=several, progress=stage("against p and EP"), **how)
    return Measured(specs, tuple(points), params["repeat"], params["seed"], along, against)


def _figures(measured: Measured) -> dict[str, Any]:
    """The charts of what was measured, at the first p and EP."""
    from robustcheck.analysis.gradients import REGIONS, error_map
    from robustcheck.reporting import gradient_charts as charts

    first = measured.points[0][0]
    at: dict[str, Any] = {"steps": first.steps, "ep": first.ep}
    maps = [error_map(each, region, seed=measured.seed, **at) for each in measured.activations for region in REGIONS]
    found = {
        "functions": charts.function_figure(measured.activations, seed=measured.seed, **at),
        "errors": charts.map_figure(maps, **at),
    }
    if measured.interpolation:
        found["interpolation"] = charts.interpolation_figure(measured.interpolation, **at)
    if measured.scaling:
        reference, other = (each.spec for each in measured.activations[:2])
        found["scaling"] = charts.scaling_figure(measured.scaling, reference, other, measured.repetitions)
    return found


def _title(measured: Measured) -> str:
    return f"Gradient errors of {', '.join(each.spec for each in measured.activations)}"


def _in_a_model(context: click.Context, params: Mapping[str, Any]) -> None:
    from robustcheck.reporting.gradient_charts import growth_figure
    from robustcheck.reporting.gradient_tables import inside_document, inside_tables

    typed = typed_options(context, but=set(params) - set(_NOT_IN_A_MODEL))
    if typed:
        raise UsageError(f"{', '.join(typed)}: expected none with --model, got one; use --samples and --draws")
    found = _measured_inside(params)

    def figures() -> dict[str, Any]:
        names = ["growth"] if len(found) == 1 else [f"growth-{number}" for number in range(1, len(found) + 1)]
        own = f"as it is ({found[0].own})"
        return {name: growth_figure(each.growths, own, each.place) for name, each in zip(names, found, strict=True)}

    _show(params, inside_document(found), inside_tables(found), figures, f"Gradient errors inside {params['model']}")


def _measured_inside(params: Mapping[str, Any]) -> list[Inside]:
    """The sites' errors for each sensor at each operating point."""
    from robustcheck.analysis.gradient_growth import gradient_growth
    from robustcheck.reporting.describe import model_summary
    from robustcheck.reporting.gradient_tables import Inside
    from robustcheck.sensing.channel import Channel
    from robustcheck.study.cells import load_study
    from robustcheck.study.plan import Study

    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    study = Study.create(kind="audit", **base_study(params, params["model"]))
    loaded = load_study(study, download=params["download"])
    (model,), data = loaded.models, loaded.data
    samples, draws = min(params["samples"], len(data.test.labels)), params["draws"]
    weights = model_summary(loaded, 0).weights
    found = []
    with _progress(params["quiet"]) as stage:
        for sensor in loaded.sensors:
            for point in study.operating_points(sensor):
                growths = gradient_growth(
                    model,
                    data,
                    Channel(sensor, point, params["seed"]),
                    params["activations"],
                    samples=samples,
                    draws=draws,
                    progress=stage(f"{sensor.key} at {point.name}"),
                )
                own = loaded.current[0] or "its own"
                place = (model.origin, data.spec, sensor.key, point.name, sensor.placement)
                found.append(Inside(*place, own, samples, draws, params["seed"], weights, growths))
    return found


def _show(
    params: Mapping[str, Any],
    content: dict[str, Any],
    found: Sequence[Any],
    figures: Callable[[], dict[str, Any]],
    title: str,
) -> None:
    """Write the figures where a folder is given; print JSON, or the tables."""
    written: list[Path] = []
    if params["out"] is not None:
        from robustcheck.reporting.gradient_page import write_gradients

        command = shlex.join(["robustcheck", *sys.argv[1:]])
        written = write_gradients(params["out"], title, command, figures(), found, content)
    if params["as_json"]:
        from robustcheck.reporting.gradient_page import as_json

        click.echo(as_json(content), nl=False)
        return
    from rich.console import Console

    from robustcheck.reporting.gradient_tables import print_tables

    print_tables(Console(), found)
    if written:
        click.echo(f"wrote {len(written)} files, {written[-1]} with all of them")


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str], Step]]:
    """Makes a callback of (done, total) for each stage of the work: bars on a terminal, nothing in a pipe."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _: lambda *_: None
        return
    from rich import progress as rich

    with rich.Progress(
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(bar_width=None),
        rich.TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bars:

        def stage(label: str) -> Step:
            task = bars.add_task(label, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield stage
