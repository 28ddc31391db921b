"""`robustcheck sensors ep` and `plot`: what light, signal and resolution mean for a sensor, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robustcheck.cli.options import with_options
from robustcheck.cli.sensor_options import set_option
from robustcheck.errors import UsageError

if TYPE_CHECKING:
    from robustcheck.sensing.operating_point import Reading
    from robustcheck.sensing.sensor import Sensor

_NAMED = 9
_NOISES = click.Choice(["gaussian", "uniform", "laplace"])
_OF_CONVERTERS = {"sigma": "--sigma", "noise": "--noise", "definition": "--definition"}


def _converter_options(command: Any) -> Any:
    return with_options(
        command,
        click.option("--ep", type=float, help="Error probability, between 0 and 1."),
        click.option(
            "--sigma", type=float, help="Noise scale in full scales: σ, half-width (uniform), scale (laplace)."
        ),
        click.option("--bits", type=float, help="Resolution, 1 to 16 bits: p = 2^b − 1 steps."),
        click.option("--steps", type=int, help="Resolution as steps per unit, instead of --bits."),
        click.option("--noise", type=_NOISES, default="gaussian", show_default=True),
        click.option(
            "--definition",
            type=click.Choice(["centre", "adc"]),
            default="centre",
            show_default=True,
            help="centre: a value on a code centre changes code. adc: a value anywhere within its code.",
        ),
    )


@click.command()
@click.argument("name", required=False)
@click.option("--exposure", "exposures", multiple=True, metavar="SHARE|LUX", help="Of a camera: share, 200lx or a:b:n.")
@click.option("--signal", "signals", multiple=True, metavar="SHARE", help="Of a LIDAR: share of its return, or a:b:n.")
@click.option(
    "--at-ep",
    "wanted",
    type=float,
    metavar="EP",
    help="Of a camera: the exposure, and at --exposure the resolution and the gain, where this EP happens.",
)
@set_option
@_converter_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def ep(context: click.Context, /, name: str | None, as_json: bool, **params: Any) -> None:
    """Error probability from physics, and back.

    NAME is a camera (its noise and EP at exposures), a LIDAR (at signals) or a converter. Without NAME, or with a
    converter, two of --ep, --sigma and --bits give the third.

    \b
    Examples:
      robustcheck sensors ep camera-imx477 --exposure 0.1 --bits 8
      robustcheck sensors ep camera-imx477 --exposure 5lx:5000lx:4
      robustcheck sensors ep camera-imx477 --at-ep 0.9 --exposure 0.1
      robustcheck sensors ep lidar-vlp16 --signal 0.1:1:4
      robustcheck sensors ep --bits 4 --ep 0.5
      robustcheck sensors ep --ep 0.5 --sigma 0.05 --definition adc
    """
    typed = {
        key
        for key, value in params.items()
        if value and context.get_parameter_source(key) is click.core.ParameterSource.COMMANDLINE
    }
    if name is None:
        _refuse(
            typed, {"exposures": "--exposure", "signals": "--signal", "wanted": "--at-ep", "settings": "--set"}, "NAME"
        )
        _converter(params, as_json)
        return
    from robustcheck.sensing.sensor import sensor

    bound = sensor(name, bits=params["bits"], steps=params["steps"], settings=params["settings"])
    if bound.kind == "converter":
        _refuse(typed, {"exposures": "--exposure", "signals": "--signal", "wanted": "--at-ep"}, "a camera or LIDAR")
        _converter({**params, "bits": None, "steps": bound.steps}, as_json)
        return
    if "ep" in typed:
        raise UsageError(f"--ep: expected --at-ep with {bound.profile.name}, which has an EP of its own; use that")
    _refuse(typed, _OF_CONVERTERS, "a converter, or no NAME")
    if bound.kind == "lidar":
        _refuse(typed, {"exposures": "--exposure", "wanted": "--at-ep"}, "a camera")
    else:
        _refuse(typed, {"signals": "--signal"}, "a LIDAR")
    _points(bound, params, as_json)


@click.command()
@click.argument("name")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A file whose name ends in .png or .svg.",
)
@click.option("--bits", type=float, help="Resolution of a camera, 1 to 16 bits; its own if not given.")
@set_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plot(name: str, out: Path, bits: float | None, settings: Mapping[str, float], as_json: bool) -> None:
    """Draw what a sensor's numbers mean into one PNG or SVG file.

    A camera: photon transfer curve, SNR against exposure, EP against exposure and against bits. A LIDAR: range noise
    and detection against range. A converter: EP against noise.

    \b
    Examples:
      robustcheck sensors plot camera-imx477 -o imx477.svg
      robustcheck sensors plot ./mine.toml --bits 8 --set read_noise_e=5 -o mine.png
      robustcheck sensors plot lidar-vlp16 -o vlp16.svg
    """
    from robustcheck.errors import InvalidValueError
    from robustcheck.sensing.sensor import sensor

    if out.suffix.lower() not in (".png", ".svg"):
        raise InvalidValueError("-o/--out", expected="a file name ending in .png or .svg", got=str(out))
    bound = sensor(name, bits=bits, settings=settings)
    from robustcheck.reporting.drawing import save
    from robustcheck.reporting.sensor_charts import sensor_figure

    save(sensor_figure(bound.profile, bits=bound.bits if bound.kind == "camera" else None), out)
    click.echo(json.dumps({"file": str(out), "sensor": bound.key}) if as_json else f"wrote {out}")


def _refuse(typed: set[str], options: Mapping[str, str], belongs_to: str) -> None:
    given = [option for key, option in options.items() if key in typed]
    if given:
        raise UsageError(f"{', '.join(given)}: expected {belongs_to} with it; give one, or leave it out")


def _converter(params: Mapping[str, Any], as_json: bool) -> None:
    """Any two of error probability, noise scale and resolution give the third."""
    from robustcheck.sensing import error_probability as convert

    ep, sigma, bits, steps = (params[key] for key in ("ep", "sigma", "bits", "steps"))
    noise, definition = params["noise"], params["definition"]
    if bits is not None and steps is not None:
        raise UsageError("expected --bits or --steps, got both; leave one out")
    resolution: float | None = convert.steps_of_bits(bits) if bits is not None else steps
    given = [name for name, value in (("--ep", ep), ("--sigma", sigma), ("--bits", resolution)) if value is not None]
    if len(given) != 2:
        raise UsageError(f"expected two of --ep, --sigma and --bits (or --steps), got {', '.join(given) or 'none'}")
    if resolution is None:
        resolution = convert.steps_for(ep, sigma, noise=noise, definition=definition)
    elif sigma is None:
        sigma = convert.noise_sigma(ep, resolution, noise=noise, definition=definition)
    answer = {
        "steps": resolution,
        "bits": convert.bits_of_steps(resolution),
        "sigma": sigma,
        "sigma_steps": sigma * resolution,
        "noise": noise,
    }
    if resolution >= 1:
        answer["ep_centre"] = convert.error_probability(sigma, resolution, noise=noise, definition="centre")
        answer["ep_adc"] = convert.error_probability(sigma, resolution, noise=noise, definition="adc")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    click.echo(f"resolution   {resolution:.6g} steps per unit, {answer['bits']:.4g} bits")
    click.echo(f"noise scale  {sigma:.6g} of full scale, {answer['sigma_steps']:.6g} steps ({noise})")
    if resolution >= 1:
        click.echo(f"ep_centre    {answer['ep_centre']:.6g}  a value on a code centre changes code")
        click.echo(f"ep_adc       {answer['ep_adc']:.6g}  a value anywhere within its code changes code")
    else:
        click.echo("no converter has less than one step: this noise is too large for that error probability")


def _points(bound: Sensor, params: Mapping[str, Any], as_json: bool) -> None:
    """A camera at exposures or a LIDAR at signals: noise and error probabilities, and where an EP happens."""
    from robustcheck.sensing.channel import Channel
    from robustcheck.sensing.operating_point import OperatingPoint
    from robustcheck.sensing.profile import ConverterProfile
    from robustcheck.study.plan import share_of_well
    from robustcheck.study.point_ranges import parse_exposures, parse_shares

    profile = bound.profile
    assert not isinstance(profile, ConverterProfile)
    texts = params["exposures"] if bound.kind == "camera" else params["signals"]
    if bound.kind == "camera":
        asked = {str(each): share_of_well(bound, each) for each in parse_exposures(texts)}
        points = [(text, OperatingPoint("exposure", share)) for text, share in asked.items()]
    else:
        points = [(f"{share:g}", OperatingPoint("signal", share)) for share in parse_shares(texts, "signal")]
    if not points:
        axis: Any = "exposure" if bound.kind == "camera" else "signal"
        points = [(name, OperatingPoint(axis, number.value)) for name, number in profile.operating_points.items()]
    readings = [(text, Channel(bound, point).reading) for text, point in points]
    found = None if params["wanted"] is None else _where(bound, params["wanted"], readings if texts else [])
    if as_json:
        rows = [{"point": text, **_facts(bound, reading)} for text, reading in readings]
        answer: dict[str, Any] = {"sensor": bound.key, "bits": bound.bits if bound.kind == "camera" else None}
        answer |= {"points": rows, "assumed": list(profile.assumed)}
        click.echo(json.dumps(answer if found is None else {**answer, "at_ep": found}, indent=2))
        return
    _print_points(bound, readings)
    if found is not None:
        _print_where(params["wanted"], found)
    if profile.assumed:
        more = len(profile.assumed) - _NAMED
        rest = f" and {more} more, see robustcheck sensors show {profile.name}" if more > 0 else ""
        click.echo(f"assumed (no source): {', '.join(profile.assumed[:_NAMED])}{rest}")


def _facts(bound: Sensor, reading: Reading) -> dict[str, float | None]:
    if bound.kind == "lidar":
        return {
            "signal": reading.signal,
            "detection": reading.detection,
            "range_ep": reading.range_ep,
            "intensity_ep": reading.intensity_ep,
        }
    from robustcheck.sensing.camera import saturation_e
    from robustcheck.sensing.camera_profile import CameraProfile
    from robustcheck.sensing.optics import lux_of_exposure

    profile = bound.profile
    assert isinstance(profile, CameraProfile)
    assert reading.exposure is not None
    return {
        "exposure": reading.exposure,
        "lux": lux_of_exposure(profile, reading.exposure),
        "electrons": reading.exposure * saturation_e(profile),
        "sigma_codes": reading.sigma_steps,
        "ep_centre": reading.ep,
        "ep_adc": reading.ep_adc,
    }


def _where(bound: Sensor, wanted: float, readings: list[tuple[str, Reading]]) -> dict[str, Any]:
    """The exposure where an EP happens at this resolution; and at the exposures given, the bits and the gain."""
    from robustcheck.sensing import camera_ep
    from robustcheck.sensing.camera_profile import CameraProfile
    from robustcheck.sensing.error_probability import check_ep

    profile = bound.profile
    assert isinstance(profile, CameraProfile)
    check_ep(wanted)

    def solved(solve: Any, **settings: Any) -> dict[str, Any]:
        try:
            return {"value": solve(profile, wanted, **settings)}
        except UsageError as error:
            return {"value": None, "why": str(error)}

    found: dict[str, Any] = {"ep": wanted, "exposure": solved(camera_ep.exposure_at_ep, bits=bound.bits)}
    for text, reading in readings:
        found.setdefault("at", []).append(
            {
                "point": text,
                "bits": solved(camera_ep.bits_at_ep, exposure=reading.exposure),
                "gain_dn_per_e": solved(camera_ep.gain_at_ep, exposure=reading.exposure, bits=bound.bits),
            }
        )
    return found


def _print_points(bound: Sensor, readings: list[tuple[str, Reading]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    size = f", {bound.bits:g} bits" if bound.kind == "camera" else ""
    console.print(Text(bound.key, style="bold"), Text(f"{bound.profile.title}{size}"), soft_wrap=True)
    titles = {
        "camera": ("exposure", "share", "light [lx]", "electrons", "σ [codes]", "ep_centre", "ep_adc"),
        "lidar": ("signal", "share", "detected", "range EP", "intensity EP"),
    }[bound.kind]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, title in enumerate(titles):
        table.add_column(Text(title), justify="right" if index else "left", no_wrap=True)
    for text, reading in readings:
        found = _facts(bound, reading).values()
        table.add_row(Text(text), *("–" if value is None else f"{value:.4g}" for value in found))
    console.print(table)
    what = {
        "camera": "a flat field at white: white gives that many electrons, and its code changes with probability EP",
        "lidar": "of the reference return, a 10 % reflector at 20 m",
    }[bound.kind]
    console.print(Text(what, style="dim"), soft_wrap=True)


def _print_where(wanted: float, found: Mapping[str, Any]) -> None:
    def said(answer: Mapping[str, Any], unit: str) -> str:
        return str(answer["why"]) if answer["value"] is None else f"{answer['value']:.4g}{unit}"

    click.echo(f"EP {wanted:g} at exposure: {said(found['exposure'], '')}")
    for each in found.get("at", []):
        click.echo(f"EP {wanted:g} at exposure {each['point']} by bits: {said(each['bits'], ' bits')}")
        click.echo(f"EP {wanted:g} at exposure {each['point']} by gain: {said(each['gain_dn_per_e'], ' DN/electron')}")
