"""Evaluates a network behind a channel: the predicted class and its probability, for each sample and draw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from robustcheck.data.datasets import Dataset, Split
from robustcheck.networks.loading import Model
from robustcheck.sensing.analog import NoisyNetwork
from robustcheck.sensing.analog_layer import Scales
from robustcheck.sensing.channel import Channel
from robustcheck.sensing.random import permutation, stream_key
from robustcheck.study.precision import check_precision, draw_error, draws_for

CHUNK = 128
"""Samples a forward pass. Fixed, since on a CPU the last bit of a layer depends on the batch size.

It depends on the row as well (measured: MKL's linear and convolution layers of odd widths), so that a sample stands in
the same row in every draw, and rows left empty by the last chunk are padded, not given to another draw.
"""

NOISED_AT_ONCE = 2**20
"""Elements for which draws of one chunk share a call of the converter: what is kept then fits a cache."""

CALIBRATION_SAMPLES = 512


@dataclass(frozen=True)
class Evaluation:
    """What came out for each draw and sample.

    Attributes:
        predicted: (draws, samples) int32, class index.
        probability: (draws, samples) float32 in [0, 1], of the predicted class.
        labels: (samples,) int64.
        draw_error: half the 95 % interval of `accuracy` over noise draws, for this network and these samples; None
            unless a precision was asked for, and without noise.
    """

    predicted: NDArray[np.int32]
    probability: NDArray[np.float32]
    labels: NDArray[np.int64]
    draw_error: float | None = None

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
    precision: float | None = None,
    scales: Scales | None = None,
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Run every sample through the channel and the network, `draws` times (once where the channel is off).

    With a precision, from 1e-4 to 0.5, the first `draws` (at least 5) decide how many are taken: see `study.precision`.
    Draw k is the same whatever the number of draws is. Chunks have 128 rows always; the last is padded, so that no
    option changes a number.
    """
    if channel is None or not channel.noisy:
        draws, precision = 1, None
    if precision is not None:
        check_precision(precision, draws)
    training = noisy.training
    noisy.eval()
    try:
        with torch.no_grad():
            predicted, probability = _predict(noisy, split, channel, range(draws), scales, device)
            labels = split.labels.numpy()
            if precision is None:
                return Evaluation(predicted, probability, labels)
            first = (predicted == labels).mean(axis=1)
            wanted = draws_for(first, precision, len(labels))
            if wanted > draws:
                more = _predict(noisy, split, channel, range(draws, wanted), scales, device)
                predicted = np.concatenate([predicted, more[0]])
                probability = np.concatenate([probability, more[1]])
            return Evaluation(predicted, probability, labels, draw_error(first, wanted, len(labels)))
    finally:
        noisy.train(training)


def _predict(
    noisy: NoisyNetwork,
    split: Split,
    channel: Channel | None,
    draws: range,
    scales: Scales | None,
    device: torch.device | str,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The predicted class and its probability, (draws, samples) each."""
    samples = len(split.labels)
    predicted = np.empty((len(draws), samples), dtype=np.int32)
    probability = np.empty((len(draws), samples), dtype=np.float32)
    for start, draw, logits in _passes(noisy, split, channel, draws, scales, device):
        rows = min(CHUNK, samples - start)
        best = torch.softmax(logits[:rows].float(), dim=1).max(dim=1)
        place = draw - draws.start, slice(start, start + rows)
        predicted[place] = best.indices.cpu().numpy()
        probability[place] = torch.nan_to_num(best.values).cpu().numpy()
    return predicted, probability


def _passes(
    noisy: NoisyNetwork,
    split: Split,
    channel: Channel | None,
    draws: range,
    scales: Scales | None,
    device: torch.device | str,
) -> Iterator[tuple[int, int, torch.Tensor]]:
    """First sample, draw and logits, (128, classes), of each chunk in each draw."""
    if channel is not None and noisy.placement == "network":
        # One realisation of the weights serves all samples of a draw.
        for draw in draws:
            with noisy.weights_drawn(channel, scales, draw):
                for start, images, ids in _chunks(split, device):
                    yield start, draw, noisy(images, ids, draw, channel, scales)
        return
    for start, images, ids in _chunks(split, device):
        at_once = max(1, NOISED_AT_ONCE // images.numel())
        for first in range(draws.start, draws.stop, at_once):
            batch = range(first, min(first + at_once, draws.stop))
            for draw, delivered in zip(batch, _delivered(channel, images, ids, batch), strict=True):
                yield start, draw, noisy(delivered, ids, draw, None, scales)


def _chunks(split: Split, device: torch.device | str) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """First sample, images and ids of each chunk; the last one repeats its last sample."""
    samples = len(split.labels)
    for start in range(0, samples, CHUNK):
        rows = torch.arange(start, start + CHUNK).clamp(max=samples - 1)
        yield start, split.physical(rows).to(device), split.sample_ids[rows].to(device)


def _delivered(
    channel: Channel | None, images: torch.Tensor, ids: torch.Tensor, draws: range
) -> Sequence[torch.Tensor]:
    """The images as the sensor delivers them in each of the draws."""
    if channel is None or len(draws) == 1:
        return [images if channel is None else channel(images, ids, each) for each in draws]
    # Joined, not repeated: that keeps the strides, by which a convolution picks its algorithm, and so its last bits.
    often = torch.cat([images] * len(draws))
    draw = torch.arange(draws.start, draws.stop, device=ids.device).repeat_interleave(len(ids))
    return channel(often, ids.repeat(len(draws)), draw).chunk(len(draws))


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
    model: Model,
    data: Dataset,
    channel: Channel | None = None,
    *,
    draws: int = 5,
    precision: float | None = None,
    device: str = "cpu",
) -> Evaluation:
    """Accuracy of a model on the test split, as the sensor delivers it.

    Args:
        model: from `load_model`.
        data: from `load_data`.
        channel: from `channel`; None evaluates the clean images.
        draws: independent noise draws a sample; with a precision the first ones, at least 5.
        precision: draw until the draw error is at most this, from 1e-4 to 0.5: half the 95 % interval of the accuracy
            over noise draws, for this network and these samples. What the number of test samples leaves open stays.
        device: where to run.

    Returns:
        Predictions by draw and sample; `.accuracy` is their mean, `.draw_error` what was reached of the precision.

    Raises:
        InvalidValueError: a precision out of its range, or fewer than 5 draws with one.

    >>> from robustcheck import channel, load_data, load_model
    >>> model, data = load_model("digits-convnet"), load_data("digits")
    >>> evaluate(model, data).accuracy > 0.9
    True
    >>> found = evaluate(model, data, channel("adc-2bit", ep=0.5), precision=0.005)
    >>> len(found.predicted) > 5, found.draw_error <= 0.005
    (True, True)
    """
    placement = "sensor" if channel is None else channel.sensor.placement
    network = evaluated_network(model, placement, device)
    noisy = NoisyNetwork(network, model.input.normalise, placement)
    noisy.train(network.training)  # what the network is left in again
    return evaluate_network(
        noisy,
        data.test,
        channel,
        draws=draws,
        precision=precision,
        scales=ranges(noisy, data, channel, device),
        device=device,
    )
