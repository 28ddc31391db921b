"""Noise inside the network: DOA → layer → AOD for every linear and convolution, and noise on its weights.

As in arXiv 2402.02593 and AnalogVNN: each use of a weight or bias passes clamp → reduce → noise, fresh each time, and
its gradient goes unchanged to the stored full-precision parameter. The first DOA stands on the physical image, before
the network's normalisation. Batch-norm parameters are not noised. Layers with weights that this does not cover
(attention's packed projections, recurrent layers) are an error.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import nn

from robustcheck.errors import InvalidValueError, PlacementError
from robustcheck.sensing.channel import Channel
from robustcheck.sensing.converter import BoundConverter, Form
from robustcheck.sensing.fused_linear import fuses, linear, plain
from robustcheck.sensing.random import draw_number

COVERED: Final = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
_NOT_NOISED: Final = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.PReLU,
)
_PERCENTILE: Final = 0.999
_MAX_MEASURED: Final = 2**20
_KEPT_PLANS: Final = 8

Normalise = Callable[[torch.Tensor], torch.Tensor]
Scales = Mapping[str, float]
Weights = Mapping[str, Mapping[str, torch.Tensor]]


@dataclass(frozen=True)
class _Ports:
    """The converters of one layer's call with their random streams: what goes in, what comes out, and each weight."""

    input: BoundConverter
    output: BoundConverter
    weights: tuple[tuple[str, BoundConverter], ...]


@dataclass
class _Pass:
    """What the layers need to know during one forward pass."""

    channel: Channel | None = None
    sample_ids: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    draw: int = 0
    scales: Scales = field(default_factory=dict)
    image_at: int = 0
    calls: dict[str, int] = field(default_factory=dict)
    measured: dict[str, float] | None = None
    ports: Mapping[str, _Ports] = field(default_factory=dict)
    weights: Weights = field(default_factory=dict)


class _Context:
    """Holds the pass that is under way; shared by the layers of one network."""

    def __init__(self) -> None:
        self.now = _Pass()


class _AnalogLayer(nn.Module):
    """One covered layer with its converters."""

    def __init__(self, layer: nn.Module, site: str, context: _Context) -> None:
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
        now, layer = self.context.now, self._modules["layer"]
        assert layer is not None
        # Whatever reads the image has no DOA of its own: the image has passed one, before it was normalised.
        reads_image = not now.calls or _storage(x) == now.image_at
        call = now.calls.get(self.site, 0)
        now.calls[self.site] = call + 1
        if now.measured is not None:
            return self._measure(x, now.measured)
        if now.channel is None:
            return layer(x)  # type: ignore[no-any-return]
        if call == 0:
            ports, weights = now.ports[self.site], now.weights[self.site]
        else:
            ports = self.ports(now.channel, now.scales, call)
            weights = _noisy_weights([(self, ports)], now.draw)[self.site]
        own = layer._parameters
        own_kind = plain(layer)
        if own_kind and torch.is_grad_enabled() and fuses(layer, x):
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
        # What torch's own layers return is new, and they do not keep it; others may.
        return ports.output(y, now.sample_ids, now.draw, in_place=own_kind)

    def ports(self, channel: Channel, scales: Scales, call: int = 0) -> _Ports:
        """The converters of one call of this layer; a layer that is called again has streams of its own each time."""
        site = self.site if call == 0 else f"{self.site}#{call}"

        def bound(form: Form, port: str) -> BoundConverter:
            scale = scales.get(f"{self.site}:{port}", 1.0)
            return BoundConverter(channel.converter(form, signed=True, scale=scale), channel.key(site, port))

        names = [name for name, _ in self.layer.named_parameters(recurse=False)]
        weights = tuple((name, bound("doa", name)) for name in names)
        return _Ports(bound("doa", "input"), bound("aod", "output"), weights)

    def _measure(self, x: torch.Tensor, measured: dict[str, float]) -> torch.Tensor:
        y: torch.Tensor = self.layer(x)
        for port, value in (("input", x), ("output", y)):
            name = f"{self.site}:{port}"
            measured[name] = max(measured.get(name, 0.0), _percentile(value))
        for port, value in self.layer.named_parameters(recurse=False):
            measured[f"{self.site}:{port}"] = float(value.detach().abs().max())
        return y


