"""What noise does to derivatives and gradients inside a network on data, and how the error grows backwards.

Clean and noisy passes of the same samples are compared at each activation site: the derivative f′ at the clean and at
the noisy input of the site, and the gradient of the cross-entropy with respect to that input. "Noisy" is all that the
channel does: noise, rounding and clipping.

Everything here is about one network with its weights: samples and draws are the units, trained networks are not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from torch import Tensor, nn

from robustcheck.activations.catalogue import activation
from robustcheck.analysis.gradient_passes import Batch, Call, gradient_pass, site_modules, with_modules
from robustcheck.data.datasets import Dataset
from robustcheck.errors import InvalidValueError
from robustcheck.networks.loading import Model
from robustcheck.networks.surgery import swap_activation
from robustcheck.sensing.analog import NoisyNetwork
from robustcheck.sensing.channel import Channel
from robustcheck.study.evaluation import CHUNK, ranges

LOGITS: Final = "logits"
"""Where gradients begin: the derivative of the loss with respect to the logits."""

OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Estimated:
    """A number with its 95 % interval over samples and draws, for this network only."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True)
class SiteErrors:
    """What noise does at one activation site; None for what the logits have not, and where no clean gradient arrives.

    Attributes:
        path: of the site, with `#1`, `#2` … for further calls of one module; or `LOGITS`.
        elements: of one sample.
        derivative: mean |f′(noisy) − f′(clean)| over elements.
        largest: the largest of them.
        flipped: share of elements whose derivative changes by more than ½.
        own: ‖Δf′ ∘ g‖ / ‖f′ ∘ g‖ with the clean gradient g of the site's output: the relative error that this site's
            derivative alone would give the gradient.
        gradient: ‖g̃ − g‖ / ‖g‖ of the gradient with respect to the site's input, over all samples.
        carried: the same where the noisy pass sends back the clean derivative of the loss: what the layers from the
            logits to here add, without the error that the loss itself makes of noisy logits.
        cosine: of the angle between g̃ and g.
        amplification: `gradient` over that of the site behind, in the order of the backward pass.
    """

    path: str
    elements: int
    derivative: Estimated | None
    largest: float | None
    flipped: Estimated | None
    own: Estimated | None
    gradient: Estimated | None
    carried: Estimated | None
    cosine: Estimated | None
    amplification: Estimated | None


@dataclass(frozen=True)
class GradientGrowth:
    """The sites of one network with one activation, in the order of the backward pass: the logits come first.

    `activation` is the spec put at every site, None for the network as it is.
    """

    activation: str | None
    sites: tuple[SiteErrors, ...]


