"""Converters against AnalogVNN, against their own reference, and their gradients against the stated rules."""

import numpy as np
import pytest
import torch
from analogvnn.fn.reduce_precision import reduce_precision
from analogvnn.nn.noise.GaussianNoise import GaussianNoise
from analogvnn.nn.normalize.Clamp import Clamp
from scipy import stats

from robustcheck.sensing.converter import Converter
from robustcheck.sensing.error_probability import noise_sigma
from robustcheck.sensing.kernels import cpu, reference
from robustcheck.sensing.random import stream_key

KEY = stream_key(3, "site", "input")


def values(*shape, spread=0.8, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(0, spread, shape), dtype=torch.float32)


def ids(n):
    return torch.arange(n) + 2**35


@pytest.mark.parametrize("steps", [1, 3, 4, 15, 16, 64, 255, 65535])
def test_rounding_is_bit_equal_to_analogvnn(steps):
    x = torch.cat([values(5000), torch.arange(-2 * steps, 2 * steps + 1)[:4001] / (2 * steps)]).clamp(-1, 1)
    theirs = reduce_precision(x, torch.tensor(steps), torch.tensor(0.5))
    ours = Converter("aod", steps, 0.0, signed=True)(x[None], KEY, ids(1), 0)[0]
    assert torch.equal(ours, theirs)
    assert not torch.signbit(ours[ours == 0]).any()


def test_clamping_is_bit_equal_to_analogvnn():
    x = values(10_000, spread=2)
    ours = Converter("doa", 255, 0.0, signed=True)(x[None], KEY, ids(1), 0)[0]
    assert torch.equal(ours, reduce_precision(Clamp.forward(x), torch.tensor(255), torch.tensor(0.5)))


@pytest.mark.filterwarnings("ignore")  # what AnalogVNN does with SciPy and torch warns
@pytest.mark.parametrize("form", ["aod", "doa"])
def test_noise_is_distributed_as_analogvnns(form):
    steps, ep, n = 15, 0.5, 60_000
    x = torch.full((1, n), 0.31)
    noise = GaussianNoise(leakage=ep, precision=steps)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if form == "aod":
            theirs = reduce_precision(Clamp.forward(noise(x)), torch.tensor(steps), torch.tensor(0.5))
        else:
            theirs = noise(reduce_precision(Clamp.forward(x), torch.tensor(steps), torch.tensor(0.5)))
    ours = Converter(form, steps, float(noise.std), signed=True)(x, KEY, ids(1), 0)
    if form == "doa":
        assert stats.ks_2samp(ours.numpy()[0], theirs.numpy()[0]).pvalue > 1e-3
        return
    codes = [np.bincount((t[0] * steps).round().int().numpy(), minlength=steps + 1) for t in (ours, theirs)]
    used = np.sum(codes, axis=0) > 10
    assert stats.chi2_contingency(np.array(codes)[:, used]).pvalue > 1e-3