def _noisy_weights(layers: Iterable[tuple[_AnalogLayer, _Ports]], draw: int) -> Weights:
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


def _storage(x: torch.Tensor) -> int:
    return x.untyped_storage().data_ptr()


def _percentile(values: torch.Tensor) -> float:
    """The 99.9th percentile of the magnitudes, over at most 2^20 evenly spaced values; the largest where it is zero."""
    flat = values.detach().abs().flatten()
    sampled = flat[:: -(-flat.numel() // _MAX_MEASURED)]
    rank = max(1, min(sampled.numel(), round(_PERCENTILE * sampled.numel())))
    return float(sampled.kthvalue(rank).values) or float(flat.max())


def _range(name: str, measured: Mapping[str, float]) -> float:
    """A measured range; a bias that is all zero takes the widest range of its layer's parameters."""
    site, _, port = name.rpartition(":")
    value = measured[name]
    if value == 0 and port not in ("input", "output"):
        ports = (other for other in measured if other.rpartition(":")[0] == site)
        value = max(measured[other] for other in ports if not other.endswith((":input", ":output")))
    return value if 0 < value < float("inf") else 1.0


def uncovered_layers(network: nn.Module) -> list[str]:
    """Layers with weights that placement `network` cannot noise, as `path (type)`."""
    found = []
    for path, module in network.named_modules():
        own = [name for name, _ in module.named_parameters(recurse=False)]
        ours = type(module).__module__.startswith("robustcheck.activations")
        if own and not isinstance(module, COVERED + _NOT_NOISED) and not ours:
            found.append(f"{path or '(the network itself)'} ({type(module).__name__}: {', '.join(own)})")
    return found


class NoisyNetwork(nn.Module):
    """A network behind a channel; it shares its parameters and buffers with the network it was made from.

    One pass at a time: it is not for several threads at once, nor for checkpointing that runs a layer again later.

    Args:
        network: takes normalised images.
        normalise: maps physical images in [0, 1] to what the network takes.
        placement: `sensor` or `network`.

    Raises:
        PlacementError: placement `network`, and the network has layers that are not covered, or nothing to cover.

    >>> from robustcheck.sensing.channel import channel
    >>> layer = nn.Linear(4, 2)
    >>> noisy = NoisyNetwork(layer, lambda images: images.flatten(1), "network")
    >>> noise = channel("adc-8bit", ep=0.5, placement="network", range="unit")
    >>> noisy(torch.rand(3, 1, 2, 2), torch.arange(3), 0, noise).shape
    torch.Size([3, 2])
    """

    def __init__(self, network: nn.Module, normalise: Normalise, placement: str) -> None:
        super().__init__()
        self.normalise = normalise
        self.placement = placement
        self._context = _Context()
        self.network = _analog_view(network, self._context) if placement == "network" else network
        self._layers = [module for module in self.network.modules() if isinstance(module, _AnalogLayer)]
        self._planned: list[tuple[Channel, Scales, dict[str, _Ports]]] = []
        self._drawn: tuple[Channel, int, Scales, Weights] | None = None

    def forward(
        self,
        images: torch.Tensor,
        sample_ids: torch.Tensor,
        draw: int | torch.Tensor,
        channel: Channel | None,
        scales: Scales | None = None,
    ) -> torch.Tensor:
        """Logits of a batch as the sensor delivers it.

        Args:
            images: (n, c, h, w) float32, physical values in [0, 1].
            sample_ids: (n,) int64.
            draw: number of the draw or training step; for placement `sensor` also (n,) int64, one a row.
            channel: None for the clean network.
            scales: ranges of the sites from `calibrate`; [−1, 1] everywhere where absent.

        Returns:
            (n, classes) logits.
        """
        if channel is not None:
            images = channel(images, sample_ids, draw)
        image = self.normalise(images)
        if self._layers:
            self._context.now = self._pass(channel, sample_ids, draw, scales, image)
        try:
            return self.network(image)  # type: ignore[no-any-return]
        finally:
            self._context.now = _Pass()

    def _pass(
        self,
        channel: Channel | None,
        sample_ids: torch.Tensor,
        draw: int | torch.Tensor,
        scales: Scales | None,
        image: torch.Tensor,
    ) -> _Pass:
        draw = draw_number(draw)
        if isinstance(draw, torch.Tensor):
            raise InvalidValueError("draw", expected="one number with placement network", got="one a row")
        now = _Pass(channel, sample_ids, draw, scales or {}, _storage(image))
        if channel is not None:
            now.ports = self._ports(channel, now.scales)
            if self._drawn is not None and self._drawn[:3] == (channel, draw, now.scales):
                now.weights = self._drawn[3]
            else:
                now.weights = self._weights(now.ports, draw)
        return now

    @contextmanager
    def weights_drawn(self, channel: Channel | None, scales: Scales | None, draw: int) -> Iterator[None]:
        """Within, passes at this channel, draw and scales share one conversion of the weights as they are now.

        >>> layer = nn.Linear(4, 2)
        >>> noisy = NoisyNetwork(layer, lambda images: images.flatten(1), "network")
        >>> from robustcheck.sensing.channel import channel
        >>> noise = channel("adc-8bit", ep=0.5, placement="network", range="unit")
        >>> images, ids = torch.rand(3, 1, 2, 2), torch.arange(3)
        >>> with torch.no_grad(), noisy.weights_drawn(noise, None, 7):
        ...     once = noisy(images, ids, 7, noise)
        >>> bool((once == noisy(images, ids, 7, noise)).all())
        True
        """
        if channel is None or not self._layers:
            yield
            return
        ranges = dict(scales or {})
        with torch.no_grad():
            weights = self._weights(self._ports(channel, ranges), draw)
        before, self._drawn = self._drawn, (channel, draw, ranges, weights)
        try:
            yield
        finally:
            self._drawn = before

    def _ports(self, channel: Channel, scales: Scales) -> Mapping[str, _Ports]:
        """The converters of every layer, by site; those of the last few channels are kept from pass to pass."""
        for at, ranges, ports in self._planned:
            if at is channel and ranges == scales:
                return ports
        ports = {layer.site: layer.ports(channel, scales) for layer in self._layers}
        self._planned = [(channel, dict(scales), ports), *self._planned[: _KEPT_PLANS - 1]]
        return ports

    def _weights(self, ports: Mapping[str, _Ports], draw: int) -> Weights:
        return _noisy_weights([(layer, ports[layer.site]) for layer in self._layers], draw)

    def calibrate(self, batches: list[torch.Tensor]) -> Scales:
        """The range of every site: the largest over the batches of the 99.9th percentile of its magnitudes.

        Weights take their largest magnitude. Runs the clean network in evaluation mode. Empty for placement `sensor`.
        """
        if self.placement != "network":
            return {}
        measured: dict[str, float] = {}
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                for images in batches:
                    self._context.now = _Pass(measured=measured)
                    self.network(self.normalise(images))
        finally:
            self._context.now = _Pass()
            self.train(training)
        return {name: _range(name, measured) for name in measured}


def _analog_view(network: nn.Module, context: _Context) -> nn.Module:
    missing = uncovered_layers(network)
    if missing:
        raise PlacementError(
            "placement network: expected weights in linear, convolution and normalisation layers only, got "
            + "; ".join(missing)
            + "; use --placement sensor for this network"
        )
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    view = copy.deepcopy(network, memo=dict(shared))
    if isinstance(view, COVERED):
        return _AnalogLayer(view, "network", context)
    wrappers: dict[nn.Module, _AnalogLayer] = {}
    for path, module in list(view.named_modules(remove_duplicate=False)):
        if not isinstance(module, COVERED):
            continue
        wrapper = wrappers.setdefault(module, _AnalogLayer(module, path, context))
        parent, _, name = path.rpartition(".")
        setattr(view.get_submodule(parent), name, wrapper)
    if not wrappers:
        raise PlacementError("placement network: expected at least one linear or convolution layer, got none")
    return view
