"""`robustcheck sensors`: the sensor profiles, and the way between error probability, noise and resolution."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from robustcheck.cli.sensor_options import set_option
from robustcheck.cli.sensor_points import ep, plot
from robustcheck.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from robustcheck.sensing.consistency import Finding
    from robustcheck.sensing.profile import SensorProfile

_KINDS = click.Choice(["converter", "camera", "lidar"])
_EXPOSURES: Final = (0.01, 0.1, 0.5)
_WIDE: Final = 100
_COLUMNS: Final[dict[str, dict[str, Callable[[Mapping[str, Any]], str]]]] = {
    "converter": {
        "steps": lambda row: str(row["steps"]),
        "step": lambda row: f"{1 / row['steps']:.2g}",
        "σ at EP 0.5": lambda row: f"{row['sigma_at_ep_half']:.2g}",
    },
    "camera": {
        "bits": lambda row: f"{row['bits']:g}" if row["captures"] == 1 else f"{row['captures']} × {row['bits']:g}",
        "well e⁻": lambda row: f"{row['full_well_e']:,.0f}",
        "read e⁻": lambda row: f"{row['read_noise_e']:.2g}",
        "SNR dB": lambda row: f"{row['snr_max_db']:.1f}",
        "EP 1 %": lambda row: f"{row['ep_at_1_percent']:.3f}",
        "50 %": lambda row: f"{row['ep_at_50_percent']:.3f}",
    },
    "lidar": {
        "beams": lambda row: str(row["beams"]),
        "range m": lambda row: f"{row['max_range_m']:.3g}",
        "noise cm": lambda row: f"{row['range_noise_m'] * 1e2:g}",
        "step mm": lambda row: f"{row['range_lsb_m'] * 1e3:g}",
    },
}


@click.group()
def sensors() -> None:
    """List, show and start sensor profiles; convert between error probability, noise and resolution.

    \b
    Examples:
      robustcheck sensors list --kind camera
      robustcheck sensors show camera-imx477
      robustcheck sensors new my-camera --kind camera
      robustcheck sensors ep --bits 4 --ep 0.5
    """


@sensors.command("list")
@click.option("--kind", type=_KINDS, help="Profiles of one kind alone.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(kind: str | None, as_json: bool) -> None:
    """List the shipped profiles, and how many of each one's numbers are assumed.

    \b
    Examples:
      robustcheck sensors list
      robustcheck sensors list --kind lidar
      robustcheck sensors list --json
    """
    from robustcheck.sensing.profile import load_sensor, sensor_names

    profiles = [load_sensor(name) for name in sensor_names()]
    rows = [_row(profile) for profile in profiles if kind in (None, profile.kind)]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console

    console = Console()
    for group, members in groupby(rows, key=lambda row: row["kind"]):
        console.print(f"{group}s", style="bold")
        console.print(_overview(group, list(members), wide=console.width > _WIDE))
        console.print()
    if any(row["kind"] == "camera" for row in rows):
        console.print("EP: ep_centre of a flat field at white, at 1 and 50 % of saturation.")
    console.print("assumed: how many of its numbers have no source; sensors show NAME lists them.")


def _row(profile: SensorProfile) -> dict[str, Any]:
    """What a list says of a profile."""
    from robustcheck.sensing.camera_curves import snr_max_db
    from robustcheck.sensing.camera_profile import CameraProfile
    from robustcheck.sensing.error_probability import noise_sigma
    from robustcheck.sensing.lidar_profile import LidarProfile

    row: dict[str, Any] = {"name": profile.name, "kind": profile.kind, "title": profile.title}
    if isinstance(profile, CameraProfile):
        dim, _, bright = (_reading(profile, exposure) for exposure in _EXPOSURES)
        row |= {
            "bits": profile.bits.value,
            "captures": 1 + len(profile.hdr.captures) if profile.hdr else 1,
            "full_well_e": profile.full_well_e.value,
            "read_noise_e": profile.read_noise_e.value,
            "snr_max_db": snr_max_db(profile),
            "ep_at_1_percent": dim["ep"],
            "ep_at_50_percent": bright["ep"],
        }
    elif isinstance(profile, LidarProfile):
        row |= {
            "beams": len(profile.elevation_deg.values),
            "max_range_m": profile.max_range_m.value,
            "range_noise_m": profile.range_noise_m.value,
            "range_lsb_m": profile.range_lsb_m.value,
        }
    else:
        row |= {"bits": profile.bits.value, "steps": profile.steps, "sigma_at_ep_half": noise_sigma(0.5, profile.steps)}
    return {**row, "numbers": len(profile.numbers), "assumed": profile.assumed}


def _overview(kind: str, rows: list[dict[str, Any]], *, wide: bool) -> Table:
    """The profiles of one kind; with their titles where there is room."""
    columns = _COLUMNS[kind]
    table = _table("name", *(["title"] if wide else []), *columns, "assumed", right=(*columns, "assumed"))
    for row in rows:
        title = [row["title"]] if wide else []
        assumed = f"{len(row['assumed'])} of {row['numbers']}"
        table.add_row(row["name"], *title, *(text(row) for text in columns.values()), assumed)
    return table


def _table(*columns: str, right: Iterable[str] = ()) -> Table:
    """Columns without lines between; those to the right hold numbers, which are not broken."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        number = column in right
        whole = number or column in ("name", "number")
        table.add_column(column, justify="right" if number else "left", no_wrap=whole, overflow="fold")
    return table


