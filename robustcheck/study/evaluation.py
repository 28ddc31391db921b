"""Evaluates a network behind a channel: the predicted class and its probability, for each sample and draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from robustcheck.data.datasets import Dataset, Split
from robustcheck.networks.loading import Model
from robustcheck.sensing.analog import NoisyNetwork, Scales
from robustcheck.sensing.channel import Channel
from robustcheck.sensing.random import permutation, stream_key

CHUNK = 128
"""Samples a forward pass. Fixed, since on a CPU the last bit of a convolution depends on the batch size."""

CALIBRATION_SAMPLES = 512


@dataclass(frozen=True)
class Evaluation:
    """What came out for each draw and sample.

    Attributes:
        predicted: (draws, samples) int32, class index.
        probability: (draws, samples) float32 in [0, 1], of the predicted class.
        labels: (samples,) int64.
    """

    predicted: NDArray[np.int32]
    probability: NDArray[np.float32]
    labels: NDArray[np.int64]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(draws, samples) bool."""
        return np.asarray(self.predicted == self.labels)

    @property
    def accuracy(self) -> float:
        """Mean over draws and samples, 0 to 1."""
        return float(self.correct.mean())


def evaluate_network(
    noisy: NoisyNetwork,
    split: Split,
    channel: Channel | None,
    *,
    draws: int,
    scales: Scales | None = None,
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Run every sample through the channel and the network, `draws` times (once where the channel is off).

    Chunks have 128 rows always; the last is padded, so that no option changes a number.
    """
    samples = len(split.labels)
    if channel is None or channel.ep is None:
        draws = 1
    predicted = np.empty((draws, samples), dtype=np.int32)
    probability = np.empty((draws, samples), dtype=np.float32)
    training = noisy.training
    noisy.eval()
    try:
        with torch.no_grad():
            for start in range(0, samples, CHUNK):
                rows = torch.arange(start, min(start + CHUNK, samples))
                padded = torch.cat([rows, rows[-1:].expand(CHUNK - len(rows))])
                images, ids = split.physical(padded).to(device), split.sample_ids[padded].to(device)
                for draw in range(draws):
                    logits = noisy(images, ids, draw, channel, scales)[: len(rows)].float()
                    best = torch.softmax(logits, dim=1).max(dim=1)
                    predicted[draw, start : start + len(rows)] = best.indices.cpu().numpy()
                    probability[draw, start : start + len(rows)] = torch.nan_to_num(best.values).cpu().numpy()
    finally:
        noisy.train(training)
    return Evaluation(predicted, probability, split.labels.numpy())


def calibration_batches(dataset: Dataset, device: torch.device | str = "cpu") -> list[torch.Tensor]:
    """512 training images, picked by their ids, in chunks of 128: what placement `network` takes its ranges from."""
    order = permutation(stream_key(0, "calibration"), dataset.train.sample_ids, 0)[:CALIBRATION_SAMPLES]
    return [dataset.train.physical(rows).to(device) for rows in torch.split(order, CHUNK)]


def ranges(
    noisy: NoisyNetwork, dataset: Dataset, channel: Channel | None, device: torch.device | str = "cpu"
) -> Scales:
    """The ranges of a network's sites where the sensor asks for calibrated ones; else empty, which is [−1, 1]."""
    if channel is None or channel.sensor.placement != "network" or channel.sensor.range != "calibrated":
        return {}
    return noisy.calibrate(calibration_batches(dataset, device))


def evaluated_network(model: Model, placement: str, device: str = "cpu") -> nn.Module:
    """What gives a model's logits fastest: ONNX Runtime for a file as it is, where no noise goes into its layers."""
    runtime = model.runtime
    if runtime is not None and runtime.sha256 == model.sha256 and placement == "sensor" and device == "cpu":
        return runtime.make()
    return model.network.to(device)


def evaluate(
    model: Model, data: Dataset, channel: Channel | None = None, *, draws: int = 5, device: str = "cpu"
) -> Evaluation:
    """Accuracy of a model on the test split, as the sensor delivers it.

    Args:
        model: from `load_model`.
        data: from `load_data`.
        channel: from `channel`; None evaluates the clean images.
        draws: independent noise draws a sample.
        device: where to run.

    Returns:
        Predictions by draw and sample; `.accuracy` is their mean.

    >>> from robustcheck import channel, load_data, load_model
    >>> model, data = load_model("digits-convnet"), load_data("digits")
    >>> evaluate(model, data).accuracy > 0.9
    True
    """
    placement = "sensor" if channel is None else channel.sensor.placement
    noisy = NoisyNetwork(evaluated_network(model, placement, device), model.input.normalise, placement)
    return evaluate_network(
        noisy, data.test, channel, draws=draws, scales=ranges(noisy, data, channel, device), device=device
    )
