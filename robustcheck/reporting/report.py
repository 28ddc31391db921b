"""The report: a versioned JSON document that every other format is a rendering of.

All fields but those under `provenance` are decided by the study alone: two runs of one study on one machine type
give the same bytes there, whatever the number of workers, the order of the cells or an interruption.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError

from robustcheck.errors import ReportError
from robustcheck.reporting.evidence_record import Confusion, Examples, Sensitivity
from robustcheck.reporting.record import Interval, Record, SparseRecord
from robustcheck.reporting.wording import number
from robustcheck.tomlfile import problems

SCHEMA_VERSION = 1
MAX_REPORT_BYTES = 256 * 2**20
MOST_NESTED = 32


class Precision(Record):
    """How well the noise draws and the test samples settle an accuracy; half-widths of 95 % intervals, as fractions."""

    draws: tuple[int, ...] = Field(description="noise draws taken for each trained network, in the order of the seeds")
    draw_error: float = Field(
        description="over noise draws, for one network on these samples; the largest of the networks"
    )
    reached: bool = Field(description="whether that is at most what was asked for")
    sample_error: float = Field(description="over test samples, for these networks; more draws do not make it smaller")


class Row(SparseRecord):
    """One activation at one operating point."""

    sparse: ClassVar[frozenset[str]] = frozenset({"precision"})

    activation: str
    accuracy: float = Field(description="mean over trained networks, draws and test samples, 0 to 1")
    networks: Interval | None = Field(description="over trained networks; absent for one network")
    samples: Interval | None = Field(description="over test samples and draws: these networks only; absent for areas")
    per_seed: tuple[float, ...] = Field(description="accuracy of each trained network, in the order of the seeds")
    rank: int = Field(description="1 + the number of activations significantly better here")
    converged: int = Field(description="networks whose validation accuracy under noise is above chance")
    clean: float | None = Field(default=None, description="the same networks with the channel off")
    quantised: float | None = Field(default=None, description="the same networks with rounding and no noise")
    precision: Precision | None = Field(
        default=None, description="absent where none was asked for, without noise, and for areas"
    )


class Pair(Record):
    """The difference of two activations, with an interval that holds for all pairs at once."""

    a: str
    b: str
    difference: float = Field(description="accuracy of a minus accuracy of b")
    lower: float
    upper: float
    p_value: float
    significant: bool
    seeds_needed: int | None = Field(description="seeds that would find this difference with 80 % power; null > 1000")


class Comparison(Record):
    """Every activation at one operating point (or over the EP range), ranked."""

    rows: tuple[Row, ...] = Field(description="best mean first")
    pairs: tuple[Pair, ...]
    winner: str | None = Field(description="significantly better than every other activation; null: nobody is")
    leaders: tuple[str, ...] = Field(description="not significantly worse than the best mean")
    exact_ties: tuple[tuple[str, ...], ...]
    detectable_difference: float | None = Field(description="what this many seeds detect with 80 % power")
    seeds_needed: int | None = Field(description="seeds that would separate the best from the next with 80 % power")


class OperatingPoint(SparseRecord):
    """A setting of the sensor: a value on its axis, or the channel off, or rounding without noise.

    Of a camera, noise and error probabilities are those of a flat field at white.
    """

    sparse: ClassVar[frozenset[str]] = frozenset(
        {"exposure", "lux", "bits", "signal", "data_ep", "range_ep", "intensity_ep", "detection", "named"}
    )

    kind: Literal["ep", "exposure", "lux", "signal", "clean", "quantised"] = Field(description="what was asked for")
    ep: float | None = Field(description="ep_centre; null for a LIDAR, and where there is no noise")
    ep_adc: float | None = Field(description="the same noise as a converter sees it; null where ep is")
    sigma: float | None = Field(description="noise scale in full scales of [0, 1]; 0 without noise")
    sigma_steps: float | None = Field(description="the same in steps (LSB)")
    exposure: float | None = Field(default=None, description="share of a camera's full well that white fills")
    lux: float | None = Field(default=None, description="illuminance that gives it, by the profile's lens [lx]")
    bits: float | None = Field(default=None, description="resolution, where the operating point decides it")
    signal: float | None = Field(default=None, description="share of a LIDAR's return signal that arrives")
    data_ep: float | None = Field(default=None, description="mean ep_centre over the pixels of the test split")
    range_ep: float | None = Field(default=None, description="ep_centre of a LIDAR's ranges at its reference return")
    intensity_ep: float | None = Field(default=None, description="ep_centre of its intensities there")
    detection: float | None = Field(default=None, description="probability that the reference return is detected")
    named: str | None = Field(default=None, description="the profile's name for this operating point")

    @property
    def asked(self) -> float | None:
        """The value that was asked for, of what `kind` says; None without noise."""
        return {"ep": self.ep, "exposure": self.exposure, "lux": self.lux, "signal": self.signal}.get(self.kind)

    @property
    def label(self) -> str:
        """What it is called where four digits are enough to know it by."""
        return self.written(digits=4)

    def written(self, digits: int) -> str:
        """What a table calls it: `EP 0.5`, `exposure 0.1`, `50 lx`, `signal 0.3`, `clean`, `quantised only`.

        An EP has six digits at least.
        """
        if self.asked is None:
            return "quantised only" if self.kind == "quantised" else "clean"
        if self.kind == "ep":
            return f"EP {number(self.asked, max(digits, 6))}"
        value = number(self.asked, digits)
        return f"{value} lx" if self.kind == "lux" else f"{self.kind} {value}"


class PointResult(Record):
    """What came out at one operating point."""

    point: OperatingPoint
    comparison: Comparison


class NumberSummary(Record):
    """A number of a profile."""

    name: str
    value: str = Field(description="with its unit")
    kind: str
    status: Literal["measured", "datasheet", "derived", "modelled", "assumed"]
    source: str


class NamedPoint(SparseRecord):
    """An operating point that the profile names."""

    sparse: ClassVar[frozenset[str]] = frozenset({"lux"})

    name: str
    value: float = Field(description="an exposure or a signal")
    ep: float | None = Field(description="ep_centre there; null for a LIDAR")
    lux: float | None = Field(default=None, description="illuminance that gives the exposure [lx]")


class SensorSummary(SparseRecord):
    """The sensor as the study used it."""

    sparse: ClassVar[frozenset[str]] = frozenset(
        {
            *("noise", "doa_only", "kind", "settings", "vary", "at_exposure", "at_lux", "device_seed", "numbers"),
            "operating_points",
        }
    )

    key: str = Field(description="unique in the report, e.g. adc-4bit/16 steps")
    name: str
    title: str
    profile_sha256: str
    steps: int
    bits: float = Field(description="log2(steps + 1)")
    form: Literal["aod", "doa"]
    noise: Literal["gaussian", "uniform", "laplace"] | None = Field(
        default=None, description="of a converter; absent for a camera or LIDAR, whose noise follows from its numbers"
    )
    placement: Literal["sensor", "network"]
    doa_only: bool = Field(
        default=False, description="of placement network: whether no converter follows a layer, the last one neither"
    )
    range: Literal["unit", "calibrated"] | None = Field(description="null for placement sensor")
    assumed: tuple[str, ...] = Field(description="numbers of the profile that have no source")
    kind: Literal["converter", "camera", "lidar"] = "converter"
    settings: dict[str, float] = Field(default={}, description="numbers of the profile that the study set otherwise")
    vary: Literal["exposure", "bits"] | None = Field(default=None, description="what an EP moves in a camera")
    at_exposure: float | None = Field(default=None, description="where it moves the bits")
    at_lux: float | None = Field(default=None, description="the same where it was asked for as an illuminance [lx]")
    device_seed: int | None = Field(default=None, description="which specimen of a camera or LIDAR")
    numbers: tuple[NumberSummary, ...] = Field(default=(), description="of a camera or LIDAR")
    operating_points: tuple[NamedPoint, ...] = Field(default=(), description="that the profile of such a one names")


class SiteSummary(Record):
    """A place in the network where an activation stands."""

    path: str
    kind: str
    found: Literal["module", "function", "nodes"]
    calls: int


class ModelSummary(Record):
    """The model that was given."""

    key: str
    spec: str
    origin: str
    sha256: str
    parameters: int
    weights: str | None = Field(
        description="where they come from; null: whatever its code makes, random if it does not load any"
    )
    input: dict[str, Any]
    activation: str | None = Field(description="the activation found in the model; null where there is none")
    sites: tuple[SiteSummary, ...]
    notes: tuple[str, ...] = Field(default=(), description="what was assumed and what was verified on loading")


class DataSummary(Record):
    """The data that was used, and how it was split."""

    spec: str
    name: str
    source: str
    sha256: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    counts: dict[str, int]
    chance: float
    split_seed: int
    fixed_test: bool
    preprocessing: dict[str, Any]
    notes: tuple[str, ...]


class ActivationSummary(Record):
    """A contestant."""

    spec: str
    formula: str
    family: str
    learned: tuple[str, ...]
    current: bool
    replaced: dict[str, tuple[str, ...]] = Field(description="model key -> paths where it was put")


class LearningRateTrial(Record):
    """One learning rate tried on the validation split under noise."""

    learning_rate: float
    validation_accuracy: float


class Tuning(Record):
    """How the learning rate of one contestant was chosen."""

    model: str
    sensor: str
    activation: str
    train_ep: str
    trials: tuple[LearningRateTrial, ...] = Field(description="empty where --lr fixed it")
    chosen: float


class Training(Record):
    """One trained network: a cell."""

    cell: str = Field(description="content hash of the cell")
    model: str
    sensor: str
    activation: str
    seed: int
    train_ep: str = Field(description="an EP, `mixed`, or `none` for drop-in")
    learning_rate: float | None
    epochs: int
    best_epoch: int | None
    converged: bool
    validation_accuracy: float | None
    train_loss: tuple[float | None, ...] = Field(description="one an epoch; null where it was not finite")
    validation_curve: tuple[float, ...]


class Predictions(Record):
    """Which test samples one network got right at one operating point."""

    cell: str
    point: str = Field(description="`ep=0.5`, `exposure=0.1`, `signal=0.3`, `clean` or `quantised`")
    draws: int
    correct: str = Field(description="base64 of zlib of numpy.packbits of bool (draws, samples), row-major")


class Result(Record):
    """One model on one sensor."""

    model: str
    sensor: SensorSummary
    points: tuple[PointResult, ...]
    area: Comparison | None = Field(
        description="mean accuracy over the EPs, or the logarithms of exposures or signals (trapezoid / width)"
    )


class Failure(Record):
    """A cell that could not be finished."""

    cell: str
    what: str
    error: str


class Report(SparseRecord):
    """The whole document; see the module's docstring and the JSON Schema that `json_schema()` gives.

    >>> sorted(json_schema()["required"])[:4]
    ['activations', 'data', 'draws', 'failures']
    """

    sparse: ClassVar[frozenset[str]] = frozenset({"precision", "confusions", "examples", "sensitivities"})

    schema_version: Literal[1]
    kind: Literal["audit", "compare"]
    title: str
    study: str = Field(description="content hash of the study")
    models: tuple[ModelSummary, ...]
    data: DataSummary
    activations: tuple[ActivationSummary, ...]
    policy: dict[str, Any] = Field(description="training policy as the study file states it")
    seeds: int
    draws: int = Field(description="noise draws a test sample; with a precision the first ones, see rows for all")
    precision: float | None = Field(
        default=None, description="the draw error that was asked for, as a fraction; absent where none was"
    )
    results: tuple[Result, ...]
    tuning: tuple[Tuning, ...]
    training: tuple[Training, ...]
    predictions: tuple[Predictions, ...]
    confusions: tuple[Confusion, ...] = ()
    examples: tuple[Examples, ...] = ()
    sensitivities: tuple[Sensitivity, ...] = Field(default=(), description="where the study asked for them")
    sample_ids: str = Field(description="base64 of zlib of int64 little-endian ids of the test samples")
    failures: tuple[Failure, ...]
    numerics: int = Field(description="version of all that decides numbers; reports differ where it differs")
    provenance: dict[str, Any] = Field(description="versions, times, host, command: all that may vary")

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Read a report from a file.

        Raises:
            ReportError: the file cannot be read, is over 256 MiB, or is no report of this schema version.
        """
        path = Path(path)
        try:
            if path.stat().st_size > MAX_REPORT_BYTES:
                raise ReportError(f"{path}: expected a report under 256 MiB, got {path.stat().st_size} bytes")
            document = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            raise ReportError(f"{path}: expected a robustcheck report (JSON), got: {error}") from error
        if _is_nested(document, MOST_NESTED):
            raise ReportError(f"{path}: expected a robustcheck report, got JSON nested over {MOST_NESTED} levels deep")
        version = document.get("schema_version") if isinstance(document, dict) else None
        if version != SCHEMA_VERSION:
            raise ReportError(
                f"{path}: expected schema_version {SCHEMA_VERSION}, got {version!r}; "
                "make the report again, or use the robustcheck that wrote it"
            )
        try:
            return cls.model_validate(document, strict=False)
        except ValidationError as error:
            raise ReportError(f"{path}: field {problems(error, cls)[0]}") from error

    def to_json(self) -> str:
        """The document as text: keys in declared order, two-space indent, ends with a newline."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _is_nested(value: Any, levels: int) -> bool:
    """Whether a document has more levels: what walks over it is recursive."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(levels == 0 or _is_nested(each, levels - 1) for each in inside)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a report, version 1."""
    return Report.model_json_schema()
