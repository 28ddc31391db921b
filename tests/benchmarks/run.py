"""Speed of the converter, of a training step with noise, of ONNX graphs, and of start-up, beside what they must beat.

Paired and repeated in one run; prints medians and ratios, and asserts nothing. `--json FILE` keeps the figures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import onnx_speed
import torch
from torch import nn

from robustcheck.sensing.analog import NoisyNetwork
from robustcheck.sensing.channel import Channel, sensor
from robustcheck.sensing.converter import Converter
from robustcheck.sensing.kernels import cpu
from robustcheck.sensing.random import stream_key

ELEMENTS = 3_145_728
STEPS, SIGMA = 15, 0.05


def paired(contestants: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each call, the contestants taking turns so that a slow moment of the machine hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for call in contestants.values():
        call()
    for _ in range(repeats):
        for name, call in contestants.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return times


def converter_contestants() -> dict[str, Callable[[], object]]:
    """Noise → clamp → quantise on 3.1 M float32, three ways."""
    from analogvnn.nn.noise.GaussianNoise import GaussianNoise
    from analogvnn.nn.normalize.Clamp import Clamp
    from analogvnn.nn.precision.ReducePrecision import ReducePrecision

    x = torch.linspace(-1, 1, ELEMENTS).reshape(64, -1)
    ids, key = torch.arange(64), stream_key(0, "bench")
    convert = Converter("aod", STEPS, SIGMA, signed=True)
    noise, reduce = GaussianNoise(std=SIGMA, precision=STEPS), ReducePrecision(precision=STEPS)

    def analogvnn() -> torch.Tensor:
        return reduce(Clamp.forward(noise(x)))

    def plain() -> torch.Tensor:
        return torch.round((x + SIGMA * torch.randn_like(x)).clamp(-1, 1) * STEPS) / STEPS

    return {"robustcheck": lambda: convert(x, key, ids, 0), "AnalogVNN": analogvnn, "plain torch": plain}


def step_contestants() -> dict[str, Callable[[], object]]:
    """A training step of a small convolutional network on digits, with noise at every layer and without."""
    from robustcheck import load_data, load_model

    model, data = load_model("digits-convnet"), load_data("digits")
    noisy = NoisyNetwork(model.network, model.input.normalise, "network").train()
    channel = Channel(sensor("adc-4bit", placement="network", range="unit"), 0.5, 0, "train")
    images, ids, labels = data.train.physical()[:64], data.train.sample_ids[:64], data.train.labels[:64]
    optimizer = torch.optim.SGD(model.network.parameters(), lr=1e-4)

    def step(at: Channel | None) -> None:
        loss = nn.functional.cross_entropy(noisy(images, ids, 0, at), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return {"noisy step": lambda: step(channel), "noise-free step": lambda: step(None)}


def start_up(arguments: list[str], repeats: int = 5) -> list[float]:
    """Seconds of a fresh process."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        found.append(time.perf_counter() - start)
    return found


def main() -> None:
    """Run everything and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # AnalogVNN's own
    figures: dict[str, float] = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        cpu.set_threads(threads)
        times = paired(converter_contestants(), options.repeats)
        ours = times["robustcheck"]
        for name, seconds in times.items():
            figures[f"AOD, {threads} thread(s), {name} [M/s]"] = ELEMENTS / statistics.median(seconds) / 1e6
            if name != "robustcheck":
                ratios = [theirs / mine for theirs, mine in zip(seconds, ours, strict=True)]
                figures[f"AOD, {threads} thread(s), {name} / robustcheck [x]"] = statistics.median(ratios)
    torch.set_num_threads(1)
    cpu.set_threads(1)
    times = paired(step_contestants(), options.repeats * 10)
    noisy, clean = times["noisy step"], times["noise-free step"]
    figures["digits step, network noise [ms]"] = statistics.median(noisy) * 1e3
    figures["digits step, no noise [ms]"] = statistics.median(clean) * 1e3
    figures["digits step, noise / none [x]"] = statistics.median([a / b for a, b in zip(noisy, clean, strict=True)])
    figures |= onnx_speed.figures(paired, options.repeats)
    figures["robustcheck --help [s]"] = statistics.median(start_up(["-m", "robustcheck", "--help"]))
    figures["import robustcheck [s]"] = statistics.median(start_up(["-c", "import robustcheck"]))
    for name, value in figures.items():
        print(f"{name:55s} {value:10.3g}")
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
