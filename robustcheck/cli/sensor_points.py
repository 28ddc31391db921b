"""`robustcheck sensors ep` and `plot`: what light, signal and resolution mean for a sensor, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robustcheck.cli.options import with_options
from robustcheck.cli.sensor_options import set_option
from robustcheck.errors import UsageError

if TYPE_CHECKING:
    from robustcheck.sensing.camera_profile import CameraProfile
    from robustcheck.sensing.ep_search import Reach
    from robustcheck.sensing.operating_point import Reading
    from robustcheck.sensing.sensor import Sensor

_NAMED = 9
_NOISES = click.Choice(["gaussian", "uniform", "laplace"])
_KINDS = {"converter": "a converter", "camera": "a camera", "lidar": "a LIDAR"}
_OF_KIND = {
    "exposures": ("--exposure", "camera"),
    "wanted": ("--at-ep", "camera"),
    "signals": ("--signal", "lidar"),
    "ep": ("--ep", "converter"),
    "sigma": ("--sigma", "converter"),
    "noise": ("--noise", "converter"),
    "definition": ("--definition", "converter"),
}
_ASKED_BY = {
    "converter": "no light decides its noise: use --ep or --sigma",
    "camera": "its noise is its own: use --exposure, and --at-ep for the way back",
    "lidar": "its noise is its own: use --signal",
}


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
    typed = {key for key in params if context.get_parameter_source(key) is click.core.ParameterSource.COMMANDLINE}
    if name is None:
        strange = [option for key, (option, kind) in _OF_KIND.items() if key in typed and kind != "converter"]
        strange += ["--set"] if "settings" in typed else []
        if strange:
            raise UsageError(f"{', '.join(strange)}: expected NAME, the sensor that is meant, got none; give one")
        _converter(params, as_json)
        return
    from robustcheck.sensing.sensor import sensor

    bound = sensor(name, bits=params["bits"], steps=params["steps"], settings=params["settings"])
    _check_options(bound, typed)
    if bound.kind == "converter":
        if (params["ep"] is None) == (params["sigma"] is None):
            got = "none" if params["ep"] is None else "both"
            raise UsageError(f"{name}: expected --ep or --sigma, got {got}; give one, and the other follows")
        _converter({**params, "bits": None, "steps": bound.steps}, as_json)
        return
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
@click.option("--bits", type=float, help="Resolution of a camera or converter, 1 to 16 bits; its own if not given.")
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

    save(sensor_figure(bound.profile, bits=None if bound.kind == "lidar" else bound.bits), out)
    click.echo(json.dumps({"file": str(out), "sensor": bound.key}) if as_json else f"wrote {out}")


def _check_options(bound: Sensor, typed: set[str]) -> None:
    """UsageError for options of another kind of sensor."""
    strange = {option: kind for key, (option, kind) in _OF_KIND.items() if key in typed and kind != bound.kind}
    if strange:
        expected = " or ".join(_KINDS[kind] for kind in dict.fromkeys(strange.values()))
        got = f"{bound.profile.name}, {_KINDS[bound.kind]}"
        raise UsageError(f"{', '.join(strange)}: expected {expected}, got {got}; {_ASKED_BY[bound.kind]}")


def _converter(params: Mapping[str, Any], as_json: bool) -> None:
    """Any two of error probability, noise scale and resolution give the third."""
    from robustcheck.sensing import error_probability as convert
    from robustcheck.sensing.sensor import whole_steps

    ep, sigma, bits, steps = (params[key] for key in ("ep", "sigma", "bits", "steps"))
    noise, definition = params["noise"], params["definition"]
    if bits is not None and steps is not None:
        raise UsageError("expected --bits or --steps, got both; leave one out")
    resolution: float | None = whole_steps(bits) if bits is not None else steps
    given = [name for name, value in (("--ep", ep), ("--sigma", sigma), ("--bits", resolution)) if value is not None]
    if len(given) != 2:
        got = ", ".join(given) or "none"
        raise UsageError(f"expected two of --ep, --sigma and --bits (or --steps), got {got}; the third follows")
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
    """The exposure where an EP happens at this resolution; and at the exposures given, the bits and the gain.

    UsageError if it happens nowhere; the message says what each of them reaches.
    """
    from robustcheck.sensing import camera_ep
    from robustcheck.sensing.camera_profile import CameraProfile
    from robustcheck.sensing.error_probability import check_ep

    profile, bits = bound.profile, bound.bits
    assert isinstance(profile, CameraProfile)
    check_ep(wanted)
    found: dict[str, Any] = {
        "ep": wanted,
        "exposure": _sought(profile, wanted, camera_ep.exposure_at_ep, camera_ep.exposure_reach, bits=bits),
    }
    ways = {f"exposure, at {bits:g} bits": found["exposure"]}
    for text, reading in readings:
        at = {"exposure": reading.exposure}
        by_bits = _sought(profile, wanted, camera_ep.bits_at_ep, camera_ep.bits_reach, **at)
        by_gain = _sought(profile, wanted, camera_ep.gain_at_ep, camera_ep.gain_reach, **at, bits=bits)
        ways |= {f"bits, at exposure {text}": by_bits, f"gain, at exposure {text} and {bits:g} bits": by_gain}
        found.setdefault("at", []).append({"point": text, "bits": by_bits, "gain_dn_per_e": by_gain})
    if all(way["value"] is None for way in ways.values()):
        reached = "".join(f"\n  by {way}: {answer['why']}" for way, answer in ways.items())
        more = "" if readings else ", or add --exposure, where bits and gain are moved too"
        expected = f"an EP that {profile.name} has somewhere"
        raise UsageError(f"--at-ep: expected {expected}, got {wanted:g}; use one of these{more}:{reached}")
    return found


def _sought(
    profile: CameraProfile, wanted: float, solve: Callable[..., float], reach_of: Callable[..., Reach], **at: Any
) -> dict[str, Any]:
    """The value that gives the EP, or None and why."""
    try:
        reach = reach_of(profile, **at)
        if reach.low <= wanted <= reach.high:
            return {"value": solve(profile, wanted, **at)}
    except UsageError as error:
        return {"value": None, "why": str(error)}
    return {"value": None, "why": f"it gives EP {reach}"}


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
        return f"none: {answer['why']}" if answer["value"] is None else f"{answer['value']:.4g}{unit}"

    click.echo(f"EP {wanted:g} at exposure: {said(found['exposure'], '')}")
    for each in found.get("at", []):
        click.echo(f"EP {wanted:g} at exposure {each['point']} by bits: {said(each['bits'], ' bits')}")
        click.echo(f"EP {wanted:g} at exposure {each['point']} by gain: {said(each['gain_dn_per_e'], ' DN/electron')}")