def _reading(profile: SensorProfile, exposure: float, name: str | None = None) -> dict[str, Any]:
    """What a camera makes of a flat field at white at an exposure."""
    from robustcheck.sensing.camera import camera_setting
    from robustcheck.sensing.camera_ep import reading
    from robustcheck.sensing.camera_profile import CameraProfile

    assert isinstance(profile, CameraProfile)
    found = reading(camera_setting(profile, exposure=exposure))
    return {"name": name, "exposure": exposure, **{key: getattr(found, key) for key in ("sigma_steps", "ep", "ep_adc")}}


def _readings(profile: SensorProfile) -> list[dict[str, Any]]:
    """A camera at 1, 10 and 50 % of saturation and at its operating points; nothing for other sensors."""
    from robustcheck.sensing.camera_profile import CameraProfile

    if not isinstance(profile, CameraProfile):
        return []
    named = [_reading(profile, point.value, name) for name, point in profile.operating_points.items()]
    return [_reading(profile, exposure) for exposure in _EXPOSURES] + named


@sensors.command()
@click.argument("name")
@set_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, settings: Mapping[str, float], as_json: bool) -> None:
    """Show one profile, shipped or by the path of its TOML file.

    Each number with its unit, status and source; which ones are assumed; whether the numbers fit each other; and of a
    camera, the error probability at 1, 10 and 50 % of saturation and at its operating points.

    \b
    Examples:
      robustcheck sensors show camera-imx477
      robustcheck sensors show lidar-vlp16 --set range_noise_m=0.01
      robustcheck sensors show ./mine.toml --json
    """
    from robustcheck.sensing.consistency import findings
    from robustcheck.sensing.profile import load_sensor, with_settings

    profile = with_settings(load_sensor(name), settings)
    checks, readings = findings(profile), _readings(profile)
    if as_json:
        found = {
            "steps": profile.steps,
            "sha256": profile.sha256,
            "assumed": profile.assumed,
            "findings": [{**asdict(check), "ok": check.ok} for check in checks],
            "readings": readings,
        }
        click.echo(json.dumps({**profile.model_dump(mode="json"), **found}, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.text import Text

    # Names and sources come from files: as plain text they can switch neither colours nor links on.
    console = Console(markup=False, highlight=False)
    console.print(Text.assemble((profile.name, "bold"), "  ", profile.title))
    if profile.description:
        console.print(profile.description)
    if profile.assumed:
        counted = f"{len(profile.assumed)} of {len(profile.numbers)} numbers are assumed, having no source: "
        console.print(f"\n{counted}{', '.join(profile.assumed)}", style="yellow")
    _print_numbers(console, profile)
    _print_readings(console, readings)
    _print_findings(console, checks)
    console.print(f"\nsha256 {profile.sha256}", soft_wrap=True, style="dim")


def _print_numbers(console: Console, profile: SensorProfile) -> None:
    from rich.text import Text

    for place, members in groupby(profile.numbers.items(), key=lambda item: item[0].rpartition(".")[0]):
        console.print(f"\n{_heading(profile, place)}", style="bold")
        table = _table("number", "value", "status", "source")
        for name, number in members:
            status = Text(number.status, style="yellow" if number.status == "assumed" else "")
            status.append(f"\n{number.kind}", style="dim")
            table.add_row(name.rpartition(".")[2], Text(str(number)), status, Text(number.source))
        console.print(table)


def _heading(profile: SensorProfile, place: str) -> str:
    """What a group of numbers is called, and where in the profile it stands."""
    from robustcheck.sensing.camera_profile import CameraProfile

    if isinstance(profile, CameraProfile) and profile.hdr is not None:
        if place.startswith("hdr.captures."):
            return f"{place}  capture {profile.hdr.captures[int(place.rpartition('.')[2])].name}"
        if place == "hdr":
            return f"hdr  {profile.hdr.method}; the first capture's numbers are the camera's own"
        if profile.hdr.companding is not None and place == "hdr.companding":
            return f"hdr.companding  {profile.hdr.companding.title}"
    return place or profile.kind


def _print_readings(console: Console, readings: Iterable[Mapping[str, Any]]) -> None:
    numbers = ("exposure", "noise [codes]", "ep_centre", "ep_adc")
    table = _table("light", *numbers, right=numbers)
    for reading in readings:
        values = (f"{reading[key]:.4g}" for key in ("exposure", "sigma_steps", "ep", "ep_adc"))
        table.add_row(reading["name"] or f"{reading['exposure']:.0%} of saturation", *values)
    if table.row_count:
        console.print("\nerror probability of a flat field at white", style="bold")
        console.print(table)


def _print_findings(console: Console, checks: Iterable[Finding]) -> None:
    from rich.text import Text

    if not checks:
        return
    console.print("\ndo the numbers fit each other?", style="bold")
    table = _table("", "what", "is", "expected", "meaning")
    for check in checks:
        mark = Text("yes") if check.ok else Text("NO", style="bold red")
        table.add_row(mark, check.name, f"{check.got:.4g}", check.expected, check.text)
    console.print(table)


@sensors.command()
@click.argument("name")
@click.option("--kind", type=_KINDS, help="What to start; a camera if neither this nor --from is given.")
@click.option(
    "--from", "start", metavar="PROFILE", help="Profile whose numbers it starts from, by name or ./FILE.toml."
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.toml",
    help="File to write; NAME.toml here if not given.",
)
@click.option("--force", is_flag=True, help="Overwrite a file that exists.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def new(name: str, kind: str | None, start: str | None, out: Path | None, force: bool, as_json: bool) -> None:
    """Start a profile of your own: a file that is valid, explains each number, and calls every one assumed.

    \b
    Examples:
      robustcheck sensors new my-camera --kind camera
      robustcheck sensors new my-lidar --from lidar-os1-64 -o profiles/my-lidar.toml
    """
    from robustcheck.sensing.profile import load_sensor
    from robustcheck.sensing.template import STARTS, new_profile

    base = load_sensor(start or STARTS[kind or "camera"])
    if kind not in (None, base.kind):
        raise UsageError(f"--from: expected a {kind}, got {base.name}, which is a {base.kind}; leave out --kind")
    path = Path(f"{name}.toml") if out is None else out
    if path.suffix != ".toml":
        raise UsageError(f"--out: expected a file that ends in .toml, got {str(path)!r}")
    text = new_profile(name, base)
    if path.exists() and not force:
        raise UsageError(f"{path}: exists, and was left as it is; name another file with -o, or use --force")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    spec = str(path) if path.is_absolute() else f"./{path}"
    if as_json:
        click.echo(json.dumps({"path": str(path), "name": name, "kind": base.kind, "from": base.name}, indent=2))
        return
    click.echo(f"wrote {path}: a {base.kind} with the numbers of {base.name}, each marked as assumed")
    click.echo("next:  1. put the values of your part, with kind, status and source")
    click.echo(f"       2. robustcheck sensors show {spec}      what is still assumed, and whether the numbers fit")
    click.echo(f"       3. robustcheck audit MODEL --sensor {spec}")


sensors.add_command(ep)
sensors.add_command(plot)
