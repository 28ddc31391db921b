"""The text of a new profile: valid, commented, and every number in it assumed until its author knows better."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any, Final

from pydantic import AfterValidator, BaseModel
from pydantic.fields import FieldInfo

from robustcheck.errors import UsageError
from robustcheck.sensing.camera_profile import CameraProfile
from robustcheck.sensing.profile import RECORDS, SensorProfile, sensor_names
from robustcheck.sensing.quantity import Quantity, Table, Within
from robustcheck.tomlfile import parse_record

STARTS: Final = {"converter": "adc-8bit", "camera": "camera-imx255", "lidar": "lidar-vlp16"}
"""The profile that a new one of each kind starts from where none is named."""

ABOUT: Final = {
    "bits": "resolution of the converter",
    "full_well_e": "electrons at saturation",
    "read_noise_e": "temporal noise in the dark, without dark current",
    "gain_dn_per_e": "overall system gain K, at `bits`; beware of sheets that give its inverse",
    "analog_gain": "factor on the gain above; 1 where the other numbers are stated at it",
    "black_level_dn": "code of no light, at `bits`",
    "pixel_um": "pitch; for lux",
    "quantum_efficiency": "electrons a photon, at 555 nm; for lux",
    "dark_current_e_per_s": "at `dark_reference_c`",
    "dark_reference_c": "temperature that the dark current was measured at",
    "dark_doubling_c": "rise in temperature that doubles the dark current",
    "prnu": "photo response non-uniformity, as a share of the signal",
    "dsnu_e": "dark signal non-uniformity",
    "row_noise_e": "temporal noise that a row shares; 0 where it is contained in the read noise",
    "exposure_time_s": "for dark current and lux",
    "temperature_c": "of the sensor, for dark current",
    "f_number": "of the lens; for lux",
    "transmission": "of the lens; for lux",
    "reflectance": "of a white object; for lux",
    "colour_filter": "none, or the Bayer pattern of the upper left four pixels: rggb, bggr, grbg or gbrg",
    "method": "multi-exposure (one after the other) or split-pixel (at the same time)",
    "sensitivity": "electrons for one electron of the first capture",
    "hand_over": "share of a capture's saturation above which the next one is used",
    "input_dn": "linear codes at the knees, rising from 0",
    "output_dn": "companded codes at the knees, rising from 0",
    "elevation_deg": "of each beam, the uppermost first",
    "azimuth_step_deg": "between two firings of a beam",
    "range_lsb_m": "step of the ranges that it reports",
    "range_noise_m": "range error of a strong return; `kind` says whether the sheet means 1sigma, typical or max",
    "range_noise_limit_m": "the same at the limit of detection",
    "beam_bias_m": "spread of the beams' constant range errors",
    "intensity_bits": "resolution of the intensity",
    "intensity_noise": "of a strong return, as a share of its intensity",
    "min_range_m": "nothing nearer is reported",
    "max_range_m": "nothing farther is reported",
    "range_at_10_percent_m": "where half of the returns of a 10 % reflector are detected",
    "detection_snr": "signal-to-noise ratio there",
    "false_return_rate": "probability of a return from nothing, per firing",
    "dead_beams": "share of the beams that report nothing",
    "angular_noise_deg": "error of a firing's direction",
    "ambient_noise": "the receiver's noise under the sun, as a multiple of that at which the ranges are stated",
    "keep_every": "every n-th beam works; 1 for all of them",
    "snr": "signal-to-noise ratios of the returns, rising",
    "sigma_m": "range error at each of them",
}
"""What each number or choice of a profile is, in a few words."""

_HEAD: Final = """\
# A profile of a {kind}, begun from {start}. Every number below is that part's, and stands here as assumed:
# for each, put the value of your own part, where it comes from (source) and how sure that is (status: measured,
# datasheet, derived, modelled or assumed). Then look at it: robustcheck sensors show ./{name}.toml
"""
_PUBLISHED: Final = """
# What the maker publishes of the whole; the other numbers are held against it.
# [published]
# snr_max_db = { value = 40.3, unit = "dB", kind = "typical", status = "datasheet", source = "…" }
# dynamic_range_db = { value = 71.3, unit = "dB", kind = "typical", status = "datasheet", source = "…" }
"""


def new_profile(name: str, start: SensorProfile) -> str:
    """The text of a profile that starts with the numbers of another, all of them assumed.

    Args:
        name: of the new profile, lower case, digits and hyphens.
        start: where its numbers come from.

    Raises:
        UsageError: the name is not one that a profile can have, or that of a shipped one.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> print(new_profile("my-adc", load_sensor("adc-8bit")).splitlines()[-1])
    bits = { value = 8, unit = "bit", kind = "exact", status = "assumed", source = "copied from adc-8bit" }
    """
    if name in sensor_names():
        raise UsageError(
            f"new profile {name!r}: expected a name of its own, got that of a shipped profile, from which no report "
            f"could tell it apart; use another, such as my-{name}"
        )
    copied = start.model_copy(update={"name": name, "title": name, "description": ""})
    if isinstance(copied, CameraProfile):
        copied = copied.model_copy(update={"published": type(copied.published)()})
    lines = [_HEAD.format(kind=start.kind, start=start.name, name=name)]
    lines += _lines(copied, (), f"copied from {start.name}")
    text = "\n".join(lines) + "\n" + (_PUBLISHED if start.kind == "camera" else "")
    try:
        parse_record(tomllib.loads(text), RECORDS[start.kind])
    except ValueError as error:
        raise UsageError(f"new profile {name!r}: {error}; use lower case, digits and hyphens") from error
    return text


def _lines(record: BaseModel, path: tuple[str, ...], source: str) -> Iterator[str]:
    """A record as TOML: its own fields, then the tables within it."""
    within = []
    for name, field in type(record).model_fields.items():
        value = getattr(record, name)
        if isinstance(value, str):
            if name in ABOUT:
                yield from ("", f"# {ABOUT[name]}")
            yield f"{name} = {json.dumps(value, ensure_ascii=False)}"
        elif isinstance(value, Quantity | Table):
            yield from ("", f"# {_about(name, field)}", f"{name} = {_inline(value, source)}")
        elif value is not None:
            within.append((name, value))
    for name, value in within:
        yield from _table(value, (*path, name), source)


def _table(value: Any, path: tuple[str, ...], source: str) -> Iterator[str]:
    header = ".".join(path)
    if isinstance(value, dict):
        yield from ("", "# Named shares of the full well or of the return signal, at which reports read the sensor.")
        yield f"[{header}]"
        yield from (f"{name} = {_inline(inner, source)}" for name, inner in value.items())
    elif isinstance(value, tuple):
        for one in value:
            yield from ("", f"[[{header}]]", *_lines(one, path, source))
    else:
        lines = list(_lines(value, path, source))
        if lines:
            yield from ("", f"[{header}]", *lines)


def _inline(number: Quantity | Table, source: str) -> str:
    if isinstance(number, Table):
        given = f"values = [{', '.join(f'{value:.12g}' for value in number.values)}]"
    else:
        given = f"value = {number.value:.12g}"
    cited = f'unit = "{number.unit}", kind = "{number.kind}", status = "assumed", source = "{source}"'
    return f"{{ {given}, {cited} }}"


def _about(name: str, field: FieldInfo) -> str:
    checks = [one.func for one in field.metadata if isinstance(one, AfterValidator)]
    allowed = "; ".join(
        check.expected for check in checks if isinstance(check, Within) and check.expected != "a number"
    )
    return ABOUT[name] + (f" ({allowed})" if allowed else "")