def gradient_growth(
    model: Model,
    data: Dataset,
    channel: Channel,
    activations: Sequence[str] = (),
    *,
    samples: int = 256,
    draws: int = 5,
    device: str = "cpu",
    progress: OnStep = lambda *_: None,
) -> tuple[GradientGrowth, ...]:
    """Compare clean and noisy gradients in a network as it is, then with each activation in the place of its own.

    Nothing is trained: an activation is put at all sites with the weights as they are.

    Args:
        model: from `load_model`; it is left as it is.
        data: whose first test samples are used.
        channel: the noise, with an operating point; its sensor's placement says where it goes.
        activations: specs of elementwise activations to put at all sites; in the catalogue's gated blocks a gated one
            stands for its inner activation, as in `swap_activation`.
        samples: at most so many test samples.
        draws: noisy passes a sample, at least 2.
        device: where to run.
        progress: called with passes done, and all.

    Raises:
        SurgeryError: the network has no activation sites, or none whose derivative can be looked at, or no gated blocks
            for a gated activation.
        InvalidValueError: a channel without noise, a number out of its range, an activation that is not elementwise.

    >>> from robustcheck import channel, load_data, load_model
    >>> noise = channel("adc-4bit", ep=0.5)
    >>> model, data = load_model("digits-convnet"), load_data("digits")
    >>> own, gelu = gradient_growth(model, data, noise, ["gelu"], samples=32, draws=2)
    >>> [site.path for site in own.sites]
    ['logits', ...]
    >>> own.sites[-1].largest, gelu.sites[-1].largest < 1
    (1.0, True)
    """
    if not channel.noisy:
        raise InvalidValueError("channel", expected="one with noise", got=channel.point, remedy="give it an EP")
    for name, number, least in (("samples", samples, 2), ("draws", draws, 2)):
        if number < least:
            raise InvalidValueError(name, expected=f"at least {least}", got=number)
    wanted = [activation(spec) for spec in activations]
    for each in wanted:
        if not (each.inner or each).elementwise:
            raise InvalidValueError("activation", expected="an elementwise one", got=each.spec)
    swaps = [swap_activation(model.network, each.spec) for each in wanted]
    networks: dict[str | None, nn.Module] = {None: with_modules(model.network)}
    networks |= {swap.activation: swap.network for swap in swaps}
    rows = torch.arange(min(samples, len(data.test.labels)))
    passes = -(-len(rows) // CHUNK) * draws

    def part(number: int) -> Callable[[int], None]:
        return lambda done: progress(number * passes + done, len(networks) * passes)

    return tuple(
        GradientGrowth(spec, _sites_of(network, model, data, channel, rows, draws, device, part(number)))
        for number, (spec, network) in enumerate(networks.items())
    )


Sums = npt.NDArray[np.float64]
"""Sums over the elements of a sample in a draw, (9, draws, samples): see the names of the first axis below."""

_ELEMENTS, _CHANGE, _FLIPPED, _OWN, _CLEAN, _ERROR, _CARRIED, _NOISY, _PRODUCT = range(9)
_HALF: Final = 0.5
_LARGEST_COSINE: Final = 1 - 2.0**-52

Statistic = Callable[[Sums], Any]
"""A function of totals, (9, m) to (m,)."""


def _sites_of(
    network: nn.Module,
    model: Model,
    data: Dataset,
    channel: Channel,
    rows: Tensor,
    draws: int,
    device: str,
    progress: Callable[[int], None],
) -> tuple[SiteErrors, ...]:
    noisy = NoisyNetwork(network.to(device), model.input.normalise, channel.sensor.placement)
    training = network.training
    noisy.eval()
    sums: dict[str, Sums] = {}
    largest: dict[str, float] = {}
    done = 0
    try:
        modules, scales = site_modules(noisy.network), ranges(noisy, data, channel, device)
        for at in torch.split(rows, CHUNK):
            split = data.test
            batch = Batch(*(each.to(device) for each in (split.physical(at), split.sample_ids[at], split.labels[at])))
            clean = gradient_pass(noisy, modules, batch, 0, None, scales)
            for draw in range(draws):
                noised = gradient_pass(noisy, modules, batch, draw, channel, scales, clean[0])
                for path, (values, most) in _compared(clean, noised).items():
                    kept = sums.setdefault(path, np.zeros((len(values), draws, len(rows))))
                    kept[:, draw, at.numpy()] = values
                    largest[path] = max(largest.get(path, 0.0), most)
                done += 1
                progress(done)
    finally:
        noisy.train(training)
    return _site_errors(sums, largest, clusters=channel.sensor.placement == "network")


def _compared(
    clean: tuple[Tensor, list[Call]], noised: tuple[Tensor, list[Call]]
) -> dict[str, tuple[npt.NDArray[np.float64], float]]:
    """For each site the sums over elements, (9, samples), and the largest change of its derivative."""
    at_logits, noisy_at_logits = clean[0], noised[0]
    nothing = torch.zeros_like(at_logits)
    found = {LOGITS: (_sums(nothing, nothing, at_logits, noisy_at_logits, at_logits), 0.0)}
    for a, b in zip(clean[1], noised[1], strict=True):
        assert a.path == b.path
        slope, noisy_slope = a.derivative(), b.derivative()
        change, gradient = (noisy_slope - slope).abs(), a.gradients[0]
        noisy, carried = (noisy_slope * each for each in b.gradients)
        sums = _sums(change, change * gradient, slope * gradient, noisy, carried)
        # A network may fold parts of a sample into the batch, one after the other.
        found[a.path] = sums.reshape(len(sums), len(nothing), -1).sum(2), float(change.max())
    return found


def _sums(change: Tensor, own: Tensor, clean: Tensor, noisy: Tensor, carried: Tensor) -> npt.NDArray[np.float64]:
    """Over the elements of each row: (9, rows)."""
    terms = {
        _ELEMENTS: torch.ones_like(clean),
        _CHANGE: change,
        _FLIPPED: change > _HALF,
        _OWN: own**2,
        _CLEAN: clean**2,
        _ERROR: (noisy - clean) ** 2,
        _CARRIED: (carried - clean) ** 2,
        _NOISY: noisy**2,
        _PRODUCT: noisy * clean,
    }
    return np.stack([terms[name].double().flatten(1).sum(1).cpu().numpy() for name in range(len(terms))])


def _site_errors(sums: dict[str, Sums], largest: dict[str, float], *, clusters: bool) -> tuple[SiteErrors, ...]:
    found: list[SiteErrors] = []
    behind: Sums | None = None
    for path, own in sums.items():
        inside = path != LOGITS
        grown = None if behind is None else np.concatenate([own, behind])
        found.append(
            SiteErrors(
                path,
                elements=round(float(own[_ELEMENTS, 0, 0])),
                derivative=_estimated(_share(_CHANGE, of=_ELEMENTS), own, clusters) if inside else None,
                largest=largest[path] if inside else None,
                flipped=_estimated(_share(_FLIPPED, of=_ELEMENTS), own, clusters) if inside else None,
                own=_estimated(_size(_OWN, of=_CLEAN), own, clusters) if inside else None,
                gradient=_estimated(_size(_ERROR, of=_CLEAN), own, clusters),
                carried=_estimated(_size(_CARRIED, of=_CLEAN), own, clusters) if inside else None,
                cosine=_estimated(_cosine, own, clusters, correlation=True),
                amplification=None if grown is None else _estimated(_growth, grown, clusters),
            )
        )
        behind = own
    return tuple(found)


def _share(name: int, of: int) -> Statistic:
    return lambda total: total[name] / total[of]


def _size(name: int, of: int) -> Statistic:
    """Of two sums of squares, the ratio of the norms."""
    return lambda total: np.sqrt(total[name] / total[of])


def _cosine(total: Sums) -> Any:
    return np.clip(total[_PRODUCT] / np.sqrt(total[_NOISY] * total[_CLEAN]), -1, 1)


def _growth(total: Sums) -> Any:
    """Of the sums of a site and, after them, those of the site behind it."""
    here, behind = np.split(total, 2)
    error = _size(_ERROR, of=_CLEAN)
    return error(here) / error(behind)


def _fisher(values: Any) -> Any:
    """Fisher's z of correlations; those of ±1, and what rounding puts beyond, stay finite."""
    return np.arctanh(np.clip(values, -_LARGEST_COSINE, _LARGEST_COSINE))


def _estimated(
    statistic: Statistic, sums: Sums, clusters: bool, level: float = 0.95, *, correlation: bool = False
) -> Estimated | None:
    """A function of totals over draws and samples, with its jackknife interval (Efron and Stein 1981, doi
    10.1214/aos/1176345462): each sample is left out once and, where draws share their noise among all samples
    (weights), each draw. On Fisher's z of a correlation, so that its interval stays in [−1, 1]; else on the logarithm
    where all values are positive. None where the function has no value.
    """
    total = sums.sum((1, 2))
    without_sample = total[:, None] - sums.sum(1)
    without_draw = total[:, None] - sums.sum(2)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(total[:, None])[0])
        left_out = [statistic(without_sample)] + ([statistic(without_draw)] if clusters else [])
    if not np.isfinite(value) or not all(np.isfinite(each).all() for each in left_out):
        return None
    logarithmic = not correlation and value > 0 and all((each > 0).all() for each in left_out)
    scaled = [_fisher(each) if correlation else np.log(each) if logarithmic else each for each in left_out]
    variances = [(len(each) - 1) / len(each) * float(((each - each.mean()) ** 2).sum()) for each in scaled]
    variance = sum(variances)
    if variance == 0:
        return Estimated(value, value, value)
    # Satterthwaite's degrees of freedom of a sum of variances.
    freedom = variance**2 / sum(part**2 / (len(each) - 1) for part, each in zip(variances, scaled, strict=True))
    margin = float(stats.t.isf((1 - level) / 2, freedom)) * variance**0.5
    if correlation:
        lower, upper = np.tanh(_fisher(value) + np.array([-margin, margin]))
        return Estimated(value, min(value, float(lower)), max(value, float(upper)))
    if logarithmic:
        return Estimated(value, value * float(np.exp(-margin)), value * float(np.exp(margin)))
    return Estimated(value, value - margin, value + margin)
