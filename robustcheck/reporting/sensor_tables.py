"""Tables of what a camera or LIDAR is: its operating points on every axis, and its numbers with their sources."""

from __future__ import annotations

from collections.abc import Iterator

from robustcheck.reporting.axis import axis_of, noisy_points
from robustcheck.reporting.report import OperatingPoint, Report, SensorSummary
from robustcheck.reporting.tables import Line, Table
from robustcheck.reporting.wording import NONE, number, plain

ASSUMED = "assumed"
_COLUMNS = {
    "camera": (
        ("exposure", "exposure"),
        ("light [lx]", "lux"),
        ("bits", "bits"),
        ("EP", "ep"),
        ("EP as a converter sees it", "ep_adc"),
        ("σ [codes]", "sigma_steps"),
        ("mean EP of the data", "data_ep"),
    ),
    "lidar": (
        ("signal", "signal"),
        ("detected", "detection"),
        ("range EP", "range_ep"),
        ("intensity EP", "intensity_ep"),
    ),
}
_NOTES = {
    "camera": "σ and EP are those of a flat field at white, without the sensor's fixed pattern."
    " The light is that on the scene, by the profile's lens and exposure time.",
    "lidar": "Range EP is high and harmless where the noise is many steps of the range; see the accuracy.",
}


def sensor_tables(report: Report, sensor: SensorSummary) -> Iterator[Table]:
    """Both tables of a sensor; none of a converter, which has neither."""
    if sensor.kind == "converter":
        return
    met = {
        each.point.written(axis_of(result).digits): each.point
        for result in report.results
        if result.sensor.key == sensor.key
        for _, each in noisy_points(result)
    }
    if met:
        yield _points(sensor, met)
    yield _numbers(sensor)


def _points(sensor: SensorSummary, met: dict[str, OperatingPoint]) -> Table:
    points = met.values()
    columns = [
        (head, field)
        for head, field in _COLUMNS[sensor.kind]
        if any(getattr(point, field) is not None and point.kind != field for point in points)
    ]
    named = any(point.named for point in points)
    lines = (
        Line(
            (
                label,
                *(number(getattr(point, field)) for _, field in columns),
                *((plain(point.named or NONE),) if named else ()),
            )
        )
        for label, point in met.items()
    )
    heads = ("operating point", *(head for head, _ in columns), *(("named",) if named else ()))
    return Table("Operating points on every axis", heads, tuple(lines), (_NOTES[sensor.kind],))


def _numbers(sensor: SensorSummary) -> Table:
    lines = (
        Line(
            (plain(each.name), plain(each.value), each.kind, each.status, plain(each.source)),
            lead=each.status == ASSUMED,
        )
        for each in sensor.numbers
    )
    assumed = sum(each.status == ASSUMED for each in sensor.numbers)
    return Table(
        "Numbers of the profile",
        ("number", "value", "kind", "status", "source"),
        tuple(lines),
        (f"In bold: {ASSUMED}, without a source.",) if assumed else (),
        words=True,
        folded=f"All {len(sensor.numbers)} numbers of the profile with their sources; {assumed or 'none'} {ASSUMED}",
    )
