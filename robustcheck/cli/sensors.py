"""`robustcheck sensors`: the sensor profiles, and the way between error probability, noise and resolution."""

from __future__ import annotations

import json
from typing import Any

import click

from robustcheck.errors import UsageError

_NOISES = click.Choice(["gaussian", "uniform", "laplace"])


@click.group()
def sensors() -> None:
    """List and show sensor profiles; convert between error probability, noise and resolution.

    \b
    Examples:
      robustcheck sensors list
      robustcheck sensors show adc-8bit
      robustcheck sensors ep --bits 4 --ep 0.5
    """


@sensors.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(as_json: bool) -> None:
    """List the shipped profiles.

    \b
    Examples:
      robustcheck sensors list
      robustcheck sensors list --json
    """
    from robustcheck.sensing.error_probability import noise_sigma
    from robustcheck.sensing.profile import load_sensor, sensor_names

    profiles = [load_sensor(name) for name in sensor_names()]
    if as_json:
        rows = [{"name": p.name, "kind": p.kind, "title": p.title, "bits": p.bits.value} for p in profiles]
        click.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("name", no_wrap=True)
    table.add_column("title")
    for title in ("steps", "step", "σ at EP 0.5"):
        table.add_column(title, justify="right")
    for profile in profiles:
        sigma = noise_sigma(0.5, profile.steps)
        table.add_row(profile.name, profile.title, str(profile.steps), f"{1 / profile.steps:.2g}", f"{sigma:.2g}")
    Console().print(table)


@sensors.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, as_json: bool) -> None:
    """Show one profile, shipped or by the path of its TOML file: each number with its status and source.

    \b
    Examples:
      robustcheck sensors show adc-8bit
      robustcheck sensors show ./mine.toml --json
    """
    from robustcheck.sensing.profile import load_sensor

    profile = load_sensor(name)
    if as_json:
        click.echo(json.dumps({**profile.model_dump(), "steps": profile.steps, "sha256": profile.sha256}, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    console.print(Text(profile.name, style="bold"), Text(profile.title))
    console.print(Text(profile.description))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("number", "value", "kind", "status", "source"):
        table.add_column(title)
    bits = profile.bits
    table.add_row("bits", f"{bits.value:g} {bits.unit}", bits.kind, bits.status, Text(bits.source))
    console.print(table)
    console.print(Text(f"sha256 {profile.sha256}", style="dim"))


@sensors.command()
@click.option("--ep", type=float, help="Error probability, between 0 and 1.")
@click.option("--sigma", type=float, help="Noise scale in full scales: σ, half-width (uniform), scale (laplace).")
@click.option("--bits", type=float, help="Resolution, 1 to 16 bits: p = 2^b − 1 steps.")
@click.option("--steps", type=int, help="Resolution as steps per unit, instead of --bits.")
@click.option("--noise", type=_NOISES, default="gaussian", show_default=True)
@click.option(
    "--definition",
    type=click.Choice(["centre", "adc"]),
    default="centre",
    show_default=True,
    help="centre: a value on a code centre changes code. adc: a value anywhere within its code.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ep(
    ep: float | None,
    sigma: float | None,
    bits: float | None,
    steps: int | None,
    noise: Any,
    definition: Any,
    as_json: bool,
) -> None:
    """Convert any two of error probability, noise scale and resolution into the third.

    \b
    Examples:
      robustcheck sensors ep --bits 4 --ep 0.5
      robustcheck sensors ep --steps 16 --sigma 0.05
      robustcheck sensors ep --ep 0.5 --sigma 0.05 --definition adc
    """
    from robustcheck.sensing import error_probability as convert

    if bits is not None and steps is not None:
        raise UsageError("expected --bits or --steps, got both; leave one out")
    resolution: float | None = convert.steps_of_bits(bits) if bits is not None else steps
    given = [name for name, value in (("--ep", ep), ("--sigma", sigma), ("--bits", resolution)) if value is not None]
    if len(given) != 2:
        raise UsageError(f"expected two of --ep, --sigma and --bits (or --steps), got {', '.join(given) or 'none'}")
    if resolution is None:
        assert ep is not None
        assert sigma is not None
        resolution = convert.steps_for(ep, sigma, noise=noise, definition=definition)
    elif sigma is None:
        assert ep is not None
        sigma = convert.noise_sigma(ep, resolution, noise=noise, definition=definition)
    assert sigma is not None
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
