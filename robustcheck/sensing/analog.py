"""Noise inside the network: DOA → layer → AOD for every linear and convolution, and noise on its weights.

As in arXiv 2402.02593 and AnalogVNN: each use of a weight or bias passes clamp → reduce → noise, fresh each time, and
its gradient goes unchanged to the stored full-precision parameter. The first DOA stands on the physical image, before
the network's normalisation. Batch-norm parameters are not noised. Layers with weights that this does not cover
(attention's packed projections, recurrent layers) are an error. With a sensor of form `doa`, as in the VGG and ResNet
of that paper's code, no AOD follows a layer: outputs, the logits too, are neither noised again nor bounded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import torch
from torch import nn

from robustcheck.errors import InvalidValueError, PlacementError
from robustcheck.sensing.analog_layer import (
    AnalogLayer,
    Context,
    Pass,
    Ports,
    Scales,
    Weights,
    noisy_weights,
    storage_of,
)
from robustcheck.sensing.channel import Channel
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
IMAGE: Final = "image"
"""The site before the network's normalisation."""

_KEPT_PLANS: Final = 8

Normalise = Callable[[torch.Tensor], torch.Tensor]


def _range(name: str, measured: Mapping[str, float]) -> float:
    """A measured range; a bias that is all zero takes the widest range of its layer's parameters."""
    site, _, port = name.rpartition(":")
    value = measured[name]
    if value == 0 and port not in ("input", "output"):
        ports = (other for other in measured if other.rpartition(":")[0] == site)
        value = max(measured[other] for other in ports if not other.endswith((":input", ":output")))
    return value if 0 < value < float("inf") else 1.0


def uncovered_layers(network: nn.Module) -> list[str]:
    """Layers with weights that placement `network` cannot noise, as `path (type)`.

    A module whose attribute `digital` is True says of itself that its parameters stay digital.
    """
    found = []
    for path, module in network.named_modules():
        own = [name for name, _ in module.named_parameters(recurse=False)]
        ours = type(module).__module__.startswith("robustcheck.activations")
        digital = getattr(module, "digital", False) is True
        if own and not (isinstance(module, COVERED + _NOT_NOISED) or ours or digital):
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
        self._context = Context()
        self.network = _analog_view(network, self._context) if placement == "network" else network
        self._layers = [module for module in self.network.modules() if isinstance(module, AnalogLayer)]
        self._planned: list[tuple[Channel, Scales, dict[str, Ports]]] = []
        self._drawn: tuple[Channel, int, Scales, Weights] | None = None
        self._only: str | None = None

    @property
    def sites(self) -> tuple[str, ...]:
        """Where noise enters: the image, and with placement `network` each covered layer by its path."""
        return (IMAGE, *(layer.site for layer in self._layers))

    @contextmanager
    def noise_only(self, site: str) -> Iterator[None]:
        """Within, the channel acts at one of the `sites` alone: all others are as without a channel.

        Raises:
            InvalidValueError: the network has no such site.

        >>> layer = nn.Linear(4, 2)
        >>> noisy = NoisyNetwork(layer, lambda images: images.flatten(1), "network")
        >>> with noisy.noise_only("image"):
        ...     noisy.sites
        ('image', 'network')
        """
        if site not in self.sites:
            raise InvalidValueError("site", expected=f"one of {', '.join(self.sites)}", got=site)
        before, self._only = self._only, site
        try:
            yield
        finally:
            self._only = before

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
        if channel is not None and self._only in (None, IMAGE):
            images = channel(images, sample_ids, draw)
        image = self.normalise(images)
        if self._layers:
            self._context.now = self._pass(channel, sample_ids, draw, scales, image)
        try:
            return self.network(image)  # type: ignore[no-any-return]
        finally:
            self._context.now = Pass()

    def _pass(
        self,
        channel: Channel | None,
        sample_ids: torch.Tensor,
        draw: int | torch.Tensor,
        scales: Scales | None,
        image: torch.Tensor,
    ) -> Pass:
        draw = draw_number(draw)
        if isinstance(draw, torch.Tensor):
            raise InvalidValueError("draw", expected="one number with placement network", got="one a row")
        now = Pass(channel, sample_ids, draw, scales or {}, storage_of(image), only=self._only)
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

    def _ports(self, channel: Channel, scales: Scales) -> Mapping[str, Ports]:
        """The converters of every layer, by site; those of the last few channels are kept from pass to pass."""
        for at, ranges, ports in self._planned:
            if at is channel and ranges == scales:
                return ports
        ports = {layer.site: layer.ports(channel, scales) for layer in self._layers}
        self._planned = [(channel, dict(scales), ports), *self._planned[: _KEPT_PLANS - 1]]
        return ports

    def _weights(self, ports: Mapping[str, Ports], draw: int) -> Weights:
        return noisy_weights([(layer, ports[layer.site]) for layer in self._layers], draw)

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
                    self._context.now = Pass(measured=measured)
                    self.network(self.normalise(images))
        finally:
            self._context.now = Pass()
            self.train(training)
        return {name: _range(name, measured) for name in measured}


def _analog_view(network: nn.Module, context: Context) -> nn.Module:
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
        return AnalogLayer(view, "network", context)
    wrappers: dict[nn.Module, AnalogLayer] = {}
    for path, module in list(view.named_modules(remove_duplicate=False)):
        if not isinstance(module, COVERED):
            continue
        wrapper = wrappers.setdefault(module, AnalogLayer(module, path, context))
        parent, _, name = path.rpartition(".")
        setattr(view.get_submodule(parent), name, wrapper)
    if not wrappers:
        raise PlacementError("placement network: expected at least one linear or convolution layer, got none")
    return view
