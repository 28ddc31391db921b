"""How long a model takes in ONNX Runtime with each of several activations: one image, one thread, taking turns."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import numpy as np
import torch

from robustcheck.networks.loading import Model
from robustcheck.networks.saving import swapped_model
from robustcheck.networks.surgery import swap_activation
from robustcheck.study.pool import in_one_line

_ROUNDS = 31
_SECONDS_A_ROUND = 0.004
_MOST_CALLS = 200


@dataclass(frozen=True)
class Latency:
    """Time of one call [µs], over rounds in which all take turns.

    Attributes:
        median: of the rounds.
        lower: their lower quartile.
        upper: their upper quartile.
        batch: images in a call: 1, or as many as the file fixes.
    """

    median: float
    lower: float
    upper: float
    batch: int

    def tied(self, other: Latency) -> bool:
        """Whether the two differ by no more than their rounds do.

        >>> Latency(10.0, 9.0, 11.0, 1).tied(Latency(11.5, 10.5, 12.0, 1))
        True
        """
        return self.lower <= other.upper and other.lower <= self.upper


@dataclass(frozen=True)
class Latencies:
    """What was measured, and why the others could not be."""

    measured: dict[str, Latency]
    problems: dict[str, str]


def measure(model: Model, specs: Iterable[str], shape: tuple[int, int, int], rounds: int = _ROUNDS) -> Latencies:
    """Time the model in ONNX Runtime with each activation in place of its own; its weights do not matter.

    Args:
        model: from `load_model`; unchanged.
        specs: activations.
        shape: (c, h, w) of the images.
        rounds: at least 2; in each of them every activation has its turn of some 4 ms.

    >>> from robustcheck import load_model
    >>> measure(load_model("digits-convnet"), ["relu"], (1, 8, 8), rounds=2).measured["relu"].batch
    1
    """
    runs: dict[str, _Run] = {}
    problems: dict[str, str] = {}
    for spec in specs:
        try:
            runs[spec] = _prepared(swapped_model(model, swap_activation(model, spec)), shape)
        except Exception as error:  # ONNX Runtime's have no common base, and no latency is worth a finished race
            problems[spec] = in_one_line(error)
    found: dict[str, list[float]] = {spec: [] for spec in runs}
    for _ in range(rounds):
        for spec, run in runs.items():
            found[spec].append(run.seconds())
    return Latencies({spec: _latency(seconds, runs[spec].batch) for spec, seconds in found.items()}, problems)


class _Run:
    """A session, its input, and how many calls make a round."""

    def __init__(self, session: Any, given: dict[str, Any], batch: int) -> None:
        self.session, self.given, self.batch = session, given, batch
        self.calls = 1
        self.seconds()
        self.calls = max(1, min(_MOST_CALLS, int(_SECONDS_A_ROUND / max(self.seconds(), 1e-6))))

    def seconds(self) -> float:
        """Of one call, the mean over a round's calls."""
        start = time.perf_counter()
        for _ in range(self.calls):
            self.session.run(None, self.given)
        return (time.perf_counter() - start) / self.calls


def _prepared(model: Model, shape: tuple[int, int, int]) -> _Run:
    from robustcheck.networks.onnx.exporting import export_onnx
    from robustcheck.networks.onnx.module import OnnxNetwork
    from robustcheck.networks.onnx.session import make_session
    from robustcheck.networks.onnx.writing import written

    if isinstance(model.network, OnnxNetwork):
        batch = model.network.batch or 1
        session = make_session(written(model.network).SerializeToString(), 1, "all")
    else:
        batch = 1
        with tempfile.TemporaryDirectory(prefix="robustcheck-") as folder:
            path = Path(folder) / "model.onnx"
            export_onnx(model, path, shape=shape)
            session = make_session(str(path), 1, "all")
    (given,) = session.get_inputs()
    images = torch.linspace(0.0, 1.0, batch * int(np.prod(shape))).reshape(batch, *shape)
    x = model.input.normalise(images).contiguous().numpy()
    kind = {"tensor(double)": np.float64, "tensor(float16)": np.float16}.get(given.type, np.float32)
    return _Run(session, {given.name: x.astype(kind)}, batch)


def _latency(seconds: list[float], batch: int) -> Latency:
    lower, median, upper = (1e6 * each for each in quantiles(seconds, n=4, method="inclusive"))
    return Latency(median, lower, upper, batch)
