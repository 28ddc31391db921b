"""Training with noise everywhere: a step of the paper's network and an epoch on digits, their time and their memory."""

from __future__ import annotations

import copy
import itertools
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from contestants import EP, STEPS, analogvnn_network, paper_network, plain_network
from kernel_speed import ANALOGVNN, OURS, PLAIN
from measuring import Spread, Times, paired, peak_bytes, ratio, timed_by, use_threads
from table import Row, at_least, at_most, milliseconds
from torch import nn

from robustcheck.data.datasets import load_data
from robustcheck.networks.architectures import build
from robustcheck.networks.inputs import InputSpec
from robustcheck.networks.loading import Model
from robustcheck.sensing.analog import NoisyNetwork
from robustcheck.sensing.channel import Channel
from robustcheck.sensing.operating_point import OperatingPoint
from robustcheck.sensing.random import torch_seed
from robustcheck.sensing.sensor import sensor
from robustcheck.study import training

CLEAN = "no noise"
RATE = 1e-3


@dataclass(frozen=True)
class Contestant:
    """A training step, and the tensors that are there before it: parameters and the optimiser's."""

    step: Callable[[], None]
    held: Callable[[], list[torch.Tensor]]


def batch(size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random images (n, 3, 32, 32) in [0, 1], labels, and ids; the time of a step does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(size, 3, 32, 32, generator=generator), torch.arange(size) % 10, torch.arange(size)


def _trained(network: nn.Module, forward: Callable[[], torch.Tensor], labels: torch.Tensor) -> Contestant:
    """Forward, loss, backward and Adam."""
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(forward(), labels).backward()
        optimizer.step()

    def held() -> list[torch.Tensor]:
        states = [value for state in optimizer.state.values() for value in state.values()]
        return [*network.parameters(), *states]

    return Contestant(step, held)


def contestants(size: int) -> dict[str, Contestant]:
    """The same network and batch: ours, AnalogVNN's, in-place torch, and without noise."""
    images, labels, ids = batch(size)
    with torch_seed(0):
        network = paper_network()
    ours, clean = network, copy.deepcopy(network).train()
    analogvnn = analogvnn_network(network)
    plain = plain_network(network).train()
    noisy = NoisyNetwork(ours, lambda x: x, "network").train()
    bound = sensor("adc-4bit", steps=STEPS, placement="network", range="unit")
    channel = Channel(bound, OperatingPoint("ep", EP), 0, "train")
    draws = itertools.count()
    analogvnn.train()

    def analogvnn_step() -> None:
        # As its own `train` does it.
        analogvnn.zero_grad()
        analogvnn.optimizer.zero_grad()
        analogvnn.loss(analogvnn(images.clone()), labels)  # it marks its input as requiring a gradient
        analogvnn.backward()
        analogvnn.optimizer.step()

    def analogvnn_held() -> list[torch.Tensor]:
        states = [value for state in analogvnn.optimizer.state.values() for value in state.values()]
        return [*analogvnn.parameters(), *states]

    return {
        OURS: _trained(ours, lambda: noisy(images, ids, next(draws), channel), labels),
        ANALOGVNN: Contestant(analogvnn_step, analogvnn_held),
        PLAIN: _trained(plain, lambda: plain(images), labels),
        CLEAN: _trained(clean, lambda: clean(images), labels),
    }


def peak_of_steps(contestant: Contestant) -> int:
    """Bytes of tensors alive at most in a step, parameters and the optimiser's moments among them, batch excluded.

    Over two steps, so that what the first leaves until the second is counted too.
    """
    contestant.step()
    return peak_bytes(lambda: (contestant.step(), contestant.step()), contestant.held())


def convnet_rows(repeats: int = 7, size: int = 128) -> list[Row]:
    """Each contestant trains on the same batch, all with one thread and all with two."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # AnalogVNN's own
        entered = contestants(size)
        found, what = [], f"ConvNet 6 + 3, batch {size}, a step"
        for threads, label in ((1, "one thread"), (2, "two threads")):
            use_threads(threads)
            steps = {name: each.step for name, each in entered.items()}
            wall, processor = timed_by(steps, repeats, (time.perf_counter, time.process_time))
            found += _step_rows(processor, f"{what}, {label}, processor time")
            if threads > 1:
                found += _step_rows(wall, f"{what}, {label}, wall time")
        use_threads(1)
        peaks = {name: peak_of_steps(each) for name, each in entered.items()}
    for name in (OURS, PLAIN, ANALOGVNN):
        over = peaks[name] / peaks[CLEAN]
        found.append(
            Row(
                f"that step: peak of tensor memory over that without noise, {name}",
                Spread(over, over, over, 1),
                "×",
                *(at_most(1.15, 1.05) if name == OURS else (None, None)),
                f"{peaks[name] / 2**20:.1f} MiB, {CLEAN} {peaks[CLEAN] / 2**20:.1f} MiB",
            )
        )
    return found


def _step_rows(times: Times, what: str) -> list[Row]:
    seen = {name: f"{name} {milliseconds(times[name])}" for name in times}
    behind = f"{seen[OURS]}, {seen[ANALOGVNN]}"
    # Without noise no step is faster than this one, whoever makes the noise: what any floor can ask for.
    most = ratio(times, ANALOGVNN, CLEAN)
    return [
        Row(f"{what}: times faster than AnalogVNN", ratio(times, ANALOGVNN, OURS), "×", *at_least(3, 4), behind),
        Row(f"{what}: the same if noise cost nothing", most, seen=f"{seen[CLEAN]}, {seen[ANALOGVNN]}"),
        Row(
            f"{what}: its time over that without noise",
            ratio(times, OURS, CLEAN),
            "×",
            *at_most(1.35, 1.10),
            f"{seen[OURS]}, {seen[CLEAN]}",
        ),
        Row(
            f"{what}: times faster than plain torch in place",
            ratio(times, PLAIN, OURS),
            seen=f"{seen[OURS]}, {seen[PLAIN]}",
        ),
    ]


def digits_model() -> Model:
    """The 64-128-128-10 network on digits, ReLU, untrained."""
    with torch_seed(0):
        network = build("mlp", {"in_channels": 1, "image_size": 8, "classes": 10, "hidden": [128, 128]})
    return Model(network, InputSpec(shape=(1, 8, 8)), None, "mlp", "")


def epochs(noise: bool) -> dict[str, Callable[[], object]]:
    """One pass over digits' training split by the project's own loop; and `train` itself, which also validates."""
    model, data = digits_model(), load_data("digits")
    at = sensor("adc-4bit", steps=STEPS, placement="network", range="unit") if noise else None
    channel = None if at is None else Channel(at, OperatingPoint("ep", EP), 0, "train")
    policy = training.TrainingPolicy(epochs=1, learning_rates=(RATE,))
    steps = max(1, len(data.train.labels) // policy.batch_size)
    noisy = NoisyNetwork(model.network, model.input.normalise, "network" if noise else "sensor")
    optimizer = torch.optim.Adam(model.network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    numbers = itertools.count()

    def one_pass() -> float:
        return training._train_epoch(noisy, data, (channel,), {}, optimizer, schedule, next(numbers), steps, 0, "cpu")

    def whole() -> object:
        eps = () if at is None else (EP,)
        return training.train(model, data, at, eps, policy=policy, learning_rate=RATE)

    return {"pass": one_pass, "train": whole}


def digits_rows(repeats: int = 31) -> list[Row]:
    """Processor time of one thread."""
    use_threads(1)
    noisy, clean = epochs(True), epochs(False)
    found = []
    for part, what, promised in (
        ("pass", "one epoch of training", at_most(1.6, 1.2)),
        ("train", "`train` for one epoch, with validation", (None, None)),
    ):
        times = paired({OURS: noisy[part], CLEAN: clean[part]}, repeats, time.process_time)
        seen = f"{OURS} {milliseconds(times[OURS])}, {CLEAN} {milliseconds(times[CLEAN])}"
        what = f"64-128-128-10 network on digits, {what}, one thread: its time over that without noise"
        found.append(Row(what, ratio(times, OURS, CLEAN), "×", *promised, seen))
    return found


def rows(repeats: int = 7, size: int = 128) -> list[Row]:
    """All of training."""
    return convnet_rows(repeats, size) + digits_rows(repeats * 5)
