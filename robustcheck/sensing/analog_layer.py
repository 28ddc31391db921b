"""One layer with noise around it: DOA → layer → AOD, or the DOA alone, and converters for its weights and bias."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import nn

from robustcheck.errors import PlacementError
from robustcheck.sensing.channel import Channel
from robustcheck.sensing.converter import BoundConverter, Form
from robustcheck.sensing.fused_linear import fuses, linear, plain

_PERCENTILE: Final = 0.999
_MAX_MEASURED: Final = 2**20

Scales = Mapping[str, float]
Weights = Mapping[str, Mapping[str, torch.Tensor]]


@dataclass(frozen=True)
class Ports:
    """The converters of one layer's call with their random streams: what goes in, what comes out, and each weight.

    `output` is None where nothing converts what comes out (form `doa`).
    """

    input: BoundConverter
    output: BoundConverter | None
    weights: tuple[tuple[str, BoundConverter], ...]


@dataclass
class Pass:
    """What the layers need to know during one forward pass."""

    channel: Channel | None = None
    sample_ids: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    draw: int = 0
    scales: Scales = field(default_factory=dict)
    image_at: int = 0
    calls: dict[str, int] = field(default_factory=dict)
    measured: dict[str, float] | None = None
    ports: Mapping[str, Ports] = field(default_factory=dict)
    weights: Weights = field(default_factory=dict)
    only: str | None = None


class Context:
    """Holds the pass that is under way; shared by the layers of one network."""

    def __init__(self) -> None:
        self.now = Pass()


class AnalogLayer(nn.Module):
    """One covered layer with its converters."""

    def __init__(self, layer: nn.Module, site: str, context: Context) -> None:
        super().__init__()
        self.layer = layer
        self.site = site
        self.context = context

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name not in dict(self._modules["layer"].named_parameters(recurse=False)):  # type: ignore[union-attr]
                raise
        raise PlacementError(
            f"placement network: the network reads {self.site}.{name} outside that layer's own forward, where no noise "
            "would reach it; use --placement sensor for this network"
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's output under the pass that is under way; the layer itself where that has no noise here."""
        now, layer = self.context.now, self._modules["layer"]
        assert layer is not None
        # Whatever reads the image has no DOA of its own: the image has passed one, before it was normalised.
        reads_image = not now.calls or storage_of(x) == now.image_at
        call = now.calls.get(self.site, 0)
        now.calls[self.site] = call + 1
        if now.measured is not None:
            return self._measure(x, now.measured)
        if now.channel is None or now.only not in (None, self.site):
            return layer(x)  # type: ignore[no-any-return]
        if call == 0:
            ports, weights = now.ports[self.site], now.weights[self.site]
        else:
            ports = self.ports(now.channel, now.scales, call)
            weights = noisy_weights([(self, ports)], now.draw)[self.site]
        own = layer._parameters
        own_kind = plain(layer)
        if own_kind and ports.output is not None and torch.is_grad_enabled() and fuses(layer, x):
            before = None if reads_image else ports.input
            return linear(x, own, weights, before, ports.output, now.sample_ids, now.draw)
        if not reads_image:
            x = ports.input(x, now.sample_ids, now.draw)
        stored = own.copy()
        try:
            own.update(_followed(stored, weights))
            y = layer(x)
        finally:
            own.update(stored)
        if ports.output is None:
            return y  # type: ignore[no-any-return]
        # What torch's own layers return is new, and they do not keep it; others may.
        return ports.output(y, now.sample_ids, now.draw, in_place=own_kind)

    def ports(self, channel: Channel, scales: Scales, call: int = 0) -> Ports:
        """The converters of one call of this layer; a layer that is called again has streams of its own each time."""
        site = self.site if call == 0 else f"{self.site}#{call}"

        def bound(form: Form, port: str) -> BoundConverter:
            scale = scales.get(f"{self.site}:{port}", 1.0)
            return BoundConverter(channel.converter(form, signed=True, scale=scale), channel.key(site, port))

        names = [name for name, _ in self.layer.named_parameters(recurse=False)]
        weights = tuple((name, bound("doa", name)) for name in names)
        output = bound("aod", "output") if channel.sensor.form == "aod" else None
        return Ports(bound("doa", "input"), output, weights)

    def _measure(self, x: torch.Tensor, measured: dict[str, float]) -> torch.Tensor:
        y: torch.Tensor = self.layer(x)
        for port, value in (("input", x), ("output", y)):
            name = f"{self.site}:{port}"
            measured[name] = max(measured.get(name, 0.0), _percentile(value))
        for port, value in self.layer.named_parameters(recurse=False):
            measured[f"{self.site}:{port}"] = float(value.detach().abs().max())
        return y


def noisy_weights(layers: Iterable[tuple[AnalogLayer, Ports]], draw: int) -> Weights:
    """Every weight and bias of the layers behind its converter, by site and name; no gradient follows them yet."""
    converted: dict[str, dict[str, torch.Tensor]] = {}
    one: torch.Tensor | None = None  # the sample id of all weights
    for layer, ports in layers:
        own, tensors = layer.layer._parameters, converted.setdefault(layer.site, {})
        for name, convert in ports.weights:
            value = own[name]
            if value is None:
                continue
            if one is None or one.device != value.device:
                one = torch.zeros(1, dtype=torch.int64, device=value.device)
            tensors[name], _ = convert.run(value.contiguous(), one, draw)
    return converted


def _followed(stored: Mapping[str, torch.Tensor | None], noisy: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The noisy tensors, with gradients that go on to the stored parameters unchanged."""
    trained = {
        name: value for name, value in stored.items() if value is not None and value.requires_grad and name in noisy
    }
    if not (trained and torch.is_grad_enabled()):
        return dict(noisy)
    outputs = _Unchanged.apply([noisy[name] for name in trained], *trained.values())
    return {**noisy, **dict(zip(trained, outputs, strict=True))}


class _Unchanged(torch.autograd.Function):
    """Noisy weights in place of the stored ones: one node for all weights of a layer."""

    @staticmethod
    def forward(ctx: Any, noisy: list[torch.Tensor], *stored: torch.Tensor) -> Any:  # noqa: ARG004
        ctx.set_materialize_grads(False)
        return tuple(tensor.view_as(tensor) for tensor in noisy)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:  # noqa: ARG004
        return None, *gradients


def storage_of(x: torch.Tensor) -> int:
    """Address of the memory behind a tensor: views of one image share it."""
    return x.untyped_storage().data_ptr()


def _percentile(values: torch.Tensor) -> float:
    """The 99.9th percentile of the magnitudes, over at most 2^20 evenly spaced values; the largest where it is zero."""
    flat = values.detach().abs().flatten()
    sampled = flat[:: -(-flat.numel() // _MAX_MEASURED)]
    rank = max(1, min(sampled.numel(), round(_PERCENTILE * sampled.numel())))
    return float(sampled.kthvalue(rank).values) or float(flat.max())
