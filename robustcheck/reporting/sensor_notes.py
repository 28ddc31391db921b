"""What a summary says of cameras and LIDARs: which of their numbers have no source, and what a result hangs on."""

from __future__ import annotations

from collections.abc import Iterator

from robustcheck.reporting.axis import noisy_points
from robustcheck.reporting.report import NumberSummary, Report, SensorSummary
from robustcheck.reporting.wording import listed, number

_NAMED = 4
_SAME_LIGHT = 1.005
_READ_AS = {"typical": "one standard deviation", "max": "three standard deviations"}
# What loses returns comes first: that decided what the shipped networks lost, and range noise nothing (docs/lidar.md).
_DECISIVE = {
    "range_at_10_percent_m": "the range at which it sees half of a 10 % reflector's returns",
    "range_noise_m": "the range noise of a strong return",
    "range_noise_limit_m": "that at the limit of detection",
}
_BY_TABLE = "range_noise_by_snr.sigma_m"


def sensor_notes(report: Report) -> Iterator[str]:
    """All of them; none for a report of converters alone."""
    yield from _unequal_light(report)
    yield from _readings(report)
    yield from _assumed(report)


def _unequal_light(report: Report) -> Iterator[str]:
    """Cameras that were asked for equal shares of unequal wells saw different light."""
    seen: dict[float, dict[str, float]] = {}
    for result in report.results:
        for _, each in noisy_points(result):
            if each.point.kind == "exposure" and each.point.exposure and each.point.lux:
                seen.setdefault(each.point.exposure, {})[result.sensor.key] = each.point.lux
    # The ratio is the same at each exposure that the same cameras were asked for.
    exposure, lights = max(seen.items(), key=lambda item: (len(item[1]), -item[0]), default=(0.0, {}))
    if not lights:
        return
    least, most = min(lights, key=lambda key: lights[key]), max(lights, key=lambda key: lights[key])
    ratio = lights[most] / lights[least]
    if ratio > _SAME_LIGHT:
        yield (
            f"Equal exposure of different wells is different light: exposure {number(exposure)} is"
            f" {number(lights[most], 3)} lx on the scene for {most} and {number(lights[least], 3)} lx for {least},"
            f" a ratio of {number(ratio, 2)}, by their profiles' lenses and exposure times; --exposure 50lx and the"
            " like compare them in one light."
        )


def _readings(report: Report) -> Iterator[str]:
    """Which numbers decide what a LIDAR does in clear air, where these are assumed or were read in one of two ways."""
    sensors = {each.sensor.key: each.sensor for each in report.results if each.sensor.kind == "lidar"}
    for key, sensor in sensors.items():
        numbers = {each.name: each for each in sensor.numbers}
        found = [text for name in _DECISIVE if name in numbers and (text := _reading(sensor, numbers[name]))]
        if found:
            yield (
                f"What {key} costs, even in clear air, hangs on {listed(found)}. Set them with --set NAME=VALUE to see"
                " how much."
            )


def _reading(sensor: SensorSummary, each: NumberSummary) -> str:
    """How a decisive number is understood; empty where it is neither open to another reading nor assumed."""
    by_table = any(other.name == _BY_TABLE for other in sensor.numbers)
    if each.name in sensor.settings or (by_table and "noise" in each.name):
        return ""
    if each.status == "assumed":
        said = "assumed"
    elif "noise" in each.name and each.kind in _READ_AS:
        said = f"given as {each.kind} and taken as {_READ_AS[each.kind]}"
    else:
        return ""
    return f"{_DECISIVE[each.name]} ({each.name} {each.value}: {said})"


def _assumed(report: Report) -> Iterator[str]:
    """Which numbers have no source: all that was found rests on them."""
    real = {each.sensor.key: each.sensor.assumed for each in report.results if each.sensor.kind != "converter"}
    for names in dict.fromkeys(filter(None, real.values())):
        keys = [key for key, assumed in real.items() if assumed == names]
        whose = f" of {listed(keys)}" if len(report.results) > 1 else ""
        yield (
            f"Assumed numbers{whose}: {len(names)}, without a source ({listed(names, most=_NAMED)};"
            " in bold in the table of the sensor's numbers)."
        )