@pytest.mark.parametrize("ep", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("noise", ["gaussian", "uniform", "laplace"])
def test_a_value_on_a_code_centre_changes_code_with_the_error_probability(ep, noise):
    steps, n = 8, 200_000
    x = torch.full((1, n), 4 / steps)
    out = Converter("aod", steps, noise_sigma(ep, steps, noise=noise), noise)(x, KEY, ids(1), 0)
    assert (out != x).double().mean().item() == pytest.approx(ep, abs=5 * 0.5 / n**0.5)


@pytest.mark.parametrize(("ep", "steps"), [(0.3, 3), (0.5, 15)])
def test_clamped_data_err_less_often_at_the_edges(ep, steps):
    # facts: EP(1 − 1/(2p + 1)) for uniform codes of the signed range
    codes = torch.arange(-steps, steps + 1, dtype=torch.float32) / steps
    x = codes.repeat(20_000)[None]
    out = Converter("aod", steps, noise_sigma(ep, steps), signed=True)(x, KEY, ids(1), 0)
    frequency = ((out - x).abs() > 0.5 / steps).double().mean().item()
    assert frequency == pytest.approx(ep * (1 - 1 / (2 * steps + 1)), abs=5 * 0.5 / x.numel() ** 0.5)


def test_uniform_values_err_less_often_at_the_edges():
    # facts: EP(1 − 1/(4p)) for uniform values: noise after rounding, compared with the codes before it
    ep, steps, n = 0.5, 7, 400_000
    values = torch.tensor(np.random.default_rng(1).uniform(-1, 1, n), dtype=torch.float32)[None]
    codes = Converter("aod", steps, 0.0, signed=True)(values, KEY, ids(1), 0)
    out = Converter("aod", steps, noise_sigma(ep, steps), signed=True)(codes, KEY, ids(1), 0)
    frequency = ((out - codes).abs() > 0.5 / steps).double().mean().item()
    assert frequency == pytest.approx(ep * (1 - 1 / (4 * steps)), abs=5 * 0.5 / n**0.5)


@pytest.mark.parametrize(("classes", "floor"), [(10, 0.797), (100, 2.667)])
def test_logits_after_an_aod_bound_the_loss_from_below(classes, floor):
    logits = torch.full((1, classes), -9.0)
    logits[0, 3] = 9.0
    out = Converter("aod", 15, 0.0, signed=True)(logits, KEY, ids(1), 0)
    loss = torch.nn.functional.cross_entropy(out, torch.tensor([3])).item()
    assert loss == pytest.approx(np.log(np.e + (classes - 1) / np.e) - 1, abs=1e-6)
    assert loss == pytest.approx(floor, abs=5e-4)


@pytest.mark.parametrize("noise_first", [True, False])
@pytest.mark.parametrize("noise", ["gaussian", "uniform", "laplace"])
@pytest.mark.parametrize(("low", "scale", "sigma"), [(0.0, 1.0, 0.05), (-1.0, 0.37, 0.5), (-1.0, 1.0, 0.0)])
def test_the_fused_loop_equals_the_reference(noise_first, noise, low, scale, sigma):
    x = values(5, 4099)
    setting = {"noise_first": noise_first, "noise": noise, "sigma": sigma, "steps": 15, "low": low, "scale": scale}
    fast, fast_mask = cpu.convert(x, KEY, ids(5), 9, **setting)
    slow, slow_mask = reference.convert(x, KEY, ids(5), 9, **setting)
    assert torch.equal(fast_mask, slow_mask)
    # A compiler may join a product and a sum into one rounding; then a value on a rounding edge may change its code.
    unequal = (fast != slow).sum().item()
    assert unequal <= 2
    if unequal == 0:
        assert torch.equal(fast.view(torch.int32), slow.view(torch.int32))


def test_a_sample_gets_the_same_noise_in_any_batch():
    convert, x = Converter("aod", 15, 0.1), values(6, 3, 5, 5).abs()
    whole = convert(x, KEY, ids(6), 2)
    assert torch.equal(convert(x[4:5], KEY, ids(6)[4:5], 2), whole[4:5])
    assert not torch.equal(convert(x, KEY, ids(6), 3), whole)


@pytest.mark.parametrize("form", ["aod", "doa"])
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_the_gradient_is_the_clamp_mask(form, scale):
    x = values(4, 50, spread=2).requires_grad_()
    convert = Converter(form, 15, 0.2, signed=True, scale=scale)
    out = convert(x, KEY, ids(4), 0)
    out.backward(torch.ones_like(out) * 3)
    if form == "doa":
        inside = x.detach().abs() <= scale
    else:
        from robustcheck.sensing.deviates import deviates
        from robustcheck.sensing.random import random_words

        noise = deviates(random_words(KEY, ids(4), 0, 50)) * 0.2
        inside = (x.detach() * (1 / scale) + noise).abs() <= 1
    assert torch.equal(x.grad, 3.0 * inside)
    assert 0 < inside.sum() < inside.numel()


def test_a_weights_gradient_passes_the_clamp():
    w = values(1, 50, spread=2).requires_grad_()
    Converter("doa", 15, 0.2, signed=True)(w, KEY, ids(1), 0, through_clamp=True).sum().backward()
    assert torch.equal(w.grad, torch.ones_like(w))


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (1, 1), (2, 3, 4, 5)])
def test_any_shape(shape):
    x = torch.rand(shape)
    assert Converter("aod", 3, 0.1)(x, KEY, ids(shape[0]), 0).shape == x.shape


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes_are_kept(dtype):
    x = values(2, 10).abs().to(dtype)
    out = Converter("aod", 3, 0.0)(x, KEY, ids(2), 0)
    assert out.dtype == dtype
    assert torch.equal(out.float(), Converter("aod", 3, 0.0)(x.float(), KEY, ids(2), 0).to(dtype).float())


def test_channels_last_values_get_the_same_noise():
    x = values(2, 3, 4, 5).abs()
    convert = Converter("aod", 15, 0.1)
    assert torch.equal(convert(x.to(memory_format=torch.channels_last), KEY, ids(2), 0), convert(x, KEY, ids(2), 0))


def test_nan_stays_nan():
    x = torch.tensor([[float("nan"), 0.5]])
    for form in ("aod", "doa"):
        out = Converter(form, 3, 0.1)(x, KEY, ids(1), 0)
        assert out[0].isnan().tolist() == [True, False]
