"""The schema of `recommendation.json`: what was recommended, on what evidence, and how it came about."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LeftOutActivation(_Record):
    """An activation that did not take part."""

    activation: str
    reason: str


class StoppedActivation(_Record):
    """An activation that left the race."""

    activation: str
    seeds: int = Field(description="networks of it that had been trained")
    leader: str = Field(description="the best one then; empty where a network failed")
    behind: float = Field(description="how far its mean validation accuracy under noise was behind the leader's")
    margin: float = Field(description="how far it could have been without stopping")
    reason: str = Field(description="what went wrong, where a network could not be trained; else empty")


class TrainingSteps(_Record):
    """Optimiser steps."""

    trials: int = Field(description="of the learning-rate trials")
    networks: int = Field(description="of the networks that are compared")
    total: int


class RaceSummary(_Record):
    """How the race went; all accuracies are on the validation split."""

    alpha: float = Field(description="chance that the truly best activation is stopped, over all looks")
    seeds: int = Field(description="networks that each survivor has")
    validation: dict[str, tuple[float, ...]] = Field(description="accuracy under noise of each network, by seed")
    stops: tuple[StoppedActivation, ...]
    survivors: tuple[str, ...] = Field(description="the best mean first")
    steps: TrainingSteps
    full_grid: TrainingSteps = Field(description="had nobody stopped, with the same learning-rate trials")
    saved: float = Field(description="share of the full grid's steps that was not needed")
    margin: float | None = Field(
        default=None,
        description="how far the model's own activation would have had to be behind the best other survivor's mean to "
        "be stopped at the last look; null where it was stopped, or is alone",
    )


class MeasuredLatency(_Record):
    """Time of one call in ONNX Runtime on one thread [µs]: median and quartiles of rounds that took turns."""

    median_us: float
    lower_us: float
    upper_us: float
    batch: int


class ConsideredOption(_Record):
    """An activation that could have been chosen."""

    activation: str
    noisy: float = Field(description="mean validation accuracy under noise")
    clean: float = Field(description="mean validation accuracy without noise")
    latency: MeasuredLatency | None = Field(description="null where it could not be measured")
    parameters: int
    leads: bool = Field(description="whether it survived the race")
    front: bool = Field(description="on the Pareto front of the four")


class Gain(_Record):
    """What the chosen activation gains on the test split, which had no part in choosing it."""

    point: str = Field(description="an operating point, `clean`, `quantised only`, or `area`")
    current: float = Field(description="mean accuracy with the model's own activation")
    chosen: float
    difference: float
    lower: float = Field(description="of a 95 % interval over trained networks, paired by seed")
    upper: float


class DeliveredModel(_Record):
    """The files that were written."""

    files: tuple[str, ...]
    seed: int = Field(description="of the network that was written: the best of the chosen activation on validation")
    learning_rate: float
    validation_accuracy: float = Field(description="under noise")
    same_network: bool = Field(description="whether it was trained anew exactly as in the race")
    sha256: str = Field(description="of the first file")
    checked: str = Field(description="how what was written was compared with the network")


class Recommendation(_Record):
    """The whole document."""

    schema_version: Literal[1] = 1
    model: str
    model_sha256: str
    data: str
    sensor: str
    points: tuple[str, ...]
    target: Literal["onnx", "torch"]
    current: str
    verdict: Literal["winner", "tie", "trade-off"]
    chosen: str = Field(description="the model's own for a tie")
    candidates: tuple[str, ...] = Field(description="that started, the model's own first")
    left_out: tuple[LeftOutActivation, ...]
    race: RaceSummary
    options: tuple[ConsideredOption, ...] = Field(description="survivors and the model's own, best under noise first")
    better: dict[str, tuple[str, ...]] = Field(
        default={}, description="for each option that is better than the chosen one in some respect, in which"
    )
    latency_problems: dict[str, str] = Field(description="why a latency could not be measured")
    gains: tuple[Gain, ...] = Field(description="empty for a tie")
    delivered: DeliveredModel | None = Field(description="null for a tie")
    command: str = Field(description="what to run to have this again")

    def to_json(self) -> str:
        """The document as text: keys in declared order, two-space indent, ends with a newline."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def option(self, activation: str) -> ConsideredOption:
        """The option with this activation."""
        return next(each for each in self.options if each.activation == activation)
