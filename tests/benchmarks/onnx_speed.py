"""ONNX graphs beside the same networks in torch and in ONNX Runtime: forward, backward, audit, loading."""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from robustcheck.networks.loading import load_model
from robustcheck.sensing.analog import NoisyNetwork
from robustcheck.sensing.channel import Channel
from robustcheck.sensing.operating_point import OperatingPoint
from robustcheck.sensing.sensor import sensor

BATCH = 32
Paired = Callable[[dict[str, Callable[[], object]], int], dict[str, list[float]]]


def networks() -> dict[str, nn.Module]:
    """ResNet-18 and a small vision transformer, random weights."""
    import timm
    import torchvision

    torch.manual_seed(0)
    return {
        "ResNet-18": torchvision.models.resnet18().eval(),
        "ViT-tiny": timm.create_model("vit_tiny_patch16_224").eval(),
    }


def exported(network: nn.Module, path: Path) -> Path:
    """The network as an ONNX file of torch's default exporter, with a free batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, 224, 224),),
            str(path),
            dynamo=True,
            external_data=False,
            opset_version=18,
            input_names=["x"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            verbose=False,
        )
    return path


def figures(paired: Paired, repeats: int) -> dict[str, float]:
    """All figures; one thread."""
    found: dict[str, float] = {}
    for name, network in networks().items():
        with tempfile.TemporaryDirectory() as folder:
            path = exported(network, Path(folder) / "net.onnx")
            found[f"{name}, file [MB]"] = path.stat().st_size / 1e6
            seconds = []
            for _ in range(5):
                start = time.perf_counter()
                model = load_model(str(path))
                seconds.append(time.perf_counter() - start)
            found[f"{name}, load and verify [s]"] = statistics.median(seconds)
            found |= _passes(name, network, model.network, paired, repeats)
            found |= _audit(name, model, path, paired, repeats)
    return found


def _passes(name: str, native: nn.Module, graph: nn.Module, paired: Paired, repeats: int) -> dict[str, float]:
    x = torch.rand(8, 3, 224, 224)

    def forward(network: nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return network(x)

    def both(network: nn.Module) -> None:
        network.zero_grad()
        network(x).square().mean().backward()

    found = {}
    for what, run in (("forward", forward), ("forward + backward", both)):
        times = paired({"graph": lambda run=run: run(graph), "torch": lambda run=run: run(native)}, repeats)
        ratios = [ours / theirs for ours, theirs in zip(times["graph"], times["torch"], strict=True)]
        found[f"{name}, {what}, torch [ms]"] = statistics.median(times["torch"]) * 1e3
        found[f"{name}, {what}, graph / torch [x]"] = statistics.median(ratios)
    return found


def _audit(name: str, model: object, path: Path, paired: Paired, repeats: int) -> dict[str, float]:
    """Noise at the input and ONNX Runtime behind it, against ONNX Runtime alone, on batches of 32."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    noisy = NoisyNetwork(model.runtime.make(), model.input.normalise, "sensor")
    channel = Channel(sensor("adc-8bit"), OperatingPoint("ep", 0.5))
    images, ids = torch.rand(BATCH, 3, 224, 224), torch.arange(BATCH)
    raw = images.numpy().astype(np.float32)
    with torch.no_grad():
        times = paired(
            {"audit": lambda: noisy(images, ids, 0, channel), "runtime": lambda: session.run(None, {"x": raw})}, repeats
        )
    ratios = [theirs / ours for ours, theirs in zip(times["audit"], times["runtime"], strict=True)]
    return {
        f"{name}, ONNX Runtime, batch 32 [ms]": statistics.median(times["runtime"]) * 1e3,
        f"{name}, audit / ONNX Runtime, throughput [x]": statistics.median(ratios),
    }
