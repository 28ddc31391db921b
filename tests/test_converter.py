"""Converters against AnalogVNN, against their own reference, and their gradients against the stated rules."""

import numpy as np
import pytest
import torch
from analogvnn.fn.reduce_precision import reduce_precision
from analogvnn.nn.noise.GaussianNoise import GaussianNoise
from analogvnn.nn.normalize.Clamp import Clamp
from scipy import stats

from robustcheck.errors import InvalidValueError
from robustcheck.sensing.channel import channel
from robustcheck.sensing.converter import Converter
from robustcheck.sensing.error_probability import noise_sigma
from robustcheck.sensing.kernels import cpu, reference
from robustcheck.sensing.random import random_words, stream_key

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
    fast, fast_mask = cpu.convert(x, KEY, ids(5), 9, **setting, keep_mask=True)
    slow, slow_mask = reference.convert(x, KEY, ids(5), 9, **setting, keep_mask=True)
    assert torch.equal(fast_mask, slow_mask)
    # A compiler may join a product and a sum into one rounding; then a value on a rounding edge may change its code.
    unequal = (fast != slow).sum().item()
    assert unequal <= 2
    if unequal == 0:
        assert torch.equal(fast.view(torch.int32), slow.view(torch.int32))


SETTING = {"noise": "gaussian", "sigma": 0.3, "steps": 15, "low": -1.0, "scale": 1.7}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("noise_first", [True, False])
@pytest.mark.parametrize("shape", [(3, 1), (2, 7), (1, 1023), (2, 1025), (3, 4097), (2, 40_000)])
def test_all_dtypes_and_sizes_equal_the_reference(dtype, noise_first, shape):
    x = values(*shape, spread=2).to(dtype)
    unusual = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0])[: shape[1]]
    x[0, : len(unusual)] = unusual.to(dtype)
    # Each row has a draw of its own, and begins beyond element 2^31 of its sample's stream.
    setting = SETTING | {"noise_first": noise_first, "first": 2**33 + 8, "keep_mask": True}
    draws = torch.arange(len(x)) + 2**32 - 5
    fast, fast_mask = cpu.convert(x, KEY, ids(len(x)), draws, **setting)
    slow, slow_mask = reference.convert(x, KEY, ids(len(x)), draws, **setting)
    assert fast.dtype == slow.dtype == dtype
    assert torch.equal(fast.isnan(), slow.isnan())
    assert (fast.nan_to_num() != slow.nan_to_num()).sum() <= 1
    assert torch.equal(fast_mask, slow_mask)
    gradient = values(*shape, seed=1).to(dtype)
    masked = cpu.mask_gradient(gradient, fast_mask, len(x))
    assert torch.equal(masked, reference.mask_gradient(gradient, slow_mask, len(x)))
    assert torch.equal(masked == 0, ~bits(fast_mask, shape[1]))


def bits(packed, elements):
    unpacked = np.unpackbits(packed.numpy(), axis=1, bitorder="little")
    assert not unpacked[:, elements:].any()
    return torch.from_numpy(unpacked[:, :elements]).bool()


@pytest.mark.parametrize("threads", [1, 2])
def test_parts_of_a_sample_get_the_noise_of_the_whole(threads):
    x, part = values(1, 100_000), 65_536
    before = cpu.set_threads(threads)
    try:
        whole, _ = cpu.convert(x, KEY, ids(1), 0, noise_first=True, **SETTING)
        rest, _ = cpu.convert(x[:, part:].contiguous(), KEY, ids(1), 0, noise_first=True, **SETTING, first=part)
    finally:
        cpu.set_threads(before)
    assert torch.equal(whole[:, part:], rest)
    assert not torch.equal(whole[:, : x.shape[1] - part], rest)


def test_the_compiled_generator_equals_the_reference():
    some = torch.tensor([0, 5, 2**50 + 3])
    ours = cpu.random_words(KEY, some, 7, 5001, first=2**33)
    assert np.array_equal(ours, random_words(KEY, some, 7, 5001, first=2**33).numpy())


def test_each_row_may_have_a_draw_of_its_own():
    x, convert, same = values(3, 50), Converter("aod", 15, 0.1, signed=True), ids(1).expand(3)
    rows = convert(x, KEY, same, torch.tensor([4, 0, 4]))
    for row, draw in enumerate((4, 0, 4)):
        assert torch.equal(rows[row : row + 1], convert(x[row : row + 1], KEY, ids(1), draw))


@pytest.mark.parametrize("draws", [torch.tensor([0, 1]), torch.tensor([0, 1, 2**32]), torch.tensor([0, -1, 0])])
def test_draws_that_do_not_fit_are_refused(draws):
    with pytest.raises(InvalidValueError, match="draw"):
        Converter("aod", 15, 0.1)(values(3, 5), KEY, ids(3), draws)


