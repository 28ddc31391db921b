"""Options that say which sensor stands in front of a network, and where it works."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from robustcheck.cli.options import with_options
from robustcheck.errors import UsageError

_Command = TypeVar("_Command", bound=Callable[..., Any])
DEFAULT_EPS = ("0.2:0.8:4",)
_AXES = {
    "converter": "a converter: --ep",
    "camera": "a camera: --exposure or --ep",
    "lidar": "a LIDAR: --signal",
}
_SHARED = (
    "--ep, within what each camera reaches (robustcheck sensors ep NAME --at-ep EP says so), or a run for each kind"
)


def _parse_settings(_context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, float]:
    """The numbers that `--set NAME=VALUE` names."""
    found: dict[str, float] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            separator = ""
        if not separator or not name.strip():
            raise click.BadParameter(f"expected NAME=VALUE with a number, such as read_noise_e=5, got {text!r}")
    return found


def _fraction(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    """The fraction that `0.5%` or `0.005` stands for."""
    if text is None:
        return None
    from robustcheck.study.precision import LEAST

    digits = text.strip().removesuffix("%")
    try:
        # Rounded, so that 0.7% and 0.007 state the same study.
        value = round(float(digits) / 100, 12) if text.strip().endswith("%") else float(digits)
    except ValueError:
        value = 0.0
    if not LEAST <= value < 0.5:
        raise click.BadParameter(f"expected a share from 0.01 % to below 50 %, such as 0.5% or 0.005, got {text!r}")
    return value


def set_option(command: _Command) -> _Command:
    """`--set`."""
    option = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_parse_settings,
        help="Set a number of the profile, such as read_noise_e=5 (repeatable).",
    )
    return option(command)


def sensor_options(command: _Command) -> _Command:
    """The sensor, its operating points, and where its noise goes."""
    return with_options(
        command,
        click.option(
            "--sensor",
            "sensors",
            multiple=True,
            metavar="NAME",
            help="Profile by name or ./FILE.toml (repeatable); adc-4bit if not given.",
        ),
        set_option,
        click.option(
            "--device-seed",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help="Which specimen of a camera or LIDAR: its fixed non-uniformity, dead beams and biases.",
        ),
        click.option(
            "--bits",
            multiple=True,
            type=click.FloatRange(1, 16),
            metavar="B",
            help="Override the resolution (repeatable).",
        ),
        click.option(
            "--steps",
            multiple=True,
            type=click.IntRange(1, 65535),
            metavar="P",
            help="The same as steps per unit, p = 2^b − 1 (repeatable).",
        ),
        click.option(
            "--ep",
            "eps",
            multiple=True,
            metavar="EP",
            help="Error probability, or a range a:b:n (repeatable); 0.2:0.8:4 if a converter is given none.",
        ),
        click.option(
            "--exposure",
            "exposures",
            multiple=True,
            metavar="SHARE|LUX",
            help="Light on a camera: the share of its full well that white fills, or 200lx, or a range a:b:n of equal "
            "ratios (repeatable); the profile's operating points if a camera is given neither this nor --ep.",
        ),
        click.option(
            "--signal",
            "signals",
            multiple=True,
            metavar="SHARE",
            help="Share of a LIDAR's return signal that arrives, or a range a:b:n of equal ratios (repeatable); the "
            "profile's operating points if not given.",
        ),
        click.option(
            "--vary",
            type=click.Choice(["exposure", "bits"]),
            default="exposure",
            show_default=True,
            help="What --ep moves in a camera; with bits, --exposure says the one light (0.5 if not given).",
        ),
        click.option(
            "--noise", type=click.Choice(["gaussian", "uniform", "laplace"]), default="gaussian", show_default=True
        ),
        click.option(
            "--placement",
            type=click.Choice(["sensor", "network"]),
            default="sensor",
            show_default=True,
            help="sensor: noise at the input. network: also around every layer and on its weights.",
        ),
        click.option(
            "--form",
            type=click.Choice(["aod", "doa"]),
            default="aod",
            show_default=True,
            help="aod: noise, clamp, quantise. doa: clamp, quantise, noise. With --placement network, around each "
            "layer: aod is DOA, layer, AOD; doa is DOA, layer, so that outputs and logits are not clamped.",
        ),
        click.option(
            "--range",
            type=click.Choice(["calibrated", "unit"]),
            help="Of the layers, with --placement network: from the training data, or [−1, 1]; "
            "calibrated if not given, unit with --train scratch.",
        ),
        click.option(
            "--draws",
            type=click.IntRange(1),
            default=5,
            show_default=True,
            help="Noise draws a test sample; with --precision the first ones, at least 5.",
        ),
        click.option(
            "--precision",
            metavar="P%",
            callback=_fraction,
            help="Draw until the draw error of each accuracy is at most this, such as 0.5% or 0.005.",
        ),
    )


def operating_points(params: Mapping[str, Any], names: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The operating points of a study, and where an EP moves the bits the exposure that they are read at."""
    from robustcheck.sensing.profile import ConverterProfile, load_sensor
    from robustcheck.study.point_ranges import parse_eps, parse_exposures, parse_shares

    points: dict[str, Any] = {
        "eps": parse_eps(params["eps"]),
        "exposures": parse_exposures(params["exposures"]),
        "signals": parse_shares(params["signals"], "signal"),
    }
    if params["vary"] == "bits":
        if len(points["exposures"]) > 1:
            raise UsageError(
                f"--exposure: expected one with --vary bits, the light at which an EP moves the bits, "
                f"got {len(points['exposures'])}; leave one"
            )
        light = {"at_exposure": points["exposures"][0]} if points["exposures"] else {}
        return points | {"exposures": (), "eps": points["eps"] or parse_eps(DEFAULT_EPS)}, light
    if not any(points.values()):
        profiles = [load_sensor(name) for name in names]
        if len({profile.kind for profile in profiles}) > 1:
            got = ", ".join(f"{profile.name} ({_AXES[profile.kind]})" for profile in profiles)
            shared = "a run for each kind" if any(profile.kind == "lidar" for profile in profiles) else _SHARED
            raise UsageError(
                f"--sensor: expected sensors of one kind where no operating point is given, got {got}; give {shared}"
            )
        for profile in profiles:
            if isinstance(profile, ConverterProfile):
                points["eps"] = parse_eps(DEFAULT_EPS)
            else:
                axis = "exposures" if profile.kind == "camera" else "signals"
                own = {number.value for number in profile.operating_points.values()}
                points[axis] = tuple(sorted(own.union(points[axis])))
    return points, {}