def test_draws_and_ids_may_be_any_whole_numbers():
    x, convert = values(3, 50), Converter("aod", 15, 0.1, signed=True)
    some = torch.tensor([3, 4, 5])
    expected = convert(x, KEY, some, 7)
    for draw in (np.int64(7), torch.tensor(7), torch.tensor([7, 7, 7], dtype=torch.int32)):
        assert torch.equal(convert(x, KEY, some, draw), expected)
    assert torch.equal(convert(x, KEY, some.int(), 7), expected)
    with pytest.raises(InvalidValueError, match="a whole number"):
        convert(x, KEY, some, 7.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_gradient_that_is_not_finite_shows_behind_the_clamp(dtype):
    gradient = torch.tensor([[float("inf"), float("nan"), 1.0, float("inf")]]).to(dtype)
    masked = cpu.mask_gradient(gradient, torch.tensor([[8]], dtype=torch.uint8), 1)
    assert masked.float().isnan().tolist() == [[True, True, False, False]]
    assert masked[0, 2:].tolist() == [0.0, float("inf")]


def test_a_masked_gradient_keeps_its_memory_format():
    x = values(4, 3, 6, 5).requires_grad_()
    gradient = values(4, 3, 6, 5, seed=1).to(memory_format=torch.channels_last)
    out = Converter("aod", 15, 0.1, signed=True)(x, KEY, ids(4), 0)
    (found,) = torch.autograd.grad(out, x, gradient)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_a_new_channel_can_be_compiled():
    torch._dynamo.reset()
    sensed, images = channel("adc-3bit", ep=0.37, seed=8), torch.rand(2, 1, 3, 3)
    compiled = torch.compile(lambda x: sensed(x), fullgraph=True, backend="aot_eager")(images)
    assert torch.equal(compiled, sensed(images))


def test_whole_numbers_are_refused():
    with pytest.raises(InvalidValueError, match=r"expected a floating type, got torch\.uint8"):
        Converter("aod", 15, 0.1)(torch.zeros(1, 4, dtype=torch.uint8), KEY, ids(1), 0)


def kept_for_backward(x):
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        Converter("aod", 15, 0.1, signed=True)(x, KEY, ids(len(x)), 0)
    return kept


def test_one_bit_an_element_is_kept_for_the_backward_pass():
    x = values(4, 1000).requires_grad_()
    assert [(t.dtype, t.numel()) for t in kept_for_backward(x)] == [(torch.uint8, 4 * 125)]
    with torch.no_grad():
        assert kept_for_backward(x) == []


def graph_and_eager(backend):
    torch._dynamo.reset()
    aod, doa = (Converter(form, 15, 0.05, signed=True) for form in ("aod", "doa"))
    sensed = channel("adc-4bit", ep=0.5, seed=3)

    def pipeline(x, some, draw):
        noisy = doa(aod(sensed(x, some, draw) * 1.5, KEY, some, draw), KEY, some, draw)
        return doa(noisy * 2, KEY, some, draw)

    return pipeline, torch.compile(pipeline, fullgraph=True, backend=backend)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_compiled_graph_gives_the_same_values_and_gradients(layout):
    eager, compiled = graph_and_eager("aot_eager")
    found = []
    for function in (eager, compiled):
        x = values(4, 3, 6, 5).abs().to(memory_format=layout).requires_grad_()
        outs = [function(x, ids(4), draw) for draw in (0, 1, torch.arange(4))]
        sum(out.square().sum() for out in outs).backward()
        with torch.no_grad():
            outs.append(function(x, ids(4), 7))
        assert all(out.is_contiguous() for out in outs)
        found.append([*(out.detach() for out in outs), x.grad])
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)
    assert len({float(out.double().sum()) for out in found[0][:4]}) == 4


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # opcheck's own
def test_the_operators_keep_torchs_rules():
    x, some = values(4, 9).requires_grad_(), ids(4)
    for keep_mask in (True, False):
        settings = (x, some, some % 7, 1, 2, True, "gaussian", 0.05, 15, -1.0, 1.0, keep_mask)
        torch.library.opcheck(torch.ops.robustcheck.convert.default, settings)
    packed = torch.full((4, 2), 9, dtype=torch.uint8)
    torch.library.opcheck(torch.ops.robustcheck.mask_gradient.default, (values(4, 9), packed, 4))


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

        noise = deviates(random_words(KEY, ids(4), 0, 50)) * 0.2
        inside = (x.detach() * (1 / scale) + noise).abs() <= 1
    assert torch.equal(x.grad, 3.0 * inside)
    assert 0 < inside.sum() < inside.numel()


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


def test_bfloat16_is_rounded_to_even():
    setting = SETTING | {"sigma": 1.0, "steps": 1, "scale": 1.0, "low": -1.0}
    noise, _ = cpu.convert(torch.zeros(1, 100_000), KEY, ids(1), 0, noise_first=False, **setting)
    ties = (noise.view(torch.int32) & 0xFFFF) == 0x8000
    assert ties.sum() > 0
    narrow, _ = cpu.convert(torch.zeros(1, 100_000, dtype=torch.bfloat16), KEY, ids(1), 0, noise_first=False, **setting)
    assert torch.equal(narrow.view(torch.int16), noise.bfloat16().view(torch.int16))


def test_the_layout_of_the_values_does_not_change_the_noise():
    x, convert = values(4, 3, 4, 5).abs(), Converter("aod", 15, 0.1)
    expected = convert(x, KEY, ids(4), 0)
    last = convert(x.to(memory_format=torch.channels_last), KEY, ids(4), 0)
    assert torch.equal(last, expected)
    assert last.is_contiguous()
    strided = torch.stack([x, -x], dim=-1)[..., 0]
    assert not strided.is_contiguous()
    assert torch.equal(convert(strided, KEY, ids(4), 0), expected)
    assert torch.equal(convert(x[::2], KEY, ids(4)[::2], 0), expected[::2])
    row = x[:1].expand(4, 3, 4, 5)
    assert torch.equal(convert(row, KEY, ids(4), 0)[0], expected[0])


def test_nan_stays_nan():
    x = torch.tensor([[float("nan"), 0.5]])
    for form in ("aod", "doa"):
        out = Converter(form, 3, 0.1)(x, KEY, ids(1), 0)
        assert out[0].isnan().tolist() == [True, False]
